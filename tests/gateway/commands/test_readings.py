"""`prepaid readings report` on both databases: readings of the sample's meters beside sales at a counter.

Covers: what is between two readings and what is not, free units, a sale that was undone, no earlier reading, no reading
at all, a register that went back, another register, a page of one, meters by number and area, both formats, who may.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ledger import reading_report, tables
from ledger.bulk_tables import reading
from tests.gateway.terminal import METER, OTHER, Terminal


@pytest.fixture
def desk(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """The sample utility on each database."""
    return Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()


def _read(desk: Terminal, drn: str, days: int, tenths: int, register: str = "TOTAL") -> None:
    """A reading so many days from now."""
    at = desk.world.now() + timedelta(days=days)

    def store(connection: sa.Connection) -> None:
        of = connection.execute(sa.select(tables.meter.c.id).where(tables.meter.c.drn == drn)).scalar_one()
        connection.execute(
            reading.insert().values(
                meter_id=of,
                register=register,
                read_at=at,
                value_tenths=tenths,
                source="HANDHELD",
                reader="rd.01",
                remark="",
                recorded_at=at,
            )  # fmt: skip
        )

    desk.read(store)


def _report(desk: Terminal, *options: str) -> list[dict[str, Any]]:
    said = desk.type(f"readings report --month {desk.world.now():%Y-%m} --as aud.kay {' '.join(options)}")
    assert said.code == 0, said
    return list(csv.DictReader(io.StringIO(said.out)))


def _units(desk: Terminal) -> int:
    t = tables.token.c
    wanted = sa.select(sa.func.sum(t.units_tenths)).where(t.kind.in_(("credit", "free")))
    return int(desk.read(lambda connection: connection.execute(wanted).scalar_one()))


def test_what_was_used_between_two_readings_stands_beside_what_was_sold(
    desk: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_report, "_PAGE", 1)
    _read(desk, METER, -400, 9_000)
    _read(desk, METER, -40, 10_000)
    _read(desk, METER, -1, 10_300)  # within the month, and not its last
    desk.well(f"sell --as ag.njeri --meter {METER} --amount 500")
    sold = _units(desk)
    assert sold > 0
    desk.world.advance(seconds=60)
    _read(desk, METER, 0, 10_505)
    _read(desk, METER, 0, 77_777, "REVERSE")
    desk.world.advance(seconds=60)
    desk.well(f"sell --as ag.njeri --meter {METER} --amount 600")  # after the reading
    _read(desk, OTHER, 0, 500)
    _read(desk, "07003012221", -40, 500)
    _read(desk, "07003012221", 0, 499)
    rows = {row["drn"]: row for row in _report(desk)}
    difference = sold - 505
    row = rows[METER]
    assert (row["since_kwh"], row["reading_kwh"], row["used_kwh"], row["sold_kwh"], row["remark"]) == (
        "1000.0", "1050.5", "50.5", f"{sold // 10}.{sold % 10}", "",
    )  # fmt: skip
    assert row["difference_kwh"] == f"{'-' if difference < 0 else ''}{abs(difference) // 10}.{abs(difference) % 10}"
    assert row["read_at"].endswith("+03:00") and row["since"] < row["read_at"]
    row = rows[OTHER]
    assert (row["reading_kwh"], row["since"], row["used_kwh"], row["sold_kwh"]) == ("50.0", "", "", "")
    assert row["remark"] == "NO_EARLIER_READING"
    row = rows["07003012221"]
    assert (row["used_kwh"], row["sold_kwh"], row["difference_kwh"], row["remark"]) == ("-0.1", "0.0", "", "WENT_BACK")
    unread = [row for row in rows.values() if row["remark"] == "NO_READING"]
    assert len(unread) == len(rows) - 3 == 16  # installed or blocked, and never read
    assert list(rows) == sorted(rows)


def test_a_sale_that_was_undone_is_not_among_what_was_sold_and_two_readings_of_a_month_do(desk: Terminal) -> None:
    _read(desk, METER, 0, 100)
    desk.world.advance(seconds=60)
    desk.well(f"sell --as ag.njeri --meter {METER} --amount 500")
    sold = _units(desk)
    desk.read(lambda connection: connection.execute(tables.purchase.update().values(state="SEALED")).rowcount)
    desk.world.advance(seconds=60)
    desk.well(f"sell --as ag.njeri --meter {METER} --amount 700")
    sold = _units(desk) - sold
    desk.world.advance(seconds=60)
    _read(desk, METER, 0, 100)
    (row,) = _report(desk, f"--meter {METER}")
    assert (row["used_kwh"], row["sold_kwh"]) == ("0.0", f"{sold // 10}.{sold % 10}") and row["remark"] == ""


def test_the_report_is_of_an_area_in_json_lines_for_those_who_may(desk: Terminal) -> None:
    area = str(
        desk.read(
            lambda connection: connection.execute(
                sa.select(tables.service_point.c.area)
                .join_from(tables.meter, tables.service_point)
                .where(tables.meter.c.drn == METER)
            ).scalar_one()
        )
    )
    out = desk.folder / "report.jsonl"
    month = f"{desk.world.now():%Y-%m}"
    said = desk.type(f"readings report --month {month} --area '{area}' --out {out} --as fin.zoe")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert said.code == 0 and METER in {row["drn"] for row in rows} and {row["area"] for row in rows} == {area}
    assert said.err == f"{len(rows)} meters, {len(rows)} of them without a reading in {month}\n"
    desk.no(f"readings report --month {month} --as ag.njeri", "has not the role")
    assert desk.type("readings report --month 2026-13 --as fin.zoe").code == 2
    assert desk.type(f"readings report --month {month} --out {out} --as fin.zoe").code == 2  # it is there already
