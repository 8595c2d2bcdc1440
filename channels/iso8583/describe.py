"""A message for people: what is in each field, with everything masked that must not be seen. Pure.

Of a PAN the first six and last four digits are shown (PCI DSS 3.4.1); of track data, expiry, PIN block and EMV data
nothing, in any profile. In fields without a fixed meaning every long run of digits shows its last four only, and long
hexadecimal runs nothing: there may be a PAN, a token or a key in them. A profile's `[show]` says which sub-fields may
be seen in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from channels.iso8583.message import Message, Parts, Value

CARD_FIELDS: Final = frozenset({2, 14, 35, 36, 45, 52, 55})
"""Never stored, queued or logged."""

_PAN: Final = 2
# PAN extended is a PAN; a message security code is a secret.
_NEVER: Final = (CARD_FIELDS - {_PAN}) | {34, 96}
_LAST_FOUR: Final = frozenset({102, 103})
# Fields whose meaning and form the standard fixes, and which are nobody's secret.
_OPEN: Final = frozenset({*range(3, 34), *range(37, 44), 49, 50, 51, 64, *range(66, 96), 97, 98, 99, 100, 101, 128}) - {
    14
}

HOW: Final = ("yes", "last4", "no")

# A PAN has 12 digits or more, a token 20, in groups or not.
_DIGITS: Final = re.compile(r"[0-9](?:[ .-]?[0-9]){11,}", re.ASCII)
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])X?[0-9A-F]{16,}(?![0-9A-Za-z])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a description: path, name, and the value as it may be seen."""

    path: str
    name: str
    shown: str


def shown(number: int, value: str, how: str = "") -> str:
    """A field's value as it may be seen. `how` from a profile; it cannot open card data."""
    if number == _PAN:
        return f"{value[:6]}{'*' * (len(value) - 10)}{value[-4:]}" if len(value) >= 13 else "*" * len(value)
    if number in _NEVER or how == "no":
        return f"({len(value)} characters, not shown)"
    if how == "last4" or (number in _LAST_FOUR and not how):
        return last_four(value)
    return value if how == "yes" or number in _OPEN else masked(value)


def masked(text: str) -> str:
    """A text without long runs of digits or hexadecimal digits."""
    text = _DIGITS.sub(lambda found: last_four(found.group()), text)
    return _HEX.sub(lambda found: "*" * len(found.group()), text)


def last_four(text: str) -> str:
    """Stars, and the last four characters if there are many more."""
    return "*" * (len(text) - 4) + text[-4:] if len(text) >= 9 else "*" * len(text)


def described(message: Message, names: Mapping[str, str], show: Mapping[str, str]) -> list[Line]:
    """Every field of a message, parts one by one. `names` and `show` by path, as in a profile."""
    lines = [Line("header", names.get("header", "header"), message.header.hex().upper())] if message.header else []
    lines.append(Line("MTI", "message type", message.mti))
    for number, value in message.items():
        lines += _lines(number, str(number), value, names, show)
    return lines


def _lines(number: int, path: str, value: Value, names: Mapping[str, str], show: Mapping[str, str]) -> Iterator[Line]:
    if isinstance(value, Parts) and number in CARD_FIELDS | _NEVER:
        yield Line(path, names.get(path, ""), "(not shown)")
    elif isinstance(value, Parts):
        for tag, part in value:
            # Inside another field a number has no standard meaning.
            yield from _lines(0, f"{path}.{tag}", part, names, show)
    else:
        yield Line(path, names.get(path, ""), shown(number, value, show.get(path, "")))
