"""One field: bytes to a value and back, in every encoding. Pure.

Reading is strict: a length prefix is digits and nothing else, a filler is the one agreed, content is of its kind. So
what is read is written as the same bytes again.

Source of the encodings and their traps: ISO 8583:1987, 4; the dialects of public packagers (docs/iso8583.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from channels.iso8583.errors import DecodeError, EncodeError, Fault
from channels.iso8583.notation import Content, Format, Kind, content_of

# What a profile may say, and the Python codec that it means. All map single bytes to single characters and back.
TEXTS: Final[Mapping[str, str]] = {
    "ascii": "ascii",
    "latin-1": "latin-1",
    "ebcdic": "cp037",
    "cp037": "cp037",
    "cp500": "cp500",
    "cp1140": "cp1140",
}
LENGTHS: Final = ("ascii", "bcd", "bin", "ebcdic")
NUMBERS: Final = ("text", "bcd")
BINARIES: Final = ("raw", "hex", "ebcdic-hex")
PADDINGS: Final = ("left0", "leftF", "right0", "rightF")
PADDED: Final = ("n", "nvar", "z")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How fields are written: the rules of a packager, or what one field has in their place.

    `odd` names the filler of an odd number of digits in BCD: for n of fixed length, for n of variable length, for z.
    """

    len: str = "ascii"
    text: str = "ascii"
    num: str = "text"
    z: str = "text"
    bin: str = "raw"
    odd: Mapping[str, str] = field(default_factory=lambda: {"n": "left0", "nvar": "left0", "z": "rightF"})
    strict: bool = True

    @property
    def codec(self) -> str:
        """Python's name of the text encoding."""
        return TEXTS[self.text]


def prefix_bytes(encoding: str, digits: int) -> int:
    """Bytes of a length prefix of so many digits. Binary: the fewest bytes that hold what the digits suggest."""
    match encoding:
        case "bcd":
            return (digits + 1) // 2
        case "bin":
            return 1 if digits <= 2 else 2 if digits <= 4 else 3
    return digits


class Prefix:
    """The length of a variable field, written before it."""

    def __init__(self, path: str, form: Format, encoding: str) -> None:
        self._path: Final = path
        self._form: Final = form
        self.encoding: Final = encoding
        self.size: Final = prefix_bytes(encoding, form.prefix)
        # What the prefix itself can say may be less than the field's limit.
        said = 256**self.size - 1 if encoding == "bin" else 10**form.prefix - 1
        self.longest: Final = min(form.length, said)

    def read(self, data: bytes, at: int) -> tuple[int, int]:
        """The length, and where the field begins."""
        raw = data[at : at + self.size]
        if len(raw) < self.size:
            sentence = f"a length of {self.size} bytes expected, got {len(raw)}"
            raise DecodeError(Fault.SHORT, self._path, sentence)
        match self.encoding:
            case "bin":
                length = int.from_bytes(raw, "big")
            case "bcd":
                length = self._number(raw.hex())
            case "ebcdic":
                length = self._number(raw.decode("cp037"))
            case _:
                length = self._number(raw.decode("latin-1"))
        if length > self.longest:
            raise DecodeError(
                Fault.LENGTH, self._path, f"at most {self.longest} {self._form.unit} expected, got a length of {length}"
            )
        return length, at + self.size

    def _number(self, digits: str) -> int:
        # Not int(): it takes signs, blanks and underscores.
        if not (digits.isascii() and digits.isdecimal()):
            raise DecodeError(Fault.LENGTH, self._path, "a length of digits expected, got another character")
        return int(digits)

    def write(self, length: int) -> bytes:
        """The prefix of a length that fits."""
        if self.encoding == "bin":
            return length.to_bytes(self.size, "big")
        if self.encoding == "bcd":
            return bytes.fromhex(f"{length:0{self.size * 2}d}")
        return f"{length:0{self.size}d}".encode("cp037" if self.encoding == "ebcdic" else "ascii")


class Body(ABC):
    """The content of a field, of a length in the format's own unit."""

    def __init__(self, path: str, form: Format, encoding: Encoding) -> None:
        self.path: Final = path
        self.form: Final = form
        self.encoding: Final = encoding
        self.content: Final[Content] = content_of(form.kind, encoding.strict)

    @abstractmethod
    def size(self, length: int) -> int:
        """Bytes that so many digits, characters or bytes take."""

    @abstractmethod
    def decode(self, raw: bytes, length: int) -> str:
        """The value in exactly its bytes."""

    @abstractmethod
    def encode(self, value: str, length: int) -> bytes:
        """The bytes of a value whose content has been looked at."""

    def available(self, size: int) -> int:
        """How many digits, characters or bytes so many bytes hold, for the message about too few."""
        return size

    def checked(self, value: str) -> str:
        """The value, of its kind."""
        if not self.content.fits(value):
            raise DecodeError(Fault.CONTENT, self.path, f"{self.content.words} expected, got another character")
        return value

    def _filler(self, fits: bool) -> None:
        if not fits:
            raise DecodeError(Fault.CONTENT, self.path, "the agreed filler of odd digits expected, got another digit")


class TextBody(Body):
    """Characters, a byte each; digits too where numbers are text. A signed amount has its sign before the digits."""

    def size(self, length: int) -> int:
        return length + (self.form.kind is Kind.XN)

    def available(self, size: int) -> int:
        return max(0, size - (self.form.kind is Kind.XN))

    def decode(self, raw: bytes, length: int) -> str:
        try:
            return self.checked(raw.decode(self.encoding.codec))
        except UnicodeDecodeError:
            raise DecodeError(
                Fault.CONTENT, self.path, f"{self.encoding.text} characters expected, got another byte"
            ) from None

    def encode(self, value: str, length: int) -> bytes:
        try:
            return value.encode(self.encoding.codec)
        except UnicodeEncodeError:
            raise EncodeError(Fault.CONTENT, self.path, f"{self.encoding.text} characters expected") from None


class BcdBody(Body):
    """Digits, two a byte; in track data D is the separator. An odd number is filled up as agreed."""

    def __init__(self, path: str, form: Format, encoding: Encoding) -> None:
        super().__init__(path, form, encoding)
        which = "z" if form.kind is Kind.Z else "n" if form.is_fixed else "nvar"
        padding = encoding.odd[which]
        self.left: Final = padding.startswith("left")
        self.filler: Final = padding[-1]

    def size(self, length: int) -> int:
        return (length + 1) // 2

    def available(self, size: int) -> int:
        return size * 2

    def decode(self, raw: bytes, length: int) -> str:
        digits = raw.hex().upper()
        if length % 2:
            self._filler((digits[0] if self.left else digits[-1]) == self.filler)
            digits = digits[1:] if self.left else digits[:-1]
        if self.form.kind is Kind.Z:
            digits = digits.replace("D", "=")
        rest = digits.replace("=", "") if self.form.kind is Kind.Z else digits
        if rest and not rest.isdecimal():
            words = "digits and separators" if self.form.kind is Kind.Z else "digits"
            raise DecodeError(Fault.CONTENT, self.path, f"{words} expected, got another half byte")
        return digits

    def encode(self, value: str, length: int) -> bytes:
        digits = value.replace("=", "D") if self.form.kind is Kind.Z else value
        rest = digits.replace("D", "") if self.form.kind is Kind.Z else digits
        if rest and not (rest.isdecimal() and rest.isascii()):
            raise EncodeError(Fault.CONTENT, self.path, "digits and separators expected, got another character")
        if length % 2:
            digits = self.filler + digits if self.left else digits + self.filler
        return bytes.fromhex(digits)


class SignedBcdBody(Body):
    """x+n: the sign as one letter, then digits, two a byte."""

    def __init__(self, path: str, form: Format, encoding: Encoding) -> None:
        super().__init__(path, form, encoding)
        self._digits: Final = BcdBody(path, Format(Kind.N, 0, form.length), encoding)

    def size(self, length: int) -> int:
        return 1 + self._digits.size(length)

    def available(self, size: int) -> int:
        return max(0, size - 1) * 2

    def decode(self, raw: bytes, length: int) -> str:
        try:
            sign = raw[:1].decode(self.encoding.codec)
        except UnicodeDecodeError:
            sign = ""
        return self.checked(sign + self._digits.decode(raw[1:], length))

    def encode(self, value: str, length: int) -> bytes:
        return value[:1].encode(self.encoding.codec) + self._digits.encode(value[1:], length)


class BinaryBody(Body):
    """Bytes, as they are or as hexadecimal characters; the value is hexadecimal digits, two a byte."""

    def __init__(self, path: str, form: Format, encoding: Encoding) -> None:
        super().__init__(path, form, encoding)
        self._codec: Final = {"raw": None, "hex": "ascii", "ebcdic-hex": "cp037"}[encoding.bin]

    def size(self, length: int) -> int:
        return length if self._codec is None else length * 2

    def available(self, size: int) -> int:
        return size if self._codec is None else size // 2

    def decode(self, raw: bytes, length: int) -> str:
        if self._codec is None:
            return raw.hex().upper()
        try:
            return self.checked(raw.decode(self._codec))
        except UnicodeDecodeError:
            raise DecodeError(Fault.CONTENT, self.path, "hexadecimal digits expected, got another character") from None

    def encode(self, value: str, length: int) -> bytes:
        return bytes.fromhex(value) if self._codec is None else value.encode(self._codec)


def _body(path: str, form: Format, encoding: Encoding) -> Body:
    match form.kind:
        case Kind.B:
            return BinaryBody(path, form, encoding)
        case Kind.XN if encoding.num == "bcd":
            return SignedBcdBody(path, form, encoding)
        case Kind.N if encoding.num == "bcd":
            return BcdBody(path, form, encoding)
        case Kind.Z if encoding.z == "bcd":
            return BcdBody(path, form, encoding)
    return TextBody(path, form, encoding)


class FieldCodec:
    """One field as a whole, without its sub-fields: prefix and body."""

    __slots__ = ("body", "encoding", "form", "path", "prefix")

    def __init__(self, path: str, form: Format, encoding: Encoding) -> None:
        self.path: Final = path
        self.form: Final = form
        self.encoding: Final = encoding
        self.body: Final = _body(path, form, encoding)
        self.prefix: Final = None if form.is_fixed else Prefix(path, form, encoding.len)

    @property
    def longest(self) -> int:
        """The most digits, characters or bytes it holds."""
        return self.form.length if self.prefix is None else self.prefix.longest

    def read(self, data: bytes, at: int) -> tuple[str, int]:
        """The value that begins here, and where the next field does."""
        if self.prefix is None:
            length = self.form.length
        else:
            length, at = self.prefix.read(data, at)
        body = self.body
        end = at + body.size(length)
        if end > len(data):
            there = body.available(len(data) - at)
            raise DecodeError(Fault.SHORT, self.path, f"{length} {self.form.unit} expected, got {there}")
        return body.decode(data[at:end], length), end

    def write(self, value: str) -> bytes:
        """The bytes of a value, with its length before it."""
        form = self.form
        try:
            self.body.checked(value)
        except DecodeError as error:
            raise EncodeError(error.fault, error.path, error.sentence) from None
        length = len(value) // 2 if form.kind is Kind.B else len(value) - (form.kind is Kind.XN)
        if self.prefix is None:
            if length != form.length:
                raise EncodeError(Fault.LENGTH, self.path, f"{form.length} {form.unit} expected, got {length}")
            return self.body.encode(value, length)
        if length > self.prefix.longest:
            longest = self.prefix.longest
            raise EncodeError(Fault.LENGTH, self.path, f"at most {longest} {form.unit} expected, got {length}")
        return self.prefix.write(length) + self.body.encode(value, length)
