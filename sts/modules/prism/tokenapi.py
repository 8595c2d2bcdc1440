"""The structures and calls of TokenApi 1.1, as dataclasses. Pure: data only.

Names are the interface's own. Each field carries its number and type on the wire; a field without default is required.
Secrets (password, access token, tokens, licence) are left out of every repr.
Source: `tokenapi.thrift` beside this file, which a test holds against this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

Wire = str | type | list[Any] | dict[str, str]
"""A type on the wire: string, bool, i16, i32, i64 or double; a structure; [element]; {"string": "string"}."""

API_VERSION: Final = "1.1"

EXTERNAL_CLOCK: Final = 1
"""Flag: `tokenTime` is Unix seconds, and the TID is made from it instead of from the module's clock."""
TID_ADJUST_BDT: Final = 2
"""Flag: `tokenTime` is the TID itself, in minutes since 1993 whatever the key's base date is."""
SPECIAL_RESERVED: Final = 4
"""Flag: the TID shall be the reserved 00:01. Never sent by this program."""

TEXT_MAP: Final = {"string": "string"}


@dataclass(frozen=True, slots=True)
class At:
    """Where a field stands on the wire."""

    number: int
    wire: Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiException:
    """What a call throws. `eMsgEn` may repeat what was sent, tokens and passwords too: it is never shown."""

    eCode: Annotated[str, At(1, "string")]
    eMsgEn: Annotated[str, At(2, "string")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """The version the client speaks, and the language of messages."""

    version: Annotated[str, At(1, "string")]
    culture: Annotated[str | None, At(10, "string")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInResult:
    """The bearer token of a session."""

    accessToken: Annotated[str, At(1, "string")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something a module wants looked at."""

    eCode: Annotated[str, At(1, "string")]
    eMsgEn: Annotated[str, At(2, "string")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One module's facts by name, and its alerts."""

    info: Annotated[Mapping[str, str], At(1, TEXT_MAP)]
    alerts: Annotated[list[Alert], At(2, [Alert])]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterConfigAmendment:
    """What a key change changes: supply group, key revision, tariff index. Key type and expiry are the new key's."""

    toSgc: Annotated[int, At(1, "i32")]
    toKrn: Annotated[int, At(2, "i16")]
    toTi: Annotated[int, At(3, "i16")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterConfigIn:
    """A meter and its key. Supply group and key revision name the vending key, and with it key type and base date."""

    drn: Annotated[str, At(1, "string")]
    ea: Annotated[int, At(2, "i16")]
    tct: Annotated[int, At(3, "i16")]
    sgc: Annotated[int, At(10, "i32")]
    krn: Annotated[int, At(11, "i16")]
    ti: Annotated[int, At(12, "i16")]
    newConfig: Annotated[MeterConfigAmendment | None, At(20, MeterConfigAmendment)] = None
    allowKrnUpdate: Annotated[bool | None, At(21, "bool")] = None
    ken: Annotated[int, At(30, "i16")]
    doe: Annotated[str | None, At(31, "string")] = None
    allow3Kct: Annotated[bool | None, At(32, "bool")] = None
    allowKenUpdate: Annotated[bool | None, At(33, "bool")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterConfigAdvice:
    """What a key-change set makes of the meter; stands in the first token of a set."""

    toSgc: Annotated[int, At(1, "i32")]
    toKrn: Annotated[int, At(2, "i16")]
    toTi: Annotated[int, At(3, "i16")]
    toKen: Annotated[int, At(4, "i16")]
    idRecord: Annotated[str, At(10, "string")]
    record2: Annotated[str, At(11, "string")]
    rollover: Annotated[bool, At(20, "bool")]
    toVkKcv: Annotated[str, At(21, "string")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token of class 0 or 2 and what the module says is in it. `transferAmount` is what the meter will take."""

    drn: Annotated[str, At(1, "string")]
    pan: Annotated[str, At(2, "string")] = field(repr=False)
    ea: Annotated[int, At(3, "i16")]
    tct: Annotated[int, At(4, "i16")]
    sgc: Annotated[int, At(5, "i32")]
    krn: Annotated[int, At(6, "i16")]
    ti: Annotated[int, At(7, "i16")]
    tokenClass: Annotated[int, At(10, "i16")]
    subclass: Annotated[int, At(11, "i16")]
    tid: Annotated[int, At(12, "i32")]
    transferAmount: Annotated[float, At(13, "double")]
    isReservedTid: Annotated[bool, At(14, "bool")]
    newConfig: Annotated[MeterConfigAdvice | None, At(15, MeterConfigAdvice)] = None
    description: Annotated[str, At(20, "string")] = field(repr=False)
    stsUnitName: Annotated[str, At(21, "string")] = field(repr=False)
    scaledAmount: Annotated[str, At(22, "string")] = field(repr=False)
    scaledUnitName: Annotated[str, At(23, "string")] = field(repr=False)
    tokenDec: Annotated[str, At(30, "string")] = field(repr=False)
    tokenHex: Annotated[str, At(31, "string")] = field(repr=False)
    idSm: Annotated[str, At(40, "string")]
    vkKcv: Annotated[str, At(41, "string")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterTestToken:
    """A token of class 1."""

    drn: Annotated[str, At(1, "string")]
    pan: Annotated[str, At(2, "string")] = field(repr=False)
    tokenClass: Annotated[int, At(10, "i16")]
    subclass: Annotated[int, At(11, "i16")]
    control: Annotated[int, At(12, "i64")]
    mfrcode: Annotated[int, At(13, "i16")]
    description: Annotated[str, At(20, "string")] = field(repr=False)
    tokenDec: Annotated[str, At(30, "string")] = field(repr=False)
    tokenHex: Annotated[str, At(31, "string")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """EVerify.Ok with what the token says, or another EVerify code."""

    validationResult: Annotated[str, At(1, "string")]
    token: Annotated[Token | None, At(2, Token)] = None
    meterTestToken: Annotated[MeterTestToken | None, At(3, MeterTestToken)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call: its arguments are its fields; `method` is its name, `result` what it answers."""

    method: ClassVar[str]
    result: ClassVar[Wire]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Call):
    """Waits `sleepMs` (0 to 60,000) and repeats `echo`."""

    method: ClassVar[str] = "ping"
    result: ClassVar[Wire] = "string"
    sleepMs: Annotated[int, At(1, "i32")]
    echo: Annotated[str, At(2, "string")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInWithPassword(Call):
    """Opens a session."""

    method: ClassVar[str] = "signInWithPassword"
    result: ClassVar[Wire] = SignInResult
    messageId: Annotated[str, At(1, "string")]
    realm: Annotated[str, At(2, "string")]
    username: Annotated[str, At(3, "string")]
    password: Annotated[str, At(4, "string")] = field(repr=False)
    sessionOpts: Annotated[SessionOptions, At(5, SessionOptions)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCall(Call):
    """A call inside a session."""

    messageId: Annotated[str, At(1, "string")]
    accessToken: Annotated[str, At(2, "string")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStatus(SignedCall):
    """The modules behind this address, at least one."""

    method: ClassVar[str] = "getStatus"
    result: ClassVar[Wire] = [NodeStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseIdRecord(SignedCall):
    """A meter card's record as a configuration. Not used by this program."""

    method: ClassVar[str] = "parseIdRecord"
    result: ClassVar[Wire] = MeterConfigIn
    idRecord: Annotated[str, At(3, "string")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTransactionLicense(SignedCall):
    """Raises the module's transaction counter. Not used by this program."""

    method: ClassVar[str] = "loadTransactionLicense"
    result: ClassVar[Wire] = "bool"
    licenseText: Annotated[str, At(3, "string")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueCreditToken(SignedCall):
    """A token of class 0; the list may hold key-change tokens before it if the configuration allows them."""

    method: ClassVar[str] = "issueCreditToken"
    result: ClassVar[Wire] = [Token]
    meterConfig: Annotated[MeterConfigIn, At(3, MeterConfigIn)]
    subclass: Annotated[int, At(4, "i16")]
    transferAmount: Annotated[float, At(5, "double")]
    tokenTime: Annotated[int, At(6, "i64")]
    flags: Annotated[int, At(7, "i64")]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueMeterTestToken(SignedCall):
    """A token of class 1."""

    method: ClassVar[str] = "issueMeterTestToken"
    result: ClassVar[Wire] = MeterTestToken
    subclass: Annotated[int, At(3, "i16")]
    control: Annotated[int, At(4, "i64")]
    mfrcode: Annotated[int, At(5, "i16")]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueMseToken(SignedCall):
    """A token of class 2 with a TID."""

    method: ClassVar[str] = "issueMseToken"
    result: ClassVar[Wire] = [Token]
    meterConfig: Annotated[MeterConfigIn, At(3, MeterConfigIn)]
    subclass: Annotated[int, At(4, "i16")]
    transferAmount: Annotated[float, At(5, "double")]
    tokenTime: Annotated[int, At(6, "i64")]
    flags: Annotated[int, At(7, "i64")]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueKeyChangeTokens(SignedCall):
    """A key-change set."""

    method: ClassVar[str] = "issueKeyChangeTokens"
    result: ClassVar[Wire] = [Token]
    meterConfig: Annotated[MeterConfigIn, At(3, MeterConfigIn)]
    newConfig: Annotated[MeterConfigAmendment, At(4, MeterConfigAmendment)]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDitkChangeTokens(SignedCall):
    """A key-change set from a factory key; manufacturing modules only. Not used by this program."""

    method: ClassVar[str] = "issueDitkChangeTokens"
    result: ClassVar[Wire] = [Token]
    meterConfig: Annotated[MeterConfigIn, At(3, MeterConfigIn)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyToken(SignedCall):
    """What a token says; not for class 1."""

    method: ClassVar[str] = "verifyToken"
    result: ClassVar[Wire] = VerifyResult
    meterConfig: Annotated[MeterConfigIn, At(3, MeterConfigIn)]
    tokenDec: Annotated[str, At(4, "string")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTokenResult(SignedCall):
    """The result of a recent call by its message id, or ECacheMiss: the module did not carry it out."""

    method: ClassVar[str] = "fetchTokenResult"
    result: ClassVar[Wire] = [Token]
    reqMessageId: Annotated[str, At(3, "string")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CtsResetTidList(SignedCall):
    """For conformance tests of a module. Not used by this program."""

    method: ClassVar[str] = "ctsResetTidList"
    result: ClassVar[Wire] = ["string"]
    panPattern: Annotated[str, At(3, "string")]


CALLS: Final[Mapping[str, type[Call]]] = {
    call.method: call
    for call in (
        Ping,
        SignInWithPassword,
        GetStatus,
        ParseIdRecord,
        LoadTransactionLicense,
        IssueCreditToken,
        IssueMeterTestToken,
        IssueMseToken,
        IssueKeyChangeTokens,
        IssueDitkChangeTokens,
        VerifyToken,
        FetchTokenResult,
        CtsResetTidList,
    )
}
"""Every call of the interface by its name."""
