"""Alphabets and the cutting of long texts.

Origins: 3GPP TS 23.038, 6.2.1 and 6.2.1.1 for the tables; 3GPP TS 23.040, 9.2.3.24.1 for sizes; smpplib 2.2.4 as a
second table, which is wrong for the backtick and the section sign.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smpplib import gsm

from channels.smpp.parts import place_of
from channels.smpp.pdu import SubmitSm
from channels.smpp.text import (
    GSM_ALPHABET,
    GSM_EXTENSION,
    Alphabet,
    Part,
    TooLong,
    decode,
    decode_gsm,
    encode_gsm,
    is_wide,
    parts_needed,
    split,
)

BASIC = GSM_ALPHABET.replace("\x1b", "")
GSM_TEXT = st.text(st.sampled_from(BASIC + "".join(GSM_EXTENSION.values())))
TOKEN = "1234 5678 9012 3456 7890"
ARABIC_TOKEN = "\u200e1234\u00a05678\u00a09012\u00a03456\u00a07890\u200e"


# ------------------------------------------------------------------------------------------------ tables


def test_the_table_has_128_places_and_no_character_twice() -> None:
    assert len(GSM_ALPHABET) == len(set(GSM_ALPHABET)) == 128


@pytest.mark.parametrize("character", sorted(set(BASIC + "".join(GSM_EXTENSION.values())) - {"§"}))
def test_smpplib_has_the_same_codes(character: str) -> None:
    expected = encode_gsm(character)
    if character == "\f":  # smpplib has no form feed
        assert expected == b"\x1b\x0a"
    else:
        assert gsm.gsm_encode(character) == expected


def test_the_backtick_is_not_in_the_alphabet_though_smpplib_writes_a_section_sign() -> None:
    assert encode_gsm("`") is None
    assert encode_gsm("§") == gsm.gsm_encode("`") == b"\x5f"


# fmt: off
DECODED = [
    # octets,                          coding, default,            text
    (b"Hello\x00\x11\x02",             0x00,   Alphabet.GSM,       "Hello@_$"),
    (b"\x1b\x65 5, \x1b\x3cok\x1b\x3e",0x00,   Alphabet.GSM,       "€ 5, [ok]"),
    (b"a\x1bz",                        0x00,   Alphabet.GSM,       "az"),           # no such extension
    (b"a\x1b\x1bz",                    0x00,   Alphabet.GSM,       "a z"),
    (b"a\x1b",                         0x00,   Alphabet.GSM,       "a "),
    (b"caf\xe9",                       0x00,   Alphabet.GSM,       "café"),         # cannot be septets
    (b"caf\xe9 @$_",                   0x00,   Alphabet.LATIN_1,   "café @$_"),
    (b"caf\xe9",                       0x00,   Alphabet.ASCII,     "caf\ufffd"),
    (b"caf\xc3\xa9",                   0x00,   Alphabet.UTF_8,     "café"),
    (b"@$_ 5",                         0x01,   Alphabet.GSM,       "@$_ 5"),
    (b"caf\xe9",                       0x03,   Alphabet.GSM,       "café"),
    (b"\xc0\xff",                      0x02,   Alphabet.GSM,       "Àÿ"),           # binary: shown, not refused
    (b"\xbf\xe0\xd8\xd2\xd5\xe2",      0x06,   Alphabet.GSM,       "Привет"),
    (b"\xf9\xec",                      0x07,   Alphabet.GSM,       "של"),
    ("مرحبا 5".encode("utf-16-be"),    0x08,   Alphabet.GSM,       "مرحبا 5"),
    (b"\xfe\xff\0A\0B",                0x08,   Alphabet.GSM,       "AB"),           # byte order mark
    (b"\xff\xfeA\0B\0",                0x08,   Alphabet.GSM,       "AB"),
    (b"\0A\0B\0",                      0x08,   Alphabet.GSM,       "AB"),           # odd
    ("😀".encode("utf-16-be"),         0x08,   Alphabet.GSM,       "😀"),
    (b"\xd8\x3d\0A",                   0x08,   Alphabet.GSM,       "\ufffdA"),      # half a pair
    (b"\x00\x11",                      0xF1,   Alphabet.GSM,       "@_"),           # class 1, default alphabet
    (b"\x00\x11",                      0x11,   Alphabet.GSM,       "@_"),
    (b"@_",                            0xF0,   Alphabet.LATIN_1,   "@_"),
    (b"caf\xe9",                       0xF5,   Alphabet.GSM,       "café"),         # class 1, octets
    (b"\0A",                           0x18,   Alphabet.GSM,       "A"),            # class 0, UCS-2
    (b"\0A",                           0x19,   Alphabet.GSM,       "A"),
    (b"caf\xe9",                       0x15,   Alphabet.GSM,       "café"),
    (b"\x00",                          0xC8,   Alphabet.GSM,       "@"),            # message waiting
    (b"\0A",                           0xE0,   Alphabet.GSM,       "A"),            # message waiting, UCS-2
    (b"",                              0x00,   Alphabet.GSM,       ""),
    (b"",                              0x08,   Alphabet.GSM,       ""),
]
# fmt: on


@pytest.mark.parametrize(("octets", "coding", "default", "text"), DECODED)
def test_octets_read_by_their_coding(octets: bytes, coding: int, default: Alphabet, text: str) -> None:
    assert decode(octets, coding, default) == text


@given(st.binary(max_size=200), st.integers(0, 255), st.sampled_from(Alphabet))
def test_any_octets_of_any_coding_read_as_some_text(octets: bytes, coding: int, default: Alphabet) -> None:
    decode(octets, coding, default)
    is_wide(coding)


@given(GSM_TEXT)
def test_gsm_reads_back_what_it_wrote(text: str) -> None:
    septets = encode_gsm(text)
    assert septets is not None and max(septets, default=0) < 0x80
    assert decode_gsm(septets) == text


# ------------------------------------------------------------------------------------------------ cutting

# fmt: off
SIZES = [
    # text,                       coding, octets of each short_message
    ("",                          0,      [0]),
    ("a" * 160,                   0,      [160]),
    ("a" * 161,                   0,      [159, 14]),
    ("a" * 306,                   0,      [159, 159]),
    ("a" * 307,                   0,      [159, 159, 7]),
    ("€" * 80,                    0,      [160]),
    ("€" * 81,                    0,      [158, 16]),          # 153 septets hold 76 pairs, none is cut
    ("a" + "€" * 80,              0,      [159, 14]),
    ("ب" * 70,                    8,      [140]),
    ("ب" * 71,                    8,      [140, 14]),
    ("a" * 69 + "ب",              8,      [140]),
    ("😀" * 35,                   8,      [140]),
    ("😀" * 36,                   8,      [138, 18]),          # 67 units hold 33 pairs, none is cut
    ("ب" * 66 + "😀" + "ب" * 3,   8,      [138, 16]),
    ("`" * 70,                    8,      [140]),
]
# fmt: on


@pytest.mark.parametrize(("text", "coding", "octets"), SIZES)
def test_a_text_is_cut_into_parts_of_the_right_size(text: str, coding: int, octets: list[int]) -> None:
    parts = split(text, 0x1FF)
    assert [len(part.short_message) for part in parts] == octets
    assert {part.data_coding for part in parts} == {coding}
    assert parts_needed(text) == len(octets)
    if len(parts) > 1:
        for number, part in enumerate(parts, start=1):
            assert part.esm_class == 0x40
            assert part.short_message[:6] == bytes((5, 0, 3, 0xFF, len(parts), number))
    else:
        assert parts[0].esm_class == 0


@given(
    st.text(st.one_of(st.sampled_from(BASIC + "€[]{}"), st.characters(exclude_categories=["Cs"])), max_size=600),
    st.integers(0, 1000),
)
def test_parts_put_together_are_the_text_and_each_reads_alone(text: str, reference: int) -> None:
    parts = split(text, reference)
    read = []
    for part in parts:
        place, octets = place_of(SubmitSm(esm_class=part.esm_class, short_message=part.short_message))
        assert (place is None) == (len(parts) == 1)
        read.append(decode(octets, part.data_coding) if octets[:2] not in (b"\xfe\xff", b"\xff\xfe") else None)
    if None not in read:  # a text that begins with a byte order mark loses it, as it should
        assert "".join(piece for piece in read if piece is not None) == text
    assert all("\ufffd" not in (piece or "") for piece in read) or "\ufffd" in text
    assert all(len(part.short_message) <= 160 for part in parts)


def texts_of(parts: list[Part]) -> list[str]:
    messages = [SubmitSm(esm_class=part.esm_class, short_message=part.short_message) for part in parts]
    return [decode(place_of(each)[1], part.data_coding) for each, part in zip(messages, parts, strict=True)]


@pytest.mark.parametrize("before", range(120, 160))
@pytest.mark.parametrize("token", [TOKEN, ARABIC_TOKEN])
def test_a_token_stays_in_one_part_wherever_it_falls(before: int, token: str) -> None:
    text = "x" * before + " " + token + " thank you"
    parts = split(text, 7, [token])
    assert len(parts) == parts_needed(text, [token])
    texts = texts_of(parts)
    assert "".join(texts) == text
    assert sum(token in each for each in texts) == 1


def test_the_same_token_twice_and_two_tokens_stay_whole() -> None:
    other = "9999 8888 7777 6666 5555"
    text = "x" * 140 + TOKEN + "y" * 130 + other + "z" * 120 + TOKEN
    texts = texts_of(split(text, 1, [TOKEN, other]))
    assert sum(each.count(TOKEN) for each in texts) == 2 and sum(each.count(other) for each in texts) == 1


def test_what_is_longer_than_a_part_is_cut_all_the_same() -> None:
    text = "a" * 400
    assert [len(part.short_message) for part in split(text, 1, [text])] == [159, 159, 100]
    assert len(split("b" * 10 + text, 1, [text, ""])) == 4  # begins in a part of its own


def test_no_break_spaces_and_direction_marks_make_a_text_ucs2() -> None:
    assert split("a\u00a0b", 0)[0].data_coding == 8
    assert split(ARABIC_TOKEN, 0)[0].short_message.decode("utf-16-be") == ARABIC_TOKEN


# fmt: off
@pytest.mark.parametrize(("text", "default", "coding", "octets"), [
    ("Token 1234", Alphabet.LATIN_1, 0, b"Token 1234"),
    ("a@b_$",      Alphabet.LATIN_1, 0, b"a@b_$"),           # not the GSM codes
    ("café",       Alphabet.LATIN_1, 0, b"caf\xe9"),
    ("café",       Alphabet.ASCII,   8, "café".encode("utf-16-be")),
    ("café",       Alphabet.UTF_8,   8, "café".encode("utf-16-be")),
    ("5 €",        Alphabet.LATIN_1, 8, "5 €".encode("utf-16-be")),
    ("[5]",        Alphabet.LATIN_1, 8, "[5]".encode("utf-16-be")),   # two septets there, one octet here
    ("[5]",        Alphabet.GSM,     0, b"\x1b\x3c5\x1b\x3e"),
])
# fmt: on
def test_a_link_whose_default_is_another_alphabet_gets_what_it_reads(
    text: str, default: Alphabet, coding: int, octets: bytes
) -> None:
    (part,) = split(text, 0, (), default)
    assert (part.data_coding, part.short_message) == (coding, octets)
    assert decode(octets, coding, default) == text


def test_more_than_255_parts_are_refused_and_255_are_not() -> None:
    assert len(split("a" * 153 * 255, 1)) == 255
    with pytest.raises(TooLong):
        split("a" * (153 * 255 + 1), 1)


@pytest.mark.parametrize("name", ["gsm", "latin1", "ascii"])
def test_the_settings_name_the_alphabets_as_we_do(name: str) -> None:
    assert Alphabet(name).value == name
