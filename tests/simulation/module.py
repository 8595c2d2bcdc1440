"""A security module that must be waited for, and that does as it is told: silent, refusing, slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from sts.errors import Fault
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    MeterKey,
    ModuleRefused,
    ModuleSilent,
    ModuleStatus,
    TokenRequest,
)
from sts.modules.software import SoftwareModule
from sts.tokens import Token

T = TypeVar("T")


class WaitingModule:
    """Satisfies `SecurityModule` over a software module; `plan` says how each call goes, then all go well.

    A plan item is "silent", "lost" (made, but the answer is lost), "refuse", or "wait" (until `go` is set).
    """

    name = "waiting"
    answers_at_once = False

    def __init__(self, inner: SoftwareModule, plan: Sequence[str] = ()) -> None:
        self._inner = inner
        self.plan = list(plan)
        self.go = asyncio.Event()
        self.asked: list[TokenRequest] = []

    def holds(self, key: MeterKey) -> bool:
        return self._inner.holds(key)

    def status(self) -> ModuleStatus:
        return self._inner.status()

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        raise AssertionError("this module must be waited for")

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        raise AssertionError("this module must be waited for")

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        raise AssertionError("this module must be waited for")

    def verify(self, digits: str, key: MeterKey) -> Token:
        raise AssertionError("this module must be waited for")

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        self.asked.append(request)
        how = self.plan.pop(0) if self.plan else "well"
        if how == "wait":
            await self.go.wait()
        if how in ("silent", "lost"):
            raise ModuleSilent("no answer")
        if how == "refuse":
            raise ModuleRefused(Fault.KEY_EXPIRED, "the key has expired")
        await asyncio.sleep(0)
        return self._inner.make(request, now=now)

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        return self._inner.make_set(request, now=now)

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        return self._inner.verify(digits, key)


class UnsteadyModule(WaitingModule):
    """A module whose every call goes as `draw` says: how ("well", "silent", "lost", "refuse"), and after how long.

    One that answers at once as a rule may still be silent, and must be waited for then.
    """

    def __init__(
        self, inner: SoftwareModule, draw: Callable[[], tuple[str, float]], *, answers_at_once: bool = False
    ) -> None:
        super().__init__(inner)
        self._draw = draw
        self.answers_at_once = answers_at_once
        self.sets_asked: list[KeyChangeRequest] = []

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        return self._answer_at_once(lambda: self._inner.make(request, now=now))

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        return self._answer_at_once(lambda: self._inner.make_set(request, now=now))

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        self.asked.append(request)
        return await self._answer(lambda: self._inner.make(request, now=now))

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        self.sets_asked.append(request)
        return await self._answer(lambda: self._inner.make_set(request, now=now))

    async def _answer(self, make: Callable[[], T]) -> T:
        how, delay_s = self._draw()
        await asyncio.sleep(delay_s)
        return self._finish(how, make)

    def _answer_at_once(self, make: Callable[[], T]) -> T:
        assert self.answers_at_once, "this module must be waited for"
        return self._finish(self._draw()[0], make)

    def _finish(self, how: str, make: Callable[[], T]) -> T:
        if how == "refuse":
            raise ModuleRefused(Fault.KEY_EXPIRED, "the key has expired")
        made = make()
        if how in ("silent", "lost"):
            raise ModuleSilent("no answer")
        return made
