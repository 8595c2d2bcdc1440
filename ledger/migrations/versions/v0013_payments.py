"""Payments of outside sources: what they took and said, suspense, money that goes back.

Revision ID: 0013
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_columns, keep_for_ever

revision = "0013"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payment",
        sa.Column("id", Id(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("provider_ref", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("purchase_id", Id(), nullable=True),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("account_ref", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("account_id", Id(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("paid_at", Instant(), nullable=True),
        sa.Column("closed_at", Instant(), nullable=True),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.BigInteger(), nullable=True),
        sa.Column("next_ask_at", Instant(), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payment_ck_payment_amount")),
        sa.CheckConstraint("paid_minor > 0", name=op.f("ck_payment_ck_payment_paid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment")),
        sa.UniqueConstraint("source", "receipt", name=op.f("uq_payment_source_receipt")),
    )
    op.create_index(
        "ix_payment_due",
        "payment",
        ["source", "lane", "next_ask_at"],
        unique=False,
        sqlite_where=sa.text("next_ask_at IS NOT NULL"),
        postgresql_where=sa.text("next_ask_at IS NOT NULL"),
    )
    op.create_index("ix_payment_paid_at", "payment", ["source", "paid_at"], unique=False)
    op.create_index("ix_payment_payer", "payment", ["payer", "id"], unique=False)
    op.create_index("ix_payment_provider_ref", "payment", ["source", "provider_ref"], unique=False)
    op.create_index("ix_payment_purchase_id", "payment", ["purchase_id"], unique=False)
    op.create_table(
        "payment_event",
        sa.Column("id", Id(), nullable=False),
        sa.Column("payment_id", Id(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("heard", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("provider_ref", sa.Text(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("occurred_at", Instant(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_event")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_payment_event_payment_id", "payment_event", ["payment_id", "id"], unique=False)
    op.create_table(
        "suspense",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("payment_id", Id(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("account_ref", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_at", Instant(), nullable=False),
        sa.Column("purchase_id", Id(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("resolved_txn", Id(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", Instant(), nullable=True),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("ck_suspense_ck_suspense_amount")),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_suspense_payment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suspense")),
        sa.UniqueConstraint("code", name=op.f("uq_suspense_code")),
    )
    op.create_index(
        "ix_suspense_open",
        "suspense",
        ["source", "opened_at"],
        unique=False,
        sqlite_where=sa.text("state <> 'RESOLVED'"),
        postgresql_where=sa.text("state <> 'RESOLVED'"),
    )
    op.create_index(
        "ix_suspense_payer",
        "suspense",
        ["payer", "opened_at"],
        unique=False,
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_index("ix_suspense_payment_id", "suspense", ["payment_id"], unique=False)
    op.create_table(
        "suspense_step",
        sa.Column("item_id", Id(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["suspense.id"], name=op.f("fk_suspense_step_item_id")),
        sa.PrimaryKeyConstraint("item_id", "seq", name=op.f("pk_suspense_step")),
    )
    op.create_table(
        "source_refund",
        sa.Column("id", Id(), nullable=False),
        sa.Column("item_id", Id(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("provider_ref", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("closed_at", Instant(), nullable=True),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("next_ask_at", Instant(), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_source_refund_ck_source_refund_amount")),
        sa.ForeignKeyConstraint(["item_id"], ["suspense.id"], name=op.f("fk_source_refund_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_refund")),
    )
    op.create_index(
        "ix_source_refund_due",
        "source_refund",
        ["source", "next_ask_at"],
        unique=False,
        sqlite_where=sa.text("next_ask_at IS NOT NULL"),
        postgresql_where=sa.text("next_ask_at IS NOT NULL"),
    )
    op.create_index("ix_source_refund_item_id", "source_refund", ["item_id"], unique=False)
    for table in ("payment_event", "suspense_step"):
        keep_for_ever(table)
    keep_columns("payment", "source", "purpose", "purchase_id", "amount_minor", "currency", "created_at")
    keep_columns("suspense", "code", "payment_id", "source", "payer", "amount_minor", "currency", "reason", "opened_at")
    keep_columns("source_refund", "item_id", "source", "receipt", "payer", "amount_minor", "currency", "created_at")
