"""Tariffs as stored: a head and versions that are never edited. Hands rules to `ledger/pricing.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ledger import tables
from ledger.pricing import Tariff
from ledger.records import ensure_accounts, insert_new
from ledger.sql import Row
from ledger.tariffs_format import read_tariff


class TariffChanged(Exception):
    """A stored version, or the head it hangs on, differs from the one brought; versions are never edited."""


def save(connection: sa.Connection, document: Mapping[str, Any], *, minor_digits: int, currency: str) -> bool:
    """Store a tariff document (`ledger/tariffs_format.py`), adding the versions that are new; False if none was.

    Raises TariffFaults for a bad document, TariffChanged if it contradicts what is stored.
    """
    tariff = read_tariff(document, minor_digits=minor_digits)
    head = _text({"minor_digits": minor_digits, **{key: document[key] for key in document if key != "versions"}})
    known = connection.execute(
        sa.select(tables.tariff.c.head).where(tables.tariff.c.code == tariff.code)
    ).scalar_one_or_none()
    if known is None:
        connection.execute(tables.tariff.insert().values(code=tariff.code, head=head))
    elif known != head:
        raise TariffChanged(f"tariff {tariff.code} differs from the one stored")
    versions = {version.name: _text(text) for version, text in zip(tariff.versions, document["versions"], strict=True)}
    stored: dict[str, str] = {
        row.effective_from: row.rules
        for row in connection.execute(
            sa.select(tables.tariff_version).where(tables.tariff_version.c.tariff_code == tariff.code)
        )
    }
    for name, rules in versions.items():
        if stored.get(name, rules) != rules:
            raise TariffChanged(f"version {name} of tariff {tariff.code} differs from the one stored")
    new = [name for name in versions if name not in stored]
    for name in new:
        connection.execute(
            tables.tariff_version.insert().values(tariff_code=tariff.code, effective_from=name, rules=versions[name])
        )
    charges = {charge.code for version in tariff.versions for charge in version.per_kwh_charges}
    charges |= {charge.code for version in tariff.versions for charge in version.percent_charges}
    ensure_accounts(connection, [f"energy:{tariff.code}", *(f"levy:{code}" for code in sorted(charges))], currency)
    if known is None or new:
        _stamp(connection)
    return known is None or bool(new)


def parse_rows(heads: Sequence[Row], versions: Sequence[Row]) -> dict[str, Tariff]:
    """The stored tariffs, ready to price with; rows of (code, head) and (code, effective_from, rules)."""
    rules: dict[str, list[Any]] = {}
    for code, _, text in sorted(versions, key=lambda row: (row[0], row[1])):
        rules.setdefault(code, []).append(json.loads(text))
    found = {}
    for code, text in heads:
        head = json.loads(text)
        minor_digits = head.pop("minor_digits")
        found[code] = read_tariff({**head, "versions": rules.get(code, [])}, minor_digits=minor_digits)
    return found


def _stamp(connection: sa.Connection) -> None:
    insert_new(connection, tables.stamp, [{"name": "tariffs", "value": 0}], key="name")
    connection.execute(
        tables.stamp.update().where(tables.stamp.c.name == "tariffs").values(value=tables.stamp.c.value + 1)
    )


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
