"""Settlement in the books: what people see of it and decide, and what is booked of it.

Functions of the SQL transaction they are handed; they never commit. What a line is, `ledger/statementmatch.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, books, entries, sets
from ledger.audit import Origin
from ledger.matching import Class
from ledger.operators import Operator, Role, require_role
from ledger.payment_tables import payment
from ledger.records import ensure_accounts
from ledger.settlement_tables import settlement_batch, settlement_item, settlement_mark, statement_line
from ledger.statementlines import NEW
from ledger.statementmatch import EVER, FEE, PAYOUT
from ledger.stations import AMOUNT_MAX_MINOR, require_two

ACCEPTED: Final = "ACCEPTED"
WRITTEN_OFF: Final = "WRITTEN_OFF"
BOOKED: Final = "BOOKED"


class SettlementFault(StrEnum):
    """Why something about settlement is refused; the value is stable and may be stored."""

    # fmt: off
    UNKNOWN = "unknown"    # no such item, payout or batch
    FORM    = "form"       # a value of another form
    STATE   = "state"      # resolved already, or nothing that this can resolve
    DIFFERS = "differs"    # the same payout reference, other money
    # fmt: on


class SettlementRefused(Exception):
    """The rules about settlement say no. `fault` is the name, the text is for people."""

    def __init__(self, fault: SettlementFault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault: Final = fault


# --- what people see and decide ---------------------------------------------------------------------------------------


_l, _i, _p = statement_line.c, settlement_item.c, payment.c


@dataclass(frozen=True, slots=True)
class Item:
    """An item as people see it. `receipt` is the line's, or the payment's where no line names it."""

    id: UUID
    source: str
    day: str
    class_: str
    found: str | None
    kind: str
    receipt: str
    payer: str
    ours_minor: int | None
    theirs_minor: int | None
    fee_minor: int
    detail: str
    resolution: str | None
    reason: str | None

    @property
    def difference_minor(self) -> int:
        """What the provider has more than our books say; a line that repeats another is more by all of it."""
        return (self.theirs_minor or 0) - (self.ours_minor or 0)


def listed(
    connection: sa.Connection,
    *,
    source: str | None = None,
    class_: str | None = None,
    day: str | None = None,
    item_id: UUID | None = None,
    everything: bool = False,
    after: UUID | None = None,
    limit: int = 1000,
) -> list[Item]:
    """Items that are open, or all of them, in the order they came; a page after the item `after`."""
    wanted = (
        sa.select(
            settlement_item, _l.kind, _l.receipt.label("there"), _l.payer.label("who"), _p.receipt.label("here"),
            _p.payer.label("payer"),
        )
        .select_from(
            settlement_item.join(statement_line, _l.id == _i.line_id, isouter=True).join(
                payment, _p.id == _i.payment_id, isouter=True
            )
        )
        .order_by(_i.id)
        .limit(limit)
    )  # fmt: skip
    for column, value in ((_i.source, source), (_i["class"], class_), (_i.day, day), (_i.id, item_id)):
        if value is not None:
            wanted = wanted.where(column == value)
    if not everything and item_id is None:
        wanted = wanted.where(_i["class"].not_in((Class.MATCHED.value, FEE)), _i.resolution.is_(None))
    if after is not None:
        wanted = wanted.where(_i.id > after)
    return [
        Item(
            row["id"], row["source"], row["day"], row["class"], row["found"], row["kind"] or "",
            row["there"] or row["here"] or "", row["who"] or row["payer"] or "", row["ours_minor"],
            row["theirs_minor"], row["fee_minor"], row["detail"], row["resolution"], row["reason"],
        )
        for row in connection.execute(wanted).mappings()
    ]  # fmt: skip


def resolve(
    connection: sa.Connection,
    item_id: UUID,
    how: str,
    txn_id: UUID,
    business_date: date,
    currency: str,
    *,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> Item:
    """Close an item with a reason: ACCEPTED posts nothing, WRITTEN_OFF puts clearing right at the utility's cost.

    By FINANCE; where the two sides' money differs, with a second person. Refuses UNKNOWN, STATE, FORM without a reason.
    """
    assert how in (ACCEPTED, WRITTEN_OFF)
    require_role(by, Role.FINANCE)
    connection.execute(sa.select(_i.id).where(_i.id == item_id).with_for_update()).all()
    found = listed(connection, item_id=item_id)
    if not found:
        raise SettlementRefused(SettlementFault.UNKNOWN, f"there is no item {item_id}")
    item = found[0]
    if item.resolution is not None or item.class_ in (NEW, Class.MATCHED, FEE, PAYOUT):
        state = item.resolution or item.class_
        raise SettlementRefused(SettlementFault.STATE, f"item {item_id} is {state}: there is nothing to decide")
    if not origin.reason.strip():
        raise SettlementRefused(SettlementFault.FORM, "a reason is needed")
    second = require_two(by, beside, "money that differs") if item.difference_minor else None
    posted = how == WRITTEN_OFF and item.difference_minor != 0
    if how == WRITTEN_OFF and not posted:
        raise SettlementRefused(SettlementFault.STATE, f"item {item_id}: the money does not differ, accept it")
    if posted:
        accounts = (f"clearing:{item.source}", f"expense:settlement:{item.source}")
        ensure_accounts(connection, accounts, currency)
        legs = entries.settlement_difference(item.source, item.difference_minor)
        books.record(
            connection, txn_id, "settlement.difference", legs, business_date=business_date, recorded_at=origin.at
        )
    connection.execute(
        sa.update(settlement_item)
        .where(_i.id == item_id)
        .values(
            resolution=how,
            resolved_by=by.login,
            beside=second.login if second else None,
            reason=origin.reason.strip()[:500],
            resolved_at=origin.at,
            txn_id=txn_id if posted else None,
        )
    )
    before = {"class": item.class_, "ours_minor": item.ours_minor, "theirs_minor": item.theirs_minor}
    after = {"resolution": how, "beside": second.login if second else None}
    audit.note(connection, origin, "settlement.resolved", f"settlement {item.source} {item.receipt}", before, after)
    return listed(connection, item_id=item_id)[0]


# --- the journal ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Payout:
    """What a provider paid to a bank account of ours, under its reference; fees are booked through this day."""

    source: str
    ref: str
    bank: str
    paid_minor: int
    paid_on: date
    through: date


@dataclass(frozen=True, slots=True)
class Batch:
    """A settlement as booked."""

    id: UUID
    code: str
    source: str
    payout_ref: str
    bank: str
    paid_on: date
    paid_minor: int
    fee_minor: int
    through: str
    booked_by: str
    beside: str | None
    txn_id: UUID


def book(
    connection: sa.Connection,
    new: tuple[UUID, str, UUID],
    payout: Payout,
    currency: str,
    business_date: date,
    *,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> tuple[Batch, bool]:
    """Book a payout and the fees that are not booked yet: debit bank and fees, credit clearing. And whether it is new.

    `new`: id and code of the batch, id of its transaction. By FINANCE; with a second person, unless the provider's own
    statement has the payout. The same reference again is the same batch; with other money it is refused (DIFFERS).
    """
    require_role(by, Role.FINANCE)
    ref = "".join(payout.ref.split())
    if not 1 <= len(ref) <= 60 or not ref.isprintable():
        raise SettlementRefused(SettlementFault.FORM, "payout reference: 1 to 60 printable characters expected")
    if not 0 < payout.paid_minor <= AMOUNT_MAX_MINOR:
        raise SettlementRefused(SettlementFault.FORM, "amount: more than nothing expected")
    accounts = (f"bank:{payout.bank}", f"expense:fees:{payout.source}", f"clearing:{payout.source}")
    ensure_accounts(connection, accounts, currency)
    # Two at once wait for each other here, and the second finds the first's batch.
    mark = settlement_mark.c
    sets.insert(connection, settlement_mark, [{"source": payout.source, "paid_until": EVER}], missing=True)
    connection.execute(sa.select(mark.source).where(mark.source == payout.source).with_for_update()).all()
    if (there := find_batch(connection, payout.source, ref)) is not None:
        if (there.paid_minor, there.paid_on, there.bank) != (payout.paid_minor, payout.paid_on, payout.bank):
            raise SettlementRefused(
                SettlementFault.DIFFERS,
                f"payout {ref} of {payout.source} is booked already, and otherwise: {there.code}",
            )
        return there, False
    line = _payout_line(connection, payout.source, ref)
    if line is not None and -line.amount_minor != payout.paid_minor:
        raise SettlementRefused(SettlementFault.DIFFERS, f"the statement has payout {ref} with another amount")
    second = None if line is not None else require_two(by, beside, "a payout that no statement has")
    return _booked(connection, new, payout, ref, line, by, second, business_date, origin), True


def _booked(
    connection: sa.Connection,
    new: tuple[UUID, str, UUID],
    payout: Payout,
    ref: str,
    line: Any,
    by: Operator,
    second: Operator | None,
    business_date: date,
    origin: Origin,
) -> Batch:
    batch_id, code, txn_id = new
    open_fees = sa.and_(
        _i.source == payout.source, _i.batch_id.is_(None), _i.fee_minor != 0, _i.day <= payout.through.isoformat()
    )
    # The lines whose fees it has are fixed before they are added up.
    taken = connection.execute(sa.select(_i.id, _i.fee_minor).where(open_fees).with_for_update()).all()
    fee_minor = sum(row.fee_minor for row in taken)
    legs = entries.settled(payout.source, payout.bank, payout.paid_minor, fee_minor)
    books.record(connection, txn_id, "settlement", legs, business_date=business_date, recorded_at=origin.at)
    row = {
        "id": batch_id,
        "code": code,
        "source": payout.source,
        "payout_ref": ref,
        "bank": payout.bank,
        "paid_on": payout.paid_on,
        "paid_minor": payout.paid_minor,
        "fee_minor": fee_minor,
        "through": payout.through.isoformat(),
        "line_id": line.id if line is not None else None,
        "booked_by": by.login,
        "beside": second.login if second else None,
        "booked_at": origin.at,
        "txn_id": txn_id,
    }
    connection.execute(sa.insert(settlement_batch), row)
    sets.update(connection, settlement_item, "id", [{"id": one.id, "batch_id": batch_id} for one in taken])
    if line is not None:
        connection.execute(
            sa.update(settlement_item)
            .where(_i.line_id == line.id)
            .values(batch_id=batch_id, resolution=BOOKED, resolved_by=by.login, resolved_at=origin.at)
        )
    kept = ("payout_ref", "bank", "paid_on", "paid_minor", "fee_minor", "through", "beside")
    after = {name: value.isoformat() if isinstance(value, date) else value for name in kept if (value := row[name])}
    audit.note(connection, origin, "settlement.booked", f"settlement {code}", None, after)
    found = find_batch(connection, payout.source, ref)
    assert found is not None, "it was stored just now"
    return found


def _payout_line(connection: sa.Connection, source: str, ref: str) -> Any:
    wanted = sa.select(_l.id, _l.amount_minor, _l.day).where(
        _l.source == source, _l.receipt == ref, _l.kind == "PAYOUT"
    )
    rows = connection.execute(wanted.limit(2)).all()
    if len(rows) > 1:
        raise SettlementRefused(SettlementFault.DIFFERS, f"the statement has several payouts {ref}")
    return rows[0] if rows else None


def payout_on_statement(connection: sa.Connection, source: str, ref: str) -> tuple[int, str] | None:
    """Amount and day of a payout that a statement has."""
    line = _payout_line(connection, source, ref)
    return None if line is None else (-line.amount_minor, line.day)


def find_batch(connection: sa.Connection, source: str, ref: str) -> Batch | None:
    """The batch of a payout reference."""
    found = batches(connection, source, ref)
    return found[0] if found else None


def batches(connection: sa.Connection, source: str | None = None, ref: str | None = None) -> list[Batch]:
    """The last hundred batches, oldest first."""
    b = settlement_batch.c
    wanted = sa.select(*(b[name] for name in Batch.__slots__)).order_by(b.booked_at.desc()).limit(100)
    for column, value in ((b.source, source), (b.payout_ref, ref)):
        if value is not None:
            wanted = wanted.where(column == value)
    return [Batch(*row) for row in connection.execute(wanted)][::-1]
