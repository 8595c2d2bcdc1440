"""SMS over any number of SMPP links: texts from phones to the desk, replies to phones. Shell.

A message is acknowledged to its message centre only when the desk has stored the request; until then the message
centre keeps it and sends it again. Many messages are under way at once, a task each, bounded by the links' cap on
unanswered messages, so that the desk can store them in groups.
No text and no phone number is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from traceback import extract_tb
from typing import Final, NamedTuple

from channels.commands import Command
from channels.contract import Desk, Inbound, NotStored, Outcome, Reply, Sent
from channels.smpp import codes
from channels.smpp.link import Incoming, Link
from channels.smpp.parts import Assembler, Place, place_of
from channels.smpp.pdu import SubmitSm, find_tlv
from channels.smpp.receipt import Receipt
from channels.smpp.text import Alphabet, TooLong, decode, is_wide, split

log = logging.getLogger(__name__)

FINGERPRINT_OCTETS: Final = 16
_REFERENCE_CHARACTERS: Final = 64
_PUNCTUATION: Final = str.maketrans("", "", "+ -()")


@dataclass(slots=True)
class _Piece:
    """One message of the wire: the whole of a text, or a part of it."""

    incoming: Incoming
    octets: bytes
    is_taken: bool = False  # acknowledged: the message centre has forgotten it

    def take(self) -> None:
        self.is_taken = True
        self.incoming.answer(codes.ROK)


class _Whole(NamedTuple):
    """Where the parts of a long message were kept until the last one came."""

    key: Hashable
    total: int


class SmsChannel:
    """The channel "sms". A peer is a link, by its name.

    `parse` reads a text and never fails: what it cannot read is `Unreadable`. `render` says a reply in the
    customer's language, and `keep_whole` names the substrings of that text that must stay in one part (a token).
    `new_reference` gives a fresh string for messages whose link carries no message id.
    `on_receipt` is told of each delivery receipt, with its link's name. `part_patience_s`: how long a part of a long
    message waits for the others before it is acknowledged alone, since a message centre with a window of one sends the
    next part only then; what is lost if we fall in between is a request nobody was promised anything for.
    """

    def __init__(
        self,
        links: Sequence[Link],
        *,
        parse: Callable[[str], Command],
        render: Callable[[Reply], str],
        keep_whole: Callable[[Reply], list[str]],
        now: Callable[[], datetime],
        new_reference: Callable[[], str],
        on_receipt: Callable[[str, Receipt], None] | None = None,
        part_patience_s: float = 1.0,
        name: str = "sms",
    ) -> None:
        self._links = {link.name: link for link in links}
        if len(self._links) != len(links):
            raise ValueError("links: each with a name of its own expected")
        self._parse = parse
        self._render = render
        self._keep_whole = keep_whole
        self._now = now
        self._new_reference = new_reference
        self._on_receipt = on_receipt
        self._part_patience_s = part_patience_s
        self._name = name
        self._desk: Desk | None = None
        self._assembler: Assembler[_Piece] = Assembler()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The channel's name as stored with requests."""
        return self._name

    @property
    def links(self) -> list[Link]:
        """The links, for health and metrics."""
        return list(self._links.values())

    def is_up(self) -> bool:
        """Whether a reply could be sent now, by any link."""
        return any(link.is_up() for link in self._links.values())

    async def run(self, desk: Desk) -> None:
        """Serve until cancelled. Links that cannot be bound keep trying; what is being stored is still acknowledged."""
        self._desk = desk
        try:
            async with asyncio.TaskGroup() as group:
                for link in self._links.values():
                    group.create_task(link.run(self._take, self._receipt_taker(link.name)), name=f"sms-{link.name}")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _receipt_taker(self, link_name: str) -> Callable[[Receipt], None]:
        def take(receipt: Receipt) -> None:
            log.info("link %s: %s: %s", link_name, receipt.kind, receipt.state)
            if self._on_receipt is not None:
                self._on_receipt(link_name, receipt)

        return take

    # -------------------------------------------------------------------------------------------- in

    def _take(self, incoming: Incoming) -> None:
        place, octets = place_of(incoming.message)
        piece = _Piece(incoming, octets)
        if place is None:
            self._start([piece], None)
        else:
            self._take_part(piece, place)

    def _take_part(self, piece: _Piece, place: Place) -> None:
        message = piece.incoming.message
        key = (
            _centre(piece.incoming.link),
            (message.source_addr_ton, message.source_addr_npi, message.source_addr),
            message.destination_addr,
            (place.kind, place.reference, place.total),
        )
        loop = asyncio.get_running_loop()
        expired = self._assembler.expire(loop.time())
        if expired:
            log.warning("%d parts of messages that never became whole dropped", len(expired))
        pieces = self._assembler.add(key, place, piece, loop.time())
        if pieces is None:
            loop.call_later(self._part_patience_s, piece.take)
        else:
            self._start(pieces, _Whole(key, place.total))

    def _start(self, pieces: list[_Piece], whole: _Whole | None, pause_s: float = 0.0) -> None:
        task = asyncio.create_task(self._store(pieces, whole, pause_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store(self, pieces: list[_Piece], whole: _Whole | None, pause_s: float) -> None:
        """Hand one whole message to the desk, and acknowledge it when it is stored."""
        if pause_s:
            await asyncio.sleep(pause_s)
        status = codes.RX_T_APPN  # the message centre sends again
        try:
            assert self._desk is not None
            await self._desk.receive(self._inbound(pieces))
            status = codes.ROK
        except NotStored:
            log.warning("link %s: a message could not be stored, and is put off", pieces[0].incoming.link.name)
        except Exception as fault:
            # The type alone: the message of an unforeseen exception may hold what the customer wrote.
            log.error(
                "link %s: a bug while a message was taken, %s at %s",
                pieces[0].incoming.link.name,
                type(fault).__name__,
                _where(fault),
            )
        finally:
            for piece in pieces:
                if status == codes.ROK:
                    piece.take()
                elif not piece.is_taken:
                    piece.incoming.answer(status)
        if status != codes.ROK and whole is not None:
            self._put_back(pieces, whole)

    def _put_back(self, pieces: list[_Piece], whole: _Whole) -> None:
        """Keep the parts that were acknowledged already: the message centre repeats only those that were refused."""
        taken = {number: piece for number, piece in enumerate(pieces, start=1) if piece.is_taken}
        again = self._assembler.put_back(whole.key, taken, whole.total, asyncio.get_running_loop().time())
        if again is not None:
            # The refused parts have come anew meanwhile, and may be acknowledged too: then nobody but we try again.
            self._start(again, whole, self._part_patience_s)

    def _inbound(self, pieces: list[_Piece]) -> Inbound:
        first = pieces[0].incoming
        message = first.message
        settings = first.link.settings
        sender = plain_number(message.source_addr)
        destination = plain_number(message.destination_addr)
        coding = message.data_coding
        octets = b"".join(piece.octets for piece in pieces) if len(pieces) > 1 else pieces[0].octets
        if all(piece.incoming.message.data_coding == coding for piece in pieces):
            # Joined before they are read: phones cut surrogate pairs and escape pairs.
            text = _read(octets, coding, settings.default_alphabet)
        else:
            text = "".join(
                _read(piece.octets, piece.incoming.message.data_coding, settings.default_alphabet) for piece in pieces
            )
        return Inbound(
            channel=self._name,
            peer=settings.name,
            reference=self._reference(first),
            fingerprint=fingerprint(sender, destination, coding, octets),
            sender=sender,
            destination=destination,
            command=self._parse(text),
            received_at=self._now(),
        )

    def _reference(self, incoming: Incoming) -> str:
        """Give what a repeat of the message carries again, on whichever link to its centre; else a fresh one.

        deliver_sm has no message id of its own (SMPP 3.4, 4.6.1): some message centres put theirs into an optional
        parameter. Without it a repeat is a new request, and the ledger's guard on sender, meter and amount applies.
        """
        tag = incoming.link.settings.reference_tlv
        value = find_tlv(incoming.message.tlvs, tag) if tag is not None and incoming.message.tlvs else None
        value = value.rstrip(b"\0") if value is not None else None
        if not value:
            return "n:" + self._new_reference()
        if len(value) <= _REFERENCE_CHARACTERS and value.isascii() and value.decode("ascii").isprintable():
            return f"{_centre(incoming.link)}:m:{value.decode('ascii')}"
        return f"{_centre(incoming.link)}:m:x{blake2b(value, digest_size=FINGERPRINT_OCTETS).hexdigest()}"

    # -------------------------------------------------------------------------------------------- out

    async def send(self, reply: Reply) -> Sent:
        """Try to deliver one reply, once: by the link its question came on if that is up, else by another.

        TAKEN only if every part was taken; NEVER if one was refused for good. A repeat of the same reply carries
        the same part reference, so that a phone joins the parts of both instead of showing a torso twice.
        """
        link = self._choose(reply.peer)
        if link is None:
            return Sent(Outcome.LATER, "no link is up")
        settings = link.settings
        try:
            parts = split(self._render(reply), reply.id.int & 0xFF, self._keep_whole(reply), settings.default_alphabet)
        except TooLong as fault:
            return Sent(Outcome.NEVER, str(fault))
        messages = [
            SubmitSm(
                source_addr_ton=settings.source_addr_ton,
                source_addr_npi=settings.source_addr_npi,
                source_addr=reply.sender or settings.source_addr,
                dest_addr_ton=settings.dest_addr_ton,
                dest_addr_npi=settings.dest_addr_npi,
                destination_addr=reply.recipient,
                esm_class=part.esm_class,
                registered_delivery=settings.registered_delivery,
                data_coding=part.data_coding,
                short_message=part.short_message,
            )
            for part in parts
        ]
        if len(messages) == 1:
            results = [await link.submit(messages[0])]
        else:
            results = list(await asyncio.gather(*(link.submit(message) for message in messages)))
        for outcome in (Outcome.NEVER, Outcome.LATER):
            for result in results:
                if result.outcome is outcome:
                    return Sent(outcome, f"{link.name}: {result.detail}")
        return Sent(Outcome.TAKEN, f"{link.name}: {', '.join(result.message_id for result in results)}")

    def _choose(self, peer: str) -> Link | None:
        link = self._links.get(peer)
        if link is not None and link.is_up():
            return link
        return next((link for link in self._links.values() if link.is_up()), None)


def plain_number(address: str) -> str:
    """Give a phone number as digits without plus or international prefix; an address of letters as it is."""
    if address.isascii() and address.isdigit():
        return address.removeprefix("00")
    digits = address.translate(_PUNCTUATION)
    return digits.removeprefix("00") if digits.isascii() and digits.isdigit() else address


def fingerprint(sender: str, destination: str, data_coding: int, octets: bytes) -> bytes:
    """Give 16 octets by which the same message is known again, and another one told from it."""
    addresses = f"{sender}\0{destination}\0{data_coding}\0".encode()
    return blake2b(addresses + octets, digest_size=FINGERPRINT_OCTETS).digest()


def _read(octets: bytes, data_coding: int, default: Alphabet) -> str:
    """Decode, without the NUL that some message centres count into sm_length.

    In GSM 7-bit that code is "@", with which no request ends.
    """
    if is_wide(data_coding):
        return decode(octets, data_coding, default).rstrip("\0")
    return decode(octets.rstrip(b"\0"), data_coding, default)


def _centre(link: Link) -> str:
    """The message centre's name: ids of messages are its own, whichever link they come by."""
    return link.settings.centre or link.name


def _where(fault: BaseException) -> str:
    frames = extract_tb(fault.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
