"""Sales of a month as they are streamed: which, in which order, and how little of them is held."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gateway.world import uuid7
from ledger import sold, tables
from ledger.tariffs import least_id
from tests.simulation.shop import open_counter

BEGIN, END = datetime(2026, 5, 31, 21, tzinfo=UTC), datetime(2026, 6, 30, 21, tzinfo=UTC)


def _purchase(
    number: int, point: UUID, accepted: datetime, received: datetime | None = None, **other: Any
) -> dict[str, Any]:
    at = received or accepted
    row: dict[str, Any] = {column.name: None for column in tables.purchase.columns}
    return row | {
        "id": uuid7(int(at.timestamp() * 1000), number % 4096, number),
        "meter_id": UUID(int=7),
        "service_point_id": point,
        "channel": "sms",
        "peer": "",
        "sender": "",
        "destination": "",
        "language": "en",
        "amount_minor": number,
        "state": "DELIVERED",
        "owed": "NOTHING",
        "tariff_code": "D1-FLAT",
        "tariff_version": "2026-01-01T00:00:00",
        "units_tenths": 1,
        "sale": "x" * 2_000,
        "accepted_at": accepted,
        "expires_at": accepted,
        **other,
    }


async def test_a_months_sales_come_by_account_in_the_order_of_acceptance_and_no_others(database_url: str) -> None:
    async with open_counter(database_url) as counter:

        def work(connection: sa.Connection) -> list[int]:
            points = connection.execute(
                sa.select(tables.service_point.c.id).order_by(tables.service_point.c.id).limit(2)
            )
            one, two = points.scalars().all()
            minute, month = timedelta(minutes=1), timedelta(days=30)
            rows = [
                _purchase(3, two, BEGIN),
                _purchase(2, one, END - minute),
                _purchase(1, one, BEGIN + minute, received=BEGIN + month),  # paid long before the text came in
                _purchase(4, two, END - minute, received=END + timedelta(days=3)),
                _purchase(91, one, BEGIN - minute),
                _purchase(92, one, END),
                _purchase(93, one, BEGIN + minute, state="REFUSED"),
                _purchase(94, one, BEGIN + minute, tariff_code="D2-IBT"),
                _purchase(95, one, BEGIN + minute, state="VENDED"),
            ]
            connection.execute(tables.purchase.insert(), rows)
            reversed_ = rows[-1]["id"]
            for txn, reverses in ((reversed_, None), (UUID(int=1), reversed_)):
                connection.execute(
                    tables.txn.insert().values(
                        id=txn, kind="sale", reverses=reverses, business_date=BEGIN.date(), recorded_at=BEGIN
                    )
                )
            return [sale.amount_minor for sale in sold.of_month(connection, "D1-FLAT", BEGIN, END)]

        assert await counter.store.transact(work) == [1, 2, 3, 4]


async def test_of_many_sales_a_page_is_held(database_url: str) -> None:
    async with open_counter(database_url) as counter:

        def fill(connection: sa.Connection) -> None:
            (point,) = connection.execute(sa.select(tables.service_point.c.id).limit(1)).scalars().all()
            for start in range(0, 10_000, 1_000):
                several = [_purchase(n, point, BEGIN + timedelta(seconds=n)) for n in range(start, start + 1_000)]
                connection.execute(tables.purchase.insert(), several)

        def walk(connection: sa.Connection) -> tuple[int, int]:
            tracemalloc.start()
            try:
                count = sum(1 for _ in sold.of_month(connection, "D1-FLAT", BEGIN, END))
                return count, tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        await counter.store.transact(fill)
        count, peak = await counter.store.read(walk)
        assert count == 10_000
        assert peak < 6_000_000  # of 20 MB of sales


def test_the_least_id_of_an_instant_is_not_above_any_that_is_made_then() -> None:
    at = datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
    made = uuid7(int(at.timestamp() * 1000), 0, 0)
    assert least_id(at) < made < least_id(at + timedelta(milliseconds=1))
