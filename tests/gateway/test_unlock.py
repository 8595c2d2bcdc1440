"""Opening the key store by each of its locks, and refusing what does not open it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from config.kinds import Secret
from config.settings import StsSettings
from gateway.unlock import custodian_files, master_key_of, records_of
from sts.modules.keystore import (
    KeystoreError,
    MasterKey,
    Passphrase,
    PassphraseLock,
    ScryptCost,
    custodians_key,
    seal,
)
from tests.simulation.shop import sample_keys

COST = ScryptCost(14)  # the least that is taken
NONCES = [bytes([n]) * 12 for n in range(6)]


def _sealed(path: Path, master_key: MasterKey) -> Path:
    path.write_text(seal(sample_keys(), master_key, NONCES), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def test_a_master_key_opens_its_key_store(tmp_path: Path) -> None:
    path = _sealed(tmp_path / "k", MasterKey(bytes(range(32))))
    given = StsSettings(keystore=str(path), master_key=Secret(bytes(range(32)).hex()))
    assert len(list(records_of(given))) == 6
    with pytest.raises(KeystoreError, match="master_key_file"):
        master_key_of(StsSettings(keystore=str(path)))


def test_a_passphrase_opens_its_key_store(tmp_path: Path) -> None:
    lock = PassphraseLock(b"s" * 16, COST)
    path = _sealed(tmp_path / "k", lock.open(Passphrase("correct horse battery")))
    assert len(list(records_of(StsSettings(keystore=str(path), passphrase=Secret("correct horse battery"))))) == 6
    with pytest.raises(KeystoreError):
        list(records_of(StsSettings(keystore=str(path), passphrase=Secret("another horse battery"))))
    with pytest.raises(KeystoreError, match="terminal"):
        master_key_of(StsSettings(keystore=str(path)))


def test_two_custodians_open_it_together_and_none_alone(tmp_path: Path) -> None:
    words = {"sec.ida": Passphrase("ida's long passphrase"), "sec.tom": Passphrase("tom's long passphrase")}
    shares = [bytes(range(32)), bytes(range(32, 64))]
    key = custodians_key(words, shares=shares, salts=[b"i" * 16, b"t" * 16], cost=COST)
    path = _sealed(tmp_path / "k", key)
    (tmp_path / "ida").write_text("ida's long passphrase\n")
    (tmp_path / "tom").write_text("tom's long passphrase\n")
    both = f"sec.tom={tmp_path}/tom sec.ida={tmp_path}/ida"
    assert len(list(records_of(StsSettings(keystore=str(path), custodian_files=both)))) == 6
    with pytest.raises(KeystoreError, match="terminal"):
        master_key_of(StsSettings(keystore=str(path), custodian_files=f"sec.tom={tmp_path}/tom"))
    with pytest.raises(KeystoreError):
        list(records_of(StsSettings(keystore=str(path), custodian_files=both.replace("/ida", "/tom"))))


def test_custodian_files_are_read_or_refused_by_name() -> None:
    assert custodian_files("a=/x b=/y") == {"a": Path("/x"), "b": Path("/y")}
    for text in ("a", "=x", "a=", "a=/x a=/y"):
        with pytest.raises(KeystoreError, match="NAME=FILE"):
            custodian_files(text)
