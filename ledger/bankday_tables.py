"""SQL tables of a bank's end of day: files that came and went, their lines, differences, payments.

Files, lines and payments are only ever added. Of a difference what was found never changes; what was decided does.
"""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

bank_file = table(
    "bank_file",
    id_("id", primary_key=True),
    text_("bank"),
    sa.Column("business_date", sa.Date(), nullable=False),
    text_("direction"),  # THEIRS, OURS
    int_("sequence"),  # a higher one of a day replaces a lower one
    at_("created_at"),  # as its header says
    text_("currency"),
    int_("lines"),
    int_("purchases"),
    int_("purchases_minor"),
    int_("reversals"),
    int_("reversals_minor"),
    text_("hash"),  # SHA-256 of the file, hexadecimal
    text_("recorded_by"),
    at_("recorded_at"),
    sa.Index("ix_bank_file_day", "bank", "business_date", "direction", "sequence", unique=True),
)

bank_file_line = table(
    "bank_file_line",
    id_("file_id", sa.ForeignKey("bank_file.id"), primary_key=True),
    int_("line", primary_key=True, autoincrement=False),
    sa.Column("business_date", sa.Date(), nullable=False),
    text_("sent"),
    text_("stan"),
    text_("local_time"),
    text_("local_date"),
    text_("rrn"),
    text_("terminal"),
    text_("acquirer"),
    text_("drn"),
    int_("amount_minor"),
    text_("currency"),
    text_("code"),
    text_("receipt"),
    sa.Column("is_reversed", sa.Boolean(), nullable=False),
    slim=True,
)

bank_difference = table(
    "bank_difference",
    id_("id", primary_key=True),
    text_("code", unique=True),  # by which people name it
    text_("bank"),
    sa.Column("business_date", sa.Date(), nullable=False),
    text_("key"),  # terminal, trace number, reference
    text_("kind"),  # a name of Class in ledger/bankmatch.py
    int_("ours_minor"),
    int_("theirs_minor"),
    id_("request_id", nullable=True),
    id_("file_id", sa.ForeignKey("bank_file.id"), nullable=False),  # of the file it was found with
    int_("line", nullable=True),
    at_("found_at"),
    # OPEN, CLAIMED from the bank, ACCEPTED: nothing is owed, WRITTEN_OFF, GONE: a later match has it no more
    text_("state"),
    text_("decided_by", nullable=True),
    text_("approved_by", nullable=True),
    at_("decided_at", nullable=True),
    text_("reason", nullable=True),
    id_("txn_id", sa.ForeignKey("txn.id"), nullable=True),
    sa.Index(
        "ix_bank_difference_day", "bank", "business_date", "key", "kind", "ours_minor", "theirs_minor", unique=True
    ),
)

bank_payment = table(
    "bank_payment",
    id_("id", primary_key=True),
    text_("bank"),
    sa.Column("business_date", sa.Date(), nullable=False),  # the day that is paid
    text_("reference"),  # of the bank's statement
    int_("amount_minor"),  # negative: paid to the bank
    sa.Column("paid_on", sa.Date(), nullable=False),
    id_("txn_id", sa.ForeignKey("txn.id"), nullable=False),
    text_("entered_by"),
    text_("approved_by"),
    at_("recorded_at"),
    sa.Index("ix_bank_payment_reference", "bank", "reference", unique=True),
)
