"""Every kind of file of records, by the name it has on the command line. Pure."""

from __future__ import annotations

from typing import Final

from gateway.bulk.form import Form
from gateway.bulk.money import BALANCES, DEBTS, STATIONS
from gateway.bulk.readings import READINGS
from gateway.bulk.records import CUSTOMERS, METERS, PHONES, POINTS, TARIFFS

FORMS: Final[dict[str, Form]] = {
    form.name: form for form in (TARIFFS, CUSTOMERS, POINTS, STATIONS, METERS, PHONES, DEBTS, BALANCES, READINGS)
}
