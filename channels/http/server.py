"""The HTTP server for providers' callbacks: limits, addresses, secrets; what a callback means is its handler's. Shell.

An address that is not allowed and a secret that is not right get 404, as any unknown path does: a stranger learns
nothing. A path of ours with another method gets 405, a body that is too large 413, one that trickles 408, and more at
once than may be gets 503.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from channels.http.callback import Answer, Callback, Network, is_within, networks

log = logging.getLogger(__name__)

Handler = Callable[[Callback], Awaitable[Answer]]
_STOP_TIMEOUT_S: Final = 3.0
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, repr=False)
class Route:
    """One address, and who may call it. Empty: anybody, any secret; the settings see to it that not both are."""

    name: str  # for logs and counters; the path holds a secret
    path: str
    methods: frozenset[str]
    handler: Handler
    addresses: tuple[Network, ...] = ()
    header_name: str = ""
    header_secret: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may use up."""

    body_octets_max: int = 65_536
    read_timeout_s: float = 10.0
    at_once_max: int = 1_000


def _nobody(name: str, why: str) -> None:
    """Nobody counts."""


@dataclass(slots=True)
class CallbackServer:
    """Serves the routes between `start` and `stop`. `on_refused` is told the route's name and why."""

    host: str
    port: int
    routes: Sequence[Route]
    limits: Limits = Limits()
    trusted_proxies: str = ""
    tls: ssl.SSLContext | None = None
    on_refused: Callable[[str, str], None] = _nobody
    _runner: web.AppRunner | None = None
    _at_once: int = 0
    _routes: Mapping[str, Route] = field(default_factory=dict)
    _proxies: tuple[Network, ...] = ()

    async def start(self) -> None:
        """Serve from now on. Raises OSError if the address cannot be had."""
        self._routes = {route.path: route for route in self.routes}
        self._proxies = networks(self.trusted_proxies)
        app = web.Application(client_max_size=self.limits.body_octets_max)
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_STOP_TIMEOUT_S,
            handle_signals=False,
            keepalive_timeout=75,
            max_line_size=8_190,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, ssl_context=self.tls, backlog=1_024).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Serve no more; what is being answered is answered first. Harmless if not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _caller(self, request: web.Request) -> str:
        """The caller's address: the connection's, or what a trusted proxy says was its caller's."""
        address = request.remote or ""
        if self._proxies and is_within(address, self._proxies):
            said = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
            # From the right: each trusted proxy vouches for the one before it.
            for hop in reversed(said):
                address = hop
                if not is_within(hop, self._proxies):
                    break
        return address

    async def _take(self, request: web.Request) -> web.Response:
        route = self._routes.get(request.path)
        if route is None:
            self.on_refused("unknown", "path")
            return _plain(404, "not found")
        address = self._caller(request)
        if route.addresses and not is_within(address, route.addresses):
            self._refuse(route, "address", request)
            return _plain(404, "not found")
        if route.header_secret and not hmac.compare_digest(
            request.headers.get(route.header_name, "").encode(), route.header_secret.encode()
        ):
            self._refuse(route, "secret", request)
            return _plain(404, "not found")
        if request.method not in route.methods:
            self._refuse(route, "method", request)
            return _plain(405, "method not allowed", {"Allow": ", ".join(sorted(route.methods))})
        if self._at_once >= self.limits.at_once_max:
            self._refuse(route, "too_many", request)
            return _plain(503, "busy", {"Retry-After": "1"})
        self._at_once += 1
        try:
            return await self._handle(route, request, address)
        finally:
            self._at_once -= 1

    async def _handle(self, route: Route, request: web.Request, address: str) -> web.Response:
        try:
            async with asyncio.timeout(self.limits.read_timeout_s):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self._refuse(route, "too_large", request)
            return _plain(413, "too large")
        except TimeoutError:
            self._refuse(route, "slow", request)
            return _plain(408, "too slow", {"Connection": "close"})
        callback = Callback(
            method=request.method,
            path=request.path,
            query=request.query_string,
            content_type=request.content_type.lower(),
            body=body,
            headers={name.lower(): value for name, value in request.headers.items()},
            address=address,
        )
        try:
            answer = await route.handler(callback)
        except Exception:  # a bug of the handler's: the provider hears of it and may call again
            log.exception("a callback met a bug", extra={"callback": route.name})
            self.on_refused(route.name, "bug")
            return _plain(500, "internal error")
        return web.Response(
            text=answer.body,
            status=answer.status,
            content_type=answer.content_type,
            charset="utf-8",
            headers={**_HEADERS, **answer.headers},
        )

    def _refuse(self, route: Route, why: str, request: web.Request) -> None:
        log.warning("a callback was refused: %s", why, extra={"callback": route.name, "address": request.remote})
        self.on_refused(route.name, why)


def _plain(status: int, words: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=words, status=status, headers={**_HEADERS, **(headers or {})})
