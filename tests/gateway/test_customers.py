"""What customers may ask beside buying, on both databases: quotes, saved meters by place, how often is too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from channels.commands import Buy, Help, LastToken, Price
from config.settings import CustomerSettings
from gateway.deeds import Arrival
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.pace import Pace
from gateway.purchase import State
from gateway.vend import Done
from ledger import batch, service_points, sets, tables
from ledger.correction_tables import disclosure
from ledger.reasons import Reason
from ledger.unit import Need, PurchaseRow
from tests.simulation.shop import AMINA, METER, Counter, open_counter
from tests.simulation.staff import SUPERVISOR, Staff

AGENT = "254722000002"
NEWCOMER = "254711067895"  # of A100005, in the sample


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


def _told(done: Done) -> tuple[str, dict[str, Any]]:
    (reply,) = done.replies
    return reply.message.key, dict(reply.message.values)


async def _second_meter(counter: Counter, drn: str) -> None:
    """Give Amina's customer the place where another meter hangs."""

    def move(connection: sa.Connection) -> None:
        amina = connection.execute(sa.select(tables.phone.c.customer_id).where(tables.phone.c.msisdn == AMINA)).scalar()
        point = connection.execute(sa.select(tables.meter.c.service_point_id).where(tables.meter.c.drn == drn)).scalar()
        connection.execute(
            tables.service_point.update().where(tables.service_point.c.id == point).values(customer_id=amina)
        )

    await counter.store.transact(move)


async def _everything(counter: Counter) -> list[Any]:
    """All rows that a quote must leave alone."""
    left = [tables.purchase, tables.token, tables.txn, tables.posting, tables.hold, tables.limited_balance]
    left += [tables.meter, tables.service_point, tables.debt]

    def read(connection: sa.Connection) -> list[Any]:
        return [sorted(map(repr, connection.execute(sa.select(table)).all())) for table in left]

    return await counter.store.read(read)


@pytest.mark.parametrize("sender", [AMINA, AGENT])
@pytest.mark.parametrize("amount_minor", [2_000, 50_000, 99_999])
async def test_the_price_is_what_the_sale_then_comes_to_and_asking_changes_nothing(
    counter: Counter, sender: str, amount_minor: int
) -> None:
    before = await _everything(counter)
    key, price = _told(await counter.ask(Price(METER, amount_minor), sender))
    assert (key, price["owner"], price["by"]) == ("price", price["owner"], "wallet" if sender == AMINA else "float")
    assert "tokens" not in price and "receipt" not in price
    assert await _everything(counter) == before
    _, sold = _told(await counter.buy(amount_minor, sender=sender))
    assert {name: value for name, value in sold.items() if name in price} == {
        name: value for name, value in price.items() if name in sold
    }


@pytest.mark.parametrize(
    ("sender", "drn", "amount_minor", "reason"),
    [
        (AMINA, METER, 1_999, Reason.AMOUNT_MIN),
        (AMINA, "04012345677", 50_000, Reason.METER_UNKNOWN),
        (AMINA, "14252321816", 50_000, Reason.METER_BLOCKED),
        (AMINA, "07770000011", 50_000, Reason.METER_BLOCKED),
        ("254799999999", METER, 1_999, Reason.AMOUNT_MIN),
        ("254799999999", "14252321816", 50_000, Reason.METER_BLOCKED),
    ],
)
async def test_a_price_is_refused_for_what_the_sale_would_be(
    counter: Counter, sender: str, drn: str, amount_minor: int, reason: Reason
) -> None:
    done = await counter.ask(Price(drn, amount_minor), sender)
    assert done.reason is reason
    assert await counter.count(tables.purchase) == 0


@pytest.mark.parametrize(
    ("sender", "amount_minor", "reason"),
    [
        ("254799999999", 50_000, Reason.PAYER_UNKNOWN),
        (AMINA, 150_001, Reason.FUNDS_SHORT),
        (AGENT, 1_000_001, Reason.STATION_CREDIT_SPENT),
    ],
)
async def test_a_price_is_told_to_whoever_could_not_pay_it_and_the_purchase_is_refused(
    counter: Counter, sender: str, amount_minor: int, reason: Reason
) -> None:
    while await counter.available("float:ST002") > 1_000_000:
        assert (await counter.buy(900_000, sender=AGENT, nth=9)).reason is None
    before = await _everything(counter)
    key, price = _told(await counter.ask(Price(METER, amount_minor), sender))
    assert (key, price["by"], price["amount_minor"]) == ("price", "", amount_minor) and "balance_minor" not in price
    assert 0 < price["units_tenths"]
    # In one batch: what the one is reckoned with is not there for the other.
    told, bought = await asyncio.gather(
        counter.ask(Price(METER, amount_minor), sender), counter.buy(amount_minor, sender=sender)
    )
    assert _told(told) == (key, price) and bought.reason is reason
    assert (await _everything(counter))[1:] == before[1:]  # only the refused purchase is new


async def test_a_price_asked_after_the_same_purchase_is_told_and_a_second_purchase_is_still_asked_about(
    counter: Counter,
) -> None:
    await counter.buy()
    assert _told(await counter.ask(Price(METER, 50_000)))[0] == "price"
    assert (await counter.buy()).reason is Reason.JUST_BOUGHT


async def test_a_price_between_two_purchases_of_one_batch_spoils_neither(counter: Counter) -> None:
    results = await asyncio.gather(
        counter.buy(20_000), counter.ask(Price(METER, 50_000)), counter.buy(30_000), counter.ask(Price(METER, 1))
    )
    assert [done.state for done in results] == [State.VENDED, None, State.VENDED, None]
    assert await counter.available("wallet:A100001") == 100_000


async def test_saved_meters_are_numbered_by_their_numbers_as_on_ussd(counter: Counter) -> None:
    other = "07003012213"
    await _second_meter(counter, other)
    key, needed = _told(await counter.buy(drn=None))
    assert (key, needed["saved"]) == ("meter_needed", f"1 = {METER}, 2 = {other}")
    for saved, drn in ((1, METER), (2, other)):
        assert _told(await counter.ask(Price(None, 50_000, saved)))[1]["drn"] == drn
        assert _told(await counter.ask(Buy(None, 20_000 + saved, saved=saved)))[1]["drn"] == drn
        assert _told(await counter.ask(LastToken(None, saved)))[1]["drn"] == drn
    assert (await counter.ask(Buy(None, 50_000, saved=3))).reason is Reason.METER_NEEDED
    assert (await counter.ask(Buy(None, 50_000, saved=1), "254799999999")).reason is Reason.METER_NEEDED


async def test_a_token_is_sent_again_three_times_an_hour(counter: Counter) -> None:
    await counter.buy()
    for minutes in (0, 10, 10):
        counter.world.advance(seconds=60 * minutes)
        assert _told(await counter.ask(LastToken(METER)))[0] == "last_token"
    counter.world.advance(seconds=60)
    key, refused = _told(await counter.ask(LastToken(METER)))
    assert (key, refused["minutes"]) == ("too_often", 39)
    assert await counter.count(disclosure) == 3
    counter.world.advance(seconds=39 * 60 + 1)
    assert _told(await counter.ask(LastToken(METER)))[0] == "last_token"
    assert _told(await counter.ask(LastToken(METER)))[0] == "too_often"


async def test_copies_of_one_batch_are_counted_together_and_a_repeat_is_not_counted(counter: Counter) -> None:
    await counter.buy()
    results = await asyncio.gather(*(counter.ask(LastToken(METER)) for _ in range(5)))
    assert sorted(_told(done)[0] for done in results) == ["last_token"] * 3 + ["too_often"] * 2
    await counter.buy(20_000)
    # Another purchase's token is another matter for the meter, but not for the phone that asks.
    assert (await counter.ask(LastToken(METER))).reason is Reason.TOO_OFTEN
    counter.world.advance(seconds=3_601)
    for _ in range(6):
        assert (await counter.ask(LastToken(METER), reference="same")).reason is None
    assert await counter.count(disclosure) == 4


async def test_whoever_moves_in_is_not_shown_the_token_of_whoever_moved_out(counter: Counter) -> None:
    staff = Staff(counter)
    sold = _told(await counter.buy(50_000))[1]["receipt"]
    assert [sale.id for sale in await _last_sales(counter, AMINA)] == [(await _purchases(counter))[sold]]
    (code,) = await counter.store.read(lambda connection: connection.execute(_POINT_OF_METER).one())
    counter.world.advance(minutes=1)
    await staff.do(service_points.transfer, code, "A100005", by=SUPERVISOR, debts_stay=True)
    counter.world.advance(minutes=1)
    assert _told(await counter.ask(LastToken(METER), NEWCOMER))[0] == "no_token_yet"
    assert await counter.count(disclosure) == 0
    assert await _last_sales(counter, NEWCOMER) == [] and await _last_sales(counter, AMINA) == []
    key, told = _told(await counter.ask(LastToken(METER)))  # who bought it still has it
    assert (key, told["receipt"]) == ("last_token", sold)
    counter.world.advance(minutes=1)
    own = _told(await counter.buy(20_000, sender=AGENT))[1]["receipt"]
    key, told = _told(await counter.ask(LastToken(METER), NEWCOMER))
    assert (key, told["receipt"]) == ("last_token", own)
    assert [sale.id for sale in await _last_sales(counter, NEWCOMER)] == [(await _purchases(counter))[own]]
    assert _told(await counter.ask(LastToken(METER)))[0] == "not_your_meter"


_POINT_OF_METER = (
    sa.select(tables.service_point.c.code)
    .join_from(tables.meter, tables.service_point)
    .where(tables.meter.c.drn == METER)
)


async def _last_sales(counter: Counter, msisdn: str) -> list[PurchaseRow]:
    need = Need(last_sales_of=[msisdn])
    unit = await counter.store.read(lambda connection: sets.answered(connection, batch.fill(need)))
    return list(unit.last_sales.get(msisdn, []))


async def _purchases(counter: Counter) -> dict[str, UUID]:
    wanted = sa.select(tables.purchase.c.receipt, tables.purchase.c.id)
    return {row[0]: row[1] for row in await counter.store.read(lambda c: c.execute(wanted).all())}


async def test_the_limit_of_copies_is_a_setting(counter: Counter) -> None:
    _limit(counter, copies_per_hour_max=0)
    await counter.buy()
    assert [(await counter.ask(LastToken(METER))).reason for _ in range(5)] == [None] * 5


def _limit(counter: Counter, **limits: int) -> None:
    counter.shop = replace(counter.shop, settings=replace(counter.shop.settings, customers=CustomerSettings(**limits)))


async def test_a_meter_is_bought_for_so_often_in_a_short_time_by_whomever(counter: Counter) -> None:
    _limit(counter, purchases_per_meter_max=3)
    first = await asyncio.gather(
        counter.buy(10_000), counter.buy(10_000, sender=AGENT), counter.buy(11_000), counter.buy(12_000)
    )
    assert sorted(str(done.reason) for done in first) == ["None"] * 3 + ["TOO_OFTEN"]
    assert (await counter.buy(13_000, sender=AGENT)).reason is Reason.TOO_OFTEN
    assert (await counter.ask(Price(METER, 13_000))).reason is Reason.TOO_OFTEN
    assert (await counter.buy(10_000, drn="07003012213")).state is State.VENDED
    counter.world.advance(seconds=121)
    assert (await counter.buy(13_000)).state is State.VENDED


async def test_refused_purchases_do_not_count_for_a_meter(counter: Counter) -> None:
    _limit(counter, purchases_per_meter_max=2)
    for _ in range(4):
        assert (await counter.buy(150_001)).reason is Reason.FUNDS_SHORT
    assert (await counter.buy(10_000)).state is State.VENDED


class _Nowhere:
    """Takes the replies and keeps their keys."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def enqueue(self, replies: list[Any]) -> None:
        self.keys += [reply.message.key for reply in replies]

    def withhold(self, request_id: object) -> list[Any]:
        return []

    def send_after_all(self, withheld: list[Any]) -> None:
        assert not withheld


async def test_a_phone_that_asks_too_often_is_refused_and_a_stations_is_not(counter: Counter) -> None:
    _limit(counter, requests_per_sender_max=3)
    out = _Nowhere()
    desk = VendingDesk(counter.shop, counter.store, out, Metrics())
    for _ in range(4):
        await desk.receive(counter.inbound(Help(), AMINA))
    await desk.receive(counter.inbound(Buy(METER, 50_000), AMINA, "over"))
    assert out.keys == ["help"] * 3 + ["too_often"] * 2
    assert await counter.count(tables.purchase) == 0
    for _ in range(5):
        await desk.receive(counter.inbound(Help(), AGENT))
    assert out.keys[5:] == ["help"] * 5
    counter.world.advance(seconds=60)
    await desk.receive(counter.inbound(Buy(METER, 50_000), AMINA, "over"))  # a repeat changes nothing, and never buys
    assert await counter.count(tables.purchase) == 0 and len(out.keys) == 10
    await desk.receive(counter.inbound(Buy(METER, 50_000), AMINA))
    assert out.keys[10:] == ["sold"]


async def test_a_repeat_of_a_purchase_is_not_refused_for_coming_often(counter: Counter) -> None:
    inbound = counter.inbound(Buy(METER, 50_000), AMINA, "m1")
    assert (await counter.store.submit(Arrival(counter.shop, inbound))).state is State.VENDED
    again = await counter.store.submit(Arrival(counter.shop, inbound, is_too_often=True))
    assert (again.replayed, again.reason, again.replies) == (True, None, [])


@given(
    most=st.integers(1, 4),
    senders_max=st.integers(2, 5),
    asked=st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 30)), max_size=60),
)
def test_no_window_of_a_sender_that_is_remembered_holds_more_than_it_may(
    most: int, senders_max: int, asked: list[tuple[str, int]]
) -> None:
    pace, now = Pace(most, 60, senders_max), datetime(2026, 6, 5, tzinfo=UTC)
    allowed: dict[str, list[Any]] = {}
    for sender, seconds in asked:
        now += timedelta(seconds=seconds)
        if pace.is_too_often(sender, now):
            # Whoever is refused has had as much as may be within the last two windows' length.
            assert sum(at > now - timedelta(seconds=60) for at in allowed[sender]) >= most
        else:
            allowed.setdefault(sender, []).append(now)
        assert len(pace._counts) <= senders_max
