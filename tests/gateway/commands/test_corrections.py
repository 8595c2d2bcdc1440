"""`prepaid corrections`, `account` and `purchase` as they are typed: roles, two people, what is shown."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from gateway.__main__ import main
from ledger import audit, operators, tables
from ledger.audit import Origin
from ledger.operators import Cost, Operator, Role
from ledger.store import open_store
from ledger.trial_balance import broken_invariants
from tests.simulation.shop import AMINA, METER, open_counter

PEOPLE = {"op.ann": Role.VENDOR, "sup.bob": Role.SUPERVISOR, "fin.zoe": Role.FINANCE, "aud.kay": Role.AUDITOR}
RIGHT = "37180000434"
T = TypeVar("T")


@dataclass
class Office:
    """An installation in which one purchase was made, and a terminal."""

    folder: Path
    receipt: str
    digits: str
    capsys: pytest.CaptureFixture[str]

    def type(self, command: str, login: str, *more: str) -> tuple[int, str]:
        group, name = command.split()
        password = self.folder / login
        password.write_text(f"password of {login}\n")
        signed = ["--as", login, "--password-file", str(password), "--reason", "as the customer wrote"]
        code = main([group, name, "--config", str(self.folder / "prepaid.toml"), *signed, *more])
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def read(self, function: Callable[[sa.Connection], T]) -> T:
        async def look() -> T:
            store = await open_store(f"sqlite:///{self.folder}/t.db")
            try:
                return await store.read(function)
            finally:
                await store.close()

        return asyncio.run(look())

    def broken(self) -> list[str]:
        return self.read(broken_invariants)

    def deeds(self) -> list[tuple[str, str]]:
        return [(row.who, row.deed) for row in self.read(lambda connection: audit.latest(connection, 100))]


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    url = f"sqlite:///{tmp_path}/t.db"

    async def load() -> tuple[str, str]:
        async with open_counter(url) as counter:
            # The commands have the clock of the machine; the tariffs end before that clock does.
            sold = (await counter.buy(50_000)).replies[0].message.values

            def hire(connection: sa.Connection) -> None:
                boss = Operator("adm.lee", "Lee", frozenset({Role.ADMIN}), "en", None)
                origin = Origin("adm.lee", counter.world.now(), "here")
                cheap, salt = Cost(log2_n=4), b"0123456789abcdef"
                operators.add(connection, boss, "password of adm.lee", salt, by=None, origin=origin, cost=cheap)
                for login, role in PEOPLE.items():
                    new = Operator(login, login, frozenset({role}), "en", None)
                    operators.add(connection, new, f"password of {login}", salt, by=boss, origin=origin, cost=cheap)

            await counter.store.transact(hire)
            return str(sold["receipt"]), str(sold["tokens"][0]["digits"])

    receipt, digits = asyncio.run(load())
    (tmp_path / "prepaid.toml").write_text(
        f'[database]\nurl = "{url}"\n[utility]\ncurrency = "KES"\ntimezone = "Africa/Nairobi"\n'
    )
    return Office(tmp_path, receipt, digits, capsys)


def test_one_asks_another_approves_and_everybody_can_read_it(office: Office) -> None:
    code, said = office.type("corrections ask", "op.ann", "wrong-meter", office.receipt, "--meter", RIGHT)
    assert (code, "WRONG_METER" in said) == (0, True), said
    case = said.split(":")[0]
    assert office.type("corrections approve", "op.ann", case)[0] == 1  # not the role
    assert office.type("corrections approve", "aud.kay", case)[0] == 1
    code, said = office.type("corrections approve", "sup.bob", case)
    assert (code, said) == (0, f"{case}: approved; its token: VENDING\n")
    assert office.type("corrections approve", "fin.zoe", case) == (
        0,
        f"{case}: was approved before; its token: VENDING\n",
    )
    assert office.type("corrections refuse", "fin.zoe", case)[0] == 1
    code, said = office.type("corrections show", "aud.kay", case)
    assert re.findall(r"(ASKED|APPROVED) +(\S+),", said) == [("ASKED", "op.ann"), ("APPROVED", "sup.bob")]
    assert f"meter {RIGHT}" in said
    assert case in office.type("corrections list", "aud.kay", "--state", "APPROVED")[1]
    assert office.type("corrections list", "aud.kay", "--state", "ASKED") == (0, "")
    assert office.broken() == []


def test_nobody_approves_what_they_asked_for(office: Office) -> None:
    _, said = office.type("corrections ask", "sup.bob", "refund-money", office.receipt)
    case = said.split(":")[0]
    code, said = office.type("corrections approve", "sup.bob", case)
    assert (code, "two people are needed" in said) == (1, True)
    assert office.type("corrections refuse", "fin.zoe", case) == (0, f"{case}: refused\n")
    assert office.broken() == []


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("wrong-meter", "?"), 2, "--meter"),
        (("refund-token", "?"), 2, "--amount"),
        (("refund-token", "?", "--amount", "1,5"), 2, "decimal amount expected"),
        (("faulty-meter", "?", "--meter", RIGHT, "--units", "501"), 1, "0.1 to 500.0 kWh"),
        (("refund-money", "?", "--units", "5"), 2, "--units"),
        (("refund-money", "0000000000000"), 1, "no sale has the receipt"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_by_name(office: Office, more: tuple[str, ...], code: int, said: str) -> None:
    words = [office.receipt if word == "?" else word for word in more]
    answer = office.type("corrections ask", "op.ann", *words)
    assert answer[0] == code and said in answer[1], answer
    # What the rules refuse somebody who has signed in is on record; what nobody could read was not asked.
    assert (("op.ann", "corrections.ask_refused") in office.deeds()) is (code == 1)


def test_a_purchase_is_shown_whole_with_its_token_masked(office: Office) -> None:
    code, said = office.type("purchase show", "aud.kay", office.receipt)
    assert code == 0 and office.digits not in said
    assert f"{'*' * 16}{office.digits[-4:]}" in said
    for part in (f"meter {METER}", "VENDED", "energy:D1-FLAT", "wallet:A100001", "reply sold on sms: OWED"):
        assert part in said, said
    assert office.type("purchase show", "aud.kay", office.receipt, "--digits")[0] == 1
    code, said = office.type("purchase show", "sup.bob", office.receipt, "--digits")
    assert code == 0 and office.digits in said
    assert "token shown" in office.type("purchase show", "aud.kay", office.receipt)[1]
    assert office.type("purchase show", "aud.kay", "NOSUCH")[0] == 2


def test_a_purchase_that_may_have_been_seen_is_not_taken_back(office: Office) -> None:
    assert office.type("purchase reverse", "fin.zoe", office.receipt)[0] == 1
    code, said = office.type("purchase reverse", "sup.bob", office.receipt)
    assert code == 1 and "it stands (REVERSAL_LATE)" in said
    assert "REFUSED, REVERSAL_LATE" in office.type("purchase show", "aud.kay", office.receipt)[1]
    assert office.broken() == []


def test_no_money_is_taken_for_an_account_that_was_closed(office: Office) -> None:
    async def close() -> None:
        store = await open_store(f"sqlite:///{office.folder}/t.db")
        try:
            closed = tables.customer.update().where(tables.customer.c.account_no == "A100003").values(status="CLOSED")
            await store.transact(lambda connection: connection.execute(closed))
        finally:
            await store.close()

    asyncio.run(close())
    code, said = office.type("account pay", "op.ann", "A100003", "120.50", "--reference", "S-1", "--station", "ST002")
    assert code == 1 and "account A100003 is closed" in said and not office.broken()


def test_money_is_taken_once_for_an_account_and_its_statement_shows_it(office: Office) -> None:
    code, said = office.type("account pay", "op.ann", METER, "120.50", "--reference", "S-1", "--station", "ST002")
    assert (code, "wallet: 120.50 KES; it has 1120.50 KES now" in said) == (0, True), said
    receipt = said.split(":")[0].removeprefix("receipt ")
    assert (
        "was taken before"
        in office.type("account pay", "op.ann", AMINA, "120.50", "--reference", "S-1", "--station", "ST002")[1]
    )
    assert office.type("account pay", "op.ann", METER, "1", "--reference", "S-1", "--station", "ST002")[0] == 1
    assert office.type("account pay", "op.ann", METER, "1", "--reference", "S-2", "--station", "ST999")[0] == 1
    assert office.type("account pay", "aud.kay", METER, "1", "--reference", "S-2")[0] == 1
    assert office.type("account pay", "op.ann", "NOBODY", "1", "--reference", "S-2")[0] == 2
    code, said = office.type("account show", "aud.kay", "A100001")
    assert code == 0 and re.findall(r"(-?[\d.]+) +([\d.]+)\n", said)[:3] == [
        ("1500.00", "1500.00"),
        ("-500.00", "1000.00"),
        ("120.50", "1120.50"),
    ]
    assert receipt in said
    assert office.type("account show", "aud.kay", "A100001", "--to", "2026-06-04")[1].count("sale") == 0
    assert office.type("account show", "aud.kay", "A100001", "--from", "yesterday")[0] == 2
    assert office.broken() == []
