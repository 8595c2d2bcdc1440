"""`prepaid suspense`: money that could not be placed, resolved by one person and another."""

from __future__ import annotations

from typing import Any

from gateway.commands.stations import local_now, shown
from gateway.keysession import WELL, Books, Group, Session, say
from gateway.payments.contract import Can
from gateway.payments.registry import made
from gateway.world import RealWorld, World
from ledger import suspense
from ledger.payment_rows import ASKED, OPEN, REFUNDING, RESOLVED, SuspenseRow


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `suspense`; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "suspense", "money of outside sources that could not be placed", world or RealWorld())
    listing = group.command("list", _list, "what is not resolved, the oldest first", people=1)
    listing.add_argument("--source", metavar="NAME")
    listing.add_argument("--state", choices=(OPEN, ASKED, REFUNDING, RESOLVED))
    group.command("show", _show, "one item and what was decided on it", people=1).add_argument("code")
    resolving = group.command(
        "resolve", _ask, "ask for it to be put into a wallet, given back by hand, or written off", people=1
    )
    resolving.add_argument("code")
    way = resolving.add_mutually_exclusive_group(required=True)
    way.add_argument("--wallet", metavar="ACCOUNT", help="the account number of the customer whose it is")
    way.add_argument(
        "--paid-out",
        choices=suspense.PAID_OUT_BY,
        help="it was given back by hand: by the office's cash, by the bank, or in the portal of its source",
    )
    way.add_argument("--write-off", action="store_true", help="what its source took back after the sale is lost")
    refunding = group.command("refund", _ask, "ask for it to be given back to its payer by its source", people=1)
    refunding.add_argument("code")
    ending = group.command(
        "end-refund", _end, "ask to end a refund whose source never says how it went, by what was seen there", people=1
    )
    ending.add_argument("code")
    seen = ending.add_mutually_exclusive_group(required=True)
    seen.add_argument("--done", metavar="REFERENCE", help="it was given back; what its source calls that")
    seen.add_argument("--not-done", action="store_true", help="it was not, and will not be; the item is open again")
    group.command("approve", _decide, "do what another person asked for", people=1).add_argument("code")
    group.command(
        "refuse",
        _decide,
        "do not; it is open again. Also of a refund that was never sent; one that was is asked about again",
        people=1,
    ).add_argument("code")


def _list(session: Session) -> int:
    options = session.options

    async def work(books: Books) -> list[SuspenseRow]:
        suspense.may_look(books.first)
        return await books.read(
            lambda connection: suspense.listed(connection, source=options.source, state=options.state)
        )

    for item in session.in_books(work):
        say(_line(session, item))
    return WELL


def _show(session: Session) -> int:
    code = session.options.code

    async def work(books: Books) -> list[str]:
        suspense.may_look(books.first)

        def read(connection: Any) -> list[str]:
            item = suspense.known(connection, code)
            lines = [_line(session, item), f"receipt {suspense.receipt_of(connection, item)}"]
            lines[1] += f"  paid for {item.account_ref!r}  by {item.payer}"
            for refund in suspense.refunds_of(connection, item.id):
                lines.append(_refund_line(refund))
            for one in suspense.decisions(connection, item.id):
                lines.append(f"{one.at:%Y-%m-%d %H:%M} UTC  {one.step} {one.how} {one.target}  {one.who}: {one.reason}")
            if item.resolution:
                lines.append(f"{item.resolution} by {item.resolved_by}")
            return lines

        return await books.read(read)

    for line in session.in_books(work):
        say(line)
    return WELL


def _ask(session: Session) -> int:
    options = session.options
    how, target = suspense.REFUND, ""
    if options.suspense_command == "resolve":
        how, target = (suspense.WRITE_OFF, "") if options.write_off else (suspense.WALLET, options.wallet)
        if options.paid_out:
            how, target = suspense.PAY_OUT, options.paid_out
    able = {one.name for one, source in made(session.settings, session.world.now) if Can.REFUND in source.can}

    def write(connection: Any, books: Books) -> SuspenseRow:
        source = suspense.known(connection, options.code).source
        if how == suspense.REFUND and source not in able:
            raise suspense.SuspenseRefused(
                f"{source} as set up gives nothing back by itself: give it back by hand, and resolve with --paid-out"
            )
        return suspense.ask(connection, options.code, how, target, by=books.first, origin=books.origin)

    async def work(books: Books) -> SuspenseRow:
        return await books.write(lambda connection: write(connection, books))

    say(f"{_line(session, session.in_books(work))}; another person approves it")
    return WELL


def _end(session: Session) -> int:
    options = session.options
    how, target = (suspense.REFUND_NOT_DONE, "") if options.not_done else (suspense.REFUND_DONE, options.done)

    async def work(books: Books) -> SuspenseRow:
        return await books.write(
            lambda connection: suspense.ask_end(
                connection, options.code, how, target, by=books.first, origin=books.origin
            )
        )

    say(f"{_line(session, session.in_books(work))}; another person of FINANCE approves it")
    return WELL


def _decide(session: Session) -> int:
    options, new_id, today = session.options, session.world.new_id(), local_now(session).date()

    async def work(books: Books) -> SuspenseRow:
        def write(connection: Any) -> SuspenseRow:
            if options.suspense_command == "refuse":
                return suspense.refuse(connection, options.code, by=books.first, origin=books.origin)
            return suspense.approve(connection, options.code, new_id, today, by=books.first, origin=books.origin)

        return await books.write(write)

    say(_line(session, session.in_books(work)))
    return WELL


def _line(session: Session, item: SuspenseRow) -> str:
    days = (session.world.now() - item.opened_at).days
    return (
        f"suspense {item.code}  {item.source}  {shown(session, item.amount_minor)}  {item.reason}  {item.state}"
        f"  {days} days"
    )


def _refund_line(refund: suspense.Refund) -> str:
    """By what names the office finds a refund at its source."""
    named = f", there {refund.provider_ref}" if refund.provider_ref else ""
    why = f" ({refund.why})" if refund.why else ""
    since = f"{refund.created_at:%Y-%m-%d %H:%M} UTC"
    return f"refund {refund.id}{named}: {refund.state}{why}, since {since}, sent or asked about {refund.tries} times"
