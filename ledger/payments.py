"""The money of outside sources in the books: where it is credited, what is held back, how that is resolved.

Functions of the batch they are handed (`ledger/unit.py`); they never commit. Money that came in goes from
`clearing:<source>` to the payer: to the wallet of the phone's customer, or to the phone's own `prepaid:<MSISDN>`, which
its first payment opens; what cannot be placed goes to `suspense:<source>`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from uuid import UUID

from ledger import books, entries
from ledger.payment_rows import OPEN, RESOLVED, Held, PaymentRow, Resolution, SuspenseRow
from ledger.payments_batch import prepaid_id
from ledger.unit import Unit


def account_of(unit: Unit, payer: str, currency: str) -> UUID:
    """The account of a payer's prepaid money: the wallet of the phone's customer, or its own, opened if need be.

    A wallet that is closed takes nothing more. The phone was read, and its own account asked for (`Need.phones`,
    `Need.accounts`).
    """
    phone = unit.phones.get(payer)
    if phone is not None and phone.wallet_id is not None and unit.balances[phone.wallet_id].closed_at is None:
        return phone.wallet_id
    account = prepaid_id(payer)
    return account if account in unit.balances else books.open_limited(unit, f"prepaid:{payer}", currency)


def move(
    unit: Unit,
    txn_id: UUID,
    kind: str,
    source: UUID,
    target: UUID,
    amount_minor: int,
    *,
    business_date: date,
    now: datetime,
    purchase_id: UUID | None = None,
) -> None:
    """Post an amount from one account to another. Raises `books.Overdrawn` where the first has a floor."""
    books.post(
        unit,
        txn_id,
        kind,
        entries.moved(source, target, amount_minor),
        limited=[account for account in (source, target) if account in unit.balances],
        business_date=business_date,
        recorded_at=now,
        purchase_id=purchase_id,
    )


def hold_back(
    unit: Unit, item_id: UUID, code: str, payment: PaymentRow, reason: Held, amount_minor: int, now: datetime
) -> SuspenseRow:
    """Note money of a payment as in suspense; the caller posts it. Negative where the source took back too much."""
    item = SuspenseRow(
        id=item_id,
        code=code,
        payment_id=payment.id,
        source=payment.source,
        payer=payment.payer,
        account_ref=payment.account_ref,
        amount_minor=amount_minor,
        currency=payment.currency,
        reason=reason.value,
        state=OPEN,
        opened_at=now,
    )
    unit.put("suspense", item_id, item)
    return item


def resolve(
    unit: Unit,
    item: SuspenseRow,
    resolution: Resolution,
    txn_id: UUID,
    by: str,
    now: datetime,
    purchase_id: UUID | None = None,
) -> None:
    """Note that an item has left suspense by this transaction, which the caller posts."""
    unit.put(
        "suspense",
        item.id,
        replace(
            item,
            state=RESOLVED,
            resolution=resolution.value,
            resolved_txn=txn_id,
            resolved_by=by,
            resolved_at=now,
            purchase_id=purchase_id,
        ),
    )
