"""Links shared by nodes: real sessions to a message centre that counts its binds, leases in both databases.

One process plays two nodes with clocks of their own; two processes of `prepaid serve` show the same from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from channels.smpp.link import Link
from channels.smpp.message_centre import Account, CentreSettings, MessageCentre
from config.settings import LinksSettings
from gateway.links import LinkKeeper, link_grace_s
from gateway.world import RealWorld
from ledger import links
from ledger.audit import Origin
from ledger.links import Wish
from ledger.store import Store, migrate, open_store
from tests.bench.service import PASSWORD, SYSTEM_ID, Service, free_port, set_up, write_settings
from tests.channels.smpp.rig import link_settings, message_centre, until

SETTINGS = LinksSettings(lease_s=1.0, clock_skew_s=0.1)


class Node:
    """A node of one link, with its keeper; to be ended in good order or cut off from the database."""

    def __init__(self, name: str, store: Store, port: int) -> None:
        grace_s = link_grace_s(SETTINGS)
        self.link = Link(link_settings(port, name="a", stop_grace_s=grace_s), random=lambda: 0.5, leased=True)
        self.keeper = LinkKeeper(store, [self.link], {"a": 1}, SETTINGS, name, RealWorld())
        self.tasks = [
            asyncio.create_task(self.link.run(lambda incoming: incoming.answer(0))),
            asyncio.create_task(self.keeper.run()),
        ]

    async def cut_off(self) -> None:
        """Its keeper is gone: as if the database were out of reach, for ever."""
        self.tasks[1].cancel()
        with suppress(asyncio.CancelledError):
            await self.tasks[1]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.keeper.close()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    await migrate(url)
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


async def test_two_nodes_never_are_bound_by_one_bind_whatever_becomes_of_them(database_url: str) -> None:
    async with opened(database_url) as store, message_centre() as centre:
        one = Node("one", store, centre.port)
        await until(one.link.is_up)
        two = Node("two", store, centre.port)
        await asyncio.sleep(0.3)
        assert not two.link.is_up() and two.keeper.stands_by and not one.keeper.stands_by
        await one.stop()  # in good order: it gives its lease back
        await until(two.link.is_up)
        three = Node("three", store, centre.port)
        await two.cut_off()  # it stands down by itself, before anybody may take its place
        await until(three.link.is_up)
        assert not two.link.is_bound()
        await two.stop()
        await asyncio.sleep(0.2)
        assert three.link.is_up(), "who has lost a lease cannot give it back"
        await three.stop()
        assert (centre.counts.most_bound, centre.counts.binds) == (1, 3)


async def test_wishes_of_operators_are_obeyed_within_a_look(database_url: str) -> None:
    async with opened(database_url) as store, message_centre() as centre:

        async def wish(what: Wish) -> None:
            origin = Origin("ida", RealWorld().now(), "terminal")
            await store.transact(lambda connection: links.set_wish(connection, "a", what, origin))

        node = Node("one", store, centre.port)
        await until(node.link.is_up)
        await wish(Wish.PAUSED)
        await until(lambda: not node.link.is_up())
        assert node.link.is_bound()
        await wish(Wish.DRAINED)
        await until(lambda: node.link.is_away)
        await until(lambda: node.keeper.stands_by)
        other = Node("two", store, centre.port)
        await asyncio.sleep(0.3)
        assert not other.link.is_bound() and centre.bound == [], "nobody else takes a link that is drained"
        await wish(Wish.RUN)
        await until(lambda: node.link.is_up() or other.link.is_up())
        await node.stop()
        await other.stop()
        assert centre.counts.most_bound == 1


async def test_two_processes_share_a_link_and_one_takes_over_from_the_other(database_url: str, tmp_path: Path) -> None:
    await set_up(database_url, tmp_path / "utility", 2)
    centre = MessageCentre(CentreSettings(accounts=(Account(SYSTEM_ID, PASSWORD, binds_max=1),)))
    await centre.start()
    try:
        services = []
        for number in (1, 2):
            config, port = tmp_path / f"{number}.toml", free_port()
            sections: dict[str, Any] = {
                "gateway": {"node": f"node-{number}"}, "links": {"lease_s": 2.0, "clock_skew_s": 0.1}
            }  # fmt: skip
            write_settings(config, database_url, centre.port, port, sections)
            services.append(Service(config, port))
        with services[0] as one, services[1] as two:
            one.start()
            await until(lambda: centre.bound)
            two.start()
            async with asyncio.timeout(60):
                while True:
                    try:
                        if (await two.metrics())['prepaid_link_bound{link="smsc"}'] == 0:
                            break
                    except (OSError, KeyError):  # it is starting
                        await asyncio.sleep(0.1)
            assert centre.counts.binds == 1
            one.kill()
            await until(lambda: centre.counts.binds == 2)
            one.start()
            await asyncio.sleep(0.5)
            assert await two.stop() == 0, two.last_words()
            await until(lambda: centre.counts.binds == 3)
            assert await one.stop() == 0, one.last_words()
        assert centre.counts.binds_refused == 0 and centre.counts.most_bound == 1
    finally:
        await centre.stop()
