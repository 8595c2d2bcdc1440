"""Where PINs are hashed: in threads of their own, before the batch that decides. Shell.

At most a bounded number waits; more are turned away as if the request could not be stored, so its peer sends again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from channels.commands import Buy, ChangePin
from channels.contract import Inbound
from config.settings import PinSettings
from gateway.pins import Proof
from gateway.world import World
from ledger import pins
from ledger.operators import SALT_BYTES
from ledger.store import QueueFull, Store

T = TypeVar("T")

_THREADS: Final = 2
_WAITING_MAX: Final = 400  # some ten seconds of work


class Prover:
    """Holds PINs against what is stored, and makes the hashes of new ones."""

    def __init__(self, settings: PinSettings, store: Store, world: World) -> None:
        self._key = settings.key.reveal()
        self._store = store
        self._world = world
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def of_request(self, inbound: Inbound, idem_key: str) -> Proof | None:
        """The proof for a request that holds a PIN; None for any other. Raises QueueFull."""
        command = inbound.command
        if isinstance(command, Buy) and command.pin is not None:
            return await self.prove(inbound.sender, command.pin, idem_key)
        if isinstance(command, ChangePin):
            return await self.prove(inbound.sender, command.old, idem_key, command.new)
        return None

    async def prove(self, msisdn: str, pin: str, idem_key: str, new: str = "") -> Proof:
        """What comes of this PIN, "" for none, and of a new one. A locked PIN and a repeat cost no work."""
        if not self._key:
            return Proof()
        stored, is_worth_it = await self._store.read(partial(pins.stored, msisdn=msisdn, idem_key=idem_key))
        looked, fits = None, False
        if pin and is_worth_it:
            assert stored is not None
            looked, fits = stored, await self._slowly(partial(pins.pin_fits, pin, msisdn, self._key, stored))
        made = None
        if new and (fits or not pin):
            salt = self._world.nonce(SALT_BYTES)
            made = await self._slowly(partial(pins.pin_hash, new, msisdn, self._key, salt))
        return Proof(looked, fits, made)

    async def _slowly(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING_MAX:
            raise QueueFull(f"{_WAITING_MAX} PINs wait")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pins")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the threads go; what they are at is of no use any more."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
