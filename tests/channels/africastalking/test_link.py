"""An account between the product and its provider, on real sockets, by the provider's own package.

The provider is the simulator that ships with the product, or a socket that answers wrongly. Covers: what the package
sends, each fault and what follows, rests, pace, other ways before and after it, answers that are none, and what is
logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import pytest

from channels.africastalking.link import Account, standing
from channels.africastalking.simulator import Fault, Simulator, SimulatorSettings
from channels.contract import Message, Outcome, Reply, Sent
from channels.smpp.link import Link
from channels.smpp.outgoing import Outgoing
from channels.smpp.text import Alphabet, decode, filled, parts_needed, split
from config.kinds import Secret
from config.settings import AfricasTalkingSettings
from tests.channels.smpp.rig import link_settings, linked, message_centre, until

PHONE = "254711013579"
KEY = "key-0123456789abcdef"
TOKEN = "1234 5678 9012 3456 7890"


def account_settings(port: int, **changes: Any) -> AfricasTalkingSettings:
    values: dict[str, Any] = {
        "name": "at",
        "username": "sandbox",
        "api_key": Secret(KEY),
        "base_url": f"http://127.0.0.1:{port}",
        "answer_timeout_s": 5.0,
        "rest_first_s": 0.05,
        "rest_max_s": 0.2,
        **changes,
    }
    return AfricasTalkingSettings(**values)


@asynccontextmanager
async def simulator(**changes: Any) -> AsyncIterator[Simulator]:
    numbers = iter(range(1, 100_000))
    provider = Simulator(
        SimulatorSettings(api_key=KEY, **changes), new_id=lambda: f"{next(numbers):032x}", random=lambda: 0.5
    )
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()


@asynccontextmanager
async def account(port: int, queued_s: float = 30.0, **changes: Any) -> AsyncIterator[Account]:
    one = Account(account_settings(port, **changes), random=lambda: 1.0, queued_s=queued_s)
    try:
        yield one
    finally:
        await one.close()


def reply(recipient: str = PHONE, peer: str = "at", sender: str = "22345", number: int = 7) -> Reply:
    return Reply(UUID(int=number), UUID(int=1), "sms", peer, recipient, sender, "en", Message("any", {}))


async def send(one: Account, text: str = "hello", **changes: Any) -> tuple[Sent, bool]:
    return await one.send(reply(**changes), text, [TOKEN])


async def test_a_text_goes_out_by_the_package_and_its_id_is_kept_for_the_report() -> None:
    async with simulator() as provider, account(provider.port, short_codes="22345 777", sender_id="UMOJA") as one:
        sent, is_over = await send(one, "Token: " + TOKEN + " €é")
        (received,) = provider.received
        assert (received.phone, received.sender, received.text) == (PHONE, "22345", f"Token: {TOKEN} €é")
        assert (sent.outcome, is_over) == (Outcome.TAKEN, True)
        (part,) = sent.parts
        assert (part.message_id, part.centre, part.part, part.parts) == (received.message_id, "at", 1, 1)
        await send(one, sender="1234")  # the number of another way, which this account must not bear
        assert provider.received[-1].sender == "UMOJA"
        assert (one.counts.submits, one.counts.taken, one.in_flight) == (2, 2, 0)


async def test_without_reports_nothing_is_kept() -> None:
    async with simulator() as provider, account(provider.port, receipts=False) as one:
        assert (await send(one))[0].parts == ()
        assert provider.received[-1].sender == "AFRICASTKNG"


# fmt: off
@pytest.mark.parametrize(("fault", "outcome", "is_over", "reached", "is_up"), [
    (Fault.LOSE,        Outcome.TAKEN, True,  0, True),
    (Fault.LOSE_ANSWER, Outcome.LATER, True,  1, True),    # perhaps taken: no other way may be tried now
    (Fault.GARBAGE,     Outcome.LATER, True,  0, True),
    (Fault.ERROR,       Outcome.LATER, True,  0, True),
    (Fault.THROTTLE,    Outcome.LATER, False, 0, False),
    (Fault.NO_BALANCE,  Outcome.LATER, False, 0, False),
    (Fault.BLACKLIST,   Outcome.NEVER, False, 0, True),    # by another way, perhaps
])
# fmt: on
async def test_each_fault_has_its_consequence(
    fault: Fault, outcome: Outcome, is_over: bool, reached: int, is_up: bool
) -> None:
    async with simulator() as provider, account(provider.port) as one:
        provider.arm(fault)
        sent, over = await send(one)
        assert (sent.outcome, over, len(provider.received)) == (outcome, is_over, reached)
        assert sent.is_tried
        assert one.is_up() is is_up
        await until(one.is_up)
        assert (await send(one))[0].outcome is Outcome.TAKEN, "it is well again"


async def test_an_account_that_cannot_send_rests_longer_each_time_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with simulator() as provider, account(provider.port, rest_first_s=1_000.0, rest_max_s=3_000.0) as one:
        provider.arm(Fault.NO_BALANCE, 3)
        with caplog.at_level(logging.DEBUG):
            await asyncio.gather(*(send(one, number=number) for number in range(1, 4)))
        assert not one.is_up() and one.is_resting
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert said == ["account at: 405 InsufficientBalance ; rests 1000.0 s"]
        sent, over = await send(one)
        assert (sent.outcome, sent.is_tried, over) == (Outcome.LATER, False, False)
        assert sum(provider._armed.values()) == 0 and not provider.received


async def test_a_wrong_key_is_known_by_the_http_status_that_the_package_forgets() -> None:
    async with simulator() as provider, account(provider.port, api_key=Secret("wrong")) as one:
        sent, over = await send(one)
        assert (sent.outcome, sent.detail.split(" The")[0], over) == (Outcome.LATER, "at: http 401", False)
        assert not one.is_up()


async def test_nothing_is_shown_of_key_number_or_text(caplog: pytest.LogCaptureFixture) -> None:
    async with simulator() as provider, account(provider.port) as one:
        with caplog.at_level(logging.DEBUG):
            for fault in (Fault.LOSE_ANSWER, Fault.ERROR, Fault.NO_BALANCE, Fault.GARBAGE):
                provider.arm(fault)
                sent, _ = await send(one, "Token: " + TOKEN)
                assert not any(secret in repr(sent) for secret in (KEY, PHONE, TOKEN))
                await until(one.is_up)
        for secret in (KEY, PHONE, TOKEN):
            assert secret not in caplog.text
            assert secret not in repr(one.settings)


async def test_where_nobody_listens_other_ways_are_taken_at_once() -> None:
    async with simulator() as provider:
        port = provider.port
    async with account(port) as one:
        sent, over = await send(one)
        assert (sent.outcome, over, sent.detail) == (Outcome.LATER, False, "at: no connection ConnectionError")
        assert not one.is_up()


async def test_what_is_no_phone_number_is_never_sent_here() -> None:
    async with simulator() as provider, account(provider.port) as one:
        for recipient in ("UMOJA", "", "12345", "2547110135791234", "٢٥٤٧١١٠١٣٥٧٩"):
            sent, over = await send(one, recipient=recipient)
            assert (sent.outcome, over) == (Outcome.NEVER, False)
        assert one.counts.submits == 0


@asynccontextmanager
async def peer(answer: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]) -> AsyncIterator[int]:
    """A provider that hears a request and then does as it likes."""

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def _silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def _trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Created\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 65_536)
        await writer.drain()


async def _cut(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{")
    await writer.drain()


async def _no_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SMPP here\r\n\r\n")
    await writer.drain()


async def _elsewhere(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize("answer", [_silent, _trickle, _endless, _cut, _no_http])
async def test_an_answer_that_is_none_may_mean_that_the_text_was_taken(answer: Any) -> None:
    async with peer(answer) as port, account(port, answer_timeout_s=0.2) as one:
        sent, over = await send(one)
        assert (sent.outcome, over) == (Outcome.LATER, True)
        assert one.is_up(), "once is no reason to rest"
        for number in (2, 3):
            await send(one, number=number)
        assert one.is_ailing and not one.is_up()


async def test_a_redirection_is_not_followed_with_the_key() -> None:
    async with peer(_elsewhere) as port, account(port) as one:
        sent, over = await send(one)
        assert (sent.detail, over) == ("at: http 307", False)


async def test_no_more_at_once_than_connections_and_no_faster_than_the_rate() -> None:
    async with simulator(slow_s=0.05) as provider, account(provider.port, connections_max=2, rate_per_s=40.0) as one:
        provider.arm(Fault.SLOW, 10)
        began = asyncio.get_running_loop().time()
        tasks = [asyncio.create_task(send(one, number=number)) for number in range(1, 11)]
        most = 0
        while not all(task.done() for task in tasks):
            most = max(most, one.in_flight)
            await asyncio.sleep(0.005)
        assert most <= 2
        # Ten at forty a second, of which the first two go at once: less than this would be too fast.
        assert asyncio.get_running_loop().time() - began >= 8 / 40
        assert len(provider.received) == 10 and one.queued == 0


async def test_what_waited_too_long_or_was_paused_meanwhile_does_not_go_out() -> None:
    async with simulator(slow_s=0.2) as provider, account(provider.port, queued_s=0.1, connections_max=1) as one:
        provider.arm(Fault.SLOW)
        first = asyncio.create_task(send(one, number=1))
        await until(lambda: one.in_flight)
        second = asyncio.create_task(send(one, number=2))
        assert (await first)[0].outcome is Outcome.TAKEN
        sent, _ = await second
        assert (sent.outcome, sent.is_tried, sent.detail) == (Outcome.LATER, False, "at: waited too long")
        one.let_send(False)
        assert not one.is_up()
        assert (await send(one))[0].detail == "at: paused"
        assert len(provider.received) == 1


async def test_the_standing_of_an_account_is_asked_without_sending() -> None:
    async with simulator() as provider:
        clock = asyncio.get_running_loop().time

        async def ask(**changes: Any) -> tuple[bool, str]:
            found = await asyncio.to_thread(standing, account_settings(provider.port, **changes), clock)
            return found.is_well, found.said

        assert await ask() == (True, "the key is taken, balance KES 1000.0000")
        assert await ask(api_key=Secret("x")) == (False, "HTTP 401, the user or the key is refused")
        assert (await ask(base_url="http://127.0.0.1:1"))[0] is False
        assert not provider.received


# --- beside SMPP ------------------------------------------------------------------------------------------------------


def outgoing(*ways: Link | Account, text: str = "hello") -> Outgoing:
    return Outgoing(list(ways), lambda reply: text, lambda reply: [TOKEN])


async def test_a_reply_goes_back_the_way_its_question_came_and_else_by_prefix() -> None:
    async with simulator() as provider, message_centre() as centre:
        async with linked(centre, name="smsc") as link, account(provider.port, prefixes="2547") as one:
            out = outgoing(link, one)
            for peer_name in ("smsc", "at", ""):
                assert (await out.send(reply(peer=peer_name))).outcome is Outcome.TAKEN
            assert [len(provider.received), len(centre.messages_for(PHONE))] == [2, 1]
            await out.send(reply(peer="", recipient="256772123456"))
            assert len(centre.messages_for("256772123456")) == 1, "not of this account's prefixes"


async def test_each_way_stands_in_for_the_other_under_a_number_of_its_own() -> None:
    async with simulator() as provider, message_centre() as centre:
        async with (
            linked(centre, name="smsc", source_addr="1234") as link,
            account(provider.port, short_codes="22345", rest_first_s=1_000.0, rest_max_s=1_000.0) as one,
        ):
            out = outgoing(link, one)
            provider.arm(Fault.NO_BALANCE)
            assert (await out.send(reply(peer="at"))).outcome is Outcome.TAKEN
            (received,) = centre.messages_for(PHONE)
            assert received.source == "1234", "the account's short code is none of the message centre's"
            one._rests_until = 0.0
            link.let_send(False)
            assert (await out.send(reply(peer="smsc", sender="1234"))).outcome is Outcome.TAKEN
            assert provider.received[-1].sender == "AFRICASTKNG"
            provider.arm(Fault.BLACKLIST)
            sent = await out.send(reply(peer="at"))
            assert (sent.outcome, sent.detail) == (Outcome.NEVER, "at: 406 UserInBlacklist")
            link.let_send(True)
            provider.arm(Fault.BLACKLIST)
            assert (await out.send(reply(peer="at", number=8))).outcome is Outcome.TAKEN
            # Perhaps taken: the link does not send the same words at once.
            provider.arm(Fault.LOSE_ANSWER)
            assert (await out.send(reply(peer="at", number=9))).outcome is Outcome.LATER
            assert len(centre.messages_for(PHONE)) == 2


@pytest.mark.parametrize("head", ["x" * length for length in range(120, 160, 3)] + ["ж" * 50, "[" * 70])
def test_a_long_text_is_filled_so_that_no_cut_lies_in_its_token(head: str) -> None:
    text = f"{head} {TOKEN} " + "y" * 90
    shown = filled(text, [TOKEN])
    assert shown.replace(" ", "") == text.replace(" ", "")
    # As whoever cuts by size alone, and knows nothing of tokens, would cut it.
    parts = split(shown, 1)
    assert len(parts) == parts_needed(shown) > 1
    assert any(TOKEN in decode(part.short_message[6:], part.data_coding, Alphabet.GSM) for part in parts)


def test_a_text_of_one_part_stays_as_it_is() -> None:
    assert filled(f"Token {TOKEN}", [TOKEN]) == f"Token {TOKEN}"


def test_the_package_has_the_hooks_that_are_used() -> None:
    """A new version without them must be looked at before it is taken (decision 0041)."""
    import inspect

    from africastalking.Service import APIService
    from africastalking.SMS import SMSService

    assert list(inspect.signature(APIService._make_request).parameters) == [
        "self", "url", "method", "headers", "data", "params", "callback", "timeout",
    ]  # fmt: skip
    assert SMSService("sandbox", "x")._baseUrl == "https://api.sandbox.africastalking.com/version1"
    assert SMSService("umoja", "x")._baseUrl == "https://api.africastalking.com/version1"
    live = Account(account_settings(1, base_url="", username="umoja"), random=lambda: 0.5)
    from channels.africastalking.link import _Sms

    assert _Sms(live.settings, lambda: 0.0)._baseUrl == "https://api.africastalking.com/version1"
    assert link_settings(1).mode == "transceiver"
