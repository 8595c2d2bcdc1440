"""The one door to the database: group commit for deeds, single transactions for the rest.

Deeds that arrive while a batch is being written go into the next one together: one transaction, a few set-based
statements, one fsync. Each caller is answered only after the commit that made its answer true. A batch that fails as a
whole is run again deed by deed, so that nobody pays for a neighbour; a deed that fails by itself gets its own
exception.

SQLite has one writer thread, PostgreSQL one writer task; both drive the same generator (`_attempt`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from ledger import batch, schema, tariffs
from ledger.pricing import Tariff
from ledger.sql import Insert, Read, Row, Update, convert_row
from ledger.unit import KeyUse, Need, Unit

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

log = logging.getLogger(__name__)


class Deed(Protocol[T_co]):
    """Something to be decided and written in a batch. Both methods may be called again after a failed attempt."""

    def need(self, need: Need) -> None:
        """Add the keys of what this deed wants to see."""

    def decide(self, unit: Unit) -> T_co:
        """Decide on what was read, owe what is to be written, and give the answer for after the commit."""


class Conflict(Exception):
    """The world was not as read: somebody else changed it meanwhile. The attempt is rolled back and made again."""


class QueueFull(Exception):
    """Too many deeds wait already; nothing was taken on."""


class StoreClosed(Exception):
    """The store was closed before the deed was written."""


@dataclass(slots=True)
class Observer:
    """What the store reports; the composition root connects it to the metrics and to the security modules.

    `keys` is told what the books allow the vending keys, and the stamp of it, whenever that has changed, before any
    deed of the batch that saw the change decides; on SQLite in the writer's thread.
    """

    batch: Callable[[int, float], None] = lambda size, seconds: None
    keys: Callable[[Sequence[KeyUse], int], None] = lambda uses, stamp: None


@dataclass(slots=True)
class _Known:
    """What batches keep from one to the next, with the stamps that say whether it is still so."""

    observer: Observer
    tariffs_stamp: int | None = None
    tariffs: dict[str, Tariff] = field(default_factory=dict)
    keys_stamp: int | None = None


@dataclass(slots=True)
class _Waiting(Generic[T]):
    deed: Deed[T]
    future: asyncio.Future[T]


@dataclass(slots=True)
class _Call(Generic[T]):
    function: Callable[[sa.Connection], T]
    future: asyncio.Future[T]


_Ask = tuple[Read, Sequence[Sequence[Any]]] | tuple[Insert | Update, list[Row]]
_Result = tuple[Any, BaseException | None]


def _attempt(deeds: Sequence[Deed[Any]], known: _Known) -> Generator[_Ask, Any, list[_Result]]:
    """One batch as questions and writes; what is sent in are rows or the count of changed rows."""
    need = Need()
    for deed in deeds:
        deed.need(need)
    unit: Unit = yield from batch.fill(need)
    # After the keys' table was read: from then on nobody changes a key before this batch has ended.
    stamps = {name: value for name, value in (yield batch.READ_STAMPS, [["tariffs", "vending_keys"]])}
    stamp = stamps.get("tariffs", 0)
    if stamp != known.tariffs_stamp:
        heads = yield batch.READ_TARIFFS, []
        versions = yield batch.READ_TARIFF_VERSIONS, []
        known.tariffs, known.tariffs_stamp = tariffs.parse_rows(heads, versions), stamp
    unit.tariffs = known.tariffs
    stamp = stamps.get("vending_keys", 0)
    if stamp != known.keys_stamp:
        uses = yield batch.READ_KEY_USES, []
        if unit.meters:
            yield from batch.read_key_limits(unit)  # the first look may have been a moment before the change
        known.observer.keys([KeyUse((row[0], row[1], row[2], row[3], row[4]), *row[5:]) for row in uses], stamp)
        known.keys_stamp = stamp
    results: list[_Result] = []
    for deed in deeds:
        mark = unit.mark()
        try:
            results.append((deed.decide(unit), None))
        except Exception as error:  # one deed's bug must not take its neighbours along; its caller gets the exception
            unit.rollback(mark)
            results.append((None, error))
    for statement, rows in batch.writes(unit):
        changed = yield statement, rows
        if isinstance(statement, Update) and not statement.loose and changed != len(rows):
            raise Conflict(f"{changed} of {len(rows)} rows changed")
    return results


def _noted(connection: sa.Connection, deed: Deed[T], note: Callable[[sa.Connection, T], object]) -> T:
    """One deed and what is noted of it, on a connection that has its transaction."""
    attempt, answer = _attempt([deed], _Known(Observer())), None
    driver: Any = connection.connection.driver_connection
    try:
        while True:
            statement, rows = attempt.send(answer)
            if connection.dialect.name == "sqlite":
                answer = _run_sqlite(driver, statement, rows)
            elif isinstance(statement, Read):
                found = connection.exec_driver_sql(statement.postgres, tuple(statement.arguments(rows)))
                answer = [tuple(row) for row in found]
            else:
                answer = connection.exec_driver_sql(statement.postgres, tuple(zip(*rows, strict=True))).rowcount
    except StopIteration as stop:
        ((result, error),) = stop.value
    if error is not None:
        raise error
    note(connection, result)
    return cast(T, result)


def _again(error: BaseException) -> bool:
    """Whether the same attempt may succeed on fresh reads: conflicts, lock time-outs, lost connections."""
    return isinstance(
        error,
        (
            Conflict,
            sqlite3.IntegrityError,
            sqlite3.OperationalError,
            asyncpg.UniqueViolationError,
            asyncpg.CheckViolationError,
            asyncpg.SerializationError,
            asyncpg.DeadlockDetectedError,
            asyncpg.PostgresConnectionError,
            asyncpg.InterfaceError,
            asyncpg.AdminShutdownError,
            asyncpg.CannotConnectNowError,
            asyncpg.ReadOnlySQLTransactionError,
            TimeoutError,
            ConnectionError,
            OSError,
        ),
    )


def _of_driver(error: BaseException) -> BaseException:
    """The driver's own error, where SQLAlchemy stands before it: its words for asyncpg's are errors of its own."""
    found = getattr(error, "orig", None) or error
    return found.__cause__ if isinstance(found.__cause__, asyncpg.PostgresError | asyncpg.InterfaceError) else found


_CONFLICTS_USUAL: Final = 3


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    # Two that meet are no trouble: one of them looks again. Only if that goes on does anybody need to know.
    has_met = isinstance(error, Conflict) and state.attempt_number < _CONFLICTS_USUAL
    level = logging.INFO if has_met else logging.WARNING
    log.log(level, "database attempt %d failed, trying again: %s", state.attempt_number, type(error).__name__)


_RETRY: dict[str, Any] = {
    "retry": retry_if_exception(_again),
    "wait": wait_random_exponential(multiplier=0.02, max=1),
    "stop": stop_after_attempt(6),
    "before_sleep": _log_retry,
    "reraise": True,
}


class Store:
    """What both databases offer. Use `open_store`."""

    def __init__(self, batch_max: int, queue_max: int, observer: Observer) -> None:
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._observer = observer
        self._queue: deque[_Waiting[Any] | _Call[Any]] = deque()
        self._known = _Known(observer)
        self._closed = False

    def tell_keys(self, told: Callable[[Sequence[KeyUse], int], None]) -> None:
        """From now on `told` hears what the books say of vending keys, in each batch that finds it changed."""
        self._observer.keys = told

    @property
    def waiting(self) -> int:
        """How many deeds wait for a batch."""
        return len(self._queue)

    async def submit(self, deed: Deed[T], *, is_urgent: bool = False) -> T:
        """The deed's answer, after its commit. Raises what `decide` raised, QueueFull, or the database's error.

        An urgent deed goes before all that wait. Only for what is right in any order, such as repeats and reversals.
        """
        if len(self._queue) >= self._queue_max:
            raise QueueFull(f"{self._queue_max} deeds wait")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Waiting(deed, future), is_urgent)
        return await future

    async def submit_noted(self, deed: Deed[T], note: Callable[[sa.Connection, T], object]) -> T:
        """The deed's answer; `note` is written in the same transaction, after it. For what operators do, not for sales.

        Raises what either of them raised, and then nothing is written.
        """
        tries = _RETRY["stop"].max_attempt_number
        while True:
            tries -= 1
            try:
                return await self.transact(lambda connection: _noted(connection, deed, note))
            except (Conflict, sa.exc.DBAPIError) as error:
                if not tries or not _again(_of_driver(error)):
                    raise
                log.warning("a deed is tried again: %s", type(error).__name__)

    async def transact(self, function: Callable[[sa.Connection], T]) -> T:
        """Run one function in a transaction of its own, in turn with the batches."""
        raise AssertionError("only the stores below are made")

    async def read(self, function: Callable[[sa.Connection], T]) -> T:
        """Run one function that only reads, beside the batches."""
        raise AssertionError("only the stores below are made")

    async def close(self) -> None:
        """Finish what waits, then let go of the database."""
        raise AssertionError("only the stores below are made")

    def _enqueue(self, item: _Waiting[Any] | _Call[Any], is_urgent: bool = False) -> None:
        if self._closed:
            raise StoreClosed("the store is closed")
        (self._queue.appendleft if is_urgent else self._queue.append)(item)
        self._wake()

    def _wake(self) -> None:
        raise AssertionError("only the stores below are made")

    def _take(self) -> list[_Waiting[Any]] | _Call[Any]:
        """The next batch: as many deeds as wait, up to the limit; or a single call."""
        first = self._queue.popleft()
        if isinstance(first, _Call):
            return first
        taken = [first]
        while self._queue and len(taken) < self._batch_max:
            following = self._queue[0]
            if isinstance(following, _Call):
                break
            taken.append(following)
            self._queue.popleft()
        return taken


def _answer(waiting: Sequence[_Waiting[Any] | _Call[Any]], results: Sequence[_Result]) -> None:
    for item, (value, error) in zip(waiting, results, strict=True):
        if item.future.done():  # its caller has stopped waiting; what was written stays written
            continue
        if error is None:
            item.future.set_result(value)
        elif isinstance(error, StopIteration):  # a future does not take this one
            item.future.set_exception(RuntimeError("a deed raised StopIteration"))
        else:
            item.future.set_exception(error)


class SqliteStore(Store):
    """The embedded database: a file, WAL, synchronous=FULL, one writer thread."""

    def __init__(self, path: str, batch_max: int, queue_max: int, observer: Observer) -> None:
        super().__init__(batch_max, queue_max, observer)
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._pending = threading.Event()
        self._connection = _sqlite_connection(path)
        self._engine = sa.create_engine(
            "sqlite://", creator=lambda: self._connection, poolclass=StaticPool, hide_parameters=True
        )
        sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        self._readers = sa.create_engine(
            "sqlite://", creator=lambda: _sqlite_connection(path), poolclass=NullPool, hide_parameters=True
        )
        self._thread = threading.Thread(target=self._write_for_ever, name="ledger-writer", daemon=True)
        self._thread.start()

    async def transact(self, function: Callable[[sa.Connection], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._enqueue(_Call(function, future))
        return await future

    async def read(self, function: Callable[[sa.Connection], T]) -> T:
        def run() -> T:
            with self._readers.connect() as connection:
                return function(connection)

        return await asyncio.to_thread(run)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._wake()
            await asyncio.to_thread(self._thread.join)
            self._readers.dispose()
            self._engine.dispose()
            self._connection.close()

    def _wake(self) -> None:
        self._pending.set()

    def _write_for_ever(self) -> None:
        while True:
            self._pending.wait()
            self._pending.clear()
            while self._queue:
                taken = self._take()
                if isinstance(taken, _Call):
                    items: list[Any] = [taken]
                    results = [self._call(taken.function)]
                else:
                    items = taken
                    results = self._write([item.deed for item in taken])
                self._loop.call_soon_threadsafe(_answer, items, results)
            if self._closed and not self._queue:
                return

    def _call(self, function: Callable[[sa.Connection], Any]) -> _Result:
        try:
            with self._engine.begin() as connection:
                return function(connection), None
        except Exception as error:  # handed to whoever called; the writer goes on
            return None, error

    def _write(self, deeds: Sequence[Deed[Any]]) -> list[_Result]:
        started = perf_counter()
        try:
            results = self._once(deeds) if len(deeds) > 1 else self._alone(deeds[0])
        except Exception as error:  # the batch as a whole failed: each deed by itself, so that the guilty one is found
            if len(deeds) == 1:
                return [(None, error)]
            log.warning("a batch of %d failed and is run deed by deed: %s", len(deeds), type(error).__name__)
            results = [result for deed in deeds for result in self._write([deed])]
        self._observer.batch(len(deeds), perf_counter() - started)
        return results

    def _alone(self, deed: Deed[Any]) -> list[_Result]:
        return Retrying(**_RETRY)(self._once, [deed])

    def _once(self, deeds: Sequence[Deed[Any]]) -> list[_Result]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            attempt = _attempt(deeds, self._known)
            answer: Any = None
            try:
                while True:
                    statement, rows = attempt.send(answer)
                    answer = _run_sqlite(connection, statement, rows)
            except StopIteration as stop:
                results = cast(list[_Result], stop.value)
            connection.execute("COMMIT")
            return results
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _sqlite_connection(path: str) -> sqlite3.Connection:
    # Tokens and phone numbers are in it: for this account only. The files beside it take their mode from it.
    # Only a file that is not there yet: to close a descriptor of a database that this process has open drops SQLite's
    # POSIX locks on it, and the next process to leave would take the log of writes away (sqlite.org/howtocorrupt.html).
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=512)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # NORMAL loses answered purchases in a power cut
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA cache_size=-16384")
    return connection


def _run_sqlite(connection: sqlite3.Connection, statement: Read | Insert | Update, rows: Any) -> Any:
    if isinstance(statement, Read):
        text, parameters = statement.sqlite(rows)
        found = connection.execute(text, parameters).fetchall()
        return [convert_row(statement.converts, row) for row in found] if statement.converts else found
    ready = [convert_row(statement.converts, row) for row in rows] if statement.converts else rows
    return connection.executemany(statement.sqlite, ready).rowcount


class PostgresStore(Store):
    """The database service: one writer task on one connection, a small pool for the rest."""

    def __init__(self, engine: AsyncEngine, batch_max: int, queue_max: int, observer: Observer) -> None:
        super().__init__(batch_max, queue_max, observer)
        self._engine = engine
        self._pending = asyncio.Event()
        self._pooled: Any = None
        self._prepared: dict[str, Any] = {}
        self._task = asyncio.create_task(self._write_for_ever(), name="ledger-writer")

    async def transact(self, function: Callable[[sa.Connection], T]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(function)

    async def read(self, function: Callable[[sa.Connection], T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(function)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._wake()
            await self._task
            await self._drop()
            await self._engine.dispose()

    def _wake(self) -> None:
        self._pending.set()

    async def _write_for_ever(self) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            while self._queue:
                taken = self._take()
                assert not isinstance(taken, _Call), "calls have connections of their own here"
                _answer(taken, await self._write([item.deed for item in taken]))
            if self._closed:
                return

    async def _write(self, deeds: Sequence[Deed[Any]]) -> list[_Result]:
        started = perf_counter()
        try:
            results = await self._once(deeds) if len(deeds) > 1 else await self._alone(deeds[0])
        except Exception as error:  # the batch as a whole failed: each deed by itself, so that the guilty one is found
            if len(deeds) == 1:
                return [(None, error)]
            log.warning("a batch of %d failed and is run deed by deed: %s", len(deeds), type(error).__name__)
            results = [result for deed in deeds for result in await self._write([deed])]
        self._observer.batch(len(deeds), perf_counter() - started)
        return results

    async def _alone(self, deed: Deed[Any]) -> list[_Result]:
        return await AsyncRetrying(**_RETRY)(self._once, [deed])

    async def _once(self, deeds: Sequence[Deed[Any]]) -> list[_Result]:
        if self._pooled is None:
            self._pooled = await self._engine.raw_connection()
            self._prepared = {}
        driver = self._pooled.driver_connection
        try:
            async with driver.transaction():
                attempt = _attempt(deeds, self._known)
                answer: Any = None
                while True:
                    try:
                        statement, rows = attempt.send(answer)
                    except StopIteration as stop:
                        return cast(list[_Result], stop.value)
                    answer = await self._run(driver, statement, rows)
        except BaseException as error:
            # After a time-out nobody knows what the connection is still doing; one that became read-only stays so.
            if driver.is_closed() or isinstance(error, (TimeoutError, asyncpg.ReadOnlySQLTransactionError)):
                await self._drop()
            raise

    async def _run(self, driver: Any, statement: Read | Insert | Update, rows: Any) -> Any:
        prepared = self._prepared.get(statement.postgres)
        if prepared is None:
            prepared = self._prepared[statement.postgres] = await driver.prepare(statement.postgres)
        if isinstance(statement, Read):
            return await prepared.fetch(*statement.arguments(rows))
        await prepared.fetch(*zip(*rows, strict=True))
        return int(prepared.get_statusmsg().rpartition(" ")[2])

    async def _drop(self) -> None:
        pooled, self._pooled = self._pooled, None
        if pooled is not None:
            try:
                pooled.invalidate()
            except Exception as error:  # it is broken already, which is why it goes
                log.info("dropping a broken connection: %s", type(error).__name__)


def postgres_engine(url: str, statement_timeout_s: int) -> AsyncEngine:
    """An engine over asyncpg for a postgresql:// URL."""
    parsed = sa.make_url(url)
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's word for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return create_async_engine(
        parsed.set(drivername="postgresql+asyncpg", query=query),
        pool_size=4,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "server_settings": {"statement_timeout": str(statement_timeout_s * 1000)},
            "command_timeout": statement_timeout_s + 5,  # for a server that is not even there to count
            "timeout": 10,
        },
    )


def sqlite_path(url: str) -> str:
    """The file of a sqlite:/// URL."""
    path = sa.make_url(url).database
    if not path or path == ":memory:":
        raise ValueError("a file is needed: sqlite:///PATH")
    return path


def is_sqlite(url: str) -> bool:
    """Whether the URL names the embedded database."""
    return sa.make_url(url).get_backend_name() == "sqlite"


async def open_store(
    url: str,
    *,
    batch_max: int = 256,
    queue_max: int = 10_000,
    statement_timeout_s: int = 30,
    observer: Observer | None = None,
) -> Store:
    """Open the database at this URL; DatabaseVersion if its schema is not the one this program knows."""
    watch = observer or Observer()
    store: Store
    if is_sqlite(url):
        path = sqlite_path(url)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        store = SqliteStore(path, batch_max, queue_max, watch)
    else:
        store = PostgresStore(postgres_engine(url, statement_timeout_s), batch_max, queue_max, watch)
    try:
        await store.read(schema.require_current)
    except BaseException:
        await store.close()
        raise
    return store


async def migrate(url: str, statement_timeout_s: int = 3600) -> tuple[str | None, str]:
    """Bring the schema to this program's version; the versions before and after. Refuses a newer one."""
    if is_sqlite(url):
        path = sqlite_path(url)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = _sqlite_connection(path)
        engine = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool, hide_parameters=True)
        sa.event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            with engine.begin() as begun:
                return schema.upgrade(begun)
        finally:
            engine.dispose()
            connection.close()
    engine_async = postgres_engine(url, statement_timeout_s)
    try:
        async with engine_async.begin() as begun_async:
            return await begun_async.run_sync(schema.upgrade)
    finally:
        await engine_async.dispose()
