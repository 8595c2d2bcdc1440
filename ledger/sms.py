"""What message centres have taken of us, what they said of it later, and letters that nobody wanted.

Functions of the SQL transaction they are handed; they never commit. Rows of sent parts are written by the deed that
marks their reply (`ledger/outbox.py`), many in one statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, tables
from ledger.audit import Origin
from ledger.sms_tables import sms_receipt, sms_sent

DELIVERED: Final = "DELIVRD"
FAILED: Final = frozenset({"EXPIRED", "DELETED", "UNDELIV", "REJECTD", "FAILED"})
"""States of receipts after which nothing more is to be hoped for; words of SMPP 3.4, appendix B, and one in use."""


@dataclass(frozen=True, slots=True)
class SentRow:
    """A part that a message centre has taken, in the order of the table's columns."""

    id: UUID
    centre: str
    normal: str
    message_id: str
    outbox_id: UUID
    part: int
    parts: int
    link: str
    recipient: str
    state: str | None
    error: str | None
    state_at: datetime | None
    is_watched: bool

    def values(self) -> tuple[Any, ...]:
        """The row."""
        return (
            self.id,
            self.centre,
            self.normal,
            self.message_id,
            self.outbox_id,
            self.part,
            self.parts,
            self.link,
            self.recipient,
            self.state,
            self.error,
            self.state_at,
            self.is_watched,
        )


@dataclass(frozen=True, slots=True)
class News:
    """A receipt. `forms`: what the id may have been called in the response, the likeliest first.

    `recipient`: the customer it is about; empty where the receipt does not say.
    """

    id: UUID
    centre: str
    forms: tuple[str, ...]
    recipient: str
    state: str
    error: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """What a receipt was about: the sent part's link, when it was sent, and what is said of it now."""

    link: str
    sent_at_ms: int
    state: str
    at: datetime
    is_first: bool


_PARKED_AT_ONCE: Final = 500
_KEYS_A_STATEMENT: Final = 500


def take_receipts(connection: sa.Connection, news: Sequence[News]) -> list[Told]:
    """Write receipts to the parts they are about, and park those whose part is not known yet."""
    told, unknown = _match(connection, news)
    if unknown:
        connection.execute(
            sms_receipt.insert(),
            [
                {
                    "id": one.id,
                    "centre": one.centre,
                    "forms": " ".join(one.forms),
                    "recipient": one.recipient,
                    "state": one.state,
                    "error": one.error,
                    "received_at": one.at,
                }
                for one in unknown
            ],
        )
    return told


def match_parked(connection: sa.Connection, *, drop_before: datetime) -> tuple[list[Told], int]:
    """Try receipts again that came before the response to their message; what they said, and how many were dropped."""
    r = sms_receipt.c
    rows = connection.execute(
        sa.select(sms_receipt).order_by(r.id).limit(_PARKED_AT_ONCE).with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return [], 0
    news = [
        News(row.id, row.centre, tuple(row.forms.split(" ")), row.recipient, row.state, row.error, row.received_at)
        for row in rows
    ]
    told, unknown = _match(connection, news)
    still = {one.id for one in unknown if one.at >= drop_before}
    ended = [one.id for one in news if one.id not in still]
    if ended:
        connection.execute(sms_receipt.delete().where(r.id.in_(ended)))
    return told, sum(one.at < drop_before for one in unknown)


def _match(connection: sa.Connection, news: Sequence[News]) -> tuple[list[Told], list[News]]:
    s = sms_sent.c
    forms = list(dict.fromkeys(form for one in news for form in one.forms))
    rows: dict[tuple[str, str], list[Any]] = {}
    for at in range(0, len(forms), _KEYS_A_STATEMENT):
        some = forms[at : at + _KEYS_A_STATEMENT]
        for row in connection.execute(sa.select(sms_sent).where(s.normal.in_(some)).order_by(s.id).with_for_update()):
            rows.setdefault((row.centre, row.normal), []).append(row)
    changes: dict[UUID, dict[str, Any]] = {}
    told: list[Told] = []
    unknown: list[News] = []
    for one in news:
        found = [row for form in one.forms for row in rows.get((one.centre, form), ())]
        # Ids begin anew after some time at many message centres: the customer must be the same, and the latest counts.
        fitting = [row for row in found if _same_number(row.recipient, one.recipient)]
        if not fitting:
            unknown.append(one)
            continue
        exact = [row for row in fitting if row.normal == one.forms[0]]
        row = max(exact or fitting, key=lambda each: each.id)
        before = changes[row.id]["new_state"] if row.id in changes else row.state
        is_better = _rank(one.state) > _rank(before)
        if is_better:
            changes[row.id] = {
                "key_id": row.id,
                "new_state": one.state,
                "new_error": one.error,
                "new_at": one.at,
                "new_watched": bool(row.is_watched) and one.state != DELIVERED,
            }
        told.append(Told(row.link, row.id.int >> 80, one.state, one.at, is_better))
    if changes:
        connection.execute(
            sms_sent.update()
            .where(s.id == sa.bindparam("key_id"))
            .values(
                state=sa.bindparam("new_state"),
                error=sa.bindparam("new_error"),
                state_at=sa.bindparam("new_at"),
                is_watched=sa.bindparam("new_watched"),
            ),
            list(changes.values()),
        )
    return told, unknown


def _rank(state: str | None) -> int:
    """Receipts come in any order and more than once: a final state is not undone by an earlier one."""
    if state is None:
        return 0
    return 3 if state == DELIVERED else 2 if state in FAILED else 1


def _same_number(ours: str, theirs: str) -> bool:
    """With or without country code: the shorter one is the end of the longer one. An empty one is no contradiction."""
    short, long = sorted((ours.lstrip("0"), theirs.lstrip("0")), key=len)
    return long.endswith(short)


def second_route(
    connection: sa.Connection, *, other: Mapping[str, str], sent_before: UUID, now: datetime, at_most: int
) -> int:
    """Owe replies again, once, by another link: those of whose parts no good receipt came in time; how many.

    `other`: the link to try after each link. `sent_before`: an id whose time is the latest that counts.
    """
    s, o = sms_sent.c, tables.outbox.c
    rows = connection.execute(
        sa.select(s.id, s.outbox_id, s.link)
        .where(sa.text("sms_sent.is_watched"), s.id < sent_before)  # as the partial index has it
        .order_by(s.id)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return 0
    by_reply = {row.outbox_id: row.link for row in rows}
    connection.execute(sms_sent.update().where(s.outbox_id.in_(list(by_reply))).values(is_watched=False))
    count = 0
    for link, following in other.items():
        ids = [outbox_id for outbox_id, sent_by in by_reply.items() if sent_by == link]
        if ids and following:
            again = tables.outbox.update().where(o.id.in_(ids), o.state == "SENT")
            # Not 0: the first way may have brought it, and whoever asks whether it may have been seen must know.
            values = {"state": "OWED", "peer": following, "lease_until": now, "attempts": 1, "detail": "second route"}
            count += connection.execute(again.values(values)).rowcount
    return count


def forget_sent(connection: sa.Connection, *, before: UUID, at_most: int) -> int:
    """Delete parts sent before this id's time; how many. What a customer was sold stays in the books."""
    s = sms_sent.c
    ids = connection.execute(sa.select(s.id).where(s.id < before).order_by(s.id).limit(at_most)).scalars().all()
    for at in range(0, len(ids), _KEYS_A_STATEMENT):
        connection.execute(sms_sent.delete().where(s.id.in_(ids[at : at + _KEYS_A_STATEMENT])))
    return len(ids)


# --- for operators ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """A reply as operators see it: never its text, which holds tokens."""

    id: UUID
    request_id: UUID
    channel: str
    peer: str
    recipient: str
    message: str
    state: str
    attempts: int
    detail: str | None
    ended_at: datetime | None
    sent: Sequence[SentRow] = ()

    @property
    def delivery(self) -> str:
        """What receipts say of the whole: the worst of its parts' last sending; empty where none came."""
        last: dict[int, SentRow] = {row.part: row for row in self.sent}
        if not last:
            return ""
        states = [row.state for row in last.values()]
        if len(last) < max(row.parts for row in last.values()) or None in states:
            return ""
        return min((state for state in states if state is not None), key=lambda each: (each == DELIVERED, each))


class NoLetter(Exception):
    """There is no such reply, or it is not in that state; the message says which."""


def dead(connection: sa.Connection, *, at_most: int) -> list[Letter]:
    """Replies that were given up, the latest last."""
    o = tables.outbox.c
    rows = connection.execute(
        sa.select(*_letter_columns()).where(o.state == "DEAD").order_by(o.id.desc()).limit(at_most)
    )
    return [Letter(*row) for row in rows][::-1]


def replay(connection: sa.Connection, outbox_id: UUID, origin: Origin) -> Letter:
    """Owe a reply that was given up again, from now on; NoLetter unless it was. Goes into the audit log."""
    o = tables.outbox.c
    row = connection.execute(sa.select(*_letter_columns()).where(o.id == outbox_id).with_for_update()).one_or_none()
    if row is None:
        raise NoLetter(f"reply {outbox_id}: there is none of this number")
    letter = Letter(*row)
    if letter.state != "DEAD":
        raise NoLetter(
            f"reply {outbox_id}: only one that was given up (DEAD) is sent again, this one is {letter.state}"
        )
    _owe_again(connection, [letter], origin)
    return letter


def replay_all(connection: sa.Connection, origin: Origin, *, detail: str, after: UUID, at_most: int) -> list[Letter]:
    """Owe replies again that were given up with this in their last answer ("" for any); each in the audit log.

    In the order of their ids, beginning behind `after`; an empty list when there are no more.
    """
    o = tables.outbox.c
    chosen = sa.select(*_letter_columns()).where(o.state == "DEAD", o.id > after)
    if detail:
        chosen = chosen.where(o.detail.contains(detail, autoescape=True))
    rows = connection.execute(chosen.order_by(o.id).limit(at_most).with_for_update(skip_locked=True))
    letters = [Letter(*row) for row in rows]
    _owe_again(connection, letters, origin)
    return letters


def _owe_again(connection: sa.Connection, letters: Sequence[Letter], origin: Origin) -> None:
    # Not 0: it was tried before, and whoever asks whether it may have been seen must know.
    values = {"state": "OWED", "attempts": 1, "lease_until": origin.at, "ended_at": None}
    connection.execute(tables.outbox.update().where(tables.outbox.c.id.in_([one.id for one in letters])).values(values))
    audit.note_all(
        connection,
        origin,
        "sms.replay",
        [
            (
                # Not with dashes: the log would take a number of digits alone for a token, and mask it.
                f"reply {str(one.id).replace('-', ':')}",
                {"state": one.state, "attempts": one.attempts, "detail": one.detail},
                {"state": "OWED"},
            )
            for one in letters
        ],
    )


def of_receipt(connection: sa.Connection, receipt: str) -> list[Letter]:
    """The replies to the request that this receipt number came of, with their sent parts; NoLetter if there is none."""
    p, o, s = tables.purchase.c, tables.outbox.c, sms_sent.c
    purchase_id = connection.execute(sa.select(p.id).where(p.receipt == receipt)).scalar_one_or_none()
    if purchase_id is None:
        raise NoLetter(f"receipt {receipt}: no purchase has it")
    rows = connection.execute(sa.select(*_letter_columns()).where(o.request_id == purchase_id).order_by(o.id)).all()
    sent: dict[UUID, list[SentRow]] = {}
    ids = [row[0] for row in rows]
    for row in connection.execute(sa.select(sms_sent).where(s.outbox_id.in_(ids)).order_by(s.id)):
        sent.setdefault(row.outbox_id, []).append(SentRow(*row))
    return [replace(Letter(*row), sent=sent.get(row[0], [])) for row in rows]


def _letter_columns() -> list[sa.ColumnElement[Any]]:
    o = tables.outbox.c
    return [o.id, o.request_id, o.channel, o.peer, o.recipient, o.message, o.state, o.attempts, o.detail, o.ended_at]


def first_id_at(moment: datetime) -> UUID:
    """The smallest id of this moment, for comparisons with ids, whose time is in them (UUIDv7)."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def kept_since(now: datetime, days: int) -> UUID:
    """The id before which sent parts are forgotten."""
    return first_id_at(now - timedelta(days=days))
