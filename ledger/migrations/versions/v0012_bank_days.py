"""A bank's end of day: files and their lines, differences and what was decided, payments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_columns, keep_for_ever

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bank_file",
        sa.Column("id", Id(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in "lines purchases purchases_minor reversals reversals_minor".split()
        ),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_file")),
    )
    op.create_index("ix_bank_file_day", "bank_file", ["bank", "business_date", "direction", "sequence"], unique=True)
    op.create_table(
        "bank_file_line",
        sa.Column("file_id", Id(), nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in "sent stan local_time local_date rrn terminal acquirer drn".split()
        ),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in "currency code receipt".split()),
        sa.Column("is_reversed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["bank_file.id"], name=op.f("fk_bank_file_line_file_id")),
        sa.PrimaryKeyConstraint("file_id", "line", name=op.f("pk_bank_file_line")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bank_difference",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ours_minor", sa.BigInteger(), nullable=False),
        sa.Column("theirs_minor", sa.BigInteger(), nullable=False),
        sa.Column("request_id", Id(), nullable=True),
        sa.Column("file_id", Id(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.Column("found_at", Instant(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("decided_at", Instant(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("txn_id", Id(), nullable=True),
        sa.ForeignKeyConstraint(["file_id"], ["bank_file.id"], name=op.f("fk_bank_difference_file_id")),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"], name=op.f("fk_bank_difference_txn_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_difference")),
        sa.UniqueConstraint("code", name=op.f("uq_bank_difference_code")),
    )
    op.create_index(
        "ix_bank_difference_day",
        "bank_difference",
        ["bank", "business_date", "key", "kind", "ours_minor", "theirs_minor"],
        unique=True,
    )
    op.create_table(
        "bank_payment",
        sa.Column("id", Id(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("paid_on", sa.Date(), nullable=False),
        sa.Column("txn_id", Id(), nullable=False),
        sa.Column("entered_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"], name=op.f("fk_bank_payment_txn_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_payment")),
    )
    op.create_index("ix_bank_payment_reference", "bank_payment", ["bank", "reference"], unique=True)
    keep_for_ever("bank_file")
    keep_for_ever("bank_file_line")
    keep_for_ever("bank_payment")
    keep_columns(
        "bank_difference",
        *"id code bank business_date key kind ours_minor theirs_minor request_id file_id line found_at".split(),
    )
