"""Batches of vouchers: asked for by one person, approved by another, printed once, activated, sold, made void.

Functions of the SQL transaction they are handed; they never commit, and every deed is in the audit log. Nobody sees the
numbers but who holds the sheet: here are only digests (`ledger/vouchernumbers.py`). Only a voucher that was sold can be
redeemed, so what is redeemed was paid for: by a station's money, or into the office's cash or bank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import books, changes, entries, stations, tables
from ledger.accounts import id_of
from ledger.changes import Act, ChangeRefused, Fault
from ledger.operators import OperatorFault, OperatorRefused, Role, require_other, require_role
from ledger.records import ensure_accounts
from ledger.redeeming import ISSUED
from ledger.sets import by_key
from ledger.sets import insert as insert_many
from ledger.voucher_tables import voucher, voucher_batch, voucher_sale

MAY_ASK: Final = (Role.FINANCE, Role.SUPERVISOR)
OFFICE: Final = {"cash": "cash:office", "bank": "clearing:bank"}
"""What a sale to nobody in particular is paid into."""


class BatchState(StrEnum):
    """How far a batch has come."""

    ASKED = "ASKED"
    APPROVED = "APPROVED"
    PRINTED = "PRINTED"
    ACTIVE = "ACTIVE"
    VOID = "VOID"


class State(StrEnum):
    """What a voucher is worth: something only when it is SOLD."""

    PRINTED = "PRINTED"
    ACTIVE = "ACTIVE"
    SOLD = "SOLD"
    USED = "USED"
    VOID = "VOID"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as stored."""

    id: UUID
    code: str
    state: str
    vouchers: int
    value_minor: int
    currency: str
    expires_on: date
    asked_by: str
    asked_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    printed_by: str | None
    printed_at: datetime | None
    sheet_hash: str | None
    activated_by: str | None
    activated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A batch with how many of its vouchers are in each state, and what of them is still owed to their holders."""

    batch: Batch
    counts: dict[str, int]
    owed_minor: int


# --- made by two people -----------------------------------------------------------------------------------------------


def ask(
    connection: sa.Connection,
    act: Act,
    code: str,
    *,
    vouchers: int,
    value_minor: int,
    expires_on: date,
    vouchers_max: int,
    value_max_minor: int,
) -> Batch:
    """Ask for a batch, which another person approves. Refuses ROLE_MISSING, REASON, EXISTS, FORM."""
    act.require(*MAY_ASK)
    if not 1 <= vouchers <= vouchers_max:
        raise ChangeRefused(Fault.FORM, f"count: 1 to {vouchers_max} expected, got {vouchers}")
    if not 1 <= value_minor <= value_max_minor:
        raise ChangeRefused(Fault.FORM, f"value: 1 to {value_max_minor} minor units expected, got {value_minor}")
    if expires_on <= act.today:
        raise ChangeRefused(Fault.FORM, f"expiry: a day after {act.today} expected, got {expires_on}")
    b = voucher_batch.c
    if connection.execute(sa.select(b.id).where(b.code == changes.code("batch", code))).first() is not None:
        raise ChangeRefused(Fault.EXISTS, f"there is a batch {code} already")
    row = {
        "id": act.new_id(),
        "code": code,
        "state": BatchState.ASKED.value,
        "vouchers": vouchers,
        "value_minor": value_minor,
        "currency": act.currency,
        "expires_on": expires_on,
        "asked_by": act.by.login,
        "asked_at": act.origin.at,
    }
    connection.execute(sa.insert(voucher_batch).values(row))
    after = {"vouchers": vouchers, "value_minor": value_minor, "expires_on": expires_on.isoformat()}
    changes.note(connection, act, "vouchers.asked", _subject(code), None, after)
    return known(connection, code)


def approve(connection: sa.Connection, act: Act, code: str) -> Batch:
    """Let a batch be printed. Not by who asked for it. Refuses ROLE_MISSING, REASON, SAME_PERSON, UNKNOWN, STATUS."""
    act.require(*MAY_ASK)
    batch = known(connection, code, lock=True)
    require_other(batch.asked_by, act.by.login, f"batch {code}")
    _require(batch, BatchState.ASKED)
    return _move(connection, act, batch, BatchState.APPROVED, approved_by=act.by.login, approved_at=act.origin.at)


def require_printable(connection: sa.Connection, act: Act, code: str) -> Batch:
    """The batch that may be printed now, locked. Refuses ROLE_MISSING, REASON, UNKNOWN, STATUS."""
    act.require(*MAY_ASK)
    batch = known(connection, code, lock=True)
    _require(batch, BatchState.APPROVED)
    return batch


def print_out(connection: sa.Connection, act: Act, code: str, digests: Sequence[str], sheet_hash: str) -> Batch:
    """Note that the sheet is written: from here on its numbers are known, and worth nothing yet.

    Refuses as `require_printable`: of two sheets of one batch only that of the first counts.
    """
    batch = require_printable(connection, act, code)
    assert len(digests) == batch.vouchers, "a digest for each voucher"
    rows = [
        {
            "id": act.new_id(),
            "batch_id": batch.id,
            "serial": serial,
            "digest": digest,
            "value_minor": batch.value_minor,
            "expires_on": batch.expires_on,
            "state": State.PRINTED.value,
            **dict.fromkeys(("sale_id", "used_by", "used_at", "request_id", "txn_id")),
        }
        for serial, digest in enumerate(digests, 1)
    ]
    insert_many(connection, voucher, rows)
    stamp = {"printed_by": act.by.login, "printed_at": act.origin.at, "sheet_hash": sheet_hash}
    return _move(connection, act, batch, BatchState.PRINTED, **stamp)


def activate(connection: sa.Connection, act: Act, code: str) -> Batch:
    """Let the vouchers of a printed batch be sold. Not by who printed it, who may have kept the numbers.

    Refuses ROLE_MISSING, REASON, SAME_PERSON, UNKNOWN, STATUS.
    """
    act.require(*MAY_ASK)
    batch = known(connection, code, lock=True)
    _require(batch, BatchState.PRINTED)
    assert batch.printed_by is not None
    require_other(batch.printed_by, act.by.login, f"batch {code}")
    _set(connection, batch, 1, batch.vouchers, State.PRINTED, State.ACTIVE)
    return _move(connection, act, batch, BatchState.ACTIVE, activated_by=act.by.login, activated_at=act.origin.at)


def taken(connection: sa.Connection, *, digests: Sequence[str]) -> set[str]:
    """Those of the digests that some voucher has already."""
    v = voucher.c
    return {row[0] for row in by_key(connection, sa.select(v.digest), v.digest, digests)}


# --- money ------------------------------------------------------------------------------------------------------------


def _account_of_station(connection: sa.Connection, code: str) -> str:
    try:
        return stations.known(connection, code).account_code
    except stations.StationRefused:
        expected = '"cash", "bank" or the code of a station expected'
        raise ChangeRefused(Fault.UNKNOWN, f"{expected}, got {code}") from None


def sell(connection: sa.Connection, act: Act, code: str, first: int, last: int, *, to: str) -> int:
    """Sell a run of active vouchers: to a station, whose float or credit pays, or for "cash" or "bank" of the office.

    From here on they can be redeemed; what they are worth is owed to whoever holds them. What was paid, in minor
    units. Refuses ROLE_MISSING, REASON, UNKNOWN, STATUS, FORM, and NOT_SETTLED where the station has too little.
    """
    act.require(*MAY_ASK)
    batch = known(connection, code, lock=True)
    _require(batch, BatchState.ACTIVE)
    if batch.expires_on < act.today:
        raise ChangeRefused(Fault.STATUS, f"batch {code} expired on {batch.expires_on}")
    _require_run(batch, first, last)
    account = OFFICE.get(to) or _account_of_station(connection, to)
    ensure_accounts(connection, [ISSUED, *OFFICE.values()], act.currency)
    sale_id, amount_minor = act.new_id(), (last - first + 1) * batch.value_minor
    connection.execute(
        sa.insert(voucher_sale).values(
            id=sale_id,
            batch_id=batch.id,
            first_serial=first,
            last_serial=last,
            amount_minor=amount_minor,
            account_id=id_of(account),
            sold_by=act.by.login,
            sold_at=act.origin.at,
        )
    )
    _set(connection, batch, first, last, State.ACTIVE, State.SOLD, sale_id=sale_id)
    _post(connection, act, sale_id, "voucher.sale", entries.moved(id_of(account), id_of(ISSUED), amount_minor), to)
    after = {"state": State.SOLD.value, "first": first, "last": last, "to": to, "amount_minor": amount_minor}
    changes.note(connection, act, "vouchers.sold", _subject(code), {"state": State.ACTIVE.value}, after)
    return amount_minor


def void(connection: sa.Connection, act: Act, code: str, first: int, last: int) -> int:
    """Make a run of vouchers worthless that are not used: two people. What was paid for them goes back.

    How much, in minor units. Refuses ROLE_MISSING, REASON, SECOND, SAME_PERSON, UNKNOWN, FORM, and STATUS where one
    of them is used or void already.
    """
    act.require(*MAY_ASK)
    if act.beside is None:
        raise OperatorRefused(OperatorFault.SECOND, "vouchers made void: a second person is needed")
    require_role(act.beside, *MAY_ASK)
    require_other(act.by.login, act.beside.login, "vouchers made void")
    batch = known(connection, code, lock=True)
    if batch.state in (BatchState.ASKED, BatchState.APPROVED) and (first, last) == (1, batch.vouchers):
        _move(connection, act, batch, BatchState.VOID)  # nothing is printed, so nothing has to be undone
        return 0
    _require_run(batch, first, last)
    v, s = voucher.c, voucher_sale.c
    run = sa.and_(v.batch_id == batch.id, v.serial.between(first, last))
    found = connection.execute(sa.select(v.id, v.state, v.sale_id).where(run).order_by(v.id).with_for_update()).all()
    gone = [row for row in found if row.state in (State.USED, State.VOID)]
    if gone or len(found) != last - first + 1:
        raise ChangeRefused(Fault.STATUS, f"{len(gone)} of these vouchers are used or void already: name the others")
    back = 0
    sales = sorted({row.sale_id for row in found if row.sale_id is not None})
    for sale_id in sales:
        mine = [row for row in found if row.sale_id == sale_id]
        account = connection.execute(sa.select(s.account_id).where(s.id == sale_id)).scalar_one()
        amount_minor, txn_id = len(mine) * batch.value_minor, act.new_id()
        _post(connection, act, txn_id, "voucher.void", entries.moved(id_of(ISSUED), account, amount_minor), code)
        connection.execute(sa.update(voucher).where(v.id.in_([row.id for row in mine])).values(txn_id=txn_id))
        back += amount_minor
    connection.execute(sa.update(voucher).where(run).values(state=State.VOID.value))
    before = {"states": dict(sorted(Counter(row.state for row in found).items()))}
    after = {"states": {State.VOID.value: len(found)}, "first": first, "last": last, "amount_minor": back}
    changes.note(connection, act, "vouchers.void", _subject(code), before, {**after, "beside": act.beside.login})
    return back


# --- looking ----------------------------------------------------------------------------------------------------------


def known(connection: sa.Connection, code: str, *, lock: bool = False) -> Batch:
    """The batch of this code; refuses UNKNOWN. `lock`: nobody else decides on it meanwhile."""
    wanted = sa.select(*(voucher_batch.c[name] for name in Batch.__slots__)).where(voucher_batch.c.code == code)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise ChangeRefused(Fault.UNKNOWN, f"no batch {code}")
    return Batch(*row)


def standings(connection: sa.Connection, code: str | None = None) -> list[Standing]:
    """The last hundred batches, oldest first, or one; refuses UNKNOWN."""
    b, v = voucher_batch.c, voucher.c
    wanted = sa.select(*(b[name] for name in Batch.__slots__)).order_by(b.asked_at.desc()).limit(100)
    batches = [known(connection, code)] if code else [Batch(*row) for row in connection.execute(wanted)][::-1]
    found = []
    for batch in batches:
        counted = sa.select(v.state, sa.func.count()).where(v.batch_id == batch.id).group_by(v.state)
        counts = {state: int(number) for state, number in connection.execute(counted)}
        found.append(Standing(batch, counts, counts.get(State.SOLD, 0) * batch.value_minor))
    return found


def trace(connection: sa.Connection, code: str, serial: int) -> dict[str, Any]:
    """What became of one voucher: its state, who bought it, and which phone used it when. Refuses UNKNOWN."""
    batch, v, s, a = known(connection, code), voucher.c, voucher_sale.c, tables.account.c
    row = connection.execute(
        sa.select(v.state, v.value_minor, v.expires_on, v.used_by, v.used_at, v.request_id, s.sold_at, a.code)
        .join_from(voucher, voucher_sale, s.id == v.sale_id, isouter=True)
        .join(tables.account, a.id == s.account_id, isouter=True)
        .where(v.batch_id == batch.id, v.serial == serial)
    ).one_or_none()
    if row is None:
        raise ChangeRefused(Fault.UNKNOWN, f"batch {code} has no voucher {serial}")
    names = ("state", "value_minor", "expires_on", "used_by", "used_at", "request", "sold_at", "sold_to")
    return {"batch": code, "serial": serial, **dict(zip(names, row, strict=True))}


# --- shared -----------------------------------------------------------------------------------------------------------


def _subject(code: str) -> str:
    return f"vouchers {code}"


def _require(batch: Batch, state: BatchState) -> None:
    if batch.state != state:
        raise ChangeRefused(Fault.STATUS, f"batch {batch.code} is {batch.state}, not {state}")


def _require_run(batch: Batch, first: int, last: int) -> None:
    if not 1 <= first <= last <= batch.vouchers:
        raise ChangeRefused(Fault.FORM, f"serials: 1 to {batch.vouchers} expected, got {first} to {last}")


def _move(connection: sa.Connection, act: Act, batch: Batch, state: BatchState, **stamp: Any) -> Batch:
    change = {"state": state.value, **stamp}
    connection.execute(sa.update(voucher_batch).where(voucher_batch.c.id == batch.id).values(**change))
    deed = f"vouchers.{state.lower()}"
    changes.note(connection, act, deed, _subject(batch.code), {"state": batch.state}, {"state": state.value})
    return known(connection, batch.code)


def _set(
    connection: sa.Connection, batch: Batch, first: int, last: int, before: State, after: State, **values: Any
) -> None:
    """Change a whole run, or refuse STATUS where one voucher of it is in another state."""
    v = voucher.c
    mine = sa.and_(v.batch_id == batch.id, v.serial.between(first, last))
    connection.execute(sa.select(v.id).where(mine).order_by(v.id).with_for_update()).all()
    done = connection.execute(
        sa.update(voucher).where(mine, v.state == before.value).values(state=after.value, **values)
    )
    if done.rowcount != last - first + 1:
        others = last - first + 1 - done.rowcount
        raise ChangeRefused(Fault.STATUS, f"{others} of vouchers {first} to {last} are not {before}")


def _post(
    connection: sa.Connection, act: Act, txn_id: UUID, kind: str, postings: tuple[entries.Posting, ...], who: str
) -> None:
    try:
        books.record(connection, txn_id, kind, postings, business_date=act.today, recorded_at=act.origin.at)
    except books.Overdrawn as short:
        left = max(0, short.available_minor)
        raise ChangeRefused(Fault.NOT_SETTLED, f"{who} has only {left} minor units left") from None
