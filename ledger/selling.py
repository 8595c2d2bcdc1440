"""What stations and their operators may sell, and the count of what they have sold.

Functions of the batch they are handed (`ledger/unit.py`); they never commit. Money is looked after by the station's
limited account; what stands here is everything else that a station is held to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final
from uuid import UUID

from config.settings import WalletSettings
from ledger import commissions, counter
from ledger.counter import CHANNEL, COUNTER_PAYMENT, COUNTER_SALE
from ledger.reasons import Reason, Refusal
from ledger.unit import CounterSale, Meter, Phone, PurchaseRow, SellerDay, Unit

_BY_PHONE: Final = ("sms", "ussd")  # what is spent from a wallet by other ways has passed other eyes


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


def require_spender(
    unit: Unit, row: PurchaseRow, account: UUID, station: Phone | None, wallets: WalletSettings
) -> None:
    """Refuse SELLER_LIMIT for a sale beyond a limit of the station's phone, WALLET_LIMIT beyond one of wallets."""
    if station is not None:
        name = counter.spender(station)
        per_sale_minor, per_day_minor, reason = station.per_sale_minor, station.per_day_minor, Reason.SELLER_LIMIT
    elif row.channel in _BY_PHONE:
        name = counter.wallet_spender(account)
        per_sale_minor, reason = wallets.per_payment_max_minor or None, Reason.WALLET_LIMIT
        per_day_minor = wallets.per_day_max_minor or None
    else:
        return
    if per_sale_minor is not None and row.amount_minor > per_sale_minor:
        raise Refusal(reason, available_minor=per_sale_minor)
    if per_day_minor is None or name is None or unit.day_of is None:
        return
    day = unit.seller_days.get((name, unit.day_of(row.accepted_at)))
    spent_minor = day.sold_minor if day is not None else 0
    if spent_minor + row.amount_minor > per_day_minor:
        raise Refusal(reason, available_minor=max(0, per_day_minor - spent_minor))


def _count_day(unit: Unit, row: PurchaseRow, sign: int) -> None:
    """Count a purchase for the day of a phone or wallet that has a limit per day, or take it back."""
    phone, name = unit.phones.get(row.sender), None
    if row.station_id is not None:
        name = counter.spender(phone) if phone is not None else None
    elif unit.wallets_have_days and row.payer_id is not None and row.channel in _BY_PHONE:
        name = counter.wallet_spender(row.payer_id)
    if name is None or unit.day_of is None:
        return
    key = (name, unit.day_of(row.accepted_at))
    day = unit.seller_days.get(key)
    if day is None and sign < 0:
        return  # its limit came after it
    day = day or SellerDay(*key, 0, 0)
    unit.put(
        "seller_days",
        key,
        replace(
            day,
            sold_count=max(0, day.sold_count + sign),
            sold_minor=max(0, day.sold_minor + sign * row.amount_minor),
        ),
    )


def count(unit: Unit, row: PurchaseRow, sign: int = 1) -> None:
    """Count a sale when its money is held or taken, or with `sign` -1 take it back: a counter sale for its shift and
    day, one by phone for the day of a phone or wallet that has a limit."""
    if row.channel != CHANNEL:
        _count_day(unit, row, sign)
        return
    sale = unit.counter_sales[row.id]
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
