"""The desk where every channel comes: a request is stored, decided and its effects set going.

Shell: it hands deeds to the store, asks the security module where one must be waited for, passes replies to delivery,
and takes up what a crash left. It decides nothing about money.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from channels.contract import Inbound, NotStored, Reply
from gateway import keptkeys, tokens
from gateway.deeds import Arrival, Continue
from gateway.delivery import Owed
from gateway.metrics import Metrics
from gateway.pace import Pace
from gateway.pinproof import Prover
from gateway.purchase import WAITING, Event, State
from gateway.reversal import Answer, Reversal, Reverse, Reversed
from gateway.vend import Ask, Done, Shop
from ledger import purchases
from ledger.payment_rows import PaymentRow
from ledger.reasons import Reason
from ledger.store import Store
from sts.errors import Fault, StsError
from sts.modules.contract import KeyChangeRequest, ModuleRefused, ModuleSilent

log = logging.getLogger(__name__)

_PAGE = 500
_PROOFS_MAX = 5


class Outgoing(Protocol):
    """Where replies go after the commit that owes them."""

    def enqueue(self, replies: list[Reply]) -> None:
        """Take replies to be sent; never waits."""

    def withhold(self, request_id: UUID) -> list[Owed]:
        """Keep back the replies to this request that nobody was ever handed: none, unless they wait here."""
        return []

    def send_after_all(self, withheld: list[Owed]) -> None:
        """Let what was withheld go its way."""
        self.enqueue([owed.reply for owed in withheld])


class VendingDesk:
    """Satisfies `channels.contract.Desk`."""

    def __init__(self, shop: Shop, store: Store, outgoing: Outgoing, metrics: Metrics) -> None:
        self._shop = shop
        self._store = store
        self._outgoing = outgoing
        self._metrics = metrics
        customers = shop.settings.customers
        self._pace = Pace(customers.requests_per_sender_max, customers.sender_window_s)
        self.prover = Prover(shop.settings.pins, store, shop.world)
        self._going_on: dict[UUID, asyncio.Task[None]] = {}  # purchases that a task of this process is at
        self._ends: dict[UUID, asyncio.Future[None]] = {}  # purchases whose end somebody here waits for
        # Asks payers for money; without one the timetable does.
        self.collector: Callable[[PaymentRow], None] | None = None
        self._queued: defaultdict[UUID, deque[UUID]] = defaultdict(deque)  # service point -> purchases that wait

    async def receive(self, inbound: Inbound) -> None:
        """Return once the request and what came of it are stored; raise NotStored if they could not be."""
        metrics, channel = self._metrics, inbound.channel
        try:
            is_too_often = self._pace.is_too_often(inbound.sender, inbound.received_at)
            done = await self._decided(Arrival(self._shop, inbound, is_too_often))
        except Exception as error:  # whatever it was, nothing was stored: the peer must not be told otherwise
            log.exception("a request could not be stored", extra={"channel": channel, "peer": inbound.peer})
            metrics.not_stored(channel)
            raise NotStored(type(error).__name__) from error
        if done.replayed:
            metrics.replay(channel)
        else:
            metrics.request(channel, type(inbound.command).__name__)
            metrics.outcome(channel, done.reason)
        metrics.answered((self._shop.world.now() - inbound.received_at).total_seconds())
        self._after(done)

    async def _decided(self, arrival: Arrival) -> Done:
        """What came of a request, once it is stored. A PIN that it holds is looked at before, outside of the batch."""
        inbound, key = arrival.inbound, arrival.idem_key
        # Who asks too often is most likely refused: no work is done before that is known.
        proof = None if arrival.is_too_often else await self.prover.of_request(inbound, key)
        for _ in range(_PROOFS_MAX):
            done = await self._store.submit(replace(arrival, proof=proof))
            if not done.wants_proof:
                return done
            proof = await self.prover.of_request(inbound, key)
        raise RuntimeError("a PIN was changed again and again while it was looked at")

    async def reverse(self, asked: Reversal) -> Reversed:
        """What a reversal is answered, once that is stored; raise NotStored if it could not be."""
        withheld: list[Owed] = []
        try:
            purchase_id = await self._store.read(partial(purchases.id_of_request, key=asked.original))
            if purchase_id is not None:
                withheld = self._outgoing.withhold(purchase_id)
            unsent = frozenset(owed.reply.id for owed in withheld)
            while (result := await self._store.submit(Reverse(self._shop, asked, unsent))) is None:
                pass  # purchase and reversal met in one batch: the next one reads what became of the purchase
        except Exception as error:
            # Whether it was stored nobody knows: the peer asks again. What was withheld is sent, if it still is to be,
            # by whoever finds it in the outbox; from memory a sealed token might go out.
            log.exception("a reversal could not be stored", extra={"channel": asked.channel, "peer": asked.peer})
            self._metrics.not_stored(asked.channel)
            raise NotStored(type(error).__name__) from error
        if result.answer is not Answer.REVERSED:
            self._outgoing.send_after_all(withheld)
        self._metrics.request(asked.channel, "Reversal")
        self._metrics.outcome(asked.channel, result.reason)
        self._after(result.done)
        return result

    async def resume(self, *, at_start: bool) -> int:
        """Take up purchases that wait and that nobody here is at; how many."""
        now = self._shop.world.now()
        age = timedelta(0) if at_start else timedelta(seconds=self._shop.settings.purchase.give_up_s)
        left: list[UUID] = []
        # First those that others wait for: where the store has no room for all, these must not starve.
        for states in ([state.value for state in WAITING - {State.RECEIVED}], [State.RECEIVED.value]):
            after: UUID | None = None
            while True:
                page = await self._store.read(
                    partial(purchases.waiting, states=states, accepted_before=now - age, after=after, at_most=_PAGE)
                )
                left.extend(purchase_id for purchase_id in page if purchase_id not in self._going_on)
                if len(page) < _PAGE:
                    break
                after = page[-1]
        for point, queue in list(self._queued.items()):
            still = deque(purchase_id for purchase_id in queue if purchase_id not in left)
            if still:
                self._queued[point] = still
            else:
                del self._queued[point]
        for purchase_id in left:
            self._start(purchase_id, self._go_on(Continue(self._shop, purchase_id)))
        return len(left)

    def carry_on(self, done: Done) -> None:
        """Set going what a deed's commit has made true; for deeds that another shell has handed to the store."""
        self._after(done)

    def end_of(self, purchase_id: UUID) -> asyncio.Future[None]:
        """A future for when this purchase has a token or a refusal by a deed of this process; ask before the deed."""
        future = self._ends.get(purchase_id)
        if future is None:
            future = self._ends[purchase_id] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _: self._ends.pop(purchase_id, None))
        return future

    def go_on(self, purchase_id: UUID) -> None:
        """Look again at one purchase that waits, unless a task here is at it already."""
        self._start(purchase_id, self._go_on(Continue(self._shop, purchase_id)))

    async def close(self) -> None:
        """Stop asking modules; what is unfinished is stored and taken up at the next start."""
        tasks = list(self._going_on.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.prover.close()

    def _after(self, done: Done) -> None:
        """Set going what a deed's commit has made true."""
        if done.state is not None:
            self._metrics.purchase_entered(done.state)
            ended = self._ends.get(done.purchase_id) if done.purchase_id is not None else None
            if ended is not None and not ended.done() and done.state not in WAITING:
                ended.set_result(None)
        if done.is_fault:
            self._metrics.fault("desk")
        if done.replies:
            self._outgoing.enqueue(done.replies)
        if self.collector is not None:
            for payment in done.collects:
                self.collector(payment)
        for purchase_id, point in done.wait_for.items():
            if purchase_id not in self._queued[point]:
                self._queued[point].append(purchase_id)
        for ask in done.ask:
            self._start(ask.purchase_id, self._ask_module(ask))
        if done.freed is not None and (queue := self._queued.pop(done.freed, None)):
            following = queue.popleft()
            if queue:
                self._queued[done.freed] = queue
            self._start(following, self._go_on(Continue(self._shop, following)))

    def _start(self, purchase_id: UUID, work: Coroutine[Any, Any, None]) -> None:
        if purchase_id in self._going_on:
            work.close()
            return
        task = self._going_on[purchase_id] = asyncio.create_task(work)

        def ended(task: asyncio.Task[None]) -> None:
            if self._going_on.get(purchase_id) is task:
                del self._going_on[purchase_id]
            if not task.cancelled() and task.exception() is not None:
                log.error("a bug stopped a purchase where it stands", exc_info=task.exception())
                self._metrics.fault("desk")

        task.add_done_callback(ended)

    async def _go_on(self, deed: Continue) -> None:
        try:
            done = await self._store.submit(deed)
        except Exception:  # its state is stored; the timetable takes it up again
            log.exception("a purchase could not go on", extra={"purchase": str(deed.purchase_id)})
            self._metrics.fault("desk")
            return
        if self._going_on.get(deed.purchase_id) is asyncio.current_task():
            del self._going_on[deed.purchase_id]
        self._after(done)

    async def _ask_module(self, ask: Ask) -> None:
        """Ask for the tokens until they are there, refused, or the time is up; the same inputs give the same tokens."""
        settings = self._shop.settings.purchase
        left_s = (ask.expires_at - self._shop.world.now()).total_seconds()
        deadline_s = max(0.0, min(settings.give_up_s, left_s))
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(deadline_s):
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception_type(ModuleSilent),
                    wait=wait_exponential_jitter(multiplier=0.2, max=5),
                    stop=stop_after_delay(deadline_s),
                    reraise=True,
                ):
                    with attempt:
                        digits, makers = await self._make(ask)
            self._metrics.token_made(asyncio.get_running_loop().time() - asked_at)
            deed = Continue(self._shop, ask.purchase_id, Event.TOKEN_MADE, digits, makers)
        except (ModuleSilent, TimeoutError):
            log.warning("the security module did not answer in time", extra={"purchase": str(ask.purchase_id)})
            # Where outside money came in for it, it is asked on: its time is up only when the purchase's is.
            is_over = not ask.is_patient or self._shop.world.now() >= ask.expires_at
            deed = (
                Continue(self._shop, ask.purchase_id, Event.GAVE_UP, reason=Reason.MODULE_SILENT)
                if is_over
                else Continue(self._shop, ask.purchase_id, Event.MODULE_SILENT)
            )
        except StsError as error:
            log.error("the security module refused a token", extra={"fault": error.fault.name})
            deed = Continue(self._shop, ask.purchase_id, Event.TOKEN_REFUSED, reason=tokens.fault_reason(error))
        except Exception:  # a bug of the module's client; no token was shown, so the money goes back
            log.exception("the security module's client failed", extra={"purchase": str(ask.purchase_id)})
            self._metrics.fault("module")
            deed = Continue(self._shop, ask.purchase_id, Event.GAVE_UP, reason=Reason.MODULE_SILENT)
        await self._go_on(deed)

    async def _make(self, ask: Ask) -> tuple[list[str], list[str]]:
        """The tokens, and the module that made each."""
        digits, makers = list[str](), list[str]()
        for asked in ask.requests:
            # Credit is held against the dates of its own minute, which is stored; a set has none.
            now = ask.accepted_at if isinstance(asked.request, KeyChangeRequest) else None
            made = await keptkeys.made_later(
                self._shop.module, asked.request, now=now, first=asked.first, among=asked.among
            )
            digits.extend(made.digits)
            makers.extend([made.by] * len(made.digits))
        if len(digits) != ask.token_count:
            raise ModuleRefused(Fault.MODULE_MISMATCH, f"{ask.token_count} tokens expected, got {len(digits)}")
        return digits, makers
