"""The cutting of streams into frames.

Covers: every kind, whole and byte by byte, with what follows; keep-alives; TPDU and its answer; trailers counted and
not; lengths that cannot be true; limits; noise.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.iso8583.errors import Fault, FrameError
from channels.iso8583.framing import KINDS, Frame, Framer, Framing, answering, framed

BODY = b"0800" + b"8" * 59
TPDU = bytes.fromhex("6000010002")

# framing, a frame around the body in hexadecimal before and behind it
FRAMES: list[tuple[Framing, str, str]] = [
    (Framing("bin2"), "003F", ""),
    (Framing("bin2", inclusive=True), "0041", ""),
    (Framing("bin3"), "00003F", ""),
    (Framing("bin4"), "0000003F", ""),
    (Framing("bin4", inclusive=True), "00000043", ""),
    (Framing("ascii4"), b"0063".hex(), ""),
    (Framing("ascii4", inclusive=True), b"0067".hex(), ""),
    (Framing("hex4"), b"003F".hex(), ""),
    (Framing("bcd2"), "0063", ""),
    (Framing("vml4"), "003F0000", ""),
    (Framing("bin2", trailer=b"\x03"), "0040", "03"),
    (Framing("bin2", trailer=b"\xff", trailer_counted=False), "003F", "FF"),
    (Framing("bin2", tpdu=5), "0044" + TPDU.hex(), ""),
    (Framing("bcd2", inclusive=True, tpdu=5, trailer=b"\x03"), "0071" + TPDU.hex(), "03"),
]


def test_every_kind_is_in_the_table() -> None:
    assert {framing.kind for framing, _, _ in FRAMES} == set(KINDS)


@pytest.mark.parametrize(("framing", "before", "behind"), FRAMES)
def test_frames_are_written_and_read_in_any_pieces(framing: Framing, before: str, behind: str) -> None:
    tpdu = TPDU if framing.tpdu else b""
    one = framed(framing, BODY, tpdu)
    assert one == bytes.fromhex(before) + BODY + bytes.fromhex(behind)
    stream = one + framed(framing, b"") + one + one[:5]
    for size in (1, 2, 3, 7, len(one), len(stream)):
        framer = Framer(framing)
        frames = [frame for at in range(0, len(stream), size) for frame in framer.feed(stream[at : at + size])]
        assert frames == [Frame(BODY, tpdu), Frame(b""), Frame(BODY, tpdu)]
        assert framer.broken is None and framer.rest == one[:5] and frames[1].is_keep_alive


def test_keep_alive_may_count_its_own_prefix() -> None:
    framer = Framer(Framing("bin2", inclusive=True))
    assert [frame.is_keep_alive for frame in framer.feed(bytes.fromhex("00020000"))] == [True, True]


def test_answer_exchanges_where_to_and_where_from() -> None:
    assert answering(TPDU).hex() == "6000020001"


@pytest.mark.parametrize(
    ("framing", "stream", "fault", "words"),
    [
        (Framing("ascii4"), b"GET / HTTP/1.1", Fault.FRAME_LENGTH, "digits"),
        (Framing("ascii4"), b" 061", Fault.FRAME_LENGTH, "digits"),
        (Framing("ascii4"), b"+061", Fault.FRAME_LENGTH, "digits"),
        (Framing("hex4"), b"00G1", Fault.FRAME_LENGTH, "hexadecimal"),
        (Framing("bcd2"), b"\x0a\x00", Fault.FRAME_LENGTH, "digits"),
        (Framing("vml4"), b"\x00\x3f\x00\x01", Fault.FRAME_LENGTH, "zero bytes"),
        # "0200" without a length is 12848 to us.
        (Framing("bin2"), b"0200", Fault.FRAME_LENGTH, "the peer sends a length of digits, or none"),
        (Framing("bin2"), b"\xff\xff", Fault.FRAME_LENGTH, "1 to 4096 expected, got 65535"),
        (Framing("bin4"), b"\xff\xff\xff\xff", Fault.FRAME_LENGTH, "got 4294967295"),
        (Framing("bin2", max_frame=100), b"\x00\x65", Fault.FRAME_LENGTH, "1 to 100 expected, got 101"),
        (Framing("bin2", inclusive=True), b"\x00\x01", Fault.FRAME_LENGTH, "got -1"),
        (Framing("bin2", tpdu=5), b"\x00\x05", Fault.FRAME_SHORT, "more than 5 bytes expected, got 5"),
        (Framing("bin2", tpdu=5), b"\x00\x06\x61\x00\x01\x00\x02\x30", Fault.FRAME_TPDU, "begins with 60"),
        (Framing("bin2", trailer=b"\x03"), b"\x00\x01", Fault.FRAME_SHORT, "more than 1 bytes"),
        (Framing("bin2", trailer=b"\x03"), b"\x00\x0212", Fault.FRAME_TRAILER, "trailer"),
    ],
)
def test_stream_that_is_lost_says_why(framing: Framing, stream: bytes, fault: Fault, words: str) -> None:
    for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        framer = Framer(framing)
        assert [frame for piece in pieces for frame in framer.feed(piece)] == []
        assert framer.broken is not None and framer.broken.fault is fault and words in str(framer.broken)
        assert framer.feed(framed(Framing("bin2"), BODY)) == [] and framer.rest == b""


def test_what_came_before_a_broken_length_is_still_given() -> None:
    framer = Framer(Framing("bin2"))
    assert framer.feed(framed(Framing("bin2"), BODY) + b"\xff\xff") == [Frame(BODY)]
    assert framer.broken is not None


def test_half_a_frame_waits() -> None:
    framer = Framer(Framing("bin2"))
    assert framer.feed(b"\x0f\xff" + b"1" * 4000) == [] and framer.broken is None and len(framer.rest) == 4002


@pytest.mark.parametrize(
    ("framing", "body", "tpdu"),
    [
        (Framing("bin2", max_frame=62), BODY, b""),
        (Framing("ascii4", inclusive=True, max_frame=9_999), b"1" * 9_996, b""),
        (Framing("bin2", tpdu=5), BODY, b""),
        (Framing("bin2"), BODY, TPDU),
    ],
)
def test_message_that_does_not_fit_its_frame_is_refused(framing: Framing, body: bytes, tpdu: bytes) -> None:
    with pytest.raises(FrameError):
        framed(framing, body, tpdu)


@given(st.sampled_from([framing for framing, _, _ in FRAMES]), st.lists(st.binary(max_size=30), max_size=20))
def test_noise_gives_frames_or_ends_and_pieces_do_not_matter(framing: Framing, pieces: list[bytes]) -> None:
    one, other = Framer(framing), Framer(framing)
    frames = [frame for piece in pieces for frame in one.feed(piece)]
    assert other.feed(b"".join(pieces)) == frames
    assert (one.broken is None) == (other.broken is None) and one.rest == other.rest


def test_frame_shows_no_byte_of_its_body() -> None:
    assert repr(Frame(b"4111111111111111")) == "<Frame of 16 bytes>"
