"""M-Pesa in the sandbox: a simulated operator with its phones, and the settings of a gateway before it. Shell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from config.kinds import Secret
from config.money import MpesaSettings, PaymentSettings
from config.settings import Settings
from gateway.payments.simulated.daraja import SimulatedDaraja
from gateway.payments.simulated.faults import Faults
from gateway.payments.simulated.mobile_operator import MobileOperator
from gateway.payments.simulated.server import SimulatedProviders
from gateway.payments.simulated.wallets import Habit, Wallets
from gateway.world import World

PUBLIC_URL: Final = "https://pay.umoja.example"
"""What the operator is told; its simulation knows where that leads."""
PREFIX: Final = "254733"
"""The phones that are asked for money; the others of the sandbox have wallets."""
PROMPT: Final = "prompt"
_ACCOUNT: Final = "sandbox"


@dataclass(slots=True)
class Market:
    """A simulated operator of mobile money, serving."""

    operator: MobileOperator
    daraja: SimulatedDaraja
    server: SimulatedProviders

    def before(self, settings: Settings, world: World) -> Settings:
        """Settings with this operator as their source of money."""
        account = MpesaSettings(
            name=_ACCOUNT,
            base_url=self.server.url,
            consumer_key=Secret(self.daraja.consumer_key),
            consumer_secret=Secret(self.daraja.consumer_secret),
            shortcode=self.daraja.shortcode,
            passkey=Secret(self.daraja.passkey),
        )
        source = PaymentSettings(
            name=PROMPT,
            kind="mpesa_stk",
            account=_ACCOUNT,
            path_secret=Secret(world.nonce(16).hex()),
            prefixes=PREFIX,
            step_minor=100,
        )
        callbacks = replace(settings.callbacks, public_url=PUBLIC_URL)
        return replace(settings, callbacks=callbacks, payment=(source,), mpesa=(account,))

    def reaches(self, port: int) -> None:
        """The gateway's callbacks come in at this port."""
        self.operator.hosts[PUBLIC_URL] = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def market(world: World, habit: Habit = Habit.BY_HAND) -> AsyncIterator[Market]:
    """A simulated operator whose phones wait for somebody to answer."""
    faults = Faults()
    operator = MobileOperator(Wallets(habit=habit), faults, world.now)
    daraja = SimulatedDaraja(operator)
    server = SimulatedProviders((daraja,), faults, operator.wallets.statement)
    await operator.open()
    try:
        await server.start()
        try:
            yield Market(operator, daraja, server)
        finally:
            await server.stop()
    finally:
        await operator.close()
