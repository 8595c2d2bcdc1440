"""The wire by itself: the codec beside smpplib's, a link with an echo for an application beside a bare asyncio echo.

No database. The message centre is a process of its own that speaks prepared octets and does no more than count, so that
what is timed is the link. The bare echo does with the same packets, on the same sockets, the least that can be done: it
finds their borders and answers prepared octets.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import struct
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter, process_time
from typing import Any, Final

from smpplib.smpp import parse_pdu

from channels.smpp.codes import BIND_TRANSCEIVER, DELIVER_SM, SUBMIT_SM, UNBIND, UNBIND_RESP
from channels.smpp.link import Incoming, Link
from channels.smpp.message_centre import Account, CentreSettings, MessageCentre
from channels.smpp.pdu import Bind, BindResp, DeliverSm, MessageResp, SubmitSm, decode
from channels.smpp.settings import LinkSettings

_HEADER: Final = struct.Struct(">IIII")
_TEXT: Final = b"04012345676 500 thank you very"
_PHONE, _CODE = "256772123456", "20777"
_ROUNDS: Final = 5


def deliver_sm(sequence: int) -> bytes:
    """A usual request: a text of 30 characters, no optional parameters."""
    return DeliverSm(
        sequence, source_addr_ton=1, source_addr_npi=1, source_addr=_PHONE, destination_addr=_CODE, short_message=_TEXT
    ).encode()


# ------------------------------------------------------------------------------------------------ codec


def codec(count: int = 30_000) -> dict[str, float]:
    """Packets of deliver_sm decoded a second, checked; and smpplib's rate in the same minute."""
    frame, client = deliver_sm(7), _NoClient()

    def theirs() -> None:
        for _ in range(count // 10):
            parse_pdu(frame, client=client, allow_unknown_opt_params=True)

    def ours() -> None:
        for _ in range(count):
            decode(frame)

    ours_s, theirs_s = [], []
    for _ in range(_ROUNDS):
        ours_s.append(_seconds(ours))
        theirs_s.append(_seconds(theirs))
    return {"decodes_per_s": count / median(ours_s), "smpplib_decodes_per_s": count // 10 / median(theirs_s)}


class _NoClient:
    sequence = 0

    def next_sequence(self) -> int:
        return 1


def _seconds(work: Callable[[], None]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


# ------------------------------------------------------------------------------------------------ a message centre


class _Centre(asyncio.Protocol):
    """Delivers prepared messages, so many unanswered at one time, and answers what is submitted."""

    def __init__(self, told: Connection, dialogues: int, window: int) -> None:
        self._told = told
        self._left = self._to_send = dialogues
        self._window = window
        self._body = deliver_sm(0)[16:]
        self._held = b""
        self._sequence = 0
        self._sent_at: dict[int, float] = {}
        self._latencies: list[float] = []
        self._answer = MessageResp(SUBMIT_SM | 0x80000000, 0, 0, "0123456789").encode()[16:]
        self._began = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        held = self._held + data
        at, out = 0, []
        now = perf_counter()
        while len(held) - at >= 16:
            length, command, _, sequence = _HEADER.unpack_from(held, at)
            if len(held) - at < length:
                break
            if command == SUBMIT_SM:
                out.append(_HEADER.pack(16 + len(self._answer), SUBMIT_SM | 0x80000000, 0, sequence) + self._answer)
                self._left -= 1
                self._latencies.append(now - self._sent_at.pop(next(iter(self._sent_at))))
                if self._to_send:
                    out.append(self._next(now))
            elif command in (1, 2, 9):
                out.append(BindResp(command | 0x80000000, sequence, 0, "bench").encode())
                self._began = now
                out.extend(self._next(now) for _ in range(min(self._window, self._to_send)))
            elif command == UNBIND:
                out.append(_HEADER.pack(16, UNBIND_RESP, 0, sequence))
            at += length
        self._held = held[at:]
        if out:
            self._transport.write(b"".join(out))
        if not self._left and self._began:
            self._told.send((perf_counter() - self._began, sorted(self._latencies)))
            self._left = -1

    def _next(self, now: float) -> bytes:
        self._sequence += 1
        self._to_send -= 1
        self._sent_at[self._sequence] = now
        return _HEADER.pack(16 + len(self._body), DELIVER_SM, 0, self._sequence) + self._body


def _serve(told: Connection, dialogues: int, window: int) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Centre(told, dialogues, window), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await loop.create_future()

    asyncio.run(run())


async def _timed(dialogues: int, window: int, serve: Callable[[int], Any]) -> dict[str, float]:
    """What the centre measures while `serve(port)` runs, and the processor time of this process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, dialogues, window), daemon=True)
    process.start()
    try:
        port = await asyncio.to_thread(here.recv)
        task = asyncio.create_task(serve(port))
        cpu = process_time()
        elapsed_s, latencies = await asyncio.to_thread(here.recv)
        cpu = process_time() - cpu
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        process.kill()
        process.join()
    return {
        "dialogues_per_s": dialogues / elapsed_s,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "cpu_us": cpu / dialogues * 1e6,
    }


# ------------------------------------------------------------------------------------------------ those who are timed


def _settings(port: int, window: int) -> LinkSettings:
    return LinkSettings("bench", "127.0.0.1", port, "bench", "secret", window=window, registered_delivery=1)


async def _echo_by_link(port: int, window: int) -> None:
    """A link whose application acknowledges each message and sends it back; no receipt ever comes."""
    link = Link(_settings(port, window), random=lambda: 0.5)
    tasks: set[asyncio.Task[None]] = set()

    async def send_back(incoming: Incoming) -> None:
        message = incoming.message
        incoming.answer(0)
        await link.submit(
            SubmitSm(
                source_addr=message.destination_addr,
                dest_addr_ton=1,
                dest_addr_npi=1,
                destination_addr=message.source_addr,
                registered_delivery=1,
                short_message=message.octets,
            )
        )

    def take(incoming: Incoming) -> None:
        task = asyncio.create_task(send_back(incoming))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await link.run(take)


class _Bare(asyncio.Protocol):
    """The floor: borders of packets, and prepared octets for an answer."""

    def __init__(self) -> None:
        self._held = b""
        self._sequence = 1
        self._resp = b"\0"
        self._body = SubmitSm(
            0, source_addr=_CODE, dest_addr_ton=1, dest_addr_npi=1, destination_addr=_PHONE, registered_delivery=1,
            short_message=_TEXT,
        ).encode()[16:]  # fmt: skip

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(Bind(BIND_TRANSCEIVER, 1, "bench", "secret").encode())

    def data_received(self, data: bytes) -> None:
        held = self._held + data
        at, out = 0, []
        while len(held) - at >= 16:
            length, command, _, sequence = _HEADER.unpack_from(held, at)
            if len(held) - at < length:
                break
            if command == DELIVER_SM:
                self._sequence += 1
                out.append(_HEADER.pack(17, DELIVER_SM | 0x80000000, 0, sequence) + self._resp)
                out.append(_HEADER.pack(16 + len(self._body), SUBMIT_SM, 0, self._sequence) + self._body)
            at += length
        self._held = held[at:]
        if out:
            self._transport.write(b"".join(out))


async def _echo_bare(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(_Bare, "127.0.0.1", port)
    await loop.create_future()


async def echo(window: int, dialogues: int) -> dict[str, float]:
    """Whole dialogues a second: deliver_sm, its answer, a submit_sm, its answer."""
    return await _timed(dialogues, window, lambda port: _echo_by_link(port, window))


async def bare_echo(window: int, dialogues: int) -> dict[str, float]:
    """The same packets through the bare echo."""
    return await _timed(dialogues, window, _echo_bare)


async def idle(links: int, seconds: float) -> dict[str, float]:
    """The share of a core that idle links cost, both ends together: bound, and asking every 5 s (by default 30)."""
    centre = MessageCentre(CentreSettings(accounts=(Account("bench", "secret"),), enquire_link_s=0.0, inactivity_s=0.0))
    await centre.start()
    settings = replace(_settings(centre.port, 10), enquire_link_s=5.0)
    lines = [Link(settings, random=lambda: 0.5) for _ in range(links)]
    tasks = [asyncio.create_task(line.run(lambda incoming: incoming.answer(0))) for line in lines]
    try:
        while not all(line.is_up() for line in lines):
            await asyncio.sleep(0.01)
        began, cpu = perf_counter(), process_time()
        await asyncio.sleep(seconds)
        share = (process_time() - cpu) / (perf_counter() - began)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await centre.stop()
    return {"core_percent": share * 100}
