"""A row of a statement as a line, or what is wrong with it. Pure: no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gateway.settlement.mapping import Form, Kind
from ledger.money import to_minor
from ledger.statementlines import Line

_TEXT_MAX: Final = 200
_SHOWN_MAX: Final = 60
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# More than any utility has, and far from where the database's integers end.
_AMOUNT_MAX_MINOR: Final = 10**15
_YEARS: Final = range(2000, 2200)
# A provider's clock may be ahead of ours by a little; a statement of tomorrow is a mistaken form of dates.
_AHEAD: Final = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class Terms:
    """What rows are read by at this utility. `provider` picks the rows of one provider, where a column names it."""

    zone: ZoneInfo
    currency: str
    minor_digits: int
    now: datetime
    provider: str


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says: a line, nothing (it is passed over), or faults as (column, words)."""

    line: Line | None
    faults: tuple[tuple[str, str], ...] = ()


def read_row(form: Form, values: Mapping[str, str], terms: Terms) -> Row:
    """The line that a row gives; a row that is passed over gives none. Every fault of the row is told."""
    return _Reading(form, values, terms).row()


class _Reading:
    def __init__(self, form: Form, values: Mapping[str, str], terms: Terms) -> None:
        self._form = form
        self._values = values
        self._terms = terms
        self._faults: list[tuple[str, str]] = []

    def row(self) -> Row:
        provider = self._text("provider")
        if provider and provider.casefold() != self._terms.provider.casefold():
            return Row(None)
        amount_minor = self._amount()
        if self._faults:
            # Rows that are passed over may hold anything; whether this is one may depend on its money.
            return Row(None) if self._kind(0) is Kind.SKIP else Row(None, tuple(self._faults))
        kind = self._kind(amount_minor)
        if kind is Kind.SKIP:
            return Row(None)
        if kind is None:
            self._fault("", "a row that no [[row]] of the mapping fits")
            return Row(None, tuple(self._faults))
        fee_minor = self._money("fee") or 0
        amount_minor, fee_minor = self._signed(kind, amount_minor, fee_minor)
        occurred_at = self._instant()
        currency = self._text("currency") or self._form.currency or self._terms.currency
        if currency != self._terms.currency:
            self._fault("currency", f"{self._terms.currency} expected, got {_shown(currency)}")
        line = Line(
            kind=kind.value,
            receipt=self._text("receipt"),
            linked=self._text("linked"),
            our_ref=self._text("our_ref"),
            payer=self._text("payer"),
            account_ref=self._text("account_ref"),
            occurred_at=occurred_at,
            day=occurred_at.astimezone(self._terms.zone).date(),
            amount_minor=amount_minor,
            fee_minor=fee_minor,
            currency=currency,
        )
        if not line.receipt and not (kind is Kind.PAYMENT and line.our_ref) and kind is not Kind.FEE:
            self._fault("receipt", "a value expected")
        return Row(None, tuple(self._faults)) if self._faults else Row(line)

    def _kind(self, amount_minor: int) -> Kind | None:
        return next((rule.kind for rule in self._form.rules if rule.fits(self._values, amount_minor)), None)

    def _signed(self, kind: Kind, amount_minor: int, fee_minor: int) -> tuple[int, int]:
        """Amount and fee as we keep them: what came in is positive, and a fee is what was taken."""
        if kind is Kind.FEE:
            return 0, fee_minor - amount_minor
        if kind is Kind.PAYMENT and amount_minor <= 0:
            self._fault("amount", "money that came in expected for a payment")
        elif kind is not Kind.PAYMENT and amount_minor >= 0:
            self._fault("amount", f"money that went out expected for a row of kind {kind}")
        return amount_minor, fee_minor

    def _amount(self) -> int:
        if "amount" in self._form.columns:
            amount_minor = self._money("amount")
            if amount_minor is None and not self._faults:
                self._fault("amount", "an amount expected")
            return amount_minor or 0
        # What was paid out is written with a minus sign by some portals and without by others: both mean the same.
        paid_in, paid_out = self._money("paid_in"), self._money("paid_out")
        if paid_in and paid_out:
            self._fault("paid_in", "money in or money out expected, got both")
        if paid_in is None and paid_out is None and not self._faults:
            self._fault("paid_in", "money in or money out expected, got neither")
        return (paid_in or 0) - abs(paid_out or 0)

    def _money(self, name: str) -> int | None:
        """An amount in minor units; None if it is empty or there is no such column."""
        text = self._text(name)
        if not text:
            return None
        form = self._form
        plain = text
        if form.group_mark:
            grouped = rf"[+-]?\d{{1,3}}({re.escape(form.group_mark)}\d{{3}})*({re.escape(form.decimal_mark)}\d+)?"
            if form.group_mark in text and not re.fullmatch(grouped, text):
                self._fault(
                    name, f"an amount such as 1{form.group_mark}234{form.decimal_mark}50 expected, got {_shown(text)}"
                )
                return None
            plain = text.replace(form.group_mark, "")
        if not re.fullmatch(rf"[+-]?\d{{1,18}}({re.escape(form.decimal_mark)}\d{{1,9}})?", plain, re.ASCII):
            self._fault(name, f"an amount such as 1234{form.decimal_mark}50 expected, got {_shown(text)}")
            return None
        try:
            amount_minor = to_minor(plain.replace(form.decimal_mark, "."), self._terms.minor_digits)
        except ValueError as error:
            self._fault(name, f"{error}")
            return None
        if abs(amount_minor) > _AMOUNT_MAX_MINOR:
            self._fault(name, f"an amount that can be expected, got {_shown(text)}")
        return amount_minor

    def _instant(self) -> datetime:
        text = self._text("occurred_at")
        zone = self._form.zone or self._terms.zone
        for form in self._form.date_forms:
            try:
                found = datetime.strptime(text, form)  # noqa: DTZ007 - the zone is laid on below
            except ValueError:
                continue
            if self._form.is_day:
                found = datetime.combine(found.date(), time(12))
            instant = (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
            if instant.year not in _YEARS or instant > self._terms.now + _AHEAD:
                self._fault(
                    "occurred_at", f"{_shown(text)} is no time of the past: are day and month as the form says?"
                )
            return instant
        forms = " or ".join(self._form.date_forms)
        self._fault("occurred_at", f"a time of the form {forms} expected, got {_shown(text)}")
        return datetime.combine(date(2000, 1, 1), time(), UTC)

    def _text(self, name: str) -> str:
        column = self._form.columns.get(name)
        text = self._values.get(column, "") if column else ""
        if len(text) > _TEXT_MAX:
            self._fault(name, f"at most {_TEXT_MAX} characters expected, got {len(text)}")
        elif _CONTROL.search(text):
            self._fault(name, "a line break or control character, which is no text")
        return text

    def _fault(self, name: str, words: str) -> None:
        self._faults.append((self._form.columns.get(name, name), words))


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}...")
