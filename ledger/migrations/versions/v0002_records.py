"""Records that staff change: the history of service points and meters, one meter a point, agreements of debts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_for_ever

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_AT_POINT = "status IN ('INSTALLED', 'BLOCKED', 'FAULTY')"


def upgrade() -> None:
    op.add_column("meter", sa.Column("replaced_by", sa.Text(), nullable=True))
    op.add_column("meter", sa.Column("token_technology", sa.Text(), nullable=False, server_default="02"))
    op.create_index(
        "ix_meter_at_point",
        "meter",
        ["service_point_id"],
        unique=True,
        sqlite_where=sa.text(_AT_POINT),
        postgresql_where=sa.text(_AT_POINT),
    )
    for column in (
        sa.Column("opened_on", sa.Date(), nullable=True),
        sa.Column("agreement_no", sa.Text(), nullable=True),
        sa.Column("signed_on", sa.Date(), nullable=True),
        sa.Column("default_rule", sa.Text(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
    ):
        op.add_column("debt", column)
    op.create_index("ix_phone_customer_id", "phone", ["customer_id"], unique=False)
    op.create_table(
        "site_event",
        sa.Column("id", Id(), nullable=False),
        sa.Column("meter_id", Id(), nullable=True),
        sa.Column("service_point_id", Id(), nullable=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("deed", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("other_meter_id", Id(), nullable=True),
        sa.Column("reading_tenths", sa.BigInteger(), nullable=True),
        sa.Column("credit_tenths", sa.BigInteger(), nullable=True),
        sa.Column("claim", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["meter_id"], ["meter.id"], name=op.f("fk_site_event_meter_id")),
        sa.ForeignKeyConstraint(["other_meter_id"], ["meter.id"], name=op.f("fk_site_event_other_meter_id")),
        sa.ForeignKeyConstraint(
            ["service_point_id"], ["service_point.id"], name=op.f("fk_site_event_service_point_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site_event")),
    )
    op.create_index("ix_site_event_meter_id", "site_event", ["meter_id", "id"], unique=False)
    op.create_index("ix_site_event_service_point_id", "site_event", ["service_point_id", "id"], unique=False)
    keep_for_ever("site_event")
