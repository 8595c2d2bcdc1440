"""Modules named in the settings: a purchase over the real wire of one that must be waited for, and bad settings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from channels.commands import Buy
from channels.contract import Reply
from config.kinds import Secret
from config.settings import PrismSettings, Settings
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.modules import ModuleSettingsWrong, load_module, prism_key
from sts.meter import Meter, Result
from sts.modules.pool import ModulePool
from sts.modules.prism.simulated import Account, Faults
from sts.modules.prism.simulator import PrismSimulator, SimulatorSettings
from sts.modules.software import SoftwareModule
from sts.tables import SAMPLE
from tests.simulation.shop import AMINA, METER, handle_of, open_counter, sample_keys, wants

KEYS = [*sample_keys(), *sample_keys(revision=3)]
DES_KEYS = [record for record in KEYS if record.dkga == 2]


class _Outgoing(Outgoing):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[Reply] = asyncio.Queue()

    def enqueue(self, replies: list[Reply]) -> None:
        for reply in replies:
            self.replies.put_nowait(reply)


def _settings(port: int) -> Settings:
    keys = " ".join(
        f"{record.supply_group}/{record.key_revision}/2/2/2014/255/{record.status.kcv}" for record in DES_KEYS
    )
    section = PrismSettings(
        name="tsm",
        host="127.0.0.1",
        port=port,
        realm="local",
        username="gateway",
        password=Secret("sandbox"),
        keys=keys,
        plain_on_loopback=True,
        tid_by="minutes",
        connections_max=2,
        answer_timeout_s=1.0,
        doubt_s=0.5,
        rest_first_s=0.05,
    )
    return Settings(prism=(section,))


@pytest.mark.parametrize("fault", ["none", "lost answer", "key change"])
async def test_a_purchase_over_a_prism_module_gives_one_token_that_the_meter_takes(tmp_path: Path, fault: str) -> None:
    faults = Faults()
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule([])) as counter:
        simulator = PrismSimulator(
            SoftwareModule(DES_KEYS),
            SimulatorSettings(account=Account(password="sandbox")),
            now=counter.world.now,
            faults=faults,
        )
        async with simulator:
            module = load_module(_settings(simulator.port))
            assert isinstance(module, ModulePool) and not module.answers_at_once
            shop = type(counter.shop).of(counter.shop.settings, counter.world, module)
            outgoing = _Outgoing()
            desk = VendingDesk(shop, counter.store, outgoing, Metrics())
            if fault == "lost answer":
                faults.answers_lost = 1
            if fault == "key change":
                await wants(counter, METER, handle_of(METER, 3))
            await desk.receive(counter.inbound(Buy(METER, 50_000), AMINA))
            reply = await asyncio.wait_for(outgoing.replies.get(), 60)
            assert reply.message.key == "sold"
            tokens: list[dict[str, Any]] = list(reply.message.values["tokens"])
            record = next(r for r in KEYS if (r.supply_group, r.key_revision, r.dkga) == ("600801", 2, 2))
            device = Meter(handle_of(METER, 2), record.key.derive(handle_of(METER, 2), SAMPLE))
            results = [device.enter(token["digits"], counter.world.now()).result for token in tokens]
            assert all(result.is_accepted for result in results) and results[-1] is Result.ACCEPT
            assert device.electricity_tenths == 226
            await desk.close()
            await module.close()
        await counter.check_books()


def test_a_key_of_a_module_that_cannot_be_read_is_named() -> None:
    assert prism_key("600801/2/2/2/2014/255").key_revision == 2
    for text in ("600801", "600801/2/2/2/2014", "600801/x/2/2/2014/255", "600801/2/2/2/2014/255/ABCDEF/1"):
        with pytest.raises(ModuleSettingsWrong, match="SGC/KRN/KT/DKGA/BASE/KEN expected"):
            prism_key(text)


def test_without_modules_the_key_store_answers_at_once() -> None:
    assert load_module(Settings()).answers_at_once
