"""SQL tables of banks: every request that binds us, business days, reconciliations, and keys as they came.

Never in them: a card number, its dates or tracks, PIN blocks, chip data (DE 2, 14, 35, 36, 45, 52, 55), and tokens.
The key of a request and its fingerprint are those of its row in `request`, which has the same id. What became of a
purchase stands in `purchase`, which has it too.
"""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

# Purchases and their advices, reversals, and the marks that reversals of something never seen leave behind. Written in
# the transaction of what it asks for; but for `code`, `answers` and `is_closed` it never changes.
bank_request = table(
    "bank_request",
    id_("id", primary_key=True),  # of its row in `request`
    text_("bank"),
    text_("function"),  # PURCHASE, ADVICE, REVERSAL, TOMBSTONE
    # By which a reversal finds its purchase where it does not carry the purchase's key: acquirer, terminal, trace
    # number, transmission time with its year; empty where the dialect has none.
    text_("trace", nullable=True),
    text_("mti"),  # of the first that came
    text_("stan"),
    text_("rrn"),
    text_("terminal"),
    text_("acceptor"),
    text_("acquirer"),
    text_("sent"),  # transmission time as it came
    text_("local_time"),
    text_("local_date"),
    sa.Column("business_date", sa.Date(), nullable=False),
    int_("amount_minor"),
    text_("currency"),
    text_("drn"),  # the meter's number; empty in reversals
    id_("original", nullable=True),  # of a reversal: the request that it reverses, if that has come
    # Of a purchase: ACCEPTED (see `purchase` for what became of it) or REFUSED (no purchase came of it). Of a reversal:
    # what it was answered, a value of Answer in gateway/reversal.py; EXCEPTION is one that was acknowledged although
    # the sale stands. Of a tombstone: NEVER_SEEN.
    text_("outcome"),
    text_("reason", nullable=True),  # of REFUSED: a name of ledger/reasons.py
    text_("code", nullable=True),  # the last response code that was given; empty: no answer yet
    int_("answers"),  # how often an answer was given, besides the first by whoever stored it
    sa.Column("is_closed", sa.Boolean(), nullable=False),  # the bank never gets this purchase's token again
    text_("link"),  # by which the first came
    at_("received_at"),
    sa.Index("ix_bank_request_trace", "bank", "trace", unique=True),
    sa.Index("ix_bank_request_day", "bank", "business_date", "function", "id"),
    slim=True,
)

# The business dates that banks have announced; the latest is the current one. Rows are only added.
bank_day = table(
    "bank_day",
    text_("bank", primary_key=True),
    sa.Column("business_date", sa.Date(), primary_key=True),
    text_("stan"),  # of the announcement
    at_("cut_over_at"),
)

# What banks have sent as their totals of a business date, and ours at that moment. Rows are only added.
bank_reconciliation = table(
    "bank_reconciliation",
    id_("id", primary_key=True),
    text_("bank"),
    sa.Column("business_date", sa.Date(), nullable=False),
    text_("mti"),
    text_("stan"),
    text_("currency"),
    int_("their_purchases"),
    int_("their_purchases_minor"),
    int_("their_reversals"),
    int_("their_reversals_minor"),
    int_("their_net_minor"),  # negative: the bank owes
    int_("our_purchases"),
    int_("our_purchases_minor"),
    int_("our_reversals"),
    int_("our_reversals_minor"),
    int_("our_net_minor"),
    sa.Column("in_balance", sa.Boolean(), nullable=False),
    at_("received_at"),
    sa.Index("ix_bank_reconciliation_day", "bank", "business_date", "id"),
)

# Working keys under the ZMK, just as they came: a restart installs them again. The ZMK itself is never here.
bank_key = table(
    "bank_key",
    id_("id", primary_key=True),
    text_("bank"),
    text_("handle"),
    text_("zmk"),  # the handle of the key it travels under
    text_("scheme"),
    text_("cryptogram"),
    text_("kcv"),
    text_("state"),  # OFFERED, ACTIVE, REFUSED
    at_("received_at"),
    at_("settled_at", nullable=True),
    sa.Index("ix_bank_key_handle", "bank", "handle", "id"),
)

# What operators have had the nodes send on a bank's links, once. Rows are only added.
bank_ask = table(
    "bank_ask",
    id_("id", primary_key=True),
    text_("bank"),
    text_("what"),  # sign_on, sign_off, echo
    text_("asked_by"),
    at_("asked_at"),
    text_("reason"),
    sa.Index("ix_bank_ask_asked_at", "asked_at"),
)

# What came of it on each link of each node. Rows are only added.
bank_ask_result = table(
    "bank_ask_result",
    id_("ask_id", sa.ForeignKey("bank_ask.id"), primary_key=True),
    text_("node", primary_key=True),
    text_("link", primary_key=True),  # empty: the node has none of this bank
    text_("result"),  # ANSWERED, DECLINED with its code, NO_ANSWER, LOST, NOT_KNOWN, NO_LINK
    at_("at"),
)
