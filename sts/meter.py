"""A simulated STS meter: twenty digits in, a result code out, and the state that a real meter would keep. Pure.

For tests of everything that makes tokens, and for support ("what would the meter have shown?"). The time is an
argument of every entry. Where makers differ or no open source says, the docstring of the setting says so.
Sources: IEC 62055-41 (token acceptance, TokenIdentifier); public meter manuals for the result codes and the keypad
lock-out; the STS Association's TID rollover pages for RO and for the supply group after a set of two.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from sts import bits
from sts.ciphers import DecoderKey
from sts.errors import Fault, TokenError
from sts.keychange import KeyChange, change_of
from sts.meterkey import MeterKey
from sts.tables import SAMPLE, TableSet
from sts.tokens import (
    REGISTER_ALL,
    ClearCredit,
    ClearTamper,
    Credit,
    CurrencyCredit,
    KeySection,
    KeySection1,
    KeySection2,
    KeySection3,
    KeySection4,
    MeterFlag,
    MeterTest,
    MeterTestNumber,
    Resource,
    SetFlag,
    SetMaximumPower,
    SetPhaseUnbalance,
    SetTariffRate,
    SetWaterFactor,
    Token,
    token_of,
)


class Result(IntEnum):
    """What the meter shows after a token. The names are public; of the numbers only 13 is confirmed."""

    ACCEPT = 1
    FIRST_KEY_CHANGE = 2
    SECOND_KEY_CHANGE = 3
    OVERFLOW = 4
    KEY_TYPE = 5
    FORMAT = 6
    RANGE = 7
    FUNCTION = 8
    OLD = 9
    USED = 10
    KEY_EXPIRED = 11
    DEFAULT_KEY = 12
    CRC = 13
    MANUFACTURER = 14
    LOCKED_OUT = 15

    @property
    def is_accepted(self) -> bool:
        """Did the token do what it says, or, as a part of a key-change set, wait for the others?"""
        return self in (Result.ACCEPT, Result.FIRST_KEY_CHANGE, Result.SECOND_KEY_CHANGE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and what a class 1 token asked to see: pairs of name and value."""

    result: Result
    shown: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """How this make of meter behaves.

    `tid_memory`: TIDs remembered; 50 is commonly stated, not confirmed in an open source.
    `resources`: what it gives credit in; another resource is FUNCTION.
    `register_max`: the greatest content of a unit register (tenths), and `currency_register_max` of a currency
    register (1e-5); a token beyond is OVERFLOW and stays usable.
    `set_timeout`: an incomplete key-change set is dropped after this time; one maker's 10 minutes.
    `wrong_before_lockout`, `lockout_first`, `lockout_max`: one maker's keypad, 3 wrong tokens, then 10 s, doubled with
    each further one up to 1280 s; class 1 is still taken.
    `key_type_changes`: pairs of key types, from and to; the standard's table is not public.
    `manufacturer`: its code, of 2 digits or 4; a class 1 token for another one is MANUFACTURER, code 0 is for all.
    """

    tid_memory: int = 50
    resources: frozenset[Resource] = frozenset(Resource)
    register_max: int = 9_999_999
    currency_register_max: int = 999_999_999_999_999
    set_timeout: timedelta = timedelta(minutes=10)
    wrong_before_lockout: int = 3
    lockout_first: timedelta = timedelta(seconds=10)
    lockout_max: timedelta = timedelta(seconds=1280)
    key_type_changes: frozenset[tuple[int, int]] = frozenset({(1, 1), (1, 2), (1, 3), (2, 2), (2, 1), (3, 3)})
    manufacturer: str = "00"


@dataclass(slots=True)
class _HalfSet:
    """Key-change sections that wait for the others, and when the first of them came."""

    began_at: datetime
    sections: dict[type[KeySection], KeySection] = field(default_factory=dict)


_FAULT_RESULTS: Final = {
    Fault.FORMAT: Result.FORMAT,
    Fault.CRC: Result.CRC,
    Fault.TOKEN_CLASS: Result.FUNCTION,
    Fault.OUT_OF_RANGE: Result.RANGE,
    Fault.UNSETTLED: Result.FUNCTION,
}


class Meter:
    """One meter: its key and numbers, its credit, its memory of TIDs.

    `handle` says what the meter knows of its key (an EA, a type, a revision and so on), `key` is the key itself.
    """

    def __init__(
        self, handle: MeterKey, key: DecoderKey, *, settings: MeterSettings | None = None, tables: TableSet = SAMPLE
    ) -> None:
        if key.ea != handle.ea:
            raise TokenError(Fault.KEY_MISMATCH, "meter: handle and key of one encryption algorithm expected")
        self._settings: Final = settings or MeterSettings()
        self._tables: Final = tables
        self._key = key
        self.drn: Final = handle.drn
        self.ea: Final = handle.ea
        self.supply_group = handle.supply_group
        self.key_type = handle.key_type
        self.tariff_index = handle.tariff_index
        self.key_revision = handle.key_revision
        self.key_expiry = handle.key_expiry
        self.credit: Final[dict[Resource, int]] = {resource: 0 for resource in Resource}
        """Credit by resource: tenths of a unit for 0 to 3, 1e-5 of the currency for 4 to 7."""
        self.power_limit_w: int | None = None
        self.unbalance_limit_w: int | None = None
        self.tariff_rate: int | None = None
        self.water_factor: int | None = None
        self.flags: Final[dict[MeterFlag, bool]] = {}
        self.is_tampered = False
        self._tids: list[int] = []  # sorted, at most tid_memory of them
        self._half_set: _HalfSet | None = None
        self._typed = ""
        self._wrong = 0
        self._locked_until: datetime | None = None

    def __repr__(self) -> str:
        return f"<Meter {self.drn} EA{self.ea:02d} KT {self.key_type} KRN {self.key_revision}>"

    @property
    def electricity_tenths(self) -> int:
        """Electricity credit in tenths of a kWh: what the display shows."""
        return self.credit[Resource.ELECTRICITY]

    def consume(self, resource: Resource, amount: int) -> None:
        """Use up credit, as far as there is any."""
        self.credit[resource] = max(0, self.credit[resource] - amount)

    def press(self, character: str, now: datetime) -> Answer | None:
        """One key of the keypad: a digit, or `<` to take the last one back. The 20th digit enters the token."""
        if character == "<":
            self._typed = self._typed[:-1]
            return None
        if len(character) != 1 or character not in "0123456789":
            return None
        self._typed += character
        if len(self._typed) < bits.DIGITS:
            return None
        typed, self._typed = self._typed, ""
        return self.enter(typed, now)

    def enter(self, digits: str, now: datetime) -> Answer:
        """Enter a token of 20 digits at `now` and say what the meter shows.

        The order of checks: digits and class; class 1 at once; lock-out; CRC; subclass and ranges; key rules; TID;
        then the effect. A token that is not accepted changes nothing but the count of wrong tokens.
        """
        try:
            token_class, block = bits.split(digits)
        except TokenError as refusal:
            return self._rejected(refusal, now)
        if token_class == 1:
            try:
                token = token_of(1, block)
            except TokenError as refusal:
                if refusal.fault is Fault.UNSETTLED:
                    return Answer(Result.MANUFACTURER)
                return self._rejected(refusal, now)
            assert isinstance(token, MeterTest)
            return self._test(token)
        if self._locked_until is not None and now < self._locked_until:
            return Answer(Result.LOCKED_OUT)
        try:
            token = token_of(token_class, self._key.decrypt(block) if token_class != 3 else block)
        except TokenError as refusal:
            return self._rejected(refusal, now)
        # The CRC agrees: whoever made this token had the key.
        self._wrong = 0
        self._locked_until = None
        return Answer(self._taken(token, now))

    def _rejected(self, refusal: TokenError, now: datetime) -> Answer:
        result = _FAULT_RESULTS[refusal.fault]
        if self._locked_until is not None and now < self._locked_until:
            return Answer(Result.LOCKED_OUT)
        if result in (Result.FORMAT, Result.CRC):
            self._wrong += 1
            over = self._wrong - self._settings.wrong_before_lockout
            if over >= 0:
                # Doubled 7 times, 10 s are 1280 s; more doublings would only make large numbers.
                wait = self._settings.lockout_first * (1 << min(over, 20))
                self._locked_until = now + min(wait, self._settings.lockout_max)
        return Answer(result)

    def _taken(self, token: Token, now: datetime) -> Result:
        if isinstance(token, KeySection1 | KeySection2 | KeySection3 | KeySection4):
            return self._key_section(token, now)
        assert not isinstance(token, MeterTest)
        if isinstance(token, Credit | CurrencyCredit) and self.key_type <= 1:
            return Result.DEFAULT_KEY
        if token.tid >> 16 > self.key_expiry:
            return Result.KEY_EXPIRED
        place = bisect_left(self._tids, token.tid)
        if place < len(self._tids) and self._tids[place] == token.tid:
            return Result.USED
        # While the memory has room nothing was forgotten, so nothing can be too old.
        if place == 0 and len(self._tids) >= self._settings.tid_memory:
            return Result.OLD
        result = self._effect(token)
        if result is Result.ACCEPT:
            self._tids.insert(place, token.tid)
            if len(self._tids) > self._settings.tid_memory:
                del self._tids[0]
        return result

    def _effect(self, token: Token) -> Result:
        match token:
            case Credit(resource):
                return self._add(resource, token.units, self._settings.register_max)
            case CurrencyCredit(resource, _, amount):
                return self._add(resource, amount.units, self._settings.currency_register_max)
            case SetMaximumPower():
                self.power_limit_w = token.limit_w
            case SetPhaseUnbalance():
                self.unbalance_limit_w = token.limit_w
            case ClearCredit(_, _, register):
                for resource in Resource if register == REGISTER_ALL else (Resource(register),):
                    self.credit[resource] = 0
            case SetTariffRate(_, _, rate):
                self.tariff_rate = rate
            case SetWaterFactor(_, _, factor):
                self.water_factor = factor
            case ClearTamper():
                self.is_tampered = False
            case SetFlag(_, _, flag, value):
                self.flags[flag] = value
            case _:
                return Result.FUNCTION
        return Result.ACCEPT

    def _add(self, resource: Resource, amount: int, register_max: int) -> Result:
        if resource not in self._settings.resources:
            return Result.FUNCTION
        total = self.credit[resource] + amount
        if total > register_max:
            return Result.OVERFLOW
        if total < 0:
            return Result.RANGE
        self.credit[resource] = total
        return Result.ACCEPT

    def _key_section(self, section: KeySection, now: datetime) -> Result:
        half = self._half_set
        if half is None or now - half.began_at > self._settings.set_timeout:
            half = self._half_set = _HalfSet(now)
        half.sections[type(section)] = section
        try:
            change = change_of(half.sections.values(), self.ea)
        except TokenError as refusal:
            self._half_set = None
            return _FAULT_RESULTS[refusal.fault]
        if change is None:
            # The published codes name the first and the second section only.
            if isinstance(section, KeySection1):
                return Result.FIRST_KEY_CHANGE
            return Result.SECOND_KEY_CHANGE if isinstance(section, KeySection2) else Result.ACCEPT
        self._half_set = None
        return self._change_key(change)

    def _change_key(self, change: KeyChange) -> Result:
        if (self.key_type, change.key_type) not in self._settings.key_type_changes:
            return Result.KEY_TYPE
        new_key = DecoderKey(self.ea, change.key_value, self._tables)
        if change.rollover and self._key.same_as(new_key):
            # Forgetting the TIDs under the same key would let every old token in again.
            return Result.RANGE
        self._key = new_key
        self.key_type = change.key_type
        self.key_revision = change.key_revision
        self.key_expiry = change.key_expiry
        self.tariff_index = change.tariff_index
        # A set of two does not carry the supply group; such meters show 0 afterwards.
        self.supply_group = change.supply_group or "000000"
        if change.rollover:
            self._tids.clear()
        return Result.ACCEPT

    def _test(self, token: MeterTest) -> Answer:
        if int(token.manufacturer) and int(token.manufacturer) != int(self._settings.manufacturer):
            return Answer(Result.MANUFACTURER)
        asked = [number for number in MeterTestNumber if token.control >> (number - 1) & 1]
        return Answer(Result.ACCEPT, tuple((number.name.lower(), self._display(number)) for number in asked))

    def _display(self, number: MeterTestNumber) -> str:
        match number:
            case MeterTestNumber.INFORMATION_DISPLAY:
                return f"{self.electricity_tenths // 10}.{self.electricity_tenths % 10}"
            case MeterTestNumber.KEY_REVISION:
                # One display for revision and type.
                return f"{self.key_revision}{self.key_type}"
            case MeterTestNumber.TARIFF_INDEX:
                return self.tariff_index
            case MeterTestNumber.POWER_LIMIT:
                return _or_dash(self.power_limit_w)
            case MeterTestNumber.TAMPER_STATUS:
                return "1" if self.is_tampered else "0"
            case MeterTestNumber.PHASE_UNBALANCE_LIMIT:
                return _or_dash(self.unbalance_limit_w)
            case MeterTestNumber.WATER_METER_FACTOR:
                return _or_dash(self.water_factor)
            case MeterTestNumber.TARIFF_RATE:
                return _or_dash(self.tariff_rate)
            case MeterTestNumber.ENCRYPTION_ALGORITHM:
                return f"{self.ea:02d}"
            case MeterTestNumber.KEY_CHANGE_TOKENS:
                return "2" if self.ea == 7 else "4"
            case MeterTestNumber.SUPPLY_GROUP:
                return self.supply_group
            case MeterTestNumber.KEY_EXPIRY:
                return str(self.key_expiry)
            case MeterTestNumber.METER_NUMBER:
                return self.drn
            case _:
                return "ok"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
