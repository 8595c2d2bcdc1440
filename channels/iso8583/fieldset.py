"""The fields behind a bitmap: a whole message behind its type, or a field that has a bitmap of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from channels.iso8583.bitmap import Bitmap
from channels.iso8583.errors import DecodeError, EncodeError, Fault
from channels.iso8583.fields import Encoding, FieldCodec
from channels.iso8583.message import Parts, Value
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
class Shape:
    """How the messages of a dialect are laid out: all that a packager and its plans are made of.

    `header` bytes before the message type are kept as they are (a Visa or Base24 header).
    """

    mti: str
    header: int
    fields: FieldSet
    encoding: Encoding

    @property
    def mti_bytes(self) -> int:
        """How many bytes the message type takes."""
        return 2 if self.mti == "bcd" else 4
