"""Keys that lie in security modules: registered and activated by two people, reported, warned of, taken up while the
gateway runs; and engineering tokens made by two people.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import logging
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config.kinds import Secret
from config.load import SettingsFaults, load
from config.settings import Settings, StsSettings
from gateway import __main__ as program
from gateway import check, custody, meterdesk, modulewatch
from gateway.commands import tokens as tokens_commands
from gateway.commands.modules import facts_of
from gateway.keeper import Keeper
from gateway.keyfile import write_keystore
from gateway.keyplaces import place_of
from gateway.keywatch import KeyWatch, books_now
from gateway.metrics import Metrics
from gateway.modulewatch import ModuleReport
from gateway.purchase import State
from ledger import audit, operators, vendingkeys
from ledger.audit import Origin
from ledger.keyrows import EndKind, KeyId
from ledger.operators import Operator, Role
from ledger.reasons import Reason
from ledger.store import Observer
from sts.modules.keystore import NONCE_BYTES, MasterKey, seal
from sts.modules.pool import Member, ModulePool
from sts.modules.prism.client import _instants
from sts.modules.prism.simulated import Faults
from sts.modules.prism.tokenapi import NodeStatus
from tests.gateway.commands.test_keys import CHEAP, MASTER, Machine, _password
from tests.simulation.shop import open_counter, sample_keys
from tests.sts.keys import DES_GROUP, HMAC_GROUP, NOW, handle, record
from tests.sts.prism import served
from tests.sts.softhsm import NONE_FOUND, PIN, find_softhsm, softhsm

TOM, IDA = (Operator(f"sec.{name}", name, frozenset({Role.KEY_CUSTODIAN}), "en", None) for name in ("tom", "ida"))


@pytest.fixture
def lone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    """A machine on the embedded database, with its operators."""
    return Machine(tmp_path / "lone", f"sqlite:///{tmp_path}/lone.db", monkeypatch, capsys).set_up()


def _with(machine: Machine, text: str) -> None:
    machine.config.write_text(machine.config.read_text() + text)
    if not machine.keystore.exists():
        custody.KeyStore(machine.keystore, MasterKey(MASTER), machine.world.nonce).write([])


# --- a module of the Prism kind ---------------------------------------------------------------------------------------

TSM = f'''
[[prism]]
name = "tsm-1"
host = "127.0.0.1"
port = 1
username = "gateway"
plain_on_loopback = true
connect_timeout_s = 0.2
keys = "{DES_GROUP}/1/2/2/2014/255/{record(2).status.kcv} {HMAC_GROUP}/1/2/4/2014/255"
'''
THERE = f"{DES_GROUP}/1/2/2/2014@tsm-1"


def test_keys_inside_a_module_take_two_people_as_all_others(lone: Machine) -> None:
    _with(lone, TSM)
    assert f"{THERE}  supply group {DES_GROUP}" in lone.well("keys list") and "not in the books" in lone.well(
        "keys list"
    )
    assert lone.type("keys register --module tsm-1 --as op.ann").code == 1
    out = lone.well("keys register --module tsm-1 --as sec.tom")
    assert f"key {THERE}: loaded" in out and len(out.splitlines()) == 2
    assert "two people are needed" in lone.type(f"keys activate {THERE} --as sec.tom").err
    assert _keeper(lone).module.holds(handle()) is False
    assert "KCV not told by its module" in lone.well("keys activate all --as sec.ida")
    keeper = _keeper(lone)
    assert keeper.module.holds(handle()) and keeper.module.holds(handle(11, 4)) and not keeper.left_out(_books(lone))
    # The same key in the key store is another matter, with limits of its own.
    own = lone.add(2)
    lone.well(f"keys limits {THERE} --tokens 5 --as sec.tom")
    assert "loaded, and not activated" in " ".join(_keeper(lone).left_out(_books(lone)))
    lone.well(f"keys activate {own}@software --as sec.ida")
    assert lone.type(f"keys suspend {own} --as sec.tom").code == 2  # which of the two?
    lone.well(f"keys suspend {THERE} --as sec.tom")
    assert {str(row.id): (row.state, row.terms.token_limit) for row in _books(lone).rows if row.id.own_name == own} == {
        own: ("ACTIVE", None),
        THERE: ("LOADED", 5),
    }
    assert "by its own tools" in lone.well(f"keys destroy {THERE} --as sec.tom --with sec.ida")
    assert "destroyed, yet the module holds it" in " ".join(_keeper(lone).left_out(_books(lone)))
    answer = lone.type("keys report")
    assert "module tsm-1 was not asked" in answer.out
    refused = lone.type(f"keys add --module tsm-1 --as sec.tom --supply-group {DES_GROUP} --revision 3 --generation 2",
                        record(2, key_revision=3).key.secret_bytes().hex())  # fmt: skip
    assert refused.code == 2 and "key load files of its key management centre" in refused.err


def _books(machine: Machine) -> Any:
    return machine.write(books_now)


def _keeper(machine: Machine) -> Keeper:
    return Keeper(load(machine.config, {}), _books(machine))


def test_two_modules_of_one_name_are_a_fault_of_the_settings(lone: Machine) -> None:
    _with(lone, TSM.replace("tsm-1", "software"))
    with pytest.raises(SettingsFaults, match=r"another name than that of sts\.module"):
        load(lone.config, {})


# --- a PKCS#11 token --------------------------------------------------------------------------------------------------


@pytest.fixture
def token(lone: Machine, tmp_path: Path) -> Iterator[Machine]:
    """The machine with a PKCS#11 token, hsm-1."""
    if find_softhsm() is None:
        pytest.skip(NONE_FOUND)
    (tmp_path / "hsm").mkdir()
    with softhsm(tmp_path / "hsm") as hsm:
        label = hsm.new_token()
        (lone.folder / "pin").write_text(PIN)
        _with(
            lone,
            f'\n[[pkcs11]]\nname = "hsm-1"\nlibrary = "{hsm.library}"\ntoken_label = "{label}"\n'
            f'pin_file = "{lone.folder / "pin"}"\nanswers_at_once = true\n',
        )
        yield lone


def test_a_key_is_put_into_a_token_used_and_destroyed_there(token: Machine) -> None:
    there = token.add(4, "--module hsm-1") + "@hsm-1"
    assert token.held() == [] and "LOADED" in token.well("keys list")
    assert not _held(token)
    token.well(f"keys activate {there} --as sec.ida")
    assert _held(token)
    again = token.type(f"keys add --module hsm-1 --as sec.tom --supply-group {HMAC_GROUP} --revision 1 --generation 4",
                       record(4).key.secret_bytes().hex())  # fmt: skip
    assert again.code == 1 and "already" in again.err
    token.well(f"keys suspend {there} --as sec.tom")
    assert not _held(token)
    token.well(f"keys destroy {there} --as sec.tom --with sec.ida")
    assert list(place_of(load(token.config, {}), "hsm-1").held()) == []
    assert "@hsm-1  not in module hsm-1" in token.well("keys list")


def test_a_transfer_file_is_loaded_into_a_token(token: Machine) -> None:
    own = token.add(4)
    token.well("keys activate all --as sec.ida")
    out = token.folder / "for-hsm"
    key = f"--transfer-key-file {token.transfer_key}"
    token.well(f"keys export --as sec.tom --with sec.ida --module hsm-1 --out {out} --tokens 9 {key}")
    token.well(f"keys import {out} --module hsm-1 {key} --as sec.tom")
    token.well(f"keys activate {own}@hsm-1 --as sec.ida")
    row = next(row for row in _books(token).rows if row.module == "hsm-1")
    assert (row.terms.token_limit, row.state) == (9, "ACTIVE") and _held(token)


def _held(machine: Machine) -> bool:
    books = _books(machine)

    async def run() -> bool:
        keeper = Keeper(load(machine.config, {}), books)
        try:
            (report,) = await modulewatch.reports(keeper.module)
            assert (report.name, report.trouble, report.alerts) == ("hsm-1", "", ())
            return keeper._kept[0].holds(handle(11, 4))
        finally:
            await keeper.close()

    return asyncio.run(run())


# --- while the gateway runs -------------------------------------------------------------------------------------------


async def test_changes_of_the_books_are_taken_up_while_the_gateway_runs(database_url: str, tmp_path: Path) -> None:
    records, path = sample_keys(), tmp_path / "keys.json"
    write_keystore(path, seal(records, MasterKey(MASTER), [bytes([n]) * NONCE_BYTES for n in range(len(records))]))
    settings = Settings(sts=StsSettings(keystore=str(path), master_key=Secret(MASTER.hex())))
    observer = Observer()
    async with open_counter(database_url, observer=observer) as counter:
        keeper = Keeper(settings, await counter.store.read(books_now))
        observer.keys = keeper.allow
        shop = type(counter.shop).of(counter.shop.settings, counter.world, keeper.module)
        counter.shop = shop
        metrics = Metrics()
        watch = KeyWatch(counter.store, keeper.module, keeper, counter.world, metrics)
        assert await watch.take_up() and not await watch.take_up()
        assert metrics.registry.get_sample_value("prepaid_vending_keys_left_out") == 6
        assert (await counter.buy(20_000)).reason is Reason.KEY_MISSING
        await counter.store.transact(
            lambda connection: custody.approve_sample_keys(connection, records, counter.world.now())
        )
        assert await watch.take_up()
        assert metrics.registry.get_sample_value("prepaid_vending_keys_left_out") == 0
        assert (await counter.buy(20_000)).state is State.VENDED
        key = KeyId("600801", 2, 2, 2, 2014)
        by = Origin("sec.tom", NOW, "test")
        await counter.store.transact(lambda connection: vendingkeys.suspend(connection, key, by=TOM, origin=by))
        assert (await counter.buy(30_000)).reason is Reason.KEY_MISSING  # at once, before anything is loaded anew
        inner = keeper._kept[0].inner
        assert len(inner.status().keys) == 6
        assert await watch.take_up() and len(keeper._kept[0].inner.status().keys) == 5  # and now it is out of memory
        await counter.check_books()


async def test_what_a_module_says_of_itself_is_counted_warned_of_and_reported(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_counter(database_url) as counter:
        now = counter.world.now()
        faults = Faults(tokens_per_s=3, clock_drift_s=-2450, vends_until=now + timedelta(days=29))
        async with served(faults) as (_, module):
            pool, metrics = ModulePool([Member(module)]), Metrics()
            (report,) = await modulewatch.reports(pool)
            assert (report.tokens_per_s, report.clock_drift_s, report.vends_until) == (3, -2450, faults.vends_until)
            assert facts_of(report) == [
                "  makes 3 tokens a second, it says",
                "  its clock is out by -2450 s",
                f"  may vend until {faults.vends_until:%Y-%m-%d %H:%M} UTC",
            ]
            watch = KeyWatch(counter.store, pool, None, counter.world, metrics)
            warning = asyncio.create_task(watch.warn())
            with caplog.at_level(logging.WARNING):
                async with asyncio.timeout(60):
                    while metrics.registry.get_sample_value("prepaid_vending_keys_ending", {"days": "90"}) is None:
                        await asyncio.sleep(0.01)
            warning.cancel()
            watch.look()
        values = {
            name: metrics.registry.get_sample_value(f"prepaid_module_{name}", {"module": "prism"})
            for name in ("answers", "tokens_per_second", "clock_drift_seconds", "vends_until_seconds", "waiting")
        }
        assert faults.vends_until is not None
        assert values == {
            "answers": 1,
            "tokens_per_second": 3,
            "clock_drift_seconds": -2450,
            "vends_until_seconds": faults.vends_until.timestamp(),
            "waiting": 0,
        }
        ending = [
            metrics.registry.get_sample_value("prepaid_vending_keys_ending", {"days": d}) for d in ("90", "30", "7")
        ]
        assert ending == [1, 1, 0]
        assert any("module prism: authorisation" in record.getMessage() for record in caplog.records)
        assert modulewatch.endings([report])[0].kind is EndKind.AUTHORISATION
        (away,) = await modulewatch.reports(module)  # the simulator is gone
        assert away.trouble and facts_of(away)[0].startswith("  could not be asked")


async def test_a_date_that_cannot_be_read_is_no_date(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [
        NodeStatus(info={"smcq.InhibitVendDateUtc": text}, alerts=[])
        for text in ("2027-01-01T00:00:00Z", "2026-12-31 23:59:59", "2028-01-01", "soon", "")
    ]
    found = _instants(nodes, "InhibitVendDateUtc")
    assert [f"{one:%Y-%m-%d %H:%M:%S %Z}" for one in found] == [
        "2027-01-01 00:00:00 UTC",
        "2026-12-31 23:59:59 UTC",
        "2028-01-01 00:00:00 UTC",
    ]
    assert [record.getMessage() for record in caplog.records] == ["a fact of a security module is no date"]


# --- check and list ---------------------------------------------------------------------------------------------------


def test_check_says_what_custody_leaves_out(lone: Machine) -> None:
    def found() -> check.Finding:
        findings = asyncio.run(check.check(load(lone.config, {})))
        return next(finding for finding in findings if finding.part == "custody")

    lone.add(2)
    assert not found().is_well and "no key is in use" in found().said and "not activated" in found().said
    lone.well("keys activate all --as sec.ida")
    assert found().said == "1 keys in use"
    lone.add(4)
    assert found().is_well and "1 keys in use; key 123457/1/2/4/2014: loaded" in found().said
    lone.well(f"keys activate {HMAC_GROUP} --as sec.ida")
    custody.KeyStore(lone.keystore, MasterKey(MASTER), lone.world.nonce).take_out(KeyId(HMAC_GROUP, 1, 2, 4, 2014))
    assert not found().is_well and "the module does not hold it" in found().said
    _with(lone, TSM)
    assert "key 123456/1/2/2/2014@tsm-1: the module holds it, the books do not know it" in found().said


def test_modules_are_listed_with_what_they_say(lone: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    lone.add(2)
    _with(lone, TSM + "\n[http]\nport = 1\n")
    assert program.main(["modules", "list", "--config", str(lone.config)]) == 0
    out = capsys.readouterr().out
    assert "tsm-1: EA07 tables operational, 2 keys" in out and "could not be asked" in out
    assert "no gateway answers at 127.0.0.1:1" in out
    assert facts_of(ModuleReport("x", alerts=("ESm.Battery",))) == ["  alert: ESm.Battery"]


# --- engineering tokens -----------------------------------------------------------------------------------------------

ENGINEERS = {"eng.raj": Role.ENGINEER, "eng.sue": Role.ENGINEER, "sup.max": Role.SUPERVISOR}


def _hire_engineers(connection: Any) -> None:
    admin = Operator("adm.lee", "Lee", frozenset({Role.ADMIN}), "en", None)
    for login, role in ENGINEERS.items():
        new = Operator(login, login, frozenset({role}), "en", None)
        origin = Origin("adm.lee", NOW, "test")
        operators.add(connection, new, _password(login), bytes(16), by=admin, origin=origin, cost=CHEAP)


# fmt: off
APPROVALS: list[tuple[str, str, int, str]] = [
    ("nobody",                   "", 2, "--as LOGIN expected"),
    ("one engineer",             "--as eng.raj", 1, "a second person is needed"),
    ("one twice",                "--as eng.raj --with eng.raj", 1, "two people"),
    ("with a cashier",           "--as eng.raj --with op.ann", 1, "has not the role"),
    ("by a supervisor",          "--as sup.max --with eng.raj", 1, "has not the role"),
    ("two engineers",            "--as eng.raj --with eng.sue", 0, ""),
    ("engineer and supervisor",  "--as eng.raj --with sup.max", 0, ""),
]
# fmt: on


@pytest.mark.parametrize("kind", ["clear-tamper --at 2026-03-01T12:00Z", "key-change --to-revision 2"])
def test_a_token_made_by_hand_takes_two_people_where_there_are_operators(lone: Machine, kind: str) -> None:
    lone.add(2)
    lone.add(2, key_revision=2)
    lone.well("keys activate all --as sec.ida")
    lone.write(_hire_engineers)
    identity = f"--meter {handle().drn} --supply-group {DES_GROUP} --tariff-index 01 --revision 1 --base-date 2014"
    typed = f"token make {kind} {identity} --ea 7 --generation 2 --case C-1 --config {lone.config}"
    for label, who, code, said in APPROVALS:
        made = _token(lone, f"{typed} {who}")
        assert made[0] == code and said in made[2] and bool(made[1]) == (code == 0), (label, made)
    rows = lone.write(lambda connection: audit.latest(connection, 4))
    assert [(row.who, row.deed, row.reason) for row in rows[-2:]] == [
        ("eng.raj", "meter.token_approved", "case C-1")
    ] * 2
    lone.config.write_text(lone.config.read_text().replace("[sts]", '[sts]\nengineering_tokens = "one_person"'))
    assert _token(lone, f"{typed} --as eng.raj")[0] == 0
    lone.well(f"keys suspend {DES_GROUP}/1 --as sec.tom")
    assert "no vending key for supply group" in _token(lone, f"{typed} --as eng.raj")[2]


def _token(machine: Machine, command: str) -> tuple[int, str, str]:
    words = shlex.split(command)
    logins = [words[words.index(option) + 1] for option in ("--as", "--with") if option in words]
    machine.monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{_password(login)}\n" for login in logins)))
    parser = argparse.ArgumentParser()
    tokens_commands.add_commands(
        parser.add_subparsers(dest="command"),
        find_meter=meterdesk.find_meter,
        make_in_books=meterdesk.make_management,
        open_module=meterdesk.kept_module,
        approve=meterdesk.approve,
        world=machine.world,
    )
    options = parser.parse_args(words)
    code = options.run(options)
    said = machine.capsys.readouterr()
    return code, said.out, said.err
