"""Every token class as a dataclass, and its 64-bit clear block. Pure.

    0/0-3    Credit               electricity, water, gas, time
    0/4-7    CurrencyCredit       the same in currency
    1/0, 1/1 MeterTest            not enciphered, no key needed
    2/0      SetMaximumPower      2/6  SetPhaseUnbalance    fields in watts, coded as amounts
    2/1      ClearCredit          2/5  ClearTamper
    2/2      SetTariffRate        2/7  SetWaterFactor       16 bits whose meaning the utility settles
    2/3, 2/4, 2/8, 2/9            KeySection1 to KeySection4
    2/10     SetFlag

`block_of` builds and `token_of` reads; both refuse, by name, whatever the standard or an open gap forbids. Class 3,
1/2-15, 0/8-15 and 2/11-15 are reserved, proprietary or not described: TOKEN_CLASS.
Source: IEC 62055-41 (token classes, data elements); STS 531-1-0-02 for layouts; the STS Association's token pages.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sts import amounts
from sts.amounts import CurrencyAmount
from sts.crc import crc_of_50_bits, currency_crc_of_50_bits
from sts.errors import Fault, NumberError, TokenError
from sts.tid import check_tid


class Resource(IntEnum):
    """What credit is given in; the number is the subclass, and the register of ClearCredit."""

    ELECTRICITY = 0
    WATER = 1
    GAS = 2
    TIME = 3
    ELECTRICITY_CURRENCY = 4
    WATER_CURRENCY = 5
    GAS_CURRENCY = 6
    TIME_CURRENCY = 7


REGISTER_ALL: Final = 0xFFFF
"""ClearCredit of every register."""

FLAGS_INDEX: Final = 63
"""The only index of the extended token set that a public source describes."""


class MeterFlag(IntEnum):
    """Flags of the extended token set (2/10), by number."""

    TEST = 0
    DETECT_TAMPER = 1
    DISCONNECT_SERVICE = 2
    DISCONNECT_ON_TAMPER = 3
    DISCONNECT_ON_POWER_LIMIT = 4
    DISCONNECT_ON_UNDER_FREQUENCY = 5
    ELECTRICITY_PREPAID = 6
    WATER_PREPAID = 7
    GAS_PREPAID = 8
    TIME_PREPAID = 9
    COMMISSIONING_MODE = 10
    TARIFF_INDEX_FALLBACK_POWER_LIMIT = 11


class MeterTestNumber(IntEnum):
    """Tests and displays a class 1 token can ask for, by number; test n is control bit n-1.

    The bits 0 to 17 are tested by STS 531-1-0-02 CTSA11; which name belongs to which bit is taken from one module's
    public interface.
    """

    LOAD_SWITCH = 1
    INFORMATION_DISPLAY = 2
    ENERGY_TOTALS = 3
    KEY_REVISION = 4
    TARIFF_INDEX = 5
    TOKEN_READER = 6
    POWER_LIMIT = 7
    TAMPER_STATUS = 8
    POWER_CONSUMPTION = 9
    SOFTWARE_VERSION = 10
    PHASE_UNBALANCE_LIMIT = 11
    WATER_METER_FACTOR = 12
    TARIFF_RATE = 13
    ENCRYPTION_ALGORITHM = 14
    KEY_CHANGE_TOKENS = 15
    SUPPLY_GROUP = 16
    KEY_EXPIRY = 17
    METER_NUMBER = 18


@dataclass(frozen=True, slots=True)
class Credit:
    """Class 0/0 to 0/3. `amount_field` is the 16-bit field; `units` what the meter credits, in tenths."""

    resource: Resource
    tid: int
    rnd: int
    amount_field: int

    def __post_init__(self) -> None:
        if not 0 <= self.resource <= 3:
            raise NumberError(Fault.OUT_OF_RANGE, "credit in units: resource 0 to 3 expected")
        _check_register(self.tid, self.rnd, self.amount_field)

    @property
    def units(self) -> int:
        """Tenths of a kWh, m3 or minute."""
        return amounts.units_of(self.amount_field)


@dataclass(frozen=True, slots=True)
class CurrencyCredit:
    """Class 0/4 to 0/7. It has no random field: the nibble carries sign and exponent of the amount."""

    resource: Resource
    tid: int
    amount: CurrencyAmount

    def __post_init__(self) -> None:
        if not 4 <= self.resource <= 7:
            raise NumberError(Fault.OUT_OF_RANGE, "credit in currency: resource 4 to 7 expected")
        check_tid(self.tid)


@dataclass(frozen=True, slots=True)
class MeterTest:
    """Class 1/0 (manufacturer code of 2 digits, 36 control bits) or 1/1 (4 digits, 28 control bits).

    Refuses UNSETTLED for manufacturer codes above 9, which no open source settles as binary or decimal coded.
    """

    manufacturer: str
    control: int

    def __post_init__(self) -> None:
        if len(self.manufacturer) not in (2, 4) or not (self.manufacturer.isascii() and self.manufacturer.isdigit()):
            raise NumberError(Fault.FORMAT, "manufacturer code: 2 or 4 digits expected")
        if int(self.manufacturer) > 9:
            raise NumberError(Fault.UNSETTLED, "manufacturer code above 9: coding not settled by an open source")
        if not 0 <= self.control < 1 << self.control_bits:
            raise NumberError(Fault.OUT_OF_RANGE, f"control: {self.control_bits} bits expected")

    @property
    def control_bits(self) -> int:
        """36 with a manufacturer code of 2 digits, 28 with 4."""
        return 36 if len(self.manufacturer) == 2 else 28

    @classmethod
    def of(cls, manufacturer: str, *tests: MeterTestNumber) -> "MeterTest":
        """The token that asks for these tests; for all of them if none is named."""
        control = 0
        for test in tests:
            control |= 1 << test - 1
        if not tests:
            control = (1 << (36 if len(manufacturer) == 2 else 28)) - 1
        return cls(manufacturer, control)


@dataclass(frozen=True, slots=True)
class SetMaximumPower:
    """Class 2/0: the power limit; `limit_field` is coded as an amount, in watts."""

    tid: int
    rnd: int
    limit_field: int

    def __post_init__(self) -> None:
        _check_register(self.tid, self.rnd, self.limit_field)

    @property
    def limit_w(self) -> int:
        """The limit in watts."""
        return amounts.units_of(self.limit_field)


@dataclass(frozen=True, slots=True)
class ClearCredit:
    """Class 2/1: sets a credit register to zero; `register` is a Resource or REGISTER_ALL."""

    tid: int
    rnd: int
    register: int

    def __post_init__(self) -> None:
        _check_register(self.tid, self.rnd, self.register)
        if self.register > 7 and self.register != REGISTER_ALL:
            raise NumberError(Fault.OUT_OF_RANGE, f"register: 0 to 7 or 65535 expected, got {self.register}")


@dataclass(frozen=True, slots=True)
class SetTariffRate:
    """Class 2/2: 16 bits whose meaning is left to the utility."""

    tid: int
    rnd: int
    rate: int

    def __post_init__(self) -> None:
        _check_register(self.tid, self.rnd, self.rate)


@dataclass(frozen=True, slots=True)
class ClearTamper:
    """Class 2/5: ends the tamper condition. Its 16 bits are padding, 0."""

    tid: int
    rnd: int

    def __post_init__(self) -> None:
        _check_register(self.tid, self.rnd, 0)


@dataclass(frozen=True, slots=True)
class SetPhaseUnbalance:
    """Class 2/6: the limit of unbalance between phases; `limit_field` is coded as an amount, in watts."""

    tid: int
    rnd: int
    limit_field: int

    def __post_init__(self) -> None:
        _check_register(self.tid, self.rnd, self.limit_field)

    @property
    def limit_w(self) -> int:
        """The limit in watts."""
        return amounts.units_of(self.limit_field)


@dataclass(frozen=True, slots=True)
class SetWaterFactor:
    """Class 2/7: 16 bits as given."""

    tid: int
    rnd: int
    factor: int

    def __post_init__(self) -> None:
        _check_register(self.tid, self.rnd, self.factor)


@dataclass(frozen=True, slots=True)
class SetFlag:
    """Class 2/10 with index 63: one flag of the meter, set or cleared."""

    tid: int
    rnd: int
    flag: MeterFlag
    value: bool

    def __post_init__(self) -> None:
        _check_register(self.tid, self.rnd, 0)

    @property
    def field(self) -> int:
        """Index 63, flag number, value, in 6, 9 and 1 bits."""
        return FLAGS_INDEX << 10 | self.flag << 1 | self.value


@dataclass(frozen=True, slots=True, repr=False)
class KeySection1:
    """Class 2/3: first part of a new decoder key, with the high nibble of its expiry number, KRN, RO, 3KCT and KT."""

    expiry_high: int
    key_revision: int
    rollover: bool
    three_token_set: bool
    key_type: int
    part: int

    def __post_init__(self) -> None:
        _check_bits("KEN high nibble", self.expiry_high, 4)
        if not 1 <= self.key_revision <= 9:
            raise NumberError(Fault.OUT_OF_RANGE, f"key revision: 1 to 9 expected, got {self.key_revision}")
        _check_bits("key type", self.key_type, 2)
        _check_bits("key part", self.part, 32)

    def __repr__(self) -> str:
        return f"<KeySection1 KRN {self.key_revision} KT {self.key_type}, key part hidden>"


@dataclass(frozen=True, slots=True, repr=False)
class KeySection2:
    """Class 2/4: last part of a new decoder key, with the low nibble of its expiry number and the tariff index.

    The index is written in binary; above 9 that rests on one source (see `sts.modules.contract.Unsettled`).
    """

    expiry_low: int
    tariff_index: int
    part: int

    def __post_init__(self) -> None:
        _check_bits("KEN low nibble", self.expiry_low, 4)
        if not 0 <= self.tariff_index <= 99:
            raise NumberError(Fault.OUT_OF_RANGE, f"tariff index: 0 to 99 expected, got {self.tariff_index}")
        _check_bits("key part", self.part, 32)

    def __repr__(self) -> str:
        return f"<KeySection2 TI {self.tariff_index:02d}, key part hidden>"


@dataclass(frozen=True, slots=True, repr=False)
class KeySection3:
    """Class 2/8: the third quarter of a 128-bit key, with the low 12 bits of the supply group."""

    supply_group_low: int
    part: int

    def __post_init__(self) -> None:
        _check_bits("supply group, low", self.supply_group_low, 12)
        _check_bits("key part", self.part, 32)

    def __repr__(self) -> str:
        return "<KeySection3, key part hidden>"


@dataclass(frozen=True, slots=True, repr=False)
class KeySection4:
    """Class 2/9: the second quarter of a 128-bit key from below, with the high 12 bits of the supply group."""

    supply_group_high: int
    part: int

    def __post_init__(self) -> None:
        _check_bits("supply group, high", self.supply_group_high, 12)
        _check_bits("key part", self.part, 32)

    def __repr__(self) -> str:
        return "<KeySection4, key part hidden>"


Management = SetMaximumPower | ClearCredit | SetTariffRate | ClearTamper | SetPhaseUnbalance | SetWaterFactor | SetFlag
KeySection = KeySection1 | KeySection2 | KeySection3 | KeySection4
Token = Credit | CurrencyCredit | MeterTest | Management | KeySection


def register_block(token_class: int, subclass: int, nibble: int, tid: int, value: int) -> int:
    """The clear block of a token with a TID: subclass, RND or S&E, TID, 16-bit field, CRC. Checks nothing."""
    bits = token_class << 48 | subclass << 44 | nibble << 40 | tid << 16 | value
    currency = token_class == 0 and subclass >= 4
    crc = currency_crc_of_50_bits(bits) if currency else crc_of_50_bits(bits)
    return (bits & 0xFFFFFFFFFFFF) << 16 | crc


def block_of(token: Token) -> tuple[int, int]:
    """Class and 64-bit clear block of a token, its CRC in place."""
    match token:
        case Credit(resource, tid, rnd, field):
            return 0, register_block(0, resource, rnd, tid, field)
        case CurrencyCredit(resource, tid, amount):
            return 0, register_block(0, resource, amount.sign_exponent, tid, amount.field)
        case MeterTest(manufacturer, control):
            if len(manufacturer) == 2:
                return 1, _with_crc(1, control << 8 | int(manufacturer))
            return 1, _with_crc(1, 1 << 44 | control << 16 | int(manufacturer))
        case SetMaximumPower(tid, rnd, field):
            return 2, register_block(2, 0, rnd, tid, field)
        case ClearCredit(tid, rnd, register):
            return 2, register_block(2, 1, rnd, tid, register)
        case SetTariffRate(tid, rnd, rate):
            return 2, register_block(2, 2, rnd, tid, rate)
        case ClearTamper(tid, rnd):
            return 2, register_block(2, 5, rnd, tid, 0)
        case SetPhaseUnbalance(tid, rnd, field):
            return 2, register_block(2, 6, rnd, tid, field)
        case SetWaterFactor(tid, rnd, factor):
            return 2, register_block(2, 7, rnd, tid, factor)
        case SetFlag(tid, rnd):
            return 2, register_block(2, 10, rnd, tid, token.field)
        case KeySection1(expiry, revision, rollover, three, key_type, part):
            head = 3 << 12 | expiry << 8 | revision << 4 | rollover << 3 | three << 2 | key_type
            return 2, _with_crc(2, head << 32 | part)
        case KeySection2(expiry, tariff_index, part):
            return 2, _with_crc(2, (4 << 12 | expiry << 8 | tariff_index) << 32 | part)
        case KeySection3(low, part):
            return 2, _with_crc(2, (8 << 12 | low) << 32 | part)
        case KeySection4(high, part):
            return 2, _with_crc(2, (9 << 12 | high) << 32 | part)


def token_of(token_class: int, block: int) -> Token:
    """The token in a clear block. The order of checks is the meter's: class, CRC, subclass, ranges.

    Refuses TOKEN_CLASS, CRC, OUT_OF_RANGE or UNSETTLED, each as TokenError.
    """
    if token_class not in (0, 1, 2):
        raise TokenError(Fault.TOKEN_CLASS, "token class 3 is reserved")
    bits = token_class << 48 | block >> 16
    subclass = block >> 60
    currency = token_class == 0 and 4 <= subclass <= 7
    if block & 0xFFFF != (currency_crc_of_50_bits(bits) if currency else crc_of_50_bits(bits)):
        raise TokenError(Fault.CRC, "the checksum does not agree")
    try:
        if token_class == 0:
            return _credit_of(subclass, block)
        if token_class == 1:
            return _test_of(subclass, block)
        if subclass in (3, 4, 8, 9):
            return _section_of(subclass, block)
        return management_of(subclass, block >> 32 & 0xFFFFFF, block >> 56 & 15, block >> 16 & 0xFFFF)
    except NumberError as refusal:
        raise TokenError(refusal.fault, refusal.sentence) from None


def management_of(subclass: int, tid: int, rnd: int, value: int) -> Management:
    """The engineering token (class 2 with a TID) of these fields.

    Refuses TOKEN_CLASS for subclasses that are key changes, reserved or proprietary, OUT_OF_RANGE for a value that
    the token cannot have, UNSETTLED for a 2/10 that no open source describes.
    """
    match subclass:
        case 0:
            return SetMaximumPower(tid, rnd, value)
        case 1:
            return ClearCredit(tid, rnd, value)
        case 2:
            return SetTariffRate(tid, rnd, value)
        case 5:
            if value:
                raise NumberError(Fault.OUT_OF_RANGE, "clear tamper: padding of 0 expected")
            return ClearTamper(tid, rnd)
        case 6:
            return SetPhaseUnbalance(tid, rnd, value)
        case 7:
            return SetWaterFactor(tid, rnd, value)
        case 10:
            _check_bits("16-bit field", value, 16)
            flag = value >> 1 & 0x1FF
            if value >> 10 != FLAGS_INDEX or flag not in _FLAGS:
                raise NumberError(Fault.UNSETTLED, "extended token set: index 63 and flags 0 to 11 are described only")
            return SetFlag(tid, rnd, MeterFlag(flag), bool(value & 1))
    raise NumberError(Fault.TOKEN_CLASS, f"class 2, subclass {subclass}: no engineering token")


_FLAGS: Final = frozenset(int(flag) for flag in MeterFlag)


def _credit_of(subclass: int, block: int) -> Credit | CurrencyCredit:
    tid, nibble, field = block >> 32 & 0xFFFFFF, block >> 56 & 15, block >> 16 & 0xFFFF
    if subclass <= 3:
        return Credit(Resource(subclass), tid, nibble, field)
    if subclass <= 7:
        return CurrencyCredit(Resource(subclass), tid, CurrencyAmount(field, nibble))
    raise NumberError(Fault.TOKEN_CLASS, f"class 0, subclass {subclass} is reserved")


def _test_of(subclass: int, block: int) -> MeterTest:
    if subclass > 1:
        raise NumberError(Fault.TOKEN_CLASS, f"class 1, subclass {subclass} is reserved, proprietary or not described")
    number = block >> 16 & (0xFFFF if subclass else 0xFF)
    if number > 9:
        raise NumberError(Fault.UNSETTLED, "manufacturer code above 9: coding not settled by an open source")
    if subclass == 0:
        return MeterTest(f"{number:02d}", block >> 24 & (1 << 36) - 1)
    return MeterTest(f"{number:04d}", block >> 32 & (1 << 28) - 1)


def _section_of(subclass: int, block: int) -> KeySection:
    head, part = block >> 48 & 0xFFF, block >> 16 & 0xFFFFFFFF
    if subclass == 3:
        return KeySection1(head >> 8, head >> 4 & 15, bool(head & 8), bool(head & 4), head & 3, part)
    if subclass == 4:
        return KeySection2(head >> 8, head & 0xFF, part)
    return KeySection3(head, part) if subclass == 8 else KeySection4(head, part)


def _with_crc(token_class: int, upper: int) -> int:
    return upper << 16 | crc_of_50_bits(token_class << 48 | upper)


def _check_bits(label: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise NumberError(Fault.OUT_OF_RANGE, f"{label}: {bits} bits expected")


def _check_register(tid: int, rnd: int, value: int) -> None:
    check_tid(tid)
    _check_bits("RND", rnd, 4)
    _check_bits("16-bit field", value, 16)
