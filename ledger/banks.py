"""Banks as stored: requests found for people and reversals, business days, totals of a day, keys under the ZMK.

Functions of the SQL transaction they are handed; they never commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ledger import tables
from ledger.bank_batch import account_of
from ledger.bank_tables import bank_day, bank_key, bank_reconciliation, bank_request
from ledger.records import ensure_accounts
from ledger.unit import BankRequestRow

SOLD: Final = ("VENDED", "DELIVERED", "SEALED", "REFUNDED")
"""The states of a purchase that was sold, whether or not it was taken back."""

TAKEN_BACK: Final = "REVERSED"
"""The outcome of a reversal that took a sale back."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Purchases and their reversals of a business date; the bank owes what is left, so `net_minor` is negative then.

    `reversals` are those that took a sale back, on the business date of the reversal.
    """

    purchases: int
    purchases_minor: int
    reversals: int
    reversals_minor: int

    @property
    def net_minor(self) -> int:
        return self.reversals_minor - self.purchases_minor


@dataclass(frozen=True, slots=True)
class DayLine:
    """One purchase or reversal of a business date, with what became of it: a line of the end-of-day file.

    `state` is the purchase's, None where none came of it; `was_reversed`: a reversal took it back. `sum` of the lines
    with `counts` is `totals`.
    """

    request: BankRequestRow
    state: str | None
    receipt: str | None
    was_reversed: bool

    @property
    def counts(self) -> bool:
        """Whether it stands in the totals of the day."""
        if self.request.function == "REVERSAL":
            return self.request.outcome == TAKEN_BACK
        return self.request.function in ("PURCHASE", "ADVICE") and self.state in SOLD


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as it came. `state`: OFFERED, ACTIVE, REFUSED."""

    id: UUID
    bank: str
    handle: str
    zmk: str
    scheme: str
    cryptogram: str
    kcv: str
    state: str
    received_at: datetime
    settled_at: datetime | None

    def __repr__(self) -> str:
        return f"<KeyRow {self.bank} {self.handle} {self.state}>"


def have_accounts(connection: sa.Connection, banks: Iterable[str], currency: str) -> None:
    """Have an account for each bank's money that is on its way."""
    ensure_accounts(connection, map(account_of, banks), currency)


def original(connection: sa.Connection, bank: str, keys: Iterable[str], trace: str | None) -> tuple[UUID, str] | None:
    """The request that a reversal means, by the first of its keys ("bank|...") that is known, else by its trace.

    Its id and its key.
    """
    r, b = tables.request.c, bank_request.c
    for key in keys:
        found = connection.execute(sa.select(r.id).where(r.idem_key == key)).scalar_one_or_none()
        if found is not None:
            return found, key
    if trace is None:
        return None
    row = connection.execute(
        sa.select(r.id, r.idem_key).join(bank_request, b.id == r.id).where(b.bank == bank, b.trace == trace)
    ).first()
    return (row[0], row[1]) if row is not None else None


# --- business days ----------------------------------------------------------------------------------------------------


def business_date(connection: sa.Connection, bank: str) -> date | None:
    """The business date that a bank has announced last."""
    d = bank_day.c
    found: date | None = connection.execute(sa.select(sa.func.max(d.business_date)).where(d.bank == bank)).scalar_one()
    return found


def cut_over(connection: sa.Connection, bank: str, day: date, stan: str, now: datetime) -> bool:
    """From now on requests of a bank that name no business date are of this one. False: it was announced before."""
    dialect = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    wanted = dialect(bank_day).values(bank=bank, business_date=day, stan=stan, cut_over_at=now)
    return connection.execute(wanted.on_conflict_do_nothing(index_elements=["bank", "business_date"])).rowcount == 1


def days(connection: sa.Connection, bank: str, at_most: int = 14) -> list[tuple[date, datetime]]:
    """The last business dates that a bank has announced, the latest first, and when."""
    d = bank_day.c
    wanted = sa.select(d.business_date, d.cut_over_at).where(d.bank == bank).order_by(d.business_date.desc())
    return [(row[0], row[1]) for row in connection.execute(wanted.limit(at_most))]


def totals(connection: sa.Connection, bank: str, day: date) -> Totals:
    """What a bank's purchases and reversals of a business date come to. Its cost is that of the day's rows."""
    b, p = bank_request.c, tables.purchase.c
    of_day = (b.bank == bank, b.business_date == day)
    count, amount = sa.func.count(), sa.func.coalesce(sa.func.sum(b.amount_minor), 0)
    sold = (
        sa.select(count, amount)
        .join_from(bank_request, tables.purchase, p.id == b.id)
        .where(*of_day, b.function.in_(("PURCHASE", "ADVICE")), p.state.in_(SOLD))
    )
    undone = sa.select(count, amount).where(*of_day, b.function == "REVERSAL", b.outcome == TAKEN_BACK)
    bought, back = connection.execute(sold).one(), connection.execute(undone).one()
    return Totals(int(bought[0]), int(bought[1]), int(back[0]), int(back[1]))


def day_lines(connection: sa.Connection, bank: str, day: date) -> Iterator[DayLine]:
    """Every purchase, advice and reversal of a business date by function and time, streamed; no tombstones."""
    b, p = bank_request.c, tables.purchase.c
    wanted = (
        sa.select(bank_request, p.state, p.receipt)
        .join_from(bank_request, tables.purchase, p.id == b.id, isouter=True)
        .where(b.bank == bank, b.business_date == day, b.function.in_(("PURCHASE", "ADVICE", "REVERSAL")))
        .order_by(b.function, b.id)
    )
    width = len(BankRequestRow.__slots__)
    with connection.execution_options(yield_per=500).execute(wanted) as rows:
        for row in rows:
            state = row[width]
            yield DayLine(BankRequestRow(*row[:width]), state, row[width + 1], state == "SEALED")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A bank's totals of a business date, as they came, and ours at that moment."""

    id: UUID
    bank: str
    business_date: date
    mti: str
    stan: str
    currency: str
    theirs: Totals
    their_net_minor: int
    ours: Totals
    in_balance: bool
    received_at: datetime


def reconcile(
    connection: sa.Connection,
    *,
    request_id: UUID,
    bank: str,
    day: date,
    mti: str,
    stan: str,
    currency: str,
    theirs: Totals,
    their_net_minor: int,
    now: datetime,
) -> Reconciled:
    """Compare what stands of a bank's business date with ours, and keep both."""
    ours = totals(connection, bank, day)
    # Of a purchase without an answer that was taken back neither side knows whether the other counts it as one of each
    # or as none: what stands must agree, in number and in money (docs/decisions/0036).
    stand = theirs.purchases - theirs.reversals, -theirs.net_minor, -their_net_minor
    in_balance = stand == (ours.purchases - ours.reversals, -ours.net_minor, -ours.net_minor)
    connection.execute(
        bank_reconciliation.insert().values(
            id=request_id,
            bank=bank,
            business_date=day,
            mti=mti,
            stan=stan,
            currency=currency,
            **{
                f"{whose}_{what}": getattr(of, what)
                for whose, of in (("their", theirs), ("our", ours))
                for what in ("purchases", "purchases_minor", "reversals", "reversals_minor")
            },
            their_net_minor=their_net_minor,
            our_net_minor=ours.net_minor,
            in_balance=in_balance,
            received_at=now,
        )
    )
    return Reconciled(request_id, bank, day, mti, stan, currency, theirs, their_net_minor, ours, in_balance, now)


def reconciled(connection: sa.Connection, bank: str, day: date) -> list[Reconciled]:
    """The reconciliations of a business date, in their order."""
    t = bank_reconciliation
    wanted = sa.select(t).where(t.c.bank == bank, t.c.business_date == day).order_by(t.c.id)
    return [
        Reconciled(
            row.id,
            row.bank,
            row.business_date,
            row.mti,
            row.stan,
            row.currency,
            Totals(row.their_purchases, row.their_purchases_minor, row.their_reversals, row.their_reversals_minor),
            row.their_net_minor,
            Totals(row.our_purchases, row.our_purchases_minor, row.our_reversals, row.our_reversals_minor),
            row.in_balance,
            row.received_at,
        )
        for row in connection.execute(wanted)
    ]


# --- keys -------------------------------------------------------------------------------------------------------------


def keep_key(connection: sa.Connection, row: KeyRow) -> None:
    """Keep a key as it came, before it is used."""
    connection.execute(bank_key.insert().values({name: getattr(row, name) for name in KeyRow.__slots__}))


def settle_key(connection: sa.Connection, key_id: UUID, state: str, now: datetime) -> None:
    """Say what became of an offered key: ACTIVE or REFUSED."""
    k = bank_key.c
    connection.execute(bank_key.update().where(k.id == key_id).values(state=state, settled_at=now))


def keys(connection: sa.Connection, bank: str) -> list[KeyRow]:
    """What a restart installs, in its order: of each handle the last key in use, the one before it, and one that was
    offered since and never settled."""
    k = bank_key.c
    found: dict[str, list[KeyRow]] = {}
    wanted = sa.select(bank_key).where(k.bank == bank, k.state.in_(("ACTIVE", "OFFERED"))).order_by(k.id.desc())
    for row in connection.execute(wanted):
        kept = found.setdefault(row.handle, [])
        in_use = [one for one in kept if one.state == "ACTIVE"]
        if (row.state == "OFFERED" and not kept) or (row.state == "ACTIVE" and len(in_use) < 2):
            kept.append(KeyRow(*row))
    return [key for several in found.values() for key in reversed(several)]
