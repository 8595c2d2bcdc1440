"""Each provider's form by table: what it sends becomes a step, our screen becomes its answer; hostile forms get a name.

The forms are those of the project's working notes on Africa's Talking, Hubtel and the XML-RPC of MTN's gateways.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.http.callback import Callback, NotReadable
from channels.ussd.providers import africastalking, hubtel, xmlrpc
from channels.ussd.registry import PROVIDERS
from channels.ussd.steps import Kind, Page, Step

FORM = "application/x-www-form-urlencoded"
CODE = "*384*1234#"
TIME = "20260605T08:15:00"
NOW = datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
AT = {
    "sessionId": "ATUid_7",
    "phoneNumber": "+254711013579",
    "networkCode": "63902",
    "serviceCode": "*384*1234#",
    "text": "1*04012345676*500",
}
HUBTEL = {
    "SessionId": "8d440a43",
    "Mobile": "233246912184",
    "ServiceCode": "714*5",
    "Type": "Response",
    "Message": "1",
    "Operator": "mtn",
    "Sequence": 3,
    "ClientState": "",
}
XML = {
    "TransactionId": "7000123",
    "TransactionTime": "20260605T08:15:00",
    "MSISDN": "250788258075",
    "USSDServiceCode": "543",
    "USSDRequestString": "1",
    "response": "true",
}


def at(**changes: str | None) -> Callback:
    fields = {name: value for name, value in {**AT, **changes}.items() if value is not None}
    return Callback("POST", "/", "", FORM, urlencode(fields).encode())


def hub(**changes: Any) -> Callback:
    fields = {name: value for name, value in {**HUBTEL, **changes}.items() if value is not None}
    return Callback("POST", "/", "", "application/json", json.dumps(fields).encode())


def call(method: str = "handleUSSDRequest", **changes: str | None) -> Callback:
    fields = {name: value for name, value in {**XML, **changes}.items() if value is not None}
    members = "".join(
        f"<member><name>{n}</name><value><string>{v}</string></value></member>" for n, v in fields.items()
    )
    text = (
        f'<?xml version="1.0"?><methodCall><methodName>{method}</methodName><params><param><value><struct>{members}'
        "</struct></value></param></params></methodCall>"
    )
    return Callback("POST", "/", "", "text/xml", text.encode())


def _form(body: bytes) -> Callback:
    return Callback("POST", "/", "", FORM, body)


def _xml(body: bytes) -> Callback:
    return Callback("POST", "/", "", "text/xml", body)


def _facts(step: Step) -> tuple[str, str, str, Kind, str, bool, str]:
    return step.session, step.msisdn, step.service_code, step.kind, step.text, step.is_whole, step.mark


@pytest.mark.parametrize(
    ("kind", "callback", "wanted"),
    [
        ("africastalking", at(), ("ATUid_7", "254711013579", CODE, Kind.UNSAID, AT["text"], True, "")),
        ("africastalking", at(text=""), ("ATUid_7", "254711013579", CODE, Kind.UNSAID, "", True, "")),
        ("africastalking", at(text=None, status="Success"), ("ATUid_7", "254711013579", CODE, Kind.OVER, "", True, "")),
        ("africastalking", at(phoneNumber="0711 013 579"),
         ("ATUid_7", "254711013579", CODE, Kind.UNSAID, AT["text"], True, "")),
        ("hubtel", hub(), ("8d440a43", "233246912184", "714*5", Kind.CONTINUE, "1", False, "3")),
        ("hubtel", hub(Type="initiation", Message="*714*5#", Sequence="1"),
         ("8d440a43", "233246912184", "714*5", Kind.BEGIN, "", False, "1")),
        ("hubtel", hub(Type="Initiation", Message="*714*5*1*2#"),
         ("8d440a43", "233246912184", "714*5", Kind.BEGIN, "1*2", False, "3")),
        ("hubtel", hub(Type="RELEASE", Message=None), ("8d440a43", "233246912184", "714*5", Kind.OVER, "", False, "3")),
        ("xmlrpc", call(), ("7000123", "250788258075", "543", Kind.CONTINUE, "1", False, TIME)),
        ("xmlrpc", call(response="false", USSDRequestString="*543#"),
         ("7000123", "250788258075", "543", Kind.BEGIN, "", False, TIME)),
        ("xmlrpc", call("handleUSSD", response="false", USSDRequestString="*543*1#"),
         ("7000123", "250788258075", "543", Kind.BEGIN, "1", False, TIME)),
    ],
)  # fmt: skip
def test_a_callback_becomes_a_step(kind: str, callback: Callback, wanted: tuple[object, ...]) -> None:
    assert _facts(PROVIDERS[kind].read(callback, "menu", "254", NOW)) == wanted


@pytest.mark.parametrize(
    ("kind", "callback", "why"),
    [
        ("africastalking", at(sessionId=None), "missing"),
        ("africastalking", at(sessionId=""), "empty"),
        ("africastalking", at(sessionId="x" * 129), "too_long"),
        ("africastalking", at(phoneNumber="+1"), "phone_number"),
        ("africastalking", at(phoneNumber="+2547110135790000000"), "phone_number"),
        ("africastalking", at(phoneNumber="DROP TABLE"), "phone_number"),
        ("africastalking", at(text="1*" * 2_000), "too_long"),
        ("africastalking", at(text="1\x00"), "control_character"),
        ("africastalking", at(text=None), "missing"),
        ("africastalking", Callback("POST", "/", "", "application/json", b"{}"), "content_type"),
        ("africastalking", _form(b"a=1&a=2"), "repeated"),
        ("africastalking", _form(b"\xff=1"), "encoding"),
        ("africastalking", _form(b"a=%ff"), "form"),
        ("africastalking", _form(b"&".join(b"f%d=1" % n for n in range(200))), "form"),
        ("hubtel", hub(Type="AddToCart"), "unknown_type"),
        ("hubtel", hub(Mobile=None), "missing"),
        ("hubtel", hub(Message={"a": 1}), "not_text"),
        ("hubtel", hub(Message=True), "not_text"),
        ("hubtel", Callback("POST", "/", "", "application/json", b"[1]"), "json"),
        ("hubtel", Callback("POST", "/", "", "application/json", b'{"Type":"response","Type":"release"}'), "repeated"),
        ("hubtel", Callback("POST", "/", "", "application/json", b"[" * 100_000), "json"),
        ("hubtel", Callback("POST", "/", "", "application/json", b'{"Type": NaN}'), "json"),
        ("xmlrpc", call("somethingElse"), "method"),
        ("xmlrpc", call(MSISDN=None), "missing"),
        ("xmlrpc", _xml(b"<a"), "xml"),
        ("xmlrpc", _xml(b'<!DOCTYPE a [<!ENTITY b "c">]><methodCall/>'), "xml"),
        ("xmlrpc", _xml(b"<methodCall><methodName>handleUSSD</methodName></methodCall>"), "struct"),
        ("xmlrpc", Callback("POST", "/", "", "text/plain", b""), "content_type"),
    ],
)  # fmt: skip
def test_a_hostile_callback_gets_a_name(kind: str, callback: Callback, why: str) -> None:
    with pytest.raises(NotReadable) as refused:
        PROVIDERS[kind].read(callback, "menu", "254", NOW)
    assert refused.value.why == why


def test_africas_talking_is_answered_con_or_end() -> None:
    assert africastalking.write(at(), Page("Hello", False)).body == "CON Hello"
    assert africastalking.write(at(), Page("Bye", True)).body == "END Bye"


def test_hubtel_is_answered_by_type() -> None:
    for page, kind in ((Page('Grüß "Gott"', False), "response"), (Page("Bye", True), "release")):
        said = json.loads(hubtel.write(hub(), page).body)
        assert (said["SessionId"], said["Type"], said["Message"]) == ("8d440a43", kind, page.text)


def test_xml_is_answered_by_action_and_escaped() -> None:
    for page, action in ((Page("1 < 2 & more", False), "request"), (Page("Bye", True), "end")):
        root = ElementTree.fromstring(xmlrpc.write(call(), page).body)
        members = {member.findtext("name"): member.find("value") for member in root.iter("member")}
        texts = {name: "".join(value.itertext()) for name, value in members.items() if value is not None}
        assert (texts["USSDResponseString"], texts["action"], texts["TransactionId"]) == (page.text, action, "7000123")


@given(
    st.sampled_from(sorted(PROVIDERS)),
    st.sampled_from(["application/x-www-form-urlencoded", "application/json", "text/xml", ""]),
    st.binary(max_size=300),
)
def test_any_body_is_a_step_or_has_a_named_fault(kind: str, content_type: str, body: bytes) -> None:
    callback = Callback("POST", "/", "", content_type, body)
    try:
        PROVIDERS[kind].read(callback, "menu", "", NOW)
    except NotReadable as fault:
        assert fault.why
    assert PROVIDERS[kind].write(callback, Page("Sorry", True)).body
