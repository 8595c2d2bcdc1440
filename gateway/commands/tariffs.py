"""`prepaid tariff`: versions entered by one person and released by another, tried on last month's sales first. Shell.

Looking (`check`, `list`, `show`, `preview`, `explain`) takes nobody's sign-in; what changes something does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from gateway.commands.prices import document_in
from gateway.commands.records import month as month_of
from gateway.keysession import NO, UNUSABLE, WELL, Books, Group, Session, Unusable, listed, say
from gateway.meterdesk import with_store
from gateway.preview import BANDS_KWH, Preview, Totals, alone, preview
from gateway.recompute import NotRecomputed, recompute
from gateway.world import RealWorld, World
from ledger import sold, tariffs
from ledger.money import plain
from ledger.operators import READERS, require_role
from ledger.pricing import Tariff
from ledger.tariffs import State, TariffRefused, Version
from ledger.tariffs_format import TariffFaults, documents, read_book, read_tariff

_SAMPLE_MAX: Final = 1_000
_DRAWS: Final = 3  # several points may lie before one sale
_SLOW_S: Final = 4 * 3600  # a month of a large utility is sorted by the database, and then walked


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `tariff` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "tariff", "enter, release and try tariffs; reckon sales again", world or RealWorld())
    start: dict[str, Any] = {"metavar": "START", "help": 'when the version starts, "2026-07-01" or with a time; local'}

    checking = group.command("check", _check, "every fault of a tariff file by its place", configured=False)
    checking.add_argument("file", type=Path)
    checking.add_argument("--minor-digits", type=int, default=2, choices=range(5), help="of the currency (default: 2)")

    entering = group.command("enter", _enter, "enter a file's new versions as drafts, which price nothing", people=1)
    entering.add_argument("file", type=Path)

    releasing = group.command(
        "release", _release, "let a draft price sales from its start on; another person", people=1
    )
    taking = group.command("withdraw", _withdraw, "drop a draft, or a released version that has not begun", people=1)
    for parser in (releasing, taking):
        parser.add_argument("code", metavar="TARIFF")
        parser.add_argument("start", **start)

    group.command("list", _list, "every version with its state, and who entered and released it")
    showing = group.command("show", _show, "a tariff as a document, with its released versions")
    showing.add_argument("code", metavar="TARIFF")
    showing.add_argument("--drafts", action="store_true", help="with its drafts too")
    showing.add_argument(
        "--next", metavar="START", help="instead its last version once more, from this start on: a draft"
    )
    showing.add_argument(
        "--charge",
        action="append",
        metavar="CODE=NUMBER",
        help="with --next: a charge that changes; may be given again",
    )

    trying = group.command("preview", _preview, "what last month's sales would have been under a new version")
    trying.add_argument("file", type=Path, nargs="?", help="a tariff file; or --draft")
    trying.add_argument("--draft", metavar="TARIFF", help="a version that was entered, the earliest draft")
    trying.add_argument("--tariff", metavar="TARIFF", help="which tariff of the file, if it has several")
    trying.add_argument("--start", **{**start, "help": "which version (default: the last of the file)"})
    trying.add_argument("--month", metavar="YYYY-MM", help="whose sales (default: the last full month)")
    trying.add_argument("--bands", metavar="KWH,...", help=f"ends of consumption bands (default: {_joined(BANDS_KWH)})")
    trying.add_argument("--json", action="store_true", help="for programs")

    explaining = group.command(
        "explain", _explain, "sales of the books reckoned again, step by step; 1 if one differs", people=1
    )
    explaining.add_argument("receipt", nargs="*", metavar="RECEIPT")
    explaining.add_argument("--sample", type=int, metavar="N", help="so many sales at random, instead of receipts")


def _joined(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _told(work: Callable[[], int], name: str, path: Path | None = None) -> int:
    """The command's exit code; faults told, a line each."""
    where = f"{path}: " if path is not None else ""
    try:
        return work()
    except TariffFaults as faults:
        sys.stderr.write("".join(f"prepaid tariff {name}: {where}{fault}\n" for fault in faults.faults))
        return UNUSABLE


def _zone(session: Session) -> ZoneInfo:
    return session.settings.utility.zone


def _start(text: str) -> str:
    """A version's start as it is stored."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None:
        raise Unusable(f'START: a local date, with a time or without, such as "2026-07-01" expected, got "{text}"')
    return moment.isoformat()


# --- entering and releasing -------------------------------------------------------------------------------------------


def _check(session: Session) -> int:
    options = session.options

    def work() -> int:
        document = document_in(options.file)
        if isinstance(document, dict) and "utility" in document:
            found = list(read_book(document).tariffs.values())
        else:
            found = _read(document, options.minor_digits)
        for tariff in found:
            starts = ", ".join(version.name for version in tariff.versions)
            say(f"{tariff.code}: no fault; versions start {starts}")
        return WELL

    return _told(work, "check", options.file)


def _read(document: Any, minor_digits: int) -> list[Tariff]:
    """The tariffs of a file. Raises TariffFaults with the faults of all of them, each with its place."""
    found, faults = [], []
    for place, item in documents(document):
        try:
            found.append(read_tariff(item, minor_digits=minor_digits))
        except TariffFaults as wrong:
            faults += [f"{place}.{fault}" if place else fault for fault in wrong.faults]
    if faults:
        raise TariffFaults(tuple(faults))
    return found


def _enter(session: Session) -> int:
    options, utility = session.options, session.settings.utility

    def work() -> int:
        document = document_in(options.file)
        _read(document, utility.minor_digits)  # all faults at once, before anybody's password is looked at

        def enter_all(books: Books, connection: Any) -> list[Version]:
            entered: list[Version] = []
            nothing: list[TariffRefused] = []
            for _, item in documents(document):
                try:
                    entered += tariffs.enter(
                        connection,
                        item,
                        by=books.first,
                        origin=books.origin,
                        zone=_zone(session),
                        minor_digits=utility.minor_digits,
                    )
                except TariffRefused as refused:
                    if refused.fault is not tariffs.TariffFault.NOTHING:
                        raise
                    nothing.append(refused)
            if not entered:
                raise nothing[0]
            return entered

        async def enter(books: Books) -> list[Version]:
            return await books.write(lambda connection: enter_all(books, connection))

        for draft in session.in_books(enter):
            say(f"entered {draft.name}: a draft; another person releases it before it starts")
        return WELL

    return _told(work, "enter", options.file)


def _release(session: Session) -> int:
    options, utility = session.options, session.settings.utility

    def work() -> int:
        start = _start(options.start)

        def release(books: Books, connection: Any) -> Version:
            version = tariffs.version_of(connection, options.code, start)
            tariffs.release(
                connection,
                version,
                by=books.first,
                origin=books.origin,
                zone=_zone(session),
                currency=utility.currency,
            )
            return version

        async def released(books: Books) -> Version:
            return await books.write(lambda connection: release(books, connection))

        say(f"released {session.in_books(released).name}: it prices sales from then on")
        return WELL

    return _told(work, "release")


def _withdraw(session: Session) -> int:
    options = session.options
    if not options.reason.strip():
        raise Unusable("--reason: why it is withdrawn expected; it goes into the audit log")

    def work() -> int:
        start = _start(options.start)

        def withdraw(books: Books, connection: Any) -> Version:
            version = tariffs.version_of(connection, options.code, start)
            tariffs.withdraw(connection, version, by=books.first, origin=books.origin, zone=_zone(session))
            return version

        async def withdrawn(books: Books) -> Version:
            return await books.write(lambda connection: withdraw(books, connection))

        say(f"withdrew {session.in_books(withdrawn).name}")
        return WELL

    return _told(work, "withdraw")


def _list(session: Session) -> int:
    for version in session.in_books(lambda books: books.read(tariffs.versions)):
        parts = [version.tariff_code, version.effective_from, version.state, f"entered by {version.entered_by}"]
        for deed, who, at in (
            ("", "", version.entered_at),
            ("released by ", version.released_by, version.released_at),
            ("withdrawn by ", version.withdrawn_by, version.withdrawn_at),
        ):
            if who:
                parts.append(f"{deed}{who}")
            if at is not None:
                parts.append(session.minute(at))
        say("  ".join(parts))
    return WELL


def _show(session: Session) -> int:
    options = session.options
    states = (State.RELEASED, State.DRAFT) if options.drafts else (State.RELEASED,)

    def work() -> int:
        async def look(books: Books) -> dict[str, Any]:
            return await books.read(lambda connection: tariffs.document(connection, options.code, states=states))

        document = session.in_books(look)
        if options.next is not None:
            document = _following(document, _start(options.next), listed(options.charge))
        elif options.charge:
            raise Unusable("--charge: --next START expected beside it")
        say(json.dumps(document, indent=1, ensure_ascii=False))
        return WELL

    return _told(work, "show")


# What of each kind of charge is a number.
_NUMBERS: Final = {"per_kwh_charges": "rate", "percent_charges": "percent", "fixed_charges": "amount"}


def _following(document: dict[str, Any], start: str, changes: list[str]) -> dict[str, Any]:
    """The tariff with a copy of its last version alone, from this start on, with some charges changed.

    For what changes every month while the rest stays: levies on fuel, foreign exchange, inflation.
    """
    if not document["versions"]:
        raise Unusable(f"tariff {document['code']} has no released version to go on from")
    version = {**document["versions"][-1], "effective_from": start}
    charges = {item["code"]: (item, name) for kind, name in _NUMBERS.items() for item in version[kind]}
    for change in changes:
        code, equals, number = change.partition("=")
        if not equals or code not in charges:
            raise Unusable(f"--charge {change}: CODE=NUMBER expected, with a code of {', '.join(charges) or 'none'}")
        item, name = charges[code]
        item[name] = number
    return {**document, "versions": [version]}


# --- trying -----------------------------------------------------------------------------------------------------------


def _preview(session: Session) -> int:
    options, utility = session.options, session.settings.utility
    zone = _zone(session)
    if (options.file is None) == (options.draft is None):
        raise Unusable("a tariff file expected, or --draft TARIFF")
    month = options.month or _last_month(session.world.now().astimezone(zone))
    begin, end = month_of(month, zone)
    bands = _bands(options.bands)

    def work() -> int:
        given = _draft_in(options, utility.minor_digits) if options.file is not None else None

        def run(connection: Any) -> tuple[Tariff, Preview]:
            draft = given or _entered(connection, options)
            released = tariffs.released(connection, draft.code)
            as_sold = {version.name: alone(released, version) for version in released.versions} if released else {}
            sales = sold.of_month(connection, draft.code, begin, end)
            return draft, preview(sales, alone(draft, draft.versions[0]), as_sold, zone, bands)

        draft, found = with_store(session.settings, lambda store: store.read(run), statement_timeout_s=_SLOW_S)
        if options.json:
            say(json.dumps(_as_json(draft, month, found)))
        else:
            _say_preview(draft, month, found, utility.minor_digits, utility.currency)
        return WELL

    return _told(work, "preview", options.file)


def _draft_in(options: Any, minor_digits: int) -> Tariff:
    """The tariff of the file with the one version that is to be tried."""
    found = _read(document_in(options.file), minor_digits)
    if options.tariff is not None:
        found = [tariff for tariff in found if tariff.code == options.tariff]
        if not found:
            raise Unusable(f"{options.file}: no tariff {options.tariff} in it")
    if len(found) != 1:
        codes = ", ".join(tariff.code for tariff in found)
        raise Unusable(f"{options.file}: --tariff expected, for there are several: {codes}")
    (tariff,) = found
    if options.start is None:
        return replace(tariff, versions=tariff.versions[-1:])
    start = _start(options.start)
    chosen = tuple(version for version in tariff.versions if version.name == start)
    if not chosen:
        starts = ", ".join(version.name for version in tariff.versions)
        raise Unusable(f"{options.file}: no version starts {start}; there are {starts}")
    return replace(tariff, versions=chosen)


def _entered(connection: Any, options: Any) -> Tariff:
    """The tariff with the one version of the books that is to be tried."""
    code = options.draft
    version = (
        tariffs.draft_of(connection, code)
        if options.start is None
        else tariffs.version_of(connection, code, _start(options.start))
    )
    return tariffs.priced_with(connection, version)


def _last_month(now_local: datetime) -> str:
    year, month = (now_local.year, now_local.month - 1) if now_local.month > 1 else (now_local.year - 1, 12)
    return f"{year:04d}-{month:02d}"


def _bands(text: str | None) -> tuple[int, ...]:
    if text is None:
        return BANDS_KWH
    parts = text.split(",")
    bands = tuple(int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 9)
    if len(bands) != len(parts) or list(bands) != sorted(set(bands)) or not bands[0]:
        raise Unusable(f'--bands: rising whole numbers of kWh such as "50,100,200" expected, got "{text}"')
    return bands


def _as_json(draft: Tariff, month: str, found: Preview) -> dict[str, Any]:
    return {
        "tariff": draft.code,
        "version": draft.versions[0].name,
        "month": month,
        "categories": {name: totals.as_json() for name, totals in sorted(found.by_category.items())},
        "bands": [{"upto_kwh": band, **totals.as_json()} for band, totals in found.by_band.items()],
        "total": found.total.as_json(),
        "begun_anew": found.begun_anew,
        "not_as_sold": found.not_as_sold,
        "left_out": found.left_out,
    }


_COLUMNS: Final = (
    "accounts", "sales", "money", "kWh now", "kWh draft", "difference", "%",
    "tax now", "tax draft", "levies now", "levies draft", "fixed now", "fixed draft",
)  # fmt: skip


def _say_preview(draft: Tariff, month: str, found: Preview, minor_digits: int, currency: str) -> None:
    say(f"sales of {month} under {draft.code}, as sold and under the version of {draft.versions[0].name}; {currency}")
    lower = 0
    bands: list[tuple[str, Totals]] = []
    for band, totals in found.by_band.items():
        bands.append((f"{lower} to {band} kWh" if band is not None else f"over {lower} kWh", totals))
        lower = band or 0
    groups = sorted(found.by_category.items())
    rows = [
        *((name or "(none)", _cells(totals, minor_digits)) for name, totals in groups),
        *((name, _cells(totals, minor_digits)) for name, totals in bands if totals.accounts),
        ("together", _cells(found.total, minor_digits)),
    ]
    widths = [max(len(title), *(len(cells[at]) for _, cells in rows)) for at, title in enumerate(_COLUMNS)]
    first = max(len("customers"), *(len(name) for name, _ in rows))
    say("  ".join([f"{'customers':<{first}}", *(f"{title:>{w}}" for title, w in zip(_COLUMNS, widths, strict=True))]))
    for at, (name, cells) in enumerate(rows):
        if at in (len(groups), len(rows) - 1):
            say("")
        say("  ".join([f"{name:<{first}}", *(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))]))
    total = found.total
    for count, said in (
        (
            total.refused,
            f"sales of {plain(total.refused_money_minor, minor_digits)} would be refused; not counted above",
        ),
        (
            found.begun_anew,
            "times the draft began anew from the books: something else than a sale changed the counters",
        ),
        (found.not_as_sold, "sales do not come out as the books have them: see `prepaid tariff explain`"),
        (found.left_out, "sales were left out: made by a version that did not keep the account before a sale"),
    ):
        if count:
            say(f"{count} {said}")


def _cells(totals: Totals, minor_digits: int) -> list[str]:
    now, difference = totals.units_now_tenths, totals.difference_tenths
    # Half up, as a person would; whole numbers, since units are.
    permille = (2 * 1000 * difference + now) // (2 * now) if now else 0
    return [
        str(totals.accounts),
        str(totals.sales),
        plain(totals.money_minor, minor_digits),
        plain(now, 1),
        plain(totals.units_draft_tenths, 1),
        f"{'+' if difference > 0 else ''}{plain(difference, 1)}",
        f"{'+' if permille > 0 else ''}{plain(permille, 1)}" if now else "-",
        plain(totals.vat_now_minor, minor_digits),
        plain(totals.vat_draft_minor, minor_digits),
        plain(totals.charges_now_minor, minor_digits),
        plain(totals.charges_draft_minor, minor_digits),
        plain(totals.fixed_now_minor, minor_digits),
        plain(totals.fixed_draft_minor, minor_digits),
    ]


# --- explaining -------------------------------------------------------------------------------------------------------


def _explain(session: Session) -> int:
    zone, utility, options = _zone(session), session.settings.utility, session.options
    code = WELL
    if (
        bool(options.receipt) == (options.sample is not None)
        or not 1 <= (1 if options.sample is None else options.sample) <= _SAMPLE_MAX
    ):
        raise Unusable(f"receipts, or --sample with 1 to {_SAMPLE_MAX}, expected")

    async def work(books: Books) -> list[tuple[sold.InBooks, Tariff]]:
        require_role(books.first, *READERS)
        receipts = [receipt.strip().upper() for receipt in options.receipt]
        if options.sample is not None:
            draws = [session.world.chance() for _ in range(options.sample * _DRAWS)]
            receipts = await books.read(partial(sold.sample, draws=draws, count=options.sample))
        return [await books.read(partial(_with_tariff, receipt=receipt)) for receipt in receipts]

    try:
        found = session.in_books(work)
    except NotRecomputed as error:
        raise Unusable(str(error)) from None
    if len(found) < (options.sample or 0):
        say(f"{len(found)} sales were found, of {options.sample} that were asked for")
    for sale, tariff in found:
        try:
            at_local = sale.accepted_at.astimezone(zone).replace(tzinfo=None)
            again = recompute(sale, tariff, at_local)
        except NotRecomputed as error:
            raise Unusable(str(error)) from None
        say(
            f"receipt {sale.receipt}: {plain(sale.amount_minor, utility.minor_digits)} {utility.currency} for meter"
            f" {sale.drn} at {sale.service_point}, by {sale.channel}, accepted {at_local:%Y-%m-%d %H:%M:%S} local time,"
            f" tariff {sale.tariff_code}"
        )
        for line in again.lines:
            say(f"  {line}")
        if sale.reversed_by is not None:
            say(f"  reversed by transaction {sale.reversed_by}")
        if again.differences:
            code = NO
            say("DIFFERS from the books:")
            for what, books, reckoned in again.differences:
                say(f"  {what}: {books} in the books, {reckoned} reckoned")
        else:
            say("the books say the same: split, tokens and every posting")
    return code


def _with_tariff(connection: Any, receipt: str) -> tuple[sold.InBooks, Tariff]:
    """A sale and the released versions of its tariff. Raises NotRecomputed."""
    found = sold.find(connection, receipt)
    if found is None:
        raise NotRecomputed(f"no purchase has receipt {receipt}")
    tariff = tariffs.released(connection, found.tariff_code) if found.tariff_code is not None else None
    if tariff is None:
        raise NotRecomputed(f"receipt {receipt}: the purchase is {found.state}: nothing was sold")
    return found, tariff
