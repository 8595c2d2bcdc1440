"""Random hours of the whole service, each from a seed, then its books opened; and builds broken on purpose.

One seed again:    python -m tests.simulation.test_service --seeds 1 --from N --events 60
A campaign:        python -m tests.simulation.test_service --seeds 10000 --from 1
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import pytest
import sqlalchemy as sa

from channels.contract import Inbound, NotStored, Outcome, Reply, Sent
from gateway import again, delivery, tokens, undo, vend
from gateway.deeds import Arrival
from gateway.delivery import Delivery, Owed
from gateway.desk import VendingDesk
from gateway.purchase import Event
from gateway.reversal import Reverse, Seen
from gateway.vend import Ask, Done, Life, Vending
from ledger import books, outbox
from ledger.unit import Unit
from sts import tid
from sts.modules.contract import CreditRequest
from tests.simulation.checks import complaints_of
from tests.simulation.loop import JumpingLoop, Stuck
from tests.simulation.message_centre import Line
from tests.simulation.service import HOUR_S, Books, Plan, Run, plan_of, task_factory, template

SEEDS: Final = 40
CAUGHT_WITHIN: Final = 100  # seeds, for every deliberately broken build
EVENTS_SHOWN: Final = 40
COMPLAINTS_SHOWN: Final = 12
PROGRESS_EVERY: Final = 500


# --- running ----------------------------------------------------------------------------------------------------------


class _Ear(logging.Handler):
    records: list[logging.LogRecord]

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _overheard() -> Iterator[list[logging.LogRecord]]:
    """Everything that is logged as a warning or worse, kept and not printed."""
    records: list[logging.LogRecord] = []
    handler = _Ear(logging.WARNING)
    handler.records = records
    loggers = [logging.getLogger(name) for name in ("gateway", "ledger", "channels", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield records
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


@dataclass(slots=True)
class Result:
    """What a seed came to."""

    seed: int
    complaints: list[str]
    digest: str
    sold: int
    history: list[tuple[Any, ...]] = field(repr=False)

    def report(self, events: int = EVENTS_SHOWN) -> str:
        """For a person who will run the seed again."""
        plan = repr(plan_of(self.seed))
        last = "\n".join(
            "  " + " ".join(str(part) for part in event) for event in self.history[max(0, len(self.history) - events) :]
        )
        wrong = "\n".join(f"  * {complaint}" for complaint in self.complaints[:COMPLAINTS_SHOWN])
        return f"seed {self.seed}:\n{wrong}\n{plan}\nthe last events of {len(self.history)}:\n{last}"


def simulate(seed: int) -> Result:
    """Run one seed."""
    kept = random.getstate()
    random.seed(seed)  # tenacity draws its pauses there
    template()  # before any loop runs
    try:
        with _overheard() as records, asyncio.Runner(loop_factory=JumpingLoop) as runner:
            loop = runner.get_loop()
            loop.set_task_factory(task_factory)
            return runner.run(_live(plan_of(seed), records))
    finally:
        random.setstate(kept)


async def _live(plan: Plan, records: list[logging.LogRecord]) -> Result:
    run = Run(plan)
    try:
        try:
            await run.go()
        finally:
            for node in run.nodes:
                if node.is_up:
                    node.crash()
        await asyncio.sleep(0)
        after = Books(run.database)
        return Result(plan.seed, complaints_of(run, after, records), run.digest(), len(after.vended), run.history)
    finally:
        run.database.close()


# --- builds that are broken on purpose --------------------------------------------------------------------------------


def _acknowledges_what_was_not_stored(patch: pytest.MonkeyPatch) -> None:
    honest = VendingDesk.receive

    async def receive(desk: VendingDesk, inbound: Inbound) -> None:
        try:
            await honest(desk, inbound)
        except NotStored:
            pass

    patch.setattr(VendingDesk, "receive", receive)


def _marks_replies_before_sending_them(patch: pytest.MonkeyPatch) -> None:
    honest = Line.send

    async def send(line: Line, reply: Reply) -> Sent:
        line._spawn(_forget(honest(line, reply)))
        return Sent(Outcome.TAKEN)

    patch.setattr(Line, "send", send)


async def _forget(work: Awaitable[object]) -> None:
    await work


def _does_not_look_for_repeats(patch: pytest.MonkeyPatch) -> None:
    honest = Arrival.decide

    def decide(arrival: Arrival, unit: Unit) -> Done:
        unit.requests.pop(arrival.idem_key, None)
        return honest(arrival, unit)

    patch.setattr(Arrival, "decide", decide)


def _answers_though_the_deed_failed(patch: pytest.MonkeyPatch) -> None:
    decided: dict[int, list[Reply]] = {}
    honest_decide, honest_receive = Arrival.decide, VendingDesk.receive

    def decide(arrival: Arrival, unit: Unit) -> Done:
        done = honest_decide(arrival, unit)
        decided[id(arrival.inbound)] = done.replies
        return done

    async def receive(desk: VendingDesk, inbound: Inbound) -> None:
        try:
            await honest_receive(desk, inbound)
        except NotStored:
            desk._outgoing.enqueue(decided.get(id(inbound), []))
            raise

    patch.setattr(Arrival, "decide", decide)
    patch.setattr(VendingDesk, "receive", receive)


def _asks_with_a_new_nibble_each_time(patch: pytest.MonkeyPatch) -> None:
    honest = VendingDesk._make

    async def make(desk: VendingDesk, ask: Ask) -> tuple[list[str], list[str]]:
        world = desk._shop.world
        drawn = [
            replace(one, request=replace(one.request, rnd=world.nibble()))
            if isinstance(one.request, CreditRequest)
            else one
            for one in ask.requests
        ]
        return await honest(desk, replace(ask, requests=tuple(drawn)))

    patch.setattr(VendingDesk, "_make", make)


def _never_takes_up_what_was_left(patch: pytest.MonkeyPatch) -> None:
    async def resume(desk: VendingDesk, *, at_start: bool) -> int:
        return 0

    patch.setattr(VendingDesk, "resume", resume)


def _keeps_the_money_of_failed_sales(patch: pytest.MonkeyPatch) -> None:
    honest = books.release
    patch.setattr(books, "release", lambda unit, of, state: state != "VOIDED" and honest(unit, of, state))


def _takes_token_identifiers_from_the_clock_alone(patch: pytest.MonkeyPatch) -> None:
    honest = tid.next_tid
    patch.setattr(tokens, "next_tid", lambda now, base, last, **rest: honest(now, base, None, **rest))


def _claims_replies_that_others_are_sending(patch: pytest.MonkeyPatch) -> None:
    def claim(connection: sa.Connection, *, now: datetime, **rest: Any) -> Any:
        return outbox.claim(connection, now=now + timedelta(days=1), **rest)

    patch.setattr(delivery, "claim", claim)


def _prices_two_sales_of_one_point_at_once(patch: pytest.MonkeyPatch) -> None:
    honest = Vending._quote

    def quote(vending: Vending, life: Life) -> Event | None:
        point = vending.unit.points.get(life.row.service_point_id)
        if point is not None:
            vending.unit.points[point.id] = replace(point, vending=None)
        return honest(vending, life)

    patch.setattr(Vending, "_quote", quote)


def _grants_the_same_wish_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(again, "_refuse_second", lambda *given: None)


def _seals_what_may_have_been_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reverse, "_seen", lambda deed, unit, row: Seen.BY_ITS_WORD)


def _sends_what_it_has_withheld(patch: pytest.MonkeyPatch) -> None:
    honest = Delivery.withhold

    def withhold(sender: Delivery, request_id: UUID) -> list[Owed]:
        kept = honest(sender, request_id)
        sender.send_after_all(kept)
        return kept

    patch.setattr(Delivery, "withhold", withhold)


def _forgets_reversals_that_come_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reverse, "_keep_key", lambda deed, unit: None)


def _keeps_the_counters_of_what_it_undoes(patch: pytest.MonkeyPatch) -> None:
    honest = undo.undo_sale

    def undo_sale(unit: Unit, row: Any, split: Any, *rest: Any) -> None:
        honest(unit, row, {**split, "account": {**split["account"], "month_units_tenths": 7}}, *rest)

    patch.setattr(vend, "undo_sale", undo_sale)


@dataclass(frozen=True, slots=True)
class Broken:
    """A build that is broken on purpose, what the checks must say of it, and the plans under which that can show.

    `seed` is the first to try: where it was found, so that nobody waits for it again.
    """

    build: Callable[[pytest.MonkeyPatch], None]
    complaint: str
    shows: Callable[[Plan], bool] = lambda plan: True
    seed: int = 0


def _fails(plan: Plan) -> bool:
    return plan.database_troubles


def _waits(plan: Plan) -> bool:
    return not plan.answers_at_once


def _repeats(plan: Plan) -> bool:
    return plan.faults.acknowledgement_lost > 0.2 and not plan.database_troubles


def _is_reversed(plan: Plan) -> bool:
    return plan.reversals > 5


def _is_watched(plan: Plan) -> bool:
    return plan.nodes > 1 and plan.queue_max > 100 and not plan.database_troubles and not plan.clock_steps


BROKEN: Final = [
    Broken(_acknowledges_what_was_not_stored, "an acknowledged text is not stored", _fails),
    Broken(_marks_replies_before_sending_them, "a reply is marked as sent and never arrived"),
    Broken(_does_not_look_for_repeats, "never acknowledged", _repeats),
    Broken(_answers_though_the_deed_failed, "a reply was sent that is not stored", _fails),
    Broken(_asks_with_a_new_nibble_each_time, "the module was asked for two tokens with one TID", _waits),
    Broken(_never_takes_up_what_was_left, "something is still owed", _waits),
    Broken(_keeps_the_money_of_failed_sales, "money is held that nobody waits for", _waits),
    Broken(_takes_token_identifiers_from_the_clock_alone, "IntegrityError"),
    Broken(_claims_replies_that_others_are_sending, "a reply came", _is_watched, seed=25),
    Broken(_prices_two_sales_of_one_point_at_once, "tenths this month", _waits),
    Broken(_grants_the_same_wish_again, "the same wish was granted twice"),
    Broken(_seals_what_may_have_been_sent, "a phone was shown a token of no sale", _is_reversed, seed=14),
    Broken(_sends_what_it_has_withheld, "a reply that was withdrawn arrived", _is_reversed, seed=81),
    Broken(_forgets_reversals_that_come_first, "a purchase stands that was taken back", _is_reversed, seed=29),
    Broken(_keeps_the_counters_of_what_it_undoes, "tenths this month", _is_reversed, seed=62),
]


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_hour_of_the_service_keeps_every_promise(seed: int) -> None:
    result = simulate(seed)
    assert not result.complaints, result.report()


def test_equal_seeds_give_equal_histories_and_other_seeds_others() -> None:
    first, again, other = simulate(3), simulate(3), simulate(4)
    assert first.history == again.history
    assert first.digest == again.digest != other.digest


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.build.__name__[1:])
def test_a_build_that_is_broken_on_purpose_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.build(monkeypatch)
    for seed in range(broken.seed, broken.seed + CAUGHT_WITHIN):
        if broken.shows(plan_of(seed)) and any(broken.complaint in one for one in simulate(seed).complaints):
            return
    pytest.fail(f"not noticed in {CAUGHT_WITHIN} seeds")


async def _wait_for_nothing() -> None:
    await asyncio.get_running_loop().create_future()


def test_a_simulation_in_which_nothing_can_happen_says_so() -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        with pytest.raises(Stuck):
            runner.run(_wait_for_nothing())


def test_an_hour_of_waiting_takes_no_time() -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(asyncio.sleep(HOUR_S))
        assert runner.get_loop().time() == pytest.approx(HOUR_S)


# --- campaigns --------------------------------------------------------------------------------------------------------


def main() -> int:
    """Run many seeds; print those that fail, and how to see one again."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--events", type=int, default=EVENTS_SHOWN, help="events to show of a seed that fails")
    arguments = parser.parse_args()
    started, failed, sold = perf_counter(), 0, 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        result = simulate(seed)
        sold += result.sold
        if result.complaints:
            failed += 1
            print(result.report(arguments.events), flush=True)
        if (seed + 1 - arguments.first) % PROGRESS_EVERY == 0:
            print(f"up to seed {seed}: {failed} failed, {perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    took_s = perf_counter() - started
    print(f"{arguments.seeds} seeds from {arguments.first}: {failed} failed, {sold} sales, {took_s:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
