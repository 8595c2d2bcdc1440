"""Profiles: those that come along, and every fault of one that does not fit, with its path.

Covers: the shipped profiles with their vectors; faults one by one and all at once; extending; codes for every reason.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from channels.iso8583 import codes, shipped
from channels.iso8583.codes import Outcome
from channels.iso8583.describe import CARD_FIELDS
from channels.iso8583.message import Message
from channels.iso8583.profile import Asked, Network
from channels.iso8583.profilefile import profile_of
from channels.iso8583.reading import ProfileFaults
from ledger.reasons import Reason
from tests.channels.iso8583.records import rows_of, warm

NAMES = shipped.names()


def tables(name: str) -> dict[str, Any]:
    return tomllib.loads((shipped.FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def made(**more: Any) -> None:
    """A profile that extends the default; raises ProfileFaults."""
    profile_of({"extends": "atm87", "name": "bank", **more}, shipped._find)


def test_five_profiles_come_along_the_default_first() -> None:
    assert NAMES == ["atm87", "atm87-bcd", "atm93", "pln2003-like", "postilion87"]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_profile_drops_card_data_and_knows_sign_on_and_echo(name: str) -> None:
    profile = shipped.shipped(name)
    assert profile.name == name and profile.about and profile.drop >= CARD_FIELDS
    assert {Network.SIGN_ON, Network.ECHO} <= set(profile.network.codes.values())
    assert profile.network.codes[profile.network.code_of(Network.ECHO)] is Network.ECHO
    assert {Asked.INQUIRY, Asked.PURCHASE, Asked.ADVICE, Asked.REVERSAL, Asked.NETWORK} <= {
        rule.asked for rule in profile.messages
    }
    assert {rule.mtis[0][0] for rule in profile.messages} == {str(codes.STYLES.index(profile.style))}


@pytest.mark.parametrize("row", [row for row in rows_of("vector") if row["spec"] in NAMES], ids=lambda row: row["id"])
def test_shipped_profile_reads_its_vectors_with_their_parts(row: dict[str, Any]) -> None:
    profile = shipped.shipped(row["spec"])
    data = bytes.fromhex(row["hex"])
    message = warm(profile.packager, data)
    assert {str(number): profile.packager.text_of(message, number) for number in message.numbers} == row["fields"]
    assert profile.packager.encode(Message(message.mti, dict(message.items()))) == data


def test_profile_file_may_stand_anywhere_and_extend_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "bank.toml"
    path.write_text('extends = "atm87-bcd"\nname = "bank"\n[framing]\nkind = "bcd2"\n[packager.fields]\n127 = "none"\n')
    profile = shipped.profile(str(path))
    assert (profile.framing.kind, profile.framing.tpdu, profile.packager.mti) == ("bcd2", 5, "bcd")
    assert 127 not in profile.packager.fields.codecs and 126 in profile.packager.fields.codecs


def test_profile_of_the_documentation_is_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "iso8583.md").read_text(encoding="utf-8")
    profile = profile_of(tomllib.loads(text.split("```toml\n")[1].split("```")[0]), shipped._find)
    assert profile.name == "example-bank" and profile.mac is not None and profile.code(Reason.METER_UNKNOWN) == "76"


# what a file says besides, the faults it must have: parts of their lines
FAULTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": "Big Bank"}, ["name: expected small letters"]),
    ({"extends": "nobody"}, ["extends: expected the name of a shipped profile"]),
    ({"sugar": 1}, ["sugar: expected no such setting"]),
    ({"style": "1986"}, ["style: expected one of 1987, 1993, 2003, perhaps 1987"]),
    ({"drop": [2, 35]}, ["drop: expected every field that may hold card data; came a list without 14, 36, 45, 52, 55"]),
    ({"drop": [2, 2]}, ["drop: expected each field once"]),
    ({"echo": [2, "3"]}, ["echo: expected a list of field numbers"]),
    ({"echo": [2, 65]}, ["echo: expected fields of this profile; came field 65"]),
    ({"packager": {"mti": "asci"}}, ["packager.mti: expected one of ascii, bcd, ebcdic, perhaps ascii"]),
    ({"packager": {"fields": {"3": "n"}}}, ['packager.fields.3: expected a field format such as "n6"']),
    ({"packager": {"fields": {"3": "n.6"}}}, ["packager.fields.3: expected no dots, or 2 to 6 of them"]),
    ({"packager": {"fields": {"28": "x+n..8"}}}, ["packager.fields.28: expected a signed amount of fixed length"]),
    ({"packager": {"fields": {"43": "ans..120"}}}, ["packager.fields.43: expected at most 99"]),
    ({"packager": {"fields": {"1": "b8"}}}, ["packager.fields.1: expected a field number from 2 to 192"]),
    ({"packager": {"fields": {"130": "b8"}}}, []),
    ({"packager": {"fields": {"65": "b8", "130": "b8"}}}, ["packager.fields.65: expected a number that a bit"]),
    ({"packager": {"third": "in-65", "fields": {"130": "b8"}}}, ['packager.fields.65: expected the format "b8"']),
    ({"packager": {"over": {"200": {"len": "bin"}}}}, ["packager.over.200: expected a field of this profile"]),
    ({"packager": {"over": {"48": {"len": "big"}}}}, ["packager.over.48.len: expected one of ascii, bcd, bin, ebcdic"]),
    ({"packager": {"odd": {"n": "left"}}}, ["packager.odd.n: expected one of left0"]),
    ({"packager": {"tlv": {"48": {"tags": {"1": "n6"}}}}}, ["packager.tlv.48.tags.1: expected a tag of 2"]),
    ({"packager": {"tlv": {"48": {"tags": {"01": "n"}}}}}, ["packager.tlv.48.tags.01: expected a field format"]),
    ({"packager": {"tlv": {"52": {"tag": 2}}}}, ["packager.tlv.52: expected a field of text; came the format b8"]),
    ({"packager": {"pairs": ["48"]}}, ["packager.48: expected one structure for a field"]),
    ({"packager": {"positions": {"60": [{"mti": "[", "parts": []}]}}}, ['mti: expected a pattern such as "21.0"']),
    (
        {"packager": {"positions": {"60": [{"parts": [["a", "rest"], ["a", "n1|n2"], ["b"]]}]}}},
        ['"rest" at the end only', "one format; came several", "[name, format]", "each name once"],
    ),
    ({"packager": {"nested": {"3": {"fields": {"2": "n1"}}}}}, ["packager.nested.3: expected a field of bytes"]),
    ({"packager": {"nested": {"120": {"fields": {"2": "q"}}}}}, ["nested.120.fields.2: expected a field format"]),
    ({"framing": {"kind": "bin5"}}, ["framing.kind: expected one of bin2"]),
    ({"framing": {"tpdu": 3}}, ["framing.tpdu: expected 0 or 5; came 3"]),
    ({"framing": {"trailer": "0"}}, ["framing.trailer: expected 0 to 4 bytes"]),
    ({"framing": {"kind": "ascii4", "max_frame": 20_000}}, ["framing.max_frame: expected at most 9999"]),
    ({"link": {"echo_misses": 0}}, ["link.echo_misses: expected a whole number from 1 to 20; came 0"]),
    ({"link": {"redial_min_s": 100}}, ["link.redial_min_s: expected at most redial_max_s, 60"]),
    ({"mac": {"alg": "x919"}}, ["mac.key_handle: expected the name of a key"]),
    ({"mac": {"alg": "md5", "key_handle": "z", "pad": 3, "covers": [3, 200]}}, ["mac.alg", "mac.pad", "mac.covers"]),
    ({"mac": {"key_handle": "z", "skip_mti": ["08"]}}, ["mac.skip_mti: expected message types"]),
    ({"messages": {"dance": {"mti": "0200"}}}, ["messages.dance: expected one of advice"]),
    ({"messages": {"purchase": {"mti": "0210"}}}, ["messages.purchase.mti: expected the type of a request"]),
    ({"messages": {"purchase": {"repeat": "0200"}}}, ["messages.purchase.repeat: expected other types"]),
    ({"messages": {"purchase": {"require": ["x"]}}}, ['messages.purchase.require: expected a path such as "4"']),
    ({"messages": {"purchase": {"require": ["48.7.7"]}}}, ["a part that field 48 has"]),
    ({"messages": {"purchase": {"match": {"3": "("}}}}, ["messages.purchase.match.3: expected a pattern"]),
    ({"messages": {"advice": {"mti": "0420"}}}, ["patterns that tell 0420 of advice apart"]),
    ({"network": {"mti": "0200"}}, ["network.mti: expected the type of a network management request"]),
    ({"network": {"codes": {"301": "hello"}}}, ["network.codes.301: expected one of sign_on"]),
    ({"network": {"key_handle": ""}}, ["network.key_handle: expected names"]),
    ({"matching": {"key": ["2", "11"]}}, ["matching.key: expected no card data; came field 2"]),
    ({"matching": {"key": []}}, ["matching.key: expected at least one path"]),
    ({"matching": {"fingerprint": ["60.1"]}}, ["matching.fingerprint: expected a field with a tlv"]),
    ({"map": {"meter": "200"}}, ['map.meter: expected a path such as "4"']),
    ({"map": {"mile": "4"}}, ["map.mile: expected one of meter"]),
    ({"map": {"response": "48.01"}}, ["map.response: expected a whole field"]),
    ({"reversal": {"policy": "shrug"}}, ["reversal.policy: expected one of accept_and_seal, refuse"]),
    ({"reversal": {"original": [["mti"]]}}, ["reversal.original: expected [name, digits]"]),
    ({"codes": {"APROVED": "00"}}, ["codes.APROVED: expected the name of a reason or an outcome"]),
    ({"codes": {"APPROVED": "000"}}, ["codes.APPROVED: expected a code of the format an2"]),
    ({"timing": {"bank_timeout_s": "30"}}, ["timing.bank_timeout_s: expected a whole number from 2 to 600; came '30'"]),
    ({"settlement": {"net_amount": 88}}, ["settlement.net_amount: expected a field of kind x+n", "one twice"]),
    ({"show": {"48.01": "maybe"}}, ["show.48.01: expected one of yes, last4, no"]),
    ({"constants": {"48.zzz": "1"}}, ["constants.48.zzz"]),
]  # fmt: skip


@pytest.mark.parametrize(("more", "expected"), FAULTS)
def test_fault_is_told_with_its_path(more: dict[str, Any], expected: list[str]) -> None:
    if not expected:
        made(**more)
        return
    with pytest.raises(ProfileFaults) as refused:
        made(**more)
    lines = [str(fault) for fault in refused.value.faults]
    for part in expected:
        assert any(part in line for line in lines), lines


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ProfileFaults) as refused:
        made(style="x", framing={"kind": "y"}, packager={"mti": "z"}, link={"role": "w"}, timing={"bank_timeout_s": 0})
    where = {fault.where for fault in refused.value.faults}
    assert {"style", "framing.kind", "packager.mti", "link.role", "timing.bank_timeout_s"} <= where
    assert str(refused.value).startswith(f"profile bank: {len(refused.value.faults)} faults\n  ")


@pytest.mark.parametrize("value", [None, 1, "x", [], [1], {"a": {"b": 1}}, True, 1.5, "\0", {"48": 1}, [[["x"]]]])
def test_no_value_anywhere_does_worse_than_be_refused(value: Any) -> None:
    whole = tables("pln2003-like") | tables("postilion87") | {"mac": {"key_handle": "k"}}
    for name in ["extends", *whole, "about", "codes"]:
        for table in ({**whole, name: value}, {**whole, name: {**_table(whole.get(name)), "mti": value, "48": value}}):
            try:
                profile_of(table, shipped._find)
            except ProfileFaults as faults:
                assert str(faults)
    for name in ["bitmap", "fields", "over", "nested", "tlv", "positions", "pairs", "third", "odd", "an", "header"]:
        try:
            made(packager={name: value})
        except ProfileFaults as faults:
            assert str(faults)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff", "text in UTF-8"), (b"name =", "TOML"), (b"#" * 300_000, "at most 262144 bytes")],
)
def test_file_that_holds_no_profile_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bank.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileFaults, match=words):
        shipped.profile(str(path))


def test_name_that_is_not_shipped_is_refused() -> None:
    for name in ("nobody", "iso8583-1987"):
        with pytest.raises(ProfileFaults, match="expected one of atm87"):
            shipped.profile(name)


# --- codes ------------------------------------------------------------------------------------------------------------


def test_every_reason_and_outcome_has_a_code_in_every_style() -> None:
    assert codes.keys() == set(Reason) | set(Outcome)
    for style, length in (("1987", 2), ("1993", 3), ("2003", 4)):
        table = codes.table(style)
        assert set(table) == {each.value for each in (*Reason, *Outcome)}
        assert all(len(code) == length and code.isdecimal() for code in table.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_code_fits_its_field(name: str) -> None:
    profile = shipped.shipped(name)
    for why in (*Reason, *Outcome):
        answer = Message("0210", {profile.response_field: profile.code(why)})
        assert profile.packager.decode(profile.packager.encode(answer)) == answer


def test_bank_may_override_a_code() -> None:
    profile = profile_of({"extends": "atm87", "name": "b", "codes": {"METER_UNKNOWN": "76"}}, shipped._find)
    assert profile.code(Reason.METER_UNKNOWN) == "76" and profile.code(Reason.METER_INVALID) == "14"
    assert profile.code(Outcome.DUPLICATE_DIFFERS) == "94"
