"""The audit log: who did what, when, from where, what was before and after, and why; a chain that shows any change.

Functions of the SQL transaction they are handed; they never commit. A row carries the hash of the row before it and
its own, SHA-256 over all its fields in one canonical spelling. Nothing here changes or deletes a row. `verify` finds
a row that was changed, deleted, put in or moved, and an end that was cut off.

One chain for all writers. Its head is the row of `stamp` called "audit", which counts the rows: whoever appends raises
it, so writers queue at that row until the one before has committed. So that no two wait for each other: append last
in a transaction, or `queue_up` first of all.

What a chain cannot show is that somebody with write access to the whole database wrote all of it anew. So keep a
witness elsewhere: `verify` gives number and hash of the last row, and takes one that was noted before.

No secret belongs in here. Octets are refused, and so is a field named as a secret; twenty digits in a row are masked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import columns, tables
from ledger.records import insert_new

HEAD: Final = "audit"
FIRST_PREVIOUS: Final = "0" * 64
"""What stands in the first row where the others have the hash of the row before."""

TEXT_MAX: Final = 1_000
VALUES_MAX: Final = 20_000
_PAGE: Final = 1_000

_SECRET_NAME: Final = re.compile(
    r"(^|_)(pin|password|passphrase|secret|salt|token|tokens|digits|raw|(master|transfer|vending|decoder|api)_key)$"
)
_TOKEN: Final = re.compile(r"\d(?:[\s-]{0,2}\d){19,}")


class ChainBroken(Exception):
    """The audit log was tampered with, or damaged: nothing can be appended until somebody has looked at it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose deed it is, when and from where, and why: what every audited function takes."""

    who: str
    at: datetime
    place: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the log. `before` and `after` are JSON."""

    seq: int
    previous: str
    at: datetime
    who: str
    place: str
    deed: str
    subject: str
    before: str
    after: str
    reason: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The chain holds: how many rows, and the hash of the last one."""

    count: int
    head: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The chain is broken; the number of the first row that is not as it was written, and in what way."""

    seq: int
    what: str


def append(
    connection: sa.Connection,
    *,
    who: str,
    at: datetime,
    place: str,
    deed: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
) -> Row:
    """Add a row at the end of the chain, waiting for other writers to commit theirs.

    `deed` is a name with dots (`keys.activated`), `subject` what it was done to. Values are texts, whole numbers,
    truth values, instants, ids, and lists and mappings of these. ValueError for anything else and for fields named
    as secrets; ChainBroken if the last row is gone.
    """
    origin = Origin(who=who, at=at, place=place, reason=reason)
    return _append(connection, origin, deed, [(subject, before, after)])[0]


def note(
    connection: sa.Connection,
    origin: Origin,
    deed: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> Row:
    """`append` with an Origin."""
    return append(
        connection,
        who=origin.who,
        at=origin.at,
        place=origin.place,
        deed=deed,
        subject=subject,
        before=before,
        after=after,
        reason=origin.reason,
    )


def note_all(
    connection: sa.Connection,
    origin: Origin,
    deed: str,
    done: Sequence[tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None]],
) -> None:
    """`note` for many subjects of one deed, each with its values before and after; a row for each."""
    if done:
        _append(connection, origin, deed, done)


def _append(
    connection: sa.Connection,
    origin: Origin,
    deed: str,
    done: Sequence[tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None]],
) -> list[Row]:
    same: dict[str, Any] = {
        "at": origin.at.astimezone(UTC),
        "who": _line(origin.who),
        "place": _line(origin.place),
        "deed": _line(deed),
        "reason": _line(origin.reason),
    }
    each: list[dict[str, Any]] = [
        {**same, "subject": _line(subject), "before": _values(before), "after": _values(after)}
        for subject, before, after in done
    ]
    last = _next(connection, len(each))
    first = last - len(each) + 1
    previous = FIRST_PREVIOUS
    if first > 1:
        t = tables.audit.c
        found = connection.execute(sa.select(t.hash).where(t.seq == first - 1)).scalar_one_or_none()
        if found is None:
            raise ChainBroken(f"row {first - 1} of the audit log is missing: run `prepaid audit verify`")
        previous = found
    rows: list[Row] = []
    for seq, fields in enumerate(each, start=first):
        fields |= {"seq": seq, "previous": previous}
        rows.append(Row(**fields, hash=_hash(fields)))
        previous = rows[-1].hash
    connection.execute(sa.insert(tables.audit), [{name: getattr(row, name) for name in Row.__slots__} for row in rows])
    return rows


def queue_up(connection: sa.Connection) -> None:
    """Wait for one's turn to append, and keep it until the end of the transaction.

    For deeds that also change what is outside the database, such as a file: one at a time.
    """
    insert_new(connection, tables.stamp, [{"name": HEAD, "value": 0}], key="name")
    t = tables.stamp.c
    connection.execute(sa.update(tables.stamp).where(t.name == HEAD).values(value=t.value))


def verify(connection: sa.Connection, witness: tuple[int, str] | None = None) -> Verified | Broken:
    """Walk the whole chain; the first place where it is broken, or how long it is.

    `witness`: number and hash of a row as somebody noted them before; that row must still be the same.
    """
    # The head first: rows that are appended meanwhile are beyond it, and are not looked at.
    head = connection.execute(sa.select(tables.stamp.c.value).where(tables.stamp.c.name == HEAD)).scalar_one_or_none()
    count, previous = 0, FIRST_PREVIOUS
    if witness is not None and not 1 <= witness[0] <= (head or 0):
        return Broken(max(1, min(witness[0], (head or 0) + 1)), f"row {witness[0]}, which was noted before, is missing")
    for row in _rows(connection):
        if row.seq > (head or 0):
            if head is None:
                return Broken(row.seq, "the count of rows is missing")
            break
        count += 1
        if row.seq != count:
            return Broken(count, f"row {count} is missing" if row.seq > count else f"a row {row.seq} was put in")
        fields = {name: getattr(row, name) for name in _HASHED}
        if row.previous != previous:
            return Broken(row.seq, f"row {row.seq} does not follow row {row.seq - 1}")
        if row.hash != _hash(fields):
            return Broken(row.seq, f"row {row.seq} was changed")
        if witness is not None and row.seq == witness[0] and row.hash != witness[1]:
            return Broken(row.seq, f"row {row.seq} is not the one that was noted before")
        previous = row.hash
    if count != (head or 0):
        return Broken(count + 1, f"{head} rows were written, but the log ends after row {count}")
    return Verified(count, previous)


def latest(connection: sa.Connection, count: int, subject: str | None = None) -> list[Row]:
    """The last rows, oldest first; of one subject if given."""
    t = tables.audit.c
    wanted = sa.select(tables.audit).order_by(t.seq.desc()).limit(count)
    if subject is not None:
        wanted = wanted.where(t.subject == subject)
    return [Row(**row) for row in connection.execute(wanted).mappings()][::-1]


_HASHED: Final = ("seq", "previous", "at", "who", "place", "deed", "subject", "before", "after", "reason")


def _next(connection: sa.Connection, count: int) -> int:
    """The number of the last of so many rows to come. Holds the head's row to the end of the transaction."""
    t = tables.stamp.c
    raised = sa.update(tables.stamp).where(t.name == HEAD).values(value=t.value + count).returning(t.value)
    seq = connection.execute(raised).scalar_one_or_none()
    if seq is None:
        insert_new(connection, tables.stamp, [{"name": HEAD, "value": 0}], key="name")
        seq = connection.execute(raised).scalar_one()
    return int(seq)


def _rows(connection: sa.Connection) -> Iterator[Row]:
    """All rows in their order, a page at a time."""
    t, after = tables.audit.c, None
    while True:
        wanted = sa.select(tables.audit).order_by(t.seq).limit(_PAGE)
        page: Sequence[sa.RowMapping] = (
            connection.execute(wanted if after is None else wanted.where(t.seq > after)).mappings().all()
        )
        for row in page:
            yield Row(**row)
        if len(page) < _PAGE:
            return
        after = page[-1]["seq"]


def _hash(fields: Mapping[str, Any]) -> str:
    """SHA-256 over the fields in their canonical spelling; the instant as microseconds since 1970."""
    spelled = _spelled({**fields, "at": columns.instant_to_int(fields["at"])})
    return hashlib.sha256(spelled.encode("ascii")).hexdigest()


def _spelled(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _values(values: Mapping[str, Any] | None) -> str:
    spelled = _spelled(None if values is None else _plain("", values))
    if len(spelled) > VALUES_MAX:
        raise ValueError(f"audit: values of at most {VALUES_MAX} characters expected, got {len(spelled)}")
    return spelled


def _plain(name: str, value: object) -> Any:
    """A value as JSON has it. ValueError for what must not, or cannot exactly, stand in the log."""
    if _SECRET_NAME.search(name.lower()):
        raise ValueError(f"audit: a field named {name} does not belong in the log")
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _line(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    raise ValueError(f"audit: {name} is a {type(value).__name__}, which does not belong in the log")


def _line(text: str) -> str:
    """A text as the log keeps it: one line, not too long, nothing a database refuses, no token."""
    whole = text.encode("utf-8", errors="replace").decode("utf-8")
    seen = "".join(c if c.isprintable() else " " for c in whole[:TEXT_MAX])
    return _TOKEN.sub("***", seen)
