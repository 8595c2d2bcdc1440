"""A run of matching: what lines are, page by page; what is missing here taken in; what is missing there. Shell.

A statement is the last word: a payment on it that our books do not have came in, whatever a callback said or did not
say, so it becomes an event of the payments, which vend or hold it in suspense. Nothing is lost if a run breaks off, and
nothing done twice if it is repeated: the payments know a receipt again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from gateway.world import World
from ledger import audit, statementmatch
from ledger.audit import Origin
from ledger.statementmatch import Fees, Missing, Page

Writing = Callable[[Callable[[Any], Any]], Awaitable[Any]]
Taking = Callable[[Missing], Awaitable[str]]
"""Tell the payments of money that a statement names; what came of it, in a word or a sentence."""


class Run:
    """One run over a source. `take`: how the payments are told; without it, what is missing here stays on the list."""

    def __init__(
        self,
        source: str,
        write: Writing,
        *,
        fees: Fees | None,
        zone: ZoneInfo,
        world: World,
        take: Taking | None = None,
    ) -> None:
        self._source = source
        self._write = write
        self._fees = fees
        self._zone = zone
        self._world = world
        self._take = take
        self.came_to: Counter[str] = Counter()  # what payments came to that the statement alone had told of

    async def all(self, booked_before: datetime, origin: Origin) -> dict[str, int]:
        """Everything that is to be done now; how many lines and payments came into each class.

        Payments booked before `booked_before` that no statement names are missing there.
        """
        classes: dict[str, int] = {}
        await self._left_before(classes)
        while True:
            page = await self._page()
            if not page.count:
                break
            self._count(classes, page.classes, 1)
            await self._taken(page.missing, classes)
        missed = await self._missing_there(booked_before)
        self._count(classes, {"MISSING_THERE": missed}, 1)
        if classes:
            counts = {name: count for name, count in classes.items() if count}
            await self._write(
                lambda connection: audit.note(
                    connection, origin, "settlement.matched", f"statement {self._source}", None, counts
                )
            )
        return classes

    async def _page(self) -> Page:
        page: Page = await self._write(
            lambda connection: statementmatch.match_page(
                connection, self._source, fees=self._fees, now=self._world.now()
            )
        )
        return page

    async def _taken(self, missing: tuple[Missing, ...], classes: dict[str, int]) -> None:
        """Tell the payments, then see what the lines are now."""
        if self._take is None or not missing:
            return
        for one in missing:
            detail = await self._take(one)
            self.came_to[detail] += 1
            await self._write(_noting(one, detail, self._world.now()))
        items = [one.item_id for one in missing]
        after = await self._again(items)
        self._count(classes, {"MISSING_HERE": len(items)}, -1)
        self._count(classes, after.classes, 1)

    async def _again(self, items: Sequence[UUID]) -> Page:
        page: Page = await self._write(
            lambda connection: statementmatch.match_again(
                connection, self._source, items, fees=self._fees, now=self._world.now()
            )
        )
        return page

    async def _left_before(self, classes: dict[str, int]) -> None:
        """What earlier runs could not take: of a source not set up then, a deposit not approved, a run broken off."""
        after: UUID | None = None
        while items := await self._write(_left(self._source, after)):
            after = items[-1]
            page = await self._again(items)
            self._count(classes, page.classes, 1)
            await self._taken(page.missing, classes)

    async def _missing_there(self, booked_before: datetime) -> int:
        missed = 0
        while True:
            looked, found = await self._write(
                lambda connection: statementmatch.find_missing_there(
                    connection,
                    self._source,
                    booked_before,
                    self._zone,
                    new_id=self._world.new_id,
                    now=self._world.now(),
                )
            )
            if not looked:
                return missed
            missed += found

    @staticmethod
    def _count(classes: dict[str, int], more: Any, sign: int) -> None:
        for name, count in more.items():
            classes[name] = classes.get(name, 0) + sign * count


def _noting(one: Missing, detail: str, now: datetime) -> Callable[[Any], None]:
    return lambda connection: statementmatch.note_taking(connection, one.item_id, detail, now)


def _left(source: str, after: UUID | None) -> Callable[[Any], list[UUID]]:
    return lambda connection: statementmatch.still_missing(connection, source, after)
