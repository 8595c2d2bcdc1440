"""Key changes that go with sales: the set first, the credit under the new key, again until it is confirmed.

Tokens are typed into simulated meters, which is how a customer would find out.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from channels.commands import Buy
from channels.contract import Reply
from config.settings import StsSettings
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import State
from gateway.tokens import key_from, key_text
from gateway.vend import Done
from ledger import tables
from ledger.reasons import Reason
from sts.meter import Meter, Result
from sts.meterkey import MeterKey
from sts.modules.software import SoftwareModule
from sts.tables import SAMPLE
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, Counter, handle_of, open_counter, sample_keys, wants

KEYS = [*sample_keys(), *sample_keys(revision=3), *sample_keys(revision=1, base_date=1993)]
EA11_METER = "14252321824"
OLD_METER = "07003012221"  # revision 1, base date 1993
AGENT = "254722000002"


def _device(handle: MeterKey) -> Meter:
    record = next(
        record
        for record in KEYS
        if (record.supply_group, record.key_revision, record.dkga, record.base_date)
        == (handle.supply_group, handle.key_revision, handle.dkga, handle.base_date)
    )
    return Meter(handle, record.key.derive(handle, SAMPLE))


def _tokens(done: Done) -> list[dict[str, Any]]:
    (reply,) = done.replies
    return list(reply.message.values["tokens"])


def _enter(device: Meter, tokens: list[dict[str, Any]], counter: Counter) -> list[Result]:
    return [device.enter(token["digits"], counter.world.now()).result for token in tokens]


def test_a_keys_handle_survives_being_stored() -> None:
    for handle in (
        handle_of(METER, 2),
        handle_of(EA11_METER, 3, 11, index="02"),
        handle_of(OLD_METER, 1, base_date=1993),
    ):
        assert key_from(key_text(handle), handle.drn, handle.iin) == handle


async def test_the_set_comes_first_and_the_credit_works_under_the_new_key(database_url: str) -> None:
    async with open_counter(database_url, SoftwareModule(KEYS)) as counter:
        device = _device(handle_of(METER, 2))
        before = _tokens(await counter.buy(20_000))
        await wants(counter, METER, handle_of(METER, 3, index="05"))
        sold = _tokens(await counter.buy(30_000))
        assert [(token["kind"], token["place"], token["of"]) for token in sold] == [
            ("key_change", 1, 3),
            ("key_change", 2, 3),
            ("credit", 3, 3),
        ]
        assert _enter(device, before, counter) == [Result.ACCEPT]
        assert device.enter(sold[2]["digits"], counter.world.now()).result is Result.CRC  # credit before the change
        assert [result.is_accepted for result in _enter(device, sold, counter)] == [True] * 3
        assert (device.key_revision, device.tariff_index) == (3, "05")
        await counter.check_books()


async def test_the_set_is_given_until_confirmed_and_a_meter_that_took_it_loses_nothing(database_url: str) -> None:
    async with open_counter(database_url, SoftwareModule(KEYS)) as counter:
        device = _device(handle_of(METER, 2))
        await wants(counter, METER, handle_of(METER, 3))
        first = _tokens(await counter.buy(20_000))
        second = _tokens(await counter.buy(30_000))
        assert [token["kind"] for token in second] == ["key_change", "key_change", "credit"]
        assert [first[n]["digits"] for n in (0, 1)] == [second[n]["digits"] for n in (0, 1)]
        _enter(device, first, counter)
        assert device.enter(second[2]["digits"], counter.world.now()).result is Result.ACCEPT
        await counter.check_books()


async def test_a_set_of_four_for_ea11(tmp_path: Any) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule(KEYS)) as counter:
        device = _device(handle_of(EA11_METER, 2, 11, index="02"))
        await wants(counter, EA11_METER, handle_of(EA11_METER, 3, 11, index="02"))
        sold = _tokens(await counter.buy(90_000, drn=EA11_METER, sender=AGENT))
        assert [token["kind"] for token in sold] == ["key_change"] * 4 + ["credit"]
        assert [result.is_accepted for result in _enter(device, sold, counter)] == [True] * 5
        await counter.check_books()


async def test_the_next_sale_confirms_where_the_utility_says_so(tmp_path: Any) -> None:
    settings = StsSettings(key_change_confirmed_by="next_sale")
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule(KEYS), sts=settings) as counter:
        await wants(counter, METER, handle_of(METER, 3))
        assert len(_tokens(await counter.buy(20_000))) == 3
        assert len(_tokens(await counter.buy(30_000))) == 1
        m = tables.meter.c
        row = await counter.store.read(
            lambda connection: connection.execute(sa.select(m.key_revision, m.next_key).where(m.drn == METER)).one()
        )
        assert tuple(row) == (3, None)
        await counter.check_books()


async def test_a_utility_that_changes_keys_apart_sells_nothing_until_then(tmp_path: Any) -> None:
    settings = StsSettings(key_change="separate")
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule(KEYS), sts=settings) as counter:
        await wants(counter, METER, handle_of(METER, 3))
        assert (await counter.buy()).reason is Reason.KEY_CHANGE_NEEDED
        await counter.check_books()


async def test_a_meter_of_a_base_date_that_has_ended_gets_the_set_and_no_sale(tmp_path: Any) -> None:
    settings = StsSettings(key_change_confirmed_by="next_sale")
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule(KEYS), sts=settings) as counter:
        device = _device(handle_of(OLD_METER, 1, base_date=1993))
        await wants(counter, OLD_METER, handle_of(OLD_METER, 2))
        refused = await counter.buy(50_000, drn=OLD_METER)
        assert (refused.reason, refused.state) == (Reason.KEY_CHANGE_FIRST, State.REFUSED)
        assert await counter.available("wallet:A100001") == 150_000
        assert [result.is_accepted for result in _enter(device, _tokens(refused), counter)] == [True] * 2
        sold = _tokens(await counter.buy(50_000, drn=OLD_METER))
        assert _enter(device, sold, counter) == [Result.ACCEPT]
        assert await counter.available("wallet:A100001") == 100_000
        await counter.check_books()


async def test_without_its_present_key_nothing_can_be_changed(tmp_path: Any) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule(sample_keys())) as counter:
        await wants(counter, OLD_METER, handle_of(OLD_METER, 2))
        assert (await counter.buy(50_000, drn=OLD_METER)).reason is Reason.KEY_MISSING
        await counter.check_books()


class _Outgoing(Outgoing):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[Reply] = asyncio.Queue()

    def enqueue(self, replies: list[Reply]) -> None:
        for reply in replies:
            self.replies.put_nowait(reply)


@pytest.mark.parametrize("plan", [[], ["silent"]])
async def test_a_module_that_must_be_waited_for_gives_the_same_set_and_credit(tmp_path: Any, plan: list[str]) -> None:
    module = WaitingModule(SoftwareModule(KEYS), plan)
    async with open_counter(f"sqlite:///{tmp_path}/t.db", module) as counter:
        await wants(counter, METER, handle_of(METER, 3))
        outgoing = _Outgoing()
        desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        await desk.receive(counter.inbound(Buy(METER, 20_000), AMINA))
        reply = await asyncio.wait_for(outgoing.replies.get(), 60)
        tokens = list(reply.message.values["tokens"])
        device = _device(handle_of(METER, 2))
        assert [result.is_accepted for result in _enter(device, tokens, counter)] == [True] * 3
        await desk.close()
        await counter.check_books()


async def test_a_set_that_was_never_given_out_confirms_nothing(database_url: str) -> None:
    settings = StsSettings(key_change_confirmed_by="next_sale")
    module = WaitingModule(SoftwareModule(KEYS), ["refuse"])
    async with open_counter(database_url, module, sts=settings) as counter:
        await wants(counter, METER, handle_of(METER, 3))
        outgoing = _Outgoing()
        desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        await desk.receive(counter.inbound(Buy(METER, 20_000), AMINA))
        refused = await asyncio.wait_for(outgoing.replies.get(), 60)
        assert "tokens" not in refused.message.values
        await desk.receive(counter.inbound(Buy(METER, 30_000), AMINA))
        sold = list((await asyncio.wait_for(outgoing.replies.get(), 60)).message.values["tokens"])
        device = _device(handle_of(METER, 2))
        assert [result.is_accepted for result in _enter(device, sold, counter)] == [True] * 3
        await desk.receive(counter.inbound(Buy(METER, 40_000), AMINA))
        after = list((await asyncio.wait_for(outgoing.replies.get(), 60)).message.values["tokens"])
        assert [token["kind"] for token in after] == ["credit"]
        assert _enter(device, after, counter) == [Result.ACCEPT]
        await desk.close()
        await counter.check_books()
