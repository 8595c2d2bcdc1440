"""Reads rows of test vectors: JSON by name and type, with a reason for everything that is no row. Pure.

Whatever bytes a line has, reading it gives a value or `Unreadable`, never another exception.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from sts.derivation import VendingKey
from sts.errors import Fault, KeyRefused
from sts.meterkey import MeterKey
from sts.numbers import MeterNumber

LINE_BYTES_MAX: Final = 100_000
"""A longer line is no row."""

# Requests of one row at most: a row with a list must not keep the test busy for ever.
_REQUESTS_MAX: Final = 1_000


class Unreadable(Exception):
    """This is no row, or none that is computed here; `why` names the place."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why: Final = why


class Differs(Exception):
    """A row says one thing and this program another; raised where that is no matter of a field of `expected`."""

    def __init__(self, field: str, expected: object, got: object, why: str | None = None) -> None:
        super().__init__(field)
        self.field: Final = field
        self.expected: Final = expected
        self.got: Final = got
        self.why: Final = why


def parsed(line: bytes) -> object:
    """The JSON value in one line of a file."""
    if len(line) > LINE_BYTES_MAX:
        raise Unreadable(f"at most {LINE_BYTES_MAX} bytes a line expected")
    try:
        return json.loads(line.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Unreadable("UTF-8 text expected") from None
    except (ValueError, RecursionError):
        raise Unreadable("a JSON object expected") from None


def named(text: str) -> str:
    """A member's name as a message may repeat it."""
    return text if len(text) <= 40 and text.isprintable() else "(a strange name)"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unreadable("each name once in a JSON object expected")
    return members


def _no_constant(_: str) -> NoReturn:
    raise Unreadable("NaN and Infinity are no JSON")


class Inputs:
    """The members of an object by name and type; remembers which were asked for. `outer` serves what is not here."""

    def __init__(self, members: object, path: str, outer: "Inputs | None" = None) -> None:
        if not isinstance(members, dict):
            raise Unreadable(f"{path}: an object expected")
        self._members: Final[dict[str, Any]] = members
        self._path: Final = path
        self._outer: Final = outer
        self._asked: Final[set[str]] = set()
        self._inner: Final[list[Inputs]] = []

    def has(self, name: str) -> bool:
        """Is there such a member, here or outside?"""
        return name in self._members or (self._outer is not None and self._outer.has(name))

    def text(self, name: str) -> str:
        value = self._value(name)
        if not isinstance(value, str):
            raise self._unreadable(name, "a text")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        if default is not None and not self.has(name):
            return default
        value = self._value(name)
        if type(value) is not int:
            raise self._unreadable(name, "an integer")
        return value

    def bit(self, name: str) -> bool:
        """A member that is 0 or 1, 0 if it is missing."""
        number = self.number(name, 0)
        if number not in (0, 1):
            raise self._unreadable(name, "0 or 1")
        return bool(number)

    def truth(self, name: str) -> bool:
        value = self._value(name)
        if not isinstance(value, bool):
            raise self._unreadable(name, "true or false")
        return value

    def octets(self, name: str, length: int | None = None) -> bytes:
        text = self.text(name)
        try:
            # bytes.fromhex takes spaces; a row has none.
            octets = bytes.fromhex(text) if text.isascii() and (text.isalnum() or not text) else None
        except ValueError:
            octets = None
        if octets is None or (length is not None and len(octets) != length):
            raise self._unreadable(name, "hex digits" if length is None else f"{length} bytes in hex digits")
        return octets

    def block(self, name: str) -> int:
        """A 64-bit block."""
        return int.from_bytes(self.octets(name, 8), "big")

    def moment(self, name: str) -> datetime:
        return self._moment(name, self.text(name))

    def moments(self, name: str) -> list[datetime]:
        value = self._value(name)
        if not isinstance(value, list) or len(value) > _REQUESTS_MAX:
            raise self._unreadable(name, f"an array of at most {_REQUESTS_MAX} times")
        return [self._moment(name, item) for item in value]

    def inner(self, name: str) -> "Inputs":
        """The object inside, which takes from here what it does not have itself."""
        inner = Inputs(self._value(name), f"{self._path}.{name}", self)
        self._inner.append(inner)
        return inner

    def left(self) -> list[str]:
        """Paths of the members that nobody asked for; notes are for people."""
        here = [f"{self._path}.{named(name)}" for name in self._members if name not in self._asked | {"note"}]
        return here + [path for inner in self._inner for path in inner.left()]

    def _value(self, name: str) -> object:
        if name in self._members:
            self._asked.add(name)
            return self._members[name]
        if self._outer is not None:
            return self._outer._value(name)
        raise Unreadable(f"{self._path}.{name}: missing")

    def _moment(self, name: str, text: object) -> datetime:
        try:
            parsed = datetime.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:
            parsed = None
        if parsed is None:
            raise self._unreadable(name, "an ISO 8601 time")
        # Rows without a zone mean the base date's own, here UTC.
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)

    def _unreadable(self, name: str, wanted: str) -> Unreadable:
        return Unreadable(f"{self._path}.{name}: {wanted} expected")


# --- what a row's inputs name -----------------------------------------------------------------------------------------


def handle_of(inputs: Inputs) -> MeterKey:
    """The MeterKey of a row. Rows without a base date use DKGA02, whose keys do not depend on it."""
    return MeterKey(
        drn=inputs.text("drn"),
        iin=inputs.text("iin"),
        supply_group=inputs.text("sgc"),
        key_type=inputs.number("key_type"),
        tariff_index=inputs.text("ti"),
        key_revision=inputs.number("krn"),
        key_expiry=inputs.number("ken"),
        base_date=inputs.number("base_date", 1993),
        ea=inputs.number("ea"),
        dkga=inputs.number("dkga"),
    )


def vending_key_of(inputs: Inputs) -> VendingKey:
    """The vending key of a row; refuses what is no key as a key store would."""
    inputs.text("vending_key_hex")
    try:
        raw = inputs.octets("vending_key_hex")
    except Unreadable as fault:
        # A key that is no key is one of the things a row may want to see refused.
        raise KeyRefused(Fault.FORMAT, fault.why) from None
    return VendingKey(inputs.number("dkga"), raw)


def check_pan(inputs: Inputs) -> None:
    """Raise Differs unless PAN, issuer and meter number belong together."""
    pan, number = inputs.text("pan"), MeterNumber(inputs.text("drn"))
    if pan != number.pan:
        raise Differs("inputs.pan", pan, number.pan)
    if MeterNumber.from_pan(pan) != number or inputs.text("iin") != number.iin:
        raise Differs("inputs.iin", inputs.text("iin"), number.iin)
