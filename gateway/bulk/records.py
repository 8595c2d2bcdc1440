"""Files of customers, service points, meters, phones and tariffs: tables of columns, and what a line says. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.bulk.form import Column, Form, needed, passed_over
from gateway.bulk.row import Row
from ledger.bulk.kind import Record
from ledger.bulk.tariffs import MINOR_DIGITS
from ledger.tariffs_format import TariffFaults, read_tariff
from sts.errors import StsError
from sts.meterkey import MeterKey

STATUSES: Final = tuple("IN_STOCK ISSUED INSTALLED BLOCKED FAULTY REMOVED REPAIRED SCRAPPED".split())
"""Of a meter; only INSTALLED ones buy."""

_KEY_TEXT: Final = re.compile(r"[0-9A-Za-z./:_-]{0,100}")


# --- customers --------------------------------------------------------------------------------------------------------


def _take_customer(row: Row) -> None:
    account_no, point = row.given("account_no"), row.maybe("service_point")
    name = row.text("name") or f"{row.text('first_name')} {row.text('last_name')}".strip()
    if not name:
        row.fault("name", "a value expected, here or in first_name and last_name")
    row.add(
        "Customers",
        {
            "account_no": account_no,
            "name": name,
            "category": row.given("category"),
            "language": row.one_of("language", row.terms.languages),
            "status": row.given("status"),
        },
    )
    if point is not None:
        _add_point(row, point, account_no)
    elif row.text("free_kwh_per_month") or row.text("tariff_code"):
        row.fault("service_point", "a value expected, since the line says something about it")
    if row.text("msisdn"):
        row.add("Phones", _phone(row, account_no, None))


def _add_point(row: Row, code: str, account_no: str) -> None:
    free = row.whole("free_kwh_per_month") if row.text("free_kwh_per_month") else None
    place = {"service_point": code, "account_no": account_no, "area": row.text("area"), "free_kwh_per_month": free}
    if tariff := row.text("tariff_code"):
        row.add("Points", {**place, "tariff_code": tariff})
    else:
        row.add("Places", place)


CUSTOMERS: Final = Form(
    name="customers",
    file="customers.csv",
    about="customers, each with an empty wallet; a line may also give a service point and a phone",
    columns=(
        needed("account_no", "account number, unique"),
        Column("name", "full name; or first_name and last_name"),
        Column("first_name", "with last_name, the name", exported=False),
        Column("last_name", "", exported=False),
        needed("category", "the utility's group of customers, such as DOMESTIC"),
        needed("language", "language of messages: a language file there is"),
        needed("status", "such as ACTIVE"),
        Column("msisdn", "a phone of the customer: country code and number, digits only", exported=False),
        Column("service_point", "code of the customer's service point", exported=False),
        Column("area", "where it is", exported=False),
        Column("tariff_code", "its tariff; else the first meter there names it", exported=False),
        Column("free_kwh_per_month", "whole kWh given free once a month; empty: none", exported=False),
        passed_over("id_no", "national number"),
        passed_over("street", ""),
        passed_over("registered_on", ""),
    ),
    take=_take_customer,
    give=lambda record, digits: record,
    kinds=("Customers",),
    gives=("Places", "Points", "Phones"),
)


# --- service points ---------------------------------------------------------------------------------------------------


def _take_point(row: Row) -> None:
    _add_point(row, row.given("service_point"), row.given("account_no"))


def _give_point(record: Record, digits: int) -> Mapping[str, Any]:
    free = record["free_kwh_per_month"]
    return {"tariff_code": "", **record, "free_kwh_per_month": "" if free is None else str(free)}


POINTS: Final = Form(
    name="points",
    file="points.csv",
    about="service points: where meters hang, and counters and debts stay when a meter is replaced",
    columns=(
        needed("service_point", "code, unique"),
        needed("account_no", "whose it is"),
        Column("area", "where it is"),
        Column("tariff_code", "its tariff; empty: not known until a meter or a line names it"),
        Column("free_kwh_per_month", "whole kWh given free once a month; empty: none"),
    ),
    take=_take_point,
    give=_give_point,
    kinds=("Points", "Places"),
)


# --- meters -----------------------------------------------------------------------------------------------------------


def _take_meter(row: Row) -> None:
    status, point, tariff = row.one_of("status", STATUSES), row.maybe("service_point"), row.text("tariff_code")
    if point is None and status == "INSTALLED":
        row.fault("service_point", "a value expected, since the meter is INSTALLED")
    if point is not None and not tariff:
        row.fault("tariff_code", "a value expected")
    ea, drn = row.whole("encryption_algorithm"), row.text("drn")
    numbers = {
        "key_type": row.whole("key_type", 2),
        "key_revision": row.whole("key_revision_no"),
        "key_expiry": row.whole("key_expiry_no"),
        "base_date": row.whole("base_date"),
        "dkga": row.whole("key_generation", 2 if ea == 7 else 4),
    }
    next_key = row.like("next_key", _KEY_TEXT, "the handle of a key")
    iin = row.terms.iin if len(drn) == 11 else "0000"
    if point is not None and tariff:
        row.add("PointTariffs", {"service_point": point, "tariff_code": tariff})
    record: Record = {
        "drn": drn,
        "iin": iin,
        "service_point": point,
        "status": status,
        "encryption_algorithm": ea,
        "key_generation": numbers["dkga"],
        "key_type": numbers["key_type"],
        "supply_group_code": row.text("supply_group_code"),
        "key_revision_no": numbers["key_revision"],
        "tariff_index": row.text("tariff_index"),
        "key_expiry_no": numbers["key_expiry"],
        "base_date": numbers["base_date"],
        "next_key": next_key or None,
    }
    row.add("Meters", record)
    if row.faults:
        return
    try:
        key = MeterKey(
            drn=drn,
            iin=iin,
            supply_group=record["supply_group_code"],
            tariff_index=record["tariff_index"],
            ea=ea,
            **numbers,
        )
    except StsError as error:
        row.fault("", f"{error}")
        return
    if row.text("meter_pan") not in ("", key.pan):
        row.fault(
            "meter_pan", f"{key.pan} expected, as it follows from the meter number, got {row.text('meter_pan')!r}"
        )


def _give_meter(record: Record, digits: int) -> Mapping[str, Any]:
    return {
        **{name: "" if value is None else str(value) for name, value in record.items()},
        "encryption_algorithm": f"{record['encryption_algorithm']:02d}",
    }


METERS: Final = Form(
    name="meters",
    file="meters.csv",
    about="meters, with the key they have; the first meter at a service point gives it its tariff",
    columns=(
        needed("drn", "meter number, 11 or 13 digits, unique"),
        Column("meter_pan", "the 18 digits with issuer; only compared, since they follow from drn", exported=False),
        Column("service_point", "where it hangs; empty: nowhere"),
        needed("encryption_algorithm", "07 or 11"),
        needed("supply_group_code", "6 digits"),
        needed("key_revision_no", "1 to 9"),
        needed("tariff_index", "2 digits"),
        needed("base_date", "1993, 2014 or 2035"),
        needed("key_expiry_no", "0 to 255"),
        Column("key_type", "0 to 3; empty: 2"),
        Column("key_generation", "DKGA 2 or 4; empty: 2 for algorithm 07, 4 for 11"),
        Column("next_key", "handle of the key it is being changed to, as `prepaid meters show` has it"),
        needed("tariff_code", "the service point's tariff; empty without one"),
        needed("status", ", ".join(STATUSES)),
        passed_over("account_no", "whose it is follows from the service point"),
        passed_over("manufacturer_code", ""),
        passed_over("model", ""),
        passed_over("phases", ""),
        passed_over("token_technology", ""),
        passed_over("replaced_by", ""),
        passed_over("installed_on", ""),
        passed_over("max_power_limit_w", ""),
    ),
    take=_take_meter,
    give=_give_meter,
    kinds=("Meters",),
    gives=("PointTariffs",),
)


# --- phones -----------------------------------------------------------------------------------------------------------


def _phone(row: Row, account_no: str | None, station_id: str | None, language: str | None = None) -> Record:
    return {
        "msisdn": row.phone("msisdn"),
        "account_no": account_no,
        "station_id": station_id,
        "language": language,
    }


def _take_phone(row: Row) -> None:
    account_no, station_id = row.maybe("account_no"), row.maybe("station_id")
    if (account_no is None) == (station_id is None):
        row.fault("station_id", "a value here or in account_no expected, not in both")
    language = row.one_of("language", row.terms.languages) if row.text("language") else None
    row.add("Phones", _phone(row, account_no, station_id, language))


PHONES: Final = Form(
    name="phones",
    file="phones.csv",
    about="phones: a customer's pays from the wallet, a station's from its account",
    columns=(
        needed("msisdn", "country code and number, digits only, unique"),
        Column("account_no", "the customer it belongs to, or"),
        Column("station_id", "the station it sells for"),
        Column("language", "the language its user asked for; empty: the owner's"),
    ),
    take=_take_phone,
    give=lambda record, digits: record,
    kinds=("Phones",),
)


# --- tariffs ----------------------------------------------------------------------------------------------------------


def _take_tariff(row: Row) -> None:
    document = dict(row.values)
    for name in ("min_vend_minor", "max_vend_minor", "versions"):
        if isinstance(value := document.get(name), str):
            try:
                document[name] = json.loads(value)
            except (ValueError, RecursionError) as error:
                row.fault(name, f"JSON expected: {error}")
    if row.faults:
        return
    try:
        read_tariff(document, minor_digits=row.terms.minor_digits)
    except TariffFaults as faults:
        for fault in faults.faults:
            field, _, words = fault.partition(": ")
            row.fault(f"{document.get('code', '?')}: {field}", words)
    code = document.get("code")
    if isinstance(code, str) and code:
        row.add("Tariffs", {**document, MINOR_DIGITS: row.terms.minor_digits})


TARIFFS: Final = Form(
    name="tariffs",
    file="tariffs.json",
    about="tariffs with their versions, which are never edited, and which the import releases; once somebody has "
    "bought, two people bring new ones in (`prepaid tariff`). An export has the released ones",
    columns=(
        needed("code", "code, unique"),
        needed("name", "for people"),
        needed("sts_tariff_index", "2 digits"),
        needed("units_rounding", "UP or DOWN_CARRY"),
        needed("min_vend_minor", "least payment, in minor units"),
        needed("max_vend_minor", "largest payment, in minor units"),
        needed("versions", "a list of versions; in CSV as JSON text"),
    ),
    take=_take_tariff,
    give=lambda record, digits: record,
    kinds=("Tariffs",),
    is_document=True,
)
