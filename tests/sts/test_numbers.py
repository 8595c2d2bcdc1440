"""Identifiers: what is accepted, what is refused and by which name."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.errors import Fault, NumberError, StsError
from sts.meterkey import MeterKey
from sts.numbers import (
    BaseDate,
    EncryptionAlgorithm,
    KeyExpiry,
    KeyGeneration,
    KeyRevision,
    KeyType,
    MeterNumber,
    SupplyGroup,
    TariffIndex,
    base_date_of,
    encryption_algorithm_of,
    is_digits,
    key_generation_of,
    key_type_of,
    luhn_digit,
)
from tests.sts.strategies import METER_NUMBERS, digit_text, meter_keys

GOOD: Final = dict(
    drn="00000000000",
    iin="600727",
    supply_group="123456",
    key_type=2,
    tariff_index="01",
    key_revision=1,
    key_expiry=255,
    base_date=2014,
    ea=7,
    dkga=2,
)

# fmt: off
BAD_HANDLES: Final[list[tuple[dict[str, Any], Fault]]] = [
    ({"drn": "00000000001"},            Fault.CHECK_DIGIT),
    ({"drn": "000000000000"},           Fault.FORMAT),       # 12 digits are never a meter number
    ({"drn": ""},                       Fault.FORMAT),
    ({"drn": "0000000000\n"},           Fault.FORMAT),
    ({"drn": "00000000000\n"},          Fault.FORMAT),       # a regular expression's $ would let this pass
    ({"drn": "٠٠٠٠٠٠٠٠٠٠٠"},            Fault.FORMAT),       # digits, but not ASCII ones
    ({"iin": "0000"},                   Fault.OUT_OF_RANGE),
    ({"iin": "600728"},                 Fault.OUT_OF_RANGE),
    ({"drn": "0100000000008"},          Fault.OUT_OF_RANGE), # 13 digits under the issuer number of 11
    ({"supply_group": "12345"},         Fault.OUT_OF_RANGE),
    ({"supply_group": "12345A"},        Fault.OUT_OF_RANGE),
    ({"supply_group": "123456\n"},      Fault.OUT_OF_RANGE),
    ({"tariff_index": "1"},             Fault.OUT_OF_RANGE),
    ({"tariff_index": "100"},           Fault.OUT_OF_RANGE),
    ({"key_revision": 0},               Fault.OUT_OF_RANGE),
    ({"key_revision": 10},              Fault.OUT_OF_RANGE),
    ({"key_type": 4},                   Fault.OUT_OF_RANGE),
    ({"key_type": -1},                  Fault.OUT_OF_RANGE),
    ({"key_expiry": 256},               Fault.OUT_OF_RANGE),
    ({"key_expiry": -1},                Fault.OUT_OF_RANGE),
    ({"base_date": 2015},               Fault.OUT_OF_RANGE),
    ({"ea": 9},                         Fault.UNSUPPORTED),  # DEA, withdrawn
    ({"dkga": 1},                       Fault.UNSUPPORTED),
    ({"dkga": 3},                       Fault.UNSUPPORTED),
    ({"ea": 11},                        Fault.UNSUPPORTED),  # with DKGA02
]

REFUSED: Final[list[tuple[Callable[[], object], Fault]]] = [
    (lambda: SupplyGroup("1234567"),              Fault.OUT_OF_RANGE),
    (lambda: TariffIndex("1A"),                   Fault.OUT_OF_RANGE),
    (lambda: KeyRevision(0),                      Fault.OUT_OF_RANGE),
    (lambda: KeyExpiry(256),                      Fault.OUT_OF_RANGE),
    (lambda: key_type_of(4),                      Fault.OUT_OF_RANGE),
    (lambda: base_date_of(93),                    Fault.OUT_OF_RANGE),
    (lambda: encryption_algorithm_of(8),          Fault.UNSUPPORTED),
    (lambda: key_generation_of(5),                Fault.UNSUPPORTED),
    (lambda: luhn_digit(""),                      Fault.FORMAT),
    (lambda: MeterNumber.from_body("123456789"),  Fault.FORMAT),
    (lambda: MeterNumber.from_pan("123456000000000001"), Fault.CHECK_DIGIT),
    (lambda: MeterNumber.from_pan("123456" + "0" * 11 + luhn_digit("123456" + "0" * 11)), Fault.OUT_OF_RANGE),
    (lambda: MeterNumber.typed("0000-0000-0001"), Fault.FORMAT),
]
# fmt: on


@pytest.mark.parametrize(("change", "fault"), BAD_HANDLES)
def test_handle_refuses_each_wrong_part_by_name(change: dict[str, Any], fault: Fault) -> None:
    with pytest.raises(StsError) as refusal:
        MeterKey(**{**GOOD, **change})
    assert refusal.value.fault is fault


@pytest.mark.parametrize(("make", "fault"), REFUSED)
def test_wrong_number_is_refused_by_name(make: Callable[[], object], fault: Fault) -> None:
    with pytest.raises(NumberError) as refusal:
        make()
    assert refusal.value.fault is fault
    assert str(refusal.value).startswith(f"{fault}: ")


def test_what_a_person_typed_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(NumberError) as refusal:
        MeterNumber("51043465443420856213")
    assert "5104" not in str(refusal.value) + repr(refusal.value)


def test_good_values_are_kept_and_converted() -> None:
    handle = MeterKey(**GOOD)  # type: ignore[arg-type]
    assert handle.pan == "600727000000000009"
    assert handle.decoder_key_bits == 64
    assert (str(SupplyGroup("000001")), str(TariffIndex("00")), KeyRevision(9).number) == ("000001", "00", 9)
    assert key_type_of(1) is KeyType.DEFAULT
    assert base_date_of(2035) is BaseDate.BASE_2035
    assert encryption_algorithm_of(11) is EncryptionAlgorithm.MISTY1
    assert key_generation_of(4) is KeyGeneration.DKGA04
    assert str(MeterNumber.typed(" 0000-0000 000")) == "00000000000"


def test_key_expiry_compares_the_top_eight_bits_of_the_tid() -> None:
    assert not KeyExpiry(85).is_past(85 << 16 | 0xFFFF)
    assert KeyExpiry(85).is_past(86 << 16)
    assert not KeyExpiry(255).is_past(0xFFFFFF)


@given(METER_NUMBERS)
def test_meter_number_survives_its_pan(drn: str) -> None:
    number = MeterNumber(drn)
    assert MeterNumber.from_pan(number.pan) == number
    assert len(number.pan) == 18
    assert len(number.manufacturer) == len(drn) - 9


@given(METER_NUMBERS, st.data())
def test_any_one_digit_changed_in_a_meter_number_is_noticed(drn: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(drn) - 1))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != drn[place]]))
    with pytest.raises(NumberError):
        MeterNumber(drn[:place] + digit + drn[place + 1 :])


@given(st.text(max_size=24))
def test_any_text_is_a_meter_number_or_refused(text: str) -> None:
    for make in (MeterNumber, MeterNumber.typed, MeterNumber.from_pan, MeterNumber.from_body, SupplyGroup, TariffIndex):
        try:
            make(text)
        except StsError:
            pass
    assert is_digits(text, len(text)) == (text != "" and all(character in "0123456789" for character in text))


@given(digit_text(9))
def test_luhn_digit_makes_the_sum_a_multiple_of_ten(body: str) -> None:
    total = 0
    for place, digit in enumerate(reversed(body + luhn_digit(body))):
        number = int(digit) * (2 if place % 2 else 1)
        total += number // 10 + number % 10
    assert total % 10 == 0


@given(meter_keys())
def test_equal_handles_are_one_key_of_a_dictionary(handle: MeterKey) -> None:
    again = MeterKey(*(getattr(handle, name) for name in MeterKey.__slots__))
    assert again == handle
    assert {handle: 1}[again] == 1
