"""The commands about keys, operators and the audit log, as they are typed; and which keys may be used.

A whole life of a key through two installations, then what each command refuses: nothing may have changed by it, in the
key store or in the books.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway import custody, keysession
from gateway.commands import keys as keys_commands
from gateway.custody import KeyStore, admitted, approve_sample_keys, key_id_of, new_key, warnings
from ledger import audit, operators, tables, vendingkeys
from ledger.audit import Origin
from ledger.operators import Cost, Operator, Role
from ledger.store import migrate, open_store
from ledger.vendingkeys import Ending, EndKind, KeyId, KeyRow, State, Terms
from sts.errors import Fault
from sts.modules.contract import CreditRequest, KeyChangeRequest, ModuleRefused
from sts.modules.keyfile import TransferKey, open_file, sealing_key_from
from sts.modules.keystore import MasterKey, Passphrase, PassphraseLock, ScryptCost, read_keystore, seal
from sts.modules.records import VendingKeyRecord
from sts.modules.software import SoftwareModule
from tests.simulation.world import SeededWorld
from tests.sts.keys import DES_GROUP, HMAC_GROUP, NOW, handle, raw_key, record

CHEAP = Cost(log2_n=4)
PEOPLE = {
    "adm.lee": Role.ADMIN,
    "sec.tom": Role.KEY_CUSTODIAN,
    "sec.ida": Role.KEY_CUSTODIAN,
    "op.ann": Role.VENDOR,
    "aud.kay": Role.AUDITOR,
}
MASTER = bytes(range(32))
TRANSFER = bytes(range(100, 132))
DES_KEY, HMAC_KEY = f"{DES_GROUP}/1/2/2/2014", f"{HMAC_GROUP}/1/2/4/2014"
VAN_KEY = f"{DES_KEY}@van-3"


def _password(login: str) -> str:
    return f"password of {login}"


@dataclass
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass
class Machine:
    """An installation: settings, database, key store, and a terminal to type at."""

    folder: Path
    url: str
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    world: SeededWorld = field(default_factory=lambda: SeededWorld(now=NOW))
    module: str = "software"

    @property
    def config(self) -> Path:
        return self.folder / "prepaid.toml"

    @property
    def keystore(self) -> Path:
        return self.folder / "keys.json"

    @property
    def transfer_key(self) -> Path:
        return self.folder / "transfer.key"

    def set_up(self, *, people: bool = True) -> Machine:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "master.key").write_text(MASTER.hex())
        self.transfer_key.write_text(TRANSFER.hex())
        self.config.write_text(
            f'[database]\nurl = "{self.url}"\n'
            f'[sts]\nmodule = "{self.module}"\nkeystore = "{self.keystore}"\n'
            f'master_key_file = "{self.folder / "master.key"}"\n'
        )
        asyncio.run(migrate(self.url))
        if people:
            self.write(_hire)
        return self

    def type(self, command: str, *lines: str, people: bool = True) -> Answer:
        """Type a command; the passwords of its people come first on standard input, then these lines."""
        words = shlex.split(command)
        logins = [words[words.index(option) + 1] for option in ("--as", "--with") if option in words] if people else []
        self.monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{x}\n" for x in (*map(_password, logins), *lines))))
        parser = argparse.ArgumentParser()
        keys_commands.add_commands(parser.add_subparsers(required=True), world=self.world)
        if words[1] not in ("new-master", "new-transfer-key"):
            words += ["--config", str(self.config)]
        options = parser.parse_args(words)
        code = options.run(options)
        said = self.capsys.readouterr()
        return Answer(code, said.out, said.err)

    def well(self, command: str, *lines: str) -> str:
        answer = self.type(command, *lines)
        assert (answer.code, answer.err) == (0, ""), answer
        return answer.out

    def write(self, function: Callable[[sa.Connection], Any]) -> Any:
        async def work() -> Any:
            store = await open_store(self.url)
            try:
                return await store.transact(function)
            finally:
                await store.close()

        return asyncio.run(work())

    def rows(self) -> dict[str, KeyRow]:
        return {str(row.id): row for row in self.write(vendingkeys.report)}

    def held(self) -> list[str]:
        if not self.keystore.exists():
            return []
        return [str(key_id_of(one.status)) for one in read_keystore(self.keystore, MasterKey(MASTER))]

    def deeds(self) -> list[tuple[str, str]]:
        rows = self.write(lambda connection: audit.latest(connection, 1000))
        return [(row.who, row.deed) for row in rows]

    def add(self, dkga: int = 2, more: str = "", **changes: Any) -> str:
        """Seal a test key by sec.tom; how it is named."""
        one = record(dkga, **changes)
        self.well(
            f"keys add --as sec.tom --supply-group {one.supply_group} --revision {one.key_revision} "
            f"--generation {dkga} --expiry {one.key_expiry} {more}",
            one.key.secret_bytes().hex(),
        )
        return str(key_id_of(one.status))

    def fingerprint(self) -> tuple[Any, ...]:
        """Everything that a refused command must leave as it was."""
        files = self.write(lambda connection: connection.execute(sa.select(tables.key_file)).all())
        return self.keystore.read_bytes() if self.keystore.exists() else b"", self.rows(), files


def _hire(connection: sa.Connection) -> None:
    by = None
    for login, role in PEOPLE.items():
        new = Operator(login, login, frozenset({role}), "en", None)
        origin = Origin(by.login if by else "test", NOW, "test")
        operators.add(connection, new, _password(login), bytes(16), by=by, origin=origin, cost=CHEAP)
        by = by or new


@pytest.fixture
def machine(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Machine:
    """The centre, on each database, with its operators."""
    return Machine(tmp_path / "centre", database_url, monkeypatch, capsys).set_up()


@pytest.fixture
def lone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    """A machine on the embedded database, with its operators, for what does not depend on the database."""
    return Machine(tmp_path / "lone", f"sqlite:///{tmp_path}/lone.db", monkeypatch, capsys).set_up()


def _van(centre: Machine) -> Machine:
    """Another installation, the module van-3."""
    folder = centre.folder.parent / "van"
    folder.mkdir()
    van = Machine(folder, f"sqlite:///{folder}/van.db", centre.monkeypatch, centre.capsys, module="van-3")
    return van.set_up()


def _exported(centre: Machine, more: str = "", module: str = "van-3") -> Path:
    """A file for a module with the active keys."""
    out = centre.folder / f"van-{len(list(centre.folder.glob('van-*')))}.keys"
    centre.well(
        f"keys export --as sec.tom --with sec.ida --module {module} --out {out} "
        f"--transfer-key-file {centre.transfer_key} {more}"
    )
    return out


# --- a life -----------------------------------------------------------------------------------------------------------


def test_a_key_lives_from_sealing_to_destruction_and_travels_to_another_module(machine: Machine) -> None:
    machine.add(2)
    machine.add(4)
    assert [row.state for row in machine.rows().values()] == [State.LOADED, State.LOADED]
    out = machine.well("keys activate all --as sec.ida")
    assert f"key {DES_KEY}: active" in out and "loaded by sec.tom, activated by sec.ida" in out
    out = machine.well(f"keys limits {DES_KEY} --tokens 1000 --units 2500.5 --as sec.tom")
    assert "tokens 0 of 1000" in out and "kWh 0.0 of 2500.5" in out
    assert f"{DES_KEY}  supply group {DES_GROUP}" in machine.well("keys list")

    file = _exported(machine, f"--key {DES_GROUP} --tokens 50 --units 100 --refresh-days 30")
    assert raw_key(2, f"{DES_GROUP} 1 2").hex() not in file.read_text()
    van = _van(machine)
    out = van.well(f"keys import {file} --module van-3 --transfer-key-file {van.transfer_key} --as sec.ida")
    assert out == f"key {VAN_KEY}: new; another person activates it\n"
    refused = van.type(f"keys activate {DES_KEY} --as sec.ida")
    assert refused.code == 1 and "two people are needed" in refused.err
    van.well(f"keys activate {DES_KEY} --as sec.tom")
    row = van.rows()[VAN_KEY]
    assert (row.state, row.module, row.terms.token_limit, row.terms.units_limit_tenths) == ("ACTIVE", "van-3", 50, 1000)
    assert row.terms.refresh_by == NOW + timedelta(days=30)
    assert read_keystore(van.keystore, MasterKey(MASTER))[0].key.kcv == row.kcv

    van.well(f"keys suspend {DES_KEY} --as sec.tom --reason lost")
    van.well(f"keys destroy {DES_KEY} --as sec.tom --with sec.ida --reason lost")
    assert van.held() == [] and van.rows()[VAN_KEY].state is State.DESTROYED
    again = van.type(f"keys import {file} --module van-3 --transfer-key-file {van.transfer_key} --as sec.ida")
    assert (again.code, "was loaded on 2026-03-01 already" in again.err) == (1, True)

    for one in (machine, van):
        assert "the chain holds" in one.well("audit verify")
    assert [deed for _, deed in van.deeds()][-6:] == [
        "keys.file_loaded",
        "keys.activate_refused",
        "keys.activated",
        "keys.suspended",
        "keys.destroyed",
        "keys.import_refused",
    ]


def test_a_passphrase_seals_as_well_as_a_key(lone: Machine) -> None:
    lone.add(2)
    lone.well("keys activate all --as sec.ida")
    out = lone.folder / "file"
    words = "seven words that only the van knows"
    lone.well(f"keys export --as sec.tom --with sec.ida --module van-3 --out {out}", words)
    van = _van(lone)
    wrong = van.type(f"keys import {out} --module van-3 --as sec.tom", words + "!")
    assert (wrong.code, wrong.out) == (2, "") and "altered" in wrong.err and van.rows() == {}
    van.well(f"keys import {out} --module van-3 --as sec.tom", words)
    assert van.held() == [DES_KEY]


def test_a_newer_file_waits_for_approval_and_then_holds(lone: Machine) -> None:
    lone.add(2)
    lone.well("keys activate all --as sec.ida")
    first, second = _exported(lone, "--tokens 50"), _exported(lone, "--tokens 80 --refresh-days 9")
    van = _van(lone)
    load = f"--module van-3 --transfer-key-file {van.transfer_key}"
    van.well(f"keys import {first} {load} --as sec.tom")
    van.well("keys activate all --as sec.ida")
    assert "refreshed" in van.well(f"keys import {second} {load} --as sec.ida")
    row = van.rows()[VAN_KEY]
    assert row.state is State.ACTIVE and row.terms.token_limit == 50 and row.pending is not None
    assert "a newer file, loaded by sec.ida, waits for another person" in van.type("keys report").out
    assert van.type("keys activate all --as sec.ida").code == 1
    van.well("keys activate all --as sec.tom")
    assert van.rows()[VAN_KEY].terms.token_limit == 80
    old = van.type(f"keys import {first} {load} --as sec.tom")
    assert old.code == 1 and "already" in old.err


def test_a_key_is_replaced_by_a_newer_one(lone: Machine) -> None:
    lone.add(2)
    newer = lone.add(2, key_revision=2)
    lone.well("keys activate all --as sec.ida")
    out = lone.well(f"keys replace {DES_KEY} --by {newer} --as sec.tom --with sec.ida")
    assert f"replaced by {newer}" in out
    assert lone.rows()[DES_KEY].state is State.REPLACED


def test_keys_may_be_sealed_before_there_is_a_database_and_registered_later(lone: Machine) -> None:
    lone.config.write_text(lone.config.read_text().replace("lone.db", "later.db"))
    one = record(2)
    out = lone.well(f"keys add --supply-group {DES_GROUP} --revision 1 --generation 2", one.key.secret_bytes().hex())
    assert f"sealed: key {DES_KEY}, KCV {one.status.kcv}; not in the books yet" in out
    assert not (lone.folder.parent / "later.db").exists()
    assert "the books were not looked at" in lone.well("keys list")
    lone.config.write_text(lone.config.read_text().replace("later.db", "lone.db"))
    assert "not in the books" in lone.well("keys list")
    assert f"key {DES_KEY}: loaded" in lone.well("keys register --as sec.tom")
    assert "the books know every key" in lone.well("keys register --as sec.tom")
    lone.well("keys activate all --as sec.ida")


def test_a_key_store_under_a_passphrase_is_opened_by_it(lone: Machine) -> None:
    words = lone.folder / "words"
    words.write_text("words that open the key store\n")
    master = PassphraseLock(bytes(16), ScryptCost(log2_n=14)).open(Passphrase(words.read_text()))
    lone.keystore.write_text(seal([record(4)], master, [bytes(12)]))
    lone.config.write_text(re.sub("master_key_file.*", f'passphrase_file = "{words}"', lone.config.read_text()))
    lone.add(2)
    assert len(read_keystore(lone.keystore, master)) == 2
    words.write_text("other words for it")
    assert lone.type("keys list").code == 2


def test_new_keys_are_written_once_and_for_their_owner_alone(lone: Machine) -> None:
    for command in ("new-master", "new-transfer-key"):
        path = lone.folder / command
        assert str(path) in lone.well(f"keys {command} {path}")
        assert sealing_key_from(path.read_text()) and path.stat().st_mode & 0o777 == 0o600
        before = path.read_bytes()
        assert lone.type(f"keys {command} {path}").code == 2 and path.read_bytes() == before


# --- refusals ---------------------------------------------------------------------------------------------------------

# fmt: off
REFUSED: list[tuple[str, str, int, str]] = [
    # what is typed; {f}: a good file, {k}: --module van-3 and the transfer key
    ("an altered file",         "keys import {altered} {k} --as sec.tom", 2, "altered"),
    ("a file cut short",        "keys import {cut} {k} --as sec.tom", 2, "cut"),
    ("a file of another kind",  "keys import {other} {k} --as sec.tom", 2, "cut"),
    ("no file",                 "keys import {f}.none {k} --as sec.tom", 2, "No such file"),
    ("another module's file",   "keys import {v} --transfer-key-file {t} --as sec.tom", 2, "made for module van-3"),
    ("another transfer key",    "keys import {f} --transfer-key-file {t2} --as sec.tom", 2, "altered"),
    ("a malformed one",         "keys import {f} --transfer-key-file {other} --as sec.tom", 2,
     "64 hex digits"),
    ("no transfer key",         "keys import {f} --as sec.tom", 2, "--transfer-key-file expected"),
    ("another module",          "keys import {v} --module van-3 --transfer-key-file {t} --as sec.tom", 2,
     "the settings have software"),
    ("registered elsewhere",    "keys register --module van-3 --as sec.tom", 2, "the settings have software"),
    ("an import by a cashier",  "keys import {f} {k} --as op.ann", 1, "has not the role KEY_CUSTODIAN"),
    ("an import by an admin",   "keys import {f} {k} --as adm.lee", 1, "has not the role KEY_CUSTODIAN"),
    ("an import by an auditor", "keys import {f} {k} --as aud.kay", 1, "has not the role KEY_CUSTODIAN"),
    ("an import by nobody",     "keys import {f} {k} --as no.one", 1, "no operator of this login and password"),
    ("activated by the loader", "keys activate {d} --as sec.tom", 1, "two people are needed"),
    ("activated by a cashier",  "keys activate {d} --as op.ann", 1, "has not the role"),
    ("an unknown key",          "keys activate 999999/1/2/2/2014 --as sec.ida", 1, "not in the books"),
    ("no key",                  "keys activate rubbish --as sec.ida", 2, "SUPPLY GROUP/REVISION"),
    ("a key named too briefly", "keys activate {g} --as sec.ida", 2, "there are"),
    ("replaced by one",         "keys replace {a} --by {d} --as sec.tom", 1, "a second person"),
    ("replaced by a loaded key", "keys replace {a} --by {d} --as sec.tom --with sec.ida", 1, "another active key"),
    ("destroyed by one",        "keys destroy {d} --as sec.tom", 1, "a second person"),
    ("destroyed by one twice",  "keys destroy {d} --as sec.tom --with sec.tom", 1, "two people"),
    ("destroyed while active",  "keys destroy {a} --as sec.tom --with sec.ida", 1, "is active"),
    ("limits of no number",     "keys limits {a} --tokens 1e3 --as sec.tom", 2, "--tokens"),
    ("limits of 2 decimals",    "keys limits {a} --units 1.25 --as sec.tom", 2, "--units"),
    ("no limit named",          "keys limits {a} --as sec.tom", 2, "expected"),
    ("limits by a cashier",     "keys limits {a} --tokens 1 --as op.ann", 1, "has not the role"),
    ("exported by one",         "keys export {k} --out {n} --as sec.tom", 1, "a second person"),
    ("exported with an admin",  "keys export {k} --out {n} --as sec.tom --with adm.lee", 1, "has not the role"),
    ("a loaded key exported",   "keys export {k} --out {n} --key {d} --as sec.tom --with sec.ida", 1, "only active"),
    ("exported for 0 days",     "keys export {k} --out {n} --days 0 --as sec.tom --with sec.ida", 2, "--days"),
    ("exported over a file",    "keys export {k} --out {f} --as sec.tom --with sec.ida", 2, "such a file already"),
    ("a module of two words",   "keys export --module a/b --transfer-key-file {t} --out {n} --as sec.tom "
     "--with sec.ida", 2, "a module's name"),
    ("registered by a cashier", "keys register --as op.ann", 1, "has not the role"),
    ("sealed by nobody",        "keys add --supply-group 123456 --revision 3 --generation 2", 1, "KEY_CUSTODIAN"),
]
# fmt: on


def test_what_is_refused_changes_neither_the_key_store_nor_the_books(lone: Machine) -> None:
    lone.add(2)
    lone.well("keys activate all --as sec.ida")
    file, other = _exported(lone, module="software"), _exported(lone)
    loaded = lone.add(2, key_revision=2)
    good = bytearray(file.read_bytes())
    places = {name: lone.folder / name for name in ("altered", "cut", "other", "t2", "n")}
    places["cut"].write_bytes(good[:-2])
    good[-30] ^= 1
    places["altered"].write_bytes(good)
    places["other"].write_text('{"format": "KMC"}')
    places["t2"].write_text(MASTER.hex())
    names: dict[str, Any] = {
        **places,
        "f": file,
        "t": lone.transfer_key,
        "k": f"--module software --transfer-key-file {lone.transfer_key}",
        "v": other,
        "a": DES_KEY,
        "d": loaded,
        "g": DES_GROUP,
    }
    before = lone.fingerprint()
    for label, typed, code, said in REFUSED:
        answer = lone.type(typed.format(**names), raw_key(2, "another").hex())
        assert (answer.code, answer.out) == (code, ""), (label, answer)
        assert said in answer.err and answer.err.startswith("prepaid keys "), (label, answer)
        assert lone.fingerprint() == before, label
        assert not places["n"].exists(), label
    assert "the chain holds" in lone.well("audit verify")
    assert ("op.ann", "keys.import_refused") in lone.deeds() and ("sec.tom", "keys.import_refused") in lone.deeds()
    refusals = [
        json.loads(row.after)
        for row in lone.write(lambda connection: audit.latest(connection, 1000))
        if row.deed == "keys.import_refused"
    ]
    assert {refusal["fault"] for refusal in refusals} >= {"altered", "wrong_module", "role_missing"}
    assert all(len(refusal["file_hash"]) == 64 for refusal in refusals)


def test_an_expired_file_loads_nothing(lone: Machine) -> None:
    lone.add(2)
    lone.well("keys activate all --as sec.ida")
    file = _exported(lone, "--days 3")
    van = _van(lone)
    van.world.advance(days=3)
    answer = van.type(f"keys import {file} --module van-3 --transfer-key-file {van.transfer_key} --as sec.tom")
    assert answer.code == 2 and "expired: to be loaded before 2026-03-04 12:00 UTC" in answer.err
    assert van.held() == [] and van.rows() == {}


def test_a_vending_key_of_wrong_length_or_parity_is_refused_and_not_shown(lone: Machine) -> None:
    good = record(2).key.secret_bytes()
    for raw in (good[:7], good + b"\x01", bytes([good[0] ^ 1]) + good[1:], b""):
        answer = lone.type(f"keys add --as sec.tom --supply-group {DES_GROUP} --revision 1 --generation 2", raw.hex())
        assert (answer.code, answer.out) == (2, "") and (not raw or raw.hex() not in answer.err)
    assert lone.held() == [] and lone.rows() == {}


def test_a_key_that_is_not_the_one_in_the_key_store_is_not_activated(lone: Machine) -> None:
    lone.add(2)
    store = KeyStore(lone.keystore, MasterKey(MASTER), lone.world.nonce)
    other = replace(record(2), key=record(2, key_revision=7).key)
    store.write([other])
    answer = lone.type(f"keys activate {DES_KEY} --as sec.ida")
    assert answer.code == 1 and "check value" in answer.err
    store.write([])
    answer = lone.type(f"keys activate {DES_KEY} --as sec.ida")
    assert answer.code == 1 and "does not hold it" in answer.err


def test_five_wrong_passwords_at_the_terminal_lock_the_custodian_out(lone: Machine) -> None:
    lone.add(2)
    for _ in range(operators.TRIES_MAX):
        assert lone.type("keys activate all --as sec.ida", "not it", people=False).code == 1
    assert "locked out" in lone.type("keys activate all --as sec.ida").err
    assert "locked out until 2026-03-01 12:15 UTC" in lone.well("operators list")
    lone.well("operators enable sec.ida --as adm.lee")
    lone.well("keys activate all --as sec.ida")


def test_a_crash_between_key_store_and_books_is_mended_by_doing_it_again(lone: Machine) -> None:
    lone.add(2)
    lone.well("keys activate all --as sec.ida")
    raw = _exported(lone).read_bytes()
    van = _van(lone)
    file = open_file(raw, MasterKey(TRANSFER), module="van-3", now=NOW)
    store = KeyStore(van.keystore, MasterKey(MASTER), van.world.nonce, "van-3")
    tom = Operator("sec.tom", "Tom", frozenset({Role.KEY_CUSTODIAN}), "en", None)

    def crashes(connection: sa.Connection) -> None:
        custody.load_file(connection, store, file, by=tom, origin=Origin("sec.tom", NOW, "test"))
        raise ConnectionError("told to")

    with pytest.raises(ConnectionError):
        van.write(crashes)
    assert van.held() == [DES_KEY] and van.rows() == {}
    assert admitted(store.records(), [], "van-3").records == ()
    path = van.folder / "again"
    path.write_bytes(raw)
    van.well(f"keys import {path} --module van-3 --transfer-key-file {van.transfer_key} --as sec.tom")
    assert list(van.rows()) == [VAN_KEY]


# --- operators and audit ----------------------------------------------------------------------------------------------


def test_the_first_operator_is_added_without_one_and_the_rest_by_an_administrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path, f"sqlite:///{tmp_path}/new.db", monkeypatch, capsys).set_up(people=False)
    tom = "operators add sec.tom --name Tom --role key_custodian"
    assert machine.type(tom, _password("sec.tom")).code == 1
    machine.well("operators add adm.lee --name Lee --role ADMIN --language fr", _password("adm.lee"))
    assert machine.type(tom, _password("sec.tom")).code == 1
    machine.well(f"{tom} --as adm.lee", _password("sec.tom"))
    assert machine.type("operators add x --name X --role KING --as adm.lee", "new password").code == 1
    assert machine.type("operators add x --name X --role VENDOR --as adm.lee", "short").code == 1
    machine.well("operators password sec.tom --as sec.tom", "another password")
    assert machine.type("operators password sec.tom --as sec.tom", "yet another one").code == 1  # the old one
    machine.well("operators disable sec.tom --as adm.lee")
    assert machine.well("operators list").splitlines() == [
        "adm.lee  Lee  ADMIN  fr  -",
        "sec.tom  Tom  KEY_CUSTODIAN  en  -  disabled",
    ]
    who, deed = machine.deeds()[0]
    assert deed == "operators.added" and who.startswith("terminal ")


def test_passwords_come_from_files_too(lone: Machine) -> None:
    (lone.folder / "tom").write_text(_password("sec.tom") + "\n")
    (lone.folder / "new").write_text("a password from a file\n")
    files = f"--password-file {lone.folder / 'tom'} --new-password-file {lone.folder / 'new'}"
    assert lone.type(f"operators password sec.tom --as sec.tom {files}", people=False).code == 0


def test_the_audit_commands_show_the_chain_and_find_what_was_changed(machine: Machine) -> None:
    machine.add(2)
    out = machine.well("audit verify")
    seen = out.rsplit(" ", 1)[1].strip()
    machine.well(f"keys activate {DES_KEY} --as sec.ida --reason checked")
    machine.well(f"audit verify --seen {seen}")
    shown = machine.well("audit show --as sec.ida")
    assert "sec.ida  keys.activated" in shown and "because: checked" in shown and '"state":"ACTIVE"' in shown
    assert len(machine.well("audit show --as sec.ida --last 1").splitlines()) == 3
    assert machine.type("audit verify --seen rubbish").code == 2
    machine.write(
        lambda connection: connection.execute(
            sa.update(tables.audit).where(tables.audit.c.seq == 2).values(who="nobody")
        )
    )
    broken = machine.type("audit verify")
    assert (broken.code, broken.out) == (1, "BROKEN at row 2: row 2 was changed\n")


def test_no_secret_is_in_the_books_or_in_anything_that_was_said(lone: Machine) -> None:
    lone.add(2)
    said = [lone.well("keys activate all --as sec.ida")]
    file = _exported(lone)
    said += [lone.well("keys list"), lone.type("keys report").out, lone.well("audit show --as sec.ida --last 100")]
    said.append((lone.folder.parent / "lone.db").read_bytes().decode("latin-1"))
    raw = record(2).key.secret_bytes()
    for secret in (raw.hex(), raw.hex().upper(), raw.decode("latin-1"), MASTER.hex(), TRANSFER.hex(), "password of"):
        assert not any(secret in text for text in said), secret
    assert raw.hex() not in file.read_text()


# --- which keys may be used -------------------------------------------------------------------------------------------


def _row(one: VendingKeyRecord, **changes: Any) -> KeyRow:
    new = new_key(TransferKey(one))
    facts: dict[str, Any] = dict(
        id=new.id,
        kcv=new.kcv,
        state=State.ACTIVE,
        terms=new.terms,
        tokens_made=0,
        units_made_tenths=0,
        loaded_by="sec.tom",
        loaded_at=NOW,
        file_id=None,
        file_hash=None,
        activated_by="sec.ida",
        activated_at=NOW,
        replaced_by=None,
        replaced_at=None,
        destroyed_at=None,
        pending=None,
    )
    return KeyRow(**{**facts, **changes})


# fmt: off
ADMISSION: list[tuple[str, list[KeyRow], int, str]] = [
    ("active",           [_row(record(2))], 1, ""),
    ("replaced",         [_row(record(2), state=State.REPLACED, replaced_at=NOW)], 1, ""),
    ("unknown",          [], 0, "the books do not know it"),
    ("loaded",           [_row(record(2), state=State.LOADED)], 0, "not activated"),
    ("destroyed",        [_row(record(2), state=State.DESTROYED)], 0, "destroyed, yet the module holds it"),
    ("another module's", [_row(record(2), id=KeyId(DES_GROUP, 1, 2, 2, 2014, "van-3"))], 0, "do not know it"),
    ("another key",      [_row(record(2), kcv="000000")], 0, "check value"),
    ("active, not held", [_row(record(2)), _row(record(4))], 1, "the module does not hold it"),
    ("loaded, not held", [_row(record(2)), _row(record(4), state=State.LOADED)], 1, ""),
]
# fmt: on


@pytest.mark.parametrize(("rows", "count", "said"), [case[1:] for case in ADMISSION], ids=[c[0] for c in ADMISSION])
def test_only_keys_that_two_people_put_into_use_are_given_to_the_module(
    rows: list[KeyRow], count: int, said: str
) -> None:
    one = record(2)
    found = admitted([one], rows)
    assert len(found.records) == count
    assert said in " ".join(found.left_out) and bool(said) == bool(found.left_out)


def test_the_stricter_of_both_dates_holds() -> None:
    days = [NOW + timedelta(days=number) for number in range(10)]
    one = record(2, active_from=days[1], issued_until=days[8], key_expiry=200)
    # fmt: off
    cases = [
        (Terms(200, days[1], days[8]),           days[1], days[8], 200),
        (Terms(100, days[2], days[7]),           days[2], days[7], 100),
        (Terms(255, days[0], days[9]),           days[1], days[8], 200),
        (Terms(255, None, None),                 days[1], days[8], 200),
        (Terms(255, None, None, days[3]),        days[1], days[3], 200),
        (Terms(255, None, days[2], days[3]),     days[1], days[2], 200),
    ]
    # fmt: on
    for terms, active_from, issued_until, key_expiry in cases:
        (used,) = admitted([one], [_row(one, terms=terms)]).records
        assert (used.active_from, used.issued_until, used.key_expiry) == (active_from, issued_until, key_expiry)


def test_a_replaced_key_makes_no_credit_but_still_the_key_change_away_from_it() -> None:
    old, new = record(2), record(2, key_revision=2)
    rows = [_row(old, state=State.REPLACED, replaced_at=NOW), _row(new)]
    module = SoftwareModule(admitted([old, new], rows).records)
    later = NOW + timedelta(minutes=1)
    request = CreditRequest(handle(), 0, 6_400_002, 5, 256)
    with pytest.raises(ModuleRefused) as refusal:
        module.make(request, now=later)
    assert refusal.value.fault is Fault.KEY_NO_LONGER_USED
    assert len(module.make_set(KeyChangeRequest(handle(), handle(key_revision=2)), now=later)) == 2
    assert module.make(replace(request, key=handle(key_revision=2)), now=later)


def test_sample_keys_are_approved_by_two_made_up_people(lone: Machine) -> None:
    records = [record(2), record(4)]
    lone.write(lambda connection: approve_sample_keys(connection, records, NOW))
    rows = list(lone.rows().values())
    assert {(row.state, row.loaded_by, row.activated_by) for row in rows} == {("ACTIVE", "sec.tom", "sec.ida")}
    assert admitted(records, rows).records == tuple(records) and not admitted(records, rows).left_out


# --- what is due ------------------------------------------------------------------------------------------------------


def test_ends_are_warned_of_at_90_30_and_7_days_and_when_over() -> None:
    tick = timedelta(microseconds=1)
    # fmt: off
    cases: list[tuple[timedelta, int | None]] = [
        (timedelta(days=90) + tick, None),
        (timedelta(days=90),        90),
        (timedelta(days=30) + tick, 90),
        (timedelta(days=30),        30),
        (timedelta(days=7) + tick,  30),
        (timedelta(days=7),         7),
        (tick,                      7),
        (timedelta(),               0),
        (-timedelta(days=400),      0),
    ]
    # fmt: on
    for left, expected in cases:
        row = _row(record(2), terms=Terms(255, issued_until=NOW + left))
        found = warnings([row], NOW)
        assert [warning.days for warning in found] == ([] if expected is None else [expected])
        module = Ending("module prism-1", EndKind.AUTHORISATION, NOW + left)
        assert [warning.days for warning in warnings([], NOW, [module])] == ([] if expected is None else [expected])


def test_only_keys_that_are_loaded_or_active_are_warned_of_nearest_first() -> None:
    near, far = NOW + timedelta(days=1), NOW + timedelta(days=50)
    rows = [
        _row(record(2), terms=Terms(255, issued_until=far, refresh_by=near)),
        _row(record(4), state=State.LOADED, terms=Terms(255, issued_until=near)),
        _row(record(2, key_revision=2), state=State.REPLACED, terms=Terms(255, issued_until=near)),
        _row(record(2, key_revision=3), state=State.DESTROYED, terms=Terms(255, issued_until=near)),
    ]
    assert [(one.ending.subject, one.ending.kind, one.days) for one in warnings(rows, NOW)] == [
        (f"key {DES_KEY}", EndKind.REFRESH_BY, 7),
        (f"key {HMAC_KEY}", EndKind.ISSUED_UNTIL, 7),
        (f"key {DES_KEY}", EndKind.ISSUED_UNTIL, 90),
    ]


def test_the_report_says_what_is_due_and_its_exit_code_too(lone: Machine) -> None:
    assert lone.well("keys report") == ""
    lone.add(2)
    lone.well("keys activate all --as sec.ida")
    assert "ACTIVE  module software" in lone.well("keys report")
    van = _van(lone)
    file = _exported(lone, "--refresh-days 20 --tokens 5")
    van.well(f"keys import {file} --module van-3 --transfer-key-file {van.transfer_key} --as sec.tom")
    van.well("keys activate all --as sec.ida")
    out = van.well("keys report")
    assert "tokens 0 of 5" in out and f"key {VAN_KEY}: refresh by 2026-03-21 12:00 UTC, in 20 days" in out
    van.world.advance(days=13)
    assert van.type("keys report").code == 1
    van.world.advance(days=8)
    report = van.type("keys report")
    assert report.code == 1 and "which is over" in report.out
    van.world.advance(days=-21)
    van.write(lambda connection: connection.execute(sa.update(tables.vending_key).values(tokens_made=5)))
    report = van.type("keys report")
    assert report.code == 1 and "a limit is reached" in report.out


def test_a_place_is_told_even_where_the_user_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("no user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert keysession.place().startswith("terminal unknown@")
