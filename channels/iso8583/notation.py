"""The notation of fields ("n6", "n..19", "ans...999", "x+n8", "b8") and what each kind may hold. Pure.

Lengths count digits for n, bytes for b, characters for all others, whatever the encoding. Dots are digits of the
length prefix: two for LL, three for LLL, six for LLLLLL. Source: ISO 8583:1987, 4.2 (attributes of data elements).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

# Six digits of length are the most that is in use (Postilion's DE127).
PREFIX_DIGITS_MAX: Final = 6
FIXED_LENGTH_MAX: Final = 999


class Kind(StrEnum):
    """What characters a field holds."""

    N = "n"
    A = "a"
    AN = "an"
    ANS = "ans"
    NS = "ns"
    AS = "as"
    S = "s"
    Z = "z"
    B = "b"
    XN = "x+n"


_NOTATION: Final = re.compile(r"(x\+n|ans|an|as|ns|n|a|s|z|b)(\.*)([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Format:
    """A field's kind and length; `prefix` is the number of digits of its length prefix, 0 for a fixed length."""

    kind: Kind
    prefix: int
    length: int

    @property
    def is_fixed(self) -> bool:
        """Always of the same length?"""
        return self.prefix == 0

    @property
    def unit(self) -> str:
        """What its length counts, in words."""
        return {Kind.N: "digits", Kind.B: "bytes"}.get(self.kind, "characters")

    @property
    def characters(self) -> int:
        """Characters of a value of full length: bytes are two hexadecimal digits, a signed amount has a sign."""
        return self.length * 2 if self.kind is Kind.B else self.length + (self.kind is Kind.XN)

    def __str__(self) -> str:
        return f"{self.kind.value}{'.' * self.prefix}{self.length}"


def format_of(text: str) -> Format:
    """The format that a notation describes; raises ValueError with what was expected."""
    matched = _NOTATION.fullmatch(text)
    if matched is None:
        raise ValueError('a field format such as "n6", "n..19", "ans...999", "x+n8" or "b8"')
    kind, prefix, length = Kind(matched[1]), len(matched[2]), int(matched[3])
    if prefix == 1 or prefix > PREFIX_DIGITS_MAX:
        raise ValueError(f"no dots, or 2 to {PREFIX_DIGITS_MAX} of them")
    if kind is Kind.XN and prefix:
        raise ValueError("a signed amount of fixed length, such as x+n8")
    if prefix == 0 and length > FIXED_LENGTH_MAX:
        raise ValueError(f"a fixed length of at most {FIXED_LENGTH_MAX}")
    return Format(kind, prefix, length)


# --- content ----------------------------------------------------------------------------------------------------------

Check = Callable[[str], bool]


def _is_digits(text: str) -> bool:
    return text.isdecimal() and text.isascii() or not text


def _matching(pattern: str) -> Check:
    # What it gives is a match or None, which is as good as true or false and needs no further call.
    return cast(Check, re.compile(pattern, re.ASCII).fullmatch)


is_hex: Final[Check] = _matching("(?:[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class Content:
    """What a value may hold: the test, and the words for it."""

    fits: Check
    words: str


_PRINTABLE: Final = Content(str.isprintable, "printable characters")

_STRICT: Final[dict[Kind, Content]] = {
    Kind.A: Content(_matching("[A-Za-z ]*"), "letters and blanks"),
    Kind.AN: Content(_matching("[0-9A-Za-z ]*"), "letters, digits and blanks"),
    Kind.NS: Content(lambda text: text.isprintable() and not any(map(str.isalpha, text)), "digits and signs"),
    Kind.AS: Content(lambda text: text.isprintable() and not any(map(str.isdigit, text)), "letters and signs"),
    Kind.S: Content(lambda text: text.isprintable() and not any(map(str.isalnum, text)), "signs"),
}


def content_of(kind: Kind, strict: bool) -> Content:
    """What values of a kind hold. Blanks fill fixed fields, so they stand in a and an too.

    Not strict: a, an, ns, as and s take any printable character, as most published examples do.
    Track data is printable in text; what is packed has its own rule.
    """
    match kind:
        case Kind.N:
            return Content(_is_digits, "digits")
        case Kind.B:
            return Content(is_hex, "hexadecimal digits")
        case Kind.XN:
            return Content(_matching("[CD][0-9]+"), "C or D and digits")
        case Kind.ANS | Kind.Z:
            return _PRINTABLE
    return _STRICT[kind] if strict else _PRINTABLE
