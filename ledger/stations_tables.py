"""The SQL tables of stations: commission, operators' limits, shifts, counter sales, deposits, banking.

The station itself is in `ledger/tables.py`, because every sale from a float reads it.
"""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

commission_scheme = table(
    "commission_scheme",
    text_("code", primary_key=True),
    text_("name"),
    text_("rules"),  # JSON, read by ledger/commissions.py
)

operator_limit = table(
    "operator_limit",
    text_("login", sa.ForeignKey("operator.login"), primary_key=True),
    int_("per_sale_minor", nullable=True),  # empty: no limit of this kind
    int_("per_shift_minor", nullable=True),
    int_("per_day_minor", nullable=True),
)

# What an operator has sold on one local day: the row that the limit per day is held against.
seller_day = table(
    "seller_day",
    text_("login", primary_key=True),
    text_("day", primary_key=True),  # "2026-06-05"
    int_("sold_count"),
    int_("sold_minor"),
    slim=True,
)

shift = table(
    "shift",
    id_("id", primary_key=True),
    text_("code", unique=True),  # "op.ann-12": the operator's twelfth
    id_("station_id", sa.ForeignKey("station.id"), nullable=False),
    text_("login", sa.ForeignKey("operator.login")),
    text_("state"),  # OPEN, CLOSED, ACKNOWLEDGED
    at_("opened_at"),
    int_("float_minor"),  # change money in the drawer at the start; not in the books
    int_("sold_count"),  # counted by the sales themselves, from here to sold_cheque_minor
    int_("sold_minor"),
    int_("sold_cash_minor"),
    int_("sold_card_minor"),
    int_("sold_cheque_minor"),
    int_("paid_count", server_default="0"),  # counted by payments without energy, from here to paid_cheque_minor
    int_("paid_cash_minor", server_default="0"),
    int_("paid_card_minor", server_default="0"),
    int_("paid_cheque_minor", server_default="0"),
    at_("closed_at", nullable=True),
    int_("counted_cash_minor", nullable=True),  # without the float
    int_("counted_card_minor", nullable=True),
    int_("counted_cheque_minor", nullable=True),
    text_("explanation", nullable=True),
    text_("acknowledged_by", nullable=True),
    at_("acknowledged_at", nullable=True),
    id_("txn_id", sa.ForeignKey("txn.id"), nullable=True),  # that posted the difference
    id_("batch_id", sa.ForeignKey("banking_batch.id"), nullable=True),
    sa.Index(
        "uq_shift_open",
        "login",
        unique=True,
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    ),
    sa.Index("ix_shift_station_id", "station_id", "opened_at"),
    sa.Index("ix_shift_batch_id", "batch_id"),
    sa.Index("ix_shift_txn_id", "txn_id"),
    sa.CheckConstraint("sold_minor = sold_cash_minor + sold_card_minor + sold_cheque_minor", name="tenders"),
)

shift_count = table(
    "shift_count",
    id_("shift_id", sa.ForeignKey("shift.id"), primary_key=True),
    int_("denomination_minor", primary_key=True, autoincrement=False),
    int_("pieces"),
    sa.CheckConstraint("denomination_minor > 0 AND pieces >= 0", name="pieces"),
)

# One row for each purchase that was asked for at a counter, whatever came of it.
counter_sale = table(
    "counter_sale",
    id_("purchase_id", primary_key=True),
    text_("login"),
    text_("station"),  # code
    id_("shift_id", nullable=True),
    int_("seq"),
    text_("day"),
    int_("cash_minor"),
    int_("card_minor"),
    int_("cheque_minor"),
    sa.Index("ix_counter_sale_shift_id", "shift_id", "seq"),
    sa.Index("ix_counter_sale_login", "login", "seq"),
    slim=True,
)

# One row for each payment without energy that was taken at a counter: whose it is, and in which drawer it lies.
counter_payment = table(
    "counter_payment",
    id_("payment_id", primary_key=True),
    text_("login"),
    text_("station"),  # code
    id_("shift_id", nullable=True),
    int_("cash_minor"),
    int_("card_minor"),
    int_("cheque_minor"),
    sa.Index("ix_counter_payment_shift_id", "shift_id"),
    slim=True,
)

deposit = table(
    "deposit",
    id_("id", primary_key=True),
    text_("code", unique=True),
    id_("station_id", sa.ForeignKey("station.id"), nullable=True),  # whose it is: a station's, or
    id_("customer_id", nullable=True),  # a customer's, for the wallet
    text_("state"),  # ENTERED, APPROVED, REFUSED, REVERSED
    text_("bank"),  # CASH: the office took it, and the slip is its receipt
    text_("slip"),  # number on the slip: capitals, no blanks
    int_("amount_minor"),
    sa.Column("paid_on", sa.Date(), nullable=False),
    text_("entered_by"),
    at_("entered_at"),
    text_("decided_by", nullable=True),
    at_("decided_at", nullable=True),
    id_("txn_id", sa.ForeignKey("txn.id"), nullable=True),
    id_("reversal_id", sa.ForeignKey("txn.id"), nullable=True),
    sa.Index(
        "uq_deposit_slip",
        "bank",
        "slip",
        unique=True,
        sqlite_where=sa.text("state IN ('ENTERED', 'APPROVED')"),
        postgresql_where=sa.text("state IN ('ENTERED', 'APPROVED')"),
    ),
    sa.Index("ix_deposit_station_id", "station_id", "entered_at"),
    sa.Index("ix_deposit_customer_id", "customer_id", "entered_at"),
    sa.Index("ix_deposit_slip", "slip"),  # as a bank's statement names it
    sa.Index("ix_deposit_txn_id", "txn_id"),
    sa.Index("ix_deposit_reversal_id", "reversal_id"),
    sa.CheckConstraint("amount_minor > 0", name="amount"),
)

banking_batch = table(
    "banking_batch",
    id_("id", primary_key=True),
    text_("code", unique=True),
    id_("station_id", sa.ForeignKey("station.id"), nullable=False),
    text_("state"),  # OPEN, BANKED, CONFIRMED
    text_("opened_by"),
    at_("opened_at"),
    int_("amount_minor", nullable=True),  # cash and cheques of its shifts, once it is banked
    text_("banked_by", nullable=True),
    at_("banked_at", nullable=True),
    id_("deposit_id", sa.ForeignKey("deposit.id"), nullable=True),  # none of a batch of nothing
    at_("confirmed_at", nullable=True),
    sa.Index("ix_banking_batch_station_id", "station_id", "opened_at"),
    sa.Index("ix_banking_batch_deposit_id", "deposit_id"),
)
