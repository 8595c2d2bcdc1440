"""Sales as they stand in the books, for those who reckon them again. Books: functions of a connection that only read.

A sale that was reversed is not among those of a month: its money went back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from ledger import tables
from ledger.tariffs import least_id

VENDED: Final = ("VENDED", "DELIVERED")
"""The states of a purchase whose money was taken for good."""


def sample(connection: sa.Connection, *, draws: Sequence[float], count: int) -> list[str]:
    """Receipts of up to `count` different sales: for each draw in [0, 1), one of those around a point in time.

    Ids rise with time, so each costs one look into an index, however many sales there are; within the page that
    follows or precedes, the draw's last digits choose. A sale after a long silence is drawn more often than others.
    """
    p = tables.purchase.c
    stands = p.state.in_(VENDED)
    first, last = (
        connection.execute(sa.select(p.id).where(stands).order_by(order).limit(1)).scalar_one_or_none()
        for order in (p.id, p.id.desc())
    )
    if first is None or last is None:
        return []
    span, found = last.int - first.int + 1, dict[str, None]()
    for draw in draws:
        number = int(draw * 2**53)
        point = UUID(int=first.int + span * number // 2**53)
        near, order = (p.id >= point, p.id) if number & 1 else (p.id <= point, p.id.desc())
        wanted = sa.select(p.receipt).where(stands, near).order_by(order).limit(_SAMPLE_PAGE)
        page = connection.execute(wanted).scalars().all()
        found[page[(number >> 1) % len(page)]] = None
        if len(found) == count:
            break
    return list(found)


_EARLY: Final = timedelta(days=1)
_LATE: Final = timedelta(days=35)  # money may have been accepted long before the request came in
_PAGE: Final = 500
_SAMPLE_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Sold:
    """A sale of a month, as far as pricing it again needs it."""

    service_point_id: UUID
    category: str
    tariff_version: str
    amount_minor: int
    accepted_at: datetime
    sale: str  # JSON, as `gateway/sale.py` writes it


@dataclass(frozen=True, slots=True)
class InBooks:
    """One sale with everything that was written for it."""

    purchase_id: UUID
    receipt: str
    drn: str
    service_point: str
    channel: str
    state: str
    reason: str | None
    amount_minor: int
    accepted_at: datetime
    payer_id: UUID | None
    tariff_code: str | None
    tariff_version: str | None
    units_tenths: int | None
    sale: str | None
    postings: dict[UUID, int]  # of its transaction: account to signed minor units; empty if there is none
    account_names: dict[UUID, str]  # the codes of these accounts
    reversed_by: UUID | None
    credit_tokens: tuple[tuple[int, int | None], ...]  # units in tenths, amount field
    free_tokens: tuple[tuple[int, int | None], ...]


def of_month(connection: sa.Connection, tariff_code: str, start: datetime, end: datetime) -> Iterator[Sold]:
    """The sales under a tariff whose money was accepted from `start` on and before `end`, streamed.

    In the order of service point and acceptance. The database sorts, on disk if it must; here a page is held.
    """
    p, s, c, x = tables.purchase, tables.service_point, tables.customer, tables.txn
    wanted = (
        sa.select(p.c.service_point_id, c.c.category, p.c.tariff_version, p.c.amount_minor, p.c.accepted_at, p.c.sale)
        .join_from(p, s, s.c.id == p.c.service_point_id)
        .join(c, c.c.id == s.c.customer_id)
        .join(x, x.c.reverses == p.c.id, isouter=True)
        # Ids rise with time, and purchases have no other index by it.
        .where(p.c.id >= least_id(start - _EARLY), p.c.id < least_id(end + _LATE))
        .where(p.c.accepted_at >= start, p.c.accepted_at < end)
        .where(p.c.tariff_code == tariff_code, p.c.state.in_(VENDED), x.c.id.is_(None))
        .order_by(p.c.service_point_id, p.c.accepted_at, p.c.id)
    )
    with connection.execution_options(yield_per=_PAGE).execute(wanted) as rows:
        for row in rows:
            yield Sold(*row)


def find(connection: sa.Connection, receipt: str) -> InBooks | None:
    """The sale of this receipt number."""
    p, m, s, x, leg = tables.purchase, tables.meter, tables.service_point, tables.txn, tables.posting
    row = connection.execute(
        sa.select(
            p.c.id,
            m.c.drn,
            s.c.code,
            p.c.channel,
            p.c.state,
            p.c.reason,
            p.c.amount_minor,
            p.c.accepted_at,
            p.c.payer_id,
            p.c.tariff_code,
            p.c.tariff_version,
            p.c.units_tenths,
            p.c.sale,
        )
        .join_from(p, m, m.c.id == p.c.meter_id)
        .join(s, s.c.id == p.c.service_point_id)
        .where(p.c.receipt == receipt)
    ).one_or_none()
    if row is None:
        return None
    postings: dict[UUID, int] = {}
    names: dict[UUID, str] = {}
    posted = sa.select(leg.c.account_id, leg.c.amount_minor, tables.account.c.code).join_from(
        leg, tables.account, tables.account.c.id == leg.c.account_id, isouter=True
    )
    for account, amount, code in connection.execute(posted.where(leg.c.txn_id == row.id).order_by(leg.c.leg)):
        postings[account] = postings.get(account, 0) + amount
        names[account] = code or str(account)
    t = tables.token.c
    made = connection.execute(
        sa.select(t.kind, t.units_tenths, t.amount_field).where(t.purchase_id == row.id).order_by(t.seq)
    ).all()
    return InBooks(
        purchase_id=row.id,
        receipt=receipt,
        drn=row.drn,
        service_point=row.code,
        channel=row.channel,
        state=row.state,
        reason=row.reason,
        amount_minor=row.amount_minor,
        accepted_at=row.accepted_at,
        payer_id=row.payer_id,
        tariff_code=row.tariff_code,
        tariff_version=row.tariff_version,
        units_tenths=row.units_tenths,
        sale=row.sale,
        postings=postings,
        account_names=names,
        reversed_by=connection.execute(sa.select(x.c.id).where(x.c.reverses == row.id)).scalar_one_or_none(),
        credit_tokens=tuple((token.units_tenths, token.amount_field) for token in made if token.kind == "credit"),
        free_tokens=tuple((token.units_tenths, token.amount_field) for token in made if token.kind == "free"),
    )
