"""A bank's end of day as stored: its files, the match of a day, what people decide of differences, payments.

Functions of the SQL transaction they are handed; they never commit. A file is taken once: the same octets again change
nothing, another file with the same sequence is refused, a higher sequence of a day replaces a lower one for the match.
What people do is audited in the same transaction; giving money up and booking a payment take two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, banks, books, entries, tables
from ledger.audit import Origin
from ledger.bank_batch import account_of
from ledger.bank_tables import bank_request
from ledger.bankday_tables import bank_difference, bank_file, bank_file_line, bank_payment
from ledger.bankfile import File, Header, Line, key_of, read, sums_of, written
from ledger.bankmatch import AGREED, Class, Finding, Ours, Theirs, match
from ledger.operators import Operator, Role, require_role, require_two
from ledger.records import ensure_accounts

THEIRS: Final = "THEIRS"
OURS: Final = "OURS"

OPEN: Final = "OPEN"
CLAIMED: Final = "CLAIMED"
ACCEPTED: Final = "ACCEPTED"
WRITTEN_OFF: Final = "WRITTEN_OFF"
GONE: Final = "GONE"
STATES: Final = (OPEN, CLAIMED, ACCEPTED, WRITTEN_OFF, GONE)

REVERSALS_WITHIN_DAYS: Final = 10
"""So many business dates after a purchase its reversal is looked for."""
_REFERENCE_MAX: Final = 60
_AMOUNT_MAX_MINOR: Final = 10**15
_PAGE: Final = 500


class BankDayFault(StrEnum):
    """Why something about a bank's day is refused; the value is stable and may be stored."""

    # fmt: off
    UNKNOWN   = "unknown"    # no such file or difference
    BANK      = "bank"       # the file is of another bank
    CURRENCY  = "currency"   # or in another currency
    SEQUENCE  = "sequence"   # the sequence is taken, by another content or a later file
    FORM      = "form"       # a value of another form
    STATE     = "state"      # not in the state that this takes
    EXISTS    = "exists"     # this payment is booked already
    EXPLAIN   = "explain"    # a reason is needed
    # fmt: on


class BankDayRefused(Exception):
    """The rules say no. `fault` is the name, the text is for people."""

    def __init__(self, fault: BankDayFault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault: Final = fault


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that came or went."""

    id: UUID
    bank: str
    business_date: date
    direction: str
    sequence: int
    created_at: datetime
    currency: str
    lines: int
    purchases: int
    purchases_minor: int
    reversals: int
    reversals_minor: int
    hash: str
    recorded_by: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Difference:
    """A purchase on which the bank and we do not agree, and what was decided."""

    id: UUID
    code: str
    bank: str
    business_date: date
    key: str
    kind: Class
    ours_minor: int
    theirs_minor: int
    request_id: UUID | None
    file_id: UUID
    line: int | None
    found_at: datetime
    state: str
    decided_by: str | None
    approved_by: str | None
    decided_at: datetime | None
    reason: str | None
    txn_id: UUID | None

    @property
    def difference_minor(self) -> int:
        """What we say that the bank owes, less what it says."""
        return self.ours_minor - self.theirs_minor


@dataclass(frozen=True, slots=True)
class Matched:
    """A match of a day: purchases by class, what is open, and the sums of both sides."""

    file: FileRow
    counts: Mapping[Class, int]
    ours_minor: int
    theirs_minor: int
    differences: Sequence[Difference]


# --- our file ---------------------------------------------------------------------------------------------------------


def our_lines(connection: sa.Connection, bank: str, day: date) -> list[Line]:
    """Our details of a business date: every purchase and advice that was answered, oldest first."""
    lines = []
    for each in banks.day_lines(connection, bank, day):
        row = each.request
        if row.function not in ("PURCHASE", "ADVICE") or row.code is None:
            continue
        lines.append(
            Line(
                row.business_date,
                row.sent,
                row.stan,
                row.local_time,
                row.local_date,
                row.rrn,
                row.terminal,
                row.acquirer,
                row.drn,
                row.amount_minor,
                row.currency,
                row.code,
                each.receipt or "",
                each.was_reversed,
            )
        )
    return lines


def export(
    connection: sa.Connection, file_id: UUID, bank: str, day: date, currency: str, *, by: Operator, origin: Origin
) -> tuple[FileRow, bytes]:
    """Our file of a business date, with the next sequence; that it went is kept. FINANCE or SUPERVISOR."""
    require_role(by, Role.FINANCE, Role.SUPERVISOR)
    last = latest(connection, bank, day, OURS)
    header = Header(bank, day, 1 if last is None else last.sequence + 1, origin.at.replace(microsecond=0), currency)
    lines = [_in_currency(line, currency) for line in our_lines(connection, bank, day)]
    data = written(header, lines)
    row = _file_row(file_id, OURS, read(data), by, origin)
    _keep(connection, row, origin, "banks.file_exported")
    return row, data


def _in_currency(line: Line, currency: str) -> Line:
    """Banks write the currency of one file once, in their way: digits or letters."""
    values = {name: getattr(line, name) for name in Line.__slots__}
    return Line(**(values | {"currency": currency}))


# --- their file -------------------------------------------------------------------------------------------------------


def take(
    connection: sa.Connection,
    file_id: UUID,
    file: File,
    bank: str,
    currencies: Iterable[str],
    *,
    by: Operator,
    origin: Origin,
) -> tuple[FileRow, bool]:
    """Keep a bank's file with every line of it; False: these very octets were taken before, and nothing has changed.

    Refuses BANK, CURRENCY, and SEQUENCE where that number was used for other octets or a higher one came before.
    """
    require_role(by, Role.FINANCE, Role.SUPERVISOR)
    header = file.header
    if header.bank != bank:
        raise BankDayRefused(BankDayFault.BANK, f"file: a file of {bank} expected, got one of {header.bank!r}")
    # The utility's own, and those that the bank writes in its messages.
    b = bank_request.c
    kept = sa.select(b.currency).where(b.bank == bank, b.business_date == header.business_date).distinct()
    allowed = [*currencies, *connection.execute(kept).scalars()]
    if header.currency not in allowed:
        raise BankDayRefused(
            BankDayFault.CURRENCY, f"file: currency {' or '.join(allowed)} expected, got {header.currency!r}"
        )
    # Two imports at once wait for each other at the head of the audit log.
    audit.queue_up(connection)
    last = latest(connection, bank, header.business_date, THEIRS)
    if last is not None and last.hash == file.hash:
        return last, False
    if last is not None and header.sequence <= last.sequence:
        raise BankDayRefused(
            BankDayFault.SEQUENCE,
            f"file: a sequence above {last.sequence} expected for {header.business_date}, got {header.sequence}",
        )
    row = _file_row(file_id, THEIRS, file, by, origin)
    _keep(connection, row, origin, "banks.file_imported")
    rows = [
        {"file_id": file_id, "line": number, **{name: getattr(line, name) for name in Line.__slots__}}
        for number, line in enumerate(file.lines, 1)
    ]
    for at in range(0, len(rows), _PAGE):
        connection.execute(sa.insert(bank_file_line), rows[at : at + _PAGE])
    return row, True


def _file_row(file_id: UUID, direction: str, file: File, by: Operator, origin: Origin) -> FileRow:
    header, sums = file.header, sums_of(file.lines)
    return FileRow(
        file_id, header.bank, header.business_date, direction, header.sequence, header.created, header.currency,
        len(file.lines), sums.purchases, sums.purchases_minor, sums.reversals, sums.reversals_minor, file.hash,
        by.login, origin.at,
    )  # fmt: skip


def _keep(connection: sa.Connection, row: FileRow, origin: Origin, deed: str) -> None:
    connection.execute(sa.insert(bank_file), {name: getattr(row, name) for name in FileRow.__slots__})
    after = {"sequence": row.sequence, "lines": row.lines, "hash": row.hash}
    audit.note(connection, origin, deed, f"bank {row.bank} {row.business_date}", None, after)


def latest(connection: sa.Connection, bank: str, day: date, direction: str) -> FileRow | None:
    """The file of a day with the highest sequence."""
    f = bank_file.c
    wanted = sa.select(bank_file).where(f.bank == bank, f.business_date == day, f.direction == direction)
    row = connection.execute(wanted.order_by(f.sequence.desc()).limit(1)).first()
    return None if row is None else FileRow(*row)


def files(connection: sa.Connection, bank: str, day: date) -> list[FileRow]:
    """Every file of a day, in their order."""
    f = bank_file.c
    wanted = sa.select(bank_file).where(f.bank == bank, f.business_date == day)
    return [FileRow(*row) for row in connection.execute(wanted.order_by(f.direction, f.sequence))]


# --- the match --------------------------------------------------------------------------------------------------------


def compare(connection: sa.Connection, bank: str, day: date) -> tuple[FileRow, list[Finding]]:
    """A day's purchases in their classes, from our books, the messages as kept, and the bank's last file.

    Refuses UNKNOWN without such a file. Nothing is written.
    """
    row = latest(connection, bank, day, THEIRS)
    if row is None:
        raise BankDayRefused(BankDayFault.UNKNOWN, f"there is no file of {bank} for {day} yet")
    return row, match(day, _ours(connection, bank, day), _theirs(connection, row.id))


def rematch(connection: sa.Connection, bank: str, day: date, new_id: Any, code_of: Any, now: datetime) -> Matched:
    """Compare a day, and keep its differences. One that is decided stays so; one that is no more is GONE.

    `new_id` gives ids, `code_of` the name by which people know a difference.
    """
    audit.queue_up(connection)  # two at once would find the same differences
    row, findings = compare(connection, bank, day)
    t = bank_difference
    before = {(one.key, one.kind, one.ours_minor, one.theirs_minor): one for one in differences(connection, bank, day)}
    for finding in findings:
        if finding.kind in AGREED:
            continue
        known = before.pop((finding.key, finding.kind, finding.ours_minor, finding.theirs_minor), None)
        if known is None:
            difference_id = new_id()
            values = {
                "id": difference_id, "code": code_of(difference_id), "bank": bank, "business_date": day,
                "key": finding.key, "kind": finding.kind.value, "ours_minor": finding.ours_minor,
                "theirs_minor": finding.theirs_minor,
                "request_id": finding.ours.request_id if finding.ours else None,
                "file_id": row.id, "line": finding.theirs.number if finding.theirs else None,
                "found_at": now, "state": OPEN,
            }  # fmt: skip
            connection.execute(sa.insert(t), values)
        elif known.state == GONE:
            connection.execute(sa.update(t).where(t.c.id == known.id).values(state=OPEN))
    gone = [one.id for one in before.values() if one.state in (OPEN, CLAIMED)]
    for difference_id in gone:
        connection.execute(sa.update(t).where(t.c.id == difference_id).values(state=GONE))
    counts = {kind: sum(each.kind is kind for each in findings) for kind in Class}
    return Matched(
        row,
        {kind: count for kind, count in counts.items() if count},
        sum(each.ours_minor for each in findings),
        sum(each.theirs_minor for each in findings),
        [one for one in differences(connection, bank, day) if one.state != GONE],
    )


def _ours(connection: sa.Connection, bank: str, day: date) -> list[Ours]:
    b = bank_request.c
    undone: dict[UUID, date] = {}
    refused: set[UUID] = set()
    asked = sa.select(b.original, b.outcome, b.business_date).where(
        b.bank == bank,
        b.function == "REVERSAL",
        b.business_date.between(day, day + timedelta(days=REVERSALS_WITHIN_DAYS)),
        b.original.is_not(None),
    )
    for original, outcome, on in connection.execute(asked):
        if outcome == banks.TAKEN_BACK:
            undone[original] = on
        elif outcome in ("REFUSED", "EXCEPTION"):
            refused.add(original)
    return [
        Ours(
            key_of(each.request.terminal, each.request.stan, each.request.rrn),
            each.request.id,
            each.request.drn,
            each.request.amount_minor,
            each.state in banks.SOLD,
            each.was_reversed,
            undone.get(each.request.id),
            each.request.id in refused and not each.was_reversed,
            each.state,
        )
        for each in banks.day_lines(connection, bank, day)
        if each.request.function in ("PURCHASE", "ADVICE")
    ]


def _theirs(connection: sa.Connection, file_id: UUID) -> list[Theirs]:
    c = bank_file_line.c
    columns = [c[name] for name in Line.__slots__]
    wanted = sa.select(c.line, *columns).where(c.file_id == file_id).order_by(c.line)
    return [Theirs(row[0], Line(*row[1:])) for row in connection.execute(wanted)]


def differences(connection: sa.Connection, bank: str, day: date | None = None) -> list[Difference]:
    """Those of a day, or of all days those that are open or claimed, oldest first."""
    d = bank_difference.c
    wanted = sa.select(bank_difference).where(d.bank == bank)
    wanted = wanted.where(d.state.in_((OPEN, CLAIMED))) if day is None else wanted.where(d.business_date == day)
    return [_difference(row) for row in connection.execute(wanted.order_by(d.business_date, d.id))]


def difference(connection: sa.Connection, code: str) -> Difference:
    """The difference of this code; refuses UNKNOWN."""
    row = connection.execute(sa.select(bank_difference).where(bank_difference.c.code == code)).first()
    if row is None:
        raise BankDayRefused(BankDayFault.UNKNOWN, f"there is no difference {code}")
    return _difference(row)


def _difference(row: Any) -> Difference:
    values = dict(zip(Difference.__slots__, row, strict=True))
    return Difference(**(values | {"kind": Class(values["kind"])}))


# --- deeds ------------------------------------------------------------------------------------------------------------


def claim(connection: sa.Connection, code: str, *, by: Operator, origin: Origin) -> Difference:
    """The bank has been asked to pay, or to correct its file. Nothing is posted: what it owes stays on its way."""
    return _decide(connection, code, CLAIMED, (OPEN,), by=by, beside=None, origin=origin)


def accept(connection: sa.Connection, code: str, *, by: Operator, origin: Origin) -> Difference:
    """It is explained, and nothing is owed by either: our books stand as they are."""
    return _decide(connection, code, ACCEPTED, (OPEN, CLAIMED), by=by, beside=None, origin=origin)


def write_off(
    connection: sa.Connection,
    code: str,
    txn_id: UUID,
    today: date,
    currency: str,
    *,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> Difference:
    """Give up what the bank will not pay: the utility's loss. Two people of FINANCE.

    Refuses STATE where our books claim nothing more than the bank admits.
    """
    second = require_two(by, beside, Role.FINANCE, f"difference {code}")
    found = difference(connection, code)
    if found.difference_minor <= 0:
        raise BankDayRefused(BankDayFault.STATE, f"difference {code}: there is nothing that the bank would owe us")
    decided = _decide(connection, code, WRITTEN_OFF, (OPEN, CLAIMED), by=by, beside=second, origin=origin, txn=txn_id)
    ensure_accounts(connection, [account_of(found.bank), "loss:banks"], currency)
    books.record(
        connection,
        txn_id,
        "bank.written_off",
        entries.bank_loss(found.bank, found.difference_minor),
        business_date=today,
        recorded_at=origin.at,
    )
    connection.execute(sa.update(bank_difference).where(bank_difference.c.id == found.id).values(txn_id=txn_id))
    return difference(connection, decided.code)


def _decide(
    connection: sa.Connection,
    code: str,
    state: str,
    allowed: Sequence[str],
    *,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
    txn: UUID | None = None,
) -> Difference:
    require_role(by, Role.FINANCE)
    if not origin.reason.strip():
        raise BankDayRefused(BankDayFault.EXPLAIN, f"difference {code}: a reason is needed")
    audit.queue_up(connection)  # a match that runs now holds its turn, and then wants the same rows
    d = bank_difference.c
    found = difference(connection, code)
    if found.state not in allowed:
        raise BankDayRefused(BankDayFault.STATE, f"difference {code} is {found.state}, {' or '.join(allowed)} expected")
    values = {
        "state": state,
        "decided_by": by.login,
        "approved_by": beside.login if beside else None,
        "decided_at": origin.at,
        "reason": origin.reason.strip(),
    }
    connection.execute(sa.update(bank_difference).where(d.id == found.id).values(**values))
    after = {"state": state, "difference_minor": found.difference_minor, "kind": found.kind.value, "txn": txn}
    audit.note(connection, origin, "banks.difference_decided", f"difference {code}", {"state": found.state}, after)
    return difference(connection, code)


@dataclass(frozen=True, slots=True)
class Payment:
    """What a bank has paid for a day; negative: was paid."""

    bank: str
    business_date: date
    reference: str
    amount_minor: int
    paid_on: date


def paid(
    connection: sa.Connection,
    payment: Payment,
    payment_id: UUID,
    txn_id: UUID,
    today: date,
    currency: str,
    *,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> None:
    """Book what a bank has paid: from on its way to its account. Two people of FINANCE.

    Refuses FORM, and EXISTS for a reference of the bank's statement that is booked already.
    """
    second = require_two(by, beside, Role.FINANCE, f"payment of {payment.bank}")
    reference = payment.reference.strip()
    if not 0 < len(reference) <= _REFERENCE_MAX or not reference.isprintable():
        raise BankDayRefused(BankDayFault.FORM, f"reference: 1 to {_REFERENCE_MAX} printable characters expected")
    if not 0 < abs(payment.amount_minor) <= _AMOUNT_MAX_MINOR or payment.paid_on > today:
        raise BankDayRefused(BankDayFault.FORM, "payment: an amount, and a day that is not to come, expected")
    audit.queue_up(connection)
    known = sa.select(bank_payment.c.id).where(
        bank_payment.c.bank == payment.bank, bank_payment.c.reference == reference
    )
    if connection.execute(known).first() is not None:
        raise BankDayRefused(BankDayFault.EXISTS, f"payment {reference} of {payment.bank} is booked already")
    ensure_accounts(connection, [account_of(payment.bank), f"bank:{payment.bank}"], currency)
    books.record(
        connection,
        txn_id,
        "bank.paid",
        entries.bank_paid(payment.bank, payment.amount_minor),
        business_date=today,
        recorded_at=origin.at,
    )
    values = {name: getattr(payment, name) for name in Payment.__slots__} | {
        "id": payment_id, "reference": reference, "txn_id": txn_id, "entered_by": by.login,
        "approved_by": second.login, "recorded_at": origin.at,
    }  # fmt: skip
    connection.execute(sa.insert(bank_payment), values)
    after = {"amount_minor": payment.amount_minor, "reference": reference, "txn": txn_id, "with": second.login}
    subject = f"bank {payment.bank} {payment.business_date}"
    audit.note(connection, origin, "banks.payment_booked", subject, None, after)


def payments(connection: sa.Connection, bank: str, day: date) -> list[Payment]:
    """The payments of a day, in their order."""
    p = bank_payment.c
    wanted = sa.select(p.bank, p.business_date, p.reference, p.amount_minor, p.paid_on)
    rows = connection.execute(wanted.where(p.bank == bank, p.business_date == day).order_by(p.id))
    return [Payment(*row) for row in rows]


def on_its_way_minor(connection: sa.Connection, bank: str) -> int:
    """What a bank owes by our books: all that was sold and neither paid nor given up."""
    a, p = tables.account.c, tables.posting.c
    account = sa.select(a.id).where(a.code == account_of(bank)).scalar_subquery()
    wanted = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(p.account_id == account)
    return -int(connection.execute(wanted).scalar_one())
