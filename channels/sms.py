"""SMS over SMPP links and over accounts that bring whole texts: texts from phones to the desk, replies out. Shell.

A message is acknowledged to its message centre only when the desk has stored the request; until then the message
centre keeps it and sends it again. A part of a long message is acknowledged when it is stored by itself; whoever brings
the last part hands the whole on. Many messages are under way at once, a task each, bounded by the links' cap on
unanswered messages, so that the desk can store them in groups.
No text and no phone number is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from traceback import extract_tb
from typing import Any, Final, Protocol
from uuid import UUID

from channels.commands import Command, OptOut, Unreadable
from channels.contract import Desk, Inbound, NotStored, Reply, Sent, TextIn, TextWay
from channels.smpp import codes
from channels.smpp.link import Incoming, IncomingReceipt, Link
from channels.smpp.outgoing import Outgoing
from channels.smpp.parts import Body, Place, body_of
from channels.smpp.pdu import find_tlv
from channels.smpp.text import UCS2_CODING, Alphabet, Shifts, decode, is_wide
from ledger.reasons import Reason
from ledger.sms_parts import Assembly, AssemblyState, PartRow

log = logging.getLogger(__name__)

FINGERPRINT_OCTETS: Final = 16
_REFERENCE_CHARACTERS: Final = 64
_NATIONAL: Final = 2
_CUSTOMER_DIGITS_MIN: Final = 7
_PUNCTUATION: Final = str.maketrans("", "", "+ -()")
# A whole message that nobody is at any more is handed on after this time; a part that comes starts it anew.
_LEFT_AFTER: Final = timedelta(seconds=30)


class PartBooks(Protocol):
    """Where parts of long messages are kept until the whole is there."""

    async def keep(self, key: str, link: str, total: int, part: PartRow) -> Assembly:
        """Store a part; its message with all parts that are there. Raises NotStored if it cannot be stored now."""

    async def settle(self, assembly_id: UUID, state: AssemblyState) -> None:
        """Note what became of a message."""

    async def left(self, quiet: timedelta) -> list[Assembly]:
        """Messages to which nothing was added for so long, and of which nothing has become yet."""


class SmsChannel:
    """The channel "sms". A peer is a link or an account of an aggregator, by its name.

    `parse` reads a text and never fails: what it cannot read is `Unreadable`. `render` says a reply in the
    customer's language, and `keep_whole` names the substrings of that text that must stay in one part (a token).
    `new_reference` gives a fresh string for messages whose link carries no message id.
    `on_receipt` is handed each delivery receipt, and answers it when it is stored. `divert` gives the work of a message
    that is no SMS (a USSD step), None for one that is; it is acknowledged when that work is done, if not before.
    `fingerprint_key` goes into the digests by which messages are known again.
    `part_timeout_s`: when a part of a long message has not come for so long, its sender is told, once.
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
        parts: PartBooks,
        on_receipt: Callable[[IncomingReceipt], None] | None = None,
        divert: Callable[[Incoming], Coroutine[Any, Any, None] | None] | None = None,
        part_timeout_s: float = 300.0,
        look_every_s: float = 10.0,
        name: str = "sms",
        accounts: Sequence[TextWay] = (),
        fingerprint_key: bytes = b"",
    ) -> None:
        self._links = {link.name: link for link in links}
        names = [*(link.name for link in links), *(account.name for account in accounts)]
        if len(set(names)) != len(names):
            raise ValueError("links and accounts: each with a name of its own expected")
        self._accounts = tuple(accounts)
        self._parse = parse
        self._out = Outgoing([*links, *accounts], render, keep_whole)
        self._now = now
        self._new_reference = new_reference
        self._parts = parts
        self._on_receipt = on_receipt
        self._divert = divert
        self._part_timeout = timedelta(seconds=part_timeout_s)
        self._look_every_s = look_every_s
        self._name = name
        self._fingerprint_key = fingerprint_key
        self._desk: Desk | None = None
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
        return any(link.is_up() for link in self._links.values()) or any(each.is_up() for each in self._accounts)

    async def run(self, desk: Desk) -> None:
        """Serve until cancelled. Links that cannot be bound keep trying; what is being stored is still acknowledged."""
        self._desk = desk
        try:
            async with asyncio.TaskGroup() as group:
                for link in self._links.values():
                    group.create_task(link.run(self._take, self._on_receipt), name=f"sms-{link.name}")
                group.create_task(self._keep_looking(), name="sms-parts")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for account in self._accounts:
                await account.close()

    async def send(self, reply: Reply) -> Sent:
        """Try to deliver one reply, once: see `channels/smpp/outgoing.py`."""
        return await self._out.send(reply)

    # -------------------------------------------------------------------------------------------- in, whole

    async def take_text(self, text: TextIn) -> None:
        """Return once the request of a text that came whole is stored; raise NotStored if it could not be."""
        sender, destination = plain_number(text.sender), plain_number(text.destination)
        octets = text.text.encode("utf-16-be", "replace")
        await self._take_whole(
            Inbound(
                channel=self._name,
                peer=text.link,
                reference=reference_of(text.centre, text.message_id.encode()),
                fingerprint=fingerprint(sender, destination, UCS2_CODING, octets, self._fingerprint_key),
                sender=sender,
                destination=destination,
                command=self._parse(text.text),
                received_at=self._now(),
            )
        )

    async def take_opt_out(self, link: str, sender: str) -> None:
        """Return once it is stored that this phone wants no notices; raise NotStored if it could not be."""
        fresh = f"o:{self._new_reference()}"  # its peer gives it no id; twice does no harm
        digest = fingerprint(sender, "", UCS2_CODING, b"")
        inbound = Inbound(self._name, link, fresh, digest, sender, "", OptOut(), self._now())
        await self._take_whole(inbound)

    async def _take_whole(self, inbound: Inbound) -> None:
        if self._desk is None:
            raise NotStored("the channel does not run yet")
        await self._desk.receive(inbound)

    # -------------------------------------------------------------------------------------------- in

    def _take(self, incoming: Incoming) -> None:
        other_work = self._divert(incoming) if self._divert is not None else None
        if other_work is not None:
            self._start(self._answered(other_work, incoming))
            return
        body = body_of(incoming.message, incoming.link.settings.default_alphabet)
        if body.place is None:
            self._start(self._answered(self._store_alone(incoming, body), incoming))
        else:
            self._start(self._answered(self._store_part(incoming, body, body.place), incoming))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answered(self, work: Coroutine[Any, Any, None], incoming: Incoming) -> None:
        """Acknowledge a message when its work is done; if that fails the message centre shall send it again."""
        status = codes.RX_T_APPN
        try:
            await work
            status = codes.ROK
        except NotStored:
            log.warning("link %s: a message could not be stored, and is put off", incoming.link.name)
        except Exception as fault:  # a bug costs this message one more delivery, and no other message anything
            _log_bug(incoming.link.name, fault)
        finally:
            incoming.answer(status)

    async def _store_alone(self, incoming: Incoming, body: Body) -> None:
        part = self._part_of(incoming, body, 1)
        inbound = self._inbound(incoming.link.name, [part], part.reference or "n:" + self._new_reference())
        assert self._desk is not None, "the channel runs"
        await self._desk.receive(inbound)

    async def _store_part(self, incoming: Incoming, body: Body, place: Place) -> None:
        message, link = incoming.message, incoming.link
        part = self._part_of(incoming, body, place.number)
        key = _digest(
            link.centre,
            f"{message.source_addr_ton}.{message.source_addr_npi}.{message.source_addr}",
            message.destination_addr,
            f"{place.kind}.{place.reference}.{place.total}",
        )
        assembly = await self._parts.keep(key, link.name, place.total, part)
        if assembly.is_whole and assembly.state is AssemblyState.OPEN:
            await self._hand_on(assembly)

    def _part_of(self, incoming: Incoming, body: Body, number: int) -> PartRow:
        message = incoming.message
        sender = customer_number(message.source_addr, message.source_addr_ton, incoming.link.settings.country_code)
        destination = plain_number(message.destination_addr)
        return PartRow(
            number=number,
            sender=sender,
            destination=destination,
            data_coding=message.data_coding,
            octets=body.octets,
            shifts=f"{body.shifts.locking} {body.shifts.single}" if body.shifts is not None else "",
            reference=self._reference(incoming),
            digest=fingerprint(sender, destination, message.data_coding, body.octets, self._fingerprint_key),
        )

    async def _hand_on(self, assembly: Assembly) -> None:
        """Give a whole message to the desk. Twice does no harm: its reference is the same."""
        parts = assembly.parts
        assert self._desk is not None, "the channel runs"
        await self._desk.receive(self._inbound(assembly.link, parts, parts[0].reference or f"a:{assembly.id}"))
        await self._parts.settle(assembly.id, AssemblyState.DONE)

    def _inbound(self, link: str, parts: Sequence[PartRow], reference: str, *, is_torso: bool = False) -> Inbound:
        first = parts[0]
        octets = b"".join(part.octets for part in parts) if len(parts) > 1 else first.octets
        command: Command = Unreadable(Reason.PART_MISSING) if is_torso else self._parse(self._text(link, parts, octets))
        return Inbound(
            channel=self._name,
            peer=link,
            reference=reference,
            fingerprint=fingerprint(first.sender, first.destination, first.data_coding, octets, self._fingerprint_key),
            sender=first.sender,
            destination=first.destination,
            command=command,
            received_at=self._now(),
        )

    def _text(self, link: str, parts: Sequence[PartRow], octets: bytes) -> str:
        settings = self._links[link].settings if link in self._links else None
        alphabet = settings.default_alphabet if settings is not None else Alphabet.GSM
        first = parts[0]
        if all((part.data_coding, part.shifts) == (first.data_coding, first.shifts) for part in parts):
            # Joined before they are read: phones cut surrogate pairs and escape pairs.
            return _read(octets, first.data_coding, alphabet, first.shifts)
        return "".join(_read(part.octets, part.data_coding, alphabet, part.shifts) for part in parts)

    def _reference(self, incoming: Incoming) -> str:
        """Give what a repeat of the message carries again, on whichever link to its centre; empty for nothing.

        deliver_sm has no message id of its own (SMPP 3.4, 4.6.1): some message centres put theirs into an optional
        parameter. Without it a repeat is a new request, and the ledger's guard on sender, meter and amount applies.
        """
        tag = incoming.link.settings.reference_tlv
        value = find_tlv(incoming.message.tlvs, tag) if tag is not None and incoming.message.tlvs else None
        value = value.rstrip(b"\0") if value is not None else None
        return reference_of(incoming.link.centre, value) if value else ""

    # -------------------------------------------------------------------------------------------- what was left

    async def _keep_looking(self) -> None:
        """Take up whole messages that a crash or a full desk has left, and tell the senders of those that stay torn."""
        quiet = timedelta(0)  # at first: what was left from before the start
        while True:
            try:
                for assembly in await self._parts.left(quiet):
                    await self._take_up(assembly)
                quiet = min(_LEFT_AFTER, self._part_timeout)
            except NotStored:
                log.warning("parts of long messages could not be looked after; again in %.0f s", self._look_every_s)
            except Exception as fault:  # a bug must not end the looking; the next round tries again
                _log_bug("parts", fault)
            await asyncio.sleep(self._look_every_s)

    async def _take_up(self, assembly: Assembly) -> None:
        if assembly.is_whole:
            await self._hand_on(assembly)
        elif assembly.first_at + self._part_timeout <= self._now() and assembly.parts:
            log.warning("link %s: %d of %d parts came", assembly.link, len(assembly.parts), assembly.total)
            assert self._desk is not None, "the channel runs"
            torso = self._inbound(assembly.link, assembly.parts, f"a:{assembly.id}:torso", is_torso=True)
            await self._desk.receive(torso)
            await self._parts.settle(assembly.id, AssemblyState.TOLD)


def reference_of(centre: str, message_id: bytes) -> str:
    """Give what a repeat of a message carries again, from its centre's own id for it."""
    if len(message_id) <= _REFERENCE_CHARACTERS and message_id.isascii() and message_id.decode("ascii").isprintable():
        return f"{centre}:m:{message_id.decode('ascii')}"
    return f"{centre}:m:x{blake2b(message_id, digest_size=FINGERPRINT_OCTETS).hexdigest()}"


def plain_number(address: str) -> str:
    """Give a phone number as digits without plus or international prefix; an address of letters as it is."""
    if address.isascii() and address.isdigit():
        return address.removeprefix("00")
    digits = address.translate(_PUNCTUATION)
    return digits.removeprefix("00") if digits.isascii() and digits.isdigit() else address


def customer_number(address: str, type_of_number: int, country_code: str) -> str:
    """Give a customer's number with its country code where the message centre left that out; short codes stay.

    It is put for the zero of a national number, and before one whose type is "national" (SMPP 3.4, 5.2.5), unless
    that one begins with it.
    """
    number = plain_number(address)
    if not country_code or not (number.isascii() and number.isdigit()) or len(number) < _CUSTOMER_DIGITS_MIN:
        return number
    if number.startswith("0"):
        return country_code + number.removeprefix("0")
    if type_of_number == _NATIONAL and not number.startswith(country_code):
        return country_code + number
    return number


def fingerprint(sender: str, destination: str, data_coding: int, octets: bytes, key: bytes = b"") -> bytes:
    """Give 16 octets by which the same message is known again, and another one told from it.

    With a key nobody else finds out by trying what the message said: it may hold a PIN.
    """
    addresses = f"{sender}\0{destination}\0{data_coding}\0".encode()
    return blake2b(addresses + octets, digest_size=FINGERPRINT_OCTETS, key=key).digest()


def _digest(*fields: str) -> str:
    return blake2b("\0".join(fields).encode(), digest_size=FINGERPRINT_OCTETS).hexdigest()


def _read(octets: bytes, data_coding: int, default: Alphabet, shifts: str) -> str:
    """Decode, without the NUL that some message centres count into sm_length.

    In GSM 7-bit that code is "@", with which no request ends.
    """
    if is_wide(data_coding):
        return decode(octets, data_coding, default).rstrip("\0")
    announced = Shifts(*map(int, shifts.split())) if shifts else None
    return decode(octets.rstrip(b"\0"), data_coding, default, announced)


def _log_bug(link: str, fault: Exception) -> None:
    # The type alone: the message of an unforeseen exception may hold what the customer wrote.
    frames = extract_tb(fault.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    log.error("link %s: a bug while a message was taken, %s at %s", link, type(fault).__name__, where)
