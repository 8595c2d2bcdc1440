"""What a purchase would come to, told before it is made: by the code that sells, and then undone."""

from __future__ import annotations

from typing import Any

from gateway import pins
from gateway.purchase import Event
from gateway.vend import PAYMENT, Done, Life, Shop, Vending, sold_message
from ledger.reasons import Reason, Refusal
from ledger.unit import Meter, PurchaseRow, Unit

_OWNER_AREA_MAX = 20  # a screen is small, and so is a message


def quoted(
    shop: Shop, unit: Unit, row: PurchaseRow, meter: Meter, nth: int, by: str = "", *, is_paid: bool = False
) -> dict[str, Any]:
    """The values of the sale that `row` would become just now, of its money and units, without token or receipt.

    `nth` and `by` as in `channels.commands.Buy`; `is_paid`: outside money for it stands in the account of
    `row.payer_id`. The unit is left as it was. `owner` and `area` are there where the unit holds them; `by` is
    "wallet", "float" or "prompt": an outside source brings the money, and `balance_minor` is 0. Raises the Refusal that
    the sale would meet; BUSY while another purchase for this service point is under way.
    """
    life = Life(row, meter, nth=nth, by=by, split={PAYMENT: {"paid": True}} if is_paid else {})
    mark = unit.mark()
    try:
        event = Vending(shop, unit, Done(is_told_here=True), shop.world.now()).quote(life)
    finally:
        unit.rollback(mark)
    if event is None:
        raise Refusal(Reason.BUSY)
    if event not in (Event.QUOTED, Event.PAYMENT_NEEDED):
        raise life.refusal or Refusal(Reason.INTERNAL)
    row.receipt = None
    left = unit.balances[row.payer_id].available_minor - row.amount_minor if row.payer_id is not None else 0
    by = "wallet" if row.station_id is None else "float"
    told = sold_message(shop, row, meter.drn, life.split, life.tokens, left).values
    owner, area = owner_of(unit, meter.drn)
    return {
        **{name: value for name, value in told.items() if name not in ("tokens", "receipt")},
        "free_units_tenths": life.split["free_units_tenths"],
        "owner": owner,
        "area": area,
        "by": by if event is Event.QUOTED else "prompt",
        "needs_pin": event is Event.QUOTED and pins.is_needed(shop.settings.pins, unit, row),
    }


def owner_of(unit: Unit, drn: str) -> tuple[str, str]:
    """Whose a meter is, by initials, and where it hangs; empty where the unit does not hold it."""
    name, area = unit.owners.get(drn, ("", ""))
    return initials(name), area[:_OWNER_AREA_MAX].rstrip()


def initials(name: str) -> str:
    """A name by its initials, "Amina Wanjiru" -> "A.W."; enough for who knows it, little for who does not."""
    return "".join(f"{part[0].upper()}." for part in name.split()[:4])
