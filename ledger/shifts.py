"""Operators' shifts: opened with a float of cash, counted at the end, acknowledged by a supervisor.

Functions of the SQL transaction they are handed; they never commit. What a shift has sold is counted by its sales
themselves (`ledger/selling.py`), and so are the payments without energy that it took. A difference is explained by
whoever counted, or after a blind count by whoever acknowledges; it is posted when it is acknowledged, by a second
person, so that nobody writes off a shortage of their own. Only the money of a station on credit is the utility's: an
agent who sells from a float has paid already, and a difference is between the agent and the drawer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import audit, entries, stations, tables
from ledger.accounts import id_of
from ledger.audit import Origin
from ledger.direct import Post
from ledger.money import plain
from ledger.operators import Operator, Role, require_other, require_role
from ledger.records import ensure_accounts
from ledger.stations import AMOUNT_MAX_MINOR, StationFault, StationRefused
from ledger.stations_tables import counter_sale, shift, shift_count

OPEN: Final = "OPEN"
CLOSED: Final = "CLOSED"
ACKNOWLEDGED: Final = "ACKNOWLEDGED"
TENDERS: Final = ("cash", "card", "cheque")

# A sale of one of these may still become one, or not.
_WAITING: Final = ("RECEIVED", "PAYING", "VENDING", "CANCELLING", "RETURNING")
_EXPLANATION_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """A shift as stored, with its station's code. Counted cash is without the float."""

    id: UUID
    code: str
    station: str
    login: str
    state: str
    opened_at: datetime
    float_minor: int
    sold_count: int
    sold_minor: int
    sold_cash_minor: int
    sold_card_minor: int
    sold_cheque_minor: int
    closed_at: datetime | None
    counted_cash_minor: int | None
    counted_card_minor: int | None
    counted_cheque_minor: int | None
    explanation: str | None
    paid_count: int
    paid_cash_minor: int
    paid_card_minor: int
    paid_cheque_minor: int
    acknowledged_by: str | None
    txn_id: UUID | None
    batch_id: UUID | None
    is_blind: bool

    def expected_minor(self, tender: str) -> int:
        """What sales, and payments without energy, have brought into the drawer by this tender."""
        return int(getattr(self, f"sold_{tender}_minor") + getattr(self, f"paid_{tender}_minor"))

    def differences_minor(self) -> dict[str, int]:
        """Counted less expected, by tender; empty while the shift is open."""
        if self.state == OPEN:
            return {}
        return {name: getattr(self, f"counted_{name}_minor") - self.expected_minor(name) for name in TENDERS}

    @property
    def difference_minor(self) -> int:
        """Over (positive) or short, of all tenders together."""
        return sum(self.differences_minor().values())


@dataclass(frozen=True, slots=True)
class Count:
    """What is in a drawer at the end: pieces by denomination in minor units, totals of card slips and of cheques."""

    pieces: Mapping[int, int]
    card_minor: int
    cheque_minor: int

    @property
    def cash_minor(self) -> int:
        return sum(denomination * pieces for denomination, pieces in self.pieces.items())


def open_shift(
    connection: sa.Connection, shift_id: UUID, float_minor: int, *, by: Operator, origin: Origin
) -> ShiftRow:
    """Begin the shift of a VENDOR at their station, with this much change money in the drawer.

    Refuses STATE where one is open already, or the operator belongs to no station; FORM.
    """
    require_role(by, Role.VENDOR)
    if by.station is None:
        raise StationRefused(StationFault.STATE, f"{by.login} belongs to no station")
    station = stations.known(connection, by.station)
    if not 0 <= float_minor <= AMOUNT_MAX_MINOR:
        raise StationRefused(StationFault.FORM, "float: an amount that is not negative expected")
    h = shift.c
    # Two at once wait for each other here, and the second finds the first's.
    connection.execute(
        sa.select(tables.operator.c.login).where(tables.operator.c.login == by.login).with_for_update()
    ).all()
    if (open_one := _open_code(connection, by.login)) is not None:
        raise StationRefused(StationFault.STATE, f"{by.login} has an open shift already: {open_one}")
    number = 1 + int(
        connection.execute(sa.select(sa.func.count()).select_from(shift).where(h.login == by.login)).scalar_one()
    )
    row = {
        "id": shift_id,
        "code": f"{by.login}-{number}",
        "station_id": station.id,
        "login": by.login,
        "state": OPEN,
        "opened_at": origin.at,
        "float_minor": float_minor,
        "sold_count": 0,
        "sold_minor": 0,
        "paid_count": 0,
        **{f"{what}_{name}_minor": 0 for what in ("sold", "paid") for name in TENDERS},
    }
    connection.execute(sa.insert(shift), row)
    after = {"station": station.code, "float_minor": float_minor}
    audit.note(connection, origin, "shifts.opened", f"shift {row['code']}", None, after)
    return known(connection, f"{by.login}-{number}")


def close_shift(
    connection: sa.Connection,
    code: str | None,
    count: Count,
    explanation: str,
    *,
    minor_digits: int,
    by: Operator,
    origin: Origin,
) -> ShiftRow:
    """End one's own shift, or as SUPERVISOR of the station another's, with what is in the drawer.

    Refuses UNKNOWN, STATE while one of its sales waits for its token, FORM for a count that cannot be, and EXPLAIN for
    a difference without a word, but after a blind count.
    """
    wanted = code or _open_code(connection, by.login)
    if wanted is None:
        raise StationRefused(StationFault.UNKNOWN, f"{by.login} has no open shift")
    connection.execute(sa.select(shift.c.id).where(shift.c.code == wanted).with_for_update()).all()
    found = known(connection, wanted)
    if found.login != by.login:
        require_role(by, Role.SUPERVISOR)
        _require_station(by, found)
    if found.state != OPEN:
        raise StationRefused(StationFault.STATE, f"shift {wanted} is {found.state}")
    c, p = counter_sale.c, tables.purchase.c
    waiting = connection.execute(
        sa.select(sa.func.count())
        .select_from(counter_sale.join(tables.purchase, p.id == c.purchase_id))
        .where(c.shift_id == found.id, p.state.in_(_WAITING))
    ).scalar_one()
    if waiting:
        raise StationRefused(StationFault.STATE, f"shift {wanted}: {waiting} of its sales wait for their tokens still")
    _check_count(count, found)
    counted = {"cash": count.cash_minor - found.float_minor, "card": count.card_minor, "cheque": count.cheque_minor}
    differ = {name: counted[name] - found.expected_minor(name) for name in TENDERS}
    words = " ".join(explanation.split())
    if any(differ.values()) and not words and not found.is_blind:
        said = ", ".join(
            f"{name} {'over' if amount > 0 else 'short'} by {plain(abs(amount), minor_digits)}"
            for name, amount in differ.items()
            if amount
        )
        raise StationRefused(
            StationFault.EXPLAIN, f"shift {wanted} is not as sold ({said}): count again, or close it with a reason"
        )
    if len(words) > _EXPLANATION_MAX:
        raise StationRefused(StationFault.FORM, f"reason: at most {_EXPLANATION_MAX} characters expected")
    changes = {f"counted_{name}_minor": amount for name, amount in counted.items()}
    connection.execute(
        sa.update(shift)
        .where(shift.c.id == found.id)
        .values(state=CLOSED, closed_at=origin.at, explanation=words or None, **changes)
    )
    rows = [
        {"shift_id": found.id, "denomination_minor": denomination, "pieces": pieces}
        for denomination, pieces in sorted(count.pieces.items())
    ]
    if rows:
        connection.execute(sa.insert(shift_count), rows)
    before = {name: found.expected_minor(name) for name in TENDERS}
    audit.note(
        connection, origin, "shifts.closed", f"shift {wanted}", before, {**counted, "explanation": words or None}
    )
    return known(connection, wanted)


def acknowledge(
    connection: sa.Connection,
    code: str,
    txn_id: UUID,
    business_date: date,
    currency: str,
    *,
    by: Operator,
    origin: Origin,
) -> ShiftRow:
    """A supervisor of the station, or FINANCE, has seen the count; a difference is posted. Not whoever had the shift.

    Refuses UNKNOWN, STATE, EXPLAIN for a difference that nobody has said a word about, and FUNDS where the station's
    credit has no room for what its drawer had too much.
    """
    require_role(by, Role.SUPERVISOR, Role.FINANCE)
    connection.execute(sa.select(shift.c.id).where(shift.c.code == code).with_for_update()).all()
    found = known(connection, code)
    _require_station(by, found)
    require_other(found.login, by.login, f"shift {code}")
    if found.state != CLOSED:
        raise StationRefused(StationFault.STATE, f"shift {code} is {found.state}, not {CLOSED}")
    difference_minor = found.difference_minor
    if any(found.differences_minor().values()) and not (found.explanation or origin.reason.strip()):
        raise StationRefused(StationFault.EXPLAIN, f"shift {code} differs: a reason is needed to acknowledge it")
    station = stations.known(connection, found.station)
    posted = difference_minor != 0 and station.funding == "CREDIT"
    if posted:
        overshort = f"overshort:{station.code}"
        ensure_accounts(connection, [overshort], currency)
        legs = entries.cash_difference(station.account_id, id_of(overshort), difference_minor)
        stations.post(
            connection, Post(txn_id, "shift.difference", legs, (station.account_id,), business_date, origin.at)
        )
    changes: dict[str, Any] = {
        "state": ACKNOWLEDGED,
        "acknowledged_by": by.login,
        "acknowledged_at": origin.at,
        "txn_id": txn_id if posted else None,
        "explanation": found.explanation or origin.reason.strip() or None,
    }
    connection.execute(sa.update(shift).where(shift.c.id == found.id).values(**changes))
    after = {"difference_minor": difference_minor, "txn": txn_id if posted else None}
    audit.note(connection, origin, "shifts.acknowledged", f"shift {code}", {"state": CLOSED}, after)
    return known(connection, code)


def known(connection: sa.Connection, code: str) -> ShiftRow:
    """The shift of this code; refuses UNKNOWN."""
    found = listed(connection, code=code)
    if not found:
        raise StationRefused(StationFault.UNKNOWN, f"there is no shift {code}")
    return found[0]


def listed(
    connection: sa.Connection, *, code: str | None = None, station: str | None = None, state: str | None = None
) -> list[ShiftRow]:
    """The last thousand shifts, oldest first."""
    s = tables.station
    others = {"station": s.c.code.label("station"), "is_blind": s.c.blind_count.label("is_blind")}
    columns = [others[name] if name in others else shift.c[name] for name in ShiftRow.__slots__]
    wanted = sa.select(*columns).join_from(shift, s, s.c.id == shift.c.station_id)
    for column, value in ((shift.c.code, code), (s.c.code, station), (shift.c.state, state)):
        if value is not None:
            wanted = wanted.where(column == value)
    rows = connection.execute(wanted.order_by(shift.c.opened_at.desc(), shift.c.code.desc()).limit(1000))
    return [ShiftRow(**row) for row in rows.mappings()][::-1]


def pieces_of(connection: sa.Connection, shift_id: UUID) -> list[tuple[int, int]]:
    """What was counted: denominations in minor units, the largest first, and how many of each."""
    t = shift_count.c
    wanted = sa.select(t.denomination_minor, t.pieces).where(t.shift_id == shift_id)
    return [(row[0], row[1]) for row in connection.execute(wanted.order_by(t.denomination_minor.desc()))]


def open_of(connection: sa.Connection, login: str) -> ShiftRow | None:
    """An operator's open shift."""
    code = _open_code(connection, login)
    return None if code is None else known(connection, code)


def _open_code(connection: sa.Connection, login: str) -> str | None:
    found = sa.select(shift.c.code).where(shift.c.login == login, shift.c.state == OPEN)
    return connection.execute(found).scalar_one_or_none()


def _require_station(by: Operator, found: ShiftRow) -> None:
    if not by.has(Role.FINANCE) and by.station != found.station:
        raise StationRefused(StationFault.STATE, f"{by.login} does not belong to station {found.station}")


def _check_count(count: Count, found: ShiftRow) -> None:
    totals: Sequence[int] = (count.card_minor, count.cheque_minor, *count.pieces.values())
    if any(not 0 <= amount <= AMOUNT_MAX_MINOR for amount in totals) or any(each <= 0 for each in count.pieces):
        raise StationRefused(StationFault.FORM, "count: amounts that are not negative expected")
    if not count.pieces and (found.float_minor or found.expected_minor("cash")):
        raise StationRefused(StationFault.FORM, "count: the cash by denomination expected, as 1000=5; 0 of one if none")
