"""Vending keys as the books know them: state, dates, limits and totals. Never key bytes.

Functions of the SQL transaction they are handed; they never commit. Every change goes into the audit log in the same
transaction; all of them queue up for that log first, so that no two wait for each other.

A key's way: LOADED by one custodian, ACTIVE by another, REPLACED when a newer one took its place (then it only
enciphers the key changes of meters that still have it), DESTROYED at last, which is final. A newer file for an active
key waits as `pending` until a second person activates it; until then the key sells under what was approved before.

Totals count while a key has a limit, and never go back: a newer file that allows more names a higher limit. (A total
that every sale of every key changed would make every sale wait for the others.)

A key is in the books once for each module that holds it, with a state, dates, limits and totals of its own there.

Every change raises the row of `stamp` called "vending_keys". Each batch of sales looks at that row, and no change is
committed while a batch that has looked is under way (`_hold_off`): so no token is made under a key after the change
that ended it, on this node or another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, operators, tables
from ledger.audit import Origin
from ledger.keyrows import (
    COUNT_MAX,
    SOFTWARE,
    STAMP,
    CustodyFault,
    CustodyRefused,
    Ending,
    EndKind,
    KeyFile,
    KeyId,
    KeyRow,
    NewKey,
    Outcome,
    Pending,
    State,
    Terms,
    endings,
    is_over,
    key_expires_at,
    kwh,
)
from ledger.operators import Operator, Role
from ledger.records import insert_new

__all__ = [
    "COUNT_MAX",
    "CustodyFault",
    "CustodyRefused",
    "EndKind",
    "Ending",
    "KeyFile",
    "KeyId",
    "KeyRow",
    "NewKey",
    "Outcome",
    "Pending",
    "SOFTWARE",
    "STAMP",
    "State",
    "Terms",
    "activate",
    "destroy",
    "ending_soon",
    "endings",
    "find",
    "is_over",
    "key_expires_at",
    "kwh",
    "next_serial",
    "record_export",
    "register",
    "replace",
    "report",
    "set_limits",
    "stamp",
    "suspend",
]


# --- deeds ------------------------------------------------------------------------------------------------------------


def register(
    connection: sa.Connection,
    keys: Sequence[NewKey],
    *,
    by: Operator | None,
    origin: Origin,
    file: KeyFile | None = None,
) -> dict[KeyId, Outcome]:
    """Enter keys as LOADED, or as pending where the key is active; all of them, or a refusal.

    `by` is a KEY_CUSTODIAN; None only while there are no operators at all. Refused in this order: REPLAYED, then for
    each key OTHER_MODULE (its file is for another one), DESTROYED, REPLACED, OTHER_KEY, ENDED, LIMIT, BELOW_TOTAL; at
    last DUPLICATE, when no key is new or changed.
    """
    _hold_off(connection)
    _check_loader(connection, by, origin)
    if file is not None:
        _check_serial(connection, file)
    outcomes: dict[KeyId, Outcome] = {}
    for key in keys:
        if file is not None and key.id.module != file.module:
            raise CustodyRefused(
                CustodyFault.OTHER_MODULE, f"key {key.id} belongs to module {key.id.module}, the file to {file.module}"
            )
        outcomes[key.id] = _take(connection, key, origin, file)
    if all(outcome is Outcome.UNCHANGED for outcome in outcomes.values()):
        raise CustodyRefused(CustodyFault.DUPLICATE, "every key is there already, with the same dates and limits")
    if file is not None:
        _record_file(connection, file, "LOADED", origin)
        audit.note(connection, origin, "keys.file_loaded", f"module {file.module}", None, asdict(file))
    return outcomes


def activate(connection: sa.Connection, key: KeyId, *, kcv: str, by: Operator, origin: Origin) -> KeyRow:
    """Put a loaded key, or the pending terms of an active one, into use. Another person than whoever loaded it.

    `kcv`: the check value of the key that the key store really holds. Refuses ROLE_MISSING, UNKNOWN, STATE,
    SAME_PERSON, OTHER_KEY, ENDED, BELOW_TOTAL.
    """
    _require_custodian(by, origin)
    _hold_off(connection)
    row = find(connection, key)
    waiting = row.pending
    if row.state is State.ACTIVE and waiting is None:
        raise CustodyRefused(CustodyFault.STATE, f"key {key} is active already")
    if row.state not in (State.LOADED, State.ACTIVE):
        raise CustodyRefused(CustodyFault.STATE, f"key {key} is {row.state}: only a loaded key can be activated")
    loader = waiting.loaded_by if waiting else row.loaded_by
    operators.require_other(loader, by.login, f"loading and activating key {key}")
    if row.kcv != kcv:
        raise CustodyRefused(
            CustodyFault.OTHER_KEY, f"key {key}: check value {row.kcv} was loaded, the key store holds one of {kcv}"
        )
    terms = waiting.terms if waiting else row.terms
    _check_ended(key, terms, origin.at)
    _check_totals(row, terms)
    change: dict[str, Any] = {
        "state": State.ACTIVE.value,
        "activated_by": by.login,
        "activated_at": origin.at,
        "pending": None,
        **asdict(terms),
    }
    if waiting:
        change |= {
            "loaded_by": waiting.loaded_by,
            "loaded_at": waiting.loaded_at,
            "file_id": waiting.file_id,
            "file_hash": waiting.file_hash,
        }
    return _change(connection, row, change, "keys.activated", origin, beside=None)


def replace(
    connection: sa.Connection, key: KeyId, by_key: KeyId, *, first: Operator, second: Operator | None, origin: Origin
) -> KeyRow:
    """Take an active key out of sale, because another active one of its supply group took its place; two custodians.

    Refuses ROLE_MISSING, SECOND, SAME_PERSON, UNKNOWN, STATE.
    """
    beside = _require_two(first, second, origin, f"replacing key {key}")
    _hold_off(connection)
    row, newer = find(connection, key), find(connection, by_key)
    if row.state is not State.ACTIVE:
        raise CustodyRefused(CustodyFault.STATE, f"key {key} is {row.state}: only an active key can be replaced")
    if newer.state is not State.ACTIVE or key.name == by_key.name or key.supply_group != by_key.supply_group:
        raise CustodyRefused(
            CustodyFault.STATE, f"key {by_key}: another active key of supply group {key.supply_group} expected"
        )
    change = {"state": State.REPLACED.value, "replaced_by": str(by_key), "replaced_at": origin.at, "pending": None}
    return _change(connection, row, change, "keys.replaced", origin, beside)


def destroy(
    connection: sa.Connection, key: KeyId, *, first: Operator, second: Operator | None, origin: Origin
) -> KeyRow:
    """Record that a key was destroyed, for ever; two custodians. The caller takes it out of the key store.

    Refuses ROLE_MISSING, SECOND, SAME_PERSON, UNKNOWN, DESTROYED, and STATE for an active key: replace it first.
    """
    beside = _require_two(first, second, origin, f"destroying key {key}")
    _hold_off(connection)
    row = find(connection, key)
    if row.state is State.DESTROYED:
        raise CustodyRefused(CustodyFault.DESTROYED, f"key {key} was destroyed on {_day(row.destroyed_at)}")
    if row.state is State.ACTIVE:
        raise CustodyRefused(CustodyFault.STATE, f"key {key} is active: replace or suspend it first")
    change = {"state": State.DESTROYED.value, "destroyed_at": origin.at, "pending": None}
    return _change(connection, row, change, "keys.destroyed", origin, beside)


def suspend(connection: sa.Connection, key: KeyId, *, by: Operator, origin: Origin) -> KeyRow:
    """Take an active key out of sale at once, back to LOADED; one custodian is enough, since it only stops sales.

    To sell again, another custodian than this one activates it. Refuses ROLE_MISSING, UNKNOWN, STATE.
    """
    _require_custodian(by, origin)
    _hold_off(connection)
    row = find(connection, key)
    if row.state is not State.ACTIVE:
        raise CustodyRefused(CustodyFault.STATE, f"key {key} is {row.state}, not active")
    change = {"state": State.LOADED.value, "loaded_by": by.login, "loaded_at": origin.at, "pending": None}
    return _change(connection, row, change, "keys.suspended", origin, beside=None)


def set_limits(
    connection: sa.Connection,
    key: KeyId,
    token_limit: int | None,
    units_limit_tenths: int | None,
    *,
    first: Operator,
    second: Operator | None,
    origin: Origin,
) -> KeyRow:
    """Set both limits of a key; None is no limit. Two custodians to raise one, one is enough to lower.

    Refuses ROLE_MISSING, UNKNOWN, STATE, LIMIT, BELOW_TOTAL, SECOND, SAME_PERSON.
    """
    _require_custodian(first, origin)
    _hold_off(connection)
    row = find(connection, key)
    if row.state not in (State.LOADED, State.ACTIVE):
        raise CustodyRefused(CustodyFault.STATE, f"key {key} is {row.state}: its limits mean nothing any more")
    limits = {"token_limit": token_limit, "units_limit_tenths": units_limit_tenths}
    _check_limits(key, token_limit, units_limit_tenths)
    _check_totals(row, Terms(0, token_limit=token_limit, units_limit_tenths=units_limit_tenths))
    beside = None
    if _is_more(token_limit, row.terms.token_limit) or _is_more(units_limit_tenths, row.terms.units_limit_tenths):
        beside = _require_two(first, second, origin, f"raising a limit of key {key}")
    return _change(connection, row, limits, "keys.limits_set", origin, beside)


def record_export(
    connection: sa.Connection,
    file: KeyFile,
    keys: Iterable[KeyId],
    *,
    first: Operator,
    second: Operator | None,
    origin: Origin,
) -> None:
    """Record that a transfer file was made for a module; two custodians. Refuses ROLE_MISSING, SECOND, SAME_PERSON."""
    beside = _require_two(first, second, origin, f"exporting keys to module {file.module}")
    audit.queue_up(connection)
    _record_file(connection, file, "EXPORTED", origin)
    seen = asdict(file) | {"keys": [str(key) for key in keys], "beside": beside.login}
    audit.note(connection, origin, "keys.exported", f"module {file.module}", None, seen)


def next_serial(connection: sa.Connection, module: str) -> int:
    """The serial number of the next file exported to this module. `audit.queue_up` first: it is not kept free."""
    return _last_serial(connection, "EXPORTED", module) + 1


# --- looking ----------------------------------------------------------------------------------------------------------


def find(connection: sa.Connection, key: KeyId) -> KeyRow:
    """One key; refuses UNKNOWN."""
    row = connection.execute(sa.select(tables.vending_key).where(_is(key))).mappings().first()
    if row is None:
        raise CustodyRefused(CustodyFault.UNKNOWN, f"key {key} is not in the books")
    return _row(row)


def report(connection: sa.Connection, module: str | None = None) -> list[KeyRow]:
    """All keys, or those of one module, in the order of their names."""
    t = tables.vending_key.c
    wanted = sa.select(tables.vending_key).order_by(
        t.supply_group, t.key_revision, t.key_type, t.key_generation, t.base_date, t.module
    )
    rows = connection.execute(wanted if module is None else wanted.where(t.module == module)).mappings()
    return [_row(row) for row in rows]


def ending_soon(connection: sa.Connection, now: datetime, days: int) -> list[Ending]:
    """The ends of keys within so many days, or over; the nearest first."""
    soon = [ending for ending in endings(report(connection)) if ending.ends_at <= now + timedelta(days=days)]
    return sorted(soon, key=lambda ending: (ending.ends_at, ending.subject, ending.kind))


# --- the rest ---------------------------------------------------------------------------------------------------------


def _require_custodian(by: Operator, origin: Origin) -> None:
    assert by.login == origin.who, "the log must name whoever does it"
    operators.require_role(by, Role.KEY_CUSTODIAN)


def _require_two(first: Operator, second: Operator | None, origin: Origin, duty: str) -> Operator:
    assert first.login == origin.who, "the log must name whoever does it"
    return operators.require_two(first, second, Role.KEY_CUSTODIAN, duty)


def _check_loader(connection: sa.Connection, by: Operator | None, origin: Origin) -> None:
    if by is not None:
        _require_custodian(by, origin)
    elif not operators.is_empty(connection):
        raise operators.OperatorRefused(
            operators.OperatorFault.ROLE_MISSING, "there are operators: a KEY_CUSTODIAN loads keys"
        )


def _check_serial(connection: sa.Connection, file: KeyFile) -> None:
    t = tables.key_file.c
    loaded = connection.execute(
        sa.select(t.recorded_at).where(t.file_id == file.file_id, t.direction == "LOADED")
    ).scalar_one_or_none()
    if loaded is not None:
        raise CustodyRefused(CustodyFault.REPLAYED, f"this file was loaded on {_day(loaded)} already")
    last = _last_serial(connection, "LOADED", file.module)
    if file.serial <= last:
        raise CustodyRefused(
            CustodyFault.REPLAYED,
            f"file number {file.serial}: number {last} was loaded already, so a higher one expected",
        )


def _last_serial(connection: sa.Connection, direction: str, module: str) -> int:
    t = tables.key_file.c
    wanted = sa.select(sa.func.max(t.serial)).where(t.direction == direction, t.module == module)
    return int(connection.execute(wanted).scalar_one() or 0)


def _record_file(connection: sa.Connection, file: KeyFile, direction: str, origin: Origin) -> None:
    connection.execute(
        sa.insert(tables.key_file),
        {**asdict(file), "direction": direction, "recorded_at": origin.at, "recorded_by": origin.who},
    )


def _take(connection: sa.Connection, key: NewKey, origin: Origin, file: KeyFile | None) -> Outcome:
    held = {row.id: row for row in map(_row, connection.execute(_named(key.id)).mappings())}
    row = held.get(key.id)
    if row is not None:
        _check_known(row, key)
    for other in held.values():
        if other.kcv and key.kcv and other.kcv != key.kcv:
            raise CustodyRefused(
                CustodyFault.OTHER_KEY,
                f"key {other.id} has the check value {other.kcv} in the books, and {key.kcv} in what was brought",
            )
    _check_ended(key.id, key.terms, origin.at)
    _check_limits(key.id, key.terms.token_limit, key.terms.units_limit_tenths)
    brought: dict[str, Any] = {
        "loaded_by": origin.who,
        "loaded_at": origin.at,
        "file_id": file.file_id if file else None,
        "file_hash": file.file_hash if file else None,
    }
    if row is None:
        values = {
            **asdict(key.id),
            "kcv": key.kcv,
            "state": State.LOADED.value,
            **asdict(key.terms),
            "tokens_made": 0,
            "units_made_tenths": 0,
            **brought,
        }
        connection.execute(sa.insert(tables.vending_key), values)
        _stamp(connection)
        audit.note(connection, origin, "keys.loaded", f"key {key.id}", None, _seen(find(connection, key.id)))
        return Outcome.NEW
    _check_totals(row, key.terms)
    if key.terms == (row.pending.terms if row.pending else row.terms):
        return Outcome.UNCHANGED
    if row.state is State.LOADED:
        _change(connection, row, {**asdict(key.terms), **brought}, "keys.loaded", origin, beside=None)
    else:
        pending = Pending(key.terms, **brought)
        _change(connection, row, {"pending": _spelled(pending)}, "keys.refresh_loaded", origin, beside=None)
    return Outcome.REFRESHED


def _check_known(row: KeyRow, key: NewKey) -> None:
    if row.state is State.DESTROYED:
        raise CustodyRefused(
            CustodyFault.DESTROYED, f"key {key.id} was destroyed on {_day(row.destroyed_at)} and does not come back"
        )
    if row.state is State.REPLACED:
        raise CustodyRefused(
            CustodyFault.REPLACED, f"key {key.id} was replaced by {row.replaced_by} and does not come back"
        )
    if row.kcv != key.kcv:
        raise CustodyRefused(
            CustodyFault.OTHER_KEY,
            f"key {key.id} has the check value {row.kcv or 'none'} here, and {key.kcv or 'none'} in what was brought",
        )


def _check_ended(key: KeyId, terms: Terms, now: datetime) -> None:
    if is_over(terms, now):
        raise CustodyRefused(CustodyFault.ENDED, f"key {key}: its dates are over")


def _check_limits(key: KeyId, token_limit: int | None, units_limit_tenths: int | None) -> None:
    for limit in (token_limit, units_limit_tenths):
        if limit is not None and not 0 <= limit <= COUNT_MAX:
            raise CustodyRefused(CustodyFault.LIMIT, f"key {key}: a limit from 0 to {COUNT_MAX} expected")


def _check_totals(row: KeyRow, terms: Terms) -> None:
    if terms.token_limit is not None and terms.token_limit < row.tokens_made:
        raise CustodyRefused(
            CustodyFault.BELOW_TOTAL,
            f"key {row.id} has made {row.tokens_made} tokens, more than a limit of {terms.token_limit}",
        )
    if terms.units_limit_tenths is not None and terms.units_limit_tenths < row.units_made_tenths:
        raise CustodyRefused(
            CustodyFault.BELOW_TOTAL,
            f"key {row.id} has made {kwh(row.units_made_tenths)} kWh, more than a limit of "
            f"{kwh(terms.units_limit_tenths)}",
        )


def _is_more(new: int | None, old: int | None) -> bool:
    return old is not None and (new is None or new > old)


def _change(
    connection: sa.Connection,
    row: KeyRow,
    change: dict[str, Any],
    deed: str,
    origin: Origin,
    beside: Operator | None,
) -> KeyRow:
    connection.execute(sa.update(tables.vending_key).where(_is(row.id)).values(**change))
    _stamp(connection)
    after = find(connection, row.id)
    seen = _seen(after) | ({"beside": beside.login} if beside else {})
    audit.note(connection, origin, deed, f"key {row.id}", _seen(row), seen)
    return after


def _stamp(connection: sa.Connection) -> None:
    t = tables.stamp.c
    insert_new(connection, tables.stamp, [{"name": STAMP, "value": 0}], key="name")
    connection.execute(sa.update(tables.stamp).where(t.name == STAMP).values(value=t.value + 1))


def _hold_off(connection: sa.Connection) -> None:
    """Queue up for the audit log, then wait until no batch of sales is under way, and let none begin before the end.

    SQLite has one writer anyway. On PostgreSQL a batch that has read the table of keys keeps the weakest lock on it
    until its end, which costs it nothing; the strongest lock waits for all of those.
    """
    audit.queue_up(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE vending_key IN ACCESS EXCLUSIVE MODE"))


def stamp(connection: sa.Connection) -> int:
    """What rises with every change of any key."""
    t = tables.stamp.c
    return int(connection.execute(sa.select(t.value).where(t.name == STAMP)).scalar_one_or_none() or 0)


def _named(key: KeyId) -> sa.Select[Any]:
    """The rows of this key in every module."""
    t = tables.vending_key.c
    name = {field: value for field, value in asdict(key).items() if field != "module"}
    return sa.select(tables.vending_key).where(sa.and_(*(t[field] == value for field, value in name.items())))


def _is(key: KeyId) -> sa.ColumnElement[bool]:
    t = tables.vending_key.c
    return sa.and_(*(t[name] == value for name, value in asdict(key).items()))


def _row(row: Any) -> KeyRow:
    return KeyRow(
        id=KeyId(*(row[field.name] for field in fields(KeyId))),
        terms=Terms(*(row[field.name] for field in fields(Terms))),
        state=State(row["state"]),
        pending=_read_pending(row["pending"]) if row["pending"] else None,
        **{
            field.name: row[field.name]
            for field in fields(KeyRow)
            if field.name not in ("id", "terms", "state", "pending")
        },
    )


def _seen(row: KeyRow) -> dict[str, Any]:
    """A key as the audit log shows it."""
    seen: dict[str, Any] = {"kcv": row.kcv, "module": row.module, "state": row.state, **asdict(row.terms)}
    seen |= {"tokens_made": row.tokens_made, "units_made_tenths": row.units_made_tenths}
    seen |= {"loaded_by": row.loaded_by, "activated_by": row.activated_by, "replaced_by": row.replaced_by}
    seen |= {"file_id": row.file_id, "file_hash": row.file_hash}
    if row.pending:
        seen["pending"] = {**asdict(row.pending.terms), "loaded_by": row.pending.loaded_by}
        seen["pending"] |= {"file_id": row.pending.file_id, "file_hash": row.pending.file_hash}
    return seen


_BROUGHT: Final = ("loaded_by", "loaded_at", "file_id", "file_hash")


def _spelled(pending: Pending) -> str:
    flat = {**asdict(pending.terms), **{name: getattr(pending, name) for name in _BROUGHT}}
    # Instants and ids as texts; all others are texts and numbers by themselves.
    return json.dumps(flat, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value))


def _read_pending(text: str) -> Pending:
    flat = json.loads(text)
    for name in ("active_from", "issued_until", "refresh_by", "loaded_at"):
        flat[name] = datetime.fromisoformat(flat[name]) if flat[name] else None
    flat["file_id"] = UUID(flat["file_id"]) if flat["file_id"] else None
    return Pending(Terms(**{field.name: flat[field.name] for field in fields(Terms)}), **{n: flat[n] for n in _BROUGHT})


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "an unknown day"
