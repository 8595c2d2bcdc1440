"""Vending keys for tests: a utility with groups under DKGA02 and DKGA04, several revisions, and a few oddities."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from sts.derivation import VendingKey
from sts.meterkey import MeterKey
from sts.modules.records import VendingKeyRecord
from sts.numbers import MeterNumber

DES_GROUP: Final = "123456"
HMAC_GROUP: Final = "123457"

NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def raw_key(dkga: int, label: str) -> bytes:
    """A test key from a label; with odd parity where the algorithm wants it."""
    raw = sha256(f"test key {label}".encode()).digest()
    if dkga == 4:
        return raw[:20]
    return bytes(byte & 0xFE | (byte >> 1).bit_count() % 2 ^ 1 for byte in raw[:8])


def record(dkga: int = 2, **changes: Any) -> VendingKeyRecord:
    """A vending key record; what is not given is a unique key, revision 1, base date 2014, without expiry."""
    facts: dict[str, Any] = dict(
        supply_group=DES_GROUP if dkga == 2 else HMAC_GROUP,
        key_revision=1,
        key_type=2,
        base_date=2014,
        key_expiry=255,
    )
    facts |= changes
    label = f"{facts['supply_group']} {facts['key_revision']} {facts['key_type']}"
    return VendingKeyRecord(key=VendingKey(dkga, raw_key(dkga, label)), **facts)


def handle(ea: int = 7, dkga: int = 2, body: str = "1234567890", **changes: Any) -> MeterKey:
    """A meter's key under the records of this file."""
    number = MeterNumber.from_body(body)
    facts: dict[str, Any] = dict(
        drn=number.drn,
        iin=number.iin,
        supply_group=DES_GROUP if dkga == 2 else HMAC_GROUP,
        key_type=2,
        tariff_index="01",
        key_revision=1,
        key_expiry=255,
        base_date=2014,
        ea=ea,
        dkga=dkga,
    )
    return MeterKey(**{**facts, **changes})
