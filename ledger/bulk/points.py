"""Service points in bulk: whole, or in two parts. Functions of the SQL transaction they are handed.

A customer's line says where the customer lives, a meter's line by which tariff the meter there sells. A point of which
the tariff is not known yet is kept in `planned_point`; the first meter (or line of points) that names it makes a
service point of it, with its counters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ledger import sets, tables
from ledger.bulk.kind import Coming, Fault, Kind, Link, Occasion, Record, TableKind, known_anyhow
from ledger.bulk_tables import planned_point

_OF_CUSTOMER = Link("account_no", "customer_id", tables.customer, "account_no", "Customers", "customer")


class Points(TableKind):
    """Service points, by code."""

    name = "service points"
    table = tables.service_point
    key_field = "service_point"
    columns = {"service_point": "code", "area": "area", "tariff_code": "tariff_code",
               "free_kwh_per_month": "free_kwh_per_month"}  # fmt: skip
    fields = ("account_no", "area", "tariff_code", "free_kwh_per_month")
    # Somebody who moves leaves debts and money to settle; another tariff settles charges and may change a key; free
    # units are given by those who price. All three are deeds of `prepaid points`.
    fixed = frozenset({"account_no", "tariff_code", "free_kwh_per_month"})
    links = (_OF_CUSTOMER,)
    deed = "service_point.update"

    def subject(self, key: str) -> str:
        return f"service point {key}"

    def owner(self, record: Record) -> str | None:
        return str(record["account_no"])

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        return super().faults(connection, records, coming) + tariff_faults(connection, records, coming)

    def born(self, record: Record, occasion: Occasion) -> Mapping[str, Any]:
        return new_counters(occasion)

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        _no_longer_planned(connection, [self.key(record) for record in records])
        super().insert(connection, records, occasion)


class Places(TableKind):
    """The part of a service point that its customer's line tells."""

    name = "service points"
    table = planned_point
    key_field = "service_point"
    columns = {"service_point": "code", "area": "area", "free_kwh_per_month": "free_kwh_per_month"}
    fields = ("account_no", "area", "free_kwh_per_month")
    fixed = frozenset({"account_no", "free_kwh_per_month"})
    links = (_OF_CUSTOMER,)
    deed = "service_point.update"

    def subject(self, key: str) -> str:
        return f"service point {key}"

    def owner(self, record: Record) -> str | None:
        return str(record["account_no"])

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        whole = {key: _without_tariff(record) for key, record in Points().stored(connection, records).items()}
        return whole if len(whole) == len(records) else super().stored(connection, records) | whole

    def lock(self, connection: sa.Connection, records: Sequence[Record]) -> None:
        Points().lock(connection, records)
        super().lock(connection, records)

    def update(self, connection: sa.Connection, changes: Sequence[tuple[Record, Record]]) -> None:
        whole = Points().stored(connection, [record for _, record in changes])
        key, tariff = self.key, {code: record["tariff_code"] for code, record in whole.items()}
        Points().update(
            connection, [(was, {**new, "tariff_code": tariff[key(new)]}) for was, new in changes if key(new) in whole]
        )
        super().update(connection, [(was, new) for was, new in changes if key(new) not in whole])


class PointTariffs(Kind):
    """The part of a service point that its meters' lines tell."""

    name = "tariffs of service points"
    fields = ("tariff_code",)
    fixed = frozenset({"tariff_code"})
    is_told = False

    def key(self, record: Record) -> str:
        return str(record["service_point"])

    def subject(self, key: str) -> str:
        return f"service point {key}"

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        p = tables.service_point.c
        wanted = sa.select(p.code, p.tariff_code)
        rows = sets.by_key(connection, wanted, p.code, [self.key(record) for record in records])
        return {row.code: {"service_point": row.code, "tariff_code": row.tariff_code} for row in rows}

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        codes = {self.key(record) for record in records}
        known = set(self.stored(connection, records))
        known |= _planned(connection, codes - known)
        lacking = known_anyhow(codes - known, "Places", coming)
        lacking = known_anyhow(lacking, "Points", coming)
        found = [
            (place, "service_point", f"no customer at {self.key(record)!r}")
            for place, record in enumerate(records)
            if self.key(record) in lacking
        ]
        return found + tariff_faults(connection, records, coming)

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        tariff = {self.key(record): record["tariff_code"] for record in records}
        p = planned_point.c
        columns = sa.select(p.code, p.customer_id, p.area, p.free_kwh_per_month)
        rows = [
            {
                "id": occasion.new_id(),
                **row._mapping,
                "tariff_code": tariff[row.code],
                **new_counters(occasion),
            }
            for row in sets.by_key(connection, columns, p.code, tariff)
        ]
        if len(rows) != len(records):
            raise sets.Changed("a service point is no longer planned")
        sets.insert(connection, tables.service_point, rows)
        _no_longer_planned(connection, list(tariff))


def tariff_faults(connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
    """Records that name a tariff that there is not."""
    wanted = {record["tariff_code"] for record in records}
    code = tables.tariff.c.code
    known = {row[0] for row in sets.by_key(connection, sa.select(code), code, wanted)}
    lacking = known_anyhow(wanted - known, "Tariffs", coming)
    return [
        (place, "tariff_code", f"no tariff {record['tariff_code']!r}")
        for place, record in enumerate(records)
        if record["tariff_code"] in lacking
    ]


def new_counters(occasion: Occasion) -> dict[str, Any]:
    """The counters of a new service point: they begin this month, and fixed charges today."""
    month = f"{occasion.local:%Y-%m}"
    return {
        "counter_month": month,
        "month_units_tenths": 0,
        "fixed_through_month": month,
        "fixed_through_date": occasion.local.date(),
        "fixed_shortfall_minor": 0,
        "carry_minor": 0,
        "free_last_month": "",
        "vending": None,
    }


def waiting(connection: sa.Connection) -> int:
    """How many service points no tariff is known for."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(planned_point)).scalar_one())


def _planned(connection: sa.Connection, codes: set[str]) -> set[str]:
    code = planned_point.c.code
    return {row[0] for row in sets.by_key(connection, sa.select(code), code, codes)}


def _no_longer_planned(connection: sa.Connection, codes: Sequence[str]) -> None:
    if codes:
        connection.execute(sa.delete(planned_point).where(planned_point.c.code.in_(codes)))


def _without_tariff(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != "tariff_code"}
