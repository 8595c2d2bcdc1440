"""The SQL table of what happened to service points and their meters: installed, replaced, blocked, moved in, moved out.

Rows are only ever added. The history of a place is found by its service point, that of a device by its meter; a
replacement stands in both meters' histories. Who did it and from where is in the audit log too, word for word.
"""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

site_event = table(
    "site_event",
    id_("id", primary_key=True),
    id_("meter_id", sa.ForeignKey("meter.id"), nullable=True),  # empty: it was done to the service point
    id_("service_point_id", sa.ForeignKey("service_point.id"), nullable=True),  # empty: in stock or with a fitter
    at_("at"),
    text_("who"),
    text_("deed"),  # of ledger/meterlife.py, or ADD, TRANSFER, TARIFF for a service point
    text_("before"),  # a meter's status; an account or tariff for a service point
    text_("after"),
    id_("other_meter_id", sa.ForeignKey("meter.id"), nullable=True),  # of a replacement: the other of the two
    int_("reading_tenths", nullable=True),  # the register when it was taken down or put up, tenths of a kWh
    int_("credit_tenths", nullable=True),  # credit left in a meter that was taken down, tenths of a kWh
    text_("claim", nullable=True),  # JSON: purchases whose tokens the old meter never took
    text_("reason"),
    sa.Index("ix_site_event_meter_id", "meter_id", "id"),
    sa.Index("ix_site_event_service_point_id", "service_point_id", "id"),
)
