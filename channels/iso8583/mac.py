"""Message authentication codes: the algorithms, and which bytes of a message they cover. Pure.

X9.9 is ISO/IEC 9797-1 algorithm 1 with DES; X9.19 (the "retail MAC") is algorithm 3: DES with the first half of the key
throughout, and the last block again under the second half and the first. Padding 1 adds zeros up to a whole block,
padding 2 a byte 80 and zeros. AES-CMAC is RFC 4493 and pads by itself.

No key enters here but in the algorithms, which only key modules call.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from Crypto.Cipher import AES, DES, DES3
from Crypto.Hash import CMAC

from channels.iso8583.errors import Fault, KeyRefused, MacError
from channels.iso8583.message import Message
from channels.iso8583.packager import Packager

_BLOCK: Final = 8
_ZEROS: Final = bytes(_BLOCK)


class Algorithm(StrEnum):
    """How a MAC is made."""

    X99 = "x99"
    X919 = "x919"
    TDES_CBC = "tdes-cbc"
    AES_CMAC = "aes-cmac"


KEY_BYTES: Final = {
    Algorithm.X99: (8,),
    Algorithm.X919: (16,),
    Algorithm.TDES_CBC: (16, 24),
    Algorithm.AES_CMAC: (16, 24, 32),
}


def padded(data: bytes, padding: int) -> bytes:
    """Data filled up to whole blocks by ISO/IEC 9797-1 padding method 1 or 2; at least one block."""
    if padding == 2:
        data += b"\x80"
    short = -len(data) % _BLOCK if data else _BLOCK
    return data + bytes(short)


def mac_of(algorithm: Algorithm, key: bytes, data: bytes, padding: int) -> bytes:
    """The whole MAC, 8 bytes, of CMAC 16. Raises KeyRefused for a key of another length."""
    if len(key) not in KEY_BYTES[algorithm]:
        lengths = " or ".join(map(str, KEY_BYTES[algorithm]))
        raise KeyRefused(Fault.KEY_FORMAT, "key", f"{lengths} bytes expected for {algorithm}, got {len(key)}")
    match algorithm:
        case Algorithm.AES_CMAC:
            return CMAC.new(key, data, ciphermod=AES).digest()
        case Algorithm.X99:
            return _cbc(key, padded(data, padding))[-_BLOCK:]
        case Algorithm.X919:
            last = _cbc(key[:8], padded(data, padding))[-_BLOCK:]
            middle = DES.new(key[8:], DES.MODE_ECB).decrypt(last)
            return DES.new(key[:8], DES.MODE_ECB).encrypt(middle)
    return _cbc(key, padded(data, padding))[-_BLOCK:]


def _cbc(key: bytes, data: bytes) -> bytes:
    key = single_if_equal(key)
    if len(key) == _BLOCK:
        return DES.new(key, DES.MODE_CBC, iv=_ZEROS).encrypt(data)
    return DES3.new(key, DES3.MODE_CBC, iv=_ZEROS).encrypt(data)


def single_if_equal(key: bytes) -> bytes:
    """A triple-DES key whose parts cancel out, as the single DES key that does the same; any other as it is.

    The library refuses such keys. Key modules do too when one is installed; published examples have some.
    """
    parts = [key[at : at + 8] for at in range(0, len(key), 8)]
    same = [bytes(octet & 0xFE for octet in part) for part in parts]
    if len(parts) == 2 and same[0] == same[1]:
        return parts[0]
    if len(parts) == 3 and same[0] == same[1]:
        return parts[2]
    if len(parts) == 3 and same[1] == same[2]:
        return parts[0]
    return key


# --- which bytes ------------------------------------------------------------------------------------------------------

AUTO: Final = 0
"""The MAC's field: 64, or 128 as soon as a field above 64 is there (a reversal with its DE90!)."""


@dataclass(frozen=True, slots=True)
class MacRules:
    """What a bank's MAC covers and how it is sent.

    `covers`: empty for every byte from the message type up to the MAC field, as packed, bitmap with the MAC's bit set;
    else numbers of fields whose text is put together, 0 for the message type. `hex_text`: the MAC is made of the
    hexadecimal digits of those bytes. `length` bytes of the MAC count, the rest of the field is filled with `fill`.
    """

    algorithm: Algorithm
    key: str
    padding: int = 1
    field: int = AUTO
    covers: tuple[int, ...] = ()
    hex_text: bool = False
    length: int = 8
    fill: str = "00"
    skip: frozenset[str] = frozenset()

    def is_due(self, mti: str) -> bool:
        """Must messages of this type be authenticated?"""
        return mti not in self.skip

    def field_of(self, message: Message) -> int:
        """The number of the MAC field of a message, whether it is there or not."""
        if self.field != AUTO:
            return self.field
        return 128 if any(number > 64 for number in message.numbers) else 64


Compute = Callable[[bytes], bytes]
"""What a key module does with the covered bytes: the whole MAC under a key."""


def covered(packager: Packager, rules: MacRules, message: Message) -> bytes:
    """The bytes that the MAC of a message covers; its MAC field may have any value."""
    number = rules.field_of(message)
    if rules.covers:
        texts = (
            message.mti if each == 0 else packager.text_of(message, each)
            for each in rules.covers
            if _has(message, each)
        )
        data = "".join(texts).encode(packager.encoding.codec)
    else:
        placed = message if number in message else message.having({number: "00" * rules_bytes(packager, number)})
        if placed.numbers[-1] != number:
            raise MacError(Fault.MAC_MISSING, f"field {number}", "the MAC expected in the last field")
        packed = packager.encode(placed)
        written = packager.fields.codecs[number].write(str(placed[number]))
        data = packed[packager.header : -len(written)]
    return data.hex().upper().encode("ascii") if rules.hex_text else data


def _has(message: Message, number: int) -> bool:
    return number == 0 or number in message


def rules_bytes(packager: Packager, number: int) -> int:
    """Bytes of the MAC field."""
    codec = packager.fields.codecs.get(number)
    if codec is None:
        raise MacError(Fault.MAC_MISSING, f"field {number}", "a field for the MAC expected in the profile")
    return codec.form.length


def _shown(packager: Packager, rules: MacRules, number: int, mac: bytes) -> str:
    """The MAC as its field's value."""
    sent = mac[: rules.length].hex().upper()
    return sent + rules.fill * (rules_bytes(packager, number) - rules.length)


def authenticated(packager: Packager, rules: MacRules, message: Message, compute: Compute) -> Message:
    """The message with its MAC, if messages of its type have one."""
    if not rules.is_due(message.mti):
        return message
    number = rules.field_of(message)
    bare = message.without([64, 128])
    data = covered(packager, rules, bare)
    return bare.having({number: _shown(packager, rules, number, compute(data))})


def check(packager: Packager, rules: MacRules, message: Message, *computes: Compute) -> int:
    """Which of the ways to compute a MAC gives the one of the message: 0 for the first.

    Give the key in use and, in its time of grace, the one before. Raises MacError if the MAC is missing or none's;
    compares in constant time. A message whose type has no MAC is right by the first.
    """
    if not rules.is_due(message.mti):
        return 0
    number = rules.field_of(message)
    came = message.get(number)
    if came is None:
        raise MacError(Fault.MAC_MISSING, f"field {number}", "a MAC expected")
    data = covered(packager, rules, message)
    right = [
        hmac.compare_digest(_shown(packager, rules, number, compute(data)).upper(), came.upper())
        for compute in computes
    ]
    if True not in right:
        raise MacError(Fault.MAC_WRONG, f"field {number}", "another MAC expected")
    return right.index(True)
