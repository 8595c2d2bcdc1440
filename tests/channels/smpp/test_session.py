"""The ESME session by octets: what it says to what it hears, in each state; its window, numbers and timers.

Origin of the tables: SMPP 3.4, 2.2 to 2.7, 3.2, 4.1 to 4.12, 5.1.3, 5.1.4, 7.2; deviations of real peers that must
not wedge a link: github.com/jookies/jasmin/issues/1059, github.com/praekeltfoundation/vumi/issues/404,
github.com/funbox/smppex/issues/6. Time is a number that the tests pass in.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from channels.smpp import codes
from channels.smpp.events import (
    BindRefused,
    Bound,
    Closed,
    Event,
    LateAnswer,
    MessageIn,
    ReceiptIn,
    Role,
    State,
    SubmitAnswered,
    SubmitUnanswered,
)
from channels.smpp.framing import Framer, read_header
from channels.smpp.pdu import Bare, Bind, BindResp, DataSm, DeliverSm, MessageResp, Outbind, SubmitSm, decode
from channels.smpp.session import TABLE, NotAllowed, Session
from channels.smpp.settings import LinkSettings

SETTINGS = LinkSettings("test", "localhost", 2775, "me", "secret", window=3, max_unanswered=4)


def bound(settings: LinkSettings = SETTINGS, role: Role = Role.TRANSCEIVER, now: float = 0.0) -> Session:
    session = Session(settings, role, now)
    session.bind(now)
    session.take_output()
    events = session.receive(BindResp(role.value | 0x80000000, 1, 0, "smsc").encode(), now)
    assert events == [Bound(None)]
    return session


def in_state(state: State) -> Session:
    """Make a session of this state; its one request outstanding, if any, has number 1 (bind) or 2 (unbind)."""
    if state is State.OPEN:
        return Session(SETTINGS, Role.TRANSCEIVER, 0.0)
    if state is State.BINDING:
        session = Session(SETTINGS, Role.TRANSCEIVER, 0.0)
        session.bind(0.0)
    else:
        session = bound()
        if state is State.UNBINDING:
            session.unbind(0.0)
        elif state is State.LEAVING:
            session.receive(message(77), 0.0)
            session.receive(Bare(codes.UNBIND, 9).encode(), 0.0)
        elif state is State.CLOSED:
            session.lost("test")
    session.take_output()
    assert session.state is state
    return session


def message(sequence: int, text: bytes = b"hello", esm_class: int = 0) -> bytes:
    return DeliverSm(
        sequence, source_addr="256772", destination_addr="1234", short_message=text, esm_class=esm_class
    ).encode()


def pdu(command_id: int, sequence: int, status: int = 0, body: bytes = b"") -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in (16 + len(body), command_id, status, sequence)) + body


def said(session: Session) -> list[tuple[str, int, int]]:
    """What the session wants written: command, status, sequence of each packet."""
    packets = [read_header(frame) for frame in Framer().feed(session.take_output())]
    return [(codes.command_name(command), status, sequence) for command, status, sequence in packets]


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


# ------------------------------------------------------------------------------------------------ the table, by octets

BIND_OK = BindResp(codes.BIND_TRANSCEIVER_RESP, 1, 0, "smsc").encode()
DELIVER = message(5)
DATA = DataSm(5, source_addr="256772", destination_addr="1234", tlvs=((0x0424, b"hello"),)).encode()
RECEIPT = message(5, b"id:7 stat:DELIVRD", 0x04)
BAD_DELIVER = pdu(codes.DELIVER_SM, 5, 0, bytes.fromhex("00 0101 3100 0000 3100 000000 00 00 00000000 C8 41"))
UNKNOWN = pdu(0x00010203, 5, 0, b"what")

O, N, B, L, U, C = State.OPEN, State.BINDING, State.BOUND, State.LEAVING, State.UNBINDING, State.CLOSED  # noqa: E741
BADSTATE, TEMPORARY = 0x04, 0x64
# fmt: off
CONFORMANCE = [
    # state, heard, said, events, then
    # Binding, 4.1.
    (N, BIND_OK,                                      [],                               ["Bound"], B),
    (N, pdu(0x80000009, 1),                           [],                               ["Bound"], B),  # no body at all
    (N, pdu(0x80000009, 1, 0x0E),                     [],                               ["BindRefused", "Closed"], C),
    (N, pdu(0x80000009, 1, 0x0E, b"x\0"),             [],                               ["BindRefused", "Closed"], C),
    # of another kind
    (N, pdu(0x80000002, 1),                           [],                               ["BindRefused", "Closed"], C),
    # of another request
    (N, pdu(0x80000009, 2),                           [],                               ["Noted"], N),
    (N, pdu(0x80000000, 1, 0x05),                     [],                               ["BindRefused", "Closed"], C),
    (N, pdu(0x80000000, 1, 0x00),                     [],                               ["BindRefused", "Closed"], C),
    (N, pdu(0x80000000, 0, 0x02),                     [],                               ["Noted"], N),
    # in one segment
    (N, BIND_OK + DELIVER,                            [],                               ["Bound", "MessageIn"], B),
    (B, BIND_OK,                                      [],                               ["Noted"], B),
    # enquire_link, 4.11: in every state that hears.
    (O, pdu(0x15, 5),                                 [("enquire_link_resp", 0, 5)],    [], O),
    (N, pdu(0x15, 5),                                 [("enquire_link_resp", 0, 5)],    [], N),
    (B, pdu(0x15, 0xFFFFFFFF),                        [("enquire_link_resp", 0, 0xFFFFFFFF)],[], B),
    (L, pdu(0x15, 5),                                 [("enquire_link_resp", 0, 5)],    [], L),
    (U, pdu(0x15, 5),                                 [("enquire_link_resp", 0, 5)],    [], U),
    (B, pdu(0x80000015, 5),                           [],                               [], B),
    # Messages, 4.6 and 4.7: held back when bound, refused for the state when not.
    (B, DELIVER,                                      [],                               ["MessageIn"], B),
    (B, DATA,                                         [],                               ["MessageIn"], B),
    (B, RECEIPT,                                      [],                               ["ReceiptIn"], B),
    (O, DELIVER,                                      [("deliver_sm_resp", BADSTATE, 5)],["Noted"], O),
    (N, DELIVER,                                      [("deliver_sm_resp", BADSTATE, 5)],["Noted"], N),
    (N, DATA,                                         [("data_sm_resp", BADSTATE, 5)],  ["Noted"], N),
    (L, DELIVER,                                      [("deliver_sm_resp", TEMPORARY, 5)],[], L),
    (U, DELIVER,                                      [("deliver_sm_resp", TEMPORARY, 5)],[], U),
    (U, DATA,                                         [("data_sm_resp", TEMPORARY, 5)], [], U),
    # Understood, and bad inside: its own response, and the session goes on.
    (B, BAD_DELIVER,                                  [("deliver_sm_resp", 0x01, 5)],   ["Noted"], B),
    (B, pdu(0x103, 5, 0, b"\0"),                      [("data_sm_resp", 0x02, 5)],      ["Noted"], B),
    (B, pdu(0x05, 5),                                 [("deliver_sm_resp", 0x15, 5)],   ["Noted"], B),
    # 4.12: no response
    (B, pdu(0x102, 5),                                [],                               ["Noted"], B),
    (N, pdu(0x0B, 5, 0, b"no nul"),                   [],                               ["Noted"], N),
    # Unknown: generic_nack with the same number, and the session goes on, 4.3.1.
    (O, UNKNOWN,                                      [("generic_nack", 0x03, 5)],      ["Noted"], O),
    (N, UNKNOWN,                                      [("generic_nack", 0x03, 5)],      ["Noted"], N),
    (B, UNKNOWN + DELIVER,                            [("generic_nack", 0x03, 5)],      ["Noted", "MessageIn"], B),
    (U, UNKNOWN,                                      [("generic_nack", 0x03, 5)],      ["Noted"], U),
    # Known, and not for an ESME to serve.
    (B, pdu(0x04, 5),                                 [("submit_sm_resp", BADSTATE, 5)],["Noted"], B),
    (B, pdu(0x09, 5),                                 [("bind_transceiver_resp", BADSTATE, 5)],["Noted"], B),
    (B, pdu(0x03, 5),                                 [("query_sm_resp", BADSTATE, 5)], ["Noted"], B),
    (N, pdu(0x06, 5),                                 [("unbind_resp", BADSTATE, 5)],   ["Noted"], N),
    # Responses are never answered, known, unknown, bad or late.
    (B, pdu(0x80000004, 99),                          [],                               ["Noted"], B),
    (B, pdu(0x80000777, 99),                          [],                               ["Noted"], B),
    (B, pdu(0x80000005, 99, 0x08),                    [],                               ["Noted"], B),
    (B, pdu(0x80000103, 99),                          [],                               ["Noted"], B),
    (O, pdu(0x80000009, 1),                           [],                               ["Noted"], O),
    (B, pdu(0x80000006, 1),                           [],                               ["Noted"], B),
    # generic_nack that belongs to nothing wedges nothing.
    (O, pdu(0x80000000, 1, 0x03),                     [],                               ["Noted"], O),
    (B, pdu(0x80000000, 99, 0x03),                    [],                               ["Noted"], B),
    (B, pdu(0x80000000, 0, 0x02) + DELIVER,           [],                               ["Noted", "MessageIn"], B),
    (U, pdu(0x80000000, 99, 0x03),                    [],                               ["Noted"], U),
    # Without response by design: outbind, alert_notification.
    (O, Outbind(5, "smsc", "x").encode(),             [],                               ["Noted"], O),
    (B, Outbind(5, "smsc", "x").encode(),             [],                               ["Noted"], B),
    (B, pdu(0x102, 5, 0, b"\1\1" + b"2\0" + b"\0\0\0"),[],                              ["Noted"], B),
    # unbind, 4.2.
    (B, pdu(0x06, 5),                                 [("unbind_resp", 0, 5)],          ["Closed"], C),
    (B, pdu(0x06, 5) + DELIVER,                       [("unbind_resp", 0, 5)],          ["Closed"], C),
    (U, pdu(0x80000006, 2),                           [],                               ["Closed"], C),
    (U, pdu(0x80000006, 2, 0x08),                     [],                               ["Closed"], C),
    (U, pdu(0x80000006, 3),                           [],                               [], U),
    (U, pdu(0x80000000, 2, 0x04),                     [],                               ["Closed"], C),
    (U, pdu(0x06, 5),                                 [("unbind_resp", 0, 5)],          ["Closed"], C),  # both at once
    # A length that cannot be: generic_nack, then close, 3.2.
    (O, b"GET ",                                      [("generic_nack", 0x02, 0)],      ["Closed"], C),
    (N, bytes.fromhex("0000000F"),                    [("generic_nack", 0x02, 0)],      ["Closed"], C),
    (B, DELIVER + bytes.fromhex("7FFFFFFF"),          [("generic_nack", 0x02, 0)],      ["MessageIn", "Closed"], C),
    (B, bytes.fromhex("00FFFFFF 00000005 00000000 00000009"),[("generic_nack", 0x02, 9)],["Closed"], C),
    # Closed is closed.
    (C, DELIVER + UNKNOWN + pdu(0x15, 1) + b"GET ",   [],                               [], C),
]
# fmt: on


@pytest.mark.parametrize(("state", "heard", "answers", "events", "then"), CONFORMANCE)
@pytest.mark.parametrize("torn", [False, True], ids=["whole", "octets"])
def test_each_state_answers_what_it_hears(
    state: State,
    heard: bytes,
    answers: list[tuple[str, int, int]],
    events: list[str],
    then: State,
    torn: bool,
) -> None:
    session = in_state(state)
    got: list[Event] = []
    for piece in [heard[at : at + 1] for at in range(len(heard))] if torn else [heard]:
        got += session.receive(piece, 1.0)
    if torn:  # the number of a packet that is too long is read only where it is already there
        answers = [(name, status, 0 if status == 0x02 else number) for name, status, number in answers]
    output = said(session)
    if torn:
        output = [(name, status, 0 if status == 0x02 else number) for name, status, number in output]
    assert (output, kinds(got), session.state) == (answers, events, then)


def test_every_state_has_a_row_and_every_rule_belongs_to_a_known_command() -> None:
    assert set(TABLE) == set(State)
    assert {command for row in TABLE.values() for command in row} <= set(codes.COMMAND_NAMES)


# ------------------------------------------------------------------------------------------------ binding


@pytest.mark.parametrize("role", Role)
def test_a_bind_carries_the_settings_and_number_one(role: Role) -> None:
    session = Session(replace(SETTINGS, system_type="vend"), role, 0.0)
    session.bind(0.0)
    assert decode(session.take_output()) == Bind(role.value, 1, "me", "secret", "vend")


def test_the_version_of_the_peer_is_told() -> None:
    session = in_state(State.BINDING)
    answer = BindResp(codes.BIND_TRANSCEIVER_RESP, 1, 0, "smsc", ((codes.TLV_SC_INTERFACE_VERSION, b"\x34"),))
    assert session.receive(answer.encode(), 0.0) == [Bound(0x34)]


def test_a_refused_bind_tells_its_status() -> None:
    assert in_state(State.BINDING).receive(pdu(0x80000009, 1, 0x0E), 0.0)[0] == BindRefused(0x0E)
    # A refusal that calls itself success is a refusal.
    assert in_state(State.BINDING).receive(pdu(0x80000000, 1, 0), 0.0)[0] == BindRefused(codes.RUNKNOWNERR)


@pytest.mark.parametrize("state", [state for state in State if state is not State.OPEN])
def test_only_a_fresh_session_binds(state: State) -> None:
    with pytest.raises(NotAllowed):
        in_state(state).bind(0.0)


@pytest.mark.parametrize("state", [state for state in State if state is not State.BOUND])
def test_only_a_bound_session_submits_and_unbinds(state: State) -> None:
    session = in_state(state)
    assert not session.can_submit
    with pytest.raises(NotAllowed):
        session.submit(SubmitSm(destination_addr="1"), 0.0)
    with pytest.raises(NotAllowed):
        session.unbind(0.0)
    assert session.take_output() == b""


def test_a_receiver_does_not_submit_and_a_transmitter_takes_no_messages() -> None:
    assert not bound(role=Role.RECEIVER).can_submit
    session = bound(role=Role.TRANSMITTER)
    assert session.can_submit
    assert kinds(session.receive(DELIVER + RECEIPT, 0.0)) == ["Noted", "Noted"]
    assert said(session) == [("deliver_sm_resp", BADSTATE, 5)] * 2


def test_settings_that_cannot_be_sent_are_refused_when_made() -> None:
    for fault in ({"password": "p" * 20}, {"system_id": "a" * 16}, {"mode": "both"}, {"window": 0}):
        with pytest.raises(ValueError, match="link test"):
            replace(SETTINGS, **fault)
    assert "secret" not in repr(SETTINGS)


# ------------------------------------------------------------------------------------------------ messages


def test_messages_are_answered_in_any_order_and_once() -> None:
    session = bound()
    events = session.receive(message(5) + message(6) + DataSm(7).encode(), 0.0)
    assert [event.sequence for event in events if isinstance(event, MessageIn)] == [5, 6, 7]
    assert session.take_output() == b"" and session.messages_unanswered == 3
    assert session.answer(7, 0) == session.answer(5, 0x64) == session.answer(6, 0) == []
    assert said(session) == [("data_sm_resp", 0, 7), ("deliver_sm_resp", 0x64, 5), ("deliver_sm_resp", 0, 6)]
    assert session.answer(5, 0) == session.answer(99, 0) == []
    assert said(session) == []


def test_an_answer_has_an_empty_message_id() -> None:
    session = bound()
    session.receive(message(5), 0.0)
    session.answer(5, 0)
    assert session.take_output() == bytes.fromhex("00000011 80000005 00000000 00000005 00")


def test_more_messages_than_the_cap_are_put_off_and_taken_again_when_there_is_room() -> None:
    session = bound()
    events = session.receive(b"".join(message(number) for number in range(1, 8)), 0.0)
    assert kinds(events) == ["MessageIn"] * 4 + ["Noted"] * 3
    assert said(session) == [("deliver_sm_resp", 0x58, number) for number in (5, 6, 7)]
    session.answer(2, 0)
    assert kinds(session.receive(message(8), 0.0)) == ["MessageIn"]


def test_receipts_do_not_count_against_the_cap() -> None:
    session = bound()
    session.receive(b"".join(message(number) for number in range(1, 5)), 0.0)
    (event,) = session.receive(RECEIPT, 0.0)
    assert isinstance(event, ReceiptIn) and (event.receipt.message_id, event.receipt.state) == ("7", "DELIVRD")


def test_a_number_repeated_while_unanswered_shares_the_answer_if_the_message_is_the_same() -> None:
    session = bound()
    assert kinds(session.receive(message(5) + message(5) + message(5, b"other"), 0.0)) == [
        "MessageIn",
        "Noted",
        "Noted",
    ]
    assert said(session) == [("deliver_sm_resp", 0x64, 5)]
    session.answer(5, 0)
    assert said(session) == [("deliver_sm_resp", 0, 5)]
    assert kinds(session.receive(message(5), 0.0)) == ["MessageIn"]


def test_a_session_that_is_about_to_leave_puts_messages_off() -> None:
    session = bound()
    session.taking = False
    assert session.receive(message(5), 0.0) == []
    assert said(session) == [("deliver_sm_resp", 0x64, 5)]


# ------------------------------------------------------------------------------------------------ submits


def submit(session: Session, now: float = 0.0) -> int:
    return session.submit(SubmitSm(destination_addr="256772", short_message=b"token"), now)


def test_the_window_is_kept_and_opens_with_each_answer() -> None:
    session = bound()
    numbers = [submit(session) for _ in range(3)]
    assert numbers == [2, 3, 4] and not session.can_submit and session.submits_outstanding == 3
    with pytest.raises(NotAllowed):
        submit(session)
    (event,) = session.receive(MessageResp(codes.SUBMIT_SM_RESP, 3, 0, "id3").encode(), 0.0)
    assert event == SubmitAnswered(3, 0, "id3")
    assert submit(session) == 5


# fmt: off
@pytest.mark.parametrize(("answer", "status", "message_id"), [
    (pdu(0x80000004, 2, 0, b"abc\0"),             0,    "abc"),
    (pdu(0x80000004, 2, 0),                       0,    ""),        # ROK without message_id occurs
    (pdu(0x80000004, 2, 0x58),                    0x58, ""),        # an error has no body
    (pdu(0x80000004, 2, 0x58, b"\0"),             0x58, ""),        # and has one all the same
    (pdu(0x80000004, 2, 0x45, b"why not\0"),      0x45, "why not"),
    (pdu(0x80000000, 2, 0x08),                    0x08, ""),        # generic_nack is a refusal
    (pdu(0x80000000, 2, 0x00),                    0xFF, ""),        # and never a success
])
# fmt: on
def test_an_answer_to_a_submit_is_told_whatever_its_form(answer: bytes, status: int, message_id: str) -> None:
    session = bound()
    submit(session)
    assert session.receive(answer, 0.0) == [SubmitAnswered(2, status, message_id)]
    assert session.submits_outstanding == 0 and session.can_submit
    assert kinds(session.receive(answer, 0.0)) == ["Noted"]  # twice


def test_a_response_of_another_kind_is_no_answer_to_a_submit() -> None:
    session = bound()
    submit(session)
    assert kinds(session.receive(pdu(0x80000103, 2) + pdu(0x80000015, 2) + pdu(0x80000009, 2), 0.0)) == ["Noted"] * 2
    assert session.submits_outstanding == 1


def test_a_submit_that_cannot_be_written_takes_no_number_and_no_room() -> None:
    session = bound()
    with pytest.raises(ValueError, match="destination_addr"):
        session.submit(SubmitSm(destination_addr="1" * 30), 0.0)
    assert session.take_output() == b"" and session.submits_outstanding == 0
    assert submit(session) == 2


def test_numbers_wrap_to_one_and_pass_over_those_outstanding() -> None:
    session = Session(replace(SETTINGS, window=10), Role.TRANSCEIVER, 0.0, last_sequence=0x7FFFFFFD)
    session.bind(0.0)
    session.receive(BindResp(codes.BIND_TRANSCEIVER_RESP, 0x7FFFFFFE).encode(), 0.0)
    assert [submit(session) for _ in range(3)] == [0x7FFFFFFF, 1, 2]
    session._last_sequence = 0x7FFFFFFE  # once round
    assert submit(session) == 3
    session.unbind(0.0)
    session.take_output()


def test_output_is_joined_into_one_piece() -> None:
    session = bound()
    session.receive(message(5) + message(6) + pdu(0x15, 9), 0.0)
    session.answer(6, 0)
    submit(session)
    assert [name for name, _, _ in said(session)] == ["enquire_link_resp", "deliver_sm_resp", "submit_sm"]
    assert session.take_output() == b""


# ------------------------------------------------------------------------------------------------ time


def test_a_fresh_session_waits_for_its_bind_and_then_for_the_answer() -> None:
    session = Session(SETTINGS, Role.TRANSCEIVER, 100.0)
    assert session.next_deadline() == 110.0
    session.bind(105.0)
    assert session.next_deadline() == 115.0
    assert session.tick(114.9) == []
    assert session.tick(115.0) == [Closed("bind without response")]
    assert session.next_deadline() is None and session.tick(200.0) == []


def test_silence_is_asked_about_and_an_answer_ends_the_worry() -> None:
    session = bound()
    assert session.next_deadline() == 30.0
    assert session.tick(29.9) == [] and said(session) == []
    assert session.tick(30.0) == []
    assert said(session) == [("enquire_link", 0, 2)]
    assert session.tick(40.0) == [] and said(session) == []  # asked once
    assert session.next_deadline() == 90.0
    assert session.receive(pdu(0x80000015, 2), 41.0) == []
    assert session.next_deadline() == 71.0


def test_an_enquiry_without_any_sign_of_life_ends_the_session() -> None:
    session = bound()
    submit(session, 29.0)
    session.tick(30.0)
    assert session.tick(89.9) == [SubmitUnanswered(2, "no response in time")]
    assert session.tick(90.0) == [Closed("enquire_link without response")]


def test_an_enquiry_left_unanswered_by_a_busy_peer_does_not_end_the_session() -> None:
    session = bound()
    session.tick(30.0)
    session.receive(message(5), 80.0)
    assert session.tick(90.0) == [] and session.state is State.BOUND
    assert session.next_deadline() == 110.0
    session.take_output()
    session.tick(110.0)
    assert said(session) == [("enquire_link", 0, 3)]


def test_an_enquiry_refused_by_generic_nack_is_a_sign_of_life() -> None:
    session = bound()
    session.tick(30.0)
    assert session.receive(pdu(0x80000000, 2, 0x03), 31.0) == []
    assert session.next_deadline() == 61.0


def test_traffic_puts_the_enquiry_off() -> None:
    session = bound()
    session.receive(message(5), 20.0)
    assert session.tick(30.0) == [] and said(session) == []
    assert session.next_deadline() == 50.0


def test_without_enquiries_inactivity_ends_the_session() -> None:
    session = bound(replace(SETTINGS, enquire_link_s=0.0, inactivity_s=120.0))
    assert session.next_deadline() == 120.0
    session.receive(pdu(0x15, 1), 50.0)
    assert session.tick(120.0) == []
    assert session.tick(170.0) == [Closed("inactivity")]


def test_a_session_without_any_timer_waits_for_ever() -> None:
    session = bound(replace(SETTINGS, enquire_link_s=0.0, inactivity_s=0.0))
    assert session.next_deadline() is None and session.tick(1e9) == []


def test_a_submit_without_response_is_given_back_and_its_room_too() -> None:
    session = bound()
    submit(session, 0.0)
    submit(session, 10.0)
    session.receive(pdu(0x15, 1), 50.0)
    assert session.next_deadline() == 60.0
    assert session.tick(60.0) == [SubmitUnanswered(2, "no response in time")]
    assert session.submits_outstanding == 1 and session.can_submit and session.state is State.BOUND
    late = MessageResp(codes.SUBMIT_SM_RESP, 2, 0, "late").encode()
    assert session.receive(late, 61.0) == [LateAnswer(2, 0, "late")]
    assert kinds(session.receive(late, 61.0)) == ["Noted"], "answered twice"


# ------------------------------------------------------------------------------------------------ leaving


def test_unbind_is_said_and_the_session_ends_with_the_answer_or_without() -> None:
    session = bound()
    session.unbind(5.0)
    assert said(session) == [("unbind", 0, 2)]
    assert session.receive(pdu(0x80000006, 2), 6.0) == [Closed("unbound")]
    session = bound()
    session.unbind(5.0)
    session.receive(pdu(0x15, 1), 50.0)
    assert session.tick(65.0) == [Closed("unbound, without response")]


def test_while_unbinding_old_business_is_still_settled() -> None:
    session = bound()
    submit(session)
    session.receive(message(5), 0.0)
    session.unbind(0.0)
    session.take_output()
    assert session.receive(MessageResp(codes.SUBMIT_SM_RESP, 2, 0, "id").encode(), 1.0) == [SubmitAnswered(2, 0, "id")]
    session.answer(5, 0)
    assert said(session) == [("deliver_sm_resp", 0, 5)]


def test_when_the_peer_unbinds_messages_being_stored_are_answered_before_the_unbind_is() -> None:
    session = bound()
    session.receive(message(5) + message(6), 0.0)
    assert session.receive(pdu(0x06, 9), 1.0) == [] and said(session) == []
    assert session.answer(5, 0) == []
    assert session.answer(6, 0) == [Closed("unbound by the peer")]
    assert said(session) == [("deliver_sm_resp", 0, 5), ("deliver_sm_resp", 0, 6), ("unbind_resp", 0, 9)]


def test_a_peer_that_unbinds_does_not_wait_for_ever() -> None:
    session = bound()
    submit(session)
    session.take_output()
    session.receive(message(5) + pdu(0x06, 9), 1.0)
    assert session.next_deadline() == 1.0 + SETTINGS.stop_grace_s
    assert session.tick(6.0) == [SubmitUnanswered(2, "unbound by the peer"), Closed("unbound by the peer")]
    assert said(session) == [("unbind_resp", 0, 9)]
    assert session.answer(5, 0) == [] and said(session) == []


@pytest.mark.parametrize("state", [State.OPEN, State.BINDING, State.BOUND, State.LEAVING, State.UNBINDING])
def test_a_lost_connection_leaves_nothing_behind(state: State) -> None:
    session = in_state(state)
    assert session.lost("cut") == [Closed("cut")]
    assert session.lost("cut") == [] and session.take_output() == b"" and session.next_deadline() is None


def test_a_lost_connection_gives_back_every_submit_with_its_outcome_unknown() -> None:
    session = bound()
    submit(session), submit(session)
    expected: list[Event] = [SubmitUnanswered(2, "cut"), SubmitUnanswered(3, "cut"), Closed("cut")]
    assert session.lost("cut") == expected


# ------------------------------------------------------------------------------------------------ anything at all

words = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([row[1] for row in CONFORMANCE]),
    st.tuples(st.sampled_from((*codes.COMMAND_NAMES, 0x777)), st.integers(0, 9), st.sampled_from((0, 3, 88))).map(
        lambda each: pdu(*each)
    ),
)


@given(st.lists(st.tuples(words, st.sampled_from(("submit", "answer", "unbind", "tick", "")), st.floats(0, 50))))
@hypothesis_settings(max_examples=300)
def test_no_history_crashes_a_session_or_makes_it_grow(history: list[tuple[bytes, str, float]]) -> None:
    session = Session(SETTINGS, Role.TRANSCEIVER, 0.0)
    session.bind(0.0)
    now = 0.0
    submitted, ended = set(), set()
    for heard, deed, pause in history:
        now += pause
        events = session.receive(heard, now)
        if deed == "submit" and session.can_submit:
            submitted.add(submit(session, now))
        elif deed == "answer":
            events += session.answer(5, 0)
        elif deed == "unbind" and session.state is State.BOUND:
            session.unbind(now)
        elif deed == "tick":
            for _ in range(3):
                events += session.tick(now)
            due = session.next_deadline()
            assert due is None or due > now, "what is due is done"
        ended |= {event.sequence for event in events if isinstance(event, SubmitAnswered | SubmitUnanswered)}
        assert session.messages_unanswered <= SETTINGS.max_unanswered
        assert session.submits_outstanding <= SETTINGS.window
        deadline = session.next_deadline()
        assert (deadline is None) == session.is_closed
        Framer().feed(session.take_output())
    ended |= {event.sequence for event in session.lost("end") if isinstance(event, SubmitUnanswered)}
    assert ended == submitted, "every submit has exactly one end"
