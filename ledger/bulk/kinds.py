"""Every kind of record, in the order in which they are stored: what others refer to comes first. Pure."""

from __future__ import annotations

from typing import Final

from ledger.bulk.balances import Balances
from ledger.bulk.customers import Customers
from ledger.bulk.debts import Debts
from ledger.bulk.kind import Kind
from ledger.bulk.meters import Meters
from ledger.bulk.phones import Phones
from ledger.bulk.points import Places, Points, PointTariffs
from ledger.bulk.readings import Readings
from ledger.bulk.stations import Stations
from ledger.bulk.tariffs import Tariffs

KINDS: Final[dict[str, Kind]] = {
    type(kind).__name__: kind
    for kind in (
        Tariffs(), Customers(), Stations(), Places(), Points(), PointTariffs(), Meters(), Phones(), Debts(), Balances(),
        Readings(),
    )
}  # fmt: skip
