"""Money for the wallet from an outside source: asked for by SMS or USSD, or paid in unasked; credited once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from channels.commands import Buy, Help, TopUp
from channels.ussd.steps import Kind, Step
from config.languages import load
from config.settings import UssdSettings
from gateway.metrics import Metrics
from gateway.payments.contract import Validation, Why
from gateway.ussd.desk import UssdDesk
from ledger import payment_tables, tables
from tests.gateway.payments.till import STRANGER, Till, open_till, values_of
from tests.simulation.shop import AMINA, METER

MENU = UssdSettings(name="menu", kind="africastalking")


async def top_up(till: Till, amount_minor: int = 50_000, sender: str = STRANGER) -> UUID:
    """A top-up by text; the reference of its payment."""
    await till.text(TopUp(amount_minor), sender)
    return UUID(str((await till.newest())["id"]))


async def test_a_top_up_by_text_is_paid_by_a_prompt_and_credited_once(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await top_up(till, sender=AMINA)
        (account,) = till.money.accounts.values()
        assert account.order.account_ref == "WALLET" and account.order.payer == AMINA
        assert till.sent.keys(AMINA) == []
        word = till.money.take(ref)
        await till.hears(word, word)
        await till.waits(seconds=6)
        assert await till.balance("wallet:A100001") == 150_000 + 50_000
        assert till.sent.keys(AMINA) == ["top_up_paid"] and await till.states() == []
        assert values_of(till.sent.replies[-1])["balance_minor"] == 200_000
        await till.check()


async def test_a_phone_without_a_wallet_has_money_of_its_own_which_buys(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.hears(till.money.take(await top_up(till)))
        assert await till.balance(f"prepaid:{STRANGER}") == 50_000
        await till.text(Buy(METER, 50_000))
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["top_up_paid", "sold"]
        await till.check()


async def test_the_same_top_up_again_is_asked_for_once_unless_it_is_insisted_on(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.text(TopUp(50_000), reference="m1")
        await till.text(TopUp(50_000), reference="m1")
        await till.text(TopUp(50_000), reference="m2")
        assert len(till.money.accounts) == 1 and till.sent.keys() == ["top_up_again"]
        assert values_of(till.sent.replies[-1])["again"] == 2
        await till.text(TopUp(50_000, 2), reference="m3")
        await till.text(TopUp(60_000), reference="m4")
        assert len(till.money.accounts) == 3
        await till.waits(seconds=121)
        await till.text(TopUp(50_000), reference="m5")
        assert len(till.money.accounts) == 4


async def test_two_copies_in_one_batch_ask_once(database_url: str) -> None:
    async with open_till(database_url) as till:
        inbound = [till.counter.inbound(TopUp(50_000), STRANGER) for _ in range(2)]
        await till.desk.receive(inbound[0])
        await till.desk.receive(inbound[1])
        await till.settle()
        assert len(till.money.accounts) == 1


async def test_one_that_failed_may_be_asked_for_again_at_once(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.hears(till.money.fail(await top_up(till)))
        second = await top_up(till)
        await till.hears(till.money.take(second))
        assert till.sent.keys() == ["payment_cancelled", "top_up_paid"]
        assert await till.balance(f"prepaid:{STRANGER}") == 50_000
        await till.check()


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (Why.NO_FUNDS, "payment_no_funds"),
        (Why.CANCELLED, "payment_cancelled"),
        (Why.WRONG_PIN, "payment_wrong_pin"),
        (Why.EXPIRED, "top_up_expired"),
        (Why.REFUSED, "payment_failed"),
    ],
)
async def test_a_failed_top_up_is_told_in_one_message(database_url: str, why: Why, told: str) -> None:
    async with open_till(database_url) as till:
        word = till.money.fail(await top_up(till), why)
        await till.hears(word, word)
        assert till.sent.keys() == [told]
        await till.check()


async def test_a_success_after_the_time_was_up_is_credited_and_the_time_is_told_once(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await top_up(till)
        for _ in range(4):
            await till.waits(seconds=700)
        assert till.sent.keys() == ["top_up_expired"]
        await till.hears(till.money.take(ref))
        assert till.sent.keys() == ["top_up_expired", "top_up_paid"]
        assert await till.balance(f"prepaid:{STRANGER}") == 50_000
        await till.check()


async def test_a_failure_after_the_time_was_up_is_not_told_again(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await top_up(till)
        await till.waits(seconds=700)
        await till.hears(till.money.fail(ref))
        assert till.sent.keys() == ["top_up_expired"]
        assert (await till.newest())["state"] == "FAILED"


async def test_a_success_that_overtakes_or_follows_a_failure_counts(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await top_up(till)
        paid = till.money.take(ref)
        failed = till.money.word(ref)
        await till.hears(paid, failed)
        assert await till.balance(f"prepaid:{STRANGER}") == 50_000
        await till.check()


async def test_what_came_is_credited_and_not_what_was_asked_for(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.hears(till.money.take(await top_up(till), 30_000))
        assert await till.balance(f"prepaid:{STRANGER}") == 30_000
        assert values_of(till.sent.replies[-1])["amount_minor"] == 30_000
        await till.check()


async def test_charged_twice_the_second_is_in_suspense(database_url: str) -> None:
    async with open_till(database_url) as till:
        ref = await top_up(till)
        await till.hears(till.money.take(ref), till.money.charge_again(ref))
        assert await till.held() == [("SECOND_PAYMENT", "OPEN", 50_000)]
        assert await till.balance(f"prepaid:{STRANGER}") == 50_000
        await till.check()


@pytest.mark.parametrize("is_spent", [False, True])
async def test_taken_back_leaves_the_wallet_or_is_a_case(database_url: str, is_spent: bool) -> None:
    async with open_till(database_url) as till:
        word = till.money.take(await top_up(till))
        await till.hears(word)
        if is_spent:
            await till.text(Buy(METER, 50_000))
        await till.hears(till.money.take_back(word))
        assert await till.balance(f"prepaid:{STRANGER}") == 0
        assert await till.held() == ([("TAKEN_BACK", "OPEN", -50_000)] if is_spent else [])
        await till.check()


async def test_a_crash_before_the_prompt_was_sent(database_url: str) -> None:
    async with open_till(database_url) as till:
        till.money.asks = ["lost"]
        ref = await top_up(till)
        till.crash()
        await till.waits(seconds=61)
        assert list(till.money.accounts) == [ref]  # asked about, never heard of, sent again
        await till.hears(till.money.take(ref))
        assert await till.balance(f"prepaid:{STRANGER}") == 50_000
        await till.check()


async def test_a_phone_or_an_amount_that_no_source_asks_for(database_url: str) -> None:
    limits: dict[str, Any] = {"prefixes": "25470", "min_minor": 1_000, "max_minor": 100_000, "step_minor": 100}
    async with open_till(database_url, instructions="Paybill 600987", **limits) as till:
        for amount_minor, sender, told in (
            (500, STRANGER, "amount_min"),
            (100_100, STRANGER, "amount_max"),
            (1_050, STRANGER, "top_up_not_taken"),
            (5_000, AMINA, "top_up_not_taken"),
        ):
            await till.text(TopUp(amount_minor), sender)
            assert till.sent.replies[-1].message.key == told
        values = values_of(till.sent.replies[-1])
        assert values["how"] == "Paybill 600987" and values["word"] == "WALLET"
        assert not till.money.accounts
        assert await till.counter.count(payment_tables.payment) == 0


async def test_a_stations_phone_makes_deposits_instead(database_url: str) -> None:
    async with open_till(database_url, instructions="Paybill 600987") as till:
        phone = await _phone_of_a_station(till)
        await till.text(TopUp(50_000), phone)
        assert till.sent.keys(phone) == ["top_up_not_taken"] and not till.money.accounts
        assert values_of(till.sent.replies[-1])["how"] == ""


@pytest.mark.parametrize("written", ["WALLET", "wallet", " Wal-let "])
async def test_the_word_written_beside_money_means_the_wallet(database_url: str, written: str) -> None:
    async with open_till(database_url) as till:
        assert await till.payments.validate("mpesa", Validation(AMINA, written, 20_000, "KES")) == ""
        word = till.money.paybill(AMINA, written, 20_000)
        await till.hears(word, word)
        assert await till.balance("wallet:A100001") == 170_000
        assert till.sent.keys(AMINA) == ["top_up_paid"] and await till.held() == []
        (row,) = await till.rows(payment_tables.payment)
        assert (row["purpose"], row["state"]) == ("TOPUP", "PAID")
        await till.check()


async def test_the_word_beside_money_of_nobody_known_is_held(database_url: str) -> None:
    async with open_till(database_url) as till:
        await till.hears(till.money.paybill("", "WALLET", 20_000))
        assert await till.held() == [("REFUSED", "OPEN", 20_000)]
        await till.check()


async def test_help_tells_of_it_only_to_phones_that_are_asked(database_url: str) -> None:
    async with open_till(database_url, prefixes="25470") as till:
        await till.text(Help(), STRANGER)
        assert values_of(till.sent.replies[-1])["top_up"] == "TOPUP"
        await till.text(Help(), AMINA)
        assert "top_up" not in values_of(till.sent.replies[-1])


async def test_by_ussd_the_amount_is_asked_for_by_a_prompt(database_url: str) -> None:
    async with open_till(database_url) as till:
        shop, store = till.counter.shop, till.counter.store
        desk = UssdDesk(shop, store, till.desk, load("en"), {"menu": MENU}, Metrics())

        async def walk(session: str, *keys: str, dialled: str = "") -> list[str]:
            typed, pages = list[str](), list[str]()
            for key in (dialled, *keys):
                typed += [key] if key else []
                step = Step(
                    session=session,
                    service="menu",
                    kind=Kind.CONTINUE if pages else Kind.BEGIN,
                    msisdn=STRANGER,
                    service_code="*384#",
                    text="*".join(typed),
                    is_whole=True,
                    mark="",
                    received_at=till.counter.world.now(),
                )
                page = await desk.answer(step)
                assert (await desk.answer(step)).text == page.text  # the same step again does nothing more
                pages.append(page.text)
            await till.settle()
            return pages

        pages = await walk("s1", "7", "abc", "500")
        assert "7 Top up" in pages[0] and pages[1].startswith("Top up your balance")
        assert pages[2].startswith("That is no amount")
        assert pages[3].startswith("Enter your PIN when your phone asks")
        (ref,) = till.money.accounts
        again = await walk("s2", "7", "500")
        assert "You asked for KES 500 for your balance" in again[-1] and len(till.money.accounts) == 1
        dialled = await walk("s3", dialled="7*500")  # typed ahead: the amount is not an order before it was seen
        assert len(till.money.accounts) == 1 and dialled[-1].startswith("Top up your balance")
        await till.hears(till.money.take(ref))
        assert till.sent.keys() == ["top_up_paid"] and till.sent.replies[-1].channel == "sms"
        assert await till.balance(f"prepaid:{STRANGER}") == 50_000
        await till.check()


async def _phone_of_a_station(till: Till) -> str:
    rows = await till.counter.store.read(
        lambda connection: connection.execute(tables.phone.select().where(tables.phone.c.station_id.is_not(None))).all()
    )
    return str(rows[0].msisdn)
