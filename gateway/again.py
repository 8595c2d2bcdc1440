"""Whether a purchase is most likely the one before it, sent again. Reads the batch, no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from config.settings import Settings
from gateway.purchase import UNDONE, State
from gateway.sale import receipt_of
from ledger.reasons import Reason, Refusal
from ledger.unit import Meter, PurchaseRow, Unit

# What a meter's purchases of late are counted by: sold, or on their way to it.
_COUNTED: Final = frozenset({State.AWAITING, State.PAYING, State.VENDING, State.VENDED, State.DELIVERED})
# Of which the same once more is no second one.
_CAME_TO_NOTHING: Final = (
    frozenset({State.UNPAID, State.REFUSED, State.RETURNED, State.RETURNING, State.CANCELLING}) | UNDONE
)


def require(settings: Settings, unit: Unit, row: PurchaseRow, meter: Meter, nth: int) -> None:
    """Refuse JUST_BOUGHT or TOO_OFTEN; the meter's purchases of the window were read (`Need.since`)."""
    _refuse_second(settings, unit, row, meter, nth)
    _refuse_too_often(settings, unit, row)


def _refuse_second(settings: Settings, unit: Unit, row: PurchaseRow, meter: Meter, nth: int) -> None:
    """The same sender, meter and amount a moment ago is most likely the same wish sent twice."""
    since = row.accepted_at - timedelta(seconds=settings.purchase.just_bought_window_s)
    same = [
        bought
        for bought in unit.recent.get(row.meter_id, ())
        if bought.id != row.id
        # Of two that still wait, the later must not refuse the one it repeats. Ids of other nodes may lie anywhere.
        and (bought.state != State.RECEIVED or bought.id < row.id)
        and bought.sender == row.sender
        and bought.amount_minor == row.amount_minor
        and bought.accepted_at >= since
        and bought.state not in _CAME_TO_NOTHING
    ]
    if len(same) >= nth:
        last = same[-1]
        raise Refusal(
            Reason.JUST_BOUGHT,
            drn=meter.drn,
            amount_minor=row.amount_minor,
            seconds=max(0, int((row.accepted_at - last.accepted_at).total_seconds())),
            receipt=receipt_of(last.id),
            again=len(same) + 1,
        )


def _refuse_too_often(settings: Settings, unit: Unit, row: PurchaseRow) -> None:
    """A meter that is bought for again and again in the time for which the batch looks back anyway."""
    most = settings.customers.purchases_per_meter_max
    if not most or not row.sender or len(unit.recent.get(row.meter_id, ())) < most:
        return
    since = row.accepted_at - timedelta(seconds=settings.purchase.just_bought_window_s)
    sold = sum(
        bought.id != row.id and bought.accepted_at >= since and bought.state in _COUNTED
        for bought in unit.recent[row.meter_id]
    )
    if sold >= most:
        raise Refusal(Reason.TOO_OFTEN)
