"""The SQL tables of bulk records: meter readings, and service points that no tariff is known for yet."""

from __future__ import annotations

import sqlalchemy as sa

from ledger.columns import at_, id_, int_, table, text_

reading = table(
    "reading",
    id_("meter_id", sa.ForeignKey("meter.id"), primary_key=True),
    text_("register", primary_key=True),
    at_("read_at", primary_key=True),
    int_("value_tenths"),  # what the register showed, in tenths of a kWh
    text_("source"),  # HANDHELD, DRIVE_BY, SMART, CUSTOMER
    text_("reader"),  # who or what read it
    text_("remark"),
    at_("recorded_at"),
    sa.CheckConstraint("value_tenths >= 0", name="value"),
    slim=True,
)

# A customer's line names the service point, the meter's line names its tariff; a service point that sells has both.
planned_point = table(
    "planned_point",
    text_("code", primary_key=True),
    id_("customer_id", sa.ForeignKey("customer.id"), nullable=False),
    text_("area"),
    int_("free_kwh_per_month", nullable=True),
    sa.Index("ix_planned_point_customer_id", "customer_id"),
)
