"""What every kind of record can do in bulk: be compared, checked, stored, changed and listed, a page at a time.

A record is a dictionary of plain values (texts, whole numbers, None) under the names its file has them by; what it
refers to stands there by its natural key (an account number, a station's code). Money is in minor units in a field
`..._minor`, energy in tenths of a kWh in `..._tenths`: the file's column is the part before. Functions of the SQL
transaction they are handed; they never commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol
from uuid import UUID

import sqlalchemy as sa

from ledger import sets
from ledger.audit import Origin

Record = dict[str, Any]
Fault = tuple[int, str, str]
"""The record's place in the page, its field, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What storing needs of the world: instants, ids, the utility's money, who does it. `local` is `now` there."""

    now: datetime
    local: datetime
    new_id: Callable[[], UUID]
    currency: str
    origin: Origin | None = None


class Coming(Protocol):
    """Records that come in the same import and are not stored yet."""

    def get(self, kind: str, keys: Sequence[str]) -> Mapping[str, Record | None]:
        """Those of this kind, by key; None for one that is faulty itself."""

    def of(self, kind: str, owners: Sequence[str]) -> Mapping[str, list[str]]:
        """The keys of those that belong to these owners, by owner."""

    def is_open(self, kind: str) -> bool:
        """Whether a file that may hold such records could not be read: then nothing of this kind can be missed."""


class Nothing:
    """Nothing else is coming."""

    def get(self, kind: str, keys: Sequence[str]) -> Mapping[str, Record | None]:
        return {}

    def of(self, kind: str, owners: Sequence[str]) -> Mapping[str, list[str]]:
        return {}

    def is_open(self, kind: str) -> bool:
        return False


class Kind:
    """One kind of record."""

    name: ClassVar[str]  # what people call several of them
    fields: ClassVar[tuple[str, ...]]  # what is compared with the one stored
    fixed: ClassVar[frozenset[str]]  # of these, what an update leaves alone
    deed: ClassVar[str] = ""  # in the audit log, when one is changed
    is_told: ClassVar[bool] = True  # whether the report counts them: not where they are parts of others

    def key(self, record: Record) -> str:
        """What it is known by: unique."""
        raise NotImplementedError

    def owner(self, record: Record) -> str | None:
        """Whose it is, where others find it by that."""
        return None

    def subject(self, key: str) -> str:
        """How the audit log and reports call one."""
        return key

    def lock(self, connection: sa.Connection, records: Sequence[Record]) -> None:
        """Keep others from changing those with these keys until the end of the transaction, before an update."""

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        """Those of the database with the keys of these, by key."""
        raise NotImplementedError

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        """What speaks against storing these, which are new or would be changed."""
        return []

    def doubts(self, connection: sa.Connection, records: Sequence[Record], before: Record | None) -> list[Fault]:
        """What is unlikely about these, and no reason to refuse them; `before` came last on the page before."""
        return []

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        """Store these, which are not there."""
        raise NotImplementedError

    def update(self, connection: sa.Connection, changes: Sequence[tuple[Record, Record]]) -> None:
        """Change these, each as it was and as it shall be."""
        raise AssertionError(f"{self.name} are never changed in bulk")

    def page(self, connection: sa.Connection, after: str, limit: int) -> list[Record]:
        """The next ones in the order of their keys, for an export."""
        raise NotImplementedError

    def differences(self, stored: Record, record: Record) -> list[str]:
        """The fields in which it differs from the one stored."""
        return [name for name in self.fields if stored[name] != record[name]]


@dataclass(frozen=True, slots=True)
class Link:
    """A field that refers to another record, in the column `column`; `kind` is what it may be coming as."""

    field: str
    column: str
    table: sa.Table
    key: str
    kind: str
    what: str


class TableKind(Kind):
    """Records that are rows of one table, and what hangs on its links."""

    table: ClassVar[sa.Table]
    key_field: ClassVar[str]
    columns: ClassVar[Mapping[str, str]]  # fields that are columns of the table
    links: ClassVar[tuple[Link, ...]] = ()

    def key(self, record: Record) -> str:
        return str(record[self.key_field])

    def _select(self) -> sa.Select[Any]:
        source: sa.FromClause = self.table
        wanted: list[Any] = [self.table.c[column].label(field) for field, column in self.columns.items()]
        for link in self.links:
            other = link.table.alias(f"of_{link.field}")
            source = source.outerjoin(other, other.c.id == self.table.c[link.column])
            wanted.append(other.c[link.key].label(link.field))
        return self.selected(sa.select(*wanted).select_from(source))

    def selected(self, wanted: sa.Select[Any]) -> sa.Select[Any]:
        """The query with whatever else a record of this kind has."""
        return wanted

    def finished(self, connection: sa.Connection, records: list[Record]) -> list[Record]:
        """Records with whatever else is not in that query."""
        return records

    @property
    def _key_column(self) -> sa.ColumnElement[Any]:
        return self.table.c[self.columns[self.key_field]]

    def lock(self, connection: sa.Connection, records: Sequence[Record]) -> None:
        # In the order of ids, as sales lock. SQLite, which has one writer, is asked without FOR UPDATE.
        t = self.table
        wanted = sa.select(self._key_column).order_by(*t.primary_key.columns).with_for_update()
        sets.by_key(connection, wanted, self._key_column, [self.key(record) for record in records])

    def stored(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, Record]:
        rows = sets.by_key(connection, self._select(), self._key_column, [self.key(record) for record in records])
        found = self.finished(connection, [dict(row._mapping) for row in rows])
        return {self.key(record): record for record in found}

    def page(self, connection: sa.Connection, after: str, limit: int) -> list[Record]:
        wanted = self._select().where(self._key_column > after).order_by(self._key_column).limit(limit)
        return self.finished(connection, [dict(row) for row in connection.execute(wanted).mappings()])

    def faults(self, connection: sa.Connection, records: Sequence[Record], coming: Coming) -> list[Fault]:
        found: list[Fault] = []
        for link in self.links:
            wanted = {record[link.field] for record in records if record[link.field] is not None}
            known = set(sets.ids(connection, link.table, link.key, wanted))
            lacking = known_anyhow(wanted - known, link.kind, coming)
            if lacking:
                found += [
                    (place, link.field, f"no {link.what} {record[link.field]!r}")
                    for place, record in enumerate(records)
                    if record[link.field] in lacking
                ]
        return found

    def insert(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> None:
        sets.insert(connection, self.table, self.rows(connection, records, occasion))

    def rows(self, connection: sa.Connection, records: Sequence[Record], occasion: Occasion) -> list[dict[str, Any]]:
        """The rows of new records, with ids of their own and of what they refer to."""
        ids = self._ids(connection, records)
        return [
            {
                **({"id": occasion.new_id()} if "id" in self.table.c else {}),
                **self._values(record, ids),
                **self.born(record, occasion),
            }
            for record in records
        ]

    def born(self, record: Record, occasion: Occasion) -> Mapping[str, Any]:
        """The columns that a new one starts with."""
        return {}

    def update(self, connection: sa.Connection, changes: Sequence[tuple[Record, Record]]) -> None:
        new = [record for _, record in changes]
        ids = self._ids(connection, new)
        key = self.columns[self.key_field]
        compared = {self.columns[name] for name in self.fields if name in self.columns and name not in self.fixed}
        compared |= {link.column for link in self.links if link.field in self.fields and link.field not in self.fixed}
        rows = [
            {key: self.key(record)}
            | {name: value for name, value in self._values(record, ids).items() if name in compared}
            for record in new
        ]
        sets.update(connection, self.table, key, rows)

    def _ids(self, connection: sa.Connection, records: Sequence[Record]) -> dict[str, dict[Any, Any]]:
        return {
            link.field: sets.ids(connection, link.table, link.key, {record[link.field] for record in records})
            for link in self.links
        }

    def _values(self, record: Record, ids: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
        values = {column: record[field] for field, column in self.columns.items()}
        for link in self.links:
            value = record[link.field]
            if value is not None and value not in ids[link.field]:
                raise sets.Changed(f"the {link.what} has gone since it was checked a moment ago")
            values[link.column] = None if value is None else ids[link.field][value]
        return values


def known_anyhow(lacking: set[Any], kind: str, coming: Coming) -> set[Any]:
    """Of the keys that are not in the database, those that are not coming either."""
    if not lacking or coming.is_open(kind):
        return set()
    return lacking - set(coming.get(kind, sorted(lacking)))
