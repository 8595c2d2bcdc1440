"""A customer's account as it was: every entry of the wallet with its balance; and the whole life of one purchase.

Functions of a connection; they only read. Entries are read as they are shown, so that memory does not grow with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import tables
from ledger.correction_tables import account_payment, disclosure, resale, reversal
from ledger.corrections import STANDING, Case, cases

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer with what hangs on the account."""

    id: UUID
    account_no: str
    name: str
    wallet_id: UUID
    service_points: tuple[UUID, ...]
    is_closed: bool = False


def customer(connection: sa.Connection, wanted: str) -> Customer | None:
    """The customer with this account number, meter number or phone number."""
    c, s, m, f = tables.customer.c, tables.service_point.c, tables.meter.c, tables.phone.c
    by_meter = sa.select(s.customer_id).join(tables.meter, m.service_point_id == s.id).where(m.drn == wanted)
    by_phone = sa.select(f.customer_id).where(f.msisdn == wanted.removeprefix("+"))
    for condition in (c.account_no == wanted, c.id.in_(by_meter), c.id.in_(by_phone)):
        row = connection.execute(
            sa.select(c.id, c.account_no, c.name, c.wallet_id, c.status).where(condition)
        ).one_or_none()
        if row is not None:
            points = connection.execute(sa.select(s.id).where(s.customer_id == row.id).order_by(s.id)).scalars()
            return Customer(row.id, row.account_no, row.name, row.wallet_id, tuple(points), row.status == "CLOSED")
    return None


@dataclass(frozen=True, slots=True)
class Entry:
    """One posting of an account, and the balance after it; credits positive."""

    at: datetime
    kind: str
    receipt: str
    amount_minor: int
    balance_minor: int


def entries(
    connection: sa.Connection, account_id: UUID, since: datetime | None, until: datetime | None
) -> Iterator[Entry]:
    """The postings of an account from `since` to before `until`, the oldest first, each with the balance after it."""
    t, p, b, a = tables.txn.c, tables.posting.c, tables.purchase.c, account_payment.c
    of_account = p.account_id == account_id
    balance = 0
    if since is not None:
        earlier = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).join_from(
            tables.posting, tables.txn, t.id == p.txn_id
        )
        balance = int(connection.execute(earlier.where(of_account, t.recorded_at < since)).scalar_one())
    query = (
        sa.select(t.recorded_at, t.kind, sa.func.coalesce(b.receipt, a.receipt, ""), p.amount_minor)
        .select_from(tables.posting)
        .join(tables.txn, t.id == p.txn_id)
        .join(tables.purchase, b.id == t.purchase_id, isouter=True)
        .join(account_payment, a.id == t.id, isouter=True)
        .where(of_account)
        # A sale has the id of its order, which is older than the money that came for it at the same instant.
        .order_by(
            t.recorded_at,
            sa.case((t.kind == "opening", 0), else_=1),
            sa.case((p.amount_minor > 0, 0), else_=1),
            t.id,
            p.leg,
        )
    )
    if since is not None:
        query = query.where(t.recorded_at >= since)
    if until is not None:
        query = query.where(t.recorded_at < until)
    for at, kind, receipt, amount in connection.execute(query.execution_options(yield_per=_PAGE)):
        balance += amount
        yield Entry(at, kind, receipt, amount, balance)


@dataclass(frozen=True, slots=True)
class DebtEntry:
    """What was paid on debts by one sale or payment, by the debt's code; what was put back is negative."""

    at: datetime
    kind: str
    receipt: str
    paid_minor: Mapping[str, int]


def debt_entries(
    connection: sa.Connection, of: Customer, since: datetime | None, until: datetime | None
) -> Iterator[DebtEntry]:
    """What the customer's purchases and payments paid on debts, the oldest first; of the meters that hang there now."""
    p, m, a, t = tables.purchase.c, tables.meter.c, account_payment.c, tables.txn.c
    meters = sa.select(m.id).where(m.service_point_id.in_(of.service_points))
    sold = sa.select(t.recorded_at.label("at"), t.id.label("id"), t.kind, p.receipt, p.sale.label("split"))
    bought = sold.join_from(tables.purchase, tables.txn, t.id == p.id).where(p.meter_id.in_(meters))
    undone = sold.join_from(tables.purchase, tables.txn, t.reverses == p.id).where(p.meter_id.in_(meters))
    paid = sa.select(a.at, a.id, sa.literal("account_payment"), a.receipt, a.split).where(a.customer_id == of.id)
    both = sa.union_all(bought, undone, paid).subquery()
    query = sa.select(both).order_by(both.c.at, both.c.id)
    if since is not None:
        query = query.where(both.c.at >= since)
    if until is not None:
        query = query.where(both.c.at < until)
    for row in connection.execute(query.execution_options(yield_per=_PAGE)):
        debts: dict[str, int] = json.loads(row.split or "{}").get("debts_minor", {})
        if debts:
            sign = -1 if row.kind in ("reversal", "refund") else 1
            yield DebtEntry(row.at, row.kind, row.receipt, {code: sign * amount for code, amount in debts.items()})


def debts_now(connection: sa.Connection, of: Customer) -> list[tuple[str, str, str, int]]:
    """Code, kind, status and outstanding minor units of the customer's debts."""
    d = tables.debt.c
    rows = connection.execute(
        sa.select(d.code, d.kind, d.status, d.outstanding_minor)
        .where(d.service_point_id.in_(of.service_points))
        .order_by(d.priority, d.code)
    )
    return [(row.code, row.kind, row.status, row.outstanding_minor) for row in rows]


# --- one purchase -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Life:
    """All that is stored of one purchase. Rows are mappings by column."""

    purchase: Mapping[str, Any]
    drn: str
    request: Mapping[str, Any] | None
    transactions: list[tuple[Mapping[str, Any], list[tuple[str, int]]]]  # each with its postings by account code
    holds: list[Mapping[str, Any]]
    tokens: list[Mapping[str, Any]]
    replies: list[Mapping[str, Any]]
    disclosures: list[Mapping[str, Any]]
    reversals: list[Mapping[str, Any]]
    sold_on: str | None  # the receipt of the sale that its tokens went over to
    first_made_for: str | None  # the receipt of the sealed sale that its tokens were made in
    corrections: list[Case]


def purchase(connection: sa.Connection, receipt: str) -> Life | None:
    """The life of the purchase with this receipt number."""

    def rows(query: sa.Select[Any]) -> list[Mapping[str, Any]]:
        return [dict(row) for row in connection.execute(query).mappings()]

    p = tables.purchase
    found = rows(sa.select(p).where(p.c.receipt == receipt))
    if not found:
        return None
    (row,) = found
    of, t, leg, a = row["id"], tables.txn, tables.posting.c, tables.account.c
    drn = connection.execute(sa.select(tables.meter.c.drn).where(tables.meter.c.id == row["meter_id"])).scalar_one()
    requests = rows(sa.select(tables.request).where(tables.request.c.id == of))
    transactions = []
    for txn in rows(sa.select(t).where(sa.or_(t.c.id == of, t.c.reverses == of)).order_by(t.c.recorded_at, t.c.id)):
        legs = connection.execute(
            sa.select(sa.func.coalesce(a.code, ""), leg.amount_minor)
            .join_from(tables.posting, tables.account, a.id == leg.account_id, isouter=True)
            .where(leg.txn_id == txn["id"])
            .order_by(leg.leg)
        )
        transactions.append((txn, [(found[0], found[1]) for found in legs]))
    o, k, h = tables.outbox, tables.token, tables.hold
    return Life(
        purchase=row,
        drn=drn,
        request=requests[0] if requests else None,
        transactions=transactions,
        holds=rows(sa.select(h).where(h.c.purchase_id == of)),
        tokens=rows(sa.select(k).where(k.c.purchase_id == of).order_by(k.c.seq)),
        replies=rows(sa.select(o).where(o.c.request_id == of).order_by(o.c.id)),
        disclosures=rows(sa.select(disclosure).where(disclosure.c.purchase_id == of).order_by(disclosure.c.at)),
        reversals=rows(sa.select(reversal).where(reversal.c.purchase_id == of).order_by(reversal.c.decided_at)),
        sold_on=_other(connection, of, resale.c.sealed_id, resale.c.purchase_id),
        first_made_for=_other(connection, of, resale.c.purchase_id, resale.c.sealed_id),
        corrections=cases(connection, purchase_id=of),
    )


def _other(connection: sa.Connection, of: Any, mine: Any, theirs: Any) -> str | None:
    """The receipt of the sale that shares this one's tokens by a resale."""
    p = tables.purchase.c
    wanted = sa.select(p.receipt).join_from(resale, tables.purchase, p.id == theirs).where(mine == of)
    found: str | None = connection.execute(wanted).scalar_one_or_none()
    return found


def phone_for(connection: sa.Connection, life: Life) -> str | None:
    """The phone that a sale's token may be sent to again: the one that bought it, or the first of its customer now."""
    f, s = tables.phone.c, tables.service_point.c
    bought = connection.execute(sa.select(f.msisdn).where(f.msisdn == life.purchase["sender"])).scalar_one_or_none()
    if bought is not None:
        return str(bought)
    of_point = sa.select(s.customer_id).where(s.id == life.purchase["service_point_id"])
    own = sa.select(f.msisdn).where(f.customer_id.in_(of_point)).order_by(f.msisdn).limit(1)
    return connection.execute(own).scalar_one_or_none()


def disclose(connection: sa.Connection, receipt: str, new_id: UUID, to_whom: str, at: datetime) -> bool:
    """An operator is to be shown the token: from here on it counts as seen. False: it is sealed, and never shown.

    The meter is locked, as by a reversal: whichever comes first decides.
    """
    p, m = tables.purchase.c, tables.meter.c
    meter = sa.select(p.meter_id).where(p.receipt == receipt).scalar_subquery()
    connection.execute(sa.select(m.id).where(m.id == meter).with_for_update())
    row = connection.execute(sa.select(p.id, p.state).where(p.receipt == receipt)).one()
    if row.state not in STANDING:
        return False
    connection.execute(
        disclosure.insert().values(purchase_id=row.id, id=new_id, how="OPERATOR", to_whom=to_whom, at=at)
    )
    return True
