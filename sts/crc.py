"""The checksum of a token, plain (CRC) and for currency credit (CRC_C). Pure.

CRC-16 with polynomial x^16+x^15+x^2+1, reflected (0xA001), start 0xFFFF, no final XOR, its two bytes swapped. It
covers 50 bits, class and block above the checksum, as 7 bytes. CRC_C takes one more byte, 01, behind them.
Source: IEC 62055-41 (CRC); examples on the STS Association's definitions page.
"""

from typing import Final

_POLYNOMIAL: Final = 0xA001
_START: Final = 0xFFFF


def _byte_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return tuple(table)


_TABLE: Final = _byte_table()


def crc_of(message: bytes) -> int:
    """The checksum of any bytes, its two bytes swapped as the standard prints it."""
    register = _START
    for byte in message:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 0xFF]
    return (register & 0xFF) << 8 | register >> 8


# The CRC is linear over XOR, apart from its start value. So the checksum of 7 bytes is the XOR of what each byte
# contributes from its place; the start value's share is folded into the table of the first place.
def _place_tables(tail: bytes) -> tuple[tuple[int, ...], ...]:
    start_share = crc_of(bytes(7) + tail)
    tables = []
    for place in range(7):
        table = []
        for byte in range(256):
            message = bytearray(7)
            message[place] = byte
            share = crc_of(bytes(message) + tail)
            table.append(share if place == 0 else share ^ start_share)
        tables.append(tuple(table))
    return tuple(tables)


_P0, _P1, _P2, _P3, _P4, _P5, _P6 = _place_tables(b"")
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = _place_tables(b"\x01")


def crc_of_50_bits(bits: int) -> int:
    """The plain checksum of class and block bits 63 to 16, given as one 50-bit number."""
    a, b, c, d, e, f, g = bits.to_bytes(7, "big")
    return _P0[a] ^ _P1[b] ^ _P2[c] ^ _P3[d] ^ _P4[e] ^ _P5[f] ^ _P6[g]


def currency_crc_of_50_bits(bits: int) -> int:
    """The currency checksum (CRC_C) of class and block bits 63 to 16, given as one 50-bit number."""
    a, b, c, d, e, f, g = bits.to_bytes(7, "big")
    return _C0[a] ^ _C1[b] ^ _C2[c] ^ _C3[d] ^ _C4[e] ^ _C5[f] ^ _C6[g]
