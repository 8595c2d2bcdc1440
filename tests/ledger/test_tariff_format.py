"""Tariff documents: what is read, and every fault by its place. The tables have a fault a line."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.pricing import Block, FixedCharge, Period, Rounding
from ledger.tariffs_format import TariffFaults, documents, parse, read_book, read_tariff

BOOK: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "tariffs.json").read_text())


def good() -> dict[str, Any]:
    """A tariff with two versions, two seasons, blocks and every kind of charge."""

    def version(start: str) -> dict[str, Any]:
        return {
            "effective_from": start,
            "vat_percent": "16",
            "seasons": [
                {"months": [6, 7, 8], "blocks": [{"upto_kwh": None, "rate": "24.10"}]},
                {
                    "months": [1, 2, 3, 4, 5, 9, 10, 11, 12],
                    "blocks": [
                        {"upto_kwh": "50", "rate": "12.22"},
                        {"upto_kwh": "150", "rate": "16.30"},
                        {"upto_kwh": None, "rate": "19.08"},
                    ],
                },
            ],
            "per_kwh_charges": [{"code": "FUEL", "rate": "3.65", "vatable": True}],
            "percent_charges": [{"code": "RURAL", "percent": "5", "vatable": False}],
            "fixed_charges": [{"code": "FIXED", "period": "MONTH", "amount": "150.00"}],
        }

    return {
        "code": "T1",
        "name": "Test",
        "sts_tariff_index": "01",
        "units_rounding": "DOWN_CARRY",
        "min_vend_minor": 2000,
        "max_vend_minor": 5000000,
        "versions": [version("2026-01-01T00:00:00"), version("2026-07-01T00:00:00")],
    }


def test_every_part_of_a_document_becomes_a_rule() -> None:
    tariff = read_tariff(good(), minor_digits=2)
    assert (tariff.code, tariff.units_rounding, tariff.min_vend_minor) == ("T1", Rounding.DOWN_CARRY, 2000)
    version = tariff.versions[1]
    assert version.effective_from == datetime.fromisoformat("2026-07-01")
    assert version.vat_percent == 16
    assert version.seasons[1].blocks[0] == Block(Fraction(50), Fraction("12.22"))
    assert version.seasons[1].months == (1, 2, 3, 4, 5, 9, 10, 11, 12)
    assert version.percent_charges[0].percent == 5
    assert version.fixed_charges == (FixedCharge("FIXED", Period.MONTH, Fraction(150)),)


def test_sample_file_is_read() -> None:
    book = read_book(BOOK)
    assert list(book.tariffs) == ["D1-FLAT", "D2-IBT", "D3-LEVY", "C1-SEASON"]
    assert (book.currency, book.minor_digits, book.timezone) == ("KES", 2, "Africa/Nairobi")
    assert book.debt_cap_percent == 80
    assert book.fees_minor["ATM"] == 3000


V, S, B = "versions[1]", "versions[1].seasons[1]", "versions[1].seasons[1].blocks[1]"
REMOVED = object()
# (place, value put there, words of the fault at that place)
FAULTS: list[tuple[str, Any, str]] = [
    ("code", REMOVED, "missing"),
    ("code", "a b", 'a short code of letters, digits, _ . - expected, got "a b"'),
    ("name", "  ", "a text expected"),
    ("sts_tariff_index", 1, "two digits expected, got 1"),
    ("units_rounding", "HALF_UP", 'UP or DOWN_CARRY expected, got "HALF_UP"'),
    ("min_vend_minor", 20.5, "a whole number expected, got 20.5"),
    ("min_vend_minor", True, "a whole number expected, got true"),
    ("min_vend_minor", 0, "1 to"),
    ("colour", "red", "not known here"),
    ("versions", [], "must not be empty"),
    ("versions", {}, "a list expected, got an object"),
    (V, 7, "an object expected, got 7"),
    (f"{V}.effective_from", "2026-01-01T00:00:00", "must be later than 2026-01-01T00:00:00"),
    (f"{V}.effective_from", "2026-07-01T00:00:00+03:00", "a local date and time without zone"),
    (f"{V}.effective_from", "2026-02-30T00:00:00", "no such date or time"),
    (f"{V}.vat_percent", "0.16", 'write "16" for sixteen percent'),
    (f"{V}.percent_charges[0].percent", "0.05", f'if it is meant, add "percents_below_one": true to {V}'),
    (f"{V}.percents_below_one", "yes", 'true or false expected, got "yes"'),
    (f"{V}.vat_percent", "1600", "at most 100 expected"),
    (f"{V}.vat_percent", 16, 'a decimal string such as "12.50" expected, got the number 16'),
    (f"{V}.vat_percent", REMOVED, "missing"),
    (f"{V}.vat", "16", "not known here"),
    (f"{V}.time_bands", [], "cannot be priced in a one-way token"),
    (f"{B}.from_hour", 6, "cannot be priced in a one-way token"),
    (f"{V}.seasons", [], "must not be empty"),
    (f"{S}.months[0]", 13, "1 to 12 expected, got 13"),
    (f"{S}.months[0]", "1", 'a whole number expected, got "1"'),
    (f"{S}.blocks", [], "must not be empty"),
    (f"{B}.upto_kwh", "50", "must be greater than 50"),
    (f"{B}.upto_kwh", 150.0, "got the number 150.0: put it in quotes"),
    (f"{B}.upto_kwh", None, "only the last block is without limit"),
    (f"{B}.upto_kwh", REMOVED, "missing; null means without limit"),
    (f"{S}.blocks[0].upto_kwh", "0", "must be greater than 0"),
    (f"{S}.blocks[2].upto_kwh", "400", "the last block must be without limit (null)"),
    (f"{B}.rate", "-16.30", "must not be negative, got -16.30"),
    (f"{B}.rate", 16.3, "got the number 16.3: put it in quotes"),
    (f"{B}.rate", "16,30", "a decimal with a point and no grouping"),
    (f"{B}.rate", "1e3", "a decimal with a point and no grouping"),
    (f"{B}.rate", "١٦", "a decimal with a point and no grouping"),
    (f"{B}.rate", [], "a decimal string expected, got a list"),
    (f"{V}.per_kwh_charges", REMOVED, "missing"),
    (f"{V}.per_kwh_charges[0].rate", "-1", "must not be negative"),
    (f"{V}.per_kwh_charges[0].vatable", "yes", 'true or false expected, got "yes"'),
    (f"{V}.percent_charges[0].code", "FUEL", "FUEL is another charge of this version already"),
    (f"{V}.percent_charges[0].percent", "101", "at most 100 expected"),
    (f"{V}.fixed_charges[0].period", "WEEK", 'MONTH or DAY expected, got "WEEK"'),
    (f"{V}.fixed_charges[0].amount", 150, "a decimal string"),
]
# (place, value put there, place of the fault, its words)
FAULTS_ELSEWHERE: list[tuple[str, Any, str, str]] = [
    ("min_vend_minor", 5000001, "max_vend_minor", "must be at least min_vend_minor, 5000001"),
    (f"{S}.months", [1, 2, 3, 4, 5, 9, 10, 11], f"{V}.seasons", "no season has month 12"),
    (f"{S}.months", [1, 2, 3, 4, 5, 8, 9, 10, 11, 12], f"{S}.months[5]", f"month 8 stands in {V}.seasons[0] already"),
    (f"{S}.months", [1, 1, 2, 3, 4, 5, 9, 10, 11, 12], f"{S}.months[1]", f"month 1 stands in {S} already"),
    *((place, value, place, words) for place, value, words in FAULTS),
]


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with another value at a place such as "versions[1].seasons[0]"."""
    document = copy.deepcopy(document)
    steps: list[Any] = []
    for part in path.split("."):
        name, _, index = part.partition("[")
        steps.append(name)
        if index:
            steps.append(int(index.rstrip("]")))
    place: Any = document
    for step in steps[:-1]:
        place = place[step]
    if value is REMOVED:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value
    return document


@pytest.mark.parametrize(("change", "value", "place", "words"), FAULTS_ELSEWHERE)
def test_fault_is_named_with_its_place(change: str, value: Any, place: str, words: str) -> None:
    with pytest.raises(TariffFaults) as caught:
        read_tariff(changed(good(), change, value), minor_digits=2)
    assert [fault for fault in caught.value.faults if fault.startswith(f"{place}: ") and words in fault], (
        caught.value.faults
    )
    assert len(caught.value.faults) == 1


def test_purchase_that_no_token_could_carry_is_a_fault_of_the_limit() -> None:
    with pytest.raises(TariffFaults, match="max_vend_minor: buys more than the 1820162 kWh that one token can carry"):
        read_tariff(changed(good(), "max_vend_minor", 10**12), minor_digits=2)


def test_all_faults_come_at_once() -> None:
    document = changed(good(), f"{S}.blocks[1].upto_kwh", "20")
    document = changed(document, f"{V}.vat_percent", "0.16")
    document = changed(document, "versions[0].seasons[0].blocks[0].rate", 24.1)
    document = changed(document, "name", REMOVED)
    with pytest.raises(TariffFaults) as caught:
        read_tariff(document, minor_digits=2)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "name",
        "versions[0].seasons[0].blocks[0].rate",
        f"{V}.vat_percent",
        f"{S}.blocks[1].upto_kwh",
    ]
    assert str(caught.value).count("\n") == 3


def test_energy_for_nothing_is_refused_but_a_block_that_costs_only_levies_is_not() -> None:
    free = changed(good(), f"{B}.rate", "0")
    assert read_tariff(free, minor_digits=2).versions[1].seasons[1].blocks[1].rate == 0
    for version in (0, 1):
        free = changed(free, f"versions[{version}].per_kwh_charges", [])
    with pytest.raises(TariffFaults, match=r"blocks\[1\].rate: a kWh must cost something"):
        read_tariff(free, minor_digits=2)


@pytest.mark.parametrize("document", [None, [], "tariff", 5, {}])
def test_what_is_no_document_is_named_as_such(document: Any) -> None:
    with pytest.raises(TariffFaults, match="tariff: "):
        read_tariff(document, minor_digits=2)
    with pytest.raises(TariffFaults):
        read_book(document)


@pytest.mark.parametrize(
    ("change", "value", "words"),
    [
        ("tariffs[2].versions[0].vat_percent", "0.16", "tariffs[2].versions[0].vat_percent: 0.16 is less"),
        ("tariffs[1].code", "D1-FLAT", "tariffs[1].code: D1-FLAT stands there twice"),
        ("utility.debt_cap_percent", 80, "utility.debt_cap_percent: a decimal string"),
        ("utility.currency", "shilling", "utility.currency: three capitals expected"),
        ("utility.minor_digits", REMOVED, "utility.minor_digits: missing"),
        ("utility.debt_cap_percent", "0.8", "utility.debt_cap_percent: 0.8 is less than one percent"),
        ("utility.utc_offset_minutes", REMOVED, "utility.utc_offset_minutes: missing"),
        ("utility.reversal_window_minutes", -1, "utility.reversal_window_minutes: 0 to 1000000 expected, got -1"),
        ("utility.block_counter", "METER", "utility.block_counter: only "),
        ("utility.free_units_count_in_blocks", True, "utility.free_units_count_in_blocks: only false is reckoned"),
        ("utility.deduction_order", ["ENERGY"], "utility.deduction_order: only "),
        ("channels.ATM.fee_minor", "3000", "channels.ATM.fee_minor: a whole number expected"),
        ("extra", 1, "extra: not known here"),
    ],
)
def test_fault_of_a_whole_file_is_named_with_its_place(change: str, value: Any, words: str) -> None:
    with pytest.raises(TariffFaults) as caught:
        read_book(changed(BOOK, change, value))
    assert caught.value.faults[0].startswith(words)
    assert len(caught.value.faults) == 1


def test_a_percent_below_one_is_taken_where_the_version_says_that_it_is_meant() -> None:
    document = changed(good(), f"{V}.percent_charges[0].percent", "0.5")
    meant = changed(document, f"{V}.percents_below_one", True)
    assert read_tariff(meant, minor_digits=2).versions[1].percent_charges[0].percent == Fraction(1, 2)
    # What was accepted once is not questioned when it is read again.
    assert read_tariff(document, minor_digits=2, is_stored=True).versions[1].percent_charges[0].percent == Fraction(
        1, 2
    )
    with pytest.raises(TariffFaults, match="is less than one percent"):
        read_tariff(changed(document, f"{V}.percents_below_one", False), minor_digits=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"code": }', "line 1 column 10: no JSON"),
        ("", "line 1 column 1: no JSON"),
        ("[" * 200_000, "no JSON that can be read"),
        ("9" * 5_000, "no JSON that can be read"),
    ],
)
def test_a_text_that_is_no_json_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(TariffFaults) as caught:
        parse(text)
    assert caught.value.faults[0].startswith(words)


def test_a_key_that_stands_twice_is_a_fault_and_not_the_last_of_both() -> None:
    text = json.dumps(good()).replace('"rate": "24.10"', '"rate": "24.10", "rate": "2.41"')
    with pytest.raises(TariffFaults) as caught:
        read_tariff(parse(text), minor_digits=2)
    assert caught.value.faults[0] == "versions[0].seasons[0].blocks[0].rate: stands there twice"
    with pytest.raises(TariffFaults, match="code: stands there twice"):
        read_tariff(parse('{"code": "A", "code": "B"}'), minor_digits=2)


def test_a_file_is_one_tariff_or_a_list_of_them() -> None:
    assert documents(good()) == [("", good())]
    assert [place for place, _ in documents(BOOK)] == ["tariffs[0]", "tariffs[1]", "tariffs[2]", "tariffs[3]"]
    several: tuple[dict[str, Any], ...] = ({"tariffs": {}}, {"tariffs": []})
    for wrong in several:
        with pytest.raises(TariffFaults, match="tariffs: "):
            documents(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    "code", "versions", "versions[0]", V, f"{V}.effective_from", f"{V}.seasons", S, f"{S}.months", f"{S}.blocks", B,
    f"{B}.upto_kwh", f"{B}.rate", f"{V}.per_kwh_charges", f"{V}.per_kwh_charges[0]", f"{V}.fixed_charges[0]",
]  # fmt: skip


@given(st.sampled_from(PLACES), JSON)
def test_any_value_at_any_place_is_read_or_named_never_a_crash(place: str, value: Any) -> None:
    try:
        read_tariff(changed(good(), place, value), minor_digits=2)
    except TariffFaults as faults:
        assert faults.faults
