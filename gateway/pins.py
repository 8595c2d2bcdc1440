"""PINs in a batch: when a purchase takes one, what a try costs, how a new one is stored. Never waits, never hashes.

A PIN is held against its hash before the batch (`gateway/pinproof.py`), for that takes long; here only whether the
hash that it was held against is still the one that is stored. If it is not, the deed is made again (`Stale`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from config.settings import PinSettings
from ledger.pins import is_weak
from ledger.reasons import Reason, Refusal
from ledger.unit import Phone, PurchaseRow, Unit

BY_PHONE: Final = frozenset({"sms", "ussd"})
"""Channels whose senders are known by nothing but their phone."""


@dataclass(frozen=True, slots=True, repr=False)
class Proof:
    """What came of a look at a PIN: the hash it was held against (None: it was not), and the hash of a new one."""

    stored: str | None = None
    fits: bool = False
    made: str | None = None


class Stale(Exception):
    """The PIN must be looked at first, or again: what is stored is not what it was held against."""


def is_needed(settings: PinSettings, unit: Unit, row: PurchaseRow) -> bool:
    """Whether this quoted purchase takes the PIN of its phone."""
    if row.channel not in BY_PHONE or not settings.key:
        return False
    if row.station_id is None:
        rule, above_minor = settings.customers, settings.customers_above_minor
        return rule == "always" or (rule == "above" and row.amount_minor > above_minor)
    phone = unit.phones.get(row.sender)
    word, _, amount = ((phone.pin_rule if phone else "") or "").partition(" ")
    if not word:
        word, amount = settings.stations, str(settings.stations_above_minor)
    return word == "always" or (word == "above" and row.amount_minor > int(amount))


def spend_try(settings: PinSettings, unit: Unit, phone: Phone | None, proof: Proof | None, now: datetime) -> Phone:
    """Count a try at a phone's PIN; the phone after the right one. Raises Refusal for a wrong one, and Stale."""
    if phone is None or phone.pin is None or not settings.key:
        raise Refusal(Reason.PIN_NOT_SET)
    if phone.pin_locked_at is not None:
        raise Refusal(Reason.PIN_LOCKED)
    if proof is None or proof.stored != phone.pin:
        raise Stale
    if not proof.fits:
        tries = phone.pin_tries + 1
        is_last = tries >= settings.tries_max
        unit.put("phones", phone.msisdn, replace(phone, pin_tries=tries, pin_locked_at=now if is_last else None))
        raise Refusal(Reason.PIN_LOCKED) if is_last else Refusal(Reason.PIN_WRONG, left=settings.tries_max - tries)
    if phone.pin_tries:
        phone = replace(phone, pin_tries=0)
        unit.put("phones", phone.msisdn, phone)
    return phone


def require_good(pin: str, msisdn: str) -> None:
    """Refuse PIN_WEAK for a new PIN that others try first."""
    if is_weak(pin, msisdn):
        raise Refusal(Reason.PIN_WEAK)


def set_new(unit: Unit, phone: Phone, proof: Proof | None) -> None:
    """Store the hash of a new PIN. Raises Stale where nobody has made it yet."""
    if proof is None or proof.made is None:
        raise Stale
    unit.put("phones", phone.msisdn, replace(phone, pin=proof.made, pin_tries=0, pin_locked_at=None))
