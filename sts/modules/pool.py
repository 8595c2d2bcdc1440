"""Several security modules as one: which is asked, in what order, how fast, and which rest. Shell: waits.

**One token for one payment.** What a meter counts once is the TID, and the caller stores it before it asks. Two
modules asked for one request would give two tokens that differ in the random nibble at most; a meter takes one of
them. So the promise holds whatever this pool does. Still no second token is made where it can be helped, because a
module counts what it makes against its limits, and two tokens on one sale are a question in every audit:

1. A module that certainly made nothing (`ModuleAway`: no connection, no sign-in, out of service, queue full) may be
   followed by another one.
2. A module that was asked and did not answer (`ModuleSilent`) has the request in doubt. It is asked again at that
   module, first and, while it rests, not at all. It moves to another module only if nothing can differ: a key-change
   set, which has no random part, or two modules that are both known to repeat exactly (`Member.repeats_exactly`:
   software modules with the same keys and tables).
3. `ModuleRefused` is final and goes to the caller. `KeyMissing` tries the next module.

Doubts live in this process. After a restart a request goes where the order of trial sends it; a module of the Prism
kind is asked for an earlier result before it makes a token, so only a request in doubt at one module that now goes to
another can be made twice, with one TID, and one of the two is never shown to anyone.

**Back-pressure.** Each module has its own places, rate and queue; a request that finds all of them taken is answered
with ModuleSilent at once, and its purchase waits outside. So a slow module delays only the supply groups it alone
serves.

**Rest.** A module that failed rests, doubling from `rest_first_s` to `rest_max_s`; then one request tries it, and only
its success lets the others in.
"""

import asyncio
import inspect
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from sts.errors import Fault
from sts.meterkey import MeterKey
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    KeyStatus,
    ModuleRefused,
    ModuleSilent,
    ModuleStatus,
    SecurityModule,
    TokenRequest,
    each,
)
from sts.tokens import Token

log = logging.getLogger(__name__)

DOUBTS_MAX: Final = 10_000
"""Requests in doubt that are remembered; the oldest is forgotten first."""

Answer = TypeVar("Answer")


class ModuleAway(ModuleSilent):
    """The module could not be asked: this attempt certainly made nothing, so another module may be tried."""


class ModuleFull(ModuleAway):
    """The module is well, but its queue is full: nothing was asked, and it need not rest."""


class StillUnderWay(ModuleSilent):
    """The module is well, but this request may still be on its way through it: ask again later, and there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one module bears.

    `at_once_max` requests at a time, `waiting_max` more in its queue, `rate_per_s` requests begun in a second at most
    (None: no limit; a serial module of the TSM250 kind reports 3). Rests from `rest_first_s` to `rest_max_s`.
    Raises ValueError for what cannot be.
    """

    at_once_max: int = 1
    waiting_max: int = 30
    rate_per_s: float | None = None
    rest_first_s: float = 1.0
    rest_max_s: float = 30.0

    def __post_init__(self) -> None:
        if self.at_once_max < 1 or self.waiting_max < 0:
            raise ValueError("limits of a module: at least one place, and a queue from 0 expected")
        if self.rate_per_s is not None and not self.rate_per_s > 0:
            raise ValueError("limits of a module: a rate above 0 expected")
        if not 0 < self.rest_first_s <= self.rest_max_s:
            raise ValueError("limits of a module: rests above 0, the first not longer than the longest, expected")


@dataclass(frozen=True, slots=True)
class Member:
    """A module of a pool. `repeats_exactly`: the same request gives the same 20 digits, here and at its likes."""

    module: SecurityModule
    limits: Limits = field(default_factory=Limits)
    repeats_exactly: bool = False


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """A module as a health page and the metrics may show it."""

    name: str
    at_work: int
    waiting: int
    failures: int
    """Failures in a row."""
    rests_for_s: float
    """0 if it does not rest."""
    in_doubt: int
    asked: int
    """Requests that this module was asked in all."""
    rate_per_s: float | None
    """The most requests begun in a second, if there is a limit."""


@dataclass(frozen=True, slots=True)
class Made:
    """Tokens and the module that made them: one token, or the whole of a key-change set."""

    digits: tuple[str, ...] = field(repr=False)
    by: str


class _Resting(Exception):
    """The module began to rest while this request stood in its queue."""


class _Lane:
    """A module with its places, queue, pace and rest."""

    def __init__(self, member: Member, place: int, clock: Callable[[], float]) -> None:
        self.module: Final = member.module
        self.limits: Final = member.limits
        self.repeats_exactly: Final = member.repeats_exactly
        self.place: Final = place
        self.failures = 0
        self.inside = 0
        self.asked = 0
        self._clock: Final = clock
        self._places: Final = asyncio.Semaphore(member.limits.at_once_max)
        self._interval_s: Final = 0.0 if member.limits.rate_per_s is None else 1 / member.limits.rate_per_s
        self._next_at = float("-inf")
        self._rest_until = float("-inf")
        self._on_trial = False
        self._lately_s = 0.0  # how long a request took lately, smoothed

    @property
    def rests_for_s(self) -> float:
        return max(0.0, self._rest_until - self._clock())

    @property
    def is_open(self) -> bool:
        """Neither resting nor on trial by another request."""
        return self.rests_for_s == 0 and not (self.failures and self._on_trial)

    @property
    def has_room(self) -> bool:
        return self.inside < self.limits.at_once_max + self.limits.waiting_max

    @property
    def wait_s(self) -> float:
        """How long a request that came now would wait, about."""
        before = self.inside // self.limits.at_once_max
        return max(0.0, self._next_at - self._clock()) + before * max(self._interval_s, self._lately_s)

    async def run(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Carry this out when its turn comes; raises _Resting if the module rests by then, and what `work` raises."""
        self.inside += 1
        try:
            async with self._places:
                await self._pace()
                if not self.is_open:
                    raise _Resting
                if not self.failures:
                    return await self._timed(work)
                self._on_trial = True
                try:
                    return await self._timed(work)
                finally:
                    self._on_trial = False
        finally:
            self.inside -= 1

    async def _pace(self) -> None:
        """Wait for the next beginning that the rate allows, and take it."""
        now = self._clock()
        begin_at = max(self._next_at, now)
        self._next_at = begin_at + self._interval_s
        if begin_at > now and self.is_open:
            await asyncio.sleep(begin_at - now)

    async def _timed(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        began = self._clock()
        self.asked += 1
        try:
            return await work()
        finally:
            self._lately_s += (self._clock() - began - self._lately_s) / 4

    def went_well(self) -> None:
        if self.failures:
            log.info("a security module answers again", extra={"security_module": self.module.name})
        self.failures = 0
        self._rest_until = float("-inf")

    def failed(self) -> None:
        """Rest. Requests that were at the module together fail together: that is one failure."""
        if self.rests_for_s:
            return
        self.failures += 1
        # The shift is bounded so that a module that is away for a year does not make a number of a million bits.
        rest_s = min(self.limits.rest_max_s, self.limits.rest_first_s * (1 << min(self.failures - 1, 30)))
        self._rest_until = self._clock() + rest_s
        log.warning(
            "a security module rests",
            extra={"security_module": self.module.name, "failures": self.failures, "rest_s": rest_s},
        )


class ModulePool:
    """Satisfies `SecurityModule` over several; see the module's text for the rules.

    `members` in the order of trial: among those that hold the key the one with the shortest wait is asked, the first
    of equals. `clock`: seconds that only go forward, the running loop's unless given.
    Raises ValueError for no member, or two of one name.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        name: str = "pool",
        clock: Callable[[], float] | None = None,
        doubts_max: int = DOUBTS_MAX,
    ) -> None:
        names = [member.module.name for member in members]
        if not names or len(set(names)) != len(names):
            raise ValueError("pool: at least one module expected, each with a name of its own")
        self._name: Final = name
        self._at_once: Final = all(member.module.answers_at_once for member in members)
        self._doubts: Final[OrderedDict[TokenRequest | KeyChangeRequest, _Lane]] = OrderedDict()
        self._doubts_max: Final = doubts_max
        reading = clock or (lambda: asyncio.get_running_loop().time())
        self._lanes: Final = tuple(_Lane(member, place, reading) for place, member in enumerate(members))

    def __repr__(self) -> str:
        return f"<ModulePool {self._name}, {len(self._lanes)} modules>"

    @property
    def name(self) -> str:
        """The pool's name in settings, metrics and the audit log."""
        return self._name

    @property
    def answers_at_once(self) -> bool:
        """Only if every module does."""
        return self._at_once

    def holds(self, key: MeterKey) -> bool:
        """Does any module hold the vending key?"""
        return any(lane.module.holds(key) for lane in self._lanes)

    def status(self) -> ModuleStatus:
        """All keys, each once; real meters take EA07 tokens only if they take those of every module."""
        each = [lane.module.status() for lane in self._lanes]
        keys: dict[tuple[Any, ...], KeyStatus] = {}
        for status in each:
            for key in status.keys:
                keys.setdefault(
                    (key.supply_group, key.key_revision, key.key_type, key.dkga, key.base_date, key.kcv), key
                )
        return ModuleStatus(
            name=self._name,
            table_set=", ".join(sorted({status.table_set for status in each})),
            real_meters_accept_ea07=all(status.real_meters_accept_ea07 for status in each),
            keys=tuple(keys[name] for name in sorted(keys)),
        )

    @property
    def members(self) -> tuple[SecurityModule, ...]:
        """The modules, in their order."""
        return tuple(lane.module for lane in self._lanes)

    def health(self) -> tuple[MemberHealth, ...]:
        """Each module's queue, rest and doubts, in the order of trial. Asks for the time: inside a running loop."""
        doubts = list(self._doubts.values())
        return tuple(
            MemberHealth(
                name=lane.module.name,
                at_work=min(lane.inside, lane.limits.at_once_max),
                waiting=max(0, lane.inside - lane.limits.at_once_max),
                failures=lane.failures,
                rests_for_s=lane.rests_for_s,
                in_doubt=doubts.count(lane),
                asked=lane.asked,
                rate_per_s=lane.limits.rate_per_s,
            )
            for lane in self._lanes
        )

    async def close(self) -> None:
        """Close the modules that can be closed."""
        for lane in self._lanes:
            close = getattr(lane.module, "close", None)
            ended = close() if close is not None else None
            if inspect.isawaitable(ended):
                await ended

    # --- at once ------------------------------------------------------------------------------------------------------

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As the contract says, by the first module that has the key."""
        return self._at_once_by(request.key, lambda module: module.make(request, now=now))[0]

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """A token, or the error `make` would have raised, for each request in its place."""
        return each(lambda request: self.make(request, now=now), requests)

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As the contract says, by the first module that has the keys."""
        return self._at_once_by(request.key, lambda module: module.make_set(request, now=now))[0]

    def verify(self, digits: str, key: MeterKey) -> Token:
        """As the contract says, by the first module that has the key."""
        return self._at_once_by(key, lambda module: module.verify(digits, key))[0]

    def made(self, request: TokenRequest | KeyChangeRequest, *, now: datetime, first: str = "") -> Made:
        """As `make` and `make_set`, with the name of the maker; the module `first` is asked before the others."""

        def ask(module: SecurityModule) -> tuple[str, ...]:
            if isinstance(request, KeyChangeRequest):
                return module.make_set(request, now=now)
            return (module.make(request, now=now),)

        return Made(*self._at_once_by(request.key, ask, first))

    def _at_once_by(
        self, key: MeterKey, ask: Callable[[SecurityModule], Answer], first: str = ""
    ) -> tuple[Answer, str]:
        assert self._at_once, "this pool has modules that must be waited for"
        missing = KeyMissing(key)
        for lane in sorted(self._lanes, key=lambda lane: lane.module.name != first) if first else self._lanes:
            if lane.module.holds(key):
                try:
                    return ask(lane.module), lane.module.name
                except KeyMissing as refusal:
                    missing = refusal
        raise missing

    # --- later --------------------------------------------------------------------------------------------------------

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As the contract says; raises ModuleAway where nothing was made, ModuleSilent where that is unknown."""
        return (await self._ask(request, request.key, lambda module: module.make_later(request, now=now)))[0]

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As the contract says. A set has no random part: any module that holds the keys gives the same."""
        return (await self._ask(request, request.key, lambda module: module.make_set_later(request, now=now)))[0]

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        """As the contract says; nothing is made, so any module may be tried after any other."""
        return (await self._ask(None, key, lambda module: module.verify_later(digits, key)))[0]

    async def made_later(
        self,
        request: TokenRequest | KeyChangeRequest,
        *,
        now: datetime | None = None,
        first: str = "",
        among: Collection[str] | None = None,
    ) -> Made:
        """As `make_later` and `make_set_later`, with the name of the maker; a set needs `now`.

        `first`: the module that this is counted for, asked before others unless it rests. `among`: no others are asked.
        """

        async def ask(module: SecurityModule) -> tuple[str, ...]:
            if isinstance(request, KeyChangeRequest):
                assert now is not None
                return await module.make_set_later(request, now=now)
            return (await module.make_later(request, now=now),)

        return Made(*await self._ask(request, request.key, ask, first, among))

    async def _ask(
        self,
        request: TokenRequest | KeyChangeRequest | None,
        key: MeterKey,
        ask: Callable[[SecurityModule], Awaitable[Answer]],
        first: str = "",
        among: Collection[str] | None = None,
    ) -> tuple[Answer, str]:
        left = [lane for lane in self._lanes if lane.module.holds(key) and (among is None or lane.module.name in among)]
        without_key, holders = 0, len(left)
        if not left:
            raise KeyMissing(key)
        owner = self._doubts.get(request) if request is not None else None
        if owner is not None:
            left = _allowed_after(owner, left, request)
        error: ModuleSilent = ModuleAway("no security module for this supply group can be asked now")
        while lane := self._next(left, owner, first):
            left.remove(lane)
            try:
                answer = await self._run(lane, request, ask)
            except _Resting:
                continue
            except ModuleSilent as silence:
                if not isinstance(silence, ModuleAway) and request is not None:
                    left = _allowed_after(lane, left, request)
                error = _graver(error, silence)
                continue
            except KeyMissing:
                without_key += 1
                if without_key == holders:
                    raise
                continue
            if request is not None:
                self._doubts.pop(request, None)
            return answer, lane.module.name
        if request is not None and request in self._doubts and not _is_grave(error):
            raise ModuleSilent(f"the request is in doubt at module {self._doubts[request].module.name}, which rests")
        raise error

    def _next(self, left: list[_Lane], owner: _Lane | None, first: str = "") -> _Lane | None:
        """The module to ask: the one in doubt first, then the one it counts for, then the shortest wait."""
        able = [lane for lane in left if lane.is_open and lane.has_room]
        if owner in able:
            return owner
        return min(able, key=lambda lane: (lane.module.name != first, lane.wait_s, lane.place), default=None)

    async def _run(
        self,
        lane: _Lane,
        request: TokenRequest | KeyChangeRequest | None,
        ask: Callable[[SecurityModule], Awaitable[Answer]],
    ) -> Answer:
        async def work() -> Answer:
            try:
                answer = await ask(lane.module)
            except asyncio.CancelledError:
                # The caller gave up; the module may be at it still.
                self._doubt(request, lane)
                raise
            except (ModuleFull, StillUnderWay) as silence:
                if isinstance(silence, StillUnderWay):
                    self._doubt(request, lane)
                raise
            except ModuleSilent as silence:
                if not isinstance(silence, ModuleAway):
                    self._doubt(request, lane)
                lane.failed()
                raise
            except ModuleRefused as refusal:
                if request is not None:
                    self._doubts.pop(request, None)
                if refusal.fault is Fault.MODULE_MISMATCH:
                    lane.failed()
                else:
                    lane.went_well()
                raise
            except KeyMissing:
                lane.went_well()
                raise
            lane.went_well()
            return answer

        return await lane.run(work)

    def _doubt(self, request: TokenRequest | KeyChangeRequest | None, lane: _Lane) -> None:
        if request is None:
            return
        self._doubts.setdefault(request, lane)
        self._doubts.move_to_end(request)
        if len(self._doubts) > self._doubts_max:
            forgotten = self._doubts.popitem(last=False)[1]
            log.error("a request in doubt was forgotten: too many", extra={"security_module": forgotten.module.name})


def _allowed_after(owner: _Lane, lanes: list[_Lane], request: TokenRequest | KeyChangeRequest | None) -> list[_Lane]:
    """The modules that may be asked for a request that this one may have carried out."""
    if isinstance(request, KeyChangeRequest):
        return lanes
    return [lane for lane in lanes if lane is owner or (lane.repeats_exactly and owner.repeats_exactly)]


def _is_grave(error: ModuleSilent) -> bool:
    return not isinstance(error, ModuleAway)


def _graver(one: ModuleSilent, other: ModuleSilent) -> ModuleSilent:
    """Of two errors the one to report: an unknown outcome outweighs a certain one, a later one an earlier."""
    return one if _is_grave(one) and not _is_grave(other) else other
