"""Settlement in any order: the same payments and lines end in the same classes, whatever came first, in which file.

Payments known by receipt or by our reference only, fees, refunds, reversals and payouts in rows of their own, deposits
by slip, files that overlap, pages of one line, payments booked between two files.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import settlement, statementmatch
from ledger.matching import Class
from ledger.payment_tables import payment, payment_event, source_refund, suspense
from ledger.records import ensure_accounts
from ledger.settlement_tables import settlement_item, statement_line
from ledger.statementlines import Line
from ledger.statementmatch import Fees
from ledger.stations_tables import deposit
from ledger.store import migrate
from tests.ledger.test_settlement import AT, Bench, ends, line, on

FEES: Final = Fees(Decimal(0), 5)
_END: Final = AT + timedelta(days=1)


@dataclass(frozen=True)
class Paid:
    """A payment of ours: its number, receipt, sum; None paid: asked for. Whether it was told as taken back."""

    number: int
    receipt: str | None
    amount: int
    is_paid: bool
    is_reversed: bool
    refund: str | None

    @property
    def id(self) -> UUID:
        return UUID(int=0xA << 80 | self.number)


@dataclass(frozen=True)
class Slip:
    number: int
    slip: str
    amount: int
    state: str

    @property
    def id(self) -> UUID:
        return UUID(int=0xB << 80 | self.number)


def booked(b: Bench, source: str, one: Paid, step: int) -> None:
    row = {
        "id": one.id, "source": source, "purpose": "METER", "state": "SETTLED", "provider_ref": "",
        "receipt": one.receipt, "payer": "", "account_ref": "", "amount_minor": one.amount,
        "paid_minor": one.amount if one.is_paid else None, "currency": "KES", "created_at": AT,
        "paid_at": AT + timedelta(minutes=step) if one.is_paid else None, "tries": 0,
    }  # fmt: skip
    b.connection.execute(sa.insert(payment), row)
    if one.is_reversed:
        event = {
            "id": b.world.new_id(), "payment_id": one.id, "source": source, "heard": "CALLBACK", "said": "REVERSED",
            "outcome": "", "receipt": one.receipt or "", "provider_ref": "", "payer": "", "currency": "KES",
            "detail": "", "occurred_at": AT, "recorded_at": AT,
        }  # fmt: skip
        b.connection.execute(sa.insert(payment_event), event)
    if one.refund is not None:
        item = {
            "id": UUID(int=0xC << 80 | one.number), "code": f"S{one.number}", "payment_id": one.id, "source": source,
            "payer": "", "account_ref": "", "amount_minor": one.amount, "currency": "KES", "reason": "NO_ORDER",
            "state": "RESOLVED", "opened_at": AT,
        }  # fmt: skip
        b.connection.execute(sa.insert(suspense), item)
        refund = {
            "id": UUID(int=0xD << 80 | one.number), "item_id": item["id"], "source": source,
            "receipt": one.receipt or "", "payer": "", "amount_minor": one.amount, "currency": "KES",
            "state": "DONE", "provider_ref": one.refund, "created_at": AT, "tries": 1,
        }  # fmt: skip
        b.connection.execute(sa.insert(source_refund), refund)


def entered(b: Bench, one: Slip) -> None:
    ensure_accounts(b.connection, ("clearing:bank",), "KES")
    row = {
        "id": one.id, "code": f"D{one.number}", "state": one.state, "bank": "kcb", "slip": one.slip,
        "amount_minor": one.amount, "paid_on": date(2026, 6, 3), "entered_by": "op.ben", "entered_at": AT,
    }  # fmt: skip
    b.connection.execute(sa.insert(deposit), row)


def run(b: Bench, source: str, limit: int) -> None:
    """As a run of the gateway does, with payments that take nothing in."""
    after: UUID | None = None
    while items := statementmatch.still_missing(b.connection, source, after, limit):
        after = items[-1]
        statementmatch.match_again(b.connection, source, items, fees=FEES, now=b.world.now())
    b.match(FEES, source, limit)
    b.missing_there(_END, source)


def outcome(b: Bench) -> Counter[tuple[Any, ...]]:
    """What every line and every payment without one has come to."""
    i, t = settlement_item.c, statement_line.c
    # Which payment a fee in a row of its own is about is told to people only, and not looked up again.
    about = sa.case((i["class"] != statementmatch.FEE, i.payment_id))
    wanted = sa.select(
        i["class"], about, i.ours_minor, i.theirs_minor, t.kind, t.receipt, t.linked, t.our_ref, t.fee_minor,
        t.currency,
    ).select_from(settlement_item.join(statement_line, t.id == i.line_id, isouter=True))  # fmt: skip
    return Counter(tuple(row) for row in b.connection.execute(wanted.where(i.resolution.is_(None))))


@pytest.fixture(scope="module")
def one_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('settlement')}/test.db"
    asyncio.run(migrate(url))
    return url


def test_a_refund_that_stands_in_two_files_under_two_names_is_one(one_database: str) -> None:
    lines = [line("F1", -50000, "REFUND", linked="R1"), line("F2", -50000, "REFUND")]
    for order in (lines, lines[::-1]):

        def history(b: Bench, order: list[Line] = order) -> list[str]:
            booked(b, "mpesa", Paid(1, "R1", 50000, True, False, "F2"), 0)
            for number, one in enumerate(order):
                b.statement(f"file {number}", [one])
                run(b, "mpesa", 1)
            # Another line about the payment takes up what is known of it.
            b.statement("last", [line("R1", 0, "FEE", fee_minor=5)])
            run(b, "mpesa", 1)
            return sorted(class_ for class_, receipts in b.classes().items() for name in receipts if name[0] == "F")

        assert ends(one_database, history) == [Class.DUPLICATE_THERE, Class.MATCHED]


def test_a_slip_that_the_bank_lists_in_two_files_is_one_deposit(one_database: str) -> None:
    def history(b: Bench) -> dict[str, list[str]]:
        entered(b, Slip(1, "S1", 50000, "APPROVED"))
        for number, (receipt, slip) in enumerate((("TX1", "S1"), ("TX2", "s 1"))):
            b.statement(f"file {number}", [line(receipt, our_ref=slip)], "bank")
            run(b, "bank", 1)
        return b.classes()

    # Two transfers with one slip: the second is money that our books do not have.
    assert ends(one_database, history) == {"MATCHED": ["TX1"], "MISSING_HERE": ["TX2"]}


def test_a_payment_whose_line_proves_to_be_of_another_is_missing_there_again(database_url: str) -> None:
    def test(b: Bench) -> None:
        only_asked = b.paid(None)
        b.statement("one", [line("R9", our_ref=str(only_asked))])
        run(b, "mpesa", 1)
        assert b.classes() == {"FEE_DIFFERS": ["R9"]}
        other = b.paid("R9")  # by its receipt it is the line's, and that is the stronger
        b.statement("two", [line("R9", 0, "FEE", fee_minor=5)])
        run(b, "mpesa", 1)
        run(b, "mpesa", 1)
        items = [one for one in settlement.listed(b.connection, everything=True) if one.resolution is None]
        assert [(one.class_, one.ours_minor, one.theirs_minor) for one in items if one.kind != "FEE"] == [
            ("MATCHED", 50000, 50000), ("MISSING_THERE", 50000, None),
        ]  # fmt: skip
        i = settlement_item.c
        about = {row[0]: row[1] for row in b.connection.execute(sa.select(i["class"], i.payment_id))}
        assert (about["MATCHED"], about["MISSING_THERE"]) == (other, only_asked)

    on(database_url, test)


def test_what_people_decided_of_a_payment_is_not_matched_a_second_time(database_url: str) -> None:
    def test(b: Bench) -> None:
        b.paid("R1")
        b.paid("R2")
        b.statement("one", [line("R1", 49900, fee_minor=5)])
        run(b, "mpesa", 1)
        for class_ in (Class.AMOUNT_DIFFERS, Class.MISSING_THERE):
            b.resolve(b.item(class_), settlement.WRITTEN_OFF)
        # The money that was given up comes after all, and that of the other again: somebody is to see both.
        b.statement("two", [line("R1", 50000, fee_minor=5), line("R2", fee_minor=5)])
        run(b, "mpesa", 1)
        assert b.classes() == {"DUPLICATE_THERE": ["R1"], "MISSING_HERE": ["R2"]}
        assert sum(one.difference_minor for one in settlement.listed(b.connection)) == 100000

    on(database_url, test)


_R, _REF = st.sampled_from(["R1", "R2", "R3"]), st.sampled_from(["F1", "F2"])
_SUM = st.sampled_from([100, 200])
_PAID = st.builds(
    Paid, st.integers(1, 3), _R | st.none(), _SUM, st.booleans(), st.booleans(), st.none() | _REF
)  # fmt: skip
_SLIPS = st.builds(
    Slip, st.integers(1, 2), st.sampled_from(["S1", "S2"]), _SUM, st.sampled_from(["ENTERED", "APPROVED"])
)
_NAMED = st.sampled_from(["", str(UUID(int=0xA << 80 | 1)), str(UUID(int=0xA << 80 | 2)), "s1", "S 2"])
_LINES = st.lists(
    st.one_of(
        st.builds(
            lambda r, amount, fee, ref, currency: line(r, amount, fee_minor=fee, our_ref=ref, currency=currency),
            _R | st.sampled_from(["", "S1", "s 1"]), _SUM, st.sampled_from([0, 5]), _NAMED,
            st.sampled_from(["KES", "KES", "UGX"]),
        ),
        st.builds(lambda r, linked: line(r, 0, "FEE", fee_minor=5, linked=linked), _R, _R | st.just("")),
        st.builds(lambda r, linked, n: line(r, -n, "REFUND", linked=linked), _REF, _R | st.just(""), _SUM),
        st.builds(lambda r, linked, n: line(r, -n, "REVERSAL", linked=linked), st.just("V"), _R, _SUM),
        st.just(line("P1", -300, "PAYOUT")),
    ),
    max_size=7,
)  # fmt: skip


@given(
    st.sampled_from(["mpesa", "bank"]),
    st.lists(_PAID, max_size=3, unique_by=(lambda one: one.number, lambda one: one.receipt or one.number)),
    st.lists(_SLIPS, max_size=2, unique_by=(lambda one: one.number, lambda one: one.slip)),
    _LINES,
    st.randoms(use_true_random=False),
)
@settings(max_examples=30, deadline=None)
def test_any_order_ends_the_same(
    one_database: str, source: str, ours: list[Paid], slips: list[Slip], lines: list[Line], chance: Random
) -> None:
    def at_once(b: Bench) -> Counter[tuple[Any, ...]]:
        for step, one in enumerate(ours):
            booked(b, source, one, step)
        for slip in slips:
            entered(b, slip)
        b.statement("all", lines, source)
        run(b, source, 100)
        return outcome(b)

    def in_pieces(b: Bench) -> Counter[tuple[Any, ...]]:
        deeds: list[Any] = [*ours, *slips, *(chance.sample(lines, chance.randint(0, len(lines))) for _ in range(3))]
        chance.shuffle(deeds)
        # At last a file with all, as they overlap; lines that are alike are as many as one file has.
        for number, deed in enumerate([*deeds, chance.sample(lines, len(lines))]):
            if isinstance(deed, Paid):
                booked(b, source, deed, number)
            elif isinstance(deed, Slip):
                entered(b, deed)
            else:
                b.statement(f"file {number}", deed, source)
            if chance.random() < 0.7:
                run(b, source, chance.randint(1, 3))
        # Until nothing changes: a run takes up what one before it left.
        # A line is looked at again when something about it comes in; here all are, as the last deeds were payments.
        lines_of = sa.select(settlement_item.c.id).where(settlement_item.c.line_id.is_not(None))
        for _ in range(10):
            before = outcome(b)
            items = list(b.connection.execute(lines_of.order_by(settlement_item.c.id)).scalars())
            for item in chance.sample(items, len(items)):
                statementmatch.match_again(b.connection, source, [item], fees=FEES, now=b.world.now())
            run(b, source, chance.randint(1, 3))
            if outcome(b) == before:
                return before
        raise AssertionError("a run that is repeated goes on changing what lines are")

    whole = ends(one_database, at_once)
    assert ends(one_database, in_pieces) == whole
    # What they say less what we say is what is open, to the cent.
    paid = sum(one.amount for one in ours if one.is_paid)
    told = sum(one.amount_minor for one in lines if one.kind == "PAYMENT")
    open_minor = sum(
        count * ((theirs or 0) - (mine or 0))
        for (class_, _, mine, theirs, kind, *_), count in whole.items()
        if kind in (None, "PAYMENT") and class_ != Class.MATCHED
    )
    deposited = {slip.id: slip.amount for slip in slips}
    by_slip = sum(mine for (_, about, mine, *_), count in whole.items() if about in deposited and mine is not None)
    assert told - paid - by_slip == open_minor
