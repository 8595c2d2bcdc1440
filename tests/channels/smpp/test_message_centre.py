"""The message centre: its answers by octets, redelivery, faults, and smpplib's client as an independent ESME.

Origin of the table: SMPP 3.4, chapters 2 to 5; the client is smpplib 2.2.4, run in a thread because it blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import smpplib.client
import smpplib.consts
import smpplib.gsm

from channels.smpp import codes
from channels.smpp.framing import Framer, read_header
from channels.smpp.message_centre import Account, CentreFull, Fault, MessageCentre, serve
from channels.smpp.parts import place_of
from channels.smpp.pdu import Bare, Bind, BindResp, DataSm, DeliverSm, MessageResp, Pdu, SubmitSm, decode, find_tlv
from channels.smpp.text import split
from tests.channels.smpp.rig import PATIENCE_S, PHONE, SHORT_CODE, centre_settings, message_centre, until

pytestmark = pytest.mark.asyncio


class Wire:
    """An ESME that says and does only what the test writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._framer = Framer()
        self._frames: list[bytes] = []

    def say(self, *packets: Pdu | bytes) -> None:
        self.writer.write(b"".join(each if isinstance(each, bytes) else each.encode() for each in packets))

    async def hear_frame(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            while not self._frames:
                octets = await self._reader.read(65536)
                if not octets:
                    raise EOFError
                self._frames += self._framer.feed(octets)
        return self._frames.pop(0)

    async def hear(self) -> Pdu:
        return decode(await self.hear_frame())

    async def deliver(self) -> DeliverSm:
        packet = await self.hear()
        assert isinstance(packet, DeliverSm)
        return packet

    async def closed(self) -> bool:
        try:
            await self.hear_frame()
        except (EOFError, ConnectionError):
            return True
        return False


@asynccontextmanager
async def wire(centre: MessageCentre, command: int | None = codes.BIND_TRANSCEIVER) -> AsyncIterator[Wire]:
    esme = Wire(*await asyncio.open_connection("127.0.0.1", centre.port))
    try:
        if command is not None:
            esme.say(Bind(command, 1, "gateway", "secret"))
            answer = await esme.hear()
            assert isinstance(answer, BindResp) and (answer.command_status, answer.system_id) == (0, "sandbox")
            assert find_tlv(answer.tlvs, codes.TLV_SC_INTERFACE_VERSION) == b"\x34"
        yield esme
    finally:
        esme.writer.close()


def raw(command_id: int, sequence: int, body: bytes = b"") -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in (16 + len(body), command_id, 0, sequence)) + body


# ------------------------------------------------------------------------------------------------ by octets

SUBMIT = SubmitSm(7, destination_addr=PHONE, short_message=b"token")
# fmt: off
UNBOUND = [
    # said, heard: command, status, sequence
    (Bind(9, 3, "gateway", "wrong").encode(),     (0x80000009, 0x0E, 3)),
    (Bind(9, 3, "nobody", "secret").encode(),     (0x80000009, 0x0F, 3)),
    (raw(9, 3, b"no nul anywhere at all here"),   (0x80000009, 0x0F, 3)),
    (SUBMIT.encode(),                             (0x80000004, 0x04, 7)),
    (raw(0x06, 3),                                (0x80000006, 0x04, 3)),
    (raw(0x03, 3),                                (0x80000003, 0x04, 3)),
    (raw(0x15, 3),                                (0x80000015, 0x00, 3)),
    (raw(0x10203, 3),                             (0x80000000, 0x03, 3)),
    (b"GET / HTTP/1.1\r\n",                       (0x80000000, 0x02, 0x2E310D0A)),
]
BOUND = [
    (Bind(9, 3, "gateway", "secret").encode(),    (0x80000009, 0x05, 3)),
    (raw(0x04, 3),                                (0x80000004, 0x15, 3)),
    (SubmitSm(3, short_message=b"x").encode(),    (0x80000004, 0x0B, 3)),   # to nobody
    (raw(0x03, 3),                                (0x80000003, 0x08, 3)),
    (raw(0x10203, 3),                             (0x80000000, 0x03, 3)),
    (raw(0x80000777, 3) + raw(0x15, 4),           (0x80000015, 0x00, 4)),   # responses are never answered
    (raw(0x06, 3),                                (0x80000006, 0x00, 3)),
]
# fmt: on


@pytest.mark.parametrize(("said", "heard"), UNBOUND)
async def test_what_a_stranger_hears(said: bytes, heard: tuple[int, int, int]) -> None:
    async with message_centre() as centre, wire(centre, None) as esme:
        esme.say(said)
        assert read_header(await esme.hear_frame()) == heard


@pytest.mark.parametrize(("said", "heard"), BOUND)
async def test_what_a_bound_esme_hears(said: bytes, heard: tuple[int, int, int]) -> None:
    async with message_centre() as centre, wire(centre) as esme:
        esme.say(said)
        assert read_header(await esme.hear_frame()) == heard


async def test_a_transmitter_gets_no_messages_and_a_receiver_may_not_submit() -> None:
    async with (
        message_centre() as centre,
        wire(centre, codes.BIND_TRANSMITTER) as transmitter,
        wire(centre, codes.BIND_RECEIVER) as receiver,
    ):
        centre.deliver(PHONE, SHORT_CODE, "500")
        assert (await receiver.deliver()).octets == b"500"
        receiver.say(SUBMIT)
        assert read_header(await receiver.hear_frame()) == (codes.SUBMIT_SM_RESP, 0x04, 7)
        transmitter.say(SUBMIT)
        assert read_header(await transmitter.hear_frame()) == (codes.SUBMIT_SM_RESP, 0x00, 7)
        assert centre.bound == ["gateway", "gateway"]


async def test_who_never_binds_is_disconnected() -> None:
    async with message_centre(session_init_s=0.05) as centre, wire(centre, None) as esme:
        assert await esme.closed()


async def test_a_silent_esme_is_asked_and_then_left() -> None:
    async with message_centre(enquire_link_s=0.02, inactivity_s=0.1, redeliver_after_s=0.02) as centre:
        async with wire(centre) as esme:
            assert read_header(await esme.hear_frame())[0] == codes.ENQUIRE_LINK
            while not await esme.closed():
                pass
            await until(lambda: centre.bound == [])


# ------------------------------------------------------------------------------------------------ delivering


async def test_a_message_carries_its_id_if_and_where_the_settings_say() -> None:
    async with message_centre(id_prefix="run1-", id_tlv=0x1400) as centre, wire(centre) as esme:
        message_id = centre.deliver(PHONE, SHORT_CODE, "500")
        assert message_id.startswith("run1-")
        packet = await esme.deliver()
        assert find_tlv(packet.tlvs, 0x1400) == message_id.encode() + b"\0"
        assert (packet.source_addr, packet.destination_addr, packet.octets) == (PHONE, SHORT_CODE, b"500")
    async with message_centre(id_tlv=None) as centre, wire(centre) as esme:
        centre.deliver(PHONE, SHORT_CODE, "500", tlvs=((0x0204, b"\0\1"),))
        assert (await esme.deliver()).tlvs == ((0x0204, b"\0\1"),)


async def test_the_window_of_deliveries_is_kept() -> None:
    async with message_centre(window=3, redeliver_after_s=60.0) as centre, wire(centre) as esme:
        for number in range(5):
            centre.deliver(PHONE, SHORT_CODE, str(number))
        first = [await esme.deliver() for _ in range(3)]
        esme.say(Bare(codes.ENQUIRE_LINK, 99))
        assert read_header(await esme.hear_frame())[0] == codes.ENQUIRE_LINK_RESP  # and no fourth before it
        esme.say(MessageResp(codes.DELIVER_SM_RESP, first[1].sequence))
        assert (await esme.deliver()).octets == b"3"
        assert centre.counts.deliveries == 4


# fmt: off
@pytest.mark.parametrize(("status", "again"), [
    (0x64, True), (0x58, True), (0x08, True), (0x04, True), (0x14, True),
    (0x00, False), (0x65, False), (0x66, False), (0x01, False),
])
# fmt: on
async def test_what_was_put_off_comes_again_and_what_was_taken_or_refused_does_not(status: int, again: bool) -> None:
    async with message_centre(redeliver_after_s=0.03) as centre, wire(centre) as esme:
        centre.deliver(PHONE, SHORT_CODE, "500")
        first = await esme.deliver()
        esme.say(MessageResp(codes.DELIVER_SM_RESP, first.sequence, status))
        if again:
            second = await esme.deliver()
            assert second.tlvs == first.tlvs and second.sequence != first.sequence
            esme.say(MessageResp(codes.DELIVER_SM_RESP, second.sequence))
        await asyncio.wait_for(centre.drained(), PATIENCE_S)
        await asyncio.sleep(0.05)
        assert centre.counts.redeliveries == again


async def test_a_message_not_understood_is_put_off_too() -> None:
    async with message_centre(redeliver_after_s=0.03) as centre, wire(centre) as esme:
        centre.deliver(PHONE, SHORT_CODE, "500")
        esme.say(Bare(codes.GENERIC_NACK, (await esme.deliver()).sequence))  # with status 0, as some do
        assert (await esme.deliver()).octets == b"500"


async def test_silence_brings_a_message_again_and_a_late_answer_still_counts() -> None:
    async with message_centre(redeliver_after_s=0.03) as centre, wire(centre) as esme:
        centre.deliver(PHONE, SHORT_CODE, "500")
        first = await esme.deliver()
        second = await esme.deliver()
        assert second.octets == first.octets
        esme.say(MessageResp(codes.DELIVER_SM_RESP, first.sequence))
        await asyncio.wait_for(centre.drained(), PATIENCE_S)


async def test_what_a_lost_receiver_left_unanswered_goes_to_the_next() -> None:
    async with message_centre(redeliver_after_s=60.0) as centre:
        async with wire(centre) as esme:
            for number in range(3):
                centre.deliver(PHONE, SHORT_CODE, str(number))
            esme.say(MessageResp(codes.DELIVER_SM_RESP, (await esme.deliver()).sequence))
            await until(lambda: centre.unanswered == 2)
        async with wire(centre) as esme:
            assert [(await esme.deliver()).octets for _ in range(2)] == [b"1", b"2"]


async def test_messages_go_to_the_account_that_serves_their_destination() -> None:
    accounts = (Account("gateway", "secret", ("1234",)), Account("other", "secret", ("5678",)))
    async with message_centre(accounts=accounts) as centre, wire(centre) as esme:
        centre.deliver(PHONE, "5678", "not for us")
        centre.deliver(PHONE, "1234", "for us")
        assert (await esme.deliver()).octets == b"for us"
        with pytest.raises(KeyError):
            centre.deliver(PHONE, "9999", "for nobody")


async def test_more_messages_than_may_wait_are_refused() -> None:
    async with message_centre(max_waiting=2) as centre:
        centre.deliver(PHONE, SHORT_CODE, "1")
        centre.deliver(PHONE, SHORT_CODE, "2")
        with pytest.raises(CentreFull):
            centre.deliver(PHONE, SHORT_CODE, "3")


async def test_a_long_text_goes_in_parts_and_any_octets_go_as_they_are() -> None:
    async with message_centre() as centre, wire(centre) as esme:
        centre.deliver(PHONE, SHORT_CODE, "a" * 200)
        parts = [await esme.deliver() for _ in range(2)]
        assert [place_of(part)[1] for part in parts] == [b"a" * 153, b"a" * 47]
        centre.deliver_octets(PHONE, SHORT_CODE, b"\x04\x35", 8, esm_class=0x80)
        packet = await esme.deliver()
        assert (packet.octets, packet.data_coding, packet.esm_class) == (b"\x04\x35", 8, 0x80)


# ------------------------------------------------------------------------------------------------ receiving


async def test_replies_are_recorded_joined_and_given_in_their_order() -> None:
    token = "1234 5678 9012 3456 7890"
    async with message_centre() as centre, wire(centre) as esme:
        waiting = asyncio.create_task(centre.next_reply(PHONE))
        parts = split("x" * 150 + token, 9, [token])
        for number, part in enumerate(reversed(parts), start=1):
            esme.say(SubmitSm(number, "", 0, 0, SHORT_CODE, 1, 1, PHONE, part.esm_class, short_message=part[2]))
        first = await asyncio.wait_for(waiting, PATIENCE_S)
        assert (first.text, first.parts, first.source) == ("x" * 150 + token, 2, SHORT_CODE)
        esme.say(SubmitSm(3, destination_addr=PHONE, data_coding=8, short_message="مرحبا".encode("utf-16-be")))
        esme.say(DataSm(4, destination_addr=PHONE, tlvs=((0x0424, b"long"),)))
        texts = [(await asyncio.wait_for(centre.next_reply(PHONE), PATIENCE_S)).text for _ in range(2)]
        assert texts == ["مرحبا", "long"]
        assert [reply.text for reply in centre.messages_for(PHONE)] == [first.text, *texts]
        assert centre.messages_for("nobody") == []
        ids = [packet.message_id for packet in [await esme.hear() for _ in range(4)] if isinstance(packet, MessageResp)]
        assert len(set(ids)) == 4 and centre.counts.replies == 3


async def test_whoever_gave_up_waiting_for_a_reply_does_not_swallow_it() -> None:
    async with message_centre() as centre, wire(centre) as esme:
        gone = asyncio.create_task(centre.next_reply(PHONE))
        await asyncio.sleep(0)
        gone.cancel()
        esme.say(SUBMIT)
        assert (await asyncio.wait_for(centre.next_reply(PHONE), PATIENCE_S)).text == "token"


async def test_receipts_come_where_they_were_asked_for() -> None:
    async with message_centre() as centre, wire(centre) as esme:
        esme.say(SUBMIT, replace(SUBMIT, sequence=8, registered_delivery=1))
        answers = [await esme.hear(), await esme.hear()]
        receipt = await esme.deliver()
        assert receipt.esm_class == 0x04 and b"stat:DELIVRD" in receipt.octets
        assert isinstance(answers[1], MessageResp)
        assert find_tlv(receipt.tlvs, codes.TLV_RECEIPTED_MESSAGE_ID) == answers[1].message_id.encode() + b"\0"
        assert (receipt.source_addr, centre.counts.submits) == (PHONE, 2)


async def test_more_submits_than_the_rate_allows_are_throttled() -> None:
    async with message_centre(submits_per_s=3.0) as centre, wire(centre) as esme:
        esme.say(*(replace(SUBMIT, sequence=number) for number in range(1, 7)))
        statuses = [read_header(await esme.hear_frame())[1] for _ in range(6)]
        assert statuses == [0, 0, 0, 0x58, 0x58, 0x58]


async def test_faults_come_by_chance_where_the_settings_say() -> None:
    with pytest.raises(ValueError, match="random"):
        MessageCentre(centre_settings(fault_rates={Fault.THROTTLE: 0.5}))
    chances = iter((0.4, 0.6, 0.1))
    settings = centre_settings(fault_rates={Fault.THROTTLE: 0.5})
    centre = MessageCentre(settings, random=lambda: next(chances))
    await centre.start()
    async with wire(centre) as esme:
        esme.say(*(replace(SUBMIT, sequence=number) for number in (1, 2, 3)))
        assert [read_header(await esme.hear_frame())[1] for _ in range(3)] == [0x58, 0, 0x58]
    await centre.stop()


async def test_a_deaf_message_centre_leaves_enquiries_unanswered() -> None:
    async with message_centre() as centre, wire(centre) as esme:
        centre.arm(Fault.DEAF)
        esme.say(Bare(codes.ENQUIRE_LINK, 1), Bare(codes.ENQUIRE_LINK, 2))
        assert read_header(await esme.hear_frame()) == (codes.ENQUIRE_LINK_RESP, 0, 2)


async def test_it_serves_until_cancelled() -> None:
    task = asyncio.create_task(serve(centre_settings()))
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ------------------------------------------------------------------------------------------------ smpplib's client


def smpplib_session(port: int, command: str, texts: list[str], expected: int) -> tuple[list[bytes], list[bytes]]:
    """Bind as smpplib does, submit texts, take messages, unbind. Gives message ids and messages."""
    client = smpplib.client.Client("127.0.0.1", port, timeout=5, allow_unknown_opt_params=True)
    ids: list[bytes] = []
    messages: list[bytes] = []

    def take(pdu: Any) -> None:
        messages.append(pdu.short_message)

    client.set_message_sent_handler(lambda pdu: ids.append(pdu.message_id))
    client.set_message_received_handler(take)
    client.connect()
    getattr(client, command)(system_id="gateway", password="secret")
    submits = 0
    for text in texts:
        parts, coding, esm_class = smpplib.gsm.make_parts(text)
        for part in parts:
            client.send_message(
                source_addr=SHORT_CODE,
                destination_addr=PHONE,
                short_message=part,
                data_coding=coding,
                esm_class=esm_class,
                dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
            )
            submits += 1
    while len(ids) < submits or len(messages) < expected:
        client.read_once()
    client.unbind()
    client.disconnect()
    return ids, messages


async def test_smpplib_binds_sends_receives_and_unbinds() -> None:
    # No id parameter: smpplib has receipted_message_id in deliver_sm, but would see what many real centres send.
    async with message_centre(id_tlv=None, receipts=False) as centre:
        for text in ("04012345676 500", "€5 [ok]"):
            centre.deliver(PHONE, SHORT_CODE, text)
        texts = ["Token 1234", "a" * 200, "مرحبا " * 20, "@$_ {}"]
        ids, messages = await asyncio.to_thread(smpplib_session, centre.port, "bind_transceiver", texts, 2)
        assert messages == [b"04012345676 500", b"\x1be5 \x1b<ok\x1b>"]
        assert len(ids) == len(set(ids)) == 1 + 2 + 2 + 1
        assert [reply.text for reply in centre.messages_for(PHONE)] == texts
        await asyncio.wait_for(centre.drained(), PATIENCE_S)
        await until(lambda: centre.bound == [])
        assert centre.counts.nacks == 0


@pytest.mark.parametrize(("command", "texts", "expected"), [("bind_transmitter", ["out"], 0), ("bind_receiver", [], 1)])
async def test_smpplib_binds_in_the_other_ways(command: str, texts: list[str], expected: int) -> None:
    async with message_centre(id_tlv=None) as centre:
        if expected:
            centre.deliver(PHONE, SHORT_CODE, "in")
        ids, messages = await asyncio.to_thread(smpplib_session, centre.port, command, texts, expected)
        assert (len(ids), messages) == (len(texts), [b"in"] * expected)
