"""Meters for those who look after them: find one, its keys, the sale of a token, key changes asked for.

Functions of the SQL transaction they are handed; they never commit. Sales read meters through the batch instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, tables
from ledger.audit import Origin
from ledger.unit import Meter

_COLUMNS = [tables.meter.c[name] for name in Meter.__slots__]


class MeterUnknown(Exception):
    """No meter has this number."""


class NoKeyChange(Exception):
    """There is nothing to confirm, or nothing would change; the message says which."""


@dataclass(frozen=True, slots=True)
class SaleOfToken:
    """The purchase that a token belongs to."""

    purchase_id: UUID
    kind: str
    receipt: str | None
    accepted_at: datetime
    amount_minor: int
    state: str


def find(connection: sa.Connection, drn: str) -> Meter | None:
    """The meter with this number."""
    row = connection.execute(sa.select(*_COLUMNS).where(tables.meter.c.drn == drn)).one_or_none()
    return Meter(*row) if row is not None else None


def known(connection: sa.Connection, drn: str) -> Meter:
    """The meter with this number; MeterUnknown if there is none."""
    meter = find(connection, drn)
    if meter is None:
        raise MeterUnknown(f"no meter {drn}")
    return meter


def keys_of_tokens(connection: sa.Connection, meter_id: UUID) -> list[str]:
    """The handles of all keys that tokens of this meter were made under, the latest first."""
    t = tables.token.c
    # The ids of purchases rise with time; PostgreSQL before 18 has no max() of a uuid, so the rows are walked.
    rows = connection.execute(sa.select(t.key).where(t.meter_id == meter_id).order_by(t.purchase_id.desc()).limit(5000))
    return list(dict.fromkeys(rows.scalars()))


def sale_of(connection: sa.Connection, meter_id: UUID, digits: str) -> SaleOfToken | None:
    """The purchase in which this token was made for this meter."""
    t, p = tables.token.c, tables.purchase.c
    row = connection.execute(
        sa.select(p.id, t.kind, p.receipt, p.accepted_at, p.amount_minor, p.state)
        .join_from(tables.token, tables.purchase, t.purchase_id == p.id)
        .where(t.meter_id == meter_id, t.digits == digits)
        .order_by(p.id)
        .limit(1)
    ).one_or_none()
    return SaleOfToken(*row) if row is not None else None


def ask_key_change(connection: sa.Connection, drn: str, next_key: str | None, origin: Origin) -> Meter:
    """Have the meter's key changed to this one with its next sales; None takes the wish back.

    A set that was given out for another wish is forgotten: never have a customer hold two different sets.
    """
    meter = known(connection, drn)
    if meter.next_key == next_key:
        raise NoKeyChange("the meter's key change is that already")
    _update(connection, meter, next_key=next_key, next_last_tid=None, change_given_at=None)
    audit.note(
        connection,
        origin,
        deed="meter.ask_key_change",
        subject=f"meter {drn}",
        before={"next": meter.next_key},
        after={"next": next_key},
    )
    return meter


def confirm_key_change(connection: sa.Connection, changed: Meter, origin: Origin) -> None:
    """The meter has taken its key change: `changed` is how it is from now on (`gateway.tokens.changed`)."""
    meter = known(connection, changed.drn)
    if meter.next_key is None:
        raise NoKeyChange("no key change was asked for")
    _update(connection, meter, **{name: getattr(changed, name) for name in Meter.__slots__ if name not in _FIXED})
    audit.note(
        connection,
        origin,
        deed="meter.confirm_key_change",
        subject=f"meter {changed.drn}",
        before={"supply_group": meter.supply_group, "key_revision": meter.key_revision, "base_date": meter.base_date},
        after={
            "supply_group": changed.supply_group,
            "key_revision": changed.key_revision,
            "base_date": changed.base_date,
        },
    )


_FIXED = frozenset(
    {"id", "drn", "iin", "service_point_id", "status", "encryption_algorithm", "replaced_by", "token_technology"}
)


def _update(connection: sa.Connection, meter: Meter, **values: object) -> None:
    """Change the meter unless a sale has changed it since it was read."""
    m = tables.meter.c
    done = connection.execute(
        tables.meter.update()
        .where(m.id == meter.id, m.last_tid.is_not_distinct_from(meter.last_tid))
        .where(m.next_last_tid.is_not_distinct_from(meter.next_last_tid))
        .values(**values)
    ).rowcount
    if done != 1:
        raise NoKeyChange("the meter has just been sold for; try again")
