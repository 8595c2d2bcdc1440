"""Meter readings in bulk, and what is odd about them. Functions of the SQL transaction they are handed.

A prepaid meter's register counts what was used and never goes back, unless the meter was changed or the reader erred:
so a reading below the one before it, or far above, is told and kept. One reading a meter, register and instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from ledger import sets, tables
from ledger.bulk.kind import Coming, Fault, Kind, Occasion, Record, known_anyhow
from ledger.bulk_tables import reading

JUMP_TENTHS_A_DAY: Final = 5_000
"""More than 500 kWh a day is 21 kW day and night: no home does that, and what does has a meter of another kind."""
_DAY_S: Final = 86_400

_Series = tuple[str, str]


class Readings(Kind):
    """Readings, by meter, register and instant (`read_at`: ISO 8601 in UTC)."""

    name = "readings"
    fields = ("value_tenths", "source", "reader", "remark")
    fixed = frozenset({"value_tenths", "source", "reader", "remark"})

    def key(self, record: Record) -> str:
        return f"{record['drn']} {record['register']} {record['read_at']}"

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        wanted = _select().where(
            reading.c.read_at.in_(list(dict.fromkeys(datetime.fromisoformat(record["read_at"]) for record in records)))
        )
        rows = sets.by_key(connection, wanted, tables.meter.c.drn, [record["drn"] for record in records])
        return {self.key(record): record for record in map(_record, rows)}

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        drns = {record["drn"] for record in records}
        lacking = known_anyhow(drns - set(sets.ids(connection, tables.meter, "drn", drns)), "Meters", coming)
        return [
            (place, "drn", f"no meter {record['drn']!r}")
            for place, record in enumerate(records)
            if record["drn"] in lacking
        ]

    def doubts(self, connection: sa.Connection, records: Sequence[Record], before: Record | None) -> list[Fault]:
        series = _stored_around(connection, records)
        for record in ([] if before is None else [before]) + list(records):
            series.setdefault(_series(record), {})[record["read_at"]] = record["value_tenths"]
        found: list[Fault] = []
        ordered = {name: sorted(values.items()) for name, values in series.items()}
        places = {name: {at: n for n, (at, _) in enumerate(values)} for name, values in ordered.items()}
        for place, record in enumerate(records):
            values = ordered[_series(record)]
            n = places[_series(record)][record["read_at"]]
            if n and (words := _doubt(values[n - 1], values[n])):
                found.append((place, "reading_kwh", words))
        return found

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        ids = sets.ids(connection, tables.meter, "drn", {record["drn"] for record in records})
        sets.insert(
            connection,
            reading,
            [
                {
                    "meter_id": ids[record["drn"]],
                    "register": record["register"],
                    "read_at": datetime.fromisoformat(record["read_at"]),
                    **{name: record[name] for name in self.fields},
                    "recorded_at": occasion.now,
                }
                for record in records
            ],
        )

    def page(self, connection: sa.Connection, after: str, limit: int) -> list[Record]:
        m, r = tables.meter.c, reading.c
        wanted = _select().order_by(m.drn, r.register, r.read_at).limit(limit)
        if after:
            drn, register, at = after.split(" ")
            instant = sa.literal(datetime.fromisoformat(at), r.read_at.type)
            wanted = wanted.where(
                sa.or_(
                    m.drn > drn,
                    sa.and_(m.drn == drn, r.register > register),
                    sa.and_(m.drn == drn, r.register == register, r.read_at > instant),
                )
            ).where(m.drn >= drn)
        return [_record(row) for row in connection.execute(wanted)]


def _series(record: Record) -> _Series:
    return record["drn"], record["register"]


def _select() -> sa.Select[Any]:
    r = reading.c
    return sa.select(tables.meter.c.drn, r.register, r.read_at, r.value_tenths, r.source, r.reader, r.remark).join_from(
        reading, tables.meter, tables.meter.c.id == r.meter_id
    )


def _record(row: sa.Row[Any]) -> Record:
    return {**row._mapping, "read_at": row.read_at.astimezone(UTC).isoformat()}


def _stored_around(connection: sa.Connection, records: Sequence[Record]) -> dict[_Series, dict[str, int]]:
    """The stored values, by series and instant, from just before the first of these records on."""
    m, r = tables.meter.c, reading.c
    drns = {record["drn"] for record in records}
    instants = [datetime.fromisoformat(record["read_at"]) for record in records]
    first, last = min(instants), max(instants)
    ids = sets.ids(connection, tables.meter, "drn", drns)
    before = (
        sa.select(r.meter_id, r.register, sa.func.max(r.read_at).label("read_at"))
        .where(r.meter_id.in_(list(ids.values())), r.read_at < first)
        .group_by(r.meter_id, r.register)
        .subquery()
    )
    earlier = _select().join(
        before,
        sa.and_(before.c.meter_id == r.meter_id, before.c.register == r.register, before.c.read_at == r.read_at),
    )
    found: dict[_Series, dict[str, int]] = {}
    within = _select().where(r.read_at >= first, r.read_at <= last)
    for row in [*sets.by_key(connection, within, m.drn, drns), *connection.execute(earlier)]:
        found.setdefault((row.drn, row.register), {})[row.read_at.astimezone(UTC).isoformat()] = row.value_tenths
    return found


def _doubt(before: tuple[str, int], now: tuple[str, int]) -> str:
    """What is odd about a reading after the one before it; empty if nothing is."""
    used_tenths = now[1] - before[1]
    if used_tenths < 0:
        return f"{_kwh(now[1])} after {_kwh(before[1])} on {before[0][:10]}: a register does not go back"
    seconds = int((datetime.fromisoformat(now[0]) - datetime.fromisoformat(before[0])).total_seconds())
    if used_tenths * _DAY_S > JUMP_TENTHS_A_DAY * max(seconds, _DAY_S):
        return (
            f"{_kwh(used_tenths)} kWh since {before[0][:10]} is more than {_kwh(JUMP_TENTHS_A_DAY)} a day: "
            "another meter, or a slip?"
        )
    return ""


def _kwh(tenths: int) -> str:
    return f"{tenths // 10}.{tenths % 10}"
