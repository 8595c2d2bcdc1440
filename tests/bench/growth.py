"""Whether a sale's cost depends on how many meters and past sales there are: the same sales on ever larger books.

The history is generated, not sold: the rows of one real sale and of one real meter, again and again with ids, numbers
and times of their own, handed to the driver in bulk. So the balances of what is generated do not add up, and the books
are not checked here; what is measured are real purchases through the store, whose rows lie among the others.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import islice
from time import perf_counter, process_time
from typing import Any, Final
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from channels.commands import Buy
from channels.contract import Inbound
from config.settings import Settings
from gateway.deeds import Arrival
from gateway.purchase import State
from gateway.vend import Shop
from gateway.world import RealWorld, uuid7
from ledger import tables
from ledger.sql import Insert, Row, convert_row
from ledger.store import open_store
from sts.modules.software import SoftwareModule
from tests.simulation import utility
from tests.simulation.utility import Customer

ROUNDS: Final = 5
SALES: Final = 1_000  # a round
WINDOW: Final = 50
_CHUNK: Final = 20_000
_SINCE_MS: Final = 1_600_000_000_000  # generated sales lie before every real one

_OF_A_METER: Final = (
    tables.account,
    tables.limited_balance,
    tables.customer,
    tables.service_point,
    tables.meter,
)
_OF_A_SALE: Final = (tables.request, tables.purchase, tables.token, tables.txn, tables.posting, tables.outbox)

Values = dict[str, Any]


class Growing:
    """One database that grows; `sales` and `meters` are how many it has besides the utility's own."""

    def __init__(self, url: str, everyone: Sequence[Customer]) -> None:
        self.url = url
        self.sales = self.meters = 0
        self._everyone = everyone
        self._bought = 0
        self._meter: dict[sa.Table, Values] = {}
        self._sale: dict[sa.Table, list[Values]] = {}

    async def measure(self) -> tuple[float, float]:
        """Microseconds of a sale: by the clock, and of this process's processor; the best of some rounds."""
        world = RealWorld()
        settings = Settings(utility=utility.SETTINGS)
        shop = Shop.of(settings, world, SoftwareModule(utility.vending_keys()))
        store = await open_store(self.url)
        try:
            await self._round(shop, store, SALES // 2)  # what is not in memory yet gets there
            walls, cpus = [], []
            for _ in range(ROUNDS):
                wall, cpu = perf_counter(), process_time()
                await self._round(shop, store, SALES)
                walls.append((perf_counter() - wall) / SALES * 1e6)
                cpus.append((process_time() - cpu) / SALES * 1e6)
            if not self._sale:
                await store.read(self._take_templates)
        finally:
            await store.close()
        return min(walls), min(cpus)

    async def _round(self, shop: Shop, store: Any, count: int) -> None:
        numbers = iter(range(self._bought, self._bought + count))
        self._bought += count

        async def caller() -> None:
            for number in numbers:
                done = await store.submit(Arrival(shop, self._inbound(shop, number)))
                assert done.state is State.VENDED, done.reason

        await asyncio.gather(*(caller() for _ in range(WINDOW)))

    def _inbound(self, shop: Shop, number: int) -> Inbound:
        customer = self._everyone[number % len(self._everyone)]
        command = Buy(customer.drn, 10_000 + number)
        digest = hashlib.blake2b(repr(command).encode(), digest_size=16).digest()
        now = shop.world.now()
        return Inbound("sms", "bench", f"r{number}", digest, customer.msisdn, "20777", command, now)

    # --- history ---

    def _take_templates(self, connection: sa.Connection) -> None:
        p, m, s, c = tables.purchase, tables.meter, tables.service_point, tables.customer

        def rows(table: sa.Table, where: sa.ColumnElement[bool]) -> list[Values]:
            return [dict(row) for row in connection.execute(sa.select(table).where(where)).mappings()]

        (bought,) = rows(p, p.c.id == sa.select(p.c.id).order_by(p.c.id).limit(1).scalar_subquery())
        owner = {tables.token: "purchase_id", tables.posting: "txn_id", tables.outbox: "request_id"}
        self._sale = {table: rows(table, table.c[owner.get(table, "id")] == bought["id"]) for table in _OF_A_SALE}
        (meter,) = rows(m, m.c.id == bought["meter_id"])
        (point,) = rows(s, s.c.id == meter["service_point_id"])
        (customer,) = rows(c, c.c.id == point["customer_id"])
        (account,) = rows(tables.account, tables.account.c.id == customer["wallet_id"])
        (balance,) = rows(tables.limited_balance, tables.limited_balance.c.account_id == account["id"])
        self._meter = dict(zip(_OF_A_METER, (account, balance, customer, point, meter), strict=True))

    async def grow(self, sales: int, meters: int) -> None:
        """Add generated rows until there are so many."""
        for table in _OF_A_METER:
            await self._write(table, (self._meter_row(table, n) for n in range(self.meters, meters)))
        self.meters = meters
        for table in _OF_A_SALE:
            await self._write(
                table, (row for n in range(self.sales, sales) for row in self._sale_rows(table, n, meters))
            )
        self.sales = sales
        if not self.url.startswith("sqlite"):
            connection = await asyncpg.connect(self.url)
            await connection.execute("VACUUM ANALYZE")
            await connection.close()

    def _meter_row(self, table: sa.Table, number: int) -> Values:
        row, code = dict(self._meter[table]), f"G{number:08d}"
        if table is tables.account:
            return row | {"id": _id(1, number), "code": f"wallet:{code}"}
        if table is tables.limited_balance:
            return row | {"account_id": _id(1, number)}
        if table is tables.customer:
            return row | {"id": _id(2, number), "account_no": code, "wallet_id": _id(1, number)}
        if table is tables.service_point:
            return row | {"id": _id(3, number), "code": code, "customer_id": _id(2, number)}
        return row | {"id": _id(4, number), "drn": f"8{number:010d}", "service_point_id": _id(3, number)}

    def _sale_rows(self, table: sa.Table, number: int, meters: int) -> Iterator[Values]:
        sale_id, meter, at = uuid7(_SINCE_MS + number, 0, number), number % meters, _at(number)
        for row in self._sale[table]:
            new = dict(row)
            for name in ("id", "purchase_id", "txn_id", "request_id"):
                if name in new:
                    new[name] = sale_id
            new |= {name: at for name in ("received_at", "accepted_at", "recorded_at") if name in new}
            if "meter_id" in new:
                new["meter_id"] = _id(4, meter)
            if table is tables.request:
                new["idem_key"] = f"sms|g{number}"
            elif table is tables.purchase:
                new |= {"state": "DELIVERED", "service_point_id": _id(3, meter), "receipt": f"G{number:012d}"}
            elif table is tables.token:
                new["tid"] = number // meters
            elif table is tables.outbox:
                new |= {"id": uuid7(_SINCE_MS + number, 1, number), "state": "SENT"}
            yield new

    async def _write(self, table: sa.Table, rows: Iterator[Values]) -> None:
        chunks = iter(lambda: [tuple(row.values()) for row in islice(rows, _CHUNK)], [])
        if self.url.startswith("sqlite"):
            for chunk in chunks:
                await asyncio.to_thread(self._write_sqlite, table, chunk)
            return
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("SET session_replication_role = replica")  # no look-ups of foreign keys
            for chunk in chunks:
                await connection.copy_records_to_table(table.name, records=chunk, columns=list(table.c.keys()))
        finally:
            await connection.close()

    def _write_sqlite(self, table: sa.Table, rows: list[Row]) -> None:
        insert = Insert(table)
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")  # only for what is generated
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert.sqlite, (convert_row(insert.converts, row) for row in rows))
            connection.execute("COMMIT")


def _id(kind: int, number: int) -> UUID:
    # Spread like the ids of real records, which were made over years.
    return uuid7(_SINCE_MS + number * 7919 % 1_000_003, kind, number)


def _at(number: int) -> datetime:
    return datetime.fromisoformat("2020-09-13T00:00:00+00:00") + timedelta(milliseconds=number)
