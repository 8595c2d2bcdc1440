"""Parts of long messages are sealed until the whole is there, and repeats of them known by a digest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    nothing = "''" if op.get_bind().dialect.name == "postgresql" else "x''"
    op.add_column("sms_assembly", sa.Column("base", sa.Text(), server_default="", nullable=False))
    op.add_column("sms_part", sa.Column("digest", sa.LargeBinary(), server_default=sa.text(nothing), nullable=False))
    op.add_column("sms_part", sa.Column("sealed_by", sa.Text(), server_default="", nullable=False))
    # A key is 32 hexadecimal digits; behind them stands a dot and the id where another message has taken its place.
    op.execute("UPDATE sms_assembly SET base = substr(key, 1, 32)")
    op.create_index("ix_sms_assembly_base", "sms_assembly", ["base"], unique=False)
    # What was handed on is not needed, and may hold a PIN. What is open stays legible for some minutes more.
    done = "SELECT id FROM sms_assembly WHERE state <> 'OPEN'"
    op.execute(f"UPDATE sms_part SET octets = {nothing} WHERE assembly_id IN ({done})")
