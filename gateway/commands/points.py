"""`prepaid points`: service points, whose they are and by which tariff they buy; moved in and moved out."""

from __future__ import annotations

from typing import Any

from gateway.commands.records import (
    answers,
    changing,
    history_lines,
    limit,
    looking,
    money,
    next_key,
    page_end,
    paged,
    show,
    table,
    tenths,
)
from gateway.keysession import WELL, Group, Session, Unusable
from gateway.world import RealWorld, World
from ledger import service_points


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `points` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "points", "look at service points and change them", world or RealWorld())
    listing = paged(group.command("list", _list, "service points by code", people=1))
    listing.add_argument("--account", default=None)
    listing.add_argument("--area", default=None)
    answers(group.command("show", _show, "a service point with its history", people=1)).add_argument("point")
    adding = answers(group.command("add", _add, "add a service point", people=1))
    adding.add_argument("point")
    adding.add_argument("--account", required=True)
    adding.add_argument("--area", required=True)
    adding.add_argument("--tariff", required=True)
    area = answers(group.command("set-area", _set_area, "change the area", people=1))
    area.add_argument("point")
    area.add_argument("area")
    tariff = answers(group.command("set-tariff", _set_tariff, "let it buy by another tariff from now on", people=1))
    tariff.add_argument("point")
    tariff.add_argument("tariff")
    free = answers(group.command("set-free-units", _set_free_units, "entitle it to free units each month", people=1))
    free.add_argument("point")
    free.add_argument("kwh", help='kWh a month, or "none"')
    moving = answers(group.command("transfer", _transfer, "one customer moves out, another moves in", people=1))
    moving.add_argument("point")
    moving.add_argument("--to", required=True, metavar="ACCOUNT")
    debts = moving.add_mutually_exclusive_group()
    debts.add_argument("--debts-to", default=None, metavar="POINT", help="debts go along to this point of the old one")
    debts.add_argument("--debts-stay", action="store_true", help="the new customer takes the debts over")


def _list(session: Session) -> int:
    options, at_most = session.options, limit(session)
    found, next_after = looking(
        session,
        lambda connection: service_points.listed(
            connection, account_no=options.account, area=options.area, after=options.after, at_most=at_most
        ),
    )

    def lines() -> list[str]:
        rows = [(p.code, p.account_no, p.area, p.tariff_code, p.drn or "-", p.status or "-") for p in found]
        return [*table(("point", "account", "area", "tariff", "meter", "status"), rows), *page_end(next_after)]

    show(session, {"points": found, "next_after": next_after}, lines)
    return WELL


def _show(session: Session) -> int:
    code = session.options.point

    def read(connection: Any) -> Any:
        site, account_no = service_points.known(connection, code)
        return site, account_no, service_points.history(connection, point=site.point.id)

    site, account_no, events = looking(session, read)
    point = site.point

    def lines() -> list[str]:
        return [
            f"service point {code}  account {account_no}  {site.area}  tariff {point.tariff_code}",
            f"meter {site.meter.drn}  {site.meter.status}" if site.meter is not None else "no meter hangs there",
            f"bought in {point.counter_month}: {tenths(point.month_units_tenths)} kWh",
            f"fixed charges through {point.fixed_through_month} and {point.fixed_through_date}, unpaid"
            f" {money(session, point.fixed_shortfall_minor)}; kept {money(session, point.carry_minor)}",
            f"free units {point.free_kwh_per_month or 'none'}, last given in {point.free_last_month or '-'}",
            "",
            *history_lines(session, events),
        ]

    show(session, {"site": site, "account_no": account_no, "history": events}, lines)
    return WELL


def _add(session: Session) -> int:
    o = session.options
    changing(
        session,
        f"service point {o.point}",
        lambda connection, act: service_points.add(
            connection, act, o.point, account_no=o.account, area=o.area, tariff_code=o.tariff
        ),
    )
    said = {"point": o.point, "account_no": o.account, "area": o.area, "tariff": o.tariff}
    show(session, said, lambda: [f"added service point {o.point} of account {o.account}: tariff {o.tariff}"])
    return WELL


def _set_area(session: Session) -> int:
    o = session.options
    changing(
        session,
        f"service point {o.point}",
        lambda connection, act: service_points.set_area(connection, act, o.point, o.area),
    )
    show(session, {"point": o.point, "area": o.area}, lambda: [f"service point {o.point}: area {o.area}"])
    return WELL


def _set_tariff(session: Session) -> int:
    o = session.options
    meter = changing(
        session,
        f"service point {o.point}",
        lambda connection, act: service_points.set_tariff(connection, act, o.point, o.tariff, next_key),
    )

    def lines() -> list[str]:
        lines = [f"service point {o.point}: tariff {o.tariff} from now on"]
        if meter is not None:
            lines.append(f"meter {meter.drn} gets its key change with the next sales: another tariff index")
        return lines

    said = {"point": o.point, "tariff": o.tariff, "key_change_of": meter.drn if meter is not None else None}
    show(session, said, lines)
    return WELL


def _set_free_units(session: Session) -> int:
    o = session.options
    if o.kwh != "none" and not (o.kwh.isascii() and o.kwh.isdigit() and len(o.kwh) < 9):
        raise Unusable(f'kwh: a whole number of kWh or "none" expected, got {o.kwh!r}')
    wanted = None if o.kwh == "none" else int(o.kwh)
    changing(
        session,
        f"service point {o.point}",
        lambda connection, act: service_points.set_free_units(connection, act, o.point, wanted),
    )
    said = "no free units" if wanted is None else f"{wanted} kWh free a month"
    show(session, {"point": o.point, "free_kwh_per_month": wanted}, lambda: [f"service point {o.point}: {said}"])
    return WELL


def _transfer(session: Session) -> int:
    o = session.options
    changing(
        session,
        f"service point {o.point}",
        lambda connection, act: service_points.transfer(
            connection, act, o.point, o.to, debts_to=o.debts_to, debts_stay=o.debts_stay
        ),
    )
    said = {"point": o.point, "account_no": o.to, "debts_to": o.debts_to, "debts_stay": o.debts_stay}
    show(session, said, lambda: [f"service point {o.point} belongs to account {o.to} from now on"])
    return WELL
