"""All that the gateway knows of a payment source, and all that a source knows of the gateway. Pure.

A source takes money for orders (`collect`), brings word of money (`read`, from a callback; `status`, when asked) and
gives it back (`refund`). What it says is an `Event`; nothing of a provider's fields is known outside its file.

An answer may be *unclear*: asked, and no word of whether it was heard. Then `status` is asked under the same reference,
and never is anything sent that could take the money twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from channels.http.callback import Answer, Callback


class Can(StrEnum):
    """What a source is able to do."""

    COLLECT = "collect"  # ask the payer for money, who then agrees
    NOTIFY = "notify"  # tells of money by callback
    STATUS = "status"  # can be asked how a payment stands
    REFUND = "refund"  # gives money back to the payer
    STATEMENT = "statement"  # lists what it took in a day


class PaymentState(StrEnum):
    """How a payment stands at its source. SUCCESS is final, whatever is said afterwards, except REVERSED."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    REVERSED = "REVERSED"  # the source took back what it had given


class Why(StrEnum):
    """Why a payment failed, in our own terms."""

    NO_FUNDS = "NO_FUNDS"
    CANCELLED = "CANCELLED"  # by the payer
    WRONG_PIN = "WRONG_PIN"
    EXPIRED = "EXPIRED"  # the payer did not answer
    UNREACHABLE = "UNREACHABLE"  # the payer's phone could not be asked
    BUSY = "BUSY"  # another payment of this payer is under way
    LIMIT = "LIMIT"  # above what the payer or the source may
    REFUSED = "REFUSED"  # anything else


@dataclass(frozen=True, slots=True)
class Collect:
    """Money to be asked for. `our_ref` was made and stored before; the same again means the same payment.

    `payer` is an MSISDN, digits with country code; `account_ref` what the payer is shown, a meter number mostly.
    """

    our_ref: UUID
    payer: str
    amount_minor: int
    currency: str
    account_ref: str
    description: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The source has taken the request; `provider_ref` is its own name for it, empty where it gives none."""

    provider_ref: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    """The source refused: certainly no money moves."""

    why: Why
    detail: str = ""  # the source's own words, no secrets


@dataclass(frozen=True, slots=True)
class Unclear:
    """No answer, or one that does not say: whether money moves is not known."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Asked for the status: the source never had this request, so the same may be sent again.

    Not `is_certain`: it may have had it, but bears the same again. A refusal of that says nothing of the first.
    """

    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """What a source says of a payment.

    `receipt` is what its statements name the payment by, unique at the source, empty until it is known; `provider_ref`
    what it named our request by; `our_ref` ours, where the source repeats it; at least one of the three is there.
    `account_ref` is what the payer wrote (C2B). `detail` holds no secrets.
    """

    state: PaymentState
    occurred_at: datetime
    receipt: str = ""
    provider_ref: str = ""
    our_ref: UUID | None = None
    payer: str = ""
    payer_name: str = ""
    account_ref: str = ""
    amount_minor: int | None = None  # None where the source does not say
    currency: str = ""
    why: Why | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Validation:
    """A source asks beforehand whether it may take this money (C2B validation)."""

    payer: str
    account_ref: str
    amount_minor: int
    currency: str
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One line of a source's statement. Amounts signed from our side: what came in is positive; the fee as taken."""

    receipt: str
    occurred_at: datetime
    amount_minor: int
    fee_minor: int
    currency: str
    our_ref: str = ""
    payer: str = ""
    account_ref: str = ""  # what the payer wrote (C2B)


class NotListed(Exception):
    """The list of a day could not be had as a whole. Says why, without anything of the account."""


class Forged(Exception):
    """A callback that does not prove where it comes from. `why` is a stable name for log, counter and audit."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class PaymentSource(Protocol):
    """One source of money, as set up in a `[[payment]]` table. Methods that wait never raise for the peer's faults."""

    @property
    def name(self) -> str:
        """Its name in the settings, which is also that of its clearing account, "clearing:<name>"."""

    @property
    def can(self) -> frozenset[Can]:
        """What it is able to do; a method for anything else is never called."""

    async def collect(self, order: Collect) -> Asked | Declined | Unclear:
        """Ask the payer for money."""

    async def status(self, our_ref: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """How a payment stands."""

    def read(self, callback: Callback) -> Sequence[Event] | Validation:
        """What a callback says. Raises Forged, or NotReadable of `channels.http.callback`."""

    def answer(self, callback: Callback, accepted: bool, why: str = "") -> Answer:
        """What the source expects to hear: `accepted` once the word is stored, or for a validation that it may."""

    async def refund(self, key: UUID, receipt: str, payer: str, amount_minor: int) -> Asked | Declined | Unclear:
        """Give money back; `key` makes a repeat the same refund."""

    async def refund_status(self, key: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """How a refund stands."""

    async def statement(self, day: date) -> Sequence[StatementLine]:
        """What it took on this day of the utility. Raises NotListed where the list cannot be had as a whole."""

    async def close(self) -> None:
        """Leave its connections."""
