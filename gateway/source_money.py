"""Money that outside sources brought: sold for, kept for its payer, or set aside. On one batch; never waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from channels.contract import Message, Reply
from gateway.purchase import State
from gateway.sale import receipt_of
from gateway.vend import PAYMENT, Done, Life, Shop, Vending, owe
from ledger import payments
from ledger.accounts import id_of
from ledger.payment_rows import OPEN, Held, PaymentRow, Resolution, SuspenseRow
from ledger.reasons import Reason, Refusal
from ledger.unit import Meter, PurchaseRow, Unit

REFUSED: Final = frozenset({State.REFUSED, State.RETURNED})

# Why a sale was refused, as the reason for which its money is set aside; anything else is REFUSED.
_HELD: Final = {
    Reason.METER_UNKNOWN: Held.METER_UNKNOWN,
    Reason.METER_INVALID: Held.METER_UNKNOWN,
    Reason.METER_BLOCKED: Held.METER_REFUSED,
    Reason.METER_REPLACED: Held.METER_REFUSED,
    Reason.METER_KEY_ENDED: Held.METER_REFUSED,
    Reason.KEY_CHANGE_FIRST: Held.METER_REFUSED,
    Reason.KEY_CHANGE_NEEDED: Held.METER_REFUSED,
    Reason.AMOUNT_MIN: Held.AMOUNT,
    Reason.AMOUNT_MAX: Held.AMOUNT,
    Reason.PRICE_CHANGED: Held.PRICE_CHANGED,
}


def held_for(reason: Reason | None) -> Held:
    """The reason for which money of a sale that was refused for this reason is set aside."""
    return _HELD.get(reason, Held.REFUSED) if reason is not None else Held.REFUSED


def clearing(source: str) -> UUID:
    """The account of money on its way from a source."""
    return id_of(f"clearing:{source}")


def suspense(source: str) -> UUID:
    """The account of a source's money that could not be placed."""
    return id_of(f"suspense:{source}")


def move(shop: Shop, unit: Unit, kind: str, source: UUID, target: UUID, amount_minor: int, now: datetime) -> UUID:
    """Post an amount from one account to another; the transaction's id. Raises `ledger.books.Overdrawn`."""
    txn_id = shop.world.new_id()
    day = shop.local(now).date()
    payments.move(unit, txn_id, kind, source, target, amount_minor, business_date=day, now=now)
    return txn_id


def tell(shop: Shop, unit: Unit, done: Done, now: datetime, about: UUID, payer: str, message: Message) -> None:
    """Owe a payer a message by SMS."""
    phone = unit.phones.get(payer)
    default = shop.settings.utility.default_language
    language = (phone.language or phone.customer_language or default) if phone else default
    reply = Reply(shop.world.new_id(), about, "sms", "", payer, "", language, message)
    owe(shop, unit, done, now, about, reply)


def set_aside(
    shop: Shop, unit: Unit, done: Done, payment: PaymentRow, source: UUID, reason: Held, now: datetime, *, told: bool
) -> SuspenseRow:
    """Move what a payment brought from an account into suspense, and tell the payer how to use it."""
    assert payment.paid_minor is not None
    move(shop, unit, "payment_held", source, suspense(payment.source), payment.paid_minor, now)
    item_id = shop.world.new_id()
    item = payments.hold_back(unit, item_id, receipt_of(item_id), payment, reason, payment.paid_minor, now)
    if told:
        values = shop.money(
            amount_minor=item.amount_minor,
            receipt=payment.receipt or "",
            code=item.code,
            days=days_of(shop, payment.source),
        )
        tell(shop, unit, done, now, payment.id, payment.payer, Message("payment_held", values))
    return item


def days_of(shop: Shop, source: str) -> int:
    """For how many days a payer may still say what money of this source is for; of one that is gone: none."""
    return next((one.suspense_days for one in shop.settings.payment if one.name == source), 0)


def usable(shop: Shop, unit: Unit, payer: str, now: datetime) -> SuspenseRow | None:
    """The oldest money in suspense that this payer may still use, if there is any."""
    for item in sorted(unit.suspense.values(), key=lambda item: item.opened_at):
        in_time = now - item.opened_at <= timedelta(days=days_of(shop, item.source))
        if item.payer == payer and item.state == OPEN and item.amount_minor > 0 and in_time:
            return item
    return None


def sell(
    shop: Shop,
    unit: Unit,
    done: Done,
    now: datetime,
    row: PurchaseRow,
    meter: Meter,
    account: UUID,
    payment_id: UUID,
    source: str,
) -> Refusal | None:
    """Make a purchase of money that stands in an account; the refusal if there is one, and then nothing was done.

    But for KEY_CHANGE_FIRST: then the refused purchase stays, for it brings the tokens that the meter needs first.
    """
    mark, mine = unit.mark(), Done()
    paid = {"id": str(payment_id), "source": source, "paid": True}
    life = Life(row, meter, split={PAYMENT: paid})
    row.payer_id, row.accepted_at = account, now
    row.expires_at = now + timedelta(seconds=shop.settings.purchase.paid_patience_s)
    vending = Vending(shop, unit, mine, now)
    vending.tells_kept = False
    vending.walk(life)
    refused = life.refusal or Refusal(Reason.INTERNAL) if mine.state in REFUSED else None
    if refused is not None and refused.reason is not Reason.KEY_CHANGE_FIRST:
        unit.rollback(mark)
        done.reason = refused.reason
        return refused
    add(done, mine)
    return refused


def add(done: Done, more: Done) -> None:
    """What one more step of the same deed has left to be done."""
    done.replies.extend(more.replies)
    done.ask.extend(more.ask)
    done.collects.extend(more.collects)
    done.wait_for.update(more.wait_for)
    done.freed = more.freed or done.freed
    done.state, done.purchase_id, done.reason = more.state, more.purchase_id, more.reason


def use(shop: Shop, unit: Unit, done: Done, now: datetime, item: SuspenseRow, row: PurchaseRow, meter: Meter) -> None:
    """Sell for money in suspense to its payer, who has named another meter. Raises the refusal of the sale, if any."""
    mark = unit.mark()
    account = payments.account_of(unit, item.payer, item.currency)
    txn_id = move(shop, unit, "payment_placed", suspense(item.source), account, item.amount_minor, now)
    refused = sell(shop, unit, done, now, row, meter, account, item.payment_id, item.source)
    if refused is None:
        payments.resolve(unit, item, Resolution.VENDED, txn_id, item.payer, now, row.id)
    elif refused.reason is Reason.KEY_CHANGE_FIRST:  # the tokens are on their way; the money waits for the next try
        move(shop, unit, "payment_held", account, suspense(item.source), item.amount_minor, now)
    else:
        unit.rollback(mark)
        raise refused


def placed(payment: PaymentRow, account: UUID, paid_minor: int, receipt: str | None, now: datetime) -> PaymentRow:
    """The payment once its money is booked."""
    return replace(
        payment,
        state="PAID",
        why=None,
        receipt=receipt or payment.receipt,
        paid_minor=paid_minor,
        account_id=account,
        paid_at=now,
        closed_at=now,
        lane=None,
        next_ask_at=None,
    )
