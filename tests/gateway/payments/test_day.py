"""A small day of orders with faults; the whole one is `python -m tests.simulation.payments_day`."""

from __future__ import annotations

from tests.simulation.payments_day import day


async def test_a_day_of_orders_with_faults_matches_to_the_cent(database_url: str) -> None:
    assert await day(database_url, 120, 7) == []
