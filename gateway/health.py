"""A small HTTP server for operators and their machines: alive, ready, metrics. Shell.

- `/healthz`: 200 as long as the process answers. Restart it if it does not.
- `/readyz`: 200 if every check passes, else 503. Send it no work while it says 503. The body names each check with its
  state in a word or a few; why a check failed stands in the log, never here.
- `/metrics`: Prometheus' text form.

Facts are informational, such as the name of the STS table set in use; they change no status. Nothing here is secret,
but nothing here is for customers either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from config.settings import HttpSettings
from gateway.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[bool]]

CHECK_TIMEOUT_S: Final = 2.0
STOP_TIMEOUT_S: Final = 2.0

PASSES: Final = "ok"
FAILS: Final = "failing"
SILENT: Final = "no answer in time"


class HealthServer:
    """Serves the three addresses on `[http]`, between `start` and `stop`.

    A check answers whether its part can work now. It may raise, which counts as failing, and is broken off after
    `check_timeout_s`. Checks run at one time, so that the answer comes within the limit however many there are.
    """

    def __init__(
        self,
        settings: HttpSettings,
        metrics: Metrics,
        checks: Mapping[str, Check],
        facts: Mapping[str, str] | None = None,
        check_timeout_s: float = CHECK_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._checks = dict(checks)
        self._facts = dict(facts or {})
        self._check_timeout_s = check_timeout_s
        self._last: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port served, once started; of interest where the settings say 0."""
        return self._port

    async def start(self) -> None:
        """Serve from now on. Raises OSError if the address cannot be had."""
        app = web.Application()
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._exposition)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_TIMEOUT_S, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._settings.host, self._settings.port)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Serve no more. Harmless if not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def states(self) -> dict[str, str]:
        """Each check's name with its state: "ok", "failing" or "no answer in time"."""
        names = list(self._checks)
        found = await asyncio.gather(*(self._state(name) for name in names))
        return dict(zip(names, found, strict=True))

    async def _state(self, name: str) -> str:
        error: Exception | None = None
        try:
            async with asyncio.timeout(self._check_timeout_s):
                state = PASSES if await self._checks[name]() else FAILS
        except TimeoutError:
            state = SILENT
        except Exception as caught:  # whatever a part's check may raise, the others still want their answer
            state, error = FAILS, caught
        self._note(name, state, error)
        return state

    def _note(self, name: str, state: str, error: Exception | None) -> None:
        """Log a state when it changes, not each time somebody asks."""
        before, self._last[name] = self._last.get(name, PASSES), state
        if state != before:
            level = logging.INFO if state == PASSES else logging.WARNING
            log.log(level, "check %s: %s", name, state, exc_info=error)

    async def _alive(self, _: web.Request) -> web.Response:
        return _json({"status": "alive"}, 200)

    async def _ready(self, _: web.Request) -> web.Response:
        states = await self.states()
        ready = all(state == PASSES for state in states.values())
        body = {"status": "ready" if ready else "not ready", "checks": states, "facts": self._facts}
        return _json(body, 200 if ready else 503)

    async def _exposition(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE} | _HEADERS)


# Answers are of the moment; and no page of somebody else's may take them for something to run.
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _json(body: Mapping[str, Any], status: int) -> web.Response:
    return web.json_response(body, status=status, headers=_HEADERS)
