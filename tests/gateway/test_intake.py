"""What `prepaid load` refuses, what it stores, and what it says when it is asked again.

Covers: each fault of a file by name and line, all of them at once and nothing stored then; repeats within a file;
loading again with the same and with other content.
"""

from __future__ import annotations

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
from gateway.intake import Intake, IntakeFaults, read_folder, store_intake
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


def read(folder: Path) -> Intake:
    return read_folder(folder, UTILITY, NOW, WORLD.new_id)


def faults(folder: Path) -> list[str]:
    with pytest.raises(IntakeFaults) as caught:
        read(folder)
    return caught.value.faults


# --- what is refused --------------------------------------------------------------------------------------------------

PERCENT = 'a decimal number such as "2.5", without a percent sign, expected'
# fmt: off
CHANGED = [
    # file, row, column, value, fault
    ("arrears.csv", "DB-0001", "percent", "thirty", f"percent: {PERCENT}, got 'thirty'"),
    ("arrears.csv", "DB-0001", "percent", "30/1", f"percent: {PERCENT}, got '30/1'"),
    ("arrears.csv", "DB-0001", "percent", "-3", f"percent: {PERCENT}, got '-3'"),
    ("arrears.csv", "DB-0001", "percent", "101", "percent: 0 to 100 expected, got 101"),
    ("arrears.csv", "DB-0001", "outstanding", "-1", "outstanding: must not be negative, got -1"),
    ("arrears.csv", "DB-0001", "outstanding", "1,5", "outstanding: a decimal amount expected, got '1,5'"),
    ("arrears.csv", "DB-0001", "outstanding", "1e30", "outstanding: at most 10000000000000.00 expected, got 1e30"),
    ("arrears.csv", "DB-0002", "instalment", "-0.01", "instalment: must not be negative, got -0.01"),
    ("arrears.csv", "DB-0001", "mode", "percent", "mode: PERCENT, FIXED or FIRST expected, got 'percent'"),
    ("arrears.csv", "DB-0001", "status", "Active", "status: ACTIVE or SUSPENDED expected, got 'Active'"),
    ("arrears.csv", "DB-0001", "priority", "high", "priority: a whole number expected, got 'high'"),
    ("arrears.csv", "DB-0001", "account_no", "A9", "account_no: no customer 'A9' in customers.csv"),
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
    ("meters.csv", "04012345676", "tariff_code", "D9", "tariff_code: no tariff 'D9' in tariffs.json"),
    ("meters.csv", "04012345676", "tariff_code", "", "tariff_code: a value expected"),
    ("meters.csv", "07770000011", "service_point", "SP-9", "service_point: no customer at 'SP-9' in customers.csv"),
    ("meters.csv", "07770000011", "status", "INSTALLED",
     "service_point: a value expected, since the meter is INSTALLED"),
    ("meters.csv", "07770000011", "drn", "07770000029", "drn: 07770000029 stands in meters.csv line 22 already"),
    ("meters.csv", "07770000011", "encryption_algorithm", "seven",
     "encryption_algorithm: a whole number expected, got 'seven'"),
    ("phones.csv", "254722000002", "station_id", "ST9", "station_id: no station 'ST9' in stations.csv"),
    ("phones.csv", "254722000002", "msisdn", "254711013579",
     "msisdn: the same number stands in customers.csv line 2 already"),
    ("balances.csv", "wallet:A100001", "account", "wallet:A9", "account: no customer for 'wallet:A9' in customers.csv"),
    ("balances.csv", "wallet:A100001", "account", "float:ST9", "account: no station for 'float:ST9' in stations.csv"),
    ("balances.csv", "wallet:A100001", "account", "float:ST001",
     "account: station ST001 is on CREDIT and has no deposit"),
    ("balances.csv", "wallet:A100001", "account", "float:ST002",
     "account: stations.csv line 3 has the station's float already"),
    ("balances.csv", "wallet:A100001", "account", "tax:vat",
     "account: wallet:ACCOUNT or float:STATION expected, got 'tax:vat'"),
    ("balances.csv", "wallet:A100001", "amount", "0", "amount: more than zero expected"),
    ("balances.csv", "wallet:A100001", "amount", "-1", "amount: must not be negative, got -1"),
]
# fmt: on


@pytest.mark.parametrize(("name", "key", "column", "value", "fault"), CHANGED)
def test_a_bad_value_is_a_fault_with_file_and_line(
    folder: Path, name: str, key: str, column: str, value: str, fault: str
) -> None:
    line = change(folder, name, key, column, value)
    said = faults(folder)
    if "already" in fault and name not in ("balances.csv", "phones.csv"):
        assert any(f"{column}: " in each and "stands in" in each and name in each for each in said)
    else:
        assert f"{name} line {line}: {fault}" in said


# fmt: off
REPEATED = [
    ("customers.csv", "A100001", {"first_name": "Anna"}, ["account_no", "msisdn", "service_point"]),
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
    folder: Path, name: str, like: str, changes: dict[str, str], columns: list[str]
) -> None:
    line = append(folder, name, like, **changes)
    said = faults(folder)
    assert [fault.split(": ")[:2] for fault in said] == [[f"{name} line {line}", column] for column in columns]
    assert all(f"stands in {name} line " in fault for fault in said)


@pytest.mark.parametrize(("name", "like"), [(name, like) for name, like, _, _ in REPEATED])
def test_a_row_that_repeats_another_word_for_word_counts_once(folder: Path, name: str, like: str) -> None:
    before = read(folder).counts
    append(folder, name, like)
    assert read(folder).counts == before


def test_meters_at_one_service_point_sell_by_one_tariff(folder: Path) -> None:
    line = append(folder, "meters.csv", "04012345676", drn="07770000037", tariff_code="D2-IBT")
    assert faults(folder) == [
        f"meters.csv line {line}: tariff_code: D1-FLAT in meters.csv line 2, at the same service point"
    ]


def test_a_vat_written_as_a_fraction_is_questioned(folder: Path) -> None:
    change_tariff(folder, lambda tariffs: tariffs[0]["versions"][0].update(vat_percent="0.16"))
    (fault,) = faults(folder)
    assert fault.startswith("tariffs.json D1-FLAT: versions[0].vat_percent: 0.16 is less than one percent")


def test_two_tariffs_of_one_code_are_a_fault(folder: Path) -> None:
    change_tariff(folder, lambda tariffs: tariffs.append(tariffs[0]))
    assert faults(folder) == ["tariffs.json D1-FLAT: code: another tariff has it already"]


def test_all_faults_come_at_once_by_file_and_line_and_several_of_one_row(folder: Path) -> None:
    change(folder, "stations.csv", "ST002", "commission_percent", "0.02")
    change(folder, "arrears.csv", "DB-0006", "percent", "x")
    change(folder, "arrears.csv", "DB-0001", "percent", "thirty")
    change(folder, "arrears.csv", "DB-0001", "outstanding", "-1")
    change(folder, "customers.csv", "A100003", "language", "klingon")
    change(folder, "meters.csv", "04012345676", "tariff_code", "D9")
    change_tariff(folder, lambda tariffs: tariffs[1].update(units_rounding="SIDEWAYS"))
    assert [": ".join(fault.split(": ")[:2]) for fault in faults(folder)] == [
        "arrears.csv line 2: outstanding",
        "arrears.csv line 2: percent",
        "arrears.csv line 7: percent",
        "customers.csv line 4: language",
        "meters.csv line 2: tariff_code",
        "stations.csv line 3: commission_percent",
        "tariffs.json D2-IBT: units_rounding",
    ]


def test_a_column_that_is_missing_is_one_fault_and_not_one_for_each_line(folder: Path) -> None:
    text = (folder / "customers.csv").read_text(encoding="utf-8")
    (folder / "customers.csv").write_text(text.replace("msisdn,language", "phone,tongue"), encoding="utf-8")
    assert faults(folder) == ["customers.csv line 1: columns missing: msisdn, language"]
    (folder / "customers.csv").write_text("")
    assert len(faults(folder)) == 1


@pytest.mark.parametrize("content", [b"account,amount\nwallet:\xff,1\n", b'account,amount\n"wallet:A1,1\n'])
def test_what_is_no_utf_8_or_no_csv_is_a_fault(folder: Path, content: bytes) -> None:
    (folder / "balances.csv").write_bytes(content)
    (fault,) = faults(folder)
    assert fault.startswith("balances.csv: UTF-8 text with commas expected")


@pytest.mark.parametrize(("row", "words"), [("wallet:A1", "as many values"), ("wallet:A\0,1", "NUL")])
def test_a_line_that_is_no_row_is_a_fault(folder: Path, row: str, words: str) -> None:
    (folder / "balances.csv").write_text(f"account,amount\n{row}\n")
    (fault,) = faults(folder)
    assert fault.startswith("balances.csv line 2: ") and words in fault


def test_a_folder_without_its_files_is_told_so(tmp_path: Path) -> None:
    assert len(faults(tmp_path)) == 5


# --- loading, and loading again ---------------------------------------------------------------------------------------


async def load(store: Store, folder: Path) -> list[str]:
    return await store_intake(store, read(folder), UTILITY, WORLD, NOW)


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
            "19 balances were there already",
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
        await load(store, folder)
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
            "4 stations were there already; 2 of them differ from the file and were left as they are: ST002, ST001",
            "20 service points were there already; 1 of them differs from the file and was left as it is: SP-20009",
            "23 meters were there already; 1 of them differs from the file and was left as it is: 07770000011",
            "21 phones were there already; 1 of them differs from the file and was left as it is: 25472*****02",
            "6 debts were there already; 1 of them differs from the file and was left as it is: DB-0001",
            "19 balances were there already; 3 of them differ from the file and were left as they are: "
            "float:ST002, debt:DB-0002, wallet:A100001",
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
async def test_balances_that_a_broken_off_loading_left_out_are_brought_in_by_the_next(
    database_url: str, folder: Path
) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        intake = read(folder)
        balances, intake.balances = intake.balances, []
        await store_intake(store, intake, UTILITY, WORLD, NOW)
        assert balances
        told = await load(store, folder)
        assert "6 debts were there already" in told and not any("balance" in sentence for sentence in told)
        assert any("19 balances were there already" == sentence for sentence in await load(store, folder))
        assert await store.read(broken_invariants) == []
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
        with pytest.raises(IntakeFaults, match="tariffs.json: version 2026-01-01T00:00:00 of tariff D1-FLAT differs"):
            await load(store, folder)
        assert await contents(store) == before
    finally:
        await store.close()
