"""Debts and the agreements to pay them: added, changed, suspended, written off, listed by age.

Functions of the SQL transaction they are handed; they never commit. A debt is money in the books: what all debts have
outstanding is what the arrears account holds, whatever was added, recovered by sales or written off. Sales recover
debts by R5 of `ledger/pricing.py`; nothing here takes a customer's money.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import books, changes, entries, tables
from ledger.changes import Act, ChangeRefused, Fault, Site
from ledger.operators import OperatorFault, OperatorRefused, Role, require_other, require_role
from ledger.pricing import DebtMode
from ledger.records import ensure_accounts, insert_new

MAY_CHANGE: Final = (Role.FINANCE, Role.SUPERVISOR)
AMOUNT_MAX_MINOR: Final = 10**12
PRIORITY_MAX: Final = 999

ACTIVE: Final = "ACTIVE"
SUSPENDED: Final = "SUSPENDED"  # disputed: nothing is taken
WRITTEN_OFF: Final = "WRITTEN_OFF"


class Kind(StrEnum):
    """Where a debt comes from."""

    OLD_BILL = "OLD_BILL"
    CONNECTION_FEE = "CONNECTION_FEE"
    PRELOADED_UNITS = "PRELOADED_UNITS"
    TAMPER_FINE = "TAMPER_FINE"
    RECONNECTION = "RECONNECTION"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a debt is paid. `instalment_minor` is per calendar month, for FIXED; `percent` of a purchase, for PERCENT.

    `number`, `signed_on` and `default_rule` (what happens if it is not kept) are of the signed paper, if there is one.
    """

    priority: int
    mode: DebtMode
    instalment_minor: int = 0
    percent: str = "0"
    number: str | None = None
    signed_on: date | None = None
    default_rule: str | None = None


@dataclass(frozen=True, slots=True)
class Debt:
    """A debt as stored, with its place."""

    id: UUID
    code: str
    service_point_id: UUID
    kind: str
    priority: int
    mode: str
    outstanding_minor: int
    instalment_minor: int
    percent: str
    status: str
    recovered_this_month_minor: int
    opened_on: date | None
    agreement_no: str | None
    signed_on: date | None
    default_rule: str | None
    approved_by: str | None

    @property
    def state(self) -> str:
        """The status, or PAID when nothing is left to pay."""
        return "PAID" if self.status != WRITTEN_OFF and not self.outstanding_minor else self.status

    def age_days(self, today: date) -> int | None:
        """Days since it was opened; None if that is not known."""
        return None if self.opened_on is None else (today - self.opened_on).days

    def age(self, today: date) -> str:
        """The age as reports group it."""
        days = self.age_days(today)
        if days is None:
            return "unknown"
        for least, most in ((0, 30), (31, 60), (61, 90)):
            if days <= most:
                return f"{least} to {most} days"
        return "over 90 days"


_COLUMNS = [tables.debt.c[name] for name in Debt.__slots__]


def known(connection: sa.Connection, code: str) -> Debt:
    """The debt with this code; refuses UNKNOWN."""
    row = connection.execute(sa.select(*_COLUMNS).where(tables.debt.c.code == code)).one_or_none()
    if row is None:
        raise ChangeRefused(Fault.UNKNOWN, f"no debt {code}")
    return Debt(*row)


def add(
    connection: sa.Connection,
    act: Act,
    code: str,
    *,
    point: str,
    kind: str,
    amount_minor: int,
    agreement: Agreement,
    opened_on: date | None = None,
) -> Debt:
    """Add a debt to a service point and to the books. It is recovered from the next purchases on.

    Refuses ROLE_MISSING, REASON, FORM, UNKNOWN, EXISTS, CLOSED.
    """
    act.require(*MAY_CHANGE)
    changes.code("debt", code)
    if kind not in set(Kind):
        raise ChangeRefused(Fault.FORM, f"kind: one of {', '.join(Kind)} expected, got {kind!r}")
    _require_amount(amount_minor)
    opened = opened_on or act.today
    if opened > act.today:
        raise ChangeRefused(Fault.FORM, f"opened on: {act.today} or a day before it expected, got {opened}")
    terms = _formed(agreement)
    site = changes.lock_sites(connection, [point])[point]
    c = tables.customer.c
    owner = sa.select(c.account_no, c.status).where(c.id == site.point.customer_id)
    account_no, status = connection.execute(owner).one()
    if status == "CLOSED":
        raise ChangeRefused(Fault.CLOSED, f"account {account_no} is closed")
    row = {
        "id": act.new_id(),
        "code": code,
        "service_point_id": site.point.id,
        "kind": kind,
        "outstanding_minor": amount_minor,
        "status": ACTIVE,
        "recovered_this_month_minor": 0,
        "opened_on": opened,
        "approved_by": _approver(act),
        **terms,
    }
    if not insert_new(connection, tables.debt, [row], key="code"):
        raise ChangeRefused(Fault.EXISTS, f"there is a debt {code} already")
    ensure_accounts(connection, ["receivable:arrears", f"charged:{kind.lower()}"], act.currency)
    txn_id = _post(connection, act, "debt", entries.debt_charged(kind, amount_minor))
    debt = known(connection, code)
    after = {**_seen(debt), "service_point": point, "account_no": account_no, "txn": txn_id}
    changes.note(connection, act, "debts.added", _subject(code), None, after)
    return debt


def change(connection: sa.Connection, act: Act, code: str, **values: Any) -> Debt:
    """Change terms of the agreement: fields of `Agreement`. What is owed stays as it is.

    A purchase whose token is being made was priced on the terms before. Refuses ROLE_MISSING, REASON, UNKNOWN, FORM,
    STATUS, SAME.
    """
    act.require(*MAY_CHANGE)
    before, _ = _locked(connection, code)
    if before.state in (WRITTEN_OFF, "PAID"):
        raise ChangeRefused(Fault.STATUS, f"debt {code} is {before.state}: there is nothing to agree on")
    present = {
        "priority": before.priority,
        "mode": DebtMode(before.mode),
        "instalment_minor": before.instalment_minor,
        "percent": before.percent,
        "number": before.agreement_no,
        "signed_on": before.signed_on,
        "default_rule": before.default_rule,
    }
    terms = _formed(Agreement(**{**present, **values}))
    if all(getattr(before, name) == value for name, value in terms.items()):
        raise ChangeRefused(Fault.SAME, "nothing would change")
    return _store(connection, act, "debts.changed", before, {**terms, "approved_by": _approver(act)})


def suspend(connection: sa.Connection, act: Act, code: str) -> Debt:
    """Take nothing for this debt until it is resumed, as while it is disputed. Refuses as `change`."""
    return _turn(connection, act, code, ACTIVE, SUSPENDED, "debts.suspended")


def resume(connection: sa.Connection, act: Act, code: str) -> Debt:
    """Go on recovering a suspended debt. Refuses as `change`."""
    return _turn(connection, act, code, SUSPENDED, ACTIVE, "debts.resumed")


def write_off(connection: sa.Connection, act: Act, code: str, amount_minor: int | None = None) -> Debt:
    """Give up a debt, or part of it, in the records and in the books; by two people.

    `act.by` asks, `act.beside` approves; each is FINANCE or SUPERVISOR and they are not the same. Refuses ROLE_MISSING,
    SECOND, SAME_PERSON, REASON, UNKNOWN, STATUS, FORM, and POINT_BUSY, since a purchase under way may be paying it.
    """
    act.require(*MAY_CHANGE)
    if act.beside is None:
        raise OperatorRefused(OperatorFault.SECOND, "writing off a debt: a second person is needed")
    require_other(act.by.login, act.beside.login, "writing off a debt")
    require_role(act.beside, *MAY_CHANGE)
    before, site = _locked(connection, code)
    changes.require_idle(connection, site)
    if not before.outstanding_minor:
        raise ChangeRefused(Fault.STATUS, f"debt {code} is {before.state}: nothing is outstanding")
    given_up = before.outstanding_minor if amount_minor is None else amount_minor
    _require_amount(given_up)
    if given_up > before.outstanding_minor:
        raise ChangeRefused(Fault.FORM, "amount: not more than is outstanding expected")
    left = before.outstanding_minor - given_up
    ensure_accounts(connection, ["receivable:arrears", "expense:written_off"], act.currency)
    txn_id = _post(connection, act, "write_off", entries.debt_written_off(given_up))
    if not left:
        # Undoing a sale that had paid some of it would leave money owed on a debt that nobody collects.
        s = tables.service_point
        connection.execute(s.update().where(s.c.id == site.point.id).values(last_sale=None))
    return _store(
        connection,
        act,
        "debts.written_off",
        before,
        {"outstanding_minor": left, "status": before.status if left else WRITTEN_OFF},
        {"amount_minor": given_up, "txn": txn_id, "approved": act.beside.login},
    )


def of_customer(connection: sa.Connection, account_no: str) -> list[tuple[str, Debt]]:
    """The debts of a customer's service points, each with its place, in the order in which they are recovered."""
    s, c, d = tables.service_point.c, tables.customer.c, tables.debt.c
    rows = connection.execute(
        sa.select(s.code, *_COLUMNS)
        .join_from(tables.debt, tables.service_point, d.service_point_id == s.id)
        .join(tables.customer, s.customer_id == c.id)
        .where(c.account_no == account_no)
        .order_by(s.code, d.priority, d.code)
    )
    return [(row[0], Debt(*row[1:])) for row in rows]


# --- inside -----------------------------------------------------------------------------------------------------------


def _locked(connection: sa.Connection, code: str) -> tuple[Debt, Site]:
    """The debt as it is under the lock of its service point, which every sale takes too."""
    point_id = known(connection, code).service_point_id
    (site,) = changes.lock_points(connection, [point_id]).values()
    debt = known(connection, code)
    if debt.service_point_id != point_id:
        raise ChangeRefused(Fault.POINT_BUSY, f"debt {code} has just been moved; try again")
    return debt, site


def _turn(connection: sa.Connection, act: Act, code: str, before: str, after: str, deed: str) -> Debt:
    act.require(*MAY_CHANGE)
    debt, _ = _locked(connection, code)
    if debt.state != before:
        raise ChangeRefused(Fault.STATUS, f"debt {code} is {debt.state}; {before} expected")
    return _store(connection, act, deed, debt, {"status": after})


def _store(
    connection: sa.Connection,
    act: Act,
    deed: str,
    before: Debt,
    values: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> Debt:
    connection.execute(tables.debt.update().where(tables.debt.c.id == before.id).values(**values))
    after = known(connection, before.code)
    changes.note(connection, act, deed, _subject(before.code), _seen(before), {**_seen(after), **(more or {})})
    return after


def _post(connection: sa.Connection, act: Act, kind: str, postings: tuple[entries.Posting, ...]) -> UUID:
    txn_id = act.new_id()
    books.record(connection, txn_id, kind, postings, business_date=act.today, recorded_at=act.origin.at)
    return txn_id


def _approver(act: Act) -> str | None:
    """Who agreed to the terms beside the one who enters them; never the same person."""
    if act.beside is None:
        return None
    require_other(act.by.login, act.beside.login, "approving an agreement")
    require_role(act.beside, *MAY_CHANGE)
    return act.beside.login


def _require_amount(amount_minor: int) -> None:
    if not 1 <= amount_minor <= AMOUNT_MAX_MINOR:
        raise ChangeRefused(Fault.FORM, "amount: more than zero, and not beyond any bill, expected")


def _formed(agreement: Agreement) -> dict[str, Any]:
    """The terms as columns; refuses FORM for terms that could not be kept."""
    if not 0 <= agreement.priority <= PRIORITY_MAX:
        raise ChangeRefused(Fault.FORM, f"priority: 0 to {PRIORITY_MAX} expected, got {agreement.priority}")
    percent = _percent(agreement.percent)
    if agreement.mode is DebtMode.PERCENT and not 0 < percent <= 100:
        raise ChangeRefused(Fault.FORM, f"percent: more than 0 and at most 100 expected, got {agreement.percent}")
    if agreement.mode is DebtMode.PERCENT and percent < 1:
        raise ChangeRefused(Fault.FORM, f"percent: 30 means 30 %; {agreement.percent} would be less than one percent")
    if agreement.mode is DebtMode.FIXED and not 1 <= agreement.instalment_minor <= AMOUNT_MAX_MINOR:
        raise ChangeRefused(Fault.FORM, "instalment: more than zero a month expected")
    return {
        "priority": agreement.priority,
        "mode": agreement.mode.value,
        "instalment_minor": agreement.instalment_minor if agreement.mode is DebtMode.FIXED else 0,
        "percent": f"{percent:f}" if agreement.mode is DebtMode.PERCENT else "0",
        "agreement_no": None if agreement.number is None else changes.code("agreement", agreement.number),
        "signed_on": agreement.signed_on,
        "default_rule": None
        if agreement.default_rule is None
        else changes.line("default rule", agreement.default_rule, 200),
    }


def _percent(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    exponent = value.as_tuple().exponent
    if not value.is_finite() or not isinstance(exponent, int) or not -4 <= exponent <= 3 or value < 0:
        raise ChangeRefused(Fault.FORM, f"percent: a decimal such as 30 or 12.5 expected, got {text!r}")
    return value


def _seen(debt: Debt) -> dict[str, Any]:
    return {name: getattr(debt, name) for name in Debt.__slots__ if name not in ("id", "code", "service_point_id")}


def _subject(code: str) -> str:
    return f"debt {code}"
