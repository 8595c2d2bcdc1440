"""Who pays for a purchase: wallet, prepaid money of the phone, float, or a source outside. Reads the batch, no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from config.settings import PaymentSettings, Settings
from ledger import selling
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


def need_payer(need: Need, sources: Sequence[PaymentSettings], sender: str) -> None:
    """Ask for the prepaid money of a phone that may have no wallet; nothing where no source is set up."""
    if sources and is_msisdn(sender):
        need.accounts.append(prepaid_id(sender))


def who_pays(unit: Unit, sources: Sequence[PaymentSettings], row: PurchaseRow, meter: Meter) -> Payer:
    """Who pays for this purchase just now. Refuses PAYER_UNKNOWN, and what a station may not sell.

    A wallet that has too little, and nobody else to pay, is given as payer all the same: the refusal says how much.
    """
    phone = unit.phones.get(row.sender)
    own = _own_account(unit, phone, row.sender)
    if own is not None and unit.balances[own].available_minor >= row.amount_minor:
        return Payer(own)
    if phone is not None and phone.station_account_id is not None:
        selling.require_station(phone, row.channel, meter)
        return Payer(phone.station_account_id, phone)
    if row.channel in _BY_PHONE and is_msisdn(row.sender):
        for source in sources:
            if may_collect(source, row.sender, row.amount_minor):
                return Payer(source=source)
        for source in sources:
            if source.instructions:
                return Payer(how=source.instructions)
    if own is None:
        raise Refusal(Reason.PAYER_UNKNOWN)
    return Payer(own)


def _own_account(unit: Unit, phone: Phone | None, sender: str) -> UUID | None:
    """The wallet of the phone's customer, or the phone's own prepaid money, if it has any."""
    if phone is not None and phone.wallet_id is not None:
        return phone.wallet_id
    account = prepaid_id(sender)
    return account if account in unit.balances else None


def may_collect(source: PaymentSettings, msisdn: str, amount_minor: int) -> bool:
    """Whether this phone may be asked for this amount by this source."""
    prefixes = source.prefixes.split()
    return (
        source.collect
        and source.min_minor <= amount_minor <= source.max_minor
        and amount_minor % source.step_minor == 0
        and (not prefixes or any(msisdn.startswith(prefix) for prefix in prefixes))
    )


def new_payment(
    our_ref: UUID, source: str, row: PurchaseRow, meter: Meter, settings: Settings, now: datetime
) -> PaymentRow:
    """A purchase's payment that a source is to be asked for, under this id."""
    return PaymentRow(
        id=our_ref,
        source=source,
        purpose=Purpose.ORDER.value,
        state="OWED",
        why=None,
        provider_ref="",
        receipt=None,
        purchase_id=row.id,
        payer=row.sender,
        account_ref=meter.drn,
        amount_minor=row.amount_minor,
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
