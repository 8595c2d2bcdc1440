"""Transfer amounts: the 16-bit field with its two-bit exponent, and the currency form with five. Pure, integers only.

A field holds exponent e (top bits) and mantissa m (14 bits) and stands for

    10^e * m + sum over n = 1..e of 2^14 * 10^(n-1)

in tenths of a kWh, m3 or minute; in watts for power limits; in 1e-5 of the base currency for currency credit.
Encoding rounds up, in the customer's favour, so the books must hold what the meter will credit: `units_of(field)`.
Source: IEC 62055-41 (TransferAmount); STS 531-1-0-02 CTSA10 for the gaps between the ranges.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

from sts.errors import Fault, NumberError

FIELD_MAX: Final = 0xFFFF
UNITS_MAX: Final = 18_201_624
"""The greatest amount that the 16-bit field holds, in its unit."""

MANTISSA_BITS: Final = 14
MANTISSA_MAX: Final = (1 << MANTISSA_BITS) - 1
CURRENCY_EXPONENT_MAX: Final = 31

SETTLED_CURRENCY_EXPONENT_MAX: Final = 3
"""Greater currency exponents, and negative amounts, rest on one public source and no published vector."""


def _bases(exponent_max: int) -> tuple[int, ...]:
    bases = [0]
    for exponent in range(exponent_max):
        bases.append(bases[-1] + (1 << MANTISSA_BITS) * 10**exponent)
    return tuple(bases)


_BASES: Final = _bases(CURRENCY_EXPONENT_MAX)
"""What mantissa 0 stands for under each exponent."""
_BASE_1, _BASE_2, _BASE_3 = _BASES[1:4]

CURRENCY_UNITS_MAX: Final = _BASES[31] + 10**31 * MANTISSA_MAX


def units_of(field: int) -> int:
    """The amount that a 16-bit field stands for, in its unit; this is what the meter credits.

    Refuses OUT_OF_RANGE for a number that does not fit 16 bits.
    """
    if not 0 <= field <= FIELD_MAX:
        raise NumberError(Fault.OUT_OF_RANGE, f"amount field: 0 to {FIELD_MAX} expected, got {field}")
    exponent = field >> MANTISSA_BITS
    mantissa: int = 10**exponent * (field & MANTISSA_MAX)
    return _BASES[exponent] + mantissa


def field_up(units: int) -> int:
    """The field for the least encodable amount at or above this one (units: tenths, or watts).

    An amount in the gap between two ranges takes the next exponent with mantissa 0.
    Refuses OUT_OF_RANGE below 0 and above 18,201,624.
    """
    _check_units(units)
    if units < _BASE_1:
        return units
    if units < _BASE_2:
        # The greatest mantissa plus one is the next exponent with mantissa 0: the two encodings join without a seam.
        return 0x4000 + min((units - _BASE_1 + 9) // 10, 1 << MANTISSA_BITS)
    if units < _BASE_3:
        return 0x8000 + min((units - _BASE_2 + 99) // 100, 1 << MANTISSA_BITS)
    return 0xC000 + (units - _BASE_3 + 999) // 1000


def field_down(units: int) -> int:
    """The field for the greatest encodable amount at or below this one; for a policy that carries the rest over.

    Refuses OUT_OF_RANGE below 0 and above 18,201,624.
    """
    field = field_up(units)
    return field if units_of(field) == units else field - 1


def round_up(units: int) -> int:
    """The least encodable amount at or above this one: what the meter credits if asked for `units`."""
    return units_of(field_up(units))


def round_down(units: int) -> int:
    """The greatest encodable amount at or below this one."""
    return units_of(field_down(units))


def is_encodable(units: int) -> bool:
    """Can the field hold exactly this amount? False also outside the field's range."""
    return 0 <= units <= UNITS_MAX and round_up(units) == units


def units_up(amount: Decimal, units_in_one: int = 10) -> int:
    """A decimal amount in whole units, rounded up to the next one; 10 units in a kWh, 100,000 in a currency unit.

    Refuses OUT_OF_RANGE for what is negative or no finite number. No float takes part.
    """
    if not amount.is_finite() or amount < 0:
        raise NumberError(Fault.OUT_OF_RANGE, "amount: a finite number from 0 expected")
    if amount.adjusted() > 40:
        raise NumberError(Fault.OUT_OF_RANGE, "amount: less than 1e40 expected")
    # A precision that no amount here exceeds, so that only the last step rounds.
    exact = Context(prec=60 + len(amount.as_tuple().digits), rounding=ROUND_CEILING)
    return int(exact.multiply(amount, Decimal(units_in_one)).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class CurrencyAmount:
    """A currency amount as a token carries it: the 16-bit field, and sign and high exponent bits (S&E) in a nibble."""

    field: int
    sign_exponent: int

    def __post_init__(self) -> None:
        if not 0 <= self.field <= FIELD_MAX:
            raise NumberError(Fault.OUT_OF_RANGE, f"amount field: 0 to {FIELD_MAX} expected, got {self.field}")
        if not 0 <= self.sign_exponent <= 15:
            raise NumberError(Fault.OUT_OF_RANGE, f"S&E: 0 to 15 expected, got {self.sign_exponent}")

    @property
    def is_negative(self) -> bool:
        """Does the sign bit stand for a negative amount?"""
        return bool(self.sign_exponent & 8)

    @property
    def exponent(self) -> int:
        """The five exponent bits, 0 to 31: three in the nibble, two in the field."""
        return (self.sign_exponent & 7) << 2 | self.field >> MANTISSA_BITS

    @property
    def is_settled(self) -> bool:
        """Is the coding confirmed by more than one source: not negative, exponent at most 3?"""
        return self.sign_exponent == 0

    @property
    def units(self) -> int:
        """The signed amount in 1e-5 of the base currency that the meter will credit."""
        exponent = self.exponent
        mantissa: int = 10**exponent * (self.field & MANTISSA_MAX)
        magnitude = _BASES[exponent] + mantissa
        return -magnitude if self.is_negative else magnitude


def currency_up(units: int) -> CurrencyAmount:
    """A currency amount (1e-5 of the base currency) as a token carries it, its magnitude rounded up.

    Refuses OUT_OF_RANGE beyond exponent 31.
    """
    magnitude = abs(units)
    if magnitude > CURRENCY_UNITS_MAX:
        raise NumberError(Fault.OUT_OF_RANGE, "currency amount: more than the greatest exponent holds")
    exponent = 0
    while exponent < CURRENCY_EXPONENT_MAX and magnitude >= _BASES[exponent + 1]:
        exponent += 1
    step: int = 10**exponent
    mantissa = -((_BASES[exponent] - magnitude) // step)
    if mantissa > MANTISSA_MAX:  # the gap before the next exponent
        exponent, mantissa = exponent + 1, 0
    sign = 8 if units < 0 else 0
    return CurrencyAmount((exponent & 3) << MANTISSA_BITS | mantissa, sign | exponent >> 2)


def _check_units(units: int) -> None:
    if not 0 <= units <= UNITS_MAX:
        raise NumberError(Fault.OUT_OF_RANGE, f"amount: 0 to {UNITS_MAX} units expected, got {units}")
