"""One business day line by line, three ways: our books, the bank's messages as kept, the bank's file. Pure.

Every purchase that any of them knows comes out once, in one class. Which line is about which purchase, the matcher of
`ledger/matching.py` says; the classes here say what the two tell of it. A class has somebody who looks at it (`OWNER`)
and a proposal; nothing is posted here. Amounts are minor units; a purchase's effect is what the bank owes for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final
from uuid import UUID

from ledger import matching
from ledger.bankfile import Line


class Class(StrEnum):
    """What a purchase comes to between the bank and us. Stored; the values are stable."""

    MATCHED = "MATCHED"  # both say sold, for the same amount
    NOT_SOLD = "NOT_SOLD"  # both say that nothing was debited; no token
    SEALED = "SEALED"  # both say taken back; a token was made and is sealed
    LATE_REVERSAL = (
        "LATE_REVERSAL"  # as SEALED, but taken back on another business date: it stands in that day's totals
    )
    MISSING_THERE = "MISSING_THERE"  # we sold; the bank's file has no debit for it
    MISSING_HERE = "MISSING_HERE"  # the bank debited; we have no such purchase
    DECLINED_HERE = "DECLINED_HERE"  # the bank debited; we refused or cancelled it
    REVERSED_THERE = "REVERSED_THERE"  # the bank took it back; our sale stands
    REVERSED_HERE = "REVERSED_HERE"  # we took it back; the bank's debit stands
    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"
    METER_DIFFERS = "METER_DIFFERS"  # same amount, another meter
    LISTED_TWICE = "LISTED_TWICE"  # the bank's file has it more than once


AGREED: Final = frozenset({Class.MATCHED, Class.NOT_SOLD, Class.SEALED})
"""Classes in which there is nothing to do."""


# fmt: off
OWNER: Final[Mapping[Class, tuple[str, str]]] = {
    # who looks at it                what is proposed
    Class.LATE_REVERSAL:  ("finance", "accept: the bank nets it on the day of the reversal"),
    Class.MISSING_THERE:  ("bank",    "claim from the bank; write off what it proves not to have debited"),
    Class.MISSING_HERE:   ("bank",    "accept once the bank has given its customer the money back"),
    Class.DECLINED_HERE:  ("bank",    "accept once the bank has given its customer the money back"),
    Class.REVERSED_THERE: ("finance", "claim: the token was disclosed, the sale stands; or write off"),
    Class.REVERSED_HERE:  ("bank",    "accept once the bank has given its customer the money back"),
    Class.AMOUNT_DIFFERS: ("finance", "claim or write off the difference"),
    Class.METER_DIFFERS:  ("support", "look at both meters; the money agrees"),
    Class.LISTED_TWICE:   ("bank",    "accept once the bank has taken one of them back"),
}
# fmt: on


@dataclass(frozen=True, slots=True)
class Ours:
    """A purchase as our books and the bank's messages have it.

    `state` is the purchase's, None where none came of the request. `reversed_on`: the business date of the reversal
    that took it back. `has_refused_reversal`: one came and was refused, or acknowledged although the sale stands.
    """

    key: str
    request_id: UUID
    drn: str
    amount_minor: int
    is_sold: bool
    is_reversed: bool
    reversed_on: date | None
    has_refused_reversal: bool
    state: str | None

    @property
    def effect_minor(self) -> int:
        """What the bank owes for it by our books."""
        return self.amount_minor if self.is_sold and not self.is_reversed else 0

    @property
    def rank(self) -> int:
        """Of several with one key, who is more likely in the bank's file: a sale, one taken back, one refused."""
        return (1 if self.is_reversed else 0) if self.is_sold else 2


@dataclass(frozen=True, slots=True)
class Theirs:
    """A line of the bank's file."""

    number: int
    line: Line

    @property
    def effect_minor(self) -> int:
        """What the bank says that it owes for it."""
        return self.line.amount_minor if self.line.is_approved and not self.line.is_reversed else 0

    @property
    def rank(self) -> int:
        """Of several about one purchase, which counts: a debit that stands, one taken back, a refusal."""
        return (1 if self.line.is_reversed else 0) if self.line.is_approved else 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One purchase with its class. `said` names what the books and messages add to it."""

    key: str
    kind: Class
    ours: Ours | None
    theirs: Theirs | None
    said: str = ""

    @property
    def ours_minor(self) -> int:
        return 0 if self.ours is None else self.ours.effect_minor

    @property
    def theirs_minor(self) -> int:
        return 0 if self.theirs is None else self.theirs.effect_minor

    @property
    def difference_minor(self) -> int:
        """What we say that the bank owes, less what it says."""
        return self.ours_minor - self.theirs_minor


def match(day: date, ours: Iterable[Ours], theirs: Iterable[Theirs]) -> list[Finding]:
    """Every purchase of a business date in its class, ours in their order first.

    The sum of `difference_minor` is the whole difference of the day. Of several lines about one purchase, that of its
    amount and meter is compared with it, a debit that stands before one taken back or refused; the others are listed
    twice. Neither the order of the file nor that of ours decides a class.
    """
    mine = list(ours)
    lines = sorted(theirs, key=lambda one: (one.line.drn, one.line.code, one.line.is_reversed, one.number))
    of_mine: dict[int, Theirs] = {}
    more: dict[int, list[Theirs]] = {}
    unknown: dict[str, list[Theirs]] = {}
    here = [
        matching.Ours(at, (one.key,), one.amount_minor, "", mark=_meter(one.drn), rank=one.rank)
        for at, one in sorted(enumerate(mine), key=lambda item: item[1].request_id)
    ]
    there = [
        matching.Theirs(at, (one.line.key,), one.line.amount_minor, "", mark=_meter(one.line.drn), rank=one.rank)
        for at, one in enumerate(lines)
    ]
    for pair in matching.match(here, there):
        if pair.theirs is None or pair.is_ is matching.Class.DUPLICATE_HERE:
            continue  # ours alone
        line = lines[pair.theirs]
        if pair.ours is None:
            unknown.setdefault(line.line.key, []).append(line)
        elif pair.is_ is matching.Class.DUPLICATE_THERE:
            more.setdefault(pair.ours, []).append(line)
        else:
            of_mine[pair.ours] = line
    found: list[Finding] = []
    seen: dict[str, int] = {}
    for at, one in enumerate(mine):
        seen[one.key] = number = seen.get(one.key, 0) + 1
        found.append(_compared(day, one, of_mine.get(at), one.key if number == 1 else f"{one.key}/{number}"))
        found += _again(one.key, more.get(at, ()))
    for key, several in sorted(unknown.items(), key=lambda item: min(line.number for line in item[1])):
        kind = Class.MISSING_HERE if several[0].effect_minor else Class.NOT_SOLD
        found.append(Finding(key, kind, None, several[0]))
        found += _again(key, several[1:])
    return found


def _again(key: str, lines: Sequence[Theirs]) -> list[Finding]:
    """Further lines about a purchase, each with a key of its own."""
    return [Finding(f"{key}#{number}", Class.LISTED_TWICE, None, line) for number, line in enumerate(lines, 2)]


def _compared(day: date, mine: Ours, line: Theirs | None, key: str) -> Finding:
    return Finding(key, _class(day, mine, line), mine, line, _said(mine))


def _meter(drn: str) -> str:
    """What numbers of 11 and of 13 digits have in common."""
    return drn[-11:]


def _class(day: date, mine: Ours, line: Theirs | None) -> Class:
    if not mine.is_sold:
        return Class.DECLINED_HERE if line is not None and line.effect_minor else Class.NOT_SOLD
    if mine.is_reversed:
        if line is not None and line.effect_minor:
            # Until the day of the reversal the bank's debit stood, and its file of that day says so.
            return Class.LATE_REVERSAL if mine.reversed_on not in (None, day) else Class.REVERSED_HERE
        return Class.LATE_REVERSAL if mine.reversed_on not in (None, day) else Class.SEALED
    if line is None:
        return Class.REVERSED_THERE if mine.has_refused_reversal else Class.MISSING_THERE
    if not line.line.is_approved:
        return Class.REVERSED_THERE if mine.has_refused_reversal else Class.MISSING_THERE
    if line.line.is_reversed:
        return Class.REVERSED_THERE
    if line.line.amount_minor != mine.amount_minor:
        return Class.AMOUNT_DIFFERS
    return Class.METER_DIFFERS if _differs(line.line.drn, mine.drn) else Class.MATCHED


def _differs(theirs: str, ours: str) -> bool:
    """A file may leave meters out, and give numbers of 11 digits where ours have 13."""
    return bool(theirs and ours) and not (theirs.endswith(ours) or ours.endswith(theirs))


def _said(mine: Ours) -> str:
    parts = [mine.state or "no purchase"]
    if mine.reversed_on is not None:
        parts.append(f"reversed on {mine.reversed_on}")
    if mine.has_refused_reversal:
        parts.append("a reversal was refused")
    return ", ".join(parts)
