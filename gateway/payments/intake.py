"""What is said of payments, as deeds: by a source's callback, by its answer to a question, by the clock.

A success is booked to its payer and sold for in the same transaction; what cannot be sold for goes into suspense there
and then. The same word again changes nothing (rules 4.2).
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from channels.commands import Buy
from channels.contract import Inbound, Message
from config.money import PaymentSettings
from gateway import source_money, topping_up
from gateway.deeds import meter_of, new_purchase
from gateway.payer import is_msisdn
from gateway.payments import life
from gateway.payments.contract import Event, PaymentState, Validation, Why
from gateway.payments.life import Effect, Said, State
from gateway.purchase import SOLD, TABLE
from gateway.purchase import Event as Happened
from gateway.purchase import State as Stands
from gateway.quoting import quoted
from gateway.sale import receipt_of
from gateway.vend import PAYMENT, Done, Life, Shop, Vending, refusal_message, require_in_service
from ledger import books, payments, tables
from ledger.payment_rows import ASKED, OPEN, Held, PaymentRow, Purpose, Resolution
from ledger.payment_tables import payment_event
from ledger.payments_batch import prepaid_id
from ledger.reasons import Reason, Refusal
from ledger.unit import Need, StoredRequest, Unit
from sts.errors import NumberError
from sts.numbers import check_drn

log = logging.getLogger(__name__)

CHANNEL: Final = "payment"
"""The channel of purchases that began with the money: a meter number written beside a payment."""

NOT_BELIEVED: Final = frozenset({"CURRENCY", "NOT_AN_AMOUNT", "UNKNOWN"})
"""Outcomes of words that cannot be true, or are of nothing known: nothing was booked."""

_ASK_NOW_LEASE_S: Final = 30.0
_DETAIL_MAX: Final = 200
_CLOSED_FOR: Final = {
    Why.NO_FUNDS: Reason.PAYMENT_NO_FUNDS,
    Why.CANCELLED: Reason.PAYMENT_CANCELLED,
    Why.WRONG_PIN: Reason.PAYMENT_WRONG_PIN,
    Why.EXPIRED: Reason.PAYMENT_EXPIRED,
}
_SEPARATORS: Final = re.compile(r"[\s\-_./#]+")
_WRITTEN: Final = re.compile(r"(?:[a-z]{1,10}:?)?([0-9]{13}|[0-9]{11})", re.IGNORECASE)


def meter_in(account_ref: str) -> str | None:
    """The meter number that a payer wrote: "0401 2345 676", "meter 04012345676", "m04012345676"; None if it is none."""
    found = _WRITTEN.fullmatch(_SEPARATORS.sub("", account_ref))
    if found is None:
        return None
    try:
        check_drn(found[1])
    except NumberError:
        return None
    return found[1]


def masked(payer: str) -> str:
    """A phone number with its middle hidden, as events keep it."""
    return f"{payer[:5]}***{payer[-2:]}" if len(payer) > 7 else "***" if payer else ""


@dataclass(slots=True)
class Told:
    """What came of a word: what is to be done after the commit, its name for counters, whether to ask at once."""

    done: Done = field(default_factory=Done)
    outcome: str = "NOTHING"
    ask_now: UUID | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A source says how a payment stands. `how` is CALLBACK or POLL; `about` the payment that was asked about."""

    shop: Shop
    source: PaymentSettings
    how: str
    event: Event
    about: UUID | None = None

    def need(self, need: Need) -> None:
        event, name = self.event, self.source.name
        if event.our_ref is not None:
            need.payments.append(event.our_ref)
        if self.about is not None:
            need.payments.append(self.about)
        if event.provider_ref:
            need.provider_refs.append((name, event.provider_ref))
        if event.receipt:
            need.receipts.append((name, event.receipt))
            need.requests.append(f"{CHANNEL}|{name}:{event.receipt}")
        if event.payer:
            need.phones.append(event.payer)
            need.accounts.append(prepaid_id(event.payer))
        drn = meter_in(event.account_ref)
        if drn is not None:
            need.meters.append(drn)

    def decide(self, unit: Unit) -> Told:
        work = _Work(self.shop, unit, self.source, self.how, self.event)
        payment = self._found(unit)
        if payment is not None:
            work.of(payment, Said(self.event.state.value))
        else:
            work.of_nobody()
        return work.told

    def _found(self, unit: Unit) -> PaymentRow | None:
        """By receipt, for of one receipt there is one payment; else by our reference; else by the source's."""
        event, own = self.event, [one for one in unit.payments.values() if one.source == self.source.name]
        if event.receipt:
            for payment in own:
                if payment.receipt == event.receipt:
                    return payment
        for payment in own:
            if payment.id in (event.our_ref, self.about):
                return payment
        for payment in own:
            if event.provider_ref and payment.provider_ref == event.provider_ref:
                return payment
        return None


@dataclass(frozen=True, slots=True)
class Answered:
    """A source's answer that is no event, or the clock's word."""

    shop: Shop
    source: PaymentSettings
    how: str
    payment_id: UUID
    said: Said
    why: Why | None = None
    provider_ref: str = ""
    detail: str = ""

    def need(self, need: Need) -> None:
        need.payments.append(self.payment_id)

    def decide(self, unit: Unit) -> Told:
        now = self.shop.world.now()
        word = Event(PaymentState.PENDING, now, provider_ref=self.provider_ref, why=self.why, detail=self.detail)
        work = _Work(self.shop, unit, self.source, self.how, word)
        payment = unit.payments.get(self.payment_id)
        if payment is None:
            log.error("an answer belongs to no payment", extra={"payment": str(self.payment_id)})
        else:
            work.of(payment, self.said)
        return work.told


@dataclass(frozen=True, slots=True)
class Validate:
    """A source asks beforehand whether money with this account reference would be placed. Nothing is written."""

    shop: Shop
    source: PaymentSettings
    asked: Validation

    def need(self, need: Need) -> None:
        drn = meter_in(self.asked.account_ref)
        if drn is not None:
            need.meters.append(drn)
        need.phones.append(self.asked.payer)
        need.accounts.append(prepaid_id(self.asked.payer))

    def decide(self, unit: Unit) -> str:
        """Empty where it would be; else why not."""
        asked, shop = self.asked, self.shop
        drn = meter_in(asked.account_ref)
        if asked.currency and asked.currency != shop.settings.utility.currency:
            return "CURRENCY"
        if topping_up.is_word(shop.settings, asked.account_ref):
            return ""
        if drn is None:
            return Held.METER_UNKNOWN.value
        mark = unit.mark()
        try:
            meter = meter_of(unit, None, drn)
            require_in_service(meter)
            now = shop.world.now()
            inbound = _inbound(self.source.name, "", asked.payer, asked.amount_minor, drn, now)
            buy = Buy(drn, asked.amount_minor)
            default = shop.settings.utility.default_language
            row = new_purchase(shop, inbound, shop.world.new_id(), meter, default, buy, now)
            row.payer_id = payments.account_of(unit, asked.payer, shop.settings.utility.currency)
            source_money.move(
                shop, unit, "payment_in", source_money.clearing(self.source.name), row.payer_id, asked.amount_minor, now
            )
            quoted(shop, unit, row, meter, 1, is_paid=True)
        except Refusal as refusal:
            return "" if refusal.reason is Reason.BUSY else refusal.reason.value
        finally:
            unit.rollback(mark)
        return ""


def _inbound(source: str, receipt: str, payer: str, amount_minor: int, drn: str, now: datetime) -> Inbound:
    content = f"{source} {receipt} {amount_minor} {drn}".encode()
    return Inbound(
        channel=CHANNEL,
        peer=source,
        reference=f"{source}:{receipt}",
        fingerprint=hashlib.blake2b(content, digest_size=16).digest(),
        sender=payer,
        destination="",
        command=Buy(drn, amount_minor),
        received_at=now,
    )


def _top_up_closed(shop: Shop, payment: PaymentRow, reason: Reason) -> Message:
    """What a payer is told whose wallet gets nothing, or nothing yet."""
    if reason is Reason.PAYMENT_EXPIRED:
        return Message("top_up_expired", shop.money(amount_minor=payment.amount_minor))
    return refusal_message(shop, Refusal(reason, amount_minor=payment.amount_minor))


class _Work:
    """One word about one payment, on one unit."""

    def __init__(self, shop: Shop, unit: Unit, source: PaymentSettings, how: str, event: Event) -> None:
        self.shop, self.unit, self.source, self.how, self.event = shop, unit, source, how, event
        self.now = shop.world.now()
        self.told = Told()
        self.done = self.told.done

    # --- of a payment that is known ---

    def of(self, payment: PaymentRow, said: Said) -> None:
        event = self.event
        if said is Said.SUCCESS and self._is_unfit(payment):
            return
        if said is Said.SUCCESS and self._is_second(payment):
            self._second(payment)
            return
        if said is Said.REVERSED and event.receipt and payment.receipt not in (None, event.receipt):
            self._reversed_first()  # a second payment of this order, of which nobody has heard
            return
        before = State(payment.state)
        following = life.step(before, said)
        known = replace(payment, provider_ref=event.provider_ref or payment.provider_ref)
        if event.receipt and payment.receipt is None and said in (Said.SUCCESS, Said.PENDING, Said.REVERSED):
            known = replace(known, receipt=event.receipt)
        if following.effect is Effect.BOOK:
            self._book(known)
        elif following.effect is Effect.CLOSE:
            self._close(known, following.state, said)
        elif following.effect is Effect.TAKE_BACK:
            self._take_back(known)
        elif following.effect in (Effect.ASK, Effect.COLLECT):
            self._go_on(known, following)
        elif following.state is not before:
            self._put(replace(known, state=following.state.value), "NOTED", said)
        elif known != payment:
            self.unit.put("payments", known.id, known)

    def _is_unfit(self, payment: PaymentRow) -> bool:
        """Money that cannot be what was asked for: of another currency, or none at all. Nothing is believed."""
        event = self.event
        wrong = "CURRENCY" if event.currency and event.currency != payment.currency else ""
        if event.amount_minor is not None and event.amount_minor <= 0:
            wrong = "NOT_AN_AMOUNT"
        if wrong:
            self._unfit(wrong, payment.id)
        return bool(wrong)

    def _unfit(self, wrong: str, payment_id: UUID | None) -> None:
        log.error("word of a payment is not believed: %s", wrong, extra={"source": self.source.name})
        self.told.outcome = wrong
        if self.how == "CALLBACK":
            self._note(payment_id, Said.SUCCESS.value, wrong)

    def _is_second(self, payment: PaymentRow) -> bool:
        """Another receipt for what is paid already, or was: the payer was charged twice."""
        receipt, had_one = self.event.receipt, State(payment.state) in (State.PAID, State.REVERSED)
        return had_one and bool(receipt) and payment.receipt not in (None, receipt)

    def _go_on(self, payment: PaymentRow, following: life.Step) -> None:
        """Nothing certain yet: when to ask again; and whether the order's time is up."""
        lane, at = life.next_ask(payment.created_at, self.now, self.shop.world.chance())
        closes = payment.created_at + timedelta(seconds=self.source.order_s)
        is_closing = self.now >= closes
        if not is_closing:
            at = min(at, closes)
        if following.effect is Effect.COLLECT and (is_closing or not self._is_awaited(payment)):
            # Nobody is prompted for an order that is closed. That the source never had the request may be a moment too
            # early, so it is asked on.
            following = life.Step(State.UNCLEAR, Effect.ASK)
        why, is_told = payment.why, payment.why == Why.EXPIRED
        if is_closing and payment.purpose == Purpose.TOPUP:
            why = Why.EXPIRED.value  # its payer is told once, and it is asked about as long as an order's
        if following.effect is Effect.COLLECT:
            self.done.collects.append(replace(payment, state=following.state.value))
            at = self.now + timedelta(seconds=_ASK_NOW_LEASE_S)
        elif self.how == "CALLBACK":  # it hints at something that only an answer to a question makes sure
            self.told.ask_now, at = payment.id, self.now + timedelta(seconds=_ASK_NOW_LEASE_S)
        went = replace(
            payment, state=following.state.value, why=why, lane=lane, next_ask_at=at, tries=payment.tries + 1
        )
        if went.state != payment.state or self.how == "CALLBACK":
            self._put(went, "GOES_ON", None)
        else:
            self.unit.put("payments", went.id, went)
            self.told.outcome = "GOES_ON"
        if is_closing and not is_told:
            self._close_order(payment, Reason.PAYMENT_EXPIRED)

    def _is_awaited(self, payment: PaymentRow) -> bool:
        """Whether what it is to pay for still waits for it."""
        if payment.purchase_id is None:
            return True
        row = self.unit.purchases.get(payment.purchase_id)
        return row is not None and Stands(row.state) is Stands.AWAITING

    def _close(self, payment: PaymentRow, state: State, said: Said) -> None:
        """No money comes, or none is waited for any more."""
        why = self.event.why or Why.REFUSED
        is_late = said is Said.TIME_UP
        closed = replace(
            payment,
            state=state.value,
            why=None if is_late else why.value,
            closed_at=self.now,
            lane=None,
            next_ask_at=None,
        )
        self._put(closed, "CLOSED", said)
        if payment.why != Why.EXPIRED:  # else its payer has been told that no money came
            reason = Reason.PAYMENT_EXPIRED if is_late else _CLOSED_FOR.get(why, Reason.PAYMENT_FAILED)
            self._close_order(payment, reason)

    def _close_order(self, payment: PaymentRow, reason: Reason) -> None:
        if payment.purpose == Purpose.TOPUP:
            self._tell(payment, _top_up_closed(self.shop, payment, reason))
            return
        row = self.unit.purchases.get(payment.purchase_id) if payment.purchase_id is not None else None
        if row is None or Stands(row.state) is not Stands.AWAITING:
            return
        order = Life.of(self.unit, row)
        order.refusal = Refusal(reason, **self.shop.money(drn=order.meter.drn, amount_minor=row.amount_minor))
        self._walk(order, Happened.DECLINED)

    def _walk(self, order: Life, event: Happened) -> Done:
        mine = Done()
        vending = Vending(self.shop, self.unit, mine, self.now)
        vending.tells_kept = False
        vending.walk(order, event)
        source_money.add(self.done, mine)
        return mine

    # --- money ---

    def _book(self, payment: PaymentRow) -> None:
        """The money into the books, to its payer; then the order goes on, if it may."""
        paid = self.event.amount_minor if self.event.amount_minor is not None else payment.amount_minor
        account = payments.account_of(self.unit, payment.payer, payment.currency)
        source_money.move(
            self.shop, self.unit, "payment_in", source_money.clearing(payment.source), account, paid, self.now
        )
        booked = source_money.placed(payment, account, paid, self.event.receipt, self.now)
        if payment.purpose == Purpose.TOPUP:
            self._kept(booked, account, "top_up_paid")
            self._put(booked, "TOPPED_UP", Said.SUCCESS)
            return
        row = self.unit.purchases.get(payment.purchase_id) if payment.purchase_id is not None else None
        if row is None or Happened.MONEY_IN not in TABLE[Stands(row.state)]:
            self._kept(booked, account)
            self._put(booked, "KEPT", Said.SUCCESS)
            return
        order, was_closed = Life.of(self.unit, row), Stands(row.state) is Stands.UNPAID
        if paid < row.amount_minor:
            left = self.unit.balances[account].available_minor
            if was_closed:
                self._kept(booked, account)
            else:
                values = {"paid_minor": paid, "amount_minor": row.amount_minor, "balance_minor": left}
                order.refusal = Refusal(Reason.PAID_LESS, **values)
                self._walk(order, Happened.DECLINED)
            self._put(booked, "PAID_LESS", Said.SUCCESS)
            return
        order.row.payer_id, order.row.reason, order.row.accepted_at = account, None, self.now
        order.row.expires_at = self.now + timedelta(seconds=self.shop.settings.purchase.paid_patience_s)
        order.split[PAYMENT] = {**order.split[PAYMENT], "paid": True, "late": was_closed}
        went = self._walk(order, Happened.MONEY_IN)
        if went.state in source_money.REFUSED:
            reason = source_money.held_for(went.reason)
            booked = replace(booked, account_id=source_money.suspense(payment.source))
            source_money.set_aside(self.shop, self.unit, self.done, booked, account, reason, self.now, told=True)
            self._put(booked, "SUSPENSE", Said.SUCCESS)
        else:
            self._put(booked, "BOUGHT", Said.SUCCESS)

    def _kept(self, payment: PaymentRow, account: UUID, key: str = "payment_kept") -> None:
        left = self.unit.balances[account].available_minor
        values = self.shop.money(amount_minor=payment.paid_minor, balance_minor=left, receipt=payment.receipt or "")
        self._tell(payment, Message(key, values))

    def _tell(self, payment: PaymentRow, message: Message) -> None:
        source_money.tell(self.shop, self.unit, self.done, self.now, payment.id, payment.payer, message)

    def _second(self, first: PaymentRow) -> None:
        """The payer was charged twice for one order: the second goes into suspense."""
        second = self._new(first.payer, first.account_ref, Purpose.NONE, None, first.amount_minor)
        self._aside(second, Held.SECOND_PAYMENT)

    def _aside(self, payment: PaymentRow, reason: Held) -> None:
        account = source_money.suspense(payment.source)
        booked = replace(payment, account_id=account)
        self._put(booked, "SUSPENSE", Said.SUCCESS)
        source_money.set_aside(
            self.shop,
            self.unit,
            self.done,
            booked,
            source_money.clearing(payment.source),
            reason,
            self.now,
            told=is_msisdn(payment.payer),
        )

    def _take_back(self, payment: PaymentRow) -> None:
        """The source took back what it had given: out of suspense, or from what is unspent; else a person's case."""
        taken = replace(payment, state=State.REVERSED.value, closed_at=self.now)
        assert payment.paid_minor is not None and payment.account_id is not None
        clearing, aside = source_money.clearing(payment.source), source_money.suspense(payment.source)
        for item in self.unit.suspense.values():
            if item.payment_id == payment.id and item.amount_minor > 0:
                if item.state in (OPEN, ASKED):  # whatever people were about to decide: there is nothing left
                    txn_id = self._move("payment_reversed", aside, clearing, item.amount_minor)
                    payments.resolve(self.unit, item, Resolution.REVERSED, txn_id, payment.source, self.now)
                    self._put(taken, "TAKEN_BACK", Said.REVERSED)
                    return
                if item.resolution == Resolution.REFUNDED or item.state != "RESOLVED":
                    # Two people have it given back: this is the source's word of just that, or `suspense.refund_ended`
                    # finds what the payment says now.
                    self._put(taken, "NOTED", Said.REVERSED)
                    return
        row = self.unit.purchases.get(payment.purchase_id) if payment.purchase_id is not None else None
        is_spent = row is not None and Stands(row.state) in SOLD | {Stands.VENDING, Stands.PAYING, Stands.RECEIVED}
        if not is_spent and payment.account_id in self.unit.balances:
            try:
                self._move("payment_reversed", payment.account_id, clearing, payment.paid_minor)
                self._put(taken, "TAKEN_BACK", Said.REVERSED)
                return
            except books.Overdrawn:
                pass  # it was spent on something else meanwhile
        self._move("payment_reversed", aside, clearing, payment.paid_minor)
        item_id = self.shop.world.new_id()
        payments.hold_back(
            self.unit,
            item_id,
            receipt_of(item_id),
            payment,
            Held.TAKEN_BACK,
            -payment.paid_minor,
            self.now,
        )
        log.error("a source took back money that was sold for", extra={"payment": str(payment.id)})
        self._put(taken, "CASE", Said.REVERSED)

    def _move(self, kind: str, source: UUID, target: UUID, amount_minor: int) -> UUID:
        return source_money.move(self.shop, self.unit, kind, source, target, amount_minor, self.now)

    # --- of a payment that nobody here knows ---

    def _reversed_first(self) -> None:
        """Taken back before anybody told of it: kept under its receipt, so that word of the success books nothing."""
        if self.event.amount_minor is None or self.event.amount_minor <= 0:
            self.told.outcome = "UNKNOWN"
            self._note(None, self.event.state.value, "UNKNOWN")
            return
        row = self._new(self.event.payer, self.event.account_ref, Purpose.NONE, None)
        self._put(replace(row, state=State.REVERSED.value, paid_minor=None, paid_at=None), "NOTED", Said.REVERSED)

    def of_nobody(self) -> None:
        event = self.event
        if event.state is PaymentState.REVERSED and event.receipt:
            self._reversed_first()
            return
        if event.state is not PaymentState.SUCCESS or not event.receipt:
            log.warning("word of a payment that is not known here: %s", event.state, extra={"source": self.source.name})
            self.told.outcome = "UNKNOWN"
            self._note(None, event.state.value, "UNKNOWN")
            return
        if event.amount_minor is None or event.amount_minor <= 0:
            self._unfit("NOT_AN_AMOUNT", None)
            return
        if event.currency and event.currency != self.shop.settings.utility.currency:
            self._unfit("CURRENCY", None)
            return
        if not event.account_ref:
            self._aside(self._new(event.payer, "", Purpose.NONE, None), Held.NO_ORDER)
            return
        drn = meter_in(event.account_ref)
        if topping_up.is_word(self.shop.settings, event.account_ref):
            top_up = self._new(event.payer, event.account_ref, Purpose.TOPUP, None)
            if is_msisdn(event.payer):
                self._book(top_up)
            else:  # nobody knows whose wallet
                self._aside(top_up, Held.REFUSED)
        elif drn is None:
            self._aside(self._new(event.payer, event.account_ref, Purpose.METER, None), Held.METER_UNKNOWN)
        elif not is_msisdn(event.payer):  # nobody to send a token to
            self._aside(self._new(event.payer, event.account_ref, Purpose.METER, None), Held.REFUSED)
        else:
            self._sell_by_meter(drn)

    def _sell_by_meter(self, drn: str) -> None:
        """Money first: it buys for the meter that was written beside it."""
        shop, unit, event, now = self.shop, self.unit, self.event, self.now
        assert event.amount_minor is not None
        request_id, mark = shop.world.new_id(), unit.mark()
        payment = self._new(event.payer, event.account_ref, Purpose.METER, request_id)
        account = payments.account_of(unit, event.payer, payment.currency)
        self._move("payment_in", source_money.clearing(payment.source), account, event.amount_minor)
        refused: Refusal | None = None
        try:
            inbound = _inbound(payment.source, event.receipt, event.payer, event.amount_minor, drn, now)
            key = f"{CHANNEL}|{inbound.reference}"
            phone = unit.phones.get(event.payer)
            default = shop.settings.utility.default_language
            language = (phone.language or phone.customer_language or default) if phone else default
            meter = meter_of(unit, None, drn)
            buy = Buy(drn, event.amount_minor)
            row = new_purchase(shop, inbound, request_id, meter, language, buy, now)
            unit.insert(
                tables.request,
                (request_id, key, inbound.fingerprint, CHANNEL, payment.source, event.payer, "", "Buy", now),
            )
            unit.put("requests", key, StoredRequest(key, request_id, inbound.fingerprint))
            refused = source_money.sell(shop, unit, self.done, now, row, meter, account, payment.id, payment.source)
        except Refusal as refusal:
            refused = refusal
        if refused is None:
            self._put(replace(payment, account_id=account), "BOUGHT", Said.SUCCESS)
        elif refused.reason is Reason.KEY_CHANGE_FIRST:  # its tokens are on their way; the money waits
            booked = replace(payment, account_id=source_money.suspense(payment.source))
            self._put(booked, "SUSPENSE", Said.SUCCESS)
            reason = source_money.held_for(refused.reason)
            source_money.set_aside(shop, unit, self.done, booked, account, reason, now, told=True)
        else:
            unit.rollback(mark)
            self.done.reason = refused.reason
            self._aside(replace(payment, purchase_id=None), source_money.held_for(refused.reason))

    def _new(
        self, payer: str, account_ref: str, purpose: Purpose, purchase_id: UUID | None, usual_minor: int = 0
    ) -> PaymentRow:
        """A payment that began at its source: its money is here. `usual_minor` where the source says no amount."""
        event = self.event
        amount = event.amount_minor if event.amount_minor is not None else usual_minor
        return PaymentRow(
            id=self.shop.world.new_id(),
            source=self.source.name,
            purpose=purpose.value,
            state=State.PAID.value,
            why=None,
            provider_ref=event.provider_ref,
            receipt=event.receipt,
            purchase_id=purchase_id,
            payer=event.payer or payer,
            account_ref=account_ref,
            amount_minor=amount,
            paid_minor=amount,
            currency=self.shop.settings.utility.currency,
            account_id=None,
            created_at=self.now,
            paid_at=self.now,
            closed_at=self.now,
            tries=0,
            lane=None,
            next_ask_at=None,
        )

    # --- the record ---

    def _put(self, payment: PaymentRow, outcome: str, said: Said | None) -> None:
        self.unit.put("payments", payment.id, payment)
        self.told.outcome = outcome
        self._note(payment.id, (said or Said(self.event.state.value)).value, outcome)

    def _note(self, payment_id: UUID | None, said: str, outcome: str) -> None:
        event = self.event
        self.unit.insert(
            payment_event,
            (
                self.shop.world.new_id(),
                payment_id,
                self.source.name,
                self.how,
                said,
                outcome,
                event.receipt,
                event.provider_ref,
                masked(event.payer),
                event.amount_minor,
                event.currency,
                event.detail[:_DETAIL_MAX],
                event.occurred_at,
                self.now,
            ),
        )
