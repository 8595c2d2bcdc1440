"""Drawers: payments without energy counted by the shift that took them, and counter sales taken back.

Sales that a terminal stored and never printed are made by a terminal whose process ends just then. Last, any history of
sales, payments, reversals, refunds and shifts: what a station owes, less what is in its drawers, is always nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.demo import tokens_in
from gateway.sale import receipt_of
from ledger import counter_sales, shifts, tables
from sts.modules.software import SoftwareModule
from tests.gateway.terminal import METER, OTHER, Terminal
from tests.gateway.test_reversal import money_and_counters
from tests.simulation.module import WaitingModule
from tests.simulation.shop import sample_keys

FINED = "14252321824"


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
    found = re.search(r"[Rr]eceipt (\w{13})", text)
    assert found is not None, text
    return found[1]


# --- payments ---------------------------------------------------------------------------------------------------------


def test_a_payment_without_energy_lies_in_the_drawer_of_the_shift_that_took_it(desk: Terminal) -> None:
    desk.no("account pay A100003 100 --reference S-1 --as op.ann", "op.ann has no open shift at ST001")
    desk.well("shifts open --as op.ann --float 50")
    desk.well("shifts open --as op.cat")
    desk.well("account pay A100003 100 --reference S-1 --as op.ann")
    desk.well("account pay A100002 250 --reference S-2 --tender cash:50 --tender card:200 --as op.ann")
    assert "was taken before" in desk.well("account pay A100003 100 --reference S-1 --as op.ann")
    desk.well(f"sell --as op.cat --meter {METER} --amount 500")
    shown = desk.well("shifts show op.ann-1 --as op.ben")
    assert "OPEN, 0 sales, 2 payments" in shown
    assert "paid without energy in cash 150.00" in shown and "paid without energy in card 200.00" in shown
    assert desk.balance("owed:ST001") == -85_000
    # The other's count has nothing to do with them, and one's own is of everything.
    assert "agrees with the sales\n" in desk.well("shifts close --as op.cat --count 500=1")
    desk.no("shifts close --as op.ann --count 50=1", "not as sold (cash short by 150.00, card short by 200.00)")
    closed = desk.well("shifts close --as op.ann --count 50=3 --cards 200 --reason 'one note short'")
    assert "cash: short by 50.00" in closed and "card" not in closed
    for code in ("op.ann-1", "op.cat-1"):
        desk.well(f"shifts acknowledge {code} --as op.ben")
    assert (desk.balance("owed:ST001"), desk.balance("overshort:ST001")) == (-80_000, -5_000)
    batch = desk.well("banking open ST001 --as op.ben").split()[1]
    desk.well(f"banking bank {batch} --as op.ben --bank KCB --slip 7 --paid-on 2026-06-05")  # cash of both: 600.00
    deposit = desk.well("deposits list --as fin.zoe --state ENTERED").split()[1]
    desk.well(f"deposits approve {deposit} --as fin.zoe")
    assert desk.balance("owed:ST001") == -20_000  # the card, which the acquirer pays
    desk.check()


def test_whose_money_a_payment_is_stays_clear(lone: Terminal) -> None:
    pay = "account pay A100003 100 --reference S-1"
    # The office's cash is apart from any station's.
    lone.well(f"{pay} --as fin.zoe")
    assert (lone.balance("cash:office"), lone.balance("owed:ST001")) == (-10_000, 0)
    lone.no(f"{pay} --tender card --as fin.zoe", "--tender", code=2)
    lone.no(f"{pay} --station ST001 --as fin.zoe", "no open shift at ST001")
    # An agent's drawer is the agent's own, and counted only where the station asks for shifts.
    lone.no(f"{pay} --station ST001 --as ag.njeri", "for station ST002 only")
    lone.well(f"{pay} --as ag.njeri")
    assert lone.balance("float:ST002") == 2_490_000
    lone.well("stations change ST002 --as fin.zoe --shift-required yes")
    lone.no("account pay A100003 100 --reference S-2 --as ag.njeri", "no open shift at ST002")
    lone.well("shifts open --as ag.njeri")
    lone.no("account pay A100003 100 --reference S-2 --tender cash:40 --as ag.njeri", "sum to the amount", code=2)
    lone.well("account pay A100003 100 --reference S-2 --as ag.njeri")
    lone.well("stations block ST002 --as op.ben --reason 'lost phone'")
    lone.no("account pay A100003 100 --reference S-3 --as ag.njeri", "is blocked")
    lone.check()


def test_a_payment_beyond_the_stations_credit_is_in_no_drawer(lone: Terminal) -> None:
    lone.well("stations limit ST001 600 --as fin.zoe --with op.ben")
    lone.well("shifts open --as op.ann")
    lone.no("account pay A100003 600.01 --reference S-1 --as op.ann", "STATION_CREDIT_SPENT")
    assert "OPEN, 0 sales\n" in lone.well("shifts show op.ann-1 --as op.ben")
    lone.check()


# --- counter sales taken back -----------------------------------------------------------------------------------------


def _sell_and_die(desk: Terminal, line: str, module: Any = None) -> str:
    """A sale whose terminal ends after it was stored and before anything was printed; its receipt."""

    class Died(Exception):
        pass

    def dies(*_: Any) -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counter_sales, "shown", dies)
        with pytest.raises(Died):
            desk.type(line)
    p = tables.purchase.c
    return str(desk.read(lambda connection: connection.execute(sa.select(p.receipt).order_by(p.id.desc())).scalar()))


@pytest.mark.parametrize("meter", [METER, OTHER, FINED])
def test_a_counter_sale_that_was_never_printed_is_taken_back_to_the_cent(desk: Terminal, meter: str) -> None:
    desk.well("shifts open --as op.ann")
    before = desk.read(money_and_counters)
    receipt = _sell_and_die(desk, f"sell --as op.ann --meter {meter} --amount 500 --key k1")
    assert "OPEN, 1 sales" in desk.well("shifts show op.ann-1 --as op.ben")
    desk.no(f"purchase reverse {receipt} --as op.ann", "has not the role")
    desk.no(f"purchase reverse {receipt} --as op.ben", "a --reason is expected")
    assert "REVERSED" in desk.well(f"purchase reverse {receipt} --as op.ben --reason 'the terminal went dark'")
    assert desk.read(money_and_counters) == before
    again = desk.type(f"sell --as op.ann --meter {meter} --amount 500 --key k1")
    assert (again.code, tokens_in(again.out)) == (1, []) and "taken back" in again.out
    assert "the count agrees" in desk.well("shifts close --as op.ann")
    desk.check()


def test_what_a_terminal_has_printed_stands(lone: Terminal) -> None:
    lone.well("shifts open --as op.ann")
    receipt = _receipt(lone.well(f"sell --as op.ann --meter {METER} --amount 500"))
    stands = lone.type(f"purchase reverse {receipt} --as op.ben --reason 'he wants it back'")
    assert stands.code == 1 and "TOKEN_DISCLOSED" in stands.out
    # A terminal that died is asked again: then it is printed, and stands.
    dead = _sell_and_die(lone, f"sell --as op.ann --meter {OTHER} --amount 100 --key k1")
    assert tokens_in(lone.well(f"sell --as op.ann --meter {OTHER} --amount 100 --key k1"))
    assert lone.type(f"purchase reverse {dead} --as op.ben --reason 'it went dark'").code == 1
    lone.well("shifts close --as op.ann --count 500=1 --count 100=1")
    lone.check()


def test_a_drawer_that_was_counted_gives_no_sale_back_either(lone: Terminal) -> None:
    lone.well("shifts open --as op.ann")
    receipt = _sell_and_die(lone, f"sell --as op.ann --meter {METER} --amount 500 --key k1")
    lone.well("shifts close --as op.ann --count 500=1")
    lone.well("shifts open --as op.ann")
    late = lone.type(f"purchase reverse {receipt} --as op.ben --reason 'the terminal went dark'")
    assert late.code == 1 and "REVERSAL_LATE" in late.out
    assert "OPEN, 0 sales" in lone.well("shifts show op.ann-2 --as op.ben")
    lone.check()


def test_a_counter_sale_in_progress_is_cancelled_and_leaves_its_drawer(desk: Terminal) -> None:
    desk.well("shifts open --as op.ann")
    before = desk.read(money_and_counters)

    async def waiting(*_: object) -> WaitingModule:
        return WaitingModule(SoftwareModule(sample_keys()), ("wait",))

    async def well(*_: object) -> WaitingModule:
        return WaitingModule(SoftwareModule(sample_keys()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.keywatch.kept_module", waiting)
        assert desk.type(f"sell --as op.ann --meter {METER} --amount 500 --key k1").code == 4
    assert "OPEN, 1 sales" in desk.well("shifts show op.ann-1 --as op.ben")
    p = tables.purchase.c
    receipt = receipt_of(desk.read(lambda connection: connection.execute(sa.select(p.id)).scalar_one()))
    said = desk.type(f"purchase reverse {receipt} --as op.ben --reason 'nobody waits'")
    assert (said.code, "CANCELLED" in said.out) == (0, True), said
    # Nobody can know yet whether the module makes the token: the money stays held until it has answered.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.keywatch.kept_module", well)
        again = desk.type("sell --as op.ann --again ST001/k1")
    assert tokens_in(again.out) == [] and again.code == 1, again
    assert desk.read(money_and_counters) == before
    assert "the count agrees" in desk.well("shifts close --as op.ann")
    desk.check()


# --- any history ------------------------------------------------------------------------------------------------------

_who = st.sampled_from(["op.ann", "op.cat"])
_meter = st.sampled_from([METER, OTHER, FINED, "37180000434"])
_amount = st.integers(20, 900)
_step = st.one_of(
    st.tuples(st.just("open"), _who, st.integers(0, 50)),
    st.tuples(st.just("close"), _who, st.integers(-1, 1)),
    st.tuples(st.sampled_from(["sell", "sell and die", "pay"]), _who, _amount, _meter),
    st.tuples(st.just("reverse"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["refund-money --to source", "refund-money --to cash"]), st.integers(0, 5)),
    st.tuples(st.just("wrong-meter"), st.integers(0, 5), _meter),
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(_step, min_size=6, max_size=14))
def test_what_a_station_owes_is_in_its_drawers_after_any_history(
    steps: Sequence[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Terminal(Path(folder), f"sqlite:///{folder}/t.db", monkeypatch, capsys).set_up()
        desk.well("stations change ST001 --as fin.zoe --shift-required yes")
        desk.well("shifts open --as op.ann")
        sold: list[str] = []
        for number, step in enumerate(steps):
            _one(desk, sold, number, *step)
            desk.check()
            assert -desk.balance("owed:ST001") == desk.read(_in_drawers)


def _one(desk: Terminal, sold: list[str], number: int, what: str, *more: Any) -> None:
    """A step; what the rules refuse is no fault, and leaves everything as it was."""
    if what == "open":
        desk.type(f"shifts open --as {more[0]} --float {more[1]}")
    elif what == "close":
        login, wrong = more
        row = desk.read(lambda connection: shifts.open_of(connection, login))
        if row is not None:
            pieces = (row.expected_minor("cash") + row.float_minor) // 100 + wrong
            if pieces >= 0:
                desk.well(f"shifts close --as {login} --count 1={pieces} --reason 'so it is'")
                desk.well(f"shifts acknowledge {row.code} --as op.ben")
    elif what == "pay":
        desk.type(f"account pay {more[2]} {more[1]} --reference s{number} --as {more[0]}")
    elif what.startswith("sell"):
        line = f"sell --as {more[0]} --meter {more[2]} --amount {more[1]} --key k{number}"
        if what == "sell":
            answer = desk.type(line)
            sold += [_receipt(answer.out)] if answer.code == 0 else []
        elif desk.read(lambda connection: shifts.open_of(connection, more[0])) is not None:
            sold.append(_sell_and_die(desk, line))
    elif sold:
        receipt, said = sold[more[0] % len(sold)], "--reason 'as the customer says'"
        if what == "reverse":
            desk.type(f"purchase reverse {receipt} --as op.ben {said}")
            return
        meter = f" --meter {more[1]}" if what == "wrong-meter" else ""
        kind, _, how = what.partition(" ")
        asked = desk.type(f"corrections ask {kind} {receipt} {how}{meter} --as op.ann {said}")
        if asked.code == 0:
            desk.type(f"corrections approve {asked.out.split(':')[0]} --as fin.zoe --reason agreed")


def _in_drawers(connection: sa.Connection) -> int:
    """What lies in the drawers of the station: expected while nobody has acknowledged a count, counted then."""
    return sum(
        sum(
            getattr(row, f"counted_{name}_minor") if row.state == shifts.ACKNOWLEDGED else row.expected_minor(name)
            for name in shifts.TENDERS
        )
        for row in shifts.listed(connection, station="ST001")
    )
