"""GSM septets packed into octets, as a few message centres pass them through. Pure.

Source: 3GPP TS 23.038, 6.1.2.1 (packing, and the carriage return that fills seven spare bits); 3GPP TS 23.040,
9.2.3.24 (fill bits behind a user data header, up to the next septet border).
"""

from __future__ import annotations

from typing import Final

_CARRIAGE_RETURN: Final = 0x0D


def fill_bits(header_octets: int) -> int:
    """Give the unused bits between a header of so many octets and the first septet."""
    return -header_octets * 8 % 7


def pack(septets: bytes, header_octets: int = 0) -> bytes:
    """Pack septets behind a header of so many octets; the header is not part of the result."""
    if not septets:
        return b""
    shift = fill_bits(header_octets)
    bits = shift + 7 * len(septets)
    if bits % 8 == 1:  # seven bits are left over, which would read as "@"
        septets += bytes((_CARRIAGE_RETURN,))
        bits += 7
    number = 0
    for index, septet in enumerate(septets):
        number |= (septet & 0x7F) << (7 * index)
    return (number << shift).to_bytes((bits + 7) // 8, "little")


def unpack(octets: bytes, header_octets: int = 0) -> bytes:
    """Give the septets, one an octet."""
    shift = fill_bits(header_octets)
    number = int.from_bytes(octets, "little") >> shift
    count = (len(octets) * 8 - shift) // 7
    septets = bytes((number >> (7 * index)) & 0x7F for index in range(max(count, 0)))
    if (len(octets) * 8 - shift) % 7 == 0 and septets[-1:] == bytes((_CARRIAGE_RETURN,)):
        return septets[:-1]
    return septets
