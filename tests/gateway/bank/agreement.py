"""What must agree after a switch has sold: its books, ours, the files of both, and the tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, datetime
from uuid import UUID

import sqlalchemy as sa

from channels.iso8583.switch import BankSwitch
from channels.iso8583.switch_books import Fate, unresolved
from channels.iso8583.switch_file import day_file
from ledger import bankdays, banks, tables
from ledger.audit import Origin
from ledger.bankfile import read
from ledger.bankmatch import AGREED, Finding
from ledger.operators import Operator, Role
from ledger.store import Store
from ledger.trial_balance import broken_invariants

ZOE = Operator("fin.zoe", "Zoe", frozenset({Role.FINANCE}), "en", None)


async def sell(switch: BankSwitch, meters: Sequence[str], purchases: int, parallel: int = 8) -> None:
    """So many purchases, a meter at a time and never twice the same amount."""
    free: asyncio.Queue[str] = asyncio.Queue()
    for meter in meters:
        free.put_nowait(meter)
    room = asyncio.Semaphore(parallel)

    async def one(number: int) -> None:
        async with room:
            meter = await free.get()
            await switch.buy(meter, 20_000 + number)
            free.put_nowait(meter)

    await asyncio.gather(*(one(number) for number in range(purchases)))


async def agree(switch: BankSwitch, store: Store, bank: str, now: datetime, new_id: Callable[[], UUID]) -> None:
    """All say the same, and each debit has its one token."""
    assert switch.books.wrong == []
    assert unresolved(switch.books) == []
    day = switch.business_date
    assert await store.read(broken_invariants) == []
    assert await store.read(lambda connection: bankdays.on_its_way_minor(connection, bank)) == switch.books.net_minor()
    ours = await store.read(lambda connection: banks.totals(connection, bank, day))
    assert -ours.net_minor == switch.books.net_minor()
    assert await store.read(tokens_sold) == tokens_told(switch)
    switch.is_faulty = False
    assert (await switch.reconcile(day)).in_balance
    findings = await compared(switch, store, bank, day, now, new_id)
    assert [finding for finding in findings if finding.kind not in AGREED] == []
    _, data = await store.transact(
        lambda connection: bankdays.export(
            connection, new_id(), bank, day, "404", by=ZOE, origin=Origin("fin.zoe", now, "test")
        )
    )
    mine = read(data)
    assert mine.sums.purchases_minor - mine.sums.reversals_minor == switch.books.net_minor()


def tokens_told(switch: BankSwitch) -> dict[str, tuple[str, ...]]:
    """What the switch was told for the sales that it debited, by reference."""
    return {
        sale.order.rrn: sale.heard.tokens
        for sale in switch.books.sales
        if sale.fate is Fate.APPROVED and sale.heard is not None
    }


def tokens_sold(connection: sa.Connection) -> dict[str, tuple[str, ...]]:
    """The tokens of sales that stand, by reference: the last part of the key of the shipped profile."""
    t, p, r = tables.token.c, tables.purchase.c, tables.request.c
    wanted = (
        sa.select(r.idem_key, t.digits)
        .join_from(tables.token, tables.purchase, p.id == t.purchase_id)
        .join(tables.request, r.id == p.id)
        .where(p.state.in_(("VENDED", "DELIVERED")))
        .order_by(t.purchase_id, t.seq)
    )
    found: dict[str, tuple[str, ...]] = {}
    for key, digits in connection.execute(wanted):
        reference = key.rpartition("/")[2]
        found[reference] = (*found.get(reference, ()), digits)
    return found


async def compared(
    switch: BankSwitch, store: Store, bank: str, day: date, now: datetime, new_id: Callable[[], UUID]
) -> list[Finding]:
    """The switch's file of a day, taken in and laid beside our books."""
    theirs = read(day_file(switch.books, bank, day, now, "404"))
    origin = Origin("fin.zoe", now, "test")
    await store.transact(
        lambda connection: bankdays.take(connection, new_id(), theirs, bank, ["404"], by=ZOE, origin=origin)
    )
    _, findings = await store.read(lambda connection: bankdays.compare(connection, bank, day))
    return findings
