"""Settlement: statements of providers, what each of their lines is, and what was booked from them.

Revision ID: 0015
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_columns, keep_for_ever

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def _let_deposits_be_of_customers() -> None:
    """A deposit is a station's or a customer's."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("deposit", "station_id", nullable=True)
    else:
        # SQLite cannot drop NOT NULL, and the table cannot be made anew while others refer to it; its manual names this
        # way for taking a constraint away ("Making Other Kinds Of Table Schema Changes").
        version = op.get_bind().exec_driver_sql("PRAGMA schema_version").scalar_one()
        op.execute("PRAGMA writable_schema=ON")
        op.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'station_id BLOB NOT NULL', 'station_id BLOB') "
            "WHERE type = 'table' AND name = 'deposit'"
        )
        op.execute(f"PRAGMA schema_version={version + 1}")
        op.execute("PRAGMA writable_schema=RESET")
    op.add_column("deposit", sa.Column("customer_id", Id(), nullable=True))
    op.create_index("ix_deposit_customer_id", "deposit", ["customer_id", "entered_at"], unique=False)
    op.create_index("ix_deposit_slip", "deposit", ["slip"], unique=False)


def upgrade() -> None:
    op.create_table(
        "settlement_mark",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("paid_until", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_settlement_mark")),
    )
    op.create_table(
        "statement_import",
        sa.Column("id", Id(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("mapping", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("begun_at", Instant(), nullable=False),
        sa.Column("begun_by", sa.Text(), nullable=False),
        sa.Column("completed_at", Instant(), nullable=True),
        sa.Column("lines", sa.BigInteger(), nullable=True),
        sa.Column("new_lines", sa.BigInteger(), nullable=True),
        sa.Column("passed_over", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statement_import")),
        sa.UniqueConstraint("source", "sha256", name=op.f("uq_statement_import_source_sha256")),
    )
    op.create_index("ix_statement_import_begun_at", "statement_import", ["source", "begun_at"], unique=False)
    op.create_table(
        "statement_line",
        sa.Column("id", Id(), nullable=False),
        sa.Column("import_id", Id(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("linked", sa.Text(), nullable=False),
        sa.Column("our_ref", sa.Text(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("account_ref", sa.Text(), nullable=False),
        sa.Column("occurred_at", Instant(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["statement_import.id"], name=op.f("fk_statement_line_import_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statement_line")),
        sa.UniqueConstraint("identity", "ordinal", name=op.f("uq_statement_line_identity_ordinal")),
    )
    op.create_index("ix_statement_line_day", "statement_line", ["source", "day"], unique=False)
    op.create_index(
        "ix_statement_line_linked",
        "statement_line",
        ["source", "linked"],
        unique=False,
        sqlite_where=sa.text("linked <> ''"),
        postgresql_where=sa.text("linked <> ''"),
    )
    op.create_index("ix_statement_line_receipt", "statement_line", ["source", "receipt"], unique=False)
    op.create_index("ix_statement_line_source", "statement_line", ["source", "id"], unique=False)
    op.create_table(
        "settlement_batch",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("payout_ref", sa.Text(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("paid_on", sa.Date(), nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("through", sa.Text(), nullable=False),
        sa.Column("line_id", Id(), nullable=True),
        sa.Column("booked_by", sa.Text(), nullable=False),
        sa.Column("beside", sa.Text(), nullable=True),
        sa.Column("booked_at", Instant(), nullable=False),
        sa.Column("txn_id", Id(), nullable=False),
        sa.CheckConstraint("paid_minor > 0", name=op.f("ck_settlement_batch_paid")),
        sa.ForeignKeyConstraint(["line_id"], ["statement_line.id"], name=op.f("fk_settlement_batch_line_id")),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"], name=op.f("fk_settlement_batch_txn_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement_batch")),
        sa.UniqueConstraint("code", name=op.f("uq_settlement_batch_code")),
        sa.UniqueConstraint("source", "payout_ref", name=op.f("uq_settlement_batch_source_payout_ref")),
    )
    op.create_index("ix_settlement_batch_line_id", "settlement_batch", ["line_id"], unique=False)
    op.create_index("ix_settlement_batch_txn_id", "settlement_batch", ["txn_id"], unique=False)
    op.create_table(
        "settlement_item",
        sa.Column("id", Id(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("class", sa.Text(), nullable=False),
        sa.Column("found", sa.Text(), nullable=True),
        sa.Column("line_id", Id(), nullable=True),
        sa.Column("payment_id", Id(), nullable=True),
        sa.Column("ours_minor", sa.BigInteger(), nullable=True),
        sa.Column("theirs_minor", sa.BigInteger(), nullable=True),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("found_at", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("beside", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("resolved_at", Instant(), nullable=True),
        sa.Column("txn_id", Id(), nullable=True),
        sa.Column("batch_id", Id(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["settlement_batch.id"], name=op.f("fk_settlement_item_batch_id")),
        sa.ForeignKeyConstraint(["line_id"], ["statement_line.id"], name=op.f("fk_settlement_item_line_id")),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"], name=op.f("fk_settlement_item_txn_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement_item")),
        sa.UniqueConstraint("line_id", name=op.f("uq_settlement_item_line_id")),
    )
    op.create_index("ix_settlement_item_batch_id", "settlement_item", ["batch_id"], unique=False)
    op.create_index("ix_settlement_item_day", "settlement_item", ["source", "day", "class"], unique=False)
    op.create_index(
        "ix_settlement_item_open",
        "settlement_item",
        ["source", "class", "day"],
        unique=False,
        sqlite_where=sa.text("class <> 'MATCHED' AND resolution IS NULL"),
        postgresql_where=sa.text("class <> 'MATCHED' AND resolution IS NULL"),
    )
    op.create_index("ix_settlement_item_payment_id", "settlement_item", ["payment_id"], unique=False)
    op.create_index("ix_settlement_item_txn_id", "settlement_item", ["txn_id"], unique=False)
    op.create_index(
        "ix_settlement_item_unbooked",
        "settlement_item",
        ["source", "day"],
        unique=False,
        sqlite_where=sa.text("batch_id IS NULL AND fee_minor <> 0"),
        postgresql_where=sa.text("batch_id IS NULL AND fee_minor <> 0"),
    )
    op.create_table(
        "pending_payment",
        sa.Column("id", Id(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("account_ref", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_pending_payment_amount")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_payment")),
        sa.UniqueConstraint("source", "receipt", name=op.f("uq_pending_payment_source_receipt")),
    )
    _let_deposits_be_of_customers()
    op.create_index("ix_source_refund_provider_ref", "source_refund", ["source", "provider_ref"], unique=False)
    keep_for_ever("statement_line")
    keep_for_ever("settlement_batch")
    keep_for_ever("pending_payment")
    keep_columns("statement_import", "id", "source", "mapping", "sha256", "begun_at", "begun_by")
    keep_columns("settlement_item", "id", "source", "line_id", "found_at")
