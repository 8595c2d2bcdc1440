"""The security modules of a running gateway, each with the keys that the books allow it. Shell: reads the key store.

What the books say takes effect with the batch that reads it (`gateway/keptkeys.py`). What a module holds is read again
by `reload` when the books have changed: keys that were activated are loaded from the key store, keys that were
destroyed leave the memory of this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from config.settings import Settings
from gateway import custody
from gateway.keptkeys import KeptModule, name_of
from gateway.modules import load_members, load_tables, software_member
from gateway.unlock import OpenedKeyStore
from ledger.keyrows import KeyRow, State
from ledger.unit import KeyUse
from sts.modules.contract import KeyStatus, SecurityModule
from sts.modules.pool import ModulePool
from sts.modules.software import SoftwareModule


@dataclass(frozen=True, slots=True)
class Books:
    """What the books say of all keys, and the stamp that was read before it."""

    stamp: int
    rows: tuple[KeyRow, ...]

    @property
    def uses(self) -> list[KeyUse]:
        """The rows in the modules' words."""
        return [row.use for row in self.rows]


class Keeper:
    """Every module of the settings behind its custody, and all of them together as `module`.

    Opens the key store (which may ask for passphrases) and the modules; raises what they raise.
    """

    def __init__(self, settings: Settings, books: Books) -> None:
        self._settings: Final = settings
        self._tables: Final = load_tables(settings.sts)
        self._store: Final = OpenedKeyStore(settings.sts)
        self._in_store: tuple[KeyStatus, ...] = ()
        self._software: Final = KeptModule(self._read_store(books))
        members = [replace(member, module=KeptModule(member.module)) for member in load_members(settings, self._tables)]
        if members and settings.sts.keystore:
            members.append(software_member(self._software))
        self.module: Final[SecurityModule] = ModulePool(members) if members else self._software
        kept = [member.module for member in members] or [self._software]
        self._kept: Final = tuple(one for one in kept if isinstance(one, KeptModule))
        self.allow(books.uses, books.stamp)

    def allow(self, uses: Sequence[KeyUse], stamp: int) -> None:
        """What the books allow from now on; what they said at an earlier stamp is not listened to. From any thread."""
        for kept in self._kept:
            kept.allow(uses, stamp)

    def reload(self, books: Books) -> None:
        """Have every module hold what the books want of it. Blocks: call it in a thread. Raises as the constructor."""
        self._software.stand_before(self._read_store(books))
        for kept in self._kept:
            wanted = {row.id.name for row in books.rows if row.module == kept.name and row.state is State.ACTIVE}
            again = getattr(kept.inner, "reload", None)
            if again is not None and not wanted <= {name_of(status) for status in kept.inner.status().keys}:
                again()
            kept.stand_before(kept.inner)
        self.allow(books.uses, books.stamp)

    def left_out(self, books: Books) -> list[str]:
        """A sentence for every key that a module holds and may not use, and every active one that it lacks."""
        sentences: list[str] = []
        for kept in self._kept:
            held = self._in_store if kept is self._software else kept.inner.status().keys
            sentences += custody.left_out(held, books.rows, kept.name)
        names = {kept.name for kept in self._kept}
        sentences += [
            f"key {row.id}: active in the books for module {row.module}, which the settings do not name"
            for row in books.rows
            if row.module not in names and row.state is State.ACTIVE
        ]
        return sentences

    async def close(self) -> None:
        """Close the modules that can be closed."""
        if isinstance(self.module, ModulePool):
            await self.module.close()

    def _read_store(self, books: Books) -> SoftwareModule:
        name = self._settings.sts.module
        records = self._store.records()
        self._in_store = tuple(record.status for record in records)
        return SoftwareModule(
            custody.admitted(records, books.rows, name).records,
            tables=self._tables,
            name=name,
            cache_size=self._settings.sts.decoder_key_cache,
        )
