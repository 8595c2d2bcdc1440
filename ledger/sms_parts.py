"""Parts of long messages as stored until the whole is there: acknowledged to the message centre, lost by nobody.

Functions of the SQL transaction they are handed; they never commit. An assembly is the parts of one message; its id is
the message's own for ever, so that a whole that is handed on twice is known again. Customers' phones choose references
by themselves and use them again: a part that differs from one that is there begins another assembly, and the first
waits for its missing parts, or its time-out, under a key of its own.

A part may hold a PIN: whoever calls seals its octets (`gateway/partseal.py`). Here parts are compared by their digests,
and the octets deleted when the message is done with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ledger.sms_tables import sms_assembly, sms_part

_REPEATED_WITHIN: Final = timedelta(seconds=120)
"""So soon a message centre repeats a part whose acknowledgement was lost: 5 to 60 s were seen."""


class AssemblyState(StrEnum):
    """Where a long message stands."""

    OPEN = "OPEN"
    DONE = "DONE"  # it was handed on as a whole
    TOLD = "TOLD"  # a part never came, and its sender was told


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part as stored. Its octets are without their header, its shifts the national tables that this announced.

    `digest` is of its content, by which a repeat is known; without the key of the settings nobody finds out by trying
    what it is of. `sealed_by` names the key that the octets are sealed with; empty: they are as they came.
    """

    number: int
    sender: str
    destination: str
    data_coding: int
    octets: bytes
    shifts: str
    reference: str
    digest: bytes = b""
    sealed_by: str = ""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A long message and the parts of it that are there, in their order."""

    id: UUID
    link: str
    total: int
    state: AssemblyState
    first_at: datetime
    parts: Sequence[PartRow]

    @property
    def is_whole(self) -> bool:
        """Whether every part is there, and legible."""
        return len(self.parts) == self.total and not any(part.sealed_by for part in self.parts)


def keep_part(
    connection: sa.Connection,
    *,
    key: str,
    fresh: UUID,
    link: str,
    total: int,
    part: PartRow,
    now: datetime,
    forgotten_before: datetime,
) -> Assembly:
    """Store a part, and give its assembly with all parts that are now there.

    `fresh` is the id of the assembly if this part begins one. A part that is there already changes nothing, also when
    its message is done with, and when another with the same reference has come since. One that was begun before
    `forgotten_before` has nothing to do with this part.
    """
    a = sms_assembly.c
    dialect = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = {
        "key": key,
        "id": fresh,
        "link": link,
        "total": total,
        "state": AssemblyState.OPEN.value,
        "first_at": now,
        "last_at": now,
        "base": key,
    }
    # The update is for its lock: parts that come to two nodes at once must see each other.
    upsert = dialect(sms_assembly).values(row).on_conflict_do_update(index_elements=["key"], set_={"last_at": now})
    current = connection.execute(upsert.returning(a.id)).scalar_one()
    known = {each.id: each for each in _read(connection, a.base == key)}
    assembly = known.pop(current)
    there = {each.number: each for each in assembly.parts}.get(part.number)
    is_open = assembly.state is AssemblyState.OPEN
    if there is not None and is_open and _is_same(there, part):
        return assembly
    # The current one lacks this part: it may belong there, and so may one that an earlier message has like it. Only
    # while a message centre repeats, for want of our answer, it is more likely that one's.
    since = now - _REPEATED_WITHIN if there is None and is_open else forgotten_before
    for earlier in [assembly, *known.values()]:
        like = next((each for each in earlier.parts if each.number == part.number), None)
        if like is None or earlier.first_at <= since or not _is_same(like, part):
            continue
        # The same words may be those of the next message. Where the message centre names its messages, that tells.
        if not (like.reference and part.reference and like.reference != part.reference):
            return earlier
    if there is None and assembly.state is AssemblyState.TOLD and assembly.first_at > forgotten_before:
        return assembly  # too late: its sender was told that nothing came of it
    if there is not None or not is_open:
        connection.execute(sms_assembly.update().where(a.key == key).values(key=f"{key}.{assembly.id}"))
        connection.execute(upsert)
        assembly = Assembly(fresh, link, total, AssemblyState.OPEN, now, ())
    values = {"assembly_id": assembly.id, **{name: getattr(part, name) for name in PartRow.__dataclass_fields__}}
    connection.execute(sms_part.insert().values(values))
    parts = sorted([*assembly.parts, part], key=lambda each: each.number)
    return Assembly(assembly.id, assembly.link, assembly.total, assembly.state, assembly.first_at, parts)


def _is_same(there: PartRow, part: PartRow) -> bool:
    return (there.digest, there.data_coding) == (part.digest, part.data_coding)


def settle(connection: sa.Connection, assembly_id: UUID, state: AssemblyState) -> None:
    """Note what became of an assembly that was open, and forget what it said: only its digests are needed now."""
    a, p = sms_assembly.c, sms_part.c
    mine = sa.and_(a.id == assembly_id, a.state == AssemblyState.OPEN.value)
    if connection.execute(sms_assembly.update().where(mine).values(state=state.value)).rowcount:
        connection.execute(sms_part.update().where(p.assembly_id == assembly_id).values(octets=b"", sealed_by=""))


def left(connection: sa.Connection, *, quiet_since: datetime, at_most: int) -> list[Assembly]:
    """Open assemblies to which nothing was added since then, the oldest first."""
    a = sms_assembly.c
    chosen = (
        sa.select(a.id)
        .where(sa.text("sms_assembly.state = 'OPEN'"), a.last_at <= quiet_since)  # as the partial index has it
        .order_by(a.last_at)
        .limit(at_most)
    )
    ids = connection.execute(chosen).scalars().all()
    return _read(connection, a.id.in_(ids)) if ids else []


def forget(connection: sa.Connection, *, before: datetime, at_most: int) -> int:
    """Delete assemblies that are done with and whose last part came before then; how many."""
    a, p = sms_assembly.c, sms_part.c
    chosen = (
        sa.select(a.id)
        .where(sa.text("sms_assembly.state <> 'OPEN'"), a.last_at < before)
        .order_by(a.last_at)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    ids = connection.execute(chosen).scalars().all()
    if ids:
        connection.execute(sms_part.delete().where(p.assembly_id.in_(ids)))
        connection.execute(sms_assembly.delete().where(a.id.in_(ids)))
    return len(ids)


def _read(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Assembly]:
    a, p = sms_assembly.c, sms_part.c
    rows = connection.execute(sa.select(sms_assembly).where(which).order_by(a.last_at, a.id)).all()
    parts: dict[UUID, list[PartRow]] = {row.id: [] for row in rows}
    found = sa.select(sms_part).where(p.assembly_id.in_(list(parts))).order_by(p.number)
    for row in connection.execute(found):
        parts[row.assembly_id].append(PartRow(*row[1:]))
    return [
        Assembly(row.id, row.link, row.total, AssemblyState(row.state), row.first_at, parts[row.id]) for row in rows
    ]
