"""Vending keys sealed at rest. Pure, except `read_keystore`, which reads a file.

The file is this program's own. It is not a KMC key load file: those come encrypted for one certified module and only
that module can open them. One JSON document, UTF-8, in one canonical spelling:

    {"format": "prepaid-gateway sealed vending keys", "version": 1, "note": ..., "records": [
      {"supply_group": "123456", "key_revision": 1, "key_type": 2, "dkga": 2, "base_date": 2014, "key_expiry": 255,
       "active_from": null or "2026-01-01T00:00:00+00:00", "issued_until": likewise, "kcv": 6 hex digits,
       "nonce": 24 hex digits, "sealed": ciphertext and 16-byte tag in hex}, ...]}

A key is sealed with AES-256-GCM under a master key of 32 bytes. Associated data are all other members of its record,
its place, and the number of records, so that nothing can be changed, dropped, added or moved. Any other spelling of
the same document is refused too: one bit altered anywhere, and the whole file is refused and nothing loaded. An
older file put back in the place of a newer one opens; keep old files as carefully as keys.

The caller draws the nonces, 12 fresh random bytes for each record and sealing: a nonce used twice under one master key
gives keys away.
Source: NIST SP 800-38D (GCM).
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from Crypto.Cipher import AES

from sts.derivation import VendingKey
from sts.errors import Fault, StsError
from sts.modules.records import KEYS_MAX, VendingKeyRecord

FORMAT: Final = "prepaid-gateway sealed vending keys"
VERSION: Final = 1
NOTE: Final = "own format of prepaid-gateway; not a KMC key load file"
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MASTER_KEY_BYTES: Final = 32
FILE_BYTES_MAX: Final = 8 * 1024 * 1024

_MEMBERS: Final = (
    "supply_group",
    "key_revision",
    "key_type",
    "dkga",
    "base_date",
    "key_expiry",
    "active_from",
    "issued_until",
    "kcv",
)


class KeystoreError(StsError):
    """A key file is refused as a whole; nothing of it was loaded."""


class MasterKey:
    """The 32 bytes that seal a key store. Its repr shows none of them, and it cannot be pickled."""

    __slots__ = ("__raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != MASTER_KEY_BYTES:
            raise KeystoreError(Fault.KEY_LENGTH, f"master key: {MASTER_KEY_BYTES} bytes expected, got {len(raw)}")
        self.__raw: Final = bytes(raw)

    def secret_bytes(self) -> bytes:
        """The key itself, for the cipher."""
        return self.__raw

    def __repr__(self) -> str:
        return "<MasterKey, hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master key cannot be pickled or copied")


def master_key_from(text: str) -> MasterKey:
    """The master key written as 64 hex digits, in a file or an environment value; white space around it is dropped.

    Refuses KEY_LENGTH and FORMAT; no message repeats any of the text.
    """
    digits = text.strip()
    if len(digits) != 2 * MASTER_KEY_BYTES:
        raise KeystoreError(Fault.KEY_LENGTH, f"master key: 64 hex digits expected, got {len(digits)} characters")
    if not digits.isascii() or any(character not in "0123456789abcdefABCDEF" for character in digits):
        raise KeystoreError(Fault.FORMAT, "master key: 64 hex digits expected, got other characters")
    return MasterKey(bytes.fromhex(digits))


def seal(records: Sequence[VendingKeyRecord], master_key: MasterKey, nonces: Iterable[bytes]) -> str:
    """The text of a key file with these records, in their order.

    `nonces`: one of 12 bytes for each record, all different, fresh and random; refuses FORMAT if there are too few,
    of another length, or two alike. Refuses DUPLICATE for two keys of the same name.
    """
    _check_names(records)
    supply = iter(nonces)
    used: set[bytes] = set()
    entries = []
    for place, record in enumerate(records):
        nonce = next(supply, b"")
        if len(nonce) != NONCE_BYTES or nonce in used:
            raise KeystoreError(Fault.FORMAT, f"nonces: {NONCE_BYTES} bytes for each record expected, all different")
        used.add(nonce)
        facts = _facts_of(record)
        entries.append(_sealed(facts, record.key.secret_bytes(), master_key, nonce, place, len(records)))
    return _text_of(entries)


def unseal(text: str, master_key: MasterKey) -> tuple[VendingKeyRecord, ...]:
    """The records of a key file, in their order. All of them, or a refusal as KeystoreError.

    KEYSTORE: cut, altered, of another format or version, or sealed under another master key. DUPLICATE: two keys of
    the same name. KEY_LENGTH, KEY_PARITY, KEY_CHECK_VALUE: what was sealed is no such key. Others as the record's
    constructor refuses.
    """
    entries = _entries_of(text)
    records = []
    for place, entry in enumerate(entries):
        facts = {member: entry[member] for member in _MEMBERS}
        raw = _opened(facts, entry, master_key, place, len(entries))
        try:
            records.append(_record_of(facts, raw))
        except StsError as refusal:
            raise KeystoreError(refusal.fault, f"record {place + 1}: {refusal.sentence}") from None
        except (TypeError, ValueError, AttributeError):
            raise KeystoreError(Fault.KEYSTORE, f"record {place + 1}: an attribute of the wrong kind") from None
    _check_names(records)
    return tuple(records)


def read_keystore(path: Path, master_key: MasterKey) -> tuple[VendingKeyRecord, ...]:
    """The records of the key file at this path. Shell: reads the file, waits for the disk.

    Refuses as `unseal`; KEYSTORE also for a file above 8 MiB or not UTF-8. An OSError passes through.
    """
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise KeystoreError(Fault.KEYSTORE, f"key file: at most {FILE_BYTES_MAX} bytes expected")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise KeystoreError(Fault.KEYSTORE, "key file: UTF-8 text expected") from None
    return unseal(text, master_key)


def _facts_of(record: VendingKeyRecord) -> dict[str, Any]:
    status = record.status
    facts: dict[str, Any] = {member: getattr(status, member) for member in _MEMBERS}
    for member in ("active_from", "issued_until"):
        moment: datetime | None = facts[member]
        facts[member] = None if moment is None else moment.astimezone(UTC).isoformat()
    return facts


def _record_of(facts: dict[str, Any], raw: bytes) -> VendingKeyRecord:
    key = VendingKey(facts["dkga"], raw)
    if key.kcv != facts["kcv"]:
        raise StsError(Fault.KEY_CHECK_VALUE, "the stored check value is not this key's")
    moments = [
        None if facts[member] is None else datetime.fromisoformat(facts[member])
        for member in ("active_from", "issued_until")
    ]
    return VendingKeyRecord(
        supply_group=facts["supply_group"],
        key_revision=facts["key_revision"],
        key_type=facts["key_type"],
        base_date=facts["base_date"],
        key_expiry=facts["key_expiry"],
        key=key,
        active_from=moments[0],
        issued_until=moments[1],
    )


def _bound(facts: dict[str, Any], place: int, count: int) -> bytes:
    """The associated data of a record: everything about it that stands in clear."""
    return _spelled([FORMAT, VERSION, place, count, facts]).encode("utf-8")


def _sealed(
    facts: dict[str, Any], raw: bytes, master_key: MasterKey, nonce: bytes, place: int, count: int
) -> dict[str, Any]:
    cipher = AES.new(master_key.secret_bytes(), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(_bound(facts, place, count))
    ciphertext, tag = cipher.encrypt_and_digest(raw)
    return {**facts, "nonce": nonce.hex(), "sealed": (ciphertext + tag).hex()}


def _opened(facts: dict[str, Any], entry: dict[str, Any], master_key: MasterKey, place: int, count: int) -> bytes:
    refusal = KeystoreError(
        Fault.KEYSTORE, f"record {place + 1}: altered, or sealed under another master key; nothing was loaded"
    )
    try:
        nonce, sealed = bytes.fromhex(entry["nonce"]), bytes.fromhex(entry["sealed"])
    except (TypeError, ValueError):
        raise refusal from None
    # Capital hex digits and spaces mean the same bytes; the one spelling of this format is small digits alone.
    if (nonce.hex(), sealed.hex()) != (entry["nonce"], entry["sealed"]):
        raise refusal
    if len(nonce) != NONCE_BYTES or len(sealed) <= TAG_BYTES:
        raise refusal
    cipher = AES.new(master_key.secret_bytes(), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(_bound(facts, place, count))
    try:
        return cipher.decrypt_and_verify(sealed[:-TAG_BYTES], sealed[-TAG_BYTES:])
    except ValueError:
        raise refusal from None


def _entries_of(text: str) -> list[dict[str, Any]]:
    broken = KeystoreError(Fault.KEYSTORE, "key file: cut, altered, or no key file of this program")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise broken
    if document.get("version") != VERSION:
        raise KeystoreError(Fault.KEYSTORE, f"key file: version {VERSION} expected")
    entries = document.get("records")
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise broken
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {*_MEMBERS, "nonce", "sealed"}:
            raise broken
    try:
        spelled_alike = _text_of(entries) == text
    except (ValueError, RecursionError):
        raise broken from None
    # Members of other names, other white space, other spellings of numbers and letters: all end here.
    if not spelled_alike:
        raise broken
    return entries


def _text_of(entries: list[dict[str, Any]]) -> str:
    head = f'{{"format": {_spelled(FORMAT)}, "version": {VERSION}, "note": {_spelled(NOTE)}, "records": ['
    lines = ",\n  ".join(
        _spelled({member: entry[member] for member in (*_MEMBERS, "nonce", "sealed")}) for entry in entries
    )
    return f"{head}\n  {lines}\n]}}\n"


def _spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))


def _check_names(records: Sequence[VendingKeyRecord]) -> None:
    if len(records) > KEYS_MAX:
        raise KeystoreError(Fault.OUT_OF_RANGE, f"at most {KEYS_MAX} vending keys expected, got {len(records)}")
    if len({record.name for record in records}) != len(records):
        raise KeystoreError(
            Fault.DUPLICATE, "two vending keys of the same supply group, revision, type, algorithm and base date"
        )
