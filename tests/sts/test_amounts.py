"""Amount fields: the seams between the exponents, both directions of rounding, decimals, the currency form."""

from decimal import Decimal
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts import amounts
from sts.amounts import CurrencyAmount
from sts.errors import Fault, NumberError

# fmt: off
# units, field up, field down
SEAMS: Final = [
    (0,          0x0000, 0x0000),
    (16_383,     0x3FFF, 0x3FFF),
    (16_384,     0x4000, 0x4000),
    (16_385,     0x4001, 0x4000),
    (180_214,    0x7FFF, 0x7FFF),
    (180_215,    0x8000, 0x7FFF),  # the gap: 180,215 to 180,223
    (180_223,    0x8000, 0x7FFF),
    (180_224,    0x8000, 0x8000),
    (1_818_524,  0xBFFF, 0xBFFF),
    (1_818_525,  0xC000, 0xBFFF),
    (1_818_623,  0xC000, 0xBFFF),
    (1_818_624,  0xC000, 0xC000),
    (18_200_625, 0xFFFF, 0xFFFE),
    (18_201_624, 0xFFFF, 0xFFFF),
]

DECIMALS: Final = [
    ("0",        0),
    ("0.1",      1),
    ("0.10",     1),
    ("0.01",     1),   # rounded up to the next tenth
    ("1.01",     11),
    ("25.6",     256),
    ("1820162.4", 18_201_624),
    ("0." + "0" * 300 + "1", 1),
]
# fmt: on


@pytest.mark.parametrize(("units", "up", "down"), SEAMS)
def test_seam_between_two_exponents(units: int, up: int, down: int) -> None:
    assert (amounts.field_up(units), amounts.field_down(units)) == (up, down)
    assert amounts.is_encodable(units) == (up == down)


@pytest.mark.parametrize("units", [-1, amounts.UNITS_MAX + 1, 10**30])
def test_amount_outside_the_field_is_refused(units: int) -> None:
    for encode in (amounts.field_up, amounts.field_down, amounts.round_up, amounts.round_down):
        with pytest.raises(NumberError) as refusal:
            encode(units)
        assert refusal.value.fault is Fault.OUT_OF_RANGE
    assert not amounts.is_encodable(units)


@pytest.mark.parametrize("field", [-1, 0x10000])
def test_number_that_is_no_field_is_refused(field: int) -> None:
    with pytest.raises(NumberError):
        amounts.units_of(field)


def test_every_field_is_its_own_encoding_and_fields_grow_with_amounts() -> None:
    values = [amounts.units_of(field) for field in range(0x10000)]
    assert values == sorted(set(values))
    assert all(amounts.field_up(units) == field for field, units in enumerate(values))
    assert values[-1] == amounts.UNITS_MAX


@given(st.integers(0, amounts.UNITS_MAX))
def test_rounding_brackets_the_amount_with_neighbours(units: int) -> None:
    low, high = amounts.round_down(units), amounts.round_up(units)
    assert low <= units <= high
    assert amounts.field_up(units) - amounts.field_down(units) in (0, 1)
    assert amounts.is_encodable(low) and amounts.is_encodable(high)
    assert (low == high) == amounts.is_encodable(units)


@pytest.mark.parametrize(("text", "units"), DECIMALS)
def test_decimal_is_rounded_up_to_whole_units(text: str, units: int) -> None:
    assert amounts.units_up(Decimal(text)) == units


@pytest.mark.parametrize("text", ["-0.1", "NaN", "sNaN", "Infinity", "1e41"])
def test_decimal_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(NumberError) as refusal:
        amounts.units_up(Decimal(text))
    assert refusal.value.fault is Fault.OUT_OF_RANGE


@given(st.decimals(0, 10**12, allow_nan=False, allow_infinity=False), st.sampled_from([1, 10, 100_000]))
def test_decimal_is_never_rounded_down_nor_by_a_whole_unit(amount: Decimal, units_in_one: int) -> None:
    units = amounts.units_up(amount, units_in_one)
    numerator, denominator = amount.as_integer_ratio()
    assert (units - 1) * denominator < numerator * units_in_one <= units * denominator


@given(st.integers(-amounts.CURRENCY_UNITS_MAX, amounts.CURRENCY_UNITS_MAX))
def test_currency_amount_is_rounded_away_from_zero_to_a_neighbour(units: int) -> None:
    coded = amounts.currency_up(units)
    assert coded.is_negative == (units < 0)
    assert abs(coded.units) >= abs(units)
    assert abs(coded.units) - abs(units) < 10**coded.exponent or coded.field & 0x3FFF == 0
    assert amounts.currency_up(coded.units) == coded


@pytest.mark.parametrize("exponent", range(1, 31))
def test_currency_amount_in_the_gap_takes_the_next_exponent(exponent: int) -> None:
    least = CurrencyAmount((exponent + 1 & 3) << 14, exponent + 1 >> 2)
    for units in (least.units, least.units - 1):
        assert amounts.currency_up(units) == least
        assert amounts.currency_up(-units) == CurrencyAmount(least.field, least.sign_exponent | 8)
    greatest = CurrencyAmount((exponent & 3) << 14 | 0x3FFF, exponent >> 2)
    assert amounts.currency_up(greatest.units) == greatest
    assert amounts.currency_up(greatest.units + 1) == least


@given(st.integers(0, amounts.UNITS_MAX))
def test_currency_form_equals_the_plain_field_up_to_exponent_three(units: int) -> None:
    coded = amounts.currency_up(units)
    assert coded == CurrencyAmount(amounts.field_up(units), 0)
    assert coded.is_settled


@pytest.mark.parametrize("units", [amounts.CURRENCY_UNITS_MAX + 1, -amounts.CURRENCY_UNITS_MAX - 1])
def test_currency_amount_beyond_exponent_31_is_refused(units: int) -> None:
    with pytest.raises(NumberError):
        amounts.currency_up(units)


@pytest.mark.parametrize(("field", "nibble"), [(-1, 0), (0x10000, 0), (0, -1), (0, 16)])
def test_currency_amount_of_wrong_width_is_refused(field: int, nibble: int) -> None:
    with pytest.raises(NumberError):
        CurrencyAmount(field, nibble)
