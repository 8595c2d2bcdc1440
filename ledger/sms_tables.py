"""The SQL tables of text messages: who holds which link, long messages on their way in, and parts sent out."""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

# --- links to message centres -----------------------------------------------------------------------------------------

link_lease = table(
    "link_lease",
    text_("link", primary_key=True),
    int_("slot", primary_key=True, autoincrement=False),  # 1 to the number of binds that the link may have
    text_("node"),
    text_("holder"),  # this start of the node; empty: given back
    int_("fence"),  # goes up with each change of holder
    at_("lease_until"),
)

sms_link = table(
    "sms_link",
    text_("link", primary_key=True),
    text_("state"),  # RUN, PAUSED, DRAINED; a link without a row runs
    text_("set_by"),
    at_("set_at"),
    text_("reason"),
)

# --- in: parts of long messages, acknowledged and not yet a whole -----------------------------------------------------

sms_assembly = table(
    "sms_assembly",
    text_("key", primary_key=True),  # digest of centre, both addresses, and kind, reference and total of the parts
    id_("id", unique=True, nullable=False),
    text_("link"),
    int_("total"),
    text_("state"),  # OPEN, DONE: handed on, TOLD: a part never came and its sender knows
    at_("first_at"),
    at_("last_at"),
    text_("base"),  # the key that it began under: behind the key is its id where another has taken its place
    sa.Index("ix_sms_assembly_base", "base"),
    sa.Index(
        "ix_sms_assembly_open",
        "last_at",
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    ),
    sa.Index(
        "ix_sms_assembly_over",
        "last_at",
        sqlite_where=sa.text("state <> 'OPEN'"),
        postgresql_where=sa.text("state <> 'OPEN'"),
    ),
)

sms_part = table(
    "sms_part",
    id_("assembly_id", primary_key=True),
    int_("number", primary_key=True, autoincrement=False),
    text_("sender"),
    text_("destination"),
    int_("data_coding"),
    sa.Column("octets", sa.LargeBinary(), nullable=False),  # sealed; none when the message is done with
    text_("shifts"),  # numbers of the national tables that its header announces, "0 0" for none
    text_("reference"),  # what a repeat would carry again; empty: nothing
    sa.Column("digest", sa.LargeBinary(), nullable=False),  # keyed, of the content: a repeat is known by it
    text_("sealed_by"),  # the name of the key that the octets are sealed with; empty: they are not
)

# --- out: what a message centre has taken, and what it said of it later -----------------------------------------------

sms_sent = table(
    "sms_sent",
    id_("id", primary_key=True),  # its time is when the message centre took it
    text_("centre"),
    text_("normal"),  # the message id in the form by which receipts are matched
    text_("message_id"),  # as the message centre gave it
    id_("outbox_id", nullable=False),
    int_("part"),
    int_("parts"),
    text_("link"),
    text_("recipient"),
    text_("state", nullable=True),  # the last word of its receipts: DELIVRD, UNDELIV, ENROUTE ...
    text_("error", nullable=True),
    at_("state_at", nullable=True),
    sa.Column("is_watched", sa.Boolean(), nullable=False),  # a second route is tried if no good receipt comes
    sa.Index("ix_sms_sent_normal", "normal", "centre"),
    sa.Index("ix_sms_sent_outbox_id", "outbox_id"),
    sa.Index("ix_sms_sent_watched", "id", sqlite_where=sa.text("is_watched"), postgresql_where=sa.text("is_watched")),
    slim=True,
)

sms_receipt = table(
    "sms_receipt",  # receipts whose message is not known yet: they may overtake the response
    id_("id", primary_key=True),
    text_("centre"),
    text_("forms"),  # what may stand in `sms_sent.normal`, separated by blanks
    text_("recipient"),
    text_("state"),
    text_("error", nullable=True),
    at_("received_at"),
)
