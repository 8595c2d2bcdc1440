"""What operators want of a bank's links: messages sent once, and a business date set by hand.

Pause and drain are wishes of `ledger/links.py`, under "bank:NAME". Functions of the SQL transaction they are handed;
they never commit. Every deed is in the audit log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, banks
from ledger.audit import Origin
from ledger.bank_tables import bank_ask, bank_ask_result
from ledger.bankdays import BankDayFault, BankDayRefused

ASK_S: Final = 120
"""So long an ask is carried out by nodes that have not seen it yet."""
_DAYS_AHEAD_MAX: Final = timedelta(days=31)  # as of dates that banks announce


def wish_name(bank: str) -> str:
    """The name under which a wish for all links of a bank is kept."""
    return f"bank:{bank}"


@dataclass(frozen=True, slots=True)
class Ask:
    """Something that every node is to send on its links to a bank. `what`: sign_on, sign_off, echo."""

    id: UUID
    bank: str
    what: str
    asked_by: str
    asked_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it on one link; `link` is empty where a node has none."""

    ask_id: UUID
    node: str
    link: str
    result: str
    at: datetime


def ask(connection: sa.Connection, ask_id: UUID, bank: str, what: str, origin: Origin) -> Ask:
    """Have every node send this on its links to the bank, once."""
    row = Ask(ask_id, bank, what, origin.who, origin.at, origin.reason)
    connection.execute(bank_ask.insert().values({name: getattr(row, name) for name in Ask.__slots__}))
    audit.note(connection, origin, deed=f"bank.{what}", subject=f"bank {bank}", after={"asked": what})
    return row


def to_do(connection: sa.Connection, names: Sequence[str], node: str, now: datetime) -> list[Ask]:
    """What this node has not carried out yet for these banks, the oldest first."""
    a, r = bank_ask.c, bank_ask_result.c
    mine = sa.select(r.ask_id).where(r.ask_id == a.id, r.node == node).exists()
    fresh = (a.bank.in_(names), a.asked_at >= now - timedelta(seconds=ASK_S))
    rows = connection.execute(sa.select(bank_ask).where(*fresh, ~mine).order_by(a.id))
    return [Ask(*row) for row in rows]


def note(connection: sa.Connection, results: Sequence[Result]) -> None:
    """Keep what came of an ask."""
    for one in results:
        connection.execute(bank_ask_result.insert().values({name: getattr(one, name) for name in Result.__slots__}))


def results(connection: sa.Connection, ask_id: UUID) -> list[Result]:
    """What came of an ask so far."""
    r = bank_ask_result.c
    wanted = sa.select(bank_ask_result).where(r.ask_id == ask_id).order_by(r.node, r.link)
    return [Result(*row) for row in connection.execute(wanted)]


def last(connection: sa.Connection, bank: str) -> tuple[Ask, list[Result]] | None:
    """The last ask of a bank, with what came of it."""
    a = bank_ask.c
    row = connection.execute(sa.select(bank_ask).where(a.bank == bank).order_by(a.id.desc()).limit(1)).first()
    return (Ask(*row), results(connection, row.id)) if row is not None else None


def set_day(connection: sa.Connection, bank: str, day: date, today: date, origin: Origin) -> bool:
    """Begin a business date that the bank has not announced; False: it is begun already. Raises BankDayRefused."""
    before = banks.business_date(connection, bank)
    if before is not None and day < before:
        raise BankDayRefused(BankDayFault.FORM, f"bank {bank}: a date after {before} expected, which it has announced")
    if abs(day - today) > _DAYS_AHEAD_MAX:
        raise BankDayRefused(
            BankDayFault.FORM, f"a date within {_DAYS_AHEAD_MAX.days} days of today expected, got {day}"
        )
    is_new = banks.cut_over(connection, bank, day, "operator", origin.at)
    said = {"business_date": day.isoformat()}
    was = {"business_date": before.isoformat() if before is not None else ""}
    if is_new:
        audit.note(connection, origin, deed="bank.cut_over", subject=f"bank {bank}", before=was, after=said)
    return is_new
