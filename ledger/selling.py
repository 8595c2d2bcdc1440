"""What stations and their operators may sell, and the count of what they have sold.

Functions of the batch they are handed (`ledger/unit.py`); they never commit. Money is looked after by the station's
limited account; what stands here is everything else that a station is held to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID

from ledger import commissions
from ledger.counter import CHANNEL, COUNTER_PAYMENT, COUNTER_SALE
from ledger.reasons import Reason, Refusal
from ledger.unit import CounterSale, Meter, Phone, SellerDay, Unit


def require_station(station: Phone, channel: str, meter: Meter) -> None:
    """Refuse STATION_BLOCKED for a station that is blocked or not open on this channel, NOT_PERMITTED for a meter of
    a supply group it may not sell for."""
    channels = (station.station_channels or "").split()
    if station.station_state == "BLOCKED" or (channels and channel not in channels):
        raise Refusal(Reason.STATION_BLOCKED, station=station.station_code)
    if meter.supply_group not in (station.supply_groups or "").split():
        raise Refusal(Reason.NOT_PERMITTED, drn=meter.drn)


def commission(station: Phone | None, day: date, amount_minor: int, split: Mapping[str, Any]) -> int:
    """What the station earns by a sale on this local day; nothing without a station."""
    if station is None:
        return 0
    return commissions.earned_minor(
        station.commission_rules,
        station.commission_percent,
        day,
        amount_minor=amount_minor,
        units_tenths=split["units_tenths"],
        debts_minor=sum(split["debts_minor"].values()),
    )


def enter(
    unit: Unit, purchase_id: UUID, login: str, station: str, seq: int, day: str, tenders: tuple[int, ...]
) -> None:
    """Note a purchase as asked for at a counter, in the operator's open shift if there is one.

    `tenders` are the minor units given in cash, by card and by cheque.
    """
    shift = unit.shifts.get(login)
    sale = CounterSale(purchase_id, login, station, shift.id if shift else None, seq, day, *tenders)
    unit.put("counter_sales", purchase_id, sale)
    unit.insert(COUNTER_SALE, tuple(getattr(sale, name) for name in CounterSale.__slots__))


def take_payment(
    unit: Unit,
    payment_id: UUID,
    login: str,
    station: str,
    station_id: UUID,
    needs_shift: bool,
    tenders: tuple[int, ...],
) -> UUID | None:
    """Count a payment without energy for the open shift that its cashier has at this station; the shift's id.

    Refuses SHIFT_NEEDED without one, where `needs_shift`: what lies in a drawer is somebody's to count.
    """
    shift = unit.shifts.get(login)
    if shift is not None and shift.station_id != station_id:
        shift = None
    if shift is None and needs_shift:
        raise Refusal(Reason.SHIFT_NEEDED, operator=login)
    unit.insert(COUNTER_PAYMENT, (payment_id, login, station, shift.id if shift else None, *tenders))
    if shift is None:
        return None
    cash, card, cheque = tenders
    unit.put(
        "shifts",
        login,
        replace(
            shift,
            paid_count=shift.paid_count + 1,
            paid_cash_minor=shift.paid_cash_minor + cash,
            paid_card_minor=shift.paid_card_minor + card,
            paid_cheque_minor=shift.paid_cheque_minor + cheque,
        ),
    )
    return shift.id


def require_seller(unit: Unit, purchase_id: UUID, channel: str, amount_minor: int) -> None:
    """Refuse a counter sale without an open shift where one is needed, or beyond a limit of its operator."""
    if channel != CHANNEL:
        return
    sale = unit.counter_sales[purchase_id]
    seller, shift = unit.sellers.get(sale.login), unit.shifts.get(sale.login)
    if seller is None or seller.is_disabled:
        raise Refusal(Reason.PAYER_UNKNOWN)
    # A shift cannot be closed while one of its sales waits, so this is the shift that the sale began in.
    if seller.shift_required and (shift is None or shift.id != sale.shift_id):
        raise Refusal(Reason.SHIFT_NEEDED, operator=sale.login)
    day = unit.seller_days.get((sale.login, sale.day))
    for limit_minor, sold_minor in (
        (seller.per_sale_minor, 0),
        (seller.per_shift_minor, shift.sold_minor if shift is not None else 0),
        (seller.per_day_minor, day.sold_minor if day is not None else 0),
    ):
        if limit_minor is not None and sold_minor + amount_minor > limit_minor:
            raise Refusal(Reason.SELLER_LIMIT, available_minor=max(0, limit_minor - sold_minor))


def is_undoable(unit: Unit, purchase_id: UUID, channel: str) -> bool:
    """Whether the drawer that took the money can give it back: the shift of a counter sale has not been counted yet."""
    if channel != CHANNEL:
        return True
    sale = unit.counter_sales[purchase_id]
    shift = unit.shifts.get(sale.login)
    return sale.shift_id is None or (shift is not None and shift.id == sale.shift_id)


def count(unit: Unit, purchase_id: UUID, channel: str, sign: int = 1) -> None:
    """Count a counter sale for its shift and day when its money is held or taken, or with `sign` -1 take it back."""
    if channel != CHANNEL:
        return
    sale = unit.counter_sales[purchase_id]
    amount_minor = sign * (sale.cash_minor + sale.card_minor + sale.cheque_minor)
    day = unit.seller_days.get((sale.login, sale.day)) or SellerDay(sale.login, sale.day, 0, 0)
    unit.put(
        "seller_days",
        (sale.login, sale.day),
        replace(day, sold_count=day.sold_count + sign, sold_minor=day.sold_minor + amount_minor),
    )
    if sale.shift_id is None:
        return
    shift = unit.shifts[sale.login]
    assert shift.id == sale.shift_id, "a shift was closed while one of its sales waited"
    unit.put(
        "shifts",
        sale.login,
        replace(
            shift,
            sold_count=shift.sold_count + sign,
            sold_minor=shift.sold_minor + amount_minor,
            sold_cash_minor=shift.sold_cash_minor + sign * sale.cash_minor,
            sold_card_minor=shift.sold_card_minor + sign * sale.card_minor,
            sold_cheque_minor=shift.sold_cheque_minor + sign * sale.cheque_minor,
        ),
    )
