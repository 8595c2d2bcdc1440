"""One link to a message centre: its sessions, its pace, and the will to be bound again. Shell.

A link is one transceiver session, a transmitter and a receiver session side by side, or one of these alone. It
decides nothing about the protocol (`session.py` does) and nothing about messages (its owner does). It may be bound only
while it is permitted to: always, or, where several nodes share a message centre's binds, until the end of a lease that
its owner renews; the end is kept by the link itself, whatever the owner is doing.
No text, phone number or password is logged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from channels.contract import Outcome
from channels.smpp import codes
from channels.smpp.codes import Verdict, command_name, status_name
from channels.smpp.connection import Connection
from channels.smpp.events import (
    BindRefused,
    Bound,
    Closed,
    Event,
    LateAnswer,
    MessageIn,
    Noted,
    ReceiptIn,
    Role,
    State,
    SubmitAnswered,
    SubmitUnanswered,
)
from channels.smpp.pace import Pace
from channels.smpp.pdu import DataSm, DeliverSm, SubmitSm
from channels.smpp.receipt import Receipt
from channels.smpp.settings import MODES, LinkSettings

__all__ = ["Incoming", "IncomingReceipt", "Link", "LinkCounts", "LinkObserver", "LinkSettings", "SubmitResult"]

log = logging.getLogger(__name__)

# So many messages in a row without any answer, and others are asked first.
_AILING_AFTER = 3


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """How one submit_sm ended.

    `command_status` is None where no response came. `is_unknown`: it may have been taken or not; else a message that
    was not TAKEN surely was not taken. `is_sent`: it went out at all, once at least.
    """

    outcome: Outcome
    detail: str = ""
    command_status: int | None = None
    message_id: str = ""
    is_unknown: bool = False
    is_sent: bool = True


@dataclass(slots=True)
class LinkCounts:
    """What a link has done since it was made."""

    sessions: int = 0
    messages: int = 0
    acknowledged: int = 0
    put_off: int = 0
    receipts: int = 0
    submits: int = 0
    taken: int = 0
    later: int = 0
    never: int = 0
    throttled: int = 0
    unanswered: int = 0
    answered_late: int = 0


@dataclass(slots=True)
class LinkObserver:
    """Whom a link tells what it measures; the composition root connects it to the metrics."""

    response: Callable[[str, str, float], None] = lambda link, status, seconds: None
    refused: Callable[[str, str], None] = lambda link, status: None


class _Answerable:
    __slots__ = ("_answered", "_connection", "_sequence", "link")

    def __init__(self, link: Link, connection: Connection[_Waiting], sequence: int) -> None:
        self.link = link
        self._connection = connection
        self._sequence = sequence
        self._answered = False

    def answer(self, command_status: int) -> None:
        """Acknowledge (ESME_ROK) or refuse, at any time. The first answer counts; none does if the session is gone."""
        if not self._answered:
            self._answered = True
            self._connection.answer(self._sequence, command_status)


class Incoming(_Answerable):
    """A message from a phone that waits for its answer."""

    __slots__ = ("message",)

    def __init__(
        self, link: Link, connection: Connection[_Waiting], sequence: int, message: DeliverSm | DataSm
    ) -> None:
        super().__init__(link, connection, sequence)
        self.message = message


class IncomingReceipt(_Answerable):
    """A receipt that waits for its answer."""

    __slots__ = ("receipt",)

    def __init__(self, link: Link, connection: Connection[_Waiting], sequence: int, receipt: Receipt) -> None:
        super().__init__(link, connection, sequence)
        self.receipt = receipt


class _Trouble(Exception):
    """A session that could not be had, or did not last. `slow`: only a person can mend it."""

    def __init__(self, what: str, *, slow: bool = False) -> None:
        super().__init__(what)
        self.slow = slow


@dataclass(slots=True)
class _Waiting:
    message: SubmitSm
    done: asyncio.Future[SubmitResult]
    on_late: Callable[[SubmitResult], None] | None = None
    attempts: int = 0
    sent_at: float = 0.0
    came_at: float = 0.0


def _unsent(waiting: _Waiting, reason: str) -> SubmitResult:
    """What comes of one that did not go out, or was throttled each time it did."""
    return SubmitResult(Outcome.LATER, reason, is_sent=waiting.attempts > 0)


class Link:
    """One message centre, as the rest of the program sees it.

    `random` gives floats from 0 to 1, for the jitter of reconnecting. `tls` is used as it is; certificates are
    checked against the settings' host. `leased`: it may not be bound before `permit`.
    """

    def __init__(
        self,
        settings: LinkSettings,
        *,
        random: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        observer: LinkObserver | None = None,
        leased: bool = False,
    ) -> None:
        self.settings = settings
        self.counts = LinkCounts()
        self._may_send = True  # what operators want of it
        self._random = random
        self._tls = tls
        self._observer = observer or LinkObserver()
        self._on_message: Callable[[Incoming], None] | None = None
        self._on_receipt: Callable[[IncomingReceipt], None] | None = None
        self._connections: dict[Role, Connection[_Waiting]] = {}
        self._alive: set[Connection[_Waiting]] = set()
        self._sending: Connection[_Waiting] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._pace: Pace | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._stopping = False
        self._permitted = asyncio.Event()
        self._permit_end: asyncio.TimerHandle | None = None
        self._unanswered_in_a_row = 0
        self._standing_down: asyncio.Task[None] | None = None
        if not leased:
            self._permitted.set()

    @property
    def name(self) -> str:
        """The peer's name, as stored with requests."""
        return self.settings.name

    @property
    def centre(self) -> str:
        """The message centre's name: ids of messages are its own, whichever link they come by."""
        return self.settings.centre or self.settings.name

    @property
    def sends(self) -> bool:
        """Whether it ever sends: a receiver does not."""
        return self.settings.mode != "receiver"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The beginnings of the phone numbers it serves; none for all."""
        return self.settings.prefixes

    def is_up(self) -> bool:
        """Whether a message could be sent now."""
        return not self._stopping and self._may_send and self._permitted.is_set() and self._sender() is not None

    def is_bound(self) -> bool:
        """Whether any of its sessions is bound."""
        return any(connection.session.state is State.BOUND for connection in self._connections.values())

    @property
    def is_ailing(self) -> bool:
        """Whether the last messages got no answer at all."""
        return self._unanswered_in_a_row >= _AILING_AFTER

    @property
    def is_slowed(self) -> bool:
        """Whether the message centre has throttled it and more waits than its window holds."""
        slowed = self._resume is not None or (self._pace is not None and self._pace.is_slowed)
        return slowed and len(self._waiting) > self.settings.window

    @property
    def in_flight(self) -> int:
        """How many submit_sm wait for their response."""
        return sum(connection.session.submits_outstanding for connection in self._alive)

    @property
    def queued(self) -> int:
        """How many submit_sm wait for room in the window, or for their turn."""
        return len(self._waiting)

    def sent_per_s(self) -> float:
        """How many submit_sm went out a second, lately."""
        return self._pace.sent_per_s(asyncio.get_running_loop().time()) if self._pace is not None else 0.0

    def allowed_per_s(self) -> float:
        """How many may go out a second now; infinite where nothing limits them."""
        return self._pace.rate_per_s if self._pace is not None else self.settings.rate_per_s or float("inf")

    def states(self) -> dict[str, str]:
        """Give each session's state by its role, for health pages."""
        return {role.name.lower(): connection.session.state.value for role, connection in self._connections.items()}

    # -------------------------------------------------------------------------------------------- being allowed

    def permit(self, until: float | None = None) -> None:
        """Be bound, until this time of the loop's clock at the latest; None: for ever. Again to prolong it."""
        loop = asyncio.get_running_loop()
        if self._permit_end is not None:
            self._permit_end.cancel()
            self._permit_end = None
        if until is not None:
            if until <= loop.time():
                self.forbid()
                return
            self._permit_end = loop.call_at(until, self.forbid)
        if not self._permitted.is_set() and (self._standing_down is None or self._standing_down.done()):
            self._permitted.set()

    def forbid(self) -> None:
        """Do not be bound: finish what is under way, for `stop_grace_s` at most, unbind, and wait for `permit`."""
        if self._permit_end is not None:
            self._permit_end.cancel()
            self._permit_end = None
        if not self._permitted.is_set():
            return
        self._permitted.clear()
        log.info("link %s: stands down", self.name)
        self._standing_down = asyncio.get_running_loop().create_task(self._leave(), name=f"{self.name}-stand-down")

    def let_send(self, may_send: bool) -> None:
        """Send from now on, or send nothing; what waits for its turn then is surely not taken."""
        self._may_send = may_send
        if may_send:
            self.pump()
        else:
            self._give_up_waiting("paused")

    @property
    def is_away(self) -> bool:
        """Whether it has no connection at all, and will make none before it is permitted to."""
        return not self._permitted.is_set() and not self._alive

    async def run(
        self,
        on_message: Callable[[Incoming], None],
        on_receipt: Callable[[IncomingReceipt], None] | None = None,
    ) -> None:
        """Be bound, for ever; on cancellation let messages be answered, unbind, and leave.

        `on_message` and `on_receipt` are called from the loop and must not wait. Without `on_receipt` receipts are
        acknowledged, and that is all.
        """
        self._on_message = on_message
        self._on_receipt = on_receipt
        self._stopping = False
        if self._pace is None:
            self._pace = Pace(self.settings.rate_per_s, asyncio.get_running_loop().time())
        sessions = [
            asyncio.create_task(self._stay_bound(role), name=f"{self.name}-{role.name}")
            for role in MODES[self.settings.mode]
        ]
        try:
            await asyncio.wait(sessions)  # not gather: on cancellation the sessions shall live until they have left
        finally:
            self._stopping = True
            if self._permit_end is not None:
                self._permit_end.cancel()
            try:
                await self._leave()
            finally:
                for task in sessions:
                    task.cancel()
                await asyncio.gather(*sessions, return_exceptions=True)
                self._give_up_waiting("link stopped")

    # -------------------------------------------------------------------------------------------- sending

    async def submit(self, message: SubmitSm, on_late: Callable[[SubmitResult], None] | None = None) -> SubmitResult:
        """Send one message and wait for what the message centre says.

        Waits while the window is full or the pace does not allow it, in order. A throttled message is tried again
        after the link's pause, a few times, since it was surely not taken. LATER also where the link is down or no
        response came; should one come all the same, `on_late` is told, from the loop.
        """
        if not self.is_up():
            return self._count(SubmitResult(Outcome.LATER, "link down", is_sent=False))
        if len(self._waiting) >= self.settings.max_queued:
            return self._count(SubmitResult(Outcome.LATER, "too many waiting", is_sent=False))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(message, loop.create_future(), on_late, came_at=loop.time())
        self._waiting.append(waiting)
        self.pump()
        return self._count(await waiting.done)

    def _count(self, result: SubmitResult) -> SubmitResult:
        counts = self.counts
        if result.outcome is Outcome.TAKEN:
            counts.taken += 1
        elif result.outcome is Outcome.LATER:
            counts.later += 1
        else:
            counts.never += 1
        return result

    def _sender(self) -> Connection[_Waiting] | None:
        """Give the connection by which messages go out now."""
        connection = self._sending
        return connection if connection is not None and connection.session.state is State.BOUND else None

    def pump(self) -> None:
        """Send what the window has room for and the pace allows."""
        sender = self._sender()
        if sender is None or self._resume is not None or not sender.writable or not self._may_send:
            return
        session = sender.session
        if not (self._waiting and session.can_submit):
            return
        now, pace = sender.loop.time(), self._pace
        assert pace is not None, "the link runs"
        while self._waiting and session.can_submit:
            wait_s = pace.wait_s(now)
            if wait_s:
                self._resume = sender.loop.call_later(wait_s, self._end_pause)
                break
            waiting = self._waiting.popleft()
            if waiting.done.done():  # whoever waited has gone
                continue
            if now - waiting.came_at > self.settings.queued_s:
                # Whoever owns it may soon be somebody else: it must not go out from here any more.
                waiting.done.set_result(_unsent(waiting, "waited too long"))
                continue
            waiting.attempts += 1
            waiting.sent_at = now
            try:
                sequence = session.submit(waiting.message, now)
            except ValueError as fault:
                waiting.done.set_result(SubmitResult(Outcome.NEVER, str(fault)))
                continue
            pace.spend(now)
            self.counts.submits += 1
            sender.submitted[sequence] = waiting
        sender.write_soon()
        sender.set_timer()

    def _pause(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._resume is not None:
            self._resume.cancel()
        self._resume = loop.call_later(self.settings.throttle_pause_s, self._end_pause)

    def _end_pause(self) -> None:
        self._resume = None
        self.pump()

    def _submit_answered(self, connection: Connection[_Waiting], event: SubmitAnswered) -> None:
        waiting = connection.submitted.pop(event.sequence)
        status = event.command_status
        now = connection.loop.time()
        self._unanswered_in_a_row = 0
        self._observer.response(self.name, status_name(status), now - waiting.sent_at)
        verdict = self.settings.verdicts.get(status) or codes.verdict(status)
        assert self._pace is not None, "the link runs"
        if verdict is Verdict.PAUSE:
            self.counts.throttled += 1
            self._pace.throttled(now)
            self._pause(connection.loop)
            if waiting.attempts <= self.settings.throttle_retries and not waiting.done.done():
                self._waiting.appendleft(waiting)  # before those that came after it
                return
        if verdict is Verdict.REBIND:
            connection.give_up("the peer does not hold us for bound")
        if verdict is Verdict.TAKEN:
            self._pace.went_well(now)
        if waiting.done.done():
            return
        if verdict is Verdict.TAKEN:
            waiting.done.set_result(SubmitResult(Outcome.TAKEN, "", status, event.message_id))
            return
        outcome = Outcome.NEVER if verdict is Verdict.NEVER else Outcome.LATER
        waiting.done.set_result(SubmitResult(outcome, status_name(status), status))

    def _submit_unanswered(self, connection: Connection[_Waiting], event: SubmitUnanswered) -> None:
        waiting = connection.submitted.pop(event.sequence)
        self.counts.unanswered += 1
        if not connection.session.is_closed:
            self._unanswered_in_a_row += 1
            self._observer.response(self.name, "none", connection.loop.time() - waiting.sent_at)
            if waiting.on_late is not None:
                connection.late[event.sequence] = waiting
                while len(connection.late) > self.settings.max_queued:
                    del connection.late[next(iter(connection.late))]
        if not waiting.done.done():
            result = SubmitResult(Outcome.LATER, f"outcome unknown, {event.reason}", is_unknown=True)
            waiting.done.set_result(result)

    def _submit_answered_late(self, connection: Connection[_Waiting], event: LateAnswer) -> None:
        waiting = connection.late.pop(event.sequence, None)
        status = event.command_status
        self.counts.answered_late += 1
        self._unanswered_in_a_row = 0
        if waiting is not None and waiting.on_late is not None and status == codes.ROK:
            waiting.on_late(SubmitResult(Outcome.TAKEN, "late", status, event.message_id))

    def _give_up_waiting(self, reason: str) -> None:
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done.done():
                waiting.done.set_result(_unsent(waiting, reason))

    # -------------------------------------------------------------------------------------------- being bound

    async def _stay_bound(self, role: Role) -> None:
        """Have a session, and another when it ends. Back off from the shortest to the longest pause while it fails."""
        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            wait=self._back_off,
            retry=retry_if_exception_type(_Trouble),
            before_sleep=self._log_trouble,
        )
        while True:
            pause = self.settings.reconnect_min_s
            await self._permitted.wait()
            try:
                # One that lasted ends here without an exception, and the count of failures begins anew.
                await retrying(self._have_session, role)
            except Exception:  # a bug: it must not end the link for ever
                pause = self.settings.reconnect_max_s
                log.exception("link %s: %s: a bug; again in %.1f s", self.name, role.name.lower(), pause)
            await asyncio.sleep(pause * (0.5 + self._random() / 2))

    def _back_off(self, state: RetryCallState) -> float:
        """Give the pause in seconds before the next attempt: doubling, with jitter of a half."""
        settings = self.settings
        fault = state.outcome.exception() if state.outcome is not None else None
        if isinstance(fault, _Trouble) and fault.slow:
            pause = settings.reconnect_max_s
        else:
            pause = min(settings.reconnect_max_s, settings.reconnect_min_s * 2.0 ** min(state.attempt_number - 1, 30))
        return pause * (0.5 + self._random() / 2)

    def _log_trouble(self, state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome is not None else None
        pause = state.next_action.sleep if state.next_action is not None else 0.0
        level = logging.ERROR if isinstance(fault, _Trouble) and fault.slow else logging.WARNING
        log.log(level, "link %s: %s; again in %.1f s, attempt %d", self.name, fault, pause, state.attempt_number)

    async def _have_session(self, role: Role) -> None:
        """Connect, bind, and stay until the session ends; _Trouble unless it lasted or had to end."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        if not self._permitted.is_set():
            return
        connection: Connection[_Waiting] = Connection(self, role, loop)
        self._alive.add(connection)
        began = loop.time()
        try:
            try:
                async with asyncio.timeout(settings.bind_timeout_s):
                    await loop.create_connection(
                        lambda: connection,
                        settings.host,
                        settings.port,
                        ssl=self._tls,
                        server_hostname=settings.host if self._tls is not None else None,
                    )
            except (OSError, TimeoutError) as fault:
                raise _Trouble(f"{role.name.lower()}: no connection, {type(fault).__name__} {fault}") from None
            if not self._permitted.is_set():  # the permission ended while the connection was made
                connection.give_up("stands down")
            reason = await connection.ended
            await connection.gone
        finally:
            if self._connections.get(role) is connection:
                del self._connections[role]
            connection.give_up("cancelled")
            self._alive.discard(connection)
            if role.sends:
                self._sending = None
                self._give_up_waiting("link down")
        if not self._permitted.is_set() or self._stopping:
            return
        refused = connection.refused
        if refused is not None:
            self._observer.refused(self.name, status_name(refused))
            slow = refused in codes.BIND_NEEDS_A_PERSON
            raise _Trouble(f"{role.name.lower()}: bind refused, {status_name(refused)}", slow=slow)
        if loop.time() - began < settings.reconnect_max_s:
            raise _Trouble(f"{role.name.lower()}: session ended, {reason}")
        log.warning("link %s: %s: session ended, %s", self.name, role.name.lower(), reason)

    async def _leave(self) -> None:
        """Let what is under way come to its end, then unbind; for at most `stop_grace_s`."""
        connections = list(self._connections.values())
        for connection in self._alive - set(connections):
            connection.give_up("stands down")  # not bound yet
        connections = [each for each in connections if not each.ended.done()]
        if not connections:
            return
        try:
            async with asyncio.timeout(self.settings.stop_grace_s):
                for connection in connections:
                    connection.session.taking = False
                for connection in connections:
                    await connection.quiet()
                for connection in connections:
                    connection.unbind()
                await asyncio.wait([connection.ended for connection in connections])
        except TimeoutError:
            log.warning("link %s: not all was answered in %.1f s", self.name, self.settings.stop_grace_s)
            for connection in connections:
                connection.unbind()
                connection.finish("stopped")

    # -------------------------------------------------------------------------------------------- told by connections

    def answered(self, command_status: int) -> None:
        """Count an answer to a message."""
        if command_status == codes.ROK:
            self.counts.acknowledged += 1
        else:
            self.counts.put_off += 1

    def take_events(self, connection: Connection[_Waiting], events: list[Event]) -> None:
        """Hear what happened on a connection."""
        for event in events:
            match event:
                case MessageIn():
                    self.counts.messages += 1
                    assert self._on_message is not None
                    self._on_message(Incoming(self, connection, event.sequence, event.message))
                case SubmitAnswered():
                    self._submit_answered(connection, event)
                case ReceiptIn():
                    self.counts.receipts += 1
                    incoming = IncomingReceipt(self, connection, event.sequence, event.receipt)
                    if self._on_receipt is not None:
                        self._on_receipt(incoming)
                    else:
                        incoming.answer(codes.ROK)
                case SubmitUnanswered():
                    self._submit_unanswered(connection, event)
                case LateAnswer():
                    self._submit_answered_late(connection, event)
                case Bound():
                    self.counts.sessions += 1
                    self._connections[connection.session.role] = connection
                    if connection.session.role.sends:
                        self._sending = connection
                        self._unanswered_in_a_row = 0
                    log.info("link %s: bound as %s", self.name, connection.session.role.name.lower())
                case BindRefused():
                    connection.refused = event.command_status
                case Noted():
                    log.info(
                        "link %s: %s: %s, %s, sequence %d",
                        self.name,
                        command_name(event.command_id),
                        event.what,
                        status_name(event.command_status),
                        event.sequence,
                    )
                case Closed():
                    connection.finish(event.reason)
