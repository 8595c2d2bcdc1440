"""Replies owed: stored with the deed that owes them, marked when they are taken, claimed again when they were not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ledger import tables
from ledger.batch import CONFIRM_PURCHASE, END_OUTBOX, HOLD_OUTBOX, POSTPONE_OUTBOX
from ledger.sms import SentRow
from ledger.sms_tables import sms_sent
from ledger.unit import Need, OutboxRow, Unit


@dataclass(frozen=True, slots=True)
class End:
    """A reply is done with: SENT (its peer has taken it) or DEAD (never will). Only its owner may say so.

    `confirms` is the purchase whose token it brought, and the state that this puts it in. `sent`: the parts whose
    delivery receipts are waited for.
    """

    outbox_id: UUID
    owner: str
    state: str
    confirms: tuple[UUID, str] | None
    detail: str
    at: datetime
    sent: tuple[SentRow, ...] = ()

    def need(self, need: Need) -> None:
        pass  # the marks stand by themselves

    def decide(self, unit: Unit) -> None:
        for row in self.sent:
            unit.insert(sms_sent, row.values())
        unit.update(END_OUTBOX, (self.outbox_id, self.state, self.detail or None, self.at, self.owner))
        if self.state == "SENT" and self.confirms is not None:
            unit.update(CONFIRM_PURCHASE, self.confirms)


@dataclass(frozen=True, slots=True)
class Postpone:
    """A reply could not be sent now; its lease runs until it shall be tried again. Counted unless it was not tried."""

    outbox_id: UUID
    lease_until: datetime
    detail: str
    is_tried: bool = True

    def need(self, need: Need) -> None:
        pass  # the marks stand by themselves

    def decide(self, unit: Unit) -> None:
        unit.update(POSTPONE_OUTBOX if self.is_tried else HOLD_OUTBOX, (self.outbox_id, self.lease_until, self.detail))


def owe(
    connection: sa.Connection,
    outbox_id: UUID,
    about: UUID,
    *,
    to: str,
    language: str,
    message: str,
    values: Mapping[str, Any],
    now: datetime,
) -> None:
    """Owe a phone a message by SMS, with whatever else this SQL transaction does; the next node that looks sends it.

    `about` is what it tells of; `message` a key of the language files and `values` what stands in its text.
    """
    row = {
        "id": outbox_id,
        "request_id": about,
        "channel": "sms",
        "peer": "",
        "recipient": to,
        "sender": "",
        "language": language,
        "message": message,
        "fields": json.dumps(values, separators=(",", ":")),
        "state": "OWED",
        "owner": "",
        "lease_until": now,
        "attempts": 0,
    }
    connection.execute(tables.outbox.insert().values(**row))


def release(connection: sa.Connection, *, owner: str, now: datetime) -> int:
    """End this node's own leases, which its stop has left behind; how many."""
    o = tables.outbox
    own = sa.and_(o.c.state == "OWED", o.c.owner == owner, o.c.lease_until > now)
    return connection.execute(o.update().where(own).values(lease_until=now)).rowcount


def claim(
    connection: sa.Connection,
    *,
    owner: str,
    channels: Sequence[str],
    now: datetime,
    lease_until: datetime,
    at_most: int,
) -> list[OutboxRow]:
    """Take over replies whose lease has run out."""
    o = tables.outbox
    chosen = (
        sa.select(o.c.id)
        .where(o.c.state == "OWED", o.c.channel.in_(channels), o.c.lease_until <= now)
        .order_by(o.c.lease_until)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    ids = connection.execute(chosen).scalars().all()
    if not ids:
        return []
    connection.execute(o.update().where(o.c.id.in_(ids)).values(owner=owner, lease_until=lease_until))
    rows = connection.execute(sa.select(o).where(o.c.id.in_(ids)).order_by(o.c.id))
    return [OutboxRow(*row) for row in rows]


def oldest_by_peer(connection: sa.Connection, *, count_to: int = 10_000) -> dict[str, UUID]:
    """The oldest reply owed to each peer, among the first `count_to` that are due."""
    o = tables.outbox
    some = sa.select(o.c.id, o.c.peer).where(o.c.state == "OWED").order_by(o.c.lease_until).limit(count_to)
    oldest: dict[str, UUID] = {}
    for outbox_id, peer in connection.execute(some):
        if peer not in oldest or outbox_id < oldest[peer]:
            oldest[peer] = outbox_id
    return oldest


def owed(connection: sa.Connection, *, count_to: int = 100_000) -> tuple[int, UUID | None]:
    """How many replies are owed, at most `count_to`, and the id (a UUIDv7, so its time) of the oldest."""
    o = tables.outbox
    some = sa.select(o.c.id).where(o.c.state == "OWED").limit(count_to).subquery()
    # PostgreSQL before 18 has no min() of a uuid; the few rows that are owed sort quickly.
    oldest = sa.select(some.c.id).order_by(some.c.id).limit(1)
    count = int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())
    return count, connection.execute(oldest).scalar_one_or_none()
