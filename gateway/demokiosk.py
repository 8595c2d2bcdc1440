"""A kiosk's vouchers and Africa's Talking in the sandbox: who has neither wallet nor account buys by a text. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from channels.africastalking.simulator import Received, Simulator, SimulatorSettings
from config.kinds import Secret
from config.settings import AfricasTalkingSettings, PinSettings, Settings, VoucherSettings
from gateway.world import World
from ledger import vouchers
from ledger.audit import Origin
from ledger.changes import Act
from ledger.operators import Operator, Role
from ledger.store import Store
from ledger.vouchernumbers import drawn, look_up

ACCOUNT: Final = "talking"
SHORT_CODE: Final = "20888"
PREFIX: Final = "254755"
"""The phones that this account serves; those of the other ways keep to their own."""
VALUE_MINOR: Final = 20_000
_BATCH: Final = "KIOSK-1"
_USER, _API_KEY = "sandbox", "sandbox"


@dataclass(slots=True)
class Provider:
    """Africa's Talking's API, serving, and the phones that hear by it."""

    simulator: Simulator
    heard: asyncio.Queue[Received]

    def before(self, settings: Settings, world: World) -> Settings:
        """Settings with an account here, and with vouchers."""
        account = AfricasTalkingSettings(
            name=ACCOUNT,
            username=_USER,
            api_key=Secret(_API_KEY),
            base_url=f"http://127.0.0.1:{self.simulator.port}",
            short_codes=SHORT_CODE,
            prefixes=PREFIX,
            path_secret=Secret(world.nonce(16).hex()),
        )
        pins = PinSettings(key=Secret(world.nonce(32).hex()))
        return replace(settings, africastalking=(account,), pins=pins, vouchers=VoucherSettings(taken=True))

    def reaches(self, settings: Settings, port: int) -> None:
        """The gateway's callbacks come in at this port."""
        secret = settings.africastalking[0].path_secret.reveal()
        self.simulator.callback = f"http://127.0.0.1:{port}/sms/{ACCOUNT}/{secret}"

    async def ask(self, phone: str, text: str, within_s: float) -> str:
        """What a phone hears after it has sent a text; empty if nothing comes in time."""
        self.simulator.text(phone, SHORT_CODE, text)
        try:
            async with asyncio.timeout(within_s):
                while True:
                    received = await self.heard.get()
                    if received.phone == phone:
                        return received.text
        except TimeoutError:
            return ""


@asynccontextmanager
async def provider(world: World) -> AsyncIterator[Provider]:
    """Africa's Talking on loopback."""
    heard: asyncio.Queue[Received] = asyncio.Queue()
    settings = SimulatorSettings(username=_USER, api_key=_API_KEY)
    simulator = Simulator(settings, new_id=lambda: str(world.new_id()), random=world.chance, on_text=heard.put_nowait)
    await simulator.start()
    try:
        yield Provider(simulator, heard)
    finally:
        await simulator.stop()


async def sold_voucher(store: Store, settings: Settings, world: World) -> str:
    """The number of a voucher that two people have made and sold for cash."""
    key = settings.pins.key.reveal()
    number = drawn(world.nonce, key)
    digest = look_up(number, key)
    assert digest is not None, "a number has its own check digits"
    local = world.now().astimezone(ZoneInfo(settings.utility.timezone)).replace(tzinfo=None)

    def act(login: str) -> Act:
        by = Operator(login, login, frozenset({Role.FINANCE}), "en", None)
        origin = Origin(login, world.now(), "demonstration", "for the kiosk")
        return Act(by, origin, world.new_id, local, settings.utility.currency)

    async def do(deed: Any, login: str, *values: Any, **named: Any) -> None:
        await store.transact(lambda connection: deed(connection, act(login), _BATCH, *values, **named))

    size = {"vouchers": 1, "value_minor": VALUE_MINOR, "vouchers_max": 1, "value_max_minor": VALUE_MINOR}
    await do(vouchers.ask, "fin.zoe", expires_on=local.date() + timedelta(days=365), **size)
    await do(vouchers.approve, "fin.max")
    await do(vouchers.print_out, "fin.zoe", [digest], "0" * 64)
    await do(vouchers.activate, "fin.max")
    await do(vouchers.sell, "fin.zoe", 1, 1, to="cash")
    return number
