"""One socket and its session. Shell: asyncio calls it, and it calls its link.

It is an asyncio.Protocol with TCP_NODELAY (asyncio sets it on every TCP socket; a test looks) and one joined write for
what one turn of the loop brought: a response and a submit_sm written apart stand still for 40 ms each (Nagle's
algorithm against delayed acknowledgements).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Generic, Protocol, TypeVar

from channels.smpp.events import Event, Role, State
from channels.smpp.session import Session
from channels.smpp.settings import LinkSettings

# A peer that reads nothing while we answer its enquiries is cut off, before it fills our memory.
_MAX_UNWRITTEN_OCTETS: Final = 4_000_000

SubmissionT = TypeVar("SubmissionT")


class Owner(Protocol[SubmissionT]):
    """The link, as its connections see it."""

    settings: LinkSettings

    def take_events(self, connection: Connection[SubmissionT], events: list[Event]) -> None:
        """Hear what happened."""

    def pump(self) -> None:
        """Send what there is room for."""

    def answered(self, command_status: int) -> None:
        """Count an answer to a message."""


class Connection(asyncio.Protocol, Generic[SubmissionT]):
    """One socket and its session."""

    def __init__(self, owner: Owner[SubmissionT], role: Role, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.session = Session(owner.settings, role, loop.time())
        self.submitted: dict[int, SubmissionT] = {}
        self.late: dict[int, SubmissionT] = {}
        self.ended: asyncio.Future[str] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()  # the socket is closed
        self.refused: int | None = None
        self.writable = True
        self._owner = owner
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
        self._owner.take_events(self, self.session.lost(f"connection lost{f', {exc}' if exc else ''}"))
        self.finish("connection lost")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._owner.pump()

    # Called by the link.

    def answer(self, sequence: int, command_status: int) -> None:
        self._owner.answered(command_status)
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
        self._owner.take_events(self, self.session.lost(reason))
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
            self._timer = self.loop.call_later(self._owner.settings.stop_grace_s, self._transport.abort)
        if not self.ended.done():
            self.ended.set_result(reason)

    # Inside.

    def _after(self, events: list[Event]) -> None:
        if events:
            self._owner.take_events(self, events)
            self._owner.pump()
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
