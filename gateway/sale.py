"""A sale as it is kept: its split as JSON, the account before and after it, its receipt number. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from ledger import pricing
from ledger.unit import DebtRow, Point, PurchaseRow, Unit

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RECEIPTS_SINCE_MS: Final = 1_704_067_200_000  # 2024-01-01; 41 bits last until 2093


def receipt_of(purchase_id: UUID) -> str:
    """The receipt number of a purchase: 13 letters and digits, made from its id, rising with time."""
    number = ((purchase_id.int >> 80) - _RECEIPTS_SINCE_MS) << 24 | purchase_id.int & 0xFFFFFF
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(60, -1, -5))


@lru_cache(maxsize=1024)
def fraction(decimal: str) -> Fraction:
    return Fraction(Decimal(decimal))


def account_of(point: Point, debts: Sequence[DebtRow]) -> pricing.Account:
    """The stored counters and debts of a service point as pricing wants them."""
    return pricing.Account(
        counter_month=point.counter_month,
        month_units_tenths=point.month_units_tenths,
        fixed_through_month=point.fixed_through_month,
        fixed_through_date=point.fixed_through_date,
        fixed_shortfall_minor=point.fixed_shortfall_minor,
        carry_minor=point.carry_minor,
        free_kwh_per_month=point.free_kwh_per_month,
        free_last_month=point.free_last_month,
        debts=tuple(
            pricing.Debt(
                id=debt.code,
                priority=debt.priority,
                mode=pricing.DebtMode(debt.mode),
                outstanding_minor=debt.outstanding_minor,
                instalment_minor=debt.instalment_minor,
                percent=fraction(debt.percent),
                active=debt.status == "ACTIVE",
                recovered_this_month_minor=debt.recovered_this_month_minor,
            )
            for debt in debts
        ),
    )


def after_json(account: pricing.Account) -> dict[str, Any]:
    """The account after a sale, as JSON: what a purchase that waits for a module will write when it is posted."""
    return {
        "counter_month": account.counter_month,
        "month_units_tenths": account.month_units_tenths,
        "fixed_through_month": account.fixed_through_month,
        "fixed_through_date": account.fixed_through_date.isoformat(),
        "fixed_shortfall_minor": account.fixed_shortfall_minor,
        "carry_minor": account.carry_minor,
        "free_last_month": account.free_last_month,
        "debts": {debt.id: debt.recovered_this_month_minor for debt in account.debts},
    }


def priced_from_json(account: pricing.Account, debt_cap_percent: Fraction) -> dict[str, Any]:
    """The account before a sale, as JSON: with it and the tariff's version the sale can be reckoned again for ever.

    The most that debts may take together, a setting, belongs to it where there are debts.
    """
    kept: dict[str, Any] = {
        "counter_month": account.counter_month,
        "month_units_tenths": account.month_units_tenths,
        "fixed_through_month": account.fixed_through_month,
        "fixed_through_date": account.fixed_through_date.isoformat(),
        "fixed_shortfall_minor": account.fixed_shortfall_minor,
        "carry_minor": account.carry_minor,
        "free_kwh_per_month": account.free_kwh_per_month,
        "free_last_month": account.free_last_month,
    }
    if account.debts:
        kept["debt_cap_percent"] = str(debt_cap_percent)
        kept["debts"] = [
            {
                "id": debt.id,
                "priority": debt.priority,
                "mode": debt.mode.value,
                "outstanding_minor": debt.outstanding_minor,
                "instalment_minor": debt.instalment_minor,
                "percent": str(debt.percent),
                "active": debt.active,
                "recovered_this_month_minor": debt.recovered_this_month_minor,
            }
            for debt in account.debts
        ]
    return kept


def priced_from(kept: Mapping[str, Any]) -> tuple[pricing.Account, Fraction]:
    """The inverse of `priced_from_json`; without debts the cap is of no matter, and 0."""
    debts = (
        pricing.Debt(
            debt["id"],
            debt["priority"],
            pricing.DebtMode(debt["mode"]),
            debt["outstanding_minor"],
            debt["instalment_minor"],
            Fraction(debt["percent"]),
            debt["active"],
            debt["recovered_this_month_minor"],
        )
        for debt in kept.get("debts", ())
    )
    account = pricing.Account(
        counter_month=kept["counter_month"],
        month_units_tenths=kept["month_units_tenths"],
        fixed_through_month=kept["fixed_through_month"],
        fixed_through_date=date.fromisoformat(kept["fixed_through_date"]),
        fixed_shortfall_minor=kept["fixed_shortfall_minor"],
        carry_minor=kept["carry_minor"],
        free_kwh_per_month=kept["free_kwh_per_month"],
        free_last_month=kept["free_last_month"],
        debts=tuple(debts),
    )
    return account, Fraction(kept.get("debt_cap_percent", 0))


def split_json(sale: pricing.Sale, station_code: str | None) -> dict[str, Any]:
    """A sale as JSON: everything that its postings, its reply and its records are made from; commission still 0."""
    return {
        "tariff_version": sale.tariff_version,
        "energy_net_minor": sale.energy_net_minor,
        "energy_vat_minor": sale.energy_vat_minor,
        "charges_minor": dict(sale.charges_minor),
        "fee_minor": sale.fee_minor,
        "fee_vat_minor": sale.fee_vat_minor,
        "fixed_minor": sale.fixed_minor,
        "fixed_vat_minor": sale.fixed_vat_minor,
        "debts_minor": dict(sale.debts_minor),
        "carry_in_minor": sale.carry_in_minor,
        "carry_out_minor": sale.carry_out_minor,
        "units_tenths": sale.units_tenths,
        "units_exact": f"{sale.units_ratio[0]}/{sale.units_ratio[1]}",
        "free_units_tenths": sale.free_units_tenths,
        "commission_minor": 0,
        "station_code": station_code or "",
    }


def set_account(unit: Unit, row: PurchaseRow, after: Mapping[str, Any], taken: Mapping[str, int]) -> bool:
    """Store the counters and debts after a sale; whether its service point was held for it until now."""
    point_id = row.service_point_id
    point = unit.points[point_id]
    unit.put(
        "points",
        point_id,
        replace(
            point,
            counter_month=after["counter_month"],
            month_units_tenths=after["month_units_tenths"],
            fixed_through_month=after["fixed_through_month"],
            fixed_through_date=date.fromisoformat(after["fixed_through_date"]),
            fixed_shortfall_minor=after["fixed_shortfall_minor"],
            carry_minor=after["carry_minor"],
            free_last_month=after["free_last_month"],
            vending=None,
            last_sale=row.id,
        ),
    )
    debts = unit.debts.get(point_id)
    if debts:
        # What was taken is taken off what stands there now: a debt may have been changed while a module was asked.
        changed = tuple(
            replace(
                debt,
                outstanding_minor=max(0, debt.outstanding_minor - taken.get(debt.code, 0)),
                recovered_this_month_minor=after["debts"][debt.code],
            )
            if debt.code in after["debts"]
            else debt
            for debt in debts
        )
        if changed != debts:
            unit.put("debts", point_id, changed)
    return point.vending is not None
