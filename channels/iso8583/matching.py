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
    """What a reversal says of the message it reverses (field 90). Empty texts where the bank sends zeros."""

    mti: str
    stan: str
    sent: str
    acquirer: str
    forwarder: str


# Field 90: type 4, trace number 6, transmission time 10, acquirer 11, forwarder 11. Source: ISO 8583:1987, field 90.
_WIDTHS: Final = (4, 6, 10, 11, 11)
ORIGINAL_DIGITS: Final = sum(_WIDTHS)


def original_text(original: Original) -> str:
    """Field 90: institutions at the right, filled with zeros."""
    values = (original.mti, original.stan, original.sent, original.acquirer, original.forwarder)
    text = "".join(value.zfill(width) for value, width in zip(values, _WIDTHS, strict=True))
    if len(text) != ORIGINAL_DIGITS:
        raise IsoError(Fault.LENGTH, "field 90", f"{ORIGINAL_DIGITS} digits expected, got {len(text)}")
    return text


def original_of(text: str) -> Original:
    """Field 90 taken apart, leniently: zeros mean that the bank did not say. Institutions lose their leading zeros."""
    if len(text) != ORIGINAL_DIGITS or not (text.isascii() and text.isdecimal()):
        raise DecodeError(Fault.LENGTH, "field 90", f"{ORIGINAL_DIGITS} digits expected, got {len(text)}")
    parts, at = [], 0
    for width in _WIDTHS:
        parts.append(text[at : at + width])
        at += width
    mti, stan, sent = (part if part.strip("0") else "" for part in parts[:3])
    return Original(mti, stan, sent, parts[3].lstrip("0"), parts[4].lstrip("0"))
