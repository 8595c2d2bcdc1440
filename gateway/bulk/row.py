"""One line of a file of records: its values as what they mean. Pure: no I/O, no clock.

What asks for a value notes a fault if it cannot be used, and gives something harmless.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from ledger.bulk.kind import Record
from ledger.money import plain, to_minor

TEXT_MAX: Final = 200

_PERCENT: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_AMOUNT: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?")
_WITH_COMMAS: Final = re.compile(r"-?[0-9]{1,3}([, ][0-9]{3})*([.,][0-9]+)?")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TENTHS: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]))?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# More than any utility has, and far from where the database's integers end.
_AMOUNT_MAX_MINOR: Final = 10**15
_YEARS: Final = range(1990, 2200)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the lines of all files are read by."""

    minor_digits: int
    iin: str
    languages: Sequence[str]
    now: datetime
    today: date  # at the utility


class Row:
    """The values of one line; `faults` is filled by whoever asks for them, `records` by what they say."""

    __slots__ = ("faults", "records", "terms", "values")

    def __init__(self, values: Mapping[str, Any], terms: Terms) -> None:
        self.values = values
        self.terms = terms
        self.faults: list[tuple[str, str]] = []
        self.records: list[tuple[str, Record]] = []

    def add(self, kind: str, record: Record) -> None:
        """Say that the line gives a record of this kind (`ledger.bulk.kinds`)."""
        self.records.append((kind, record))

    def fault(self, column: str, words: str) -> None:
        self.faults.append((column, words))

    def text(self, column: str) -> str:
        """As it stands; empty if it is missing."""
        text: str = self.values.get(column) or ""
        if len(text) > TEXT_MAX:
            self.fault(column, f"at most {TEXT_MAX} characters expected, got {len(text)}")
        elif _CONTROL.search(text):
            self.fault(column, "a line break or control character, which is no text")
        return text

    def maybe(self, column: str) -> str | None:
        """As it stands; None if it is empty."""
        return self.text(column) or None

    def given(self, column: str) -> str:
        text = self.text(column)
        if not text:
            self.fault(column, "a value expected")
        return text

    def like(self, column: str, form: re.Pattern[str], words: str, otherwise: str = "") -> str:
        """A text of this form; `otherwise` if it is empty."""
        text = self.text(column) or otherwise
        if not form.fullmatch(text):
            self.fault(column, f"{words} expected, got {_shown(text)}")
        return text

    def one_of(self, column: str, choices: Sequence[str]) -> str:
        text = self.text(column)
        if text not in choices:
            self.fault(column, f"{', '.join(choices[:-1])} or {choices[-1]} expected, got {_shown(text)}")
        return text

    def whole(self, column: str, otherwise: int | None = None) -> int:
        text = self.text(column)
        if not text and otherwise is not None:
            return otherwise
        if not _WHOLE.fullmatch(text):
            self.fault(column, f"a whole number expected, got {_shown(text)}{_about_commas(text)}")
            return 0
        return int(text)

    def phone(self, column: str) -> str:
        text = self.text(column)
        if not (text.isascii() and text.isdigit() and 6 <= len(text) <= 15):
            self.fault(column, "6 to 15 digits expected")
        return text

    def minor(self, column: str) -> int:
        """An amount of money in minor units, none if empty, never negative."""
        text = self.text(column) or "0"
        digits = self.terms.minor_digits
        if not _AMOUNT.fullmatch(text):
            self.fault(column, f"a decimal amount expected, got {_shown(text)}{_about_commas(text)}")
            return 0
        try:
            amount_minor = to_minor(text, digits)
        except ValueError as error:
            self.fault(column, f"{error}")
            return 0
        if amount_minor < 0:
            self.fault(column, f"must not be negative, got {text}")
        elif amount_minor > _AMOUNT_MAX_MINOR:
            self.fault(column, f"at most {plain(_AMOUNT_MAX_MINOR, digits)} expected, got {text}")
        return amount_minor

    def tenths(self, column: str) -> int:
        """A register's kWh in tenths."""
        text = self.text(column)
        match = _TENTHS.fullmatch(text)
        if match is None:
            words = "kWh with at most one decimal, not negative,"
            self.fault(column, f"{words} expected, got {_shown(text)}{_about_commas(text)}")
            return 0
        return int(match[1]) * 10 + int(match[2] or 0)

    def percent(self, column: str, *, least: str = "0") -> str:
        """A percentage as a decimal, 0 if empty; one above 0 and below `least` is a slip for a fraction of one."""
        text = self.text(column) or "0"
        if not _PERCENT.fullmatch(text):
            expected = 'a decimal number such as "2.5", without a percent sign, expected'
            self.fault(column, f"{expected}, got {_shown(text)}{_about_commas(text)}")
        elif Decimal(text) > 100:
            self.fault(column, f"0 to 100 expected, got {text}")
        elif 0 < Decimal(text) < Decimal(least):
            self.fault(column, f"{text} percent? write 2 for two percent")
        return text

    def instant(self, column: str) -> str:
        """An instant with its offset, not in the future, as ISO 8601 in UTC."""
        text = self.text(column)
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None or instant.year not in _YEARS:
            self.fault(column, f"a time such as 2026-06-28T10:00:00+03:00 expected, got {_shown(text)}")
            return ""
        if instant > self.terms.now:
            self.fault(column, f"{text} lies in the future")
        return instant.astimezone(UTC).isoformat()

    def day(self, column: str) -> str | None:
        """A day at the utility, not in the future, as ISO 8601; None if it is empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
        except ValueError:
            day = None
        if day is None or day.year not in _YEARS:
            self.fault(column, f"a day such as 2026-06-28 expected, got {_shown(text)}")
            return None
        if day > self.terms.today:
            self.fault(column, f"{text} lies in the future")
        return day.isoformat()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _about_commas(text: str) -> str:
    return (
        ": no commas or blanks in a number, and a point before decimals"
        if (("," in text or " " in text) and _WITH_COMMAS.fullmatch(text))
        else ""
    )
