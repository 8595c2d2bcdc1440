"""What is done to meters: received, issued, installed, blocked, removed, replaced, repaired, scrapped.

Functions of the SQL transaction they are handed; they never commit. Which deed a meter takes in which status is the
table of `ledger/meterlife.py`. Every deed locks the meter, and its service point where it has one, as a sale does; it
adds to the history and to the audit log. A meter is never taken from a service point while a purchase of it is under
way, so that no token is made for a meter that has gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import changes, meters, service_points, tables
from ledger.changes import Act, ChangeRefused, Fault, Site
from ledger.meterlife import START, Deed, Status, WrongStatus, follow
from ledger.operators import Role
from ledger.record_tables import site_event
from ledger.records import insert_new
from ledger.service_points import NextKey
from ledger.unit import Meter

MAY_MOVE: Final = (Role.ENGINEER,)
MAY_BLOCK: Final = (Role.ENGINEER, Role.SUPERVISOR)
READING_MAX_TENTHS: Final = 10**10

_NO_REASON: Final = frozenset({Deed.ISSUE, Deed.BRING_BACK, Deed.RESTOCK})


@dataclass(frozen=True, slots=True)
class TakenDown:
    """What the fitter read when a meter was taken down; tenths of a kWh, None where it could not be read.

    `not_entered` are the receipts of purchases whose tokens the meter never took: with the credit left in it they are
    what its customer may claim. The history keeps the claim; what the customer then gets is a deed of its own.
    """

    reading_tenths: int | None = None
    credit_tenths: int | None = None
    not_entered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replaced:
    """What came of a replacement: both meters as they are now, and the last purchases of the old one."""

    old: Meter
    new: Meter
    point: str
    last: tuple[LastPurchase, ...]


@dataclass(frozen=True, slots=True)
class LastPurchase:
    """A purchase as it is shown to staff; no token."""

    id: UUID
    at: datetime
    drn: str
    amount_minor: int
    units_tenths: int | None
    state: str
    receipt: str | None


def receive(connection: sa.Connection, act: Act, new: Meter) -> Meter:
    """Take a new meter into the stock; its numbers were checked by whoever made it. Refuses ROLE_MISSING, EXISTS."""
    act.require(*MAY_MOVE, reason=False)
    assert new.status == START and new.service_point_id is None and new.last_tid is None
    row = {name: getattr(new, name) for name in Meter.__slots__}
    if not insert_new(connection, tables.meter, [row], key="drn"):
        raise ChangeRefused(Fault.EXISTS, f"there is a meter {new.drn} already")
    changes.event(connection, act, "RECEIVE", "", new.status, meter_id=new.id)
    changes.note(connection, act, "meter.received", _subject(new.drn), None, _seen(new))
    return new


def move(connection: sa.Connection, act: Act, drn: str, deed: Deed) -> Meter:
    """ISSUE, BRING_BACK, REPAIR, RESTOCK or SCRAP a meter that hangs nowhere.

    Refuses ROLE_MISSING, REASON, UNKNOWN, STATUS.
    """
    assert deed in (Deed.ISSUE, Deed.BRING_BACK, Deed.REPAIR, Deed.RESTOCK, Deed.SCRAP)
    act.require(*MAY_MOVE, reason=deed not in _NO_REASON)
    before = changes.lock_meters(connection, [drn])[drn]
    return _done(connection, act, before, deed, None)


def install(
    connection: sa.Connection, act: Act, drn: str, point: str, next_key: NextKey, *, reading_tenths: int | None = None
) -> Meter:
    """Put an issued meter up at a service point: from now on it buys there.

    Refuses ROLE_MISSING, REASON, UNKNOWN, STATUS, POINT_TAKEN, POINT_BUSY, CLOSED.
    """
    act.require(*MAY_MOVE)
    _require_reading(reading_tenths)
    before = changes.lock_meters(connection, [drn])[drn]
    site = changes.place(connection, point)
    changes.require_idle(connection, site)
    if site.meter is not None:
        raise ChangeRefused(Fault.POINT_TAKEN, f"meter {site.meter.drn} hangs at {point}: replace or remove it")
    _require_open(connection, site)
    return _put_up(connection, act, before, site, next_key, reading_tenths=reading_tenths)


def block(connection: sa.Connection, act: Act, drn: str) -> Meter:
    """Sell nothing more for this meter; a purchase whose token is being made is completed. Refuses as `move`."""
    return _at_place(connection, act, drn, Deed.BLOCK, MAY_BLOCK)


def unblock(connection: sa.Connection, act: Act, drn: str) -> Meter:
    """Sell for this meter again. Refuses as `move`."""
    return _at_place(connection, act, drn, Deed.UNBLOCK, MAY_BLOCK)


def report_fault(connection: sa.Connection, act: Act, drn: str) -> Meter:
    """The meter is broken where it hangs; nothing more is sold for it. Refuses as `move`."""
    return _at_place(connection, act, drn, Deed.REPORT_FAULT, MAY_MOVE)


def remove(connection: sa.Connection, act: Act, drn: str, taken: TakenDown) -> Meter:
    """Take a meter down without putting another up. Refuses ROLE_MISSING, REASON, UNKNOWN, STATUS, FORM, POINT_BUSY."""
    act.require(*MAY_MOVE)
    before, site = _with_site(connection, drn)
    changes.require_idle(connection, site)
    return _taken_down(connection, act, before, site, taken, None)


def replace(
    connection: sa.Connection,
    act: Act,
    drn: str,
    by_drn: str,
    next_key: NextKey,
    taken: TakenDown,
    *,
    reading_tenths: int | None = None,
) -> Replaced:
    """Take a meter down and put an issued one up in its place, in this one transaction.

    Counter of the month, carry, debts and the claim to free units hang on the service point and so stay; the history
    of both meters names the other, and a purchase for the old one is told the number of the new one. What the old one
    still held goes into the history as a claim. Refuses as `remove` and `install`.
    """
    act.require(*MAY_MOVE)
    _require_reading(reading_tenths)
    if drn == by_drn:
        raise ChangeRefused(Fault.SAME, "a meter is replaced by another one")
    changes.lock_meters(connection, [drn, by_drn])  # both at once, in the order of sales
    before, site = _with_site(connection, drn)
    changes.require_idle(connection, site)
    fresh = changes.lock_meters(connection, [by_drn])[by_drn]
    _status_after(fresh, Deed.INSTALL)
    last = last_purchases(connection, [before.id])
    old = _taken_down(connection, act, before, site, taken, fresh)
    new = _put_up(connection, act, fresh, site, next_key, reading_tenths=reading_tenths, instead_of=before)
    return Replaced(old, new, site.code, tuple(last))


def last_purchases(
    connection: sa.Connection,
    meter_ids: Iterable[UUID],
    *,
    at_most: int = 5,
    after: UUID | None = None,
    service_point_id: UUID | None = None,
) -> list[LastPurchase]:
    """The latest purchases of these meters that gave something, the latest first; none before the id `after`.

    At one service point only, if it is given: a meter may have hung elsewhere.
    """
    p, m = tables.purchase.c, tables.meter.c
    wanted = (
        sa.select(p.id, p.accepted_at, m.drn, p.amount_minor, p.units_tenths, p.state, p.receipt)
        .join_from(tables.purchase, tables.meter, p.meter_id == m.id)
        .where(p.meter_id.in_(set(meter_ids)), p.state.in_(("VENDED", "DELIVERED")))
    )
    if after is not None:
        wanted = wanted.where(p.id > after)
    if service_point_id is not None:
        wanted = wanted.where(p.service_point_id == service_point_id)
    return [LastPurchase(*row) for row in connection.execute(wanted.order_by(p.id.desc()).limit(at_most))]


def meters_ever_at(connection: sa.Connection, point_id: UUID) -> list[UUID]:
    """The meters that hang or hung at a service point, as far as its history goes."""
    e, m = site_event.c, tables.meter.c
    past = sa.select(e.meter_id).where(e.service_point_id == point_id, e.meter_id.is_not(None))
    present = sa.select(m.id).where(m.service_point_id == point_id)
    return list(connection.execute(past.union(present)).scalars())


def in_stock(
    connection: sa.Connection, status: Status, *, after: str = "", at_most: int = 50
) -> tuple[list[Meter], str | None]:
    """Meters of this status by number, from the one after `after` on, and where the next page begins."""
    assert 1 <= at_most <= 500
    m = tables.meter.c
    columns = [m[name] for name in Meter.__slots__]
    rows = connection.execute(
        sa.select(*columns).where(m.status == status, m.drn > after).order_by(m.drn).limit(at_most + 1)
    ).all()
    found = [Meter(*row) for row in rows[:at_most]]
    return found, found[-1].drn if len(rows) > at_most else None


# --- inside -----------------------------------------------------------------------------------------------------------


def _at_place(connection: sa.Connection, act: Act, drn: str, deed: Deed, roles: tuple[Role, ...]) -> Meter:
    act.require(*roles)
    before, site = _with_site(connection, drn)
    return _done(connection, act, before, deed, site)


def _with_site(connection: sa.Connection, drn: str) -> tuple[Meter, Site]:
    """A meter and the service point where it hangs, locked in this order; refuses STATUS for one that hangs nowhere."""
    meter = changes.lock_meters(connection, [drn])[drn]
    if meter.service_point_id is None:
        raise ChangeRefused(Fault.STATUS, f"meter {drn} is {meter.status} and hangs at no service point")
    (site,) = changes.lock_points(connection, [meter.service_point_id]).values()
    return meter, site


def _status_after(meter: Meter, deed: Deed) -> Status:
    try:
        return follow(Status(meter.status), deed)
    except WrongStatus as wrong:
        raise ChangeRefused(Fault.STATUS, f"meter {meter.drn} cannot do {deed}: {wrong}") from None


def _done(connection: sa.Connection, act: Act, before: Meter, deed: Deed, site: Site | None, **more: Any) -> Meter:
    """Give the meter its status after the deed, and what else changes; history and audit log."""
    status = _status_after(before, deed)
    m = tables.meter.c
    changed = more.pop("values", {})
    connection.execute(tables.meter.update().where(m.id == before.id).values(status=status.value, **changed))
    changes.event(
        connection,
        act,
        deed,
        before.status,
        status,
        meter_id=before.id,
        service_point_id=site.point.id if site is not None else None,
        **more,
    )
    after = meters.known(connection, before.drn)
    place = {"service_point": site.code} if site is not None else {}
    seen = {name: value for name, value in more.items() if value is not None and name != "other_meter_id"}
    changes.note(
        connection,
        act,
        f"meter.{deed.value.lower()}",
        _subject(before.drn),
        {**_seen(before), **(place if before.service_point_id is not None else {})},
        {**_seen(after), **(place if after.service_point_id is not None else {}), **seen},
    )
    return after


def _taken_down(
    connection: sa.Connection, act: Act, meter: Meter, site: Site, taken: TakenDown, by: Meter | None
) -> Meter:
    _require_reading(taken.reading_tenths)
    _require_reading(taken.credit_tenths)
    claim = [
        {"purchase": str(one.id), "receipt": one.receipt, "units_tenths": one.units_tenths}
        for one in (_purchase(connection, meter, receipt) for receipt in dict.fromkeys(taken.not_entered))
    ]
    return _done(
        connection,
        act,
        meter,
        Deed.REMOVE,
        site,
        values={"service_point_id": None, "replaced_by": by.drn if by is not None else None},
        other_meter_id=by.id if by is not None else None,
        reading_tenths=taken.reading_tenths,
        credit_tenths=taken.credit_tenths,
        claim=json.dumps(claim, separators=(",", ":")) if claim else None,
    )


def _put_up(
    connection: sa.Connection,
    act: Act,
    meter: Meter,
    site: Site,
    next_key: NextKey,
    *,
    reading_tenths: int | None,
    instead_of: Meter | None = None,
) -> Meter:
    after = _done(
        connection,
        act,
        meter,
        Deed.INSTALL,
        site,
        values={"service_point_id": site.point.id, "replaced_by": None},
        other_meter_id=instead_of.id if instead_of is not None else None,
        reading_tenths=reading_tenths,
    )
    index = service_points.tariff(connection, site.point.tariff_code).sts_tariff_index
    changed = service_points.fit_index(connection, after, index, next_key)
    if changed is not None:
        before, now = {"next": after.next_key}, {"next": changed.next_key}
        changes.note(connection, act, "meter.ask_key_change", _subject(meter.drn), before, now)
    return changed or after


def _purchase(connection: sa.Connection, meter: Meter, receipt: str) -> LastPurchase:
    """The purchase of this meter with this receipt; refuses UNKNOWN."""
    p = tables.purchase.c
    row = connection.execute(
        sa.select(p.id, p.accepted_at, p.amount_minor, p.units_tenths, p.state, p.receipt).where(
            p.receipt == receipt, p.meter_id == meter.id, p.state.in_(("VENDED", "DELIVERED"))
        )
    ).one_or_none()
    if row is None:
        raise ChangeRefused(Fault.UNKNOWN, f"meter {meter.drn} has no purchase with receipt {receipt}")
    return LastPurchase(row.id, row.accepted_at, meter.drn, row.amount_minor, row.units_tenths, row.state, row.receipt)


def _require_open(connection: sa.Connection, site: Site) -> None:
    c = tables.customer.c
    account_no, status = connection.execute(
        sa.select(c.account_no, c.status).where(c.id == site.point.customer_id)
    ).one()
    if status == "CLOSED":
        raise ChangeRefused(Fault.CLOSED, f"account {account_no} of {site.code} is closed: transfer it first")


def _require_reading(tenths: int | None) -> None:
    if tenths is not None and not 0 <= tenths <= READING_MAX_TENTHS:
        raise ChangeRefused(Fault.FORM, "reading: zero or more expected")


def _seen(meter: Meter) -> dict[str, Any]:
    return {
        "status": meter.status,
        "replaced_by": meter.replaced_by,
        "supply_group": meter.supply_group,
        "tariff_index": meter.tariff_index,
        "key_revision": meter.key_revision,
        "ea": meter.encryption_algorithm,
    }


def _subject(drn: str) -> str:
    return f"meter {drn}"
