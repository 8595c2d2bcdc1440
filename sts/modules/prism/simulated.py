"""What a simulated TokenApi module answers, and the faults it has on purpose. Pure: the clock's value is an argument.

Like the modules it stands for it draws the random nibble itself, moves a TID on that it has just used for a meter,
remembers results by message id, and puts a key change before a token unless that is forbidden by name. Its tokens are
those of the software module behind it: real only if that one's keys and tables are.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sts import amounts, bits, numbers
from sts.decode import meter_test_digits
from sts.errors import Fault, NumberError, StsError, TokenError
from sts.meterkey import MeterKey
from sts.modules.contract import CreditRequest, KeyChangeRequest, KeyStatus, ManagementRequest
from sts.modules.prism.settings import CurrencyUnit
from sts.modules.prism.tokenapi import (
    EXTERNAL_CLOCK,
    SPECIAL_RESERVED,
    TID_ADJUST_BDT,
    Alert,
    ApiException,
    Call,
    FetchTokenResult,
    GetStatus,
    IssueCreditToken,
    IssueKeyChangeTokens,
    IssueMeterTestToken,
    IssueMseToken,
    MeterConfigAdvice,
    MeterConfigIn,
    MeterTestToken,
    NodeStatus,
    SignedCall,
    SignInResult,
    SignInWithPassword,
    Token,
    VerifyResult,
    VerifyToken,
)
from sts.modules.software import SoftwareModule
from sts.tid import TID_MAX, base_start, is_reserved, tid_at
from sts.tokens import Credit, CurrencyCredit, MeterTest, SetMaximumPower, SetPhaseUnbalance
from sts.tokens import Token as StsToken

RESULTS_MAX: Final = 10_000
"""Results remembered by message id."""
METERS_MAX: Final = 100_000
"""Meters whose last TID is remembered."""


class Lie(StrEnum):
    """In what an answer differs from what was asked."""

    AMOUNT = "amount"
    METER = "meter"
    TID = "tid"
    TOKEN_CLASS = "token_class"
    SUBCLASS = "subclass"
    SUPPLY_GROUP = "supply_group"
    KEY_REVISION = "key_revision"
    TARIFF_INDEX = "tariff_index"
    CHECK_VALUE = "check_value"
    ISSUER = "issuer"
    RESERVED_TID = "reserved_tid"
    SHORT_DIGITS = "short_digits"
    OTHER_DIGITS = "other_digits"
    OTHER_CLASS_DIGITS = "other_class_digits"
    TWO_TOKENS = "two_tokens"
    NO_TOKEN = "no_token"
    # These four are about a key change, and no lie about anything else.
    NEW_EXPIRY = "new_expiry"
    NEW_REVISION = "new_revision"
    ROLLOVER = "rollover"
    NO_ADVICE = "no_advice"


@dataclass
class Faults:
    """What goes wrong, from now on. As made, nothing does."""

    tokens_per_s: float | None = None
    """Tokens begun in a second at most; a serial module reports 3."""
    delay_s: float = 0.0
    """Before every answer."""
    silent: bool = False
    """Takes calls and never answers."""
    hangs_up: bool = False
    """Closes the connection on every call."""
    out_of_service: bool = False
    """EService for every call but ping."""
    errors: dict[str, str] = field(default_factory=dict)
    """Error code by name of the method that throws it."""
    answers_lost: int = 0
    """So many of the next answers to token requests are lost after the token was made: the connection closes."""
    lost_in_silence: bool = False
    """Lost answers leave the connection open instead."""
    lie: Lie | None = None
    calls_in_session: int | None = None
    """A session ends after so many calls."""
    clock_drift_s: float = 0.0
    """The module's own clock is ahead by this. It serves calls without EXTERNAL_CLOCK, and stands in the status."""
    vends_until: datetime | None = None
    """After this the module makes no token, and says so in its status."""
    ignores_external_clock: bool = False
    forgets_results: bool = False
    """fetchTokenResult finds nothing."""
    noise: bytes | None = None
    """Sent in place of every answer, framed."""
    rejects: bool = False
    """Answers every call with a TApplicationException."""
    alerts: list[str] = field(default_factory=list)
    """Codes of alerts in the status."""


class _Throw(Exception):
    """Ends a call with an ApiException."""

    def __init__(self, code: str, sentence: str = "") -> None:
        super().__init__(code)
        self.answer: Final = ApiException(eCode=code, eMsgEn=sentence or code)


# Which error a refusal of the software module becomes; any other is EParamRange.
_CODES: Final = {
    Fault.KEY_MISSING: "EKeystore.NotFound",
    Fault.KEY_EXPIRED: "ESts.VkExpired",
    Fault.BASE_DATE_ENDED: "ESts.VkExpired",
    Fault.KEY_NO_LONGER_USED: "ESts.VkExpired",
    Fault.BEFORE_BASE_DATE: "ESts.VkBeforeBdt",
    Fault.KEY_NOT_ACTIVE: "ESts.VkBeforeBdt",
    Fault.DEFAULT_KEY_CREDIT: "EVerify.DdtkCredit",
    Fault.CHECK_DIGIT: "ESts.DrnOrPan.CheckDigit",
}
_VERIFIED: Final = {
    Fault.DEFAULT_KEY_CREDIT: "EVerify.DdtkCredit",
    Fault.KEY_EXPIRED: "EVerify.KeyExpired",
}
_DESCRIPTIONS: Final = {
    (0, 0): ("Credit:Electricity", "0.1 kWh", "kWh"),
    (0, 1): ("Credit:Water", "0.1 m3", "m3"),
    (0, 2): ("Credit:Gas", "0.1 m3", "m3"),
    (2, 0): ("SetMaximumPowerLimit", "W", "W"),
    (2, 3): ("Set1stSectionDecoderKey", "", ""),
    (2, 4): ("Set2ndSectionDecoderKey", "", ""),
    (2, 8): ("Set3rdSectionDecoderKey", "", ""),
    (2, 9): ("Set4thSectionDecoderKey", "", ""),
    (2, 10): ("SetControlElement", "", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who may sign in. Its repr does not show the password."""

    realm: str = "local"
    username: str = "gateway"
    password: str = field(repr=False)


class SimulatedModule:
    """Answers calls, one after the other. `made` counts tokens and sets by meter number."""

    def __init__(self, module: SoftwareModule, account: Account, currency_unit: CurrencyUnit, faults: Faults) -> None:
        self.faults: Final = faults
        self.made: Counter[str] = Counter()
        self._module: Final = module
        self._account: Final = account
        self._currency_unit: Final = currency_unit
        self._sessions: dict[str, int] = {}
        self._sessions_opened = 0
        self._results: OrderedDict[str, list[Token]] = OrderedDict()
        self._last_tids: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._drawn = 0
        self._now = datetime(1993, 1, 1, tzinfo=UTC)

    def end_sessions(self) -> None:
        """Every session is over: the next call in one gets EAuthentication.Token."""
        self._sessions.clear()

    def admit(self, call: Call) -> ApiException | None:
        """The error that keeps a call out: service, told error, session; None if it may come in."""
        try:
            if self.faults.out_of_service:
                raise _Throw("EService", "Unhandled exception")
            if call.method in self.faults.errors:
                raise _Throw(self.faults.errors[call.method], f"told to say so; was sent {call}")
            if isinstance(call, SignedCall):
                self._check_session(call.accessToken)
        except _Throw as thrown:
            return thrown.answer
        return None

    def answer(self, call: Call, now: datetime) -> Any:
        """The result of a call that came in, or an ApiException."""
        self._now = now + timedelta(seconds=self.faults.clock_drift_s)
        try:
            return self._carried_out(call)
        except _Throw as thrown:
            return thrown.answer
        except StsError as refusal:
            return ApiException(eCode=_CODES.get(refusal.fault, "EParamRange"), eMsgEn=refusal.sentence)

    def _carried_out(self, call: Call) -> Any:
        match call:
            case SignInWithPassword():
                return self._sign_in(call)
            case GetStatus():
                return self._status()
            case FetchTokenResult(reqMessageId=name):
                if name not in self._results or self.faults.forgets_results:
                    raise _Throw("ECacheMiss")
                return self._results[name]
            case VerifyToken():
                return self._verified(call)
            case IssueMeterTestToken():
                return self._meter_test(call)
            case IssueCreditToken() | IssueMseToken() | IssueKeyChangeTokens() if self._vends_no_more():
                raise _Throw("EService.Disabled", "Vending is inhibited")
            case IssueCreditToken() | IssueMseToken():
                return self._kept(call.messageId, self._token(call))
            case IssueKeyChangeTokens():
                return self._kept(call.messageId, self._key_change(call))
        raise _Throw("EService.Disabled", f"Feature disabled: {call.method}")

    def _vends_no_more(self) -> bool:
        return self.faults.vends_until is not None and self._now > self.faults.vends_until

    def _kept(self, name: str, tokens: list[Token]) -> list[Token]:
        answer = _lied(tokens, self.faults.lie)
        self._results[name] = answer
        if len(self._results) > RESULTS_MAX:
            self._results.popitem(last=False)
        return answer

    def _sign_in(self, call: SignInWithPassword) -> SignInResult:
        account = self._account
        if call.sessionOpts.version.partition(".")[0] != "1":
            raise _Throw("ESignin.Version")
        if call.realm != account.realm:
            raise _Throw("ESignin.Realm")
        if call.username != account.username:
            raise _Throw("ESignin.Subject")
        if call.password != account.password:
            raise _Throw("ESignin.Authentication")
        self._sessions_opened += 1
        session = f"session-{self._sessions_opened}"
        self._sessions[session] = 0
        return SignInResult(accessToken=session)

    def _check_session(self, session: str) -> None:
        if session not in self._sessions:
            raise _Throw("EAuthentication.Token", f"Authentication failed (bad accessToken: {session})")
        self._sessions[session] += 1
        most = self.faults.calls_in_session
        if most is not None and self._sessions[session] >= most:
            del self._sessions[session]

    def _status(self) -> list[NodeStatus]:
        faults = self.faults
        info = {
            "FirmwareId": "simulator",
            "smqi.IdSm": "SIMULATOR",
            "smqd.RtcTimeUtc": self._now.isoformat(timespec="seconds"),
            "smqd.RtcDriftSeconds": f"{faults.clock_drift_s:g}",
        }
        if faults.vends_until is not None:
            info["smcq.InhibitVendDateUtc"] = faults.vends_until.isoformat(timespec="seconds")
        if faults.tokens_per_s is not None:
            info["smpd.Tps"] = f"{faults.tokens_per_s:g}"
        return [NodeStatus(info=info, alerts=[Alert(eCode=code, eMsgEn=code) for code in faults.alerts])]

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _token(self, call: IssueCreditToken | IssueMseToken) -> list[Token]:
        config = call.meterConfig
        key = self._key_of(config)
        tokens = []
        newer = max(
            (status.key_revision for status in self._statuses(config.sgc, config.ea) if status.key_type >= 2),
            default=config.krn,
        )
        if config.allowKrnUpdate is not False and newer > config.krn:
            new = replace(key, **_named(self._status_of(config.sgc, newer, config.ea)))
            tokens += self._set_of(key, new, config)
            key, config = new, replace(config, krn=newer)
        tid = self._tid_for(call, key)
        if isinstance(call, IssueCreditToken):
            field_16, nibble, amount = self._credit_field(call)
            digits = self._module.make(CreditRequest(key, call.subclass, tid, nibble, field_16))
            token_class = 0
        else:
            field_16, amount = _management_field(call)
            digits = self._module.make(ManagementRequest(key, call.subclass, tid, self._draw(), field_16))
            token_class = 2
        self.made[key.drn] += 1
        return [*tokens, self._answer_of(key, config, token_class, call.subclass, tid, amount, digits)]

    def _key_change(self, call: IssueKeyChangeTokens) -> list[Token]:
        config, wanted = call.meterConfig, call.newConfig
        key = self._key_of(config)
        new_status = self._status_of(wanted.toSgc, wanted.toKrn, config.ea)
        new = replace(key, tariff_index=f"{wanted.toTi:02d}", **_named(new_status))
        tokens = self._set_of(key, new, config)
        self.made[key.drn] += 1
        return tokens

    def _set_of(self, key: MeterKey, new: MeterKey, config: MeterConfigIn) -> list[Token]:
        advice = MeterConfigAdvice(
            toSgc=int(new.supply_group),
            toKrn=new.key_revision,
            toTi=int(new.tariff_index),
            toKen=new.key_expiry,
            idRecord="",
            record2="",
            rollover=new.base_date != key.base_date,
            toVkKcv=self._kcv_of(new),
        )
        digits = self._module.make_set(KeyChangeRequest(key, new), now=self._now)
        tokens = [
            self._answer_of(key, config, 2, section, 0, 0.0, text)
            for section, text in zip((3, 4, 8, 9), digits, strict=False)
        ]
        return [replace(tokens[0], newConfig=advice), *tokens[1:]]

    def _verified(self, call: VerifyToken) -> VerifyResult:
        key = self._key_of(call.meterConfig)
        try:
            token = self._module.verify(call.tokenDec, key)
        except TokenError as refusal:
            return VerifyResult(validationResult=_VERIFIED.get(refusal.fault, "EVerify.Crc"))
        token_class, _ = bits.split(call.tokenDec)
        told = self._told(token)
        if told is None or isinstance(token, MeterTest):
            return VerifyResult(validationResult="EVerify.Ok")
        subclass, tid, amount = told
        answer = self._answer_of(key, call.meterConfig, token_class, subclass, tid, amount, call.tokenDec)
        return VerifyResult(validationResult="EVerify.Ok", token=(_lied([answer], self.faults.lie) or [answer])[0])

    def _told(self, token: StsToken) -> tuple[int, int, float] | None:
        """Subclass, TID and amount of a token; None for what the interface does not tell."""
        if isinstance(token, Credit):
            return int(token.resource), token.tid, float(token.units)
        if isinstance(token, CurrencyCredit):
            scale = 1 if self._currency_unit is CurrencyUnit.HUNDRED_THOUSANDTH else 100_000
            return int(token.resource), token.tid, token.amount.units / scale
        if isinstance(token, SetMaximumPower | SetPhaseUnbalance):
            return 0 if isinstance(token, SetMaximumPower) else 6, token.tid, float(token.limit_w)
        for subclass, name in ((1, "register"), (2, "rate"), (7, "factor"), (10, "field")):
            if hasattr(token, name) and hasattr(token, "tid"):
                return subclass, token.tid, float(getattr(token, name))
        return (5, token.tid, 0.0) if hasattr(token, "tid") else None

    def _meter_test(self, call: IssueMeterTestToken) -> MeterTestToken:
        if call.subclass not in (0, 1):
            raise _Throw("EParamRange")
        test = MeterTest(f"{call.mfrcode:0{2 + 2 * call.subclass}d}", call.control)
        from_digits = meter_test_digits(test.manufacturer, test.control)
        if self.faults.lie is not None:
            from_digits = _other(from_digits)
        return MeterTestToken(
            drn="00000000000",
            pan="600727000000000009",
            tokenClass=1,
            subclass=call.subclass,
            control=call.control,
            mfrcode=call.mfrcode,
            description="InitMeterTest",
            tokenDec=from_digits,
            tokenHex=f"{int(from_digits):017X}",
        )

    def _answer_of(
        self,
        key: MeterKey,
        config: MeterConfigIn,
        token_class: int,
        subclass: int,
        tid: int,
        amount: float,
        digits: str,
    ) -> Token:
        description, unit, scaled_unit = _DESCRIPTIONS.get((token_class, subclass), ("Token", "", ""))
        return Token(
            drn=key.drn,
            pan=key.pan,
            ea=key.ea,
            tct=config.tct,
            sgc=int(key.supply_group),
            krn=key.key_revision,
            ti=int(key.tariff_index),
            tokenClass=token_class,
            subclass=subclass,
            tid=tid,
            transferAmount=amount,
            isReservedTid=is_reserved(tid) and subclass not in (3, 4, 8, 9),
            description=description,
            stsUnitName=unit,
            scaledAmount=f"{amount / 10:.1f}" if scaled_unit not in ("", "W") else f"{amount:g}",
            scaledUnitName=scaled_unit,
            tokenDec=digits,
            tokenHex=f"{int(digits):017X}",
            idSm="SIMULATOR",
            vkKcv=self._kcv_of(key),
        )

    # --- keys, TIDs, amounts ------------------------------------------------------------------------------------------

    def _statuses(self, sgc: int, ea: int) -> list[KeyStatus]:
        return [
            status
            for status in self._module.status().keys
            if status.supply_group == f"{sgc:06d}" and (ea == 7 or status.dkga == 4)
        ]

    def _status_of(self, sgc: int, krn: int, ea: int) -> KeyStatus:
        """The vending key that supply group and revision name; of several the one with the latest base date."""
        found = [status for status in self._statuses(sgc, ea) if status.key_revision == krn]
        if not found:
            raise _Throw("EKeystore.NotFound", f"Vending Key not available for SGC={sgc},KRN={krn}")
        return max(found, key=lambda status: (status.base_date, status.key_type))

    def _kcv_of(self, key: MeterKey) -> str:
        return self._status_of(int(key.supply_group), key.key_revision, key.ea).kcv.upper()

    def _key_of(self, config: MeterConfigIn) -> MeterKey:
        drn = config.drn
        if len(drn) == 18:
            drn = drn[6:17] if drn.startswith(numbers.IIN_11) else drn[4:17]
        try:
            numbers.check_drn(drn)
        except NumberError as refusal:
            code = "ESts.DrnOrPan.CheckDigit" if refusal.fault is Fault.CHECK_DIGIT else "ESts.DrnOrPan"
            raise _Throw(code) from None
        if config.ea not in (7, 11):
            raise _Throw("EParamRange")
        status = self._status_of(config.sgc, config.krn, config.ea)
        return MeterKey(
            drn=drn,
            iin=numbers.iin_for(drn),
            supply_group=status.supply_group,
            key_type=status.key_type,
            tariff_index=f"{config.ti:02d}",
            key_revision=config.krn,
            key_expiry=config.ken,
            base_date=status.base_date,
            ea=config.ea,
            dkga=status.dkga,
        )

    def _tid_for(self, call: IssueCreditToken | IssueMseToken, key: MeterKey) -> int:
        """The TID by flags and clock; one that this meter has had is moved on, unless it was given in minutes."""
        if call.flags & SPECIAL_RESERVED or call.flags & ~3 or call.flags == EXTERNAL_CLOCK | TID_ADJUST_BDT:
            raise _Throw("EParamRange")
        if call.flags == TID_ADJUST_BDT:
            since_1993 = base_start(key.base_date) - base_start(1993)
            tid = call.tokenTime - int(since_1993 / timedelta(minutes=1))
            if not 0 <= tid <= TID_MAX:
                raise _Throw("ESts.VkBeforeBdt" if tid < 0 else "ESts.VkExpired")
            return tid
        clock = self._now
        if call.flags & EXTERNAL_CLOCK and not self.faults.ignores_external_clock:
            clock = datetime.fromtimestamp(call.tokenTime, UTC)
        tid = tid_at(clock, key.base_date)
        last = self._last_tids.get((key.pan, key.base_date))
        if last == tid:
            tid += 2 if is_reserved(tid + 1) else 1
        self._last_tids[key.pan, key.base_date] = tid
        if len(self._last_tids) > METERS_MAX:
            self._last_tids.popitem(last=False)
        return tid

    def _credit_field(self, call: IssueCreditToken) -> tuple[int, int, float]:
        """16-bit field, nibble and the amount that the field stands for."""
        if call.subclass <= 3:
            field_16 = amounts.field_up(_whole(call.transferAmount))
            return field_16, self._draw(), float(amounts.units_of(field_16))
        scale = 1 if self._currency_unit is CurrencyUnit.HUNDRED_THOUSANDTH else 100_000
        coded = amounts.currency_up(round(call.transferAmount * scale))
        return coded.field, coded.sign_exponent, coded.units / scale

    def _draw(self) -> int:
        """The random nibble. Only that it changes matters here."""
        self._drawn += 7
        return self._drawn & 15


def _named(status: KeyStatus) -> dict[str, Any]:
    """The parts of a MeterKey that a vending key decides."""
    names = ("supply_group", "key_revision", "key_type", "base_date", "dkga", "key_expiry")
    return {name: getattr(status, name) for name in names}


def _management_field(call: IssueMseToken) -> tuple[int, float]:
    if call.subclass in (0, 6):
        field_16 = amounts.field_up(_whole(call.transferAmount))
        return field_16, float(amounts.units_of(field_16))
    return _whole(call.transferAmount), call.transferAmount


def _whole(number: float) -> int:
    if number != number or number in (float("inf"), float("-inf")) or number != int(number):
        raise _Throw("EParamRange")
    return int(number)


def _other(digits: str) -> str:
    """Another token of the same class: its last digit changed, which touches the checksum only."""
    return digits[:-1] + str((int(digits[-1]) + 1) % 10)


def _lied(tokens: list[Token], lie: Lie | None) -> list[Token]:
    """The answer, with a lie in its last token."""
    if lie is None:
        return tokens
    if lie is Lie.NO_TOKEN:
        return []
    if lie in (Lie.NEW_EXPIRY, Lie.NEW_REVISION, Lie.ROLLOVER, Lie.NO_ADVICE):
        return [replace(tokens[0], newConfig=_lied_advice(tokens[0].newConfig, lie)), *tokens[1:]]
    token = tokens[-1]
    if lie is Lie.TWO_TOKENS:
        return [*tokens, token]
    changes: dict[Lie, dict[str, Any]] = {
        Lie.AMOUNT: {"transferAmount": token.transferAmount + 10},
        Lie.METER: {"drn": numbers.MeterNumber.from_body("9876543210").drn},
        Lie.TID: {"tid": token.tid + 1},
        Lie.TOKEN_CLASS: {"tokenClass": 2 - token.tokenClass},
        Lie.SUBCLASS: {"subclass": token.subclass + 1},
        Lie.SUPPLY_GROUP: {"sgc": token.sgc + 1},
        Lie.KEY_REVISION: {"krn": token.krn % 9 + 1},
        Lie.TARIFF_INDEX: {"ti": (token.ti + 1) % 100},
        Lie.ISSUER: {"pan": "600727000000000009"},
        Lie.RESERVED_TID: {"isReservedTid": not token.isReservedTid},
        Lie.CHECK_VALUE: {"vkKcv": "000000" if token.vkKcv != "000000" else "000001"},
        Lie.SHORT_DIGITS: {"tokenDec": token.tokenDec[:-1]},
        Lie.OTHER_DIGITS: {"tokenDec": "9" * 20},
        Lie.OTHER_CLASS_DIGITS: {"tokenDec": bits.digits_of(1, bits.split(token.tokenDec)[1])},
    }
    return [*tokens[:-1], replace(token, **changes[lie])]


def _lied_advice(advice: MeterConfigAdvice | None, lie: Lie) -> MeterConfigAdvice | None:
    if advice is None or lie is Lie.NO_ADVICE:
        return None
    if lie is Lie.NEW_EXPIRY:
        return replace(advice, toKen=advice.toKen - 1)
    if lie is Lie.NEW_REVISION:
        return replace(advice, toKrn=advice.toKrn % 9 + 1)
    return replace(advice, rollover=not advice.rollover)
