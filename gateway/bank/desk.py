"""The desk for banks: orders are stored and decided, and what came of them is told. Shell.

Satisfies `channels.iso8583.flows.BankDesk`. It keeps nothing that another node would miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from channels.contract import NotStored
from channels.iso8583.codes import Outcome
from channels.iso8583.flows import (
    CutOverOrder,
    InquiryOrder,
    ReversalOrder,
    SaleOrder,
    Told,
    Totals,
    TotalsOrder,
    Withholding,
)
from channels.iso8583.keymodule import WrappedKey
from channels.iso8583.profile import Profile
from config.languages import Catalogue
from gateway.bank.deeds import ADVICE, Dialect, InquiryDeed, Sale, SaleDeed, key_of
from gateway.bank.takeback import TakeBack, TakenBack
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.reversal import Answer
from gateway.vend import Shop
from ledger import banks
from ledger.bank_batch import CHANNEL
from ledger.banks import KeyRow
from ledger.reasons import Reason
from ledger.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_S: Final = 1.0  # how often a purchase is looked at that another process may end
_LATE: Final = 2  # an answer later than so many of the bank's time-outs is not sent any more
_TRIES: Final = 10


class StoredBanks:
    """What banks ask, on the books."""

    def __init__(
        self,
        shop: Shop,
        store: Store,
        desk: VendingDesk,
        catalogue: Catalogue,
        profiles: Mapping[str, Profile],
        metrics: Metrics,
    ) -> None:
        self._shop: Final = shop
        self._store: Final = store
        self._desk: Final = desk
        self._dialects: Final = {name: Dialect(profile, catalogue) for name, profile in profiles.items()}
        self._metrics: Final = metrics

    async def have_accounts(self) -> None:
        """Have an account for each bank's money that is on its way."""
        currency, names = self._shop.settings.utility.currency, list(self._dialects)
        await self._store.transact(lambda connection: banks.have_accounts(connection, names, currency))

    async def sell(self, order: SaleOrder, on_first: Callable[[], None]) -> Told | None:
        """Decide a purchase, or what has become of it; None: not decided within the bank's patience, answer nothing."""
        deed = SaleDeed(self._shop, self._dialects[order.bank], order)
        # What was sold is told before what is to be sold, however many wait.
        is_urgent = not order.may_sell or order.function == ADVICE
        result = await self._stored(self._store.submit(deed, is_urgent=is_urgent), order.bank)
        is_first = result.look_at is None and not result.was_repeat
        if is_first:
            on_first()
        if result.look_at is not None:
            again = SaleDeed(self._shop, self._dialects[order.bank], order, seen=result.look_at)
            result = await self._stored(self._store.submit(again, is_urgent=True), order.bank)
        self._count(order, result, is_first)
        if result.waits_for is None:
            self._desk.carry_on(result.done)
            return result.told
        return await self._waited(order, result, result.waits_for, is_first)

    async def _waited(self, order: SaleOrder, result: Sale, purchase_id: UUID, is_first: bool) -> Told | None:
        """The answer, once the purchase has come to an end here or elsewhere."""
        dialect, loop = self._dialects[order.bank], asyncio.get_running_loop()
        deadline = loop.time() + _LATE * dialect.profile.timing.bank_timeout_s
        ended = self._desk.end_of(purchase_id)  # asked for before anything is set going
        self._desk.carry_on(result.done)
        deed = SaleDeed(self._shop, dialect, order, seen=purchase_id, is_first=is_first)
        while result.told is None:
            left_s = deadline - loop.time()
            if left_s <= 0:
                log.warning("bank %s: a purchase is not answered in time", order.bank, extra={"purchase": purchase_id})
                return None
            await asyncio.wait({ended}, timeout=min(_LOOK_S, left_s))
            if not ended.done():
                self._desk.go_on(purchase_id)  # a crash, or a busy service point, may have left it where it is
            result = await self._stored(self._store.submit(deed, is_urgent=True), order.bank)
            if ended.done() and result.told is None:
                ended = self._desk.end_of(purchase_id)
        return result.told

    def _count(self, order: SaleOrder, result: Sale, is_first: bool) -> None:
        if not is_first:
            self._metrics.replay(CHANNEL)
            return
        self._metrics.request(CHANNEL, "Buy")
        if result.told is not None:
            self._metrics.outcome(CHANNEL, result.told.why if isinstance(result.told.why, Reason) else None)
        self._metrics.answered((self._shop.world.now() - order.received_at).total_seconds())

    async def reverse(self, order: ReversalOrder, answers: Withholding) -> Told:
        """Undo a purchase, or say why not."""
        profile = self._dialects[order.bank].profile
        taken: TakenBack | None = None
        for _ in range(_TRIES):
            original = await self._stored(self._store.read(partial(_original, order=order)), order.bank)
            reference = original.removeprefix(f"{CHANNEL}|")
            is_unwritten = answers.withhold(reference)
            try:
                deed = TakeBack(self._shop, profile, order, original, is_unwritten)
                # It may overtake its own purchase, which then never vends.
                taken = await self._stored(self._store.submit(deed, is_urgent=True), order.bank)
            except BaseException:
                answers.drop(reference)  # whether it was taken back nobody knows: the books are asked again
                raise
            if taken is not None and taken.result.answer is Answer.REVERSED:
                answers.drop(reference)
            else:
                answers.send_after_all(reference)
            if taken is not None:
                break
        if taken is None:
            raise NotStored("a reversal found no purchase that stands still")
        self._metrics.request(CHANNEL, "Reversal")
        self._metrics.outcome(CHANNEL, taken.result.reason)
        self._desk.carry_on(taken.result.done)
        return taken.told

    async def inquire(self, order: InquiryOrder) -> Told:
        """Tell of a meter."""
        return await self._stored(self._store.submit(InquiryDeed(self._shop, order)), order.bank)

    async def cut_over(self, order: CutOverOrder) -> Told:
        """Begin a bank's business day; the same once more changes nothing."""
        day, now = order.business_date, self._shop.world.now()
        assert day is not None, "looked at before"
        is_new = await self._stored(
            self._store.transact(lambda connection: banks.cut_over(connection, order.bank, day, order.stan, now)),
            order.bank,
        )
        if is_new:
            log.info("bank %s: the business date is %s", order.bank, day.isoformat())
        return Told(Outcome.NETWORK_ACCEPTED)

    async def reconcile(self, order: TotalsOrder) -> Totals:
        """Compare totals of a business date, and keep both."""
        day, now = order.business_date, self._shop.world.now()
        assert day is not None, "looked at before"
        compare = partial(
            banks.reconcile,
            request_id=self._shop.world.new_id(),
            bank=order.bank,
            day=day,
            mti=order.mti,
            stan=order.stan,
            currency=order.currency,
            theirs=banks.Totals(order.purchases, order.purchases_minor, order.reversals, order.reversals_minor),
            their_net_minor=order.net_minor,
            now=now,
        )
        found = await self._stored(self._store.transact(compare), order.bank)
        if not found.in_balance:
            log.warning("bank %s: totals of %s are out of balance", order.bank, day.isoformat())
        ours = found.ours
        return Totals(
            ours.purchases, ours.purchases_minor, ours.reversals, ours.reversals_minor, ours.net_minor, found.in_balance
        )

    async def keep_key(self, bank: str, handle: str, zmk: str, wrapped: WrappedKey) -> UUID:
        """Keep a key as it came."""
        new_id, now = self._shop.world.new_id(), self._shop.world.now()
        row = KeyRow(new_id, bank, handle, zmk, wrapped.scheme, wrapped.cryptogram, wrapped.kcv, "OFFERED", now, None)
        await self._stored(self._store.transact(lambda connection: banks.keep_key(connection, row)), bank)
        return new_id

    async def settle_key(self, key_id: UUID, was_taken: bool) -> None:
        """Say what became of it."""
        state, now = "ACTIVE" if was_taken else "REFUSED", self._shop.world.now()
        try:
            await self._store.transact(lambda connection: banks.settle_key(connection, key_id, state, now))
        except Exception:  # it stays offered: a restart takes it beside the one in use, and the bank shows which it is
            log.exception("what became of a bank's key could not be noted")

    async def _stored(self, work: Awaitable[T], bank: str) -> T:
        """What the store gave; NotStored whatever went wrong with it."""
        try:
            return await work
        except Exception as error:  # whatever it was, the bank must not be told an outcome
            log.exception("a bank's request could not be stored", extra={"bank": bank})
            self._metrics.not_stored(CHANNEL)
            raise NotStored(type(error).__name__) from error


def _original(connection: Any, order: ReversalOrder) -> str:
    """The key of the request that a reversal means: its own original's, unless that is known under another."""
    key = key_of(order.reference)
    found = banks.original(connection, order.bank, [key], order.trace)
    return found[1] if found is not None else key
