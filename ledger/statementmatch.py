"""Matching of statements: what each line is, which payments are missing there.

Functions of the SQL transaction they are handed; they never commit. A run is made of pages, each found again by what
is not matched yet, so a run that breaks off goes on, and one that is repeated changes nothing. Which line goes with
which payment depends on all lines and payments of a receipt, not on the order of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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
from ledger.tables import account

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


@dataclass(frozen=True, slots=True)
class _About:
    """All that is about the same payments, by id: lines with their items, payments, refunds, deposits."""

    lines: dict[UUID, Any]
    items: dict[UUID, Any]
    payments: dict[UUID, Any]
    refunds: dict[UUID, Any]
    deposits: dict[UUID, Any]

    def of(self, kind: str) -> list[Any]:
        """The lines of a kind that are to be matched: what people decided of a line stays."""
        return [one for one in self.lines.values() if one.kind == kind and not self._is_alone(one.line_id)]

    def _is_alone(self, line_id: UUID) -> bool:
        item = self.items[line_id]
        return item.resolution is not None and item.ours_minor is None

    def decided(self, kind: str) -> dict[UUID, UUID]:
        """The lines of a kind whose difference people decided, with the payment they were compared with."""
        return {
            line_id: item.payment_id
            for line_id, item in self.items.items()
            if item.resolution is not None and item.ours_minor is not None and self.lines[line_id].kind == kind
        }


def _match(connection: sa.Connection, source: str, line_ids: Sequence[UUID], fees: Fees | None, now: datetime) -> Page:
    """Match these lines, and with them all others that are about the same payments."""
    about = _about(connection, source, line_ids)
    decided = _decide(connection, about, fees)
    wanted = set(line_ids)
    rows, missing, classes = [], [], dict[str, int]()
    for line_id, (class_, payment_id, ours_minor) in decided.items():
        item = about.items[line_id]
        if item.resolution is not None:
            continue
        if _changes(item, class_, payment_id, ours_minor):
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
        if line_id in wanted or item._mapping["class"] != class_:
            classes[class_] = classes.get(class_, 0) + 1
            is_unknown = class_ == Class.MISSING_HERE and payment_id is None
            told = _missing(item.id, about.lines[line_id]) if is_unknown else None
            if told is not None:
                missing.append(told)
    sets.update(connection, settlement_item, "id", rows)
    named = {
        payment_id
        for line_id, (_, payment_id, ours_minor) in decided.items()
        if about.lines[line_id].kind == "PAYMENT" and payment_id is not None and ours_minor is not None
    }
    named |= set(about.decided("PAYMENT").values())
    _close_missing_there(connection, sorted(named), now)
    before = {
        item.payment_id
        for line_id, item in about.items.items()
        if about.lines[line_id].kind == "PAYMENT" and item.ours_minor is not None
    }
    _missed_again(connection, source, [about.payments[one] for one in before - named if one in about.payments])
    return Page(len(wanted), classes, tuple(missing))


def _changes(item: Any, class_: str, payment_id: UUID | None, ours_minor: int | None) -> bool:
    return (item._mapping["class"], item.payment_id, item.ours_minor) != (class_, payment_id, ours_minor)


def _about(connection: sa.Connection, source: str, line_ids: Sequence[UUID]) -> _About:
    """What one line is depends on all that name the same payment: they are looked at together, in whatever file.

    So what is found is followed until it names nothing new: nearly always after one round.
    """
    lines = _lines(connection, source, _l.id, line_ids)
    payments: dict[UUID, Any] = {}
    refunds: dict[UUID, Any] = {}
    deposits: dict[UUID, Any] = {}
    asked: set[Any] = {""}

    def fresh(keys: Iterable[Any]) -> list[Any]:
        found = sorted(set(keys) - asked)
        asked.update(found)
        return found

    while True:
        size = len(lines) + len(payments) + len(refunds) + len(deposits)
        receipts = [one.receipt or "" for one in payments.values()]
        receipts += [name for row in refunds.values() for name in (row.provider_ref, row.receipt or "")]
        names = fresh([*receipts, *(name for one in lines.values() for name in (one.receipt, one.linked))])
        for column in (_l.receipt, _l.linked):
            lines |= _lines(connection, source, column, names)
        refs = fresh(one for one in (_uuid(one.our_ref) for one in lines.values()) if one is not None)
        payments |= _payments(connection, source, names, refs)
        if any(one.kind == "REFUND" for one in lines.values()):
            refunds |= _refunds(connection, source, names, payments)
        if source == BANK_SOURCE:
            slips = (("slip", _slip(text)) for one in lines.values() for text in (one.receipt, one.our_ref) if text)
            deposits |= _deposits(connection, [slip for _, slip in fresh(slips)])
        known = sa.select(_i.line_id).where(_i.line_id.is_not(None))
        ours = [one for _, one in fresh(("item", one) for one in (*payments, *deposits))]
        lines |= _lines(
            connection, source, _l.id, [row.line_id for row in sets.by_key(connection, known, _i.payment_id, ours)]
        )
        if len(lines) + len(payments) + len(refunds) + len(deposits) == size:
            break
    locked = sa.select(settlement_item).with_for_update().order_by(_i.id)
    items = {row.line_id: row for row in sets.by_key(connection, locked, _i.line_id, lines)}
    return _About(lines, items, payments, refunds, deposits)


def _lines(connection: sa.Connection, source: str, column: Any, keys: Iterable[Any]) -> dict[UUID, Any]:
    rows = sets.by_key(connection, sa.select(*_SAID).where(_l.source == source), column, keys)
    return {row.line_id: row for row in rows}


def _payments(connection: sa.Connection, source: str, receipts: Iterable[str], ids: Iterable[UUID]) -> dict[UUID, Any]:
    columns = sa.select(_p.id, _p.receipt, _p.state, _p.amount_minor, _p.paid_minor, _p.paid_at, _p.currency)
    own = columns.where(_p.source == source)
    rows = [*sets.by_key(connection, own, _p.receipt, receipts), *sets.by_key(connection, own, _p.id, ids)]
    return {row.id: row for row in rows}


def _refunds(connection: sa.Connection, source: str, names: Iterable[str], payments: Iterable[UUID]) -> dict[UUID, Any]:
    """Refunds that are done, by the provider's name for them, then by the payment that was given back."""
    r, s = source_refund.c, suspense.c
    columns = sa.select(r.id, r.provider_ref, _p.receipt, r.amount_minor, r.currency).select_from(
        source_refund.join(suspense, s.id == r.item_id).join(payment, _p.id == s.payment_id)
    )
    columns = columns.where(r.source == source, r.state == "DONE")
    rows = sets.by_key(connection, columns, r.provider_ref, names)
    return {row.id: row for row in (*rows, *sets.by_key(connection, columns, s.payment_id, payments))}


def _deposits(connection: sa.Connection, slips: Sequence[str]) -> dict[UUID, Any]:
    """Deposits of stations and customers that the bank's statement may name, by their slips."""
    d = deposit.c
    wanted = sa.select(d.id, d.slip, d.state, d.amount_minor).where(
        d.state.in_(("ENTERED", "APPROVED")), d.bank != CASH
    )
    return {row.id: row for row in sets.by_key(connection, wanted, d.slip, slips)}


_Decided = dict[UUID, tuple[str, UUID | None, int | None]]


def _decide(connection: sa.Connection, about: _About, fees: Fees | None) -> _Decided:
    """Class, payment and our amount of each line, but of those that people decided alone."""
    by_receipt = {one.receipt: one for one in about.payments.values() if one.receipt}
    decided = _paid(connection, about, fees)
    for one in about.of("FEE"):
        payment_of = by_receipt.get(one.linked or one.receipt)
        decided[one.line_id] = (FEE, payment_of.id if payment_of else None, None)
    for one in about.of("PAYOUT"):
        decided[one.line_id] = (PAYOUT, None, None)
    decided |= _taken_back(connection, about, by_receipt)
    return decided | _given_back(about)


def _paid(connection: sa.Connection, about: _About, fees: Fees | None) -> _Decided:
    """Lines of payments that came in, against our payments and the deposits by hand."""
    extra: dict[str, int] = {}
    for one in about.lines.values():
        if one.kind == "FEE":
            name = one.linked or one.receipt
            extra[name] = extra.get(name, 0) + one.fee_minor
    given_up = _written_off(connection, about.payments)
    ours = [
        Ours(one.id, (one.receipt or "", str(one.id)), one.paid_minor, one.currency,
             None if fees is None else fees.of(one.paid_minor))
        for one in about.payments.values()
        if one.paid_minor is not None and one.id not in given_up
    ]  # fmt: skip
    currency = _currency(connection) if about.deposits else ""
    ours += [
        Ours(row.id, ("", "", row.slip), row.amount_minor, currency)
        for row in about.deposits.values()
        if row.state == "APPROVED"
    ]
    slips = {row.slip for row in about.deposits.values()}
    # A deposit that waits for its second person is not in the books yet, and is not to come in twice.
    waits = {row.slip: row.id for row in about.deposits.values() if row.state != "APPROVED"}
    theirs: list[Theirs[UUID]] = []
    for one in about.of("PAYMENT"):
        ref = _uuid(one.our_ref)
        slip = next((name for text in (one.our_ref, one.receipt) if (name := _slip(text)) in slips), "")
        refs = (one.receipt, str(ref) if ref else "", slip)
        theirs.append(Theirs(one.line_id, refs, one.amount_minor, one.currency, one.fee_minor))
    theirs = _with_fees(ours, theirs, extra)
    slip_of = {one.key: one.refs[2] for one in theirs}
    return {
        line_id: (class_, payment_id or (waits.get(slip_of[line_id]) if class_ == Class.MISSING_HERE else None), minor)
        for line_id, (class_, payment_id, minor) in _classes(ours, theirs, about.decided("PAYMENT")).items()
    }


def _with_fees(
    ours: Iterable[Ours[UUID]], theirs: Iterable[Theirs[UUID]], extra: Mapping[str, int]
) -> list[Theirs[UUID]]:
    """The lines with what fees in rows of their own add: all to one line of the receipt, that of just our sum if any.

    By what they say, and not by when they came: which of them has the fee does not depend on the order of the files.
    """
    sums = {(name, one.amount_minor, one.currency) for one in ours for name in one.refs if name}
    found: list[Theirs[UUID]] = []
    first: set[str] = set()

    def rank(one: Theirs[UUID]) -> tuple[Any, ...]:
        is_other = not any((name, one.amount_minor, one.currency) in sums for name in one.refs)
        return is_other, one.refs, one.amount_minor, one.currency, one.fee_minor, one.key

    for one in sorted(theirs, key=rank):
        own = 0 if one.refs[0] in first else extra.get(one.refs[0], 0)
        first.add(one.refs[0])
        found.append(replace(one, fee_minor=one.fee_minor + own))
    return found


def _written_off(connection: sa.Connection, payments: Iterable[UUID]) -> set[UUID]:
    """Payments that were given up as missing there: money that comes for them after all is to be seen, and decided."""
    wanted = sa.select(_i.payment_id).where(
        _i["class"] == Class.MISSING_THERE, _i.resolution.is_not(None), _i.txn_id.is_not(None)
    )
    return {row.payment_id for row in sets.by_key(connection, wanted, _i.payment_id, payments)}


def _currency(connection: sa.Connection) -> str:
    """In which deposits are kept."""
    a = account.c
    return (
        connection.execute(sa.select(a.currency).where(a.code == f"clearing:{BANK_SOURCE}")).scalar_one_or_none() or ""
    )


def _slip(text: str) -> str:
    """As the numbers of slips are kept."""
    return "".join(text.upper().split())


def _taken_back(connection: sa.Connection, about: _About, by_receipt: Mapping[str, Any]) -> _Decided:
    """Reversals by the provider, against what we were told of them; one of each payment."""
    e = payment_event.c
    lines = about.of("REVERSAL")
    payments = {one.linked: by_receipt[one.linked] for one in lines if one.linked in by_receipt}
    wanted = sa.select(e.payment_id).where(e.said == "REVERSED").distinct()
    told = {
        row.payment_id for row in sets.by_key(connection, wanted, e.payment_id, [one.id for one in payments.values()])
    }
    ours = [
        Ours(one.id, (name,), -(one.paid_minor or 0), one.currency) for name, one in payments.items() if one.id in told
    ]
    theirs = [Theirs(one.line_id, (one.linked,), one.amount_minor, one.currency) for one in lines]
    return _classes(ours, theirs, about.decided("REVERSAL"))


def _given_back(about: _About) -> _Decided:
    """Refunds, by the provider's name for them, then by the receipt of the payment that was given back."""
    ours = [
        Ours(row.id, (row.provider_ref, row.receipt or ""), -row.amount_minor, row.currency)
        for row in about.refunds.values()
    ]
    theirs = [
        Theirs(one.line_id, (one.receipt, one.linked), one.amount_minor, one.currency) for one in about.of("REFUND")
    ]
    # Our name for a refund is rarely the statement's: the receipts decide, and names do not contradict each other.
    names = {one.refs[0] for one in ours} & {one.refs[0] for one in theirs}
    ours = [replace(one, refs=_named(one.refs, names)) for one in ours]
    theirs = [replace(one, refs=_named(one.refs, names)) for one in theirs]
    # An item has the payment and not the refund it was compared with: those that people decided choose first.
    first = about.decided("REFUND")
    held = {
        pair.theirs: pair.ours
        for pair in match(ours, [one for one in theirs if one.key in first])
        if pair.theirs is not None and pair.ours is not None and pair.by is not None
    }
    return {line: (class_, None, minor) for line, (class_, _, minor) in _classes(ours, theirs, held).items()}


def _named(refs: tuple[str, ...], names: set[str]) -> tuple[str, ...]:
    return (refs[0] if refs[0] in names else "", *refs[1:])


def _classes(ours: Sequence[Ours[UUID]], theirs: Sequence[Theirs[UUID]], held: Mapping[UUID, UUID]) -> _Decided:
    """What the lines are. One compared has our amount with it, and one that repeats it has not."""
    amounts = {one.key: one.amount_minor for one in ours}
    return {
        pair.theirs: (
            pair.is_.value,
            pair.ours,
            amounts[pair.ours] if pair.ours and pair.is_ is not Class.DUPLICATE_THERE else None,
        )
        for pair in match(ours, theirs, held)
        if pair.theirs is not None and pair.is_ is not Class.DUPLICATE_HERE
    }


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _missed_again(connection: sa.Connection, source: str, payments: Sequence[Any]) -> None:
    """Payments whose line turned out to be that of another: the next look at what is missing there sees them again."""
    reopened = {"resolution": None, "resolved_by": None, "resolved_at": None}
    wanted = sa.select(_i.id, _i.payment_id).where(_i["class"] == Class.MISSING_THERE, _i.resolution == FOUND)
    rows = sets.by_key(connection, wanted, _i.payment_id, [one.id for one in payments])
    sets.update(connection, settlement_item, "id", [{"id": row.id, **reopened} for row in rows])
    seen = {row.payment_id for row in rows}
    left = [one.paid_at for one in payments if one.paid_at is not None and one.id not in seen]
    if left:
        m = settlement_mark.c
        until = min(left) - timedelta(microseconds=1)
        connection.execute(
            sa.update(settlement_mark).where(m.source == source, m.paid_until > until).values(paid_until=until)
        )


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
