"""Deposits, counter sales, shifts and banking in any order: balances and totals match a model, and the books hold.

Then what schemes earn, by table, and the rules that a person at a terminal cannot reach.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from channels.contract import Inbound
from channels.counter import CounterSale
from config.settings import Settings
from gateway.deeds import Arrival
from gateway.purchase import State
from gateway.vend import Shop
from ledger import commissions, deposits, operators, shifts, stations
from ledger.audit import Origin, Verified, verify
from ledger.commissions import SchemeFault, Step, earned_minor, version, with_version, write
from ledger.counter import CHANNEL, sender_of
from ledger.deposits import New, Slip
from ledger.operators import Cost, Operator, OperatorRefused, Role
from ledger.pricing import commission
from ledger.shifts import Count
from ledger.stations import StationRefused
from ledger.store import open_store
from ledger.trial_balance import broken_invariants
from sts.modules.software import SoftwareModule
from tests.simulation.shop import UTILITY, open_counter, sample_keys
from tests.simulation.world import SeededWorld

DAY: Final = date(2026, 6, 5)
ANN = Operator("op.ann", "Ann", frozenset({Role.VENDOR}), "en", "ST001")
NJERI = Operator("ag.njeri", "Njeri", frozenset({Role.VENDOR}), "en", "ST002")
BEN = Operator("op.ben", "Ben", frozenset({Role.SUPERVISOR}), "en", "ST001")
ZOE = Operator("fin.zoe", "Zoe", frozenset({Role.FINANCE}), "en", None)
MAX = Operator("fin.max", "Max", frozenset({Role.FINANCE}), "en", None)
LEE = Operator("adm.lee", "Lee", frozenset({Role.ADMIN}), "en", None)
METERS: Final = ("04012345676", "07003012213", "14252321808")
LIMIT_MINOR: Final = 300_000
FLOAT_MINOR: Final = 2_500_000
STATIONS: Final = {"ST001": ("owed:ST001", ANN), "ST002": ("float:ST002", NJERI)}


def _base() -> Path:
    """A utility with its people, made once and copied for each history."""
    if not _made:
        folder = Path(tempfile.mkdtemp(prefix="prepaid-stations-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = folder / "base.db"

        async def make() -> None:
            async with open_counter(f"sqlite:///{path}") as counter:

                def hire(connection: sa.Connection) -> None:
                    origin = Origin("test", counter.world.now(), "test")
                    for person in (LEE, ANN, NJERI, BEN, ZOE, MAX):
                        by = None if person is LEE else LEE
                        operators.add(
                            connection, person, "a good password", bytes(16), by=by, origin=origin, cost=Cost(log2_n=4)
                        )
                    stations.set_limit(connection, "ST001", LIMIT_MINOR, by=ZOE, beside=MAX, origin=origin)

                await counter.store.transact(hire)

        asyncio.run(make())
        _made.append(path)
    return _made[0]


_made: list[Path] = []


@dataclass
class Model:
    """What must be in the books, by simple sums."""

    balance_minor: dict[str, int] = field(default_factory=lambda: {"ST001": 0, "ST002": FLOAT_MINOR})
    bank_minor: int = 0
    over_minor: int = 0
    sold_minor: dict[str, int] = field(default_factory=dict)  # cash and cheques of each open shift
    counted_minor: dict[str, int] = field(default_factory=dict)  # of closed shifts, less what was sold
    takings_minor: dict[str, int] = field(default_factory=dict)  # of closed shifts, what goes to the bank
    entered: dict[str, tuple[str, int]] = field(default_factory=dict)  # deposits that wait: station and amount
    approved: dict[str, tuple[str, int]] = field(default_factory=dict)
    batches: dict[str, list[str]] = field(default_factory=dict)  # open ones, with their shifts
    banked: dict[str, str] = field(default_factory=dict)  # deposit -> batch

    def room_minor(self, station: str) -> int:
        return self.balance_minor[station] + (LIMIT_MINOR if station == "ST001" else 0)


class Stations(RuleBasedStateMachine):
    """A supervisor's days, in any order."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="prepaid-stations-"))
        shutil.copyfile(_base(), self.folder / "t.db")
        self.runner = asyncio.Runner()
        self.store = self.runner.run(open_store(f"sqlite:///{self.folder}/t.db"))
        self.world = SeededWorld(seed=7)
        self.world.advance(minutes=60)
        self.shop = Shop.of(Settings(utility=UTILITY), self.world, SoftwareModule(sample_keys()))
        self.model = Model()
        self.numbers = 0

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def do(self, function: Callable[[sa.Connection, Origin], Any]) -> Any:
        origin = Origin("test", self.world.now(), "test", "a reason")
        return self.runner.run(self.store.transact(lambda connection: function(connection, origin)))

    def refused(self, function: Callable[[sa.Connection, Origin], Any]) -> None:
        with pytest.raises((StationRefused, OperatorRefused)):
            self.do(function)

    def new(self) -> New:
        self.numbers += 1
        return New(self.world.new_id(), f"N{self.numbers}")

    # --- rules ---

    @precondition(lambda self: len(self.model.sold_minor) < 2)
    @rule(station=st.sampled_from(list(STATIONS)), float_minor=st.sampled_from([0, 50_000]))
    def open_shift(self, station: str, float_minor: int) -> None:
        who, shift_id = STATIONS[station][1], self.world.new_id()
        work = lambda c, origin: shifts.open_shift(c, shift_id, float_minor, by=who, origin=origin)  # noqa: E731
        if any(code.startswith(who.login) for code in self.model.sold_minor):
            self.refused(work)
        else:
            self.model.sold_minor[self.do(work).code] = 0

    @rule(
        station=st.sampled_from(list(STATIONS)),
        drn=st.sampled_from(METERS),
        cash=st.integers(0, 90_000),
        card=st.sampled_from([0, 0, 20_000]),
        cheque=st.sampled_from([0, 0, 30_000]),
    )
    def sell(self, station: str, drn: str, cash: int, card: int, cheque: int) -> None:
        account, who = STATIONS[station]
        self.numbers += 1
        amount_minor = cash + card + cheque
        sale = CounterSale(drn, amount_minor, 9, who.login, station, self.numbers, cash, card, cheque)
        inbound = Inbound(
            CHANNEL, station, f"{self.numbers}", hashlib.blake2b(repr(sale).encode(), digest_size=16).digest(),
            sender_of(who.login, station), station, sale, self.world.now(),
        )  # fmt: skip
        done = self.runner.run(self.store.submit(Arrival(self.shop, inbound)))
        if done.state is not State.VENDED:
            assert amount_minor < 2_000 or amount_minor > self.model.room_minor(station), done.reason
            return
        assert amount_minor <= self.model.room_minor(station)
        self.model.balance_minor[station] -= amount_minor
        for code in self.model.sold_minor:
            if code.startswith(who.login):
                self.model.sold_minor[code] += amount_minor - card

    @precondition(lambda self: self.model.sold_minor)
    @rule(data=st.data(), difference=st.sampled_from([-5_000, 7_000, 0]), goes_on=st.booleans())
    def close_shift(self, data: st.DataObject, difference: int, goes_on: bool) -> None:
        code = data.draw(st.sampled_from(sorted(self.model.sold_minor)))
        found = self.do(lambda c, origin: shifts.known(c, code))
        cash_minor = max(0, found.float_minor + found.sold_cash_minor + difference)
        count = Count({100: cash_minor // 100, 1: cash_minor % 100}, found.sold_card_minor, found.sold_cheque_minor)
        who = next(each for _, each in STATIONS.values() if code.startswith(each.login))
        self.do(
            lambda c, origin: shifts.close_shift(c, code, count, "counted so", minor_digits=2, by=who, origin=origin)
        )
        self.refused(
            lambda c, origin: shifts.close_shift(c, code, count, "again", minor_digits=2, by=who, origin=origin)
        )
        sold = self.model.sold_minor.pop(code)
        self.model.takings_minor[code] = cash_minor - found.float_minor + found.sold_cheque_minor
        self.model.counted_minor[code] = self.model.takings_minor[code] - sold
        if goes_on:
            self._acknowledge(code)

    @precondition(lambda self: self.model.counted_minor)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        self._acknowledge(data.draw(st.sampled_from(sorted(self.model.counted_minor))))

    def _acknowledge(self, code: str) -> None:
        txn_id, difference = self.world.new_id(), self.model.counted_minor[code]
        work = lambda c, origin: shifts.acknowledge(c, code, txn_id, DAY, "KES", by=MAX, origin=origin)  # noqa: E731
        on_credit = code.startswith(ANN.login)
        if on_credit and difference > self.model.room_minor("ST001"):
            self.refused(work)
            return
        self.do(work)
        del self.model.counted_minor[code]
        if on_credit:
            self.model.balance_minor["ST001"] -= difference
            self.model.over_minor += difference

    @precondition(lambda self: len(self.model.entered) < 2)
    @rule(station=st.sampled_from(list(STATIONS)), amount=st.integers(1, 200_000), slip=st.integers(1, 4))
    def enter_deposit(self, station: str, amount: int, slip: int) -> None:
        new = self.new()
        paid = Slip.of("KCB", f"{station} {slip}", amount, DAY, DAY)
        work = lambda c, origin: deposits.enter(c, new, station, paid, by=ZOE, origin=origin)  # noqa: E731
        listed = self.do(lambda c, origin: deposits.listed(c))
        if any(one.slip == paid.number and one.state in ("ENTERED", "APPROVED") for one in listed):
            self.refused(work)
        else:
            self.do(work)
            self.model.entered[new.code] = station, amount

    @precondition(lambda self: self.model.entered)
    @rule(data=st.data(), is_right=st.sampled_from([True, True, False]))
    def decide(self, data: st.DataObject, is_right: bool) -> None:
        code = data.draw(st.sampled_from(sorted(self.model.entered)))
        txn_id = self.world.new_id()
        self.refused(lambda c, origin: deposits.approve(c, code, txn_id, DAY, by=ZOE, origin=origin))
        station, amount = self.model.entered.pop(code)
        if is_right:
            self.do(lambda c, origin: deposits.approve(c, code, txn_id, DAY, by=MAX, origin=origin))
            self.model.approved[code] = station, amount
            self.model.balance_minor[station] += amount
            self.model.bank_minor += amount
        else:
            self.do(lambda c, origin: deposits.refuse(c, code, by=MAX, origin=origin))
            self._reopen(code)
        self.refused(lambda c, origin: deposits.refuse(c, code, by=MAX, origin=origin))

    @precondition(lambda self: self.model.approved)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        code = data.draw(st.sampled_from(sorted(self.model.approved)))
        txn_id, (station, amount) = self.world.new_id(), self.model.approved[code]
        work = lambda c, origin: deposits.reverse(c, code, txn_id, DAY, by=ZOE, beside=MAX, origin=origin)  # noqa: E731
        if amount > self.model.room_minor(station):
            self.refused(work)
            return
        self.do(work)
        del self.model.approved[code]
        self.model.balance_minor[station] -= amount
        self.model.bank_minor -= amount
        self._reopen(code)

    @precondition(lambda self: self.model.takings_minor)
    @rule(data=st.data(), goes_on=st.booleans())
    def open_batch(self, data: st.DataObject, goes_on: bool) -> None:
        code = data.draw(st.sampled_from(sorted(self.model.takings_minor)))
        new, station = self.new(), "ST001" if code.startswith(ANN.login) else "ST002"
        work = lambda c, origin: deposits.open_batch(c, new, station, [code], by=ZOE, origin=origin)  # noqa: E731
        taken = [each for several in self.model.batches.values() for each in several]
        if code in taken or any(batch in self.model.banked.values() for batch in self._batch_of(code)):
            self.refused(work)
        elif not self._batch_of(code):
            if self.model.takings_minor[code] < 0:
                self.refused(work)
                return
            self.do(work)
            self.model.batches[new.code] = [code]
            if goes_on:
                self._bank(new.code)

    def _batch_of(self, code: str) -> list[str]:
        batches = self.do(lambda c, origin: deposits.batches(c))
        return [batch.code for batch in batches if code in batch.shifts]

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data())
    def bank(self, data: st.DataObject) -> None:
        self._bank(data.draw(st.sampled_from(sorted(self.model.batches))))

    def _bank(self, code: str) -> None:
        new, amount = self.new(), sum(self.model.takings_minor[each] for each in self.model.batches[code])
        close = lambda c, origin: deposits.close_batch(c, code, by=ZOE, origin=origin)  # noqa: E731
        if amount == 0:
            assert self.do(close).state == deposits.CONFIRMED
            del self.model.batches[code]
            return
        self.refused(close)
        slip = Slip.of("COOP", new.code, amount, DAY, DAY)
        wrong = replace(slip, amount_minor=amount + 1)
        self.refused(lambda c, origin: deposits.bank(c, code, new, wrong, by=ZOE, origin=origin))
        batch = self.do(lambda c, origin: deposits.bank(c, code, new, slip, by=ZOE, origin=origin))
        self.model.banked[new.code] = code
        self.model.entered[new.code] = batch.station, amount
        del self.model.batches[code]

    def _reopen(self, deposit: str) -> None:
        if deposit in self.model.banked:
            code = self.model.banked.pop(deposit)
            batch = self.do(lambda c, origin: deposits.batch_known(c, code))
            assert batch.state == "OPEN"
            self.model.batches[code] = list(batch.shifts)

    # --- what must hold after every step ---

    @invariant()
    def the_books_are_what_the_model_says(self) -> None:
        def look(connection: sa.Connection, origin: Origin) -> None:
            assert broken_invariants(connection) == []
            assert isinstance(verify(connection), Verified)
            from ledger.trial_balance import trial_balance

            lines = {line.code: line.credit_minor - line.debit_minor for line in trial_balance(connection)}
            for station, (account, _) in STATIONS.items():
                assert lines.get(account, 0) == self.model.balance_minor[station], account
            assert lines.get("clearing:bank", 0) == -self.model.bank_minor
            assert lines.get("overshort:ST001", 0) == self.model.over_minor
            assert sum(lines.values()) == 0

        if hasattr(self, "runner"):
            self.do(look)


Stations.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
test_any_order_of_deposits_sales_shifts_and_banking_keeps_the_books = Stations.TestCase


# --- commission -------------------------------------------------------------------------------------------------------

# Worked by hand: amount, tenths of a kWh, debts -> earned, under the scheme beside it.
SCHEME = write([
    version(date(2026, 1, 1), [Step(percent="2")]),
    version(date(2026, 6, 1), [Step(percent="1.5", fixed_minor=100), Step(100_000, "2.25", 0, "5", "10")]),
])  # fmt: skip
EARNED: list[tuple[date, int, int, int, int]] = [
    (date(2025, 12, 31), 50_000, 226, 0, 0),  # no version holds yet
    (date(2026, 1, 1), 50_000, 226, 0, 1_000),
    (date(2026, 5, 31), 25, 1, 0, 1),  # 0.5 rounds up
    (date(2026, 6, 1), 50_000, 226, 9_000, 850),  # 750 + 100
    (date(2026, 6, 5), 99_999, 400, 0, 1_600),  # 1499.985 + 100 = 1599.985
    (date(2026, 6, 5), 100_000, 443, 0, 2_472),  # 2250 + 44.3 * 5 = 2471.5
    (date(2026, 6, 5), 100_000, 443, 1_005, 2_572),  # + 100.5
]


@pytest.mark.parametrize(("day", "amount", "units", "debts", "earned"), EARNED)
def test_a_scheme_earns_what_is_worked_by_hand(day: date, amount: int, units: int, debts: int, earned: int) -> None:
    assert earned_minor(SCHEME, "9", day, amount_minor=amount, units_tenths=units, debts_minor=debts) == earned


@settings(deadline=None)
@given(st.integers(1, 10**9), st.decimals(0, 100, places=4).filter(lambda p: p == 0 or p >= 1))
def test_a_single_percentage_is_rule_13_to_the_minor_unit(amount: int, percent: Any) -> None:
    text = f"{percent.normalize():f}"
    scheme = write([version(DAY, [Step(percent=text)])])
    expected = commission(amount, Fraction(percent))
    for rules, plain in ((scheme, None), (None, text)):
        assert earned_minor(rules, plain, DAY, amount_minor=amount, units_tenths=5, debts_minor=7) == expected


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Step(from_minor=1)],
        [Step(), Step(from_minor=0)],
        [Step(percent="0.016")],
        [Step(percent="101")],
        [Step(percent="1e2")],
        [Step(percent="-1")],
        [Step(debt_percent="x")],
        [Step(fixed_minor=-1)],
        [Step(per_kwh_minor="-1")],
    ],
)
def test_a_scheme_that_cannot_be_meant_is_refused(steps: list[Step]) -> None:
    with pytest.raises(SchemeFault):
        version(DAY, steps)


def test_a_version_that_has_begun_stays() -> None:
    first = with_version((), version(DAY, [Step(percent="2")]), DAY)
    for day in (DAY, date(2026, 6, 4)):
        with pytest.raises(SchemeFault, match="sales may have used it"):
            with_version(first, version(day, [Step(percent="3")]), DAY)
    both = with_version(first, version(date(2026, 6, 6), [Step(percent="3")]), DAY)
    assert commissions.read(write(both)) == both


def test_a_slip_is_known_again_however_it_is_written() -> None:
    now = datetime(2026, 6, 5, tzinfo=UTC).date()
    one, other = Slip.of("Kenya  Bank", "a 12", 5, now, now), Slip.of(" kenya bank", "A12 ", 5, now, now)
    assert one == other
