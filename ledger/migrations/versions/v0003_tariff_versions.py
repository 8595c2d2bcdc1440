"""Versions of tariffs are entered, released and withdrawn; those that are there already are released."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Instant
from ledger.migrations.rules import keep_columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The primary key changes, which SQLite cannot do in place. There are few rows, and nothing refers to them.
    rows = op.get_bind().execute(sa.text("SELECT tariff_code, effective_from, rules FROM tariff_version")).all()
    op.drop_table("tariff_version")
    made = op.create_table(
        "tariff_version",
        sa.Column("tariff_code", sa.Text(), nullable=False),
        sa.Column("effective_from", sa.Text(), nullable=False),
        sa.Column("entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("entered_by", sa.Text(), nullable=False),
        sa.Column("entered_at", Instant(), nullable=True),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.Column("released_at", Instant(), nullable=True),
        sa.Column("withdrawn_by", sa.Text(), nullable=True),
        sa.Column("withdrawn_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["tariff_code"], ["tariff.code"], name=op.f("fk_tariff_version_tariff_code")),
        sa.PrimaryKeyConstraint("tariff_code", "effective_from", "entry", name=op.f("pk_tariff_version")),
    )
    standing = sa.text("state <> 'WITHDRAWN'")
    op.create_index(
        "ix_tariff_version_standing",
        "tariff_version",
        ["tariff_code", "effective_from"],
        unique=True,
        sqlite_where=standing,
        postgresql_where=standing,
    )
    if rows:
        op.bulk_insert(
            made,
            [
                {
                    "tariff_code": row.tariff_code,
                    "effective_from": row.effective_from,
                    "entry": 1,
                    "rules": row.rules,
                    "state": "RELEASED",
                    "entered_by": "load",
                    "released_by": "load",
                }
                for row in rows
            ],
        )
    keep_columns("tariff_version", "tariff_code", "effective_from", "entry", "rules", "entered_by", "entered_at")
