"""Meter readings beside what was sold: a line a meter for a month. Functions of a connection; they only read.

Of each meter the last reading of the month is compared with the last one before the month, or, where there is none,
with the first one in it. What was sold is what tokens of that meter gave, free units too, whose money was accepted
after the one reading and not after the other. The credit that a meter holds is not known here: over one month the
difference may be stored or used-up credit; over several it should not grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import sets, tables
from ledger.bulk_tables import reading
from ledger.meterlife import Status
from ledger.sold import VENDED
from ledger.tariffs import least_id

_PAGE: Final = 500
_SKEW: Final = timedelta(days=1)  # ids rise with time, by the clocks of several nodes
_LATE: Final = timedelta(days=35)  # money may have been accepted long before the request came in


@dataclass(frozen=True, slots=True)
class Reading:
    """What the register showed, in tenths of a kWh."""

    at: datetime
    value_tenths: int


@dataclass(frozen=True, slots=True)
class Compared:
    """A meter in a month. `before` and `last` are None where there is no such reading; `sold_tenths` is then None."""

    drn: str
    service_point: str | None  # where it hangs now
    area: str | None
    before: Reading | None
    last: Reading | None
    sold_tenths: int | None

    @property
    def used_tenths(self) -> int | None:
        """What the register went on by; negative if it went back."""
        return None if self.before is None or self.last is None else self.last.value_tenths - self.before.value_tenths

    @property
    def difference_tenths(self) -> int | None:
        """Sold less used; None where the register went back, since then nobody knows what was used."""
        used = self.used_tenths
        return None if used is None or used < 0 or self.sold_tenths is None else self.sold_tenths - used

    @property
    def remark(self) -> str:
        """Why there is no difference; empty if there is one."""
        if self.last is None:
            return "NO_READING"
        if self.before is None:
            return "NO_EARLIER_READING"
        return "WENT_BACK" if self.difference_tenths is None else ""


def of_month(
    connection: sa.Connection,
    start: datetime,
    end: datetime,
    *,
    register: str,
    drn: str | None = None,
    area: str | None = None,
) -> Iterator[Compared]:
    """The meters that are installed or blocked, or were read from `start` on and before `end`, by number."""
    m, s = tables.meter.c, tables.service_point.c
    in_month = sa.exists().where(
        reading.c.meter_id == m.id, reading.c.register == register, reading.c.read_at >= start, reading.c.read_at < end
    )
    wanted = (
        sa.select(m.id, m.drn, s.code, s.area)
        .join_from(tables.meter, tables.service_point, m.service_point_id == s.id, isouter=True)
        .where(sa.or_(m.status.in_((Status.INSTALLED.value, Status.BLOCKED.value)), in_month))
        .order_by(m.drn)
        .limit(_PAGE)
    )
    if drn is not None:
        wanted = wanted.where(m.drn == drn)
    if area is not None:
        wanted = wanted.where(s.area == area)
    after = ""
    while page := connection.execute(wanted.where(m.drn > after)).all():
        yield from _compared(connection, page, start, end, register)
        after = page[-1].drn


def _compared(
    connection: sa.Connection, page: Sequence[Any], start: datetime, end: datetime, register: str
) -> Iterator[Compared]:
    ids = [row.id for row in page]
    last = _readings(connection, ids, register, sa.func.max, start, end)
    before = {
        **_readings(connection, ids, register, sa.func.min, start, end),
        **_readings(connection, ids, register, sa.func.max, None, start),
    }
    spans = {of: (before[of].at, last[of].at) for of in last if before[of].at < last[of].at}
    sold = _sold(connection, spans)
    for row in page:
        span = spans.get(row.id)
        yield Compared(
            drn=row.drn,
            service_point=row.code,
            area=row.area,
            before=before.get(row.id) if span or row.id not in last else None,
            last=last.get(row.id),
            sold_tenths=sold.get(row.id, 0) if span else None,
        )


def _readings(
    connection: sa.Connection, ids: Sequence[UUID], register: str, which: Any, start: datetime | None, end: datetime
) -> dict[UUID, Reading]:
    """The first or last (`which`: min or max) reading of each meter in this time."""
    r, other = reading.c, reading.alias("other").c
    at = sa.select(which(other.read_at)).where(
        other.meter_id == r.meter_id, other.register == register, other.read_at < end
    )
    if start is not None:
        at = at.where(other.read_at >= start)
    wanted = sa.select(r.meter_id, r.read_at, r.value_tenths).where(
        r.register == register, r.read_at == at.scalar_subquery()
    )
    rows = sets.by_key(connection, wanted, r.meter_id, ids)
    return {row.meter_id: Reading(row.read_at, row.value_tenths) for row in rows}


def _sold(connection: sa.Connection, spans: dict[UUID, tuple[datetime, datetime]]) -> dict[UUID, int]:
    """Tenths of a kWh that tokens gave each meter, accepted after the one instant and not after the other."""
    if not spans:
        return {}
    p, t = tables.purchase.c, tables.token.c
    first, last = min(start for start, _ in spans.values()), max(end for _, end in spans.values())
    wanted = (
        sa.select(p.meter_id, p.accepted_at, t.units_tenths)
        .join_from(tables.purchase, tables.token, t.purchase_id == p.id)
        .where(p.id >= least_id(first - _SKEW), p.id < least_id(last + _LATE))
        .where(p.state.in_(VENDED), t.kind.in_(("credit", "free")))
    )
    found: dict[UUID, int] = {}
    for row in sets.by_key(connection, wanted, p.meter_id, spans):
        start, end = spans[row.meter_id]
        if start < row.accepted_at <= end:
            found[row.meter_id] = found.get(row.meter_id, 0) + row.units_tenths
    return found
