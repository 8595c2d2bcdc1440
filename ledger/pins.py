"""PINs of phones: how one is kept, and who may set, unlock or take it away in the back office.

Kept as scrypt of a keyed digest of phone and PIN. The key is in the settings, not in the database: who has the database
alone has nothing to guess against, and a hash moved to another phone fits no PIN. The functions of a transaction never
commit; every change is in the audit log, without the PIN and without its hash.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import sqlalchemy as sa

from ledger import changes, tables
from ledger.changes import Act, ChangeRefused, Fault
from ledger.operators import Cost, Role, password_fits, password_hash

DIGITS: Final = range(4, 7)
"""How many digits a PIN may have."""
COST: Final = Cost(
    log2_n=14
)  # 16 MiB, some 50 ms: a hash that is asked for with sales; what keeps a thief out is the key
MAY_SET: Final = (Role.SUPPORT, Role.SUPERVISOR, Role.FINANCE)
RULES: Final = ("off", "above", "always")


def is_pin(text: str) -> bool:
    """Whether this has the form of a PIN."""
    return text.isascii() and text.isdigit() and len(text) in DIGITS


def is_weak(pin: str, msisdn: str) -> bool:
    """Whether it is one that others try first: one digit or two in turn, a run up or down, a year, the phone's end."""
    steps = {(int(after) - int(before)) % 10 for before, after in zip(pin, pin[1:], strict=False)}
    in_turn = pin == (pin[:2] * len(pin))[: len(pin)]
    is_year = len(pin) == 4 and pin[:2] in ("19", "20")
    return steps in ({0}, {1}, {9}) or in_turn or is_year or msisdn.endswith(pin)


def pin_hash(pin: str, msisdn: str, key: str, salt: bytes) -> str:
    """The PIN as it is stored. Slow by intention: outside of any transaction. `salt`: 16 fresh random octets."""
    return password_hash(_keyed(pin, msisdn, key), salt, COST)


def pin_fits(pin: str, msisdn: str, key: str, stored: str) -> bool:
    """Whether this is the PIN that was stored. Slow by intention."""
    return password_fits(_keyed(pin, msisdn, key), stored)


def _keyed(pin: str, msisdn: str, key: str) -> str:
    return keyed_digest(key, "pin", f"{msisdn}\0{pin}".encode())


def keyed_digest(key: str, purpose: str, octets: bytes) -> str:
    """64 hex digits that nobody makes without the key; each purpose has a key of its own."""
    own = hmac.digest(key.encode(), purpose.encode(), "sha256")
    return hmac.new(own, octets, hashlib.sha256).hexdigest()


def fingerprint_key(key: str) -> bytes:
    """The key of the digests by which requests are known again: a text may hold a PIN. Empty where there is no key."""
    return bytes.fromhex(keyed_digest(key, "fingerprint", b"")) if key else b""


# --- what is stored ---------------------------------------------------------------------------------------------------


def stored(connection: sa.Connection, msisdn: str, idem_key: str) -> tuple[str | None, bool]:
    """The hash of a phone's PIN, and whether it is worth the work of a look: not if locked, or the request known."""
    p, r = tables.phone.c, tables.request.c
    row = connection.execute(sa.select(p.pin, p.pin_locked_at).where(p.msisdn == msisdn)).one_or_none()
    if row is None or row.pin is None:
        return None, False
    is_known = connection.execute(sa.select(r.id).where(r.idem_key == idem_key)).first() is not None
    return str(row.pin), row.pin_locked_at is None and not is_known


def set_pin(connection: sa.Connection, act: Act, msisdn: str, hashed: str) -> None:
    """Set a phone's PIN, which also unlocks it. Refuses ROLE_MISSING, REASON, UNKNOWN."""
    act.require(*MAY_SET)
    before = _known(connection, msisdn)
    _write(connection, msisdn, pin=hashed, pin_tries=0, pin_locked_at=None)
    _note(connection, act, "pins.set", msisdn, before, {"is_set": True, "locked": False})


def unlock(connection: sa.Connection, act: Act, msisdn: str) -> None:
    """Let a locked PIN be used again. Refuses ROLE_MISSING, REASON, UNKNOWN, SAME."""
    act.require(*MAY_SET)
    before = _known(connection, msisdn)
    if not before["locked"] and not before["tries"]:
        raise ChangeRefused(Fault.SAME, "the PIN of this phone is not locked")
    _write(connection, msisdn, pin_tries=0, pin_locked_at=None)
    _note(connection, act, "pins.unlocked", msisdn, before, {"locked": False, "tries": 0})


def remove(connection: sa.Connection, act: Act, msisdn: str) -> None:
    """Take a phone's PIN away: its owner sets a new one by USSD. Refuses as `unlock`."""
    act.require(*MAY_SET)
    before = _known(connection, msisdn)
    if not before["is_set"]:
        raise ChangeRefused(Fault.SAME, "this phone has no PIN")
    _write(connection, msisdn, pin=None, pin_tries=0, pin_locked_at=None)
    _note(connection, act, "pins.removed", msisdn, before, {"is_set": False, "locked": False})


def standing(connection: sa.Connection, msisdn: str) -> dict[str, object]:
    """What may be told of a phone: whether it has a PIN, is locked, wrong tries, its limits. Refuses UNKNOWN."""
    return _known(connection, msisdn, lock=False)


def set_limits(
    connection: sa.Connection, act: Act, msisdn: str, per_sale_minor: int | None, per_day_minor: int | None
) -> None:
    """The most a station's phone may sell. By SUPERVISOR or FINANCE. Refuses ROLE_MISSING, REASON, UNKNOWN, STATUS."""
    act.require(Role.SUPERVISOR, Role.FINANCE)
    before = _known(connection, msisdn)
    if before["station"] is None:
        raise ChangeRefused(Fault.STATUS, "the phone belongs to no station")
    after: dict[str, object] = {"per_sale_minor": per_sale_minor, "per_day_minor": per_day_minor}
    _write(connection, msisdn, **after)
    _note(connection, act, "pins.limits", msisdn, before, after)


def set_rule(connection: sa.Connection, act: Act, station: str, rule: str) -> None:
    """When a station's phones need their PIN: "off", "always", "above 5000" (minor units), or "" as the settings say.

    By FINANCE or ADMIN. Refuses ROLE_MISSING, REASON, UNKNOWN, FORM.
    """
    act.require(Role.FINANCE, Role.ADMIN)
    word, _, amount = rule.partition(" ")
    if rule and (word not in RULES or (word == "above") != amount.isdigit() or (amount and not amount.isascii())):
        raise ChangeRefused(Fault.FORM, f'rule: "off", "always", "above" with an amount, or nothing expected: {rule!r}')
    n = tables.station.c
    before = connection.execute(sa.select(n.pin_rule).where(n.code == station).with_for_update()).scalar_one_or_none()
    if before is None:
        raise ChangeRefused(Fault.UNKNOWN, f"no station {station}")
    connection.execute(tables.station.update().where(n.code == station).values(pin_rule=rule))
    changes.note(connection, act, "stations.pin_rule", f"station {station}", {"rule": before}, {"rule": rule})


def _known(connection: sa.Connection, msisdn: str, *, lock: bool = True) -> dict[str, object]:
    p, n, c = tables.phone.c, tables.station.c, tables.customer.c
    wanted = (
        sa.select(p.pin, p.pin_tries, p.pin_locked_at, p.per_sale_minor, p.per_day_minor, n.code, c.account_no)
        .join_from(tables.phone, tables.station, n.id == p.station_id, isouter=True)
        .join(tables.customer, c.id == p.customer_id, isouter=True)
    )
    if lock:
        connection.execute(sa.select(p.msisdn).where(p.msisdn == msisdn).with_for_update()).all()
    row = connection.execute(wanted.where(p.msisdn == msisdn)).one_or_none()
    if row is None or (row.code is None and row.account_no is None):
        raise ChangeRefused(Fault.UNKNOWN, "the phone belongs to no customer and no station")
    return {
        "is_set": row.pin is not None,
        "locked": row.pin_locked_at is not None,
        "tries": row.pin_tries,
        "station": row.code,
        "account": row.account_no,
        "per_sale_minor": row.per_sale_minor,
        "per_day_minor": row.per_day_minor,
    }


def _write(connection: sa.Connection, msisdn: str, **values: object) -> None:
    connection.execute(tables.phone.update().where(tables.phone.c.msisdn == msisdn).values(**values))


def _note(
    connection: sa.Connection, act: Act, deed: str, msisdn: str, before: dict[str, object], after: dict[str, object]
) -> None:
    changes.note(connection, act, deed, f"phone {msisdn}", {name: before[name] for name in after}, after)
