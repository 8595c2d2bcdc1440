"""Reversals, corrections, account payments; a service point knows what last changed its counters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_for_ever

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Empty for points that sold before: those sales are past their reversal.
    op.add_column("service_point", sa.Column("last_sale", Id(), nullable=True))
    op.create_table(
        "reversal",
        sa.Column("id", Id(), nullable=False),
        sa.Column("original", sa.Text(), nullable=False),
        sa.Column("purchase_id", Id(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("decided_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reversal")),
    )
    op.create_index("ix_reversal_purchase_id", "reversal", ["purchase_id"], unique=False)
    op.create_table(
        "disclosure",
        sa.Column("purchase_id", Id(), nullable=False),
        sa.Column("id", Id(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("to_whom", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("purchase_id", "id", name=op.f("pk_disclosure")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "correction",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("natural_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("purchase_id", Id(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("units_tenths", sa.BigInteger(), nullable=False),
        sa.Column("drn", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_correction")),
        sa.UniqueConstraint("code", name=op.f("uq_correction_code")),
        sa.UniqueConstraint("natural_key", name=op.f("uq_correction_natural_key")),
    )
    op.create_index("ix_correction_purchase_id", "correction", ["purchase_id"], unique=False)
    op.create_table(
        "correction_state",
        sa.Column("correction_id", Id(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("issue_id", Id(), nullable=True),
        sa.ForeignKeyConstraint(["correction_id"], ["correction.id"], name=op.f("fk_correction_state_correction_id")),
        sa.PrimaryKeyConstraint("correction_id", "seq", name=op.f("pk_correction_state")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "account_payment",
        sa.Column("id", Id(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("customer_id", Id(), nullable=False),
        sa.Column("source_id", Id(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_payment")),
        sa.UniqueConstraint("receipt", name=op.f("uq_account_payment_receipt")),
    )
    op.create_index("ix_account_payment_customer_id", "account_payment", ["customer_id", "id"], unique=False)
    for table in ("reversal", "disclosure", "correction", "correction_state", "account_payment"):
        keep_for_ever(table)
