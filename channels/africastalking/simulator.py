"""Africa's Talking's SMS API with phones behind it, on real HTTP, to try a gateway out, with faults on purpose. Shell.

It takes texts as the provider does (/version1/messaging, /version1/user), tells of them in delivery reports, brings
texts from phones to the gateway's callbacks, and calls again, for ten minutes, what was not answered with 200. It keeps
everything in memory; whoever knows the key may do anything: it is not for the public net.

    simulator = Simulator(SimulatorSettings(callback="http://127.0.0.1:8081/sms/at/SECRET"), new_id=..., random=...)
    await simulator.start()                      # simulator.port is now known
    simulator.text("254711013579", "22345", "04012345676 500")
    await simulator.stop()
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import aiohttp
from aiohttp import web

from channels.africastalking.api import STATUSES

log = logging.getLogger(__name__)

_KEPT: Final = 10_000
_REPEATS_FOR_S: Final = 600.0


class Fault(StrEnum):
    """What can be made to go wrong, at a share of occasions or the next times."""

    LOSE = "lose"  # a text is taken and reaches nobody; no report comes
    FAIL = "fail"  # a text is taken; the report says Failed
    LOSE_ANSWER = "lose_answer"  # a text is taken and reaches its phone; the connection is cut before the answer
    REPORT_FIRST = "report_first"  # the report comes before the answer
    ERROR = "error"  # HTTP 500, and nothing is taken
    THROTTLE = "throttle"  # HTTP 429
    NO_BALANCE = "no_balance"  # statusCode 405
    BLACKLIST = "blacklist"  # statusCode 406
    GARBAGE = "garbage"  # HTTP 201 with a page of something else; nothing is taken
    SLOW = "slow"  # the answer takes `slow_s`
    REPEAT = "repeat"  # a callback is made twice
    DELAY = "delay"  # a callback is late by `slow_s`
    REORDER = "reorder"  # a callback waits for the next one, at most `slow_s`


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """`callback`: the gateway's address for texts; reports and opt-outs are behind it. Empty: nothing is brought."""

    username: str = "sandbox"
    api_key: str = field(default="sandbox", repr=False)
    callback: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    slow_s: float = 1.0
    report_after_s: float = 0.05
    again_after_s: float = 2.0
    timeout_s: float = 10.0
    rates: Mapping[Fault, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """A text that has reached a phone."""

    phone: str
    sender: str
    text: str
    message_id: str


class Simulator:
    """The provider. `new_id` gives ids, `random` floats from 0 to 1. `on_text` is told of each text at its phone."""

    def __init__(
        self,
        settings: SimulatorSettings,
        *,
        new_id: Callable[[], str],
        random: Callable[[], float],
        on_text: Callable[[Received], None] = lambda received: None,
    ) -> None:
        self.settings = settings
        self.received: deque[Received] = deque(maxlen=_KEPT)
        self.opted_out: set[str] = set()
        self.reported = 0
        self.callbacks_refused = 0
        self.callback = settings.callback
        self.port = settings.port
        self._new_id = new_id
        self._random = random
        self._on_text = on_text
        self._armed: dict[Fault, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None
        self._next_callback = asyncio.Event()

    async def start(self) -> None:
        """Serve from now on. Raises OSError if the port cannot be had."""
        app = web.Application(client_max_size=65_536)
        app.router.add_post("/version1/messaging", self._messaging)
        app.router.add_get("/version1/user", self._user)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.settings.host, self.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner, self.port = runner, runner.addresses[0][1]
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.settings.timeout_s))

    async def stop(self) -> None:
        """Serve no more; callbacks that were not answered yet are lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def arm(self, fault: Fault, times: int = 1) -> None:
        """Commit this fault at the next `times` occasions."""
        self._armed[fault] = self._armed.get(fault, 0) + times

    def strikes(self, fault: Fault) -> bool:
        """Whether to commit this fault now."""
        if self._armed.get(fault, 0):
            self._armed[fault] -= 1
            return True
        rate = self.settings.rates.get(fault, 0.0)
        return rate > 0 and self._random() < rate

    # -------------------------------------------------------------------------------------------- from phones

    def text(self, phone: str, short_code: str, text: str) -> str:
        """Bring a text from a phone to the gateway, until it is taken; its id."""
        message_id = self._new_id()
        form = {
            "id": message_id,
            "from": f"+{phone}",
            "to": short_code,
            "text": text,
            "date": "2026-11-22 12:00:00",
            "networkCode": "99999",
            "linkId": "",
        }
        self._start(self._call("", form))
        return message_id

    def opt_out(self, phone: str, sender_id: str = "") -> None:
        """A phone wants no more of a sender: the gateway is told, and further texts are refused (406)."""
        self.opted_out.add(phone)
        self._start(self._call("/optouts", {"senderId": sender_id, "phoneNumber": f"+{phone}"}))

    async def quiet(self) -> None:
        """Return when no callback is owed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, path: str, form: dict[str, str]) -> None:
        """One callback, again until it is answered with 200, for ten minutes."""
        if not self.callback:
            return
        await self._put_off()
        loop = asyncio.get_running_loop()
        began = loop.time()
        copies = 2 if self.strikes(Fault.REPEAT) else 1
        while copies and loop.time() - began < _REPEATS_FOR_S:
            if await self._is_taken(path, form):
                copies -= 1
                continue
            self.callbacks_refused += 1
            await asyncio.sleep(self.settings.again_after_s)
        if copies:
            log.warning("a callback was given up")

    async def _put_off(self) -> None:
        if self.strikes(Fault.DELAY):
            await asyncio.sleep(self.settings.slow_s)
        if self.strikes(Fault.REORDER):
            self._next_callback.clear()
            try:
                await asyncio.wait_for(self._next_callback.wait(), self.settings.slow_s)
            except TimeoutError:
                pass
        else:
            self._next_callback.set()

    async def _is_taken(self, path: str, form: dict[str, str]) -> bool:
        assert self._client is not None, "start it first"
        try:
            async with self._client.post(self.callback + path, data=form) as answer:
                await answer.read()
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    # -------------------------------------------------------------------------------------------- from the gateway

    def _is_known(self, request: web.Request, username: str) -> bool:
        key = request.headers.get("apiKey", "")
        return username == self.settings.username and hmac.compare_digest(key.encode(), self.settings.api_key.encode())

    async def _user(self, request: web.Request) -> web.Response:
        if not self._is_known(request, request.query.get("username", "")):
            return web.Response(status=401, text="The supplied authentication is invalid")
        return web.json_response({"UserData": {"balance": "KES 1000.0000"}})

    async def _messaging(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        values = {name: value for name, value in form.items() if isinstance(value, str)}
        if not self._is_known(request, values.get("username", "")):
            return web.Response(status=401, text="The supplied authentication is invalid")
        missing = [name for name in ("to", "message", "bulkSMSMode") if not values.get(name)]
        if missing:
            return web.Response(status=400, text=f"Request is missing required form field '{missing[0]}'")
        if self.strikes(Fault.SLOW):
            await asyncio.sleep(self.settings.slow_s)
        if self.strikes(Fault.ERROR):
            return web.Response(status=500, text="Internal server error")
        if self.strikes(Fault.THROTTLE):
            return web.Response(status=429, text="Too many requests")
        if self.strikes(Fault.GARBAGE):
            return web.Response(status=201, text="<html>OK</html>", content_type="text/html")
        recipients = [
            await self._take(number, values.get("from", ""), values["message"]) for number in values["to"].split(",")
        ]
        taken = sum(one["statusCode"] < 200 for one in recipients)
        if taken and self.strikes(Fault.LOSE_ANSWER):
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=201)  # into a connection that is gone
        message = f"Sent to {taken}/{len(recipients)} Total Cost: KES {0.8 * taken:.4f}"
        answer = {"SMSMessageData": {"Message": message, "Recipients": recipients}}
        return web.json_response(answer, status=201)

    async def _take(self, number: str, sender: str, text: str) -> dict[str, Any]:
        """One recipient's part of the answer; a text that is taken goes its way."""
        phone = number.removeprefix("+")
        code = 101
        if not (number.startswith("+") and phone.isascii() and phone.isdigit() and 6 < len(phone) < 16):
            code = 403
        elif self.strikes(Fault.NO_BALANCE):
            code = 405
        elif phone in self.opted_out or self.strikes(Fault.BLACKLIST):
            code = 406
        word = "Success" if code < 200 else STATUSES[code][0]
        told = {"statusCode": code, "number": number, "status": word, "cost": "0", "messageId": "None"}
        if code >= 200:
            return told
        message_id = f"ATXid_{self._new_id()}"
        if not self.strikes(Fault.LOSE):
            received = Received(phone, sender or "AFRICASTKNG", text, message_id)
            is_lost = self.strikes(Fault.FAIL)
            if not is_lost:
                self.received.append(received)
                self._on_text(received)
            if self.strikes(Fault.REPORT_FIRST):
                await self._report(received, is_lost, 0.0)
            else:
                self._start(self._report(received, is_lost, self.settings.report_after_s))
        return {**told, "cost": "KES 0.8000", "messageId": message_id}

    async def _report(self, received: Received, is_lost: bool, after_s: float) -> None:
        await asyncio.sleep(after_s)
        form = {
            "id": received.message_id,
            "status": "Failed" if is_lost else "Success",
            "phoneNumber": f"+{received.phone}",
            "networkCode": "99999",
            "retryCount": "0",
        }
        if is_lost:
            form["failureReason"] = "DeliveryFailure"
        await self._call("/reports", form)
        self.reported += 1
