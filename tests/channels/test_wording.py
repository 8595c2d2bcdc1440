"""The shipped texts: complete, short enough for one message, in characters that phones have, tokens whole and first.

Arabic is written in UCS-2, 70 characters a message; the few texts that need a second message are listed.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from channels.commands import Buy, SetLanguage, Vocabulary, parse
from channels.contract import Message
from channels.smpp.text import GSM_ALONE_SEPTETS, UCS2_CODING, decode, encode_gsm, parts_needed, split
from channels.wording import keep_whole, refused, render
from config.languages import Gap, load
from ledger.reasons import Reason, Refusal

GAPS: list[Gap] = []
CATALOGUE = load(on_gap=GAPS.append)
VOCABULARY = Vocabulary.of(CATALOGUE.keywords(), CATALOGUE.language_words())
LANGUAGES = list(CATALOGUE.languages)
LATIN = [code for code in LANGUAGES if code != "ar"]

TOKEN = {"digits": "12345678901234567890", "kind": "credit", "units_tenths": 443}
FREE = {"digits": "09876543210987654321", "kind": "free", "units_tenths": 500}
CHANGE = [{"digits": f"{n}" * 20, "kind": "key_change"} for n in (1, 2)]
MONEY: dict[str, Any] = {"currency": "KES", "minor_digits": 2}
TYPICAL: dict[str, Any] = {
    **MONEY,
    "drn": "04012345676",
    "amount_minor": 80_000,
    "units_tenths": 443,
    "tokens": [TOKEN],
    "energy_minor": 68_966,
    "vat_minor": 11_034,
    "charges_minor": 0,
    "debt_minor": 0,
    "fixed_minor": 0,
    "fee_minor": 0,
    "carry_minor": 0,
    "receipt": "7QK2M9D4",
    "balance_minor": 120_000,
}
EVERYTHING = {
    **TYPICAL,
    "amount_minor": 250_000,
    "tokens": [*CHANGE, TOKEN, FREE],
    "energy_minor": 150_000,
    "vat_minor": 24_000,
    "charges_minor": 6_000,
    "debt_minor": 50_000,
    "fixed_minor": 15_000,
    "fee_minor": 3_000,
    "carry_minor": 2_000,
}
DEBTS = [
    {"kind": kind, "outstanding_minor": 420_000}
    for kind in ("OLD_BILL", "CONNECTION_FEE", "PRELOADED_UNITS", "TAMPER_FINE", "ANOTHER")
]
MESSAGES: dict[str, dict[str, Any]] = {
    "topped_up": {"amount_minor": 123_456_789, "balance_minor": 123_456_789, **MONEY},
    "pin_set": {},
    "sold": EVERYTHING,
    "sold_no_token": {name: value for name, value in EVERYTHING.items() if name not in ("tokens", "units_tenths")},
    "last_token": {**TYPICAL, "bought_at": "2026-06-05 11:15"},
    "corrected": {**TYPICAL, "original": "1AG7027SACNMA"},
    "account_paid": {
        **TYPICAL,
        "account": "A100001",
        "debt_minor": 50_000,
        "fixed_minor": 15_000,
        "rest_minor": 15_000,
    },
    "price": {
        **{name: value for name, value in EVERYTHING.items() if name not in ("tokens", "receipt")},
        "free_units_tenths": 500,
        "owner": "A.W.",
        "area": "Kibera Line Saba 4",
        "by": "wallet",
    },
    "counter_price": {
        **{name: value for name, value in EVERYTHING.items() if name not in ("tokens", "receipt")},
        "free_units_tenths": 500,
        "owner": "A.W.",
        "area": "Kibera Line Saba 4",
        "by": "wallet",
    },
    "in_progress": TYPICAL,
    "statement": {**MONEY, "balance_minor": 120_000, "debt_minor": 2_100_000, "debts": DEBTS},
    "help": {"utility": "Umoja Power", "short_code": "22444", "top_up": "TOPUP"},
    "counter_head": {
        "utility": "Umoja Power",
        "station": "ST001 Kisumu head office counter",
        "operator": "op.ann",
        "sold_at": "2026-06-05 11:15",
    },
    "counter_copy": {},
    "counter_debt": {**MONEY, "debt": "DB-0001", "taken_minor": 30_000, "left_minor": 390_000},
    "counter_just_bought": {
        "drn": "04012345676",
        "amount_minor": 50_000,
        "seconds": 5,
        "again": 2,
        "receipt": "1AGP2VN8EA2H6",
        **MONEY,
    },
    "counter_paid": {**MONEY, "cash_minor": 30_000, "card_minor": 20_000, "cheque_minor": 30_000},
    "counter_in_progress": {**TYPICAL, "reference": "ST001/op.ann-12/17"},
    "opted_out": {"utility": "Umoja Power"},
    "opted_in": {"utility": "Umoja Power"},
    "language_set": {},
    "payment_held": {**TYPICAL, "days": 30, "code": "1AG7027SACNMA"},
    "payment_kept": TYPICAL,
    "payment_waits": TYPICAL,
    "top_up_paid": {**TYPICAL, "receipt": "UFA5XK2Q1M"},
    "top_up_expired": TYPICAL,
    "deposit_paid": {**TYPICAL, "slip": "KCB/2026/0012345"},
}
# Generous: thirteen digits, seven-figure money where a limit or a balance stands.
GENEROUS: dict[str, Any] = {
    **MONEY,
    "drn": "0401234567688",
    "new_drn": "0700301221345",
    "min_minor": 1_000_050,
    "max_minor": 500_000_050,
    "balance_minor": 1_234_550,
    "amount_minor": 5_000_000,
    "available_minor": 123_450,
    "value_minor": 1_000_000,
    "left": 4,
    "day": "2027-06-05",
    "station": "ST001",
    "operator": "op.ann",
    "seconds": 119,
    "again": 2,
    "receipt": "1AG7027SACNMA",
    "paid_minor": 1_000_050,
    "units_tenths": 44_300,
    "how": "Paybill 888880, account = meter",
    "word": "WALLET",
}
# What comes with a key-change set is longer than one message anyway.
IN_TWO_MESSAGES = {
    ("ar", Reason.JUST_BOUGHT),
    ("ar", Reason.KEY_CHANGE_FIRST),
    ("ar", Reason.PAY_FIRST),
    ("ar", Reason.PAYMENT_EXPIRED),
    ("ar", Reason.TOP_UP_NOT_TAKEN),
}
REFUSALS = [(language, reason) for language in LANGUAGES for reason in Reason]


def text(key: str, values: dict[str, Any], language: str) -> str:
    return render(Message(key, values), language, CATALOGUE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_and_every_message_has_its_words(language: str) -> None:
    keys = {reason.value.lower() for reason in Reason} | MESSAGES.keys()
    entries = {key for key in CATALOGUE.languages["en"].templates if key.startswith(("tokens_", "debts_"))}
    screens = {key for key in CATALOGUE.languages["en"].templates if key.startswith("ussd_")}  # tests of their own
    assert CATALOGUE.languages[language].templates.keys() == keys | entries | screens


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_asks_for_a_value_that_its_message_does_not_have(language: str) -> None:
    GAPS.clear()
    for key, values in MESSAGES.items():
        assert "?" not in text(key, values, language), key
    for reason in Reason:
        render(refused(Refusal(reason), **GENEROUS), language, CATALOGUE)
    assert GAPS == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_refusals_do_with_the_values_that_must_be_there(language: str) -> None:
    needed: dict[Reason, dict[str, Any]] = {
        Reason.METER_UNKNOWN: {"drn": "04012345676"},
        Reason.METER_REPLACED: {"drn": "04012345676", "new_drn": "07003012213"},
        Reason.NOT_YOUR_METER: {"drn": "04012345676"},
        Reason.KEY_CHANGE_NEEDED: {"drn": "04012345676"},
        Reason.KEY_CHANGE_FIRST: {"drn": "04012345676"},
        Reason.VOUCHER_EXPIRED: {"day": "2026-06-05"},
        Reason.VOUCHER_TOO_SMALL: {"value_minor": 20_000, "amount_minor": 50_000, **MONEY},
        Reason.AMOUNT_MIN: {"min_minor": 2_000, **MONEY},
        Reason.AMOUNT_MAX: {"max_minor": 5_000_000, **MONEY},
        Reason.FUNDS_SHORT: {"balance_minor": 0, "amount_minor": 50_000, **MONEY},
        Reason.JUST_BOUGHT: {"drn": "04012345676", "amount_minor": 50_000, "seconds": 5, "again": 2, **MONEY},
        Reason.PAY_FIRST: {"drn": "04012345676", "amount_minor": 50_000, "how": "Paybill 888880", **MONEY},
        Reason.PAID_LESS: {"paid_minor": 30_000, "amount_minor": 50_000, "balance_minor": 30_000, **MONEY},
        Reason.PAYMENT_EXPIRED: {"drn": "04012345676", "amount_minor": 50_000, **MONEY},
        Reason.PRICE_CHANGED: {"drn": "04012345676"},
        Reason.TOP_UP_AGAIN: {"amount_minor": 50_000, "seconds": 5, "again": 2, **MONEY},
        Reason.TOP_UP_NOT_TAKEN: {"amount_minor": 50_000, **MONEY},
    }
    payment = {reason: {"amount_minor": 50_000, **MONEY} for reason in Reason if reason.startswith("PAYMENT_")}
    GAPS.clear()
    for reason in Reason:
        render(Message(reason.value.lower(), {**payment, **needed}.get(reason, {})), language, CATALOGUE)
    assert GAPS == []


@pytest.mark.parametrize(("language", "reason"), REFUSALS)
def test_refusal_fits_one_message(language: str, reason: Reason) -> None:
    written = render(refused(Refusal(reason), **GENEROUS), language, CATALOGUE)
    assert parts_needed(written) == (2 if (language, reason) in IN_TWO_MESSAGES else 1), (len(written), written)


@pytest.mark.parametrize("language", LATIN)
def test_latin_texts_use_gsm_characters_only(language: str) -> None:
    for key, values in MESSAGES.items():
        assert encode_gsm(text(key, values, language)) is not None, key
    for reason in Reason:
        assert encode_gsm(render(refused(Refusal(reason), **GENEROUS), language, CATALOGUE)) is not None, reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_avoid_characters_that_links_change_on_the_way(language: str) -> None:
    # Seen on live links that confuse alphabets: these do not arrive as they were sent.
    for template in CATALOGUE.languages[language].templates.values():
        for piece in template:
            assert not (isinstance(piece, str) and re.search(r"[@$!|£^~\\_`]", piece)), piece


@pytest.mark.parametrize("language", LATIN)
@pytest.mark.parametrize("key", ["sold", "last_token", "help", "in_progress", "opted_out", "opted_in", "language_set"])
def test_usual_message_fits_one_part(language: str, key: str) -> None:
    values = {**MESSAGES[key], **(TYPICAL if key == "sold" else {})}
    septets = encode_gsm(text(key, values, language))
    assert septets is not None and len(septets) <= GSM_ALONE_SEPTETS, text(key, values, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", ["help", "opted_out", "opted_in"])
def test_what_the_law_wants_names_the_utility_in_one_part(language: str, key: str) -> None:
    longest = "W" * 11  # what [utility] sms_name may hold
    shown = text(key, {"utility": longest, "short_code": "224440"}, language)
    assert longest in shown and parts_needed(shown) == 1, (len(shown), shown)
    assert "?" not in text(key, {}, language), "a reply that an earlier version owed has no name"


def test_usual_arabic_messages_fit_two_parts() -> None:
    for key in MESSAGES.keys() - {"sold_no_token", "statement", "price", "counter_price", "counter_just_bought"}:
        assert parts_needed(text(key, {**MESSAGES[key], **(TYPICAL if key == "sold" else {})}, "ar")) <= 2, key


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", ["sold", "last_token"])
def test_token_is_whole_within_the_first_part(language: str, key: str) -> None:
    message = Message(key, {**TYPICAL, "bought_at": "2026-06-05 11:15"})
    first = split(render(message, language, CATALOGUE), 1, keep_whole(message))[0]
    octets = first.short_message[6:] if first.esm_class else first.short_message
    shown = decode(octets, first.data_coding)
    assert any(token in shown for token in keep_whole(message))
    assert (first.data_coding == UCS2_CODING) == (language == "ar")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_token_is_cut_where_there_are_many(language: str) -> None:
    message = Message("sold", EVERYTHING)
    whole = keep_whole(message)
    shown = []
    for part in split(render(message, language, CATALOGUE), 1, whole):
        octets = part.short_message[6:] if part.esm_class else part.short_message
        shown.append(decode(octets, part.data_coding))
    for token in EVERYTHING["tokens"]:
        digits = token["digits"]
        assert sum(digits in re.sub(r"[ \u00a0]", "", part) for part in shown) == 1
    assert all(sum(form in part for part in shown for form in whole[at : at + 2]) == 1 for at in range(0, 8, 2))


def test_sold_reads_as_it_should() -> None:
    assert text("sold", TYPICAL, "en") == (
        "Token 1234 5678 9012 3456 7890\n44.3 kWh, meter 04012345676\nKES 800: energy 689.66 tax 110.34\n"
        "Receipt 7QK2M9D4. Balance KES 1,200"
    )
    assert text("sold", EVERYTHING, "en") == (
        "Enter this first 1111 1111 1111 1111 1111\nEnter this first 2222 2222 2222 2222 2222\n"
        "Token 1234 5678 9012 3456 7890\nFree 50.0 kWh 0987 6543 2109 8765 4321\n44.3 kWh, meter 04012345676\n"
        "KES 2,500: energy 1,500 tax 240 levies 60 debt 500 fixed charge 150 fee 30 carried 20\n"
        "Receipt 7QK2M9D4. Balance KES 1,200"
    )
    free_only = {
        **TYPICAL,
        "tokens": [FREE],
        "units_tenths": 0,
        "energy_minor": 0,
        "debt_minor": 68_966,
        "balance_minor": 0,
    }
    assert text("sold", free_only, "en") == (
        "Free 50.0 kWh 0987 6543 2109 8765 4321\nmeter 04012345676\nKES 800: tax 110.34 debt 689.66\nReceipt 7QK2M9D4"
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_parts_that_are_printed_sum_to_the_money(language: str) -> None:
    line = next(line for line in text("sold", EVERYTHING, language).splitlines() if "KES" in line)
    form = CATALOGUE.languages[language]
    plain = line.replace(form.thousands_sign, "").replace(form.decimal_sign, ".")
    paid, *parts = [int(number) for number in re.findall(r"\d+", plain)]
    assert paid == 2_500 == sum(parts)


def test_copy_is_marked_as_one() -> None:
    for language in LANGUAGES:
        first_line = text("last_token", MESSAGES["last_token"], language).splitlines()[0]
        assert first_line in {"COPY", "NAKALA", "COPIE", "COPIA", "نسخة"}


def test_tokens_in_arabic_are_joined_by_no_break_spaces_and_examples_stand_between_marks() -> None:
    # Shown by a phone, "1234 5678" with a blank would come out as "5678 1234" in a right-to-left line.
    assert "1234\u00a05678\u00a09012\u00a03456\u00a07890" in text("sold", TYPICAL, "ar")
    assert "\u200e2026-06-05 11:15\u200e" in text("last_token", MESSAGES["last_token"], "ar")
    for reason in Reason:
        for example in re.findall(r".[0-9]{11,13} [0-9,]+(?: 2)?.?", text(reason.value.lower(), GENEROUS, "ar")):
            assert example[0] == example[-1] == "\u200e", reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_text_tells_the_customer_to_send_is_understood(language: str) -> None:
    def read(text: str) -> object:
        return parse(text, minor_digits=2, currency="KES", vocabulary=VOCABULARY)

    just_bought = text("just_bought", {**GENEROUS, "drn": "04012345676", "amount_minor": 100_050}, language)
    assert read(just_bought.rpartition(": ")[2]) == Buy("04012345676", 100_050, 2)
    price = text("price", {**MESSAGES["price"], "amount_minor": 100_050}, language)
    assert read(price.rpartition(": ")[2]) == Buy("04012345676", 100_050)
    example = text("unreadable", {}, language)
    found = re.search(r"04012345676 500", example)
    assert found is not None and read(found[0]) == Buy("04012345676", 50_000)
    languages = text("language_unknown", {}, language).rpartition(": ")[2].replace("\u200e", "")
    assert [read(word) for word in languages.split(", ")] == [SetLanguage(code) for code in LANGUAGES]
    money = text("amount_min", {**MONEY, "min_minor": 123_456_050}, language)
    shown = re.search(r"(KES )?[0-9.,]*[0-9]( KES)?", money)
    assert shown is not None and read(f"04012345676 {shown[0]}") == Buy("04012345676", 123_456_050)


def test_capital_words_that_help_names_are_keywords() -> None:
    for language in LATIN:
        words = re.findall(r"\b[A-Z]{3,}\b", text("help", {}, language).replace("\n", " "))
        assert len(words) >= 8
        for word in words:
            assert word.lower() in VOCABULARY.meanings or word.lower() in VOCABULARY.languages, word


def test_refusal_takes_the_money_s_form_from_its_teller_and_its_values_from_the_refusal() -> None:
    message = refused(Refusal(Reason.AMOUNT_MIN, min_minor=2_000), **MONEY)
    assert message == Message("amount_min", {"min_minor": 2_000, **MONEY})
    assert (
        render(message, "sw-KE", CATALOGUE) == "Kiasi kidogo zaidi ni KES 20. Tafadhali tuma tena kiasi hiki au zaidi."
    )


@pytest.mark.parametrize("tokens", [None, "1234", [], [None], [{"kind": "credit"}], [{"digits": ""}], [{"digits": 5}]])
def test_message_without_tokens_has_nothing_to_keep_whole(tokens: object) -> None:
    assert keep_whole(Message("sold", {"tokens": tokens})) == []
    assert keep_whole(Message("help", {})) == []
