"""A bank's switch for tests, over a real socket; and the gateway's side of it on the sample utility."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from channels.contract import Reply
from channels.iso8583.bank import BankChannel, BankObserver, BankPeer
from channels.iso8583.framing import Framer, framed
from channels.iso8583.link_settings import LinkObserver
from channels.iso8583.message import Message, Parts
from channels.iso8583.profile import Profile
from config import languages
from config.money import BankSettings
from gateway.bank import peers
from gateway.bank.desk import StoredBanks
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from ledger import banks
from tests.simulation.shop import METER, Counter

ATM = "ATM00042"
CARD = "5021990000000017"
BANK = BankSettings(name="kcb", currency="404", listen="127.0.0.1:0", addresses="127.0.0.0/8")


def purchase(
    stan: int = 124, amount_minor: int = 50_000, drn: str = METER, *, mti: str = "0200", **fields: Any
) -> Message:
    """A purchase as a cash machine sends it; `f15="1122"` sets field 15."""
    made: dict[int, Any] = {
        2: CARD,
        3: "500000",
        4: f"{amount_minor:012d}",
        7: "0605081530",
        11: f"{stan:06d}",
        12: "111530",
        13: "0605",
        18: "4900",
        22: "021",
        32: "627001",
        35: f"{CARD}=29121010000012300000",
        37: f"615611{stan:06d}",
        41: ATM,
        42: "BANKBRANCH00042",
        48: Parts([("01", drn), ("02", "ELEC")]),
        49: "404",
        52: "0123456789ABCDEF",
    }
    made |= {int(name[1:]): value for name, value in fields.items()}
    return Message(mti, {number: value for number, value in made.items() if value is not None})


def reversal(of: Message, stan: int = 900, *, mti: str = "0420", reason: str = "68", **fields: Any) -> Message:
    """The reversal of a purchase; by itself one that says that the bank's time-out was over."""
    made: dict[int, Any] = {number: of[number] for number in (2, 3, 4, 12, 13, 32, 37, 41, 42, 49) if number in of}
    acquirer = str(of[32]).zfill(11)
    made |= {
        7: "0605081600",
        11: f"{stan:06d}",
        39: reason,
        90: f"0200{of[11]}{of[7]}{acquirer}{'0' * 11}",
    }
    made |= {int(name[1:]): value for name, value in fields.items()}
    return Message(mti, {number: value for number, value in made.items() if value is not None})


def network(code: str, stan: int = 1, **fields: Any) -> Message:
    """Sign-on 001, sign-off 002, cut-over 201, echo 301."""
    more = {int(name[1:]): value for name, value in fields.items()}
    return Message("0800", {7: "0605081500", 11: f"{stan:06d}", 70: code, **more})


class Line:
    """One link of the switch. `ask` matches answers by their trace number."""

    def __init__(self, profile: Profile, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.profile = profile
        self.reader = reader
        self.writer = writer
        self._framer = Framer(profile.framing)
        self.came: dict[str, Message] = {}
        self.order: list[str] = []

    def send(self, *messages: Message | bytes) -> None:
        """Write messages in one piece."""
        for each in messages:
            body = each if isinstance(each, bytes) else self.profile.packager.encode(each)
            self.writer.write(framed(self.profile.framing, body))

    async def answer(self, stan: str) -> Message:
        """Wait for the answer with this trace number."""
        async with asyncio.timeout(60):
            while stan not in self.came:
                await self.read()
        return self.came.pop(stan)

    async def read(self) -> None:
        """Take what comes next."""
        data = await self.reader.read(65_536)
        if not data:
            raise ConnectionError("closed by the gateway")
        for frame in self._framer.feed(data):
            if not frame.is_keep_alive:
                message = self.profile.packager.decode(frame.body)
                self.came[str(message[11])] = message
                self.order.append(str(message[11]))

    async def ask(self, message: Message) -> Message:
        """Send a request, and wait for its answer."""
        self.send(message)
        return await self.answer(str(message[11]))

    async def closed(self) -> None:
        """Wait until the gateway has closed the link."""
        async with asyncio.timeout(60):
            while await self.reader.read(65_536):
                pass

    def close(self) -> None:
        """Leave, without a word."""
        self.writer.close()

    def cut(self) -> None:
        """Be gone at once."""
        self.writer.transport.abort()


class _Heard(Outgoing):
    def enqueue(self, replies: list[Reply]) -> None:
        assert not replies, "a bank is answered by its link"


@dataclass
class Bank:
    """The gateway's side of a bank: channel, desk, and what was measured."""

    counter: Counter
    channel: BankChannel
    peer: BankPeer
    desk: VendingDesk
    metrics: Metrics
    profile: Profile
    lines: list[Line] = field(default_factory=list)

    async def line(self, *, signs_on: bool = True, tls: ssl.SSLContext | None = None, room: int = 0) -> Line:
        """A new link of the switch; `room`: octets of its receive buffer."""
        plug = socket.socket()
        if room:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        plug.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", self.peer.links.port()))
        server_hostname = "localhost" if tls is not None else None
        reader, writer = await asyncio.open_connection(sock=plug, ssl=tls, server_hostname=server_hostname)
        line = Line(self.profile, reader, writer)
        self.lines.append(line)
        if signs_on:
            assert (await line.ask(network("001", 1 + len(self.lines)))).get(39) == "00"
        return line

    async def restart(self) -> Bank:
        """The same books under a new process: nothing of the old one's memory is left."""
        await self.stop()
        return await _started(self.counter, self._settings)

    async def stop(self) -> None:
        """Stop as the gateway does."""
        for line in self.lines:
            line.close()
        await self.peer.stop()
        await self.desk.close()

    _settings: BankSettings = BANK


async def _started(counter: Counter, settings: BankSettings) -> Bank:
    shop = replace(counter.shop, settings=replace(counter.shop.settings, bank=(settings,)))
    metrics = Metrics()
    desk = VendingDesk(shop, counter.store, _Heard(), metrics)
    profiles = peers.profiles_of(shop.settings)
    stored = StoredBanks(shop, counter.store, desk, languages.load("en"), profiles, metrics)
    await stored.have_accounts()
    name = settings.name
    keys = {name: await counter.store.read(lambda connection: banks.keys(connection, name))}
    channel = peers.channel_of(
        shop.settings,
        keys,
        stored,
        counter.world,
        shop.local,
        BankObserver(metrics.bank_answered, metrics.bank_unanswered, metrics.fault, metrics.bank_late),
        LinkObserver(metrics.bank_refused, metrics.bank_closed),
    )
    await channel.start()
    await desk.resume(at_start=True)
    return Bank(counter, channel, channel.peers[name], desk, metrics, profiles[name], _settings=settings)


@asynccontextmanager
async def open_bank(counter: Counter, settings: BankSettings = BANK) -> AsyncIterator[Bank]:
    """A bank at this counter, listening."""
    bank = await _started(counter, settings)
    try:
        yield bank
    finally:
        await bank.stop()


def tokens(answer: Message) -> list[str]:
    """The tokens of an answer."""
    return answer.all("62.20")
