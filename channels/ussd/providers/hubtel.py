"""Hubtel's programmable services, and others of its form: JSON, the last input only, steps numbered. Pure.

POST, application/json: SessionId, Mobile, ServiceCode, Type ("initiation", "response", "release", "timeout"; in any
case), Message (the dialled string at first, then what was typed), Operator, Sequence, ClientState. Answered with a JSON
object whose Type is "response" to go on or "release" to end.
"""

from __future__ import annotations

import json
from datetime import datetime

from channels.http.callback import Answer, Callback, NotReadable, msisdn_of, text_of
from channels.ussd.providers.dialled import typed_behind
from channels.ussd.steps import Kind, Page, Step

METHODS = frozenset({"POST"})

_KINDS = {
    "initiation": Kind.BEGIN,
    "response": Kind.CONTINUE,
    "release": Kind.OVER,
    "timeout": Kind.OVER,
    "hijacksession": Kind.OVER,
}


def read(callback: Callback, service: str, country_code: str, now: datetime) -> Step:
    """The step of a callback. Raises NotReadable."""
    said = callback.json()
    kind = _KINDS.get(text_of(said, "Type", 32).lower())
    if kind is None:
        raise NotReadable("unknown_type", "Type")
    code = text_of(said, "ServiceCode", 64, may_be_empty=True)
    message = text_of(said, "Message", 182, may_be_empty=True)
    return Step(
        service=service,
        session=text_of(said, "SessionId", 128),
        msisdn=msisdn_of(said, "Mobile", country_code),
        service_code=code,
        kind=kind,
        text=typed_behind(code, message) if kind is Kind.BEGIN else message,
        is_whole=False,
        mark=text_of(said, "Sequence", 32, may_be_empty=True),
        received_at=now,
    )


def write(callback: Callback, page: Page) -> Answer:
    """The screen as this provider wants it."""
    try:
        session = text_of(callback.json(), "SessionId", 128, may_be_empty=True)
    except NotReadable:
        session = ""
    answer = {
        "SessionId": session,
        "Type": "release" if page.is_end else "response",
        "Message": page.text,
        "Label": "",
        "ClientState": "",
        "DataType": "display" if page.is_end else "input",
        "FieldType": "text",
    }
    return Answer(json.dumps(answer, ensure_ascii=False), "application/json")
