"""Time that jumps: an event loop that never waits, a clock and a world that live on it, and a store without a thread.

An hour of waiting passes in no time, and equal seeds give equal histories, because nothing here depends on the
machine: no threads, no sockets, no clock. A simulation in which nothing can happen any more raises `Stuck`.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool
from tenacity import Retrying

from gateway.world import uuid7
from ledger import store
from ledger.store import Deed, Observer, SqliteStore, Store

T = TypeVar("T")

START: Final = datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
_STILL_MAX: Final = 200_000  # rounds of the loop in one instant; a simulation needs some hundreds


class Stuck(Exception):
    """Nothing is ready and no timer is set, or time stands still: a real program would hang here."""


# --- time -------------------------------------------------------------------------------------------------------------


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for the next timer, move on to it. Sockets are never looked at: a simulation has none."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._still = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing is ready and no timer is set")
        if timeout > 0:
            self.now_s += timeout
            self._still = 0
        else:
            self._still += 1
            if self._still > _STILL_MAX:
                raise Stuck(f"{_STILL_MAX} rounds of the loop without a step of time")
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual seconds, beginning at zero. For `asyncio.Runner(loop_factory=JumpingLoop)`."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class Clock:
    """A machine's clock: it goes with the loop, and somebody may set it wrong."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = START) -> None:
        self._loop = loop
        self._start = start
        self.offset_s = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time() + self.offset_s)


class SimulatedWorld:
    """Satisfies `gateway.world.World` for one life of one process: like the real one, on a clock and chance of ours."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._last = 0

    def now(self) -> datetime:
        return self._clock.now()

    def new_id(self) -> UUID:
        self._last = max(int(self.now().timestamp() * 1000) << 12, self._last + 1)
        return uuid7(self._last >> 12, self._last & 0xFFF, self._chance.getrandbits(62))

    def nibble(self) -> int:
        return self._chance.getrandbits(4)

    def chance(self) -> float:
        return self._chance.random()

    def nonce(self, octets: int) -> bytes:
        return self._chance.randbytes(octets)


# --- the store --------------------------------------------------------------------------------------------------------

# What a commit does: it works; it fails, and nothing is stored; it is done, but its answer is lost, as when the
# connection to a database service breaks at that moment.
Commit = Literal["well", "fails", "unheard"]


class _Connection(sqlite3.Connection):
    """A connection whose commits go as `on_commit` says."""

    on_commit: Callable[[], Commit] | None = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql != "COMMIT" or self.on_commit is None:
            return super().execute(sql, parameters)
        how = self.on_commit()
        if how == "fails":
            raise sqlite3.OperationalError("simulated: the commit failed")
        cursor = super().execute(sql, parameters)
        if how == "unheard":
            raise sqlite3.OperationalError("simulated: the commit's answer was lost")
        return cursor


class Database:
    """A database in memory, a copy of a template, for any number of stores. It outlives the crashes of its users."""

    def __init__(self, template: sqlite3.Connection) -> None:
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=512, factory=_Connection
        )
        template.backup(self.connection)
        self.connection.execute("PRAGMA foreign_keys=ON")
        self.engine = sa.create_engine("sqlite://", creator=lambda: self.connection, poolclass=StaticPool)
        sa.event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    def read(self, function: Callable[[sa.Connection], T]) -> T:
        """What a function finds in the database, at once."""
        with self.engine.connect() as connection:
            return function(connection)

    def write(self, function: Callable[[sa.Connection], T]) -> T:
        """One transaction from outside, at once."""
        with self.engine.begin() as connection:
            return function(connection)

    def close(self) -> None:
        self.engine.dispose()
        self.connection.close()


class InlineStore(SqliteStore):
    """The store of one process, with the writer's own code but no thread: a batch is written in one step of the loop.

    `delay_s` says how long the next batch, or the answer to it, takes; `commit` how a commit goes. What is not yet
    written when the process dies is lost; what is written and not yet answered stays written.
    """

    def __init__(
        self,
        database: Database,
        *,
        batch_max: int,
        queue_max: int,
        delay_s: Callable[[], float],
        commit: Callable[[], Commit],
        written: Callable[[Sequence[str]], None],
    ) -> None:
        Store.__init__(self, batch_max, queue_max, Observer())  # not SqliteStore's: it starts the thread
        self._loop = asyncio.get_running_loop()
        self._database = database
        self._connection = database.connection
        self._engine = database.engine
        self._delay_s = delay_s
        self._commit = commit
        self._written = written
        self._next: asyncio.TimerHandle | None = None
        self._is_dead = False

    def die(self) -> None:
        """As kill -9: nothing more is written and nobody is answered."""
        self._is_dead = True
        self._queue.clear()

    async def read(self, function: Callable[[sa.Connection], T]) -> T:
        await asyncio.sleep(self._delay_s())
        if self._is_dead:
            raise asyncio.CancelledError
        return self._database.read(function)

    async def close(self) -> None:
        self._closed = True

    def _enqueue(self, item: Any, is_urgent: bool = False) -> None:
        if self._is_dead:
            raise asyncio.CancelledError
        super()._enqueue(item, is_urgent)

    def _wake(self) -> None:
        if self._next is None:
            self._next = self._loop.call_later(self._delay_s(), self._write_next)

    def _write_next(self) -> None:
        self._next = None
        if not self._queue:
            return
        taken: Any = self._take()
        if isinstance(taken, list):
            items = taken
            self._written([type(item.deed).__name__ for item in items])
            results = self._write([item.deed for item in items])
        else:
            items = [taken]
            results = [self._call(taken.function)]
        self._loop.call_later(self._delay_s(), self._tell, items, results)
        if self._queue:
            self._wake()

    def _tell(self, items: Any, results: Any) -> None:
        if not self._is_dead:
            store._answer(items, results)

    def _call(self, function: Callable[[sa.Connection], Any]) -> tuple[Any, BaseException | None]:
        how = self._commit()
        if how == "fails":
            return None, sqlite3.OperationalError("simulated: the database is away")
        answer = super()._call(function)
        return answer if how == "well" else (None, sqlite3.OperationalError("simulated: the answer was lost"))

    def _alone(self, deed: Deed[Any]) -> list[tuple[Any, BaseException | None]]:
        # As often as the real one tries, without its pauses: they would be real ones.
        return Retrying(**{**store._RETRY, "sleep": lambda seconds: None})(self._once, [deed])

    def _once(self, deeds: Sequence[Deed[Any]]) -> list[tuple[Any, BaseException | None]]:
        connection = self._database.connection
        connection.on_commit = self._commit
        try:
            return super()._once(deeds)
        finally:
            connection.on_commit = None
