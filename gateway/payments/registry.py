"""Every kind of payment source, one line each, and how the sources of the settings are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from config.load import Fault, SettingsFaults
from config.money import PaymentSettings
from config.settings import Settings
from gateway.payments import accounts, surroundings
from gateway.payments.contract import Can, PaymentSource
from gateway.payments.surroundings import Factory

SOURCES: Final[dict[str, Factory]] = {
    "mpesa_stk": accounts.mpesa_stk,
    "mpesa_c2b": accounts.mpesa_c2b,
    "momo": accounts.momo,
    "africastalking": accounts.africastalking,
}


def made(
    settings: Settings, now: Callable[[], datetime], kinds: Mapping[str, Factory] = SOURCES
) -> list[tuple[PaymentSettings, PaymentSource]]:
    """The sources of the settings. Raises SettingsFaults for kinds that nobody knows, and for what a kind cannot do."""
    faults: list[Fault] = []
    found: list[tuple[PaymentSettings, PaymentSource]] = []
    for one in settings.payment:
        factory = kinds.get(one.kind)
        if factory is None:
            faults.append(Fault(f"payment[{one.name}].kind", _one_of(sorted(kinds)), repr(one.kind)))
            continue
        source = factory(one, surroundings.of(settings, one, now))
        if one.collect and Can.COLLECT not in source.can:
            faults.append(Fault(f"payment[{one.name}].collect", f"false, since {one.kind} cannot ask payers", "true"))
        found.append((one, source))
    if faults:
        raise SettingsFaults(faults)
    return found


def _one_of(kinds: Sequence[str]) -> str:
    return f"one of {', '.join(kinds)}" if kinds else "no table: this version knows no source"
