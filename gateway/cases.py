"""Worked cases of pricing: an account, a station and steps go in, what comes of each step comes out. Pure.

A case is one JSON object, as auditors and other programs write it:

    {"id": "S01", "initial": {"account": {...}, "station": {...}}, "steps": [{...}, ...]}

`account` has the meter's number and status, the tariff's code, and the counters and debts of `ledger/pricing.py`;
`station` how it is funded. Steps are BUY and REVERSE. The answer is {"id": ..., "results": [...]}, one result a step.

`pricing` knows neither meters nor stations, so what surrounds it is here: refusals of meters and stations (R1), float,
limit and commission (R13), repeats (R15) and reversals (R16). The gateway itself does the same by its own means,
with a ledger; this is the way to reckon without one, by tariffs and cases alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any, Final

from ledger.pricing import Account, Debt, DebtMode, Sale, commission, price
from ledger.reasons import Refusal
from ledger.tariffs_format import TariffBook
from sts.errors import NumberError
from sts.numbers import check_drn

MONEY_MAX_MINOR: Final = 10**15
STEPS_MAX: Final = 10_000

_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class CaseFault(Exception):
    """A case cannot be used; the message says where and why: "steps[1].at: missing"."""


@dataclass(frozen=True, slots=True)
class Bought:
    """A purchase of a case, with what was before it."""

    content: tuple[str, int, str]
    at: datetime
    sale: Sale
    result: dict[str, Any]
    before: Account
    station_before: Station


@dataclass(frozen=True, slots=True)
class Station:
    """Who sells: from a deposit (PREPAID), or up to a limit that it owes (CREDIT)."""

    is_prepaid: bool
    float_minor: int
    credit_limit_minor: int
    owed_minor: int
    commission_percent: Fraction

    @property
    def available_minor(self) -> int:
        """What it may still sell."""
        return self.float_minor if self.is_prepaid else self.credit_limit_minor - self.owed_minor

    def after(self, amount_minor: int) -> Station:
        """The station when it has sold this much."""
        if self.is_prepaid:
            return Station(
                True,
                self.float_minor - amount_minor,
                self.credit_limit_minor,
                self.owed_minor,
                self.commission_percent,
            )
        return Station(
            False, self.float_minor, self.credit_limit_minor, self.owed_minor + amount_minor, self.commission_percent
        )


def answer(case: Any, book: TariffBook) -> dict[str, Any]:
    """What comes of a case, under these tariffs. Raises CaseFault; a refusal by the rules is a result."""
    top = _object("", case)
    if "id" not in top or not isinstance(top["id"], (str, int)):
        raise CaseFault("id: a text expected")
    initial = _object("initial", _given(top, "initial", ""))
    walk = _Walk(book, initial)
    steps = _list("steps", _given(top, "steps", ""))
    if len(steps) > STEPS_MAX:
        raise CaseFault(f"steps: at most {STEPS_MAX} expected, got {len(steps)}")
    results = [walk.step(f"steps[{number}]", step) for number, step in enumerate(steps)]
    return {"id": top["id"], "results": results}


class _Walk:
    """One case on its way."""

    def __init__(self, book: TariffBook, initial: Mapping[str, Any]) -> None:
        self._book = book
        place = "initial.account"
        given = _object(place, _given(initial, "account", "initial"))
        self._drn = _text(given, "drn", place)
        self._meter_status = _text(given, "meter_status", place)
        code = _text(given, "tariff", place)
        if code not in book.tariffs:
            raise CaseFault(f"{place}.tariff: no tariff {code!r} in the file; there are {', '.join(book.tariffs)}")
        self._tariff = book.tariffs[code]
        self._account = _account(given, place)
        self._station = _station(_object("initial.station", _given(initial, "station", "initial")), "initial.station")
        self._purchases: dict[str, Bought] = {}
        self._standing: list[str] = []  # request ids of purchases that are not reversed, in their order

    def step(self, place: str, step: Any) -> dict[str, Any]:
        """What comes of one step."""
        given = _object(place, step)
        if _one_of(given, "op", place, ("BUY", "REVERSE")) == "BUY":
            return self._buy(
                _text(given, "request_id", place),
                (
                    _text(given, "drn", place),
                    _whole(given, "amount_minor", place, below_zero=True),
                    self._channel(given, place),
                ),
                _instant(given, "at", place),
            )
        return self._reverse(_text(given, "ref", place), _instant(given, "at", place))

    def _channel(self, given: Mapping[str, Any], place: str) -> str:
        channel = _text(given, "channel", place)
        if channel not in self._book.fees_minor:
            known = ", ".join(self._book.fees_minor)
            raise CaseFault(f"{place}.channel: no channel {channel!r} in the file; there are {known}")
        return channel

    def _buy(self, request_id: str, content: tuple[str, int, str], at: datetime) -> dict[str, Any]:
        drn, amount_minor, channel = content
        known = self._purchases.get(request_id)
        if known is not None:  # R15
            return (
                known.result | {"duplicate": True}
                if known.content == content
                else self._rejected("IDEMPOTENCY_MISMATCH")
            )
        if refused := self._refused_meter(drn):
            return self._rejected(refused)
        try:
            sale = price(
                self._tariff,
                self._account,
                amount_minor,
                (at + timedelta(minutes=self._book.utc_offset_minutes)).replace(tzinfo=None),
                fee_minor=self._book.fees_minor[channel],
                debt_cap_percent=self._book.debt_cap_percent,
            )
        except Refusal as refusal:
            return self._rejected(refusal.reason.value)
        if amount_minor > self._station.available_minor:
            return self._rejected("STATION_LIMIT")
        before, station_before = self._account, self._station
        self._account, self._station = sale.after, station_before.after(amount_minor)
        result = {
            "status": "OK",
            "tariff_version": sale.tariff_version,
            "fee_minor": sale.fee_minor,
            "fee_vat_minor": sale.fee_vat_minor,
            "debts": dict(sale.debts_minor),
            "debt_total_minor": sale.debt_total_minor,
            "fixed_minor": sale.fixed_minor,
            "fixed_vat_minor": sale.fixed_vat_minor,
            "fixed_shortfall_after_minor": sale.fixed_shortfall_after_minor,
            "carry_in_minor": sale.carry_in_minor,
            "carry_out_minor": sale.carry_out_minor,
            "energy_gross_minor": sale.energy_gross_minor,
            "energy_net_minor": sale.energy_net_minor,
            "energy_vat_minor": sale.energy_vat_minor,
            "charges_minor": dict(sale.charges_minor),
            "units_tenths": sale.units_tenths,
            "sts_amount16": sale.amount_field,
            "units_exact": six_decimals(sale.units_exact),
            "block_kwh": [six_decimals(kwh) for kwh in sale.block_kwh],
            "month_units_after_tenths": sale.month_units_after_tenths,
            "vat_total_minor": sale.vat_total_minor,
            "free_units_tenths": sale.free_units_tenths,
            "commission_minor": commission(amount_minor, self._station.commission_percent),
            "station_available_after_minor": self._station.available_minor,
            "debts_outstanding_after": self._outstanding(),
        }
        self._purchases[request_id] = Bought(content, at, sale, result, before, station_before)
        self._standing.append(request_id)
        return result

    def _refused_meter(self, drn: str) -> str:
        """Why this meter cannot buy (R1); empty if it can."""
        try:
            check_drn(drn)
        except NumberError:
            return "METER_INVALID"
        if drn != self._drn:
            return "METER_UNKNOWN"
        return "" if self._meter_status == "INSTALLED" else "METER_BLOCKED"

    def _reverse(self, ref: str, at: datetime) -> dict[str, Any]:
        """R16."""
        purchase = self._purchases.get(ref)
        if purchase is None:
            return self._rejected("REVERSE_UNKNOWN")
        if ref not in self._standing:
            return self._rejected("ALREADY_REVERSED")
        if ref != self._standing[-1]:
            return self._rejected("REVERSE_NOT_LAST")
        if at - purchase.at > timedelta(minutes=self._book.reversal_window_minutes):
            return self._rejected("REVERSE_WINDOW")
        self._standing.pop()
        self._account, self._station = purchase.before, purchase.station_before
        return {
            "status": "REVERSED",
            "month_units_after_tenths": self._account.month_units_tenths,
            "carry_after_minor": self._account.carry_minor,
            "fixed_shortfall_after_minor": self._account.fixed_shortfall_minor,
            "debts_outstanding_after": self._outstanding(),
            "station_available_after_minor": self._station.available_minor,
        }

    def _rejected(self, reason: str) -> dict[str, Any]:
        return {
            "status": "REJECTED",
            "error": f"E_{reason}",
            "station_available_after_minor": self._station.available_minor,
        }

    def _outstanding(self) -> dict[str, int]:
        return {debt.id: debt.outstanding_minor for debt in self._account.debts}


def six_decimals(value: Fraction) -> str:
    """A number that is not negative with six decimals, half up: what cases give for information."""
    whole, parts = divmod(floor(value * 10**6 + Fraction(1, 2)), 10**6)
    return f"{whole}.{parts:06d}"


# --- reading ----------------------------------------------------------------------------------------------------------


def _account(given: Mapping[str, Any], place: str) -> Account:
    debts = []
    seen: set[str] = set()
    for number, item in enumerate(_list(f"{place}.debts", _given(given, "debts", place))):
        at = f"{place}.debts[{number}]"
        debt = _object(at, item)
        code = _text(debt, "id", at)
        if code in seen:
            raise CaseFault(f"{at}.id: {code} stands there twice")
        seen.add(code)
        debts.append(
            Debt(
                id=code,
                priority=_whole(debt, "priority", at),
                mode=DebtMode(_one_of(debt, "mode", at, tuple(DebtMode))),
                outstanding_minor=_whole(debt, "outstanding_minor", at),
                instalment_minor=_whole(debt, "instalment_minor", at),
                percent=_percent(debt, "percent", at),
                active=_text(debt, "status", at) == "ACTIVE",
                recovered_this_month_minor=_whole(debt, "recovered_this_month_minor", at),
            )
        )
    free = _given(given, "free_kwh_per_month", place)
    return Account(
        counter_month=_month(given, "counter_month", place),
        month_units_tenths=_whole(given, "month_units_tenths", place),
        fixed_through_month=_month(given, "fixed_through_month", place),
        fixed_through_date=_date(given, "fixed_through_date", place),
        fixed_shortfall_minor=_whole(given, "fixed_shortfall_minor", place),
        carry_minor=_whole(given, "carry_minor", place),
        free_kwh_per_month=None if free is None else _whole(given, "free_kwh_per_month", place, most=10_000),
        free_last_month=_month(given, "free_last_month", place) if given.get("free_last_month") else "",
        debts=tuple(debts),
    )


def _station(given: Mapping[str, Any], place: str) -> Station:
    return Station(
        is_prepaid=_one_of(given, "funding", place, ("PREPAID", "CREDIT")) == "PREPAID",
        float_minor=_whole(given, "float_minor", place, below_zero=True),
        credit_limit_minor=_whole(given, "credit_limit_minor", place),
        owed_minor=_whole(given, "owed_minor", place, below_zero=True),
        commission_percent=_percent(given, "commission_percent", place),
    )


def _given(given: Mapping[str, Any], key: str, place: str) -> Any:
    if key not in given:
        raise CaseFault(f"{place}.{key}: missing" if place else f"{key}: missing")
    return given[key]


def _object(place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CaseFault(f"{place or 'the case'}: an object expected, got {_shown(value)}")
    for key in getattr(value, "repeated", ()):
        raise CaseFault(f"{place}.{key}: stands there twice" if place else f"{key}: stands there twice")
    return value


def _list(place: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise CaseFault(f"{place}: a list expected, got {_shown(value)}")
    return value


def _text(given: Mapping[str, Any], key: str, place: str) -> str:
    value = _given(given, key, place)
    if not isinstance(value, str) or not value:
        raise CaseFault(f"{place}.{key}: a text expected, got {_shown(value)}")
    return value


def _one_of(given: Mapping[str, Any], key: str, place: str, choices: tuple[str, ...]) -> str:
    value = _given(given, key, place)
    if not isinstance(value, str) or value not in choices:
        raise CaseFault(f"{place}.{key}: {', '.join(choices[:-1])} or {choices[-1]} expected, got {_shown(value)}")
    return value


def _whole(
    given: Mapping[str, Any], key: str, place: str, *, most: int = MONEY_MAX_MINOR, below_zero: bool = False
) -> int:
    value = _given(given, key, place)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CaseFault(f"{place}.{key}: a whole number expected, got {_shown(value)}")
    if not (-most if below_zero else 0) <= value <= most:
        raise CaseFault(f"{place}.{key}: {-most if below_zero else 0} to {most} expected, got {_shown(value)}")
    return value


def _percent(given: Mapping[str, Any], key: str, place: str) -> Fraction:
    value = _given(given, key, place)
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value) or Fraction(value) > 100:
        raise CaseFault(f'{place}.{key}: a decimal string from "0" to "100" expected, got {_shown(value)}')
    return Fraction(value)


def _month(given: Mapping[str, Any], key: str, place: str) -> str:
    value = _given(given, key, place)
    if not isinstance(value, str) or not _MONTH.fullmatch(value):
        raise CaseFault(f'{place}.{key}: a month such as "2026-06" expected, got {_shown(value)}')
    return value


def _date(given: Mapping[str, Any], key: str, place: str) -> date:
    value = _given(given, key, place)
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise CaseFault(f'{place}.{key}: a date such as "2026-06-30" expected, got {_shown(value)}') from None


def _instant(given: Mapping[str, Any], key: str, place: str) -> datetime:
    value = _given(given, key, place)
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        instant = None
    if instant is None or instant.tzinfo is None or not 1970 < instant.year < 9000:
        raise CaseFault(f'{place}.{key}: an instant such as "2026-06-05T08:15:00Z" expected, got {_shown(value)}')
    return instant


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a very large number"
    return text if len(text) <= 60 else f"{text[:57]}..."
