"""Corrections of sales by two people: what may be asked for, who asked, what another decided, and all of them.

Functions of the SQL transaction they are handed; they never commit. Nothing is edited: a correction is a row that names
its original, and its states are rows. What an approval does to money and tokens is `gateway/corrections.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, bank_batch, operators, tables
from ledger.audit import Origin
from ledger.correction_tables import correction, correction_state
from ledger.operators import Role
from ledger.record_tables import site_event
from ledger.records import SYSTEM_ACCOUNTS, ensure_accounts

ASKERS: Final = (Role.VENDOR, Role.SUPERVISOR, Role.SUPPORT, Role.FINANCE, Role.ENGINEER)
APPROVERS: Final = (Role.SUPERVISOR, Role.FINANCE)
STANDING: Final = ("VENDED", "DELIVERED")  # states of a purchase that can be corrected
REASON_MIN: Final = 5


class Kind(StrEnum):
    """What a correction does."""

    WRONG_METER = "WRONG_METER"  # bought for the wrong meter: the right one gets its energy, the wrong one owes it
    REFUND_MONEY = "REFUND_MONEY"  # an unused token's sale is undone, the money goes to its source
    REFUND_TOKEN = "REFUND_TOKEN"  # units worth an amount, given to the same meter
    FAULTY_METER = "FAULTY_METER"  # units lost in a faulty meter, given to the one in its place


class State(StrEnum):
    """How far a correction has come."""

    ASKED = "ASKED"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"


class CorrectionRefused(Exception):
    """The rules about corrections say no; the message says which and why. Nothing may be committed."""


class PaymentRefused(CorrectionRefused):
    """An account payment cannot be taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A correction as it is asked for. `details` are texts that the kind knows."""

    kind: Kind
    receipt: str
    amount_minor: int
    units_tenths: int
    drn: str
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """A correction as stored, with its latest state."""

    id: UUID
    code: str
    kind: Kind
    purchase_id: UUID
    receipt: str
    amount_minor: int
    units_tenths: int
    drn: str
    details: Mapping[str, str]
    asked_by: str
    asked_at: datetime
    reason: str
    state: State
    seq: int
    issue_id: UUID | None

    @property
    def account_code(self) -> str:
        """The account that holds what the case has to give."""
        return f"case:{self.code}"


@dataclass(frozen=True, slots=True)
class Step:
    """One state of a correction: who, when, from where, why."""

    state: str
    who: str
    at: datetime
    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Original:
    """The sale that is to be corrected."""

    id: UUID
    meter_id: UUID
    service_point_id: UUID
    amount_minor: int
    state: str
    is_correction: bool
    tariff_code: str | None
    channel: str


def original(connection: sa.Connection, receipt: str) -> Original:
    """The sale with this receipt, whose meter stays locked; CorrectionRefused if there is none that stands."""
    p = tables.purchase.c
    found = connection.execute(sa.select(p.meter_id).where(p.receipt == receipt)).scalar_one_or_none()
    if found is None:
        raise CorrectionRefused(f"no sale has the receipt {receipt}")
    # A reversal of the same sale, or another correction, waits here until this one is decided.
    connection.execute(sa.select(tables.meter.c.id).where(tables.meter.c.id == found).with_for_update())
    row = connection.execute(
        sa.select(
            p.id, p.meter_id, p.service_point_id, p.amount_minor, p.state, p.sale, p.tariff_code, p.channel
        ).where(p.receipt == receipt)
    ).one()
    if row.state not in STANDING:
        raise CorrectionRefused(f"the purchase of receipt {receipt} is {row.state}: only a sale can be corrected")
    return Original(
        row.id,
        row.meter_id,
        row.service_point_id,
        row.amount_minor,
        row.state,
        "case" in json.loads(row.sale or "{}"),
        row.tariff_code,
        row.channel,
    )


def ask(connection: sa.Connection, wish: Wish, new_id: UUID, code: str, currency: str, origin: Origin) -> Case:
    """Store the wish; the same wish again gives the case that there is. Audited.

    CorrectionRefused if another correction of the sale stands, or the wish does not fit the sale.
    """
    if len(origin.reason.strip()) < REASON_MIN:
        raise CorrectionRefused("a correction needs a --reason that others can judge by")
    sale = original(connection, wish.receipt)
    if sale.is_correction:
        raise CorrectionRefused(f"{wish.receipt} is itself a correction: correct the sale that it names")
    before = cases(connection, purchase_id=sale.id)
    for case in before:
        if case.state is not State.REFUSED:
            if _same(case, wish):
                return case
            raise CorrectionRefused(f"correction {case.code} ({case.kind}) of this sale stands already")
    _check(connection, wish, sale)
    own = [] if wish.kind is Kind.REFUND_MONEY else [f"case:{code}"]  # a refund goes where the sale's money came from
    ensure_accounts(connection, [*SYSTEM_ACCOUNTS, *own], currency)
    connection.execute(
        correction.insert().values(
            id=new_id,
            code=code,
            natural_key=f"{wish.receipt}#{len(before) + 1}",
            kind=wish.kind.value,
            purchase_id=sale.id,
            receipt=wish.receipt,
            amount_minor=wish.amount_minor,
            units_tenths=wish.units_tenths,
            drn=wish.drn,
            details=json.dumps(dict(wish.details), sort_keys=True),
            asked_by=origin.who,
            asked_at=origin.at,
            place=origin.place,
            reason=origin.reason,
        )
    )
    _enter(connection, new_id, 1, State.ASKED, origin)
    audit.note(
        connection,
        origin,
        deed="correction.asked",
        subject=f"correction {code}",
        after={
            "kind": wish.kind.value,
            "receipt": wish.receipt,
            "amount_minor": wish.amount_minor,
            "units_tenths": wish.units_tenths,
            "meter": wish.drn,
            **wish.details,
        },
    )
    return find(connection, code)


def _same(case: Case, wish: Wish) -> bool:
    return (case.kind, case.amount_minor, case.units_tenths, case.drn, dict(case.details)) == (
        wish.kind,
        wish.amount_minor,
        wish.units_tenths,
        wish.drn,
        dict(wish.details),
    )


def _check(connection: sa.Connection, wish: Wish, sale: Original) -> None:
    m = tables.meter.c
    own = connection.execute(sa.select(m.drn, m.status).where(m.id == sale.meter_id)).one()
    if not 0 < wish.amount_minor:
        raise CorrectionRefused(f"an amount above zero expected, got {wish.amount_minor} minor units")
    if wish.kind is not Kind.FAULTY_METER and wish.amount_minor > sale.amount_minor:
        raise CorrectionRefused(f"at most the {sale.amount_minor} minor units of the sale, got {wish.amount_minor}")
    if wish.kind is Kind.REFUND_MONEY:
        if wish.details.get("to") != "cash":
            require_source(sale.channel)
        return
    target = connection.execute(sa.select(m.drn, m.status, m.service_point_id).where(m.drn == wish.drn)).one_or_none()
    if target is None:
        raise CorrectionRefused(f"no meter {wish.drn}")
    if target.status != "INSTALLED" or target.service_point_id is None:
        raise CorrectionRefused(f"meter {wish.drn} is {target.status}: it can take no token")
    if wish.kind is Kind.WRONG_METER:
        if target.service_point_id == sale.service_point_id:
            raise CorrectionRefused(f"meter {wish.drn} is on the service point that the sale was for")
        if wish.details["wrong"] != "loss":
            owner = owner_then(connection, sale.id)
            require_there(owner, owner.is_there)
    if wish.kind is Kind.REFUND_TOKEN and wish.drn != own.drn:
        raise CorrectionRefused(f"units are given to the meter of the sale, {own.drn}, and no other")
    if wish.kind is Kind.FAULTY_METER:
        if target.drn == own.drn or own.status == "INSTALLED":
            raise CorrectionRefused(f"meter {own.drn} of the sale is {own.status}: a replaced one expected")
        if target.service_point_id != sale.service_point_id:
            raise CorrectionRefused(f"meter {wish.drn} is not in the place of {own.drn}: another service point")


def require_source(channel: str) -> None:
    """Refuse to give back to its source what a bank has debited: it never hears of it, and pays us all the same."""
    if channel == bank_batch.CHANNEL:
        raise CorrectionRefused("a bank has taken this money and is told of no refund: ask with --to cash")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a service point was when a sale was made: what the sale brought and cost is theirs."""

    customer_id: UUID
    account_no: str
    wallet_id: UUID
    is_there: bool  # still, now


def owner_then(connection: sa.Connection, purchase_id: UUID) -> Owner:
    """The customer whose service point it was when this sale was made, by the history of its transfers."""
    p, s, c, e = tables.purchase.c, tables.service_point.c, tables.customer.c, site_event.c
    sale = connection.execute(
        sa.select(p.service_point_id, p.accepted_at, s.customer_id)
        .join_from(tables.purchase, tables.service_point, s.id == p.service_point_id)
        .where(p.id == purchase_id)
    ).one()
    moved_out = connection.execute(
        sa.select(e.before)
        .where(e.service_point_id == sale.service_point_id, e.deed == "TRANSFER", e.at >= sale.accepted_at)
        .order_by(e.id)
        .limit(1)
    ).scalar_one_or_none()
    wanted = sa.select(c.id, c.account_no, c.wallet_id)
    row = connection.execute(
        wanted.where(c.id == sale.customer_id if moved_out is None else c.account_no == moved_out)
    ).one()
    return Owner(row.id, row.account_no, row.wallet_id, row.id == sale.customer_id)


def require_there(owner: Owner, is_there: bool) -> None:
    """Refuse that somebody else bears what the customer of a sale got."""
    if not is_there:
        raise CorrectionRefused(
            f"account {owner.account_no} has left the service point since this sale: whoever is there now owes nothing"
            " of it, so ask with --wrong loss"
        )


def require_reason(origin: Origin) -> None:
    """Refuse a decision of which nobody could read later why it was taken."""
    if not origin.reason.strip():
        raise CorrectionRefused("a --reason is expected: it goes into the audit log")


def refuse(connection: sa.Connection, code: str, origin: Origin) -> Case:
    """Another person says no; again changes nothing. CorrectionRefused once it is approved. Audited."""
    require_reason(origin)
    case = find(connection, code, lock=True)
    if case.state is State.REFUSED:
        return case
    if case.state is State.APPROVED:
        raise CorrectionRefused(f"correction {code} is approved already")
    operators.require_other(case.asked_by, origin.who, f"correction {code}")
    _enter(connection, case.id, case.seq + 1, State.REFUSED, origin)
    before, after = {"state": case.state.value}, {"state": State.REFUSED.value}
    audit.note(connection, origin, deed="correction.refused", subject=f"correction {code}", before=before, after=after)
    return find(connection, code)


def _enter(connection: sa.Connection, case_id: UUID, seq: int, state: State, origin: Origin) -> None:
    connection.execute(
        correction_state.insert().values(
            correction_id=case_id,
            seq=seq,
            state=state.value,
            who=origin.who,
            at=origin.at,
            place=origin.place,
            reason=origin.reason,
            issue_id=None,
        )
    )


def note_approval(connection: sa.Connection, case: Case, what: Mapping[str, Any], origin: Origin) -> None:
    """The audit row of an approval; its state was stored with what it did."""
    before, after = {"state": case.state.value}, {"state": State.APPROVED.value, **what}
    audit.note(
        connection, origin, deed="correction.approved", subject=f"correction {case.code}", before=before, after=after
    )


def find(connection: sa.Connection, code: str, *, lock: bool = False) -> Case:
    """The correction with this code; CorrectionRefused if there is none."""
    if lock:
        connection.execute(sa.select(correction.c.id).where(correction.c.code == code).with_for_update())
    found = cases(connection, code=code)
    if not found:
        raise CorrectionRefused(f"no correction {code}")
    return found[0]


def cases(
    connection: sa.Connection,
    *,
    code: str | None = None,
    purchase_id: UUID | None = None,
    state: State | None = None,
    at_most: int = 1_000,
) -> list[Case]:
    """Corrections with their latest state, the oldest first."""
    c, s, later = correction.c, correction_state.c, correction_state.alias()
    last = sa.select(sa.func.max(later.c.seq)).where(later.c.correction_id == c.id).scalar_subquery()
    query = sa.select(correction, s.state, s.seq, s.issue_id).join_from(
        correction, correction_state, sa.and_(s.correction_id == c.id, s.seq == last)
    )
    if code is not None:
        query = query.where(c.code == code)
    if purchase_id is not None:
        query = query.where(c.purchase_id == purchase_id)
    if state is not None:
        query = query.where(s.state == state.value)
    return [
        Case(
            row.id,
            row.code,
            Kind(row.kind),
            row.purchase_id,
            row.receipt,
            row.amount_minor,
            row.units_tenths,
            row.drn,
            json.loads(row.details),
            row.asked_by,
            row.asked_at,
            row.reason,
            State(row.state),
            row.seq,
            row.issue_id,
        )
        for row in connection.execute(query.order_by(c.id).limit(at_most))
    ]


def steps(connection: sa.Connection, case_id: UUID) -> Sequence[Step]:
    """The states of a correction, the first first."""
    s = correction_state.c
    rows = connection.execute(
        sa.select(s.state, s.who, s.at, s.place, s.reason).where(s.correction_id == case_id).order_by(s.seq)
    )
    return [Step(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Addressee:
    """A customer's phone and the language it is written to."""

    msisdn: str
    language: str | None


def phone_of(connection: sa.Connection, customer_id: UUID) -> Addressee | None:
    """The first phone of a customer."""
    f, c = tables.phone.c, tables.customer.c
    row = connection.execute(
        sa.select(f.msisdn, f.language, c.language)
        .join_from(tables.phone, tables.customer, c.id == f.customer_id)
        .where(f.customer_id == customer_id)
        .order_by(f.msisdn)
        .limit(1)
    ).one_or_none()
    return Addressee(row[0], row[1] or row[2]) if row is not None else None


def addressee(connection: sa.Connection, drn: str) -> Addressee | None:
    """Whom to tell of a token for this meter: the first phone of its customer."""
    s, m = tables.service_point.c, tables.meter.c
    query = sa.select(s.customer_id).join_from(tables.meter, tables.service_point, s.id == m.service_point_id)
    customer_id = connection.execute(query.where(m.drn == drn)).scalar_one_or_none()
    return phone_of(connection, customer_id) if customer_id is not None else None
