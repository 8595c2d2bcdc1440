"""Reserve, post, void and reverse; what a limited account allows; what the database itself refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ledger import books, entries, records, tables
from ledger.accounts import CHART, id_of
from ledger.openings import Opening
from ledger.store import Store, migrate, open_store
from ledger.trial_balance import broken_invariants, trial_balance
from ledger.unit import Need, Unit

NOW = datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
DAY = date(2026, 6, 5)
WALLET = id_of("wallet:A1")
REVENUE = id_of("energy:D1")


@dataclass
class Do:
    """A deed made of one function of the unit."""

    function: Callable[[Unit], object]
    accounts: list[UUID] = field(default_factory=lambda: [WALLET])
    purchases: list[UUID] = field(default_factory=list)
    transactions: list[UUID] = field(default_factory=list)

    def need(self, need: Need) -> None:
        need.accounts.extend(self.accounts)
        need.purchases.extend(self.purchases)
        need.transactions.extend(self.transactions)

    def decide(self, unit: Unit) -> object:
        return self.function(unit)


async def _open(url: str, opening_minor: int = 10_000) -> Store:
    await migrate(url)
    store = await open_store(url)
    codes = [*records.SYSTEM_ACCOUNTS, "wallet:A1", "energy:D1"]
    await store.transact(lambda connection: records.ensure_accounts(connection, codes, "KES"))
    assert await store.submit(Opening("wallet:A1", "wallet:A1", opening_minor, DAY, NOW))
    return store


async def _balance(store: Store) -> tuple[int, int]:
    b = tables.limited_balance.c
    row = await store.read(
        lambda connection: connection.execute(
            sa.select(b.posted_minor, b.pending_minor).where(b.account_id == WALLET)
        ).one()
    )
    return row[0], row[1]


def _spend(amount: int, txn_id: UUID | None = None) -> Do:
    return Do(
        lambda unit: books.post(
            unit,
            txn_id or uuid4(),
            "test",
            [(WALLET, -amount), (REVENUE, amount)],
            limited=(WALLET,),
            business_date=DAY,
            recorded_at=NOW,
        )
    )


async def test_an_opening_balance_is_posted_once(database_url: str) -> None:
    store = await _open(database_url)
    assert not await store.submit(Opening("wallet:A1", "wallet:A1", 10_000, DAY, NOW))
    assert await _balance(store) == (10_000, 0)
    lines = {line.code: (line.debit_minor, line.credit_minor) for line in await store.read(trial_balance)}
    assert lines == {"opening:balances": (10_000, 0), "wallet:A1": (0, 10_000)}
    await store.close()


async def test_racing_spenders_take_exactly_what_is_there(database_url: str) -> None:
    store = await _open(database_url)
    other = await open_store(database_url)
    results = await asyncio.gather(
        *((store, other)[n % 2].submit(_spend(100)) for n in range(150)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 100
    assert all(isinstance(result, books.Overdrawn) for result in results if result is not None)
    assert await _balance(store) == (0, 0)
    assert await store.read(broken_invariants) == []
    await store.close()
    await other.close()


async def test_held_money_cannot_be_spent_and_is_posted_or_given_back_once(database_url: str) -> None:
    store = await _open(database_url)
    first, second = uuid4(), uuid4()
    until = NOW + timedelta(minutes=10)
    for purchase in (first, second):
        await store.submit(Do(lambda unit, p=purchase: books.reserve(unit, p, WALLET, 5_000, until)))  # type: ignore[misc]
    assert await _balance(store) == (10_000, 10_000)
    with pytest.raises(books.Overdrawn):
        await store.submit(_spend(1))
    assert await store.submit(Do(lambda unit: books.release(unit, first, "VOIDED"), purchases=[first])) is True
    assert await store.submit(Do(lambda unit: books.release(unit, first, "VOIDED"), purchases=[first])) is False

    def post(unit: Unit) -> None:
        assert books.release(unit, second, "POSTED")
        legs = [(WALLET, -5_000), (REVENUE, 5_000)]
        books.post(unit, second, "test", legs, limited=(WALLET,), business_date=DAY, recorded_at=NOW)

    await store.submit(Do(post, purchases=[second]))
    assert await _balance(store) == (5_000, 0)
    assert await store.read(broken_invariants) == []
    await store.close()


async def test_a_mistake_is_reversed_by_a_new_transaction_once(database_url: str) -> None:
    store = await _open(database_url)
    wrong = uuid4()
    await store.submit(_spend(4_000, wrong))

    def undo(unit: Unit) -> None:
        books.reverse(unit, uuid4(), wrong, kind="reversal", business_date=DAY, recorded_at=NOW)

    await store.submit(Do(undo, transactions=[wrong]))
    assert await _balance(store) == (10_000, 0)
    with pytest.raises(books.AlreadyReversed):
        await store.submit(Do(undo, transactions=[wrong]))
    results = await asyncio.gather(
        *(store.submit(Do(undo, transactions=[wrong])) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, books.AlreadyReversed) for result in results)
    assert await store.read(broken_invariants) == []
    await store.close()


async def test_the_database_itself_refuses_a_balance_below_its_floor(database_url: str) -> None:
    store = await _open(database_url)
    with pytest.raises(sa.exc.IntegrityError):
        await store.transact(
            lambda connection: connection.execute(
                tables.limited_balance.update()
                .where(tables.limited_balance.c.account_id == WALLET)
                .values(posted_minor=-1)
            )
        )
    assert await _balance(store) == (10_000, 0)
    await store.close()


async def test_a_broken_invariant_is_named(database_url: str) -> None:
    store = await _open(database_url)
    await store.transact(
        lambda connection: connection.execute(
            tables.limited_balance.update().where(tables.limited_balance.c.account_id == WALLET).values(posted_minor=7)
        )
    )
    assert await store.read(broken_invariants) == ["a limited balance is not the sum of its postings (1)"]
    await store.close()


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=6))
def test_postings_that_do_not_balance_are_a_bug(amounts: list[int]) -> None:
    legs = [(uuid4(), amount) for amount in amounts]
    if sum(amounts) == 0 and sum(amount != 0 for amount in amounts) >= 2:
        assert sum(amount for _, amount in entries.balanced(legs)) == 0
    else:
        with pytest.raises(AssertionError):
            entries.balanced(legs)


def test_the_chart_says_of_each_kind_what_it_is() -> None:
    assert all(kind.about for kind in CHART.values())
    with pytest.raises(AssertionError, match="no account kind"):
        id_of("nonsense:1")
