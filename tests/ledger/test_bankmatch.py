"""The match of a bank's day: every class by a row, then any day at all; then files and deeds in both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ledger import audit, bankdays, tables
from ledger.audit import Origin
from ledger.bank_tables import bank_request
from ledger.bankday_tables import bank_file_line
from ledger.bankdays import BankDayFault, BankDayRefused, Payment
from ledger.bankfile import Header, Line, key_of, read, written
from ledger.bankmatch import AGREED, OWNER, Class, Finding, Ours, Theirs, match
from ledger.operators import Operator, OperatorRefused, Role
from ledger.store import Store, open_store
from ledger.trial_balance import trial_balance

DAY, NEXT = date(2026, 11, 22), date(2026, 11, 23)
NOW = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
ZOE = Operator("fin.zoe", "Zoe", frozenset({Role.FINANCE}), "en", None)
MAX = Operator("fin.max", "Max", frozenset({Role.FINANCE}), "en", None)
ANN = Operator("op.ann", "Ann", frozenset({Role.VENDOR}), "en", "ST001")
LINE = Line(
    DAY, "1122093015", "000124", "113015", "1122", "R124", "ATM1", "627001", "04012345676", 50_000, "KES", "00", "",
    False,
)  # fmt: skip
OURS = Ours("ATM1/124/R124", UUID(int=1), "04012345676", 50_000, True, False, None, False, "DELIVERED")
SEALED = replace(OURS, is_reversed=True, reversed_on=DAY, state="SEALED")
DECLINED = replace(OURS, is_sold=False, state=None)
BACK = replace(LINE, is_reversed=True)
NO = replace(LINE, code="51")

# ours, theirs, class, what we say that the bank owes less what it says
ROWS: list[tuple[Ours | None, Line | None, Class, int]] = [
    (OURS, LINE, Class.MATCHED, 0),
    (DECLINED, None, Class.NOT_SOLD, 0),
    (DECLINED, NO, Class.NOT_SOLD, 0),
    (DECLINED, BACK, Class.NOT_SOLD, 0),
    (None, NO, Class.NOT_SOLD, 0),
    (None, BACK, Class.NOT_SOLD, 0),
    (SEALED, BACK, Class.SEALED, 0),
    (SEALED, None, Class.SEALED, 0),
    (SEALED, NO, Class.SEALED, 0),
    (SEALED, LINE, Class.REVERSED_HERE, -50_000),
    (replace(SEALED, reversed_on=NEXT), LINE, Class.LATE_REVERSAL, -50_000),
    (replace(SEALED, reversed_on=NEXT), BACK, Class.LATE_REVERSAL, 0),
    (OURS, None, Class.MISSING_THERE, 50_000),
    (OURS, NO, Class.MISSING_THERE, 50_000),
    (OURS, BACK, Class.REVERSED_THERE, 50_000),
    (replace(OURS, has_refused_reversal=True), None, Class.REVERSED_THERE, 50_000),
    (replace(OURS, has_refused_reversal=True), NO, Class.REVERSED_THERE, 50_000),
    (None, LINE, Class.MISSING_HERE, -50_000),
    (DECLINED, LINE, Class.DECLINED_HERE, -50_000),
    (OURS, replace(LINE, amount_minor=40_000), Class.AMOUNT_DIFFERS, 10_000),
    (OURS, replace(LINE, drn="07003012213"), Class.METER_DIFFERS, 0),
    (OURS, replace(LINE, drn="0004012345676"), Class.MATCHED, 0),
    (OURS, replace(LINE, drn=""), Class.MATCHED, 0),
]


@pytest.mark.parametrize(("ours", "line", "kind", "difference"), ROWS)
def test_every_pair_has_its_class(ours: Ours | None, line: Line | None, kind: Class, difference: int) -> None:
    theirs = [] if line is None else [Theirs(1, line)]
    (found,) = match(DAY, [] if ours is None else [ours], theirs)
    assert (found.kind, found.difference_minor) == (kind, difference)


def test_the_rows_have_every_class_but_the_one_for_twins_and_each_has_an_owner() -> None:
    assert {row[2] for row in ROWS} | {Class.LISTED_TWICE} == set(Class)
    assert set(OWNER) == set(Class) - AGREED


def test_a_line_that_comes_again_is_a_difference_of_its_own() -> None:
    found = match(DAY, [OURS], [Theirs(1, LINE), Theirs(2, LINE), Theirs(3, BACK)])
    assert [(one.key, one.kind, one.difference_minor) for one in found] == [
        ("ATM1/124/R124", Class.MATCHED, 0),
        ("ATM1/124/R124#2", Class.LISTED_TWICE, -50_000),
        ("ATM1/124/R124#3", Class.LISTED_TWICE, 0),
    ]


def told(ours: list[Ours], *lines: Line) -> list[tuple[str, str, int]]:
    found = match(DAY, ours, [Theirs(number, line) for number, line in enumerate(lines, 1)])
    return [(one.key.removeprefix(OURS.key), one.kind.value, one.difference_minor) for one in found]


def test_of_several_lines_about_a_purchase_the_order_of_the_file_decides_none() -> None:
    other, less = replace(LINE, drn="07003012213"), replace(LINE, amount_minor=40_000)
    twice: list[tuple[Ours, tuple[Line, ...], Class, int]] = [
        (OURS, (LINE, BACK), Class.MATCHED, 0),
        (OURS, (LINE, NO), Class.MATCHED, 0),
        (OURS, (BACK, NO), Class.REVERSED_THERE, 0),
        (OURS, (other, LINE), Class.MATCHED, -50_000),
        (OURS, (less, LINE), Class.MATCHED, -40_000),
        (OURS, (less, replace(NO, amount_minor=1)), Class.AMOUNT_DIFFERS, 0),
        (DECLINED, (NO, LINE), Class.DECLINED_HERE, 0),
        (SEALED, (LINE, BACK), Class.REVERSED_HERE, 0),
        (SEALED, (NO, BACK), Class.SEALED, 0),
    ]
    for mine, lines, kind, again in twice:
        for order in (lines, lines[::-1]):
            assert [one[1:] for one in told([mine], *order)][:1] == [(kind, mine.effect_minor - _effect(lines) - again)]
            assert told([mine], *order)[1:] == [("#2", Class.LISTED_TWICE, again)]
    # Unknown here, and twice.
    for order in ((NO, LINE), (LINE, NO)):
        assert told([], *order) == [("", Class.MISSING_HERE, -50_000), ("#2", Class.LISTED_TWICE, 0)]


def _effect(lines: tuple[Line, ...]) -> int:
    return sum(Theirs(1, one).effect_minor for one in lines)


def test_two_purchases_of_one_trace_number_and_reference_each_have_their_line() -> None:
    # A terminal may begin its numbers anew within a day; acquirer or time told the messages apart.
    twin = replace(OURS, request_id=UUID(int=2), amount_minor=70_000)
    ours = [OURS, twin]
    assert told(ours, replace(LINE, amount_minor=70_000), LINE) == [("", "MATCHED", 0), ("/2", "MATCHED", 0)]
    assert told(ours, replace(LINE, amount_minor=70_000)) == [("", "MISSING_THERE", 50_000), ("/2", "MATCHED", 0)]
    assert told(ours) == [("", "MISSING_THERE", 50_000), ("/2", "MISSING_THERE", 70_000)]


keys = st.integers(1, 6)
meters = st.sampled_from(["04012345676", "0004012345676", "07003012213", ""])
our_rows = st.builds(
    lambda n, amount, sold, back, late, refused, drn: replace(
        OURS, key=key_of("ATM1", str(n), "R"), amount_minor=amount, is_sold=sold or back, is_reversed=back,
        reversed_on=(NEXT if late else DAY) if back else None, has_refused_reversal=refused and not back, drn=drn,
    ),
    keys, st.integers(1, 4), st.booleans(), st.booleans(), st.booleans(), st.booleans(), meters,
)  # fmt: skip
their_rows = st.builds(
    lambda n, amount, code, back, drn: replace(
        LINE, stan=str(n), rrn="R", amount_minor=amount, code=code, is_reversed=back, drn=drn
    ),
    keys, st.integers(1, 4), st.sampled_from(["00", "51"]), st.booleans(), meters,
)  # fmt: skip


@given(st.lists(our_rows), st.lists(their_rows), st.randoms(use_true_random=False))
def test_nothing_is_lost_and_the_classes_explain_the_whole_difference(
    rows: list[Ours], lines: list[Line], chance: Random
) -> None:
    ours = [replace(one, request_id=UUID(int=number)) for number, one in enumerate(rows)]
    theirs = [Theirs(number, line) for number, line in enumerate(lines, 1)]
    found = match(DAY, ours, theirs)
    assert [one.ours for one in found if one.ours is not None] == ours
    assert sorted(one.theirs.number for one in found if one.theirs is not None) == [one.number for one in theirs]
    assert len({one.key for one in found}) == len(found)
    whole = sum(one.effect_minor for one in ours) - sum(one.effect_minor for one in theirs)
    assert sum(one.difference_minor for one in found) == whole
    assert sum(one.difference_minor for one in found if one.kind not in AGREED) == whole
    for one in found:
        if one.ours is not None and one.theirs is not None:
            assert one.ours.key == one.theirs.line.key
    # In another order the same purchases are in the same classes.
    chance.shuffle(lines)
    chance.shuffle(ours)
    again = match(DAY, ours, [Theirs(number, line) for number, line in enumerate(lines, 1)])
    assert Counter(map(_what, again)) == Counter(map(_what, found))


def _what(one: Finding) -> tuple[Any, ...]:
    return one.kind, one.ours, one.theirs and one.theirs.line, one.difference_minor


# --- books ------------------------------------------------------------------------------------------------------------


@dataclass
class Books:
    store: Store
    last: int = 0

    def new_id(self) -> UUID:
        self.last += 1
        return UUID(int=0x1234 << 80 | self.last)

    def origin(self, reason: str = "told by the bank's desk") -> Origin:
        return Origin("fin.zoe", NOW, "test", reason)

    async def sold(self, stan: int, amount: int = 50_000, state: str | None = "DELIVERED", code: str = "00") -> UUID:
        """A purchase as the bank's messages and our books have it."""
        request_id = self.new_id()

        def write(connection: sa.Connection) -> None:
            values: dict[str, Any] = {
                "id": request_id, "bank": "umoja", "function": "PURCHASE", "trace": None, "mti": "0200",
                "stan": f"{stan:06d}", "rrn": f"R{stan}", "terminal": "ATM1", "acceptor": "", "acquirer": "627001",
                "sent": "1122093015", "local_time": "113015", "local_date": "1122", "business_date": DAY,
                "amount_minor": amount, "currency": "KES", "drn": "04012345676", "original": None,
                "outcome": "ACCEPTED" if state else "REFUSED", "reason": None, "code": code, "answers": 0,
                "is_closed": False, "link": "umoja-1", "received_at": NOW,
            }  # fmt: skip
            connection.execute(sa.insert(bank_request), values)
            if state is not None:
                purchase = {
                    "id": request_id, "meter_id": UUID(int=1), "service_point_id": UUID(int=1), "channel": "bank",
                    "peer": "umoja", "sender": "", "destination": "", "language": "en", "amount_minor": amount,
                    "state": state, "owed": "", "accepted_at": NOW, "expires_at": NOW,
                }  # fmt: skip
                connection.execute(sa.insert(tables.purchase), purchase)

        await self.store.transact(write)
        return request_id

    async def reversed(self, original: UUID, outcome: str, day: date = DAY) -> None:
        """A reversal of it came."""
        request_id = self.new_id()

        def write(connection: sa.Connection) -> None:
            row = connection.execute(sa.select(bank_request).where(bank_request.c.id == original)).mappings().one()
            values = dict(row) | {
                "id": request_id, "function": "REVERSAL", "original": original, "outcome": outcome,
                "business_date": day, "stan": "999999",
            }  # fmt: skip
            connection.execute(sa.insert(bank_request), values)

        await self.store.transact(write)

    async def take(self, *lines: Line, sequence: int = 1, **header: Any) -> tuple[bankdays.FileRow, bool]:
        made = replace(Header("umoja", DAY, sequence, NOW, "KES"), **header)
        file, file_id = read(written(made, lines)), self.new_id()
        return await self.store.transact(
            lambda connection: bankdays.take(connection, file_id, file, "umoja", ["KES"], by=ZOE, origin=self.origin())
        )

    async def match(self) -> bankdays.Matched:
        return await self.store.transact(
            lambda connection: bankdays.rematch(
                connection, "umoja", DAY, self.new_id, lambda new_id: f"D{new_id.int & 0xFFFF}", NOW
            )
        )

    async def do(self, deed: Any, *arguments: Any, **named: Any) -> Any:
        named = {"by": ZOE, "origin": self.origin()} | named
        return await self.store.transact(lambda connection: deed(connection, *arguments, **named))

    async def on_its_way(self) -> int:
        return await self.store.read(lambda connection: bankdays.on_its_way_minor(connection, "umoja"))


@pytest.fixture
async def at(database_url: str) -> AsyncIterator[Books]:
    store = await open_store(database_url)
    try:
        yield Books(store)
        # The purchases of this file are rows without postings; what deeds post must balance all the same.
        lines = await store.read(trial_balance)
        assert sum(each.debit_minor for each in lines) == sum(each.credit_minor for each in lines)
        assert isinstance(await store.read(audit.verify), audit.Verified)
    finally:
        await store.close()


def line(stan: int, amount: int = 50_000, **values: Any) -> Line:
    return replace(LINE, stan=f"{stan:06d}", rrn=f"R{stan}", amount_minor=amount, **values)


async def test_a_day_in_every_class_decided_and_paid(at: Books) -> None:
    await at.sold(1)
    sealed = await at.sold(2, state="SEALED")
    await at.reversed(sealed, "REVERSED")
    stands = await at.sold(3)
    await at.reversed(stands, "EXCEPTION")
    await at.sold(4, state=None, code="14")
    late = await at.sold(5, state="SEALED")
    await at.reversed(late, "REVERSED", NEXT)
    await at.sold(6)
    file, is_new = await at.take(
        line(1), line(2, is_reversed=True), line(3, is_reversed=True), line(4), line(5), line(7), line(7)
    )
    assert is_new and (file.lines, file.purchases, file.reversals) == (7, 7, 2)
    matched = await at.match()
    wanted = {
        Class.MATCHED: 1, Class.SEALED: 1, Class.REVERSED_THERE: 1, Class.DECLINED_HERE: 1, Class.LATE_REVERSAL: 1,
        Class.MISSING_THERE: 1, Class.MISSING_HERE: 1, Class.LISTED_TWICE: 1,
    }  # fmt: skip
    assert matched.counts == wanted
    assert (matched.ours_minor, matched.theirs_minor) == (150_000, 250_000)
    assert sum(one.difference_minor for one in matched.differences) == -100_000
    by_kind = {one.kind: one for one in matched.differences}
    # The same again finds nothing new.
    assert (await at.match()).differences == matched.differences

    claimed = await at.do(bankdays.claim, by_kind[Class.MISSING_THERE].code)
    assert claimed.state == "CLAIMED" and await at.on_its_way() == 0
    lost = by_kind[Class.REVERSED_THERE].code
    with pytest.raises(OperatorRefused):
        await at.do(bankdays.write_off, lost, at.new_id(), DAY, "KES", beside=ZOE)
    with pytest.raises(OperatorRefused):
        await at.do(bankdays.write_off, lost, at.new_id(), DAY, "KES", beside=ANN)
    written_off = await at.do(bankdays.write_off, lost, at.new_id(), DAY, "KES", beside=MAX)
    assert (written_off.state, written_off.approved_by) == ("WRITTEN_OFF", "fin.max")
    assert await at.on_its_way() == -50_000  # nothing was posted for these sales here: only what was given up
    for code, deed, fault in (
        (lost, bankdays.accept, BankDayFault.STATE),
        (claimed.code, bankdays.claim, BankDayFault.STATE),
        ("D0", bankdays.accept, BankDayFault.UNKNOWN),
    ):
        with pytest.raises(BankDayRefused) as refused:
            await at.do(deed, code)
        assert refused.value.fault is fault
    with pytest.raises(BankDayRefused) as refused:
        await at.do(bankdays.accept, by_kind[Class.MISSING_HERE].code, origin=at.origin(" "))
    assert refused.value.fault is BankDayFault.EXPLAIN
    with pytest.raises(BankDayRefused, match="nothing that the bank would owe us"):
        await at.do(bankdays.write_off, by_kind[Class.MISSING_HERE].code, at.new_id(), DAY, "KES", beside=MAX)

    # A decided difference stays decided; of the corrected file the others are gone.
    await at.take(line(1), line(2, is_reversed=True), line(3, is_reversed=True), line(6), sequence=2)
    again = await at.match()
    assert [(one.kind, one.state) for one in again.differences] == [
        (Class.REVERSED_THERE, "WRITTEN_OFF"), (Class.LATE_REVERSAL, "OPEN"),
    ]  # fmt: skip
    assert again.counts[Class.MATCHED] == 2


async def test_differences_of_two_purchases_with_one_trace_number_are_two(at: Books) -> None:
    await at.sold(1)
    await at.sold(1)
    await at.take(line(2, code="51"))
    matched = await at.match()
    assert matched.counts == {Class.MISSING_THERE: 2, Class.NOT_SOLD: 1}
    assert [(one.key, one.difference_minor) for one in matched.differences] == [
        ("ATM1/1/R1", 50_000), ("ATM1/1/R1/2", 50_000),
    ]  # fmt: skip
    assert (await at.match()).differences == matched.differences


async def test_a_file_has_one_effect_and_every_line_is_kept(at: Books) -> None:
    first, is_new = await at.take(line(1), line(2))
    assert is_new and await at.take(line(1), line(2)) == (first, False)
    for values, fault in (
        ({"sequence": 1}, BankDayFault.SEQUENCE),
        ({"sequence": 2, "bank": "other"}, BankDayFault.BANK),
        ({"sequence": 2, "currency": "USD"}, BankDayFault.CURRENCY),
    ):
        currency = str(values.get("currency", "KES"))
        with pytest.raises(BankDayRefused) as refused:
            await at.take(line(3, currency=currency), **values)
        assert refused.value.fault is fault
    await at.take(line(3), sequence=5)
    kept = await at.store.read(
        lambda connection: connection.execute(sa.select(sa.func.count()).select_from(bank_file_line)).scalar_one()
    )
    assert kept == 3
    with pytest.raises(Exception, match="never changed"):
        await at.store.transact(lambda connection: connection.execute(sa.delete(bank_file_line)))


async def test_our_file_is_read_as_theirs_and_matches_to_the_cent(at: Books) -> None:
    await at.sold(1)
    sealed = await at.sold(2, 7_000, state="SEALED")
    await at.reversed(sealed, "REVERSED")
    await at.sold(3, state=None, code="14")
    row, data = await at.do(bankdays.export, at.new_id(), "umoja", DAY, "KES")
    assert (row.sequence, row.lines, row.purchases_minor, row.reversals_minor) == (1, 3, 57_000, 7_000)
    again, _ = await at.do(bankdays.export, at.new_id(), "umoja", DAY, "KES")
    assert again.sequence == 2
    file, file_id = read(data), at.new_id()
    await at.do(bankdays.take, file_id, file, "umoja", ["KES"])
    matched = await at.match()
    assert matched.counts == {Class.MATCHED: 1, Class.SEALED: 1, Class.NOT_SOLD: 1} and not matched.differences


async def test_a_payment_moves_what_was_on_its_way_once_and_takes_two(at: Books) -> None:
    payment = Payment("umoja", DAY, "STMT-77", 150_000, DAY)

    async def pay(made: Payment, beside: Operator = MAX) -> None:
        await at.do(bankdays.paid, made, at.new_id(), at.new_id(), DAY, "KES", beside=beside)

    with pytest.raises(OperatorRefused):
        await pay(payment, ZOE)
    await pay(payment)
    assert await at.on_its_way() == -150_000
    with pytest.raises(BankDayRefused) as refused:
        await pay(payment)
    assert refused.value.fault is BankDayFault.EXISTS
    for wrong in (
        replace(payment, reference=" "),
        replace(payment, reference="A", amount_minor=0),
        replace(payment, reference="A", paid_on=DAY + timedelta(days=1)),
    ):
        with pytest.raises(BankDayRefused) as refused:
            await pay(wrong)
        assert refused.value.fault is BankDayFault.FORM
    await pay(replace(payment, reference="STMT-78", amount_minor=-50_000))
    assert await at.on_its_way() == -100_000
    listed = await at.store.read(lambda connection: bankdays.payments(connection, "umoja", DAY))
    assert [one.amount_minor for one in listed] == [150_000, -50_000]


async def test_a_day_without_a_file_cannot_be_matched(at: Books) -> None:
    with pytest.raises(BankDayRefused) as refused:
        await at.match()
    assert refused.value.fault is BankDayFault.UNKNOWN
