"""Purchases, repeats, reversals, advices and totals of a bank, over real sockets and on both databases.

Rows of the decision table of reversals stand in the order of docs/iso8583.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from channels.commands import LastToken
from channels.iso8583.message import Message
from ledger import bank_tables, banks, tables
from ledger.accounts import id_of
from sts.modules.software import SoftwareModule
from tests.gateway.bank.switch import BANK, Bank, network, open_bank, purchase, reversal, tokens
from tests.simulation.shop import METER, Counter, handle_of, open_counter, sample_keys, wants


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


@pytest.fixture
async def bank(counter: Counter) -> AsyncIterator[Bank]:
    async with open_bank(counter) as opened:
        yield opened


async def owed(counter: Counter) -> int:
    """What the bank owes, in minor units."""
    p = tables.posting.c

    def read(connection: sa.Connection) -> int:
        total = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(p.account_id == id_of("clearing:kcb"))
        return -int(connection.execute(total).scalar_one())

    return await counter.store.read(read)


async def test_a_purchase_is_answered_with_its_token_and_the_bank_owes_its_money(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    asked = purchase()
    answer = await line.ask(asked)
    assert (answer.mti, answer.get(39)) == ("0210", "00")
    (token,) = tokens(answer)
    assert len(token) == 20 and answer.get("62.22") == "00" and int(answer.get("62.21") or 0) > 0
    assert (
        answer.get(
            "62.27",
        )
        and (answer.get(38) or "") == (answer.get("62.27") or "")[-6:]
    )
    assert "|" in (answer.get(63) or "") and "Balance" not in (answer.get(63) or "")
    for number in (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 48, 49):
        assert answer[number] == asked[number], f"field {number} is sent back as it came"
    assert not {35, 52} & set(answer.numbers)
    assert await owed(counter) == 50_000
    parts = sum(int(answer.get(f"62.{tag}") or 0) for tag in (23, 24, 25, 26))
    assert parts == 50_000


async def test_a_repeat_gets_the_same_answer_on_another_link_and_after_a_restart(counter: Counter, bank: Bank) -> None:
    first, second = await bank.line(), await bank.line()
    answer = await first.ask(purchase())
    repeats = [
        await first.ask(purchase()),  # switches forget to change the type
        await first.ask(purchase(mti="0201")),
        await second.ask(purchase(mti="0201", f7="0605093000", f2=None, f52=None)),  # with a new transmission time
    ]
    counter.world.advance(hours=7)
    bank = await bank.restart()
    line = await bank.line()
    repeats.append(await line.ask(purchase(mti="0201")))
    repeats.append(await line.ask(purchase(mti="0220")))  # an advice of what was completed
    for repeat in repeats:
        assert repeat.without([2, 7]) == Message(
            "0230" if repeat.mti == "0230" else "0210", dict(answer.without([2, 7]).items())
        )
    assert await owed(counter) == 50_000 and await counter.count(tables.purchase) == 1
    await bank.stop()


@pytest.mark.parametrize("changed", [{"amount_minor": 60_000}, {"drn": "14252321824"}, {"f3": "501000"}])
async def test_a_key_used_again_for_something_else_is_refused(
    counter: Counter, bank: Bank, changed: dict[str, Any]
) -> None:
    line = await bank.line()
    assert (await line.ask(purchase())).get(39) == "00"
    other = await line.ask(purchase(**changed))
    assert other.get(39) == "94" and not tokens(other)
    assert await owed(counter) == 50_000


# what is asked, the code
DECLINED = [
    (purchase(drn="99999990007"), "14"),  # no such meter
    (purchase(drn="04012345677"), "14"),  # its check digit is wrong
    (purchase(amount_minor=0), "13"),
    (purchase(amount_minor=1), "13"),
    (purchase(amount_minor=900_000_000), "13"),
    (purchase(f49="840"), "57"),  # another currency: never sold at that number
    (purchase(f15="0705"), "00"),
    (purchase(f15="0815"), "30"),  # more than a month away
    (purchase(f15="0230"), "30"),
    (purchase(mti="0220"), "25"),  # an advice of what never came
]


@pytest.mark.parametrize(("asked", "code"), DECLINED)
async def test_a_decline_is_stored_and_repeated(counter: Counter, bank: Bank, asked: Message, code: str) -> None:
    line = await bank.line()
    answer = await line.ask(asked)
    assert answer.get(39) == code and answer[11] == asked[11] and answer[41] == asked[41]
    again = await line.ask(Message("0200" if asked.mti == "0220" else "0201", dict(asked.items())))
    assert again.get(39) == code
    sold = 50_000 if code == "00" else 0
    assert await owed(counter) == sold


async def test_a_repeat_of_what_never_came_is_a_purchase(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    sold = await line.ask(purchase(mti="0201"))
    assert (sold.mti, sold.get(39)) == ("0210", "00")
    assert tokens(await line.ask(purchase())) == tokens(sold) and await owed(counter) == 50_000


async def test_an_inquiry_tells_of_the_meter_and_stores_nothing(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    asked = Message("0100", dict(purchase(f3="380000").without([2, 4, 35, 52]).items()))
    answer = await line.ask(asked)
    assert (answer.mti, answer.get(39), answer.get("48.01")) == ("0110", "00", METER)
    assert answer.get("48.12") == "600801" and (answer.get("48.10") or "").startswith("A.H.")
    assert int(answer.get("48.15") or 0) < int(answer.get("48.16") or 0)
    assert await counter.count(bank_tables.bank_request) == 0


# --- reversals --------------------------------------------------------------------------------------------------------


async def test_a_reversal_of_something_never_seen_keeps_it_from_ever_being_sold(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    asked = purchase()
    assert (await line.ask(reversal(asked))).get(39) == "00"
    late = await line.ask(asked)
    assert late.get(39) == "94" and not tokens(late)
    # Its repeat comes under the same key, and its transmission time may be another one.
    assert (await line.ask(purchase(mti="0201", f7="0605090000"))).get(39) == "94"
    assert await owed(counter) == 0 and await counter.count(tables.purchase) == 0


async def test_a_reversal_that_has_times_of_its_own_finds_its_purchase_by_trace(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    sold, never = purchase(1), purchase(2)
    await line.ask(sold)
    its_own = {"f12": "111600", "f13": "0605", "f37": "615611000900"}
    assert (await line.ask(reversal(sold, 901, **its_own))).get(39) == "00"
    assert await owed(counter) == 0
    assert (await line.ask(reversal(never, 902, **its_own))).get(39) == "00"
    assert (await line.ask(never)).get(39) == "94"
    assert (await line.ask(purchase(2, mti="0201"))).get(39) == "94"
    assert await counter.count(tables.purchase) == 1


async def test_what_the_bank_vouches_for_is_reversed_and_sealed(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    asked = purchase()
    await line.ask(asked)
    for repeat in ("0420", "0421", "0420"):
        answer = await line.ask(reversal(asked, mti=repeat))
        assert (answer.mti, answer.get(39)) == ("0430", "00")
    assert (await line.ask(reversal(asked, 950, mti="0400"))).get(39) == "00"  # another one of the same purchase
    assert await owed(counter) == 0
    again = await line.ask(purchase(mti="0201"))
    assert again.get(39) == "12" and not tokens(again)
    day = counter.shop.local(counter.world.now()).date()
    totals = await counter.store.read(lambda connection: banks.totals(connection, "kcb", day))
    assert (totals.purchases, totals.reversals, totals.net_minor) == (1, 1, 0)


@pytest.mark.parametrize(("mti", "code"), [("0400", "21"), ("0420", "00")])
async def test_without_a_word_of_the_bank_an_answer_that_was_written_counts_as_seen(
    counter: Counter, bank: Bank, mti: str, code: str
) -> None:
    line = await bank.line()
    asked = purchase()
    await line.ask(asked)
    answer = await line.ask(reversal(asked, mti=mti, reason="17"))
    assert answer.get(39) == code
    assert await owed(counter) == 50_000  # the sale stands
    again = await line.ask(purchase(mti="0201"))
    if mti == "0400":
        assert again.get(39) == "00" and tokens(again)
    else:  # told yes: this bank never gets the token again, and people settle it
        assert again.get(39) == "12" and not tokens(again)
        day = counter.shop.local(counter.world.now()).date()
        lines = await counter.store.read(lambda connection: list(banks.day_lines(connection, "kcb", day)))
        assert [(one.request.function, one.request.outcome, one.counts) for one in lines] == [
            ("PURCHASE", "ACCEPTED", True),
            ("REVERSAL", "EXCEPTION", False),
        ]


@pytest.mark.parametrize(("mti", "code"), [("0400", "21"), ("0420", "00")])
async def test_under_the_policy_refuse_the_bank_s_word_is_not_enough(counter: Counter, mti: str, code: str) -> None:
    async with open_bank(counter, replace(BANK, reversals="refuse")) as bank:
        line = await bank.line()
        asked = purchase()
        await line.ask(asked)
        assert (await line.ask(reversal(asked, mti=mti))).get(39) == code
        assert await owed(counter) == 50_000


async def test_a_token_shown_on_another_channel_is_not_taken_back(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    asked = purchase()
    await line.ask(asked)
    assert (await counter.ask(LastToken(METER))).replies[0].message.key == "last_token"
    assert (await line.ask(reversal(asked, mti="0400"))).get(39) == "21"
    assert await owed(counter) == 50_000


async def test_a_day_that_was_cut_over_is_settled(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    assert (await line.ask(network("201", 5, f15="0605"))).get(39) == "00"
    asked = purchase()
    await line.ask(asked)
    for _ in range(2):  # the same twice is the same
        assert (await line.ask(network("201", 6, f15="0606"))).get(39) == "00"
    assert (await line.ask(network("201", 7))).get(39) == "30"
    assert (await line.ask(reversal(asked, mti="0400"))).get(39) == "21"
    assert (await line.ask(reversal(asked, 901, mti="0400", f15="0605"))).get(39) == "21"
    assert (await line.ask(purchase(200))).get(39) == "00"
    of_day = await counter.store.read(
        lambda connection: [banks.totals(connection, "kcb", date(2026, 6, day)).purchases for day in (5, 6)]
    )
    assert of_day == [1, 1]


@pytest.mark.parametrize(
    ("changed", "code"), [({"f4": "000000040000"}, "13"), ({"f95": "000000010000" + "0" * 12 + "C00000000" * 2}, "13")]
)
async def test_another_amount_or_a_part_is_not_reversed(
    counter: Counter, bank: Bank, changed: dict[str, Any], code: str
) -> None:
    line = await bank.line()
    asked = purchase()
    await line.ask(asked)
    assert (await line.ask(reversal(asked, **changed))).get(39) == code
    assert await owed(counter) == 50_000


async def test_a_purchase_that_was_declined_has_nothing_to_take_back(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    for stan, drn in ((1, METER), (2, "99999990007")):
        asked = purchase(stan, 1, drn)
        assert (await line.ask(asked)).get(39) in ("13", "14")
        assert (await line.ask(reversal(asked, 900 + stan))).get(39) == "00"


# --- totals -----------------------------------------------------------------------------------------------------------


async def test_totals_are_compared_and_ours_are_told(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    first, second = purchase(1), purchase(2, 20_000)
    for asked in (first, second):
        await line.ask(asked)
    await line.ask(reversal(second, 900))

    def totals(stan: int, purchases: int) -> Message:
        return Message(
            "0500",
            {7: "0605090000", 11: f"{stan:06d}", 15: "0605", 32: "627001", 49: "404", 66: "0"}
            | {74: "0" * 10, 75: "0" * 10, 76: f"{purchases:010d}", 77: f"{1:010d}"}
            | {
                86: "0" * 16,
                87: "0" * 16,
                88: f"{70_000:016d}",
                89: f"{20_000:016d}",
                97: f"D{50_000:016d}",
                99: "627001",
            },
        )

    right = await line.ask(totals(10, 2))
    assert (right.mti, right.get(39), right.get(66)) == ("0510", "00", "1")
    wrong = await line.ask(totals(11, 3))
    assert (wrong.get(39), wrong.get(66), wrong.get(76), wrong.get(97)) == ("00", "2", "0000000002", f"D{50_000:016d}")
    kept = await counter.store.read(lambda connection: banks.reconciled(connection, "kcb", date(2026, 6, 5)))
    assert [one.in_balance for one in kept] == [True, False]


# --- what else a sale may bring ---------------------------------------------------------------------------------------


async def test_a_key_change_comes_before_the_credit(tmp_path: Path) -> None:
    keys = SoftwareModule([*sample_keys(), *sample_keys(revision=3)])
    async with open_counter(f"sqlite:///{tmp_path}/t.db", keys) as counter:
        await wants(counter, METER, handle_of(METER, 3))
        async with open_bank(counter) as bank:
            line = await bank.line()
            answer = await line.ask(purchase())
            assert answer.all("62.22") == ["01", "02", "00"] and len(set(tokens(answer))) == 3
            assert answer.all("62.21")[:2] == ["0000000000"] * 2
            again = await line.ask(purchase(mti="0201"))
            assert tokens(again) == tokens(answer)


async def test_an_advice_of_what_never_came_is_sold_where_that_is_agreed(tmp_path: Path) -> None:
    (tmp_path / "late.toml").write_text('extends = "atm87"\nname = "late"\non_unknown_advice = "vend"\n')
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        async with open_bank(counter, replace(BANK, profile=str(tmp_path / "late.toml"))) as bank:
            line = await bank.line()
            answer = await line.ask(purchase(mti="0220"))
            assert (answer.mti, answer.get(39)) == ("0230", "00")
            late = await line.ask(purchase())  # it overtook its purchase
            assert tokens(late) == tokens(answer) and await owed(counter) == 50_000


async def test_a_sale_by_text_for_the_same_meter_is_none_of_the_bank_s(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    first = await counter.buy(50_000)
    assert (await line.ask(purchase())).get(39) == "00"  # the same meter and amount a moment later
    assert (await line.ask(purchase(125))).get(39) == "00"  # and again, from another customer at the machine
    assert await owed(counter) == 100_000
    assert first.state == "VENDED"
