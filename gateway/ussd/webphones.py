"""Phones on a web page, for the sandbox: keypad, USSD screen, SMS inbox, PIN prompt. Served on loopback only. Shell.

The page (`phones.html`) asks for a phone's state and posts what is pressed; USSD goes through a simulated provider,
texts through a simulated message centre and PINs to a simulated operator of mobile money, if they are attached.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final, Protocol

from aiohttp import web

from channels.ussd.simulated import Fault, Phone, Provider

_MSISDN: Final = re.compile(r"[0-9]{7,15}")
_PHONES_MAX: Final = 100
_INBOX_MAX: Final = 50
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'",
}


class Purse(Protocol):
    """Who asks phones for PINs."""

    def asks(self, msisdn: str) -> str:
        """What the phone shows when it asks for a PIN; empty when it does not."""

    def type(self, msisdn: str, pin: str) -> bool:
        """The PIN that was typed, empty to decline; whether it was asked for."""


class WebPhones:
    """Serves the page between `start` and `stop`. `send_text(phone, text)` sends an SMS; None: phones cannot text."""

    def __init__(
        self,
        provider: Provider,
        port: int = 0,
        send_text: Callable[[str, str], None] | None = None,
        purse: Purse | None = None,
    ) -> None:
        self._provider = provider
        self._send_text = send_text
        self._purse = purse
        self._phones: dict[str, Phone] = {}
        self._inboxes: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_INBOX_MAX))
        self._runner: web.AppRunner | None = None
        self.port = port

    def received(self, msisdn: str, text: str) -> None:
        """An SMS has reached this phone."""
        self._inboxes[msisdn].append(text)

    async def start(self) -> None:
        """Serve from now on. Raises OSError if the port cannot be had."""
        app = web.Application(client_max_size=10_000)
        app.router.add_get("/", self._page)
        app.router.add_get("/phones/{msisdn}", self._state)
        app.router.add_post("/phones/{msisdn}/{deed}", self._deed)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Serve no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _page(self, _: web.Request) -> web.Response:
        text = files("gateway").joinpath("ussd", "phones.html").read_text(encoding="utf-8")
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    def _phone(self, request: web.Request) -> Phone:
        msisdn = request.match_info["msisdn"]
        if not _MSISDN.fullmatch(msisdn):
            raise web.HTTPBadRequest(text="a phone number of 7 to 15 digits expected")
        if msisdn not in self._phones and len(self._phones) >= _PHONES_MAX:
            raise web.HTTPServiceUnavailable(text="too many phones")
        return self._phones.setdefault(msisdn, Phone(self._provider, msisdn))

    def _told(self, phone: Phone) -> web.Response:
        told: dict[str, Any] = {
            "screen": phone.shown.text,
            "isOver": phone.shown.is_over,
            "inbox": list(self._inboxes[phone.msisdn]),
            "code": self._provider.code,
            "canText": self._send_text is not None,
            "asks": self._purse.asks(phone.msisdn) if self._purse is not None else "",
            "fault": phone.fault.value if phone.fault else "",
        }
        return web.json_response(told, headers=_HEADERS)

    async def _state(self, request: web.Request) -> web.Response:
        return self._told(self._phone(request))

    async def _deed(self, request: web.Request) -> web.Response:
        # A page of somebody else's can send forms here, but not JSON: the browser would ask first, and be refused.
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="application/json expected")
        phone = self._phone(request)
        try:
            said = await request.json()
        except ValueError:
            raise web.HTTPBadRequest(text="JSON expected") from None
        text = str(said.get("text", ""))[:1_000] if isinstance(said, dict) else ""
        deed = request.match_info["deed"]
        if deed == "dial":
            await phone.dial(text)
        elif deed == "type":
            await phone.type(text)
        elif deed == "hangup":
            phone.hang_up()
        elif deed == "fault":
            phone.fault = next((fault for fault in Fault if fault.value == text), None)
        elif deed == "pin" and self._purse is not None:
            self._purse.type(phone.msisdn, text)
        elif deed == "sms" and self._send_text is not None:
            self._send_text(phone.msisdn, text)
        else:
            raise web.HTTPNotFound(text="no such deed")
        return self._told(phone)
