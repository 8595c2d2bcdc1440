"""Replies on their way out: cut into parts, sent by the best link, by another if that one surely took nothing. Shell.

A reply that was not taken comes again later, by its outbox. Parts that were taken are not sent a second time, also when
the message centre's answer came too late for the first attempt; where it never came, nobody can know, and the same
words go out again. No text and no phone number is logged.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from channels.contract import Outcome, Reply, Sent, SentPart, TextWay
from channels.smpp.link import Link, LinkSettings, SubmitResult
from channels.smpp.messageid import normal
from channels.smpp.pdu import SubmitSm
from channels.smpp.routes import routes
from channels.smpp.text import Alphabet, Part, TooLong, split

# So many replies that were taken in part, or perhaps, are remembered.
_TORN_MAX: Final = 10_000
_LINKS_AT_ONCE: Final = 3
_RECEIPT_WANTED: Final = 0x01


@dataclass(slots=True)
class _Torn:
    """A reply that was taken in part: which parts, by which link, in which alphabet its text was cut."""

    alphabet: Alphabet
    total: int
    taken: dict[int, tuple[Link, SubmitResult]] = field(default_factory=dict)


class Outgoing:
    """The way out over several links, and over accounts of aggregators that take a text whole."""

    def __init__(
        self,
        links: Sequence[Link | TextWay],
        render: Callable[[Reply], str],
        keep_whole: Callable[[Reply], list[str]],
    ) -> None:
        self._links = links
        # Numbers that customers write to elsewhere than by a link: no message centre would take one as a source.
        self._foreign = frozenset(code for link in links if not isinstance(link, Link) for code in link.short_codes)
        self._render = render
        self._keep_whole = keep_whole
        self._torn: OrderedDict[UUID, _Torn] = OrderedDict()

    async def send(self, reply: Reply) -> Sent:
        """Try to deliver one reply, once.

        TAKEN only if every part was taken; NEVER if one was refused for good. A repeat of the same reply carries
        the same part reference, so that a phone joins the parts of both instead of showing a torso twice.
        """
        said, is_tried = Sent(Outcome.LATER, "no link is up", is_tried=False), False
        for link in routes(self._links, reply.peer, reply.recipient)[:_LINKS_AT_ONCE]:
            if isinstance(link, Link):
                try:
                    said, is_over = await self._send_by(link, reply)
                except TooLong as fault:
                    return Sent(Outcome.NEVER, str(fault))
            else:
                said, is_over = await link.send(reply, self._render(reply), self._keep_whole(reply))
            is_tried |= said.is_tried
            if is_over:
                break
        return replace(said, is_tried=is_tried)

    async def _send_by(self, link: Link, reply: Reply) -> tuple[Sent, bool]:
        """Try one link. True with it: no other may be tried now. Raises TooLong."""
        alphabet = link.settings.default_alphabet
        parts = split(self._render(reply), reply.id.int & 0xFF, self._keep_whole(reply), alphabet)
        if len(parts) == 1 and reply.id not in self._torn:
            return await self._send_alone(link, reply, parts[0])
        return await self._send_parts(link, reply, parts)

    async def _send_alone(self, link: Link, reply: Reply, part: Part) -> tuple[Sent, bool]:
        """Send a text of one part, as most are."""

        def on_late(late: SubmitResult) -> None:
            self._remember(reply.id, _Torn(link.settings.default_alphabet, 1, {1: (link, late)}))

        result = await link.submit(self._message(link.settings, reply, part), on_late)
        detail = result.message_id if result.outcome is Outcome.TAKEN else result.detail
        kept = _kept(link, result, 1, 1)
        is_over = result.outcome is not Outcome.LATER or result.is_unknown
        parts = (kept,) if kept is not None else ()
        return Sent(result.outcome, f"{link.name}: {detail}", parts, result.is_sent), is_over

    async def _send_parts(self, link: Link, reply: Reply, parts: Sequence[Part]) -> tuple[Sent, bool]:
        torn = self._torn.get(reply.id)
        if torn is None or (torn.alphabet, torn.total) != (link.settings.default_alphabet, len(parts)):
            torn = _Torn(link.settings.default_alphabet, len(parts))
        taken = torn.taken

        def on_late(number: int) -> Callable[[SubmitResult], None]:
            def tell(late: SubmitResult) -> None:
                taken[number] = (link, late)

            return tell

        missing = [number for number in range(1, len(parts) + 1) if number not in taken]
        self._remember(reply.id, torn)
        results = await asyncio.gather(
            *(
                link.submit(self._message(link.settings, reply, parts[number - 1]), on_late(number))
                for number in missing
            )
        )
        for number, result in zip(missing, results, strict=True):
            if result.outcome is Outcome.TAKEN:
                taken[number] = (link, result)
        kept = tuple(
            part
            for number, (sender, result) in sorted(taken.items())
            if (part := _kept(sender, result, number, len(parts))) is not None
        )
        for outcome in (Outcome.NEVER, Outcome.LATER):
            for result in results:
                if result.outcome is outcome:
                    if outcome is Outcome.NEVER:
                        self._torn.pop(reply.id, None)
                    is_over = outcome is Outcome.NEVER or bool(taken) or any(each.is_unknown for each in results)
                    is_tried = any(each.is_sent for each in results)
                    return Sent(outcome, f"{link.name}: {result.detail}", is_tried=is_tried), is_over
        self._torn.pop(reply.id, None)
        ids = ", ".join(result.message_id for _, (_, result) in sorted(taken.items()))
        return Sent(Outcome.TAKEN, f"{link.name}: {ids}", kept), True

    def _message(self, settings: LinkSettings, reply: Reply, part: Part) -> SubmitSm:
        is_foreign = reply.sender in self._foreign and bool(settings.source_addr)
        return _message(
            settings,
            settings.source_addr if is_foreign else reply.sender or settings.source_addr,
            reply.recipient,
            part,
        )

    def _remember(self, reply_id: UUID, torn: _Torn) -> None:
        self._torn[reply_id] = torn
        while len(self._torn) > _TORN_MAX:
            self._torn.popitem(last=False)


def _kept(link: Link, result: SubmitResult, number: int, total: int) -> SentPart | None:
    """What to keep of a part for its receipt; None where none was asked for or none can be matched."""
    if result.outcome is not Outcome.TAKEN or not result.message_id:
        return None
    if not link.settings.registered_delivery & _RECEIPT_WANTED:
        return None
    return SentPart(link.name, link.centre, result.message_id, normal(result.message_id), number, total)


def _message(settings: LinkSettings, sender: str, recipient: str, part: Part) -> SubmitSm:
    return SubmitSm(
        source_addr_ton=settings.source_addr_ton,
        source_addr_npi=settings.source_addr_npi,
        source_addr=sender,
        dest_addr_ton=settings.dest_addr_ton,
        dest_addr_npi=settings.dest_addr_npi,
        destination_addr=recipient,
        esm_class=part.esm_class,
        registered_delivery=settings.registered_delivery,
        validity_period=relative_time(settings.validity_s),
        data_coding=part.data_coding,
        short_message=part.short_message,
    )


def relative_time(seconds: int) -> str:
    """Give so many seconds from now as SMPP 3.4 writes it, 7.1.1: "000002000000000R"; empty for 0."""
    if not seconds:
        return ""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    # 16 digits have two for the days; a month more would be a guess at its length.
    return f"0000{min(days, 99):02d}{hour:02d}{minute:02d}{second:02d}000R"
