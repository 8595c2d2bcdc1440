"""A sale of the books reckoned again by hand, step by step, and held against everything that was written. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

from gateway.sale import priced_from
from ledger import commissions, entries
from ledger.byhand import Reckoned, reckon
from ledger.money import plain
from ledger.pricing import Tariff, commission
from ledger.sold import InBooks


class NotRecomputed(Exception):
    """The sale cannot be reckoned again; the message says why."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The steps as lines, and what differs from the books: (what, in the books, reckoned)."""

    lines: tuple[str, ...]
    differences: tuple[tuple[str, str, str], ...]


def recompute(sold: InBooks, tariff: Tariff, at_local: datetime) -> Recomputed:
    """Reckon a sale again from the account before it, under the released versions of its tariff.

    `at_local`: when its money was accepted, in the utility's own time. Raises NotRecomputed.
    """
    # Its postings say that it was sold, and stay when it is undone later.
    if not sold.postings or sold.sale is None or sold.payer_id is None or sold.tariff_code is None:
        why = f" ({sold.reason})" if sold.reason else ""
        raise NotRecomputed(f"receipt {sold.receipt}: the purchase is {sold.state}{why}: nothing was sold")
    split = json.loads(sold.sale)
    if split.get("given_minor"):
        raise NotRecomputed(f"receipt {sold.receipt}: energy given by a correction, for which no price was reckoned")
    if "account" not in split:
        raise NotRecomputed(f"receipt {sold.receipt}: sold by a version that did not keep the account before a sale")
    account, cap = priced_from(split["account"])
    try:
        reckoned = reckon(
            tariff, account, sold.amount_minor, at_local, fee_minor=split["fee_minor"], debt_cap_percent=cap
        )
    except ValueError as error:
        raise NotRecomputed(f"receipt {sold.receipt}: {error}") from None
    compare = _Compare(tariff.minor_digits)
    _held_against_split(compare, reckoned, split, account.carry_minor)
    compare.text("tariff version", sold.tariff_version or "none", reckoned.tariff_version)
    compare.units("units of the purchase", sold.units_tenths or 0, reckoned.units_tenths)
    earned = compare.lines_of_commission(sold, split, at_local.date())
    _held_against_tokens(compare, sold, reckoned)
    _held_against_postings(compare, sold, reckoned, split, account.carry_minor, earned)
    return Recomputed((*reckoned.lines, *compare.lines), tuple(compare.differences))


class _Compare:
    """Collects what differs."""

    def __init__(self, minor_digits: int) -> None:
        self._digits = minor_digits
        self.differences: list[tuple[str, str, str]] = []
        self.lines: list[str] = []

    def text(self, what: str, books: str, reckoned: str) -> None:
        if books != reckoned:
            self.differences.append((what, books, reckoned))

    def money(self, what: str, books: int, reckoned: int) -> None:
        self.text(what, plain(books, self._digits), plain(reckoned, self._digits))

    def units(self, what: str, books_tenths: int, reckoned_tenths: int) -> None:
        self.text(what, f"{plain(books_tenths, 1)} kWh", f"{plain(reckoned_tenths, 1)} kWh")

    def lines_of_commission(self, sold: InBooks, split: Mapping[str, Any], day: date) -> int:
        """The commission reckoned again, where its percent or scheme was kept; else as it is in the sale."""
        if "commission_rules" in split:
            earned = commissions.earned_minor(
                split["commission_rules"],
                None,
                day,
                amount_minor=sold.amount_minor,
                units_tenths=split["units_tenths"],
                debts_minor=sum(split["debts_minor"].values()),
            )
            self.lines.append(f"commission of {split['station_code']} by its scheme: {plain(earned, self._digits)}")
            self.money("commission", split["commission_minor"], earned)
            return earned
        if "commission_percent" not in split:
            return int(split["commission_minor"])
        percent = Fraction(split["commission_percent"])
        earned = commission(sold.amount_minor, percent)
        self.lines.append(
            f"R13 commission of {split['station_code']}: {split['commission_percent']} % of"
            f" {plain(sold.amount_minor, self._digits)} = {plain(earned, self._digits)}"
        )
        self.money("commission", split["commission_minor"], earned)
        return earned


def _held_against_split(compare: _Compare, reckoned: Reckoned, split: Mapping[str, Any], carry_in_minor: int) -> None:
    compare.text("tariff version of the split", split["tariff_version"], reckoned.tariff_version)
    compare.money("tax in the fee", split["fee_vat_minor"], reckoned.fee_vat_minor)
    for name, books, again in (
        ("debt", split["debts_minor"], reckoned.debts_minor),
        ("levy", split["charges_minor"], reckoned.charges_minor),
    ):
        for code in sorted(books.keys() | again.keys()):
            compare.money(f"{name} {code}", books.get(code, 0), again.get(code, 0))
    compare.money("fixed charges", split["fixed_minor"], reckoned.fixed_minor)
    compare.money("tax in fixed charges", split["fixed_vat_minor"], reckoned.fixed_vat_minor)
    compare.money("tax on energy", split["energy_vat_minor"], reckoned.energy_vat_minor)
    compare.money("net energy", split["energy_net_minor"], reckoned.energy_net_minor)
    compare.money("carried before", split["carry_in_minor"], carry_in_minor)
    compare.money("carried on", split["carry_out_minor"], reckoned.carry_out_minor)
    compare.units("units", split["units_tenths"], reckoned.units_tenths)
    compare.units("free units", split["free_units_tenths"], reckoned.free_units_tenths)
    compare.text("exact units", str(Fraction(split["units_exact"])), str(reckoned.units_exact))


def _held_against_tokens(compare: _Compare, sold: InBooks, reckoned: Reckoned) -> None:
    for kind, made, wanted in (
        ("credit token", sold.credit_tokens, reckoned.units_tenths),
        ("free token", sold.free_tokens, reckoned.free_units_tenths),
    ):
        said = " + ".join(f"{plain(units, 1)} kWh" for units, _ in made) or "none"
        compare.text(kind, said, f"{plain(wanted, 1)} kWh" if wanted else "none")


def _held_against_postings(
    compare: _Compare,
    sold: InBooks,
    reckoned: Reckoned,
    split: Mapping[str, Any],
    carry_in_minor: int,
    earned: int,
) -> None:
    assert sold.payer_id is not None and sold.tariff_code is not None
    legs = entries.sale(
        payer=sold.payer_id,
        tendered_minor=sold.amount_minor,
        tariff_code=sold.tariff_code,
        energy_net_minor=reckoned.energy_net_minor,
        vat_minor=reckoned.energy_vat_minor + reckoned.fee_vat_minor + reckoned.fixed_vat_minor,
        charges_minor=reckoned.charges_minor,
        fee_net_minor=split["fee_minor"] - reckoned.fee_vat_minor,
        fixed_net_minor=reckoned.fixed_minor - reckoned.fixed_vat_minor,
        debts_minor=sum(reckoned.debts_minor.values()),
        carry_minor=reckoned.carry_out_minor - carry_in_minor,
        commission_minor=earned,
        station_code=split["station_code"],
    )
    wanted: dict[UUID, int] = {}
    for account, amount in legs:
        wanted[account] = wanted.get(account, 0) + amount
    for account in dict.fromkeys((*wanted, *sold.postings)):
        name = sold.account_names.get(account, str(account))
        compare.money(f"posting to {name}", sold.postings.get(account, 0), wanted.get(account, 0))
