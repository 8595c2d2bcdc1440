"""Parts of long messages from phones: recognised and put together. Pure: no I/O, no clock.

A message is complete when all its parts are there, in whatever order they come. Sources: 3GPP TS 23.040, 9.2.3.24
(user data header; the concatenation element may stand behind others); SMPP 3.4, 5.3.2.22 to 5.3.2.24 (sar_ fields);
github.com/jookies/jasmin/issues/513 and 612 for what goes wrong otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from channels.smpp.codes import TLV_SAR_MSG_REF_NUM, TLV_SAR_SEGMENT_SEQNUM, TLV_SAR_TOTAL_SEGMENTS, UDHI
from channels.smpp.pdu import DataSm, ShortMessage, find_tlv
from channels.smpp.septets import unpack
from channels.smpp.text import Alphabet, Shifts, is_septets

_CONCATENATED_8_BIT: Final = 0x00
_CONCATENATED_16_BIT: Final = 0x08
_SINGLE_SHIFT: Final = 0x24
_LOCKING_SHIFT: Final = 0x25


class Place(NamedTuple):
    """Where a part belongs. `kind` keeps the references of the three ways apart: "udh8", "udh16", "sar"."""

    kind: str
    reference: int
    total: int
    number: int


class Body(NamedTuple):
    """A message without its user data header, and what this says.

    `place`: among its parts, None if it stands alone. `octets`: packed septets are unpacked. `shifts`: the national
    tables it announces, None for none.
    """

    place: Place | None
    octets: bytes
    shifts: Shifts | None


def place_of(message: ShortMessage | DataSm) -> tuple[Place | None, bytes]:
    """Give the place of a message among its parts, None if it stands alone; and its octets without the header."""
    place, octets, _ = body_of(message)
    return place, octets


def body_of(message: ShortMessage | DataSm, default: Alphabet = Alphabet.GSM) -> Body:
    """Take a message apart; `default` is the alphabet of data_coding 0 on its link.

    A place that cannot be (number 0, or beyond the total) and a header longer than the message count as none.
    """
    octets = message.octets
    place: Place | None = None
    shifts: Shifts | None = None
    header_octets = 0
    if message.esm_class & UDHI and octets:
        header_octets = 1 + octets[0]
        if header_octets <= len(octets):
            place, shifts = _read_header(octets[1:header_octets])
            octets = octets[header_octets:]
        else:
            header_octets = 0
    if default is Alphabet.GSM_PACKED and is_septets(message.data_coding, default):
        octets = unpack(octets, header_octets)
    if place is None and message.tlvs:
        reference = find_tlv(message.tlvs, TLV_SAR_MSG_REF_NUM)
        total = find_tlv(message.tlvs, TLV_SAR_TOTAL_SEGMENTS)
        number = find_tlv(message.tlvs, TLV_SAR_SEGMENT_SEQNUM)
        if reference and total and number:
            place = Place("sar", int.from_bytes(reference, "big"), total[-1], number[-1])
    if place is not None and (place.total < 2 or not 1 <= place.number <= place.total):
        place = None
    return Body(place, octets, shifts)


def _read_header(elements: bytes) -> tuple[Place | None, Shifts | None]:
    """Walk all information elements: the one of the parts need not be the first, and repeated ones count once."""
    place: Place | None = None
    locking = single = 0
    at = 0
    while at + 2 <= len(elements):
        identifier, length = elements[at], elements[at + 1]
        value = elements[at + 2 : at + 2 + length]
        at += 2 + length
        if identifier == _CONCATENATED_8_BIT and len(value) == 3 and place is None:
            place = Place("udh8", value[0], value[1], value[2])
        elif identifier == _CONCATENATED_16_BIT and len(value) == 4 and place is None:
            place = Place("udh16", int.from_bytes(value[:2], "big"), value[2], value[3])
        elif identifier == _LOCKING_SHIFT and len(value) == 1:
            locking = value[0]
        elif identifier == _SINGLE_SHIFT and len(value) == 1:
            single = value[0]
    return place, Shifts(locking, single) if locking or single else None


PieceT = TypeVar("PieceT")


@dataclass(slots=True)
class _Open(Generic[PieceT]):
    deadline: float
    pieces: dict[int, PieceT] = field(default_factory=dict)


class Assembler(Generic[PieceT]):
    """Keeps parts until all of a message are there, at most `keep_s` seconds and `limit` messages.

    The key must hold the message centre, both addresses, and kind, reference and total of the place: customers choose
    references independently of each other.
    """

    def __init__(self, keep_s: float = 300.0, limit: int = 10_000) -> None:
        self._keep_s = keep_s
        self._limit = limit
        self._open: OrderedDict[Hashable, _Open[PieceT]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, key: Hashable, place: Place, piece: PieceT, now: float) -> list[PieceT] | None:
        """Give all the pieces in order once the last one has come; None before. A repeated part replaces itself."""
        entry = self._entry(key, now)
        entry.pieces[place.number] = piece
        return self._whole(key, entry, place.total)

    def _entry(self, key: Hashable, now: float) -> _Open[PieceT]:
        entry = self._open.get(key)
        if entry is None:
            while len(self._open) >= self._limit:
                self._open.popitem(last=False)
            entry = self._open[key] = _Open(now + self._keep_s)
        return entry

    def _whole(self, key: Hashable, entry: _Open[PieceT], total: int) -> list[PieceT] | None:
        if len(entry.pieces) < total:
            return None
        del self._open[key]
        return [entry.pieces[number] for number in range(1, total + 1)]

    def expire(self, now: float) -> list[PieceT]:
        """Drop the messages whose time is over, and give the parts they had."""
        dropped: list[PieceT] = []
        while self._open:
            key, entry = next(iter(self._open.items()))
            if entry.deadline > now:
                break
            del self._open[key]
            dropped.extend(entry.pieces.values())
        return dropped
