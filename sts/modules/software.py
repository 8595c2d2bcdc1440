"""A security module in this process: vending keys in memory, tokens at once. Pure: no I/O, no clock, no chance.

For tests, small utilities and offline stations. Keys are kept in objects whose repr hides them, and no error of this
module holds a key byte or a token. Whoever can read the memory of the process can read the keys: a hardware module is
the remedy, not this one.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from sts.errors import Fault, StsError
from sts.meterkey import MeterKey
from sts.modules import signing
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    ModuleRefused,
    ModuleStatus,
    TokenRequest,
    Unsettled,
    each,
)
from sts.modules.records import KEYS_MAX, KeyName, VendingKeyRecord
from sts.modules.signing import CACHE_SIZE, KEY_TYPE_CHANGES, ReadyKey
from sts.tables import SAMPLE, TableSet
from sts.tokens import Token


class SoftwareModule:
    """A SecurityModule that answers at once.

    `records`: the vending keys, refused as DUPLICATE if two have the same supply group, revision, type,
    algorithm and base date.
    `tables`: the EA07 table set; with the built-in sample, real EA07 meters refuse the tokens, and `status` says so.
    `cache_size`: decoder keys kept ready, least recently used dropped; 0 keeps none.
    `allowed`: codings of one source only that the operator takes upon himself.
    `key_type_changes`: pairs of key types that a key change may lead from and to.
    """

    def __init__(
        self,
        records: Iterable[VendingKeyRecord],
        *,
        tables: TableSet = SAMPLE,
        name: str = "software",
        cache_size: int = CACHE_SIZE,
        allowed: frozenset[Unsettled] = frozenset(),
        key_type_changes: frozenset[tuple[int, int]] = KEY_TYPE_CHANGES,
    ) -> None:
        held: dict[KeyName, VendingKeyRecord] = {}
        for record in records:
            if record.name in held:
                raise ModuleRefused(
                    Fault.DUPLICATE,
                    f"two vending keys for supply group {record.supply_group}, revision {record.key_revision}, "
                    f"type {record.key_type}, DKGA{record.dkga:02d}, base date {record.base_date}",
                )
            held[record.name] = record
        if len(held) > KEYS_MAX:
            raise ModuleRefused(Fault.OUT_OF_RANGE, f"at most {KEYS_MAX} vending keys expected, got {len(held)}")
        self._name: Final = name
        self._tables: Final = tables
        self._records: Final[Mapping[KeyName, VendingKeyRecord]] = MappingProxyType(held)
        self._allowed: Final = allowed
        self._key_type_changes: Final = key_type_changes
        self._ready: Final = lru_cache(maxsize=cache_size)(self._derive)

    def __repr__(self) -> str:
        return f"<SoftwareModule {self._name}, {len(self._records)} vending keys>"

    @property
    def name(self) -> str:
        """The module's name in settings, metrics and the audit log."""
        return self._name

    @property
    def answers_at_once(self) -> bool:
        """True: nothing here waits."""
        return True

    def holds(self, key: MeterKey) -> bool:
        """Does this module hold the vending key that this decoder key derives from?"""
        return signing.name_for(key) in self._records

    def status(self) -> ModuleStatus:
        """Table set and keys by check value, sorted; never key bytes."""
        return ModuleStatus(
            name=self._name,
            table_set=self._tables.name,
            real_meters_accept_ea07=not self._tables.is_sample,
            keys=tuple(self._records[name].status for name in sorted(self._records)),
        )

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """The token of a request, 20 digits.

        Checked in this order, each with its own fault: key type (DEFAULT_KEY_CREDIT, KEY_TYPE), KeyMissing,
        UNSETTLED, OUT_OF_RANGE, KEY_EXPIRED, then the vending key's dates (KEY_NOT_ACTIVE, KEY_NO_LONGER_USED).
        Without `now` the dates are held against the minute of the TID, counted in UTC.
        """
        if request.key.key_type < 2:
            raise signing.no_tokens_under(request)
        return signing.token_digits(request, self._ready(request.key), self._allowed, now)

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """A token, or the error `make` would have raised, for each request in its place."""
        return each(lambda request: self.make(request, now=now), requests)

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """The 2 (EA07) or 4 (EA11) tokens of a key change, enciphered under the present key.

        An expired present key may still be replaced. Refuses KEY_MISMATCH for another meter, another algorithm, a
        base date that goes back, or a new base date without a new decoder key (the meter forgets its TIDs then, and
        old tokens would work again); KEY_TYPE for a change of type that is not allowed; OUT_OF_RANGE for an expiry
        number beyond the vending key's; UNSETTLED for a tariff index above 09; the new key's dates as `make` does.
        """
        signing.check_change(request, self._allowed, self._key_type_changes)
        return signing.change_digits(request, self._ready(request.key), self._ready(request.new), now)

    def verify(self, digits: str, key: MeterKey) -> Token:
        """What a token says under this key, its TID's day not looked at.

        Raises TokenError with FORMAT, TOKEN_CLASS, CRC, OUT_OF_RANGE, UNSETTLED, and, as a meter would,
        DEFAULT_KEY_CREDIT and KEY_EXPIRED; KeyMissing and ModuleRefused as `make`.
        """
        return signing.token_read(digits, key, self._ready(key))

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As `make`; does not wait."""
        return self.make(request, now=now)

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As `make_set`; does not wait."""
        return self.make_set(request, now=now)

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        """As `verify`; does not wait."""
        return self.verify(digits, key)

    def _derive(self, key: MeterKey) -> ReadyKey:
        record = self._records.get(signing.name_for(key))
        if record is None:
            raise KeyMissing(key)
        try:
            return ReadyKey(record.key.derive(key, self._tables), record)
        except StsError as refusal:
            raise ModuleRefused(refusal.fault, refusal.sentence) from None
