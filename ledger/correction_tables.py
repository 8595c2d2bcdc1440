"""The SQL tables of reversals, corrections, account payments, tokens shown apart from their reply, or sold again.

Rows are only ever added.
"""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

# What each reversal that was asked for was answered: a repeat of it hears the same.
reversal = table(
    "reversal",
    id_("id", primary_key=True),  # the id of its own request
    text_("original"),  # the natural key of the request that it reverses
    id_("purchase_id", nullable=True),
    text_("answer"),
    text_("reason", nullable=True),
    text_("evidence"),
    text_("who"),
    at_("decided_at"),
    sa.Index("ix_reversal_purchase_id", "purchase_id"),
)

# A token that was shown other than in its own reply: as a copy, or to an operator.
disclosure = table(
    "disclosure",
    id_("purchase_id", primary_key=True),
    id_("id", primary_key=True),
    text_("how"),  # COPY, OPERATOR, SCREEN
    text_("to_whom"),
    at_("at"),
    sa.Index("ix_disclosure_to_whom", "to_whom", "id"),  # how often a phone was sent a token again
    slim=True,
)

# Tokens of a sealed sale that nobody had seen, sold again: their rows in `token` are those of the later purchase.
resale = table(
    "resale",
    id_("id", primary_key=True),
    id_("sealed_id", nullable=False),  # the sale they were made in
    id_("purchase_id", nullable=False),  # the sale they were sold in
    int_("tokens"),
    at_("at"),
    sa.Index("ix_resale_sealed_id", "sealed_id"),
    sa.Index("ix_resale_purchase_id", "purchase_id"),
)

# A correction that one person asked for; what others did with it is in `correction_state`.
correction = table(
    "correction",
    id_("id", primary_key=True),
    text_("code", unique=True),
    text_("natural_key", unique=True),  # receipt and number: at most one correction of a sale stands
    text_("kind"),  # a name of ledger/corrections.py
    id_("purchase_id", nullable=False),  # the original
    text_("receipt"),
    int_("amount_minor"),
    int_("units_tenths"),
    text_("drn"),  # the meter that gets a token; empty: none does
    text_("details"),  # JSON
    text_("asked_by"),
    at_("asked_at"),
    text_("place"),
    text_("reason"),
    sa.Index("ix_correction_purchase_id", "purchase_id"),
)

correction_state = table(
    "correction_state",
    id_("correction_id", sa.ForeignKey("correction.id"), primary_key=True),
    int_("seq", primary_key=True, autoincrement=False),
    text_("state"),  # ASKED, APPROVED, REFUSED
    text_("who"),
    at_("at"),
    text_("place"),
    text_("reason"),
    id_("issue_id", nullable=True),  # the purchase that brings the token
    slim=True,
)

account_payment = table(
    "account_payment",
    id_("id", primary_key=True),  # the id of its request and of its transaction
    text_("receipt", unique=True),
    id_("customer_id", nullable=False),
    id_("source_id", nullable=False),  # the account that the money came in by
    int_("amount_minor"),
    text_("split"),  # JSON: debts, fixed charges, tax, wallet
    text_("who"),
    at_("at"),
    sa.Index("ix_account_payment_customer_id", "customer_id", "id"),
)
