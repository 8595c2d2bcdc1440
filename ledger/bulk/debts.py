"""Arrears in bulk. Functions of the SQL transaction they are handed; they never commit.

A debt and the posting of its first sum are one transaction: a debt that is there is in the books, and is never posted
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa

from ledger import openings, sets, tables
from ledger.bulk.kind import Coming, Fault, Occasion, Record, TableKind
from ledger.openings import Opening


class Debts(TableKind):
    """Debts, by code."""

    name = "debts"
    table = tables.debt
    key_field = "debt_id"
    columns = {"debt_id": "code", "kind": "kind", "outstanding_minor": "outstanding_minor", "mode": "mode",
               "percent": "percent", "instalment_minor": "instalment_minor", "priority": "priority",
               "status": "status", "opened_on": "opened_on", "agreement_no": "agreement_no"}  # fmt: skip
    fields = ("account_no", "service_point", "kind", "outstanding_minor", "mode", "percent", "instalment_minor",
              "priority", "status", "opened_on", "agreement_no")  # fmt: skip
    # A sum changes by a posting, and whose debt it is does not change.
    fixed = frozenset({"account_no", "service_point", "outstanding_minor"})
    deed = "debt.update"

    def subject(self, key: str) -> str:
        return f"debt {key}"

    def selected(self, wanted: sa.Select[Any]) -> sa.Select[Any]:
        d, p, c = tables.debt.c, tables.service_point.c, tables.customer.c
        code = sa.select(p.code).where(p.id == d.service_point_id).scalar_subquery()
        of = sa.select(c.account_no).join_from(tables.service_point, tables.customer, c.id == p.customer_id)
        owner = of.where(p.id == d.service_point_id).scalar_subquery()
        return wanted.add_columns(code.label("service_point"), owner.label("account_no"))

    def differences(self, stored: Record, record: Record) -> list[str]:
        found = self._differences(stored, record)
        # To write a debt off takes a posting, and a person who answers for it: `prepaid debts`.
        if found and "WRITTEN_OFF" in (stored["status"], record["status"]):
            return ["outstanding_minor"]
        return found

    def finished(self, connection: sa.Connection, records: list[Record]) -> list[Record]:
        brought = openings.brought_in(connection, [(_opening(record), _ACCOUNT) for record in records])
        for record in records:
            record["first_minor"] = -brought.get(_opening(record), 0)
            record["opened_on"] = None if record["opened_on"] is None else record["opened_on"].isoformat()
        return records

    def _differences(self, stored: Record, record: Record) -> list[str]:
        found = super().differences(stored, record)
        if record["outstanding_minor"] == stored["first_minor"] and "outstanding_minor" in found:
            found.remove("outstanding_minor")  # the file is older than what purchases have recovered
        if record["service_point"] is None and "service_point" in found:
            found.remove("service_point")  # the customer's only one
        # An older file has no such columns, and says nothing by that.
        return [name for name in found if name not in _KEPT or record[name] is not None]

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        points = _points_of(connection, records)
        known = set(sets.ids(connection, tables.customer, "account_no", {record["account_no"] for record in records}))
        owners = {record["account_no"] for record in records}
        customers = coming.get("Customers", sorted(owners - known))
        for kind in ("Places", "Points"):
            for owner, codes in coming.of(kind, sorted(owners)).items():
                points.setdefault(owner, set()).update(codes)
        planned = {code for codes in points.values() for code in codes}
        planned -= set(sets.ids(connection, tables.service_point, "code", planned))
        for kind in ("PointTariffs", "Points"):
            planned -= set(coming.get(kind, sorted(planned)))
            planned = set() if coming.is_open(kind) else planned
        found: list[Fault] = []
        for place, record in enumerate(records):
            owner, code = record["account_no"], record["service_point"]
            of = points.get(owner, set())
            if owner not in known and owner not in customers:
                if not coming.is_open("Customers"):
                    found.append((place, "account_no", f"no customer {owner!r}"))
            elif coming.is_open("Places"):
                continue
            elif code is not None and code not in of:
                found.append((place, "service_point", f"customer {owner} has no service point {code!r}"))
            elif code is None and len(of) != 1:
                words = f"customer {owner} has {len(of) or 'no'} service point{'s' if of else ''}"
                found.append((place, "account_no", f"{words}: name one in a column service_point" if of else words))
            elif (code if code is not None else next(iter(of))) in planned:
                found.append((place, "account_no", "the customer's service point has no meter, and so no tariff, yet"))
        return found

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        points = _points_of(connection, records)
        codes = [record["service_point"] or next(iter(points[record["account_no"]])) for record in records]
        ids = sets.ids(connection, tables.service_point, "code", codes)
        sets.insert(
            connection,
            tables.debt,
            [
                {
                    "id": occasion.new_id(),
                    "service_point_id": ids[code],
                    "recovered_this_month_minor": 0,
                    **self._values(record, {}),
                }
                for record, code in zip(records, codes, strict=True)
            ],
        )
        openings.bring_in(
            connection,
            [
                Opening(_opening(record), _ACCOUNT, -record["outstanding_minor"], occasion.local.date(), occasion.now)
                for record in records
                if record["outstanding_minor"]
            ],
        )

    def update(self, connection: sa.Connection, changes: Sequence[tuple[Record, Record]]) -> None:
        kept = [(was, {**now, **{name: was[name] for name in _KEPT if now[name] is None}}) for was, now in changes]
        super().update(connection, kept)

    def _values(self, record: Record, ids: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
        values = {column: record[field] for field, column in self.columns.items()}
        opened_on = values["opened_on"]
        return {**values, "opened_on": None if opened_on is None else date.fromisoformat(opened_on)}


_ACCOUNT = "receivable:arrears"
# What a file that leaves them empty says nothing about.
_KEPT = ("opened_on", "agreement_no")


def _opening(record: Record) -> str:
    return f"debt:{record['debt_id']}"


def _points_of(connection: sa.Connection, records: Sequence[Record]) -> dict[str, set[str]]:
    """The codes of the service points of each customer, by account number."""
    p, c = tables.service_point.c, tables.customer.c
    wanted = sa.select(c.account_no, p.code).join_from(tables.customer, tables.service_point, p.customer_id == c.id)
    found: dict[str, set[str]] = {}
    for row in sets.by_key(connection, wanted, c.account_no, [record["account_no"] for record in records]):
        found.setdefault(row.account_no, set()).add(row.code)
    return found
