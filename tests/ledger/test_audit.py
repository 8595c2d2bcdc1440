"""The audit chain: every change to what was written is found, and writers on two connections make one chain."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
import sqlalchemy as sa

from ledger import audit, tables
from ledger.audit import Broken, ChainBroken, Origin, Verified
from ledger.store import Store, migrate, open_store

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 6, 5, 8, 15, 0, 123456, tzinfo=UTC)
ORIGIN = Origin("sec.tom", NOW, "terminal tom@vault", "because")


@pytest_asyncio.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        yield store
    finally:
        await store.close()


def _fill(connection: sa.Connection, count: int = 6) -> None:
    for number in range(1, count + 1):
        audit.note(connection, ORIGIN, "keys.activated", f"600801/{number}", None, {"state": "ACTIVE"})


async def test_a_chain_that_nobody_touched_holds(store: Store) -> None:
    assert await store.read(audit.verify) == Verified(0, audit.FIRST_PREVIOUS)
    await store.transact(_fill)
    rows = await store.read(lambda connection: audit.latest(connection, 100))
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.previous for row in rows[1:]] == [row.hash for row in rows[:-1]]
    assert (rows[0].who, rows[0].at, rows[0].place, rows[0].reason) == (
        "sec.tom",
        NOW,
        "terminal tom@vault",
        "because",
    )
    assert await store.read(audit.verify) == Verified(6, rows[-1].hash)
    assert await store.read(lambda connection: audit.verify(connection, (4, rows[3].hash))) == Verified(6, rows[5].hash)


async def test_rows_of_one_subject_are_shown_alone(store: Store) -> None:
    await store.transact(_fill)
    rows = await store.read(lambda connection: audit.latest(connection, 100, "600801/3"))
    assert [row.seq for row in rows] == [3]


async def test_the_chain_is_the_same_whatever_zone_the_instant_came_in(store: Store) -> None:
    east = replace(ORIGIN, at=NOW.astimezone(timezone(timedelta(hours=3))))
    await store.transact(lambda connection: audit.note(connection, east, "a.b", "c"))
    assert isinstance(await store.read(audit.verify), Verified)
    (row,) = await store.read(lambda connection: audit.latest(connection, 1))
    assert row.at == NOW


t = tables.audit.c


def _set(row: int, **values: Any) -> sa.Update:
    return sa.update(tables.audit).where(t.seq == row).values(**values)


def _renumber(*moves: tuple[int, int]) -> list[sa.Update]:
    return [_set(old, seq=new) for old, new in moves]


def _copy(seq: int, new: int) -> sa.Insert:
    names = [column.name for column in tables.audit.columns]
    columns = [sa.literal(new).label("seq") if name == "seq" else t[name] for name in names]
    return sa.insert(tables.audit).from_select(names, sa.select(*columns).where(t.seq == seq))


_HEAD = tables.stamp.c.name == audit.HEAD

# What was done to the table behind our back, and the row where it must be found.
# fmt: off
TAMPERING: list[tuple[str, list[Any], int]] = [
    ("another person",                  [_set(3, who="sec.ida")], 3),
    ("another time, by a microsecond",  [_set(3, at=NOW + timedelta(microseconds=1))], 3),
    ("another place",                   [_set(3, place="elsewhere")], 3),
    ("another deed",                    [_set(3, deed="keys.loaded")], 3),
    ("another subject",                 [_set(3, subject="600802/3")], 3),
    ("another before",                  [_set(3, before="{}")], 3),
    ("another after",                   [_set(3, after='{"state": "ACTIVE"}')], 3),  # a space more
    ("another reason",                  [_set(3, reason="none")], 3),
    ("another hash",                    [_set(3, hash="0" * 64)], 3),
    ("another previous hash",           [_set(3, previous="0" * 64)], 3),
    ("the first row changed",           [_set(1, reason="none")], 1),
    ("the last row changed",            [_set(6, reason="none")], 6),
    ("a row in the middle deleted",     [sa.delete(tables.audit).where(t.seq == 3)], 3),
    ("deleted and closed up",           [sa.delete(tables.audit).where(t.seq == 3),
                                         *_renumber((4, 3), (5, 4), (6, 5))], 3),
    ("deleted, closed up, recounted",   [sa.delete(tables.audit).where(t.seq == 3),
                                         *_renumber((4, 3), (5, 4), (6, 5)),
                                         sa.update(tables.stamp).where(_HEAD).values(value=5)], 3),
    ("the first row deleted",           [sa.delete(tables.audit).where(t.seq == 1)], 1),
    ("the last row deleted",            [sa.delete(tables.audit).where(t.seq == 6)], 6),
    ("all rows deleted",                [sa.delete(tables.audit)], 1),
    ("two rows exchanged",              _renumber((3, 99), (4, 3), (99, 4)), 3),
    ("a row put in at the end",         [_copy(6, 7), sa.update(tables.stamp).where(_HEAD).values(value=7)], 7),
    ("a row put in before the first",   [_copy(1, 0)], 1),
    ("a row put in between",            [*_renumber((6, 7), (5, 6), (4, 5)), _copy(2, 4),
                                         sa.update(tables.stamp).where(_HEAD).values(value=7)], 4),
    ("the count of rows deleted",       [sa.delete(tables.stamp).where(_HEAD)], 1),
]
# fmt: on


async def test_whatever_is_done_to_a_row_is_found_where_it_was_done(store: Store) -> None:
    for label, statements, found_at in TAMPERING:

        def tamper(connection: sa.Connection, statements: list[Any] = statements) -> None:
            connection.execute(sa.delete(tables.audit))
            connection.execute(sa.delete(tables.stamp).where(_HEAD))
            _fill(connection)
            assert isinstance(audit.verify(connection), Verified)
            for statement in statements:
                connection.execute(statement)

        await store.transact(tamper)
        verdict = await store.read(audit.verify)
        assert isinstance(verdict, Broken) and verdict.seq == found_at, (label, verdict)


async def test_a_chain_written_anew_holds_but_not_against_a_witness(store: Store) -> None:
    await store.transact(_fill)
    seen = await store.read(audit.verify)
    assert isinstance(seen, Verified)

    def rewrite(connection: sa.Connection) -> None:
        connection.execute(sa.delete(tables.audit))
        connection.execute(sa.delete(tables.stamp).where(_HEAD))
        _fill(connection, 5)

    await store.transact(rewrite)
    assert isinstance(await store.read(audit.verify), Verified)
    verdict = await store.read(lambda connection: audit.verify(connection, (seen.count, seen.head)))
    assert verdict == Broken(6, "row 6, which was noted before, is missing")
    await store.transact(lambda connection: audit.note(connection, ORIGIN, "x.y", "another sixth row"))
    verdict = await store.read(lambda connection: audit.verify(connection, (seen.count, seen.head)))
    assert verdict == Broken(6, "row 6 is not the one that was noted before")


async def test_nothing_is_appended_to_a_log_whose_end_was_cut_off(store: Store) -> None:
    await store.transact(_fill)
    await store.transact(lambda connection: connection.execute(sa.delete(tables.audit).where(t.seq == 6)))
    with pytest.raises(ChainBroken, match="row 6"):
        await store.transact(_fill)


async def test_a_deed_that_is_rolled_back_leaves_no_row_and_no_gap(store: Store) -> None:
    def fails(connection: sa.Connection) -> None:
        _fill(connection, 1)
        raise KeyError("told to")

    await store.transact(_fill)
    with pytest.raises(KeyError):
        await store.transact(fails)
    await store.transact(lambda connection: _fill(connection, 1))
    assert (await store.read(audit.verify)) == Verified(7, (await store.read(lambda c: audit.latest(c, 1)))[0].hash)


async def test_many_writers_on_several_stores_make_one_chain(database_url: str) -> None:
    await migrate(database_url)
    stores = [await open_store(database_url) for _ in range(3)]
    await asyncio.gather(*(stores[n % 3].transact(lambda connection: _fill(connection, 2)) for n in range(60)))
    verdict = await stores[0].read(audit.verify)
    assert isinstance(verdict, Verified) and verdict.count == 120, verdict
    for store in stores:
        await store.close()


async def test_a_log_of_several_pages_is_verified_to_its_end(store: Store) -> None:
    await store.transact(lambda connection: _fill(connection, 2_003))
    assert isinstance(await store.read(audit.verify), Verified)
    await store.transact(lambda connection: connection.execute(_set(2_001, who="nobody")))
    verdict = await store.read(audit.verify)
    assert isinstance(verdict, Broken) and verdict.seq == 2_001


# fmt: off
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("octets",              {"kcv": b"\x01"}),
    ("a float",             {"limit": 0.1}),
    ("a password",          {"password": "x"}),
    ("a new password",      {"new_password": "x"}),
    ("a token within",      {"sale": {"token": "1"}}),
    ("a master key",        {"list": [{"master_key": "1"}]}),
    ("a transfer key",      {"transfer_key": "1"}),
    ("too much",            {str(number): "x" * 500 for number in range(50)}),
]
# fmt: on


async def test_what_does_not_belong_in_the_log_is_refused_and_nothing_written(store: Store) -> None:
    for label, after in REFUSED:

        def note(connection: sa.Connection, after: dict[str, Any] = after) -> None:
            audit.note(connection, ORIGIN, "a.b", "c", None, after)

        with pytest.raises(ValueError, match="audit: "):
            await store.transact(note)
        assert await store.read(audit.verify) == Verified(0, audit.FIRST_PREVIOUS), label


ODD_TEXTS = ["two\nlines", "nul\x00nul", "half \ud800 a pair", "long " * 1000, "\u202edrawkcab", "", "ünï ٥٠٠ 電"]


async def test_any_text_can_be_kept_and_verified(store: Store) -> None:
    def note_all(connection: sa.Connection) -> None:
        for text in ODD_TEXTS:
            values = {"text": text, "list": [text, 1, None, True], "id": UUID(int=5), "at": NOW, text[:20]: {"x": text}}
            audit.note(connection, replace(ORIGIN, reason=text), "a.b", text, values)

    await store.transact(note_all)
    assert isinstance(await store.read(audit.verify), Verified)


async def test_a_token_in_a_reason_is_masked(store: Store) -> None:
    origin = replace(ORIGIN, reason="customer says 1234 5678-9012 3456 7890 fails")
    row = await store.transact(lambda connection: audit.note(connection, origin, "a.b", "c"))
    assert row.reason == "customer says *** fails"


def test_no_code_changes_or_deletes_a_row() -> None:
    changing = re.compile(
        r"(update|delete)\((tables\.)?audit\)|(tables\.|\b)audit\.(update|delete)\("
        r"|(UPDATE|DELETE\s+FROM)\s+audit\b"
    )
    found = [
        path.name
        for package in ("ledger", "gateway", "channels")
        for path in (ROOT / package).rglob("*.py")
        if changing.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
