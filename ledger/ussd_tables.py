"""The SQL table of USSD sessions."""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

ussd_session = table(
    "ussd_session",
    text_("key", primary_key=True),  # service, provider's session id, phone
    text_("msisdn"),
    text_("service"),
    int_("step"),
    int_("typed_length"),  # of everything typed, where the provider repeats it all
    sa.Column("typed_hash", sa.LargeBinary(16), nullable=False),  # of the same, which may hold a PIN
    text_("mark"),  # the provider's marks of the last steps, the last one first, a line each
    text_("place"),  # JSON: where the customer stands
    text_("page"),  # the last screen; empty where it is made from the purchase
    text_("state"),  # OPEN, ENDED
    id_("purchase_id", nullable=True),  # what was bought in it
    at_("seen_at"),
    at_("expires_at"),  # when it is forgotten
    sa.Index("ix_ussd_session_msisdn", "msisdn"),
    sa.Index("ix_ussd_session_expires_at", "expires_at"),
)
