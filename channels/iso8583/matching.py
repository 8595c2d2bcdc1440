"""Which messages belong together: purchase and repeat, purchase and reversal, request and answer. Pure.

A purchase is known by the fields a profile's `key` names, not by its message: a repeat comes with another type, on
another link, with another transmission time. None of them is card data (the profile's check sees to that).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from channels.iso8583.errors import DecodeError, Fault, IsoError
from channels.iso8583.message import Message

REFERENCE_MAX: Final = 200
"""Characters of a key; the fields that make one have fewer together."""


def value_at(message: Message, path: str) -> str | None:
    """The text at a path, which may end with a slice: "4[4:16]" is the last twelve digits of sixteen."""
    place, bracket, rest = path.partition("[")
    text = message.get(place)
    if text is None or not bracket:
        return text
    begin, _, end = rest.rstrip("]").partition(":")
    return text[int(begin or 0) : int(end) if end else None]


def key_of(message: Message, paths: Iterable[str]) -> str:
    """What a repeat of this message would carry again, as one text; a field that is not there is empty."""
    texts = ((value_at(message, path) or "").strip().replace("%", "%25").replace("/", "%2F") for path in paths)
    key = "/".join(texts)
    if len(key) <= REFERENCE_MAX:
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def fingerprint_of(message: Message, paths: Iterable[str]) -> bytes:
    """16 octets over the content by which a repeat is told from a key used again."""
    digest = hashlib.sha256()
    for path in paths:
        text = value_at(message, path)
        # Lengths keep neighbours apart, and "not there" is not "empty".
        digest.update(b"-" if text is None else f"{len(text)}:{text}".encode())
    return digest.digest()[:16]


def answer_key_of(message: Message, paths: Iterable[str]) -> tuple[str, ...]:
    """What a request and its answer share: version, class, and the fields that the profile matches answers by."""
    return (message.mti[:2], *((value_at(message, path) or "") for path in paths))


@dataclass(frozen=True, slots=True)
class Original:
    """What a reversal says of the message it reverses (field 90, in 1993 field 56). Empty where the bank sends zeros.

    `sent` is the original's transmission time, `local` its local date and time: a layout has one of them.
    """

    mti: str = ""
    stan: str = ""
    sent: str = ""
    local: str = ""
    acquirer: str = ""
    forwarder: str = ""


Layout = tuple[tuple[str, int], ...]
"""Name and digits of each part. One that is no member of Original is skipped; behind a length the last may be short."""

LAYOUT_90: Final[Layout] = (("mti", 4), ("stan", 6), ("sent", 10), ("acquirer", 11), ("forwarder", 11))
"""Field 90 of 1987: institutions at the right, filled with zeros. Source: ISO 8583:1987, field 90."""


def original_text(original: Original, layout: Layout = LAYOUT_90) -> str:
    """The field as it is sent."""
    widths = dict(layout)
    values = [
        # The length of a part that is written whole.
        (str(widths[name.removesuffix("_length")]) if name.endswith("_length") else getattr(original, name, ""), width)
        for name, width in layout
    ]
    text = "".join(str(value).zfill(width) for value, width in values)
    wanted = sum(width for _, width in layout)
    if len(text) != wanted or not (text.isascii() and text.isdecimal()):
        raise IsoError(Fault.LENGTH, "original", f"{wanted} digits expected, got {len(text)}")
    return text


def original_of(text: str, layout: Layout = LAYOUT_90, path: str = "90") -> Original:
    """The field taken apart, leniently: zeros mean that the bank did not say. Institutions lose leading zeros."""
    most = sum(width for _, width in layout)
    is_fixed = not any(name.endswith("_length") for name, _ in layout)
    least = most if is_fixed else most - layout[-1][1]
    if not least <= len(text) <= most or not (text.isascii() and text.isdecimal()):
        expected = f"{most} digits" if is_fixed else f"{least} to {most} digits"
        raise DecodeError(Fault.LENGTH, f"field {path}", f"{expected} expected, got {len(text)}")
    parts: dict[str, str] = {}
    at = 0
    for name, width in layout:
        part = text[at : at + width]
        at += width
        if name in ("acquirer", "forwarder"):
            parts[name] = part.lstrip("0")
        elif name in ("mti", "stan", "sent", "local"):
            parts[name] = part if part.strip("0") else ""
    return Original(**parts)
