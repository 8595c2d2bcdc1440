"""A message: its type and its fields. Pure.

A message does not change. Its representation names the fields it has and shows none of their values, so that one in a
log line, an exception or a failed assertion gives no card number away; `describe.py` shows what people may see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

__all__ = ["Message", "Parts", "Value"]


class Parts:
    """The sub-fields of a field, in their order: (tag, value) pairs. A tag may come again.

    Tags are texts as the wire or the profile gives them: "01" of a TLV, "22" of a nested bitmap, a name of a fixed
    position. A value is a text or again parts.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, Value]]) -> None:
        self._pairs: Final = tuple(pairs)

    def get(self, tag: str) -> Value | None:
        """The first value under a tag, or None."""
        for name, value in self._pairs:
            if name == tag:
                return value
        return None

    def all(self, tag: str) -> list[Value]:
        """Every value under a tag."""
        return [value for name, value in self._pairs if name == tag]

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parts) and self._pairs == other._pairs

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return f"<Parts {' '.join(name for name, _ in self._pairs)}>"


Value: TypeAlias = str | Parts
"""Text as the profile's kind says; bytes as hexadecimal digits; a field with sub-fields as `Parts`."""


class Message:
    """One message: message type, fields by number, and the header before it where the profile has one.

    `form` says how the bitmap was written where that is not the usual way (see `bitmap.py`), so that a message read is
    written as the same bytes again; 0 for messages of one's own.
    """

    __slots__ = ("_fields", "form", "header", "mti")

    def __init__(self, mti: str, fields: Mapping[int, Value], header: bytes = b"", form: int = 0) -> None:
        self.mti: Final = mti
        self._fields: Final = dict(fields)
        self.header: Final = header
        self.form: Final = form

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of its fields, rising."""
        return tuple(sorted(self._fields))

    def __contains__(self, number: object) -> bool:
        return number in self._fields

    def __getitem__(self, number: int) -> Value:
        return self._fields[number]

    def items(self) -> list[tuple[int, Value]]:
        """Number and value of each field, by rising number."""
        return sorted(self._fields.items(), key=lambda item: item[0])

    def get(self, path: str | int) -> str | None:
        """The text at a path ("4", "48.01", "127.22.name"), the first where it repeats; None if there is none."""
        number, _, tags = str(path).partition(".")
        value: Value | None = self._fields.get(int(number))
        for tag in tags.split(".") if tags else ():
            value = value.get(tag) if isinstance(value, Parts) else None
        return value if isinstance(value, str) else None

    def all(self, path: str) -> list[str]:
        """Every text at a path, in order: the tokens of "62.20"."""
        number, _, tags = path.partition(".")
        found: list[Value] = [self._fields[int(number)]] if int(number) in self._fields else []
        for tag in tags.split(".") if tags else ():
            found = [value for parts in found if isinstance(parts, Parts) for value in parts.all(tag)]
        return [value for value in found if isinstance(value, str)]

    def having(self, fields: Mapping[int, Value]) -> Message:
        """The same message with these fields set."""
        return Message(self.mti, self._fields | dict(fields), self.header, self.form)

    def without(self, numbers: Iterable[int]) -> Message:
        """The same message without these fields: what may be kept of it."""
        left = {number: value for number, value in self._fields.items() if number not in set(numbers)}
        return Message(self.mti, left, self.header, self.form)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self._same() == other._same()

    def __hash__(self) -> int:
        return hash((self.mti, self.numbers))

    def _same(self) -> tuple[object, ...]:
        return self.mti, self._fields, self.header, self.form

    def __repr__(self) -> str:
        return f"<Message {self.mti} fields {' '.join(map(str, self.numbers))}>"
