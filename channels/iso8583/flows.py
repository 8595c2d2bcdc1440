"""What a bank asks for, in words that hold no card data, and what it is told. Pure.

`order_of` turns a typed request into an order for the gateway (`BankDesk`); the message itself stays behind, in memory,
for its answer. An order holds nothing that may not be stored.

Dates without a year are given the one that is nearest to now, so that a key means the same purchase for ever. A
reversal finds its purchase by the purchase's key, or by its trace: acquirer, terminal, trace number and transmission
time of the original, of which field 90 speaks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from channels.iso8583.answers import NOTHING, Said
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import Fault, IsoError
from channels.iso8583.keymodule import WrappedKey
from channels.iso8583.profile import Profile
from channels.iso8583.requests import (
    Advice,
    Inquiry,
    NetworkManagement,
    Purchase,
    Reconciliation,
    Request,
    Reversal,
    SaleRequest,
)
from ledger.reasons import Reason
from sts.errors import StsError
from sts.numbers import check_drn

_DATE_AWAY_MAX: Final = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Bank:
    """What reading a bank's requests needs: its name, its dialect, and the utility's currency as the bank gives it."""

    name: str
    profile: Profile
    currency: str
    minor_digits: int
    decide_within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What every order has. Times as the wire gives them; `business_date` only where the message has one."""

    bank: str
    link: str
    mti: str
    stan: str
    rrn: str = ""
    terminal: str = ""
    acceptor: str = ""
    acquirer: str = ""
    sent: str = ""
    local_time: str = ""
    local_date: str = ""
    currency: str = ""
    business_date: date | None = None
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleOrder(Order):
    """A purchase, or the advice of one. `refused` is why it cannot be one; it is stored all the same.

    `may_sell`: it may be sold although it has never come before. After `decide_by` it is not sold any more.
    """

    function: str
    reference: str
    trace: str | None
    fingerprint: bytes
    amount_minor: int
    drn: str
    language: str
    may_sell: bool
    refused: Reason | None
    decide_by: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalOrder(Order):
    """Undo a purchase. `reference` and `trace` are the original's; `key` is this reversal's own.

    `is_timeout`: the bank vouches that the customer was shown nothing. `is_partial`: some of it was paid out.
    """

    reference: str
    trace: str | None
    key: str
    fingerprint: bytes
    amount_minor: int | None
    is_timeout: bool
    is_partial: bool
    is_advice: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiryOrder(Order):
    """Whose meter is this, and what may be bought?"""

    drn: str
    refused: Reason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOverOrder(Order):
    """The bank's next business day begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsOrder(Order):
    """The bank's totals of a business date."""

    purchases: int
    purchases_minor: int
    reversals: int
    reversals_minor: int
    net_minor: int


@dataclass(frozen=True, slots=True, repr=False)
class Told:
    """What a bank is answered. Its representation shows no token."""

    why: Reason | Outcome
    said: Said = field(default=NOTHING)


@dataclass(frozen=True, slots=True)
class Totals:
    """What our books have for a business date; `net_minor` negative if the bank owes."""

    purchases: int
    purchases_minor: int
    reversals: int
    reversals_minor: int
    net_minor: int
    in_balance: bool


class Withholding(Protocol):
    """What a channel knows of answers that it has not written."""

    def withhold(self, reference: str) -> bool:
        """Keep back what this request is to be answered. True: it was stored here and nothing was written of it."""
        ...

    def send_after_all(self, reference: str) -> None:
        """Let what was withheld go its way."""
        ...

    def drop(self, reference: str) -> None:
        """What was withheld is never written: the purchase was taken back, or may have been."""
        ...


class BankDesk(Protocol):
    """What the gateway does for banks. Each raises `channels.contract.NotStored` if nothing could be stored."""

    async def sell(self, order: SaleOrder, on_first: Callable[[], None]) -> Told | None:
        """Decide a purchase, or what has become of it; None: not decided within the bank's patience, answer nothing.

        `on_first` is called as soon as it is certain that this very request has stored the purchase.
        """
        ...

    async def reverse(self, order: ReversalOrder, answers: Withholding) -> Told:
        """Undo a purchase, or say why not."""
        ...

    async def inquire(self, order: InquiryOrder) -> Told:
        """Tell of a meter."""
        ...

    async def cut_over(self, order: CutOverOrder) -> Told:
        """Begin a bank's business day."""
        ...

    async def reconcile(self, order: TotalsOrder) -> Totals:
        """Compare totals of a business date."""
        ...

    async def keep_key(self, bank: str, handle: str, zmk: str, wrapped: WrappedKey) -> UUID:
        """Keep a key as it came."""
        ...

    async def settle_key(self, key_id: UUID, was_taken: bool) -> None:
        """Say what became of it."""
        ...


Orders = SaleOrder | ReversalOrder | InquiryOrder | CutOverOrder | TotalsOrder


def order_of(bank: Bank, link: str, request: Request, now: datetime, local: datetime) -> Orders:
    """A request as an order. Raises IsoError, with the path, for a date that cannot be."""
    reader = _Reader(bank, link, request, now, local)
    match request:
        case Inquiry():
            return reader.inquiry(request)
        case Purchase():
            return reader.sale(request)
        case Reversal():
            return reader.reversal(request)
        case Reconciliation():
            return reader.totals(request)
    assert isinstance(request, NetworkManagement), "every kind of request is an order"
    return reader.cut_over()


class _Reader:
    """One request of a bank."""

    def __init__(self, bank: Bank, link: str, request: Request, now: datetime, local: datetime) -> None:
        self._bank: Final = bank
        self._profile: Final = bank.profile
        self._link: Final = link
        self._request: Final = request
        self._now: Final = now
        self._local: Final = local

    def _text(self, place: str) -> str:
        return (self._profile.at(self._request.message, place) or "").strip()

    def _order(self) -> dict[str, Any]:
        names = ("rrn", "terminal", "acceptor", "acquirer", "sent", "local_time", "local_date", "currency")
        return {
            "bank": self._bank.name,
            "link": self._link,
            "mti": self._request.message.mti,
            "stan": self._request.stan,
            **{name: self._text(name) for name in names},
            "business_date": self._business_date(),
            "received_at": self._now,
        }

    def _business_date(self) -> date | None:
        text = self._text("business_date")
        if not text.strip("0"):
            return None
        found = dated(text, self._local)
        if found is None or abs(found.date() - self._local.date()) > _DATE_AWAY_MAX:
            path = self._profile.places["business_date"]
            raise IsoError(Fault.CONTENT, f"field {path}", f"a date within {_DATE_AWAY_MAX.days} days expected")
        return found.date()

    def _check_clock(self) -> None:
        most, text = self._profile.timing.clock_skew_max_s, self._text("sent")
        if not most or not text:
            return
        sent = dated(text, self._now)
        if sent is None or abs(sent - self._now) > timedelta(seconds=most):
            path = self._profile.places["sent"]
            raise IsoError(Fault.CONTENT, f"field {path}", f"a time within {most} s of ours expected")

    def _reference(self, reference: str) -> str:
        """A key that is unique for ever: with the bank's name, and the year of a local date that has none."""
        text = self._text("local_date")
        found = dated(text, self._local) if len(text) == 4 else None
        return f"{self._bank.name}/{found.year if found is not None else ''}/{reference}"

    def _trace(self, stan: str, sent: str) -> str | None:
        if not stan or not sent or "sent" not in self._profile.places:
            return None
        found = dated(sent, self._now)
        acquirer = self._text("acquirer").lstrip("0")
        return f"{acquirer}/{self._text('terminal')}/{stan}/{found.year if found is not None else ''}{sent}"

    def _amount(self, amount_minor: int, digits: int | None) -> int | None:
        """The amount in the utility's minor units; None for one that has a smaller part."""
        more = self._bank.minor_digits - (self._bank.minor_digits if digits is None else digits)
        times: int = 10 ** abs(more)
        if more >= 0:
            return amount_minor * times
        whole, part = divmod(amount_minor, times)
        return None if part else whole

    def _unlike(self, request: SaleRequest) -> Reason | None:
        """Why a meter or a currency is none that we know."""
        if request.currency != self._bank.currency:
            return Reason.NOT_PERMITTED
        try:
            check_drn(request.meter)
        except StsError:
            return Reason.METER_INVALID
        return None

    def inquiry(self, request: Inquiry) -> InquiryOrder:
        refused = self._unlike(request)
        return InquiryOrder(drn=request.meter, refused=refused, **self._order())

    def sale(self, request: Purchase) -> SaleOrder:
        self._check_clock()
        is_advice = isinstance(request, Advice)
        amount = self._amount(request.amount_minor, request.amount_digits)
        refused = self._unlike(request)
        if refused is None and not amount:
            refused = Reason.AMOUNT_UNREADABLE if amount is None else Reason.AMOUNT_NEEDED
        return SaleOrder(
            function="ADVICE" if is_advice else "PURCHASE",
            reference=self._reference(request.reference),
            trace=self._trace(request.stan, self._text("sent")),
            fingerprint=request.fingerprint,
            amount_minor=amount or 0,
            drn=request.meter[:13],
            language=request.language.lower(),
            may_sell=not is_advice or self._profile.on_unknown_advice == "vend",
            refused=refused,
            decide_by=self._now + timedelta(seconds=self._bank.decide_within_s),
            **self._order(),
        )

    def reversal(self, request: Reversal) -> ReversalOrder:
        original = request.original
        reference = self._reference(request.reference)
        amount = self._amount(request.amount_minor, request.amount_digits)
        content = f"{request.amount_minor}/{request.amount_digits}/{request.reason}/{request.replacement_minor}"
        return ReversalOrder(
            reference=reference,
            trace=self._trace(original.stan, original.sent) if original is not None else None,
            key=f"{reference}/reversal/{request.stan}",
            fingerprint=hashlib.blake2b(content.encode(), digest_size=16).digest(),
            amount_minor=amount if request.amount_minor else None,
            is_timeout=request.is_timeout,
            is_partial=bool(request.replacement_minor) or amount is None,
            is_advice=request.is_advice,
            **self._order(),
        )

    def cut_over(self) -> CutOverOrder:
        order = CutOverOrder(**self._order())
        self._require_date(order)
        return order

    def totals(self, request: Reconciliation) -> TotalsOrder:
        order = TotalsOrder(
            purchases=request.purchases,
            purchases_minor=request.purchases_minor,
            reversals=request.reversals,
            reversals_minor=request.reversals_minor,
            net_minor=request.net_minor,
            **self._order(),
        )
        self._require_date(order)
        return order

    def _require_date(self, order: Order) -> None:
        if order.business_date is None:
            path = self._profile.places.get("business_date", "15")
            raise IsoError(Fault.MISSING, f"field {path}", "the business date expected, got none")


def dated(text: str, near: datetime) -> datetime | None:
    """A date, with or without a time and a year, as an instant in the zone of `near`; None for none that can be.

    MMDD and MMDDhhmmss get the year in which they are nearest; YYMMDD and YYYYMMDD with or without a time have one.
    """
    if not (text.isascii() and text.isdecimal()):
        return None
    forms: dict[int, str] = {6: "%y%m%d", 8: "%Y%m%d", 12: "%y%m%d%H%M%S", 14: "%Y%m%d%H%M%S"}
    tries = [(text, forms[len(text)])] if len(text) in forms else []
    if len(text) in (4, 10):
        form = "%Y%m%d" if len(text) == 4 else "%Y%m%d%H%M%S"
        tries = [(f"{near.year + more:04d}{text}", form) for more in (-1, 0, 1)]
    found = [each for each in (_parsed(*one, near) for one in tries) if each is not None]
    return min(found, key=lambda each: abs(each - near)) if found else None


def _parsed(text: str, form: str, near: datetime) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=near.tzinfo)
    except ValueError:
        return None


def totals_said(profile: Profile, request: Reconciliation, ours: Totals) -> Told:
    """The answer to totals: our own in the fields that came, zeros in those of kinds that we do not have."""
    rules, codecs = profile.settlement, profile.packager.fields.codecs
    mine: dict[int, str] = {
        rules.purchase_number: str(ours.purchases),
        rules.purchase_amount: str(ours.purchases_minor),
        rules.reversal_number: str(ours.reversals),
        rules.reversal_amount: str(ours.reversals_minor),
    }
    others = {number: "0" for number in (74, 75, 76, 77, 86, 87, 88, 89) if number in request.message}
    fields = {number: text for number, text in {**others, **mine}.items() if number in codecs}
    if rules.net_amount in codecs:
        width = codecs[rules.net_amount].form.length
        fields[rules.net_amount] = f"{'D' if ours.net_minor < 0 else 'C'}{abs(ours.net_minor):0{width}d}"
    if _SETTLEMENT_CODE in codecs:
        fields[_SETTLEMENT_CODE] = "1" if ours.in_balance else "2"
    return Told(Outcome.IN_BALANCE if ours.in_balance else Outcome.OUT_OF_BALANCE, Said(fields=fields))


_SETTLEMENT_CODE: Final = 66
"""1 in balance, 2 out of balance. Source: ISO 8583:1987, field 66."""
