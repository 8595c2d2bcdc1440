"""What a payment source may want to know beside its own settings. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from config.money import PaymentSettings
from config.provider_checks import callback_url
from config.settings import Settings
from gateway.payments.contract import PaymentSource

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The rest of the settings, and the time. `callback_url` is empty where the source has no callbacks."""

    settings: Settings
    now: Now
    zone: ZoneInfo
    currency: str
    minor_digits: int
    callback_url: str


Factory = Callable[[PaymentSettings, Surroundings], PaymentSource]


def of(settings: Settings, source: PaymentSettings, now: Now) -> Surroundings:
    """The surroundings of one source of these settings."""
    utility = settings.utility
    return Surroundings(
        settings,
        now,
        utility.zone,
        utility.currency,
        utility.minor_digits,
        callback_url(settings.callbacks, source),
    )
