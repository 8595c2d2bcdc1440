"""Who bears a correction, or gets its money, when people have moved or closed their accounts since the sale."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.reversal import Answer, Evidence, Reversal, Reverse
from gateway.vend import Done
from ledger import customers, service_points, tables
from ledger.corrections import CorrectionRefused, Kind, PaymentRefused, Wish
from ledger.reasons import Reason
from tests.gateway.test_corrections import _approve, _ask, _balances, _one, _pay, _receipt, _wrong
from tests.simulation.shop import METER, Counter, open_counter
from tests.simulation.staff import SUPERVISOR, Staff

OTHERS_METER = "37180000434"


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


async def _point_of(counter: Counter, drn: str) -> str:
    s, m = tables.service_point.c, tables.meter.c
    wanted = sa.select(s.code).join(tables.meter, m.service_point_id == s.id).where(m.drn == drn)
    return str((await _one(counter, wanted))[0])


async def _move_in(counter: Counter, to_account: str = "A100005") -> None:
    code = await _point_of(counter, METER)
    counter.world.advance(minutes=1)
    await Staff(counter).do(service_points.transfer, code, to_account, by=SUPERVISOR, debts_stay=True)
    counter.world.advance(minutes=1)


@pytest.mark.parametrize("wrong", ["debit", "block"])
async def test_whoever_moved_in_since_bears_nothing_of_a_wrong_sale(counter: Counter, wrong: str) -> None:
    sold = await counter.buy(50_000)
    early = await _ask(counter, _wrong(sold, wrong=wrong))
    await _move_in(counter)
    with pytest.raises(CorrectionRefused, match="account A100001 has left the service point"):
        await _approve(counter, early)
    other = await counter.buy(20_000, sender="254722000002")
    assert (
        await _ask(counter, _wrong(other, 20_000, wrong=wrong))
    ).state == "ASKED"  # their own sale is another matter


async def test_a_wrong_sale_of_whoever_left_is_the_utilitys_loss(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    await _move_in(counter)
    with pytest.raises(CorrectionRefused, match="--wrong loss"):
        await _ask(counter, _wrong(sold))
    approved = await _approve(counter, await _ask(counter, _wrong(sold, wrong="loss")))
    assert approved.state == "VENDED"
    assert (await _balances(counter))["loss:wrong_meter"] == -50_000
    assert await counter.count(tables.debt, tables.debt.c.kind == "WRONG_METER") == 0
    assert (await _one(counter, sa.select(tables.meter.c.status).where(tables.meter.c.drn == METER)))[0] == "INSTALLED"


async def test_a_meter_that_was_taken_away_since_is_not_blocked(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    case = await _ask(counter, _wrong(sold, wrong="block"))
    moved = tables.meter.update().where(tables.meter.c.drn == METER).values(service_point_id=None, status="REMOVED")
    await counter.store.transact(lambda connection: connection.execute(moved))
    with pytest.raises(CorrectionRefused, match="has left the service point"):
        await _approve(counter, case)


# --- closed accounts --------------------------------------------------------------------------------------------------


async def _amina_buys_for_another_and_closes(counter: Counter) -> Done:
    """Her wallet is empty then, and her account closed; the meter is somebody else's."""
    sold = await counter.buy(50_000, drn=OTHERS_METER)
    await counter.buy(100_000, drn="07003012247")
    staff = Staff(counter)
    drn = METER
    point = await _point_of(counter, drn)
    await staff.do(service_points.transfer, point, "A100005", by=SUPERVISOR, debts_stay=True)
    await staff.do(customers.close, "A100001", by=SUPERVISOR, minor_digits=2)
    return sold


async def test_no_refund_goes_to_a_wallet_that_was_closed_since(counter: Counter) -> None:
    sold = await _amina_buys_for_another_and_closes(counter)
    wish: dict[str, Any] = {"kind": Kind.REFUND_MONEY, "receipt": _receipt(sold), "amount_minor": 50_000}
    case = await _ask(counter, Wish(**wish, units_tenths=0, drn="", details={"to": "source"}))
    with pytest.raises(CorrectionRefused, match="closed since.*--to cash"):
        await _approve(counter, case)
    asked = Reversal("sms|r1", "sms|x", b"\0" * 16, "sms", "smsc", "bank", counter.world.now(), Evidence.NOT_SHOWN)
    answer = await counter.store.submit(Reverse(counter.shop, asked))
    assert answer is not None and (answer.answer, answer.reason) == (Answer.REFUSED, Reason.REFUNDED)


async def test_what_a_closed_wallet_paid_is_paid_out_by_the_office(counter: Counter) -> None:
    sold = await _amina_buys_for_another_and_closes(counter)
    asked = Reversal("sms|r1", "sms|x", b"\0" * 16, "sms", "smsc", "bank", counter.world.now(), Evidence.NOT_SHOWN)
    answer = await counter.store.submit(Reverse(counter.shop, asked))
    assert answer is not None and (answer.answer, answer.reason) == (Answer.REFUSED, Reason.REVERSAL_LATE)
    wish = Wish(Kind.REFUND_MONEY, _receipt(sold), 50_000, 0, "", {"to": "cash"})
    await _approve(counter, await _ask(counter, wish))
    balances = await _balances(counter)
    assert (balances["cash:office"], balances.get("wallet:A100001", 0)) == (50_000, 0)


async def test_a_closed_account_takes_no_payment_however_it_comes(counter: Counter) -> None:
    before = await counter.store.read(lambda connection: customers.known(connection, "A100001"))
    await _amina_buys_for_another_and_closes(counter)
    with pytest.raises(PaymentRefused, match="account A100001 is closed"):
        await _pay(counter, "A100001", 5_000)
    assert before.status == "ACTIVE"
