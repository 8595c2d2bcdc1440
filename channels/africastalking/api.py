"""What Africa's Talking says: its answers to a sent text, its callbacks for texts, delivery reports and opt-outs. Pure.

Sources: its public documentation of SMS (send, notifications) and the code of public gateways that speak it. What is
not documented is marked at the table's line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from channels.contract import DeliveryReport, TextIn
from channels.http.callback import Callback, NotReadable, msisdn_of, text_of

_ID_MAX: Final = 128
_DETAIL_MAX: Final = 60
_REPORT_WORD_MAX: Final = 40


class Verdict(Enum):
    """What follows from an answer."""

    TAKEN = "taken"
    LATER = "later"  # surely not taken; the same again later may work, another way may now
    UNKNOWN = "unknown"  # taken or not: no other way may be tried now
    ELSEWHERE = "elsewhere"  # never by this account; another way may
    NEVER = "never"
    THROTTLED = "throttled"  # LATER, and slower
    ACCOUNT = "account"  # LATER; the account can send nothing until a person has mended it


# fmt: off
STATUSES: Final[dict[int, tuple[str, Verdict]]] = {
    100: ("Processed",              Verdict.TAKEN),
    101: ("Sent",                   Verdict.TAKEN),
    102: ("Queued",                 Verdict.TAKEN),
    401: ("RiskHold",               Verdict.LATER),
    402: ("InvalidSenderId",        Verdict.ACCOUNT),
    403: ("InvalidPhoneNumber",     Verdict.NEVER),
    404: ("UnsupportedNumberType",  Verdict.NEVER),
    405: ("InsufficientBalance",    Verdict.ACCOUNT),
    406: ("UserInBlacklist",        Verdict.ELSEWHERE),  # she has opted out of what this sender sends
    407: ("CouldNotRoute",          Verdict.ELSEWHERE),
    409: ("DoNotDisturbRejection",  Verdict.ELSEWHERE),
    500: ("InternalServerError",    Verdict.LATER),
    501: ("GatewayError",           Verdict.LATER),
    502: ("RejectedByGateway",      Verdict.LATER),
}
"""statusCode of a recipient: its name, and what follows. One that is not here is LATER."""

HTTP: Final[dict[int, Verdict]] = {
    401: Verdict.ACCOUNT,    # the key, or the user
    403: Verdict.ACCOUNT,
    407: Verdict.ACCOUNT,    # a proxy of ours wants a sign-in
    429: Verdict.THROTTLED,
    500: Verdict.UNKNOWN,    # it broke down over this text, before or after it had sent it
    502: Verdict.UNKNOWN,
    504: Verdict.UNKNOWN,
}
"""HTTP status of an answer that is not 2xx. One that is not here is LATER: nothing was taken."""

REPORTS: Final[dict[str, str]] = {
    "success":          "DELIVRD",
    "sent":             "ENROUTE",
    "submitted":        "ENROUTE",
    "buffered":         "ENROUTE",
    "rejected":         "REJECTD",
    "failed":           "UNDELIV",
    "expired":          "EXPIRED",
    "absentsubscriber": "UNDELIV",
}
"""status of a delivery report, in small letters, as the state of an SMPP receipt. One that is not here is UNKNOWN."""
# fmt: on

_BY_NAME: Final = {name.lower(): verdict for name, verdict in STATUSES.values()}


@dataclass(frozen=True, slots=True)
class Answered:
    """What an answer to a sent text comes to. `status` is for the metrics, `detail` for operators."""

    verdict: Verdict
    status: str
    detail: str = ""
    message_id: str = ""


def read_answer(status: int, body: bytes, number: str) -> Answered:
    """The answer to one text sent to one number, of digits without plus."""
    if not 200 <= status < 300:
        return Answered(HTTP.get(status, Verdict.LATER), f"http {status}", _words(body.decode("utf-8", "replace")))
    try:
        found = json.loads(body)
        told = found["SMSMessageData"]
        recipients, message = told.get("Recipients") or [], told.get("Message") or ""
        if not isinstance(recipients, list) or not isinstance(message, str):
            raise ValueError("a list and a text expected")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Answered(Verdict.UNKNOWN, "unreadable", "an answer of another form")
    ours = next((each for each in recipients if _number_of(each) == number), None)
    if ours is not None:
        return _recipient(ours)
    if recipients:
        return Answered(Verdict.UNKNOWN, "unreadable", "an answer about another number")
    # A refusal of the whole, in words.
    squeezed = re.sub(r"[^a-z]", "", message.lower())
    for name, verdict in _BY_NAME.items():
        if name in squeezed and verdict is not Verdict.TAKEN:
            return Answered(verdict, _name_of(name), _words(message))
    return Answered(Verdict.LATER, "no recipients", _words(message))


def _number_of(recipient: Any) -> str:
    number = recipient.get("number") if isinstance(recipient, dict) else None
    return number.removeprefix("+") if isinstance(number, str) else ""


def _recipient(told: dict[str, Any]) -> Answered:
    code, message_id, word = told.get("statusCode"), told.get("messageId"), told.get("status")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 6:
        code = int(code)
    if not isinstance(code, int) or isinstance(code, bool):
        # Old answers have the word alone.
        verdict = {"success": Verdict.TAKEN, **_BY_NAME}.get(str(word).lower())
        if verdict is None:
            return Answered(Verdict.UNKNOWN, "unreadable", "an answer without statusCode")
        name = str(word)[:_DETAIL_MAX]
    else:
        name, verdict = STATUSES.get(code, ("unknown", Verdict.LATER))
        name = f"{code} {name}"
    has_id = isinstance(message_id, str) and 0 < len(message_id) <= _ID_MAX and message_id != "None"
    return Answered(verdict, name, "", str(message_id) if has_id and verdict is Verdict.TAKEN else "")


def _name_of(name: str) -> str:
    return next(f"{code} {known}" for code, (known, _) in STATUSES.items() if known.lower() == name)


def _words(text: str) -> str:
    """The beginning of what was said, without numbers, which might be a customer's."""
    return re.sub(r"[^\x21-\x7e]+", " ", re.sub(r"\d{4,}", "#", text)).strip()[:_DETAIL_MAX]


# --- callbacks --------------------------------------------------------------------------------------------------------


def read_text(callback: Callback, account: str) -> TextIn:
    """A text from a phone: id, from, to, text; date, linkId, networkCode and cost tell nothing that is needed here."""
    form = callback.form()
    text = form.get("text")
    if text is None:
        raise NotReadable("missing", "text")
    return TextIn(
        link=account,
        centre=account,
        message_id=text_of(form, "id", _ID_MAX),
        sender=text_of(form, "from", 40),
        destination=text_of(form, "to", 40, may_be_empty=True),
        text=text,
    )


def read_report(callback: Callback, account: str) -> DeliveryReport:
    """A delivery report: id, status, phoneNumber, failureReason. Words in any case, known or not."""
    form = callback.form()
    word = text_of(form, "status", _REPORT_WORD_MAX)
    return DeliveryReport(
        link=account,
        centre=account,
        message_id=text_of(form, "id", _ID_MAX),
        recipient=msisdn_of(form, "phoneNumber") if form.get("phoneNumber") else "",
        state=REPORTS.get(word.strip().lower(), "UNKNOWN"),
        error=text_of(form, "failureReason", 80, may_be_empty=True),
    )


def read_opt_out(callback: Callback) -> str:
    """Who wants no more bulk messages: senderId, phoneNumber. The number, of digits."""
    form = callback.form()
    text_of(form, "senderId", 40, may_be_empty=True)
    return msisdn_of(form, "phoneNumber")
