"""A bank's switch at the gateway: a thousand pipelined purchases on one link, then over thirty links at once.

While they are under way advices are sent too, of both kinds: of purchases that were sold before, and reversals of some
that never came. A run in which a purchase has no answer, not one token, or the token of another ends with an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from channels.iso8583 import shipped
from channels.iso8583.switch import BankSwitch, SwitchSettings
from channels.iso8583.switch_books import Fate, Sale, unresolved
from channels.iso8583.switch_messages import Terminal
from gateway.world import RealWorld
from tests.bench.load import RunFailed, message_centre, until_bound
from tests.bench.service import Service, free_port, write_settings
from tests.simulation.utility import Customer

LINKS: Final = (1, 30)
_WARM_UP: Final = 200
_ADVICE_EVERY_S: Final = 0.02
_PATIENCE_S: Final = 120.0
_AMOUNT_MINOR: Final = 50_000


class _Bank:
    """One switch, and how long everything took."""

    def __init__(self, switch: BankSwitch, everyone: Sequence[Customer], first: int) -> None:
        self.switch = switch
        self._everyone = everyone
        self._number = count(first)

    async def buy(self, purchases: int) -> tuple[list[Sale], list[float], float]:
        """All at once, each for another meter as far as there are; the sales, their times, and the whole time."""
        times: list[float] = []

        async def one(number: int) -> Sale:
            began = perf_counter()
            sale = await self.switch.buy(self._everyone[number % len(self._everyone)].drn, _AMOUNT_MINOR + number)
            times.append(perf_counter() - began)
            return sale

        began = perf_counter()
        sales = await asyncio.gather(*(one(next(self._number)) for _ in range(purchases)))
        return list(sales), times, perf_counter() - began

    async def advise(self, sold: Sequence[Sale]) -> list[float]:
        """Advices in turn until cancelled; their times."""
        times: list[float] = []

        async def timed(deed: Awaitable[Sale]) -> None:
            began = perf_counter()
            await deed
            times.append(perf_counter() - began)

        tasks: list[asyncio.Task[None]] = []
        try:
            for number in count():
                switch = self.switch
                if number % 2:
                    deed = switch.advise(sold[number % len(sold)])
                else:
                    never = switch.books.opened(switch.order(self._everyone[0].drn, _AMOUNT_MINOR))
                    deed = switch.reverse(never)
                tasks.append(asyncio.create_task(timed(deed)))
                await asyncio.sleep(_ADVICE_EVERY_S)
        except asyncio.CancelledError:
            await asyncio.gather(*tasks)
        return times


async def figures(url: str, folder: Path, everyone: Sequence[Customer], purchases: int) -> list[dict[str, Any]]:
    """One line for each number of links."""
    config, http_port, port = folder / "bank.toml", free_port(), free_port()
    sections: dict[str, Any] = {
        "bank": {
            "name": "bench",
            "currency": "404",
            "listen": f"127.0.0.1:{port}",
            "addresses": "127.0.0.0/8",
            "links_max": max(LINKS) + 2,
            "unanswered_max": 2 * purchases,
            "answer_within_s": _PATIENCE_S,
        },
        "purchase": {"just_bought_window_s": 0.0},
    }
    found = []
    async with message_centre(1) as centre:
        write_settings(config, url, centre.port, http_port, sections)
        with Service(config, http_port) as service:
            service.start()
            await until_bound(centre, service)
            for position, links in enumerate(LINKS):
                found.append(await _measured(port, links, everyone, purchases, position, service))
            if await service.stop() != 0:
                raise RunFailed(f"the gateway did not end well: {service.last_words()}")
    return found


async def _measured(
    port: int, links: int, everyone: Sequence[Customer], purchases: int, position: int, service: Service
) -> dict[str, Any]:
    world = RealWorld()
    switch = BankSwitch(
        SwitchSettings(
            port=port,
            links=links,
            answer_timeout_s=_PATIENCE_S,
            terminals=(Terminal(currency="404"),),
            first_stan=1 + position * 400_000,
        ),
        shipped.shipped(shipped.DEFAULT),
        now=world.now,
    )
    await switch.start()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await switch.ready(links)
        bank = _Bank(switch, everyone, position * (purchases + _WARM_UP))
        before, _, _ = await bank.buy(_WARM_UP)
        advising = asyncio.create_task(bank.advise([sale for sale in before if sale.fate is Fate.APPROVED]))
        await asyncio.sleep(0)
        cpu_s = service.cpu_s()
        sales, times, elapsed_s = await bank.buy(purchases)
        cpu_s = service.cpu_s() - cpu_s
        advising.cancel()
        advices = await advising
    finally:
        await switch.stop()
    _check([*before, *sales], switch)
    return {
        "links": links,
        "purchases": purchases,
        "purchases_per_s": purchases / elapsed_s,
        "p50_ms": _quantile_ms(times, 0.5),
        "slowest_ms": max(times) * 1e3,
        "gateway_cpu_us": cpu_s / purchases * 1e6,
        "advices": len(advices),
        "advice_p50_ms": _quantile_ms(advices, 0.5),
        "advice_slowest_ms": max(advices) * 1e3,
        "advices_within_1_s": max(advices) <= 1.0,
    }


def _check(sales: Sequence[Sale], switch: BankSwitch) -> None:
    wrong = [*switch.books.wrong, *(f"{sale.order.rrn}: not over" for sale in unresolved(switch.books))]
    tokens: list[str] = []
    for sale in sales:
        made = sale.heard.tokens if sale.heard is not None else ()
        if sale.fate is not Fate.APPROVED or len(made) != 1:
            wrong.append(f"{sale.order.rrn}: {sale.fate}, {len(made)} tokens")
        tokens += made
    if len(set(tokens)) != len(tokens):
        wrong.append("a token came twice")
    if wrong:
        raise RunFailed("; ".join(wrong[:5]))


def _quantile_ms(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1e3
