"""A link and a message centre on real sockets of this machine, with waits that are short, and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from channels.smpp import codes
from channels.smpp.link import Incoming, Link
from channels.smpp.message_centre import Account, CentreSettings, MessageCentre
from channels.smpp.pdu import SubmitSm
from channels.smpp.settings import LinkSettings

PHONE = "256772123456"
SHORT_CODE = "1234"
PATIENCE_S = 60.0  # for what takes a moment; a busy machine is no reason to fail


def link_settings(port: int, **changes: Any) -> LinkSettings:
    values: dict[str, Any] = {
        "name": "centre",
        "host": "127.0.0.1",
        "port": port,
        "system_id": "gateway",
        "password": "secret",
        "source_addr": SHORT_CODE,
        "reconnect_min_s": 0.02,
        "reconnect_max_s": 0.1,
        "throttle_pause_s": 0.02,
        "stop_grace_s": 2.0,
        **changes,
    }
    return LinkSettings(**values)


def centre_settings(**changes: Any) -> CentreSettings:
    values: dict[str, Any] = {"accounts": (Account("gateway", "secret"),), "redeliver_after_s": 0.1, **changes}
    return CentreSettings(**values)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so; fail if it takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  the things waited for have no event of their own
            await asyncio.sleep(0.002)


@asynccontextmanager
async def message_centre(**changes: Any) -> AsyncIterator[MessageCentre]:
    centre = MessageCentre(centre_settings(**changes))
    await centre.start()
    try:
        yield centre
    finally:
        await centre.stop()


@asynccontextmanager
async def running(
    link: Link, on_message: Callable[[Incoming], None] | None = None, **extra: Any
) -> AsyncIterator[Link]:
    """Run a link, and stop it as the program would."""
    task = asyncio.create_task(link.run(on_message or (lambda incoming: incoming.answer(codes.ROK)), **extra))
    try:
        yield link
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def linked(
    centre: MessageCentre, on_message: Callable[[Incoming], None] | None = None, **changes: Any
) -> AsyncIterator[Link]:
    """Run a link to this message centre, and wait until it is bound."""
    link = Link(link_settings(centre.port, **changes), random=lambda: 0.5)
    async with running(link, on_message):
        await until(link.is_up)
        await until(lambda: len(centre.bound) == (2 if link.settings.mode == "pair" else 1))
        yield link


def submission(text: str = "token", phone: str = PHONE) -> SubmitSm:
    return SubmitSm(source_addr=SHORT_CODE, destination_addr=phone, short_message=text.encode("ascii"))
