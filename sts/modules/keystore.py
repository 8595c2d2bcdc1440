"""Vending keys sealed at rest. Pure, except `read_keystore` and `lock_in`, which read a file.

The file is this program's own. It is not a KMC key load file: those come encrypted for one certified module and only
that module can open them. One JSON document, UTF-8, in one canonical spelling:

    {"format": "prepaid-gateway sealed vending keys", "version": 2, "note": ..., "lock": {...}, "records": [
      {"supply_group": "123456", "key_revision": 1, "key_type": 2, "dkga": 2, "base_date": 2014, "key_expiry": 255,
       "active_from": null or "2026-01-01T00:00:00+00:00", "issued_until": likewise, "kcv": 6 hex digits,
       "nonce": 24 hex digits, "sealed": ciphertext and 16-byte tag in hex}, ...],
     "check": 64 hex digits}

A key is sealed with AES-256-GCM under a master key of 32 bytes. Associated data are the lock, all other members of its
record, its place, and the number of records. `check` is an HMAC-SHA-256 over all that stands before it, under a key
made from the master key, so that nothing can be changed, dropped, added or moved, not even in a file without records.
Any other spelling of the same document is refused too: one bit altered anywhere, and the whole file is refused and
nothing loaded. An older file put back in the place of a newer one opens; keep old files as carefully as keys.
Version 1 had neither lock nor check; it is still read if it has records, never written.

`lock` says where the master key comes from. All hex digits are small ones:

    {"kind": "key"}                               32 bytes kept elsewhere: a file, an environment value
    {"kind": "passphrase", "log2_n": 17, "r": 8, "p": 1, "salt": 32 hex digits}
                                                  scrypt of one passphrase
    {"kind": "custodians", "log2_n": 17, "r": 8, "p": 1, "shares": [
      {"custodian": "amina", "salt": 32 hex digits, "wrapped": 64 hex digits}, ...]}
                                                  dual control: the passphrases of all 2 to 5 custodians, by name

Under dual control the master key is the XOR of one random share for each custodian, and each share is wrapped by XOR
with the scrypt of that custodian's passphrase. A share so wrapped is any 32 bytes: nothing tells a right passphrase
from a wrong one until all are there, so a guesser must guess all of them together, and a wrong one is refused without
saying which. The lock is public, and a stolen file is defended by the cost of a guess alone: with the numbers above
128 MiB and about half a second for each passphrase tried.

The caller draws what is random: a nonce of 12 bytes for each record and sealing (used twice under one master key it
gives keys away), a salt of 16 bytes for each passphrase, a share of 32 bytes for each custodian.
Sources: NIST SP 800-38D (GCM); RFC 7914 (scrypt); RFC 8265 (passphrases: Unicode normal form C).
"""

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from Crypto.Cipher import AES

from sts.derivation import VendingKey
from sts.errors import Fault, StsError
from sts.modules.records import KEYS_MAX, VendingKeyRecord

FORMAT: Final = "prepaid-gateway sealed vending keys"
VERSION: Final = 2
NOTE: Final = "own format of prepaid-gateway; not a KMC key load file"
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MASTER_KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
FILE_BYTES_MAX: Final = 8 * 1024 * 1024
CUSTODIANS_MIN: Final = 2
CUSTODIANS_MAX: Final = 5
PASSPHRASE_LENGTH_MIN: Final = 12
PASSPHRASE_LENGTH_MAX: Final = 1024

_CUSTODIAN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
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


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """What one guess of a passphrase costs: 128 * r * 2^log2_n bytes of memory, p times over.

    Refuses OUT_OF_RANGE outside log2_n 14 to 20, r 8 to 16, p 1 to 4, and above 1 GiB: less is no defence, and more
    would let an altered file exhaust the machine.
    """

    log2_n: int = 17
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if not (14 <= self.log2_n <= 20 and 8 <= self.r <= 16 and 1 <= self.p <= 4 and self.memory_bytes <= 1 << 30):
            raise KeystoreError(
                Fault.OUT_OF_RANGE, "scrypt: log2 n 14 to 20, r 8 to 16, p 1 to 4 and at most 1 GiB expected"
            )

    @property
    def memory_bytes(self) -> int:
        """What one derivation needs."""
        return 128 * self.r << self.log2_n


class Passphrase:
    """What a custodian types. Its repr shows none of it, and it cannot be pickled.

    Line ends at its end are dropped, and it is brought to Unicode normal form C, so that another keyboard gives the
    same. Refuses KEY_LENGTH outside 12 to 1024 characters, FORMAT for line ends inside and others that cannot be typed.
    """

    __slots__ = ("__raw",)

    def __init__(self, text: str) -> None:
        typed = unicodedata.normalize("NFC", text.rstrip("\r\n"))
        if not PASSPHRASE_LENGTH_MIN <= len(typed) <= PASSPHRASE_LENGTH_MAX:
            raise KeystoreError(
                Fault.KEY_LENGTH,
                f"passphrase: {PASSPHRASE_LENGTH_MIN} to {PASSPHRASE_LENGTH_MAX} characters expected, got {len(typed)}",
            )
        if not typed.isprintable():
            raise KeystoreError(Fault.FORMAT, "passphrase: characters that can be typed on one line expected")
        self.__raw: Final = typed.encode("utf-8")

    def derived(self, salt: bytes, cost: ScryptCost) -> bytes:
        """32 bytes by scrypt; takes the time and memory of `cost`."""
        return hashlib.scrypt(
            self.__raw,
            salt=salt,
            n=1 << cost.log2_n,
            r=cost.r,
            p=cost.p,
            # OpenSSL counts its working blocks in; the megabyte is room for them.
            maxmem=cost.memory_bytes + 128 * cost.r * cost.p + (1 << 20),
            dklen=MASTER_KEY_BYTES,
        )

    def same_as(self, other: "Passphrase") -> bool:
        """Is this the same passphrase? Takes the same time either way."""
        return hmac.compare_digest(self.__raw, other.__raw)

    def __repr__(self) -> str:
        return "<Passphrase, hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a passphrase cannot be pickled or copied")


@dataclass(frozen=True, slots=True)
class KeyLock:
    """The master key itself is kept elsewhere: in a file or an environment value."""


@dataclass(frozen=True, slots=True)
class PassphraseLock:
    """The master key is the scrypt of one passphrase. `salt`: 16 bytes, fresh and random; refuses FORMAT."""

    salt: bytes
    cost: ScryptCost = ScryptCost()

    def __post_init__(self) -> None:
        _check_salts([self.salt])

    def open(self, passphrase: Passphrase) -> "MasterKey":
        """The master key of this passphrase; whether it is the right one, `unseal` finds out."""
        return MasterKey(passphrase.derived(self.salt, self.cost), self)


@dataclass(frozen=True, slots=True)
class Share:
    """One custodian's part of a master key, wrapped under that custodian's passphrase: public like the rest."""

    custodian: str
    salt: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class CustodianLock:
    """The master key opens with the passphrases of all custodians and of no fewer. Made by `custodians_key`.

    `shares` in the order of the custodians' names. Refuses FORMAT for other names than small letters, digits, dots,
    dashes and underlines, up to 32, for another order, another number than 2 to 5, and salts that are not as of
    PassphraseLock or two alike; DUPLICATE for a name twice.
    """

    shares: tuple[Share, ...]
    cost: ScryptCost = ScryptCost()

    def __post_init__(self) -> None:
        names = self.custodians
        if not CUSTODIANS_MIN <= len(names) <= CUSTODIANS_MAX:
            raise KeystoreError(
                Fault.FORMAT, f"custodians: {CUSTODIANS_MIN} to {CUSTODIANS_MAX} expected, got {len(names)}"
            )
        if not all(_CUSTODIAN.fullmatch(name) for name in names):
            raise KeystoreError(
                Fault.FORMAT, "name of a custodian: up to 32 small letters, digits, dots, dashes, underlines expected"
            )
        if len(set(names)) != len(names):
            raise KeystoreError(Fault.DUPLICATE, "two custodians of the same name")
        if list(names) != sorted(names):
            raise KeystoreError(Fault.FORMAT, "custodians: in the order of their names expected")
        _check_salts([share.salt for share in self.shares])
        if any(len(share.wrapped) != MASTER_KEY_BYTES for share in self.shares):
            raise KeystoreError(Fault.FORMAT, f"share of a custodian: {MASTER_KEY_BYTES} bytes expected")

    @property
    def custodians(self) -> tuple[str, ...]:
        """Whose passphrases are needed."""
        return tuple(share.custodian for share in self.shares)

    def open(self, passphrases: Mapping[str, Passphrase]) -> "MasterKey":
        """The master key of these passphrases, by custodian, in any order; whether they are right, `unseal` finds out.

        Refuses KEYSTORE if they are not of exactly these custodians.
        """
        if set(passphrases) != set(self.custodians):
            raise KeystoreError(
                Fault.KEYSTORE, f"the passphrases of {', '.join(self.custodians)} expected, no fewer and no others"
            )
        raw = bytes(MASTER_KEY_BYTES)
        for share in self.shares:
            raw = _xor(raw, _xor(share.wrapped, passphrases[share.custodian].derived(share.salt, self.cost)))
        return MasterKey(raw, self)


Lock = KeyLock | PassphraseLock | CustodianLock
"""Where the master key of a key file comes from."""


class MasterKey:
    """The 32 bytes that seal a key store, with the lock they came from. Its repr shows no byte, it is never pickled."""

    __slots__ = ("__raw", "lock")

    def __init__(self, raw: bytes, lock: Lock = KeyLock()) -> None:  # noqa: B008 - it is frozen and empty
        if len(raw) != MASTER_KEY_BYTES:
            raise KeystoreError(Fault.KEY_LENGTH, f"master key: {MASTER_KEY_BYTES} bytes expected, got {len(raw)}")
        self.__raw: Final = bytes(raw)
        self.lock: Final = lock

    def secret_bytes(self) -> bytes:
        """The key itself, for the cipher."""
        return self.__raw

    def __repr__(self) -> str:
        return "<MasterKey, hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master key cannot be pickled or copied")


def custodians_key(
    passphrases: Mapping[str, Passphrase],
    *,
    shares: Sequence[bytes],
    salts: Sequence[bytes],
    cost: ScryptCost = ScryptCost(),  # noqa: B008 - it is frozen
) -> MasterKey:
    """A new master key under dual control: only all these custodians together can open what it seals.

    `passphrases` by custodian, 2 to 5; for each a share of 32 and a salt of 16 bytes, fresh and random. Refuses as
    CustodianLock; FORMAT for shares of another number or length; DUPLICATE for two shares, or two passphrases, alike.
    """
    names = sorted(passphrases)
    if len(shares) != len(names) or any(len(share) != MASTER_KEY_BYTES for share in shares):
        raise KeystoreError(Fault.FORMAT, f"shares: {MASTER_KEY_BYTES} bytes for each custodian expected")
    if len(salts) != len(names):
        raise KeystoreError(Fault.FORMAT, f"salts: {SALT_BYTES} bytes for each custodian expected")
    if len(set(shares)) != len(shares):
        raise KeystoreError(Fault.DUPLICATE, "two shares alike: fresh random bytes expected")
    if any(passphrases[a].same_as(passphrases[b]) for a in names for b in names if a < b):
        raise KeystoreError(Fault.DUPLICATE, "two custodians with the same passphrase: two people must not know one")
    blank = CustodianLock(
        tuple(Share(name, salt, share) for name, salt, share in zip(names, salts, shares, strict=True)), cost
    )
    raw = bytes(MASTER_KEY_BYTES)
    wrapped = []
    for share in blank.shares:
        raw = _xor(raw, share.wrapped)
        pad = passphrases[share.custodian].derived(share.salt, cost)
        wrapped.append(Share(share.custodian, share.salt, _xor(share.wrapped, pad)))
    return MasterKey(raw, CustodianLock(tuple(wrapped), cost))


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
    """The text of a key file with these records, in their order, and with the lock that the master key came from.

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
    return _checked_text_of(entries, master_key)


def unseal(text: str, master_key: MasterKey) -> tuple[VendingKeyRecord, ...]:
    """The records of a key file, in their order. All of them, or a refusal as KeystoreError.

    KEYSTORE: cut, altered, of another format or version, or sealed under another master key; a wrong passphrase is
    not told from an altered file, nor one custodian's from another's. DUPLICATE: two keys of
    the same name. KEY_LENGTH, KEY_PARITY, KEY_CHECK_VALUE: what was sealed is no such key. Others as the record's
    constructor refuses.
    """
    file = _file_of(text)
    if file.check is None and not file.entries:
        raise KeystoreError(Fault.KEYSTORE, "key file: of version 1 and without records, which proves nothing")
    if file.lock != master_key.lock or (
        file.check is not None and not hmac.compare_digest(file.check, _check_of(file.body, master_key))
    ):
        raise KeystoreError(
            Fault.KEYSTORE, "key file: altered, or sealed under another master key or passphrase; nothing was loaded"
        )
    records = []
    for place, entry in enumerate(file.entries):
        facts = {member: entry[member] for member in _MEMBERS}
        raw = _opened(facts, entry, master_key, place, len(file.entries), file.version)
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
    return unseal(_text_in(path), master_key)


def lock_of(text: str) -> Lock:
    """What opens this key file: so that the right question is asked before `unseal`.

    Refuses KEYSTORE. Of what it says nothing is proved before `unseal`; costs beyond all measure are refused here.
    """
    return _file_of(text).lock


def lock_in(path: Path) -> Lock:
    """What opens the key file at this path. Shell: reads the file; refuses as `read_keystore` and `lock_of`."""
    return lock_of(_text_in(path))


def _text_in(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise KeystoreError(Fault.KEYSTORE, f"key file: at most {FILE_BYTES_MAX} bytes expected")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise KeystoreError(Fault.KEYSTORE, "key file: UTF-8 text expected") from None


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


def _bound(facts: dict[str, Any], place: int, count: int, lock: Lock, version: int) -> bytes:
    """The associated data of a record: everything about it that stands in clear."""
    where: list[object] = [FORMAT, version, place, count]
    if version > 1:
        where.append(_spelled_lock(lock))
    return _spelled([*where, facts]).encode("utf-8")


def _sealed(
    facts: dict[str, Any], raw: bytes, master_key: MasterKey, nonce: bytes, place: int, count: int
) -> dict[str, Any]:
    cipher = AES.new(master_key.secret_bytes(), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(_bound(facts, place, count, master_key.lock, VERSION))
    ciphertext, tag = cipher.encrypt_and_digest(raw)
    return {**facts, "nonce": nonce.hex(), "sealed": (ciphertext + tag).hex()}


def _opened(
    facts: dict[str, Any], entry: dict[str, Any], master_key: MasterKey, place: int, count: int, version: int
) -> bytes:
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
    cipher.update(_bound(facts, place, count, master_key.lock, version))
    try:
        return cipher.decrypt_and_verify(sealed[:-TAG_BYTES], sealed[-TAG_BYTES:])
    except ValueError:
        raise refusal from None


@dataclass(frozen=True, slots=True)
class _File:
    """A key file taken apart, nothing proved yet. `body` is all before the check; version 1 has no check."""

    version: int
    lock: Lock
    entries: list[dict[str, Any]]
    body: str
    check: bytes | None


def _file_of(text: str) -> _File:
    broken = KeystoreError(Fault.KEYSTORE, "key file: cut, altered, or no key file of this program")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise broken
    version = document.get("version")
    if type(version) is not int or version not in (1, VERSION):
        raise KeystoreError(Fault.KEYSTORE, f"key file: version {VERSION} or 1 expected")
    entries = document.get("records")
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise broken
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {*_MEMBERS, "nonce", "sealed"}:
            raise broken
    try:
        lock = KeyLock() if version == 1 else _lock_from(document.get("lock"))
        check = None if version == 1 else _bytes_from(document.get("check"))
        body = _text_of(entries, lock, version)
        spelled = body + _END_1 if check is None else body + _end_of(check)
    # Whatever kind of thing stands where another is expected, it is no key file.
    except (KeystoreError, ValueError, TypeError, KeyError, RecursionError):
        raise broken from None
    # Members of other names, other white space, other spellings of numbers and letters: all end here.
    if spelled != text:
        raise broken
    return _File(version, lock, entries, body, check)


def _lock_from(member: Any) -> Lock:
    """The lock of a document; whatever is wrong raises, and what is too much is found by the spelling."""
    if member["kind"] == "key":
        return KeyLock()
    numbers = [member[name] for name in ("log2_n", "r", "p")]
    if any(type(number) is not int for number in numbers):
        raise TypeError
    cost = ScryptCost(*numbers)
    if member["kind"] == "passphrase":
        return PassphraseLock(_bytes_from(member["salt"]), cost)
    if member["kind"] != "custodians":
        raise ValueError
    shares = [
        Share(one["custodian"], _bytes_from(one["salt"]), _bytes_from(one["wrapped"])) for one in member["shares"]
    ]
    return CustodianLock(tuple(shares), cost)


def _spelled_lock(lock: Lock) -> dict[str, object]:
    if isinstance(lock, KeyLock):
        return {"kind": "key"}
    cost: dict[str, object] = {"log2_n": lock.cost.log2_n, "r": lock.cost.r, "p": lock.cost.p}
    if isinstance(lock, PassphraseLock):
        return {"kind": "passphrase", **cost, "salt": lock.salt.hex()}
    shares = [{"custodian": one.custodian, "salt": one.salt.hex(), "wrapped": one.wrapped.hex()} for one in lock.shares]
    return {"kind": "custodians", **cost, "shares": shares}


def _bytes_from(member: Any) -> bytes:
    return bytes.fromhex(member)


_END_1: Final = "}\n"


def _end_of(check: bytes) -> str:
    return f', "check": "{check.hex()}"}}\n'


def _checked_text_of(entries: list[dict[str, Any]], master_key: MasterKey) -> str:
    body = _text_of(entries, master_key.lock, VERSION)
    return body + _end_of(_check_of(body, master_key))


def _check_of(body: str, master_key: MasterKey) -> bytes:
    # A key of its own for the check, so that the master key serves one cipher only.
    check_key = hmac.digest(master_key.secret_bytes(), f"{FORMAT}, check".encode(), "sha256")
    return hmac.digest(check_key, body.encode("utf-8"), "sha256")


def _text_of(entries: list[dict[str, Any]], lock: Lock, version: int) -> str:
    """A key file without its end: all that the check goes over."""
    head = f'{{"format": {_spelled(FORMAT)}, "version": {version}, "note": {_spelled(NOTE)}, '
    if version > 1:
        head += f'"lock": {_spelled(_spelled_lock(lock))}, '
    lines = ",\n  ".join(
        _spelled({member: entry[member] for member in (*_MEMBERS, "nonce", "sealed")}) for entry in entries
    )
    return f'{head}"records": [\n  {lines}\n]'


def _spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _check_salts(salts: Sequence[bytes]) -> None:
    if any(len(salt) != SALT_BYTES for salt in salts) or len(set(salts)) != len(salts):
        raise KeystoreError(Fault.FORMAT, f"salts: {SALT_BYTES} bytes for each passphrase expected, all different")


def _check_names(records: Sequence[VendingKeyRecord]) -> None:
    if len(records) > KEYS_MAX:
        raise KeystoreError(Fault.OUT_OF_RANGE, f"at most {KEYS_MAX} vending keys expected, got {len(records)}")
    if len({record.name for record in records}) != len(records):
        raise KeystoreError(
            Fault.DUPLICATE, "two vending keys of the same supply group, revision, type, algorithm and base date"
        )
