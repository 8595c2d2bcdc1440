"""Every statement of the purchase path finds its rows by an index: its cost does not grow with what is stored.

The databases themselves are asked (EXPLAIN), with sequential scans made unattractive in PostgreSQL as a large table
makes them; a statement without a usable index shows its scan all the same. Tariffs are read whole, by their nature,
and only after a change.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from ledger import batch, counter, tables
from ledger.sql import Read, Update
from ledger.store import migrate, open_store

WHOLE = {"READ_TARIFFS", "READ_TARIFF_VERSIONS", "READ_KEY_USES"}
STATEMENTS = {
    name: statement
    for module in (batch, counter)
    for name, statement in vars(module).items()
    if isinstance(statement, Read | Update) and name not in WHOLE
}
_VALUES: dict[str, Any] = {
    "uuid": uuid4(),
    "text": "x",
    "bigint": 1,
    "timestamptz": datetime(2026, 6, 5, tzinfo=UTC),
    "date": date(2026, 6, 5),
    "bytea": b"x",
}


def _keys(statement: Read) -> list[list[Any]]:
    """Two values for each list of keys, one for each single value."""
    holes = {int(n): kind for n, kind in re.findall(r"\$(\d+)::(\w+)", statement.postgres)}
    return [[_VALUES[holes[n + 1]]] * (1 if n in statement.ones else 2) for n in range(len(holes))]


def _sqlite_plan(connection: sa.Connection, statement: Read | Update) -> list[str]:
    if isinstance(statement, Read):
        text, parameters = statement.sqlite(_keys(statement))
        values: tuple[Any, ...] = tuple(parameters)
    else:
        text, values = statement.sqlite, ("x",) * statement.width
    return [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]


def _postgres_plan(connection: sa.Connection, statement: Read | Update) -> list[str]:
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
    if isinstance(statement, Read):
        values = tuple(statement.arguments(_keys(statement)))
    else:
        kinds = re.findall(r"\$\d+::(\w+)\[\]", statement.postgres)
        values = tuple([_VALUES[kind]] for kind in kinds)
    return [str(row[0]) for row in connection.exec_driver_sql(f"EXPLAIN {statement.postgres}", values)]


def _scans(plan: list[str]) -> list[str]:
    """The lines that walk a whole table."""
    return [line for line in plan if re.search(r"\bSeq Scan on|^\s*SCAN (?!.*(CONSTANT ROW|\bSUBQUERY|\())", line)]


async def test_every_statement_of_a_purchase_finds_its_rows_by_an_index(database_url: str) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    found: dict[str, list[str]] = {}
    for name, statement in STATEMENTS.items():

        def explain(connection: sa.Connection, statement: Read | Update = statement) -> list[str]:
            is_sqlite = connection.dialect.name == "sqlite"
            return (_sqlite_plan if is_sqlite else _postgres_plan)(connection, statement)

        plan = await store.transact(explain)
        assert plan, name
        if scans := _scans(plan):
            found[name] = scans
    await store.close()
    assert found == {}


async def test_a_statement_without_an_index_would_be_found(database_url: str) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    slow = Read({"p": tables.purchase}, "p.id", "FROM purchase p WHERE p.sender {in0:text}")

    def explain(connection: sa.Connection) -> list[str]:
        return (_sqlite_plan if connection.dialect.name == "sqlite" else _postgres_plan)(connection, slow)

    assert _scans(await store.transact(explain))
    await store.close()


def test_no_statement_is_forgotten() -> None:
    assert {"READ_METERS", "READ_RECENT", "READ_SELLERS", "UPDATE_BALANCE"} <= STATEMENTS.keys()
