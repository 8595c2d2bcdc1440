"""Tariffs in bulk: documents whose versions are never edited. Functions of the SQL transaction they are handed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

import ledger.tariffs
from ledger import sets, tables
from ledger.bulk.kind import Coming, Fault, Kind, Occasion, Record


class Tariffs(Kind):
    """Tariffs, by code; the record is the tariff's document (`ledger/tariffs_format.py`)."""

    name = "tariffs"
    fields = ()
    fixed = frozenset()

    def key(self, record: Record) -> str:
        return str(record["code"])

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        found = _stored(connection, records)
        # One with a version that the stored one has not is to be stored, too; one that contradicts it is a fault.
        return {
            code: found[code]
            for record in records
            if (code := self.key(record)) in found
            and not _contradiction(found[code], record)
            and {_start(each) for each in record["versions"]} <= {_start(each) for each in found[code]["versions"]}
        }

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        stored = _stored(connection, records)
        return [
            (place, "code", words)
            for place, record in enumerate(records)
            if (was := stored.get(self.key(record))) is not None and (words := _contradiction(was, record))
        ]

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        for record in records:
            ledger.tariffs.save(connection, record, minor_digits=occasion.minor_digits, currency=occasion.currency)

    def page(self, connection: sa.Connection, after: str, limit: int) -> list[Record]:
        t = tables.tariff.c
        heads = connection.execute(sa.select(t.code, t.head).where(t.code > after).order_by(t.code).limit(limit))
        return _documents(connection, [tuple(row) for row in heads])


def _stored(connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
    t = tables.tariff.c
    codes = [str(record["code"]) for record in records]
    heads = sets.by_key(connection, sa.select(t.code, t.head), t.code, codes)
    return {record["code"]: record for record in _documents(connection, [tuple(row) for row in heads])}


def _contradiction(was: Record, record: Record) -> str:
    """In what a document contradicts the one stored, which stays as it is; empty if it only adds versions."""
    if {**was, "versions": 0} != {**record, "versions": 0}:
        return f"tariff {record['code']} differs from the one stored, which never changes: enter another one"
    versions = {_start(version): version for version in was["versions"]}
    for version in record["versions"]:
        if versions.get(_start(version), version) != version:
            return (
                f"version {_start(version)} of tariff {record['code']} differs from the one stored, which never "
                "changes: enter a new version"
            )
    return ""


def _start(version: Any) -> str:
    """When a version starts, as it is stored: with seconds."""
    text = str(version["effective_from"])
    return text if text.count(":") == 2 else f"{text}:00"


def _documents(connection: sa.Connection, heads: Sequence[tuple[str, str]]) -> list[Record]:
    v = tables.tariff_version.c
    codes = [code for code, _ in heads]
    versions: dict[str, list[Any]] = {}
    wanted = sa.select(v.tariff_code, v.effective_from, v.rules).order_by(v.tariff_code, v.effective_from)
    for row in sets.by_key(connection, wanted, v.tariff_code, codes):
        versions.setdefault(row.tariff_code, []).append(json.loads(row.rules))
    found = []
    for code, text in heads:
        head = json.loads(text)
        head.pop("minor_digits")
        found.append({**head, "versions": versions.get(code, [])})
    return found
