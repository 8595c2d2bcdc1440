"""Callbacks over real HTTP into the SMS channel: answered 200 only when stored, a repeat known by its id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp
import pytest

from channels.africastalking.callbacks import routes
from channels.africastalking.simulator import Fault
from channels.commands import Buy, Command, OptOut
from channels.contract import DeliveryReport, Inbound, NotStored
from channels.http.server import CallbackServer
from channels.sms import SmsChannel
from config.kinds import Secret
from config.settings import AfricasTalkingSettings
from tests.channels.africastalking.test_link import PHONE, account_settings, simulator
from tests.channels.books import PartsInMemory
from tests.channels.smpp.rig import until

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECRET = "s3cret-path-0123456789"


class Desk:
    """Takes what comes; away, it stores nothing."""

    def __init__(self) -> None:
        self.received: list[Inbound] = []
        self.away = 0

    async def receive(self, inbound: Inbound) -> None:
        if self.away:
            self.away -= 1
            raise NotStored("away")
        self.received.append(inbound)


class Reports:
    def __init__(self) -> None:
        self.kept: list[DeliveryReport] = []
        self.away = 0

    async def keep(self, report: DeliveryReport) -> None:
        if self.away:
            self.away -= 1
            raise NotStored("away")
        self.kept.append(report)


class Room:
    def __init__(self, base: str, desk: Desk, reports: Reports, refused: list[tuple[str, str]]) -> None:
        self.base = base
        self.desk = desk
        self.reports = reports
        self.refused = refused


def read(text: str) -> Command:
    return Buy(text.partition(" ")[0], 500, 1)


@asynccontextmanager
async def room(*, runs: bool = True, settings: AfricasTalkingSettings | None = None) -> AsyncIterator[Room]:
    desk, reports, refused = Desk(), Reports(), list[tuple[str, str]]()
    numbers = iter(range(1, 1_000))
    channel = SmsChannel(
        [],
        parse=read,
        render=lambda reply: "",
        keep_whole=lambda reply: [],
        now=lambda: NOW,
        new_reference=lambda: f"fresh{next(numbers)}",
        parts=PartsInMemory(lambda: NOW),
    )
    one = settings or account_settings(1, path_secret=Secret(SECRET))
    served = routes([one], channel, reports, on_refused=lambda name, why: refused.append((name, why)))
    server = CallbackServer("127.0.0.1", 0, served)
    await server.start()
    run = asyncio.create_task(channel.run(desk)) if runs else None
    await asyncio.sleep(0)
    try:
        yield Room(f"http://127.0.0.1:{server.port}/sms/at/{SECRET}", desk, reports, refused)
    finally:
        await server.stop()
        if run is not None:
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run


TEXT = {"id": "b7c9", "from": f"+{PHONE}", "to": "22345", "text": "04012345676 500"}
REPORT = {"id": "ATXid_1", "status": "Success", "phoneNumber": f"+{PHONE}"}


# fmt: off
@pytest.mark.parametrize(("path", "form", "status"), [
    ("",          TEXT,                                   200),
    ("",          {**TEXT, "id": ""},                     400),
    ("",          REPORT,                                 400),
    ("/reports",  REPORT,                                 200),
    ("/reports",  TEXT,                                   400),
    ("/optouts",  {"senderId": "1", "phoneNumber": "+" + PHONE}, 200),
    ("/optouts",  {},                                     400),
    ("/other",    TEXT,                                   404),
])
# fmt: on
async def test_each_address_takes_its_own_form_only(path: str, form: dict[str, str], status: int) -> None:
    async with room() as here, aiohttp.ClientSession() as client:
        async with client.post(here.base + path, data=form) as answer:
            assert answer.status == status
        assert len(here.desk.received) + len(here.reports.kept) == (status == 200)
        assert len(here.refused) == (status == 400)


async def test_a_text_becomes_a_request_that_its_repeat_is_known_by() -> None:
    async with room() as here, aiohttp.ClientSession() as client:
        for form in (TEXT, TEXT, {**TEXT, "text": "07003012213 500"}):
            async with client.post(here.base, data=form) as answer:
                assert (answer.status, await answer.text()) == (200, "")
        one, again, other = here.desk.received
        assert (one.channel, one.peer, one.reference) == ("sms", "at", "at:m:b7c9")
        assert (one.sender, one.destination, one.command) == (PHONE, "22345", Buy("04012345676", 500, 1))
        assert (again.reference, again.fingerprint) == (one.reference, one.fingerprint)
        assert other.fingerprint != one.fingerprint
        async with client.post(here.base + "/optouts", data={"phoneNumber": f"+{PHONE}"}) as answer:
            assert answer.status == 200
        assert here.desk.received[-1].command == OptOut()


async def test_nothing_is_acknowledged_that_is_not_stored() -> None:
    async with room() as here, aiohttp.ClientSession() as client:
        here.desk.away = here.reports.away = 1
        for path, form in (("", TEXT), ("/reports", REPORT)):
            for status in (503, 200):
                async with client.post(here.base + path, data=form) as answer:
                    assert answer.status == status
        assert len(here.desk.received) == len(here.reports.kept) == 1
    async with room(runs=False) as here, aiohttp.ClientSession() as client:
        async with client.post(here.base, data=TEXT) as answer:
            assert answer.status == 503, "the channel does not run yet"


def test_an_account_without_secret_and_addresses_takes_nothing() -> None:
    served = routes([account_settings(1)], None, None, on_refused=print)  # type: ignore[arg-type]
    assert served == []
    by_address = account_settings(1, addresses="10.0.0.0/8")
    served = routes([by_address], None, None, on_refused=print)  # type: ignore[arg-type]
    assert [route.path for route in served] == ["/sms/at", "/sms/at/reports", "/sms/at/optouts"]
    assert all(route.addresses for route in served)


async def test_the_simulator_calls_until_it_is_answered_and_commits_its_faults() -> None:
    async with room() as here, simulator(again_after_s=0.02, slow_s=0.05) as provider:
        provider.callback = here.base
        here.desk.away = 2
        provider.text(PHONE, "22345", "04012345676 500")
        await provider.quiet()
        assert (len(here.desk.received), provider.callbacks_refused) == (1, 2)
        provider.arm(Fault.REPEAT)
        provider.text(PHONE, "22345", "twice")
        await provider.quiet()
        assert len({each.reference for each in here.desk.received[-2:]}) == 1
        provider.arm(Fault.DELAY)
        provider.text(PHONE, "22345", "late")
        await provider.quiet()
        provider.arm(Fault.REORDER)
        provider.text(PHONE, "22345", "second")
        await asyncio.sleep(0)
        provider.text(PHONE, "22345", "first")
        await provider.quiet()
        last = [each.command for each in here.desk.received[-3:]]
        assert last == [read(text) for text in ("late", "first", "second")]
        provider.opt_out(PHONE)
        await until(lambda: here.desk.received[-1].command == OptOut())
