"""Customers, phones, stations, service points, meters and debts as stored, and how they first get there.

Functions of the SQL transaction they are handed; they never commit. Loading the same record twice changes nothing;
a record that is there already is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ledger import tables
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
)


_KEYS_A_STATEMENT = 5000  # SQLite takes some 32,000 parameters a statement


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
    insert_new(
        connection,
        tables.account,
        [{"id": id_of(code), "code": code, "kind": code.partition(":")[0], "currency": currency} for code in wanted],
        key="id",
    )
    insert_new(
        connection,
        tables.limited_balance,
        [
            {
                "account_id": id_of(code),
                "posted_minor": 0,
                "pending_minor": 0,
                "floor_minor": (floors_minor or {}).get(code, 0),
            }
            for code in wanted
            if kind_of(code).limited
        ],
        key="account_id",
    )


def customers(connection: sa.Connection, rows: Sequence[Mapping[str, Any]], currency: str) -> int:
    """Customers (columns of the table but `wallet_id`), each with an empty wallet."""
    ensure_accounts(connection, [f"wallet:{row['account_no']}" for row in rows], currency)
    ready = [{**row, "wallet_id": id_of(f"wallet:{row['account_no']}")} for row in rows]
    return insert_new(connection, tables.customer, ready, key="account_no")


def stations(connection: sa.Connection, rows: Sequence[Mapping[str, Any]], currency: str) -> int:
    """Stations (columns of the table but `account_id`, and `credit_limit_minor`), each with its account.

    A PREPAID station sells from its deposit, a CREDIT one until it owes its limit.
    """
    ready, floors = [], {}
    for row in rows:
        prepaid = row["funding"] == "PREPAID"
        code = f"{'float' if prepaid else 'owed'}:{row['code']}"
        floors[code] = 0 if prepaid else -int(row["credit_limit_minor"])
        floors[f"commission:{row['code']}"] = 0
        kept = {key: value for key, value in row.items() if key != "credit_limit_minor"}
        ready.append({**kept, "account_id": id_of(code)})
    ensure_accounts(connection, floors, currency, floors)
    return insert_new(connection, tables.station, ready, key="code")


def phones(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Phones, by MSISDN, with their customer or station."""
    return insert_new(connection, tables.phone, rows, key="msisdn")


def service_points(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Service points with their counters."""
    return insert_new(connection, tables.service_point, rows, key="code")


def meters(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Meters, by meter number."""
    return insert_new(connection, tables.meter, rows, key="drn")


def debts(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Debts, by code."""
    return insert_new(connection, tables.debt, rows, key="code")


@dataclass(frozen=True, slots=True)
class There:
    """Of some records, how many were there already, and the keys of those that differ in what is compared."""

    count: int
    different: tuple[str, ...]


def there(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str,
    compared: Sequence[str],
) -> There:
    """Compare the rows with those stored under the same `key`, in these columns."""
    stored: dict[str, tuple[Any, ...]] = {}
    for start in range(0, len(rows), _KEYS_A_STATEMENT):
        wanted = [row[key] for row in rows[start : start + _KEYS_A_STATEMENT]]
        columns = [table.c[key], *(table.c[name] for name in compared)]
        for found in connection.execute(sa.select(*columns).where(table.c[key].in_(wanted))):
            stored[found[0]] = tuple(found[1:])
    known = [row for row in rows if row[key] in stored]
    return There(
        len(known), tuple(row[key] for row in known if stored[row[key]] != tuple(row[name] for name in compared))
    )


def credit_limits(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The codes of stations on credit that are stored with another limit than in these rows of `stations`."""
    b = tables.limited_balance.c
    limits = {id_of(f"owed:{row['code']}"): row for row in rows if row["funding"] == "CREDIT"}
    floors: dict[Any, int] = {}
    for start in range(0, len(limits), _KEYS_A_STATEMENT):
        wanted = list(limits)[start : start + _KEYS_A_STATEMENT]
        found = connection.execute(sa.select(b.account_id, b.floor_minor).where(b.account_id.in_(wanted)))
        floors.update({row[0]: row[1] for row in found})
    return tuple(
        str(row["code"])
        for account_id, row in limits.items()
        if floors.get(account_id, 0) != -int(row["credit_limit_minor"])
    )


def ids(connection: sa.Connection, table: sa.Table, key: str) -> dict[str, Any]:
    """The ids of a table's rows by one of its columns; for loading, not for the purchase path."""
    return {row[0]: row[1] for row in connection.execute(sa.select(table.c[key], table.c.id))}


def station_account(connection: sa.Connection, code: str) -> str | None:
    """The code of the account from which the station with this code sells."""
    n, a = tables.station.c, tables.account.c
    query = sa.select(a.code).join_from(tables.station, tables.account, a.id == n.account_id).where(n.code == code)
    return connection.execute(query).scalar_one_or_none()
