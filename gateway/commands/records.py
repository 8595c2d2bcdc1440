"""What `prepaid customers`, `points`, `meters` and `debts` share: who acts, options, tables, JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from gateway.keysession import Books, Session, Unusable, say
from gateway.tokens import key_from, key_of, key_text
from ledger.changes import Act
from ledger.debts import Debt
from ledger.money import plain, to_minor
from ledger.operators import READERS, require_role
from ledger.service_points import Event
from ledger.unit import Meter

_T = TypeVar("_T")

"""Who may look at everybody's records: not those who only sell, keep keys or administer operators."""


def changing(session: Session, subject: str, change: Callable[[Any, Act], _T]) -> _T:
    """Run a change of records, a function of a transaction and of who acts, and commit it with its audit row."""
    session.subject = subject

    async def work(books: Books) -> _T:
        act = act_of(session, books)
        return await books.write(lambda connection: change(connection, act))

    return session.in_books(work)


def looking(session: Session, read: Callable[[Any], _T]) -> _T:
    """Read records, for somebody who has signed in."""

    async def work(books: Books) -> _T:
        require_role(books.first, *READERS)
        return await books.read(read)

    return session.in_books(work)


def act_of(session: Session, books: Books) -> Act:
    """Who acts, with what a change needs of the world."""
    utility = session.settings.utility
    return Act(
        by=books.first,
        origin=books.origin,
        new_id=session.world.new_id,
        local=books.origin.at.astimezone(utility.zone).replace(tzinfo=None),
        currency=utility.currency,
        beside=books.second,
    )


def today(session: Session) -> date:
    """The utility's date."""
    return session.world.now().astimezone(session.settings.utility.zone).date()


def next_key(meter: Meter, tariff_index: str) -> str | None:
    """The key a meter shall have for this tariff index; None if the one it has, or is to get, has it already."""
    wanted = key_of(meter) if meter.next_key is None else key_from(meter.next_key, meter.drn, meter.iin)
    return None if wanted.tariff_index == tariff_index else key_text(replace(wanted, tariff_index=tariff_index))


# --- values -----------------------------------------------------------------------------------------------------------


def amount(session: Session, name: str, text: str | None) -> int | None:
    """An amount in currency units as minor units."""
    if text is None:
        return None
    try:
        return to_minor(text, session.settings.utility.minor_digits)
    except ValueError as error:
        raise Unusable(f"{name}: {error}") from None


def kwh(name: str, text: str | None) -> int | None:
    """An amount of energy in kWh as tenths."""
    if text is None:
        return None
    try:
        return to_minor(text, 1)
    except ValueError as error:
        raise Unusable(f"{name}: {error}") from None


def day(name: str, text: str | None) -> date | None:
    """A date written 2026-06-05."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Unusable(f"{name}: a date such as 2026-06-05 expected, got {text!r}") from None


def month(text: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first instant of a local month, and that of the month after."""
    try:
        begin = datetime.strptime(text, "%Y-%m").replace(tzinfo=zone)
        following = (begin.year, begin.month + 1) if begin.month < 12 else (begin.year + 1, 1)
        return begin, datetime(*following, 1, tzinfo=zone)
    except ValueError:
        raise Unusable(f'--month: a month such as "2026-06" expected, got "{text}"') from None


# --- answers ----------------------------------------------------------------------------------------------------------


def answers(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The option to answer as JSON."""
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    return parser


def paged(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options of a list that comes a page at a time."""
    parser.add_argument("--after", default="", metavar="KEY", help="go on after this one, the last of the page before")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="1 to 500 at a time")
    return answers(parser)


def limit(session: Session) -> int:
    """How many are wanted at a time."""
    wanted: int = session.options.limit
    if not 1 <= wanted <= 500:
        raise Unusable(f"--limit: 1 to 500 expected, got {wanted}")
    return wanted


def show(session: Session, value: Any, lines: Callable[[], Sequence[str]]) -> None:
    """Answer with the value as JSON if that was asked for, else with these lines."""
    if session.options.json:
        say(json.dumps(_jsonable(value), ensure_ascii=False, indent=2))
        return
    for one in lines():
        say(one)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under their heads, in columns as wide as they have to be."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]


def page_end(next_after: str | None) -> list[str]:
    """How to see the next page, if there is one."""
    return [] if next_after is None else [f"more: --after {next_after}"]


def money(session: Session, minor: int) -> str:
    """Minor units as people read them."""
    return plain(minor, session.settings.utility.minor_digits)


def tenths(value: int | None) -> str:
    """Tenths of a kWh as people read them."""
    return "-" if value is None else plain(value, 1)


def history_lines(session: Session, events: Sequence[Event]) -> list[str]:
    """A history as a table."""
    rows = [
        (
            session.minute(e.at),
            e.deed,
            e.drn or "-",
            e.point or "-",
            f"{e.before or '-'} > {e.after}",
            e.other_drn or "-",
            tenths(e.reading_tenths),
            tenths(e.credit_tenths),
            e.who,
            e.reason,
        )
        for e in events
    ]
    return table(("at", "deed", "meter", "point", "from > to", "other", "reading", "credit", "by", "reason"), rows)


def debt_lines(session: Session, debts: Sequence[tuple[str, Debt]]) -> list[str]:
    """Debts as a table, with their age."""
    at = today(session)
    rows = [
        (
            debt.code,
            place,
            debt.kind,
            str(debt.priority),
            {"PERCENT": f"{debt.percent} %", "FIXED": f"{money(session, debt.instalment_minor)} a month"}.get(
                debt.mode, "first"
            ),
            money(session, debt.outstanding_minor),
            debt.state,
            debt.age(at),
            debt.agreement_no or "-",
        )
        for place, debt in debts
    ]
    return table(("debt", "point", "kind", "priority", "takes", "outstanding", "status", "age", "agreement"), rows)


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value
