"""What all changes of records share: who does it, refusals by name, locks, and the row in the audit log.

Functions of the SQL transaction they are handed; they never commit. A change locks what it touches in the order of the
sales (`ledger/batch.py`): meters by id, then service points by id, then balances; the audit log comes last. So a change
and a sale of one meter happen one after the other, never half and half.

A purchase whose module must be waited for keeps its service point between two transactions (`service_point.vending`).
Whoever moves counters, debts, the meter or the customer of such a point is refused POINT_BUSY until it is over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, tables
from ledger.audit import Origin
from ledger.operators import Operator, Role, require_role
from ledger.record_tables import site_event
from ledger.unit import Meter, Point


class Fault(StrEnum):
    """Why a change is refused; the value is stable and stands in the audit log."""

    # fmt: off
    UNKNOWN     = "unknown"      # no such record
    EXISTS      = "exists"       # there is one already
    FORM        = "form"         # a value of another form
    SAME        = "same"         # nothing would change
    REASON      = "reason"       # this takes a reason, and none was given
    STATUS      = "status"       # not from the status that the record has
    POINT_TAKEN = "point_taken"  # another meter hangs there
    POINT_BUSY  = "point_busy"   # a purchase of the service point is under way
    NOT_SETTLED = "not_settled"  # money or debts stand in the way
    OTHER_OWNER = "other_owner"  # it belongs to somebody else
    CLOSED      = "closed"       # the account is closed
    # fmt: on


class ChangeRefused(Exception):
    """The rules about records say no. `fault` is the name, `sentence` is for people."""

    def __init__(self, fault: Fault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault: Final = fault
        self.sentence: Final = sentence


@dataclass(frozen=True, slots=True)
class Act:
    """Who changes records, and what a change needs of the world. `local` is the utility's time, without zone."""

    by: Operator
    origin: Origin
    new_id: Callable[[], UUID]
    local: datetime
    currency: str
    beside: Operator | None = None

    @property
    def today(self) -> date:
        """The business date."""
        return self.local.date()

    @property
    def month(self) -> str:
        """The local month, "2026-06"."""
        return f"{self.local:%Y-%m}"

    def require(self, *roles: Role, reason: bool = True) -> None:
        """Refuse an operator who has none of these roles, and a change without a reason."""
        require_role(self.by, *roles)
        if reason and not self.origin.reason.strip():
            raise ChangeRefused(Fault.REASON, "a reason is expected: it goes into the audit log")


def note(
    connection: sa.Connection,
    act: Act,
    deed: str,
    subject: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """Put the change into the audit log: of what was there before and is there after, only what differs."""
    if before is not None and after is not None:
        before, after = (
            {name: value for name, value in one.items() if before.get(name) != after.get(name)}
            for one in (before, after)
        )
    audit.note(connection, act.origin, deed, subject, _plain(before), _plain(after))


def _plain(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    return {name: value.isoformat() if type(value) is date else value for name, value in values.items()}


def event(
    connection: sa.Connection,
    act: Act,
    deed: str,
    before: str,
    after: str,
    *,
    meter_id: UUID | None = None,
    service_point_id: UUID | None = None,
    other_meter_id: UUID | None = None,
    reading_tenths: int | None = None,
    credit_tenths: int | None = None,
    claim: str | None = None,
) -> None:
    """Add to the history of a service point or a meter."""
    connection.execute(
        site_event.insert().values(
            id=act.new_id(),
            meter_id=meter_id,
            service_point_id=service_point_id,
            at=act.origin.at,
            who=act.origin.who,
            deed=deed,
            before=before,
            after=after,
            other_meter_id=other_meter_id,
            reading_tenths=reading_tenths,
            credit_tenths=credit_tenths,
            claim=claim,
            reason=act.origin.reason,
        )
    )


# --- locks ------------------------------------------------------------------------------------------------------------

_METER = [tables.meter.c[name] for name in Meter.__slots__]
_POINT = [tables.service_point.c[name] for name in Point.__slots__]


@dataclass(frozen=True, slots=True)
class Site:
    """A service point under lock, with the meter that hangs there, if any."""

    point: Point
    code: str
    area: str
    meter: Meter | None


def lock_meters(connection: sa.Connection, drns: Iterable[str]) -> dict[str, Meter]:
    """These meters, locked in the order of their ids; refuses UNKNOWN."""
    wanted = set(drns)
    rows = connection.execute(
        sa.select(*_METER).where(tables.meter.c.drn.in_(wanted)).order_by(tables.meter.c.id).with_for_update()
    )
    found = {meter.drn: meter for meter in (Meter(*row) for row in rows)}
    if missing := sorted(wanted - found.keys()):
        raise ChangeRefused(Fault.UNKNOWN, f"no meter {missing[0]}")
    return found


def lock_points(connection: sa.Connection, ids: Iterable[UUID], *, lock: bool = True) -> dict[UUID, Site]:
    """These service points, locked in the order of their ids, without their meters."""
    s = tables.service_point.c
    wanted = sa.select(*_POINT, s.code, s.area).where(s.id.in_(set(ids))).order_by(s.id)
    rows = connection.execute(wanted.with_for_update() if lock else wanted)
    return {row[0]: Site(Point(*row[:-2]), row[-2], row[-1], None) for row in rows}


def place(connection: sa.Connection, code: str, *, lock: bool = True) -> Site:
    """A service point, locked or not, with the meter that hangs there, which is not locked; refuses UNKNOWN.

    For whoever holds the lock of another meter already, or only looks. No meter comes to a point or leaves it without
    the point's lock.
    """
    s = tables.service_point.c
    point_id = connection.execute(sa.select(s.id).where(s.code == code)).scalar_one_or_none()
    if point_id is None:
        raise ChangeRefused(Fault.UNKNOWN, f"no service point {code}")
    (site,) = lock_points(connection, [point_id], lock=lock).values()
    meters = _meters_at(connection, [point_id], lock=False)
    return Site(site.point, site.code, site.area, meters[0] if meters else None)


def lock_sites(connection: sa.Connection, codes: Iterable[str]) -> dict[str, Site]:
    """These service points and the meters that hang there, locked; refuses UNKNOWN, and POINT_BUSY if one moves."""
    wanted = set(codes)
    s = tables.service_point.c
    ids = {row.code: row.id for row in connection.execute(sa.select(s.code, s.id).where(s.code.in_(wanted)))}
    if missing := sorted(wanted - ids.keys()):
        raise ChangeRefused(Fault.UNKNOWN, f"no service point {missing[0]}")
    # Meters come first in the order of locks, and which one hangs there is certain only under the point's own.
    meters = _meters_at(connection, ids.values(), lock=True)
    points = lock_points(connection, ids.values())
    if {meter.id for meter in meters} != {meter.id for meter in _meters_at(connection, ids.values(), lock=False)}:
        raise ChangeRefused(Fault.POINT_BUSY, "a meter of the service point has just been changed; try again")
    at = {meter.service_point_id: meter for meter in meters}
    return {site.code: Site(site.point, site.code, site.area, at.get(point_id)) for point_id, site in points.items()}


def _meters_at(connection: sa.Connection, point_ids: Iterable[UUID], *, lock: bool) -> list[Meter]:
    m = tables.meter.c
    wanted = (
        sa.select(*_METER)
        .where(m.service_point_id.in_(set(point_ids)), m.status.in_(("INSTALLED", "BLOCKED", "FAULTY")))
        .order_by(m.id)
    )
    return [Meter(*row) for row in connection.execute(wanted.with_for_update() if lock else wanted)]


def require_idle(connection: sa.Connection, site: Site) -> None:
    """Refuse POINT_BUSY while a purchase of the service point waits for its security module."""
    if site.point.vending is None:
        return
    p = tables.purchase.c
    until = connection.execute(sa.select(p.expires_at).where(p.id == site.point.vending)).scalar_one()
    raise ChangeRefused(
        Fault.POINT_BUSY,
        f"a purchase of service point {site.code} is under way; it ends by {until:%Y-%m-%d %H:%M:%S} UTC: try then",
    )


# --- forms ------------------------------------------------------------------------------------------------------------

_CODE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,38}[A-Za-z0-9])?")
_WORD: Final = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_MSISDN: Final = re.compile(r"[1-9][0-9]{7,14}")


def is_code(value: str) -> bool:
    """Whether this may stand in records and file names as a code."""
    return _CODE.fullmatch(value) is not None


def code(name: str, value: str) -> str:
    """A code as it may stand in records and file names; refuses FORM."""
    if not is_code(value):
        raise ChangeRefused(Fault.FORM, f"{name}: 1 to 40 letters, digits, . _ / - expected, got {value!r}")
    return value


def word(name: str, value: str) -> str:
    """A name of a category or kind, in capitals; refuses FORM."""
    if not _WORD.fullmatch(value):
        raise ChangeRefused(Fault.FORM, f"{name}: 1 to 40 capitals, digits and _ expected, got {value!r}")
    return value


def line(name: str, value: str, most: int = 80) -> str:
    """A printable text of one line; refuses FORM."""
    text = value.strip()
    if not 1 <= len(text) <= most or not text.isprintable():
        raise ChangeRefused(Fault.FORM, f"{name}: 1 to {most} printable characters expected")
    return text


def msisdn(value: str) -> str:
    """A phone number with country code, no plus; refuses FORM without showing it."""
    if not _MSISDN.fullmatch(value):
        raise ChangeRefused(Fault.FORM, "phone: 8 to 15 digits with country code and without plus expected")
    return value
