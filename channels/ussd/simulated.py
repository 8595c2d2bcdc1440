"""A USSD provider with phones, as a gateway sees it: the forms of all providers, spoken over real HTTP. Shell.

For trying a gateway out, for its tests, and for the web phone. A phone dials and types; what it is shown is what came
over the wire. Faults on purpose: an answer that is lost (the network shows its own words, and the session is gone), a
request that is sent twice, a request that is late.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Protocol
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import aiohttp
from defusedxml.ElementTree import fromstring

NETWORK_SORRY: Final = "Connection problem or invalid MMI code."
"""What a phone shows when its network got no usable answer."""


class Fault(Enum):
    """What can be made to go wrong with the next request of a phone."""

    LOST = "lost"  # the gateway answers, and the phone never hears it
    REPEAT = "repeat"  # the network sends the same request twice, and shows the second answer
    DELAY = "delay"  # the request is late


@dataclass(frozen=True, slots=True)
class Shown:
    """What a phone shows."""

    text: str
    is_over: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What the phone's network knows of one step."""

    session: str
    msisdn: str
    code: str
    dialled: str  # behind the code
    inputs: tuple[str, ...]
    number: int
    at: datetime


class Form(Protocol):
    """One provider's form, seen from the provider's side."""

    content_type: str

    def ask(self, request: Request) -> str:
        """The body of the callback."""

    def read(self, body: str) -> Shown:
        """What the answer shows. Raises ValueError for one that is none."""


class AfricasTalking:
    """Form in, CON or END out."""

    content_type = "application/x-www-form-urlencoded"

    def ask(self, request: Request) -> str:
        typed = (request.dialled, *request.inputs) if request.dialled else request.inputs
        return urlencode(
            {
                "sessionId": request.session,
                "phoneNumber": f"+{request.msisdn}",
                "networkCode": "99999",
                "serviceCode": request.code,
                "text": "*".join(typed),
            }
        )

    def read(self, body: str) -> Shown:
        kind, _, text = body.partition(" ")
        if kind not in ("CON", "END"):
            raise ValueError("CON or END expected")
        return Shown(text, kind == "END")


class Hubtel:
    """JSON in and out."""

    content_type = "application/json"

    def ask(self, request: Request) -> str:
        is_first = not request.inputs
        dialled = f"*{request.code.strip('*#')}{f'*{request.dialled}' if request.dialled else ''}#"
        return json.dumps(
            {
                "SessionId": request.session,
                "Mobile": request.msisdn,
                "ServiceCode": request.code.strip("*#"),
                "Type": "initiation" if is_first else "response",
                "Message": dialled if is_first else request.inputs[-1],
                "Operator": "mtn",
                "Sequence": str(request.number),
                "ClientState": "",
            }
        )

    def read(self, body: str) -> Shown:
        said = json.loads(body)
        return Shown(str(said["Message"]), str(said["Type"]).lower() == "release")


class XmlRpc:
    """XML-RPC in and out."""

    content_type = "text/xml"

    def ask(self, request: Request) -> str:
        is_first = not request.inputs
        code = request.code.strip("*#")
        members = {
            "TransactionId": request.session,
            "TransactionTime": f"{request.at:%Y%m%dT%H:%M:%S}.{request.number}",
            "MSISDN": request.msisdn,
            "USSDServiceCode": code,
            "USSDRequestString": f"*{code}{f'*{request.dialled}' if request.dialled else ''}#"
            if is_first
            else request.inputs[-1],
            "response": "false" if is_first else "true",
        }
        struct = "".join(
            f"<member><name>{name}</name><value><string>{escape(value)}</string></value></member>"
            for name, value in members.items()
        )
        return (
            '<?xml version="1.0"?><methodCall><methodName>handleUSSDRequest</methodName><params><param><value>'
            f"<struct>{struct}</struct></value></param></params></methodCall>"
        )

    def read(self, body: str) -> Shown:
        found = {
            member.findtext("name"): "".join(value.itertext())
            for member in fromstring(body).iter("member")
            if (value := member.find("value")) is not None
        }
        return Shown(found["USSDResponseString"], found["action"] == "end")


FORMS: Final[Mapping[str, Callable[[], Form]]] = {
    "africastalking": AfricasTalking,
    "hubtel": Hubtel,
    "xmlrpc": XmlRpc,
}


@dataclass(slots=True)
class Provider:
    """A provider whose phones reach one gateway's callback address.

    `new_session` gives ids, `now` the time. `timeout_s` is how long the network waits for an answer.
    """

    url: str
    kind: str
    code: str
    new_session: Callable[[], str]
    now: Callable[[], datetime]
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 10.0
    delay_s: float = 2.0
    _client: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Take up connections."""
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.timeout_s))

    async def close(self) -> None:
        """Let them go."""
        if self._client is not None:
            await self._client.close()

    async def ask(self, request: Request, fault: Fault | None) -> Shown:
        """One callback and what its answer shows, with a fault on the way if one was ordered."""
        assert self._client is not None, "open the provider first"
        form = FORMS[self.kind]()
        body = form.ask(request)
        if fault is Fault.DELAY:
            await asyncio.sleep(self.delay_s)
        shown = Shown(NETWORK_SORRY, True)
        for _ in range(2 if fault is Fault.REPEAT else 1):
            try:
                headers = {**self.headers, "Content-Type": form.content_type}
                async with self._client.post(self.url, data=body.encode(), headers=headers) as response:
                    text = await response.text()
                    shown = form.read(text) if response.status == 200 else Shown(NETWORK_SORRY, True)
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
                shown = Shown(NETWORK_SORRY, True)
        return Shown(NETWORK_SORRY, True) if fault is Fault.LOST else shown


class Phone:
    """One phone of a provider."""

    def __init__(self, provider: Provider, msisdn: str) -> None:
        self._provider = provider
        self.msisdn = msisdn
        self.shown = Shown("", True)
        self.fault: Fault | None = None  # of the next request
        self._session = ""
        self._dialled = ""
        self._inputs: tuple[str, ...] = ()
        self._number = 0

    async def dial(self, dialled: str = "") -> Shown:
        """Dial the service's code, `*384*1234#`, or with a path behind it, `*384*1234*1*2#`; empty: the code alone."""
        code = self._provider.code.strip("*#")
        typed = dialled.strip().strip("#").lstrip("*")
        if typed and typed != code and not typed.startswith(f"{code}*"):
            self.shown = Shown(NETWORK_SORRY, True)
            return self.shown
        self._session, self._inputs, self._number = self._provider.new_session(), (), 1
        self._dialled = typed.removeprefix(code).lstrip("*")
        return await self._step()

    async def type(self, typed: str) -> Shown:
        """Answer the screen. Nothing happens where no session is open."""
        if self.shown.is_over:
            return self.shown
        self._inputs = (*self._inputs, typed)
        self._number += 1
        return await self._step()

    def hang_up(self) -> None:
        """End the session here; the gateway is not told, as networks often do not."""
        self.shown = Shown("", True)

    async def _step(self) -> Shown:
        fault, self.fault = self.fault, None
        request = Request(
            self._session,
            self.msisdn,
            self._provider.code,
            self._dialled,
            self._inputs,
            self._number,
            self._provider.now(),
        )
        self.shown = await self._provider.ask(request, fault)
        return self.shown
