"""What a token says: facts of every kind, wrong digits named, and no part of a key in any of it.

Covers: a table of tokens and what is said of them; times and zones; explaining without a key; the verdict under several
keys; one slip of the hand; any text at all.
"""

import json
from datetime import timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts import bits
from sts.amounts import CurrencyAmount
from sts.decode import digits_from
from sts.errors import Fault, StsError, TokenError
from sts.explain import HINTS, Calendar, Candidate, explained, facts_of, fault_facts, lines_of, rounding_of, verdict_of
from sts.modules.contract import CreditRequest, KeyMissing
from sts.modules.software import SoftwareModule
from sts.tid import tid_at
from sts.tokens import (
    REGISTER_ALL,
    ClearCredit,
    ClearTamper,
    Credit,
    CurrencyCredit,
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
)
from tests.sts.keys import NOW, handle, record
from tests.sts.strategies import TOKENS

TID: Final = tid_at(NOW, 2014)
MODULE: Final = SoftwareModule([record(2), record(2, key_revision=2), record(2, key_type=1), record(4)])
PRESENT: Final = Candidate("present", handle())
PREVIOUS: Final = Candidate("previous", handle(key_revision=2))
TOKEN: Final = MODULE.make(CreditRequest(PRESENT.key, 0, TID, 5, 256))
ALL_TESTS: Final = "56493153725450313471"

SAID: Final[list[tuple[Token, str, str, dict[str, Any]]]] = [
    (
        Credit(Resource.ELECTRICITY, TID, 5, 256),
        "credit",
        "electricity credit of 25.6 kWh",
        {"value": "25.6", "unit": "kWh", "tid": TID, "rnd": 5, "field": 256, "class": 0, "subclass": 0},
    ),
    (Credit(Resource.GAS, TID, 5, 0xFFFF), "credit", "gas credit of 1820162.4 m3", {"unit": "m3", "subclass": 2}),
    (Credit(Resource.TIME, TID, 0, 1), "credit", "time credit of 0.1 minutes", {"value": "0.1"}),
    (
        CurrencyCredit(Resource.WATER_CURRENCY, TID, CurrencyAmount(480, 8)),
        "currency_credit",
        "water credit of -0.00480 in the base currency",
        {"resource": "water", "sign_exponent": 8, "caution": "negative amounts and exponents above 3 rest on one "
         "public source"},
    ),
    (MeterTest.of("00"), "meter_test", "asks the meter for every test and display; for meters of every maker", {}),
    (
        MeterTest.of("0007", MeterTestNumber.POWER_LIMIT, MeterTestNumber.KEY_EXPIRY),
        "meter_test",
        "asks the meter for: power limit, key expiry; for meters of manufacturer 0007",
        {"tests": ["power_limit", "key_expiry"], "tests_without_a_name": 0, "control_hex": "0010040"},
    ),
    (
        MeterTest("00", 1 << 20),
        "meter_test",
        "asks the meter for: tests without a public name; for meters of every maker",
        {"tests_without_a_name": 1},
    ),
    (MeterTest("00", 0), "meter_test", "asks the meter for no test at all; for meters of every maker", {}),
    (SetMaximumPower(TID, 5, 1000), "set_maximum_power", "sets the power limit to 1000 W", {"value": "1000"}),
    (SetPhaseUnbalance(TID, 5, 99), "set_phase_unbalance", "sets the phase unbalance limit to 99 W", {"unit": "W"}),
    (ClearCredit(TID, 5, REGISTER_ALL), "clear_credit", "sets every credit register to zero", {"register": "all"}),
    (ClearCredit(TID, 5, 4), "clear_credit", "sets the credit register electricity currency to zero", {"field": 4}),
    (SetTariffRate(TID, 5, 7), "set_tariff_rate", "sets the tariff rate to 7, whose meaning the utility settles", {}),
    (SetWaterFactor(TID, 5, 7), "set_water_factor", "sets the water meter factor to 7", {"value": "7"}),
    (ClearTamper(TID, 5), "clear_tamper", "ends the tamper condition", {"field": 0}),
    (SetFlag(TID, 5, MeterFlag.DETECT_TAMPER, True), "set_flag", "sets the flag detect tamper", {"flag_value": True}),
    (SetFlag(TID, 5, MeterFlag.TEST, False), "set_flag", "clears the flag test", {"flag_number": 0, "flag": "test"}),
    (
        KeySection1(15, 2, True, False, 2, 0xDEADBEEF),
        "key_change_1",
        "first section of a change to key revision 2, key type 2; the meter then forgets its TIDs",
        {"new_key_revision": 2, "rollover": True, "new_key_expiry_high": 15, "three_token_set": False},
    ),
    (KeySection2(5, 7, 0xDEADBEEF), "key_change_2", "second section of a key change, to tariff index 07",
     {"new_tariff_index": "07", "new_key_expiry_low": 5}),
    (
        KeySection3(5, 0xDEADBEEF),
        "key_change_3",
        "third section of a key change, with the lower half of the supply group",
        {"new_supply_group_low": 5},
    ),
    (
        KeySection4(5, 0xDEADBEEF),
        "key_change_4",
        "fourth section of a key change, with the upper half of the supply group",
        {"new_supply_group_high": 5},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("token", "kind", "says", "some"), SAID)
def test_token_says(token: Token, kind: str, says: str, some: dict[str, Any]) -> None:
    facts = facts_of(token)
    assert (facts["kind"], facts["says"]) == (kind, says)
    assert facts | some == facts


def test_every_kind_of_token_is_in_the_table() -> None:
    assert len({type(token) for token, *_ in SAID}) == 14


@given(TOKENS, st.sampled_from([None, 1993, 2014, 2035]))
def test_facts_are_json_and_hold_no_part_of_a_key(token: Token, base_date: int | None) -> None:
    shown = json.dumps(facts_of(token, base_date)) + "".join(lines_of(facts_of(token, base_date)))
    part = getattr(token, "part", None)
    if part is not None and part > 0xFFFF:
        assert str(part) not in shown and f"{part:x}" not in shown


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_is_shown_in_utc_and_in_the_zone_asked_for() -> None:
    facts = facts_of(Credit(Resource.ELECTRICITY, TID, 5, 1), 2014, Calendar(0, timezone(timedelta(hours=5.5))))
    assert (facts["issued_at"], facts["issued_at_local"]) == ("2026-03-01T12:00Z", "2026-03-01T17:30+05:30")


def test_tid_that_counts_in_local_time_is_shown_in_utc() -> None:
    facts = facts_of(Credit(Resource.ELECTRICITY, TID, 5, 1), 2014, Calendar(120))
    assert facts["issued_at"] == "2026-03-01T10:00Z"
    assert "issued_at_local" not in facts


def test_without_a_base_date_no_time_is_guessed() -> None:
    assert "issued_at" not in facts_of(Credit(Resource.ELECTRICITY, TID, 5, 1))


def test_the_reserved_minute_is_pointed_out() -> None:
    assert facts_of(ClearTamper(1441, 5), 2014)["caution"] == "00:01 is kept for special tokens"


# --- without a key ----------------------------------------------------------------------------------------------------


def test_class_1_is_explained_in_full() -> None:
    facts = explained("5649 3153 7254 5031 3471")
    assert facts["says"] == "asks the meter for every test and display; for meters of every maker"
    assert (facts["enciphered"], facts["needs_key"], facts["crc_fits"]) == (False, False, True)


def test_encrypted_token_is_explained_as_far_as_it_goes() -> None:
    assert explained("51043465443420856213") == {
        "token": "5104 3465 4434 2085 6213",
        "class": 0,
        "class_name": "credit",
        "token66_hex": "2c45ed1618406df95",
        "block_hex": "c45ed1619406df95",
        "enciphered": True,
        "needs_key": True,
        "says": "credit, encrypted: the meter's key is needed to read it",
    }


def test_class_3_is_named_reserved() -> None:
    facts = explained(bits.digits_of(3, 5))
    assert (facts["class_name"], facts["fault"]) == ("reserved", "token_class")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "a token has 20 digits, in groups of four with one space or dash between them or none: count them"),
        ("1", "1 digit found, and a token has 20"),
        ("1" * 21, "21 digits found, and a token has 20"),
        ("9" * 20, "a token does not begin with a number above 73: one of the first digits is wrong"),
        ("\uff11" * 20, "digits of another script: type them as 0 to 9"),
        ("1" * 10 + "+" + "1" * 10, "20 digits, and something else among them: one space or dash between groups of "
         "four, or none"),
    ],
)  # fmt: skip
def test_text_that_is_no_token_gets_a_hint_and_is_not_repeated(text: str, hint: str) -> None:
    facts = explained(text)
    assert (facts["fault"], facts["hint"]) == ("format", hint)
    assert len(text) < 2 or text not in str(facts)


def test_class_1_with_one_wrong_digit_is_named_and_the_place_found() -> None:
    wrong = ALL_TESTS[:15] + "9" + ALL_TESTS[16:]
    facts = explained(wrong)
    assert facts["fault"] == "crc"
    assert "digit 16 were 1" in str(facts["near"])
    assert "kind" not in facts and "control_hex" not in facts


# --- under keys -------------------------------------------------------------------------------------------------------


def test_token_of_ours_is_told_with_its_key_and_content() -> None:
    facts = verdict_of(bits.grouped(TOKEN), [PRESENT, PREVIOUS], MODULE)
    assert facts["ours"] and facts["crc_fits"] and facts["key"] == "present"
    assert (facts["value"], facts["issued_at"], facts["rnd"]) == ("25.6", "2026-03-01T12:00Z", 5)


def test_token_under_the_previous_key_is_recognised() -> None:
    token = MODULE.make(CreditRequest(PREVIOUS.key, 0, TID, 5, 256))
    assert verdict_of(token, [PRESENT, PREVIOUS], MODULE)["key"] == "previous"
    assert verdict_of(token, [PRESENT], MODULE)["ours"] is False


def test_token_of_another_meter_is_not_ours_and_nothing_of_it_is_told() -> None:
    token = MODULE.make(CreditRequest(handle(body="9876543210"), 0, TID, 5, 256))
    facts = verdict_of(token, [PRESENT, PREVIOUS], MODULE)
    assert facts == {
        "token": bits.grouped(token),
        "class": 0,
        "ours": False,
        "crc_fits": False,
        "fault": "crc",
        "sentence": "the checksum does not agree",
        "hint": HINTS[Fault.CRC],
    }


@pytest.mark.parametrize("place", range(20))
def test_one_wrong_digit_is_found(place: int) -> None:
    wrong = TOKEN[:place] + str((int(TOKEN[place]) + 5) % 10) + TOKEN[place + 1 :]
    facts = verdict_of(wrong, [PRESENT], MODULE)
    assert facts["ours"] is False
    if facts["fault"] != "format":  # 79... is no number below 2^66, which the hint says
        assert f"digit {place + 1} were {TOKEN[place]}" in str(facts["near"])


def test_two_digits_that_changed_places_are_found() -> None:
    place = next(place for place in range(8, 19) if TOKEN[place] != TOKEN[place + 1])
    wrong = TOKEN[:place] + TOKEN[place + 1] + TOKEN[place] + TOKEN[place + 2 :]
    facts = verdict_of(wrong, [PRESENT], MODULE)
    assert facts["ours"] is False
    if facts["fault"] != "format":
        assert f"digits {place + 1} and {place + 2} changed places" in str(facts["near"])


def test_module_that_waits_is_not_asked_hundreds_of_times() -> None:
    class Slow(SoftwareModule):
        asked = 0

        @property
        def answers_at_once(self) -> bool:
            return False

        def verify(self, digits: str, key: Any) -> Token:
            self.asked += 1
            return super().verify(digits, key)

    slow = Slow([record(2)])
    assert verdict_of(TOKEN[::-1].replace(TOKEN[19], "0", 1), [PRESENT], slow)["ours"] is False
    assert slow.asked <= 1


def test_credit_under_a_default_key_fits_and_is_not_good() -> None:
    key = handle(key_type=1)
    token = digits_from(Credit(Resource.ELECTRICITY, TID, 5, 1), record(2, key_type=1).key.derive(key))
    facts = verdict_of(token, [Candidate("present", key)], MODULE)
    assert (facts["ours"], facts["crc_fits"], facts["fault"]) == (False, True, "default_key_credit")
    assert "value" not in facts


def test_token_beyond_the_expiry_number_fits_and_is_not_good() -> None:
    token = digits_from(Credit(Resource.ELECTRICITY, TID, 5, 1), record(2).key.derive(handle(key_expiry=1)))
    facts = verdict_of(token, [Candidate("present", handle(key_expiry=1))], MODULE)
    assert (facts["ours"], facts["crc_fits"], facts["fault"]) == (False, True, "key_expired")


def test_class_1_is_everybodys() -> None:
    assert verdict_of(ALL_TESTS, [PRESENT], MODULE)["ours"] is True


def test_without_the_vending_key_nothing_is_said_of_a_token() -> None:
    with pytest.raises(KeyMissing):
        verdict_of(TOKEN, [Candidate("present", handle(key_revision=9))], MODULE)


# --- any text ---------------------------------------------------------------------------------------------------------

TEXTS: Final = st.one_of(
    st.text(max_size=40),
    st.text("0123456789 -", max_size=30),
    st.integers(0, 10**20 - 1).map(lambda number: f"{number:020d}"),
    st.builds(bits.digits_of, st.integers(0, 3), st.integers(0, (1 << 64) - 1)),
)


@given(TEXTS)
def test_any_text_is_explained_or_its_fault_is_named(text: str) -> None:
    facts = explained(text)
    assert ("fault" in facts) != ("says" in facts)
    assert "fault" not in facts or Fault(str(facts["fault"]))
    json.dumps(facts)
    assert lines_of(facts)


@given(TEXTS)
def test_any_text_has_a_verdict(text: str) -> None:
    facts = verdict_of(text, [PRESENT, Candidate("other", handle(11, 4))], MODULE)
    assert facts["ours"] is ("fault" not in facts)
    assert facts["ours"] or not {"value", "kind", "tid", "control_hex"} & set(facts)
    json.dumps(facts)


@given(st.integers(0, 3), st.integers(0, (1 << 64) - 1))
def test_every_fault_of_a_token_has_a_hint(token_class: int, block: int) -> None:
    try:
        MODULE.verify(bits.digits_of(token_class, block), PRESENT.key)
    except TokenError as refusal:
        assert refusal.fault in HINTS


def test_fault_without_a_hint_is_still_named() -> None:
    facts = fault_facts(StsError(Fault.SILENT, "no answer"))
    assert facts == {"fault": "silent", "sentence": "no answer", "hint": "the token cannot be read"}


# --- for people -------------------------------------------------------------------------------------------------------


def test_lines_begin_with_token_and_sentence() -> None:
    lines = lines_of(explained(ALL_TESTS))
    assert lines[:2] == [
        "token: 5649 3153 7254 5031 3471",
        "says: asks the meter for every test and display; for meters of every maker",
    ]
    assert "checksum fits: yes" in lines


def test_rounding_is_told_only_where_there_is_any() -> None:
    assert rounding_of(256) is None
    assert rounding_of(16_385) == "rounded up from 1638.5: the next amount that a token can carry"
