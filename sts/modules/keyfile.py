"""Sealed transfer files: vending keys on their way into exactly one module. Pure: bytes in, records or a refusal out.

The file is this program's own. It is not a KMC key load file, cannot be read by a certified module, and no key
management centre makes it. One JSON document, ASCII, in one canonical spelling:

    {"format": "prepaid-gateway sealed transfer of vending keys", "version": 1, "note": ..., "module": "van-3",
     "file_id": a UUID, "serial": 7, "created_at": "2026-06-05T08:15:00+00:00", "expires_at": likewise,
     "salt": null or 32 hex digits, "nonce": 24 hex digits, "sealed": ciphertext and 16-byte tag in hex}

What is sealed, with AES-256-GCM, is another JSON document: for each key its attributes, check value (KCV), limits and
the key itself. Associated data are all members of the outer document but nonce and sealed, so a file opens for the
module it names, or not at all. One tag covers everything: no key can be dropped, added or exchanged.

The sealing key is 32 bytes that only the custodian of that module holds, or comes from a passphrase and the salt, as a
key store's master key does.
The caller draws nonce and salt afresh for each file. That a file is not loaded twice, nor an older one after a newer
one, is for the caller to see: by `file_id` and `serial`.
Source: NIST SP 800-38D (GCM).
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from Crypto.Cipher import AES

from sts.derivation import VendingKey
from sts.errors import Fault, StsError
from sts.modules.keystore import (
    FILE_BYTES_MAX,
    NONCE_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    MasterKey,
    Passphrase,
    PassphraseLock,
    master_key_from,
)
from sts.modules.records import KEYS_MAX, VendingKeyRecord

FORMAT: Final = "prepaid-gateway sealed transfer of vending keys"
VERSION: Final = 1
NOTE: Final = "own format of prepaid-gateway; not a KMC key load file"
SERIAL_MAX: Final = 2**31 - 1
LIMIT_MAX: Final = 2**53
CLOCK_SKEW: Final = timedelta(hours=24)
"""How far the clocks of two machines may be apart; a file made later than that is refused."""

_MODULE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_HEAD: Final = ("format", "version", "note", "module", "file_id", "serial", "created_at", "expires_at", "salt")
_RECORD: Final = (
    "supply_group",
    "key_revision",
    "key_type",
    "dkga",
    "base_date",
    "key_expiry",
    "active_from",
    "issued_until",
    "refresh_by",
    "token_limit",
    "units_limit_tenths",
    "kcv",
    "key",
)


class FileFault(StrEnum):
    """Why a transfer file is refused; the value is stable and may be stored."""

    # fmt: off
    CUT          = "cut"           # no transfer file of this program: cut, altered, or something else
    VERSION      = "version"       # of a later program
    WRONG_MODULE = "wrong_module"  # made for another module
    ALTERED      = "altered"       # altered, or sealed under another key
    EXPIRED      = "expired"       # loaded too late
    NOT_YET      = "not_yet"       # made in the future: a clock is wrong
    KEY          = "key"           # what was sealed is no vending key: length, parity, check value, or twice the same
    TRANSFER_KEY = "transfer_key"  # the sealing key or passphrase has not the form expected
    CONTENT      = "content"       # what is to be sealed cannot be: no key, too many, a time without zone
    # fmt: on


class KeyFileRefused(StsError):
    """A transfer file is refused as a whole; nothing of it was taken. `kind` is the name."""

    def __init__(self, kind: FileFault, sentence: str) -> None:
        super().__init__(Fault.KEYSTORE, sentence)
        self.kind: Final = kind

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself in the clear. Believe it only once the file was opened."""

    module: str
    file_id: UUID
    serial: int
    created_at: datetime
    expires_at: datetime
    salt: bytes | None = None
    """Given when the sealing key comes from a passphrase."""


@dataclass(frozen=True, slots=True)
class TransferKey:
    """A vending key with what a module is allowed to do with it. None: no such end or limit."""

    record: VendingKeyRecord
    refresh_by: datetime | None = None
    token_limit: int | None = None
    units_limit_tenths: int | None = None


@dataclass(frozen=True, slots=True)
class TransferFile:
    """An opened file: all of it is genuine, and was meant for the module that asked."""

    header: Header
    keys: tuple[TransferKey, ...]
    file_hash: str
    """SHA-256 of the file, 64 hex digits."""


def sealing_key_from(text: str) -> MasterKey:
    """The sealing key written as 64 hex digits; refuses TRANSFER_KEY, repeating nothing of the text."""
    try:
        return master_key_from(text)
    except StsError:
        raise KeyFileRefused(FileFault.TRANSFER_KEY, "transfer key: 64 hex digits expected") from None


def sealing_key_of(passphrase: str, salt: bytes) -> MasterKey:
    """The sealing key that belongs to a passphrase and a file's salt; takes half a second and 128 MiB, on purpose.

    The cost is that of `PassphraseLock` and no part of the file. Refuses TRANSFER_KEY.
    """
    try:
        return PassphraseLock(salt).open(Passphrase(passphrase))
    except StsError as refusal:
        raise KeyFileRefused(FileFault.TRANSFER_KEY, refusal.sentence) from None


def hash_of(raw: bytes) -> str:
    """SHA-256 of a file, as the books and the audit log name it."""
    return hashlib.sha256(raw).hexdigest()


def seal_file(header: Header, keys: Sequence[TransferKey], sealing_key: MasterKey, nonce: bytes) -> bytes:
    """The file with these keys, in their order. `nonce`: 12 fresh random bytes, never used before with this key.

    Refuses CONTENT for what `open_file` would not take.
    """
    if len(nonce) != NONCE_BYTES:
        raise KeyFileRefused(FileFault.CONTENT, f"nonce: {NONCE_BYTES} bytes expected")
    if len({key.record.name for key in keys}) != len(keys) or not 1 <= len(keys) <= KEYS_MAX:
        raise KeyFileRefused(FileFault.CONTENT, f"1 to {KEYS_MAX} keys expected, no two of one name")
    for moment in (
        header.created_at,
        header.expires_at,
        *(moment for key in keys for moment in (key.refresh_by,) if moment is not None),
    ):
        if moment.utcoffset() is None:
            raise KeyFileRefused(FileFault.CONTENT, "times with a zone expected")
    if not all(_is_limit(limit) for key in keys for limit in (key.token_limit, key.units_limit_tenths)):
        raise KeyFileRefused(FileFault.CONTENT, f"limits from 0 to {LIMIT_MAX} expected")
    head = _head_of(header)
    if _header_of(head) is None:
        raise KeyFileRefused(
            FileFault.CONTENT, "a module's name, a serial number from 1, and an end after the beginning expected"
        )
    plain = _spelled([_facts_of(key) for key in keys]).encode("ascii")
    cipher = AES.new(sealing_key.secret_bytes(), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(_spelled(head).encode("ascii"))
    ciphertext, tag = cipher.encrypt_and_digest(plain)
    raw = _text_of({**head, "nonce": nonce.hex(), "sealed": (ciphertext + tag).hex()})
    if len(raw) > FILE_BYTES_MAX:
        raise KeyFileRefused(FileFault.CONTENT, f"at most {FILE_BYTES_MAX} bytes expected")
    return raw


def header_of(raw: bytes) -> Header:
    """What a file says of itself, before it is opened; refuses CUT and VERSION."""
    return _parsed(raw)[0]


def open_file(raw: bytes, sealing_key: MasterKey, *, module: str, now: datetime) -> TransferFile:
    """All keys of a file made for this module, or one refusal.

    Checked in this order: CUT, VERSION, WRONG_MODULE, ALTERED, NOT_YET, EXPIRED, KEY.
    """
    header, document = _parsed(raw)
    if header.module != module:
        raise KeyFileRefused(FileFault.WRONG_MODULE, f"made for module {header.module}, and this is {module}")
    plain = _opened(document, sealing_key)
    if header.created_at > now + CLOCK_SKEW:
        raise KeyFileRefused(
            FileFault.NOT_YET, f"made at {_minute(header.created_at)}, which is in the future: is a clock wrong?"
        )
    if now >= header.expires_at:
        raise KeyFileRefused(FileFault.EXPIRED, f"to be loaded before {_minute(header.expires_at)}")
    keys = tuple(_key_of(place, facts) for place, facts in enumerate(_entries_of(plain), start=1))
    if len({key.record.name for key in keys}) != len(keys):
        raise KeyFileRefused(FileFault.KEY, "two keys of one name")
    return TransferFile(header, keys, hash_of(raw))


def _parsed(raw: bytes) -> tuple[Header, dict[str, Any]]:
    broken = KeyFileRefused(FileFault.CUT, "cut, altered, or no transfer file of this program")
    if len(raw) > FILE_BYTES_MAX:
        raise KeyFileRefused(FileFault.CUT, f"at most {FILE_BYTES_MAX} bytes expected")
    try:
        document = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise broken
    if document.get("version") != VERSION or isinstance(document.get("version"), bool):
        raise KeyFileRefused(FileFault.VERSION, f"version {VERSION} expected")
    if set(document) != {*_HEAD, "nonce", "sealed"} or document["note"] != NOTE:
        raise broken
    header = _header_of(document)
    if not (isinstance(document["nonce"], str) and isinstance(document["sealed"], str)):
        raise broken
    # Any other spelling of the same document ends here: white space, escapes, capitals, members in another order.
    if header is None or _text_of({**_head_of(header), **{m: document[m] for m in ("nonce", "sealed")}}) != raw:
        raise broken
    return header, document


def _head_of(header: Header) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "note": NOTE,
        "module": header.module,
        "file_id": str(header.file_id),
        "serial": header.serial,
        "created_at": _spelled_moment(header.created_at),
        "expires_at": _spelled_moment(header.expires_at),
        "salt": None if header.salt is None else header.salt.hex(),
    }


def _header_of(head: dict[str, Any]) -> Header | None:
    """The header, or None if a member is not of its kind or beyond its limits."""
    try:
        header = Header(
            module=head["module"],
            file_id=UUID(head["file_id"]),
            serial=head["serial"],
            created_at=datetime.fromisoformat(head["created_at"]),
            expires_at=datetime.fromisoformat(head["expires_at"]),
            salt=None if head["salt"] is None else bytes.fromhex(head["salt"]),
        )
        is_well = (
            _MODULE.fullmatch(header.module) is not None
            and type(header.serial) is int
            and 1 <= header.serial <= SERIAL_MAX
            and all(m.utcoffset() == timedelta() for m in (header.created_at, header.expires_at))
            and header.created_at < header.expires_at
            and (header.salt is None or len(header.salt) == SALT_BYTES)
        )
    except (TypeError, ValueError, AttributeError):  # no text where one belongs, no date, a date without a zone
        return None
    return header if is_well else None


def _opened(document: dict[str, Any], sealing_key: MasterKey) -> bytes:
    refusal = KeyFileRefused(FileFault.ALTERED, "altered, or sealed under another key; nothing was taken")
    try:
        nonce, sealed = bytes.fromhex(document["nonce"]), bytes.fromhex(document["sealed"])
    except (TypeError, ValueError):
        raise refusal from None
    # Capital hex digits and spaces mean the same bytes; the one spelling of this format is small digits alone.
    if (nonce.hex(), sealed.hex()) != (document["nonce"], document["sealed"]):
        raise refusal
    if len(nonce) != NONCE_BYTES or len(sealed) <= TAG_BYTES:
        raise refusal
    cipher = AES.new(sealing_key.secret_bytes(), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(_spelled({member: document[member] for member in _HEAD}).encode("ascii"))
    try:
        return cipher.decrypt_and_verify(sealed[:-TAG_BYTES], sealed[-TAG_BYTES:])
    except ValueError:
        raise refusal from None


def _entries_of(plain: bytes) -> list[dict[str, Any]]:
    """The records of a genuine file. They can only be wrong if the program that sealed them was."""
    broken = KeyFileRefused(FileFault.KEY, "what was sealed is no list of keys")
    try:
        entries = json.loads(plain.decode("ascii"))
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(entries, list) or not 1 <= len(entries) <= KEYS_MAX:
        raise broken
    if not all(isinstance(entry, dict) and set(entry) == set(_RECORD) for entry in entries):
        raise broken
    return entries


def _facts_of(key: TransferKey) -> dict[str, Any]:
    status = key.record.status
    facts: dict[str, Any] = {member: getattr(status, member) for member in _RECORD if hasattr(status, member)}
    for member in ("active_from", "issued_until"):
        facts[member] = _spelled_moment(facts[member])
    return facts | {
        "refresh_by": _spelled_moment(key.refresh_by),
        "token_limit": key.token_limit,
        "units_limit_tenths": key.units_limit_tenths,
        "key": key.record.key.secret_bytes().hex(),
    }


def _key_of(place: int, facts: dict[str, Any]) -> TransferKey:
    wrong_kind = KeyFileRefused(FileFault.KEY, f"key {place}: an attribute of the wrong kind")
    try:
        vending_key = VendingKey(facts["dkga"], bytes.fromhex(facts["key"]))
        if vending_key.kcv != facts["kcv"]:
            raise KeyFileRefused(FileFault.KEY, f"key {place}: the check value is not this key's")
        record = VendingKeyRecord(
            **{
                member: facts[member]
                for member in ("supply_group", "key_revision", "key_type", "base_date", "key_expiry")
            },
            key=vending_key,
            active_from=_moment_of(facts["active_from"]),
            issued_until=_moment_of(facts["issued_until"]),
        )
        refresh_by = _moment_of(facts["refresh_by"])
    except KeyFileRefused:
        raise
    except StsError as refusal:
        raise KeyFileRefused(FileFault.KEY, f"key {place}: {refusal.sentence}") from None
    except (TypeError, ValueError, AttributeError):
        raise wrong_kind from None
    if not (_is_limit(facts["token_limit"]) and _is_limit(facts["units_limit_tenths"])):
        raise wrong_kind
    if refresh_by is not None and refresh_by.utcoffset() is None:
        raise wrong_kind
    return TransferKey(record, refresh_by, facts["token_limit"], facts["units_limit_tenths"])


def _is_limit(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value <= LIMIT_MAX)


def _spelled_moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _moment_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text_of(document: dict[str, Any]) -> bytes:
    return (_spelled({member: document[member] for member in (*_HEAD, "nonce", "sealed")}) + "\n").encode("ascii")


def _spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
