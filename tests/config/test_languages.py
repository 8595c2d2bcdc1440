"""The catalogue: how texts are put together, what happens where something is missing, and the shipped files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.languages import (
    Catalogue,
    Field,
    Gap,
    Language,
    Optional,
    TemplateFault,
    differences,
    fields,
    groups_of_four,
    load,
    number,
    template,
)


def document(texts: dict[str, Any] | None = None, /, **changes: Any) -> dict[str, Any]:
    """A language file in short."""
    whole = {
        "meta": {"name": "Name", "choose": "NAME", "direction": "ltr"},
        "numbers": {"decimal": ".", "thousands": ",", "currency_first": True},
        "keywords": {"buy": ["buy"], "names": ["name"]},
        "texts": texts or {},
    }
    return whole | changes


def said(text: str, **values: Any) -> str:
    """A text of an English catalogue with these values."""
    return Catalogue({"en": document({"key": text})}).text("key", values, "en")


KES: dict[str, Any] = {"currency": "KES", "minor_digits": 2}
TEXTS: list[tuple[str, dict[str, Any], str]] = [
    ("plain", {}, "plain"),
    ("{drn} there", {"drn": "04012345676"}, "04012345676 there"),
    ("pay {amount_minor}", {"amount_minor": 100_050, **KES}, "pay KES 1,000.50"),
    ("pay {amount_minor}", {"amount_minor": 50_000, **KES}, "pay KES 500"),
    ("pay {amount_minor:plain}", {"amount_minor": 5, **KES}, "pay 0.05"),
    ("pay {amount_minor}", {"amount_minor": -2_350, **KES}, "pay KES -23.50"),
    ("pay {amount_minor}", {"amount_minor": 20_000, "currency": "UGX", "minor_digits": 0}, "pay UGX 20,000"),
    ("{units_tenths} kWh", {"units_tenths": 443}, "44.3 kWh"),
    ("{units_tenths} kWh", {"units_tenths": 182_016}, "18,201.6 kWh"),
    ("{units_tenths} kWh", {"units_tenths": 0}, "0.0 kWh"),
    ("{seconds} s", {"seconds": 5}, "5 s"),
    ("a[, fee {fee_minor:plain}] b", {"fee_minor": 3_000, **KES}, "a, fee 30 b"),
    ("a[, fee {fee_minor:plain}] b", {"fee_minor": 0, **KES}, "a b"),
    ("a[, fee {fee_minor:plain}] b", {}, "a b"),
    ("a[ {drn} {receipt}] b", {"drn": "1", "receipt": ""}, "a b"),
    ("a[ {drn} {receipt}] b", {"drn": "1", "receipt": "2"}, "a 1 2 b"),
    # what is missing or wrong is visible and harmless
    ("meter {drn}.", {}, "meter ?."),
    ("meter {drn}.", {"drn": None}, "meter ?."),
    ("meter {drn}.", {"drn": 1.5}, "meter ?."),
    ("meter {drn}.", {"drn": True}, "meter ?."),
    ("meter {drn}.", {"drn": {"x": 1}}, "meter ?."),
    ("pay {amount_minor}", {"amount_minor": "500", **KES}, "pay ?"),
    ("pay {amount_minor}", {"amount_minor": 500, "currency": "KES"}, "pay ?"),
    ("pay {amount_minor}", {"amount_minor": 500, "minor_digits": 2}, "pay 5"),
    ("{n}", {"n": 10**5_000}, "?"),
    # values are never read as texts
    ("{drn}", {"drn": "{receipt}[x]", "receipt": "secret"}, "{receipt}[x]"),
]


@pytest.mark.parametrize(("text", "values", "expected"), TEXTS)
def test_text_is_put_together_from_its_values(text: str, values: dict[str, Any], expected: str) -> None:
    assert said(text, **values) == expected


@pytest.mark.parametrize(
    "text", ["{", "}", "a]", "[a", "[a [ {b}]]", "{A}", "{a.b}", "{a[0]}", "{0}", "{a!r}", "{}", "[a]"]
)
def test_text_that_cannot_be_read_is_a_fault(text: str) -> None:
    with pytest.raises(TemplateFault):
        template(text)


def test_text_in_pieces() -> None:
    pieces = template("a {b}[, c {d:plain}]")
    assert pieces == ("a ", Field("b", False), Optional((", c ", Field("d", True))))
    assert fields(pieces) == {("b", False), ("d", True)}


def test_list_stands_an_entry_a_line_in_the_words_for_its_kind() -> None:
    texts = {
        "sold": "{tokens}\nend",
        "tokens_free": "free {units_tenths}: {digits}",
        "tokens_other": "{digits}",
        "debts": "{debts}",
        "debts_other": "owed {outstanding_minor}",
    }
    catalogue = Catalogue({"en": document(texts)})
    tokens = [
        {"digits": "12345678901234567890", "kind": "credit", "units_tenths": 1},
        {"digits": "09876543210987654321", "kind": "free", "units_tenths": 500},
    ]
    assert catalogue.text("sold", {"tokens": tokens}, "en") == (
        "1234 5678 9012 3456 7890\nfree 50.0: 0987 6543 2109 8765 4321\nend"
    )
    debts = {"debts": [{"outstanding_minor": 1_000}, 5], **KES}
    assert catalogue.text("debts", debts, "en") == "owed KES 10\n?"


def test_nearest_language_is_used_and_its_lack_is_reported() -> None:
    gaps: list[Gap] = []
    catalogue = Catalogue(
        {
            "en": document({"a": "en a", "b": "en b", "c": "en c", "d": "en {drn}"}),
            "fr": document({"a": "fr a", "b": "fr b"}),
            "pt": document({"a": "pt a"}),
            "pt-br": document({"x": "br x"}),
        },
        default="fr",
        on_gap=gaps.append,
    )
    asked = ["pt", "pt-BR", "pt_PT", "PT", "sw", ""]
    assert [catalogue.text("a", {}, language) for language in asked] == ["pt a"] * 4 + ["fr a"] * 2
    assert gaps == [Gap("sw", "a", None), Gap("", "a", None)]
    assert [catalogue.text(key, {}, "pt") for key in "bc"] == ["fr b", "en c"]
    assert catalogue.text("not_there_at_all", {}, "pt") == "not there at all"
    assert gaps[-3:] == [Gap("pt", "b", None), Gap("pt", "c", None), Gap("pt", "not_there_at_all", None)]
    assert catalogue.text("d", {}, "en") == "en ?"
    assert gaps[-1] == Gap("en", "d", "drn")


def test_numbers_are_written_as_the_language_does() -> None:
    numbers = {"decimal": ",", "thousands": ".", "currency_first": False}
    catalogue = Catalogue({"pt": document({"key": "{a_minor} {b_tenths}"}, numbers=numbers)}, default="pt")
    assert (
        catalogue.text("key", {"a_minor": 123_456_789, "b_tenths": 12_345, **KES}, "pt") == "1.234.567,89 KES 1.234,5"
    )


def test_right_to_left_text_keeps_tokens_dates_and_negative_numbers_in_order() -> None:
    meta = {"name": "عربي", "choose": "ARABIC", "direction": "rtl"}
    texts = {"key": "{digits} {at} {drn} {a_minor:plain}"}
    catalogue = Catalogue({"ar": document(texts, meta=meta)}, default="ar")
    values = {"digits": "12345678901234567890", "at": "2026-06-05 11:15", "drn": "04012345676", "a_minor": -5, **KES}
    # No-break spaces within the token: between two numbers they count as part of the number; a blank does not.
    assert catalogue.text("key", values, "ar") == (
        "1234\u00a05678\u00a09012\u00a03456\u00a07890 \u200e2026-06-05 11:15\u200e 04012345676 \u200e-0.05\u200e"
    )


FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"texts": {"a": "[x"}}, "xx: texts.a: a bracket is not closed"),
    ({"texts": {"a": 5}}, "xx: texts.a: a text expected"),
    ({"texts": None}, "xx: texts: a table expected"),
    ({"meta": {"name": "N", "choose": "N", "direction": "up"}}, "xx: meta.direction: ltr or rtl expected"),
    ({"meta": {"choose": "N", "direction": "ltr"}}, "xx: meta.name: a text expected"),
    ({"numbers": {"decimal": ".", "thousands": ""}}, "xx: numbers.currency_first: true or false expected"),
    ({"keywords": {"buy": "buy"}}, "xx: keywords.buy: a list of single words expected"),
    ({"keywords": {"buy": ["two words"]}}, "xx: keywords.buy: a list of single words expected"),
    ({"colours": {}}, "xx: colours: not known here"),
]


@pytest.mark.parametrize(("changes", "fault"), FAULTY)
def test_faulty_file_is_named_and_the_others_go_on(changes: dict[str, Any], fault: str) -> None:
    catalogue = Catalogue({"en": document({"a": "good"}), "xx": document({"b": "x"}, **changes)})
    assert catalogue.faults == (fault,)
    assert catalogue.text("a", {}, "xx") == "good"


def test_differences_between_languages_are_listed() -> None:
    catalogue = Catalogue(
        {
            "en": document({"a": "{x}", "b": "b[ {y}]", "c": "c"}),
            "xx": document({"a": "{x}", "b": "{y}", "d": "d"}, keywords={"names": ["x"]}),
        }
    )
    assert differences(catalogue) == (
        "xx: texts.c: missing",
        "xx: texts.d: not in en",
        "xx: keywords.buy: missing",
        "xx: texts.b: y is not as in en",
    )


def test_shipped_languages_are_complete_and_alike() -> None:
    catalogue = load()
    assert list(catalogue.languages) == ["ar", "en", "fr", "pt", "sw"]
    assert catalogue.faults == ()
    assert differences(catalogue) == ()
    assert [code for code, language in catalogue.languages.items() if language.is_right_to_left] == ["ar"]


def test_operator_s_own_folder_adds_a_language_and_wins(tmp_path: Path) -> None:
    english = Path(__file__).parents[2] / "config" / "languages" / "en.toml"
    (tmp_path / "zu.toml").write_text(english.read_text(encoding="utf-8").replace("Balance", "Ibhalansi"), "utf-8")
    (tmp_path / "sw.toml").write_text("[meta", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not a language", encoding="utf-8")
    catalogue = load(folder=tmp_path)
    assert catalogue.text("statement", {"balance_minor": 0, **KES}, "zu") == "Ibhalansi KES 0."
    assert catalogue.text("statement", {"balance_minor": 0, **KES}, "sw") == "Salio KES 0."
    assert len(catalogue.faults) == 1 and catalogue.faults[0].startswith("sw: ")


def test_digits_in_groups_of_four() -> None:
    assert groups_of_four("12345678901234567890", " ") == "1234 5678 9012 3456 7890"
    assert groups_of_four("12345", "-") == "1234-5"
    assert groups_of_four("", " ") == ""


ENGLISH: Language = load().languages["en"]


@given(st.integers(-(10**12), 10**12), st.integers(0, 4), st.booleans())
def test_number_reads_back_as_the_same(value: int, digits: int, is_short: bool) -> None:
    written = number(ENGLISH, value, digits, is_short=is_short).replace(",", "")
    whole, _, rest = written.partition(".")
    assert int(whole + rest.ljust(digits, "0")) == value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NAMES = ["drn", "amount_minor", "units_tenths", "tokens", "currency", "minor_digits", "receipt", "languages", "debts"]
ALL = load()


@given(
    st.sampled_from([*ALL.languages["en"].templates, "nothing"]),
    st.dictionaries(st.sampled_from(NAMES), VALUES),
    st.sampled_from(list(ALL.languages)) | st.text(max_size=5),
)
def test_any_values_in_any_language_give_a_text(key: str, values: dict[str, Any], language: str) -> None:
    assert isinstance(ALL.text(key, values, language), str)
