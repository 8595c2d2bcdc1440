"""`prepaid settlement`: statements of providers taken in, matched with our payments, booked; what is open. Shell."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

from config.money import SettlementSettings
from gateway import till
from gateway.bulk.lines import CSV, BadFile
from gateway.bulk.progress import Progress
from gateway.bulk.repair import write_repair
from gateway.commands.listing import new_file
from gateway.commands.stations import day_of, local_now, minor_of, shown
from gateway.keysession import NO, UNUSABLE, WELL, Books, Group, Session, Unusable, say
from gateway.logs import mask_phone
from gateway.payments.contract import Can, NotListed
from gateway.payments.registry import made
from gateway.sale import receipt_of
from gateway.settlement import fetching, taking
from gateway.settlement.desk import StatementDesk, payment_settings
from gateway.settlement.mapping import BadMapping, load, shipped
from gateway.settlement.matching import Run
from gateway.settlement.reading import Terms
from gateway.settlement.taking import Statement, Total
from gateway.world import RealWorld, World
from ledger import pendingpayments, settlement, settlement_reports, statementlines
from ledger.bulk.scratch import Scratch
from ledger.operators import Role, require_role
from ledger.pendingpayments import Pending
from ledger.records import ensure_accounts
from ledger.settlement import Item, Payout
from ledger.settlement_reports import AGE_NAMES
from ledger.statementmatch import CLASSES, Fees

_FAULTS_TOLD: Final = 50
_READS: Final = (Role.FINANCE, Role.SUPERVISOR, Role.AUDITOR)
_SOURCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `settlement`; each sub-command sets `run`, options to exit code."""
    group = Group(
        subparsers, "settlement", "statements of payment sources against our books (docs/settlement.md)",
        world or RealWorld(),
    )  # fmt: skip
    taken = group.command("import", _import, "take a statement in and match it; FINANCE", people=1)
    taken.add_argument("source", help="the payment source, as in clearing:<source>")
    taken.add_argument("file", type=Path, metavar="FILE")
    taken.add_argument("--mapping", metavar="NAME|FILE", help="else that of [[settlement]]")
    taken.add_argument("--trial", action="store_true", help="check everything and say the same, but store nothing")
    taken.add_argument("--load-good", action="store_true", help="store the good lines even if others are bad")
    taken.add_argument("--repair", type=Path, metavar="FILE", help="write the bad lines here, with the reasons")
    fetched = group.command("fetch", _fetch, "take a day in from the provider itself, where it lists it", people=1)
    fetched.add_argument("source", help="the name of its [[payment]] table")
    fetched.add_argument("--day", type=day_of, metavar="DAY", help="else yesterday")
    fetched.add_argument("--trial", action="store_true", help="check everything and say the same, but store nothing")
    fetched.set_defaults(load_good=False, repair=None)
    group.command("mappings", _mappings, "the mapping files that are shipped", configured=False)
    running = group.command("match", _match, "match what is not matched yet; FINANCE", people=1)
    running.add_argument("source")
    listing = group.command("list", _list, "what is open, for a person to look at", people=1)
    listing.add_argument("source", nargs="?")
    listing.add_argument("--class", dest="class_", choices=CLASSES)
    listing.add_argument("--day", type=day_of)
    listing.add_argument("--all", action="store_true", help="also what is matched or resolved")
    showing = group.command("show", _show, "the lines of a day as they were read, or the last files", people=1)
    showing.add_argument("source")
    showing.add_argument("--day", type=day_of)
    for name, work, about in (
        ("accept", _resolve, "close an item, posting nothing; FINANCE, two people where money differs"),
        ("write-off", _resolve, "put clearing right at the utility's cost; two people"),
    ):
        group.command(name, work, about, people=2).add_argument("item", type=_id_of)
    waiting = group.command("pending", _pending, "payments that only an operator's text speaks of", people=1)
    waiting.add_argument("source", nargs="?")
    booking = group.command("book", _book, "book a payout to the bank and the fees; FINANCE", people=2)
    booking.add_argument("source")
    booking.add_argument("--payout", required=True, metavar="REFERENCE", help="the provider's, once for each payout")
    booking.add_argument("--amount", metavar="MONEY", help="what came to the bank; else as the statement says")
    booking.add_argument("--paid-on", type=day_of, metavar="DAY", help="else as the statement says")
    booking.add_argument("--through", type=day_of, metavar="DAY", help="book fees up to this day; else the day paid")
    reporting = group.command("report", _report, "what is in clearing and in suspense by age, or days", people=1)
    reporting.add_argument("what", choices=("clearing", "suspense", "days"))
    reporting.add_argument("--source")
    reporting.add_argument("--from", dest="first", type=day_of, metavar="DAY", help="of `days`; else a week ago")
    reporting.add_argument("--to", dest="last", type=day_of, metavar="DAY", help="else today")
    for exporting in (listing, reporting):
        exporting.add_argument("--format", choices=("text", "csv", "json"), default="text")


def _id_of(text: str) -> UUID:
    return UUID(text)


def _source_of(session: Session) -> SettlementSettings:
    source: str = session.options.source
    if not _SOURCE.fullmatch(source):
        raise Unusable(f"source: the name of a payment source expected, got {source!r}")
    return session.settings.settlement_of(source)


def _fees_of(settings: SettlementSettings) -> Fees | None:
    return Fees(settings.fee_percent, settings.fee_minor) if settings.check_fees else None


# --- import -----------------------------------------------------------------------------------------------------------


def _mappings(session: Session) -> int:
    for name in shipped():
        say(f"{name:20} {load(name).about}")
    return WELL


def _import(session: Session) -> int:
    options, settings = session.options, _source_of(session)
    if options.repair is not None and options.repair.exists():
        raise Unusable(f"{options.repair}: is there already")
    try:
        form = load(options.mapping or settings.mapping)
    except BadMapping as bad:
        raise Unusable(str(bad)) from None
    if not options.file.is_file():
        raise Unusable(f"{options.file}: no such file")
    statement = Statement(settings.name, options.file, form, _terms_of(session, settings))

    async def work(books: Books) -> int:
        require_role(books.first, Role.FINANCE)
        with Scratch() as scratch:
            return await _taken(session, books, statement, scratch, settings)

    return session.in_books(work)


def _terms_of(session: Session, settings: SettlementSettings) -> Terms:
    utility = session.settings.utility
    return Terms(
        utility.zone, utility.currency, utility.minor_digits, session.world.now(),
        settings.provider or settings.name,
    )  # fmt: skip


def _fetch(session: Session) -> int:
    settings, today = _source_of(session), local_now(session).date()
    day: date = session.options.day or today - timedelta(days=1)
    if day > today:
        raise Unusable(f"day: one that has begun expected, got {day}")
    able = [one.name for one, source in made(session.settings, session.world.now) if Can.STATEMENT in source.can]
    if settings.name not in able:
        names = ", ".join(able) or "none of the settings does"
        raise Unusable(
            f"source {settings.name}: one that lists its days expected, {names}; of others import a statement's file"
        )

    async def work(books: Books) -> int:
        require_role(books.first, Role.FINANCE)
        sources = made(session.settings, session.world.now)  # their connections belong to this loop
        (source,) = (source for one, source in sources if one.name == settings.name)
        try:
            lines = await source.statement(day)
        except NotListed as fault:
            say(f"{settings.name}: the list of {day} cannot be had, nothing was stored: {fault}")
            return NO
        finally:
            for _, one in sources:
                await one.close()
        say(f"{settings.name} {day}: the provider lists {len(lines)} lines")
        with TemporaryDirectory(prefix="prepaid-") as folder, Scratch() as scratch:
            path = Path(folder) / f"{settings.name}-{day}.csv"
            fetching.write(path, lines, session.settings.utility.minor_digits)
            statement = Statement(settings.name, path, load(fetching.MAPPING), _terms_of(session, settings))
            return await _taken(session, books, statement, scratch, settings)

    return session.in_books(work)


async def _taken(
    session: Session, books: Books, statement: Statement, scratch: Scratch, settings: SettlementSettings
) -> int:
    options, progress = session.options, Progress(sys.stderr)
    total = taking.check(statement, scratch, progress)
    faults, bad_lines = scratch.fault_counts()
    for told, _ in zip(scratch.faults(), range(_FAULTS_TOLD), strict=False):
        place = f"line {told.line}: " if told.line else ""
        column = f"{told.field}: " if told.field else ""
        sys.stderr.write(f"{statement.path.name} {place}{column}{told.words}\n")
    if faults > _FAULTS_TOLD:
        sys.stderr.write(f"and {faults - _FAULTS_TOLD} more\n")
    if faults and options.repair is not None:
        _write_repair(options.repair, statement, scratch)
    _say_total(session, total)
    if options.trial or (faults and not options.load_good):
        if bad_lines:
            say(f"{bad_lines} lines cannot be used: nothing was stored")
        elif options.trial:
            say("a trial: nothing was stored")
        return UNUSABLE if faults else WELL
    taken, new_lines = await taking.store(
        statement, scratch, progress, books.write, new_id=session.world.new_id, origin=books.origin
    )
    if taken.completed_at is not None:
        say(f"this file was taken in already, on {taken.completed_at:%Y-%m-%d %H:%M} UTC by {taken.begun_by}")
    else:
        say(f"{new_lines:9d} lines are new")
    if bad_lines:
        say(f"{bad_lines} lines cannot be used: the others were stored")
    await _run(session, books, settings)
    return NO if faults else WELL


def _write_repair(path: Path, statement: Statement, scratch: Scratch) -> None:
    try:
        with new_file(path) as out:
            form = statement.form
            count = write_repair(out, statement.path, form.expected, CSV, form.encoding, scratch.faults(0))
    except BadFile:
        path.unlink()
        sys.stderr.write("the file cannot be read as a whole: there are no lines to be mended\n")
        return
    sys.stderr.write(f"{count} lines to be mended are in {path}\n")


def _say_total(session: Session, total: Total) -> None:
    for kind, count in sorted(total.counts.items()):
        say(f"{count:9d} {kind}  {shown(session, total.amounts_minor[kind])}")
    say(f"{total.passed_over:9d} rows passed over")
    if total.first is not None:
        say(f"from {total.first} to {total.last}, fees {shown(session, total.fees_minor)}")


# --- matching ---------------------------------------------------------------------------------------------------------


def _match(session: Session) -> int:
    settings = _source_of(session)

    async def work(books: Books) -> int:
        require_role(books.first, Role.FINANCE)
        await _run(session, books, settings)
        return WELL

    return session.in_books(work)


async def _run(session: Session, books: Books, settings: SettlementSettings) -> None:
    utility, world = session.settings.utility, session.world
    await books.write(
        lambda connection: ensure_accounts(
            connection, (f"clearing:{settings.name}", f"suspense:{settings.name}"), utility.currency
        )
    )
    async with till.opened(session.settings, world, books.store) as opened:
        source = payment_settings(settings.name, session.settings.payment)
        run = Run(
            settings.name,
            books.write,
            fees=_fees_of(settings),
            zone=utility.zone,
            world=world,
            take=StatementDesk(opened.shop, opened.store, opened.desk, source).take,
        )
        before = world.now() - timedelta(days=settings.missing_after_days)
        classes = await run.all(before, books.origin)
    for name in CLASSES:
        if count := classes.get(name, 0):
            say(f"{count:9d} {name}")
    if run.came_to:
        told = ", ".join(f"{name} {count}" for name, count in sorted(run.came_to.items()))
        say(f"{run.came_to.total():9d} that our books did not have: {told}")


# --- items ------------------------------------------------------------------------------------------------------------

_ITEM_COLUMNS: Final = (
    "id", "source", "day", "class", "kind", "receipt", "payer", "ours", "theirs", "fee", "difference", "detail",
    "resolution", "reason",
)  # fmt: skip


def _list(session: Session) -> int:
    options = session.options

    def page_after(after: UUID | None) -> Any:
        return lambda connection: settlement.listed(
            connection,
            source=options.source,
            class_=options.class_,
            day=options.day.isoformat() if options.day else None,
            everything=options.all,
            after=after,
        )

    async def work(books: Books) -> None:
        require_role(books.first, *_READS)
        page = await books.read(page_after(None))
        _give(session, _ITEM_COLUMNS, [_item_row(session, item) for item in page])
        while page:
            page = await books.read(page_after(page[-1].id))
            _give(session, _ITEM_COLUMNS, [_item_row(session, item) for item in page], header=False)

    session.in_books(work)
    return WELL


def _item_row(session: Session, item: Item) -> Sequence[str]:
    def money(minor: int | None) -> str:
        return "" if minor is None else shown(session, minor)

    return (
        str(item.id), item.source, item.day, item.class_, item.kind, item.receipt, _masked(item.payer),
        money(item.ours_minor), money(item.theirs_minor), money(item.fee_minor), money(item.difference_minor),
        item.detail, item.resolution or "", item.reason or "",
    )  # fmt: skip


def _show(session: Session) -> int:
    options = session.options
    _source_of(session)

    async def work(books: Books) -> tuple[Sequence[Any], Sequence[Any]]:
        require_role(books.first, *_READS)
        if options.day is None:
            return await books.read(lambda connection: statementlines.files(connection, options.source)), ()
        day = options.day.isoformat()
        return (), await books.read(
            lambda connection: settlement_reports.statement_lines(connection, options.source, day)
        )

    files, lines = session.in_books(work)
    for one in files:
        state = "complete" if one.completed_at else "broken off"
        say(
            f"{one.begun_at:%Y-%m-%d %H:%M} UTC  {one.source}  {one.file_name}  {one.mapping}  {one.begun_by}  {state}"
            f"  {one.lines or 0} lines, {one.new_lines or 0} new, {one.passed_over or 0} rows passed over"
        )
    for line in lines:
        say(
            f"{line.occurred_at:%Y-%m-%d %H:%M} UTC  {line.kind:8}  {line.receipt}  {line.linked or line.our_ref}"
            f"  {_masked(line.payer)}  {shown(session, line.amount_minor)}  fee {shown(session, line.fee_minor)}"
        )
    return WELL


def _pending(session: Session) -> int:
    source = session.options.source

    async def work(books: Books) -> list[Pending]:
        require_role(books.first, *_READS)
        return await books.read(lambda connection: pendingpayments.waiting(connection, source))

    for one in session.in_books(work):
        said = f"{one.received_at:%Y-%m-%d %H:%M} UTC  {one.source}  {one.receipt}  {shown(session, one.amount_minor)}"
        say(f"{said}  {_masked(one.payer)}  {one.account_ref}")
    return WELL


def _resolve(session: Session) -> int:
    options, today = session.options, local_now(session).date()
    how = settlement.ACCEPTED if options.settlement_command == "accept" else settlement.WRITTEN_OFF
    txn_id, currency = session.world.new_id(), session.settings.utility.currency

    async def work(books: Books) -> Item:
        return await books.write(
            lambda connection: settlement.resolve(
                connection, options.item, how, txn_id, today, currency,
                by=books.first, beside=books.second, origin=books.origin,
            )
        )  # fmt: skip

    item = session.in_books(work)
    said = f"{item.source} {item.day} {item.class_} {item.receipt}"
    say(f"{said}  {item.resolution}  {shown(session, item.difference_minor)}")
    return WELL


# --- the journal ------------------------------------------------------------------------------------------------------


def _book(session: Session) -> int:
    options, settings, today = session.options, _source_of(session), local_now(session).date()
    batch_id, txn_id = session.world.new_id(), session.world.new_id()
    currency = session.settings.utility.currency
    given_minor = None if options.amount is None else minor_of(session, "amount", options.amount)

    async def work(books: Books) -> Any:
        there = await books.read(
            lambda connection: settlement.payout_on_statement(connection, settings.name, options.payout)
        )
        paid_minor, paid_on = given_minor, options.paid_on
        if there is not None:
            paid_minor = there[0] if paid_minor is None else paid_minor
            paid_on = paid_on or day_of(there[1])
        if paid_minor is None or paid_on is None:
            raise Unusable(f"no statement has payout {options.payout}: --amount and --paid-on expected")
        if paid_on > today:
            raise Unusable(f"paid on: a day of the past expected, got {paid_on}")
        payout = Payout(settings.name, options.payout, settings.bank, paid_minor, paid_on, options.through or paid_on)
        return await books.write(
            lambda connection: settlement.book(
                connection, (batch_id, receipt_of(batch_id), txn_id), payout, currency, today,
                by=books.first, beside=books.second, origin=books.origin,
            )
        )  # fmt: skip

    batch, is_new = session.in_books(work)
    again = "" if is_new else ", booked before"
    say(
        f"settlement {batch.code}  {batch.source}  payout {batch.payout_ref}  bank:{batch.bank}"
        f"  {shown(session, batch.paid_minor)}  fees {shown(session, batch.fee_minor)}  {batch.paid_on}{again}"
    )
    return WELL


# --- reports ----------------------------------------------------------------------------------------------------------


def _report(session: Session) -> int:
    options, now = session.options, local_now(session)
    midnight = _midnight(now)
    first, last = options.first or (now - timedelta(days=7)).date(), options.last or now.date()

    async def work(books: Books) -> Any:
        require_role(books.first, *_READS)
        if options.what == "clearing":
            return await books.read(lambda connection: settlement_reports.clearing(connection, midnight))
        if options.what == "suspense":
            return await books.read(lambda connection: settlement_reports.suspense_ageing(connection, midnight))
        return await books.read(
            lambda connection: settlement_reports.by_day(
                connection, options.source, first.isoformat(), last.isoformat()
            )
        )

    found = [one for one in session.in_books(work) if options.source in (None, one.source)]
    if options.what == "clearing":
        columns: Sequence[str] = ("source", "balance", *AGE_NAMES)
        rows = [
            (one.source, *(shown(session, minor) for minor in (one.balance_minor, *one.ages_minor))) for one in found
        ]
    elif options.what == "suspense":
        columns = ("source", "reason", *(f"{kind} {age}" for age in AGE_NAMES for kind in ("items", "money")))
        rows = [
            (one.source, one.reason, *(text for n, minor in zip(one.counts, one.amounts_minor, strict=True)
                                       for text in (str(n), shown(session, minor))))
            for one in found
        ]  # fmt: skip
    else:
        columns = ("source", "day", "class", "items", "theirs", "ours", "fees", "open")
        rows = [
            (one.source, one.day, one.class_, str(one.count), shown(session, one.theirs_minor),
             shown(session, one.ours_minor), shown(session, one.fee_minor), str(one.open))
            for one in found
        ]  # fmt: skip
    _give(session, columns, rows)
    return WELL


def _masked(payer: str) -> str:
    return mask_phone(payer) if payer else ""


def _midnight(moment: datetime) -> datetime:
    """The beginning of this local day."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _give(session: Session, columns: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
    """Rows as text, CSV or JSON lines."""
    form = session.options.format
    if form == "json":
        for row in rows:
            say(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False))
        return
    if form == "csv":
        out = StringIO()
        csv.writer(out, lineterminator="\n").writerows([columns, *rows] if header else rows)
        sys.stdout.write(out.getvalue())
        return
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    for row in [columns, *rows] if header else rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
