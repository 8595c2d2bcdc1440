"""The desk of the USSD channel: a step is stored, then answered; tokens are waited for as long as the network waits.

Shell. It keeps nothing that another node would miss: only hints of what a session's next step will want to see.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from channels.ussd.steps import Page, Step
from config.languages import Catalogue
from config.settings import UssdSettings
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.pins import Proof
from gateway.ussd.knowledge import Hints
from gateway.ussd.step import CHANNEL, Outcome, StepDeed
from gateway.vend import Shop
from ledger.store import Store
from ledger.ussd import forget

log = logging.getLogger(__name__)

_HINTS_MAX: Final = 10_000
_LOOKS_MAX: Final = 8  # a step never needs more than its meter, sales, purchase, voucher and PIN looked up
_FORGOTTEN_AT_ONCE: Final = 500
_SWEEP_EVERY_S: Final = 10.0


class UssdDesk:
    """Answers steps of all services. Satisfies `channels.ussd.steps.Steps`."""

    def __init__(
        self,
        shop: Shop,
        store: Store,
        desk: VendingDesk,
        catalogue: Catalogue,
        services: Mapping[str, UssdSettings],
        metrics: Metrics,
    ) -> None:
        self._shop = shop
        self._store = store
        self._desk = desk
        self._catalogue = catalogue
        self._services = services
        self._metrics = metrics
        self._hints: OrderedDict[str, Hints] = OrderedDict()

    async def answer(self, step: Step, on_stored: Callable[[], None] = lambda: None) -> Page:
        """The screen for a step. Whatever goes wrong, the customer is told to wait, or to look.

        `on_stored` is called once the step is stored, which may be long before a token is there.
        """
        settings = self._services[step.service]
        try:
            outcome = await self._take(settings, step, self._hints.get(step.key, Hints()))
        except Exception:  # as a rule nothing was stored; but the word of a commit may have been lost on its way
            log.exception("a USSD step could not be stored", extra={"service": step.service})
            self._metrics.not_stored(CHANNEL)
            return self._sorry()
        on_stored()
        self._remember(step.key, outcome.hints)
        if outcome.was_repeat:
            self._metrics.replay(CHANNEL)
        elif outcome.done.purchase_id is not None:
            self._metrics.request(CHANNEL, "Buy")
            self._metrics.outcome(CHANNEL, outcome.done.reason)
        self._metrics.answered((self._shop.world.now() - step.received_at).total_seconds())
        if outcome.waits_for is None:
            self._desk.carry_on(outcome.done)
        else:
            ended = self._desk.end_of(outcome.waits_for)
            self._desk.carry_on(outcome.done)
            later = await self._token_in_time(settings, step, outcome, ended)
            if later is not None:
                return later
        assert outcome.page is not None
        return outcome.page

    async def _take(self, settings: UssdSettings, step: Step, hints: Hints) -> Outcome:
        proof: Proof | None = None
        for _ in range(_LOOKS_MAX):
            outcome = await self._store.submit(StepDeed(self._shop, settings, self._catalogue, step, hints, proof))
            if outcome.to_prove is not None:
                typed, new = outcome.to_prove
                proof = await self._desk.prover.prove(step.msisdn, typed, "", new)
            elif outcome.more is None:
                return outcome
            else:
                hints = hints.with_more(outcome.more)
        raise RuntimeError("a USSD step wanted to see more and more")

    async def _token_in_time(
        self, settings: UssdSettings, step: Step, outcome: Outcome, ended: asyncio.Future[None]
    ) -> Page | None:
        """The screen with the token, if the module gives it before the network's patience ends."""
        taken = (self._shop.world.now() - step.received_at).total_seconds()
        await asyncio.wait({ended}, timeout=max(0.0, settings.answer_within_s - taken))
        if not ended.done() or ended.cancelled():
            ended.cancel()
            return None
        try:
            # The same step once more is a repeat: it gets the screen of what the purchase has become.
            return (await self._take(settings, step, outcome.hints)).page
        except Exception:  # the order is stored and its SMS owed: the screen just says so
            log.exception("a USSD step was answered before its token", extra={"service": step.service})
            return None

    def _sorry(self) -> Page:
        language = self._shop.settings.utility.default_language
        return Page(self._catalogue.text("ussd_later", {}, language), is_end=True)

    def _remember(self, key: str, hints: Hints) -> None:
        self._hints[key] = hints
        self._hints.move_to_end(key)
        if len(self._hints) > _HINTS_MAX:
            self._hints.popitem(last=False)

    async def sweep(self) -> None:
        """Forget sessions that have expired, for ever; few at a time, so that nobody waits for it."""
        while True:
            try:
                expired = partial(forget, now=self._shop.world.now(), at_most=_FORGOTTEN_AT_ONCE)
                is_done = await self._store.transact(expired) < _FORGOTTEN_AT_ONCE
            except Exception:  # the database is away: the next round tries again
                log.exception("expired USSD sessions could not be forgotten")
                is_done = True
            await asyncio.sleep(_SWEEP_EVERY_S if is_done else 0)
