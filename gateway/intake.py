"""Takes in a utility's records from a folder of CSV and JSON files (the form of gateway/sample/README.md).

Every file is read and checked before anything is stored; all faults are told at once, by file and line. Loading the
same folder twice changes nothing; where a record that is there already differs from the file, that is told.
"""

from __future__ import annotations

import asyncio
import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import ledger.tariffs
from config import languages
from config.settings import UtilitySettings
from gateway.logs import mask_phone
from gateway.world import World
from ledger import openings, records, tables
from ledger.money import plain, to_minor
from ledger.openings import Opening
from ledger.records import There
from ledger.store import Store
from ledger.tariffs import TariffChanged
from ledger.tariffs_format import TariffFaults, read_tariff
from sts.errors import StsError
from sts.meterkey import MeterKey

_EACH = ("customers.csv", "meters.csv", "stations.csv", "arrears.csv", "tariffs.json")
_COLUMNS: Final[Mapping[str, str]] = {
    "customers.csv": "account_no first_name last_name category msisdn language service_point area free_kwh_per_month"
    " status",
    "meters.csv": "drn service_point encryption_algorithm supply_group_code key_revision_no tariff_index base_date"
    " key_expiry_no tariff_code status",
    "stations.csv": "station_id name kind funding float credit_limit owed commission_percent sgcs",
    "arrears.csv": "debt_id account_no kind outstanding mode percent instalment priority status",
    "phones.csv": "msisdn station_id",
    "balances.csv": "account amount",
}
# What may stand in one row of a file only.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "customers.csv": ("account_no", "msisdn", "service_point"),
    "meters.csv": ("drn",),
    "stations.csv": ("station_id",),
    "arrears.csv": ("debt_id",),
    "phones.csv": ("msisdn",),
    "balances.csv": ("account",),
}
_OPENINGS_AT_ONCE = 1000
_NAMES_TOLD = 5
_STATUSES = tuple("IN_STOCK ISSUED INSTALLED BLOCKED FAULTY REMOVED REPAIRED SCRAPPED".split())
_PERCENT: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
# More than any utility has, and far from where the database's integers end.
_AMOUNT_MAX_MINOR: Final = 10**15


class IntakeFaults(Exception):
    """The folder cannot be loaded; nothing was. `faults` are sentences with file and line."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(slots=True)
class Intake:
    """A folder's records, checked and ready to store."""

    tariffs: list[dict[str, Any]] = field(default_factory=list)
    customers: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    meters: list[dict[str, Any]] = field(default_factory=list)
    stations: list[dict[str, Any]] = field(default_factory=list)
    phones: list[dict[str, Any]] = field(default_factory=list)
    debts: list[dict[str, Any]] = field(default_factory=list)
    balances: list[tuple[str, str, int]] = field(default_factory=list)  # name, account, signed minor units

    @property
    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {
            "tariffs": len(self.tariffs),
            "customers": len(self.customers),
            "service points": len(self.points),
            "meters": len(self.meters),
            "stations": len(self.stations),
            "phones": len(self.phones),
            "debts": len(self.debts),
            "balances": len(self.balances),
        }


def read_folder(folder: Path, utility: UtilitySettings, now_local: datetime, new_id: Callable[[], UUID]) -> Intake:
    """Read and check a folder. Counters start at the local month and day of `now_local`. Raises IntakeFaults."""
    return _Reader(folder, utility, now_local, new_id).read()


# --- storing ----------------------------------------------------------------------------------------------------------


async def store_intake(
    store: Store, intake: Intake, utility: UtilitySettings, world: World, today: datetime
) -> list[str]:
    """Store everything that is not there yet: records in one transaction, then each opening balance once.

    Gives sentences about what was there already, and which of it differs from the files and was left as it is.
    Raises IntakeFaults if a tariff contradicts the one stored.
    """
    try:
        told, balances = await store.transact(lambda connection: _write(connection, intake, utility))
    except TariffChanged as changed:
        raise IntakeFaults([f"tariffs.json: {changed}"]) from None
    waiting = [Opening(*balance, today.date(), world.now()) for balance in balances]
    for start in range(0, len(waiting), _OPENINGS_AT_ONCE):
        await asyncio.gather(*(store.submit(opening) for opening in waiting[start : start + _OPENINGS_AT_ONCE]))
    return told


def _write(connection: Any, intake: Intake, utility: UtilitySettings) -> tuple[list[str], list[tuple[str, str, int]]]:
    """Store the records. Gives what was there already, in sentences, and the balances still to be brought in.

    Compared is what the files say; counters, and what operators and customers change, have a life of their own.
    """
    currency = utility.currency
    told: list[str] = []

    def there(table: Any, rows: Sequence[Mapping[str, Any]], key: str, compared: str) -> There:
        return records.there(connection, table, rows, key=key, compared=compared.split())

    def tell(kind: str, count: int, different: Collection[str] = ()) -> None:
        if count:
            told.append(_told(kind, count, list(dict.fromkeys(different))))

    records.ensure_accounts(connection, records.SYSTEM_ACCOUNTS, currency)
    saved = [
        ledger.tariffs.save(connection, document, minor_digits=utility.minor_digits, currency=currency)
        for document in intake.tariffs
    ]
    tell("tariffs", saved.count(False))

    was = there(tables.customer, intake.customers, "account_no", "name category language status")
    tell("customers", was.count, was.different)
    records.customers(connection, intake.customers, currency)

    was = there(tables.station, intake.stations, "code", "name kind funding commission_percent supply_groups")
    known = {row["code"] for row in intake.stations} & records.ids(connection, tables.station, "code").keys()
    limits = [code for code in records.credit_limits(connection, intake.stations) if code in known]
    tell("stations", was.count, [*was.different, *limits])
    records.stations(connection, intake.stations, currency)

    # Rows that were there before keep their ids; what hangs on them must find those.
    customer_ids = records.ids(connection, tables.customer, "account_no")
    station_ids = records.ids(connection, tables.station, "code")
    points = [_linked(row, customer_id=customer_ids[row["customer_id"]]) for row in intake.points]
    was = there(tables.service_point, points, "code", "customer_id area tariff_code free_kwh_per_month")
    tell("service points", was.count, was.different)
    records.service_points(connection, points)

    point_ids = records.ids(connection, tables.service_point, "code")
    meters = [_linked(row, service_point_id=point_ids.get(row["service_point_id"])) for row in intake.meters]
    was = there(
        tables.meter,
        meters,
        "drn",
        "iin service_point_id status encryption_algorithm key_generation key_type supply_group key_revision"
        " tariff_index key_expiry base_date",
    )
    tell("meters", was.count, was.different)
    records.meters(connection, meters)

    phones = [
        _linked(
            row,
            customer_id=customer_ids.get(row["customer_id"]),
            station_id=station_ids.get(row["station_id"]),
        )
        for row in intake.phones
    ]
    was = there(tables.phone, phones, "msisdn", "customer_id station_id")
    tell("phones", was.count, [mask_phone(number) for number in was.different])
    records.phones(connection, phones)

    brought = openings.brought_in(connection, [(name, account) for name, account, _ in intake.balances])
    debts = [_linked(row, service_point_id=point_ids[row["service_point_id"]]) for row in intake.debts]
    was = there(tables.debt, debts, "code", "service_point_id kind priority mode instalment_minor percent status")
    # What is outstanding shrinks with every purchase; what it was at first is the balance that was brought in.
    without = [row for row in debts if f"debt:{row['code']}" not in brought]
    other_sum = {f"debt:{code}" for code in there(tables.debt, without, "code", "outstanding_minor").different}
    tell("debts", was.count, [*was.different, *(name.removeprefix("debt:") for name in sorted(other_sum))])
    records.debts(connection, debts)

    differ = [name for name, _, amount_minor in intake.balances if brought.get(name, amount_minor) != amount_minor]
    tell("balances", len(brought), differ)
    return told, [balance for balance in intake.balances if balance[0] not in brought and balance[0] not in other_sum]


def _linked(row: Mapping[str, Any], **links: UUID | None) -> dict[str, Any]:
    return {**row, **links}


def _told(kind: str, count: int, different: Sequence[str]) -> str:
    """ "12 customers were there already; 3 of them differ from the file and were left as they are: A1, A2, A3"."""
    said = f"{count} {kind} were there already" if count > 1 else f"1 {kind[:-1]} was there already"
    if not different:
        return said
    names = ", ".join(different[:_NAMES_TOLD])
    more = f" and {len(different) - _NAMES_TOLD} more" if len(different) > _NAMES_TOLD else ""
    if count == 1:
        return f"{said}; it differs from the file and was left as it is: {names}"
    if len(different) == 1:
        return f"{said}; 1 of them differs from the file and was left as it is: {names}"
    return f"{said}; {len(different)} of them differ from the file and were left as they are: {names}{more}"


# --- reading ----------------------------------------------------------------------------------------------------------


class _Row:
    """One line of a file. What asks for a value notes a fault if it cannot be used, and gives something harmless."""

    __slots__ = ("_faults", "_minor_digits", "is_sound", "values", "where")

    def __init__(self, where: str, values: Mapping[str, str], faults: list[str], minor_digits: int) -> None:
        self.where = where
        self.values = values
        self.is_sound = True
        self._faults = faults
        self._minor_digits = minor_digits

    def fault(self, column: str, words: str) -> None:
        self.is_sound = False
        self._faults.append(f"{self.where}: {column}: {words}")

    def text(self, column: str) -> str:
        """As it stands; empty if it is missing or optional."""
        return self.values.get(column, "")

    def given(self, column: str) -> str:
        text = self.text(column)
        if not text:
            self.fault(column, "a value expected")
        return text

    def one_of(self, column: str, choices: Sequence[str]) -> str:
        text = self.text(column)
        if text not in choices:
            self.fault(column, f"{', '.join(choices[:-1])} or {choices[-1]} expected, got {text!r}")
        return text

    def whole(self, column: str, otherwise: int | None = None) -> int:
        text = self.text(column)
        if not text and otherwise is not None:
            return otherwise
        if not _WHOLE.fullmatch(text):
            self.fault(column, f"a whole number expected, got {text!r}")
            return 0
        return int(text)

    def phone(self, column: str) -> str:
        text = self.text(column)
        if not (text.isascii() and text.isdigit() and 6 <= len(text) <= 15):
            self.fault(column, "6 to 15 digits expected")
        return text

    def minor(self, column: str) -> int:
        """An amount of money, none if empty, never negative."""
        text = self.text(column)
        try:
            amount_minor = to_minor(text or "0", self._minor_digits)
        except ValueError as error:
            self.fault(column, f"{error}")
            return 0
        if amount_minor < 0:
            self.fault(column, f"must not be negative, got {text}")
        elif amount_minor > _AMOUNT_MAX_MINOR:
            self.fault(column, f"at most {plain(_AMOUNT_MAX_MINOR, self._minor_digits)} expected, got {text}")
        return amount_minor

    def percent(self, column: str, *, least: str = "0") -> str:
        """A percentage as a decimal, 0 if empty; one above 0 and below `least` is a slip for a fraction of one."""
        text = self.text(column) or "0"
        if not _PERCENT.fullmatch(text):
            self.fault(column, f'a decimal number such as "2.5", without a percent sign, expected, got {text!r}')
        elif Decimal(text) > 100:
            self.fault(column, f"0 to 100 expected, got {text}")
        elif 0 < Decimal(text) < Decimal(least):
            self.fault(column, f"{text} percent? write 2 for two percent")
        return text


def _place(fault: str) -> tuple[str, int]:
    """By which faults are sorted: file and line."""
    found = re.match(r"(\S+) line (\d+)", fault)
    return (found[1], int(found[2])) if found else (fault.partition(" ")[0].rstrip(":"), 0)


class _Reader:
    def __init__(self, folder: Path, utility: UtilitySettings, now_local: datetime, new_id: Callable[[], UUID]) -> None:
        self._folder = folder
        self._utility = utility
        self._today = now_local.date()
        self._month = f"{now_local:%Y-%m}"
        self._new_id = new_id
        self._languages = sorted(languages.load(utility.default_language).languages)
        self._faults: list[str] = []
        self._unread: set[str] = set()  # files of which not every line is known: nothing is missed in them
        self._rows: dict[str, list[_Row]] = {}
        self._out = Intake()

    def read(self) -> Intake:
        if missing := [name for name in _EACH if not (self._folder / name).is_file()]:
            raise IntakeFaults([f"{name}: not found in {self._folder}" for name in missing])
        for name in _COLUMNS:
            if name in _EACH or (self._folder / name).is_file():
                self._rows[name] = list(self._read(name))
        self._tariffs()
        self._once()
        self._links()
        for name, take in (
            ("customers.csv", self._customer),
            ("meters.csv", self._meter),
            ("stations.csv", self._station),
            ("arrears.csv", self._debt),
            ("phones.csv", self._station_phone),
            ("balances.csv", self._balance),
        ):
            for row in self._rows.get(name, ()):
                take(row)
        if self._faults:
            raise IntakeFaults(sorted(self._faults, key=_place))
        return self._out

    # --- files ---

    def _read(self, name: str) -> Iterator[_Row]:
        try:
            with (self._folder / name).open(encoding="utf-8-sig", newline="") as lines:
                reader = csv.DictReader(lines, strict=True)
                columns = [column.strip() for column in reader.fieldnames or ()]
                reader.fieldnames = columns
                if lacking := [column for column in _COLUMNS[name].split() if column not in columns]:
                    self._unread.add(name)
                    self._faults.append(f"{name} line 1: columns missing: {', '.join(lacking)}")
                    return
                for row in reader:
                    where = f"{name} line {reader.line_num}"
                    if None in row or None in row.values():
                        self._unread.add(name)
                        self._faults.append(f"{where}: as many values as columns expected")
                    elif any("\0" in value for value in row.values()):
                        self._faults.append(f"{where}: a NUL character, which is no text")
                    else:
                        values = {key: value.strip() for key, value in row.items()}
                        yield _Row(where, values, self._faults, self._utility.minor_digits)
        except (UnicodeDecodeError, csv.Error) as error:
            self._unread.add(name)
            self._faults.append(f"{name}: UTF-8 text with commas expected: {error}")

    def _tariffs(self) -> None:
        try:
            document = json.loads((self._folder / "tariffs.json").read_text(encoding="utf-8"))
            self._out.tariffs = list(document["tariffs"])
        except (ValueError, KeyError, TypeError) as error:
            self._unread.add("tariffs.json")
            self._faults.append(f'tariffs.json: an object with a list "tariffs" expected: {error}')
            return
        codes: set[str] = set()
        for tariff in self._out.tariffs:
            code = str(tariff.get("code", "?")) if isinstance(tariff, dict) else "?"
            if code in codes - {"?"}:
                self._faults.append(f"tariffs.json {code}: code: another tariff has it already")
            codes.add(code)
            try:
                read_tariff(tariff, minor_digits=self._utility.minor_digits)
            except TariffFaults as faults:
                self._faults.extend(f"tariffs.json {code}: {fault}" for fault in faults.faults)
        self._tariff_codes = codes

    # --- what rows have to do with each other ---

    def _once(self) -> None:
        """Drop rows that repeat another one word for word; a key that stands in two other rows is a fault."""
        for name, rows in self._rows.items():
            first: dict[tuple[str, str], _Row] = {}
            kept: list[_Row] = []
            for row in rows:
                earlier = {key: first.setdefault((key, row.text(key)), row) for key in _KEYS[name] if row.text(key)}
                if any(other is not row and other.values == row.values for other in earlier.values()):
                    continue
                kept.append(row)
                for key, other in earlier.items():
                    if other is not row:
                        # Phone numbers are not shown, and need not be: the lines are.
                        value = "the same number" if key == "msisdn" else row.text(key)
                        row.fault(key, f"{value} stands in {other.where} already")
            self._rows[name] = kept

    def _links(self) -> None:
        """What the rows of one file may refer to in another, faulty rows included: those have faults of their own."""
        rows = self._rows
        self._accounts = {row.text("account_no"): row for row in rows["customers.csv"]}
        self._points = {row.text("service_point") for row in rows["customers.csv"]} - {""}
        self._customer_phones = {row.text("msisdn"): row for row in rows["customers.csv"]}
        self._stations = {row.text("station_id"): row for row in rows["stations.csv"]}
        self._tariff_of: dict[str, _Row] = {}
        for row in rows["meters.csv"]:
            self._tariff_of.setdefault(row.text("service_point"), row)

    def _is_known(self, name: str, known: Collection[str], wanted: str) -> bool:
        return wanted in known or name in self._unread

    # --- records ---

    def _customer(self, row: _Row) -> None:
        account_no, code = row.given("account_no"), row.given("service_point")
        if code and not self._is_known("meters.csv", self._tariff_of, code):
            row.fault("service_point", f"no meter at {code!r} in meters.csv, which would name its tariff")
        meter = self._tariff_of.get(code)
        free_kwh = row.text("free_kwh_per_month")
        self._out.customers.append(
            {
                "id": self._new_id(),
                "account_no": account_no,
                "name": f"{row.text('first_name')} {row.text('last_name')}".strip(),
                "category": row.given("category"),
                "language": row.one_of("language", self._languages),
                "status": row.given("status"),
            }
        )
        self._out.points.append(
            {
                "id": self._new_id(),
                "code": code,
                "customer_id": account_no,
                "area": row.text("area"),
                "tariff_code": meter.text("tariff_code") if meter is not None else "",
                "counter_month": self._month,
                "month_units_tenths": 0,
                "fixed_through_month": self._month,
                "fixed_through_date": self._today,
                "fixed_shortfall_minor": 0,
                "carry_minor": 0,
                "free_kwh_per_month": row.whole("free_kwh_per_month") if free_kwh else None,
                "free_last_month": "",
                "vending": None,
            }
        )
        self._phone(row, customer=account_no)

    def _phone(self, row: _Row, *, customer: str | None = None, station: str | None = None) -> None:
        self._out.phones.append(
            {
                "msisdn": row.phone("msisdn"),
                "customer_id": customer,
                "station_id": station,
                "language": None,
                "notices_stopped_at": None,
            }
        )

    def _meter(self, row: _Row) -> None:
        status = row.one_of("status", _STATUSES)
        self._place_of(row, status)
        ea = row.whole("encryption_algorithm")
        numbers = {
            "key_type": row.whole("key_type", 2),
            "key_revision": row.whole("key_revision_no"),
            "key_expiry": row.whole("key_expiry_no"),
            "base_date": row.whole("base_date"),
            "dkga": row.whole("key_generation", 2 if ea == 7 else 4),
        }
        if not row.is_sound:
            return
        drn = row.text("drn")
        try:
            key = MeterKey(
                drn=drn,
                iin=self._utility.iin if len(drn) == 11 else "0000",
                supply_group=row.text("supply_group_code"),
                tariff_index=row.text("tariff_index"),
                ea=ea,
                **numbers,
            )
        except StsError as error:
            self._faults.append(f"{row.where}: {error}")
            return
        self._out.meters.append(
            {
                "id": self._new_id(),
                "drn": key.drn,
                "iin": key.iin,
                "service_point_id": row.text("service_point") or None,
                "status": status,
                "encryption_algorithm": key.ea,
                "key_generation": key.dkga,
                "key_type": key.key_type,
                "supply_group": key.supply_group,
                "key_revision": key.key_revision,
                "tariff_index": key.tariff_index,
                "key_expiry": key.key_expiry,
                "base_date": key.base_date,
                "last_tid": None,
                "next_key": row.text("next_key") or None,
                "next_last_tid": None,
                "change_given_at": None,
            }
        )

    def _place_of(self, row: _Row, status: str) -> None:
        """Check where a meter hangs and by which tariff it sells."""
        point, tariff = row.text("service_point"), row.text("tariff_code")
        if not point and status == "INSTALLED":
            row.fault("service_point", "a value expected, since the meter is INSTALLED")
        if point and not self._is_known("customers.csv", self._points, point):
            row.fault("service_point", f"no customer at {point!r} in customers.csv")
        if point and not tariff:
            row.fault("tariff_code", "a value expected")
        if tariff and "tariffs.json" not in self._unread and tariff not in self._tariff_codes:
            row.fault("tariff_code", f"no tariff {tariff!r} in tariffs.json")
        if point and tariff and (first := self._tariff_of[point]).text("tariff_code") not in ("", tariff):
            row.fault("tariff_code", f"{first.text('tariff_code')} in {first.where}, at the same service point")

    def _station(self, row: _Row) -> None:
        code, funding = row.given("station_id"), row.one_of("funding", ("PREPAID", "CREDIT"))
        limit_minor, deposit_minor, owed_minor = row.minor("credit_limit"), row.minor("float"), row.minor("owed")
        if funding == "CREDIT" and owed_minor > limit_minor:
            row.fault("owed", f"at most the credit_limit, {row.text('credit_limit') or 0}, expected")
        self._out.stations.append(
            {
                "id": self._new_id(),
                "code": code,
                "name": row.text("name"),
                "kind": row.given("kind"),
                "funding": funding,
                # A commission below a tenth of a percent pays for nobody's counter.
                "commission_percent": row.percent("commission_percent", least="0.1"),
                "supply_groups": " ".join(row.text("sgcs").split(";")),
                "credit_limit_minor": limit_minor,
            }
        )
        if funding == "PREPAID":
            self._opens(f"float:{code}", f"float:{code}", deposit_minor)
        else:
            self._opens(f"owed:{code}", f"owed:{code}", -owed_minor)

    def _station_phone(self, row: _Row) -> None:
        station = row.given("station_id")
        if station and not self._is_known("stations.csv", self._stations, station):
            row.fault("station_id", f"no station {station!r} in stations.csv")
        if (other := self._customer_phones.get(row.text("msisdn"))) is not None:
            row.fault("msisdn", f"the same number stands in {other.where} already")
        self._phone(row, station=station)

    def _debt(self, row: _Row) -> None:
        code, account = row.given("debt_id"), row.given("account_no")
        if account and not self._is_known("customers.csv", self._accounts, account):
            row.fault("account_no", f"no customer {account!r} in customers.csv")
        customer = self._accounts.get(account)
        outstanding_minor = row.minor("outstanding")
        self._out.debts.append(
            {
                "id": self._new_id(),
                "code": code,
                "service_point_id": customer.text("service_point") if customer is not None else "",
                "kind": row.given("kind"),
                "priority": row.whole("priority"),
                "mode": row.one_of("mode", ("PERCENT", "FIXED", "FIRST")),
                "outstanding_minor": outstanding_minor,
                "instalment_minor": row.minor("instalment"),
                "percent": row.percent("percent"),
                "status": row.one_of("status", ("ACTIVE", "SUSPENDED")),
                "recovered_this_month_minor": 0,
            }
        )
        self._opens(f"debt:{code}", "receivable:arrears", -outstanding_minor)

    def _balance(self, row: _Row) -> None:
        code, amount_minor = row.given("account"), row.minor("amount")
        kind, _, owner = code.partition(":")
        if kind == "wallet":
            if not self._is_known("customers.csv", self._accounts, owner):
                row.fault("account", f"no customer for {code!r} in customers.csv")
        elif kind == "float":
            station = self._stations.get(owner)
            if station is None and "stations.csv" not in self._unread:
                row.fault("account", f"no station for {code!r} in stations.csv")
            elif station is not None and station.text("funding") == "CREDIT":
                row.fault("account", f"station {owner} is on CREDIT and has no deposit")
            elif station is not None and station.text("float").strip("0."):
                row.fault("account", f"{station.where} has the station's float already")
        elif code:
            row.fault("account", f"wallet:ACCOUNT or float:STATION expected, got {code!r}")
        if amount_minor == 0 and row.is_sound:
            row.fault("amount", "more than zero expected")
        self._opens(code, code, amount_minor)

    def _opens(self, name: str, account_code: str, amount_minor: int) -> None:
        if amount_minor:
            self._out.balances.append((name, account_code, amount_minor))
