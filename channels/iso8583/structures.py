"""Fields inside a field: TLV, fixed positions, name-value pairs, a nested bitmap. Pure.

A structure turns the content of its field (text, or hexadecimal digits for bytes) into `Parts` and back. It must fill
its field exactly; a part has a format where the profile gives one, and its path is the field's with the tag behind it.

BER-TLV (EMV data, DE55) is not taken apart: a token vend needs none of it, and it is never kept or shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from channels.iso8583.errors import DecodeError, EncodeError, Fault
from channels.iso8583.message import Parts, Value
from channels.iso8583.notation import Content, Format, Kind, content_of

REST: Final = "rest"
"""Instead of a format: whatever is left, printable; the last position only."""

# A hostile length must not make us count for ever.
PARTS_MAX: Final = 1_000
_HEADS_MAX: Final = 4_096


class Structure(Protocol):
    """What every structure can do. `mti` chooses the layout where a profile has several."""

    def parse(self, content: str, mti: str) -> Parts:
        """The parts; raises DecodeError."""
        ...

    def build(self, parts: Parts, mti: str) -> str:
        """The content; raises EncodeError."""
        ...


@dataclass(frozen=True, slots=True)
class PartFormat:
    """What one part may hold: one of some formats ("n11|n13")."""

    choices: tuple[Format, ...]
    contents: tuple[Content, ...]

    @classmethod
    def of(cls, choices: Sequence[Format], strict: bool) -> PartFormat:
        """The choices with what their kinds hold."""
        return cls(tuple(choices), tuple(content_of(choice.kind, strict) for choice in choices))

    def test_of(self, length: int) -> Callable[[str], bool]:
        """A quick test of values of one length: false where `fault_in` has to look."""
        fitting = [
            (choice, content)
            for choice, content in zip(self.choices, self.contents, strict=True)
            if length == choice.characters or (not choice.is_fixed and length <= choice.characters)
        ]
        if len(fitting) != 1 or not length:
            return lambda value: self.fault_in(value) is None
        choice, content = fitting[0]
        # Digits of other scripts are decimal too, but nothing read is in them, and nothing written can be encoded.
        return str.isdecimal if choice.kind is Kind.N else content.fits

    def fault_in(self, value: str) -> tuple[Fault, str] | None:
        """What is wrong with a value, in words without the value; None if it fits."""
        size = len(value)
        for choice, content in zip(self.choices, self.contents, strict=True):
            longest = choice.characters
            if size == longest or (not choice.is_fixed and size <= longest):
                if content.fits(value):
                    return None
                return Fault.CONTENT, f"{content.words} expected, got another character"
        unit = self.choices[0].unit
        lengths = " or ".join(f"{'' if each.is_fixed else 'at most '}{each.length}" for each in self.choices)
        return Fault.LENGTH, f"{lengths} {unit} expected, got {size}"


def _check_read(path: str, part: PartFormat | None, value: str) -> None:
    if part is not None and (fault := part.fault_in(value)) is not None:
        raise DecodeError(fault[0], path, fault[1])


def _text_of(path: str, part: PartFormat | None, value: Value) -> str:
    """A part's value as text of its format, to be written."""
    if not isinstance(value, str):
        raise EncodeError(Fault.STRUCTURE, path, "text expected, got parts")
    if part is not None and (fault := part.fault_in(value)) is not None:
        raise EncodeError(fault[0], path, fault[1])
    return value


class Tlv:
    """Tag, length, value, again and again: tag and length of so many characters, the length in digits.

    Tags that the profile does not name are taken as they are, unless `others` is false.
    """

    def __init__(self, path: str, tag: int, length: int, tags: Mapping[str, PartFormat | None], others: bool) -> None:
        self._path: Final = path
        self._tag: Final = tag
        self._length: Final = length
        self._tags: Final = dict(tags)
        self._others: Final = others
        # Tag and length as they come, with the length as a number and the test of such a value: heads come again.
        self._heads: Final[dict[str, tuple[str, int, Callable[[str], bool]]]] = {}

    def knows(self, tag: str) -> bool:
        """May there be such a part?"""
        return tag in self._tags or (self._others and len(tag) == self._tag)

    def part(self, tag: str) -> PartFormat | None:
        """The format of a part, if it has one."""
        return self._tags.get(tag)

    def parse(self, content: str, mti: str) -> Parts:
        """The parts, in the order they came in."""
        pairs: list[tuple[str, Value]] = []
        at, end, head_size, heads = 0, len(content), self._tag + self._length, self._heads
        while at < end:
            begin = at + head_size
            head = content[at:begin]
            tag, length, fits = heads.get(head) or self._head(head)
            at = begin + length
            value = content[begin:at]
            if at > end:
                raise DecodeError(Fault.STRUCTURE, self._at(tag), f"{length} characters expected, got {len(value)}")
            if not fits(value):
                part = self._tags.get(tag)
                fault = None if part is None else part.fault_in(value)
                if fault is not None:
                    raise DecodeError(fault[0], self._at(tag), fault[1])
            pairs.append((tag, value))
        if len(pairs) > PARTS_MAX:
            raise DecodeError(Fault.STRUCTURE, self._path, f"at most {PARTS_MAX} parts expected")
        return Parts(pairs)

    def _head(self, head: str) -> tuple[str, int, Callable[[str], bool]]:
        """A tag and a length that have not come before."""
        tag, digits = head[: self._tag], head[self._tag :]
        if len(digits) != self._length or not (digits.isascii() and digits.isdecimal()):
            sentence = f"a tag of {self._tag} characters and a length of {self._length} digits expected"
            raise DecodeError(Fault.STRUCTURE, self._path, sentence)
        if tag not in self._tags and not (self._others and tag.isalnum() and tag.isascii()):
            raise DecodeError(Fault.STRUCTURE, self._path, "a tag that the profile names expected")
        part, length = self._tags.get(tag), int(digits)
        fits = _no_test if part is None else part.test_of(length)
        if len(self._heads) < _HEADS_MAX:
            self._heads[head] = tag, length, fits
        return tag, length, fits

    def _at(self, tag: str) -> str:
        # A tag that nobody named may be anything, also part of a number.
        return f"{self._path}.{tag}" if tag in self._tags else self._path

    def build(self, parts: Parts, mti: str) -> str:
        """The content."""
        pieces: list[str] = []
        width, heads = self._length, self._heads
        for tag, value in parts:
            head = f"{tag}{len(value):0{width}d}"
            known = heads.get(head)
            if known is None or known[0] != tag or type(value) is not str or not known[2](value):
                self._check(tag, value)
            pieces.append(f"{head}{value}")
        return "".join(pieces)

    def _check(self, tag: str, value: Value) -> None:
        """A part that is to be written; raises EncodeError."""
        if len(tag) != self._tag or (tag not in self._tags and not (self._others and tag.isalnum())):
            raise EncodeError(Fault.STRUCTURE, self._path, f"a tag of {self._tag} characters expected")
        text = _text_of(f"{self._path}.{tag}", self._tags.get(tag), value)
        if len(text) >= 10**self._length:
            sentence = f"a length of {self._length} digits expected, got {len(text)}"
            raise EncodeError(Fault.LENGTH, f"{self._path}.{tag}", sentence)


def _no_test(_: str) -> bool:
    return True


class Pairs:
    """Names with values, each written with the length of its length, its length, and itself (Postilion's 127.22)."""

    def __init__(self, path: str) -> None:
        self._path: Final = path

    def parse(self, content: str, mti: str) -> Parts:
        """The pairs, in their order."""
        pairs: list[tuple[str, Value]] = []
        at = 0
        while at < len(content):
            name, at = self._one(content, at)
            value, at = self._one(content, at)
            pairs.append((name, value))
        if len(pairs) > PARTS_MAX:
            raise DecodeError(Fault.STRUCTURE, self._path, f"at most {PARTS_MAX} parts expected")
        return Parts(pairs)

    def _one(self, content: str, at: int) -> tuple[str, int]:
        size = content[at : at + 1]
        if not (size.isascii() and size.isdecimal() and size != "0"):
            raise DecodeError(Fault.STRUCTURE, self._path, "the length of a length expected, 1 to 9")
        begin = at + 1 + int(size)
        digits = content[at + 1 : begin]
        if len(digits) != int(size) or not (digits.isascii() and digits.isdecimal()):
            raise DecodeError(Fault.STRUCTURE, self._path, f"a length of {size} digits expected")
        # Otherwise it would not be written as the same bytes again.
        if len(digits) > 1 and digits[0] == "0":
            raise DecodeError(Fault.STRUCTURE, self._path, "a length without leading zeros expected")
        end = begin + int(digits)
        if end > len(content):
            raise DecodeError(
                Fault.STRUCTURE, self._path, f"{int(digits)} characters expected, got {len(content) - begin}"
            )
        return content[begin:end], end

    def build(self, parts: Parts, mti: str) -> str:
        """The content."""
        pieces: list[str] = []
        for name, value in parts:
            for text in (name, _text_of(f"{self._path}.{name}", None, value)):
                length = str(len(text))
                pieces.append(f"{len(length)}{length}{text}")
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions one after the other for message types that match; a part of variable length has its prefix."""

    mti: re.Pattern[str]
    parts: tuple[tuple[str, PartFormat | None], ...]
    """Name and format; None stands for whatever is left."""

    @property
    def size(self) -> int | None:
        """How long its content is, if that is always the same."""
        forms = [part.choices[0] if part is not None else None for _, part in self.parts]
        if any(form is None or not form.is_fixed for form in forms):
            return None
        return sum(form.characters for form in forms if form is not None)


# Which layout is taken: first one as long as the content, then one of variable length, then any.
_RANK: Final = {True: 1, False: 2}


class Positions:
    """Fixed positions. Of several layouts for a message type, the one as long as the content is taken.

    A bank that declines often sends less: then there is a short layout beside the long one.
    """

    def __init__(self, path: str, layouts: Sequence[Layout]) -> None:
        self._path: Final = path
        self._layouts: Final = tuple(layouts)
        self._by_mti: Final[dict[str, tuple[Layout, ...]]] = {}

    def knows(self, tag: str) -> bool:
        """May there be such a part?"""
        return any(tag == name for layout in self._layouts for name, _ in layout.parts)

    @property
    def all_layouts(self) -> tuple[Layout, ...]:
        """Every layout."""
        return self._layouts

    def layouts(self, mti: str) -> tuple[Layout, ...]:
        """The layouts for a message type."""
        found = self._by_mti.get(mti)
        if found is None:
            found = tuple(layout for layout in self._layouts if layout.mti.fullmatch(mti))
            self._by_mti[mti] = found  # at most ten thousand message types
        return found

    def parse(self, content: str, mti: str) -> Parts:
        """The parts by their names."""
        layouts = self.layouts(mti)
        if not layouts:
            raise DecodeError(Fault.STRUCTURE, self._path, f"no layout for message type {mti}")
        layout = min(layouts, key=lambda layout: _RANK[layout.size is None] if layout.size != len(content) else 0)
        at, pairs = 0, list[tuple[str, Value]]()
        for name, part in layout.parts:
            path = f"{self._path}.{name}"
            if part is None:
                value, at = content[at:], len(content)
            else:
                form = part.choices[0]
                size = form.characters
                if not form.is_fixed:
                    digits = content[at : at + form.prefix]
                    if len(digits) != form.prefix or not (digits.isascii() and digits.isdecimal()):
                        raise DecodeError(Fault.STRUCTURE, path, f"a length of {form.prefix} digits expected")
                    at, size = at + form.prefix, int(digits)
                value = content[at : at + size]
                if len(value) < size:
                    expected = form.length if form.is_fixed else size
                    raise DecodeError(Fault.STRUCTURE, path, f"{expected} {form.unit} expected, got {len(value)}")
                at += size
            _check_read(path, part, value)
            pairs.append((name, value))
        if at != len(content):
            raise DecodeError(Fault.STRUCTURE, self._path, f"{at} characters expected, got {len(content)}")
        return Parts(pairs)

    def build(self, parts: Parts, mti: str) -> str:
        """The content; every position must be there, in order."""
        names = [name for name, _ in parts]
        layout = next((each for each in self.layouts(mti) if [name for name, _ in each.parts] == names), None)
        if layout is None:
            raise EncodeError(Fault.STRUCTURE, self._path, "every position expected, once and in order")
        pieces: list[str] = []
        for (name, value), (_, part) in zip(parts, layout.parts, strict=True):
            text = _text_of(f"{self._path}.{name}", part, value)
            if part is not None and not part.choices[0].is_fixed:
                pieces.append(f"{len(text):0{part.choices[0].prefix}d}")
            pieces.append(text)
        return "".join(pieces)


def is_text(form: Format) -> bool:
    """Can parts of text stand in a field of this format?"""
    return form.kind not in (Kind.B, Kind.XN, Kind.Z)
