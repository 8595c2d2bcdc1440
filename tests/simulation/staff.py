"""The utility's staff in tests: people with roles who change records at a counter, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from ledger import audit, metermoves, tables
from ledger.audit import Origin, Verified
from ledger.changes import Act
from ledger.meterlife import Deed, Status
from ledger.operators import Operator, Role
from ledger.record_tables import site_event
from ledger.store import Store
from ledger.unit import Meter
from sts.numbers import MeterNumber
from tests.simulation.shop import Counter

T = TypeVar("T")

ENGINEER: Final = Operator("eng.raj", "Raj Engineer", frozenset({Role.ENGINEER}), "en", None)
SUPPORT: Final = Operator("sup.ana", "Ana Support", frozenset({Role.SUPPORT}), "en", None)
SUPERVISOR: Final = Operator("sup.kim", "Kim Supervisor", frozenset({Role.SUPERVISOR}), "en", None)
FINANCE: Final = Operator("fin.zoe", "Zoe Finance", frozenset({Role.FINANCE}), "en", None)
AUDITOR: Final = Operator("aud.eve", "Eve Auditor", frozenset({Role.AUDITOR}), "en", None)


@dataclass
class Staff:
    """People at a counter; each deed is one transaction of its own, through the given store."""

    counter: Counter
    store: Store | None = None
    numbers: int = field(default=0)

    def act(self, by: Operator, reason: str = "because", beside: Operator | None = None) -> Act:
        shop, world = self.counter.shop, self.counter.world
        return Act(
            by=by,
            origin=Origin(by.login, world.now(), "terminal test", reason),
            new_id=world.new_id,
            local=shop.local(world.now()).replace(tzinfo=None),
            currency="KES",
            beside=beside,
        )

    async def do(
        self,
        deed: Callable[..., T],
        *arguments: Any,
        by: Operator = SUPERVISOR,
        reason: str = "because",
        beside: Operator | None = None,
        **named: Any,
    ) -> T:
        """What a change of records gives, after its commit."""
        act = self.act(by, reason, beside)
        return await (self.store or self.counter.store).transact(
            lambda connection: deed(connection, act, *arguments, **named)
        )

    async def read(self, question: Callable[..., T], *arguments: Any, **named: Any) -> T:
        return await self.counter.store.read(lambda connection: question(connection, *arguments, **named))

    async def new_meter(self, *, issued: bool = True, index: str = "01", group: str = "600801") -> str:
        """A meter that is new here, issued to a fitter."""
        self.numbers += 1
        meter = Meter(
            id=self.counter.world.new_id(),
            drn=MeterNumber.from_body(f"98{self.numbers:08d}").drn,
            iin="600727",
            service_point_id=None,
            status=Status.IN_STOCK.value,
            encryption_algorithm=7,
            key_generation=2,
            key_type=2,
            supply_group=group,
            key_revision=2,
            tariff_index=index,
            key_expiry=255,
            base_date=2014,
            last_tid=None,
            next_key=None,
            next_last_tid=None,
            change_given_at=None,
        )
        await self.do(metermoves.receive, meter, by=ENGINEER)
        if issued:
            await self.do(metermoves.move, meter.drn, Deed.ISSUE, by=ENGINEER)
        return meter.drn

    async def point(self, code: str) -> Any:
        """A service point's row."""
        s = tables.service_point
        return await self.read(lambda connection: connection.execute(sa.select(s).where(s.c.code == code)).one())

    async def debt(self, code: str) -> Any:
        """A debt's row."""
        d = tables.debt
        return await self.read(lambda connection: connection.execute(sa.select(d).where(d.c.code == code)).one())

    async def check(self) -> None:
        """Books, histories and the audit chain are whole."""
        await self.counter.check_books()
        assert await self.counter.store.read(broken_records) == []


def broken_records(connection: sa.Connection) -> list[str]:
    """What is wrong with records and their histories; empty when all is well."""
    found: list[str] = []
    verdict = audit.verify(connection)
    if not isinstance(verdict, Verified):
        found.append(f"the audit chain: {verdict}")
    m, e = tables.meter.c, site_event.c
    for meter in connection.execute(sa.select(tables.meter)):
        events = connection.execute(sa.select(site_event).where(e.meter_id == meter.id).order_by(e.id)).all()
        for one, following in zip(events, events[1:], strict=False):
            if one.after != following.before:
                found.append(f"the history of meter {meter.drn} has a gap after {one.deed}")
        if events and events[-1].after != meter.status:
            found.append(f"meter {meter.drn} is {meter.status}, its history says {events[-1].after}")
        if (meter.status in ("INSTALLED", "BLOCKED", "FAULTY")) != (meter.service_point_id is not None):
            found.append(f"meter {meter.drn} is {meter.status} at {meter.service_point_id}")
        if events and events[-1].after in ("INSTALLED", "BLOCKED", "FAULTY"):
            if events[-1].service_point_id != meter.service_point_id:
                found.append(f"meter {meter.drn} hangs elsewhere than its history says")
    at = connection.execute(
        sa.select(m.service_point_id)
        .where(m.status == "INSTALLED")
        .group_by(m.service_point_id)
        .having(sa.func.count() > 1)
    ).all()
    found.extend(f"a service point has several meters: {row}" for row in at)
    return found
