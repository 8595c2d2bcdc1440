"""Operators: who may sign in, with which roles, and which duties must be in different hands.

Functions of the SQL transaction they are handed; they never commit. Passwords are kept as scrypt hashes; the caller
draws the salt. Every change goes into the audit log in the same transaction.

Signing in answers with an operator or with a named refusal and raises nothing, because a wrong password is counted
and the count must be committed. All other functions raise `OperatorRefused`, and then nothing may be committed.

Two people, which one administrator alone could otherwise play: once two key custodians exist, making another one,
or setting the password of one, takes a custodian beside the administrator.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from ledger import audit, tables
from ledger.audit import Origin
from ledger.records import insert_new

TRIES_MAX: Final = 5
"""Wrong passwords in a row before the operator is locked out."""
LOCKED_FOR: Final = timedelta(minutes=15)
PASSWORD_MIN: Final = 10
PASSWORD_MAX: Final = 200
SALT_BYTES: Final = 16

_LOGIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,38}[a-z0-9])?")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class Role(StrEnum):
    """What an operator may do."""

    VENDOR = "VENDOR"
    SUPERVISOR = "SUPERVISOR"
    SUPPORT = "SUPPORT"
    FINANCE = "FINANCE"
    ENGINEER = "ENGINEER"
    KEY_CUSTODIAN = "KEY_CUSTODIAN"
    ADMIN = "ADMIN"
    AUDITOR = "AUDITOR"


READERS: Final = (Role.SUPPORT, Role.SUPERVISOR, Role.FINANCE, Role.ENGINEER, Role.AUDITOR)
"""Who may look at customers' records and sales, wherever they are."""

# fmt: off
APART: Final[tuple[tuple[Role, Role], ...]] = (
    (Role.ADMIN, Role.VENDOR),         # whoever makes operators does not sell
    (Role.ADMIN, Role.SUPERVISOR),
    (Role.ADMIN, Role.KEY_CUSTODIAN),  # nor keeps keys
    *((Role.AUDITOR, role) for role in Role if role is not Role.AUDITOR),  # reads all, changes nothing
)
# fmt: on
"""Roles that nobody has both of."""


class OperatorFault(StrEnum):
    """Why an operator is refused; the value is stable and may be stored."""

    # fmt: off
    WRONG        = "wrong"         # no such operator, or not this password: which of the two is not told
    LOCKED       = "locked"        # too many wrong passwords
    DISABLED     = "disabled"
    ROLE_MISSING = "role_missing"  # the operator has no role that this takes
    SAME_PERSON  = "same_person"   # this takes two people
    SECOND       = "second"        # this takes a second person, and none was named
    UNKNOWN      = "unknown"       # no such operator, told to an administrator
    EXISTS       = "exists"
    LAST_ADMIN   = "last_admin"    # nobody could administer operators any more
    FIRST_ADMIN  = "first_admin"   # the first operator must be one who can add others
    ROLES        = "roles"         # none, or two that nobody has both of
    FORM         = "form"          # a login, name or language of another form
    PASSWORD     = "password"      # too short, too long, or the login itself
    # fmt: on


class OperatorRefused(Exception):
    """The rules about operators say no. `fault` is the name, `sentence` is for people."""

    def __init__(self, fault: OperatorFault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault: Final = fault
        self.sentence: Final = sentence


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator as everybody may see one; no password, no hash."""

    login: str
    name: str
    roles: frozenset[Role]
    language: str
    station: str | None
    is_disabled: bool = False
    locked_until: datetime | None = None

    def has(self, *roles: Role) -> bool:
        """Whether the operator has one of these roles."""
        return not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Cost:
    """The work of one scrypt hash: `2 ** log2_n` blocks of `r` * 128 octets; the default takes 32 MiB."""

    log2_n: int = 15
    r: int = 8
    p: int = 1


COST: Final = Cost()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt to sign in is held against. `fits` takes a tenth of a second, so call it outside of any lock."""

    login: str
    stored: str
    is_known: bool

    def fits(self, password: str) -> bool:
        """Whether the password is right; takes as long for an operator who does not exist."""
        return password_fits(password, self.stored) and self.is_known

    def __repr__(self) -> str:
        return f"<Attempt of {self.login}>"


# --- passwords --------------------------------------------------------------------------------------------------------


def password_hash(password: str, salt: bytes, cost: Cost = COST) -> str:
    """The password as it is stored: "scrypt", cost, salt and hash. `salt`: 16 fresh random octets."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"salt: {SALT_BYTES} octets expected, got {len(salt)}")
    return f"scrypt ln={cost.log2_n},r={cost.r},p={cost.p} {salt.hex()} {_scrypt(password, salt, cost).hex()}"


def check_password(password: str, login: str) -> None:
    """Refuse PASSWORD for one that is too short, too long, or the login."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise OperatorRefused(
            OperatorFault.PASSWORD,
            f"password: {PASSWORD_MIN} to {PASSWORD_MAX} characters expected, got {len(password)}",
        )
    if password.casefold() == login or len(set(password)) < 4:
        raise OperatorRefused(
            OperatorFault.PASSWORD, "password: not the login, and more than three different characters"
        )


def _scrypt(password: str, salt: bytes, cost: Cost) -> bytes:
    # Equal to the eye is equal: the same letters may arrive composed or decomposed, by keyboard.
    octets = unicodedata.normalize("NFKC", password).encode("utf-8", errors="surrogateescape")
    memory = 128 * cost.r * (2**cost.log2_n + cost.p + 2)
    return hashlib.scrypt(octets, salt=salt, n=2**cost.log2_n, r=cost.r, p=cost.p, maxmem=memory, dklen=32)


def password_fits(password: str, stored: str) -> bool:
    """Whether this is the password that was stored. Slow by intention: outside of any transaction."""
    match = re.fullmatch(r"scrypt ln=(\d+),r=(\d+),p=(\d+) ([0-9a-f]{32}) ([0-9a-f]{64})", stored)
    if match is None or len(password) > PASSWORD_MAX:
        return False
    log2_n, r, p = (int(part) for part in match.groups()[:3])
    made = _scrypt(password, bytes.fromhex(match[4]), Cost(log2_n, r, p))
    return hmac.compare_digest(made, bytes.fromhex(match[5]))


_NOBODY: Final = f"scrypt ln={COST.log2_n},r={COST.r},p={COST.p} {'0' * 32} {'0' * 64}"


# --- signing in -------------------------------------------------------------------------------------------------------


def attempt(connection: sa.Connection, login: str) -> Attempt:
    """The first step of signing in; reads only."""
    t = tables.operator.c
    stored = connection.execute(sa.select(t.password).where(t.login == login)).scalar_one_or_none()
    return Attempt(login, _NOBODY if stored is None else stored, stored is not None)


def settle(
    connection: sa.Connection, tried: Attempt, fits: bool, now: datetime, place: str
) -> Operator | OperatorRefused:
    """The last step of signing in: the operator, or why not; WRONG, LOCKED or DISABLED. Commit in both cases.

    Wrong passwords are counted; at TRIES_MAX the operator is locked for LOCKED_FOR, and the right password does not
    help meanwhile, however many attempts were under way at once.
    """
    wrong = OperatorRefused(OperatorFault.WRONG, "no operator of this login and password")
    t = tables.operator.c
    row = (
        connection.execute(sa.select(tables.operator).where(t.login == tried.login).with_for_update())
        .mappings()
        .first()
    )
    if row is None or row["password"] != tried.stored:
        return wrong
    if row["locked_until"] is not None and now < row["locked_until"]:
        return OperatorRefused(
            OperatorFault.LOCKED, f"{tried.login} is locked out until {_minute(row['locked_until'])}"
        )
    if not fits:
        tries = row["tries"] + 1
        change: dict[str, Any] = {"tries": tries}
        if tries >= TRIES_MAX:
            change = {"tries": 0, "locked_until": now + LOCKED_FOR}
            _note(connection, Origin(tried.login, now, place), "locked", tried.login, None, change)
        connection.execute(sa.update(tables.operator).where(t.login == tried.login).values(**change))
        return wrong
    if row["disabled"]:
        return OperatorRefused(OperatorFault.DISABLED, f"{tried.login} is disabled")
    if row["tries"] or row["locked_until"]:
        connection.execute(sa.update(tables.operator).where(t.login == tried.login).values(tries=0, locked_until=None))
    return _operator({**row, "locked_until": None})


def sign_in(
    connection: sa.Connection, login: str, password: str, now: datetime, place: str = ""
) -> Operator | OperatorRefused:
    """`attempt`, `Attempt.fits` and `settle` in one. Returns the refusal; commit in both cases."""
    tried = attempt(connection, login)
    return settle(connection, tried, tried.fits(password), now, place)


# --- duties -----------------------------------------------------------------------------------------------------------


def require_role(operator: Operator, *roles: Role) -> None:
    """Refuse ROLE_MISSING unless the operator has one of these roles, DISABLED if disabled."""
    if operator.is_disabled:
        raise OperatorRefused(OperatorFault.DISABLED, f"{operator.login} is disabled")
    if not operator.has(*roles):
        names = " or ".join(roles)
        raise OperatorRefused(
            OperatorFault.ROLE_MISSING, f"{operator.login} has not the role {names}, which this takes"
        )


def require_other(first: str, second: str, duty: str) -> None:
    """Refuse SAME_PERSON if both are one login: whoever asks does not approve, whatever the roles."""
    if first == second:
        raise OperatorRefused(OperatorFault.SAME_PERSON, f"{duty}: two people are needed, and {first} is one")


def require_two(first: Operator, second: Operator | None, role: Role, duty: str) -> Operator:
    """Refuse unless these are two people who both have the role; the second one."""
    require_role(first, role)
    if second is None:
        raise OperatorRefused(OperatorFault.SECOND, f"{duty}: a second person with the role {role} is needed")
    require_other(first.login, second.login, duty)
    require_role(second, role)
    return second


# --- looking after them -----------------------------------------------------------------------------------------------


def find(connection: sa.Connection, login: str) -> Operator:
    """The operator of this login; refuses UNKNOWN."""
    row = connection.execute(sa.select(tables.operator).where(tables.operator.c.login == login)).mappings().first()
    if row is None:
        raise OperatorRefused(OperatorFault.UNKNOWN, f"there is no operator {login}")
    return _operator(row)


def everybody(connection: sa.Connection) -> list[Operator]:
    """All operators, by login."""
    rows = connection.execute(sa.select(tables.operator).order_by(tables.operator.c.login)).mappings()
    return [_operator(row) for row in rows]


def is_empty(connection: sa.Connection) -> bool:
    """Whether there is no operator yet, so that the first may be added by whoever is at the machine."""
    return connection.execute(sa.select(sa.func.count()).select_from(tables.operator)).scalar_one() == 0


def add(
    connection: sa.Connection,
    new: Operator,
    password: str,
    salt: bytes,
    *,
    by: Operator | None,
    origin: Origin,
    beside: Operator | None = None,
    cost: Cost = COST,
) -> Operator:
    """Add an operator. `by` is an ADMIN; None for the first of an empty database, who must be one.

    `beside`: the custodian who is needed to make another custodian once there are two.
    Refuses ROLE_MISSING, FIRST_ADMIN, FORM, ROLES, PASSWORD, SECOND, EXISTS.
    """
    if by is None:
        # Whoever else is adding a first operator right now has to wait for us here, and then finds one.
        audit.queue_up(connection)
    if by is not None:
        require_role(by, Role.ADMIN)
    elif not is_empty(connection):
        raise OperatorRefused(OperatorFault.ROLE_MISSING, "there are operators already: an ADMIN adds others")
    elif Role.ADMIN not in new.roles:
        raise OperatorRefused(OperatorFault.FIRST_ADMIN, "the first operator must be an ADMIN, who can add others")
    _check_form(new)
    check_password(password, new.login)
    if Role.KEY_CUSTODIAN in new.roles and by is not None:
        _require_custodian(connection, by, beside, "another key custodian")
    row = {
        "login": new.login,
        "name": new.name,
        "roles": _names(new.roles),
        "language": new.language,
        "station": new.station,
        "password": password_hash(password, salt, cost),
        "tries": 0,
        "locked_until": None,
        "disabled": False,
        "created_at": origin.at,
    }
    if not insert_new(connection, tables.operator, [row], key="login"):
        raise OperatorRefused(OperatorFault.EXISTS, f"there is an operator {new.login} already")
    after = _seen(new) | {"first": by is None} | ({"beside": beside.login} if beside else {})
    _note(connection, origin, "added", new.login, None, after)
    return find(connection, new.login)


def set_password(
    connection: sa.Connection,
    login: str,
    password: str,
    salt: bytes,
    *,
    by: Operator,
    origin: Origin,
    beside: Operator | None = None,
    cost: Cost = COST,
) -> None:
    """Set one's own password, or as ADMIN somebody's; also ends a lock-out. Refuses as `add`, and UNKNOWN."""
    operator = find(connection, login)
    if by.login != login:
        require_role(by, Role.ADMIN)
        if operator.has(Role.KEY_CUSTODIAN):
            _require_custodian(connection, by, beside, "the password of a key custodian", but=login)
    check_password(password, login)
    change = {"password": password_hash(password, salt, cost), "tries": 0, "locked_until": None}
    connection.execute(sa.update(tables.operator).where(tables.operator.c.login == login).values(**change))
    _note(connection, origin, "password_set", login, None, {"beside": beside.login} if beside else None)


def set_disabled(connection: sa.Connection, login: str, disabled: bool, *, by: Operator, origin: Origin) -> None:
    """Keep an operator from signing in, or let them again, which also ends a lock-out; by an ADMIN.

    Refuses ROLE_MISSING, UNKNOWN, and LAST_ADMIN where nobody could undo it.
    """
    require_role(by, Role.ADMIN)
    operator = find(connection, login)
    # Two administrators who disable each other at once: the second waits here, sees the first disabled, is refused.
    t = tables.operator.c
    rows = sa.select(tables.operator).order_by(t.login).with_for_update()
    others = [other for row in connection.execute(rows).mappings() if (other := _operator(row)).login != login]
    if disabled and operator.has(Role.ADMIN) and not any(o.has(Role.ADMIN) and not o.is_disabled for o in others):
        raise OperatorRefused(OperatorFault.LAST_ADMIN, f"{login} is the last ADMIN: nobody could undo it")
    change = {"disabled": disabled, "tries": 0, "locked_until": None}
    connection.execute(sa.update(tables.operator).where(tables.operator.c.login == login).values(**change))
    before = {"disabled": operator.is_disabled, "locked_until": operator.locked_until}
    _note(connection, origin, "disabled" if disabled else "enabled", login, before, change)


def roles_from(names: Iterable[str]) -> frozenset[Role]:
    """Roles by their names; refuses ROLES for a name that is none."""
    known = {role.value for role in Role}
    wanted = [name.strip().upper() for name in names]
    if wrong := [name for name in wanted if name not in known]:
        raise OperatorRefused(OperatorFault.ROLES, f"no role {wrong[0]}; there are {', '.join(Role)}")
    return frozenset(Role(name) for name in wanted)


def _require_custodian(
    connection: sa.Connection, by: Operator, beside: Operator | None, duty: str, but: str = ""
) -> None:
    """Have a custodian beside the administrator, not the one it is about, once there are two.

    Disabled ones count: else an administrator could disable a custodian first and be alone again.
    """
    if sum(one.has(Role.KEY_CUSTODIAN) for one in everybody(connection)) < 2:
        return
    if beside is None:
        raise OperatorRefused(OperatorFault.SECOND, f"{duty}: a key custodian beside the ADMIN is needed")
    require_other(by.login, beside.login, duty)
    require_other(but, beside.login, duty)
    require_role(beside, Role.KEY_CUSTODIAN)


def _check_form(new: Operator) -> None:
    if not _LOGIN.fullmatch(new.login):
        raise OperatorRefused(
            OperatorFault.FORM, "login: 1 to 40 of a-z, 0-9, dot, dash and underscore expected, dots within"
        )
    if not 1 <= len(new.name.strip()) <= 80 or not new.name.isprintable():
        raise OperatorRefused(OperatorFault.FORM, "name: 1 to 80 printable characters expected")
    if not _LANGUAGE.fullmatch(new.language):
        raise OperatorRefused(OperatorFault.FORM, 'language: a tag such as "en" expected')
    if not new.roles:
        raise OperatorRefused(OperatorFault.ROLES, "at least one role expected")
    for one, other in APART:
        if {one, other} <= new.roles:
            raise OperatorRefused(OperatorFault.ROLES, f"nobody has both roles {one} and {other}")


def _operator(row: Any) -> Operator:
    return Operator(
        login=row["login"],
        name=row["name"],
        roles=frozenset(Role(name) for name in row["roles"].split()),
        language=row["language"],
        station=row["station"],
        is_disabled=bool(row["disabled"]),
        locked_until=row["locked_until"],
    )


def _names(roles: Iterable[Role]) -> str:
    return " ".join(sorted(roles))


def _seen(operator: Operator) -> dict[str, Any]:
    return {
        "name": operator.name,
        "roles": sorted(operator.roles),
        "language": operator.language,
        "station": operator.station,
    }


def _note(
    connection: sa.Connection,
    origin: Origin,
    deed: str,
    login: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    audit.note(connection, origin, f"operators.{deed}", login, before, after)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
