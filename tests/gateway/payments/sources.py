"""The sources as tests set them up, alone or before simulated providers on real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from channels.http.callback import Answer, Callback, NotReadable
from channels.http.server import CallbackServer, Route
from config.kinds import Secret
from gateway.payments.africastalking import AfricasTalking, AfricasTalkingAccount
from gateway.payments.contract import Collect, Event, Forged, PaymentSource, Validation
from gateway.payments.daraja import DarajaAccount
from gateway.payments.momo import Momo, MomoAccount
from gateway.payments.mpesa_c2b import MpesaC2b
from gateway.payments.mpesa_stk import MpesaStk
from gateway.payments.simulated.africastalking import SimulatedAfricasTalking
from gateway.payments.simulated.daraja import SimulatedDaraja
from gateway.payments.simulated.faults import Faults
from gateway.payments.simulated.mobile_operator import MobileOperator
from gateway.payments.simulated.momo import SimulatedMomo
from gateway.payments.simulated.server import SimulatedProviders
from gateway.payments.simulated.wallets import Wallets

NOW = datetime(2026, 6, 3, 9, 15, 30, tzinfo=UTC)
OUR_REF = UUID("019e8d2c-5f3a-7b21-8a4e-0123456789ab")
AMINA = "254711013579"
PASSKEY = Secret("sandbox-passkey")
SECRETS = ("sandbox-secret", "sandbox-passkey", "sealed-credential", "sandbox-api-key", "sandbox-at-key", "sandbox-key")

DARAJA = DarajaAccount(
    name="till",
    base_url="http://127.0.0.1:1",
    consumer_key=Secret("sandbox-key"),
    consumer_secret=Secret("sandbox-secret"),
    shortcode="600987",
    callback_url="https://pay.example/payments/till/s3cret",
    initiator="sandbox-initiator",
    security_credential=Secret("sealed-credential"),
    retry_pause_s=0.0,
)
MOMO = MomoAccount(
    name="momo",
    base_url="http://127.0.0.1:1",
    target="sandbox",
    currency="KES",
    minor_digits=2,
    step_minor=100,
    subscription_key=Secret("sandbox-collection"),
    api_user="c72025f5-5cd1-4630-99e4-8ba4722fad56",
    api_key=Secret("sandbox-api-key"),
    callback_url="https://pay.example/payments/momo/s3cret",
    disbursement_key=Secret("sandbox-disbursement"),
    disbursement_user="c72025f5-5cd1-4630-99e4-8ba4722fad56",
    disbursement_api_key=Secret("sandbox-api-key"),
    retry_pause_s=0.0,
)
CHECKOUT = AfricasTalkingAccount(
    name="at",
    base_url="http://127.0.0.1:1",
    username="sandbox",
    api_key=Secret("sandbox-at-key"),
    product="Electricity",
    currency="KES",
    minor_digits=2,
    step_minor=100,
)


def now() -> datetime:
    return NOW


def order(**changes: Any) -> Collect:
    asked = Collect(OUR_REF, AMINA, 50_000, "KES", "04012345676", "Umoja Power")
    return replace(asked, **changes)


def callback(body: object, query: str = "", method: str = "POST") -> Callback:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Callback(method, "/payments/x/s3cret", query, "application/json", data)


@dataclass
class Heard:
    """A gateway's callback address that writes down what it hears."""

    url: str = ""
    events: list[Event] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    may: bool = True
    sources: dict[str, PaymentSource] = field(default_factory=dict)


@asynccontextmanager
async def listening() -> AsyncIterator[Heard]:
    """A callback server before `heard.sources`, each at /<its name>."""
    heard = Heard()

    def handler(name: str) -> Callable[[Callback], Any]:
        async def handle(said: Callback) -> Answer:
            source = heard.sources[name]
            try:
                found = source.read(said)
            except (NotReadable, Forged) as error:
                heard.refused.append(error.why)
                return source.answer(said, True)
            if isinstance(found, Validation):
                heard.validations.append(found)
                return source.answer(said, heard.may, "METER_UNKNOWN")
            heard.events.extend(found)
            return source.answer(said, True)

        return handle

    routes = [
        Route(name, f"/{name}", frozenset({"POST", "PUT"}), handler(name)) for name in ("till", "paybill", "momo", "at")
    ]
    server = CallbackServer("127.0.0.1", 0, routes)
    await server.start()
    heard.url = f"http://127.0.0.1:{server.port}"
    try:
        yield heard
    finally:
        await server.stop()


@dataclass
class Market:
    """All simulated providers, the sources before them, and what the gateway heard."""

    operator: MobileOperator
    faults: Faults
    daraja: SimulatedDaraja
    momo: SimulatedMomo
    checkout: SimulatedAfricasTalking
    server: SimulatedProviders
    heard: Heard
    till: MpesaStk
    paybill: MpesaC2b
    mtn: Momo
    at: AfricasTalking

    def sources(self) -> Sequence[PaymentSource]:
        return (self.till, self.paybill, self.mtn, self.at)


@asynccontextmanager
async def market(**faults: float) -> AsyncIterator[Market]:
    """Everything on real sockets."""
    struck = Faults(rates={name: rate for name, rate in faults.items()}, seed="tests")  # type: ignore[misc]
    operator = MobileOperator(Wallets(), struck, now, expire_after_s=0.0, delay_s=0.0)
    daraja = SimulatedDaraja(operator)
    momo = SimulatedMomo(operator)
    checkout = SimulatedAfricasTalking(operator)
    server = SimulatedProviders((daraja, momo, checkout), struck, operator.wallets.statement)
    await operator.open()
    await server.start()
    async with listening() as heard:
        base = server.url
        till = MpesaStk(
            replace(DARAJA, callback_url=f"{heard.url}/till", base_url=base), now, passkey=PASSKEY, account_mark="P"
        )
        paybill = MpesaC2b(
            replace(DARAJA, name="paybill", callback_url=f"{heard.url}/paybill", base_url=base), now, account_mark="P"
        )
        mtn = Momo(replace(MOMO, callback_url=f"{heard.url}/momo", base_url=base), now)
        at = AfricasTalking(replace(CHECKOUT, base_url=base), now)
        checkout.callback_url = f"{heard.url}/at"
        heard.sources.update({"till": till, "paybill": paybill, "momo": mtn, "at": at})
        found = Market(operator, struck, daraja, momo, checkout, server, heard, till, paybill, mtn, at)
        try:
            yield found
        finally:
            for source in found.sources():
                await source.close()
            await operator.close()
            await server.stop()
