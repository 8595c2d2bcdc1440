"""`python -m tests.bench`: SMS in to SMS out through real sockets with durable commits, as JSON lines.

The gateway is a process of its own with a settings file; the message centre and the phones are in this one. A run
that is not right (a purchase answered twice or not at all, books that do not balance) ends with an error instead of
figures. What the lines say:

- `gateway`: purchases, their rate and latency, processor time of the gateway (and of the database server) for each,
  the gateway's memory at the end, and how many purchases went into one transaction on average.
- `raw`: the same rows written by the bare driver, in batches of that size and of 256.
- `ratio`: the gateway's rate over the raw one.
- `tokens ...`: every way of making tokens, beside the bare cipher steps.
- `iso8583 ...`: a bank's message read and written, beside pyiso8583.
- `parts`: tokens, pricing and reading by themselves.
- `import ...`, `export ...`: records in bulk, with the most memory; on SQLite also what another writer waits meanwhile.
- `memory`, `start`, `ussd`, `growth`, `payments`: see --memory, --start, --ussd, --growth and --payments.
- `codec`, `echo`, `flat`, `idle`: the wire without a database, see --smpp and `tests/bench/wire.py`; `bare` is the
  least that could be done with the same packets.
- `outbox`: see --outbox.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import sqlalchemy as sa

from gateway.purchase import State
from gateway.world import RealWorld
from ledger import tables
from ledger.store import open_store
from ledger.trial_balance import broken_invariants
from tests.bench import bulk, iso8583codec, parts, payments, raw, tokens, ussd, wire
from tests.bench.growth import Growing
from tests.bench.load import Phones, RunFailed, Timing, message_centre, until_bound
from tests.bench.service import Service, cpu_s, free_port, set_up, write_settings
from tests.postgres import Cluster, PostgresFailed, postgres
from tests.simulation.utility import Customer

_METERS_MAX: Final = 20_000
_WARM_UP: Final = 300
_SAMPLE_EVERY: Final = 10_000
_MEMORY_PURCHASES: Final = 100_000
_STARTS: Final = 5
_RAW_BATCH: Final = 256
_BULK: Final = 20_000
_USSD_RATE: Final = 200
_USSD_S: Final = 20.0
_PAYMENTS_S: Final = 15.0
_PAYMENTS_WAITING: Final = 100_000


def say(name: str, **figures: Any) -> None:
    """One line."""
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"name": name, **rounded}), flush=True)


class Database:
    """One kind of database: the loaded utility, and fresh copies of it to work on."""

    def __init__(self, kind: str, folder: Path, cluster: Cluster | None) -> None:
        self.kind = kind
        self.everyone: list[Customer] = []
        self._folder = folder
        self._cluster = cluster
        self._copies = 0
        self._base = cluster.fresh_database() if cluster is not None else f"sqlite:///{folder}/base.db"

    async def load(self, meters: int) -> None:
        """Make the utility."""
        began = perf_counter()
        self.everyone = await set_up(self._base, self._folder / f"utility-{self.kind}", meters)
        say("load", database=self.kind, meters=meters, seconds=perf_counter() - began)

    def copy(self) -> str:
        """The address of a fresh copy."""
        self._copies += 1
        if self._cluster is None:
            path = self._folder / f"copy-{self._copies}.db"
            shutil.copyfile(sqlite_path(self._base), path)
            return f"sqlite:///{path}"
        name = f"copy_{self._copies}"
        self._cluster.execute(f"CREATE DATABASE {name} TEMPLATE {self._base.rpartition('/')[2]}")
        self._cluster.execute("CHECKPOINT")
        return self._cluster.url(name)

    def drop(self, url: str) -> None:
        """Remove a copy."""
        if self._cluster is not None:
            self._cluster.drop(url)
            return
        for path in self._folder.glob(sqlite_path(url).name + "*"):
            path.unlink()

    def server_cpu_s(self) -> float:
        """Processor time of the server and its processes so far; none for the embedded database."""
        if self._cluster is None:
            return 0.0
        postmaster = int((self._cluster.data / "postmaster.pid").read_text().split("\n", 1)[0])
        return sum(cpu_s(pid) for pid in [postmaster, *_children(postmaster)])


def sqlite_path(url: str) -> Path:
    """The file of a sqlite:/// address."""
    return Path(url.removeprefix("sqlite:///"))


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in found.split()]


@asynccontextmanager
async def gateway_on(url: str, folder: Path, window: int, everyone: Sequence[Customer]) -> AsyncIterator[Any]:
    """A gateway serving this database, with its phones; stopped in good order afterwards."""
    async with message_centre(max(window, 1)) as centre:
        config, http_port = folder / "prepaid.toml", free_port()
        write_settings(config, url, centre.port, http_port, {})
        with Service(config, http_port) as service:
            service.start()
            await until_bound(centre, service)
            yield service, Phones(centre, everyone)
            if await service.stop() != 0:
                raise RunFailed(f"the gateway did not end well: {service.last_words()}")


async def check(url: str, phones: Phones) -> None:
    """Raise RunFailed unless every message was answered once, every reply is marked, and the books are right."""
    phones.check()
    store = await open_store(url)
    try:
        broken = await store.read(broken_invariants)
        states = await store.read(
            lambda connection: connection.exec_driver_sql("SELECT state, count(*) FROM purchase GROUP BY state").all()
        )
    finally:
        await store.close()
    if broken:
        raise RunFailed("; ".join(broken))
    if [tuple(row) for row in states] != [(State.DELIVERED.value, phones.bought)]:
        raise RunFailed(f"{phones.bought} delivered purchases expected, got {states}")


async def run_gateway(
    database: Database, folder: Path, purchases: int, window: int, url: str = ""
) -> tuple[str, float, float]:
    """One run and its line; the database it filled, a fresh copy if none is given, its rate, purchases in a batch."""
    url = url or database.copy()
    async with gateway_on(url, folder, window, database.everyone) as (service, phones):
        await phones.buy(_WARM_UP, window)
        before, cpu, server_cpu = await service.metrics(), service.cpu_s(), database.server_cpu_s()
        timing: Timing = await phones.buy(purchases, window)
        cpu, server_cpu = service.cpu_s() - cpu, database.server_cpu_s() - server_cpu
        after, resident_mb = await service.metrics(), service.resident_mb()
    await check(url, phones)
    batches, deeds = (
        after[f"prepaid_batch_size_{what}"] - before[f"prepaid_batch_size_{what}"] for what in ("count", "sum")
    )
    rate = purchases / timing.elapsed_s
    say(
        "gateway",
        database=database.kind,
        window=window,
        purchases=purchases,
        purchases_per_s=rate,
        p50_ms=timing.quantile_ms(0.5),
        p99_ms=timing.quantile_ms(0.99),
        gateway_cpu_us=cpu / purchases * 1e6,
        server_cpu_us=server_cpu / purchases * 1e6,
        gateway_rss_mb=resident_mb,
        deeds_a_batch=deeds / batches,
        purchases_a_batch=purchases / batches,
    )
    return url, rate, purchases / batches


async def run_raw(database: Database, rows: raw.Rows, size: int) -> float:
    """The bare driver's rate with batches of this size, and its line."""
    url = database.copy()
    batches = rows.batches(size)
    if database.kind == "sqlite":
        elapsed_s = raw.write_sqlite(sqlite_path(url), batches)
    else:
        elapsed_s = await raw.write_postgresql(url, batches)
    database.drop(url)
    rate = len(rows.purchases) / elapsed_s
    say("raw", database=database.kind, purchases_a_batch=size, rows_a_purchase=rows.rows_a_purchase,
        purchases=len(rows.purchases), purchases_per_s=rate)  # fmt: skip
    return rate


async def speed(database: Database, folder: Path, purchases: int, window: int) -> None:
    """All lines about one database: the window asked for, then 10 and 1 for latency, then the limits."""
    url, rate, size = await run_gateway(database, folder, purchases, window)
    rows = raw.read_sqlite(sqlite_path(url)) if database.kind == "sqlite" else await raw.read_postgresql(url)
    database.drop(url)
    for smaller in (10, 1):
        if smaller < window:
            url, _, _ = await run_gateway(database, folder, max(500, purchases * smaller // 50), smaller)
            database.drop(url)
    same = max(1, round(size))
    limit_same = await run_raw(database, rows, same)
    limit_large = await run_raw(database, rows, _RAW_BATCH)
    say("ratio", database=database.kind, window=window, to_raw_same_batch=rate / limit_same,
        to_raw_batch_256=rate / limit_large)  # fmt: skip


async def memory(database: Database, folder: Path, purchases: int, window: int) -> None:
    """Resident memory of the gateway as it makes many purchases."""
    url = database.copy()
    async with gateway_on(url, folder, window, database.everyone) as (service, phones):
        say("memory", database=database.kind, purchases=0, gateway_rss_mb=service.resident_mb())
        while phones.bought < purchases:
            timing = await phones.buy(_SAMPLE_EVERY, window)
            say(
                "memory",
                database=database.kind,
                purchases=phones.bought,
                gateway_rss_mb=service.resident_mb(),
                purchases_per_s=_SAMPLE_EVERY / timing.elapsed_s,
            )
    await check(url, phones)
    database.drop(url)


async def start(database: Database, folder: Path) -> None:
    """From the start of the process to its first bind."""
    url, times, cpu = database.copy(), [], []
    for _ in range(_STARTS):
        async with message_centre(1) as centre:
            config, http_port = folder / "prepaid.toml", free_port()
            write_settings(config, url, centre.port, http_port, {})
            with Service(config, http_port) as service:
                began = perf_counter()
                service.start()
                await until_bound(centre, service)
                times.append(perf_counter() - began)
                cpu.append(service.cpu_s())
                await service.stop()
    database.drop(url)
    # On a busy machine the processor time says more than the clock.
    say("start", database=database.kind, starts=_STARTS, median_s=median(times), slowest_s=max(times),
        gateway_cpu_s=median(cpu))  # fmt: skip


def in_bulk(kind: str, folder: Path, cluster: Cluster | None, size: int) -> None:
    """Import and export of a utility of this size, and their lines."""
    url = cluster.fresh_database() if cluster is not None else f"sqlite:///{folder}/bulk.db"
    files = folder / f"bulk-{kind}"
    for line in bulk.figures(files, url, size):
        say(str(line.pop("name")), database=kind, load_average=os.getloadavg()[0], **line)
    shutil.rmtree(files)
    if cluster is not None:
        cluster.drop(url)
    for path in folder.glob("bulk.db*"):
        path.unlink()


async def growth(database: Database, sizes: Sequence[int]) -> None:
    """A sale's cost beside ever more meters and past sales, as a ratio to the smallest."""
    url = database.copy()
    growing = Growing(url, database.everyone)
    await growing.measure()  # leaves a real sale, of which the history is made
    first_us = first_cpu_us = 0.0
    for size in sizes:
        began = perf_counter()
        await growing.grow(size, size)
        filled_s = perf_counter() - began
        sale_us, cpu_us = await growing.measure()
        first_us, first_cpu_us = first_us or sale_us, first_cpu_us or cpu_us
        say("growth", database=database.kind, past_sales=size, meters=size, fill_s=filled_s, sale_us=sale_us,
            gateway_cpu_us=cpu_us, ratio=sale_us / first_us, cpu_ratio=cpu_us / first_cpu_us)  # fmt: skip
    database.drop(url)


async def run(options: argparse.Namespace, folder: Path, clusters: dict[str, Cluster | None]) -> None:
    """Everything that was asked for."""
    instead = (
        options.memory
        or options.start
        or options.ussd
        or options.payments
        or options.growth
        or options.outbox
        or options.bulk
    )
    say("machine", processors=os.cpu_count(), load_average=os.getloadavg()[0], fsync_us=parts.fsync_us(folder))
    for kind, cluster in clusters.items():
        if options.bulk or not instead:
            in_bulk(kind, folder, cluster, options.bulk or _BULK)
        if options.bulk:
            continue
        database = Database(kind, folder, cluster)
        await database.load(options.meters or min(_METERS_MAX, max(1000, options.purchases)))
        if options.growth:
            await growth(database, [int(size) for size in options.sizes.split(",")])
        if options.memory:
            await memory(database, folder, _MEMORY_PURCHASES, options.window)
        if options.start:
            await start(database, folder)
        if options.payments:
            url = database.copy()
            say("payments", database=kind, **await payments.callbacks(url, database.everyone, _PAYMENTS_S))
            say("payments", database=kind, **await payments.waiting(url, _PAYMENTS_WAITING, _PAYMENTS_S))
            database.drop(url)
        if options.ussd:
            url = database.copy()
            found = await ussd.figures(url, folder, database.everyone, _USSD_RATE, _USSD_S, options.sessions)
            database.drop(url)
            say("ussd", database=kind, **found)
        if options.outbox:
            await outbox(database, folder, min(options.purchases, 3_000), options.window)
        if not instead:
            await speed(database, folder, options.purchases, options.window)
            everyone = database.everyone
    if not instead:
        first_us, again_us = parts.token_us(everyone)
        for line in (*tokens.figures(), *iso8583codec.figures()):
            say(str(line.pop("name")), **line)
        say("parts", token_first_us=first_us, token_again_us=again_us, pricing_us=parts.pricing_us(everyone),
            reading_us=parts.reading_us(everyone))  # fmt: skip
    say("machine", processors=os.cpu_count(), load_average=os.getloadavg()[0], fsync_us=parts.fsync_us(folder))


async def smpp(dialogues: int) -> None:
    """All lines about the wire by itself, links and bare echo in turn."""
    say("codec", **wire.codec())
    for window in (50, 10):
        best: dict[str, dict[str, float]] = {}
        for _ in range(_STARTS):
            for name, run_echo in (("bare", wire.bare_echo), ("echo", wire.echo)):
                found = await run_echo(window, dialogues if name == "echo" else 3 * dialogues)
                if name not in best or found["dialogues_per_s"] > best[name]["dialogues_per_s"]:
                    best[name] = found
        for name, found in best.items():
            say(name, window=window, rounds=_STARTS, **found)
        say("ratio", window=window, to_bare=best["echo"]["dialogues_per_s"] / best["bare"]["dialogues_per_s"])
    few = await wire.echo(50, 10_000)
    many = await wire.echo(50, 100_000)
    say("flat", first_10_000_per_s=few["dialogues_per_s"], over_100_000_per_s=many["dialogues_per_s"],
        first_cpu_us=few["cpu_us"], over_cpu_us=many["cpu_us"])  # fmt: skip
    say("idle", links=100, **await wire.idle(100, 10.0))
    say("machine", processors=os.cpu_count(), load_average=os.getloadavg()[0])


async def outbox(database: Database, folder: Path, purchases: int, window: int) -> None:
    """The gateway's rate while a thousand replies wait in the outbox, and while a million do."""
    rates: dict[int, float] = {}
    for waiting in (1_000, 1_000_000):
        url = await _with_outbox(database, waiting)
        _, rates[waiting], _ = await run_gateway(database, folder, purchases, window, url)
        database.drop(url)
    say("outbox", database=database.kind, million_to_thousand=rates[1_000_000] / rates[1_000])


async def _with_outbox(database: Database, waiting: int) -> str:
    """A copy with so many replies owed to customers of a link that is down, each put off for an hour."""
    url, world = database.copy(), RealWorld()
    later = world.now() + timedelta(hours=1)
    store = await open_store(url)
    try:
        for start in range(0, waiting, 10_000):
            rows = [
                {"id": world.new_id(), "request_id": world.new_id(), "channel": "sms", "peer": "down",
                 "recipient": "254700000000", "sender": "1", "language": "en", "message": "help", "fields": "{}",
                 "state": "OWED", "owner": "node-9", "lease_until": later, "attempts": 1, "detail": None,
                 "ended_at": None}
                for _ in range(min(10_000, waiting - start))
            ]  # fmt: skip
            await store.transact(partial(_insert, rows=rows))
    finally:
        await store.close()
    return url


def _insert(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(tables.outbox.insert(), rows)


def main() -> int:
    """Run what the arguments ask for; 1 if something came out wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--purchases", type=int, default=20_000)
    parser.add_argument("--window", type=int, default=50, help="purchases under way at one time")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--meters", type=int, default=0, help="how large the utility is")
    parser.add_argument("--memory", action="store_true", help=f"memory over {_MEMORY_PURCHASES} purchases, instead")
    parser.add_argument("--bulk", type=int, default=0, metavar="METERS", help="import and export so many, instead")
    parser.add_argument("--start", action="store_true", help="time to the first bind, instead")
    parser.add_argument("--ussd", action="store_true", help=f"{_USSD_RATE} USSD steps a second, instead")
    parser.add_argument("--payments", action="store_true", help="payment callbacks and waiting orders, instead")
    parser.add_argument("--sessions", type=int, default=0, help="with --ussd: so many open sessions, and their sweep")
    parser.add_argument("--growth", action="store_true", help="a sale's cost as the books grow, instead")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="meters and past sales of --growth")
    parser.add_argument("--smpp", action="store_true", help="the wire without a database, instead")
    parser.add_argument("--outbox", action="store_true", help="a million replies waiting beside, instead")
    parser.add_argument("--folder", type=Path, default=None, help="where the databases lie: the disk that is timed")
    options = parser.parse_args()
    if options.smpp:
        asyncio.run(smpp(options.purchases))
        return 0
    kinds = ("sqlite", "postgresql") if options.database == "both" else (options.database,)
    try:
        with tempfile.TemporaryDirectory(prefix="prepaid-bench-", dir=options.folder) as folder:
            with postgres() if "postgresql" in kinds else nullcontext() as cluster:
                asyncio.run(run(options, Path(folder), {kind: cluster if kind != "sqlite" else None for kind in kinds}))
    except (RunFailed, PostgresFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
