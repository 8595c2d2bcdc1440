"""The desk of payments: asks payers for money, takes in what sources say, asks them how payments stand. Shell.

It decides nothing about money: `intake.py` does, one transaction a word. What is waited for stands in the database with
the moment when it is to be asked about, so that a restart forgets nothing and a hundred thousand orders that wait cost
one look into an index.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from channels.contract import NotStored
from channels.http.callback import Answer, Callback, NotReadable, networks
from channels.http.server import Route
from config.money import PaymentSettings
from config.provider_checks import path_of
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.payments import life
from gateway.payments.contract import (
    Asked,
    Can,
    Collect,
    Declined,
    Event,
    Forged,
    PaymentSource,
    PaymentState,
    Unclear,
    Unknown,
    Validation,
    Why,
)
from gateway.payments.intake import NOT_BELIEVED, Answered, Heard, Told, Validate
from gateway.payments.life import Said
from gateway.vend import Shop
from ledger import audit, payments_due, suspense
from ledger.audit import Origin
from ledger.payment_rows import PaymentRow
from ledger.store import Store
from ledger.suspense import Refund

log = logging.getLogger(__name__)

METHODS: Final = frozenset({"GET", "POST", "PUT"})
_LOOK_S: Final = 1.0
_ASK_LEASE_S: Final = 60.0
_AUDIT_EVERY_S: Final = 10.0
_COUNT_EVERY_S: Final = 60.0
_REFUNDS_AT_ONCE: Final = 10
_DESCRIPTION: Final = "electricity"


class _Place:
    """One source, and what is under way with it."""

    def __init__(self, settings: PaymentSettings, source: PaymentSource) -> None:
        self.settings = settings
        self.source = source
        self.gate = asyncio.Semaphore(settings.at_once_max)
        self.asking: set[asyncio.Task[None]] = set()
        self.polls_left = 0.0

    @property
    def room(self) -> int:
        """How many more may be under way."""
        return self.settings.at_once_max - len(self.asking)


class PaymentDesk:
    """Everything that waits on payment sources."""

    def __init__(
        self,
        shop: Shop,
        store: Store,
        desk: VendingDesk,
        sources: Sequence[tuple[PaymentSettings, PaymentSource]],
        metrics: Metrics,
    ) -> None:
        self._shop = shop
        self._store = store
        self._desk = desk
        self._metrics = metrics
        self._places = {settings.name: _Place(settings, source) for settings, source in sources}
        self._refused: Counter[tuple[str, str]] = Counter()  # not yet in the audit log
        desk.collector = self.collect

    # --- asking payers ------------------------------------------------------------------------------------------------

    def collect(self, payment: PaymentRow) -> None:
        """Ask a payer for money; the payment is stored. Never waits: what finds no room is left to the timetable."""
        place = self._places.get(payment.source)
        if place is not None and len(place.asking) < 4 * place.settings.at_once_max:
            self._start(place, self._collect(place, payment))

    def _start(self, place: _Place, work: Any) -> None:
        task = asyncio.create_task(work)
        place.asking.add(task)
        task.add_done_callback(partial(self._ended, place))

    def _ended(self, place: _Place, task: asyncio.Task[None]) -> None:
        place.asking.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a payment stands where it stood; the timetable goes on with it", exc_info=task.exception())
            self._metrics.fault("payments")

    async def _collect(self, place: _Place, payment: PaymentRow) -> None:
        order = Collect(
            payment.id, payment.payer, payment.amount_minor, payment.currency, payment.account_ref, _DESCRIPTION
        )
        answer = await self._asked(place, partial(place.source.collect, order))
        await self._answered(place, payment.id, "ASKED", answer)

    async def _asked(self, place: _Place, ask: Callable[[], Awaitable[Any]]) -> Any:
        """A source's answer; a bug of its client's is an answer that says nothing."""
        async with place.gate:
            try:
                return await ask()
            except Exception as error:  # a bug of the client's: whether it was heard is not known, so it is asked
                log.exception("the client of a payment source failed", extra={"source": place.settings.name})
                self._metrics.fault("payments")
                return Unclear(type(error).__name__)

    async def _answered(self, place: _Place, payment_id: UUID, how: str, answer: Any) -> None:
        settings = place.settings
        deed: Heard | Answered
        if isinstance(answer, Event):
            deed = Heard(self._shop, settings, how, answer, payment_id)
        else:
            said, why, ref = Said.UNCLEAR, None, ""
            if isinstance(answer, Asked):
                said, ref = Said.ASKED, answer.provider_ref
            elif isinstance(answer, Declined):
                said, why = Said.DECLINED, answer.why
            elif isinstance(answer, Unknown):
                said = Said.UNKNOWN
            detail = answer.detail if isinstance(answer, Declined | Unclear) else ""
            deed = Answered(self._shop, settings, how, payment_id, said, why, ref, detail)
        self._metrics.payment_said(settings.name, how, said.value if isinstance(deed, Answered) else answer.state.value)
        self._after(place, await self._store.submit(deed))

    def _after(self, place: _Place, told: Told) -> None:
        self._metrics.payment_came_to(place.settings.name, told.outcome)
        self._desk.carry_on(told.done)
        if told.ask_now is not None and Can.STATUS in place.source.can:
            self._start(place, self._ask(place, told.ask_now, ""))

    # --- what sources say ---------------------------------------------------------------------------------------------

    async def received(self, name: str, events: Sequence[Event]) -> None:
        """Return once what a source says is stored; raise NotStored if it could not be."""
        place = self._places[name]
        for event in events:
            self._metrics.payment_said(name, "CALLBACK", event.state.value)
            try:
                told = await self._store.submit(Heard(self._shop, place.settings, "CALLBACK", event))
            except Exception as error:  # whatever it was, nothing was stored: the source must call again
                log.exception("word of a payment could not be stored", extra={"source": name})
                self._metrics.not_stored("payment")
                raise NotStored(type(error).__name__) from error
            if told.outcome in NOT_BELIEVED:
                self.refused(f"payment:{name}", told.outcome)
            self._after(place, told)

    async def validate(self, name: str, asked: Validation) -> str:
        """Empty where money with this account reference would be placed, else why not."""
        return await self._store.submit(Validate(self._shop, self._places[name].settings, asked))

    def routes(self) -> list[Route]:
        """One route a source that takes callbacks: /payments/<name>, and /<path_secret> behind it if there is one."""
        return [
            Route(
                name=f"payment:{name}",
                path=path,
                methods=METHODS,
                handler=partial(self._callback, place),
                addresses=networks(place.settings.addresses),
            )
            for name, place in self._places.items()
            if (path := path_of(place.settings))
        ]

    async def _callback(self, place: _Place, callback: Callback) -> Answer:
        name, source = place.settings.name, place.source
        try:
            said = source.read(callback)
            if isinstance(said, Validation):
                why = await self.validate(name, said)
                return source.answer(callback, not why, why)
            await self.received(name, said)
        except (Forged, NotReadable) as fault:
            log.warning("a payment callback is not believed: %s", fault.why, extra={"source": name})
            self.refused(f"payment:{name}", fault.why)
            self._metrics.callback_refused(f"payment:{name}", fault.why)
            return source.answer(callback, False, fault.why)
        except NotStored:
            return Answer("busy", status=503, headers={"Retry-After": "5"})
        return source.answer(callback, True)

    def refused(self, route: str, why: str) -> None:
        """A callback was not taken, or not believed: a row of the audit log, with its like of the same moments."""
        self._refused[route, why] += 1

    async def _audit(self) -> None:
        taken, self._refused = self._refused, Counter()
        if not taken:
            return
        origin = Origin("", self._shop.world.now(), self._shop.settings.gateway.node)

        def write(connection: Any) -> None:
            for (route, why), count in sorted(taken.items()):
                after = {"why": why, "count": count}
                audit.note(connection, origin, "payments.callback_refused", route, None, after)

        try:
            await self._store.transact(write)
        except Exception:  # not noted yet: it is with the next
            self._refused.update(taken)
            raise

    # --- asking sources -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask how payments stand, by the timetable, for ever."""
        rounds = 0
        while True:
            for place in self._places.values():
                try:
                    await self.look(place.settings.name)
                except Exception:  # the database is away: the next round tries again
                    log.exception("payments could not be looked for", extra={"source": place.settings.name})
            try:
                await self.look_for_refunds()
                if rounds % round(_AUDIT_EVERY_S / _LOOK_S) == 0:
                    await self._audit()
                if rounds % round(_COUNT_EVERY_S / _LOOK_S) == 0:
                    await self._count()
            except Exception:  # the database is away: the next round tries again
                log.exception("refunds and counts of payments must wait")
            rounds += 1
            await asyncio.sleep(_LOOK_S)

    async def look(self, name: str) -> int:
        """Take up the payments of a source that are due, as many as the pace allows; how many."""
        place, now = self._places[name], self._shop.world.now()
        rate = place.settings.polls_per_s
        place.polls_left = min(place.polls_left + rate * _LOOK_S, max(1.0, rate))
        at_most = min(int(place.polls_left), place.room)
        if at_most <= 0:
            return 0
        due = await self._store.transact(
            partial(
                payments_due.claim,
                source=name,
                now=now,
                lease_until=now + timedelta(seconds=_ASK_LEASE_S),
                at_most=at_most,
            )
        )
        place.polls_left -= len(due)
        for payment in due:
            if life.is_over(payment.created_at, now):
                self._start(place, self._said(place, payment.id, Said.TIME_UP))
            elif Can.STATUS in place.source.can:
                self._start(place, self._ask(place, payment.id, payment.provider_ref))
            else:
                self._start(place, self._said(place, payment.id, Said.UNCLEAR))
        return len(due)

    async def _ask(self, place: _Place, payment_id: UUID, provider_ref: str) -> None:
        if not provider_ref:
            provider_ref = await self._store.read(partial(payments_due.provider_ref, payment_id=payment_id))
        answer = await self._asked(place, partial(place.source.status, payment_id, provider_ref))
        await self._answered(place, payment_id, "POLL", answer)

    async def _said(self, place: _Place, payment_id: UUID, said: Said) -> None:
        why = Why.EXPIRED if said is Said.TIME_UP else None
        deed = Answered(self._shop, place.settings, "CLOCK", payment_id, said, why)
        self._after(place, await self._store.submit(deed))

    # --- giving back --------------------------------------------------------------------------------------------------

    async def look_for_refunds(self) -> int:
        """Take up refunds that are due; how many. Each has a key of its own, so the source gives back once."""
        able = [name for name, place in self._places.items() if Can.REFUND in place.source.can]
        if not able:
            return 0
        now = self._shop.world.now()
        lease_until = now + timedelta(seconds=_ASK_LEASE_S)
        due = await self._store.transact(
            partial(suspense.claim_refunds, sources=able, now=now, lease_until=lease_until, at_most=_REFUNDS_AT_ONCE)
        )
        for refund in due:
            self._start(self._places[refund.source], self._refund(self._places[refund.source], refund))
        return len(due)

    async def _refund(self, place: _Place, refund: Refund) -> None:
        """Ask for it to be given back, or how that went; under the same key it is given back once."""
        source = place.source
        if refund.state == "OWED" and refund.tries == 0:
            ask = partial(source.refund, refund.id, refund.receipt, refund.payer, refund.amount_minor)
            answer = await self._asked(place, ask)
        else:
            answer = await self._asked(place, partial(source.refund_status, refund.id, refund.provider_ref))
            if isinstance(answer, Unknown):
                is_certain = answer.is_certain
                ask = partial(source.refund, refund.id, refund.receipt, refund.payer, refund.amount_minor)
                answer = await self._asked(place, ask)
                if isinstance(answer, Declined) and not is_certain:
                    # That is said of the repeat: the first may have given it back. Then a statement says so.
                    if not await self._store.read(partial(suspense.is_taken_back, item_id=refund.item_id)):
                        answer = Unclear(answer.detail)
        now = self._shop.world.now()
        self._metrics.payment_said(place.settings.name, "REFUND", type(answer).__name__.upper())
        why: str | None = None
        if isinstance(answer, Declined):
            why = answer.why.value
        elif isinstance(answer, Event) and answer.state in (PaymentState.FAILED, PaymentState.REVERSED):
            why = (answer.why or Why.REFUSED).value
        elif not (isinstance(answer, Event) and answer.state is PaymentState.SUCCESS):
            _, at = life.next_ask(refund.created_at, now, self._shop.world.chance())
            state, ref = "ASKED", answer.provider_ref if isinstance(answer, Asked) else ""
            if isinstance(answer, Unclear):
                state = "UNCLEAR"
            await self._store.transact(partial(self._refund_waits, refund.id, state, ref, at))
            return
        txn_id, today = self._shop.world.new_id(), self._shop.local(now).date()
        ends = partial(self._refund_ends, refund.id, why, txn_id, today, now, self._shop.settings.gateway.node)
        if await self._store.transact(ends) is suspense.Word.CONTRADICTS:
            log.error("a source says of a refund what people have decided otherwise", extra={"refund": str(refund.id)})

    @staticmethod
    def _refund_waits(refund_id: UUID, state: str, ref: str, at: datetime, connection: Any) -> None:
        suspense.refund_goes_on(connection, refund_id, state, ref, at)

    @staticmethod
    def _refund_ends(
        refund_id: UUID, why: str | None, txn_id: UUID, today: date, now: datetime, node: str, connection: Any
    ) -> suspense.Word:
        return suspense.refund_ended(connection, refund_id, why, txn_id, today, now, node)

    async def _count(self) -> None:
        now = self._shop.world.now()
        for one in await self._store.read(partial(payments_due.waiting, sources=list(self._places))):
            age_s = (now - one.oldest_at).total_seconds() if one.oldest_at is not None else 0.0
            self._metrics.payments_waiting(one.source, one.count, age_s)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while tasks := [task for place in self._places.values() for task in place.asking]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Let go of the sources; what is unfinished is stored, and taken up by the timetable."""
        tasks = [task for place in self._places.values() for task in place.asking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for place in self._places.values():
            await place.source.close()
        if self._refused:
            await self._audit()
