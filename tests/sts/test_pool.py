"""ModulePool: order, back-pressure, rate, rest, doubts; on a loop whose clock jumps, so that nothing really waits.

Last, over real sockets: a slow module and a quick one.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Any, Final, TypeVar

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sts.errors import Fault
from sts.meterkey import MeterKey
from sts.modules.contract import (
    CreditRequest,
    KeyChangeRequest,
    KeyMissing,
    ModuleRefused,
    ModuleSilent,
    ModuleStatus,
    SecurityModule,
    TokenRequest,
)
from sts.modules.pool import Limits, Member, ModuleAway, ModuleFull, ModulePool, StillUnderWay
from sts.modules.prism.client import PrismModule
from sts.modules.prism.simulated import Faults
from sts.modules.software import SoftwareModule
from sts.tokens import Token
from tests.sts.keys import DES_GROUP, HMAC_GROUP, NOW, handle, record
from tests.sts.prism import KEYS, settings, simulator

Result = TypeVar("Result")


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, moves the clock to the next timer; a loop that would wait for ever is an error."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen")
            self.now += timeout
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def jumping(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test on a loop of its own whose clock jumps."""

    @wraps(test)
    def run(*args: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
            runner.run(asyncio.wait_for(test(*args, **named), 100_000))

    return run


INSIDE: Final = SoftwareModule([record(2), record(2, key_revision=2), record(4)])


@dataclass
class Told:
    """A module that does as `plan` says, item by item, then well; each call takes `takes_s`.

    "silent" (may be made), "lost" (made), "away", "full", "under way", "missing", "refused", "lies", "hangs".
    """

    name: str
    groups: tuple[str, ...] = (DES_GROUP, HMAC_GROUP)
    plan: list[str] = field(default_factory=list)
    takes_s: float = 0.0
    asked: list[Any] = field(default_factory=list)
    began_at: list[float] = field(default_factory=list)
    at_work: int = 0
    at_work_most: int = 0
    answers_at_once: bool = False

    def holds(self, key: MeterKey) -> bool:
        return key.supply_group in self.groups

    def status(self) -> ModuleStatus:
        status = INSIDE.status()
        keys = tuple(key for key in status.keys if key.supply_group in self.groups)
        return ModuleStatus(self.name, f"tables of {self.name}", self.name != "sample", keys)

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        raise AssertionError("this module must be waited for")

    def make_many(self, requests: Sequence[TokenRequest], *, now: datetime | None = None) -> list[Any]:
        raise AssertionError("this module must be waited for")

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        raise AssertionError("this module must be waited for")

    def verify(self, digits: str, key: MeterKey) -> Token:
        raise AssertionError("this module must be waited for")

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        await self._asked(request, request.key)
        return INSIDE.make(request)

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        await self._asked(request, request.key)
        return INSIDE.make_set(request, now=now)

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        await self._asked(digits, key)
        return INSIDE.verify(digits, key)

    async def _asked(self, what: object, key: MeterKey) -> None:
        self.asked.append(what)
        self.began_at.append(asyncio.get_running_loop().time())
        how = self.plan.pop(0) if self.plan else "well"
        self.at_work += 1
        self.at_work_most = max(self.at_work_most, self.at_work)
        try:
            await asyncio.sleep(1e9 if how == "hangs" else self.takes_s)
        finally:
            self.at_work -= 1
        if how in ("silent", "lost"):
            raise ModuleSilent("no answer")
        if how == "away":
            raise ModuleAway("no connection")
        if how == "full":
            raise ModuleFull("queue full")
        if how == "under way":
            raise StillUnderWay("still under way")
        if how == "missing":
            raise KeyMissing(key)
        if how in ("refused", "lies"):
            raise ModuleRefused(Fault.KEY_EXPIRED if how == "refused" else Fault.MODULE_MISMATCH, how)


def request(number: int = 0, dkga: int = 2) -> CreditRequest:
    return CreditRequest(handle(dkga=dkga, body=f"{number:010d}"), 0, 6_396_480, 5, 256)


def pool(*modules: Told, exact: bool = False, **limits: Any) -> ModulePool:
    return ModulePool([Member(module, Limits(**limits), repeats_exactly=exact) for module in modules])


CHANGE: Final = KeyChangeRequest(handle(), handle(key_revision=2))


# --- order and failure ------------------------------------------------------------------------------------------------

# fmt: off
# Plans of the first and second module; whether they repeat exactly; what the caller gets; who was asked.
TRIALS: Final[list[tuple[list[str], list[str], bool, type[Exception] | None, str]]] = [
    ([],            [],           False, None,          "A"),
    (["away"],      [],           False, None,          "AB"),
    (["full"],      [],           False, None,          "AB"),
    (["missing"],   [],           False, None,          "AB"),
    (["missing"],   ["missing"],  False, KeyMissing,    "AB"),
    (["away"],      ["missing"],  False, ModuleAway,    "AB"),
    (["missing"],   ["away"],     False, ModuleAway,    "AB"),
    (["away"],      ["away"],     False, ModuleAway,    "AB"),
    (["refused"],   [],           False, ModuleRefused, "A"),
    (["lies"],      [],           False, ModuleRefused, "A"),
    (["silent"],    [],           False, ModuleSilent,  "A"),
    (["under way"], [],           False, ModuleSilent,  "A"),
    (["silent"],    [],           True,  None,          "AB"),
    (["lost"],      ["away"],     True,  ModuleSilent,  "AB"),
    (["lost"],      ["refused"],  True,  ModuleRefused, "AB"),
    (["away"],      ["silent"],   False, ModuleSilent,  "AB"),
]
# fmt: on


@pytest.mark.parametrize(("first", "second", "exact", "error", "asked"), TRIALS)
@jumping
async def test_order_of_trial(
    first: list[str], second: list[str], exact: bool, error: type[Exception] | None, asked: str
) -> None:
    a, b = Told("A", plan=list(first)), Told("B", plan=list(second))
    both = pool(a, b, exact=exact)
    if error is None:
        assert await both.make_later(request()) == INSIDE.make(request())
    else:
        with pytest.raises(error) as raised:
            await both.make_later(request())
        # A certain "nothing was made" is never said of what is unknown, nor the other way round.
        assert isinstance(raised.value, ModuleAway) == (error is ModuleAway)
    assert "A" * len(a.asked) + "B" * len(b.asked) == asked


@jumping
async def test_request_in_doubt_goes_back_to_the_module_that_may_have_made_it() -> None:
    a, b = Told("A", plan=["lost", "lost"]), Told("B")
    both = pool(a, b, rest_first_s=2, rest_max_s=8)
    with pytest.raises(ModuleSilent):
        await both.make_later(request())
    # A rests: B makes other tokens meanwhile, this one waits.
    assert await both.make_later(request(1)) == INSIDE.make(request(1))
    with pytest.raises(ModuleSilent) as silence:
        await both.make_later(request())
    assert not isinstance(silence.value, ModuleAway)
    assert (len(a.asked), len(b.asked)) == (1, 1)
    assert both.health()[0].in_doubt == 1
    await asyncio.sleep(2)
    with pytest.raises(ModuleSilent):
        await both.make_later(request())
    await asyncio.sleep(4)
    assert await both.make_later(request()) == INSIDE.make(request())
    assert a.asked == [request()] * 3 and b.asked == [request(1)]
    assert both.health()[0].in_doubt == 0


@jumping
async def test_request_in_doubt_moves_if_nothing_can_differ() -> None:
    a, b = Told("A", plan=["lost"] * 9), Told("B", plan=["away"])
    both = pool(a, b, exact=True)
    with pytest.raises(ModuleSilent):
        await both.make_later(request())
    await asyncio.sleep(1)
    assert await both.make_later(request()) == INSIDE.make(request())
    assert len(a.asked) == 2 and len(b.asked) == 2


@jumping
async def test_request_in_doubt_is_asked_first_where_it_is_in_doubt() -> None:
    a, b = Told("A", plan=["away"]), Told("B", plan=["lost"])
    both = pool(a, b, exact=True)
    with pytest.raises(ModuleSilent):
        await both.make_later(request())
    await asyncio.sleep(5)
    assert await both.make_later(request()) == INSIDE.make(request())
    assert (len(a.asked), len(b.asked)) == (1, 2)


@jumping
async def test_key_change_set_has_no_chance_in_it_and_moves() -> None:
    a, b = Told("A", plan=["lost"]), Told("B")
    assert await pool(a, b).make_set_later(CHANGE, now=NOW) == INSIDE.make_set(CHANGE, now=NOW)
    assert len(b.asked) == 1


@jumping
async def test_verification_makes_nothing_and_moves() -> None:
    a, b = Told("A", plan=["silent"]), Told("B")
    both = pool(a, b)
    digits = INSIDE.make(request())
    assert await both.verify_later(digits, request().key) == INSIDE.verify(digits, request().key)
    assert both.health()[0].in_doubt == 0


@jumping
async def test_call_that_is_cancelled_leaves_its_request_in_doubt() -> None:
    a, b = Told("A", plan=["hangs"]), Told("B")
    both = pool(a, b)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await both.make_later(request())
    assert both.health()[0].in_doubt == 1 and both.health()[0].at_work == 0
    await both.make_later(request())
    assert len(a.asked) == 2 and not b.asked


@jumping
async def test_caller_that_leaves_the_queue_leaves_no_doubt() -> None:
    a = Told("A", takes_s=10)
    one = pool(a)
    first = asyncio.create_task(one.make_later(request(1)))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await one.make_later(request(2))
    assert one.health()[0].in_doubt == 0
    await first
    assert a.asked == [request(1)]


@jumping
async def test_doubts_are_bounded() -> None:
    a = Told("A", plan=["under way"] * 50)
    one = ModulePool([Member(a)], doubts_max=10)
    for number in range(50):
        with pytest.raises(ModuleSilent):
            await one.make_later(request(number))
    assert one.health()[0].in_doubt == 10


# --- rest -------------------------------------------------------------------------------------------------------------


@jumping
async def test_rest_doubles_to_its_limit_and_ends_with_the_first_success() -> None:
    a = Told("A", plan=["away"] * 6)
    one = pool(a, rest_first_s=1, rest_max_s=8)
    for number, rest_s in enumerate([1, 2, 4, 8, 8, 8]):
        with pytest.raises(ModuleAway):
            await one.make_later(request(number))
        assert one.health()[0].rests_for_s == rest_s
        with pytest.raises(ModuleAway):
            await one.make_later(request(99))
        assert len(a.asked) == number + 1  # nobody asks a module that rests
        await asyncio.sleep(rest_s)
    await one.make_later(request())
    assert one.health()[0].failures == 0 and one.health()[0].rests_for_s == 0


@jumping
async def test_after_a_rest_one_request_tries_the_module_and_the_others_wait_for_it_elsewhere() -> None:
    a, b = Told("A", plan=["away"], takes_s=1), Told("B", takes_s=1)
    both = pool(a, b, at_once_max=4)
    await both.make_later(request())
    await asyncio.sleep(1)
    await asyncio.gather(*(both.make_later(request(number)) for number in range(1, 4)))
    assert (len(a.asked), len(b.asked)) == (2, 3)
    assert a.at_work_most == 1
    await asyncio.gather(*(both.make_later(request(number)) for number in range(4, 8)))
    assert a.at_work_most == 4


@jumping
async def test_queue_of_a_module_that_falls_silent_does_not_wait_for_it_one_by_one() -> None:
    a, b = Told("A", plan=["silent"] * 40, takes_s=10), Told("B", groups=(HMAC_GROUP,))
    both = pool(a, b)
    clock = asyncio.get_running_loop().time
    answers = await asyncio.gather(*(both.make_later(request(number)) for number in range(20)), return_exceptions=True)
    assert clock() == 10 and len(a.asked) == 1
    assert sum(isinstance(answer, ModuleAway) for answer in answers) == 19


@jumping
async def test_requests_that_fail_together_are_one_failure() -> None:
    a = Told("A", plan=["away"] * 4, takes_s=1)
    one = pool(a, at_once_max=4)
    await asyncio.gather(*(one.make_later(request(number)) for number in range(4)), return_exceptions=True)
    assert one.health()[0].failures == 1


@jumping
async def test_module_that_lies_rests_and_one_that_refuses_does_not() -> None:
    for how, failures in (("lies", 1), ("refused", 0), ("full", 0), ("under way", 0), ("missing", 0)):
        one = pool(Told("A", plan=[how]))
        with pytest.raises((ModuleRefused, ModuleSilent, KeyMissing)):
            await one.make_later(request())
        assert one.health()[0].failures == failures, how


@jumping
async def test_clock_may_be_given() -> None:
    seconds = 100.0
    one = ModulePool([Member(Told("A", plan=["away"]))], clock=lambda: seconds)
    with pytest.raises(ModuleAway):
        await one.make_later(request())
    assert one.health()[0].rests_for_s == 1
    seconds = 101.0
    await one.make_later(request())


# --- rate and back-pressure -------------------------------------------------------------------------------------------


@jumping
async def test_rate_is_kept() -> None:
    a = Told("A")
    one = pool(a, at_once_max=5, waiting_max=100, rate_per_s=3)
    await asyncio.gather(*(one.make_later(request(number)) for number in range(30)))
    gaps = [after - before for before, after in zip(a.began_at, a.began_at[1:], strict=False)]
    assert min(gaps) >= 1 / 3 - 1e-9
    assert a.began_at[-1] == pytest.approx(29 / 3)


@jumping
async def test_full_queue_is_answered_at_once() -> None:
    a = Told("A", takes_s=1)
    one = pool(a, at_once_max=2, waiting_max=3)
    clock = asyncio.get_running_loop().time
    waiting = [asyncio.create_task(one.make_later(request(number))) for number in range(5)]
    await asyncio.sleep(0)
    assert (one.health()[0].at_work, one.health()[0].waiting) == (2, 3)
    with pytest.raises(ModuleAway):
        await one.make_later(request(9))
    assert clock() == 0
    await asyncio.gather(*waiting)
    assert clock() == 3 and a.at_work_most == 2
    assert one.health()[0].failures == 0


@jumping
async def test_full_module_is_passed_over_for_another() -> None:
    a, b = Told("A", takes_s=1), Told("B", takes_s=1)
    both = pool(a, b, waiting_max=0)
    await asyncio.gather(both.make_later(request(1)), both.make_later(request(2)))
    assert (len(a.asked), len(b.asked)) == (1, 1)


@jumping
async def test_work_goes_to_the_shorter_queue() -> None:
    slow, quick = Told("A", takes_s=1), Told("B", takes_s=0.1)
    both = pool(slow, quick, waiting_max=100)
    clock = asyncio.get_running_loop().time
    for _ in range(3):  # their speeds become known
        await asyncio.gather(both.make_later(request(1)), both.make_later(request(2)))
    began = clock()
    await asyncio.gather(*(both.make_later(request(number)) for number in range(33)))
    assert clock() - began < 8
    assert len(quick.asked) > 3 * len(slow.asked)


@jumping
async def test_slow_module_delays_only_its_own_supply_groups() -> None:
    slow, quick = Told("slow", groups=(DES_GROUP,), takes_s=10), Told("quick", groups=(HMAC_GROUP,), takes_s=0.01)
    both = pool(slow, quick, waiting_max=100)
    clock = asyncio.get_running_loop().time
    behind = [asyncio.create_task(both.make_later(request(number))) for number in range(50)]
    await asyncio.sleep(0)
    for number in range(50):
        await both.make_later(request(number, dkga=4))
    assert clock() < 1
    for task in behind:
        task.cancel()
    await asyncio.gather(*behind, return_exceptions=True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["make", "make", "make", "wait"]),
            st.integers(0, 4),
            st.sampled_from(["well", "well", "lost", "silent", "away", "full", "under way", "hangs", "refused"]),
            st.sampled_from(["well", "well", "lost", "away"]),
        ),
        max_size=30,
    )
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_whatever_happens_a_request_that_may_be_made_stays_with_its_module(history: list[Any]) -> None:
    @jumping
    async def run() -> None:
        a, b = Told("A"), Told("B")
        both = pool(a, b, rest_first_s=1, rest_max_s=4)
        owners: dict[Any, str] = {}
        for what, number, plan_a, plan_b in history:
            if what == "wait":
                await asyncio.sleep(number)
                continue
            a.plan, b.plan = [plan_a], [plan_b]
            before = len(a.asked), len(b.asked)
            one = request(number)
            sure = False
            try:
                async with asyncio.timeout(30):
                    await both.make_later(one)
                sure = True
            except ModuleRefused:
                sure = True
            except (ModuleAway, TimeoutError):
                pass
            except ModuleSilent:
                pass
            went_to = "A" * (len(a.asked) - before[0]) + "B" * (len(b.asked) - before[1])
            if one in owners:
                assert went_to in ("", owners[one])
            in_doubt = {"A": plan_a, "B": plan_b}
            for name in went_to:
                if in_doubt[name] in ("lost", "silent", "under way", "hangs"):
                    owners.setdefault(one, name)
            if sure:
                owners.pop(one, None)
            assert all(health.at_work == health.waiting == 0 for health in both.health())
            assert sum(health.in_doubt for health in both.health()) == len(owners)

    run()


# --- at once, and the rest of the contract ----------------------------------------------------------------------------


def test_pool_of_modules_that_answer_at_once_answers_at_once() -> None:
    first, second = SoftwareModule([record(2)], name="first"), SoftwareModule([record(2), record(4)], name="second")
    both = ModulePool([Member(first), Member(second)])
    assert isinstance(both, SecurityModule) and both.answers_at_once
    assert both.make(request()) == INSIDE.make(request())
    assert both.make(request(dkga=4)) == INSIDE.make(request(dkga=4))
    missing = CreditRequest(handle(key_revision=9), 0, 6_396_480, 5, 256)
    answers = both.make_many([request(), missing])
    assert answers[0] == INSIDE.make(request()) and isinstance(answers[1], KeyMissing)
    assert not both.holds(missing.key) and both.holds(request().key)
    assert both.verify(both.make(request()), request().key) == INSIDE.verify(INSIDE.make(request()), request().key)
    with pytest.raises(KeyMissing):
        both.make_set(CHANGE, now=NOW)
    status = both.status()
    assert [key.supply_group for key in status.keys] == [DES_GROUP, HMAC_GROUP]
    assert (status.name, status.table_set, status.real_meters_accept_ea07) == ("pool", "sample", False)


def test_pool_with_one_module_that_must_be_waited_for_must_be_waited_for() -> None:
    both = ModulePool([Member(INSIDE), Member(Told("B"))])
    assert not both.answers_at_once
    with pytest.raises(AssertionError):
        both.make(request())
    assert both.status().table_set == "sample, tables of B" and not both.status().real_meters_accept_ea07


@jumping
async def test_group_that_nobody_serves_is_a_missing_key() -> None:
    with pytest.raises(KeyMissing):
        await pool(Told("A", groups=(HMAC_GROUP,))).make_later(request())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ModulePool([]),
        lambda: ModulePool([Member(Told("A")), Member(Told("A"))]),
        lambda: Limits(at_once_max=0),
        lambda: Limits(waiting_max=-1),
        lambda: Limits(rate_per_s=0),
        lambda: Limits(rest_first_s=2, rest_max_s=1),
    ],
)
def test_pool_that_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


# --- over real sockets ------------------------------------------------------------------------------------------------


async def test_slow_and_silent_modules_over_sockets_delay_only_their_own_groups() -> None:
    async with simulator(Faults(tokens_per_s=3)) as slow, simulator() as quick, simulator(Faults(silent=True)) as dead:
        keys = {group: tuple(key for key in KEYS if key.supply_group == group) for group in (DES_GROUP, HMAC_GROUP)}
        modules = [
            PrismModule(settings(dead.port, name="dead", keys=keys[HMAC_GROUP], answer_timeout_s=0.1)),
            PrismModule(settings(slow.port, name="slow", keys=keys[DES_GROUP])),
            PrismModule(settings(quick.port, name="quick", keys=keys[HMAC_GROUP], connections_max=2)),
        ]
        limits = Limits(at_once_max=2, waiting_max=100, rest_first_s=5)
        three = ModulePool([Member(module, limits) for module in modules])
        clock = asyncio.get_running_loop().time
        began = clock()
        behind = [asyncio.create_task(three.make_later(request(number))) for number in range(20)]
        digits = await asyncio.gather(*(three.make_later(request(number, dkga=4)) for number in range(40)))
        assert clock() - began < 1.5 and len(set(digits)) == 40
        assert quick.made.total() == 40 and dead.made.total() == 0
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)
        await three.close()


async def test_module_out_of_service_is_replaced_and_comes_back() -> None:
    async with simulator(Faults(out_of_service=True)) as first, simulator() as second:
        modules = [
            PrismModule(settings(server.port, name=name)) for name, server in (("first", first), ("second", second))
        ]
        both = ModulePool([Member(module, Limits(rest_first_s=0.1)) for module in modules])
        await both.make_later(request(1))
        assert (first.made.total(), second.made.total()) == (0, 1)
        first.faults.out_of_service = False
        await asyncio.sleep(0.15)
        await both.make_later(request(2))
        assert (first.made.total(), second.made.total()) == (1, 1)
        await both.close()
