"""What `prepaid load` refuses, what it stores, and what it says when it is asked again.

Covers: each fault of a file by name and line, all of them at once and nothing stored then; repeats within a file;
loading again with the same and with other content.
"""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from gateway.demo import FOLDER, UTILITY
from gateway.intake import IntakeFaults, load_folder
from gateway.world import RealWorld
from ledger.all_tables import metadata
from ledger.store import Store, migrate, open_store
from ledger.trial_balance import broken_invariants

WORLD = RealWorld()
NOW = datetime(2026, 6, 3, 12, 0, tzinfo=ZoneInfo(UTILITY.timezone))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sample utility, to be spoilt."""
    copy = tmp_path / "utility"
    shutil.copytree(FOLDER, copy)
    return copy


def change(folder: Path, name: str, key: str, column: str, value: str) -> int:
    """Change one value in the row whose first column is `key`; the line it stands in."""
    path = folder / name
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    (line,) = [number for number, row in enumerate(rows) if row[0] == key]
    rows[line][rows[0].index(column)] = value
    _write(path, rows)
    return line + 1


def append(folder: Path, name: str, like: str, /, **changes: str) -> int:
    """Add a row like the one whose first column is `like`; its line."""
    path = folder / name
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    (model,) = [row for row in rows if row[0] == like]
    added = [changes.get(column, value) for column, value in zip(rows[0], model, strict=True)]
    _write(path, [*rows, added])
    return len(rows) + 1


def _write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def change_tariff(folder: Path, spoil: Callable[[list[dict[str, Any]]], object]) -> None:
    document = json.loads((folder / "tariffs.json").read_text(encoding="utf-8"))
    spoil(document["tariffs"])
    (folder / "tariffs.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that stays empty, since nothing is stored where there is a fault."""
    url = f"sqlite:///{tmp_path_factory.mktemp('empty')}/empty.db"
    asyncio.run(migrate(url))
    return url


def faults(url: str, folder: Path) -> list[str]:
    """What loading the folder into the empty database comes to; it stays empty."""

    async def look() -> list[str]:
        store = await open_store(url)
        try:
            with pytest.raises(IntakeFaults) as caught:
                await load_folder(store, folder, UTILITY, WORLD, NOW)
            assert not any((await contents(store)).values())
            return caught.value.faults
        finally:
            await store.close()

    return asyncio.run(look())


# --- what is refused --------------------------------------------------------------------------------------------------

COMMAS = ": no commas or blanks in a number, and a point before decimals"
PERCENT = 'a decimal number such as "2.5", without a percent sign, expected'
# fmt: off
CHANGED = [
    # file, row, column, value, fault
    ("arrears.csv", "DB-0001", "percent", "thirty", f"percent: {PERCENT}, got 'thirty'"),
    ("arrears.csv", "DB-0001", "percent", "30/1", f"percent: {PERCENT}, got '30/1'"),
    ("arrears.csv", "DB-0001", "percent", "-3", f"percent: {PERCENT}, got '-3'"),
    ("arrears.csv", "DB-0001", "percent", "101", "percent: 0 to 100 expected, got 101"),
    ("arrears.csv", "DB-0001", "outstanding", "-1", "outstanding: must not be negative, got -1"),
    ("arrears.csv", "DB-0001", "outstanding", "1,5", f"outstanding: a decimal amount expected, got '1,5'{COMMAS}"),
    ("arrears.csv", "DB-0001", "outstanding", "1234567890123456",
     "outstanding: at most 10000000000000.00 expected, got 1234567890123456"),
    ("arrears.csv", "DB-0001", "outstanding", "1e30", "outstanding: a decimal amount expected, got '1e30'"),
    ("arrears.csv", "DB-0002", "instalment", "-0.01", "instalment: must not be negative, got -0.01"),
    ("arrears.csv", "DB-0001", "mode", "percent", "mode: PERCENT, FIXED or FIRST expected, got 'percent'"),
    ("arrears.csv", "DB-0001", "status", "Active", "status: ACTIVE, SUSPENDED or WRITTEN_OFF expected, got 'Active'"),
    ("arrears.csv", "DB-0001", "priority", "high", "priority: a whole number expected, got 'high'"),
    ("arrears.csv", "DB-0001", "account_no", "A9", "account_no: no customer 'A9'"),
    ("stations.csv", "ST002", "commission_percent", "2%", f"commission_percent: {PERCENT}, got '2%'"),
    ("stations.csv", "ST002", "commission_percent", "0.02",
     "commission_percent: 0.02 percent? write 2 for two percent"),
    ("stations.csv", "ST002", "commission_percent", "0.099",
     "commission_percent: 0.099 percent? write 2 for two percent"),
    ("stations.csv", "ST002", "commission_percent", "200", "commission_percent: 0 to 100 expected, got 200"),
    ("stations.csv", "ST002", "funding", "GIFT", "funding: PREPAID or CREDIT expected, got 'GIFT'"),
    ("stations.csv", "ST002", "float", "-5", "float: must not be negative, got -5"),
    ("stations.csv", "ST003", "owed", "80000.01", "owed: at most the credit_limit, 80000.00, expected"),
    ("customers.csv", "A100001", "language", "klingon",
     "language: ar, en, fr, pt or sw expected, got 'klingon'"),
    ("customers.csv", "A100001", "language", "", "language: ar, en, fr, pt or sw expected, got ''"),
    ("customers.csv", "A100001", "account_no", "A100002", "account_no: A100002 stands in customers.csv line 2 already"),
    ("customers.csv", "A100002", "msisdn", "254711013579",
     "msisdn: the same number stands in customers.csv line 2 already"),
    ("customers.csv", "A100001", "msisdn", "+254 711", "msisdn: 6 to 15 digits expected"),
    ("customers.csv", "A100001", "free_kwh_per_month", "-1",
     "free_kwh_per_month: a whole number expected, got '-1'"),
    ("meters.csv", "04012345676", "tariff_code", "D9", "tariff_code: no tariff 'D9'"),
    ("meters.csv", "04012345676", "tariff_code", "", "tariff_code: a value expected"),
    ("meters.csv", "04012345676", "service_point", "SP-9", "service_point: no customer at 'SP-9'"),
    ("meters.csv", "04012345676", "meter_pan", "600727040123456762",
     "meter_pan: 600727040123456761 expected, as it follows from the meter number, got '600727040123456762'"),
    ("meters.csv", "07770000011", "status", "INSTALLED",
     "service_point: a value expected, since the meter is INSTALLED"),
    ("meters.csv", "07770000011", "drn", "07770000029", "drn: 07770000029 stands in meters.csv line 22 already"),
    ("meters.csv", "07770000011", "encryption_algorithm", "seven",
     "encryption_algorithm: a whole number expected, got 'seven'"),
    ("phones.csv", "254722000002", "station_id", "ST9", "station_id: no station 'ST9'"),
    ("phones.csv", "254722000002", "msisdn", "254711013579",
     "msisdn: the same number stands in customers.csv line 2 already"),
    ("balances.csv", "wallet:A100001", "account", "wallet:A9", "account: no customer for 'wallet:A9'"),
    ("balances.csv", "wallet:A100001", "account", "float:ST9", "account: no station for 'float:ST9'"),
    ("balances.csv", "wallet:A100001", "account", "float:ST001",
     "account: station ST001 is on CREDIT and has no deposit"),
    ("balances.csv", "wallet:A100001", "account", "float:ST002",
     "account: the station's line has its float already"),
    ("balances.csv", "wallet:A100001", "account", "tax:vat",
     "account: wallet:ACCOUNT or float:STATION expected, got 'tax:vat'"),
    ("balances.csv", "wallet:A100001", "amount", "0", "amount: more than zero expected"),
    ("balances.csv", "wallet:A100001", "amount", "-1", "amount: must not be negative, got -1"),
]
# fmt: on


@pytest.mark.parametrize(("name", "key", "column", "value", "fault"), CHANGED)
def test_a_bad_value_is_a_fault_with_file_and_line(
    empty: str, folder: Path, name: str, key: str, column: str, value: str, fault: str
) -> None:
    line = change(folder, name, key, column, value)
    said = faults(empty, folder)
    if "already" in fault and name not in ("balances.csv", "phones.csv"):
        assert any(f"{column}: " in each and "stands in" in each and name in each for each in said)
    else:
        assert f"{name} line {line}: {fault}" in said


# fmt: off
REPEATED = [
    ("customers.csv", "A100001", {"first_name": "Anna", "area": "Elsewhere"}, ["account_no", "service_point"]),
    ("customers.csv", "A100001", {"account_no": "A9", "msisdn": "254700000000"}, ["service_point"]),
    ("meters.csv", "07770000011", {"status": "SCRAPPED"}, ["drn"]),
    ("stations.csv", "ST001", {"name": "Another"}, ["station_id"]),
    ("arrears.csv", "DB-0001", {"outstanding": "1.00"}, ["debt_id"]),
    ("phones.csv", "254722000002", {"station_id": "ST001"}, ["msisdn"]),
    ("balances.csv", "wallet:A100001", {"amount": "1.00"}, ["account"]),
]
# fmt: on


@pytest.mark.parametrize(("name", "like", "changes", "columns"), REPEATED)
def test_a_key_that_stands_in_two_different_rows_is_a_fault(
    empty: str, folder: Path, name: str, like: str, changes: dict[str, str], columns: list[str]
) -> None:
    line = append(folder, name, like, **changes)
    said = faults(empty, folder)
    assert [fault.split(": ")[:2] for fault in said] == [[f"{name} line {line}", column] for column in columns]
    assert all(f"stands in {name} line " in fault for fault in said)


def test_meters_at_one_service_point_sell_by_one_tariff(empty: str, folder: Path) -> None:
    line = append(folder, "meters.csv", "04012345676", drn="07770000037", meter_pan="", tariff_code="D2-IBT")
    assert faults(empty, folder) == [
        f"meters.csv line {line}: tariff_code: another one than in meters.csv line 2, at the same service point"
    ]


def test_a_vat_written_as_a_fraction_is_questioned(empty: str, folder: Path) -> None:
    change_tariff(folder, lambda tariffs: tariffs[0]["versions"][0].update(vat_percent="0.16"))
    (fault,) = faults(empty, folder)
    assert fault.startswith("tariffs.json entry 1: D1-FLAT: versions[0].vat_percent: 0.16 is less than one percent")


def test_two_tariffs_of_one_code_are_a_fault(empty: str, folder: Path) -> None:
    change_tariff(folder, lambda tariffs: tariffs.append({**tariffs[0], "name": "Another"}))
    assert faults(empty, folder) == ["tariffs.json entry 5: code: D1-FLAT stands in tariffs.json entry 1 already"]


def test_all_faults_come_at_once_by_file_and_line_and_several_of_one_row(empty: str, folder: Path) -> None:
    change(folder, "stations.csv", "ST002", "commission_percent", "0.02")
    change(folder, "arrears.csv", "DB-0006", "percent", "x")
    change(folder, "arrears.csv", "DB-0001", "percent", "thirty")
    change(folder, "arrears.csv", "DB-0001", "outstanding", "-1")
    change(folder, "customers.csv", "A100003", "language", "klingon")
    change(folder, "meters.csv", "04012345676", "tariff_code", "D9")
    change_tariff(folder, lambda tariffs: tariffs[1].update(units_rounding="SIDEWAYS"))
    assert [": ".join(fault.split(": ")[:2]) for fault in faults(empty, folder)] == [
        "tariffs.json entry 2: D2-IBT",
        "customers.csv line 4: language",
        "stations.csv line 3: commission_percent",
        "meters.csv line 2: tariff_code",
        "arrears.csv line 2: outstanding",
        "arrears.csv line 2: percent",
        "arrears.csv line 7: percent",
    ]


def test_a_column_that_is_missing_is_one_fault_and_not_one_for_each_line(empty: str, folder: Path) -> None:
    text = (folder / "customers.csv").read_text(encoding="utf-8")
    (folder / "customers.csv").write_text(text.replace("msisdn,language", "phone,tongue"), encoding="utf-8")
    (fault,) = faults(empty, folder)
    assert fault.startswith(
        "customers.csv line 1: columns missing: language; columns that such a file does not have: 'phone', 'tongue' ("
    )
    (folder / "customers.csv").write_text("")
    assert len(faults(empty, folder)) == 1


@pytest.mark.parametrize(("row", "words"), [("wallet:A1", "as many values"), ("wallet:A\0,1", "NUL")])
def test_a_line_that_is_no_row_is_a_fault(empty: str, folder: Path, row: str, words: str) -> None:
    (folder / "balances.csv").write_text(f"account,amount\n{row}\n")
    (fault,) = faults(empty, folder)
    assert fault.startswith("balances.csv line 2: ") and words in fault


def test_a_folder_without_its_files_is_told_so(empty: str, tmp_path: Path) -> None:
    assert len(faults(empty, tmp_path)) == 5


# --- loading, and loading again ---------------------------------------------------------------------------------------


async def load(store: Store, folder: Path) -> list[str]:
    return (await load_folder(store, folder, UTILITY, WORLD, NOW)).told()


async def contents(store: Store) -> dict[str, list[Any]]:
    def look(connection: sa.Connection) -> dict[str, list[Any]]:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table))))
            for table in metadata.sorted_tables
            if table.name not in ("audit",)
        }

    return await store.read(look)


@pytest.mark.asyncio
async def test_loading_twice_changes_nothing_and_says_what_was_there(database_url: str, folder: Path) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        assert await load(store, folder) == []
        before = await contents(store)
        assert await load(store, folder) == [
            "4 tariffs were there already",
            "20 customers were there already",
            "4 stations were there already",
            "20 service points were there already",
            "23 meters were there already",
            "21 phones were there already",
            "6 debts were there already",
            "11 balances were there already",
        ]
        assert await contents(store) == before
        assert await store.read(broken_invariants) == []
    finally:
        await store.close()


@pytest.mark.asyncio
async def test_what_is_there_with_other_content_is_told_and_left_as_it_is(database_url: str, folder: Path) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        assert await load(store, folder) == []
        before = await contents(store)
        for number in range(1, 8):
            change(folder, "customers.csv", f"A10000{number}", "first_name", "Another")
        change(folder, "customers.csv", "A100009", "area", "Elsewhere")
        change(folder, "stations.csv", "ST001", "credit_limit", "1.00")
        change(folder, "stations.csv", "ST002", "commission_percent", "3")
        change(folder, "stations.csv", "ST002", "float", "26000.00")
        change(folder, "meters.csv", "07770000011", "status", "SCRAPPED")
        change(folder, "phones.csv", "254722000002", "station_id", "ST003")
        change(folder, "arrears.csv", "DB-0001", "percent", "40")
        change(folder, "arrears.csv", "DB-0002", "outstanding", "9.00")
        change(folder, "balances.csv", "wallet:A100001", "amount", "9.00")
        assert await load(store, folder) == [
            "4 tariffs were there already",
            "20 customers were there already; 7 of them differ from the file and were left as they are: "
            "A100001, A100002, A100003, A100004, A100005 and 2 more",
            "4 stations were there already; 2 of them differ from the file and were left as they are: ST001, ST002",
            "20 service points were there already; 1 of them differs from the file and was left as it is: SP-20009",
            "23 meters were there already; 1 of them differs from the file and was left as it is: 07770000011",
            "21 phones were there already; 1 of them differs from the file and was left as it is: 25472*****02",
            "6 debts were there already; 2 of them differ from the file and were left as they are: DB-0001, DB-0002",
            "11 balances were there already; 1 of them differs from the file and was left as it is: wallet:A100001",
        ]
        assert await contents(store) == before
    finally:
        await store.close()


@pytest.mark.asyncio
async def test_a_debt_that_was_there_without_its_sum_does_not_get_one(database_url: str, folder: Path) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        change(folder, "arrears.csv", "DB-0001", "outstanding", "0")
        await load(store, folder)
        before = await contents(store)
        change(folder, "arrears.csv", "DB-0001", "outstanding", "5.00")
        told = await load(store, folder)
        assert (
            "6 debts were there already; 1 of them differs from the file and was left as it is: DB-0001" in told
        ) and await contents(store) == before
    finally:
        await store.close()


@pytest.mark.asyncio
async def test_a_tariff_that_contradicts_the_one_stored_refuses_the_folder(database_url: str, folder: Path) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        await load(store, folder)
        before = await contents(store)
        change_tariff(folder, lambda tariffs: tariffs[0]["versions"][0].update(vat_percent="17"))
        append(folder, "balances.csv", "wallet:A100001", account="wallet:A100020")
        with pytest.raises(
            IntakeFaults, match="tariffs.json entry 1: code: version 2026-01-01T00:00:00 of tariff D1-FLAT differs"
        ):
            await load(store, folder)
        assert await contents(store) == before
    finally:
        await store.close()
