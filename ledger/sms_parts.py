"""Parts of long messages as stored until the whole is there: acknowledged to the message centre, lost by nobody.

Functions of the SQL transaction they are handed; they never commit. An assembly is the parts of one message; its id is
the message's own for ever, so that a whole that is handed on twice is known again. Customers' phones choose references
by themselves and use them again: a part that differs from one that is there begins another assembly, and the first
waits for its missing parts, or its time-out, under a key of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ledger.sms_tables import sms_assembly, sms_part


class AssemblyState(StrEnum):
    """Where a long message stands."""

    OPEN = "OPEN"
    DONE = "DONE"  # it was handed on as a whole
    TOLD = "TOLD"  # a part never came, and its sender was told


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part as stored. Its octets are without their header, its shifts the national tables that this announced."""

    number: int
    sender: str
    destination: str
    data_coding: int
    octets: bytes
    shifts: str
    reference: str


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
        """Whether every part is there."""
        return len(self.parts) == self.total


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
    its message is done with. One that was begun before `forgotten_before` has nothing to do with this part.
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
    }
    # The update is for its lock: parts that come to two nodes at once must see each other.
    upsert = dialect(sms_assembly).values(row).on_conflict_do_update(index_elements=["key"], set_={"last_at": now})
    connection.execute(upsert)
    assembly = _read(connection, a.key == key)[0]
    there = {each.number: each for each in assembly.parts}.get(part.number)
    if there is not None and (there.octets, there.data_coding) == (part.octets, part.data_coding):
        if assembly.state is AssemblyState.OPEN:
            return assembly
        # Of a message that is done with: the same words may well be those of the next one, under a reference that the
        # phone uses again. Where the message centre names its messages, the name tells.
        is_another = bool(there.reference and part.reference) and there.reference != part.reference
        if assembly.first_at > forgotten_before and not is_another:
            return assembly
    elif there is None and assembly.state is AssemblyState.TOLD and assembly.first_at > forgotten_before:
        return assembly  # too late: its sender was told that nothing came of it
    if there is not None or assembly.state is not AssemblyState.OPEN:
        connection.execute(sms_assembly.update().where(a.key == key).values(key=f"{key}.{assembly.id}"))
        connection.execute(upsert)
        assembly = Assembly(fresh, link, total, AssemblyState.OPEN, now, ())
    values = {"assembly_id": assembly.id, **{name: getattr(part, name) for name in PartRow.__dataclass_fields__}}
    connection.execute(sms_part.insert().values(values))
    parts = sorted([*assembly.parts, part], key=lambda each: each.number)
    return Assembly(assembly.id, assembly.link, assembly.total, assembly.state, assembly.first_at, parts)


def settle(connection: sa.Connection, assembly_id: UUID, state: AssemblyState) -> None:
    """Note what became of an assembly that was open."""
    a = sms_assembly.c
    mine = sa.and_(a.id == assembly_id, a.state == AssemblyState.OPEN.value)
    connection.execute(sms_assembly.update().where(mine).values(state=state.value))


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
