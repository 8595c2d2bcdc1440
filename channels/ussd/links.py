"""USSD over the links of the SMS channel: a step is stored, acknowledged, and its screen submitted. Shell.

A screen that the message centre does not take is tried again for a short time, then dropped: the session lies in the
database, and the customer may dial again; a token comes by SMS as well. No text and no phone number is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final

from channels.contract import Outcome
from channels.http.callback import NotReadable
from channels.smpp import codes
from channels.smpp.link import Incoming, SubmitResult
from channels.ussd.providers import smpp
from channels.ussd.steps import Kind, Page, Steps
from config.settings import UssdSettings

log = logging.getLogger(__name__)

KIND: Final = "smpp"
_PAUSE_S: Final = 0.5


class UssdLinks:
    """The services of kind "smpp", each on its links. `take` is for `SmsChannel`'s `divert`.

    `on_lost` is told the service whose screen was dropped.
    """

    def __init__(
        self,
        services: Sequence[UssdSettings],
        steps: Steps,
        *,
        now: Callable[[], datetime],
        help_text: Callable[[], str],
        on_refused: Callable[[str, str], None],
        on_lost: Callable[[str], None],
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._services = {
            link: service for service in services if service.kind == KIND for link in service.links.split()
        }
        self._steps = steps
        self._now = now
        self._help_text = help_text
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._pause_s = pause_s

    def take(self, incoming: Incoming) -> Coroutine[Any, Any, None] | None:
        """The work of a message that is a USSD step on a link with a service; None for any other."""
        service = self._services.get(incoming.link.name)
        if service is None or not smpp.is_ussd(incoming.message):
            return None
        return self._serve(incoming, service)

    async def _serve(self, incoming: Incoming, service: UssdSettings) -> None:
        link = incoming.link.settings
        try:
            step = smpp.read(
                incoming.message, service, incoming.link.centre, link.default_alphabet, link.reference_tlv, self._now()
            )
        except NotReadable as fault:
            log.warning("a USSD message cannot be read: %s", fault, extra={"service": service.name})
            self._on_refused(f"ussd:{service.name}", fault.why)
            await self._help(incoming, service)
            return
        page = await self._steps.answer(step, lambda: incoming.answer(codes.ROK))
        # What could not be stored is acknowledged too: were it stored the next time, the customer would have been told
        # by then that nothing was bought.
        incoming.answer(codes.ROK)
        if step.kind is not Kind.OVER:
            await self._submit(incoming, service, page)

    async def _help(self, incoming: Incoming, service: UssdSettings) -> None:
        """End a session with help, if the message says which; refuse the message for good if not."""
        page = Page(self._help_text(), is_end=True)
        try:
            smpp.session_of(incoming.message, service)
        except NotReadable:
            incoming.answer(codes.RX_P_APPN)
            return
        incoming.answer(codes.ROK)
        await self._submit(incoming, service, page)

    async def _submit(self, incoming: Incoming, service: UssdSettings, page: Page) -> None:
        message = smpp.write(incoming.message, service, page, incoming.link.settings.default_alphabet)
        result = SubmitResult(Outcome.LATER, "no answer in time")
        try:
            async with asyncio.timeout(service.resend_s):
                while True:
                    result = await incoming.link.submit(message)
                    # What may have been taken is not sent again: the phone would show the screen after the next one.
                    if result.outcome is not Outcome.LATER or result.is_unknown:
                        break
                    await asyncio.sleep(self._pause_s)
        except TimeoutError:
            pass
        if result.outcome is not Outcome.TAKEN:
            log.warning("a USSD screen was dropped: %s", result.detail, extra={"service": service.name})
            self._on_lost(service.name)
