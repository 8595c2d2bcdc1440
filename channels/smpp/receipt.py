"""Delivery receipts: what became of a message that we sent. Pure: no I/O, no clock.

Whether a message is a receipt is decided by esm_class bits 5 to 2 and never by its text, so that a customer who
writes "id:" and "stat:" is still answered. Sources: SMPP 3.4, 5.2.12 (esm_class), 5.3.2.12 and 5.3.2.35 (fields),
appendix B (text, "vendor specific": every field may be missing).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from channels.smpp.codes import TLV_MESSAGE_STATE, TLV_NETWORK_ERROR_CODE, TLV_RECEIPTED_MESSAGE_ID
from channels.smpp.parts import body_of
from channels.smpp.pdu import DataSm, ShortMessage, find_tlv
from channels.smpp.text import Alphabet, decode

TYPE_BITS: Final = 0x3C
KINDS: Final[dict[int, str]] = {
    0x04: "receipt",
    0x08: "delivery acknowledgement",
    0x10: "manual acknowledgement",
    0x18: "conversation abort",
    0x20: "intermediate notification",
}
# SMPP 3.4, 5.2.28, with the abbreviations of appendix B; 0 and 9 from version 5.
STATES: Final[dict[int, str]] = {
    0: "SCHEDULED",
    1: "ENROUTE",
    2: "DELIVRD",
    3: "EXPIRED",
    4: "DELETED",
    5: "UNDELIV",
    6: "ACCEPTD",
    7: "UNKNOWN",
    8: "REJECTD",
    9: "SKIPPED",
}

# The keys of appendix B, in any order and any case; a value ends at white space.
_FIELD: Final = re.compile(r"(?i)\b(id|sub|dlvrd|submit date|done date|stat|err):[ ]*([^\s]*)")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The fields of a receipt; None where it does not say. Ids, states and dates are as the message centre wrote them.

    `about` is the number that the message had gone to. `message_id` and `state` are taken from the optional parameters
    where these are there, else from the text.
    """

    kind: str
    message_id: str | None = None
    state: str | None = None
    error: str | None = None
    submitted_parts: str | None = None
    delivered_parts: str | None = None
    submit_date: str | None = None
    done_date: str | None = None
    about: str = ""


def is_receipt(message: ShortMessage | DataSm) -> bool:
    """Whether this is about a message of ours, rather than a message for us."""
    return bool(message.esm_class & TYPE_BITS)


def looks_like_receipt(message: ShortMessage | DataSm, default: Alphabet = Alphabet.GSM) -> bool:
    """Whether its text begins as a receipt's and has a state; only for links that are told not to mark receipts."""
    if find_tlv(message.tlvs, TLV_RECEIPTED_MESSAGE_ID) and find_tlv(message.tlvs, TLV_MESSAGE_STATE):
        return True
    text = decode(body_of(message, default).octets, message.data_coding, default).lower()
    return text.startswith("id:") and " stat:" in text


def read_receipt(message: ShortMessage | DataSm, default: Alphabet = Alphabet.GSM) -> Receipt:
    """Read what the receipt says. Never refuses."""
    octets = body_of(message, default).octets
    fields: dict[str, str] = {}
    for key, value in _FIELD.findall(decode(octets, message.data_coding, default)):
        fields.setdefault(key.lower(), value)
    message_id = find_tlv(message.tlvs, TLV_RECEIPTED_MESSAGE_ID)
    state = find_tlv(message.tlvs, TLV_MESSAGE_STATE)
    error = find_tlv(message.tlvs, TLV_NETWORK_ERROR_CODE)
    return Receipt(
        kind=KINDS.get(message.esm_class & TYPE_BITS, "unknown" if message.esm_class & TYPE_BITS else "receipt"),
        message_id=message_id.rstrip(b"\0").decode("latin-1") if message_id else fields.get("id"),
        state=STATES.get(state[-1], str(state[-1])) if state else fields.get("stat"),
        error=fields.get("err") or (error.hex() if error else None),
        submitted_parts=fields.get("sub"),
        delivered_parts=fields.get("dlvrd"),
        submit_date=fields.get("submit date"),
        done_date=fields.get("done date"),
        about=message.source_addr,
    )
