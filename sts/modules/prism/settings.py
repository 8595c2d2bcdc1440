"""What must be known of a Prism-style module before it is asked. Pure: data, checked when it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sts import numbers
from sts.errors import Fault
from sts.meterkey import MeterKey
from sts.modules.contract import KeyStatus, ModuleRefused
from sts.modules.records import KEYS_MAX, KeyName

KEYPAD: Final = 2
"""Token carrier type 02: a number that a person types."""


class TidBy(StrEnum):
    """How a module is told the TID of a token."""

    CLOCK = "clock"
    """EXTERNAL_CLOCK: the minute of the TID as Unix time. A module may move it on if it has used it for this meter."""
    MINUTES = "minutes"
    """TID_ADJUST_BDT: the TID itself, which the module takes as it is. Not every firmware has it."""


class CurrencyUnit(StrEnum):
    """What `transferAmount` counts for credit in currency (subclasses 4 to 7). Public sources disagree."""

    HUNDRED_THOUSANDTH = "1e-5"
    WHOLE = "1"


@dataclass(frozen=True, slots=True)
class PrismKey:
    """A vending key in the module, which has no call that lists them.

    The interface names a key by supply group and revision alone; type, algorithm and base date must be told here and
    must be the module's. `key_expiry` (KEN) is the vending key's. `kcv`: its check value, 6 hex digits, as the module
    shows it; given, every answer is held against it. `counts_from_minutes_east`: the zone in which the module counts
    TIDs, minutes east of Greenwich; 0 (UTC) since edition 3 of the standard.
    Refuses what `sts.numbers` refuses, and FORMAT for a check value that is none.
    """

    supply_group: str
    key_revision: int
    key_type: int = 2
    dkga: int = 2
    base_date: int = 2014
    key_expiry: int = numbers.KEN_NEVER
    kcv: str = ""
    counts_from_minutes_east: int = 0
    active_from: datetime | None = None
    issued_until: datetime | None = None

    def __post_init__(self) -> None:
        numbers.check_supply_group(self.supply_group)
        numbers.check_key_revision(self.key_revision)
        numbers.check_key_expiry(self.key_expiry)
        numbers.key_type_of(self.key_type)
        numbers.key_generation_of(self.dkga)
        numbers.base_date_of(self.base_date)
        if self.kcv and (len(self.kcv) != 6 or not set(self.kcv) <= set("0123456789abcdefABCDEF")):
            raise ModuleRefused(Fault.FORMAT, "check value of a key: 6 hex digits expected")
        if not -840 <= self.counts_from_minutes_east <= 840:
            raise ModuleRefused(Fault.OUT_OF_RANGE, "zone of a key: at most 14 hours expected")

    @property
    def name(self) -> KeyName:
        """What tells this key apart from others."""
        return self.supply_group, self.key_revision, self.key_type, self.dkga, self.base_date

    @property
    def status(self) -> KeyStatus:
        """The key for a health page."""
        return KeyStatus(
            supply_group=self.supply_group,
            key_revision=self.key_revision,
            key_type=self.key_type,
            dkga=self.dkga,
            base_date=self.base_date,
            key_expiry=self.key_expiry,
            kcv=self.kcv.lower(),
            active_from=self.active_from,
            issued_until=self.issued_until,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrismSettings:
    """Where a module is, how to sign in, which keys it has, and how long to wait. No repr shows the password.

    TLS with certificate and host name checks; `ca_file` (PEM) instead of the system's authorities, which may be a
    module's own self-signed certificate; `server_name` if the certificate names another host than `host`;
    `client_certificate_file` and `client_key_file` if the module wants one. `plain_on_loopback` leaves TLS out, for
    127.0.0.0/8, ::1 and localhost only.
    `answer_timeout_s` is for each call; a call without answer stays in doubt for another `doubt_s`, in which a module
    that does not know it yet is not asked for it again. `waiting_max` calls may wait for one of `connections_max`.
    Refuses UNSUPPORTED for plain TCP elsewhere, DUPLICATE for two keys of one supply group and revision, OUT_OF_RANGE.
    """

    name: str
    host: str
    port: int
    realm: str
    username: str
    password: str = field(repr=False)
    keys: tuple[PrismKey, ...]
    ca_file: Path | None = None
    server_name: str = ""
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    plain_on_loopback: bool = False
    connections_max: int = 1
    waiting_max: int = 64
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 10.0
    doubt_s: float = 10.0
    idle_max_s: float = 60.0
    sign_in_rest_s: float = 30.0
    clock_drift_max_s: float = 60.0
    tid_by: TidBy = TidBy.CLOCK
    currency_unit: CurrencyUnit | None = None
    token_carrier_type: int = KEYPAD
    table_set: str = "operational"
    held: Mapping[KeyName, PrismKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.plain_on_loopback and not is_loopback(self.host):
            raise ModuleRefused(Fault.UNSUPPORTED, "plain TCP: a loopback address expected; elsewhere TLS is a must")
        if not 1 <= self.port <= 65_535:
            raise ModuleRefused(Fault.OUT_OF_RANGE, "port: 1 to 65535 expected")
        if len(self.keys) > KEYS_MAX:
            raise ModuleRefused(Fault.OUT_OF_RANGE, f"at most {KEYS_MAX} vending keys expected, got {len(self.keys)}")
        if len({(key.supply_group, key.key_revision) for key in self.keys}) != len(self.keys):
            raise ModuleRefused(Fault.DUPLICATE, "two keys of one supply group and revision: the interface knows one")
        if self.connections_max < 1 or self.waiting_max < 0:
            raise ModuleRefused(Fault.OUT_OF_RANGE, "connections: at least one, and a queue from 0 expected")
        if min(self.connect_timeout_s, self.answer_timeout_s, self.doubt_s, self.idle_max_s) <= 0:
            raise ModuleRefused(Fault.OUT_OF_RANGE, "times: above 0 s expected")
        object.__setattr__(self, "held", MappingProxyType({key.name: key for key in self.keys}))

    def key_for(self, key: MeterKey) -> PrismKey | None:
        """The vending key that a meter's key derives from, if the module has it."""
        return self.held.get((key.supply_group, key.key_revision, key.key_type, key.dkga, key.base_date))


def is_loopback(host: str) -> bool:
    """Does this host lie inside this machine?"""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
