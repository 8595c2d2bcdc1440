"""Identifiers of STS: meter number, supply group, tariff index, key revision, key expiry, key type. Pure.

Every constructor validates, so that a value that exists is a value that may be used. Digits are ASCII digits only;
spaces, signs and full-width digits are refused.
Source: IEC 62055-41 clauses on the MeterPAN; STS 531-1-0-02 CTSA17 for the check digits.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sts.errors import Fault, NumberError

IIN_11: Final = "600727"
"""Issuer number in front of an 11-digit meter number."""
IIN_13: Final = "0000"
"""Issuer number in front of a 13-digit meter number."""

KEN_NEVER: Final = 255
"""A key with this expiry number does not expire inside its base date."""

# Doubling a digit and adding the digits of the result, for Luhn.
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")

_match_digits: Final[Callable[[str], object]] = re.compile("[0-9]+").fullmatch
_match_drn: Final[Callable[[str], object]] = re.compile("[0-9]{11}(?:[0-9]{2})?").fullmatch
_match_six: Final[Callable[[str], object]] = re.compile("[0-9]{6}").fullmatch
_match_two: Final[Callable[[str], object]] = re.compile("[0-9]{2}").fullmatch


class KeyType(IntEnum):
    """Which kind of decoder key a meter holds, 0 to 3."""

    INITIALISATION = 0  # DITK: in the factory only, made by no vending key
    DEFAULT = 1  # DDTK: meter in stock; takes key changes, never credit
    UNIQUE = 2  # DUTK: normal vending
    COMMON = 3  # DCTK: one key for all meters of a group


class BaseDate(IntEnum):
    """The year on whose first minute TIDs count from zero."""

    BASE_1993 = 1993
    BASE_2014 = 2014
    BASE_2035 = 2035


class EncryptionAlgorithm(IntEnum):
    """How token blocks are enciphered. 09 (DEA) was withdrawn by edition 3."""

    STA = 7
    MISTY1 = 11


class KeyGeneration(IntEnum):
    """How decoder keys are derived. 01 is not published in full, 03 was withdrawn by edition 3."""

    DKGA02 = 2
    DKGA04 = 4


def is_digits(text: str, length: int) -> bool:
    """Is this exactly `length` ASCII digits?"""
    return len(text) == length and _match_digits(text) is not None


def luhn_digit(body: str) -> str:
    """The Luhn check digit that belongs behind these digits; the rightmost digit of the body is doubled first.

    Refuses FORMAT unless there is at least one digit and nothing else.
    """
    if _match_digits(body) is None:
        raise NumberError(Fault.FORMAT, f"digits expected, got {len(body)} characters that are not all digits")
    return _luhn(body.encode("ascii"))


def _luhn(body: bytes) -> str:
    # 48 is the code of "0": sums of character codes are sums of digits plus 48 for each character.
    total = sum(body[::-2].translate(_DOUBLED)) + sum(body[-2::-2]) - 48 * len(body)
    return "0987654321"[total % 10]


def check_drn(drn: str) -> None:
    """Refuse, by name, what is no meter number: FORMAT for anything but 11 or 13 digits, CHECK_DIGIT for its last."""
    if _match_drn(drn) is None:
        raise NumberError(Fault.FORMAT, f"meter number: 11 or 13 digits expected, got {len(drn)} characters")
    raw = drn.encode("ascii")
    if (sum(raw[::-2]) + sum(raw[-2::-2].translate(_DOUBLED)) - 48 * len(raw)) % 10:
        raise NumberError(Fault.CHECK_DIGIT, "meter number: the last digit does not agree with the others")


def iin_for(drn: str) -> str:
    """The issuer number that goes with a meter number of this length: 600727 for 11 digits, 0000 for 13."""
    return IIN_11 if len(drn) == 11 else IIN_13


def pan_of(iin: str, drn: str) -> str:
    """The 18-digit MeterPAN of a valid issuer and meter number: both, then their Luhn digit."""
    body = iin + drn
    return body + _luhn(body.encode("ascii"))


def check_supply_group(supply_group: str) -> None:
    """Refuse OUT_OF_RANGE unless this is a supply group code of 6 digits."""
    if _match_six(supply_group) is None:
        raise NumberError(Fault.OUT_OF_RANGE, f"supply group: 6 digits expected, got {len(supply_group)} characters")


def check_tariff_index(tariff_index: str) -> None:
    """Refuse OUT_OF_RANGE unless this is a tariff index of 2 digits."""
    if _match_two(tariff_index) is None:
        raise NumberError(Fault.OUT_OF_RANGE, f"tariff index: 2 digits expected, got {len(tariff_index)} characters")


def check_key_revision(key_revision: int) -> None:
    """Refuse OUT_OF_RANGE unless this is a key revision number from 1 to 9."""
    if not 1 <= key_revision <= 9:
        raise NumberError(Fault.OUT_OF_RANGE, f"key revision: 1 to 9 expected, got {key_revision}")


def check_key_expiry(key_expiry: int) -> None:
    """Refuse OUT_OF_RANGE unless this is a key expiry number from 0 to 255."""
    if not 0 <= key_expiry <= 255:
        raise NumberError(Fault.OUT_OF_RANGE, f"key expiry number: 0 to 255 expected, got {key_expiry}")


def key_type_of(number: int) -> KeyType:
    """The key type of this number; refuses OUT_OF_RANGE outside 0 to 3."""
    if number not in _KEY_TYPES:
        raise NumberError(Fault.OUT_OF_RANGE, f"key type: 0 to 3 expected, got {number}")
    return KeyType(number)


def base_date_of(year: int) -> BaseDate:
    """The base date of this year; refuses OUT_OF_RANGE for any but 1993, 2014 and 2035."""
    if year not in _BASE_DATES:
        raise NumberError(Fault.OUT_OF_RANGE, f"base date: 1993, 2014 or 2035 expected, got {year}")
    return BaseDate(year)


def encryption_algorithm_of(number: int) -> EncryptionAlgorithm:
    """The encryption algorithm of this number; refuses UNSUPPORTED for any but 7 and 11."""
    if number not in _ALGORITHMS:
        raise NumberError(Fault.UNSUPPORTED, f"encryption algorithm: 7 or 11 expected, got {number}")
    return EncryptionAlgorithm(number)


def key_generation_of(number: int) -> KeyGeneration:
    """The decoder-key generation algorithm of this number; refuses UNSUPPORTED for any but 2 and 4."""
    if number not in _GENERATIONS:
        raise NumberError(Fault.UNSUPPORTED, f"key generation algorithm: 2 or 4 expected, got {number}")
    return KeyGeneration(number)


_KEY_TYPES: Final = frozenset(int(member) for member in KeyType)
_BASE_DATES: Final = frozenset(int(member) for member in BaseDate)
_ALGORITHMS: Final = frozenset(int(member) for member in EncryptionAlgorithm)
_GENERATIONS: Final = frozenset(int(member) for member in KeyGeneration)


@dataclass(frozen=True, slots=True)
class MeterNumber:
    """A meter number (DRN) of 11 or 13 digits whose check digit agrees.

    Refuses FORMAT for another shape (12 digits are never a meter number) and CHECK_DIGIT.
    """

    drn: str

    def __post_init__(self) -> None:
        check_drn(self.drn)

    def __str__(self) -> str:
        return self.drn

    @property
    def iin(self) -> str:
        """The issuer number in front of it: 600727, or 0000 before 13 digits."""
        return iin_for(self.drn)

    @property
    def pan(self) -> str:
        """The 18-digit MeterPAN: issuer number, meter number, check digit."""
        return pan_of(self.iin, self.drn)

    @property
    def manufacturer(self) -> str:
        """The manufacturer code: the first 2 digits, or 4 of a 13-digit number."""
        return self.drn[:-9]

    @classmethod
    def from_body(cls, body: str) -> "MeterNumber":
        """The meter number of 10 or 12 digits without their check digit."""
        return cls(body + luhn_digit(body))

    @classmethod
    def typed(cls, text: str) -> "MeterNumber":
        """The meter number a person typed: spaces and dashes between digits are dropped, nothing else."""
        return cls(text.replace(" ", "").replace("-", ""))

    @classmethod
    def from_pan(cls, pan: str) -> "MeterNumber":
        """The meter number inside an 18-digit MeterPAN; both check digits and the issuer number are checked."""
        if not is_digits(pan, 18):
            raise NumberError(Fault.FORMAT, f"MeterPAN: 18 digits expected, got {len(pan)} characters")
        if luhn_digit(pan[:17]) != pan[17]:
            raise NumberError(Fault.CHECK_DIGIT, "MeterPAN: the last digit does not agree with the others")
        for iin in (IIN_11, IIN_13):
            if pan.startswith(iin):
                return cls(pan[len(iin) : 17])
        raise NumberError(Fault.OUT_OF_RANGE, f"MeterPAN: issuer number {IIN_11} or {IIN_13} expected")


@dataclass(frozen=True, slots=True)
class SupplyGroup:
    """A supply group code (SGC), 6 digits, as text because leading zeros count."""

    code: str

    def __post_init__(self) -> None:
        check_supply_group(self.code)

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class TariffIndex:
    """A tariff index (TI), 2 digits, as text."""

    code: str

    def __post_init__(self) -> None:
        check_tariff_index(self.code)

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class KeyRevision:
    """A key revision number (KRN), 1 to 9."""

    number: int

    def __post_init__(self) -> None:
        check_key_revision(self.number)


@dataclass(frozen=True, slots=True)
class KeyExpiry:
    """A key expiry number (KEN), 0 to 255; a unit is 65,536 minutes, about 45.5 days."""

    number: int

    def __post_init__(self) -> None:
        check_key_expiry(self.number)

    def is_past(self, tid: int) -> bool:
        """Is a token of this TID made after the key expired? The top 8 bits of the TID are compared.

        Source: STS 531-1-0-02 CTSA16.
        """
        return tid >> 16 > self.number
