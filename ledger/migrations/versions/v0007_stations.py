"""Stations: blocking, channels, commission schemes; operators' limits, shifts, counter sales, deposits, banking."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_for_ever

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "commission_scheme",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_commission_scheme")),
    )
    op.create_table(
        "counter_sale",
        sa.Column("purchase_id", Id(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("shift_id", Id(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("cash_minor", sa.BigInteger(), nullable=False),
        sa.Column("card_minor", sa.BigInteger(), nullable=False),
        sa.Column("cheque_minor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("purchase_id", name=op.f("pk_counter_sale")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_counter_sale_login", "counter_sale", ["login", "seq"], unique=False)
    op.create_index("ix_counter_sale_shift_id", "counter_sale", ["shift_id", "seq"], unique=False)
    op.create_table(
        "seller_day",
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("sold_count", sa.BigInteger(), nullable=False),
        sa.Column("sold_minor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("login", "day", name=op.f("pk_seller_day")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "operator_limit",
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("per_sale_minor", sa.BigInteger(), nullable=True),
        sa.Column("per_shift_minor", sa.BigInteger(), nullable=True),
        sa.Column("per_day_minor", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["login"], ["operator.login"], name=op.f("fk_operator_limit_login")),
        sa.PrimaryKeyConstraint("login", name=op.f("pk_operator_limit")),
    )
    op.create_table(
        "deposit",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("station_id", Id(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("slip", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("paid_on", sa.Date(), nullable=False),
        sa.Column("entered_by", sa.Text(), nullable=False),
        sa.Column("entered_at", Instant(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", Instant(), nullable=True),
        sa.Column("txn_id", Id(), nullable=True),
        sa.Column("reversal_id", Id(), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_deposit_amount")),
        sa.ForeignKeyConstraint(["reversal_id"], ["txn.id"], name=op.f("fk_deposit_reversal_id")),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_deposit_station_id")),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"], name=op.f("fk_deposit_txn_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deposit")),
        sa.UniqueConstraint("code", name=op.f("uq_deposit_code")),
    )
    op.create_index("ix_deposit_station_id", "deposit", ["station_id", "entered_at"], unique=False)
    op.create_index("ix_deposit_reversal_id", "deposit", ["reversal_id"], unique=False)
    op.create_index("ix_deposit_txn_id", "deposit", ["txn_id"], unique=False)
    op.create_index(
        "uq_deposit_slip",
        "deposit",
        ["bank", "slip"],
        unique=True,
        sqlite_where=sa.text("state IN ('ENTERED', 'APPROVED')"),
        postgresql_where=sa.text("state IN ('ENTERED', 'APPROVED')"),
    )
    op.create_table(
        "banking_batch",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("station_id", Id(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("opened_at", Instant(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("banked_by", sa.Text(), nullable=True),
        sa.Column("banked_at", Instant(), nullable=True),
        sa.Column("deposit_id", Id(), nullable=True),
        sa.Column("confirmed_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["deposit_id"], ["deposit.id"], name=op.f("fk_banking_batch_deposit_id")),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_banking_batch_station_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_banking_batch")),
        sa.UniqueConstraint("code", name=op.f("uq_banking_batch_code")),
    )
    op.create_index("ix_banking_batch_deposit_id", "banking_batch", ["deposit_id"], unique=False)
    op.create_index("ix_banking_batch_station_id", "banking_batch", ["station_id", "opened_at"], unique=False)
    op.create_table(
        "shift",
        sa.Column("id", Id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("station_id", Id(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_at", Instant(), nullable=False),
        sa.Column("float_minor", sa.BigInteger(), nullable=False),
        sa.Column("sold_count", sa.BigInteger(), nullable=False),
        sa.Column("sold_minor", sa.BigInteger(), nullable=False),
        sa.Column("sold_cash_minor", sa.BigInteger(), nullable=False),
        sa.Column("sold_card_minor", sa.BigInteger(), nullable=False),
        sa.Column("sold_cheque_minor", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", Instant(), nullable=True),
        sa.Column("counted_cash_minor", sa.BigInteger(), nullable=True),
        sa.Column("counted_card_minor", sa.BigInteger(), nullable=True),
        sa.Column("counted_cheque_minor", sa.BigInteger(), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", Instant(), nullable=True),
        sa.Column("txn_id", Id(), nullable=True),
        sa.Column("batch_id", Id(), nullable=True),
        sa.CheckConstraint(
            "sold_minor = sold_cash_minor + sold_card_minor + sold_cheque_minor", name=op.f("ck_shift_tenders")
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["banking_batch.id"], name=op.f("fk_shift_batch_id")),
        sa.ForeignKeyConstraint(["login"], ["operator.login"], name=op.f("fk_shift_login")),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_shift_station_id")),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"], name=op.f("fk_shift_txn_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shift")),
        sa.UniqueConstraint("code", name=op.f("uq_shift_code")),
    )
    op.create_index("ix_shift_txn_id", "shift", ["txn_id"], unique=False)
    op.create_index("ix_shift_batch_id", "shift", ["batch_id"], unique=False)
    op.create_index("ix_shift_station_id", "shift", ["station_id", "opened_at"], unique=False)
    op.create_index(
        "uq_shift_open",
        "shift",
        ["login"],
        unique=True,
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_table(
        "shift_count",
        sa.Column("shift_id", Id(), nullable=False),
        sa.Column("denomination_minor", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pieces", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("denomination_minor > 0 AND pieces >= 0", name=op.f("ck_shift_count_pieces")),
        sa.ForeignKeyConstraint(["shift_id"], ["shift.id"], name=op.f("fk_shift_count_shift_id")),
        sa.PrimaryKeyConstraint("shift_id", "denomination_minor", name=op.f("pk_shift_count")),
    )
    op.add_column("station", sa.Column("state", sa.Text(), server_default="ACTIVE", nullable=False))
    op.add_column("station", sa.Column("channels", sa.Text(), server_default="", nullable=False))
    op.add_column("station", sa.Column("commission_scheme", sa.Text(), nullable=True))
    op.add_column("station", sa.Column("language", sa.Text(), nullable=True))
    op.add_column("station", sa.Column("shift_required", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("station", sa.Column("blind_count", sa.Boolean(), server_default=sa.false(), nullable=False))
    for name in ("shift_count", "counter_sale"):
        keep_for_ever(name)
