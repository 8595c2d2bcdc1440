"""Structures and calls of TokenApi <-> bytes, by the binary protocol of Apache Thrift. Pure: bytes in, values out.

The library reads and writes the protocol's primitives and skips what it does not know; it is told how long a string
and a container may be, so that a peer cannot make this process count to two thousand million. Which field is what
comes from `tokenapi`. A frame is four bytes of length, then that many bytes; the link adds and takes off the length.
Source: Apache Thrift, thrift-binary-protocol.md and thrift-rpc.md (messages, result structure: 0 success, 1 exception).
"""

import struct
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Final, get_type_hints

from thrift.protocol.TBinaryProtocol import TBinaryProtocol  # type: ignore[import-untyped]
from thrift.Thrift import TException, TMessageType, TType  # type: ignore[import-untyped]
from thrift.transport.TTransport import TMemoryBuffer  # type: ignore[import-untyped]

from sts.modules.prism.tokenapi import CALLS, ApiException, At, Call, Wire

FRAME_BYTES_MAX: Final = 1 << 20
"""The largest frame taken or sent. A status of a dozen modules is some 20 kB."""
ITEMS_MAX: Final = 1000
"""The longest list or map taken."""

_TYPES: Final = {
    "string": TType.STRING,
    "bool": TType.BOOL,
    "i16": TType.I16,
    "i32": TType.I32,
    "i64": TType.I64,
    "double": TType.DOUBLE,
}
_METHODS: Final = {"string": "String", "bool": "Bool", "i16": "I16", "i32": "I32", "i64": "I64", "double": "Double"}

_UNREADABLE: Final = (TException, EOFError, struct.error, UnicodeDecodeError, NotImplementedError)


class BadFrame(Exception):
    """Bytes that are no message of this interface, or not the one expected. Its text repeats nothing of them."""


class Thrown(Exception):
    """The peer answered with an ApiException; `code` is its eCode, not yet held against any list."""

    def __init__(self, code: str) -> None:
        super().__init__("the module answered with an error code")
        self.code: Final = code


class Rejected(Exception):
    """The peer's Thrift layer refused the call (TApplicationException): unknown method, broken arguments, a crash."""


@dataclass(frozen=True, slots=True)
class Message:
    """A call as a server reads it."""

    call: Call
    sequence: int


def encode_call(call: Call, sequence: int) -> bytes:
    """The frame's content for a call; refuses BadFrame for a number that its field cannot hold."""
    protocol = _writer()
    protocol.writeMessageBegin(call.method, TMessageType.CALL, sequence)
    return _finished(protocol, call)


def decode_reply(call: type[Call], sequence: int, frame: bytes) -> Any:
    """The result of a call, as `call.result` says.

    Raises Thrown for an ApiException, Rejected for a TApplicationException, BadFrame for anything that is not the
    answer to this call with this sequence number.
    """
    protocol = _reader(frame)
    try:
        name, kind, number = protocol.readMessageBegin()
        if kind == TMessageType.EXCEPTION:
            raise Rejected("the module's Thrift layer refused the call")
        if (name, kind, number) != (call.method, TMessageType.REPLY, sequence):
            raise BadFrame("reply: another call's name or sequence number")
        found = _read_fields(protocol, {0: At(0, call.result), 1: At(1, ApiException)})
        _at_end(protocol, frame)
    except _UNREADABLE:
        raise BadFrame("reply: no readable Thrift message") from None
    if 1 in found:
        raise Thrown(found[1].eCode)
    if 0 not in found:
        raise BadFrame("reply: neither a result nor an error")
    return found[0]


def decode_call(frame: bytes) -> Message:
    """The call in a frame, for a server; raises BadFrame."""
    protocol = _reader(frame)
    try:
        name, kind, sequence = protocol.readMessageBegin()
        if kind != TMessageType.CALL or name not in CALLS:
            raise BadFrame("call: no call of this interface")
        call = _read_struct(protocol, CALLS[name])
        _at_end(protocol, frame)
    except _UNREADABLE:
        raise BadFrame("call: no readable Thrift message") from None
    assert isinstance(call, Call)
    return Message(call, sequence)


def encode_reply(call: type[Call], sequence: int, result: Any) -> bytes:
    """The frame's content that answers a call, with its result or an ApiException; for a server."""
    protocol = _writer()
    protocol.writeMessageBegin(call.method, TMessageType.REPLY, sequence)
    number, wire = (1, ApiException) if isinstance(result, ApiException) else (0, call.result)
    _write_field(protocol, number, wire, result)
    protocol.writeFieldStop()
    return bytes(protocol.trans.getvalue())


def encode_rejection(method: str, sequence: int) -> bytes:
    """The frame's content of a TApplicationException without text, internal error; for a server."""
    protocol = _writer()
    protocol.writeMessageBegin(method, TMessageType.EXCEPTION, sequence)
    protocol.writeFieldBegin("", TType.I32, 2)
    protocol.writeI32(6)
    protocol.writeFieldStop()
    return bytes(protocol.trans.getvalue())


def specification(structure: type) -> dict[str, At]:
    """Number and wire type of each field of a structure, by name, in the order of their numbers."""
    return _specification(structure)


@cache
def _specification(structure: type) -> dict[str, At]:
    hints = get_type_hints(structure, include_extras=True)
    found: dict[str, At] = {field.name: hints[field.name].__metadata__[0] for field in fields(structure)}
    return dict(sorted(found.items(), key=lambda item: item[1].number))


@cache
def _by_number(structure: type) -> dict[int, At]:
    return {at.number: at for at in specification(structure).values()}


@cache
def _names(structure: type) -> dict[int, str]:
    return {at.number: name for name, at in specification(structure).items()}


def required(structure: type) -> frozenset[str]:
    """The fields that must be there."""
    return _required(structure)


@cache
def _required(structure: type) -> frozenset[str]:
    return frozenset(
        field.name for field in fields(structure) if field.default is MISSING and field.default_factory is MISSING
    )


def _writer() -> Any:
    return TBinaryProtocol(TMemoryBuffer())


def _reader(frame: bytes) -> Any:
    if len(frame) > FRAME_BYTES_MAX:
        raise BadFrame(f"frame: at most {FRAME_BYTES_MAX} bytes expected")
    return TBinaryProtocol(
        TMemoryBuffer(frame), strictRead=True, string_length_limit=len(frame), container_length_limit=ITEMS_MAX
    )


def _finished(protocol: Any, call: Call) -> bytes:
    try:
        _write_struct(protocol, call)
    except struct.error:
        raise BadFrame(f"{call.method}: a number beyond its field") from None
    return bytes(protocol.trans.getvalue())


def _at_end(protocol: Any, frame: bytes) -> None:
    if protocol.trans.cstringio_buf.tell() != len(frame):
        raise BadFrame("message: bytes behind its end")


def _type_of(wire: Wire) -> int:
    if isinstance(wire, str):
        return int(_TYPES[wire])
    if isinstance(wire, list):
        return int(TType.LIST)
    return int(TType.MAP if isinstance(wire, dict) else TType.STRUCT)


def _write_struct(protocol: Any, value: Any) -> None:
    for name, at in specification(type(value)).items():
        content = getattr(value, name)
        if content is not None:
            _write_field(protocol, at.number, at.wire, content)
    protocol.writeFieldStop()


def _write_field(protocol: Any, number: int, wire: Wire, content: Any) -> None:
    protocol.writeFieldBegin("", _type_of(wire), number)
    _write_value(protocol, wire, content)


def _write_value(protocol: Any, wire: Wire, content: Any) -> None:
    if isinstance(wire, str):
        getattr(protocol, f"write{_METHODS[wire]}")(content)
    elif isinstance(wire, list):
        protocol.writeListBegin(_type_of(wire[0]), len(content))
        for item in content:
            _write_value(protocol, wire[0], item)
    elif isinstance(wire, dict):
        protocol.writeMapBegin(TType.STRING, TType.STRING, len(content))
        for name, text in content.items():
            protocol.writeString(name)
            protocol.writeString(text)
    else:
        _write_struct(protocol, content)


def _read_struct(protocol: Any, structure: type) -> Any:
    found = _read_fields(protocol, _by_number(structure))
    names = _names(structure)
    values = {names[number]: content for number, content in found.items()}
    if missing := required(structure) - values.keys():
        raise BadFrame(f"{structure.__name__}: {min(missing)} missing")
    return structure(**values)


def _read_fields(protocol: Any, expected: dict[int, At]) -> dict[int, Any]:
    """Fields by number. Unknown ones are passed over, as Thrift wants it; one of another type counts as unknown."""
    found: dict[int, Any] = {}
    while True:
        _, kind, number = protocol.readFieldBegin()
        if kind == TType.STOP:
            return found
        at = expected.get(number)
        if at is None or kind != _type_of(at.wire):
            protocol.skip(kind)
        elif number in found:
            raise BadFrame(f"field {number} twice")
        else:
            found[number] = _read_value(protocol, at.wire)


def _read_value(protocol: Any, wire: Wire) -> Any:
    if isinstance(wire, str):
        return getattr(protocol, f"read{_METHODS[wire]}")()
    if isinstance(wire, list):
        kind, count = protocol.readListBegin()
        if kind != _type_of(wire[0]) and count:
            raise BadFrame("list: elements of another type")
        return [_read_value(protocol, wire[0]) for _ in range(count)]
    if isinstance(wire, dict):
        key_kind, value_kind, count = protocol.readMapBegin()
        if (key_kind, value_kind) != (TType.STRING, TType.STRING) and count:
            raise BadFrame("map: texts expected")
        return {protocol.readString(): protocol.readString() for _ in range(count)}
    return _read_struct(protocol, wire)
