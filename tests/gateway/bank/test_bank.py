"""Purchases, repeats, reversals and advices of a bank, over real sockets and on both databases.

Rows of the decision table of reversals stand in the order of docs/iso8583.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from ledger import tables
from ledger.accounts import id_of
from tests.gateway.bank.switch import Bank, open_bank, purchase, tokens
from tests.simulation.shop import Counter, open_counter


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


@pytest.fixture
async def bank(counter: Counter) -> AsyncIterator[Bank]:
    async with open_bank(counter) as opened:
        yield opened


async def owed(counter: Counter) -> int:
    """What the bank owes, in minor units."""
    p = tables.posting.c

    def read(connection: sa.Connection) -> int:
        total = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(p.account_id == id_of("clearing:kcb"))
        return -int(connection.execute(total).scalar_one())

    return await counter.store.read(read)


async def test_a_purchase_is_answered_with_its_token_and_the_bank_owes_its_money(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    asked = purchase()
    answer = await line.ask(asked)
    assert (answer.mti, answer.get(39)) == ("0210", "00")
    (token,) = tokens(answer)
    assert len(token) == 20 and answer.get("62.22") == "00" and int(answer.get("62.21") or 0) > 0
    assert (
        answer.get(
            "62.27",
        )
        and (answer.get(38) or "") == (answer.get("62.27") or "")[-6:]
    )
    assert "|" in (answer.get(63) or "") and "Balance" not in (answer.get(63) or "")
    for number in (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 48, 49):
        assert answer[number] == asked[number], f"field {number} is sent back as it came"
    assert not {35, 52} & set(answer.numbers)
    assert await owed(counter) == 50_000
    parts = sum(int(answer.get(f"62.{tag}") or 0) for tag in (23, 24, 25, 26))
    assert parts == 50_000
