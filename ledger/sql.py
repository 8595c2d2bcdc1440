"""Set-based statements of the purchase path, written once for both databases. Pure: text in, text out.

SQLAlchemy owns the schema; per statement it costs five to ten times the driver, so the purchase path hands its drivers
statements made here. A template says `{in0:text}` where keys are compared: `IN (?, ?)` in SQLite, `= ANY($1::text[])`
in PostgreSQL; `{one1:uuid}` is a single value; `{lock:m}` locks rows in PostgreSQL and is nothing in SQLite, where a
batch owns the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ledger.columns import Id, Instant, instant_to_int, int_to_instant

Row = tuple[Any, ...]
Convert = Callable[[Any], Any]

_HOLE = re.compile(r"\{(?:(?P<how>in|one)(?P<n>\d+):(?P<type>\w+)|lock:(?P<of>[^}]*))\}")


def pg_type(column: sa.Column[Any]) -> str:
    """The PostgreSQL name of a column's type."""
    kind = column.type
    if isinstance(kind, Id):
        return "uuid"
    if isinstance(kind, Instant):
        return "timestamptz"
    if isinstance(kind, sa.Date):
        return "date"
    if isinstance(kind, sa.LargeBinary):
        return "bytea"
    if isinstance(kind, sa.Boolean):
        return "boolean"
    return "bigint" if isinstance(kind, sa.Integer) else "text"


def _maybe(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _id_bytes(value: UUID) -> bytes:
    return value.bytes


def _bytes_id(value: bytes) -> UUID:
    return UUID(bytes=value)


def to_sqlite(column: sa.Column[Any]) -> Convert | None:
    """How a value of this column is handed to sqlite3; None: as it is."""
    kind = column.type
    if isinstance(kind, Id):
        return _maybe(_id_bytes)
    if isinstance(kind, Instant):
        return _maybe(instant_to_int)
    return _maybe(date.isoformat) if isinstance(kind, sa.Date) else None


def from_sqlite(column: sa.Column[Any]) -> Convert | None:
    """How a value of this column comes back from sqlite3; None: as it is."""
    kind = column.type
    if isinstance(kind, Id):
        return _maybe(_bytes_id)
    if isinstance(kind, Instant):
        return _maybe(int_to_instant)
    return _maybe(date.fromisoformat) if isinstance(kind, sa.Date) else None


def convert_row(converts: Sequence[tuple[int, Convert]], row: Sequence[Any]) -> Row:
    """The row with its converted columns replaced."""
    values = list(row)
    for index, convert in converts:
        values[index] = convert(values[index])
    return tuple(values)


def _converts(
    columns: Sequence[sa.Column[Any]], how: Callable[[sa.Column[Any]], Convert | None]
) -> list[tuple[int, Convert]]:
    return [(i, convert) for i, column in enumerate(columns) if (convert := how(column)) is not None]


class Read:
    """One set-based question: columns "p.msisdn c.id", and the rest of the statement with its holes."""

    def __init__(self, tables: dict[str, sa.Table], columns: str, rest: str) -> None:
        names = columns.split()
        self.columns = [tables[name.split(".")[0]].c[name.split(".")[1]] for name in names]
        self._text = f"SELECT {', '.join(names)} {rest}"
        self.converts = _converts(self.columns, from_sqlite)
        self.postgres = _HOLE.sub(self._postgres_hole, self._text)
        self.ones = {int(match["n"]) for match in _HOLE.finditer(self._text) if match["how"] == "one"}
        self._order = [int(match["n"]) for match in _HOLE.finditer(self._text) if match["n"] is not None]
        self._sqlite: dict[tuple[int, ...], str] = {}

    @staticmethod
    def _postgres_hole(match: re.Match[str]) -> str:
        if match["of"] is not None:
            return f"FOR UPDATE OF {match['of']}"
        number = int(match["n"]) + 1
        return f"${number}::{match['type']}" if match["how"] == "one" else f"= ANY(${number}::{match['type']}[])"

    def sqlite(self, keys: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        """The statement and its flat parameters. Key lists are padded to a power of two, so that few texts exist."""
        padded = [_pad(part) for part in keys]
        sizes = tuple(len(part) for part in padded)
        text = self._sqlite.get(sizes)
        if text is None:

            def hole(match: re.Match[str]) -> str:
                if match["of"] is not None:
                    return ""
                return "?" if match["how"] == "one" else f"IN ({', '.join('?' * sizes[int(match['n'])])})"

            text = self._sqlite[sizes] = _HOLE.sub(hole, self._text)
        return text, [key.bytes if isinstance(key, UUID) else key for n in self._order for key in padded[n]]

    def arguments(self, keys: Sequence[Sequence[Any]]) -> list[Any]:
        """The parameters of the PostgreSQL form: an array for each list of keys, the value itself for a single one."""
        return [part[0] if n in self.ones else part for n, part in enumerate(keys)]


def _pad(keys: Sequence[Any]) -> list[Any]:
    size = 1
    while size < len(keys):
        size *= 2
    return [*keys, *[keys[-1]] * (size - len(keys))] if keys else [None]


class Insert:
    """Rows of one table, every column given in the table's order."""

    def __init__(self, table: sa.Table) -> None:
        columns = list(table.columns)
        names = ", ".join(column.name for column in columns)
        self.width = len(columns)
        self.converts = _converts(columns, to_sqlite)
        self.sqlite = f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * self.width)})"
        arrays = ", ".join(f"${i + 1}::{pg_type(column)}[]" for i, column in enumerate(columns))
        self.postgres = f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays})"


class Update:
    """A change of many rows by key. `sets` maps a column to its new value, an expression over `{name}` parameters.

    `names` are the columns of a row, in their order. Every row handed in must be changed, else the batch is wrong about
    the world and is rolled back. `loose` updates may find rows already changed.
    """

    def __init__(
        self, table: sa.Table, keys: str, parameters: str, sets: str, guard: str = "TRUE", *, loose: bool = False
    ) -> None:
        key_names, names = keys.split(), parameters.split()
        columns = [table.c[name] for name in key_names] + [table.c[name.removeprefix("d_")] for name in names]
        every = key_names + names
        self.names = tuple(every)
        self.width = len(every)
        self.loose = loose
        self.converts = _converts(columns, to_sqlite)
        lite = {name: f":{i + 1}" for i, name in enumerate(every)}
        mine = {name: f"v.{name}" for name in every}
        where = " AND ".join(f"{table.name}.{name} = {{{name}}}" for name in key_names)
        lite_guard = "" if guard == "TRUE" else f" AND {guard}"
        # SQLite numbers its parameters (?1, ?2), so that one value may stand in several places.
        self.sqlite = f"UPDATE {table.name} SET {sets} WHERE {where}{lite_guard}".format(
            **{name: text.replace(":", "?") for name, text in lite.items()}
        )
        arrays = ", ".join(f"${i + 1}::{pg_type(column)}[]" for i, column in enumerate(columns))
        self.postgres = (
            f"UPDATE {table.name} SET {sets} FROM unnest({arrays}) AS v({', '.join(every)}) WHERE {where}{lite_guard}"
        ).format(**mine)
