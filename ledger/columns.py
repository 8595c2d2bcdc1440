"""What SQL tables are made of, for SQLite and PostgreSQL alike: types of columns, and the shorthand of the tables.

Ids are UUIDs of version 7 made by the program; no sequences, no serial keys (docs/decisions/0003). Amounts are
integer minor units, energy is integer tenths of a kWh, instants are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant_to_int(value: datetime) -> int:
    """An aware instant as whole microseconds since 1970, as SQLite keeps it."""
    return (value - _EPOCH) // _MICROSECOND


def int_to_instant(value: int) -> datetime:
    """The inverse of `instant_to_int`."""
    return _EPOCH + timedelta(microseconds=value)


class Id(sa.TypeDecorator[UUID]):
    """A UUID: 16 octets in SQLite (so that it sorts by time), `uuid` in PostgreSQL."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(
            postgresql.UUID(as_uuid=True) if dialect.name == "postgresql" else sa.LargeBinary(16)
        )

    def process_bind_param(self, value: UUID | None, dialect: sa.Dialect) -> Any:
        return value.bytes if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> UUID | None:
        return UUID(bytes=value) if value is not None and dialect.name == "sqlite" else value


class Instant(sa.TypeDecorator[datetime]):
    """An instant: microseconds since 1970 in SQLite, `timestamptz` in PostgreSQL. Naive values are refused."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(sa.DateTime(timezone=True) if dialect.name == "postgresql" else sa.BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        assert value.tzinfo is not None, "a naive datetime reached the database"
        return instant_to_int(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        return int_to_instant(value) if value is not None and dialect.name == "sqlite" else value


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_NAMESPACE = UUID("6f0e7c52-6c6d-5c0e-9a5e-3f5f0b6a7d10")


def account_id(code: str) -> UUID:
    """The id of the account with this code; the same everywhere, so that no one has to look it up."""
    return uuid5(_NAMESPACE, code)


def table(name: str, *items: Any, slim: bool = False) -> sa.Table:
    """A table; a slim one has short rows, which SQLite keeps in the tree of the primary key itself."""
    kwargs: dict[str, Any] = {"sqlite_with_rowid": False} if slim else {}
    return sa.Table(name, metadata, *items, **kwargs)


def id_(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    """A column of ids."""
    return sa.Column(name, Id(), *args, **kwargs)


def text_(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    """A column of text; not null unless said."""
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Text(), *args, **kwargs)


def int_(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    """A column of whole numbers; not null unless said."""
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.BigInteger(), *args, **kwargs)


def at_(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    """A column of instants; not null unless said."""
    kwargs.setdefault("nullable", False)
    return sa.Column(name, Instant(), *args, **kwargs)
