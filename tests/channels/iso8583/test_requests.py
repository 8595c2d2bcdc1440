"""What messages mean, what belongs together, and what is answered.

Covers: message types and their answers; requests of the vectors; missing and unreadable fields; keys, fingerprints and
originals; answers against the vectors' own, byte for byte; declines; what we begin ourselves.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.iso8583 import mti, shipped
from channels.iso8583.answers import Said, TokenSaid, answer_to, begun
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import DecodeError, EncodeError, Fault, IsoError
from channels.iso8583.matching import (
    LAYOUT_90,
    Original,
    answer_key_of,
    fingerprint_of,
    key_of,
    original_of,
    original_text,
    value_at,
)
from channels.iso8583.message import Message, Parts
from channels.iso8583.profile import Network
from channels.iso8583.requests import (
    Advice,
    Inquiry,
    NetworkManagement,
    Purchase,
    Reconciliation,
    Reversal,
    UnknownFunction,
    kept,
    request_of,
)
from ledger.reasons import Reason
from tests.channels.iso8583.records import message, row_of

ATM87 = shipped.shipped("atm87")
PLN = shipped.shipped("pln2003-like")
BCD = shipped.shipped("atm87-bcd")

# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered", "repeated"),
    [
        ("0100", "0110", "0101"),
        ("0200", "0210", "0201"),
        ("0201", "0210", "0201"),
        ("0202", "0212", "0203"),
        ("0220", "0230", "0221"),
        ("0421", "0430", "0421"),
        ("0401", "0410", "0401"),
        ("0500", "0510", "0501"),
        ("0800", "0810", "0801"),
        ("1804", "1814", "1805"),
        ("1205", "1214", "1205"),
        ("1420", "1430", "1421"),
        ("2200", "2210", "2201"),
        ("2240", "2250", "2241"),
        ("2260", "2270", "2261"),
    ],
)
def test_answer_and_repeat_of_a_type(asked: str, answered: str, repeated: str) -> None:
    assert (mti.answer_of(asked), mti.repeat_of(asked)) == (answered, repeated)
    assert mti.is_answer(answered) and not mti.is_answer(asked) and mti.is_repeat(repeated)


@pytest.mark.parametrize("wrong", ["0210", "0230", "0240", "1260", "0000", "0900", "02", "02x0", ""])
def test_type_that_has_no_answer(wrong: str) -> None:
    with pytest.raises(IsoError) as refused:
        mti.answer_of(wrong)
    assert refused.value.fault is Fault.MTI


# --- requests ---------------------------------------------------------------------------------------------------------


def test_purchase_and_its_repeat_have_one_reference_and_one_fingerprint() -> None:
    first = request_of(ATM87, message("atm87-purchase"))
    again = Message("0201", dict(message("atm87-purchase").items())).having({7: "1122093500"})
    repeated = request_of(ATM87, again)
    assert isinstance(first, Purchase) and isinstance(repeated, Purchase)
    assert (first.meter, first.amount_minor, first.currency, first.product) == ("01000000016", 5000, "840", "ELEC")
    assert (first.stan, first.rrn, first.inquiry) == ("000124", "232611000124", "Q0000000123")
    assert (first.is_repeat, repeated.is_repeat) == (False, True)
    assert (first.reference, first.fingerprint) == (repeated.reference, repeated.fingerprint)
    assert first.reference == "627001/ATM00042/BANKBRANCH00042/000124/113015/1122/232611000124"


@pytest.mark.parametrize("change", [{4: "000000006000"}, {49: "404"}, {3: "501000"}])
def test_other_content_under_the_same_key_has_another_fingerprint(change: dict[int, Any]) -> None:
    one = request_of(ATM87, message("atm87-purchase"))
    other = request_of(ATM87, message("atm87-purchase").having(change))
    assert isinstance(one, Purchase) and isinstance(other, Purchase)
    assert one.reference == other.reference and one.fingerprint != other.fingerprint


@pytest.mark.parametrize("number", [11, 12, 13, 32, 37, 41, 42])
def test_every_field_of_the_key_makes_another_purchase(number: int) -> None:
    one = message("atm87-purchase")
    other = one.having({number: str(one[number])[:-1] + "9"})
    assert key_of(one, ATM87.key) != key_of(other, ATM87.key)


THREE_TEXTS = st.lists(st.text("ab/%2F-", max_size=4), min_size=3, max_size=3)


@given(THREE_TEXTS, THREE_TEXTS)
def test_keys_and_fingerprints_of_different_values_differ(one: list[str], other: list[str]) -> None:
    first, second = ({number: value for number, value in enumerate(texts, 41)} for texts in (one, other))
    paths = ("41", "42", "43")
    same = one == other
    assert (key_of(Message("0200", first), paths) == key_of(Message("0200", second), paths)) is same
    assert (fingerprint_of(Message("0200", first), paths) == fingerprint_of(Message("0200", second), paths)) is same


def test_reversal_has_the_reference_of_its_original_though_not_its_trace_number() -> None:
    purchase = request_of(ATM87, message("atm87-purchase"))
    reversal = request_of(ATM87, message("atm87-reversal-advice"))
    assert isinstance(purchase, Purchase) and isinstance(reversal, Reversal)
    assert reversal.stan == "000125" and reversal.reference == purchase.reference
    assert reversal.original == Original("0200", "000124", "1122093015", acquirer="627001")
    assert (reversal.is_advice, reversal.is_timeout, reversal.amount_minor) == (True, True, 5000)
    again = request_of(BCD, message("atm87-bcd-reversal-repeat", "atm87-bcd"))
    assert isinstance(again, Reversal) and again.is_repeat and again.reference == purchase.reference


def test_partial_reversal_says_what_was_paid_out() -> None:
    for text, expected in (("000000002000" + "0" * 30, 2000), ("0" * 42, 0)):
        read = request_of(ATM87, message("atm87-reversal-advice").having({95: text}))
        assert isinstance(read, Reversal) and read.replacement_minor == expected


def test_pln_amount_holds_currency_and_decimals() -> None:
    read = request_of(PLN, message("pln2003-like-advice", "pln2003-like"))
    assert isinstance(read, Advice)
    assert (read.meter, read.amount_minor, read.amount_digits, read.currency) == ("01000000024", 2_000_000, 2, "360")


def test_network_management_by_its_code() -> None:
    for name, network in (("sign-on", Network.SIGN_ON), ("echo", Network.ECHO), ("key-change", Network.KEY_CHANGE)):
        read = request_of(ATM87, message(f"atm87-{name}"))
        assert isinstance(read, NetworkManagement) and read.network is network
        assert (read.wrapped is not None) is (network is Network.KEY_CHANGE)
        assert "1FA15D06" not in repr(read)
    cut_over = request_of(BCD, message("atm87-bcd-cut-over", "atm87-bcd"))
    assert isinstance(cut_over, NetworkManagement) and cut_over.business_date
    with pytest.raises(UnknownFunction, match="^field 70: a code that the profile knows"):
        request_of(ATM87, message("atm87-echo").having({70: "999"}))


def test_reconciliation_has_totals_and_a_signed_net() -> None:
    read = request_of(BCD, message("atm87-bcd-reconciliation", "atm87-bcd"))
    assert isinstance(read, Reconciliation)
    assert (read.purchases, read.purchases_minor, read.reversals, read.reversals_minor) == (12, 61000, 1, 5000)
    assert (read.net_minor, read.business_date) == (-56000, "1122")


def test_inquiry_by_its_processing_code() -> None:
    assert isinstance(request_of(ATM87, message("atm87-inquiry")), Inquiry)
    for change in ({3: "990000"}, {3: "500000"}):
        with pytest.raises(UnknownFunction):
            request_of(ATM87, message("atm87-inquiry").having(change))


def test_1993_purchase_reversal_and_network_management() -> None:
    atm93 = shipped.shipped("atm93")
    fields: dict[int, Any] = {
        3: "500000", 4: "000000005000", 7: "1122093015", 11: "000124", 12: "261122113015", 32: "627001",
        37: "232611000124", 41: "ATM00042", 42: "BANKBRANCH00042", 48: Parts([("01", "01000000016")]), 49: "840",
    }  # fmt: skip
    purchase = Message("1200", fields)
    assert atm93.packager.decode(atm93.packager.encode(purchase)) == purchase
    first = request_of(atm93, purchase)
    assert isinstance(first, Purchase) and first.amount_minor == 5000
    original = {11: "000125", 12: "261122113020", 25: "4021", 56: "1200000124261122113015" + "06627001"}
    reversal = request_of(atm93, Message("1420", fields | original))
    assert isinstance(reversal, Reversal) and reversal.is_timeout and reversal.reference == first.reference
    echo = Message("1804", {7: "1122093015", 11: "000126", 24: "831"})
    asked = request_of(atm93, echo)
    assert isinstance(asked, NetworkManagement) and asked.network is Network.ECHO
    answered = answer_to(atm93, echo, Outcome.NETWORK_ACCEPTED)
    assert (answered.mti, answered.get("39"), answered.get("24")) == ("1814", "800", "831")
    assert answer_to(atm93, Message("1420", fields | original), Outcome.REVERSAL_ACCEPTED).get("39") == "400"


@pytest.mark.parametrize("number", [3, 4, 7, 11, 12, 13, 32, 37, 41, 48, 49])
def test_missing_field_is_named(number: int) -> None:
    if number == 3:
        with pytest.raises(UnknownFunction):
            request_of(ATM87, message("atm87-purchase").without([3]))
        return
    with pytest.raises(IsoError, match=rf"^field {number}(\.01)?: expected, got none$") as refused:
        request_of(ATM87, message("atm87-purchase").without([number]))
    assert refused.value.fault is Fault.MISSING


def test_what_is_kept_has_no_card_data() -> None:
    whole = message("atm87-purchase").having({number: "1" for number in (14, 35, 36, 45, 52, 55)})
    assert kept(ATM87, whole).numbers == message("atm87-purchase").without([2]).numbers


# --- originals and answers to ours ------------------------------------------------------------------------------------


def test_field_90_is_type_trace_time_and_two_institutions() -> None:
    original = Original("0200", "000124", "1122093015", acquirer="627001")
    text = "0200" + "000124" + "1122093015" + "00000627001" + "00000000000"
    assert original_text(original) == text == message("atm87-reversal-advice").get("90")
    assert original_of(text) == original
    assert original_of("0" * 42) == Original()
    for wrong in ("0" * 41, "0" * 43, "x" * 42, ""):
        with pytest.raises(DecodeError, match="^field 90: 42 digits expected"):
            original_of(wrong)
    with pytest.raises(IsoError):
        original_text(Original("02000", "1", "2"), LAYOUT_90)


def test_answer_is_matched_by_class_and_trace_with_the_terminal_only_where_there_is_one() -> None:
    purchase, answer = message("atm87-purchase"), message("atm87-purchase-answer")
    assert answer_key_of(purchase, ATM87.answers[""]) == answer_key_of(answer, ATM87.answers[""])
    echo, echoed = message("atm87-echo"), message("atm87-echo-answer")
    assert answer_key_of(echo, ATM87.answers["8"]) == answer_key_of(echoed, ATM87.answers["8"])
    assert answer_key_of(echo, ATM87.answers["8"]) != answer_key_of(purchase, ATM87.answers["8"])


def test_slice_of_a_field() -> None:
    advice = message("pln2003-like-advice", "pln2003-like")
    assert [value_at(advice, path) for path in ("4[0:3]", "4[3:4]", "4[4:]", "4[:3]", "99[1:2]")] == [
        "360", "2", "000002000000", "360", None,
    ]  # fmt: skip


# --- answers ----------------------------------------------------------------------------------------------------------

SALE = Said(
    [TokenSaid("12345678901234567890", 4150)],
    {
        "energy": 4300,
        "tax": 700,
        "receipt_text": "R000000000099",
        "receipt": "A00099",
        "text": "METER 01000000016|41.50 kWh|1234 5678 9012 3456 7890",
    },
)


def test_answer_to_a_purchase_is_the_one_of_the_vectors() -> None:
    answer = answer_to(ATM87, message("atm87-purchase"), Outcome.APPROVED, SALE)
    assert ATM87.packager.encode(answer).hex().upper() == row_of("atm87-purchase-answer")["hex"]
    repeat = Message("0201", dict(message("atm87-purchase").items()))
    assert answer_to(ATM87, repeat, Outcome.APPROVED, SALE) == answer


def test_answer_with_fixed_positions_is_the_one_of_the_vectors() -> None:
    said = Said(
        [TokenSaid("12345678901234567890", 1340)],
        {"energy": 1456364, "tax": 43636, "receipt_text": "00012345", "text": "INFO TEXT", "business_date": "20260519"},
    )
    answer = answer_to(PLN, message("pln2003-like-advice", "pln2003-like"), Outcome.APPROVED, said)
    assert PLN.packager.encode(answer).hex().upper() == row_of("pln2003-like-advice-answer")["hex"]


@pytest.mark.parametrize(
    ("asked", "answer", "why", "said"),
    [
        ("atm87-echo", "atm87-echo-answer", Outcome.NETWORK_ACCEPTED, {}),
        ("atm87-sign-on", "atm87-sign-on-answer", Outcome.NETWORK_ACCEPTED, {}),
        ("atm87-reversal-advice", "atm87-reversal-advice-answer", Outcome.REVERSAL_ACCEPTED, {}),
    ],
)
def test_answer_has_what_the_vector_has(asked: str, answer: str, why: Outcome, said: dict[str, str]) -> None:
    ours, theirs = answer_to(ATM87, message(asked), why, Said(places=said)), message(answer)
    assert ours.mti == theirs.mti
    # A bank's own list of what comes back is shorter here; nothing it matches on may differ.
    assert {number: theirs[number] for number in theirs.numbers} == {
        number: ours[number] for number in theirs.numbers if number in ours
    }


def test_decline_carries_back_every_field_that_switches_match_on() -> None:
    declined = answer_to(ATM87, message("atm87-purchase"), Reason.METER_UNKNOWN)
    assert declined.get("39") == "14" and 62 not in declined
    for number in (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49):
        assert declined[number] == message("atm87-purchase")[number]
    bare = answer_to(ATM87, message("atm87-echo").without([32]), Outcome.NETWORK_ACCEPTED)
    assert bare.numbers == (7, 11, 39, 70)


def test_key_change_tokens_come_before_the_credit() -> None:
    tokens = [TokenSaid("1" * 20, 0, "01"), TokenSaid("2" * 20, 0, "02"), TokenSaid("3" * 20, 4150)]
    answer = answer_to(ATM87, message("atm87-purchase"), Outcome.APPROVED, Said(tokens, {"debt": 100}))
    assert answer.all("62.20") == ["1" * 20, "2" * 20, "3" * 20]
    parts = answer[62]
    assert isinstance(parts, Parts) and [tag for tag, _ in parts] == ["20", "21", "22"] * 3 + ["26"]
    assert answer.all("62.22") == ["01", "02", "00"] and answer.get("62.26") == "000000000100"


def test_more_tokens_than_the_field_holds_are_refused_when_written() -> None:
    said = Said([TokenSaid("1" * 20, 1)] * 30)
    with pytest.raises(EncodeError, match="^field 62: at most 999 characters expected"):
        ATM87.packager.encode(answer_to(ATM87, message("atm87-purchase"), Outcome.APPROVED, said))


def test_answer_to_an_inquiry_keeps_what_came_and_adds() -> None:
    said = Said(places={"customer_name": "A*** B***", "arrears": 1500, "inquiry_answer": "Q1"})
    answer = answer_to(ATM87, message("atm87-inquiry"), Outcome.APPROVED, said)
    assert answer.get("48.01") == "01000000016" and answer.get("48.10") == "A*** B***"
    assert answer.get("48.14") == "000000001500" and answer.get("48.17") == "Q1"
    assert ATM87.packager.decode(ATM87.packager.encode(answer)) == answer


def test_said_shows_no_token() -> None:
    assert "1234567890" not in repr(SALE) + repr(SALE.tokens)


def test_what_we_begin_is_what_the_vectors_have() -> None:
    values = {7: "1122093000", 11: "000002", 32: "627001"}
    assert ATM87.packager.encode(begun(ATM87, Network.ECHO, values)).hex().upper() == row_of("atm87-echo")["hex"]
