"""What people text, and what it is taken for. The first table is `tests/vectors/sms_inbound.csv`, row by row; the
second holds the hard cases of each kind; last, anything at all.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from channels import commands
from channels.commands import (
    Buy,
    Command,
    Help,
    LastToken,
    Meaning,
    OptIn,
    OptOut,
    Price,
    RedeemVoucher,
    SetLanguage,
    Statement,
    TopUp,
    Unreadable,
    Vocabulary,
    amount_minor,
    fold,
    parse,
)
from config.languages import load
from ledger.reasons import Reason
from sts.numbers import luhn_digit

VECTORS = Path(__file__).parents[1] / "vectors"
CATALOGUE = load()
VOCABULARY = Vocabulary.of(CATALOGUE.keywords(), CATALOGUE.language_words())
METER = "04012345676"
OTHER_METER = "07003012213"
LONG_METER = "040123456784"[:12] + luhn_digit("040123456784")


def read(text: str, currency: str = "KES", minor_digits: int = 2) -> Command:
    """The command in a text sent to a utility that takes Kenyan shillings."""
    return parse(text, minor_digits=minor_digits, currency=currency, vocabulary=VOCABULARY)


# --- the sample texts -------------------------------------------------------------------------------------------------

with (VECTORS / "sms_inbound.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))


def of_row(row: dict[str, str]) -> Command:
    """The command that a row of the sample asks for.

    Where no meter is in the text, the row names the sender's saved one, which is found later: the command has none.
    """
    drn = row["expected_drn"] or None
    in_text = drn if drn is not None and drn in fold(row["text"]).replace(" ", "") else None
    if row["expected_intent"] == "BUY":
        in_text = drn
    minor = int(row["expected_amount"].replace(".", "")) if row["expected_amount"] else 0
    commands: dict[str, Command] = {
        "BUY": Buy(in_text, minor),
        "BUY_DEFAULT_METER": Buy(None, minor),
        "LAST_TOKEN": LastToken(in_text),
        "STATEMENT": Statement(),
        "HELP": Help(),
        "OPT_OUT_NOTICES": OptOut(),
        "SET_LANGUAGE": SetLanguage("sw"),
        "REDEEM_VOUCHER": RedeemVoucher("7719004322861150", in_text),
        "ERR_METER_CHECK_DIGIT": Unreadable(Reason.METER_INVALID),
        "ERR_TWO_METERS": Unreadable(Reason.TWO_METERS),
        "ERR_AMOUNT": Unreadable(Reason.AMOUNT_UNREADABLE, in_text),
    }
    return commands[row["expected_intent"]]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['text']} ({row['note']})" for row in ROWS])
def test_sample_text_is_read_as_its_row_says(row: dict[str, str]) -> None:
    assert read(row["text"]) == of_row(row)


# --- the hard cases ---------------------------------------------------------------------------------------------------


def bad(reason: Reason, drn: str | None = None) -> Unreadable:
    return Unreadable(reason, drn)


UNREADABLE = bad(Reason.UNREADABLE)
BAD_AMOUNT = bad(Reason.AMOUNT_UNREADABLE, METER)
NEVER_GUESSED: list[tuple[str, Command]] = [
    (f"{METER} 5OO", BAD_AMOUNT),
    (f"{METER} 50o", BAD_AMOUNT),
    (f"{METER} l00", BAD_AMOUNT),
    (f"{METER} -500", BAD_AMOUNT),
    (f"{METER} \u2212500", BAD_AMOUNT),
    (f"{METER} - 500", BAD_AMOUNT),
    (f"{METER}-500", bad(Reason.AMOUNT_UNREADABLE)),
    (f"{METER} +500", BAD_AMOUNT),
    (f"{METER} 0", BAD_AMOUNT),
    (f"{METER} 0.00", BAD_AMOUNT),
    (f"{METER} 0500", BAD_AMOUNT),
    (f"{METER} 500 200", BAD_AMOUNT),
    (f"{METER} 1 000", BAD_AMOUNT),
    (f"{METER} 1\u00a0000", BAD_AMOUNT),
    (f"{METER} 500 20", BAD_AMOUNT),
    (f"{METER} 500 1", BAD_AMOUNT),
    (f"{METER} 500 2 3", BAD_AMOUNT),
    (f"{METER} 2 500", BAD_AMOUNT),
    (f"2 {METER} 500", BAD_AMOUNT),
    (f"500 2 {METER}", BAD_AMOUNT),
    (f"{METER} 1,00,000", BAD_AMOUNT),
    (f"{METER} 1,000,50", BAD_AMOUNT),
    (f"{METER} 1.000.50", BAD_AMOUNT),
    (f"{METER} 1234,567", BAD_AMOUNT),
    (f"{METER} 0,500", BAD_AMOUNT),
    (f"{METER} 1,5000", BAD_AMOUNT),
    (f"{METER} 5,,0", BAD_AMOUNT),
    (f"{METER} .50", BAD_AMOUNT),
    (f"{METER} 5\u00b2", BAD_AMOUNT),
    (f"{METER} \u00bd", BAD_AMOUNT),
    (f"{METER} 5:2", BAD_AMOUNT),
    (f"{METER} 1/2", BAD_AMOUNT),
    (f"{METER} 1e3", BAD_AMOUNT),
    (f"{METER} 123456789", BAD_AMOUNT),
    (f"{METER} USD 500", BAD_AMOUNT),
    (f"{METER} $500", BAD_AMOUNT),
    (f"{METER} 20 kwh", BAD_AMOUNT),
    (f"{METER} 20kwh", BAD_AMOUNT),
    (f"{METER} five hundred", BAD_AMOUNT),
    (f"do not buy {METER} 500", BAD_AMOUNT),
    (f"{METER} {OTHER_METER} 500", bad(Reason.TWO_METERS)),
    (f"{METER} 07003012214 500", bad(Reason.TWO_METERS)),
    ("04012345677 500", bad(Reason.METER_INVALID)),
    ("0401 2345 677 500", bad(Reason.METER_INVALID)),
    (LONG_METER[:-1] + str((int(LONG_METER[-1]) + 1) % 10) + " 500", bad(Reason.METER_INVALID)),
    ("0401234567 500", bad(Reason.METER_INVALID)),
    ("040123456765 500", bad(Reason.METER_INVALID)),
    ("254711013579", bad(Reason.METER_INVALID)),
    ("0711013579 500", bad(Reason.METER_INVALID)),
    (METER, bad(Reason.AMOUNT_NEEDED, METER)),
    (f"buy {METER}", bad(Reason.AMOUNT_NEEDED, METER)),
    ("0401 2345 676", bad(Reason.AMOUNT_NEEDED, METER)),
    ("buy", bad(Reason.AMOUNT_NEEDED)),
    ("buy token", bad(Reason.AMOUNT_NEEDED)),
    ("5OO", bad(Reason.AMOUNT_UNREADABLE)),
    ("-500", bad(Reason.AMOUNT_UNREADABLE)),
    ("500 200", bad(Reason.AMOUNT_UNREADABLE)),
    ("5 2", bad(Reason.AMOUNT_UNREADABLE)),  # five a second time, or two for the fifth meter?
    ("1 500 000", bad(Reason.AMOUNT_UNREADABLE)),
    ("10 500", bad(Reason.AMOUNT_UNREADABLE)),
    ("0 500", bad(Reason.AMOUNT_UNREADABLE)),
    ("1 5OO", bad(Reason.AMOUNT_UNREADABLE)),
    ("price", bad(Reason.AMOUNT_NEEDED)),
    (f"price {METER}", bad(Reason.AMOUNT_NEEDED, METER)),
    (f"price of airtime {METER} 500", bad(Reason.AMOUNT_UNREADABLE, METER)),
    (f"price last {METER}", UNREADABLE),
    ("last 22", UNREADABLE),
    ("last 0", UNREADABLE),
    ("buy airtime 500", UNREADABLE),
    ("hello", UNREADABLE),
    ("hello 500", UNREADABLE),
    ("KES", UNREADABLE),
    ("english 500", UNREADABLE),
    ("english kiswahili", UNREADABLE),
    ("bal stop", UNREADABLE),
    ("bal 500", UNREADABLE),
    ("stop 500", UNREADABLE),
    ("please stop", OptOut()),
    ("token 5OO", UNREADABLE),
    (f"token {METER} {OTHER_METER}", bad(Reason.TWO_METERS)),
    ("token 04012345677", bad(Reason.METER_INVALID)),
    (f"token {METER} 500", UNREADABLE),
    ("voucher", UNREADABLE),
    ("voucher 7719 0043 2286 115", UNREADABLE),
    ("voucher 7719 0043 2286 1150 04012345677", bad(Reason.METER_INVALID)),
    (f"voucher 7719 0043 2286 115O {METER}", UNREADABLE),
    # 500 for 0401 2345 676, or 676 for 500 0401 2345: both have a good check digit.
    ("500 0401 2345 676", UNREADABLE),
    ("7719 0043 2286 1150", UNREADABLE),
    ("7719004322861150", UNREADABLE),
    ("1234 5678 9012 3456 7890", UNREADABLE),
    ("language klingon", bad(Reason.LANGUAGE_UNKNOWN)),
    ("lugha", bad(Reason.LANGUAGE_UNKNOWN)),
    ("\x00", Help()),
    ("9" * 10_000, UNREADABLE),
    ("1 " * 41, UNREADABLE),
]
BOUGHT = Buy(METER, 50_000)
UNDERSTOOD: list[tuple[str, Command]] = [
    (f"{METER} 500", BOUGHT),
    (f"  {METER}\t500\r\n", BOUGHT),
    (f"{METER}\u00a0500", BOUGHT),
    (f"{METER}\u202f500", BOUGHT),
    (f"{METER} 500.", BOUGHT),
    (f"{METER} 500!", BOUGHT),
    (f"{METER}, 500", BOUGHT),
    (f"{METER},500", BOUGHT),
    (f"{METER}*500#", BOUGHT),
    (f"{METER}#500", BOUGHT),
    (f"*{METER}*500#", BOUGHT),
    (f"{METER};500", BOUGHT),
    (f"0401-2345-676 {500}", BOUGHT),
    ("0401 2345 676 500", BOUGHT),
    ("0401 234 5676 500", BOUGHT),
    ("300 0401 2345 676", Buy(METER, 30_000)),
    ("040 123 456 76 500", BOUGHT),
    ("meter 0401 2345 676 amount 500", BOUGHT),
    (f"meter:{METER} amount:500", BOUGHT),
    (f"Meter: {METER}, amount = 500", BOUGHT),
    (f"BUY TOKEN {METER} 500", BOUGHT),
    (f"buy tokens for meter {METER} KES 500 please", BOUGHT),
    (f"{METER} KES500", BOUGHT),
    (f"{METER} Ksh.500", BOUGHT),
    (f"{METER} 500/=", BOUGHT),
    (f"{METER} 500/-", BOUGHT),
    (f"{METER} sh 500/=", BOUGHT),
    (f"{METER} 500kes", BOUGHT),
    (f"{METER} 500 bob", BOUGHT),
    (f"500 {METER} buy", BOUGHT),
    (f"{METER} {METER} 500", BOUGHT),
    (f"{METER} \u0665\u0660\u0660", BOUGHT),
    (f"{METER} \u06f5\u06f0\u06f0", BOUGHT),
    (f"{METER} \uff15\uff10\uff10", BOUGHT),
    (f"\u200e{METER} 500\u200e", BOUGHT),
    (f"\u202b{METER} 500\u202c", BOUGHT),
    (
        "\u0660\u0664\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0666 \u0665\u0660\u0660\u066b\u0665",
        Buy(METER, 50_050),
    ),
    (f"شراء {METER} 500", BOUGHT),
    (f"رقم العداد {METER} المبلغ 500", BOUGHT),
    (f"ACHETER compteur {METER} montant 500", BOUGHT),
    (f"nunua umeme mita {METER} kiasi 500 tafadhali", BOUGHT),
    (f"comprar contador {METER} valor 500 por favor", BOUGHT),
    (f"{METER} 500 2", Buy(METER, 50_000, 2)),
    (f"{METER}*500*2", Buy(METER, 50_000, 2)),
    (f"500 {METER} 3", Buy(METER, 50_000, 3)),
    ("0401 2345 676 500 2", Buy(METER, 50_000, 2)),
    ("500 2", Buy(None, 50_000, 2)),
    ("KES 500", Buy(None, 50_000)),
    ("500", Buy(None, 50_000)),
    ("1 500", Buy(None, 50_000, saved=1)),
    ("1*500#", Buy(None, 50_000, saved=1)),
    ("nunua 3 KES 1,000.50", Buy(None, 100_050, saved=3)),
    ("9 500 2", Buy(None, 50_000, 2, saved=9)),
    ("last 2", LastToken(None, 2)),
    (f"PRICE {METER} 500", Price(METER, 50_000)),
    (f"price buy {METER} 500", Price(METER, 50_000)),
    ("price 500", Price(None, 50_000)),
    ("Bei 2 500", Price(None, 50_000, 2)),
    (f"prix 500 compteur {METER}", Price(METER, 50_000)),
    (f"preço {METER} 500", Price(METER, 50_000)),
    (f"سعر {METER} 500", Price(METER, 50_000)),
    ("TOPUP 500", TopUp(50_000)),
    ("500 topup", TopUp(50_000)),
    ("Top up my balance KES 1,000.50 please", TopUp(100_050)),
    ("deposit 500 2", TopUp(50_000, 2)),
    ("Ongeza salio 500", TopUp(50_000)),
    ("créditer 500", TopUp(50_000)),
    ("depósito 500", TopUp(50_000)),
    ("إيداع 500", TopUp(50_000)),
    ("topup 7719 0043 2286 1150", RedeemVoucher("7719004322861150", None)),
    ("topup voucher 7719004322861150", RedeemVoucher("7719004322861150", None)),
    ("topup", Unreadable(Reason.TOP_UP_UNREADABLE)),
    ("topup much", Unreadable(Reason.UNREADABLE)),
    ("topup 500 1234", Unreadable(Reason.TOP_UP_UNREADABLE)),
    ("topup 500 0", Unreadable(Reason.TOP_UP_UNREADABLE)),
    (f"topup {METER} 500", Unreadable(Reason.TOP_UP_UNREADABLE)),
    (f"topup {METER}", Unreadable(Reason.TOP_UP_UNREADABLE)),
    ("topup -500", Unreadable(Reason.TOP_UP_UNREADABLE)),
    ("topup buy 500", Unreadable(Reason.UNREADABLE)),
    ("nunua 500", Buy(None, 50_000)),
    (f"{LONG_METER} 500", Buy(LONG_METER, 50_000)),
    (f"{LONG_METER[:4]} {LONG_METER[4:8]} {LONG_METER[8:]} 500", Buy(LONG_METER, 50_000)),
    ("", Help()),
    ("   \u00a0", Help()),
    ("?", Help()),
    ("...", Help()),
    ("HELP", Help()),
    ("help me buy 500", Help()),
    ("Msaada", Help()),
    ("AIDE", Help()),
    ("مساعدة", Help()),
    ("BAL", Statement()),
    ("my balance please", Statement()),
    (f"bal {METER}", Statement()),
    ("Salio", Statement()),
    ("الرصيد", Statement()),
    ("last token", LastToken(None)),
    ("L", LastToken(None)),
    ("L 0401 2345 676", LastToken(METER)),
    (f"Último código {METER}", LastToken(METER)),
    ("CÓDIGO", LastToken(None)),
    ("dernière", LastToken(None)),
    ("رمز", LastToken(None)),
    ("STOP", OptOut()),
    ("stop sending me messages", OptOut()),
    ("Arrêt", OptOut()),
    ("إيقاف", OptOut()),
    ("ايقاف", OptOut()),
    ("start", OptIn()),
    ("Anza", OptIn()),
    ("English", SetLanguage("en")),
    ("FRANÇAIS", SetLanguage("fr")),
    ("francais", SetLanguage("fr")),
    ("pt", SetLanguage("pt")),
    ("العربية", SetLanguage("ar")),
    ("lugha kiswahili", SetLanguage("sw")),
    ("language: en", SetLanguage("en")),
    ("voucher 7719004322861150", RedeemVoucher("7719004322861150", None)),
    (f"voucher {METER} 7719-0043-2286-1150", RedeemVoucher("7719004322861150", METER)),
    ("vocha 7719 0043 2286 1150 0401 2345 676", RedeemVoucher("7719004322861150", METER)),
    (f"buy voucher 7719004322861150 meter {METER}", RedeemVoucher("7719004322861150", METER)),
]


@pytest.mark.parametrize(("text", "expected"), NEVER_GUESSED)
def test_doubtful_text_is_asked_about_and_never_guessed(text: str, expected: Command) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(("text", "expected"), UNDERSTOOD)
def test_plain_text_is_understood(text: str, expected: Command) -> None:
    assert read(text) == expected


AMOUNTS: list[tuple[str, int, int | None]] = [
    # (written, decimals of the currency, minor units)
    ("1,000.50", 2, 100_050),
    ("1.000,50", 2, 100_050),
    ("1,000", 2, 100_000),
    ("1.000", 2, 100_000),
    ("150,50", 2, 15_050),
    ("150.5", 2, 15_050),
    ("1,234,567.89", 2, 123_456_789),
    ("1.234.567", 2, 123_456_700),
    ("0.50", 2, 50),
    ("0,05", 2, 5),
    ("5.", 2, None),
    ("500.000.00", 2, None),
    ("1.000,505", 2, None),
    ("1,000.5,0", 2, None),
    ("12,34", 0, None),
    ("12,00", 0, 12),
    ("1,000", 0, 1_000),
    ("1,000", 3, None),  # one, or a thousand
    ("1,000.500", 3, 1_000_500),
    ("1.5", 3, 1_500),
    ("99999999", 2, 9_999_999_900),
    ("100000000", 2, None),
    ("999,999,999,999", 2, 99_999_999_999_900),
    ("1,000,000,000,000", 2, None),
    ("٥٠٠", 2, None),  # plain digits are made before
]


@pytest.mark.parametrize(("written", "minor_digits", "expected"), AMOUNTS)
def test_amount_is_read_as_people_write_it(written: str, minor_digits: int, expected: int | None) -> None:
    assert amount_minor(written, minor_digits) == expected


@pytest.mark.parametrize(
    ("text", "currency", "minor_digits", "expected"),
    [
        (f"{METER} R500", "ZAR", 2, BOUGHT),
        (f"{METER} 5.000 FCFA", "XOF", 0, Buy(METER, 5_000)),
        (f"{METER} 5000f", "XAF", 0, Buy(METER, 5_000)),
        (f"{METER} 500MT", "MZN", 2, BOUGHT),
        (f"{METER} $500", "USD", 2, BOUGHT),
        (f"{METER} ₦500", "NGN", 2, BOUGHT),
        (f"{METER} UGX 20,000/=", "UGX", 0, Buy(METER, 20_000)),
        (f"{METER} Ksh 500", "UGX", 0, BAD_AMOUNT),
    ],
)
def test_words_of_the_utility_s_own_currency_are_known(
    text: str, currency: str, minor_digits: int, expected: Command
) -> None:
    assert read(text, currency, minor_digits) == expected


def test_pin_of_a_voucher_is_in_no_repr() -> None:
    assert "7719" not in repr(read("voucher 7719004322861150"))


# --- the vocabulary ---------------------------------------------------------------------------------------------------


def test_keywords_of_every_language_mean_one_thing_and_are_found() -> None:
    asked = {
        Meaning.BUY: Buy(METER, 50_000),
        Meaning.BALANCE: Statement(),
        Meaning.LAST: LastToken(METER),
        Meaning.HELP: Help(),
        Meaning.STOP: OptOut(),
        Meaning.START: OptIn(),
        Meaning.VOUCHER: RedeemVoucher("7719004322861150", METER),
    }
    numbers = {
        Meaning.BUY: f" {METER} 500",
        Meaning.LAST: f" {METER}",
        Meaning.VOUCHER: f" 7719004322861150 {METER}",
    }
    for name, words in CATALOGUE.keywords().items():
        meaning = Meaning(name)
        for word in words:
            if meaning in asked:
                assert read(word.upper() + numbers.get(meaning, "")) == asked[meaning], word
    for word, code in CATALOGUE.language_words().items():
        assert read(word) == SetLanguage(code), word
    for language in CATALOGUE.languages.values():
        assert read(language.choose) == SetLanguage(language.code)


@pytest.mark.parametrize(
    ("keywords", "languages", "words"),
    [
        ({"buy": ["go"], "stop": ["GO"]}, {}, "means both"),
        ({"purchase": ["buy"]}, {}, "purchase"),
        ({"buy": ["fr"]}, {"fr": "fr"}, "names a language"),
        ({}, {"x": "fr", "X": "en"}, "names both"),
    ],
)
def test_word_with_two_meanings_is_an_error_of_the_language_files(
    keywords: dict[str, list[str]], languages: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Vocabulary.of(keywords, languages)


# --- anything at all --------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        METER, OTHER_METER, "0401", "2345", "676", "500", "2", "1,000.50", "5OO", "-", "KES", "buy", "token", "help",
        "stop", "bal", "voucher", "7719", "sw", "lugha", "*", "#", ".", ",", "\u00a0", "\u0665", "\u200e", "x",
    ]
)  # fmt: skip


@settings(max_examples=400)
@given(st.text() | st.lists(PIECES, max_size=12).map(" ".join) | st.lists(PIECES, max_size=12).map("".join))
@example("\ud800")
@example("\ufdfa" * 31)
def test_any_text_is_a_command(text: str) -> None:
    command = read(text)
    assert isinstance(command, Command)
    if isinstance(command, Buy):
        assert command.amount_minor > 0
        assert 1 <= command.nth <= 9
        assert command.drn is None or command.drn[-1] == luhn_digit(command.drn[:-1])


@given(
    st.sampled_from([METER, OTHER_METER, "14252321808"]),
    st.integers(1, 9_999_999),
    st.sampled_from(["{m} {a}", "{a} {m}", "{m}*{a}", "buy {m} KES {a}", "{m} {a}.", "{a}/= {m}"]),
    st.sampled_from([0, 4]),
)
def test_meter_and_amount_are_found_in_any_order_and_grouping(meter: str, minor: int, form: str, group: int) -> None:
    whole, cents = divmod(minor, 100)
    written = f"{whole:,}" + (f".{cents:02d}" if cents else "")
    grouped = " ".join(meter[at : at + group] for at in range(0, len(meter), group)) if group else meter
    command = read(form.format(m=grouped, a=written))
    if command != Buy(meter, minor):
        # Groups beside an amount of as many digits can be read in two ways: then it is asked about.
        assert group
        assert isinstance(command, Unreadable)


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1 ",
        "1,",
        "1-",
        "a",
        "a ",
        "-",
        "0401 2345 676 ",
        "\u0301\u0323",
        "1/=",
        "\u0665",
        "\u200e",
        ":",
        "*",
        "e\u0301 ",
    ],
)
def test_long_text_takes_no_longer_than_its_length(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in steps of the interpreter, and in what the patterns are given, whose own steps nobody counts."""
    seen: dict[str, int] = {}

    class Watched:
        """A pattern that notes the longest text it was asked about."""

        def __init__(self, name: str, pattern: re.Pattern[str]) -> None:
            self._name, self._pattern = name, pattern

        def _note(self, text: str) -> str:
            seen[self._name] = max(seen.get(self._name, 0), len(text))
            return text

        def fullmatch(self, text: str) -> re.Match[str] | None:
            return self._pattern.fullmatch(self._note(text))

        def sub(self, by: str, text: str) -> str:
            return self._pattern.sub(by, self._note(text))

    patterns = {name: each for name, each in vars(commands).items() if isinstance(each, re.Pattern)}
    for name, pattern in patterns.items():
        monkeypatch.setattr(commands, name, Watched(name, pattern))

    def steps(length: int) -> int:
        text = (piece * length)[:length]
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            read(text)
        finally:
            sys.settrace(before)
        return count

    # Ten times the length: a quadratic reader would need a hundred times as many.
    assert steps(5_000) < 15 * steps(500)
    # A text as long as all that: only patterns of fixed length, and those that never try a character twice.
    assert {name for name, longest in seen.items() if longest > 40} <= {
        "_LABEL_END", "_AFTER_AMOUNT", "_DIGITS", "_NUMBER",
    }  # fmt: skip
    assert not re.search(r"[*+{]", patterns["_LABEL_END"].pattern + patterns["_AFTER_AMOUNT"].pattern)
    assert (patterns["_DIGITS"].pattern, patterns["_NUMBER"].pattern) == ("[0-9]+", "[0-9]+(?:[.,][0-9]+)*")
