"""Tariffs as stored: a head, and versions that are entered by one person and released by another. Books.

Functions of the SQL transaction they are handed; they never commit. Rules for pricing are made by `ledger/pricing.py`.

A version's way: DRAFT when somebody has entered it, RELEASED when somebody else has, WITHDRAWN when a draft was dropped
or a released one taken back before it began. Only RELEASED versions price sales; what one says is never changed, so an
entered mistake is withdrawn and entered again. A version is released before it begins: so no price that was sold under
changes, and of one start only one version ever sold.

The first installation is the exception: `save`, which `prepaid load` calls, releases what it brings as long as nobody
has bought anything.

Every release, and every withdrawal of a released version, raises the row of `stamp` called "tariffs", by which running
gateways know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ledger import audit, tables
from ledger.audit import Origin
from ledger.operators import Operator, Role, require_other, require_role
from ledger.pricing import Tariff
from ledger.records import ensure_accounts, insert_new
from ledger.sql import Row
from ledger.tariffs_format import read_tariff

ROLES: Final = (Role.FINANCE, Role.SUPERVISOR)
"""Who enters, releases and withdraws."""

AHEAD: Final = timedelta(minutes=5)
"""How long before its start a version must be released or withdrawn: a sale under way prices with what it has read."""

LOADED: Final = "load"
"""Who entered what `prepaid load` brought: not a login, for those have at least two people."""

_EARLY: Final = timedelta(days=1)  # how far an id may be older than the moment its money was accepted


class TariffChanged(Exception):
    """A stored version, or the head it hangs on, differs from the one brought; versions are never edited."""


class State(StrEnum):
    """Where a version is on its way."""

    DRAFT = "DRAFT"
    RELEASED = "RELEASED"
    WITHDRAWN = "WITHDRAWN"


class TariffFault(StrEnum):
    """Why a deed with a tariff is refused; the value is stable and may be stored."""

    # fmt: off
    UNKNOWN  = "unknown"   # no such tariff or version
    NOTHING  = "nothing"   # the document brings nothing that is not there already
    STANDS   = "stands"    # another version of this start is there
    HEAD     = "head"      # what is not in versions differs from what is stored
    PAST     = "past"      # it begins too soon, or has begun
    SOLD     = "sold"      # something was sold in its time
    STATE    = "state"     # not in this state
    # fmt: on


class TariffRefused(Exception):
    """The rules about tariffs say no. `fault` is the name, `sentence` is for people."""

    def __init__(self, fault: TariffFault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault: Final = fault
        self.sentence: Final = sentence


@dataclass(frozen=True, slots=True)
class Version:
    """A version as stored. `rules` is JSON, as `ledger/tariffs_format.py` describes it."""

    tariff_code: str
    effective_from: str
    entry: int
    rules: str
    state: str
    entered_by: str
    entered_at: datetime | None
    released_by: str | None
    released_at: datetime | None
    withdrawn_by: str | None
    withdrawn_at: datetime | None

    @property
    def name(self) -> str:
        """How it is called in refusals and in the audit log."""
        return f"version {self.effective_from} of tariff {self.tariff_code}"


# --- the first installation -------------------------------------------------------------------------------------------


def lacking(
    connection: sa.Connection, document: Mapping[str, Any], *, minor_digits: int
) -> list[tuple[str, Mapping[str, Any]]] | None:
    """The versions that `save` would add, by their starts; None if all that the document says is there already.

    Stores nothing; raises what `save` would.
    """
    tariff = read_tariff(document, minor_digits=minor_digits)
    stored = {
        version.effective_from: version for version in versions(connection, tariff.code)
    }  # the last entry of each
    head_was = _head(connection, tariff.code)
    if head_was is not None and head_was != _head_of(document, minor_digits):
        raise TariffChanged(f"tariff {tariff.code} differs from the one stored")
    new: list[tuple[str, Mapping[str, Any]]] = []
    for name, rules in zip((version.name for version in tariff.versions), document["versions"], strict=True):
        standing = stored.get(name)
        if standing is None:
            new.append((name, rules))
        elif not _same(standing.rules, rules):
            raise TariffChanged(f"version {name} of tariff {tariff.code} differs from the one stored")
        elif standing.state != State.RELEASED:
            raise TariffChanged(f"{standing.name} is there already, and it is {standing.state}")
    if head_was is not None and not new:
        return None
    if _has_sold(connection):
        what = f"version {new[0][0]} of tariff {tariff.code}" if new else f"tariff {tariff.code}"
        raise TariffChanged(
            f"{what} is new, and sales have begun: two people bring it in, `prepaid tariff enter` and `release`"
        )
    return new


def save(
    connection: sa.Connection,
    document: Mapping[str, Any],
    *,
    minor_digits: int,
    currency: str,
    origin: Origin | None = None,
) -> bool:
    """Store a tariff document and release its versions that are new; False if none was. With an audit row if `origin`.

    Raises TariffFaults for a bad document, TariffChanged if it contradicts what is stored, or brings something new
    although sales have begun: then two people enter and release it.
    """
    tariff = read_tariff(document, minor_digits=minor_digits)
    found = lacking(connection, document, minor_digits=minor_digits)
    if found is None:
        return False
    head_was, new = _head(connection, tariff.code), found
    if head_was is None:
        _put_head(connection, tariff.code, document, minor_digits)
    for name, rules in new:
        at = origin.at if origin else None
        row = _row(tariff.code, name, 1, rules, LOADED, at)
        connection.execute(
            tables.tariff_version.insert().values(
                **row | {"state": State.RELEASED.value, "released_by": LOADED, "released_at": at}
            )
        )
    _have_accounts(connection, tariff, currency)
    _stamp(connection)
    if origin is not None:
        after = {"versions": [name for name, _ in new], "state": State.RELEASED}
        audit.note(connection, origin, "tariff.loaded", f"tariff {tariff.code}", None, after)
    return True


# --- two people -------------------------------------------------------------------------------------------------------


def enter(
    connection: sa.Connection,
    document: Mapping[str, Any],
    *,
    by: Operator,
    origin: Origin,
    zone: ZoneInfo,
    minor_digits: int,
) -> list[Version]:
    """Enter the versions of a document that are not stored yet, as drafts that price nothing; the drafts.

    Raises TariffFaults for a bad document. Refuses ROLE_MISSING, HEAD, STANDS, PAST, NOTHING.
    """
    require_role(by, *ROLES)
    tariff = read_tariff(document, minor_digits=minor_digits)
    audit.queue_up(connection)  # one at a time, so that entries of one start get numbers of their own
    several = versions(connection, tariff.code)
    head, head_was = _head_of(document, minor_digits), _head(connection, tariff.code)
    if head_was is not None and head_was != head:
        if any(version.state != State.WITHDRAWN for version in several):
            raise TariffRefused(
                TariffFault.HEAD,
                f"tariff {tariff.code}: {', '.join(_different(head_was, head))} cannot change with a version;"
                " a tariff that differs there needs a code of its own",
            )
        connection.execute(tables.tariff.update().where(tables.tariff.c.code == tariff.code).values(head=head))
    elif head_was is None:
        _put_head(connection, tariff.code, document, minor_digits)
    drafts: list[Version] = []
    for version, rules in zip(tariff.versions, document["versions"], strict=True):
        entries = [one for one in several if one.effective_from == version.name]
        standing = next((one for one in entries if one.state != State.WITHDRAWN), None)
        if standing is not None and _same(standing.rules, rules):
            continue
        if standing is not None:
            raise TariffRefused(
                TariffFault.STANDS,
                f"{standing.name} is {standing.state} and says something else: "
                + ("withdraw it first" if standing.state == State.DRAFT else "versions are never edited"),
            )
        _require_future(version.effective_from, origin, zone, f"version {version.name} of tariff {tariff.code}")
        row = _row(tariff.code, version.name, len(entries) + 1, rules, by.login, origin.at)
        connection.execute(tables.tariff_version.insert().values(**row))
        drafts.append(Version(**row))
    if not drafts:
        raise TariffRefused(TariffFault.NOTHING, f"tariff {tariff.code}: every version of the file is there already")
    for draft in drafts:
        _note(connection, origin, "entered", draft, None, {"rules": _for_audit(draft.rules)})
    return drafts


def release(
    connection: sa.Connection, version: Version, *, by: Operator, origin: Origin, zone: ZoneInfo, currency: str
) -> None:
    """Let a draft price sales from its start on; not by whoever entered it.

    Refuses ROLE_MISSING, SAME_PERSON, STATE, PAST, SOLD.
    """
    require_role(by, *ROLES)
    audit.queue_up(connection)
    require_other(version.entered_by, by.login, f"releasing {version.name}")
    _require_future(datetime.fromisoformat(version.effective_from), origin, zone, version.name, AHEAD)
    _require_unsold(connection, version, zone)
    head = _head(connection, version.tariff_code)
    assert head is not None, "a version has a head"
    _have_accounts(connection, _tariff(head, [version]), currency)
    _move(connection, version, (State.DRAFT,), State.RELEASED, released_by=by.login, released_at=origin.at)
    _stamp(connection)
    before = {"state": State.DRAFT, "entered_by": version.entered_by, "entered_at": version.entered_at}
    _note(connection, origin, "released", version, before, {"state": State.RELEASED})


def withdraw(connection: sa.Connection, version: Version, *, by: Operator, origin: Origin, zone: ZoneInfo) -> None:
    """Drop a draft, or take back a released version that has not begun. One person may: no price of now changes.

    Refuses ROLE_MISSING, STATE, PAST, SOLD.
    """
    require_role(by, *ROLES)
    audit.queue_up(connection)
    if version.state == State.RELEASED:
        start = datetime.fromisoformat(version.effective_from)
        _require_future(start, origin, zone, version.name, AHEAD)
        _require_unsold(connection, version, zone)
    standing = (State.DRAFT, State.RELEASED)
    _move(connection, version, standing, State.WITHDRAWN, withdrawn_by=by.login, withdrawn_at=origin.at)
    if version.state == State.RELEASED:
        _stamp(connection)
    _note(connection, origin, "withdrawn", version, {"state": version.state}, {"state": State.WITHDRAWN})


# --- looking ----------------------------------------------------------------------------------------------------------


def versions(connection: sa.Connection, tariff_code: str | None = None) -> list[Version]:
    """Every version ever entered, of one tariff or of all, in the order of tariff, start and entry."""
    t = tables.tariff_version
    wanted = sa.select(t).order_by(t.c.tariff_code, t.c.effective_from, t.c.entry)
    if tariff_code is not None:
        wanted = wanted.where(t.c.tariff_code == tariff_code)
    return [Version(**row) for row in connection.execute(wanted).mappings()]


def version_of(connection: sa.Connection, tariff_code: str, start: str) -> Version:
    """The version of this start that stands, or else the one that was withdrawn last; refuses UNKNOWN."""
    found = [version for version in versions(connection, tariff_code) if version.effective_from == start]
    if not found:
        starts = [version.effective_from for version in versions(connection, tariff_code)]
        said = f"its versions start {', '.join(dict.fromkeys(starts))}" if starts else "there is no such tariff"
        raise TariffRefused(TariffFault.UNKNOWN, f"tariff {tariff_code} has no version {start}: {said}")
    return next((version for version in found if version.state != State.WITHDRAWN), found[-1])


def draft_of(connection: sa.Connection, tariff_code: str) -> Version:
    """The tariff's earliest draft; refuses UNKNOWN if there is none."""
    drafts = [version for version in versions(connection, tariff_code) if version.state == State.DRAFT]
    if not drafts:
        raise TariffRefused(TariffFault.UNKNOWN, f"tariff {tariff_code} has no draft")
    return drafts[0]


def document(
    connection: sa.Connection, tariff_code: str, *, states: Sequence[str] = (State.RELEASED,)
) -> dict[str, Any]:
    """A tariff as a document, with its versions in these states; refuses UNKNOWN for a code that nobody has."""
    head = _head(connection, tariff_code)
    if head is None:
        raise TariffRefused(TariffFault.UNKNOWN, f"there is no tariff {tariff_code}")
    made: dict[str, Any] = json.loads(head)
    made.pop("minor_digits")
    chosen = [version for version in versions(connection, tariff_code) if version.state in states]
    return {**made, "versions": [json.loads(version.rules) for version in chosen]}


def released(connection: sa.Connection, tariff_code: str) -> Tariff | None:
    """The tariff with all its released versions, ready to price with; None if it has none."""
    head = _head(connection, tariff_code)
    chosen = [version for version in versions(connection, tariff_code) if version.state == State.RELEASED]
    return _tariff(head, chosen) if head is not None and chosen else None


def priced_with(connection: sa.Connection, version: Version) -> Tariff:
    """The tariff with this version alone, ready to price with, whatever its state."""
    head = _head(connection, version.tariff_code)
    assert head is not None, "a version has a head"
    return _tariff(head, [version])


def parse_rows(heads: Sequence[Row], versions: Sequence[Row]) -> dict[str, Tariff]:
    """The stored tariffs, ready to price with; rows of (code, head) and (code, effective_from, rules).

    A tariff without a version is none yet.
    """
    rules: dict[str, list[Any]] = {}
    for code, _, text in sorted(versions, key=lambda row: (row[0], row[1])):
        rules.setdefault(code, []).append(json.loads(text))
    return {code: _made(text, rules[code]) for code, text in heads if code in rules}


# --- parts ------------------------------------------------------------------------------------------------------------


def _made(head_text: str, rules: Sequence[Any]) -> Tariff:
    head = json.loads(head_text)
    minor_digits = head.pop("minor_digits")
    return read_tariff({**head, "versions": list(rules)}, minor_digits=minor_digits, is_stored=True)


def _tariff(head_text: str, chosen: Sequence[Version]) -> Tariff:
    return _made(head_text, [json.loads(version.rules) for version in chosen])


def _head(connection: sa.Connection, code: str) -> str | None:
    return connection.execute(sa.select(tables.tariff.c.head).where(tables.tariff.c.code == code)).scalar_one_or_none()


def _head_of(document: Mapping[str, Any], minor_digits: int) -> str:
    return _text({"minor_digits": minor_digits, **{key: document[key] for key in document if key != "versions"}})


def _put_head(connection: sa.Connection, code: str, document: Mapping[str, Any], minor_digits: int) -> None:
    connection.execute(tables.tariff.insert().values(code=code, head=_head_of(document, minor_digits)))


def _different(head: str, other: str) -> list[str]:
    one, two = json.loads(head), json.loads(other)
    return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))


def _same(stored: str, rules: Mapping[str, Any]) -> bool:
    return stored == _text(rules)


def _row(code: str, start: str, entry: int, rules: Mapping[str, Any], by: str, at: datetime | None) -> dict[str, Any]:
    nobody: dict[str, Any] = dict.fromkeys(("released_by", "released_at", "withdrawn_by", "withdrawn_at"))
    return {
        "tariff_code": code,
        "effective_from": start,
        "entry": entry,
        "rules": _text(rules),
        "state": State.DRAFT.value,
        "entered_by": by,
        "entered_at": at,
        **nobody,
    }


def _move(connection: sa.Connection, version: Version, of: Sequence[State], to: State, **change: Any) -> None:
    """Change a version that is in one of these states, and still in it; refuses STATE for another."""
    t = tables.tariff_version
    moved = 0
    if version.state in of:
        moved = connection.execute(
            t.update()
            .where(
                t.c.tariff_code == version.tariff_code,
                t.c.effective_from == version.effective_from,
                t.c.entry == version.entry,
                t.c.state == version.state,
            )
            .values(state=to.value, **change)
        ).rowcount
    if moved != 1:
        said = f"is {version.state}" if version.state not in of else "has been changed by somebody else just now"
        raise TariffRefused(TariffFault.STATE, f"{version.name} {said}: {' or '.join(of)} expected")


def _require_future(
    start: datetime, origin: Origin, zone: ZoneInfo, name: str, before: timedelta = timedelta(0)
) -> None:
    now_local = origin.at.astimezone(zone).replace(tzinfo=None)
    if start <= now_local + before:
        rule = (
            f"a version is released, or withdrawn again, at least {before.seconds // 60} minutes before it starts"
            if before
            else "a version is entered before it starts"
        )
        raise TariffRefused(
            TariffFault.PAST,
            f"{name}: it is {now_local:%Y-%m-%dT%H:%M:%S} in {zone.key} already, and {rule}, so that no price changes"
            " that was sold under",
        )


def _require_unsold(connection: sa.Connection, version: Version, zone: ZoneInfo) -> None:
    """Refuse SOLD if money was accepted for this tariff at or after the version's start, whatever clock said so."""
    start = datetime.fromisoformat(version.effective_from).replace(tzinfo=zone)
    p = tables.purchase.c
    found = connection.execute(
        sa.select(p.receipt)
        .where(p.id >= least_id(start - _EARLY), p.accepted_at >= start, p.tariff_code == version.tariff_code)
        .limit(1)
    ).first()
    if found is not None:
        raise TariffRefused(TariffFault.SOLD, f"{version.name}: receipt {found[0]} was sold in its time already")


def least_id(instant: datetime) -> UUID:
    """The least id (UUID of version 7) that can have been made at this instant or later."""
    return UUID(int=max(0, int(instant.timestamp() * 1000)) << 80)


def _has_sold(connection: sa.Connection) -> bool:
    return connection.execute(sa.select(tables.purchase.c.id).limit(1)).first() is not None


def _have_accounts(connection: sa.Connection, tariff: Tariff, currency: str) -> None:
    charges = {charge.code for version in tariff.versions for charge in version.per_kwh_charges}
    charges |= {charge.code for version in tariff.versions for charge in version.percent_charges}
    ensure_accounts(connection, [f"energy:{tariff.code}", *(f"levy:{code}" for code in sorted(charges))], currency)


def _note(
    connection: sa.Connection,
    origin: Origin,
    deed: str,
    version: Version,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> None:
    about = {"version": version.effective_from, "entry": version.entry, **after}
    audit.note(connection, origin, f"tariff.{deed}", f"tariff {version.tariff_code}", before, about)


def _for_audit(rules: str) -> Any:
    """The rules for the audit log; of very long ones, which stay in the table for ever, only how long they are."""
    return json.loads(rules) if len(rules) < audit.VALUES_MAX // 2 else f"{len(rules)} characters"


def _stamp(connection: sa.Connection) -> None:
    insert_new(connection, tables.stamp, [{"name": "tariffs", "value": 0}], key="name")
    connection.execute(
        tables.stamp.update().where(tables.stamp.c.name == "tariffs").values(value=tables.stamp.c.value + 1)
    )


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
