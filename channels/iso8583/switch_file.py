"""The end-of-day file that a bank's switch writes from its books. Pure."""

from __future__ import annotations

from datetime import date, datetime

from channels.iso8583.switch_books import Fate, Sale, SwitchBooks
from ledger.bankfile import Header, Line, written


def day_file(books: SwitchBooks, bank: str, day: date, created: datetime, currency: str, *, sequence: int = 1) -> bytes:
    """Every sale of a business date, without token and card. ValueError for a value that has no room."""
    lines = [_line(sale, currency) for sale in books.sales if sale.order.business_date == day]
    return written(Header(bank, day, sequence, created, currency), lines)


def _line(sale: Sale, currency: str) -> Line:
    order, heard = sale.order, sale.heard
    assert order.business_date is not None, "machines know the day"
    return Line(
        business_date=order.business_date,
        sent=f"{order.sent:%m%d%H%M%S}",
        stan=f"{order.stan:06d}",
        local_time=f"{order.local:%H%M%S}",
        local_date=f"{order.local:%m%d}",
        rrn=order.rrn,
        terminal=order.terminal.number,
        acquirer=order.terminal.acquirer,
        drn=order.meter,
        amount_minor=order.amount_minor,
        currency=currency,
        # Never answered in time: the switch's own code for it.
        code=heard.code if heard is not None else "68",
        receipt=heard.receipt[:20] if heard is not None else "",
        is_reversed=sale.fate is Fate.REVERSED,
    )
