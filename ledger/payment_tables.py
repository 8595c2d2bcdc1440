"""The SQL tables of payments: what outside sources took, what they said, what could not be placed, what went back."""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

# One payment at a source. Of one receipt there is one row, whoever tells of it and however often.
payment = table(
    "payment",
    id_("id", primary_key=True),  # our_ref: made and stored before the source hears of it
    text_("source"),  # the name of its [[payment]] table
    text_("purpose"),  # ORDER: asked for a purchase; METER: came with a meter number; TOPUP: for a wallet; NONE
    text_("state"),  # of gateway/payments/life.py
    text_("why", nullable=True),  # why it failed, a name of gateway.payments.contract.Why; EXPIRED: told so
    text_("provider_ref"),  # what the source calls our request; empty: not known
    text_("receipt", nullable=True),  # what its statements call the payment; empty until it is known
    id_("purchase_id", nullable=True),
    text_("payer"),  # an MSISDN, or what the source shows of it
    text_("account_ref"),  # what the payer wrote, or was shown
    int_("amount_minor"),  # asked for, or what came
    int_("paid_minor", nullable=True),  # what came
    text_("currency"),
    id_("account_id", nullable=True),  # what was credited: the payer's prepayment, or suspense
    at_("created_at"),
    at_("paid_at", nullable=True),  # when the money was booked here
    at_("closed_at", nullable=True),  # nothing is expected any more
    int_("tries"),  # how often it was asked about
    int_("lane", nullable=True),  # 0: young, asked about first; 1: backing off; empty: not asked about
    at_("next_ask_at", nullable=True),
    sa.UniqueConstraint("source", "receipt"),
    sa.CheckConstraint("amount_minor > 0", name="amount"),
    sa.CheckConstraint("paid_minor > 0", name="paid"),
    sa.Index("ix_payment_provider_ref", "source", "provider_ref"),
    sa.Index("ix_payment_payer", "payer", "id"),
    sa.Index("ix_payment_purchase_id", "purchase_id"),
    sa.Index("ix_payment_paid_at", "source", "paid_at"),
    sa.Index(
        "ix_payment_due",
        "source",
        "lane",
        "next_ask_at",
        sqlite_where=sa.text("next_ask_at IS NOT NULL"),
        postgresql_where=sa.text("next_ask_at IS NOT NULL"),
    ),
)

# What was said of payments, and what came of it. Rows are only ever added; answers that say nothing new are not kept.
payment_event = table(
    "payment_event",
    id_("id", primary_key=True),
    id_("payment_id", nullable=True),  # empty: of no payment that is known here
    text_("source"),
    text_("heard"),  # ASKED, CALLBACK, POLL, CLOCK, OFFICE
    text_("said"),  # PENDING, SUCCESS, FAILED, REVERSED, or ASKED, DECLINED, UNCLEAR, UNKNOWN, EXPIRED
    text_("outcome"),  # what came of it, of gateway/payments/life.py
    text_("receipt"),
    text_("provider_ref"),
    text_("payer"),  # all but the ends masked
    int_("amount_minor", nullable=True),
    text_("currency"),
    text_("detail"),
    at_("occurred_at"),
    at_("recorded_at"),
    sa.Index("ix_payment_event_payment_id", "payment_id", "id"),
    slim=True,
)

# Money that came and could not be placed, in the account suspense:<source>. Negative: the source took back what was
# sold for.
suspense = table(
    "suspense",
    id_("id", primary_key=True),
    text_("code", unique=True),  # what payers and operators call it
    id_("payment_id", sa.ForeignKey("payment.id"), nullable=False),
    text_("source"),
    text_("payer"),
    text_("account_ref"),
    int_("amount_minor"),
    text_("currency"),
    text_("reason"),  # of gateway/payments/life.py
    text_("state"),  # OPEN, ASKED: a second person decides, REFUNDING: at the source, RESOLVED
    at_("opened_at"),
    id_("purchase_id", nullable=True),  # what it bought in the end
    text_("resolution", nullable=True),  # VENDED, WALLET, REFUNDED, PAID_OUT, WRITTEN_OFF, REVERSED
    id_("resolved_txn", nullable=True),  # the transaction that took it out of suspense
    text_("resolved_by", nullable=True),  # an operator's login, the payer's MSISDN, or the source
    at_("resolved_at", nullable=True),
    sa.CheckConstraint("amount_minor <> 0", name="amount"),
    sa.Index("ix_suspense_payment_id", "payment_id"),
    sa.Index(
        "ix_suspense_open",
        "source",
        "opened_at",
        sqlite_where=sa.text("state <> 'RESOLVED'"),
        postgresql_where=sa.text("state <> 'RESOLVED'"),
    ),
    sa.Index(
        "ix_suspense_payer",
        "payer",
        "opened_at",
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    ),
)

# What people decided on an item, in order. Rows are only ever added.
suspense_step = table(
    "suspense_step",
    id_("item_id", sa.ForeignKey("suspense.id"), primary_key=True),
    int_("seq", primary_key=True, autoincrement=False),
    text_("step"),  # ASKED, APPROVED, REFUSED, FAILED, LATE: the source said otherwise after people had decided
    text_("how"),  # WALLET, REFUND, PAY_OUT, WRITE_OFF, REFUND_DONE, REFUND_NOT_DONE
    text_("target"),  # an account number, a phone, what the source calls a refund
    text_("who"),
    text_("reason"),
    at_("at"),
)

# Money on its way back to a payer, by the source it came from.
source_refund = table(
    "source_refund",
    id_("id", primary_key=True),  # the key under which the source knows it again
    id_("item_id", sa.ForeignKey("suspense.id"), nullable=False),
    text_("source"),
    text_("receipt"),
    text_("payer"),
    int_("amount_minor"),
    text_("currency"),
    text_("state"),  # OWED, ASKED, UNCLEAR, DONE, FAILED
    text_("provider_ref"),
    text_("why", nullable=True),  # why it failed, a name of gateway.payments.contract.Why; OFFICE: people have seen so
    at_("created_at"),
    at_("closed_at", nullable=True),
    int_("tries"),
    at_("next_ask_at", nullable=True),  # empty also while people decide how it went
    sa.CheckConstraint("amount_minor > 0", name="amount"),
    sa.Index("ix_source_refund_item_id", "item_id"),
    sa.Index("ix_source_refund_provider_ref", "source", "provider_ref"),  # statements name refunds by it
    sa.Index(
        "ix_source_refund_due",
        "source",
        "next_ask_at",
        sqlite_where=sa.text("next_ask_at IS NOT NULL"),
        postgresql_where=sa.text("next_ask_at IS NOT NULL"),
    ),
)
