"""A made-up utility of any size, as a folder that `prepaid load` takes in and with vending keys of its own. For tests.

Customer number i has one phone, one service point, one meter and a full wallet. Tariffs and encryption algorithms are
mixed: of ten meters seven buy at a single rate, two in inclining blocks, one with levies; three of four are EA07, the
fourth EA11. The same size gives the same utility, so a test needs nothing but a number to know whom it serves.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import gateway
from config.settings import UtilitySettings
from gateway.keyfile import write_keystore
from sts.derivation import VendingKey, with_odd_parity
from sts.meter import Meter
from sts.meterkey import MeterKey
from sts.modules.keystore import MASTER_KEY_BYTES, NONCE_BYTES, MasterKey, seal
from sts.modules.records import VendingKeyRecord
from sts.numbers import MeterNumber
from sts.tables import SAMPLE

SETTINGS: Final = UtilitySettings(
    code="UMOJA",
    name="Umoja Power",
    currency="KES",
    minor_digits=2,
    timezone="Africa/Nairobi",
    default_language="en",
    debt_cap_percent=Decimal(80),
)
WALLET_MINOR: Final = 50_000_000
SHORT_CODE: Final = "20777"
MASTER_KEY: Final = hashlib.sha256(b"the master key of a made-up utility").digest()[:MASTER_KEY_BYTES]

_GROUPS: Final = ("600801", "600802", "600803")
# Tariff and its index by the last digit of the customer's number.
_TARIFFS: Final = (("D1-FLAT", "01"),) * 7 + (("D2-IBT", "02"),) * 2 + (("D3-LEVY", "03"),)
_TARIFF_FILE: Final = Path(gateway.__file__).parent / "sample" / "tariffs.json"
_CUSTOMER_COLUMNS: Final = (
    "account_no first_name last_name category id_no msisdn language service_point area street free_kwh_per_month"
    " registered_on status"
).split()
_METER_COLUMNS: Final = (
    "drn meter_pan account_no service_point manufacturer_code model phases token_technology encryption_algorithm"
    " supply_group_code key_revision_no tariff_index base_date key_expiry_no tariff_code status installed_on"
    " max_power_limit_w"
).split()
_STATION_COLUMNS: Final = (
    "station_id name kind funding float credit_limit owed commission_percent offline operators sgcs"
).split()
_DEBT_COLUMNS: Final = (
    "debt_id account_no kind opened_on outstanding mode percent instalment priority status agreement_no note"
).split()


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer of the utility, with phone and meter."""

    number: int
    account_no: str
    msisdn: str
    drn: str
    ea: int
    supply_group: str
    tariff_code: str
    tariff_index: str

    @property
    def service_point(self) -> str:
        return f"SP-{self.number:07d}"

    @property
    def wallet(self) -> str:
        return f"wallet:{self.account_no}"

    def key(self) -> MeterKey:
        """The handle of the meter's key: EA07 under DKGA02, EA11 under DKGA04, revision 2 on base date 2014."""
        return MeterKey(
            drn=self.drn,
            iin=SETTINGS.iin,
            supply_group=self.supply_group,
            key_type=2,
            tariff_index=self.tariff_index,
            key_revision=2,
            key_expiry=255,
            base_date=2014,
            ea=self.ea,
            dkga=2 if self.ea == 7 else 4,
        )


def customers(size: int) -> list[Customer]:
    """The first `size` customers."""
    return [_customer(number) for number in range(size)]


def unknown_drn(number: int) -> str:
    """A meter number that is well formed and belongs to nobody here."""
    return MeterNumber.from_body(f"99{number:08d}").drn


def vending_keys() -> list[VendingKeyRecord]:
    """The keys of every supply group, both kinds; made from the groups' names, so worth nothing."""
    records = []
    for group in _GROUPS:
        digest = hashlib.sha256(group.encode()).digest()
        for key in (VendingKey(2, with_odd_parity(digest[:8])), VendingKey(4, digest[:20])):
            records.append(
                VendingKeyRecord(
                    supply_group=group, key_revision=2, key_type=2, base_date=2014, key_expiry=255, key=key
                )
            )
    return records


def simulated_meter(customer: Customer) -> Meter:
    """The customer's meter itself, with its key as the manufacturer put it in."""
    keys = {(record.supply_group, record.dkga): record.key for record in vending_keys()}
    handle = customer.key()
    return Meter(handle, keys[handle.supply_group, handle.dkga].derive(handle, SAMPLE))


def write(folder: Path, size: int, wallets_minor: dict[int, int] | None = None) -> list[Customer]:
    """Write the folder's files; `wallets_minor` are the openings that differ, by customer number."""
    folder.mkdir(parents=True, exist_ok=True)
    everyone = customers(size)
    given = wallets_minor or {}
    _write_csv(folder / "customers.csv", _CUSTOMER_COLUMNS, (_customer_row(each) for each in everyone))
    _write_csv(folder / "meters.csv", _METER_COLUMNS, (_meter_row(each) for each in everyone))
    _write_csv(folder / "stations.csv", _STATION_COLUMNS, ())
    _write_csv(folder / "arrears.csv", _DEBT_COLUMNS, ())
    openings = ((each, given.get(each.number, WALLET_MINOR)) for each in everyone)
    _write_csv(
        folder / "balances.csv",
        ("account", "amount"),
        ((each.wallet, f"{minor // 100}.{minor % 100:02d}") for each, minor in openings),
    )
    document = json.loads(_TARIFF_FILE.read_text(encoding="utf-8"))
    (folder / "tariffs.json").write_text(json.dumps(document), encoding="utf-8")
    return everyone


def seal_keystore(path: Path) -> str:
    """Write the sealed vending keys; the master key as hex digits."""
    records = vending_keys()
    # Nonces that repeat from run to run are as good as the keys here, which anybody can read above.
    nonces = [hashlib.sha256(f"nonce {n}".encode()).digest()[:NONCE_BYTES] for n in range(len(records))]
    write_keystore(path, seal(records, MasterKey(MASTER_KEY), nonces))
    return MASTER_KEY.hex()


def _customer(number: int) -> Customer:
    tariff_code, tariff_index = _TARIFFS[number % 10]
    return Customer(
        number=number,
        account_no=f"B{number:07d}",
        msisdn=f"2547{number:08d}",
        drn=MeterNumber.from_body(f"04{number:08d}").drn,
        ea=11 if number % 4 == 3 else 7,
        supply_group=_GROUPS[number // 4 % len(_GROUPS)],
        tariff_code=tariff_code,
        tariff_index=tariff_index,
    )


def _customer_row(each: Customer) -> Sequence[Any]:
    return (
        each.account_no,
        "Customer",
        f"No {each.number}",
        "DOMESTIC",
        f"{each.number}",
        each.msisdn,
        "en",
        each.service_point,
        f"Area {each.number % 50}",
        f"Plot {each.number}",
        "",
        "2025-02-02",
        "ACTIVE",
    )


def _meter_row(each: Customer) -> Sequence[Any]:
    return (
        each.drn,
        each.key().pan,
        each.account_no,
        each.service_point,
        each.drn[:2],
        "S1-SPLIT",
        "1",
        "02",
        f"{each.ea:02d}",
        each.supply_group,
        "2",
        each.tariff_index,
        "2014",
        "255",
        each.tariff_code,
        "INSTALLED",
        "2025-02-02",
        "",
    )


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
