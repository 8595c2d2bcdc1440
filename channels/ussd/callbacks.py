"""USSD over HTTP: the routes of all services, from a provider's callback to its answer. Shell; opens nothing itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from channels.http.callback import Answer, Callback, NotReadable, networks
from channels.http.server import Route
from channels.ussd.registry import PROVIDERS
from channels.ussd.steps import Page, Steps
from config.settings import UssdSettings

log = logging.getLogger(__name__)


def routes(
    services: Sequence[UssdSettings],
    steps: Steps,
    *,
    now: Callable[[], datetime],
    help_text: Callable[[], str],
    on_refused: Callable[[str, str], None],
) -> list[Route]:
    """One route a service that comes by HTTP: /ussd/<name>, and /<path_secret> behind it where there is one."""
    return [_route(service, steps, now, help_text, on_refused) for service in services if service.kind in PROVIDERS]


def _route(
    service: UssdSettings,
    steps: Steps,
    now: Callable[[], datetime],
    help_text: Callable[[], str],
    on_refused: Callable[[str, str], None],
) -> Route:
    provider, name = PROVIDERS[service.kind], f"ussd:{service.name}"

    async def handle(callback: Callback) -> Answer:
        try:
            step = provider.read(callback, service.name, service.country_code, now())
        except NotReadable as fault:
            # The provider would show an error of its own: a last screen with help is kinder, and nothing is bought.
            log.warning("a USSD callback cannot be read: %s", fault, extra={"service": service.name})
            on_refused(name, fault.why)
            return provider.write(callback, Page(help_text(), is_end=True))
        return provider.write(callback, await steps.answer(step))

    secret = service.path_secret.reveal()
    return Route(
        name=name,
        path=f"/ussd/{service.name}/{secret}" if secret else f"/ussd/{service.name}",
        methods=provider.METHODS,
        handler=handle,
        addresses=networks(service.addresses),
        header_name=service.header_name,
        header_secret=service.header_secret.reveal(),
    )
