"""The ways in which a purchase can be paid: a table, asked in its order. Reads the batch, no more.

A new way is a line here and a text `ussd_by_<name>` in each language file: where a phone has more than one that could
pay, the USSD menu lets her choose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from ledger import selling
from ledger.reasons import Reason, Refusal
from ledger.unit import Meter, Phone, PurchaseRow, Unit

Payer = tuple[UUID, Phone | None]
"""The account that pays, and the phone where it is a station's float."""


def _wallet(phone: Phone, meter: Meter, row: PurchaseRow) -> Payer | None:
    return (phone.wallet_id, None) if phone.wallet_id is not None else None


def _float(phone: Phone, meter: Meter, row: PurchaseRow) -> Payer | None:
    if phone.station_account_id is None:
        return None
    selling.require_station(phone, row.channel, meter)
    return phone.station_account_id, phone


WAYS: Final[dict[str, Callable[[Phone, Meter, PurchaseRow], Payer | None]]] = {"wallet": _wallet, "float": _float}
"""By name: who pays in this way; None where the phone has it not. Raises Refusal where it may not be used."""


def payer(unit: Unit, phone: Phone | None, meter: Meter, row: PurchaseRow, by: str = "") -> Payer:
    """Who pays in this way; without one the first that has enough money, else the last there is, which is short.

    Raises Refusal PAYER_UNKNOWN for a phone without it, or without any.
    """
    short: Payer | None = None
    for name, way in WAYS.items():
        if phone is None or by not in ("", name):
            continue
        found = way(phone, meter, row)
        if found is None:
            continue
        if by or unit.balances[found[0]].available_minor >= row.amount_minor:
            return found
        short = found
    if short is None:
        raise Refusal(Reason.PAYER_UNKNOWN)
    return short
