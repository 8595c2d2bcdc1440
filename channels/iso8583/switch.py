"""A bank's switch on the real wire, for sandboxes, certification, demonstrations, tests and load. Shell.

It dials the gateway or listens for it, signs on, echoes, sells at its cash machines by any profile, sends repeats and
reversals until they are answered, and commits faults on request. It keeps its own books in memory.

    switch = BankSwitch(SwitchSettings(port=9583), shipped.shipped("atm87"), now=world.now)
    await switch.start()
    await switch.ready()
    sale = await switch.buy("04012345676", 50_000)      # sale.fate, sale.heard.tokens
    told = await switch.reconcile(switch.business_date)
    await switch.stop()
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from channels.iso8583 import framing, mti
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import Fault as IsoFault
from channels.iso8583.errors import KeyRefused
from channels.iso8583.keymodule import Use
from channels.iso8583.message import Message
from channels.iso8583.profile import Network, Profile
from channels.iso8583.session import Moment
from channels.iso8583.softwarekeys import Secret, SoftwareKeys, checked, wrapped_under
from channels.iso8583.switch_books import Heard, Sale, Step, SwitchBooks
from channels.iso8583.switch_messages import Order, Totals, Writer
from channels.iso8583.switch_session import Answer, Asked, Over, SwitchSession, Wrong
from channels.iso8583.switch_settings import Fault, SwitchCounts, SwitchSettings

__all__ = ["BankSwitch", "Fault", "Reconciled", "SwitchSettings"]

log = logging.getLogger(__name__)

_MUST_COME_BACK: Final = (3, 4, 7, 11, 12, 13, 32, 33, 37, 41, 42, 49)
_ROGUES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What the gateway says of a day: in balance or not, its own totals where it sent them. Empty code: no answer."""

    code: str
    in_balance: bool
    theirs: Totals | None


class BankSwitch:
    """The switch. All its methods are for the loop it was started on.

    `now` gives UTC, `local` the machines' own time. `random` is needed only where the settings have fault rates. `zmk`
    is the key that new MAC keys are sent under, `keys` hold what the profile's handles name. `on_message` is shown
    every message that goes or comes, with its direction, and must not keep it: there is card data in it.
    """

    def __init__(
        self,
        settings: SwitchSettings,
        profile: Profile,
        *,
        now: Callable[[], datetime],
        local: Callable[[datetime], datetime] | None = None,
        random: Callable[[], float] | None = None,
        keys: SoftwareKeys | None = None,
        zmk: Secret | None = None,
        tls: Any = None,
        on_message: Callable[[str, Message], None] | None = None,
    ) -> None:
        if settings.fault_rates and random is None:
            raise ValueError("random: expected where fault_rates are set")
        self.settings: Final = settings
        self.profile: Final = profile
        self.books: Final = SwitchBooks(settings.patience)
        self.counts: Final = SwitchCounts()
        self.is_listening: Final = (
            settings.role or ("dial" if profile.link.role == "listen" else "listen")
        ) == "listen"
        self.is_faulty = True
        """False: from now on only faults that are armed."""
        self._now: Final = now
        self._local: Final = local or (lambda moment: moment)
        self._random: Final = random
        self._keys: Final = keys
        self._zmk: Final = zmk
        self._tls: Final = tls
        self._on_message: Final = on_message
        self._writer: Final = Writer(profile)
        self._timeout_s: Final = float(settings.answer_timeout_s or profile.timing.bank_timeout_s)
        self._links: list[_Link] = []
        self._next_link = 0
        self._pending: dict[tuple[str, ...], deque[asyncio.Future[Message]]] = {}
        self._sale_of: dict[tuple[str, ...], Sale] = {}
        self._armed: dict[Fault, int] = {}
        self._stan = settings.first_stan
        self._machine = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._rogues: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.business_date: date = self._local(now()).date()

    # -------------------------------------------------------------------------------------------- links

    async def start(self) -> None:
        """Listen, or begin to dial. Raises OSError if the port cannot be had."""
        loop = asyncio.get_running_loop()
        if self.is_listening:
            self._server = await loop.create_server(
                lambda: _Link(self), self.settings.host, self.settings.port, ssl=self._tls
            )
        else:
            for _ in range(self.settings.links):
                self._spawn(self._dialling())
        self._spawn(self._echoing())

    @property
    def port(self) -> int:
        """The port that is listened on, or dialled."""
        if self._server is None:
            return self.settings.port
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Sign off where we signed on, and close everything."""
        if self._signs_on and Network.SIGN_OFF in self.profile.network.codes.values():
            for link in self.signed_on:
                with suppress(OSError):
                    link.write(link.session.packed(self._network(Network.SIGN_OFF)))
        tasks = [*self._tasks, *self._rogues]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in list(self._links):
            each.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    @property
    def signed_on(self) -> list[_Link]:
        """The links that carry business."""
        return [link for link in self._links if link.session.is_signed_on]

    async def ready(self, links: int = 1) -> None:
        """Wait until so many links are signed on."""
        while len(self.signed_on) < links:
            self._changed.clear()
            await self._changed.wait()

    def cut_links(self) -> None:
        """Cut every link, as a network failure would."""
        for link in list(self._links):
            link.abort()

    async def _dialling(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, link = await loop.create_connection(
                    lambda: _Link(self), self.settings.host, self.settings.port, ssl=self._tls
                )
            except OSError as error:
                log.info("no link: %s", error)
            else:
                await link.closed
            await asyncio.sleep(self.settings.redial_s)

    async def _echoing(self) -> None:
        while True:
            await asyncio.sleep(self.settings.echo_every_s)
            for link in self.signed_on:
                if await self._exchange_on(link, self._network(Network.ECHO)) is None:
                    link.abort()
                else:
                    self.counts.echoes += 1

    def opened(self, link: _Link) -> None:
        """A connection is there: sign on, if that is ours to do."""
        self._links.append(link)
        self.counts.connections += 1
        is_first = len(self._links) == 1
        if self.profile.link.sign_on == "institution" and not is_first and self.signed_on:
            link.session.is_signed_on = True
        elif self._signs_on and not link.session.is_signed_on:
            self._spawn(self._signing_on(link))
        self._changed.set()

    def lost(self, link: _Link) -> None:
        """A connection is gone."""
        if link in self._links:
            self._links.remove(link)

    @property
    def _signs_on(self) -> bool:
        return self.profile.link.signs_on != "us" and self.profile.link.sign_on != "none"

    async def _signing_on(self, link: _Link) -> None:
        answer = await self._exchange_on(link, self._network(Network.SIGN_ON))
        if answer is None or self._code(answer) != self.profile.code(Outcome.NETWORK_ACCEPTED):
            link.abort()
            return
        link.session.is_signed_on = True
        if self.profile.link.sign_on == "institution":
            for other in self._links:
                other.session.is_signed_on = True
        self._changed.set()

    def moment(self) -> Moment:
        """Now."""
        utc = self._now()
        return Moment(asyncio.get_running_loop().time(), utc, self._local(utc))

    def moment_utc(self) -> datetime:
        """Now, in UTC."""
        return self._now()

    def came(self, link: _Link, data: bytes) -> None:
        """Octets of a link."""
        for event in link.session.receive(data, self.moment()):
            match event:
                case Answer():
                    self._tell("<", event.message)
                    self._answered(event)
                case Asked():
                    self._changed.set()
                case Wrong(sentence):
                    self.books.wrong.append(sentence)
                case Over(why):
                    self.books.wrong.append(why)
                    link.abort()
        link.write(link.session.take_output())

    def _answered(self, answer: Answer) -> None:
        if answer.message.mti[1] != "8":
            if self.strikes(Fault.LOSE_ANSWER):
                return
            if self.strikes(Fault.LATE_ANSWER):
                asyncio.get_running_loop().call_later(self._timeout_s * 1.1, self._deliver, answer)
                return
        self._deliver(answer)

    def _deliver(self, answer: Answer) -> None:
        self.counts.answers += 1
        for waiter in self._pending.get(answer.key, ()):
            if not waiter.done():
                waiter.set_result(answer.message)
                return
        self.counts.late += 1
        sale = self._sale_of.get(answer.key)
        if sale is not None:
            self.books.overheard(sale, self._heard(answer.message))

    # -------------------------------------------------------------------------------------------- faults

    def arm(self, fault: Fault, times: int = 1) -> None:
        """Commit this fault at the next `times` occasions."""
        self._armed[fault] = self._armed.get(fault, 0) + times

    def strikes(self, fault: Fault) -> bool:
        """Whether to commit this fault now."""
        armed = self._armed.get(fault, 0)
        if armed:
            self._armed[fault] = armed - 1
        else:
            rate = self.settings.fault_rates.get(fault, 0.0)
            if not rate or not self.is_faulty or self._random is None or self._random() >= rate:
                return False
        self.counts.faults += 1
        self.counts.by_fault[fault.value] = self.counts.by_fault.get(fault.value, 0) + 1
        return True

    def _before_a_request(self, link: _Link) -> None:
        if self.strikes(Fault.GARBAGE):
            # Long enough for a frame of any kind, and no message of any dialect.
            length = self.profile.framing.tpdu
            tpdu = bytes([self.profile.framing.tpdu_id]).ljust(length, b"\0") if length else b""
            link.write(framing.framed(self.profile.framing, b"\xff" * 32, tpdu))
        if self.is_listening:
            return
        if self.strikes(Fault.HALF_FRAME):
            self._rogue(self._silent(link.session.packed(self._network(Network.ECHO))))
        if self.strikes(Fault.SLOW_LORIS):
            self._rogue(self._slow(link.session.packed(self._network(Network.ECHO))))
        if self.strikes(Fault.STORM):
            self._rogue(self._storm())

    def _rogue(self, work: Any) -> None:
        if len(self._rogues) >= _ROGUES_MAX:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._rogues.add(task)
        task.add_done_callback(self._rogues.discard)

    @asynccontextmanager
    async def _stranger(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection that is none of the switch's links. OSError is the other side's way to be rid of it."""
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(self.settings.host, self.settings.port, ssl=self._tls)
            try:
                yield reader, writer
            finally:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _silent(self, frame: bytes) -> None:
        """Half a frame, and silence until the other side has enough of it."""
        async with self._stranger() as (reader, writer):
            writer.write(frame[: len(frame) // 2])
            await reader.read()

    async def _slow(self, frame: bytes) -> None:
        async with self._stranger() as (_, writer):
            for octet in frame[:-1]:
                writer.write(bytes([octet]))
                await writer.drain()
                await asyncio.sleep(self.settings.loris_s)

    async def _storm(self) -> None:
        async def one() -> None:
            async with self._stranger():
                pass

        await asyncio.gather(*(one() for _ in range(self.settings.storm_links)), return_exceptions=True)

    # -------------------------------------------------------------------------------------------- sales

    def order(self, meter: str, amount_minor: int = 0) -> Order:
        """What the next machine sends for this wish."""
        now = self._now()
        local, stan = self._local(now), self._next_stan()
        terminal = self.settings.terminals[self._machine % len(self.settings.terminals)]
        self._machine += 1
        # Last digit of the year, day of the year, hour, trace number.
        rrn = f"{local:%y}"[-1] + f"{local:%j%H}{stan % 1_000_000:06d}"
        return Order(stan, rrn, now, local, terminal, meter, amount_minor, self.business_date)

    async def inquire(self, meter: str) -> Message | None:
        """Ask whose meter it is; the answer as it came, None without one."""
        return await self._exchange(self._writer.inquiry(self.order(meter)))

    async def buy(self, meter: str, amount_minor: int) -> Sale:
        """Sell, and do whatever follows until it is over or patience ends."""
        sale = self.books.opened(self.order(meter, amount_minor))
        is_overtaken = self.strikes(Fault.REVERSAL_FIRST)
        if is_overtaken:
            await self._live(sale, Step.REVERSE)
            await self._ask(sale)
        elif self.strikes(Fault.CROSSING):
            await self._write(sale, self._purchase(sale))
            await self._live(sale, Step.REVERSE)
        else:
            await self._live(sale, Step.REQUEST)
        return sale

    async def repeat(self, sale: Sale) -> Sale:
        """Ask for the answer of a sale again."""
        await self._ask(sale, is_repeat=True)
        return sale

    async def advise(self, sale: Sale) -> Sale:
        """Say that a purchase was made, and ask for its token by an advice."""
        is_repeat = sale.requests > 0
        sale.requests += 1
        await self._hear(sale, await self._exchange(self._writer.advice(sale.order, is_repeat=is_repeat), sale))
        return sale

    async def reverse(self, sale: Sale, *, is_advice: bool = True) -> Sale:
        """Take a sale back: as an advice, which is sent until it is answered, or as a request."""
        await self._live(sale, Step.REVERSE, is_advice=is_advice)
        return sale

    async def _live(self, sale: Sale, step: Step, *, is_advice: bool = True) -> None:
        while step is not Step.NOTHING:
            if step is Step.REVERSE:
                step = await self._take_back(sale, is_advice=is_advice)
            else:
                step = await self._ask(sale, is_repeat=step is Step.REPEAT)

    def _purchase(self, sale: Sale, *, is_repeat: bool = False) -> Message:
        sale.requests += 1
        return self._writer.purchase(sale.order, is_repeat=is_repeat)

    async def _ask(self, sale: Sale, *, is_repeat: bool = False) -> Step:
        if self.profile.mac is not None and self.strikes(Fault.WRONG_MAC):
            # Under a number of its own: a late answer to it must not be taken for one to the sale.
            forged = self._writer.purchase(self.order(sale.order.meter, sale.order.amount_minor))
            answer = await self._exchange(forged, sale, wrong_mac=True)
            if answer is not None and self._heard(answer).is_approved:
                self.books.note(sale, "approved with a wrong MAC")
        message = self._purchase(sale, is_repeat=is_repeat)
        if self.strikes(Fault.CUT):
            await self._write(sale, message, is_cut=True)
            return self.books.silent(sale, gives_up=self.strikes(Fault.GIVE_UP))
        if self.strikes(Fault.REPEAT):
            await self._write(sale, message)
            message = self._purchase(sale, is_repeat=True)
        return await self._hear(sale, await self._exchange(message, sale))

    async def _hear(self, sale: Sale, answer: Message | None) -> Step:
        # In progress is no answer: it says to ask again.
        if answer is None or self._code(answer) == self.profile.code(Outcome.IN_PROGRESS):
            return self.books.silent(sale, gives_up=self.strikes(Fault.GIVE_UP))
        heard = self._heard(answer)
        takes_back = heard.is_approved and not sale.is_over and self.strikes(Fault.NO_PAPER)
        return self.books.answered(sale, heard, takes_back=takes_back)

    async def _take_back(self, sale: Sale, *, is_advice: bool) -> Step:
        if not sale.reversal_stan:
            sale.reversal_stan = self._next_stan()
        message = self._writer.reversal(
            sale.order, sale.reversal_stan, self._now(), is_advice=is_advice, is_repeat=sale.reversals > 0
        )
        sale.reversals += 1
        answer = await self._exchange(message, sale)
        if answer is None:
            return self.books.reversal_silent(sale)
        code = self._code(answer)
        accepted = (Outcome.REVERSAL_ACCEPTED, Outcome.ORIGINAL_UNKNOWN)
        is_accepted = code in {self.profile.code(outcome) for outcome in accepted}
        return self.books.reversal_answered(sale, code, is_accepted=is_accepted)

    def _heard(self, message: Message) -> Heard:
        profile, code = self.profile, self._code(message)

        def all_at(place: str) -> tuple[str, ...]:
            return tuple(message.all(profile.places[place])) if place in profile.places else ()

        receipt = profile.at(message, "receipt_text") or profile.at(message, "receipt") or ""
        return Heard(
            code=code,
            is_approved=code == profile.code(Outcome.APPROVED),
            tokens=tuple(token for token in all_at("tokens") if token.strip("0 ")),
            receipt=receipt.strip(),
            units=all_at("units"),
            text=profile.at(message, "text") or "",
        )

    # -------------------------------------------------------------------------------------------- the day

    async def cut_over(self, day: date) -> str:
        """Announce the next business date; the code of the answer, empty without one."""
        answer = await self._exchange(self._network(Network.CUT_OVER, day=day))
        self.business_date = day
        return "" if answer is None else self._code(answer)

    async def reconcile(self, day: date, totals: Totals | None = None) -> Reconciled:
        """Send the day's totals, by default those of the books, again until they are answered or patience ends."""
        ours = self.books.totals(day) if totals is None else totals
        at, terminal = self.moment(), self.settings.terminals[0]
        stan = self._next_stan()
        for attempt in range(1 + self.settings.patience.repeats):
            message = self._writer.reconciliation(ours, day, stan, at.utc, at.local, terminal, is_repeat=attempt > 0)
            answer = await self._exchange(message)
            if answer is not None:
                return self._reconciled(answer)
        return Reconciled("", False, None)

    def _reconciled(self, answer: Message) -> Reconciled:
        rules, code = self.profile.settlement, self._code(answer)
        numbers = (rules.purchase_number, rules.purchase_amount, rules.reversal_number, rules.reversal_amount)
        texts = [answer.get(number) for number in numbers]
        theirs = Totals(*(int(text) for text in texts if text)) if all(texts) else None
        said = answer.get(66)
        in_balance = code == self.profile.code(Outcome.IN_BALANCE) and (said is None or said.strip() in ("", "1"))
        return Reconciled(code, in_balance, theirs)

    async def change_key(self, nonce: Callable[[int], bytes]) -> str:
        """Send a new MAC key under the ZMK, and use it once it is accepted; the code of the answer."""
        rules, keys, zmk = self.profile.network, self._keys, self._zmk
        if keys is None or zmk is None or not rules.key:
            raise KeyRefused(IsoFault.KEY_MISSING, "keys", "a profile that changes keys, and a ZMK, expected")
        wrapped = wrapped_under(zmk, _new_key(zmk.cipher, nonce))
        keys.install(rules.key_handle, Use.ZAK, wrapped, rules.zmk_handle)
        answer = await self._exchange(self._network(Network.KEY_CHANGE, key=wrapped))
        code = "" if answer is None else self._code(answer)
        if code == self.profile.code(Outcome.NETWORK_ACCEPTED):
            keys.activate(rules.key_handle, self._now(), self.profile.timing.old_key_grace_s)
        else:
            keys.discard(rules.key_handle)
        return code

    async def echo(self) -> bool:
        """Is somebody there?"""
        return await self._exchange(self._network(Network.ECHO)) is not None

    # -------------------------------------------------------------------------------------------- messages

    def _network(self, network: Network, **more: Any) -> Message:
        at = self.moment()
        return self._writer.network(network, self._next_stan(), at.utc, at.local, self.settings.terminals[0], **more)

    def _next_stan(self) -> int:
        self._stan = self._stan % 999_999 + 1
        return self._stan

    def _code(self, message: Message) -> str:
        return message.get(self.profile.response_field) or ""

    async def _link(self) -> _Link | None:
        """A signed-on link, the next in turn; None if there is none for as long as an answer is waited for."""
        if not self.signed_on:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await self.ready()
        links = self.signed_on
        if not links:
            return None
        self._next_link += 1
        return links[self._next_link % len(links)]

    async def _write(self, sale: Sale, message: Message, *, is_cut: bool = False) -> None:
        """Send without waiting for an answer; with `is_cut` only some octets, and then cut the link."""
        link = await self._link()
        if link is None:
            return
        self._sale_of[link.session.key_of(message)] = sale
        octets = link.session.packed(message)
        self.counts.requests += 1
        self._tell(">", message)
        if is_cut:
            chance = self._random() if self._random is not None else 0.5
            link.write(octets[: int(len(octets) * chance)])
            link.close()
        else:
            link.write(octets)

    async def _exchange(self, message: Message, sale: Sale | None = None, *, wrong_mac: bool = False) -> Message | None:
        link = await self._link()
        if link is None:
            return None
        if sale is not None:
            self._before_a_request(link)
            if message.mti[1] != "4" and not wrong_mac:
                self._sale_of[link.session.key_of(message)] = sale
        answer = await self._exchange_on(link, message, wrong_mac=wrong_mac)
        if answer is not None and not wrong_mac:
            self._compare(message, answer, sale)
        return answer

    async def _exchange_on(self, link: _Link, message: Message, *, wrong_mac: bool = False) -> Message | None:
        key = link.session.key_of(message)
        waiter: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        waiters = self._pending.setdefault(key, deque())
        waiters.append(waiter)
        self.counts.requests += 1
        self._tell(">", message)
        try:
            link.write(link.session.packed(message, wrong_mac=wrong_mac))
            async with asyncio.timeout(self._timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._pending.pop(key, None)

    def _compare(self, message: Message, answer: Message, sale: Sale | None) -> None:
        """What a switch matches on must come back."""
        where = sale.order.rrn if sale is not None else "-"
        lost = [
            number
            for number in _MUST_COME_BACK
            if number in message and number in self.profile.echo and answer.get(number) != message.get(number)
        ]
        if lost:
            self.books.wrong.append(f"{where}: fields {', '.join(map(str, lost))} do not come back")
        wanted = mti.answer_of(message.mti)
        if answer.mti != wanted:
            self.books.wrong.append(f"{where}: {message.mti} answered by {answer.mti}, {wanted} expected")

    def _tell(self, direction: str, message: Message) -> None:
        if self._on_message is not None:
            self._on_message(direction, message)

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.books.wrong.append(f"the simulator itself: {type(error).__name__}")
            log.error("a task of the simulator ended", exc_info=error)


class _Link(asyncio.Protocol):
    """One connection: the socket of a `SwitchSession`."""

    def __init__(self, switch: BankSwitch) -> None:
        self.session: Final = SwitchSession(switch.profile, switch._keys)
        self.closed: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._switch: Final = switch
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._switch.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.session.is_signed_on = False
        self._switch.lost(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._switch.came(self, data)

    def write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self.session.is_signed_on = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self.session.is_signed_on = False
        if self._transport is not None:
            self._transport.abort()


def _new_key(cipher: str, nonce: Callable[[int], bytes]) -> Secret:
    """A MAC key that modules accept."""
    while True:
        raw = nonce(16)
        if cipher == "des":
            raw = bytes((octet & 0xFE) | (not (octet >> 1).bit_count() % 2) for octet in raw)
        with suppress(KeyRefused):
            return checked(cipher, raw)
