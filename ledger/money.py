"""Money: integer minor units with their currency. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import floor


@dataclass(frozen=True, slots=True)
class Currency:
    """An ISO 4217 code and the number of its minor digits (KES: 2, UGX: 0)."""

    code: str
    minor_digits: int


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount in minor units of one currency.

    Sums and comparisons of different currencies are bugs and raise AssertionError.
    """

    minor: int
    currency: Currency

    def __add__(self, other: Money) -> Money:
        assert self.currency == other.currency, f"{self.currency.code} + {other.currency.code}"
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        assert self.currency == other.currency, f"{self.currency.code} - {other.currency.code}"
        return Money(self.minor - other.minor, self.currency)

    def __str__(self) -> str:
        return f"{plain(self.minor, self.currency.minor_digits)} {self.currency.code}"


def plain(minor: int, minor_digits: int) -> str:
    """Minor units as a decimal number with a point and no grouping: 123405, 2 -> "1234.05"."""
    return f"{Decimal(minor).scaleb(-minor_digits):f}"


def to_minor(text: str, minor_digits: int) -> int:
    """A plain decimal number in currency units as minor units: "1234.5", 2 -> 123450.

    ValueError when it is not a plain finite decimal or has more digits than the currency.
    """
    try:
        value = Decimal(text)
    except ArithmeticError as error:
        raise ValueError(f"a decimal amount expected, got {text!r}") from error
    if not value.is_finite():
        raise ValueError(f"a finite amount expected, got {text!r}")
    scaled = value.scaleb(minor_digits)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"at most {minor_digits} decimals expected, got {text!r}")
    return int(scaled)


def half_up(value: Fraction) -> int:
    """The nearest integer, halves upward, as invoices and tax authorities round."""
    return floor(value + Fraction(1, 2))
