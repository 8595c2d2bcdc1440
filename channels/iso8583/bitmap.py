"""Bitmaps: which fields follow. Pure.

Forms: `bin` 8 bytes, `hex` and `ebcdic-hex` 16 characters, again for bit 1; `hex32` and `bin16` always of 128 bits
and bit 1 clear (the dialect of one public library). A third bitmap may stand behind the second, announced by bit 65.

Hexadecimal digits are taken in either case, but not mixed. A second or third bitmap without a bit in it is taken too.
Both are kept in a message's `form`, so that it is written as the same bytes again: form is 0, or the number of 64-bit
blocks, plus 8 for lower case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from channels.iso8583.errors import DecodeError, EncodeError, Fault

KINDS: Final = ("hex", "bin", "ebcdic-hex", "hex32", "bin16")
LOWER: Final = 8
_BLOCK: Final = 64
_PATH: Final = "bitmap"


class Bitmap:
    """Reads and writes bitmaps of one kind. `third`: bit 65 announces a third one behind the second."""

    def __init__(self, kind: str, *, third: bool = False, path: str = "") -> None:
        self.kind: Final = kind
        self.is_fixed: Final = kind in ("hex32", "bin16")
        self.third: Final = third and not self.is_fixed
        self.codec: Final = {"hex": "ascii", "hex32": "ascii", "ebcdic-hex": "cp037"}.get(kind)
        self.block_bytes: Final = 8 if self.codec is None else 16
        self._path: Final = f"{path}.{_PATH}" if path else _PATH

    @property
    def highest(self) -> int:
        """The highest field it can announce."""
        return 192 if self.third else 128

    def read(self, data: bytes, at: int) -> tuple[list[int], int, int]:
        """The fields announced (without the bits that announce bitmaps), the form, and where the first field begins."""
        if self.is_fixed:
            bits, at, lower = self._blocks(data, at, 2)
            if bits >> 127:
                raise DecodeError(Fault.BITMAP, self._path, "bit 1 clear expected in a bitmap of 128 bits")
            return _numbers(bits, 2), LOWER if lower else 0, at
        bits, blocks, lower = 0, 0, None
        while True:
            more, at, is_lower = self._blocks(data, at, 1)
            if lower is not None and is_lower is not None and lower is not is_lower:
                raise self._mixed()
            lower = is_lower if lower is None else lower
            bits, blocks = bits << _BLOCK | more, blocks + 1
            announced = more >> (_BLOCK - 1)
            if not announced or blocks == (3 if self.third else 2):
                break
        if announced and blocks == 3:
            raise DecodeError(Fault.BITMAP, self._path, "bit 129 clear expected: there is no fourth bitmap")
        return self._read(bits, blocks, lower, at)

    def _read(self, bits: int, blocks: int, lower: bool | None, at: int) -> tuple[list[int], int, int]:
        numbers = [number for number in _numbers(bits, blocks) if not (self.third and number == 65)]
        form = 0 if blocks == _blocks_of(numbers) else blocks
        return numbers, form | (LOWER if lower else 0), at

    def _blocks(self, data: bytes, at: int, count: int) -> tuple[int, int, bool | None]:
        """The bits of some blocks, where they end, and whether letters were small (None: there were none)."""
        end = at + self.block_bytes * count
        raw = data[at:end]
        if len(raw) < self.block_bytes * count:
            sentence = f"{self.block_bytes * count} bytes expected, got {len(raw)}"
            raise DecodeError(Fault.SHORT, self._path, sentence)
        if self.codec is None:
            return int.from_bytes(raw, "big"), end, None
        text = raw.decode("cp037" if self.codec == "cp037" else "latin-1")
        if not set(text) <= _HEX:
            raise DecodeError(Fault.BITMAP, self._path, "hexadecimal digits expected, got another character")
        if text != text.upper() and text != text.lower():
            raise self._mixed()
        return int(text, 16), end, None if text.isdecimal() else text == text.lower()

    def _mixed(self) -> DecodeError:
        return DecodeError(Fault.BITMAP, self._path, "hexadecimal letters of one case expected")

    def write(self, numbers: Iterable[int], form: int = 0) -> bytes:
        """The bitmap of these fields."""
        bits, highest = 0, 0
        for number in numbers:
            if not 2 <= number <= self.highest or (self.third and number == 65):
                raise EncodeError(Fault.UNKNOWN_FIELD, f"field {number}", "no bit of this bitmap stands for it")
            bits |= 1 << (192 - number)
            highest = max(highest, number)
        if self.is_fixed:
            blocks = 2
        else:
            blocks = max(_blocks_of([highest]), form & 3 if form & 3 <= (3 if self.third else 2) else 0)
            for block in range(1, blocks):
                bits |= 1 << (192 - (1 + _BLOCK * (block - 1)))
        raw = (bits >> (192 - _BLOCK * blocks)).to_bytes(8 * blocks, "big")
        if self.codec is None:
            return raw
        text = raw.hex() if form & LOWER else raw.hex().upper()
        return text.encode(self.codec)


_HEX: Final = frozenset("0123456789ABCDEFabcdef")


def _numbers(bits: int, blocks: int) -> list[int]:
    """The numbers whose bits are set, but bit 1."""
    size = _BLOCK * blocks
    return [number for number in range(2, size + 1) if bits >> (size - number) & 1]


def _blocks_of(numbers: list[int]) -> int:
    highest = max(numbers, default=0)
    return 1 if highest <= 64 else 2 if highest <= 128 else 3
