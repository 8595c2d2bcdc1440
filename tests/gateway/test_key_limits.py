"""Limits of a vending key: counted in the transaction that stores the token, refused at the limit, never passed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from channels.commands import Buy
from gateway.deeds import Arrival
from gateway.purchase import State
from ledger import tables
from ledger.reasons import Reason
from ledger.store import open_store
from tests.simulation.shop import AMINA, METER, Counter, open_counter

METERS = [METER, "07003012213", "14252321808", "01405512003", "01405512011", "07003012239"]
AGENT = "254722000002"


async def _limit(counter: Counter, token_limit: int | None, units_limit_tenths: int | None) -> None:
    row = {
        "supply_group": "600801",
        "key_revision": 2,
        "key_type": 2,
        "key_generation": 2,
        "base_date": 2014,
        "kcv": "000000",
        "module": "software",
        "state": "ACTIVE",
        "key_expiry": 255,
        "token_limit": token_limit,
        "units_limit_tenths": units_limit_tenths,
        "tokens_made": 0,
        "units_made_tenths": 0,
        "loaded_by": "sec.tom",
        "loaded_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    await counter.store.transact(lambda connection: connection.execute(tables.vending_key.insert().values(row)))


async def _made(counter: Counter) -> tuple[int, int]:
    k = tables.vending_key.c
    row = await counter.store.read(
        lambda connection: connection.execute(sa.select(k.tokens_made, k.units_made_tenths)).one()
    )
    return row[0], row[1]


async def test_a_key_makes_as_many_tokens_as_it_may(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        await _limit(counter, 3, None)
        results = [await counter.buy(20_000 + n) for n in range(5)]
        assert [done.state for done in results[:3]] == [State.VENDED] * 3
        assert [done.reason for done in results[3:]] == [Reason.KEY_LIMIT_REACHED] * 2
        assert [done.state for done in results[3:]] == [State.RETURNED] * 2
        assert (await _made(counter))[0] == 3
        await counter.check_books()


async def test_a_key_makes_as_many_units_as_it_may(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        await _limit(counter, None, 250)
        first, second, third = [await counter.buy(amount) for amount in (50_000, 20_000, 3_000)]
        assert (first.state, second.reason, third.state) == (State.VENDED, Reason.KEY_LIMIT_REACHED, State.VENDED)
        assert await _made(counter) == (2, 226 + 14)
        await counter.check_books()


@pytest.mark.parametrize("limit", [4])
async def test_racing_nodes_never_pass_a_keys_limit(database_url: str, limit: int) -> None:
    async with open_counter(database_url) as counter:
        await _limit(counter, limit, None)
        other = await open_store(database_url)
        stores = (counter.store, other)
        deeds = [
            Arrival(counter.shop, counter.inbound(Buy(METERS[n % 2], 5_000 + n), AMINA if n % 3 else AGENT))
            for n in range(20)
        ]
        done = await asyncio.gather(*(stores[n % 2].submit(deed) for n, deed in enumerate(deeds)))
        assert sum(one.state is State.VENDED for one in done) == limit
        assert {one.reason for one in done if one.state is not State.VENDED} == {Reason.KEY_LIMIT_REACHED}
        assert (await _made(counter))[0] == limit
        await other.close()
        await counter.check_books()
