"""The books behind the `prepaid token` commands: a meter's keys, the sale of a token, engineering tokens. Shell.

Each function opens the database for itself, so that commands stay plain functions.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from config.settings import Settings
from gateway import keptkeys
from gateway.engineering import FillManagement, Made, MakeManagement
from gateway.keeper import Books, Keeper
from gateway.keysession import Books as SignedIn
from gateway.keysession import Session, Unusable
from gateway.keywatch import books_now
from gateway.tokens import key_from, key_of
from gateway.vend import Shop
from gateway.waited import WaitedModule
from gateway.world import World
from ledger import audit, meters, operators
from ledger.audit import Origin
from ledger.meters import SaleOfToken
from ledger.operators import OperatorFault, OperatorRefused, Role, require_other, require_role
from ledger.schema import DatabaseVersion
from ledger.store import Store, is_sqlite, open_store, sqlite_path
from sts.explain import Candidate
from sts.modules.contract import SecurityModule

T = TypeVar("T")


def with_store(
    settings: Settings,
    work: Callable[[Store], Awaitable[T]],
    run_on: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run,
    *,
    statement_timeout_s: int = 30,
) -> T:
    """Run this with the database open, on a loop of its own or another one.

    A report may need statements that run longer than a sale's.
    """

    async def run() -> T:
        store = await open_store(settings.database.url_with_password(), statement_timeout_s=statement_timeout_s)
        try:
            return await work(store)
        finally:
            await store.close()

    return run_on(run())


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
        shop = Shop.of(settings, world, module.inner if isinstance(module, WaitedModule) else module)
        made = await store.submit(MakeManagement(shop, drn, subclass, value))
        if isinstance(made, Made):
            return made
        # Its inputs are stored; asked again, a module gives the same token.
        answer = await keptkeys.made_later(shop.module, made.request, now=None, first=made.first)
        return await store.submit(FillManagement(shop, made, answer))

    return with_store(settings, make, module.run if isinstance(module, WaitedModule) else asyncio.run)


def kept_module(settings: Settings) -> SecurityModule:
    """The security modules with the keys that the books allow now, for a command. Refuses DatabaseVersion."""

    async def look(store: Store) -> Books:
        return await store.read(books_now)

    url = settings.database.url_with_password()
    if is_sqlite(url) and not Path(sqlite_path(url)).exists():
        raise DatabaseVersion(f"there is no database {sqlite_path(url)}: what keys are in use stands in it")
    return Keeper(settings, with_store(settings, look)).module


def approve(options: argparse.Namespace, world: World) -> Origin:
    """Sign in an ENGINEER, and by the settings a second person, for a token made by hand; both go on record.

    Where there are no operators the account at this machine goes on record.
    """
    options.reason = f"case {options.case.strip()}"
    session = Session(options, "token make", world)

    async def work(books: SignedIn) -> Origin:
        if await books.read(operators.is_empty):
            return books.origin
        first, second = books.someone, books.second
        if first is None:
            raise Unusable("--as LOGIN expected: there are operators, so somebody has to sign in")
        require_role(first, Role.ENGINEER)
        if session.settings.sts.engineering_tokens == "two_people":
            if second is None:
                raise OperatorRefused(
                    OperatorFault.SECOND, "a token made by hand: a second person is needed (--with), to approve it"
                )
            require_other(first.login, second.login, "making and approving a token")
            require_role(second, Role.ENGINEER, Role.SUPERVISOR)
        await books.write(
            lambda connection: audit.note(
                connection,
                books.origin,
                deed="meter.token_approved",
                subject=f"meter {options.meter}",
                after={"kind": options.kind, "beside": second.login if second else None},
            )
        )
        return books.origin

    return session.in_books(work)
