"""`prepaid customers | points | meters | debts` from the command line, as the utility's staff use them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.purchase import State
from ledger import operators
from ledger.audit import Origin
from ledger.operators import Cost, Operator, Role
from ledger.reasons import Reason
from ledger.store import open_store
from ledger.trial_balance import broken_invariants
from sts.numbers import MeterNumber
from tests.gateway.commands.staff import hire, run
from tests.simulation.shop import AMINA, METER, open_counter

STAFF = {"adm.lee": "ADMIN", "eng.raj": "ENGINEER", "fin.zoe": "FINANCE", "sup.kim": "SUPERVISOR", "cc.ana": "SUPPORT"}
NEW = MeterNumber.from_body("9800000001").drn
POINT = "SP-20001"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of the sample utility, after one purchase, with operators."""
    folder = tmp_path_factory.mktemp("office")
    url = f"sqlite:///{folder}/t.db"

    async def load() -> None:
        async with open_counter(url) as counter:
            await counter.buy(20_000)

    asyncio.run(load())
    config = folder / "prepaid.toml"
    config.write_text(f'[database]\nurl = "{url}"\n[utility]\ntimezone = "Africa/Nairobi"\ncurrency = "KES"\n')
    hire(config, STAFF)
    return config


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_call_centre_finds_a_customer_and_sees_all(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(office, "cc.ana", "customers", "find", "--phone", AMINA) == 0
    assert "A100001  Amina Hassan  DOMESTIC  en        ACTIVE" in capsys.readouterr().out
    assert run(office, "cc.ana", "customers", "find", "--name", "a", "--limit", "2") == 0
    assert capsys.readouterr().out.endswith("more: --after A100002\n")
    assert run(office, "cc.ana", "customers", "show", "A100001") == 0
    shown = capsys.readouterr().out
    for part in ("wallet 1300.00", f"phones {AMINA}", f"service point {POINT}  Mombasa Nyali  tariff D1-FLAT",
                 "9.1 kWh", f"meter {METER}  INSTALLED", "200.00"):  # fmt: skip
        assert part in shown
    assert run(office, "cc.ana", "customers", "show", "A100001", "--json") == 0
    seen = _json(capsys)
    assert (seen["wallet_minor"], seen["points"][0]["point"]["month_units_tenths"]) == (130_000, 91)
    assert "digits" not in str(seen)
    assert run(office, "cc.ana", "customers", "find") == 2
    assert run(office, "cc.ana", "customers", "show", "A1") == 1
    assert "no account, meter, phone or receipt A1" in capsys.readouterr().err


def test_nobody_looks_or_changes_without_signing_in(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["customers", "show", "--config", str(office), "A100001"])
    assert run(office, "adm.lee", "customers", "show", "A100001") == 1
    assert "has not the role SUPPORT or SUPERVISOR or FINANCE or ENGINEER or AUDITOR" in capsys.readouterr().err
    (office.parent / "wrong").write_text("not the password\n")
    signed = ["--as", "cc.ana", "--password-file", str(office.parent / "wrong")]
    assert main(["customers", "show", "--config", str(office), *signed, "A100001"]) == 1
    assert "no operator of this login and password" in capsys.readouterr().err


def test_from_a_new_customer_to_a_replaced_meter(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps: list[tuple[str, ...]] = [
        ("cc.ana", "customers", "add", "A900001", "--name", "Neema Said", "--phone", "254733000001"),
        ("cc.ana", "points", "add", "SP-9", "--account", "A900001", "--area", "Lamu", "--tariff", "D2-IBT"),
        ("fin.zoe", "points", "set-free-units", "SP-9", "25"),
        ("eng.raj", "meters", "receive", NEW, "--ea", "7", "--supply-group", "600801", "--tariff-index", "01",
         "--key-revision", "2", "--base-date", "2014"),
        ("eng.raj", "meters", "issue", NEW),
        ("eng.raj", "meters", "replace", METER, "--by", NEW, "--last-reading", "1234.5", "--credit-left", "3.2"),
        ("eng.raj", "meters", "repair", METER),
        ("eng.raj", "meters", "restock", METER),
        ("eng.raj", "meters", "issue", METER),
        ("eng.raj", "meters", "install", METER, "--point", "SP-9", "--reading", "0"),
        ("sup.kim", "meters", "block", METER),
        ("sup.kim", "points", "set-tariff", "SP-9", "D1-FLAT"),
        ("cc.ana", "points", "transfer", "SP-9", "--to", "A100001"),
        ("sup.kim", "customers", "close", "A900001"),
    ]  # fmt: skip
    for login, *words in steps:
        assert run(office, login, *words) == 0, (words, capsys.readouterr().err)
    said = capsys.readouterr().out
    for part in (
        f"meter {METER} was replaced by {NEW} at {POINT}; counter, debts and carry stay there",
        "the last purchases for the old meter:",
        f"meter {METER} is BLOCKED",
        "account A900001 is closed",
    ):
        assert part in said
    assert run(office, "cc.ana", "points", "show", POINT) == 0
    shown = capsys.readouterr().out
    assert f"meter {NEW}  INSTALLED" in shown and "1234.5" in shown and "INSTALLED > REMOVED" in shown
    assert run(office, "cc.ana", "meters", "history", METER, "--json") == 0
    assert [one["deed"] for one in _json(capsys)["history"]] == [
        "REMOVE", "REPAIR", "RESTOCK", "ISSUE", "INSTALL", "BLOCK",
    ]  # fmt: skip
    assert run(office, "cc.ana", "points", "list", "--account", "A100001") == 0
    assert "SP-9" in capsys.readouterr().out
    assert main(["meters", "show", "--config", str(office), NEW]) == 0
    assert "last TID none yet; tokens are numeric" in capsys.readouterr().out
    assert run(office, "cc.ana", "meters", "list", "IN_STOCK") == 0
    assert "07770000011" in capsys.readouterr().out
    assert main(["audit", "verify", "--config", str(office)]) == 0


def test_a_debt_from_its_agreement_to_its_write_off(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    added = ("debts", "add", "D-7", "--point", POINT, "--kind", "TAMPER_FINE", "--amount", "605.20", "--mode", "FIRST")
    assert run(office, "cc.ana", *added) == 1
    assert run(office, "fin.zoe", *added, reason="") == 1
    assert run(office, "fin.zoe", *added, "--agreement", "AG-1", "--signed-on", "2026-06-01") == 0
    changed = ("debts", "change", "D-7", "--mode", "FIXED", "--instalment", "50.00")
    assert run(office, "fin.zoe", *changed, beside="sup.kim") == 0
    assert run(office, "fin.zoe", "debts", "suspend", "D-7") == 0
    assert run(office, "fin.zoe", "debts", "resume", "D-7") == 0
    assert run(office, "fin.zoe", "debts", "write-off", "D-7", "--amount", "5.20") == 1
    assert "a second person is needed" in capsys.readouterr().err
    assert run(office, "fin.zoe", "debts", "write-off", "D-7", "--amount", "5.20", beside="sup.kim") == 0
    assert "debt D-7 written off: ACTIVE, 600.00 outstanding" in capsys.readouterr().out
    assert run(office, "fin.zoe", "debts", "list", "A100001") == 0
    assert "50.00 a month  600.00       ACTIVE  0 to 30 days  AG-1" in capsys.readouterr().out
    assert run(office, "fin.zoe", "debts", "list", "A100001", "--json") == 0
    (one,) = _json(capsys)["debts"]
    assert (one["point"], one["debt"]["outstanding_minor"], one["debt"]["approved_by"]) == (POINT, 60_000, "sup.kim")

    async def books() -> list[str]:
        store = await open_store(f"sqlite:///{office.parent}/t.db")
        try:
            return await store.read(broken_invariants)
        finally:
            await store.close()

    assert asyncio.run(books()) == []


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (
            2,
            ("debts", "add", "D", "--point", POINT, "--kind", "OTHER", "--amount", "1.234", "--mode", "FIRST"),
            "2 dec",
        ),
        (2, ("debts", "add", "D", "--point", POINT, "--kind", "OTHER", "--amount", "x", "--mode", "FIRST"), "--amount"),
        (2, ("debts", "change", "DB-0001"), "at least one term"),
        (2, ("debts", "change", "DB-0001", "--signed-on", "1.6.2026"), "2026-06-05 expected, got '1.6.2026'"),
        (1, ("debts", "suspend", "DB-9"), "no debt DB-9"),
        (2, ("customers", "add", "A1", "--name", "N", "--language", "xx"), "one of ar, en, fr, pt, sw expected"),
        (1, ("customers", "add", "A1\n", "--name", "N"), "account number: 1 to 40"),
        (1, ("customers", "add", "A1", "--name", "N\x00"), "name: 1 to 80 printable"),
        (2, ("points", "set-free-units", POINT, "many"), 'a whole number of kWh or "none"'),
        (1, ("points", "add", "SP-1", "--account", "A100001", "--area", "L", "--tariff", "D9"), "no tariff D9"),
        (2, ("points", "list", "--limit", "0"), "1 to 500"),
        (2, ("meters", "history", "04012345601"), "no meter 04012345601"),
        (1, ("meters", "block", "04012345601"), "no meter 04012345601"),
    ],
)
def test_bad_input_is_told_with_what_was_expected(
    office: Path, capsys: pytest.CaptureFixture[str], code: int, words: tuple[str, ...], said: str
) -> None:
    assert run(office, "sup.kim", *words) == code
    assert said in capsys.readouterr().err


def test_a_meter_with_numbers_that_cannot_be_is_not_received(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = (
        "--ea",
        "7",
        "--supply-group",
        "600801",
        "--tariff-index",
        "01",
        "--key-revision",
        "2",
        "--base-date",
        "2014",
    )
    assert run(office, "eng.raj", "meters", "receive", "04012345677", *good) == 2
    drn = MeterNumber.from_body("9800000002").drn
    assert run(office, "eng.raj", "meters", "receive", drn, *good, "--pan", "600727000000000009") == 2
    assert "--pan: 600727" in capsys.readouterr().err
    assert (
        run(office, "eng.raj", "meters", "receive", drn, *good[:-2], "--base-date", "2014", "--key-revision", "11") == 2
    )


def test_a_refusal_is_on_record_under_its_name(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(office, "fin.zoe", "meters", "unblock", "14252321816") == 1
    assert run(office, "eng.raj", "meters", "unblock", METER + "0") == 1
    assert run(office, "sup.kim", "audit", "show", "--last", "2") == 0
    shown = capsys.readouterr().out
    assert "meters.unblock_refused  meter 14252321816" in shown and '"fault":"role_missing"' in shown
    assert '"fault":"unknown"' in shown and "because: as asked" in shown


async def test_a_gateway_that_runs_sees_what_another_process_has_changed(tmp_path: Path) -> None:
    """On SQLite, where two processes share a file; test_records.py has two connections to each kind of database."""
    database_url = f"sqlite:///{tmp_path}/shared.db"
    async with open_counter(database_url) as counter:
        assert (await counter.buy(10_000)).state is State.VENDED
        raj = Operator("eng.raj", "Raj", frozenset({Role.ENGINEER, Role.SUPERVISOR}), "en", None)
        boss = Operator("adm.lee", "Lee", frozenset({Role.ADMIN}), "en", None)
        origin = Origin("setup", counter.world.now(), "test")
        cheap: dict[str, Any] = {"salt": bytes(16), "origin": origin, "cost": Cost(log2_n=4)}
        await counter.store.transact(lambda c: operators.add(c, boss, "the password of lee", by=None, **cheap))
        await counter.store.transact(lambda c: operators.add(c, raj, "the password of raj", by=boss, **cheap))
        config = tmp_path / "other.toml"
        config.write_text(f'[database]\nurl = "{database_url}"\n')
        (tmp_path / "raj").write_text("the password of raj\n")

        async def elsewhere(*words: str) -> None:
            signed = ("--config", str(config), "--as", "eng.raj", "--password-file", str(tmp_path / "raj"))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", *words[:2], *signed, "--reason", "test", *words[2:]
            )
            assert await process.wait() == 0

        await elsewhere("meters", "block", METER)
        assert (await counter.buy(20_000)).reason is Reason.METER_BLOCKED
        await elsewhere("meters", "unblock", METER)
        assert (await counter.buy(30_000)).state is State.VENDED
