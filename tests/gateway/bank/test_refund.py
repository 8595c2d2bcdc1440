"""A bank's purchase whose money the office gives back: the bank never hears of it, so it owes us all the same."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.commands.corrections import approve
from gateway.sale import receipt_of
from ledger import bankdays, corrections, tables
from ledger.accounts import id_of
from ledger.audit import Origin
from ledger.corrections import Case, CorrectionRefused, Kind, Wish
from tests.gateway.bank.switch import open_bank, purchase
from tests.simulation.shop import Counter, open_counter


def _origin(counter: Counter, who: str) -> Origin:
    return Origin(who, counter.world.now(), "here", "the token was never used")


async def _ask(counter: Counter, receipt: str, to: str) -> Case:
    new_id = counter.shop.world.new_id()
    wish = Wish(Kind.REFUND_MONEY, receipt, 50_000, 0, "", {"to": to})
    code, origin = receipt_of(new_id), _origin(counter, "sup.ann")
    return await counter.store.transact(lambda c: corrections.ask(c, wish, new_id, code, "KES", origin))


async def test_a_banks_purchase_is_refunded_in_cash_and_the_bank_still_owes_it(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        async with open_bank(counter) as bank:
            assert (await (await bank.line()).ask(purchase())).get(39) == "00"
        wanted = sa.select(tables.purchase.c.receipt)
        receipt = str(await counter.store.read(lambda connection: connection.execute(wanted).scalar_one()))
        with pytest.raises(CorrectionRefused, match="--to cash"):
            await _ask(counter, receipt, "source")
        case = await _ask(counter, receipt, "cash")
        approved = await approve(counter.store, counter.shop, case.code, _origin(counter, "fin.zoe"))
        assert approved is not None
        assert await counter.store.read(lambda connection: bankdays.on_its_way_minor(connection, "kcb")) == 50_000
        paid = sa.select(sa.func.sum(tables.posting.c.amount_minor)).where(
            tables.posting.c.account_id == id_of("cash:office")
        )
        assert await counter.store.read(lambda connection: connection.execute(paid).scalar_one()) == 50_000
        await counter.check_books()
