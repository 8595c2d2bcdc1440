"""Dividing a payment into fee, arrears, fixed charges, energy, levies and tax. Pure: no I/O, no clock, no floats.

Money is integer minor units with tax included, units are integer tenths of a kWh, rates and percents are exact
fractions. The rules, by the numbers that the comments use:

R1   Refused: less than the least or more than the most that is sold, or a fee that eats the payment T.
R2   The version with the greatest start at or before the local time the money was accepted; its season by month.
R3   In another month than the counter's: units bought and debts recovered this month start from zero.
R4   The fee comes off first; its tax is within it.
R5   Debts by (priority, id): everything, an instalment a month, or a share of T rounded down; together under a cap.
R6   Fixed charges for the months or days since the last time, with tax, half up each; the unpaid is remembered.
R7   What is left and the carry buy energy.
R8   A kWh costs g = (rate * (1 + taxed %) + taxed levies) * (1 + VAT) + other levies + rate * other %.
R9   Blocks are filled in order from what was bought this month; exact.
R10  Units: up to the next tenth that a token can carry, or down to it.
R11  Rounded up, all the money is used; rounded down, the issued units are priced again, and the rest is carried.
R12  Tax and each charge half up to the minor unit; net energy is what remains.
R13  Afterwards: the counter rises by what was issued; free units once a month, outside the counter.
R14  fee + debts + fixed + energy + carry out - carry in = T.

Worked cases stand in tests/vectors/pricing_cases.jsonl; tests/ledger/test_pricing.py has R8 to R12 once more, in plain
fractions.

How it is fast: each season of each tariff version is brought to one common denominator when the tariff is made.
A sale then needs whole numbers only; the one division per figure is the rounding that the rules ask for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import Final

from ledger.reasons import Reason, Refusal

# --- the account ------------------------------------------------------------------------------------------------------


class DebtMode(StrEnum):
    """How a debt is recovered from purchases."""

    PERCENT = "PERCENT"  # a share of each payment
    FIXED = "FIXED"  # an instalment once a calendar month
    FIRST = "FIRST"  # all that the cap allows, until it is paid


@dataclass(frozen=True, slots=True)
class Debt:
    """One debt of an account. `active` is False while it is suspended (disputed): then nothing is taken."""

    id: str
    priority: int  # the lowest is served first, then by id
    mode: DebtMode
    outstanding_minor: int
    instalment_minor: int  # per calendar month, for FIXED
    percent: Fraction  # of the whole payment, for PERCENT
    active: bool
    recovered_this_month_minor: int


@dataclass(frozen=True, slots=True)
class Account:
    """What a purchase depends on and changes, for one service point. Restoring an earlier one undoes a purchase.

    Months are local, "2026-06"; the date is local.
    """

    counter_month: str
    month_units_tenths: int  # bought in counter_month, all meters of the service point
    fixed_through_month: str  # monthly charges have been asked for up to here, inclusive
    fixed_through_date: date  # daily charges have been asked for up to here, inclusive
    fixed_shortfall_minor: int  # asked for and not yet paid
    carry_minor: int  # money too small for the next tenth of a kWh, kept for the next purchase
    free_kwh_per_month: int | None
    free_last_month: str
    debts: tuple[Debt, ...]


# --- the tariff -------------------------------------------------------------------------------------------------------


class Rounding(StrEnum):
    """Where the money worth less than a tenth of a kWh goes."""

    UP = "UP"  # to the customer, as a whole tenth
    DOWN_CARRY = "DOWN_CARRY"  # to the account, for the next purchase


class Period(StrEnum):
    """How often a fixed charge falls due."""

    MONTH = "MONTH"
    DAY = "DAY"


@dataclass(frozen=True, slots=True)
class Block:
    """Energy up to `upto_kwh` bought in the calendar month (None: without limit) at `rate` a kWh, without tax."""

    upto_kwh: Fraction | None
    rate: Fraction


@dataclass(frozen=True, slots=True)
class Season:
    """The blocks that hold in these local months (1 to 12)."""

    months: tuple[int, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class PerKwhCharge:
    """A levy per kWh, in currency units, without tax."""

    code: str
    rate: Fraction
    vatable: bool


@dataclass(frozen=True, slots=True)
class PercentCharge:
    """A levy in percent of the energy's price."""

    code: str
    percent: Fraction
    vatable: bool


@dataclass(frozen=True, slots=True)
class FixedCharge:
    """An amount in currency units, without tax, that falls due by the calendar."""

    code: str
    period: Period
    amount: Fraction


@dataclass(frozen=True, slots=True)
class TariffVersion:
    """The rules from one local moment on. Never changed once something was sold under it."""

    effective_from: datetime  # local, naive
    vat_percent: Fraction
    seasons: tuple[Season, ...]
    per_kwh_charges: tuple[PerKwhCharge, ...] = ()
    percent_charges: tuple[PercentCharge, ...] = ()
    fixed_charges: tuple[FixedCharge, ...] = ()

    @property
    def name(self) -> str:
        """How the version is called in records: its start, "2026-01-01T00:00:00"."""
        return self.effective_from.isoformat()


@dataclass(frozen=True)
class Tariff:
    """A tariff with all its versions, oldest first. Made once and shared; `ledger/tariffs_format.py` reads it.

    Precondition, checked by that reader: months complete, limits rising, last block without limit, prices above zero.
    """

    code: str
    name: str
    sts_tariff_index: str
    units_rounding: Rounding
    min_vend_minor: int
    max_vend_minor: int
    minor_digits: int
    versions: tuple[TariffVersion, ...]
    _starts: list[datetime] = field(init=False, repr=False, compare=False)
    _prepared: list[_Version] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", [version.effective_from for version in self.versions])
        object.__setattr__(self, "_prepared", [_prepared(version, self.minor_digits) for version in self.versions])

    def version_at(self, at_local: datetime) -> TariffVersion | None:
        """The version in force at a local moment (R2); None before the first."""
        index = bisect_right(self._starts, at_local.replace(tzinfo=None))
        return self.versions[index - 1] if index else None


# --- a tariff made ready: whole numbers over common denominators ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Season:
    """A season's blocks. Energy counts in 1/kwh_scale kWh, prices in 1/price_scale minor units a kWh."""

    kwh_scale: int  # a multiple of ten
    price_scale: int
    scale: int  # kwh_scale * price_scale
    limits: tuple[int, ...]  # of all blocks but the last
    prices: tuple[int, ...]  # with taxes and levies: g of R8
    # What of a block's price is tax, and what is each charge (R12): (tax, charge 1, charge 2, ...).
    parts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A fixed charge with tax as minor units, a fraction."""

    period: Period
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class _Version:
    name: str
    vat_numerator: int  # tax within an amount = amount * numerator / denominator
    vat_denominator: int
    charge_codes: tuple[str, ...]
    by_month: tuple[_Season, ...]  # January is at 1
    fixed: tuple[_Fixed, ...]
    has_monthly: bool
    has_daily: bool


def unit_price(version: TariffVersion, rate: Fraction) -> Fraction:
    """The whole price of a kWh in currency units for a block of this rate: g of R8."""
    taxed_percent = sum((charge.percent for charge in version.percent_charges if charge.vatable), Fraction(0)) / 100
    other_percent = sum((charge.percent for charge in version.percent_charges if not charge.vatable), Fraction(0)) / 100
    taxed = sum((charge.rate for charge in version.per_kwh_charges if charge.vatable), Fraction(0))
    other = sum((charge.rate for charge in version.per_kwh_charges if not charge.vatable), Fraction(0))
    tax = 1 + version.vat_percent / 100
    return (rate * (1 + taxed_percent) + taxed) * tax + other + rate * other_percent


def _parts(version: TariffVersion, rate: Fraction) -> list[Fraction]:
    """Tax and each charge within a kWh of this rate, in currency units (R12)."""
    per_kwh = [charge.rate for charge in version.per_kwh_charges]
    percent = [rate * charge.percent / 100 for charge in version.percent_charges]
    vatable = [charge.vatable for charge in version.per_kwh_charges]
    vatable += [charge.vatable for charge in version.percent_charges]
    taxed = (part for part, is_taxed in zip(per_kwh + percent, vatable, strict=True) if is_taxed)
    tax = (rate + sum(taxed, Fraction(0))) * version.vat_percent / 100
    return [tax, *per_kwh, *percent]


def _prepared(version: TariffVersion, minor_digits: int) -> _Version:
    minor = 10**minor_digits
    seasons: dict[int, _Season] = {}
    for season in version.seasons:
        limits = [block.upto_kwh for block in season.blocks if block.upto_kwh is not None]
        prices = [unit_price(version, block.rate) * minor for block in season.blocks]
        parts = [[part * minor for part in _parts(version, block.rate)] for block in season.blocks]
        kwh_scale = lcm(10, *(limit.denominator for limit in limits))
        price_scale = lcm(*(value.denominator for value in (*prices, *(part for row in parts for part in row))))
        prepared = _Season(
            kwh_scale=kwh_scale,
            price_scale=price_scale,
            scale=kwh_scale * price_scale,
            limits=tuple(int(limit * kwh_scale) for limit in limits),
            prices=tuple(int(price * price_scale) for price in prices),
            parts=tuple(tuple(int(part * price_scale) for part in row) for row in parts),
        )
        for month in season.months:
            seasons[month] = prepared
    tax = version.vat_percent / (100 + version.vat_percent)
    fixed = []
    for charge in version.fixed_charges:
        amount = charge.amount * minor * (100 + version.vat_percent) / 100
        fixed.append(_Fixed(charge.period, amount.numerator, amount.denominator))
    return _Version(
        name=version.name,
        vat_numerator=tax.numerator,
        vat_denominator=tax.denominator,
        charge_codes=(
            *(charge.code for charge in version.per_kwh_charges),
            *(charge.code for charge in version.percent_charges),
        ),
        by_month=(seasons[1], *(seasons[month] for month in range(1, 13))),
        fixed=tuple(fixed),
        has_monthly=any(charge.period is Period.MONTH for charge in version.fixed_charges),
        has_daily=any(charge.period is Period.DAY for charge in version.fixed_charges),
    )


# --- units as a token carries them ------------------------------------------------------------------------------------

# (first value, step) of each exponent: exact to 1,638.3 kWh, then in steps of 1, 10 and 100 kWh (R10).
_SEAMS: Final = ((0, 1), (16_384, 10), (180_224, 100), (1_818_624, 1_000))
MOST_UNITS_TENTHS: Final = 1_818_624 + 16_383 * 1_000


def encodable(units_tenths: int, *, up: bool) -> tuple[int, int]:
    """The nearest number of units that a token can carry, not below (up) or not above, and its 16-bit amount field.

    Above `MOST_UNITS_TENTHS` upward is a ValueError; downward gives that number.
    """
    if units_tenths < 16_384:
        return units_tenths, units_tenths
    if units_tenths > MOST_UNITS_TENTHS:
        if up:
            raise ValueError(f"at most {MOST_UNITS_TENTHS} tenths of a kWh fit into a token, got {units_tenths}")
        units_tenths = MOST_UNITS_TENTHS
    exponent = 1 if units_tenths < 180_224 else 2 if units_tenths < 1_818_624 else 3
    first, step = _SEAMS[exponent]
    above = units_tenths - first
    mantissa = -(-above // step) if up else above // step
    # A mantissa of 16,384 is the first value of the next exponent, and the sum says just that.
    return first + mantissa * step, exponent * 16_384 + mantissa


# --- the sale ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sale:
    """A payment divided, to the minor unit, and the account after it.

    fee + debts + fixed + energy_gross + carry_out - carry_in = the payment (R14).
    energy_gross = energy_net + energy_vat + charges.
    """

    tariff_version: str  # "2026-01-01T00:00:00"
    amount_minor: int
    fee_minor: int  # with tax
    fee_vat_minor: int
    debts_minor: Mapping[str, int]  # taken, by debt id; only those above zero
    debt_total_minor: int
    fixed_minor: int  # with tax
    fixed_vat_minor: int
    fixed_shortfall_after_minor: int
    carry_in_minor: int
    carry_out_minor: int
    energy_gross_minor: int
    energy_net_minor: int
    energy_vat_minor: int
    charges_minor: Mapping[str, int]  # every charge of the version by code
    units_tenths: int  # on the token; 0: no token
    amount_field: int | None  # the 16 bits on the token
    month_units_after_tenths: int
    vat_total_minor: int
    free_units_tenths: int  # a free token beside it; 0: none
    after: Account
    units_ratio: tuple[int, int]  # what the money is worth, in kWh: numerator, denominator
    block_ratios: tuple[tuple[int, ...], int]  # the same by block of the season: numerators, denominator

    @property
    def units_exact(self) -> Fraction:
        """What the energy money is worth before rounding, in kWh (X of R9)."""
        return Fraction(*self.units_ratio)

    @property
    def block_kwh(self) -> tuple[Fraction, ...]:
        """The kWh of each block that the parts are reckoned from (R11)."""
        numerators, denominator = self.block_ratios
        return tuple(Fraction(numerator, denominator) for numerator in numerators)

    @property
    def charges_total_minor(self) -> int:
        """All levies together."""
        return sum(self.charges_minor.values())

    @property
    def free_amount_field(self) -> int | None:
        """The 16 bits on the free token; None when there is none."""
        return encodable(self.free_units_tenths, up=True)[1] if self.free_units_tenths else None


def price(
    tariff: Tariff,
    account: Account,
    amount_minor: int,
    at_local: datetime,
    *,
    fee_minor: int,
    debt_cap_percent: Fraction,
) -> Sale:
    """Divide a payment (R1, the part about amounts, to R14).

    `amount_minor` is the money tendered, tax included. `at_local` is the local time at which the money was accepted;
    a time zone in it is not looked at. `fee_minor` is the channel's fee, tax included. `debt_cap_percent` is the most
    of a payment that debts may take together.

    Refuses AMOUNT_MIN (min_minor), AMOUNT_MAX (max_minor), TARIFF_MISSING, in this order.
    """
    # R1. The least that is sold must also leave something after the fee.
    if amount_minor < tariff.min_vend_minor:
        raise Refusal(Reason.AMOUNT_MIN, min_minor=max(tariff.min_vend_minor, fee_minor + 1))
    if amount_minor > tariff.max_vend_minor:
        raise Refusal(Reason.AMOUNT_MAX, max_minor=tariff.max_vend_minor)
    if fee_minor >= amount_minor:
        raise Refusal(Reason.AMOUNT_MIN, min_minor=max(tariff.min_vend_minor, fee_minor + 1))

    # R2
    moment = at_local if at_local.tzinfo is None else at_local.replace(tzinfo=None)
    index = bisect_right(tariff._starts, moment)
    if not index:
        raise Refusal(Reason.TARIFF_MISSING)
    version = tariff._prepared[index - 1]
    season = version.by_month[moment.month]

    # R3
    month = f"{moment.year:04d}-{moment.month:02d}"
    new_month = account.counter_month != month
    bought_tenths = 0 if new_month else account.month_units_tenths

    # R4
    tax, whole = version.vat_numerator, version.vat_denominator
    fee_vat_minor = (2 * fee_minor * tax + whole) // (2 * whole)
    rest = amount_minor - fee_minor

    # R5
    debts_minor: dict[str, int] = {}
    debts = account.debts
    if debts:
        cap = amount_minor * debt_cap_percent.numerator // (100 * debt_cap_percent.denominator)
        debts_minor, debts = _recovered(debts, amount_minor, min(cap, rest), new_month)
    debt_total_minor = sum(debts_minor.values())
    rest -= debt_total_minor

    # R6
    due = account.fixed_shortfall_minor
    fixed_through_month, fixed_through_date = account.fixed_through_month, account.fixed_through_date
    if version.fixed:
        fallen_due_minor, fixed_through_month, fixed_through_date = _fallen_due(
            version, fixed_through_month, fixed_through_date, month, moment
        )
        due += fallen_due_minor
    fixed_minor = due if due < rest else rest
    rest -= fixed_minor
    fixed_vat_minor = (2 * fixed_minor * tax + whole) // (2 * whole)

    # R7
    carry_in_minor = account.carry_minor
    energy_minor = rest + carry_in_minor

    # R9: whole blocks while the money lasts, then what is left at the price of the block that it does not fill.
    prices, scale = season.prices, season.scale
    position = bought_tenths * (season.kwh_scale // 10)
    left = energy_minor * scale
    filled: list[int] = []
    for limit, block_price in zip(season.limits, prices, strict=False):
        room = limit - position
        if room <= 0:
            filled.append(0)
            continue
        cost = room * block_price
        if left < cost:
            break
        left -= cost
        position = limit
        filled.append(room)
    last = len(filled)
    last_price = prices[last]
    filled_kwh = sum(filled)
    worth, unit = filled_kwh * last_price + left, last_price * season.kwh_scale  # worth / unit kWh

    # R10 to R12
    if tariff.units_rounding is Rounding.UP:
        wanted = -(-10 * worth // unit)
        if wanted > MOST_UNITS_TENTHS:
            raise Refusal(Reason.AMOUNT_MAX, max_minor=tariff.max_vend_minor)
        units_tenths, amount_field = encodable(wanted, up=True)
        used_minor, carry_out_minor = energy_minor, 0
        portions = [room * last_price for room in filled]
        portions.append(left)
        portion_unit = unit
    else:
        units_tenths, amount_field = encodable(10 * worth // unit, up=False)
        portions = _portions_of_units(season, bought_tenths, units_tenths)
        portion_unit = season.kwh_scale
        cost = sum(portion * block_price for portion, block_price in zip(portions, prices, strict=False))
        used_minor = (2 * cost + scale) // (2 * scale)
        carry_out_minor = energy_minor - used_minor
    divisor = portion_unit * season.price_scale
    parts = season.parts
    if len(portions) == 1:
        portion = portions[0]
        amounts = [(2 * portion * part + divisor) // (2 * divisor) for part in parts[0]]
    else:
        sums = [0] * len(parts[0])
        for portion, row in zip(portions, parts, strict=False):
            if portion:
                sums = [total + portion * part for total, part in zip(sums, row, strict=True)]
        amounts = [(2 * total + divisor) // (2 * divisor) for total in sums]
    energy_vat_minor, *charges = amounts
    energy_net_minor = used_minor - energy_vat_minor - sum(charges)
    portions.extend([0] * (len(prices) - len(portions)))

    # R13
    free_units_tenths = 0
    free_last_month = account.free_last_month
    if account.free_kwh_per_month is not None and free_last_month < month:
        free_units_tenths = 10 * account.free_kwh_per_month
        free_last_month = month
    month_units_after_tenths = bought_tenths + units_tenths

    # R14
    assert amount_minor == (
        fee_minor + debt_total_minor + fixed_minor + used_minor + carry_out_minor - carry_in_minor
    ), "the parts of a sale do not sum to the payment"

    return Sale(
        tariff_version=version.name,
        amount_minor=amount_minor,
        fee_minor=fee_minor,
        fee_vat_minor=fee_vat_minor,
        debts_minor=debts_minor,
        debt_total_minor=debt_total_minor,
        fixed_minor=fixed_minor,
        fixed_vat_minor=fixed_vat_minor,
        fixed_shortfall_after_minor=due - fixed_minor,
        carry_in_minor=carry_in_minor,
        carry_out_minor=carry_out_minor,
        energy_gross_minor=used_minor,
        energy_net_minor=energy_net_minor,
        energy_vat_minor=energy_vat_minor,
        charges_minor=dict(zip(version.charge_codes, charges, strict=True)),
        units_tenths=units_tenths,
        amount_field=amount_field if units_tenths else None,
        month_units_after_tenths=month_units_after_tenths,
        vat_total_minor=fee_vat_minor + fixed_vat_minor + energy_vat_minor,
        free_units_tenths=free_units_tenths,
        after=Account(
            counter_month=month,
            month_units_tenths=month_units_after_tenths,
            fixed_through_month=fixed_through_month,
            fixed_through_date=fixed_through_date,
            fixed_shortfall_minor=due - fixed_minor,
            carry_minor=carry_out_minor,
            free_kwh_per_month=account.free_kwh_per_month,
            free_last_month=free_last_month,
            debts=debts,
        ),
        units_ratio=(worth, unit),
        block_ratios=(tuple(portions), portion_unit),
    )


def worth(tariff: Tariff, bought_tenths: int, units_tenths: int, at_local: datetime) -> int:
    """What so many units cost, taxes and levies included, after `bought_tenths` of the month; half up (R8, R11).

    Refuses TARIFF_MISSING.
    """
    index = bisect_right(tariff._starts, at_local.replace(tzinfo=None))
    if not index:
        raise Refusal(Reason.TARIFF_MISSING)
    season = tariff._prepared[index - 1].by_month[at_local.month]
    portions = _portions_of_units(season, bought_tenths, units_tenths)
    cost = sum(portion * price for portion, price in zip(portions, season.prices, strict=True))
    return (2 * cost + season.scale) // (2 * season.scale)


def fixed_charges_due(
    tariff: Tariff, through_month: str, through_date: date, at_local: datetime
) -> tuple[int, str, date]:
    """The fixed charges that have fallen due by a local moment, with tax, in minor units; and through when (R6).

    Nothing where no version holds at that moment.
    """
    index = bisect_right(tariff._starts, at_local)
    if not index:
        return 0, through_month, through_date
    version = tariff._prepared[index - 1]
    month = f"{at_local.year:04d}-{at_local.month:02d}"
    return _fallen_due(version, through_month, through_date, month, at_local)


def _fallen_due(
    version: _Version, through_month: str, through_date: date, month: str, moment: datetime
) -> tuple[int, str, date]:
    today = moment.date()
    months = max(0, _month_number(month) - _month_number(through_month)) if version.has_monthly else 0
    days = max(0, (today - through_date).days) if version.has_daily else 0
    due = 0
    for charge in version.fixed:
        times = months if charge.period is Period.MONTH else days
        due += (2 * times * charge.numerator + charge.denominator) // (2 * charge.denominator)
    return due, month if months else through_month, today if days else through_date


def commission(amount_minor: int, percent: Fraction) -> int:
    """What a station earns by a sale, in minor units, half up (R13). Owed beside the sale, no part of its split."""
    whole = 100 * percent.denominator
    return (2 * amount_minor * percent.numerator + whole) // (2 * whole)


def _month_number(month: str) -> int:
    """Months since the year 0, of "2026-06"."""
    return int(month[:4]) * 12 + int(month[5:7])


def _recovered(
    debts: tuple[Debt, ...], amount_minor: int, most: int, new_month: bool
) -> tuple[dict[str, int], tuple[Debt, ...]]:
    """What each debt takes of a payment, `most` together, and the debts after it in their given order (R3, R5)."""
    taken: dict[str, int] = {}
    for debt in sorted(debts, key=lambda debt: (debt.priority, debt.id)):
        if not debt.active or debt.outstanding_minor <= 0:
            continue
        if debt.mode is DebtMode.FIRST:
            want = debt.outstanding_minor
        elif debt.mode is DebtMode.FIXED:
            want = debt.instalment_minor - (0 if new_month else debt.recovered_this_month_minor)
        else:
            want = amount_minor * debt.percent.numerator // (100 * debt.percent.denominator)
        amount = min(want, debt.outstanding_minor, most)
        if amount > 0:
            taken[debt.id] = amount
            most -= amount
    return taken, tuple(_after(debts, taken, new_month))


def _after(debts: tuple[Debt, ...], taken: Mapping[str, int], new_month: bool) -> Iterable[Debt]:
    for debt in debts:
        amount = taken.get(debt.id, 0)
        recovered = amount + (0 if new_month else debt.recovered_this_month_minor)
        if not amount and recovered == debt.recovered_this_month_minor:
            yield debt
            continue
        yield Debt(
            debt.id,
            debt.priority,
            debt.mode,
            debt.outstanding_minor - amount,
            debt.instalment_minor,
            debt.percent,
            debt.active,
            recovered,
        )


def _portions_of_units(season: _Season, bought_tenths: int, units_tenths: int) -> list[int]:
    """Units laid into the blocks from the account's position on, in 1/kwh_scale kWh (R11, DOWN_CARRY)."""
    position = bought_tenths * (season.kwh_scale // 10)
    left = units_tenths * (season.kwh_scale // 10)
    portions: list[int] = []
    for limit in season.limits:
        portion = min(left, max(0, limit - position))
        portions.append(portion)
        left -= portion
        position += portion
    portions.append(left)
    return portions
