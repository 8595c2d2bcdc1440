"""One link to a message centre: its sockets, its sessions, and the will to be bound again. Shell.

A link is one transceiver session, or a transmitter and a receiver session side by side. It decides nothing about
the protocol (`session.py` does) and nothing about messages (its owner does). It is an asyncio.Protocol with
TCP_NODELAY (asyncio sets it on every TCP socket; a test looks) and one joined write for what one turn of the loop
brought: a response and a submit_sm written apart stand still for 40 ms each (Nagle's algorithm against delayed
acknowledgements).
No text, phone number or password is logged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from channels.contract import Outcome
from channels.smpp import codes
from channels.smpp.codes import Verdict, command_name, status_name
from channels.smpp.pdu import DataSm, DeliverSm, SubmitSm
from channels.smpp.receipt import Receipt
from channels.smpp.session import (
    BindRefused,
    Bound,
    Closed,
    Event,
    LinkSettings,
    MessageIn,
    Noted,
    ReceiptIn,
    Role,
    Session,
    State,
    SubmitAnswered,
    SubmitUnanswered,
)

__all__ = ["Incoming", "Link", "LinkCounts", "LinkSettings", "SubmitResult"]

log = logging.getLogger(__name__)

# A peer that reads nothing while we answer its enquiries is cut off, before it fills our memory.
_MAX_UNWRITTEN_OCTETS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """How one submit_sm ended. `command_status` is None where no response came: it may have been taken or not."""

    outcome: Outcome
    detail: str = ""
    command_status: int | None = None
    message_id: str = ""


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


class Incoming:
    """A message from a phone that waits for its answer."""

    __slots__ = ("_answered", "_connection", "_sequence", "link", "message")

    def __init__(self, link: Link, connection: _Connection, sequence: int, message: DeliverSm | DataSm) -> None:
        self.link = link
        self.message = message
        self._connection = connection
        self._sequence = sequence
        self._answered = False

    def answer(self, command_status: int) -> None:
        """Acknowledge (ESME_ROK) or refuse, at any time. The first answer counts; none does if the session is gone."""
        if not self._answered:
            self._answered = True
            self._connection.answer(self._sequence, command_status)


class _Trouble(Exception):
    """A session that could not be had, or did not last. `slow`: only a person can mend it."""

    def __init__(self, what: str, *, slow: bool = False) -> None:
        super().__init__(what)
        self.slow = slow


@dataclass(slots=True)
class _Waiting:
    message: SubmitSm
    done: asyncio.Future[SubmitResult]
    attempts: int = 0


class Link:
    """One message centre, as the rest of the program sees it.

    `random` gives floats from 0 to 1, for the jitter of reconnecting. `tls` is used as it is; certificates are
    checked against the settings' host.
    """

    def __init__(
        self, settings: LinkSettings, *, random: Callable[[], float], tls: ssl.SSLContext | None = None
    ) -> None:
        self.settings = settings
        self.counts = LinkCounts()
        self._random = random
        self._tls = tls
        self._on_message: Callable[[Incoming], None] | None = None
        self._on_receipt: Callable[[Receipt], None] | None = None
        self._connections: dict[Role, _Connection] = {}
        self._sending: _Connection | None = None
        self._waiting: deque[_Waiting] = deque()
        self._resume: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def name(self) -> str:
        """The peer's name, as stored with requests."""
        return self.settings.name

    def is_up(self) -> bool:
        """Whether a message could be sent now."""
        return not self._stopping and self._sender() is not None

    def states(self) -> dict[str, str]:
        """Give each session's state by its role, for health pages."""
        return {role.name.lower(): connection.session.state.value for role, connection in self._connections.items()}

    async def run(
        self, on_message: Callable[[Incoming], None], on_receipt: Callable[[Receipt], None] | None = None
    ) -> None:
        """Be bound, for ever; on cancellation let messages be answered, unbind, and leave.

        `on_message` and `on_receipt` are called from the loop and must not wait.
        """
        self._on_message = on_message
        self._on_receipt = on_receipt
        self._stopping = False
        roles = (Role.TRANSCEIVER,) if self.settings.mode == "transceiver" else (Role.TRANSMITTER, Role.RECEIVER)
        sessions = [asyncio.create_task(self._stay_bound(role), name=f"{self.name}-{role.name}") for role in roles]
        try:
            await asyncio.wait(sessions)  # not gather: on cancellation the sessions shall live until they have left
        finally:
            self._stopping = True
            try:
                await self._leave()
            finally:
                for task in sessions:
                    task.cancel()
                await asyncio.gather(*sessions, return_exceptions=True)
                self._give_up_waiting("link stopped")

    async def submit(self, message: SubmitSm) -> SubmitResult:
        """Send one message and wait for what the message centre says.

        Waits while the window is full, in order. A throttled message is tried again after the link's pause, a few
        times, since it was surely not taken. LATER also where the link is down or no response came.
        """
        if self._stopping or self._sender() is None:
            return self._count(SubmitResult(Outcome.LATER, "link down"))
        if len(self._waiting) >= self.settings.max_queued:
            return self._count(SubmitResult(Outcome.LATER, "too many waiting"))
        waiting = _Waiting(message, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._pump()
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

    # -------------------------------------------------------------------------------------------- sending

    def _sender(self) -> _Connection | None:
        """Give the connection by which messages go out now."""
        connection = self._sending
        return connection if connection is not None and connection.session.state is State.BOUND else None

    def _pump(self) -> None:
        """Send what the window has room for."""
        sender = self._sender()
        if sender is None or self._resume is not None or not sender.writable:
            return
        session = sender.session
        if not (self._waiting and session.can_submit):
            return
        while self._waiting and session.can_submit:
            waiting = self._waiting.popleft()
            if waiting.done.done():  # whoever waited has gone
                continue
            waiting.attempts += 1
            try:
                sequence = session.submit(waiting.message, sender.loop.time())
            except ValueError as fault:
                waiting.done.set_result(SubmitResult(Outcome.NEVER, str(fault)))
                continue
            self.counts.submits += 1
            sender.submitted[sequence] = waiting
        sender.write_soon()
        sender.set_timer()

    def _pause(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._resume is None:
            self._resume = loop.call_later(self.settings.throttle_pause_s, self._end_pause)

    def _end_pause(self) -> None:
        self._resume = None
        self._pump()

    def _submit_answered(self, connection: _Connection, event: SubmitAnswered) -> None:
        waiting = connection.submitted.pop(event.sequence)
        status = event.command_status
        verdict = self.settings.verdicts.get(status) or codes.verdict(status)
        if verdict is Verdict.PAUSE:
            self.counts.throttled += 1
            self._pause(connection.loop)
            if waiting.attempts <= self.settings.throttle_retries and not waiting.done.done():
                self._waiting.appendleft(waiting)  # before those that came after it
                return
        if verdict is Verdict.REBIND:
            connection.give_up("the peer does not hold us for bound")
        if waiting.done.done():
            return
        if verdict is Verdict.TAKEN:
            waiting.done.set_result(SubmitResult(Outcome.TAKEN, "", status, event.message_id))
            return
        outcome = Outcome.NEVER if verdict is Verdict.NEVER else Outcome.LATER
        waiting.done.set_result(SubmitResult(outcome, status_name(status), status))

    def _give_up_waiting(self, reason: str) -> None:
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done.done():
                waiting.done.set_result(SubmitResult(Outcome.LATER, reason))

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
        """Connect, bind, and stay until the session ends; _Trouble unless it lasted."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        connection = _Connection(self, role, loop)
        began = loop.time()
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
        try:
            reason = await connection.ended
        finally:
            if self._connections.get(role) is connection:
                del self._connections[role]
            connection.give_up("cancelled")
            if role.sends:
                self._sending = None
                self._give_up_waiting("link down")
        refused = connection.refused
        if refused is not None:
            slow = refused in codes.BIND_NEEDS_A_PERSON
            raise _Trouble(f"{role.name.lower()}: bind refused, {status_name(refused)}", slow=slow)
        if loop.time() - began < settings.reconnect_max_s:
            raise _Trouble(f"{role.name.lower()}: session ended, {reason}")
        log.warning("link %s: %s: session ended, %s", self.name, role.name.lower(), reason)

    async def _leave(self) -> None:
        """Let what is under way come to its end, then unbind; for at most `stop_grace_s`."""
        connections = [each for each in self._connections.values() if not each.ended.done()]
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

    def _take_events(self, connection: _Connection, events: list[Event]) -> None:
        for event in events:
            match event:
                case MessageIn():
                    self.counts.messages += 1
                    assert self._on_message is not None
                    self._on_message(Incoming(self, connection, event.sequence, event.message))
                case SubmitAnswered():
                    self._submit_answered(connection, event)
                case SubmitUnanswered():
                    waiting = connection.submitted.pop(event.sequence)
                    if not waiting.done.done():
                        waiting.done.set_result(SubmitResult(Outcome.LATER, f"outcome unknown, {event.reason}"))
                case ReceiptIn():
                    self.counts.receipts += 1
                    if self._on_receipt is not None:
                        self._on_receipt(event.receipt)
                case Bound():
                    self.counts.sessions += 1
                    self._connections[connection.session.role] = connection
                    if connection.session.role.sends:
                        self._sending = connection
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


class _Connection(asyncio.Protocol):
    """One socket and its session."""

    def __init__(self, link: Link, role: Role, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.session = Session(link.settings, role, loop.time())
        self.submitted: dict[int, _Waiting] = {}
        self.ended: asyncio.Future[str] = loop.create_future()
        self.refused: int | None = None
        self.writable = True
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._write_planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._quiet: asyncio.Future[None] | None = None

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.session.bind(self.loop.time())
        self._write()
        self.set_timer()

    def data_received(self, data: bytes) -> None:
        self._after(self.session.receive(data, self.loop.time()))

    def connection_lost(self, exc: Exception | None) -> None:
        self._link._take_events(self, self.session.lost(f"connection lost{f', {exc}' if exc else ''}"))
        self.finish("connection lost")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._link._pump()

    # Called by the link.

    def answer(self, sequence: int, command_status: int) -> None:
        if command_status == codes.ROK:
            self._link.counts.acknowledged += 1
        else:
            self._link.counts.put_off += 1
        events = self.session.answer(sequence, command_status)
        if events:
            self._after(events)
        else:
            self.write_soon()
        self._see_whether_quiet()

    def write_soon(self) -> None:
        """Write once, at the end of this turn of the loop, what all of the turn has to say."""
        if not self._write_planned:
            self._write_planned = True
            self.loop.call_soon(self._write_planned_output)

    async def quiet(self) -> None:
        """Wait until no message of either direction is under way."""
        if self._quiet is None:
            self._quiet = self.loop.create_future()
        self._see_whether_quiet()
        either: list[asyncio.Future[Any]] = [self._quiet, self.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def unbind(self) -> None:
        if self.session.state is State.BOUND:
            self.session.unbind(self.loop.time())
            self._write()
            self.set_timer()

    def give_up(self, reason: str) -> None:
        """End the session at once, without ceremony."""
        if self.session.is_closed:
            return  # `finish` has been called, and its last octets may still be on their way
        self._link._take_events(self, self.session.lost(reason))
        if self._transport is not None:
            self._transport.abort()

    def finish(self, reason: str) -> None:
        """Write what is left and close."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and not self._transport.is_closing():
            self._write()
            self._transport.close()
            # A peer that does not read must not keep the socket.
            self._timer = self.loop.call_later(self._link.settings.stop_grace_s, self._transport.abort)
        if not self.ended.done():
            self.ended.set_result(reason)

    # Inside.

    def _after(self, events: list[Event]) -> None:
        if events:
            self._link._take_events(self, events)
            self._link._pump()
            self._see_whether_quiet()
        self.write_soon()
        if not self.session.is_closed:
            self.set_timer()

    def _write_planned_output(self) -> None:
        self._write_planned = False
        self._write()

    def _write(self) -> None:
        octets = self.session.take_output()
        transport = self._transport
        if not octets or transport is None or transport.is_closing():
            return
        transport.write(octets)
        if not self.writable and transport.get_write_buffer_size() > _MAX_UNWRITTEN_OCTETS:
            self.give_up("the peer does not read")

    def set_timer(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            # Deadlines mostly move away; the timer looks again when it fires. Only an earlier one is worth a change.
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        # The loop may call a little before the time it was given, by the resolution of its clock.
        self._after(self.session.tick(self.loop.time() + 0.001))

    def _see_whether_quiet(self) -> None:
        if self._quiet is not None and not self._quiet.done():
            session = self.session
            if session.is_closed or not (session.messages_unanswered or session.submits_outstanding):
                self._quiet.set_result(None)
