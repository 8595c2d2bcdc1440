"""Characters of short messages: alphabets, and long texts cut into parts and joined again. Pure: no I/O, no clock.

GSM 7-bit goes unpacked over SMPP, one septet an octet. Sources: 3GPP TS 23.038 (GSM 03.38) 4 and 6.2.1 for the
alphabet and data coding; 3GPP TS 23.040 9.2.3.24 for user data headers; SMPP 3.4, 5.2.19 for data_coding.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

import gsmcodecs  # registers its codecs, "gsm23.038-LOCKING-SINGLE"

from channels.smpp.codes import UDHI
from channels.smpp.septets import pack

assert gsmcodecs, "its import is its use"

# fmt: off
# Row by row as in 3GPP TS 23.038, 6.2.1; 0x1B leads to the extension table and stands here for itself.
GSM_ALPHABET: Final = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
# 3GPP TS 23.038, 6.2.1.1. Each costs two septets, and the two must not be parted.
GSM_EXTENSION: Final = {
    0x0A: "\f", 0x14: "^", 0x28: "{", 0x29: "}", 0x2F: "\\", 0x3C: "[", 0x3D: "~", 0x3E: "]", 0x40: "|", 0x65: "€",
}
# fmt: on

ESCAPE: Final = 0x1B
GSM_CODING: Final = 0x00
LATIN_1_CODING: Final = 0x03
UCS2_CODING: Final = 0x08

GSM_ALONE_SEPTETS: Final = 160
GSM_PART_SEPTETS: Final = 153
UCS2_ALONE_OCTETS: Final = 140
UCS2_PART_OCTETS: Final = 134
MAX_PARTS: Final = 255
_PART_HEADER_OCTETS: Final = 6


class Alphabet(StrEnum):
    """What a link means by data_coding 0, "SMSC default alphabet": it is not always the GSM one."""

    GSM = "gsm"
    LATIN_1 = "latin1"
    ASCII = "ascii"
    UTF_8 = "utf8"
    GSM_PACKED = "gsm_packed"  # eight septets in seven octets, as on the radio; see `channels/smpp/septets.py`

    @property
    def is_gsm(self) -> bool:
        """Whether its texts are septets, packed or not."""
        return self in (Alphabet.GSM, Alphabet.GSM_PACKED)


class Shifts(NamedTuple):
    """The national language tables that a user data header announces; 0 for the default ones (3GPP TS 23.038, A.1)."""

    locking: int = 0
    single: int = 0


NATIONAL_LANGUAGES: Final = range(1, 14)  # Turkish, Spanish, Portuguese, and ten of India and Pakistan


# Octets above 0x7F cannot be septets; a link that sends them means Latin-1, whatever it was said to mean.
_GSM_DECODING: Final = GSM_ALPHABET + "".join(map(chr, range(0x80, 0x100)))
_GSM_ENCODING: Final[dict[str, bytes]] = {
    character: bytes((code,)) for code, character in enumerate(GSM_ALPHABET) if code != ESCAPE
} | {character: bytes((ESCAPE, code)) for code, character in GSM_EXTENSION.items()}
_GSM_BASIC: Final = {ord(character): code for code, character in enumerate(GSM_ALPHABET) if code != ESCAPE}

# What data_coding means: SMPP 3.4, 5.2.19 up to 0x0F. JIS and its kin are not read: they come as Latin-1.
_CODINGS: Final[dict[int, str]] = {
    0x01: "latin-1",  # IA5; octets above 0x7F are an error of the peer, read as Latin-1
    0x03: "latin-1",
    0x06: "iso8859-5",
    0x07: "iso8859-8",
    0x08: "utf-16-be",
}


class TooLong(ValueError):
    """A text of more than 255 parts."""


class Part(NamedTuple):
    """One short message of a text: what submit_sm needs."""

    data_coding: int
    esm_class: int
    short_message: bytes


# ------------------------------------------------------------------------------------------------ reading


def decode(octets: bytes, data_coding: int, default: Alphabet = Alphabet.GSM, shifts: Shifts | None = None) -> str:
    """Give the text of a message without its user data header; packed septets are to be unpacked before.

    Never refuses: what no alphabet explains becomes U+FFFD or its Latin-1 character, an odd last octet of UCS-2 is
    dropped, a byte order mark is obeyed and removed. `default` is the alphabet of data_coding 0 on this link. `shifts`
    counts for GSM septets only; an unknown language reads as the default one, which the standard asks for.
    """
    kind = _kind_of(data_coding)
    if kind is None:
        if default.is_gsm:
            return decode_gsm(octets) if shifts is None else _decode_national(octets, shifts)
        return octets.decode(default.value, "replace")
    if kind != "utf-16-be":
        return octets.decode(kind, "replace")
    if len(octets) % 2:
        octets = octets[:-1]
    if octets.startswith(codecs.BOM_UTF16_LE):
        return octets[2:].decode("utf-16-le", "replace")
    return octets.removeprefix(codecs.BOM_UTF16_BE).decode("utf-16-be", "replace")


def _decode_national(septets: bytes, shifts: Shifts) -> str:
    locking, single = (number if number in NATIONAL_LANGUAGES else 0 for number in shifts)
    if not locking and not single:
        return decode_gsm(septets)
    return septets.decode(f"gsm23.038-{locking}-{single}", "replace")


def is_septets(data_coding: int, default: Alphabet = Alphabet.GSM) -> bool:
    """Whether a message of this data_coding is GSM septets on a link of this alphabet."""
    return default.is_gsm and _kind_of(data_coding) is None


def is_wide(data_coding: int) -> bool:
    """Whether a message of this data_coding has two octets a character."""
    return _kind_of(data_coding) == "utf-16-be"


def _kind_of(data_coding: int) -> str | None:
    """Give the codec of a data_coding; None for the link's default alphabet.

    0x10 to 0x3F and 0xC0 to 0xFF are forms of GSM 03.38, seen on links that pass that octet through: 0x11 and 0xF1
    are class 1 messages, 0x18 UCS-2 of class 0.
    """
    if data_coding == 0:
        return None
    if data_coding < 0x10:
        return _CODINGS.get(data_coding, "latin-1")
    group = data_coding >> 4
    if group == 0xF:  # data coding and message class: bit 2 chooses
        return "latin-1" if data_coding & 0x04 else None
    if group == 0xE:  # message waiting, UCS-2
        return "utf-16-be"
    if group in (0xC, 0xD):  # message waiting, default alphabet
        return None
    if group < 0x8:  # general data coding: bits 3 and 2 choose
        return (None, "latin-1", "utf-16-be", None)[(data_coding >> 2) & 0x03]
    return None


def decode_gsm(septets: bytes) -> str:
    """Give the text of unpacked GSM 7-bit.

    An escape before a code without extension is a space less and the code's own character more, as the standard
    asks of receivers that do not know an extension; a lone escape at the end is a space.
    """
    if ESCAPE not in septets:
        return codecs.charmap_decode(septets, "strict", _GSM_DECODING)[0]
    text: list[str] = []
    escaped = False
    for code in septets:
        if escaped:
            escaped = False
            # A second escape is reserved for a further table; until there is one it reads as a space.
            text.append(" " if code == ESCAPE else GSM_EXTENSION.get(code) or _GSM_DECODING[code])
        elif code == ESCAPE:
            escaped = True
        else:
            text.append(_GSM_DECODING[code])
    if escaped:
        text.append(" ")
    return "".join(text)


# ------------------------------------------------------------------------------------------------ writing


def encode_gsm(text: str) -> bytes | None:
    """Give unpacked GSM 7-bit; None if a character is not in its two tables."""
    try:
        return b"".join([_GSM_ENCODING[character] for character in text])
    except KeyError:
        return None


def split(text: str, reference: int, keep_whole: Sequence[str] = (), default: Alphabet = Alphabet.GSM) -> list[Part]:
    """Cut a text into short messages; one without header if it fits, else parts with an 8-bit reference.

    GSM 7-bit if every character is in its tables, else UCS-2. No escape pair, surrogate pair or substring of
    `keep_whole` is cut; a substring longer than a part is, since there is no other way. `reference` is taken
    modulo 256. On links whose data_coding 0 is not GSM, only texts that read the same in both go out under it.
    Raises TooLong beyond 255 parts.
    Source: 3GPP TS 23.040, 9.2.3.24.1; SMPP 3.4, 5.2.12 for the header indicator.
    """
    if default is Alphabet.GSM and len(text) <= GSM_ALONE_SEPTETS:
        # Most texts: one message of the basic table. A table in C then replaces a look-up for each character.
        try:
            return [Part(GSM_CODING, 0, codecs.charmap_encode(text, "strict", _GSM_BASIC)[0])]
        except UnicodeEncodeError:
            pass
    data_coding, pieces = _encode(text, default)
    cuts = _cuts(text, data_coding, pieces, keep_whole)
    is_packed = default is Alphabet.GSM_PACKED and data_coding == GSM_CODING
    if len(cuts) == 2:
        whole = b"".join(pieces)
        return [Part(data_coding, 0, pack(whole) if is_packed else whole)]
    total = len(cuts) - 1
    if total > MAX_PARTS:
        raise TooLong(f"at most {MAX_PARTS} parts expected, got {total}")
    bodies = [b"".join(pieces[start:end]) for start, end in pairwise(cuts)]
    if is_packed:
        bodies = [pack(body, _PART_HEADER_OCTETS) for body in bodies]
    return [
        Part(data_coding, UDHI, bytes((5, 0, 3, reference & 0xFF, total, number)) + body)
        for number, body in enumerate(bodies, start=1)
    ]


def undivided(text: str, default: Alphabet = Alphabet.GSM) -> Part:
    """Give a text as one message, whatever its length: a USSD screen may be longer than a short message."""
    data_coding, pieces = _encode(text, default)
    octets = b"".join(pieces)
    return Part(
        data_coding, 0, pack(octets) if default is Alphabet.GSM_PACKED and data_coding == GSM_CODING else octets
    )


def parts_needed(text: str, keep_whole: Sequence[str] = (), default: Alphabet = Alphabet.GSM) -> int:
    """Count the short messages that `split` would make."""
    data_coding, pieces = _encode(text, default)
    return len(_cuts(text, data_coding, pieces, keep_whole)) - 1


def filled(text: str, keep_whole: Sequence[str] = ()) -> str:
    """Give a text with blanks added so that whoever cuts it where a part is full cuts nothing of `keep_whole`."""
    data_coding, pieces = _encode(text, Alphabet.GSM)
    cuts = _cuts(text, data_coding, pieces, keep_whole)
    size, blank = (UCS2_PART_OCTETS, 2) if data_coding == UCS2_CODING else (GSM_PART_SEPTETS, 1)
    shown = []
    for start, end in pairwise(cuts):
        room = size - sum(map(len, pieces[start:end]))
        is_early = end < len(pieces) and len(pieces[end]) <= room
        shown.append(text[start:end] + " " * (room // blank if is_early else 0))
    return "".join(shown)


def _encode(text: str, default: Alphabet) -> tuple[int, list[bytes]]:
    """Give data_coding and the octets of each character."""
    try:
        pieces = [_GSM_ENCODING[character] for character in text]
    except KeyError:
        pass
    else:
        if default.is_gsm:
            return GSM_CODING, pieces
        try:
            # The message centre turns these into GSM septets itself, so what counts is their size there;
            # an extension character would count twice and be one octet: such texts go as UCS-2.
            plain = [character.encode(default.value) for character in text]
        except UnicodeEncodeError:
            plain = []
        if len(plain) == len(pieces) and all(
            len(septets) == len(octets) == 1 for septets, octets in zip(pieces, plain, strict=True)
        ):
            return GSM_CODING, plain
    # Half a surrogate pair, which no text should hold, would be refused by the codec: it becomes a question mark.
    return UCS2_CODING, [character.encode("utf-16-be", "replace") for character in text]


def _cuts(text: str, data_coding: int, pieces: list[bytes], keep_whole: Sequence[str]) -> list[int]:
    """Give the indexes of characters where parts begin, and the end of the text."""
    alone, part = (
        (UCS2_ALONE_OCTETS, UCS2_PART_OCTETS) if data_coding == UCS2_CODING else (GSM_ALONE_SEPTETS, GSM_PART_SEPTETS)
    )
    sizes = [len(piece) for piece in pieces]
    if sum(sizes) <= alone:
        return [0, len(pieces)]
    no_cut = _places_not_to_cut(text, keep_whole)
    cuts = [0]
    room = part
    at = 0
    while at < len(sizes):
        if sizes[at] <= room:
            room -= sizes[at]
            at += 1
            continue
        cut = at
        while cut > cuts[-1] and cut in no_cut:
            cut -= 1
        if cut == cuts[-1]:
            cut = at  # the whole part is one substring
        cuts.append(cut)
        at = cut
        room = part
    cuts.append(len(sizes))
    return cuts


def _places_not_to_cut(text: str, keep_whole: Sequence[str]) -> set[int]:
    places: set[int] = set()
    for substring in keep_whole:
        if not substring:
            continue
        start = text.find(substring)
        while start >= 0:
            places.update(range(start + 1, start + len(substring)))
            start = text.find(substring, start + 1)
    return places
