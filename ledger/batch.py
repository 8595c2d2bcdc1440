"""The statements of a batch, in their order: first everything it needs to see, then everything it has decided.

No I/O here: `fill` is a generator that yields questions and is sent their rows, `writes` lists what to write; the
stores drive both, one synchronously (SQLite), one asynchronously (PostgreSQL).

Meters are locked first, then service points, each in the order of their ids; limited balances are changed last. What
must be fresh is read after the locks. A deadlock that is possible all the same is broken by PostgreSQL and the attempt
made again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any
from uuid import UUID

from ledger import (
    bank_batch,
    correction_tables,
    counter,
    payment_tables,
    payments_batch,
    sms_tables,
    tables,
    ussd_tables,
    voucher_unit,
)
from ledger.payments_batch import prepaid_id
from ledger.sql import Insert, Read, Row, Update
from ledger.stations_tables import commission_scheme
from ledger.unit import (
    Balance,
    CorrectionState,
    DebtRow,
    Hold,
    KeyLimit,
    Meter,
    Need,
    OutboxRow,
    Phone,
    Point,
    PurchaseRow,
    ReversalRow,
    SessionRow,
    StoredRequest,
    TokenRow,
    Unit,
)

LAST_SALES = 3
"""How many of the last sales a customer is shown."""

Question = tuple[Read, Sequence[Sequence[Any]]]


def _columns(alias: str, names: str) -> str:
    return " ".join(f"{alias}.{name}" for name in names.split())


_METER = _columns(
    "m",
    "id drn iin service_point_id status encryption_algorithm key_generation key_type supply_group key_revision"
    " tariff_index key_expiry base_date last_tid next_key next_last_tid change_given_at replaced_by token_technology"
    " unseen_sale",
)
_POINT = _columns(
    "s",
    "id customer_id tariff_code counter_month month_units_tenths fixed_through_month fixed_through_date"
    " fixed_shortfall_minor carry_minor free_kwh_per_month free_last_month vending last_sale",
)
_PURCHASE = _columns("p", " ".join(column.name for column in tables.purchase.columns))
_TOKEN = _columns("t", " ".join(column.name for column in tables.token.columns))
READ_STAMPS = Read({"x": tables.stamp}, "x.name x.value", "FROM stamp x WHERE x.name {in0:text}")
READ_TARIFFS = Read({"t": tables.tariff}, "t.code t.head", "FROM tariff t")
READ_TARIFF_VERSIONS = Read(
    {"v": tables.tariff_version},
    "v.tariff_code v.effective_from v.rules",
    "FROM tariff_version v WHERE v.state = 'RELEASED' ORDER BY v.tariff_code, v.effective_from",
)
READ_METERS = Read(
    {"m": tables.meter},
    _METER,
    "FROM meter m WHERE m.id IN (SELECT m1.id FROM meter m1 WHERE m1.drn {in0:text} "
    "UNION ALL SELECT m2.id FROM phone f JOIN service_point s2 ON s2.customer_id = f.customer_id "
    "JOIN meter m2 ON m2.service_point_id = s2.id WHERE f.msisdn {in1:text} "
    "UNION ALL SELECT p.meter_id FROM purchase p WHERE p.id {in2:uuid}) ORDER BY m.id {lock:m}",
)
READ_POINTS = Read(
    {"s": tables.service_point}, _POINT, "FROM service_point s WHERE s.id {in0:uuid} ORDER BY s.id {lock:s}"
)
_KEY_NAME = "supply_group key_revision key_type key_generation base_date"
READ_KEY_LIMITS = Read(
    {"k": tables.vending_key},
    f"{_columns('k', _KEY_NAME)} k.module k.tokens_made k.token_limit k.units_made_tenths k.units_limit_tenths",
    "FROM vending_key k WHERE k.supply_group {in0:text} "
    "AND (k.token_limit IS NOT NULL OR k.units_limit_tenths IS NOT NULL)",
)
READ_KEY_USES = Read(
    {"k": tables.vending_key},
    f"{_columns('k', _KEY_NAME)} "
    "k.module k.kcv k.state k.key_expiry k.active_from k.issued_until k.refresh_by k.replaced_at",
    "FROM vending_key k",
)
READ_DEBTS = Read(
    {"d": tables.debt},
    _columns(
        "d",
        "id service_point_id code kind priority mode outstanding_minor instalment_minor percent status"
        " recovered_this_month_minor",
    ),
    "FROM debt d WHERE d.service_point_id {in0:uuid} ORDER BY d.priority, d.code",
)
READ_REQUESTS = Read(
    {"r": tables.request}, "r.idem_key r.id r.fingerprint", "FROM request r WHERE r.idem_key {in0:text}"
)
READ_PHONES = Read(
    {"f": tables.phone, "c": tables.customer, "n": tables.station, "k": commission_scheme},
    "f.msisdn f.language f.notices_stopped_at f.customer_id c.language c.wallet_id"
    " f.station_id n.code n.account_id n.commission_percent n.supply_groups n.state n.channels k.rules"
    " f.pin f.pin_tries f.pin_locked_at f.per_sale_minor f.per_day_minor n.pin_rule",
    "FROM phone f LEFT JOIN customer c ON c.id = f.customer_id LEFT JOIN station n ON n.id = f.station_id "
    "LEFT JOIN commission_scheme k ON k.code = n.commission_scheme WHERE f.msisdn {in0:text}",
)
READ_BALANCES = Read(
    {"b": tables.limited_balance},
    "b.account_id b.posted_minor b.pending_minor b.floor_minor b.closed_at",
    "FROM limited_balance b WHERE b.account_id {in0:uuid}",
)
READ_PURCHASE_POINTS = Read({"p": tables.purchase}, "p.service_point_id", "FROM purchase p WHERE p.id {in0:uuid}")
READ_PURCHASES = Read({"p": tables.purchase}, _PURCHASE, "FROM purchase p WHERE p.id {in0:uuid}")
READ_HOLDS = Read(
    {"h": tables.hold},
    "h.purchase_id h.account_id h.amount_minor h.state h.expires_at",
    "FROM hold h WHERE h.purchase_id {in0:uuid}",
)
READ_TOKENS = Read(
    {"t": tables.token}, _TOKEN, "FROM token t WHERE t.purchase_id {in0:uuid} ORDER BY t.purchase_id, t.seq"
)
READ_RECENT = Read(
    {"p": tables.purchase},
    _PURCHASE,
    "FROM purchase p WHERE p.meter_id {in0:uuid} AND p.id > {one1:uuid} ORDER BY p.id",
)
READ_LAST = Read(
    {"p": tables.purchase},
    _PURCHASE,
    "FROM meter m JOIN purchase p ON p.id = (SELECT q.id FROM purchase q JOIN token t ON t.purchase_id = q.id "
    "WHERE q.meter_id = m.id AND q.state IN ('VENDED', 'DELIVERED') ORDER BY q.id DESC LIMIT 1) "
    "WHERE m.id {in0:uuid}",
)
# Whose the service point was has changed since: what is asked before a token is shown to whoever is there now.
_LEFT = "SELECT 1 FROM site_event e WHERE e.service_point_id = {0}.service_point_id AND e.deed = 'TRANSFER' "
_LEFT += "AND e.at >= {0}.accepted_at"
READ_FORMER = Read(
    {"p": tables.purchase},
    "p.id",
    f"FROM purchase p WHERE p.id {{in0:uuid}} AND EXISTS ({_LEFT.format('p')})",
)
READ_POSTINGS = Read(
    {"l": tables.posting},
    "l.txn_id l.account_id l.amount_minor",
    "FROM posting l WHERE l.txn_id {in0:uuid} ORDER BY l.leg",
)
READ_REVERSALS = Read({"x": tables.txn}, "x.reverses x.id", "FROM txn x WHERE x.reverses {in0:uuid}")

READ_SESSIONS = Read(
    {"u": ussd_tables.ussd_session},
    _columns("u", " ".join(column.name for column in ussd_tables.ussd_session.columns)),
    "FROM ussd_session u WHERE u.msisdn {in0:text} ORDER BY u.key {lock:u}",
)
READ_OWNERS = Read(
    {"m": tables.meter, "c": tables.customer, "s": tables.service_point},
    "m.drn c.name s.area",
    "FROM meter m JOIN service_point s ON s.id = m.service_point_id JOIN customer c ON c.id = s.customer_id "
    "WHERE m.drn {in0:text}",
)
READ_LAST_SALES = Read(
    {"f": tables.phone, "p": tables.purchase},
    f"f.msisdn {_PURCHASE}",
    "FROM phone f JOIN service_point s ON s.customer_id = f.customer_id JOIN meter m ON m.service_point_id = s.id "
    "JOIN purchase p ON p.meter_id = m.id AND p.id IN ("
    "SELECT q.id FROM purchase q WHERE q.meter_id = m.id AND q.state IN ('VENDED', 'DELIVERED') "
    # Neither at another place nor for whoever lived there before.
    f"AND q.units_tenths > 0 AND q.service_point_id = s.id AND NOT EXISTS ({_LEFT.format('q')}) "
    f"ORDER BY q.id DESC LIMIT {LAST_SALES}) WHERE f.msisdn {{in0:text}} ORDER BY p.id DESC",
)
# What bears on whether a purchase may be undone. After the locks, all of it.
READ_OUTBOX = Read(
    {"o": tables.outbox},
    _columns("o", " ".join(column.name for column in tables.outbox.columns)),
    "FROM outbox o WHERE o.request_id {in0:uuid} ORDER BY o.id",
)
READ_DISCLOSURES = Read(
    {"x": correction_tables.disclosure}, "x.purchase_id", "FROM disclosure x WHERE x.purchase_id {in0:uuid}"
)
# Both parts are bounded: a purchase has few copies, and of a phone's those of the last hour are asked for.
READ_COPIES = Read(
    {"x": correction_tables.disclosure},
    "x.id x.purchase_id x.to_whom x.at",
    "FROM disclosure x WHERE x.how = 'COPY' AND x.id > {one0:uuid} "
    "AND (x.purchase_id {in1:uuid} OR x.to_whom {in2:text}) ORDER BY x.id",
)
READ_CORRECTIONS = Read(
    {"c": correction_tables.correction, "s": correction_tables.correction_state},
    "c.purchase_id c.id s.seq s.state s.issue_id",
    "FROM correction c JOIN correction_state s ON s.correction_id = c.id AND s.seq = "
    "(SELECT max(s1.seq) FROM correction_state s1 WHERE s1.correction_id = c.id) WHERE c.purchase_id {in0:uuid}",
)
READ_ANSWERS = Read(
    {"x": correction_tables.reversal},
    _columns("x", " ".join(column.name for column in correction_tables.reversal.columns)),
    "FROM reversal x WHERE x.id {in0:uuid}",
)

INSERTS = {
    table: Insert(table)
    for table in (
        tables.account,  # of a wallet that is made for a phone, with its customer
        tables.limited_balance,
        tables.customer,
        tables.request,
        tables.purchase,
        tables.token,
        tables.txn,
        tables.posting,
        tables.hold,
        tables.outbox,
        tables.phone,
        ussd_tables.ussd_session,
        tables.debt,
        correction_tables.reversal,
        correction_tables.disclosure,
        correction_tables.resale,
        correction_tables.correction_state,
        correction_tables.account_payment,
        counter.COUNTER_SALE,
        counter.COUNTER_PAYMENT,
        bank_batch.BANK_REQUEST,
        sms_tables.sms_sent,
        payment_tables.payment_event,
    )
}

_SET_POINT = (
    "counter_month month_units_tenths fixed_through_month fixed_through_date fixed_shortfall_minor carry_minor"
    " free_last_month vending last_sale"
)
UPDATE_METER = Update(tables.meter, "id", "last_tid", "last_tid = {last_tid}")
# Apart from the others, for it is rare: most meters never have a sale sealed.
SET_UNSEEN = Update(tables.meter, "id", "unseen_sale", "unseen_sale = {unseen_sale}")
_SET_KEY = (
    "last_tid supply_group key_type tariff_index key_revision key_expiry base_date key_generation"
    " next_key next_last_tid change_given_at"
)
UPDATE_METER_KEY = Update(tables.meter, "id", _SET_KEY, ", ".join(f"{name} = {{{name}}}" for name in _SET_KEY.split()))
UPDATE_POINT = Update(
    tables.service_point, "id", _SET_POINT, ", ".join(f"{name} = {{{name}}}" for name in _SET_POINT.split())
)
UPDATE_DEBT = Update(
    tables.debt,
    "id",
    "outstanding_minor recovered_this_month_minor",
    "outstanding_minor = {outstanding_minor}, recovered_this_month_minor = {recovered_this_month_minor}",
)
# Only keys with a limit are counted here: a total that every sale changes would make every sale wait for the others.
COUNT_KEY = Update(
    tables.vending_key,
    f"{_KEY_NAME} module",
    "tokens_made units_made_tenths",
    "tokens_made = vending_key.tokens_made + {tokens_made}, "
    "units_made_tenths = vending_key.units_made_tenths + {units_made_tenths}",
    "(token_limit IS NULL OR vending_key.tokens_made + {tokens_made} <= token_limit) "
    "AND (units_limit_tenths IS NULL OR vending_key.units_made_tenths + {units_made_tenths} <= units_limit_tenths)",
)
# A balance may always rise, but in a closed account; it may fall only as far as its floor, whatever has happened
# since it was read.
UPDATE_BALANCE = Update(
    tables.limited_balance,
    "account_id",
    "posted_minor pending_minor",
    "posted_minor = limited_balance.posted_minor + {posted_minor}, "
    "pending_minor = limited_balance.pending_minor + {pending_minor}",
    "(limited_balance.posted_minor + {posted_minor} - limited_balance.pending_minor - {pending_minor} >= floor_minor "
    "OR {posted_minor} - {pending_minor} >= 0) AND (closed_at IS NULL OR {posted_minor} <= 0)",
)
_SET_PURCHASE = "state owed reason payer_id station_id tariff_code tariff_version units_tenths sale receipt"
UPDATE_PURCHASE = Update(
    tables.purchase,
    "id",
    f"{_SET_PURCHASE} accepted_at expires_at",
    ", ".join(f"{name} = {{{name}}}" for name in f"{_SET_PURCHASE} accepted_at expires_at".split()),
)
FILL_TOKEN = Update(
    tables.token, "purchase_id seq", "digits module", "digits = {digits}, module = {module}", "token.digits IS NULL"
)
# Tokens of a sealed sale that are sold again.
MOVE_TOKEN = Update(
    tables.token, "purchase_id seq", "d_purchase_id", "purchase_id = {d_purchase_id}", "token.digits IS NOT NULL"
)
END_HOLD = Update(tables.hold, "purchase_id", "state", "state = {state}", "hold.state = 'PENDING'")
END_OUTBOX = Update(
    tables.outbox,
    "id",
    "state detail ended_at owner",
    "state = {state}, detail = {detail}, ended_at = {ended_at}, attempts = attempts + 1",
    "outbox.state = 'OWED' AND outbox.owner = {owner}",
    loose=True,
)
POSTPONE_OUTBOX = Update(
    tables.outbox,
    "id",
    "lease_until detail",
    "lease_until = {lease_until}, detail = {detail}, attempts = attempts + 1",
    "outbox.state = 'OWED'",
    loose=True,
)
# The same where nothing was tried.
HOLD_OUTBOX = Update(
    tables.outbox,
    "id",
    "lease_until detail",
    "lease_until = {lease_until}, detail = {detail}",
    "outbox.state = 'OWED'",
    loose=True,
)
# What a confirmed reply does to its purchase: REPLY_CONFIRMED in the table of purchase states (a test compares).
CONFIRM_PURCHASE = Update(
    tables.purchase,
    "id",
    "state",
    "state = {state}, owed = 'NOTHING'",
    "purchase.state = 'VENDED'",
    loose=True,
)
_SET_SESSION = "step typed_length typed_hash mark place page state purchase_id seen_at expires_at"
UPDATE_SESSION = Update(
    ussd_tables.ussd_session, "key", _SET_SESSION, ", ".join(f"{name} = {{{name}}}" for name in _SET_SESSION.split())
)
# Never sent again, by anybody who has not begun to. Loose: one that is handed out meanwhile stays what it became.
WITHDRAW_OUTBOX = Update(
    tables.outbox,
    "id",
    "detail ended_at",
    "state = 'WITHDRAWN', detail = {detail}, ended_at = {ended_at}",
    "outbox.state = 'OWED'",
    loose=True,
)
# One that nobody may have begun to send. If it was begun all the same, the whole attempt is made again.
WITHDRAW_UNSEEN = Update(
    tables.outbox,
    "id",
    "owner detail ended_at",
    "state = 'WITHDRAWN', detail = {detail}, ended_at = {ended_at}",
    "outbox.state = 'OWED' AND outbox.attempts = 0 AND outbox.owner = {owner}",
)
BLOCK_METER = Update(tables.meter, "id", "status", "status = {status}", "meter.status = 'INSTALLED'")
SET_LANGUAGE = Update(tables.phone, "msisdn", "language", "language = {language}")
# Tries are counted one by one, also where two nodes hear of wrong ones at once: the second looks again.
UPDATE_PIN = Update(
    tables.phone,
    "msisdn",
    "pin pin_tries pin_locked_at d_pin d_pin_tries",
    "pin = {pin}, pin_tries = {pin_tries}, pin_locked_at = {pin_locked_at}",
    "phone.pin_tries = {d_pin_tries} AND COALESCE(phone.pin, '') = {d_pin}",
)
SET_NOTICES = Update(tables.phone, "msisdn", "notices_stopped_at", "notices_stopped_at = {notices_stopped_at}")


_session_values = attrgetter(*SessionRow.__slots__)


def _unique(keys: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(keys))


def _pin_state(phone: Phone) -> Row:
    return phone.pin, phone.pin_tries, phone.pin_locked_at


def _phone_read(unit: Unit, phone: Phone) -> Phone:
    """The phone as it was read; one that is new had no PIN."""
    return unit.phones_read.get(phone.msisdn) or replace(phone, pin=None, pin_tries=0, pin_locked_at=None)


def _supply_groups(meter: Meter) -> list[str]:
    return [meter.supply_group] if meter.next_key is None else [meter.supply_group, meter.next_key.partition(".")[0]]


def read_key_limits(unit: Unit) -> Generator[Question, list[Row], None]:
    """Ask for the limits of the keys that the unit's meters have or shall have.

    This is also what a change of vending keys waits for on PostgreSQL (`ledger/vendingkeys.py`): whoever has read the
    table of keys holds off whoever wants to change it, until the batch is committed.
    """
    groups = _unique(group for meter in unit.meters.values() for group in _supply_groups(meter))
    unit.key_limits = {row[:6]: KeyLimit(*row[6:]) for row in (yield READ_KEY_LIMITS, [groups])}
    unit.key_limits_read = dict(unit.key_limits)


def fill(need: Need) -> Generator[Question, list[Row], Unit]:
    """Ask for everything in `need`, and return the unit that holds it."""
    unit = Unit()
    unit.day_of, unit.wallets_have_days = need.day_of, need.wallets_have_days
    yield from voucher_unit.fill(unit, need)
    if need.sessions_of:
        rows = yield READ_SESSIONS, [_unique(need.sessions_of)]
        unit.sessions = {row[0]: SessionRow(*row) for row in rows}
        unit.sessions_read = dict(unit.sessions)
    if need.originals or need.reversals:
        # Requests never change; what hangs on them is read below, after the locks.
        asked = yield READ_REQUESTS, [_unique([*need.originals, *need.reversals])]
        ids_by_key = {row[0]: row[1] for row in asked}
        unit.requests = {row[0]: StoredRequest(*row) for row in asked}
        need.undone.extend(ids_by_key[key] for key in need.originals if key in ids_by_key)
        if own := [ids_by_key[key] for key in need.reversals if key in ids_by_key]:
            unit.answers = {row[0]: ReversalRow(*row) for row in (yield READ_ANSWERS, [own])}
    yield from payments_batch.fill(unit, need)
    need.purchases.extend(need.undone)
    need.transactions.extend(need.undone)
    if need.meters or need.saved_meters_of or need.purchases or need.points:
        rows = yield READ_METERS, [_unique(need.meters), _unique(need.saved_meters_of), _unique(need.purchases)]
        for row in rows:
            meter = Meter(*row)
            unit.meters[meter.drn] = unit.meters_read[meter.drn] = meter
        # A purchase belongs to the service point it was priced on, wherever its meter hangs by now.
        of_purchases = (yield READ_PURCHASE_POINTS, [_unique(need.purchases)]) if need.purchases else []
        of_meters = (m.service_point_id for m in unit.meters.values() if m.service_point_id is not None)
        point_ids = _unique([*of_meters, *(row[0] for row in of_purchases), *need.points])
        if point_ids:
            rows = yield READ_POINTS, [point_ids]
            unit.points = {row[0]: Point(*row) for row in rows}
            debts: dict[UUID, list[DebtRow]] = {}
            for row in (yield READ_DEBTS, [point_ids]):
                debts.setdefault(row[1], []).append(DebtRow(*row))
            unit.debts = {point: tuple(several) for point, several in debts.items()}
            for meter in unit.meters.values():
                point = unit.points.get(meter.service_point_id) if meter.service_point_id else None
                if point is not None and meter.status == "INSTALLED":
                    unit.saved_meters.setdefault(point.customer_id, []).append(meter.drn)
        if unit.meters:
            yield from read_key_limits(unit)
        meter_ids = [meter.id for meter in unit.meters.values()]
        if need.since is not None and meter_ids:
            recent: dict[UUID, list[PurchaseRow]] = {}
            for row in (yield READ_RECENT, [meter_ids, [need.since]]):
                recent.setdefault(row[1], []).append(PurchaseRow(*row))
            unit.recent = {meter_id: tuple(several) for meter_id, several in recent.items()}
        if need.owners and unit.meters:
            unit.owners = {drn: (name, area) for drn, name, area in (yield READ_OWNERS, [list(unit.meters)])}
        if need.last_tokens and meter_ids:
            unit.last_purchases = {row[1]: PurchaseRow(*row) for row in (yield READ_LAST, [meter_ids])}
            if need.copies_of and unit.last_purchases:
                last = [purchase.id for purchase in unit.last_purchases.values()]
                unit.former = frozenset(row[0] for row in (yield READ_FORMER, [last]))
    if need.requests:
        rows = yield READ_REQUESTS, [_unique(need.requests)]
        unit.requests |= {row[0]: StoredRequest(*row) for row in rows}
    if need.purchases:
        ids = _unique(need.purchases)
        unit.purchases = {row[0]: PurchaseRow(*row) for row in (yield READ_PURCHASES, [ids])}
        unit.holds = {row[0]: Hold(*row) for row in (yield READ_HOLDS, [ids])}
    msisdns = _unique([*need.phones, *(purchase.sender for purchase in unit.purchases.values())])
    if msisdns:
        unit.phones = {row[0]: Phone(*row) for row in (yield READ_PHONES, [msisdns])}
        unit.phones_read = dict(unit.phones)
    yield from counter.fill(unit, need)
    yield from bank_batch.fill(unit, need)
    yield from counter.fill_days(unit, need)
    if need.last_sales_of:
        for msisdn, *purchase in (yield READ_LAST_SALES, [_unique(need.last_sales_of)]):
            unit.last_sales.setdefault(msisdn, []).append(PurchaseRow(*purchase))
        unit.last_sales = {msisdn: sales[:LAST_SALES] for msisdn, sales in unit.last_sales.items()}
    if need.copies_of and need.copies_since is not None:
        of_tokens = [purchase.id for purchase in unit.last_purchases.values()]
        senders = _unique(need.copies_of)
        copies: dict[UUID | str, list[Any]] = {}
        for _, purchase_id, to_whom, at in (yield READ_COPIES, [[need.copies_since], of_tokens, senders]):
            copies.setdefault(purchase_id, []).append(at)
            copies.setdefault(to_whom, []).append(at)
        unit.copies = {key: tuple(several) for key, several in copies.items()}
    shown = [*unit.last_purchases.values(), *(sale for sales in unit.last_sales.values() for sale in sales)]
    unseen = _unique(meter.unseen_sale for meter in unit.meters.values() if meter.unseen_sale is not None)
    if unseen:  # after the locks of their meters, which whoever shows or moves a token takes
        unit.unseen = {row[0]: PurchaseRow(*row) for row in (yield READ_PURCHASES, [unseen])}
        unit.disclosed = {row[0]: True for row in (yield READ_DISCLOSURES, [unseen])}
    wanted = _unique([*need.purchases, *(purchase.id for purchase in shown), *unseen])
    if wanted:
        several_tokens: dict[UUID, list[TokenRow]] = {}
        for row in (yield READ_TOKENS, [wanted]):
            several_tokens.setdefault(row[0], []).append(TokenRow(*row))
        unit.tokens = {purchase: tuple(several) for purchase, several in several_tokens.items()}
    if need.undone:
        ids = _unique(need.undone)
        unit.undoable = frozenset(ids)
        owed: dict[UUID, list[OutboxRow]] = {}
        for row in (yield READ_OUTBOX, [ids]):
            owed.setdefault(row[1], []).append(OutboxRow(*row))
        unit.outbox = {request: tuple(several) for request, several in owed.items()}
        unit.disclosed |= {row[0]: True for row in (yield READ_DISCLOSURES, [ids])}
        corrected: dict[UUID, list[CorrectionState]] = {}
        for row in (yield READ_CORRECTIONS, [ids]):
            corrected.setdefault(row[0], []).append(CorrectionState(*row))
        unit.corrections = {purchase: tuple(several) for purchase, several in corrected.items()}
    if need.transactions:
        ids = _unique(need.transactions)
        legs: dict[UUID, list[tuple[UUID, int]]] = {}
        for txn_id, account, amount in (yield READ_POSTINGS, [ids]):
            legs.setdefault(txn_id, []).append((account, amount))
        unit.postings = {txn_id: tuple(several) for txn_id, several in legs.items()}
        unit.reversals = {row[0]: row[1] for row in (yield READ_REVERSALS, [ids])}
    accounts = _unique(
        [
            *need.accounts,
            *(phone.wallet_id for phone in unit.phones.values() if phone.wallet_id is not None),
            *(phone.station_account_id for phone in unit.phones.values() if phone.station_account_id is not None),
            *(purchase.payer_id for purchase in unit.purchases.values() if purchase.payer_id is not None),
            # Of a purchase that nobody pays for yet, the phone's own money may.
            *(prepaid_id(one.sender) for one in unit.purchases.values() if one.payer_id is None and one.sender),
            *(account for several in unit.postings.values() for account, _ in several),
        ]
    )
    if accounts:
        for account, *balance in (yield READ_BALANCES, [accounts]):
            unit.balances[account] = Balance(*balance)
        unit.balances_read = dict(unit.balances)
    return unit


def writes(unit: Unit) -> Iterator[tuple[Insert | Update, list[Row]]]:
    """What the unit's deeds owe the database, in the order of the locks."""
    for table, insert in INSERTS.items():
        if rows := unit.inserts.get(table):
            yield insert, rows
    yield from payments_batch.writes(unit)
    meters = sorted(unit.changed("meters"), key=lambda m: m.id)
    if usual := [m for m in meters if m.next_key is None and unit.meters_read[m.drn].next_key is None]:
        yield UPDATE_METER, [(meter.id, meter.last_tid) for meter in usual]
    if changing := [m for m in meters if m.next_key is not None or unit.meters_read[m.drn].next_key is not None]:
        yield UPDATE_METER_KEY, [(m.id, *(getattr(m, name) for name in _SET_KEY.split())) for m in changing]
    if unseen := [m for m in meters if m.unseen_sale != unit.meters_read[m.drn].unseen_sale]:
        yield SET_UNSEEN, [(meter.id, meter.unseen_sale) for meter in unseen]
    if points := unit.changed("points"):
        yield (
            UPDATE_POINT,
            [
                (
                    point.id,
                    point.counter_month,
                    point.month_units_tenths,
                    point.fixed_through_month,
                    point.fixed_through_date,
                    point.fixed_shortfall_minor,
                    point.carry_minor,
                    point.free_last_month,
                    point.vending,
                    point.last_sale,
                )
                for point in sorted(points, key=lambda p: p.id)
            ],
        )
    if debts := [debt for several in unit.changed("debts") for debt in several]:
        yield (
            UPDATE_DEBT,
            [
                (debt.id, debt.outstanding_minor, debt.recovered_this_month_minor)
                for debt in sorted(debts, key=lambda d: d.id)
            ],
        )
    for update, rows in unit.updates.items():
        if rows:
            yield update, rows
    if pins := [phone for phone in unit.changed("phones") if _pin_state(phone) != _pin_state(_phone_read(unit, phone))]:
        yield (
            UPDATE_PIN,
            [
                (phone.msisdn, *_pin_state(phone), read.pin or "", read.pin_tries)
                for phone in sorted(pins, key=lambda one: one.msisdn)
                for read in (_phone_read(unit, phone),)
            ],
        )
    sessions = sorted(unit.changed("sessions"), key=lambda s: s.key)
    if began := [s for s in sessions if s.key not in unit.sessions_read]:
        yield INSERTS[ussd_tables.ussd_session], [_session_values(s) for s in began]
    if went_on := [s for s in sessions if s.key in unit.sessions_read]:
        yield UPDATE_SESSION, [(s.key, *(getattr(s, name) for name in _SET_SESSION.split())) for s in went_on]
    if counted := [
        (*name, limit.tokens_made - read.tokens_made, limit.units_made_tenths - read.units_made_tenths)
        for name, read in unit.key_limits_read.items()
        if (limit := unit.key_limits[name]) != read
    ]:
        yield COUNT_KEY, sorted(counted)
    yield from counter.writes(unit)
    yield from voucher_unit.writes(unit)
    moved = [
        (account, balance.posted_minor - read.posted_minor, balance.pending_minor - read.pending_minor)
        for account, read in unit.balances_read.items()
        if (balance := unit.balances[account]) != read
    ]
    if moved:
        yield UPDATE_BALANCE, sorted(moved)
