"""Where the vending keys of the settings' modules lie, for the commands that put them there. Shell: blocks.

Into the key store and into PKCS#11 tokens this program puts keys itself. A module of the Prism kind takes the key load
files of a key management centre, by its own tools: here it is only looked at.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from config.settings import Pkcs11Settings, PrismSettings, Settings
from gateway.custody import KeyPlace
from gateway.keptkeys import name_of
from gateway.modules import ModuleSettingsWrong, prism_module, without_pkcs11
from gateway.unlock import records_of
from ledger.keyrows import CustodyFault, CustodyRefused, KeyId
from sts.errors import StsError
from sts.modules.contract import KeyStatus
from sts.modules.records import VendingKeyRecord


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """A PKCS#11 token of the settings."""

    section: Pkcs11Settings

    @property
    def module(self) -> str:
        """The module's name."""
        return self.section.name

    def held(self) -> list[KeyStatus]:
        """What is there, without the keys."""
        pkcs11 = _pkcs11(self.section)
        with self._opened() as session:
            return list(pkcs11.list_keys(session))

    def put(self, records: Sequence[VendingKeyRecord]) -> None:
        """Take these in, all or none; one of the same name and check value is made anew with its new dates."""
        pkcs11 = _pkcs11(self.section)
        with self._opened() as session:
            held = {name_of(status): status for status in pkcs11.list_keys(session)}
            for record in records:
                other = held.get(record.name)
                if other is not None and other.kcv != record.status.kcv:
                    raise CustodyRefused(
                        CustodyFault.OTHER_KEY,
                        f"module {self.module} holds a key of this name with the check value {other.kcv}, and "
                        f"{record.status.kcv} was brought",
                    )
            done: list[VendingKeyRecord] = []
            try:
                for record in records:
                    other = held.get(record.name)
                    if other == record.status:
                        continue
                    if other is not None:
                        pkcs11.destroy_key(session, record.name)
                    else:
                        done.append(record)
                    pkcs11.import_vending_key(session, record)
            except StsError:
                for record in done:
                    if any(name_of(status) == record.name for status in pkcs11.list_keys(session)):
                        pkcs11.destroy_key(session, record.name)
                raise

    def take_out(self, key: KeyId) -> None:
        """Destroy a key in the token, if it is there."""
        pkcs11 = _pkcs11(self.section)
        with self._opened() as session:
            if any(name_of(status) == key.name for status in pkcs11.list_keys(session)):
                pkcs11.destroy_key(session, key.name)

    def _opened(self) -> AbstractContextManager[Any]:
        pkcs11 = _pkcs11(self.section)
        section = self.section
        opened: AbstractContextManager[Any] = pkcs11.opened(
            section.library, section.token_label, pkcs11.Pin(section.pin.reveal()), timeout_s=section.timeout_s
        )
        return opened


def _pkcs11(section: Pkcs11Settings) -> ModuleType:
    """The package's module; python-pkcs11 is an extra that need not be installed."""
    try:
        return importlib.import_module("sts.modules.pkcs11")
    except ImportError:
        raise without_pkcs11(section) from None


@dataclass(frozen=True, slots=True)
class FarPlace:
    """A module of the Prism kind: what it holds is what the settings say."""

    section: PrismSettings
    settings: Settings

    @property
    def module(self) -> str:
        """The module's name."""
        return self.section.name

    def held(self) -> list[KeyStatus]:
        """What the settings say that it holds."""
        return list(prism_module(self.section, self.settings.sts).status().keys)

    def put(self, records: Sequence[VendingKeyRecord]) -> None:
        """Refused: such a module takes the files of a key management centre, and nothing else."""
        raise ModuleSettingsWrong(
            f"module {self.module}: it takes the key load files of its key management centre, by its own tools"
        )

    def take_out(self, key: KeyId) -> None:
        """Nothing: it is taken out by the module's own tools."""


@dataclass(frozen=True, slots=True)
class StorePlace:
    """The key store, to be looked at only; `gateway/custody.py` has the one that is written."""

    settings: Settings

    @property
    def module(self) -> str:
        """The key store's name."""
        return self.settings.sts.module

    def held(self) -> list[KeyStatus]:
        """What is there, without the keys; may ask for passphrases."""
        return [record.status for record in records_of(self.settings.sts)]

    def put(self, records: Sequence[VendingKeyRecord]) -> None:
        """Not from here."""
        raise AssertionError("a key store that is looked at is not written")

    def take_out(self, key: KeyId) -> None:
        """Not from here."""
        raise AssertionError("a key store that is looked at is not written")


def module_names(settings: Settings) -> list[str]:
    """The modules of the settings, the key store first, if there is one."""
    own = [settings.sts.module] if settings.sts.keystore else []
    return [*own, *(one.name for one in settings.pkcs11), *(one.name for one in settings.prism)]


def place_of(settings: Settings, name: str) -> KeyPlace:
    """The place of a module, the key store's to be looked at. Refuses a name that the settings do not have."""
    if name == settings.sts.module:
        return StorePlace(settings)
    for pkcs11 in settings.pkcs11:
        if pkcs11.name == name:
            return TokenPlace(pkcs11)
    for prism in settings.prism:
        if prism.name == name:
            return FarPlace(prism, settings)
    named = [section.name for section in settings.pkcs11] + [section.name for section in settings.prism]
    known = [settings.sts.module, *named]
    raise ModuleSettingsWrong(f"module {name}: the settings have {', '.join(known)}")
