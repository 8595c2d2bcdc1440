"""Payments: callbacks over real HTTP at a steady rate, each stored and vended, and what very many waiting orders cost.

Server and callers are in this one process, so that the figures are on the safe side. The provider is the tests' own.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any, Final

import aiohttp
import sqlalchemy as sa

from channels.http.server import CallbackServer, Limits
from config.kinds import Secret
from config.money import PaymentSettings
from config.settings import PurchaseSettings, Settings
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.payments.desk import PaymentDesk
from gateway.payments.life import next_ask
from gateway.vend import Shop
from gateway.world import RealWorld
from ledger import payment_tables, tables
from ledger.records import ensure_accounts
from ledger.store import Store, open_store
from sts.modules.software import SoftwareModule
from tests.bench.load import RunFailed
from tests.simulation import utility
from tests.simulation.mobile_money import SIGNED, MobileMoney
from tests.simulation.utility import Customer

RATE: Final = 200
_SOURCE: Final = PaymentSettings(name="mpesa", kind="scripted", path_secret=Secret("bench-0123456789abcdef"))
_AMOUNT_MINOR: Final = 50_000
_PAGE: Final = 5_000


class _Nowhere(Outgoing):
    def enqueue(self, replies: list[Any]) -> None:
        """Replies stay owed."""


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[tuple[Store, PaymentDesk, MobileMoney]]:
    world = RealWorld()
    settings = Settings(utility=utility.SETTINGS, payment=(_SOURCE,), purchase=PurchaseSettings())
    shop = Shop.of(settings, world, SoftwareModule(utility.vending_keys()))
    store = await open_store(url)
    accounts = ["clearing:mpesa", "suspense:mpesa"]
    await store.transact(lambda connection: ensure_accounts(connection, accounts, utility.SETTINGS.currency))
    money = MobileMoney(now=world.now)
    desk = VendingDesk(shop, store, _Nowhere(), Metrics())
    payments = PaymentDesk(shop, store, desk, [(_SOURCE, money)], Metrics())
    try:
        yield store, payments, money
    finally:
        await payments.close()
        await desk.close()
        await store.close()


async def callbacks(url: str, everyone: Sequence[Customer], seconds: float) -> dict[str, Any]:
    """How long callbacks take, from request to answer, when they come at a steady rate; each pays for another meter."""
    async with _open(url) as (store, payments, _):
        server = CallbackServer("127.0.0.1", 0, payments.routes(), Limits())
        await server.start()
        route = f"http://127.0.0.1:{server.port}/payments/mpesa/bench-0123456789abcdef"
        took: list[float] = []
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as client:

                async def call(number: int) -> None:
                    customer = everyone[number % len(everyone)]
                    said = {"receipt": f"B{number}", "payer": customer.msisdn, "account": customer.drn}
                    body = json.dumps({**said, "amount": _AMOUNT_MINOR}).encode()
                    headers = {"X-Signature": SIGNED, "Content-Type": "application/json"}
                    began = perf_counter()
                    async with client.post(route, data=body, headers=headers) as response:
                        if response.status != 200:
                            raise RunFailed(f"a callback was answered {response.status}")
                    took.append(perf_counter() - began)

                count, began = round(RATE * seconds), perf_counter()
                async with asyncio.TaskGroup() as tasks:
                    for number in range(count):
                        await asyncio.sleep(max(0.0, began + number / RATE - perf_counter()))
                        tasks.create_task(call(number))
                rate = count / (perf_counter() - began)
        finally:
            await server.stop()
        vended = tables.purchase.c.state == "VENDED"
        sold = await store.read(
            lambda connection: connection.execute(
                sa.select(sa.func.count()).select_from(tables.purchase).where(vended)
            ).scalar_one()
        )
        if sold != count:
            raise RunFailed(f"{count} sales expected, got {sold}")
    hundredths = quantiles(took, n=100)
    return {"callbacks": count, "rate": rate, "p50_ms": hundredths[49] * 1e3, "p99_ms": hundredths[98] * 1e3}


async def waiting(url: str, orders: int, seconds: float) -> dict[str, Any]:
    """What so many payments that are waited for cost: memory, the look of the timetable, questions a second."""
    async with _open(url) as (store, payments, money):
        gc.collect()
        before = _resident_mb()
        world, now = RealWorld(), RealWorld().now()
        for start in range(0, orders, _PAGE):
            rows = [
                _row(world, now - timedelta(seconds=86_000 * (start + number) / orders), start + number)
                for number in range(min(_PAGE, orders - start))
            ]
            await store.transact(partial(_insert, rows))
        looks, began = list[float](), perf_counter()
        while perf_counter() - began < seconds:
            looked = perf_counter()
            await payments.look("mpesa")
            looks.append(perf_counter() - looked)
            await asyncio.sleep(max(0.0, 1 - (perf_counter() - looked)))
        await payments.idle()
        return {
            "waiting": orders,
            "more_memory_mb": _resident_mb() - before,
            "look_ms": max(looks) * 1e3,
            "questions_per_s": money.polled / (perf_counter() - began),
        }


def _insert(rows: list[dict[str, Any]], connection: sa.Connection) -> None:
    connection.execute(payment_tables.payment.insert(), rows)


def _row(world: RealWorld, made: Any, number: int) -> dict[str, Any]:
    now = world.now()
    lane, at = next_ask(made, now, world.chance())
    return {
        "id": world.new_id(),
        "source": "mpesa",
        "purpose": "ORDER",
        "state": "ASKED",
        "provider_ref": f"ws_{number}",
        "payer": f"2547{number:08d}",
        "account_ref": "",
        "amount_minor": _AMOUNT_MINOR,
        "currency": "KES",
        "created_at": made,
        "tries": 1,
        "lane": lane,
        "next_ask_at": at,
    }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
