"""A kind of file: its columns, what a line says, and how a record is written as a line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.bulk.lines import Expected
from gateway.bulk.row import Row
from ledger.bulk.kind import Record


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `needed` in every header, or not; `kept`, or known and passed over; written by an export, or not."""

    name: str
    about: str
    needed: bool = False
    kept: bool = True
    exported: bool = True


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of file. `give` writes a record of one of `kinds` as texts by column; money with so many decimals."""

    name: str
    file: str
    about: str
    columns: tuple[Column, ...]
    take: Callable[[Row], None]
    give: Callable[[Record, int], Mapping[str, Any]]
    kinds: tuple[str, ...]  # of `ledger.bulk.kinds`, that an export writes
    gives: tuple[str, ...] = ()  # further ones that lines may speak of
    is_document: bool = False

    @property
    def expected(self) -> Expected:
        """What a file's header may and must hold."""
        return Expected(
            [column.name for column in self.columns],
            [column.name for column in self.columns if column.needed],
            self.is_document,
        )

    @property
    def exported(self) -> list[str]:
        """The columns that an export has."""
        return [column.name for column in self.columns if column.kept and column.exported]


def needed(name: str, about: str) -> Column:
    """A column that every file must have."""
    return Column(name, about, needed=True)


def passed_over(name: str, about: str) -> Column:
    """A column that a file may have, and that is not kept."""
    return Column(name, about, kept=False, exported=False)
