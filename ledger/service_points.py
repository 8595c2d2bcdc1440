"""Service points: where a meter hangs, whose it is, by which tariff it buys; moved in, moved out, and its history.

Functions of the SQL transaction they are handed; they never commit. The counter of the month, the carry, the debts and
the claim to free units hang on the service point: they survive its meters. What a change of customer or tariff does to
them is decided in docs/decisions/0021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import changes, customers, meters, tables
from ledger.changes import Act, ChangeRefused, Fault, Site
from ledger.operators import Role
from ledger.pricing import Tariff, fixed_charges_due
from ledger.record_tables import site_event
from ledger.records import insert_new
from ledger.tariffs import parse_rows
from ledger.unit import Meter

MAY_CHANGE: Final = (Role.SUPPORT, Role.SUPERVISOR)
MAY_PRICE: Final = (Role.SUPERVISOR, Role.FINANCE)
FREE_KWH_MAX: Final = 1_000

NextKey = Callable[[Meter, str], str | None]
"""The key that a meter shall have for a tariff index, written as stored; None if it has that index already."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A service point in a list, with what hangs there now."""

    code: str
    account_no: str
    area: str
    tariff_code: str
    drn: str | None
    status: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history. `before` and `after` are statuses of a meter, or accounts or tariffs of a point."""

    at: datetime
    who: str
    deed: str
    before: str
    after: str
    drn: str | None
    point: str | None
    other_drn: str | None
    reading_tenths: int | None
    credit_tenths: int | None
    claim: str | None
    reason: str


def add(connection: sa.Connection, act: Act, code: str, *, account_no: str, area: str, tariff_code: str) -> None:
    """Add a service point without a meter; its counters begin now.

    Refuses ROLE_MISSING, FORM, UNKNOWN (customer, tariff), CLOSED, EXISTS, STATUS (no version of the tariff holds).
    """
    act.require(*MAY_CHANGE, reason=False)
    changes.code("service point", code)
    customer = customers.open_one(connection, account_no)
    _require_in_force(tariff(connection, tariff_code), act)
    point_id = act.new_id()
    row = {
        "id": point_id,
        "code": code,
        "customer_id": customer.id,
        "area": changes.line("area", area),
        "tariff_code": tariff_code,
        "counter_month": act.month,
        "month_units_tenths": 0,
        "fixed_through_month": act.month,
        "fixed_through_date": act.today,
        "fixed_shortfall_minor": 0,
        "carry_minor": 0,
        "free_kwh_per_month": None,
        "free_last_month": "",
        "vending": None,
    }
    if not insert_new(connection, tables.service_point, [row], key="code"):
        raise ChangeRefused(Fault.EXISTS, f"there is a service point {code} already")
    changes.event(connection, act, "ADD", "", account_no, service_point_id=point_id)
    after = {"account_no": account_no, "area": row["area"], "tariff": tariff_code}
    changes.note(connection, act, "points.added", _subject(code), None, after)


def set_area(connection: sa.Connection, act: Act, code: str, area: str) -> None:
    """Change the area. Refuses ROLE_MISSING, REASON, UNKNOWN, FORM, SAME."""
    act.require(*MAY_CHANGE)
    new = changes.line("area", area)
    site = changes.lock_sites(connection, [code])[code]
    if site.area == new:
        raise ChangeRefused(Fault.SAME, "nothing would change")
    _set(connection, site, area=new)
    changes.note(connection, act, "points.area_set", _subject(code), {"area": site.area}, {"area": new})


def set_free_units(connection: sa.Connection, act: Act, code: str, kwh_per_month: int | None) -> None:
    """Entitle the service point to free units each month, or to none; what was given this month stays given.

    Refuses ROLE_MISSING, REASON, UNKNOWN, FORM, SAME.
    """
    act.require(*MAY_PRICE)
    if kwh_per_month is not None and not 1 <= kwh_per_month <= FREE_KWH_MAX:
        raise ChangeRefused(Fault.FORM, f"free units: 1 to {FREE_KWH_MAX} kWh a month expected, got {kwh_per_month}")
    site = changes.lock_sites(connection, [code])[code]
    if site.point.free_kwh_per_month == kwh_per_month:
        raise ChangeRefused(Fault.SAME, "nothing would change")
    _set(connection, site, free_kwh_per_month=kwh_per_month)
    before = {"free_kwh_per_month": site.point.free_kwh_per_month}
    changes.note(
        connection, act, "points.free_units_set", _subject(code), before, {"free_kwh_per_month": kwh_per_month}
    )


def set_tariff(connection: sa.Connection, act: Act, code: str, tariff_code: str, next_key: NextKey) -> Meter | None:
    """Let the service point buy by another tariff from now on; its meter, if that has to change its key for it.

    The counter of the month goes on. Fixed charges are asked for by the old tariff up to today and by the new one from
    tomorrow, or next month, on: nobody pays for a month twice, nor for one before the change. A meter whose key
    carries another tariff index gets its key change with the next sales.
    Refuses ROLE_MISSING, REASON, UNKNOWN, SAME, POINT_BUSY, STATUS (no version of the tariff holds today).
    """
    act.require(*MAY_PRICE)
    new = tariff(connection, tariff_code)
    _require_in_force(new, act)
    site = changes.lock_sites(connection, [code])[code]
    changes.require_idle(connection, site)
    point = site.point
    if point.tariff_code == tariff_code:
        raise ChangeRefused(Fault.SAME, f"service point {code} has tariff {tariff_code} already")
    shortfall_minor = point.fixed_shortfall_minor + _fallen_due(connection, act, site)
    _set(
        connection,
        site,
        tariff_code=tariff_code,
        fixed_shortfall_minor=shortfall_minor,
        last_sale=None,  # undone, it would bring back the charges of before, to be asked for by the new tariff
        **_asked_through_today(act, site),
    )
    changes.event(connection, act, "TARIFF", point.tariff_code, tariff_code, service_point_id=point.id)
    before: dict[str, Any] = {"tariff": point.tariff_code, "fixed_shortfall_minor": point.fixed_shortfall_minor}
    after = {"tariff": tariff_code, "fixed_shortfall_minor": shortfall_minor}
    changed = None
    if site.meter is not None:
        changed = fit_index(connection, site.meter, new.sts_tariff_index, next_key)
        if changed is not None:
            before["next"], after["next"] = site.meter.next_key, changed.next_key
    changes.note(connection, act, "points.tariff_set", _subject(code), before, after)
    return changed


def fit_index(connection: sa.Connection, meter: Meter, index: str, next_key: NextKey) -> Meter | None:
    """Ask for the key change that a locked meter needs for this tariff index; the meter then, None if it needs none."""
    wanted = next_key(meter, index)
    if wanted is None or wanted == meter.next_key:
        return None
    m = tables.meter.c
    connection.execute(
        tables.meter.update().where(m.id == meter.id).values(next_key=wanted, next_last_tid=None, change_given_at=None)
    )
    return meters.known(connection, meter.drn)


def transfer(
    connection: sa.Connection,
    act: Act,
    code: str,
    to_account: str,
    *,
    debts_to: str | None = None,
    debts_stay: bool = False,
) -> None:
    """Give the service point to another customer: the one moves out, the other moves in.

    The counter of the month stays with the place, else a cheap first block could be had anew by changing names; so
    does the month's claim to free units, whose entitlement ends. What was kept from rounding goes to the old
    customer's wallet. Debts and unpaid charges, those that have fallen due until today included, are the old
    customer's: they must be paid, or go along to another service point of the same customer (`debts_to`), or stay
    because the new customer takes them over (`debts_stay`); the last two are for a SUPERVISOR to decide.

    Refuses ROLE_MISSING, REASON, UNKNOWN, CLOSED, SAME, POINT_BUSY, NOT_SETTLED, OTHER_OWNER.
    """
    act.require(*MAY_CHANGE)
    if debts_stay or debts_to is not None:
        act.require(Role.SUPERVISOR)
    old_account = _account_of(connection, code)
    both = {no: customers.open_one(connection, no) for no in sorted({old_account, to_account})}
    old, new = both[old_account], both[to_account]
    sites = changes.lock_sites(connection, {code, debts_to or code})
    site = sites[code]
    for one in sites.values():
        changes.require_idle(connection, one)
    if site.point.customer_id != old.id:
        raise ChangeRefused(Fault.POINT_BUSY, f"service point {code} has just been given to somebody else; try again")
    if new.id == old.id:
        raise ChangeRefused(Fault.SAME, f"service point {code} belongs to account {to_account} already")
    shortfall_minor = site.point.fixed_shortfall_minor + _fallen_due(connection, act, site)
    d = tables.debt.c
    owed = connection.execute(
        sa.select(d.code, d.outstanding_minor).where(d.service_point_id == site.point.id, d.outstanding_minor > 0)
    ).all()
    if debts_to is not None:
        _take_along(connection, act, site, sites[debts_to], shortfall_minor, code == debts_to)
        shortfall_minor = 0
    elif (owed or shortfall_minor) and not debts_stay:
        left = [f"debt {row.code}" for row in owed] + (["fixed charges"] if shortfall_minor else [])
        raise ChangeRefused(
            Fault.NOT_SETTLED,
            f"account {old_account} has not paid {', '.join(left)}: settle this, or take it along to another service"
            " point of the account, or have the new customer take it over",
        )
    _set(
        connection,
        site,
        customer_id=new.id,
        free_kwh_per_month=None,
        fixed_shortfall_minor=shortfall_minor,
        last_sale=None,  # what the old customer bought is not undone on the new one's account
        **_asked_through_today(act, site),
    )
    changes.event(connection, act, "TRANSFER", old_account, to_account, service_point_id=site.point.id)
    paid_out_minor = customers.carry_to_wallet(connection, act, site, old)
    changes.note(
        connection,
        act,
        "points.transferred",
        _subject(code),
        {
            "account_no": old_account,
            "free_kwh_per_month": site.point.free_kwh_per_month,
            "fixed_shortfall_minor": site.point.fixed_shortfall_minor,
            "carry_minor": site.point.carry_minor,
        },
        {
            "account_no": to_account,
            "free_kwh_per_month": None,
            "fixed_shortfall_minor": shortfall_minor,
            "carry_minor": site.point.carry_minor - paid_out_minor,
            "debts": [row.code for row in owed],
            "debts_to": debts_to or "",
        },
    )


def _take_along(
    connection: sa.Connection, act: Act, site: Site, other: Site, shortfall_minor: int, is_same: bool
) -> None:
    """Move the debts and unpaid charges of a point to another one of its customer."""
    if is_same or other.point.customer_id != site.point.customer_id:
        raise ChangeRefused(Fault.OTHER_OWNER, f"{other.code} is not another service point of the same account")
    d, s = tables.debt.c, tables.service_point.c
    # What was recovered this month counts against this month's instalment at the new place too, if it counts there.
    recovered = d.recovered_this_month_minor if site.point.counter_month == other.point.counter_month else 0
    connection.execute(
        tables.debt.update()
        .where(d.service_point_id == site.point.id, d.outstanding_minor > 0)
        .values(service_point_id=other.point.id, recovered_this_month_minor=recovered)
    )
    connection.execute(
        tables.service_point.update()
        .where(s.id == other.point.id)
        # The last sale there is undone no more: what it found unpaid would be put in the place of what is now.
        .values(fixed_shortfall_minor=s.fixed_shortfall_minor + shortfall_minor, last_sale=None)
    )
    if shortfall_minor:
        before = other.point.fixed_shortfall_minor
        changes.note(
            connection,
            act,
            "points.charges_taken_along",
            _subject(other.code),
            {"fixed_shortfall_minor": before, "from": ""},
            {"fixed_shortfall_minor": before + shortfall_minor, "from": site.code},
        )


# --- tariffs and charges ----------------------------------------------------------------------------------------------


def tariff(connection: sa.Connection, code: str) -> Tariff:
    """The tariff with this code; refuses UNKNOWN."""
    t, v = tables.tariff.c, tables.tariff_version.c
    heads = connection.execute(sa.select(t.code, t.head).where(t.code == code)).all()
    if not heads:
        raise ChangeRefused(Fault.UNKNOWN, f"no tariff {code}")
    versions = connection.execute(
        sa.select(v.tariff_code, v.effective_from, v.rules)
        .where(v.tariff_code == code, v.state == "RELEASED")
        .order_by(v.effective_from)
    ).all()
    return parse_rows([tuple(row) for row in heads], [tuple(row) for row in versions])[code]


def _require_in_force(wanted: Tariff, act: Act) -> None:
    if wanted.version_at(act.local) is None:
        starts = f"{min(version.name for version in wanted.versions)}" if wanted.versions else "no day"
        raise ChangeRefused(
            Fault.STATUS, f"tariff {wanted.code} holds from {starts} on: nothing could be sold by it now"
        )


def _fallen_due(connection: sa.Connection, act: Act, site: Site) -> int:
    """The fixed charges that fell due at this place since its last purchase."""
    point = site.point
    due_minor, _, _ = fixed_charges_due(
        tariff(connection, point.tariff_code), point.fixed_through_month, point.fixed_through_date, act.local
    )
    return due_minor


def _asked_through_today(act: Act, site: Site) -> dict[str, str | date]:
    return {
        "fixed_through_month": max(site.point.fixed_through_month, act.month),
        "fixed_through_date": max(site.point.fixed_through_date, act.today),
    }


# --- looking ----------------------------------------------------------------------------------------------------------


def listed(
    connection: sa.Connection,
    *,
    account_no: str | None = None,
    area: str | None = None,
    after: str = "",
    at_most: int = 50,
) -> tuple[list[Listed], str | None]:
    """Service points by code, from the one after `after` on, and where the next page begins; 1 to 500 at a time."""
    assert 1 <= at_most <= 500
    s, c, m = tables.service_point.c, tables.customer.c, tables.meter.c
    hangs = sa.and_(m.service_point_id == s.id, m.status.in_(("INSTALLED", "BLOCKED", "FAULTY")))
    wanted = (
        sa.select(s.code, c.account_no, s.area, s.tariff_code, m.drn, m.status)
        .join_from(tables.service_point, tables.customer, s.customer_id == c.id)
        .join(tables.meter, hangs, isouter=True)
        .where(s.code > after)
    )
    if account_no is not None:
        wanted = wanted.where(c.account_no == account_no)
    if area is not None:
        wanted = wanted.where(s.area == area)
    rows = connection.execute(wanted.order_by(s.code).limit(at_most + 1)).all()
    found = [Listed(*row) for row in rows[:at_most]]
    return found, found[-1].code if len(rows) > at_most else None


def known(connection: sa.Connection, code: str) -> tuple[Site, str]:
    """The service point with this code and the account number of its customer; refuses UNKNOWN."""
    return changes.place(connection, code, lock=False), _account_of(connection, code)


def history(
    connection: sa.Connection, *, point: UUID | None = None, meter: UUID | None = None, at_most: int = 200
) -> list[Event]:
    """What happened to a service point or to a meter, oldest first; the latest if there is more than `at_most`."""
    e, s = site_event.c, tables.service_point.c
    mine, other = tables.meter.alias("mine"), tables.meter.alias("other")
    wanted = (
        sa.select(
            e.at, e.who, e.deed, e.before, e.after, mine.c.drn, s.code, other.c.drn,
            e.reading_tenths, e.credit_tenths, e.claim, e.reason,
        )
        .join_from(site_event, mine, e.meter_id == mine.c.id, isouter=True)
        .join(tables.service_point, e.service_point_id == s.id, isouter=True)
        .join(other, e.other_meter_id == other.c.id, isouter=True)
        .order_by(e.id.desc())
        .limit(at_most)
    )  # fmt: skip
    if point is not None:
        wanted = wanted.where(e.service_point_id == point)
    if meter is not None:
        wanted = wanted.where(e.meter_id == meter)
    return [Event(*tuple(row)) for row in connection.execute(wanted)][::-1]


def _account_of(connection: sa.Connection, code: str) -> str:
    s, c = tables.service_point.c, tables.customer.c
    found = connection.execute(
        sa.select(c.account_no)
        .join_from(tables.service_point, tables.customer, s.customer_id == c.id)
        .where(s.code == code)
    ).scalar_one_or_none()
    if found is None:
        raise ChangeRefused(Fault.UNKNOWN, f"no service point {code}")
    return str(found)


def _set(connection: sa.Connection, site: Site, **values: Any) -> None:
    connection.execute(tables.service_point.update().where(tables.service_point.c.id == site.point.id).values(**values))


def _subject(code: str) -> str:
    return f"service point {code}"
