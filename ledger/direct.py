"""A deed of money inside somebody else's transaction: with the row of the audit log and the record it belongs to.

Functions of the SQL transaction they are handed; they never commit. Purchases go through the batches of
`ledger/store.py`; what an operator does to money goes through here, so that posting, record and audit row are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa

from ledger import batch, books, tables
from ledger.entries import Posting
from ledger.sql import Insert, Read, Row, Update, convert_row
from ledger.store import Conflict, Deed
from ledger.unit import Need, Unit

T = TypeVar("T")


def carry_out(connection: sa.Connection, deed: Deed[T]) -> T:
    """Read what the deed needs, let it decide, and write it. Raises what it raises, and Conflict as a batch does."""
    need = Need()
    deed.need(need)
    reading = batch.fill(need)
    answer: Any = None
    while True:
        try:
            statement, keys = reading.send(answer)
        except StopIteration as stop:
            unit: Unit = stop.value
            break
        answer = _read(connection, statement, keys)
    result = deed.decide(unit)
    for writing, rows in batch.writes(unit):
        changed = _write(connection, writing, rows)
        if isinstance(writing, Update) and not writing.loose and changed != len(rows):
            raise Conflict(f"{changed} of {len(rows)} rows changed")
    return result


def _read(connection: sa.Connection, statement: Read, keys: Sequence[Sequence[Any]]) -> list[Row]:
    if connection.dialect.name == "postgresql":
        found = connection.exec_driver_sql(statement.postgres, tuple(statement.arguments(keys))).all()
        return [tuple(row) for row in found]
    text, parameters = statement.sqlite(keys)
    return [convert_row(statement.converts, row) for row in connection.exec_driver_sql(text, tuple(parameters)).all()]


def _write(connection: sa.Connection, statement: Insert | Update, rows: Sequence[Row]) -> int:
    if connection.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        return connection.exec_driver_sql(statement.postgres, columns).rowcount
    ready = [convert_row(statement.converts, row) for row in rows]
    return connection.exec_driver_sql(statement.sqlite, ready).rowcount


@dataclass(frozen=True, slots=True)
class Post:
    """One transaction. `limited` names its accounts that have a floor. Raises Overdrawn."""

    txn_id: UUID
    kind: str
    postings: Sequence[Posting]
    limited: Sequence[UUID]
    business_date: date
    recorded_at: datetime

    def need(self, need: Need) -> None:
        need.accounts.extend(self.limited)

    def decide(self, unit: Unit) -> None:
        books.post(
            unit,
            self.txn_id,
            self.kind,
            self.postings,
            limited=self.limited,
            business_date=self.business_date,
            recorded_at=self.recorded_at,
        )


@dataclass(frozen=True, slots=True)
class Reverse:
    """The transaction that undoes another. Raises AlreadyReversed and Overdrawn."""

    txn_id: UUID
    original: UUID
    kind: str
    business_date: date
    recorded_at: datetime

    def need(self, need: Need) -> None:
        need.transactions.append(self.original)

    def decide(self, unit: Unit) -> None:
        books.reverse(
            unit,
            self.txn_id,
            self.original,
            kind=self.kind,
            business_date=self.business_date,
            recorded_at=self.recorded_at,
        )


def lock_balance(connection: sa.Connection, account: UUID) -> None:
    """Wait for a limited account's row and keep it until the end of the transaction: what is then read stays true."""
    b = tables.limited_balance.c
    connection.execute(sa.select(b.account_id).where(b.account_id == account).with_for_update()).all()
