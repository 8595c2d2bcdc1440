"""Leases of links: never more holders than binds, whatever the order of looks, clocks, deaths and restarts.

The walk runs the product's own SQL on every interleaving of a few steps of two nodes and one clock; the tables run on
both databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from ledger import audit, links
from ledger.all_tables import metadata
from ledger.audit import Origin
from ledger.links import Held, Wish
from ledger.sms_tables import link_lease
from ledger.store import Store, migrate, open_store

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LEASE, SKEW = timedelta(seconds=30), timedelta(seconds=2)


@contextmanager
def memory() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine, tables=[link_lease])
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def look(connection: sa.Connection, node: str, now: datetime, holder: str = "", **slots: int) -> dict[str, Held]:
    return links.keep(
        connection, node=node, holder=holder or f"{node}/1", slots=slots or {"a": 1}, now=now, lease=LEASE, skew=SKEW
    )


async def at(store: Store, node: str, now: datetime, holder: str = "", **slots: int) -> dict[str, Held]:
    return await store.transact(lambda connection: look(connection, node, now, holder, **slots))


@pytest.fixture
async def store(database_url: str) -> Any:
    await migrate(database_url)
    opened = await open_store(database_url)
    yield opened
    await opened.close()


async def test_a_link_has_as_many_holders_as_binds_and_the_others_wait(store: Store) -> None:
    assert list(await at(store, "one", NOW, a=2, b=1)) == ["a", "b"]
    assert list(await at(store, "two", NOW, a=2, b=1)) == ["a"]
    assert list(await at(store, "three", NOW, a=2, b=1)) == []
    slots = await store.read(lambda connection: links.slots(connection, NOW))
    assert [(slot.link, slot.slot, slot.node, slot.is_held) for slot in slots] == [
        ("a", 1, "one", True), ("a", 2, "two", True), ("b", 1, "one", True),
    ]  # fmt: skip


async def test_a_lease_is_renewed_and_free_only_after_its_end_and_the_skew(store: Store) -> None:
    first = await at(store, "one", NOW)
    assert await at(store, "one", NOW + timedelta(seconds=10)) == first, "renewed, by the same holder"
    end = NOW + timedelta(seconds=40)
    assert await at(store, "two", end + SKEW - timedelta(microseconds=1)) == {}
    taken = await at(store, "two", end + SKEW)
    assert taken["a"].fence == first["a"].fence + 1
    assert await at(store, "one", end + SKEW) == {}, "lost, and not taken back"


async def test_what_is_given_back_is_free_at_once_and_a_node_that_starts_again_takes_its_own(store: Store) -> None:
    await at(store, "one", NOW, "one/1", a=1)
    await store.transact(lambda connection: links.give_back(connection, holder="one/1", links=["a"], now=NOW))
    assert list(await at(store, "two", NOW, "two/1")) == ["a"]
    assert list(await at(store, "two", NOW, "two/2")) == ["a"], "its first start has gone"
    assert await at(store, "two", NOW, "two/1") == {"a": Held("a", 1, 4)}, (
        "the same name once more: one of them, at least"
    )
    await store.transact(lambda connection: links.give_back(connection, holder="two/2", links=["a"], now=NOW))
    assert await at(store, "one", NOW) == {}, "who has lost a lease cannot give it back"


async def test_fewer_binds_or_a_link_no_longer_wanted_give_slots_back(store: Store) -> None:
    await at(store, "one", NOW, a=2, b=1)
    await at(store, "two", NOW, a=2, b=1)
    assert await at(store, "two", NOW, a=1, b=1) == {}, "its slot is beyond the binds now"
    assert list(await at(store, "one", NOW, a=1)) == ["a"]
    assert list(await at(store, "two", NOW, b=1)) == ["b"]


async def test_wishes_are_kept_with_who_and_why_and_stand_in_the_audit_log(store: Store) -> None:
    origin = Origin("ida", NOW, "terminal", "maintenance tonight")
    before = await store.transact(lambda connection: links.set_wish(connection, "a", Wish.PAUSED, origin))
    assert before is Wish.RUN
    assert await store.transact(lambda connection: links.set_wish(connection, "a", Wish.DRAINED, origin)) is Wish.PAUSED
    (state,) = (await store.read(links.wishes)).values()
    assert (state.link, state.wish, state.set_by, state.reason) == ("a", Wish.DRAINED, "ida", "maintenance tonight")
    rows = await store.read(lambda connection: audit.latest(connection, 10, "link a"))
    assert [(row.deed, row.before, row.after) for row in rows] == [
        ("sms.paused", '{"state":"RUN"}', '{"state":"PAUSED"}'),
        ("sms.drained", '{"state":"PAUSED"}', '{"state":"DRAINED"}'),
    ]


# --- the walk ---------------------------------------------------------------------------------------------------------

STEP = timedelta(seconds=8)
STAND_DOWN = LEASE * 2 / 3
DRIFT = {"one": timedelta(0), "two": SKEW}  # the second node's clock is ahead by all that the settings allow


class Walk:
    """Two nodes, each by its own clock, one bind. A node is bound from a look that holds until it stands down."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.true_now = NOW
        self.bound_until: dict[str, datetime] = {}
        self.starts = {"one": 1, "two": 1}

    def look(self, node: str) -> None:
        held = look(self.connection, node, self.true_now + DRIFT[node], f"{node}/{self.starts[node]}")
        if held:
            self.bound_until[node] = self.true_now + STAND_DOWN
        else:
            self.bound_until.pop(node, None)
        self.judge()

    def wait(self, node: str) -> None:
        self.true_now += STEP
        self.judge()

    def die(self, node: str) -> None:
        self.bound_until.pop(node, None)
        self.starts[node] += 1

    def leave(self, node: str) -> None:
        if self.bound_until.pop(node, None) is not None:
            links.give_back(
                self.connection, holder=f"{node}/{self.starts[node]}", links=["a"], now=self.true_now + DRIFT[node]
            )

    def judge(self) -> None:
        bound = [node for node, until in self.bound_until.items() if until > self.true_now]
        assert len(bound) <= 1, f"{bound} are both bound"


def test_no_interleaving_of_looks_waits_deaths_and_farewells_binds_two_nodes() -> None:
    steps = [("look", "one"), ("look", "two"), ("wait", ""), ("die", "one"), ("leave", "two")]
    histories = 0

    def go_on(history: tuple[tuple[str, str], ...]) -> None:
        nonlocal histories
        histories += 1
        with memory() as connection:
            walk = Walk(connection)
            for what, node in history:
                getattr(walk, what)(node)
        if len(history) < 5:
            for step in steps:
                go_on((*history, step))

    # Longer ones that begin as things do: one node holds, time passes until near the end of its lease.
    go_on(())
    for waits in (2, 3, 4, 5):
        for first in ("one", "two"):
            head = (("look", first), *[("wait", "")] * waits)
            for a in steps:
                for b in steps:
                    for c in steps:
                        with memory() as connection:
                            walk = Walk(connection)
                            for what, node in (*head, a, b, c):
                                getattr(walk, what)(node)
                        histories += 1
    assert histories > 4_000


def test_the_walk_finds_a_lease_that_is_free_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.ledger.test_links.STAND_DOWN", LEASE * 2)
    with memory() as connection:
        walk = Walk(connection)
        walk.look("one")
        for _ in range(4):
            walk.wait("")
        with pytest.raises(AssertionError, match="both bound"):
            walk.look("two")
