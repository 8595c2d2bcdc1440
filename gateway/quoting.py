"""What a purchase would come to, told before it is made: by the code that sells, and then undone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from gateway import pins
from gateway.purchase import Event
from gateway.vend import PAYMENT, Done, Life, Shop, Vending, sold_message
from ledger.reasons import Reason, Refusal
from ledger.unit import Balance, Meter, Phone, PurchaseRow, Unit

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


# What is wrong with the money of whoever asks, and not with the sale.
_UNPAID: Final = frozenset({Reason.PAYER_UNKNOWN, Reason.FUNDS_SHORT, Reason.STATION_CREDIT_SPENT})


def price_of(shop: Shop, unit: Unit, row: PurchaseRow, meter: Meter, nth: int) -> dict[str, Any]:
    """`quoted` for somebody who only asks: also without anybody who pays, or with too little money; `by` is "" then.

    It is reckoned as if a wallet paid that holds just this amount; there is no `balance_minor`.
    """
    try:
        return quoted(shop, unit, replace(row), meter, nth)
    except Refusal as refusal:
        if refusal.reason not in _UNPAID:
            raise
    phones, balances, wallet = unit.phones, unit.balances, shop.world.new_id()
    phone = phones.get(row.sender) or Phone(row.sender)
    # In place of the unit's own: nothing of this counts as changed, so nothing of it can be written.
    unit.phones = {**phones, row.sender: replace(phone, wallet_id=wallet, station_account_id=None, station_id=None)}
    unit.balances = {**balances, wallet: Balance(row.amount_minor, 0, 0)}
    try:
        told = quoted(shop, unit, row, meter, nth)
    finally:
        unit.phones, unit.balances = phones, balances
    return {**{name: value for name, value in told.items() if name != "balance_minor"}, "by": ""}


def owner_of(unit: Unit, drn: str) -> tuple[str, str]:
    """Whose a meter is, by initials, and where it hangs; empty where the unit does not hold it."""
    name, area = unit.owners.get(drn, ("", ""))
    return initials(name), area[:_OWNER_AREA_MAX].rstrip()


def initials(name: str) -> str:
    """A name by its initials, "Amina Wanjiru" -> "A.W."; enough for who knows it, little for who does not."""
    return "".join(f"{part[0].upper()}." for part in name.split()[:4])
