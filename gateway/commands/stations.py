"""`prepaid stations`, `prepaid commissions`: stations and agents, their limits, commission and statement."""

from __future__ import annotations

import argparse
from datetime import date, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from gateway.keysession import WELL, Books, Group, Session, Unusable, say
from gateway.sale import receipt_of
from gateway.world import RealWorld, World
from ledger import commissions, stations
from ledger.accounts import id_of
from ledger.money import plain, to_minor
from ledger.operators import Role, require_role
from ledger.stations import Line, Money, Station

_PAGE: Final = 1_000
_YES_NO: Final = {"yes": True, "no": False}
_NONE: Final = "none"


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `stations` and `commissions`; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "stations", "look after stations and agents", world or RealWorld())
    adding = group.command("add", _add, "add a station; FINANCE or ADMIN", people=1)
    adding.add_argument("code")
    adding.add_argument("--kind", required=True, choices=stations.KINDS)
    adding.add_argument("--funding", required=True, choices=stations.FUNDINGS)
    changing = group.command("change", _change, "change what one person may change; FINANCE or ADMIN", people=1)
    changing.add_argument("code")
    changing.add_argument("--kind", choices=stations.KINDS)
    for parser, required in ((adding, True), (changing, False)):
        parser.add_argument("--name", required=required)
        parser.add_argument("--supply-groups", required=required, metavar="SGC[,SGC]")
        parser.add_argument("--channels", metavar="NAME[,NAME]", help="those it may sell by; none: any")
        parser.add_argument("--language", metavar="TAG", help="of its receipts; none: the utility's")
        parser.add_argument("--shift-required", choices=_YES_NO, help="whether its operators sell in shifts only")
        parser.add_argument("--blind-count", choices=_YES_NO, help="whether they count without being told the total")
    for name, about in (("block", "keep a station from selling"), ("unblock", "let a station sell again")):
        group.command(name, _block, f"{about}; SUPERVISOR, FINANCE or ADMIN", people=1).add_argument("code")
    limiting = group.command("limit", _limit, "how much a station on credit may owe; two people", people=2)
    limiting.add_argument("code")
    limiting.add_argument("limit", metavar="MONEY")
    earning = group.command("commission", _commission, "what a station earns; two people", people=2)
    earning.add_argument("code")
    how = earning.add_mutually_exclusive_group(required=True)
    how.add_argument("--percent", metavar="P", help="of each sale, as in 2.5")
    how.add_argument("--scheme", metavar="CODE")
    paying = group.command("pay-commission", _pay, "give a station what it has earned; two people", people=2)
    paying.add_argument("code")
    selling = group.command(
        "operator-limits", _operator_limits, "the most an operator may sell; SUPERVISOR or FINANCE", people=1
    )
    selling.add_argument("login")
    for name in ("per-sale", "per-shift", "per-day"):
        selling.add_argument(f"--{name}", metavar="MONEY", help="none: no limit")
    group.command("list", _list, "all stations")
    group.command("show", _show, "a station with its money; its people, FINANCE or AUDITOR", people=1).add_argument(
        "code"
    )
    stating = group.command("statement", _statement, "a station's account, line by line", people=1)
    stating.add_argument("code")
    stating.add_argument("--from", dest="first", type=day_of, required=True, metavar="DAY")
    stating.add_argument("--to", dest="last", type=day_of, required=True, metavar="DAY")
    _add_commissions(subparsers, world or RealWorld())


def _add_commissions(subparsers: Any, world: World) -> None:
    group = Group(subparsers, "commissions", "commission schemes: what stations earn, by date and size", world)
    setting = group.command("set", _set_scheme, "begin a scheme, or a version of it; two people", people=2)
    setting.add_argument("code")
    setting.add_argument("--name", required=True)
    setting.add_argument("--from", dest="first", type=day_of, required=True, metavar="DAY")
    setting.add_argument(
        "--step",
        action="append",
        required=True,
        metavar="FROM:PERCENT[:FIXED[:PER_KWH[:DEBT_PERCENT]]]",
        help="from this amount of a sale on; the first from 0. May be given again",
    )
    group.command("list", _list_schemes, "all schemes with their versions")


# --- what several tools share -----------------------------------------------------------------------------------------


def day_of(text: str) -> date:
    """A day as people type it, 2026-06-05."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a day such as 2026-06-05 expected, got {text!r}") from None


def local_now(session: Session) -> datetime:
    """The present instant in the utility's time."""
    return session.world.now().astimezone(session.settings.utility.zone)


def minor_of(session: Session, name: str, text: str) -> int:
    """An amount as people type it, in minor units."""
    try:
        return to_minor(text, session.settings.utility.minor_digits)
    except ValueError as error:
        raise Unusable(f"{name}: {error}") from None


def shown(session: Session, amount_minor: int) -> str:
    """An amount as people are shown it: "1500.00"."""
    return plain(amount_minor, session.settings.utility.minor_digits)


def require_reader(books: Books, station: str | None) -> None:
    """Refuse unless it is one's own station, or one's role is to look at all of them (None)."""
    if station is None or books.first.station != station:
        require_role(books.first, Role.FINANCE, Role.ADMIN, Role.AUDITOR, Role.SUPPORT)


# --- stations ---------------------------------------------------------------------------------------------------------


def _listed(text: str | None) -> str:
    return "" if text is None or text == _NONE else " ".join(text.replace(",", " ").split())


def _add(session: Session) -> int:
    options = session.options
    new = Station(
        id=session.world.new_id(),
        code=options.code,
        name=options.name,
        kind=options.kind,
        funding=options.funding,
        account_id=id_of(f"{'float' if options.funding == 'PREPAID' else 'owed'}:{options.code}"),
        commission_percent="0",
        supply_groups=_listed(options.supply_groups),
        channels=_listed(options.channels),
        language=options.language,
        shift_required=_YES_NO[options.shift_required or "no"],
        blind_count=_YES_NO[options.blind_count or "no"],
    )
    currency = session.settings.utility.currency

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: stations.add(connection, new, currency, by=books.first, origin=books.origin)
        )

    session.in_books(work)
    say(f"added station {new.code}; it cannot sell before it has a float or a limit")
    return WELL


def _change(session: Session) -> int:
    options = session.options
    changes: dict[str, Any] = {}
    for name in ("name", "kind"):
        if (text := getattr(options, name)) is not None:
            changes[name] = text
    for name in ("supply_groups", "channels"):
        if (text := getattr(options, name)) is not None:
            changes[name] = _listed(text)
    for name in ("shift_required", "blind_count"):
        if (text := getattr(options, name)) is not None:
            changes[name] = _YES_NO[text]
    if options.language is not None:
        changes["language"] = None if options.language == _NONE else options.language

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: stations.change(connection, options.code, changes, by=books.first, origin=books.origin)
        )

    session.in_books(work)
    say(f"station {options.code}: changed {', '.join(sorted(changes)) or 'nothing'}")
    return WELL


def _block(session: Session) -> int:
    code, blocked = session.options.code, session.options.stations_command == "block"

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: stations.set_blocked(connection, code, blocked, by=books.first, origin=books.origin)
        )

    session.in_books(work)
    say(f"station {code} {'can no longer' if blocked else 'can again'} sell")
    return WELL


def _limit(session: Session) -> int:
    code, limit_minor = session.options.code, minor_of(session, "limit", session.options.limit)

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: stations.set_limit(
                connection, code, limit_minor, by=books.first, beside=books.second, origin=books.origin
            )
        )

    session.in_books(work)
    say(f"station {code} may owe {shown(session, limit_minor)}")
    return WELL


def _commission(session: Session) -> int:
    options = session.options

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: stations.set_commission(
                connection,
                options.code,
                percent=options.percent,
                scheme=options.scheme,
                by=books.first,
                beside=books.second,
                origin=books.origin,
            )
        )

    session.in_books(work)
    earns = f"by scheme {options.scheme}" if options.scheme else f"{options.percent} percent of each sale"
    say(f"station {options.code} earns {earns} from its next sale on")
    return WELL


def _pay(session: Session) -> int:
    code, txn_id, today = session.options.code, session.world.new_id(), local_now(session).date()

    async def work(books: Books) -> int:
        return await books.write(
            lambda connection: stations.pay_commission(
                connection,
                code,
                txn_id=txn_id,
                business_date=today,
                by=books.first,
                beside=books.second,
                origin=books.origin,
            )
        )

    say(f"station {code}: commission of {shown(session, session.in_books(work))} paid to its account")
    return WELL


def _operator_limits(session: Session) -> int:
    options = session.options
    given = (options.per_sale, options.per_shift, options.per_day)

    async def work(books: Books) -> tuple[int | None, ...]:
        def write(connection: Any) -> tuple[int | None, ...]:
            now = stations.limits_of(connection, options.login)
            per_sale, per_shift, per_day = (
                old if text is None else None if text == _NONE else minor_of(session, "limit", text)
                for text, old in zip(given, now, strict=True)
            )
            limits = (per_sale, per_shift, per_day)
            stations.set_operator_limits(connection, options.login, limits, by=books.first, origin=books.origin)
            return limits

        return await books.write(write)

    limits = session.in_books(work)
    words = [_NONE if one is None else shown(session, one) for one in limits]
    say(f"{options.login} may sell per sale {words[0]}, per shift {words[1]}, per day {words[2]}")
    return WELL


def _list(session: Session) -> int:
    for one in session.in_books(lambda books: books.read(stations.everyone)):
        say("  ".join([one.code, one.name, one.kind, one.funding, one.state, one.supply_groups or "-"]))
    return WELL


def _show(session: Session) -> int:
    code = session.options.code

    async def work(books: Books) -> tuple[Station, Money, int]:
        require_reader(books, code)

        def read(connection: Any) -> tuple[Station, Money, int]:
            station = stations.known(connection, code)
            return station, stations.money(connection, station), stations.commission_owed(connection, code)

        return await books.read(read)

    one, money, commission_minor = session.in_books(work)
    say(f"station {one.code}, {one.name}: {one.kind}, {one.state}")
    if one.funding == "PREPAID":
        say(f"float {shown(session, money.posted_minor)}")
    else:
        say(f"owes {shown(session, -money.posted_minor)} of at most {shown(session, -money.floor_minor)}")
    say(f"held for sales in progress {shown(session, money.pending_minor)}")
    say(f"may sell for {shown(session, money.available_minor)}")
    earns = f"scheme {one.commission_scheme}" if one.commission_scheme else f"{one.commission_percent} percent"
    say(f"commission: {earns}; {shown(session, commission_minor)} not paid yet")
    say(f"supply groups {one.supply_groups or '-'}; channels {one.channels or 'any'}")
    say(
        f"shifts {'required' if one.shift_required else 'not required'}"
        f"{', counted blind' if one.blind_count else ''}; receipts in {one.language or 'the usual language'}"
    )
    return WELL


def _statement(session: Session) -> int:
    options = session.options
    code, days = options.code, (options.first, options.last)

    async def work(books: Books) -> None:
        require_reader(books, code)
        station = await books.read(lambda connection: stations.known(connection, code))
        running = await books.read(lambda connection: stations.balance_before(connection, station, days[0]))
        zone = session.settings.utility.timezone
        say(f"station {code}, {station.name}: {days[0]} to {days[1]}, times of {zone}")
        say(_row(session, "", "", "brought forward", 0, running))
        into = out = 0
        after: UUID | None = None
        while True:  # page by page, so that a year of a busy station takes no more memory than a day
            read = partial(stations.statement_page, station=station, days=days, after=after, at_most=_PAGE)
            page: list[Line] = await books.read(read)
            for line in page:
                running += line.amount_minor
                into += max(0, line.amount_minor)
                out += max(0, -line.amount_minor)
                about = receipt_of(line.txn_id) if line.kind == "sale" else line.about
                said = f"{line.kind} {about}".strip()
                say(_row(session, f"{line.business_date}", _time(session, line), said, line.amount_minor, running))
            if len(page) < _PAGE:
                break
            after = page[-1].txn_id
        say(_row(session, "", "", "carried forward", 0, running))
        say(f"in {shown(session, into)}, out {shown(session, out)}")

    session.in_books(work)
    return WELL


def _time(session: Session, line: Line) -> str:
    return f"{line.recorded_at.astimezone(session.settings.utility.zone):%H:%M:%S}"


def _row(session: Session, day: str, time: str, said: str, amount_minor: int, running_minor: int) -> str:
    amount = shown(session, amount_minor) if amount_minor else ""
    return f"{day:<10} {time:<8}  {said:<44}{amount:>16}{shown(session, running_minor):>18}"


# --- commissions ------------------------------------------------------------------------------------------------------


def _set_scheme(session: Session) -> int:
    options = session.options
    today = local_now(session).date()
    try:
        new = commissions.version(options.first, [_step(session, text) for text in options.step])
    except commissions.SchemeFault as fault:
        raise Unusable(f"{fault}") from None

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: stations.save_scheme(
                connection,
                options.code,
                options.name,
                new,
                today=today,
                by=books.first,
                beside=books.second,
                origin=books.origin,
            )
        )

    session.in_books(work)
    say(f"scheme {options.code}: a version from {new.effective_from} with {len(new.steps)} steps")
    return WELL


def _step(session: Session, text: str) -> commissions.Step:
    parts = text.split(":")
    if not 2 <= len(parts) <= 5:
        raise Unusable(f"step: FROM:PERCENT[:FIXED[:PER_KWH[:DEBT_PERCENT]]] expected, got {text!r}")
    parts += ["0"] * (5 - len(parts))
    per_kwh_minor = minor_of(session, "step", parts[3])
    return commissions.Step(
        minor_of(session, "step", parts[0]),
        parts[1],
        minor_of(session, "step", parts[2]),
        str(per_kwh_minor),
        parts[4],
    )


def _list_schemes(session: Session) -> int:
    for code, name, versions in session.in_books(lambda books: books.read(stations.schemes)):
        say(f"{code}  {name}")
        for version in versions:
            say(f"  from {version.effective_from}")
            for step in version.steps:
                say(
                    f"    sales from {shown(session, step.from_minor)}: {step.percent} percent,"
                    f" {shown(session, step.fixed_minor)} a sale,"
                    f" {shown(session, int(step.per_kwh_minor))} a kWh, {step.debt_percent} percent of debts"
                )
    return WELL
