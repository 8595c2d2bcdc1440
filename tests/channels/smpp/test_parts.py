"""Parts of long messages: how they are recognised, and how they become whole whatever the order.

Origins: 3GPP TS 23.040, 9.2.3.24; SMPP 3.4, 5.3.2.22 to 24; github.com/jookies/jasmin/issues/513 and 612.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from channels.smpp.parts import Assembler, Place, place_of
from channels.smpp.pdu import DataSm, DeliverSm, Tlv

SAR = ((0x020C, b"\1\2"), (0x020E, b"\3"), (0x020F, b"\2"))

# fmt: off
PLACES = [
    # name,                           esm,  octets,                           tlvs, place,                     rest
    ("alone",                         0x00, "4142",                           (),   None,                      "4142"),
    ("8-bit reference",               0x40, "05 00 03 07 02 01 4142",         (),   Place("udh8", 7, 2, 1),    "4142"),
    ("16-bit reference",              0x40, "06 08 04 0107 02 01 4142",       (),   Place("udh16", 263, 2, 1), "4142"),
    ("behind a port element",         0x40, "0B 05 04 0B840000 00 03 07 02 02 41", (), Place("udh8", 7, 2, 2), "41"),
    ("with reply path",               0xC0, "05 00 03 07 02 01 41",           (),   Place("udh8", 7, 2, 1),    "41"),
    ("header without concatenation",  0x40, "04 05 02 0001 41",               (),   None,                      "41"),
    ("one of one",                    0x40, "05 00 03 07 01 01 41",           (),   None,                      "41"),
    ("number 0",                      0x40, "05 00 03 07 02 00 41",           (),   None,                      "41"),
    ("number beyond the total",       0x40, "05 00 03 07 02 03 41",           (),   None,                      "41"),
    ("element of a wrong length",     0x40, "04 00 02 07 02 41",              (),   None,                      "41"),
    ("element cut short",             0x40, "03 00 03 07 41",                 (),   None,                      "41"),
    ("header beyond the end",         0x40, "20 00 03 07 02 01",              (),   None,       "20 00 03 07 02 01"),
    ("indicator and nothing",         0x40, "",                               (),   None,                      ""),
    ("header without indicator",      0x00, "05 00 03 07 02 01 41",           (),   None,    "05 00 03 07 02 01 41"),
    ("sar fields",                    0x00, "4142",                           SAR,  Place("sar", 258, 3, 2),   "4142"),
    ("sar fields in another order",   0x00, "4142",               SAR[::-1],        Place("sar", 258, 3, 2),   "4142"),
    ("sar without a total",           0x00, "4142",               (SAR[0], SAR[2]), None,                      "4142"),
    ("sar with an empty field",       0x00, "41",       (*SAR[:2], (0x020F, b"")),  None,                      "41"),
    ("both: the header counts",       0x40, "05 00 03 07 02 01 41",           SAR,  Place("udh8", 7, 2, 1),    "41"),
]
# fmt: on


@pytest.mark.parametrize(("name", "esm", "octets", "tlvs", "place", "rest"), PLACES, ids=[row[0] for row in PLACES])
def test_a_part_is_recognised(
    name: str, esm: int, octets: str, tlvs: tuple[Tlv, ...], place: Place | None, rest: str
) -> None:
    message = DeliverSm(esm_class=esm, short_message=bytes.fromhex(octets), tlvs=tlvs)
    assert place_of(message) == (place, bytes.fromhex(rest))


def test_a_part_in_the_payload_of_data_sm_is_recognised() -> None:
    message = DataSm(esm_class=0x40, tlvs=((0x0424, bytes.fromhex("0500030702014142")),))
    assert place_of(message) == (Place("udh8", 7, 2, 1), b"AB")


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_a_message_is_whole_with_its_last_part_in_any_order(order: tuple[int, ...]) -> None:
    assembler: Assembler[str] = Assembler()
    for number in order[:-1]:
        assert assembler.add("key", Place("udh8", 7, 3, number), f"part {number}", 0.0) is None
    last = order[-1]
    assert assembler.add("key", Place("udh8", 7, 3, last), f"part {last}", 0.0) == ["part 1", "part 2", "part 3"]
    assert len(assembler) == 0


def test_a_repeated_part_does_not_make_a_message_whole() -> None:
    assembler: Assembler[str] = Assembler()
    for _ in range(3):
        assert assembler.add("key", Place("udh8", 7, 2, 1), "first", 0.0) is None
    assert assembler.add("key", Place("udh8", 7, 2, 2), "second", 0.0) == ["first", "second"]


def test_parts_of_different_keys_are_kept_apart() -> None:
    assembler: Assembler[str] = Assembler()
    place = Place("udh8", 7, 2, 1)
    assert assembler.add("one", place, "one", 0.0) is None
    assert assembler.add("two", place, "two", 0.0) is None
    assert assembler.add("one", Place("udh8", 7, 2, 2), "!", 0.0) == ["one", "!"]


def test_parts_whose_others_never_come_are_dropped_in_time_and_in_number() -> None:
    assembler: Assembler[int] = Assembler(keep_s=10.0, limit=3)
    for number in range(5):
        assembler.add(number, Place("udh8", number, 2, 1), number, float(number))
    assert len(assembler) == 3
    assert assembler.expire(12.0) == [2]
    assert assembler.expire(12.0) == []
    assert assembler.expire(100.0) == [3, 4]
