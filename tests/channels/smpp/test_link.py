"""A link against the message centre on real sockets, and against peers that follow a script.

Covers: both modes, reconnecting, refused binds, the window, throttling, silence, refusals, cuts at every octet,
noise, TLS, and leaving in good order.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channels.contract import Outcome
from channels.smpp import codes
from channels.smpp.codes import Verdict
from channels.smpp.framing import Framer, read_header
from channels.smpp.link import Incoming, IncomingReceipt, Link
from channels.smpp.message_centre import Account, Fault, MessageCentre
from channels.smpp.pdu import Bare, BindResp, DeliverSm, MessageResp, SubmitSm
from tests.channels.smpp.rig import (
    PATIENCE_S,
    PHONE,
    SHORT_CODE,
    centre_settings,
    link_settings,
    linked,
    message_centre,
    running,
    submission,
    until,
)

pytestmark = pytest.mark.asyncio


# ------------------------------------------------------------------------------------------------ the usual


@pytest.mark.parametrize("mode", ["transceiver", "pair"])
async def test_a_message_goes_in_and_a_reply_goes_out(mode: str) -> None:
    heard: list[Incoming] = []
    async with message_centre() as centre, linked(centre, heard.append, mode=mode) as link:
        centre.deliver(PHONE, SHORT_CODE, "04012345676 500")
        await until(lambda: heard)
        assert heard[0].message.octets == b"04012345676 500"
        assert centre.unanswered == 1, "not acknowledged before it is stored"
        heard[0].answer(codes.ROK)
        heard[0].answer(codes.RX_T_APPN)  # the first answer counts
        await asyncio.wait_for(centre.drained(), PATIENCE_S)
        result = await link.submit(submission("your token"))
        assert result.outcome is Outcome.TAKEN and result.message_id
        assert (await centre.next_reply(PHONE)).text == "your token"
        assert set(link.states().values()) == {"bound"}
        assert (link.counts.messages, link.counts.acknowledged, link.counts.taken) == (1, 1, 1)
        assert centre.counts.put_off == 0


async def test_both_ends_write_without_delay() -> None:
    async with message_centre() as centre, linked(centre) as link:
        ends = [each._transport for each in link._connections.values()] + [each._transport for each in centre._peers]
        assert len(ends) == 2
        for transport in ends:
            assert transport is not None
            end = transport.get_extra_info("socket")
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_receipts_are_told_and_answered_by_whoever_takes_them() -> None:
    told: list[IncomingReceipt] = []
    async with message_centre(redeliver_after_s=60.0) as centre:
        link = Link(link_settings(centre.port), random=lambda: 0.5)
        async with running(link, None, on_receipt=told.append):
            await until(link.is_up)
            result = await link.submit(replace(submission(), registered_delivery=1))
            await until(lambda: told)
            assert [(one.receipt.message_id, one.receipt.about) for one in told] == [(result.message_id, PHONE)]
            assert centre.unanswered == 1, "only whoever stores a receipt acknowledges it"
            told[0].answer(codes.ROK)
            await asyncio.wait_for(centre.drained(), PATIENCE_S)
            assert link.counts.messages == 0


# ------------------------------------------------------------------------------------------------ sending


async def test_throttled_messages_are_sent_again_after_a_pause_in_their_order() -> None:
    async with message_centre() as centre, linked(centre, window=1) as link:
        centre.arm(Fault.THROTTLE, 2)
        centre.arm(Fault.QUEUE_FULL, 1)
        results = await asyncio.gather(*(link.submit(submission(str(number))) for number in range(5)))
        assert [result.outcome for result in results] == [Outcome.TAKEN] * 5
        assert [reply.text for reply in centre.messages_for(PHONE)] == ["0", "1", "2", "3", "4"]
        assert (link.counts.throttled, link.counts.submits) == (3, 8)


async def test_a_message_throttled_for_long_comes_back_as_later() -> None:
    async with message_centre() as centre, linked(centre, throttle_retries=2, throttle_pause_s=0.005) as link:
        centre.arm(Fault.THROTTLE, 100)
        result = await link.submit(submission())
        assert (result.outcome, result.command_status, result.detail) == (Outcome.LATER, 0x58, "ESME_RTHROTTLED")
        assert centre.counts.throttled == 3


# fmt: off
@pytest.mark.parametrize(("fault", "outcome", "detail"), [
    (Fault.REFUSE_SUBMIT, Outcome.NEVER, "ESME_RINVDSTADR"),
    (Fault.NACK_SUBMIT,   Outcome.LATER, "ESME_RSYSERR"),
    (Fault.SILENT_SUBMIT, Outcome.LATER, "outcome unknown, no response in time"),
])
# fmt: on
async def test_an_answer_is_told_by_its_class_and_the_link_goes_on(fault: Fault, outcome: Outcome, detail: str) -> None:
    async with message_centre() as centre, linked(centre, response_timeout_s=0.05, window=1) as link:
        centre.arm(fault)
        result = await link.submit(submission())
        assert (result.outcome, result.detail) == (outcome, detail)
        assert (await link.submit(submission())).outcome is Outcome.TAKEN
        assert link.counts.sessions == 1


async def test_a_slow_answer_is_waited_for() -> None:
    async with message_centre(slow_s=0.05) as centre, linked(centre) as link:
        centre.arm(Fault.SLOW_SUBMIT)
        assert (await link.submit(submission())).outcome is Outcome.TAKEN


async def test_a_link_may_read_a_status_in_its_own_way() -> None:
    verdicts = {codes.RINVDSTADR: Verdict.LATER}
    async with message_centre() as centre, linked(centre, verdicts=verdicts) as link:
        centre.arm(Fault.REFUSE_SUBMIT)
        assert (await link.submit(submission())).outcome is Outcome.LATER


async def test_a_message_that_cannot_be_written_is_never_sent() -> None:
    async with message_centre() as centre, linked(centre) as link:
        result = await link.submit(submission(phone="1" * 30))
        assert result.outcome is Outcome.NEVER and "destination_addr" in result.detail
        assert centre.counts.submits == 0


async def test_a_link_that_is_down_says_later_at_once() -> None:
    link = Link(link_settings(1), random=lambda: 0.5)
    assert not link.is_up()
    assert (await link.submit(submission())).outcome is Outcome.LATER
    async with running(link):
        assert (await link.submit(submission())).detail == "link down"


async def test_more_replies_than_may_wait_come_back_as_later() -> None:
    async with message_centre() as centre, linked(centre, window=1, max_queued=2, response_timeout_s=0.05) as link:
        centre.arm(Fault.SILENT_SUBMIT, 1)
        results = await asyncio.gather(*(link.submit(submission(str(number))) for number in range(5)))
        details = [result.detail for result in results]
        assert details.count("too many waiting") == 2 and details.count("") == 2


async def test_whoever_stops_waiting_does_not_stop_the_link() -> None:
    async with message_centre() as centre, linked(centre, window=1, response_timeout_s=0.1) as link:
        centre.arm(Fault.SILENT_SUBMIT)
        first, second = (asyncio.create_task(link.submit(submission(text))) for text in "12")
        await until(lambda: centre.counts.submits)
        first.cancel()
        second.cancel()
        assert (await link.submit(submission("3"))).outcome is Outcome.TAKEN
        assert [reply.text for reply in centre.messages_for(PHONE)] == ["1", "3"]


# ------------------------------------------------------------------------------------------------ scripted peers

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """A server whose every connection follows the script; gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def brief(port: int, **changes: Any) -> Link:
    """Make a link that does not wait for a script to answer its unbind."""
    return Link(link_settings(port, stop_grace_s=0.02, **changes), random=lambda: 0.5)


async def accept_bind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    length = int.from_bytes(await reader.readexactly(4), "big")
    header = await reader.readexactly(length - 4)
    command = int.from_bytes(header[:4], "big")
    writer.write(BindResp(command | 0x80000000, int.from_bytes(header[8:12], "big"), 0, "x").encode())
    await writer.drain()


async def test_the_window_is_never_exceeded() -> None:
    most = 0

    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        await accept_bind(reader, writer)
        framer, outstanding = Framer(), [0]

        def answer(sequence: int) -> None:
            outstanding[0] -= 1
            writer.write(MessageResp(codes.SUBMIT_SM_RESP, sequence, 0, "id").encode())

        while octets := await reader.read(65536):
            for frame in framer.feed(octets):
                outstanding[0] += 1
                most = max(most, outstanding[0])
                asyncio.get_running_loop().call_later(0.002, answer, read_header(frame)[2])

    async with scripted(answer_slowly) as port:
        link = brief(port, window=7)
        async with running(link):
            await until(link.is_up)
            results = await asyncio.gather(*(link.submit(submission(str(number))) for number in range(100)))
    assert {result.outcome for result in results} == {Outcome.TAKEN}
    assert most == 7


async def test_ten_messages_in_one_read_are_answered_in_one_write() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def deliver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_bind(reader, writer)
        writer.write(b"".join(DeliverSm(number, source_addr="1").encode() for number in range(1, 11)))
        while octets := await reader.read(65536):
            pieces.put_nowait(octets)

    async with scripted(deliver) as port, running(brief(port)):
        answers = Framer().feed(await asyncio.wait_for(pieces.get(), PATIENCE_S))
        assert [read_header(answer) for answer in answers] == [(codes.DELIVER_SM_RESP, 0, n) for n in range(1, 11)]


async def test_a_peer_that_reads_late_is_waited_for() -> None:
    async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_bind(reader, writer)
        await asyncio.sleep(0.05)
        framer = Framer()
        while octets := await reader.read(65536):
            for frame in framer.feed(octets):
                writer.write(MessageResp(codes.SUBMIT_SM_RESP, read_header(frame)[2], 0, "id").encode())

    long = ((codes.TLV_MESSAGE_PAYLOAD, bytes(60_000)),)
    async with scripted(read_late) as port, running(brief(port, window=50)) as link:
        await until(link.is_up)
        results = await asyncio.gather(*(link.submit(replace(submission(""), tlvs=long)) for _ in range(200)))
        assert {result.outcome for result in results} == {Outcome.TAKEN} and link.counts.sessions == 1


async def test_a_message_in_the_segment_of_the_bind_resp_is_taken() -> None:
    answered = asyncio.Event()

    async def both_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
        writer.write(BindResp(codes.BIND_TRANSCEIVER_RESP, 1, 0, "x").encode() + DeliverSm(1).encode())
        await reader.readexactly(17)
        answered.set()
        await reader.read()

    async with scripted(both_at_once) as port, running(brief(port)):
        await asyncio.wait_for(answered.wait(), PATIENCE_S)


async def test_a_message_centre_that_forgot_us_is_bound_anew() -> None:
    sessions = 0

    async def forget(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sessions
        sessions += 1
        first = sessions == 1
        await accept_bind(reader, writer)
        framer = Framer()
        while octets := await reader.read(65536):
            for frame in framer.feed(octets):
                status = codes.RINVBNDSTS if first else codes.ROK
                writer.write(MessageResp(codes.SUBMIT_SM_RESP, read_header(frame)[2], status).encode())

    async with scripted(forget) as port:
        link = brief(port)
        async with running(link):
            await until(link.is_up)
            assert (await link.submit(submission())).outcome is Outcome.LATER
            await until(lambda: sessions == 2 and link.is_up())
            assert (await link.submit(submission())).outcome is Outcome.TAKEN


async def test_a_peer_that_never_answers_the_bind_is_left_and_tried_again() -> None:
    connections = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()

    async with scripted(say_nothing) as port:
        async with running(brief(port, bind_timeout_s=0.02)):
            await until(lambda: connections >= 3)


async def test_a_silent_peer_is_asked_and_left() -> None:
    asked = 0

    async def hear_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await accept_bind(reader, writer)
        frame = await reader.readexactly(16)
        assert read_header(frame)[0] == codes.ENQUIRE_LINK
        asked += 1
        await reader.read()

    async with scripted(hear_and_say_nothing) as port:
        link = brief(port, enquire_link_s=0.02, response_timeout_s=0.03)
        async with running(link):
            await until(lambda: asked >= 2)
            assert link.counts.sessions >= 2


# ------------------------------------------------------------------------------------------- losing and coming back


async def test_a_link_comes_back_after_the_network_and_after_the_message_centre() -> None:
    async with message_centre() as centre, linked(centre) as link:
        centre.drop_connections()
        await until(lambda: link.counts.sessions == 2 and link.is_up())
        assert (await link.submit(submission("1"))).outcome is Outcome.TAKEN
        port = centre.port
        await centre.stop()
        await until(lambda: not link.is_up())
        centre.settings = replace(centre.settings, port=port)
        await centre.start()
        await until(link.is_up)
        assert (await link.submit(submission("2"))).outcome is Outcome.TAKEN


async def test_what_was_under_way_when_the_link_fell_is_later_with_its_outcome_unknown() -> None:
    async with message_centre() as centre, linked(centre, window=1) as link:
        centre.arm(Fault.SILENT_SUBMIT)
        tasks = [asyncio.create_task(link.submit(submission(text))) for text in "12"]
        await until(lambda: centre.counts.submits == 1)
        centre.drop_connections()
        sent, waiting = await asyncio.gather(*tasks)
        assert sent.outcome is Outcome.LATER and sent.detail.startswith("outcome unknown")
        assert waiting.outcome is Outcome.LATER and waiting.detail == "link down"


async def test_a_message_unanswered_when_the_link_fell_comes_again_on_the_next_bind() -> None:
    heard: list[Incoming] = []
    async with message_centre(redeliver_after_s=60.0) as centre, linked(centre, heard.append):
        centre.deliver(PHONE, SHORT_CODE, "500")
        await until(lambda: len(heard) == 1)
        centre.drop_connections()
        await until(lambda: len(heard) == 2)
        heard[0].answer(codes.ROK)  # to a connection that is gone
        heard[1].answer(codes.ROK)
        await asyncio.wait_for(centre.drained(), PATIENCE_S)


async def test_a_stream_cut_at_any_octet_loses_nothing() -> None:
    async with message_centre(redeliver_after_s=60.0) as centre:
        heard: set[bytes] = set()

        def take(incoming: Incoming) -> None:
            heard.add(incoming.message.octets)
            incoming.answer(codes.ROK)

        async with linked(centre, take, reconnect_min_s=0.001, reconnect_max_s=0.002) as link:
            for octets in (*range(0, 140, 7), 200, 300):
                connections = centre.counts.connections
                centre.cut_after(octets)
                for number in range(5):
                    centre.deliver(PHONE, SHORT_CODE, f"{octets} {number}")
                await asyncio.wait_for(centre.drained(), PATIENCE_S)
                if octets < 200:
                    await until(lambda before=connections: centre.counts.connections > before)  # type: ignore[misc]
                await until(link.is_up)
                assert {f"{octets} {number}".encode() for number in range(5)} <= heard


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.UNKNOWN_COMMAND, Fault.CUT, Fault.DUPLICATE, Fault.LOSE_ANSWER])
async def test_messages_survive_a_fault(fault: Fault) -> None:
    heard: set[bytes] = set()

    def take(incoming: Incoming) -> None:
        heard.add(incoming.message.octets)
        incoming.answer(codes.ROK)

    async with message_centre(redeliver_after_s=0.05) as centre, linked(centre, take) as link:
        for round_ in range(5):
            centre.arm(fault)
            for number in range(10):
                centre.deliver(PHONE, SHORT_CODE, f"{round_} {number}")
            await asyncio.wait_for(centre.drained(), PATIENCE_S)
        assert len(heard) == 50
        assert centre.counts.faults >= 5
        await until(link.is_up)
        if fault is Fault.UNKNOWN_COMMAND:
            assert link.counts.sessions == 1 and centre.counts.nacks == 5
        if fault is Fault.GARBAGE:
            assert link.counts.sessions > 1


async def test_a_message_centre_that_unbinds_us_gets_us_back() -> None:
    async with message_centre() as centre, linked(centre) as link:
        centre.unbind_all()
        await until(lambda: link.counts.sessions == 2 and link.is_up())
        assert (await link.submit(submission())).outcome is Outcome.TAKEN


# fmt: off
@pytest.mark.parametrize(("changes", "status"), [
    ({"password": "wrong"},   "ESME_RINVPASWD"),
    ({"system_id": "nobody"}, "ESME_RINVSYSID"),
])
# fmt: on
async def test_a_bind_refused_for_good_raises_an_alarm_and_is_tried_slowly_for_ever(
    changes: dict[str, str], status: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with message_centre() as centre:
        settings = link_settings(centre.port, reconnect_min_s=0.0001, reconnect_max_s=0.06, **changes)
        async with running(Link(settings, random=lambda: 0.0)) as link:
            await until(lambda: centre.counts.binds_refused >= 2)
            assert not link.is_up()
            alarms = [record for record in caplog.records if record.levelno == logging.ERROR]
            assert alarms and status in alarms[0].getMessage()
            assert "again in 0.0" in alarms[0].getMessage() and centre.counts.binds_refused <= 3
            # Somebody mends the account.
            for system_id in ("gateway", "nobody"):
                centre._queues[system_id] = type(centre._queues["gateway"])(Account(system_id, settings.password))
            await until(link.is_up)
    assert "wrong" not in caplog.text and "secret" not in caplog.text


async def test_a_bind_refused_for_now_is_tried_again() -> None:
    async with message_centre() as centre:
        centre.arm(Fault.REFUSE_BIND, 2)
        async with linked(centre) as link:
            assert centre.counts.binds_refused == 2 and link.counts.sessions == 1


async def test_pauses_double_from_the_shortest_to_the_longest_with_jitter(caplog: pytest.LogCaptureFixture) -> None:
    chances = iter([1.0, 0.0] * 50)
    settings = link_settings(1, reconnect_min_s=0.002, reconnect_max_s=0.016)
    async with running(Link(settings, random=lambda: next(chances))):
        await until(lambda: len(caplog.records) >= 6)
    pauses = [record.args[2] for record in caplog.records[:6] if isinstance(record.args, tuple)]
    assert pauses == [0.002, 0.002, 0.008, 0.008, 0.016, 0.008]


async def test_a_bug_does_not_end_a_link_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    chances = iter([ZeroDivisionError()])

    def random() -> float:
        for fault in chances:
            raise fault
        return 0.5

    async with message_centre() as centre:
        centre.arm(Fault.REFUSE_BIND)
        async with running(Link(link_settings(centre.port), random=random)) as link:
            await until(link.is_up)
    assert "a bug" in caplog.text


# ------------------------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize("mode", ["transceiver", "pair"])
async def test_a_link_that_stops_answers_what_is_being_stored_then_unbinds(mode: str) -> None:
    heard: list[Incoming] = []
    async with message_centre(redeliver_after_s=60.0) as centre:
        link = Link(link_settings(centre.port, mode=mode), random=lambda: 0.5)
        run = asyncio.create_task(link.run(heard.append))
        await until(lambda: len(centre.bound) == (2 if mode == "pair" else 1))
        centre.deliver(PHONE, SHORT_CODE, "500")
        await until(lambda: heard)
        run.cancel()
        await asyncio.sleep(0.02)
        assert not run.done() and not link.is_up()
        centre.deliver(PHONE, SHORT_CODE, "late")
        await until(lambda: centre.counts.put_off == 1)  # and it will come again
        heard[0].answer(codes.ROK)
        with pytest.raises(asyncio.CancelledError):
            await run
        assert centre.counts.acknowledged == 1 and centre.unanswered == 1
        await until(lambda: centre.bound == [])
        assert (await link.submit(submission())).outcome is Outcome.LATER


async def test_a_link_that_stops_does_not_wait_for_ever() -> None:
    heard: list[Incoming] = []
    async with message_centre(redeliver_after_s=60.0) as centre:
        async with linked(centre, heard.append, stop_grace_s=0.05):
            centre.deliver(PHONE, SHORT_CODE, "500")
            await until(lambda: heard)
        await until(lambda: centre.bound == [])
        assert centre.unanswered == 1


async def test_a_peer_that_drowns_us_in_enquiries_and_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels.smpp.connection._MAX_UNWRITTEN_OCTETS", 100_000)

    async def drown(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await accept_bind(reader, writer)
        flood = Bare(codes.ENQUIRE_LINK, 1).encode() * 2_000
        while True:
            writer.write(flood)
            await writer.drain()

    async with scripted(drown) as port, running(brief(port)) as link:
        await until(lambda: link.counts.sessions >= 2)


# ------------------------------------------------------------------------------------------------ TLS


async def test_a_link_over_tls_checks_the_name_and_carries_messages() -> None:
    pem = Path(__file__).with_name("localhost.pem")
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(pem)
    theirs = ssl.create_default_context(cafile=pem)
    centre = MessageCentre(centre_settings(host="localhost"), tls=ours)
    await centre.start()
    try:
        link = Link(link_settings(centre.port, host="localhost"), random=lambda: 0.5, tls=theirs)
        async with running(link):
            await until(link.is_up)
            assert (await link.submit(SubmitSm(destination_addr=PHONE, short_message=b"5"))).outcome is Outcome.TAKEN
        stranger = Link(link_settings(centre.port), random=lambda: 0.5, tls=theirs)  # 127.0.0.1 is not its name
        async with running(stranger):
            await asyncio.sleep(0.05)
            assert not stranger.is_up()
    finally:
        await centre.stop()
