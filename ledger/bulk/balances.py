"""Opening balances in bulk: what wallets and deposits bring along, once.

Functions of the SQL transaction they are handed; they never commit.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ledger import openings, sets, tables
from ledger.bulk.kind import Coming, Fault, Kind, Occasion, Record
from ledger.openings import Opening


class Balances(Kind):
    """Opening balances, by the code of their account: wallet:ACCOUNT or float:STATION."""

    name = "balances"
    fields = ("amount_minor",)
    fixed = frozenset({"amount_minor"})

    def key(self, record: Record) -> str:
        return str(record["account"])

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        brought = openings.brought_in(connection, [(self.key(record), self.key(record)) for record in records])
        return {code: {"account": code, "amount_minor": amount} for code, amount in brought.items()}

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        wanted: dict[str, set[str]] = {"wallet": set(), "float": set()}
        for record in records:
            kind, _, owner = self.key(record).partition(":")
            wanted[kind].add(owner)
        customers = set(sets.ids(connection, tables.customer, "account_no", wanted["wallet"]))
        customers |= set(coming.get("Customers", sorted(wanted["wallet"] - customers)))
        s = tables.station.c
        rows = sets.by_key(connection, sa.select(s.code, s.funding), s.code, wanted["float"])
        funding: dict[str, str] = {row.code: row.funding for row in rows}
        stations = coming.get("Stations", sorted(wanted["float"]))
        found: list[Fault] = []
        for place, record in enumerate(records):
            kind, _, owner = self.key(record).partition(":")
            if kind == "wallet":
                if owner not in customers and not coming.is_open("Customers"):
                    found.append((place, "account", f"no customer for {self.key(record)!r}"))
                continue
            station = stations.get(owner)
            if owner not in funding and owner not in stations:
                if not coming.is_open("Stations"):
                    found.append((place, "account", f"no station for {self.key(record)!r}"))
            elif funding.get(owner, station["funding"] if station else "PREPAID") != "PREPAID":
                found.append((place, "account", f"station {owner} is on CREDIT and has no deposit"))
            elif station and station["float_minor"]:
                found.append((place, "account", "the station's line has its float already"))
        return found

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        openings.bring_in(
            connection,
            [
                Opening(self.key(record), self.key(record), record["amount_minor"], occasion.local.date(), occasion.now)
                for record in records
            ],
        )

    def page(self, connection: sa.Connection, after: str, limit: int) -> list[Record]:
        # Deposits stand in the stations' file.
        a = tables.account.c
        found: list[Record] = []
        while len(found) < limit:
            wanted = sa.select(a.code).where(a.code > (after or "wallet:"), a.kind == "wallet")
            codes = list(connection.execute(wanted.order_by(a.code).limit(limit)).scalars())
            if not codes:
                break
            brought = openings.brought_in(connection, [(code, code) for code in codes])
            found += [{"account": code, "amount_minor": brought[code]} for code in codes if code in brought]
            after = codes[-1]
        return found
