"""Banks in a batch: requests by trace, business days. Nothing is read where no bank asks.

No I/O here: a generator that yields questions, as those of `ledger/batch.py`, which drives it. Read after the locks of
meters and service points; the rows of bank_request are changed by whoever holds those of their purchase.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from ledger import bank_tables
from ledger.sql import Read, Row, Update
from ledger.unit import BankRequestRow, Need, Unit

CHANNEL: Final = "bank"
"""The channel of purchases that come from a bank's switch. Their peer is the bank."""

BANK_REQUEST: Final = bank_tables.bank_request

_REQUEST = " ".join(f"b.{column.name}" for column in bank_tables.bank_request.columns)

READ_BANK_REQUESTS = Read(
    {"b": bank_tables.bank_request}, _REQUEST, "FROM bank_request b WHERE b.id {in0:uuid} ORDER BY b.id"
)
READ_BANK_TRACES = Read(
    {"b": bank_tables.bank_request},
    _REQUEST,
    "FROM bank_request b WHERE b.bank {in0:text} AND b.trace {in1:text} ORDER BY b.id",
)
# The latest by the primary key, however many days there are.
READ_BANK_DAYS = Read(
    {"d": bank_tables.bank_day},
    "d.bank d.business_date",
    "FROM bank_day d WHERE d.bank {in0:text} AND d.business_date = "
    "(SELECT max(x.business_date) FROM bank_day x WHERE x.bank = d.bank)",
)
ANSWER_AGAIN = Update(bank_tables.bank_request, "id", "code", "code = {code}, answers = answers + 1")
SET_CODE = Update(bank_tables.bank_request, "id", "code", "code = {code}")
CLOSE = Update(bank_tables.bank_request, "id", "is_closed", "is_closed = {is_closed}")


def account_of(bank: str) -> str:
    """The code of the account in which a bank's money is on its way: it has debited its customer."""
    return f"clearing:{bank}"


def trace_key(bank: str, trace: str) -> tuple[str, str]:
    """How a trace is known in a unit."""
    return bank, trace


def fill(unit: Unit, need: Need) -> Generator[tuple[Read, Sequence[Sequence[Any]]], list[Row], None]:
    """Read what the bank requests of a batch need; nothing where there are none."""
    if not need.banks:
        return
    ids = list(dict.fromkeys([*need.bank_requests, *need.undone, *(purchase.id for purchase in _of_banks(unit))]))
    if ids:
        for row in (yield READ_BANK_REQUESTS, [ids]):
            _take(unit, BankRequestRow(*row))
    if need.bank_traces:
        for row in (yield READ_BANK_TRACES, [list(dict.fromkeys(need.banks)), list(dict.fromkeys(need.bank_traces))]):
            _take(unit, BankRequestRow(*row))
    for row in (yield READ_BANK_DAYS, [list(dict.fromkeys(need.banks))]):
        unit.bank_days[row[0]] = row[1]


def _of_banks(unit: Unit) -> list[Any]:
    return [purchase for purchase in unit.purchases.values() if purchase.channel == CHANNEL]


def _take(unit: Unit, row: BankRequestRow) -> None:
    unit.bank_requests[row.id] = row
    if row.trace is not None:
        unit.bank_traces[row.bank, row.trace] = row.id


def insert(unit: Unit, row: BankRequestRow) -> None:
    """Owe the insertion of a request; those behind it in the batch see it."""
    unit.put("bank_requests", row.id, row)
    if row.trace is not None:
        unit.put("bank_traces", (row.bank, row.trace), row.id)
    unit.insert(BANK_REQUEST, tuple(getattr(row, name) for name in BankRequestRow.__slots__))
