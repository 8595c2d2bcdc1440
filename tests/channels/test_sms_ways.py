"""Links that only take or only send, between the SMS channel and a message centre on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from channels.contract import Outcome
from channels.smpp import codes
from channels.smpp.link import IncomingReceipt, Link
from channels.sms import SmsChannel
from tests.channels.books import PartsInMemory
from tests.channels.smpp.rig import PHONE, SHORT_CODE, link_settings, message_centre, until
from tests.channels.test_sms import NOW, TOKEN, Desk, make_channel, reply


@asynccontextmanager
async def running(links: Sequence[Link], receipts: list[IncomingReceipt]) -> AsyncIterator[tuple[SmsChannel, Desk]]:
    def take(receipt: IncomingReceipt) -> None:
        receipts.append(receipt)
        receipt.answer(codes.ROK)

    channel = SmsChannel(
        links,
        parse=make_channel({}, [])._parse,
        render=lambda reply: str(reply.message.values["text"]),
        keep_whole=lambda reply: [TOKEN],
        now=lambda: NOW,
        new_reference=lambda: "fresh",
        parts=PartsInMemory(lambda: NOW),
        on_receipt=take,
    )
    desk = Desk()
    run = asyncio.create_task(channel.run(desk))
    try:
        yield channel, desk
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


async def test_what_a_receiver_brings_is_answered_by_its_centres_transmitter() -> None:
    async with message_centre() as home, message_centre() as other:

        def link(name: str, port: int, mode: str, centre: str, *prefixes: str) -> Link:
            settings = link_settings(port, name=name, mode=mode, centre=centre, prefixes=prefixes)
            return Link(replace(settings, registered_delivery=1), random=lambda: 0.5)

        elsewhere = link("other", other.port, "transceiver", "")
        receiver = link("in", home.port, "receiver", "home")
        transmitter = link("out", home.port, "transmitter", "home", "99")
        receipts: list[IncomingReceipt] = []
        async with running([elsewhere, receiver, transmitter], receipts) as (channel, desk):
            await until(lambda: len(home.bound) == 2 and other.bound and transmitter.is_up() and elsewhere.is_up())
            assert receiver.is_bound() and not receiver.is_up(), "it is bound, and could send nothing"
            assert (list(receiver.states()), list(transmitter.states())) == (["receiver"], ["transmitter"])
            home.deliver(PHONE, SHORT_CODE, "help")
            await until(lambda: desk.received)
            await asyncio.wait_for(home.drained(), 60)
            assert [inbound.peer for inbound in desk.received] == ["in"]
            sent = await channel.send(reply("the answer", peer="in"))
            assert sent.outcome is Outcome.TAKEN
            assert [part.link for part in sent.parts] == ["out"]
            assert (await home.next_reply(PHONE)).text == "the answer"
            # Its receipt comes by the receiver, under the same centre.
            await until(lambda: receipts)
            assert (receipts[0].link.name, receipts[0].link.centre, sent.parts[0].centre) == ("in", "home", "home")
            # Without its transmitter the others stand in; for another number its prefixes keep it out.
            transmitter.let_send(False)
            assert (await channel.send(reply("again", peer="in", number=8))).outcome is Outcome.TAKEN
            assert (await other.next_reply(PHONE)).text == "again"
            transmitter.let_send(True)
            assert (await channel.send(reply("third", peer="", number=9))).outcome is Outcome.TAKEN
            assert (await other.next_reply(PHONE)).text == "third"


async def test_a_channel_of_receivers_alone_is_not_up() -> None:
    async with message_centre() as home:
        settings = link_settings(home.port, name="in", mode="receiver")
        async with running([Link(settings, random=lambda: 0.5)], []) as (channel, _):
            await until(lambda: home.bound)
            assert not channel.is_up()
            sent = await channel.send(reply("the answer", peer="in"))
            assert (sent.outcome, sent.is_tried) == (Outcome.LATER, False)
