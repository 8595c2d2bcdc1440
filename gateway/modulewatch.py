"""What security modules say of themselves: speed, clock, alerts, and until when they may vend. Shell: asks them.

A module of the Prism kind tells all of it. A PKCS#11 token knows no authorisation; it tells what is wrong with its PIN,
and its keys carry dates of their own. The key store has nothing to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from config.settings import Settings
from gateway.keptkeys import KeptModule, members_of
from gateway.modules import load_members
from ledger.keyrows import Ending, EndKind
from sts.errors import StsError
from sts.modules.contract import SecurityModule
from sts.modules.pool import ModulePool
from sts.modules.prism.client import PrismModule
from sts.tables import SAMPLE

TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """What one module says of itself; None where it does not. `trouble`: why it could not be asked."""

    name: str
    trouble: str = ""
    tokens_per_s: float | None = None
    clock_drift_s: float | None = None
    alerts: tuple[str, ...] = ()
    vends_until: datetime | None = None


async def reports(module: SecurityModule) -> list[ModuleReport]:
    """What each module says, all asked at once; those that have nothing to say are left out."""
    asked = [_report(_inner(member)) for member in members_of(module)]
    return [report for report in await asyncio.gather(*asked) if report is not None]


def reports_now(settings: Settings) -> list[ModuleReport]:
    """What the modules of the settings say, asked by a command; those that cannot be opened say why."""

    async def ask(section: Settings) -> list[ModuleReport]:
        (member,) = load_members(section, SAMPLE)
        pool = ModulePool([member])
        try:
            return await reports(pool)
        finally:
            await pool.close()

    told: list[ModuleReport] = []
    nothing = replace(settings, pkcs11=(), prism=())
    for name, alone in (
        *((one.name, replace(nothing, pkcs11=(one,))) for one in settings.pkcs11),
        *((one.name, replace(nothing, prism=(one,))) for one in settings.prism),
    ):
        try:
            told += asyncio.run(ask(alone))
        except (StsError, OSError) as trouble:
            told.append(ModuleReport(name, str(trouble)))
    return told


def endings(told: Iterable[ModuleReport]) -> list[Ending]:
    """The ends of authorisations that modules have told; pure."""
    return [
        Ending(f"module {report.name}", EndKind.AUTHORISATION, report.vends_until)
        for report in told
        if report.vends_until is not None
    ]


def _inner(member: SecurityModule) -> SecurityModule:
    return member.inner if isinstance(member, KeptModule) else member


async def _report(module: SecurityModule) -> ModuleReport | None:
    alerts = getattr(module, "alerts", None)
    if alerts is None and not isinstance(module, PrismModule):
        return None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            if isinstance(module, PrismModule):
                said = await module.report_later()
                return ModuleReport(
                    module.name, "", said.tokens_per_s, said.clock_drift_s, said.alerts, said.vends_until
                )
            assert alerts is not None
            return ModuleReport(module.name, alerts=tuple(await asyncio.to_thread(alerts)))
    except StsError as trouble:
        return ModuleReport(module.name, trouble.sentence)
    except TimeoutError:
        return ModuleReport(module.name, f"no answer within {TIMEOUT_S:g} s")
