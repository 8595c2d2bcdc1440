"""SMPP 3.4 packets: octets to values and back. Pure: no I/O, no clock.

A frame that is whole but holds nonsense raises `BadBody`; its framing is intact, and the stream goes on. Optional
parameters are kept raw, in their order, with repeats and unknown ones: their lengths in the field are often not
those of the specification, so convert on use.

Paragraphs are those of "Short Message Peer to Peer Protocol Specification v3.4", issue 1.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from smpplib import consts

from channels.smpp.codes import (
    ALERT_NOTIFICATION,
    BIND_RECEIVER,
    BIND_RECEIVER_RESP,
    BIND_TRANSCEIVER,
    BIND_TRANSCEIVER_RESP,
    BIND_TRANSMITTER,
    BIND_TRANSMITTER_RESP,
    DATA_SM,
    DATA_SM_RESP,
    DELIVER_SM,
    DELIVER_SM_RESP,
    ENQUIRE_LINK,
    ENQUIRE_LINK_RESP,
    GENERIC_NACK,
    HEADER_OCTETS,
    OUTBIND,
    SUBMIT_SM,
    SUBMIT_SM_RESP,
    TLV_MESSAGE_PAYLOAD,
    UNBIND,
    UNBIND_RESP,
    VERSION_34,
    command_name,
)

# Largest sizes of C-octet strings, the closing NUL included (SMPP 3.4, 5.2).
SYSTEM_ID_OCTETS: Final = 16
# The specification says 9; message centres with passwords of up to 16 characters exist, so accept and send these too.
PASSWORD_OCTETS: Final = 17
SYSTEM_TYPE_OCTETS: Final = 13
ADDRESS_RANGE_OCTETS: Final = 41
SERVICE_TYPE_OCTETS: Final = 6
ADDRESS_OCTETS: Final = 21
LONG_ADDRESS_OCTETS: Final = 65  # in data_sm and alert_notification
TIME_OCTETS: Final = 17
MESSAGE_ID_OCTETS: Final = 65
MAX_SHORT_MESSAGE_OCTETS: Final = 254

_HEADER = struct.Struct(">IIII")
_TLV = struct.Struct(">HH")

Tlv = tuple[int, bytes]
"""An optional parameter: its tag and its value as it came."""


class BadBody(ValueError):
    """A packet whose frame is whole and whose content is not what its command demands.

    `command_status` is what its response should carry; `field` is the path to the fault, "deliver_sm.source_addr".
    """

    def __init__(self, command_status: int, field: str, fault: str) -> None:
        super().__init__(f"{field}: {fault}")
        self.command_status = command_status
        self.field = field


class BadField(ValueError):
    """A value that no packet can carry: too long, or with a NUL inside. Raised by `encode`, never by decoding."""


# ------------------------------------------------------------------------------------------------ the packets


@dataclass(slots=True)
class Bind:
    """bind_receiver, bind_transmitter or bind_transceiver (SMPP 3.4, 4.1.1, 4.1.3, 4.1.5)."""

    command_id: int
    sequence: int
    system_id: str
    password: str
    system_type: str = ""
    interface_version: int = VERSION_34
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: str = ""

    def __repr__(self) -> str:
        return f"Bind({command_name(self.command_id)}, sequence={self.sequence}, system_id={self.system_id!r})"

    def encode(self) -> bytes:
        """Give the packet's octets; BadField if a value cannot be carried."""
        return _packet(
            self.command_id,
            0,
            self.sequence,
            _c_octets(self.system_id, SYSTEM_ID_OCTETS, "system_id"),
            _c_octets(self.password, PASSWORD_OCTETS, "password"),
            _c_octets(self.system_type, SYSTEM_TYPE_OCTETS, "system_type"),
            _octets(self.interface_version, self.addr_ton, self.addr_npi),
            _c_octets(self.address_range, ADDRESS_RANGE_OCTETS, "address_range"),
        )


@dataclass(slots=True)
class BindResp:
    """The answer to a bind (4.1.2, 4.1.4, 4.1.6). The body is absent after an error, and sometimes otherwise."""

    command_id: int
    sequence: int
    command_status: int = 0
    system_id: str = ""
    tlvs: tuple[Tlv, ...] = ()

    def encode(self) -> bytes:
        """Give the packet's octets; after an error the header alone."""
        if self.command_status and not self.system_id:
            return _packet(self.command_id, self.command_status, self.sequence)
        system_id = _c_octets(self.system_id, SYSTEM_ID_OCTETS, "system_id")
        return _packet(self.command_id, self.command_status, self.sequence, system_id, _tlv_octets(self.tlvs))


@dataclass(slots=True)
class ShortMessage:
    """The body that submit_sm and deliver_sm share (4.4.1, 4.6.1)."""

    command_id: ClassVar[int]

    sequence: int = 0
    service_type: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""
    esm_class: int = 0
    protocol_id: int = 0
    priority_flag: int = 0
    schedule_delivery_time: str = ""
    validity_period: str = ""
    registered_delivery: int = 0
    replace_if_present_flag: int = 0
    data_coding: int = 0
    sm_default_msg_id: int = 0
    short_message: bytes = b""
    tlvs: tuple[Tlv, ...] = ()

    @property
    def octets(self) -> bytes:
        """The message as it came: short_message, or message_payload where that is empty.

        Both at once are forbidden and happen; then short_message counts (5.3.2.32).
        """
        return self.short_message or find_tlv(self.tlvs, TLV_MESSAGE_PAYLOAD) or b""

    def encode(self) -> bytes:
        """Give the packet's octets; BadField if a value cannot be carried."""
        message = self.short_message
        if len(message) > MAX_SHORT_MESSAGE_OCTETS:
            raise BadField(f"short_message: at most {MAX_SHORT_MESSAGE_OCTETS} octets expected, got {len(message)}")
        return _packet(
            self.command_id,
            0,
            self.sequence,
            _c_octets(self.service_type, SERVICE_TYPE_OCTETS, "service_type"),
            _octets(self.source_addr_ton, self.source_addr_npi),
            _c_octets(self.source_addr, ADDRESS_OCTETS, "source_addr"),
            _octets(self.dest_addr_ton, self.dest_addr_npi),
            _c_octets(self.destination_addr, ADDRESS_OCTETS, "destination_addr"),
            _octets(self.esm_class, self.protocol_id, self.priority_flag),
            _c_octets(self.schedule_delivery_time, TIME_OCTETS, "schedule_delivery_time"),
            _c_octets(self.validity_period, TIME_OCTETS, "validity_period"),
            _octets(
                self.registered_delivery,
                self.replace_if_present_flag,
                self.data_coding,
                self.sm_default_msg_id,
                len(message),
            ),
            message,
            _tlv_octets(self.tlvs),
        )


@dataclass(slots=True)
class SubmitSm(ShortMessage):
    """A message to a phone."""

    command_id: ClassVar[int] = SUBMIT_SM


@dataclass(slots=True)
class DeliverSm(ShortMessage):
    """A message from a phone, or a receipt."""

    command_id: ClassVar[int] = DELIVER_SM


@dataclass(slots=True)
class DataSm:
    """A message in either direction, whose text is in message_payload (4.7.1)."""

    command_id: ClassVar[int] = DATA_SM

    sequence: int = 0
    service_type: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""
    esm_class: int = 0
    registered_delivery: int = 0
    data_coding: int = 0
    tlvs: tuple[Tlv, ...] = ()

    @property
    def octets(self) -> bytes:
        """The message as it came."""
        return find_tlv(self.tlvs, TLV_MESSAGE_PAYLOAD) or b""

    def encode(self) -> bytes:
        """Give the packet's octets; BadField if a value cannot be carried."""
        return _packet(
            DATA_SM,
            0,
            self.sequence,
            _c_octets(self.service_type, SERVICE_TYPE_OCTETS, "service_type"),
            _octets(self.source_addr_ton, self.source_addr_npi),
            _c_octets(self.source_addr, LONG_ADDRESS_OCTETS, "source_addr"),
            _octets(self.dest_addr_ton, self.dest_addr_npi),
            _c_octets(self.destination_addr, LONG_ADDRESS_OCTETS, "destination_addr"),
            _octets(self.esm_class, self.registered_delivery, self.data_coding),
            _tlv_octets(self.tlvs),
        )


@dataclass(slots=True)
class MessageResp:
    """The answer to submit_sm, deliver_sm or data_sm (4.4.2, 4.6.2, 4.7.2)."""

    command_id: int
    sequence: int
    command_status: int = 0
    message_id: str = ""
    tlvs: tuple[Tlv, ...] = ()

    def encode(self) -> bytes:
        """Give the packet's octets.

        A failed submit_sm or data_sm has no body; deliver_sm_resp always has its unused, empty message_id.
        """
        if self.command_status and not self.message_id and self.command_id != DELIVER_SM_RESP:
            return _packet(self.command_id, self.command_status, self.sequence, _tlv_octets(self.tlvs))
        message_id = _c_octets(self.message_id, MESSAGE_ID_OCTETS, "message_id")
        return _packet(self.command_id, self.command_status, self.sequence, message_id, _tlv_octets(self.tlvs))


@dataclass(slots=True)
class Bare:
    """A packet that is its header: enquire_link, unbind, their responses, generic_nack (4.2, 4.3, 4.11)."""

    command_id: int
    sequence: int
    command_status: int = 0

    def encode(self) -> bytes:
        """Give the packet's octets."""
        return _packet(self.command_id, self.command_status, self.sequence)


@dataclass(slots=True)
class Outbind:
    """The message centre asks us to bind as receiver (4.1.7). It has no response."""

    command_id: ClassVar[int] = OUTBIND

    sequence: int
    system_id: str
    password: str

    def __repr__(self) -> str:
        return f"Outbind(sequence={self.sequence}, system_id={self.system_id!r})"

    def encode(self) -> bytes:
        """Give the packet's octets; BadField if a value cannot be carried."""
        system_id = _c_octets(self.system_id, SYSTEM_ID_OCTETS, "system_id")
        return _packet(OUTBIND, 0, self.sequence, system_id, _c_octets(self.password, PASSWORD_OCTETS, "password"))


@dataclass(slots=True)
class AlertNotification:
    """A phone is within reach again (4.12.1). It has no response."""

    command_id: ClassVar[int] = ALERT_NOTIFICATION

    sequence: int
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    esme_addr_ton: int = 0
    esme_addr_npi: int = 0
    esme_addr: str = ""
    tlvs: tuple[Tlv, ...] = ()

    def encode(self) -> bytes:
        """Give the packet's octets; BadField if a value cannot be carried."""
        return _packet(
            ALERT_NOTIFICATION,
            0,
            self.sequence,
            _octets(self.source_addr_ton, self.source_addr_npi),
            _c_octets(self.source_addr, LONG_ADDRESS_OCTETS, "source_addr"),
            _octets(self.esme_addr_ton, self.esme_addr_npi),
            _c_octets(self.esme_addr, LONG_ADDRESS_OCTETS, "esme_addr"),
            _tlv_octets(self.tlvs),
        )


@dataclass(slots=True)
class Raw:
    """A packet of a command that is not read here: query_sm and its kin, and every unknown number."""

    command_id: int
    sequence: int
    command_status: int = 0
    body: bytes = b""

    def encode(self) -> bytes:
        """Give the packet's octets."""
        return _packet(self.command_id, self.command_status, self.sequence, self.body)


Pdu = (
    Bind
    | BindResp
    | SubmitSm
    | DeliverSm
    | DataSm
    | MessageResp
    | Bare
    | Outbind
    | AlertNotification
    | Raw
)  # fmt: skip


def find_tlv(tlvs: tuple[Tlv, ...], tag: int) -> bytes | None:
    """Give the value of the first optional parameter with this tag; None where there is none."""
    for each, value in tlvs:
        if each == tag:
            return value
    return None


# ------------------------------------------------------------------------------------------------ writing


def _packet(command_id: int, command_status: int, sequence: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return _HEADER.pack(HEADER_OCTETS + len(body), command_id, command_status, sequence) + body


def _octets(*values: int) -> bytes:
    try:
        return bytes(values)
    except ValueError:
        raise BadField(f"0 to 255 expected in each octet, got {values}") from None


def _c_octets(text: str, limit: int, field: str) -> bytes:
    if not text:
        return b"\0"
    try:
        octets = text.encode("latin-1")
    except UnicodeEncodeError:
        raise BadField(f"{field}: characters of one octet expected") from None
    if len(octets) >= limit:
        raise BadField(f"{field}: at most {limit - 1} characters expected, got {len(octets)}")
    if 0 in octets:
        raise BadField(f"{field}: no NUL expected inside")
    return octets + b"\0"


def _tlv_octets(tlvs: tuple[Tlv, ...]) -> bytes:
    if not tlvs:
        return b""
    for tag, value in tlvs:
        if len(value) > 0xFFFF:
            raise BadField(f"optional parameter 0x{tag:04X}: at most 65535 octets expected, got {len(value)}")
    return b"".join(_TLV.pack(tag, len(value)) + value for tag, value in tlvs)


# ------------------------------------------------------------------------------------------------ reading


def decode(frame: bytes) -> Pdu:
    """Read one whole packet, as `Framer` gives it.

    BadBody if a request's body is not what its command demands. Responses are read for what they hold and never
    raise: they come without body, cut short, or with a body where none belongs, and are not answered anyway.
    """
    _, command_id, command_status, sequence = _HEADER.unpack_from(frame)
    reader = _READERS.get(command_id)
    if reader is None:
        return Raw(command_id, sequence, command_status, frame[HEADER_OCTETS:])
    return reader(frame, command_id, command_status, sequence)


def _read_short_message(kind: type[SubmitSm] | type[DeliverSm], frame: bytes, sequence: int) -> SubmitSm | DeliverSm:
    # All the ends first, one comparison after: a missing NUL makes the ends behind it meaningless, not dangerous.
    find = frame.find
    service_end = find(0, 16, 16 + SERVICE_TYPE_OCTETS)
    source_at = service_end + 3
    source_end = find(0, source_at, source_at + ADDRESS_OCTETS)
    destination_at = source_end + 3
    destination_end = find(0, destination_at, destination_at + ADDRESS_OCTETS)
    schedule_at = destination_end + 4
    schedule_end = find(0, schedule_at, schedule_at + TIME_OCTETS)
    validity_at = schedule_end + 1
    validity_end = find(0, validity_at, validity_at + TIME_OCTETS)
    if service_end < 0 or source_end < 0 or destination_end < 0 or schedule_end < 0 or validity_end < 0:
        raise _unterminated(kind.command_id, service_end, source_end, destination_end, schedule_end)
    message_at = validity_end + 6
    end = len(frame)
    if end < message_at:
        path = f"{command_name(kind.command_id)}.sm_length"
        raise BadBody(consts.SMPP_ESME_RINVCMDLEN, path, f"{message_at} octets expected up to it, got {end}")
    message_end = message_at + frame[message_at - 1]
    if message_end > end:
        path = f"{command_name(kind.command_id)}.sm_length"
        fault = f"{frame[message_at - 1]} octets announced, {end - message_at} there"
        raise BadBody(consts.SMPP_ESME_RINVMSGLEN, path, fault)
    return kind(
        sequence,
        "" if service_end == 16 else frame[16:service_end].decode("latin-1"),
        frame[service_end + 1],
        frame[service_end + 2],
        frame[source_at:source_end].decode("latin-1"),
        frame[source_end + 1],
        frame[source_end + 2],
        frame[destination_at:destination_end].decode("latin-1"),
        frame[destination_end + 1],
        frame[destination_end + 2],
        frame[destination_end + 3],
        "" if schedule_end == schedule_at else frame[schedule_at:schedule_end].decode("latin-1"),
        "" if validity_end == validity_at else frame[validity_at:validity_end].decode("latin-1"),
        frame[validity_end + 1],
        frame[validity_end + 2],
        frame[validity_end + 3],
        frame[validity_end + 4],
        frame[message_at:message_end],
        # One to three stray octets behind the last parameter occur, and mean nothing.
        _read_tlvs(frame, message_end, kind.command_id) if end - message_end > 3 else (),
    )


def _unterminated(
    command_id: int, service_end: int, source_end: int, destination_end: int, schedule_end: int
) -> BadBody:
    status, field, limit = (
        (consts.SMPP_ESME_RINVSERTYP, "service_type", SERVICE_TYPE_OCTETS)
        if service_end < 0
        else (consts.SMPP_ESME_RINVSRCADR, "source_addr", ADDRESS_OCTETS)
        if source_end < 0
        else (consts.SMPP_ESME_RINVDSTADR, "destination_addr", ADDRESS_OCTETS)
        if destination_end < 0
        else (consts.SMPP_ESME_RINVSCHED, "schedule_delivery_time", TIME_OCTETS)
        if schedule_end < 0
        else (consts.SMPP_ESME_RINVEXPIRY, "validity_period", TIME_OCTETS)
    )
    return BadBody(status, f"{command_name(command_id)}.{field}", f"NUL expected within {limit} octets")


def _read_tlvs(frame: bytes, start: int, command_id: int) -> tuple[Tlv, ...]:
    tlvs: list[Tlv] = []
    end = len(frame)
    while end - start > 3:
        tag, length = _TLV.unpack_from(frame, start)
        start += 4
        if start + length > end:
            raise BadBody(
                consts.SMPP_ESME_RINVOPTPARSTREAM,
                f"{command_name(command_id)}.tlv[0x{tag:04X}]",
                f"{length} octets announced, {end - start} there",
            )
        tlvs.append((tag, frame[start : start + length]))
        start += length
    return tuple(tlvs)


def _read_submit_sm(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    return _read_short_message(SubmitSm, frame, sequence)


def _read_deliver_sm(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    return _read_short_message(DeliverSm, frame, sequence)


class _Reader:
    """Reads the fields of the rarer packets one after the other."""

    __slots__ = ("_at", "_frame", "_name", "command_id")

    def __init__(self, frame: bytes, command_id: int) -> None:
        self._frame = frame
        self._at = HEADER_OCTETS
        self._name = command_name(command_id)
        self.command_id = command_id

    def text(self, limit: int, field: str, status: int = consts.SMPP_ESME_RINVCMDLEN) -> str:
        end = self._frame.find(0, self._at, self._at + limit)
        if end < 0:
            raise BadBody(status, f"{self._name}.{field}", f"NUL expected within {limit} octets")
        octets = self._frame[self._at : end]
        self._at = end + 1
        return octets.decode("latin-1")

    def octet(self, field: str) -> int:
        if self._at >= len(self._frame):
            raise BadBody(consts.SMPP_ESME_RINVCMDLEN, f"{self._name}.{field}", "one octet expected, the packet ends")
        value = self._frame[self._at]
        self._at += 1
        return value

    def tlvs(self) -> tuple[Tlv, ...]:
        return _read_tlvs(self._frame, self._at, self.command_id)


def _read_data_sm(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    reader = _Reader(frame, command_id)
    return DataSm(
        sequence,
        reader.text(SERVICE_TYPE_OCTETS, "service_type", consts.SMPP_ESME_RINVSERTYP),
        reader.octet("source_addr_ton"),
        reader.octet("source_addr_npi"),
        reader.text(LONG_ADDRESS_OCTETS, "source_addr", consts.SMPP_ESME_RINVSRCADR),
        reader.octet("dest_addr_ton"),
        reader.octet("dest_addr_npi"),
        reader.text(LONG_ADDRESS_OCTETS, "destination_addr", consts.SMPP_ESME_RINVDSTADR),
        reader.octet("esm_class"),
        reader.octet("registered_delivery"),
        reader.octet("data_coding"),
        reader.tlvs(),
    )


def _read_bind(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    reader = _Reader(frame, command_id)
    return Bind(
        command_id,
        sequence,
        reader.text(SYSTEM_ID_OCTETS, "system_id", consts.SMPP_ESME_RINVSYSID),
        reader.text(PASSWORD_OCTETS, "password", consts.SMPP_ESME_RINVPASWD),
        reader.text(SYSTEM_TYPE_OCTETS, "system_type", consts.SMPP_ESME_RINVSYSTYP),
        reader.octet("interface_version"),
        reader.octet("addr_ton"),
        reader.octet("addr_npi"),
        reader.text(ADDRESS_RANGE_OCTETS, "address_range"),
    )


def _read_outbind(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    reader = _Reader(frame, command_id)
    return Outbind(
        sequence,
        reader.text(SYSTEM_ID_OCTETS, "system_id", consts.SMPP_ESME_RINVSYSID),
        reader.text(PASSWORD_OCTETS, "password", consts.SMPP_ESME_RINVPASWD),
    )


def _read_alert(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    reader = _Reader(frame, command_id)
    return AlertNotification(
        sequence,
        reader.octet("source_addr_ton"),
        reader.octet("source_addr_npi"),
        reader.text(LONG_ADDRESS_OCTETS, "source_addr", consts.SMPP_ESME_RINVSRCADR),
        reader.octet("esme_addr_ton"),
        reader.octet("esme_addr_npi"),
        reader.text(LONG_ADDRESS_OCTETS, "esme_addr", consts.SMPP_ESME_RINVDSTADR),
        reader.tlvs(),
    )


def _lenient_body(frame: bytes) -> tuple[str, tuple[Tlv, ...]]:
    """Read a response's one string and its parameters, as far as they are there."""
    if len(frame) == HEADER_OCTETS:
        return "", ()
    end = frame.find(0, HEADER_OCTETS)
    if end < 0:
        return frame[HEADER_OCTETS:].decode("latin-1"), ()
    text = frame[HEADER_OCTETS:end].decode("latin-1")
    if len(frame) - end <= 4:
        return text, ()
    try:
        return text, _read_tlvs(frame, end + 1, 0)
    except BadBody:
        return text, ()


def _read_bare(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    return Bare(command_id, sequence, command_status)


def _read_bind_resp(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    return BindResp(command_id, sequence, command_status, *_lenient_body(frame))


def _read_message_resp(frame: bytes, command_id: int, command_status: int, sequence: int) -> Pdu:
    return MessageResp(command_id, sequence, command_status, *_lenient_body(frame))


_READERS: Final[dict[int, Callable[[bytes, int, int, int], Pdu]]] = {
    BIND_RECEIVER: _read_bind,
    BIND_TRANSMITTER: _read_bind,
    BIND_TRANSCEIVER: _read_bind,
    BIND_RECEIVER_RESP: _read_bind_resp,
    BIND_TRANSMITTER_RESP: _read_bind_resp,
    BIND_TRANSCEIVER_RESP: _read_bind_resp,
    SUBMIT_SM: _read_submit_sm,
    SUBMIT_SM_RESP: _read_message_resp,
    DELIVER_SM: _read_deliver_sm,
    DELIVER_SM_RESP: _read_message_resp,
    DATA_SM: _read_data_sm,
    DATA_SM_RESP: _read_message_resp,
    ENQUIRE_LINK: _read_bare,
    ENQUIRE_LINK_RESP: _read_bare,
    UNBIND: _read_bare,
    UNBIND_RESP: _read_bare,
    GENERIC_NACK: _read_bare,
    OUTBIND: _read_outbind,
    ALERT_NOTIFICATION: _read_alert,
}
