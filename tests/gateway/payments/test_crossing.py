"""Words of a source that cross what the payer, the office, a crash or another node does meanwhile."""

from __future__ import annotations

import asyncio

from channels.commands import Buy
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.payments.contract import Collect
from gateway.payments.desk import PaymentDesk
from gateway.reversal import Reversal
from ledger.store import open_store
from tests.gateway.payments.till import STRANGER, Till, open_till
from tests.simulation.shop import METER


async def _takes_back(till: Till, reference: str) -> str:
    """The office, or a peer, takes back what was asked for; the answer."""
    asked = Reversal(f"sms|{reference}", f"sms|{reference}-r", bytes(16), "sms", "smsc", "x", till.counter.world.now())
    return (await till.desk.reverse(asked)).answer.value


async def test_nobody_is_asked_for_money_for_an_order_that_is_closed(database_url: str) -> None:
    """Every request is lost until the order's time is up: then its payer, who was told so, is not prompted any more."""
    async with open_till(database_url) as till:
        till.money.asks = ["lost"] * 8
        await till.text(Buy(METER, 50_000))
        while await till.states() == ["AWAITING"]:
            await till.waits(seconds=60)
        assert await till.states() == ["UNPAID"] and till.sent.keys() == ["payment_expired"]
        till.money.asks.clear()
        for _ in range(6):
            await till.waits(seconds=600)
        assert till.money.accounts == {}, "a prompt for an order that is closed"
        await till.check()


async def test_nobody_is_asked_for_money_for_an_order_that_was_taken_back(database_url: str) -> None:
    async with open_till(database_url) as till:
        till.money.asks = ["lost"]
        await till.text(Buy(METER, 50_000), reference="one")
        assert await _takes_back(till, "one") == "CANCELLED" and await till.states() == ["REFUSED"]
        for _ in range(6):
            await till.waits(seconds=20)
        assert till.money.accounts == {}, "a prompt for an order that was taken back"
        await till.check()


async def test_a_request_on_its_way_when_the_order_is_closed_is_still_asked_about(database_url: str) -> None:
    """It was late, not lost: what comes of it is known without a callback."""
    async with open_till(database_url) as till:
        till.money.asks = ["lost"] * 8
        ref = await till.order()
        while await till.states() == ["AWAITING"]:
            await till.waits(seconds=60)
        till.money.asks.clear()
        await till.money.collect(Collect(ref, STRANGER, 50_000, "KES", METER, "electricity"))  # it arrives after all
        till.money.take(ref)
        await till.waits(seconds=3_600)
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["payment_expired", "sold"]
        assert await till.balance(f"prepaid:{STRANGER}") == 0
        await till.check()


async def test_one_payment_heard_of_by_two_nodes_at_once_is_booked_once(database_url: str) -> None:
    """Callback here, poll there, the same again; money for an order and money that came by itself."""
    async with open_till(database_url) as till:
        other = await open_store(till.counter.url)
        desk = VendingDesk(till.counter.shop, other, till.sent, Metrics())
        second = PaymentDesk(till.counter.shop, other, desk, [(till.settings, till.money)], Metrics())
        try:
            for number in range(6):
                ref = await till.order(40_000 + number)
                word, by_itself = till.money.take(ref), till.money.paybill(STRANGER, METER, 30_000 + number)
                again, back = till.money.charge_again(ref), till.money.paybill(STRANGER, "rent", 20_000 + number)
                words = [word, by_itself, again, back]
                await asyncio.gather(
                    till.payments.received("mpesa", words),
                    second.received("mpesa", words[::-1]),
                    second.look("mpesa"),
                    till.payments.look("mpesa"),
                    till.payments.received("mpesa", [till.money.take_back(back)]),
                    second.received("mpesa", [word]),
                )
                await till.settle()
                await second.idle()
            assert await till.states() == ["VENDED"] * 12 and await till.tokens() == 12
            held = await till.held()
            assert sum(1 for one in held if one[:2] == ("SECOND_PAYMENT", "OPEN")) == 6
            assert all(state == "RESOLVED" for reason, state, _ in held if reason == "METER_UNKNOWN")
            await till.check()
        finally:
            await second.close()
            await desk.close()
            await other.close()
