"""Statements in the books: taken in once, matched whatever the order, decided by people, booked to bank and fees.

Payments are put into the books as rows here; how they get there from a source is tested with the payments.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger import audit, books, entries, settlement, settlement_reports, statementlines, statementmatch
from ledger.accounts import id_of
from ledger.audit import Origin, Verified
from ledger.matching import Class
from ledger.operators import Operator, OperatorRefused, Role
from ledger.payment_tables import payment, payment_event, source_refund, suspense
from ledger.records import ensure_accounts
from ledger.settlement import Payout, SettlementFault, SettlementRefused
from ledger.settlement_tables import settlement_item, statement_line
from ledger.statementlines import Line, Numbered
from ledger.statementmatch import Fees, Missing
from ledger.store import migrate, open_store
from ledger.trial_balance import broken_invariants
from tests.simulation.world import SeededWorld

ZOE: Final = Operator("fin.zoe", "Zoe", frozenset({Role.FINANCE}), "en", None)
MAX: Final = Operator("fin.max", "Max", frozenset({Role.FINANCE}), "en", None)
BEN: Final = Operator("op.ben", "Ben", frozenset({Role.SUPERVISOR}), "en", "ST001")
NAIROBI: Final = ZoneInfo("Africa/Nairobi")
AT: Final = datetime(2026, 6, 3, 9, 0, tzinfo=UTC)
DAY: Final = date(2026, 6, 3)


def line(receipt: str, amount: int = 50000, kind: str = "PAYMENT", **more: Any) -> Line:
    """A line of 3 June; fees and refunds as the readers give them."""
    given = Line(kind, receipt, "", "", "254711013579", "", AT, DAY, amount, 0, "KES")
    return replace(given, **more)


_T = TypeVar("_T")


class _Undone(Exception):
    """Takes back what an example did."""


class Bench:
    """The books of a test: payments as rows, statements, runs of matching."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.world = SeededWorld()

    def origin(self, reason: str = "as agreed by phone") -> Origin:
        return Origin("fin.zoe", self.world.now(), "test", reason)

    def paid(
        self,
        receipt: str | None,
        amount: int = 50000,
        *,
        at: datetime = AT,
        is_paid: bool = True,
        currency: str = "KES",
        source: str = "mpesa",
    ) -> UUID:
        """A payment as the books of payments leave it, with its posting."""
        new_id = self.world.new_id()
        row = {
            "id": new_id, "source": source, "purpose": "METER", "state": "SETTLED", "provider_ref": "",
            "receipt": receipt, "payer": "254711013579", "account_ref": "", "amount_minor": amount,
            "paid_minor": amount if is_paid else None, "currency": currency, "created_at": at,
            "paid_at": at if is_paid else None, "tries": 0,
        }  # fmt: skip
        self.connection.execute(sa.insert(payment), row)
        if is_paid:
            self.post(source, amount, at)
        return new_id

    def post(self, source: str, amount: int, at: datetime) -> None:
        ensure_accounts(self.connection, (f"clearing:{source}", "opening:balances"), "KES")
        legs = entries.moved(id_of(f"clearing:{source}"), id_of("opening:balances"), amount)
        txn_id = UUID(int=(int(at.timestamp()) * 1000 << 80) | 0x7 << 76 | 2 << 62 | random.getrandbits(60))
        books.record(self.connection, txn_id, "payment", legs, business_date=at.date(), recorded_at=at)

    def statement(self, name: str, lines: Sequence[Line], source: str = "mpesa", pages: int = 2) -> int:
        """Take a file in, some lines at a time; how many were new."""
        c, origin = self.connection, self.origin()
        taken = statementlines.begin(c, self.world.new_id(), source, "neutral", name, f"sha of {name}", origin)
        before: dict[str, int] = {}
        numbered = []
        for number, one in enumerate(lines, start=2):
            identity = one.identity(source)
            numbered.append(Numbered(number, before.get(identity, 0), one))
            before[identity] = before.get(identity, 0) + 1
        new = 0
        for start in range(0, len(numbered), pages):
            page = numbered[start : start + pages]
            new += statementlines.store(c, taken, page, new_id=self.world.new_id, now=origin.at)
        statementlines.complete(c, taken, len(lines), new, 0, origin)
        return new

    def match(self, fees: Fees | None = None, source: str = "mpesa", limit: int = 3) -> list[Missing]:
        """Match everything that is new; what is missing here."""
        missing: list[Missing] = []
        while True:
            page = statementmatch.match_page(
                self.connection, source, fees=fees, now=self.world.now(), limit=limit
            )  # fmt: skip
            if not page.count:
                return missing
            missing += page.missing

    def missing_there(self, until: datetime, source: str = "mpesa") -> int:
        missed = 0
        while True:
            looked, found = statementmatch.find_missing_there(
                self.connection, source, until, NAIROBI, new_id=self.world.new_id, now=self.world.now(), limit=2
            )
            if not looked:
                return missed
            missed += found

    def classes(self) -> dict[str, list[str]]:
        """The receipts in each class, of what is not resolved."""
        found: dict[str, list[str]] = {}
        for item in settlement.listed(self.connection, everything=True):
            if item.resolution is None:
                found.setdefault(item.class_, []).append(item.receipt)
        return {name: sorted(receipts) for name, receipts in found.items()}

    def item(self, class_: str) -> UUID:
        (found,) = settlement.listed(self.connection, class_=class_)
        return found.id

    def balance(self, code: str) -> int:
        from ledger import tables

        p = tables.posting.c
        wanted = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(p.account_id == id_of(code))
        return int(self.connection.execute(wanted).scalar_one())

    def resolve(
        self, item: UUID, how: str, beside: Operator | None = MAX, by: Operator = ZOE, why: str = "seen"
    ) -> None:
        settlement.resolve(
            self.connection, item, how, self.world.new_id(), DAY, "KES", by=by, beside=beside, origin=self.origin(why)
        )

    def book(
        self, ref: str, paid: int, beside: Operator | None = MAX, by: Operator = ZOE, through: date = DAY
    ) -> tuple[settlement.Batch, bool]:
        new = (self.world.new_id(), f"B{self.world.new_id().hex[-8:]}", self.world.new_id())
        payout = Payout("mpesa", ref, "main", paid, DAY, through)
        return settlement.book(
            self.connection, new, payout, "KES", DAY, by=by, beside=beside, origin=self.origin()
        )  # fmt: skip


def on(url: str, test: Callable[[Bench], None]) -> None:
    """Run a test in one transaction; the books hold afterwards."""

    def work(connection: sa.Connection) -> None:
        test(Bench(connection))

    async def run() -> None:
        store = await open_store(url)
        try:
            await store.transact(work)
            assert await store.read(broken_invariants) == []
            assert isinstance(await store.read(audit.verify), Verified)
        finally:
            await store.close()

    asyncio.run(run())


@cache
def _engine(url: str) -> sa.Engine:
    """One for all examples, which so compile each statement once."""
    return sa.create_engine(url, poolclass=sa.NullPool)


def ends(url: str, history: Callable[[Bench], _T]) -> _T:
    """What a history comes to, on books that are as they were afterwards: nothing is committed."""
    with _engine(url).connect() as connection:
        return history(Bench(connection))


def test_a_file_and_its_lines_are_taken_in_once(database_url: str) -> None:
    def test(b: Bench) -> None:
        alike = line("", 10000, our_ref="SLIP")
        lines = [line("R1"), line("R2"), alike, alike]
        assert b.statement("june-3", lines) == 4
        assert b.statement("june-3", lines) == 0
        assert b.statement("june, overlapping", [alike, line("R2"), line("R3"), alike]) == 1
        assert b.statement("thrice", [alike] * 3) == 1
        assert len(statementlines.files(b.connection, "mpesa")) == 3
        assert b.statement("another source", [line("R1")], source="other") == 1

    on(database_url, test)


def test_lines_and_the_files_they_came_in_are_never_changed(database_url: str) -> None:
    def test(b: Bench) -> None:
        b.statement("june-3", [line("R1")])
        for statement in (
            sa.update(statement_line).values(amount_minor=1),
            sa.delete(statement_line),
            sa.update(settlement_item).values(source="x"),
        ):
            with pytest.raises(sa.exc.DBAPIError), b.connection.begin_nested():
                b.connection.execute(statement)

    on(database_url, test)


def test_every_class_is_told_from_the_others(database_url: str) -> None:
    fees = Fees(Decimal("0.5"), 0)

    def test(b: Bench) -> None:
        ref = b.paid(None)  # known by our reference only
        for receipt in ("R1", "R3", "R4", "R5"):
            b.paid(receipt)
        b.paid("R8", is_paid=False)
        b.statement(
            "june-3",
            [
                line("R1", fee_minor=250),
                line("R2", fee_minor=250, our_ref=str(ref)),
                line("R3", 49900, fee_minor=250),
                line("R4", fee_minor=300),
                line("R7", fee_minor=250),
                line("R8", fee_minor=250),
                line("R1", 40000, fee_minor=250),
                line("P1", -100000, "PAYOUT"),
                line("", 0, "FEE", fee_minor=75),
            ],
        )
        missing = b.match(fees)
        assert {(one.receipt, one.said) for one in missing} == {("R7", "SUCCESS"), ("R8", "SUCCESS")}
        assert b.missing_there(AT + timedelta(days=1)) == 1
        found = b.classes()
        assert found == {
            "MATCHED": ["R1", "R2"], "AMOUNT_DIFFERS": ["R3"], "FEE_DIFFERS": ["R4"], "MISSING_HERE": ["R7", "R8"],
            "MISSING_THERE": ["R5"], "DUPLICATE_THERE": ["R1"], "PAYOUT": ["P1"], "FEE": [""],
        }  # fmt: skip
        # Again changes nothing.
        assert b.match(fees) == [] and b.missing_there(AT + timedelta(days=1)) == 0
        assert b.classes() == found

    on(database_url, test)


def test_a_fee_in_a_line_of_its_own_counts_for_the_payment_whatever_file_it_stands_in(database_url: str) -> None:
    fees = Fees(Decimal("0"), 250)

    def test(b: Bench) -> None:
        b.paid("R1")
        b.statement("first", [line("R1")])
        b.match(fees)
        assert b.classes() == {"FEE_DIFFERS": ["R1"]}
        b.statement("second", [line("R1", 0, "FEE", fee_minor=250)])
        b.match(fees)
        assert b.classes() == {"MATCHED": ["R1"], "FEE": ["R1"]}

    on(database_url, test)


def test_what_was_missing_is_matched_once_it_is_there(database_url: str) -> None:
    def test(b: Bench) -> None:
        b.paid("R1")
        assert b.missing_there(AT + timedelta(days=1)) == 1
        b.statement("late", [line("R1"), line("R2")])
        (missing,) = b.match()
        assert b.classes() == {"MATCHED": ["R1"], "MISSING_HERE": ["R2"]}
        assert statementmatch.still_missing(b.connection, "mpesa", None) == [missing.item_id]
        b.paid("R2")  # as the payments do when they are told
        page = statementmatch.match_again(b.connection, "mpesa", [missing.item_id], fees=None, now=b.world.now())
        assert page.classes == {"MATCHED": 1}
        assert statementmatch.still_missing(b.connection, "mpesa", None) == []
        (item,) = [x for x in settlement.listed(b.connection, everything=True) if x.receipt == "R2"]
        assert (item.class_, item.found) == ("MATCHED", "MISSING_HERE")

    on(database_url, test)


def test_a_reversal_is_that_of_the_payment_it_names(database_url: str) -> None:
    def test(b: Bench) -> None:
        payment_id = b.paid("R1")
        b.paid("R2")
        b.connection.execute(
            sa.insert(payment_event),
            {
                "id": b.world.new_id(), "payment_id": payment_id, "source": "mpesa", "heard": "CALLBACK",
                "said": "REVERSED", "outcome": "", "receipt": "R1", "provider_ref": "", "payer": "", "currency": "KES",
                "detail": "", "occurred_at": AT, "recorded_at": AT,
            },
        )  # fmt: skip
        b.statement(
            "june-3",
            [
                line("R1"), line("V1", -50000, "REVERSAL", linked="R1"), line("R2"),
                line("V2", -50000, "REVERSAL", linked="R2"), line("V3", -50000, "REVERSAL", linked="R1"),
            ],
        )  # fmt: skip
        missing = b.match()
        assert [(one.said, one.receipt, one.amount_minor) for one in missing] == [("REVERSED", "R2", 50000)]
        assert b.classes() == {
            "MATCHED": ["R1", "R2", "V1"], "MISSING_HERE": ["V2"], "DUPLICATE_THERE": ["V3"],
        }  # fmt: skip

    on(database_url, test)


def test_a_refund_is_known_by_the_sources_name_for_it_or_by_the_payment_it_is_of(database_url: str) -> None:
    def test(b: Bench) -> None:
        for receipt, ref, state in (("R1", "REF1", "DONE"), ("R2", "our own", "DONE"), ("R3", "REF3", "ASKED")):
            payment_id, item_id = b.paid(receipt), b.world.new_id()
            b.connection.execute(
                sa.insert(suspense),
                {
                    "id": item_id, "code": receipt, "payment_id": payment_id, "source": "mpesa", "payer": "",
                    "account_ref": "", "amount_minor": 50000, "currency": "KES", "reason": "NO_ORDER",
                    "state": "RESOLVED", "opened_at": AT,
                },
            )  # fmt: skip
            b.connection.execute(
                sa.insert(source_refund),
                {
                    "id": b.world.new_id(), "item_id": item_id, "source": "mpesa", "receipt": receipt, "payer": "",
                    "amount_minor": 50000, "currency": "KES", "state": state, "provider_ref": ref, "created_at": AT,
                    "tries": 1,
                },
            )  # fmt: skip
        b.statement(
            "june-3",
            [
                line("REF1", -50000, "REFUND"), line("X2", -49000, "REFUND", linked="R2"),
                line("REF3", -50000, "REFUND"), line("REF9", -50000, "REFUND"),
            ],
        )  # fmt: skip
        assert b.match() == []  # a refund is never taken into the payments
        assert b.classes() == {"MATCHED": ["REF1"], "AMOUNT_DIFFERS": ["X2"], "MISSING_HERE": ["REF3", "REF9"]}
        raise _Undone  # rows without the deeds that make them: the books of payments do not hold

    with pytest.raises(_Undone):
        on(database_url, test)


def test_differing_money_is_decided_by_two_people_with_a_reason(database_url: str) -> None:
    def test(b: Bench) -> None:
        b.paid("R1")
        b.paid("R2")
        b.statement("june-3", [line("R1", 49900), line("R2", fee_minor=1)])
        b.match(Fees(Decimal(0), 0))
        differs = b.item(Class.AMOUNT_DIFFERS)
        with pytest.raises(OperatorRefused):
            b.resolve(differs, settlement.WRITTEN_OFF, beside=None)
        with pytest.raises(OperatorRefused):
            b.resolve(differs, settlement.WRITTEN_OFF, beside=ZOE)
        with pytest.raises(OperatorRefused):
            b.resolve(differs, settlement.ACCEPTED, by=BEN)
        with pytest.raises(SettlementRefused, match="a reason is needed"):
            b.resolve(differs, settlement.WRITTEN_OFF, why=" ")
        b.resolve(differs, settlement.WRITTEN_OFF)
        assert b.balance("clearing:mpesa") == -99900 and b.balance("expense:settlement:mpesa") == -100
        with pytest.raises(SettlementRefused, match="nothing to decide"):
            b.resolve(differs, settlement.ACCEPTED)
        fee = b.item(Class.FEE_DIFFERS)
        with pytest.raises(SettlementRefused, match="does not differ"):
            b.resolve(fee, settlement.WRITTEN_OFF)
        b.resolve(fee, settlement.ACCEPTED, beside=None)
        with pytest.raises(SettlementRefused, match="there is no item"):
            b.resolve(b.world.new_id(), settlement.ACCEPTED)
        # What a person decided stays, whatever comes later.
        b.statement("again", [line("R1", 49900, payer="x")])
        b.match(Fees(Decimal(0), 0))
        assert [one.resolution for one in settlement.listed(b.connection, item_id=differs)] == [settlement.WRITTEN_OFF]

    on(database_url, test)


def test_a_payout_is_booked_once_with_the_fees_until_then(database_url: str) -> None:
    def test(b: Bench) -> None:
        b.paid("R1")
        b.paid("R2")
        later = replace(line("R2", fee_minor=250), day=date(2026, 6, 4))
        b.statement("june", [line("R1", fee_minor=200), line("", 0, "FEE", fee_minor=75), later,
                             line("P1", -60000, "PAYOUT")])  # fmt: skip
        b.match()
        with pytest.raises(SettlementRefused) as refused:
            b.book("P1", 60001)
        assert refused.value.fault is SettlementFault.DIFFERS
        batch, is_new = b.book("P1", 60000, beside=None)  # the statement has it: one person
        assert is_new and (batch.paid_minor, batch.fee_minor) == (60000, 275)
        assert b.book("P1", 60000, beside=None) == (batch, False)
        with pytest.raises(SettlementRefused):
            b.book("P1", 50000)
        with pytest.raises(OperatorRefused):
            b.book("P2", 10000, beside=None)  # nobody but us says so
        second, _ = b.book("P2", 10000, through=date(2026, 6, 4))
        assert second.fee_minor == 250 and second.beside == "fin.max"
        assert b.balance("bank:main") == -70000 and b.balance("expense:fees:mpesa") == -525
        assert b.balance("clearing:mpesa") == -100000 + 70000 + 525
        assert [one.class_ for one in settlement.listed(b.connection)] == []
        with pytest.raises(SettlementRefused):
            b.book(" ", 10000)
        with pytest.raises(SettlementRefused):
            b.book("P3", 0)
        with pytest.raises(OperatorRefused):
            b.book("P3", 100, by=BEN)

    on(database_url, test)


def test_what_is_in_clearing_is_the_newest_of_what_came(database_url: str) -> None:
    midnight = datetime(2026, 6, 30, tzinfo=NAIROBI)

    def test(b: Bench) -> None:
        for days, amount in ((0, 100), (1, 200), (2, 400), (7, 800), (8, 1600), (30, 3200), (31, 6400)):
            b.post("mpesa", amount, midnight - timedelta(days=days))
        (whole,) = settlement_reports.clearing(b.connection, midnight)
        assert whole.ages_minor == (300, 1200, 4800, 6400) and whole.balance_minor == 12700
        b.post("other", 5, midnight - timedelta(days=3))
        # What is paid out is the oldest.
        b.book("P1", 6400 + 3200)
        whole, other = settlement_reports.clearing(b.connection, midnight)
        assert whole.ages_minor == (300, 1200, 1600, 0) and other.ages_minor == (0, 5, 0, 0)
        b.book("P2", 4000)
        (whole, _) = settlement_reports.clearing(b.connection, midnight)
        assert whole.balance_minor == -900 and whole.ages_minor == (-900, 0, 0, 0)

    on(database_url, test)


# --- any history ------------------------------------------------------------------------------------------------------

_RECEIPTS: Final = ("R1", "R2", "R3", "R4")
_OURS = st.lists(st.tuples(st.sampled_from(_RECEIPTS), st.sampled_from([100, 200]), st.booleans()), max_size=5)
_THEIRS = st.lists(
    st.tuples(st.sampled_from(_RECEIPTS), st.sampled_from([100, 200]), st.sampled_from([0, 5]), st.booleans()),
    max_size=8,
)


@pytest.fixture(scope="module")
def one_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('settlement')}/test.db"
    asyncio.run(migrate(url))
    return url


@given(_OURS, _THEIRS, st.lists(st.integers(0, 99), min_size=8, max_size=8), st.integers(1, 4))
@example(  # a fee in a row of its own, two lines of its receipt, one of them of the sum we were paid
    [("R2", 200, True)], [("R2", 100, 0, False), ("R2", 100, 0, True), ("R2", 200, 5, False)], [0] * 8, 1
)
@settings(max_examples=50, deadline=None)
def test_any_history_puts_every_line_in_one_class_and_the_sums_agree(
    one_database: str, ours: list[Any], theirs: list[Any], order: list[int], limit: int
) -> None:
    def history(b: Bench, is_shuffled: bool) -> dict[str, list[str]]:
        seen: set[str] = set()
        for receipt, amount, is_paid in ours:
            if receipt not in seen:  # a receipt is one payment: a rule of the table
                b.paid(receipt, amount, is_paid=is_paid)
            seen.add(receipt)
        lines = [line(r, 0, "FEE", fee_minor=a) if is_fee else line(r, a, fee_minor=f) for r, a, f, is_fee in theirs]
        half = len(lines) // 2
        files = {"one": lines[:half], "two": lines[half:]}
        if is_shuffled:  # the files in another order, and the lines in each
            ranked = {
                name: sorted(zip(order, part, strict=False), key=lambda pair: pair[0]) for name, part in files.items()
            }
            files = {name: [one for _, one in ranked[name]] for name in ("two", "one")}
        for name, part in (*files.items(), ("one again", files["one"])):
            b.statement(name, part)
            b.match(Fees(Decimal(0), 5), limit=limit)
        b.missing_there(AT + timedelta(days=1))
        items = [x for x in settlement.listed(b.connection, everything=True, limit=10_000) if x.resolution is None]
        stored = b.connection.execute(sa.select(statement_line.c.kind, statement_line.c.amount_minor)).all()
        assert len([item for item in items if item.theirs_minor is not None]) == len(stored)
        assert not [item for item in items if item.class_ == "NEW"]
        paid = b.connection.execute(
            sa.select(sa.func.coalesce(sa.func.sum(payment.c.paid_minor), 0))
        ).scalar_one()  # fmt: skip
        # What they say less what we say is what is open, to the cent.
        assert sum(row.amount_minor for row in stored) - paid == sum(
            item.difference_minor for item in items if item.class_ != "MATCHED"
        )
        assert broken_invariants(b.connection) == []
        return b.classes()

    assert ends(one_database, lambda b: history(b, False)) == ends(one_database, lambda b: history(b, True))
