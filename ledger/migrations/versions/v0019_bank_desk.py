"""Tokens of sealed sales that nobody has seen, and what was sold again; what operators have banks' links do."""

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
    op.create_table(
        "bank_ask",
        sa.Column("id", Id(), nullable=False),
        sa.Column("bank", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_ask")),
    )
    op.create_index("ix_bank_ask_asked_at", "bank_ask", ["asked_at"], unique=False)
    op.create_table(
        "bank_ask_result",
        sa.Column("ask_id", Id(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["ask_id"], ["bank_ask.id"], name=op.f("fk_bank_ask_result_ask_id_bank_ask")),
        sa.PrimaryKeyConstraint("ask_id", "node", "link", name=op.f("pk_bank_ask_result")),
    )
    keep_for_ever("bank_ask")
    keep_for_ever("bank_ask_result")
