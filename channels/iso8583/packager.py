"""A dialect's packager: bytes to messages and back. Pure.

Reading and writing go field by field, which names every fault; bitmaps that were read or written before go through a
plan compiled for them (`plans.py`), which gives the same or nothing at all, and then the slow way decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from channels.iso8583 import plans
from channels.iso8583.bitmap import Bitmap
from channels.iso8583.errors import DecodeError, EncodeError, Fault
from channels.iso8583.fields import TEXTS, Encoding, FieldCodec
from channels.iso8583.message import Message, Parts, Value
from channels.iso8583.notation import Kind
from channels.iso8583.structures import Structure

MTIS: Final = ("ascii", "bcd", "ebcdic")


@dataclass(frozen=True, slots=True)
class FieldSet:
    """A bitmap and the fields it announces: a whole message behind its type, or a field such as Postilion's 127."""

    bitmap: Bitmap
    codecs: Mapping[int, FieldCodec]
    structures: Mapping[int, Structure]
    path: str = ""
    third_in_65: bool = False
    """Bits 129 to 192 stand in the data of field 65 instead of behind the second bitmap."""

    def at(self, number: int) -> str:
        """The path of a field."""
        return f"{self.path}.{number}" if self.path else f"field {number}"

    def read(self, data: bytes, at: int, mti: str) -> tuple[dict[int, Value], int, int]:
        """The fields, the bitmap's form, and where they end."""
        numbers, form, at = self.bitmap.read(data, at)
        values: dict[int, Value] = {}
        at = self._read(numbers, data, at, mti, values)
        if self.third_in_65 and 65 in values:
            third = int(str(values[65]), 16)
            if third >> 63 or not third or not str(values[65]).isupper() and not str(values[65]).isdecimal():
                raise DecodeError(Fault.BITMAP, self.at(65), "a third bitmap with bits 130 to 192 expected")
            del values[65]
            at = self._read(
                [number for number in range(130, 193) if third >> (192 - number) & 1], data, at, mti, values
            )
        return values, form, at

    def _read(self, numbers: Iterable[int], data: bytes, at: int, mti: str, values: dict[int, Value]) -> int:
        for number in numbers:
            text, at = self._codec(number).read(data, at)
            structure = self.structures.get(number)
            values[number] = text if structure is None else structure.parse(text, mti)
        return at

    def _codec(self, number: int) -> FieldCodec:
        codec = self.codecs.get(number)
        if codec is None:
            raise DecodeError(Fault.UNKNOWN_FIELD, self.at(number), "the profile has no such field")
        return codec

    def read_until(self, data: bytes, at: int, mti: str) -> dict[int, Value]:
        """The fields before the first fault; the bitmap must be readable."""
        numbers, _, at = self.bitmap.read(data, at)
        values: dict[int, Value] = {}
        try:
            self._read(numbers, data, at, mti, values)
        except DecodeError:
            pass  # whoever asks has met it before
        return values

    def write(self, values: Mapping[int, Value], form: int, mti: str) -> bytes:
        """The bitmap and the fields."""
        numbers = sorted(values)
        pieces = {number: self._write(number, values[number], mti) for number in numbers}
        if self.third_in_65 and numbers and numbers[-1] > 128:
            third = sum(1 << (192 - number) for number in numbers if number > 128)
            pieces[65] = self._write(65, f"{third:016X}", mti)
            numbers = [*(number for number in numbers if number <= 128), 65]
        return self.bitmap.write(numbers, form) + b"".join(pieces[number] for number in sorted(pieces))

    def _write(self, number: int, value: Value, mti: str) -> bytes:
        codec = self.codecs.get(number)
        if codec is None:
            raise EncodeError(Fault.UNKNOWN_FIELD, self.at(number), "the profile has no such field")
        return codec.write(self.content(number, value, mti))

    def content(self, number: int, value: Value, mti: str) -> str:
        """A value as the text or hexadecimal digits that its field holds."""
        structure = self.structures.get(number)
        if isinstance(value, Parts):
            if structure is None:
                raise EncodeError(Fault.STRUCTURE, self.at(number), "text expected, got parts")
            return structure.build(value, mti)
        if not isinstance(value, str):
            raise EncodeError(Fault.CONTENT, self.at(number), "text expected")
        if structure is not None:
            structure.parse(value, mti)  # text in place of parts must be what the parts would give
        return value


class NestedBitmap:
    """A field that is a bitmap with fields of its own (Postilion's 127). Tags are the numbers."""

    def __init__(self, codec: FieldCodec, inside: FieldSet) -> None:
        self._codec: Final = codec
        self._inside: Final = inside

    def parse(self, content: str, mti: str) -> Parts:
        """The fields inside."""
        data = bytes.fromhex(content) if self._is_bytes else content.encode(self._codec.encoding.codec)
        values, form, at = self._inside.read(data, 0, mti)
        if at != len(data):
            raise DecodeError(Fault.LEFT_OVER, self._inside.path, f"{at} bytes expected, got {len(data)}")
        if form or (self._is_bytes and content != content.upper()):
            raise DecodeError(Fault.BITMAP, f"{self._inside.path}.bitmap", "the shortest bitmap, in capitals, expected")
        return Parts((str(number), value) for number, value in values.items())

    def build(self, parts: Parts, mti: str) -> str:
        """The content."""
        values: dict[int, Value] = {}
        for tag, value in parts:
            number = int(tag) if tag.isascii() and tag.isdecimal() else 0
            if number in values:
                raise EncodeError(Fault.STRUCTURE, self._inside.at(number), "expected once")
            values[number] = value
        data = self._inside.write(values, 0, mti)
        return data.hex().upper() if self._is_bytes else data.decode(self._codec.encoding.codec)

    @property
    def _is_bytes(self) -> bool:
        return self._codec.form.kind is Kind.B


@dataclass(frozen=True, slots=True)
class Packager:
    """Bytes to messages and back, for one dialect.

    `header` bytes before the message type are kept as they are (a Visa or Base24 header).
    """

    mti: str
    header: int
    fields: FieldSet
    encoding: Encoding
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

    @property
    def mti_bytes(self) -> int:
        """How many bytes the message type takes."""
        return 2 if self.mti == "bcd" else 4

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
