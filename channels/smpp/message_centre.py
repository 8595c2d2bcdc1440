"""A message centre on the real wire, for sandboxes, demonstrations, tests and load. Shell.

It takes binds of all three kinds, hands messages from phones to bound receivers with a window, sends again what was
not acknowledged in time and on every new bind, records what is submitted for phones, and commits faults on request.
It keeps everything in memory and holds nothing back from whoever knows an account: it is not for the public net.

    centre = MessageCentre(CentreSettings(accounts=(Account("gateway", "secret"),)))
    await centre.start()                                # centre.port is now known
    centre.deliver("256772123456", "1234", "04012345676 500")
    reply = await centre.next_reply("256772123456")     # reply.text
    await centre.stop()

Paragraphs are those of the SMPP 3.4 specification, issue 1.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from channels.smpp.centre_session import CentreSession, Queue, Stored
from channels.smpp.centre_settings import Account, CentreCounts, CentreSettings, Fault, IdForm, ReceivedReply
from channels.smpp.codes import HEADER_OCTETS, TLV_MESSAGE_STATE, TLV_RECEIPTED_MESSAGE_ID, TLV_USSD_SERVICE_OP
from channels.smpp.pdu import DataSm, DeliverSm, SubmitSm, Tlv, find_tlv
from channels.smpp.phones import Phones
from channels.smpp.text import split
from channels.smpp.ussd_phones import UssdPhones

__all__ = [
    "Account",
    "CentreCounts",
    "CentreFull",
    "CentreSettings",
    "Fault",
    "IdForm",
    "MessageCentre",
    "ReceivedReply",
    "serve",
]

log = logging.getLogger(__name__)

_MAX_UNWRITTEN_OCTETS: Final = 64_000_000


class CentreFull(Exception):
    """More messages wait for a receiver than the settings allow."""


class MessageCentre:
    """The server. All its methods are for the loop it was started on.

    `on_reply` is called with each reply as it is recorded, and must not wait. `random` is needed only where the
    settings have fault rates; `tls` is an ssl.SSLContext, None for none.
    """

    def __init__(
        self,
        settings: CentreSettings,
        *,
        on_reply: Callable[[ReceivedReply], None] | None = None,
        random: Callable[[], float] | None = None,
        tls: Any = None,
    ) -> None:
        if settings.fault_rates and random is None:
            raise ValueError("random: expected where fault_rates are set")
        self.settings = settings
        self.counts = CentreCounts()
        self.on_reply = on_reply
        self._random = random
        self._tls = tls
        self._queues = {account.system_id: Queue(account) for account in settings.accounts}
        self._peers: set[_Peer] = set()
        self._phones = Phones(settings.default_alphabet, settings.keep_replies, settings.keep_phones)
        self.ussd = UssdPhones(self._deliver_ussd, settings.default_alphabet, settings.ussd_sequence)
        self._waiters: dict[str, deque[asyncio.Future[ReceivedReply]]] = {}
        self.faulty = bool(settings.fault_rates)  # whether to ask for each message what should go wrong
        self._armed: dict[Fault, int] = {}
        self._cut_at: int | None = None
        self._last_id = 0
        self._open = 0  # messages not yet answered
        self._drained: list[asyncio.Future[None]] = []
        self._allowance = settings.submits_per_s
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._swept_at = 0.0
        self._pump_planned = False

    # -------------------------------------------------------------------------------------------- being a server

    async def start(self) -> None:
        """Listen. Raises OSError if the port cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Peer(self, loop), self.settings.host, self.settings.port, ssl=self._tls
        )
        self._swept_at = loop.time()
        self._sweep()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None and self._server.sockets
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Close everything at once. What waits stays, and goes out after another `start`."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for peer in list(self._peers):
            peer.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def drop_connections(self) -> None:
        """Cut every connection, as a network failure would."""
        for peer in list(self._peers):
            peer.abort()

    def unbind_all(self) -> None:
        """Ask every bound ESME to leave, as message centres do for maintenance."""
        for peer in list(self._peers):
            peer.ask_to_unbind()

    @property
    def bound(self) -> list[str]:
        """The system_ids of the sessions that are bound now, one for each session."""
        queues = [peer.session.queue for peer in self._peers]
        return sorted(queue.account.system_id for queue in queues if queue is not None)

    # -------------------------------------------------------------------------------------------- faults

    def arm(self, fault: Fault, times: int = 1) -> None:
        """Commit this fault at the next `times` occasions."""
        self._armed[fault] = self._armed.get(fault, 0) + times
        self.faulty = True

    def cut_after(self, octets: int) -> None:
        """Close the connection that next writes beyond its `octets`-th octet, there, in the middle of a packet."""
        self._cut_at = octets

    def strikes(self, fault: Fault) -> bool:
        """Whether to commit this fault now."""
        armed = self._armed.get(fault, 0)
        if armed > 1:
            self._armed[fault] = armed - 1
        elif armed:
            del self._armed[fault]
            self.faulty = bool(self._armed or self.settings.fault_rates)
        else:
            rate = self.settings.fault_rates.get(fault, 0.0)
            if not rate or self._random is None or self._random() >= rate:
                return False
        self.counts.faults += 1
        return True

    def octets_before_cut(self, written_octets: int, count: int) -> int | None:
        """Give how many of `count` octets a connection shall write before it is cut; None for no cut."""
        if self._cut_at is not None and written_octets + count > self._cut_at:
            keep = max(0, self._cut_at - written_octets)
            self._cut_at = None
            self.counts.faults += 1
            return keep
        return count // 2 if self.faulty and self.strikes(Fault.CUT) else None

    # -------------------------------------------------------------------------------------------- from phones

    def deliver(self, sender: str, destination: str, text: str, *, tlvs: tuple[Tlv, ...] = ()) -> str:
        """Take a text from a phone, and see that it reaches a receiver. Gives its message id.

        A text too long for one message goes in parts, each with an id of its own; the first one's is given.
        Raises CentreFull, or KeyError if no account serves the destination.
        """
        parts = split(text, self._last_id, (), self.settings.default_alphabet)
        ids = [
            self.deliver_octets(
                sender, destination, part.short_message, part.data_coding, esm_class=part.esm_class, tlvs=tlvs
            )
            for part in parts
        ]
        return ids[0]

    def deliver_octets(
        self,
        sender: str,
        destination: str,
        octets: bytes,
        data_coding: int = 0,
        *,
        esm_class: int = 0,
        tlvs: tuple[Tlv, ...] = (),
    ) -> str:
        """Take a message as octets, with whatever coding and header. Gives its message id."""
        return self._store(self._queue_for(destination), sender, destination, octets, data_coding, esm_class, tlvs)

    def _deliver_ussd(
        self, sender: str, destination: str, octets: bytes, data_coding: int, tlvs: tuple[Tlv, ...]
    ) -> str:
        queue = self._queue_for(destination)
        return self._store(queue, sender, destination, octets, data_coding, 0, tlvs, service_type="USSD")

    def queue_of(self, system_id: str) -> Queue | None:
        """Give the account's queue."""
        return self._queues.get(system_id)

    def _queue_for(self, destination: str) -> Queue:
        for queue in self._queues.values():
            if not queue.account.addresses or destination in queue.account.addresses:
                return queue
        raise KeyError(f"no account serves {destination}")

    def _store(
        self,
        queue: Queue,
        sender: str,
        destination: str,
        octets: bytes,
        data_coding: int,
        esm_class: int,
        tlvs: tuple[Tlv, ...],
        service_type: str = "",
    ) -> str:
        if self._open >= self.settings.max_waiting:
            raise CentreFull(f"{self._open} messages wait")
        message_id = self._new_id()
        if self.settings.id_tlv is not None and not esm_class & 0x3C:
            tlvs = (*tlvs, (self.settings.id_tlv, message_id.encode("ascii") + b"\0"))
        packet = DeliverSm(
            service_type=service_type,
            source_addr_ton=1,
            source_addr_npi=1,
            source_addr=sender,
            destination_addr=destination,
            esm_class=esm_class,
            data_coding=data_coding,
            short_message=octets,
            tlvs=tlvs,
        ).encode()
        queue.waiting.append(Stored(message_id, packet[HEADER_OCTETS:], queue))
        self._open += 1
        self.counts.messages += 1
        self.pump_soon()
        return message_id

    def _new_id(self) -> str:
        self._last_id += 1
        return f"{self.settings.id_prefix}{self._last_id:08x}"

    @property
    def unanswered(self) -> int:
        """How many messages from phones are not yet acknowledged or refused for good."""
        return self._open

    async def drained(self) -> None:
        """Wait until every message from a phone is acknowledged or refused for good."""
        if self._open:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append(done)
            await done

    def settle(self, stored: Stored) -> None:
        """Note that a message from a phone was answered for good."""
        if stored.answered:
            return
        stored.answered = True
        self._open -= 1
        if not self._open:
            for done in self._drained:
                if not done.done():
                    done.set_result(None)
            self._drained.clear()

    def note(self, what: str) -> None:
        """Log something."""
        log.info("%s", what)

    def pump_soon(self) -> None:
        """Send what waits, once, at the end of this turn of the loop."""
        if not self._pump_planned:
            self._pump_planned = True
            asyncio.get_running_loop().call_soon(self._pump_planned_queues)

    def _pump_planned_queues(self) -> None:
        self._pump_planned = False
        for queue in self._queues.values():
            if queue.waiting:
                for peer in [peer for peer in self._peers if peer.session.queue is queue]:
                    peer.pump()

    # -------------------------------------------------------------------------------------------- to phones

    def messages_for(self, phone: str) -> list[ReceivedReply]:
        """Give the last replies that this phone has received, oldest first."""
        return self._phones.replies(phone)

    async def next_reply(self, phone: str) -> ReceivedReply:
        """Give the oldest reply to this phone that was not given here yet, waiting for it if need be."""
        reply = self._phones.next_unread(phone)
        if reply is not None:
            return reply
        waiter: asyncio.Future[ReceivedReply] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(phone, deque()).append(waiter)
        return await waiter

    def accept(self, queue: Queue, message: SubmitSm | DataSm, now: float) -> str:
        """Record a message to a phone, and give it a message id."""
        self._last_id += 1
        number = self._last_id
        if find_tlv(message.tlvs, TLV_USSD_SERVICE_OP) is not None:
            self.counts.replies += 1
            self.ussd.record(message)
            return self.settings.response_ids.write(number, self.settings.id_prefix)
        reply = self._phones.record(queue.account.system_id, message, now)
        if reply is not None:
            self.counts.replies += 1
            waiters = self._waiters.get(reply.destination)
            if waiters:
                self._wake(reply.destination, waiters)
            if self.on_reply is not None:
                self.on_reply(reply)
        if self.settings.receipts and message.registered_delivery & 0x01:
            self._send_receipts(queue, message, number)
        return self.settings.response_ids.write(number, self.settings.id_prefix)

    def _wake(self, phone: str, waiters: deque[asyncio.Future[ReceivedReply]]) -> None:
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                reply = self._phones.next_unread(phone)
                assert reply is not None
                waiter.set_result(reply)
                break
        if not waiters:
            del self._waiters[phone]

    def allows(self) -> bool:
        """Whether the rate of submit_sm allows one more; a second's worth may come at once."""
        rate = self.settings.submits_per_s
        if not rate:
            return True
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _send_receipts(self, queue: Queue, message: SubmitSm | DataSm, number: int) -> None:
        """Tell what became of a message (appendix B): delivered, unless a fault says otherwise."""
        if self.faulty and self.strikes(Fault.LOSE_RECEIPT):
            self.counts.receipts_lost += 1
            return
        is_bad = self.faulty and self.strikes(Fault.BAD_RECEIPT)
        for _ in range(2 if self.faulty and self.strikes(Fault.DOUBLE_RECEIPT) else 1):
            self._send_receipt(queue, message, number, "UNDELIV" if is_bad else "DELIVRD", 5 if is_bad else 2)

    def _send_receipt(self, queue: Queue, message: SubmitSm | DataSm, number: int, state: str, code: int) -> None:
        settings = self.settings
        message_id = settings.receipt_ids.write(number, settings.id_prefix)
        good = int(code == 2)
        text = f"id:{message_id} sub:001 dlvrd:00{good} stat:{state} err:000 text:" if settings.receipt_text else ""
        tlvs: tuple[Tlv, ...] = ()
        if settings.receipt_tlvs:
            tlvs = (TLV_RECEIPTED_MESSAGE_ID, message_id.encode("ascii") + b"\0"), (TLV_MESSAGE_STATE, bytes((code,)))
        self.counts.receipts += 1
        try:
            self._store(queue, message.destination_addr, message.source_addr, text.encode("ascii"), 0, 0x04, tlvs)
        except CentreFull:
            log.warning("a receipt was dropped: too much waits")

    # -------------------------------------------------------------------------------------------- time

    def _sweep(self) -> None:
        """Send again what was not answered in time; ask the silent; close what never binds."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._allowance = min(settings.submits_per_s, self._allowance + settings.submits_per_s * (now - self._swept_at))
        self._swept_at = now
        for queue in self._queues.values():
            while queue.later and queue.later[0][0] <= now:
                queue.waiting.append(queue.later.popleft()[1])
        for peer in list(self._peers):
            peer.sweep(now)
        self._phones.expire(now)
        self._pump_planned_queues()
        pause = max(0.005, min(0.25, settings.redeliver_after_s / 5, settings.session_init_s / 5))
        self._sweeper = loop.call_later(pause, self._sweep)


class _Peer(asyncio.Protocol):
    """One connection of an ESME: the socket of a `CentreSession`. asyncio sets TCP_NODELAY."""

    def __init__(self, centre: MessageCentre, loop: asyncio.AbstractEventLoop) -> None:
        self.session = CentreSession(centre, loop.time())
        self._centre = centre
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._written_octets = 0

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._centre._peers.add(self)
        self._centre.counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._centre._peers.discard(self)
        self.session.leave()

    def pause_writing(self) -> None:
        self.session.writable = False

    def resume_writing(self) -> None:
        self.session.writable = True
        self.pump()

    def data_received(self, data: bytes) -> None:
        if not self.session.is_over:
            self.session.receive(data, self._loop.time())
            self.write()

    # Called by the centre.

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def ask_to_unbind(self) -> None:
        self.session.ask_to_unbind()
        self.write()

    def sweep(self, now: float) -> None:
        self.session.sweep(now)
        self.write()

    def pump(self) -> None:
        self.session.pump(self._loop.time())
        self.write()

    def write(self) -> None:
        """Write everything at once, and close if the session is over."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        octets = self.session.take_output()
        if octets:
            keep = self._centre.octets_before_cut(self._written_octets, len(octets))
            if keep is not None:
                transport.write(octets[:keep])
                transport.close()
                return
            self._written_octets += len(octets)
            transport.write(octets)
            if not self.session.writable and transport.get_write_buffer_size() > _MAX_UNWRITTEN_OCTETS:
                transport.abort()
        if self.session.is_over:
            transport.close()


async def serve(settings: CentreSettings, *, random: Callable[[], float] | None = None) -> None:
    """Be a message centre until cancelled."""
    centre = MessageCentre(settings, random=random)
    await centre.start()
    log.info("message centre on %s:%d", settings.host, centre.port)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await centre.stop()
