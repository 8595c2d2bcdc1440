"""Operators whose USSD gateway calls by XML-RPC, as MTN's in several countries: the last input only. Pure.

POST, text/xml: a methodCall "handleUSSDRequest" (or "handleUSSD") with one struct: TransactionId (the session's),
TransactionTime (of this request, which tells a repeat from the next step), MSISDN, USSDServiceCode, USSDRequestString,
response ("false" at first, then "true"). Answered by a struct with USSDResponseString and action: "request" to go on,
"end" to end.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from channels.http.callback import Answer, Callback, NotReadable, msisdn_of, text_of
from channels.ussd.providers.dialled import typed_behind
from channels.ussd.steps import Kind, Page, Step

METHODS = frozenset({"POST"})

_TYPES: Final = frozenset({"text/xml", "application/xml"})
_METHODS: Final = frozenset({"handleUSSDRequest", "handleUSSD"})
_SCALARS: Final = frozenset({"string", "int", "i4", "i8", "boolean", "dateTime.iso8601"})
_MEMBERS_MAX: Final = 50


def read(callback: Callback, service: str, country_code: str, now: datetime) -> Step:
    """The step of a callback. Raises NotReadable."""
    said = _struct(callback)
    is_first = text_of(said, "response", 8, may_be_empty=True).lower() not in ("true", "1")
    code = text_of(said, "USSDServiceCode", 64, may_be_empty=True)
    typed = text_of(said, "USSDRequestString", 182, may_be_empty=True)
    return Step(
        service=service,
        session=text_of(said, "TransactionId", 128),
        msisdn=msisdn_of(said, "MSISDN", country_code),
        service_code=code,
        kind=Kind.BEGIN if is_first else Kind.CONTINUE,
        text=typed_behind(code, typed) if is_first else typed,
        is_whole=False,
        mark=text_of(said, "TransactionTime", 64, may_be_empty=True),
        received_at=now,
    )


def write(callback: Callback, page: Page) -> Answer:
    """The screen as this provider wants it."""
    try:
        said = _struct(callback)
    except NotReadable:
        said = {}
    members = {
        "TransactionId": ("string", said.get("TransactionId", "")),
        "TransactionTime": ("dateTime.iso8601", said.get("TransactionTime", "")),
        "USSDResponseString": ("string", page.text),
        "action": ("string", "end" if page.is_end else "request"),
    }
    struct = "".join(
        f"<member><name>{name}</name><value><{kind}>{escape(value)}</{kind}></value></member>"
        for name, (kind, value) in members.items()
    )
    return Answer(
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<methodResponse><params><param><value><struct>{struct}</struct></value></param></params></methodResponse>",
        "text/xml",
    )


def _struct(callback: Callback) -> dict[str, str]:
    """The members of the call's one struct."""
    if callback.content_type not in _TYPES:
        raise NotReadable("content_type")
    try:
        root: Element = fromstring(callback.body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise NotReadable("xml") from None
    if root.tag != "methodCall" or (root.findtext("methodName") or "").strip() not in _METHODS:
        raise NotReadable("method")
    members = root.findall("params/param/value/struct/member")
    if not members or len(members) > _MEMBERS_MAX:
        raise NotReadable("struct")
    found: dict[str, str] = {}
    for member in members:
        name, value = (member.findtext("name") or "").strip(), member.find("value")
        if value is None or not name:
            raise NotReadable("struct")
        if name in found:
            raise NotReadable("repeated", name[:40])
        inner = list(value)
        if len(inner) > 1 or (inner and (inner[0].tag not in _SCALARS or len(inner[0]))):
            raise NotReadable("not_text", name[:40])
        found[name] = (inner[0].text if inner else value.text) or ""
    return found
