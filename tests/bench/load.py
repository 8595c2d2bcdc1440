"""The other side of the gateway: a message centre on the real wire, and phones that buy one after the other.

A purchase is one `deliver_sm` out and its receipt back in a `submit_sm`. So many purchases are under way at one time
as the window says; the next goes out when a receipt comes in (a closed loop).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from channels.smpp.message_centre import Account, CentreSettings, MessageCentre, ReceivedReply
from tests.bench.service import PASSWORD, REFERENCE_TLV, SYSTEM_ID, Service
from tests.simulation.utility import SHORT_CODE, Customer

STALLED_S: Final = 60.0  # without a single receipt in this time a run is broken off
_AMOUNT: Final = 500


class RunFailed(Exception):
    """The gateway did not do what it is timed at; figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How one run went: its whole time, and each purchase's."""

    elapsed_s: float
    latencies_s: list[float]

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


class Phones:
    """All phones of the utility, at one message centre. Purchase number n is made by customer n modulo their count."""

    def __init__(self, centre: MessageCentre, everyone: Sequence[Customer]) -> None:
        self._centre = centre
        self._everyone = everyone
        self._waiting: dict[str, float] = {}  # phone -> when its text went out
        self._receipts = [0] * len(everyone)
        self._number = {customer.msisdn: customer.number for customer in everyone}
        self._latencies_s: list[float] = []
        self._next = self._end = 0
        self._done: asyncio.Event = asyncio.Event()
        self._wrong: str | None = None
        centre.on_reply = self._take

    @property
    def bought(self) -> int:
        """How many purchases were asked for so far."""
        return self._next

    async def buy(self, purchases: int, window: int) -> Timing:
        """Make so many purchases more, at most `window` of them at one time."""
        self._latencies_s = []
        self._end = self._next + purchases
        self._done.clear()
        began = perf_counter()
        for _ in range(min(window, purchases)):
            self._send()
        seen = -1
        while not self._done.is_set():
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._done.wait()
            except TimeoutError:
                if len(self._latencies_s) == seen:
                    raise RunFailed(f"no receipt in {STALLED_S:.0f} s, {len(self._waiting)} are waited for") from None
            seen = len(self._latencies_s)
        if self._wrong is not None:
            raise RunFailed(self._wrong)
        return Timing(perf_counter() - began, self._latencies_s)

    def check(self) -> None:
        """Fail unless every purchase so far was answered by exactly one receipt."""
        count, size = self.bought, len(self._everyone)
        for number, receipts in enumerate(self._receipts):
            expected = count // size + (number < count % size)
            if receipts != expected:
                raise RunFailed(f"{self._everyone[number].msisdn}: {receipts} receipts for {expected} purchases")

    def _send(self) -> None:
        customer = self._everyone[self._next % len(self._everyone)]
        # Another amount each time round: the same one again would be asked about.
        amount = _AMOUNT + self._next // len(self._everyone)
        self._next += 1
        self._waiting[customer.msisdn] = perf_counter()
        self._centre.deliver(customer.msisdn, SHORT_CODE, f"{customer.drn} {amount}")

    def _take(self, reply: ReceivedReply) -> None:
        now = perf_counter()
        self._receipts[self._number[reply.destination]] += 1
        sent_at = self._waiting.pop(reply.destination, None)
        if sent_at is None or "Receipt " not in reply.text:
            self._wrong = self._wrong or f"{reply.destination}: not the receipt it waits for: {reply.text[:60]!r}"
            self._done.set()
            return
        self._latencies_s.append(now - sent_at)
        if self._next < self._end:
            self._send()
        elif not self._waiting:
            self._done.set()


@asynccontextmanager
async def message_centre(window: int) -> AsyncIterator[MessageCentre]:
    """A message centre that hands out up to `window` messages at one time, and keeps next to nothing."""
    centre = MessageCentre(
        CentreSettings(
            accounts=(Account(SYSTEM_ID, PASSWORD),),
            window=window,
            redeliver_after_s=30,
            id_tlv=REFERENCE_TLV,
            keep_replies=1,
        )
    )
    await centre.start()
    try:
        yield centre
    finally:
        await centre.stop()


async def until_bound(centre: MessageCentre, service: Service) -> None:
    """Wait until the gateway is bound."""
    while not centre.bound:
        if not service.is_running():
            raise RunFailed(f"the gateway has ended: {service.last_words()}")
        await asyncio.sleep(0.001)
