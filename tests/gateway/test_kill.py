"""kill -9 of the gateway, and of its database, in the middle of purchases: nothing lost, nothing doubled.

A real `prepaid serve` process and real sockets. The message centre is the test's: it sends again what was not
acknowledged, with its own message id in an optional parameter, and some messages twice anyway. What a customer can
see is judged from the texts alone; then the books are opened.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from channels.smpp.message_centre import Account, CentreSettings, Fault, MessageCentre, ReceivedReply
from gateway.demo import tokens_in
from gateway.purchase import State
from ledger import tables
from ledger.accounts import id_of
from ledger.store import Store, open_store
from ledger.trial_balance import broken_invariants
from sts.meter import Result
from tests.bench.service import PASSWORD, REFERENCE_TLV, SYSTEM_ID, Service, free_port, set_up, write_settings
from tests.postgres import NONE_FOUND, Cluster, find_binaries, postgres
from tests.simulation import utility
from tests.simulation.utility import WALLET_MINOR, Customer

CUSTOMERS: Final = 200
PURCHASES: Final = 1000
KILLS: Final = 3
WINDOW: Final = 50  # so many texts wait for their answer at one time
POOR: Final = 10  # so many customers cannot pay for everything they ask for
POOR_WALLET_MINOR: Final = 60_000
# Replies under way at one time: so many may go out a second time after a kill, and no more.
IN_FLIGHT_MAX: Final = 20
PATIENCE_S: Final = 120.0  # for what takes a second; a busy machine is no reason to fail


@dataclass(frozen=True, slots=True)
class Wish:
    """One text from a phone: pay this for this meter. No two have the same amount."""

    sender: Customer
    drn: str
    amount_minor: int

    @property
    def amount(self) -> str:
        return f"{self.amount_minor // 100}.{self.amount_minor % 100:02d}"

    def is_sold_by(self, text: str) -> bool:
        """Whether the text is the receipt."""
        return f"meter {self.drn}\nKES {self.amount}: " in text or f"Meter {self.drn}: KES {self.amount} rece" in text

    def is_answered_by(self, text: str) -> bool:
        """Whether a customer who reads the text would take it for the answer, whatever the answer is."""
        short = f"not enough for KES {self.amount}." in text
        return self.is_sold_by(text) or short or f"do not know meter {self.drn}." in text


def wishes(everyone: list[Customer], count: int, chance: random.Random) -> list[Wish]:
    """Purchases from any phone for any meter, a few for meters that nobody has."""

    def drn(amount: int) -> str:
        return utility.unknown_drn(amount) if chance.random() < 0.03 else chance.choice(everyone).drn

    # With cents, because whole amounts are told without.
    amounts = chance.sample([amount for amount in range(10_000, 99_900) if amount % 100], count)
    return [Wish(chance.choice(everyone), drn(amount), amount) for amount in amounts]


@dataclass(slots=True)
class Copy:
    """One arrival of a text at a phone; `start` counts the gateway's starts before it."""

    text: str
    start: int


@dataclass
class Street:
    """The phones of the customers, at most `WINDOW` of whose texts wait for an answer: what they asked and got."""

    centre: MessageCentre
    service: Service
    everyone: list[Customer]
    to_send: Iterator[Wish]
    sent: list[Wish] = field(default_factory=list)
    received: dict[str, list[Copy]] = field(default_factory=lambda: defaultdict(list))
    starts: int = 0
    answered: int = 0  # different texts that came, over all phones
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        self.centre.on_reply = self._take
        for _ in range(WINDOW):
            self._send_next()

    def _take(self, reply: ReceivedReply) -> None:
        copies = self.received[reply.destination]
        if all(copy.text != reply.text for copy in copies):
            self.answered += 1
            self._send_next()
        copies.append(Copy(reply.text, self.starts))
        self._changed.set()

    def _send_next(self) -> None:
        wish = next(self.to_send, None)
        if wish is not None:
            self.sent.append(wish)
            self.centre.deliver(wish.sender.msisdn, utility.SHORT_CODE, f"{wish.drn} {wish.amount}")

    async def until_answered(self, count: int) -> None:
        """Wait until so many different texts have come."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self.answered < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"{self.answered} of {count} answers in {PATIENCE_S:.0f} s; {self.service.last_words()}")


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something outside is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {PATIENCE_S:.0f} s: {what}"
        await asyncio.sleep(0.005)


@dataclass
class Scene:
    """A utility in a database, the phones of its customers, and a gateway that is not started yet."""

    url: str
    street: Street
    service: Service
    purchases: int
    wallets_minor: dict[int, int]  # openings that differ, by customer number

    async def start(self) -> None:
        """Start the gateway and wait until it is bound."""
        self.spawn()
        await until(lambda: bool(self.street.centre.bound) or not self.service.is_running(), "bound")
        assert self.service.is_running(), self.service.last_words()

    def spawn(self) -> None:
        """Start the gateway."""
        self.street.starts += 1
        self.service.start()

    async def kill(self) -> None:
        """kill -9; what it had written into its sockets before still arrives."""
        self.service.kill()
        await until(lambda: not self.street.centre.bound, "the sockets of the killed process are read to their end")

    async def finish(self) -> None:
        """Wait until everything is acknowledged, answered and marked; then stop the gateway in good order."""
        await self.street.until_answered(self.purchases)
        async with asyncio.timeout(PATIENCE_S):
            await self.street.centre.drained()
        # Opened only now: a second process at the file would have saved a restarted gateway its recovery.
        store = await open_store(self.url)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while await store.read(_is_unfinished):
                assert self.service.is_running(), self.service.last_words()
                assert time.monotonic() < deadline, "replies are still owed"
                await asyncio.sleep(0.05)
        finally:
            await store.close()
        assert await self.service.stop() == 0, self.service.last_words()


def _is_unfinished(connection: sa.Connection) -> bool:
    owed = sa.select(tables.outbox.c.id).where(tables.outbox.c.state == "OWED").limit(1)
    ends = (State.DELIVERED, State.REFUSED)
    waiting = sa.select(tables.purchase.c.id).where(tables.purchase.c.state.not_in(ends)).limit(1)
    return connection.execute(owed).first() is not None or connection.execute(waiting).first() is not None


@asynccontextmanager
async def scene(
    url: str, folder: Path, chance: random.Random, purchases: int = PURCHASES, lease_s: float = 90.0
) -> AsyncIterator[Scene]:
    """Everything set up; all of it gone afterwards."""
    wallets_minor = dict.fromkeys(range(POOR), POOR_WALLET_MINOR)
    everyone = await set_up(url, folder / "utility", CUSTOMERS, wallets_minor)
    centre = MessageCentre(
        CentreSettings(
            accounts=(Account(SYSTEM_ID, PASSWORD),),
            redeliver_after_s=1.0,
            id_tlv=REFERENCE_TLV,
            slow_s=0.05,
            fault_rates={Fault.DUPLICATE: 0.05, Fault.LOSE_ANSWER: 0.03, Fault.SLOW_SUBMIT: 0.03},
        ),
        random=chance.random,
    )
    await centre.start()
    try:
        config, http_port = folder / "prepaid.toml", free_port()
        delivery = {"in_flight_max": IN_FLIGHT_MAX, "poll_every_s": 0.2, "lease_s": lease_s}
        # A lease must outlive the wait for a response. The link's window is so small that a kill finds replies which
        # wait for it: had one of those been marked already, it would be lost.
        sections = {"delivery": delivery, "smpp": {"response_timeout_s": lease_s * 0.8, "window": IN_FLIGHT_MAX // 4}}
        write_settings(config, url, centre.port, http_port, sections)
        with Service(config, http_port) as service:
            street = Street(centre, service, everyone, iter(wishes(everyone, purchases, chance)))
            yield Scene(url, street, service, purchases, wallets_minor)
    finally:
        await centre.stop()


@pytest.mark.parametrize("seed", [20_777])
async def test_killing_the_gateway_in_the_middle_of_a_thousand_purchases_loses_and_doubles_nothing(
    database_url: str, tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(seed)
    kills = 0
    async with scene(database_url, tmp_path, chance) as at:
        at.street.begin()
        await at.start()
        for part in range(KILLS):
            each = PURCHASES // (KILLS + 1)
            await at.street.until_answered(each * (part + 1) + chance.randrange(-60, 60))
            await asyncio.sleep(chance.uniform(0, 0.03))
            await at.kill()
            kills += 1
            if part == 1:  # and once more while it is starting, or has just started
                at.spawn()
                await asyncio.sleep(chance.uniform(0.2, 1.2))
                await at.kill()
                kills += 1
            await at.start()
        await at.finish()
        again = _judge_texts(at, at_most=kills * IN_FLIGHT_MAX)
        await _judge_books(at)
        counts = at.street.centre.counts
    with capsys.disabled():
        print(
            f"\n{kills} kills: {counts.deliveries} deliveries of {PURCHASES} messages,"
            f" {again} texts came twice (at most {kills * IN_FLIGHT_MAX})"
        )


async def test_killing_the_database_server_stops_no_gateway(
    own_cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(5)
    crashes = 2
    # A reply that was sent and could not be marked is sent again when its lease has run out.
    async with scene(own_cluster.fresh_database(), tmp_path, chance, purchases=500, lease_s=5.0) as at:
        at.street.begin()
        await at.start()
        pid = at.service.pid
        for crash in range(crashes):
            await at.street.until_answered(170 * (crash + 1) + chance.randrange(-60, 60))
            await asyncio.to_thread(own_cluster.crash)
            await asyncio.sleep(chance.uniform(0, 0.3))
            await asyncio.to_thread(own_cluster.start)
        await at.street.until_answered(at.purchases)
        assert at.service.is_running() and at.service.pid == pid
        await at.finish()
        # Without the database nothing new is stored: what may come twice was sent before and not marked, or stored
        # before and sent meanwhile.
        at_most = crashes * (IN_FLIGHT_MAX + WINDOW)
        again = _judge_texts(at, at_most=at_most, within_a_start=True)
        await _judge_books(at)
    with capsys.disabled():
        print(f"\n{crashes} crashes of the database: {again} texts came twice (at most {at_most})")


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of the test's own, because nobody else can work on one that crashes."""
    if find_binaries() is None:
        pytest.skip(NONE_FOUND)
    with postgres() as cluster:
        yield cluster


def _judge_texts(at: Scene, *, at_most: int, within_a_start: bool = False) -> int:
    """One text a message, word for word the same if it came again; and how many came again, which are `at_most`."""
    street, again = at.street, Counter[int]()
    for wish in street.sent:
        texts = {copy.text for copy in street.received[wish.sender.msisdn] if wish.is_answered_by(copy.text)}
        assert len(texts) == 1, f"{wish}: {texts}"
    different = 0
    for copies in street.received.values():
        starts: dict[str, list[int]] = defaultdict(list)
        for copy in copies:
            starts[copy.text].append(copy.start)
        different += len(starts)
        for text, when in starts.items():
            # The same gateway says nothing twice: a second copy has a kill between it and the first.
            assert within_a_start or len(set(when)) == len(when), f"twice without a kill: {text}"
            again.update(when[:-1])
    assert different == len(street.sent) == at.purchases  # so no text answers nothing
    assert within_a_start or all(count <= IN_FLIGHT_MAX for count in again.values()), again
    assert again.total() <= at_most
    return again.total()


async def _judge_books(at: Scene) -> None:
    store = await open_store(at.url)
    try:
        assert await store.read(broken_invariants) == []
        await _judge_rows(at, store)
        await _judge_wallets(at, store)
        await _judge_meters(at, store)
    finally:
        await store.close()


async def _judge_rows(at: Scene, store: Store) -> None:
    """A request for each message, with one sale and one reply, or a stored refusal."""
    t = tables
    columns: list[Any] = [
        t.request.c.sender,
        t.purchase.c.amount_minor,
        t.purchase.c.state,
        t.purchase.c.units_tenths,
        _count(t.txn.c.id, t.txn.c.purchase_id == t.request.c.id),
        _count(t.token.c.seq, t.token.c.purchase_id == t.request.c.id),
        _count(t.outbox.c.id, t.outbox.c.request_id == t.request.c.id),
    ]
    joined = t.request.outerjoin(t.purchase, t.purchase.c.id == t.request.c.id)
    rows = await store.read(lambda connection: connection.execute(sa.select(*columns).select_from(joined)).all())
    assert len(rows) == at.purchases
    found = Counter[Any]()
    for sender, amount_minor, state, units, sales, tokens, replies in rows:
        found[state] += 1
        is_sold = state == State.DELIVERED
        assert (sales, tokens, replies) == (int(is_sold), int(is_sold and units > 0), 1), (sender, amount_minor, state)
    # No state: a meter that nobody has. All three must be there, or the test has lost its point.
    assert set(found) == {State.DELIVERED, State.REFUSED, None}, found


def _count(column: sa.ColumnElement[Any], where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count(column)).where(where).scalar_subquery()


async def _judge_wallets(at: Scene, store: Store) -> None:
    """Every wallet holds its opening less what the receipts on its owner's phone say."""
    b = tables.limited_balance.c
    rows = await store.read(lambda c: c.execute(sa.select(b.account_id, b.posted_minor, b.pending_minor)).all())
    balances = {row[0]: (row[1], row[2]) for row in rows}
    for customer in at.street.everyone:
        texts = {copy.text for copy in at.street.received[customer.msisdn]}
        spent = sum(
            wish.amount_minor
            for wish in at.street.sent
            if wish.sender is customer and any(wish.is_sold_by(text) for text in texts)
        )
        opening = at.wallets_minor.get(customer.number, WALLET_MINOR)
        assert balances[id_of(customer.wallet)] == (opening - spent, 0), customer


async def _judge_meters(at: Scene, store: Store) -> None:
    """Every token in the texts is taken by its meter exactly once, and no other token exists."""
    by_drn = {customer.drn: customer for customer in at.street.everyone}
    typed: set[str] = set()
    now = datetime.now(UTC)
    meters = {drn: utility.simulated_meter(customer) for drn, customer in by_drn.items()}
    for copies in at.street.received.values():
        for text in {copy.text for copy in copies}:
            tokens = tokens_in(text)
            if not tokens:
                continue
            (token,) = tokens
            (drn,) = re.findall(r"meter (\d{11})\n", text)
            assert token not in typed
            typed.add(token)
            assert meters[drn].enter(token, now).result is Result.ACCEPT, text
            assert meters[drn].enter(token, now).result is Result.USED, text
    stored = await store.read(lambda connection: connection.execute(sa.select(tables.token.c.digits)).scalars().all())
    assert set(stored) == typed and len(stored) == len(typed)
