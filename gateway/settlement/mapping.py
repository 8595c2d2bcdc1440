"""A mapping file: how a provider's statement is read. TOML; the shipped ones are in `mappings/`. Pure but for `load`.

about = "..."                    for people
delimiter = ","                  or ";", a tab, "|"
encoding = ""                    empty: UTF-8, or as the file is marked
lines_before_header_max = 0      lines that may stand before the header
decimal_mark = "."               and group_mark = ",": what stands between thousands; empty: nothing may
timezone = ""                    IANA name of the statement's times; empty: the utility's
currency = ""                    of all rows; empty: the utility's, unless a column says it
passed_over = ["Balance"]        columns that are known and not kept

[columns]                        our name = the statement's
receipt, occurred_at             needed
amount                           signed, what came in positive; or paid_in and paid_out, or both
fee, our_ref, payer, account_ref, linked, currency, provider
[dates]
form = "%d-%m-%Y %H:%M:%S"       as strptime has it; several as a list
is_day = false                   only days: the line counts as of noon
[[row]]                          the first that fits says what a row is; a row that none fits is a fault
kind = "PAYMENT"                 or FEE, REFUND, REVERSAL, PAYOUT; SKIP: passed over and counted
column = "Details"               with is = [...], begins = [...] or contains = [...]; without: every row
sign = "in"                      only rows with money in, or "out"; without: either
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

from gateway.bulk.lines import Expected

FOLDER: Final = Path(__file__).parent / "mappings"
_SIZE_MAX: Final = 100_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Kind(StrEnum):
    """What a row of a statement is about."""

    PAYMENT = "PAYMENT"  # a payer's money that came in
    FEE = "FEE"  # what the provider took for itself, in a row of its own
    REFUND = "REFUND"  # money we gave back to a payer
    REVERSAL = "REVERSAL"  # money the provider took back from us
    PAYOUT = "PAYOUT"  # what the provider paid to our bank
    SKIP = "SKIP"  # not about money of ours


class BadMapping(Exception):
    """A mapping file cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a row is of this kind: `column` is one of, begins with or contains one of `texts`; `sign` 1 in, -1 out."""

    kind: Kind
    column: str = ""
    how: str = ""
    texts: tuple[str, ...] = ()
    sign: int = 0

    def fits(self, values: Mapping[str, str], amount_minor: int) -> bool:
        """Whether a row with these values, and this amount, is of this kind. Capitals do not count."""
        if self.sign and amount_minor * self.sign <= 0:
            return False
        if not self.column:
            return True
        text = values[self.column].casefold()
        if self.how == "is":
            return text in self.texts
        if self.how == "begins":
            return text.startswith(self.texts)
        return any(part in text for part in self.texts)


@dataclass(frozen=True, slots=True)
class Form:
    """A mapping file as read. `columns` are ours by name; a column that is not there has no entry."""

    name: str
    about: str
    expected: Expected
    encoding: str | None
    decimal_mark: str
    group_mark: str
    zone: ZoneInfo | None
    currency: str
    columns: Mapping[str, str]
    date_forms: tuple[str, ...]
    is_day: bool
    rules: tuple[Rule, ...]


_COLUMNS: Final = (
    "receipt", "occurred_at", "amount", "paid_in", "paid_out", "fee", "our_ref", "payer", "account_ref", "linked",
    "currency", "provider",
)  # fmt: skip
_TOP: Final = frozenset(
    {"about", "delimiter", "encoding", "lines_before_header_max", "decimal_mark", "group_mark", "timezone", "currency",
     "passed_over", "columns", "dates", "row"}
)  # fmt: skip
_HOW: Final = ("is", "begins", "contains")


def shipped() -> list[str]:
    """The names of the mappings that are part of the program."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(named: str) -> Form:
    """The shipped mapping of this name, or that in the file of this path, which ends in .toml. Raises BadMapping."""
    path = Path(named) if named.endswith(".toml") else FOLDER / f"{named}.toml"
    if not named.endswith(".toml") and (not _NAME.fullmatch(named) or not path.is_file()):
        raise BadMapping(f"mapping {named!r}: one of {', '.join(shipped())} expected, or the path of a .toml file")
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise BadMapping(f"mapping {named}: {error.strerror or error}") from None
    if len(raw) > _SIZE_MAX:
        raise BadMapping(f"mapping {named}: at most {_SIZE_MAX} octets expected")
    try:
        return read(path.stem, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadMapping(f"mapping {named}: text in UTF-8 expected: {error.reason}") from None


def read(name: str, text: str) -> Form:
    """A mapping from its TOML text. Raises BadMapping."""
    try:
        return _Reader(name, tomllib.loads(text)).mapping()
    except tomllib.TOMLDecodeError as error:
        raise BadMapping(f"mapping {name}: {error}") from None


class _Reader:
    def __init__(self, name: str, document: Mapping[str, Any]) -> None:
        self._name = name
        self._document = document

    def mapping(self) -> Form:
        self._require_known(self._document, _TOP, "")
        columns = self._columns()
        passed_over = self._texts(self._document.get("passed_over", []), "passed_over")
        decimal_mark = self._text("decimal_mark", ".", (".", ","))
        group_mark = self._text("group_mark", "", ("", ",", ".", " ", "'"))
        if decimal_mark == group_mark:
            self._refuse("group_mark", "another mark than decimal_mark expected")
        rules = self._rules([*columns.values(), *passed_over])
        dates = self._table("dates", {"form", "is_day"})
        forms = dates.get("form", "")
        forms = self._texts([forms] if isinstance(forms, str) else forms, "dates.form")
        if not forms or not all(forms):
            self._refuse("dates.form", 'a form such as "%d-%m-%Y %H:%M:%S" expected')
        before = self._document.get("lines_before_header_max", 0)
        if type(before) is not int or not 0 <= before <= 1000:
            self._refuse("lines_before_header_max", f"a whole number from 0 to 1000 expected, got {before!r}")
        currency = self._text("currency", "")
        if currency and not re.fullmatch(r"[A-Z]{3}", currency):
            self._refuse("currency", f"three capital letters expected, got {currency!r}")
        return Form(
            name=self._name,
            about=self._text("about", ""),
            expected=Expected(
                # A column may say two things of ours: the account and the payer, in one narration.
                list(dict.fromkeys([*columns.values(), *passed_over])),
                list(dict.fromkeys([*columns.values(), *(rule.column for rule in rules if rule.column)])),
                delimiter=self._text("delimiter", ",", (",", ";", "\t", "|")),
                lines_before_max=before,
            ),
            encoding=self._text("encoding", "") or None,
            decimal_mark=decimal_mark,
            group_mark=group_mark,
            zone=self._zone(),
            currency=currency,
            columns=columns,
            date_forms=tuple(forms),
            is_day=bool(dates.get("is_day", False)),
            rules=rules,
        )

    def _columns(self) -> dict[str, str]:
        columns = self._table("columns", set(_COLUMNS))
        for name, value in columns.items():
            if not isinstance(value, str) or not value.strip():
                self._refuse(f"columns.{name}", f"the name of a column expected, got {value!r}")
        for name in ("receipt", "occurred_at"):
            if name not in columns:
                self._refuse(f"columns.{name}", "needed")
        if "amount" not in columns and "paid_in" not in columns:
            self._refuse("columns.amount", "needed, or paid_in and paid_out")
        if "amount" in columns and ("paid_in" in columns or "paid_out" in columns):
            self._refuse("columns.amount", "either amount, or paid_in and paid_out, expected")
        return dict(columns)

    def _rules(self, known: Sequence[str]) -> tuple[Rule, ...]:
        rows = self._document.get("row", [])
        if not isinstance(rows, list) or not rows:
            self._refuse("row", "at least one [[row]] expected: which rows count")
        return tuple(self._rule(f"row {number}", row, known) for number, row in enumerate(rows, start=1))

    def _rule(self, where: str, row: Any, known: Sequence[str]) -> Rule:
        if not isinstance(row, dict):
            self._refuse(where, "a table expected")
        self._require_known(row, frozenset({"kind", "column", "sign", *_HOW}), where)
        kind = row.get("kind")
        if kind not in set(Kind):
            self._refuse(f"{where}.kind", f"one of {', '.join(Kind)} expected, got {kind!r}")
        sign = row.get("sign", "")
        if sign not in ("", "in", "out"):
            self._refuse(f"{where}.sign", f'"in" or "out" expected, got {sign!r}')
        signs = {"": 0, "in": 1, "out": -1}
        given = [how for how in _HOW if how in row]
        if "column" not in row:
            if given:
                self._refuse(where, f"{given[0]}: a column expected beside it")
            return Rule(Kind(kind), sign=signs[sign])
        if row["column"] not in known:
            self._refuse(f"{where}.column", f"{row['column']!r} is neither in [columns] nor in passed_over")
        if len(given) != 1:
            self._refuse(where, f"one of {', '.join(_HOW)} expected beside column")
        texts = [text.casefold() for text in self._texts(row[given[0]], f"{where}.{given[0]}")]
        return Rule(Kind(kind), row["column"], given[0], tuple(texts), signs[sign])

    def _zone(self) -> ZoneInfo | None:
        name = self._text("timezone", "")
        try:
            return ZoneInfo(name) if name else None
        except (ValueError, OSError, KeyError):
            self._refuse("timezone", f'an IANA name such as "Africa/Nairobi" expected, got {name!r}')

    def _text(self, name: str, otherwise: str, choices: Sequence[str] = ()) -> str:
        value = self._document.get(name, otherwise)
        if not isinstance(value, str) or (choices and value not in choices):
            expected = " or ".join(repr(choice) for choice in choices) if choices else "a text"
            self._refuse(name, f"{expected} expected, got {value!r}")
        return value

    def _texts(self, value: Any, where: str) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self._refuse(where, "a list of texts expected")
        return list(value)

    def _table(self, name: str, known: set[str]) -> dict[str, Any]:
        found = self._document.get(name)
        if not isinstance(found, dict):
            self._refuse(name, f"a table [{name}] expected")
        self._require_known(found, frozenset(known), name)
        return found

    def _require_known(self, table: Mapping[str, Any], known: frozenset[str], where: str) -> None:
        if unknown := [name for name in table if name not in known]:
            self._refuse(where, f"there is no {unknown[0]!r} (there are: {', '.join(sorted(known))})")

    def _refuse(self, where: str, words: str) -> NoReturn:
        raise BadMapping(f"mapping {self._name}: {where}{': ' if where else ''}{words}")
