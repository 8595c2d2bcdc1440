"""Every kind of payment source, one line each, and how the sources of the settings are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from config.load import Fault, SettingsFaults
from config.settings import PaymentSettings, Settings
from gateway.payments.contract import Can, PaymentSource


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source may want to know beside its own settings. `callback_url` is empty where it has no callbacks."""

    now: Callable[[], datetime]
    zone: ZoneInfo
    currency: str
    minor_digits: int
    callback_url: str


Factory = Callable[[PaymentSettings, Surroundings], PaymentSource]

SOURCES: Final[dict[str, Factory]] = {}


def path_of(source: PaymentSettings) -> str:
    """Where the callbacks of a source come in; empty where none are taken."""
    secret = source.path_secret.reveal()
    if not secret and not source.addresses:
        return ""
    return f"/payments/{source.name}/{secret}" if secret else f"/payments/{source.name}"


def made(
    settings: Settings, now: Callable[[], datetime], kinds: Mapping[str, Factory] = SOURCES
) -> list[tuple[PaymentSettings, PaymentSource]]:
    """The sources of the settings. Raises SettingsFaults for kinds that nobody knows, and for what a kind cannot do."""
    faults: list[Fault] = []
    found: list[tuple[PaymentSettings, PaymentSource]] = []
    utility, public = settings.utility, settings.callbacks.public_url
    for one in settings.payment:
        factory = kinds.get(one.kind)
        if factory is None:
            faults.append(Fault(f"payment[{one.name}].kind", _one_of(sorted(kinds)), repr(one.kind)))
            continue
        path = path_of(one)
        zone = ZoneInfo(utility.timezone)
        source = factory(
            one, Surroundings(now, zone, utility.currency, utility.minor_digits, f"{public}{path}" if path else "")
        )
        if one.collect and Can.COLLECT not in source.can:
            faults.append(Fault(f"payment[{one.name}].collect", f"false, since {one.kind} cannot ask payers", "true"))
        found.append((one, source))
    if faults:
        raise SettingsFaults(faults)
    return found


def _one_of(kinds: Sequence[str]) -> str:
    return f"one of {', '.join(kinds)}" if kinds else "no table: this version knows no source"
