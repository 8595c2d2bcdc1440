"""Purchases from arrival to outbox, on both databases: money, tokens, refusals, repeats, modules to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from channels.commands import Buy, Help, LastToken, OptOut, RedeemVoucher, SetLanguage, Statement, Unreadable
from channels.contract import Inbound, NotStored, Reply
from gateway.deeds import Arrival
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import State
from gateway.tokens import key_of
from gateway.vend import Done, Shop
from ledger import tables
from ledger.reasons import Reason
from ledger.store import open_store
from ledger.unit import Need, Unit
from sts.modules.software import SoftwareModule
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, Counter, open_counter, sample_keys
from tests.simulation.world import SeededWorld

JOAO = "254711135790"  # A100010: block tariff, EA11, a tamper fine that takes first
AGENT = "254722000002"  # sells from the float of ST002
POOR = "254711230843"  # A100017: 30.00 in the wallet
NO_WALLET_MONEY = "254711095053"  # A100007: nothing in the wallet


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


def _values(done: Done) -> dict[str, Any]:
    (reply,) = done.replies
    return dict(reply.message.values)


async def test_a_purchase_takes_the_money_and_gives_a_token_that_the_meter_will_credit(counter: Counter) -> None:
    done = await counter.buy(50_000)
    sold = _values(done)
    assert (done.state, done.replies[0].message.key, done.replies[0].recipient) == (State.VENDED, "sold", AMINA)
    assert (sold["units_tenths"], sold["energy_minor"], sold["vat_minor"]) == (226, 43_103, 6_897)
    assert await counter.available("wallet:A100001") == sold["balance_minor"] == 100_000
    token = counter.shop.module.verify(sold["tokens"][0]["digits"], await _key(counter, METER))
    assert getattr(token, "amount_field", None) == 226


async def _key(counter: Counter, drn: str) -> Any:
    class Look:
        def need(self, need: Need) -> None:
            need.meters.append(drn)

        def decide(self, unit: Unit) -> Any:
            return key_of(unit.meters[drn])

    return await counter.store.submit(Look())


async def test_a_repeat_changes_nothing_and_is_told_apart_from_a_reused_reference(counter: Counter) -> None:
    first = await counter.buy(reference="m1")
    again = await counter.buy(reference="m1")
    other = await counter.buy(60_000, reference="m1")
    assert (first.state, again.replayed, again.replies) == (State.VENDED, True, [])
    assert (other.state, other.reason, other.replies[0].message.key) == (
        None,
        Reason.DUPLICATE_DIFFERS,
        "duplicate_differs",
    )
    assert await counter.available("wallet:A100001") == 100_000
    assert await counter.count(tables.purchase) == 1


async def test_the_same_reference_a_thousand_times_at_once_is_one_purchase(counter: Counter) -> None:
    results = await asyncio.gather(*(counter.buy(reference="m1") for _ in range(1000)))
    assert sum(done.state is State.VENDED for done in results) == 1
    assert sum(done.replayed for done in results) == 999
    assert await counter.count(tables.token) == await counter.count(tables.outbox) == 1


async def test_the_same_wish_a_moment_later_is_asked_about_and_granted_when_insisted(counter: Counter) -> None:
    await counter.buy()
    counter.world.advance(seconds=90)
    second = await counter.buy()
    assert (second.state, second.reason, _values(second)["seconds"]) == (State.REFUSED, Reason.JUST_BOUGHT, 90)
    assert (await counter.buy(nth=2)).state is State.VENDED
    assert (await counter.buy(nth=2)).reason is Reason.JUST_BOUGHT
    assert _values(await counter.buy(nth=2))["again"] == 3
    counter.world.advance(seconds=121)
    assert (await counter.buy(20_000)).state is State.VENDED
    counter.world.advance(seconds=121)
    assert (await counter.buy(20_000)).state is State.VENDED


async def test_the_guard_sees_a_twin_in_the_same_batch(counter: Counter) -> None:
    results = await asyncio.gather(*(counter.buy() for _ in range(5)))
    assert sorted(str(done.reason) for done in results) == ["JUST_BOUGHT"] * 4 + ["None"]


@pytest.mark.parametrize(
    ("sender", "drn", "amount_minor", "reason"),
    [
        (AMINA, "04012345677", 50_000, Reason.METER_UNKNOWN),  # the channel has checked digits already
        (AMINA, "14252321816", 50_000, Reason.METER_BLOCKED),  # blocked
        (AMINA, "01405512029", 50_000, Reason.METER_BLOCKED),  # faulty
        (AMINA, "07770000011", 50_000, Reason.METER_BLOCKED),  # in stock, at no service point
        (AMINA, METER, 1_999, Reason.AMOUNT_MIN),
        (AMINA, METER, 5_000_001, Reason.AMOUNT_MAX),
        (AMINA, METER, 150_001, Reason.FUNDS_SHORT),
        (POOR, METER, 5_000, Reason.FUNDS_SHORT),
        (AGENT, METER, 2_500_001, Reason.STATION_CREDIT_SPENT),
        (AGENT, "14900000010", 50_000, Reason.NOT_PERMITTED),  # not a supply group of this station
        ("254799999999", METER, 50_000, Reason.PAYER_UNKNOWN),
        ("254799999999", None, 50_000, Reason.METER_NEEDED),
        (AMINA, "07003012221", 50_000, Reason.METER_KEY_ENDED),  # base date 1993 ended on 24 November 2024
        (AMINA, "04012345692", 50_000, Reason.METER_KEY_ENDED),
    ],
)
async def test_refusals_take_nothing_and_say_why(
    tmp_path: Any, sender: str, drn: str | None, amount_minor: int, reason: Reason
) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        done = await counter.buy(amount_minor, drn=drn, sender=sender)
        assert done.reason is reason
        assert done.replies[0].message.key == reason.value.lower()
        assert await counter.count(tables.txn, tables.txn.c.kind == "sale") == 0
        assert await counter.count(tables.token) == 0
        await counter.check_books()


async def test_a_key_that_is_not_loaded_refuses_the_sale_before_any_money_moves(tmp_path: Any) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule([])) as counter:
        assert (await counter.buy()).reason is Reason.KEY_MISSING
        await counter.check_books()


async def test_debts_are_taken_first_and_the_stations_sale_earns_commission(counter: Counter) -> None:
    sold = _values(await counter.buy(60_000, drn="14252321824", sender=AGENT))
    assert sold["debt_minor"] == 48_000  # a first charge, up to the cap of 80 percent
    assert await counter.available("float:ST002") == 2_500_000 - 60_000
    debt = tables.debt.c
    left = await counter.store.read(
        lambda connection: connection.execute(
            sa.select(debt.outstanding_minor).where(debt.code == "DB-0004")
        ).scalar_one()
    )
    assert left == 605_260 - 48_000


async def test_free_units_come_once_a_month_as_a_token_of_their_own(counter: Counter) -> None:
    fatuma, meter = "254711081474", "01405512003"
    first = _values(await counter.buy(20_000, drn=meter, sender=fatuma))
    second = _values(await counter.buy(10_000, drn=meter, sender=fatuma))
    assert [(token["kind"], token["units_tenths"]) for token in first["tokens"]][1] == ("free", 100)
    assert [token["kind"] for token in second["tokens"]] == ["credit"]


async def test_money_that_charges_use_up_gives_a_receipt_without_token(tmp_path: Any) -> None:
    world = SeededWorld(now=datetime(2026, 3, 5, 8, 0, tzinfo=UTC))
    async with open_counter(f"sqlite:///{tmp_path}/t.db", world=world) as counter:
        counter.world.advance(days=92)
        done = await counter.buy(20_000, drn="07003012254", sender=AGENT)
        assert (done.state, done.replies[0].message.key) == (State.VENDED, "sold_no_token")
        assert await counter.count(tables.token) == 0
        await counter.check_books()


async def test_the_saved_meter_is_meant_when_no_meter_is_named(counter: Counter) -> None:
    assert _values(await counter.buy(20_000, drn=None))["drn"] == METER


async def test_the_last_token_goes_to_its_buyer_and_its_owner_only(counter: Counter) -> None:
    assert (await counter.ask(LastToken(METER))).reason is Reason.NO_TOKEN_YET
    sold = _values(await counter.buy(50_000, sender=AGENT))
    counter.world.advance(minutes=5)
    for sender in (AGENT, AMINA):
        copy = _values(await counter.ask(LastToken(METER), sender))
        assert copy["tokens"] == sold["tokens"]
        assert (copy["bought_at"], copy["receipt"]) == ("2026-06-05 11:15", sold["receipt"])
    assert _values(await counter.ask(LastToken(None)))["tokens"] == sold["tokens"]
    stranger = await counter.ask(LastToken(METER), JOAO)
    assert (stranger.reason, _values(stranger)["drn"]) == (Reason.NOT_YOUR_METER, METER)


async def test_balance_help_language_and_stop_are_answered(counter: Counter) -> None:
    assert _values(await counter.ask(Statement(), JOAO))["debt_minor"] == 605_260
    assert _values(await counter.ask(Statement(), AGENT))["balance_minor"] == 2_500_000
    assert (await counter.ask(Statement(), "254799999999")).reason is Reason.PAYER_UNKNOWN
    assert (await counter.ask(Help())).replies[0].message.key == "help"
    changed = await counter.ask(SetLanguage("sw"))
    assert (changed.replies[0].language, changed.replies[0].message.key) == ("sw", "language_set")
    assert (await counter.ask(Help())).replies[0].language == "sw"
    assert (await counter.ask(SetLanguage("fr"), "254799999999")).replies[0].language == "fr"
    assert (await counter.ask(Help(), "254799999999")).replies[0].language == "fr"
    assert (await counter.ask(OptOut())).replies[0].message.key == "opted_out"
    assert (await counter.buy()).state is State.VENDED
    assert (await counter.ask(RedeemVoucher("1234", None))).reason is Reason.VOUCHERS_NOT_TAKEN
    assert (await counter.ask(Unreadable(Reason.TWO_METERS))).reason is Reason.TWO_METERS


async def test_the_price_changes_at_local_midnight(tmp_path: Any) -> None:
    # The second version of D1-FLAT starts on 1 July, 00:00 in Nairobi: 21:00 UTC on 30 June.
    world = SeededWorld(now=datetime(2026, 6, 30, 20, 59, 59, tzinfo=UTC))
    async with open_counter(f"sqlite:///{tmp_path}/t.db", world=world) as counter:
        before = _values(await counter.buy(50_000))
        counter.world.advance(seconds=1)
        after = _values(await counter.buy(50_001))
        assert (before["units_tenths"], after["units_tenths"]) == (226, 212)


async def test_tokens_of_one_meter_never_share_a_minute_and_never_run_far_ahead(counter: Counter) -> None:
    results = [await counter.buy(2_000 + n, sender=AGENT) for n in range(40)]
    assert [done.state for done in results[:30]] == [State.VENDED] * 30
    assert {done.reason for done in results[31:]} == {Reason.TOKENS_TOO_FAST}
    tids = await counter.store.read(
        lambda connection: list(connection.execute(sa.select(tables.token.c.tid)).scalars())
    )
    assert len(set(tids)) == len(tids)


async def test_two_phones_on_one_floats_last_money_pass_exactly_once(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        assert (await counter.buy(2_490_000, sender=AGENT)).state is State.VENDED
        other = await open_store(database_url)
        stores = (counter.store, other)
        for round_no in range(5):
            inbounds = [counter.inbound(Buy(METER, 9_000 + round_no), AGENT) for _ in range(2)]
            inbounds[1] = counter.inbound(Buy("07003012213", 9_000 + round_no), AGENT)
            done = await asyncio.gather(
                *(store.submit(Arrival(counter.shop, inbound)) for store, inbound in zip(stores, inbounds, strict=True))
            )
            passed = sum(one.state is State.VENDED for one in done)
            assert passed == (1 if round_no == 0 else 0)
        await other.close()
        await counter.check_books()


# --- a module that must be waited for ---------------------------------------------------------------------------------


class _Outgoing(Outgoing):
    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self._news = asyncio.Event()

    def enqueue(self, replies: list[Reply]) -> None:
        self.replies.extend(replies)
        self._news.set()

    async def wait_for(self, count: int) -> list[Reply]:
        async with asyncio.timeout(60):
            while len(self.replies) < count:
                self._news.clear()
                await self._news.wait()
        return self.replies


@asynccontextmanager
async def _desk(
    url: str, *plan: str, give_up_s: float = 60
) -> AsyncIterator[tuple[Counter, WaitingModule, VendingDesk, _Outgoing]]:
    module = WaitingModule(SoftwareModule(sample_keys()), plan)
    async with open_counter(url, module, give_up_s=give_up_s) as counter:
        outgoing = _Outgoing()
        desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        yield counter, module, desk, outgoing
        await desk.close()
        await counter.check_books()


def _buy(counter: Counter, amount_minor: int = 50_000, drn: str = METER, reference: str | None = None) -> Inbound:
    return counter.inbound(Buy(drn, amount_minor), AMINA, reference)


async def test_the_money_is_held_while_the_module_works_and_posted_with_the_token(database_url: str) -> None:
    async with _desk(database_url, "wait") as (counter, module, desk, outgoing):
        await desk.receive(_buy(counter))
        assert await counter.available("wallet:A100001") == 100_000
        assert await counter.count(tables.txn, tables.txn.c.kind == "sale") == 0
        assert outgoing.replies == []
        await counter.check_books()
        module.go.set()
        (reply,) = await outgoing.wait_for(1)
        assert reply.message.key == "sold"
        assert await counter.available("wallet:A100001") == 100_000
        assert await counter.count(tables.hold, tables.hold.c.state == "POSTED") == 1


async def test_a_silent_module_is_asked_again_with_the_same_inputs(database_url: str) -> None:
    async with _desk(database_url, "silent", "lost") as (counter, module, desk, outgoing):
        await desk.receive(_buy(counter))
        (reply,) = await outgoing.wait_for(1)
        assert reply.message.key == "sold"
        assert len(module.asked) == 3 and len(set(module.asked)) == 1


async def test_a_module_that_refuses_or_stays_silent_gives_the_money_back(database_url: str) -> None:
    async with _desk(database_url, "refuse", *["silent"] * 50, give_up_s=0.3) as (counter, _, desk, outgoing):
        await desk.receive(_buy(counter))
        (refused,) = await outgoing.wait_for(1)
        assert refused.message.key == "meter_key_ended"
        await desk.receive(_buy(counter, 60_000))
        gave_up = (await outgoing.wait_for(2))[1]
        assert gave_up.message.key == "module_silent"
        assert await counter.available("wallet:A100001") == 150_000
        assert await counter.count(tables.purchase, tables.purchase.c.state == "RETURNED") == 2
        assert await counter.count(tables.token, tables.token.c.digits.is_not(None)) == 0


async def test_purchases_of_one_meter_wait_for_each_other_and_others_do_not(database_url: str) -> None:
    async with _desk(database_url, "wait") as (counter, module, desk, outgoing):
        await desk.receive(_buy(counter, 50_000))
        await desk.receive(_buy(counter, 20_000))
        await desk.receive(_buy(counter, 30_000))
        await desk.receive(_buy(counter, 40_000, "07003012213"))
        (other,) = await outgoing.wait_for(1)
        assert other.message.values["drn"] == "07003012213"
        module.go.set()
        replies = await outgoing.wait_for(4)
        assert [reply.message.values["amount_minor"] for reply in replies[1:]] == [50_000, 20_000, 30_000]
        assert await counter.available("wallet:A100001") == 10_000


async def test_a_twin_that_had_to_wait_is_still_recognised(database_url: str) -> None:
    async with _desk(database_url, "wait") as (counter, module, desk, outgoing):
        await desk.receive(_buy(counter))
        await desk.receive(_buy(counter))
        module.go.set()
        replies = await outgoing.wait_for(2)
        assert [reply.message.key for reply in replies] == ["sold", "just_bought"]


async def test_a_restart_takes_up_what_was_waiting(database_url: str) -> None:
    async with _desk(database_url, "wait") as (counter, module, desk, outgoing):
        await desk.receive(_buy(counter, 50_000))
        await desk.receive(_buy(counter, 20_000))
        await desk.close()  # as a crash: the answer of the module is lost, and so is the queue in memory
        module.plan = []
        restarted = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        assert await restarted.resume(at_start=True) == 2
        replies = await outgoing.wait_for(1)
        assert await restarted.resume(at_start=True) <= 1
        replies = await outgoing.wait_for(2)
        assert [reply.message.values["amount_minor"] for reply in replies] == [50_000, 20_000]
        assert len(set(module.asked[:2])) == 1
        await restarted.close()


async def test_a_late_answer_is_dropped(database_url: str) -> None:
    async with _desk(database_url, "refuse") as (counter, module, desk, outgoing):
        await desk.receive(_buy(counter))
        (reply,) = await outgoing.wait_for(1)
        from gateway.deeds import Continue
        from gateway.purchase import Event

        late = Continue(counter.shop, reply.request_id, Event.TOKEN_MADE, ["0" * 20])
        done = await counter.store.submit(late)
        assert (done.replies, done.state) == ([], None)


async def test_what_cannot_be_stored_is_not_acknowledged(tmp_path: Any) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        desk = VendingDesk(counter.shop, counter.store, _Outgoing(), Metrics())
        await counter.store.close()
        with pytest.raises(NotStored):
            await desk.receive(_buy(counter))


def test_the_shop_reckons_in_the_utilitys_own_time() -> None:
    from config.settings import Settings
    from tests.simulation.shop import UTILITY

    shop = Shop.of(Settings(utility=UTILITY), SeededWorld(), SoftwareModule([]))
    assert shop.local(datetime(2026, 6, 30, 21, 0, tzinfo=UTC)).isoformat() == "2026-07-01T00:00:00+03:00"
