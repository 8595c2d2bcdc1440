"""A statement taken in: read whole and checked before anything is stored, then stored page by page. Shell.

A page that is stored stays stored. Whoever is broken off starts the same again: lines that are there already are known
by what they say, and the file by its hash.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from gateway.bulk.lines import CSV, BadFile, read_lines, sha256_of
from gateway.bulk.progress import Progress
from gateway.settlement.mapping import Form
from gateway.settlement.reading import Terms, read_row
from ledger import statementlines
from ledger.audit import Origin
from ledger.bulk.scratch import Scratch
from ledger.statementlines import Line, Numbered, Taken

PAGE: Final = 1000
"""Lines in a transaction."""

Writing = Callable[[Callable[[Any], Any]], Awaitable[Any]]


@dataclass(slots=True)
class Total:
    """What a statement holds: lines and money by kind, from the first day to the last. Amounts in minor units."""

    lines: int = 0
    passed_over: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    amounts_minor: dict[str, int] = field(default_factory=dict)
    fees_minor: int = 0
    first: date | None = None
    last: date | None = None

    def add(self, line: Line) -> None:
        self.counts[line.kind] = self.counts.get(line.kind, 0) + 1
        self.amounts_minor[line.kind] = self.amounts_minor.get(line.kind, 0) + line.amount_minor
        self.fees_minor += line.fee_minor
        self.first = min(self.first or line.day, line.day)
        self.last = max(self.last or line.day, line.day)


@dataclass(frozen=True, slots=True)
class Statement:
    """A file of a source, and how it is read."""

    source: str
    path: Path
    form: Form
    terms: Terms


def check(statement: Statement, scratch: Scratch, progress: Progress) -> Total:
    """Read the whole file; what is wrong with it goes to the scratch file. Nothing is stored."""
    total = Total()
    try:
        for number, line in _rows(statement, total, scratch, progress):
            if line is not None:
                total.add(line)
            total.lines = max(total.lines, number)
    except BadFile as bad:
        scratch.fault(0, bad.line, "", bad.words)
    progress.end()
    list(scratch.sort())  # so that faults are found by line
    return total


async def store(
    statement: Statement,
    scratch: Scratch,
    progress: Progress,
    write: Writing,
    *,
    new_id: Callable[[], UUID],
    origin: Origin,
) -> tuple[Taken, int]:
    """Store the lines without faults; the file as it is kept, and how many lines were new.

    A file that is in already is left as it is.
    """
    hashed = sha256_of(statement.path)
    first_id = new_id()
    taken: Taken = await write(
        lambda connection: statementlines.begin(
            connection, first_id, statement.source, statement.form.name, statement.path.name, hashed, origin
        )
    )
    if taken.completed_at is not None:
        return taken, 0
    total, new_lines, page = Total(), 0, list[Numbered]()

    async def put() -> int:
        rows = list(page)
        page.clear()
        stored: int = await write(
            lambda connection: statementlines.store(connection, taken, rows, new_id=new_id, now=origin.at)
        )
        return stored

    for number, line in _rows(statement, total, None, progress):
        if line is None:
            continue
        total.add(line)
        page.append(Numbered(number, scratch.times_before(line.identity(statement.source)), line))
        if len(page) >= PAGE:
            new_lines += await put()
    if page:
        new_lines += await put()
    counts = sum(total.counts.values()), new_lines, total.passed_over
    # A file with bad lines is not in as a whole: their repaired file is another one, and this one may come again.
    if not scratch.fault_counts()[0]:
        await write(lambda connection: statementlines.complete(connection, taken, *counts, origin))
    progress.end()
    return taken, new_lines


def _rows(
    statement: Statement, total: Total, scratch: Scratch | None, progress: Progress
) -> Iterator[tuple[int, Line | None]]:
    """Number and line of each row; bad rows and those passed over give no line. Faults go to the scratch file."""
    form, size = statement.form, statement.path.stat().st_size
    lines = read_lines(
        statement.path,
        CSV,
        form.expected,
        encoding=form.encoding,
        on_octets=lambda octets: progress.at("reading", octets, size),
    )
    for line in lines:
        if line.fault:
            if scratch is not None:
                scratch.fault(0, line.number, "", line.fault)
            yield line.number, None
            continue
        row = read_row(form, line.values, statement.terms)
        if row.line is None and not row.faults:
            total.passed_over += 1
        if scratch is not None:
            for column, words in dict.fromkeys(row.faults):
                scratch.fault(0, line.number, column, words)
        yield line.number, row.line
