"""Who pays for a purchase: wallet, prepaid money of the phone, float, or a source outside. Reads the batch, no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from config.money import PaymentSettings
from config.settings import Settings
from ledger import bank_batch, selling
from ledger.accounts import id_of
from ledger.payment_rows import PaymentRow, Purpose
from ledger.payments_batch import prepaid_id
from ledger.reasons import Reason, Refusal
from ledger.unit import Meter, Need, Phone, PurchaseRow, Unit

COLLECT_LEASE_S: Final = 30.0
"""So long whoever stored a payment has to send it, before others ask the source what became of it."""

_MSISDN: Final = re.compile(r"[1-9][0-9]{6,14}")
# Whose sender is a phone that can be asked for money.
_BY_PHONE: Final = frozenset({"sms", "ussd"})


@dataclass(frozen=True, slots=True)
class Payer:
    """The account that pays, with the station where it is a float; or the source that must bring the money first; or
    how the customer may pay, in the utility's words."""

    account: UUID | None = None
    station: Phone | None = None
    source: PaymentSettings | None = None
    how: str = ""


def is_msisdn(sender: str) -> bool:
    """Whether this is a phone number with its country code."""
    return _MSISDN.fullmatch(sender) is not None


def is_paid_already(row: PurchaseRow) -> bool:
    """Whether the money was taken elsewhere: a bank has debited its customer, and owes it to us in settlement."""
    return row.channel == bank_batch.CHANNEL


def need_payer(need: Need, sources: Sequence[PaymentSettings], sender: str) -> None:
    """Ask for the prepaid money of a phone that may have no wallet; nothing where no source is set up."""
    if sources and is_msisdn(sender):
        need.accounts.append(prepaid_id(sender))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A purchase whose payer is looked for."""

    unit: Unit
    sources: Sequence[PaymentSettings]
    row: PurchaseRow
    meter: Meter

    @property
    def phone(self) -> Phone | None:
        return self.unit.phones.get(self.row.sender)


def _wallet(asked: _Asked) -> Payer | None:
    """The wallet of the phone's customer, or the phone's own prepaid money, if it has any."""
    phone, account, balances = asked.phone, prepaid_id(asked.row.sender), asked.unit.balances
    wallet = phone.wallet_id if phone is not None else None
    if wallet is not None and (balances[wallet].closed_at is None or account not in balances):
        return Payer(wallet)
    return Payer(account) if account in balances else None


def _float(asked: _Asked) -> Payer | None:
    """The float of the station whose phone it is."""
    phone = asked.phone
    if phone is None or phone.station_account_id is None:
        return None
    selling.require_station(phone, asked.row.channel, asked.meter)
    return Payer(phone.station_account_id, phone)


def _prompt(asked: _Asked) -> Payer | None:
    """The first source that asks such a phone for such an amount; not those of stations, which sell from their own."""
    row, phone = asked.row, asked.phone
    if row.channel not in _BY_PHONE or not is_msisdn(row.sender) or (phone is not None and phone.station_account_id):
        return None
    return next((Payer(source=one) for one in asked.sources if may_collect(one, row.sender, row.amount_minor)), None)


WAYS: Final[dict[str, Callable[[_Asked], Payer | None]]] = {"wallet": _wallet, "float": _float, "prompt": _prompt}
"""The ways of paying, asked in their order: None where the phone has it not; Refusal where it may not be used.

A new way is a line here and a text `ussd_by_<name>` in each language file: where a phone has more than one that could
pay, the USSD menu lets her choose.
"""


def ways_of(unit: Unit, sources: Sequence[PaymentSettings], row: PurchaseRow, meter: Meter) -> list[str]:
    """The names of the ways that this phone has, whether or not there is enough money in them."""
    asked, found = _Asked(unit, sources, row, meter), list[str]()
    for name, way in WAYS.items():
        with suppress(Refusal):
            if way(asked) is not None:
                found.append(name)
    return found


def who_pays(unit: Unit, sources: Sequence[PaymentSettings], row: PurchaseRow, meter: Meter, by: str = "") -> Payer:
    """Who pays for this purchase just now: a bank for its customer, or the sender, by the way that was chosen.

    Without a choice it is the first way that has enough; else how the customer may pay in the utility's words; else
    the account that is short, so that the refusal says how much. Refuses PAYER_UNKNOWN, and what a station may not
    sell.
    """
    if is_paid_already(row):
        return Payer(id_of(bank_batch.account_of(row.peer)))
    asked, short = _Asked(unit, sources, row, meter), None
    for name, way in WAYS.items():
        found = way(asked) if by in ("", name) else None
        if found is None:
            continue
        if by or found.account is None or unit.balances[found.account].available_minor >= row.amount_minor:
            return found
        short = found
    if short is None or short.station is None:
        how = _how_to_pay(asked)
        if how:
            return Payer(how=how)
    if short is None:
        raise Refusal(Reason.PAYER_UNKNOWN)
    return short


def _how_to_pay(asked: _Asked) -> str:
    if asked.row.channel not in _BY_PHONE or not is_msisdn(asked.row.sender):
        return ""
    return instructions(asked.sources)


def instructions(sources: Sequence[PaymentSettings]) -> str:
    """How to pay of one's own accord, in the utility's words; empty where no source has any."""
    return next((source.instructions for source in sources if source.instructions), "")


def asks(source: PaymentSettings, msisdn: str) -> bool:
    """Whether this source asks such a phone for money."""
    prefixes = source.prefixes.split()
    return (
        source.collect and is_msisdn(msisdn) and (not prefixes or any(msisdn.startswith(prefix) for prefix in prefixes))
    )


def may_collect(source: PaymentSettings, msisdn: str, amount_minor: int) -> bool:
    """Whether this phone may be asked for this amount by this source."""
    return (
        asks(source, msisdn)
        and source.min_minor <= amount_minor <= source.max_minor
        and amount_minor % source.step_minor == 0
    )


def new_payment(
    our_ref: UUID, source: str, row: PurchaseRow, meter: Meter, settings: Settings, now: datetime
) -> PaymentRow:
    """A purchase's payment that a source is to be asked for, under this id."""
    return _owed(our_ref, source, Purpose.ORDER, row.id, row.sender, meter.drn, row.amount_minor, settings, now)


def new_top_up(
    our_ref: UUID, source: str, payer: str, amount_minor: int, settings: Settings, now: datetime
) -> PaymentRow:
    """Money for the payer's wallet that a source is to be asked for, under this id."""
    word = settings.wallet.top_up_word
    return _owed(our_ref, source, Purpose.TOPUP, None, payer, word, amount_minor, settings, now)


def _owed(
    our_ref: UUID,
    source: str,
    purpose: Purpose,
    purchase_id: UUID | None,
    payer: str,
    account_ref: str,
    amount_minor: int,
    settings: Settings,
    now: datetime,
) -> PaymentRow:
    return PaymentRow(
        id=our_ref,
        source=source,
        purpose=purpose.value,
        state="OWED",
        why=None,
        provider_ref="",
        receipt=None,
        purchase_id=purchase_id,
        payer=payer,
        account_ref=account_ref,
        amount_minor=amount_minor,
        paid_minor=None,
        currency=settings.utility.currency,
        account_id=None,
        created_at=now,
        paid_at=None,
        closed_at=None,
        tries=0,
        lane=0,
        next_ask_at=now + timedelta(seconds=COLLECT_LEASE_S),
    )
