"""A peer that writes nonsense on a real socket, packet by packet: what we answer, and that service goes on.

Origin: SMPP 3.4, 3.2, 4.3, 5.1.3; what real peers were seen to do wrong: github.com/farhadi/node-smpp/issues/168,
github.com/funbox/smppex/issues/6, github.com/python-smpplib/python-smpplib/issues/104.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.smpp import codes
from channels.smpp.events import Event, Role
from channels.smpp.framing import Framer
from channels.smpp.link import Incoming, Link
from channels.smpp.messageid import IdForms, forms, normal
from channels.smpp.parts import body_of
from channels.smpp.pdu import Bare, BindResp, DataSm, DeliverSm, MessageResp, decode
from channels.smpp.receipt import looks_like_receipt, read_receipt
from channels.smpp.session import Session
from channels.smpp.settings import LinkSettings
from channels.smpp.text import Alphabet
from channels.smpp.text import decode as decode_text
from tests.channels.smpp.rig import PHONE, SHORT_CODE, link_settings, running, submission, until

MARK = b"still here"


def raw(command_id: int, sequence: int = 7, body: bytes = b"", status: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">IIII", 16 + len(body) if length is None else length, command_id, status, sequence) + body


def good(sequence: int = 99) -> bytes:
    return DeliverSm(sequence, source_addr=PHONE, destination_addr=SHORT_CODE, short_message=MARK).encode()


class Peer:
    """Binds whoever comes, says its script on the first connection, and reads; on the next ones it behaves."""

    def __init__(self, script: bytes, *, slowly: bool) -> None:
        self.script = script
        self.slowly = slowly
        self.heard: list[list[tuple[str, int, int]]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard: list[tuple[str, int, int]] = []
        self.heard.append(heard)
        self.writers.append(writer)
        framer = Framer()
        with suppress(ConnectionError):
            while octets := await reader.read(65_536):
                for frame in framer.feed(octets):
                    packet = decode(frame)
                    sequence = packet.sequence
                    status = getattr(packet, "command_status", 0)
                    heard.append((codes.command_name(packet.command_id), status, sequence))
                    if packet.command_id == codes.BIND_TRANSCEIVER:
                        writer.write(BindResp(codes.BIND_TRANSCEIVER_RESP, sequence, 0, "peer").encode())
                        for piece in self._pieces() if len(self.heard) == 1 else [good()]:
                            writer.write(piece)
                            if self.slowly:
                                await writer.drain()
                                await asyncio.sleep(0)
                    elif packet.command_id == codes.ENQUIRE_LINK:
                        writer.write(Bare(codes.ENQUIRE_LINK_RESP, sequence).encode())
                    elif packet.command_id == codes.UNBIND:
                        writer.write(Bare(codes.UNBIND_RESP, sequence).encode())
        writer.close()

    def _pieces(self) -> list[bytes]:
        if not self.slowly:
            return [self.script + good()]
        whole = self.script + good()
        return [whole[at : at + 1] for at in range(min(len(whole), 400))] + [whole[400:]]


@asynccontextmanager
async def facing(script: bytes, *, slowly: bool = False) -> AsyncIterator[tuple[Peer, Link, list[bytes]]]:
    peer = Peer(script, slowly=slowly)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    taken: list[bytes] = []

    def take(incoming: Incoming) -> None:
        taken.append(incoming.message.octets)
        incoming.answer(codes.ROK)

    link = Link(link_settings(server.sockets[0].getsockname()[1], response_timeout_s=0.2), random=lambda: 0.5)
    try:
        async with running(link, take):
            yield peer, link, taken
    finally:
        for writer in peer.writers:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


NO_NUL = b"\0\1\1" + b"2" * 30
FIELDS = b"\0\1\1256\0\0\0" + b"1234\0" + b"\0\0\0\0\0\0\0\0\0"
# fmt: off
# What the peer says; what we answer to it: name, status, sequence; None where the stream is lost and the link rebuilt.
SCRIPTS: dict[str, tuple[bytes, list[tuple[str, int, int]] | None]] = {
    "command_length 0":             (raw(5, length=0), None),
    "command_length 15":            (raw(5, length=15), None),
    "command_length 4 GB":          (raw(5, length=0xFFFFFFFF), None),
    "command_length 70,001":        (raw(5, length=70_001), None),
    "an HTTP request":              (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None),
    "a TLS hello":                  (bytes.fromhex("16030100c8010000c40303"), None),
    "an unknown command":           (raw(0x00010203), [("generic_nack", 3, 7)]),
    "command 0":                    (raw(0), [("generic_nack", 3, 7)]),
    "an unknown response":          (raw(0x80010203), []),
    "a response nobody asked for":  (raw(0x80000004, 5, b"id\0"), []),
    "the same response twice":      (raw(0x80000004, 2, b"id\0") * 2, []),
    "a response without a body":    (raw(0x80000004, 5), []),
    "an error with a body":         (raw(0x80000004, 5, b"id\0", 0x58), []),
    "generic_nack out of the blue": (raw(0x80000000, 5, status=3), []),
    "bind_resp once more":          (raw(0x80000009, 1, b"x\0"), []),
    "sequence 0":                   (good(0), [("deliver_sm_resp", 0, 0)]),
    "sequence 0xFFFFFFFF":          (good(0xFFFFFFFF), [("deliver_sm_resp", 0, 0xFFFFFFFF)]),
    "deliver_sm without body":      (raw(5), [("deliver_sm_resp", 0x15, 7)]),
    "an address without end":       (raw(5, 7, NO_NUL), [("deliver_sm_resp", 0x0A, 7)]),
    "sm_length beyond the packet":  (raw(5, 7, FIELDS + b"\xc8hello"), [("deliver_sm_resp", 0x01, 7)]),
    "a parameter beyond it":        (raw(5, 7, FIELDS + b"\0" + b"\x04\x24\xff\xffab"), [("deliver_sm_resp", 0xC0, 7)]),
    "data_sm without body":         (raw(0x103), [("data_sm_resp", 0x15, 7)]),
    "a request for a server":       (raw(4, 7, FIELDS + b"\0"), [("submit_sm_resp", 4, 7)]),
    "alert_notification":           (raw(0x102, 7, b"\1\1256\0\1\1" + b"1234\0"), []),
    "outbind when bound":           (raw(0x0B, 7, b"x\0y\0"), []),
    "USSD and vendors' parameters": (DeliverSm(7, source_addr="256", tlvs=((0x0501, b"\1\2"), (0x1400, b""),
                                     (0x1400, b"x"), (0x0428, b"\x50"))).encode(), [("deliver_sm_resp", 0, 7)]),
    "an empty message":             (DeliverSm(7).encode(), [("deliver_sm_resp", 0, 7)]),
    "64 KB of text":                (DeliverSm(7, source_addr="256", tlvs=((0x0424, b"x" * 65_535),)).encode(),
                                     [("deliver_sm_resp", 0, 7)]),
    "data_sm with 64 KB":           (DataSm(7, source_addr="256", tlvs=((0x0424, b"\xff" * 65_535),)).encode(),
                                     [("data_sm_resp", 0, 7)]),
    "a receipt that is none":       (DeliverSm(7, esm_class=0x04, short_message=b"\xff\0\x1b").encode(),
                                     [("deliver_sm_resp", 0, 7)]),
    "a header longer than its text": (DeliverSm(7, source_addr="256", esm_class=0x40, short_message=b"\xffab").encode(),
                                     [("deliver_sm_resp", 0, 7)]),
    "a hundred enquiries":          (b"".join(raw(0x15, n) for n in range(200, 300)),
                                     [("enquire_link_resp", 0, n) for n in range(200, 300)]),
}
# fmt: on


@pytest.mark.parametrize("slowly", [False, True], ids=["whole", "octet by octet"])
@pytest.mark.parametrize("name", SCRIPTS)
async def test_nonsense_is_answered_as_the_specification_says_and_service_goes_on(name: str, slowly: bool) -> None:
    script, answers = SCRIPTS[name]
    async with facing(script, slowly=slowly) as (peer, link, taken):
        await until(lambda: MARK in taken)
        await until(lambda: peer.heard and ("deliver_sm_resp", 0, 99) in peer.heard[-1])
        if answers is None:
            assert len(peer.heard) == 2, "closed and rebuilt"
            if not slowly:  # a peer that goes on writing to a closed socket may not hear our last word
                assert peer.heard[0][1][:2] == ("generic_nack", codes.RINVCMDLEN)
        else:
            assert [each for each in peer.heard[0][1:] if each[2] != 99] == answers
            assert len(peer.heard) == 1, "the session goes on"
        assert link.in_flight == 0 and link.is_up()


async def test_a_peer_that_answers_nothing_costs_no_memory_and_no_message() -> None:
    async with facing(b"") as (_, link, _taken):
        await until(link.is_up)
        for _ in range(3):
            results = await asyncio.gather(*(link.submit(submission()) for _ in range(10)))
            assert all(result.is_unknown for result in results)
        assert link.is_ailing and link.in_flight == 0 and link.queued == 0


# ------------------------------------------------------------------------------------------------ whole and in pieces


SETTINGS = LinkSettings("test", "localhost", 2775, "me", "secret", receipts_by_text=True)
packets = st.one_of(
    st.builds(
        raw,
        st.sampled_from((*codes.COMMAND_NAMES, 0x10203, 0x80010203)),
        st.integers(0, 0xFFFFFFFF),
        st.binary(max_size=60),
        st.integers(0, 0x500),
    ),
    st.builds(
        lambda esm, coding, text, tlvs: DeliverSm(
            3, source_addr=PHONE, esm_class=esm, data_coding=coding, short_message=text, tlvs=tuple(tlvs)
        ).encode(),
        st.integers(0, 255),
        st.integers(0, 255),
        st.binary(max_size=100),
        st.lists(
            st.tuples(st.sampled_from((0x001E, 0x0427, 0x0423, 0x020C, 0x020E, 0x020F, 0x1400)), st.binary(max_size=5)),
            max_size=4,
        ),
    ),
)


def bound() -> Session:
    session = Session(SETTINGS, Role.TRANSCEIVER, 0.0)
    session.bind(0.0)
    session.receive(BindResp(codes.BIND_TRANSCEIVER_RESP, 1, 0, "x").encode(), 0.0)
    session.take_output()
    return session


@given(st.lists(packets, max_size=6), st.binary(max_size=3))
def test_what_comes_octet_by_octet_is_heard_and_answered_as_if_it_came_at_once(said: list[bytes], noise: bytes) -> None:
    stream = b"".join(said) + noise
    at_once, in_pieces = bound(), bound()
    events = at_once.receive(stream, 0.0)
    pieces: list[Event] = []
    for at in range(len(stream)):
        pieces.extend(in_pieces.receive(stream[at : at + 1], 0.0))
    assert pieces == events
    assert in_pieces.take_output() == at_once.take_output() and in_pieces.state is at_once.state


@given(
    st.integers(0, 255), st.integers(0, 255), st.binary(max_size=160), st.sampled_from(list(Alphabet)),
)  # fmt: skip
def test_no_message_makes_text_parts_or_receipts_raise(esm: int, coding: int, text: bytes, alphabet: Alphabet) -> None:
    message = DeliverSm(esm_class=esm, data_coding=coding, short_message=text)
    body = body_of(message, alphabet)
    decode_text(body.octets, coding, alphabet, body.shifts)
    receipt = read_receipt(message, alphabet)
    looks_like_receipt(message, alphabet)
    if receipt.message_id:
        for how in IdForms:
            assert forms(receipt.message_id, how)


@given(st.text(max_size=70))
def test_every_id_is_found_again_by_itself_with_zeros_and_in_capitals(message_id: str) -> None:
    ascii_id = message_id.encode("ascii", "ignore").decode()
    for written in (ascii_id, f"00{ascii_id}" if ascii_id.strip() == ascii_id else ascii_id, ascii_id.upper()):
        assert normal(ascii_id) in forms(written)


@pytest.mark.parametrize("status", [0, 0x58, 0xFFFFFFFF])
async def test_an_answer_that_comes_twice_counts_once(status: int) -> None:
    session = bound()
    sequence = session.submit(submission(), 0.0)
    answer = MessageResp(codes.SUBMIT_SM_RESP, sequence, status, "x").encode()
    assert len(session.receive(answer, 0.0)) == 1
    assert type(session.receive(answer, 0.0)[0]).__name__ == "Noted"
