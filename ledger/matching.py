"""Our records against the other side's lines: each of both in exactly one class. Pure: no I/O, no clock, no SQL.

What is matched is named by references, the strongest first: a provider's receipt, then our own reference. Records that
share the strongest reference are paired before weaker ones are looked at; among several with the same reference those
of equal amount go together, and what is left over is a duplicate, never a second match.

The one matcher of the house: statements of providers (`ledger/statementmatch.py`) and a bank's end of day
(`ledger/bankmatch.py`) both say what their records are called, and name further what a pair or a rest of it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

OursKey = TypeVar("OursKey", bound=Hashable)
TheirsKey = TypeVar("TheirsKey", bound=Hashable)


class Class(StrEnum):
    """What became of a record: in exactly one of these."""

    MATCHED = "MATCHED"
    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"  # or the currency does
    FEE_DIFFERS = "FEE_DIFFERS"
    MISSING_HERE = "MISSING_HERE"  # they name it, our books do not have it
    MISSING_THERE = "MISSING_THERE"  # our books have it, they do not name it
    DUPLICATE_HERE = "DUPLICATE_HERE"  # a further record of ours for what one of theirs names
    DUPLICATE_THERE = "DUPLICATE_THERE"  # a further line of theirs for what one of ours names


@dataclass(frozen=True, slots=True)
class Ours(Generic[OursKey]):
    """One record of our books. `refs` from strongest to weakest, "" where it has none of that kind.

    `fee_minor` is the fee we expect; None where we expect none in particular, and then it never differs. `mark` and
    `rank` decide among several of one name only: those of equal money and mark go together first (a meter number),
    and of those that are alike in that, the lower rank.
    """

    key: OursKey
    refs: tuple[str, ...]
    amount_minor: int
    currency: str
    fee_minor: int | None = None
    mark: str = ""
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Theirs(Generic[TheirsKey]):
    """One line of the other side. `refs`, `mark` and `rank` are of the same kinds, in the same order, as ours."""

    key: TheirsKey
    refs: tuple[str, ...]
    amount_minor: int
    currency: str
    fee_minor: int = 0
    mark: str = ""
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Pair(Generic[OursKey, TheirsKey]):
    """A class with what is in it. A duplicate names the one it repeats on the other side too.

    `by` is the place of the reference that led to it, from 0; None where nothing did.
    """

    is_: Class
    ours: OursKey | None
    theirs: TheirsKey | None
    by: int | None = None


def match(
    ours: Iterable[Ours[OursKey]],
    theirs: Iterable[Theirs[TheirsKey]],
    decided: Mapping[TheirsKey, OursKey] | None = None,
) -> list[Pair[OursKey, TheirsKey]]:
    """Put each record of both sides into one class. Keys are unique on each side.

    `decided`: lines whose record of ours people have confirmed; they go together whatever their references say.

    Every one of ours is the `ours` of exactly one pair that is not DUPLICATE_THERE, every one of theirs the `theirs` of
    exactly one that is not DUPLICATE_HERE. Two records whose stronger references contradict each other are never
    paired by a weaker one: two receipts for one order are two payments. A record left over is a duplicate only if its
    own strongest reference is one that either side of a pair has. What is left of each side comes last, in the order
    of its references, then of its rank. Time grows with the number of records, not with its square.
    """
    pairs: list[Pair[OursKey, TheirsKey]] = []
    # In one order, whatever the order they came in: which of several alike is the match does not depend on it.
    here = {one.key: one for one in sorted(ours, key=_order)}
    there = {one.key: one for one in sorted(theirs, key=_order)}
    widths = [*(len(one.refs) for one in here.values()), *(len(one.refs) for one in there.values())]
    levels = max(widths, default=0)
    paired: list[dict[str, tuple[OursKey, TheirsKey]]] = [{} for _ in range(levels)]

    def go_together(one: Ours[OursKey], its: Theirs[TheirsKey], level: int | None) -> None:
        pairs.append(Pair(compared(one, its), one.key, its.key, level))
        # Under whatever name either side has: a line again with the same receipt is a line again, even if the first
        # was known by our reference.
        for refs in (one.refs, its.refs):
            for place, ref in enumerate(refs):
                if ref:
                    paired[place].setdefault(ref, (one.key, its.key))
        del here[one.key], there[its.key]

    for line, record in (decided or {}).items():
        if line in there and record in here:
            go_together(here[record], there[line], None)
    for level in range(levels):
        groups = _groups(there.values(), level)
        for name, mine in _groups(here.values(), level).items():
            for one, its in _couples(mine, groups.get(name, []), level):
                go_together(one, its, level)
    for one in here.values():
        level, first = _first(one.refs, paired)
        is_, its_key = (Class.DUPLICATE_HERE, first[1]) if first else (Class.MISSING_THERE, None)
        pairs.append(Pair(is_, one.key, its_key, level if first else None))
    for its in there.values():
        level, first = _first(its.refs, paired)
        is_, key = (Class.DUPLICATE_THERE, first[0]) if first else (Class.MISSING_HERE, None)
        pairs.append(Pair(is_, key, its.key, level if first else None))
    return pairs


def compared(ours: Ours[OursKey], theirs: Theirs[TheirsKey]) -> Class:
    """What two records are that name the same thing: MATCHED, or in what they differ."""
    if (ours.amount_minor, ours.currency) != (theirs.amount_minor, theirs.currency):
        return Class.AMOUNT_DIFFERS
    if ours.fee_minor is not None and ours.fee_minor != theirs.fee_minor:
        return Class.FEE_DIFFERS
    return Class.MATCHED


class _Record(Protocol):
    @property
    def refs(self) -> tuple[str, ...]: ...

    @property
    def amount_minor(self) -> int: ...

    @property
    def currency(self) -> str: ...

    @property
    def fee_minor(self) -> int | None: ...

    @property
    def mark(self) -> str: ...

    @property
    def rank(self) -> int: ...


def _order(one: _Record) -> tuple[tuple[str, ...], int, str, int, str, int]:
    fee_minor = -1 if one.fee_minor is None else one.fee_minor
    return one.refs, one.rank, one.mark, one.amount_minor, one.currency, fee_minor


One = TypeVar("One", bound=_Record)
Other = TypeVar("Other", bound=_Record)


def _groups(records: Iterable[One], level: int) -> dict[str, list[One]]:
    found: dict[str, list[One]] = {}
    for one in records:
        if name := one.refs[level] if level < len(one.refs) else "":
            found.setdefault(name, []).append(one)
    return found


def _couples(here: Sequence[One], there: Sequence[Other], level: int) -> list[tuple[One, Other]]:
    """Those of equal money and mark first, then of equal money, then any; none whose stronger references contradict."""
    if len(here) == len(there) == 1:  # nearly always
        return [] if _mask(here[0], level) & _mask(there[0], level) else [(here[0], there[0])]
    found: list[tuple[One, Other]] = []
    for alike in (_by_mark, _by_money, _by_nothing):
        left_here, left_there = _parts(here, level, alike), _parts(there, level, alike)
        # Those with most stronger references find the fewest partners, so they choose first.
        for mask in reversed(range(1 << level)):
            for its_mask in reversed(range(1 << level)):
                if mask & its_mask:
                    continue
                for what, mine in left_here.get(mask, {}).items():
                    its = left_there.get(its_mask, {}).get(what, [])
                    both = min(len(mine), len(its))
                    found += zip(mine[:both], its[:both], strict=True)
                    del mine[:both], its[:both]
        here, there = _rest(left_here), _rest(left_there)
    return found


def _by_mark(one: _Record) -> tuple[int, str, str]:
    return one.amount_minor, one.currency, one.mark


def _by_money(one: _Record) -> tuple[int, str, str]:
    return one.amount_minor, one.currency, ""


def _by_nothing(one: _Record) -> tuple[int, str, str]:
    return 0, "", ""


_Parts = dict[int, dict[tuple[int, str, str], list[One]]]


def _parts(records: Iterable[One], level: int, alike: Callable[[_Record], tuple[int, str, str]]) -> _Parts[One]:
    """By which stronger references they have, then by what must be alike; in each in the order they came."""
    found: _Parts[One] = {}
    for one in records:
        found.setdefault(_mask(one, level), {}).setdefault(alike(one), []).append(one)
    return found


def _rest(parts: _Parts[One]) -> list[One]:
    return sorted((one for part in parts.values() for ones in part.values() for one in ones), key=_order)


def _mask(one: _Record, level: int) -> int:
    """Which references it has that are stronger than this one, a bit each."""
    return sum(1 << place for place in range(min(level, len(one.refs))) if one.refs[place])


def _first(
    refs: tuple[str, ...], paired: Sequence[dict[str, tuple[OursKey, TheirsKey]]]
) -> tuple[int, tuple[OursKey, TheirsKey] | None]:
    """The strongest reference, and the pair that has the same."""
    for level, name in enumerate(refs):
        if name:
            return level, paired[level].get(name)
    return 0, None
