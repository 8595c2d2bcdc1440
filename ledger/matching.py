"""Our records against the other side's lines: each of both in exactly one class. Pure: no I/O, no clock, no SQL.

What is matched is named by references, the strongest first: a provider's receipt, then our own reference. Records that
share the strongest reference are paired before weaker ones are looked at; among several with the same reference those
of equal amount go together, and what is left over is a duplicate, never a second match.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
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

    `fee_minor` is the fee we expect; None where we expect none in particular, and then it never differs.
    """

    key: OursKey
    refs: tuple[str, ...]
    amount_minor: int
    currency: str
    fee_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Theirs(Generic[TheirsKey]):
    """One line of the other side. `refs` are of the same kinds, in the same order, as those of ours."""

    key: TheirsKey
    refs: tuple[str, ...]
    amount_minor: int
    currency: str
    fee_minor: int = 0


@dataclass(frozen=True, slots=True)
class Pair(Generic[OursKey, TheirsKey]):
    """A class with what is in it. A duplicate names the one it repeats on the other side too.

    `by` is the place of the reference that led to it, from 0; None where nothing did.
    """

    is_: Class
    ours: OursKey | None
    theirs: TheirsKey | None
    by: int | None = None


def match(ours: Iterable[Ours[OursKey]], theirs: Iterable[Theirs[TheirsKey]]) -> list[Pair[OursKey, TheirsKey]]:
    """Put each record of both sides into one class. Keys are unique on each side.

    Every one of ours is the `ours` of exactly one pair that is not DUPLICATE_THERE, every one of theirs the `theirs` of
    exactly one that is not DUPLICATE_HERE. Two records whose stronger references contradict each other are never
    paired by a weaker one: two receipts for one order are two payments. A record left over is a duplicate only if its
    own strongest reference is that of a pair. Time grows with the number of records, not with its square.
    """
    pairs: list[Pair[OursKey, TheirsKey]] = []
    # In one order, whatever the order they came in: which of several alike is the match does not depend on it.
    here = {one.key: one for one in sorted(ours, key=_order)}
    there = {one.key: one for one in sorted(theirs, key=_order)}
    paired: list[dict[str, tuple[OursKey, TheirsKey]]] = []
    widths = [*(len(one.refs) for one in here.values()), *(len(one.refs) for one in there.values())]
    for level in range(max(widths, default=0)):
        named: dict[str, tuple[OursKey, TheirsKey]] = {}
        groups = _groups(there.values(), level)
        for name, mine in _groups(here.values(), level).items():
            for one, its in _couples(mine, groups.get(name, []), level):
                pairs.append(Pair(compared(one, its), one.key, its.key, level))
                named.setdefault(name, (one.key, its.key))
                del here[one.key], there[its.key]
        paired.append(named)
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


def _order(one: Ours[OursKey] | Theirs[TheirsKey]) -> tuple[tuple[str, ...], int, str, int]:
    return one.refs, one.amount_minor, one.currency, -1 if one.fee_minor is None else one.fee_minor


class _Record(Protocol):
    @property
    def refs(self) -> tuple[str, ...]: ...

    @property
    def amount_minor(self) -> int: ...

    @property
    def currency(self) -> str: ...


One = TypeVar("One", bound=_Record)
Other = TypeVar("Other", bound=_Record)


def _groups(records: Iterable[One], level: int) -> dict[str, list[One]]:
    found: dict[str, list[One]] = {}
    for one in records:
        if name := one.refs[level] if level < len(one.refs) else "":
            found.setdefault(name, []).append(one)
    return found


def _couples(here: Sequence[One], there: Sequence[Other], level: int) -> list[tuple[One, Other]]:
    """As many couples as there can be, those of equal money first; none whose stronger references contradict."""
    found: list[tuple[One, Other]] = []
    for is_exact in (True, False):
        left_here, left_there = _by_money(here, level, is_exact), _by_money(there, level, is_exact)
        for (money, mask), mine in left_here.items():
            for its_mask in range(1 << level):
                its = left_there.get((money, its_mask), [])
                if its and not mask & its_mask:
                    both = min(len(mine), len(its))
                    found += zip(mine[:both], its[:both], strict=True)
                    del mine[:both], its[:both]
        here = [one for ones in left_here.values() for one in ones]
        there = [one for ones in left_there.values() for one in ones]
    return found


def _by_money(records: Sequence[One], level: int, is_exact: bool) -> dict[tuple[tuple[int, str], int], list[One]]:
    """By amount (or all alike) and by which stronger references they have."""
    found: dict[tuple[tuple[int, str], int], list[One]] = {}
    for one in records:
        money = (one.amount_minor, one.currency) if is_exact else (0, "")
        mask = sum(1 << place for place in range(min(level, len(one.refs))) if one.refs[place])
        found.setdefault((money, mask), []).append(one)
    return found


def _first(
    refs: tuple[str, ...], paired: Sequence[dict[str, tuple[OursKey, TheirsKey]]]
) -> tuple[int, tuple[OursKey, TheirsKey] | None]:
    """The strongest reference, and the pair that has the same."""
    for level, name in enumerate(refs):
        if name:
            return level, paired[level].get(name)
    return 0, None
