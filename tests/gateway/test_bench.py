"""The raw writes that `make bench` measures the gateway beside are still those that the gateway makes."""

from __future__ import annotations

from pathlib import Path

from ledger.store import is_sqlite, sqlite_path
from tests.bench import raw
from tests.simulation.shop import open_counter


async def test_the_rows_of_a_run_fit_the_statements_of_today(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        for nth in (1, 2, 3):
            await counter.buy(20_000, nth=nth)
    if is_sqlite(database_url):
        rows = raw.read_sqlite(Path(sqlite_path(database_url)))
    else:
        rows = await raw.read_postgresql(database_url)
    assert len(rows.purchases) == 3
    writes = [write for batch in rows.batches(2) for write in batch]
    assert len({statement for statement, _ in writes}) >= 9
    assert [statement for statement, given in writes if {len(row) for row in given} != {statement.width}] == []
