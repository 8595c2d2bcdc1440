"""Africa's Talking, and the many that copied its form: everything typed so far, joined by asterisks. Pure.

POST, application/x-www-form-urlencoded: sessionId, phoneNumber (+E.164), networkCode, serviceCode ("*384*1234#"), text
("" at first). Answered as text/plain that begins with "CON " or "END ". The notice of a session's end is a form of its
own, with `status` instead of `text`.
"""

from __future__ import annotations

from datetime import datetime

from channels.http.callback import Answer, Callback, NotReadable, msisdn_of, text_of
from channels.ussd.steps import Kind, Page, Step

METHODS = frozenset({"POST"})
TEXT_MAX = 2_000


def read(callback: Callback, service: str, country_code: str, now: datetime) -> Step:
    """The step of a callback. Raises NotReadable."""
    form = callback.form()
    is_over = "status" in form and "text" not in form
    if not is_over and "text" not in form:
        raise NotReadable("missing", "text")
    return Step(
        service=service,
        session=text_of(form, "sessionId", 128),
        msisdn=msisdn_of(form, "phoneNumber", country_code),
        service_code=text_of(form, "serviceCode", 64, may_be_empty=True),
        kind=Kind.OVER if is_over else Kind.UNSAID,
        text="" if is_over else text_of(form, "text", TEXT_MAX, may_be_empty=True),
        is_whole=True,
        mark="",
        received_at=now,
    )


def write(callback: Callback, page: Page) -> Answer:
    """The screen as this provider wants it."""
    return Answer(f"{'END' if page.is_end else 'CON'} {page.text}")
