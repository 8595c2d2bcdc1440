"""A vending key with what is known about it: the unit of a key store and of the software module. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sts import numbers
from sts.derivation import VendingKey
from sts.errors import Fault, KeyRefused
from sts.modules.contract import KeyStatus

KeyName = tuple[str, int, int, int, int]
"""Supply group, key revision, key type, DKGA and base date: what tells vending keys apart."""


@dataclass(frozen=True, slots=True)
class VendingKeyRecord:
    """A vending key and its attributes, as a key management centre gives them.

    `active_from` and `issued_until` are aware times: the key makes no token before the one or after the other.
    `key_expiry` (KEN) ends credit and management tokens by their TID; `base_date` is the one its TIDs count from.
    Refuses what `sts.numbers` refuses, KEY_TYPE for type 0, FORMAT for a time without a zone.
    """

    supply_group: str
    key_revision: int
    key_type: int
    base_date: int
    key_expiry: int
    key: VendingKey
    active_from: datetime | None = None
    issued_until: datetime | None = None

    def __post_init__(self) -> None:
        numbers.check_supply_group(self.supply_group)
        numbers.check_key_revision(self.key_revision)
        numbers.check_key_expiry(self.key_expiry)
        numbers.base_date_of(self.base_date)
        if numbers.key_type_of(self.key_type) is numbers.KeyType.INITIALISATION:
            raise KeyRefused(Fault.KEY_TYPE, "key type 0: no vending key makes initialisation keys")
        for moment in (self.active_from, self.issued_until):
            if moment is not None and moment.utcoffset() is None:
                raise KeyRefused(Fault.FORMAT, "dates of a vending key: times with a zone expected")

    @property
    def dkga(self) -> int:
        """2 or 4."""
        return self.key.dkga

    @property
    def name(self) -> KeyName:
        """What tells this key apart from others."""
        return self.supply_group, self.key_revision, self.key_type, self.key.dkga, self.base_date

    @property
    def status(self) -> KeyStatus:
        """The record for a health page, without the key."""
        return KeyStatus(
            supply_group=self.supply_group,
            key_revision=self.key_revision,
            key_type=self.key_type,
            dkga=self.key.dkga,
            base_date=self.base_date,
            key_expiry=self.key_expiry,
            kcv=self.key.kcv,
            active_from=self.active_from,
            issued_until=self.issued_until,
        )


KEYS_MAX: Final = 10_000
"""More vending keys than this in one module or file are a mistake."""
