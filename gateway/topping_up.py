"""Money that a customer asks to pay into the own wallet from a source outside. On one batch; never waits.

The request becomes a payment like that of an order, but no purchase waits for it: what comes is credited to the wallet
of the phone's customer, or to the phone's own prepaid money, by `gateway/payments/intake.py`. Floats are not topped up
so: stations pay in by deposits, which take two people.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from channels.commands import TopUp
from channels.contract import Inbound
from config.settings import Settings
from gateway.payer import asks, instructions, is_msisdn, may_collect, new_top_up
from gateway.vend import Done, Shop
from gateway.world import uuid7
from ledger.payment_rows import PaymentRow, Purpose
from ledger.reasons import Reason, Refusal
from ledger.unit import Need, Phone, Unit

CHANNELS: Final = frozenset({"sms", "ussd"})
"""Whose senders are phones that can be asked for money."""

KEYWORD: Final = "TOPUP"
"""By which it is asked for in a text, whatever its language."""

_CAME_TO_NOTHING: Final = frozenset({"FAILED", "EXPIRED", "REVERSED"})
_SEPARATORS: Final = re.compile(r"[\s\-_./#]+")


def is_word(settings: Settings, account_ref: str) -> bool:
    """Whether a payer who wrote this in place of a meter number means the wallet."""
    return _SEPARATORS.sub("", account_ref).casefold() == settings.wallet.top_up_word.casefold()


def is_offered(settings: Settings, phone: Phone | None, msisdn: str) -> bool:
    """Whether some source asks this phone for money; those of stations are never asked."""
    is_station = phone is not None and phone.station_id is not None
    return not is_station and any(asks(source, msisdn) for source in settings.payment)


def need_earlier(need: Need, settings: Settings, msisdn: str, at: datetime) -> None:
    """Ask for the top-ups that this phone asked for within the time in which the same again is taken for a repeat."""
    since = uuid7(int((at - timedelta(seconds=settings.purchase.just_bought_window_s)).timestamp() * 1000), 0, 0)
    need.top_ups_of.append(msisdn)
    need.top_ups_since = since if need.top_ups_since is None else min(need.top_ups_since, since)


def ask(
    shop: Shop, unit: Unit, done: Done, now: datetime, request_id: UUID, phone: Phone | None, inbound: Inbound
) -> PaymentRow:
    """Store that the phone is to be asked for the money, under the request's own id. Raises Refusal."""
    settings, payer, wish = shop.settings, inbound.sender, inbound.command
    assert isinstance(wish, TopUp)
    if inbound.channel not in CHANNELS or not is_msisdn(payer) or not is_offered(settings, phone, payer):
        raise _not_taken(settings, phone, wish.amount_minor)
    source = next((one for one in settings.payment if may_collect(one, payer, wish.amount_minor)), None)
    if source is None:
        raise _misfit(settings, phone, payer, wish.amount_minor)
    _refuse_second(settings, unit, now, payer, wish)
    payment = new_top_up(request_id, source.name, payer, wish.amount_minor, settings, now)
    unit.put("payments", payment.id, payment)
    done.collects.append(payment)
    return payment


def _not_taken(settings: Settings, phone: Phone | None, amount_minor: int) -> Refusal:
    """That this phone is not asked, and how its owner may pay instead; stations make deposits."""
    is_station = phone is not None and phone.station_id is not None
    how = "" if is_station else instructions(settings.payment)
    word = settings.wallet.top_up_word if how else ""
    return Refusal(Reason.TOP_UP_NOT_TAKEN, amount_minor=amount_minor, how=how, word=word)


def _misfit(settings: Settings, phone: Phone | None, payer: str, amount_minor: int) -> Refusal:
    """What is wrong with an amount for all the sources that ask this phone."""
    able = [one for one in settings.payment if asks(one, payer)]
    least, most = min(one.min_minor for one in able), max(one.max_minor for one in able)
    if amount_minor < least:
        return Refusal(Reason.AMOUNT_MIN, min_minor=least)
    if amount_minor > most:
        return Refusal(Reason.AMOUNT_MAX, max_minor=most)
    return _not_taken(settings, phone, amount_minor)


def _refuse_second(settings: Settings, unit: Unit, now: datetime, payer: str, wish: TopUp) -> None:
    """The same phone and amount a moment ago is most likely the same wish sent twice."""
    since = now - timedelta(seconds=settings.purchase.just_bought_window_s)
    here = {one.id: one for one in unit.top_ups.get(payer, ())} | dict(unit.payments)
    same = [
        one
        for one in here.values()
        if one.payer == payer
        and one.purpose == Purpose.TOPUP
        and one.amount_minor == wish.amount_minor
        and one.created_at >= since
        and one.state not in _CAME_TO_NOTHING
    ]
    if len(same) >= wish.nth:
        last = max(one.created_at for one in same)
        raise Refusal(
            Reason.TOP_UP_AGAIN,
            amount_minor=wish.amount_minor,
            seconds=max(0, int((now - last).total_seconds())),
            again=len(same) + 1,
        )
