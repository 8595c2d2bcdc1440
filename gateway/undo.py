"""Undoing a sale: its postings reversed, its service point as before it, its replies withdrawn (R16).

Functions of the batch they are handed; they never commit. Whether a sale may be undone is decided elsewhere
(`gateway/reversal.py`, `gateway/corrections.py`); that it is the last on its service point is asserted here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from gateway.sale import priced_from
from ledger import books
from ledger.batch import WITHDRAW_OUTBOX
from ledger.unit import Meter, OutboxRow, Point, PurchaseRow, Unit

WITHDRAWN: Final = "WITHDRAWN"


def undo_json(point: Point, meter: Meter) -> list[str]:
    """What undoing a sale needs besides the account before it: the sale before it, and when a key change was given."""
    given_at = meter.change_given_at
    return [point.last_sale.hex if point.last_sale else "", given_at.isoformat() if given_at else ""]


def brings_token(reply: OutboxRow) -> bool:
    """Whether this reply shows a token of its purchase."""
    return bool(json.loads(reply.fields).get("tokens"))


def undo_sale(
    unit: Unit, row: PurchaseRow, split: Mapping[str, Any], txn_id: UUID, kind: str, business_date: date, now: datetime
) -> None:
    """Restore money, counters, debts, free-unit claim, carry and commission to what they were before this sale.

    What others have changed since on the same service point without selling (a debt's balance, say) stays changed:
    money is put back by its difference. All of the purchase was read (`Need.undone`).
    """
    (before, _), point = priced_from(split["account"]), unit.points[row.service_point_id]
    assert point.last_sale == row.id and point.vending is None, "only the last sale of a service point can be undone"
    books.reverse(unit, txn_id, row.id, kind=kind, business_date=business_date, recorded_at=now, purchase_id=row.id)
    unit.put(
        "points",
        point.id,
        replace(
            point,
            counter_month=before.counter_month,
            month_units_tenths=before.month_units_tenths,
            fixed_through_month=before.fixed_through_month,
            fixed_through_date=before.fixed_through_date,
            fixed_shortfall_minor=before.fixed_shortfall_minor,
            carry_minor=point.carry_minor - split["carry_out_minor"] + split["carry_in_minor"],
            free_last_month=before.free_last_month,
            last_sale=UUID(split["undo"][0]) if split["undo"][0] else None,
        ),
    )
    taken: Mapping[str, int] = split["debts_minor"]
    debts = unit.debts.get(point.id, ())
    recovered = {debt.id: debt.recovered_this_month_minor for debt in before.debts}
    missing = set(taken) - {debt.code for debt in debts}
    assert not missing, f"debts that a sale has paid are gone: {sorted(missing)}"
    changed = tuple(
        replace(
            debt,
            outstanding_minor=debt.outstanding_minor + taken.get(debt.code, 0),
            recovered_this_month_minor=recovered[debt.code],
        )
        if debt.code in recovered
        else debt
        for debt in debts
    )
    if changed != debts:
        unit.put("debts", point.id, changed)
    for reply in unit.outbox.get(row.id, ()):
        if reply.state == "OWED":
            unit.update(WITHDRAW_OUTBOX, (reply.id, kind, now))


def take_back_key_change(unit: Unit, row: PurchaseRow, split: Mapping[str, Any]) -> None:
    """A key-change set that was never seen was never given: the next sale must not take the change for done."""
    given_at = datetime.fromisoformat(split["undo"][1]) if split["undo"][1] else None
    for token in unit.tokens.get(row.id, ()):
        for meter in [meter for meter in unit.meters.values() if meter.id == row.meter_id]:
            if token.new_key is not None and meter.next_key == token.new_key:
                unit.put("meters", meter.drn, replace(meter, change_given_at=given_at))
