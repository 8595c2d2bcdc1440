"""A module behind TokenApi for tests: the simulator on a real socket, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sts.modules.contract import Unsettled
from sts.modules.prism.client import PrismModule
from sts.modules.prism.settings import PrismKey, PrismSettings
from sts.modules.prism.simulated import Account, Faults
from sts.modules.prism.simulator import PrismSimulator, SimulatorSettings
from sts.modules.software import SoftwareModule
from tests.sts.keys import DES_GROUP, HMAC_GROUP, NOW, record

CERTIFICATES: Final = Path(__file__).parent / "certificates"
PASSWORD: Final = "open sesame 7193"

RECORDS: Final = (
    record(2),
    record(2, key_revision=2),
    record(4),
    record(4, key_revision=2),
    record(2, supply_group="000007", base_date=1993),
    record(2, supply_group="000007", key_revision=2, base_date=2014),
    record(2, supply_group="000009", key_type=1),
)
INSIDE: Final = SoftwareModule(RECORDS, name="inside", allowed=frozenset(Unsettled))
"""What the simulator makes tokens with; reads what a client was given."""

KEYS: Final = tuple(
    PrismKey(
        supply_group=record_.supply_group,
        key_revision=record_.key_revision,
        key_type=record_.key_type,
        dkga=record_.dkga,
        base_date=record_.base_date,
        kcv=record_.key.kcv,
    )
    for record_ in RECORDS
)
GROUPS: Final = (DES_GROUP, HMAC_GROUP)


def now() -> datetime:
    """The clock inside the simulator."""
    return NOW


def settings(port: int, **changes: Any) -> PrismSettings:
    """A client's settings for a simulator on plain TCP, impatient as tests are."""
    facts: dict[str, Any] = dict(
        name="prism",
        host="127.0.0.1",
        port=port,
        realm="local",
        username="gateway",
        password=PASSWORD,
        keys=KEYS,
        plain_on_loopback=True,
        connect_timeout_s=2.0,
        answer_timeout_s=2.0,
        doubt_s=2.0,
    )
    return PrismSettings(**{**facts, **changes})


def simulator(faults: Faults | None = None, **changes: Any) -> PrismSimulator:
    """A simulator on plain TCP, any free port."""
    facts: dict[str, Any] = dict(account=Account(password=PASSWORD))
    return PrismSimulator(INSIDE, SimulatorSettings(**{**facts, **changes}), now=now, faults=faults)


@asynccontextmanager
async def served(faults: Faults | None = None, **changes: Any) -> AsyncIterator[tuple[PrismSimulator, PrismModule]]:
    """A simulator that listens, and a client of it; both end with the block."""
    async with simulator(faults) as server:
        module = PrismModule(settings(server.port, **changes))
        try:
            yield server, module
        finally:
            await module.close()
