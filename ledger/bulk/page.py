"""One page of records of one kind: compare, check, store, change. Functions of the SQL transaction they are handed.

A page is stored in one transaction, which is short: on SQLite a gateway that is running waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from ledger import audit, sets
from ledger.audit import Origin
from ledger.bulk.kind import Coming, Fault, Kind, Nothing, Occasion, Record

# PostgreSQL's SQLSTATE of a serialization failure and of a deadlock, which a sale may meet and win.
_AGAIN: Final = ("40001", "40P01")


@dataclass(slots=True)
class Outcome:
    """What became of a page, or would."""

    new: int = 0
    there: int = 0
    different: list[str] = field(default_factory=list)  # keys of those that are there, differ and are left as they are
    changed: list[str] = field(default_factory=list)  # keys of those that were changed
    faults: list[Fault] = field(default_factory=list)
    doubts: list[Fault] = field(default_factory=list)


def check(
    connection: sa.Connection,
    kind: Kind,
    records: Sequence[Record],
    *,
    coming: Coming,
    update: bool,
    before: Record | None = None,
) -> Outcome:
    """What storing them would do. `before` is the last record of the page before."""
    outcome, new, changes = _compared(connection, kind, records, update)
    outcome.faults = _faults(connection, kind, records, new, changes, coming)
    bad = {place for place, _, _ in outcome.faults}
    outcome.new = len(new) - len(bad & set(new))
    outcome.changed = [kind.key(records[place]) for place in changes if place not in bad]
    outcome.doubts = kind.doubts(connection, records, before)
    return outcome


def store(
    connection: sa.Connection,
    kind: Kind,
    records: Sequence[Record],
    occasion: Occasion,
    *,
    origin: Origin | None = None,
) -> Outcome:
    """Store those that are new; with an `origin`, change those that differ, each with its row in the audit log.

    They were checked before; what cannot be stored any more, since somebody else has changed the database meanwhile, is
    a fault and left out.
    """
    if origin is not None:
        kind.lock(connection, records)
    outcome, new, changes = _compared(connection, kind, records, origin is not None)
    outcome.faults = _faults(connection, kind, records, new, changes, Nothing())
    bad = {place for place, _, _ in outcome.faults}
    fresh = [records[place] for place in new if place not in bad]
    if fresh:
        kind.insert(connection, fresh, occasion)
    outcome.new = len(fresh)
    pairs = [pair for place, pair in changes.items() if place not in bad]
    if pairs and origin is not None:
        kind.update(connection, pairs)
        audit.note_all(connection, origin, kind.deed, [_noted(kind, was, now) for was, now in pairs])
    outcome.changed = [kind.key(now) for _, now in pairs]
    return outcome


def store_fresh(
    connection: sa.Connection, kind: Kind, records: Sequence[Record], occasion: Occasion, origin: Origin | None
) -> Outcome:
    """`store`, with what another writer may do at the same moment as `sets.Changed`: try again then."""
    try:
        return store(connection, kind, records, occasion, origin=origin)
    except sa.exc.DBAPIError as error:
        if isinstance(error, sa.exc.IntegrityError) or getattr(error.orig, "sqlstate", None) in _AGAIN:
            raise sets.Changed(f"another program stores {kind.name} at this moment") from error
        raise


def _compared(
    connection: sa.Connection, kind: Kind, records: Sequence[Record], update: bool
) -> tuple[Outcome, list[int], dict[int, tuple[Record, Record]]]:
    """The places of new records, and of those to be changed with what they are and shall be."""
    stored = kind.stored(connection, records)
    outcome = Outcome()
    new: list[int] = []
    changes: dict[int, tuple[Record, Record]] = {}
    for place, record in enumerate(records):
        was = stored.get(kind.key(record))
        if was is None:
            new.append(place)
            continue
        outcome.there += 1
        differing = kind.differences(was, record)
        if not differing:
            continue
        changing = [name for name in differing if name not in kind.fixed] if update else []
        if changing:
            changes[place] = was, {**record, **{name: was[name] for name in kind.fixed}}
        if len(changing) < len(differing):
            outcome.different.append(kind.key(record))
    return outcome, new, changes


def _faults(
    connection: sa.Connection,
    kind: Kind,
    records: Sequence[Record],
    new: Sequence[int],
    changes: Mapping[int, tuple[Record, Record]],
    coming: Coming,
) -> list[Fault]:
    """The faults of what is new, and of what is changed as it shall be; what stays as it is needs nothing."""
    wanted = {**{place: records[place] for place in new}, **{place: now for place, (_, now) in changes.items()}}
    if not wanted:
        return []
    places = list(wanted)
    return [
        (places[place], name, words) for place, name, words in kind.faults(connection, list(wanted.values()), coming)
    ]


def _noted(kind: Kind, was: Record, now: Record) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    names = [name for name in kind.differences(was, now) if name not in kind.fixed]
    return kind.subject(kind.key(now)), {name: was[name] for name in names}, {name: now[name] for name in names}
