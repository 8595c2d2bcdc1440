"""`prepaid price`: every worked case in every field, bad lines by their number, and properties of any case."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import cases
from gateway.__main__ import main
from gateway.commands import prices as prices_commands
from ledger.tariffs_format import read_book

VECTORS = Path(__file__).parents[1] / "vectors"
TARIFFS = VECTORS / "tariffs.json"
BOOK = read_book(json.loads(TARIFFS.read_text()))
LINES = (VECTORS / "pricing_cases.jsonl").read_text().splitlines()
CASES = {case["id"]: case for case in map(json.loads, LINES)}


def priced(asked: bytes) -> tuple[int, list[Any], list[str]]:
    """Exit code, answers and complaints."""
    answers, complaints = io.StringIO(), io.StringIO()
    code = prices_commands.answer_all(BOOK, io.BytesIO(asked), answers, complaints)
    return code, [json.loads(line) for line in answers.getvalue().splitlines()], complaints.getvalue().splitlines()


def test_the_command_answers_every_worked_case_in_every_field() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "price", "--tariffs", str(TARIFFS)],
        input="\n".join(LINES).encode(),
        capture_output=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers == [{"id": case["id"], "results": case["expect"]} for case in CASES.values()]
    assert done.stderr == b""


def test_a_reader_who_stops_ends_the_command_without_a_word() -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "gateway", "price", "--tariffs", str(TARIFFS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdin and running.stdout and running.stderr
    running.stdout.close()
    with running.stderr:
        _, told = running.communicate((LINES[0] + "\n").encode() * 50)
    assert (running.returncode, told) == (141, b"")


def test_a_bad_line_is_told_by_its_number_and_the_others_are_answered() -> None:
    asked = [b'{"id": }', LINES[0].encode(), b"", b"\xff", LINES[1].encode()[:-20], b"[]", LINES[2].encode()]
    code, answers, complaints = priced(b"\n".join(asked))
    assert code == 2
    assert [answer["id"] for answer in answers] == ["S01", "S03"]
    assert [line.partition(": ")[2].partition(":")[0] for line in complaints] == [
        "line 1",
        "line 4",
        "line 5",
        "line 6",
    ]


def test_a_line_without_end_is_refused_without_being_held() -> None:
    long = b'{"id":"' + b"x" * 20_000_000 + b'"}\n'
    asked = io.BytesIO(long + LINES[0].encode())
    answers, complaints = io.StringIO(), io.StringIO()
    tracemalloc.start()
    try:
        assert prices_commands.answer_all(BOOK, asked, answers, complaints) == 2
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert json.loads(answers.getvalue())["id"] == "S01"
    assert complaints.getvalue() == "prepaid price: line 1: at most 1000000 octets expected\n"


REMOVED = object()
ACCOUNT, STATION, STEP = "initial.account", "initial.station", "steps[0]"
# (place, value put there, the complaint)
FAULTS: list[tuple[str, Any, str]] = [
    ("id", REMOVED, "id: a text expected"),
    ("initial", [], "initial: an object expected, got []"),
    ("steps", {}, "steps: a list expected, got {}"),
    (f"{ACCOUNT}.tariff", "D9", "initial.account.tariff: no tariff 'D9' in the file"),
    (f"{ACCOUNT}.counter_month", "2026-13", 'a month such as "2026-06" expected'),
    (f"{ACCOUNT}.fixed_through_date", "2026-02-30", 'a date such as "2026-06-30" expected'),
    (f"{ACCOUNT}.month_units_tenths", -1, "0 to 1000000000000000 expected, got -1"),
    (f"{ACCOUNT}.month_units_tenths", True, "a whole number expected, got True"),
    (f"{ACCOUNT}.carry_minor", 1.5, "a whole number expected, got 1.5"),
    (f"{ACCOUNT}.debts[1].id", "DB-1", "initial.account.debts[1].id: DB-1 stands there twice"),
    (f"{ACCOUNT}.debts[0].mode", "HALF", "PERCENT, FIXED or FIRST expected"),
    (f"{ACCOUNT}.debts[0].percent", "1e2", 'a decimal string from "0" to "100" expected'),
    (f"{STATION}.funding", "GIFT", "PREPAID or CREDIT expected"),
    (f"{STATION}.commission_percent", 2, 'a decimal string from "0" to "100" expected'),
    (f"{STEP}.op", "LEND", "BUY or REVERSE expected"),
    (f"{STEP}.channel", "FAX", "no channel 'FAX' in the file"),
    (f"{STEP}.at", "2026-06-03T09:00:00", 'an instant such as "2026-06-05T08:15:00Z" expected'),
    (f"{STEP}.amount_minor", "60000", "a whole number expected, got '60000'"),
    (f"{STEP}.request_id", REMOVED, "steps[0].request_id: missing"),
]


def changed(case: dict[str, Any], change: str, value: Any) -> dict[str, Any]:
    """The case with something put in one place, or taken from it."""
    document = copy.deepcopy(case)
    steps: list[Any] = [
        int(part) if part.isdigit() else part for part in change.replace("[", ".").replace("]", "").split(".")
    ]
    place: Any = document
    for step in steps[:-1]:
        place = place[step]
    if value is REMOVED:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value
    return document


@pytest.mark.parametrize(("change", "value", "words"), FAULTS)
def test_what_is_wrong_with_a_case_is_told_with_its_place(change: str, value: Any, words: str) -> None:
    with pytest.raises(cases.CaseFault) as caught:
        cases.answer(changed(CASES["S05"], change, value), BOOK)
    assert str(caught.value).startswith(change) and words in str(caught.value)


def test_a_key_that_stands_twice_is_told() -> None:
    line = LINES[0].replace('"tariff":"D1-FLAT"', '"tariff":"D1-FLAT","tariff":"D2-IBT"')
    code, answers, complaints = priced(line.encode())
    assert (code, answers) == (2, [])
    assert complaints == ["prepaid price: line 1: initial.account.tariff: stands there twice"]


def test_a_bad_tariff_file_is_refused_by_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tariffs.json"
    path.write_text(TARIFFS.read_text().replace('"vat_percent": "16"', '"vat_percent": "0.16"', 1))
    assert main(["price", "--tariffs", str(path)]) == 2
    assert f"{path}: tariffs[0].versions[0].vat_percent: 0.16 is less than one percent" in capsys.readouterr().err
    path.write_bytes(b"\xff\xfe")
    assert main(["price", "--tariffs", str(path)]) == 2
    assert "UTF-8 expected, octet 1 is not" in capsys.readouterr().err
    assert main(["price", "--tariffs", str(tmp_path / "none.json")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_station_on_credit_sells_up_to_its_limit_and_a_reversal_lowers_what_it_owes() -> None:
    case = changed(CASES["S07"], f"{STATION}.funding", "CREDIT")
    case["initial"]["station"] |= {"credit_limit_minor": 70_000, "owed_minor": 10_000, "commission_percent": "2.5"}
    case["steps"] = [case["steps"][0], case["steps"][3], {"op": "REVERSE", "ref": "r2", "at": "2026-06-03T09:08:00Z"}]
    first, second, reversed_ = cases.answer(case, BOOK)["results"]
    assert (first["station_available_after_minor"], first["commission_minor"]) == (30_000, 750)
    assert (second["status"], second["station_available_after_minor"]) == ("OK", 0)
    assert (reversed_["status"], reversed_["station_available_after_minor"]) == ("REVERSED", 30_000)


def test_a_reversal_of_any_but_the_last_purchase_is_refused_and_a_window_is_allowed_in_full() -> None:
    case = changed(CASES["S02"], "steps", [
        *CASES["S02"]["steps"],
        {"op": "REVERSE", "ref": "r1", "at": "2026-06-11T10:10:00Z"},
        {"op": "REVERSE", "ref": "r2", "at": "2026-06-12T10:30:00Z"},
        {"op": "REVERSE", "ref": "r1", "at": "2026-06-12T10:31:00Z"},
    ])  # fmt: skip
    results = cases.answer(case, BOOK)["results"]
    assert [result.get("error", result["status"]) for result in results[2:]] == [
        "E_REVERSE_NOT_LAST",
        "REVERSED",
        "E_REVERSE_WINDOW",
    ]
    assert results[3]["month_units_after_tenths"] == results[0]["month_units_after_tenths"]


PURCHASES = st.lists(
    st.tuples(st.integers(1, 400_000), st.integers(0, 70 * 24 * 60), st.sampled_from(["SMS", "ATM"])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(st.sampled_from(["S02", "S03", "S04", "S05", "S06", "S09"]), PURCHASES)
def test_parts_sum_to_the_money_and_reversing_everything_leads_back(
    case_id: str, purchases: list[tuple[int, int, str]]
) -> None:
    case = CASES[case_id]
    drn = case["initial"]["account"]["drn"]
    steps: list[dict[str, Any]] = []
    undo: list[dict[str, Any]] = []
    for number, (amount, minute, channel) in enumerate(purchases):
        at = (datetime(2026, 6, 1, tzinfo=UTC) + timedelta(minutes=minute)).isoformat()
        content = {"drn": drn, "amount_minor": amount, "channel": channel}
        steps.append({"op": "BUY", "request_id": str(number), "at": at, **content})
        undo.insert(0, {"op": "REVERSE", "ref": str(number), "at": at})
    results = cases.answer({**case, "steps": [*steps, *undo, *steps]}, BOOK)["results"]
    there, back, again = (results[start : start + len(steps)] for start in (0, len(steps), 2 * len(steps)))
    for step, result in zip(steps, there, strict=True):
        if result["status"] == "OK":
            assert step["amount_minor"] == (
                result["fee_minor"]
                + sum(result["debts"].values())
                + result["fixed_minor"]
                + result["energy_net_minor"]
                + result["energy_vat_minor"]
                + sum(result["charges_minor"].values())
                + result["carry_out_minor"]
                - result["carry_in_minor"]
            )
    assert {result.get("error") for result in back} <= {None, "E_REVERSE_UNKNOWN"}
    account, station = case["initial"]["account"], case["initial"]["station"]
    if done := [result for result in back if result["status"] == "REVERSED"]:
        assert done[-1] == {
            "status": "REVERSED",
            "month_units_after_tenths": account["month_units_tenths"],
            "carry_after_minor": account["carry_minor"],
            "fixed_shortfall_after_minor": account["fixed_shortfall_minor"],
            "debts_outstanding_after": {debt["id"]: debt["outstanding_minor"] for debt in account["debts"]},
            "station_available_after_minor": station["float_minor"],
        }
    # A request that was answered is answered so for ever; one that was refused may come again, and nothing has changed.
    assert [result | {"duplicate": True} if result["status"] == "OK" else result["error"] for result in there] == [
        result if result["status"] == "OK" else result["error"] for result in again
    ]
