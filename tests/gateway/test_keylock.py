"""`prepaid keys lock`: each change of lock, what is refused, a crash in the middle, a gateway that starts after it."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from gateway import app, keylock
from gateway.keyfile import write_keystore
from gateway.metrics import Metrics
from ledger import audit
from sts.modules.keystore import KeystoreError, MasterKey, ScryptCost, lock_in, read_keystore
from tests.gateway.commands.test_keys import DES_KEY, MASTER, Machine
from tests.sts.keys import handle

TOMS, IDAS, ONE = "tom's own long passphrase", "ida's own long passphrase", "a passphrase for the key store"
TWO = "--as sec.tom --with sec.ida"


@pytest.fixture
def lone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    """A machine with one active key, and locks that cost little."""
    monkeypatch.setattr(keylock, "_COST", ScryptCost(14))
    machine = Machine(tmp_path / "lone", f"sqlite:///{tmp_path}/lone.db", monkeypatch, capsys).set_up()
    machine.add(2)
    machine.well("keys activate all --as sec.ida")
    for name, text in (("one", ONE), ("tom", TOMS), ("ida", IDAS)):
        (machine.folder / name).write_text(text + "\n")
    return machine


def _opens_by(machine: Machine, line: str) -> None:
    """Change the settings to another lock."""
    text = re.sub(r"\n(master_key_file|passphrase_file|custodian_files) = .*", "", machine.config.read_text())
    machine.config.write_text(f"{text}{line}\n")


def _custodian_files(machine: Machine) -> str:
    return f'custodian_files = "sec.tom={machine.folder / "tom"} sec.ida={machine.folder / "ida"}"'


def test_a_key_store_goes_from_lock_to_lock_and_keeps_its_keys(lone: Machine) -> None:
    out = lone.well(f"keys lock --passphrase {TWO} --reason yearly", ONE)
    assert "opens by its passphrase from now on" in out
    with pytest.raises(KeystoreError):
        read_keystore(lone.keystore, MasterKey(MASTER))
    refused = lone.type("keys list")
    assert refused.code == 2 and "passphrase of the key store" in refused.err
    _opens_by(lone, f'passphrase_file = "{lone.folder / "one"}"')
    assert f"{DES_KEY}  supply group" in lone.well("keys list")

    out = lone.well(f"keys lock --custodian sec.tom --custodian sec.ida={lone.folder / 'ida'} {TWO}", TOMS)
    assert "the passphrases of sec.ida, sec.tom together" in out
    _opens_by(lone, _custodian_files(lone))
    assert "ACTIVE" in lone.well("keys list") and lone.keystore.stat().st_mode & 0o777 == 0o600
    lone.add(4)  # the lock stays as it is when a key is added
    lone.well("keys list")

    # Other passphrases of the same custodians, then a master key again.
    lone.well(f"keys lock --custodian sec.tom --custodian sec.ida {TWO}", TOMS + " 2", IDAS + " 2")
    assert lone.type("keys list").code == 2
    (lone.folder / "tom").write_text(TOMS + " 2")
    (lone.folder / "ida").write_text(IDAS + " 2")
    lone.well("keys new-master " + str(lone.folder / "new.key"))
    lone.well(f"keys lock --new-master-key-file {lone.folder / 'new.key'} {TWO}")
    _opens_by(lone, f'master_key_file = "{lone.folder / "new.key"}"')
    assert len(lone.well("keys list").splitlines()) == 2

    rows = [row for row in lone.write(lambda connection: audit.latest(connection, 1000)) if "lock" in row.deed]
    assert [row.deed for row in rows] == ["keys.lock_asked", "keys.locked"] * 4
    assert {row.who for row in rows} == {"sec.tom"} and all('"beside":"sec.ida"' in row.after for row in rows)
    kinds = [re.findall(r'"lock":"([a-z ]+)"', row.before + row.after) for row in rows[1::2]]
    assert kinds == [
        ["master key", "passphrase"],
        ["passphrase", "custodians"],
        ["custodians", "custodians"],
        ["custodians", "master key"],
    ]
    said = "".join(row.before + row.after for row in rows) + lone.keystore.read_text()
    assert not any(secret in said for secret in (ONE, TOMS, IDAS, MASTER.hex()))
    assert "the chain holds" in lone.well("audit verify")


# fmt: off
REFUSED: list[tuple[str, str, tuple[str, ...], int, str]] = [
    ("by one person",          "--passphrase --as sec.tom", (ONE,), 1, "a second person"),
    ("by one person twice",    "--passphrase --as sec.tom --with sec.tom", (ONE,), 1, "two people"),
    ("by a cashier",           "--passphrase --as op.ann --with sec.ida", (ONE,), 1, "has not the role"),
    ("with an administrator",  "--passphrase --as sec.tom --with adm.lee", (ONE,), 1, "has not the role"),
    ("by nobody known",        "--passphrase --as no.one --with sec.ida", (ONE,), 1, "no operator of this login"),
    ("a short passphrase",     f"--passphrase {TWO}", ("short",), 2, "12 to 1024 characters"),
    ("no passphrase",          f"--passphrase {TWO}", (), 2, "12 to 1024 characters"),
    ("one custodian",          f"--custodian sec.tom {TWO}", (TOMS,), 2, "2 to 5 expected"),
    ("one custodian twice",    f"--custodian sec.tom --custodian sec.tom {TWO}", (TOMS, IDAS), 2, "each login once"),
    ("one passphrase of two",  f"--custodian sec.tom --custodian sec.ida {TWO}", (TOMS, TOMS), 2, "same passphrase"),
    ("a custodian who is none", f"--custodian sec.tom --custodian op.ann {TWO}", (TOMS, IDAS), 1, "has not the role"),
    ("an unknown custodian",   f"--custodian sec.tom --custodian sec.bob {TWO}", (TOMS, IDAS), 1, "no operator sec"),
    ("no such file",           f"--new-passphrase-file {{f}}/none {TWO}", (), 2, "No such file"),
    ("a malformed master key", f"--new-master-key-file {{f}}/one {TWO}", (), 2, "64 hex digits"),
]
# fmt: on


def test_what_is_refused_leaves_the_lock_as_it_was(lone: Machine) -> None:
    before = lone.fingerprint()
    for label, typed, lines, code, said in REFUSED:
        answer = lone.type(f"keys lock {typed.format(f=lone.folder)}", *lines)
        assert (answer.code, answer.out) == (code, ""), (label, answer)
        assert said in answer.err and not any(line in answer.err for line in lines), (label, answer)
        assert lone.fingerprint() == before, label
    assert "keys.lock_refused" in [deed for _, deed in lone.deeds()]
    assert "keys.locked" not in [deed for _, deed in lone.deeds()]


def test_an_empty_key_store_is_not_locked(lone: Machine) -> None:
    lone.keystore.unlink()
    answer = lone.type(f"keys lock --passphrase {TWO}", ONE)
    assert answer.code == 2 and "holds no key" in answer.err


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_crash_leaves_the_old_lock_and_a_row_of_what_was_wanted(
    lone: Machine, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def crash(*_: Any) -> None:
        raise OSError(5, "Input/output error", "keys.json.new")

    before = lone.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash) if where == "fsync" else patch.setattr(Path, "replace", crash)
        assert lone.type(f"keys lock --passphrase {TWO}", ONE).code == 2
    assert lone.fingerprint() == before and DES_KEY in lone.well("keys list")
    assert [deed for _, deed in lone.deeds()][-1] == "keys.lock_asked"
    lone.well(f"keys lock --passphrase {TWO}", ONE)  # what the crash left beside it is no hindrance


def test_a_new_key_store_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    honest = os.fsync

    def fsync(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        honest(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_keystore(tmp_path / "keys.json", "{}")
    assert synced == [f"{tmp_path}/keys.json.new", str(tmp_path)] and (tmp_path / "keys.json").read_text() == "{}"


def test_a_gateway_starts_under_dual_control_and_goes_on_when_the_lock_changes(lone: Machine) -> None:
    lone.well(f"keys lock --custodian sec.tom --custodian sec.ida {TWO}", TOMS, IDAS)
    settings = load(lone.config, {})
    with pytest.raises(KeystoreError, match="passphrase of sec.ida"):
        asyncio.run(_started(lone, settings, None))
    _opens_by(lone, _custodian_files(lone))
    asyncio.run(_started(lone, load(lone.config, {}), TOMS + " 2"))
    assert isinstance(lock_in(lone.keystore).custodians, tuple)  # type: ignore[union-attr]


async def _started(machine: Machine, settings: Any, then: str | None) -> None:
    async with app.opened(settings, machine.world, Metrics()) as gateway:
        assert gateway.module.holds(handle())
        if then is not None:
            # In another process the lock is changed, and another key is activated.
            await asyncio.to_thread(_locked_anew, machine, then)
            assert await gateway._keys.take_up()
            assert gateway.module.holds(handle()) and gateway.module.holds(handle(key_revision=2))


def _locked_anew(machine: Machine, words: str) -> None:
    machine.well(f"keys lock --custodian sec.tom --custodian sec.ida {TWO}", words, IDAS + " 2")
    (machine.folder / "tom").write_text(words)
    (machine.folder / "ida").write_text(IDAS + " 2")
    machine.add(2, key_revision=2)
    machine.well("keys activate all --as sec.ida")
