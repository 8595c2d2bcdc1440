"""Payments that are said to have come, and wait for the source's statement: no money, only word of it.

Functions of the SQL transaction they are handed; they never commit. Of one receipt there is one row, the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from ledger import sets
from ledger.payment_tables import payment
from ledger.settlement_tables import pending_payment

PENDING: Final = "PENDING"
AGAIN: Final = "AGAIN"
DIFFERS: Final = "DIFFERS"


@dataclass(frozen=True, slots=True)
class Pending:
    """What an operator's text said of a payment."""

    id: UUID
    source: str
    receipt: str
    amount_minor: int
    currency: str
    payer: str
    account_ref: str
    sender: str
    received_at: datetime


_COLUMNS = [pending_payment.c[name] for name in Pending.__slots__]


def keep(connection: sa.Connection, said: Pending) -> str:
    """Keep a payment as PENDING; AGAIN if its receipt is kept already, DIFFERS if that says another amount."""
    sets.insert(connection, pending_payment, [asdict(said)], missing=True)
    found = of(connection, said.source, [said.receipt])[said.receipt]
    if found.id == said.id:
        return PENDING
    return AGAIN if found.amount_minor == said.amount_minor else DIFFERS


def of(connection: sa.Connection, source: str, receipts: Iterable[str]) -> dict[str, Pending]:
    """What is pending under these receipts, whether or not the statement has come."""
    c = pending_payment.c
    rows = sets.by_key(connection, sa.select(*_COLUMNS).where(c.source == source), c.receipt, receipts)
    return {row.receipt: Pending(**row._mapping) for row in rows}


def waiting(connection: sa.Connection, source: str | None = None) -> list[Pending]:
    """The last thousand that no statement has named yet, oldest first."""
    c, p = pending_payment.c, payment.c
    came = sa.exists().where(p.source == c.source, p.receipt == c.receipt, p.paid_at.is_not(None))
    wanted = sa.select(*_COLUMNS).where(~came).order_by(c.id.desc()).limit(1000)
    if source is not None:
        wanted = wanted.where(c.source == source)
    return [Pending(**row) for row in connection.execute(wanted).mappings()][::-1]
