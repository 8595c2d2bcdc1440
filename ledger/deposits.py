"""Deposits of stations and customers with their slips, and the banking of shifts: one enters, another approves.

Functions of the SQL transaction they are handed; they never commit. Money moves when a deposit is approved, in the
transaction that approves it; a deposit that turns out wrong is reversed by a new transaction that names the first. A
banking batch gathers closed shifts; banking it enters its deposit, and the approval of that deposit confirms it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, customers, entries, stations, tables
from ledger.audit import Origin
from ledger.books import AccountClosed, AlreadyReversed, Overdrawn
from ledger.direct import Post, Reverse, carry_out, lock_balance
from ledger.operators import Operator, OperatorFault, OperatorRefused, Role, require_other, require_role
from ledger.payment_tables import payment
from ledger.records import insert_new
from ledger.stations import AMOUNT_MAX_MINOR, StationFault, StationRefused
from ledger.stations_tables import banking_batch, deposit, shift

ENTERED: Final = "ENTERED"
APPROVED: Final = "APPROVED"
REFUSED: Final = "REFUSED"
REVERSED: Final = "REVERSED"
OPEN: Final = "OPEN"
BANKED: Final = "BANKED"
CONFIRMED: Final = "CONFIRMED"

CASH: Final = "CASH"
"""In place of a bank: the office took the money, and the slip is its receipt."""
BANK_SOURCE: Final = "bank"
"""Whose clearing account deposits are in, until its statement is booked."""

_ENTERS: Final = (Role.VENDOR, Role.SUPERVISOR, Role.FINANCE)
_DECIDES: Final = (Role.FINANCE, Role.SUPERVISOR)
_DAYS_BACK_MAX: Final = 366


@dataclass(frozen=True, slots=True)
class Slip:
    """What stands on a bank's slip."""

    bank: str
    number: str
    amount_minor: int
    paid_on: date

    @classmethod
    def of(cls, bank: str, number: str, amount_minor: int, paid_on: date, today: date) -> Slip:
        """A slip as it is kept: in capitals, without blanks, so that the same one is known again. Refuses FORM."""
        kept = [" ".join(bank.upper().split()), "".join(number.upper().split())]
        for name, text in zip(("bank", "slip"), kept, strict=True):
            if not 1 <= len(text) <= 40 or not text.isprintable():
                raise StationRefused(StationFault.FORM, f"{name}: 1 to 40 printable characters expected")
        if not 0 < amount_minor <= AMOUNT_MAX_MINOR:
            raise StationRefused(StationFault.FORM, "amount: more than nothing expected")
        if not 0 <= (today - paid_on).days <= _DAYS_BACK_MAX:
            raise StationRefused(
                StationFault.FORM, f"paid on: a day of the last {_DAYS_BACK_MAX} expected, got {paid_on}"
            )
        return cls(kept[0], kept[1], amount_minor, paid_on)


@dataclass(frozen=True, slots=True)
class Deposit:
    """A deposit as stored, with its station's code or its customer's account number."""

    id: UUID
    code: str
    station: str | None
    customer: str | None
    state: str
    bank: str
    slip: str
    amount_minor: int
    paid_on: date
    entered_by: str
    entered_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    txn_id: UUID | None
    reversal_id: UUID | None


@dataclass(frozen=True, slots=True)
class New:
    """The id and the code of something new, which the caller makes."""

    id: UUID
    code: str


# --- deposits ---------------------------------------------------------------------------------------------------------


def enter(connection: sa.Connection, new: New, station: str, slip: Slip, *, by: Operator, origin: Origin) -> Deposit:
    """Enter a deposit that another person shall approve. By VENDOR or SUPERVISOR of the station, or FINANCE.

    Refuses UNKNOWN, and SLIP where this bank's slip was entered before and not refused or reversed.
    """
    require_role(by, *_ENTERS)
    _require_own(by, station)
    if slip.bank == CASH:
        raise StationRefused(StationFault.FORM, "bank: its name expected; a station's cash goes to a bank")
    at = stations.known(connection, station)
    return _enter(connection, new, {"station_id": at.id}, {"station": station}, slip, by, origin)


def enter_for_customer(
    connection: sa.Connection, new: New, account_no: str, slip: Slip, *, by: Operator, origin: Origin
) -> Deposit:
    """Enter what a customer paid to the bank, or to the office (CASH), for the wallet. By FINANCE or SUPERVISOR.

    Refuses UNKNOWN and CLOSED customers, and SLIP as for a station.
    """
    require_role(by, *_DECIDES)
    customer = customers.open_one(connection, account_no)
    return _enter(connection, new, {"customer_id": customer.id}, {"customer": account_no}, slip, by, origin)


def _enter(
    connection: sa.Connection,
    new: New,
    whose: Mapping[str, UUID],
    told: Mapping[str, str],
    slip: Slip,
    by: Operator,
    origin: Origin,
) -> Deposit:
    row = {
        "id": new.id,
        "code": new.code,
        **whose,
        "state": ENTERED,
        "bank": slip.bank,
        "slip": slip.number,
        "amount_minor": slip.amount_minor,
        "paid_on": slip.paid_on,
        "entered_by": by.login,
        "entered_at": origin.at,
    }
    d, p = deposit.c, payment.c
    same = sa.select(d.code).where(d.bank == slip.bank, d.slip == slip.number, d.state.in_((ENTERED, APPROVED)))
    other = connection.execute(same).scalar_one_or_none()
    if other is None and slip.bank != CASH:
        # The bank's statement came first: this money is in the books, in suspense most likely.
        stated = sa.select(p.receipt).where(p.source == BANK_SOURCE, p.receipt == slip.number)
        if connection.execute(stated).first() is not None:
            other = "as a payment, by the bank's statement"
    if other is None and not _insert_slip(connection, row):
        other = "of this moment"
    if other is not None:
        raise StationRefused(StationFault.SLIP, f"slip {slip.number} of {slip.bank} is entered already: {other}")
    after = {
        **told,
        "bank": slip.bank,
        "slip": slip.number,
        "amount_minor": slip.amount_minor,
        "paid_on": slip.paid_on.isoformat(),
    }
    audit.note(connection, origin, "deposits.entered", f"deposit {new.code}", None, after)
    return known(connection, new.code)


def _insert_slip(connection: sa.Connection, row: Mapping[str, Any]) -> bool:
    """Insert unless somebody enters the same slip at this moment, who is waited for."""
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(deposit), dict(row))
    except sa.exc.IntegrityError:
        return False
    return True


def known(connection: sa.Connection, code: str, *, lock: bool = False) -> Deposit:
    """The deposit of this code; refuses UNKNOWN. `lock`: nobody else decides on it meanwhile."""
    if lock:
        connection.execute(sa.select(deposit.c.id).where(deposit.c.code == code).with_for_update()).all()
    found = listed(connection, code=code)
    if not found:
        raise StationRefused(StationFault.UNKNOWN, f"there is no deposit {code}")
    return found[0]


def listed(
    connection: sa.Connection,
    *,
    code: str | None = None,
    station: str | None = None,
    customer: str | None = None,
    state: str | None = None,
) -> list[Deposit]:
    """The last thousand deposits, oldest first."""
    s, c = tables.station, tables.customer
    named = {"station": s.c.code.label("station"), "customer": c.c.account_no.label("customer")}
    columns = [named[name] if name in named else deposit.c[name] for name in Deposit.__slots__]
    wanted = sa.select(*columns).select_from(
        deposit.join(s, s.c.id == deposit.c.station_id, isouter=True).join(
            c, c.c.id == deposit.c.customer_id, isouter=True
        )
    )
    for column, value in (
        (deposit.c.code, code),
        (s.c.code, station),
        (c.c.account_no, customer),
        (deposit.c.state, state),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    rows = connection.execute(wanted.order_by(deposit.c.entered_at.desc()).limit(1000))
    return [Deposit(**row) for row in rows.mappings()][::-1]


def approve(
    connection: sa.Connection, code: str, txn_id: UUID, business_date: date, *, by: Operator, origin: Origin
) -> Deposit:
    """Post a deposit to its station or wallet, and confirm the banking batch it belongs to. By FINANCE or SUPERVISOR.

    Whoever entered it does not approve it, whatever the roles, nor does anybody of the station that is to have the
    money. Refuses UNKNOWN, STATE (also of a wallet that was closed meanwhile), SAME_PERSON, ROLE_MISSING.
    """
    require_role(by, *_DECIDES)
    found = known(connection, code, lock=True)
    require_other(found.entered_by, by.login, f"deposit {code}")
    if found.station is not None and by.station == found.station:
        raise OperatorRefused(
            OperatorFault.ROLE_MISSING, f"{by.login} belongs to station {by.station}, whose deposits others approve"
        )
    _require_state(found, ENTERED)
    account, into = _account_of(connection, found), "clearing:bank"
    if found.bank == CASH:
        into = "cash:office"
    legs = entries.deposit(account, found.amount_minor, into)
    try:
        stations.post(connection, Post(txn_id, "deposit", legs, (account,), business_date, origin.at))
    except AccountClosed:
        raise StationRefused(
            StationFault.STATE, f"account {found.customer} was closed since: refuse the deposit and give the money back"
        ) from None
    _decide(connection, found, APPROVED, by, origin, txn_id=txn_id)
    _move_batch(connection, found, BANKED, {"state": CONFIRMED, "confirmed_at": origin.at}, origin)
    return known(connection, code)


def refuse(connection: sa.Connection, code: str, *, by: Operator, origin: Origin) -> Deposit:
    """Say that a deposit is not so: nothing is posted, and its slip may be entered anew. By FINANCE or SUPERVISOR.

    Whoever entered it may take it back so. Refuses UNKNOWN, STATE.
    """
    found = known(connection, code, lock=True)
    if by.login != found.entered_by:
        require_role(by, *_DECIDES)
    _require_state(found, ENTERED)
    _decide(connection, found, REFUSED, by, origin)
    _move_batch(connection, found, BANKED, _REOPENED, origin)
    return known(connection, code)


def reverse(
    connection: sa.Connection,
    code: str,
    txn_id: UUID,
    business_date: date,
    *,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> Deposit:
    """Undo an approved deposit by a new transaction that names the first, as for a cheque that was not paid.

    Two people. Refuses STATE, and FUNDS where the station no longer has the money.
    """
    second = stations.require_two(by, beside, "a deposit reversed")
    found = known(connection, code, lock=True)
    _require_state(found, APPROVED)
    assert found.txn_id is not None, "an approved deposit is posted"
    lock_balance(connection, _account_of(connection, found))
    try:
        carry_out(connection, Reverse(txn_id, found.txn_id, "deposit.reversal", business_date, origin.at))
    except Overdrawn:
        whose = f"station {found.station}" if found.station is not None else f"wallet {found.customer}"
        raise StationRefused(StationFault.FUNDS, f"{whose} no longer has this money") from None
    except AlreadyReversed:
        raise StationRefused(StationFault.STATE, f"deposit {code} is reversed already") from None
    _decide(connection, found, REVERSED, by, origin, reversal_id=txn_id, beside=second.login)
    _move_batch(connection, found, CONFIRMED, _REOPENED, origin)
    return known(connection, code)


def _account_of(connection: sa.Connection, found: Deposit) -> UUID:
    """The float, line of credit or wallet that a deposit is for."""
    if found.station is not None:
        return stations.known(connection, found.station).account_id
    assert found.customer is not None, "a deposit is a station's or a customer's"
    return customers.known(connection, found.customer).wallet_id


def _decide(
    connection: sa.Connection,
    found: Deposit,
    state: str,
    by: Operator,
    origin: Origin,
    *,
    beside: str | None = None,
    **ids: UUID,
) -> None:
    changes = {"state": state, "decided_by": by.login, "decided_at": origin.at, **ids}
    connection.execute(sa.update(deposit).where(deposit.c.id == found.id).values(**changes))
    after = {"state": state, **ids, **({"beside": beside} if beside else {})}
    before = {"state": found.state, "amount_minor": found.amount_minor, "entered_by": found.entered_by}
    audit.note(connection, origin, f"deposits.{state.lower()}", f"deposit {found.code}", before, after)


def _require_state(found: Deposit, state: str) -> None:
    if found.state != state:
        raise StationRefused(StationFault.STATE, f"deposit {found.code} is {found.state}, not {state}")


def _require_own(by: Operator, station: str) -> None:
    """Whoever belongs to a station enters for that station; FINANCE for any."""
    if not by.has(Role.FINANCE) and by.station != station:
        raise StationRefused(StationFault.STATE, f"{by.login} does not belong to station {station}")


# --- banking ----------------------------------------------------------------------------------------------------------

_REOPENED: Final[dict[str, Any]] = {
    "state": OPEN,
    "amount_minor": None,
    "banked_by": None,
    "banked_at": None,
    "deposit_id": None,
    "confirmed_at": None,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """A banking batch as stored, with its station's code, its deposit's, and its shifts'."""

    code: str
    station: str
    state: str
    amount_minor: int | None
    opened_by: str
    opened_at: datetime
    banked_by: str | None
    deposit: str | None
    shifts: tuple[str, ...]
    shifts_minor: int


def open_batch(
    connection: sa.Connection,
    new: New,
    station: str,
    shifts: Sequence[str],
    *,
    by: Operator,
    origin: Origin,
) -> Batch:
    """Gather closed shifts of a station, or all of them that are not banked, into a batch. By its people or FINANCE.

    Refuses UNKNOWN, STATE for a shift that is open or in another batch, NOTHING; FUNDS where their drawers have given
    out more than they took, for no bank takes that in.
    """
    require_role(by, *_ENTERS)
    _require_own(by, station)
    at = stations.known(connection, station, lock=True)
    h = shift.c
    held = (h.counted_cash_minor + h.counted_cheque_minor).label("held")
    free = sa.select(h.id, h.code, held).where(h.station_id == at.id, h.state != OPEN, h.batch_id.is_(None))
    if shifts:
        free = free.where(h.code.in_(shifts))
    found = connection.execute(free.order_by(h.code).with_for_update()).all()
    missing = sorted(set(shifts) - {row.code for row in found})
    if missing:
        raise StationRefused(
            StationFault.STATE, f"not a closed shift of {station} that is not in a batch yet: {', '.join(missing)}"
        )
    if not found:
        raise StationRefused(StationFault.NOTHING, f"station {station} has no closed shift that is not in a batch")
    held_minor = sum(int(row.held) for row in found)
    if held_minor < 0:
        names = ", ".join(row.code for row in found)
        raise StationRefused(
            StationFault.FUNDS,
            f"the drawers of {names} have given out {-held_minor} minor units more than they took: nothing goes to the"
            " bank until a later shift that took more is closed; put it into one batch with them",
        )
    row = {
        "id": new.id,
        "code": new.code,
        "station_id": at.id,
        "state": OPEN,
        "opened_by": by.login,
        "opened_at": origin.at,
    }
    insert_new(connection, banking_batch, [row], key="id")
    connection.execute(sa.update(shift).where(h.id.in_([row.id for row in found])).values(batch_id=new.id))
    after = {"station": station, "shifts": [row.code for row in found]}
    audit.note(connection, origin, "banking.opened", f"batch {new.code}", None, after)
    return batch_known(connection, new.code)


def bank(
    connection: sa.Connection,
    code: str,
    new: New,
    slip: Slip,
    *,
    by: Operator,
    origin: Origin,
) -> Batch:
    """The batch is at the bank: enter its slip as a deposit that another person approves.

    Refuses STATE, and FUNDS for a slip of another amount than the shifts' cash and cheques.
    """
    found = _locked_batch(connection, code)
    if found.state != OPEN:
        raise StationRefused(StationFault.STATE, f"batch {code} is {found.state}, not {OPEN}")
    if slip.amount_minor != found.shifts_minor:
        raise StationRefused(StationFault.FUNDS, f"the slip is not of the amount that batch {code} holds")
    entered = enter(connection, new, found.station, slip, by=by, origin=origin)
    b = banking_batch
    changes = {
        "state": BANKED,
        "amount_minor": slip.amount_minor,
        "banked_by": by.login,
        "banked_at": origin.at,
        "deposit_id": entered.id,
    }
    connection.execute(sa.update(b).where(b.c.code == code).values(**changes))
    after = {"state": BANKED, "amount_minor": slip.amount_minor, "deposit": entered.code}
    audit.note(connection, origin, "banking.banked", f"batch {code}", {"state": OPEN}, after)
    return batch_known(connection, code)


def require_money(connection: sa.Connection, code: str) -> int:
    """What a batch brings to the bank, above zero. Refuses UNKNOWN, and NOTHING where no slip can be of it."""
    found = batch_known(connection, code)
    if found.shifts_minor <= 0:
        raise StationRefused(
            StationFault.NOTHING, f"batch {code} has no money for the bank, so there is no slip: banking close {code}"
        )
    return found.shifts_minor


def close_batch(connection: sa.Connection, code: str, *, by: Operator, origin: Origin) -> Batch:
    """Confirm a batch that has neither cash nor cheques: no slip, no deposit, nothing is posted.

    Refuses UNKNOWN, STATE, and FUNDS for a batch with money.
    """
    require_role(by, *_ENTERS)
    found = _locked_batch(connection, code)
    _require_own(by, found.station)
    if found.state != OPEN:
        raise StationRefused(StationFault.STATE, f"batch {code} is {found.state}, not {OPEN}")
    if found.shifts_minor != 0:
        raise StationRefused(
            StationFault.FUNDS, f"batch {code} holds {found.shifts_minor} minor units: only one of nothing is closed"
        )
    b = banking_batch
    closed = {
        "state": CONFIRMED,
        "amount_minor": 0,
        "banked_by": by.login,
        "banked_at": origin.at,
        "confirmed_at": origin.at,
    }
    connection.execute(sa.update(b).where(b.c.code == code).values(**closed))
    after = {"state": CONFIRMED, "amount_minor": 0}
    audit.note(connection, origin, "banking.closed", f"batch {code}", {"state": OPEN}, after)
    return batch_known(connection, code)


def batch_known(connection: sa.Connection, code: str) -> Batch:
    """The banking batch of this code; refuses UNKNOWN."""
    found = batches(connection, code=code)
    if not found:
        raise StationRefused(StationFault.UNKNOWN, f"there is no banking batch {code}")
    return found[0]


def batches(connection: sa.Connection, *, code: str | None = None, station: str | None = None) -> list[Batch]:
    """The last hundred banking batches, oldest first."""
    b, s, h = banking_batch, tables.station, shift.c
    wanted = (
        sa.select(b, s.c.code.label("station"), deposit.c.code.label("deposit"))
        .join_from(b, s, s.c.id == b.c.station_id)
        .join(deposit, deposit.c.id == b.c.deposit_id, isouter=True)
    )
    for column, value in ((b.c.code, code), (s.c.code, station)):
        if value is not None:
            wanted = wanted.where(column == value)
    found = []
    for row in connection.execute(wanted.order_by(b.c.opened_at.desc()).limit(100)).mappings().all():
        in_it = connection.execute(
            sa.select(h.code, h.counted_cash_minor + h.counted_cheque_minor).where(h.batch_id == row["id"])
        ).all()
        names = tuple(sorted(one[0] for one in in_it))
        values = {name: row[name] for name in Batch.__slots__ if name not in ("shifts", "shifts_minor")}
        found.append(Batch(**values, shifts=names, shifts_minor=sum(int(one[1]) for one in in_it)))
    return found[::-1]


def _locked_batch(connection: sa.Connection, code: str) -> Batch:
    b = banking_batch.c
    connection.execute(sa.select(b.id).where(b.code == code).with_for_update()).all()
    return batch_known(connection, code)


def _move_batch(
    connection: sa.Connection, found: Deposit, state: str, changes: Mapping[str, Any], origin: Origin
) -> None:
    """Take the batch that a deposit belongs to along, if there is one."""
    b = banking_batch
    wanted = sa.select(b.c.code).where(b.c.deposit_id == found.id, b.c.state == state).with_for_update()
    code = connection.execute(wanted).scalar_one_or_none()
    if code is None:
        return
    connection.execute(sa.update(b).where(b.c.code == code).values(**changes))
    after = {"state": changes["state"], "deposit": found.code}
    audit.note(connection, origin, f"banking.{changes['state'].lower()}", f"batch {code}", {"state": state}, after)
