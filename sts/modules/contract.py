"""What any security module can do, said in handles: nobody above a module ever sees a key. Pure.

A request holds every input of its token, so the same request gives the same token, however often it is asked. Store
the request before asking.

Three ways to fail, never mixed:

- `ModuleRefused`: the module says no, and will say no again. `fault` is the name.
- `KeyMissing`: this module does not hold the vending key; another one may.
- `ModuleSilent`: no answer. The outcome is unknown, so ask again with the same request; never call it refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from sts.errors import Fault, NumberError, StsError
from sts.meterkey import MeterKey
from sts.tid import TID_MAX, is_reserved
from sts.tokens import Token

__all__ = [
    "CreditRequest",
    "KeyChangeRequest",
    "KeyMissing",
    "KeyStatus",
    "ManagementRequest",
    "MeterKey",
    "ModuleError",
    "ModuleRefused",
    "ModuleSilent",
    "ModuleStatus",
    "SecurityModule",
    "TokenRequest",
    "Unsettled",
]


class ModuleError(StsError):
    """A security module did not make the token."""


class ModuleRefused(ModuleError):
    """The module refuses, finally: the same request will be refused again."""


class KeyMissing(ModuleError):
    """This module holds no vending key for the supply group, revision, type, algorithm and base date asked for."""

    def __init__(self, key: MeterKey) -> None:
        super().__init__(
            Fault.KEY_MISSING,
            f"no vending key for supply group {key.supply_group}, revision {key.key_revision}, "
            f"type {key.key_type}, DKGA{key.dkga:02d}, base date {key.base_date}",
        )


class ModuleSilent(ModuleError):
    """The module did not answer: whether it made a token is unknown. Ask again with the same request."""

    def __init__(self, sentence: str) -> None:
        super().__init__(Fault.SILENT, sentence)


class Unsettled(StrEnum):
    """Codings that rest on one open source. Refused as UNSETTLED unless an operator allows them by name."""

    TARIFF_INDEX_ABOVE_9 = "tariff_index_above_9"
    """A second key-change section with a tariff index above 09: binary here; decimal coding is conceivable."""
    CURRENCY_EXPONENT_ABOVE_3 = "currency_exponent_above_3"
    """Currency credit above 18,201,624 units of 1e-5, that is above 182 of the base currency."""
    NEGATIVE_CURRENCY = "negative_currency"
    """Currency credit with its sign bit set."""


@dataclass(frozen=True, slots=True)
class CreditRequest:
    """All inputs of one credit token (class 0): same inputs, same token.

    `subclass` 0 to 3: electricity, water, gas, time; 4 to 7 the same in currency. `tid` from `sts.tid.next_tid`.
    `rnd` is the 4-bit random field; for 4 to 7 it is `CurrencyAmount.sign_exponent` instead.
    `amount_field` is the 16-bit field of `sts.amounts`, not the amount.
    Refuses OUT_OF_RANGE for what does not fit, TOKEN_CLASS for the reserved subclasses 8 to 15.
    """

    key: MeterKey
    subclass: int
    tid: int
    rnd: int
    amount_field: int

    def __post_init__(self) -> None:
        if not 0 <= self.subclass <= 7:
            raise NumberError(Fault.TOKEN_CLASS, f"credit subclass: 0 to 7 expected, got {self.subclass}")
        _check_register(self.tid, self.rnd, self.amount_field)


@dataclass(frozen=True, slots=True)
class ManagementRequest:
    """All inputs of one engineering token with a TID (class 2 but for key changes).

    `subclass` 0 power limit, 1 clear credit, 2 tariff rate, 5 clear tamper, 6 phase unbalance limit, 7 water meter
    factor, 10 control element; `value` is its 16-bit field (see `sts.tokens` for each).
    Refuses TOKEN_CLASS for another subclass, OUT_OF_RANGE for what does not fit.
    """

    key: MeterKey
    subclass: int
    tid: int
    rnd: int
    value: int

    def __post_init__(self) -> None:
        if self.subclass not in (0, 1, 2, 5, 6, 7, 10):
            raise NumberError(
                Fault.TOKEN_CLASS, f"management subclass: 0, 1, 2, 5, 6, 7 or 10 expected, got {self.subclass}"
            )
        _check_register(self.tid, self.rnd, self.value)


@dataclass(frozen=True, slots=True)
class KeyChangeRequest:
    """All inputs of a key-change set: the meter's key now, and the key it shall have.

    The set clears the meter's TID memory (RO) exactly when the base date changes.
    """

    key: MeterKey
    new: MeterKey


TokenRequest = CreditRequest | ManagementRequest
"""Requests answered by one token."""


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One vending key as a health page may show it; the check value (KCV) tells keys apart and gives none away."""

    supply_group: str
    key_revision: int
    key_type: int
    dkga: int
    base_date: int
    key_expiry: int
    kcv: str
    active_from: datetime | None
    issued_until: datetime | None


@dataclass(frozen=True, slots=True)
class ModuleStatus:
    """A module as a health page may show it."""

    name: str
    table_set: str
    """Name of the EA07 table set; `sample` means that real EA07 meters refuse its tokens."""
    real_meters_accept_ea07: bool
    """False with the sample tables: say so wherever a token of this module is shown."""
    keys: tuple[KeyStatus, ...]


def each(
    make: Callable[[TokenRequest], str], requests: Sequence[TokenRequest]
) -> list[str | ModuleRefused | KeyMissing]:
    """`make_many` one by one: a token, or the refusal that `make` raised, for each request in its place.

    ModuleSilent ends all of them.
    """
    answers: list[str | ModuleRefused | KeyMissing] = []
    for request in requests:
        try:
            answers.append(make(request))
        except (ModuleRefused, KeyMissing) as refusal:
            answers.append(refusal)
    return answers


@runtime_checkable
class SecurityModule(Protocol):
    """What any module can do. `make` and its sisters exist to be called inside a transaction: see `answers_at_once`."""

    @property
    def name(self) -> str:
        """The module's name in settings, metrics and the audit log."""
        ...

    @property
    def answers_at_once(self) -> bool:
        """True: the synchronous methods compute and never wait. False: only the `_later` methods may be called."""
        ...

    def holds(self, key: MeterKey) -> bool:
        """Does this module hold the vending key that this decoder key derives from?"""
        ...

    def status(self) -> ModuleStatus:
        """The module for a health page; never key bytes."""
        ...

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """The token of a request, 20 digits.

        `now` (aware) is held against the vending key's dates; without it the minute of the TID is.
        Raises ModuleRefused or KeyMissing.
        """
        ...

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """A token, or the error `make` would have raised, for each request in its place."""
        ...

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """The 2 (EA07) or 4 (EA11) tokens of a key change, 20 digits each; any order works at the meter.

        Raises ModuleRefused or KeyMissing.
        """
        ...

    def verify(self, digits: str, key: MeterKey) -> Token:
        """What a token says under this key; raises TokenError if it is none, KeyMissing, ModuleRefused."""
        ...

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As `make`, for any module; may wait, and may also raise ModuleSilent."""
        ...

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As `make_set`, for any module; may wait, and may also raise ModuleSilent."""
        ...

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        """As `verify`, for any module; may wait, and may also raise ModuleSilent."""
        ...


def _check_register(tid: int, rnd: int, value: int) -> None:
    if not 0 <= tid <= TID_MAX:
        raise NumberError(Fault.OUT_OF_RANGE, f"TID: 0 to {TID_MAX} expected, got {tid}")
    if is_reserved(tid):
        raise NumberError(Fault.OUT_OF_RANGE, "TID: 00:01 is kept for special tokens")
    if not 0 <= rnd <= 15:
        raise NumberError(Fault.OUT_OF_RANGE, f"RND: 0 to 15 expected, got {rnd}")
    if not 0 <= value <= 0xFFFF:
        raise NumberError(Fault.OUT_OF_RANGE, f"16-bit field: 0 to 65535 expected, got {value}")
