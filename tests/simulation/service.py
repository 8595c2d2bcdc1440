"""A random hour in the life of the service: what a seed decides, the processes, and the hour itself.

The desk, the delivery, the purchase table, the pricing, the token making and the store's own statements are the real
ones. Simulated are time, the message centre and the phones, a security module that must be waited for, crashes
(nothing closes, the database stays), second nodes on the same database, clocks set wrong, and a database that loses
commits or their answers.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import random
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from channels import wording
from channels.commands import Command, Vocabulary, parse
from channels.contract import Channel, Reply
from config import languages
from config.settings import (
    DeliverySettings,
    GatewaySettings,
    PurchaseSettings,
    Settings,
    StsSettings,
)
from gateway import tokens
from gateway.delivery import Delivery
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import ENDS, State
from gateway.vend import Shop
from ledger import correction_tables, tables
from ledger.openings import Opening
from ledger.trial_balance import broken_invariants
from ledger.unit import Meter, PurchaseRow, TokenRow
from sts.modules.software import SoftwareModule
from tests.simulation.loop import START, Clock, Commit, Database, InlineStore, SimulatedWorld
from tests.simulation.message_centre import Faults, Line, MessageCentre, Text
from tests.simulation.module import UnsteadyModule
from tests.simulation.reversals import Peers, reversals_of
from tests.simulation.shop import UTILITY, open_counter, sample_keys

HOUR_S: Final = 3600.0
GROUND_MINOR: Final = 300_000  # brought in for every wallet, beside what the sample gives some of them

KEYS: Final = [*sample_keys(), *sample_keys(revision=3), *sample_keys(revision=1, base_date=1993)]
AGENT: Final = "254722000002"
STRANGER: Final = "254799999999"
OTHER_TEXTS: Final = (
    "bal",
    "last",
    "help",
    "stop",
    "start",
    "kiswahili",
    "buy soon please",
    "voucher 7719004322861150",
)

FAULTLESS: Final = Faults()


# --- what a seed decides ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a seed decides beforehand."""

    seed: int
    answers_at_once: bool
    nodes: int
    texts: int
    hot: bool  # few phones and meters, so that much meets
    crashes: int
    clock_steps: int
    cuts: int
    database_troubles: bool
    faults: Faults
    module_troubles: float
    module_refusals: float
    key_changes: bool
    key_limits: bool
    purchase: PurchaseSettings
    delivery: DeliverySettings
    sts: StsSettings
    batch_max: int
    queue_max: int
    reversals: int  # so many times somebody asks for a purchase to be taken back

    @property
    def is_faultless(self) -> bool:
        """Nothing goes wrong: then nobody hears anything twice, and nothing is logged as an error."""
        return not (
            self.crashes
            or self.clock_steps
            or self.cuts
            or self.database_troubles
            or self.module_troubles
            or self.module_refusals
            or self.faults != FAULTLESS
        )


def plan_of(seed: int) -> Plan:
    """The plan of a seed. About one in ten is faultless."""
    chance = random.Random(f"plan {seed}")
    calm = chance.random() < 0.1

    def often(share: float) -> bool:
        return chance.random() < share and not calm

    def rate(share: float, most: float) -> float:
        return chance.uniform(0.0, most) if often(share) else 0.0

    return Plan(
        seed=seed,
        answers_at_once=chance.random() < 0.4,
        nodes=2 if chance.random() < 0.4 else 1,
        texts=chance.randint(15, 60),
        hot=chance.random() < 0.6,
        crashes=chance.randint(1, 8) if often(0.6) else 0,
        clock_steps=chance.randint(1, 3) if often(0.25) else 0,
        cuts=chance.randint(1, 3) if often(0.4) else 0,
        database_troubles=often(0.4),
        faults=Faults(
            acknowledgement_lost=rate(0.6, 0.5),
            delivered_twice=rate(0.6, 0.5),
            reply_put_off=rate(0.5, 0.3),
            reply_unheard=rate(0.5, 0.2),
            reply_lost=rate(0.5, 0.2),
            reply_slow=rate(0.4, 0.2),
        ),
        module_troubles=rate(0.6, 0.6),
        module_refusals=rate(0.3, 0.2),
        key_changes=chance.random() < 0.5,
        key_limits=chance.random() < 0.3,
        purchase=PurchaseSettings(
            reservation_timeout_s=chance.choice((45.0, 120.0, 600.0)),
            give_up_s=chance.choice((5.0, 20.0, 60.0)),
            just_bought_window_s=chance.choice((0.0, 120.0)),
            resume_every_s=chance.choice((10.0, 40.0, 100.0)),
        ),
        delivery=DeliverySettings(
            lease_s=chance.choice((15.0, 60.0)),
            poll_every_s=chance.choice((10.0, 40.0, 100.0)),
            in_flight_max=chance.choice((1, 3, 200)) if not calm else 200,
            retry_max_s=chance.choice((60.0, 900.0)),
        ),
        sts=StsSettings(
            key_change="separate" if chance.random() < 0.1 else "with_sale",
            key_change_confirmed_by="next_sale" if chance.random() < 0.5 else "operator",
        ),
        batch_max=chance.choice((1, 3, 256)),
        queue_max=chance.choice((2, 6)) if often(0.2) else 1000,
        reversals=reversals_of(seed),
    )


# --- the database every run begins with -------------------------------------------------------------------------------


@cache
def template() -> sqlite3.Connection:
    """The sample utility, loaded by the real intake, with some money in every wallet."""

    async def load(url: str) -> None:
        async with open_counter(url) as counter:
            rows = await counter.store.read(
                lambda c: c.execute(sa.select(tables.customer.c.account_no)).scalars().all()
            )
            for account_no in rows:
                code = f"wallet:{account_no}"
                deed = Opening(f"ground:{code}", code, GROUND_MINOR, START.date(), START)
                assert await counter.store.submit(deed)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        asyncio.run(load(f"sqlite:///{path}"))
        file = sqlite3.connect(path)
        file.execute("PRAGMA journal_mode=DELETE")  # a database in memory cannot be opened with a write-ahead log
        memory = sqlite3.connect(":memory:", check_same_thread=False)
        file.backup(memory)
        file.close()
    return memory


@cache
def catalogue() -> tuple[languages.Catalogue, Vocabulary]:
    texts = languages.load(UTILITY.default_language)
    return texts, Vocabulary.of(texts.keywords(), texts.language_words())


def _read(words: str) -> Command:
    return parse(words, minor_digits=UTILITY.minor_digits, currency=UTILITY.currency, vocabulary=catalogue()[1])


def render(reply: Reply) -> str:
    return wording.render(reply.message, reply.language, catalogue()[0])


class Books:
    """The database's rows at one moment."""

    def __init__(self, database: Database) -> None:
        def rows(table: sa.Table) -> Any:
            return database.read(lambda c: c.execute(sa.select(table).order_by(*table.primary_key.columns)).all())

        self.meters = {row.drn: Meter(*row) for row in rows(tables.meter)}
        self.balances = {row.account_id: (row.posted_minor, row.pending_minor) for row in rows(tables.limited_balance)}
        self.by_reference: defaultdict[str, list[Any]] = defaultdict(list)
        for row in rows(tables.request):
            self.by_reference[row.idem_key.rpartition("|")[2]].append(row)
        self.purchases = {row.id: PurchaseRow(*row) for row in rows(tables.purchase)}
        self.tokens: defaultdict[UUID, list[TokenRow]] = defaultdict(list)
        for row in rows(tables.token):
            self.tokens[row.purchase_id].append(TokenRow(*row))
        self.outbox = {row.id: row for row in rows(tables.outbox)}
        self.replies_of: defaultdict[UUID, list[Any]] = defaultdict(list)
        for row in self.outbox.values():
            self.replies_of[row.request_id].append(row)
        self.resold = {row.sealed_id for row in rows(correction_tables.resale)}
        self.points = {row.id: row for row in rows(tables.service_point)}
        self.debts = {row.code: row for row in rows(tables.debt)}
        self.sales = Counter(row.purchase_id for row in rows(tables.txn) if row.kind == "sale")
        self.limits = rows(tables.vending_key)
        self.broken = database.read(broken_invariants)

    @property
    def vended(self) -> list[PurchaseRow]:
        return [row for row in self.purchases.values() if row.state in (State.VENDED, State.DELIVERED)]


# --- a run ------------------------------------------------------------------------------------------------------------

_HOME: Final[contextvars.ContextVar[list[asyncio.Task[Any]] | None]] = contextvars.ContextVar("home", default=None)


def task_factory(
    loop: asyncio.AbstractEventLoop, work: Any, context: contextvars.Context | None = None
) -> asyncio.Task[Any]:
    """Tasks know which process they belong to, so that a crash ends all of its tasks and no others."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    home = context.get(_HOME) if context is not None else _HOME.get()
    if home is not None:
        if len(home) > 300:
            home[:] = [known for known in home if not known.done()]
        home.append(task)
    return task


class Node:
    """One process of the gateway: started as `gateway/app.py` starts it, and killed at any moment."""

    def __init__(self, run: Run, name: str) -> None:
        self.name = name
        self.clock = Clock(asyncio.get_running_loop())
        self.clock.offset_s = run.chance.choice((0.0, 0.0, run.chance.uniform(-0.1, 0.1)))  # no two clocks agree
        self.is_up = False
        self._run = run
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self) -> None:
        run, plan = self._run, self._run.plan
        run.note("start", self.name)
        self.is_up = True
        self._tasks = []
        settings = Settings(
            gateway=GatewaySettings(node=self.name),
            utility=UTILITY,
            sts=plan.sts,
            purchase=plan.purchase,
            delivery=plan.delivery,
        )
        world = SimulatedWorld(self.clock, random.Random(run.chance.getrandbits(64)))
        self._store = InlineStore(
            run.database,
            batch_max=plan.batch_max,
            queue_max=plan.queue_max,
            delay_s=run.store_delay_s,
            commit=run.commit,
            written=lambda names: run.note("batch", self.name, *names),
        )
        self.line = Line(
            run.centre,
            self.name,
            spawn=self._spawn,
            read=_read,
            render=render,
            now=world.now,
            new_reference=lambda: str(world.new_id()),
        )
        channel: Channel = self.line
        metrics = Metrics()
        self._settings = settings
        self._delivery = Delivery(self._store, {channel.name: channel}, settings.delivery, self.name, world, metrics)
        self.desk = VendingDesk(Shop.of(settings, world, run.module), self._store, self._delivery, metrics)
        self._spawn(self._serve()).add_done_callback(self._ended)

    def crash(self) -> None:
        """As kill -9: the database stays, everything else is gone. Nobody closes anything."""
        self._run.note("crash", self.name)
        self.is_up = False
        self.line.die()
        self._store.die()
        for task in self._tasks:
            task.cancel()

    async def _serve(self) -> None:
        await self.desk.resume(at_start=True)
        self._spawn(self.line.run(self.desk))
        self._spawn(self._delivery.run()).add_done_callback(self._ended)
        while True:
            await asyncio.sleep(self._settings.purchase.resume_every_s)
            try:
                await self.desk.resume(at_start=False)
            except sqlite3.OperationalError:  # the database is away: the next round tries again
                self._run.note("resume failed", self.name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part of the process ended by itself: whoever supervises processes starts it again."""
        if self.is_up and not task.cancelled():
            error = task.exception()
            self._run.note("ended", self.name, repr(error))
            if not isinstance(error, sqlite3.OperationalError):
                self._run.complaints.append(f"a part of the process ended with {error!r}")
            self.crash()
            asyncio.get_running_loop().call_later(5.0, self.start)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        context = contextvars.copy_context()
        context.run(_HOME.set, self._tasks)
        return asyncio.get_running_loop().create_task(work, context=context)


class Run:
    """One simulated hour and what it took to finish what was begun in it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = random.Random(f"run {plan.seed}")
        self.history: list[tuple[Any, ...]] = []
        self.complaints: list[str] = []
        self.database = Database(template())
        self.signer = SoftwareModule(KEYS)
        self.module = UnsteadyModule(self.signer, self._draw_module, answers_at_once=plan.answers_at_once)
        dead = frozenset(
            phone for phone in _phones(self.database) if plan.faults != FAULTLESS and self.chance.random() < 0.05
        )
        self.centre = MessageCentre(random.Random(f"centre {plan.seed}"), plan.faults, dead, self.note)
        self.peers = Peers(plan)
        self.is_calm = False
        self._failing = 0  # so many more commits go wrong
        self._prepare()
        self.before = Books(self.database)

    def note(self, what: str, *details: object) -> None:
        """Remember an event."""
        self.history.append((round(asyncio.get_running_loop().time(), 6), what, *details))

    def digest(self) -> str:
        """A hash of everything that happened."""
        return hashlib.blake2b(repr(self.history).encode(), digest_size=16).hexdigest()

    # --- chance ---

    def store_delay_s(self) -> float:
        if not self.is_calm and self.plan.database_troubles and self.chance.random() < 0.03:
            return self.chance.uniform(0.5, 8.0)
        return self.chance.uniform(0.001, 0.02)

    def commit(self) -> Commit:
        if self.is_calm or not self.plan.database_troubles:
            return "well"
        if self._failing:
            self._failing -= 1
        elif self.chance.random() < 0.04:
            self._failing = self.chance.choice((0, 0, 2, 9, 25))  # six tries are made of each
        else:
            return "well"
        how: Commit = self.chance.choice(("fails", "fails", "unheard"))
        self.note("commit", how)
        return how

    def _draw_module(self) -> tuple[str, float]:
        if self.is_calm:
            return "well", 0.05
        plan, drawn = self.plan, self.chance.random()
        delay_s = self.chance.choice((0.0, 0.02, 0.02, 0.3, 4.0))
        if drawn < plan.module_refusals:
            return "refuse", delay_s
        if self.chance.random() < plan.module_troubles:
            return self.chance.choice(
                (("silent", 3.0), ("lost", 3.0), ("lost", delay_s), ("well", 15.0), ("well", 70.0), ("silent", 1e6))
            )
        return "well", delay_s

    # --- the hour ---

    def _prepare(self) -> None:
        limits = []
        if self.plan.key_limits:
            for revision in (2, 3):
                limit = self.chance.choice((None, 3, 12))
                units = self.chance.choice((None, 500, 3000))
                limits.append(_limit_row(revision, limit, units))
        if limits:
            self.database.write(lambda c: c.execute(tables.vending_key.insert(), limits))

    def _change_keys(self) -> None:
        """An operator wants other keys for some meters."""
        meter = tables.meter
        for row in self.before.meters.values():
            # A set for a tariff index above 9 rests on one source and is refused (`sts.modules.contract.Unsettled`).
            if self.chance.random() < 0.4 and int(row.tariff_index) <= 9:
                revision = 2 if row.base_date == 1993 else 3
                new = replace(tokens.key_of(row), key_revision=revision, base_date=2014)
                new = replace(new, dkga=2 if row.encryption_algorithm == 7 else 4)
                change = meter.update().where(meter.c.id == row.id).values(next_key=tokens.key_text(new))
                self.database.write(lambda c, change=change: c.execute(change))  # type: ignore[misc]
                self.note("key change", row.drn)

    def _write_texts(self) -> None:
        """What the customers will send: mostly in bursts, some at one instant, some impatiently again."""
        chance, plan = self.chance, self.plan
        phones = [*_phones(self.database), AGENT]
        drns = sorted(self.before.meters)
        if plan.hot:
            phones, drns = chance.sample(phones, 2) + [AGENT], chance.sample(drns, 3)
        at_s, number = 0.0, 0
        with_reference = chance.choice((1.0, 1.0, 0.5, 0.0))
        while number < plan.texts:
            at_s += chance.choice((0.0, 0.0, 0.3, 2.0, 30.0, 200.0))
            at_s = at_s if at_s < HOUR_S else chance.uniform(0, HOUR_S)
            sender = STRANGER if chance.random() < 0.02 else chance.choice(phones)
            words = self._words(drns)
            for again in range(chance.choice((1, 1, 1, 1, 2, 3))):
                number += 1
                reference = f"{number:08X}" if chance.random() < with_reference else None
                delay_s = again * chance.choice((0.0, 0.5, 20.0, 90.0, 200.0))
                self.centre.post(Text(number, sender, words, reference, at_s + delay_s))
                if reference is not None and chance.random() < 0.03:  # a message centre that counts from anew
                    number += 1
                    self.centre.post(Text(number, sender, self._words(drns), reference, at_s + delay_s + 60.0))

    def _words(self, drns: list[str]) -> str:
        chance = self.chance
        drawn = chance.random()
        if drawn < 0.15:
            return chance.choice(OTHER_TEXTS)
        drn = chance.choice(drns)
        if drawn < 0.2:
            return f"token {drn}"
        amount = chance.choice((50, 100, 100, 200, 500, chance.randint(1, 900), 4000))
        cents = f".{chance.randint(1, 99):02d}" if chance.random() < 0.3 else ""
        insisting = f" {chance.randint(2, 3)}" if chance.random() < 0.1 else ""
        named = "" if drawn < 0.25 else f"{drn} "
        return f"{named}{amount}{cents}{insisting}"

    async def go(self) -> None:
        """Live the hour, then calm down and wait until nothing is owed."""
        loop, plan, chance = asyncio.get_running_loop(), self.plan, self.chance
        self.nodes = [Node(self, f"node-{n + 1}") for n in range(plan.nodes)]
        for node in self.nodes:
            loop.call_later(chance.uniform(0.0, 0.05), node.start)
        self._write_texts()
        self.peers.begin(self)
        busy = sorted({text.at_s for text in self.centre.texts})
        for _ in range(plan.crashes):
            # Most crashes are where something happens.
            near_s = chance.choice(busy) + chance.choice((0.01, 0.05, 1.0, 40.0)) * chance.random()
            at_s = near_s if chance.random() < 0.8 else chance.uniform(1.0, HOUR_S)
            loop.call_later(at_s, self._crash, chance.choice(self.nodes))
        for _ in range(plan.cuts):
            node = chance.choice(self.nodes)
            loop.call_later(chance.uniform(0, HOUR_S), self.centre.cut, node.name, chance.uniform(1.0, 600.0))
        for _ in range(plan.clock_steps):
            whose = self.nodes if chance.random() < 0.5 else [chance.choice(self.nodes)]
            by_s = chance.choice((-3600.0, -600.0, -61.0, -1.0, 1.0, 61.0, 600.0, 3600.0)) * chance.uniform(0.9, 1.0)
            loop.call_later(chance.uniform(0, HOUR_S), self._step_clocks, whose, by_s)
        if plan.key_changes:
            loop.call_later(chance.choice((0.0, chance.uniform(0, HOUR_S))), self._change_keys)
        while loop.time() < HOUR_S:
            await asyncio.sleep(120.0)
            self._look_for_stale_holds()
        self.note("calm")
        self.is_calm = True
        self.centre.calm_down()
        await self._drain()

    def _look_for_stale_holds(self) -> None:
        """No reservation outlives its time-out by more than it takes to restart and to look. Troubles may add to it."""
        if self.plan.clock_steps or self.plan.database_troubles or self.plan.queue_max < 1000:
            return
        h = tables.hold.c
        now = self.nodes[0].clock.now()
        query = sa.select(h.expires_at).where(h.state == "PENDING", h.expires_at < now - timedelta(seconds=600))
        if stale := self.database.read(lambda c: c.execute(query).scalars().all()):
            self.complaints.append(f"a reservation that ended at {stale[0]:%H:%M:%S} still stands")

    async def _drain(self) -> None:
        settings = self.plan
        # A clock set back makes everything that was put off wait as much longer.
        patience_s = 1800.0 + settings.purchase.reservation_timeout_s + settings.delivery.retry_max_s * 2
        patience_s += 3700.0 * settings.clock_steps
        loop = asyncio.get_running_loop()
        until_s = loop.time() + patience_s
        while loop.time() < until_s:
            await asyncio.sleep(30.0)
            if not self.centre.undone and not _owed(self.database):
                return
        self.complaints.append(
            f"after {patience_s:.0f} quiet seconds something is still owed: {_owed(self.database)}, "
            f"{len(self.centre.undone)} texts not acknowledged"
        )

    def _crash(self, node: Node) -> None:
        if node.is_up and not self.is_calm:
            node.crash()
            down_s = self.chance.choice((0.01, 1.0, 20.0, 300.0)) * self.chance.random()
            asyncio.get_running_loop().call_later(down_s, node.start)

    def _step_clocks(self, nodes: list[Node], by_s: float) -> None:
        self.note("clock", round(by_s), *(node.name for node in nodes))
        for node in nodes:
            node.clock.offset_s += by_s


def _limit_row(revision: int, token_limit: int | None, units_limit_tenths: int | None) -> dict[str, Any]:
    return {
        "supply_group": "600801",
        "key_revision": revision,
        "key_type": 2,
        "key_generation": 2,
        "base_date": 2014,
        "kcv": "000000",
        "module": "waiting",
        "state": "ACTIVE",
        "key_expiry": 255,
        "token_limit": token_limit,
        "units_limit_tenths": units_limit_tenths,
        "tokens_made": 0,
        "units_made_tenths": 0,
        "loaded_by": "sec.tom",
        "loaded_at": START,
    }


def _phones(database: Database) -> list[str]:
    phone = tables.phone.c
    query = sa.select(phone.msisdn).where(phone.customer_id.is_not(None)).order_by(phone.msisdn)
    return list(database.read(lambda c: c.execute(query).scalars().all()))


def _owed(database: Database) -> dict[str, int]:
    """What has not come to its end, by kind; empty when nothing is owed."""
    p, o, h = tables.purchase.c, tables.outbox.c, tables.hold.c
    ends = [state.value for state in (*ENDS, State.VENDED)]
    queries = {
        "purchases": sa.select(sa.func.count()).where(p.state.not_in(ends)),
        "replies": sa.select(sa.func.count()).where(o.state == "OWED"),
        "holds": sa.select(sa.func.count()).where(h.state == "PENDING"),
    }
    counted = database.read(lambda c: {name: c.execute(query).scalar_one() for name, query in queries.items()})
    return {name: count for name, count in counted.items() if count}
