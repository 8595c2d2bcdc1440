"""What may stand in a field of the settings: ranges, forms of texts, secrets. Data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, get_type_hints


@dataclass(frozen=True, slots=True)
class Between:
    """A number from `low` to `high`, both allowed."""

    low: int | float
    high: int | float


@dataclass(frozen=True, slots=True)
class Text:
    """A text of `shortest` to `longest` characters; where `pattern` is set the whole text matches it.

    `like` describes the pattern in the reader's words.
    """

    shortest: int
    longest: int
    pattern: str = ""
    like: str = ""


class Secret:
    """A text that is never shown by accident: `reveal()` gives it, everything else gives asterisks."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one call that needs it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


NO_SECRET: Final = Secret("")

# A day is the longest wait that makes sense for any of them; a larger number is a slip of units (milliseconds).
Seconds = Annotated[float, Between(0.001, 86_400)]
Count = Annotated[int, Between(1, 10_000_000)]
Name = Annotated[str, Text(1, 40, r"[A-Za-z0-9][A-Za-z0-9_.-]*", "letters, digits, dots, dashes and underscores")]
FilePath = Annotated[str, Text(0, 4096)]
Networks = Annotated[str, Text(0, 4096)]  # addresses and networks, separated by blanks: "196.201.214.0/24 10.0.0.5"


def hints_of(kind: type) -> Mapping[str, Any]:
    """What may stand in each field of a class of settings, by name; read once a class, because that takes long."""
    return _hints_of(kind)


@cache
def _hints_of(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)
