"""Vouchers in a batch: the one that is redeemed, and the wrong tries of a phone. Nothing is read without one.

No I/O here: generators that yield questions and writes, as those of `ledger/batch.py`, which drives them. Vouchers are
locked before everything else, for the purchase that a used one paid is read after it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from ledger import tables, voucher_tables
from ledger.sql import Insert, Read, Row, Update
from ledger.unit import Need, Unit, VoucherRow, VoucherTries

_VOUCHER = "digest id value_minor expires_on state used_by used_at request_id txn_id"

READ_VOUCHERS = Read(
    {"v": voucher_tables.voucher},
    " ".join(f"v.{name}" for name in _VOUCHER.split()),
    "FROM voucher v WHERE v.digest {in0:text} ORDER BY v.id {lock:v}",
)
READ_TRIES = Read(
    {"t": voucher_tables.voucher_try},
    "t.msisdn t.day t.tries",
    "FROM voucher_try t WHERE t.msisdn {in0:text} AND t.day {in1:text} ORDER BY t.msisdn, t.day {lock:t}",
)
INSERT_TRIES = Insert(voucher_tables.voucher_try)
UPDATE_TRIES = Update(voucher_tables.voucher_try, "msisdn day", "tries", "tries = {tries}")
USE_VOUCHER = Update(
    voucher_tables.voucher,
    "id",
    "used_by used_at request_id txn_id",
    "state = 'USED', used_by = {used_by}, used_at = {used_at}, request_id = {request_id}, txn_id = {txn_id}",
    "voucher.state = 'SOLD'",
)
GIVE_WALLET = Update(tables.phone, "msisdn", "customer_id", "customer_id = {customer_id}", "phone.customer_id IS NULL")


def fill(unit: Unit, need: Need) -> Generator[tuple[Read, Sequence[Sequence[Any]]], list[Row], None]:
    """Read the vouchers of a batch, before anything else; the purchases that used ones paid are asked for too."""
    if need.vouchers:
        for row in (yield READ_VOUCHERS, [list(dict.fromkeys(need.vouchers))]):
            found = unit.vouchers[row[0]] = VoucherRow(*row)
            if found.request_id is not None:
                need.purchases.append(found.request_id)
    if need.voucher_tries:
        phones, days = (list(dict.fromkeys(part)) for part in zip(*need.voucher_tries, strict=True))
        for msisdn, day, tries in (yield READ_TRIES, [phones, days]):
            unit.voucher_tries[msisdn, day] = VoucherTries(msisdn, day, tries)
        unit.voucher_tries_read = frozenset(unit.voucher_tries)


def writes(unit: Unit) -> Iterator[tuple[Insert | Update, list[Row]]]:
    """What the vouchers of a batch owe the database, but for the new wallets, which come first of all."""
    # One that was given back in this batch stands among the changed, as it was.
    if used := sorted((one for one in unit.changed("vouchers") if one.state == "USED"), key=lambda one: one.id):
        yield USE_VOUCHER, [(one.id, one.used_by, one.used_at, one.request_id, one.txn_id) for one in used]
    tries = sorted(unit.changed("voucher_tries"), key=lambda one: (one.msisdn, one.day))
    rows = [(one.msisdn, one.day, one.tries) for one in tries]
    if new := [row for row in rows if row[:2] not in unit.voucher_tries_read]:
        yield INSERT_TRIES, new
    if old := [row for row in rows if row[:2] in unit.voucher_tries_read]:
        yield UPDATE_TRIES, old
