"""Rows of `tests/vectors/sts.jsonl`, what their inputs name, and the tables that whoever runs the tests may have.

What a row computes is `sts.selftest`'s to say; here are only its parts for tests that make tokens their own way.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

from sts import vectorrows
from sts.derivation import VendingKey
from sts.meterkey import MeterKey
from sts.tables import TableSet, table_set_from
from sts.vectorrows import Inputs

Row = dict[str, Any]

FILE: Final = Path(__file__).parents[1] / "vectors" / "sts.jsonl"

ROWS: Final[list[Row]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]

TABLES_VARIABLE: Final = "PREPAID_TEST_STA_TABLES"


def rows_of(*kinds: str) -> list[Row]:
    """The rows of these kinds, in file order."""
    return [row for row in ROWS if row["kind"] in kinds]


def row_of(identity: str) -> Row:
    """The row with this id, a copy that may be changed."""
    found: Row = json.loads(json.dumps(next(row for row in ROWS if row["id"] == identity)))
    return found


def operational_tables() -> TableSet | None:
    """The operational EA07 tables, if whoever runs the tests has them."""
    path = os.environ.get(TABLES_VARIABLE)
    return table_set_from(Path(path).read_text(encoding="utf-8"), "operational") if path else None


def handle_of(inputs: Row) -> MeterKey:
    """The MeterKey of a row's inputs."""
    return vectorrows.handle_of(Inputs(inputs, "inputs"))


def vending_key_of(inputs: Row) -> VendingKey:
    """The vending key of a row's inputs."""
    return vectorrows.vending_key_of(Inputs(inputs, "inputs"))


def new_handle_of(inputs: Row) -> MeterKey:
    """The handle of the key that a key-change row leads to."""
    return handle_of({**inputs, **inputs["new"]})


def new_vending_key_of(inputs: Row) -> VendingKey:
    """The vending key that a key-change row leads to."""
    return vending_key_of({**inputs, **inputs["new"]})
