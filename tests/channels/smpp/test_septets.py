"""Packed septets and national tables.

Origin: "hellohello" packed is the example of every introduction to 3GPP TS 23.038, 6.1.2.1 (E8329BFD4697D9EC37); the
national tables are 3GPP TS 23.038, A.2 and A.3.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.smpp.parts import Place, body_of
from channels.smpp.pdu import DeliverSm
from channels.smpp.septets import fill_bits, pack, unpack
from channels.smpp.text import GSM_CODING, Alphabet, Shifts, decode, split


def test_the_known_example() -> None:
    assert pack(b"hellohello").hex().upper() == "E8329BFD4697D9EC37"
    assert unpack(bytes.fromhex("E8329BFD4697D9EC37")) == b"hellohello"


@given(septets=st.binary(max_size=160).map(lambda raw: bytes(each & 0x7F for each in raw)), header=st.integers(0, 12))
def test_what_is_packed_unpacks(septets: bytes, header: int) -> None:
    packed = pack(septets, header)
    assert len(packed) == (-(-(fill_bits(header) + 7 * len(septets)) // 8) if septets else 0)
    unpacked = unpack(packed, header)
    # A carriage return at the very end, where it fills spare bits, cannot be told from the filling.
    assert unpacked == septets or septets == unpacked + b"\r"


@given(st.binary(max_size=200), st.integers(0, 12))
def test_anything_unpacks_to_septets(octets: bytes, header: int) -> None:
    assert all(each < 0x80 for each in unpack(octets, header))


@pytest.mark.parametrize("text", ["04012345676 500", "x" * 160, "help [€] " * 40, "{" * 90])
def test_a_text_on_a_packed_link_reads_as_it_was_written(text: str) -> None:
    parts = split(text, 7, default=Alphabet.GSM_PACKED)
    read = ""
    for part in parts:
        assert part.data_coding == GSM_CODING and len(part.short_message) <= 140
        message = DeliverSm(esm_class=part.esm_class, short_message=part.short_message)
        body = body_of(message, Alphabet.GSM_PACKED)
        read += decode(body.octets, 0, Alphabet.GSM_PACKED, body.shifts)
    assert read == text


def header(*elements: tuple[int, bytes]) -> bytes:
    inside = b"".join(bytes((identifier, len(value))) + value for identifier, value in elements)
    return bytes((len(inside),)) + inside


# fmt: off
NATIONAL = [
    # header, septets, text: 0x24 single shift, 0x25 locking shift
    (header((0x24, b"\x01")),                   b"\x1b\x47\x1b\x49 500",  "Ğİ 500"),
    (header((0x25, b"\x01")),                   b"\x04\x0b\x1c 500",      "€ĞŞ 500"),
    (header((0x24, b"\x02")),                   b"d\x1bias 500",          "días 500"),
    (header((0x24, b"\x03")),                   b"\x1b\x09 500",          "ç 500"),
    (header((0x25, b"\x03")),                   b"Ol\x0f 500",            "Olá 500"),
    (header((0x25, b"\x03"), (0x24, b"\x03")),  b"Ol\x0f \x1b\x65 500",   "Olá € 500"),
    (header((0x25, b"\x06")),                   b"\x00\x01 500",          "\u0901\u0902 500"),
    (header((0x25, b"\x0d")),                   b"\x00\x01 500",          "\u0627\u0622 500"),
    (header((0x25, b"\x63")),                   b"\x00 500",              "@ 500"),      # nobody knows that language
    (header((0x24, b"\x00")),                   b"\x1b\x65 500",          "€ 500"),
    (header((0x24, b"\x01\x01")),               b"\x00 500",              "@ 500"),      # not of the form it must have
]
# fmt: on


@pytest.mark.parametrize(("udh", "septets", "text"), NATIONAL)
def test_national_tables_are_used_where_they_are_announced(udh: bytes, septets: bytes, text: str) -> None:
    body = body_of(DeliverSm(esm_class=0x40, short_message=udh + septets))
    assert body.place is None and decode(body.octets, 0, Alphabet.GSM, body.shifts) == text


def test_a_part_may_announce_a_table_too() -> None:
    udh = header((0x24, b"\x02"), (0x00, b"\x07\x02\x01"))
    body = body_of(DeliverSm(esm_class=0x40, short_message=udh + b"x"))
    assert body == (Place("udh8", 7, 2, 1), b"x", Shifts(0, 2))


def test_tables_do_not_count_for_other_alphabets() -> None:
    assert decode("días".encode("utf-16-be"), 8, Alphabet.GSM, Shifts(3, 3)) == "días"
    assert decode(b"caf\xe9", 3, Alphabet.GSM, Shifts(3, 3)) == "café"


@given(st.binary(max_size=60), st.integers(0, 255), st.integers(0, 255))
def test_no_table_and_no_octets_raise(octets: bytes, locking: int, single: int) -> None:
    decode(octets, 0, Alphabet.GSM, Shifts(locking, single))
