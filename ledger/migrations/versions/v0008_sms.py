"""Text messages: leases and states of links, parts on their way in, parts sent out and their receipts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "link_lease",
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("link", "slot", name=op.f("pk_link_lease")),
    )
    op.create_table(
        "sms_link",
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("set_at", Instant(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("link", name=op.f("pk_sms_link")),
    )
    op.create_table(
        "sms_assembly",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("id", Id(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sms_assembly")),
        sa.UniqueConstraint("id", name=op.f("uq_sms_assembly_id")),
    )
    for name, which in (("ix_sms_assembly_open", "state = 'OPEN'"), ("ix_sms_assembly_over", "state <> 'OPEN'")):
        op.create_index(
            name,
            "sms_assembly",
            ["last_at"],
            unique=False,
            sqlite_where=sa.text(which),
            postgresql_where=sa.text(which),
        )
    op.create_table(
        "sms_part",
        sa.Column("assembly_id", Id(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("data_coding", sa.BigInteger(), nullable=False),
        sa.Column("octets", sa.LargeBinary(), nullable=False),
        sa.Column("shifts", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("assembly_id", "number", name=op.f("pk_sms_part")),
    )
    op.create_table(
        "sms_sent",
        sa.Column("id", Id(), nullable=False),
        sa.Column("centre", sa.Text(), nullable=False),
        sa.Column("normal", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("outbox_id", Id(), nullable=False),
        sa.Column("part", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.BigInteger(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("state_at", Instant(), nullable=True),
        sa.Column("is_watched", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_sent")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_sms_sent_normal", "sms_sent", ["normal", "centre"], unique=False)
    op.create_index("ix_sms_sent_outbox_id", "sms_sent", ["outbox_id"], unique=False)
    op.create_index(
        "ix_sms_sent_watched",
        "sms_sent",
        ["id"],
        unique=False,
        sqlite_where=sa.text("is_watched"),
        postgresql_where=sa.text("is_watched"),
    )
    op.create_table(
        "sms_receipt",
        sa.Column("id", Id(), nullable=False),
        sa.Column("centre", sa.Text(), nullable=False),
        sa.Column("forms", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("received_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_receipt")),
    )
    op.create_index(
        "ix_outbox_dead",
        "outbox",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'DEAD'"),
        postgresql_where=sa.text("state = 'DEAD'"),
    )
