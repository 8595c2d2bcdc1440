"""Last month's sales priced once more, with a version of the tariff that nobody has bought under. Pure.

Sales come by account in the order of acceptance. An account starts as the books have it before its first sale of the
month, and goes on as the draft leaves it: what a sale buys there decides in which block the next one begins. What does
not depend on the tariff, debts and the claim to free units, stays as it was. Where something else than a sale changed
the counters in between, a correction, the draft goes on from there too; that is counted as begun anew.

Every sale is also reckoned again under the version that it was sold under. If that does not give what the books say,
it is counted, and so is a sale of a program that did not yet keep the account before it.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from gateway.sale import priced_from
from ledger.pricing import Account, Sale, Tariff, TariffVersion, price
from ledger.reasons import Refusal
from ledger.sold import Sold

BANDS_KWH: Final = (50, 100, 200, 400, 1000)
"""Where consumption bands end, unless told otherwise; the last one has no end."""

_EVER: Final = datetime.fromisoformat("0001-01-01")  # local, as the starts of versions are

_COUNTERS: Final = (
    "counter_month",
    "month_units_tenths",
    "fixed_through_month",
    "fixed_through_date",
    "fixed_shortfall_minor",
    "carry_minor",
)


@dataclass(slots=True)
class Totals:
    """Sums over sales. Money and units are of the sales that the draft sells too; the others are in `refused`."""

    accounts: int = 0
    sales: int = 0
    money_minor: int = 0
    units_now_tenths: int = 0
    units_draft_tenths: int = 0
    vat_now_minor: int = 0
    vat_draft_minor: int = 0
    charges_now_minor: int = 0  # levies
    charges_draft_minor: int = 0
    fixed_now_minor: int = 0
    fixed_draft_minor: int = 0
    refused: int = 0
    refused_money_minor: int = 0

    def add(self, other: Totals) -> None:
        """Add another's sums to these."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def difference_tenths(self) -> int:
        """What customers would have had more, in tenths of a kWh."""
        return self.units_draft_tenths - self.units_now_tenths

    def as_json(self) -> dict[str, int]:
        """The sums by name."""
        return {name: getattr(self, name) for name in self.__slots__} | {"difference_tenths": self.difference_tenths}


@dataclass(slots=True)
class Preview:
    """What came of it: by customer group, by how much an account bought in the month, and together."""

    by_category: dict[str, Totals] = field(default_factory=dict)
    by_band: dict[int | None, Totals] = field(default_factory=dict)  # upper end in kWh; None: no end
    total: Totals = field(default_factory=Totals)
    begun_anew: int = 0  # accounts whose counters were changed by something else than sales
    not_as_sold: int = 0  # sales that do not come out as the books have them
    left_out: int = 0  # sales of a program that did not keep the account before them


@dataclass(slots=True)
class _Account:
    """One account on its way through the month."""

    category: str
    totals: Totals = field(default_factory=Totals)
    units_tenths: int = 0  # bought in the month, whatever the draft says
    now: Account | None = None
    draft: Account | None = None


def alone(tariff: Tariff, version: TariffVersion) -> Tariff:
    """The tariff with this version only, in force at any time."""
    return replace(tariff, versions=(replace(version, effective_from=_EVER),))


def preview(
    sales: Iterable[Sold],
    draft: Tariff,
    as_sold: Mapping[str, Tariff],
    zone: ZoneInfo,
    bands_kwh: Sequence[int] = BANDS_KWH,
) -> Preview:
    """Price these sales with `draft`, a tariff `alone` with its version.

    `as_sold` has the tariff alone with each version that sales may name.
    `bands_kwh` rise. What is held does not grow with the number of sales.
    """
    found = Preview(by_band={band: Totals() for band in (*bands_kwh, None)})
    point: UUID | None = None
    account: _Account | None = None
    for sold in sales:
        if account is None or sold.service_point_id != point:
            _end(found, account, bands_kwh)
            point, account = sold.service_point_id, _Account(sold.category)
        _price(found, account, sold, draft, as_sold, zone)
    _end(found, account, bands_kwh)
    return found


def _price(
    found: Preview,
    account: _Account,
    sold: Sold,
    draft: Tariff,
    as_sold: Mapping[str, Tariff],
    zone: ZoneInfo,
) -> None:
    split = json.loads(sold.sale)
    if split.get("given_minor"):
        return  # energy given by a correction has no price, and moves no counter
    account.units_tenths += split["units_tenths"]
    if "account" not in split:
        found.left_out += 1
        account.now = account.draft = None
        return
    before, cap = priced_from(split["account"])
    at_local = sold.accepted_at.astimezone(zone).replace(tzinfo=None)
    begin = before
    if account.now is not None and account.draft is not None:
        if _counters(before) == _counters(account.now):
            begin = replace(before, **dict(zip(_COUNTERS, _counters(account.draft), strict=True)))
        else:
            found.begun_anew += 1
    was = as_sold.get(sold.tariff_version)
    now = _sale(was, before, sold.amount_minor, at_local, split["fee_minor"], cap) if was else None
    if now is None or not _is_as_sold(now, split):
        found.not_as_sold += 1
    account.now = now.after if now else None
    totals = account.totals
    new = _sale(draft, begin, sold.amount_minor, at_local, split["fee_minor"], cap)
    if new is None:
        totals.refused += 1
        totals.refused_money_minor += sold.amount_minor
        account.draft = begin
        return
    account.draft = new.after
    totals.sales += 1
    totals.money_minor += sold.amount_minor
    totals.units_now_tenths += split["units_tenths"]
    totals.units_draft_tenths += new.units_tenths
    totals.vat_now_minor += split["fee_vat_minor"] + split["fixed_vat_minor"] + split["energy_vat_minor"]
    totals.vat_draft_minor += new.vat_total_minor
    totals.charges_now_minor += sum(split["charges_minor"].values())
    totals.charges_draft_minor += new.charges_total_minor
    totals.fixed_now_minor += split["fixed_minor"]
    totals.fixed_draft_minor += new.fixed_minor


def _sale(
    tariff: Tariff, account: Account, amount_minor: int, at_local: datetime, fee_minor: int, cap: Any
) -> Sale | None:
    try:
        return price(tariff, account, amount_minor, at_local, fee_minor=fee_minor, debt_cap_percent=cap)
    except Refusal:
        return None


def _is_as_sold(sale: Sale, split: dict[str, Any]) -> bool:
    return all(
        getattr(sale, name) == split[name]
        for name in (
            "energy_net_minor",
            "energy_vat_minor",
            "charges_minor",
            "fee_vat_minor",
            "fixed_minor",
            "fixed_vat_minor",
            "debts_minor",
            "carry_in_minor",
            "carry_out_minor",
            "units_tenths",
            "free_units_tenths",
        )
    )


def _counters(account: Account) -> tuple[Any, ...]:
    return tuple(getattr(account, name) for name in _COUNTERS)


def _end(found: Preview, account: _Account | None, bands_kwh: Sequence[int]) -> None:
    """Add an account that has come to its end."""
    if account is None:
        return
    account.totals.accounts = 1
    place = bisect_left([10 * kwh for kwh in bands_kwh], account.units_tenths)
    band = bands_kwh[place] if place < len(bands_kwh) else None
    for totals in (found.by_category.setdefault(account.category, Totals()), found.by_band[band], found.total):
        totals.add(account.totals)
