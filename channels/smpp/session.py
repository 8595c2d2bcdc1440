"""One SMPP session as an ESME: what may be said when, and what silence means.

Pure: octets and time in, events and octets out.

The owner feeds `receive` with what the socket gives, asks `next_deadline` and calls `tick`, and writes what
`take_output` returns: one joined write for one read. Times are seconds of any steady clock. A message from a phone
is *not* acknowledged here: `MessageIn` is given out, and the owner calls `answer` when the request is stored, in
whatever order. The rules are `TABLE`, at the end. Paragraphs are those of the SMPP 3.4 specification, issue 1.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from channels.smpp import codes
from channels.smpp.codes import (
    ALERT_NOTIFICATION,
    BIND_RECEIVER_RESP,
    BIND_TRANSCEIVER_RESP,
    BIND_TRANSMITTER_RESP,
    COMMAND_NAMES,
    DATA_SM,
    DATA_SM_RESP,
    DELIVER_SM,
    DELIVER_SM_RESP,
    ENQUIRE_LINK,
    ENQUIRE_LINK_RESP,
    GENERIC_NACK,
    MAX_SEQUENCE,
    OUTBIND,
    RESPONSE_BIT,
    SUBMIT_SM_RESP,
    TLV_SC_INTERFACE_VERSION,
    UNBIND,
    UNBIND_RESP,
)
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
from channels.smpp.framing import Framer, read_header
from channels.smpp.pdu import (
    BadBody,
    Bare,
    Bind,
    BindResp,
    DataSm,
    DeliverSm,
    MessageResp,
    Pdu,
    SubmitSm,
    decode,
    find_tlv,
)
from channels.smpp.receipt import is_receipt, looks_like_receipt, read_receipt
from channels.smpp.settings import LinkSettings

_HEADER_ONLY = struct.Struct(">IIII")
_EMPTY_MESSAGE_ID = struct.Struct(">IIIIx")

# Answers that come after their time-out still say something; so many numbers are remembered for them.
_LATE_MAX: Final = 1_000


class NotAllowed(RuntimeError):
    """The owner asked for what the session's state does not allow."""


# ------------------------------------------------------------------------------------------------ the session


class Session:
    """One connection's worth of SMPP. Make a new one for each connection."""

    def __init__(self, settings: LinkSettings, role: Role, now: float, *, last_sequence: int = 0) -> None:
        self.settings = settings
        self.role = role
        self._sends = role.sends
        self.state = State.OPEN
        self.taking = True  # set to False before leaving: messages are then put off, and come again elsewhere or later
        self._framer = Framer()
        self._output: list[bytes] = []
        self._last_sequence = last_sequence  # the first request is number 1 (2.6, 5.1.4)
        self._heard_at = now
        # The one bind or unbind that may be outstanding: sequence, deadline.
        self._asked: tuple[int, float] | None = (0, now + settings.bind_timeout_s)
        self._enquiry: tuple[int, float] | None = None
        # Deadlines by sequence; all have the same time-out, so the first one is the earliest.
        self._submits: dict[int, float] = {}
        self._late: dict[int, None] = {}
        self._unanswered: dict[int, DeliverSm | DataSm] = {}
        self._receipts_unanswered = 0
        self._leaving: tuple[int, float] | None = None

    # -------------------------------------------------------------------------------------------- asked by the owner

    def bind(self, now: float) -> None:
        """Ask to be bound. Once, on a fresh connection."""
        if self.state is not State.OPEN:
            raise NotAllowed(f"bind in state {self.state.value}")
        settings = self.settings
        sequence = self._next_sequence()
        packet = Bind(self.role.value, sequence, settings.system_id, settings.password, settings.system_type)
        self._output.append(packet.encode())
        self._asked = (sequence, now + settings.bind_timeout_s)
        self.state = State.BINDING

    @property
    def is_closed(self) -> bool:
        """Whether the session is over."""
        return self.state is State.CLOSED

    @property
    def can_submit(self) -> bool:
        """Whether a submit_sm may go out now: bound to send, and room in the window."""
        return self._sends and self.state is State.BOUND and len(self._submits) < self.settings.window

    @property
    def submits_outstanding(self) -> int:
        """How many submit_sm wait for their response."""
        return len(self._submits)

    @property
    def messages_unanswered(self) -> int:
        """How many messages and receipts wait for `answer`."""
        return len(self._unanswered)

    def submit(self, message: SubmitSm, now: float) -> int:
        """Send a message and give its sequence number, by which its answer is known.

        Raises NotAllowed unless `can_submit`; BadField if a value cannot be carried, and then nothing was sent.
        """
        if not self.can_submit:
            raise NotAllowed(f"submit_sm in state {self.state.value}, {len(self._submits)} outstanding")
        before = self._last_sequence
        message.sequence = self._next_sequence()
        try:
            self._output.append(message.encode())
        except ValueError:
            self._last_sequence = before
            raise
        self._submits[message.sequence] = now + self.settings.response_timeout_s
        return message.sequence

    def answer(self, sequence: int, command_status: int) -> list[Event]:
        """Answer what was given out as `MessageIn` or `ReceiptIn`; nothing happens if it can no longer be answered."""
        message = self._unanswered.pop(sequence, None)
        if message is None or self.state is State.CLOSED:
            return []
        if self._receipts_unanswered and self._is_receipt(message):
            self._receipts_unanswered -= 1
        response = DELIVER_SM_RESP if message.command_id == DELIVER_SM else DATA_SM_RESP
        self._output.append(_EMPTY_MESSAGE_ID.pack(17, response, command_status, sequence))
        events: list[Event] = []
        if self._leaving is not None and not self._unanswered:
            self._leave(events)
        return events

    def unbind(self, now: float) -> None:
        """Say good-bye; `Closed` comes with the answer, or without it when the response time-out is over."""
        if self.state is not State.BOUND:
            raise NotAllowed(f"unbind in state {self.state.value}")
        sequence = self._next_sequence()
        self._say(UNBIND, sequence)
        self._asked = (sequence, now + self.settings.response_timeout_s)
        self.state = State.UNBINDING

    def take_output(self) -> bytes:
        """Give the octets to write, once."""
        if not self._output:
            return b""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    def lost(self, reason: str) -> list[Event]:
        """Say that the connection is gone, and hear what that leaves unanswered."""
        events: list[Event] = []
        if self.state is not State.CLOSED:
            self._close(reason, events)
        self._output.clear()
        return events

    # -------------------------------------------------------------------------------------------- heard from the peer

    def receive(self, octets: bytes, now: float) -> list[Event]:
        """Take what came over the wire, in whatever pieces."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        self._heard_at = now
        for frame in self._framer.feed(octets):
            self._take(frame, now, events)
            if self.is_closed:
                return events
        broken = self._framer.broken
        if broken is not None:
            # 3.2, 4.3: framing is gone with a length that cannot be; say so and close.
            self._say(GENERIC_NACK, broken.sequence, codes.RINVCMDLEN)
            self._close(f"command_length {broken.command_length}", events)
        return events

    def _take(self, frame: bytes, now: float, events: list[Event]) -> None:
        command_id, command_status, sequence = read_header(frame)
        rule = TABLE[self.state].get(command_id)
        if rule is None:
            self._take_unexpected(command_id, command_status, sequence, events)
            return
        try:
            packet = decode(frame)
        except BadBody as fault:
            # Understood, and wrong inside: its own response, not generic_nack (4.3).
            events.append(Noted(str(fault), command_id, fault.command_status, sequence))
            if not command_id & RESPONSE_BIT and command_id != ALERT_NOTIFICATION and command_id != OUTBIND:
                self._say(command_id | RESPONSE_BIT, sequence, fault.command_status)
            return
        rule(self, packet, now, events)

    def _take_unexpected(self, command_id: int, command_status: int, sequence: int, events: list[Event]) -> None:
        """Answer a command that has no row in this state."""
        if command_id & RESPONSE_BIT:
            events.append(Noted("unexpected response", command_id, command_status, sequence))
        elif command_id in (ALERT_NOTIFICATION, OUTBIND):  # 4.1.7, 4.12: without response
            events.append(Noted("out of place", command_id, command_status, sequence))
        elif command_id in COMMAND_NAMES:
            events.append(Noted("wrong state", command_id, command_status, sequence))
            self._say(command_id | RESPONSE_BIT, sequence, codes.RINVBNDSTS)  # 2.3, 5.1.3
        else:
            events.append(Noted("unknown command", command_id, command_status, sequence))
            self._say(GENERIC_NACK, sequence, codes.RINVCMDID)  # 4.3.1

    # The rules. Each is named in TABLE.

    def _take_bind_resp(self, packet: Pdu, now: float, events: list[Event]) -> None:
        assert isinstance(packet, BindResp)
        if self._asked is None or packet.sequence != self._asked[0]:
            events.append(Noted("unexpected response", packet.command_id, packet.command_status, packet.sequence))
            return
        if packet.command_status != codes.ROK or packet.command_id != self.role.value | RESPONSE_BIT:
            self._refuse_bind(packet.command_status or codes.RUNKNOWNERR, events)
            return
        self._asked = None
        self.state = State.BOUND
        version = find_tlv(packet.tlvs, TLV_SC_INTERFACE_VERSION)
        events.append(Bound(version[0] if version else None))

    def _refuse_bind(self, command_status: int, events: list[Event]) -> None:
        events.append(BindRefused(command_status))
        self._close(f"bind refused, {codes.status_name(command_status)}", events)

    def _take_message(self, packet: Pdu, now: float, events: list[Event]) -> None:
        assert isinstance(packet, DeliverSm | DataSm)
        response = packet.command_id | RESPONSE_BIT
        sequence = packet.sequence
        if not self.role.takes:
            events.append(Noted("wrong state", packet.command_id, 0, sequence))
            self._say(response, sequence, codes.RINVBNDSTS)
        elif not self.taking:
            self._put_off_message(packet, now, events)
        elif sequence in self._unanswered:
            # The peer cannot tell two answers to one number apart. A repeat shares the answer of the first.
            events.append(Noted("sequence number still unanswered", packet.command_id, 0, sequence))
            if self._unanswered[sequence] != packet:
                self._output.append(_EMPTY_MESSAGE_ID.pack(17, response, codes.RX_T_APPN, sequence))
        elif self._is_receipt(packet):
            # Counted apart: news of old messages must not keep customers out, nor the other way round.
            if self._receipts_unanswered >= self.settings.max_unanswered:
                self._say_too_many(packet, events)
                return
            self._receipts_unanswered += 1
            self._unanswered[sequence] = packet
            events.append(ReceiptIn(sequence, read_receipt(packet, self.settings.default_alphabet)))
        elif len(self._unanswered) - self._receipts_unanswered >= self.settings.max_unanswered:
            self._say_too_many(packet, events)
        else:
            self._unanswered[sequence] = packet
            events.append(MessageIn(sequence, packet))

    def _is_receipt(self, packet: DeliverSm | DataSm) -> bool:
        return is_receipt(packet) or (
            self.settings.receipts_by_text and looks_like_receipt(packet, self.settings.default_alphabet)
        )

    def _say_too_many(self, packet: DeliverSm | DataSm, events: list[Event]) -> None:
        events.append(Noted("too many unanswered", packet.command_id, codes.RTHROTTLED, packet.sequence))
        response = packet.command_id | RESPONSE_BIT
        self._output.append(_EMPTY_MESSAGE_ID.pack(17, response, codes.RTHROTTLED, packet.sequence))

    def _put_off_message(self, packet: Pdu, now: float, events: list[Event]) -> None:
        assert isinstance(packet, DeliverSm | DataSm)
        # Not RINVBNDSTS: until the unbind is answered we are bound, and the message shall come again later.
        response = packet.command_id | RESPONSE_BIT
        self._output.append(_EMPTY_MESSAGE_ID.pack(17, response, codes.RX_T_APPN, packet.sequence))

    def _take_submit_resp(self, packet: Pdu, now: float, events: list[Event]) -> None:
        assert isinstance(packet, MessageResp)
        if self._submits.pop(packet.sequence, None) is not None:
            events.append(SubmitAnswered(packet.sequence, packet.command_status, packet.message_id))
        elif packet.sequence in self._late:
            del self._late[packet.sequence]
            events.append(LateAnswer(packet.sequence, packet.command_status, packet.message_id))
        else:
            events.append(Noted("unexpected response", packet.command_id, packet.command_status, packet.sequence))

    def _take_nack(self, packet: Pdu, now: float, events: list[Event]) -> None:
        assert isinstance(packet, Bare)
        sequence = packet.sequence
        # A status of 0 has been seen in generic_nack. It is a refusal all the same.
        status = packet.command_status or codes.RUNKNOWNERR
        if self._submits.pop(sequence, None) is not None:
            events.append(SubmitAnswered(sequence, status, ""))
        elif self._asked is not None and self._asked[0] == sequence and self.state is State.BINDING:
            self._refuse_bind(status, events)
        elif self._asked is not None and self._asked[0] == sequence and self.state is State.UNBINDING:
            self._close("unbound", events)
        elif self._enquiry is not None and self._enquiry[0] == sequence:
            self._enquiry = None  # who refuses an enquiry is alive
        else:
            events.append(Noted("generic_nack", packet.command_id, packet.command_status, sequence))

    def _answer_enquiry(self, packet: Pdu, now: float, events: list[Event]) -> None:
        self._say(ENQUIRE_LINK_RESP, packet.sequence)

    def _take_enquire_resp(self, packet: Pdu, now: float, events: list[Event]) -> None:
        if self._enquiry is not None and self._enquiry[0] == packet.sequence:
            self._enquiry = None

    def _take_unbind(self, packet: Pdu, now: float, events: list[Event]) -> None:
        # Responses to messages already taken may still go out before unbind_resp, and save their redelivery.
        self._leaving = (packet.sequence, now + self.settings.stop_grace_s)
        self._asked = None
        if self._unanswered:
            self.state = State.LEAVING
        else:
            self._leave(events)

    def _leave(self, events: list[Event]) -> None:
        assert self._leaving is not None
        self._say(UNBIND_RESP, self._leaving[0])
        self._close("unbound by the peer", events)

    def _take_unbind_resp(self, packet: Pdu, now: float, events: list[Event]) -> None:
        if self._asked is not None and self._asked[0] == packet.sequence:
            self._close("unbound", events)

    def _note(self, packet: Pdu, now: float, events: list[Event]) -> None:
        events.append(Noted("received", packet.command_id, 0, packet.sequence))

    # -------------------------------------------------------------------------------------------- time

    def next_deadline(self) -> float | None:
        """When `tick` should be called next; None where nothing is waited for."""
        if self.state is State.CLOSED:
            return None
        settings = self.settings
        deadlines: list[float] = []
        if self._asked is not None:
            deadlines.append(self._asked[1])
        if self._leaving is not None:
            deadlines.append(self._leaving[1])
        if self._submits:
            deadlines.append(next(iter(self._submits.values())))
        if self._enquiry is not None:
            deadlines.append(self._enquiry[1] + settings.response_timeout_s)
        elif settings.enquire_link_s and self.state is State.BOUND:
            deadlines.append(self._heard_at + settings.enquire_link_s)
        if settings.inactivity_s:
            deadlines.append(self._heard_at + settings.inactivity_s)
        return min(deadlines) if deadlines else None

    def tick(self, now: float) -> list[Event]:
        """Do what is due (7.2: session_init, enquire_link, inactivity and response timers)."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        settings = self.settings
        while self._submits:
            sequence, deadline = next(iter(self._submits.items()))
            if deadline > now:
                break
            del self._submits[sequence]
            if len(self._late) >= _LATE_MAX:
                del self._late[next(iter(self._late))]
            self._late[sequence] = None
            events.append(SubmitUnanswered(sequence, "no response in time"))
        if self._asked is not None and self._asked[1] <= now:
            what = "unbound, without response" if self.state is State.UNBINDING else "bind without response"
            self._close(what, events)
        elif self._leaving is not None and self._leaving[1] <= now:
            self._leave(events)
        elif settings.inactivity_s and self._heard_at + settings.inactivity_s <= now:
            self._close("inactivity", events)
        elif self._enquiry is not None:
            sequence, asked_at = self._enquiry
            if asked_at + settings.response_timeout_s <= now:
                # Some message centres leave enquiries unanswered under load: any sign of life will do.
                if self._heard_at > asked_at:
                    self._enquiry = None
                else:
                    self._close("enquire_link without response", events)
        elif settings.enquire_link_s and self.state is State.BOUND and self._heard_at + settings.enquire_link_s <= now:
            sequence = self._next_sequence()
            self._say(ENQUIRE_LINK, sequence)
            self._enquiry = (sequence, now)
        return events

    # -------------------------------------------------------------------------------------------- inside

    def _next_sequence(self) -> int:
        """Give the next number from 1 to 0x7FFFFFFF that is not outstanding (5.1.4)."""
        while True:
            self._last_sequence = self._last_sequence % MAX_SEQUENCE + 1
            sequence = self._last_sequence
            if (
                sequence not in self._submits
                and (self._enquiry is None or self._enquiry[0] != sequence)
                and (self._asked is None or self._asked[0] != sequence)
            ):
                return sequence

    def _say(self, command_id: int, sequence: int, command_status: int = 0) -> None:
        self._output.append(_HEADER_ONLY.pack(16, command_id, command_status, sequence))

    def _close(self, reason: str, events: list[Event]) -> None:
        for sequence in self._submits:
            events.append(SubmitUnanswered(sequence, reason))
        self._submits.clear()
        self._unanswered.clear()
        self._late.clear()
        self._receipts_unanswered = 0
        self._asked = self._enquiry = self._leaving = None
        self.state = State.CLOSED
        events.append(Closed(reason))


Rule = Callable[[Session, Pdu, float, list[Event]], None]

# fmt: off
# What a state does with what it hears. A command without a row is answered by `_take_unexpected`: a request that is
# known with its own response and RINVBNDSTS, an unknown one with generic_nack RINVCMDID, a response never.
TABLE: Final[dict[State, dict[int, Rule]]] = {
    State.OPEN: {
        OUTBIND:               Session._note,               # 2.2.1, 4.1.7; we bind anyway
        ENQUIRE_LINK:          Session._answer_enquiry,     # 2.3 says bound; some centres ask before
        GENERIC_NACK:          Session._take_nack,          # 4.3: in any state
    },
    State.BINDING: {
        BIND_TRANSCEIVER_RESP: Session._take_bind_resp,     # 4.1.6
        BIND_TRANSMITTER_RESP: Session._take_bind_resp,     # 4.1.2
        BIND_RECEIVER_RESP:    Session._take_bind_resp,     # 4.1.4
        OUTBIND:               Session._note,
        ENQUIRE_LINK:          Session._answer_enquiry,
        GENERIC_NACK:          Session._take_nack,          # the bind is refused
    },
    State.BOUND: {
        DELIVER_SM:            Session._take_message,       # 4.6.1
        DATA_SM:               Session._take_message,       # 4.7.1
        SUBMIT_SM_RESP:        Session._take_submit_resp,   # 4.4.2
        ENQUIRE_LINK:          Session._answer_enquiry,     # 4.11.1
        ENQUIRE_LINK_RESP:     Session._take_enquire_resp,  # 4.11.2
        UNBIND:                Session._take_unbind,        # 4.2.1
        GENERIC_NACK:          Session._take_nack,          # 4.3.1
        ALERT_NOTIFICATION:    Session._note,               # 4.12.1
    },
    State.LEAVING: {
        DELIVER_SM:            Session._put_off_message,
        DATA_SM:               Session._put_off_message,
        SUBMIT_SM_RESP:        Session._take_submit_resp,
        ENQUIRE_LINK:          Session._answer_enquiry,
        ENQUIRE_LINK_RESP:     Session._take_enquire_resp,
        GENERIC_NACK:          Session._take_nack,
    },
    State.UNBINDING: {
        DELIVER_SM:            Session._put_off_message,
        DATA_SM:               Session._put_off_message,
        SUBMIT_SM_RESP:        Session._take_submit_resp,
        ENQUIRE_LINK:          Session._answer_enquiry,
        ENQUIRE_LINK_RESP:     Session._take_enquire_resp,
        UNBIND:                Session._take_unbind,        # both at once: answered, and over
        UNBIND_RESP:           Session._take_unbind_resp,   # 4.2.2
        GENERIC_NACK:          Session._take_nack,
    },
    State.CLOSED: {},
}
# fmt: on
