"""Tables of a profile file, read by name and type; every fault is noted with its path, none ends the reading. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.values import describe, kind_of, suggestion


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a profile: where, what was expected, what came."""

    where: str
    expected: str
    came: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}; came {self.came}"


class ProfileFaults(Exception):
    """A profile cannot be used. `faults` holds every fault found."""

    def __init__(self, name: str, faults: Iterable[Fault]) -> None:
        self.faults: Final = tuple(faults)
        count = len(self.faults)
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"profile {name}: {count} fault{'' if count == 1 else 's'}\n{lines}")


class Table:
    """One table; remembers which of its members were asked for."""

    def __init__(self, members: object, path: str, faults: list[Fault]) -> None:
        self.path: Final = path
        self.faults: Final = faults
        self._asked: Final[set[str]] = set()
        self._members: Final[Mapping[str, Any]] = members if isinstance(members, Mapping) else {}
        if not isinstance(members, Mapping):
            faults.append(Fault(path or "profile", "a table", kind_of(members)))

    def at(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def fault(self, name: str, expected: str, came: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(self.at(name), expected, came))

    def has(self, name: str) -> bool:
        """Is there such a member?"""
        return name in self._members

    def value(self, name: str) -> Any:
        """A member as it is; None if there is none."""
        self._asked.add(name)
        return self._members.get(name)

    def names(self) -> list[str]:
        """The names of all members, which are thereby asked for."""
        self._asked.update(self._members)
        return list(self._members)

    def text(self, name: str, default: str = "", choices: Iterable[str] = ()) -> str:
        """A text, one of the choices if there are any."""
        value = self.value(name)
        if value is None:
            return default
        allowed = tuple(choices)
        if not isinstance(value, str):
            self.fault(name, "text in quotes", describe(value))
            return default
        if allowed and value not in allowed:
            self.fault(name, f"one of {', '.join(allowed)}{suggestion(value, allowed)}", describe(value))
            return default
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number inside a range."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fault(name, f"a whole number from {low} to {high}", describe(value))
            return default
        return value

    def truth(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(name, "true or false", describe(value))
            return default
        return value

    def texts(self, name: str, default: Iterable[str] = ()) -> tuple[str, ...]:
        """A list of texts; one text alone is a list of one."""
        value = self.value(name)
        if value is None:
            return tuple(default)
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(name, "a list of texts", describe(value))
            return tuple(default)
        return tuple(value)

    def numbers(self, name: str, default: Iterable[int] = ()) -> tuple[int, ...]:
        """A list of field numbers, each once."""
        value = self.value(name)
        if value is None:
            return tuple(default)
        if not isinstance(value, list) or not all(type(item) is int and 2 <= item <= 192 for item in value):
            self.fault(name, "a list of field numbers from 2 to 192", describe(value))
            return tuple(default)
        if len(set(value)) != len(value):
            self.fault(name, "each field once", "a field twice")
        return tuple(value)

    def table(self, name: str) -> Table:
        """A table inside; empty if there is none."""
        value = self.value(name)
        return Table({} if value is None else value, self.at(name), self.faults)

    def tables(self, name: str) -> list[Table]:
        """A list of tables."""
        value = self.value(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fault(name, "a list of tables", kind_of(value))
            return []
        return [Table(item, f"{self.at(name)}[{index}]", self.faults) for index, item in enumerate(value, start=1)]

    def nothing_else(self) -> None:
        """Note every member that nobody asked for."""
        for name in self._members:
            if name not in self._asked:
                self.fault(name, f"no such setting{suggestion(name, self._asked)}", "a setting of this name")


def field_number(text: str, highest: int = 192) -> int:
    """A field's number as a key of a table; 0 if it is none."""
    fits = text.isascii() and text.isdecimal() and len(text) <= 3 and not text.startswith("0")
    return int(text) if fits and 2 <= int(text) <= highest else 0
