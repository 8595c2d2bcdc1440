"""What the bare drivers make of a run's rows: the same statements, in batches, with no Python between them.

The rows are read back from the database that a run has filled and written again into a copy of the same utility: the
insertions of a purchase (request, purchase, token, transaction, postings, outbox), its updates (meter, service point,
limited balance), and, a batch later as in the gateway, the marks of its reply (outbox, purchase). Nothing is read, so
this is a limit that no gateway reaches. Both databases sync to the disk with every commit.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg
import sqlalchemy as sa

from gateway.purchase import Effect, State
from ledger import tables
from ledger.batch import CONFIRM_PURCHASE, END_OUTBOX, INSERTS, UPDATE_BALANCE, UPDATE_METER, UPDATE_POINT
from ledger.sql import Insert, Row, Update

Write = tuple[Insert | Update, Sequence[Row]]
Batch = list[Write]

_INSERTED = (tables.request, tables.purchase, tables.token, tables.txn, tables.posting, tables.outbox)
# By which column the rows of a table belong to a purchase.
_OWNER = {
    tables.request: "id",
    tables.purchase: "id",
    tables.token: "purchase_id",
    tables.txn: "id",
    tables.posting: "txn_id",
    tables.outbox: "request_id",
}


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a run as its driver gives and takes them."""

    purchases: list[Any]  # ids, in order
    inserted: dict[sa.Table, dict[Any, list[Row]]]  # by purchase
    points: dict[Any, Row]
    ended: dict[Any, Row]  # by purchase: the marks of its reply
    rows_a_purchase: float

    def batches(self, size: int) -> list[Batch]:
        """The run's writes, `size` purchases to a transaction."""
        made: list[Batch] = []
        before: Sequence[Any] = ()
        for start in range(0, len(self.purchases) + size, size):
            chunk = self.purchases[start : start + size]
            batch: Batch = [
                (INSERTS[table], [row for id_ in chunk for row in self.inserted[table][id_]]) for table in _INSERTED
            ]
            bought = [_named(tables.purchase, self.inserted[tables.purchase][id_][0]) for id_ in chunk]
            made_tokens = [
                _named(tables.token, row) for id_ in chunk for row in self.inserted[tables.token][id_] if row
            ]
            batch += [
                (UPDATE_METER, [(token["meter_id"], token["tid"]) for token in made_tokens]),
                (UPDATE_POINT, [self.points[row["service_point_id"]] for row in bought]),
                (END_OUTBOX, [self.ended[id_] for id_ in before]),
                (CONFIRM_PURCHASE, [(id_, State.DELIVERED.value) for id_ in before]),
                (UPDATE_BALANCE, [(row["payer_id"], -row["amount_minor"], 0) for row in bought]),
            ]
            before = chunk
            made.append([(statement, rows) for statement, rows in batch if rows])
        return made


def _named(table: sa.Table, row: Row) -> dict[str, Any]:
    return dict(zip(table.c.keys(), row, strict=True))


def _select(table: sa.Table, columns: Iterable[str] = ()) -> str:
    return f"SELECT {', '.join(columns or table.c.keys())} FROM {table.name}"


def _rows(found: dict[sa.Table, list[Row]], points: list[Row]) -> Rows:
    """Put a run's rows back to how the gateway first wrote them."""
    inserted: dict[sa.Table, dict[Any, list[Row]]] = {table: defaultdict(list) for table in _INSERTED}
    ended: dict[Any, Row] = {}
    bought = sorted(row[0] for row in found[tables.purchase])
    wanted = set(bought)
    for table, rows in found.items():
        for row in rows:
            named = _named(table, row)
            owner = named[_OWNER[table]]
            if owner not in wanted:
                continue
            if table is tables.purchase:
                named |= {"state": State.VENDED.value, "owed": Effect.RECORD_AND_REPLY.value}
            elif table is tables.outbox:
                ended[owner] = (named["id"], "SENT", named["detail"], named["ended_at"], named["owner"])
                named |= {"state": "OWED", "attempts": 0, "detail": None, "ended_at": None}
            inserted[table][owner].append(tuple(named.values()))
    count = sum(len(rows) for by_owner in inserted.values() for rows in by_owner.values())
    return Rows(bought, inserted, {row[0]: row for row in points}, ended, count / len(bought))


def read_sqlite(path: Path) -> Rows:
    """The rows of a run in the embedded database."""
    with closing(sqlite3.connect(path)) as connection:
        found = {table: connection.execute(_select(table)).fetchall() for table in _INSERTED}
        points = connection.execute(_select(tables.service_point, UPDATE_POINT.names)).fetchall()
    return _rows(found, points)


async def read_postgresql(url: str) -> Rows:
    """The rows of a run in PostgreSQL."""
    connection = await asyncpg.connect(url)
    try:
        found = {table: [tuple(row) for row in await connection.fetch(_select(table))] for table in _INSERTED}
        points = [tuple(row) for row in await connection.fetch(_select(tables.service_point, UPDATE_POINT.names))]
    finally:
        await connection.close()
    return _rows(found, points)


def write_sqlite(path: Path, batches: list[Batch]) -> float:
    """Write them all into a copy of the utility; how many seconds it took."""
    with closing(sqlite3.connect(path, isolation_level=None, cached_statements=512)) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
            connection.execute(f"PRAGMA {pragma}")
        began = perf_counter()
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            for statement, rows in batch:
                connection.executemany(statement.sqlite, rows)
            connection.execute("COMMIT")
        return perf_counter() - began


async def write_postgresql(url: str, batches: list[Batch]) -> float:
    """Write them all into a copy of the utility; how many seconds it took."""
    connection = await asyncpg.connect(url)
    try:
        statements = {statement for batch in batches for statement, _ in batch}
        prepared = {statement: await connection.prepare(statement.postgres) for statement in statements}
        ready = [[(prepared[statement], list(zip(*rows, strict=True))) for statement, rows in each] for each in batches]
        began = perf_counter()
        for batch in ready:
            async with connection.transaction():
                for statement, arrays in batch:
                    await statement.fetch(*arrays)
        return perf_counter() - began
    finally:
        await connection.close()
