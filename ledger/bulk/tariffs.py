"""Tariffs in bulk, as they are first brought in. Functions of the SQL transaction they are handed; they never commit.

A version is never edited. Once somebody has bought, two people enter and release versions (`ledger/tariffs.py`), and a
file brings in nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

import ledger.tariffs
from ledger import tables
from ledger.bulk.kind import Coming, Fault, Kind, Occasion, Record
from ledger.tariffs import State, TariffChanged

MINOR_DIGITS = "minor_digits"
"""What the record has beside the document: how many decimals its `..._minor` leave out."""


class Tariffs(Kind):
    """Tariffs, by code; the record is the tariff's document (`ledger/tariffs_format.py`) with MINOR_DIGITS."""

    name = "tariffs"
    fields = ()
    fixed = frozenset()

    def key(self, record: Record) -> str:
        return str(record["code"])

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        return {self.key(record): record for record in records if _answer(connection, record) is None}

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        return [(place, "code", said) for place, record in enumerate(records) if (said := _answer(connection, record))]

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        for record in records:
            ledger.tariffs.save(
                connection,
                _document(record),
                minor_digits=record[MINOR_DIGITS],
                currency=occasion.currency,
                origin=occasion.origin,
            )

    def page(self, connection: sa.Connection, after: str, limit: int) -> list[Record]:
        """Those that have a released version, with their released versions: what prices sales."""
        t, v = tables.tariff.c, tables.tariff_version.c
        has_one = sa.exists().where(v.tariff_code == t.code, v.state == State.RELEASED.value)
        wanted = sa.select(t.code).where(t.code > after, has_one).order_by(t.code).limit(limit)
        return [ledger.tariffs.document(connection, code) for code in connection.execute(wanted).scalars()]


def _answer(connection: sa.Connection, record: Record) -> str | None:
    """Why it cannot be stored; empty if it can, None if it need not."""
    try:
        found = ledger.tariffs.lacking(connection, _document(record), minor_digits=record[MINOR_DIGITS])
    except TariffChanged as changed:
        return str(changed)
    return None if found is None else ""


def _document(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != MINOR_DIGITS}
