"""Modules under custody: what the books allow, from which moment on, and which module makes and counts a token.

On both databases: every way a key ends against every place where a purchase may stand; limits of each module.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from channels.commands import Buy
from channels.contract import Reply
from gateway import custody, keptkeys
from gateway.custody import new_key
from gateway.desk import Outgoing, VendingDesk
from gateway.engineering import FillManagement, MakeManagement, Unmade
from gateway.keptkeys import KeptModule
from gateway.metrics import Metrics
from gateway.purchase import State
from ledger import tables, vendingkeys
from ledger.audit import Origin
from ledger.operators import Operator, Role
from ledger.reasons import Reason
from ledger.store import Observer, Store, is_sqlite, open_store
from ledger.unit import KeyUse
from ledger.vendingkeys import KeyId
from sts.errors import Fault
from sts.modules.contract import (
    CreditRequest,
    KeyChangeRequest,
    KeyMissing,
    ModuleRefused,
    SecurityModule,
    TokenRequest,
)
from sts.modules.keyfile import TransferKey
from sts.modules.pool import Made, Member, ModuleAway, ModulePool
from sts.modules.software import SoftwareModule
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, Counter, open_counter, sample_keys
from tests.sts.keys import NOW, handle, record

TOM, IDA = (Operator(f"sec.{name}", name, frozenset({Role.KEY_CUSTODIAN}), "en", None) for name in ("tom", "ida"))
KEYS = sample_keys()


def _use(one: Any = None, module: str = "software", **changes: Any) -> KeyUse:
    status = (one or record(2)).status
    name = keptkeys.name_of(status)
    use = KeyUse(name, module, status.kcv, "ACTIVE", status.key_expiry, None, None, None, None)
    return replace(use, **changes)


# --- one module -------------------------------------------------------------------------------------------------------

# fmt: off
USES: list[tuple[str, KeyUse, Fault | None]] = [
    ("active",                    _use(), None),
    ("loaded",                    _use(state="LOADED"), Fault.KEY_MISSING),
    ("destroyed",                 _use(state="DESTROYED"), Fault.KEY_MISSING),
    ("another check value",       _use(kcv="000000"), Fault.KEY_MISSING),
    ("no check value approved",   _use(kcv=""), None),
    ("another module's",          _use(module="hsm-1"), Fault.KEY_MISSING),
    ("another key",               _use(record(4)), Fault.KEY_MISSING),
    ("not yet",                   _use(active_from=NOW + timedelta(seconds=1)), Fault.KEY_NOT_ACTIVE),
    ("from now on",               _use(active_from=NOW), None),
    ("until now",                 _use(issued_until=NOW), None),
    ("no longer",                 _use(issued_until=NOW - timedelta(seconds=1)), Fault.KEY_NO_LONGER_USED),
    ("a newer file is missing",   _use(refresh_by=NOW - timedelta(seconds=1)), Fault.KEY_NO_LONGER_USED),
    ("expired by its number",     _use(key_expiry=96), Fault.KEY_EXPIRED),
    ("replaced",                  _use(state="REPLACED", replaced_at=NOW - timedelta(seconds=1)),
     Fault.KEY_NO_LONGER_USED),
]
# fmt: on
REQUEST = CreditRequest(handle(), 0, 6_397_200, 5, 256)


@pytest.mark.parametrize(("use", "fault"), [case[1:] for case in USES], ids=[case[0] for case in USES])
async def test_a_module_makes_what_the_books_allow_and_nothing_else(use: KeyUse, fault: Fault | None) -> None:
    kept = KeptModule(SoftwareModule([record(2), record(4)]))
    assert not kept.holds(handle()) and kept.status().keys == ()
    kept.allow([use], 1)
    if fault is None:
        assert kept.make(REQUEST, now=NOW) == await kept.make_later(REQUEST, now=NOW) == kept.inner.make(REQUEST)
        assert kept.make_many([REQUEST]) == [kept.make(REQUEST)] and kept.verify(kept.make(REQUEST), handle())
        return
    for make in (lambda: kept.make(REQUEST, now=NOW), lambda: asyncio.run(kept.make_later(REQUEST, now=NOW))):
        with pytest.raises((ModuleRefused, KeyMissing)) as refusal:
            await asyncio.to_thread(make)
        assert refusal.value.fault is fault


def test_a_replaced_key_may_be_changed_away_from_and_not_to() -> None:
    kept = KeptModule(SoftwareModule([record(2), record(2, key_revision=2)]))
    newer = handle(key_revision=2)
    replaced = _use(state="REPLACED", replaced_at=NOW - timedelta(days=1))
    kept.allow([replaced, _use(record(2, key_revision=2))], 1)
    assert len(kept.make_set(KeyChangeRequest(handle(), newer), now=NOW)) == 2
    with pytest.raises(ModuleRefused):
        kept.make_set(KeyChangeRequest(newer, handle()), now=NOW)
    assert kept.may(KeyChangeRequest(handle(), newer)) and not kept.may(REQUEST)


def test_what_the_books_said_earlier_is_not_listened_to_later() -> None:
    kept = KeptModule(SoftwareModule([record(2)]))
    kept.allow([_use()], 5)
    kept.allow([], 6)
    kept.allow([_use()], 5)
    assert not kept.holds(handle())
    kept.stand_before(SoftwareModule([record(2)]))
    assert not kept.holds(handle())
    kept.allow([_use()], 7)
    assert kept.holds(handle()) and "1 vending keys" in repr(kept)


# --- a key ends while a purchase is under way -------------------------------------------------------------------------


def _approve(module: str, limit: int | None = None) -> Callable[[sa.Connection], None]:
    def work(connection: sa.Connection) -> None:
        for one in KEYS:
            key = new_key(TransferKey(one, token_limit=limit), module)
            vendingkeys.register(connection, [key], by=TOM, origin=_by(TOM))
            vendingkeys.activate(connection, key.id, kcv=key.kcv, by=IDA, origin=_by(IDA))

    return work


def _by(who: Operator) -> Origin:
    return Origin(who.login, NOW, "test", "test")


def _key(module: str, generation: int = 2) -> KeyId:
    return KeyId("600801", 2, 2, generation, 2014, module)


def _suspend(connection: sa.Connection, module: str) -> None:
    vendingkeys.suspend(connection, _key(module), by=TOM, origin=_by(TOM))


def _replace(connection: sa.Connection, module: str) -> None:
    vendingkeys.replace(connection, _key(module), _key(module, 4), first=TOM, second=IDA, origin=_by(TOM))


def _destroy(connection: sa.Connection, module: str) -> None:
    _suspend(connection, module)
    vendingkeys.destroy(connection, _key(module), first=TOM, second=IDA, origin=_by(TOM))


ENDS = [_suspend, _replace, _destroy]


@asynccontextmanager
async def _kept_counter(url: str, inner: SecurityModule) -> AsyncIterator[tuple[Counter, KeptModule]]:
    kept = KeptModule(inner)
    async with open_counter(url, kept, observer=Observer(keys=kept.allow), give_up_s=5) as counter:
        await counter.store.transact(_approve(kept.name))
        yield counter, kept
        await counter.check_books()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_no_token_is_made_after_the_commit_that_ended_its_key(database_url: str, end: Any) -> None:
    async with _kept_counter(database_url, SoftwareModule(KEYS)) as (counter, kept):
        assert (await counter.buy(20_000)).state is State.VENDED
        elsewhere = await open_store(database_url)  # the command in another process
        buying = [asyncio.create_task(counter.buy(5_100 + n)) for n in range(12)]
        await elsewhere.transact(lambda connection: end(connection, "software"))
        made = await counter.count(tables.token)
        results = await asyncio.gather(*buying)
        assert await counter.count(tables.token) == made
        assert {done.reason for done in results} <= {None, Reason.KEY_MISSING}
        assert (await counter.buy(30_000)).reason is Reason.KEY_MISSING
        assert (
            await counter.available("wallet:A100001")
            == 150_000 - sum(5_100 + n for n, done in enumerate(results) if done.state is State.VENDED) - 20_000
        )
        await elsewhere.close()


async def test_a_key_that_is_activated_again_sells_again_without_a_restart(database_url: str) -> None:
    async with _kept_counter(database_url, SoftwareModule(KEYS)) as (counter, _):
        elsewhere = await open_store(database_url)
        await elsewhere.transact(lambda connection: _suspend(connection, "software"))
        assert (await counter.buy(20_000)).reason is Reason.KEY_MISSING
        kcv = next(one.status.kcv for one in KEYS if one.name[0] == "600801" and one.dkga == 2)
        await elsewhere.transact(
            lambda connection: vendingkeys.activate(connection, _key("software"), kcv=kcv, by=IDA, origin=_by(IDA))
        )
        assert (await counter.buy(20_000)).state is State.VENDED
        await elsewhere.close()


async def test_limits_set_elsewhere_count_from_the_next_sale_on(database_url: str) -> None:
    async with _kept_counter(database_url, SoftwareModule(KEYS)) as (counter, _):
        assert (await counter.buy(20_000)).state is State.VENDED
        elsewhere = await open_store(database_url)
        await elsewhere.transact(
            lambda connection: vendingkeys.set_limits(
                connection, _key("software"), 2, None, first=TOM, second=None, origin=_by(TOM)
            )
        )
        results = [await counter.buy(20_001 + n) for n in range(3)]
        assert [done.reason for done in results] == [None, None, Reason.KEY_LIMIT_REACHED]
        await elsewhere.close()


async def _until(waits: Callable[[sa.Connection], Any], store: Store) -> None:
    async with asyncio.timeout(60):
        while not await store.read(waits):
            await asyncio.sleep(0.01)


def _somebody_waits_for_a_lock(connection: sa.Connection) -> bool:
    query = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :like")
    return bool(connection.execute(query, {"like": "%vending_key%"}).scalar_one())


async def test_a_change_of_keys_and_a_batch_of_sales_wait_for_each_other(database_url: str) -> None:
    if is_sqlite(database_url):
        pytest.skip("SQLite has one writer at a time anyway")
    async with _kept_counter(database_url, SoftwareModule(KEYS)) as (counter, _):
        await counter.buy(20_000)
        elsewhere = await open_store(database_url)
        engine: Any = elsewhere
        async with engine._engine.connect() as connection:
            await connection.begin()
            await connection.run_sync(lambda c: _suspend(c, "software"))  # not committed
            buying = asyncio.create_task(counter.buy(30_000))
            await _until(_somebody_waits_for_a_lock, counter.store)
            assert not buying.done()
            await connection.commit()
        assert (await buying).reason is Reason.KEY_MISSING
        async with engine._engine.connect() as connection:
            await connection.begin()
            await connection.execute(sa.text("SELECT count(*) FROM vending_key"))  # as a batch under way
            changing = asyncio.create_task(elsewhere.transact(lambda c: _destroy_loaded(c, "software")))
            await _until(_somebody_waits_for_a_lock, counter.store)
            assert not changing.done()
            await connection.rollback()
        await changing
        await elsewhere.close()


def _destroy_loaded(connection: sa.Connection, module: str) -> None:
    vendingkeys.destroy(connection, _key(module), first=TOM, second=IDA, origin=_by(TOM))


class _Outgoing(Outgoing):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[Reply] = asyncio.Queue()

    def enqueue(self, replies: list[Reply]) -> None:
        for reply in replies:
            self.replies.put_nowait(reply)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("when", ["before", "while asked", "before the retry", "after a restart", "after"])
async def test_a_key_that_ends_while_a_module_is_asked_gives_the_money_back(
    database_url: str, end: Any, when: str
) -> None:
    plan = {"while asked": ["wait"], "before the retry": ["silent"], "after a restart": ["wait"]}.get(when, [])
    inner = WaitingModule(SoftwareModule(KEYS), plan)
    async with _kept_counter(database_url, inner) as (counter, kept):
        outgoing = _Outgoing()
        desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        if when == "before":
            await counter.store.transact(lambda connection: end(connection, kept.name))
        await desk.receive(counter.inbound(Buy(METER, 50_000), AMINA))
        if when == "after":
            assert (await asyncio.wait_for(outgoing.replies.get(), 60)).message.key == "sold"
            await counter.store.transact(lambda connection: end(connection, kept.name))
            assert await counter.available("wallet:A100001") == 100_000
            await desk.close()
            return
        if when == "after a restart":
            async with asyncio.timeout(60):
                while not inner.asked:
                    await asyncio.sleep(0)
            await desk.close()
        if when != "before":
            await counter.store.transact(lambda connection: end(connection, kept.name))
        inner.go.set()
        if when == "after a restart":
            desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
            await desk.resume(at_start=True)
        reply = await asyncio.wait_for(outgoing.replies.get(), 60)
        assert (reply.message.key, "tokens" in reply.message.values) == ("key_missing", False)
        assert await counter.available("wallet:A100001") == 150_000
        assert await counter.count(tables.token, tables.token.c.digits.is_not(None)) == 0
        await desk.close()


# --- several modules --------------------------------------------------------------------------------------------------


class _Named(WaitingModule):
    """A waiting module of another name, which is away when told."""

    def __init__(self, name: str, keys: Sequence[Any]) -> None:
        super().__init__(SoftwareModule(keys))
        self.name = name
        self.is_away = False

    async def make_later(self, request: TokenRequest, *, now: Any = None) -> str:
        if self.is_away:
            raise ModuleAway("away")
        return await super().make_later(request, now=now)


async def _totals(counter: Counter) -> dict[str, int]:
    k = tables.vending_key.c
    query = sa.select(k.module, k.tokens_made).where(k.supply_group == "600801", k.key_generation == 2)
    return await counter.store.read(lambda connection: {row[0]: row[1] for row in connection.execute(query)})


async def _makers(counter: Counter) -> list[str | None]:
    query = sa.select(tables.token.c.module).order_by(tables.token.c.purchase_id)
    return await counter.store.read(lambda connection: list(connection.execute(query).scalars()))


@asynccontextmanager
async def _pool(
    url: str, members: Sequence[SecurityModule], limits: Sequence[int | None]
) -> AsyncIterator[tuple[Counter, ModulePool]]:
    kept = [KeptModule(member) for member in members]
    pool = ModulePool([Member(one) for one in kept])

    def allow(uses: Sequence[KeyUse], stamp: int) -> None:
        for one in kept:
            one.allow(uses, stamp)

    async with open_counter(url, pool, observer=Observer(keys=allow), give_up_s=1) as counter:
        for one, limit in zip(kept, limits, strict=True):
            await counter.store.transact(_approve(one.name, limit))
        yield counter, pool
        await counter.check_books()


async def test_each_module_makes_up_to_its_own_limit(database_url: str) -> None:
    both = [SoftwareModule(KEYS, name=name) for name in ("a", "b")]
    async with _pool(database_url, both, (2, 3)) as (counter, _):
        results = [await counter.buy(20_000 + n) for n in range(6)]
        assert [done.reason for done in results] == [None] * 5 + [Reason.KEY_LIMIT_REACHED]
        assert await _makers(counter) == ["a", "a", "b", "b", "b"]
        assert await _totals(counter) == {"a": 2, "b": 3}


async def test_a_count_moves_with_the_token_to_the_module_that_made_it(database_url: str) -> None:
    first, second = _Named("a", KEYS), _Named("b", KEYS)
    async with _pool(database_url, [first, second], (10, 2)) as (counter, _):
        outgoing = _Outgoing()
        desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        said = []
        for n in range(4):
            first.is_away = n > 0
            await desk.receive(counter.inbound(Buy(METER, 20_000 + n), AMINA))
            said.append((await asyncio.wait_for(outgoing.replies.get(), 60)).message.key)
        # The fourth finds the first away, and the second at its limit.
        assert said == ["sold", "sold", "sold", "module_silent"]
        assert await _makers(counter) == ["a", "b", "b", "a"]
        assert await _totals(counter) == {"a": 2, "b": 2}  # the one that was given up stays counted
        await desk.close()


async def test_a_key_is_not_used_in_a_module_where_nobody_activated_it(database_url: str) -> None:
    both = [SoftwareModule(KEYS, name=name) for name in ("a", "b")]
    async with _pool(database_url, both, (None, None)) as (counter, pool):
        assert (await counter.buy(20_000)).state is State.VENDED
        await counter.store.transact(lambda connection: _suspend(connection, "a"))
        assert (await counter.buy(20_001)).state is State.VENDED
        assert await _makers(counter) == ["a", "b"]
        assert keptkeys.holders(pool, handle()) == ()
        await counter.store.transact(lambda connection: _suspend(connection, "b"))
        assert (await counter.buy(20_002)).reason is Reason.KEY_MISSING


async def test_an_engineering_token_is_counted_and_waits_for_its_module(database_url: str) -> None:
    inner = _Named("a", KEYS)
    async with _pool(database_url, [inner], (1,)) as (counter, pool):
        unmade = await counter.store.submit(MakeManagement(counter.shop, METER, 5, 0))
        assert isinstance(unmade, Unmade) and unmade.first == "a"
        digits = SoftwareModule(KEYS).make(unmade.request)
        made = await counter.store.submit(FillManagement(counter.shop, unmade, Made((digits,), "a")))
        assert made.digits == digits and await _totals(counter) == {"a": 1}
        with pytest.raises(ModuleRefused, match="limit"):
            await counter.store.submit(MakeManagement(counter.shop, METER, 5, 0))
        await counter.store.transact(lambda connection: _suspend(connection, "a"))
        with pytest.raises(KeyMissing):
            await counter.store.submit(FillManagement(counter.shop, unmade, Made((digits,), "a")))
        assert pool.members[0].status().keys and not keptkeys.may_still(pool, unmade.request, "a")


def test_without_custody_a_module_may_all_it_can() -> None:
    module = SoftwareModule([record(2)])
    assert keptkeys.may_still(module, REQUEST, "software") and keptkeys.holders(module, handle()) == ("software",)
    assert custody.left_out([record(2).status], [], "software") == (
        "key 123456/1/2/2/2014: the module holds it, the books do not know it",
    )
