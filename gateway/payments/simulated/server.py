"""The HTTP server of the simulated providers, on loopback: all their addresses on one port. Shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from channels.http.callback import NotReadable, json_of
from gateway.payments.simulated.faults import Fault, Faults
from gateway.payments.simulated.front import Ask, Front, Said

_BODY_MAX: Final = 65_536


@dataclass(slots=True)
class SimulatedProviders:
    """Serves the providers' APIs between `start` and `stop`, and /statement.csv. Port 0 takes any free one."""

    fronts: Sequence[Front]
    faults: Faults
    statement: Callable[[], str]
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What a gateway's `base_url` is set to."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve from now on. Raises OSError if the port cannot be had."""
        app = web.Application(client_max_size=_BODY_MAX)
        app.router.add_get("/statement.csv", self._statement)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Serve no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _statement(self, _: web.Request) -> web.Response:
        return web.Response(text=self.statement(), content_type="text/csv")

    async def _take(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json_of(await request.read())
        except NotReadable:
            body = {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        ask = Ask(request.method, request.path, dict(request.query), headers, body)
        moves_money = any(front.moves_money(ask) for front in self.fronts)
        if moves_money and self.faults.strikes(Fault.ERROR):
            return web.json_response({"message": "internal server error"}, status=500)
        said = self._said(ask)
        if moves_money and self.faults.strikes(Fault.NO_ANSWER):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if moves_money and self.faults.strikes(Fault.ERROR_AFTER):
            return web.json_response({"message": "internal server error"}, status=500)
        if said.body is None:
            return web.Response(status=said.status)
        return web.json_response(dict(said.body), status=said.status)

    def _said(self, ask: Ask) -> Said:
        for front in self.fronts:
            said = front.answer(ask)
            if said is not None:
                return said
        return Said(404, {"message": "not found"})
