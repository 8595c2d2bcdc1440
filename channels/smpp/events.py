"""What a session is, and what it tells its owner. Data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from channels.smpp.codes import BIND_RECEIVER, BIND_TRANSCEIVER, BIND_TRANSMITTER
from channels.smpp.pdu import DataSm, DeliverSm
from channels.smpp.receipt import Receipt


class Role(Enum):
    """What a session is bound as; the value is the command that binds it."""

    TRANSCEIVER = BIND_TRANSCEIVER
    TRANSMITTER = BIND_TRANSMITTER
    RECEIVER = BIND_RECEIVER

    @property
    def sends(self) -> bool:
        """Whether submit_sm may go out."""
        return self is not Role.RECEIVER

    @property
    def takes(self) -> bool:
        """Whether deliver_sm may come in."""
        return self is not Role.TRANSMITTER


class State(Enum):
    """Where a session is in its life. The specification's BOUND_TX, _RX and _TRX are BOUND with a role (2.2)."""

    OPEN = "open"
    BINDING = "binding"
    BOUND = "bound"
    LEAVING = "leaving"  # the peer has said unbind; messages being stored are still answered
    UNBINDING = "unbinding"  # we have said unbind
    CLOSED = "closed"


@dataclass(slots=True)
class Bound:
    """The bind was accepted. `version` is the peer's sc_interface_version, None where it did not say."""

    version: int | None


@dataclass(slots=True)
class BindRefused:
    """The bind was refused; `Closed` follows."""

    command_status: int


@dataclass(slots=True)
class MessageIn:
    """A message for us, not yet answered."""

    sequence: int
    message: DeliverSm | DataSm


@dataclass(slots=True)
class ReceiptIn:
    """News of a message of ours, not yet answered."""

    sequence: int
    receipt: Receipt


@dataclass(slots=True)
class SubmitAnswered:
    """What the message centre says to a submit_sm; a generic_nack is its refusal like any other."""

    sequence: int
    command_status: int
    message_id: str


@dataclass(slots=True)
class SubmitUnanswered:
    """No answer to a submit_sm, and none will be waited for: it may have been taken or not."""

    sequence: int
    reason: str


@dataclass(slots=True)
class LateAnswer:
    """An answer to a submit_sm that `SubmitUnanswered` had given up."""

    sequence: int
    command_status: int
    message_id: str


@dataclass(slots=True)
class Noted:
    """Something for the log alone."""

    what: str
    command_id: int
    command_status: int = 0
    sequence: int = 0


@dataclass(slots=True)
class Closed:
    """The session is over: write what is left of the output, close the socket."""

    reason: str


Event = Bound | BindRefused | MessageIn | ReceiptIn | SubmitAnswered | SubmitUnanswered | LateAnswer | Noted | Closed
