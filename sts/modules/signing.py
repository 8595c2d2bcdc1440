"""From a decoder key to tokens, with every check: what all modules that compute tokens in this process share. Pure.

A module finds the decoder key its own way, in its own order; the rules below are the same for all of them.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

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
    ManagementRequest,
    ModuleRefused,
    TokenRequest,
    Unsettled,
)
from sts.modules.records import KeyName
from sts.tokens import Credit, CurrencyCredit, Token, management_of, register_block

KEY_TYPE_CHANGES: Final = frozenset({(1, 2), (2, 2)})
"""Changes of key type that a key-change set may make. The table of the standard is not public; these two are sure."""

CACHE_SIZE: Final = 4096
"""Decoder keys kept ready; a prepared EA07 key takes about 2.5 kB."""


class VendingKeyLimits(Protocol):
    """What limits a vending key's use: a VendingKeyRecord and a KeyStatus both say it."""

    @property
    def base_date(self) -> int: ...

    @property
    def key_expiry(self) -> int: ...

    @property
    def active_from(self) -> datetime | None: ...

    @property
    def issued_until(self) -> datetime | None: ...


class KeyTerms:
    """What limits a vending key's use, ready to hold a request against."""

    __slots__ = ("first_tid", "last_tid", "limits")

    def __init__(self, limits: VendingKeyLimits) -> None:
        self.limits: Final = limits
        self.first_tid, self.last_tid = _tid_limits(limits)

    def check(self, request: TokenRequest, now: datetime | None) -> None:
        """Refuse KEY_EXPIRED, KEY_NOT_ACTIVE and KEY_NO_LONGER_USED; without `now` by the minute of the TID, in UTC."""
        tid, limits = request.tid, self.limits
        if tid >> 16 > request.key.key_expiry or tid >> 16 > limits.key_expiry:
            raise ModuleRefused(Fault.KEY_EXPIRED, "the key expired: TID beyond its expiry number")
        if now is not None:
            _check_dates(limits, now)
        elif not self.first_tid <= tid <= self.last_tid:
            raise _outside_dates(tid < self.first_tid)

    def check_dates(self, now: datetime) -> None:
        """Refuse KEY_NOT_ACTIVE and KEY_NO_LONGER_USED."""
        _check_dates(self.limits, now)


class ReadyKey(KeyTerms):
    """A decoder key with the limits of the vending key that made it."""

    __slots__ = ("key",)

    def __init__(self, key: DecoderKey, limits: VendingKeyLimits) -> None:
        super().__init__(limits)
        self.key: Final = key

    def __repr__(self) -> str:
        return f"<ReadyKey {self.key!r}>"


def name_for(key: MeterKey) -> KeyName:
    """The name of the vending key that this decoder key derives from."""
    return key.supply_group, key.key_revision, key.key_type, key.dkga, key.base_date


def no_tokens_under(request: TokenRequest) -> ModuleRefused:
    """The refusal of a request under a key of type 0 or 1: DEFAULT_KEY_CREDIT or KEY_TYPE."""
    key_type = request.key.key_type
    if key_type == 1 and isinstance(request, CreditRequest):
        return ModuleRefused(Fault.DEFAULT_KEY_CREDIT, "no credit under a default key (type 1): change the key first")
    return ModuleRefused(Fault.KEY_TYPE, f"key type {key_type} makes key-change tokens only")


def token_digits(
    request: TokenRequest, ready: ReadyKey, allowed: frozenset[Unsettled], now: datetime | None = None
) -> str:
    """The token of a request whose key type was looked at already, 20 digits.

    Checked in this order, each with its own fault: UNSETTLED, OUT_OF_RANGE, KEY_EXPIRED, then the vending key's dates
    (KEY_NOT_ACTIVE, KEY_NO_LONGER_USED). Without `now` the dates are held against the minute of the TID, in UTC.
    """
    tid = request.tid
    if isinstance(request, CreditRequest):
        token_class, value = 0, request.amount_field
        if request.subclass >= 4 and request.rnd:
            _check_currency(request.rnd, allowed)
    else:
        token_class, value = 2, request.value
        _check_management(request)
    ready.check(request, now)
    block = register_block(token_class, request.subclass, request.rnd, tid, value)
    return digits_of(token_class, ready.key.encrypt(block))


def check_change(
    request: KeyChangeRequest, allowed: frozenset[Unsettled], key_type_changes: frozenset[tuple[int, int]]
) -> None:
    """Refuse a key change that the two handles alone rule out, before any key is looked for.

    KEY_MISMATCH for another meter, another algorithm or a base date that goes back; KEY_TYPE for a change of type that
    is not allowed; UNSETTLED for a tariff index above 09.
    """
    key, new = request.key, request.new
    if (key.drn, key.iin) != (new.drn, new.iin):
        raise ModuleRefused(Fault.KEY_MISMATCH, "key change: the same meter expected before and after")
    if key.ea != new.ea:
        raise ModuleRefused(Fault.KEY_MISMATCH, "key change: no set changes the encryption algorithm")
    if (key.key_type, new.key_type) not in key_type_changes:
        raise ModuleRefused(Fault.KEY_TYPE, f"key change from type {key.key_type} to {new.key_type} not allowed")
    if new.base_date < key.base_date:
        raise ModuleRefused(Fault.KEY_MISMATCH, "key change: a base date does not go back")
    if int(new.tariff_index) > 9 and Unsettled.TARIFF_INDEX_ABOVE_9 not in allowed:
        raise ModuleRefused(Fault.UNSETTLED, "tariff index above 09: coding not settled by an open source")


def change_digits(request: KeyChangeRequest, present: ReadyKey, following: ReadyKey, now: datetime) -> tuple[str, ...]:
    """The tokens of a key change that `check_change` let through, enciphered under the present key.

    An expired present key may still be replaced. Refuses OUT_OF_RANGE for an expiry number beyond the new vending
    key's, the new key's dates as `token_digits` does, and KEY_MISMATCH for a new base date without a new decoder key:
    the meter forgets its TIDs then, and old tokens would work again.
    """
    key, new = request.key, request.new
    if new.key_expiry > following.limits.key_expiry:
        raise ModuleRefused(Fault.OUT_OF_RANGE, "key change: an expiry number up to the vending key's expected")
    _check_dates(following.limits, now)
    rollover = key.base_date != new.base_date
    if rollover and present.key.same_as(following.key):
        raise ModuleRefused(Fault.KEY_MISMATCH, "a new base date needs a new decoder key: change the revision too")
    sections = key_change_set(following.key, new, rollover=rollover)
    return tuple(digits_from(section, present.key) for section in sections)


def token_read(digits: str, key: MeterKey, ready: ReadyKey) -> Token:
    """What a token says under this key, its TID's day not looked at.

    Raises TokenError with FORMAT, TOKEN_CLASS, CRC, OUT_OF_RANGE, UNSETTLED, and, as a meter would,
    DEFAULT_KEY_CREDIT and KEY_EXPIRED.
    """
    token = token_from(digits, ready.key)
    if isinstance(token, Credit | CurrencyCredit) and key.key_type == 1:
        raise TokenError(Fault.DEFAULT_KEY_CREDIT, "credit under a default key")
    tid = getattr(token, "tid", None)
    if tid is not None and tid >> 16 > key.key_expiry:
        raise TokenError(Fault.KEY_EXPIRED, f"the key expired: TID beyond expiry number {key.key_expiry}")
    return token


def _check_currency(sign_exponent: int, allowed: frozenset[Unsettled]) -> None:
    if sign_exponent & 8 and Unsettled.NEGATIVE_CURRENCY not in allowed:
        raise ModuleRefused(Fault.UNSETTLED, "negative currency credit: coding rests on one open source")
    if sign_exponent & 7 and Unsettled.CURRENCY_EXPONENT_ABOVE_3 not in allowed:
        raise ModuleRefused(Fault.UNSETTLED, "currency exponent above 3: coding rests on one open source")


def _check_management(request: ManagementRequest) -> None:
    try:
        management_of(request.subclass, request.tid, request.rnd, request.value)
    except StsError as refusal:
        raise ModuleRefused(refusal.fault, refusal.sentence) from None


def _check_dates(limits: VendingKeyLimits, now: datetime) -> None:
    if limits.active_from is not None and now < limits.active_from:
        raise _outside_dates(True)
    if limits.issued_until is not None and now > limits.issued_until:
        raise _outside_dates(False)


def _outside_dates(early: bool) -> ModuleRefused:
    if early:
        return ModuleRefused(Fault.KEY_NOT_ACTIVE, "the vending key is not active yet")
    return ModuleRefused(Fault.KEY_NO_LONGER_USED, "the vending key may no longer be used")


def _tid_limits(limits: VendingKeyLimits) -> tuple[int, int]:
    """First and last TID that the vending key's dates allow, counted in UTC; beyond the TIDs where there is no date."""
    first_tid, last_tid = 0, tids.TID_MAX
    if limits.active_from is None and limits.issued_until is None:
        return first_tid, last_tid
    start = datetime(limits.base_date, 1, 1, tzinfo=UTC)
    minute = timedelta(minutes=1)
    if limits.active_from is not None:
        first_tid = -((start - limits.active_from) // minute)
    if limits.issued_until is not None:
        last_tid = (limits.issued_until - start) // minute
    return first_tid, last_tid
