"""Matching of statements: what each line is, which payments are missing there.

Functions of the SQL transaction they are handed; they never commit. A run is made of pages, each found again by what
is not matched yet, so a run that breaks off goes on, and one that is repeated changes nothing. Which line goes with
which payment depends on all lines and payments of a receipt, not on the order of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ledger import sets
from ledger.deposits import BANK_SOURCE, CASH
from ledger.matching import Class, Ours, Theirs, match
from ledger.money import half_up
from ledger.payment_tables import payment, payment_event, source_refund, suspense
from ledger.settlement_tables import settlement_item, settlement_mark, statement_line
from ledger.statementlines import NEW
from ledger.stations_tables import deposit

PAGE: Final = 500
"""Lines in a transaction."""
FEE: Final = "FEE"
PAYOUT: Final = "PAYOUT"
CLASSES: Final = (NEW, *Class, FEE, PAYOUT)
FOUND: Final = "FOUND"
"""The end of an item MISSING_THERE whose payment stands on a later statement."""
EVER: Final = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Fees:
    """What a source should take of a payment: a percentage, half up, and a fixed sum in minor units."""

    percent: Decimal
    fixed_minor: int

    def of(self, amount_minor: int) -> int:
        return half_up(Fraction(amount_minor) * Fraction(self.percent) / 100) + self.fixed_minor


@dataclass(frozen=True, slots=True)
class Missing:
    """A line that our books do not know: the money is there, and is to be taken into the payments.

    `said`: SUCCESS of a payment that came in, REVERSED of one that was taken back; `receipt` is the payment's.
    """

    item_id: UUID
    said: str
    receipt: str
    our_ref: str
    payer: str
    account_ref: str
    amount_minor: int
    currency: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """What became of a page of lines: how many came into each class, and what is missing in our books."""

    count: int
    classes: Mapping[str, int]
    missing: tuple[Missing, ...]


_l, _i, _p = statement_line.c, settlement_item.c, payment.c


def match_page(connection: sa.Connection, source: str, *, fees: Fees | None, now: datetime, limit: int = PAGE) -> Page:
    """Match the next lines of a source that are not matched yet. A page of none says that there are none."""
    fresh = (
        sa.select(_i.line_id)
        .where(_i.source == source, _i["class"] == NEW, _i.resolution.is_(None))
        .order_by(_i.day, _i.id)
        .limit(limit)
        .with_for_update()
    )
    return _match(connection, source, connection.execute(fresh).scalars().all(), fees, now)


def match_again(
    connection: sa.Connection, source: str, items: Sequence[UUID], *, fees: Fees | None, now: datetime
) -> Page:
    """Match these items anew, after something was taken into the payments for them."""
    lines = sets.by_key(connection, sa.select(_i.line_id).where(_i.line_id.is_not(None)), _i.id, items)
    return _match(connection, source, [row.line_id for row in lines], fees, now)


def still_missing(connection: sa.Connection, source: str, after: UUID | None, limit: int = PAGE) -> list[UUID]:
    """The next items that a run before this one left as missing here: something may have come of them since."""
    wanted = (
        sa.select(_i.id)
        .where(_i.source == source, _i["class"] == Class.MISSING_HERE, _i.resolution.is_(None))
        .order_by(_i.id)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(_i.id > after)
    return list(connection.execute(wanted).scalars())


_SAID: Final = (
    _l.id.label("line_id"), _l.kind, _l.receipt, _l.linked, _l.our_ref, _l.payer, _l.account_ref, _l.occurred_at,
    _l.amount_minor, _l.fee_minor, _l.currency,
)  # fmt: skip


def _missing(item_id: UUID, line: Any) -> Missing | None:
    """A line as what the payments would be told of it; None for one that tells them nothing."""
    if line.kind == "PAYMENT" and line.receipt:
        said, receipt = "SUCCESS", line.receipt
    elif line.kind == "REVERSAL" and line.linked:
        said, receipt = "REVERSED", line.linked
    else:
        return None
    return Missing(
        item_id, said, receipt, line.our_ref, line.payer, line.account_ref, abs(line.amount_minor), line.currency,
        line.occurred_at,
    )  # fmt: skip


def _match(connection: sa.Connection, source: str, line_ids: Sequence[UUID], fees: Fees | None, now: datetime) -> Page:
    """Match these lines, and with them all others that are about the same payments."""
    page = _lines(connection, source, _l.id, line_ids)
    receipts = {name for one in page.values() for name in (one.receipt, one.linked) if name}
    # What one line is depends on all that name the same payment: they are looked at together, in whatever file.
    for column in (_l.receipt, _l.linked):
        page |= _lines(connection, source, column, receipts)
    found = _payments(connection, source, receipts, [_uuid(one.our_ref) for one in page.values()])
    known = sets.by_key(
        connection, sa.select(_i.line_id).where(_i.line_id.is_not(None)), _i.payment_id, [one.id for one in found]
    )
    page |= _lines(connection, source, _l.id, [row.line_id for row in known])
    items = {
        row.line_id: row
        for row in sets.by_key(
            connection, sa.select(settlement_item).with_for_update().order_by(_i.id), _i.line_id, page
        )
    }
    decided = _decide(connection, source, page, found, fees)
    wanted = set(line_ids)
    rows, missing, classes = [], [], dict[str, int]()
    for line_id, (class_, payment_id, ours_minor) in decided.items():
        item = items[line_id]
        if item.resolution is None and _changes(item, class_, payment_id, ours_minor):
            rows.append(
                {
                    "id": item.id,
                    "class": class_,
                    "found": item.found or class_,
                    "payment_id": payment_id,
                    "ours_minor": ours_minor,
                    "changed_at": now,
                }
            )
        # A line of another page that is about the same payment is matched with this one, and counts with it.
        if line_id in wanted or item._mapping["class"] == NEW:
            classes[class_] = classes.get(class_, 0) + 1
            is_unknown = class_ == Class.MISSING_HERE and payment_id is None
            told = _missing(item.id, page[line_id]) if is_unknown else None
            if told is not None and item.resolution is None:
                missing.append(told)
    sets.update(connection, settlement_item, "id", rows)
    named = [
        payment_id
        for line_id, (_, payment_id, ours_minor) in decided.items()
        if page[line_id].kind == "PAYMENT" and payment_id is not None and ours_minor is not None
    ]
    _close_missing_there(connection, named, now)
    return Page(len(wanted), classes, tuple(missing))


def _changes(item: Any, class_: str, payment_id: UUID | None, ours_minor: int | None) -> bool:
    return (item._mapping["class"], item.payment_id, item.ours_minor) != (class_, payment_id, ours_minor)


def _lines(connection: sa.Connection, source: str, column: Any, keys: Iterable[Any]) -> dict[UUID, Any]:
    rows = sets.by_key(connection, sa.select(*_SAID).where(_l.source == source), column, keys)
    return {row.line_id: row for row in rows}


def _payments(connection: sa.Connection, source: str, receipts: Iterable[str], ids: Iterable[UUID | None]) -> list[Any]:
    columns = sa.select(_p.id, _p.receipt, _p.state, _p.amount_minor, _p.paid_minor, _p.currency)
    own = columns.where(_p.source == source)
    rows = sets.by_key(connection, own, _p.receipt, receipts)
    rows += sets.by_key(connection, own, _p.id, [one for one in ids if one is not None])
    return list({row.id: row for row in rows}.values())


def _decide(
    connection: sa.Connection, source: str, page: Mapping[UUID, Any], found: Sequence[Any], fees: Fees | None
) -> dict[UUID, tuple[str, UUID | None, int | None]]:
    """Class, payment and our amount of each line of the page."""
    kinds: dict[str, list[Any]] = {}
    for one in page.values():
        kinds.setdefault(one.kind, []).append(one)
    extra: dict[str, int] = {}
    for one in kinds.get("FEE", ()):
        name = one.linked or one.receipt
        extra[name] = extra.get(name, 0) + one.fee_minor
    paid = {one.id: one for one in found if one.paid_minor is not None}
    ours = [
        Ours(one.id, (one.receipt or "", str(one.id)), one.paid_minor, one.currency,
             None if fees is None else fees.of(one.paid_minor))
        for one in paid.values()
    ]  # fmt: skip
    slips = _deposits(connection, source, kinds.get("PAYMENT", ()))
    booked = {row.id: row for row in slips if row.state == "APPROVED"}
    currency = next((one.currency for one in page.values()), "")
    ours += [Ours(row.id, ("", "", row.slip), row.amount_minor, currency) for row in booked.values()]
    names = {row.slip: row.id for row in slips}
    amounts = {one.key: one.amount_minor for one in ours}
    first: set[str] = set()
    theirs = []
    for one in _likeliest_first(kinds.get("PAYMENT", ()), paid.values()):
        # A fee in a row of its own is that of the first line under this receipt.
        own = 0 if one.receipt in first else extra.get(one.receipt, 0)
        first.add(one.receipt)
        ref = _uuid(one.our_ref)
        slip = next((name for text in (one.our_ref, one.receipt) if (name := _slip(text)) in names), "")
        refs = (one.receipt, str(ref) if ref else "", slip)
        theirs.append(Theirs(one.line_id, refs, one.amount_minor, one.currency, one.fee_minor + own))
    slip_of = {one.key: one.refs[2] for one in theirs}
    decided: dict[UUID, tuple[str, UUID | None, int | None]] = {}
    for pair in match(ours, theirs):
        if pair.theirs is not None and pair.is_ is not Class.DUPLICATE_HERE:
            ours_minor = amounts[pair.ours] if pair.ours and pair.is_ is not Class.DUPLICATE_THERE else None
            # A deposit that waits for its second person is not in the books yet, and is not to come in twice.
            waits = names.get(slip_of[pair.theirs]) if pair.is_ is Class.MISSING_HERE else None
            decided[pair.theirs] = (pair.is_.value, pair.ours or waits, ours_minor)
    by_receipt = {one.receipt: one for one in found if one.receipt}
    for one in kinds.get("FEE", ()):
        about = by_receipt.get(one.linked or one.receipt)
        decided[one.line_id] = (FEE, about.id if about else None, None)
    for one in kinds.get("PAYOUT", ()):
        decided[one.line_id] = (PAYOUT, None, None)
    decided |= _taken_back(connection, kinds.get("REVERSAL", ()), by_receipt)
    decided |= _given_back(connection, source, kinds.get("REFUND", ()), by_receipt)
    return decided


def _likeliest_first(lines: Iterable[Any], paid: Iterable[Any]) -> list[Any]:
    """Lines of payments, those of just the sum we were paid first.

    By what they say, and not by when they came: which of them has the fee does not depend on the order of the files.
    """
    sums = {(one.receipt, one.paid_minor) for one in paid}

    def rank(line: Any) -> tuple[Any, ...]:
        is_other = (line.receipt, line.amount_minor) not in sums
        return is_other, line.receipt, line.our_ref, line.amount_minor, line.currency, line.fee_minor, line.line_id

    return sorted(lines, key=rank)


def _deposits(connection: sa.Connection, source: str, lines: Sequence[Any]) -> Sequence[Any]:
    """Deposits of stations and customers that the bank's statement may name, by their slips."""
    if source != BANK_SOURCE:
        return ()
    d = deposit.c
    wanted = sa.select(d.id, d.slip, d.state, d.amount_minor).where(
        d.state.in_(("ENTERED", "APPROVED")), d.bank != CASH
    )
    return sets.by_key(
        connection, wanted, d.slip, [_slip(text) for one in lines for text in (one.receipt, one.our_ref)]
    )


def _slip(text: str) -> str:
    """As the numbers of slips are kept."""
    return "".join(text.upper().split())


def _taken_back(
    connection: sa.Connection, lines: Sequence[Any], by_receipt: Mapping[str, Any]
) -> dict[UUID, tuple[str, UUID | None, int | None]]:
    """Reversals by the provider, against what we were told of them; one of each payment."""
    e = payment_event.c
    abouts = {one.linked: by_receipt[one.linked] for one in lines if one.linked in by_receipt}
    wanted = sa.select(e.payment_id).where(e.said == "REVERSED").distinct()
    told = {
        row.payment_id for row in sets.by_key(connection, wanted, e.payment_id, [one.id for one in abouts.values()])
    }
    ours = [
        Ours(one.id, (name,), -(one.paid_minor or 0), one.currency) for name, one in abouts.items() if one.id in told
    ]
    theirs = [Theirs(one.line_id, (one.linked,), one.amount_minor, one.currency) for one in lines]
    return _classes(ours, theirs)


def _given_back(
    connection: sa.Connection, source: str, lines: Sequence[Any], by_receipt: Mapping[str, Any]
) -> dict[UUID, tuple[str, UUID | None, int | None]]:
    """Refunds, by the provider's name for them, then by the receipt of the payment that was given back."""
    r, s = source_refund.c, suspense.c
    columns = sa.select(r.id, r.provider_ref, _p.receipt, r.amount_minor, r.currency).select_from(
        source_refund.join(suspense, s.id == r.item_id).join(payment, _p.id == s.payment_id)
    )
    columns = columns.where(r.source == source, r.state == "DONE")
    rows = sets.by_key(connection, columns, r.provider_ref, [one.receipt for one in lines if one.receipt])
    about = [by_receipt[one.linked].id for one in lines if one.linked in by_receipt]
    rows += sets.by_key(connection, columns, s.payment_id, about)
    ours = [
        Ours(row.id, (row.provider_ref, row.receipt or ""), -row.amount_minor, row.currency)
        for row in {row.id: row for row in rows}.values()
    ]
    theirs = [Theirs(one.line_id, (one.receipt, one.linked), one.amount_minor, one.currency) for one in lines]
    # Our name for a refund is rarely the statement's: the receipts decide, and names do not contradict each other.
    names = {one.refs[0] for one in ours} & {one.refs[0] for one in theirs}
    ours = [Ours(one.key, _named(one.refs, names), one.amount_minor, one.currency) for one in ours]
    theirs = [Theirs(one.key, _named(one.refs, names), one.amount_minor, one.currency) for one in theirs]
    return {line: (class_, None, minor) for line, (class_, _, minor) in _classes(ours, theirs).items()}


def _named(refs: tuple[str, ...], names: set[str]) -> tuple[str, ...]:
    return (refs[0] if refs[0] in names else "", *refs[1:])


def _classes(
    ours: Sequence[Ours[UUID]], theirs: Sequence[Theirs[UUID]]
) -> dict[UUID, tuple[str, UUID | None, int | None]]:
    amounts = {one.key: one.amount_minor for one in ours}
    return {
        pair.theirs: (
            pair.is_.value,
            pair.ours,
            amounts[pair.ours] if pair.ours and pair.is_ is not Class.DUPLICATE_THERE else None,
        )
        for pair in match(ours, theirs)
        if pair.theirs is not None and pair.is_ is not Class.DUPLICATE_HERE
    }


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _close_missing_there(connection: sa.Connection, payments: Sequence[UUID], now: datetime) -> None:
    """Payments that were missing there and are not any more."""
    wanted = sa.select(_i.id).where(_i["class"] == Class.MISSING_THERE, _i.resolution.is_(None))
    rows = sets.by_key(connection, wanted, _i.payment_id, payments)
    sets.update(
        connection,
        settlement_item,
        "id",
        [{"id": row.id, "resolution": FOUND, "resolved_by": "statement", "resolved_at": now} for row in rows],
    )


def note_taking(connection: sa.Connection, item_id: UUID, detail: str, now: datetime) -> None:
    """Keep what the payments said when a line was taken to them."""
    connection.execute(sa.update(settlement_item).where(_i.id == item_id).values(detail=detail[:200], changed_at=now))


def find_missing_there(
    connection: sa.Connection,
    source: str,
    until: datetime,
    zone: ZoneInfo,
    *,
    new_id: Callable[[], UUID],
    now: datetime,
    limit: int = PAGE,
) -> tuple[int, int]:
    """Look at the next payments booked before `until` that no statement names; how many were looked at, and missed.

    Goes on where the last run ended; (0, 0) when there is nothing left.
    """
    m = settlement_mark.c
    sets.insert(connection, settlement_mark, [{"source": source, "paid_until": EVER}], missing=True)
    after = connection.execute(sa.select(m.paid_until).where(m.source == source).with_for_update()).scalar_one()
    window = sa.and_(_p.source == source, _p.paid_at > after, _p.paid_at <= until)
    instants = sa.select(_p.paid_at).where(window).order_by(_p.paid_at).limit(limit)
    last = connection.execute(sa.select(sa.func.max(instants.subquery().c.paid_at))).scalar_one()
    if last is None:
        return 0, 0
    # All of the last instant, so that none is passed over.
    rows = connection.execute(sa.select(_p.id, _p.paid_at, _p.paid_minor).where(window, _p.paid_at <= last)).all()
    # A fee or a reversal that names a payment does not say that it came in.
    known = (
        sa.select(_i.payment_id)
        .join(statement_line, _l.id == _i.line_id, isouter=True)
        .where(sa.or_(_i.line_id.is_(None), _l.kind == "PAYMENT"))
    )
    there = {row.payment_id for row in sets.by_key(connection, known, _i.payment_id, [row.id for row in rows])}
    missed = [row for row in rows if row.id not in there]
    sets.insert(
        connection,
        settlement_item,
        [
            {
                "id": new_id(),
                "source": source,
                "day": row.paid_at.astimezone(zone).date().isoformat(),
                "class": Class.MISSING_THERE.value,
                "found": Class.MISSING_THERE.value,
                "payment_id": row.id,
                "ours_minor": row.paid_minor,
                "fee_minor": 0,
                "found_at": now,
                "changed_at": now,
                "detail": "",
            }
            for row in missed
        ],
    )
    connection.execute(sa.update(settlement_mark).where(m.source == source).values(paid_until=last))
    return len(rows), len(missed)
