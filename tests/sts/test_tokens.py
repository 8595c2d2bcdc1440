"""Tokens, blocks and digits: any token survives its way to digits and back, any digits are a token or refused."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts import bits, tokens
from sts.amounts import CurrencyAmount
from sts.ciphers import DecoderKey
from sts.crc import crc_of, crc_of_50_bits, currency_crc_of_50_bits
from sts.decode import digits_from, meter_test_digits, token_from
from sts.errors import Fault, StsError, TokenError
from sts.tokens import (
    ClearCredit,
    Credit,
    CurrencyCredit,
    KeySection1,
    KeySection2,
    MeterFlag,
    MeterTest,
    MeterTestNumber,
    Resource,
    SetFlag,
    Token,
    block_of,
    management_of,
    register_block,
    token_of,
)
from tests.sts.strategies import BLOCKS, DECODER_KEYS, TOKENS


@given(TOKENS, DECODER_KEYS)
def test_token_survives_its_way_to_digits_and_back(token: Token, key: DecoderKey) -> None:
    digits = digits_from(token, key)
    assert len(digits) == 20
    assert token_from(digits, key) == token
    assert token_from(bits.grouped(digits), key) == token
    assert token_from(bits.grouped(digits, "-"), key) == token


@given(st.integers(0, bits.TOKEN_MAX), DECODER_KEYS | st.none())
def test_any_number_of_66_bits_is_a_token_or_refused(number: int, key: DecoderKey | None) -> None:
    try:
        token = token_from(f"{number:020d}", key)
    except TokenError:
        return
    assert digits_from(token, key) == f"{number:020d}"


@given(st.integers(0, 3), st.integers(0, (1 << 48) - 1), st.booleans())
def test_any_block_with_a_good_checksum_is_a_token_that_builds_it_or_refused(
    token_class: int, upper: int, currency: bool
) -> None:
    checksum = (currency_crc_of_50_bits if currency else crc_of_50_bits)(token_class << 48 | upper)
    block = upper << 16 | checksum
    try:
        token = token_of(token_class, block)
    except TokenError:
        return
    assert block_of(token) == (token_class, block)


@given(st.text(max_size=30) | st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(TokenError):
        token_from(text, None)


@settings(max_examples=60)
@given(TOKENS, DECODER_KEYS, st.data())
def test_a_token_with_one_digit_changed_is_hardly_ever_the_same_token(
    token: Token, key: DecoderKey, data: st.DataObject
) -> None:
    digits = digits_from(token, key)
    place = data.draw(st.integers(0, 19))
    changed = digits[:place] + data.draw(st.sampled_from("0123456789")) + digits[place + 1 :]
    if changed == digits:
        return
    try:
        assert token_from(changed, key) != token
    except TokenError:
        pass


@given(st.integers(0, 3), BLOCKS)
def test_class_bits_come_back_from_their_places(token_class: int, block: int) -> None:
    assert bits.split(bits.digits_of(token_class, block)) == (token_class, block)


@given(st.integers(0, (1 << 50) - 1))
def test_checksum_by_places_equals_checksum_byte_by_byte(number: int) -> None:
    message = number.to_bytes(7, "big")
    assert crc_of_50_bits(number) == crc_of(message)
    assert currency_crc_of_50_bits(number) == crc_of(message + b"\x01")


# fmt: off
BAD_DIGITS: Final = [
    ("",                            "nothing"),
    ("1234",                        "too short"),
    ("1" * 21,                      "too long"),
    ("7378697629483820646A",        "a letter"),
    ("73786976294838206464",        "2^66"),
    ("99999999999999999999",        "beyond 66 bits"),
    ("+7378697629483820646",        "a sign"),
    ("7378_6976_2948_3820_6463",    "underscores, which int() would take"),
    ("7378697629483820646\n",       "a line end"),
    (" 73786976294838206463",       "a space in front"),
    ("73786 9762 9483 8206 463",    "groups of other lengths"),
    ("7378  6976  2948  3820  6463", "two spaces"),
    ("²²²²²²²²²²²²²²²²²²²²",        "superscripts, which isdigit() takes"),
]
# fmt: on


@pytest.mark.parametrize("digits", [digits for digits, _ in BAD_DIGITS], ids=[why for _, why in BAD_DIGITS])
def test_digits_of_wrong_shape_are_refused_as_format(digits: str) -> None:
    with pytest.raises(TokenError) as refusal:
        token_from(digits, None)
    assert refusal.value.fault is Fault.FORMAT
    assert digits == "" or digits not in str(refusal.value)


# fmt: off
REFUSED: Final[list[tuple[str, Callable[[], Any], Fault]]] = [
    ("class 3",                         lambda: token_of(3, 0),                                 Fault.TOKEN_CLASS),
    ("class 4",                         lambda: token_of(4, 0),                                 Fault.TOKEN_CLASS),
    ("wrong checksum",                  lambda: token_of(0, register_block(0, 0, 1, 2, 3) ^ 1), Fault.CRC),
    ("currency with the plain checksum", lambda: token_of(0, 4 << 60 | crc_of_50_bits(4 << 44)), Fault.CRC),
    ("clear credit, register 8",        lambda: token_of(2, register_block(2, 1, 0, 5, 8)),     Fault.OUT_OF_RANGE),
    ("clear tamper with a value",       lambda: token_of(2, register_block(2, 5, 0, 5, 1)),     Fault.OUT_OF_RANGE),
    ("extended set, index 1",           lambda: token_of(2, register_block(2, 10, 0, 5, 1 << 10)), Fault.UNSETTLED),
    ("extended set, flag 12",        lambda: token_of(2, register_block(2, 10, 0, 5, 63 << 10 | 24)), Fault.UNSETTLED),
    ("proprietary 2/11",                lambda: token_of(2, register_block(2, 11, 0, 5, 0)),    Fault.TOKEN_CLASS),
    ("no engineering token 2/3",        lambda: management_of(3, 5, 0, 0),                      Fault.TOKEN_CLASS),
    ("extended set of 17 bits",         lambda: management_of(10, 5, 0, 1 << 16),               Fault.OUT_OF_RANGE),
    ("manufacturer 10",                 lambda: MeterTest("10", 0),                             Fault.UNSETTLED),
    ("manufacturer of 3 digits",        lambda: MeterTest("001", 0),                            Fault.FORMAT),
    ("control of 37 bits",              lambda: MeterTest("00", 1 << 36),                       Fault.OUT_OF_RANGE),
    ("control of 29 bits",              lambda: MeterTest("0000", 1 << 28),                     Fault.OUT_OF_RANGE),
    ("credit in units as currency",     lambda: Credit(Resource.GAS_CURRENCY, 5, 0, 0),         Fault.OUT_OF_RANGE),
    ("currency as credit in units", lambda: CurrencyCredit(Resource.GAS, 5, CurrencyAmount(0, 0)), Fault.OUT_OF_RANGE),
    ("TID of 25 bits",                  lambda: Credit(Resource.GAS, 1 << 24, 0, 0),            Fault.OUT_OF_RANGE),
    ("RND of 5 bits",                   lambda: Credit(Resource.GAS, 5, 16, 0),                 Fault.OUT_OF_RANGE),
    ("field of 17 bits",                lambda: Credit(Resource.GAS, 5, 0, 1 << 16),            Fault.OUT_OF_RANGE),
    ("key revision 0",                  lambda: KeySection1(0, 0, False, False, 2, 0),          Fault.OUT_OF_RANGE),
    ("tariff index 100",                lambda: KeySection2(0, 100, 0),                         Fault.OUT_OF_RANGE),
    ("register 9",                      lambda: ClearCredit(5, 0, 9),                           Fault.OUT_OF_RANGE),
    ("no key for class 0",              lambda: token_from("0" * 20, None),                     Fault.KEY_MISSING),
    ("no key to encipher with",         lambda: digits_from(Credit(Resource.GAS, 5, 0, 0), None), Fault.KEY_MISSING),
]
# fmt: on


@pytest.mark.parametrize(("make", "fault"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_token_that_must_not_be_is_refused_by_name(make: Callable[[], Any], fault: Fault) -> None:
    with pytest.raises(StsError) as refusal:
        make()
    assert refusal.value.fault is fault


@pytest.mark.parametrize("subclass", range(16))
def test_every_subclass_of_every_class_has_one_answer(subclass: int) -> None:
    known = {0: set(range(8)), 1: {0, 1}, 2: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}
    for token_class, subclasses in known.items():
        # A key revision of 1, an index of 63: content that is good wherever the subclass is.
        content = {3: 0x010 << 32, 10: 63 << 10}.get(subclass if token_class == 2 else -1, 0)
        upper = subclass << 44 | content
        currency = token_class == 0 and 4 <= subclass <= 7
        checksum = (currency_crc_of_50_bits if currency else crc_of_50_bits)(token_class << 48 | upper)
        if subclass in subclasses:
            assert block_of(token_of(token_class, upper << 16 | checksum)) == (token_class, upper << 16 | checksum)
        else:
            with pytest.raises(TokenError) as refusal:
                token_of(token_class, upper << 16 | checksum)
            assert refusal.value.fault is Fault.TOKEN_CLASS


def test_the_token_of_all_tests_is_the_published_one() -> None:
    assert bits.grouped(meter_test_digits("00", (1 << 36) - 1)) == "5649 3153 7254 5031 3471"
    assert digits_from(MeterTest.of("0000"), None) == "02305843005052951967"


def test_a_named_test_is_one_control_bit() -> None:
    assert MeterTest.of("00", MeterTestNumber.LOAD_SWITCH).control == 1
    assert MeterTest.of("00", MeterTestNumber.KEY_REVISION, MeterTestNumber.METER_NUMBER).control == 1 << 3 | 1 << 17


def test_flag_field_is_the_one_a_module_logged() -> None:
    # 64535 = index 63, flag 11, value 1: seen in a public log of a module's answer.
    assert SetFlag(5, 0, MeterFlag.TARIFF_INDEX_FALLBACK_POWER_LIMIT, True).field == 64_535


def test_key_parts_are_not_shown() -> None:
    for section in (
        KeySection1(1, 2, False, False, 2, 0xDEADBEEF),
        KeySection2(1, 2, 0xDEADBEEF),
        tokens.KeySection3(1, 0xDEADBEEF),
        tokens.KeySection4(1, 0xDEADBEEF),
    ):
        assert str(0xDEADBEEF) not in repr(section)
        assert "hidden" in str(section)
