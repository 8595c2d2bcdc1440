"""The sealed transfer file: it opens for its module and its key, in time, unaltered; else nothing of it is taken."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID

import pytest
from Crypto.Cipher import AES
from hypothesis import given, settings
from hypothesis import strategies as st

from sts.errors import StsError
from sts.modules import keyfile
from sts.modules.keyfile import (
    FileFault,
    Header,
    KeyFileRefused,
    TransferFile,
    TransferKey,
    header_of,
    open_file,
    seal_file,
    sealing_key_from,
    sealing_key_of,
)
from sts.modules.keystore import FILE_BYTES_MAX, MasterKey
from tests.sts.keys import NOW, raw_key, record

KEY: Final = MasterKey(bytes(range(32)))
OTHER_KEY: Final = MasterKey(bytes(range(1, 33)))
NONCE: Final = bytes(range(12))
HEADER: Final = Header(
    module="van-3",
    file_id=UUID("01977f00-0000-7000-8000-000000000001"),
    serial=7,
    created_at=NOW,
    expires_at=NOW + timedelta(days=14),
)
KEYS: Final = (
    TransferKey(record(2), token_limit=500, units_limit_tenths=100_000, refresh_by=NOW + timedelta(days=30)),
    TransferKey(record(2, key_revision=2, active_from=NOW, issued_until=NOW + timedelta(days=400))),
    TransferKey(record(4, key_expiry=85, active_from=NOW.astimezone(timezone(timedelta(hours=2)))), token_limit=0),
)
FILE: Final = seal_file(HEADER, KEYS, KEY, NONCE)
SMALL: Final = seal_file(HEADER, KEYS[:1], KEY, NONCE)


def _open(raw: bytes, key: MasterKey = KEY, module: str = "van-3", now: datetime = NOW) -> TransferFile:
    return open_file(raw, key, module=module, now=now)


def _fault(raw: bytes, key: MasterKey = KEY, module: str = "van-3", now: datetime = NOW) -> FileFault:
    with pytest.raises(KeyFileRefused) as refusal:
        _open(raw, key, module, now)
    return refusal.value.kind


def _facts(keys: tuple[TransferKey, ...]) -> list[tuple[object, ...]]:
    return [
        (key.record.status, key.record.key.secret_bytes(), key.refresh_by, key.token_limit, key.units_limit_tenths)
        for key in keys
    ]


def test_what_was_sealed_comes_out_again() -> None:
    opened = _open(FILE)
    assert opened.header == header_of(FILE) == HEADER
    assert _facts(opened.keys) == _facts(KEYS)
    assert opened.file_hash == keyfile.hash_of(FILE)


def test_the_file_shows_no_key_no_supply_group_and_says_what_it_is_not() -> None:
    text = FILE.decode("ascii")
    for key in KEYS:
        assert key.record.key.secret_bytes().hex() not in text and key.record.supply_group not in text
    assert "not a KMC key load file" in text


def test_every_altered_bit_refuses_the_file() -> None:
    for place in range(len(SMALL)):
        for bit in range(8):
            altered = bytearray(SMALL)
            altered[place] ^= 1 << bit
            with pytest.raises(KeyFileRefused):
                _open(bytes(altered))


def test_the_file_cut_anywhere_is_refused() -> None:
    for length in range(len(SMALL)):
        assert _fault(SMALL[:length]) is FileFault.CUT
        assert _fault(SMALL[length + 1 :]) is FileFault.CUT


@settings(max_examples=200)
@given(st.data())
def test_any_change_of_any_length_refuses_the_file(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FILE)))
    end = data.draw(st.integers(start, min(len(FILE), start + 40)))
    altered = FILE[:start] + data.draw(st.binary(max_size=40)) + FILE[end:]
    if altered != FILE:
        with pytest.raises(KeyFileRefused):
            _open(altered)


@given(st.binary())
def test_any_bytes_are_refused_by_name(raw: bytes) -> None:
    assert _fault(raw) is FileFault.CUT


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(sorted(json.loads(FILE))), _json)
def test_any_value_in_the_place_of_any_member_is_refused(member: str, value: Any) -> None:
    document = json.loads(FILE)
    if document[member] == value and type(document[member]) is type(value):
        return
    with pytest.raises(KeyFileRefused):
        _open(json.dumps({**document, member: value}, separators=(", ", ": ")).encode() + b"\n")


def _edited(**changes: Any) -> bytes:
    """The file with members of its outer document changed, spelled in the canonical way."""
    return keyfile._text_of({**json.loads(FILE), **changes})


# fmt: off
EDITS: Final[list[tuple[str, bytes, FileFault]]] = [
    ("another module",        _edited(module="van-4"),                                  FileFault.WRONG_MODULE),
    ("a module's name empty", _edited(module=""),                                       FileFault.CUT),
    ("another file id",       _edited(file_id=str(UUID(int=5))),                        FileFault.ALTERED),
    ("a higher serial",       _edited(serial=8),                                        FileFault.ALTERED),
    ("a serial of true",      _edited(serial=True),                                     FileFault.CUT),
    ("a serial of 0",         _edited(serial=0),                                        FileFault.CUT),
    ("a later end",           _edited(expires_at="2099-01-01T00:00:00+00:00"),          FileFault.ALTERED),
    ("an end before",         _edited(expires_at="1999-01-01T00:00:00+00:00"),          FileFault.CUT),
    ("a time in another zone", _edited(expires_at="2026-03-15T14:00:00+02:00"),         FileFault.CUT),
    ("times without zone",    _edited(created_at="2026-03-01T12:00:00", expires_at="2026-03-15T12:00:00"),
                                                                                        FileFault.CUT),
    ("the first year, east",  _edited(created_at="0001-01-01T00:00:00+14:00"),          FileFault.CUT),
    ("a salt",                _edited(salt="00" * 16),                                  FileFault.ALTERED),
    ("a short salt",          _edited(salt="00"),                                       FileFault.CUT),
    ("another note",          _edited(note="KMC key load file"),                        FileFault.CUT),
    ("a later version",       _edited(version=2),                                       FileFault.VERSION),
    ("a version of true",     _edited(version=True),                                    FileFault.VERSION),
    ("another format",        _edited(format="KMC"),                                    FileFault.CUT),
    ("a short nonce",         _edited(nonce="00" * 11),                                 FileFault.ALTERED),
    ("no nonce",              _edited(nonce=""),                                        FileFault.ALTERED),
    ("a nonce of a number",   _edited(nonce=5),                                         FileFault.CUT),
    ("only a tag",            _edited(sealed="00" * 16),                                FileFault.ALTERED),
    ("nothing sealed",        _edited(sealed=None),                                     FileFault.CUT),
    ("capital hex digits",    _edited(sealed=json.loads(FILE)["sealed"].upper()),       FileFault.ALTERED),
    ("a line end more",       FILE + b"\n",                                             FileFault.CUT),
    ("a blank less",          FILE.replace(b", ", b",", 1),                             FileFault.CUT),
    ("a member twice",        FILE.replace(b'"version": 1', b'"version": 1, "version": 1', 1), FileFault.CUT),
    ("a member more",         FILE.replace(b'"version": 1', b'"version": 1, "more": 1', 1),    FileFault.CUT),
    ("members exchanged",     FILE.replace(b'"serial": 7, ', b"", 1).replace(b'"salt"', b'"serial": 7, "salt"', 1),
                                                                                        FileFault.CUT),
    ("deeply nested",         b"[" * 100_000,                                           FileFault.CUT),
    ("not ASCII",             "é".encode(),                                             FileFault.CUT),
    ("too long",              b" " * (FILE_BYTES_MAX + 1),                      FileFault.CUT),
]
# fmt: on


@pytest.mark.parametrize(("raw", "fault"), [case[1:] for case in EDITS], ids=[case[0] for case in EDITS])
def test_an_edited_file_is_refused_by_name(raw: bytes, fault: FileFault) -> None:
    assert raw != FILE
    assert _fault(raw) is fault


def test_it_opens_for_no_other_module_and_under_no_other_key() -> None:
    assert _fault(FILE, module="van-30") is FileFault.WRONG_MODULE
    assert _fault(FILE, key=OTHER_KEY) is FileFault.ALTERED
    # Not even for who has the key and writes another module's name into the file.
    assert _fault(_edited(module="van-4"), module="van-4") is FileFault.ALTERED


def test_it_opens_from_a_day_before_it_was_made_until_it_expires() -> None:
    tick = timedelta(microseconds=1)
    assert _open(FILE, now=HEADER.expires_at - tick)
    assert _fault(FILE, now=HEADER.expires_at) is FileFault.EXPIRED
    assert _open(FILE, now=HEADER.created_at - keyfile.CLOCK_SKEW)
    assert _fault(FILE, now=HEADER.created_at - keyfile.CLOCK_SKEW - tick) is FileFault.NOT_YET


def _sealed_plain(plain: bytes) -> bytes:
    """A file whose seal is right and whose content is not: as if made by a faulty program that holds the key."""
    head = keyfile._head_of(HEADER)
    cipher = AES.new(KEY.secret_bytes(), AES.MODE_GCM, nonce=NONCE, mac_len=16)
    cipher.update(keyfile._spelled(head).encode())
    ciphertext, tag = cipher.encrypt_and_digest(plain)
    return keyfile._text_of({**head, "nonce": NONCE.hex(), "sealed": (ciphertext + tag).hex()})


def _sealed_facts(**changes: Any) -> bytes:
    return _sealed_plain(json.dumps([{**keyfile._facts_of(KEYS[0]), **changes}]).encode())


GOOD: Final = KEYS[0].record.key.secret_bytes()
# fmt: off
WRONG_CONTENT: Final[list[tuple[str, bytes]]] = [
    ("even parity",         _sealed_facts(key=(bytes([GOOD[0] ^ 1]) + GOOD[1:]).hex())),
    ("7 bytes",             _sealed_facts(key=GOOD[:7].hex())),
    ("20 bytes",            _sealed_facts(key=raw_key(4, "x").hex())),
    ("no bytes",            _sealed_facts(key="")),
    ("no hex",              _sealed_facts(key="xy")),
    ("a key of a number",   _sealed_facts(key=5)),
    ("another key",         _sealed_facts(key=raw_key(2, "x").hex())),
    ("another check value", _sealed_facts(kcv="000000")),
    ("a generation of 3",   _sealed_facts(dkga=3)),
    ("a revision of 0",     _sealed_facts(key_revision=0)),
    ("a revision as text",  _sealed_facts(key_revision="1")),
    ("a date of words",     _sealed_facts(active_from="tomorrow")),
    ("a date of a number",  _sealed_facts(issued_until=5)),
    ("a date without zone", _sealed_facts(refresh_by="2027-01-01")),
    ("a limit below 0",     _sealed_facts(token_limit=-1)),
    ("a limit of true",     _sealed_facts(token_limit=True)),
    ("a limit of 1.5",      _sealed_facts(units_limit_tenths=1.5)),
    ("a limit of 2 ** 60",  _sealed_facts(units_limit_tenths=2**60)),
    ("a member more",       _sealed_facts(more=1)),
    ("two of one name",     _sealed_plain(json.dumps([keyfile._facts_of(KEYS[0])] * 2).encode())),
    ("no keys",             _sealed_plain(b"[]")),
    ("keys of numbers",     _sealed_plain(b"[1]")),
    ("no list",             _sealed_plain(b"{}")),
    ("no JSON",             _sealed_plain(b"\xff")),
]
# fmt: on


@pytest.mark.parametrize("raw", [case[1] for case in WRONG_CONTENT], ids=[case[0] for case in WRONG_CONTENT])
def test_sealed_content_that_is_no_key_is_refused_without_showing_it(raw: bytes) -> None:
    with pytest.raises(KeyFileRefused) as refusal:
        _open(raw)
    assert refusal.value.kind is FileFault.KEY
    error: BaseException | None = refusal.value
    while error is not None:
        assert GOOD.hex() not in f"{error!r} {error}" and GOOD[:7].hex() not in f"{error!r} {error}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# fmt: off
NOT_SEALED: Final[list[tuple[str, Callable[[], bytes]]]] = [
    ("no key",                lambda: seal_file(HEADER, [], KEY, NONCE)),
    ("two keys of one name",  lambda: seal_file(HEADER, [KEYS[0], KEYS[0]], KEY, NONCE)),
    ("a short nonce",         lambda: seal_file(HEADER, KEYS, KEY, NONCE[:11])),
    ("a serial of 0",         lambda: seal_file(replace(HEADER, serial=0), KEYS, KEY, NONCE)),
    ("a module of two words", lambda: seal_file(replace(HEADER, module="van 3"), KEYS, KEY, NONCE)),
    ("an end before",         lambda: seal_file(replace(HEADER, expires_at=NOW), KEYS, KEY, NONCE)),
    ("a time without zone",   lambda: seal_file(replace(HEADER, created_at=datetime(2026, 1, 1)), KEYS, KEY, NONCE)),  # noqa: DTZ001
    ("a limit below 0",       lambda: seal_file(HEADER, [replace(KEYS[0], token_limit=-1)], KEY, NONCE)),
    ("a short salt",          lambda: seal_file(replace(HEADER, salt=b"x"), KEYS, KEY, NONCE)),
]
# fmt: on


@pytest.mark.parametrize("make", [case[1] for case in NOT_SEALED], ids=[case[0] for case in NOT_SEALED])
def test_what_could_not_be_opened_is_not_sealed(make: Callable[[], bytes]) -> None:
    with pytest.raises(KeyFileRefused) as refusal:
        make()
    assert refusal.value.kind is FileFault.CONTENT


def test_a_passphrase_and_the_salt_of_the_file_open_it() -> None:
    salt = bytes(range(16))
    words = "seven words of a song that nobody sings"
    raw = seal_file(replace(HEADER, salt=salt), KEYS, sealing_key_of(words, salt), NONCE)
    assert header_of(raw).salt == salt
    assert len(_open(raw, sealing_key_of(words, salt)).keys) == 3
    assert _fault(raw, sealing_key_of(words + "!", salt)) is FileFault.ALTERED


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "0g" * 32, "secret"])
def test_a_sealing_key_of_another_form_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(KeyFileRefused) as refusal:
        sealing_key_from(text)
    assert refusal.value.kind is FileFault.TRANSFER_KEY and (not text or text not in str(refusal.value))
    with pytest.raises(KeyFileRefused):
        sealing_key_of("too short", bytes(16))


def test_a_refusal_is_one_of_the_package_and_says_its_name() -> None:
    with pytest.raises(StsError, match="^cut: "):
        header_of(b"")


def test_times_come_out_in_utc_whatever_zone_they_went_in() -> None:
    east = timezone(timedelta(hours=3))
    header = replace(HEADER, created_at=NOW.astimezone(east), expires_at=HEADER.expires_at.astimezone(east))
    assert seal_file(header, KEYS, KEY, NONCE) == FILE
    assert header_of(FILE).created_at.tzinfo == UTC
