"""One session as the message centre sees it: the other side of `session.py`. Pure: octets and time in, octets out.

It keeps the window of deliveries, sends again what was not answered in time, and commits the faults that its hub
asks for. Paragraphs are those of the SMPP 3.4 specification, issue 1.2.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final, Protocol

from channels.smpp import codes
from channels.smpp.centre_settings import Account, CentreCounts, CentreSettings, Fault
from channels.smpp.codes import (
    BIND_RECEIVER,
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    COMMAND_NAMES,
    DATA_SM,
    DATA_SM_RESP,
    DELIVER_SM,
    DELIVER_SM_RESP,
    ENQUIRE_LINK,
    ENQUIRE_LINK_RESP,
    GENERIC_NACK,
    HEADER_OCTETS,
    MAX_SEQUENCE,
    RESPONSE_BIT,
    SUBMIT_SM,
    TLV_SC_INTERFACE_VERSION,
    UNBIND,
    UNBIND_RESP,
    VERSION_34,
    command_name,
    status_name,
)
from channels.smpp.framing import Framer, read_header
from channels.smpp.pdu import BadBody, Bind, BindResp, DataSm, MessageResp, SubmitSm, decode

_HEADER = struct.Struct(">IIII")
_BINDS: Final = frozenset((BIND_RECEIVER, BIND_TRANSMITTER, BIND_TRANSCEIVER))
# What a refused delivery means here: these are refused for good, every other status is tried again.
_REFUSED_FOR_GOOD: Final = frozenset((codes.RX_P_APPN, codes.RX_R_APPN, codes.RINVMSGLEN, codes.RINVOPTPARAMVAL))
_NOISE: Final = b"GET / HTTP/1.1\r\nHost: sandbox\r\n\r\n"
_UNKNOWN_COMMAND: Final = 0x00010203


class Stored:
    """A message from a phone, until it is answered. `body` is deliver_sm without its header."""

    __slots__ = ("answered", "body", "message_id", "queue", "tries")

    def __init__(self, message_id: str, body: bytes, queue: Queue) -> None:
        self.message_id = message_id
        self.body = body
        self.queue = queue
        self.answered = False
        self.tries = 0


class Queue:
    """The messages of one account, and the sessions that take them. `later`: when, and what."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.waiting: deque[Stored] = deque()
        self.later: deque[tuple[float, Stored]] = deque()
        self.receivers: list[CentreSession] = []
        self.sessions: set[CentreSession] = set()


class Hub(Protocol):
    """What a session asks of its message centre."""

    settings: CentreSettings
    counts: CentreCounts
    faulty: bool

    def queue_of(self, system_id: str) -> Queue | None:
        """Give the account's queue."""

    def strikes(self, fault: Fault) -> bool:
        """Whether to commit this fault now."""

    def allows(self) -> bool:
        """Whether the rate of submit_sm allows one more."""

    def accept(self, queue: Queue, message: SubmitSm | DataSm, now: float) -> str:
        """Record a message to a phone, and give it a message id."""

    def settle(self, stored: Stored) -> None:
        """Note that a message from a phone was answered for good."""

    def note(self, what: str) -> None:
        """Log something; no texts, no phone numbers."""

    def pump_soon(self) -> None:
        """See to it that waiting messages go out."""


class CentreSession:
    """One connection. When `is_over`, write what is left of the output and close."""

    def __init__(self, hub: Hub, now: float) -> None:
        self.queue: Queue | None = None  # set while bound
        self.is_over = False
        self.writable = True  # set to False while the peer does not read
        self._hub = hub
        self._framer = Framer()
        self._output: list[bytes] = []
        self._sends = False
        self._takes = False
        self._sequence = 0
        self._outstanding: dict[int, tuple[Stored, float]] = {}
        # Sent again elsewhere meanwhile; an answer that comes late still counts.
        self._overdue: dict[int, Stored] = {}
        self._slow: deque[tuple[float, bytes]] = deque()
        self._opened_at = self._heard_at = self._asked_at = now

    def receive(self, octets: bytes, now: float) -> None:
        """Take what came over the wire, in whatever pieces."""
        self._heard_at = now
        for frame in self._framer.feed(octets):
            self._take(frame, now)
            if self.is_over:
                return
        broken = self._framer.broken
        if broken is not None:
            self._say(GENERIC_NACK, broken.sequence, codes.RINVCMDLEN)
            self.leave()
            self.is_over = True
            return
        self.pump(now)

    def take_output(self) -> bytes:
        """Give the octets to write, once."""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    def ask_to_unbind(self) -> None:
        """Ask the ESME to leave; it gets no more messages."""
        if self.queue is not None:
            self._say(UNBIND, self._next_sequence())
            self._stop_delivering()

    def pump(self, now: float) -> None:
        """Fill the window with what waits."""
        queue = self.queue
        if queue is None or not self._takes or not queue.waiting or not self.writable:
            return
        hub = self._hub
        window = hub.settings.window
        while queue.waiting and len(self._outstanding) < window:
            stored = queue.waiting.popleft()
            if stored.answered:
                continue
            if hub.faulty:
                if hub.strikes(Fault.UNKNOWN_COMMAND):
                    self._say(_UNKNOWN_COMMAND, self._next_sequence())
                if hub.strikes(Fault.DUPLICATE):
                    self._deliver(stored, now)
                if hub.strikes(Fault.GARBAGE):
                    self._output.append(_NOISE)
            self._deliver(stored, now)

    def sweep(self, now: float) -> None:
        """Do what is due: send again, ask the silent, give up those who never bind."""
        settings = self._hub.settings
        while self._slow and self._slow[0][0] <= now:
            self._output.append(self._slow.popleft()[1])
        if self.queue is None:
            self.is_over = self.is_over or now - self._opened_at >= settings.session_init_s
            return
        while self._outstanding:
            sequence, (stored, sent_at) = next(iter(self._outstanding.items()))
            if sent_at + settings.redeliver_after_s > now:
                break
            del self._outstanding[sequence]
            if not stored.answered:
                stored.queue.waiting.append(stored)
                self._overdue[sequence] = stored
                if len(self._overdue) > 10 * settings.window + 1000:
                    del self._overdue[next(iter(self._overdue))]
        if settings.inactivity_s and now - self._heard_at >= settings.inactivity_s:
            self.leave()
            self.is_over = True
        elif settings.enquire_link_s and now - max(self._heard_at, self._asked_at) >= settings.enquire_link_s:
            self._asked_at = now
            self._say(ENQUIRE_LINK, self._next_sequence())

    def leave(self) -> None:
        """Hand what was not answered to the next receiver. Also to be called when the connection is lost."""
        queue = self.queue
        self._stop_delivering()
        self.queue = None
        if queue is None:
            return
        queue.sessions.discard(self)
        unanswered = [stored for stored, _ in self._outstanding.values() if not stored.answered]
        queue.waiting.extendleft(reversed(list(dict.fromkeys(unanswered))))
        self._outstanding.clear()
        self._overdue.clear()
        if queue.waiting and queue.receivers:
            self._hub.pump_soon()

    # -------------------------------------------------------------------------------------------- inside

    def _deliver(self, stored: Stored, now: float) -> None:
        sequence = self._next_sequence()
        self._output.append(_HEADER.pack(HEADER_OCTETS + len(stored.body), DELIVER_SM, 0, sequence))
        self._output.append(stored.body)
        self._outstanding[sequence] = (stored, now)
        counts = self._hub.counts
        counts.deliveries += 1
        if stored.tries:
            counts.redeliveries += 1
        stored.tries += 1

    def _next_sequence(self) -> int:
        while True:
            self._sequence = self._sequence % MAX_SEQUENCE + 1
            if self._sequence not in self._outstanding:
                self._overdue.pop(self._sequence, None)
                return self._sequence

    def _say(self, command_id: int, sequence: int, command_status: int = 0) -> None:
        self._output.append(_HEADER.pack(HEADER_OCTETS, command_id, command_status, sequence))

    def _stop_delivering(self) -> None:
        self._takes = False
        if self.queue is not None and self in self.queue.receivers:
            self.queue.receivers.remove(self)

    def _take(self, frame: bytes, now: float) -> None:
        command_id, command_status, sequence = read_header(frame)
        if command_id in (DELIVER_SM_RESP, DATA_SM_RESP):
            self._take_answer(sequence, command_status, now)
        elif command_id in (SUBMIT_SM, DATA_SM):
            self._take_submit(frame, command_id, sequence, now)
        elif command_id == ENQUIRE_LINK:
            self._hub.counts.enquiries += 1
            if not self._hub.strikes(Fault.DEAF):
                self._say(ENQUIRE_LINK_RESP, sequence)
        elif command_id in _BINDS:
            self._take_bind(frame, command_id, sequence)
        elif command_id == UNBIND and self.queue is not None:
            self._say(UNBIND_RESP, sequence)
            self.leave()
            self.is_over = True
        elif command_id == UNBIND_RESP:
            self.leave()
            self.is_over = True
        elif command_id == GENERIC_NACK:
            self._hub.counts.nacks += 1
            self._take_answer(sequence, command_status or codes.RUNKNOWNERR, now)
        elif command_id & RESPONSE_BIT:
            return  # responses are never answered
        elif command_id in COMMAND_NAMES:
            self._hub.note(f"{command_name(command_id)}: not served here")
            self._say(command_id | RESPONSE_BIT, sequence, codes.RINVBNDSTS if self.queue is None else codes.RSYSERR)
        else:
            self._say(GENERIC_NACK, sequence, codes.RINVCMDID)

    def _take_bind(self, frame: bytes, command_id: int, sequence: int) -> None:
        hub = self._hub
        try:
            packet = decode(frame)
        except BadBody as fault:
            hub.note(str(fault))
            self._say(command_id | RESPONSE_BIT, sequence, fault.command_status)
            return
        assert isinstance(packet, Bind)
        queue = hub.queue_of(packet.system_id)
        if self.queue is not None:
            status = codes.RALYBND
        elif hub.strikes(Fault.REFUSE_BIND):
            status = codes.RBINDFAIL
        elif queue is None:
            status = codes.RINVSYSID
        elif queue.account.password != packet.password:
            status = codes.RINVPASWD
        elif queue.account.binds_max and len(queue.sessions) >= queue.account.binds_max:
            status = codes.RALYBND
        else:
            self.queue = queue
            queue.sessions.add(self)
            hub.counts.most_bound = max(hub.counts.most_bound, len(queue.sessions))
            self._sends = command_id != BIND_RECEIVER
            self._takes = command_id != BIND_TRANSMITTER
            if self._takes:
                queue.receivers.append(self)
            hub.counts.binds += 1
            hub.note(f"{command_name(command_id)}: {packet.system_id} bound")
            version = ((TLV_SC_INTERFACE_VERSION, bytes((VERSION_34,))),)
            answer = BindResp(command_id | RESPONSE_BIT, sequence, 0, hub.settings.system_id, version)
            self._output.append(answer.encode())
            return
        hub.counts.binds_refused += 1
        hub.note(f"{command_name(command_id)}: refused, {status_name(status)}")
        self._say(command_id | RESPONSE_BIT, sequence, status)

    def _take_answer(self, sequence: int, command_status: int, now: float) -> None:
        entry = self._outstanding.get(sequence)
        stored = entry[0] if entry is not None else self._overdue.get(sequence)
        if stored is None:
            return
        hub = self._hub
        if hub.faulty and hub.strikes(Fault.LOSE_ANSWER):
            return  # it stays outstanding until it is sent again
        self._outstanding.pop(sequence, None)
        self._overdue.pop(sequence, None)
        if command_status == codes.ROK:
            hub.counts.acknowledged += 1
            hub.settle(stored)
        elif command_status in _REFUSED_FOR_GOOD:
            hub.counts.refused += 1
            hub.settle(stored)
        else:
            hub.counts.put_off += 1
            if entry is not None and not stored.answered:
                stored.queue.later.append((now + hub.settings.redeliver_after_s, stored))

    def _take_submit(self, frame: bytes, command_id: int, sequence: int, now: float) -> None:
        hub = self._hub
        response = command_id | RESPONSE_BIT
        queue = self.queue
        if queue is None or not self._sends:
            self._say(response, sequence, codes.RINVBNDSTS)
            return
        try:
            packet = decode(frame)
        except BadBody as fault:
            hub.note(str(fault))
            self._say(response, sequence, fault.command_status)
            return
        assert isinstance(packet, SubmitSm | DataSm)
        hub.counts.submits += 1
        if hub.faulty and hub.strikes(Fault.NACK_SUBMIT):
            self._say(GENERIC_NACK, sequence, codes.RSYSERR)
            return
        status = self._refusal(packet)
        if status != codes.ROK:
            self._say(response, sequence, status)
            return
        answer = MessageResp(response, sequence, codes.ROK, hub.accept(queue, packet, now)).encode()
        if hub.faulty and hub.strikes(Fault.EARLY_RECEIPT):
            self.pump(now)
        if hub.faulty and hub.strikes(Fault.SILENT_SUBMIT):
            return
        if hub.faulty and hub.strikes(Fault.DOUBLE_ANSWER):
            self._output.append(answer)
        if hub.faulty and hub.strikes(Fault.SLOW_SUBMIT):
            self._slow.append((now + hub.settings.slow_s, answer))
        else:
            self._output.append(answer)

    def _refusal(self, packet: SubmitSm | DataSm) -> int:
        """Give the status to refuse a submit_sm with; ROK for none."""
        hub = self._hub
        if not hub.allows() or (hub.faulty and hub.strikes(Fault.THROTTLE)):
            hub.counts.throttled += 1
            return codes.RTHROTTLED
        if hub.faulty and hub.strikes(Fault.QUEUE_FULL):
            hub.counts.throttled += 1
            return codes.RMSGQFUL
        if not packet.destination_addr or (hub.faulty and hub.strikes(Fault.REFUSE_SUBMIT)):
            return codes.RINVDSTADR
        return codes.ROK
