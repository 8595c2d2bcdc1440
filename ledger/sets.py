"""Statements on whole sets of rows, over a connection of SQLAlchemy, in one form for both databases.

SQLAlchemy compiles a statement for each shape of its parameters and handles each row by itself; for a page of a
thousand rows the drivers do better with the texts of `ledger/sql.py`: `executemany` in SQLite, arrays in PostgreSQL.
Functions of the SQL transaction they are handed; they never commit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa

from ledger.sql import Convert, Insert, Read, Row, Update, convert_row, pg_type, to_sqlite

T = TypeVar("T")

_KEYS_A_STATEMENT = 1000


class Changed(Exception):
    """The rows were not as they were read; the same again, on fresh reads, may succeed."""


def insert(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, missing: bool = False
) -> None:
    """Insert rows that all give the same columns; `missing`: those whose key is there already are passed over."""
    if not rows:
        return
    names = tuple(rows[0])
    lite, postgres, converts = _into(table, names, missing)
    values = [tuple(row[name] for name in names) for row in rows]
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(lite, [convert_row(converts, row) for row in values] if converts else values)
    else:
        connection.exec_driver_sql(postgres, tuple(list(column) for column in zip(*values, strict=True)))


@cache
def _into(table: sa.Table, names: tuple[str, ...], missing: bool) -> tuple[str, str, list[tuple[int, Convert]]]:
    columns = [table.c[name] for name in names]
    into, end = f"INSERT INTO {table.name} ({', '.join(names)})", " ON CONFLICT DO NOTHING" if missing else ""
    arrays = ", ".join(f"${i + 1}::{pg_type(column)}[]" for i, column in enumerate(columns))
    converts = [(i, convert) for i, column in enumerate(columns) if (convert := to_sqlite(column)) is not None]
    return (
        f"{into} VALUES ({', '.join('?' * len(names))}){end}",
        # WHERE TRUE: SQLite's grammar wants it before ON CONFLICT; PostgreSQL does not mind.
        f"{into} SELECT * FROM unnest({arrays}) WHERE TRUE{end}",
        converts,
    )


def update(connection: sa.Connection, table: sa.Table, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set the columns that the rows give, all of them the same ones, by `key`. Raises Changed if a row is gone."""
    if rows:
        names = [name for name in rows[0] if name != key]
        run(
            connection, _setting(table, key, tuple(names)), [(row[key], *(row[name] for name in names)) for row in rows]
        )


@cache
def _setting(table: sa.Table, key: str, names: tuple[str, ...]) -> Update:
    return Update(table, key, " ".join(names), ", ".join(f"{name} = {{{name}}}" for name in names))


def run(connection: sa.Connection, statement: Read | Insert | Update, rows: Any) -> Any:
    """One statement of the purchase path: its rows, or nothing. Raises Changed where not every row was changed."""
    is_lite = connection.dialect.name == "sqlite"
    if isinstance(statement, Read):
        text, keys = statement.sqlite(rows) if is_lite else (statement.postgres, statement.arguments(rows))
        found = [tuple(row) for row in connection.exec_driver_sql(text, tuple(keys))]
        return [convert_row(statement.converts, row) for row in found] if is_lite else found
    if is_lite:
        result = connection.exec_driver_sql(statement.sqlite, [convert_row(statement.converts, row) for row in rows])
    else:
        arrays = tuple(list(column) for column in zip(*rows, strict=True))
        result = connection.exec_driver_sql(statement.postgres, arrays)
    if isinstance(statement, Update) and not statement.loose and result.rowcount != len(rows):
        raise Changed(f"{result.rowcount} of {len(rows)} rows changed")
    return None


def answered(connection: sa.Connection, questions: Generator[tuple[Read, Any], list[Row], T]) -> T:
    """What a generator of questions, such as `batch.fill`, comes to when this connection answers them."""
    answer: Any = None
    try:
        while True:
            statement, keys = questions.send(answer)
            answer = run(connection, statement, keys)
    except StopIteration as stop:
        result: T = stop.value
        return result


def by_key(connection: sa.Connection, wanted: sa.Select[Any], column: Any, keys: Iterable[Any]) -> list[sa.Row[Any]]:
    """The rows of a query whose `column` is one of the keys, asked for in parts."""
    every = list(dict.fromkeys(keys))
    rows: list[sa.Row[Any]] = []
    for start in range(0, len(every), _KEYS_A_STATEMENT):
        rows += connection.execute(wanted.where(column.in_(every[start : start + _KEYS_A_STATEMENT]))).all()
    return rows


def ids(connection: sa.Connection, table: sa.Table, key: str, values: Iterable[Any]) -> dict[Any, Any]:
    """The ids of the rows with these values in the column `key`."""
    wanted = [value for value in values if value is not None]
    rows = by_key(connection, sa.select(table.c[key].label("name"), table.c.id), table.c[key], wanted)
    return {row.name: row.id for row in rows}
