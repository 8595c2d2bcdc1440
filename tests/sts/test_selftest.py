"""The known-answer test itself: it passes the file as it is, and any change to a row is reported.

Covers: the whole file; every expected field of every row changed; every input of a sample of rows changed; lines that
are no rows; rows for operational tables with a made-up set; what can and what cannot differ unseen.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.amounts import field_up
from sts.ciphers import DecoderKey
from sts.decode import digits_from
from sts.derivation import VendingKey
from sts.errors import Fault
from sts.meterkey import MeterKey
from sts.modules.software import SoftwareModule
from sts.selftest import KINDS, Finding, Result, Tally, check_line, check_lines, check_row, refusal_of
from sts.tables import SAMPLE, TableSet
from sts.tid import tid_at
from sts.tokens import Credit, Resource, block_of
from sts.vectorrows import LINE_BYTES_MAX, Unreadable
from tests.sts.keys import NOW
from tests.sts.rows import FILE, ROWS, Row, row_of

WRONG: Final = (Result.DIFFERS, Result.UNREADABLE)

# Permutations that are neither the sample set nor anybody's secret.
MADE_UP: Final = TableSet("made-up", SAMPLE.substitution_2, SAMPLE.substitution_1, tuple(reversed(SAMPLE.permutation)))


def _id(row: Row) -> str:
    return str(row["id"])


def test_whole_file_passes_and_what_needs_tables_is_skipped() -> None:
    tally = Tally()
    for finding in check_lines(FILE.read_bytes().split(b"\n")):
        tally.add(finding)
    assert tally.as_json() == {"rows": 694, "passed": 615, "skipped": 79, "differ": 0, "unreadable": 0}
    assert tally.is_well


def test_every_kind_of_row_is_in_the_file() -> None:
    assert {row["kind"] for row in ROWS} == set(KINDS)


# --- a row that says something else -----------------------------------------------------------------------------------


def _other(value: Any) -> Any:
    """A value of the same type and shape, but another one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [*value[:-1], _other(value[-1])]
    assert isinstance(value, str)
    return value[:-1] + ("1" if value[-1] == "0" else "0")


def _set(row: Row, path: tuple[str, ...], value: object) -> Row:
    changed = copy.deepcopy(row)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


# Any refusal counts for a reject row, so its reasons, which are hints, may say anything.
@pytest.mark.parametrize("row", ROWS, ids=_id)
def test_no_expected_value_can_change_unseen(row: Row) -> None:
    for name, value in row["expected"].items():
        if name != "reasons":
            finding = check_row(_set(row, ("expected", name), _other(value)))
            assert finding.result in WRONG, f"{name}: {finding.as_json()}"


def test_difference_names_the_field_and_both_values() -> None:
    row = _set(row_of("D0220"), ("expected", "amount_field"), 51774)
    finding = check_row(row, None, 12)
    assert finding.as_json() == {
        "id": "D0220",
        "line": 12,
        "result": "differs",
        "field": "amount_field",
        "expected": 51774,
        "got": 51775,
    }


def test_row_with_several_differences_is_one_finding_that_names_them_all() -> None:
    row = _set(_set(row_of("D0220"), ("expected", "tid"), 1), ("expected", "token"), "0" * 20)
    finding = check_row(row)
    assert (finding.field, finding.also) == ("tid", ("token",))


STRANGE: Final[list[Any]] = [None, [], {}, 1.5, float("inf"), "\ud800", True, 10**40, -1, ""]

# A sample of every kind that is computed, both algorithms, and every layout of token.
SAMPLE_ROWS: Final = [
    row_of(identity)
    for identity in "P0209 D0008 U0052 D0262 P0168 P0253 P0204 S002 W001 C045 C021 A150 R115 L088 T190".split()
]


def _inputs(members: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in members.items():
        if isinstance(value, dict):
            yield from _inputs(value, (*path, name))
        else:
            yield (*path, name), value


def _changed(name: str, value: Any) -> Any:
    """Another value of an input, far enough from this one to come into the result."""
    if name == "issued_at":
        return f"{int(value[:4]) + 1}{value[4:]}"
    if name == "requests_at":
        return [*value[:-1], "2004-03-29T00:09:00"]
    if name == "ken":
        return value ^ 0xFF  # each section carries one half of it
    if name.startswith("amount") or name == "units":
        return value * 3 + 1_000_000
    return _other(value)


@pytest.mark.parametrize("row", SAMPLE_ROWS, ids=_id)
def test_no_input_can_change_unseen(row: Row) -> None:
    for path, value in _inputs(row["inputs"]):
        # The expiry number ends a key, and none of these tokens is past the end; notes are for people.
        if path != ("ken",) and path[-1] != "note":
            finding = check_row(_set(row, ("inputs", *path), _changed(path[-1], value)))
            assert finding.result in WRONG, f"{path}: {finding.as_json()}"


@pytest.mark.parametrize("row", [*SAMPLE_ROWS, row_of("X042"), row_of("X076"), row_of("X102"), row_of("X113")], ids=_id)
def test_missing_or_mistyped_member_makes_a_row_unreadable_or_different(row: Row) -> None:
    paths: list[tuple[str, ...]] = [(name,) for name in ("id", "kind", "inputs", "expected")]
    paths += [("inputs", *path) for path, _ in _inputs(row["inputs"])]
    paths += [("expected", name) for name in row["expected"]]
    for path in paths:
        for wrong in STRANGE:
            finding = check_row(_set(row, path, wrong))
            json.dumps(finding.as_json(), allow_nan=False)
            assert isinstance(finding, Finding)
            if path[0] in ("id", "kind", "inputs") and len(path) == 1 and not (path == ("id",) and wrong == "\ud800"):
                assert finding.result is Result.UNREADABLE


def test_field_that_nobody_computes_makes_a_row_unreadable() -> None:
    row = _set(row_of("D0220"), ("expected", "weather"), "fine")
    assert check_row(row).as_json()["why"] == "expected.weather: not computed for this kind of row"


def test_input_that_takes_no_part_makes_a_row_unreadable() -> None:
    row = _set(row_of("D0220"), ("inputs", "register"), 1)
    assert check_row(row).as_json()["why"] == "inputs.register: not an input of this kind of row"


@pytest.mark.parametrize("name", ["clear_block_hex", "cipher_block_hex", "token"])
def test_token_row_that_expects_too_little_is_unreadable(name: str) -> None:
    row = row_of("D0220")
    del row["expected"][name]
    assert check_row(row).why == f"expected.{name}: missing"


def test_hex_digits_are_compared_in_any_case() -> None:
    row = row_of("D0220")
    row["expected"]["clear_block_hex"] = row["expected"]["clear_block_hex"].upper()
    assert check_row(row).result is Result.PASSED


def test_true_and_one_point_nought_are_not_one() -> None:
    for impostor in (True, 1.0):
        row = _set(row_of("P0209"), ("expected", "amount_field"), impostor)
        assert check_row(row).result is Result.DIFFERS


def test_row_that_should_be_refused_and_is_not_differs() -> None:
    row = row_of("X102")
    row["inputs"]["key_type"] = 2
    finding = check_row(row)
    assert (finding.result, finding.field, finding.expected, finding.got) == (Result.DIFFERS, "reject", True, False)
    assert refusal_of(row) is None


def test_reject_row_whose_key_is_no_key_is_unreadable_and_not_passed() -> None:
    row = _set(row_of("X042"), ("inputs", "decoder_key_hex"), "00")
    assert check_row(row).result is Result.UNREADABLE


def test_reject_row_whose_vending_key_is_no_hex_is_refused() -> None:
    row = _set(row_of("X076"), ("inputs", "vending_key_hex"), "abx")
    refusal = refusal_of(row)
    assert refusal is not None and refusal.fault is Fault.FORMAT


def test_sets_of_three_are_not_computed_as_if_they_were_two() -> None:
    row = _set(row_of("P0204"), ("inputs", "new", "three_kct"), 1)
    assert check_row(row).why == "inputs.new.three_kct: sets of three tokens are not made here"


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "a JSON object expected"),
        (b"[]", "a JSON object expected"),
        (b"null", "a JSON object expected"),
        (b"\xff\xfe", "UTF-8 text expected"),
        (b"[" * 90_000, "a JSON object expected"),
        (b"9" * 5_000, "a JSON object expected"),
        (b" " * LINE_BYTES_MAX + b"{}", f"at most {LINE_BYTES_MAX} bytes a line expected"),
        (b'{"id": "a", "id": "b"}', "each name once in a JSON object expected"),
        (b'{"id": NaN}', "NaN and Infinity are no JSON"),
        (b"{}", "id: a text expected"),
        (b'{"id": "a"}', "kind: a text expected"),
        (b'{"id": "a", "kind": "toast"}', "kind: toast is not known"),
        (b'{"id": "a", "kind": "crc"}', "expected: an object expected"),
        (b'{"id": "a", "kind": "crc", "expected": {}}', "expected.crc_hex: missing"),
        (b'{"id": "a", "kind": "crc", "expected": {"crc_hex": ""}}', "inputs: an object expected"),
        (b'{"id": "a", "kind": "crc", "expected": {"crc_hex": ""}, "inputs": {}}', "inputs.bytes7_hex: missing"),
    ],
)  # fmt: skip
def test_line_that_is_no_row_is_unreadable_and_says_why(line: bytes, why: str) -> None:
    finding = check_line(line, 7)
    assert (finding.result, finding.line, finding.why) == (Result.UNREADABLE, 7, why)


def test_blank_lines_are_no_rows_and_count_as_lines() -> None:
    findings = list(check_lines([b"", b" \r", b"{}"]))
    assert [finding.line for finding in findings] == [3]


def test_nothing_tested_is_not_well() -> None:
    assert not Tally().is_well


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise(line: bytes) -> None:
    json.dumps(check_line(line, 1).as_json(), allow_nan=False)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": float("-inf")}])
def test_a_number_that_is_no_json_is_shown_as_text(value: object) -> None:
    row = _set(next(row for row in ROWS if row["id"] == "S002"), ("expected", "tids"), value)
    json.dumps(check_row(row).as_json(), allow_nan=False)


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(ROWS), st.data())
def test_no_row_whatever_raises(row: Row, data: st.DataObject) -> None:
    paths = [("inputs", *path) for path, _ in _inputs(row["inputs"])]
    paths += [("expected", name) for name in row["expected"]]
    path = data.draw(st.sampled_from([*paths, ("sta_tables",), ("kind",), ("inputs",), ("expected",)]))
    json.dumps(check_row(_set(row, path, data.draw(JSON))).as_json(), allow_nan=False)


# --- operational tables -----------------------------------------------------------------------------------------------


def _made_up_row() -> Row:
    """A row for operational tables, computed with the made-up set."""
    inputs = {
        "class": 0,
        "subclass": 0,
        "dkga": 2,
        "ea": 7,
        "vending_key_hex": "abababababababab",
        "key_type": 2,
        "sgc": "123456",
        "ti": "01",
        "krn": 1,
        "ken": 255,
        "base_date": 2014,
        "pan": "600727000000000009",
        "iin": "600727",
        "drn": "00000000000",
        "issued_at": NOW.isoformat(),
        "rnd": 5,
        "amount_tenths": 256,
    }
    handle = MeterKey("00000000000", "600727", "123456", 2, "01", 1, 255, 2014, 7, 2)
    key = VendingKey(2, bytes.fromhex("abababababababab")).derive(handle, MADE_UP)
    token = Credit(Resource.ELECTRICITY, tid_at(NOW, 2014), 5, field_up(256))
    block = block_of(token)[1]
    expected = {
        "clear_block_hex": f"{block:016x}",
        "cipher_block_hex": f"{key.encrypt(block):016x}",
        "token": digits_from(token, key),
    }
    return {"id": "M1", "kind": "token", "sta_tables": "operational", "inputs": inputs, "expected": expected}


def test_operational_row_is_skipped_without_tables_and_says_why() -> None:
    finding = check_row(_made_up_row())
    assert finding.result is Result.SKIPPED
    assert finding.as_json()["why"] == "needs the operational EA07 tables: everything but the enciphering was checked"


def test_operational_row_is_computed_in_full_with_tables() -> None:
    assert check_row(_made_up_row(), MADE_UP).result is Result.PASSED
    assert check_row(_made_up_row(), SAMPLE).field == "cipher_block_hex"


def test_sample_row_is_computed_with_the_sample_tables_whatever_others_are_given() -> None:
    assert check_row(row_of("W001"), MADE_UP).result is Result.PASSED


def test_ea07_row_that_names_no_tables_is_unreadable() -> None:
    assert check_row(_set(row_of("W001"), ("sta_tables",), None)).result is Result.UNREADABLE


def test_operational_block_and_reject_rows_wait_for_the_tables() -> None:
    block = _set(row_of("C045"), ("sta_tables",), "operational")
    assert check_row(block).result is Result.SKIPPED
    key, clear = bytes.fromhex(block["inputs"]["key_hex"]), int(block["inputs"]["plaintext_hex"], 16)
    block["expected"]["ciphertext_hex"] = f"{DecoderKey.from_bytes(7, key, MADE_UP).encrypt(clear):016x}"
    assert check_row(block, MADE_UP).result is Result.PASSED
    reject = _set(row_of("X042"), ("sta_tables",), "operational")
    assert check_row(reject).result is Result.SKIPPED
    assert check_row(reject, MADE_UP).result is Result.PASSED
    reject["inputs"]["token"] = "1" * 19
    assert check_row(reject).result is Result.PASSED


def test_refusal_of_what_is_no_row_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        refusal_of([])


# --- a program that computes wrongly ----------------------------------------------------------------------------------


def test_module_that_makes_another_token_than_the_codec_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SoftwareModule, "make", lambda *_: "0" * 20)
    finding = check_row(row_of("D0220"))
    assert finding.why == "the security module makes another token than the codec"


def test_module_that_reads_another_token_than_the_codec_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SoftwareModule, "verify", lambda *_: None)
    finding = check_row(row_of("D0220"))
    assert finding.why == "the security module reads another token than the codec"


# fmt: off
BROKEN: Final[list[tuple[str, str, object]]] = [
    ("D0220", "sts.selftest.token_from",               lambda *_: None),
    ("D0220", "sts.selftest.token_of",                 lambda *_: None),
    ("D0220", "sts.selftest.bits.split",               lambda _: (0, 0)),
    ("D0220", "sts.selftest.amounts.field_up",         lambda units: units & 0x3FFF),
    ("D0220", "sts.ciphers.DecoderKey.encrypt",        lambda _, block: block ^ 1),
    ("C045",  "sts.ciphers.DecoderKey.decrypt",        lambda _, block: block ^ 1),
    ("C021",  "sts.ciphers.DecoderKey.encrypt",        lambda _, block: block ^ 1),
    ("R115",  "sts.selftest.crc.crc_of",               lambda _: 0),
    ("R115",  "sts.selftest.crc.currency_crc_of_50_bits", lambda _: 0),
    ("L088",  "sts.selftest.MeterNumber.from_pan",     lambda _: None),
    ("T190",  "sts.selftest.tid.next_tid",             lambda *_, **__: 1),
    ("T190",  "sts.selftest.tid.tid_at",               lambda *_, **__: 1),
    ("A150",  "sts.selftest.amounts.units_of",         lambda _: 1),
    ("X042",  "sts.selftest.token_from",               lambda *_: None),
    ("P0209", "sts.selftest.bits.split",               lambda _: (2, 0)),
]
# fmt: on


@pytest.mark.parametrize(("identity", "name", "broken"), BROKEN)
def test_broken_part_is_found(monkeypatch: pytest.MonkeyPatch, identity: str, name: str, broken: object) -> None:
    assert check_row(row_of(identity)).result not in WRONG
    monkeypatch.setattr(name, broken)
    assert check_row(row_of(identity)).result is Result.DIFFERS
