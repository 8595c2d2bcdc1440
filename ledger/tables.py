"""The SQL tables that a purchase touches, and those of custody; the migrations follow them.

Tables of another topic stand in a module of their own beside this one, `ledger/<topic>_tables.py`, which
`ledger/all_tables.py` names.
"""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

# --- records: whom we serve ------------------------------------------------------------------------------------------

customer = table(
    "customer",
    id_("id", primary_key=True),
    text_("account_no", unique=True),
    text_("name"),
    text_("category"),
    text_("language"),
    text_("status"),
    id_("wallet_id", sa.ForeignKey("account.id"), nullable=False),
)

station = table(
    "station",
    id_("id", primary_key=True),
    text_("code", unique=True),
    text_("name"),
    text_("kind"),  # COUNTER, AGENT, OFFLINE, BANK
    text_("funding"),  # PREPAID: sells from a deposit; CREDIT: sells up to a limit and owes
    id_("account_id", sa.ForeignKey("account.id"), nullable=False),
    text_("commission_percent"),  # decimal; what counts where there is no scheme
    text_("supply_groups"),  # the codes it may sell for, separated by blanks
    text_("state", server_default="ACTIVE"),  # ACTIVE, BLOCKED
    text_("channels", server_default=""),  # those it may sell by, separated by blanks; empty: any
    text_("commission_scheme", nullable=True),  # a code of commission_scheme
    text_("language", nullable=True),  # of its receipts; empty: the utility's
    sa.Column("shift_required", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("blind_count", sa.Boolean(), nullable=False, server_default=sa.false()),
    text_("pin_rule", server_default=""),  # off, always, above <minor units>; empty: as the settings say
)

phone = table(
    "phone",
    text_("msisdn", primary_key=True),  # digits with country code, no plus
    id_("customer_id", sa.ForeignKey("customer.id"), nullable=True),
    id_("station_id", sa.ForeignKey("station.id"), nullable=True),
    text_("language", nullable=True),
    at_("notices_stopped_at", nullable=True),
    text_("pin", nullable=True),  # a slow hash, see ledger/pins.py
    int_("pin_tries", server_default="0"),  # wrong PINs since the last right one
    at_("pin_locked_at", nullable=True),
    int_("per_sale_minor", nullable=True),  # the most this phone may sell from a station's money; empty: no limit
    int_("per_day_minor", nullable=True),
    sa.Index("ix_phone_customer_id", "customer_id"),
)

tariff = table(
    "tariff",
    text_("code", primary_key=True),
    text_("head"),  # JSON: all that is not in a version
)

# What a version says is never changed: a mistake is withdrawn, and entered again under the next number.
tariff_version = table(
    "tariff_version",
    text_("tariff_code", sa.ForeignKey("tariff.code"), primary_key=True),
    text_("effective_from", primary_key=True),  # local date and time, ISO 8601 without zone
    int_("entry", primary_key=True, autoincrement=False),  # 1; more where one of this start was withdrawn
    text_("rules"),  # JSON
    text_("state"),  # DRAFT, RELEASED: prices sales, WITHDRAWN
    text_("entered_by"),  # an operator's login; "load" for what `prepaid load` brought
    at_("entered_at", nullable=True),
    text_("released_by", nullable=True),
    at_("released_at", nullable=True),
    text_("withdrawn_by", nullable=True),
    at_("withdrawn_at", nullable=True),
    # Of one start only one stands.
    sa.Index(
        "ix_tariff_version_standing",
        "tariff_code",
        "effective_from",
        unique=True,
        sqlite_where=sa.text("state <> 'WITHDRAWN'"),
        postgresql_where=sa.text("state <> 'WITHDRAWN'"),
    ),
)

service_point = table(
    "service_point",
    id_("id", primary_key=True),
    text_("code", unique=True),
    id_("customer_id", sa.ForeignKey("customer.id"), nullable=False),
    text_("area"),
    text_("tariff_code", sa.ForeignKey("tariff.code")),
    text_("counter_month"),  # "2026-06": the local month that month_units_tenths counts
    int_("month_units_tenths"),
    text_("fixed_through_month"),
    sa.Column("fixed_through_date", sa.Date(), nullable=False),
    int_("fixed_shortfall_minor"),
    int_("carry_minor"),
    int_("free_kwh_per_month", nullable=True),
    text_("free_last_month"),
    id_("vending", nullable=True),  # the purchase that waits for a module; others of this point wait for it
    id_("last_sale", nullable=True),  # what last changed the counters: the only sale that may still be undone
    sa.Index("ix_service_point_customer_id", "customer_id"),
)

debt = table(
    "debt",
    id_("id", primary_key=True),
    text_("code", unique=True),
    id_("service_point_id", sa.ForeignKey("service_point.id"), nullable=False),
    text_("kind"),
    int_("priority"),
    text_("mode"),  # PERCENT, FIXED, FIRST
    int_("outstanding_minor"),
    int_("instalment_minor"),
    text_("percent"),  # decimal
    text_("status"),  # ACTIVE, SUSPENDED, WRITTEN_OFF
    int_("recovered_this_month_minor"),
    sa.Column("opened_on", sa.Date(), nullable=True),  # local; empty: not known
    text_("agreement_no", nullable=True),
    sa.Column("signed_on", sa.Date(), nullable=True),
    text_("default_rule", nullable=True),  # what happens if the customer does not keep to it
    text_("approved_by", nullable=True),
    sa.Index("ix_debt_service_point_id", "service_point_id"),
    sa.CheckConstraint("outstanding_minor >= 0", name="outstanding"),
)

meter = table(
    "meter",
    id_("id", primary_key=True),
    text_("drn", unique=True),
    text_("iin"),
    id_("service_point_id", sa.ForeignKey("service_point.id"), nullable=True),
    text_("status"),  # of ledger/meterlife.py
    int_("encryption_algorithm"),
    int_("key_generation"),  # DKGA 2 or 4
    int_("key_type"),
    text_("supply_group"),
    int_("key_revision"),
    text_("tariff_index"),
    int_("key_expiry"),
    int_("base_date"),
    int_("last_tid", nullable=True),  # on this base date
    text_("next_key", nullable=True),  # the key it shall have, if that is another one
    int_("next_last_tid", nullable=True),  # on the base date of that key
    at_("change_given_at", nullable=True),  # when the key-change set was first given out
    text_("replaced_by", nullable=True),  # the number of the meter that took its place
    text_("token_technology", server_default="02"),  # 01: magnetic card, 02: numbers typed in
    id_("unseen_sale", nullable=True),  # the last, if it was sealed and certainly nobody has seen its tokens
    sa.Index("ix_meter_service_point_id", "service_point_id"),
    sa.Index(
        "ix_meter_at_point",
        "service_point_id",
        unique=True,
        sqlite_where=sa.text("status IN ('INSTALLED', 'BLOCKED', 'FAULTY')"),
        postgresql_where=sa.text("status IN ('INSTALLED', 'BLOCKED', 'FAULTY')"),
    ),
)

# --- books: money -----------------------------------------------------------------------------------------------------

account = table(
    "account",
    id_("id", primary_key=True),
    text_("code", unique=True),
    text_("kind"),  # a name of the chart in ledger/accounts.py
    text_("currency"),
)

# Only accounts that must not be overdrawn have a balance of their own: one row that every sale touches would make
# every sale wait for every other (docs/decisions/0004).
limited_balance = table(
    "limited_balance",
    id_("account_id", sa.ForeignKey("account.id"), primary_key=True),
    int_("posted_minor"),  # sum of the account's postings, credits positive
    int_("pending_minor"),  # held by reservations
    int_("floor_minor"),  # the least that posted - pending may become
    at_("closed_at", nullable=True),  # from then on it takes nothing more
    sa.CheckConstraint("posted_minor - pending_minor >= floor_minor", name="floor"),
    slim=True,
)

txn = table(
    "txn",
    id_("id", primary_key=True),
    text_("kind"),
    id_("purchase_id", nullable=True),
    id_("reverses", sa.ForeignKey("txn.id"), nullable=True, unique=True),
    sa.Column("business_date", sa.Date(), nullable=False),
    at_("recorded_at"),
    slim=True,
)

posting = table(
    "posting",
    id_("txn_id", sa.ForeignKey("txn.id"), primary_key=True),
    int_("leg", primary_key=True, autoincrement=False),
    id_("account_id", nullable=False),  # no foreign key: it would lock the row of every hot account
    int_("amount_minor"),  # credit positive, debit negative
    sa.CheckConstraint("amount_minor <> 0", name="amount"),
    sa.Index("ix_posting_account_id", "account_id", "txn_id"),
    slim=True,
)

hold = table(
    "hold",
    id_("purchase_id", primary_key=True),
    id_("account_id", sa.ForeignKey("account.id"), nullable=False),
    int_("amount_minor"),
    text_("state"),  # PENDING, POSTED, VOIDED
    at_("expires_at"),
    sa.CheckConstraint("amount_minor > 0", name="amount"),
    slim=True,
)

# --- deeds: what was asked and what came of it ------------------------------------------------------------------------

request = table(
    "request",
    id_("id", primary_key=True),
    text_("idem_key", unique=True),  # channel, peer and the reference that a repeat would carry
    sa.Column("fingerprint", sa.LargeBinary(16), nullable=False),
    text_("channel"),
    text_("peer"),
    text_("sender"),
    text_("destination"),
    text_("command"),
    at_("received_at"),
    slim=True,
)

purchase = table(
    "purchase",
    id_("id", primary_key=True),  # the id of its request
    id_("meter_id", nullable=False),
    id_("service_point_id", nullable=False),
    text_("channel"),
    text_("peer"),
    text_("sender"),
    text_("destination"),
    text_("language"),
    int_("amount_minor"),
    text_("state"),
    text_("owed"),
    text_("reason", nullable=True),
    id_("payer_id", nullable=True),  # the account that pays
    id_("station_id", nullable=True),
    text_("tariff_code", nullable=True),
    text_("tariff_version", nullable=True),
    int_("units_tenths", nullable=True),
    text_("sale", nullable=True),  # JSON: the split, and the account after it while the token is being made
    text_("receipt", nullable=True, unique=True),
    at_("accepted_at"),
    at_("expires_at"),
    sa.Index("ix_purchase_meter_id", "meter_id", "id"),
    sa.Index(
        "ix_purchase_waiting",
        "id",
        sqlite_where=sa.text("state IN ('RECEIVED', 'PAYING', 'VENDING', 'CANCELLING', 'RETURNING')"),
        postgresql_where=sa.text("state IN ('RECEIVED', 'PAYING', 'VENDING', 'CANCELLING', 'RETURNING')"),
    ),
)

token = table(
    "token",
    id_("purchase_id", primary_key=True),
    int_("seq", primary_key=True, autoincrement=False),
    id_("meter_id", nullable=False),
    text_("kind"),  # key_change, credit, free
    int_("base_date"),
    int_("tid", nullable=True),  # key-change tokens have none
    int_("subclass", nullable=True),
    int_("rnd", nullable=True),
    int_("amount_field", nullable=True),
    int_("units_tenths"),
    text_("supply_group"),
    int_("key_revision"),
    text_("key"),  # the whole handle of the key it is made under
    text_("new_key", nullable=True),  # of the key that a set leads to
    text_("digits", nullable=True),  # empty until the module has answered
    text_("module", nullable=True),  # its maker; before the answer the module whose limit it was counted at, if any
    sa.UniqueConstraint("meter_id", "base_date", "tid"),
    slim=True,
)

outbox = table(
    "outbox",
    id_("id", primary_key=True),
    id_("request_id", nullable=False),
    text_("channel"),
    text_("peer"),
    text_("recipient"),
    text_("sender"),
    text_("language"),
    text_("message"),  # key of the language files
    text_("fields"),  # JSON
    text_("state"),  # OWED, SENT, DEAD, WITHDRAWN
    text_("owner"),  # the node that sends it while its lease runs
    at_("lease_until"),
    int_("attempts"),
    text_("detail", nullable=True),
    at_("ended_at", nullable=True),
    sa.Index(
        "ix_outbox_owed",
        "lease_until",
        sqlite_where=sa.text("state = 'OWED'"),
        postgresql_where=sa.text("state = 'OWED'"),
    ),
    sa.Index(
        "ix_outbox_dead", "id", sqlite_where=sa.text("state = 'DEAD'"), postgresql_where=sa.text("state = 'DEAD'")
    ),
    sa.Index("ix_outbox_request_id", "request_id"),
)

stamp = table(
    "stamp",
    text_("name", primary_key=True),  # "tariffs"
    int_("value"),  # goes up with every change, so that caches know
)

# --- custody: operators, vending keys (never their bytes) and the record of both --------------------------------------

# Rows are only ever added; the row of `stamp` called "audit" is the head of the chain.
audit = table(
    "audit",
    int_("seq", primary_key=True, autoincrement=False),
    text_("previous"),  # the hash of the row before, 64 hex digits
    at_("at"),
    text_("who"),
    text_("place"),
    text_("deed"),
    text_("subject"),
    text_("before"),  # JSON
    text_("after"),  # JSON
    text_("reason"),
    text_("hash"),
    sa.Index("ix_audit_subject", "subject", "seq"),
)

operator = table(
    "operator",
    text_("login", primary_key=True),
    text_("name"),
    text_("roles"),  # names of roles, separated by blanks
    text_("language"),
    text_("station", nullable=True),  # a station's code
    text_("password"),  # "scrypt", its cost, salt and hash
    int_("tries"),  # wrong passwords since the last right one
    at_("locked_until", nullable=True),
    sa.Column("disabled", sa.Boolean(), nullable=False),
    at_("created_at"),
)

vending_key = table(
    "vending_key",
    text_("supply_group", primary_key=True),
    int_("key_revision", primary_key=True, autoincrement=False),
    int_("key_type", primary_key=True, autoincrement=False),
    int_("key_generation", primary_key=True, autoincrement=False),  # DKGA 2 or 4
    int_("base_date", primary_key=True, autoincrement=False),
    text_("kcv"),  # empty where the module cannot tell
    text_("module", primary_key=True),
    text_("state"),  # LOADED, ACTIVE, REPLACED, DESTROYED
    int_("key_expiry"),
    at_("active_from", nullable=True),
    at_("issued_until", nullable=True),
    at_("refresh_by", nullable=True),
    int_("token_limit", nullable=True),  # the most this key may ever make here; empty: no limit
    int_("units_limit_tenths", nullable=True),
    int_("tokens_made"),
    int_("units_made_tenths"),
    text_("loaded_by"),
    at_("loaded_at"),
    id_("file_id", nullable=True),
    text_("file_hash", nullable=True),
    text_("activated_by", nullable=True),
    at_("activated_at", nullable=True),
    text_("replaced_by", nullable=True),  # the key that took its place
    at_("replaced_at", nullable=True),
    at_("destroyed_at", nullable=True),
    text_("pending", nullable=True),  # JSON: what a newer file says and nobody has activated yet
    sa.CheckConstraint("tokens_made <= token_limit", name="token_limit"),
    sa.CheckConstraint("units_made_tenths <= units_limit_tenths", name="units_limit"),
)

key_file = table(
    "key_file",
    id_("file_id", primary_key=True),
    text_("direction", primary_key=True),  # LOADED, EXPORTED
    text_("module"),
    int_("serial"),
    text_("file_hash"),
    int_("key_count"),
    at_("created_at"),
    at_("expires_at"),
    at_("recorded_at"),
    text_("recorded_by"),
    sa.UniqueConstraint("direction", "module", "serial"),
)
