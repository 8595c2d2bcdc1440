"""Random changes of records among purchases: what a small model allows is done, all else is refused by name.

The model knows of each meter its status and place, of each service point its customer, of each debt what it is. After
every run books, histories and audit chain are checked whole. Hypothesis shrinks what fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from gateway.commands.records import next_key
from gateway.purchase import State
from ledger import customers, debts, metermoves, service_points
from ledger.changes import ChangeRefused, Fault
from ledger.debts import Agreement
from ledger.meterlife import AT_POINT, TABLE, Deed, Status
from ledger.metermoves import TakenDown
from ledger.pricing import DebtMode
from ledger.reasons import Reason
from tests.postgres import Cluster
from tests.simulation.shop import Counter, open_counter
from tests.simulation.staff import ENGINEER, FINANCE, SUPERVISOR, Staff

T = TypeVar("T")

AGENT: Final = "254722000002"  # sells for anybody from the float of ST002
TARIFFS: Final = ("D1-FLAT", "D2-IBT", "D3-LEVY")
ACCOUNTS: Final = ("A100001", "A100002", "A100003")
FREE_MOVES: Final = (Deed.ISSUE, Deed.BRING_BACK, Deed.REPAIR, Deed.RESTOCK, Deed.SCRAP)
PLACED: Final = {
    Deed.BLOCK: metermoves.block,
    Deed.UNBLOCK: metermoves.unblock,
    Deed.REPORT_FAULT: metermoves.report_fault,
}
number = st.integers(0, 1000)


@dataclass
class ModelMeter:
    """What is known of a meter."""

    drn: str
    status: Status
    point: str | None = None
    replaced_by: str | None = None


class Records(RuleBasedStateMachine):
    """The utility's office and its counter; `url_of` gives the address of an empty database."""

    cluster: Cluster | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.folder = TemporaryDirectory()
        self.meters: list[ModelMeter] = []
        self.points: dict[str, str] = {}  # code -> account
        self.tariffs: dict[str, str] = {}
        self.debts: dict[str, list[Any]] = {}  # code -> [point, status]
        self.amount_minor = 5_000

    def run(self, work: Awaitable[T]) -> T:
        async def waited() -> T:
            return await work

        return self.loop.run_until_complete(waited())

    @initialize()
    def open(self) -> None:
        self.url = self.cluster.migrated_database() if self.cluster else f"sqlite:///{Path(self.folder.name)}/t.db"
        self.counter: Counter = self.run(self.stack.enter_async_context(open_counter(self.url)))
        self.staff = Staff(self.counter)
        for n in range(2):
            self.add_point(n, n)
            self.new_meter()
            self.move(n, Deed.ISSUE)
            self.install(n, n)

    def teardown(self) -> None:
        try:
            if self.meters:
                self.run(self.staff.check())
        finally:
            self.run(self.stack.aclose())
            self.loop.close()
            self.folder.cleanup()
            if self.cluster and hasattr(self, "url"):
                self.cluster.give_back(self.url)

    def do(self, is_allowed: bool, *deed: Any, fault: Fault | None = None, **named: Any) -> bool:
        """Have it done, or refused by name, as the model says."""
        try:
            self.run(self.staff.do(*deed, **named))
        except ChangeRefused as refused:
            assert not is_allowed, (deed, refused)
            assert fault is None or refused.fault is fault, (deed, refused)
            return False
        assert is_allowed, deed
        return True

    def meter(self, n: int) -> ModelMeter:
        return self.meters[n % len(self.meters)]

    def point(self, n: int) -> str:
        return sorted(self.points)[n % len(self.points)]

    def at(self, point: str) -> ModelMeter | None:
        return next((m for m in self.meters if m.point == point), None)

    # --- the deeds ---

    @rule(n=number, tariff=number)
    def add_point(self, n: int, tariff: int) -> None:
        code, account = f"SP-M{len(self.points)}", ACCOUNTS[n % len(ACCOUNTS)]
        self.tariffs[code] = TARIFFS[tariff % len(TARIFFS)]
        self.do(True, service_points.add, code, account_no=account, area="Model", tariff_code=self.tariffs[code])
        self.points[code] = account

    @rule()
    def new_meter(self) -> None:
        drn = self.run(self.staff.new_meter(issued=False))
        self.meters.append(ModelMeter(drn, Status.IN_STOCK))

    @rule(n=number, deed=st.sampled_from(FREE_MOVES))
    def move(self, n: int, deed: Deed) -> None:
        meter = self.meter(n)
        after = TABLE[meter.status].get(deed)
        if self.do(after is not None, metermoves.move, meter.drn, deed, by=ENGINEER, fault=Fault.STATUS):
            assert after is not None
            meter.status = after

    @rule(n=number, deed=st.sampled_from(sorted(PLACED)))
    def change_in_place(self, n: int, deed: Deed) -> None:
        meter = self.meter(n)
        after = TABLE[meter.status].get(deed)
        if self.do(after is not None, PLACED[deed], meter.drn, by=ENGINEER, fault=Fault.STATUS):
            assert after is not None
            meter.status = after

    @rule(n=number, at=number)
    def install(self, n: int, at: int) -> None:
        meter, point = self.meter(n), self.point(at)
        is_allowed = meter.status is Status.ISSUED and self.at(point) is None
        if self.do(is_allowed, metermoves.install, meter.drn, point, next_key, by=ENGINEER):
            meter.status, meter.point, meter.replaced_by = Status.INSTALLED, point, None

    @rule(n=number)
    def remove(self, n: int) -> None:
        meter = self.meter(n)
        is_allowed = meter.status in AT_POINT
        if self.do(is_allowed, metermoves.remove, meter.drn, TakenDown(n, None), by=ENGINEER, fault=Fault.STATUS):
            meter.status, meter.point = Status.REMOVED, None

    @rule(n=number, by=number)
    def replace(self, n: int, by: int) -> None:
        old, new = self.meter(n), self.meter(by)
        is_allowed = old is not new and old.status in AT_POINT and new.status is Status.ISSUED
        if self.do(is_allowed, metermoves.replace, old.drn, new.drn, next_key, TakenDown(), by=ENGINEER):
            new.status, new.point, new.replaced_by = Status.INSTALLED, old.point, None
            old.status, old.point, old.replaced_by = Status.REMOVED, None, new.drn

    @rule(n=number, tariff=number)
    def set_tariff(self, n: int, tariff: int) -> None:
        point, code = self.point(n), TARIFFS[tariff % len(TARIFFS)]
        is_allowed = self.tariffs[point] != code
        if self.do(is_allowed, service_points.set_tariff, point, code, next_key, fault=Fault.SAME):
            self.tariffs[point] = code

    @rule(n=number, to=number)
    def transfer(self, n: int, to: int) -> None:
        point, account = self.point(n), ACCOUNTS[to % len(ACCOUNTS)]
        is_allowed = self.points[point] != account
        if self.do(is_allowed, service_points.transfer, point, account, debts_stay=True, fault=Fault.SAME):
            self.points[point] = account

    @rule(n=number, mode=st.sampled_from(DebtMode))
    def add_debt(self, n: int, mode: DebtMode) -> None:
        code, point = f"D-M{len(self.debts)}", self.point(n)
        terms = Agreement(
            n % 5, mode, 2_000 if mode is DebtMode.FIXED else 0, "20" if mode is DebtMode.PERCENT else "0"
        )
        self.do(True, debts.add, code, point=point, kind="OTHER", amount_minor=3_000 + n, agreement=terms, by=FINANCE)
        self.debts[code] = [point, "ACTIVE"]

    @precondition(lambda self: self.debts)
    @rule(n=number, deed=st.sampled_from([debts.suspend, debts.resume, debts.write_off]))
    def turn_debt(self, n: int, deed: Any) -> None:
        code = sorted(self.debts)[n % len(self.debts)]
        state = self.run(self.staff.read(debts.known, code)).state
        takes, gives = {
            debts.suspend: (("ACTIVE",), "SUSPENDED"),
            debts.resume: (("SUSPENDED",), "ACTIVE"),
            debts.write_off: (("ACTIVE", "SUSPENDED"), "WRITTEN_OFF"),
        }[deed]
        beside = SUPERVISOR if deed is debts.write_off else None
        if self.do(state in takes, deed, code, by=FINANCE, beside=beside, fault=Fault.STATUS):
            assert self.run(self.staff.read(debts.known, code)).state == gives

    @rule(n=number)
    def close(self, n: int) -> None:
        """These customers always have something on their accounts."""
        self.do(False, customers.close, ACCOUNTS[n % 3], minor_digits=2, fault=Fault.NOT_SETTLED)

    @rule(days=st.integers(0, 40))
    def time_passes(self, days: int) -> None:
        self.counter.world.advance(days=days, seconds=61)

    @rule(n=number)
    def buy(self, n: int) -> None:
        meter = self.meter(n)
        self.amount_minor += 7  # never the same wish twice
        self.counter.world.advance(seconds=61)  # and never so many a minute that identifiers run ahead
        done = self.run(self.counter.buy(self.amount_minor, drn=meter.drn, sender=AGENT))
        if meter.status is Status.INSTALLED:
            assert done.state is State.VENDED, (meter, done.reason)
        else:
            expected = Reason.METER_REPLACED if meter.replaced_by is not None else Reason.METER_BLOCKED
            assert done.reason is expected, (meter, done.reason)


@pytest.mark.parametrize(("database", "examples"), [("sqlite", 8), ("postgresql", 2)])
def test_records_change_among_purchases_and_all_stays_whole(
    database: str, examples: int, request: pytest.FixtureRequest
) -> None:
    class OnDatabase(Records):
        cluster = request.getfixturevalue("postgres_cluster") if database == "postgresql" else None

    run_state_machine_as_test(
        OnDatabase,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
