"""An import: lay out, check, store. Shell.

1. Each file is read once, line by line; what its lines say is laid out in a scratch file (`ledger/bulk/scratch.py`),
   and so are the faults.
2. The records are compared with the database and checked, a page at a time, without writing. So every fault of every
   file is known before anything is stored.
3. They are stored, a page in a transaction, in the order of their keys: what others refer to first. A page that is
   stored stays stored: whoever is broken off here starts the same import again, and what is there counts as there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

from gateway.bulk.form import Form
from gateway.bulk.lines import JSON, BadFile, read_lines
from gateway.bulk.progress import Progress
from gateway.bulk.row import Row, Terms
from gateway.logs import mask_phone
from ledger.audit import Origin
from ledger.bulk import page
from ledger.bulk.kind import Fault, Occasion, Record
from ledger.bulk.kinds import KINDS
from ledger.bulk.page import Outcome
from ledger.bulk.scratch import Laid, Scratch, Told
from ledger.schema import DatabaseAway
from ledger.sets import Changed

PAGE: Final = 1000
"""Records in a transaction: some tens of milliseconds, for which a gateway on the same SQLite file has to wait."""
_TRIES: Final = 5
_NAMES_TOLD: Final = 5
_DOUBTS_TOLD: Final = 20
# What a gateway that waits for SQLite's one writer gets between two pages, as a part of a page's time.
_PAUSE: Final = 0.25

T = TypeVar("T")
Reading = Callable[[Callable[[Any], Any]], Awaitable[Any]]

# Which column a record is known by.
_KEY_COLUMN: Final = {
    "Tariffs": "code", "Customers": "account_no", "Stations": "station_id", "Places": "service_point",
    "Points": "service_point", "PointTariffs": "tariff_code", "Meters": "drn", "Phones": "msisdn", "Debts": "debt_id",
    "Balances": "account", "Readings": "read_at",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be imported."""

    form: Form
    path: Path
    format: str
    encoding: str | None = None

    def where(self, line: int) -> str:
        """How a line of it is called."""
        if not line:
            return self.path.name
        return f"{self.path.name} {'entry' if self.format == JSON else 'line'} {line}"


@dataclass(slots=True)
class Total:
    """What became of the records of one name, or would."""

    new: int = 0
    there: int = 0
    changed: int = 0
    different: int = 0
    named: list[str] = field(default_factory=list)  # the first of the different ones

    @property
    def count(self) -> int:
        return self.new + self.there


@dataclass(slots=True)
class Report:
    """What an import did, or would do."""

    lines: int = 0
    totals: dict[str, Total] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)  # the first ones
    doubt_count: int = 0

    def add(self, kind: str, outcome: Outcome) -> None:
        """Count a page."""
        total = self.totals.setdefault(kind, Total())
        total.new += outcome.new
        total.there += outcome.there
        total.changed += len(outcome.changed)
        total.different += len(outcome.different)
        total.named += outcome.different[: _NAMES_TOLD - len(total.named)]

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind, by what people call it."""
        found: dict[str, int] = {}
        for kind, total in self.totals.items():
            if KINDS[kind].is_told:
                found[KINDS[kind].name] = found.get(KINDS[kind].name, 0) + total.count
        return found

    def told(self) -> list[str]:
        """What was there already and what of it differs, in sentences."""
        sentences = []
        for kind, total in self.totals.items():
            named = [mask_phone(key) for key in total.named] if kind == "Phones" else total.named
            if total.there and (KINDS[kind].is_told or total.different):
                sentences.append(_told(KINDS[kind].name, total.there, total.different, named))
            if total.changed:
                sentences.append(f"{total.changed} {KINDS[kind].name} were changed")
        return sentences

    @property
    def writes(self) -> int:
        """How many records were stored or changed, or would be."""
        return sum(total.new + total.changed for total in self.totals.values())


def _told(kind: str, count: int, different: int, names: Sequence[str]) -> str:
    """ "12 customers were there already; 3 of them differ from the file and were left as they are: A1, A2, A3"."""
    one = kind[:-1] if kind.endswith("s") else kind
    said = f"{count} {kind} were there already" if count > 1 else f"1 {one} was there already"
    if not different:
        return said
    shown = ", ".join(names) + (f" and {different - len(names)} more" if different > len(names) else "")
    if count == 1:
        return f"{said}; it differs from the file and was left as it is: {shown}"
    if different == 1:
        return f"{said}; 1 of them differs from the file and was left as it is: {shown}"
    return f"{said}; {different} of them differ from the file and were left as they are: {shown}"


class Import:
    """One import of some files into the database behind `read` and `write`, which run functions of a connection.

    `update`: the origin of the changes to records that are there and differ; None leaves them as they are.
    `is_shared`: whether others wait while a page is written, as on SQLite.
    """

    def __init__(
        self,
        scratch: Scratch,
        sources: Sequence[Source],
        *,
        read: Reading,
        write: Reading,
        terms: Terms,
        occasion: Occasion,
        progress: Progress,
        update: Origin | None = None,
        is_shared: bool = False,
    ) -> None:
        self._scratch = scratch
        self._sources = sources
        self._read = read
        self._write = write
        self._terms = terms
        self._occasion = occasion
        self._progress = progress
        self._update = update
        self._is_shared = is_shared
        self._lines = 0
        self._laid = 0

    # --- laying out ---

    def lay_out(self) -> None:
        """Read all files into the scratch file; what is wrong with them by themselves becomes faults."""
        for number, source in enumerate(self._sources):
            try:
                self._lay_file(number, source)
            except BadFile as bad:
                self._scratch.fault(number, bad.line, "", bad.words)
                self._leave_open(source)
        for again, first in self._scratch.sort():
            column = _KEY_COLUMN[again.kind]
            place = self._sources[first.file].where(first.line)
            words = f"{again.key} stands in {place} already"
            if again.kind == "Phones":  # phone numbers are not shown, and need not be: the lines are
                words = f"the same number stands in {place} already"
            elif again.kind == "PointTariffs":
                words = f"another one than in {place}, at the same service point"
            elif again.kind == "Readings":
                words = f"another reading of this instant stands in {place}"
            self._scratch.fault(again.file, again.line, column, words)
        self._progress.end()

    def _lay_file(self, number: int, source: Source) -> None:
        size = source.path.stat().st_size
        lines = read_lines(
            source.path,
            source.format,
            source.form.expected,
            encoding=source.encoding,
            on_octets=lambda octets: self._progress.at("reading", octets, size),
        )
        take, scratch = source.form.take, self._scratch
        for line in lines:
            self._lines += 1
            if line.fault:
                scratch.fault(number, line.number, "", line.fault)
                self._leave_open(source)
                continue
            row = Row(line.values, self._terms)
            take(row)
            for column, words in dict.fromkeys(row.faults):
                scratch.fault(number, line.number, column, words)
            for kind, record in row.records:
                of = KINDS[kind]
                scratch.lay(kind, of.key(record), of.owner(record), number, line.number, None if row.faults else record)
                self._laid += 1

    def _leave_open(self, source: Source) -> None:
        self._scratch.leave_open((*source.form.kinds, *source.form.gives))

    # --- checking ---

    async def check(self) -> Report:
        """Compare and check everything, storing nothing. New faults go to the scratch file."""
        report, done = Report(lines=self._lines), 0
        for kind in KINDS:
            before: Record | None = None
            async for laid in self._pages(kind):
                outcome = await self._read(_checking(kind, laid, self._scratch, self._update is not None, before))
                before = laid[-1].content
                report.add(kind, outcome)
                self._note(laid, outcome.faults)
                self._doubt(report, laid, outcome.doubts)
                done += len(laid)
                self._progress.at("checking", done, self._laid)
        self._progress.end()
        return report

    async def _pages(self, kind: str) -> Any:
        after = ""
        while laid := self._scratch.page(kind, after, PAGE):
            after = laid[-1].key
            yield laid

    def _note(self, laid: Sequence[Laid], faults: Sequence[Fault]) -> None:
        for place, name, words in faults:
            column = name.removesuffix("_minor").removesuffix("_tenths")
            self._scratch.fault(laid[place].file, laid[place].line, column, words)

    def _doubt(self, report: Report, laid: Sequence[Laid], doubts: Sequence[Fault]) -> None:
        report.doubt_count += len(doubts)
        for place, column, words in doubts[: _DOUBTS_TOLD - len(report.doubts)]:
            where = self._sources[laid[place].file].where(laid[place].line)
            report.doubts.append(f"{where}: {column}: {words}")

    # --- storing ---

    async def store(self) -> Report:
        """Store the records of all lines without faults, page by page. Those that cannot be stored any more, because
        the database has changed since they were checked, are faults."""
        report, done = Report(lines=self._lines), 0
        for kind in KINDS:
            async for laid in self._pages(kind):
                started = perf_counter()
                outcome = await self._stored(kind, [one.content for one in laid])
                report.add(kind, outcome)
                self._note(laid, outcome.faults)
                done += len(laid)
                self._progress.at("storing", done, self._laid)
                if self._is_shared and self._laid > PAGE:
                    await asyncio.sleep((perf_counter() - started) * _PAUSE)
        self._progress.end()
        return report

    async def _stored(self, kind: str, records: Sequence[Any]) -> Outcome:
        for tried in range(1, _TRIES + 1):
            try:
                outcome: Outcome = await self._write(
                    lambda connection: page.store_fresh(connection, KINDS[kind], records, self._occasion, self._update)
                )
                return outcome
            except Changed as changed:
                if tried == _TRIES:
                    raise DatabaseAway(f"{changed}: what was stored so far stays; start the same again") from None
        raise AssertionError("the last try returns or raises")

    # --- telling ---

    def faults(self) -> tuple[int, int]:
        """How many faults there are, and on how many lines."""
        return self._scratch.fault_counts()

    def sentence(self, told: Told) -> str:
        """A fault with its place."""
        field_ = f"{told.field}: " if told.field else ""
        return f"{self._sources[told.file].where(told.line)}: {field_}{told.words}"


def _checking(
    kind: str, laid: Sequence[Laid], scratch: Scratch, update: bool, before: Record | None
) -> Callable[[Any], Outcome]:
    records: list[Any] = [one.content for one in laid]
    return lambda connection: page.check(connection, KINDS[kind], records, coming=scratch, update=update, before=before)
