"""Rows of `tests/vectors/sts.jsonl`, and the small translations that several tests need."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sts import amounts, tid
from sts.derivation import VendingKey
from sts.keychange import key_change_set
from sts.meterkey import MeterKey
from sts.numbers import MeterNumber
from sts.tables import TableSet, table_set_from
from sts.tokens import (
    ClearCredit,
    ClearTamper,
    Credit,
    CurrencyCredit,
    MeterTest,
    Resource,
    SetMaximumPower,
    SetPhaseUnbalance,
    SetTariffRate,
    SetWaterFactor,
    Token,
)

Row = dict[str, Any]

ROWS: Final[list[Row]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "vectors" / "sts.jsonl").read_text(encoding="utf-8").splitlines()
]

TABLES_VARIABLE: Final = "PREPAID_TEST_STA_TABLES"


def rows_of(*kinds: str) -> list[Row]:
    """The rows of these kinds, in file order."""
    return [row for row in ROWS if row["kind"] in kinds]


def operational_tables() -> TableSet | None:
    """The operational EA07 tables, if whoever runs the tests has them."""
    path = os.environ.get(TABLES_VARIABLE)
    return table_set_from(Path(path).read_text(encoding="utf-8"), "operational") if path else None


def moment(text: str) -> datetime:
    """An `issued_at` as an aware time; the rows without a zone mean UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def handle_of(inputs: Row, **changes: object) -> MeterKey:
    """The MeterKey of a row. Rows without a base date use DKGA02, whose keys do not depend on it."""
    facts = {**inputs, **changes}
    return MeterKey(
        drn=facts["drn"],
        iin=facts["iin"],
        supply_group=facts["sgc"],
        key_type=facts["key_type"],
        tariff_index=facts["ti"],
        key_revision=facts["krn"],
        key_expiry=facts["ken"],
        base_date=facts.get("base_date", 1993),
        ea=facts["ea"],
        dkga=facts["dkga"],
    )


def vending_key_of(inputs: Row) -> VendingKey:
    """The vending key of a row."""
    return VendingKey(inputs["dkga"], bytes.fromhex(inputs["vending_key_hex"]))


def new_handle_of(inputs: Row) -> MeterKey:
    """The handle of the key that a key-change row leads to."""
    return handle_of({**inputs, **inputs["new"]})


def new_vending_key_of(inputs: Row) -> VendingKey:
    """The vending key that a key-change row leads to."""
    return VendingKey(inputs["dkga"], bytes.fromhex(inputs["new"]["vending_key_hex"]))


def pan_matches(inputs: Row) -> bool:
    """Do the row's PAN, issuer and meter number belong together?"""
    number = MeterNumber.from_pan(inputs["pan"])
    return (number.drn, number.iin, number.pan) == (inputs["drn"], inputs["iin"], inputs["pan"])


def token_of_row(row: Row, tid_of_row: int | None = None) -> Token:
    """The token that a `token` row asks for, built from its inputs alone."""
    inputs = row["inputs"]
    token_class, subclass = inputs["class"], inputs["subclass"]
    if token_class == 1:
        return MeterTest(inputs["mfr_code"], inputs["control"])
    if token_class == 2 and subclass in (3, 4, 8, 9):
        new = new_handle_of(inputs)
        sections = key_change_set(
            new_vending_key_of(inputs).derive(new), new, rollover=bool(inputs["new"].get("ro", 0))
        )
        return sections[{3: 0, 4: 1, 8: 2, 9: 3}[subclass]]
    at = tid_of_row if tid_of_row is not None else tid.tid_at(moment(inputs["issued_at"]), inputs["base_date"])
    if token_class == 0 and subclass >= 4:
        return CurrencyCredit(Resource(subclass), at, amounts.currency_up(inputs["amount_1e-5_currency"]))
    rnd = inputs["rnd"]
    if token_class == 0:
        return Credit(Resource(subclass), at, rnd, amounts.field_up(inputs["amount_tenths"]))
    match subclass:
        case 0:
            return SetMaximumPower(at, rnd, amounts.field_up(inputs["maximum_power_limit_w"]))
        case 1:
            return ClearCredit(at, rnd, inputs["register"])
        case 2:
            return SetTariffRate(at, rnd, inputs["rate"])
        case 5:
            return ClearTamper(at, rnd)
        case 6:
            return SetPhaseUnbalance(at, rnd, amounts.field_up(inputs["unbalance_limit_w"]))
        case 7:
            return SetWaterFactor(at, rnd, inputs["water_meter_factor"])
    raise AssertionError(f"row {row['id']}: no such token")
