"""USSD over real HTTP: how fast a screen comes at a steady rate, and what very many open sessions cost.

Steps come at their times whether or not earlier ones are answered, as phones do: a slow answer delays nobody's key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from tests.bench.load import RunFailed, message_centre, until_bound
from tests.bench.service import Service, free_port, write_settings
from tests.simulation.utility import Customer

_SECRET: Final = "bench-0123456789abcdef"
_KEYS: Final = ("", "1", "1", "500", "1")  # dial, buy, the saved meter, the amount, pay
_OPENERS: Final = 50
_SESSION_S: Final = 20.0


class _Dialler:
    """Customers who dial and type, as Africa's Talking tells it."""

    def __init__(self, client: aiohttp.ClientSession, url: str, everyone: Sequence[Customer]) -> None:
        self._client = client
        self._url = url
        self._everyone = everyone
        self._sessions = 0
        self.tokens = 0

    async def step(self, session: str, customer: Customer, typed: Sequence[str]) -> float:
        """One step; the seconds until its screen was there."""
        form = {
            "sessionId": session,
            "phoneNumber": f"+{customer.msisdn}",
            "networkCode": "99999",
            "serviceCode": "*384*1#",
            "text": "*".join(typed),
        }
        began = perf_counter()
        body = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with self._client.post(self._url, data=body, headers=headers) as response:
            text = await response.text()
            if response.status != 200 or text[:4] not in ("CON ", "END "):
                raise RunFailed(f"a screen expected, got {response.status} {text[:40]!r}")
        self.tokens += text.startswith("END ") and "Token" in text
        return perf_counter() - began

    def next(self) -> tuple[str, Customer]:
        """A new session and whose it is."""
        self._sessions += 1
        return f"b{self._sessions}", self._everyone[self._sessions % len(self._everyone)]

    async def purchases(self, steps_per_s: int, seconds: float) -> list[float]:
        """Whole purchases by USSD, their steps at this rate in all; the time of each step."""
        loop, times, tasks = asyncio.get_running_loop(), list[float](), list[asyncio.Task[None]]()
        think_s = 1.0

        async def one(session: str, customer: Customer) -> None:
            typed: list[str] = []
            for at, key in enumerate(_KEYS):
                if at:
                    typed.append(key)
                began = perf_counter()
                times.append(await self.step(session, customer, typed))
                await asyncio.sleep(max(0.0, think_s - (perf_counter() - began)))

        began, every_s = loop.time(), len(_KEYS) / steps_per_s
        for number in range(int(seconds / every_s)):
            await asyncio.sleep(max(0.0, began + number * every_s - loop.time()))
            tasks.append(asyncio.create_task(one(*self.next())))
        await asyncio.gather(*tasks)
        return times

    async def open_sessions(self, count: int) -> float:
        """So many sessions at their second screen, as fast as they go; the seconds it took."""
        began, left = perf_counter(), iter(range(count))

        async def opener() -> None:
            for _ in left:
                session, customer = self.next()
                await self.step(session, customer, [])

        await asyncio.gather(*(opener() for _ in range(_OPENERS)))
        return perf_counter() - began


def _quantile_ms(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1e3


async def figures(
    url: str, folder: Path, everyone: Sequence[Customer], rate: int, seconds: float, sessions: int
) -> dict[str, Any]:
    """The steady rate, then the open sessions, then the steady rate while those are swept."""
    config, http_port, callback_port = folder / "ussd.toml", free_port(), free_port()
    sections: dict[str, Any] = {
        "callbacks": {"port": callback_port},
        "ussd": {
            "name": "menu",
            "kind": "africastalking",
            "path_secret_env": "PREPAID_BENCH_USSD",
            "session_s": _SESSION_S,
            "resume_s": _SESSION_S,
            "bought_shown_s": 0.0,
        },
        "purchase": {"just_bought_window_s": 0.0},
    }
    async with message_centre(1) as centre:
        write_settings(config, url, centre.port, http_port, sections)
        with Service(config, http_port, environment={"PREPAID_BENCH_USSD": _SECRET}) as service:
            service.start()
            await until_bound(centre, service)
            connector = aiohttp.TCPConnector(limit=500)
            async with aiohttp.ClientSession(connector=connector) as client:
                dialler = _Dialler(client, f"http://127.0.0.1:{callback_port}/ussd/menu/{_SECRET}", everyone)
                await dialler.purchases(rate, 2.0)
                cpu, tokens = service.cpu_s(), dialler.tokens
                times = await dialler.purchases(rate, seconds)
                found: dict[str, Any] = {
                    "steps_per_s": rate,
                    "steps": len(times),
                    "p50_ms": _quantile_ms(times, 0.5),
                    "p99_ms": _quantile_ms(times, 0.99),
                    "slowest_ms": max(times) * 1e3,
                    "gateway_cpu_us": (service.cpu_s() - cpu) / len(times) * 1e6,
                    "tokens": dialler.tokens - tokens,
                    "gateway_rss_mb": service.resident_mb(),
                }
                if found["tokens"] != len(times) // len(_KEYS):
                    raise RunFailed(f"{len(times) // len(_KEYS)} tokens expected, got {found['tokens']}")
                if sessions:
                    found |= await _open_and_swept(dialler, service.resident_mb, rate, sessions)
            if await service.stop() != 0:
                raise RunFailed(f"the gateway did not end well: {service.last_words()}")
    return found


async def _open_and_swept(
    dialler: _Dialler, resident_mb: Callable[[], float], rate: int, sessions: int
) -> dict[str, Any]:
    opened_s = await dialler.open_sessions(sessions)
    found = {"open_sessions": sessions, "opened_per_s": sessions / opened_s, "rss_with_them_mb": resident_mb()}
    await asyncio.sleep(max(0.0, 2 * _SESSION_S - 5))
    times = await dialler.purchases(rate, 15.0)  # while they are swept
    return {**found, "p99_while_swept_ms": _quantile_ms(times, 0.99), "slowest_while_swept_ms": max(times) * 1e3}
