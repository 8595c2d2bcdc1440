"""`prepaid bank` as people type it, and `prepaid simulate bank` where it cannot begin."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from gateway import __main__
from gateway.commands import bankday as bankday_commands
from ledger.bank_tables import bank_request
from ledger.bankfile import Header, Line, read, written
from ledger.bankmatch import Class
from tests.gateway.terminal import Terminal

DAY = date(2026, 6, 5)
LINE = Line(
    DAY, "0605093015", "000124", "113015", "0605", "R124", "ATM1", "627001", "04012345676", 50_000, "KES", "00", "",
    False,
)  # fmt: skip


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    terminal = Terminal(tmp_path, f"sqlite:///{tmp_path}/t.db", monkeypatch, capsys)
    terminal.tools = (*terminal.tools, bankday_commands)
    return terminal.set_up()


def _declined(connection: sa.Connection) -> None:
    """A request of the bank that came to nothing."""
    values: dict[str, Any] = {
        "id": UUID(int=77), "bank": "umoja", "function": "PURCHASE", "trace": None, "mti": "0200", "stan": "000125",
        "rrn": "R125", "terminal": "ATM1", "acceptor": "", "acquirer": "627001", "sent": "0605093016",
        "local_time": "113016", "local_date": "0605", "business_date": DAY, "amount_minor": 9_900, "currency": "404",
        "drn": "", "original": None, "outcome": "REFUSED", "reason": "METER_UNKNOWN", "code": "14", "answers": 0,
        "is_closed": False, "link": "umoja-1", "received_at": datetime(2026, 6, 5, tzinfo=UTC),
    }  # fmt: skip
    connection.execute(sa.insert(bank_request), values)


def test_a_day_from_the_file_to_the_payment(at: Terminal, tmp_path: Path) -> None:
    at.read(_declined)
    file = tmp_path / "umoja.day"
    header = Header("umoja", DAY, 1, datetime(2026, 6, 5, 21, tzinfo=UTC), "KES")
    file.write_bytes(written(header, [LINE, replace(LINE, stan="000125", rrn="R125", amount_minor=9_900)]))
    given = at.type(f"bank import umoja {file} --as fin.zoe")
    assert given.code == 1 and "1 MISSING_HERE" in given.out and "1 DECLINED_HERE" in given.out
    assert "we say 0.00, the bank says 599.00" in given.out and "2 differences are open" in given.out
    again = at.type(f"bank import umoja {file} --as fin.zoe")
    assert "it was taken before: nothing has changed" in again.out and "2 differences are open" in again.out
    codes = [line.split()[0] for line in again.out.splitlines() if "OPEN" in line]
    at.no(f"bank accept {codes[0]} --as fin.zoe", "a reason is needed")
    at.no(f"bank accept {codes[0]} --as op.ann --reason x", "op.ann")
    for code in codes:
        assert "ACCEPTED" in at.well(f"bank accept {code} --as fin.zoe --reason 'given back, their note 7'")
    assert "no difference is open" in at.well("bank match umoja 2026-06-05 --as fin.zoe")
    assert at.well("bank differences umoja --as aud.kay") == ""
    said = at.well(
        "bank paid umoja 2026-06-05 --amount 12.50 --reference S1 --paid-on 2026-06-05 --as fin.zoe --with fin.max"
    )
    assert "has paid 12.50" in said and at.balance("bank:umoja") == -1_250 and at.balance("clearing:umoja") == 1_250
    at.no(
        "bank paid umoja 2026-06-05 --amount 12.50 --reference S1 --paid-on 2026-06-05 --as fin.zoe --with fin.max",
        "booked already",
    )
    shown = at.well("bank show umoja 2026-06-05 --as aud.kay")
    assert "books  sold 0 0.00" in shown and "paid   12.50  S1" in shown and "given back, their note 7" in shown
    at.check()


def test_our_file_is_written_once_and_reads_as_agreed(at: Terminal, tmp_path: Path) -> None:
    at.read(_declined)
    path = tmp_path / "ours.day"
    assert "ours  sequence 1  1 lines" in at.well(f"bank export umoja 2026-06-05 --to {path} --as fin.zoe")
    file = read(path.read_bytes())
    assert file.header.bank == "umoja" and [line.code for line in file.lines] == ["14"]
    assert path.stat().st_mode & 0o077 == 0
    at.no(f"bank export umoja 2026-06-05 --to {path} --as fin.zoe", "does not exist yet expected", 2)
    at.no(f"bank export umoja 2026-06-05 --to {path}2 --as op.ann", "op.ann")


def test_a_file_that_is_not_as_agreed_says_where(at: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "bad.day"
    path.write_bytes(b"H\nT\n")
    at.no(f"bank import umoja {path} --as fin.zoe", "bad.day: line 1: 62 characters expected, got 1", 2)
    at.no("bank match umoja 2026-06-05 --as fin.zoe", "there is no file of umoja for 2026-06-05 yet")
    at.no("bank claim NONE --as fin.zoe --reason x", "there is no difference NONE")


def test_every_class_has_its_line_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "iso8583.md").read_text(encoding="utf-8")
    assert [kind for kind in Class if f"`{kind.value}`" not in page] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--profile nothing", "one of atm87"),
        ("--links 0", "--links: 1 to 1000 expected, got 0"),
        ("--profile {mac}", "PREPAID_SIMULATOR_ZAK"),
        ("--certificate nothing.pem", "nothing.pem"),
    ],
)
def test_a_switch_that_cannot_begin_says_why(
    options: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "mac.toml"
    profile.write_text('extends = "atm87"\nname = "mac"\n[mac]\nalg = "x919"\nkey_handle = "atm87.zak"\n')
    code = __main__.main(["simulate", "bank", "--port", "1", *options.format(mac=profile).split()])
    said = capsys.readouterr()
    assert code == 2 and words in said.err, said
