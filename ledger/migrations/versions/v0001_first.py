"""The first schema: records, books, requests, purchases, tokens, outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_for_ever

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("code", name=op.f("uq_account_code")),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("deed", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_subject", "audit", ["subject", "seq"], unique=False)
    op.create_table(
        "key_file",
        sa.Column("file_id", Id(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("file_hash", sa.Text(), nullable=False),
        sa.Column("key_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("file_id", "direction", name=op.f("pk_key_file")),
        sa.UniqueConstraint("direction", "module", "serial", name=op.f("uq_key_file_direction_module_serial")),
    )
    op.create_table(
        "operator",
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=True),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("locked_until", Instant(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("login", name=op.f("pk_operator")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", Id(), nullable=False),
        sa.Column("request_id", Id(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("lease_until", Instant(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_owed",
        "outbox",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("state = 'OWED'"),
        postgresql_where=sa.text("state = 'OWED'"),
    )
    op.create_index("ix_outbox_request_id", "outbox", ["request_id"], unique=False)
    op.create_table(
        "purchase",
        sa.Column("id", Id(), nullable=False),
        sa.Column("meter_id", Id(), nullable=False),
        sa.Column("service_point_id", Id(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("owed", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("payer_id", Id(), nullable=True),
        sa.Column("station_id", Id(), nullable=True),
        sa.Column("tariff_code", sa.Text(), nullable=True),
        sa.Column("tariff_version", sa.Text(), nullable=True),
        sa.Column("units_tenths", sa.BigInteger(), nullable=True),
        sa.Column("sale", sa.Text(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("accepted_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purchase")),
        sa.UniqueConstraint("receipt", name=op.f("uq_purchase_receipt")),
    )
    op.create_index("ix_purchase_meter_id", "purchase", ["meter_id", "id"], unique=False)
    op.create_index(
        "ix_purchase_waiting",
        "purchase",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state IN ('RECEIVED', 'PAYING', 'VENDING', 'CANCELLING', 'RETURNING')"),
        postgresql_where=sa.text("state IN ('RECEIVED', 'PAYING', 'VENDING', 'CANCELLING', 'RETURNING')"),
    )
    op.create_table(
        "request",
        sa.Column("id", Id(), nullable=False),
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request")),
        sa.UniqueConstraint("idem_key", name=op.f("uq_request_idem_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stamp",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_stamp")),
    )
    op.create_table(
        "tariff",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_tariff")),
    )
    op.create_table(
        "token",
        sa.Column("purchase_id", Id(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("meter_id", Id(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("base_date", sa.BigInteger(), nullable=False),
        sa.Column("tid", sa.BigInteger(), nullable=True),
        sa.Column("subclass", sa.BigInteger(), nullable=True),
        sa.Column("rnd", sa.BigInteger(), nullable=True),
        sa.Column("amount_field", sa.BigInteger(), nullable=True),
        sa.Column("units_tenths", sa.BigInteger(), nullable=False),
        sa.Column("supply_group", sa.Text(), nullable=False),
        sa.Column("key_revision", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("new_key", sa.Text(), nullable=True),
        sa.Column("digits", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("purchase_id", "seq", name=op.f("pk_token")),
        sa.UniqueConstraint("meter_id", "base_date", "tid", name=op.f("uq_token_meter_id_base_date_tid")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "txn",
        sa.Column("id", Id(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("purchase_id", Id(), nullable=True),
        sa.Column("reverses", Id(), nullable=True),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["reverses"], ["txn.id"], name=op.f("fk_txn_reverses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_txn")),
        sa.UniqueConstraint("reverses", name=op.f("uq_txn_reverses")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "vending_key",
        sa.Column("supply_group", sa.Text(), nullable=False),
        sa.Column("key_revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_type", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("base_date", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kcv", sa.Text(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("key_expiry", sa.BigInteger(), nullable=False),
        sa.Column("active_from", Instant(), nullable=True),
        sa.Column("issued_until", Instant(), nullable=True),
        sa.Column("refresh_by", Instant(), nullable=True),
        sa.Column("token_limit", sa.BigInteger(), nullable=True),
        sa.Column("units_limit_tenths", sa.BigInteger(), nullable=True),
        sa.Column("tokens_made", sa.BigInteger(), nullable=False),
        sa.Column("units_made_tenths", sa.BigInteger(), nullable=False),
        sa.Column("loaded_by", sa.Text(), nullable=False),
        sa.Column("loaded_at", Instant(), nullable=False),
        sa.Column("file_id", Id(), nullable=True),
        sa.Column("file_hash", sa.Text(), nullable=True),
        sa.Column("activated_by", sa.Text(), nullable=True),
        sa.Column("activated_at", Instant(), nullable=True),
        sa.Column("replaced_by", sa.Text(), nullable=True),
        sa.Column("replaced_at", Instant(), nullable=True),
        sa.Column("destroyed_at", Instant(), nullable=True),
        sa.Column("pending", sa.Text(), nullable=True),
        sa.CheckConstraint("tokens_made <= token_limit", name=op.f("ck_vending_key_token_limit")),
        sa.CheckConstraint("units_made_tenths <= units_limit_tenths", name=op.f("ck_vending_key_units_limit")),
        sa.PrimaryKeyConstraint(
            "supply_group", "key_revision", "key_type", "key_generation", "base_date", name=op.f("pk_vending_key")
        ),
    )
    op.create_table(
        "customer",
        sa.Column("id", Id(), nullable=False),
        sa.Column("account_no", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("wallet_id", Id(), nullable=False),
        sa.ForeignKeyConstraint(["wallet_id"], ["account.id"], name=op.f("fk_customer_wallet_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer")),
        sa.UniqueConstraint("account_no", name=op.f("uq_customer_account_no")),
    )
    op.create_table(
        "hold",
        sa.Column("purchase_id", Id(), nullable=False),
        sa.Column("account_id", Id(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_hold_amount")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_hold_account_id")),
        sa.PrimaryKeyConstraint("purchase_id", name=op.f("pk_hold")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "limited_balance",
        sa.Column("account_id", Id(), nullable=False),
        sa.Column("posted_minor", sa.BigInteger(), nullable=False),
        sa.Column("pending_minor", sa.BigInteger(), nullable=False),
        sa.Column("floor_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("posted_minor - pending_minor >= floor_minor", name=op.f("ck_limited_balance_floor")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_limited_balance_account_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_limited_balance")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "posting",
        sa.Column("txn_id", Id(), nullable=False),
        sa.Column("leg", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", Id(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("ck_posting_amount")),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"], name=op.f("fk_posting_txn_id")),
        sa.PrimaryKeyConstraint("txn_id", "leg", name=op.f("pk_posting")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_posting_account_id", "posting", ["account_id", "txn_id"], unique=False)
    op.create_table(
        "station",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("funding", sa.Text(), nullable=False),
        sa.Column("account_id", Id(), nullable=False),
        sa.Column("commission_percent", sa.Text(), nullable=False),
        sa.Column("supply_groups", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_station_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_station")),
        sa.UniqueConstraint("code", name=op.f("uq_station_code")),
    )
    op.create_table(
        "tariff_version",
        sa.Column("tariff_code", sa.Text(), nullable=False),
        sa.Column("effective_from", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tariff_code"], ["tariff.code"], name=op.f("fk_tariff_version_tariff_code")),
        sa.PrimaryKeyConstraint("tariff_code", "effective_from", name=op.f("pk_tariff_version")),
    )
    op.create_table(
        "phone",
        sa.Column("msisdn", sa.Text(), nullable=False),
        sa.Column("customer_id", Id(), nullable=True),
        sa.Column("station_id", Id(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("notices_stopped_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_phone_customer_id")),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_phone_station_id")),
        sa.PrimaryKeyConstraint("msisdn", name=op.f("pk_phone")),
    )
    op.create_table(
        "service_point",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("customer_id", Id(), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("tariff_code", sa.Text(), nullable=False),
        sa.Column("counter_month", sa.Text(), nullable=False),
        sa.Column("month_units_tenths", sa.BigInteger(), nullable=False),
        sa.Column("fixed_through_month", sa.Text(), nullable=False),
        sa.Column("fixed_through_date", sa.Date(), nullable=False),
        sa.Column("fixed_shortfall_minor", sa.BigInteger(), nullable=False),
        sa.Column("carry_minor", sa.BigInteger(), nullable=False),
        sa.Column("free_kwh_per_month", sa.BigInteger(), nullable=True),
        sa.Column("free_last_month", sa.Text(), nullable=False),
        sa.Column("vending", Id(), nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_service_point_customer_id")),
        sa.ForeignKeyConstraint(["tariff_code"], ["tariff.code"], name=op.f("fk_service_point_tariff_code")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_point")),
        sa.UniqueConstraint("code", name=op.f("uq_service_point_code")),
    )
    op.create_index("ix_service_point_customer_id", "service_point", ["customer_id"], unique=False)
    op.create_table(
        "debt",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("service_point_id", Id(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("outstanding_minor", sa.BigInteger(), nullable=False),
        sa.Column("instalment_minor", sa.BigInteger(), nullable=False),
        sa.Column("percent", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("recovered_this_month_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("outstanding_minor >= 0", name=op.f("ck_debt_outstanding")),
        sa.ForeignKeyConstraint(["service_point_id"], ["service_point.id"], name=op.f("fk_debt_service_point_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_debt")),
        sa.UniqueConstraint("code", name=op.f("uq_debt_code")),
    )
    op.create_index("ix_debt_service_point_id", "debt", ["service_point_id"], unique=False)
    op.create_table(
        "meter",
        sa.Column("id", Id(), nullable=False),
        sa.Column("drn", sa.Text(), nullable=False),
        sa.Column("iin", sa.Text(), nullable=False),
        sa.Column("service_point_id", Id(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("encryption_algorithm", sa.BigInteger(), nullable=False),
        sa.Column("key_generation", sa.BigInteger(), nullable=False),
        sa.Column("key_type", sa.BigInteger(), nullable=False),
        sa.Column("supply_group", sa.Text(), nullable=False),
        sa.Column("key_revision", sa.BigInteger(), nullable=False),
        sa.Column("tariff_index", sa.Text(), nullable=False),
        sa.Column("key_expiry", sa.BigInteger(), nullable=False),
        sa.Column("base_date", sa.BigInteger(), nullable=False),
        sa.Column("last_tid", sa.BigInteger(), nullable=True),
        sa.Column("next_key", sa.Text(), nullable=True),
        sa.Column("next_last_tid", sa.BigInteger(), nullable=True),
        sa.Column("change_given_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["service_point_id"], ["service_point.id"], name=op.f("fk_meter_service_point_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter")),
        sa.UniqueConstraint("drn", name=op.f("uq_meter_drn")),
    )
    op.create_index("ix_meter_service_point_id", "meter", ["service_point_id"], unique=False)
    keep_for_ever("txn")
    keep_for_ever("posting")
