"""Group commit, its isolation, and the schema's version, on both databases."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ledger import schema, tables
from ledger.all_tables import metadata
from ledger.store import Observer, QueueFull, Store, StoreClosed, migrate, open_store
from ledger.unit import Need, StoredRequest, Unit

NOW = datetime(2026, 6, 5, 8, 15, tzinfo=UTC)


@dataclass
class Note:
    """A deed that writes one request row; told to, it fails while deciding, or writes a row that cannot be."""

    key: str
    fails: bool = False
    breaks: bool = False
    id: UUID | None = None

    def need(self, need: Need) -> None:
        need.requests.append(self.key)

    def decide(self, unit: Unit) -> str:
        if self.key in unit.requests:
            return "replay"
        request_id = self.id or uuid4()
        row = (request_id, self.key, b"0" * 16, "sms", "a", "2547", "20777", "Help", NOW)
        unit.insert(tables.request, row)
        if self.breaks:
            unit.insert(tables.request, row)
        if self.fails:
            raise ValueError("this deed is wrong")
        unit.put("requests", self.key, StoredRequest(self.key, request_id, b"0" * 16))
        return "created"


async def _count(store: Store) -> int:
    return await store.read(
        lambda connection: int(connection.execute(sa.select(sa.func.count()).select_from(tables.request)).scalar_one())
    )


async def test_deeds_that_arrive_together_are_committed_together(database_url: str) -> None:
    sizes: list[int] = []
    await migrate(database_url)
    store = await open_store(database_url, observer=Observer(batch=lambda size, seconds: sizes.append(size)))
    results = await asyncio.gather(*(store.submit(Note(f"k{n}")) for n in range(100)))
    assert results == ["created"] * 100
    assert await _count(store) == 100
    assert sum(sizes) == 100 and len(sizes) < 20
    await store.close()


async def test_a_deed_that_fails_never_spoils_its_neighbours(database_url: str) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    deeds = [Note(f"k{n}", fails=n == 3, breaks=n == 7) for n in range(10)]
    results = await asyncio.gather(*(store.submit(deed) for deed in deeds), return_exceptions=True)
    assert [n for n, result in enumerate(results) if result != "created"] == [3, 7]
    assert isinstance(results[3], ValueError)
    assert await _count(store) == 8
    assert await store.submit(Note("after")) == "created"
    await store.close()


async def test_one_key_sent_many_times_over_two_stores_is_written_once(database_url: str) -> None:
    await migrate(database_url)
    stores = [await open_store(database_url), await open_store(database_url)]
    for round_no in range(10):
        results = await asyncio.gather(*(stores[n % 2].submit(Note(f"k{round_no}")) for n in range(20)))
        assert sorted(results) == ["created"] + ["replay"] * 19
    assert await _count(stores[0]) == 10
    for store in stores:
        await store.close()


async def test_an_urgent_deed_goes_before_all_that_wait(database_url: str) -> None:
    await migrate(database_url)
    store = await open_store(database_url, batch_max=1)
    # Each batch is one deed: of many that wait, only the first or two can have been taken before the urgent one came.
    waiting = [asyncio.create_task(store.submit(Note(f"k{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await store.submit(Note("urgent"), is_urgent=True)
    assert sum(task.done() for task in waiting) < 25
    assert await asyncio.gather(*waiting) == ["created"] * 50
    await store.close()


async def test_a_full_queue_takes_nothing_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/q.db"
    await migrate(url)
    store = await open_store(url, queue_max=5)
    results = await asyncio.gather(*(store.submit(Note(f"k{n}")) for n in range(50)), return_exceptions=True)
    full = [result for result in results if isinstance(result, QueueFull)]
    assert full and len(full) + await _count(store) == 50
    await store.close()
    with pytest.raises(StoreClosed):
        await store.submit(Note("late"))


async def test_a_database_of_another_version_is_refused_with_advice(empty_database_url: str) -> None:
    with pytest.raises(schema.DatabaseVersion, match="empty: run `prepaid migrate` first"):
        await open_store(empty_database_url)
    assert await migrate(empty_database_url) == (None, schema.known()[1])
    assert await migrate(empty_database_url) == (schema.known()[1], schema.known()[1])
    store = await open_store(empty_database_url)
    await store.transact(
        lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    )
    await store.close()
    with pytest.raises(schema.DatabaseVersion, match="newer"):
        await open_store(empty_database_url)
    with pytest.raises(schema.DatabaseVersion, match="newer"):
        await migrate(empty_database_url)


async def test_the_migrations_make_the_tables_as_they_are_described(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    store = await open_store(empty_database_url)

    def differences(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await store.read(differences) == []
    await store.close()


def test_the_versions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert schema.known()[0] == [script.revision for script in scripts.walk_revisions()][::-1]
    assert schema.known()[1] == scripts.get_current_head()


async def test_sqlite_keeps_its_log_of_writes_when_another_process_leaves(tmp_path: Path) -> None:
    """To close any descriptor of the file would drop this process's locks, and whoever leaves last takes the log away.

    Source: sqlite.org/howtocorrupt.html, section 2.2.
    """
    path = tmp_path / "shared.db"
    url = f"sqlite:///{path}"
    await migrate(url)
    store = await open_store(url)
    asked = "c.execute('SELECT count(*) FROM request').fetchone()[0]"
    program = f"import sqlite3; c = sqlite3.connect({str(path)!r}); print({asked}); c.close()"

    async def elsewhere() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        return int(said)

    try:
        for n in (1, 2, 3):
            await store.submit(Note(f"r{n}"))
            assert await _count(store) == n  # a reader of its own, which opens and closes the file
            assert await elsewhere() == n
    finally:
        await store.close()
