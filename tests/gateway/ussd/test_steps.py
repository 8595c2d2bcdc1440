"""USSD steps on both databases: repeats, two nodes, slow modules, hang-ups, hostile histories, expiry."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from channels.ussd.steps import Kind, Page, Step
from config import languages
from config.settings import UssdSettings
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import State
from gateway.reversal import Answer, Reversal
from gateway.ussd.desk import UssdDesk
from ledger import tables, ussd
from ledger.correction_tables import disclosure
from ledger.store import open_store
from ledger.ussd_tables import ussd_session
from sts.modules.software import SoftwareModule
from tests.gateway.ussd.rig import SERVICE, Phone, Rig, Sent, open_rig
from tests.simulation.module import WaitingModule
from tests.simulation.shop import METER, sample_keys

TO_THE_QUOTE = ("1", "1", "500")


async def _to_the_quote(phone: Phone) -> Page:
    await phone.dial()
    for typed in TO_THE_QUOTE:
        page = await phone.type(typed)
    return page


async def _sales(rig: Rig) -> int:
    return await rig.counter.count(tables.txn, tables.txn.c.kind == "sale")


def _slow(*plan: str) -> WaitingModule:
    return WaitingModule(SoftwareModule(sample_keys()), plan)


async def test_a_confirmed_quote_is_one_sale_however_often_the_step_comes(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await _to_the_quote(phone)
        assert await _sales(rig) == 0
        phone.text += "*1"
        pages = await asyncio.gather(*(rig.ussd.answer(phone.step()) for _ in range(5)))
        assert len({page.text for page in pages}) == 1 and pages[0].is_end and "Token" in pages[0].text
        assert await _sales(rig) == 1
        (reply,) = rig.sent.replies
        assert (reply.channel, reply.recipient, reply.message.key) == ("sms", phone.msisdn, "sold")
        assert await rig.counter.count(tables.outbox, tables.outbox.c.channel == "sms") == 1


async def test_two_nodes_that_get_the_same_confirmation_sell_once(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await _to_the_quote(phone)
        phone.text += "*1"
        shop, metrics = rig.counter.shop, Metrics()
        store = await open_store(rig.counter.url)
        try:
            desk = VendingDesk(shop, store, Sent(), metrics)
            other = UssdDesk(shop, store, desk, languages.load("en"), {SERVICE.name: SERVICE}, metrics)
            pages = await asyncio.gather(*(node.answer(phone.step()) for node in (rig.ussd, other) for _ in range(3)))
        finally:
            await store.close()
        assert {page.text for page in pages} == {pages[0].text} and "Token" in pages[0].text
        assert await _sales(rig) == 1


async def test_any_node_serves_the_next_step_and_a_restart_forgets_nothing(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await phone.dial()
        for typed in (*TO_THE_QUOTE, "1"):
            metrics = Metrics()
            rig.desk = VendingDesk(rig.counter.shop, rig.counter.store, rig.sent, metrics)
            rig.ussd = UssdDesk(
                rig.counter.shop, rig.counter.store, rig.desk, languages.load("en"), {SERVICE.name: SERVICE}, metrics
            )
            page = await phone.type(typed)
        assert "Token" in page.text and await _sales(rig) == 1


async def test_a_module_that_answers_in_time_gives_the_token_on_the_screen(database_url: str) -> None:
    async with open_rig(database_url, _slow()) as rig:
        phone = rig.phone()
        await _to_the_quote(phone)
        page = await phone.type("1")
        assert page.is_end and "Token" in page.text
        assert [reply.message.key for reply in rig.sent.replies] == ["sold"]


async def test_a_module_that_is_late_sends_the_token_by_sms_and_the_repeat_shows_it(database_url: str) -> None:
    module = _slow("silent")
    async with open_rig(database_url, module) as rig:
        rig.ussd._services = {SERVICE.name: _impatient()}
        phone = rig.phone()
        await _to_the_quote(phone)
        page = await phone.type("1")
        assert page.is_end and "comes by SMS" in page.text
        while not rig.sent.replies:
            await asyncio.sleep(0.01)
        assert rig.sent.replies[0].message.key == "sold"
        assert "Token" in (await phone.again()).text
        assert "You have just bought" in (await phone.dial()).text
        assert await _sales(rig) == 1


def _impatient() -> UssdSettings:
    return replace(SERVICE, answer_within_s=0.001)


async def test_a_refusal_after_the_session_is_told_by_sms(database_url: str) -> None:
    async with open_rig(database_url, _slow("refuse")) as rig:
        rig.ussd._services = {SERVICE.name: _impatient()}
        phone = rig.phone()
        await _to_the_quote(phone)
        await phone.type("1")
        while not rig.sent.replies:
            await asyncio.sleep(0.01)
        assert rig.sent.replies[0].message.key == "meter_key_ended"
        assert "Nothing was bought and no money" in (await phone.again()).text
        assert (await phone.dial()).text.startswith("Umoja Power")  # there is nothing to show
        assert await rig.counter.available("wallet:A100001") == 150_000


async def test_a_refusal_at_the_confirmation_is_told_on_the_screen_alone(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await _to_the_quote(phone)
        await rig.counter.store.transact(
            lambda connection: connection.execute(
                tables.meter.update().where(tables.meter.c.drn == METER).values(status="BLOCKED")
            )
        )
        page = await phone.type("1")
        assert not page.is_end and "cannot buy at the moment" in page.text
        assert rig.sent.replies == [] and await rig.counter.count(tables.outbox) == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1*1*500", "KES 500: 22.6 kWh"),  # the same: the same screen
        ("1*1", "KES 500: 22.6 kWh"),  # overtaken: where she is now
        ("", "KES 500: 22.6 kWh"),
        ("1*1*700*1", "This session is over"),  # not what was typed before
        ("1*1*5001", "This session is over"),  # longer, but no new input
        ("9*9*9*9*9*9*9", "This session is over"),
    ],
)
async def test_histories_that_do_not_go_on_buy_nothing(database_url: str, text: str, wanted: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await _to_the_quote(phone)
        page = await rig.ussd.answer(phone.step(text))
        assert wanted in page.text
        assert await _sales(rig) == 0
        assert "Token" in (await phone.type("1")).text  # and her own session goes on


async def test_a_step_after_the_end_another_phone_and_a_hang_up(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await _to_the_quote(phone)
        await phone.type("1")
        assert "This session is over" in (await phone.type("1")).text
        stranger = rig.phone("254711027158")
        stranger.session, stranger.text = phone.session, "1*1*500*1"
        page = await stranger.again()  # the same session id with another phone is another session
        assert not page.is_end and "07003012213" in page.text
        assert await _sales(rig) == 1
        await _to_the_quote(phone)
        assert (await rig.ussd.answer(phone.step("", Kind.OVER))).is_end
        assert "was cut off" in (await phone.dial()).text or "just bought" in phone.page.text


async def test_steps_of_a_provider_that_sends_the_last_input_only(database_url: str) -> None:
    async with open_rig(database_url) as rig:

        def step(kind: Kind, text: str, mark: str) -> Step:
            now = rig.counter.world.now()
            return Step("menu", "h-1", "254711013579", "*384#", kind, text, False, mark, now)

        steps = [step(Kind.BEGIN, "", "1"), *(step(Kind.CONTINUE, typed, str(n)) for n, typed in enumerate("11", 2))]
        for one in steps:
            page = await rig.ussd.answer(one)
            assert (await rig.ussd.answer(one)).text == page.text  # each comes twice
        assert "Enter the amount" in page.text
        for _ in range(2):
            page = await rig.ussd.answer(step(Kind.CONTINUE, "300", "4"))
        for _ in range(2):
            page = await rig.ussd.answer(step(Kind.CONTINUE, "1", "5"))
        assert "Token" in page.text and await _sales(rig) == 1
        lost = await rig.ussd.answer(replace(step(Kind.CONTINUE, "1", "9"), session="h-2"))
        assert "just bought" in lost.text and await _sales(rig) == 1


async def test_a_step_that_was_overtaken_is_no_answer_to_a_later_screen(database_url: str) -> None:
    async with open_rig(database_url) as rig:

        def step(kind: Kind, text: str, mark: str) -> Step:
            return Step("menu", "h-1", "254711013579", "*384#", kind, text, False, mark, rig.counter.world.now())

        await rig.ussd.answer(step(Kind.BEGIN, "", "1"))
        for number, typed in enumerate(("1", "1", "300"), 2):
            quote = await rig.ussd.answer(step(Kind.CONTINUE, typed, str(number)))
        for late in ("2", "3", "2"):  # a "1" of before, which would pay
            assert (await rig.ussd.answer(step(Kind.CONTINUE, "1", late))).text == quote.text
        assert await _sales(rig) == 0


async def test_an_id_that_comes_again_is_another_session_and_another_order(database_url: str) -> None:
    async with open_rig(database_url) as rig:

        async def say(kind: Kind, text: str, mark: str) -> Page:
            now = rig.counter.world.now()
            return await rig.ussd.answer(
                Step("menu", "mtn:7", "254711013579", "384", kind, text, False, mark, now, ids_come_again=True)
            )

        async def to_the_quote() -> Page:
            first = await say(Kind.BEGIN, "", "1.1")
            assert (await say(Kind.BEGIN, "", "1.1")).text == first.text
            for number, typed in enumerate(("1", "1", "300"), 2):
                page = await say(Kind.CONTINUE, typed, f"18.{number}")
            return page

        for sales in (1, 2):
            assert "1 Pay" in (await to_the_quote()).text
            page = await say(Kind.CONTINUE, "1", "18.5")
            assert "Token" in page.text and await _sales(rig) == sales
            assert (await say(Kind.CONTINUE, "1", "18.5")).text == page.text
            assert await _sales(rig) == sales
            if sales == 1:
                assert "just bought" in (await say(Kind.BEGIN, "", "1.1")).text
            rig.counter.world.advance(hours=2)
        assert "1 Pay" in (await to_the_quote()).text  # dropped here; the network gives the same number again
        assert "cut off" in (await say(Kind.BEGIN, "", "1.1")).text
        assert await _sales(rig) == 2


async def test_sessions_are_forgotten_when_they_have_expired(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        for _ in range(5):
            await rig.phone().dial()
        now = rig.counter.world.now()
        assert await rig.counter.store.read(lambda c: ussd.open_sessions(c, now)) == 5
        later = now + timedelta(hours=1)
        forgotten = [await rig.counter.store.transact(lambda c: ussd.forget(c, later, 2)) for _ in range(4)]
        assert forgotten == [2, 2, 1, 0]


async def test_no_pin_and_nothing_typed_is_stored_readable(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await phone.dial()
        await phone.type("90210778")
        rows = await rig.counter.store.read(lambda c: c.execute(sa.select(ussd_session)).all())
        assert "90210778" not in repr(rows)
        assert "90210778" not in repr(phone.step()) and State.VENDED.value not in repr(phone.page)


async def test_a_token_on_a_screen_counts_as_seen(database_url: str) -> None:
    async with open_rig(database_url) as rig:
        phone = rig.phone()
        await _to_the_quote(phone)
        assert await rig.counter.count(disclosure) == 0
        assert "Token" in (await phone.type("1")).text
        assert await rig.counter.count(disclosure) == 1
        result = await rig.desk.reverse(
            Reversal(
                original=f"ussd|{phone.step().key}|5",
                key="ussd|r1",
                fingerprint=b"r" * 16,
                channel="ussd",
                peer="menu",
                who="test",
                asked_at=rig.counter.world.now(),
            )
        )
        assert result.answer is Answer.REFUSED
        assert await _sales(rig) == 1


async def test_when_the_word_of_a_commit_is_lost_nobody_is_told_that_nothing_was_bought(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rig(database_url) as rig:
        phone, submit = rig.phone(), rig.counter.store.submit
        await _to_the_quote(phone)

        async def cut(deed: object, *, is_urgent: bool = False) -> object:
            await submit(deed, is_urgent=is_urgent)  # type: ignore[arg-type]
            raise ConnectionResetError("the database went away behind its commit")

        monkeypatch.setattr(rig.counter.store, "submit", cut)
        page = await phone.type("1")
        monkeypatch.undo()
        assert await _sales(rig) == 1
        assert page.is_end and "dial again" in page.text and "Nothing was bought" not in page.text
        assert "You have just bought" in (await phone.dial()).text
        await phone.again()
        assert await _sales(rig) == 1
