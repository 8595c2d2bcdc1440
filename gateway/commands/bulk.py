"""`prepaid import` and `prepaid export`: records of every kind, from files and to files. Shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final, TextIO

from gateway.bulk.export import export
from gateway.bulk.form import Form
from gateway.bulk.forms import FORMS
from gateway.bulk.lines import CSV, JSON, JSONL, BadFile, format_of, sha256_of
from gateway.bulk.progress import Progress
from gateway.bulk.repair import write_repair
from gateway.bulk.run import Import, Report, Source
from gateway.commands.listing import format_wanted, listed_to, new_file, write_list
from gateway.intake import faults_told, occasion_of, terms_of
from gateway.keysession import NO, UNUSABLE, WELL, Books, Group, Session, Unusable, say
from gateway.world import RealWorld, World
from ledger import audit, records
from ledger.audit import Origin
from ledger.bulk import points
from ledger.bulk.scratch import Scratch
from ledger.operators import READERS, Role, require_role
from ledger.store import is_sqlite

_FAULTS_TOLD: Final = 50
# Who may change records that are there. What is not named here is never changed by a file.
_MAY_CHANGE: Final = {
    "customers": (Role.SUPPORT, Role.SUPERVISOR),
    "points": (Role.SUPPORT, Role.SUPERVISOR),
    "meters": (Role.ENGINEER,),
    "stations": (Role.FINANCE, Role.ADMIN),
    "debts": (Role.FINANCE, Role.SUPERVISOR),
}


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `import` and `export` to an argparse sub-parsers object."""
    importing = Group(subparsers, "import", "store records from a file (docs/bulk.md)", world or RealWorld())
    exporting = Group(subparsers, "export", "write records to a file that `import` reads", world or RealWorld())
    for name, form in FORMS.items():
        taking = importing.command(name, _import, form.about, people=1, needed=False)
        taking.add_argument("file", type=Path, metavar="FILE")
        taking.add_argument("--format", choices=(CSV, JSONL), help="else by the file's name")
        taking.add_argument("--encoding", help="of a file that is neither UTF-8 nor marked as UTF-16: latin-1, cp1252")
        taking.add_argument("--trial", action="store_true", help="check everything and say the same, but store nothing")
        taking.add_argument("--load-good", action="store_true", help="store the good lines even if others are bad")
        taking.add_argument("--repair", type=Path, metavar="FILE", help="write the bad lines here, with the reasons")
        if name in _MAY_CHANGE:
            roles = " or ".join(_MAY_CHANGE[name])
            taking.add_argument(
                "--update", action="store_true", help=f"change records that differ; {roles} signs in (--as)"
            )
        giving = exporting.command(name, _export, form.about, people=1)
        listed_to(giving)


def _import(session: Session) -> int:
    options = session.options
    form = FORMS[options.import_command]
    try:
        source = Source(form, options.file, format_of(options.file, options.format), options.encoding)
        if source.format == JSON and form.name != "tariffs":
            raise BadFile(0, "CSV or JSON lines expected, not one JSON document")
    except BadFile as bad:
        raise Unusable(f"{options.file}: {bad.words}") from None
    if options.repair is not None and options.repair.exists():
        raise Unusable(f"{options.repair}: is there already")
    is_update = getattr(options, "update", False)
    if is_update and options.as_login is None:
        raise Unusable("--update: say who changes the records, with --as")
    if is_update and not options.reason.strip():
        raise Unusable("--update: say why, with --reason")

    async def work(books: Books) -> int:
        if is_update:
            require_role(books.first, *_MAY_CHANGE[form.name])
        with Scratch() as scratch:
            return await _run(session, books, source, scratch, books.origin if is_update else None)

    return session.in_books(work)


async def _run(session: Session, books: Books, source: Source, scratch: Scratch, update: Origin | None) -> int:
    options, utility = session.options, session.settings.utility
    hashed = sha256_of(source.path)
    local = session.world.now().astimezone(session.settings.utility.zone)
    work = Import(
        scratch,
        [source],
        read=books.read,
        write=books.write,
        terms=terms_of(utility, session.world),
        occasion=occasion_of(utility, session.world, local, books.origin),
        progress=Progress(sys.stderr),
        update=update,
        is_shared=is_sqlite(session.settings.database.url_with_password()),
    )
    work.lay_out()
    report = await work.check()
    faults, bad_lines = work.faults()
    if faults:
        for sentence in faults_told(work, scratch, _FAULTS_TOLD):
            sys.stderr.write(f"{sentence}\n")
        if options.repair is not None:
            _write_repair(options.repair, source, scratch)
    is_stored = not options.trial and (not faults or options.load_good)
    if is_stored and report.writes:
        await books.write(lambda connection: _begin(connection, books.origin, source, hashed, report, utility.currency))
        report = _with_doubts(await work.store(), report)
    await _say(books, report, bad_lines, stored=is_stored, trial=options.trial)
    late = work.faults()[0] - faults
    for sentence in faults_told(work, scratch, _FAULTS_TOLD) if late else ():
        sys.stderr.write(f"{sentence}\n")
    if not faults and not late:
        return WELL
    return NO if is_stored else UNUSABLE


def _begin(connection: Any, origin: Origin, source: Source, hashed: str, report: Report, currency: str) -> None:
    """Note the import in the audit log before the first record is stored; have the accounts that every utility has."""
    records.ensure_accounts(connection, records.SYSTEM_ACCOUNTS, currency)
    found = {"file": source.path.name, "sha256": hashed, "lines": report.lines, "records": report.writes}
    audit.note(connection, origin, "records.import", source.form.name, None, found)


def _with_doubts(stored: Report, checked: Report) -> Report:
    stored.doubts, stored.doubt_count = checked.doubts, checked.doubt_count
    return stored


async def _say(books: Books, report: Report, bad_lines: int, *, stored: bool, trial: bool) -> None:
    say(f"{report.lines:9d} lines")
    for name, count in report.counts.items():
        say(f"{count:9d} {name}")
    for sentence in report.told():
        say(sentence)
    if report.doubt_count:
        say(f"{report.doubt_count} are unlikely:")
        for sentence in report.doubts:
            say(f"  {sentence}")
    waiting = await books.read(points.waiting) if stored and {"service points", "meters"} & set(report.counts) else 0
    if waiting:
        say(f"{waiting} service points have no tariff yet: a meter there, or a line of points, names it")
    if bad_lines:
        said = "the others were stored" if stored else "nothing was stored"
        say(f"{bad_lines} lines cannot be used: {said}")
    elif trial:
        say("a trial: nothing was stored")


def _write_repair(path: Path, source: Source, scratch: Scratch) -> None:
    try:
        with new_file(path) as out:
            count = write_repair(
                out, source.path, source.form.expected, source.format, source.encoding, scratch.faults(0)
            )
    except BadFile:
        path.unlink()
        sys.stderr.write("the file cannot be read as a whole: there are no lines to be mended\n")
        return
    sys.stderr.write(f"{count} lines to be mended are in {path}\n")


# --- export -----------------------------------------------------------------------------------------------------------


def _export(session: Session) -> int:
    options = session.options
    form: Form = FORMS[options.export_command]
    digits = session.settings.utility.minor_digits

    def write(connection: Any, file: TextIO) -> int:
        return export(connection, form, file, format_wanted(options), digits)

    async def work(books: Books) -> int:
        require_role(books.first, *READERS)
        # Before the first line is out: of an export that breaks off, too, somebody has had a part.
        after = {"file": options.out.name if options.out is not None else "standard output"}
        await books.write(
            lambda connection: audit.note(connection, books.origin, "records.export", form.name, None, after)
        )
        return await write_list(books, options.out, write)

    count = session.in_books(work)
    sys.stderr.write(f"{count} {form.name}\n")
    return WELL
