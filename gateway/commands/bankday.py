"""`prepaid bank` at the end of a day. Our file, its file, their match, what is decided of differences, payments."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Final

from gateway.commands import bank as bank_commands
from gateway.commands import banklinks
from gateway.commands.stations import day_of, local_now, minor_of, shown
from gateway.keysession import NO, WELL, Books, Session, Unusable, bytes_of, say, write_new
from gateway.sale import receipt_of
from gateway.world import RealWorld, World
from ledger import bankdays, bankfile, banks
from ledger.bankdays import Difference, FileRow, Matched, Payment
from ledger.bankmatch import OWNER
from ledger.operators import Role, require_role

_READERS: Final = (Role.FINANCE, Role.SUPERVISOR, Role.AUDITOR)


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `bank` with its end of day; each sub-command sets `run`, options to exit code."""
    group = bank_commands.add_commands(subparsers, world=world or RealWorld())
    banklinks.add_to(group)

    def of_day(name: str, work: Any, about: str, people: int = 1) -> Any:
        parser = group.command(name, work, about, people=people)
        parser.add_argument("bank")
        parser.add_argument("day", type=day_of)
        return parser

    exporting = of_day("export", _export, "write our file of a business date; FINANCE or SUPERVISOR")
    exporting.add_argument("--to", type=Path, required=True, metavar="FILE")
    exporting.add_argument("--currency", default="", help="as the bank writes it; by default the utility's")
    importing = group.command(
        "import", _import, "take a bank's file and match its day; the same file again changes nothing", people=1
    )
    importing.add_argument("bank")
    importing.add_argument("file", type=Path)
    of_day("match", _match, "compare a day again: books, messages and file. Ends with 1 while differences are open")
    of_day("show", _show, "totals, files, reconciliations, payments and differences of a day")
    group.command("differences", _list, "what is open or claimed, of all days", people=1).add_argument("bank")
    for name, work, about, people in (
        ("claim", _decide, "the bank was asked to pay or correct; --reason says how", 1),
        ("accept", _decide, "nothing is owed; --reason says why", 1),
        ("write-off", _decide, "give up what the bank will not pay; two people of FINANCE", 2),
    ):
        group.command(name, work, about, people=people).add_argument("code")
    paying = of_day("paid", _paid, "book what a bank has paid for a day; two people of FINANCE", people=2)
    paying.add_argument("--amount", required=True, metavar="MONEY", help="with a minus: we paid the bank")
    paying.add_argument("--reference", required=True, metavar="TEXT", help="of the bank's statement")
    paying.add_argument("--paid-on", required=True, type=day_of, metavar="DAY")


# --- files ------------------------------------------------------------------------------------------------------------


def _export(session: Session) -> int:
    options, file_id = session.options, session.world.new_id()
    currency = options.currency or _currencies(session)[0]

    async def work(books: Books) -> tuple[FileRow, bytes]:
        row, data = await books.write(
            lambda connection: bankdays.export(
                connection, file_id, options.bank, options.day, currency, by=books.first, origin=books.origin
            )
        )
        return row, data

    if options.to.exists():
        raise Unusable(f"{options.to}: a file that does not exist yet expected")
    row, data = session.in_books(work)
    write_new(options.to, data)
    say(_file_line(session, row))
    return WELL


def _import(session: Session) -> int:
    options, new_id = session.options, session.world.new_id()
    try:
        file = bankfile.read(bytes_of(options.file, bankfile.BYTES_MAX))
    except bankfile.FileFaulty as fault:
        raise Unusable(f"{options.file}: {fault}") from None
    day = file.header.business_date

    async def work(books: Books) -> tuple[FileRow, bool, Matched]:
        row, is_new = await books.write(
            lambda connection: bankdays.take(
                connection,
                new_id,
                file,
                options.bank,
                _currencies(session),
                by=books.first,
                origin=books.origin,
            )
        )
        return row, is_new, await books.write(lambda connection: _rematched(session, connection, options.bank, day))

    row, is_new, matched = session.in_books(work)
    say(_file_line(session, row))
    if not is_new:
        say("it was taken before: nothing has changed")
    return _say_match(session, matched)


def _currencies(session: Session) -> list[str]:
    """The utility's currency as this bank gives it, then as the books do. Raises Unusable for a bank nobody knows."""
    known = {bank.name: bank.currency for bank in session.settings.bank}
    bank = session.options.bank
    if known and bank not in known:
        raise Unusable(f"bank: one of {', '.join(sorted(known))} expected, got {bank!r}")
    return [*([known[bank]] if bank in known else []), session.settings.utility.currency]


def _file_line(session: Session, row: FileRow) -> str:
    whose = "theirs" if row.direction == bankdays.THEIRS else "ours"
    return (
        f"file {row.bank} {row.business_date}  {whose}  sequence {row.sequence}  {row.lines} lines  "
        f"sold {row.purchases} {shown(session, row.purchases_minor)}  "
        f"taken back {row.reversals} {shown(session, row.reversals_minor)}"
    )


# --- match ------------------------------------------------------------------------------------------------------------


def _match(session: Session) -> int:
    options = session.options

    async def work(books: Books) -> Matched:
        require_role(books.first, Role.FINANCE, Role.SUPERVISOR)
        return await books.write(lambda connection: _rematched(session, connection, options.bank, options.day))

    return _say_match(session, session.in_books(work))


def _rematched(session: Session, connection: Any, bank: str, day: date) -> Matched:
    return bankdays.rematch(connection, bank, day, session.world.new_id, receipt_of, session.world.now())


def _say_match(session: Session, matched: Matched) -> int:
    for kind, count in matched.counts.items():
        say(f"{count:7d} {kind.value}")
    say(f"we say {shown(session, matched.ours_minor)}, the bank says {shown(session, matched.theirs_minor)}")
    for one in matched.differences:
        say(_line(session, one))
    undecided = [one for one in matched.differences if one.state == bankdays.OPEN]
    say(f"{len(undecided)} differences are open" if undecided else "no difference is open")
    return NO if undecided else WELL


def _line(session: Session, one: Difference) -> str:
    owner, proposed = OWNER[one.kind]
    what = proposed if one.state == bankdays.OPEN else f"{one.decided_by}: {one.reason}"
    return (
        f"{one.code}  {one.business_date}  {one.kind.value}  {one.key}  ours {shown(session, one.ours_minor)}  "
        f"theirs {shown(session, one.theirs_minor)}  {one.state}  [{owner}] {what}"
    )


def _show(session: Session) -> int:
    bank, day = session.options.bank, session.options.day

    async def work(books: Books) -> list[str]:
        require_role(books.first, *_READERS)
        return await books.read(lambda connection: _shown_day(session, connection, bank, day))

    for line in session.in_books(work):
        say(line)
    return WELL


def _shown_day(session: Session, connection: Any, bank: str, day: date) -> list[str]:
    ours = banks.totals(connection, bank, day)
    lines = [
        f"books  sold {ours.purchases} {shown(session, ours.purchases_minor)}  "
        f"taken back {ours.reversals} {shown(session, ours.reversals_minor)}  "
        f"net {shown(session, -ours.net_minor)}"
    ]
    for told in banks.reconciled(connection, bank, day):
        said = "in balance" if told.in_balance else "out of balance"
        lines.append(
            f"0500   sold {told.theirs.purchases} {shown(session, told.theirs.purchases_minor)}  "
            f"taken back {told.theirs.reversals} {shown(session, told.theirs.reversals_minor)}  {said}"
        )
    lines += [_file_line(session, row) for row in bankdays.files(connection, bank, day)]
    lines += [
        f"paid   {shown(session, payment.amount_minor)}  {payment.reference}  on {payment.paid_on}"
        for payment in bankdays.payments(connection, bank, day)
    ]
    lines += [_line(session, one) for one in bankdays.differences(connection, bank, day)]
    on_its_way = bankdays.on_its_way_minor(connection, bank)
    return [*lines, f"on its way from {bank}, all days: {shown(session, on_its_way)}"]


def _list(session: Session) -> int:
    bank = session.options.bank

    async def work(books: Books) -> list[Difference]:
        require_role(books.first, *_READERS)
        return await books.read(lambda connection: bankdays.differences(connection, bank))

    for one in session.in_books(work):
        say(_line(session, one))
    return WELL


# --- deeds ------------------------------------------------------------------------------------------------------------


def _decide(session: Session) -> int:
    code, what = session.options.code, session.options.bank_command
    txn_id, today = session.world.new_id(), local_now(session).date()
    currency = session.settings.utility.currency

    async def work(books: Books) -> Difference:
        def write(connection: Any) -> Difference:
            if what == "claim":
                return bankdays.claim(connection, code, by=books.first, origin=books.origin)
            if what == "accept":
                return bankdays.accept(connection, code, by=books.first, origin=books.origin)
            return bankdays.write_off(
                connection, code, txn_id, today, currency, by=books.first, beside=books.second, origin=books.origin
            )

        return await books.write(write)

    say(_line(session, session.in_books(work)))
    return WELL


def _paid(session: Session) -> int:
    options = session.options
    payment = Payment(
        options.bank, options.day, options.reference, minor_of(session, "amount", options.amount), options.paid_on
    )
    payment_id, txn_id, today = session.world.new_id(), session.world.new_id(), local_now(session).date()

    async def work(books: Books) -> int:
        def write(connection: Any) -> int:
            bankdays.paid(
                connection,
                payment,
                payment_id,
                txn_id,
                today,
                session.settings.utility.currency,
                by=books.first,
                beside=books.second,
                origin=books.origin,
            )
            return bankdays.on_its_way_minor(connection, payment.bank)

        return await books.write(write)

    left = session.in_books(work)
    say(f"{payment.bank} has paid {shown(session, payment.amount_minor)}; on its way still: {shown(session, left)}")
    return WELL
