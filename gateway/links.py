"""Which of several nodes is bound by which link: leases in the database, kept, lost and given back. Shell.

The rules are in `ledger/links.py`. A link is told until when it may be bound, by its own steady clock, and keeps that
itself: a node that cannot reach the database stands down in time, and so does one whose look comes too late.
Operators' wishes (pause, drain) are read in the same transaction, so that every node obeys within one look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import ledger.links as leases
from channels.africastalking.link import Account
from config.settings import LinksSettings
from gateway.world import World
from ledger.links import Held, LinkState, Wish
from ledger.store import Store

log = logging.getLogger(__name__)

# Of a lease: looks are this far apart, and the link stands down so long before the end. Its good-bye may take a sixth,
# and the closing of its socket another (`link_grace_s`).
_LOOKS_A_LEASE = 6
_STAND_DOWN = 1 / 3


def link_grace_s(settings: LinksSettings) -> float:
    """How long a link may take to say good-bye, so that it is gone before its lease is."""
    return min(5.0, settings.lease_s / 6)


class Leased(Protocol):
    """A link that is open only while it is permitted to."""

    @property
    def name(self) -> str:
        """Its name, unlike every other link's."""
        ...

    @property
    def is_away(self) -> bool:
        """Whether it has no connection, and will make none before it is permitted to."""
        ...

    def permit(self, until: float | None = None) -> None:
        """Be open, until this time of the loop's clock at the latest."""
        ...

    def forbid(self) -> None:
        """Be closed."""
        ...

    def let_send(self, may_send: bool) -> None:
        """Obey an operator's wish."""
        ...


class LinkKeeper:
    """Sees that this node is bound by the links it holds, and by no other."""

    def __init__(
        self,
        store: Store,
        links: Sequence[Leased],
        binds_max: Mapping[str, int],
        settings: LinksSettings,
        node: str,
        world: World,
        accounts: Sequence[Account] = (),
    ) -> None:
        self._store = store
        self._links = {link.name: link for link in links}
        self._accounts = {account.name: account for account in accounts}  # any number of nodes may send by these
        self._binds_max = binds_max
        self._lease = timedelta(seconds=settings.lease_s)
        self._skew = timedelta(seconds=settings.clock_skew_s)
        self._node = node
        self._world = world
        self._holder = str(world.new_id())  # another one after each start
        self._held: dict[str, Held] = {}
        self._has_looked = False

    @property
    def links(self) -> list[str]:
        """The names of the links that nodes share."""
        return list(self._links)

    @property
    def held(self) -> Mapping[str, Held]:
        """The links that this node holds, as of the last look."""
        return self._held

    @property
    def stands_by(self) -> bool:
        """Whether the last look found every link held by other nodes."""
        return self._has_looked and not self._held

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            try:
                await self.look()
            except Exception:  # the database is away: the links stand down when their leases end
                log.exception("leases of links could not be renewed")
            await asyncio.sleep(self._lease.total_seconds() / _LOOKS_A_LEASE)

    async def look(self) -> None:
        """Renew what is held, take what is free, obey what operators want."""
        # Both clocks are read before the question: however long the answer takes, the link's end is the earlier one.
        began, now = asyncio.get_running_loop().time(), self._world.now()
        away = {name for name, link in self._links.items() if link.is_away}

        def ask(connection: Any) -> tuple[dict[str, Wish], dict[str, Held]]:
            states = leases.wishes(connection)
            wishes = {name: _wish_of(states, name) for name in (*self._links, *self._accounts)}
            # One that is to be drained is held until it is away.
            wanted = {
                name: self._binds_max[name]
                for name in self._links
                if wishes[name] is not Wish.DRAINED or (name in self._held and name not in away)
            }
            held = leases.keep(
                connection,
                node=self._node,
                holder=self._holder,
                slots=wanted,
                now=now,
                lease=self._lease,
                skew=self._skew,
            )
            return wishes, held

        wishes, held = await self._store.transact(ask)
        for name in held.keys() - self._held.keys():
            log.info("link %s: held by this node", name)
        for name in self._held.keys() - held.keys():
            log.info("link %s: no longer held by this node", name)
        self._held = held
        self._has_looked = True
        until = began + self._lease.total_seconds() * (1 - _STAND_DOWN)
        for name, account in self._accounts.items():
            account.let_send(wishes[name] is Wish.RUN)
        for name, link in self._links.items():
            link.let_send(wishes[name] is Wish.RUN)
            if name in held and wishes[name] is not Wish.DRAINED:
                link.permit(until)
            else:
                link.forbid()

    async def close(self) -> None:
        """Give back what is held; the links have left. Others may then take them at once."""
        now, mine = self._world.now(), sorted(self._held)
        self._held = {}
        if mine:
            try:
                await self._store.transact(
                    lambda connection: leases.give_back(connection, holder=self._holder, links=mine, now=now)
                )
            except Exception:  # the database is away: they run out by themselves
                log.exception("leases of links could not be given back")


def _wish_of(states: Mapping[str, LinkState], name: str) -> Wish:
    """What is wanted of a link; of one of a bank's, "bank:kcb.1", what is wanted of them all, "bank:kcb"."""
    whole = name.rpartition(".")[0] if ":" in name else name
    return states[whole].wish if whole in states else Wish.RUN
