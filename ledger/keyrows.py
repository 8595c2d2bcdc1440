"""Vending keys as values: names, states, dates, limits, and when they end. Pure; never key bytes.

The SQL behind them is in `ledger/vendingkeys.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from ledger.unit import KeyName, KeyUse

COUNT_MAX: Final = 2**53
STAMP: Final = "vending_keys"
SOFTWARE: Final = "software"
"""The module that has the keys of the key store, unless the settings give it another name."""


class State(StrEnum):
    """Where a vending key is on its way."""

    LOADED = "LOADED"
    ACTIVE = "ACTIVE"
    REPLACED = "REPLACED"
    DESTROYED = "DESTROYED"


class CustodyFault(StrEnum):
    """Why a deed with a vending key is refused; the value is stable and may be stored."""

    # fmt: off
    UNKNOWN      = "unknown"       # no such key in the books
    DUPLICATE    = "duplicate"     # the file or key brings nothing that is not there already
    REPLAYED     = "replayed"      # a file loaded before, or older than one loaded before
    OTHER_KEY    = "other_key"     # the name is taken by a key of another check value
    OTHER_MODULE = "other_module"  # the key belongs to another module
    REPLACED     = "replaced"      # a replaced key does not come back
    DESTROYED    = "destroyed"     # nor does a destroyed one
    ENDED        = "ended"         # its dates are over
    STATE        = "state"         # not in this state
    NOT_HELD     = "not_held"      # the key store does not hold it
    BELOW_TOTAL  = "below_total"   # a limit that has been passed already
    LIMIT        = "limit"         # a limit that is no number of tokens or units
    # fmt: on


class CustodyRefused(Exception):
    """The rules about vending keys say no. `fault` is the name, `sentence` is for people."""

    def __init__(self, fault: CustodyFault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault: Final = fault
        self.sentence: Final = sentence


@dataclass(frozen=True, slots=True, order=True)
class KeyId:
    """What tells vending keys apart; written as `600801/2/2/4/2014`, and `600801/2/2/4/2014@hsm-1` in another module.

    A module of its own name (`SOFTWARE`) is the key store of an installation that has not named it otherwise.
    """

    supply_group: str
    key_revision: int
    key_type: int
    key_generation: int
    base_date: int
    module: str = SOFTWARE

    def __str__(self) -> str:
        return self.own_name if self.module == SOFTWARE else f"{self.own_name}@{self.module}"

    @property
    def own_name(self) -> str:
        """The key without its module, as it is written."""
        return f"{self.supply_group}/{self.key_revision}/{self.key_type}/{self.key_generation}/{self.base_date}"

    @property
    def name(self) -> KeyName:
        """The key without its module."""
        return self.supply_group, self.key_revision, self.key_type, self.key_generation, self.base_date

    @staticmethod
    def read(text: str) -> KeyId:
        """The key written like that; ValueError for anything else."""
        form = r"([0-9]{6})/([1-9])/([0-3])/([24])/(1993|2014|2035)(?:@([A-Za-z0-9][A-Za-z0-9_.-]{0,39}))?"
        match = re.fullmatch(form, text)
        if match is None:
            raise ValueError(
                "key: SUPPLY GROUP/REVISION/TYPE/GENERATION/BASE DATE expected, as in 600801/2/2/4/2014, and @MODULE "
                "for one that is not in the key store"
            )
        revision, key_type, generation, base_date = (int(part) for part in match.groups()[1:5])
        return KeyId(match[1], revision, key_type, generation, base_date, match[6] or SOFTWARE)


@dataclass(frozen=True, slots=True)
class Terms:
    """Under what conditions a key may be used. Limits are totals since there was a limit first; None: no limit."""

    key_expiry: int
    active_from: datetime | None = None
    issued_until: datetime | None = None
    refresh_by: datetime | None = None
    token_limit: int | None = None
    units_limit_tenths: int | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as a file or a person brings it."""

    id: KeyId
    kcv: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A transfer file as the books know it."""

    file_id: UUID
    module: str
    serial: int
    file_hash: str
    key_count: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """What a newer file says of an active key, not yet approved."""

    terms: Terms
    loaded_by: str
    loaded_at: datetime
    file_id: UUID | None
    file_hash: str | None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A vending key in the books."""

    id: KeyId
    kcv: str
    state: State
    terms: Terms
    tokens_made: int
    units_made_tenths: int
    loaded_by: str
    loaded_at: datetime
    file_id: UUID | None
    file_hash: str | None
    activated_by: str | None
    activated_at: datetime | None
    replaced_by: str | None
    replaced_at: datetime | None
    destroyed_at: datetime | None
    pending: Pending | None

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.id.module

    @property
    def use(self) -> KeyUse:
        """What a module must know of it."""
        terms = self.terms
        return KeyUse(
            self.id.name,
            self.module,
            self.kcv,
            self.state,
            terms.key_expiry,
            terms.active_from,
            terms.issued_until,
            terms.refresh_by,
            self.replaced_at,
        )


class Outcome(StrEnum):
    """What became of one key of a file."""

    NEW = "new"
    REFRESHED = "refreshed"
    UNCHANGED = "unchanged"


class EndKind(StrEnum):
    """How something ends."""

    ISSUED_UNTIL = "issued_until"  # the module refuses the key from then on
    REFRESH_BY = "refresh_by"  # likewise, unless a newer file was activated
    KEY_EXPIRY = "key_expiry"  # the key expiry number ends it, or the base date does
    AUTHORISATION = "authorisation"  # a module may no longer vend; told by the module, not by the books


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that ends: what (`key 600801/2/2/4/2014`, `module prism-1`), how, and when."""

    subject: str
    kind: EndKind
    ends_at: datetime


def endings(rows: Iterable[KeyRow]) -> list[Ending]:
    """Every end of every key that is loaded or active; pure."""
    found = []
    for row in rows:
        if row.state in (State.LOADED, State.ACTIVE):
            subject = f"key {row.id}"
            if row.terms.issued_until is not None:
                found.append(Ending(subject, EndKind.ISSUED_UNTIL, row.terms.issued_until))
            if row.terms.refresh_by is not None:
                found.append(Ending(subject, EndKind.REFRESH_BY, row.terms.refresh_by))
            found.append(Ending(subject, EndKind.KEY_EXPIRY, key_expires_at(row.id.base_date, row.terms.key_expiry)))
    return found


def key_expires_at(base_date: int, key_expiry: int) -> datetime:
    """When a key expiry number (KEN) ends a key: it has 65,536 minutes a step, counted from the base date in UTC.

    255 is the end of the base date's token identifiers. A base date counted in local time is off by that zone.
    """
    return datetime(base_date, 1, 1, tzinfo=UTC) + timedelta(minutes=(key_expiry + 1) << 16)


def is_over(terms: Terms, now: datetime) -> bool:
    """Whether the key may not be used any more; pure.

    Its expiry number does not count here: a key whose base date has ended makes no credit (its module sees to that),
    and is still needed for the key changes that take meters off it.
    """
    ends = [terms.issued_until, terms.refresh_by]
    return any(end is not None and now >= end for end in ends)


def kwh(tenths: int) -> str:
    """Tenths of a kWh as people write them."""
    return f"{tenths // 10}.{tenths % 10}"
