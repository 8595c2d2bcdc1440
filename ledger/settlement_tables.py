"""The SQL tables of settlement: statements as they came, what each of their lines is, what was booked from them."""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

# One file that was taken in. The same file again is the same row.
statement_import = table(
    "statement_import",
    id_("id", primary_key=True),
    text_("source"),  # the payment source, as in clearing:<source>
    text_("mapping"),
    text_("file_name"),
    text_("sha256"),
    at_("begun_at"),
    text_("begun_by"),
    at_("completed_at", nullable=True),  # empty: broken off; the same file again goes on
    int_("lines", nullable=True),  # from here on what it held, once it is complete
    int_("new_lines", nullable=True),
    int_("passed_over", nullable=True),
    sa.UniqueConstraint("source", "sha256"),
    sa.Index("ix_statement_import_begun_at", "source", "begun_at"),
)

# One line of a statement, as it was read; kept for ever. A line that stands in two files that overlap is one row, and
# two lines of one file that are alike in everything are two.
statement_line = table(
    "statement_line",
    id_("id", primary_key=True),
    id_("import_id", sa.ForeignKey("statement_import.id"), nullable=False),
    int_("number"),  # of the line in its file
    text_("source"),
    text_("kind"),  # PAYMENT, FEE, REFUND, REVERSAL, PAYOUT
    text_("receipt"),
    text_("linked"),  # the receipt that a fee, refund or reversal is about; empty: not said
    text_("our_ref"),
    text_("payer"),
    text_("account_ref"),
    at_("occurred_at"),
    text_("day"),  # of the utility, "2026-06-05"
    int_("amount_minor"),  # from our side: what came in is positive
    int_("fee_minor"),  # as taken
    text_("currency"),
    text_("identity"),  # SHA-256 of everything above but import, number and day
    int_("ordinal"),  # 0; more for a line that is like ones before it in the same file
    sa.UniqueConstraint("identity", "ordinal"),
    sa.Index("ix_statement_line_source", "source", "id"),
    sa.Index("ix_statement_line_receipt", "source", "receipt"),
    sa.Index(
        "ix_statement_line_linked",
        "source",
        "linked",
        sqlite_where=sa.text("linked <> ''"),
        postgresql_where=sa.text("linked <> ''"),
    ),
    sa.Index("ix_statement_line_day", "source", "day"),
)

# What a line is, or a payment of ours that no line names: each in exactly one class.
settlement_item = table(
    "settlement_item",
    id_("id", primary_key=True),
    text_("source"),
    text_("day"),  # of the line, or of the payment
    text_("class"),  # NEW: not matched yet; of ledger/matching.py; FEE, PAYOUT for lines that are about no payment
    text_("found", nullable=True),  # the class it was in first
    id_("line_id", sa.ForeignKey("statement_line.id"), nullable=True, unique=True),
    id_("payment_id", nullable=True),
    int_("ours_minor", nullable=True),
    int_("theirs_minor", nullable=True),
    int_("fee_minor"),  # all that the provider took for it, in this line and in lines of their own
    at_("found_at"),
    at_("changed_at"),
    text_("detail"),  # why it could not be taken into the payments
    text_("resolution", nullable=True),  # ACCEPTED, WRITTEN_OFF
    text_("resolved_by", nullable=True),
    text_("beside", nullable=True),
    text_("reason", nullable=True),
    at_("resolved_at", nullable=True),
    id_("txn_id", sa.ForeignKey("txn.id"), nullable=True),  # that a resolution posted
    id_("batch_id", sa.ForeignKey("settlement_batch.id"), nullable=True),  # that booked its fee
    sa.Index("ix_settlement_item_payment_id", "payment_id"),
    sa.Index("ix_settlement_item_day", "source", "day", "class"),
    sa.Index("ix_settlement_item_batch_id", "batch_id"),
    sa.Index("ix_settlement_item_txn_id", "txn_id"),
    sa.Index(
        "ix_settlement_item_open",
        "source",
        "class",
        "day",
        sqlite_where=sa.text("class <> 'MATCHED' AND resolution IS NULL"),
        postgresql_where=sa.text("class <> 'MATCHED' AND resolution IS NULL"),
    ),
    sa.Index(
        "ix_settlement_item_unbooked",
        "source",
        "day",
        sqlite_where=sa.text("batch_id IS NULL AND fee_minor <> 0"),
        postgresql_where=sa.text("batch_id IS NULL AND fee_minor <> 0"),
    ),
)

# What a provider paid out to the bank, and the fees it kept, as booked: one of each payout reference.
settlement_batch = table(
    "settlement_batch",
    id_("id", primary_key=True),
    text_("code", unique=True),
    text_("source"),
    text_("payout_ref"),  # as the provider calls the payout
    text_("bank"),  # the bank account, as in bank:<name>
    sa.Column("paid_on", sa.Date(), nullable=False),
    int_("paid_minor"),
    int_("fee_minor"),
    text_("through"),  # fees of lines up to this day, that no batch had booked
    id_("line_id", sa.ForeignKey("statement_line.id"), nullable=True),  # the provider's own line of the payout
    text_("booked_by"),
    text_("beside", nullable=True),
    at_("booked_at"),
    id_("txn_id", sa.ForeignKey("txn.id"), nullable=False),
    sa.UniqueConstraint("source", "payout_ref"),
    sa.Index("ix_settlement_batch_line_id", "line_id"),
    sa.Index("ix_settlement_batch_txn_id", "txn_id"),
    sa.CheckConstraint("paid_minor > 0", name="paid"),
)

# How far the payments of a source were looked for on its statements: what a run goes on from.
settlement_mark = table(
    "settlement_mark",
    text_("source", primary_key=True),
    at_("paid_until"),
)

# What an operator's text said of a payment: no money, until the source's statement names the receipt. Kept for ever.
pending_payment = table(
    "pending_payment",
    id_("id", primary_key=True),
    text_("source"),
    text_("receipt"),
    int_("amount_minor"),
    text_("currency"),
    text_("payer"),
    text_("account_ref"),
    text_("sender"),
    at_("received_at"),
    sa.UniqueConstraint("source", "receipt"),
    sa.CheckConstraint("amount_minor > 0", name="amount"),
)
