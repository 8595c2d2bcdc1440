"""PINs of phones, on both databases: when one is asked for, what a wrong one costs, where none is ever written.

The desk hashes off the event loop, so every case goes through `VendingDesk.receive` as the SMS channel does.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa

from channels.commands import Buy, ChangePin, Command
from channels.contract import Reply
from config.kinds import Secret
from config.settings import PinSettings, WalletSettings
from gateway import pinproof
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from ledger import pins, tables
from ledger.all_tables import metadata
from ledger.audit import Origin
from ledger.changes import Act, ChangeRefused
from ledger.operators import Operator, OperatorRefused, Role
from ledger.store import open_store
from tests.simulation.shop import AMINA, METER, Counter, open_counter

AGENT = "254722000002"
KEY = "a key of the tests, 32 octets and more"
PIN, OTHER = "4831", "720951"
ALWAYS = PinSettings(key=Secret(KEY), customers="always", stations="always", tries_max=3)


@dataclass
class Said(Outgoing):
    """What delivery would send."""

    replies: list[Reply]

    def enqueue(self, replies: list[Reply]) -> None:
        self.replies += replies


@dataclass
class Shopping:
    """A desk over the sample utility; `say` gives the key and the values of its reply."""

    counter: Counter
    desk: VendingDesk
    said: Said

    async def say(self, command: Command, sender: str = AMINA, reference: str | None = None) -> tuple[str, Any]:
        before = len(self.said.replies)
        await self.desk.receive(self.counter.inbound(command, sender, reference))
        new = self.said.replies[before:]
        return (new[-1].message.key, dict(new[-1].message.values)) if new else ("", {})

    async def set_pin(self, pin: str = PIN, phone: str = AMINA) -> None:
        hashed = pins.pin_hash(pin, phone, KEY, self.counter.world.nonce(16))
        await self.counter.store.transact(lambda connection: pins.set_pin(connection, act(self.counter), phone, hashed))

    async def phone(self, msisdn: str = AMINA) -> Any:
        p = tables.phone
        return await self.counter.store.read(
            lambda connection: connection.execute(sa.select(p).where(p.c.msisdn == msisdn)).one()
        )


def act(counter: Counter, role: Role = Role.SUPPORT, reason: str = "asked at the office") -> Act:
    """An operator of the back office."""
    who = Operator("op.sue", "Sue", frozenset({role}), "en", None)
    now = counter.world.now()
    return Act(who, Origin("op.sue", now, "here", reason), counter.world.new_id, now.replace(tzinfo=None), "KES")


@asynccontextmanager
async def shopping(
    url: str, settings: PinSettings = ALWAYS, wallet: WalletSettings | None = None
) -> AsyncIterator[Shopping]:
    """A desk with these rules."""
    async with open_counter(url) as counter:
        counter.shop = replace(
            counter.shop, settings=replace(counter.shop.settings, pins=settings, wallet=wallet or WalletSettings())
        )
        said = Said([])
        desk = VendingDesk(counter.shop, counter.store, said, Metrics())
        try:
            yield Shopping(counter, desk, said)
        finally:
            await desk.close()
            await counter.check_books()


async def test_a_purchase_takes_the_pin_and_a_pin_alone_buys_nothing(database_url: str) -> None:
    async with shopping(database_url) as shop:
        key, told = await shop.say(Buy(METER, 50_000))
        assert (key, told["amount_minor"]) == ("pin_needed", 50_000)
        assert (await shop.say(Buy(METER, 50_000, pin=PIN)))[0] == "pin_not_set"
        await shop.set_pin()
        assert (await shop.say(Buy(METER, 50_000)))[0] == "pin_needed"
        assert (await shop.say(Buy(METER, 50_000, pin=PIN)))[0] == "sold"
        assert await shop.counter.available("wallet:A100001") == 100_000


async def test_wrong_pins_lock_after_so_many_and_a_right_one_begins_anew(database_url: str) -> None:
    async with shopping(database_url) as shop:
        await shop.set_pin()
        lefts = [(await shop.say(Buy(METER, 50_000, pin=wrong)))[1]["left"] for wrong in ("1111", "48310")]
        assert lefts == [2, 1]
        assert (await shop.say(Buy(METER, 50_000, pin=PIN)))[0] == "sold"
        assert (await shop.phone()).pin_tries == 0
        keys = [(await shop.say(Buy(METER, 60_000, pin="1111")))[0] for _ in range(3)]
        assert keys == ["pin_wrong", "pin_wrong", "pin_locked"]
        for pin in (PIN, "1111"):
            assert (await shop.say(Buy(METER, 60_000, pin=pin)))[0] == "pin_locked"
        assert (await shop.say(ChangePin(PIN, OTHER)))[0] == "pin_locked"
        await shop.counter.store.transact(lambda connection: pins.unlock(connection, act(shop.counter), AMINA))
        assert (await shop.say(Buy(METER, 60_000, pin=PIN)))[0] == "sold"


async def test_the_same_message_again_costs_no_second_try(database_url: str) -> None:
    async with shopping(database_url) as shop:
        await shop.set_pin()
        command = Buy(METER, 50_000, pin="1111")
        for _ in range(4):
            await shop.say(command, reference="m1")
        assert (await shop.phone()).pin_tries == 1
        await asyncio.gather(*(shop.say(command, reference="m2") for _ in range(4)))
        assert (await shop.phone()).pin_tries == 2
        assert [reply.message.key for reply in shop.said.replies] == ["pin_wrong"] * 2


async def test_every_guess_of_many_at_once_costs_a_try_also_over_two_nodes(database_url: str) -> None:
    async with shopping(database_url, replace(ALWAYS, tries_max=5)) as shop:
        await shop.set_pin()
        other = await open_store(database_url)
        second = VendingDesk(shop.counter.shop, other, shop.said, Metrics())
        guesses = [shop.counter.inbound(Buy(METER, 50_000, pin=f"{n}357")) for n in range(6)]
        await asyncio.gather(*(desk.receive(one) for desk, one in zip([shop.desk, second] * 3, guesses, strict=True)))
        await second.close()
        await other.close()
        keys = sorted(reply.message.key for reply in shop.said.replies)
        assert keys == ["pin_locked"] * 2 + ["pin_wrong"] * 4
        assert (await shop.phone()).pin_locked_at is not None


async def test_a_pin_is_changed_with_the_old_one_and_not_to_one_that_others_try_first(database_url: str) -> None:
    async with shopping(database_url) as shop:
        await shop.set_pin()
        assert (await shop.say(ChangePin(PIN, "1234")))[0] == "pin_weak"
        assert (await shop.say(ChangePin("9999", OTHER)))[0] == "pin_wrong"
        assert (await shop.say(ChangePin(PIN, OTHER)))[0] == "pin_set"
        assert (await shop.say(Buy(METER, 50_000, pin=PIN)))[0] == "pin_wrong"
        assert (await shop.say(Buy(METER, 50_000, pin=OTHER)))[0] == "sold"


@pytest.mark.parametrize(
    ("settings", "rule", "sender", "amount_minor", "asked"),
    [
        (replace(ALWAYS, customers="off"), "", AMINA, 50_000, False),
        (replace(ALWAYS, customers="above", customers_above_minor=50_000), "", AMINA, 50_000, False),
        (replace(ALWAYS, customers="above", customers_above_minor=49_999), "", AMINA, 50_000, True),
        (replace(ALWAYS, customers="off"), "", AGENT, 50_000, True),
        (ALWAYS, "off", AGENT, 50_000, False),
        (replace(ALWAYS, stations="off"), "always", AGENT, 50_000, True),
        (replace(ALWAYS, stations="off"), "above 50000", AGENT, 50_000, False),
        (replace(ALWAYS, stations="off"), "above 50000", AGENT, 50_001, True),
    ],
)
async def test_when_a_pin_is_asked_for(
    tmp_path: Any, migrated_file: Any, settings: PinSettings, rule: str, sender: str, amount_minor: int, asked: bool
) -> None:
    (tmp_path / "test.db").write_bytes(migrated_file.read_bytes())
    async with shopping(f"sqlite:///{tmp_path}/test.db", settings) as shop:
        station = (await shop.phone(AGENT)).station_id
        code = await shop.counter.store.read(
            lambda c: c.execute(sa.select(tables.station.c.code).where(tables.station.c.id == station)).scalar_one()
        )
        await shop.counter.store.transact(
            lambda connection: pins.set_rule(connection, act(shop.counter, Role.FINANCE), code, rule)
        )
        assert (await shop.say(Buy(METER, amount_minor), sender))[0] == ("pin_needed" if asked else "sold")


async def test_a_phone_of_a_station_is_held_to_its_limits_and_tomorrow_is_another_day(database_url: str) -> None:
    async with shopping(database_url, PinSettings()) as shop:
        counter = shop.counter
        boss = act(counter, Role.SUPERVISOR)
        await counter.store.transact(lambda connection: pins.set_limits(connection, boss, AGENT, 30_000, 50_000))
        key, told = await shop.say(Buy(METER, 30_001), AGENT)
        assert (key, told["available_minor"]) == ("seller_limit", 30_000)
        assert (await shop.say(Buy(METER, 30_000), AGENT))[0] == "sold"
        key, told = await shop.say(Buy(METER, 20_001), AGENT)
        assert (key, told["available_minor"]) == ("seller_limit", 20_000)
        # Two at once for the last of it: exactly one passes.
        await asyncio.gather(*(shop.say(Buy(METER, amount), AGENT) for amount in (19_990, 20_000)))
        assert sorted(reply.message.key for reply in shop.said.replies[-2:]) == ["seller_limit", "sold"]
        counter.world.advance(seconds=86_400)
        assert (await shop.say(Buy(METER, 25_000), AGENT))[0] == "sold"
        with pytest.raises(OperatorRefused):
            await counter.store.transact(lambda c: pins.set_limits(c, act(counter), AGENT, None, None))
        with pytest.raises(ChangeRefused):
            await counter.store.transact(lambda c: pins.set_limits(c, boss, AMINA, None, None))


async def test_two_phones_of_one_float_and_one_last_sale(database_url: str) -> None:
    async with shopping(database_url, PinSettings()) as shop:
        counter, second = shop.counter, "254722000003"
        station = (await shop.phone(AGENT)).station_id
        account = await counter.store.read(
            lambda c: c.execute(
                sa.select(tables.account.c.code)
                .join(tables.station, tables.station.c.account_id == tables.account.c.id)
                .where(tables.station.c.id == station)
            ).scalar_one()
        )
        await counter.store.transact(
            lambda c: c.execute(tables.phone.insert().values(msisdn=second, station_id=station, pin_tries=0))
        )
        other = await open_store(database_url)
        desk = VendingDesk(counter.shop, other, shop.said, Metrics())
        left = await counter.available(account)
        while left > 4_000_000:
            assert (await shop.say(Buy(METER, 4_000_000), AGENT))[0] == "sold"
            counter.world.advance(seconds=600)
            left -= 4_000_000
        await asyncio.gather(
            shop.desk.receive(counter.inbound(Buy(METER, left), AGENT)),
            desk.receive(counter.inbound(Buy("07003012213", left), second)),
        )
        await desk.close()
        await other.close()
        assert sorted(reply.message.key for reply in shop.said.replies[-2:]) == ["sold", "station_credit_spent"]
        assert await counter.available(account) == 0


async def test_a_wallet_is_held_to_the_settings_per_payment_and_per_day(database_url: str) -> None:
    limits = WalletSettings(per_payment_max_minor=40_000, per_day_max_minor=70_000)
    async with shopping(database_url, PinSettings(), limits) as shop:
        key, told = await shop.say(Buy(METER, 40_001))
        assert (key, told["available_minor"]) == ("wallet_limit", 40_000)
        assert (await shop.say(Buy(METER, 40_000)))[0] == "sold"
        key, told = await shop.say(Buy(METER, 39_000))
        assert (key, told["available_minor"]) == ("wallet_limit", 30_000)
        assert (await shop.say(Buy(METER, 30_000)))[0] == "sold"
        assert (await shop.say(Buy(METER, 4_000)))[0] == "wallet_limit"
        shop.counter.world.advance(seconds=86_400)
        assert (await shop.say(Buy(METER, 4_000)))[0] == "sold"


async def test_no_pin_is_anywhere_but_in_the_phone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, handler = io.StringIO(), logging.StreamHandler()
    handler.setStream(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    monkeypatch.setattr(root, "level", logging.DEBUG)
    try:
        async with shopping(database_url) as shop:
            await shop.set_pin(OTHER)
            await shop.say(Buy(METER, 50_000, pin=OTHER))
            await shop.say(Buy(METER, 50_000, pin="592604"))
            await shop.say(ChangePin(OTHER, "583015"))
            log, metrics = stream.getvalue(), str(shop.desk._metrics.__dict__)

            def everything(connection: sa.Connection) -> str:
                return "\n".join(
                    repr(tuple(row)) for table in metadata.sorted_tables for row in connection.execute(sa.select(table))
                )

            rows = await shop.counter.store.read(everything)
    finally:
        root.removeHandler(handler)
    assert rows.count("scrypt ") == 1 and "pins.set" in rows
    for pin in (OTHER, "592604", "583015"):
        for text in (rows.replace(shop.counter.shop.settings.utility.code, ""), log, metrics):
            assert f"'{pin}'" not in text and f" {pin} " not in text and f'{pin}"' not in text


def test_a_hash_fits_its_pin_its_phone_and_its_key_only() -> None:
    stored = pins.pin_hash(PIN, AMINA, KEY, b"s" * 16)
    assert pins.pin_fits(PIN, AMINA, KEY, stored)
    for pin, phone, key in ((OTHER, AMINA, KEY), (PIN, AGENT, KEY), (PIN, AMINA, KEY + "x")):
        assert not pins.pin_fits(pin, phone, key, stored)


@pytest.mark.parametrize("pin", ["0000", "1212", "123456", "9876", "1987", "2026", AMINA[-4:], "121212"])
def test_pins_that_others_try_first(pin: str) -> None:
    assert pins.is_weak(pin, AMINA)
    assert not pins.is_weak(PIN, AMINA) and not pins.is_weak(OTHER, AMINA)


async def test_more_pins_than_can_be_looked_at_are_turned_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinproof, "_WAITING_MAX", 0)
    async with shopping(database_url) as shop:
        await shop.set_pin()
        with pytest.raises(Exception, match="QueueFull"):
            await shop.say(Buy(METER, 50_000, pin=PIN))
        assert await shop.counter.count(tables.request) == 0
