"""Stations and agents as their keepers see them: added, changed, blocked; limits, commission, statement.

Functions of the SQL transaction they are handed; they never commit. What a sale is held to is in `ledger/selling.py`.
Every change goes into the audit log in the same transaction. A limit of credit, a commission and its payment take two
people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, commissions, entries, tables
from ledger.accounts import id_of
from ledger.audit import Origin
from ledger.books import Overdrawn
from ledger.direct import Post, carry_out, lock_balance
from ledger.operators import Operator, OperatorFault, OperatorRefused, Role, find, require_other, require_role
from ledger.records import ensure_accounts
from ledger.stations_tables import commission_scheme, deposit, operator_limit, shift

KINDS: Final = ("COUNTER", "AGENT", "OFFLINE", "BANK")
FUNDINGS: Final = ("PREPAID", "CREDIT")
AMOUNT_MAX_MINOR: Final = 10**15

_CODE: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,19}")
_GROUP: Final = re.compile(r"\d{6}")
_CHANNEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,19}")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class StationFault(StrEnum):
    """Why something about a station is refused; the value is stable and may be stored."""

    # fmt: off
    UNKNOWN    = "unknown"     # no such station, shift, deposit, batch or scheme
    EXISTS     = "exists"
    FORM       = "form"        # a value of another form
    STATE      = "state"       # not in the state that this takes
    FUNDING    = "funding"     # a float has no limit, a limit no float
    FUNDS      = "funds"       # the station's money does not allow it
    SLIP       = "slip"        # this slip is entered already
    EXPLAIN    = "explain"     # a difference without an explanation
    NOTHING    = "nothing"     # nothing to be done
    # fmt: on


class StationRefused(Exception):
    """The rules about stations say no. `fault` is the name, the text is for people."""

    def __init__(self, fault: StationFault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault: Final = fault


_OPENING: Final = "opening"


@dataclass(frozen=True, slots=True)
class Station:
    """A station as stored. `supply_groups` and `channels` are separated by blanks; no channels: any."""

    id: UUID
    code: str
    name: str
    kind: str
    funding: str
    account_id: UUID
    commission_percent: str
    supply_groups: str
    state: str = "ACTIVE"
    channels: str = ""
    commission_scheme: str | None = None
    language: str | None = None
    shift_required: bool = False
    blind_count: bool = False
    pin_rule: str = ""  # as of ledger/pins.py

    @property
    def account_code(self) -> str:
        return f"{'float' if self.funding == 'PREPAID' else 'owed'}:{self.code}"


CHANGEABLE: Final = ("name", "kind", "supply_groups", "channels", "language", "shift_required", "blind_count")
"""What one person may change of a station."""


def known(connection: sa.Connection, code: str, *, lock: bool = False) -> Station:
    """The station of this code; refuses UNKNOWN. `lock`: nobody else changes it until the transaction ends."""
    wanted = sa.select(tables.station).where(tables.station.c.code == code)
    row = connection.execute(wanted.with_for_update() if lock else wanted).mappings().first()
    if row is None:
        raise StationRefused(StationFault.UNKNOWN, f"there is no station {code}")
    return Station(**row)


def everyone(connection: sa.Connection) -> list[Station]:
    """All stations, by code."""
    rows = connection.execute(sa.select(tables.station).order_by(tables.station.c.code)).mappings()
    return [Station(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Money:
    """What a station has: its balance (credits positive), what is held for sales, and how far down it may go."""

    posted_minor: int
    pending_minor: int
    floor_minor: int

    @property
    def available_minor(self) -> int:
        return self.posted_minor - self.pending_minor - self.floor_minor


def money(connection: sa.Connection, station: Station) -> Money:
    """What the station has and may still sell for."""
    b = tables.limited_balance.c
    wanted = sa.select(b.posted_minor, b.pending_minor, b.floor_minor).where(b.account_id == station.account_id)
    return Money(*connection.execute(wanted).one())


# --- one person -------------------------------------------------------------------------------------------------------


def add(connection: sa.Connection, new: Station, currency: str, *, by: Operator, origin: Origin) -> None:
    """Add a station, with nothing in its float and no credit. By FINANCE or ADMIN. Refuses FORM and EXISTS."""
    require_role(by, Role.FINANCE, Role.ADMIN)
    _check(new)
    if not _CODE.fullmatch(new.code):
        raise StationRefused(StationFault.FORM, f"code: 1 to 20 of A-Z, 0-9 and dash expected, got {new.code!r}")
    if new.funding not in FUNDINGS:
        raise StationRefused(StationFault.FORM, f"funding: {' or '.join(FUNDINGS)} expected, got {new.funding!r}")
    s = tables.station
    if connection.execute(sa.select(s.c.id).where(s.c.code == new.code)).first() is not None:
        raise StationRefused(StationFault.EXISTS, f"there is a station {new.code} already")
    ensure_accounts(connection, [new.account_code, f"commission:{new.code}"], currency)
    station = replace(new, account_id=id_of(new.account_code), commission_percent="0", commission_scheme=None)
    connection.execute(sa.insert(s), asdict(station))
    _note(connection, origin, "added", new.code, None, _seen(station))


def change(
    connection: sa.Connection, code: str, changes: Mapping[str, Any], *, by: Operator, origin: Origin
) -> Station:
    """Change what CHANGEABLE names. By FINANCE or ADMIN. Refuses UNKNOWN, FORM and NOTHING."""
    require_role(by, Role.FINANCE, Role.ADMIN)
    before = known(connection, code, lock=True)
    assert set(changes) <= set(CHANGEABLE), "what two people must change goes another way"
    after = replace(before, **changes)
    _check(after)
    _store(connection, origin, "changed", before, after)
    return after


def set_blocked(connection: sa.Connection, code: str, blocked: bool, *, by: Operator, origin: Origin) -> None:
    """Keep a station from selling, or let it sell again. By SUPERVISOR, FINANCE or ADMIN. Refuses NOTHING."""
    require_role(by, Role.SUPERVISOR, Role.FINANCE, Role.ADMIN)
    before = known(connection, code, lock=True)
    after = replace(before, state="BLOCKED" if blocked else "ACTIVE")
    _store(connection, origin, "blocked" if blocked else "unblocked", before, after)


def set_operator_limits(
    connection: sa.Connection,
    login: str,
    limits_minor: tuple[int | None, int | None, int | None],
    *,
    by: Operator,
    origin: Origin,
) -> None:
    """The most an operator may sell per sale, shift and day; None: no limit.

    By SUPERVISOR or FINANCE, who is not the operator. Refuses FORM, and an operator's UNKNOWN.
    """
    require_role(by, Role.SUPERVISOR, Role.FINANCE)
    require_other(by.login, login, "an operator's limits")
    find(connection, login)
    if any(limit is not None and not 0 <= limit <= AMOUNT_MAX_MINOR for limit in limits_minor):
        raise StationRefused(StationFault.FORM, "limits: amounts that are not negative expected")
    t = operator_limit
    names = ("per_sale_minor", "per_shift_minor", "per_day_minor")
    row = connection.execute(sa.select(t).where(t.c.login == login).with_for_update()).mappings().first()
    values = dict(zip(names, limits_minor, strict=True))
    before = None if row is None else {name: row[name] for name in names}
    if row is None:
        connection.execute(sa.insert(t), {"login": login, **values})
    else:
        connection.execute(sa.update(t).where(t.c.login == login).values(**values))
    audit.note(connection, origin, "operators.limits_set", login, before, values)


def limits_of(connection: sa.Connection, login: str) -> tuple[int | None, int | None, int | None]:
    """An operator's limits per sale, shift and day."""
    t = operator_limit.c
    row = connection.execute(
        sa.select(t.per_sale_minor, t.per_shift_minor, t.per_day_minor).where(t.login == login)
    ).first()
    return (None, None, None) if row is None else (row[0], row[1], row[2])


# --- two people -------------------------------------------------------------------------------------------------------


def require_two(first: Operator, second: Operator | None, duty: str) -> Operator:
    """Refuse unless FINANCE asks and another one of FINANCE, or a SUPERVISOR, agrees; the second."""
    require_role(first, Role.FINANCE)
    if second is None:
        raise OperatorRefused(OperatorFault.SECOND, f"{duty}: a second person with FINANCE or SUPERVISOR is needed")
    require_other(first.login, second.login, duty)
    require_role(second, Role.FINANCE, Role.SUPERVISOR)
    return second


def set_limit(
    connection: sa.Connection,
    code: str,
    limit_minor: int,
    *,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> None:
    """How much a station on credit may owe. Refuses FUNDING, FORM, and FUNDS where it owes more already."""
    second = require_two(by, beside, "a credit limit")
    station = known(connection, code, lock=True)
    if station.funding != "CREDIT":
        raise StationRefused(StationFault.FUNDING, f"station {code} sells from its float and has no credit limit")
    if not 0 <= limit_minor <= AMOUNT_MAX_MINOR:
        raise StationRefused(StationFault.FORM, "limit: an amount that is not negative expected")
    lock_balance(connection, station.account_id)
    now = money(connection, station)
    if now.posted_minor - now.pending_minor < -limit_minor:
        raise StationRefused(StationFault.FUNDS, f"station {code} owes more than that already")
    b = tables.limited_balance
    connection.execute(sa.update(b).where(b.c.account_id == station.account_id).values(floor_minor=-limit_minor))
    before, after = {"limit_minor": -now.floor_minor}, {"limit_minor": limit_minor, "beside": second.login}
    _note(connection, origin, "limit_set", code, before, after)


def set_commission(
    connection: sa.Connection,
    code: str,
    *,
    percent: str | None = None,
    scheme: str | None = None,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> None:
    """What a station earns: by a scheme, or a percentage of each sale. Refuses UNKNOWN, FORM and NOTHING."""
    assert (percent is None) != (scheme is None), "one of the two"
    second = require_two(by, beside, "a commission")
    before = known(connection, code, lock=True)
    if scheme is not None:
        _scheme(connection, scheme)
        after = replace(before, commission_scheme=scheme)
    else:
        try:
            commissions.version(date.min, [commissions.Step(percent=percent or "")])
        except commissions.SchemeFault as fault:
            raise StationRefused(StationFault.FORM, str(fault).removeprefix("step 1: ")) from None
        after = replace(before, commission_scheme=None, commission_percent=percent or "0")
    _store(connection, origin, "commission_set", before, after, beside=second.login)


def save_scheme(
    connection: sa.Connection,
    code: str,
    name: str,
    new: commissions.Version,
    *,
    today: date,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> None:
    """Add a version to a commission scheme, or begin a scheme with it. What sales may have used is never changed."""
    second = require_two(by, beside, "a commission scheme")
    if not _CODE.fullmatch(code) or not _is_name(name):
        raise StationRefused(
            StationFault.FORM, "scheme: a code of A-Z, 0-9 and dash, and a name of 1 to 80 characters expected"
        )
    t = commission_scheme
    row = connection.execute(sa.select(t).where(t.c.code == code).with_for_update()).mappings().first()
    try:
        versions = commissions.with_version(commissions.read(row["rules"]) if row else (), new, today)
    except commissions.SchemeFault as fault:
        raise StationRefused(StationFault.FORM, str(fault)) from None
    rules = commissions.write(versions)
    before = None if row is None else {"name": row["name"], "rules": row["rules"]}
    if row is None:
        connection.execute(sa.insert(t), {"code": code, "name": name, "rules": rules})
    else:
        connection.execute(sa.update(t).where(t.c.code == code).values(name=name, rules=rules))
    after = {"name": name, "rules": rules, "beside": second.login}
    audit.note(connection, origin, "commissions.scheme_saved", f"scheme {code}", before, after)


def schemes(connection: sa.Connection) -> list[tuple[str, str, tuple[commissions.Version, ...]]]:
    """All commission schemes: code, name, versions."""
    rows = connection.execute(sa.select(commission_scheme).order_by(commission_scheme.c.code)).mappings()
    return [(row["code"], row["name"], commissions.read(row["rules"])) for row in rows]


def commission_owed(connection: sa.Connection, code: str) -> int:
    """What a station has earned and was not paid yet. Its cost grows with the station's sales: for settlement only."""
    p = tables.posting.c
    owed = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(
        p.account_id == id_of(f"commission:{code}")
    )
    return int(connection.execute(owed).scalar_one())


def pay_commission(
    connection: sa.Connection,
    code: str,
    *,
    txn_id: UUID,
    business_date: date,
    by: Operator,
    beside: Operator | None,
    origin: Origin,
) -> int:
    """Give a station what it has earned: into its float, or off what it owes. The amount. Refuses NOTHING."""
    second = require_two(by, beside, "commission paid out")
    station = known(connection, code, lock=True)  # of two that pay at once the second finds nothing left
    amount_minor = commission_owed(connection, code)
    if amount_minor <= 0:
        raise StationRefused(StationFault.NOTHING, f"station {code} has no commission to be paid")
    post(
        connection,
        Post(
            txn_id,
            "commission",
            entries.commission_paid(id_of(f"commission:{code}"), station.account_id, amount_minor),
            (station.account_id,),
            business_date,
            origin.at,
        ),
    )
    after = {"amount_minor": amount_minor, "txn": txn_id, "beside": second.login}
    _note(connection, origin, "commission_paid", code, None, after)
    return amount_minor


def post(connection: sa.Connection, deed: Post) -> None:
    """Post to a station's account. Refuses FUNDS where its limit does not allow it."""
    for account in sorted(deed.limited):
        lock_balance(connection, account)
    try:
        carry_out(connection, deed)
    except Overdrawn:
        raise StationRefused(StationFault.FUNDS, "the station's float or credit does not allow it") from None


# --- statement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One transaction on a station's account. Amounts are signed, credits positive. `about`: slip, shift or nothing."""

    txn_id: UUID
    kind: str
    business_date: date
    recorded_at: datetime
    amount_minor: int
    about: str


def balance_before(connection: sa.Connection, station: Station, day: date) -> int:
    """The balance of the station's account at the beginning of a business day."""
    p, t = tables.posting, tables.txn
    wanted = (
        sa.select(sa.func.coalesce(sa.func.sum(p.c.amount_minor), 0))
        .join_from(p, t, t.c.id == p.c.txn_id)
        .where(p.c.account_id == station.account_id, t.c.business_date < day)
    )
    return int(connection.execute(wanted).scalar_one())


def statement_page(
    connection: sa.Connection, station: Station, days: tuple[date, date], after: UUID | None, at_most: int
) -> list[Line]:
    """The next transactions of these business days, both included, in the order of their ids, which is that of time.

    Balances that were brought in have ids of no time; they come before all others, beside the first page.
    """
    p, t = tables.posting, tables.txn
    of_deposit = deposit.alias("d")
    of_reversal = deposit.alias("r")
    wanted = (
        sa.select(
            t.c.id,
            t.c.kind,
            t.c.business_date,
            t.c.recorded_at,
            p.c.amount_minor,
            sa.func.coalesce(of_deposit.c.bank, of_reversal.c.bank, shift.c.code, ""),
            sa.func.coalesce(of_deposit.c.slip, of_reversal.c.slip, ""),
        )
        .join_from(p, t, t.c.id == p.c.txn_id)
        .join(of_deposit, of_deposit.c.txn_id == t.c.id, isouter=True)
        .join(of_reversal, of_reversal.c.reversal_id == t.c.id, isouter=True)
        .join(shift, shift.c.txn_id == t.c.id, isouter=True)
        .where(p.c.account_id == station.account_id, t.c.business_date.between(*days))
    )
    sold = wanted.where(t.c.kind != _OPENING).order_by(p.c.txn_id).limit(at_most)
    rows = connection.execute(sold.where(p.c.txn_id > after) if after is not None else sold).all()
    if after is None:
        rows = [*connection.execute(wanted.where(t.c.kind == _OPENING).order_by(t.c.recorded_at)).all(), *rows]
    return [Line(*row[:5], f"{row[5]} {row[6]}".strip()) for row in rows]


# --- helpers ----------------------------------------------------------------------------------------------------------


def _check(station: Station) -> None:
    if station.kind not in KINDS:
        raise StationRefused(StationFault.FORM, f"kind: {', '.join(KINDS)} expected, got {station.kind!r}")
    if not _is_name(station.name):
        raise StationRefused(StationFault.FORM, "name: 1 to 80 printable characters expected")
    for name, words, form, like in (
        ("supply groups", station.supply_groups, _GROUP, "six digits"),
        ("channels", station.channels, _CHANNEL, 'names such as "sms" or "counter"'),
    ):
        for word in words.split():
            if not form.fullmatch(word):
                raise StationRefused(StationFault.FORM, f"{name}: {like} expected, got {word!r}")
    if station.language is not None and not _LANGUAGE.fullmatch(station.language):
        raise StationRefused(StationFault.FORM, 'language: a tag such as "en" expected')


def _is_name(name: str) -> bool:
    return 1 <= len(name.strip()) <= 80 and name.isprintable()


def _scheme(connection: sa.Connection, code: str) -> None:
    t = commission_scheme.c
    if connection.execute(sa.select(t.code).where(t.code == code)).first() is None:
        raise StationRefused(StationFault.UNKNOWN, f"there is no commission scheme {code}")


def _store(connection: sa.Connection, origin: Origin, deed: str, before: Station, after: Station, **more: Any) -> None:
    if before == after:
        raise StationRefused(StationFault.NOTHING, f"station {before.code} is like that already")
    s = tables.station
    connection.execute(sa.update(s).where(s.c.id == before.id).values(**asdict(after)))
    _note(connection, origin, deed, before.code, _seen(before), {**_seen(after), **more})


def _seen(station: Station) -> dict[str, Any]:
    return {name: value for name, value in asdict(station).items() if name not in ("id", "account_id")}


def _note(
    connection: sa.Connection,
    origin: Origin,
    deed: str,
    code: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    audit.note(connection, origin, f"stations.{deed}", f"station {code}", before, after)
