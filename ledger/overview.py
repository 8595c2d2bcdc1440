"""All about one customer, as the call centre sees it: places, meters, phones, wallet, debts, last sales. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from ledger import corrections, customers, debts, metermoves, statements, tables
from ledger.changes import ChangeRefused, Fault
from ledger.customers import Customer
from ledger.debts import Debt
from ledger.metermoves import LastPurchase
from ledger.record_tables import site_event
from ledger.unit import Meter, Point

_POINT = [tables.service_point.c[name] for name in Point.__slots__]
_METER = [tables.meter.c[name] for name in Meter.__slots__]
_POINTS_MAX = 200
_REPLACED_MAX = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A service point with the meters that hang there; those that hung there are in its history."""

    code: str
    area: str
    point: Point
    meters: tuple[Meter, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """A customer with everything that belongs to the account; amounts in minor units."""

    customer: Customer
    wallet_minor: int
    held_minor: int
    phones: tuple[str, ...]
    points: tuple[Place, ...]
    debts: tuple[tuple[str, Debt], ...]
    last: tuple[LastPurchase, ...]


def account_of(connection: sa.Connection, wanted: str) -> str:
    """The account that this account, meter or phone number belongs to, or the sale of this receipt was made for.

    A meter that was replaced leads to the one in its place; a sale to whoever had the place then. Refuses UNKNOWN.
    """
    m, p = tables.meter.c, tables.purchase.c
    drn = wanted
    for _ in range(_REPLACED_MAX):
        later = connection.execute(sa.select(m.replaced_by).where(m.drn == drn)).scalar_one_or_none()
        if later is None:
            break
        drn = later
    found = statements.customer(connection, drn)
    if found is not None:
        return found.account_no
    if wanted.startswith("0"):
        at_home = customers.find(connection, phone=wanted, at_most=2).customers
        if len(at_home) > 1:
            raise ChangeRefused(Fault.UNKNOWN, f"{wanted} is the end of several phones: with its country code, please")
        if at_home:
            return at_home[0].account_no
    sale = connection.execute(sa.select(p.id).where(p.receipt == wanted.upper())).scalar_one_or_none()
    if sale is None:
        raise ChangeRefused(Fault.UNKNOWN, f"no account, meter, phone or receipt {wanted}")
    return corrections.owner_then(connection, sale).account_no


def of_customer(connection: sa.Connection, account_no: str, *, sales: int = 10) -> Overview:
    """The customer with this account number, the first 200 service points and the last sales at them.

    Sales before the customer moved in are not this customer's. Refuses UNKNOWN.
    """
    customer = customers.known(connection, account_no)
    b = tables.limited_balance.c
    wallet = connection.execute(
        sa.select(b.posted_minor, b.pending_minor).where(b.account_id == customer.wallet_id)
    ).one()
    s, m = tables.service_point.c, tables.meter.c
    rows = connection.execute(
        sa.select(s.code, s.area, *_POINT).where(s.customer_id == customer.id).order_by(s.code).limit(_POINTS_MAX)
    ).all()
    places = []
    for code, area, *point in rows:
        hang = connection.execute(sa.select(*_METER).where(m.service_point_id == point[0]).order_by(m.drn))
        places.append(Place(code, area, Point(*point), tuple(Meter(*row) for row in hang)))
    last = [one for place in places for one in sales_at(connection, place.point.id, at_most=sales)]
    last.sort(key=lambda one: one.id, reverse=True)
    return Overview(
        customer,
        wallet.posted_minor,
        wallet.pending_minor,
        tuple(customers.phones_of(connection, customer.id)),
        tuple(places),
        tuple(debts.of_customer(connection, account_no)),
        tuple(last[:sales]),
    )


def sales_at(connection: sa.Connection, point_id: UUID, *, at_most: int = 10) -> list[LastPurchase]:
    """The last sales at a service point, of whatever meter, since its present customer moved in."""
    e = site_event.c
    moved_in = connection.execute(
        sa.select(e.id)
        .where(e.service_point_id == point_id, e.deed.in_(("ADD", "TRANSFER")))
        .order_by(e.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    return metermoves.last_purchases(
        connection,
        metermoves.meters_ever_at(connection, point_id),
        at_most=at_most,
        after=moved_in,
        service_point_id=point_id,
    )
