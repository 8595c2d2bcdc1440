"""Payments without energy in the drawer they lie in; wallets of closed accounts take nothing more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger.columns import Id, Instant
from ledger.migrations.rules import keep_for_ever

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None

_PAID = ("paid_count", "paid_cash_minor", "paid_card_minor", "paid_cheque_minor")


def upgrade() -> None:
    op.create_table(
        "counter_payment",
        sa.Column("payment_id", Id(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("shift_id", Id(), nullable=True),
        sa.Column("cash_minor", sa.BigInteger(), nullable=False),
        sa.Column("card_minor", sa.BigInteger(), nullable=False),
        sa.Column("cheque_minor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("pk_counter_payment")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_counter_payment_shift_id", "counter_payment", ["shift_id"], unique=False)
    keep_for_ever("counter_payment")
    for name in _PAID:
        op.add_column("shift", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("limited_balance", sa.Column("closed_at", Instant(), nullable=True))
    # When does not matter, only that it is: the audit log knows when each account was closed.
    now = "now()" if op.get_bind().dialect.name == "postgresql" else "strftime('%s', 'now') * 1000000"
    closed = "SELECT wallet_id FROM customer WHERE status = 'CLOSED'"
    op.execute(f"UPDATE limited_balance SET closed_at = {now} WHERE account_id IN ({closed})")
