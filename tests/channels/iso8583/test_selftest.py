"""The known-answer test: it passes the file as it is, and notices when a record says something else.

Covers: the whole file; every record kind; each expected member of every record changed; lines that are no records.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from channels.iso8583.selftest import KINDS, check_lines, check_row
from sts.selftest import Finding, Result, Tally
from tests.channels.iso8583.records import FILE, ROWS, SPECS, Row, packager, row_of, rows_of

WRONG = (Result.DIFFERS, Result.UNREADABLE)
PACKAGERS = {name: packager(name) for name in SPECS}


def check(row: Row) -> Finding:
    return check_row(row, PACKAGERS)


def test_whole_file_passes() -> None:
    tally = Tally()
    for finding in check_lines(FILE.read_bytes().split(b"\n"), {}):
        assert finding.result is Result.PASSED, finding.as_json()
        tally.add(finding)
    assert tally.as_json() == {"rows": 177, "passed": 177, "skipped": 0, "differ": 0, "unreadable": 0}
    assert tally.is_well


def test_every_kind_but_one_is_in_the_file() -> None:
    assert set(KINDS) - {row["kind"] for row in ROWS} == {"key_under_zmk"}


def _other(text: str) -> str:
    """A text of the same length, but another one."""
    return text[:-1] + ("1" if text[-1] == "0" else "0") if text else "0"


def _changes(row: Row) -> list[Row]:
    """The record with each thing it expects changed."""
    changed: list[Row] = []

    def put(place: str, value: Any, name: str | None = None) -> None:
        other = copy.deepcopy(row)
        if name is None:
            other[place] = value
        else:
            other[place][name] = value
        changed.append(other)

    match row["kind"]:
        case "vector":
            put("mti", _other(row["mti"]))
            put("hex", row["hex"] + "00")
            for name, value in row["fields"].items():
                put("fields", _other(value), name)
            put("fields", "0", "63" if "63" not in row["fields"] else "62")
            if "header" in row:
                put("header", _other(row["header"]))
        case "frame":
            put("rest", row["rest"] + "00")
            put("messages", row["messages"][:-1])
            put("messages", [*row["messages"][:-1], _other(row["messages"][-1])])
        case "mac" | "kcv":
            put(row["kind"], _other(row[row["kind"]]))
            put("key", _changed_key(row["key"]))
        case "mac_message":
            put("valid", not row.get("valid", True))
            put("mac_field", "128")
        case "reject":
            put("hex", row_of("atm87-echo")["hex"])
            changed[-1]["spec"] = "atm87"
        case "frame_reject":
            put("stream", "")
        case "reject_prefixes":
            put("hex", row["hex"] + "00")
    return changed


def _changed_key(key: str) -> str:
    # The lowest bit of a DES key's byte is parity.
    return f"{int(key[:2], 16) ^ 0x10:02X}{key[2:]}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_nothing_a_record_says_can_change_unseen(row: Row) -> None:
    changes = _changes(row)
    assert changes
    for changed in changes:
        assert check(changed).result in WRONG, changed


def test_difference_names_the_field_and_shows_no_card_number() -> None:
    row = row_of("atm87-purchase")
    row["fields"]["2"] = "5021990000000025"
    assert check(row).as_json() | {"line": 7} == {
        "id": "atm87-purchase",
        "line": 7,
        "result": "differs",
        "field": "fields.2",
        "expected": "502199******0025",
        "got": "502199******0017",
    }


# The ZMK under which the key of the record atm87-key-change stands, found by its check value.
UNDER_ZMK: Row = {
    "id": "k",
    "kind": "key_under_zmk",
    "zmk": "0123456789ABCDEFFEDCBA9876543210",
    "cryptogram": "1FA15D0627E28BD00C3C275BFBE03911",
    "key": "89E504AEF4B6C4F1E3076D29C74A9E62",
    "kcv": "DFA251",
}


@pytest.mark.parametrize("more", [{}, {"cryptogram": "X1FA15D0627E28BD00C3C275BFBE03911DFA251"}, {"scheme": "X"}])
def test_key_under_a_zmk(more: Row) -> None:
    assert check(UNDER_ZMK | more).result is Result.PASSED
    for name in ("zmk", "key", "kcv"):
        wrong = UNDER_ZMK | more
        assert check(wrong | {name: _changed_key(wrong[name])}).result in WRONG


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\xff\xfe", "UTF-8 text expected"),
        (b"{", "a JSON object expected"),
        (b"[]", "a JSON object expected"),
        (b"{}", "id: a text expected"),
        (b'{"id": "a", "kind": "dance"}', "kind: dance is not known"),
        (b'{"id": "a", "kind": "vector"}', "record.spec: missing"),
        (b'{"id": "a", "kind": "vector", "spec": "nowhere", "hex": ""}', "spec: nowhere is not declared"),
        (b'{"id": "a", "kind": "kcv", "alg": "x", "key": "0g", "kcv": ""}', "record.key: hex digits expected"),
        (b'{"id": "a", "kind": "frame", "framing": {"kind": "bin9"}}', "framing.kind: expected one of"),
        (b'{"kind": "spec", "name": "x", "fields": {"2": "q9"}}', "spec x.fields.2: expected a field format"),
        (b'{"kind": "spec", "name": "x", "fields": {"2": "n6"}, "sugar": 1}', "no such setting"),
    ],
)
def test_line_that_is_no_record_is_told_as_one(line: bytes, why: str) -> None:
    (finding,) = check_lines([line], {})
    assert finding.result is Result.UNREADABLE and why in (finding.why or "")
    json.dumps(finding.as_json())


def test_packagers_may_be_declared_behind_their_records() -> None:
    lines = [json.dumps(row_of("atm87-echo")).encode(), json.dumps(SPECS["atm87"]).encode()]
    assert [finding.result for finding in check_lines(lines, {})] == [Result.PASSED]


def test_parts_may_be_expected_as_text_as_an_object_or_one_by_one() -> None:
    spec = {
        "kind": "spec", "name": "n", "mti": "ascii", "bitmap": "bin", "fields": {"11": "n6", "127": "b......999999"},
        "nested": {"127": {"bitmap": "bin", "fields": {"2": "ans..32", "10": "n3"}}},
    }  # fmt: skip
    inside = "4040000000000000" + b"02AB007".hex().upper()
    head = b"0200".hex() + "8020000000000000" + "0000000000000002"
    message = head + b"000001".hex() + b"000015".hex() + inside
    for fields in ({"127": inside}, {"127": {"2": "AB", "10": "007"}}, {"127.2": "AB", "127.10": "007"}):
        row: Row = {"id": "a", "kind": "vector", "spec": "n", "hex": message, "mti": "0200"}
        row["fields"] = {"11": "000001", **fields}
        lines = [json.dumps(spec).encode(), json.dumps(row).encode()]
        (finding,) = check_lines(lines, {})
        assert finding.result is Result.PASSED, finding.as_json()
        row["fields"] = json.loads(json.dumps(row["fields"]).replace("AB", "AC").replace("4142", "4143"))
        (finding,) = check_lines([lines[0], json.dumps(row).encode()], {})
        assert finding.result is Result.DIFFERS


def test_reject_records_are_all_refused_by_name() -> None:
    assert len(rows_of("reject")) == 40 and all(check(row).result is Result.PASSED for row in rows_of("reject"))
