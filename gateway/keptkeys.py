"""Security modules under custody: they make tokens only with keys that the books say are in use there. Shell: waits.

Every module of the settings stands behind a `KeptModule`. The store tells it what the books allow before any deed of a
batch decides (`ledger.store.Observer`), so a key that was ended makes no token from the commit that ended it: no batch
is under way at that moment (`ledger/vendingkeys.py`), and each later one has been told.

A token that a module was asked for meanwhile is thrown away when it comes (`may_still`): the purchase gives its money
back, and nobody was shown the token.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Final

from ledger.keyrows import State
from ledger.unit import KeyName, KeyUse
from sts.meterkey import MeterKey
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    KeyStatus,
    ModuleRefused,
    ModuleStatus,
    SecurityModule,
    TokenRequest,
    each,
)
from sts.modules.pool import Made, ModulePool
from sts.modules.signing import KeyTerms, name_for
from sts.tokens import Token

Request = TokenRequest | KeyChangeRequest


@dataclass(frozen=True, slots=True)
class Stricter:
    """The terms of a key as module and books both allow them."""

    base_date: int
    key_expiry: int
    active_from: datetime | None
    issued_until: datetime | None


def stricter(status: KeyStatus, use: KeyUse) -> Stricter:
    """Of two dates the stricter; a replaced key makes no credit from then on."""
    starts = [moment for moment in (status.active_from, use.active_from) if moment is not None]
    ends = (status.issued_until, use.issued_until, use.refresh_by, use.replaced_at)
    return Stricter(
        status.base_date,
        min(status.key_expiry, use.key_expiry),
        max(starts, default=None),
        min((moment for moment in ends if moment is not None), default=None),
    )


def name_of(status: KeyStatus) -> KeyName:
    """What tells keys of one module apart."""
    return status.supply_group, status.key_revision, status.key_type, status.dkga, status.base_date


def is_used(use: KeyUse, status: KeyStatus) -> bool:
    """Whether books and module agree on the key, and the books have it in use.

    A key that was approved without a check value, because its module gives none, is bound to its name alone.
    """
    return use.state in (State.ACTIVE, State.REPLACED) and use.kcv in ("", status.kcv)


class KeptModule:
    """Satisfies `SecurityModule` over another one, with the keys that the books allow; none before they are told.

    `allow` may be called from another thread than the rest.
    """

    def __init__(self, inner: SecurityModule) -> None:
        self._inner = inner
        self._uses: tuple[KeyUse, ...] = ()
        self._stamp = -1
        self._terms: Mapping[KeyName, KeyTerms] = {}
        self._settling: Final = Lock()

    def __repr__(self) -> str:
        return f"<KeptModule {self.name}, {len(self._terms)} vending keys in use>"

    @property
    def inner(self) -> SecurityModule:
        """The module behind."""
        return self._inner

    def allow(self, uses: Sequence[KeyUse], stamp: int) -> None:
        """These keys, of whichever modules, are in use from now on, and no others; unless a later stamp was told."""
        with self._settling:
            if stamp >= self._stamp:
                self._stamp = stamp
                self._uses = tuple(use for use in uses if use.module == self._inner.name)
                self._settle()

    def stand_before(self, inner: SecurityModule) -> None:
        """Another module of the same name takes the place of the one behind, or the one behind holds other keys."""
        with self._settling:
            self._inner = inner
            self._settle()

    def _settle(self) -> None:
        held = {name_of(status): status for status in self._inner.status().keys}
        self._terms = {
            use.name: KeyTerms(stricter(held[use.name], use))
            for use in self._uses
            if use.name in held and is_used(use, held[use.name])
        }

    @property
    def name(self) -> str:
        """The module's name in settings, books, metrics and the audit log."""
        return self._inner.name

    @property
    def answers_at_once(self) -> bool:
        """As the module behind."""
        return self._inner.answers_at_once

    def holds(self, key: MeterKey) -> bool:
        """Does the module hold the vending key, and do the books allow it there?"""
        return name_for(key) in self._terms and self._inner.holds(key)

    def may(self, request: Request) -> bool:
        """Whether the books still allow this; dates were looked at when it was asked for."""
        terms = self._terms
        if isinstance(request, KeyChangeRequest):
            return name_for(request.key) in terms and name_for(request.new) in terms
        return any(use.name == name_for(request.key) and use.state == State.ACTIVE for use in self._uses) and (
            name_for(request.key) in terms
        )

    def status(self) -> ModuleStatus:
        """The module with the keys in use, under the stricter dates."""
        status, terms = self._inner.status(), self._terms
        keys = [
            KeyStatus(
                key.supply_group,
                key.key_revision,
                key.key_type,
                key.dkga,
                key.base_date,
                terms[name_of(key)].limits.key_expiry,
                key.kcv,
                terms[name_of(key)].limits.active_from,
                terms[name_of(key)].limits.issued_until,
            )
            for key in status.keys
            if name_of(key) in terms
        ]
        return ModuleStatus(status.name, status.table_set, status.real_meters_accept_ea07, tuple(keys))

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As the module behind; KeyMissing for a key that is not in use, and refusals by the books' dates."""
        self._terms_of(request.key).check(request, now)
        return self._inner.make(request, now=now)

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """A token, or the error `make` would have raised, for each request in its place."""
        return each(lambda request: self.make(request, now=now), requests)

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As the module behind. A replaced key may be changed away from, not to."""
        self._check_set(request, now)
        return self._inner.make_set(request, now=now)

    def verify(self, digits: str, key: MeterKey) -> Token:
        """As the module behind, for keys in use."""
        self._terms_of(key)
        return self._inner.verify(digits, key)

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As `make`, for any module."""
        self._terms_of(request.key).check(request, now)
        return await self._inner.make_later(request, now=now)

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As `make_set`, for any module."""
        self._check_set(request, now)
        return await self._inner.make_set_later(request, now=now)

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        """As `verify`, for any module."""
        self._terms_of(key)
        return await self._inner.verify_later(digits, key)

    def close(self) -> object:
        """Close the module behind, if it can be closed; what its `close` gives, which may have to be awaited."""
        close = getattr(self._inner, "close", None)
        return close() if close is not None else None

    def _terms_of(self, key: MeterKey) -> KeyTerms:
        terms = self._terms.get(name_for(key))
        if terms is None:
            raise KeyMissing(key)
        return terms

    def _check_set(self, request: KeyChangeRequest, now: datetime) -> None:
        self._terms_of(request.key)
        self._terms_of(request.new).check_dates(now)


# --- one module or several, under custody or not ----------------------------------------------------------------------


def members_of(module: SecurityModule) -> tuple[SecurityModule, ...]:
    """The modules of a pool in the order of trial, or the only one."""
    return module.members if isinstance(module, ModulePool) else (module,)


def holders(module: SecurityModule, key: MeterKey) -> tuple[str, ...]:
    """The names of the modules that hold a key and may use it, in the order of trial."""
    return tuple(member.name for member in members_of(module) if member.holds(key))


def may_still(module: SecurityModule, request: Request, by: str) -> bool:
    """Whether the module of this name may still make what it was asked for."""
    return any(
        member.may(request) if isinstance(member, KeptModule) else True
        for member in members_of(module)
        if member.name == by
    )


def made(module: SecurityModule, request: Request, *, now: datetime, first: str = "") -> Made:
    """A token or a key-change set from a module that answers at once, and who made it. Raises StsError."""
    if isinstance(module, ModulePool):
        return module.made(request, now=now, first=first)
    if isinstance(request, KeyChangeRequest):
        return Made(module.make_set(request, now=now), module.name)
    return Made((module.make(request, now=now),), module.name)


async def made_later(
    module: SecurityModule,
    request: Request,
    *,
    now: datetime | None,
    first: str = "",
    among: Collection[str] | None = None,
) -> Made:
    """As `made`, from any module; may wait. Without a pool `first` and `among` mean nothing. A set needs `now`."""
    if isinstance(module, ModulePool):
        return await module.made_later(request, now=now, first=first, among=among)
    if isinstance(request, KeyChangeRequest):
        assert now is not None
        return Made(await module.make_set_later(request, now=now), module.name)
    return Made((await module.make_later(request, now=now),), module.name)
