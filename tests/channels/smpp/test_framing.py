"""The cutting of a stream into packets: whole, octet by octet, in any pieces, and with lengths that cannot be.

Origin of the table: SMPP 3.4, 3.2 (command_length counts itself), and what came to ports of message centres.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.smpp.framing import MAX_PDU_OCTETS, Broken, Framer, read_header

ENQUIRE = bytes.fromhex("00000010 00000015 00000000 00000007")
SUBMIT_RESP = bytes.fromhex("00000012 80000004 00000000 00000008 4100")


def test_packets_are_cut_wherever_the_stream_is_torn() -> None:
    stream = ENQUIRE + SUBMIT_RESP + ENQUIRE
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            framer = Framer()
            frames = framer.feed(stream[:first]) + framer.feed(stream[first:second]) + framer.feed(stream[second:])
            assert frames == [ENQUIRE, SUBMIT_RESP, ENQUIRE]
            assert framer.broken is None


def test_octet_by_octet_a_packet_comes_with_its_last_octet() -> None:
    framer = Framer()
    for octet in ENQUIRE[:-1]:
        assert framer.feed(bytes((octet,))) == []
    assert framer.feed(ENQUIRE[-1:]) == [ENQUIRE]


@given(st.lists(st.binary(max_size=60), max_size=8), st.data())
def test_any_bodies_in_any_pieces_come_out_as_they_went_in(bodies: list[bytes], data: st.DataObject) -> None:
    packets = [(16 + len(body)).to_bytes(4, "big") + bytes(12) + body for body in bodies]
    stream = b"".join(packets)
    framer = Framer()
    frames: list[bytes] = []
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        frames += framer.feed(stream[at : at + size])
        at += size
    assert frames == packets


# fmt: off
@pytest.mark.parametrize(("octets", "broken"), [
    (bytes.fromhex("0000000F"),                                      Broken(15, 0)),
    (bytes.fromhex("00000000"),                                      Broken(0, 0)),
    (bytes.fromhex("0000000F 00000015 00000000 00000007"),           Broken(15, 0)),          # too short for a number
    ((MAX_PDU_OCTETS + 1).to_bytes(4, "big"),                        Broken(MAX_PDU_OCTETS + 1, 0)),
    ((MAX_PDU_OCTETS + 1).to_bytes(4, "big") + bytes(11) + b"\7",    Broken(MAX_PDU_OCTETS + 1, 7)),
    (b"GET / HTTP/1.1\r\n",                                          Broken(0x47455420, 0x2E310D0A)),
    (b"\x16\x03\x01\x02",                                            Broken(0x16030102, 0)),  # TLS where none is
])
# fmt: on
def test_a_length_that_cannot_be_breaks_the_stream_after_what_came_before(octets: bytes, broken: Broken) -> None:
    framer = Framer()
    assert framer.feed(ENQUIRE + octets) == [ENQUIRE]
    assert framer.broken == broken
    assert framer.feed(ENQUIRE) == []


def test_the_largest_packet_is_waited_for_and_a_larger_one_is_not() -> None:
    framer = Framer()
    packet = MAX_PDU_OCTETS.to_bytes(4, "big") + bytes(MAX_PDU_OCTETS - 4)
    assert framer.feed(packet[:40_000]) == []
    assert framer.feed(packet[40_000:]) == [packet]
    assert framer.broken is None


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_noise_is_cut_or_refused_and_never_crashes(pieces: list[bytes]) -> None:
    framer = Framer()
    for piece in pieces:
        for frame in framer.feed(piece):
            assert len(frame) == int.from_bytes(frame[:4], "big") >= 16


def test_a_header_reads_as_command_status_and_sequence() -> None:
    assert read_header(bytes.fromhex("00000010 80000004 00000058 7FFFFFFF")) == (0x80000004, 0x58, 0x7FFFFFFF)
