"""What operators want of a bank's links, over real sockets: pause, drain, sign-off and sign-on, echo; and as typed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from channels.iso8583.profile import Network
from channels.iso8583.switch_books import Fate
from gateway.bank.steering import BankSteering
from gateway.commands import bankday as bankday_commands
from gateway.links import _wish_of
from ledger import audit, banklinks, banks, links
from ledger.audit import Origin
from ledger.bankdays import BankDayRefused
from ledger.links import LinkState, Wish
from sts.modules.software import SoftwareModule
from tests.gateway.bank.switch import Bank, network, open_bank, purchase, reversal, tokens
from tests.gateway.bank.test_end_to_end import switched_on
from tests.gateway.bank.test_under_way import until_asked
from tests.gateway.terminal import Terminal
from tests.simulation.module import WaitingModule
from tests.simulation.shop import METER, Counter, open_counter, sample_keys

NOW = datetime(2026, 6, 5, tzinfo=UTC)


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


@pytest.fixture
async def bank(counter: Counter) -> AsyncIterator[Bank]:
    async with open_bank(counter) as opened:
        yield opened


def steering(counter: Counter, bank: Bank) -> BankSteering:
    return BankSteering(counter.store, bank.channel.peers, "node-1", counter.world, look_every_s=5)


def origin(counter: Counter) -> Origin:
    return Origin("adm.lee", counter.world.now(), "test", "at night")


async def wish(counter: Counter, bank: Bank, wanted: Wish) -> None:
    """What an operator types, and a node's next look."""
    by = origin(counter)
    await counter.store.transact(lambda connection: links.set_wish(connection, "bank:kcb", wanted, by, "bank"))
    await steering(counter, bank).look()


async def asked(counter: Counter, bank: Bank, what: str) -> list[str]:
    """What came of something that is sent once."""
    ask_id, by = counter.world.new_id(), origin(counter)
    await counter.store.transact(lambda connection: banklinks.ask(connection, ask_id, "kcb", what, by))
    await steering(counter, bank).look()
    await steering(counter, bank).look()  # once only
    found = await counter.store.read(lambda connection: banklinks.results(connection, ask_id))
    return [one.result for one in found]


async def test_a_paused_bank_sells_nothing_new_and_answers_for_all_that_it_sold(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    before = await line.ask(purchase(1))
    await wish(counter, bank, Wish.PAUSED)
    declined = await line.ask(purchase(2, 20_000))
    assert declined.get(39) == "91" and not tokens(declined)
    assert tokens(await line.ask(purchase(1, mti="0201"))) == tokens(before)
    assert (await line.ask(reversal(purchase(1)))).get(39) == "00"
    assert (await line.ask(network("301", 7))).get(39) == "00"
    await wish(counter, bank, Wish.RUN)
    assert (await line.ask(purchase(2, 20_000, mti="0201"))).get(39) == "91", "its decline stands"
    assert (await line.ask(purchase(3, 20_000))).get(39) == "00"


async def test_a_drained_bank_has_what_is_under_way_answered_and_no_links_then(database_url: str) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()), plan=["wait"])
    async with open_counter(database_url, module) as counter, open_bank(counter) as bank:
        busy, idle = await bank.line(), await bank.line()
        busy.send(purchase())
        await until_asked(module)
        await wish(counter, bank, Wish.DRAINED)
        await idle.closed()
        module.go.set()
        assert tokens(await busy.answer("000124"))
        await busy.closed()
        late = await bank.line(signs_on=False)
        await late.closed()
        await wish(counter, bank, Wish.RUN)
        again = await bank.line()
        assert (await again.ask(purchase(mti="0201"))).get(39) == "00"


async def test_sign_off_echo_and_sign_on_are_sent_on_every_link_once(counter: Counter, bank: Bank) -> None:
    assert await asked(counter, bank, "echo") == ["NO_LINK"]
    async with switched_on(bank, counter) as switch:
        assert await asked(counter, bank, "echo") == ["ANSWERED", "ANSWERED"]
        assert await asked(counter, bank, "sign_off") == ["ANSWERED", "ANSWERED"]
        assert not bank.peer.links.is_signed_on() and not switch.signed_on
        assert await asked(counter, bank, "sign_on") == ["ANSWERED", "ANSWERED"]
        assert bank.peer.links.is_signed_on() and len(switch.signed_on) == 2
        sale = await switch.buy(METER, 50_000)
        assert sale.fate is Fate.APPROVED and switch.books.wrong == []


async def test_a_bank_that_says_no_or_nothing_or_is_gone_is_told_as_that(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    connection = bank.peer.links.connections[0]
    for act, expected in (("no", "DECLINED 12"), ("silence", "NO_ANSWER"), ("cut", "LOST")):
        waits = asyncio.create_task(connection.ask(Network.ECHO, 5 if act != "silence" else 0.05))
        while not line.came:
            await line.read()
        (_, came) = line.came.popitem()
        if act == "no":
            line.send(type(came)("0810", {**dict(came.items()), 39: "12"}))
        elif act == "cut":
            line.cut()
        assert await waits == expected


async def test_asks_that_are_old_are_left_alone(counter: Counter, bank: Bank) -> None:
    ask_id, by = counter.world.new_id(), origin(counter)
    await counter.store.transact(lambda connection: banklinks.ask(connection, ask_id, "kcb", "echo", by))
    counter.world.advance(seconds=banklinks.ASK_S + 1)
    await steering(counter, bank).look()
    assert await counter.store.read(lambda connection: banklinks.results(connection, ask_id)) == []


async def test_a_business_date_by_hand_is_a_cut_over_and_never_goes_back(counter: Counter) -> None:
    today, by = date(2026, 6, 5), origin(counter)

    def begin(connection: sa.Connection, day: date) -> bool:
        return banklinks.set_day(connection, "kcb", day, today, by)

    assert await counter.store.transact(lambda connection: begin(connection, date(2026, 6, 6)))
    assert not await counter.store.transact(lambda connection: begin(connection, date(2026, 6, 6)))
    assert await counter.store.read(lambda connection: banks.business_date(connection, "kcb")) == date(2026, 6, 6)
    for wrong in (date(2026, 6, 5), date(2026, 8, 6)):
        with pytest.raises(BankDayRefused):
            await counter.store.transact(partial(begin, day=wrong))


def test_what_is_wanted_of_a_bank_holds_for_each_link_that_we_dial() -> None:
    drained = LinkState("bank:kcb", Wish.DRAINED, "adm.lee", NOW, "")
    states = {"bank:kcb": drained, "smsc.1": LinkState("smsc.1", Wish.PAUSED, "adm.lee", NOW, "")}
    assert [_wish_of(states, name) for name in ("bank:kcb.1", "bank:kcb2.1", "smsc.1", "smsc")] == [
        Wish.DRAINED, Wish.RUN, Wish.PAUSED, Wish.RUN,
    ]  # fmt: skip


# --- as typed ---------------------------------------------------------------------------------------------------------


def test_operators_steer_a_bank_and_the_log_says_who(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = Terminal(tmp_path, f"sqlite:///{tmp_path}/t.db", monkeypatch, capsys)
    at.tools = (*at.tools, bankday_commands)
    at.set_up()
    with at.config.open("a") as file:
        file.write('[[bank]]\nname = "umoja"\ncurrency = "404"\nlisten = "127.0.0.1:0"\naddresses = "127.0.0.0/8"\n')
    assert "bank umoja: PAUSED, was RUN" in at.well("bank pause umoja --as adm.lee --reason 'their wish'")
    status = at.well("bank status")
    assert "PAUSED, set by adm.lee" in status and "their wish" in status
    at.no("bank drain umoja --as op.ann", "has not the role")
    at.no("bank pause nobody --as adm.lee", "one of umoja expected", code=2)
    at.well("bank resume umoja --as adm.lee")
    asked_for = at.type("bank echo umoja --as adm.lee --wait 0")
    assert asked_for.code == 1 and "no node has said what came of it yet" in asked_for.out
    assert "echo asked by adm.lee" in at.well("bank status")
    assert "the business date is 2026-06-06" in at.well("bank cut-over umoja 2026-06-06 --as fin.zoe")
    at.no("bank cut-over umoja 2026-06-05 --as fin.zoe", "a date after 2026-06-06 expected")
    at.no("bank cut-over umoja 2026-06-07 --as adm.lee", "has not the role")
    rows = at.read(lambda connection: audit.latest(connection, 100))
    deeds = [row.deed for row in rows if row.deed.startswith("bank.") and "refused" not in row.deed]
    assert sorted(deeds) == ["bank.cut_over", "bank.echo", "bank.paused", "bank.run"]
