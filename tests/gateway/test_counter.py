"""Counter sales, shifts, deposits and banking as they are typed at a terminal, on both databases.

A day at a station from its float to its bank slip; then what each rule refuses, what a repeat gives, and a security
module that must be waited for.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.commands import sell as sell_commands
from gateway.demo import tokens_in
from gateway.till import Till
from ledger import audit, tables
from ledger.schema import DatabaseAway
from sts.modules.contract import SecurityModule
from sts.modules.software import SoftwareModule
from tests.gateway.terminal import METER, OTHER, Answer, Terminal
from tests.simulation.module import WaitingModule
from tests.simulation.shop import sample_keys


@pytest.fixture
def desk(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """The sample utility on each database."""
    return Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()


@pytest.fixture
def lone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """The same on the embedded database, for what does not depend on the database."""
    return Terminal(tmp_path, f"sqlite:///{tmp_path}/t.db", monkeypatch, capsys).set_up()


def _receipt(text: str) -> str:
    found = re.search(r"Receipt (\w{13})", text)
    assert found is not None, text
    return found[1]


# --- a day ------------------------------------------------------------------------------------------------------------


def test_a_day_at_a_counter_from_the_float_to_the_bank(desk: Terminal) -> None:
    desk.well("stations change ST001 --as fin.zoe --shift-required yes")
    desk.no(f"sell --as op.ann --meter {METER} --amount 500", "No shift is open")
    assert "op.ann-1 at ST001 is open, float 2000.00" in desk.well("shifts open --as op.ann --float 2000")
    first = desk.well(f"sell --as op.ann --meter {METER} --amount 500")
    assert first.startswith("Umoja Power\nST001 Kisumu head office counter, op.ann\n2026-")
    assert len(tokens_in(first)) == 1 and "Balance" not in first and first.endswith("Paid: cash 500\n")
    split = desk.well(f"sell --as op.ann --meter {OTHER} --amount 300 --tender cash:100 --tender card:200")
    assert "Paid: cash 100 card 200" in split
    copy = desk.well(f"sell --as op.ann --again {_receipt(first)}")
    assert copy.splitlines()[3] == "COPY" and tokens_in(copy) == tokens_in(first)
    assert desk.balance("owed:ST001") == -80_000

    desk.no("shifts close --as op.ann --count 1000=2 --count 500=1 --cards 200", "not as sold (cash short by 100.00)")
    desk.no("shifts close --as op.ann --count 3000=1", "one of 1000 500", code=2)
    closed = desk.well("shifts close --as op.ann --count 1000=2 --count 500=1 --cards 200 --reason 'a wrong note'")
    assert "cash: short by 100.00" in closed
    desk.no("shifts acknowledge op.ann-1 --as op.ann", "has not the role")
    assert "posted to overshort:ST001" in desk.well("shifts acknowledge op.ann-1 --as op.ben")
    assert (desk.balance("owed:ST001"), desk.balance("overshort:ST001")) == (-70_000, -10_000)

    code = desk.well("banking open ST001 --as op.ben").split()[1]
    desk.well(f"banking bank {code} --as op.ben --bank 'Coop Bank' --slip 'a 77 12' --paid-on 2026-06-05")
    deposit = desk.well("deposits list --as fin.zoe --state ENTERED").split()[1]
    desk.no(f"deposits approve {deposit} --as op.ben", "two people are needed")
    assert "APPROVED" in desk.well(f"deposits approve {deposit} --as fin.zoe")
    assert "CONFIRMED" in desk.well("banking list ST001 --as op.ben")
    # What the card paid comes from the acquirer.
    desk.well("deposits enter ST001 --as fin.zoe --bank ACQUIRER --slip 5 --amount 200 --paid-on 2026-06-05")
    card = desk.well("deposits list --as fin.zoe --state ENTERED").split()[1]
    desk.well(f"deposits approve {card} --as fin.max")
    assert (desk.balance("owed:ST001"), desk.balance("clearing:bank")) == (0, -70_000)

    statement = desk.well("stations statement ST001 --as op.ben --from 2026-06-05 --to 2026-06-05").splitlines()
    assert [line.split()[-1] for line in statement[1:-1]] == [
        "0.00", "-500.00", "-800.00", "-700.00", "-200.00", "0.00", "0.00",
    ]  # fmt: skip
    assert f"sale {_receipt(first)}" in statement[2] and "deposit COOP BANK A7712" in statement[5]
    desk.check()


def test_an_agent_sells_from_a_float_and_is_paid_commission(desk: Terminal) -> None:
    desk.well("commissions set AGENTS --name Agents --from 2026-06-05 --step 0:2 --step 500:2.5:1 "
              "--as fin.zoe --with fin.max")  # fmt: skip
    desk.well("stations commission ST002 --scheme AGENTS --as fin.zoe --with op.ben")
    desk.well(f"sell --as ag.njeri --meter {METER} --amount 499.50")
    assert desk.balance("commission:ST002") == 999
    desk.well(f"sell --as ag.njeri --meter {METER} --amount 500")
    assert desk.balance("commission:ST002") == 999 + 1_350
    assert desk.balance("float:ST002") == 2_500_000 - 99_950
    desk.no("stations pay-commission ST002 --as fin.zoe", "a second person")
    desk.well("stations pay-commission ST002 --as fin.zoe --with fin.max")
    assert (desk.balance("commission:ST002"), desk.balance("float:ST002")) == (0, 2_500_000 - 99_950 + 2_349)
    desk.no("stations pay-commission ST002 --as fin.zoe --with fin.max", "no commission")
    desk.check()


def _refund(desk: Terminal, receipt: str, to: str) -> str:
    said = desk.well(f"corrections ask refund-money {receipt} --to {to} --as op.ann --reason 'the token was not used'")
    return said.split(":")[0]


@pytest.mark.parametrize("to", ["source", "cash"])
def test_a_refund_of_a_counter_sale_comes_out_of_the_drawer_or_the_office(desk: Terminal, to: str) -> None:
    desk.well("shifts open --as op.ann")
    sold = desk.well(f"sell --as op.ann --meter {METER} --amount 500 --key k1")
    desk.well(f"corrections approve {_refund(desk, _receipt(sold), to)} --as fin.zoe --reason agreed")
    desk.check()
    again = desk.type(f"sell --as op.ann --meter {METER} --amount 500 --key k1")
    assert (again.code, tokens_in(again.out)) == (1, []) and "was given back" in again.out
    copy = desk.type(f"sell --as op.ann --again {_receipt(sold)}")
    assert (copy.code, copy.out) == (1, again.out)
    assert "another station's" in desk.type(f"sell --as ag.njeri --again {_receipt(sold)}").err
    desk.well("shifts close --as op.ann" + (" --count 500=1" if to == "cash" else ""))
    desk.well("shifts acknowledge op.ann-1 --as op.ben")
    in_drawer, by_office = (50_000, 50_000) if to == "cash" else (0, 0)
    assert (desk.balance("owed:ST001"), desk.balance("cash:office")) == (-in_drawer, by_office)
    assert desk.balance("overshort:ST001") == 0
    desk.check()


def test_a_copy_counts_as_seen_also_where_the_first_print_failed(
    desk: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_printer(*_: object) -> None:
        raise DatabaseAway("away")

    desk.well("shifts open --as op.ann")
    with monkeypatch.context() as patched:
        patched.setattr("ledger.counter_sales.shown", no_printer)
        with pytest.raises(DatabaseAway):
            desk.type(f"sell --as op.ann --meter {METER} --amount 500 --key k1")
    receipt = str(desk.read(lambda connection: connection.execute(sa.select(tables.purchase.c.receipt)).scalar_one()))
    copy = desk.well(f"sell --as op.ann --again {receipt}")
    assert len(tokens_in(copy)) == 1
    desk.no(f"purchase reverse {receipt} --as op.ben --reason x", "TOKEN_DISCLOSED")
    desk.check()


def test_a_drawer_that_was_counted_gives_nothing_back(lone: Terminal) -> None:
    lone.well("shifts open --as op.ann")
    sold = lone.well(f"sell --as op.ann --meter {METER} --amount 500")
    lone.well("shifts close --as op.ann --count 500=1")
    code = _refund(lone, _receipt(sold), "source")
    lone.no(f"corrections approve {code} --as fin.zoe --reason agreed", "is closed")
    for deed in ("approve", "refuse"):
        lone.no(f"corrections {deed} {code} --as fin.zoe", "a --reason is expected")
    lone.well(f"corrections refuse {code} --as fin.zoe --reason agreed")
    lone.well(f"corrections approve {_refund(lone, _receipt(sold), 'cash')} --as fin.zoe --reason agreed")
    assert lone.balance("owed:ST001") == -50_000
    lone.check()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_station_is_held_to_its_limits_channels_groups_and_state(desk: Terminal) -> None:
    desk.no("sell --as ag.njeri --meter 14900000010 --amount 500", "may not sell for meter")
    desk.well("stations block ST002 --as op.ben --reason 'lost phone'")
    desk.no(f"sell --as ag.njeri --meter {METER} --amount 500", "cannot sell here")
    desk.well("stations unblock ST002 --as op.ben")
    desk.well("stations change ST002 --as fin.zoe --channels sms")
    desk.no(f"sell --as ag.njeri --meter {METER} --amount 500", "cannot sell here")
    desk.well("stations change ST002 --as fin.zoe --channels none")
    desk.no("stations limit ST001 600 --as fin.zoe", "a second person")
    desk.no("stations limit ST001 600 --as fin.zoe --with fin.zoe", "two people")
    desk.well("stations limit ST001 600 --as fin.zoe --with op.ben")
    desk.well(f"sell --as op.ann --meter {METER} --amount 500")
    desk.no(f"sell --as op.ann --meter {METER} --amount 101", "KES 100 is left")
    desk.no("stations limit ST001 400 --as fin.zoe --with fin.max", "owes more")
    desk.well(f"sell --as op.ann --meter {METER} --amount 100")
    desk.check()


def test_an_operator_is_held_to_limits_per_sale_shift_and_day(desk: Terminal) -> None:
    desk.no("stations operator-limits op.ben --per-sale 1 --as op.ben", "two people")
    desk.well("stations operator-limits op.ann --per-sale 500 --per-shift 900 --per-day 1000 --as op.ben")
    desk.no(f"sell --as op.ann --meter {METER} --amount 500.01", "KES 500 is left")
    desk.well("shifts open --as op.ann")
    desk.well(f"sell --as op.ann --meter {METER} --amount 500")
    desk.no(f"sell --as op.ann --meter {METER} --amount 450", "KES 400 is left")
    desk.well(f"sell --as op.ann --meter {METER} --amount 400")
    desk.well("shifts close --as op.ann --count 500=1 --count 200=2")
    desk.well("shifts open --as op.ann")
    desk.no(f"sell --as op.ann --meter {METER} --amount 200", "KES 100 is left")
    desk.world.advance(minutes=24 * 60)
    desk.well(f"sell --as op.ann --meter {METER} --amount 200")
    desk.check()


def test_a_slip_is_taken_once_and_a_wrong_one_is_refused_or_reversed(desk: Terminal) -> None:
    slip = "--bank KCB --slip 00123 --paid-on 2026-06-04 --amount"
    desk.well(f"deposits enter ST002 --as ag.njeri {slip} 1000")
    desk.no(
        "deposits enter ST002 --as fin.zoe --bank ' kcb' --slip '00 123' --paid-on 2026-06-04 --amount 5", "already"
    )
    code = desk.well("deposits list --as fin.zoe").split()[1]
    desk.no(f"deposits approve {code} --as ag.njeri", "has not the role")
    desk.well(f"deposits refuse {code} --as fin.zoe --reason 'not on the statement'")
    desk.no(f"deposits approve {code} --as fin.zoe", "is REFUSED")
    desk.well(f"deposits enter ST002 --as ag.njeri {slip} 900")
    code = desk.well("deposits list --as fin.zoe --state ENTERED").split()[1]
    desk.well("deposits enter ST001 --as op.ann --bank KCB --slip 9 --paid-on 2026-06-04 --amount 7")
    own = desk.well("deposits list --as fin.zoe --station ST001").split()[1]
    desk.no(f"deposits approve {own} --as op.ben", "whose deposits others approve")
    desk.well(f"deposits approve {code} --as fin.zoe")
    assert desk.balance("float:ST002") == 2_590_000
    desk.no(f"deposits reverse {code} --as fin.zoe", "a second person")
    desk.well(f"deposits reverse {code} --as fin.zoe --with fin.max --reason 'cheque not paid'")
    desk.no(f"deposits reverse {code} --as fin.zoe --with fin.max", "is REVERSED")
    assert desk.balance("float:ST002") == 2_500_000
    desk.well(f"deposits enter ST002 --as ag.njeri {slip} 900")
    for wrong, words in (
        (f"{slip} 0", "more than nothing"),
        (slip.replace("2026-06-04", "2027-06-04") + " 5", "paid on"),
    ):
        desk.no(f"deposits enter ST002 --as ag.njeri {wrong}", words)
    desk.no("deposits enter ST001 --as ag.njeri --bank X --slip 1 --paid-on 2026-06-04 --amount 5", "does not belong")
    desk.check()


def test_a_batch_without_money_for_the_bank_is_closed_without_a_slip(desk: Terminal) -> None:
    desk.well("shifts open --as op.ann")
    desk.well("shifts close --as op.ann --count 1=0")
    code = desk.well("banking open ST001 --as op.ben").split()[1]
    slip = "--bank KCB --slip 1 --paid-on 2026-06-05"
    desk.no(f"banking bank {code} --as op.ben {slip}", f"no slip: banking close {code}")
    desk.no(f"banking close {code} --as ag.njeri", "does not belong")
    assert "CONFIRMED  cash and cheques 0.00" in desk.well(f"banking close {code} --as op.ben")
    desk.check()
    desk.no(f"banking close {code} --as op.ben", "is CONFIRMED")
    desk.no("banking open ST001 --as op.ben", "no closed shift")
    desk.well("shifts open --as op.ann")
    desk.well(f"sell --as op.ann --meter {METER} --amount 500")
    desk.well("shifts close --as op.ann --count 500=1")
    code = desk.well("banking open ST001 --as op.ben").split()[1]
    desk.no(f"banking close {code} --as op.ben", "holds 50000 minor units")
    desk.check()


def test_a_drawer_that_gave_out_more_than_it_took_waits_for_one_that_took_more(lone: Terminal) -> None:
    lone.well("shifts open --as op.ann --float 100")
    lone.well("shifts close --as op.ann --count 1=0 --reason 'gave back what others had taken'")
    lone.no("banking open ST001 --as op.ben", "given out 10000 minor units more than they took")
    lone.well("shifts open --as op.ann")
    lone.well(f"sell --as op.ann --meter {METER} --amount 500")
    lone.well("shifts close --as op.ann --count 500=1")
    opened = lone.well("banking open ST001 --as op.ben")
    assert "cash and cheques 400.00" in opened and "op.ann-1 op.ann-2" in opened
    code = opened.split()[1]
    lone.well(f"banking bank {code} --as op.ben --bank KCB --slip 1 --paid-on 2026-06-05")
    lone.check()


def test_a_batch_whose_slip_was_wrong_goes_to_the_bank_again(desk: Terminal) -> None:
    desk.well("shifts open --as op.ann")
    desk.no("banking open ST001 --as op.ben", "no closed shift")
    desk.well(f"sell --as op.ann --meter {METER} --amount 500 --tender cheque")
    desk.no("shifts close --as op.ann --count 500=1", "cash over by 500.00, cheque short by 500.00")
    desk.well("shifts close --as op.ann --count 1=0 --cheques 500")
    code = desk.well("banking open ST001 op.ann-1 --as op.ben").split()[1]
    desk.no("banking open ST001 op.ann-1 --as op.ben", "not in a batch yet")
    for slip in ("1", "2"):
        desk.well(f"banking bank {code} --as op.ben --bank KCB --slip {slip} --paid-on 2026-06-05")
        desk.no(f"banking bank {code} --as op.ben --bank KCB --slip 9 --paid-on 2026-06-05", "is BANKED")
        deposit = desk.well("deposits list --as fin.zoe --state ENTERED").split()[1]
        if slip == "1":
            desk.well(f"deposits refuse {deposit} --as fin.zoe")
    desk.well(f"deposits approve {deposit} --as fin.zoe")
    assert "CONFIRMED" in desk.well("banking list ST001 --as op.ben")
    desk.well(f"deposits reverse {deposit} --as fin.zoe --with fin.max")
    assert "OPEN" in desk.well("banking list ST001 --as op.ben")
    desk.check()


def test_a_blind_count_tells_the_cashier_nothing(lone: Terminal) -> None:
    lone.well("stations change ST001 --as fin.zoe --blind-count yes")
    lone.well("shifts open --as op.ann --float 100")
    lone.no("shifts open --as op.ann", "open shift already")
    lone.well(f"sell --as op.ann --meter {METER} --amount 500")
    assert "sold for" not in lone.well("shifts show op.ann-1 --as op.ann")
    assert "short" not in lone.well("shifts close --as op.ann --count 500=1")
    assert "sold for cash 500.00" in lone.well("shifts show op.ann-1 --as op.ben")
    lone.no("shifts acknowledge op.ann-1 --as op.ben", "a reason is needed")
    assert "short by 100.00" in lone.well("shifts acknowledge op.ann-1 --as op.ben --reason 'the float is gone'")
    lone.check()


NONSENSE = [
    ("sell --as op.ann --meter 04012345677 --amount 5", "meter 04012345677"),
    ("sell --as op.ann --meter 04012345676", "both or neither"),
    ("sell --as op.ann --meter 04012345676 --amount 5,00", "amount"),
    ("sell --as op.ann --meter 04012345676 --amount -5", "more than nothing"),
    ("sell --as op.ann --meter 04012345676 --amount 5.001", "decimals"),
    ("sell --as op.ann --meter 04012345676 --amount 5 --tender gold", "cash, card or cheque"),
    ("sell --as op.ann --meter 04012345676 --amount 5 --tender cash:3 --tender card:3", "sum to the amount"),
    ("sell --as op.ann --meter 04012345676 --amount 5 --tender cash --tender card:3", "several"),
    ("sell --as op.ann --meter 04012345676 --amount 5 --key 'a b'", "--key"),
    ("sell --as op.ann --again 0000000000000", "no receipt"),
    (
        "commissions set X --name X --from 2026-07-01 --step 0:0.025 --as fin.zoe --with fin.max",
        "a fraction of one",
    ),
    ("commissions set X --name X --from 2026-07-01 --step 5:2 --as fin.zoe --with fin.max", "start at 0"),
]


def test_what_cannot_be_meant_is_refused_in_words(lone: Terminal) -> None:
    for line, words in NONSENSE:
        lone.no(line, words, code=2)


def test_only_the_right_people_sell_change_and_look(lone: Terminal) -> None:
    sold = lone.well(f"sell --as op.ann --meter {METER} --amount 500")
    assert "COPY" in lone.well(f"sell --as cc.pam --again {_receipt(sold)}")
    for line in (
        f"sell --as ag.njeri --again {_receipt(sold)}",
        f"sell --as op.ben --meter {METER} --amount 500",
        "stations block ST001 --as op.ann",
        "stations change ST001 --as op.ben --name X",
        "stations statement ST001 --as ag.njeri --from 2026-06-05 --to 2026-06-05",
        "deposits list --as op.ann",
        "shifts open --as op.ben",
        "stations limit ST001 5 --as op.ben --with fin.zoe",
    ):
        assert lone.type(line).code == 1, line
    lone.well("stations statement ST001 --as aud.kay --from 2026-06-05 --to 2026-06-05")
    rows = lone.read(lambda connection: audit.latest(connection, 100))
    assert [row.who for row in rows if row.deed == "counter.copy_printed"] == ["cc.pam"]
    assert not any(re.search(r"\d{20}", row.after) for row in rows)


def test_a_new_station_sells_once_it_has_money(lone: Terminal) -> None:
    lone.well(
        "stations add ST009 --as adm.lee --name 'Corner shop' --kind AGENT --funding PREPAID --supply-groups 600801"
    )
    lone.no("stations add ST009 --as adm.lee --name X --kind AGENT --funding CREDIT --supply-groups 600801", "already")
    lone.no("stations add ST010 --as adm.lee --name X --kind AGENT --funding CREDIT --supply-groups 6008", "six digits")
    lone.no("stations limit ST009 5 --as fin.zoe --with fin.max", "has no credit limit")
    t = tables.operator
    lone.read(lambda c: c.execute(t.update().where(t.c.login == "ag.njeri").values(station="ST009")))
    lone.no(f"sell --as ag.njeri --meter {METER} --amount 500", "credit is used up")
    lone.well("deposits enter ST009 --as ag.njeri --bank B --slip 1 --amount 500 --paid-on 2026-06-05")
    code = lone.well("deposits list --as fin.zoe").split()[1]
    lone.well(f"deposits approve {code} --as fin.zoe")
    assert "Receipt" in lone.well(f"sell --as ag.njeri --meter {METER} --amount 500")
    lone.check()


# --- repeats, and waiting ---------------------------------------------------------------------------------------------


def test_a_repeat_gives_the_same_token_and_another_wish_under_its_name_nothing(desk: Terminal) -> None:
    sold = desk.well(f"sell --as op.ann --meter {METER} --amount 500 --sequence 7")
    again = desk.well(f"sell --as op.ann --meter {METER} --amount 500 --sequence 7")
    assert "COPY" in again and tokens_in(again) == tokens_in(sold)
    desk.no(f"sell --as op.ann --meter {METER} --amount 600 --sequence 7", "reference was used before")
    desk.no(f"sell --as op.ann --meter {METER} --amount 500", "KES 500 was sold for")
    assert tokens_in(desk.well(f"sell --as op.ann --meter {METER} --amount 500 --nth 2")) != tokens_in(sold)
    desk.no(f"sell --as op.ann --meter {OTHER} --amount 5 --key pos-1", "smallest amount")
    desk.no(f"sell --as op.ann --meter {OTHER} --amount 5 --key pos-1", "smallest amount")
    desk.check()


def test_sales_are_typed_a_line_each(lone: Terminal) -> None:
    answer = lone.type("sell --as op.ann", f"{METER} 500", "", "hello", f"{OTHER} 200 card", f"{METER} x")
    assert answer.code == 1
    assert len(tokens_in(answer.out)) == 2 and answer.out.count("not sold: ") == 2 and "Paid: card 200" in answer.out
    lone.check()


class _Keyboard(io.StringIO):
    """Standard input at which somebody types."""

    def isatty(self) -> bool:
        return True


def _at_keyboard(desk: Terminal, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Answer:
    password = desk.folder / "ann.pw"
    password.write_text("password of op.ann")
    typed = _Keyboard("".join(f"{line}\n" for line in lines))
    parser = argparse.ArgumentParser()
    sell_commands.add_commands(parser.add_subparsers(), world=desk.world)
    command = ["sell", "--as", "op.ann", "--password-file", str(password), "--config", str(desk.config)]
    monkeypatch.setattr("sys.stdin", typed)
    options = parser.parse_args(command)
    code = options.run(options)
    said = desk.capsys.readouterr()
    return Answer(code, said.out, said.err)


def test_whoever_types_sees_owner_and_price_first_and_sells_by_an_empty_line(
    lone: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lone.balance("owed:ST001")
    answer = _at_keyboard(lone, monkeypatch, f"{METER} 500", "n", f"? {METER} 500", f"{OTHER} 5", f"{METER} 500")
    assert (answer.code, tokens_in(answer.out)) == (1, []) and lone.balance("owed:ST001") == before
    assert answer.out.count(f"{METER} A.H. Mombasa Nyali\nKES 500: 22.6 kWh") == 3 and "smallest" in answer.out
    answer = _at_keyboard(lone, monkeypatch, f"{METER} 500 card", "", f"{METER} 500", "", f"{METER} 500 2", "")
    assert len(set(tokens_in(answer.out))) == 2 and "Paid: card 500" in answer.out
    assert "was sold for" in answer.out and "again RECEIPT" in answer.out and "Enter sells" in answer.err
    lone.check()


def test_a_receipt_tells_each_debt_and_what_is_left_of_it(lone: Terminal) -> None:
    for left in ("3,900", "3,600"):
        sold = lone.type(f"sell --as op.ann --meter {OTHER} --amount 1000 --nth {1 if left == '3,900' else 2}").out
        assert f"\nDebt DB-0001: 300 paid, {left} left\n" in sold
    assert "3,600 left" in lone.well(f"sell --as op.ann --again {_receipt(sold)}")


def test_what_a_terminal_sold_and_did_not_live_to_print_is_printed_by_the_next_one(
    desk: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Till, "_print", dies)
        with pytest.raises(Killed):
            desk.type("sell --as op.ann", f"{METER} 500")
    desk.type("sell --as op.cat", f"{OTHER} 200")
    answer = desk.type("sell --as op.ann", f"{METER} 500")
    assert answer.out.startswith("sold before and never printed, ST001/op.ann/1:\n") and "COPY" not in answer.out
    assert len(tokens_in(answer.out)) == 1 and "was sold for" in answer.out
    assert desk.type("sell --as op.ann", "").out == ""
    desk.check()


@contextmanager
def _modules(monkeypatch: pytest.MonkeyPatch, module: SecurityModule) -> Iterator[None]:
    async def kept_module(*_: object) -> SecurityModule:
        return module

    with monkeypatch.context() as patched:
        patched.setattr("gateway.keywatch.kept_module", kept_module)
        yield


def test_a_sale_that_waits_for_its_module_is_in_progress_and_then_found(desk: Terminal) -> None:
    desk.well("shifts open --as op.ann")
    software = SoftwareModule(sample_keys())
    with _modules(desk.monkeypatch, WaitingModule(software, ("wait",))):
        answer = desk.type(f"sell --as op.ann --meter {METER} --amount 500")
    assert answer.code == 4 and "--again ST001/op.ann-1/1" in answer.out
    assert desk.balance("owed:ST001") == 0
    assert "may sell for 499500.00" in desk.well("stations show ST001 --as op.ben")
    answer = desk.type("shifts close --as op.ann --count 500=1")
    assert answer.code == 1 and "wait for their tokens" in answer.err
    desk.config.write_text(desk.config.read_text().replace("wait_s = 0.2", "wait_s = 60.0"))  # it is there at once
    with _modules(desk.monkeypatch, WaitingModule(software)):
        sold = desk.well("sell --as op.ann --again ST001/op.ann-1/1")
        assert len(tokens_in(sold)) == 1 and "COPY" not in sold
        assert "COPY" in desk.well("sell --as op.ann --again ST001/op.ann-1/1")
    desk.well("shifts close --as op.ann --count 500=1")
    desk.check()


def test_a_module_that_refuses_leaves_station_shift_and_day_as_they_were(desk: Terminal) -> None:
    desk.well("shifts open --as op.ann")
    with _modules(desk.monkeypatch, WaitingModule(SoftwareModule(sample_keys()), ("refuse",))):
        desk.no(f"sell --as op.ann --meter {METER} --amount 500", "cannot take new tokens")
    assert "0 sales" in desk.well("shifts show op.ann-1 --as op.ann")
    desk.check()


def test_a_sale_that_cannot_be_stored_is_not_sold(lone: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger.store import SqliteStore

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "_alone", fail)
        with pytest.raises(DatabaseAway, match="nothing was sold"):
            lone.type(f"sell --as op.ann --meter {METER} --amount 500")
    lone.check()


def test_a_scheme_that_sales_used_is_never_changed(lone: Terminal) -> None:
    two = "--as fin.zoe --with fin.max --name Agents"
    lone.well(f"commissions set A --from 2026-06-05 --step 0:2 {two}")
    lone.no(f"commissions set A --from 2026-06-05 --step 0:9 {two}", "a date after")
    lone.well(f"commissions set A --from 2026-06-06 --step 0:3 {two}")
    lone.well(f"commissions set A --from 2026-06-06 --step 0:4 {two}")
    assert lone.well("commissions list").count("from 2026-06-0") == 2
    lone.well("stations commission ST002 --scheme A --as fin.zoe --with fin.max")
    lone.well(f"sell --as ag.njeri --meter {METER} --amount 100")
    lone.world.advance(minutes=int(timedelta(days=1).total_seconds() // 60))
    lone.well(f"sell --as ag.njeri --meter {METER} --amount 100")
    assert lone.balance("commission:ST002") == 200 + 400
