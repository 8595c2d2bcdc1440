"""Links of a bank: who may have one, what strangers and sick peers cost the others, dialling, leaving.

Rows of the table of malformed and hostile input stand in `test_what_is_no_request`.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from channels.iso8583 import shipped
from channels.iso8583.framing import framed
from channels.iso8583.message import Message, Parts
from config.money import BankSettings
from tests.gateway.bank.switch import BANK, Bank, Line, network, open_bank, purchase, tokens
from tests.simulation.shop import METER, Counter, open_counter

CERTIFICATES = Path(__file__).parents[2] / "sts" / "certificates"
SOON_S = 0.2
METERS = (METER, "04012345684", "14252321824", "07003012213")


@pytest.fixture
async def counter(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Counter]:
    shutil.copyfile(migrated_file, tmp_path / "test.db")
    async with open_counter(f"sqlite:///{tmp_path}/test.db") as opened:
        yield opened
        await opened.check_books()


@pytest.fixture
async def bank(counter: Counter) -> AsyncIterator[Bank]:
    async with open_bank(counter) as opened:
        yield opened


async def lives(line: Line, stan: int = 500) -> None:
    """The link carries business."""
    answer = await line.ask(purchase(stan))
    assert answer.get(39) == "00" and tokens(answer)


# --- who may have one -------------------------------------------------------------------------------------------------


async def test_business_before_a_sign_on_is_told_so(bank: Bank) -> None:
    line = await bank.line(signs_on=False)
    assert (await line.ask(purchase())).get(39) == "91"
    assert (await line.ask(network("301"))).get(39) == "00"  # an echo is none
    assert (await line.ask(network("001"))).get(39) == "00"
    await lives(line)
    assert (await line.ask(network("002"))).get(39) == "00"
    assert (await line.ask(purchase(2))).get(39) == "91"


async def test_another_address_is_refused(counter: Counter) -> None:
    async with open_bank(counter, replace(BANK, addresses="10.0.0.0/8 2001:db8::/32")) as bank:
        line = await bank.line(signs_on=False)
        await line.closed()
        assert 'prepaid_bank_links_closed_total{bank="kcb",why="address"} 1.0' in bank.metrics.exposition().decode()


async def test_more_links_than_agreed_are_refused_and_the_others_live(counter: Counter) -> None:
    async with open_bank(counter, replace(BANK, links_max=2)) as bank:
        first, second = await bank.line(), await bank.line()
        third = await bank.line(signs_on=False)
        await third.closed()
        await lives(first, 1)
        await lives(second, 2)
        second.cut()
        async with asyncio.timeout(60):
            while len(bank.peer.links.connections) > 1:
                await asyncio.sleep(0.005)
        await lives(await bank.line(), 3)  # there is room again


def _client(certificate: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "authority.pem"))
    if certificate is not None:
        context.load_cert_chain(CERTIFICATES / f"{certificate}.pem", CERTIFICATES / f"{certificate}-key.pem")
    return context


SECURE = replace(
    BANK,
    tls=True,
    tls_certificate_file=str(CERTIFICATES / "module.pem"),
    tls_key_file=str(CERTIFICATES / "module-key.pem"),
    tls_ca_file=str(CERTIFICATES / "authority.pem"),
)


@pytest.mark.parametrize("names", ["", "client", "switch.example gateway.example"])
async def test_a_link_with_the_bank_s_certificate_carries_business(counter: Counter, names: str) -> None:
    async with open_bank(counter, replace(SECURE, tls_peer_names=names)) as bank:
        await lives(await bank.line(tls=_client("client")))


@pytest.mark.parametrize(
    ("certificate", "settings"),
    [
        (None, SECURE),
        ("client", replace(SECURE, tls_ca_file=str(CERTIFICATES / "stranger.pem"))),
        ("client", replace(SECURE, tls_peer_names="switch.example")),
    ],
)
async def test_without_the_bank_s_certificate_there_is_no_link(
    counter: Counter, certificate: str | None, settings: BankSettings
) -> None:
    async with open_bank(counter, settings) as bank:
        try:
            line = await bank.line(signs_on=False, tls=_client(certificate))
            line.send(network("001"))
            await line.closed()
        except (ssl.SSLError, ConnectionError):
            pass
        async with asyncio.timeout(60):
            while bank.peer.links.connections:
                await asyncio.sleep(0.005)
        assert not bank.peer.links.is_signed_on()


async def test_plain_bytes_on_a_port_with_tls_disturb_nobody(counter: Counter) -> None:
    async with open_bank(counter, replace(SECURE, connect_timeout_s=SOON_S)) as bank:
        good = await bank.line(tls=_client("client"))
        silent = [await bank.line(signs_on=False) for _ in range(20)]
        silent[0].send(network("001"))
        await lives(good)
        for line in silent:
            try:
                await line.closed()  # whoever makes no TLS in time is gone
            except ConnectionError:
                pass
        await lives(good, 501)


# --- strangers and sick peers -----------------------------------------------------------------------------------------


async def test_half_open_links_make_room_for_each_other_and_the_bank_does_not_notice(counter: Counter) -> None:
    async with open_bank(counter, replace(BANK, half_open_max=4, sign_on_timeout_s=SOON_S)) as bank:
        good = await bank.line()
        strangers = [await bank.line(signs_on=False) for _ in range(50)]
        for line in strangers:
            line.writer.write(b"\x00\xb3" + b"0200")  # half a frame
        await lives(good, 1)
        await lives(await bank.line(), 2)  # a new link of the bank comes in as well
        assert len(bank.peer.links.connections) <= 2 + 4
        for line in strangers:
            try:
                await line.closed()
            except ConnectionError:
                pass
        assert len(bank.peer.links.connections) == 2
        await lives(good, 3)


async def test_a_link_that_stops_in_the_middle_of_a_frame_is_given_up(counter: Counter, tmp_path: Path) -> None:
    profile = tmp_path / "quick.toml"
    profile.write_text('extends = "atm87"\nname = "quick"\n[link]\npartial_frame_timeout_s = 1\n')
    async with open_bank(counter, replace(BANK, profile=str(profile))) as bank:
        good, slow = await bank.line(), await bank.line()
        body = bank.profile.packager.encode(purchase(7))
        whole = framed(bank.profile.framing, body)

        async def drip() -> None:  # an octet now and then: the frame's first counts
            for at in range(len(whole)):
                slow.writer.write(whole[at : at + 1])
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        try:
            await slow.closed()
        except ConnectionError:
            pass
        dripping.cancel()
        await lives(good)


async def test_a_peer_that_does_not_read_is_given_up_and_the_others_live(counter: Counter) -> None:
    async with open_bank(counter, replace(BANK, write_timeout_s=SOON_S)) as bank:
        good, deaf = await bank.line(), await bank.line(room=4_096)
        deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]
        # Refused at once, with a long field sent back as it came.
        asked = purchase(f41=None, f48=Parts([("01", METER), ("99", "x" * 900)]))
        long = framed(bank.profile.framing, bank.profile.packager.encode(asked))
        async with asyncio.timeout(60):
            while len(bank.peer.links.connections) == 2:
                deaf.writer.write(long * 200)
                await asyncio.sleep(0.005)
        await lives(good)


# what came, the code of the answer (none: no answer), whether the link ends, and the name it is counted under
NO_REQUESTS: list[tuple[str, bytes | Message, str | None, bool, str | None]] = [
    ("a length of zero", b"\x00\x00", None, False, None),
    ("an absurd length", b"\xff\xff" + b"0" * 40, None, True, None),
    ("digits instead of a length", b"0200" * 20, None, True, None),
    ("no message at all", b"\x00\x10GET / HTTP/1.1\r\n", None, False, "mti"),
    ("bytes after the last field", b"", "30", False, "left_over"),
    ("letters in a field of digits", b"", "30", False, "content"),
    ("a field that is missing", purchase(f41=None), "30", False, "missing"),
    ("a function that the profile has not", purchase(f3="990000"), "12", False, "mti"),
    ("an unknown type", Message("0300", {11: "000124"}), "12", False, "mti"),
    ("an answer that nobody waits for", Message("0210", dict(purchase(f39="00").items())), None, False, "mti"),
]


@pytest.mark.parametrize(("what", "came", "code", "ends", "counted"), NO_REQUESTS, ids=[row[0] for row in NO_REQUESTS])
async def test_what_is_no_request(
    bank: Bank, what: str, came: bytes | Message, code: str | None, ends: bool, counted: str | None
) -> None:
    good, line = await bank.line(), await bank.line()
    if what == "bytes after the last field":
        line.send(bank.profile.packager.encode(purchase()) + b"more")
    elif what == "letters in a field of digits":
        line.send(bank.profile.packager.encode(purchase()).replace(b"06054900", b"0605A900"))
    elif isinstance(came, Message):
        line.send(came)
    else:
        line.writer.write(came)
    if code is not None:
        assert (await line.answer("000124")).get(39) == code
    if ends:
        await line.closed()
    else:
        await lives(line, 600)
    await lives(good, 601)
    if counted is not None:
        counter = f'prepaid_bank_messages_refused_total{{bank="kcb",fault="{counted}"}} 1.0'
        assert counter in bank.metrics.exposition().decode()


async def test_a_link_that_sends_nothing_but_garbage_is_given_up(bank: Bank) -> None:
    good, line = await bank.line(), await bank.line()
    line.send(*[b"\x00garbage\xff" for _ in range(5)])
    await line.closed()
    await lives(good)


async def test_many_purchases_at_once_on_several_links_are_all_answered(counter: Counter, bank: Bank) -> None:
    lines = [await bank.line() for _ in METERS]
    for number, (line, drn) in enumerate(zip(lines, METERS, strict=True)):
        line.send(*(purchase(1_000 * (number + 1) + stan, 60_000, drn) for stan in range(20)))
    made: list[str] = []
    for number, line in enumerate(lines):
        for stan in range(20):
            answer = await line.answer(f"{1_000 * (number + 1) + stan:06d}")
            assert answer.get(39) == "00"
            made += tokens(answer)
    assert len(made) == len(set(made)) == 80


# --- dialling, and leaving --------------------------------------------------------------------------------------------


class Switch:
    """A bank that is dialled: hands out its end of each link."""

    def __init__(self, bank_profile: str) -> None:
        self.profile = shipped.profile(bank_profile)
        self.lines: asyncio.Queue[Line] = asyncio.Queue()

    async def start(self, port: int = 0) -> int:
        self.server = await asyncio.start_server(self._came, "127.0.0.1", port)
        return int(self.server.sockets[0].getsockname()[1])

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines.put_nowait(Line(self.profile, reader, writer))

    async def line(self) -> Line:
        async with asyncio.timeout(60):
            return await self.lines.get()


async def test_we_dial_sign_on_and_dial_again(counter: Counter, tmp_path: Path) -> None:
    profile = tmp_path / "dialled.toml"
    profile.write_text('extends = "atm87"\nname = "dialled"\n[link]\nrole = "dial"\nsigns_on = "us"\n')
    switch = Switch(str(profile))
    port = await switch.start()
    settings = replace(
        BANK, listen="", dial=f"127.0.0.1:{port}", addresses="", profile=str(profile), institution="627001"
    )
    async with open_bank(counter, settings) as bank:
        (dialled,) = bank.peer.links.dialled
        running = asyncio.ensure_future(bank.peer.links.run())
        assert dialled.is_away  # nobody has permitted it yet
        dialled.permit()
        for stan in (1, 2):  # the second time after the bank has cut the link
            line = await switch.line()
            sign_on = await _request(line)
            assert (sign_on.mti, sign_on.get(70), sign_on.get(32)) == ("0800", "001", "627001")
            line.send(Message("0810", {**dict(sign_on.items()), 39: "00"}))
            await lives(line, stan)
            if stan == 1:
                line.cut()
        dialled.forbid()  # another node has it now: it signs off and leaves
        sign_off = await _request(line)
        assert sign_off.get(70) == "002"
        await line.closed()
        line.close()
        running.cancel()
    switch.server.close()


async def _request(line: Line) -> Message:
    """The next request of the gateway."""
    async with asyncio.timeout(60):
        while True:
            for message in list(line.came.values()):
                if message.mti == "0800":
                    return line.came.pop(str(message[11]))
            await line.read()


async def test_a_stop_writes_the_answers_that_are_owed(counter: Counter, bank: Bank) -> None:
    line = await bank.line()
    line.send(*(purchase(stan) for stan in range(1, 21)))
    async with asyncio.timeout(60):
        while not bank.peer.waiting:
            await asyncio.sleep(0)
    stopping = asyncio.ensure_future(bank.peer.stop())
    answers = [await line.answer(f"{stan:06d}") for stan in range(1, 21)]
    # What had come is answered, by a token or by "not signed on any more".
    assert {answer.get(39) for answer in answers} <= {"00", "91"} and answers[0].get(39) == "00"
    await line.closed()
    await stopping
