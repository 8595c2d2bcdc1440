"""The sealed key file: what went in comes out, and any change at all refuses the whole of it."""

import json
from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts.errors import Fault, StsError
from sts.modules import keystore
from sts.modules.keystore import KeyLock, KeystoreError, MasterKey, master_key_from, read_keystore, seal, unseal
from sts.modules.records import VendingKeyRecord
from tests.sts.keys import NOW, raw_key, record

MASTER: Final = MasterKey(bytes(range(32)))
OTHER_MASTER: Final = MasterKey(bytes(range(1, 33)))
RECORDS: Final = [
    record(2),
    record(2, key_revision=2, key_type=1, active_from=NOW, issued_until=NOW + timedelta(days=400)),
    record(4, key_expiry=85, active_from=NOW.astimezone(timezone(timedelta(hours=2)))),
]
NONCES: Final = [bytes([number]) * 12 for number in range(1, 4)]
SEALED: Final = seal(RECORDS, MASTER, NONCES)
# The same keys, as the program wrote them when the format was of version 1.
# fmt: off
SEALED_1: Final = (
    '{"format": "prepaid-gateway sealed vending keys", "version": 1, "note": "own format of prepaid-gateway; not '
    'a KMC key load file", "records": [\n'
    '  {"supply_group": "123456", "key_revision": 1, "key_type": 2, "dkga": 2, "base_date": 2014, "key_expiry": 2'
    '55, "active_from": null, "issued_until": null, "kcv": "bdab77", "nonce": "010101010101010101010101", "sealed'
    '": "683d4e5817e8ebc26f8d43b2dbca90c94fdc9da012d4fd56"},\n'
    '  {"supply_group": "123456", "key_revision": 2, "key_type": 1, "dkga": 2, "base_date": 2014, "key_expiry": 2'
    '55, "active_from": "2026-03-01T12:00:00+00:00", "issued_until": "2027-04-05T12:00:00+00:00", "kcv": "f864bb"'
    ', "nonce": "020202020202020202020202", "sealed": "f06eee49e1d43acc35e02984c86e1dbb45d3d1311ebacf04"},\n'
    '  {"supply_group": "123457", "key_revision": 1, "key_type": 2, "dkga": 4, "base_date": 2014, "key_expiry": 8'
    '5, "active_from": "2026-03-01T12:00:00+00:00", "issued_until": null, "kcv": "212d33", "nonce": "030303030303'
    '030303030303", "sealed": "e9be3c90831a7e122824f27b3029334617ce8461e3867827bd9f7006adbd37ea6bab98ef"}\n'
    ']}\n'
)
# fmt: on


def _facts(one: VendingKeyRecord) -> tuple[object, ...]:
    return one.status, one.key.secret_bytes()


def test_what_was_sealed_comes_out_again() -> None:
    opened = unseal(SEALED, MASTER)
    assert [_facts(one) for one in opened] == [_facts(one) for one in RECORDS]
    assert unseal(seal([], MASTER, []), MASTER) == ()


def test_file_of_version_1_is_still_read_and_version_2_is_written() -> None:
    opened = unseal(SEALED_1, MASTER)
    assert [_facts(one) for one in opened] == [_facts(one) for one in RECORDS]
    assert seal(opened, MASTER, NONCES) == SEALED
    with pytest.raises(KeystoreError):
        unseal(SEALED_1, OTHER_MASTER)


def test_file_without_records_is_proved_too() -> None:
    empty = seal([], MASTER, [])
    with pytest.raises(KeystoreError):
        unseal(empty, OTHER_MASTER)
    # In version 1 nothing proved it, so anyone could have put it there.
    with pytest.raises(KeystoreError) as refusal:
        unseal(keystore._text_of([], KeyLock(), 1) + "}\n", MASTER)
    assert refusal.value.fault is Fault.KEYSTORE


def test_record_of_version_1_is_not_taken_into_a_file_of_version_2() -> None:
    entries = json.loads(SEALED_1)["records"]
    with pytest.raises(KeystoreError) as refusal:
        unseal(keystore._checked_text_of(entries, MASTER), MASTER)
    assert refusal.value.fault is Fault.KEYSTORE


def test_same_records_and_nonces_give_the_same_text() -> None:
    assert seal(RECORDS, MASTER, NONCES) == SEALED


def test_file_shows_no_key_and_says_what_it_is_not() -> None:
    for one in RECORDS:
        assert one.key.secret_bytes().hex() not in SEALED
    assert "not a KMC key load file" in SEALED
    assert json.loads(SEALED)["version"] == 2


@pytest.mark.parametrize("text", [SEALED, SEALED_1], ids=["version 2", "version 1"])
def test_any_bit_altered_anywhere_refuses_the_file(text: str) -> None:
    raw = text.encode()
    for place in range(len(raw)):
        for bit in (0, 3, 5):
            altered = bytearray(raw)
            altered[place] ^= 1 << bit
            with pytest.raises(KeystoreError):
                unseal(altered.decode("latin-1"), MASTER)


@settings(max_examples=50)
@given(st.integers(0, len(SEALED) - 1))
def test_file_cut_anywhere_is_refused(length: int) -> None:
    for part in (SEALED[:length], SEALED[length + 1 :]):
        with pytest.raises(KeystoreError) as refusal:
            unseal(part, MASTER)
        assert refusal.value.fault is Fault.KEYSTORE


def _edited(edit: Callable[[dict[str, Any]], None], check: bool) -> str:
    """The file with its document changed and spelled in the canonical way again, and if wanted with a right check."""
    document = json.loads(SEALED)
    edit(document)
    if check:
        return keystore._checked_text_of(document["records"], MASTER)
    old_end = keystore._end_of(bytes.fromhex(document["check"]))
    return keystore._text_of(document["records"], KeyLock(), 2) + old_end


def _swap(document: dict[str, Any]) -> None:
    document["records"][0], document["records"][1] = document["records"][1], document["records"][0]


def _set(place: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["records"][place].update(changes)


# fmt: off
EDITS: Final[list[tuple[str, Callable[[dict[str, Any]], None]]]] = [
    ("last record dropped",    lambda document: document["records"].pop()),
    ("first record dropped",   lambda document: document["records"].pop(0)),
    ("all records dropped but one", lambda document: document["records"].__delitem__(slice(1, None))),
    ("a record twice",         lambda document: document["records"].append(document["records"][0])),
    ("records exchanged",      _swap),
    ("another supply group",   _set(0, supply_group="654321")),
    ("another revision",       _set(0, key_revision=3)),
    ("another type",           _set(1, key_type=2)),
    ("another algorithm",      _set(0, dkga=4)),
    ("another base date",      _set(0, base_date=2035)),
    ("a longer life",          _set(2, key_expiry=255)),
    ("an earlier start",       _set(1, active_from=None)),
    ("a later end",            _set(1, issued_until="2099-01-01T00:00:00+00:00")),
    ("another check value",    _set(0, kcv="000000")),
    ("a short nonce",          _set(0, nonce="00" * 11)),
    ("no nonce",               _set(0, nonce="")),
    ("a nonce of another kind", _set(0, nonce=5)),
    ("nothing sealed",         _set(0, sealed="")),
    ("only a tag",             _set(0, sealed="00" * 16)),
    ("sealed of another kind", _set(0, sealed=None)),
    ("capital hex digits",     lambda document: _set(0, sealed=document["records"][0]["sealed"].upper())(document)),
]
# fmt: on


@pytest.mark.parametrize("check", [False, True], ids=["old check", "right check"])
@pytest.mark.parametrize("edit", [edit for _, edit in EDITS], ids=[label for label, _ in EDITS])
def test_edited_file_is_refused_as_a_whole(edit: Callable[[dict[str, Any]], None], check: bool) -> None:
    with pytest.raises(KeystoreError) as refusal:
        unseal(_edited(edit, check), MASTER)
    assert refusal.value.fault is Fault.KEYSTORE


# fmt: off
OTHER_TEXTS: Final = [
    ("nothing",               ""),
    ("an array",              "[]"),
    ("deeply nested",         "[" * 100_000),
    ("another format",        SEALED.replace("prepaid-gateway sealed", "other sealed", 1)),
    ("a later version",       SEALED.replace('"version": 2', '"version": 3', 1)),
    ("an earlier version",    SEALED.replace('"version": 2', '"version": 1', 1)),
    ("a version of true",     SEALED.replace('"version": 2', '"version": true', 1)),
    ("a version of 2.0",      SEALED.replace('"version": 2', '"version": 2.0', 1)),
    ("no check",              SEALED[: SEALED.index(', "check"')] + "}\n"),
    ("another check",         SEALED[:-4] + "0" + SEALED[-3:]),
    ("a lock of no kind",     SEALED.replace('{"kind": "key"}', '{"kind": "none"}', 1)),
    ("a lock of another sort", SEALED.replace('{"kind": "key"}', '["kind"]', 1)),
    ("another note",          SEALED.replace("own format", "the format", 1)),
    ("one more member",       SEALED.replace('"version": 2', '"version": 2, "more": 1', 1)),
    ("a member twice",        SEALED.replace('"version": 2', '"version": 2, "version": 2', 1)),
    ("other white space",     SEALED.replace(", ", ",", 1)),
    ("a line end more",       SEALED + "\n"),
    ("a member renamed",      SEALED.replace('"sealed": "', '"SEALED": "', 1)),
    ("records of no objects", '{"format": "prepaid-gateway sealed vending keys", "version": 1, "records": [1]}'),
    ("records no list",       '{"format": "prepaid-gateway sealed vending keys", "version": 1, "records": {}}'),
]
# fmt: on


@pytest.mark.parametrize("text", [text for _, text in OTHER_TEXTS], ids=[label for label, _ in OTHER_TEXTS])
def test_text_that_is_no_key_file_is_refused(text: str) -> None:
    assert text != SEALED
    with pytest.raises(KeystoreError) as refusal:
        unseal(text, MASTER)
    assert refusal.value.fault is Fault.KEYSTORE


@given(st.text())
def test_any_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(KeystoreError):
        unseal(text, MASTER)


def test_another_master_key_opens_nothing() -> None:
    with pytest.raises(KeystoreError) as refusal:
        unseal(SEALED, OTHER_MASTER)
    assert refusal.value.fault is Fault.KEYSTORE


def _sealed_raw(raw: bytes, **changes: Any) -> str:
    """A file whose seal is right and whose content is not: as if made by a faulty program that holds the master key."""
    facts = {**keystore._facts_of(RECORDS[0]), **changes}
    return keystore._checked_text_of([keystore._sealed(facts, raw, MASTER, NONCES[0], 0, 1)], MASTER)


# fmt: off
GOOD_RAW: Final = RECORDS[0].key.secret_bytes()
WRONG_CONTENT: Final = [
    ("even parity",      _sealed_raw(bytes([GOOD_RAW[0] ^ 1]) + GOOD_RAW[1:]), Fault.KEY_PARITY),
    ("7 bytes",          _sealed_raw(GOOD_RAW[:7]),                            Fault.KEY_LENGTH),
    ("20 bytes",         _sealed_raw(raw_key(4, "x")),                         Fault.KEY_LENGTH),
    ("another key",      _sealed_raw(raw_key(2, "x")),                         Fault.KEY_CHECK_VALUE),
    ("check value 0",    _sealed_raw(GOOD_RAW, kcv=0),                         Fault.KEY_CHECK_VALUE),
    ("DKGA03",           _sealed_raw(GOOD_RAW, dkga=3),                        Fault.UNSUPPORTED),
    ("revision 0",       _sealed_raw(GOOD_RAW, key_revision=0),                Fault.OUT_OF_RANGE),
    ("revision as text", _sealed_raw(GOOD_RAW, key_revision="1"),              Fault.KEYSTORE),
    ("group as number",  _sealed_raw(GOOD_RAW, supply_group=123456),           Fault.KEYSTORE),
    ("algorithm a list", _sealed_raw(GOOD_RAW, dkga=[2]),                      Fault.KEYSTORE),
    ("a date of words",  _sealed_raw(GOOD_RAW, active_from="tomorrow"),        Fault.KEYSTORE),
    ("a date a number",  _sealed_raw(GOOD_RAW, active_from=5),                 Fault.KEYSTORE),
    ("a zoneless date",  _sealed_raw(GOOD_RAW, active_from="2026-01-01"),      Fault.FORMAT),
]
# fmt: on


@pytest.mark.parametrize(
    ("text", "fault"), [case[1:] for case in WRONG_CONTENT], ids=[case[0] for case in WRONG_CONTENT]
)
def test_sealed_content_that_is_no_key_is_refused_by_name(text: str, fault: Fault) -> None:
    with pytest.raises(KeystoreError) as refusal:
        unseal(text, MASTER)
    assert refusal.value.fault is fault
    assert GOOD_RAW.hex() not in str(refusal.value)


def test_two_keys_of_one_name_are_refused_both_ways() -> None:
    with pytest.raises(KeystoreError) as refusal:
        seal([record(2), record(2, key_expiry=1)], MASTER, NONCES)
    assert refusal.value.fault is Fault.DUPLICATE
    facts = keystore._facts_of(RECORDS[0])
    twice = [keystore._sealed(facts, GOOD_RAW, MASTER, NONCES[place], place, 2) for place in range(2)]
    with pytest.raises(KeystoreError) as refusal:
        unseal(keystore._checked_text_of(twice, MASTER), MASTER)
    assert refusal.value.fault is Fault.DUPLICATE


@pytest.mark.parametrize("nonces", [[], NONCES[:2], [NONCES[0]] * 3, [b"short", *NONCES[1:]], [bytes(13), *NONCES[1:]]])
def test_nonces_must_be_enough_and_all_different(nonces: list[bytes]) -> None:
    with pytest.raises(KeystoreError) as refusal:
        seal(RECORDS, MASTER, nonces)
    assert refusal.value.fault is Fault.FORMAT


def test_master_key_is_64_hex_digits_with_white_space_around() -> None:
    text = "\n " + bytes(range(32)).hex().upper() + "\n"
    assert master_key_from(text).secret_bytes() == bytes(range(32))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", Fault.KEY_LENGTH),
        ("ab" * 31, Fault.KEY_LENGTH),
        ("ab" * 33, Fault.KEY_LENGTH),
        ("zz" * 32, Fault.FORMAT),
        ("ab " * 21 + "a", Fault.FORMAT),  # bytes.fromhex would take the spaces
        ("١" * 64, Fault.FORMAT),
    ],
)
def test_text_that_is_no_master_key_is_refused_and_not_repeated(text: str, fault: Fault) -> None:
    with pytest.raises(KeystoreError) as refusal:
        master_key_from(text)
    assert refusal.value.fault is fault
    assert text == "" or text not in str(refusal.value)


@given(st.text(max_size=70))
def test_any_text_is_a_master_key_or_refused(text: str) -> None:
    try:
        assert len(master_key_from(text).secret_bytes()) == 32
    except StsError:
        pass


def test_master_key_of_other_length_is_refused() -> None:
    with pytest.raises(KeystoreError):
        MasterKey(bytes(16))


def test_file_is_read_or_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    path.write_text(SEALED, encoding="utf-8")
    assert len(read_keystore(path, MASTER)) == 3
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KeystoreError):
        read_keystore(path, MASTER)
    monkeypatch.setattr(keystore, "FILE_BYTES_MAX", 10)
    path.write_text(SEALED, encoding="utf-8")
    with pytest.raises(KeystoreError):
        read_keystore(path, MASTER)
    with pytest.raises(FileNotFoundError):
        read_keystore(tmp_path / "absent", MASTER)


def test_more_keys_than_anyone_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "KEYS_MAX", 2)
    with pytest.raises(KeystoreError):
        seal(RECORDS, MASTER, NONCES)
    with pytest.raises(KeystoreError):
        unseal(SEALED, MASTER)
