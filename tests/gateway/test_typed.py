"""Lines for simulators from a pipe, and `prepaid simulate africastalking` as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.typed import on_lines
from tests.channels.smpp.rig import until
from tests.simulation.shop import AMINA


async def test_lines_that_come_at_once_or_in_pieces_are_each_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    heard: list[str] = []
    with os.fdopen(reading) as source:
        monkeypatch.setattr(sys, "stdin", source)
        on_lines(heard.append)
        os.write(writing, b"one\ntwo\r\n\nthr")
        await until(lambda: len(heard) == 3)
        os.write(writing, b"ee\n\xff\nlast")
        os.close(writing)
        await until(lambda: len(heard) == 6)
    assert heard == ["one", "two", "", "three", "\ufffd", "last"]


async def test_without_any_input_nothing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    on_lines(lambda line: None)


@asynccontextmanager
async def command(*options: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "simulate", "africastalking", *options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().rstrip()


async def test_the_command_serves_the_api_and_shows_what_phones_receive() -> None:
    async with command("--port", "0", PREPAID_SIMULATOR_KEY="k") as process, aiohttp.ClientSession() as client:
        serves = r"Africa's Talking's SMS API on (http://127\.0\.0\.1:\d+), user sandbox"
        found = re.fullmatch(serves, await said(process))
        assert found and await said(process) == (
            "no --callback: what phones send reaches nobody, and no reports are made"
        )
        assert process.stdin is not None
        process.stdin.write(b"nonsense\n")
        assert await said(process) == "PHONE SHORTCODE TEXT expected"
        form = {"username": "sandbox", "to": f"+{AMINA}", "message": "two\nlines", "bulkSMSMode": "1", "from": "22345"}
        for key, status in (("wrong", 401), ("k", 201)):
            url = f"{found[1]}/version1/messaging"
            async with client.post(url, data=form, headers={"apiKey": key}) as answer:
                assert answer.status == status
        assert [await said(process), await said(process)] == [f"{AMINA} < 22345: two", "    lines"]


@pytest.mark.parametrize("option", ["--fault=nonsense=1", "--fault=error=2", "--fault=error"])
async def test_a_fault_that_is_none_is_refused(option: str) -> None:
    async with command(option) as process:
        _, errors = await process.communicate()
        assert process.returncode == 2 and b"error" in errors
