"""Rows that may be there already: inserted once, left as they are; and the accounts of the chart.

Functions of the SQL transaction they are handed; they never commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ledger import sets, tables
from ledger.accounts import id_of, kind_of

# What the chart needs whoever the customers are.
SYSTEM_ACCOUNTS = (
    "tax:vat",
    "fee:channels",
    "fixed:charges",
    "receivable:arrears",
    "carry:customers",
    "expense:commission",
    "clearing:bank",
    "cash:office",
    "loss:refunds",
    "loss:replacements",
    "loss:wrong_meter",
    "given:energy",
    "opening:balances",
    "voucher:issued",
)


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, key: str) -> int:
    """Insert the rows whose `key` is not there yet; how many were, if nobody else inserts meanwhile."""
    if not rows:
        return 0
    dialect = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = dialect(table).on_conflict_do_nothing(index_elements=[key])
    if len(rows) == 1:
        return connection.execute(statement.values(dict(rows[0]))).rowcount
    # One statement and a list of rows: a text with hundreds of rows of values would be compiled anew each time. What
    # drivers say of the rows of a list is not to be relied on.
    count = sa.select(sa.func.count()).select_from(table)
    before = connection.execute(count).scalar_one()
    connection.execute(statement, [dict(row) for row in rows])
    return int(connection.execute(count).scalar_one() - before)


def ensure_accounts(
    connection: sa.Connection, codes: Iterable[str], currency: str, floors_minor: Mapping[str, int] | None = None
) -> None:
    """Have these accounts in the chart; limited ones with a balance of zero and the floor given (else 0)."""
    wanted = list(dict.fromkeys(codes))
    accounts = [
        {"id": id_of(code), "code": code, "kind": code.partition(":")[0], "currency": currency} for code in wanted
    ]
    sets.insert(connection, tables.account, accounts, missing=True)
    balances = [
        {
            "account_id": id_of(code),
            "posted_minor": 0,
            "pending_minor": 0,
            "floor_minor": (floors_minor or {}).get(code, 0),
        }
        for code in wanted
        if kind_of(code).limited
    ]
    sets.insert(connection, tables.limited_balance, balances, missing=True)


def customers(connection: sa.Connection, rows: Sequence[Mapping[str, Any]], currency: str) -> int:
    """Customers (columns of the table but `wallet_id`), each with an empty wallet; how many were not there yet."""
    ensure_accounts(connection, [f"wallet:{row['account_no']}" for row in rows], currency)
    ready = [{**row, "wallet_id": id_of(f"wallet:{row['account_no']}")} for row in rows]
    return insert_new(connection, tables.customer, ready, key="account_no")
