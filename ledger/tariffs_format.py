"""Tariffs as documents (JSON) and as rules, with every fault of a document named by its place. Pure: no I/O, no clock.

A tariff document:

    {"code": "D1", "name": "Domestic", "sts_tariff_index": "01", "units_rounding": "UP" or "DOWN_CARRY",
     "min_vend_minor": 2000, "max_vend_minor": 5000000,
     "versions": [{"effective_from": "2026-01-01T00:00:00", "vat_percent": "16",
                   "seasons": [{"months": [1, ..., 12], "blocks": [{"upto_kwh": "50", "rate": "12.22"},
                                                                   {"upto_kwh": null, "rate": "19.08"}]}],
                   "per_kwh_charges": [{"code": "FUEL", "rate": "3.65", "vatable": true}],
                   "percent_charges": [{"code": "RURAL", "percent": "5", "vatable": false}],
                   "fixed_charges": [{"code": "FIXED", "period": "MONTH" or "DAY", "amount": "150.00"}]}]}

Rates and amounts are in currency units without tax, written as decimal strings: a JSON number with a point is a binary
fraction in most programs, and 0.1 is not one. `*_minor` are whole minor units. Times are local, without a zone.

Percents are percents: "16" is sixteen of a hundred. One above 0 and below 1 is questioned, since most such are slips
("0.16"): a version in which they are meant says so, `"percents_below_one": true`, where its releaser sees it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final, TypeVar

from ledger.pricing import (
    MOST_UNITS_TENTHS,
    Block,
    FixedCharge,
    PercentCharge,
    Period,
    PerKwhCharge,
    Rounding,
    Season,
    Tariff,
    TariffVersion,
    unit_price,
)

_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_NEGATIVE: Final = re.compile(r"-\s*[0-9]+(\.[0-9]+)?")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_INDEX: Final = re.compile(r"[0-9]{2}")
_START: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?", re.ASCII)
_ENTRIES_MAX: Final = 1_000

# How other programs and people name prices by the hour.
_TIME_BAND_KEYS: Final = frozenset(
    "time_band time_bands bands band hours hour time_of_use tou tou_bands from_hour to_hour from_time to_time "
    "start_time end_time start_hour end_hour from to time times time_of_day tod schedule periods peak off_peak "
    "weekday weekdays weekend weekends day_of_week days_of_week".split()
)
_TIME_BANDS: Final = "prices by time of day cannot be priced in a one-way token: it carries kWh, not the hour of use"

_Named = TypeVar("_Named", bound=StrEnum)


class TariffFaults(Exception):
    """A tariff document is wrong. `faults` holds every fault: "versions[0].vat_percent: missing"."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class TariffBook:
    """A whole tariff file: the utility's settings for pricing, fees by channel, tariffs by code."""

    currency: str
    minor_digits: int
    timezone: str
    utc_offset_minutes: int
    debt_cap_percent: Fraction
    reversal_window_minutes: int
    fees_minor: Mapping[str, int]
    tariffs: Mapping[str, Tariff]


class _Object(dict[str, Any]):
    """An object of a document, with the keys that stood there twice: of those JSON keeps the last, unasked."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        made.repeated = tuple(dict.fromkeys(key for key in keys if keys.count(key) > 1))
    return made


def parse(text: str) -> Any:
    """A document from its JSON text, for the readers below. Raises `TariffFaults` where it is not JSON."""
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise TariffFaults((f"line {error.lineno} column {error.colno}: no JSON: {error.msg}",)) from None
    except (ValueError, RecursionError) as error:
        raise TariffFaults((f"no JSON that can be read: {error}",)) from None


def read_tariff(document: Any, *, minor_digits: int, is_stored: bool = False) -> Tariff:
    """A tariff from its document, as `parse` or `json.loads` gives it. Raises `TariffFaults` with every fault found.

    What `is_stored` was accepted once and is not questioned again.
    """
    reader = _Reader(minor_digits, questions=not is_stored)
    tariff = reader.tariff("", document)
    reader.finish()
    assert tariff is not None
    return tariff


def documents(document: Any) -> list[tuple[str, Any]]:
    """The tariff documents of a file with their places: one tariff, or {"tariffs": [...]} with anything beside it.

    Raises `TariffFaults` if it is neither.
    """
    if not isinstance(document, Mapping) or "tariffs" not in document:
        return [("", document)]
    reader = _Reader(2)
    found = [(f"tariffs[{index}]", item) for index, item in enumerate(reader.entries("tariffs", document["tariffs"]))]
    reader.finish()
    return found


# How the one way is called in which these rules reckon; a file that asks for another would be priced wrongly.
_ONE_WAY: Final[Mapping[str, Any]] = {
    "block_counter": "SERVICE_POINT_CALENDAR_MONTH",
    "free_units_count_in_blocks": False,
    "deduction_order": ["FEE", "DEBTS", "FIXED", "ENERGY"],
}


def read_book(document: Any) -> TariffBook:
    """A file of utility, channels and tariffs from its document. Raises `TariffFaults` with every fault found.

    Of the utility's settings those are read that pricing needs; what else stands there is left to others.
    """
    reader = _Reader(2)
    entries = reader.mapping("", document, {"utility", "channels", "tariffs"})
    utility = reader.mapping("utility", entries.get("utility"), None)
    minor_digits = reader.whole("utility.minor_digits", utility.get("minor_digits"), 0, 4)
    reader.minor_digits = 2 if minor_digits is None else minor_digits
    currency = reader.matching("utility.currency", utility.get("currency"), re.compile("[A-Z]{3}"), "three capitals")
    timezone = reader.text("utility.timezone", utility.get("timezone"))
    offset = reader.whole("utility.utc_offset_minutes", utility.get("utc_offset_minutes"), -12 * 60, 14 * 60)
    window = reader.whole("utility.reversal_window_minutes", utility.get("reversal_window_minutes"), 0, 10**6)
    cap = reader.percent("utility.debt_cap_percent", utility.get("debt_cap_percent"))
    for key, only in _ONE_WAY.items():
        if key in utility and utility[key] != only:
            reader.fault(f"utility.{key}", f"only {json.dumps(only)} is reckoned, got {_shown(utility[key])}")
    fees: dict[str, int] = {}
    for channel, settings in reader.mapping("channels", entries.get("channels"), None).items():
        path = f"channels.{channel}"
        fee = reader.whole(
            f"{path}.fee_minor", reader.mapping(path, settings, {"fee_minor"}).get("fee_minor"), 0, 10**12
        )
        fees[channel] = 0 if fee is None else fee
    tariffs: dict[str, Tariff] = {}
    for index, item in enumerate(reader.entries("tariffs", entries.get("tariffs"))):
        tariff = reader.tariff(f"tariffs[{index}]", item)
        if tariff is not None and tariff.code in tariffs:
            reader.fault(f"tariffs[{index}].code", f"{tariff.code} stands there twice")
        elif tariff is not None:
            tariffs[tariff.code] = tariff
    reader.finish()
    assert minor_digits is not None and currency is not None and timezone is not None and cap is not None
    assert offset is not None and window is not None
    return TariffBook(currency, minor_digits, timezone, offset, cap, window, fees, tariffs)


class _Reader:
    """Reads a document from the top and keeps what is wrong. A method that finds a fault notes it and gives None."""

    def __init__(self, minor_digits: int, *, questions: bool = True) -> None:
        self.minor_digits = minor_digits
        self._questions = questions
        self._faults: list[str] = []

    def fault(self, path: str, words: str) -> None:
        self._faults.append(f"{path or 'tariff'}: {words}")

    def finish(self) -> None:
        if self._faults:
            raise TariffFaults(tuple(self._faults))

    # --- simple values

    def mapping(self, path: str, value: Any, keys: set[str] | None) -> Mapping[str, Any]:
        """An object with these keys, all of them (None: any); what is missing is told here, once."""
        if not isinstance(value, Mapping):
            self.fault(path, "missing" if value is None else f"an object expected, got {_shown(value)}")
            return {}
        for key in getattr(value, "repeated", ()):
            self.fault(f"{path}.{key}" if path else str(key), "stands there twice")
        for key in value:
            if keys is None or key in keys:
                continue
            place = f"{path}.{key}" if path else str(key)
            self.fault(place, _TIME_BANDS if str(key).lower() in _TIME_BAND_KEYS else "not known here")
        return value

    def entries(self, path: str, value: Any, *, may_be_empty: bool = False) -> list[Any]:
        if not isinstance(value, list):
            self.fault(path, "missing" if value is None else f"a list expected, got {_shown(value)}")
            return []
        if not value and not may_be_empty:
            self.fault(path, "must not be empty")
        if len(value) > _ENTRIES_MAX:
            self.fault(path, f"at most {_ENTRIES_MAX} entries expected, got {len(value)}")
            return []
        return value

    def text(self, path: str, value: Any) -> str | None:
        if not isinstance(value, str) or not value.strip():
            self.fault(path, "missing" if value is None else f"a text expected, got {_shown(value)}")
            return None
        return value

    def matching(self, path: str, value: Any, pattern: re.Pattern[str], like: str) -> str | None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.fault(path, "missing" if value is None else f"{like} expected, got {_shown(value)}")
            return None
        return value

    def named(self, path: str, value: Any, kind: type[_Named]) -> _Named | None:
        if not isinstance(value, str) or value not in {member.value for member in kind}:
            choices = " or ".join(member.value for member in kind)
            self.fault(path, "missing" if value is None else f"{choices} expected, got {_shown(value)}")
            return None
        return kind(value)

    def truth(self, path: str, value: Any) -> bool | None:
        if not isinstance(value, bool):
            self.fault(path, "missing" if value is None else f"true or false expected, got {_shown(value)}")
            return None
        return value

    def whole(self, path: str, value: Any, least: int, most: int) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(path, "missing" if value is None else f"a whole number expected, got {_shown(value)}")
            return None
        if not least <= value <= most:
            self.fault(path, f"{least} to {most} expected, got {_shown(value)}")
            return None
        return value

    def decimal(self, path: str, value: Any) -> Fraction | None:
        """A decimal string, not negative."""
        if value is None:
            self.fault(path, "missing")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self.fault(
                path, f'a decimal string such as "12.50" expected, got the number {_shown(value)}: put it in quotes'
            )
        elif not isinstance(value, str):
            self.fault(path, f"a decimal string expected, got {_shown(value)}")
        elif _NEGATIVE.fullmatch(value):
            self.fault(path, f"must not be negative, got {value}")
        elif not _DECIMAL.fullmatch(value):
            self.fault(path, f'a decimal with a point and no grouping such as "1234.50" expected, got {_shown(value)}')
        else:
            return Fraction(value)
        return None

    def percent(self, path: str, value: Any, *, below_one: str = "", is_meant: bool = False) -> Fraction | None:
        """0 to 100. One between 0 and 1 is taken for a slip unless `is_meant`; `below_one` says how to mean it."""
        percent = self.decimal(path, value)
        if percent is not None and percent > 100:
            self.fault(path, f"at most 100 expected, got {value}")
            return None
        if percent is not None and 0 < percent < 1 and self._questions and not is_meant:
            self.fault(
                path,
                f'{value} is less than one percent: write "16" for sixteen percent, not "0.16"{below_one}',
            )
            return None
        return percent

    # --- the parts of a tariff

    def tariff(self, path: str, value: Any) -> Tariff | None:
        before = len(self._faults)
        dot = f"{path}." if path else ""
        keys = {"code", "name", "sts_tariff_index", "units_rounding", "min_vend_minor", "max_vend_minor", "versions"}
        entries = self.mapping(path, value, keys)
        if not entries:
            if isinstance(value, Mapping):
                self.fault(path, "must not be empty")
            return None
        code = self.matching(f"{dot}code", entries.get("code"), _CODE, "a short code of letters, digits, _ . -")
        name = self.text(f"{dot}name", entries.get("name"))
        index = self.matching(f"{dot}sts_tariff_index", entries.get("sts_tariff_index"), _INDEX, "two digits")
        rounding = self.named(f"{dot}units_rounding", entries.get("units_rounding"), Rounding)
        least = self.whole(f"{dot}min_vend_minor", entries.get("min_vend_minor"), 1, 10**12)
        most = self.whole(f"{dot}max_vend_minor", entries.get("max_vend_minor"), 1, 10**12)
        if least is not None and most is not None and least > most:
            self.fault(f"{dot}max_vend_minor", f"must be at least min_vend_minor, {least}, got {most}")
        versions: list[TariffVersion] = []
        latest: datetime | None = None
        for number, item in enumerate(self.entries(f"{dot}versions", entries.get("versions"))):
            place = f"{dot}versions[{number}]"
            start, version = self.version(place, item)
            if start is not None and latest is not None and start <= latest:
                self.fault(f"{place}.effective_from", f"must be later than {latest.isoformat()} of the version before")
            latest = start or latest
            if version is not None:
                versions.append(version)
                if most is not None:
                    self.fits_a_token(f"{dot}max_vend_minor", number, version, most)
        if len(self._faults) > before:
            return None
        assert code is not None and name is not None and index is not None and rounding is not None
        assert least is not None and most is not None
        return Tariff(code, name, index, rounding, least, most, self.minor_digits, tuple(versions))

    def fits_a_token(self, path: str, number: int, version: TariffVersion, most_minor: int) -> None:
        """The largest purchase at the lowest price must not exceed what one token can carry."""
        rates = [block.rate for season in version.seasons for block in season.blocks]
        cheapest_minor = min(unit_price(version, rate) for rate in rates) * 10**self.minor_digits
        if cheapest_minor > 0 and 10 * most_minor / cheapest_minor > MOST_UNITS_TENTHS:
            self.fault(
                path,
                f"buys more than the {MOST_UNITS_TENTHS // 10} kWh that one token can carry, at the lowest price of"
                f" versions[{number}]",
            )

    def version(self, path: str, value: Any) -> tuple[datetime | None, TariffVersion | None]:
        """The start, as far as it can be read, and the version, if it is without fault."""
        before = len(self._faults)
        lists = ("seasons", "per_kwh_charges", "percent_charges", "fixed_charges")
        entries = self.mapping(path, value, {"effective_from", "vat_percent", "percents_below_one", *lists})
        if not isinstance(value, Mapping):
            return None, None
        start = self.start(f"{path}.effective_from", entries.get("effective_from"))
        is_meant = False
        if "percents_below_one" in entries:
            is_meant = self.truth(f"{path}.percents_below_one", entries["percents_below_one"]) or False
        below_one = f'; if it is meant, add "percents_below_one": true to {path}'
        vat = self.percent(f"{path}.vat_percent", entries.get("vat_percent"), below_one=below_one, is_meant=is_meant)
        seasons = self.seasons(f"{path}.seasons", entries.get("seasons"))
        codes: set[str] = set()
        per_kwh: list[PerKwhCharge] = []
        for place, item in self.charges(f"{path}.per_kwh_charges", entries, {"code", "rate", "vatable"}):
            code = self.charge_code(place, item, codes)
            rate = self.decimal(f"{place}.rate", item.get("rate"))
            vatable = self.truth(f"{place}.vatable", item.get("vatable"))
            if code is not None and rate is not None and vatable is not None:
                per_kwh.append(PerKwhCharge(code, rate, vatable))
        percent: list[PercentCharge] = []
        for place, item in self.charges(f"{path}.percent_charges", entries, {"code", "percent", "vatable"}):
            code = self.charge_code(place, item, codes)
            share = self.percent(f"{place}.percent", item.get("percent"), below_one=below_one, is_meant=is_meant)
            vatable = self.truth(f"{place}.vatable", item.get("vatable"))
            if code is not None and share is not None and vatable is not None:
                percent.append(PercentCharge(code, share, vatable))
        fixed: list[FixedCharge] = []
        for place, item in self.charges(f"{path}.fixed_charges", entries, {"code", "period", "amount"}):
            code = self.charge_code(place, item, codes)
            period = self.named(f"{place}.period", item.get("period"), Period)
            amount = self.decimal(f"{place}.amount", item.get("amount"))
            if code is not None and period is not None and amount is not None:
                fixed.append(FixedCharge(code, period, amount))
        if len(self._faults) > before:
            return start, None
        assert start is not None and vat is not None
        version = TariffVersion(start, vat, tuple(seasons), tuple(per_kwh), tuple(percent), tuple(fixed))
        for number, season in enumerate(seasons):
            for position, block in enumerate(season.blocks):
                if unit_price(version, block.rate) <= 0:
                    self.fault(
                        f"{path}.seasons[{number}].blocks[{position}].rate",
                        "a kWh must cost something, levies included: energy given away is free units of the account",
                    )
        return (start, version) if len(self._faults) == before else (start, None)

    def start(self, path: str, value: Any) -> datetime | None:
        like = 'a local date and time without zone such as "2026-07-01T00:00:00"'
        written = self.matching(path, value, _START, like)
        if written is None:
            return None
        try:
            return datetime.fromisoformat(written)
        except ValueError:
            self.fault(path, f"no such date or time: {written}")
            return None

    def seasons(self, path: str, value: Any) -> list[Season]:
        seasons: list[Season] = []
        seen: dict[int, str] = {}
        months_are_clear = True
        items = self.entries(path, value)
        for number, item in enumerate(items):
            place = f"{path}[{number}]"
            entries = self.mapping(place, item, {"months", "blocks"})
            if not isinstance(item, Mapping):
                months_are_clear = False
                continue
            months: list[int] = []
            written = self.entries(f"{place}.months", entries.get("months"))
            months_are_clear = months_are_clear and bool(written)
            for position, month in enumerate(written):
                checked = self.whole(f"{place}.months[{position}]", month, 1, 12)
                if checked is None:
                    months_are_clear = False
                elif checked in seen:
                    self.fault(f"{place}.months[{position}]", f"month {checked} stands in {seen[checked]} already")
                else:
                    seen[checked] = place
                    months.append(checked)
            seasons.append(Season(tuple(months), tuple(self.blocks(f"{place}.blocks", entries.get("blocks")))))
        missing = [str(month) for month in range(1, 13) if month not in seen]
        if items and missing and months_are_clear:
            self.fault(path, f"no season has month {', '.join(missing)}")
        return seasons

    def blocks(self, path: str, value: Any) -> list[Block]:
        blocks: list[Block] = []
        below, below_written = Fraction(0), "0"
        items = self.entries(path, value)
        for number, item in enumerate(items):
            place = f"{path}[{number}]"
            entries = self.mapping(place, item, {"upto_kwh", "rate"})
            if not isinstance(item, Mapping):
                continue
            rate = self.decimal(f"{place}.rate", entries.get("rate"))
            upto: Fraction | None = None
            is_last = number == len(items) - 1
            if "upto_kwh" not in entries:
                self.fault(f"{place}.upto_kwh", "missing; null means without limit")
            elif entries["upto_kwh"] is None:
                if not is_last:
                    self.fault(f"{place}.upto_kwh", "only the last block is without limit")
            elif is_last:
                self.fault(
                    f"{place}.upto_kwh",
                    f"the last block must be without limit (null), got {_shown(entries['upto_kwh'])}",
                )
            else:
                upto = self.decimal(f"{place}.upto_kwh", entries["upto_kwh"])
                if upto is not None and upto <= below:
                    self.fault(f"{place}.upto_kwh", f"must be greater than {below_written}")
                elif upto is not None:
                    below, below_written = upto, entries["upto_kwh"]
            if rate is not None:
                blocks.append(Block(upto, rate))
        return blocks

    def charges(self, path: str, version: Mapping[str, Any], keys: set[str]) -> list[tuple[str, Mapping[str, Any]]]:
        """The entries of a list of charges, which may be empty but not missing, with their places."""
        items = self.entries(path, version.get(path.rpartition(".")[2]), may_be_empty=True)
        found = []
        for number, item in enumerate(items):
            place = f"{path}[{number}]"
            entries = self.mapping(place, item, keys)
            if isinstance(item, Mapping):
                found.append((place, entries))
        return found

    def charge_code(self, place: str, item: Mapping[str, Any], codes: set[str]) -> str | None:
        code = self.matching(f"{place}.code", item.get("code"), _CODE, "a short code of letters, digits, _ . -")
        if code is not None and code in codes:
            self.fault(f"{place}.code", f"{code} is another charge of this version already")
            return None
        if code is not None:
            codes.add(code)
        return code


def _shown(value: Any) -> str:
    """A value for a fault's words, cut short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a very large number"
    written = repr(value) if not isinstance(value, str) else f'"{value}"'
    return written if len(written) <= 60 else f"{written[:57]}..."
