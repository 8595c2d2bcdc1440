"""Counter sales in a batch: the operator who sells, the open shift, the day's total. Nothing is read without one.

No I/O here: generators that yield questions and writes, as those of `ledger/batch.py`, which drives them. The rows
of shifts and days are locked after service points and before balances; each belongs to one operator, so no row is
shared by all sales.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from ledger import stations_tables, tables
from ledger.sql import Insert, Read, Row, Update
from ledger.unit import CounterSale, Need, Phone, Seller, SellerDay, Shift, Unit

CHANNEL: Final = "counter"
"""The channel of purchases that an operator makes at a terminal of a station."""

COUNTER_SALE: Final = stations_tables.counter_sale
COUNTER_PAYMENT: Final = stations_tables.counter_payment

_SALE = " ".join(f"c.{column.name}" for column in stations_tables.counter_sale.columns)
_TOTALS = (
    "sold_count sold_minor sold_cash_minor sold_card_minor sold_cheque_minor"
    " paid_count paid_cash_minor paid_card_minor paid_cheque_minor"
)
_SHIFT = f"id login station_id {_TOTALS}"

READ_COUNTER_SALES = Read(
    {"c": stations_tables.counter_sale}, _SALE, "FROM counter_sale c WHERE c.purchase_id {in0:uuid}"
)
READ_SELLERS = Read(
    {
        "o": tables.operator,
        "n": tables.station,
        "k": stations_tables.commission_scheme,
        "l": stations_tables.operator_limit,
    },
    "o.login o.disabled n.shift_required l.per_sale_minor l.per_shift_minor l.per_day_minor"
    " n.language n.id n.code n.account_id n.commission_percent n.supply_groups n.state n.channels k.rules",
    "FROM operator o JOIN station n ON n.code = o.station "
    "LEFT JOIN commission_scheme k ON k.code = n.commission_scheme "
    "LEFT JOIN operator_limit l ON l.login = o.login WHERE o.login {in0:text}",
)
READ_SHIFTS = Read(
    {"h": stations_tables.shift},
    " ".join(f"h.{name}" for name in _SHIFT.split()),
    "FROM shift h WHERE h.login {in0:text} AND h.state = 'OPEN' ORDER BY h.login {lock:h}",
)
READ_SELLER_DAYS = Read(
    {"d": stations_tables.seller_day},
    "d.login d.day d.sold_count d.sold_minor",
    "FROM seller_day d WHERE d.login {in0:text} AND d.day {in1:text} ORDER BY d.login, d.day {lock:d}",
)
INSERT_SELLER_DAY = Insert(stations_tables.seller_day)
UPDATE_SELLER_DAY = Update(
    stations_tables.seller_day,
    "login day",
    "sold_count sold_minor",
    "sold_count = {sold_count}, sold_minor = {sold_minor}",
)
UPDATE_SHIFT = Update(
    stations_tables.shift,
    "id",
    _TOTALS,
    ", ".join(f"{name} = {{{name}}}" for name in _TOTALS.split()),
    "shift.state = 'OPEN'",
)


def sender_of(login: str, station: str) -> str:
    """How an operator at a counter stands where others have their phone number; never a phone number itself."""
    return f"{login}@{station}"


def fill(unit: Unit, need: Need) -> Generator[tuple[Read, Sequence[Sequence[Any]]], list[Row], None]:
    """Read what the counter sales of a batch need, after its purchases; nothing where there are none."""
    known = [purchase.id for purchase in unit.purchases.values() if purchase.channel == CHANNEL]
    if not known and not need.sellers:
        return
    if known:
        for row in (yield READ_COUNTER_SALES, [known]):
            unit.counter_sales[row[0]] = CounterSale(*row)
    wanted = dict.fromkeys([*need.sellers, *((sale.login, sale.day) for sale in unit.counter_sales.values())])
    if not wanted:
        return
    logins = list(dict.fromkeys(login for login, _ in wanted))
    for row in (yield READ_SELLERS, [logins]):
        seller = Seller(row[0], bool(row[1]), bool(row[2]), *row[3:6])
        language, station_id, code, *station = row[6:]
        sender = sender_of(seller.login, code)
        unit.sellers[seller.login] = seller
        unit.phones[sender] = Phone(sender, language, None, None, None, None, station_id, code, *station)
    for row in (yield READ_SHIFTS, [logins]):
        unit.shifts[row[1]] = Shift(*row)
    for row in (yield READ_SELLER_DAYS, [logins, list(dict.fromkeys(day for _, day in wanted))]):
        unit.seller_days[row[0], row[1]] = SellerDay(*row)
    unit.seller_days_read = frozenset(unit.seller_days)


def spender(phone: Phone) -> str | None:
    """Under which name a station's phone stands among the days of sellers, if it has a limit per day.

    Never an operator's login, which holds no plus.
    """
    return f"+{phone.msisdn}" if phone.station_id is not None and phone.per_day_minor is not None else None


def wallet_spender(wallet_id: UUID) -> str:
    """The same for a wallet, whose limit per day stands in the settings."""
    return f"+{wallet_id}"


def fill_days(unit: Unit, need: Need) -> Generator[tuple[Read, Sequence[Sequence[Any]]], list[Row], None]:
    """Read what phones and wallets that have a limit per day have spent; nothing where there are none."""
    asked = list(need.phone_days)
    if need.day_of is not None:
        asked.extend((one.sender, need.day_of(one.accepted_at)) for one in unit.purchases.values())
    wanted: dict[tuple[str, str], None] = {}
    for msisdn, day in asked:
        phone = unit.phones.get(msisdn)
        if phone is None:
            continue
        if (name := spender(phone)) is not None:
            wanted[name, day] = None
        if need.wallets_have_days and phone.wallet_id is not None:
            wanted[wallet_spender(phone.wallet_id), day] = None
    if not wanted:
        return
    names, days = (list(dict.fromkeys(part)) for part in zip(*wanted, strict=True))
    for row in (yield READ_SELLER_DAYS, [names, days]):
        unit.seller_days[row[0], row[1]] = SellerDay(*row)
    unit.seller_days_read = frozenset(unit.seller_days)


def writes(unit: Unit) -> Iterator[tuple[Insert | Update, list[Row]]]:
    """What the counter sales of a batch owe the database."""
    if shifts := unit.changed("shifts"):
        yield (
            UPDATE_SHIFT,
            [
                (shift.id, *(getattr(shift, name) for name in _TOTALS.split()))
                for shift in sorted(shifts, key=lambda one: one.login)
            ],
        )
    days = sorted(unit.changed("seller_days"), key=lambda one: (one.login, one.day))
    rows = [(day.login, day.day, day.sold_count, day.sold_minor) for day in days]
    if new := [row for row in rows if row[:2] not in unit.seller_days_read]:
        yield INSERT_SELLER_DAY, new
    if old := [row for row in rows if row[:2] in unit.seller_days_read]:
        yield UPDATE_SELLER_DAY, old
