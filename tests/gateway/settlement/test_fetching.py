"""`prepaid settlement fetch`: a day from the provider's own interface, taken in as a file would be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from uuid import uuid4

import pytest

from tests.gateway.payments.sources import Market, market, order
from tests.gateway.terminal import Terminal

DAY = date(2026, 6, 3)  # when the simulated providers live


@pytest.fixture
def terminal(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    monkeypatch.setenv("S", "hunter2-correct-horse")
    made = Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()
    made.config.write_text(made.config.read_text() + '[callbacks]\npublic_url = "https://pay.example"\n' + SOURCES)
    return made


SOURCES = """
[[checkout]]
name = "at"
base_url = "http://127.0.0.1:1"
username = "umoja"
product = "Electricity"
api_key_env = "S"
[[payment]]
name = "at"
kind = "africastalking"
path_secret_env = "S"
[[payment]]
name = "prompt"
kind = "mpesa_stk"
account = "kenya"
step_minor = 100
path_secret_env = "S"
[[mpesa]]
name = "kenya"
shortcode = "600987"
consumer_key_env = "S"
consumer_secret_env = "S"
passkey_env = "S"
"""


def at_market(terminal: Terminal, payments: int, work: Callable[[Market], None]) -> None:
    """Work while the simulated provider has so many payments and serves."""

    async def run() -> None:
        async with market() as place:
            for number in range(payments):
                await place.at.collect(order(our_ref=uuid4(), amount_minor=(number + 1) * 10_000))
                await place.operator.idle()
            place.checkout.api_key, place.checkout.username = "hunter2-correct-horse", "umoja"
            settings = terminal.config.read_text().replace("http://127.0.0.1:1", place.server.url)
            terminal.config.write_text(settings)
            await asyncio.to_thread(work, place)

    asyncio.run(run())


def test_a_day_is_fetched_and_taken_in_once(terminal: Terminal) -> None:
    def work(place: Market) -> None:
        trial = terminal.well(f"settlement fetch at --day {DAY} --trial --as fin.zoe")
        assert "the provider lists 2 lines" in trial and "nothing was stored" in trial
        told = terminal.well(f"settlement fetch at --day {DAY} --as fin.zoe")
        assert "2 PAYMENT  300.00" in told and "2 lines are new" in told and "2 MATCHED" in told
        assert terminal.balance("clearing:at") == -30_000 and terminal.balance("suspense:at") == 30_000
        assert "taken in already" in terminal.well(f"settlement fetch at --day {DAY} --as fin.zoe")
        assert f"at-{DAY}.csv  fetched  fin.zoe  complete" in terminal.well("settlement show at --as fin.zoe")
        assert "fee 1.10" in terminal.well(f"settlement show at --day {DAY} --as fin.zoe")
        terminal.no(f"settlement fetch at --day {DAY} --as op.ben", "FINANCE")

    at_market(terminal, 2, work)
    terminal.check()


def test_a_list_that_cannot_be_had_stores_nothing(terminal: Terminal) -> None:
    def work(place: Market) -> None:
        place.checkout.api_key = "another"
        terminal.no(f"settlement fetch at --day {DAY} --as fin.zoe", "cannot be had, nothing was stored: HTTP 401")

    at_market(terminal, 1, work)
    terminal.no(f"settlement fetch at --day {DAY} --as fin.zoe", "cannot be had, nothing was stored")
    terminal.no("settlement fetch prompt --as fin.zoe", "one that lists its days expected, at; ", code=2)
    terminal.no("settlement fetch nobody --as fin.zoe", "one that lists its days expected, at; ", code=2)
    terminal.no("settlement fetch at --day 2099-01-01 --as fin.zoe", "one that has begun expected", code=2)
    terminal.check()


def test_a_day_without_payments_is_a_statement_all_the_same(terminal: Terminal) -> None:
    def work(place: Market) -> None:
        assert "the provider lists 0 lines" in terminal.well("settlement fetch at --as fin.zoe")

    at_market(terminal, 0, work)
