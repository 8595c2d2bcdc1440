"""`prepaid simulate bank` as its user has it: by a script, and at a terminal, against the gateway's side of a bank."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway import __main__
from gateway.world import RealWorld
from ledger.bankfile import read
from sts.modules.software import SoftwareModule
from tests.gateway.bank.switch import Bank, open_bank
from tests.simulation.shop import open_counter, sample_keys
from tests.simulation.world import SeededWorld


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Bank]:
    world = SeededWorld(now=RealWorld().now())  # the command has the machine's own clock
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule(sample_keys()), world) as counter:
        async with open_bank(counter) as opened:
            yield opened


async def simulate(bank: Bank, *options: str) -> int:
    """The command's exit code; it runs in a thread of its own, with a loop of its own."""
    given = ["simulate", "bank", "--port", str(bank.peer.links.port()), "--currency", "404", *options]
    return await asyncio.to_thread(__main__.main, [*given, "--timezone", "Africa/Nairobi"])


async def test_a_script_with_faults_says_a_line_and_writes_the_day(
    bank: Bank, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "day"
    meters = "04012345676,07003012213,14252321808,01405512003"
    faults = ["--fault", "lose_answer=0.2", "--fault", "no_paper=0.2", "--fault", "repeat=0.2", "--seed", "7"]
    script = ["--purchases", "20", "--meters", meters, "--timeout-s", "0.5", "--bank", "kcb", "--day-file", str(path)]
    code = await simulate(bank, *script, *faults)
    said = json.loads(capsys.readouterr().out)
    assert code == 0 and said["well"] and said["wrong"] == [], said
    assert said["gateway_net_minor"] == said["net_minor"] > 0 and said["faults"] and said["open"] == 0
    file = read(path.read_bytes())
    assert file.sums.purchases_minor - file.sums.reversals_minor == said["net_minor"]
    # A second run on the same books sees its own sales only.
    assert await simulate(bank, "--purchases", "1", "--meters", "04012345676", "--amount", "70") == 0


async def test_books_that_differ_end_with_one(bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    # Every answer is lost for ever: what became of the sale stays open.
    script = ["--purchases", "1", "--meters", "04012345676", "--timeout-s", "0.05", "--repeats", "0"]
    assert await simulate(bank, *script, "--fault", "lose_answer=1") == 1
    assert json.loads(capsys.readouterr().out)["open"] == 1


async def test_at_a_terminal_the_slip_shows_the_token_and_not_the_card(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    day, tomorrow = tmp_path / "typed.day", RealWorld().now().date() + timedelta(days=1)
    lines = [
        "BUY 04012345676 500", "REPEAT", "BUY 04012345601 500", "CHECK 04012345676", "ECHO", "RECON", "FAULT no_paper",
        "buy 07003012213 700", "TOTALS", "BUY 04012345676 x", "FAULT nothing", "RECON 1-1", "KEY", "NONSENSE",
        f"FILE {day}", f"CUTOVER {tomorrow}", "QUIT",
    ]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    assert await simulate(bank, "--trace") == 0
    said = capsys.readouterr()
    out = said.out
    assert out.count("Token ") == 2 and "502199******0017" in out and "NOT SOLD  (14)" in out
    assert (
        "in balance; the gateway's: bought 1, 500.00; taken back 0, 0.00" in out
        and "TAKEN BACK" in out
        and "answered" in out
        and "net 500.00" in out
    )
    assert (
        "a decimal amount expected, got 'x'" in out
        and "storm expected, got 'nothing'" in out
        and "a day such as" in out
        and "WRONG" not in out
    )
    assert f"cut-over to {tomorrow}: 00" in out
    assert "5021990000000017" not in out + said.err and "> MTI=0200" in said.err
    assert len(read(day.read_bytes()).lines) == 3
