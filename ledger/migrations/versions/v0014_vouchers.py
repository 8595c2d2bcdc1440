"""PINs and limits of phones, and vouchers with their batches and the wrong tries at them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_columns

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("pin", sa.Text(), nullable=True),
        sa.Column("pin_tries", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("pin_locked_at", Instant(), nullable=True),
        sa.Column("per_sale_minor", sa.BigInteger(), nullable=True),
        sa.Column("per_day_minor", sa.BigInteger(), nullable=True),
    ):
        op.add_column("phone", column)
    op.add_column("station", sa.Column("pin_rule", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "voucher_batch",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("vouchers", sa.BigInteger(), nullable=False),
        sa.Column("value_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_at", Instant(), nullable=True),
        sa.Column("printed_by", sa.Text(), nullable=True),
        sa.Column("printed_at", Instant(), nullable=True),
        sa.Column("sheet_hash", sa.Text(), nullable=True),
        sa.Column("activated_by", sa.Text(), nullable=True),
        sa.Column("activated_at", Instant(), nullable=True),
        sa.CheckConstraint("vouchers > 0 AND value_minor > 0", name=op.f("ck_voucher_batch_size")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_batch")),
        sa.UniqueConstraint("code", name=op.f("uq_voucher_batch_code")),
    )
    op.create_table(
        "voucher_sale",
        sa.Column("id", Id(), nullable=False),
        sa.Column("batch_id", Id(), nullable=False),
        sa.Column("first_serial", sa.BigInteger(), nullable=False),
        sa.Column("last_serial", sa.BigInteger(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("account_id", Id(), nullable=False),
        sa.Column("sold_by", sa.Text(), nullable=False),
        sa.Column("sold_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_voucher_sale_account_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["voucher_batch.id"], name=op.f("fk_voucher_sale_batch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_sale")),
    )
    op.create_index("ix_voucher_sale_batch_id", "voucher_sale", ["batch_id", "first_serial"], unique=False)
    op.create_table(
        "voucher",
        sa.Column("id", Id(), nullable=False),
        sa.Column("batch_id", Id(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("value_minor", sa.BigInteger(), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sale_id", Id(), nullable=True),
        sa.Column("used_by", sa.Text(), nullable=True),
        sa.Column("used_at", Instant(), nullable=True),
        sa.Column("request_id", Id(), nullable=True),
        sa.Column("txn_id", Id(), nullable=True),
        sa.CheckConstraint("(state = 'USED') = (request_id IS NOT NULL)", name=op.f("ck_voucher_used")),
        sa.ForeignKeyConstraint(["batch_id"], ["voucher_batch.id"], name=op.f("fk_voucher_batch_id")),
        sa.ForeignKeyConstraint(["sale_id"], ["voucher_sale.id"], name=op.f("fk_voucher_sale_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher")),
        sa.UniqueConstraint("batch_id", "serial", name=op.f("uq_voucher_batch_id_serial")),
        sa.UniqueConstraint("digest", name=op.f("uq_voucher_digest")),
    )
    op.create_index("ix_voucher_txn_id", "voucher", ["txn_id"], unique=False)
    op.create_table(
        "voucher_try",
        sa.Column("msisdn", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("msisdn", "day", name=op.f("pk_voucher_try")),
        sqlite_with_rowid=False,
    )
    keep_columns("voucher", "id", "batch_id", "serial", "digest", "value_minor", "expires_on")
    keep_columns("voucher_batch", "id", "code", "vouchers", "value_minor", "currency", "expires_on", "asked_by")
    keep_columns(
        "voucher_sale", "id", "batch_id", "first_serial", "last_serial", "amount_minor", "account_id", "sold_by"
    )
