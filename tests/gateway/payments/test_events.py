"""The event table of the payment rules (the project's working notes on vending, 4.2), row by row."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from channels.commands import Buy, Unreadable
from gateway.payments.contract import Can, Event, PaymentState, Why
from gateway.payments.life import TABLE, Effect, Said, State, next_ask
from ledger import payment_tables, tables
from ledger.reasons import Reason
from sts.modules.software import SoftwareModule
from tests.gateway.payments.till import STRANGER, open_till
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, sample_keys
from tests.simulation.utility import unknown_drn


async def test_an_order_by_text_is_paid_by_a_prompt_and_vended(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        assert await till.states() == ["AWAITING"]
        assert (await till.newest())["state"] == "ASKED" and till.sent.keys() == []
        await till.hears(till.money.take(ref))
        assert await till.states() == ["VENDED"]
        assert till.sent.keys() == ["sold"]
        assert await till.balance(f"prepaid:{STRANGER}") == 0 and await till.tokens() == 1
        await till.check()


async def test_a_wallet_with_enough_money_comes_first_and_one_with_too_little_is_not_split(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.text(Buy(METER, 50_000), AMINA)
        assert await till.states() == ["VENDED"] and not till.money.accounts
        ref = await till.order(200_000, sender=AMINA)
        await till.hears(till.money.take(ref))
        assert await till.states() == ["VENDED", "VENDED"]
        assert await till.balance("wallet:A100001") == 150_000 - 50_000
        await till.check()


async def test_the_same_text_twice_asks_for_money_once(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.text(Buy(METER, 50_000), reference="m1")
        await till.text(Buy(METER, 50_000), reference="m1")
        await till.text(Buy(METER, 50_000), reference="m2")  # the same wish under another id
        assert len(till.money.accounts) == 1
        assert await till.states() == ["AWAITING", "REFUSED"] and till.sent.keys() == ["just_bought"]


async def test_callback_twice_and_a_poll_beside_it_book_once(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        await till.hears(word, word)
        await till.hears(word)
        await till.waits(seconds=6)
        assert await till.states() == ["VENDED"] and await till.tokens() == 1
        await till.check()


async def test_a_callback_that_never_comes_is_asked_for_by_the_timetable(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        await till.waits(seconds=4)
        assert till.money.polled == 0
        await till.waits(seconds=2)
        assert till.money.polled == 1 and await till.states() == ["AWAITING"]
        till.money.take(ref)
        till.crash()  # the timetable is stored
        await till.waits(seconds=11)
        assert till.money.polled == 2 and await till.states() == ["VENDED"]
        await till.waits(hours=30)
        assert till.money.polled == 2
        await till.check()


def test_the_timetable() -> None:
    made = datetime(2026, 6, 5, tzinfo=UTC)
    at, asked = made, list[float]()
    while len(asked) < 40:
        lane, at = next_ask(made, at, 0.0)
        asked.append((at - made).total_seconds())
        assert lane == (0 if asked[-1] <= 60 else 1)
    assert asked[:10] == [5, 15, 30, 60, 120, 240, 480, 960, 1920, 3840]
    assert max(later - sooner for sooner, later in zip(asked, asked[1:], strict=False)) <= 3_600
    _, late = next_ask(made, made + timedelta(hours=5), 0.999)
    assert late <= made + timedelta(hours=7)


@pytest.mark.parametrize("how", ["lost", "silent"])
async def test_our_answer_is_lost_and_nothing_is_asked_for_twice(database_url: str, how: str) -> None:
    async with open_till(database_url) as till:
        till.money.asks = [how]
        ref = await till.order()
        assert (await till.newest())["state"] == "UNCLEAR"
        if how == "silent":  # it has arrived
            await till.hears(till.money.take(ref))
        else:  # the source never had it: the same is sent again
            await till.waits(seconds=6)
            await till.hears(till.money.take(ref))
        assert till.money.accounts[ref].prompts == 1
        assert await till.states() == ["VENDED"]
        await till.check()


async def test_a_crash_before_the_prompt_was_sent(database_url: str) -> None:
    async with open_till(database_url) as till:
        till.desk.collector = None  # the process dies between commit and request
        await till.text(Buy(METER, 50_000))
        assert (await till.newest())["state"] == "OWED" and not till.money.accounts
        till.crash()
        await till.waits(seconds=31)
        (ref,) = till.money.accounts
        await till.hears(till.money.take(ref))
        assert await till.states() == ["VENDED"]
        await till.check()


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (Why.CANCELLED, "payment_cancelled"),
        (Why.NO_FUNDS, "payment_no_funds"),
        (Why.WRONG_PIN, "payment_wrong_pin"),
        (Why.EXPIRED, "payment_expired"),
        (Why.BUSY, "payment_failed"),
    ],
)
async def test_a_payment_that_fails_ends_the_order_with_one_message(database_url: str, why: Why, told: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.fail(ref, why)
        await till.hears(word, word)
        assert await till.states() == ["UNPAID"] and till.sent.keys() == [told]
        again = await till.order()  # at once, for nothing was bought
        assert again != ref and (await till.states())[1] == "AWAITING"
        await till.check()


async def test_a_declined_request_ends_the_order(database_url: str) -> None:
    async with open_till(database_url) as till:
        till.money.asks = ["declined"]
        await till.order()
        assert await till.states() == ["UNPAID"] and till.sent.keys() == ["payment_failed"]


async def test_late_success_after_the_order_was_closed_still_buys(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        for _ in range(9):
            await till.waits(seconds=75)
        assert await till.states() == ["UNPAID"] and till.sent.keys() == ["payment_expired"]
        await till.hears(till.money.take(ref))
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["payment_expired", "sold"]
        await till.check()


async def test_late_success_at_another_price_goes_into_suspense_and_its_payer_is_told(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        for _ in range(9):
            await till.waits(seconds=75)
        till.counter.world.advance(days=40)  # the sample's tariffs change on the first of July
        await till.hears(till.money.take(ref))
        assert await till.states() == ["REFUSED"]
        assert await till.held() == [("PRICE_CHANGED", "OPEN", 50_000)]
        assert till.sent.keys() == ["payment_expired", "price_changed", "payment_held"]
        await till.check()


async def test_success_is_final_a_late_failure_is_ignored(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        await till.hears(word, replace(word, state=PaymentState.FAILED, why=Why.CANCELLED, receipt=""))
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["sold"]
        await till.check()


async def test_a_failure_that_overtook_its_success_does_not_lose_the_money(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        await till.hears(replace(word, state=PaymentState.FAILED, why=Why.EXPIRED, receipt=""), word)
        assert await till.states() == ["VENDED"]
        await till.check()


async def test_less_than_asked_for_stays_with_the_payer(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        await till.hears(till.money.take(ref, 30_000))
        assert await till.states() == ["UNPAID"] and till.sent.keys() == ["paid_less"]
        assert await till.balance(f"prepaid:{STRANGER}") == 30_000
        await till.text(Buy(METER, 30_000))  # and buys, as from a wallet
        assert (await till.states())[1] == "VENDED" and await till.balance(f"prepaid:{STRANGER}") == 0
        await till.check()


async def test_money_that_was_kept_pays_also_for_a_purchase_that_waited_for_its_point(
    database_url: str,
) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()))
    async with open_till(database_url, module) as till:
        await till.text(Buy(METER, 30_000))
        await till.hears(till.money.take((await till.newest())["id"], 20_000))
        assert await till.states() == ["UNPAID"] and await till.balance(f"prepaid:{STRANGER}") == 20_000
        module.plan = ["wait"]
        await till.text(Buy(METER, 50_000), AMINA)
        await till.text(Buy(METER, 20_000))
        assert (await till.states())[1:] == ["VENDING", "RECEIVED"]
        ids = [row["id"] for row in await till.rows(tables.purchase)]
        ended = [till.desk.end_of(purchase) for purchase in ids[1:]]
        module.go.set()
        await asyncio.wait_for(asyncio.gather(*ended), 60)
        assert (await till.states())[1:] == ["VENDED", "VENDED"], "nobody is asked for money that is here"
        assert await till.balance(f"prepaid:{STRANGER}") == 0
        await till.check()


async def test_more_than_asked_for_buys_what_was_asked_and_the_rest_is_kept(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        await till.hears(till.money.take(ref, 70_000))
        assert await till.states() == ["VENDED"] and await till.balance(f"prepaid:{STRANGER}") == 20_000
        await till.check()


async def test_charged_twice_the_first_buys_and_the_second_is_in_suspense(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        await till.hears(till.money.take(ref))
        second = till.money.charge_again(ref)
        await till.hears(second, second)
        assert await till.states() == ["VENDED"]
        assert await till.held() == [("SECOND_PAYMENT", "OPEN", 50_000)]
        await till.check()


async def test_charged_twice_and_the_first_taken_back_before_anybody_heard_of_it(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        first, second = till.money.take(ref), till.money.charge_again(ref)
        await till.hears(till.money.take_back(first), second, first)
        assert await till.held() == [("SECOND_PAYMENT", "OPEN", 50_000)] and await till.tokens() == 0
        await till.check()


async def test_the_token_engine_is_down_after_payment_and_the_customer_is_told_once(database_url: str) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()), ["silent"] * 2000)
    async with open_till(database_url, module, give_up_s=0.05) as till:
        ref = await till.order()
        await till.hears(till.money.take(ref))
        assert await till.states() == ["VENDING"]
        till.counter.world.advance(seconds=61)
        while "payment_waits" not in till.sent.keys():
            await asyncio.sleep(0.002)
        for _ in range(50):
            await asyncio.sleep(0.002)
        assert till.sent.keys() == ["payment_waits"] and await till.states() == ["VENDING"]
        module.plan.clear()
        while "sold" not in till.sent.keys():
            await asyncio.sleep(0.002)
        assert till.sent.keys() == ["payment_waits", "sold"] and await till.tokens() == 1
        await till.check()


async def test_reversed_after_vend_is_a_case_for_a_person(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        await till.hears(word)
        back = till.money.take_back(word)
        await till.hears(back, back)
        assert await till.states() == ["VENDED"]
        assert await till.held() == [("TAKEN_BACK", "OPEN", -50_000)]
        await till.check()


async def test_reversed_before_it_was_spent_leaves_the_books_again(database_url: str) -> None:
    async with open_till(database_url) as till:
        less = till.money.take(await till.order(), 30_000)
        await till.hears(less, till.money.take_back(less))
        assert await till.balance(f"prepaid:{STRANGER}") == 0 and await till.held() == []
        wrong = till.money.paybill(STRANGER, "4711", 20_000)
        await till.hears(wrong, till.money.take_back(wrong))
        assert await till.held() == [("METER_UNKNOWN", "RESOLVED", 20_000)]
        await till.check()


# --- the money comes first --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [METER, "0401 2345 676", "meter 04012345676", "Mita:04012345676", "0401-2345-676"])
async def test_money_with_a_meter_number_buys_at_once(database_url: str, written: str) -> None:
    async with open_till(database_url) as till:
        word = till.money.paybill(STRANGER, written, 50_000)
        await till.hears(word, word)
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["sold"]
        assert await till.tokens() == 1
        await till.check()


@pytest.mark.parametrize(
    ("account", "amount", "reason"),
    [
        ("04012345677", 30_000, "METER_UNKNOWN"),  # a wrong check digit
        (unknown_drn(7), 30_000, "METER_UNKNOWN"),
        ("rent", 30_000, "METER_UNKNOWN"),
        ("", 30_000, "NO_ORDER"),
        (METER, 1, "AMOUNT"),
    ],
)
async def test_money_that_cannot_be_placed_is_held_and_finds_its_way(
    database_url: str, account: str, amount: int, reason: str
) -> None:
    async with open_till(database_url) as till:
        word = till.money.paybill(STRANGER, account, amount)
        await till.hears(word, word)
        assert await till.held() == [(reason, "OPEN", amount)]
        assert till.sent.keys() == ["payment_held"] and await till.states() == []
        await till.text(Unreadable(Reason.AMOUNT_NEEDED, METER), AMINA)  # nobody else's
        assert await till.held() == [(reason, "OPEN", amount)]
        await till.text(Unreadable(Reason.AMOUNT_NEEDED, METER))
        if reason == "AMOUNT":
            assert till.sent.keys() == ["payment_held", "amount_min"] and await till.states() == []
        else:
            assert await till.held() == [(reason, "RESOLVED", amount)] and await till.states() == ["VENDED"]
            await till.text(Unreadable(Reason.AMOUNT_NEEDED, METER))  # once
            assert till.sent.keys() == ["payment_held", "sold", "amount_needed"]
        await till.check()


async def test_money_in_suspense_is_used_by_its_payer_only_so_long(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.hears(till.money.paybill(STRANGER, "rent", 30_000))
        till.counter.world.advance(days=31)
        await till.text(Unreadable(Reason.AMOUNT_NEEDED, METER))
        assert await till.held() == [("METER_UNKNOWN", "OPEN", 30_000)]
        assert till.sent.keys() == ["payment_held", "amount_needed"]


async def test_a_phone_that_cannot_be_asked_hears_the_price_and_how_to_pay(database_url: str) -> None:
    async with open_till(database_url, collect=False, instructions="Paybill 888880, account = meter") as till:
        await till.text(Buy(METER, 50_000))
        (reply,) = till.sent.replies
        assert reply.message.key == "pay_first" and reply.message.values["units_tenths"] > 0
        assert reply.message.values["how"] == "Paybill 888880, account = meter"


async def test_amounts_and_phones_that_a_source_does_not_take_are_not_asked(database_url: str) -> None:
    async with open_till(database_url, prefixes="25572", min_minor=1_000, max_minor=100_000, step_minor=100) as till:
        await till.text(Buy(METER, 50_000))
        await till.text(Buy(METER, 50_050), "255720000001")
        await till.text(Buy(METER, 200_000), "255720000001")
        assert not till.money.accounts
        await till.text(Buy(METER, 50_000), "255720000001")
        assert len(till.money.accounts) == 1


# --- what is not believed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"currency": "USD"}, {"amount_minor": 0}, {"amount_minor": -50_000}])
async def test_other_currencies_and_no_amounts_are_not_believed(database_url: str, wrong: dict[str, object]) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        await till.hears(replace(word, **wrong))  # type: ignore[arg-type]
        await till.hears(replace(till.money.paybill(STRANGER, METER, 50_000), **wrong))  # type: ignore[arg-type]
        assert await till.states() == ["AWAITING"] and await till.held() == []
        events = await till.rows(payment_tables.payment_event)
        assert [row["outcome"] for row in events][-2:] == [events[-1]["outcome"]] * 2
        await till.hears(word)
        assert await till.states() == ["VENDED"]


async def test_words_of_nothing_known_change_nothing(database_url: str) -> None:
    async with open_till(database_url) as till:
        now = till.counter.world.now()
        for state in (PaymentState.PENDING, PaymentState.FAILED, PaymentState.REVERSED):
            await till.hears(Event(state, now, receipt="X1", provider_ref="nobody"))
        await till.hears(Event(PaymentState.SUCCESS, now, provider_ref="nobody", amount_minor=5_000, currency="KES"))
        assert await till.rows(payment_tables.payment) == [] and till.sent.replies == []
        assert len(await till.rows(payment_tables.payment_event)) == 4


async def test_a_pending_callback_has_the_source_asked_at_once(database_url: str) -> None:
    """How a source says that its word counts only once it was asked."""
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        await till.hears(replace(word, state=PaymentState.PENDING, receipt="", amount_minor=None, currency=""))
        assert till.money.polled == 1 and await till.states() == ["VENDED"]
        await till.check()


async def test_a_source_that_cannot_be_asked_is_waited_for(database_url: str) -> None:
    async with open_till(database_url) as till:
        till.money.can = frozenset({Can.COLLECT, Can.NOTIFY})
        ref = await till.order()
        for _ in range(9):
            await till.waits(seconds=75)
        assert till.money.polled == 0 and await till.states() == ["UNPAID"]
        await till.waits(hours=30)
        assert (await till.newest())["state"] == "EXPIRED" and till.sent.keys() == ["payment_expired"]
        await till.hears(till.money.take(ref))
        assert await till.states() == ["VENDED"]
        await till.check()


def test_every_state_has_a_row_for_every_word_and_only_success_books() -> None:
    assert all(set(row) == set(Said) for row in TABLE.values()) and set(TABLE) == set(State)
    for state, row in TABLE.items():
        for said, to in row.items():
            assert (to.effect is Effect.BOOK) == (said is Said.SUCCESS and state not in (State.PAID, State.REVERSED))
            assert (to.effect is Effect.TAKE_BACK) == (said is Said.REVERSED and state is State.PAID)
            assert state is not State.PAID or to.state in (State.PAID, State.REVERSED)
