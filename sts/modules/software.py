"""A security module in this process: vending keys in memory, tokens at once. Pure: no I/O, no clock, no chance.

For tests, small utilities and offline stations. Keys are kept in objects whose repr hides them, and no error of this
module holds a key byte or a token. Whoever can read the memory of the process can read the keys: a hardware module is
the remedy, not this one.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from sts import tid as tids
from sts.bits import digits_of
from sts.ciphers import DecoderKey
from sts.decode import digits_from, token_from
from sts.errors import Fault, StsError, TokenError
from sts.keychange import key_change_set
from sts.meterkey import MeterKey
from sts.modules.contract import (
    CreditRequest,
    KeyChangeRequest,
    KeyMissing,
    ManagementRequest,
    ModuleRefused,
    ModuleStatus,
    TokenRequest,
    Unsettled,
)
from sts.modules.records import KEYS_MAX, KeyName, VendingKeyRecord
from sts.tables import SAMPLE, TableSet
from sts.tokens import Credit, CurrencyCredit, Token, management_of, register_block

KEY_TYPE_CHANGES: Final = frozenset({(1, 2), (2, 2)})
"""Changes of key type that a key-change set may make. The table of the standard is not public; these two are sure."""

CACHE_SIZE: Final = 4096
"""Decoder keys kept ready; a prepared EA07 key takes about 2.5 kB."""


class _Ready:
    """A decoder key with the limits of the vending key that made it."""

    __slots__ = ("first_tid", "key", "last_tid", "record")

    def __init__(self, key: DecoderKey, record: VendingKeyRecord, first_tid: int, last_tid: int) -> None:
        self.key: Final = key
        self.record: Final = record
        self.first_tid: Final = first_tid
        self.last_tid: Final = last_tid


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
        return _name_for(key) in self._records

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
        key = request.key
        if key.key_type < 2:
            raise _no_tokens_under(key.key_type, isinstance(request, CreditRequest))
        ready = self._ready(key)
        tid = request.tid
        if isinstance(request, CreditRequest):
            token_class, value = 0, request.amount_field
            if request.subclass >= 4 and request.rnd:
                self._check_currency(request.rnd)
        else:
            token_class, value = 2, request.value
            _check_management(request)
        if tid >> 16 > key.key_expiry or tid >> 16 > ready.record.key_expiry:
            raise ModuleRefused(Fault.KEY_EXPIRED, f"the key expired: TID beyond expiry number {key.key_expiry}")
        if now is not None:
            _check_dates(ready.record, now)
        elif not ready.first_tid <= tid <= ready.last_tid:
            raise _outside_dates(tid < ready.first_tid)
        block = register_block(token_class, request.subclass, request.rnd, tid, value)
        return digits_of(token_class, ready.key.encrypt(block))

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """A token, or the error `make` would have raised, for each request in its place."""
        answers: list[str | ModuleRefused | KeyMissing] = []
        for request in requests:
            try:
                answers.append(self.make(request, now=now))
            except (ModuleRefused, KeyMissing) as refusal:
                answers.append(refusal)
        return answers

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """The 2 (EA07) or 4 (EA11) tokens of a key change, enciphered under the present key.

        An expired present key may still be replaced. Refuses KEY_MISMATCH for another meter, another algorithm, a
        base date that goes back, or a new base date without a new decoder key (the meter forgets its TIDs then, and
        old tokens would work again); KEY_TYPE for a change of type that is not allowed; OUT_OF_RANGE for an expiry
        number beyond the vending key's; UNSETTLED for a tariff index above 09; the new key's dates as `make` does.
        """
        key, new = request.key, request.new
        if (key.drn, key.iin) != (new.drn, new.iin):
            raise ModuleRefused(Fault.KEY_MISMATCH, "key change: the same meter expected before and after")
        if key.ea != new.ea:
            raise ModuleRefused(Fault.KEY_MISMATCH, "key change: no set changes the encryption algorithm")
        if (key.key_type, new.key_type) not in self._key_type_changes:
            raise ModuleRefused(Fault.KEY_TYPE, f"key change from type {key.key_type} to {new.key_type} not allowed")
        if new.base_date < key.base_date:
            raise ModuleRefused(Fault.KEY_MISMATCH, "key change: a base date does not go back")
        if int(new.tariff_index) > 9 and Unsettled.TARIFF_INDEX_ABOVE_9 not in self._allowed:
            raise ModuleRefused(Fault.UNSETTLED, "tariff index above 09: coding not settled by an open source")
        present, following = self._ready(key), self._ready(new)
        if new.key_expiry > following.record.key_expiry:
            raise ModuleRefused(Fault.OUT_OF_RANGE, "key change: an expiry number up to the vending key's expected")
        _check_dates(following.record, now)
        rollover = key.base_date != new.base_date
        if rollover and present.key.same_as(following.key):
            raise ModuleRefused(Fault.KEY_MISMATCH, "a new base date needs a new decoder key: change the revision too")
        sections = key_change_set(following.key, new, rollover=rollover)
        return tuple(digits_from(section, present.key) for section in sections)

    def verify(self, digits: str, key: MeterKey) -> Token:
        """What a token says under this key, its TID's day not looked at.

        Raises TokenError with FORMAT, TOKEN_CLASS, CRC, OUT_OF_RANGE, UNSETTLED, and, as a meter would,
        DEFAULT_KEY_CREDIT and KEY_EXPIRED; KeyMissing and ModuleRefused as `make`.
        """
        token = token_from(digits, self._ready(key).key)
        if isinstance(token, Credit | CurrencyCredit) and key.key_type == 1:
            raise TokenError(Fault.DEFAULT_KEY_CREDIT, "credit under a default key")
        tid = getattr(token, "tid", None)
        if tid is not None and tid >> 16 > key.key_expiry:
            raise TokenError(Fault.KEY_EXPIRED, f"the key expired: TID beyond expiry number {key.key_expiry}")
        return token

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As `make`; does not wait."""
        return self.make(request, now=now)

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As `make_set`; does not wait."""
        return self.make_set(request, now=now)

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        """As `verify`; does not wait."""
        return self.verify(digits, key)

    def _derive(self, key: MeterKey) -> _Ready:
        record = self._records.get(_name_for(key))
        if record is None:
            raise KeyMissing(key)
        try:
            decoder_key = record.key.derive(key, self._tables)
        except StsError as refusal:
            raise ModuleRefused(refusal.fault, refusal.sentence) from None
        first_tid, last_tid = _tid_limits(record)
        return _Ready(decoder_key, record, first_tid, last_tid)

    def _check_currency(self, sign_exponent: int) -> None:
        if sign_exponent & 8 and Unsettled.NEGATIVE_CURRENCY not in self._allowed:
            raise ModuleRefused(Fault.UNSETTLED, "negative currency credit: coding rests on one open source")
        if sign_exponent & 7 and Unsettled.CURRENCY_EXPONENT_ABOVE_3 not in self._allowed:
            raise ModuleRefused(Fault.UNSETTLED, "currency exponent above 3: coding rests on one open source")


def _name_for(key: MeterKey) -> KeyName:
    return key.supply_group, key.key_revision, key.key_type, key.dkga, key.base_date


def _no_tokens_under(key_type: int, credit: bool) -> ModuleRefused:
    if key_type == 1 and credit:
        return ModuleRefused(Fault.DEFAULT_KEY_CREDIT, "no credit under a default key (type 1): change the key first")
    return ModuleRefused(Fault.KEY_TYPE, f"key type {key_type} makes key-change tokens only")


def _check_management(request: ManagementRequest) -> None:
    try:
        management_of(request.subclass, request.tid, request.rnd, request.value)
    except StsError as refusal:
        raise ModuleRefused(refusal.fault, refusal.sentence) from None


def _check_dates(record: VendingKeyRecord, now: datetime) -> None:
    if record.active_from is not None and now < record.active_from:
        raise _outside_dates(True)
    if record.issued_until is not None and now > record.issued_until:
        raise _outside_dates(False)


def _outside_dates(early: bool) -> ModuleRefused:
    if early:
        return ModuleRefused(Fault.KEY_NOT_ACTIVE, "the vending key is not active yet")
    return ModuleRefused(Fault.KEY_NO_LONGER_USED, "the vending key may no longer be used")


def _tid_limits(record: VendingKeyRecord) -> tuple[int, int]:
    """First and last TID that the vending key's dates allow, counted in UTC; beyond the TIDs where there is no date."""
    start = datetime(record.base_date, 1, 1, tzinfo=UTC)
    minute = timedelta(minutes=1)
    first_tid, last_tid = 0, tids.TID_MAX
    if record.active_from is not None:
        first_tid = -((start - record.active_from) // minute)
    if record.issued_until is not None:
        last_tid = (record.issued_until - start) // minute
    return first_tid, last_tid
