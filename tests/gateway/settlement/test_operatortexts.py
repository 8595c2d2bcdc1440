"""Operators' texts: pending and no more, from allowed senders only, once for each receipt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.commands import Help, Unreadable
from channels.contract import Inbound
from config.money import OperatorTextSettings
from gateway.metrics import Metrics
from gateway.settlement.operatortexts import BadPatterns, OperatorTexts, read_patterns, read_text
from ledger import pendingpayments
from ledger.pendingpayments import Pending
from ledger.reasons import Reason
from tests.gateway.payments.till import STRANGER, Till, open_till
from tests.gateway.settlement.test_run import row, run
from tests.simulation.shop import METER

PATTERNS = """
[[pattern]]
text = '''(?x)(?P<receipt>[A-Z0-9]{10})\\ Confirmed\\.\\ on\\ .*Ksh(?P<amount>\\S+)
  \\ received\\ from\\ (?P<payer>\\d{12})\\ .*Account\\ Number\\ (?P<account_ref>\\w+).*'''
[[pattern]]
text = '''Recu (?P<amount>[0-9 ,]+) de .* Ref: (?P<receipt>\\w+)'''
decimal_mark = ","
group_mark = " "
"""
TEXT = (
    "{receipt} Confirmed. on 3/6/26 at 12:05 PM Ksh{amount} received from 254700000001 A B. Account Number {meter} "
    "New Utility balance is Ksh1.00"
)


def text(receipt: str = "UFA5XK2Q1M", amount: str = "1,500.00", meter: str = METER) -> str:
    return TEXT.format(receipt=receipt, amount=amount, meter=meter)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (text(), ("UFA5XK2Q1M", 150_000, "254700000001", METER)),
        (f" {text(amount='5.')} ", ("UFA5XK2Q1M", 500, "254700000001", METER)),
        ("Recu 1 500,50 de A B Ref: X123", ("X123", 150_050, "", "")),
        (text(amount="0"), None),
        (text(amount="1.005"), None),
        (text(amount=","), None),
        (text(amount="9" * 30), None),
        (text(receipt="ufa"), None),
        (f"FW: {text()}", None),  # only a whole text counts
        (text() + "x" * 1_000, None),
        ("04012345676 500", None),
        ("", None),
    ],
)
def test_texts_are_read_by_their_patterns(said: str, expected: tuple[str, int, str, str] | None) -> None:
    found = read_text("mpesa", read_patterns("mine", PATTERNS), said, 2)
    assert (found and (found.receipt, found.amount_minor, found.payer, found.account_ref)) == expected


@given(st.text(max_size=200))
def test_noise_is_no_operators_text_and_never_a_crash(noise: str) -> None:
    assert read_text("mpesa", read_patterns("mine", PATTERNS), noise, 2) is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("x", "Expected"),
        ("", r"one or more \[\[pattern\]\]"),
        ("[[pattern]]\ntext = '(?P<receipt>x)'", r"a group \(\?P<amount>"),
        ("[[pattern]]\ntext = '(?P<receipt>x)(?P<amount>1)(?P<more>x)'", "there is no group 'more'"),
        ("[[pattern]]\ntext = '('", "pattern 1"),
        ("[[pattern]]\ntext = 1", "text expected"),
        ("[[pattern]]\ntext = '(?P<receipt>x)(?P<amount>1)'\ngroup_mark = '.'", "two unlike marks"),
    ],
)
def test_bad_patterns_say_where_and_why(document: str, words: str) -> None:
    with pytest.raises(BadPatterns, match=words):
        read_patterns("mine", document)


class Desk:
    """Keeps what is handed on."""

    def __init__(self) -> None:
        self.had: list[Inbound] = []

    async def receive(self, inbound: Inbound) -> None:
        self.had.append(inbound)


def texts_of(till: Till, tmp_path: Path) -> tuple[OperatorTexts, Desk, Callable[..., Inbound]]:
    path = tmp_path / "patterns.toml"
    path.write_text(PATTERNS)
    place = OperatorTextSettings(name="mpesa", senders="MPESA 254799999999", code="888", patterns_file=str(path))
    texts = OperatorTexts(
        [place], minor_digits=2, currency="KES", write=till.counter.store.transact, world=till.counter.world,
        metrics=Metrics(),
    )  # fmt: skip
    read = texts.reading(lambda words: Help() if words == "help" else Unreadable(Reason.UNREADABLE))

    def inbound(words: str, sender: str = "MPESA") -> Inbound:
        return replace(till.counter.inbound(read(words), sender), destination="888")

    return texts, Desk(), inbound


async def pending(till: Till) -> list[Pending]:
    return await till.counter.store.read(lambda connection: pendingpayments.waiting(connection))


async def test_only_the_statement_makes_a_payment_of_a_text(database_url: str, tmp_path: Path) -> None:
    async with open_till(database_url) as till:
        texts, desk, inbound = texts_of(till, tmp_path)
        before = texts.before(desk)
        for words in (text(), text(), text(amount="9.00")):
            await before.receive(inbound(words, "mpesa"))
        assert desk.had == []
        (waiting,) = await pending(till)
        assert (waiting.receipt, waiting.amount_minor) == ("UFA5XK2Q1M", 150_000)
        assert await till.tokens() == 0 and await till.balance("clearing:mpesa") == 0
        # The statement masks the payer and leaves the meter out: the text knows them.
        line = row(till, "UFA5XK2Q1M", "1500.00", "2547***001 - A B", "")
        assert await run(till, tmp_path, "one.csv", [line]) == {"MATCHED": 1}
        assert await till.tokens() == 1 and till.sent.keys(STRANGER) == ["sold"]
        assert await pending(till) == []
        await before.receive(inbound(text()))  # late: nothing more
        assert await till.tokens() == 1 and await till.balance("clearing:mpesa") == -150_000
        await till.counter.check_books()


async def test_a_text_of_another_amount_says_nothing_about_the_statements_money(
    database_url: str, tmp_path: Path
) -> None:
    async with open_till(database_url) as till:
        texts, desk, inbound = texts_of(till, tmp_path)
        await texts.before(desk).receive(inbound(text(amount="9.00")))
        line = row(till, "UFA5XK2Q1M", "1500.00", "2547***001 - A B", "")
        await run(till, tmp_path, "one.csv", [line])
        assert [reason for reason, _, _ in await till.held()] == ["NO_ORDER"] and await till.tokens() == 0


async def test_forged_senders_are_counted_and_treated_as_customers(database_url: str, tmp_path: Path) -> None:
    async with open_till(database_url) as till:
        texts, desk, inbound = texts_of(till, tmp_path)
        before = texts.before(desk)
        await before.receive(inbound(text(), "254700000001"))
        await before.receive(replace(inbound(text(), "MPESA"), destination="999"))
        assert [one.command for one in desk.had] == [Unreadable(Reason.UNREADABLE)] * 2
        assert all(type(one.command) is Unreadable for one in desk.had)
        await before.receive(inbound("help", "254700000001"))
        assert desk.had[-1].command == Help()
        assert await pending(till) == []
        counted = texts._metrics.exposition().decode()
        assert 'why="SENDER"} 2.0' in counted


def test_without_a_source_that_sends_texts_nothing_is_in_between(tmp_path: Path) -> None:
    async def write(_: object) -> None:
        raise AssertionError("nothing is written")

    texts = OperatorTexts([], minor_digits=2, currency="KES", write=write, world=None, metrics=Metrics())  # type: ignore[arg-type]
    desk = Desk()
    assert texts.before(desk) is desk
