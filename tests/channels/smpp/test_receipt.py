"""Delivery receipts: told from messages by esm_class alone, and read whatever is missing.

Origins: SMPP 3.4, appendix B; forms seen in public threads (github.com/opentelecoms-org/jsmpp/issues/62 and 214,
github.com/twitter-archive/cloudhopper-smpp/issues/105).
"""

from __future__ import annotations

import pytest

from channels.smpp.pdu import DeliverSm, Tlv
from channels.smpp.receipt import Receipt, is_receipt, read_receipt

FULL = b"id:0123 sub:001 dlvrd:001 submit date:2611221200 done date:2611221201 stat:DELIVRD err:000 text:Hello"


# fmt: off
@pytest.mark.parametrize(("esm_class", "is_one"), [
    (0x00, False), (0x40, False), (0x80, False), (0x03, False), (0xC3, False),
    (0x04, True), (0x44, True), (0x08, True), (0x10, True), (0x18, True), (0x20, True), (0x84, True),
])
# fmt: on
def test_bits_five_to_two_decide_and_the_text_does_not(esm_class: int, is_one: bool) -> None:
    assert is_receipt(DeliverSm(esm_class=esm_class, short_message=FULL)) is is_one


ID: Tlv = (0x001E, b"abc\0")
STATE: Tlv = (0x0427, b"\x02")
ERROR: Tlv = (0x0423, b"\x03\x00\x05")
# fmt: off
RECEIPTS = [
    ("everything", 0x04, 0, FULL, (),
     Receipt("receipt", "0123", "DELIVRD", "000", "001", "001", "2611221200", "2611221201")),
    ("parameters alone", 0x04, 0, b"", (ID, STATE, ERROR), Receipt("receipt", "abc", "DELIVRD", "030005")),
    ("parameters before text", 0x04, 0, FULL, (ID, (0x0427, b"\x05")),
     Receipt("receipt", "abc", "UNDELIV", "000", "001", "001", "2611221200", "2611221201")),
    ("id and state only", 0x04, 0, b"id:77 stat:EXPIRED", (), Receipt("receipt", "77", "EXPIRED")),
    ("other case, other order", 0x04, 0, b"STAT:FAILED ID:77 ERR:0x1A", (), Receipt("receipt", "77", "FAILED", "0x1A")),
    ("in the payload", 0x04, 0, b"", ((0x0424, b"id:9 stat:ACCEPTD"),), Receipt("receipt", "9", "ACCEPTD")),
    ("UCS-2", 0x04, 8, "id:9 stat:DELIVRD".encode("utf-16-be"), (), Receipt("receipt", "9", "DELIVRD")),
    ("with a header", 0x44, 0, b"\x05\0\3\7\2\1id:9 stat:DELIVRD", (), Receipt("receipt", "9", "DELIVRD")),
    ("a state nobody knows", 0x04, 0, b"", ((0x0427, b"\x63"),), Receipt("receipt", None, "99")),
    ("an empty state", 0x04, 0, b"", ((0x0427, b""),), Receipt("receipt")),
    ("no sense at all", 0x04, 0, b"\xff\xfe\x1b", (), Receipt("receipt")),
    ("manual acknowledgement", 0x10, 0, b"id:5 yes", (), Receipt("manual acknowledgement", "5")),
    ("intermediate", 0x20, 0, b"id:5 stat:ENROUTE", (), Receipt("intermediate notification", "5", "ENROUTE")),
    ("reserved type", 0x0C, 0, b"id:5", (), Receipt("unknown", "5")),
]
# fmt: on


@pytest.mark.parametrize(("name", "esm", "coding", "text", "tlvs", "receipt"), RECEIPTS, ids=[r[0] for r in RECEIPTS])
def test_a_receipt_reads_as_far_as_it_goes(
    name: str, esm: int, coding: int, text: bytes, tlvs: tuple[Tlv, ...], receipt: Receipt
) -> None:
    message = DeliverSm(esm_class=esm, data_coding=coding, short_message=text, tlvs=tlvs)
    assert read_receipt(message) == receipt
