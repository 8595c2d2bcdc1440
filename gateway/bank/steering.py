"""Obeys what operators want of banks' links: pause, drain, and messages sent once (`prepaid bank`). Shell.

Wishes and asks stand in the database, so that every node obeys, whichever the bank's links lie on. A node that cannot
reach the database stays as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from channels.iso8583.bank import BankPeer
from channels.iso8583.profile import Network
from gateway.world import World
from ledger import banklinks, links
from ledger.banklinks import Ask, Result
from ledger.links import LinkState, Wish
from ledger.store import Store

log = logging.getLogger(__name__)


class BankSteering:
    """Sees to it that a node's links do as operators want."""

    def __init__(
        self, store: Store, peers: Mapping[str, BankPeer], node: str, world: World, *, look_every_s: float
    ) -> None:
        self._store: Final = store
        self._peers: Final = peers
        self._node: Final = node
        self._world: Final = world
        self._look_every_s: Final = look_every_s

    async def run(self) -> None:
        """Look again and again, for ever."""
        while self._peers:
            try:
                await self.look()
            except Exception:  # the database is away: what was wanted last holds
                log.exception("what is wanted of banks' links could not be read")
            await asyncio.sleep(self._look_every_s)

    async def look(self) -> None:
        """Read what is wanted, and do so."""
        now, names = self._world.now(), list(self._peers)

        def read(connection: Any) -> tuple[dict[str, LinkState], list[Ask]]:
            return links.wishes(connection), banklinks.to_do(connection, names, self._node, now)

        states, asks = await self._store.read(read)
        for name, peer in self._peers.items():
            state = states.get(banklinks.wish_name(name))
            self._obey(peer, state.wish if state is not None else Wish.RUN)
        for ask in asks:
            results = await self._carry_out(ask)
            await self._store.transact(partial(banklinks.note, results=results))

    def _obey(self, peer: BankPeer, wish: Wish) -> None:
        if peer.is_paused != (wish is Wish.PAUSED):
            peer.is_paused = wish is Wish.PAUSED
            log.warning("bank %s: %s, as an operator wants", peer.name, "paused" if peer.is_paused else "sells again")
        if wish is Wish.DRAINED:
            peer.links.drain()
        else:
            peer.links.undrain()

    async def _carry_out(self, ask: Ask) -> list[Result]:
        """On every link of this node at once."""
        peer, network = self._peers[ask.bank], Network(ask.what)
        log.warning("bank %s: %s is sent, as %s wants", peer.name, network.value, ask.asked_by)
        opened = [each for each in peer.links.connections if each.is_open]
        within_s = float(peer.bank.profile.timing.bank_timeout_s)
        said = await asyncio.gather(*(each.ask(network, within_s) for each in opened))
        pairs = [(each.name, result) for each, result in zip(opened, said, strict=True)] or [("", "NO_LINK")]
        return [Result(ask.id, self._node, name, result, self._world.now()) for name, result in pairs]
