"""Meters in bulk. Functions of the SQL transaction they are handed; they never commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ledger import sets, tables
from ledger.bulk.kind import Coming, Fault, Link, Occasion, Record, TableKind, known_anyhow

_KEY = ("encryption_algorithm", "key_generation", "key_type", "supply_group_code", "key_revision_no", "tariff_index",
        "key_expiry_no", "base_date")  # fmt: skip


# Of the index ix_meter_at_point.
_HANGING = ("INSTALLED", "BLOCKED", "FAULTY")


class Meters(TableKind):
    """Meters, by meter number."""

    name = "meters"
    table = tables.meter
    key_field = "drn"
    columns = {
        "drn": "drn", "iin": "iin", "status": "status", "encryption_algorithm": "encryption_algorithm",
        "key_generation": "key_generation", "key_type": "key_type", "supply_group_code": "supply_group",
        "key_revision_no": "key_revision", "tariff_index": "tariff_index", "key_expiry_no": "key_expiry",
        "base_date": "base_date", "next_key": "next_key",
    }  # fmt: skip
    # What engineers ask of a key (next_key) has a life of its own.
    fields = ("service_point", "status", *_KEY)
    # Where a meter hangs and how it stands is changed by deeds with a history (`prepaid meters`).
    fixed = frozenset({"service_point", "status"})
    links = (Link("service_point", "service_point_id", tables.service_point, "code", "PointTariffs", "service point"),)
    deed = "meter.update"

    def subject(self, key: str) -> str:
        return f"meter {key}"

    def owner(self, record: Record) -> str | None:
        return record["service_point"] if record["status"] in _HANGING else None

    def selected(self, wanted: sa.Select[Any]) -> sa.Select[Any]:
        # By which tariff it sells is the service point's; a file of meters tells it on the meter's line.
        p, m = tables.service_point.alias("sold_at").c, tables.meter.c
        tariff = sa.select(p.tariff_code).where(p.id == m.service_point_id).scalar_subquery()
        return wanted.add_columns(tariff.label("tariff_code"))

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        # That the service point is there, or comes, is told by the other part of the same line (PointTariffs).
        codes = {record["service_point"] for record in records if record["service_point"] is not None}
        known = set(sets.ids(connection, tables.service_point, "code", codes))
        lacking = known_anyhow(codes - known, "PointTariffs", coming)
        found = [
            (place, "service_point", f"no service point {record['service_point']!r}")
            for place, record in enumerate(records)
            if record["service_point"] in lacking
        ]
        found += self._crowded(connection, records, coming)
        stored = self.stored(connection, records)
        for place, record in enumerate(records):
            was = stored.get(self.key(record))
            if was is not None and was["next_key"] is not None and any(was[name] != record[name] for name in _KEY):
                found.append((place, "drn", "its key is being changed: confirm that, or take it back, before"))
        return found

    def _crowded(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        """Meters for a service point where another one hangs: the database lets only one hang at each."""
        m, p = tables.meter.c, tables.service_point.c
        wanted = sa.select(p.code, m.drn).join_from(tables.meter, tables.service_point, p.id == m.service_point_id)
        wanted = wanted.where(m.status.in_(_HANGING))
        hanging = [(place, record) for place, record in enumerate(records) if record["status"] in _HANGING]
        codes = {record["service_point"] for _, record in hanging if record["service_point"] is not None}
        there = {row.code: row.drn for row in sets.by_key(connection, wanted, p.code, codes)}
        for code, drns in coming.of("Meters", sorted(codes)).items():
            there.setdefault(code, min(drns))
        found: list[Fault] = []
        for place, record in hanging:
            first = there.setdefault(record["service_point"], record["drn"])
            if record["service_point"] is not None and first != record["drn"]:
                found.append((place, "service_point", f"meter {first} hangs there already"))
        return found

    def born(self, record: Record, occasion: Occasion) -> Mapping[str, Any]:
        return {"last_tid": None, "next_last_tid": None, "change_given_at": None}

    def update(self, connection: sa.Connection, changes: Sequence[tuple[Record, Record]]) -> None:
        super().update(connection, changes)
        # Token identifiers count from the base date: on another one none has been used.
        moved = [
            {"drn": self.key(new), "last_tid": None} for was, new in changes if was["base_date"] != new["base_date"]
        ]
        sets.update(connection, tables.meter, "drn", moved)
