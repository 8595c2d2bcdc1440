"""Vending keys in the books: the way of a key, the people it takes, limits, replays, and what ends soon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from ledger import audit, schema, tables, vendingkeys
from ledger.audit import Origin, Verified
from ledger.operators import Operator, OperatorFault, OperatorRefused, Role
from ledger.store import Store, is_sqlite, migrate, open_store, postgres_engine
from ledger.vendingkeys import (
    CustodyFault,
    CustodyRefused,
    Ending,
    EndKind,
    KeyFile,
    KeyId,
    KeyRow,
    NewKey,
    Outcome,
    State,
    Terms,
)

NOW = datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
CUSTODIAN = frozenset({Role.KEY_CUSTODIAN})
TOM, IDA, EVE = (Operator(f"sec.{name}", name, CUSTODIAN, "en", None) for name in ("tom", "ida", "eve"))
LEE = Operator("adm.lee", "Lee", frozenset({Role.ADMIN}), "en", None)

OLD, NEW, OTHER = (KeyId("600801", 1, 2, 2, 2014), KeyId("600801", 2, 2, 2, 2014), KeyId("600802", 1, 2, 4, 2014))
YEAR = timedelta(days=365)
TERMS = Terms(255, issued_until=NOW + YEAR, token_limit=100, units_limit_tenths=5_000)
MORE = replace(TERMS, issued_until=NOW + 2 * YEAR, token_limit=200)


def _key(key: KeyId = OLD, kcv: str = "a1b2c3", terms: Terms = TERMS) -> NewKey:
    return NewKey(key, kcv, terms)


def _file(number: int = 1, serial: int = 1, module: str = "software") -> KeyFile:
    return KeyFile(UUID(int=number), module, serial, f"{number:064x}", 1, NOW, NOW + timedelta(days=14))


def _origin(who: Operator, at: datetime = NOW) -> Origin:
    return Origin(who.login, at, "terminal tom@vault", "test")


class Vault:
    """The books, with each deed as one call in a transaction of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def load(self, *keys: NewKey, by: Operator = TOM, file: KeyFile | None = None, at: datetime = NOW) -> Any:
        return await self.store.transact(
            lambda connection: vendingkeys.register(
                connection, keys or [_key()], by=by, origin=_origin(by, at), file=file
            )
        )

    async def activate(self, key: KeyId = OLD, by: Operator = IDA, kcv: str = "a1b2c3", at: datetime = NOW) -> KeyRow:
        return await self.store.transact(
            lambda connection: vendingkeys.activate(connection, key, kcv=kcv, by=by, origin=_origin(by, at))
        )

    async def replace(
        self, key: KeyId = OLD, by_key: KeyId = NEW, first: Operator = TOM, second: Operator | None = IDA
    ) -> KeyRow:
        return await self.store.transact(
            lambda connection: vendingkeys.replace(
                connection, key, by_key, first=first, second=second, origin=_origin(first)
            )
        )

    async def destroy(self, key: KeyId = OLD, first: Operator = TOM, second: Operator | None = IDA) -> KeyRow:
        return await self.store.transact(
            lambda connection: vendingkeys.destroy(connection, key, first=first, second=second, origin=_origin(first))
        )

    async def suspend(self, key: KeyId = OLD, by: Operator = TOM) -> KeyRow:
        return await self.store.transact(
            lambda connection: vendingkeys.suspend(connection, key, by=by, origin=_origin(by))
        )

    async def limit(
        self, tokens: int | None, units: int | None, first: Operator = TOM, second: Operator | None = None
    ) -> KeyRow:
        return await self.store.transact(
            lambda connection: vendingkeys.set_limits(
                connection, OLD, tokens, units, first=first, second=second, origin=_origin(first)
            )
        )

    async def sell(self, tokens: int, units_tenths: int) -> None:
        t = tables.vending_key.c
        change = {"tokens_made": t.tokens_made + tokens, "units_made_tenths": t.units_made_tenths + units_tenths}
        await self.store.transact(
            lambda connection: connection.execute(
                sa.update(tables.vending_key).where(t.key_revision == 1).values(**change)
            )
        )

    async def row(self, key: KeyId = OLD) -> KeyRow:
        return await self.store.read(lambda connection: vendingkeys.find(connection, key))

    async def deeds(self) -> list[str]:
        return [row.deed for row in await self.store.read(lambda connection: audit.latest(connection, 100))]


@pytest_asyncio.fixture
async def vault(database_url: str) -> AsyncIterator[Vault]:
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        yield Vault(store)
    finally:
        assert isinstance(await store.read(audit.verify), Verified)
        await store.close()


@pytest_asyncio.fixture
async def lone(tmp_path: Path) -> AsyncIterator[Vault]:
    """A vault on the embedded database, for long tables of rules that no database has a say in."""
    url = f"sqlite:///{tmp_path}/lone.db"
    await migrate(url)
    store = await open_store(url)
    try:
        yield Vault(store)
    finally:
        await store.close()


async def _fault(deed: Any) -> CustodyFault | OperatorFault:
    try:
        await deed
    except (CustodyRefused, OperatorRefused) as refusal:
        return refusal.fault
    pytest.fail("not refused")


# --- the way of a key -------------------------------------------------------------------------------------------------


async def test_a_key_goes_from_loaded_to_destroyed_and_every_step_is_in_the_log(vault: Vault) -> None:
    assert await vault.load(file=_file()) == {OLD: Outcome.NEW}
    row = await vault.row()
    assert (row.state, row.loaded_by, row.activated_by, row.terms) == (State.LOADED, "sec.tom", None, TERMS)
    assert (row.file_id, row.tokens_made, row.units_made_tenths) == (UUID(int=1), 0, 0)
    row = await vault.activate()
    assert (row.state, row.activated_by, row.activated_at) == (State.ACTIVE, "sec.ida", NOW)
    await vault.load(_key(NEW))
    await vault.activate(NEW)
    row = await vault.replace()
    assert (row.state, row.replaced_by, row.replaced_at) == (State.REPLACED, str(NEW), NOW)
    row = await vault.destroy()
    assert (row.state, row.destroyed_at) == (State.DESTROYED, NOW)
    assert await vault.deeds() == [
        "keys.loaded",
        "keys.file_loaded",
        "keys.activated",
        "keys.loaded",
        "keys.activated",
        "keys.replaced",
        "keys.destroyed",
    ]
    (last,) = await vault.store.read(lambda connection: audit.latest(connection, 1))
    assert (last.who, last.subject, last.at, last.place) == ("sec.tom", f"key {OLD}", NOW, "terminal tom@vault")
    assert json.loads(last.before)["state"] == "REPLACED" and json.loads(last.after)["state"] == "DESTROYED"
    assert json.loads(last.after)["beside"] == "sec.ida"


STATES: dict[str, list[str]] = {
    "LOADED": ["load"],
    "ACTIVE": ["load", "activate"],
    "REPLACED": ["load", "activate", "replace"],
    "DESTROYED": ["load", "destroy"],
}

# fmt: off
STEPS: list[tuple[str, str, str]] = [
    # state      deed         what comes of it: the next state, or the refusal
    ("LOADED",    "activate", "ACTIVE"),
    ("LOADED",    "replace",  "state"),
    ("LOADED",    "destroy",  "DESTROYED"),
    ("LOADED",    "suspend",  "state"),
    ("LOADED",    "limit",    "LOADED"),
    ("LOADED",    "load",     "duplicate"),
    ("ACTIVE",    "activate", "state"),
    ("ACTIVE",    "replace",  "REPLACED"),
    ("ACTIVE",    "destroy",  "state"),
    ("ACTIVE",    "suspend",  "LOADED"),
    ("ACTIVE",    "limit",    "ACTIVE"),
    ("ACTIVE",    "load",     "duplicate"),
    ("REPLACED",  "activate", "state"),
    ("REPLACED",  "replace",  "state"),
    ("REPLACED",  "destroy",  "DESTROYED"),
    ("REPLACED",  "suspend",  "state"),
    ("REPLACED",  "limit",    "state"),
    ("REPLACED",  "load",     "replaced"),
    ("DESTROYED", "activate", "state"),
    ("DESTROYED", "replace",  "state"),
    ("DESTROYED", "destroy",  "destroyed"),
    ("DESTROYED", "suspend",  "state"),
    ("DESTROYED", "limit",    "state"),
    ("DESTROYED", "load",     "destroyed"),
]
# fmt: on


@pytest.mark.parametrize(("state", "deed", "expected"), STEPS, ids=[f"{step[0]}-{step[1]}" for step in STEPS])
async def test_each_deed_in_each_state(lone: Vault, state: str, deed: str, expected: str) -> None:
    await lone.load(_key(NEW))
    await lone.activate(NEW)
    deeds: dict[str, Callable[[], Any]] = {
        "load": lone.load,
        "activate": lone.activate,
        "replace": lone.replace,
        "destroy": lone.destroy,
        "suspend": lone.suspend,
        "limit": lambda: lone.limit(50, 50),
    }
    for step in STATES[state]:
        await deeds[step]()
    assert (await lone.row()).state == state
    if expected.isupper():
        await deeds[deed]()
        assert (await lone.row()).state == expected
    else:
        before, said = await lone.row(), await lone.deeds()
        assert await _fault(deeds[deed]()) == expected
        assert await lone.row() == before and await lone.deeds() == said


async def test_a_suspended_key_sells_again_only_when_another_person_says_so(vault: Vault) -> None:
    await vault.load()
    await vault.activate()
    await vault.suspend(by=IDA)
    assert await _fault(vault.activate(by=IDA)) is OperatorFault.SAME_PERSON
    assert (await vault.activate(by=TOM)).state is State.ACTIVE


# --- people -----------------------------------------------------------------------------------------------------------


async def test_whoever_loaded_a_key_does_not_activate_it(vault: Vault) -> None:
    await vault.load(by=TOM)
    assert await _fault(vault.activate(by=TOM)) is OperatorFault.SAME_PERSON
    assert await _fault(vault.activate(by=LEE)) is OperatorFault.ROLE_MISSING
    assert await _fault(vault.activate(by=replace(IDA, is_disabled=True))) is OperatorFault.DISABLED
    assert (await vault.row()).state is State.LOADED


@pytest.mark.parametrize("deed", ["replace", "destroy", "limit"])
@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (TOM, None, OperatorFault.SECOND),
        (TOM, TOM, OperatorFault.SAME_PERSON),
        (TOM, LEE, OperatorFault.ROLE_MISSING),
        (LEE, TOM, OperatorFault.ROLE_MISSING),
    ],
    ids=["alone", "twice the same", "with an administrator", "by an administrator"],
)
async def test_what_takes_two_people_is_refused_to_fewer(
    lone: Vault, deed: str, first: Operator, second: Operator | None, fault: OperatorFault
) -> None:
    await lone.load(_key(OLD), _key(NEW))
    await lone.activate(OLD)
    await lone.activate(NEW)
    if deed == "destroy":
        await lone.replace()
    deeds = {
        "replace": lambda: lone.replace(first=first, second=second),
        "destroy": lambda: lone.destroy(first=first, second=second),
        "limit": lambda: lone.limit(None, None, first=first, second=second),
    }
    before = await lone.row()
    assert await _fault(deeds[deed]()) is fault
    assert await lone.row() == before


async def test_a_key_is_loaded_by_a_custodian_or_while_there_are_no_operators_by_whoever_is_there(
    vault: Vault,
) -> None:
    def by_nobody(connection: sa.Connection) -> Any:
        origin = Origin("terminal", NOW, "terminal")
        return vendingkeys.register(connection, [_key()], by=None, origin=origin)

    assert await _fault(vault.load(by=LEE)) is OperatorFault.ROLE_MISSING
    row = dict(login="x", name="x", roles="ADMIN", language="en", password="", tries=0, disabled=False, created_at=NOW)
    await vault.store.transact(lambda connection: connection.execute(sa.insert(tables.operator), row))
    assert await _fault(vault.store.transact(by_nobody)) is OperatorFault.ROLE_MISSING
    await vault.store.transact(lambda connection: connection.execute(sa.delete(tables.operator)))
    await vault.store.transact(by_nobody)
    assert (await vault.row()).loaded_by == "terminal"


async def test_the_log_names_whoever_does_it(vault: Vault) -> None:
    with pytest.raises(AssertionError):
        await vault.store.transact(
            lambda connection: vendingkeys.register(connection, [_key()], by=TOM, origin=_origin(IDA))
        )


# --- files ------------------------------------------------------------------------------------------------------------


async def test_a_file_is_not_loaded_twice_nor_after_a_newer_one(vault: Vault) -> None:
    await vault.load(file=_file(1, serial=5))
    assert await _fault(vault.load(_key(NEW), file=_file(1, serial=5))) is CustodyFault.REPLAYED
    assert await _fault(vault.load(_key(NEW), file=_file(1, serial=6))) is CustodyFault.REPLAYED
    assert await _fault(vault.load(_key(NEW), file=_file(2, serial=5))) is CustodyFault.REPLAYED
    assert await _fault(vault.load(_key(NEW), file=_file(3, serial=4))) is CustodyFault.REPLAYED
    await vault.load(_key(NEW), file=_file(4, serial=9))
    assert len(await vault.store.read(vendingkeys.report)) == 2


async def test_two_loads_of_one_file_at_once_load_it_once(database_url: str) -> None:
    await migrate(database_url)
    vaults = [Vault(await open_store(database_url)) for _ in range(2)]
    answers = await asyncio.gather(
        *(vault.load(_key(), _key(NEW), by=TOM, file=_file()) for vault in vaults), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["CustodyRefused", "dict"]
    assert isinstance(await vaults[0].store.read(audit.verify), Verified)
    for vault in vaults:
        await vault.store.close()


async def test_one_fault_in_a_file_and_nothing_of_it_is_loaded(vault: Vault) -> None:
    await vault.load(_key(OLD, kcv="000000"))
    said = await vault.deeds()
    assert await _fault(vault.load(_key(NEW), _key(OLD), _key(OTHER), file=_file())) is CustodyFault.OTHER_KEY
    assert [row.id for row in await vault.store.read(vendingkeys.report)] == [OLD]
    assert await vault.deeds() == said
    await vault.load(_key(NEW), file=_file())  # nor was the file remembered


# fmt: off
NOT_TAKEN: list[tuple[str, NewKey, CustodyFault]] = [
    ("over since a second",  _key(terms=replace(TERMS, issued_until=NOW - timedelta(seconds=1))), CustodyFault.ENDED),
    ("over now",             _key(terms=replace(TERMS, issued_until=NOW)),                        CustodyFault.ENDED),
    ("to be refreshed",      _key(terms=replace(TERMS, refresh_by=NOW)),                          CustodyFault.ENDED),
    ("a limit below 0",      _key(terms=replace(TERMS, token_limit=-1)),                          CustodyFault.LIMIT),
    ("a limit of 2 ** 60",   _key(terms=replace(TERMS, units_limit_tenths=2**60)),                CustodyFault.LIMIT),
]
# fmt: on


async def test_a_key_that_must_not_be_is_not_loaded(vault: Vault) -> None:
    for label, key, fault in NOT_TAKEN:
        assert await _fault(vault.load(key)) is fault, label
        assert await vault.store.read(vendingkeys.report) == [], label


async def test_a_key_that_has_expired_by_its_number_is_loaded_for_the_key_changes_that_leave_it(vault: Vault) -> None:
    await vault.load(_key(terms=replace(TERMS, key_expiry=98)))
    assert [row.terms.key_expiry for row in await vault.store.read(vendingkeys.report)] == [98]


async def test_a_file_of_another_module_is_refused(vault: Vault) -> None:
    await vault.load()
    assert await _fault(vault.load(file=_file(module="van-3"))) is CustodyFault.OTHER_MODULE


async def test_each_module_has_the_key_for_itself(vault: Vault) -> None:
    await vault.load()
    await vault.activate()
    there = replace(OLD, module="hsm-1")
    assert await _fault(vault.load(_key(there, kcv="ffffff"))) is CustodyFault.OTHER_KEY
    await vault.load(_key(there, terms=replace(TERMS, token_limit=7)))
    assert [(str(row.id), row.state) for row in await vault.store.read(vendingkeys.report)] == [
        ("600801/1/2/2/2014@hsm-1", State.LOADED),
        ("600801/1/2/2/2014", State.ACTIVE),
    ]
    assert await _fault(vault.activate(there, by=TOM)) is OperatorFault.SAME_PERSON
    await vault.activate(there)
    await vault.suspend()
    assert ((await vault.row()).state, (await vault.row(there)).state) == (State.LOADED, State.ACTIVE)
    assert ((await vault.row()).terms.token_limit, (await vault.row(there)).terms.token_limit) == (100, 7)
    assert await _fault(vault.replace(there, OLD)) is CustodyFault.STATE


async def test_a_module_that_tells_no_check_value_binds_a_key_by_its_name(vault: Vault) -> None:
    there = replace(OLD, module="tsm-1")
    await vault.load()
    await vault.load(_key(there, kcv=""))
    row = await vault.activate(there, kcv="")
    assert (row.kcv, row.use.kcv, row.use.module) == ("", "", "tsm-1")


def test_a_key_is_written_with_its_module_and_read_again() -> None:
    for text in ("600801/2/2/4/2014", "600801/2/2/4/2014@hsm-1", "600801/1/3/2/1993@Van.3_b"):
        assert str(KeyId.read(text)) == text
    assert KeyId.read("600801/2/2/4/2014@software") == KeyId("600801", 2, 2, 4, 2014)
    for text in ("600801/2/2/4", "600801/2/2/4/2014@", "600801/2/2/4/2014@a b", "600801/2/2/4/2015"):
        with pytest.raises(ValueError, match="SUPPLY GROUP"):
            KeyId.read(text)


async def test_a_newer_file_for_an_active_key_waits_for_a_second_person(vault: Vault) -> None:
    await vault.load(file=_file())
    await vault.activate()
    assert await vault.load(_key(terms=MORE), by=IDA, file=_file(2, 2)) == {OLD: Outcome.REFRESHED}
    row = await vault.row()
    assert row.state is State.ACTIVE and row.terms == TERMS and row.pending is not None
    assert (row.pending.terms, row.pending.loaded_by, row.pending.file_id) == (MORE, "sec.ida", UUID(int=2))
    assert await _fault(vault.load(_key(terms=MORE), by=EVE)) is CustodyFault.DUPLICATE
    assert await _fault(vault.activate(by=IDA)) is OperatorFault.SAME_PERSON
    row = await vault.activate(by=TOM)
    assert (row.terms, row.pending, row.loaded_by, row.file_id) == (MORE, None, "sec.ida", UUID(int=2))
    assert (await vault.deeds())[-3:] == ["keys.refresh_loaded", "keys.file_loaded", "keys.activated"]


async def test_a_newer_file_for_a_key_that_waits_takes_the_place_of_the_older(vault: Vault) -> None:
    await vault.load(by=TOM)
    await vault.load(_key(terms=MORE), by=IDA)
    assert await _fault(vault.activate(by=IDA)) is OperatorFault.SAME_PERSON
    assert (await vault.activate(by=TOM)).terms == MORE


async def test_a_file_of_known_and_new_keys_loads_the_new_ones(vault: Vault) -> None:
    await vault.load()
    assert await vault.load(_key(), _key(NEW)) == {OLD: Outcome.UNCHANGED, NEW: Outcome.NEW}


async def test_a_key_that_is_not_the_one_that_was_loaded_is_not_activated(vault: Vault) -> None:
    await vault.load()
    assert await _fault(vault.activate(kcv="ffffff")) is CustodyFault.OTHER_KEY
    assert await _fault(vault.activate(OTHER)) is CustodyFault.UNKNOWN
    assert await _fault(vault.activate(at=NOW + YEAR)) is CustodyFault.ENDED


async def test_a_key_is_replaced_only_by_an_active_one_of_its_group(vault: Vault) -> None:
    await vault.load(_key(OLD), _key(NEW), _key(OTHER))
    await vault.activate(OLD)
    assert await _fault(vault.replace(OLD, NEW)) is CustodyFault.STATE
    assert await _fault(vault.replace(OLD, OLD)) is CustodyFault.STATE
    await vault.activate(OTHER)
    assert await _fault(vault.replace(OLD, OTHER)) is CustodyFault.STATE


async def test_exported_files_are_numbered_for_each_module(vault: Vault) -> None:
    def export(module: str, number: int, second: Operator | None = IDA) -> Callable[[sa.Connection], int]:
        def work(connection: sa.Connection) -> int:
            audit.queue_up(connection)
            serial = vendingkeys.next_serial(connection, module)
            file = _file(number, serial, module)
            vendingkeys.record_export(connection, file, [OLD], first=TOM, second=second, origin=_origin(TOM))
            return serial

        return work

    assert await vault.store.transact(export("van-1", 1)) == 1
    assert await _fault(vault.store.transact(export("van-1", 2, second=TOM))) is OperatorFault.SAME_PERSON
    serials = await asyncio.gather(*(vault.store.transact(export("van-1", n)) for n in range(3, 6)))
    assert sorted(serials) == [2, 3, 4]
    assert await vault.store.transact(export("van-2", 9)) == 1
    assert await vault.deeds() == ["keys.exported"] * 5


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_one_custodian_lowers_a_limit_and_two_raise_it(vault: Vault) -> None:
    await vault.load()
    row = await vault.limit(50, 4_000)
    assert (row.terms.token_limit, row.terms.units_limit_tenths) == (50, 4_000)
    assert row.terms.issued_until == TERMS.issued_until
    assert await _fault(vault.limit(51, 4_000)) is OperatorFault.SECOND
    assert await _fault(vault.limit(50, None)) is OperatorFault.SECOND
    row = await vault.limit(None, 4_001, second=IDA)
    assert (row.terms.token_limit, row.terms.units_limit_tenths) == (None, 4_001)
    row = await vault.limit(7, 4_001)  # from no limit to one is lowering
    assert row.terms.token_limit == 7
    assert await _fault(vault.limit(-1, None)) is CustodyFault.LIMIT


async def test_no_limit_goes_below_what_was_made_already(vault: Vault) -> None:
    await vault.load()
    await vault.sell(10, 2_000)
    assert await _fault(vault.limit(9, 5_000)) is CustodyFault.BELOW_TOTAL
    assert await _fault(vault.limit(10, 1_999)) is CustodyFault.BELOW_TOTAL
    assert await _fault(vault.load(_key(terms=replace(TERMS, token_limit=9)))) is CustodyFault.BELOW_TOTAL
    row = await vault.limit(10, 2_000)
    assert (row.tokens_made, row.units_made_tenths) == (10, 2_000)


async def test_terms_that_were_overtaken_by_sales_are_not_activated(vault: Vault) -> None:
    await vault.load()
    await vault.activate()
    await vault.load(_key(terms=replace(TERMS, token_limit=20)))
    await vault.sell(21, 0)
    assert await _fault(vault.activate()) is CustodyFault.BELOW_TOTAL


async def test_the_database_itself_refuses_a_total_beyond_its_limit(vault: Vault) -> None:
    await vault.load()
    await vault.sell(100, 5_000)
    for tokens, units in ((1, 0), (0, 1)):
        with pytest.raises(sa.exc.IntegrityError):
            await vault.sell(tokens, units)
    assert (await vault.row()).tokens_made == 100


async def test_totals_stay_through_refresh_suspension_and_activation(vault: Vault) -> None:
    await vault.load()
    await vault.activate()
    await vault.sell(10, 2_000)
    await vault.load(_key(terms=MORE))
    await vault.activate()
    await vault.suspend()
    row = await vault.activate()
    assert (row.tokens_made, row.units_made_tenths, row.terms) == (10, 2_000, MORE)


async def test_every_change_raises_the_stamp(vault: Vault) -> None:
    async def stamp() -> int:
        t = tables.stamp.c
        wanted = sa.select(t.value).where(t.name == vendingkeys.STAMP)
        return int(await vault.store.read(lambda connection: connection.execute(wanted).scalar_one()))

    await vault.load()
    seen = [await stamp()]
    deeds: list[Callable[[], Any]] = [vault.activate, lambda: vault.limit(1, 1), vault.suspend, vault.destroy]
    for deed in deeds:
        await deed()
        seen.append(await stamp())
    assert seen == sorted(set(seen))


# --- what ends --------------------------------------------------------------------------------------------------------


def test_a_key_expiry_number_counts_steps_of_65_536_minutes_from_the_base_date() -> None:
    assert vendingkeys.key_expires_at(2014, 98) == datetime(2014, 1, 1, tzinfo=UTC) + timedelta(minutes=99 * 65_536)
    # One minute after the last TID of the base date, which is 20:15 on 24 November.
    assert vendingkeys.key_expires_at(2014, 255) == datetime(2045, 11, 24, 20, 16, tzinfo=UTC)


async def test_ends_within_the_days_asked_for_come_nearest_first(vault: Vault) -> None:
    days = [timedelta(days=number) for number in range(0, 100)]
    await vault.load(
        _key(OLD, terms=Terms(255, issued_until=NOW + days[31], refresh_by=NOW + days[6])),
        _key(NEW, terms=Terms(255, issued_until=NOW + days[30])),
        _key(OTHER, terms=Terms(255)),
    )
    soon = await vault.store.read(lambda connection: vendingkeys.ending_soon(connection, NOW, 30))
    assert soon == [
        Ending(f"key {OLD}", EndKind.REFRESH_BY, NOW + days[6]),
        Ending(f"key {NEW}", EndKind.ISSUED_UNTIL, NOW + days[30]),
    ]
    await vault.destroy(OLD)
    soon = await vault.store.read(lambda connection: vendingkeys.ending_soon(connection, NOW, 30))
    assert [ending.subject for ending in soon] == [f"key {NEW}"]


# fmt: off
NO_KEYS = ["", "600801", "600801/2", "600801/0/2/2/2014", "60080/2/2/2/2014", "600801/2/2/3/2014", "600801/2/2/2/2015",
           "600801/2/2/2/2014\n", "٦٠٠٨٠١/2/2/2/2014"]
# fmt: on


@pytest.mark.parametrize("text", NO_KEYS)
def test_a_key_is_read_as_it_is_written_and_nothing_else_is(text: str) -> None:
    assert KeyId.read(str(OLD)) == OLD
    with pytest.raises(ValueError, match="key: "):
        KeyId.read(text)


# --- the schema before ------------------------------------------------------------------------------------------------


async def test_keys_from_before_there_were_modules_are_kept_by_the_migration(empty_database_url: str) -> None:
    def before(connection: sa.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        t = tables.vending_key.c
        row = {
            **{name: getattr(OLD, name) for name in ("supply_group", "key_revision", "key_type", "key_generation")},
            **{"base_date": 2014, "kcv": "a1b2c3", "module": "van-3", "state": "ACTIVE", "key_expiry": 200},
            **{"issued_until": NOW, "token_limit": 9, "tokens_made": 4, "units_made_tenths": 0},
            **{"loaded_by": "sec.tom", "loaded_at": NOW, "activated_by": "sec.ida", "activated_at": NOW},
        }
        connection.execute(sa.insert(tables.vending_key).values({t[name]: value for name, value in row.items()}))

    await _on_the_bare_database(empty_database_url, before)
    assert await migrate(empty_database_url) == ("0001", schema.known()[1])
    store = await open_store(empty_database_url)
    try:
        (row,) = await store.read(vendingkeys.report)
        assert (row.id, row.state, row.terms.key_expiry, row.tokens_made) == (
            replace(OLD, module="van-3"),
            State.ACTIVE,
            200,
            4,
        )
        with pytest.raises(sa.exc.IntegrityError):
            await store.transact(
                lambda connection: connection.execute(sa.update(tables.vending_key).values(tokens_made=10))
            )
    finally:
        await store.close()


async def _on_the_bare_database(url: str, work: Callable[[sa.Connection], None]) -> None:
    if is_sqlite(url):
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            work(connection)
        engine.dispose()
        return
    engine_async = postgres_engine(url, 30)
    async with engine_async.begin() as connection_async:
        await connection_async.run_sync(work)
    await engine_async.dispose()
