"""Statements of providers in the database: files, lines, and one item for each line that says what it is.

Functions of the SQL transaction they are handed; they never commit. A line is stored once, whatever files it stands in:
its identity is a hash of all it says, with a number for lines that are alike in one file. Lines are never changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, sets
from ledger.audit import Origin
from ledger.settlement_tables import settlement_item, statement_import, statement_line

NEW: Final = "NEW"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a statement. Amounts from our side: what came in is positive; the fee as taken.

    `kind`: PAYMENT, FEE, REFUND, REVERSAL or PAYOUT. `linked`: the receipt that a fee, refund or reversal is about.
    `day` is that of the utility.
    """

    kind: str
    receipt: str
    linked: str
    our_ref: str
    payer: str
    account_ref: str
    occurred_at: datetime
    day: date
    amount_minor: int
    fee_minor: int
    currency: str

    def identity(self, source: str) -> str:
        """A hash of all it says: the same line in another file has the same."""
        said = (
            source, self.kind, self.receipt, self.linked, self.our_ref, self.payer, self.account_ref,
            self.occurred_at.isoformat(), str(self.amount_minor), str(self.fee_minor), self.currency,
        )  # fmt: skip
        return hashlib.sha256("\x1f".join(said).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Numbered:
    """A line with its number in the file, and how many lines before it in the file were alike."""

    number: int
    ordinal: int
    line: Line


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that was taken in, or begun."""

    id: UUID
    source: str
    mapping: str
    file_name: str
    sha256: str
    begun_at: datetime
    begun_by: str
    completed_at: datetime | None
    lines: int | None
    new_lines: int | None
    passed_over: int | None


def begin(
    connection: sa.Connection, new_id: UUID, source: str, mapping: str, file_name: str, sha256: str, origin: Origin
) -> Taken:
    """Begin to take a file in, or go on with it: the same file of the same source is the same row."""
    row = {
        "id": new_id,
        "source": source,
        "mapping": mapping,
        "file_name": file_name,
        "sha256": sha256,
        "begun_at": origin.at,
        "begun_by": origin.who,
    }
    sets.insert(connection, statement_import, [row], missing=True)
    i = statement_import.c
    found = connection.execute(
        sa.select(*(i[name] for name in Taken.__slots__)).where(i.source == source, i.sha256 == sha256)
    ).one()
    taken = Taken(*found)
    if taken.id == new_id:
        audit.note(
            connection, origin, "settlement.import", f"statement {source}", None,
            {"file": file_name, "sha256": sha256, "mapping": mapping},
        )  # fmt: skip
    return taken


def store(
    connection: sa.Connection,
    taken: Taken,
    page: Sequence[Numbered],
    *,
    new_id: Callable[[], UUID],
    now: datetime,
) -> int:
    """Store lines that are not there yet, each with its item; how many were new. A repeat of a page changes nothing."""
    rows = [
        {
            "id": new_id(),
            "import_id": taken.id,
            "number": one.number,
            "source": taken.source,
            **{name: getattr(one.line, name) for name in Line.__slots__ if name != "day"},
            "day": one.line.day.isoformat(),
            "identity": one.line.identity(taken.source),
            "ordinal": one.ordinal,
        }
        for one in page
    ]
    t = statement_line.c
    # Somebody else may take in a file that overlaps: who comes first has stored the line.
    sets.insert(connection, statement_line, rows, missing=True)
    mine = {row["id"]: row for row in rows}
    stored = sets.by_key(connection, sa.select(t.id), t.id, mine)
    items = [
        {
            "id": new_id(),
            "source": taken.source,
            "day": mine[one.id]["day"],
            "class": NEW,
            "line_id": one.id,
            "theirs_minor": mine[one.id]["amount_minor"],
            "fee_minor": mine[one.id]["fee_minor"],
            "found_at": now,
            "changed_at": now,
            "detail": "",
        }
        for one in stored
    ]
    sets.insert(connection, settlement_item, items)
    return len(items)


def complete(
    connection: sa.Connection, taken: Taken, lines: int, new_lines: int, passed_over: int, origin: Origin
) -> None:
    """Say that the file is in as a whole."""
    i = statement_import.c
    counts = {"lines": lines, "new_lines": new_lines, "passed_over": passed_over}
    ended = connection.execute(
        sa.update(statement_import)
        .where(i.id == taken.id, i.completed_at.is_(None))
        .values(completed_at=origin.at, **counts)
    ).rowcount
    if ended:
        audit.note(connection, origin, "settlement.imported", f"statement {taken.source}", None, counts)


def files(connection: sa.Connection, source: str | None = None) -> list[Taken]:
    """The last hundred files, oldest first; of one source if given."""
    i = statement_import.c
    wanted = sa.select(*(i[name] for name in Taken.__slots__)).order_by(i.begun_at.desc()).limit(100)
    if source is not None:
        wanted = wanted.where(i.source == source)
    return [Taken(*row) for row in connection.execute(wanted)][::-1]
