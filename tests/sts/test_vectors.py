"""Every row of the vector file, through `sts.selftest`: the codec and, where a module may make it, the software module.

Rows for the operational EA07 tables are checked up to the enciphering itself, which is a test of its own that is
skipped, and counted, without the tables. That the computation of a row can fail is shown in `test_selftest.py`.
"""

from collections import Counter
from typing import Final

import pytest

from sts.errors import Fault
from sts.selftest import Result, check_row, refusal_of
from tests.sts.rows import ROWS, TABLES_VARIABLE, Row, operational_tables

OPERATIONAL_ROWS: Final = [row for row in ROWS if row.get("sta_tables") == "operational"]


def _id(row: Row) -> str:
    return str(row["id"])


def test_the_file_holds_the_rows_it_should() -> None:
    assert len(ROWS) == 694
    assert len({row["id"] for row in ROWS}) == 694
    assert len(OPERATIONAL_ROWS) == 79
    assert Counter(row["kind"] for row in ROWS) == {
        "token": 511,
        "amount_field": 36,
        "decode_reject": 31,
        "tid": 24,
        "drn": 16,
        "vend_reject": 16,
        "sta_block": 14,
        "key_reject": 13,
        "misty1_block": 13,
        "crc": 12,
        "drn_reject": 5,
        "pan_reject": 2,
        "tid_sequence": 1,
    }


@pytest.mark.parametrize("row", ROWS, ids=_id)
def test_row_agrees_in_every_step_that_its_tables_allow(row: Row) -> None:
    finding = check_row(row)
    wanted = Result.SKIPPED if row.get("sta_tables") == "operational" else Result.PASSED
    assert finding.result is wanted, finding.as_json()


@pytest.mark.parametrize("row", OPERATIONAL_ROWS, ids=_id)
def test_operational_row_gives_the_published_token(row: Row) -> None:
    tables = operational_tables()
    if tables is None:
        pytest.skip(f"needs the operational EA07 tables, in the file that {TABLES_VARIABLE} names")
    finding = check_row(row, tables)
    assert finding.result is Result.PASSED, finding.as_json()


# What each hint of a reject row may be called here. For the self-test any refusal counts; for us the right one.
HINTS: Final = {
    "crc": {Fault.CRC},
    "format": {Fault.FORMAT},
    "class": {Fault.TOKEN_CLASS},
    "check_digit": {Fault.CHECK_DIGIT},
    "length": {Fault.FORMAT},
    "range": {Fault.OUT_OF_RANGE, Fault.BEFORE_BASE_DATE, Fault.UNSETTLED},
    "key_length": {Fault.KEY_LENGTH},
    "unsupported": {Fault.UNSUPPORTED, Fault.TOKEN_CLASS},
    "key_expired": {Fault.KEY_EXPIRED},
    "ddtk_credit": {Fault.DEFAULT_KEY_CREDIT},
    "key_type": {Fault.KEY_TYPE},
    "vk_before_base_date": {Fault.BEFORE_BASE_DATE},
}


@pytest.mark.parametrize("row", [row for row in ROWS if row["kind"].endswith("_reject")], ids=_id)
def test_reject_row_is_refused_by_the_right_name(row: Row) -> None:
    refusal = refusal_of(row)
    assert refusal is not None
    assert refusal.fault in set().union(*(HINTS[hint] for hint in row["expected"]["reasons"]))
    if "token" in row["inputs"]:
        assert row["inputs"]["token"] not in str(refusal)
