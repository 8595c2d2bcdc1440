"""Vending keys and modules while the gateway runs: changes of the books taken up, ends and troubles told. Shell.

That a key was ended is known to the next batch, without this. Here newly activated keys are loaded and ended ones
leave the memory, moments later.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from config.settings import Settings
from gateway import custody, modulewatch
from gateway.keeper import Books, Keeper
from gateway.metrics import Metrics
from gateway.modulewatch import ModuleReport
from gateway.world import World
from ledger import vendingkeys
from ledger.store import Store
from sts.errors import StsError
from sts.modules.contract import SecurityModule
from sts.modules.pool import ModulePool

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""How often the books are asked whether any key has changed."""
_REPORT_S: Final = 60.0
_REPORTS_A_DAY: Final = 1440


def books_now(connection: Any) -> Books:
    """What the books say of all keys. The stamp first: rows that are newer than it do no harm, older ones would."""
    stamp = vendingkeys.stamp(connection)
    return Books(stamp, tuple(vendingkeys.report(connection)))


async def kept_module(settings: Settings, store: Store) -> SecurityModule:
    """The settings' modules with the keys that the books allow, which every batch of this store tells them anew."""
    keeper = Keeper(settings, await store.read(books_now))
    store.tell_keys(keeper.allow)
    return keeper.module


class KeyWatch:
    """The tasks that look after keys and modules. Without a keeper (a module was handed in) keys do not change."""

    def __init__(
        self, store: Store, module: SecurityModule, keeper: Keeper | None, world: World, metrics: Metrics
    ) -> None:
        self._store = store
        self._module = module
        self._keeper = keeper
        self._world = world
        self._metrics = metrics
        self._stamp = -1
        self._said: frozenset[str] = frozenset()

    async def follow(self) -> None:
        """Take up every change of the books, for ever."""
        while True:
            pause_s = LOOK_S
            try:
                await self.take_up()
            except StsError as refusal:
                log.error("a change of vending keys could not be taken up: %s", refusal)
                pause_s = _REPORT_S  # trying passphrases costs half a second each
            except Exception:  # database or key store are away: this is tried again
                log.exception("a change of vending keys could not be taken up")
                pause_s = _REPORT_S
            await asyncio.sleep(pause_s)

    async def take_up(self) -> bool:
        """Load and drop keys if the books have changed since the last time; whether they had."""
        if self._keeper is None or await self._store.read(vendingkeys.stamp) == self._stamp:
            return False
        books = await self._store.read(books_now)
        await asyncio.to_thread(self._keeper.reload, books)
        self._stamp = books.stamp
        left_out = self._keeper.left_out(books)
        self._metrics.keys_left_out(len(left_out))
        for sentence in left_out:
            if sentence not in self._said:
                log.warning("%s", sentence)
        self._said = frozenset(left_out)
        log.info("vending keys in use: %d", len(self._module.status().keys))
        return True

    async def warn(self) -> None:
        """Ask the modules every minute; once a day say what ends within 90, 30 or 7 days, in log and metrics."""
        rounds = 0
        while True:
            log_it = rounds % _REPORTS_A_DAY == 0
            try:
                told = await modulewatch.reports(self._module)
                for report in told:
                    self._tell(report, log_it=log_it)
                await self._warn_once(told, log_it=log_it)
            except Exception:  # the database is away, or a module's client has a bug: the next round tries again
                log.exception("the ends of vending keys and authorisations could not be looked up")
            rounds += 1
            await asyncio.sleep(_REPORT_S)

    async def _warn_once(self, told: list[ModuleReport], *, log_it: bool) -> None:
        rows = await self._store.read(vendingkeys.report)
        found = custody.warnings(rows, self._world.now(), modulewatch.endings(told))
        self._metrics.keys_ending({days: sum(one.days <= days for one in found) for days in custody.WARN_DAYS})
        if log_it:
            for warning in found:
                log.warning("%s", custody.sentence_of(warning))

    def _tell(self, report: ModuleReport, *, log_it: bool) -> None:
        self._metrics.module_says(
            report.name,
            answers=not report.trouble,
            tokens_per_s=report.tokens_per_s,
            clock_drift_s=report.clock_drift_s,
            alerts=len(report.alerts),
            vends_until=report.vends_until,
        )
        if report.trouble and log_it:
            log.warning("a security module does not say how it is", extra={"security_module": report.name})

    def look(self) -> None:
        """How the modules of a pool do, for the metrics. Inside a running loop."""
        if isinstance(self._module, ModulePool):
            for health in self._module.health():
                self._metrics.module_is(health)
