"""Carries out what the purchase table (`gateway/purchase.py`) says: the deeds that every request becomes.

A deed sees one batch (`ledger/unit.py`) and decides; it never waits. With a security module that answers at once a
purchase goes from RECEIVED to VENDED inside one transaction. A module that must be waited for splits it: money held and
every input of the token stored first, the answer of the module as a deed of its own afterwards.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from operator import attrgetter
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from channels import wording
from channels.contract import Message, Reply
from config.settings import Settings
from gateway import again, keyuse, pins, resale, tokens
from gateway.keyuse import Asked
from gateway.payer import Payer, is_paid_already, new_payment, who_pays
from gateway.purchase import Effect, Event, State, Step, step
from gateway.sale import account_of, after_json, priced_from_json, receipt_of, set_account, split_json
from gateway.undo import take_back_key_change, undo_json, undo_sale
from gateway.world import World
from ledger import books, entries, pricing, selling, tables
from ledger.batch import FILL_TOKEN, UPDATE_PURCHASE
from ledger.meterlife import Status
from ledger.payment_rows import PaymentRow
from ledger.reasons import Reason, Refusal
from ledger.unit import Meter, Phone, PurchaseRow, TokenRow, Unit
from sts.errors import StsError
from sts.modules.contract import ModuleSilent, SecurityModule

log = logging.getLogger(__name__)

PAYMENT: Final = "payment"  # where a purchase's outside payment stands in its `sale`
# Channels that cannot be written to later, and the one that brings their replies.
REPLIES_BY: Final = {"ussd": "sms", "payment": "sms"}
# Priced and not posted: what the sale will change is kept beside its split.
_UNPOSTED = frozenset({State.PAYING, State.VENDING, State.CANCELLING, State.RETURNING, State.RETURNED, State.REFUSED})


@dataclass(frozen=True, slots=True)
class Shop:
    """What every deed needs besides its batch."""

    settings: Settings
    world: World
    module: SecurityModule
    zone: ZoneInfo
    debt_cap_percent: Fraction

    @classmethod
    def of(cls, settings: Settings, world: World, module: SecurityModule) -> Shop:
        """The shop for these settings."""
        return cls(
            settings,
            world,
            module,
            settings.utility.zone,
            Fraction(settings.utility.debt_cap_percent),
        )

    def local(self, instant: datetime) -> datetime:
        """The instant in the utility's own time."""
        return instant.astimezone(self.zone)

    def signed(self) -> dict[str, Any]:
        """Values of a message that must say whose it is."""
        utility = self.settings.utility
        return {"utility": utility.sms_name or utility.name}

    def day(self, instant: datetime) -> str:
        """The local day, "2026-06-05"."""
        return f"{self.local(instant):%Y-%m-%d}"

    def money(self, **values: Any) -> dict[str, Any]:
        """Values of a message with the currency that its amounts are in."""
        utility = self.settings.utility
        return {**values, "currency": utility.currency, "minor_digits": utility.minor_digits}


@dataclass(frozen=True, slots=True)
class Ask:
    """A module must be asked for these tokens of a purchase; their inputs are stored.

    `is_patient`: outside money is in for it, so silence of the module is no reason to give up before `expires_at`.
    """

    purchase_id: UUID
    requests: tuple[Asked, ...]
    token_count: int
    accepted_at: datetime
    expires_at: datetime
    is_patient: bool = False


@dataclass(slots=True)
class Done:
    """What a deed leaves to be done after its commit, and what came of it."""

    replies: list[Reply] = field(default_factory=list)
    ask: list[Ask] = field(default_factory=list)
    collects: list[PaymentRow] = field(default_factory=list)  # stored; their payers are to be asked for the money
    wait_for: dict[UUID, UUID] = field(default_factory=dict)  # purchase -> service point that is busy
    freed: UUID | None = None  # a service point on which others may have waited
    is_fault: bool = False  # a bug of ours was met
    state: State | None = None
    reason: Reason | None = None
    replayed: bool = False
    purchase_id: UUID | None = None
    wants_proof: bool = False  # nothing was done: a PIN must be looked at first (gateway/pins.py)
    # A channel that answers in the same exchange tells a refusal itself: it is left here instead of in the outbox.
    is_told_here: bool = False
    refusal: Message | None = None


@dataclass(slots=True)
class Life:
    """One purchase while a deed works on it; `row` is its own copy.

    Where an outside source brings the money, `split["payment"]` says of it: id, source, version (of the tariff it was
    quoted by), paid, late (after the order was closed), told (that the token takes its time).
    """

    row: PurchaseRow
    meter: Meter
    nth: int = 1
    has_pin: bool = False  # the right PIN came with it
    by: str = ""  # the way of paying that was chosen (`gateway/payer.py`); empty: whichever has the money
    split: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    tokens: list[TokenRow] = field(default_factory=list)
    resold: UUID | None = None  # the sealed sale that they were made in
    refusal: Refusal | None = None
    is_stored: bool = False  # the purchase's row is in the database
    tokens_are_stored: bool = False

    @property
    def is_paid(self) -> bool:
        """Whether an outside source has brought the money for it."""
        return bool(self.split.get(PAYMENT, {}).get("paid"))

    @classmethod
    def of(cls, unit: Unit, row: PurchaseRow) -> Life:
        """The life of a stored purchase, which was read with its meter and its tokens."""
        (meter,) = (meter for meter in unit.meters.values() if meter.id == row.meter_id)
        kept = json.loads(row.sale) if row.sale else {}
        made = [replace(token) for token in unit.tokens.get(row.id, ())]
        return cls(
            replace(row),
            meter,
            nth=kept.pop("nth", 1),
            has_pin=kept.pop("has_pin", False),
            by=kept.pop("by", ""),
            after=kept.pop("after", {}),
            split=kept,
            tokens=made,
            is_stored=True,
            tokens_are_stored=bool(made),
        )


class Vending:
    """The effects of the table, on one batch. Each gives its event, or None where a shell must go on."""

    def __init__(self, shop: Shop, unit: Unit, done: Done, now: datetime) -> None:
        self.shop = shop
        self.unit = unit
        self.done = done
        self.now = now
        self.tells_kept = True  # that refused money stays with the payer; else the caller places it, and tells

    def walk(self, life: Life, event: Event | None = None) -> None:
        """Follow the table from where the purchase stands, until it ends or must wait; then store it."""
        now_at = Step(State(life.row.state), Effect(life.row.owed))
        while True:
            if event is not None:
                now_at = step(now_at.state, event)
                life.row.state, life.row.owed = now_at.state.value, now_at.effect.value
            event = self._carry_out(life, now_at.effect)
            if event is None:
                break
        self._store(life)
        self.done.state, self.done.purchase_id = now_at.state, life.row.id

    def quote(self, life: Life) -> Event | None:
        """What the purchase would come to just now: QUOTED with the split, DECLINED with the refusal, None: busy.

        Whoever calls this rolls the unit back to where it was.
        """
        return self._quote(life)

    def _carry_out(self, life: Life, effect: Effect) -> Event | None:
        if effect is Effect.QUOTE:
            return self._quote_open(life)
        if effect is Effect.COLLECT:
            self._collect(life)
        elif effect is Effect.TAKE_PAYMENT or effect is Effect.ASK_PAYMENT_STATUS:
            return self._take_payment(life)
        elif effect is Effect.MAKE_TOKEN:
            return self._make_token(life)
        elif effect is Effect.RECORD_AND_REPLY:
            self._record(life)
        elif effect is Effect.GIVE_BACK:
            return self._give_back(life)
        elif effect is Effect.REPLY_REFUSAL:
            self._refuse(life)
        elif effect is Effect.UNDO_SALE:
            self._undo(life)
        # What is left is owed by the outbox (REPLY_AGAIN) or answered by the channel (REFUSE_REVERSAL).
        return None

    # --- the effects ---

    def _quote_open(self, life: Life) -> Event | None:
        """The quote; and where it takes a PIN from our own books, none without the right one."""
        event = self._quote(life)
        is_open = life.has_pin or life.is_paid or not pins.is_needed(self.shop.settings.pins, self.unit, life.row)
        if event is Event.QUOTED and not is_open:
            life.refusal = Refusal(Reason.PIN_NEEDED, drn=life.meter.drn, amount_minor=life.row.amount_minor)
            return Event.DECLINED
        return event

    def _quote(self, life: Life) -> Event | None:
        unit, row, meter = self.unit, life.row, life.meter
        point = unit.points.get(row.service_point_id)
        if point is not None and point.vending not in (None, row.id):
            self.done.wait_for[row.id] = point.id  # one purchase at a time is priced on a service point's counters
            return None
        try:
            require_in_service(meter)
            if point is None or meter.service_point_id != point.id:  # it hangs elsewhere since the wish was stored
                raise Refusal(Reason.METER_BLOCKED, drn=meter.drn)
            if self.now >= row.expires_at:
                raise Refusal(Reason.BUSY)  # it waited for others of this service point until its time was up
            if not life.is_paid:  # who has paid means it
                again.require(self.shop.settings, unit, row, meter, life.nth)
            payer = (
                Payer(row.payer_id) if life.is_paid else who_pays(unit, self.shop.settings.payment, row, meter, life.by)
            )
            account, station = payer.account, payer.station
            tariff = unit.tariffs.get(point.tariff_code)
            if tariff is None:
                raise Refusal(Reason.TARIFF_MISSING)
            account_before = account_of(point, unit.debts.get(point.id, ()))
            sale = pricing.price(
                tariff,
                account_before,
                row.amount_minor,
                self.shop.local(row.accepted_at).replace(tzinfo=None),
                fee_minor=self.shop.settings.channel(row.channel).fee_minor,
                debt_cap_percent=self.shop.debt_cap_percent,
            )
            self._require_payable(life, payer, sale)
            selling.require_seller(unit, row.id, row.channel, row.amount_minor)
            life.tokens, life.meter = tokens.inputs(self._minting(), row.id, meter, sale)
        except Refusal as refusal:
            life.refusal = refusal
            return Event.DECLINED
        except tokens.KeyChangeFirst as first:
            self._give_key_change(life, first)
            return Event.DECLINED
        payment = life.split.get(PAYMENT)
        life.split = split_json(sale, station.station_code if station else None)
        day = self.shop.local(row.accepted_at).date()
        life.split["commission_minor"] = selling.commission(station, day, row.amount_minor, life.split)
        if station is not None and station.commission_rules is not None:
            life.split["commission_rules"] = station.commission_rules
        elif station is not None and life.split["commission_minor"]:
            life.split["commission_percent"] = station.commission_percent
        life.split["account"] = priced_from_json(account_before, self.shop.debt_cap_percent)
        life.split["undo"] = undo_json(point, unit.meters[meter.drn])
        life.after = after_json(sale.after)
        row.payer_id = account
        row.station_id = station.station_id if station else None
        row.tariff_code = point.tariff_code
        row.tariff_version = sale.tariff_version
        row.units_tenths = sale.units_tenths
        if self.shop.settings.sts.sell_unseen_again and (found := resale.instead(unit, row, meter, life.tokens)):
            life.resold, life.tokens, life.meter = found
        if payer.source is not None:
            life.split[PAYMENT] = {"source": payer.source.name, "version": sale.tariff_version}
            return Event.PAYMENT_NEEDED
        if payment is not None:
            life.split[PAYMENT] = payment
        row.receipt = receipt_of(row.id)
        return Event.QUOTED

    def _require_payable(self, life: Life, payer: Payer, sale: pricing.Sale) -> None:
        """Refuse what nobody would pay for, or what was paid for at another price."""
        row, payment = life.row, life.split.get(PAYMENT, {})
        if payment.get("late") and payment.get("version") != sale.tariff_version:
            raise Refusal(Reason.PRICE_CHANGED, drn=life.meter.drn)
        if payer.how:
            values = {"drn": life.meter.drn, "amount_minor": row.amount_minor, "units_tenths": sale.units_tenths}
            raise Refusal(Reason.PAY_FIRST, **values, how=payer.how)
        if payer.account is not None and not is_paid_already(row):
            self._require_money(payer.account, payer.station, row.amount_minor)
            if not life.is_paid:
                selling.require_spender(self.unit, row, payer.account, payer.station, self.shop.settings.wallet)

    def _require_money(self, account: UUID, station: Phone | None, amount_minor: int) -> None:
        try:
            books.require(self.unit, account, amount_minor)
        except books.Overdrawn as short:
            have = max(0, short.available_minor)
            if station is not None:
                raise Refusal(Reason.STATION_CREDIT_SPENT, available_minor=have) from None
            raise Refusal(Reason.FUNDS_SHORT, balance_minor=have, amount_minor=amount_minor) from None

    def _minting(self) -> tokens.Minting:
        shop = self.shop
        return tokens.Minting(shop.settings.sts, shop.module, shop.world.nibble, self.now)

    def _give_key_change(self, life: Life, first: tokens.KeyChangeFirst) -> None:
        """Nothing is sold, but the refusal brings the set that lets the meter buy, where a module has it at once."""
        drn = life.meter.drn
        life.refusal = Refusal(Reason.METER_KEY_ENDED, drn=drn)
        if not self.shop.module.answers_at_once:
            return
        if not keyuse.count(self.unit, self.shop.module, life.meter, first.tokens):
            life.refusal = Refusal(Reason.KEY_LIMIT_REACHED, drn=drn)
            return
        try:
            life.tokens = tokens.make(self._minting(), life.meter, first.tokens)
        except StsError as error:
            life.refusal = Refusal(tokens.fault_reason(error), drn=drn)
            return
        life.refusal = Refusal(Reason.KEY_CHANGE_FIRST, drn=drn)
        life.meter = first.meter
        self._set_meter(life)

    def _collect(self, life: Life) -> None:
        """Store that money is to be asked for, under the id by which the source will know it for ever."""
        row, payment = life.row, life.split[PAYMENT]
        asked = new_payment(self.shop.world.new_id(), payment["source"], row, life.meter, self.shop.settings, self.now)
        payment["id"] = str(asked.id)
        self.unit.put("payments", asked.id, asked)
        self.done.collects.append(asked)

    def _take_payment(self, life: Life) -> Event:
        """Wallets and floats are in our own books: the answer is certain and at once. So is a bank's word."""
        row = life.row
        assert row.payer_id is not None
        if is_paid_already(row):
            return Event.PAID
        try:
            if self._is_at_once(life):
                books.require(self.unit, row.payer_id, row.amount_minor)
            else:
                self._hold(row, row.payer_id)
        except books.Overdrawn:
            life.refusal = Refusal(Reason.FUNDS_SHORT, balance_minor=0, amount_minor=row.amount_minor)
            return Event.DECLINED
        return Event.PAID

    def _hold(self, row: PurchaseRow, payer_id: UUID) -> None:
        books.reserve(self.unit, row.id, payer_id, row.amount_minor, row.expires_at)
        selling.count(self.unit, row)

    def _is_at_once(self, life: Life) -> bool:
        return self.shop.module.answers_at_once or not life.tokens or life.resold is not None

    def _make_token(self, life: Life) -> Event | None:
        """Make the tokens here, or keep their inputs and leave it to `gateway/desk.py` to ask the module."""
        if not life.tokens:
            assert not life.split["units_tenths"] and not life.split["free_units_tenths"], "energy without a token"
            return Event.TOKEN_MADE  # all of the money went to charges and debts
        if life.resold is not None:
            self._set_meter(life)
            return Event.TOKEN_MADE  # once before, and counted then
        if not life.tokens_are_stored and not keyuse.count(self.unit, self.shop.module, life.meter, life.tokens):
            life.refusal = Refusal(Reason.KEY_LIMIT_REACHED, drn=life.meter.drn)
            return Event.TOKEN_REFUSED
        if life.tokens_are_stored or not self._is_at_once(life):
            self._ask_later(life)
            return None
        try:
            life.tokens = tokens.make(self._minting(), life.meter, life.tokens)
        except ModuleSilent:
            # It answers at once as a rule, and now it does not: hold the money after all, and wait.
            assert life.row.payer_id is not None
            if not is_paid_already(life.row):
                self._hold(life.row, life.row.payer_id)
            self._ask_later(life)
            return None
        except StsError as error:
            log.error("the security module refused a token", extra={"fault": error.fault.name})
            life.refusal = Refusal(tokens.fault_reason(error))
            return Event.TOKEN_REFUSED
        self._set_meter(life)
        return Event.TOKEN_MADE

    def _ask_later(self, life: Life) -> None:
        if not life.tokens_are_stored:
            point = self.unit.points[life.row.service_point_id]
            self.unit.put("points", point.id, replace(point, vending=life.row.id))
            if life.meter.next_key is not None:  # the set is given only when the sale is: a module may yet refuse
                given_at = self.unit.meters[life.meter.drn].change_given_at
                life.meter = replace(life.meter, change_given_at=given_at)
            self._set_meter(life)
        requests = keyuse.asked(self.unit, self.shop.module, life.meter, life.tokens)
        row = life.row
        ask = Ask(row.id, requests, len(life.tokens), row.accepted_at, row.expires_at, life.is_paid)
        self.done.ask.append(ask)

    def _set_meter(self, life: Life) -> None:
        self.unit.put("meters", life.meter.drn, life.meter)

    def _record(self, life: Life) -> None:
        """Money, counters, debts and the reply, in the transaction that stores the token."""
        unit, row, split = self.unit, life.row, life.split
        assert row.payer_id is not None and row.tariff_code is not None
        if not books.release(unit, row.id, "POSTED"):
            selling.count(unit, row)
        if life.tokens_are_stored:
            for token in life.tokens:
                unit.update(FILL_TOKEN, (row.id, token.seq, token.digits, token.module))
            wanted = life.meter.next_key
            if wanted is not None and any(token.new_key == wanted for token in life.tokens):
                life.meter = replace(life.meter, change_given_at=self.now)
                self._set_meter(life)
        fee_vat, fixed_vat = split["fee_vat_minor"], split["fixed_vat_minor"]
        books.post(
            unit,
            row.id,
            "sale",
            entries.sale(
                payer=row.payer_id,
                tendered_minor=row.amount_minor,
                tariff_code=row.tariff_code,
                energy_net_minor=split["energy_net_minor"],
                vat_minor=split["energy_vat_minor"] + fee_vat + fixed_vat,
                charges_minor=split["charges_minor"],
                fee_net_minor=split["fee_minor"] - fee_vat,
                fixed_net_minor=split["fixed_minor"] - fixed_vat,
                debts_minor=sum(split["debts_minor"].values()),
                carry_minor=split["carry_out_minor"] - split["carry_in_minor"],
                commission_minor=split["commission_minor"],
                station_code=split["station_code"],
                given_minor=split.get("given_minor", 0),
            ),
            limited=() if is_paid_already(row) else (row.payer_id,),
            business_date=self.shop.local(row.accepted_at).date(),
            recorded_at=self.now,
            purchase_id=row.id,
        )
        if set_account(unit, row, life.after, split["debts_minor"]):
            self.done.freed = row.service_point_id
        if row.sender:
            available = unit.balances[row.payer_id].available_minor
            self._owe(row.id, row, sold_message(self.shop, row, life.meter.drn, split, life.tokens, available))

    def _give_back(self, life: Life) -> Event:
        """Void what was held. Nothing was held if the module answered at once; then there is nothing to give."""
        if books.release(self.unit, life.row.id, "VOIDED"):
            selling.count(self.unit, life.row, -1)
        point = self.unit.points.get(life.row.service_point_id)
        if point is not None and point.vending == life.row.id:
            self.unit.put("points", point.id, replace(point, vending=None))
            self.done.freed = point.id
        return Event.GIVEN_BACK

    def _refuse(self, life: Life) -> None:
        refusal = life.refusal or Refusal(Reason(life.row.reason) if life.row.reason else Reason.MODULE_SILENT)
        if refusal.reason is Reason.REVERSED:
            refusal = Refusal(Reason.REVERSED, drn=life.meter.drn, amount_minor=life.row.amount_minor)
        life.row.reason, life.row.owed = refusal.reason.value, Effect.NOTHING.value
        self.done.reason = refusal.reason
        if "case" in life.split:  # nobody but the operators waits for it: the correction shows what came of it
            return
        message = refusal_message(self.shop, refusal)
        if refusal.reason is Reason.KEY_CHANGE_FIRST:
            message = Message(message.key, {**message.values, "tokens": tokens.shown(life.tokens)})
        if self.done.is_told_here:
            self.done.refusal = message
            if not life.tokens:
                return  # tokens are sent in any case: a screen is gone in a moment
        self._owe(life.row.id, life.row, message)
        if life.is_paid and self.tells_kept and life.row.payer_id is not None:
            left = self.unit.balances[life.row.payer_id].available_minor
            values = self.shop.money(amount_minor=life.row.amount_minor, balance_minor=left)
            self._owe(life.row.id, life.row, Message("payment_kept", values))

    def tell_waiting(self, life: Life) -> None:
        """Tell a payer, once, that the money is here and the token takes its time."""
        life.split[PAYMENT]["told"] = True
        values = self.shop.money(drn=life.meter.drn, amount_minor=life.row.amount_minor)
        self._owe(life.row.id, life.row, Message("payment_waits", values))

    def _undo(self, life: Life) -> None:
        """The sale as if it had not been, and word of it to whoever made it."""
        row, now = life.row, self.now
        is_sealed = row.state == State.SEALED
        row.owed = Effect.NOTHING.value
        row.reason = (Reason.REVERSED if is_sealed else Reason.REFUNDED).value
        if is_sealed:
            take_back_key_change(self.unit, row, life.split)
        kind, today = "reversal" if is_sealed else "refund", self.shop.local(now).date()
        undo_sale(self.unit, row, life.split, self.shop.world.new_id(), kind, today, now)
        self.done.freed = row.service_point_id
        values = self.shop.money(drn=life.meter.drn, amount_minor=row.amount_minor, receipt=row.receipt)
        self._owe(row.id, row, Message(row.reason.lower(), values))

    # --- storing ---

    def _store(self, life: Life) -> None:
        unit, row = self.unit, life.row
        kept: dict[str, Any] = life.split
        if row.state in (State.RECEIVED, State.AWAITING, State.UNPAID):
            kept = {"nth": life.nth, "has_pin": life.has_pin, **({"by": life.by} if life.by else {})}
            if PAYMENT in life.split:
                kept[PAYMENT] = life.split[PAYMENT]
        elif row.state in _UNPOSTED and life.split:
            kept = {**life.split, "after": life.after}
        row.sale = json.dumps(kept, separators=(",", ":")) if kept else None
        gives_tokens = row.state in (State.VENDED, State.VENDING) or row.reason == Reason.KEY_CHANGE_FIRST
        if gives_tokens and not life.tokens_are_stored:
            if life.resold is not None:
                resale.move(unit, life.resold, row, life.tokens, self.shop.world.new_id(), self.now)
            else:
                for token in life.tokens:
                    unit.insert(tables.token, token_values(token))
            unit.put("tokens", row.id, tuple(life.tokens))
        if not life.is_stored:
            unit.insert(tables.purchase, _purchase_values(row))
        else:
            unit.update(
                UPDATE_PURCHASE,
                (
                    row.id,
                    row.state,
                    row.owed,
                    row.reason,
                    row.payer_id,
                    row.station_id,
                    row.tariff_code,
                    row.tariff_version,
                    row.units_tenths,
                    row.sale,
                    row.receipt,
                    row.accepted_at,
                    row.expires_at,
                ),
            )
        unit.put("purchases", row.id, row)
        others = [bought for bought in unit.recent.get(row.meter_id, ()) if bought.id != row.id]
        unit.put("recent", row.meter_id, (*others, row))

    def _owe(self, request_id: UUID, to: PurchaseRow, message: Message) -> None:
        if not to.sender:
            return  # a correction for somebody whose phone nobody knows; or a bank, which is answered by its link
        reply = Reply(
            id=self.shop.world.new_id(),
            request_id=request_id,
            channel=to.channel,
            peer=to.peer,
            recipient=to.sender,
            sender=to.destination,
            language=to.language,
            message=message,
        )
        owe(self.shop, self.unit, self.done, self.now, request_id, reply)


def require_in_service(meter: Meter) -> None:
    """Refuse METER_REPLACED or METER_BLOCKED for a meter that nobody may buy for."""
    if meter.status == Status.INSTALLED and meter.service_point_id is not None:
        return
    if meter.replaced_by is not None:
        raise Refusal(Reason.METER_REPLACED, drn=meter.drn, new_drn=meter.replaced_by)
    raise Refusal(Reason.METER_BLOCKED, drn=meter.drn)


def owe(shop: Shop, unit: Unit, done: Done, now: datetime, request_id: UUID, reply: Reply) -> None:
    """Put a reply into the outbox, leased to this node, which sends it right after the commit."""
    instead = REPLIES_BY.get(reply.channel)
    if instead is not None:
        reply = replace(reply, channel=instead, peer="", sender="")
    lease_until = now + timedelta(seconds=shop.settings.delivery.lease_s)
    unit.insert(
        tables.outbox,
        (
            reply.id,
            request_id,
            reply.channel,
            reply.peer,
            reply.recipient,
            reply.sender,
            reply.language,
            reply.message.key,
            json.dumps(reply.message.values, separators=(",", ":")),
            "OWED",
            shop.settings.gateway.node,
            lease_until,
            0,
            None,
            None,
        ),
    )
    done.replies.append(reply)


def refusal_message(shop: Shop, refusal: Refusal) -> Message:
    """What a refused sender is told."""
    return wording.refused(refusal, **shop.money())


def sold_message(
    shop: Shop, row: PurchaseRow, drn: str, split: Mapping[str, Any], made: list[TokenRow], balance_minor: int
) -> Message:
    """The receipt: tokens, units, money and its split."""
    values = shop.money(
        drn=drn,
        amount_minor=row.amount_minor,
        units_tenths=split["units_tenths"],
        tokens=tokens.shown(made),
        energy_minor=split["energy_net_minor"],
        vat_minor=split["energy_vat_minor"] + split["fee_vat_minor"] + split["fixed_vat_minor"],
        charges_minor=sum(split["charges_minor"].values()),
        debt_minor=sum(split["debts_minor"].values()),
        fixed_minor=split["fixed_minor"] - split["fixed_vat_minor"],
        fee_minor=split["fee_minor"] - split["fee_vat_minor"],
        carry_minor=split["carry_out_minor"] - split["carry_in_minor"],
        receipt=row.receipt,
        balance_minor=balance_minor,
    )
    if made and "case" in split:
        return Message("corrected", {**values, "original": split["case"], "balance_minor": 0})
    return Message("sold" if made else "sold_no_token", values)


_purchase_values = attrgetter(*PurchaseRow.__slots__)
token_values = attrgetter(*TokenRow.__slots__)
