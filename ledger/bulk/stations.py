"""Vending stations in bulk, with their accounts and what they bring along.

Functions of the SQL transaction they are handed; they never commit. A PREPAID station sells from its deposit, a CREDIT
one until it owes its limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ledger import openings, tables
from ledger import records as chart
from ledger.accounts import id_of
from ledger.bulk.kind import Occasion, Record, TableKind
from ledger.openings import Opening


class Stations(TableKind):
    """Stations, by code."""

    name = "stations"
    table = tables.station
    key_field = "station_id"
    columns = {"station_id": "code", "name": "name", "kind": "kind", "funding": "funding",
               "commission_percent": "commission_percent", "sgcs": "supply_groups"}  # fmt: skip
    fields = (
        "name",
        "kind",
        "funding",
        "float_minor",
        "credit_limit_minor",
        "owed_minor",
        "commission_percent",
        "sgcs",
    )
    # Another funding is another account, money comes by deposits and payments, and limits and commissions take two
    # people (`prepaid stations`).
    fixed = frozenset({"funding", "float_minor", "owed_minor", "credit_limit_minor", "commission_percent"})
    deed = "station.update"

    def subject(self, key: str) -> str:
        return f"station {key}"

    def selected(self, wanted: sa.Select[Any]) -> sa.Select[Any]:
        b, s = tables.limited_balance.c, tables.station.c
        floor = sa.select(b.floor_minor).where(b.account_id == s.account_id).scalar_subquery()
        return wanted.add_columns(floor.label("floor_minor"))

    def finished(self, connection: sa.Connection, records: list[Record]) -> list[Record]:
        brought = openings.brought_in(connection, [(_account(record), _account(record)) for record in records])
        for record in records:
            amount_minor, floor_minor = brought.get(_account(record), 0), record.pop("floor_minor")
            prepaid = record["funding"] == "PREPAID"
            record["float_minor"] = amount_minor if prepaid else 0
            record["owed_minor"] = 0 if prepaid else -amount_minor
            record["credit_limit_minor"] = 0 if prepaid else -floor_minor
        return records

    def differences(self, stored: Record, record: Record) -> list[str]:
        # A deposit has no limit of credit, nor a credit a deposit: what a file says there means nothing.
        idle = {"credit_limit_minor", "owed_minor"} if record["funding"] == "PREPAID" else {"float_minor"}
        if not record["float_minor"]:
            idle.add("float_minor")  # it may stand among the balances instead
        return [name for name in super().differences(stored, record) if name not in idle]

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        floors = {_account(record): _floor(record) for record in records}
        commissions = {f"commission:{record['station_id']}": 0 for record in records}
        chart.ensure_accounts(connection, [*floors, *commissions], occasion.currency, floors)
        super().insert(connection, records, occasion)
        brought = [(_account(record), record["float_minor"] - record["owed_minor"]) for record in records]
        openings.bring_in(
            connection,
            [
                Opening(code, code, amount_minor, occasion.local.date(), occasion.now)
                for code, amount_minor in brought
                if amount_minor
            ],
        )

    def born(self, record: Record, occasion: Occasion) -> Mapping[str, Any]:
        return {"account_id": id_of(_account(record))}


def _account(record: Record) -> str:
    return f"{'float' if record['funding'] == 'PREPAID' else 'owed'}:{record['station_id']}"


def _floor(record: Record) -> int:
    return 0 if record["funding"] == "PREPAID" else -int(record["credit_limit_minor"])
