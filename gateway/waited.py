"""A security module that must be waited for, for commands that make one token and end: every call waits. Shell.

All calls run on one event loop, because the connections of a module belong to the loop that opened them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from sts.meterkey import MeterKey
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    ModuleRefused,
    ModuleStatus,
    SecurityModule,
    TokenRequest,
    each,
)
from sts.tokens import Token

T = TypeVar("T")


class WaitedModule:
    """Satisfies `SecurityModule` over one that must be waited for; its methods also raise ModuleSilent."""

    answers_at_once: Final = True

    def __init__(self, inner: SecurityModule) -> None:
        self.inner: Final = inner
        self._runner: Final = asyncio.Runner()

    @property
    def name(self) -> str:
        """The name of the module behind."""
        return self.inner.name

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this to its end on the loop of the module."""
        return self._runner.run(work)

    def close(self) -> None:
        """Close the module behind, if it can be closed, and the loop."""
        close = getattr(self.inner, "close", None)
        ended = close() if close is not None else None
        if inspect.iscoroutine(ended):
            self.run(ended)
        self._runner.close()

    def holds(self, key: MeterKey) -> bool:
        """As the module behind."""
        return self.inner.holds(key)

    def status(self) -> ModuleStatus:
        """As the module behind."""
        return self.inner.status()

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """The token, after the module has answered."""
        return self.run(self.inner.make_later(request, now=now))

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """One after the other."""
        return each(lambda request: self.make(request, now=now), requests)

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """The set, after the module has answered."""
        return self.run(self.inner.make_set_later(request, now=now))

    def verify(self, digits: str, key: MeterKey) -> Token:
        """What a token says, after the module has answered."""
        return self.run(self.inner.verify_later(digits, key))

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As the module behind."""
        return await self.inner.make_later(request, now=now)

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As the module behind."""
        return await self.inner.make_set_later(request, now=now)

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        """As the module behind."""
        return await self.inner.verify_later(digits, key)
