"""One value of the settings: a TOML value or a variable's text becomes what its field's type asks for. Pure.

No message of this module shows more of a value than cannot be a secret.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from config.kinds import Between, Text


@dataclass(frozen=True, slots=True)
class Variable:
    """A text that came from an environment variable: its name for messages, its text still to be converted."""

    name: str
    text: str


class Wrong(Exception):
    """One value cannot be used. `came` is safe to show."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.came = came


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, as the end of a sentence; empty if none is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", perhaps {close[0]}" if close else ""


def kind_of(value: object) -> str:
    """What sort of TOML value this is, in words."""
    names = {
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        dict: "a table",
        list: "a list",
    }
    return names.get(type(value), "a date or time")


def describe(value: object) -> str:
    """A value that cannot be a secret, shown if it is short, else its kind."""
    if isinstance(value, Variable):
        value = value.text
    if isinstance(value, str | int | float):
        shown = repr(value) if isinstance(value, str) else str(value).lower()
        return shown if len(shown) <= 80 else f"{kind_of(value)} of {len(shown)} characters"
    return kind_of(value)


def convert(hint: Any, value: object) -> Any:
    """A TOML value or a variable's text as the field's type, inside its range. Raises Wrong."""
    limits = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    kind = get_args(hint)[0] if limits else hint
    if get_origin(kind) is Literal:
        text = value.text if isinstance(value, Variable) else value
        allowed = get_args(kind)
        if text not in allowed:
            close = suggestion(text, allowed) if isinstance(text, str) else ""
            raise Wrong("one of " + ", ".join(allowed) + close, describe(value))
        return text
    limit = limits[0] if limits else None
    converted = _CONVERTERS[kind](value, _expected(kind, limit))
    if isinstance(limit, Between) and not limit.low <= converted <= limit.high:
        raise Wrong(_expected(kind, limit), describe(value))
    if isinstance(limit, Text):
        fits = limit.shortest <= len(converted) <= limit.longest
        if not fits or "\0" in converted or (limit.pattern and not re.fullmatch(limit.pattern, converted)):
            # A text may be an address with a password in it: only its length is shown where no pattern bounds it.
            came = describe(value) if limit.pattern else f"{len(converted)} characters"
            raise Wrong(_expected(kind, limit), came)
    return converted


def _expected(kind: type, limit: Between | Text | None) -> str:
    """What a field takes, in words."""
    words = {int: "a whole number", float: "a number", Decimal: "a decimal number in quotes", str: "text in quotes"}
    if isinstance(limit, Between):
        return f"{words[kind]} from {limit.low} to {limit.high}"
    if isinstance(limit, Text):
        length = f"{limit.shortest} to {limit.longest}" if limit.shortest < limit.longest else f"{limit.longest}"
        return f"{limit.like}, {length} characters" if limit.like else f"text of {length} characters"
    return words.get(kind, "true or false")


def _whole(value: object, expected: str) -> int:
    if isinstance(value, Variable) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.text.strip()):
        return int(value.text)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Wrong(expected, describe(value))


def _number(value: object, expected: str) -> float:
    found: object = value
    if isinstance(value, Variable) and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", value.text.strip()):
        found = float(value.text)
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        return float(found)
    raise Wrong(expected, describe(value))


def _decimal(value: object, expected: str) -> Decimal:
    text = value.text if isinstance(value, Variable) else value
    if isinstance(text, int) and not isinstance(text, bool):
        return Decimal(text)
    # No float: 0.1 in binary is not a tenth, and percents must be exact.
    if isinstance(text, str):
        try:
            found = Decimal(text.strip())
        except InvalidOperation:
            found = Decimal("NaN")
        if found.is_finite():
            return found
    raise Wrong(expected, describe(value))


def _text(value: object, expected: str) -> str:
    text = value.text if isinstance(value, Variable) else value
    if isinstance(text, str):
        return text
    raise Wrong(expected, describe(value))


def _yes_or_no(value: object, expected: str) -> bool:
    if isinstance(value, Variable):
        answer = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}.get(value.text.lower())
        if answer is not None:
            return answer
    elif isinstance(value, bool):
        return value
    raise Wrong(expected, describe(value))


_CONVERTERS: Final[Mapping[type, Callable[[object, str], Any]]] = {
    int: _whole,
    float: _number,
    Decimal: _decimal,
    str: _text,
    bool: _yes_or_no,
}
