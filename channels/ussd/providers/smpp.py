"""USSD over SMPP 3.4: a message with ussd_service_op becomes a step, a screen becomes a submit_sm. Pure.

The customer's dialling comes as a deliver_sm with operation 1 (PSSR indication), her answers with 18 (USSR confirm); a
screen that asks goes out as a submit_sm with operation 2 (USSR request), the last one with 17 (PSSR response). What
belongs together is told by its_session_info: a session's number and a sequence of seven bits, or an id of fifteen bits,
and in both the lowest bit for the end; or by user_message_reference with the phone's number. Message centres differ in
all of these, so each is a setting of the service.

Sources: SMPP 3.4, 5.3.2.36 (user_message_reference), 5.3.2.43 (its_session_info), 5.3.2.44 (ussd_service_op); the
project's working notes for what is in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final

from channels.http.callback import NotReadable, msisdn_of, text_of
from channels.smpp.codes import TLV_ITS_SESSION_INFO, TLV_USER_MESSAGE_REFERENCE, TLV_USSD_SERVICE_OP
from channels.smpp.parts import body_of
from channels.smpp.pdu import DataSm, DeliverSm, SubmitSm, Tlv, find_tlv
from channels.smpp.text import Alphabet, decode, is_wide, undivided
from channels.ussd.pages import GSM_HARD
from channels.ussd.providers.dialled import typed_behind
from channels.ussd.steps import Kind, Page, Step
from config.settings import UssdSettings

_SERVICE_TYPE: Final = "USSD"  # by custom, where the message centre says none
_END_BIT: Final = 0x01


@dataclass(frozen=True, slots=True)
class Session:
    """What a message says of its session: its id, the sequence of the message in it, and whether it has ended."""

    id: str
    sequence: int
    is_over: bool


def is_ussd(message: DeliverSm | DataSm) -> bool:
    """Whether a message is a step of a USSD session, and no SMS."""
    return bool(message.tlvs) and find_tlv(message.tlvs, TLV_USSD_SERVICE_OP) is not None


def session_of(message: DeliverSm | DataSm, service: UssdSettings) -> Session:
    """The session of a message, by the service's form. Raises NotReadable."""
    by_reference = service.session_from == "user_message_reference"
    info = _value(message, TLV_ITS_SESSION_INFO, "its_session_info", (2,), may_be_missing=by_reference)
    is_over = bool(info and info[1] & _END_BIT)
    if by_reference:
        reference = _value(message, TLV_USER_MESSAGE_REFERENCE, "user_message_reference", (1, 2))
        return Session(str(int.from_bytes(reference, "big")), 0, is_over)
    if service.session_from == "session_id":
        return Session(str(int.from_bytes(info, "big") >> 1), 0, is_over)
    return Session(str(info[0]), info[1] >> 1, is_over)


def read(
    message: DeliverSm | DataSm,
    service: UssdSettings,
    centre: str,
    alphabet: Alphabet,
    reference_tlv: int | None,
    now: datetime,
) -> Step:
    """The step of a message from this message centre. Raises NotReadable.

    `alphabet` and `reference_tlv` are those of the link: what data_coding 0 means, and where the centre's own id of a
    message is.
    """
    session = session_of(message, service)
    operation = _value(message, TLV_USSD_SERVICE_OP, "ussd_service_op", (1,))[0]
    kind = _kind(operation, session, service)
    text = ""
    if kind is not Kind.OVER:
        octets = body_of(message, alphabet).octets
        if not is_wide(message.data_coding):
            octets = octets.rstrip(b"\0")  # some message centres count it in; in GSM 7-bit it is "@"
        said = decode(octets, message.data_coding, alphabet).rstrip("\0").strip()
        text = text_of({"short_message": said}, "short_message", GSM_HARD, may_be_empty=True)
    code = service.code or message.destination_addr
    return Step(
        service=service.name,
        session=f"{centre}:{session.id}",
        msisdn=msisdn_of({"source_addr": message.source_addr}, "source_addr", service.country_code),
        service_code=code,
        kind=kind,
        text=typed_behind(code, text) if kind is Kind.BEGIN else text,
        is_whole=False,
        mark="" if kind is Kind.OVER else f"{operation}.{_mark(message, session, service, reference_tlv)}",
        received_at=now,
        ids_come_again=True,
    )


def write(message: DeliverSm | DataSm, service: UssdSettings, page: Page, alphabet: Alphabet) -> SubmitSm:
    """The screen that answers a message, in the message's session. Raises NotReadable if that has none."""
    session_of(message, service)
    part = undivided(page.text, alphabet)
    operation = service.end_operation if page.is_end else service.ask_operation
    tlvs: list[Tlv] = [(TLV_USSD_SERVICE_OP, bytes((operation,)))]
    info = find_tlv(message.tlvs, TLV_ITS_SESSION_INFO)
    if info is not None:
        tlvs.append((TLV_ITS_SESSION_INFO, bytes((info[0], info[1] | page.is_end))))
    reference = find_tlv(message.tlvs, TLV_USER_MESSAGE_REFERENCE)
    if reference is not None:
        tlvs.append((TLV_USER_MESSAGE_REFERENCE, reference))
    return SubmitSm(
        service_type=message.service_type or _SERVICE_TYPE,
        source_addr_ton=message.dest_addr_ton,
        source_addr_npi=message.dest_addr_npi,
        source_addr=message.destination_addr,
        dest_addr_ton=message.source_addr_ton,
        dest_addr_npi=message.source_addr_npi,
        destination_addr=message.source_addr,
        data_coding=part.data_coding,
        short_message=part.short_message,
        tlvs=tuple(tlvs),
    )


def _kind(operation: int, session: Session, service: UssdSettings) -> Kind:
    if operation == service.abort_operation or session.is_over:
        return Kind.OVER
    if operation == service.begin_operation:
        return Kind.BEGIN
    if operation == service.answer_operation:
        return Kind.CONTINUE
    raise NotReadable("unknown_operation", "ussd_service_op")


def _mark(message: DeliverSm | DataSm, session: Session, service: UssdSettings, reference_tlv: int | None) -> str:
    if service.mark_from == "sequence":
        return str(session.sequence)
    if service.mark_from == "user_message_reference":
        return _value(message, TLV_USER_MESSAGE_REFERENCE, "user_message_reference", (1, 2)).hex()
    message_id = find_tlv(message.tlvs, reference_tlv) if reference_tlv is not None else None
    if not message_id or not message_id.strip(b"\0"):
        raise NotReadable("missing", "message id")
    return blake2b(message_id.rstrip(b"\0"), digest_size=16).hexdigest()


def _value(
    message: DeliverSm | DataSm, tag: int, name: str, lengths: tuple[int, ...], *, may_be_missing: bool = False
) -> bytes:
    """The one value of an optional parameter; empty where it is missing and may be."""
    values = {value for each, value in message.tlvs if each == tag}
    if not values and may_be_missing:
        return b""
    if not values:
        raise NotReadable("missing", name)
    if len(values) > 1:
        raise NotReadable("repeated", name)
    (value,) = values
    if len(value) not in lengths:
        raise NotReadable("length", name)
    return value
