"""Meter readings, and service points that no tariff is known for yet.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "planned_point",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("customer_id", Id(), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("free_kwh_per_month", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_planned_point_customer_id")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_planned_point")),
    )
    op.create_index("ix_planned_point_customer_id", "planned_point", ["customer_id"], unique=False)
    op.create_table(
        "reading",
        sa.Column("meter_id", Id(), nullable=False),
        sa.Column("register", sa.Text(), nullable=False),
        sa.Column("read_at", Instant(), nullable=False),
        sa.Column("value_tenths", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.CheckConstraint("value_tenths >= 0", name=op.f("ck_reading_value")),
        sa.ForeignKeyConstraint(["meter_id"], ["meter.id"], name=op.f("fk_reading_meter_id")),
        sa.PrimaryKeyConstraint("meter_id", "register", "read_at", name=op.f("pk_reading")),
        sqlite_with_rowid=False,
    )
