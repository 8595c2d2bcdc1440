"""Money in the books: reserve, post, void, reverse. The only writer of transactions, postings and holds.

Functions of the batch they are handed (`ledger/unit.py`), and `record` of a SQL transaction; they never commit. What
was written is never edited or deleted: a mistake is reversed by a new transaction that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

import sqlalchemy as sa

from ledger import tables
from ledger.accounts import id_of
from ledger.batch import END_HOLD
from ledger.entries import Posting, balanced, reversed_of
from ledger.unit import Balance, Hold, Unit


class Overdrawn(Exception):
    """A limited account has too little; nothing was moved."""

    def __init__(self, account: UUID, available_minor: int) -> None:
        super().__init__("the account has too little")
        self.account = account
        self.available_minor = available_minor


class AccountClosed(Exception):
    """Money was to go into a limited account that is closed; nothing was moved."""

    def __init__(self, account: UUID) -> None:
        super().__init__("the account is closed")
        self.account = account


def open_limited(unit: Unit, code: str, currency: str) -> UUID:
    """Open an account that may not be overdrawn, which a batch meets for the first time; its id."""
    account, empty = id_of(code), Balance(0, 0, 0)
    unit.insert(tables.account, (account, code, code.partition(":")[0], currency))
    unit.insert(tables.limited_balance, (account, 0, 0, 0, None))
    # As if it had been read: what is posted to it in this batch is written as a change of it.
    unit.put("balances_read", account, empty)
    unit.put("balances", account, empty)
    return account


class AlreadyReversed(Exception):
    """The transaction has been reversed before; `by` is the one that did it."""

    def __init__(self, by: UUID) -> None:
        super().__init__(f"already reversed by {by}")
        self.by = by


def require(unit: Unit, account: UUID, amount_minor: int) -> None:
    """Raise Overdrawn unless this much could be taken from the limited account now."""
    available = unit.balances[account].available_minor
    if amount_minor > available:
        raise Overdrawn(account, available)


def post(
    unit: Unit,
    txn_id: UUID,
    kind: str,
    postings: Sequence[Posting],
    *,
    limited: Sequence[UUID],
    business_date: date,
    recorded_at: datetime,
    purchase_id: UUID | None = None,
    reverses: UUID | None = None,
) -> None:
    """Record one balanced transaction. `limited` names its accounts that have a floor; all of them were read.

    Raises Overdrawn and AccountClosed before anything is written.
    """
    legs = balanced(postings)
    for account in limited:
        change = sum(amount for of, amount in legs if of == account)
        require(unit, account, -change)
        if change > 0 and unit.balances[account].closed_at is not None:
            raise AccountClosed(account)
    unit.insert(tables.txn, (txn_id, kind, purchase_id, reverses, business_date, recorded_at))
    for leg, (account, amount) in enumerate(legs):
        unit.insert(tables.posting, (txn_id, leg, account, amount))
        if account in limited:
            unit.move(account, amount, 0)


def record(
    connection: sa.Connection,
    txn_id: UUID,
    kind: str,
    postings: Sequence[Posting],
    *,
    business_date: date,
    recorded_at: datetime,
) -> None:
    """Record one balanced transaction outside of a batch, with whatever else this SQL transaction does.

    Locks the balances of its limited accounts, so take the locks of meters and service points before. Raises Overdrawn
    and AccountClosed.
    """
    legs = balanced(postings)
    b = tables.limited_balance.c
    wanted = sa.select(b.account_id).where(b.account_id.in_({account for account, _ in legs}))
    limited = set(connection.execute(wanted).scalars())
    connection.execute(
        tables.txn.insert().values(
            id=txn_id, kind=kind, purchase_id=None, reverses=None, business_date=business_date, recorded_at=recorded_at
        )
    )
    connection.execute(
        tables.posting.insert(),
        [
            {"txn_id": txn_id, "leg": leg, "account_id": account, "amount_minor": amount}
            for leg, (account, amount) in enumerate(legs)
        ],
    )
    for account in sorted(limited):
        amount = sum(part for of, part in legs if of == account)
        change = tables.limited_balance.update().where(b.account_id == account)
        if amount < 0:
            change = change.where(b.posted_minor + amount - b.pending_minor >= b.floor_minor)
        else:
            change = change.where(b.closed_at.is_(None))
        if connection.execute(change.values(posted_minor=b.posted_minor + amount)).rowcount != 1:
            if amount >= 0:
                raise AccountClosed(account)
            available = b.posted_minor - b.pending_minor - b.floor_minor
            left = connection.execute(sa.select(available).where(b.account_id == account)).scalar_one()
            raise Overdrawn(account, int(left))


def reserve(unit: Unit, purchase_id: UUID, account: UUID, amount_minor: int, expires_at: datetime) -> None:
    """Hold money for a purchase until it is posted or voided, at the latest at `expires_at`. Raises Overdrawn."""
    require(unit, account, amount_minor)
    unit.move(account, 0, amount_minor)
    unit.put("holds", purchase_id, Hold(purchase_id, account, amount_minor, "PENDING", expires_at))
    unit.insert(tables.hold, (purchase_id, account, amount_minor, "PENDING", expires_at))


def release(unit: Unit, purchase_id: UUID, state: str) -> bool:
    """End a purchase's hold as POSTED (its transaction follows) or VOIDED; False if it has none that is pending."""
    assert state in ("POSTED", "VOIDED")
    hold = unit.holds.get(purchase_id)
    if hold is None or hold.state != "PENDING":
        return False
    unit.move(hold.account_id, 0, -hold.amount_minor)
    unit.put("holds", purchase_id, Hold(purchase_id, hold.account_id, hold.amount_minor, state, hold.expires_at))
    unit.update(END_HOLD, (purchase_id, state))
    return True


def reverse(
    unit: Unit,
    txn_id: UUID,
    original: UUID,
    *,
    kind: str,
    business_date: date,
    recorded_at: datetime,
    purchase_id: UUID | None = None,
) -> None:
    """Undo a transaction by a new one that names it. Its postings were read (`Need.transactions`).

    Raises AlreadyReversed, Overdrawn if a limited account no longer has what it was given, or AccountClosed.
    """
    by = unit.reversals.get(original)
    if by is not None:
        raise AlreadyReversed(by)
    postings = reversed_of(unit.postings[original])
    limited = [account for account, _ in postings if account in unit.balances]
    post(
        unit,
        txn_id,
        kind,
        postings,
        limited=limited,
        business_date=business_date,
        recorded_at=recorded_at,
        purchase_id=purchase_id,
        reverses=original,
    )
    unit.put("reversals", original, txn_id)
