"""Versions of tariffs: entered by one, released by another, withdrawn before they begin; what sales make of them."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from gateway.purchase import State as Purchase
from ledger import audit, schema, tables, tariffs
from ledger.audit import Origin
from ledger.operators import Operator, OperatorFault, OperatorRefused, Role
from ledger.store import _sqlite_connection, is_sqlite, migrate, open_store, postgres_engine, sqlite_path
from ledger.tariffs import State, TariffChanged, TariffFault, TariffRefused, Version
from ledger.tariffs_format import TariffFaults
from tests.simulation.shop import SAMPLE, Counter, open_counter

T = TypeVar("T")

FLAT: dict[str, Any] = json.loads((SAMPLE / "tariffs.json").read_text())["tariffs"][0]
ZOE = Operator("fin.zoe", "Zoe", frozenset({Role.FINANCE}), "en", None)
BEN = Operator("op.ben", "Ben", frozenset({Role.SUPERVISOR}), "en", None)
RAJ = Operator("eng.raj", "Raj", frozenset({Role.ENGINEER, Role.AUDITOR}), "en", None)
START = "2026-06-20T00:00:00"  # now is 5 June, 11:15 local time


def flat(start: str = START, rate: str = "25.00", **changes: Any) -> dict[str, Any]:
    """The single-rate tariff with one version, of this start and rate."""
    version = copy.deepcopy(FLAT["versions"][0])
    version["effective_from"] = start
    version["seasons"][0]["blocks"][0]["rate"] = rate
    return {**FLAT, "versions": [version], **changes}


class Office:
    """The books, and people who change tariffs in them."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def origin(self, who: Operator) -> Origin:
        return Origin(who.login, self.counter.world.now(), "desk 4", "the board decided")

    async def write(self, function: Callable[[sa.Connection], T]) -> T:
        return await self.counter.store.transact(function)

    async def enter(self, document: dict[str, Any], by: Operator = ZOE) -> list[Version]:
        zone = self.counter.shop.zone
        return await self.write(
            lambda connection: tariffs.enter(
                connection, document, by=by, origin=self.origin(by), zone=zone, minor_digits=2
            )
        )

    async def find(self, start: str = START, code: str = "D1-FLAT") -> Version:
        return await self.write(lambda connection: tariffs.version_of(connection, code, start))

    async def release(self, version: Version, by: Operator = BEN) -> None:
        zone, origin = self.counter.shop.zone, self.origin(by)
        await self.write(
            lambda connection: tariffs.release(connection, version, by=by, origin=origin, zone=zone, currency="KES")
        )

    async def withdraw(self, version: Version, by: Operator = ZOE) -> None:
        zone, origin = self.counter.shop.zone, self.origin(by)
        await self.write(lambda connection: tariffs.withdraw(connection, version, by=by, origin=origin, zone=zone))

    async def sold_under(self, amount_minor: int) -> str:
        """Buy, and say under which version it was sold."""
        done = await self.counter.buy(amount_minor)
        assert done.state is Purchase.VENDED
        p = tables.purchase.c
        rows = await self.write(
            lambda connection: connection.execute(sa.select(p.tariff_version).order_by(p.id)).scalars().all()
        )
        return str(rows[-1])

    async def at(self, written: str) -> None:
        """Move to this local time."""
        now = self.counter.shop.local(self.counter.world.now()).replace(tzinfo=None)
        self.counter.world.advance(seconds=(datetime.fromisoformat(written) - now).total_seconds())


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with open_counter(database_url) as counter:
        yield Office(counter)
        await counter.check_books()


async def test_a_version_prices_sales_when_two_people_have_brought_it_in_and_its_time_has_come(office: Office) -> None:
    assert await office.sold_under(20_000) == "2026-01-01T00:00:00"
    (draft,) = await office.enter(flat())
    assert (draft.state, draft.entered_by, draft.entry) == (State.DRAFT, "fin.zoe", 1)
    await office.release(draft)
    await office.at("2026-06-19T23:59:59")
    assert await office.sold_under(20_001) == "2026-01-01T00:00:00"
    await office.at(START)
    assert await office.sold_under(20_002) == START
    await office.at("2026-07-01T00:00:00")
    assert await office.sold_under(20_003) == "2026-07-01T00:00:00"
    found = await office.find()
    assert (found.state, found.released_by) == (State.RELEASED, "op.ben")
    rows = [row for row in await office.write(lambda c: audit.latest(c, 9)) if row.deed.startswith("tariff.")]
    assert [(row.deed, row.who, row.subject, row.place, row.reason) for row in rows] == [
        ("tariff.entered", "fin.zoe", "tariff D1-FLAT", "desk 4", "the board decided"),
        ("tariff.released", "op.ben", "tariff D1-FLAT", "desk 4", "the board decided"),
    ]
    assert json.loads(rows[0].after)["rules"]["seasons"][0]["blocks"] == [{"rate": "25.00", "upto_kwh": None}]
    assert json.loads(rows[1].before)["entered_by"] == "fin.zoe"


async def test_a_draft_prices_nothing(office: Office) -> None:
    await office.enter(flat())
    await office.at("2026-06-20T00:00:01")
    assert await office.sold_under(20_000) == "2026-01-01T00:00:00"
    await office.at("2026-06-19T23:55:00")
    with pytest.raises(TariffRefused, match="at least 5 minutes before it starts") as caught:
        await office.release(await office.find())
    assert caught.value.fault is TariffFault.PAST


async def test_a_withdrawn_version_prices_nothing_and_running_gateways_notice(office: Office) -> None:
    (draft,) = await office.enter(flat())
    await office.release(draft)
    assert await office.sold_under(20_000) == "2026-01-01T00:00:00"
    await office.at("2026-06-19T23:54:59")
    await office.withdraw(await office.find())
    await office.at(START)
    assert await office.sold_under(20_001) == "2026-01-01T00:00:00"
    assert (await office.find()).withdrawn_by == "fin.zoe"


@pytest.mark.parametrize("when", ["2026-06-19T23:55:00", START, "2026-06-21T00:00:00"])
async def test_a_version_that_begins_or_has_begun_is_not_withdrawn(office: Office, when: str) -> None:
    (draft,) = await office.enter(flat())
    await office.release(draft)
    await office.at(when)
    with pytest.raises(TariffRefused, match="at least 5 minutes before it starts") as caught:
        await office.withdraw(await office.find())
    assert caught.value.fault is TariffFault.PAST


async def test_whoever_enters_does_not_release_and_others_do_neither(office: Office) -> None:
    with pytest.raises(OperatorRefused) as caught:
        await office.enter(flat(), RAJ)
    assert caught.value.fault is OperatorFault.ROLE_MISSING
    (draft,) = await office.enter(flat(), BEN)
    for who, fault in ((RAJ, OperatorFault.ROLE_MISSING), (BEN, OperatorFault.SAME_PERSON)):
        with pytest.raises(OperatorRefused) as caught:
            await office.release(draft, who)
        assert caught.value.fault is fault
    with pytest.raises(OperatorRefused):
        await office.withdraw(draft, RAJ)
    assert (await office.find()).state == State.DRAFT


async def test_a_draft_that_was_wrong_is_withdrawn_and_entered_again(office: Office) -> None:
    (wrong,) = await office.enter(flat(rate="2.500"))
    with pytest.raises(TariffRefused, match="is DRAFT and says something else: withdraw it first") as caught:
        await office.enter(flat())
    assert caught.value.fault is TariffFault.STANDS
    await office.withdraw(wrong)
    (right,) = await office.enter(flat())
    assert right.entry == 2
    for gone in (wrong, await office.write(lambda c: tariffs.versions(c, "D1-FLAT")[1])):
        with pytest.raises(TariffRefused) as caught:
            await office.release(gone)
        assert caught.value.fault is TariffFault.STATE
    await office.release(right)
    states = [
        (v.effective_from, v.entry, v.state) for v in await office.write(lambda c: tariffs.versions(c, "D1-FLAT"))
    ]
    assert states[1:3] == [(START, 1, "WITHDRAWN"), (START, 2, "RELEASED")]


async def test_two_who_release_at_once_release_once(office: Office) -> None:
    (draft,) = await office.enter(flat())
    results = await asyncio.gather(*(office.release(draft) for _ in range(3)), return_exceptions=True)
    assert [type(result).__name__ for result in results].count("NoneType") == 1
    assert all(isinstance(result, TariffRefused | None) for result in results)
    rows = await office.write(lambda connection: audit.latest(connection, 20))
    assert [row.deed for row in rows].count("tariff.released") == 1


# (document, fault, words)
REFUSED: list[tuple[dict[str, Any], TariffFault, str]] = [
    (flat("2026-06-05T11:15:00"), TariffFault.PAST, "it is 2026-06-05T11:15:00 in Africa/Nairobi already"),
    (flat("2026-03-01T00:00:00"), TariffFault.PAST, "so that no price changes that was sold under"),
    (flat("2026-07-01T00:00:00"), TariffFault.STANDS, "is RELEASED and says something else: versions are never edited"),
    (flat("2026-01-01T00:00:00"), TariffFault.STANDS, "versions are never edited"),
    (flat(units_rounding="DOWN_CARRY"), TariffFault.HEAD, "units_rounding cannot change with a version"),
    (FLAT, TariffFault.NOTHING, "every version of the file is there already"),
]


@pytest.mark.parametrize(("document", "fault", "words"), REFUSED)
async def test_what_would_change_a_price_is_refused(
    office: Office, document: dict[str, Any], fault: TariffFault, words: str
) -> None:
    with pytest.raises(TariffRefused) as caught:
        await office.enter(document)
    assert caught.value.fault is fault and words in str(caught.value)
    assert await office.counter.count(tables.tariff_version) == 5


async def test_a_version_in_whose_time_something_was_sold_is_not_released(office: Office) -> None:
    (draft,) = await office.enter(flat())
    await office.at("2026-06-20T00:00:30")
    await office.sold_under(20_000)
    await office.at("2026-06-19T23:50:00")  # a clock that was set back
    with pytest.raises(TariffRefused, match="was sold in its time already") as caught:
        await office.release(draft)
    assert caught.value.fault is TariffFault.SOLD


async def test_a_new_tariff_is_entered_and_released_with_its_accounts(office: Office) -> None:
    document = flat(code="D9-NEW")
    document["versions"][0]["per_kwh_charges"] = [{"code": "STREETLIGHT", "rate": "0.30", "vatable": False}]
    with pytest.raises(TariffFaults):
        await office.enter({**document, "sts_tariff_index": 9})
    (draft,) = await office.enter(document)
    assert await office.sold_under(20_000) == "2026-01-01T00:00:00"  # a tariff without a version harms nobody
    await office.withdraw(draft)
    (again,) = await office.enter({**document, "name": "Under another name"})  # nobody ever bought under it
    await office.release(again)
    codes = await office.write(lambda c: set(c.execute(sa.select(tables.account.c.code)).scalars()))
    assert {"energy:D9-NEW", "levy:STREETLIGHT"} <= codes
    made = await office.write(lambda c: tariffs.released(c, "D9-NEW"))
    assert made is not None and made.name == "Under another name"
    with pytest.raises(TariffRefused, match="there is no such tariff"):
        await office.find(code="D10")


async def test_what_a_version_says_is_kept_by_the_database_itself(office: Office) -> None:
    v = tables.tariff_version
    attacks: list[sa.Executable] = [
        v.update().values(rules="{}"),
        v.update().values(entered_by="nobody"),
        v.update().values(effective_from="2020-01-01T00:00:00"),
        v.delete(),
    ]
    for attack in attacks:
        with pytest.raises(sa.exc.DBAPIError, match="keeps what it says"):
            await office.write(lambda connection, attack=attack: connection.execute(attack))  # type: ignore[misc]


async def test_a_load_brings_versions_in_until_somebody_has_bought(office: Office) -> None:
    def load(document: dict[str, Any]) -> Callable[[sa.Connection], bool]:
        origin = Origin("terminal", office.counter.world.now(), "here")
        return lambda c: tariffs.save(c, document, minor_digits=2, currency="KES", origin=origin)

    assert await office.write(load(FLAT)) is False
    assert await office.write(load(flat("2026-02-01T00:00:00"))) is True
    assert [row.deed for row in await office.write(lambda c: audit.latest(c, 1))] == ["tariff.loaded"]
    assert await office.sold_under(20_000) == "2026-02-01T00:00:00"
    for document in (flat("2026-09-01T00:00:00"), flat(code="D9-NEW")):
        with pytest.raises(TariffChanged, match="sales have begun: two people bring it in, `prepaid tariff enter`"):
            await office.write(load(document))
    assert await office.write(load(FLAT)) is False
    (draft,) = await office.enter(flat())
    with pytest.raises(TariffChanged, match=f"version {START} of tariff D1-FLAT is there already, and it is DRAFT"):
        await office.write(load(flat()))
    await office.withdraw(draft)
    with pytest.raises(TariffChanged, match="and it is WITHDRAWN"):
        await office.write(load(flat()))


async def test_versions_of_an_older_database_are_released_ones(empty_database_url: str) -> None:
    def older(connection: sa.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(sa.text("INSERT INTO tariff (code, head) VALUES ('A', '{}')"))
        connection.execute(
            sa.text("INSERT INTO tariff_version (tariff_code, effective_from, rules) VALUES ('A', '2026-01-01', '{}')")
        )

    if is_sqlite(empty_database_url):
        engine = sa.create_engine("sqlite://", creator=lambda: _sqlite_connection(sqlite_path(empty_database_url)))
        sa.event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
        with engine.begin() as begun:
            older(begun)
        engine.dispose()
    else:
        async_engine = postgres_engine(empty_database_url, 30)
        async with async_engine.begin() as begun_async:
            await begun_async.run_sync(older)
        await async_engine.dispose()
    assert (await migrate(empty_database_url))[0] == "0001"
    store = await open_store(empty_database_url)
    (version,) = await store.read(tariffs.versions)
    assert (version.state, version.entry, version.entered_by, version.rules) == ("RELEASED", 1, "load", "{}")
    await store.close()
