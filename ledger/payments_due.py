"""Payments that it is time to ask about, and how many wait. Functions of the SQL transaction they are handed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ledger.payment_rows import PaymentRow
from ledger.payment_tables import payment

LANES = (0, 1)


def claim(
    connection: sa.Connection, *, source: str, now: datetime, lease_until: datetime, at_most: int
) -> list[PaymentRow]:
    """Take up payments of a source that are due, young ones first; nobody else does until the lease runs out."""
    p, found = payment.c, list[PaymentRow]()
    for lane in LANES:
        if len(found) == at_most:
            break
        due = (
            sa.select(payment)
            .where(p.source == source, p.lane == lane, p.next_ask_at <= now)
            .order_by(p.next_ask_at)
            .limit(at_most - len(found))
            .with_for_update(skip_locked=True)
        )
        found.extend(PaymentRow(*row) for row in connection.execute(due))
    if found:
        ids = [one.id for one in found]
        connection.execute(payment.update().where(p.id.in_(ids)).values(next_ask_at=lease_until))
    return found


def provider_ref(connection: sa.Connection, *, payment_id: UUID) -> str:
    """What the source calls a payment; empty where it has not said, or there is no such payment."""
    wanted = sa.select(payment.c.provider_ref).where(payment.c.id == payment_id)
    return connection.execute(wanted).scalar_one_or_none() or ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many payments of a source are waited for, counted up to a limit, and since when the oldest of them."""

    source: str
    count: int
    oldest_at: datetime | None


def waiting(connection: sa.Connection, sources: list[str], *, count_to: int = 200_000) -> list[Waiting]:
    """What is waited for, by source."""
    p = payment.c
    found = []
    for source in sources:
        some = sa.select(p.created_at).where(p.source == source, p.next_ask_at.is_not(None)).limit(count_to).subquery()
        count, oldest = connection.execute(sa.select(sa.func.count(), sa.func.min(some.c.created_at))).one()
        found.append(Waiting(source, int(count), oldest))
    return found
