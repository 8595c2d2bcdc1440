"""The books behind the `prepaid token` commands: a meter's keys, the sale of a token, engineering tokens. Shell.

Each function opens the database for itself, so that commands stay plain functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from config.settings import Settings
from gateway.engineering import Made, MakeManagement
from gateway.tokens import key_from, key_of
from gateway.vend import Shop
from gateway.world import World
from ledger import audit, meters
from ledger.audit import Origin
from ledger.meters import SaleOfToken
from ledger.store import Store, open_store
from sts.explain import Candidate
from sts.modules.contract import SecurityModule

T = TypeVar("T")


def with_store(settings: Settings, work: Callable[[Store], Awaitable[T]], *, statement_timeout_s: int = 30) -> T:
    """Run this with the database open; a report may need statements that run longer than a sale's."""

    async def run() -> T:
        store = await open_store(settings.database.url_with_password(), statement_timeout_s=statement_timeout_s)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def find_meter(settings: Settings, drn: str) -> list[Candidate]:
    """The keys that the books know for a meter: present, next, and those it had; none for an unknown meter."""

    async def look(store: Store) -> list[Candidate]:
        meter = await store.read(lambda connection: meters.find(connection, drn))
        if meter is None:
            return []
        found = [Candidate("present", key_of(meter))]
        if meter.next_key is not None:
            found.append(Candidate("next", key_from(meter.next_key, meter.drn, meter.iin)))
        meter_id, seen = meter.id, {candidate.key for candidate in found}
        for text in await store.read(lambda connection: meters.keys_of_tokens(connection, meter_id)):
            key = key_from(text, drn, meter.iin)
            if key not in seen:
                seen.add(key)
                found.append(Candidate("previous", key))
        return found

    return with_store(settings, look)


def find_sale(settings: Settings, drn: str, digits: str) -> SaleOfToken | None:
    """The sale in which this token was made for this meter."""

    async def look(store: Store) -> SaleOfToken | None:
        meter = await store.read(lambda connection: meters.find(connection, drn))
        if meter is None:
            return None
        meter_id = meter.id
        return await store.read(lambda connection: meters.sale_of(connection, meter_id, digits))

    return with_store(settings, look)


def make_management(
    settings: Settings, module: SecurityModule, world: World, drn: str, subclass: int, value: int, origin: Origin
) -> Made:
    """Make an engineering token in the books, with its row in the audit log."""

    async def make(store: Store) -> Made:
        # First the log, then the token: one that nobody answers for must not exist.
        await store.transact(
            lambda connection: audit.note(
                connection,
                origin,
                deed="meter.engineering_token",
                subject=f"meter {drn}",
                after={"subclass": subclass, "value": value},
            )
        )
        return await store.submit(MakeManagement(Shop.of(settings, world, module), drn, subclass, value))

    return with_store(settings, make)
