"""`prepaid iso`: check, explain and selftest as an integrator uses them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from gateway.__main__ import main
from tests.channels.iso8583.records import FILE, row_of

PURCHASE = row_of("atm87-purchase")["hex"]
FRAMED = f"{len(PURCHASE) // 2:04X}{PURCHASE}"


def test_check_says_what_a_profile_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iso", "check", "atm87-bcd"]) == 0
    out = capsys.readouterr().out
    assert "atm87-bcd" in out and "TPDU" in out and "key        32 41 42 11 12 13 37" in out and out.endswith("well\n")


def test_check_names_every_fault_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bank.toml"
    path.write_text('extends = "atm87"\nname = "bank"\n[framing]\nkind = "bin5"\n[mac]\nalg = "x919"\npad = 3\n')
    assert main(["iso", "check", str(path)]) == 1
    err = capsys.readouterr().err
    assert "framing.kind" in err and "mac.pad" in err and "mac.key_handle" in err and "3 faults" in err


@pytest.mark.parametrize("arguments", [["iso", "check", "/nowhere/bank.toml"], ["iso", "selftest", "--vectors", "/no"]])
def test_file_that_is_not_there_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "No such file" in capsys.readouterr().err


def test_check_of_a_name_that_is_not_shipped_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iso", "check", "nobody"]) == 1
    assert "one of atm87" in capsys.readouterr().err


def test_explain_shows_a_message_masked_and_finds_its_frame(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iso", "explain", FRAMED]) == 0
    out = capsys.readouterr().out
    assert out.startswith("profile atm87, framing bin2, purchase\n")
    assert "502199******0017" in out and "5021990000000017" not in out and "48.01" in out and "01000000016" in out


@pytest.mark.parametrize("given", [[], ["-"]])
def test_explain_reads_standard_input_in_any_groups(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grouped = "\n".join(" ".join(FRAMED[at : at + 2] for at in range(line, line + 32, 2)) for line in range(0, 400, 32))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"0x{grouped}\n"))
    assert main(["iso", "explain", *given, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    facts = json.loads(line)
    assert (facts["profile"], facts["framing"], facts["mti"], facts["asked"]) == ("atm87", "bin2", "0200", "purchase")
    assert facts["fields"]["2"] == "502199******0017" and facts["fields"]["48.01"] == "01000000016"


def test_explain_by_a_given_profile_and_framing(capsys: pytest.CaptureFixture[str]) -> None:
    bcd = row_of("atm87-bcd-inquiry")["hex"]
    tpdu = f"{len(bcd) // 2 + 5:04X}6000010002{bcd}"
    assert main(["iso", "explain", "--profile", "atm87-bcd", "--framing", "bin2-tpdu", tpdu]) == 0
    assert "framing bin2-tpdu, inquiry" in capsys.readouterr().out
    assert main(["iso", "explain", "--framing", "none", tpdu]) == 1
    assert main(["iso", "explain", tpdu, tpdu]) == 0
    assert capsys.readouterr().out.count("inquiry") == 2


@pytest.mark.parametrize("name", ["pln2003-like-advice", "postilion87-purchase", "atm87-bcd-reversal-repeat"])
def test_explain_finds_the_dialect(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = row_of(name)
    assert main(["iso", "explain", row["hex"]]) == 0
    assert capsys.readouterr().out.startswith(f"profile {row['spec']}, framing none")


def test_explain_says_why_bytes_are_no_message_without_showing_them(capsys: pytest.CaptureFixture[str]) -> None:
    # DE4 with a letter in it; the PAN before it is in order.
    broken = PURCHASE.replace(b"000000005000".hex(), b"00000000500A".hex())
    assert main(["iso", "explain", "--profile", "atm87", broken]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "as atm87: field 4: digits expected, got another character" in err and "50219900" not in err


@pytest.mark.parametrize("given", ["abc", "xyz", "", "00" * 70_000])
def test_explain_of_what_is_no_hex_ends_with_2(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    assert main(["iso", "explain"]) == 2
    assert "expected" in capsys.readouterr().err


def test_selftest_passes_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iso", "selftest", "--vectors", str(FILE)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": 177, "passed": 177, "skipped": 0, "differ": 0, "unreadable": 0,
    }  # fmt: skip


def test_selftest_has_a_line_for_each_record_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = row_of("atm87-echo"), row_of("mac-9797-1-alg1-a")
    one["fields"]["70"], other["mac"] = "001", "00" * 8
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [one, other, row_of("atm87-sign-on")])) + "\nrubbish\n")
    assert main(["iso", "selftest", "--vectors", str(path)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("id") for line in lines[:3]] == [None, "atm87-echo", "mac-9797-1-alg1-a"]
    assert (lines[1]["field"], lines[1]["expected"], lines[1]["got"]) == ("fields.70", "001", "301")
    assert lines[-1] == {"rows": 4, "passed": 1, "skipped": 0, "differ": 2, "unreadable": 1}


def test_selftest_of_an_empty_file_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n")
    assert main(["iso", "selftest", "--vectors", str(path)]) == 2
    assert "at least one record" in capsys.readouterr().err
