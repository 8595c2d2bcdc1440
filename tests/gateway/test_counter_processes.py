"""Counter sales from several real processes at one moment: a station's last money is spent once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.demo import tokens_in
from tests.gateway.terminal import METER, OTHER, Terminal

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """The sample utility on each database."""
    return Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()


def test_of_two_processes_on_a_stations_last_money_exactly_as_many_sales_pass_as_it_has(desk: Terminal) -> None:
    desk.well("stations limit ST001 1001 --as fin.zoe --with fin.max")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "gateway", "sell", "--as", login, "--config", str(desk.config)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for login in ("op.ann", "op.cat")
    ]
    # Twenty sales of a little more than 100 each, and money for ten.
    for process, login, drn in zip(processes, ("op.ann", "op.cat"), (METER, OTHER), strict=True):
        assert process.stdin is not None
        process.stdin.write(f"password of {login}\n" + "".join(f"{drn} 100.{cents:02d}\n" for cents in range(1, 11)))
        process.stdin.flush()
    told = [process.communicate(timeout=120) for process in processes]
    assert [err for _, err in told] == ["", ""]
    sold = [token for out, _ in told for token in tokens_in(out)]
    assert len(sold) == len(set(sold)) == 10, told
    assert sum(out.count("selling credit is used up") for out, _ in told) == 10
    assert -100_100 <= desk.balance("owed:ST001") < -100_000
    desk.check()


def test_one_reference_asked_by_several_processes_at_once_is_sold_once(desk: Terminal) -> None:
    command = ["sell", "--as", "op.ann", "--meter", METER, "--amount", "500", "--key", "pos-9"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "gateway", *command, "--config", str(desk.config)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    told = [process.communicate("password of op.ann\n", timeout=120) for process in processes]
    assert len({tuple(tokens_in(out)) for out, _ in told}) == 1 and all(tokens_in(out) for out, _ in told), told
    assert desk.balance("owed:ST001") == -50_000
    desk.check()
