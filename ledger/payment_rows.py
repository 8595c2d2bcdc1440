"""Payments of outside sources as rows in memory, and the names that are stored in them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Purpose(StrEnum):
    """What a payment is for."""

    ORDER = "ORDER"  # a purchase waits for it
    METER = "METER"  # it came with a meter number
    TOPUP = "TOPUP"  # for the payer's prepaid money
    NONE = "NONE"  # nobody asked for it, and it names nothing


class Held(StrEnum):
    """Why money is in suspense."""

    METER_UNKNOWN = "METER_UNKNOWN"  # the payer wrote something that is no meter of ours
    METER_REFUSED = "METER_REFUSED"  # a meter that cannot buy just now
    AMOUNT = "AMOUNT"  # less than a purchase may be, or more
    REFUSED = "REFUSED"  # the sale was refused for another reason
    SECOND_PAYMENT = "SECOND_PAYMENT"  # of an order that is paid already
    NO_ORDER = "NO_ORDER"  # nobody here asked for it
    PRICE_CHANGED = "PRICE_CHANGED"  # it came so late that the customer was told another price
    TAKEN_BACK = "TAKEN_BACK"  # the source took back what was sold for: the amount is negative


class Resolution(StrEnum):
    """How money left suspense."""

    VENDED = "VENDED"
    WALLET = "WALLET"
    REFUNDED = "REFUNDED"
    PAID_OUT = "PAID_OUT"  # given back by hand
    WRITTEN_OFF = "WRITTEN_OFF"
    REVERSED = "REVERSED"  # the source took it back


OPEN = "OPEN"
ASKED = "ASKED"
REFUNDING = "REFUNDING"
RESOLVED = "RESOLVED"


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """A payment as stored; `ledger/payment_tables.py` says what is what."""

    id: UUID
    source: str
    purpose: str
    state: str
    why: str | None
    provider_ref: str
    receipt: str | None
    purchase_id: UUID | None
    payer: str
    account_ref: str
    amount_minor: int
    paid_minor: int | None
    currency: str
    account_id: UUID | None
    created_at: datetime
    paid_at: datetime | None
    closed_at: datetime | None
    tries: int
    lane: int | None
    next_ask_at: datetime | None


@dataclass(frozen=True, slots=True)
class SuspenseRow:
    """Money that could not be placed, as stored."""

    id: UUID
    code: str
    payment_id: UUID
    source: str
    payer: str
    account_ref: str
    amount_minor: int
    currency: str
    reason: str
    state: str
    opened_at: datetime
    purchase_id: UUID | None = None
    resolution: str | None = None
    resolved_txn: UUID | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
