"""What Africa's Talking calls: texts from phones, delivery reports, opt-outs. Shell; opens nothing itself.

200 only when it is stored: without it the provider calls again, for some ten minutes, and a repeat is known by its id.
What cannot be stored now gets 503, what makes no sense 400.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from channels.africastalking import api
from channels.contract import DeliveryReport, NotStored, TextIn
from channels.http.callback import Answer, Callback, NotReadable, networks
from channels.http.server import Route
from config.settings import AfricasTalkingSettings

log = logging.getLogger(__name__)

_METHODS = frozenset({"POST"})


class Texts(Protocol):
    """Who takes what phones send: `channels.sms.SmsChannel`. Both raise NotStored."""

    async def take_text(self, text: TextIn) -> None:
        """Return once the request of a text is stored."""

    async def take_opt_out(self, link: str, sender: str) -> None:
        """Return once it is stored that this phone wants no notices."""


class Reports(Protocol):
    """Who keeps delivery reports: `gateway.smsbooks.Receipts`."""

    async def keep(self, report: DeliveryReport) -> None:
        """Return once it is stored; raise NotStored if it could not be."""


def routes(
    accounts: Sequence[AfricasTalkingSettings],
    texts: Texts,
    reports: Reports,
    *,
    on_refused: Callable[[str, str], None],
) -> list[Route]:
    """Three routes an account: /sms/<name>/<path_secret> for texts, behind it /reports and /optouts."""
    found: list[Route] = []
    for account in accounts:
        secret = account.path_secret.reveal()
        if not secret and not account.addresses:
            continue  # it only sends
        base = f"/sms/{account.name}/{secret}" if secret else f"/sms/{account.name}"
        for path, take in (
            ("", _text(account.name, texts)),
            ("/reports", _report(account.name, reports)),
            ("/optouts", _opt_out(account.name, texts)),
        ):
            name = f"sms:{account.name}{path}"
            handler = _answering(name, take, on_refused)
            found.append(Route(name, base + path, _METHODS, handler, networks(account.addresses)))
    return found


def _text(account: str, texts: Texts) -> Callable[[Callback], Awaitable[None]]:
    async def take(callback: Callback) -> None:
        await texts.take_text(api.read_text(callback, account))

    return take


def _report(account: str, reports: Reports) -> Callable[[Callback], Awaitable[None]]:
    async def take(callback: Callback) -> None:
        await reports.keep(api.read_report(callback, account))

    return take


def _opt_out(account: str, texts: Texts) -> Callable[[Callback], Awaitable[None]]:
    async def take(callback: Callback) -> None:
        await texts.take_opt_out(account, api.read_opt_out(callback))

    return take


def _answering(
    name: str, take: Callable[[Callback], Awaitable[None]], on_refused: Callable[[str, str], None]
) -> Callable[[Callback], Awaitable[Answer]]:
    async def handle(callback: Callback) -> Answer:
        try:
            await take(callback)
        except NotReadable as fault:
            log.warning("a callback cannot be read: %s", fault, extra={"callback": name})
            on_refused(name, fault.why)
            return Answer("not readable", status=400)
        except NotStored:
            on_refused(name, "not_stored")
            return Answer("try again", status=503, headers={"Retry-After": "10"})
        return Answer()

    return handle
