"""Files of meter readings: the table of columns, and what a line says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.bulk.form import Column, Form, needed
from gateway.bulk.row import Row
from ledger.bulk.kind import Record
from sts.errors import StsError
from sts.numbers import check_drn

_SOURCE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,19}")
_REGISTER: Final = re.compile(r"[A-Za-z0-9._-]{1,20}")
TOTAL: Final = "TOTAL"
"""The register of all energy used, where a file names none."""


def _take(row: Row) -> None:
    drn = row.given("drn")
    if drn:
        try:
            check_drn(drn)
        except StsError as error:
            row.fault("drn", f"{error}")
    row.add(
        "Readings",
        {
            "drn": drn,
            "register": row.like("register", _REGISTER, "up to 20 letters and digits", TOTAL),
            "read_at": row.instant("read_at"),
            "value_tenths": row.tenths("reading_kwh"),
            "source": row.like("source", _SOURCE, "a word in capitals such as HANDHELD"),
            "reader": row.text("reader"),
            "remark": row.text("remark"),
        },
    )


def _give(record: Record, digits: int) -> Mapping[str, Any]:
    given = {name: value for name, value in record.items() if name != "value_tenths"}
    return {**given, "reading_kwh": f"{record['value_tenths'] // 10}.{record['value_tenths'] % 10}"}


READINGS: Final = Form(
    name="readings",
    file="meter_readings.csv",
    about="what registers of meters showed; unlikely ones are told and stored all the same",
    columns=(
        needed("drn", "meter number"),
        needed("read_at", "when, ISO 8601 with offset"),
        needed("reading_kwh", "what the register showed, at most one decimal"),
        needed("source", "HANDHELD, DRIVE_BY, SMART, CUSTOMER or another word in capitals"),
        Column("register", f"which register, if the meter has several; empty: {TOTAL}"),
        Column("reader", "who read it"),
        Column("remark", "such as: seal broken"),
    ),
    take=_take,
    give=_give,
    kinds=("Readings",),
)
