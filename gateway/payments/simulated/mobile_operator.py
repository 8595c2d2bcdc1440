"""A simulated operator at work: it asks phones for PINs and calls the gateway back. Shell.

A request of a gateway puts a prompt on a phone; what its owner does ends it; then a callback says so, or is lost,
repeated, late or out of order. `idle` waits until nothing is under way any more, for tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import aiohttp

from gateway.payments.amounts import written
from gateway.payments.simulated.faults import Fault, Faults
from gateway.payments.simulated.wallets import End, Habit, Transaction, Wallets

log = logging.getLogger(__name__)

_CALLBACK_TIMEOUT_S: Final = 30.0
_PROMPTS_MAX: Final = 100_000


@dataclass(slots=True)
class Prompt:
    """A phone is asked for its PIN. `ended` is what came of it, once it has."""

    msisdn: str
    amount_minor: int
    merchant: str
    account_ref: str
    reference: str
    ended: asyncio.Future[End]
    transaction: Transaction | None = None
    typed: asyncio.Future[str] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A callback to be sent."""

    url: str
    body: Mapping[str, Any]
    method: str = "POST"


@dataclass(slots=True)
class MobileOperator:
    """Runs prompts and callbacks between `open` and `close`.

    `answer_after_s`: so long a payer takes; `expire_after_s`: so long a prompt stands; `delay_s`: so late a callback.
    """

    wallets: Wallets
    faults: Faults
    now: Callable[[], datetime]
    answer_after_s: float = 0.0
    expire_after_s: float = 60.0
    delay_s: float = 2.0
    on_prompt: Callable[[Prompt], None] | None = None
    # Where names of gateways lead, in place of a DNS: "https://pay.example" to "http://127.0.0.1:8081".
    hosts: dict[str, str] = field(default_factory=dict)
    sent: int = 0  # callbacks, repeats counted
    answered: list[int] = field(default_factory=list)  # the statuses that gateways answered them with
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _held: list[Call] = field(default_factory=list)
    _waiting: dict[str, list[Prompt]] = field(default_factory=dict)
    _client: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Take up connections."""
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CALLBACK_TIMEOUT_S))

    async def close(self) -> None:
        """Drop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that `idle` waits for."""
        assert len(self._tasks) < _PROMPTS_MAX, "too many prompts"
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a simulated payment met a bug", exc_info=task.exception())

    async def idle(self) -> None:
        """Wait until every prompt has ended and every callback is sent; those held back go out."""
        while self._tasks or self._held:
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            else:
                await self._release()

    # --- prompts ------------------------------------------------------------------------------------------------

    def prompt(
        self,
        msisdn: str,
        amount_minor: int,
        *,
        merchant: str,
        account_ref: str,
        reference: str,
        then: Callable[[Prompt], Awaitable[None]],
    ) -> Prompt:
        """Ask a phone; `then` is awaited when it has ended."""
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        prompt = Prompt(msisdn, amount_minor, merchant, account_ref, reference, ended)
        self.spawn(self._run(prompt, then))
        return prompt

    async def _run(self, prompt: Prompt, then: Callable[[Prompt], Awaitable[None]]) -> None:
        prompt.ended.set_result(await self._end(prompt))
        await then(prompt)

    async def _end(self, prompt: Prompt) -> End:
        phone = self.wallets.phone(prompt.msisdn)
        if phone.habit is Habit.OFF:
            return End.UNREACHABLE
        if self.on_prompt is not None:
            self.on_prompt(prompt)
        if phone.habit is Habit.SILENT:
            await asyncio.sleep(self.expire_after_s)
            return End.EXPIRED
        if phone.habit is Habit.BY_HAND:
            pin = await self._typed(prompt)
            if pin is None:
                return End.EXPIRED
            if pin == "":
                return End.DECLINED
            if pin != phone.pin:
                return End.WRONG_PIN
        else:
            await asyncio.sleep(self.answer_after_s)
            if phone.habit is Habit.DECLINE:
                return End.DECLINED
            if phone.habit is Habit.WRONG_PIN:
                return End.WRONG_PIN
        prompt.transaction = self.wallets.take(
            prompt.msisdn,
            prompt.amount_minor,
            self.now(),
            details="Payment by prompt",
            account_ref=prompt.account_ref,
            reference=prompt.reference,
        )
        return End.PAID if prompt.transaction is not None else End.NO_FUNDS

    async def _typed(self, prompt: Prompt) -> str | None:
        """What is typed on the phone; None if nobody does."""
        prompt.typed = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(prompt.msisdn, [])
        waiting.append(prompt)
        try:
            async with asyncio.timeout(self.expire_after_s):
                return await prompt.typed
        except TimeoutError:
            return None
        finally:
            waiting.remove(prompt)

    def waiting(self, msisdn: str) -> Prompt | None:
        """The prompt that stands on a phone's screen."""
        found = self._waiting.get(msisdn)
        return found[0] if found else None

    def asks(self, msisdn: str) -> str:
        """What a phone shows when it asks for a PIN; empty when it does not."""
        prompt = self.waiting(msisdn)
        return "" if prompt is None else f"{self.described(prompt)}\nEnter your PIN:"

    def described(self, prompt: Prompt) -> str:
        """A prompt in words."""
        amount = written(prompt.amount_minor, self.wallets.minor_digits)
        return f"Pay {amount} to {prompt.merchant}, account {prompt.account_ref}"

    def type(self, msisdn: str, pin: str) -> bool:
        """Type a PIN on a phone, or nothing to decline; whether it was asked for one."""
        prompt = self.waiting(msisdn)
        if prompt is None or prompt.typed is None or prompt.typed.done():
            return False
        prompt.typed.set_result(pin)
        return True

    # --- callbacks ----------------------------------------------------------------------------------------------

    def call_back(self, call: Call, forged: Call | None = None) -> None:
        """Send a callback, with what goes wrong on the way; `forged` is what a stranger would send before it."""
        self.spawn(self._send_with_faults(call, forged))

    async def _send_with_faults(self, call: Call, forged: Call | None) -> None:
        if forged is not None and self.faults.strikes(Fault.FORGE):
            await self.send(forged)
        if self.faults.strikes(Fault.LOSE):
            return
        if self.faults.strikes(Fault.REORDER):
            self._held.append(call)
            return
        if self.faults.strikes(Fault.DELAY):
            await asyncio.sleep(self.delay_s)
        for _ in range(3 if self.faults.strikes(Fault.REPEAT) else 1):
            await self.send(call)
        await self._release()

    async def _release(self) -> None:
        held, self._held = self._held, []
        for call in reversed(held):
            await self.send(call)

    async def send(self, call: Call) -> tuple[int, str] | None:
        """Send one callback now; status and body of the answer, None if there was none."""
        assert self._client is not None, "open the operator first"
        self.sent += 1
        url = call.url
        for name, place in self.hosts.items():
            if url.startswith(f"{name}/"):
                url = place + url.removeprefix(name)
        try:
            async with self._client.request(call.method, url, json=call.body) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("a simulated callback was not answered: %s", type(error).__name__)
            return None
        self.answered.append(response.status)
        return response.status, text
