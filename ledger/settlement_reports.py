"""What is still on its way, and what could not be placed, by age. Functions of a connection; they only read.

Money in clearing has no age of its own: what left is taken to be the oldest, so the balance is the newest of what came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import tables
from ledger.accounts import id_of
from ledger.payment_rows import RESOLVED
from ledger.payment_tables import suspense
from ledger.settlement_tables import settlement_item, statement_line

AGES: Final = ((0, 1), (2, 7), (8, 30), (31, None))
"""Days, first and last of each group: 0 is today."""


def age_name(first: int, last: int | None) -> str:
    """ "2-7", "over 30"."""
    return f"over {first - 1}" if last is None else f"{first}-{last}"


AGE_NAMES: Final = tuple(age_name(*age) for age in AGES)


@dataclass(frozen=True, slots=True)
class Clearing:
    """What a source still holds of our money: positive is owed to us. `ages_minor` by the groups of AGES."""

    source: str
    balance_minor: int
    ages_minor: tuple[int, ...]


def clearing(connection: sa.Connection, midnight: datetime) -> list[Clearing]:
    """Every source that has money of ours, by code. `midnight`: the beginning of today at the utility."""
    a, p = tables.account.c, tables.posting.c
    total = sa.func.sum(p.amount_minor)
    rows = connection.execute(
        sa.select(a.code, total)
        .join_from(tables.account, tables.posting, p.account_id == a.id)
        .where(a.kind == "clearing")
        .group_by(a.code)
        .order_by(a.code)
    )
    found = []
    for code, amount in rows.all():
        balance = -int(amount)
        if balance:
            found.append(Clearing(code.partition(":")[2], balance, _ages(connection, id_of(code), balance, midnight)))
    return found


def _ages(connection: sa.Connection, account: UUID, balance_minor: int, midnight: datetime) -> tuple[int, ...]:
    """The balance as the newest of what came in. A negative one (more was paid out than came) is of today."""
    if balance_minor < 0:
        return (balance_minor, *(0 for _ in AGES[1:]))
    left, ages = balance_minor, []
    newer: UUID | None = None
    for _, last in AGES:
        if last is None:
            ages.append(left)
            break
        # Ids are made in the order of time, so a span of days is a span of the index.
        oldest = _first_id(midnight - timedelta(days=last))
        part = min(left, _came(connection, account, oldest, newer))
        ages.append(part)
        left, newer = left - part, oldest
    return tuple(ages)


def _came(connection: sa.Connection, account: UUID, oldest: UUID, newer: UUID | None) -> int:
    p = tables.posting.c
    wanted = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(
        p.account_id == account, p.amount_minor < 0, p.txn_id >= oldest
    )
    if newer is not None:
        wanted = wanted.where(p.txn_id < newer)
    return -int(connection.execute(wanted).scalar_one())


def _first_id(instant: datetime) -> UUID:
    """The smallest UUID of version 7 of this millisecond."""
    return UUID(int=int(instant.timestamp()) * 1000 << 80 | 0x7 << 76 | 0b10 << 62)


@dataclass(frozen=True, slots=True)
class Ageing:
    """Money that could not be placed, of one source and reason, by the groups of AGES."""

    source: str
    reason: str
    counts: tuple[int, ...]
    amounts_minor: tuple[int, ...]


def suspense_ageing(connection: sa.Connection, midnight: datetime) -> list[Ageing]:
    """What is in suspense now, by source and reason; days as the utility counts them."""
    s = suspense.c
    groups: list[Any] = []
    edges = [midnight - timedelta(days=first - 1) for first, _ in AGES]  # older than this is of this group, or beyond
    for number, (_, last) in enumerate(AGES):
        inside = s.opened_at < edges[number] if number else sa.true()
        if last is not None:
            inside = sa.and_(inside, s.opened_at >= edges[number + 1])
        groups.append(sa.func.coalesce(sa.func.sum(sa.case((inside, 1), else_=0)), 0))
        groups.append(sa.func.coalesce(sa.func.sum(sa.case((inside, s.amount_minor), else_=0)), 0))
    rows = connection.execute(
        sa.select(s.source, s.reason, *groups)
        .where(s.state != RESOLVED)
        .group_by(s.source, s.reason)
        .order_by(s.source, s.reason)
    )
    return [Ageing(row[0], row[1], tuple(int(n) for n in row[2::2]), tuple(int(n) for n in row[3::2])) for row in rows]


@dataclass(frozen=True, slots=True)
class Sum:
    """How many items of a source and a day are in a class, and their money on both sides."""

    source: str
    day: str
    class_: str
    count: int
    theirs_minor: int
    ours_minor: int
    fee_minor: int
    open: int


def by_day(connection: sa.Connection, source: str | None, first: str, last: str) -> list[Sum]:
    """The reconciliation, day by day and class by class."""
    i = settlement_item.c
    wanted = (
        sa.select(
            i.source,
            i.day,
            i["class"],
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(i.theirs_minor), 0),
            sa.func.coalesce(sa.func.sum(i.ours_minor), 0),
            sa.func.sum(i.fee_minor),
            sa.func.sum(sa.case((sa.and_(i["class"].not_in(("MATCHED", "FEE")), i.resolution.is_(None)), 1), else_=0)),
        )
        .where(i.day >= first, i.day <= last)
        .group_by(i.source, i.day, i["class"])
        .order_by(i.source, i.day, i["class"])
    )
    if source is not None:
        wanted = wanted.where(i.source == source)
    return [Sum(row[0], row[1], row[2], *(int(value) for value in row[3:])) for row in connection.execute(wanted)]


def statement_lines(connection: sa.Connection, source: str, day: str) -> Sequence[Any]:
    """The lines of a source's statements of one day, as they were read."""
    t = statement_line.c
    wanted = sa.select(
        t.number, t.kind, t.receipt, t.linked, t.our_ref, t.payer, t.occurred_at, t.amount_minor, t.fee_minor
    )
    return connection.execute(wanted.where(t.source == source, t.day == day).order_by(t.occurred_at, t.id)).all()
