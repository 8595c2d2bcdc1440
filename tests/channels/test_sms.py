"""The SMS channel between a desk and message centres on real sockets.

Covers: what a request looks like to the desk, stored before acknowledged, references and fingerprints, long messages
from phones, alphabets both ways, replies of one and of several parts, several links, leaving, and what is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import pytest

from channels.commands import Command, Help, Unreadable
from channels.contract import Channel, Inbound, Message, NotStored, Outcome, Reply, Sent, TextIn
from channels.smpp.link import Link
from channels.smpp.message_centre import Fault, MessageCentre
from channels.smpp.text import Alphabet, split
from channels.sms import SmsChannel, customer_number, fingerprint, plain_number
from ledger.reasons import Reason
from tests.channels.books import PartsInMemory
from tests.channels.smpp.rig import PATIENCE_S, PHONE, SHORT_CODE, link_settings, message_centre, until

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TOKEN = "1234 5678 9012 3456 7890"


class Desk:
    """Takes what comes; `gate` holds it back, `faults` are raised one after the other."""

    def __init__(self) -> None:
        self.received: list[Inbound] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: list[Exception] = []
        self.at_once = 0
        self.most_at_once = 0

    async def receive(self, inbound: Inbound) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            if self.faults:
                raise self.faults.pop(0)
            self.received.append(inbound)
        finally:
            self.at_once -= 1


class Room:
    """A channel with its desk, and what the channel was given to read and to say."""

    def __init__(self, channel: SmsChannel, desk: Desk, texts: list[str]) -> None:
        self.channel = channel
        self.desk = desk
        self.texts = texts


def make_channel(
    ports: dict[str, int],
    texts: list[str],
    *,
    parse: Callable[[str], Command] | None = None,
    parts: PartsInMemory | None = None,
    now: Callable[[], datetime] = lambda: NOW,
    part_timeout_s: float = 300.0,
    fingerprint_key: bytes = b"",
    **changes: Any,
) -> SmsChannel:
    def read(text: str) -> Command:
        texts.append(text)
        return Help() if "help" in text.lower() else Unreadable(Reason.UNREADABLE)

    numbers = iter(range(1, 1000))
    return SmsChannel(
        [Link(link_settings(port, name=name, **changes), random=lambda: 0.5) for name, port in ports.items()],
        parse=parse or read,
        render=lambda reply: str(reply.message.values["text"]),
        keep_whole=lambda reply: [TOKEN],
        now=now,
        new_reference=lambda: f"fresh{next(numbers)}",
        parts=parts or PartsInMemory(now),
        part_timeout_s=part_timeout_s,
        look_every_s=0.02,
        fingerprint_key=fingerprint_key,
    )


@asynccontextmanager
async def room(*centres: MessageCentre, **changes: Any) -> AsyncIterator[Room]:
    texts: list[str] = []
    ports = {f"centre{number}": centre.port for number, centre in enumerate(centres, start=1)}
    channel = make_channel(ports, texts, **changes)
    desk = Desk()
    run = asyncio.create_task(channel.run(desk))
    try:
        await until(lambda: all(centre.bound for centre in centres) and all(link.is_up() for link in channel.links))
        yield Room(channel, desk, texts)
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


def reply(text: str, peer: str = "centre1", recipient: str = PHONE, number: int = 7) -> Reply:
    return Reply(
        UUID(int=number), UUID(int=1), "sms", peer, recipient, SHORT_CODE, "en", Message("any", {"text": text})
    )


async def drained(centre: MessageCentre) -> None:
    await asyncio.wait_for(centre.drained(), PATIENCE_S)


# ------------------------------------------------------------------------------------------------ pure


# fmt: off
@pytest.mark.parametrize(("address", "plain"), [
    ("256772123456",      "256772123456"),
    ("+256772123456",     "256772123456"),
    ("00256772123456",    "256772123456"),
    ("+256 772-123 456",  "256772123456"),
    ("0772123456",        "0772123456"),
    ("1234",              "1234"),
    ("MTN-UG",            "MTN-UG"),
    ("Pay 4U",            "Pay 4U"),
    ("",                  ""),
    ("\u0661\u0662",      "\u0661\u0662"),   # digits, but not of a phone number
])
# fmt: on
def test_numbers_become_digits_and_names_stay(address: str, plain: str) -> None:
    assert plain_number(address) == plain


# fmt: off
@pytest.mark.parametrize(("address", "ton", "code", "number"), [
    ("0772123456",     0, "256", "256772123456"),
    ("0772123456",     2, "256", "256772123456"),
    ("0772123456",     1, "256", "256772123456"),   # marked as international all the same
    ("772123456",      2, "256", "256772123456"),
    ("256772123456",   2, "256", "256772123456"),   # marked as national all the same
    ("+256772123456",  1, "256", "256772123456"),
    ("00256772123456", 0, "256", "256772123456"),
    ("772123456",      0, "256", "772123456"),      # whose it is nobody can tell
    ("254711013579",   1, "256", "254711013579"),   # a neighbour's
    ("0772123456",     2, "",    "0772123456"),
    ("20777",          2, "256", "20777"),
    ("0100",           0, "256", "0100"),
    ("MTN-UG",         5, "256", "MTN-UG"),
])
# fmt: on
def test_a_customer_is_one_however_the_message_centre_writes_the_number(
    address: str, ton: int, code: str, number: str
) -> None:
    assert customer_number(address, ton, code) == number


@pytest.mark.asyncio
async def test_a_national_number_is_the_customer_that_the_books_know() -> None:
    async with message_centre() as centre, room(centre, country_code="256") as here:
        centre.deliver("0" + PHONE.removeprefix("256"), SHORT_CODE, "help")
        await drained(centre)
        assert [each.sender for each in here.desk.received] == [PHONE]


def test_a_fingerprint_is_16_octets_over_all_that_makes_a_message() -> None:
    one = fingerprint("25677", "1234", 0, b"500")
    assert len(one) == 16 and one == fingerprint("25677", "1234", 0, b"500")
    others = [("2567", "71234", 0, b"500"), ("25677", "1234", 8, b"500"), ("25677", "1234", 0, b"501")]
    assert len({one, *(fingerprint(*each) for each in others)}) == 4


def test_links_of_one_name_are_refused() -> None:
    links = [Link(link_settings(port, name="one"), random=lambda: 0.5) for port in (1, 2)]
    with pytest.raises(ValueError, match="name"):
        SmsChannel(
            links,
            parse=lambda text: Help(),
            render=lambda each: "",
            keep_whole=lambda each: [],
            now=lambda: NOW,
            new_reference=lambda: "",
            parts=PartsInMemory(lambda: NOW),
        )


def test_it_is_a_channel() -> None:
    channel: Channel = make_channel({"one": 1}, [])
    assert channel.name == "sms" and not channel.is_up()


# ------------------------------------------------------------------------------------------------ in


@pytest.mark.asyncio
async def test_a_request_reaches_the_desk_with_all_its_fields() -> None:
    async with message_centre(id_prefix="x") as centre, room(centre) as here:
        message_id = centre.deliver("+" + PHONE, SHORT_CODE, "help me")
        await drained(centre)
        assert here.desk.received == [
            Inbound(
                channel="sms",
                peer="centre1",
                reference=f"centre1:m:{message_id}",
                fingerprint=fingerprint(PHONE, SHORT_CODE, 0, b"help me"),
                sender=PHONE,
                destination=SHORT_CODE,
                command=Help(),
                received_at=NOW,
            )
        ]


@pytest.mark.asyncio
async def test_a_request_is_acknowledged_only_when_it_is_stored() -> None:
    async with message_centre(redeliver_after_s=60.0) as centre, room(centre) as here:
        here.desk.gate.clear()
        for number in range(50):
            centre.deliver(PHONE, SHORT_CODE, f"help {number}")
        await until(lambda: here.desk.at_once == 50)
        assert centre.counts.acknowledged == 0
        here.desk.gate.set()
        await drained(centre)
        assert here.desk.most_at_once == 50 and centre.counts.acknowledged == len(here.desk.received) == 50


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [NotStored("full"), ValueError("help 256772123456"), AssertionError()])
async def test_what_could_not_be_stored_comes_again(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with message_centre(redeliver_after_s=0.02) as centre, room(centre) as here:
        here.desk.faults.append(fault)
        centre.deliver(PHONE, SHORT_CODE, "help")
        await drained(centre)
        assert (centre.counts.put_off, len(here.desk.received)) == (1, 1)
    assert PHONE not in caplog.text, "not even from an exception's own words"
    if not isinstance(fault, NotStored):
        assert type(fault).__name__ in caplog.text and "test_sms.py" in caplog.text


@pytest.mark.asyncio
async def test_a_parser_that_fails_costs_only_its_message() -> None:
    def parse(text: str) -> Command:
        if text == "bad":
            raise RuntimeError
        return Help()

    async with message_centre(redeliver_after_s=60.0) as centre, room(centre, parse=parse) as here:
        centre.deliver(PHONE, SHORT_CODE, "bad")
        centre.deliver(PHONE, SHORT_CODE, "good")
        await until(lambda: centre.counts.acknowledged == centre.counts.put_off == 1)
        assert len(here.desk.received) == 1


@pytest.mark.asyncio
async def test_a_repeat_has_the_same_reference_and_fingerprint() -> None:
    async with message_centre(redeliver_after_s=0.02) as centre, room(centre) as here:
        centre.arm(Fault.LOSE_ANSWER, 2)
        centre.arm(Fault.DUPLICATE)
        centre.deliver(PHONE, SHORT_CODE, "help")
        await drained(centre)
        await until(lambda: len(here.desk.received) >= 3)
        assert len({(each.reference, each.fingerprint) for each in here.desk.received}) == 1


def digest(octets: bytes) -> str:
    return blake2b(octets, digest_size=16).hexdigest()


@pytest.mark.asyncio
@pytest.mark.parametrize(("centre_name", "references"), [("umoja", 1), ("", 2)])
async def test_a_message_has_one_reference_on_all_links_to_its_message_centre(
    centre_name: str, references: int
) -> None:
    async with message_centre(id_tlv=None) as one, message_centre(id_tlv=None) as two:
        async with room(one, two, centre=centre_name) as here:
            for centre in (one, two):  # the answer to the first was lost, so it comes again by the other link
                centre.deliver(PHONE, SHORT_CODE, "help", tlvs=((0x001E, b"abc-1"),))
                await drained(centre)
            received = here.desk.received
            assert [each.peer for each in received] == ["centre1", "centre2"]
            assert len({each.reference for each in received}) == references
            assert len({each.fingerprint for each in received}) == 1
            assert received[0].reference == f"{centre_name or 'centre1'}:m:abc-1"


@pytest.mark.asyncio
async def test_parts_of_one_message_may_come_by_different_links_of_its_message_centre() -> None:
    async with message_centre() as one, message_centre() as two, room(one, two, centre="umoja") as here:
        for centre, part in zip((one, two), rude_parts("help " + "x" * 60, 70, 9), strict=True):
            centre.deliver_octets(PHONE, SHORT_CODE, part, 8, esm_class=0x40)
            await drained(centre)
        assert here.texts == ["help " + "x" * 60]


@pytest.mark.asyncio
async def test_what_is_kept_of_a_text_tells_nothing_to_whoever_tries_all_pins() -> None:
    """Digests of texts that came whole, by a link and by an aggregator, and of parts that wait."""
    parts = PartsInMemory(lambda: NOW)
    words = "help pin 720951"
    async with message_centre() as centre, room(centre, parts=parts, fingerprint_key=b"k" * 32) as here:
        centre.deliver(PHONE, SHORT_CODE, words)
        await drained(centre)
        await here.channel.take_text(TextIn("at", "at", "1", PHONE, SHORT_CODE, words))
        piece = rude_parts(words, 8, 9)[0]
        centre.deliver_octets(PHONE, SHORT_CODE, piece, 8, esm_class=0x40)
        await drained(centre)
        ((waiting,),) = [each.parts for each in await parts.left(timedelta(0))]
        wide = words.encode("utf-16-be")
        for digest, coding, octets in (
            (here.desk.received[0].fingerprint, 0, words.encode()),
            (here.desk.received[1].fingerprint, 8, wide),
            (waiting.digest, 8, wide[:8]),
        ):
            assert digest == fingerprint(PHONE, SHORT_CODE, coding, octets, b"k" * 32)
            assert digest != fingerprint(PHONE, SHORT_CODE, coding, octets)


VENDOR = 0x1400
# fmt: off
@pytest.mark.parametrize(("tag", "tlvs", "reference"), [
    (0x001E, ((0x001E, b"abc-1\0"),),                            "centre1:m:abc-1"),
    (0x001E, ((0x001E, b"abc-1"),),                              "centre1:m:abc-1"),
    (0x001E, ((0x001E, b""),),                                   "n:fresh1"),
    (0x001E, ((0x001E, b"\0"),),                                 "n:fresh1"),
    (0x001E, (),                                                 "n:fresh1"),
    (0x001E, ((VENDOR, b"77"),),                                 "n:fresh1"),
    (VENDOR, ((0x0204, b"\0\1"), (VENDOR, b"77")),               "centre1:m:77"),
    (None,   ((0x001E, b"abc-1\0"),),                            "n:fresh1"),
    (VENDOR, ((VENDOR, b"\x01\x02"),),                           "centre1:m:x" + digest(b"\x01\x02")),
    (VENDOR, ((VENDOR, b"a" * 64),),                             "centre1:m:" + "a" * 64),
    (VENDOR, ((VENDOR, b"a" * 65),),                             "centre1:m:x" + digest(b"a" * 65)),
])
# fmt: on
@pytest.mark.asyncio
async def test_the_reference_is_the_message_centres_own_id_or_a_fresh_one(
    tag: int | None, tlvs: tuple[tuple[int, bytes], ...], reference: str
) -> None:
    async with message_centre(id_tlv=None) as centre, room(centre, reference_tlv=tag) as here:
        centre.deliver(PHONE, SHORT_CODE, "help", tlvs=tlvs)
        await drained(centre)
        assert here.desk.received[0].reference == reference


# fmt: off
@pytest.mark.parametrize(("octets", "coding", "default", "text"), [
    (b"04012345676 500",                      0,    Alphabet.GSM,     "04012345676 500"),
    (b"\x1b\x65 5 \x00",                      0,    Alphabet.GSM,     "€ 5 "),        # the NUL is not an "@"
    (b"500\0",                                0,    Alphabet.GSM,     "500"),
    (b"caf\xe9 @",                            0,    Alphabet.LATIN_1, "café @"),
    (b"500\0",                                3,    Alphabet.GSM,     "500"),
    ("٥٠٠ مرحبا".encode("utf-16-be"),         8,    Alphabet.GSM,     "٥٠٠ مرحبا"),
    ("😀 500\0".encode("utf-16-be"),          8,    Alphabet.GSM,     "😀 500"),
    (b"\xfe\xff\x005",                        8,    Alphabet.GSM,     "5"),
    (b"500",                                  0xF1, Alphabet.GSM,     "500"),
    (b"",                                     0,    Alphabet.GSM,     ""),
])
# fmt: on
@pytest.mark.asyncio
async def test_a_text_is_read_by_its_alphabet(octets: bytes, coding: int, default: Alphabet, text: str) -> None:
    async with message_centre() as centre, room(centre, default_alphabet=default) as here:
        centre.deliver_octets(PHONE, SHORT_CODE, octets, coding)
        await drained(centre)
        assert here.texts == [text]


LONG = "help " + "مرحبا 😀 " * 20  # cut within surrogate pairs by what follows


def rude_parts(text: str, size: int, reference: int) -> list[bytes]:
    """Cut octets anywhere even, as phones do, pairs or not."""
    octets = text.encode("utf-16-be")
    pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
    header = [bytes((5, 0, 3, reference, len(pieces), number)) for number in range(1, len(pieces) + 1)]
    return [head + piece for head, piece in zip(header, pieces, strict=True)]


@pytest.mark.asyncio
@pytest.mark.parametrize("backwards", [False, True])
async def test_a_long_text_is_one_request_whatever_the_order_of_its_parts(backwards: bool) -> None:
    async with message_centre() as centre, room(centre) as here:
        parts = rude_parts(LONG, 46, 9)
        ids = [
            centre.deliver_octets(PHONE, SHORT_CODE, part, 8, esm_class=0x40)
            for part in (parts[::-1] if backwards else parts)
        ]
        await drained(centre)
        assert here.texts == [LONG]
        assert here.desk.received[0].reference == f"centre1:m:{ids[-1 if backwards else 0]}", "that of the first part"
        assert centre.counts.put_off == 0


@pytest.mark.asyncio
async def test_parts_that_come_one_at_a_time_are_acknowledged_while_the_others_are_awaited() -> None:
    async with message_centre(window=1, redeliver_after_s=60.0) as centre, room(centre) as here:
        centre.deliver(PHONE, SHORT_CODE, "help " + "x" * 300)
        await drained(centre)
        assert here.texts == ["help " + "x" * 300]


@pytest.mark.asyncio
async def test_customers_who_use_the_same_reference_are_kept_apart() -> None:
    async with message_centre() as centre, room(centre) as here:
        phones = [f"25677212345{number}" for number in range(5)]
        parts = {phone: rude_parts(f"help {phone} " + "x" * 60, 134, 7) for phone in phones}
        for index in range(2):
            for phone in phones:
                centre.deliver_octets(phone, SHORT_CODE, parts[phone][index], 8, esm_class=0x40)
        await drained(centre)
        assert sorted(here.texts) == [f"help {phone} " + "x" * 60 for phone in phones]
        assert sorted(each.sender for each in here.desk.received) == phones


@pytest.mark.asyncio
async def test_a_long_text_that_could_not_be_stored_comes_again_as_a_whole() -> None:
    async with message_centre(redeliver_after_s=0.02) as centre, room(centre) as here:
        here.desk.faults.append(NotStored())
        centre.deliver(PHONE, SHORT_CODE, "help " + "x" * 300)
        await drained(centre)
        assert len(here.texts) == 2 and len(here.desk.received) == 1
        assert centre.counts.put_off == 1, "the part that made it whole"


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [NotStored(), RuntimeError()])
async def test_a_part_that_was_acknowledged_is_kept_when_its_message_could_not_be_stored(fault: Exception) -> None:
    # A window of one: the first part is acknowledged before the second is sent, and so never comes again.
    async with message_centre(window=1, redeliver_after_s=0.05) as centre, room(centre) as here:
        here.desk.faults += [fault, fault]
        centre.deliver(PHONE, SHORT_CODE, "help " + "x" * 200)
        await drained(centre)
        assert [each.command for each in here.desk.received] == [Help()]
        assert here.texts[-1] == "help " + "x" * 200
        assert centre.counts.put_off == 2, "the second part alone, twice"


@pytest.mark.asyncio
async def test_receipts_are_no_requests() -> None:
    async with message_centre() as centre, room(centre, registered_delivery=1) as here:
        assert (await here.channel.send(reply("token"))).outcome is Outcome.TAKEN
        await drained(centre)
        assert here.channel.links[0].counts.receipts == 1 and here.desk.received == []


# ------------------------------------------------------------------------------------------------ out


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "coding", "parts"),
    [
        ("Token " + TOKEN, 0, 1),
        ("€ [5] " + TOKEN, 0, 1),
        ("x" * 150 + TOKEN + "y" * 100, 0, 2),
        ("مرحبا " + TOKEN, 8, 1),
        ("مرحبا " * 15 + TOKEN + " 😀" * 30, 8, 4),
    ],
)
async def test_a_reply_arrives_as_it_was_written(text: str, coding: int, parts: int) -> None:
    async with message_centre() as centre, room(centre) as here:
        sent = await here.channel.send(reply(text))
        assert sent.outcome is Outcome.TAKEN and sent.detail.startswith("centre1: ")
        got = await asyncio.wait_for(centre.next_reply(PHONE), PATIENCE_S)
        assert (got.text, got.data_coding, got.parts, got.source) == (text, coding, parts, SHORT_CODE)
        assert len(split(text, 0, [TOKEN])) == parts == centre.counts.submits


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(Fault.REFUSE_SUBMIT, Outcome.NEVER), (Fault.NACK_SUBMIT, Outcome.LATER), (Fault.THROTTLE, Outcome.TAKEN)],
)
async def test_a_reply_of_several_parts_is_as_its_worst_part(fault: Fault, outcome: Outcome) -> None:
    async with message_centre() as centre, room(centre) as here:
        centre.arm(fault)
        sent = await here.channel.send(reply("x" * 400))
        assert sent.outcome is outcome
        again = await here.channel.send(reply("x" * 400))
        assert again.outcome is Outcome.TAKEN
        assert [each.text for each in centre.messages_for(PHONE)][:1] == ["x" * 400]


@pytest.mark.asyncio
async def test_a_reply_sent_again_has_the_same_part_reference() -> None:
    async with message_centre() as centre, room(centre) as here:
        centre.arm(Fault.NACK_SUBMIT)  # the first part of the first try is lost
        assert (await here.channel.send(reply("x" * 160 + "y" * 100))).outcome is Outcome.LATER
        assert centre.messages_for(PHONE) == []
        await here.channel.send(reply("x" * 160 + "y" * 100))
        assert centre.messages_for(PHONE)[0].text == "x" * 160 + "y" * 100


@pytest.mark.asyncio
async def test_a_reply_leaves_by_its_own_link_or_by_another_that_is_up() -> None:
    async with message_centre() as one, message_centre() as two, room(one, two) as here:
        assert (await here.channel.send(reply("1", "centre2"))).detail.startswith("centre2: ")
        await two.stop()
        await until(lambda: not here.channel.links[1].is_up())
        assert here.channel.is_up()
        assert (await here.channel.send(reply("2", "centre2"))).detail.startswith("centre1: ")
        assert (await here.channel.send(reply("3", "a link that is no more"))).outcome is Outcome.TAKEN
        await one.stop()
        await until(lambda: not here.channel.is_up())
        assert await here.channel.send(reply("4")) == Sent(Outcome.LATER, "no link is up", is_tried=False)


# fmt: off
@pytest.mark.parametrize(("text", "recipient"), [
    ("token", "1" * 30),
    ("token", "\u0661\u0662"),
    ("x" * 153 * 256, PHONE),
])
# fmt: on
@pytest.mark.asyncio
async def test_what_can_never_be_sent_is_never(text: str, recipient: str) -> None:
    async with message_centre() as centre, room(centre) as here:
        assert (await here.channel.send(reply(text, recipient=recipient))).outcome is Outcome.NEVER
        assert centre.counts.submits == 0


# ------------------------------------------------------------------------------------------------ leaving, and the log


@pytest.mark.asyncio
async def test_a_channel_that_stops_still_acknowledges_what_is_being_stored() -> None:
    async with message_centre(redeliver_after_s=60.0) as centre:
        channel = make_channel({"centre1": centre.port}, [])
        desk = Desk()
        desk.gate.clear()
        run = asyncio.create_task(channel.run(desk))
        await until(lambda: centre.bound)
        centre.deliver(PHONE, SHORT_CODE, "help")
        await until(lambda: desk.at_once)
        run.cancel()
        await asyncio.sleep(0.01)
        desk.gate.set()
        with suppress(asyncio.CancelledError):
            await run
        assert (centre.counts.acknowledged, centre.unanswered, len(desk.received)) == (1, 0, 1)
        assert not channel.is_up()


@pytest.mark.asyncio
async def test_a_desk_that_never_returns_does_not_hold_the_channel_for_ever() -> None:
    async with message_centre(redeliver_after_s=60.0) as centre:
        async with room(centre, stop_grace_s=0.03) as here:
            here.desk.gate.clear()
            centre.deliver(PHONE, SHORT_CODE, "help")
            await until(lambda: here.desk.at_once)
        assert here.desk.at_once == 0 and centre.unanswered == 1


@pytest.mark.asyncio
async def test_no_text_phone_number_or_password_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with message_centre(redeliver_after_s=0.02) as centre, room(centre) as here:
        for fault in Fault:
            if fault is not Fault.SILENT_SUBMIT:
                centre.arm(fault)
        for number in range(20):
            centre.deliver(PHONE, SHORT_CODE, f"help secretword {number}")
        centre.deliver(PHONE, SHORT_CODE, "help secretword" + "x" * 300)
        await drained(centre)
        await until(here.channel.is_up)
        for _ in range(5):
            await here.channel.send(reply("secretword " + TOKEN))
    assert "link centre1" in caplog.text
    for secret in (PHONE, "secretword", TOKEN, "secret"):
        assert secret not in caplog.text
