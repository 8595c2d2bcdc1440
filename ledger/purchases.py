"""Purchases as stored: those that wait for something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ledger import tables


def waiting(connection: sa.Connection, *, states: Sequence[str], accepted_before: datetime, at_most: int) -> list[UUID]:
    """Purchases that have not ended, oldest first."""
    p = tables.purchase
    rows = connection.execute(
        sa.select(p.c.id)
        .where(p.c.state.in_(states), p.c.accepted_at <= accepted_before)
        .order_by(p.c.id)
        .limit(at_most)
    )
    return list(rows.scalars())
