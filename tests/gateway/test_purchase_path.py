"""Corners of the purchase path that a review found: second looks, bugs, moved meters, queues behind a busy point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from channels.commands import Buy
from channels.contract import Inbound, Reply
from gateway.deeds import Continue
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import Event, State
from gateway.world import uuid7
from ledger import tables
from ledger.outbox import End
from ledger.reasons import Reason
from sts.modules.contract import ModuleSilent, TokenRequest
from sts.modules.software import SoftwareModule
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, Counter, open_counter, sample_keys

BRIAN = "254711027158"


class _Outgoing(Outgoing):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[Reply] = asyncio.Queue()

    def enqueue(self, replies: list[Reply]) -> None:
        for reply in replies:
            self.replies.put_nowait(reply)

    async def next(self) -> Reply:
        return await asyncio.wait_for(self.replies.get(), 60)


@asynccontextmanager
async def _desk(url: str, module: WaitingModule) -> AsyncIterator[tuple[Counter, VendingDesk, _Outgoing]]:
    async with open_counter(url, module) as counter:
        outgoing = _Outgoing()
        desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        yield counter, desk, outgoing
        await desk.close()
        await counter.check_books()


def _waiting(*plan: str) -> WaitingModule:
    return WaitingModule(SoftwareModule(sample_keys()), plan)


def _buy(counter: Counter, amount_minor: int, drn: str = METER, sender: str = AMINA) -> Inbound:
    return counter.inbound(Buy(drn, amount_minor), sender)


async def _state(counter: Counter, request_id: object) -> str:
    p = tables.purchase.c
    return await counter.store.read(
        lambda connection: str(connection.execute(sa.select(p.state).where(p.id == request_id)).scalar_one())
    )


async def test_two_looks_at_a_waiting_purchase_in_one_batch_post_nothing_without_a_token(database_url: str) -> None:
    async with open_counter(database_url, _waiting()) as counter:
        first = await counter.buy(50_000)
        second = await counter.buy(20_000)
        (waiting_id,) = second.wait_for
        await counter.store.submit(
            Continue(counter.shop, first.ask[0].purchase_id, Event.TOKEN_REFUSED, reason=Reason.MODULE_REFUSED)
        )
        looks = await asyncio.gather(*(counter.store.submit(Continue(counter.shop, waiting_id)) for _ in range(3)))
        assert {look.state for look in looks} == {State.VENDING}
        assert await counter.count(tables.txn, tables.txn.c.kind == "sale") == 0
        await counter.check_books()


async def test_a_request_that_meets_a_bug_is_stored_and_answered_once(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        point = sa.select(tables.service_point.c.id).where(tables.service_point.c.code == "SP-20001").scalar_subquery()
        await counter.store.transact(
            lambda connection: connection.execute(
                tables.debt.update().values(percent="abc", service_point_id=point, mode="PERCENT", status="ACTIVE")
            )
        )
        done = await counter.buy(reference="m1")
        assert (done.reason, done.is_fault, done.replies[0].message.key) == (Reason.INTERNAL, True, "internal")
        assert (await counter.buy(reference="m1")).replayed
        assert await counter.count(tables.purchase) == 0
        assert (await counter.buy(20_000, drn="07003012213", sender=BRIAN)).state is State.VENDED
        await counter.check_books()


class _Broken(WaitingModule):
    """Its client has a bug, or makes too few tokens."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(SoftwareModule(sample_keys()))
        self._error = error

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        if self._error is not None:
            raise self._error
        raise ModuleSilent("never")


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("x"), RuntimeError("y")])
async def test_a_modules_client_that_fails_gives_the_money_back(tmp_path: Path, error: Exception) -> None:
    async with _desk(f"sqlite:///{tmp_path}/t.db", _Broken(error)) as (counter, desk, outgoing):
        await desk.receive(_buy(counter, 50_000))
        assert (await outgoing.next()).message.key == "module_silent"
        assert await counter.available("wallet:A100001") == 150_000


async def test_money_held_past_its_time_is_given_back_without_asking_again(tmp_path: Path) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db", _waiting()) as counter:
        done = await counter.buy(50_000)
        counter.world.advance(minutes=11)
        look = await counter.store.submit(Continue(counter.shop, done.ask[0].purchase_id))
        assert (look.state, look.ask, look.replies[0].message.key) == (State.RETURNED, [], "module_silent")
        assert await counter.available("wallet:A100001") == 150_000
        await counter.check_books()


async def test_a_meter_that_moves_while_the_module_works_leaves_the_purchase_where_it_was_priced(
    database_url: str,
) -> None:
    async with _desk(database_url, _waiting("wait")) as (counter, desk, outgoing):
        await desk.receive(_buy(counter, 50_000))
        other = sa.select(tables.service_point.c.id).where(tables.service_point.c.code == "SP-20002").scalar_subquery()
        m = tables.meter

        def move(connection: sa.Connection) -> None:
            """What staff cannot do while a purchase is under way (docs/decisions/0020); a hand in the database can."""
            connection.execute(
                m.update().where(m.c.drn == "07003012213").values(service_point_id=None, status="REMOVED")
            )
            connection.execute(m.update().where(m.c.drn == METER).values(service_point_id=other))

        await counter.store.transact(move)
        module = counter.shop.module
        assert isinstance(module, WaitingModule)
        module.go.set()
        assert (await outgoing.next()).message.key == "sold"
        s = tables.service_point.c
        rows = await counter.store.read(
            lambda connection: connection.execute(
                sa.select(s.code, s.month_units_tenths, s.vending).where(s.code.in_(["SP-20001", "SP-20002"]))
            ).all()
        )
        assert sorted(tuple(row) for row in rows) == [("SP-20001", 226, None), ("SP-20002", 0, None)]


async def test_of_equal_orders_behind_a_busy_point_the_first_is_sold(database_url: str) -> None:
    async with _desk(database_url, _waiting("wait")) as (counter, desk, outgoing):
        await desk.receive(_buy(counter, 20_000))
        for _ in range(3):
            await desk.receive(_buy(counter, 30_000))
        module = counter.shop.module
        assert isinstance(module, WaitingModule)
        module.go.set()
        replies = [await outgoing.next() for _ in range(4)]
        assert [reply.message.key for reply in replies] == ["sold", "sold", "just_bought", "just_bought"]
        assert replies[2].message.values["receipt"] == replies[1].message.values["receipt"]


async def test_a_queue_goes_on_when_its_head_is_refused(database_url: str) -> None:
    async with _desk(database_url, _waiting("wait")) as (counter, desk, outgoing):
        await desk.receive(_buy(counter, 140_000))
        await desk.receive(_buy(counter, 90_000))  # no longer in the wallet when its turn comes
        await desk.receive(_buy(counter, 5_000))
        module = counter.shop.module
        assert isinstance(module, WaitingModule)
        module.go.set()
        keys = [(await outgoing.next()).message.key for _ in range(3)]
        assert keys == ["sold", "funds_short", "sold"]


async def test_a_restart_takes_up_first_what_others_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db", _waiting()) as counter:
        vending = await counter.buy(50_000)
        behind = await counter.buy(20_000)
        (waiting_id,) = behind.wait_for
        vending_id = vending.ask[0].purchase_id
        desk = VendingDesk(counter.shop, counter.store, _Outgoing(), Metrics())
        started: list[object] = []

        def start(purchase_id: object, work: Coroutine[object, object, None]) -> None:
            started.append(purchase_id)
            work.close()

        monkeypatch.setattr(desk, "_start", start)
        # With an id from a node whose clock is behind, the one that waits is the older of the two.
        await counter.store.transact(
            lambda connection: connection.execute(
                tables.purchase.update()
                .where(tables.purchase.c.id == waiting_id)
                .values(id=uuid7(1, 0, 1), receipt=None)
            )
        )
        assert await desk.resume(at_start=True) == 2
        assert started == [vending_id, uuid7(1, 0, 1)]


async def test_a_look_at_a_purchase_that_has_ended_does_nothing(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        sold, refused = await counter.buy(50_000), await counter.buy(50_000)
        for done in (sold, refused):
            look = await counter.store.submit(Continue(counter.shop, done.replies[0].request_id))
            assert (look.state, look.replies) == (None, [])
        assert await counter.count(tables.outbox) == 2
        await counter.check_books()


async def test_a_reply_about_a_reused_reference_confirms_no_purchase(database_url: str) -> None:
    from channels.contract import Outcome, Sent
    from config.settings import DeliverySettings
    from gateway.delivery import Delivery

    class Taking:
        name = "sms"

        async def run(self, desk: object) -> None:
            raise AssertionError("not served here")

        async def send(self, reply: Reply) -> Sent:
            return Sent(Outcome.TAKEN)

        def is_up(self) -> bool:
            return True

    async with open_counter(database_url) as counter:
        sold = await counter.buy(50_000, reference="m1")
        differs = await counter.buy(60_000, reference="m1")
        request_id = sold.replies[0].request_id
        assert differs.replies[0].request_id == request_id
        delivery = Delivery(counter.store, {"sms": Taking()}, DeliverySettings(), "node-1", counter.world, Metrics())
        delivery.enqueue(differs.replies)
        await delivery.close()
        assert await _state(counter, request_id) == "VENDED"
        delivery.enqueue(sold.replies)
        await delivery.close()
        assert await _state(counter, request_id) == "DELIVERED"


async def test_only_its_owner_marks_a_reply(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        (reply,) = (await counter.buy(50_000)).replies
        now = counter.world.now()
        await counter.store.submit(End(reply.id, "another node", "DEAD", None, "", now))
        assert await counter.count(tables.outbox, tables.outbox.c.state == "OWED") == 1
        await counter.store.submit(End(reply.id, "node-1", "SENT", None, "", now))
        await counter.store.submit(End(reply.id, "node-1", "DEAD", None, "", now))
        assert await counter.count(tables.outbox, tables.outbox.c.state == "SENT") == 1


@pytest.mark.parametrize("table", [tables.txn, tables.posting])
async def test_the_database_itself_keeps_postings_as_they_are(database_url: str, table: sa.Table) -> None:
    async with open_counter(database_url) as counter:
        await counter.buy(50_000)
        column = next(column for column in table.columns if column.name in ("kind", "amount_minor"))
        for change in (table.update().values({column: column}), table.delete()):
            with pytest.raises(sa.exc.DBAPIError, match="is never changed"):
                await counter.store.transact(lambda connection, change=change: connection.execute(change))  # type: ignore[misc]
        await counter.check_books()
