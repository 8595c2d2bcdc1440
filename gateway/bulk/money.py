"""Files of stations, debts and opening balances: tables of columns, and what a line says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.bulk.form import Column, Form, needed, passed_over
from gateway.bulk.row import Row
from ledger.bulk.kind import Record
from ledger.changes import is_code
from ledger.money import plain


def _give(record: Record, digits: int) -> Mapping[str, Any]:
    """A record with its money as decimal numbers, under the names of the columns."""
    given: dict[str, Any] = {}
    for name, value in record.items():
        if name.endswith("_minor"):
            given[name.removesuffix("_minor")] = plain(value, digits)
        else:
            given[name] = "" if value is None else str(value)
    return given


# --- stations ---------------------------------------------------------------------------------------------------------


def _take_station(row: Row) -> None:
    code, funding = row.given("station_id"), row.one_of("funding", ("PREPAID", "CREDIT"))
    limit_minor, deposit_minor, owed_minor = row.minor("credit_limit"), row.minor("float"), row.minor("owed")
    if funding == "CREDIT" and owed_minor > limit_minor:
        row.fault("owed", f"at most the credit_limit, {row.text('credit_limit') or 0}, expected")
    is_prepaid = funding == "PREPAID"
    row.add(
        "Stations",
        {
            "station_id": code,
            "name": row.text("name"),
            "kind": row.given("kind"),
            "funding": funding,
            "float_minor": deposit_minor if is_prepaid else 0,
            "credit_limit_minor": 0 if is_prepaid else limit_minor,
            "owed_minor": 0 if is_prepaid else owed_minor,
            # A commission below a tenth of a percent pays for nobody's counter.
            "commission_percent": row.percent("commission_percent", least="0.1"),
            "sgcs": " ".join(row.text("sgcs").split(";")),
        },
    )


def _give_station(record: Record, digits: int) -> Mapping[str, Any]:
    return {**_give(record, digits), "sgcs": record["sgcs"].replace(" ", ";")}


STATIONS: Final = Form(
    name="stations",
    file="stations.csv",
    about="vending stations and agents, with their deposit or line of credit",
    columns=(
        needed("station_id", "code, unique"),
        needed("name", "for people"),
        needed("kind", "COUNTER, AGENT, OFFLINE or BANK"),
        needed("funding", "PREPAID: sells from a deposit; CREDIT: sells until it owes its limit"),
        Column("float", "of a PREPAID one: the deposit it brings along"),
        Column("credit_limit", "of a CREDIT one: the most it may owe"),
        Column("owed", "of a CREDIT one: what it owes at the start"),
        needed("commission_percent", "2.5 is two and a half percent"),
        needed("sgcs", "supply groups it may sell for, separated by semicolons"),
        passed_over("offline", ""),
        passed_over("operators", "operators are added by `prepaid operators add`"),
    ),
    take=_take_station,
    give=_give_station,
    kinds=("Stations",),
)


# --- debts ------------------------------------------------------------------------------------------------------------


def _take_debt(row: Row) -> None:
    if row.text("status") == "WRITTEN_OFF" and row.minor("outstanding"):
        row.fault("status", "nothing outstanding expected of a debt that is WRITTEN_OFF: people write it off")
    row.add(
        "Debts",
        {
            "debt_id": row.given("debt_id"),
            "account_no": row.given("account_no"),
            "service_point": row.maybe("service_point"),
            "kind": row.given("kind"),
            "outstanding_minor": row.minor("outstanding"),
            "mode": row.one_of("mode", ("PERCENT", "FIXED", "FIRST")),
            "percent": row.percent("percent"),
            "instalment_minor": row.minor("instalment"),
            "priority": row.whole("priority"),
            "status": row.one_of("status", ("ACTIVE", "SUSPENDED", "WRITTEN_OFF")),
            "opened_on": row.day("opened_on"),
            "agreement_no": _agreement(row),
        },
    )


def _agreement(row: Row) -> str | None:
    """The number of an agreement as `prepaid debts` takes it."""
    number = row.maybe("agreement_no")
    if number is not None and not is_code(number):
        row.fault("agreement_no", f"1 to 40 letters, digits, . _ / - expected, got {number[:60]!r}")
    return number


def _give_debt(record: Record, digits: int) -> Mapping[str, Any]:
    return _give({name: value for name, value in record.items() if name != "first_minor"}, digits)


DEBTS: Final = Form(
    name="debts",
    file="arrears.csv",
    about="arrears, recovered in part from each purchase",
    columns=(
        needed("debt_id", "code, unique"),
        needed("account_no", "the customer who owes it"),
        Column("service_point", "the one that pays it; empty: the customer's only one"),
        needed("kind", "such as OLD_BILL, CONNECTION_FEE or TAMPER_FINE"),
        needed("outstanding", "what is owed; an export writes what is owed now"),
        needed("mode", "PERCENT of each purchase, FIXED a month, or FIRST: everything until paid"),
        Column("percent", "of PERCENT: 30 is thirty percent"),
        Column("instalment", "of FIXED: the sum a month"),
        needed("priority", "whole number: lower ones first"),
        needed("status", "ACTIVE, SUSPENDED, or WRITTEN_OFF with nothing outstanding"),
        Column("opened_on", "the day it arose, from which its age is counted; empty: not known, or as it is stored"),
        Column("agreement_no", "number of the signed agreement: letters, digits, . _ / -; empty: none, or as stored"),
        passed_over("note", ""),
    ),
    take=_take_debt,
    give=_give_debt,
    kinds=("Debts",),
)


# --- opening balances -------------------------------------------------------------------------------------------------


def _take_balance(row: Row) -> None:
    code, amount_minor = row.given("account"), row.minor("amount")
    kind, _, owner = code.partition(":")
    if code and (kind not in ("wallet", "float") or not owner):
        row.fault("account", f"wallet:ACCOUNT or float:STATION expected, got {code!r}")
    if amount_minor == 0 and not row.faults:
        row.fault("amount", "more than zero expected")
    row.add("Balances", {"account": code, "amount_minor": amount_minor})


BALANCES: Final = Form(
    name="balances",
    file="balances.csv",
    about="opening balances of wallets and deposits, brought in once; an export writes those of wallets as they were "
    "brought in (deposits stand in the stations' file)",
    columns=(
        needed("account", "wallet:ACCOUNT_NO or float:STATION_ID, unique"),
        needed("amount", "more than zero"),
    ),
    take=_take_balance,
    give=_give,
    kinds=("Balances",),
)
