"""The operators' HTTP server, asked over a real socket.

Covers: alive, ready and not, a check that raises, one that hangs, metrics, wrong paths and methods, no secrets, and
the server's own life.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from config.settings import HttpSettings
from gateway.health import Check, HealthServer
from gateway.metrics import Metrics

SECRET = "postgresql://u:hunter2@h/d"


async def _passes() -> bool:
    return True


async def _fails() -> bool:
    return False


async def _raises() -> bool:
    raise ConnectionError(SECRET)


async def _hangs() -> bool:
    await asyncio.Event().wait()
    return True


@asynccontextmanager
async def _server(checks: Mapping[str, Check], facts: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    server = HealthServer(HttpSettings(port=0), Metrics(), checks, facts, check_timeout_s=0.05)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def _ask(url: str, method: str = "GET") -> tuple[int, str, Mapping[str, str]]:
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        return response.status, await response.text(), response.headers


async def _ready(checks: Mapping[str, Check], facts: Mapping[str, str] | None = None) -> tuple[int, Any]:
    async with _server(checks, facts) as base:
        async with aiohttp.ClientSession() as session, session.get(f"{base}/readyz") as response:
            return response.status, await response.json()


@pytest.mark.asyncio
async def test_alive_is_answered_whatever_the_checks_say() -> None:
    async with _server({"books": _fails, "module": _hangs}) as base:
        status, body, headers = await _ask(f"{base}/healthz")
    assert (status, body) == (200, '{"status": "alive"}')
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.asyncio
async def test_ready_when_all_checks_pass_with_the_facts_beside() -> None:
    assert await _ready({"books": _passes, "module": _passes}, {"sts_tables": "sample"}) == (
        200,
        {"status": "ready", "checks": {"books": "ok", "module": "ok"}, "facts": {"sts_tables": "sample"}},
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("check", "state"), [(_fails, "failing"), (_raises, "failing"), (_hangs, "no answer in time")]
)  # fmt: skip
async def test_not_ready_when_one_check_does_not_pass(check: Check, state: str) -> None:
    assert await _ready({"books": _passes, "module": check}) == (
        503,
        {"status": "not ready", "checks": {"books": "ok", "module": state}, "facts": {}},
    )


@pytest.mark.asyncio
async def test_many_silent_checks_take_no_longer_than_one() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    status, _ = await _ready({f"check {number}": _hangs for number in range(40)})
    assert status == 503
    assert loop.time() - started < 1.5


@pytest.mark.asyncio
async def test_why_a_check_fails_goes_to_the_log_once_and_not_to_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with _server({"books": _raises}) as base:
        answers = [await _ask(f"{base}/readyz") for _ in range(3)]
    assert all("hunter2" not in body + str(headers) for _, body, headers in answers)
    assert [record.getMessage() for record in caplog.records if record.name == "gateway.health"] == [
        "check books: failing"
    ]


@pytest.mark.asyncio
async def test_metrics_are_in_prometheus_text_form() -> None:
    async with _server({}) as base:
        status, body, headers = await _ask(f"{base}/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE prepaid_queue_length gauge" in body


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/metrics/../etc/passwd", 404),
        ("POST", "/healthz", 405),
        ("DELETE", "/metrics", 405),
        ("PUT", "/readyz", 405),
        ("HEAD", "/healthz", 200),
    ],
)
async def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    async with _server({}) as base:
        assert (await _ask(base + path, method))[0] == status


@pytest.mark.asyncio
async def test_the_port_is_free_again_after_stop_and_stopping_twice_is_harmless() -> None:
    first = HealthServer(HttpSettings(port=0), Metrics(), {})
    await first.start()
    second = HealthServer(HttpSettings(port=first.port), Metrics(), {})
    with pytest.raises(OSError):
        await second.start()
    await first.stop()
    await first.stop()
    await second.start()
    await second.stop()
