"""USSD sessions as stored: what has expired is forgotten. Steps read and write them in batches (`ledger/batch.py`)."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from ledger.ussd_tables import ussd_session


def forget(connection: sa.Connection, now: datetime, at_most: int) -> int:
    """Delete sessions that have expired, the oldest first; how many."""
    u = ussd_session.c
    oldest = sa.select(u.key).where(u.expires_at <= now).order_by(u.expires_at).limit(at_most)
    return connection.execute(sa.delete(ussd_session).where(u.key.in_(oldest))).rowcount


def open_sessions(connection: sa.Connection, now: datetime) -> int:
    """How many sessions are kept just now."""
    return connection.execute(sa.select(sa.func.count()).where(ussd_session.c.expires_at > now)).scalar_one()
