"""Receipts from the wire into the books: acknowledged when stored, matched early or late, a second route, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.smpp import codes
from channels.smpp.link import IncomingReceipt, Link
from channels.smpp.receipt import Receipt
from config.settings import LinksSettings, SmppSettings
from gateway.app import second_routes, verdicts
from gateway.metrics import Metrics
from gateway.smsbooks import Receipts
from ledger import tables
from ledger.outbox import End
from ledger.sms import SentRow
from ledger.sms_tables import sms_receipt, sms_sent
from tests.channels.smpp.rig import link_settings, until
from tests.simulation.shop import Counter, open_counter

AGENT = "254722000002"


class _Told(IncomingReceipt):
    """A receipt whose answer is remembered."""

    def __init__(self, link: Link, receipt: Receipt) -> None:
        super().__init__(link, None, 0, receipt)  # type: ignore[arg-type]
        self.status: int | None = None

    def answer(self, command_status: int) -> None:
        self.status = command_status


@asynccontextmanager
async def books(url: str, **changes: Any) -> AsyncIterator[tuple[Counter, Receipts, Link]]:
    async with open_counter(url) as counter:
        settings = LinksSettings(**changes)
        receipts = Receipts(counter.store, settings, {"a": "b"}, counter.world, Metrics())
        link = Link(link_settings(1, name="a", centre="umoja"), random=lambda: 0.5)
        task = asyncio.create_task(receipts.run())
        try:
            yield counter, receipts, link
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def sent(counter: Counter, message_id: str) -> None:
    """A sale whose token a message centre has taken."""
    (reply,) = (await counter.buy(20_000, sender=AGENT)).replies
    row = SentRow(
        counter.world.new_id(), "umoja", message_id, message_id, reply.id, 1, 1, "a", AGENT, None, None, None, True
    )
    confirms = (reply.request_id, "DELIVERED")
    await counter.store.submit(End(reply.id, "node-1", "SENT", confirms, "", counter.world.now(), (row,)))


def receipt(message_id: str | None, state: str | None = "DELIVRD", about: str = "+" + AGENT) -> Receipt:
    return Receipt("receipt", message_id, state, about=about)


async def test_receipts_are_acknowledged_when_they_are_stored(database_url: str) -> None:
    async with books(database_url) as (counter, receipts, link):
        await sent(counter, "7f")
        early, known, none = _Told(link, receipt("99")), _Told(link, receipt("007F")), _Told(link, receipt(None))
        for each in (early, known, none):
            receipts.take(each)
        assert [each.status for each in (early, known, none)] == [None, None, codes.ROK]
        await until(lambda: known.status is not None and early.status is not None)
        assert (known.status, early.status) == (codes.ROK, codes.ROK)
        assert await counter.count(sms_sent, sms_sent.c.state == "DELIVRD") == 1
        assert await counter.count(sms_receipt) == 1
        counter.world.advance(hours=2)
        await receipts.look()
        assert await counter.count(sms_receipt) == 0, "nobody here has sent it"
        counter.world.advance(days=8)
        await receipts.look(forget=True)
        assert await counter.count(sms_sent) == 0


async def test_receipts_that_cannot_be_stored_are_put_off(database_url: str) -> None:
    async with books(database_url) as (counter, receipts, link):
        await counter.store.transact(lambda connection: connection.exec_driver_sql("DROP TABLE sms_receipt"))
        told = _Told(link, receipt("7f"))
        receipts.take(told)
        await until(lambda: told.status is not None)
        assert told.status == codes.RX_T_APPN


async def test_receipts_that_come_while_the_gateway_leaves_are_put_off_at_once(database_url: str) -> None:
    """Unanswered, they would hold the link until its grace is over."""
    async with books(database_url) as (_, receipts, link):
        await asyncio.sleep(0)
        waits = _Told(link, receipt("7f"))
        receipts.take(waits)
    late = _Told(link, receipt("8f"))
    receipts.take(late)
    assert (waits.status, late.status) == (codes.RX_T_APPN, codes.RX_T_APPN)


async def test_no_good_receipt_in_time_owes_the_reply_again_by_another_link_once(database_url: str) -> None:
    async with books(database_url, second_route_after_s=60.0) as (counter, receipts, link):
        await sent(counter, "7f")
        bad = _Told(link, receipt("7f", "UNDELIV"))
        receipts.take(bad)
        await until(lambda: bad.status is not None)
        await receipts.look()
        assert await counter.count(tables.outbox, tables.outbox.c.state == "OWED") == 0, "there is time left"
        counter.world.advance(seconds=61)
        await receipts.look()
        owed = tables.outbox.c
        assert await counter.count(tables.outbox, owed.state == "OWED", owed.peer == "b") == 1
        await receipts.look()
        assert await counter.count(tables.purchase, tables.purchase.c.state == "DELIVERED") == 1
        await counter.check_books()


def test_second_routes_lead_to_another_message_centre_where_there_is_one() -> None:
    links = [
        SmppSettings(name=name, host="h", system_id="x", centre=centre)
        for name, centre in (("a", "one"), ("b", "one"), ("c", "two"))
    ]
    assert second_routes(links) == {"a": "c", "b": "c", "c": "a"}
    assert second_routes(links[:2]) == {"a": "b", "b": "a"} and second_routes(links[:1]) == {}


def test_statuses_are_read_as_they_are_written() -> None:
    assert verdicts("") == {}
    assert {status: each.value for status, each in verdicts("0x45=pause 0x401=never").items()} == {
        0x45: "pause",
        0x401: "never",
    }
