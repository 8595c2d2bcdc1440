"""Takes in a utility's records from a folder of CSV and JSON files (the form of gateway/sample/README.md).

Every file is read and checked before anything is stored; all faults are told at once, by file and line. Loading the
same folder twice changes nothing.
"""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import ledger.tariffs
from config.settings import UtilitySettings
from gateway.world import World
from ledger import records, tables
from ledger.accounts import kind_of
from ledger.money import to_minor
from ledger.openings import Opening
from ledger.store import Store
from ledger.tariffs_format import TariffFaults, read_tariff
from sts.errors import StsError
from sts.meterkey import MeterKey

_EACH = ("customers.csv", "meters.csv", "stations.csv", "arrears.csv", "tariffs.json")
_OPENINGS_AT_ONCE = 1000
_STATUSES = frozenset("IN_STOCK ISSUED INSTALLED BLOCKED FAULTY REMOVED REPAIRED SCRAPPED".split())


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


async def store_intake(store: Store, intake: Intake, utility: UtilitySettings, world: World, today: datetime) -> None:
    """Store everything that is not there yet: records in one transaction, then each opening balance once."""

    def write(connection: Any) -> None:
        currency = utility.currency
        records.ensure_accounts(connection, records.SYSTEM_ACCOUNTS, currency)
        for document in intake.tariffs:
            ledger.tariffs.save(connection, document, minor_digits=utility.minor_digits, currency=currency)
        records.customers(connection, intake.customers, currency)
        records.stations(connection, intake.stations, currency)
        # Rows that were there before keep their ids; what hangs on them must find those.
        customer_ids = records.ids(connection, tables.customer, "account_no")
        station_ids = records.ids(connection, tables.station, "code")
        points = [_linked(row, customer_id=customer_ids[row["customer_id"]]) for row in intake.points]
        records.service_points(connection, points)
        point_ids = records.ids(connection, tables.service_point, "code")
        meters = [_linked(row, service_point_id=point_ids.get(row["service_point_id"])) for row in intake.meters]
        records.meters(connection, meters)
        phones = [
            _linked(
                row,
                customer_id=customer_ids.get(row["customer_id"]),
                station_id=station_ids.get(row["station_id"]),
            )
            for row in intake.phones
        ]
        records.phones(connection, phones)
        debts = [_linked(row, service_point_id=point_ids[row["service_point_id"]]) for row in intake.debts]
        records.debts(connection, debts)

    await store.transact(write)
    openings = [Opening(*balance, today.date(), world.now()) for balance in intake.balances]
    for start in range(0, len(openings), _OPENINGS_AT_ONCE):
        await asyncio.gather(*(store.submit(opening) for opening in openings[start : start + _OPENINGS_AT_ONCE]))


def _linked(row: Mapping[str, Any], **links: UUID | None) -> dict[str, Any]:
    return {**row, **links}


class _Reader:
    def __init__(self, folder: Path, utility: UtilitySettings, now_local: datetime, new_id: Callable[[], UUID]) -> None:
        self._folder = folder
        self._utility = utility
        self._today = now_local.date()
        self._month = f"{now_local:%Y-%m}"
        self._new_id = new_id
        self._faults: list[str] = []
        self._out = Intake()

    def read(self) -> Intake:
        if missing := [name for name in _EACH if not (self._folder / name).is_file()]:
            raise IntakeFaults([f"{name}: not found in {self._folder}" for name in missing])
        self._tariffs()
        meters = list(self._rows("meters.csv"))
        tariff_of_point = {row["service_point"]: row["tariff_code"] for _, row in meters if row.get("service_point")}
        self._each("customers.csv", lambda row: self._customer(row, tariff_of_point))
        for where, row in meters:
            self._guarded(where, lambda row=row: self._meter(row))  # type: ignore[misc]
        self._each("stations.csv", self._station)
        point_of = {point["customer_id"]: point["code"] for point in self._out.points}
        self._each("arrears.csv", lambda row: self._debt(row, point_of))
        if (self._folder / "phones.csv").is_file():
            self._each("phones.csv", self._station_phone)
        if (self._folder / "balances.csv").is_file():
            self._each("balances.csv", self._balance)
        if self._faults:
            raise IntakeFaults(self._faults)
        return self._out

    # --- files ---

    def _rows(self, name: str) -> Iterator[tuple[str, dict[str, str]]]:
        try:
            with (self._folder / name).open(encoding="utf-8-sig", newline="") as lines:
                reader = csv.DictReader(lines, strict=True)
                for row in reader:
                    if None in row or None in row.values():
                        self._faults.append(f"{name} line {reader.line_num}: as many values as columns expected")
                        continue
                    yield f"{name} line {reader.line_num}", {key: value.strip() for key, value in row.items()}
        except (UnicodeDecodeError, csv.Error) as error:
            self._faults.append(f"{name}: UTF-8 text with commas expected: {error}")

    def _each(self, name: str, take: Callable[[dict[str, str]], None]) -> None:
        for where, row in self._rows(name):
            self._guarded(where, lambda row=row: take(row))  # type: ignore[misc]

    def _guarded(self, where: str, take: Callable[[], None]) -> None:
        try:
            take()
        except KeyError as error:
            self._faults.append(f"{where}: column or reference {error} missing")
        except (ValueError, StsError) as error:
            self._faults.append(f"{where}: {error}")

    def _tariffs(self) -> None:
        try:
            document = json.loads((self._folder / "tariffs.json").read_text(encoding="utf-8"))
            self._out.tariffs = list(document["tariffs"])
        except (ValueError, KeyError, TypeError) as error:
            self._faults.append(f'tariffs.json: an object with a list "tariffs" expected: {error}')
            return
        for tariff in self._out.tariffs:
            try:
                read_tariff(tariff, minor_digits=self._utility.minor_digits)
            except TariffFaults as faults:
                name = tariff.get("code", "?") if isinstance(tariff, dict) else "?"
                self._faults.extend(f"tariffs.json {name}: {fault}" for fault in faults.faults)

    # --- records ---

    def _customer(self, row: dict[str, str], tariff_of_point: Mapping[str, str]) -> None:
        customer = {
            "id": self._new_id(),
            "account_no": _given(row, "account_no"),
            "name": f"{row['first_name']} {row['last_name']}".strip(),
            "category": _given(row, "category"),
            "language": _given(row, "language"),
            "status": _given(row, "status"),
        }
        point = {
            "id": self._new_id(),
            "code": _given(row, "service_point"),
            "customer_id": customer["account_no"],
            "area": row["area"],
            "tariff_code": tariff_of_point[row["service_point"]],
            "counter_month": self._month,
            "month_units_tenths": 0,
            "fixed_through_month": self._month,
            "fixed_through_date": self._today,
            "fixed_shortfall_minor": 0,
            "carry_minor": 0,
            "free_kwh_per_month": int(row["free_kwh_per_month"]) if row["free_kwh_per_month"] else None,
            "free_last_month": "",
            "vending": None,
        }
        phone = {
            "msisdn": _digits(row, "msisdn"),
            "customer_id": customer["account_no"],
            "station_id": None,
            "language": None,
            "notices_stopped_at": None,
        }
        self._out.customers.append(customer)
        self._out.points.append(point)
        self._out.phones.append(phone)

    def _meter(self, row: dict[str, str]) -> None:
        ea = int(row["encryption_algorithm"])
        if row["status"] not in _STATUSES:
            raise ValueError(f"status: one of {', '.join(sorted(_STATUSES))} expected, got {row['status']!r}")
        key = MeterKey(
            drn=row["drn"],
            iin=self._utility.iin if len(row["drn"]) == 11 else "0000",
            supply_group=row["supply_group_code"],
            key_type=int(row.get("key_type") or 2),
            tariff_index=row["tariff_index"],
            key_revision=int(row["key_revision_no"]),
            key_expiry=int(row["key_expiry_no"]),
            base_date=int(row["base_date"]),
            ea=ea,
            dkga=int(row.get("key_generation") or (2 if ea == 7 else 4)),
        )
        self._out.meters.append(
            {
                "id": self._new_id(),
                "drn": key.drn,
                "iin": key.iin,
                "service_point_id": row["service_point"] or None,
                "status": row["status"],
                "encryption_algorithm": key.ea,
                "key_generation": key.dkga,
                "key_type": key.key_type,
                "supply_group": key.supply_group,
                "key_revision": key.key_revision,
                "tariff_index": key.tariff_index,
                "key_expiry": key.key_expiry,
                "base_date": key.base_date,
                "last_tid": None,
                "next_key": row.get("next_key") or None,
                "next_last_tid": None,
                "change_given_at": None,
            }
        )

    def _station(self, row: dict[str, str]) -> None:
        funding = _given(row, "funding")
        if funding not in ("PREPAID", "CREDIT"):
            raise ValueError(f"funding: PREPAID or CREDIT expected, got {funding!r}")
        code = _given(row, "station_id")
        self._out.stations.append(
            {
                "id": self._new_id(),
                "code": code,
                "name": row["name"],
                "kind": _given(row, "kind"),
                "funding": funding,
                "commission_percent": row["commission_percent"] or "0",
                "supply_groups": " ".join(row["sgcs"].split(";")),
                "credit_limit_minor": self._minor(row["credit_limit"] or "0"),
            }
        )
        if funding == "PREPAID" and row["float"]:
            self._opens(f"float:{code}", f"float:{code}", self._minor(row["float"]))
        elif funding == "CREDIT" and self._minor(row["owed"] or "0"):
            self._opens(f"owed:{code}", f"owed:{code}", -self._minor(row["owed"]))

    def _station_phone(self, row: dict[str, str]) -> None:
        if row["station_id"] not in {station["code"] for station in self._out.stations}:
            raise ValueError(f"station_id: no station {row['station_id']!r}")
        self._out.phones.append(
            {
                "msisdn": _digits(row, "msisdn"),
                "customer_id": None,
                "station_id": row["station_id"],
                "language": None,
                "notices_stopped_at": None,
            }
        )

    def _debt(self, row: dict[str, str], point_of: Mapping[str, str]) -> None:
        if row["mode"] not in ("PERCENT", "FIXED", "FIRST"):
            raise ValueError(f"mode: PERCENT, FIXED or FIRST expected, got {row['mode']!r}")
        self._out.debts.append(
            {
                "id": self._new_id(),
                "code": _given(row, "debt_id"),
                "service_point_id": point_of[row["account_no"]],
                "kind": _given(row, "kind"),
                "priority": int(row["priority"]),
                "mode": row["mode"],
                "outstanding_minor": self._minor(row["outstanding"]),
                "instalment_minor": self._minor(row["instalment"] or "0"),
                "percent": row["percent"] or "0",
                "status": _given(row, "status"),
                "recovered_this_month_minor": 0,
            }
        )
        self._opens(f"debt:{row['debt_id']}", "receivable:arrears", -self._minor(row["outstanding"]))

    def _balance(self, row: dict[str, str]) -> None:
        code, amount_minor = _given(row, "account"), self._minor(row["amount"])
        if code.partition(":")[0] not in ("wallet", "float") or not kind_of(code).limited:
            raise ValueError(f"account: wallet:ACCOUNT or float:STATION expected, got {code!r}")
        known = {f"wallet:{customer['account_no']}" for customer in self._out.customers}
        if code.startswith("wallet:") and code not in known:
            raise ValueError(f"account: no customer for {code!r}")
        if amount_minor <= 0:
            raise ValueError("amount: more than zero expected")
        self._opens(code, code, amount_minor)

    def _opens(self, name: str, account_code: str, amount_minor: int) -> None:
        if amount_minor:
            self._out.balances.append((name, account_code, amount_minor))

    def _minor(self, text: str) -> int:
        return to_minor(text, self._utility.minor_digits)


def _given(row: Mapping[str, str], column: str) -> str:
    if not row[column]:
        raise ValueError(f"{column}: a value expected")
    return row[column]


def _digits(row: Mapping[str, str], column: str) -> str:
    text = _given(row, column)
    if not (text.isascii() and text.isdigit() and 6 <= len(text) <= 15):
        raise ValueError(f"{column}: 6 to 15 digits expected")
    return text
