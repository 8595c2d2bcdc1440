"""The SQL tables of vouchers: batches made by two people, what was sold to whom, each voucher, wrong tries.

A voucher's PIN is nowhere: `digest` is made from it with a key that is not in the database (`ledger/vouchers.py`).
"""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

voucher_batch = table(
    "voucher_batch",
    id_("id", primary_key=True),
    text_("code", unique=True),
    text_("state"),  # ASKED, APPROVED, PRINTED, ACTIVE, VOID
    int_("vouchers"),
    int_("value_minor"),  # of each voucher
    text_("currency"),
    sa.Column("expires_on", sa.Date(), nullable=False),  # the last local day on which it may be used
    text_("asked_by"),
    at_("asked_at"),
    text_("approved_by", nullable=True),
    at_("approved_at", nullable=True),
    text_("printed_by", nullable=True),
    at_("printed_at", nullable=True),
    text_("sheet_hash", nullable=True),  # of the file that the PINs were written to, once
    text_("activated_by", nullable=True),
    at_("activated_at", nullable=True),
    sa.CheckConstraint("vouchers > 0 AND value_minor > 0", name="size"),
)

# A run of serials handed out against money: its id is that of its transaction.
voucher_sale = table(
    "voucher_sale",
    id_("id", primary_key=True),
    id_("batch_id", sa.ForeignKey("voucher_batch.id"), nullable=False),
    int_("first_serial"),
    int_("last_serial"),
    int_("amount_minor"),
    id_("account_id", sa.ForeignKey("account.id"), nullable=False),  # what paid, or owes
    text_("sold_by"),
    at_("sold_at"),
    sa.Index("ix_voucher_sale_batch_id", "batch_id", "first_serial"),
)

voucher = table(
    "voucher",
    id_("id", primary_key=True),
    id_("batch_id", sa.ForeignKey("voucher_batch.id"), nullable=False),
    int_("serial"),
    text_("digest", unique=True),
    int_("value_minor"),
    sa.Column("expires_on", sa.Date(), nullable=False),
    text_("state"),  # PRINTED, ACTIVE, SOLD, USED, VOID
    id_("sale_id", sa.ForeignKey("voucher_sale.id"), nullable=True),
    text_("used_by", nullable=True),  # MSISDN
    at_("used_at", nullable=True),
    id_("request_id", nullable=True),  # by which it was used; of a purchase, if it paid one
    id_("txn_id", nullable=True),  # that moved its value to the wallet, or back to who had bought it
    sa.UniqueConstraint("batch_id", "serial"),
    sa.CheckConstraint("(state = 'USED') = (request_id IS NOT NULL)", name="used"),
    sa.Index("ix_voucher_txn_id", "txn_id"),
)

voucher_try = table(
    "voucher_try",
    text_("msisdn", primary_key=True),
    text_("day", primary_key=True),  # local, "2026-06-05"
    int_("tries"),
    slim=True,
)
