"""Decoder keys from vending keys: DKGA02 (DES) and DKGA04 (HMAC-SHA-256). Pure.

DKGA01 is not published in full and DKGA03 was withdrawn by edition 3: both are refused as UNSUPPORTED.
Source: IEC 62055-41 (decoder key generation algorithms); NIST SP 800-108 (feedback mode) for DKGA04; checked with the
published values of STS 531-1-0-02 and STS 531-1-0-04.
"""

import hmac
from typing import Final, NoReturn

from Crypto.Cipher import DES

from sts.ciphers import DecoderKey
from sts.errors import Fault, KeyRefused
from sts.meterkey import MeterKey
from sts.numbers import key_generation_of
from sts.tables import SAMPLE, TableSet

KEY_BYTES: Final = {2: 8, 4: 20}
"""Length of a vending key for each algorithm."""

_EVEN_PARITY: Final = frozenset(byte for byte in range(256) if byte.bit_count() % 2 == 0)


class VendingKey:
    """A vending key ready to derive decoder keys. Its repr shows no bit of it, and it cannot be pickled.

    8 bytes of odd parity for DKGA02, 20 bytes for DKGA04; refuses KEY_LENGTH, KEY_PARITY and UNSUPPORTED. Parity is
    checked because DKGA02 XORs the key bytes as they are into its result, and no open source says what a module does
    with a key of wrong parity.
    """

    __slots__ = ("__des", "__raw", "dkga", "kcv")

    def __init__(self, dkga: int, raw: bytes) -> None:
        key_generation_of(dkga)
        if len(raw) != KEY_BYTES[dkga]:
            raise KeyRefused(
                Fault.KEY_LENGTH, f"vending key for DKGA{dkga:02d}: {KEY_BYTES[dkga]} bytes expected, got {len(raw)}"
            )
        if dkga == 2 and not _EVEN_PARITY.isdisjoint(raw):
            raise KeyRefused(Fault.KEY_PARITY, "vending key for DKGA02: odd parity expected in every byte")
        self.dkga: Final = dkga
        self.__raw: Final = bytes(raw)
        # One cipher object serves all derivations: ECB keeps no state between blocks, and making one costs more than
        # using it.
        self.__des: Final = DES.new(self.__raw, DES.MODE_ECB) if dkga == 2 else None
        self.kcv: Final = self._check_value().hex()
        """Key check value, 6 hex digits: enough to tell keys apart, too little to search for one."""

    def _check_value(self) -> bytes:
        # For DES keys the usual one: the first 3 bytes of an enciphered zero block. For 20-byte keys the first 3 bytes
        # of HMAC-SHA-256 over eight zero bytes, our own choice; no derivation message begins with a zero byte.
        if self.__des is not None:
            return self.__des.encrypt(bytes(8))[:3]
        return hmac.digest(self.__raw, bytes(8), "sha256")[:3]

    def derive(self, key: MeterKey, tables: TableSet = SAMPLE) -> DecoderKey:
        """The decoder key that this handle names; `tables` are for EA07.

        Refuses KEY_MISMATCH for a handle of the other algorithm, KEY_TYPE for type 0, which no vending key makes, and
        UNSETTLED for type 3 with DKGA04, whose PAN no open source confirms.
        """
        if key.dkga != self.dkga:
            raise KeyRefused(Fault.KEY_MISMATCH, f"a key for DKGA{self.dkga:02d} cannot serve DKGA{key.dkga:02d}")
        if key.key_type == 0:
            raise KeyRefused(Fault.KEY_TYPE, "key type 0: an initialisation key comes from the manufacturer")
        if self.__des is None:
            if key.key_type == 3:
                raise KeyRefused(Fault.UNSETTLED, "key type 3 with DKGA04: no open source confirms its PAN")
            mac = hmac.digest(self.__raw, dkga04_message(key), "sha256")
            return DecoderKey(key.ea, int.from_bytes(mac[:8] if key.ea == 7 else mac[:16], "big"), tables)
        x = dkga02_block(key).to_bytes(8, "big")
        enciphered = self.__des.encrypt(x)
        return DecoderKey(
            7, int.from_bytes(enciphered, "big") ^ int.from_bytes(x, "big") ^ int.from_bytes(self.__raw, "big"), tables
        )

    def secret_bytes(self) -> bytes:
        """The key itself. For sealing it into a key store; for nothing else."""
        return self.__raw

    def __repr__(self) -> str:
        return f"<VendingKey DKGA{self.dkga:02d}, check value {self.kcv}, hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vending key cannot be pickled or copied")


def dkga02_block(key: MeterKey) -> int:
    """The 64-bit block X of DKGA02: PAN block XOR control block, decimal digits as hexadecimal ones.

    The PAN block is as many last digits of the issuer number as fit before the meter number: 5 before 11 digits, 3
    before 13. A common key (type 3) has zeros for the meter number.
    """
    drn = key.drn
    if key.key_type == 3:
        drn = "0" * len(drn)
    pan = key.iin[len(drn) - 16 :] + drn
    return int(pan, 16) ^ int(f"{key.key_type}{key.supply_group}{key.tariff_index}{key.key_revision}ffffff", 16)


def dkga04_message(key: MeterKey) -> bytes:
    """The 49 bytes whose HMAC is the decoder key: label items, a zero byte, context items, length in bits.

    Each item has its length in one byte before it; each group begins with the number of its items.
    """
    return (
        f"\x04\x0204\x02{key.base_date % 100:02d}\x02{key.ea:02d}\x02{key.tariff_index}\x00"
        f"\x04\x06{key.supply_group}\x01{key.key_type}\x01{key.key_revision}\x12{key.pan}"
    ).encode("ascii") + (b"\x00\x00\x00\x40" if key.ea == 7 else b"\x00\x00\x00\x80")


def with_odd_parity(raw: bytes) -> bytes:
    """The bytes with the lowest bit of each set so that its ones are odd in number, as a DES key wants them."""
    return bytes(byte & 0xFE | (byte >> 1).bit_count() % 2 ^ 1 for byte in raw)
