"""`prepaid tariff`: sales of the books tried under a draft and reckoned again, on both databases."""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.commands import keys as keys_commands
from gateway.commands import tariffs as tariffs_commands
from gateway.preview import Totals, alone, preview
from gateway.purchase import State
from gateway.sale import priced_from, priced_from_json, split_json
from ledger import tables
from ledger.pricing import Account, Tariff, price
from ledger.reasons import Refusal
from ledger.sold import Sold
from ledger.store import open_store
from ledger.tariffs_format import read_tariff
from tests.ledger.test_pricing import ACCOUNTS, AMOUNTS, tariffs
from tests.simulation.shop import SAMPLE, Counter, open_counter
from tests.simulation.world import SeededWorld

BAKERY = "254711244422"  # buys from its wallet
AGENT = "254722000002"  # sells from the float of ST002 and earns two percent
FLAT, IBT, IBT_FREE, LEVY, SEASON = "04012345676", "14252321824", "01405512003", "07003012254", "14900000010"
TARIFFS: list[dict[str, Any]] = json.loads((SAMPLE / "tariffs.json").read_text())["tariffs"]
ZONE = ZoneInfo("Africa/Nairobi")
PASSWORDS = {
    "adm.lee": "lee's long password",
    "fin.zoe": "zoe's long password",
    "op.ben": "ben's long password",
    "aud.kay": "kay's long password",
}


def draft_of(
    index: int, change: Callable[[dict[str, Any]], object], start: str = "2026-09-01T00:00:00"
) -> dict[str, Any]:
    """A tariff of the sample with one version, changed."""
    version = copy.deepcopy(TARIFFS[index]["versions"][0])
    version["effective_from"] = start
    change(version)
    return {**TARIFFS[index], "versions": [version]}


@dataclass
class Desk:
    """The commands, over a database where June's sales were made; now is 5 July."""

    config: Path
    url: str
    world: SeededWorld

    def run(self, *words: str, login: str = "") -> int:
        """One command's exit code."""
        parser = argparse.ArgumentParser()
        commands = parser.add_subparsers(dest="command")
        tariffs_commands.add_commands(commands, world=self.world)
        keys_commands.add_commands(commands, world=self.world)
        group, what, *rest = words
        signed = ["--as", login, "--password-file", str(self.config.parent / login)] if login else []
        configured = [] if what == "check" else ["--config", str(self.config)]
        options = parser.parse_args([group, what, *configured, *signed, *rest])
        return int(options.run(options))

    def write(self, name: str, document: Any) -> str:
        """A file with this document."""
        path = self.config.parent / name
        path.write_text(json.dumps(document))
        return str(path)

    def rows(self, statement: sa.Executable) -> list[Any]:
        """What a statement gives, committed."""

        async def run() -> list[Any]:
            store = await open_store(self.url)
            try:
                return await store.transact(lambda c: (r := c.execute(statement)).returns_rows and list(r) or [])
            finally:
                await store.close()

        return asyncio.run(run())

    def receipts(self) -> list[str]:
        """Of all sales, in their order."""
        p = tables.purchase.c
        return [row[0] for row in self.rows(sa.select(p.receipt).where(p.state == "VENDED").order_by(p.id))]

    def people(self) -> None:
        """Have operators who can sign in."""
        for login, role in (
            ("adm.lee", "ADMIN"),
            ("fin.zoe", "FINANCE"),
            ("op.ben", "SUPERVISOR"),
            ("aud.kay", "AUDITOR"),
        ):
            (self.config.parent / login).write_text(PASSWORDS[login] + "\n")
            words = [login, "--name", login, "--role", role, "--new-password-file", str(self.config.parent / login)]
            assert self.run("operators", "add", *words, login="" if role == "ADMIN" else "adm.lee") == 0


async def _june(counter: Counter) -> None:
    """Sales of every tariff: debts, levies, fixed charges, free units, carry, commission, several a meter."""
    for drn, amount in (
        (FLAT, 50_000), (IBT, 60_000), (IBT_FREE, 90_000), (LEVY, 20_000), (SEASON, 250_000),
        (IBT, 70_000), (IBT_FREE, 200_000), (LEVY, 90_000), (SEASON, 40_000), (IBT_FREE, 30_000), (FLAT, 1_999),
    ):  # fmt: skip
        done = await counter.buy(amount, drn, BAKERY if drn == SEASON else AGENT)
        assert done.state is (State.REFUSED if amount == 1_999 else State.VENDED)
        counter.world.advance(hours=30)
    counter.world.advance(days=20)
    assert (await counter.buy(80_000, IBT_FREE, AGENT)).state is State.VENDED  # in July: not looked at


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Desk:
    world = SeededWorld()

    async def sell() -> None:
        async with open_counter(database_url, world=world) as counter:
            await _june(counter)

    asyncio.run(sell())
    world.advance(days=(datetime(2026, 7, 12, tzinfo=UTC) - world.now()).days)
    config = tmp_path / "prepaid.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n[utility]\ntimezone = "Africa/Nairobi"\ncurrency = "KES"\n')
    return Desk(config, database_url, world)


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    yield lambda: capsys.readouterr().out


# --- explain ----------------------------------------------------------------------------------------------------------


def test_every_sale_comes_out_by_hand_as_the_books_have_it(desk: Desk, out: Callable[[], str]) -> None:
    desk.people()
    receipts = desk.receipts()
    assert len(receipts) == 11
    assert desk.run("tariff", "explain", *receipts, login="aud.kay") == 0
    told = out()
    assert told.count("the books say the same: split, tokens and every posting") == 11
    for line in (
        "R5  debts together at most 80 % of 600.00 = 480.00",
        "DB-0004: first charge, all that may be taken; taken 480.00, of 6052.60 outstanding 5572.60 remain",
        "R9  block 1: the 50 kWh of room cost 708.76; 191.24 remain",
        "R13 commission of ST002: 2 % of 500.00 = 10.00",
        "R13 free units of 2026-06: 10.0 kWh, beside the counter",
    ):
        assert f"  {line}\n" in told.replace("      DB", "  DB"), line


def test_a_sale_that_was_changed_differs_and_the_lines_say_where(desk: Desk, out: Callable[[], str]) -> None:
    desk.people()
    receipt = desk.receipts()[0]
    p = tables.purchase
    ((text,),) = desk.rows(sa.select(p.c.sale).where(p.c.receipt == receipt))
    split = json.loads(text)
    changed = {
        **split,
        "energy_vat_minor": split["energy_vat_minor"] - 1,
        "energy_net_minor": split["energy_net_minor"] + 1,
    }
    desk.rows(p.update().where(p.c.receipt == receipt).values(sale=json.dumps(changed)))
    assert desk.run("tariff", "explain", receipt, login="aud.kay") == 1
    told = out()
    assert "DIFFERS from the books:\n  tax on energy: 68.96 in the books, 68.97 reckoned\n" in told
    assert "net energy: 431.04 in the books, 431.03 reckoned" in told
    assert "posting" not in told  # those still say what was sold
    t = tables.token
    desk.rows(p.update().where(p.c.receipt == receipt).values(sale=text))
    ((purchase_id,),) = desk.rows(sa.select(p.c.id).where(p.c.receipt == receipt))
    desk.rows(t.update().where(t.c.purchase_id == purchase_id).values(units_tenths=999))
    assert desk.run("tariff", "explain", receipt, login="aud.kay") == 1
    assert "  credit token: 99.9 kWh in the books, 22.6 kWh reckoned\n" in out()


def test_an_auditor_draws_sales_and_has_them_reckoned_again(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.people()
    assert desk.run("tariff", "explain", "--sample", "5", login="aud.kay") == 0
    told = capsys.readouterr().out
    drawn = re.findall(r"^receipt (\w+):", told, re.MULTILINE)
    assert len(set(drawn)) == 5 and set(drawn) <= set(desk.receipts())
    assert told.count("the books say the same") == 5
    assert desk.run("tariff", "explain", "--sample", "500", login="aud.kay") == 0
    assert "11 sales were found, of 500 that were asked for" in capsys.readouterr().out
    for words in (("--sample", "0"), ("--sample", "5", drawn[0]), ()):
        assert desk.run("tariff", "explain", *words, login="aud.kay") == 2
    assert desk.run("audit", "show", login="aud.kay") == 0


def test_what_cannot_be_reckoned_again_is_said(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.people()
    assert desk.run("tariff", "explain", "NOSUCHRECEIPT", login="aud.kay") == 2
    assert "no purchase has receipt NOSUCHRECEIPT" in capsys.readouterr().err
    receipt, p = desk.receipts()[0], tables.purchase
    desk.rows(p.update().where(p.c.receipt == receipt).values(sale='{"fee_minor":0}'))
    assert desk.run("tariff", "explain", receipt.lower(), login="aud.kay") == 2
    assert "sold by a version that did not keep the account before a sale" in capsys.readouterr().err


# --- preview ----------------------------------------------------------------------------------------------------------


def test_a_draft_that_changes_nothing_gives_what_was_sold(desk: Desk, out: Callable[[], str]) -> None:
    p = tables.purchase.c
    for index, tariff in enumerate(TARIFFS):
        path = desk.write("same.json", draft_of(index, lambda version: None))
        assert desk.run("tariff", "preview", path, "--json") == 0
        found = json.loads(out())
        total = found["total"]
        assert (found["month"], found["tariff"], found["not_as_sold"], found["left_out"]) == (
            "2026-06",
            tariff["code"],
            0,
            0,
        )
        wanted = sa.select(p.amount_minor, p.units_tenths).where(
            p.tariff_code == tariff["code"], p.state == "VENDED", p.accepted_at < datetime(2026, 6, 30, 21, tzinfo=UTC)
        )
        sold = desk.rows(wanted)
        assert len(sold) == total["sales"] > 0
        assert sum(row[0] for row in sold) == total["money_minor"]
        assert sum(row[1] for row in sold) == total["units_now_tenths"] == total["units_draft_tenths"]
        for name in ("vat", "charges", "fixed"):
            assert total[f"{name}_now_minor"] == total[f"{name}_draft_minor"]
        assert found["begun_anew"] == total["difference_tenths"] == total["refused"] == 0


def test_the_difference_is_told_by_group_and_by_band(desk: Desk, out: Callable[[], str]) -> None:
    def dearer(version: dict[str, Any]) -> None:
        version["seasons"][0]["blocks"][0]["rate"] = "24.44"  # twice

    path = desk.write("draft.json", {"tariffs": [TARIFFS[0], draft_of(1, dearer)]})
    assert desk.run("tariff", "preview", path, "--tariff", "D2-IBT", "--bands", "50,100", "--json") == 0
    found = json.loads(out())
    assert list(found["categories"]) == ["DOMESTIC"]
    assert [(band["upto_kwh"], band["accounts"], band["sales"]) for band in found["bands"]] == [
        (50, 1, 2),
        (100, 0, 0),
        (None, 1, 3),
    ]
    # By hand: each account's sales in their order, each from where the draft left the one before.
    units = 0
    draft = alone(tariff := read_tariff(draft_of(1, dearer), minor_digits=2), tariff.versions[0])
    for drn, amounts, claim in ((IBT, (60_000, 70_000), None), (IBT_FREE, (90_000, 200_000, 30_000), 10)):
        p, m = tables.purchase, tables.meter
        wanted = sa.select(p.c.sale).join_from(p, m, m.c.id == p.c.meter_id).where(m.c.drn == drn).order_by(p.c.id)
        account, cap = priced_from(json.loads(desk.rows(wanted)[0][0])["account"])
        assert account.free_kwh_per_month == claim
        for amount in amounts:
            sale = price(
                draft, account, amount, datetime.fromisoformat("2026-06-10"), fee_minor=0, debt_cap_percent=cap
            )
            units, account = units + sale.units_tenths, sale.after
    assert found["total"]["units_draft_tenths"] == units < found["total"]["units_now_tenths"]
    assert desk.run("tariff", "preview", path, "--tariff", "D2-IBT") == 0
    told = out().splitlines()
    assert told[0] == "sales of 2026-06 under D2-IBT, as sold and under the version of 2026-09-01T00:00:00; KES"
    assert told[1].split()[:3] == ["customers", "accounts", "sales"]
    assert [line.split("  ")[0] for line in told[2:]] == [
        "DOMESTIC",
        "",
        "0 to 50 kWh",
        "100 to 200 kWh",
        "",
        "together",
    ]


def test_an_entered_draft_is_tried_released_and_listed(desk: Desk, out: Callable[[], str]) -> None:
    desk.people()
    path = desk.write(
        "draft.json", draft_of(0, lambda version: version["seasons"][0]["blocks"][0].update(rate="38.16"))
    )
    assert desk.run("tariff", "enter", path, login="fin.zoe") == 0
    assert desk.run("tariff", "enter", path, login="fin.zoe") == 1
    assert desk.run("tariff", "release", "D1-FLAT", "2026-09-01", login="fin.zoe") == 1
    out()
    assert desk.run("tariff", "preview", "--draft", "D1-FLAT", "--json") == 0
    total = json.loads(out())["total"]
    assert (total["units_now_tenths"], total["units_draft_tenths"]) == (226, 113)
    assert desk.run("tariff", "release", "D1-FLAT", "2026-09-01", login="op.ben") == 0
    assert desk.run("tariff", "list") == 0
    assert "D1-FLAT  2026-09-01T00:00:00  RELEASED  entered by fin.zoe" in out()
    assert desk.run("tariff", "show", "D1-FLAT") == 0
    document = json.loads(out())
    assert [version["effective_from"][:7] for version in document["versions"]] == ["2026-01", "2026-07", "2026-09"]
    assert desk.run("tariff", "check", desk.write("again.json", document)) == 0
    assert desk.run("tariff", "withdraw", "D1-FLAT", "2026-09-01T00:00", login="fin.zoe") == 2
    why = ("--reason", "the gazette was wrong")
    assert desk.run("tariff", "withdraw", "D1-FLAT", "2026-09-01T00:00", *why, login="fin.zoe") == 0
    assert desk.run("tariff", "preview", "--draft", "D1-FLAT") == 1
    assert desk.run("tariff", "withdraw", "D1-FLAT", "2026-07-01", *why, login="fin.zoe") == 1
    a = tables.audit.c
    rows = desk.rows(sa.select(a.who, a.deed).where(a.deed.like("tariff.%")).order_by(a.seq))
    assert [tuple(row) for row in rows] == [
        ("fin.zoe", "tariff.entered"),
        ("fin.zoe", "tariff.enter_refused"),  # it stands already
        ("fin.zoe", "tariff.release_refused"),  # the refusal of one person alone
        ("op.ben", "tariff.released"),
        ("fin.zoe", "tariff.withdrawn"),
        ("fin.zoe", "tariff.withdraw_refused"),  # it has begun
    ]


def test_next_months_levies_are_a_version_with_two_numbers_changed(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.people()
    capsys.readouterr()
    assert (
        desk.run("tariff", "show", "D3-LEVY", "--next", "2026-08-01", "--charge", "FUEL=3.91", "--charge", "RURAL=4")
        == 0
    )
    (version,) = json.loads(text := capsys.readouterr().out)["versions"]
    wanted = copy.deepcopy(TARIFFS[2]["versions"][0])
    wanted["effective_from"], wanted["per_kwh_charges"][0]["rate"] = "2026-08-01T00:00:00", "3.91"
    wanted["percent_charges"][0]["percent"] = "4"
    assert version == wanted
    assert desk.run("tariff", "enter", desk.write("august.json", json.loads(text)), login="fin.zoe") == 0
    for words in (["--next", "2026-08-01", "--charge", "PEAK=1"], ["--charge", "FUEL=1"], ["--next", "August"]):
        assert desk.run("tariff", "show", "D3-LEVY", *words) == 2
    assert "CODE=NUMBER expected, with a code of FUEL, FOREX, INFL" in capsys.readouterr().err


# (words, the complaint)
UNUSABLE: list[tuple[list[str], str]] = [
    (["preview"], "a tariff file expected, or --draft TARIFF"),
    (["preview", "ALL"], "--tariff expected, for there are several: D1-FLAT, D2-IBT, D3-LEVY, C1-SEASON"),
    (["preview", "ALL", "--tariff", "D9"], "no tariff D9 in it"),
    (
        ["preview", "ALL", "--tariff", "D1-FLAT", "--start", "2025-01-01"],
        "no version starts 2025-01-01T00:00:00; there are",
    ),
    (["preview", "ALL", "--tariff", "D1-FLAT", "--start", "soon"], 'such as "2026-07-01" expected, got "soon"'),
    (["preview", "ALL", "--month", "June"], 'a month such as "2026-06" expected, got "June"'),
    (["preview", "ALL", "--bands", "100,50"], "rising whole numbers of kWh"),
    (["check", "BAD"], "tariffs[2].versions[0].vat_percent: 0.16 is less than one percent"),
    (["preview", "BAD"], "tariffs[2].versions[0].vat_percent: 0.16 is less than one percent"),
]


@pytest.mark.parametrize(("words", "complaint"), UNUSABLE)
def test_what_cannot_be_used_is_told(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "prepaid.toml"
    config.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/none.db"\n')
    desk = Desk(config, "", SeededWorld())
    bad = copy.deepcopy(TARIFFS)
    bad[2]["versions"][0]["vat_percent"] = "0.16"
    files = {"ALL": desk.write("all.json", {"tariffs": TARIFFS}), "BAD": desk.write("bad.json", {"tariffs": bad})}
    assert desk.run("tariff", *(files.get(word, word) for word in words)) == 2
    assert complaint in capsys.readouterr().err


# --- preview and the sale as it is kept, without books ----------------------------------------------------------------


START: dict[str, Any] = {
    "counter_month": "2026-06", "month_units_tenths": 0, "fixed_through_month": "2026-06",
    "fixed_through_date": "2026-06-01", "fixed_shortfall_minor": 0, "carry_minor": 0,
    "free_kwh_per_month": None, "free_last_month": "",
}  # fmt: skip


def _sold(
    point: int, at: datetime, tariff: Tariff, account: Account, amount: int, cap: Fraction
) -> tuple[Sold, Account] | None:
    try:
        sale = price(tariff, account, amount, at, fee_minor=0, debt_cap_percent=cap)
    except Refusal:
        return None
    split = {**split_json(sale, None), "account": priced_from_json(account, cap)}
    accepted = at.replace(tzinfo=ZONE).astimezone(UTC)
    return Sold(UUID(int=point), "HOME", sale.tariff_version, amount, accepted, json.dumps(split)), sale.after


@given(ACCOUNTS, st.sampled_from([Fraction(80), Fraction("33.3")]))
def test_the_account_before_a_sale_is_kept_exactly(account: Account, cap: Fraction) -> None:
    kept = json.loads(json.dumps(priced_from_json(account, cap)))
    assert priced_from(kept) == (account, cap if account.debts else 0)


@settings(max_examples=50)
@given(tariffs(), ACCOUNTS, st.lists(AMOUNTS, min_size=1, max_size=5))
def test_a_replay_of_what_was_kept_equals_history(tariff: Tariff, account: Account, amounts: list[int]) -> None:
    one = alone(tariff, tariff.versions[0])
    sales, at = [], datetime.fromisoformat("2026-06-02")
    for amount in amounts:
        made = _sold(1, at, one, account, amount, Fraction(80))
        if made is not None:
            sales.append(made[0])
            account = made[1]
        at += timedelta(hours=50)
    found = preview(sales, one, {one.versions[0].name: one}, ZONE)
    assert (found.not_as_sold, found.begun_anew, found.left_out, found.total.refused) == (0, 0, 0, 0)
    assert found.total.sales == len(sales)
    for name in ("units", "vat", "charges", "fixed"):
        unit = "tenths" if name == "units" else "minor"
        assert getattr(found.total, f"{name}_now_{unit}") == getattr(found.total, f"{name}_draft_{unit}")


def test_sales_that_the_draft_refuses_are_counted_apart_and_a_correction_begins_anew() -> None:
    flat = read_tariff(TARIFFS[0], minor_digits=2)
    at = datetime.fromisoformat("2026-06-02")
    account = priced_from(START)[0]
    sales = []
    for amount in (10_000, 50_000, 60_000):
        made = _sold(1, at, flat, account, amount, Fraction(0))
        assert made is not None
        sales.append(made[0])
        account = made[1] if amount != 50_000 else replace(made[1], month_units_tenths=0)
    legacy = replace(sales[0], service_point_id=UUID(int=2), sale='{"units_tenths":46}')
    least = replace(alone(flat, flat.versions[0]), min_vend_minor=20_000)
    found = preview([*sales, legacy], least, {version.name: alone(flat, version) for version in flat.versions}, ZONE)
    assert (found.total.sales, found.total.refused, found.total.refused_money_minor) == (2, 1, 10_000)
    assert (found.begun_anew, found.left_out, found.not_as_sold) == (1, 1, 0)
    wrong = replace(sales[0], sale=sales[0].sale.replace('"units_tenths": 46', '"units_tenths": 47'))
    assert preview([wrong], least, {}, ZONE).not_as_sold == 1


def test_totals_of_groups_and_bands_are_those_of_all_and_nothing_is_held_of_many_sales() -> None:
    flat = read_tariff(TARIFFS[0], minor_digits=2)
    at = datetime.fromisoformat("2026-06-02")
    account = priced_from(START)[0]

    def many(count: int) -> Iterator[Sold]:
        for number in range(count):
            made = _sold(number, at, flat, account, 2_000 + 70 * number, Fraction(0))
            assert made is not None
            yield replace(made[0], category=f"GROUP {number % 3}")

    as_sold = {version.name: alone(flat, version) for version in flat.versions}
    tracemalloc.start()
    try:
        found = preview(many(600), alone(flat, flat.versions[1]), as_sold, ZONE)
        assert tracemalloc.get_traced_memory()[1] < 150_000
    finally:
        tracemalloc.stop()
    assert found.total.accounts == 600
    for parts in (found.by_category.values(), found.by_band.values()):
        together = Totals()
        for part in parts:
            together.add(part)
        assert together == found.total
    assert found.total.difference_tenths < 0
