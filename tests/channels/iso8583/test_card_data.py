"""Card data, tokens and keys are shown nowhere: not by repr, not in an exception, not to people.

Covers: every card field in every shipped profile and in the vector packagers; representations of everything a message
becomes; errors for each of their bits changed; descriptions.
"""

from __future__ import annotations

import re
import traceback
from typing import Any

import pytest

from channels.iso8583 import shipped
from channels.iso8583.answers import answer_to
from channels.iso8583.codes import Outcome
from channels.iso8583.describe import CARD_FIELDS, described, masked, shown
from channels.iso8583.errors import IsoError
from channels.iso8583.message import Message, Parts
from channels.iso8583.requests import request_of
from tests.channels.iso8583.records import message, packager

PAN = "4111111111111111"
SECRETS: dict[int, str] = {
    2: PAN,
    14: "2912",
    35: f"{PAN}=29122011234567890",
    36: "59" + PAN + "8" * 30,
    45: f"B{PAN}^DOE/JOHN MR.^29122011234567890",
    52: "9AF1C3D5E7B90A1C",
}
ICC = {"ans": "9F2608A1B2C3D4E5F60718", "b": "9F2608A1B2C3D4E5F60718"}


def loaded(name: str) -> Message:
    """A message with all the card data that the packager has fields for."""
    chosen = shipped.shipped(name).packager if name in shipped.names() else packager(name)
    codecs = chosen.fields.codecs
    values: dict[int, Any] = {number: value for number, value in SECRETS.items() if number in codecs}
    if 36 in codecs and codecs[36].form.kind == "z":
        values[36] = SECRETS[36]
    if 55 in codecs:
        values[55] = ICC["b" if codecs[55].form.kind == "b" else "ans"]
    return Message("0200", values, bytes(chosen.header))


NAMES = [*shipped.names(), "visa-basei", "mc87-ebcdic-bin", "iso87-bcd", "jpos-iso93ascii"]


def pieces() -> list[str]:
    """Whatever must not be seen: more of a PAN than its ends, and the rest."""
    middle = PAN[6:12]
    return [
        PAN, PAN[2:], PAN[:-4], f"{PAN[:7]}", f"{middle}1111", "29122011", "DOE", "88888", SECRETS[52],
        SECRETS[52].lower(), ICC["b"], "A1B2C3D4", "a1b2c3d4",
    ]  # fmt: skip


def assert_clean(text: str) -> None:
    for piece in pieces():
        assert piece not in text, piece


@pytest.mark.parametrize("name", NAMES)
def test_message_and_its_description_show_none(name: str) -> None:
    made = loaded(name)
    assert_clean(f"{made!r} {made} {Parts([('2', PAN)])!r}")
    lines = described(made, {}, {str(number): "yes" for number in CARD_FIELDS})
    assert_clean(" ".join(f"{line.path} {line.name} {line.shown}" for line in lines) + repr(lines))
    if 2 in made:
        assert any(line.shown == "411111******1111" for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_no_exception_shows_any(name: str) -> None:
    made = loaded(name)
    chosen = shipped.shipped(name).packager if name in shipped.names() else packager(name)
    data = chosen.encode(made)
    broken = [data[:length] for length in range(len(data))]
    broken += [data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :] for at in range(len(data))]
    seen = 0
    for each in broken:
        try:
            chosen.decode(each)
        except IsoError as error:
            seen += 1
            assert_clean(f"{error} {error!r} {error.args} {vars(error)}")
            # Frames of the traceback show code, and no values.
            assert_clean("".join(traceback.format_exception(error)))
            assert error.__context__ is None or isinstance(error.__context__, (IsoError, UnicodeError))
            if isinstance(error.__context__, UnicodeError):
                assert error.__suppress_context__
    assert seen > 20
    for number, value in made.items():
        try:
            chosen.encode(made.having({number: f"{value}\N{SNOWMAN}"}))
        except IsoError as error:
            assert_clean(f"{error} {error!r}")


def test_requests_and_answers_show_none() -> None:
    atm87 = shipped.shipped("atm87")
    whole = message("atm87-purchase").having(SECRETS)
    assert_clean(f"{request_of(atm87, whole)!r} {answer_to(atm87, whole, Outcome.APPROVED)!r}")


@pytest.mark.parametrize(
    ("number", "value", "expected"),
    [
        (2, PAN, "411111******1111"),
        (2, "4111111111111", "411111***1111"),
        (2, "99502", "*****"),
        (2, "", ""),
        (35, "4111=29", "(7 characters, not shown)"),
        (4, "000000005000", "000000005000"),
        (37, "232611000124", "232611000124"),
        (102, "0123456789", "******6789"),
        (48, "PAN 4111 1111 1111 1111.", "PAN ***************1111."),
        (63, "token 1234-5678-9012-3456-7890", "token ********************7890"),
        (125, "X1FA15D0627E28BD00C3C275BFBE03911DFA251", "*" * 39),
        (60, "Meter 01000000016", "Meter 01000000016"),
        (127, "00AA11BB22CC33DD44", "*" * 18),
    ],
)
def test_value_as_people_may_see_it(number: int, value: str, expected: str) -> None:
    assert shown(number, value) == expected


def test_profile_cannot_open_card_data() -> None:
    for number in CARD_FIELDS - {2}:
        assert "not shown" in shown(number, "12345", "yes")
    assert shown(2, PAN, "yes") == "411111******1111"


def test_parts_of_nested_fields_are_masked_by_content_only() -> None:
    # 127.2 is no PAN because it is called 2; what looks like one is hidden wherever it stands.
    made = Message("0200", {127: Parts([("2", "KEY-1"), ("22", Parts([("Card", PAN)]))])})
    assert [line.shown for line in described(made, {}, {})][1:] == ["KEY-1", "************1111"]


def test_masking_leaves_no_long_run() -> None:
    text = masked(f"{PAN}/{PAN} {PAN[:8]} {PAN[8:]} x{PAN}")
    assert not re.search(r"[0-9]{5}", text)
