"""Customers and their phones: added, changed, closed, found.

Functions of the SQL transaction they are handed; they never commit. Every change is in the audit log. A customer's
wallet is an account of the books from the first day on; closing an account takes that nothing is left on either side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ledger import books, changes, entries, records, tables
from ledger.accounts import id_of
from ledger.changes import Act, ChangeRefused, Fault, Site
from ledger.money import plain
from ledger.operators import OperatorFault, OperatorRefused, Role, require_other, require_role
from ledger.records import insert_new

ACTIVE: Final = "ACTIVE"
CLOSED: Final = "CLOSED"
MAY_CHANGE: Final = (Role.SUPPORT, Role.SUPERVISOR)
MAY_CLOSE: Final = (Role.SUPERVISOR,)
MAY_PAY_OUT: Final = (Role.SUPERVISOR, Role.FINANCE)
PAID_OUT_BY: Final = {"cash": "cash:office", "bank": "clearing:bank"}

_HOME_NUMBER_MIN: Final = 7
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as stored."""

    id: UUID
    account_no: str
    name: str
    category: str
    language: str
    status: str
    wallet_id: UUID


_COLUMNS = [tables.customer.c[name] for name in Customer.__slots__]


def known(connection: sa.Connection, account_no: str, *, lock: bool = False) -> Customer:
    """The customer with this account number; refuses UNKNOWN."""
    wanted = sa.select(*_COLUMNS).where(tables.customer.c.account_no == account_no)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise ChangeRefused(Fault.UNKNOWN, f"no customer {account_no}")
    return Customer(*row)


def open_one(connection: sa.Connection, account_no: str) -> Customer:
    """The customer, locked; refuses UNKNOWN and CLOSED."""
    customer = known(connection, account_no, lock=True)
    if customer.status == CLOSED:
        raise ChangeRefused(Fault.CLOSED, f"account {account_no} is closed")
    return customer


def add(
    connection: sa.Connection,
    act: Act,
    account_no: str,
    *,
    name: str,
    category: str,
    language: str,
    phones: Iterable[str] = (),
) -> Customer:
    """Add a customer with an empty wallet, and phones. Refuses ROLE_MISSING, FORM, EXISTS, OTHER_OWNER."""
    act.require(*MAY_CHANGE, reason=False)
    row = {
        "id": act.new_id(),
        "account_no": changes.code("account number", account_no),
        **_formed(name=name, category=category, language=language),
        "status": ACTIVE,
    }
    if not records.customers(connection, [row], act.currency):
        raise ChangeRefused(Fault.EXISTS, f"there is a customer {account_no} already")
    customer = known(connection, account_no)
    added = [_attach(connection, customer, phone) for phone in dict.fromkeys(phones)]
    changes.note(connection, act, "customers.added", _subject(account_no), None, {**_seen(customer), "phones": added})
    return customer


def change(connection: sa.Connection, act: Act, account_no: str, **values: str) -> Customer:
    """Change name, category or language. Refuses ROLE_MISSING, REASON, UNKNOWN, CLOSED, FORM, SAME."""
    act.require(*MAY_CHANGE)
    before = open_one(connection, account_no)
    formed = _formed(**values)
    if all(getattr(before, name) == value for name, value in formed.items()):
        raise ChangeRefused(Fault.SAME, "nothing would change")
    connection.execute(tables.customer.update().where(tables.customer.c.id == before.id).values(**formed))
    after = known(connection, account_no)
    changes.note(connection, act, "customers.changed", _subject(account_no), _seen(before), _seen(after))
    return after


def add_phone(connection: sa.Connection, act: Act, account_no: str, phone: str) -> None:
    """Let a phone buy from the customer's wallet. Refuses ROLE_MISSING, UNKNOWN, CLOSED, FORM, SAME, OTHER_OWNER."""
    act.require(*MAY_CHANGE)
    customer = open_one(connection, account_no)
    _attach(connection, customer, phone)
    changes.note(connection, act, "customers.phone_added", _subject(account_no), None, {"phone": phone})


def remove_phone(connection: sa.Connection, act: Act, account_no: str, phone: str) -> None:
    """Let a phone no longer buy from the customer's wallet; its language stays known. Refuses as `add_phone`."""
    act.require(*MAY_CHANGE)
    customer = open_one(connection, account_no)
    if not _detach(connection, customer, phone):
        raise ChangeRefused(Fault.UNKNOWN, f"account {account_no} has no such phone")
    changes.note(connection, act, "customers.phone_removed", _subject(account_no), {"phone": phone}, None)


def pay_out_carry(connection: sa.Connection, act: Act, account_no: str) -> int:
    """Put what the customer's service points keep from rounding into the wallet; how much, in minor units.

    Refuses ROLE_MISSING, REASON, UNKNOWN, CLOSED, SAME, POINT_BUSY.
    """
    act.require(*MAY_CHANGE, Role.FINANCE)
    customer = open_one(connection, account_no)
    sites = changes.lock_points(connection, points_of(connection, customer.id))
    total = sum(carry_to_wallet(connection, act, site, customer) for site in sites.values())
    if not total:
        raise ChangeRefused(Fault.SAME, f"the service points of account {account_no} keep nothing")
    changes.note(connection, act, "customers.carry_paid_out", _subject(account_no), None, {"amount_minor": total})
    return total


def pay_out(connection: sa.Connection, act: Act, account_no: str, to: str) -> int:
    """Pay all that is in the wallet out to the customer, in cash or through the bank: two people.

    How much, in minor units. Refuses ROLE_MISSING, REASON, SECOND, SAME_PERSON, UNKNOWN, CLOSED, SAME, NOT_SETTLED.
    """
    act.require(*MAY_PAY_OUT)
    if act.beside is None:
        raise OperatorRefused(OperatorFault.SECOND, "a wallet paid out: a second person is needed")
    require_role(act.beside, *MAY_PAY_OUT)
    require_other(act.by.login, act.beside.login, "a wallet paid out")
    customer = open_one(connection, account_no)
    b = tables.limited_balance.c
    balance = connection.execute(
        sa.select(b.posted_minor, b.pending_minor).where(b.account_id == customer.wallet_id).with_for_update()
    ).one()
    if balance.pending_minor:
        raise ChangeRefused(Fault.NOT_SETTLED, f"money in the wallet of {account_no} is held for a purchase")
    if not balance.posted_minor:
        raise ChangeRefused(Fault.SAME, f"there is nothing in the wallet of {account_no}")
    amount_minor = int(balance.posted_minor)
    books.record(
        connection,
        act.new_id(),
        "wallet_payout",
        entries.moved(customer.wallet_id, id_of(PAID_OUT_BY[to]), amount_minor),
        business_date=act.today,
        recorded_at=act.origin.at,
    )
    after = {"amount_minor": amount_minor, "to": to, "beside": act.beside.login}
    changes.note(connection, act, "customers.wallet_paid_out", _subject(account_no), None, after)
    return amount_minor


def wallet_available(connection: sa.Connection, customer: Customer) -> int:
    """What the customer may spend now, in minor units."""
    b = tables.limited_balance.c
    available = sa.select(b.posted_minor - b.pending_minor - b.floor_minor).where(b.account_id == customer.wallet_id)
    return int(connection.execute(available).scalar_one())


def carry_to_wallet(connection: sa.Connection, act: Act, site: Site, customer: Customer) -> int:
    """Move what a locked service point keeps into its customer's wallet, books and counter at once."""
    carry_minor = site.point.carry_minor
    if not carry_minor:
        return 0
    changes.require_idle(connection, site)
    s = tables.service_point.c
    # A sale before it cannot be undone any more: what it left in the carry is in the wallet now.
    emptied = {"carry_minor": 0, "last_sale": None}
    connection.execute(tables.service_point.update().where(s.id == site.point.id).values(emptied))
    books.record(
        connection,
        act.new_id(),
        "carry",
        entries.carry_paid_out(customer.wallet_id, carry_minor),
        business_date=act.today,
        recorded_at=act.origin.at,
    )
    return carry_minor


def close(connection: sa.Connection, act: Act, account_no: str, *, minor_digits: int) -> None:
    """Close an account for good: its phones are let go, its history stays.

    Refuses ROLE_MISSING, REASON, UNKNOWN, CLOSED, and NOT_SETTLED with everything that is left: meters that hang at
    its service points, debts, unpaid charges, money kept, money in the wallet.
    """
    act.require(*MAY_CLOSE)
    customer = open_one(connection, account_no)
    ids = points_of(connection, customer.id)
    s = tables.service_point.c
    codes = connection.execute(sa.select(s.code).where(s.id.in_(ids))).scalars().all()
    sites = changes.lock_sites(connection, codes)
    left: list[str] = []

    def amount(minor: int) -> str:
        return f"{plain(minor, minor_digits)} {act.currency}"

    for site in sites.values():
        changes.require_idle(connection, site)
        if site.meter is not None:
            left.append(f"meter {site.meter.drn} hangs at {site.code}")
        if site.point.fixed_shortfall_minor:
            left.append(f"{amount(site.point.fixed_shortfall_minor)} of fixed charges are unpaid at {site.code}")
        if site.point.carry_minor:
            left.append(f"{amount(site.point.carry_minor)} are kept at {site.code}")
    d = tables.debt.c
    owed = sa.select(d.code, d.outstanding_minor).where(d.service_point_id.in_(ids), d.outstanding_minor > 0)
    left.extend(f"debt {row.code} of {amount(row.outstanding_minor)}" for row in connection.execute(owed))
    phones = phones_of(connection, customer.id)
    for phone in phones:
        _detach(connection, customer, phone)
    b = tables.limited_balance.c
    balance = connection.execute(
        sa.select(b.posted_minor, b.pending_minor).where(b.account_id == customer.wallet_id).with_for_update()
    ).one()
    if balance.posted_minor:
        left.append(f"{amount(balance.posted_minor)} in the wallet")
    if balance.pending_minor:
        left.append(f"{amount(balance.pending_minor)} of it held for a purchase")
    if left:
        raise ChangeRefused(Fault.NOT_SETTLED, f"account {account_no} is not settled: {'; '.join(left)}")
    connection.execute(tables.customer.update().where(tables.customer.c.id == customer.id).values(status=CLOSED))
    wallet = tables.limited_balance.update().where(b.account_id == customer.wallet_id)
    connection.execute(wallet.values(closed_at=act.origin.at))
    # Undoing a sale now would bring debts and counters back to an account that nobody settles any more.
    connection.execute(tables.service_point.update().where(s.id.in_(ids)).values(last_sale=None))
    changes.note(
        connection,
        act,
        "customers.closed",
        _subject(account_no),
        {"status": customer.status, "phones": phones},
        {"status": CLOSED, "phones": []},
    )


# --- phones -----------------------------------------------------------------------------------------------------------


def phones_of(connection: sa.Connection, customer_id: UUID) -> list[str]:
    """The customer's phones."""
    p = tables.phone.c
    return list(
        connection.execute(sa.select(p.msisdn).where(p.customer_id == customer_id).order_by(p.msisdn)).scalars()
    )


def _attach(connection: sa.Connection, customer: Customer, phone: str) -> str:
    number = changes.msisdn(phone)
    p = tables.phone.c
    # A phone that has written to us before has a row without an owner.
    row = {"msisdn": number, "customer_id": None, "station_id": None, "language": None, "notices_stopped_at": None}
    insert_new(connection, tables.phone, [row], key="msisdn")
    stored = connection.execute(
        sa.select(p.customer_id, p.station_id).where(p.msisdn == number).with_for_update()
    ).one()
    if stored.customer_id == customer.id:
        raise ChangeRefused(Fault.SAME, f"the phone belongs to account {customer.account_no} already")
    if stored.customer_id is not None:
        c = tables.customer.c
        other = connection.execute(sa.select(c.account_no).where(c.id == stored.customer_id)).scalar_one()
        raise ChangeRefused(Fault.OTHER_OWNER, f"the phone belongs to account {other}: remove it there first")
    if stored.station_id is not None:
        n = tables.station.c
        station = connection.execute(sa.select(n.code).where(n.id == stored.station_id)).scalar_one()
        raise ChangeRefused(Fault.OTHER_OWNER, f"the phone belongs to station {station}")
    connection.execute(tables.phone.update().where(p.msisdn == number).values(customer_id=customer.id))
    return number


def _detach(connection: sa.Connection, customer: Customer, phone: str) -> bool:
    p = tables.phone.c
    done = connection.execute(
        tables.phone.update().where(p.msisdn == phone, p.customer_id == customer.id).values(customer_id=None)
    )
    return done.rowcount == 1


# --- finding ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Customers by account number, and where the next page begins; None: there is no more."""

    customers: tuple[Customer, ...]
    next_after: str | None


def find(
    connection: sa.Connection,
    *,
    account_no: str | None = None,
    phone: str | None = None,
    drn: str | None = None,
    name: str | None = None,
    after: str = "",
    at_most: int = 50,
) -> Page:
    """Customers whose account number, phone, meter or part of a name this is; all that are given must fit.

    In the order of account numbers, from the one after `after` on; 1 to 500 at a time. Upper and lower case of a name
    are alike; in SQLite only where letters are ASCII.
    """
    assert 1 <= at_most <= 500
    c = tables.customer.c
    wanted = sa.select(*_COLUMNS).where(c.account_no > after)
    if account_no is not None:
        wanted = wanted.where(c.account_no == account_no)
    if phone is not None:
        wanted = wanted.where(c.id.in_(sa.select(tables.phone.c.customer_id).where(dialled(phone))))
    if drn is not None:
        m, s = tables.meter.c, tables.service_point.c
        at = sa.select(m.service_point_id).where(m.drn == drn)
        wanted = wanted.where(c.id.in_(sa.select(s.customer_id).where(s.id.in_(at))))
    if name is not None:
        wanted = wanted.where(sa.func.lower(c.name).contains(name.lower(), autoescape=True))
    rows = connection.execute(wanted.order_by(c.account_no).limit(at_most + 1)).all()
    found = tuple(Customer(*row) for row in rows[:at_most])
    return Page(found, found[-1].account_no if len(rows) > at_most else None)


def dialled(phone: str) -> sa.ColumnElement[bool]:
    """The phones of this number: with its country code, or as it is dialled at home, with a zero before it.

    A home number looks at every phone: for people who search, not for sales.
    """
    number = tables.phone.c.msisdn
    if phone.startswith("0") and phone.isdigit() and len(phone) >= _HOME_NUMBER_MIN:
        return number.endswith(phone[1:])
    return number == phone


def points_of(connection: sa.Connection, customer_id: UUID) -> list[UUID]:
    """The ids of the customer's service points."""
    s = tables.service_point.c
    return list(connection.execute(sa.select(s.id).where(s.customer_id == customer_id)).scalars())


def _formed(**values: str) -> dict[str, str]:
    formed: dict[str, str] = {}
    for name, value in values.items():
        if name == "name":
            formed[name] = changes.line(name, value)
        elif name == "category":
            formed[name] = changes.word(name, value)
        else:
            assert name == "language"
            if not _LANGUAGE.fullmatch(value):
                raise ChangeRefused(Fault.FORM, f'language: a tag such as "en" expected, got {value!r}')
            formed[name] = value
    return formed


def _seen(customer: Customer) -> Mapping[str, Any]:
    return {name: getattr(customer, name) for name in ("name", "category", "language", "status")}


def _subject(account_no: str) -> str:
    return f"customer {account_no}"
