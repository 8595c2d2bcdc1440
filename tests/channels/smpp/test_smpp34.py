"""A link against a message centre that is not ours: smpp34's Server (Rust), in a process of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from channels.contract import Outcome
from channels.smpp import codes
from channels.smpp.link import Incoming, Link
from channels.smpp.pdu import find_tlv
from tests.channels.smpp.rig import PATIENCE_S, PHONE, link_settings, running, submission, until

pytest.importorskip("smpp34")
pytestmark = pytest.mark.asyncio


class Witness:
    """The other process."""

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.port = port

    async def tells(self) -> list[Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        told: list[Any] = json.loads(line) if line else ["ended"]
        return told


@asynccontextmanager
async def witness(*texts: str) -> AsyncIterator[Witness]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("smpp34_centre.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), str(port), *texts, stdout=PIPE)
    try:
        other = Witness(process, port)
        assert await other.tells() == ["listening"]
        yield other
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_messages_and_replies_go_both_ways() -> None:
    heard: list[Incoming] = []

    def take(incoming: Incoming) -> None:
        heard.append(incoming)
        incoming.answer(codes.RX_T_APPN if incoming.message.octets == b"bad" else codes.ROK)

    async with witness("04012345676 500", "bad") as other:
        link = Link(link_settings(other.port), random=lambda: 0.5)
        async with running(link, take):
            assert await other.tells() == ["bound", "gateway", True]
            assert await other.tells() == ["answered", "04012345676 500", 0]
            assert await other.tells() == ["answered", "bad", codes.RX_T_APPN]
            assert [find_tlv(each.message.tlvs, 0x1400) for each in heard] == [b"04012345676 500", b"bad"]
            await until(link.is_up)
            results = await asyncio.gather(*(link.submit(submission(f"token {number}")) for number in range(20)))
            assert [result.outcome for result in results] == [Outcome.TAKEN] * 20
            # Its threads give submissions to its application in no particular order.
            assert {result.message_id for result in results} == {f"id-{number}" for number in range(1, 21)}
            told = sorted([await other.tells() for _ in range(20)])
            assert told == sorted(["submitted", PHONE, f"token {number}"] for number in range(20))
            refused = await link.submit(submission(f"reject {codes.RINVDSTADR}"))
            assert (refused.outcome, refused.detail) == (Outcome.NEVER, "ESME_RINVDSTADR")
            assert (await other.tells())[0] == "submitted"
        assert await other.tells() == ["unbound"]


async def test_a_pair_binds_as_transmitter_and_as_receiver_and_bears_a_nack_of_its_answer() -> None:
    heard: list[Incoming] = []

    def take(incoming: Incoming) -> None:
        heard.append(incoming)
        incoming.answer(codes.ROK)

    async with witness("500") as other:
        link = Link(link_settings(other.port, mode="pair"), random=lambda: 0.5)
        async with running(link, take):
            told = [await other.tells() for _ in range(2)]
            assert sorted(told) == [["bound", "gateway", False], ["bound", "gateway", True]]
            # smpp34 1.5.0 answers a receiver's deliver_sm_resp with generic_nack RINVCMDID (seen 2026-11-22).
            await until(lambda: heard and link.is_up())
            assert (await link.submit(submission())).outcome is Outcome.TAKEN
            assert set(link.states().values()) == {"bound"} and link.counts.sessions == 2
