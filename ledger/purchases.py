"""Purchases as stored: those that wait for something, and the one of a request."""

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


def id_of_request(connection: sa.Connection, *, key: str) -> UUID | None:
    """The id of the request with this natural key, "channel|reference"; a purchase has that of its request."""
    r = tables.request.c
    return connection.execute(sa.select(r.id).where(r.idem_key == key)).scalar_one_or_none()
