"""One link, without sockets or clock.

Covers: sign-on from either side, echo and its misses; what is answered at once and how, row by row; MACs and key
change; frames in pieces, half frames, lost borders; limits.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from channels.iso8583 import mac, session, shipped
from channels.iso8583.answers import Said
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import Fault, KeyRefused
from channels.iso8583.framing import Framer, framed
from channels.iso8583.keymodule import Use
from channels.iso8583.mac import Algorithm, MacRules
from channels.iso8583.message import Message
from channels.iso8583.profile import Network, Profile
from channels.iso8583.requests import Purchase
from channels.iso8583.session import (
    Broken,
    Came,
    Declined,
    Echoed,
    KeyOffered,
    Moment,
    Refused,
    Session,
    SignedOff,
    SignedOn,
)
from channels.iso8583.softwarekeys import KeyRecord, Secret, SoftwareKeys
from tests.channels.iso8583.records import message

ATM87 = shipped.shipped("atm87")
KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
BEGAN = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def at(seconds: float = 0.0) -> Moment:
    return Moment(1_000 + seconds, BEGAN + timedelta(seconds=seconds), BEGAN + timedelta(hours=3, seconds=seconds))


class Link:
    """A session and the bank at its other end."""

    def __init__(self, profile: Profile = ATM87, keys: SoftwareKeys | None = None, **rules: Any) -> None:
        self.profile = replace(profile, link=replace(profile.link, **rules))
        self.numbers = iter(range(1, 1_000))
        self.session = Session(self.profile, at(), lambda: next(self.numbers), keys, {32: "627001"})

    def gets(self, *messages: Message | bytes, seconds: float = 0.0) -> list[session.Event]:
        data = b"".join(
            framed(self.profile.framing, each if isinstance(each, bytes) else self.profile.packager.encode(each))
            for each in messages
        )
        return self.session.receive(data, at(seconds))

    def sent(self) -> list[Message]:
        framer = Framer(self.profile.framing)
        return [self.profile.packager.decode(frame.body) for frame in framer.feed(self.session.take_output())]

    def signed_on(self) -> Link:
        assert self.gets(message("atm87-sign-on")) == [SignedOn()]
        self.session.take_output()
        return self


def codes(messages: list[Message]) -> list[tuple[str, str | None]]:
    return [(each.mti, each.get("39")) for each in messages]


def test_bank_signs_on_echoes_and_signs_off() -> None:
    link = Link()
    assert link.gets(message("atm87-sign-on"), message("atm87-echo")) == [SignedOn()]
    assert link.sent() == [message("atm87-sign-on-answer"), message("atm87-echo-answer")]
    assert link.gets(message("atm87-sign-on").having({70: "002"})) == [SignedOff()]
    assert codes(link.sent()) == [("0810", "00")] and not link.session.is_signed_on


def test_purchase_comes_out_and_its_answer_goes_out() -> None:
    link = Link().signed_on()
    (came,) = link.gets(message("atm87-purchase"))
    assert isinstance(came, Came) and isinstance(came.request, Purchase) and link.session.unanswered == 1
    assert link.session.take_output() == b""
    link.session.answer(came, Outcome.APPROVED, Said(places={"receipt": "A00099"}))
    assert codes(link.sent()) == [("0210", "00")] and link.session.unanswered == 0


def test_answer_may_go_out_on_another_link_of_the_bank() -> None:
    one, other = Link().signed_on(), Link().signed_on()
    (came,) = one.gets(message("atm87-purchase"))
    assert isinstance(came, Came)
    other.session.answer(came, Outcome.MALFUNCTION)
    assert codes(other.sent()) == [("0210", "96")]


def test_tpdu_of_an_answer_goes_back_where_it_came_from() -> None:
    bcd = shipped.shipped("atm87-bcd")
    link = Link(bcd)
    echo = bcd.packager.encode(message("atm87-echo"))
    link.session.receive(framed(bcd.framing, echo, bytes.fromhex("6000010002")), at())
    (frame,) = Framer(bcd.framing).feed(link.session.take_output())
    assert frame.tpdu.hex() == "6000020001"


BROKEN = b"0200" + b"7238440108C18000" + b"16502199000000001750000000000000500A1122093015000124"
LATE = ATM87.packager.encode(message("atm87-purchase")).replace(b"ATM00042", b"ATM\x0000042"[:8])

# what comes on a signed-on link, the answer, whether it is refused, and by which name
AT_ONCE: list[tuple[Message | bytes, list[tuple[str, str | None]], Fault | None]] = [
    (LATE, [("0210", "30")], Fault.CONTENT),
    (BROKEN, [], Fault.CONTENT),  # the trace number stands behind the fault
    (b"GET / HTTP/1.1", [], Fault.MTI),
    (message("atm87-purchase").without([4]), [("0210", "30")], Fault.MISSING),
    (message("atm87-purchase").having({3: "990000"}), [("0210", "12")], Fault.MTI),
    (message("atm87-echo").having({70: "999"}), [("0810", "12")], Fault.CONTENT),
    (Message("0300", {11: "000001"}), [("0310", "12")], Fault.MTI),
    (Message("0240", {11: "000001"}), [], Fault.MTI),
    (Message("0900", {11: "000001"}), [], Fault.MTI),
    # Never an answer to an answer.
    (message("atm87-purchase-answer"), [], Fault.MTI),
    (message("atm87-echo-answer"), [], Fault.MTI),
]


@pytest.mark.parametrize(("came", "answered", "fault"), AT_ONCE)
def test_what_is_no_business_is_answered_or_dropped_at_once(
    came: Message | bytes, answered: list[tuple[str, str | None]], fault: Fault
) -> None:
    link = Link().signed_on()
    (event,) = link.gets(came)
    assert isinstance(event, Refused) and event.error.fault is fault and event.is_answered is bool(answered)
    assert codes(link.sent()) == answered
    # The link lives.
    assert isinstance(link.gets(message("atm87-purchase"))[0], Came)


def test_business_before_a_sign_on_is_declined() -> None:
    link = Link()
    (event,) = link.gets(message("atm87-purchase"))
    assert isinstance(event, Refused) and codes(link.sent()) == [("0210", "91")]
    assert isinstance(Link(sign_on="none").gets(message("atm87-purchase"))[0], Came)


def test_so_many_unreadable_messages_in_a_row_end_the_link() -> None:
    link = Link().signed_on()
    for _ in range(4):
        assert not any(isinstance(event, Broken) for event in link.gets(b"rubbish"))
    link.gets(message("atm87-echo"))
    events = link.gets(*[b"rubbish"] * 5, message("atm87-purchase"))
    assert [type(event) for event in events] == [Refused] * 5 + [Broken]
    assert link.gets(message("atm87-purchase")) == [] and link.session.next_deadline() is None


def test_more_requests_than_can_wait_are_told_so() -> None:
    link = Link()
    link.session = Session(link.profile, at(), lambda: 1, unanswered_max=2)
    link.signed_on()
    events = link.gets(*[message("atm87-purchase")] * 3)
    assert [type(event) for event in events] == [Came, Came, Refused] and codes(link.sent()) == [("0210", "91")]


# --- frames -----------------------------------------------------------------------------------------------------------


def test_octets_in_any_pieces_give_the_same() -> None:
    stream = framed(ATM87.framing, ATM87.packager.encode(message("atm87-sign-on"))) * 2
    link = Link()
    events = [event for octet in stream for event in link.session.receive(bytes([octet]), at())]
    assert events == [SignedOn()] * 2 and len(link.sent()) == 2


def test_half_a_frame_is_waited_for_and_then_ends_the_link() -> None:
    link = Link(echo_every_s=0)
    assert link.session.next_deadline() is None
    link.session.receive(b"\x00\x10abc", at())
    assert link.session.next_deadline() == at(30).steady_s
    # One octet now and then buys no time.
    link.session.receive(b"d", at(29))
    assert link.session.tick(at(29.9)) == []
    assert link.session.tick(at(30)) == [Broken("half a frame for 30 s")]


def test_half_a_frame_behind_a_whole_one_has_its_own_time() -> None:
    link = Link(echo_every_s=0)
    link.session.receive(b"\x00", at())
    echo = framed(ATM87.framing, ATM87.packager.encode(message("atm87-echo")))
    assert link.session.receive(echo[1:] + b"\x00", at(20)) == []
    assert link.session.next_deadline() == at(50).steady_s


def test_lost_border_ends_the_link_after_what_came_before() -> None:
    link = Link()
    stream = framed(ATM87.framing, ATM87.packager.encode(message("atm87-sign-on"))) + b"0200"
    signed_on, broken = link.session.receive(stream, at())
    assert signed_on == SignedOn() and isinstance(broken, Broken) and "length of digits" in broken.why
    assert len(link.sent()) == 1


@pytest.mark.parametrize("answers", [False, True])
def test_keep_alive_is_swallowed_or_sent_back(answers: bool) -> None:
    link = Link(answer_keep_alive=answers)
    assert link.session.receive(b"\0\0", at()) == []
    assert link.session.take_output() == (b"\0\0" if answers else b"")


# --- what we begin ----------------------------------------------------------------------------------------------------


def test_we_sign_on_and_off() -> None:
    link = Link(signs_on="us")
    link.session.start(at())
    (asked,) = link.sent()
    assert dict(asked.items()) == {7: "1122093000", 11: "000001", 32: "627001", 70: "001"}
    assert link.gets(Message("0810", {**dict(asked.items()), 39: "00"})) == [SignedOn()]
    link.session.stop(at())
    assert [each.get("70") for each in link.sent()] == ["002"]


def test_declined_sign_on_is_told() -> None:
    link = Link(signs_on="us")
    link.session.start(at())
    (asked,) = link.sent()
    assert link.gets(Message("0810", {**dict(asked.items()), 39: "91"})) == [Declined(Network.SIGN_ON, "91")]
    assert not link.session.is_signed_on


def test_silence_is_asked_about_and_two_misses_end_the_link() -> None:
    link = Link().signed_on()
    assert link.session.next_deadline() == at(60).steady_s
    assert link.session.tick(at(59)) == [] and link.session.take_output() == b""
    assert link.session.tick(at(60)) == [] and [each.get("70") for each in link.sent()] == ["301"]
    assert link.session.next_deadline() == at(90).steady_s
    assert link.session.tick(at(90)) == [] and [each.get("11") for each in link.sent()] == ["000002"]
    assert link.session.tick(at(120)) == [Broken("no answer to echo for 30 s")]


def test_answered_echo_starts_anew() -> None:
    link = Link().signed_on()
    link.session.tick(at(60))
    (asked,) = link.sent()
    assert link.gets(Message("0810", {**dict(asked.items()), 39: "00"}), seconds=61) == [Echoed()]
    assert link.session.next_deadline() == at(121).steady_s
    # The same answer again is nobody's.
    assert isinstance(link.gets(Message("0810", {**dict(asked.items()), 39: "00"}), seconds=62)[0], Refused)


# --- MACs and keys ----------------------------------------------------------------------------------------------------

RULES = MacRules(Algorithm.X919, "atm87.zak", skip=frozenset({"0800"}))


def keys() -> SoftwareKeys:
    secret = Secret("des", KEY)
    return SoftwareKeys([KeyRecord("atm87.zak", Use.ZAK, secret), KeyRecord("atm87.zmk", Use.ZMK, secret)])


def signed(made: Message, module: SoftwareKeys) -> Message:
    return mac.authenticated(
        ATM87.packager, RULES, made, lambda data: module.mac("atm87.zak", RULES.algorithm, 1, data)
    )


@pytest.mark.parametrize(("on_wrong", "answered"), [("answer", [("0210", "88")]), ("silence", [])])
def test_wrong_mac_is_no_business(on_wrong: str, answered: list[tuple[str, str]]) -> None:
    module = keys()
    link = Link(replace(ATM87, mac=RULES, on_wrong_mac=on_wrong), module).signed_on()
    good = signed(message("atm87-purchase"), module)
    for wrong, fault in ((good.having({4: "000000009000"}), Fault.MAC_WRONG), (good.without([64]), Fault.MAC_MISSING)):
        (event,) = link.gets(wrong)
        assert isinstance(event, Refused) and event.error.fault is fault
        assert codes(link.sent()) == answered
    (came,) = link.gets(good)
    assert isinstance(came, Came)
    link.session.answer(came, Outcome.APPROVED)
    (answer,) = link.sent()
    assert signed(answer.without([64]), module) == answer


def test_new_key_is_taken_answered_under_it_and_the_old_one_is_good_for_a_while() -> None:
    module = keys()
    link = Link(replace(ATM87, mac=RULES), module).signed_on()
    old = signed(message("atm87-purchase"), module)
    (offered,) = link.gets(message("atm87-key-change"))
    assert isinstance(offered, KeyOffered) and link.session.take_output() == b""
    assert link.session.take_key(offered, at()) is None
    (answer,) = link.sent()
    assert codes([answer]) == [("0810", "00")] and signed(answer.without([128]), module) == answer
    assert isinstance(link.gets(old, seconds=119)[0], Came)
    assert isinstance(link.gets(old, seconds=120)[0], Refused)
    assert isinstance(link.gets(signed(message("atm87-purchase"), module), seconds=121)[0], Came)


def test_new_key_that_is_wrong_is_declined_under_the_old_one() -> None:
    module = keys()
    link = Link(replace(ATM87, mac=RULES), module).signed_on()
    before = module.status()
    (offered,) = link.gets(message("atm87-key-change").having({125: "X1FA15D0627E28BD00C3C275BFBE03911DFA252"}))
    assert isinstance(offered, KeyOffered)
    error = link.session.take_key(offered, at())
    assert error is not None and error.fault is Fault.KEY_CHECK
    assert codes(link.sent()) == [("0810", "88")] and module.status() == before


def test_profile_with_macs_needs_keys() -> None:
    with pytest.raises(KeyRefused):
        Link(replace(ATM87, mac=RULES))
