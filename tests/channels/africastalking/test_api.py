"""What Africa's Talking says, by table: answers to a sent text, and callbacks as its documentation shows them.

Bodies are made up in the documented form; from the project's working notes on the provider.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.africastalking.api import (
    HTTP,
    STATUSES,
    Answered,
    Verdict,
    read_answer,
    read_opt_out,
    read_report,
    read_text,
)
from channels.contract import DeliveryReport, TextIn
from channels.http.callback import Callback, NotReadable

PHONE = "254711013579"
V = Verdict


def recipient(code: object = 101, **changes: object) -> dict[str, object]:
    return {
        "statusCode": code, "number": f"+{PHONE}", "status": "Success", "cost": "KES 0.8000", "messageId": "ATXid_1f",
        **changes,
    }  # fmt: skip


def told(*recipients: dict[str, object], message: str = "Sent to 1/1 Total Cost: KES 0.8000") -> bytes:
    return json.dumps({"SMSMessageData": {"Message": message, "Recipients": list(recipients)}}).encode()


# fmt: off
@pytest.mark.parametrize(("status", "body", "verdict", "name", "message_id"), [
    (201, told(recipient(100)),                        V.TAKEN,     "100 Processed",           "ATXid_1f"),
    (201, told(recipient(101)),                        V.TAKEN,     "101 Sent",                "ATXid_1f"),
    (201, told(recipient(102)),                        V.TAKEN,     "102 Queued",              "ATXid_1f"),
    (200, told(recipient("101")),                      V.TAKEN,     "101 Sent",                "ATXid_1f"),
    (201, told(recipient(101, messageId="None")),      V.TAKEN,     "101 Sent",                ""),
    (201, told(recipient(101, messageId=None)),        V.TAKEN,     "101 Sent",                ""),
    (201, told(recipient(401)),                        V.LATER,     "401 RiskHold",            ""),
    (201, told(recipient(402)),                        V.ACCOUNT,   "402 InvalidSenderId",     ""),
    (201, told(recipient(403)),                        V.NEVER,     "403 InvalidPhoneNumber",  ""),
    (201, told(recipient(404)),                        V.NEVER,     "404 UnsupportedNumberType", ""),
    (201, told(recipient(405)),                        V.ACCOUNT,   "405 InsufficientBalance", ""),
    (201, told(recipient(406)),                        V.ELSEWHERE, "406 UserInBlacklist",     ""),
    (201, told(recipient(407)),                        V.ELSEWHERE, "407 CouldNotRoute",       ""),
    (201, told(recipient(409)),                        V.ELSEWHERE, "409 DoNotDisturbRejection", ""),
    (201, told(recipient(500)),                        V.LATER,     "500 InternalServerError", ""),
    (201, told(recipient(501)),                        V.LATER,     "501 GatewayError",        ""),
    (201, told(recipient(502)),                        V.LATER,     "502 RejectedByGateway",   ""),
    (201, told(recipient(799)),                        V.LATER,     "799 unknown",             ""),
    (201, told(recipient(None, status="Success")),     V.TAKEN,     "Success",                 "ATXid_1f"),
    (201, told(recipient(None, status="UserInBlacklist")), V.ELSEWHERE, "UserInBlacklist",     ""),
    (201, told(recipient(None, status="?")),           V.UNKNOWN,   "unreadable",              ""),
    (201, told(recipient(True)),                       V.TAKEN,     "Success",                 "ATXid_1f"),
    # One number's answer among others, and another's alone.
    (201, told(recipient(405, number="+254700000001"), recipient(101)), V.TAKEN, "101 Sent",   "ATXid_1f"),
    (201, told(recipient(101, number="+254700000001")), V.UNKNOWN,  "unreadable",              ""),
    # Nobody, and why in words.
    (201, told(message="InvalidSenderId"),             V.ACCOUNT,   "402 InvalidSenderId",     ""),
    (201, told(message="Insufficient Balance"),        V.ACCOUNT,   "405 InsufficientBalance", ""),
    (201, told(message="Sent to 0/1 Total Cost: 0"),   V.LATER,     "no recipients",           ""),
    # What is no answer of theirs.
    (201, b"",                                         V.UNKNOWN,   "unreadable",              ""),
    (201, b"<html>",                                   V.UNKNOWN,   "unreadable",              ""),
    (200, b"[]",                                       V.UNKNOWN,   "unreadable",              ""),
    (200, b'{"SMSMessageData": 5}',                    V.UNKNOWN,   "unreadable",              ""),
    (200, b'{"SMSMessageData": {"Recipients": {"a": 1}}}', V.UNKNOWN, "unreadable",            ""),
    (200, b"[" * 100_000,                              V.UNKNOWN,   "unreadable",              ""),
    (302, b"",                                         V.LATER,     "http 302",                ""),
    (400, b"missing 'to'",                             V.LATER,     "http 400",                ""),
    (401, b"authentication is invalid",                V.ACCOUNT,   "http 401",                ""),
    (429, b"",                                         V.THROTTLED, "http 429",                ""),
    (500, b"",                                         V.UNKNOWN,   "http 500",                ""),
    (503, b"",                                         V.LATER,     "http 503",                ""),
])
# fmt: on
def test_an_answer_says_what_follows(status: int, body: bytes, verdict: Verdict, name: str, message_id: str) -> None:
    answered = read_answer(status, body, PHONE)
    assert (answered.verdict, answered.status, answered.message_id) == (verdict, name, message_id)


def test_the_table_above_has_every_status() -> None:
    """A status that is added to the product's tables must be added there."""
    assert sorted(STATUSES) == [100, 101, 102, 401, 402, 403, 404, 405, 406, 407, 409, 500, 501, 502]
    assert {verdict for _, verdict in STATUSES.values()} | set(HTTP.values()) == set(Verdict)


def test_words_of_a_refusal_show_no_customers_number() -> None:
    said = f"no route to +{PHONE} \x00 since noon " + "x" * 200
    assert read_answer(201, told(message=said), PHONE).detail == f"no route to +# since noon {'x' * 34}"
    assert PHONE not in read_answer(400, said.encode(), PHONE).detail


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_answer_is_a_crash(status: int, body: bytes) -> None:
    assert isinstance(read_answer(status, body, PHONE), Answered)


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_no_answer_of_the_right_form_is_a_crash_or_taken_by_mistake(message: Any, one: Any) -> None:
    body = json.dumps({"SMSMessageData": {"Message": message, "Recipients": [one]}}).encode()
    assert read_answer(201, body, PHONE).verdict is not Verdict.TAKEN


# --- callbacks --------------------------------------------------------------------------------------------------------


def form(body: str | bytes = "", content_type: str = "application/x-www-form-urlencoded", **fields: str) -> Callback:
    octets = body.encode() if isinstance(body, str) else body
    return Callback("POST", "/", "", content_type, octets or urlencode(fields).encode())


TEXT = {"id": "b7c9", "from": f"+{PHONE}", "to": "22345", "text": "04012345676 500", "date": "2017-05-03T06:04:45Z"}


def test_a_text_is_read_whatever_else_comes_with_it() -> None:
    assert read_text(form(**TEXT, linkId="SampleLinkId", networkCode="63902", cost="KES 0", extra="1"), "at") == TextIn(
        "at", "at", "b7c9", f"+{PHONE}", "22345", "04012345676 500"
    )
    odd = read_text(form(**{**TEXT, "text": "a\r\nb\0\U0001f600", "to": ""}), "at")
    assert (odd.text, odd.destination) == ("a\r\nb\0\U0001f600", "")
    assert read_text(form(**{**TEXT, "text": ""}), "at").text == ""


@pytest.mark.parametrize(
    ("callback", "why"),
    [
        (form(**{name: value for name, value in TEXT.items() if name != "id"}), "missing: id"),
        (form(**{name: value for name, value in TEXT.items() if name != "from"}), "missing: from"),
        (form(**{name: value for name, value in TEXT.items() if name != "text"}), "missing: text"),
        (form(**{**TEXT, "id": ""}), "empty: id"),
        (form(**{**TEXT, "id": "x" * 129}), "too_long: id"),
        (form(**{**TEXT, "id": "a\nb"}), "control_character: id"),
        (form("id=1&id=2&from=%2B254711013579&text=a"), "repeated: id"),
        (form(b"id=%ff"), "form"),
        (form("{}", "application/json"), "content_type"),
        (form("x", "text/plain"), "content_type"),
    ],
)
def test_what_is_no_text_is_named(callback: Callback, why: str) -> None:
    with pytest.raises(NotReadable, match=f"^{why}$"):
        read_text(callback, "at")


# fmt: off
@pytest.mark.parametrize(("status", "failure", "state", "error"), [
    ("Success",           "",                     "DELIVRD", ""),
    ("SUCCESS",           "",                     "DELIVRD", ""),
    ("Sent",              "",                     "ENROUTE", ""),
    ("Submitted",         "",                     "ENROUTE", ""),
    ("Buffered",          "",                     "ENROUTE", ""),
    ("Rejected",          "UserInBlackList",      "REJECTD", "UserInBlackList"),
    ("Failed",            "NotNetworkSubcriber",  "UNDELIV", "NotNetworkSubcriber"),
    ("Expired",           "",                     "EXPIRED", ""),
    ("AbsentSubscriber",  "",                     "UNDELIV", ""),
    ("SomethingNew",      "",                     "UNKNOWN", ""),
])
# fmt: on
def test_a_report_is_put_in_the_words_of_receipts(status: str, failure: str, state: str, error: str) -> None:
    callback = form(id="ATXid_1f", status=status, phoneNumber=f"+{PHONE}", networkCode="63902", failureReason=failure)
    assert read_report(callback, "at") == DeliveryReport("at", "at", "ATXid_1f", PHONE, state, error)


def test_a_report_without_what_it_is_about_is_named() -> None:
    assert read_report(form(id="1", status="Success"), "at").recipient == ""
    for fields, why in (({"id": "1"}, "status"), ({"status": "Success"}, "id")):
        with pytest.raises(NotReadable, match=why):
            read_report(form(**fields), "at")


def test_an_opt_out_names_its_phone() -> None:
    assert read_opt_out(form(senderId="22345", phoneNumber=f"+{PHONE}")) == PHONE
    with pytest.raises(NotReadable, match="phoneNumber"):
        read_opt_out(form(senderId="22345"))
