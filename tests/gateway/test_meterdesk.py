"""The books behind the token commands: keys of a meter, the sale of a token, engineering tokens that no sale meets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.settings import DatabaseSettings, Settings
from gateway.engineering import MeterUnknown
from gateway.meterdesk import find_meter, find_sale, make_management, with_store
from gateway.tokens import changed, key_of, key_text
from gateway.waited import WaitedModule
from ledger import audit, meters, tables
from ledger.audit import Origin, Verified
from ledger.store import Store
from sts.meter import Meter, Result
from sts.modules.contract import KeyChangeRequest
from sts.modules.software import SoftwareModule
from sts.tables import SAMPLE
from tests.simulation.module import WaitingModule
from tests.simulation.shop import METER, UTILITY, open_counter, sample_keys
from tests.simulation.world import SeededWorld

ORIGIN = Origin("eng.raj", datetime(2026, 6, 5, 8, 0, tzinfo=UTC), "office", "case 77")


@pytest.fixture
def sold(tmp_path: Path) -> tuple[Settings, str]:
    """Settings of a utility that has sold one token, and that token."""
    url = f"sqlite:///{tmp_path}/t.db"

    async def sell() -> str:
        async with open_counter(url) as counter:
            done = await counter.buy(50_000)
            return str(done.replies[0].message.values["tokens"][0]["digits"])

    return Settings(utility=UTILITY, database=DatabaseSettings(url=url)), asyncio.run(sell())


def test_a_token_is_found_with_its_sale_and_its_meters_keys(sold: tuple[Settings, str]) -> None:
    settings, digits = sold
    (present,) = find_meter(settings, METER)
    assert (present.name, present.key.drn, present.key.key_revision) == ("present", METER, 2)
    sale = find_sale(settings, METER, digits)
    assert sale is not None and (sale.kind, sale.amount_minor) == ("credit", 50_000)
    assert find_sale(settings, METER, "0" * 20) is None
    assert find_sale(settings, "04012345684", digits) is None
    assert find_meter(settings, "04012345601") == []


def test_an_engineering_token_takes_a_minute_that_no_sale_takes(sold: tuple[Settings, str]) -> None:
    settings, digits = sold
    module, world = SoftwareModule(sample_keys()), SeededWorld(seed=2)
    made = make_management(settings, module, world, METER, 5, 0, ORIGIN)
    key = find_meter(settings, METER)[0].key
    record = next(r for r in sample_keys() if (r.supply_group, r.dkga) == (key.supply_group, key.dkga))
    device = Meter(key, record.key.derive(key, SAMPLE))
    device.is_tampered = True
    assert device.enter(digits, world.now()).result is Result.ACCEPT
    assert device.enter(made.digits, world.now()).result is Result.ACCEPT
    assert not device.is_tampered

    async def chain(store: Store) -> object:
        return await store.read(audit.verify)

    verified = with_store(settings, chain)
    assert isinstance(verified, Verified)
    with pytest.raises(MeterUnknown):
        make_management(settings, module, world, "04012345601", 5, 0, ORIGIN)


def test_a_module_that_must_be_waited_for_makes_engineering_tokens_too(sold: tuple[Settings, str]) -> None:
    settings, _ = sold
    inner, world = WaitingModule(SoftwareModule(sample_keys())), SeededWorld(seed=2)
    module = WaitedModule(inner)
    made = make_management(settings, module, world, METER, 5, 0, ORIGIN)
    key = find_meter(settings, METER)[0].key
    token = module.verify(made.digits, key)
    assert getattr(token, "tid", None) == made.tid and module.holds(key) and module.status().keys
    (asked,) = inner.asked
    assert module.make(asked) == made.digits and module.make_many([asked]) == [made.digits]
    assert len(module.make_set(KeyChangeRequest(key, replace(key, tariff_index="02")), now=world.now())) == 2
    assert module.make_many([replace(asked, key=replace(key, key_revision=9))])[0] != made.digits

    module.close()

    async def stored(store: Store) -> object:
        t = tables.token.c
        wanted = sa.select(t.digits, t.module).where(t.kind == "management")
        return await store.read(lambda connection: tuple(connection.execute(wanted).one()))

    assert with_store(settings, stored) == (made.digits, "waiting")


def test_a_key_change_is_asked_for_and_confirmed_with_names(sold: tuple[Settings, str]) -> None:
    settings, _ = sold

    async def work(store: Store) -> None:
        meter = await store.read(lambda connection: meters.known(connection, METER))
        new = key_text(replace(key_of(meter), key_revision=3))
        await store.transact(lambda connection: meters.ask_key_change(connection, METER, new, ORIGIN))
        with pytest.raises(meters.NoKeyChange):
            await store.transact(lambda connection: meters.ask_key_change(connection, METER, new, ORIGIN))
        asked = await store.read(lambda connection: meters.known(connection, METER))
        await store.transact(lambda connection: meters.confirm_key_change(connection, changed(asked), ORIGIN))
        after = await store.read(lambda connection: meters.known(connection, METER))
        assert (after.key_revision, after.next_key, after.last_tid) == (3, None, meter.last_tid)
        with pytest.raises(meters.NoKeyChange):
            await store.transact(lambda connection: meters.confirm_key_change(connection, after, ORIGIN))
        rows = await store.read(lambda connection: audit.latest(connection, 5))
        assert [row.deed for row in rows] == ["meter.ask_key_change", "meter.confirm_key_change"]
        assert {row.who for row in rows} == {"eng.raj"}

    with_store(settings, work)
    assert [candidate.name for candidate in find_meter(settings, METER)] == ["present", "previous"]
