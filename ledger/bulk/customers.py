"""Customers in bulk, each with an empty wallet. Functions of the SQL transaction they are handed; they never commit."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ledger import records as chart
from ledger import tables
from ledger.accounts import id_of
from ledger.bulk.kind import Occasion, Record, TableKind


class Customers(TableKind):
    """Customers, by account number."""

    name = "customers"
    table = tables.customer
    key_field = "account_no"
    columns = {"account_no": "account_no", "name": "name", "category": "category", "language": "language",
               "status": "status"}  # fmt: skip
    fields = ("name", "category", "language", "status")
    # Closing a customer settles money first (`prepaid customers`).
    fixed = frozenset({"status"})
    deed = "customer.update"

    def subject(self, key: str) -> str:
        return f"customer {key}"

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        chart.ensure_accounts(connection, [wallet_of(record) for record in records], occasion.currency)
        super().insert(connection, records, occasion)

    def born(self, record: Record, occasion: Occasion) -> dict[str, object]:
        return {"wallet_id": id_of(wallet_of(record))}


def wallet_of(record: Record) -> str:
    """The code of the customer's wallet."""
    return f"wallet:{record['account_no']}"
