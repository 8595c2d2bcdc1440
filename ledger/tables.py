"""All SQL tables, once, for SQLite and PostgreSQL alike; the migrations follow this file.

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


def _table(name: str, *items: Any, slim: bool = False) -> sa.Table:
    """A table; a slim one has short rows, which SQLite keeps in the tree of the primary key itself."""
    kwargs: dict[str, Any] = {"sqlite_with_rowid": False} if slim else {}
    return sa.Table(name, metadata, *items, **kwargs)


def _id(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    return sa.Column(name, Id(), *args, **kwargs)


def _text(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Text(), *args, **kwargs)


def _int(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.BigInteger(), *args, **kwargs)


def _at(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, Instant(), *args, **kwargs)


# --- records: whom we serve ------------------------------------------------------------------------------------------

customer = _table(
    "customer",
    _id("id", primary_key=True),
    _text("account_no", unique=True),
    _text("name"),
    _text("category"),
    _text("language"),
    _text("status"),
    _id("wallet_id", sa.ForeignKey("account.id"), nullable=False),
)

station = _table(
    "station",
    _id("id", primary_key=True),
    _text("code", unique=True),
    _text("name"),
    _text("kind"),  # COUNTER, AGENT, OFFLINE, BANK
    _text("funding"),  # PREPAID: sells from a deposit; CREDIT: sells up to a limit and owes
    _id("account_id", sa.ForeignKey("account.id"), nullable=False),
    _text("commission_percent"),  # decimal
    _text("supply_groups"),  # the codes it may sell for, separated by blanks
)

phone = _table(
    "phone",
    _text("msisdn", primary_key=True),  # digits with country code, no plus
    _id("customer_id", sa.ForeignKey("customer.id"), nullable=True),
    _id("station_id", sa.ForeignKey("station.id"), nullable=True),
    _text("language", nullable=True),
    _at("notices_stopped_at", nullable=True),
)

tariff = _table(
    "tariff",
    _text("code", primary_key=True),
    _text("head"),  # JSON: all that is not in a version
)

tariff_version = _table(
    "tariff_version",
    _text("tariff_code", sa.ForeignKey("tariff.code"), primary_key=True),
    _text("effective_from", primary_key=True),  # local date and time, ISO 8601 without zone
    _text("rules"),  # JSON, never edited once sold under
)

service_point = _table(
    "service_point",
    _id("id", primary_key=True),
    _text("code", unique=True),
    _id("customer_id", sa.ForeignKey("customer.id"), nullable=False),
    _text("area"),
    _text("tariff_code", sa.ForeignKey("tariff.code")),
    _text("counter_month"),  # "2026-06": the local month that month_units_tenths counts
    _int("month_units_tenths"),
    _text("fixed_through_month"),
    sa.Column("fixed_through_date", sa.Date(), nullable=False),
    _int("fixed_shortfall_minor"),
    _int("carry_minor"),
    _int("free_kwh_per_month", nullable=True),
    _text("free_last_month"),
    _id("vending", nullable=True),  # the purchase that waits for a module; others of this point wait for it
    sa.Index("ix_service_point_customer_id", "customer_id"),
)

debt = _table(
    "debt",
    _id("id", primary_key=True),
    _text("code", unique=True),
    _id("service_point_id", sa.ForeignKey("service_point.id"), nullable=False),
    _text("kind"),
    _int("priority"),
    _text("mode"),  # PERCENT, FIXED, FIRST
    _int("outstanding_minor"),
    _int("instalment_minor"),
    _text("percent"),  # decimal
    _text("status"),  # ACTIVE, SUSPENDED
    _int("recovered_this_month_minor"),
    sa.Index("ix_debt_service_point_id", "service_point_id"),
    sa.CheckConstraint("outstanding_minor >= 0", name="outstanding"),
)

meter = _table(
    "meter",
    _id("id", primary_key=True),
    _text("drn", unique=True),
    _text("iin"),
    _id("service_point_id", sa.ForeignKey("service_point.id"), nullable=True),
    _text("status"),  # IN_STOCK, INSTALLED, BLOCKED, FAULTY, REMOVED, SCRAPPED
    _int("encryption_algorithm"),
    _int("key_generation"),  # DKGA 2 or 4
    _int("key_type"),
    _text("supply_group"),
    _int("key_revision"),
    _text("tariff_index"),
    _int("key_expiry"),
    _int("base_date"),
    _int("last_tid", nullable=True),  # on this base date
    _text("next_key", nullable=True),  # the key it shall have, if that is another one
    _int("next_last_tid", nullable=True),  # on the base date of that key
    _at("change_given_at", nullable=True),  # when the key-change set was first given out
    sa.Index("ix_meter_service_point_id", "service_point_id"),
)

# --- books: money -----------------------------------------------------------------------------------------------------

account = _table(
    "account",
    _id("id", primary_key=True),
    _text("code", unique=True),
    _text("kind"),  # a name of the chart in ledger/accounts.py
    _text("currency"),
)

# Only accounts that must not be overdrawn have a balance of their own: one row that every sale touches would make
# every sale wait for every other (docs/decisions/0004).
limited_balance = _table(
    "limited_balance",
    _id("account_id", sa.ForeignKey("account.id"), primary_key=True),
    _int("posted_minor"),  # sum of the account's postings, credits positive
    _int("pending_minor"),  # held by reservations
    _int("floor_minor"),  # the least that posted - pending may become
    sa.CheckConstraint("posted_minor - pending_minor >= floor_minor", name="floor"),
    slim=True,
)

txn = _table(
    "txn",
    _id("id", primary_key=True),
    _text("kind"),
    _id("purchase_id", nullable=True),
    _id("reverses", sa.ForeignKey("txn.id"), nullable=True, unique=True),
    sa.Column("business_date", sa.Date(), nullable=False),
    _at("recorded_at"),
    slim=True,
)

posting = _table(
    "posting",
    _id("txn_id", sa.ForeignKey("txn.id"), primary_key=True),
    _int("leg", primary_key=True, autoincrement=False),
    _id("account_id", nullable=False),  # no foreign key: it would lock the row of every hot account
    _int("amount_minor"),  # credit positive, debit negative
    sa.CheckConstraint("amount_minor <> 0", name="amount"),
    sa.Index("ix_posting_account_id", "account_id", "txn_id"),
    slim=True,
)

hold = _table(
    "hold",
    _id("purchase_id", primary_key=True),
    _id("account_id", sa.ForeignKey("account.id"), nullable=False),
    _int("amount_minor"),
    _text("state"),  # PENDING, POSTED, VOIDED
    _at("expires_at"),
    sa.CheckConstraint("amount_minor > 0", name="amount"),
    slim=True,
)

# --- deeds: what was asked and what came of it ------------------------------------------------------------------------

request = _table(
    "request",
    _id("id", primary_key=True),
    _text("idem_key", unique=True),  # channel, peer and the reference that a repeat would carry
    sa.Column("fingerprint", sa.LargeBinary(16), nullable=False),
    _text("channel"),
    _text("peer"),
    _text("sender"),
    _text("destination"),
    _text("command"),
    _at("received_at"),
    slim=True,
)

purchase = _table(
    "purchase",
    _id("id", primary_key=True),  # the id of its request
    _id("meter_id", nullable=False),
    _id("service_point_id", nullable=False),
    _text("channel"),
    _text("peer"),
    _text("sender"),
    _text("destination"),
    _text("language"),
    _int("amount_minor"),
    _text("state"),
    _text("owed"),
    _text("reason", nullable=True),
    _id("payer_id", nullable=True),  # the account that pays
    _id("station_id", nullable=True),
    _text("tariff_code", nullable=True),
    _text("tariff_version", nullable=True),
    _int("units_tenths", nullable=True),
    _text("sale", nullable=True),  # JSON: the split, and the account after it while the token is being made
    _text("receipt", nullable=True, unique=True),
    _at("accepted_at"),
    _at("expires_at"),
    sa.Index("ix_purchase_meter_id", "meter_id", "id"),
    sa.Index(
        "ix_purchase_waiting",
        "id",
        sqlite_where=sa.text("state IN ('RECEIVED', 'PAYING', 'VENDING', 'CANCELLING', 'RETURNING')"),
        postgresql_where=sa.text("state IN ('RECEIVED', 'PAYING', 'VENDING', 'CANCELLING', 'RETURNING')"),
    ),
)

token = _table(
    "token",
    _id("purchase_id", primary_key=True),
    _int("seq", primary_key=True, autoincrement=False),
    _id("meter_id", nullable=False),
    _text("kind"),  # key_change, credit, free
    _int("base_date"),
    _int("tid", nullable=True),  # key-change tokens have none
    _int("subclass", nullable=True),
    _int("rnd", nullable=True),
    _int("amount_field", nullable=True),
    _int("units_tenths"),
    _text("supply_group"),
    _int("key_revision"),
    _text("key"),  # the whole handle of the key it is made under
    _text("new_key", nullable=True),  # of the key that a set leads to
    _text("digits", nullable=True),  # empty until the module has answered
    sa.UniqueConstraint("meter_id", "base_date", "tid"),
    slim=True,
)

outbox = _table(
    "outbox",
    _id("id", primary_key=True),
    _id("request_id", nullable=False),
    _text("channel"),
    _text("peer"),
    _text("recipient"),
    _text("sender"),
    _text("language"),
    _text("message"),  # key of the language files
    _text("fields"),  # JSON
    _text("state"),  # OWED, SENT, DEAD
    _text("owner"),  # the node that sends it while its lease runs
    _at("lease_until"),
    _int("attempts"),
    _text("detail", nullable=True),
    _at("ended_at", nullable=True),
    sa.Index(
        "ix_outbox_owed",
        "lease_until",
        sqlite_where=sa.text("state = 'OWED'"),
        postgresql_where=sa.text("state = 'OWED'"),
    ),
    sa.Index("ix_outbox_request_id", "request_id"),
)

stamp = _table(
    "stamp",
    _text("name", primary_key=True),  # "tariffs"
    _int("value"),  # goes up with every change, so that caches know
)

# --- custody: operators, vending keys (never their bytes) and the record of both --------------------------------------

# Rows are only ever added; the row of `stamp` called "audit" is the head of the chain.
audit = _table(
    "audit",
    _int("seq", primary_key=True, autoincrement=False),
    _text("previous"),  # the hash of the row before, 64 hex digits
    _at("at"),
    _text("who"),
    _text("place"),
    _text("deed"),
    _text("subject"),
    _text("before"),  # JSON
    _text("after"),  # JSON
    _text("reason"),
    _text("hash"),
    sa.Index("ix_audit_subject", "subject", "seq"),
)

operator = _table(
    "operator",
    _text("login", primary_key=True),
    _text("name"),
    _text("roles"),  # names of roles, separated by blanks
    _text("language"),
    _text("station", nullable=True),  # a station's code
    _text("password"),  # "scrypt", its cost, salt and hash
    _int("tries"),  # wrong passwords since the last right one
    _at("locked_until", nullable=True),
    sa.Column("disabled", sa.Boolean(), nullable=False),
    _at("created_at"),
)

vending_key = _table(
    "vending_key",
    _text("supply_group", primary_key=True),
    _int("key_revision", primary_key=True, autoincrement=False),
    _int("key_type", primary_key=True, autoincrement=False),
    _int("key_generation", primary_key=True, autoincrement=False),  # DKGA 2 or 4
    _int("base_date", primary_key=True, autoincrement=False),
    _text("kcv"),
    _text("module"),
    _text("state"),  # LOADED, ACTIVE, REPLACED, DESTROYED
    _int("key_expiry"),
    _at("active_from", nullable=True),
    _at("issued_until", nullable=True),
    _at("refresh_by", nullable=True),
    _int("token_limit", nullable=True),  # the most this key may ever make here; empty: no limit
    _int("units_limit_tenths", nullable=True),
    _int("tokens_made"),
    _int("units_made_tenths"),
    _text("loaded_by"),
    _at("loaded_at"),
    _id("file_id", nullable=True),
    _text("file_hash", nullable=True),
    _text("activated_by", nullable=True),
    _at("activated_at", nullable=True),
    _text("replaced_by", nullable=True),  # the key that took its place
    _at("replaced_at", nullable=True),
    _at("destroyed_at", nullable=True),
    _text("pending", nullable=True),  # JSON: what a newer file says and nobody has activated yet
    sa.CheckConstraint("tokens_made <= token_limit", name="token_limit"),
    sa.CheckConstraint("units_made_tenths <= units_limit_tenths", name="units_limit"),
)

key_file = _table(
    "key_file",
    _id("file_id", primary_key=True),
    _text("direction", primary_key=True),  # LOADED, EXPORTED
    _text("module"),
    _int("serial"),
    _text("file_hash"),
    _int("key_count"),
    _at("created_at"),
    _at("expires_at"),
    _at("recorded_at"),
    _text("recorded_by"),
    sa.UniqueConstraint("direction", "module", "serial"),
)
