"""Two people at two desks, or at a desk and a counter, at the same moment; each desk has a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.commands.corrections import approve
from gateway.payment import Paid, PayAccount
from gateway.reversal import Answer, Reversal, Reverse, Reversed
from gateway.sale import receipt_of
from ledger import audit, corrections, statements, tables
from ledger.audit import Origin
from ledger.corrections import CorrectionRefused, Kind, Wish
from ledger.store import Store, open_store
from tests.simulation.shop import Counter, open_counter

FINED = "14252321824"


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


def _origin(counter: Counter, who: str) -> Origin:
    return Origin(who, counter.world.now(), "here", "the customer brought the receipt")


@pytest.mark.parametrize("has_points", [True, False])
async def test_one_payment_typed_at_two_desks_at_once_is_taken_once(counter: Counter, has_points: bool) -> None:
    """Also where nothing but the payment's own reference tells one from the other: a customer without a meter."""
    of = await counter.store.read(lambda connection: statements.customer(connection, FINED))
    assert of is not None
    of = of if has_points else replace(of, service_points=())
    other = await open_store(counter.url)

    async def pay(store: Store) -> Paid:
        deed = PayAccount(counter.shop, of, None, 700_000, "cash:office", "slip 1", "op.ann")
        origin = _origin(counter, "op.ann")
        return await store.submit_noted(deed, lambda c, paid: audit.note(c, origin, "account.paid", "it", None, {}))

    try:
        paid = await asyncio.gather(*(pay(store) for store in (counter.store, other) * 4))
    finally:
        await other.close()
    assert len({one.receipt for one in paid}) == 1 and [one.again for one in paid].count(False) == 1
    assert await counter.count(tables.txn, tables.txn.c.kind == "account_payment") == 1


async def test_a_sale_taken_back_and_refunded_at_once_is_undone_once(counter: Counter) -> None:
    sold = await counter.buy(50_000, reference="one")
    receipt = str(sold.replies[0].message.values["receipt"])
    other, wallet = await open_store(counter.url), await counter.available("wallet:A100001")
    new_id = counter.shop.world.new_id()
    wish = Wish(Kind.REFUND_MONEY, receipt, 50_000, 0, "", {"to": "source"})

    async def take_back(store: Store, who: str) -> Reversed | None:
        asked = Reversal("sms|one", f"office|{who}", bytes(16), "office", "", who, counter.world.now())
        unsent = frozenset(reply.id for reply in sold.replies)
        origin = _origin(counter, who)
        deed = Reverse(counter.shop, asked, unsent)
        return await store.submit_noted(deed, lambda c, _: audit.note(c, origin, "purchase.reversal", "it"))

    async def give_back() -> bool:
        try:
            code, origin = receipt_of(new_id), _origin(counter, "sup.ann")
            case = await other.transact(lambda c: corrections.ask(c, wish, new_id, code, "KES", origin))
            while (done := await approve(other, counter.shop, case.code, _origin(counter, "fin.zoe"))) is None:
                pass
            return not done.again
        except CorrectionRefused:
            return False

    try:
        *answers, was_refunded = await asyncio.gather(
            take_back(counter.store, "sup.bob"), take_back(other, "sup.eve"), give_back()
        )
    finally:
        await other.close()
    undone = [one for one in answers if isinstance(one, Reversed) and one.answer is Answer.REVERSED]
    assert (sum(not one.repeated for one in undone), was_refunded) in ((1, False), (0, True))
    assert await counter.available("wallet:A100001") == wallet + 50_000
