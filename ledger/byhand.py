"""A sale reckoned by hand: R2 to R14 in plain fractions, slowly, each step with a line that a person can follow. Pure.

It shares no arithmetic with `ledger/pricing.py`, which sells: that one uses whole numbers over common denominators,
this one the rules as they are written, one after the other. So what both give is right unless both are wrong alike;
the auditor's recomputation and the tests use this one. The rules are told in the docstring of `pricing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil, floor

from ledger.money import half_up, plain
from ledger.pricing import (
    Account,
    Block,
    Debt,
    DebtMode,
    FixedCharge,
    Period,
    Rounding,
    Tariff,
    TariffVersion,
)


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What came out, and the lines that lead there. Names as in `pricing.Sale`."""

    tariff_version: str
    fee_vat_minor: int
    debts_minor: Mapping[str, int]
    fixed_minor: int
    fixed_vat_minor: int
    fixed_shortfall_after_minor: int
    energy_gross_minor: int
    carry_out_minor: int
    units_exact: Fraction  # kWh
    units_tenths: int
    block_kwh: tuple[Fraction, ...]
    charges_minor: Mapping[str, int]
    energy_vat_minor: int
    energy_net_minor: int
    month_units_after_tenths: int
    free_units_tenths: int
    lines: tuple[str, ...]


def reckon(
    tariff: Tariff,
    account: Account,
    amount_minor: int,
    at_local: datetime,
    *,
    fee_minor: int,
    debt_cap_percent: Fraction,
) -> Reckoned:
    """Divide a payment, as `pricing.price` does, which is where the amount is checked (R1).

    ValueError if no version is in force.
    """
    return _Sheet(tariff, account, amount_minor, at_local, fee_minor, debt_cap_percent).reckon()


class _Sheet:
    """The sheet of paper."""

    def __init__(
        self, tariff: Tariff, account: Account, amount_minor: int, at_local: datetime, fee_minor: int, cap: Fraction
    ) -> None:
        self._tariff = tariff
        self._account = account
        self._amount = amount_minor
        self._at = at_local
        self._month = f"{at_local:%Y-%m}"
        self._fee = fee_minor
        self._cap = cap
        self._minor = 10**tariff.minor_digits
        self._lines: list[str] = []
        in_force = [version for version in tariff.versions if version.effective_from <= at_local.replace(tzinfo=None)]
        if not in_force:
            raise ValueError(f"tariff {tariff.code} has no version in force at {at_local.isoformat()}")
        self._version: TariffVersion = max(in_force, key=lambda version: version.effective_from)
        self._blocks: tuple[Block, ...] = next(
            season.blocks for season in self._version.seasons if at_local.month in season.months
        )
        self._vat = self._version.vat_percent

    def reckon(self) -> Reckoned:
        tell, money, account, v = self._tell, self._money, self._account, self._vat
        tell("R2", f"version in force since {self._version.name}; tax {_decimal(v)} %")
        is_new_month = account.counter_month != self._month
        bought = 0 if is_new_month else account.month_units_tenths
        since = f" (the counter was for {account.counter_month})" if is_new_month else ""
        tell("R3", f"bought in {self._month} so far: {_tenths(bought)} kWh{since}")

        fee_vat = self._tax_within(self._fee)
        rest = self._amount - self._fee
        tell("R4", f"payment {money(self._amount)} - fee {money(self._fee)} = {money(rest)}")
        if self._fee:
            tell("", f"tax in the fee: {money(self._fee)} x {_decimal(v)} / {_decimal(100 + v)} = {money(fee_vat)}")

        debts, rest = self._debts(rest, is_new_month)
        fixed, shortfall, rest = self._fixed(rest)
        fixed_vat = self._tax_within(fixed)
        if fixed:
            tell("", f"tax in it: {money(fixed)} x {_decimal(v)} / {_decimal(100 + v)} = {money(fixed_vat)}")

        energy_money = rest + account.carry_minor
        tell("R7", f"for energy: {money(rest)} + carried {money(account.carry_minor)} = {money(energy_money)}")
        prices = self._prices()
        portions = self._fill(bought, Fraction(energy_money, self._minor), prices)
        exact = sum(portions, Fraction(0))
        issued, used, portions = self._units(bought, energy_money, exact, portions, prices)
        carry = energy_money - used
        charges, energy_vat, energy_net = self._parts(used, portions)

        free = 0
        if account.free_kwh_per_month is not None and account.free_last_month < self._month:
            free = 10 * account.free_kwh_per_month
            tell("R13", f"free units of {self._month}: {_tenths(free)} kWh, beside the counter")
        tell(
            "R13",
            f"bought in {self._month} after it: {_tenths(bought)} + {_tenths(issued)} = {_tenths(bought + issued)} kWh",
        )
        total = self._fee + sum(debts.values()) + fixed + used + carry - account.carry_minor
        tell(
            "R14",
            f"fee {money(self._fee)} + debts {money(sum(debts.values()))} + fixed {money(fixed)} + energy {money(used)}"
            f" + carried on {money(carry)} - carried before {money(account.carry_minor)} = {money(total)}"
            + ("" if total == self._amount else f", NOT the payment {money(self._amount)}"),
        )
        return Reckoned(
            tariff_version=self._version.name,
            fee_vat_minor=fee_vat,
            debts_minor=debts,
            fixed_minor=fixed,
            fixed_vat_minor=fixed_vat,
            fixed_shortfall_after_minor=shortfall,
            energy_gross_minor=used,
            carry_out_minor=carry,
            units_exact=exact,
            units_tenths=issued,
            block_kwh=tuple(portions),
            charges_minor=charges,
            energy_vat_minor=energy_vat,
            energy_net_minor=energy_net,
            month_units_after_tenths=bought + issued,
            free_units_tenths=free,
            lines=tuple(self._lines),
        )

    def _debts(self, rest: int, is_new_month: bool) -> tuple[dict[str, int], int]:
        money = self._money
        taken: dict[str, int] = {}
        if not self._account.debts:
            return taken, rest
        most = floor(self._amount * self._cap / 100)
        self._tell("R5", f"debts together at most {_decimal(self._cap)} % of {money(self._amount)} = {money(most)}")
        for debt in sorted(self._account.debts, key=lambda debt: (debt.priority, debt.id)):
            if not debt.active or debt.outstanding_minor <= 0:
                self._tell("", f"{debt.id}: {'nothing outstanding' if debt.active else 'suspended'}, nothing taken")
                continue
            want, how = self._wanted(debt, is_new_month)
            amount = min(want, debt.outstanding_minor, most - sum(taken.values()), rest)
            left = debt.outstanding_minor - max(amount, 0)
            self._tell(
                "",
                f"{debt.id}: {how}; taken {money(max(amount, 0))}, of {money(debt.outstanding_minor)} outstanding"
                f" {money(left)} remain",
            )
            if amount > 0:
                taken[debt.id] = amount
                rest -= amount
        return taken, rest

    def _wanted(self, debt: Debt, is_new_month: bool) -> tuple[int, str]:
        money = self._money
        if debt.mode is DebtMode.FIRST:
            return debt.outstanding_minor, "first charge, all that may be taken"
        if debt.mode is DebtMode.FIXED:
            paid = 0 if is_new_month else debt.recovered_this_month_minor
            want = max(0, debt.instalment_minor - paid)
            return want, f"instalment {money(debt.instalment_minor)} - {money(paid)} this month = {money(want)}"
        want = floor(self._amount * debt.percent / 100)
        return want, f"{_decimal(debt.percent)} % of {money(self._amount)}, rounded down, = {money(want)}"

    def _fixed(self, rest: int) -> tuple[int, int, int]:
        """What is paid of fixed charges, what stays open, and the money left."""
        money = self._money
        due = self._account.fixed_shortfall_minor
        if due:
            self._tell("R6", f"fixed charges left open before: {money(due)}")
        for charge in self._version.fixed_charges:
            times, span = self._times(charge)
            asked = half_up(times * charge.amount * (100 + self._vat) * self._minor / 100)
            due += asked
            self._tell(
                "R6",
                f"{charge.code}: {span}, {times} x {_decimal(charge.amount)} x {_decimal(1 + self._vat / 100)}"
                f" = {money(asked)}",
            )
        paid = min(due, rest)
        if due:
            self._tell("R6", f"fixed charges due {money(due)}, paid {money(paid)}, left open {money(due - paid)}")
        return paid, due - paid, rest - paid

    def _times(self, charge: FixedCharge) -> tuple[int, str]:
        account = self._account
        if charge.period is Period.MONTH:
            year, month = map(int, account.fixed_through_month.split("-"))
            times = max(0, 12 * (self._at.year - year) + self._at.month - month)
            return times, f"months after {account.fixed_through_month} to {self._month}"
        times = max(0, (self._at.date() - account.fixed_through_date).days)
        return times, f"days after {account.fixed_through_date} to {self._at.date()}"

    def _prices(self) -> list[Fraction]:
        """What a kWh of each block costs with everything on it (R8)."""
        version = self._version
        taxed_percent = sum((one.percent for one in version.percent_charges if one.vatable), Fraction(0)) / 100
        other_percent = sum((one.percent for one in version.percent_charges if not one.vatable), Fraction(0)) / 100
        taxed = sum((one.rate for one in version.per_kwh_charges if one.vatable), Fraction(0))
        other = sum((one.rate for one in version.per_kwh_charges if not one.vatable), Fraction(0))
        prices = []
        for number, block in enumerate(self._blocks, start=1):
            g = (block.rate * (1 + taxed_percent) + taxed) * (1 + self._vat / 100) + other + block.rate * other_percent
            prices.append(g)
            energy = (
                f"{_decimal(block.rate)} x {_decimal(1 + taxed_percent)}" if taxed_percent else _decimal(block.rate)
            )
            inner = f"({energy} + {_decimal(taxed)})" if taxed else energy
            said = f"{inner} x {_decimal(1 + self._vat / 100)}"
            said += f" + {_decimal(other)}" if other else ""
            said += f" + {_decimal(block.rate)} x {_decimal(other_percent)}" if other_percent else ""
            upto = "without limit" if block.upto_kwh is None else f"up to {_decimal(block.upto_kwh)} kWh"
            self._tell("R8", f"a kWh of block {number}, {upto}: {said} = {_decimal(g)}")
        return prices

    def _fill(self, bought_tenths: int, left: Fraction, prices: Sequence[Fraction]) -> list[Fraction]:
        """How many kWh of each block the money buys, exactly (R9)."""
        portions = []
        position = Fraction(bought_tenths, 10)
        for number, (block, g) in enumerate(zip(self._blocks, prices, strict=True), start=1):
            room = None if block.upto_kwh is None else max(Fraction(0), block.upto_kwh - position)
            if room is not None and left >= room * g:
                portion = room
                said = f"the {_decimal(room)} kWh of room cost {_decimal(room * g)}"
            else:
                portion = left / g
                said = f"{_decimal(left)} / {_decimal(g)} = {_decimal(portion)} kWh"
            if portion:
                self._tell("R9", f"block {number}: {said}; {_decimal(left - portion * g)} remain")
            portions.append(portion)
            left -= portion * g
            position += portion
        return portions

    def _units(
        self, bought: int, energy_money: int, exact: Fraction, portions: list[Fraction], prices: Sequence[Fraction]
    ) -> tuple[int, int, list[Fraction]]:
        """Tenths of a kWh on the token, the money they take, and the kWh of each block they are reckoned from."""
        money = self._money
        if self._tariff.units_rounding is Rounding.UP:
            issued = _encodable(ceil(10 * exact), up=True)
            self._tell("R10", f"{_decimal(exact)} kWh, up to what a token can carry: {_tenths(issued)} kWh")
            self._tell("R11", f"all of the money is used: {money(energy_money)}")
            return issued, energy_money, portions
        issued = _encodable(floor(10 * exact), up=False)
        self._tell("R10", f"{_decimal(exact)} kWh, down to what a token can carry: {_tenths(issued)} kWh")
        portions, position, left = [], Fraction(bought, 10), Fraction(issued, 10)
        for block in self._blocks:
            portion = left if block.upto_kwh is None else min(left, max(Fraction(0), block.upto_kwh - position))
            portions.append(portion)
            left -= portion
            position += portion
        cost = sum((portion * g for portion, g in zip(portions, prices, strict=True)), Fraction(0))
        used = half_up(cost * self._minor)
        sums = " + ".join(f"{_decimal(p)} x {_decimal(g)}" for p, g in zip(portions, prices, strict=True) if p) or "0"
        self._tell(
            "R11", f"they cost {sums} = {_decimal(cost)}, used {money(used)}, carried {money(energy_money - used)}"
        )
        return issued, used, portions

    def _parts(self, used: int, portions: Sequence[Fraction]) -> tuple[dict[str, int], int, int]:
        """Each charge, the tax and the net energy within the money used (R12)."""
        money, version = self._money, self._version
        kwh = sum(portions, Fraction(0))
        energy = sum((p * block.rate for p, block in zip(portions, self._blocks, strict=True)), Fraction(0))
        if used:
            said = " + ".join(
                f"{_decimal(p)} x {_decimal(block.rate)}" for p, block in zip(portions, self._blocks, strict=True) if p
            )
            self._tell("R12", f"energy without tax and levies: {said} = {_decimal(energy)}")
        charges: dict[str, int] = {}
        taxed = energy
        for levy in version.per_kwh_charges:
            value = kwh * levy.rate
            charges[levy.code] = half_up(value * self._minor)
            taxed += value if levy.vatable else 0
            self._tell("R12", f"{levy.code}: {_decimal(kwh)} kWh x {_decimal(levy.rate)} = {money(charges[levy.code])}")
        for share in version.percent_charges:
            value = energy * share.percent / 100
            charges[share.code] = half_up(value * self._minor)
            taxed += value if share.vatable else 0
            self._tell(
                "R12", f"{share.code}: {_decimal(share.percent)} % of {_decimal(energy)} = {money(charges[share.code])}"
            )
        vat = half_up(taxed * self._vat / 100 * self._minor)
        self._tell("R12", f"tax on energy: {_decimal(self._vat)} % of {_decimal(taxed)} = {money(vat)}")
        net = used - vat - sum(charges.values())
        self._tell(
            "R12",
            f"net energy: {money(used)} - tax {money(vat)} - levies {money(sum(charges.values()))} = {money(net)}",
        )
        return charges, vat, net

    def _tax_within(self, amount_minor: int) -> int:
        return half_up(amount_minor * self._vat / (100 + self._vat))

    def _money(self, minor: int) -> str:
        return plain(minor, self._tariff.minor_digits)

    def _tell(self, rule: str, said: str) -> None:
        self._lines.append(f"{rule:<4}{said}")


def _encodable(tenths: int, *, up: bool) -> int:
    """The nearest value m * 10^e + sum(2^14 * 10^(n-1), n = 1..e) with 0 <= m <= 16383 and 0 <= e <= 3 (R10)."""
    found: list[int] = []
    for exponent in range(4):
        first: int = sum(2**14 * 10 ** (n - 1) for n in range(1, exponent + 1))
        steps = Fraction(tenths - first, 10**exponent)
        mantissa = max(0, ceil(steps)) if up else min(16_383, floor(steps))
        if 0 <= mantissa <= 16_383:
            found.append(first + mantissa * 10**exponent)
    return min(found) if up else max(found)


def _decimal(value: Fraction | int) -> str:
    """A number as a decimal: exact if nine places are enough, else six of them and a sign that more follow."""
    value = Fraction(value)
    for places, more in ((9, ""), (6, "...")):
        scaled = value * 10**places
        if scaled.denominator == 1 or more:
            whole, parts = divmod(abs(int(scaled)), 10**places)
            digits = f"{parts:0{places}d}"
            text = f"{whole}.{digits if more else digits.rstrip('0')}".rstrip(".")
            return f"{'-' if value < 0 else ''}{text}{more}"
    raise AssertionError("unreachable")


def _tenths(tenths: int) -> str:
    return plain(tenths, 1)
