"""Phones in bulk: whom they speak for. Functions of the SQL transaction they are handed; they never commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ledger import sets, tables
from ledger.bulk.kind import Link, Occasion, Record, TableKind


class Phones(TableKind):
    """Phones, by number, of a customer or a station."""

    name = "phones"
    table = tables.phone
    key_field = "msisdn"
    columns = {"msisdn": "msisdn", "language": "language"}
    # A phone pays from whose it is: that is not changed by a file. Its language is its owner's wish, by SMS.
    fields = ("account_no", "station_id")
    fixed = frozenset({"account_no", "station_id"})
    links = (
        Link("account_no", "customer_id", tables.customer, "account_no", "Customers", "customer"),
        Link("station_id", "station_id", tables.station, "code", "Stations", "station"),
    )

    def selected(self, wanted: sa.Select[Any]) -> sa.Select[Any]:
        # A phone that only ever asked for a language, or for no more notices, is nobody's: the first line claims it.
        p = tables.phone.c
        return wanted.where(sa.or_(p.customer_id.is_not(None), p.station_id.is_not(None)))

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        p = tables.phone.c
        rows = self.rows(connection, records, occasion)
        nobodys = sets.by_key(connection, sa.select(p.msisdn), p.msisdn, [row["msisdn"] for row in rows])
        claimed = {row.msisdn for row in nobodys}
        owners = ("msisdn", "customer_id", "station_id")
        sets.update(
            connection,
            tables.phone,
            "msisdn",
            [{name: row[name] for name in owners} for row in rows if row["msisdn"] in claimed],
        )
        sets.insert(connection, tables.phone, [row for row in rows if row["msisdn"] not in claimed])

    def born(self, record: Record, occasion: Occasion) -> Mapping[str, Any]:
        return {"notices_stopped_at": None}
