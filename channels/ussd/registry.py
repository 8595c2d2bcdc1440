"""The providers by their kind in the settings: a new one is a file in providers/ and a line here. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from channels.http.callback import Answer, Callback
from channels.ussd.providers import africastalking, hubtel, xmlrpc
from channels.ussd.steps import Page, Step


class Provider(Protocol):
    """One provider's form of a step, in and out."""

    METHODS: frozenset[str]

    def read(self, callback: Callback, service: str, country_code: str, now: datetime) -> Step:
        """The step of a callback. Raises NotReadable."""

    def write(self, callback: Callback, page: Page) -> Answer:
        """The screen as this provider wants it."""


PROVIDERS: Final[dict[str, Provider]] = {
    "africastalking": africastalking,
    "hubtel": hubtel,
    "xmlrpc": xmlrpc,
}
