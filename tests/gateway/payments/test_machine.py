"""One order against a provider that may do anything: every interleaving of the tables, and a model on both databases.

Money is taken exactly when a token was given, or it is in the payer's prepaid money, or in suspense.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from channels.commands import Buy, Unreadable
from gateway.payments import life
from gateway.payments.contract import Event, PaymentState, Why
from gateway.payments.life import OPEN, TABLE, Effect, Said, State, Step
from ledger import payment_tables
from ledger.reasons import Reason
from tests.gateway.payments.till import Till, open_till
from tests.simulation.payments_day import Day
from tests.simulation.shop import METER
from tests.simulation.utility import unknown_drn

T = TypeVar("T")
Table = dict[State, dict[Said, Step]]

# --- every interleaving -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Situation:
    """A payment here, and the truth at its source. `air`: words that were true once and may arrive, again and again."""

    state: State = State.OWED
    sending: bool = True  # our request is out, or will be
    has_it: bool = False  # the source has the request
    taken: bool = False
    ended: bool = False  # the payer has agreed or not
    back: bool = False  # taken back again
    booked: int = 0
    sent: int = 0
    air: frozenset[Said] = frozenset()


def _hear(now: Situation, said: Said, table: Table) -> Situation:
    step = table[now.state][said]
    booked = now.booked + (step.effect is Effect.BOOK) - (step.effect is Effect.TAKE_BACK)
    return replace(now, state=step.state, booked=booked, sending=now.sending or step.effect is Effect.COLLECT)


def _next(now: Situation, table: Table) -> Iterator[Situation]:
    if now.sending:
        arrived = replace(now, sending=False, has_it=True, sent=now.sent + (not now.has_it))
        yield _hear(arrived, Said.ASKED, table)
        yield _hear(arrived, Said.UNCLEAR, table)  # its answer is lost
        yield _hear(replace(now, sending=False), Said.UNCLEAR, table)  # the request is lost
        yield replace(arrived)  # we crash before the answer is stored
        yield replace(now, sending=False)  # we crash before it is sent
        if not now.has_it:
            yield _hear(replace(now, sending=False), Said.DECLINED, table)
    if now.has_it and not now.ended:
        yield replace(now, ended=True, taken=True, air=now.air | {Said.SUCCESS})
        yield replace(now, ended=True, air=now.air | {Said.FAILED})
        yield replace(now, air=now.air | {Said.PENDING, Said.FAILED})  # a word that is not true for long
    if now.taken and not now.back:
        yield replace(now, back=True, air=now.air | {Said.REVERSED})
    for said in now.air:
        yield _hear(now, said, table)
    if now.state in OPEN and not now.sending:
        yield _hear(now, Said.UNCLEAR, table)
        yield _hear(now, _truth(now), table)
        yield _hear(now, Said.TIME_UP, table)


def _truth(now: Situation) -> Said:
    """What the source says when it is asked."""
    if not now.has_it:
        return Said.UNKNOWN
    if now.taken:
        return Said.REVERSED if now.back else Said.SUCCESS
    return Said.FAILED if now.ended else Said.PENDING


def _walk(table: Table) -> tuple[int, list[Situation]]:
    """How many situations there are, and those in which what was booked is not what was taken."""
    seen, todo, wrong = {Situation()}, [Situation()], list[Situation]()
    while todo:
        now = todo.pop()
        ends = []
        for order in (False, True):  # whatever is in the air arrives in the end
            last = now
            for said in sorted(now.air, reverse=order):
                last = _hear(last, said, table)
            ends.append(last.booked)
        is_well = now.booked in (0, 1) and now.booked <= now.taken and (now.state is State.PAID) == (now.booked == 1)
        if not is_well or set(ends) != {int(now.taken and not now.back)}:
            wrong.append(now)
            continue
        for following in _next(now, table):
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return len(seen), wrong


def test_every_interleaving_books_what_was_taken_once() -> None:
    situations, wrong = _walk(TABLE)
    assert wrong == [] and situations >= 40


def test_the_diagram_in_the_documentation_is_this_table() -> None:
    text = (Path(life.__file__).parent.parent.parent / "docs" / "payments.md").read_text(encoding="utf-8")
    assert life.diagram() in text


@pytest.mark.parametrize(
    ("state", "said", "wrong"),
    [
        (State.PAID, Said.FAILED, Step(State.FAILED, Effect.TAKE_BACK)),  # a late failure undoes a success
        (State.PAID, Said.SUCCESS, Step(State.PAID, Effect.BOOK)),  # a repeat is booked again
        (State.FAILED, Said.SUCCESS, Step(State.FAILED, Effect.NOTHING)),  # a success behind a failure is lost
        (State.EXPIRED, Said.SUCCESS, Step(State.EXPIRED, Effect.NOTHING)),
        (State.UNCLEAR, Said.SUCCESS, Step(State.ASKED, Effect.ASK)),
        (State.PAID, Said.REVERSED, Step(State.PAID, Effect.NOTHING)),  # what was taken back stays in the books
        (State.REVERSED, Said.SUCCESS, Step(State.PAID, Effect.BOOK)),  # a success behind its reversal is booked
    ],
)
def test_the_walk_catches_a_wrong_row(state: State, said: Said, wrong: Step) -> None:
    _, found = _walk({**TABLE, state: {**TABLE[state], said: wrong}})
    assert found


# --- the model --------------------------------------------------------------------------------------------------------


def _nth(some: Sequence[T], pick: int) -> T:
    return some[pick % len(some)]


class Machine(RuleBasedStateMachine):
    """One payer. `day` keeps what was ever said; a new example is a new phone in the same books."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    till: ClassVar[Till]
    day: Day
    phones: ClassVar[int] = 0

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def payer(self) -> None:
        Machine.phones += 1
        self.day = Day(self.till, Machine.phones, (METER,))
        self.phone = f"2547{20_000_000 + Machine.phones}"
        self.day.phones = [self.phone]
        self.mine: list[Any] = []
        self.till.money.asks, self.till.money.polls = [], []

    @rule(amount=st.sampled_from([5_000, 20_000]), how=st.sampled_from(["well", "well", "lost", "silent", "declined"]))
    def order(self, amount: int, how: str) -> None:
        before = {row["id"] for row in self._do(self.till.rows(payment_tables.payment))}
        self.till.money.asks = [how]
        self._do(self.till.text(Buy(METER, amount), self.phone))
        rows = self._do(self.till.rows(payment_tables.payment))
        self.mine.extend(row["id"] for row in rows if row["id"] not in before and row["purpose"] == "ORDER")
        self.till.money.asks = []

    @rule(pick=st.integers(0, 7), more=st.sampled_from([0, 0, -1_000, 3_000]), agrees=st.booleans(), said=st.booleans())
    def answer(self, pick: int, more: int, agrees: bool, said: bool) -> None:
        known = [ref for ref in self.mine if ref in self.till.money.accounts]
        if not known:
            return
        ref = _nth(known, pick)
        money = self.till.money
        word = money.take(ref, money.accounts[ref].order.amount_minor + more) if agrees else money.fail(ref)
        self.day.said.append(word)
        if said:
            self._do(self.till.hears(word))

    @rule(pick=st.integers(0, 7))
    def a_failure_that_is_not_true(self, pick: int) -> None:
        if self.mine:
            ref = _nth(self.mine, pick)
            now = self.till.counter.world.now()
            self._do(self.till.hears(Event(PaymentState.FAILED, now, our_ref=ref, why=Why.EXPIRED)))

    @rule(pick=st.integers(0, 7))
    def charged_again(self, pick: int) -> None:
        paid = [ref for ref in self.mine if ref in self.till.money.accounts and self.till.money.accounts[ref].receipt]
        if paid:
            self.day.said.append(self.till.money.charge_again(_nth(paid, pick)))

    @rule(written=st.sampled_from([METER, unknown_drn(5), "rent"]), said=st.booleans())
    def pays_of_her_own_accord(self, written: str, said: bool) -> None:
        self.day.said.append(self.till.money.paybill(self.phone, written, 10_000))
        if said:
            self._do(self.till.hears(self.day.said[-1]))

    @rule()
    def names_the_right_meter(self) -> None:
        self._do(self.till.text(Unreadable(Reason.AMOUNT_NEEDED, METER), self.phone))

    @rule(pick=st.integers(0, 7))
    def a_word_again(self, pick: int) -> None:
        if self.day.said:
            self._do(self.till.hears(_nth(self.day.said, pick)))

    @rule(pick=st.integers(0, 7), said=st.booleans())
    def taken_back(self, pick: int, said: bool) -> None:
        taken = [word for word in self.day.said if self.day._is_taken(word)]
        if taken:
            word = self.till.money.take_back(_nth(taken, pick))
            self.day.said.append(word)
            if said:
                self._do(self.till.hears(word))

    @rule(seconds=st.sampled_from([6, 61, 700, 90_000]), silent=st.booleans())
    def time_goes_by(self, seconds: int, silent: bool) -> None:
        self.till.money.polls = ["silent"] if silent else []
        self._do(self.till.waits(seconds=seconds))
        self.till.money.polls = []

    @rule()
    def crash(self) -> None:
        self.till.crash()

    def teardown(self) -> None:
        if hasattr(self, "day"):
            for word in [*self.day.said, *reversed(self.day.said)]:
                self._do(self.till.hears(word))
            self._do(self.till.waits(hours=25))
            assert [line for line in self._do(self.day.complaints()) if self.phone in line] == []
            self._do(self.till.check())


def test_one_order_against_a_provider_that_may_do_anything(database_url: str) -> None:
    loop = asyncio.new_event_loop()
    opened = open_till(database_url)
    Machine.loop = loop
    Machine.till = loop.run_until_complete(opened.__aenter__())
    examples = settings(
        max_examples=20,
        stateful_step_count=12,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Machine, settings=examples)
    finally:
        loop.run_until_complete(opened.__aexit__(None, None, None))
        loop.close()
