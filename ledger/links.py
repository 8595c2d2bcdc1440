"""Which node holds which link to a message centre, and what operators want of a link.

Functions of the SQL transaction they are handed; they never commit.

A link may have so many binds at its message centre, over all nodes: its slots. A slot is a row; whoever holds it until
`lease_until` may be bound, and nobody else. A node stands down some time *before* its lease ends by its own steady
clock, and a slot is free for others only `skew` *after* that end by theirs, so that two clocks may differ by both
together. A node that starts again takes its own slots over at once: names of nodes are unlike each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ledger import audit
from ledger.audit import Origin
from ledger.records import insert_new
from ledger.sms_tables import link_lease, sms_link


class Wish(StrEnum):
    """What operators want of a link."""

    RUN = "RUN"
    PAUSED = "PAUSED"  # stays bound and takes messages, sends nothing
    DRAINED = "DRAINED"  # finishes what it has begun, unbinds, and stays away


@dataclass(frozen=True, slots=True)
class Held:
    """A slot that a node holds. The fence rises with each change of holder."""

    link: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as it stands, for people."""

    link: str
    slot: int
    node: str
    fence: int
    lease_until: datetime
    is_held: bool


@dataclass(frozen=True, slots=True)
class LinkState:
    """What is wanted of a link, by whom and why."""

    link: str
    wish: Wish
    set_by: str
    set_at: datetime
    reason: str


def keep(
    connection: sa.Connection,
    *,
    node: str,
    holder: str,
    slots: Mapping[str, int],
    now: datetime,
    lease: timedelta,
    skew: timedelta,
) -> dict[str, Held]:
    """Renew this holder's slots and take free ones, one a link at most; what it then holds until `now + lease`.

    `slots`: how many binds each wanted link may have. What it held of other links, or of slots beyond these, is given
    back. A lease that has run out is not renewed if another has taken the slot meanwhile.
    """
    mine: dict[str, Held] = {}
    if slots:
        # Every slot has a row, so that there is something to lock; two nodes that make it at once make one.
        wanted = [(link, slot) for link in sorted(slots) for slot in range(1, slots[link] + 1)]
        _have_rows(connection, wanted, now - skew)
    t = link_lease.c
    locked = sa.select(link_lease).order_by(t.link, t.slot).with_for_update()
    rows = connection.execute(locked).all()
    changes: list[dict[str, object]] = []
    given_back: list[dict[str, object]] = []
    for row in rows:
        is_mine = row.holder == holder
        if is_mine and (row.slot > slots.get(row.link, 0) or row.link in mine):
            given_back.append({"key_link": row.link, "key_slot": row.slot})
        elif is_mine:
            mine[row.link] = Held(row.link, row.slot, row.fence)
    for row in rows:
        if row.link in mine or row.slot > slots.get(row.link, 0):
            continue
        is_free = not row.holder or row.node == node or row.lease_until + skew <= now
        if is_free:
            mine[row.link] = Held(row.link, row.slot, row.fence + 1)
    for held in mine.values():
        changes.append(
            {"key_link": held.link, "key_slot": held.slot, "new_fence": held.fence, "new_until": now + lease}
        )
    where = sa.and_(t.link == sa.bindparam("key_link"), t.slot == sa.bindparam("key_slot"))
    if changes:
        values = {
            "node": node,
            "holder": holder,
            "fence": sa.bindparam("new_fence"),
            "lease_until": sa.bindparam("new_until"),
        }
        connection.execute(link_lease.update().where(where).values(values), changes)
    if given_back:
        connection.execute(link_lease.update().where(where).values(holder="", lease_until=now), given_back)
    return mine


def give_back(connection: sa.Connection, *, holder: str, links: list[str], now: datetime) -> None:
    """End this holder's leases of these links, which are unbound."""
    t = link_lease.c
    mine = sa.and_(t.holder == holder, t.link.in_(links))
    connection.execute(link_lease.update().where(mine).values(holder="", lease_until=now))


def _have_rows(connection: sa.Connection, wanted: list[tuple[str, int]], ended: datetime) -> None:
    t = link_lease.c
    there = {tuple(row) for row in connection.execute(sa.select(t.link, t.slot))}
    missing = [key for key in wanted if key not in there]
    if not missing:
        return
    dialect = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = dialect(link_lease).on_conflict_do_nothing(index_elements=["link", "slot"])
    connection.execute(
        statement,
        [
            {"link": link, "slot": slot, "node": "", "holder": "", "fence": 0, "lease_until": ended}
            for link, slot in missing
        ],
    )


def slots(connection: sa.Connection, now: datetime) -> list[Slot]:
    """Every slot, by link and number."""
    t = link_lease.c
    rows = connection.execute(sa.select(link_lease).order_by(t.link, t.slot))
    return [
        Slot(row.link, row.slot, row.node, row.fence, row.lease_until, bool(row.holder) and row.lease_until > now)
        for row in rows
    ]


# --- what operators want ----------------------------------------------------------------------------------------------


def wishes(connection: sa.Connection) -> dict[str, LinkState]:
    """What is wanted of each link that anybody ever said something about."""
    rows = connection.execute(sa.select(sms_link)).all()
    return {row.link: LinkState(row.link, Wish(row.state), row.set_by, row.set_at, row.reason) for row in rows}


def set_wish(connection: sa.Connection, link: str, wish: Wish, origin: Origin, topic: str = "sms") -> Wish:
    """Have every node do so with this link, "bank:NAME" for all of a bank's; what was wanted before. It is audited."""
    row = {"link": link, "state": Wish.RUN.value, "set_by": origin.who, "set_at": origin.at, "reason": origin.reason}
    insert_new(connection, sms_link, [row], key="link")
    t = sms_link.c
    before = Wish(connection.execute(sa.select(t.state).where(t.link == link).with_for_update()).scalar_one())
    values = {"state": wish.value, "set_by": origin.who, "set_at": origin.at, "reason": origin.reason}
    connection.execute(sms_link.update().where(t.link == link).values(values))
    audit.note(
        connection,
        origin,
        deed=f"{topic}.{wish.value.lower()}",
        subject=f"link {link}",
        before={"state": before.value},
        after={"state": wish.value},
    )
    return before
