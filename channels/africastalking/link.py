"""One account at Africa's Talking: texts go out through its package, which blocks, in a few threads of its own. Shell.

The package (`africastalking` 2) makes the request: address, headers, fields. Two of its hooks are used, because it has
no setting for either: where its service lives (for the simulator), and how a request is made (it would open a
connection for each text, and forget the HTTP status of an answer). Decision 0041.

An account that cannot send (no balance, a wrong key, no connection) rests, longer each time; meanwhile other ways are
taken, and replies that have none wait without being counted. No text, phone number or key is logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import requests
from africastalking.Application import ApplicationService
from africastalking.SMS import SMSService
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from channels.africastalking.api import Answered, Verdict, read_answer
from channels.contract import Outcome, Reply, Sent, SentPart
from channels.smpp.link import LinkCounts, LinkObserver
from channels.smpp.messageid import normal
from channels.smpp.pace import Pace
from channels.smpp.text import filled
from config.settings import AfricasTalkingSettings

log = logging.getLogger(__name__)

_AILING_AFTER: Final = 3  # texts in a row without a usable answer, and others are asked first
_WAITING_MAX: Final = 10_000
_ANSWER_OCTETS_MAX: Final = 65_536
_READ_OCTETS: Final = 8_192


class _NotSent(Exception):
    """The request surely did not reach its service."""


class _NoAnswer(Exception):
    """The request may have reached its service, and no usable answer came."""


class _Wire:
    """How a service of the package reaches its service: an address of ours, and connections that are kept."""

    _baseUrl: str

    def __init__(self, settings: AfricasTalkingSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._session = requests.Session()
        super().__init__(settings.username, settings.api_key.reveal())  # type: ignore[call-arg]

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def _init_service(self) -> None:
        super()._init_service()  # type: ignore[misc]
        if self._settings.base_url:
            self._baseUrl = self._contentUrl = f"{self._settings.base_url}/version1"

    def _make_request(
        self, url: str, method: str, headers: Any, data: Any, params: Any, callback: Any = None, timeout: Any = None
    ) -> tuple[int, bytes]:
        """The HTTP status and the body. Raises _NotSent or _NoAnswer."""
        settings = self._settings
        try:
            with self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                params=params,
                timeout=(settings.connect_timeout_s, settings.answer_timeout_s),
                allow_redirects=False,  # the key and the text go to nobody else
                stream=True,
            ) as response:
                return response.status_code, self._read(response)
        except (requests.RequestException, HTTPError) as fault:
            if _is_before_sending(fault):
                raise _NotSent(type(fault).__name__) from None
            raise _NoAnswer(type(fault).__name__) from None

    def _read(self, response: requests.Response) -> bytes:
        """The body, neither too long nor too slow: each octet of it would start the package's own time-out anew."""
        until = self._clock() + self._settings.answer_timeout_s
        body = b""
        while some := response.raw.read1(_READ_OCTETS, decode_content=True):
            body += some
            if len(body) > _ANSWER_OCTETS_MAX or self._clock() > until:
                raise _NoAnswer("an answer too long or too slow")
        return body


class _Sms(_Wire, SMSService):  # type: ignore[misc]
    """The package's SMS service on our wire."""


class _Application(_Wire, ApplicationService):  # type: ignore[misc]
    """The package's account service on our wire."""


def _is_before_sending(fault: BaseException) -> bool:
    if isinstance(fault, requests.ConnectTimeout | requests.exceptions.InvalidURL | requests.exceptions.ProxyError):
        return True
    kinds = (NewConnectionError, ConnectTimeoutError, ssl.SSLCertVerificationError)
    return any(isinstance(each, kinds) for each in _causes(fault))


def _causes(fault: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [fault]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        reason = getattr(one, "reason", None)
        related = (one.__cause__, one.__context__, reason, *one.args)
        waiting += [each for each in related if isinstance(each, BaseException)]


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account says of itself."""

    is_well: bool
    said: str


def standing(settings: AfricasTalkingSettings, clock: Callable[[], float]) -> Standing:
    """Ask for the account's balance: whether the address, the user and the key are right. Blocks; sends nothing."""
    service = _Application(settings, clock)
    try:
        status, body = service.fetch_application_data()
    except (_NotSent, _NoAnswer) as fault:
        return Standing(False, f"no answer, {fault}")
    finally:
        service.close()
    if status != 200:
        refused = "the user or the key is refused" if status in (401, 403) else "an error"
        return Standing(False, f"HTTP {status}, {refused}")
    try:
        balance = str(json.loads(body)["UserData"]["balance"])[:40]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Standing(False, "an answer of another form")
    return Standing(True, f"the key is taken, balance {balance}")


class Account:
    """One account, as the rest of the program sees it: a way out for texts. Satisfies `channels.contract.TextWay`.

    `queued_s`: a reply waits so long for its turn at most, so that it does not go out when it may be another's.
    `random` gives floats from 0 to 1, for the jitter of rests.
    """

    def __init__(
        self,
        settings: AfricasTalkingSettings,
        *,
        random: Callable[[], float],
        queued_s: float = 30.0,
        observer: LinkObserver | None = None,
    ) -> None:
        self.settings = settings
        self.counts = LinkCounts()
        self._random = random
        self._queued_s = queued_s
        self._observer = observer or LinkObserver()
        self._may_send = True
        self._pool: ThreadPoolExecutor | None = None
        self._services: deque[Any] = deque()
        self._turns = asyncio.Semaphore(settings.connections_max)
        self._pace: Pace | None = None
        self._waiting = 0
        self._in_flight = 0
        self._faults_in_a_row = 0
        self._rests = 0
        self._rests_until = 0.0

    @property
    def name(self) -> str:
        """The peer's name, as stored with requests."""
        return self.settings.name

    @property
    def centre(self) -> str:
        """Its ids of messages are its own."""
        return self.settings.name

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The beginnings of the phone numbers it serves; none for all."""
        return tuple(self.settings.prefixes.split())

    @property
    def sends(self) -> bool:
        """It always does."""
        return True

    @property
    def short_codes(self) -> frozenset[str]:
        """The numbers that customers write to by this account."""
        return frozenset(self.settings.short_codes.split())

    @property
    def is_ailing(self) -> bool:
        """Whether the last texts got no usable answer."""
        return self._faults_in_a_row >= _AILING_AFTER

    @property
    def is_slowed(self) -> bool:
        """Whether it was too fast of late and texts wait for their turn."""
        return self._pace is not None and self._pace.is_slowed and self._waiting > self.settings.connections_max

    @property
    def in_flight(self) -> int:
        """How many texts wait for their answer."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """How many texts wait for their turn."""
        return self._waiting

    def sent_per_s(self) -> float:
        """How many texts went out a second, lately."""
        return self._pace.sent_per_s(asyncio.get_running_loop().time()) if self._pace is not None else 0.0

    def allowed_per_s(self) -> float:
        """How many may go out a second now; infinite where nothing limits them."""
        return self._pace.rate_per_s if self._pace is not None else self.settings.rate_per_s or float("inf")

    @property
    def is_resting(self) -> bool:
        """Whether nothing is sent for now because it could not be."""
        return asyncio.get_running_loop().time() < self._rests_until

    def is_up(self) -> bool:
        """Whether a text could be sent now."""
        return self._may_send and not self.is_resting

    def let_send(self, may_send: bool) -> None:
        """Send from now on, or send nothing; what waits for its turn then is surely not taken."""
        self._may_send = may_send

    async def close(self) -> None:
        """Begin nothing more. Threads that wait for an answer end by themselves, within the time-outs."""
        self._may_send = False
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        while self._services:
            self._services.pop().close()

    # -------------------------------------------------------------------------------------------- sending

    async def send(self, reply: Reply, text: str, keep_whole: Sequence[str]) -> tuple[Sent, bool]:
        """Try once. True with it: no other way may be tried now, for this one took it, or perhaps did."""
        if not (reply.recipient.isascii() and reply.recipient.isdigit() and 6 < len(reply.recipient) < 16):
            return self._said(Answered(Verdict.ELSEWHERE, "not a phone number"))
        if self._waiting >= _WAITING_MAX:
            return self._held("too many waiting")
        loop = asyncio.get_running_loop()
        if self._pace is None:
            self._pace = Pace(self.settings.rate_per_s, loop.time())
        came_at = loop.time()
        self._waiting += 1
        is_waiting = True
        try:
            async with self._turns:
                await self._in_pace(self._pace, loop)
                self._waiting -= 1
                is_waiting = False
                if not self.is_up():
                    return self._held("paused" if not self._may_send else "resting")
                if loop.time() - came_at > self._queued_s:
                    return self._held("waited too long")
                return await self._send_now(loop, reply, filled(text, keep_whole))
        finally:
            self._waiting -= is_waiting

    async def _in_pace(self, pace: Pace, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            wait_s = pace.wait_s(loop.time())
            if not wait_s:
                return
            await asyncio.sleep(wait_s)

    async def _send_now(self, loop: asyncio.AbstractEventLoop, reply: Reply, text: str) -> tuple[Sent, bool]:
        assert self._pace is not None
        sender = reply.sender if reply.sender in self.short_codes else self.settings.sender_id or None
        began = loop.time()
        self._pace.spend(began)
        self._in_flight += 1
        self.counts.submits += 1
        try:
            answered = await loop.run_in_executor(self._threads(), self._post, text, reply.recipient, sender, loop.time)
        finally:
            self._in_flight -= 1
        self._observer.response(self.name, answered.status, loop.time() - began)
        self._learn(answered, loop.time())
        return self._said(answered)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.settings.connections_max, thread_name_prefix=f"at-{self.name}")
        return self._pool

    def _post(self, text: str, number: str, sender: str | None, clock: Callable[[], float]) -> Answered:
        """In a thread of the pool: one text through the package."""
        try:
            service = self._services.pop()
        except IndexError:
            service = _Sms(self.settings, clock)
        try:
            status, body = service.send(text, [f"+{number}"], sender_id=sender)
        except ValueError:  # the package's own rule for phone numbers
            return Answered(Verdict.ELSEWHERE, "not a phone number")
        except _NotSent as fault:
            return Answered(Verdict.LATER, "no connection", str(fault))
        except _NoAnswer as fault:
            return Answered(Verdict.UNKNOWN, "none", f"outcome unknown, {fault}")
        finally:
            self._services.append(service)
        return read_answer(status, body, number)

    # -------------------------------------------------------------------------------------------- what came of it

    def _learn(self, answered: Answered, now: float) -> None:
        """Rest, slow down, or be well again."""
        assert self._pace is not None
        is_fault = answered.status in ("none", "no connection", "unreadable") or answered.status.startswith("http ")
        if answered.verdict is Verdict.THROTTLED:
            self.counts.throttled += 1
            self._pace.throttled(now)
            self._rests_until = max(self._rests_until, now + 1.0)
        elif answered.verdict is Verdict.ACCOUNT:
            self._rest(answered, now)
        elif is_fault:
            self._faults_in_a_row += 1
            if answered.status == "no connection" or self.is_ailing:
                self._rest(answered, now)
        else:
            if self._rests:
                log.info("account %s: well again", self.name)
            self._faults_in_a_row = self._rests = 0
            if answered.verdict is Verdict.TAKEN:
                self._pace.went_well(now)
        if answered.verdict is Verdict.UNKNOWN:
            self.counts.unanswered += 1

    def _rest(self, answered: Answered, now: float) -> None:
        if now < self._rests_until:
            return  # of several that were under way, the first has said it
        settings = self.settings
        rest_s = min(settings.rest_max_s, settings.rest_first_s * 2.0 ** min(self._rests, 30))
        rest_s *= 0.5 + self._random() / 2
        self._rests += 1
        self._rests_until = now + rest_s
        level = logging.ERROR if answered.verdict is Verdict.ACCOUNT else logging.WARNING
        log.log(level, "account %s: %s %s; rests %.1f s", self.name, answered.status, answered.detail, rest_s)

    def _held(self, why: str) -> tuple[Sent, bool]:
        self.counts.later += 1
        return Sent(Outcome.LATER, f"{self.name}: {why}", is_tried=False), False

    def _said(self, answered: Answered) -> tuple[Sent, bool]:
        verdict = answered.verdict
        if verdict is Verdict.TAKEN:
            self.counts.taken += 1
            kept: tuple[SentPart, ...] = ()
            if answered.message_id and self.settings.receipts:
                one = answered.message_id
                kept = (SentPart(self.name, self.centre, one, normal(one), 1, 1),)
            return Sent(Outcome.TAKEN, f"{self.name}: {answered.message_id}", kept), True
        detail = f"{self.name}: {answered.status} {answered.detail}".rstrip()
        if verdict in (Verdict.NEVER, Verdict.ELSEWHERE):
            self.counts.never += 1
            return Sent(Outcome.NEVER, detail), verdict is Verdict.NEVER
        self.counts.later += 1
        return Sent(Outcome.LATER, detail), verdict is Verdict.UNKNOWN
