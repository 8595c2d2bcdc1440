"""USSD over SMPP: forms of session, operations, bad parameters and screens by table; then over a real socket.

The forms are those of SMPP 3.4 (5.3.2.36, 5.3.2.43, 5.3.2.44) and of the project's working notes on what is in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.commands import Help
from channels.contract import Inbound
from channels.http.callback import NotReadable
from channels.smpp.link import Link
from channels.smpp.message_centre import Fault, MessageCentre
from channels.smpp.pdu import DeliverSm, Tlv
from channels.smpp.text import Alphabet, decode
from channels.sms import SmsChannel
from channels.ussd.links import UssdLinks
from channels.ussd.providers import smpp
from channels.ussd.steps import Kind, Page, Step
from config.settings import UssdSettings
from tests.channels.books import PartsInMemory
from tests.channels.smpp.rig import PHONE, link_settings, message_centre, until

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OP, INFO, REFERENCE, MESSAGE_ID = 0x0501, 0x1383, 0x0204, 0x001E
SPEC = UssdSettings(name="menu", kind="smpp", links="centre", code="*384#", resend_s=2.0)
IDS = replace(SPEC, session_from="session_id", mark_from="message_id")
REFERENCES = replace(SPEC, session_from="user_message_reference", mark_from="message_id")
VENDOR = replace(SPEC, begin_operation=32, answer_operation=33, abort_operation=34, ask_operation=35, end_operation=23)
ID: Tlv = (MESSAGE_ID, b"a7\0")


def message(*tlvs: Tlv, text: bytes = b"1", **changes: Any) -> DeliverSm:
    values: dict[str, Any] = {
        "service_type": "USSD",
        "source_addr_ton": 1,
        "source_addr_npi": 1,
        "source_addr": PHONE,
        "destination_addr": "384",
        "short_message": text,
        "tlvs": tlvs,
        **changes,
    }
    return DeliverSm(**values)


def read(said: DeliverSm, service: UssdSettings = SPEC) -> Step:
    return smpp.read(said, service, "mtn", Alphabet.GSM, MESSAGE_ID, NOW)


@pytest.mark.parametrize(
    ("service", "said", "session", "kind", "text"),
    [
        (SPEC, message((OP, b"\x01"), (INFO, b"\x07\x02"), text=b"*384#"), "mtn:7", Kind.BEGIN, ""),
        (SPEC, message((OP, b"\x01"), (INFO, b"\x07\x02"), text=b"*384*1*2#"), "mtn:7", Kind.BEGIN, "1*2"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), text=b" 0401 \0"), "mtn:7", Kind.CONTINUE, "0401"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\xff\xfe"), text=b""), "mtn:255", Kind.CONTINUE, ""),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x05")), "mtn:7", Kind.OVER, ""),
        (SPEC, message((OP, b"\x81"), (INFO, b"\x07\x04"), text=b"\0\1"), "mtn:7", Kind.OVER, ""),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), text="٥".encode("utf-16-be"), data_coding=8),
         "mtn:7", Kind.CONTINUE, "٥"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), text=b"5", data_coding=15), "mtn:7", Kind.CONTINUE, "5"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), (0x0424, b"17"), text=b""), "mtn:7", Kind.CONTINUE, "17"),
        (replace(SPEC, code=""), message((OP, b"\x01"), (INFO, b"\x07\x02"), text=b"*384*9#"),
         "mtn:7", Kind.BEGIN, "9"),
        (IDS, message((OP, b"\x12"), (INFO, b"\x07\x04"), ID), f"mtn:{0x0704 >> 1}", Kind.CONTINUE, "1"),
        (IDS, message((OP, b"\x12"), (INFO, b"\x07\x05"), ID), f"mtn:{0x0704 >> 1}", Kind.OVER, ""),
        (REFERENCES, message((OP, b"\x12"), (REFERENCE, b"\x01\x02"), ID), "mtn:258", Kind.CONTINUE, "1"),
        (REFERENCES, message((OP, b"\x12"), (REFERENCE, b"\x09"), (INFO, b"\0\1"), ID), "mtn:9", Kind.OVER, ""),
        (VENDOR, message((OP, b"\x20"), (INFO, b"\x07\x02"), text=b"*384#"), "mtn:7", Kind.BEGIN, ""),
        (VENDOR, message((OP, b"\x22"), (INFO, b"\x07\x02")), "mtn:7", Kind.OVER, ""),
    ],
)  # fmt: skip
def test_what_a_message_says(service: UssdSettings, said: DeliverSm, session: str, kind: Kind, text: str) -> None:
    step = read(said, service)
    assert (step.session, step.kind, step.text, step.msisdn) == (session, kind, text, PHONE)
    assert not step.is_whole and step.ids_come_again


@pytest.mark.parametrize(
    ("service", "said", "why"),
    [
        (SPEC, message((OP, b"\x12")), "missing: its_session_info"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07")), "length: its_session_info"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04\0")), "length: its_session_info"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), (INFO, b"\x08\x04")), "repeated: its_session_info"),
        (SPEC, message((OP, b""), (INFO, b"\x07\x04")), "length: ussd_service_op"),
        (SPEC, message((OP, b"\0\x12"), (INFO, b"\x07\x04")), "length: ussd_service_op"),
        (SPEC, message((OP, b"\x12"), (OP, b"\x01"), (INFO, b"\x07\x04")), "repeated: ussd_service_op"),
        (SPEC, message((OP, b"\x13"), (INFO, b"\x07\x04")), "unknown_operation: ussd_service_op"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), source_addr="Bank"), "phone_number: source_addr"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), text=b"1\r1"), "control_character: short_message"),
        (SPEC, message((OP, b"\x12"), (INFO, b"\x07\x04"), text=b"1" * 183), "too_long: short_message"),
        (IDS, message((OP, b"\x12"), (INFO, b"\x07\x04")), "missing: message id"),
        (REFERENCES, message((OP, b"\x12"), (INFO, b"\x07\x04"), ID), "missing: user_message_reference"),
        (REFERENCES, message((OP, b"\x12"), (REFERENCE, b"\0\0\1"), ID), "length: user_message_reference"),
    ],
)
def test_what_cannot_be_read_has_a_name(service: UssdSettings, said: DeliverSm, why: str) -> None:
    with pytest.raises(NotReadable) as caught:
        read(said, service)
    assert str(caught.value) == why


@given(st.lists(st.tuples(st.sampled_from((OP, INFO, REFERENCE, MESSAGE_ID)), st.binary(max_size=4))), st.binary())
def test_noise_is_a_step_or_not_readable(tlvs: list[Tlv], text: bytes) -> None:
    for service in (SPEC, IDS, REFERENCES):
        with suppress(NotReadable):
            assert read(message(*tlvs, text=text[:254]), service).service == "menu"


def test_marks_tell_a_step_from_the_next_and_not_from_its_repeat() -> None:
    first, second = message((OP, b"\x12"), (INFO, b"\x07\x04")), message((OP, b"\x12"), (INFO, b"\x07\x06"))
    assert read(first).mark == read(replace(first, sequence=99)).mark != read(second).mark
    by_id = message((OP, b"\x12"), (INFO, b"\x07\x04"), ID)
    other = message((OP, b"\x12"), (INFO, b"\x07\x04"), (MESSAGE_ID, b"a8"))
    assert read(by_id, IDS).mark == read(replace(by_id, sequence=99), IDS).mark != read(other, IDS).mark


@pytest.mark.parametrize(
    ("service", "page", "operation", "info", "coding"),
    [
        (SPEC, Page("Menu\n1 Buy", False), 2, b"\x07\x04", 0),
        (SPEC, Page("Bye", True), 17, b"\x07\x05", 0),
        (SPEC, Page("x" * 182, True), 17, b"\x07\x05", 0),
        (SPEC, Page("مرحبا", False), 2, b"\x07\x04", 8),
        (VENDOR, Page("Menu", False), 35, b"\x07\x04", 0),
        (VENDOR, Page("Bye", True), 0x17, b"\x07\x05", 0),
    ],
)
def test_a_screen_goes_out_in_the_session_of_its_question(
    service: UssdSettings, page: Page, operation: int, info: bytes, coding: int
) -> None:
    said = message((OP, b"\x12"), (INFO, b"\x07\x04"), (REFERENCE, b"\0\3"), service_type="USSD1", dest_addr_ton=3)
    shown = smpp.write(said, service, page, Alphabet.GSM)
    assert shown.tlvs == ((OP, bytes((operation,))), (INFO, info), (REFERENCE, b"\0\3"))
    assert (shown.data_coding, decode(shown.short_message, coding)) == (coding, page.text)
    assert (shown.source_addr, shown.source_addr_ton, shown.destination_addr) == ("384", 3, PHONE)
    assert shown.service_type == "USSD1" and shown.encode()


# --- over a socket ------------------------------------------------------------------------------------------------


class Answers:
    """Stands for the USSD desk, and for the SMS desk beside it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.texts: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.lost: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, step: Step, on_stored: Callable[[], None] = lambda: None) -> Page:
        self.steps.append(step)
        on_stored()
        await self.gate.wait()
        return Page(f"you typed {step.text}", step.text == "end")

    async def receive(self, inbound: Inbound) -> None:
        self.texts.append(inbound.sender)


@asynccontextmanager
async def served(centre: MessageCentre, service: UssdSettings = SPEC) -> AsyncIterator[Answers]:
    answers = Answers()
    links = UssdLinks(
        [service],
        answers,
        now=lambda: NOW,
        help_text=lambda: "dial again",
        on_refused=lambda route, why: answers.refused.append((route, why)),
        on_lost=answers.lost.append,
        pause_s=0.01,
    )
    link = Link(link_settings(centre.port, throttle_retries=0), random=lambda: 0.5)
    channel = SmsChannel(
        [link],
        parse=lambda text: Help(),
        render=lambda reply: "",
        keep_whole=lambda reply: [],
        now=lambda: NOW,
        new_reference=lambda: "fresh",
        parts=PartsInMemory(lambda: NOW),
        divert=links.take,
    )
    run = asyncio.create_task(channel.run(answers))
    try:
        await until(channel.is_up)
        yield answers
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


async def test_a_session_over_a_socket_and_an_sms_beside_it() -> None:
    async with message_centre() as centre, served(centre) as answers:
        centre.ussd.dial(PHONE, "*384*5#")
        centre.deliver(PHONE, "384", "help")
        await until(lambda: centre.ussd.screens and answers.texts)
        centre.ussd.type(PHONE, "end")
        await until(lambda: len(centre.ussd.screens) == 2)
        assert [(each.text, each.is_end, each.operation) for each in centre.ussd.screens] == [
            ("you typed 5", False, 2),
            ("you typed end", True, 17),
        ]
        assert [step.kind for step in answers.steps] == [Kind.BEGIN, Kind.CONTINUE]
        assert answers.texts == [PHONE] and not centre.messages_for(PHONE)
        await centre.drained()
        assert (centre.counts.refused, centre.counts.put_off) == (0, 0)


async def test_a_step_is_acknowledged_when_it_is_stored_and_not_when_its_token_is_there() -> None:
    async with message_centre() as centre, served(centre) as answers:
        answers.gate.clear()
        centre.ussd.dial(PHONE, "*384#")
        await centre.drained()
        assert not centre.ussd.screens
        answers.gate.set()
        await until(lambda: centre.ussd.screens)


async def test_an_abort_is_acknowledged_and_not_answered() -> None:
    async with message_centre() as centre, served(centre) as answers:
        centre.ussd.dial(PHONE, "*384#")
        await until(lambda: centre.ussd.screens)
        centre.ussd.hang_up(PHONE)
        await centre.drained()
        assert [step.kind for step in answers.steps] == [Kind.BEGIN, Kind.OVER]
        assert centre.counts.submits == 1


async def test_what_cannot_be_read_gets_help_in_its_session_or_is_refused_for_good() -> None:
    async with message_centre() as centre, served(centre) as answers:
        centre.ussd.dial(PHONE, "*384#")
        await until(lambda: centre.ussd.screens)
        centre.deliver_octets(PHONE, "384", b"1", tlvs=((OP, b"\x13"), (INFO, centre.ussd.screens[0].session_info)))
        await until(lambda: len(centre.ussd.screens) == 2)
        assert centre.ussd.screens[1].is_end and centre.ussd.screens[1].text == "dial again"
        centre.deliver_octets(PHONE, "384", b"1", tlvs=((OP, b"\x12"),))
        await until(lambda: len(answers.refused) == 2)
        await centre.drained()
        assert answers.refused == [("ussd:menu", "unknown_operation"), ("ussd:menu", "missing")]
        assert len(answers.steps) == 1 and not answers.texts and centre.counts.submits == 2


async def test_a_throttled_screen_is_sent_again_and_a_refused_one_is_dropped() -> None:
    async with message_centre() as centre, served(centre) as answers:
        centre.arm(Fault.THROTTLE, 2)
        centre.ussd.dial(PHONE, "*384#")
        await until(lambda: centre.ussd.screens)
        assert centre.counts.throttled == 2 and not answers.lost
        centre.arm(Fault.REFUSE_SUBMIT)
        centre.ussd.type(PHONE, "1")
        await until(lambda: answers.lost)
        assert len(centre.ussd.screens) == 1 and answers.lost == ["menu"]


async def test_a_screen_that_is_not_taken_in_time_is_dropped() -> None:
    async with message_centre() as centre, served(centre, replace(SPEC, resend_s=0.1)) as answers:
        centre.arm(Fault.THROTTLE, 1_000)
        centre.ussd.dial(PHONE, "*384#")
        await until(lambda: answers.lost)
        assert not centre.ussd.screens


async def test_without_a_service_on_its_link_a_message_is_an_sms_as_before() -> None:
    async with message_centre() as centre, served(centre, replace(SPEC, links="another")) as answers:
        centre.ussd.dial(PHONE, "*384#")
        await until(lambda: answers.texts)
        assert not answers.steps


async def test_phones_of_fifteen_bit_ids_keep_theirs_over_the_session() -> None:
    async with message_centre(ussd_sequence=False) as centre, served(centre, IDS) as answers:
        infos: set[bytes] = set()
        for typed in ("", "1", "1"):
            centre.ussd.screens.clear()
            if typed:
                centre.ussd.type(PHONE, typed)
            else:
                centre.ussd.dial(PHONE, "*384#")
            await until(lambda: centre.ussd.screens)
            infos.add(centre.ussd.screens[0].session_info)
        assert len({step.key for step in answers.steps}) == 1
        assert len({step.mark for step in answers.steps}) == 3
        assert len(infos) == 1
