"""A bank's switch with every fault against the gateway, over sockets and on both databases.

Afterwards the switch's books, ours, and both end-of-day files say the same to the cent; every debit has one token,
which the switch was told; nothing that was taken back has one that can still be given out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from channels.iso8583 import shipped
from channels.iso8583.switch import BankSwitch, Fault, SwitchSettings
from channels.iso8583.switch_books import Fate, Patience, unresolved
from channels.iso8583.switch_messages import Terminal
from config.money import BankSettings
from gateway.world import seeded
from ledger import bankdays, tables
from sts.modules.software import SoftwareModule
from tests.gateway.bank.agreement import agree, sell
from tests.gateway.bank.switch import BANK, Bank, open_bank
from tests.simulation.shop import METER, Counter, handle_of, open_counter, sample_keys, wants

METERS = (
    "04012345676", "07003012213", "07003012221", "14252321808", "37180000426", "01405512003", "01405512011",
    "07003012239", "14252321816", "14252321824", "37180000434", "04012345684",
)  # fmt: skip


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url, SoftwareModule(sample_keys())) as opened:
        yield opened


@asynccontextmanager
async def switched_on(
    bank: Bank, counter: Counter, rates: dict[Fault, float] | None = None, seed: int = 1, **settings: Any
) -> AsyncIterator[BankSwitch]:
    """A switch with two links to this bank's side of the gateway."""
    values: dict[str, Any] = {"links": 2, "answer_timeout_s": 1.0, "redial_s": 0.02, "storm_links": 4} | settings
    switch = BankSwitch(
        SwitchSettings(
            port=bank.peer.links.port(), fault_rates=rates or {}, terminals=(Terminal(currency="404"),), **values
        ),
        bank.profile,
        now=counter.world.now,
        local=counter.shop.local,
        random=seeded(seed),
    )
    await switch.start()
    try:
        await asyncio.wait_for(switch.ready(values["links"]), 60)
        yield switch
    finally:
        await switch.stop()


RATES = {
    Fault.LOSE_ANSWER: 0.08, Fault.LATE_ANSWER: 0.04, Fault.REPEAT: 0.1, Fault.GIVE_UP: 0.4, Fault.NO_PAPER: 0.1,
    Fault.REVERSAL_FIRST: 0.05, Fault.CROSSING: 0.05, Fault.CUT: 0.03, Fault.GARBAGE: 0.03, Fault.HALF_FRAME: 0.03,
    Fault.SLOW_LORIS: 0.03, Fault.STORM: 0.03,
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
async def test_with_every_fault_switch_books_and_files_agree_to_the_cent(counter: Counter, seed: int) -> None:
    async with open_bank(counter, replace(BANK, links_max=16)) as bank:
        async with switched_on(bank, counter, RATES, seed, answer_timeout_s=1.0) as switch:
            await sell(switch, METERS, 60)
            counts = switch.books.counts()
            assert counts["approved"] > 20 and counts["reversed"] > 3 and switch.counts.faults > 20, switch.counts
            await agree(switch, counter.store, BANK.name, counter.world.now(), counter.world.new_id)


async def test_a_cut_over_and_a_restart_in_the_middle(counter: Counter) -> None:
    settings = replace(BANK, links_max=16)
    async with open_bank(counter, settings) as bank:
        async with switched_on(bank, counter) as switch:
            await sell(switch, METERS, 10)
            first, first_minor = switch.business_date, switch.books.net_minor()
            assert await switch.cut_over(first + timedelta(days=1)) == "00"
            assert await switch.cut_over(first + timedelta(days=1)) == "00"
            await sell(switch, METERS, 5)
            told = await switch.reconcile(first)
            assert told.theirs is not None and told.theirs.net_minor == first_minor and told.in_balance
            assert (await switch.reconcile(switch.business_date)).in_balance
            assert switch.books.wrong == []
        await bank.stop()
        again = await bank.restart()
        try:
            async with switched_on(again, counter, first_stan=1) as second:
                sale = switch.books.sales[0]
                assert sale.heard is not None
                before = sale.heard.tokens
                await second.repeat(sale)
                assert sale.heard.tokens == before and second.books.wrong == []
        finally:
            await again.stop()


@pytest.mark.parametrize("name", ["atm87-bcd", "postilion87", "atm93", "pln2003-like"])
async def test_every_shipped_profile_sells_over_sockets(name: str, tmp_path: Any) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db", SoftwareModule(sample_keys())) as counter:
        async with open_bank(counter, replace(BANK, profile=name)) as bank:
            async with switched_on(bank, counter, answer_timeout_s=2.0, patience=Patience(1, 2)) as switch:
                await sell(switch, METERS, 6)
                sale = switch.books.sales[0]
                await switch.repeat(sale)
                await switch.advise(sale)
                assert sale.fate is Fate.APPROVED and switch.books.wrong == []
                assert unresolved(switch.books) == []
                ours = await counter.store.read(lambda connection: bankdays.on_its_way_minor(connection, "kcb"))
                assert ours == switch.books.net_minor() > 0


def one_token_bank(tmp_path: Path, several: str) -> BankSettings:
    """A bank with one position for a token, that does so with a sale that comes to more."""
    path = tmp_path / f"{several}.toml"
    path.write_text(f'extends = "pln2003-like"\nname = "{several}"\nseveral_tokens = "{several}"\n')
    return replace(BANK, profile=str(path))


@pytest.mark.parametrize(("meter", "revision", "code"), [(METER, 3, "0005"), ("01405512003", 2, "0007")])
async def test_a_bank_with_one_place_for_a_token_sells_nothing_that_comes_to_more(
    tmp_path: Path, meter: str, revision: int, code: str
) -> None:
    keys = SoftwareModule([*sample_keys(), *sample_keys(revision=3)])
    async with open_counter(f"sqlite:///{tmp_path}/t.db", keys) as counter:
        if revision == 3:  # the key-change set comes before the credit; the other meter has free units
            await wants(counter, METER, handle_of(METER, 3))
        async with open_bank(counter, one_token_bank(tmp_path, "refuse")) as bank:
            async with switched_on(bank, counter, answer_timeout_s=2.0) as switch:
                sale = await switch.buy(meter, 50_000)
                await switch.repeat(sale)
                assert sale.heard is not None and (sale.fate, sale.heard.code) == (Fate.DECLINED, code)
                assert switch.books.wrong == [] and await counter.count(tables.token) == 0
        async with open_bank(counter, one_token_bank(tmp_path, "text")) as bank:
            async with switched_on(bank, counter, answer_timeout_s=2.0, first_stan=100) as switch:
                sale = await switch.buy(meter, 50_000)
                assert sale.fate is Fate.APPROVED and sale.heard is not None and switch.books.wrong == []
                told = await counter.store.read(tokens_by_kind)
                assert sale.heard.tokens == (told["credit"][0],)
                printed = re.sub(r"[^0-9]", "", sale.heard.text)
                places = [printed.index(digits) for kind in ("key_change", "credit", "free") for digits in told[kind]]
                assert len(places) > 1 and places == sorted(places)
        await counter.check_books()


def tokens_by_kind(connection: sa.Connection) -> dict[str, list[str]]:
    """The digits of every token in the order of entry."""
    found: dict[str, list[str]] = {"key_change": [], "credit": [], "free": []}
    t = tables.token.c
    for kind, digits in connection.execute(sa.select(t.kind, t.digits).order_by(t.purchase_id, t.seq)):
        found[kind].append(digits)
    return found


async def test_two_hundred_pipelined_purchases_and_five_links_are_all_answered_with_one_token_each(
    counter: Counter,
) -> None:
    async with open_bank(counter, replace(BANK, links_max=8)) as bank:
        async with switched_on(bank, counter, links=1, answer_timeout_s=60.0) as switch:
            sales = await asyncio.gather(
                *(switch.buy(METERS[number % len(METERS)], 20_000 + number) for number in range(100))
            )
            assert switch.books.wrong == []
        async with switched_on(bank, counter, links=5, answer_timeout_s=60.0, first_stan=1_000) as wide:
            sales += await asyncio.gather(
                *(wide.buy(METERS[number % len(METERS)], 30_000 + number) for number in range(100))
            )
            assert wide.books.wrong == []
    assert {sale.requests for sale in sales} == {1} and all(sale.is_over for sale in sales)
    approved = [sale for sale in sales if sale.fate is Fate.APPROVED]
    tokens = [token for sale in approved if sale.heard is not None for token in sale.heard.tokens]
    assert len(tokens) == len(set(tokens)) >= len(approved) > 100


def test_the_usual_bank_is_one_that_the_shipped_profile_describes() -> None:
    assert shipped.profile(BankSettings(name="x", currency="404", listen="127.0.0.1:1").profile).name == "atm87"
