"""A key module in memory: for tests, sandboxes and banks that accept keys in software. Pure; contract of any other.

Key blocks of TR-31 (X9.143) are not read: a bank that sends them needs a module that does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Final

from Crypto.Cipher import AES, DES, DES3
from Crypto.Hash import CMAC

from channels.iso8583.errors import Fault, KeyRefused
from channels.iso8583.keymodule import Generation, KeyStatus, Use, WrappedKey
from channels.iso8583.mac import Algorithm, mac_of, single_if_equal

CIPHERS: Final = ("des", "aes")
_PATH: Final = "key"
_KCV_DIGITS_MIN: Final = 4

# The variants of scheme U: the first byte of the ZMK's second half is changed for each part of the key. In use since
# the first payment modules; two parts and three have different ones.
_VARIANTS: Final = {2: (0xA6, 0x5A), 3: (0x6A, 0xDE, 0x2B)}

# FIPS 74: the weak and semi-weak keys of DES, without parity.
_WEAK: Final = frozenset(
    bytes(octet & 0xFE for octet in bytes.fromhex(key))
    for key in (
        "0101010101010101 FEFEFEFEFEFEFEFE E0E0E0E0F1F1F1F1 1F1F1F1F0E0E0E0E 011F011F010E010E 1F011F010E010E01 "
        "01E001E001F101F1 E001E001F101F101 01FE01FE01FE01FE FE01FE01FE01FE01 1FE01FE00EF10EF1 E01FE01FF10EF10E "
        "1FFE1FFE0EFE0EFE FE1FFE1FFE0EFE0E E0FEE0FEF1FEF1FE FEE0FEE0FEF1FEF1"
    ).split()
)


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A key's bytes with its cipher; shows neither."""

    cipher: str
    raw: bytes

    def __repr__(self) -> str:
        return f"<{self.cipher} key of {len(self.raw)} bytes>"


def checked(cipher: str, raw: bytes) -> Secret:
    """A key of the right length; of DES with odd parity, not weak, and no two neighbouring parts equal."""
    lengths = (8, 16, 24) if cipher == "des" else (16, 24, 32)
    if cipher not in CIPHERS or len(raw) not in lengths:
        raise KeyRefused(Fault.KEY_FORMAT, _PATH, f"{', '.join(map(str, lengths))} bytes expected, got {len(raw)}")
    if cipher == "des":
        if any(octet.bit_count() % 2 == 0 for octet in raw):
            raise KeyRefused(Fault.KEY_PARITY, _PATH, "bytes of odd parity expected")
        parts = [bytes(octet & 0xFE for octet in raw[at : at + 8]) for at in range(0, len(raw), 8)]
        if single_if_equal(raw) != raw:
            raise KeyRefused(Fault.KEY_WEAK, _PATH, "parts that differ expected: these cancel out")
        if any(part in _WEAK for part in parts):
            raise KeyRefused(Fault.KEY_WEAK, _PATH, "a DES key that is not a weak one expected")
    return Secret(cipher, raw)


def combined(cipher: str, components: Sequence[bytes]) -> Secret:
    """A key of two or more components of equal length, each kept by another person: their exclusive or.

    Components may have any parity; a DES key made of them is given odd parity.
    """
    if len(components) < 2 or len({len(component) for component in components}) != 1:
        raise KeyRefused(Fault.KEY_FORMAT, _PATH, "two or more components of equal length expected")
    raw = reduce(_xor, components)
    if cipher == "des":
        raw = bytes((octet & 0xFE) | (not (octet >> 1).bit_count() % 2) for octet in raw)
    return checked(cipher, raw)


def kcv_of(cipher: str, raw: bytes) -> str:
    """The check value: of DES the first 3 bytes of zeros enciphered, of AES the first 5 of the CMAC of 16 zeros."""
    if cipher == "aes":
        return CMAC.new(raw, bytes(16), ciphermod=AES).digest()[:5].hex().upper()
    return _des(raw, bytes(8), decrypt=False)[:3].hex().upper()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def _des(key: bytes, data: bytes, *, decrypt: bool) -> bytes:
    key = single_if_equal(key)
    cipher = DES.new(key, DES.MODE_ECB) if len(key) == 8 else DES3.new(key, DES3.MODE_ECB)
    return cipher.decrypt(data) if decrypt else cipher.encrypt(data)


def unwrapped(zmk: Secret, wrapped: WrappedKey) -> bytes:
    """The bytes of a key under a ZMK, neither its parity nor its check value looked at."""
    try:
        data = bytes.fromhex(wrapped.cryptogram)
    except ValueError:
        data = b""
    if wrapped.scheme not in ("X", "U") or len(data) not in (8, 16, 24, 32) or len(data) * 2 != len(wrapped.cryptogram):
        raise KeyRefused(Fault.KEY_FORMAT, _PATH, "scheme X or U and 16, 32 or 48 hexadecimal digits expected")
    if zmk.cipher == "aes":
        if wrapped.scheme != "X" or len(data) % 16:
            raise KeyRefused(Fault.KEY_FORMAT, _PATH, "scheme X and whole blocks expected under an AES key")
        return AES.new(zmk.raw, AES.MODE_ECB).decrypt(data)
    if wrapped.scheme == "X" or len(data) == 8:
        return _des(zmk.raw, data, decrypt=True)
    if len(zmk.raw) < 16 or len(data) // 8 not in _VARIANTS:
        raise KeyRefused(Fault.KEY_FORMAT, _PATH, "a ZMK and a key of double or triple length expected for scheme U")
    parts = []
    for index, variant in enumerate(_VARIANTS[len(data) // 8]):
        changed = bytearray(zmk.raw)
        changed[8] ^= variant
        parts.append(_des(bytes(changed), data[index * 8 : index * 8 + 8], decrypt=True))
    return b"".join(parts)


def wrapped_under(zmk: Secret, key: Secret) -> WrappedKey:
    """A key as it is sent under a ZMK: scheme X, with its check value. For the side that gives keys out."""
    if zmk.cipher == "aes":
        cryptogram = AES.new(zmk.raw, AES.MODE_ECB).encrypt(key.raw)
    else:
        cryptogram = _des(zmk.raw, key.raw, decrypt=False)
    return WrappedKey("X", cryptogram.hex().upper(), kcv_of(key.cipher, key.raw))


def wrapped_key_of(text: str, kcv_digits: int = 6) -> WrappedKey:
    """A key as fields carry it: X or U (none: X), hexadecimal digits, and so many digits of check value behind."""
    scheme, rest = (text[0], text[1:]) if text[:1] in ("X", "U", "T", "Y", "Z") else ("X", text)
    scheme = {"T": "U", "Y": "X", "Z": "X"}.get(scheme, scheme)
    cryptogram, kcv = (rest[:-kcv_digits], rest[-kcv_digits:]) if kcv_digits else (rest, "")
    if len(cryptogram) not in (16, 32, 48, 64) or not set(rest) <= frozenset("0123456789ABCDEFabcdef"):
        raise KeyRefused(Fault.KEY_FORMAT, _PATH, "16, 32, 48 or 64 hexadecimal digits and a check value expected")
    return WrappedKey(scheme, cryptogram.upper(), kcv.upper())


def fits(cipher: str, raw: bytes, kcv: str) -> bool:
    """Is this the check value of the key, as far as it goes? Four digits at least, all are looked at."""
    if cipher == "aes":
        whole = CMAC.new(raw, bytes(16), ciphermod=AES).digest().hex().upper()
    else:
        whole = _des(raw, bytes(8), decrypt=False).hex().upper()
    return len(kcv) >= _KCV_DIGITS_MIN and whole.startswith(kcv.upper())


class _Keys:
    """The keys of one handle."""

    def __init__(self, use: Use) -> None:
        self.use: Final = use
        self.active: Secret | None = None
        self.pending: Secret | None = None
        self.previous: Secret | None = None
        self.previous_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key brought by hand, or kept from before: handle, use, key."""

    handle: str
    use: Use
    secret: Secret


class SoftwareKeys:
    """Keys in memory."""

    def __init__(self, records: Iterable[KeyRecord]) -> None:
        self._keys: Final[dict[str, _Keys]] = {}
        for record in records:
            keys = self._keys.setdefault(record.handle, _Keys(record.use))
            if keys.active is not None:
                raise KeyRefused(Fault.KEY_FORMAT, f"key {record.handle}", "one key for a handle expected, got two")
            keys.active = record.secret

    def mac(
        self, handle: str, algorithm: Algorithm, padding: int, data: bytes, generation: Generation = Generation.ACTIVE
    ) -> bytes:
        """The whole MAC of these bytes under a key."""
        keys = self._of(handle, Use.ZAK)
        secret = {
            Generation.ACTIVE: keys.active,
            Generation.PENDING: keys.pending,
            Generation.PREVIOUS: keys.previous,
        }[generation]
        if secret is None:
            raise KeyRefused(Fault.KEY_MISSING, f"key {handle}", f"a key that is {generation} expected")
        if (secret.cipher == "aes") != (algorithm is Algorithm.AES_CMAC):
            raise KeyRefused(Fault.KEY_USE, f"key {handle}", f"a key for {algorithm} expected")
        return mac_of(algorithm, secret.raw, data, padding)

    def generations(self, handle: str, now: datetime) -> tuple[Generation, ...]:
        """The keys a message may be authenticated under now, the one in use first."""
        keys = self._of(handle, Use.ZAK)
        found = [Generation.ACTIVE] if keys.active is not None else []
        if keys.pending is not None:
            found.append(Generation.PENDING)
        if keys.previous is not None and keys.previous_until is not None:
            if now < keys.previous_until:
                found.append(Generation.PREVIOUS)
            else:
                keys.previous = keys.previous_until = None
        return tuple(found)

    def install(self, handle: str, use: Use, wrapped: WrappedKey, zmk: str) -> str:
        """Put a key that came under a ZMK beside the one in use."""
        master = self._of(zmk, Use.ZMK).active
        if master is None:
            raise KeyRefused(Fault.KEY_MISSING, f"key {zmk}", "a key that is active expected")
        raw = unwrapped(master, wrapped)
        if not fits(master.cipher, raw, wrapped.kcv):
            # First: under a wrong ZMK the parity is wrong too, but this is the more telling.
            raise KeyRefused(Fault.KEY_CHECK, f"key {handle}", "the check value of this key expected, got another")
        secret = checked(master.cipher, raw)
        keys = self._keys.setdefault(handle, _Keys(use))
        if keys.use is not use:
            raise KeyRefused(Fault.KEY_USE, f"key {handle}", f"a key for {keys.use} expected")
        keys.pending = secret
        return kcv_of(secret.cipher, secret.raw)

    def activate(self, handle: str, now: datetime, grace_s: int) -> None:
        """Put the pending key in use; the one before stays good for so many seconds."""
        keys = self._of(handle, None)
        if keys.pending is None:
            raise KeyRefused(Fault.KEY_MISSING, f"key {handle}", "a key that is pending expected")
        keys.previous, keys.previous_until = keys.active, now + timedelta(seconds=grace_s)
        keys.active, keys.pending = keys.pending, None

    def discard(self, handle: str) -> None:
        """Forget a pending key, if there is one."""
        if handle in self._keys:
            self._keys[handle].pending = None

    def status(self) -> tuple[KeyStatus, ...]:
        """Every key for a health page."""
        return tuple(
            KeyStatus(handle, keys.use, generation, kcv_of(secret.cipher, secret.raw), until)
            for handle, keys in sorted(self._keys.items())
            for generation, secret, until in (
                (Generation.ACTIVE, keys.active, None),
                (Generation.PENDING, keys.pending, None),
                (Generation.PREVIOUS, keys.previous, keys.previous_until),
            )
            if secret is not None
        )

    def _of(self, handle: str, use: Use | None) -> _Keys:
        keys = self._keys.get(handle)
        if keys is None:
            raise KeyRefused(Fault.KEY_MISSING, f"key {handle}", "a key of this name expected")
        if use is not None and keys.use is not use:
            raise KeyRefused(Fault.KEY_USE, f"key {handle}", f"a key for {use} expected")
        return keys
