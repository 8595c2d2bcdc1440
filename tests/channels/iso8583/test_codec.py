"""Bytes to messages and back.

Covers: every truncation and every single-bit change of every vector; random bytes; plans against the slow way; the
encodings one by one, hard cases first; sentences of errors; what cannot be written; structures; bounds of the plans.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.iso8583 import plans, shipped
from channels.iso8583.errors import DecodeError, EncodeError, Fault, IsoError
from channels.iso8583.message import Message, Parts
from channels.iso8583.packager import Packager
from channels.iso8583.packagerfile import packager_from
from tests.channels.iso8583.records import SPECS, Row, members, message, packager, row_of, rows_of, slow, warm

MESSAGES = rows_of("vector", "mac_message")


def answer(packager: Packager, data: bytes) -> Message | IsoError:
    """A message that is written as the same bytes again, or a refusal; anything else ends the test."""
    try:
        read = packager.decode(data)
    except DecodeError as error:
        assert error.fault in Fault and error.path and error.sentence
        return error
    assert packager.encode(read) == data
    return read


def flips(data: bytes) -> list[bytes]:
    number = int.from_bytes(data, "big")
    return [(number ^ (1 << bit)).to_bytes(len(data), "big") for bit in range(8 * len(data))]


@pytest.mark.parametrize("name", SPECS)
def test_every_truncation_and_every_bit_changed_is_refused_by_name_or_written_again(name: str) -> None:
    fast = packager(name)
    accepted = refused = 0
    for row in MESSAGES:
        if row["spec"] != name:
            continue
        data = bytes.fromhex(row["hex"])
        warm(fast, data)
        for length in range(len(data)):
            assert isinstance(answer(fast, data[:length]), DecodeError), length
        for changed in flips(data):
            if isinstance(answer(fast, changed), Message):
                accepted += 1
            else:
                refused += 1
    assert accepted > 100 and refused > 100


@pytest.mark.parametrize("identity", ["atm87-purchase", "atm87-bcd-reconciliation", "postilion87-purchase-answer"])
def test_a_plan_and_the_slow_way_say_the_same(identity: str) -> None:
    row = row_of(identity)
    fast = shipped.shipped(row["spec"]).packager
    data = bytes.fromhex(row["hex"])
    warm(fast, data)
    assert fast._plans.decoded(data) is not None and fast._plans.encoded(fast.decode(data)) == data
    for changed in [*flips(data), *(data[:length] for length in range(len(data)))]:
        one, other = answer(fast, changed), answer(slow(fast), changed)
        if isinstance(one, Message):
            assert one == other
        else:
            assert str(one) == str(other)


def test_positions_and_plans_say_the_same() -> None:
    fast = shipped.shipped("pln2003-like").packager
    for row in rows_of("vector"):
        if row["spec"] == "pln2003-like":
            data = bytes.fromhex(row["hex"])
            warm(fast, data)
            for length in range(len(data)):
                assert str(answer(fast, data[:length])) == str(answer(slow(fast), data[:length]))


# Beginnings that get random bytes past the message type.
BEGINNINGS = [b"", b"0200", b"0200F23844", b"\x02\x00\x72\x38", bytes.fromhex(row_of("atm87-purchase")["hex"])[:60]]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(SPECS)), st.sampled_from(BEGINNINGS), st.binary(max_size=300))
def test_random_bytes_are_refused_by_name_or_written_again(name: str, beginning: bytes, data: bytes) -> None:
    answer(packager(name), beginning + data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_written_is_read(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["atm87", "atm87-bcd", "visa-basei", "iso87-ebcdic-hex", "jpos-iso87binary"]))
    chosen = packager(name)
    numbers = data.draw(st.sets(st.sampled_from([n for n in chosen.fields.codecs if n != 65 or name[0] == "j"])))
    values: dict[int, Any] = {}
    for number in numbers:
        form = chosen.fields.codecs[number].form
        longest = chosen.fields.codecs[number].longest
        length = form.length if form.is_fixed else data.draw(st.integers(0, min(longest, 40)))
        alphabet = {"n": "0123456789", "x+n": "0123456789", "z": "0123456789="}.get(form.kind, "Ab0 ")
        if form.kind == "b":
            values[number] = data.draw(st.binary(min_size=length, max_size=length)).hex().upper()
        else:
            text = data.draw(st.text(alphabet, min_size=length, max_size=length))
            values[number] = data.draw(st.sampled_from("CD")) + text if form.kind == "x+n" else text
    made = Message("0200", values, bytes(chosen.header))
    assert chosen.decode(chosen.encode(made)) == made
    assert slow(chosen).encode(made) == chosen.encode(made)


# --- encodings one by one ---------------------------------------------------------------------------------------------


def one(form: str, **more: Any) -> Packager:
    """A packager with field 2 of this format."""
    return packager_from({"fields": {"2": form}, **more}, lenient=True)


BCD: Row = {"mti": "bcd", "bitmap": "bin", "num": "bcd", "z": "bcd", "len": "bcd", "bin": "raw"}


def odd(fixed: str = "left0", var: str = "left0", track: str = "rightF") -> Row:
    return {"odd": {"n": fixed, "nvar": var, "z": track}}


# format, what the packager says besides, value, bytes of field 2
ENCODED: list[tuple[str, Row, str, str]] = [
    ("n3", BCD | odd("left0"), "840", "0840"),
    ("n3", BCD | odd("leftF"), "840", "F840"),
    ("n3", BCD | odd("right0"), "840", "8400"),
    ("n3", BCD | odd("rightF"), "840", "840F"),
    ("n..11", BCD | odd(var="left0"), "12345", "05012345"),
    ("n..11", BCD | odd(var="right0"), "12345", "05123450"),
    ("n..11", BCD | odd(var="rightF"), "12345", "0512345F"),
    ("n..11", BCD | odd(var="left0"), "123456", "06123456"),
    ("n..11", BCD, "", "00"),
    ("n...104", BCD, "123", "00030123"),
    ("z..37", BCD, "4000000000000007=3112", "214000000000000007D3112F"),
    ("z..37", BCD | odd(track="left0"), "4=31", "044D31"),
    ("z..37", BCD | odd(track="left0"), "4=3", "0304D3"),
    ("x+n8", BCD, "D00000100", "4400000100"),
    ("x+n8", BCD | {"text": "cp500"}, "C00000100", "C300000100"),
    ("x+n8", {}, "C00000100", b"C00000100".hex()),
    ("x+n7", BCD | odd("left0"), "C1234567", "4301234567"),
    ("b8", {"bin": "raw"}, "0001020304050607", "0001020304050607"),
    ("b2", {"bin": "hex"}, "0A1B", "30413142"),
    ("b2", {"bin": "ebcdic-hex"}, "0A1B", "F0C1F1C2"),
    ("b...255", {"bin": "raw"}, "CAFE", "303032CAFE"),
    ("b...999", {"bin": "hex", "len": "bcd"}, "CAFE", "000243414645"),
    ("b..255", {"len": "bin"}, "CAFE", "02CAFE"),
    ("b...1535", {"len": "bin"}, "CAFE", "0002CAFE"),
    ("ans......999999", {"len": "bin"}, "AB", "0000024142"),
    ("ans......999999", {"len": "bcd"}, "AB", "0000024142"),
    ("ans....9999", {"len": "ascii"}, "AB", "303030324142"),
    ("ans..99", {"len": "ebcdic", "text": "cp037"}, "A!", "F0F2C15A"),
    ("ans..99", {"len": "ebcdic", "text": "cp500"}, "A!", "F0F2C14F"),
    ("ans..99", {"len": "bin", "text": "ebcdic"}, "A1", "02C1F1"),
    ("n6", {"text": "cp037"}, "123456", "F1F2F3F4F5F6"),
    ("ans..99", {"text": "latin-1"}, "É", "3031C9"),
    ("ans3", {}, "A  ", "412020"),
]


@pytest.mark.parametrize(("form", "more", "value", "expected"), ENCODED)
def test_field_in_every_encoding(form: str, more: Row, value: str, expected: str) -> None:
    chosen = one(form, **more)
    made = Message("0200", {2: value})
    data = chosen.encode(made)
    head = len(data) - len(expected) // 2
    assert data[head:].hex().upper() == expected.upper() and head in (10, 12, 20)
    assert warm(chosen, data) == made
    assert chosen._plans.decoded(data) == made or not value
    assert chosen._plans.encoded(made) == data or not value


@pytest.mark.parametrize(
    ("form", "more", "data", "fault"),
    [
        ("n3", BCD | odd("left0"), "1840", Fault.CONTENT),
        ("n3", BCD | odd("rightF"), "8400", Fault.CONTENT),
        ("n4", BCD, "12A4", Fault.CONTENT),
        ("n..11", BCD, "0A00", Fault.LENGTH),
        ("n..11", BCD, "12123456789012", Fault.LENGTH),
        ("z..37", BCD, "044C31", Fault.CONTENT),
        ("x+n8", BCD, "4500000100", Fault.CONTENT),
        ("x+n8", {}, b"+00000100".hex(), Fault.CONTENT),
        ("x+n8", BCD, "44000001", Fault.SHORT),
        ("b2", {"bin": "hex"}, "30413147", Fault.CONTENT),
        ("b2", {"bin": "hex"}, "304131", Fault.SHORT),
        ("b..255", {"len": "bin"}, "03CAFE", Fault.SHORT),
        ("ans3", {}, "410042", Fault.CONTENT),
        ("ans3", {}, "41C942", Fault.CONTENT),
        ("an3", {"an": "strict"}, "41213F", Fault.CONTENT),
        ("a3", {"an": "strict"}, "413142", Fault.CONTENT),
        ("n6", {}, b"12 456".hex(), Fault.CONTENT),
        ("n6", {"text": "latin-1"}, "31323334B2B3", Fault.CONTENT),
        ("ans..99", {"len": "ebcdic", "text": "cp037"}, "3032C15A", Fault.LENGTH),
    ],
)
def test_field_that_must_be_refused(form: str, more: Row, data: str, fault: Fault) -> None:
    chosen = one(form, **more)
    mti = "0200" if more.get("mti") == "bcd" else b"0200".hex()
    bitmap = "4000000000000000" if more.get("bitmap") == "bin" else b"4000000000000000".hex()
    with pytest.raises(DecodeError) as refused:
        chosen.decode(bytes.fromhex(mti + bitmap + data))
    assert (refused.value.fault, refused.value.path) == (fault, "field 2")


# --- bitmaps ----------------------------------------------------------------------------------------------------------


def test_bitmap_in_small_letters_or_with_an_empty_second_is_written_as_it_came() -> None:
    chosen = packager_from(members("atm87"), lenient=True)
    data = bytes.fromhex(row_of("atm87-purchase")["hex"])
    small = data[:4] + data[4:20].lower() + data[20:]
    empty = data[:4] + b"F238440108C18000" + b"0" * 16 + data[20:]
    for changed in (small, empty):
        for _ in range(5):
            read = chosen.decode(changed)
            assert chosen.encode(read) == changed and read.form
        assert Message(read.mti, dict(read.items())) == chosen.decode(data)
    mixed = data[:4] + b"7238440108c1800F" + data[20:]
    with pytest.raises(DecodeError, match="^bitmap: hexadecimal letters of one case expected$"):
        chosen.decode(mixed)


THIRD = {"mti": "bcd", "bitmap": "bin", "fields": {"11": "n6", "70": "n3", "130": "b3", "192": "n2"}}


def test_third_bitmap_behind_the_second() -> None:
    chosen = packager_from(THIRD, lenient=True)
    made = Message("0800", {11: "000001", 130: "A1B2C3", 192: "07"})
    data = chosen.encode(made)
    assert data.hex().upper().startswith("0800" + "8020000000000000" + "8000000000000000" + "4000000000000001")
    for _ in range(4):
        assert chosen.decode(data) == made
    # Announced without a bit in it: read, and written again.
    empty = bytes.fromhex("0800" + "8020000000000000" + "8000000000000000" + "0000000000000000") + b"000001"
    assert chosen.encode(chosen.decode(empty)) == empty
    fourth = bytes.fromhex("0800" + "8020000000000000" + "8000000000000000" + "8000000000000000") + b"000001"
    with pytest.raises(DecodeError, match="no fourth bitmap"):
        chosen.decode(fourth)


def test_third_bitmap_in_field_65() -> None:
    fields = {"11": "n6", "65": "b8", "70": "n3", "130": "b3"}
    chosen = packager_from({**THIRD, "third": "in-65", "fields": fields}, lenient=True)
    made = Message("0800", {11: "000001", 70: "301", 130: "A1B2C3"})
    data = chosen.encode(made)
    expected = "0800" + "8020000000000000" + "8400000000000000" + b"000001".hex() + "4000000000000000"
    assert data.hex().upper().startswith(expected.upper())
    for _ in range(4):
        assert chosen.decode(data) == made
    for third in ("0000000000000000", "C000000000000000"):
        with pytest.raises(DecodeError, match="^field 65: a third bitmap"):
            chosen.decode(bytes.fromhex(data.hex().upper().replace("4000000000000000", third)))


def test_bitmap_of_128_bits_must_have_bit_1_clear() -> None:
    row = row_of("iso8583tool-spec87ascii-0800-network-echo")
    data = bytes.fromhex(row["hex"])
    changed = data[:4] + b"%X" % (int(data[4:5], 16) | 8) + data[5:]
    with pytest.raises(DecodeError, match="^bitmap: bit 1 clear expected"):
        packager(row["spec"]).decode(changed)


# --- sentences --------------------------------------------------------------------------------------------------------


def purchase_with(old: bytes, new: bytes) -> bytes:
    data = bytes.fromhex(row_of("atm87-purchase")["hex"])
    assert data.count(old) == 1
    return data.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b"041010110100000001602", b"040010100100000001602", "field 48.01: 11 or 13 digits expected, got 10"),
        (b"0101101000000016", b"01011010000000AB", "field 48.01: digits expected, got another character"),
        (b"04011Q", b"04012Q", "field 48.04: 12 characters expected, got 11"),
        (b"04011Q", b"0401 Q", "field 48: a tag of 2 characters and a length of 3 digits expected"),
        (b"0123840", b"012384", "field 49: 3 characters expected, got 2"),
        (b"500000000000005000", b"50000000000000500A", "field 4: digits expected, got another character"),
        (b"0123840", b"01238400", "message: 179 bytes expected, got 180"),
    ],
)
def test_error_names_the_path_and_what_was_expected(old: bytes, new: bytes, sentence: str) -> None:
    with pytest.raises(DecodeError) as refused:
        shipped.shipped("atm87").packager.decode(purchase_with(old, new))
    assert str(refused.value) == sentence


def test_bit_of_a_field_that_the_profile_does_not_have() -> None:
    data = b"2800" + b"0200000000000000" + b"000001"
    with pytest.raises(DecodeError, match="^field 7: the profile has no such field$") as refused:
        shipped.shipped("pln2003-like").packager.decode(data)
    assert refused.value.fault is Fault.UNKNOWN_FIELD


def test_salvage_gives_the_type_and_the_fields_before_the_fault() -> None:
    data = purchase_with(b"ATM00042", b"ATM\x0000042"[:8])
    chosen = shipped.shipped("atm87").packager
    with pytest.raises(DecodeError, match="^field 41"):
        chosen.decode(data)
    saved = chosen.salvage(data, [2, 7, 11, 37, 41])
    assert saved is not None and saved.numbers == (2, 7, 11, 37) and saved.get("11") == "000124"
    assert chosen.salvage(data[:10], [11]) is None and chosen.salvage(b"GET / HTTP/1.1", [11]) is None


# --- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({4: "5000"}, "field 4: 12 digits expected, got 4"),
        ({4: "00000000500A"}, "field 4: digits expected, got another character"),
        # Digits of another script are digits to Python, and in no encoding of ours.
        ({4: "00000000500\N{ARABIC-INDIC DIGIT FIVE}"}, "field 4: digits expected, got another character"),
        ({2: "1" * 20}, "field 2: at most 19 digits expected, got 20"),
        ({42: "É" * 15}, "field 42: ascii characters expected"),
        ({65: "00"}, "field 65: the profile has no such field"),
        ({52: "00 1020304050607"}, "field 52: hexadecimal digits expected, got another character"),
        ({48: Parts([("01", "123")])}, "field 48.01: 11 or 13 digits expected, got 3"),
        ({48: Parts([("1", "123")])}, "field 48: a tag of 2 characters expected"),
        ({48: Parts([("99", "1" * 1000)])}, "field 48.99: a length of 3 digits expected, got 1000"),
        ({48: "0101100000000"}, "field 48.01: 11 characters expected, got 8"),
        ({42: Parts([("1", "2")])}, "field 42: text expected, got parts"),
        ({4: 5000}, "field 4: text expected"),
    ],
)
def test_message_that_cannot_be_written_is_refused_by_name(change: dict[int, Any], sentence: str) -> None:
    chosen = shipped.shipped("atm87").packager
    good = warm(chosen, bytes.fromhex(row_of("atm87-purchase")["hex"]))
    for each in (chosen, slow(chosen)):
        with pytest.raises(IsoError) as refused:
            each.encode(good.having(change))
        assert str(refused.value) == sentence


@pytest.mark.parametrize(("mti", "header"), [("200", b""), ("02a0", b""), ("٠200", b""), ("0200", b"x")])
def test_message_type_and_header_are_checked_too(mti: str, header: bytes) -> None:
    chosen = shipped.shipped("atm87").packager
    good = warm(chosen, bytes.fromhex(row_of("atm87-purchase")["hex"]))
    with pytest.raises(EncodeError):
        chosen.encode(Message(mti, dict(good.items()), header))


def test_message_does_not_change_and_writing_does_not_change_it() -> None:
    good = message("atm87-purchase")
    fields = dict(good.items())
    fields[4] = "000000009999"
    assert good.get("4") == "000000005000"
    assert good.having({4: "000000009999"}).get(4) == "000000009999" and good.get(4) == "000000005000"
    assert good.without([2, 4]).numbers == tuple(n for n in good.numbers if n not in (2, 4))
    with pytest.raises(TypeError):
        good[4] = "000000000001"  # type: ignore[index]


# --- structures -------------------------------------------------------------------------------------------------------


def test_nested_bitmap_with_pairs_inside() -> None:
    chosen = shipped.shipped("postilion87").packager
    pairs = Parts([("MeterNo", "01000000016"), ("Xml", "x" * 125)])
    made = Message("0200", {3: "500000", 127: Parts([("2", "KEY-1"), ("20", "20261122"), ("22", pairs)])})
    data = chosen.encode(made)
    # 127.22: length of length, length, text.
    assert b"17MeterNo211" + b"01000000016" + b"13Xml3125" + b"x" * 125 in data
    assert warm(chosen, data) == made
    assert made.get("127.22.MeterNo") == "01000000016" and made.get("127.20") == "20261122"
    assert made.get("127.22") is None and made.get("127.99") is None and made.get("3.1") is None
    for changed in flips(data):
        answer(chosen, changed)
    with pytest.raises(DecodeError, match="^field 127.20: digits expected"):
        chosen.decode(data.replace(b"20261122", b"2026112X"))


def test_every_value_under_a_tag_that_repeats() -> None:
    answered = message("atm87-purchase-answer")
    twice = answered.having({62: Parts([("20", "1" * 20), ("21", "0" * 10), ("20", "2" * 20)])})
    assert twice.all("62.20") == ["1" * 20, "2" * 20] and twice.get("62.20") == "1" * 20
    assert twice.all("62.99") == [] and twice.all("99") == [] and twice.all("39") == ["00"]


def test_lengths_inside_cannot_make_us_work_for_ever() -> None:
    chosen = shipped.shipped("postilion87").packager
    huge = b"9999999999" + b"x" * 20
    inner = bytes.fromhex("0000040000000000") + b"%05d" % len(huge) + huge
    data = b"0200" + bytes.fromhex("80000000000000000000000000000002") + b"%06d" % len(inner) + inner
    with pytest.raises(DecodeError, match="^field 127.22: 999999999 characters expected, got 20$"):
        chosen.decode(data)


def test_many_small_parts_are_refused() -> None:
    chosen = packager_from({"fields": {"48": "ans......999999"}, "tlv": {"48": {"tag": 2, "len": 3}}}, lenient=True)
    data = b"0200" + b"0000000000010000" + b"005005" + b"01000" * 1001
    with pytest.raises(DecodeError, match="at most 1000 parts"):
        chosen.decode(data)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_plans_are_few_however_many_bitmaps_come() -> None:
    chosen = packager_from({"fields": {str(number): "n1" for number in range(2, 65)}}, lenient=True)
    for wanted in range(600):
        numbers = [number for number in range(2, 14) if wanted >> (number - 2) & 1]
        made = Message("0200", {number: "1" for number in numbers})
        for _ in range(3):
            assert chosen.decode(chosen.encode(made)) == made
    assert 0 < len(chosen._plans._decoders) <= plans.PLANS_MAX
    assert 0 < len(chosen._plans._encoders) <= plans.PLANS_MAX
    assert len(chosen._plans._seen) <= 1024 and len(chosen._plans._written) <= 1024


def test_heads_of_parts_are_few_however_many_come() -> None:
    chosen = packager_from({"fields": {"48": "ans...999"}, "tlv": {"48": {"tag": 4, "len": 3}}}, lenient=True)
    for wanted in range(5000):
        chosen.decode(b"0200" + b"0000000000010000" + b"007" + b"%04d000" % wanted)
    structure: Any = chosen.fields.structures[48]
    assert len(structure._heads) == 4096


def test_a_packager_is_freed() -> None:
    # Plans and packager point at each other; nothing else may hold them.
    before = sum(isinstance(each, Packager) for each in gc.get_objects())
    warm(packager_from(members("atm87"), lenient=True), bytes.fromhex(row_of("atm87-echo")["hex"]))
    gc.collect()
    assert sum(isinstance(each, Packager) for each in gc.get_objects()) <= before
