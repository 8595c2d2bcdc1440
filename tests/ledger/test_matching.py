"""The matcher: a table of cases, and the rule that every record of both sides is in exactly one class."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.matching import Class, Ours, Pair, Theirs, match


def _ours(key: str, refs: str, amount: int = 500, fee: int | None = None, currency: str = "KES") -> Ours[str]:
    return Ours(key, tuple(refs.split("/")), amount, currency, fee)


def _theirs(key: str, refs: str, amount: int = 500, fee: int = 0, currency: str = "KES") -> Theirs[str]:
    return Theirs(key, tuple(refs.split("/")), amount, currency, fee)


# Ours, theirs, and the classes as "class ours theirs"; references are "receipt/our reference".
CASES: list[tuple[str, list[Ours[str]], list[Theirs[str]], set[str]]] = [
    ("nothing", [], [], set()),
    ("the same receipt", [_ours("a", "R1/")], [_theirs("x", "R1/")], {"MATCHED a x"}),
    ("no receipt yet, but our reference", [_ours("a", "/O1")], [_theirs("x", "R1/O1")], {"MATCHED a x"}),
    (
        "two receipts for one order are two payments",
        [_ours("a", "R1/O1")],
        [_theirs("x", "R1/O1"), _theirs("y", "R2/O1")],
        {"MATCHED a x", "MISSING_HERE - y"},
    ),
    (
        "receipts that contradict are not overruled by the order",
        [_ours("a", "R1/O1")],
        [_theirs("y", "R2/O1")],
        {"MISSING_THERE a -", "MISSING_HERE - y"},
    ),
    (
        "of two lines with one receipt that of the right amount is the match",
        [_ours("a", "R1/", 700)],
        [_theirs("x", "R1/", 500), _theirs("y", "R1/", 700)],
        {"MATCHED a y", "DUPLICATE_THERE a x"},
    ),
    (
        "two records of ours for one line",
        [_ours("a", "R1/"), _ours("b", "R1/", 400)],
        [_theirs("x", "R1/")],
        {"MATCHED a x", "DUPLICATE_HERE b x"},
    ),
    (
        "a line again with the same receipt is that, though the first was known by our reference",
        [_ours("a", "/O1")],
        [_theirs("x", "R1/O1"), _theirs("y", "R1/O1", 400)],
        {"MATCHED a x", "DUPLICATE_THERE a y"},
    ),
    (
        "who has a receipt finds fewer partners, and chooses first",
        [_ours("a", "/O1"), _ours("b", "R1/O1")],
        [_theirs("x", "/O1"), _theirs("y", "R9/O1")],
        {"MATCHED a y", "MATCHED b x"},
    ),
    (
        "of several alike in name and money those with the same mark go together",
        [Ours("a", ("R1",), 500, "KES", mark="M1")],
        [Theirs("x", ("R1",), 500, "KES", mark="M2"), Theirs("y", ("R1",), 500, "KES", mark="M1", rank=1)],
        {"MATCHED a y", "DUPLICATE_THERE a x"},
    ),
    (
        "then those of the lower rank",
        [Ours("a", ("R1",), 500, "KES")],
        [Theirs("x", ("R1",), 400, "KES", rank=1), Theirs("y", ("R1",), 600, "KES")],
        {"AMOUNT_DIFFERS a y", "DUPLICATE_THERE a x"},
    ),
    ("another amount", [_ours("a", "R1/", 501)], [_theirs("x", "R1/")], {"AMOUNT_DIFFERS a x"}),
    ("another currency", [_ours("a", "R1/")], [_theirs("x", "R1/", currency="UGX")], {"AMOUNT_DIFFERS a x"}),
    ("another fee", [_ours("a", "R1/", fee=3)], [_theirs("x", "R1/", fee=2)], {"FEE_DIFFERS a x"}),
    ("no fee expected, so none differs", [_ours("a", "R1/")], [_theirs("x", "R1/", fee=2)], {"MATCHED a x"}),
    (
        "an amount that differs says so even if the fee does too",
        [_ours("a", "R1/", 1, fee=3)],
        [_theirs("x", "R1/")],
        {"AMOUNT_DIFFERS a x"},
    ),
    ("nothing names either", [_ours("a", "/")], [_theirs("x", "/")], {"MISSING_THERE a -", "MISSING_HERE - x"}),
]


@pytest.mark.parametrize(("ours", "theirs", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_case(ours: list[Ours[str]], theirs: list[Theirs[str]], expected: set[str]) -> None:
    assert _told(match(ours, theirs)) == expected
    assert {line.split()[0] for line in _told(match(ours[::-1], theirs[::-1]))} == {x.split()[0] for x in expected}


def _told(pairs: list[Pair[str, str]]) -> set[str]:
    return {f"{pair.is_} {pair.ours or '-'} {pair.theirs or '-'}" for pair in pairs}


_REFS = st.tuples(st.sampled_from(["", "R1", "R2", "R3"]), st.sampled_from(["", "O1", "O2"]))
_MONEY = st.tuples(st.sampled_from([100, 200, 300]), st.sampled_from(["KES", "UGX"]))
_MORE = st.tuples(st.sampled_from(["", "M1", "M2"]), st.sampled_from([0, 1]))
_OURS = st.lists(st.tuples(_REFS, _MONEY, st.sampled_from([None, 1, 2]), _MORE), max_size=12)
_THEIRS = st.lists(st.tuples(_REFS, _MONEY, st.sampled_from([1, 2]), _MORE), max_size=12)
_Here = list[tuple[tuple[str, str], tuple[int, str], int | None, tuple[str, int]]]
_There = list[tuple[tuple[str, str], tuple[int, str], int, tuple[str, int]]]


@given(_OURS, _THEIRS)
def test_every_record_is_in_exactly_one_class_and_the_sums_agree(here: _Here, there: _There) -> None:
    ours = {n: Ours(n, refs, *money, fee, *more) for n, (refs, money, fee, more) in enumerate(here)}
    theirs = {n: Theirs(n, refs, *money, fee, *more) for n, (refs, money, fee, more) in enumerate(there)}
    pairs = match(ours.values(), theirs.values())

    assert Counter(p.ours for p in pairs if p.is_ is not Class.DUPLICATE_THERE and p.ours is not None) == Counter(
        ours.keys()
    )
    assert Counter(p.theirs for p in pairs if p.is_ is not Class.DUPLICATE_HERE and p.theirs is not None) == Counter(
        theirs.keys()
    )
    # What they say less what we say is what the differing, the missing and the repeated come to.
    both = sum(one.amount_minor for one in theirs.values()) - sum(one.amount_minor for one in ours.values())
    explained = 0
    for pair in pairs:
        mine = ours[pair.ours] if pair.ours is not None else None
        its = theirs[pair.theirs] if pair.theirs is not None else None
        if pair.is_ in (Class.MISSING_HERE, Class.DUPLICATE_THERE):
            assert its is not None
            explained += its.amount_minor
        elif pair.is_ in (Class.MISSING_THERE, Class.DUPLICATE_HERE):
            assert mine is not None
            explained -= mine.amount_minor
        else:
            assert mine is not None and its is not None and pair.by is not None
            assert mine.refs[pair.by] == its.refs[pair.by] != ""
            assert not any(mine.refs[level] and its.refs[level] for level in range(pair.by))
            explained += its.amount_minor - mine.amount_minor
            if pair.is_ is not Class.AMOUNT_DIFFERS:
                assert (mine.amount_minor, mine.currency) == (its.amount_minor, its.currency)
    assert both == explained


@given(_OURS, _THEIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_records_changes_nothing(here: _Here, there: _There, chance: Random) -> None:
    ours = [Ours(n, refs, *money, fee, *more) for n, (refs, money, fee, more) in enumerate(here)]
    theirs = [Theirs(n, refs, *money, fee, *more) for n, (refs, money, fee, more) in enumerate(there)]
    before = match(ours, theirs)
    chance.shuffle(ours)
    chance.shuffle(theirs)
    after = match(ours, theirs)

    def what(pair: Pair[int, int]) -> tuple[object, ...]:
        # Records that are alike in everything may stand for each other.
        return (
            pair.is_,
            pair.by,
            None if pair.ours is None else here[pair.ours],
            None if pair.theirs is None else there[pair.theirs],
        )

    assert Counter(map(what, after)) == Counter(map(what, before))
