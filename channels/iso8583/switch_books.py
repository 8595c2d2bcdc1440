"""The books of a bank's switch: what it asked for, what it was told, whom it has debited. Pure.

The life of a sale is a table in two methods: what is done next after an answer, and after silence. A cardholder is
debited when a purchase is approved, and stays so unless a reversal is accepted. What must never be is noted as a
sentence in `wrong`: another token for a repeat, a token after an accepted reversal, fields that do not come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final

from channels.iso8583.switch_messages import Order, Totals


class Fate(StrEnum):
    """What became of a sale, as far as the switch knows."""

    OPEN = "OPEN"
    APPROVED = "APPROVED"
    DECLINED = "DECLINED"
    REVERSED = "REVERSED"


class Step(StrEnum):
    """What the switch does next."""

    REQUEST = "REQUEST"
    REPEAT = "REPEAT"
    REVERSE = "REVERSE"
    NOTHING = "NOTHING"


@dataclass(frozen=True, slots=True, repr=False)
class Heard:
    """An answer as far as books care: code, token digits, receipt, units in hundredths, text for the customer."""

    code: str
    is_approved: bool
    tokens: tuple[str, ...] = ()
    receipt: str = ""
    units: tuple[str, ...] = ()
    text: str = ""


@dataclass(slots=True, repr=False)
class Sale:
    """One sale from its first request to its end. Holds its tokens: the slip shows them."""

    order: Order
    fate: Fate = Fate.OPEN
    heard: Heard | None = None
    """The last answer to the purchase itself, if any came in time."""
    requests: int = 0
    reversals: int = 0
    reversal_stan: int = 0
    reversal_code: str = ""
    was_debited: bool = False
    may_reverse: bool = True

    @property
    def is_over(self) -> bool:
        """Is nothing more to be done?"""
        return self.fate is not Fate.OPEN

    def __repr__(self) -> str:
        return f"<Sale {self.order.rrn} {self.fate}>"


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a switch asks again before it takes a sale back, and how often it sends that."""

    repeats: int = 1
    reversals: int = 20


@dataclass(slots=True)
class SwitchBooks:
    """Every sale of a switch, oldest first."""

    patience: Patience = Patience()
    sales: list[Sale] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _by_token: dict[str, str] = field(default_factory=dict)
    _wrong_max: Final = 1_000

    def opened(self, order: Order) -> Sale:
        """A new sale."""
        sale = Sale(order)
        self.sales.append(sale)
        return sale

    def find(self, rrn: str = "") -> Sale | None:
        """The sale of this reference, or the last one."""
        return next((sale for sale in reversed(self.sales) if not rrn or sale.order.rrn == rrn), None)

    # --- the life of a sale -------------------------------------------------------------------------------------------

    def answered(self, sale: Sale, heard: Heard, *, takes_back: bool = False) -> Step:
        """An answer to the purchase, its repeat or its advice. `takes_back`: the machine could not print the slip."""
        self._look_at(sale, heard)
        sale.heard = heard
        if sale.fate is Fate.REVERSED:
            return Step.NOTHING
        if not heard.is_approved:
            if sale.fate is Fate.APPROVED:
                self.note(sale, f"approved before, and {heard.code} now")
            else:
                sale.fate = Fate.DECLINED
            return Step.NOTHING
        sale.was_debited = True
        if takes_back and sale.may_reverse:
            return Step.REVERSE
        sale.fate = Fate.APPROVED
        return Step.NOTHING

    def silent(self, sale: Sale, *, gives_up: bool = False) -> Step:
        """No answer in time. `gives_up`: take it back without asking again."""
        if sale.is_over:
            return Step.NOTHING
        if sale.may_reverse:
            return Step.REVERSE if gives_up or sale.requests > self.patience.repeats else Step.REPEAT
        # A refused reversal: there is a token, and it is asked for as long as anything is.
        most = self.patience.repeats + self.patience.reversals
        return Step.REPEAT if sale.requests <= most else Step.NOTHING

    def reversal_answered(self, sale: Sale, code: str, *, is_accepted: bool) -> Step:
        """The answer to a reversal. Where it is refused the debit stands, and the token is asked for again."""
        sale.reversal_code = code
        if is_accepted:
            sale.fate = Fate.REVERSED
            return Step.NOTHING
        sale.may_reverse = False
        if sale.heard is not None and sale.heard.is_approved:
            sale.fate = Fate.APPROVED
            return Step.NOTHING
        return Step.REPEAT

    def reversal_silent(self, sale: Sale) -> Step:
        """No answer to a reversal: it is sent until there is one, or patience ends and somebody must look."""
        return Step.REVERSE if sale.reversals < self.patience.reversals else Step.NOTHING

    # --- what is looked at --------------------------------------------------------------------------------------------

    def note(self, sale: Sale, sentence: str) -> None:
        """Something that must not be."""
        if len(self.wrong) < self._wrong_max:
            self.wrong.append(f"{sale.order.rrn}: {sentence}")

    def overheard(self, sale: Sale, heard: Heard) -> None:
        """An answer that came when nobody waited any more: dropped, but looked at."""
        self._look_at(sale, heard, is_late=True)

    def _look_at(self, sale: Sale, heard: Heard, *, is_late: bool = False) -> None:
        if heard.tokens and not heard.is_approved:
            self.note(sale, f"a token with {heard.code}")
        if heard.tokens and sale.fate is Fate.REVERSED and not is_late:
            self.note(sale, "a token after an accepted reversal")
        before = sale.heard
        if before is not None and before.is_approved and heard.is_approved and before.tokens != heard.tokens:
            self.note(sale, "another token for a repeat")
        for token in heard.tokens:
            owner = self._by_token.setdefault(token, sale.order.rrn)
            if owner != sale.order.rrn:
                self.note(sale, f"the token of {owner}")
            if len(token) != 20 or not (token.isascii() and token.isdecimal()):
                self.note(sale, "a token of 20 digits expected")

    def totals(self, day: date | None) -> Totals:
        """One business day; without one every sale."""
        mine = [sale for sale in self.sales if day is None or sale.order.business_date == day]
        stood = [sale for sale in mine if sale.was_debited]
        back = [sale for sale in stood if sale.fate is Fate.REVERSED]
        return Totals(len(stood), _sum(stood), len(back), _sum(back))

    def net_minor(self) -> int:
        """What cardholders are debited with: what the bank owes."""
        return _sum(sale for sale in self.sales if sale.fate is Fate.APPROVED)

    def counts(self) -> dict[str, int]:
        """Sales by what became of them."""
        return {fate.value.lower(): sum(sale.fate is fate for sale in self.sales) for fate in Fate}


def _sum(sales: Iterable[Sale]) -> int:
    return sum(sale.order.amount_minor for sale in sales)


def slip(sale: Sale, currency: str, shown_amount: str) -> Sequence[str]:
    """What the machine prints: all that the customer needs, the card masked."""
    order, heard = sale.order, sale.heard
    lines = [
        f"{order.terminal.acceptor.strip()}  {order.terminal.number}",
        f"{order.local:%Y-%m-%d %H:%M}  {order.rrn}",
    ]
    if order.terminal.card is not None:
        lines.append(f"card     {order.terminal.card.shown}")
    lines += [f"meter    {order.meter}", f"amount   {currency} {shown_amount}"]
    if heard is None:
        return [*lines, f"NO ANSWER: {sale.fate}"]
    if sale.fate is Fate.REVERSED:
        return [*lines, "TAKEN BACK: your account is not debited"]
    if not heard.is_approved:
        return [*lines, f"NOT SOLD  ({heard.code})", *_text(heard)]
    digits = "".join(character for character in heard.text if character.isdecimal())
    if heard.tokens and all(token in digits for token in heard.tokens):
        return [*lines, *_text(heard)]  # the text says it all
    for position, token in enumerate(heard.tokens):
        groups = " ".join(token[at : at + 4] for at in range(0, len(token), 4))
        lines.append(f"token    {groups}")
        units = heard.units[position] if position < len(heard.units) else ""
        if units.isdecimal() and int(units):
            lines.append(f"units    {int(units) // 100}.{int(units) % 100:02d}")
    if heard.receipt:
        lines.append(f"receipt  {heard.receipt}")
    return [*lines, *_text(heard)]


def _text(heard: Heard) -> list[str]:
    return [line for line in heard.text.replace("|", "\n").split("\n") if line.strip()]


def unresolved(books: SwitchBooks) -> list[Sale]:
    """Sales of which the switch does not know what became."""
    return [sale for sale in books.sales if sale.fate is Fate.OPEN]
