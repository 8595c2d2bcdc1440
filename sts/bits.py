"""The 66-bit token and its 20 digits. Pure.

A token is two class bits and a 64-bit block. In the printed number the class stands in bits 28 and 27, and the two
bits of the block that it drives out stand in front, in bits 65 and 64. Bit 0 is the least significant.
Source: IEC 62055-41 (transposition of class bits; TokenData to 20 digits).
"""

import re
from typing import Final

from sts.errors import Fault, TokenError

DIGITS: Final = 20
TOKEN_MAX: Final = (1 << 66) - 1
BLOCK_MAX: Final = (1 << 64) - 1

_CLASS_BITS: Final = 3 << 27
_KEPT: Final = BLOCK_MAX ^ _CLASS_BITS
_KEPT_BY_CLASS: Final = tuple(token_class << 27 for token_class in range(4))
_match: Final = re.compile("[0-9]{4}(?:[ -]?[0-9]{4}){4}").fullmatch


def digits_of(token_class: int, block: int) -> str:
    """The 20 digits of a class (0 to 3) and an (enciphered) 64-bit block."""
    return f"{(block >> 27 & 3) << 64 | block & _KEPT | _KEPT_BY_CLASS[token_class]:020d}"


def split(digits: str) -> tuple[int, int]:
    """Class and 64-bit block of a token of 20 digits; refuses FORMAT as `plain` does."""
    number = int(plain(digits))
    if number > TOKEN_MAX:
        raise TokenError(Fault.FORMAT, "token: a number below 2^66 expected")
    return number >> 27 & 3, number & _KEPT | (number >> 64) << 27


def plain(text: str) -> str:
    """The 20 digits of a token as typed or printed: one space or dash may stand between groups of four.

    Refuses FORMAT for anything else; full-width digits are not digits here.
    """
    if len(text) == DIGITS and text.isascii() and text.isdigit():
        return text
    if _match(text) is None:
        raise TokenError(Fault.FORMAT, f"token: {DIGITS} digits expected, got {len(text)} characters")
    return text.replace(" ", "").replace("-", "")


def grouped(digits: str, separator: str = " ") -> str:
    """A token's 20 digits in five groups of four, as on a receipt."""
    return separator.join(digits[start : start + 4] for start in range(0, DIGITS, 4))
