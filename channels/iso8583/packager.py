"""A dialect's packager: bytes to messages and back. Pure.

Reading and writing go field by field, which names every fault; bitmaps that were read or written before go through a
plan compiled for them (`plans.py`), which gives the same or nothing at all, and then the slow way decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from channels.iso8583 import plans
from channels.iso8583.errors import DecodeError, EncodeError, Fault
from channels.iso8583.fields import TEXTS
from channels.iso8583.fieldset import Shape
from channels.iso8583.message import Message


@dataclass(frozen=True, slots=True)
class Packager(Shape):
    """Bytes to messages and back, for one dialect."""

    is_compiled: bool = True
    """False takes the slow way only; for tests, which compare the two."""
    _plans: plans.Plans = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_plans", plans.Plans(self))

    # --- reading ------------------------------------------------------------------------------------------------------

    def decode(self, data: bytes) -> Message:
        """The message in exactly these bytes; raises DecodeError, which holds nothing of them."""
        if self.is_compiled and (message := self._plans.decoded(data)) is not None:
            return message
        mti, at = self._read_mti(data)
        values, form, end = self.fields.read(data, at, mti)
        if end != len(data):
            raise DecodeError(Fault.LEFT_OVER, "message", f"{end} bytes expected, got {len(data)}")
        if self.is_compiled and not form:
            self._plans.seen(data, list(values))
        return Message(mti, values, data[: self.header], form)

    def salvage(self, data: bytes, numbers: Iterable[int]) -> Message | None:
        """What can be answered of a message that is none: its type, and of these fields those before the fault.

        None if not even the type or the bitmap can be read.
        """
        try:
            mti, at = self._read_mti(data)
            values = self.fields.read_until(data, at, mti)
        except DecodeError:
            return None
        wanted = set(numbers)
        return Message(mti, {number: value for number, value in values.items() if number in wanted})

    def _read_mti(self, data: bytes) -> tuple[str, int]:
        if len(data) < self.header:
            raise DecodeError(Fault.SHORT, "header", f"{self.header} bytes expected, got {len(data)}")
        at = self.header + self.mti_bytes
        raw = data[self.header : at]
        if len(raw) < self.mti_bytes:
            raise DecodeError(Fault.SHORT, "MTI", f"{self.mti_bytes} bytes expected, got {len(raw)}")
        text = raw.hex() if self.mti == "bcd" else raw.decode("cp037" if self.mti == "ebcdic" else "latin-1")
        if not (text.isascii() and text.isdecimal()):
            raise DecodeError(Fault.MTI, "MTI", "four digits expected, got another character")
        return text, at

    # --- writing ------------------------------------------------------------------------------------------------------

    def encode(self, message: Message) -> bytes:
        """The bytes of a message; raises EncodeError."""
        if self.is_compiled and (data := self._plans.encoded(message)) is not None:
            return data
        data = self._head(message) + self.fields.write(dict(message.items()), message.form, message.mti)
        if self.is_compiled and not message.form:
            self._plans.written(message)
        return data

    def _head(self, message: Message) -> bytes:
        mti = message.mti
        if len(message.header) != self.header:
            sentence = f"{self.header} bytes expected, got {len(message.header)}"
            raise EncodeError(Fault.LENGTH, "header", sentence)
        if len(mti) != 4 or not (mti.isascii() and mti.isdecimal()):
            raise EncodeError(Fault.MTI, "MTI", "four digits expected")
        return message.header + self.packed_mti(mti)

    def packed_mti(self, mti: str) -> bytes:
        """A message type of four digits as it is written."""
        return bytes.fromhex(mti) if self.mti == "bcd" else mti.encode(TEXTS[self.mti])

    def text_of(self, message: Message, number: int) -> str:
        """A field as text or hexadecimal digits, its parts put together again."""
        return self.fields.content(number, message[number], message.mti)
