"""The wire of TokenApi: structures against the IDL, frames of another Thrift library, noise, and no secret in a repr.

Frames: made by thriftpy2 0.7.1 from `tokenapi.thrift`, a program that shares no code with Apache Thrift.
"""

import re
import struct
from importlib.resources import files
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.modules.prism import tokenapi as api
from sts.modules.prism.tokenapi import At, Call, Wire
from sts.modules.prism.wire import (
    BadFrame,
    Message,
    Rejected,
    Thrown,
    decode_call,
    decode_reply,
    encode_call,
    encode_rejection,
    encode_reply,
    required,
    specification,
)

IDL: Final = files("sts.modules.prism").joinpath("tokenapi.thrift").read_text(encoding="utf-8")

CONFIG: Final = api.MeterConfigIn(
    drn="12345678903",
    ea=7,
    tct=2,
    sgc=123456,
    krn=1,
    ti=1,
    ken=255,
    allowKrnUpdate=False,
    allowKenUpdate=False,
    allow3Kct=False,
)
CALL: Final = api.IssueCreditToken(
    messageId="c1",
    accessToken="t",
    meterConfig=CONFIG,
    subclass=0,
    transferAmount=256.0,
    tokenTime=1748736120,
    flags=1,
)
TOKEN: Final = api.Token(
    drn="12345678903",
    pan="600727123456789036",
    ea=7,
    tct=2,
    sgc=123456,
    krn=1,
    ti=1,
    tokenClass=2,
    subclass=3,
    tid=6000002,
    transferAmount=1.5,
    isReservedTid=False,
    newConfig=api.MeterConfigAdvice(
        toSgc=1, toKrn=2, toTi=3, toKen=255, idRecord="i", record2="r", rollover=True, toVkKcv="ABCDEF"
    ),
    description="d",
    stsUnitName="u",
    scaledAmount="0.1",
    scaledUnitName="kWh",
    tokenDec="0" * 20,
    tokenHex="0" * 17,
    idSm="s",
    vkKcv="abcdef",
)
STATUS: Final = [api.NodeStatus(info={"smpd.Tps": "3"}, alerts=[api.Alert(eCode="ESm", eMsgEn="m")])]

CALL_FRAME: Final = bytes.fromhex(
    "80010001000000106973737565437265646974546f6b656e000000050b00010000000263310b000200000001740c00030b00"
    "010000000b31323334353637383930330600020007060003000208000a0001e24006000b000106000c00010200150006001e"
    "00ff020020000200210000060004000004000540700000000000000a000600000000683b98780a0007000000000000000100"
)
REPLY_FRAME: Final = bytes.fromhex(
    "800100020000001469737375654b65794368616e6765546f6b656e73000000060f00000c000000010b00010000000b313233"
    "34353637383930330b000200000012363030373237313233343536373839303336060003000706000400020800050001e240"
    "0600060001060007000106000a000206000b000308000c005b8d8204000d3ff800000000000002000e000c000f0800010000"
    "00010600020002060003000306000400ff0b000a00000001690b000b0000000172020014010b001500000006414243444546"
    "000b001400000001640b001500000001750b001600000003302e310b0017000000036b57680b001e00000014303030303030"
    "30303030303030303030303030300b001f0000001130303030303030303030303030303030300b002800000001730b002900"
    "0000066162636465660000"
)
THROWN_FRAME: Final = bytes.fromhex(
    "80010002000000106665746368546f6b656e526573756c74000000070c00010b00010000000a4543616368654d6973730b00"
    "02000000096e6f7420666f756e640000"
)
STATUS_FRAME: Final = bytes.fromhex(
    "8001000200000009676574537461747573000000080f00000c000000010d00010b0b0000000100000008736d70642e547073"
    "00000001330f00020c000000010b00010000000345536d0b0002000000016d000000"
)


def _wire(text: str) -> Wire:
    """A type in the IDL's words as `tokenapi` writes it."""
    if text.startswith("list<"):
        return [_wire(text[5:-1])]
    if text.startswith("map<"):
        return {"string": "string"}
    return text if text in ("string", "bool", "i16", "i32", "i64", "double") else getattr(api, text)


def test_structures_are_those_of_the_idl() -> None:
    found = re.findall(r"^(?:struct|exception) (\w+) \{(.*?)^\}", IDL, re.MULTILINE | re.DOTALL)
    assert len(found) == 11
    for name, body in found:
        lines = re.findall(r"(\d+): (required|optional) (\S+) (\w+)", body)
        structure = getattr(api, name)
        assert specification(structure) == {field: At(int(number), _wire(kind)) for number, _, kind, field in lines}
        assert required(structure) == {field for _, need, _, field in lines if need == "required"}


def test_calls_are_those_of_the_idl() -> None:
    service = IDL[IDL.index("service TokenApi") :]
    found = re.findall(r"^  (\S+) (\w+)\((.*?)\)\s+throws \(1: ApiException ex1\)", service, re.MULTILINE | re.DOTALL)
    assert [name for _, name, _ in found] == list(api.CALLS)
    for result, name, arguments in found:
        call = api.CALLS[name]
        assert call.result == _wire(result)
        lines = re.findall(r"(\d+): (\S+) (\w+)", arguments)
        assert specification(call) == {field: At(int(number), _wire(kind)) for number, kind, field in lines}


def test_frames_are_those_of_another_library() -> None:
    assert encode_call(CALL, 5) == CALL_FRAME
    assert decode_call(CALL_FRAME) == Message(CALL, 5)
    assert encode_reply(api.IssueKeyChangeTokens, 6, [TOKEN]) == REPLY_FRAME
    assert decode_reply(api.IssueKeyChangeTokens, 6, REPLY_FRAME) == [TOKEN]
    assert encode_reply(api.GetStatus, 8, STATUS) == STATUS_FRAME
    assert decode_reply(api.GetStatus, 8, STATUS_FRAME) == STATUS
    with pytest.raises(Thrown) as thrown:
        decode_reply(api.FetchTokenResult, 7, THROWN_FRAME)
    assert thrown.value.code == "ECacheMiss"


def _field(kind: int, number: int, content: bytes) -> bytes:
    return struct.pack("!bh", kind, number) + content


HEAD: Final = REPLY_FRAME[: REPLY_FRAME.index(b"\x0f\x00\x00")]
LIST: Final = 15
BAD: Final[list[tuple[str, bytes]]] = [
    ("nothing", b""),
    ("another call's sequence number", encode_reply(api.IssueKeyChangeTokens, 5, [TOKEN])),
    ("another call's name", encode_reply(api.IssueMseToken, 6, [TOKEN])),
    ("a call", encode_call(CALL, 6)),
    ("neither result nor error", HEAD + b"\0"),
    ("a byte behind the end", REPLY_FRAME + b"\0"),
    ("a list of 2,147,483,647 tokens", HEAD + _field(LIST, 0, b"\x0c\x7f\xff\xff\xff") + b"\0"),
    (
        "a list of 2,147,483,647 of no type, to be passed over",
        REPLY_FRAME[:-1] + _field(LIST, 9, b"\x05\x7f\xff\xff\xff") + b"\0",
    ),
    ("a list of -1", HEAD + _field(LIST, 0, b"\x0c\xff\xff\xff\xff") + b"\0"),
    ("a list of 1001 to be passed over", REPLY_FRAME[:-1] + _field(LIST, 9, b"\x02\0\0\x03\xe9" + bytes(1001)) + b"\0"),
    ("a list of numbers", HEAD + _field(LIST, 0, b"\x06\0\0\0\1\0\0") + b"\0"),
    ("a token without any field", HEAD + _field(LIST, 0, b"\x0c\0\0\0\1\0") + b"\0"),
    ("a text longer than the frame", REPLY_FRAME[:-1] + _field(11, 9, b"\x7f\xff\xff\xffx") + b"\0"),
    ("structures in structures in structures", REPLY_FRAME[:-1] + b"\x0c\0\x09" * 300 + bytes(301)),
    ("no version", REPLY_FRAME[4:]),
    ("no UTF-8", REPLY_FRAME.replace(b"12345678903", b"\xff" * 11)),
]


@pytest.mark.parametrize(("what", "frame"), BAD, ids=[what for what, _ in BAD])
def test_reply_that_is_none_is_refused(what: str, frame: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_reply(api.IssueKeyChangeTokens, 6, frame)


def test_every_cut_of_a_reply_is_refused() -> None:
    for end in range(len(REPLY_FRAME)):
        with pytest.raises(BadFrame):
            decode_reply(api.IssueKeyChangeTokens, 6, REPLY_FRAME[:end])


def test_unknown_fields_are_passed_over() -> None:
    more = _field(11, 99, b"\0\0\0\1x") + _field(2, 77, b"\1")
    frame = THROWN_FRAME[:-1] + more + b"\0"
    with pytest.raises(Thrown):
        decode_reply(api.FetchTokenResult, 7, frame)


def test_rejection_of_the_thrift_layer_is_told_apart() -> None:
    with pytest.raises(Rejected):
        decode_reply(api.Ping, 3, encode_rejection("ping", 3))


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(noise: bytes) -> None:
    for frame in (noise, REPLY_FRAME[:40] + noise, HEAD + noise):
        with pytest.raises((BadFrame, Thrown)):
            decode_reply(api.IssueKeyChangeTokens, 6, frame)
    with pytest.raises(BadFrame):
        decode_call(noise)


@given(st.integers(0, len(REPLY_FRAME) - 1), st.integers(0, 255))
def test_one_changed_byte_never_crashes(place: int, byte: int) -> None:
    frame = REPLY_FRAME[:place] + bytes([byte]) + REPLY_FRAME[place + 1 :]
    try:
        tokens = decode_reply(api.IssueKeyChangeTokens, 6, frame)
    except (BadFrame, Thrown, Rejected):
        return
    assert all(isinstance(token, api.Token) for token in tokens)


_VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "string": st.text(max_size=12),
    "bool": st.booleans(),
    "i16": st.integers(-(2**15), 2**15 - 1),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
}


def _values(wire: Wire) -> st.SearchStrategy[Any]:
    if isinstance(wire, str):
        return _VALUES[wire]
    if isinstance(wire, list):
        return st.lists(_values(wire[0]), max_size=3)
    if isinstance(wire, dict):
        return st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
    must = required(wire)
    parts = {
        name: _values(at.wire) if name in must else st.none() | _values(at.wire)
        for name, at in specification(wire).items()
    }
    return st.fixed_dictionaries(parts).map(lambda found: wire(**found))


@given(st.data(), st.sampled_from(list(api.CALLS.values())), st.integers(1, 2**31 - 1))
def test_what_is_packed_is_unpacked(data: st.DataObject, call: type[Call], sequence: int) -> None:
    asked = data.draw(_values(call))
    assert decode_call(encode_call(asked, sequence)) == Message(asked, sequence)
    answer = data.draw(_values(call.result))
    assert decode_reply(call, sequence, encode_reply(call, sequence, answer)) == answer


def test_number_beyond_its_field_is_refused_before_it_is_sent() -> None:
    with pytest.raises(BadFrame, match="beyond its field"):
        encode_call(api.Ping(sleepMs=2**31, echo=""), 1)


def test_no_secret_stands_in_a_repr() -> None:
    secret = "60072712345678901234"
    shown = repr(
        [
            api.SignInWithPassword(
                messageId="m", realm="r", username="u", password=secret, sessionOpts=api.SessionOptions(version="1.1")
            ),
            api.SignInResult(accessToken=secret),
            api.VerifyToken(messageId="m", accessToken=secret, meterConfig=CONFIG, tokenDec=secret),
            api.LoadTransactionLicense(messageId="m", accessToken=secret, licenseText=secret),
            api.ApiException(eCode="ESm", eMsgEn=secret),
            api.FetchTokenResult(messageId="m", accessToken=secret, reqMessageId="c1"),
        ]
    )
    assert secret not in shown
    assert "0" * 17 not in repr(TOKEN)
