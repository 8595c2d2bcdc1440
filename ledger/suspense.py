"""What people do about money in suspense: listed, resolved by two, given back to its source under a key of its own.

Functions of the SQL transaction they are handed; they never commit. One person asks, another approves; money moves in
the transaction that approves, or, where it goes back to its source, in the one that stores the source's word that it
has gone. Where the source never says how a refund went, two people of FINANCE end it by what they have seen there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, books, customers, entries, tables
from ledger.accounts import id_of
from ledger.audit import Origin
from ledger.corrections import CorrectionRefused, require_reason
from ledger.customers import CLOSED
from ledger.operators import Operator, Role, require_other, require_role
from ledger.payment_rows import ASKED, OPEN, REFUNDING, RESOLVED, Resolution, SuspenseRow
from ledger.payment_tables import payment, source_refund, suspense, suspense_step
from ledger.records import ensure_accounts

WALLET: Final = "WALLET"
REFUND: Final = "REFUND"
WRITE_OFF: Final = "WRITE_OFF"
PAY_OUT: Final = "PAY_OUT"
REFUND_DONE: Final = "REFUND_DONE"
REFUND_NOT_DONE: Final = "REFUND_NOT_DONE"
_ENDS: Final = (REFUND_DONE, REFUND_NOT_DONE)
"""How people end a refund whose source does not say how it went."""
QUIET: Final = timedelta(minutes=2)
"""No source is asked for a refund while people decide how it went; by then, what was under way has ended too."""
REFERENCE_MAX: Final = 64
SOURCE: Final = "source"
PAID_OUT_BY: Final = (*customers.PAID_OUT_BY, SOURCE)
"""By what money is given back by hand: the office's cash, the bank, or the source, in its own portal."""

_DECIDES: Final = (Role.FINANCE, Role.SUPERVISOR)
_LOOKS: Final = (Role.FINANCE, Role.SUPERVISOR, Role.SUPPORT, Role.AUDITOR)
LOSS: Final = "loss:payments"


class SuspenseRefused(CorrectionRefused):
    """The rules about suspense say no; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A step that people took on an item."""

    step: str
    how: str
    target: str
    who: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back to a payer, as stored."""

    id: UUID
    item_id: UUID
    source: str
    receipt: str
    payer: str
    amount_minor: int
    currency: str
    state: str
    provider_ref: str
    why: str | None
    created_at: datetime
    closed_at: datetime | None
    tries: int
    next_ask_at: datetime | None


class Word(StrEnum):
    """What a source's last word on a refund came to."""

    ENDED = "ENDED"  # it is the end
    KNOWN = "KNOWN"  # it had ended so
    CONTRADICTS = "CONTRADICTS"  # it had ended otherwise, by hand: on record, and booked where that still could be


def may_look(by: Operator) -> None:
    """Refuse ROLE_MISSING to whoever has no business with customers' money."""
    require_role(by, *_LOOKS)


def listed(
    connection: sa.Connection, *, source: str | None = None, state: str | None = None, at_most: int = 1_000
) -> list[SuspenseRow]:
    """Items in suspense, the oldest first; those that are resolved only where `state` asks for them."""
    s = suspense.c
    wanted = sa.select(*(s[name] for name in SuspenseRow.__slots__))
    wanted = wanted.where(s.state == state) if state is not None else wanted.where(s.state != RESOLVED)
    if source is not None:
        wanted = wanted.where(s.source == source)
    return [SuspenseRow(*row) for row in connection.execute(wanted.order_by(s.opened_at, s.id).limit(at_most))]


def known(connection: sa.Connection, code: str, *, lock: bool = False) -> SuspenseRow:
    """The item of this code; refuses one that is not there. `lock`: nobody else decides on it meanwhile."""
    wanted = sa.select(*(suspense.c[name] for name in SuspenseRow.__slots__)).where(suspense.c.code == code.upper())
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise SuspenseRefused(f"nothing in suspense is called {code}")
    return SuspenseRow(*row)


def decisions(connection: sa.Connection, item_id: UUID) -> list[Decision]:
    """What people decided on an item, in order."""
    d = suspense_step.c
    wanted = sa.select(d.step, d.how, d.target, d.who, d.reason, d.at).where(d.item_id == item_id).order_by(d.seq)
    return [Decision(*row) for row in connection.execute(wanted)]


def receipt_of(connection: sa.Connection, item: SuspenseRow) -> str:
    """What the source calls the payment of an item."""
    wanted = sa.select(payment.c.receipt).where(payment.c.id == item.payment_id)
    return connection.execute(wanted).scalar_one() or ""


def ask(connection: sa.Connection, code: str, how: str, target: str, *, by: Operator, origin: Origin) -> SuspenseRow:
    """Ask for an item to be resolved; another person approves. Moves no money.

    `how`: WALLET, `target` being the account number of a customer; REFUND to its source; PAY_OUT by hand, `target` one
    of PAID_OUT_BY; WRITE_OFF of what the source took back.
    """
    require_role(by, *_DECIDES)
    item = known(connection, code, lock=True)
    _require_state(item, OPEN)
    require_reason(origin)
    if (how == WRITE_OFF) != (item.amount_minor < 0):
        raise SuspenseRefused("only what its source took back is written off, and nothing else is done with it")
    if how == WALLET:
        _wallet(connection, target)
    elif how == PAY_OUT:
        assert target in PAID_OUT_BY
    elif how == REFUND and not receipt_of(connection, item):
        raise SuspenseRefused("its source named no receipt for it, so it cannot be given back there")
    _decided(connection, item, "ASKED", how, target, by, origin, {"state": ASKED})
    return known(connection, code)


def refuse(connection: sa.Connection, code: str, *, by: Operator, origin: Origin) -> SuspenseRow:
    """Refuse what was asked for, also a refund that was approved and never sent; the item is open again.

    Where it was asked to end a refund, that goes on instead.
    """
    require_role(by, *_DECIDES)
    require_reason(origin)
    item, refund = _with_refund(connection, code)
    last = decisions(connection, item.id)[-1:]
    if refund is not None and _is_asked_to_end(last):
        again = source_refund.update().where(source_refund.c.id == refund["id"])
        connection.execute(again.values(next_ask_at=origin.at))
        _decided(connection, item, "REFUSED", last[0].how, last[0].target, by, origin, {"state": REFUNDING})
        return known(connection, code)
    if item.state == REFUNDING:
        _take_back_unsent(connection, item, origin.at)
    else:
        _require_state(item, ASKED)
    _decided(connection, item, "REFUSED", last[0].how, last[0].target, by, origin, {"state": OPEN})
    return known(connection, code)


def _take_back_unsent(connection: sa.Connection, item: SuspenseRow, now: datetime) -> None:
    """End the refund of an item that no gateway has taken up yet; refused where its source may have it."""
    r = source_refund.c
    unsent = sa.and_(r.item_id == item.id, r.state == "OWED", r.tries == 0)
    ended = {"state": "FAILED", "why": "REFUSED", "closed_at": now, "next_ask_at": None}
    if connection.execute(source_refund.update().where(unsent).values(**ended)).rowcount != 1:
        raise SuspenseRefused(f"suspense {item.code} is {item.state}, and its source may have it: wait for its word")


def approve(
    connection: sa.Connection, code: str, new_id: UUID, today: date, *, by: Operator, origin: Origin
) -> SuspenseRow:
    """Approve what another person asked for, and post it; a refund is owed to its source under the key `new_id`."""
    require_role(by, *_DECIDES)
    require_reason(origin)
    item, refund = _with_refund(connection, code)
    if refund is not None and _is_asked_to_end(decisions(connection, item.id)[-1:]):
        _end_by_hand(connection, item, refund, new_id, today, by, origin)
        return known(connection, code)
    _require_state(item, ASKED)
    asked = decisions(connection, item.id)[-1]
    require_other(asked.who, by.login, f"suspense {item.code}")
    if asked.how == REFUND:
        _decided(connection, item, "APPROVED", asked.how, asked.target, by, origin, {"state": REFUNDING})
        connection.execute(
            source_refund.insert().values(
                id=new_id,
                item_id=item.id,
                source=item.source,
                receipt=receipt_of(connection, item),
                payer=item.payer,
                amount_minor=item.amount_minor,
                currency=item.currency,
                state="OWED",
                provider_ref="",
                created_at=origin.at,
                tries=0,
                next_ask_at=origin.at,
            )
        )
        return known(connection, code)
    aside = id_of(f"suspense:{item.source}")
    if asked.how == WALLET:
        postings, resolution = entries.moved(aside, _wallet(connection, asked.target), item.amount_minor), "WALLET"
    elif asked.how == PAY_OUT:
        by_what = customers.PAID_OUT_BY.get(asked.target, f"clearing:{item.source}")
        ensure_accounts(connection, [by_what], item.currency)
        postings, resolution = entries.moved(aside, id_of(by_what), item.amount_minor), "PAID_OUT"
    else:
        ensure_accounts(connection, [LOSS], item.currency)
        postings, resolution = entries.moved(id_of(LOSS), aside, -item.amount_minor), "WRITTEN_OFF"
    try:
        books.record(connection, new_id, "suspense_resolved", postings, business_date=today, recorded_at=origin.at)
    except books.AccountClosed:
        raise SuspenseRefused(
            f"account {asked.target} was closed since: refuse what was asked for, and ask anew"
        ) from None
    values = _resolved(Resolution(resolution), new_id, by.login, origin.at)
    _decided(connection, item, "APPROVED", asked.how, asked.target, by, origin, values)
    return known(connection, code)


def _resolved(resolution: Resolution, txn_id: UUID, by: str, at: datetime) -> dict[str, Any]:
    return {
        "state": RESOLVED,
        "resolution": resolution.value,
        "resolved_txn": txn_id,
        "resolved_by": by,
        "resolved_at": at,
    }


def _require_state(item: SuspenseRow, state: str) -> None:
    if item.state != state:
        raise SuspenseRefused(f"suspense {item.code} is {item.state}, not {state}")


def _wallet(connection: sa.Connection, account_no: str) -> UUID:
    c = tables.customer.c
    found = connection.execute(sa.select(c.wallet_id, c.status).where(c.account_no == account_no)).one_or_none()
    if found is None:
        raise SuspenseRefused(f"no customer has the account number {account_no}")
    if found.status == CLOSED:
        raise SuspenseRefused(f"account {account_no} is closed: its wallet takes nothing more")
    return UUID(str(found.wallet_id))


def _decided(
    connection: sa.Connection,
    item: SuspenseRow,
    step: str,
    how: str,
    target: str,
    by: Operator,
    origin: Origin,
    values: Mapping[str, Any],
) -> None:
    _step(connection, item.id, step, how, target, by.login, origin.reason, origin.at)
    connection.execute(suspense.update().where(suspense.c.id == item.id).values(**values))
    after = {"state": values["state"], "how": how, "target": target, "amount_minor": item.amount_minor}
    audit.note(connection, origin, f"suspense.{step.lower()}", f"suspense {item.code}", {"state": item.state}, after)


def _step(
    connection: sa.Connection, item_id: UUID, step: str, how: str, target: str, who: str, reason: str, at: datetime
) -> None:
    d = suspense_step.c
    last = connection.execute(sa.select(sa.func.max(d.seq)).where(d.item_id == item_id)).scalar_one()
    connection.execute(
        suspense_step.insert().values(
            item_id=item_id, seq=(last or 0) + 1, step=step, how=how, target=target, who=who, reason=reason, at=at
        )
    )


# --- refunds to the source --------------------------------------------------------------------------------------------


def claim_refunds(
    connection: sa.Connection, *, sources: Sequence[str], now: datetime, lease_until: datetime, at_most: int
) -> list[Refund]:
    """Take up refunds that are due; nobody else does until the lease runs out."""
    r = source_refund.c
    due = (
        sa.select(*(r[name] for name in Refund.__slots__))
        .where(r.source.in_(sources), r.next_ask_at <= now)
        .order_by(r.next_ask_at)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    found = [Refund(*row) for row in connection.execute(due)]
    if found:
        wanted = r.id.in_([one.id for one in found])
        connection.execute(
            source_refund.update().where(wanted).values(next_ask_at=lease_until, tries=source_refund.c.tries + 1)
        )
    return found


def refund_goes_on(
    connection: sa.Connection, refund_id: UUID, state: str, provider_ref: str, next_ask_at: datetime
) -> None:
    """The source has it (ASKED), may have it (UNCLEAR), or never had it (OWED): it is asked again then."""
    r = source_refund.c
    # While people decide how it went there is no next time.
    again = sa.case((r.next_ask_at.is_(None), sa.null()), else_=sa.literal(next_ask_at, r.next_ask_at.type))
    values: dict[str, Any] = {"state": state, "next_ask_at": again}
    if provider_ref:
        values["provider_ref"] = provider_ref
    connection.execute(
        source_refund.update().where(r.id == refund_id, r.state.in_(("OWED", "ASKED", "UNCLEAR"))).values(**values)
    )


def refund_ended(
    connection: sa.Connection, refund_id: UUID, why: str | None, txn_id: UUID, today: date, now: datetime, place: str
) -> Word:
    """The source has given it back (`why` None), which is posted; or it will not, and the item is open again.

    A source that will not, for it took the money back of its own accord, leaves nothing to decide on. Word of a refund
    that has ended otherwise is in the audit log, `place` being the node that heard it.
    """
    r = source_refund.c
    row = connection.execute(sa.select(source_refund).where(r.id == refund_id).with_for_update()).mappings().one()
    if row["state"] in ("DONE", "FAILED"):
        return _late(connection, row, why, txn_id, today, Origin(row["source"], now, place))
    ended = {"state": "DONE" if why is None else "FAILED", "why": why, "closed_at": now, "next_ask_at": None}
    connection.execute(source_refund.update().where(r.id == refund_id).values(**ended))
    if why is None:
        by = [one.who for one in decisions(connection, row["item_id"]) if one.step == "APPROVED"][-1]
        _gone(connection, row, Resolution.REFUNDED, by, txn_id, today, now)
        return Word.ENDED
    _step(connection, row["item_id"], "FAILED", REFUND, row["payer"], row["source"], why, now)
    if is_taken_back(connection, row["item_id"], lock=True):
        _gone(connection, row, Resolution.REVERSED, row["source"], txn_id, today, now)
    else:
        connection.execute(suspense.update().where(suspense.c.id == row["item_id"]).values(state=OPEN))
    return Word.ENDED


def _gone(
    connection: sa.Connection,
    refund: sa.RowMapping,
    resolution: Resolution,
    by: str,
    txn_id: UUID,
    today: date,
    now: datetime,
) -> None:
    """The money of an item has left the clearing of its source: post it, and the item is resolved."""
    aside, clearing = id_of(f"suspense:{refund['source']}"), id_of(f"clearing:{refund['source']}")
    kind = "payment_refunded" if resolution is Resolution.REFUNDED else "payment_reversed"
    postings = entries.moved(aside, clearing, refund["amount_minor"])
    books.record(connection, txn_id, kind, postings, business_date=today, recorded_at=now)
    of_item = suspense.c.id == refund["item_id"]
    connection.execute(suspense.update().where(of_item).values(**_resolved(resolution, txn_id, by, now)))


def _late(
    connection: sa.Connection, refund: sa.RowMapping, why: str | None, txn_id: UUID, today: date, origin: Origin
) -> Word:
    """Word of a refund that has ended: nothing new, or on record against what was decided.

    What the source has given back all the same is booked while the item is still there; never a second time.
    """
    if (why is None) == (refund["state"] == "DONE"):
        return Word.KNOWN
    s = suspense.c
    item = connection.execute(
        sa.select(s.code, s.state).where(s.id == refund["item_id"]).with_for_update()
    ).one()  # fmt: skip
    _step(connection, refund["item_id"], "LATE", REFUND, refund["payer"], origin.who, why or "DONE", origin.at)
    is_booked = why is None and item.state in (OPEN, ASKED)
    if is_booked:
        done = {"state": "DONE", "why": None, "closed_at": origin.at}
        connection.execute(source_refund.update().where(source_refund.c.id == refund["id"]).values(**done))
        _gone(connection, refund, Resolution.REFUNDED, refund["source"], txn_id, today, origin.at)
    before = {"refund": refund["state"], "item": item.state}
    after = {"said": why or "DONE", "is_booked": is_booked, "amount_minor": refund["amount_minor"]}
    audit.note(connection, origin, "suspense.refund_late", f"suspense {item.code}", before, after)
    return Word.CONTRADICTS


# --- refunds of which their source does not say how they went ---------------------------------------------------------


def ask_end(
    connection: sa.Connection, code: str, how: str, target: str, *, by: Operator, origin: Origin
) -> SuspenseRow:
    """Ask to end a refund by what was seen at its source; another person of FINANCE approves. Moves no money.

    `how`: REFUND_DONE, `target` being what the source calls the refund; or REFUND_NOT_DONE. The source is not asked
    any more until somebody approves or refuses.
    """
    require_role(by, Role.FINANCE)
    assert how in _ENDS
    item, refund = _with_refund(connection, code)
    if refund is None:
        raise SuspenseRefused(f"suspense {item.code} is {item.state}, not {REFUNDING}: there is no refund to end")
    if _is_asked_to_end(decisions(connection, item.id)[-1:]):
        raise SuspenseRefused(f"to end the refund of suspense {item.code} was asked for already: approve or refuse it")
    if refund["state"] == "OWED" and not refund["tries"]:
        raise SuspenseRefused(f"the refund of suspense {item.code} was never sent: suspense refuse {item.code} ends it")
    require_reason(origin)
    if how == REFUND_DONE and not (target.isprintable() and 0 < len(target.strip()) <= REFERENCE_MAX):
        raise SuspenseRefused(f"what its source calls the refund expected, at most {REFERENCE_MAX} characters")
    _require_end(connection, item, refund, how, target)
    held = source_refund.update().where(source_refund.c.id == refund["id"])
    connection.execute(held.values(next_ask_at=None))
    _decided(connection, item, "ASKED", how, target.strip(), by, origin, {"state": REFUNDING})
    return known(connection, code)


def refunds_of(connection: sa.Connection, item_id: UUID) -> list[Refund]:
    """The refunds of an item, the oldest first."""
    r = source_refund.c
    wanted = sa.select(*(r[name] for name in Refund.__slots__)).where(r.item_id == item_id).order_by(r.created_at, r.id)
    return [Refund(*row) for row in connection.execute(wanted)]


def _with_refund(connection: sa.Connection, code: str) -> tuple[SuspenseRow, sa.RowMapping | None]:
    """The item of this code and its refund that is under way, both locked: the refund first, as its source's word does.

    The payment is locked between them, as what its source says of it does; so nobody waits for each other.
    """
    item, r = known(connection, code), source_refund.c
    under_way = sa.and_(r.item_id == item.id, r.state.in_(("OWED", "ASKED", "UNCLEAR")))
    refund = connection.execute(sa.select(source_refund).where(under_way).with_for_update()).mappings().one_or_none()
    if refund is not None:
        is_taken_back(connection, item.id, lock=True)
    return known(connection, code, lock=True), refund


def _is_asked_to_end(last: Sequence[Decision]) -> bool:
    return bool(last) and last[0].step == "ASKED" and last[0].how in _ENDS


def _require_end(connection: sa.Connection, item: SuspenseRow, refund: sa.RowMapping, how: str, target: str) -> None:
    """Refuse what is at odds with what its source has said here."""
    if how == REFUND_NOT_DONE:
        if is_taken_back(connection, item.id):
            raise SuspenseRefused(
                f"{item.source} has said that the payment of suspense {item.code} was taken back: the refund is done"
            )
        return
    r = source_refund.c
    same = sa.and_(r.source == item.source, r.provider_ref == target.strip(), r.state == "DONE")
    if connection.execute(sa.select(r.id).where(same)).first() is not None:
        raise SuspenseRefused(f"{target.strip()} of {item.source} is another refund, which is booked already")


def _end_by_hand(
    connection: sa.Connection,
    item: SuspenseRow,
    refund: sa.RowMapping,
    txn_id: UUID,
    today: date,
    by: Operator,
    origin: Origin,
) -> None:
    require_role(by, Role.FINANCE)
    asked = decisions(connection, item.id)[-1]
    require_other(asked.who, by.login, f"suspense {item.code}")
    _require_end(connection, item, refund, asked.how, asked.target)
    of_refund = source_refund.update().where(source_refund.c.id == refund["id"])
    if asked.how == REFUND_NOT_DONE:
        if origin.at - asked.at < QUIET:
            raise SuspenseRefused(
                f"{item.source} may still be at it: approve {QUIET.seconds // 60} minutes after it was asked for"
            )
        connection.execute(of_refund.values(state="FAILED", why="OFFICE", closed_at=origin.at, next_ask_at=None))
        _decided(connection, item, "APPROVED", asked.how, asked.target, by, origin, {"state": OPEN})
        return
    done = {"state": "DONE", "provider_ref": asked.target, "closed_at": origin.at, "next_ask_at": None}
    connection.execute(of_refund.values(**done))
    _gone(connection, refund, Resolution.REFUNDED, by.login, txn_id, today, origin.at)
    _decided(connection, item, "APPROVED", asked.how, asked.target, by, origin, {"state": RESOLVED})


def is_taken_back(connection: sa.Connection, item_id: UUID, *, lock: bool = False) -> bool:
    """Whether the source took the payment of this item back, which is final. `lock`: it does not until this ends."""
    of_item = sa.select(suspense.c.payment_id).where(suspense.c.id == item_id).scalar_subquery()
    wanted = sa.select(payment.c.state).where(payment.c.id == of_item)
    return bool(connection.execute(wanted.with_for_update() if lock else wanted).scalar_one() == "REVERSED")
