"""Opens the key store: by a master key, a passphrase, or the passphrases of several custodians. Shell: may ask.

What the settings do not give is asked for at the terminal; without a terminal it is refused by name.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable
from pathlib import Path

from config.settings import StsSettings
from sts.errors import Fault
from sts.modules.keystore import (
    CustodianLock,
    KeyLock,
    KeystoreError,
    MasterKey,
    Passphrase,
    PassphraseLock,
    lock_in,
    master_key_from,
    read_keystore,
)
from sts.modules.records import VendingKeyRecord

_PASSPHRASE_MAX = 4096


def master_key_of(settings: StsSettings, *, ask: bool = True) -> MasterKey:
    """The master key of the settings' key store. Refuses KEYSTORE, KEY_LENGTH or FORMAT for what does not open it.

    `ask`: whether what the settings do not give may be asked for at the terminal.
    """
    path = Path(settings.keystore)
    lock = lock_in(path) if path.exists() else KeyLock()
    if isinstance(lock, PassphraseLock):
        return lock.open(_given(settings.passphrase.reveal(), "passphrase of the key store", ask))
    if isinstance(lock, CustodianLock):
        files = custodian_files(settings.custodian_files)
        return lock.open({name: _of_custodian(name, files.get(name), ask) for name in lock.custodians})
    if not settings.master_key:
        raise KeystoreError(Fault.KEYSTORE, "[sts] master_key_file or master_key_env: needed for this key store")
    return master_key_from(settings.master_key.reveal())


def records_of(settings: StsSettings) -> Iterable[VendingKeyRecord]:
    """The vending keys of the settings' key store; none if they name none."""
    return read_keystore(Path(settings.keystore), master_key_of(settings)) if settings.keystore else ()


class OpenedKeyStore:
    """The settings' key store, to be read again and again with what opened it once; empty if they name none."""

    def __init__(self, settings: StsSettings) -> None:
        self._settings = settings
        self._master_key = master_key_of(settings) if settings.keystore else None

    def records(self) -> list[VendingKeyRecord]:
        """What it holds now. One that was locked anew meanwhile is opened by the settings' files, without asking."""
        if self._master_key is None:
            return []
        path = Path(self._settings.keystore)
        try:
            return list(read_keystore(path, self._master_key))
        except KeystoreError:
            self._master_key = master_key_of(self._settings, ask=False)
            return list(read_keystore(path, self._master_key))


def custodian_files(text: str) -> dict[str, Path]:
    """Custodians and the files of their passphrases, from "name=file name=file"; refuses FORMAT."""
    found: dict[str, Path] = {}
    for entry in text.split():
        name, equals, path = entry.partition("=")
        if not (name and equals and path) or name in found:
            raise KeystoreError(Fault.FORMAT, "[sts] custodian_files: NAME=FILE expected, each name once")
        found[name] = Path(path)
    return found


def _of_custodian(name: str, path: Path | None, ask: bool) -> Passphrase:
    if path is None:
        return _given("", f"passphrase of {name}", ask)
    with path.open("rb") as file:
        raw = file.read(_PASSPHRASE_MAX + 1)
    try:
        return Passphrase(raw.decode("utf-8").rstrip("\r\n"))
    except UnicodeDecodeError:
        raise KeystoreError(Fault.FORMAT, f"passphrase of {name}: UTF-8 text expected") from None


def _given(text: str, what: str, ask: bool) -> Passphrase:
    if text:
        return Passphrase(text)
    if not ask or not sys.stdin.isatty():
        raise KeystoreError(Fault.KEYSTORE, f"{what}: neither in the settings nor a terminal to ask at")
    return Passphrase(getpass.getpass(f"{what}: "))
