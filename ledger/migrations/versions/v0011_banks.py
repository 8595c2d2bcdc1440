"""Banks: their requests, business days, reconciliations and keys under the ZMK."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_columns, keep_for_ever

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KEPT = (
    "id bank function trace mti stan rrn terminal acceptor acquirer sent local_time local_date business_date"
    " amount_minor currency drn original outcome reason link received_at"
)


def upgrade() -> None:
    op.create_table(
        "bank_request",
        sa.Column("id", Id(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("function", sa.Text(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=True),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in "mti stan rrn terminal acceptor acquirer sent local_time local_date".split()
        ),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("drn", sa.Text(), nullable=False),
        sa.Column("original", Id(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_request")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_bank_request_trace", "bank_request", ["bank", "trace"], unique=True)
    op.create_index("ix_bank_request_day", "bank_request", ["bank", "business_date", "function", "id"], unique=False)
    op.create_table(
        "bank_day",
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("stan", sa.Text(), nullable=False),
        sa.Column("cut_over_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("bank", "business_date", name=op.f("pk_bank_day")),
    )
    op.create_table(
        "bank_reconciliation",
        sa.Column("id", Id(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("mti", "stan", "currency")),
        *(
            sa.Column(f"{whose}_{what}", sa.BigInteger(), nullable=False)
            for whose in ("their", "our")
            for what in ("purchases", "purchases_minor", "reversals", "reversals_minor", "net_minor")
        ),
        sa.Column("in_balance", sa.Boolean(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_reconciliation")),
    )
    op.create_index("ix_bank_reconciliation_day", "bank_reconciliation", ["bank", "business_date", "id"], unique=False)
    op.create_table(
        "bank_key",
        sa.Column("id", Id(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("bank", "handle", "zmk", "scheme", "cryptogram", "kcv", "state")
        ),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("settled_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_key")),
    )
    op.create_index("ix_bank_key_handle", "bank_key", ["bank", "handle", "id"], unique=False)
    keep_columns("bank_request", *_KEPT.split())
    keep_for_ever("bank_day")
    keep_for_ever("bank_reconciliation")
