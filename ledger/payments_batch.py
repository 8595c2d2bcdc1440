"""Payments of outside sources in a batch: what is read of them and what is written.

No I/O here: generators that yield questions and writes, as those of `ledger/batch.py`, which drives them; nothing is
read where no deed asks for it. Payments are locked before meters, by id, and the items in suspense after them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from ledger import payment_tables
from ledger.accounts import id_of
from ledger.payment_rows import PaymentRow, SuspenseRow
from ledger.sql import Insert, Read, Row, Update
from ledger.unit import Need, Unit

_PAYMENT: Final = " ".join(f"y.{name}" for name in PaymentRow.__slots__)
_ITEM: Final = " ".join(f"i.{name}" for name in SuspenseRow.__slots__)
_READ = {"y": payment_tables.payment}

READ_PAYMENTS = Read(
    _READ,
    _PAYMENT,
    "FROM payment y WHERE y.id IN (SELECT a.id FROM payment a WHERE a.id {in0:uuid} "
    "UNION ALL SELECT b.id FROM payment b WHERE b.source {in1:text} AND b.provider_ref {in2:text} "
    "UNION ALL SELECT c.id FROM payment c WHERE c.source {in1:text} AND c.receipt {in3:text}) ORDER BY y.id {lock:y}",
)
READ_TOP_UPS = Read(
    _READ,
    _PAYMENT,
    "FROM payment y WHERE y.payer {in0:text} AND y.id > {one1:uuid} AND y.purpose = 'TOPUP' ORDER BY y.id",
)
READ_ITEMS = Read(
    {"i": payment_tables.suspense},
    _ITEM,
    "FROM suspense i WHERE i.id IN (SELECT a.id FROM suspense a WHERE a.payment_id {in0:uuid} "
    "UNION ALL SELECT b.id FROM suspense b WHERE b.payer {in1:text} AND b.state = 'OPEN' "
    "UNION ALL SELECT c.id FROM suspense c WHERE c.id {in2:uuid}) ORDER BY i.id {lock:i}",
)
INSERT_PAYMENT = Insert(payment_tables.payment)
INSERT_ITEM = Insert(payment_tables.suspense)
_SET_PAYMENT: Final = (
    "state why provider_ref receipt payer account_ref paid_minor account_id paid_at closed_at tries lane next_ask_at"
)
UPDATE_PAYMENT = Update(
    payment_tables.payment, "id", _SET_PAYMENT, ", ".join(f"{name} = {{{name}}}" for name in _SET_PAYMENT.split())
)
_SET_ITEM: Final = "state purchase_id resolution resolved_txn resolved_by resolved_at"
UPDATE_ITEM = Update(
    payment_tables.suspense, "id", _SET_ITEM, ", ".join(f"{name} = {{{name}}}" for name in _SET_ITEM.split())
)

_payment_values = attrgetter(*PaymentRow.__slots__)
_payment_changes = attrgetter("id", *_SET_PAYMENT.split())
_item_values = attrgetter(*(column.name for column in payment_tables.suspense.columns))
_item_changes = attrgetter("id", *_SET_ITEM.split())


def _unique(keys: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(keys))


def fill(unit: Unit, need: Need) -> Generator[tuple[Read, Sequence[Sequence[Any]]], list[Row], None]:
    """Read the payments that a batch asks for, before anything else is locked; what hangs on them is needed then."""
    if need.payments or need.provider_refs or need.receipts:
        pairs = [*need.provider_refs, *need.receipts]
        keys = [
            _unique(need.payments),
            _unique([source for source, _ in pairs]),
            _unique([ref for _, ref in need.provider_refs]),
            _unique([receipt for _, receipt in need.receipts]),
        ]
        unit.payments = {row[0]: PaymentRow(*row) for row in (yield READ_PAYMENTS, keys)}
        unit.payments_read = frozenset(unit.payments)
        for payment in unit.payments.values():
            if payment.purchase_id is not None:
                need.purchases.append(payment.purchase_id)
            if payment.account_id is not None:
                need.accounts.append(payment.account_id)
            need.phones.append(payment.payer)
            need.accounts.append(prepaid_id(payment.payer))
    if need.top_ups_of and need.top_ups_since is not None:
        asked: dict[str, list[PaymentRow]] = {}
        for row in (yield READ_TOP_UPS, [_unique(need.top_ups_of), [need.top_ups_since]]):
            payment = PaymentRow(*row)
            asked.setdefault(payment.payer, []).append(payment)
        unit.top_ups = {payer: tuple(several) for payer, several in asked.items()}
    paid = [payment.id for payment in unit.payments.values() if payment.paid_at is not None]
    if paid or need.suspense_of or need.suspense:
        keys = [paid, _unique(need.suspense_of), _unique(need.suspense)]
        unit.suspense = {row[0]: SuspenseRow(*row) for row in (yield READ_ITEMS, keys)}
        unit.suspense_read = frozenset(unit.suspense)


def writes(unit: Unit) -> Iterator[tuple[Insert | Update, list[Row]]]:
    """What the payments of a batch owe the database."""
    payments = sorted(unit.changed("payments"), key=attrgetter("id"))
    if new := [payment for payment in payments if payment.id not in unit.payments_read]:
        yield INSERT_PAYMENT, [_payment_values(payment) for payment in new]
    if old := [payment for payment in payments if payment.id in unit.payments_read]:
        yield UPDATE_PAYMENT, [_payment_changes(payment) for payment in old]
    items = sorted(unit.changed("suspense"), key=attrgetter("id"))
    if fresh := [item for item in items if item.id not in unit.suspense_read]:
        yield INSERT_ITEM, [_item_values(item) for item in fresh]
    if known := [item for item in items if item.id in unit.suspense_read]:
        yield UPDATE_ITEM, [_item_changes(item) for item in known]


def prepaid_id(payer: str) -> UUID:
    """The account of a phone that has no customer's wallet."""
    return id_of(f"prepaid:{payer}")
