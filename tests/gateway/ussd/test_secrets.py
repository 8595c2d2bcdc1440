"""PINs and vouchers on USSD screens, on both databases: set, asked for, guessed, never typed ahead, never stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import sqlalchemy as sa

from channels.commands import RedeemVoucher
from config import languages
from config.kinds import Secret
from config.settings import PinSettings, VoucherSettings
from gateway.deeds import Arrival
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.ussd.desk import UssdDesk
from ledger import tables
from ledger.store import open_store
from ledger.ussd_tables import ussd_session
from tests.gateway.test_vouchers import KEY, NEW, VALUE, make, states, wallet_of
from tests.gateway.ussd.rig import SERVICE, Rig, Sent
from tests.simulation.shop import AMINA, METER, open_counter

PIN, OTHER = "4831", "720951"


@asynccontextmanager
async def rig_with(url: str, pins: str = "always") -> AsyncIterator[Rig]:
    """A rig where PINs and vouchers are used."""
    async with open_counter(url) as counter:
        pin_settings = PinSettings(key=Secret(KEY), customers=pins, tries_max=3)  # type: ignore[arg-type]
        settings = replace(counter.shop.settings, pins=pin_settings, vouchers=VoucherSettings(taken=True))
        counter.shop = replace(counter.shop, settings=settings)
        sent, metrics = Sent(), Metrics()
        desk = VendingDesk(counter.shop, counter.store, sent, metrics)
        ussd = UssdDesk(counter.shop, counter.store, desk, languages.load("en"), {SERVICE.name: SERVICE}, metrics)
        yield Rig(counter, ussd, desk, sent)
        await desk.close()
        await counter.check_books()


async def _phone(rig: Rig, msisdn: str) -> sa.Row[tuple[object, ...]]:
    p = tables.phone
    return await rig.counter.store.read(lambda c: c.execute(sa.select(p).where(p.c.msisdn == msisdn)).one())


async def test_a_pin_is_set_changed_and_asked_for_after_pay(database_url: str) -> None:
    async with rig_with(database_url) as rig:
        phone = rig.phone()
        assert "8 PIN" in (await phone.dial()).text or "98 More" in phone.page.text
        assert "new PIN" in (await phone.type("8")).text
        assert "digits" in (await phone.type("12")).text
        assert "Too easy" in (await phone.type("1234")).text
        assert "PIN is set" in (await phone.type(PIN)).text
        first = (await _phone(rig, AMINA)).pin
        await phone.again()
        assert (await _phone(rig, AMINA)).pin == first
        await phone.dial()
        await phone.type("8")
        assert "Wrong PIN, 2 more" in (await phone.type("9999")).text
        await phone.again()
        assert (await _phone(rig, AMINA)).pin_tries == 1
        assert "new PIN" in (await phone.type(PIN)).text
        assert "PIN is set" in (await phone.type(OTHER)).text
        await phone.dial("1", "1", "500", "1", OTHER)  # typed ahead: it stops where the quote is shown
        assert "1 Pay" in phone.page.text and not rig.sent.replies
        assert "Enter your PIN" in (await phone.type("1")).text
        assert "Wrong PIN" in (await phone.type(PIN)).text
        page = await phone.type(OTHER)
        assert page.is_end and "kWh" in page.text
        assert (await phone.again()).text == page.text
        assert [reply.message.key for reply in rig.sent.replies] == ["sold"]


async def test_whoever_has_no_pin_yet_chooses_one_on_the_way_to_pay(database_url: str) -> None:
    async with rig_with(database_url) as rig:
        phone = rig.phone()
        await phone.dial()
        for typed in ("1", "1", "500"):
            await phone.type(typed)
        asked = (await phone.type("1")).text
        assert "No PIN is set" in asked and "Choose a new PIN" in asked
        assert (await phone.type(PIN)).text.startswith("Your PIN is set\nKES 500 for")
        assert "Wrong PIN" in (await phone.type(OTHER)).text
        assert "Token" in (await phone.type(PIN)).text and phone.page.is_end


async def test_guesses_on_a_screen_lock_the_pin(database_url: str) -> None:
    async with rig_with(database_url) as rig:
        phone = rig.phone()
        await phone.dial()
        await phone.type("8")
        await phone.type(PIN)
        await phone.dial("1", "1", "500")
        await phone.type("1")
        for guess in ("7777", "8888"):
            assert "Wrong PIN" in (await phone.type(guess)).text
        assert "locked" in (await phone.type("6666")).text
        await phone.dial("1", "1", "500")
        await phone.type("1")
        assert "locked" in (await phone.type(PIN)).text
        assert not rig.sent.replies


async def test_a_phone_that_nobody_knows_pays_by_voucher_and_tops_up(database_url: str) -> None:
    async with rig_with(database_url) as rig:
        one, two, three = await make(rig.counter)
        phone = rig.phone(NEW)
        await phone.dial("1", METER)
        assert "Pay by voucher" in (await phone.type("300")).text
        assert "16 digits" in (await phone.type("1")).text
        assert "No voucher number, 4 more" in (await phone.type("1" * 16)).text
        page = await phone.type(" ".join(one[at : at + 4] for at in range(0, 16, 4)))
        assert page.is_end and "kWh" in page.text
        assert (await phone.again()).text == page.text
        assert await wallet_of(rig.counter, NEW) == VALUE - 30_000
        rig.counter.world.advance(seconds=3_600)
        await phone.dial("7")
        assert "Balance KES 700\n" in (await phone.type(two)).text
        await phone.again()
        assert await states(rig.counter) == ["USED", "USED", "SOLD"]
        # From the quote, too.
        rig.counter.world.advance(seconds=3_600)
        await phone.dial("1", METER, "400")
        assert "Pay by voucher" in phone.page.text
        await phone.type("3")
        assert (await phone.type(three)).is_end
        assert await states(rig.counter) == ["USED"] * 3


async def test_what_was_typed_is_in_no_session(database_url: str) -> None:
    async with rig_with(database_url) as rig:
        number, *_ = await make(rig.counter)
        phone = rig.phone()
        await phone.dial()
        await phone.type("8")
        await phone.type(OTHER)
        await phone.dial("1", "1", "500")
        await phone.type("1")
        await phone.type(OTHER)
        await phone.dial("7")
        await phone.type(number)
        rows = await rig.counter.store.read(lambda c: repr(c.execute(sa.select(ussd_session)).all()))
        requests = await rig.counter.store.read(lambda c: repr(c.execute(sa.select(tables.request)).all()))
        for secret in (OTHER, number):
            assert secret not in rows and secret not in requests


async def test_a_voucher_that_this_phone_has_used_brings_on_a_screen_what_it_bought(database_url: str) -> None:
    """By text first, whose answer got lost; then over the menu: the same token, by SMS, and nothing is sold."""
    async with rig_with(database_url) as rig:
        bought, topped, _ = await make(rig.counter)
        await rig.counter.ask(RedeemVoucher(bought, METER), NEW)
        await rig.counter.ask(RedeemVoucher(topped, None), NEW)
        for number, told, shown in (
            (bought, "last_token", "See our SMS"),
            (topped, "topped_up", "Voucher received. Balance KES 500"),
        ):
            rig.counter.world.advance(seconds=3_600)
            phone, before = rig.phone(NEW), len(rig.sent.replies)
            await phone.dial("1", METER, "5000")
            await phone.type("3" if "3 " in phone.page.text else "1")
            page = await phone.type(number)
            assert page.is_end and shown in page.text, page.text
            assert (await phone.again()).text == page.text
            assert [reply.message.key for reply in rig.sent.replies[before:]] == [told]
        assert await states(rig.counter) == ["USED", "USED", "SOLD"]
        assert await rig.counter.count(tables.purchase) == 1


async def test_one_voucher_by_text_and_on_a_screen_at_once_is_used_once(database_url: str) -> None:
    async with rig_with(database_url) as rig:
        numbers = await make(rig.counter, 6)
        other = await open_store(rig.counter.url)
        for at, number in enumerate(numbers):
            phone = rig.phone(f"25470000001{at}")
            await phone.dial("1", METER, "300")
            await phone.type("1")
            asked = RedeemVoucher(number, METER, 30_000)
            sender = phone.msisdn if at % 2 else f"25470000002{at}"
            by_text = Arrival(rig.counter.shop, rig.counter.inbound(asked, sender))
            page, done = await asyncio.gather(phone.type(number), other.submit(by_text))
            assert page is not None and done.replies
        await other.close()
        assert await states(rig.counter) == ["USED"] * 6
        assert await rig.counter.count(tables.purchase, tables.purchase.c.state == "VENDED") == 6
