"""EA07 table sets: an operator's file is right in every respect or refused; the known answers tell sets apart."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.errors import Fault
from sts.knownanswer import known_answers
from sts.tables import SAMPLE, TableSet, TableSetError, inverse, table_set_from

GOOD: Final[dict[str, Any]] = {
    "enc_sub1": list(range(16)),
    "enc_sub2": list(range(15, -1, -1)),
    "enc_perm": list(range(63, -1, -1)),
}

# fmt: off
BAD: Final[list[tuple[str, str]]] = [
    ("not JSON",            "{"),
    ("empty",               ""),
    ("an array",            "[]"),
    ("a number",            "5"),
    ("deeply nested",       "[" * 100_000),
    ("missing member",      json.dumps({k: v for k, v in GOOD.items() if k != "enc_perm"})),
    ("extra member",        json.dumps({**GOOD, "dec_sub1": list(range(16))})),
    ("short",               json.dumps({**GOOD, "enc_sub1": list(range(15))})),
    ("long",                json.dumps({**GOOD, "enc_sub1": list(range(17))})),
    ("a value twice",       json.dumps({**GOOD, "enc_sub2": [0, *range(15)]})),
    ("out of range",        json.dumps({**GOOD, "enc_perm": list(range(1, 65))})),
    ("negative",            json.dumps({**GOOD, "enc_sub1": [-1, *range(1, 16)]})),
    ("booleans",            json.dumps({**GOOD, "enc_sub1": [False, True, *range(2, 16)]})),
    ("floats",              json.dumps({**GOOD, "enc_sub1": [0.0, *range(1, 16)]})),
    ("text",                json.dumps({**GOOD, "enc_sub1": ["0", *range(1, 16)]})),
    ("arrays inside",       json.dumps({**GOOD, "enc_sub1": [[0], *range(1, 16)]})),
    ("an object",           json.dumps({**GOOD, "enc_sub1": {str(n): n for n in range(16)}})),
]
# fmt: on


@pytest.mark.parametrize("text", [text for _, text in BAD], ids=[label for label, _ in BAD])
def test_malformed_table_file_is_refused_by_name(text: str) -> None:
    with pytest.raises(TableSetError) as refusal:
        table_set_from(text)
    assert refusal.value.fault is Fault.TABLE_SET
    assert refusal.value.__cause__ is None


def test_good_table_file_loads_and_hides_its_values() -> None:
    tables = table_set_from(json.dumps(GOOD), "utility")
    assert tables.permutation[0] == 63
    assert not tables.is_sample
    assert repr(tables) == "TableSet(name='utility')"


def test_the_sample_set_is_known_by_its_values_whatever_its_name() -> None:
    values = {
        "enc_sub1": SAMPLE.substitution_1,
        "enc_sub2": SAMPLE.substitution_2,
        "enc_perm": SAMPLE.permutation,
    }
    assert table_set_from(json.dumps(values), "operational").is_sample


@given(st.permutations(range(64)))
def test_inverse_undoes_a_permutation(permutation: list[int]) -> None:
    undone = inverse(permutation)
    assert [permutation[undone[i]] for i in range(64)] == list(range(64))


@given(st.text())
def test_any_text_is_refused_or_a_table_set(text: str) -> None:
    try:
        assert isinstance(table_set_from(text), TableSet)
    except TableSetError:
        pass


def test_known_answers_prove_the_program_and_tell_the_sample_set_from_the_operational_one() -> None:
    answers = known_answers()
    assert answers.program_is_sound
    assert not answers.operational_ea07
    assert answers.tables == "sample"
