"""`prepaid shifts`: an operator's shift from its float to its count, and the supervisor's acknowledgement."""

from __future__ import annotations

from typing import Any, Final

from gateway.commands.stations import local_now, minor_of, require_reader, shown
from gateway.keysession import WELL, Books, Group, Session, Unusable, say
from gateway.world import RealWorld, World
from ledger import shifts
from ledger.operators import Role
from ledger.shifts import Count, ShiftRow

_STATES: Final = (shifts.OPEN, shifts.CLOSED, shifts.ACKNOWLEDGED)


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `shifts`; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "shifts", "operators' shifts, their cash and its count", world or RealWorld())
    opening = group.command("open", _open, "begin one's shift at one's station; VENDOR", people=1)
    opening.add_argument("--float", default="0", metavar="MONEY", help="change money in the drawer at the start")
    closing = group.command(
        "close", _close, "count the drawer and end the shift; --reason explains a difference", people=1
    )
    closing.add_argument("--shift", metavar="CODE", help="another's, as SUPERVISOR of the station")
    closing.add_argument(
        "--count", action="append", default=[], metavar="NOTE=PIECES", help="as in 1000=5; may be given again"
    )
    closing.add_argument("--cards", default="0", metavar="MONEY", help="the total of the card slips")
    closing.add_argument("--cheques", default="0", metavar="MONEY", help="the total of the cheques")
    group.command(
        "acknowledge", _acknowledge, "a SUPERVISOR or FINANCE has seen the count; a difference is posted", people=1
    ).add_argument("code")
    group.command("show", _show, "a shift with its sales and its count", people=1).add_argument(
        "code", nargs="?", help="one's own open shift if not given"
    )
    listing = group.command("list", _list, "the last shifts of a station", people=1)
    listing.add_argument("station")
    listing.add_argument("--state", choices=_STATES)


def _open(session: Session) -> int:
    shift_id, float_minor = session.world.new_id(), minor_of(session, "float", session.options.float)

    async def work(books: Books) -> ShiftRow:
        return await books.write(
            lambda connection: shifts.open_shift(connection, shift_id, float_minor, by=books.first, origin=books.origin)
        )

    opened = session.in_books(work)
    say(f"shift {opened.code} at {opened.station} is open, float {shown(session, opened.float_minor)}")
    return WELL


def _close(session: Session) -> int:
    options = session.options
    count = Count(
        _pieces(session), minor_of(session, "cards", options.cards), minor_of(session, "cheques", options.cheques)
    )

    async def work(books: Books) -> ShiftRow:
        return await books.write(
            lambda connection: shifts.close_shift(
                connection,
                options.shift,
                count,
                options.reason,
                minor_digits=session.settings.utility.minor_digits,
                by=books.first,
                origin=books.origin,
            )
        )

    closed = session.in_books(work)
    say(f"shift {closed.code} is closed, cash counted {shown(session, count.cash_minor)}")
    if not closed.is_blind:
        _say_differences(session, closed)
    return WELL


def _pieces(session: Session) -> dict[int, int]:
    """The count by denomination in minor units; only notes and coins that there are."""
    wanted = session.settings.counter.denominations.split()
    there = {minor_of(session, "[counter] denominations", text) for text in wanted}
    pieces: dict[int, int] = {}
    for text in session.options.count:
        note, equals, number = text.partition("=")
        if not equals or not (number.isascii() and number.isdigit()) or len(number) > 9:
            raise Unusable(f"count: NOTE=PIECES expected, as in 1000=5, got {text!r}")
        denomination = minor_of(session, "count", note)
        if denomination <= 0 or (there and denomination not in there):
            raise Unusable(f"count: one of {' '.join(wanted) or 'more than nothing'} expected, got {note!r}")
        if denomination in pieces:
            raise Unusable(f"count: {note} is counted twice")
        pieces[denomination] = int(number)
    return pieces


def _acknowledge(session: Session) -> int:
    code, txn_id, today = session.options.code, session.world.new_id(), local_now(session).date()
    currency = session.settings.utility.currency

    async def work(books: Books) -> ShiftRow:
        return await books.write(
            lambda connection: shifts.acknowledge(
                connection, code, txn_id, today, currency, by=books.first, origin=books.origin
            )
        )

    found = session.in_books(work)
    say(f"shift {code} is acknowledged")
    _say_differences(session, found)
    if found.txn_id is not None:
        say(f"posted to overshort:{found.station}")
    return WELL


def _show(session: Session) -> int:
    code = session.options.code

    async def work(books: Books) -> tuple[ShiftRow, list[tuple[int, int]], bool]:
        login = books.first.login
        found = await books.read(
            lambda connection: shifts.known(connection, code) if code else shifts.open_of(connection, login)
        )
        if found is None:
            raise Unusable(f"{login} has no open shift: the code of a shift expected")
        require_reader(books, found.station)
        # A blind count is blind until it is counted, and for whoever counts also after.
        hidden = found.is_blind and not books.first.has(Role.SUPERVISOR, Role.FINANCE, Role.AUDITOR)
        return found, await books.read(lambda connection: shifts.pieces_of(connection, found.id)), hidden

    found, pieces, hidden = session.in_books(work)
    say(f"shift {found.code} at {found.station}, {found.login}: {found.state}, {_counted(found)}")
    say(f"float {shown(session, found.float_minor)}")
    if not hidden:
        for name in shifts.TENDERS:
            say(f"sold for {name} {shown(session, getattr(found, f'sold_{name}_minor'))}")
        for name in shifts.TENDERS if found.paid_count else ():
            say(f"paid without energy in {name} {shown(session, getattr(found, f'paid_{name}_minor'))}")
    for denomination, number in pieces:
        say(f"counted {number} of {shown(session, denomination)}")
    if not hidden:
        _say_differences(session, found)
    if found.explanation:
        say(f"because: {found.explanation}")
    return WELL


def _list(session: Session) -> int:
    options = session.options

    async def work(books: Books) -> list[ShiftRow]:
        require_reader(books, options.station)
        return await books.read(
            lambda connection: shifts.listed(connection, station=options.station, state=options.state)
        )

    for one in session.in_books(work):
        banked = "banked" if one.batch_id else ""
        say(f"{one.code}  {one.state}  {session.minute(one.opened_at)}  {_counted(one)}  {banked}".rstrip())
    return WELL


def _counted(found: ShiftRow) -> str:
    return f"{found.sold_count} sales" + (f", {found.paid_count} payments" if found.paid_count else "")


def _say_differences(session: Session, found: ShiftRow) -> None:
    for name, amount_minor in found.differences_minor().items():
        if amount_minor:
            say(f"{name}: {'over' if amount_minor > 0 else 'short'} by {shown(session, abs(amount_minor))}")
    if found.state != shifts.OPEN and not any(found.differences_minor().values()):
        say(f"the count agrees with the sales{' and payments' if found.paid_count else ''}")
