"""One batch of deeds in memory: what was read, what has changed, what will be written. Pure.

The writer (`ledger/store.py`) fills a `Unit` with everything its deeds `Need`, lets each deed decide on it in turn (a
later one sees what an earlier one did) and then writes the whole with a few set-based statements in one transaction. A
deed that fails is rolled back to its mark, so that it never spoils its neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa

from ledger.payment_rows import PaymentRow, SuspenseRow
from ledger.pricing import Tariff
from ledger.sql import Row, Update

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Need:
    """The keys of everything that a batch wants to see."""

    requests: list[str] = field(default_factory=list)  # idempotency keys
    phones: list[str] = field(default_factory=list)  # MSISDNs, with their payers
    saved_meters_of: list[str] = field(default_factory=list)  # MSISDNs whose customer's meters are wanted
    meters: list[str] = field(default_factory=list)  # meter numbers
    purchases: list[UUID] = field(default_factory=list)  # with their holds, tokens and meters
    last_tokens: bool = False  # the last token of every meter that was read
    since: UUID | None = None  # the meters' purchases later than this id
    accounts: list[UUID] = field(default_factory=list)  # limited accounts
    transactions: list[UUID] = field(default_factory=list)  # with their postings, to be reversed
    sessions_of: list[str] = field(default_factory=list)  # MSISDNs whose USSD sessions are wanted
    owners: bool = False  # whose the meters are and where, of those named and of the phones' customers
    last_sales_of: list[str] = field(default_factory=list)  # MSISDNs: the last sales to their customer's meters
    copies_of: list[str] = field(default_factory=list)  # MSISDNs: when tokens were sent to them again
    copies_since: UUID | None = None  # later than this id; and when the last tokens were, to anybody
    points: list[UUID] = field(default_factory=list)  # service points, with their debts
    undone: list[UUID] = field(default_factory=list)  # purchases that may be undone: all that bears on it
    originals: list[str] = field(default_factory=list)  # idempotency keys of requests to be reversed: as `undone`
    reversals: list[str] = field(default_factory=list)  # idempotency keys of reversals, with what they were answered
    sellers: list[tuple[str, str]] = field(default_factory=list)  # operators at a counter: login, local day
    banks: list[str] = field(default_factory=list)  # banks that ask, with their current business days
    bank_traces: list[str] = field(default_factory=list)  # requests of those banks by their trace
    bank_requests: list[UUID] = field(default_factory=list)  # requests of banks; those of the purchases come anyway
    payments: list[UUID] = field(default_factory=list)  # with their purchases, payers, accounts, items in suspense
    provider_refs: list[tuple[str, str]] = field(default_factory=list)  # likewise, by source and its name of a request
    receipts: list[tuple[str, str]] = field(default_factory=list)  # likewise, by source and receipt
    top_ups_of: list[str] = field(default_factory=list)  # MSISDNs: what they asked to pay into their wallets
    top_ups_since: UUID | None = None  # later than this id
    suspense: list[UUID] = field(default_factory=list)  # items in suspense
    suspense_of: list[str] = field(default_factory=list)  # MSISDNs whose open items in suspense are wanted
    phone_days: list[tuple[str, str]] = field(default_factory=list)  # MSISDN, local day: what its limits are held to
    day_of: Callable[[datetime], str] | None = None  # the local day of a purchase that is read
    wallets_have_days: bool = False  # what is spent from a wallet in a day has a limit
    vouchers: list[str] = field(default_factory=list)  # look-up digests, each with the purchase that it paid
    voucher_tries: list[tuple[str, str]] = field(default_factory=list)  # MSISDN, local day


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone and who pays for what it asks: its customer's wallet or its station's account.

    An operator at a counter stands among the phones too, by "login@station", with the station as payer.
    """

    msisdn: str
    language: str | None = None
    notices_stopped_at: datetime | None = None
    customer_id: UUID | None = None
    customer_language: str | None = None
    wallet_id: UUID | None = None
    station_id: UUID | None = None
    station_code: str | None = None
    station_account_id: UUID | None = None
    commission_percent: str | None = None
    supply_groups: str | None = None
    station_state: str | None = None
    station_channels: str | None = None
    commission_rules: str | None = None
    pin: str | None = field(default=None, repr=False)
    pin_tries: int = 0
    pin_locked_at: datetime | None = None
    per_sale_minor: int | None = None
    per_day_minor: int | None = None
    pin_rule: str | None = None  # of its station


@dataclass(frozen=True, slots=True)
class Seller:
    """What holds for an operator at a counter beside the station's own rules. None: no limit of this kind."""

    login: str
    is_disabled: bool
    shift_required: bool
    per_sale_minor: int | None
    per_shift_minor: int | None
    per_day_minor: int | None


@dataclass(frozen=True, slots=True)
class Shift:
    """An operator's open shift, with what its sales, and payments without energy, have come to so far, by tender."""

    id: UUID
    login: str
    station_id: UUID
    sold_count: int
    sold_minor: int
    sold_cash_minor: int
    sold_card_minor: int
    sold_cheque_minor: int
    paid_count: int
    paid_cash_minor: int
    paid_card_minor: int
    paid_cheque_minor: int


@dataclass(frozen=True, slots=True)
class SellerDay:
    """What an operator has sold on one local day."""

    login: str
    day: str
    sold_count: int
    sold_minor: int


@dataclass(frozen=True, slots=True)
class CounterSale:
    """A purchase that was asked for at a counter: by whom, in which shift, and what the customer gave."""

    purchase_id: UUID
    login: str
    station: str
    shift_id: UUID | None
    seq: int
    day: str
    cash_minor: int
    card_minor: int
    cheque_minor: int


@dataclass(frozen=True, slots=True)
class BankRequestRow:
    """A request of a bank as stored; `ledger/bank_tables.py` says what is what."""

    id: UUID
    bank: str
    function: str
    trace: str | None
    mti: str
    stan: str
    rrn: str
    terminal: str
    acceptor: str
    acquirer: str
    sent: str
    local_time: str
    local_date: str
    business_date: date
    amount_minor: int
    currency: str
    drn: str
    original: UUID | None
    outcome: str
    reason: str | None
    code: str | None
    answers: int
    is_closed: bool
    link: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter as the key derivation needs it."""

    id: UUID
    drn: str
    iin: str
    service_point_id: UUID | None
    status: str
    encryption_algorithm: int
    key_generation: int
    key_type: int
    supply_group: str
    key_revision: int
    tariff_index: str
    key_expiry: int
    base_date: int
    last_tid: int | None
    next_key: str | None
    next_last_tid: int | None
    change_given_at: datetime | None
    replaced_by: str | None = None
    token_technology: str = "02"
    unseen_sale: UUID | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A service point: whose it is, its tariff, and its counters."""

    id: UUID
    customer_id: UUID
    tariff_code: str
    counter_month: str
    month_units_tenths: int
    fixed_through_month: str
    fixed_through_date: date
    fixed_shortfall_minor: int
    carry_minor: int
    free_kwh_per_month: int | None
    free_last_month: str
    vending: UUID | None
    last_sale: UUID | None


@dataclass(frozen=True, slots=True)
class DebtRow:
    """A debt as stored."""

    id: UUID
    service_point_id: UUID
    code: str
    kind: str
    priority: int
    mode: str
    outstanding_minor: int
    instalment_minor: int
    percent: str
    status: str
    recovered_this_month_minor: int


@dataclass(slots=True)
class Balance:
    """A limited account: credits positive; posted - pending may not fall below the floor. Closed, it takes nothing."""

    posted_minor: int
    pending_minor: int
    floor_minor: int
    closed_at: datetime | None = None

    @property
    def available_minor(self) -> int:
        return self.posted_minor - self.pending_minor - self.floor_minor


KeyName = tuple[str, int, int, int, int]  # supply group, revision, type, generation, base date
KeyPlace = tuple[str, int, int, int, int, str]  # a key's name, and the module that has it


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What the books know of a vending key in one module: whether it may be used there, and until when."""

    name: KeyName
    module: str
    kcv: str  # empty where the module cannot tell
    state: str
    key_expiry: int
    active_from: datetime | None
    issued_until: datetime | None
    refresh_by: datetime | None
    replaced_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """What a vending key has made here, and the most it may make; None: no limit of this kind."""

    tokens_made: int
    token_limit: int | None
    units_made_tenths: int
    units_limit_tenths: int | None

    def with_more(self, tokens: int, units_tenths: int) -> KeyLimit | None:
        """The totals after so much more; None if a limit does not allow it."""
        more = KeyLimit(
            self.tokens_made + tokens, self.token_limit, self.units_made_tenths + units_tenths, self.units_limit_tenths
        )
        if more.token_limit is not None and more.tokens_made > more.token_limit:
            return None
        if more.units_limit_tenths is not None and more.units_made_tenths > more.units_limit_tenths:
            return None
        return more

    def with_less(self, tokens: int, units_tenths: int) -> KeyLimit:
        """The totals after so much turned out to have been made under another key."""
        return KeyLimit(
            self.tokens_made - tokens, self.token_limit, self.units_made_tenths - units_tenths, self.units_limit_tenths
        )


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request seen before."""

    idem_key: str
    id: UUID
    fingerprint: bytes


@dataclass(slots=True)
class PurchaseRow:
    """A purchase as stored. Mutable while a deed works on its own copy; what a unit holds is left alone."""

    id: UUID
    meter_id: UUID
    service_point_id: UUID
    channel: str
    peer: str
    sender: str
    destination: str
    language: str
    amount_minor: int
    state: str
    owed: str
    reason: str | None
    payer_id: UUID | None
    station_id: UUID | None
    tariff_code: str | None
    tariff_version: str | None
    units_tenths: int | None
    sale: str | None
    receipt: str | None
    accepted_at: datetime
    expires_at: datetime


@dataclass(slots=True, repr=False)
class TokenRow:
    """A token with every input it was, or will be, made from; `digits` is None until the module has answered.

    Mutable as a purchase's row is.
    """

    purchase_id: UUID
    seq: int
    meter_id: UUID
    kind: str
    base_date: int
    tid: int | None
    subclass: int | None
    rnd: int | None
    amount_field: int | None
    units_tenths: int
    supply_group: str
    key_revision: int
    key: str
    new_key: str | None
    digits: str | None
    module: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Money held for a purchase."""

    purchase_id: UUID
    account_id: UUID
    amount_minor: int
    state: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message owed to somebody."""

    id: UUID
    request_id: UUID
    channel: str
    peer: str
    recipient: str
    sender: str
    language: str
    message: str
    fields: str
    state: str
    owner: str
    lease_until: datetime
    attempts: int
    detail: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class SessionRow:
    """A USSD session as stored; `ledger/ussd_tables.py` says what is what. Its screen may show a token."""

    key: str
    msisdn: str
    service: str
    step: int
    typed_length: int
    typed_hash: bytes
    mark: str
    place: str
    page: str
    state: str
    purchase_id: UUID | None
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class VoucherRow:
    """A voucher as stored, by its look-up digest."""

    digest: str
    id: UUID
    value_minor: int
    expires_on: date
    state: str
    used_by: str | None
    used_at: datetime | None
    request_id: UUID | None
    txn_id: UUID | None


@dataclass(frozen=True, slots=True)
class VoucherTries:
    """How many numbers that are no voucher's a phone has sent on one local day."""

    msisdn: str
    day: str
    tries: int


@dataclass(frozen=True, slots=True)
class ReversalRow:
    """What a reversal was answered."""

    id: UUID
    original: str
    purchase_id: UUID | None
    answer: str
    reason: str | None
    evidence: str
    who: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class CorrectionState:
    """How far a correction of a purchase has come: its latest state, and the purchase that brings its token."""

    purchase_id: UUID
    id: UUID
    seq: int
    state: str
    issue_id: UUID | None


class Unit:
    """The state of one batch. Read it through its dictionaries; change it through its methods only."""

    def __init__(self) -> None:
        self.day_of: Callable[[datetime], str] | None = None  # as in `Need`
        self.wallets_have_days = False
        self.tariffs: Mapping[str, Tariff] = {}  # all of them, as of this batch
        self.balances_read: dict[UUID, Balance] = {}
        self.requests: dict[str, StoredRequest] = {}
        self.phones: dict[str, Phone] = {}
        self.phones_read: dict[str, Phone] = {}
        self.meters: dict[str, Meter] = {}  # by meter number
        self.meters_read: dict[str, Meter] = {}
        self.saved_meters: dict[UUID, list[str]] = {}  # customer -> meter numbers of installed meters
        self.points: dict[UUID, Point] = {}
        self.debts: dict[UUID, tuple[DebtRow, ...]] = {}  # by service point
        self.balances: dict[UUID, Balance] = {}
        self.purchases: dict[UUID, PurchaseRow] = {}
        self.recent: dict[UUID, tuple[PurchaseRow, ...]] = {}  # by meter
        self.last_purchases: dict[UUID, PurchaseRow] = {}  # by meter: the last that gave a token
        self.former: frozenset[UUID] = frozenset()  # of these: made before the service point was given to its customer
        self.tokens: dict[UUID, tuple[TokenRow, ...]] = {}  # by purchase
        self.holds: dict[UUID, Hold] = {}
        self.key_limits: dict[KeyPlace, KeyLimit] = {}  # of keys that have one
        self.key_limits_read: dict[KeyPlace, KeyLimit] = {}
        self.postings: dict[UUID, tuple[tuple[UUID, int], ...]] = {}  # by transaction
        self.reversals: dict[UUID, UUID] = {}  # transaction -> the one that reverses it
        self.sessions: dict[str, SessionRow] = {}  # USSD sessions by key
        self.sessions_read: dict[str, SessionRow] = {}
        self.owners: dict[str, tuple[str, str]] = {}  # meter number -> customer's name, area
        self.last_sales: dict[str, list[PurchaseRow]] = {}  # MSISDN -> its customer's last with tokens, newest first
        self.undoable: frozenset[UUID] = frozenset()  # purchases of which the following were read
        self.outbox: dict[UUID, tuple[OutboxRow, ...]] = {}  # by request
        self.unseen: dict[UUID, PurchaseRow] = {}  # sealed sales that meters say nobody has seen the tokens of
        self.disclosed: dict[UUID, bool] = {}  # purchases whose token was shown other than in its own reply
        self.copies: dict[
            UUID | str, tuple[datetime, ...]
        ] = {}  # by purchase and by MSISDN: when a token was sent again
        self.corrections: dict[UUID, tuple[CorrectionState, ...]] = {}  # by purchase
        self.answers: dict[UUID, ReversalRow] = {}  # of reversals, by their own request
        self.sellers: dict[str, Seller] = {}  # by login
        self.shifts: dict[str, Shift] = {}  # those that are open, by login
        self.seller_days: dict[tuple[str, str], SellerDay] = {}
        self.seller_days_read: frozenset[tuple[str, str]] = frozenset()
        self.vouchers: dict[str, VoucherRow] = {}  # by digest
        self.voucher_tries: dict[tuple[str, str], VoucherTries] = {}
        self.voucher_tries_read: frozenset[tuple[str, str]] = frozenset()
        self.counter_sales: dict[UUID, CounterSale] = {}  # by purchase
        self.bank_requests: dict[UUID, BankRequestRow] = {}
        self.bank_traces: dict[tuple[str, str], UUID] = {}  # bank and trace -> request
        self.bank_days: dict[str, date] = {}  # the business date that each bank announced last
        self.payments: dict[UUID, PaymentRow] = {}
        self.payments_read: frozenset[UUID] = frozenset()
        self.top_ups: dict[str, tuple[PaymentRow, ...]] = {}  # by MSISDN; those of this batch are among `payments`
        self.suspense: dict[UUID, SuspenseRow] = {}
        self.suspense_read: frozenset[UUID] = frozenset()
        self.inserts: dict[sa.Table, list[Row]] = defaultdict(list)
        self.updates: dict[Update, list[Row]] = defaultdict(list)
        self._dirty: dict[tuple[str, Hashable], None] = {}
        self._undo: list[Callable[[], object]] = []

    # --- changing ---

    def put(self, name: str, key: K, value: V) -> None:
        """Set one entry of a dictionary of this unit, remembering it as changed."""
        mapping: dict[K, V] = getattr(self, name)
        old = mapping.get(key)
        if old is None:
            self._undo.append(lambda: mapping.pop(key))
        else:
            self._undo.append(lambda: mapping.__setitem__(key, old))
        mapping[key] = value
        self._dirty[(name, key)] = None

    def changed(self, name: str) -> list[Any]:
        """The entries that were set in this dictionary and are still there, in order of first change."""
        mapping = getattr(self, name)
        return [mapping[key] for dictionary, key in self._dirty if dictionary == name and key in mapping]

    def is_changed(self, name: str, key: Hashable) -> bool:
        """Whether a deed of this batch has set this entry, so that what was read with it is no longer all."""
        return (name, key) in self._dirty

    def insert(self, table: sa.Table, row: Row) -> None:
        """Owe the insertion of one row, all columns in the table's order."""
        rows = self.inserts[table]
        rows.append(row)
        self._undo.append(rows.pop)

    def update(self, statement: Update, row: Row) -> None:
        """Owe one row of an update."""
        rows = self.updates[statement]
        rows.append(row)
        self._undo.append(rows.pop)

    def move(self, account: UUID, posted_minor: int, pending_minor: int) -> None:
        """Change a limited account's balance in memory; the caller has judged whether it may."""
        balance = self.balances[account]
        self.put(
            "balances",
            account,
            Balance(
                balance.posted_minor + posted_minor,
                balance.pending_minor + pending_minor,
                balance.floor_minor,
                balance.closed_at,
            ),
        )

    # --- failing ---

    def mark(self) -> int:
        """A place to roll back to."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Undo every change since the mark. Entries stay marked as changed; writing them again is harmless."""
        while len(self._undo) > mark:
            self._undo.pop()()
