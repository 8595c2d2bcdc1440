"""`prepaid settlement` and deposits of customers, typed at a terminal."""

from __future__ import annotations

import argparse
import csv
import io
import json
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.commands import settlement
from ledger import tables
from ledger.accounts import id_of
from tests.gateway.terminal import METER, Terminal
from tests.simulation.shop import AMINA

HEADER = "value_date,provider,provider_ref,amount,fee,our_ref\n"


@pytest.fixture
def terminal(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    return Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()


def statement(terminal: Terminal, name: str, *rows: str) -> Path:
    day = terminal.world.now().date()
    path = terminal.folder / name
    path.write_text(HEADER + "".join(f"{day},{row}\n" for row in rows))
    return path


def test_a_statement_is_taken_in_matched_decided_and_booked(terminal: Terminal) -> None:
    path = statement(
        terminal, "day.csv", "MPESA,UFA5XK2Q1M,500.00,2.50,", "MPESA,UFA6YY77Q0,300.00,1.50,", "MTN,X1,9.00,0,",
        "MPESA,RF1,-20.00,0,",
    )  # fmt: skip
    trial = terminal.well(f"settlement import mpesa {path} --trial --as fin.zoe")
    assert "2 PAYMENT  800.00" in trial and "nothing was stored" in trial
    terminal.no(f"settlement import mpesa {path} --as op.ben", "FINANCE")
    told = terminal.well(f"settlement import mpesa {path} --as fin.zoe")
    assert "3 lines are new" in told and "1 rows passed over" in told
    assert "2 MATCHED" in told and "1 MISSING_HERE" in told  # the refund is none of ours
    assert "2 that our books did not have: SUSPENSE 2" in told
    again = terminal.well(f"settlement import mpesa {path} --as fin.zoe")
    assert "taken in already" in again and "MATCHED" not in again
    assert terminal.balance("clearing:mpesa") == -80_000 and terminal.balance("suspense:mpesa") == 80_000

    (open_,) = [json.loads(x) for x in terminal.well("settlement list mpesa --format json --as aud.kay").splitlines()]
    assert (open_["class"], open_["kind"], open_["receipt"], open_["difference"]) == (
        "MISSING_HERE", "REFUND", "RF1", "-20.00",
    )  # fmt: skip
    terminal.no(f"settlement write-off {open_['id']} --as fin.zoe --reason lost", "second person")
    terminal.well(f"settlement write-off {open_['id']} --as fin.zoe --with fin.max --reason 'paid out by mistake'")
    assert terminal.balance("clearing:mpesa") == -78_000
    assert "RF1" not in terminal.well("settlement list mpesa --as fin.zoe")

    terminal.no("settlement book mpesa --payout P1 --as fin.zoe", "--amount and --paid-on expected", code=2)
    day = terminal.world.now().date()
    book = f"settlement book mpesa --payout P1 --amount 700 --paid-on {day} --as fin.zoe --with fin.max"
    assert "fees 4.00" in terminal.well(book)
    assert "booked before" in terminal.well(book)
    assert terminal.balance("bank:main") == -70_000 and terminal.balance("expense:fees:mpesa") == -400
    report = terminal.well("settlement report clearing --format csv --as fin.zoe")
    assert list(csv.DictReader(io.StringIO(report))) == [
        {"source": "mpesa", "balance": "76.00", "0-1": "76.00", "2-7": "0.00", "8-30": "0.00", "over 30": "0.00"}
    ]
    (held,) = csv.DictReader(io.StringIO(terminal.well("settlement report suspense --format csv --as fin.zoe")))
    assert (held["reason"], held["items 0-1"], held["money 0-1"]) == ("NO_ORDER", "2", "800.00")
    assert "MATCHED" in terminal.well("settlement report days --source mpesa --as fin.zoe")
    assert "UFA5XK2Q1M" in terminal.well(f"settlement show mpesa --day {day} --as fin.zoe")
    assert "complete  3 lines, 3 new" in terminal.well("settlement show mpesa --as fin.zoe")
    terminal.check()


def test_a_file_with_bad_lines_stores_nothing_and_its_repaired_lines_complete_it(terminal: Terminal) -> None:
    path = statement(terminal, "bad.csv", "MPESA,R1,500.00,2.50,", "MPESA,R2,5OO,0,", "MPESA,,1.00,0,")
    repair = terminal.folder / "repair.csv"
    answer = terminal.type(f"settlement import mpesa {path} --repair {repair} --as fin.zoe")
    assert answer.code == 2 and "bad.csv line 3: amount" in answer.err and "nothing was stored" in answer.out
    assert "R2" in repair.read_text() and "R1" not in repair.read_text()
    assert "NO_ORDER" not in terminal.well("settlement report suspense --as fin.zoe")
    answer = terminal.type(f"settlement import mpesa {path} --load-good --as fin.zoe")
    assert answer.code == 1 and "1 MATCHED" in answer.out
    mended = repair.read_text().replace("5OO", "500").replace(",,1.00", ",R3,1.00")
    repair.write_text(mended)
    assert "2 MATCHED" in terminal.well(f"settlement import mpesa {repair} --as fin.zoe")
    assert terminal.balance("clearing:mpesa") == -100_100
    terminal.no(f"settlement import mpesa {terminal.folder}/none.csv --as fin.zoe", "no such file", code=2)
    terminal.no(f"settlement import mpesa {path} --mapping mine --as fin.zoe", "one of bank-account", code=2)
    terminal.no(f"settlement import m:x {path} --as fin.zoe", "the name of a payment source", code=2)
    terminal.check()


def test_a_customers_deposit_is_approved_by_another_and_matched_with_the_banks_statement(terminal: Terminal) -> None:
    day = terminal.world.now().date()
    before = terminal.balance("wallet:A100001")
    slip = f"--slip s-77 --paid-on {day} --amount 100"
    told = terminal.well(f"deposits enter-wallet A100001 --bank kcb {slip} --as fin.zoe")
    code = told.split()[1]
    terminal.no(f"deposits approve {code} --as fin.zoe", "fin.zoe")
    terminal.no(f"deposits enter-wallet A100001 --bank kcb {slip} --as fin.max", "entered already")
    terminal.no(f"deposits enter-wallet A999999 --bank kcb {slip} --as fin.max", "no customer A999999")
    terminal.no(f"deposits enter-wallet A100001 --bank cash {slip} --as fin.max", "--cash", code=2)
    terminal.no(f"deposits enter-wallet A100001 --bank kcb {slip} --as op.ann", "op.ann")
    # The bank's statement comes first: the money waits for the second person, and does not come in twice.
    path = statement(terminal, "bank.csv", "bank,FT001,100.00,0,S-77")
    assert "1 MISSING_HERE" in terminal.well(f"settlement import bank {path} --as fin.zoe")
    assert terminal.balance("suspense:bank") == 0
    terminal.well(f"deposits approve {code} --as fin.max")
    assert terminal.balance("wallet:A100001") == before + 10_000 and terminal.balance("clearing:bank") == -10_000
    assert owed_texts(terminal) == [("deposit_paid", AMINA, "en", 10_000, before + 10_000)]
    assert "1 MATCHED" in terminal.well("settlement match bank --as fin.zoe")
    assert terminal.balance("clearing:bank") == -10_000
    assert code in terminal.well("deposits list --customer A100001 --as fin.zoe")
    # Cash at the office is not the bank's.
    told = terminal.well(f"deposits enter-wallet A100001 --cash {slip} --as fin.zoe")
    terminal.well(f"deposits approve {told.split()[1]} --as fin.max")
    assert terminal.balance("cash:office") == -10_000 and terminal.balance("wallet:A100001") == before + 20_000
    terminal.well(f"deposits reverse {told.split()[1]} --as fin.zoe --with fin.max --reason 'counted wrongly'")
    assert terminal.balance("wallet:A100001") == before + 10_000 and terminal.balance("cash:office") == 0
    # A slip that came in by the statement is not entered besides.
    path = statement(terminal, "more.csv", "bank,FT002,50.00,0,")
    terminal.well(f"settlement import bank {path} --as fin.zoe")
    other = f"--slip ft002 --paid-on {day} --amount 50"
    terminal.no(f"deposits enter-wallet A100001 --bank kcb {other} --as fin.max", "by the bank's statement")
    terminal.check()


def test_what_was_meant_for_a_wallet_that_was_closed_meanwhile_is_refused_by_name(terminal: Terminal) -> None:
    day = terminal.world.now().date()
    before = terminal.balance("wallet:A100001")
    slip = f"--slip s-78 --paid-on {day} --amount 100"
    code = terminal.well(f"deposits enter-wallet A100001 --bank kcb {slip} --as fin.zoe").split()[1]
    path = statement(terminal, "mpesa.csv", "mpesa,R7,60.00,0,")
    terminal.well(f"settlement import mpesa {path} --as fin.zoe")
    held = terminal.well("suspense list --as fin.zoe").split()[1]
    terminal.well(f"suspense resolve {held} --wallet A100001 --reason 'she called' --as fin.zoe")
    set_closed(terminal, "A100001", terminal.world.now())
    terminal.no(f"deposits approve {code} --as fin.max", "account A100001 was closed since")
    terminal.no(f"suspense approve {held} --reason agreed --as fin.max", "account A100001 is closed")
    assert terminal.balance("wallet:A100001") == before and terminal.balance("suspense:mpesa") == 6_000
    assert owed_texts(terminal) == []
    terminal.well(f"deposits refuse {code} --as fin.max")
    terminal.well(f"suspense refuse {held} --reason closed --as fin.max")
    terminal.no(f"suspense resolve {held} --wallet A100001 --reason again --as fin.zoe", "account A100001 is closed")
    terminal.no(f"deposits enter-wallet A100001 --bank kcb {slip} --as fin.zoe", "account A100001 is closed")
    set_closed(terminal, "A100001", None)
    terminal.check()


def set_closed(terminal: Terminal, account_no: str, at: datetime | None) -> None:
    """Close an account with whatever is in it, which no command does, or open it again."""

    def write(connection: sa.Connection) -> None:
        c, b = tables.customer, tables.limited_balance
        status = "ACTIVE" if at is None else "CLOSED"
        connection.execute(c.update().where(c.c.account_no == account_no).values(status=status))
        wallet = b.c.account_id == id_of(f"wallet:{account_no}")
        connection.execute(b.update().where(wallet).values(closed_at=at))

    terminal.read(write)


def owed_texts(terminal: Terminal) -> list[tuple[str, str, str, int, int]]:
    """What customers are owed about deposits: message, phone, language, amount and balance."""
    o = tables.outbox.c
    wanted = sa.select(o.message, o.recipient, o.language, o.fields).where(o.message == "deposit_paid").order_by(o.id)
    found = []
    for row in terminal.read(lambda connection: connection.execute(wanted).all()):
        fields = json.loads(row.fields)
        found.append((row.message, row.recipient, row.language, fields["amount_minor"], fields["balance_minor"]))
    return found


def test_a_statement_sells_for_the_meter_that_was_written_beside_the_money(terminal: Terminal) -> None:
    path = terminal.folder / "mpesa.csv"
    at = f"{terminal.world.now():%d-%m-%Y} 00:30:00"
    path.write_text(
        "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Reason Type,Other Party Info,"
        f"Linked Transaction ID,A/C No.\nUFA1,{at},x,Completed,500.00,,Pay Bill,254700000001 - A B,,{METER}\n"
        f"UFA1,{at},x,Completed,,-2.50,Pay Bill Charge,,,\n"
    )
    told = terminal.well(f"settlement import mpesa {path} --mapping mpesa-organisation --as fin.zoe")
    assert "1 MATCHED" in told and "1 FEE" in told
    assert terminal.balance("clearing:mpesa") == -50_000 and terminal.balance("suspense:mpesa") == 0
    assert terminal.balance("prepaid:254700000001") == 0  # spent on the token
    terminal.check()


def test_the_shipped_mappings_are_listed(terminal: Terminal) -> None:
    parser = argparse.ArgumentParser()
    settlement.add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args(["settlement", "mappings"])
    assert options.run(options) == 0
    assert "mpesa-organisation" in terminal.capsys.readouterr().out
