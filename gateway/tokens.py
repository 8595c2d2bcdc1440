"""The tokens of a purchase: which ones a sale gives, under which key, from which inputs. Pure.

Inputs are decided, stored, and only then turned into tokens, so that asking again gives the same tokens. A meter whose
key shall change gets the key-change set first, under its present key, and the credit after it, under the new one; the
set is given again with every sale until the change is confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from config.settings import StsSettings
from gateway import keptkeys
from ledger.pricing import Sale
from ledger.reasons import Reason, Refusal
from ledger.unit import KeyName, Meter, TokenRow
from sts.errors import Fault, StsError
from sts.meterkey import MeterKey
from sts.modules.contract import CreditRequest, KeyChangeRequest, KeyMissing, SecurityModule
from sts.tid import next_tid

_ELECTRICITY: Final = 0  # token class 0, subclass 0
KEY_CHANGE: Final = "key_change"

# What goes wrong in token making, as the customer is told.
_FAULTS: Final = {
    Fault.TID_TOO_FAR_AHEAD: Reason.TOKENS_TOO_FAST,
    Fault.BASE_DATE_ENDED: Reason.METER_KEY_ENDED,
    Fault.BEFORE_BASE_DATE: Reason.METER_KEY_ENDED,
    Fault.KEY_EXPIRED: Reason.METER_KEY_ENDED,
    Fault.KEY_MISSING: Reason.KEY_MISSING,
    Fault.KEY_NOT_ACTIVE: Reason.KEY_MISSING,
    Fault.KEY_NO_LONGER_USED: Reason.KEY_MISSING,
}

ModuleRequest = CreditRequest | KeyChangeRequest


def fault_reason(error: StsError) -> Reason:
    """Why no token could be made, as the customer is told."""
    return _FAULTS.get(error.fault, Reason.MODULE_REFUSED)


# --- keys -------------------------------------------------------------------------------------------------------------


def key_of(meter: Meter) -> MeterKey:
    """The handle of a meter's present decoder key."""
    return MeterKey(
        drn=meter.drn,
        iin=meter.iin,
        supply_group=meter.supply_group,
        key_type=meter.key_type,
        tariff_index=meter.tariff_index,
        key_revision=meter.key_revision,
        key_expiry=meter.key_expiry,
        base_date=meter.base_date,
        ea=meter.encryption_algorithm,
        dkga=meter.key_generation,
    )


def key_text(key: MeterKey) -> str:
    """A key's handle without the meter, as stored: supply group, type, index, revision, KEN, base date, EA, DKGA."""
    return (
        f"{key.supply_group}.{key.key_type}.{key.tariff_index}.{key.key_revision}.{key.key_expiry}."
        f"{key.base_date}.{key.ea}.{key.dkga}"
    )


def key_from(text: str, drn: str, iin: str) -> MeterKey:
    """The inverse of `key_text`, for this meter."""
    group, key_type, index, revision, expiry, base_date, ea, dkga = text.split(".")
    return MeterKey(
        drn, iin, group, int(key_type), index, int(revision), int(expiry), int(base_date), int(ea), int(dkga)
    )


def key_name(token: TokenRow) -> KeyName:
    """The name of the vending key that a token is made under."""
    group, key_type, _, revision, _, base_date, _, dkga = token.key.split(".")
    return group, int(revision), int(key_type), int(dkga), int(base_date)


def changed(meter: Meter) -> Meter:
    """The meter once it has taken its key change."""
    assert meter.next_key is not None
    new = key_from(meter.next_key, meter.drn, meter.iin)
    return replace(
        meter,
        supply_group=new.supply_group,
        key_type=new.key_type,
        tariff_index=new.tariff_index,
        key_revision=new.key_revision,
        key_expiry=new.key_expiry,
        base_date=new.base_date,
        key_generation=new.dkga,
        last_tid=meter.last_tid if new.base_date == meter.base_date else meter.next_last_tid,
        next_key=None,
        next_last_tid=None,
        change_given_at=None,
    )


# --- inputs -----------------------------------------------------------------------------------------------------------


class KeyChangeFirst(Exception):
    """The meter can take no credit before its key change; `tokens` are the set's inputs. Nothing may be sold."""

    def __init__(self, tokens: list[TokenRow], meter: Meter) -> None:
        super().__init__("key change first")
        self.tokens = tokens
        self.meter = meter


@dataclass(frozen=True, slots=True)
class Minting:
    """What deciding on tokens needs besides the sale."""

    settings: StsSettings
    module: SecurityModule
    nibble: Callable[[], int]
    now: datetime


@dataclass(frozen=True, slots=True)
class Given:
    """Units that are given and not sold: what a token's inputs need of a sale."""

    units_tenths: int
    amount_field: int | None
    free_units_tenths: int = 0
    free_amount_field: int | None = None


def inputs(minting: Minting, purchase_id: UUID, meter: Meter, sale: Sale | Given) -> tuple[list[TokenRow], Meter]:
    """Every input of the purchase's tokens in the order they are entered, and the meter as it is to be stored.

    Refuses TOKENS_TOO_FAST, METER_KEY_ENDED, KEY_MISSING, KEY_CHANGE_NEEDED (where changes are a separate matter), and
    raises KeyChangeFirst for a meter whose base date has ended but whose new key is known.
    """
    wanted = []
    if sale.units_tenths and sale.amount_field is not None:
        wanted.append(("credit", sale.units_tenths, sale.amount_field))
    if sale.free_units_tenths and sale.free_amount_field is not None:
        wanted.append(("free", sale.free_units_tenths, sale.free_amount_field))
    if not wanted:
        return [], meter
    try:
        if meter.change_given_at is not None and minting.settings.key_change_confirmed_by == "next_sale":
            meter = changed(meter)
        if meter.next_key is None:
            return _credit(minting, purchase_id, meter, key_of(meter), wanted, 0)
        if minting.settings.key_change == "separate":
            raise Refusal(Reason.KEY_CHANGE_NEEDED, drn=meter.drn)
        return _with_key_change(minting, purchase_id, meter, wanted)
    except StsError as error:
        raise Refusal(fault_reason(error), drn=meter.drn) from error


def _with_key_change(
    minting: Minting, purchase_id: UUID, meter: Meter, wanted: Sequence[tuple[str, int, int]]
) -> tuple[list[TokenRow], Meter]:
    assert meter.next_key is not None
    present, new = key_of(meter), key_from(meter.next_key, meter.drn, meter.iin)
    _require(minting.module, present)
    sections = 2 if new.decoder_key_bits == 64 else 4
    blank = _row(purchase_id, 0, meter, KEY_CHANGE, present, units_tenths=0)
    tokens = [replace(blank, seq=seq, new_key=key_text(new)) for seq in range(sections)]
    given = replace(meter, change_given_at=minting.now)
    if _has_ended(minting, meter):
        raise KeyChangeFirst(tokens, given)
    credit, after = _credit(minting, purchase_id, given, new, wanted, sections)
    return tokens + credit, after


def _has_ended(minting: Minting, meter: Meter) -> bool:
    try:
        next_tid(minting.now, meter.base_date, None, max_ahead_minutes=minting.settings.tid_ahead_max_minutes)
    except StsError as error:
        if error.fault is Fault.BASE_DATE_ENDED:
            return True
        raise
    return False


def _credit(
    minting: Minting, purchase_id: UUID, meter: Meter, key: MeterKey, wanted: Sequence[tuple[str, int, int]], seq: int
) -> tuple[list[TokenRow], Meter]:
    same_base = key.base_date == meter.base_date
    last = meter.last_tid if same_base else meter.next_last_tid
    tokens: list[TokenRow] = []
    for kind, units_tenths, amount_field in wanted:
        last = next_tid(
            minting.now,
            key.base_date,
            last,
            max_ahead_minutes=minting.settings.tid_ahead_max_minutes,
            zone_offset_minutes=minting.settings.base_date_offset_minutes,
        )
        row = _row(purchase_id, seq + len(tokens), meter, kind, key, units_tenths=units_tenths)
        row.tid, row.subclass, row.rnd, row.amount_field = last, _ELECTRICITY, minting.nibble(), amount_field
        tokens.append(row)
    _require(minting.module, key)
    meter = replace(meter, unseen_sale=None)
    return tokens, replace(meter, last_tid=last) if same_base else replace(meter, next_last_tid=last)


def _require(module: SecurityModule, key: MeterKey) -> None:
    if not module.holds(key):
        raise KeyMissing(key)


def _row(purchase_id: UUID, seq: int, meter: Meter, kind: str, key: MeterKey, *, units_tenths: int) -> TokenRow:
    return TokenRow(
        purchase_id=purchase_id,
        seq=seq,
        meter_id=meter.id,
        kind=kind,
        base_date=key.base_date,
        tid=None,
        subclass=None,
        rnd=None,
        amount_field=None,
        units_tenths=units_tenths,
        supply_group=key.supply_group,
        key_revision=key.key_revision,
        key=key_text(key),
        new_key=None,
        digits=None,
    )


# --- making -----------------------------------------------------------------------------------------------------------


def requests(meter: Meter, tokens: Sequence[TokenRow]) -> tuple[tuple[ModuleRequest, int], ...]:
    """What a module is asked for these tokens, and how many come of it: a whole key-change set, or one credit."""
    found: list[tuple[ModuleRequest, int]] = []
    for is_set, group in groupby(tokens, lambda token: token.kind == KEY_CHANGE):
        rows = list(group)
        for row in rows[:1] if is_set else rows:
            key = key_from(row.key, meter.drn, meter.iin)
            if is_set:
                assert row.new_key is not None
                found.append((KeyChangeRequest(key, key_from(row.new_key, meter.drn, meter.iin)), len(rows)))
                continue
            assert row.subclass is not None and row.tid is not None
            assert row.rnd is not None and row.amount_field is not None
            found.append((CreditRequest(key, row.subclass, row.tid, row.rnd, row.amount_field), 1))
    return tuple(found)


def make(minting: Minting, meter: Meter, tokens: Sequence[TokenRow]) -> list[TokenRow]:
    """The tokens with their digits, from modules that answer at once, the one they count for first. Raises StsError."""
    digits: list[str] = []
    for request, _ in requests(meter, tokens):
        made = keptkeys.made(minting.module, request, now=minting.now, first=tokens[len(digits)].module or "")
        for token in tokens[len(digits) : len(digits) + len(made.digits)]:
            token.module = made.by
        digits.extend(made.digits)
    return filled(tokens, digits)


def filled(tokens: Sequence[TokenRow], digits: Sequence[str]) -> list[TokenRow]:
    """The tokens with these digits, one each, in order."""
    for token, text in zip(tokens, digits, strict=True):
        token.digits = text
    return list(tokens)


def shown(tokens: Sequence[TokenRow]) -> list[dict[str, Any]]:
    """Tokens as the values of a message: "1 of 3" where there are several, key change first, credit last."""
    count = len(tokens)
    numbered = [{"digits": token.digits, "kind": token.kind, "units_tenths": token.units_tenths} for token in tokens]
    if count > 1:
        return [{**entry, "place": place, "of": count} for place, entry in enumerate(numbered, 1)]
    return numbered
