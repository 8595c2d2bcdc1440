"""`prepaid readings`: what registers showed, beside what was sold. Shell."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any, Final, TextIO
from zoneinfo import ZoneInfo

from gateway.bulk.readings import TOTAL
from gateway.bulk.writing import writer
from gateway.commands.listing import format_wanted, listed_to, write_list
from gateway.commands.records import month
from gateway.keysession import WELL, Books, Group, Session
from gateway.world import RealWorld, World
from ledger import reading_report
from ledger.operators import READERS, require_role
from ledger.reading_report import Compared, Reading

COLUMNS: Final = (
    "drn", "service_point", "area", "since", "since_kwh", "read_at", "reading_kwh", "used_kwh", "sold_kwh",
    "difference_kwh", "remark",
)  # fmt: skip


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `readings` to an argparse sub-parsers object; it sets `run`, options to exit code."""
    group = Group(subparsers, "readings", "compare readings of meters with sales", world or RealWorld())
    about = "a line a meter: readings, energy used and sold between them, and the difference"
    reporting = group.command("report", _report, about, people=1)
    reporting.add_argument("--month", required=True, metavar="YYYY-MM", help="the month of the later reading")
    which = reporting.add_mutually_exclusive_group()
    which.add_argument("--meter", metavar="NUMBER", help="one meter; else all")
    which.add_argument("--area", help="the meters that hang there")
    listed_to(reporting)


def _report(session: Session) -> int:
    options = session.options
    zone = session.settings.utility.zone
    start, end = month(options.month, zone)
    unread = 0

    def write(connection: Any, file: TextIO) -> int:
        nonlocal unread
        put, count, unread = writer(file, format_wanted(options), COLUMNS), 0, 0
        found = reading_report.of_month(connection, start, end, register=TOTAL, drn=options.meter, area=options.area)
        for one in found:
            put(_line(one, zone))
            count += 1
            unread += one.last is None
        return count

    async def work(books: Books) -> int:
        require_role(books.first, *READERS)
        return await write_list(books, options.out, write)

    count = session.in_books(work)
    sys.stderr.write(f"{count} meters, {unread} of them without a reading in {options.month}\n")
    return WELL


def _line(one: Compared, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "drn": one.drn,
        "service_point": one.service_point,
        "area": one.area,
        "since": _at(one.before, zone),
        "since_kwh": _kwh(None if one.before is None else one.before.value_tenths),
        "read_at": _at(one.last, zone),
        "reading_kwh": _kwh(None if one.last is None else one.last.value_tenths),
        "used_kwh": _kwh(one.used_tenths),
        "sold_kwh": _kwh(one.sold_tenths),
        "difference_kwh": _kwh(one.difference_tenths),
        "remark": one.remark,
    }


def _at(reading: Reading | None, zone: ZoneInfo) -> str | None:
    return None if reading is None else _local(reading.at, zone)


def _local(instant: datetime, zone: ZoneInfo) -> str:
    return instant.astimezone(zone).isoformat(timespec="seconds")


def _kwh(tenths: int | None) -> str | None:
    if tenths is None:
        return None
    whole, tenth = divmod(abs(tenths), 10)
    return f"{'-' if tenths < 0 else ''}{whole}.{tenth}"
