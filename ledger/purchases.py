"""Purchases as stored: those that wait for something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ledger import tables


def waiting(
    connection: sa.Connection, *, states: Sequence[str], accepted_before: datetime, after: UUID | None, at_most: int
) -> list[UUID]:
    """Purchases that have not ended, oldest first; those after `after`, to go on from the last page."""
    p = tables.purchase
    wanted = sa.select(p.c.id).where(p.c.state.in_(states), p.c.accepted_at <= accepted_before)
    if after is not None:
        wanted = wanted.where(p.c.id > after)
    return list(connection.execute(wanted.order_by(p.c.id).limit(at_most)).scalars())
