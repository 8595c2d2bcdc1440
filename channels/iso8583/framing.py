"""The cutting of a stream into frames, and the frame around a message. Pure: no I/O, no clock.

A stream has three outcomes: more is needed (no frame yet), frames, or broken (`Framer.broken`): a length that cannot be
true, after which the borders of frames are lost for good and the link must be closed.

| kind | prefix |
|---|---|
| bin2, bin3, bin4 | 2, 3, 4 bytes, big-endian |
| ascii4 | 4 decimal digits |
| hex4 | 4 hexadecimal digits |
| bcd2 | 2 bytes of decimal digits |
| vml4 | 2 bytes and 2 zero bytes |

The length counts everything behind the prefix; `inclusive` counts the prefix too. A TPDU (5 bytes: its identifier,
where to, where from) and a trailer lie inside the count, a trailer also outside if so agreed. A length of zero is a
keep-alive. Source: the channels of public switches; docs/iso8583.md names who uses which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from channels.iso8583.errors import Fault, FrameError
from channels.iso8583.reading import Table
from config.values import describe

KINDS: Final = ("bin2", "bin3", "bin4", "ascii4", "hex4", "bcd2", "vml4")
FRAME_MAX_DEFAULT: Final = 4_096
TPDU_BYTES: Final = 5

_PREFIX: Final = {"bin2": 2, "bin3": 3, "bin4": 4, "ascii4": 4, "hex4": 4, "bcd2": 2, "vml4": 4}
_LARGEST: Final = {
    "bin2": 0xFFFF, "bin3": 0xFFFFFF, "bin4": 0xFFFFFFFF, "ascii4": 9_999, "hex4": 0xFFFF, "bcd2": 9_999,
    "vml4": 0xFFFF,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Framing:
    """How a peer frames messages. `max_frame` limits the counted length, in bytes."""

    kind: str = "bin2"
    inclusive: bool = False
    tpdu: int = 0
    tpdu_id: int = 0x60
    trailer: bytes = b""
    trailer_counted: bool = True
    max_frame: int = FRAME_MAX_DEFAULT

    @property
    def prefix_bytes(self) -> int:
        """Bytes of the length."""
        return _PREFIX[self.kind]

    @property
    def largest(self) -> int:
        """The longest count that is taken or written."""
        return min(self.max_frame, _LARGEST[self.kind])


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame held. A frame without a body is a keep-alive."""

    body: bytes
    tpdu: bytes = b""

    @property
    def is_keep_alive(self) -> bool:
        """A frame of length zero."""
        return not self.body

    def __repr__(self) -> str:
        return f"<Frame of {len(self.body)} bytes>"


class Framer:
    """Cuts a stream into frames, whatever pieces it comes in. Holds less than one frame back."""

    __slots__ = ("_framing", "_held", "broken")

    def __init__(self, framing: Framing) -> None:
        self._framing: Final = framing
        self._held = bytearray()
        self.broken: FrameError | None = None

    @property
    def rest(self) -> bytes:
        """The bytes of a frame that is not whole yet; a link times it out."""
        return bytes(self._held)

    def feed(self, data: bytes) -> list[Frame]:
        """Give the frames that are now whole; none where more is needed.

        A length outside the limits, or a frame that is not as agreed, sets `broken` before anything is waited for; what
        came before is still given, what follows is dropped.
        """
        if self.broken is not None:
            return []
        self._held += data
        held, framing = bytes(self._held), self._framing
        frames: list[Frame] = []
        at, size = 0, framing.prefix_bytes
        after = 0 if framing.trailer_counted else len(framing.trailer)
        try:
            while len(held) - at >= size:
                length = self._length(held[at : at + size])
                # A peer may count the prefix of a keep-alive, or not.
                if length == 0 or (framing.inclusive and length == size):
                    frames.append(Frame(b""))
                    at += size
                    continue
                length -= size if framing.inclusive else 0
                self._check(length)
                end = at + size + length
                if len(held) < end + after:
                    break
                frames.append(self._frame(held[at + size : end + after]))
                at = end + after
        except FrameError as error:
            self.broken = error.with_traceback(None)
            self._held.clear()
            return frames
        del self._held[:at]
        return frames

    def _length(self, prefix: bytes) -> int:
        kind = self._framing.kind
        match kind:
            case "ascii4" | "hex4" | "bcd2":
                text = prefix.hex() if kind == "bcd2" else prefix.decode("latin-1")
                fits = set(text) <= _HEX if kind == "hex4" else text.isascii() and text.isdecimal()
                if not fits:
                    words = "hexadecimal digits" if kind == "hex4" else "digits"
                    raise FrameError(Fault.FRAME_LENGTH, "frame", f"a length of {words} expected, got other bytes")
                return int(text, 16 if kind == "hex4" else 10)
            case "vml4":
                if prefix[2:] != b"\0\0":
                    raise FrameError(Fault.FRAME_LENGTH, "frame", "two zero bytes behind the length expected")
                return int.from_bytes(prefix[:2], "big")
        length = int.from_bytes(prefix, "big")
        if length > self._framing.largest + (len(prefix) if self._framing.inclusive else 0) and all(
            octet in b"0123456789" for octet in prefix
        ):
            # Seen: 12346 for a peer that sent "0200" without a length, or with one of digits.
            raise FrameError(
                Fault.FRAME_LENGTH,
                "frame",
                "a binary length expected, got digits: the peer sends a length of digits, or none",
            )
        return length

    def _check(self, length: int) -> None:
        framing = self._framing
        if not 0 < length <= framing.largest:
            sentence = f"a length of 1 to {framing.largest} expected, got {length}"
            raise FrameError(Fault.FRAME_LENGTH, "frame", sentence)
        around = framing.tpdu + (len(framing.trailer) if framing.trailer_counted else 0)
        if length <= around:
            raise FrameError(Fault.FRAME_SHORT, "frame", f"more than {around} bytes expected, got {length}")

    def _frame(self, content: bytes) -> Frame:
        framing = self._framing
        if framing.trailer:
            if not content.endswith(framing.trailer):
                raise FrameError(Fault.FRAME_TRAILER, "frame", "the agreed trailer expected, got other bytes")
            content = content[: -len(framing.trailer)]
        tpdu = content[: framing.tpdu]
        if framing.tpdu and tpdu[0] != framing.tpdu_id:
            raise FrameError(Fault.FRAME_TPDU, "frame", f"a TPDU that begins with {framing.tpdu_id:02X} expected")
        return Frame(content[framing.tpdu :], tpdu)


_HEX: Final = frozenset("0123456789ABCDEFabcdef")


def framed(framing: Framing, body: bytes, tpdu: bytes = b"") -> bytes:
    """A message in its frame; with an empty body a keep-alive. `tpdu`: as it shall be sent (see `answering`).

    Raises FrameError for a message that is too long.
    """
    if not body:
        return _prefix(framing, 0)
    if len(tpdu) != framing.tpdu:
        raise FrameError(Fault.FRAME_TPDU, "frame", f"a TPDU of {framing.tpdu} bytes expected, got {len(tpdu)}")
    counted = tpdu + body + (framing.trailer if framing.trailer_counted else b"")
    length = len(counted) + (framing.prefix_bytes if framing.inclusive else 0)
    if len(counted) > framing.largest or length > _LARGEST[framing.kind]:
        sentence = f"at most {framing.largest} bytes expected, got {len(counted)}"
        raise FrameError(Fault.FRAME_LENGTH, "frame", sentence)
    return _prefix(framing, length) + counted + (b"" if framing.trailer_counted else framing.trailer)


def answering(tpdu: bytes) -> bytes:
    """The TPDU of an answer: where to and where from exchanged."""
    return tpdu[:1] + tpdu[3:5] + tpdu[1:3]


def _prefix(framing: Framing, length: int) -> bytes:
    match framing.kind:
        case "ascii4":
            return b"%04d" % length
        case "hex4":
            return b"%04X" % length
        case "bcd2":
            return bytes.fromhex(f"{length:04d}")
        case "vml4":
            return length.to_bytes(2, "big") + b"\0\0"
    return length.to_bytes(framing.prefix_bytes, "big")


# --- from a profile ---------------------------------------------------------------------------------------------------


def framing_of(table: Table) -> Framing:
    """The framing that a `[framing]` table describes; faults are noted in the table."""
    kind = table.text("kind", "bin2", KINDS)
    made = Framing(
        kind=kind,
        inclusive=table.truth("inclusive", False),
        tpdu=table.number("tpdu", 0, 0, TPDU_BYTES),
        tpdu_id=_octets(table, "tpdu_id", "60", 1)[0],
        trailer=_octets(table, "trailer", "", 4),
        trailer_counted=table.truth("trailer_counted", True),
        max_frame=table.number("max_frame", FRAME_MAX_DEFAULT, 64, 1_000_000),
    )
    if made.tpdu not in (0, TPDU_BYTES):
        table.fault("tpdu", f"0 or {TPDU_BYTES}", str(made.tpdu))
    if table.has("max_frame") and made.largest < made.max_frame:
        table.fault("max_frame", f"at most {made.largest}, which is what {kind} can say", str(made.max_frame))
    table.nothing_else()
    return made


def _octets(table: Table, name: str, default: str, longest: int) -> bytes:
    text = table.text(name, default)
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b"?" * (longest + 1)
    shortest = len(bytes.fromhex(default))
    if not shortest <= len(octets) <= longest:
        table.fault(name, f"{shortest} to {longest} bytes in hexadecimal digits", describe(text))
        return bytes.fromhex(default)
    return octets
