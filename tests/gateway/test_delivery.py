"""Replies from outbox to channel: once, by one owner, again after a failure, elsewhere when a lease runs out."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from pathlib import Path

from channels.contract import Outcome, Reply, Sent
from config.settings import DeliverySettings
from gateway.delivery import Delivery
from gateway.metrics import Metrics
from ledger import tables
from tests.simulation.shop import Counter, open_counter

SETTINGS = DeliverySettings(lease_s=60.0, poll_every_s=0.01, in_flight_max=5, retry_min_s=5.0, attempts_max=3)
AGENT = "254722000002"


class _Channel:
    """Takes what it is told to take, and remembers."""

    name = "sms"

    def __init__(self, *plan: Outcome) -> None:
        self.plan = list(plan)
        self.sent: Tally[object] = Tally()
        self.gate = asyncio.Event()
        self.gate.set()
        self.up = True
        self.news = asyncio.Event()

    async def run(self, desk: object) -> None:
        raise AssertionError("not served here")

    async def send(self, reply: Reply) -> Sent:
        self.sent[reply.id] += 1
        self.news.set()
        await self.gate.wait()
        return Sent(self.plan.pop(0) if self.plan else Outcome.TAKEN)

    def is_up(self) -> bool:
        return self.up


def _delivery(counter: Counter, channel: _Channel, node: str = "node-1") -> Delivery:
    return Delivery(counter.store, {"sms": channel}, SETTINGS, node, counter.world, Metrics())


async def _sold(counter: Counter, count: int) -> list[Reply]:
    return [(await counter.buy(20_000 + n, sender=AGENT)).replies[0] for n in range(count)]


async def _state_is(counter: Counter, state: str, count: int) -> None:
    async with asyncio.timeout(60):
        while await counter.count(tables.outbox, tables.outbox.c.state == state) != count:
            await asyncio.sleep(0.005)


async def test_a_backlog_is_sent_once_each_in_turn(tmp_path: Path) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        replies, channel = await _sold(counter, 12), _Channel()
        delivery = _delivery(counter, channel)
        running = asyncio.create_task(delivery.run())
        delivery.enqueue(replies)
        await _state_is(counter, "SENT", 12)
        assert set(channel.sent.values()) == {1}
        assert await counter.count(tables.purchase, tables.purchase.c.state == "DELIVERED") == 12
        running.cancel()
        await delivery.close()


async def test_what_is_being_sent_slowly_is_not_sent_again_by_the_same_node(tmp_path: Path) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        replies, channel = await _sold(counter, 3), _Channel()
        channel.gate.clear()
        delivery = _delivery(counter, channel)
        delivery.enqueue(replies)
        await channel.news.wait()
        counter.world.advance(minutes=5)
        running = asyncio.create_task(delivery.run())
        await asyncio.sleep(0.1)
        channel.gate.set()
        await _state_is(counter, "SENT", 3)
        assert set(channel.sent.values()) == {1}
        running.cancel()
        await delivery.close()


async def test_a_reply_not_taken_waits_and_is_tried_again_and_given_up_in_the_end(tmp_path: Path) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        (reply,) = await _sold(counter, 1)
        channel = _Channel(Outcome.LATER, Outcome.LATER, Outcome.LATER)
        delivery = _delivery(counter, channel)
        running = asyncio.create_task(delivery.run())
        delivery.enqueue([reply])
        for tries in (1, 2):
            async with asyncio.timeout(60):
                while await counter.count(tables.outbox, tables.outbox.c.attempts == tries) != 1:
                    await asyncio.sleep(0.005)
            counter.world.advance(minutes=1)
        await _state_is(counter, "DEAD", 1)
        assert channel.sent[reply.id] == 3
        running.cancel()
        await delivery.close()


async def test_another_node_takes_over_when_the_lease_has_run_out_and_not_before(tmp_path: Path) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        await _sold(counter, 2)  # their node died before it sent them
        channel = _Channel()
        delivery = _delivery(counter, channel, node="node-2")
        running = asyncio.create_task(delivery.run())
        await asyncio.sleep(0.1)
        assert not channel.sent
        counter.world.advance(seconds=181)
        await _state_is(counter, "SENT", 2)
        running.cancel()
        await delivery.close()


async def test_a_node_that_starts_again_sends_its_own_at_once(tmp_path: Path) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        await _sold(counter, 2)
        channel = _Channel()
        delivery = _delivery(counter, channel)
        running = asyncio.create_task(delivery.run())
        await _state_is(counter, "SENT", 2)
        running.cancel()
        await delivery.close()


async def test_nothing_is_claimed_while_no_link_is_up(tmp_path: Path) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        await _sold(counter, 1)
        channel = _Channel()
        channel.up = False
        delivery = _delivery(counter, channel)
        running = asyncio.create_task(delivery.run())
        await asyncio.sleep(0.1)
        assert not channel.sent
        channel.up = True
        await _state_is(counter, "SENT", 1)
        running.cancel()
        await delivery.close()
