"""Purchases whose answer is still under way: waited for, repeated, reversed, lost with the link or the process.

The module here must be waited for, so that everything may happen between a request and its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from channels.iso8583.bank import Answers
from ledger import tables
from sts.modules.software import SoftwareModule
from tests.gateway.bank.switch import BANK, Bank, Line, open_bank, purchase, reversal, tokens
from tests.gateway.bank.test_bank import owed
from tests.simulation.module import WaitingModule
from tests.simulation.shop import Counter, open_counter, sample_keys


@pytest.fixture
def module() -> WaitingModule:
    return WaitingModule(SoftwareModule(sample_keys()), plan=["wait"])


@pytest.fixture
async def counter(database_url: str, module: WaitingModule) -> AsyncIterator[Counter]:
    async with open_counter(database_url, module) as opened:
        yield opened
        await opened.check_books()


@pytest.fixture
async def bank(counter: Counter) -> AsyncIterator[Bank]:
    async with open_bank(counter) as opened:
        yield opened


async def until_asked(module: WaitingModule) -> None:
    """Wait until the module is at a token."""
    async with asyncio.timeout(60):
        while not module.asked:
            await asyncio.sleep(0.005)


async def until_stored(counter: Counter, count: int, state: str) -> None:
    """Wait until so many purchases are in a state."""
    async with asyncio.timeout(60):
        while await counter.count(tables.purchase, tables.purchase.c.state == state) != count:
            await asyncio.sleep(0.005)


async def test_two_copies_in_flight_get_the_same_token(counter: Counter, bank: Bank, module: WaitingModule) -> None:
    first, second = await bank.line(), await bank.line()
    first.send(purchase())
    await until_asked(module)
    second.send(purchase(mti="0201"))
    module.go.set()
    answers = [await line.answer("000124") for line in (first, second)]
    assert [answer.get(39) for answer in answers] == ["00", "00"]
    assert tokens(answers[0]) == tokens(answers[1])
    assert await owed(counter) == 50_000


async def test_other_purchases_of_a_link_do_not_wait_behind_a_slow_one(bank: Bank, module: WaitingModule) -> None:
    line = await bank.line()
    line.send(purchase(1))
    await until_asked(module)
    line.send(purchase(2, drn="14252321824", amount_minor=60_000))
    assert (await line.answer("000002")).get(39) == "00"
    module.go.set()
    assert (await line.answer("000001")).get(39) == "00"
    assert line.order[-2:] == ["000002", "000001"]


async def test_a_purchase_reversed_while_its_token_is_made_ends_without_one(
    counter: Counter, bank: Bank, module: WaitingModule
) -> None:
    line = await bank.line()
    line.send(purchase())
    await until_asked(module)
    assert (await line.ask(reversal(purchase()))).get(39) == "00"
    module.go.set()
    answer = await line.answer("000124")
    assert answer.get(39) == "12" and not tokens(answer)
    assert (await line.ask(purchase(mti="0201"))).get(39) == "12"
    assert await owed(counter) == 0


async def test_an_answer_goes_out_on_another_link_if_its_own_is_gone(bank: Bank, module: WaitingModule) -> None:
    first, second = await bank.line(), await bank.line()
    first.send(purchase())
    await until_asked(module)
    first.cut()
    async with asyncio.timeout(60):
        while len(bank.peer.links.connections) > 1:
            await asyncio.sleep(0.005)
    module.go.set()
    assert (await second.answer("000124")).get(39) == "00"


async def all_gone(bank: Bank, *lines: Line) -> None:
    """Cut links, and wait until the gateway knows."""
    for line in lines:
        line.cut()
    async with asyncio.timeout(60):
        while bank.peer.links.connections:
            await asyncio.sleep(0.005)


async def test_what_could_not_be_written_is_taken_back_without_the_bank_s_word(
    counter: Counter, module: WaitingModule
) -> None:
    async with open_bank(counter, replace(BANK, reversals="refuse")) as bank:
        line = await bank.line()
        line.send(purchase())
        await until_asked(module)
        await all_gone(bank, line)
        module.go.set()
        await until_stored(counter, 1, "VENDED")
        async with asyncio.timeout(60):
            while bank.peer.waiting:
                await asyncio.sleep(0.005)
        line = await bank.line()
        assert (await line.ask(reversal(purchase(), mti="0400", reason="17"))).get(39) == "00"
        assert await owed(counter) == 0
        assert (await line.ask(purchase(mti="0201"))).get(39) == "12"


@pytest.mark.parametrize("then", ["repeat", "restart"])
async def test_what_may_have_been_written_since_is_not(counter: Counter, module: WaitingModule, then: str) -> None:
    async with open_bank(counter, replace(BANK, reversals="refuse")) as bank:
        line = await bank.line()
        line.send(purchase())
        await until_asked(module)
        await all_gone(bank, line)
        module.go.set()
        await until_stored(counter, 1, "VENDED")
        if then == "restart":
            bank = await bank.restart()
        line = await bank.line()
        if then == "repeat":
            assert tokens(await line.ask(purchase(mti="0201")))
        assert (await line.ask(reversal(purchase(), mti="0400", reason="17"))).get(39) == "21"
        assert await owed(counter) == 50_000
        await bank.stop()


async def test_a_crash_while_the_token_is_made_leaves_the_repeat_to_fetch_it(
    counter: Counter, bank: Bank, module: WaitingModule
) -> None:
    line = await bank.line()
    line.send(purchase())
    await until_asked(module)
    await bank.desk.close()  # the process is gone, with all that it was at
    bank = await bank.restart()
    module.go.set()
    line = await bank.line()
    answer = await line.ask(purchase(mti="0201"))
    assert answer.get(39) == "00" and tokens(answer)
    assert await owed(counter) == 50_000 and await counter.count(tables.purchase) == 1
    await bank.stop()


async def test_an_answer_after_the_bank_s_time_out_is_written_and_marked_as_late(
    counter: Counter, bank: Bank, module: WaitingModule
) -> None:
    line = await bank.line()
    line.send(purchase())
    await until_asked(module)
    counter.world.advance(seconds=bank.profile.timing.bank_timeout_s + 1)
    module.go.set()
    assert tokens(await line.answer("000124"))
    late = 'prepaid_bank_answers_late_total{asked="purchase",bank="kcb"}'
    assert f"{late} 1.0" in bank.metrics.exposition().decode()
    assert (await line.ask(purchase(mti="0201"))).get(39) == "00"
    assert f"{late} 1.0" in bank.metrics.exposition().decode()


async def test_what_waits_behind_a_busy_service_point_too_long_is_declined(
    counter: Counter, module: WaitingModule
) -> None:
    async with open_bank(counter, replace(BANK, answer_within_s=5)) as bank:
        line = await bank.line()
        line.send(purchase(1))
        await until_asked(module)
        line.send(purchase(2, amount_minor=20_000))
        await until_stored(counter, 1, "RECEIVED")
        counter.world.advance(seconds=6)
        module.go.set()
        declined = await line.answer("000002")
        assert declined.get(39) == "91" and not tokens(declined)
        assert (await line.ask(purchase(2, 20_000, mti="0201"))).get(39) == "91"
        assert (await line.answer("000001")).get(39) == "00" and await owed(counter) == 50_000


# --- what is known of answers -----------------------------------------------------------------------------------------


async def test_an_answer_that_was_withheld_waits_and_then_counts_as_written() -> None:
    answers = Answers()
    drops = answers.begin("a")
    answers.first("a")
    assert answers.withhold("a") is True
    waits = asyncio.ensure_future(answers.may_write("a", drops))
    await asyncio.sleep(0)
    assert not waits.done()
    answers.send_after_all("a")
    assert await waits is True
    assert answers.withhold("a") is False, "written by now"
    answers.send_after_all("a")
    answers.end("a")
    assert answers.withhold("a") is False, "nothing is known of it any more"


async def test_a_dropped_answer_is_asked_for_again_by_each_request_that_had_it() -> None:
    answers = Answers()
    first, copy = answers.begin("a"), answers.begin("a")
    answers.withhold("a")
    answers.drop("a")
    assert await answers.may_write("a", first) is False
    assert await answers.may_write("a", answers.drops("a")) is True
    assert await answers.may_write("a", copy) is False, "what it was told before is no longer true"


async def test_a_copy_of_a_purchase_that_another_process_stored_counts_as_written() -> None:
    answers = Answers()
    answers.begin("a")
    assert answers.withhold("a") is False, "whoever stored it may have answered it"


async def test_who_is_forgotten_counts_as_written() -> None:
    answers = Answers(most=2)
    for key in "abc":
        answers.begin(key)
        answers.first(key)
    assert [answers.withhold(key) for key in "abc"] == [False, True, True]
