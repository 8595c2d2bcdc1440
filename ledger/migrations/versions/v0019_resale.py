"""Tokens of sealed sales that nobody has seen: which meter has one, and what was sold again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_for_ever

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("meter", sa.Column("unseen_sale", Id(), nullable=True))
    op.create_table(
        "resale",
        sa.Column("id", Id(), nullable=False),
        sa.Column("sealed_id", Id(), nullable=False),
        sa.Column("purchase_id", Id(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resale")),
    )
    op.create_index("ix_resale_sealed_id", "resale", ["sealed_id"], unique=False)
    op.create_index("ix_resale_purchase_id", "resale", ["purchase_id"], unique=False)
    keep_for_ever("resale")
