"""Sales at a counter as stored: the answer to a request, the receipt again, the next number of a shift.

Functions of the SQL transaction they are handed; they never commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, tables
from ledger.audit import Origin
from ledger.counter import CHANNEL
from ledger.stations_tables import counter_sale
from ledger.unit import PurchaseRow, TokenRow

_SOLD: Final = ("sold", "sold_no_token")
"""Messages that bring the receipt of a sale."""
_UNSHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands in the outbox for a request: its message, and whether it was shown before."""

    outbox_id: UUID
    message: str
    values: Mapping[str, Any]
    language: str
    was_shown: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A request as far as it has come: its purchase's state, if it became one, and its answer, once there is one."""

    request_id: UUID
    fingerprint: bytes
    state: str | None
    answer: Answer | None


def stored(connection: sa.Connection, reference: str) -> Stored | None:
    """The request of this reference on the counter's channel, or None."""
    r, p, o = tables.request.c, tables.purchase.c, tables.outbox.c
    request = connection.execute(sa.select(r.id, r.fingerprint).where(r.idem_key == f"{CHANNEL}|{reference}")).first()
    if request is None:
        return None
    request_id = request.id
    state = connection.execute(sa.select(p.state).where(p.id == request_id)).scalar_one_or_none()
    wanted = sa.select(o.id, o.message, o.fields, o.language, o.state).where(o.request_id == request_id)
    # An answer about a reference that was used for something else is none to the request itself.
    row = connection.execute(wanted.where(o.message != "duplicate_differs").order_by(o.id).limit(1)).first()
    answer = None if row is None else Answer(row[0], row[1], json.loads(row[2]), row[3], row[4] != "OWED")
    return Stored(request_id, bytes(request.fingerprint), state, answer)


def shown(connection: sa.Connection, request_id: UUID, answer: Answer, now: datetime) -> None:
    """The answer is about to be shown. Marked before, not after: what may have been seen counts as seen."""
    o, p = tables.outbox, tables.purchase
    changes = {"state": "SENT", "ended_at": now, "attempts": o.c.attempts + 1}
    connection.execute(o.update().where(o.c.id == answer.outbox_id, o.c.state == "OWED").values(**changes))
    if answer.message in _SOLD:
        delivered = p.update().where(p.c.id == request_id, p.c.state == "VENDED")
        connection.execute(delivered.values(state="DELIVERED", owed="NOTHING"))


@dataclass(frozen=True, slots=True)
class Receipt:
    """A counter sale with all that its receipt is made from."""

    purchase: PurchaseRow
    drn: str
    tokens: tuple[TokenRow, ...]
    login: str
    station: str
    station_name: str
    cash_minor: int
    card_minor: int
    cheque_minor: int


def receipt(connection: sa.Connection, *, number: str | None = None, purchase_id: UUID | None = None) -> Receipt | None:
    """The counter sale of this receipt number, or of this id; None if there is none, or it gave no receipt."""
    p, m, c, s = tables.purchase, tables.meter, counter_sale, tables.station
    wanted = (
        sa.select(p, m.c.drn, c.c.login, c.c.station, s.c.name, c.c.cash_minor, c.c.card_minor, c.c.cheque_minor)
        .join_from(p, m, m.c.id == p.c.meter_id)
        .join(c, c.c.purchase_id == p.c.id)
        .join(s, s.c.code == c.c.station)
        .where(p.c.channel == CHANNEL, p.c.state.in_(("VENDED", "DELIVERED")))
    )
    wanted = wanted.where(p.c.receipt == number) if number is not None else wanted.where(p.c.id == purchase_id)
    row = connection.execute(wanted).first()
    if row is None:
        return None
    width = len(PurchaseRow.__slots__)
    purchase = PurchaseRow(*row[:width])
    t = tables.token
    made = connection.execute(sa.select(t).where(t.c.purchase_id == purchase.id).order_by(t.c.seq))
    return Receipt(purchase, row[width], tuple(TokenRow(*one) for one in made), *row[width + 1 :])


@dataclass(frozen=True, slots=True)
class Undone:
    """A counter sale that was undone, with why: REVERSED or REFUNDED."""

    station: str
    reason: str
    receipt: str
    drn: str
    amount_minor: int
    language: str


def undone(connection: sa.Connection, *, number: str | None = None, purchase_id: UUID | None = None) -> Undone | None:
    """What is left to say of a counter sale, by its receipt number or id, that was undone; None where it stands."""
    p, m, c = tables.purchase.c, tables.meter.c, counter_sale.c
    row = connection.execute(
        sa.select(c.station, p.reason, p.receipt, m.drn, p.amount_minor, p.language)
        .join_from(tables.purchase, tables.meter, m.id == p.meter_id)
        .join(counter_sale, c.purchase_id == p.id)
        .where(p.receipt == number if number is not None else p.id == purchase_id)
        .where(p.state.in_(("SEALED", "REFUNDED")))
    ).first()
    return None if row is None else Undone(*row)


def unshown(connection: sa.Connection, login: str, since: UUID) -> list[str]:
    """The references of an operator's sales, asked for after the id `since`, whose answer was never shown; 20 at most.

    A terminal that died between the sale and its receipt leaves such a one behind.
    """
    c, r, o = counter_sale.c, tables.request.c, tables.outbox.c
    keys = connection.execute(
        sa.select(r.idem_key)
        .join_from(counter_sale, tables.request, r.id == c.purchase_id)
        .outerjoin(tables.outbox, sa.and_(o.request_id == r.id, o.message != "duplicate_differs"))
        .where(c.login == login, c.purchase_id > since, sa.or_(o.id.is_(None), o.state == "OWED"))
        .order_by(c.purchase_id)
        .limit(_UNSHOWN_MAX)
    )
    return [key.removeprefix(f"{CHANNEL}|") for key in dict.fromkeys(keys.scalars())]


def next_sequence(connection: sa.Connection, login: str, shift_id: UUID | None) -> int:
    """The number of the next sale of a shift; without one, of the operator."""
    c = counter_sale.c
    own = c.login == login if shift_id is None else c.shift_id == shift_id
    last = connection.execute(sa.select(c.seq).where(own).order_by(c.seq.desc()).limit(1)).scalar_one_or_none()
    return (last or 0) + 1


def note_copy(connection: sa.Connection, found: Receipt, origin: Origin) -> None:
    """A copy of a receipt is about to be printed: on record, and marked as a first print is, for that may have failed.

    Read the receipt again after it: a sale that was taken back until now is printed no more.
    """
    o = tables.outbox.c
    wanted = sa.select(o.id, o.message, o.fields, o.language, o.state).where(o.request_id == found.purchase.id)
    for row in connection.execute(wanted.where(o.message.in_(_SOLD), o.state == "OWED")).all():
        shown(connection, found.purchase.id, Answer(row[0], row[1], json.loads(row[2]), row[3], False), origin.at)
    after = {"station": found.station, "state": found.purchase.state}
    audit.note(connection, origin, "counter.copy_printed", f"receipt {found.purchase.receipt}", None, after)
