"""Long messages from phones: acknowledged when stored, whole once, torn told once; and the ways out of several links.

The parts are in a database in memory, through the functions that the product uses.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from channels.commands import Help, Unreadable
from channels.contract import NotStored, Outcome, Sent, SentPart
from channels.smpp.centre_session import Queue
from channels.smpp.link import Link
from channels.smpp.message_centre import Fault, IdForm, MessageCentre
from channels.smpp.pdu import DataSm, SubmitSm
from ledger.reasons import Reason
from tests.channels.books import PartsInMemory
from tests.channels.smpp.rig import PATIENCE_S, PHONE, SHORT_CODE, message_centre, until
from tests.channels.test_sms import NOW, drained, reply, room, rude_parts

LONG = "help " + "x" * 60


def three_parts() -> list[bytes]:
    return rude_parts(LONG, 46, 9)


def deliver(centre: MessageCentre, octets: bytes, phone: str = PHONE) -> str:
    return centre.deliver_octets(phone, SHORT_CODE, octets, 8, esm_class=0x40)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_every_order_of_three_parts_with_each_repeated_is_one_request(order: tuple[int, ...]) -> None:
    parts = three_parts()
    async with message_centre(id_tlv=None) as centre, room(centre) as here:
        for index in [*order, *order]:
            deliver(centre, parts[index])
            await drained(centre)
        assert here.texts == [LONG]
        assert centre.counts.put_off == 0


async def test_a_part_is_acknowledged_when_it_is_stored_and_not_before() -> None:
    books = PartsInMemory(lambda: NOW)
    books.away = True
    async with message_centre(redeliver_after_s=0.05) as centre, room(centre, parts=books) as here:
        deliver(centre, three_parts()[0])
        await until(lambda: centre.counts.put_off >= 2)
        assert centre.counts.acknowledged == 0
        books.away = False
        await drained(centre)
        assert here.texts == [] and books.states() == ["OPEN"]


async def test_what_a_crash_leaves_whole_is_handed_on_at_the_next_start() -> None:
    """The last part was stored, and the process died before the desk was asked: nobody may send it again."""
    books = PartsInMemory(lambda: NOW)
    async with message_centre(redeliver_after_s=60.0) as centre:
        async with room(centre, parts=books) as here:
            here.desk.faults += [NotStored()]
            for octets in three_parts():
                deliver(centre, octets)
            await until(lambda: centre.counts.put_off == 1)
        async with room(centre, parts=books) as here:
            await until(lambda: here.desk.received)
            assert here.texts == [LONG] and books.states() == ["DONE"]
            assert here.desk.received[0].reference.startswith("centre1:m:")


async def test_a_message_handed_on_twice_has_the_same_reference_and_fingerprint() -> None:
    books = PartsInMemory(lambda: NOW)
    async with message_centre(redeliver_after_s=0.05, id_tlv=None) as centre, room(centre, parts=books) as here:
        forgotten = books.settle

        async def forget(assembly_id: object, state: object) -> None:
            books.settle = forgotten  # type: ignore[method-assign]

        books.settle = forget  # type: ignore[method-assign]
        for octets in [*three_parts(), three_parts()[2]]:
            deliver(centre, octets)
            await drained(centre)
        first, second = here.desk.received
        assert (first.reference, first.fingerprint) == (second.reference, second.fingerprint)
        assert books.states() == ["DONE"]


async def test_a_missing_part_is_told_once_after_its_time_and_comes_too_late_then() -> None:
    clock = [NOW]

    def now() -> datetime:
        return clock[0]

    books = PartsInMemory(now)
    parts = three_parts()
    async with message_centre() as centre, room(centre, parts=books, now=now, part_timeout_s=60.0) as here:
        for octets in parts[1:]:
            deliver(centre, octets)
        await drained(centre)
        await asyncio.sleep(0.1)
        assert here.desk.received == []
        clock[0] += timedelta(seconds=61)
        await until(lambda: here.desk.received)
        await asyncio.sleep(0.1)
        (told,) = here.desk.received
        assert told.command == Unreadable(Reason.PART_MISSING) and told.sender == PHONE and books.states() == ["TOLD"]
        deliver(centre, parts[0])
        await drained(centre)
        assert here.desk.received == [told], "it was told that nothing came of it"


async def test_sar_and_both_kinds_of_header_with_one_reference_are_different_messages() -> None:
    async with message_centre(id_tlv=None) as centre, room(centre) as here:
        for number in (1, 2):
            eight = bytes((5, 0, 3, 7, 2, number)) + b"help 8"
            sixteen = bytes((6, 8, 4, 0, 7, 2, number)) + b"help 16"
            centre.deliver_octets(PHONE, SHORT_CODE, eight, 0, esm_class=0x40)
            centre.deliver_octets(PHONE, SHORT_CODE, sixteen, 0, esm_class=0x40)
            sar = ((0x020C, b"\0\7"), (0x020E, b"\2"), (0x020F, bytes((number,))))
            centre.deliver_octets(PHONE, SHORT_CODE, b"help sar", 0, tlvs=sar)
        await drained(centre)
        assert sorted(here.texts) == ["help 16help 16", "help 8help 8", "help sarhelp sar"]


# ------------------------------------------------------------------------------------------------ several ways out


async def test_a_link_that_surely_took_nothing_is_followed_by_the_next_at_once() -> None:
    async with message_centre() as one, message_centre() as two, room(one, two, throttle_retries=0) as here:
        for fault in (Fault.THROTTLE, Fault.QUEUE_FULL, Fault.NACK_SUBMIT):
            one.arm(fault)
            sent = await here.channel.send(reply(f"token {fault}", number=len(fault)))
            assert sent.outcome is Outcome.TAKEN and sent.detail.startswith("centre2")
        assert len(two.messages_for(PHONE)) == 3 and one.messages_for(PHONE) == []


async def test_no_answer_is_no_reason_to_send_it_by_another_link() -> None:
    async with message_centre() as one, message_centre() as two, room(one, two, response_timeout_s=0.1) as here:
        one.arm(Fault.SILENT_SUBMIT)
        sent = await here.channel.send(reply("token"))
        assert sent.outcome is Outcome.LATER and "unknown" in sent.detail and sent.is_tried
        assert two.messages_for(PHONE) == [] and len(one.messages_for(PHONE)) == 1


async def test_what_did_not_go_out_is_no_attempt_however_often_it_waits_in_vain() -> None:
    """A slow link with a long backlog must not make the outbox give up what was never sent."""
    async with message_centre() as centre, room(centre, window=1, queued_s=0.1, response_timeout_s=0.6) as here:
        centre.arm(Fault.SILENT_SUBMIT)
        tried = asyncio.create_task(here.channel.send(reply("token")))
        await until(lambda: centre.counts.submits)
        replies = [reply("token", number=5), reply("token " * 60, number=6)]
        for sent in await asyncio.gather(*(here.channel.send(each) for each in replies)):
            assert (sent.outcome, sent.is_tried) == (Outcome.LATER, False) and sent.detail.endswith("waited too long")
        assert (await tried).is_tried
    async with message_centre() as centre, room(centre, max_queued=0) as here:
        sent = await here.channel.send(reply("token"))
        assert (sent.outcome, sent.is_tried) == (Outcome.LATER, False) and "too many" in sent.detail
    async with message_centre() as one, message_centre() as two, room(one, two, throttle_retries=0) as here:
        one.arm(Fault.THROTTLE)
        here.channel.links[1].let_send(False)
        sent = await here.channel.send(reply("token"))
        assert (sent.outcome, sent.is_tried) == (Outcome.LATER, True), "one link was tried"


@pytest.mark.parametrize("text", ["token", "token " * 60])
async def test_an_answer_that_comes_too_late_saves_the_second_sms(text: str) -> None:
    async with message_centre(slow_s=0.2) as centre, room(centre, response_timeout_s=0.1) as here:
        centre.arm(Fault.SLOW_SUBMIT, 1)
        assert (await here.channel.send(reply(text))).outcome is Outcome.LATER
        (link,) = here.channel.links
        await until(lambda: link.counts.answered_late)
        before = centre.counts.submits
        assert (await here.channel.send(reply(text))).outcome is Outcome.TAKEN
        assert centre.counts.submits == before and len(centre.messages_for(PHONE)) == 1


async def test_only_the_parts_that_were_not_taken_are_sent_again() -> None:
    async with message_centre() as centre, room(centre, window=1) as here:
        text = "token " * 60
        centre.arm(Fault.NACK_SUBMIT)
        assert (await here.channel.send(reply(text))).outcome is Outcome.LATER
        assert (await here.channel.send(reply(text))).outcome is Outcome.TAKEN
        assert centre.counts.submits == 4, "three parts, one of them twice"
        assert [each.text for each in centre.messages_for(PHONE)] == [text]


async def test_what_was_sent_is_told_for_its_receipts() -> None:
    async with message_centre(response_ids=IdForm.ZEROS) as centre:
        async with room(centre, registered_delivery=1, centre="umoja") as here:
            sent = await here.channel.send(reply("token"))
            (part,) = sent.parts
            assert part == SentPart("centre1", "umoja", part.message_id, part.message_id.lstrip("0"), 1, 1)
            both = await here.channel.send(reply("token " * 30, number=8))
            assert [(each.part, each.parts) for each in both.parts] == [(1, 2), (2, 2)]
        async with room(centre) as here:
            assert (await here.channel.send(reply("token", number=9))).parts == (), "none was asked for"


async def test_a_reply_to_numbers_that_no_link_serves_is_not_tried() -> None:
    async with message_centre() as centre, room(centre, prefixes=("254",)) as here:
        assert await here.channel.send(reply("token", peer="gone")) == Sent(
            Outcome.LATER, "no link is up", is_tried=False
        )
        assert (await here.channel.send(reply("token", peer="gone", recipient="254711000000"))).outcome is Outcome.TAKEN


async def test_a_reply_carries_its_validity(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    accept = MessageCentre.accept

    def record(self: MessageCentre, queue: Queue, message: SubmitSm | DataSm, now: float) -> str:
        assert isinstance(message, SubmitSm)
        seen.append(message.validity_period)
        return accept(self, queue, message, now)

    monkeypatch.setattr(MessageCentre, "accept", record)
    async with message_centre() as centre, room(centre, validity_s=90_061) as here:
        await here.channel.send(reply("token"))
    assert seen == ["000001010101000R"]


# ------------------------------------------------------------------------------------------------ being allowed


def only_link(here_links: list[Link]) -> Link:
    (link,) = here_links
    return link


async def test_a_link_is_bound_only_while_it_is_permitted_and_ends_by_itself() -> None:
    async with message_centre() as centre, room(centre) as here:
        link, loop = only_link(here.channel.links), asyncio.get_running_loop()
        link.forbid()
        await until(lambda: link.is_away)
        assert centre.bound == [] and not link.is_up()
        assert (await here.channel.send(reply("token"))).detail == "no link is up"
        link.permit(loop.time() + 0.3)
        await until(link.is_up)
        await until(lambda: link.is_away)  # nobody has prolonged it
        assert centre.bound == []
        link.permit()
        await until(link.is_up)


async def test_a_link_that_stands_down_finishes_what_it_has_begun() -> None:
    async with message_centre(redeliver_after_s=60.0) as centre, room(centre) as here:
        here.desk.gate.clear()
        centre.deliver(PHONE, SHORT_CODE, "help")
        await until(lambda: here.desk.at_once == 1)
        link = only_link(here.channel.links)
        link.forbid()
        await asyncio.sleep(0.05)
        assert centre.bound, "a message is being stored"
        here.desk.gate.set()
        await drained(centre)
        await until(lambda: link.is_away)
        assert centre.counts.acknowledged == 1 and here.desk.received[0].command == Help()


async def test_a_paused_link_takes_messages_and_sends_nothing() -> None:
    async with message_centre() as centre, room(centre) as here:
        link = only_link(here.channel.links)
        link.let_send(False)
        centre.deliver(PHONE, SHORT_CODE, "help")
        await drained(centre)
        assert len(here.desk.received) == 1 and link.is_bound() and not here.channel.is_up()
        assert (await here.channel.send(reply("token"))).outcome is Outcome.LATER
        link.let_send(True)
        assert (await here.channel.send(reply("token"))).outcome is Outcome.TAKEN


async def test_a_link_keeps_its_rate_over_the_parts_of_long_texts() -> None:
    async with message_centre() as centre, room(centre, rate_per_s=40.0) as here:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.wait_for(
            asyncio.gather(*(here.channel.send(reply("token " * 60, number=n)) for n in range(1, 6))), PATIENCE_S
        )
        assert centre.counts.submits == 15 and loop.time() - began >= 12 / 40


async def test_throttling_slows_a_link_down_and_nothing_is_lost() -> None:
    async with message_centre(submits_per_s=100.0) as centre:
        async with room(centre, throttle_retries=1_000, throttle_pause_s=0.02, window=50) as here:
            results = await asyncio.gather(*(here.channel.send(reply("token", number=n)) for n in range(1, 161)))
            link = only_link(here.channel.links)
            assert {each.outcome for each in results} == {Outcome.TAKEN}
            assert centre.counts.throttled > 0 and link.allowed_per_s() < 2_000
            assert len(centre.messages_for(PHONE)) == min(160, centre.settings.keep_replies)
