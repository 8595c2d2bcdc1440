"""The channel "bank": requests of banks' switches to the desk, and what it says back to them. Shell.

Each request is a task of its own, so that answers go out as they are ready, whatever the order in which requests came.
Nothing is answered before the desk has stored it. What cannot be stored is declined as BUSY only where nothing can have
come of it (an inquiry, totals); a purchase or reversal of unknown outcome is not answered at all: the bank repeats it.

While the answer to a purchase that this process has stored is under way, or could not be written, this module knows
that nobody has seen it; a reversal may rely on that (`withhold`). All others it takes for written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from traceback import extract_tb
from typing import Any, Final

from channels.contract import NotStored
from channels.iso8583 import flows
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import EncodeError, IsoError, KeyRefused
from channels.iso8583.flows import (
    Bank,
    BankDesk,
    CutOverOrder,
    InquiryOrder,
    ReversalOrder,
    SaleOrder,
    Told,
    TotalsOrder,
)
from channels.iso8583.keymodule import Use
from channels.iso8583.link import BankLinks, Connection
from channels.iso8583.requests import Reconciliation
from channels.iso8583.session import Came, KeyOffered
from ledger.reasons import Reason

log = logging.getLogger(__name__)

_KNOWN_MAX: Final = 20_000
_STOP_S: Final = 5.0


@dataclass(slots=True)
class BankObserver:
    """Whom the channel tells what it measures."""

    answered: Callable[[str, str, str, float], None] = lambda bank, asked, code, seconds: None
    unanswered: Callable[[str, str], None] = lambda bank, asked: None
    fault: Callable[[str], None] = lambda part: None
    late: Callable[[str, str], None] = lambda bank, asked: None


@dataclass(slots=True)
class _Answer:
    """What is known of the answer to a purchase that came to this process."""

    under_way: int = 0
    is_written: bool = True  # or may have been, by whoever stored the purchase
    drops: int = 0  # how often what was decided until then stopped being true
    free: asyncio.Event = field(default_factory=asyncio.Event)
    withheld: int = 0


class Answers:
    """Which answers this process has not written. Satisfies `flows.Withholding`."""

    def __init__(self, most: int = _KNOWN_MAX) -> None:
        self._known: OrderedDict[str, _Answer] = OrderedDict()
        self._most: Final = most

    def begin(self, reference: str) -> int:
        """A request of this key is being decided; what `may_write` is to be told of it."""
        answer = self._known.setdefault(reference, _Answer())
        self._known.move_to_end(reference)
        answer.under_way += 1
        if not answer.withheld:
            answer.free.set()
        while len(self._known) > self._most:
            # Who is forgotten counts as written.
            self._known.popitem(last=False)
        return answer.drops

    def first(self, reference: str) -> None:
        """This process has just stored the purchase, so nothing is written of it yet."""
        answer = self._known.get(reference)
        if answer is not None:
            answer.is_written = False

    def drops(self, reference: str) -> int:
        """How often answers of this key were dropped until now."""
        answer = self._known.get(reference)
        return answer.drops if answer is not None else 0

    async def may_write(self, reference: str, drops: int) -> bool:
        """Wait while the answer is withheld; from then on it counts as written.

        `drops` as they were before the answer was asked for. False: it was dropped since, so ask again. A request and
        its copies may be under way at once, and each of them has to.
        """
        while (answer := self._known.get(reference)) is not None and answer.withheld:
            await answer.free.wait()
        if answer is None:
            return True
        if answer.drops != drops:
            return False
        answer.is_written = True
        return True

    def was_not_written(self, reference: str) -> None:
        """There was no link to write the first answer on."""
        answer = self._known.get(reference)
        if answer is not None and answer.under_way == 1:
            answer.is_written = False

    def end(self, reference: str) -> None:
        """The request is done with."""
        answer = self._known.get(reference)
        if answer is None:
            return
        answer.under_way -= 1
        if not answer.under_way and answer.is_written:
            del self._known[reference]

    def withhold(self, reference: str) -> bool:
        """Keep back what this request is to be answered. True: nothing was written of it."""
        answer = self._known.get(reference)
        if answer is None:
            return False
        answer.withheld += 1
        answer.free.clear()
        return not answer.is_written

    def drop(self, reference: str) -> None:
        """What was withheld is never written: the purchase was taken back, or may have been."""
        answer = self._known.get(reference)
        if answer is not None:
            answer.drops += 1
            self.send_after_all(reference)

    def send_after_all(self, reference: str) -> None:
        """Let what was withheld go its way."""
        answer = self._known.get(reference)
        if answer is not None and answer.withheld:
            answer.withheld -= 1
            if not answer.withheld:
                answer.free.set()


class BankPeer:
    """One bank: its links, and what is under way on them."""

    def __init__(
        self,
        bank: Bank,
        desk: BankDesk,
        links: Callable[[BankPeer], BankLinks],
        *,
        now: Callable[[], datetime],
        local: Callable[[datetime], datetime],
        observer: BankObserver | None = None,
    ) -> None:
        self.bank: Final = bank
        self.answers: Final = Answers()
        self.is_paused = False
        """What is new is declined; whatever is known is answered, reversals and totals are taken."""
        self.links: Final = links(self)
        self._desk: Final = desk
        self._now: Final = now
        self._local: Final = local
        self._observer: Final = observer or BankObserver()
        self._tasks: dict[asyncio.Task[None], datetime] = {}

    @property
    def name(self) -> str:
        """The bank's name, as stored with its requests."""
        return self.bank.name

    @property
    def waiting(self) -> int:
        """How many requests wait for their answers."""
        return len(self._tasks)

    def oldest_unanswered_s(self) -> float:
        """For how long the oldest request has waited for its answer; 0 if none does."""
        oldest = min(self._tasks.values(), default=None)
        return max(0.0, (self._now() - oldest).total_seconds()) if oldest is not None else 0.0

    async def stop(self) -> None:
        """Say goodbye, write the answers that are owed, and close the links."""
        self.links.say_goodbye()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_STOP_S)
            for task in late:
                task.cancel()
            if late:
                log.warning("bank %s: %d requests are left without an answer", self.name, len(late))
                await asyncio.gather(*late, return_exceptions=True)
        await self.links.close()

    # --- told by links ------------------------------------------------------------------------------------------------

    def came(self, link: Connection, came: Came) -> None:
        """A request that is to be answered."""
        self._start(self._answered(link, came))

    def key_offered(self, link: Connection, offered: KeyOffered) -> None:
        """A new key: kept as it came, then taken, then said so."""
        self._start(self._take_key(link, offered))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = self._now()
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            # The type alone: the words of an unforeseen exception may hold what the bank sent.
            frames = extract_tb(fault.__traceback__)
            where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
            log.error("bank %s: a bug while a request was answered, %s at %s", self.name, type(fault).__name__, where)
            self._observer.fault("bank")

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _answered(self, link: Connection, came: Came) -> None:
        began, asked = self._now(), came.request.asked.value
        try:
            order = flows.order_of(self.bank, link.name, came.request, began, self._local(began))
        except IsoError as error:
            log.warning("bank %s: link %s: a message was refused: %s", self.name, link.name, error)
            self._write(link, came, Told(Outcome.FORMAT_ERROR), asked, began)
            return
        try:
            if isinstance(order, SaleOrder):
                await self._sell(link, came, order, asked, began)
                return
            told = await self._told(order, came)
        except NotStored:
            if isinstance(order, InquiryOrder | TotalsOrder):
                self._write(link, came, Told(Reason.BUSY), asked, began)
                return
            # Whether it was stored nobody knows. The bank hears nothing, and asks again.
            self._observer.unanswered(self.name, asked)
            return
        self._write(link, came, told, asked, began)

    async def _told(self, order: ReversalOrder | InquiryOrder | CutOverOrder | TotalsOrder, came: Came) -> Told:
        match order:
            case ReversalOrder():
                return await self._desk.reverse(order, self.answers)
            case InquiryOrder():
                return await self._desk.inquire(order)
            case CutOverOrder():
                return await self._desk.cut_over(order)
        assert isinstance(came.request, Reconciliation)
        return flows.totals_said(self.bank.profile, came.request, await self._desk.reconcile(order))

    async def _sell(self, link: Connection, came: Came, order: SaleOrder, asked: str, began: datetime) -> None:
        if self.is_paused:
            order = replace(order, may_sell=False, refused=order.refused or Reason.BUSY)
        drops, is_first = self.answers.begin(order.reference), False

        def on_first() -> None:
            nonlocal is_first
            is_first = True
            self.answers.first(order.reference)

        try:
            told = await self._sold(order, on_first)
            while told is not None and not await self.answers.may_write(order.reference, drops):
                drops = self.answers.drops(order.reference)
                told = await self._sold(order, on_first)
            if told is None:
                self._observer.unanswered(self.name, asked)
                return
            if not self._write(link, came, told, asked, began) and is_first:
                self.answers.was_not_written(order.reference)
        finally:
            self.answers.end(order.reference)

    async def _sold(self, order: SaleOrder, on_first: Callable[[], None]) -> Told | None:
        try:
            return await self._desk.sell(order, on_first)
        except NotStored:
            return None

    def _write(self, link: Connection, came: Came, told: Told, asked: str, began: datetime) -> bool:
        """Whether something was written, or may have been."""
        try:
            is_written = self.links.answer(link, came, told.why, told.said)
        except (EncodeError, KeyRefused) as error:
            log.error("bank %s: an answer cannot be written: %s", self.name, error)
            self._observer.fault("bank")
            if told.why is not Outcome.APPROVED:
                self.links.refuse(link, came, Outcome.MALFUNCTION)
                return True
            # It was sold, so the bank is not told no: it hears nothing, and asks again or takes it back.
            is_written = False
        if not is_written:
            log.warning("bank %s: link %s: no link to answer on", self.name, link.name)
            self._observer.unanswered(self.name, asked)
            return False
        code, taken_s = self.bank.profile.code(told.why), (self._now() - began).total_seconds()
        self._observer.answered(self.name, asked, code, taken_s)
        if taken_s > self.bank.profile.timing.bank_timeout_s:
            # Nobody waits for it any more: a repeat or a reversal comes.
            log.warning("bank %s: link %s: %s was answered late, after %.1f s", self.name, link.name, asked, taken_s)
            self._observer.late(self.name, asked)
        return True

    async def _take_key(self, link: Connection, offered: KeyOffered) -> None:
        rules, wrapped = self.bank.profile.network, offered.request.wrapped
        key_id = None
        if wrapped is not None and self.links.keys is not None:
            try:
                key_id = await self._desk.keep_key(self.name, rules.key_handle, rules.zmk_handle, wrapped)
            except NotStored:
                self._observer.unanswered(self.name, "key_change")
                return
            if not link.is_open:
                # The bank will not hear us: it may use either key, and shows by its next message which.
                try:
                    self.links.keys.install(rules.key_handle, Use.ZAK, wrapped, rules.zmk_handle)
                except KeyRefused as error:
                    log.error("bank %s: a new key is refused: %s", self.name, error)
                return
        if link.session is None:
            return
        refused = link.session.take_key(offered, self.links.moment())
        link.flush()
        if refused is not None:
            log.error("bank %s: a new key is refused: %s", self.name, refused)
        else:
            log.info("bank %s: a new key is in use", self.name)
        if key_id is not None:
            await self._desk.settle_key(key_id, refused is None)


class BankChannel:
    """All banks."""

    def __init__(self, peers: Sequence[BankPeer]) -> None:
        self.peers: Final = {peer.name: peer for peer in peers}

    async def start(self) -> None:
        """Listen where banks dial us."""
        for peer in self.peers.values():
            await peer.links.start()

    async def run(self) -> None:
        """Serve until cancelled; then write what is owed and leave."""
        try:
            async with asyncio.TaskGroup() as group:
                for peer in self.peers.values():
                    group.create_task(peer.links.run(), name=f"bank-{peer.name}")
        finally:
            await asyncio.gather(*(peer.stop() for peer in self.peers.values()))
