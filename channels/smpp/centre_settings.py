"""How the message centre behaves, and misbehaves on purpose; what it counts and records. Data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from channels.smpp.codes import TLV_RECEIPTED_MESSAGE_ID
from channels.smpp.text import Alphabet


class Fault(StrEnum):
    """What the message centre can do wrong on purpose."""

    CUT = "cut"  # close the connection in the middle of what would be written
    SILENT_SUBMIT = "silent_submit"  # record a submit_sm and never answer it
    SLOW_SUBMIT = "slow_submit"  # answer it `slow_s` later
    THROTTLE = "throttle"  # refuse it with ESME_RTHROTTLED
    QUEUE_FULL = "queue_full"  # refuse it with ESME_RMSGQFUL
    REFUSE_SUBMIT = "refuse_submit"  # refuse it with ESME_RINVDSTADR
    NACK_SUBMIT = "nack_submit"  # answer it with generic_nack
    DOUBLE_ANSWER = "double_answer"  # answer it twice
    EARLY_RECEIPT = "early_receipt"  # send its receipt before its answer
    LOSE_RECEIPT = "lose_receipt"  # send none
    BAD_RECEIPT = "bad_receipt"  # say in the receipt that it did not arrive
    DOUBLE_RECEIPT = "double_receipt"  # send two
    DUPLICATE = "duplicate"  # deliver a message twice at once
    LOSE_ANSWER = "lose_answer"  # overhear a deliver_sm_resp
    UNKNOWN_COMMAND = "unknown_command"  # say something nobody knows before a delivery
    GARBAGE = "garbage"  # send octets that are no SMPP before a delivery
    DEAF = "deaf"  # leave an enquire_link unanswered
    REFUSE_BIND = "refuse_bind"  # ESME_RBINDFAIL


class IdForm(StrEnum):
    """How message ids are written."""

    PLAIN = "plain"  # with the prefix, hexadecimal, eight digits
    HEX = "hex"
    DECIMAL = "decimal"
    ZEROS = "zeros"  # decimal with zeros before it
    CAPITALS = "capitals"  # hexadecimal

    def write(self, number: int, prefix: str) -> str:
        """Write the id with this number."""
        match self:
            case IdForm.PLAIN:
                return f"{prefix}{number:08x}"
            case IdForm.HEX:
                return f"{number:x}"
            case IdForm.DECIMAL:
                return str(number)
            case IdForm.ZEROS:
                return f"{number:012d}"
            case IdForm.CAPITALS:
                return f"{number:X}"


@dataclass(frozen=True, slots=True)
class Account:
    """Who may bind, how many times at most (0: any), and for which short codes; none listed: for all."""

    system_id: str
    password: str = field(repr=False)
    addresses: tuple[str, ...] = ()
    binds_max: int = 0


@dataclass(frozen=True, slots=True)
class CentreSettings:
    """How the message centre behaves. Times in seconds.

    `port` 0: any free one. `id_tlv`: the optional parameter that carries the message id on deliver_sm, None for
    none, as SMPP 3.4 has it. `id_prefix`: begins every message id; give each run its own, since gateways take a
    repeated id for a repeated message. `response_ids`, `receipt_ids`: how ids are written in submit_sm_resp and
    in receipts; `receipt_text`, `receipt_tlvs`: where a receipt has id and state. `fault_rates`: a chance from 0 to 1
    for each fault, drawn from `random`. `ussd_sequence`: USSD sessions have a number and a sequence, else an
    id alone.
    """

    accounts: tuple[Account, ...]
    host: str = "127.0.0.1"
    port: int = 0
    system_id: str = "sandbox"
    window: int = 50
    redeliver_after_s: float = 10.0
    id_tlv: int | None = TLV_RECEIPTED_MESSAGE_ID
    id_prefix: str = ""
    default_alphabet: Alphabet = Alphabet.GSM
    receipts: bool = True
    response_ids: IdForm = IdForm.PLAIN
    receipt_ids: IdForm = IdForm.PLAIN
    receipt_text: bool = True
    receipt_tlvs: bool = True
    submits_per_s: float = 0.0
    slow_s: float = 1.0
    session_init_s: float = 10.0
    enquire_link_s: float = 30.0
    inactivity_s: float = 120.0
    max_waiting: int = 1_000_000
    keep_replies: int = 100
    keep_phones: int = 100_000
    ussd_sequence: bool = True
    fault_rates: Mapping[Fault, float] = field(default_factory=dict)


@dataclass(slots=True)
class CentreCounts:
    """What has happened since the start."""

    connections: int = 0
    binds: int = 0
    binds_refused: int = 0
    most_bound: int = 0
    receipts: int = 0
    receipts_lost: int = 0
    messages: int = 0
    deliveries: int = 0
    redeliveries: int = 0
    acknowledged: int = 0
    put_off: int = 0
    refused: int = 0
    submits: int = 0
    replies: int = 0
    throttled: int = 0
    enquiries: int = 0
    nacks: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class ReceivedReply:
    """A text that reached a phone, its parts joined. `received_at` is the loop's time."""

    system_id: str
    source: str
    destination: str
    text: str
    data_coding: int
    parts: int
    received_at: float
