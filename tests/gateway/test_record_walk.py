"""Every interleaving of two purchases at a service point, whose module must be waited for, with one change of records.

The first purchase is stored, asked for, answered; the second waits behind it and goes the same way. A change of records
comes before, between or after any two of these steps, by a store of its own as from another process. Whatever the
order: money is taken exactly for tokens that were made, counters and debts follow, and no token is begun for a meter
that has gone. Then the same without an order, all at once, against the locks of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import sqlalchemy as sa

from gateway.commands.records import next_key
from gateway.deeds import Continue
from gateway.purchase import Event, State
from gateway.vend import Ask, Done
from ledger import debts, metermoves, service_points, tables
from ledger.changes import ChangeRefused, Fault
from ledger.debts import Agreement
from ledger.meterlife import Deed
from ledger.metermoves import TakenDown
from ledger.pricing import DebtMode
from ledger.store import Store, open_store
from sts.modules.contract import KeyChangeRequest
from sts.modules.software import SoftwareModule
from tests.simulation.module import WaitingModule
from tests.simulation.shop import Counter, open_counter, sample_keys
from tests.simulation.staff import ENGINEER, FINANCE, SUPERVISOR, Staff

AGENT: Final = "254722000002"  # sells for anybody from the float of ST002
FIRST_MINOR, SECOND_MINOR = 20_000, 30_000
DEBT_MINOR: Final = 8_000


@dataclass
class Site:
    """A service point of its own for one walk."""

    code: str
    drn: str
    spare: str
    debt: str


async def _site(staff: Staff, number: int) -> Site:
    code, debt = f"SP-W{number}", f"D-W{number}"
    await staff.do(service_points.add, code, account_no="A100001", area="Walk", tariff_code="D1-FLAT")
    drn, spare = await staff.new_meter(), await staff.new_meter()
    await staff.do(metermoves.install, drn, code, next_key, by=ENGINEER)
    terms = Agreement(1, DebtMode.PERCENT, percent="10")
    await staff.do(debts.add, debt, point=code, kind="OTHER", amount_minor=DEBT_MINOR, agreement=terms, by=FINANCE)
    return Site(code, drn, spare, debt)


Change = Callable[[Staff, Site], Awaitable[Any]]


async def _move_away(staff: Staff, site: Site) -> None:
    """The meter is repaired and hung up elsewhere, all between two steps of a purchase."""
    await staff.do(metermoves.remove, site.drn, TakenDown(), by=ENGINEER)
    for deed in (Deed.REPAIR, Deed.RESTOCK, Deed.ISSUE):
        await staff.do(metermoves.move, site.drn, deed, by=ENGINEER)
    elsewhere = f"{site.code}-E"
    await staff.do(service_points.add, elsewhere, account_no="A100002", area="Walk", tariff_code="D1-FLAT")
    await staff.do(metermoves.install, site.drn, elsewhere, next_key, by=ENGINEER)


# What may be done; whether it ends the buying of the meter at this place; whether it waits for a purchase under way.
CHANGES: Final[dict[str, tuple[Change, bool, bool]]] = {
    "replace": (
        lambda staff, site: staff.do(metermoves.replace, site.drn, site.spare, next_key, TakenDown(1, 2), by=ENGINEER),
        True,
        True,
    ),
    "remove": (lambda staff, site: staff.do(metermoves.remove, site.drn, TakenDown(), by=ENGINEER), True, True),
    "move away": (_move_away, True, True),
    "block": (lambda staff, site: staff.do(metermoves.block, site.drn), True, False),
    "fault": (lambda staff, site: staff.do(metermoves.report_fault, site.drn, by=ENGINEER), True, False),
    "tariff": (lambda staff, site: staff.do(service_points.set_tariff, site.code, "D2-IBT", next_key), False, True),
    "transfer": (
        lambda staff, site: staff.do(service_points.transfer, site.code, "A100003", debts_stay=True),
        False,
        True,
    ),
    "write off": (
        lambda staff, site: staff.do(debts.write_off, site.debt, by=FINANCE, beside=SUPERVISOR),
        False,
        True,
    ),
    "suspend": (lambda staff, site: staff.do(debts.suspend, site.debt, by=FINANCE), False, False),
}
ANSWERS: Final = (Event.TOKEN_MADE, Event.TOKEN_REFUSED, Event.GAVE_UP)
STEPS: Final = 5


class Walk:
    """One walk: two purchases step by step, and a change at one moment."""

    def __init__(self, counter: Counter, office: Staff, site: Site, answer: Event) -> None:
        self.counter = counter
        self.office = office
        self.site = site
        self.answer = answer
        self.done: list[Done] = []
        self.late: list[Ask] = []

    async def step(self, number: int) -> None:
        if number == 0:
            await self._buy(FIRST_MINOR)
        elif number == 1:
            await self._buy(SECOND_MINOR)
        elif number in (2, 4):
            if self.late:
                await self._answer(self.late.pop(0), self.answer if number == 2 else Event.TOKEN_MADE)
        else:
            for purchase in await self._waiting():
                await self._go_on(Continue(self.counter.shop, purchase))

    async def _buy(self, amount_minor: int) -> None:
        self._take(await self.counter.buy(amount_minor, drn=self.site.drn, sender=AGENT))

    async def _answer(self, ask: Ask, event: Event) -> None:
        digits: list[str] = []
        if event is Event.TOKEN_MADE:
            for request in (asked.request for asked in ask.requests):
                made = self.counter.shop.module
                assert isinstance(made, WaitingModule)
                if isinstance(request, KeyChangeRequest):
                    digits.extend(await made.make_set_later(request, now=ask.accepted_at))
                else:
                    digits.append(await made.make_later(request))
        makers = [self.counter.shop.module.name] * len(digits)
        await self._go_on(Continue(self.counter.shop, ask.purchase_id, event, digits, makers))

    async def _go_on(self, deed: Continue) -> None:
        self._take(await self.counter.store.submit(deed))

    def _take(self, done: Done) -> None:
        self.done.append(done)
        self.late.extend(done.ask)

    async def _waiting(self) -> list[Any]:
        p, m = tables.purchase.c, tables.meter.c
        return await self.office.read(
            lambda connection: list(
                connection.execute(
                    sa.select(p.id)
                    .join_from(tables.purchase, tables.meter, p.meter_id == m.id)
                    .where(m.drn == self.site.drn, p.state == "RECEIVED")
                ).scalars()
            )
        )

    async def change(self, name: str) -> bool:
        """Try the change; False if it was told that a purchase is under way, which must then be so."""
        work, _, waits = CHANGES[name]
        busy = (await self.office.point(self.site.code)).vending is not None
        try:
            await work(self.office, self.site)
        except ChangeRefused as refused:
            assert refused.fault is Fault.POINT_BUSY and busy and waits, (name, refused)
            return False
        assert not (busy and waits), f"{name} did not wait for the purchase under way"
        return True


async def _facts(counter: Counter, site: Site) -> dict[str, Any]:
    """What the books say of a site: purchases, tokens, counters, debt."""

    def read(connection: sa.Connection) -> dict[str, Any]:
        p, t, m, s, d = (
            one.c for one in (tables.purchase, tables.token, tables.meter, tables.service_point, tables.debt)
        )
        point = connection.execute(sa.select(tables.service_point).where(s.code == site.code)).one()
        of_meter = sa.select(m.id).where(m.drn == site.drn)
        bought = connection.execute(sa.select(tables.purchase).where(p.meter_id.in_(of_meter))).all()
        tokens = connection.execute(sa.select(tables.token).where(t.purchase_id.in_([row.id for row in bought]))).all()
        debt = connection.execute(sa.select(d.outstanding_minor).where(d.code == site.debt)).scalar_one()
        return {"point": point, "bought": bought, "tokens": tokens, "debt": debt}

    return await counter.store.read(read)


def _judge(facts: dict[str, Any], begun: set[Any] | None, float_spent_minor: int) -> None:
    """Money for tokens and tokens for money; `begun` are the tokens whose inputs were stored when the buying ended."""
    vended = {row.id: row for row in facts["bought"] if row.state in (State.VENDED, State.DELIVERED)}
    ended = {State.VENDED.value, State.DELIVERED.value, State.REFUSED.value, State.RETURNED.value}
    assert {row.state for row in facts["bought"]} <= ended
    assert float_spent_minor == sum(row.amount_minor for row in vended.values())
    made = [token for token in facts["tokens"] if token.digits is not None]
    assert {token.purchase_id for token in made} == set(vended)
    point = facts["point"]
    here = {row.id: row for row in facts["bought"] if row.service_point_id == point.id}
    assert point.month_units_tenths == sum(row.units_tenths for row in vended.values() if row.id in here)
    assert point.vending is None
    if begun is not None:  # what was moved away may buy there
        of_here = (token for token in facts["tokens"] if token.purchase_id in here)
        late = [token for token in of_here if (token.purchase_id, token.seq) not in begun]
        assert late == [], "a token was begun for a meter that nobody may buy for"


@pytest.mark.parametrize("name", CHANGES)
async def test_whatever_the_moment_of_a_change_money_and_tokens_agree(tmp_path: Path, name: str) -> None:
    await _walk_all_moments(f"sqlite:///{tmp_path}/t.db", name)


@pytest.mark.parametrize(
    "name", ["replace", "block", "write off"]
)  # one that ends the buying, one at once, one of money
async def test_the_same_holds_on_postgresql(postgres_url: str, name: str) -> None:
    await _walk_all_moments(postgres_url, name)


async def _walk_all_moments(database_url: str, name: str) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()))
    async with open_counter(database_url, module) as counter:
        office_store: Store = await open_store(counter.url)
        try:
            office, number, refused_at = Staff(counter, store=office_store), 0, set()
            for moment in range(STEPS + 1):
                for answer in ANSWERS if moment in (1, 2) else ANSWERS[:1]:
                    number += 1
                    site = await _site(office, number)
                    walk = Walk(counter, office, site, answer)
                    spent = await counter.available("float:ST002")
                    begun: set[Any] | None = None
                    is_done = False
                    for step in range(STEPS + 1):
                        if step == moment:
                            is_done = await walk.change(name)
                            if not is_done:
                                refused_at.add(moment)
                            elif CHANGES[name][1]:
                                tokens = (await _facts(counter, site))["tokens"]
                                begun = {(token.purchase_id, token.seq) for token in tokens}
                        if step < STEPS:
                            await walk.step(step)
                    if not is_done:
                        assert await walk.change(name), "it can be done when the purchases are over"
                    facts = await _facts(counter, site)
                    _judge(facts, begun, spent - await counter.available("float:ST002"))
                    assert len(facts["bought"]) == (0 if moment == 0 and name in ("replace", "remove") else 2)
                    counter.world.advance(seconds=601)  # the next walk's wishes are not these
            waits = CHANGES[name][2]
            assert refused_at == ({1, 2, 4} if waits else set())
            await office.check()
        finally:
            await office_store.close()


async def test_changes_and_purchases_all_at_once_lose_nothing(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        office_store, gateway = await open_store(counter.url), await open_store(counter.url)
        try:
            office = Staff(counter, store=office_store)
            sites = [await _site(office, number) for number in range(1, 7)]
            spent = await counter.available("float:ST002")
            other = Counter(counter.shop, gateway, counter.world, counter.url, 1_000)

            async def changes(site: Site, name: str) -> None:
                await asyncio.sleep(0)
                await CHANGES[name][0](office, site)

            names = ("replace", "remove", "block", "tariff", "write off", "transfer")
            work: list[Awaitable[Any]] = []
            for site, name in zip(sites, names, strict=True):
                for n in range(6):
                    work.append((counter if n % 2 else other).buy(2_000 + 100 * n, drn=site.drn, sender=AGENT))
                work.append(changes(site, name))
            # In an order that mixes sites, so that batches hold several and meet the locks of the changes.
            mixed = [work[i] for start in range(7) for i in range(start, len(work), 7)]
            await asyncio.gather(*mixed)
            for site, name in zip(sites, names, strict=True):
                facts = await _facts(counter, site)
                vended = [row for row in facts["bought"] if row.state == State.VENDED]
                assert facts["point"].month_units_tenths == sum(row.units_tenths for row in vended)
                assert len(vended) == 6 or name in ("replace", "remove", "block")
                if name == "write off":
                    assert facts["debt"] == 0
                if name in ("replace", "remove", "block"):
                    assert (await counter.buy(90_000, drn=site.drn, sender=AGENT)).state in (None, State.REFUSED)
            total = await office.read(
                lambda connection: connection.execute(
                    sa.select(sa.func.sum(tables.purchase.c.amount_minor)).where(tables.purchase.c.state == "VENDED")
                ).scalar_one()
            )
            assert spent - await counter.available("float:ST002") == int(total or 0)
            await office.check()
        finally:
            await office_store.close()
            await gateway.close()


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("block", "meter"),
        ("block", "service_point"),
        ("replace", "meter"),
        ("replace", "service_point"),
        ("write off", "service_point"),
        ("tariff", "service_point"),
        ("transfer", "service_point"),
        ("suspend", "service_point"),
    ],
)
async def test_a_change_waits_for_the_sale_that_holds_the_row(postgres_url: str, name: str, held: str) -> None:
    """A sale's transaction is played by a connection that holds what a batch holds, and takes a debt down meanwhile."""
    async with open_counter(postgres_url) as counter:
        staff = Staff(counter)
        site = await _site(staff, 1)
        sale = await asyncpg.connect(postgres_url)
        watcher = await asyncpg.connect(postgres_url)
        try:
            async with sale.transaction():
                key = ("drn", site.drn) if held == "meter" else ("code", site.code)
                await sale.execute(f"SELECT id FROM {held} WHERE {key[0]} = $1 FOR UPDATE", key[1])
                changing = asyncio.ensure_future(CHANGES[name][0](staff, site))
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
                async with asyncio.timeout(60):
                    while not await watcher.fetchval(waiting + "wait_event_type = 'Lock'"):
                        assert not changing.done(), "it did not wait"
                await sale.execute("UPDATE debt SET outstanding_minor = 5000 WHERE code = $1", site.debt)
            await changing
        finally:
            await sale.close()
            await watcher.close()
        if name == "write off":
            given_up = await staff.read(
                lambda connection: connection.execute(
                    sa.select(tables.posting.c.amount_minor)
                    .join_from(tables.posting, tables.txn, tables.txn.c.id == tables.posting.c.txn_id)
                    .where(tables.txn.c.kind == "write_off", tables.posting.c.amount_minor > 0)
                ).scalar_one()
            )
            assert given_up == 5_000, "what the sale left, not what stood there before it"
