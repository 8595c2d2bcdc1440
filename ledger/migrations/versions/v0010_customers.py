"""Customers: how often a phone was sent a token again is asked for each time it asks once more."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_disclosure_to_whom", "disclosure", ["to_whom", "id"])


def downgrade() -> None:
    op.drop_index("ix_disclosure_to_whom", "disclosure")
