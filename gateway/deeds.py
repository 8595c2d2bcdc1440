"""What comes in, as deeds for the ledger's writer: requests of every kind, and what became of waiting purchases."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from channels.commands import (
    Buy,
    ChangePin,
    Help,
    LastToken,
    OptIn,
    OptOut,
    Price,
    RedeemVoucher,
    SetLanguage,
    Statement,
    TopUp,
    Unreadable,
)
from channels.contract import Inbound, Message, Reply
from channels.counter import CounterPrice, CounterSale
from gateway import keyuse, source_money, tokens, topping_up, vouchering
from gateway.payer import need_payer
from gateway.pins import Proof, Stale, require_good, set_new, spend_try
from gateway.purchase import AFTER_RESTART, SOLD, START, TABLE, WAITING, Event, State
from gateway.quoting import price_of, quoted
from gateway.sale import receipt_of
from gateway.vend import PAYMENT, Done, Life, Shop, Vending, owe, refusal_message, require_in_service
from gateway.world import uuid7
from ledger import selling, tables
from ledger.batch import SET_LANGUAGE, SET_NOTICES
from ledger.correction_tables import disclosure
from ledger.payment_rows import SuspenseRow
from ledger.payments_batch import prepaid_id
from ledger.reasons import Reason, Refusal
from ledger.unit import Meter, Need, Phone, PurchaseRow, StoredRequest, Unit, VoucherRow

log = logging.getLogger(__name__)

_COPIES_WINDOW_S: Final = 3_600
_ANY_TIME: Final = 1_000_000_000  # insists however often the same was bought
_SAVED_SHOWN: Final = 5
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_TOLD_AFTER_S: Final = 60.0  # so long a payer waits without a word
_NO_PIN: Final = (None, 0, None, None, None)  # of a phone's row: PIN, tries, locked, limits

TOMBSTONE: Final = b"reversed\0before\0"
"""The fingerprint under which a reversal keeps the key of a request that has not come; a digest has it by no chance."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that came in on a channel. A repeat of one that is stored changes nothing."""

    shop: Shop
    inbound: Inbound
    is_too_often: bool = False  # its phone has asked too much of late: refused, unless it is a station's
    is_told_here: bool = False  # the channel answers in the same exchange: refusals stand in `Done.refusal`
    proof: Proof | None = None  # what came of the PIN that the command holds

    @property
    def idem_key(self) -> str:
        """The natural key of the request, for ever."""
        return f"{self.inbound.channel}|{self.inbound.reference}"

    @property
    def _day(self) -> str:
        return self.shop.day(self.inbound.received_at)

    def need(self, need: Need) -> None:
        command, sender = self.inbound.command, self.inbound.sender
        need.requests.append(self.idem_key)
        need.phones.append(sender)
        if isinstance(command, Buy | Price | LastToken):
            if command.drn is None:
                need.saved_meters_of.append(sender)
            else:
                need.meters.append(command.drn)
        if isinstance(command, CounterSale | CounterPrice):
            need.sellers.append((command.login, self._day))
        need_payer(need, self.shop.settings.payment, sender)
        if self._may_use_held:
            assert isinstance(command, Unreadable) and command.drn is not None
            need.meters.append(command.drn)
            need.suspense_of.append(sender)
        if isinstance(command, Buy | Price):
            since = self._id_before(self.shop.settings.purchase.just_bought_window_s)
            need.since = since if need.since is None else min(need.since, since)
            need_day(need, self.shop, sender, self.inbound.received_at)
        elif isinstance(command, LastToken):
            need.last_tokens = True
            self._need_copies(need)
        elif isinstance(command, Statement):
            need.saved_meters_of.append(sender)
        if isinstance(command, Price):
            need.owners = True
        if isinstance(command, TopUp):
            topping_up.need_earlier(need, self.shop.settings, sender, self.inbound.received_at)
        if isinstance(command, RedeemVoucher):
            if command.drn is not None:
                need.meters.append(command.drn)
                since = self._id_before(self.shop.settings.purchase.just_bought_window_s)
                need.since = since if need.since is None else min(need.since, since)
            self._need_copies(need)
            need_day(need, self.shop, sender, self.inbound.received_at)
            digest = vouchering.digest_of(self.shop, command.pin)
            digests = [digest] if digest is not None else []
            vouchering.need_digests(need, self.shop, sender, self.inbound.received_at, digests)

    def _need_copies(self, need: Need) -> None:
        need.copies_of.append(self.inbound.sender)
        since = self._id_before(_COPIES_WINDOW_S)
        need.copies_since = since if need.copies_since is None else min(since, need.copies_since)

    @property
    def _may_use_held(self) -> bool:
        """A meter and no amount: what whoever paid for a wrong meter sends, once she knows the right one."""
        command = self.inbound.command
        is_bare = isinstance(command, Unreadable) and command.reason is Reason.AMOUNT_NEEDED and bool(command.drn)
        return is_bare and bool(self.shop.settings.payment)

    def _id_before(self, seconds: float) -> UUID:
        """An id before all that were made in so many seconds up to this request."""
        since = self.inbound.received_at - timedelta(seconds=seconds)
        return uuid7(int(since.timestamp() * 1000), 0, 0)

    def decide(self, unit: Unit) -> Done:
        inbound, world = self.inbound, self.shop.world
        now, done = world.now(), Done(is_told_here=self.is_told_here)
        phone = unit.phones.get(inbound.sender)
        default = self.shop.settings.utility.default_language
        language = (phone.language or phone.customer_language or default) if phone else default
        known, start = unit.requests.get(self.idem_key), unit.mark()
        if known is not None:
            if known.fingerprint == TOMBSTONE:  # its reversal came first: it never vends
                done.reason = Reason.REVERSED_FIRST
                self._reply(unit, done, now, known.id, language, Message("reversed_first", {}))
            elif known.fingerprint == inbound.fingerprint:
                done.replayed = True  # its reply is owed by the outbox, or was sent
            else:
                done.reason = Reason.DUPLICATE_DIFFERS
                self._reply(unit, done, now, known.id, language, Message("duplicate_differs", {}))
            return done
        request_id = world.new_id()
        unit.insert(
            tables.request,
            (
                request_id,
                self.idem_key,
                inbound.fingerprint,
                inbound.channel,
                inbound.peer,
                inbound.sender,
                inbound.destination,
                type(inbound.command).__name__,
                inbound.received_at,
            ),
        )
        unit.put("requests", self.idem_key, StoredRequest(self.idem_key, request_id, inbound.fingerprint))
        stored = unit.mark()
        try:
            if self.is_too_often and (phone is None or phone.station_id is None):
                raise Refusal(Reason.TOO_OFTEN)
            if inbound.answer_by is not None and now >= inbound.answer_by:
                raise Refusal(Reason.BUSY)  # its peer is told no, so it is never sold
            if isinstance(inbound.command, Buy):
                self._buy(unit, done, now, request_id, language, phone, inbound.command)
            elif self._may_use_held and (item := source_money.usable(self.shop, unit, inbound.sender, now)) is not None:
                self._use_held(unit, done, now, request_id, language, phone, item)
            elif isinstance(inbound.command, TopUp):  # its answer is the prompt, and a message when the money is in
                topping_up.ask(self.shop, unit, done, now, request_id, phone, inbound)
            elif isinstance(inbound.command, RedeemVoucher):
                done = self._redeem(unit, now, request_id, language, phone, inbound.command)
            else:
                language, message = self._answer(unit, now, language, phone)
                self._reply(unit, done, now, request_id, language, message)
            return done
        except Refusal as refusal:
            refused = refusal
        except Stale:
            unit.rollback(start)
            return Done(wants_proof=True)
        except Exception:  # a bug of ours, or data that cannot be: nothing was done, and the sender is told just that
            log.exception("a request met a bug", extra={"request": str(request_id)})
            unit.rollback(stored)
            done = Done(is_fault=True, is_told_here=self.is_told_here)
            refused = Refusal(Reason.INTERNAL)
        done.reason = refused.reason
        message = refusal_message(self.shop, refused)
        if self.is_told_here:
            done.refusal = message
        else:
            self._reply(unit, done, now, request_id, language, message)
        return done

    def _reply(self, unit: Unit, done: Done, now: datetime, request_id: UUID, language: str, message: Message) -> None:
        inbound = self.inbound
        reply = Reply(
            id=self.shop.world.new_id(),
            request_id=request_id,
            channel=inbound.channel,
            peer=inbound.peer,
            recipient=inbound.sender,
            sender=inbound.destination,
            language=language,
            message=message,
        )
        owe(self.shop, unit, done, now, request_id, reply)

    def _buy(
        self, unit: Unit, done: Done, now: datetime, request_id: UUID, language: str, phone: Phone | None, buy: Buy
    ) -> None:
        if buy.pin is not None:  # a try, whether or not the purchase takes a PIN
            spend_try(self.shop.settings.pins, unit, phone, self.proof, now)
        meter = meter_of(unit, phone, buy.drn, buy.saved)
        row = new_purchase(self.shop, self.inbound, request_id, meter, language, buy, now)
        if isinstance(buy, CounterSale):
            selling.enter(unit, row.id, buy.login, buy.station, buy.sequence, self._day, buy.tenders)
        life = Life(row, meter, nth=buy.nth, by=buy.by, has_pin=buy.pin is not None)
        Vending(self.shop, unit, done, now).walk(life)

    def _use_held(
        self,
        unit: Unit,
        done: Done,
        now: datetime,
        request_id: UUID,
        language: str,
        phone: Phone | None,
        item: SuspenseRow,
    ) -> None:
        """The sender says for which meter money of hers was meant."""
        command = self.inbound.command
        assert isinstance(command, Unreadable)
        meter = meter_of(unit, phone, command.drn)
        buy = Buy(meter.drn, item.amount_minor)
        row = new_purchase(self.shop, self.inbound, request_id, meter, language, buy, now)
        source_money.use(self.shop, unit, done, now, item, row, meter)

    def _answer(self, unit: Unit, now: datetime, language: str, phone: Phone | None) -> tuple[str, Message]:
        """The reply to everything that is not a purchase, and the language it is given in."""
        command = self.inbound.command
        if isinstance(command, LastToken):
            return language, self._last_token(unit, now, phone, command)
        if isinstance(command, Price):
            return language, self._price(unit, now, language, phone, command)
        if isinstance(command, Statement):
            return language, Message("statement", statement_of(self.shop, unit, phone, self.inbound.sender))
        if isinstance(command, Help):
            values = {**self.shop.signed(), "short_code": self.inbound.destination}
            if topping_up.is_offered(self.shop.settings, phone, self.inbound.sender):
                values["top_up"] = topping_up.KEYWORD
            return language, Message("help", values)
        if isinstance(command, SetLanguage):
            set_phone(unit, self.inbound.sender, language=command.language)
            return command.language, Message("language_set", {})
        if isinstance(command, OptOut):
            set_phone(unit, self.inbound.sender, notices_stopped_at=now)
            return language, Message("opted_out", self.shop.signed())
        if isinstance(command, OptIn):
            set_phone(unit, self.inbound.sender, notices_stopped_at=None)
            return language, Message("opted_in", self.shop.signed())
        if isinstance(command, ChangePin):
            require_good(command.new, self.inbound.sender)
            set_new(unit, spend_try(self.shop.settings.pins, unit, phone, self.proof, now), self.proof)
            return language, Message("pin_set", {})
        assert isinstance(command, Unreadable)
        values = {"drn": command.drn} if command.drn is not None else {}
        raise Refusal(command.reason, **values)

    def _redeem(
        self, unit: Unit, now: datetime, request_id: UUID, language: str, phone: Phone | None, asked: RedeemVoucher
    ) -> Done:
        """A voucher: into the wallet, and where a meter was named out of it again, or nothing at all."""
        shop, inbound = self.shop, self.inbound
        by = vouchering.how(shop, inbound.sender, inbound.received_at)
        voucher = vouchering.find(shop, unit, by, phone, asked.pin)
        done = Done(is_told_here=self.is_told_here)
        if voucher.request_id is not None:
            self._reply(unit, done, now, request_id, language, self._redeemed_before(unit, now, voucher))
            return done
        if asked.amount_minor > voucher.value_minor:
            raise Refusal(Reason.VOUCHER_TOO_SMALL, value_minor=voucher.value_minor, amount_minor=asked.amount_minor)
        start = unit.mark()
        phone = vouchering.take(shop, unit, by, phone, voucher, request_id, language)
        values = {**vouchering.wallet_values(shop, unit, inbound.sender), "amount_minor": voucher.value_minor}
        kept = Message("topped_up", values)
        if asked.drn is None:
            self._reply(unit, done, now, request_id, language, kept)
            return done
        try:
            done = self._bought_with(unit, now, request_id, language, asked, asked.amount_minor or voucher.value_minor)
        except Refusal:
            unit.rollback(start)  # nothing is sold: the voucher stays as it was
            raise
        if done.state not in SOLD:
            # It waits for a module, or its meter needs keys first: meanwhile the money is in the wallet.
            self._reply(unit, done, now, request_id, language, kept)
        return done

    def _bought_with(
        self, unit: Unit, now: datetime, request_id: UUID, language: str, asked: RedeemVoucher, amount_minor: int
    ) -> Done:
        """A purchase from the wallet that a voucher was put into. Raises the Refusal that it meets.

        Of a whole voucher so much is bought as may be bought at once; the rest stays in the wallet.
        """
        assert asked.drn is not None
        meter = meter_of(unit, None, asked.drn)
        while True:
            done, before = Done(is_told_here=self.is_told_here), unit.mark()
            buy = Buy(asked.drn, amount_minor)
            row = new_purchase(self.shop, self.inbound, request_id, meter, language, buy, now)
            life = Life(row, meter, nth=asked.nth, has_pin=True)  # the voucher's number is as good as a PIN
            Vending(self.shop, unit, done, now).walk(life)
            refusal = life.refusal
            if done.state is not State.REFUSED or refusal is None or refusal.reason is Reason.KEY_CHANGE_FIRST:
                return done
            unit.rollback(before)
            most = int(refusal.values.get("max_minor", 0))
            if refusal.reason is not Reason.AMOUNT_MAX or asked.amount_minor or not 0 < most < amount_minor:
                raise refusal
            amount_minor = most

    def _redeemed_before(self, unit: Unit, now: datetime, voucher: VoucherRow) -> Message:
        """What a phone is told that sends again the number of a voucher it has used."""
        row = unit.purchases.get(voucher.request_id) if voucher.request_id is not None else None
        values = self.shop.money(amount_minor=voucher.value_minor)
        if row is not None and State(row.state) in SOLD:
            meter = next(meter for meter in unit.meters.values() if meter.id == row.meter_id)
            return self._copy_of(unit, now, row, meter)
        if row is not None and State(row.state) in WAITING:
            (meter,) = (meter for meter in unit.meters.values() if meter.id == row.meter_id)
            return Message("in_progress", {**values, "amount_minor": row.amount_minor, "drn": meter.drn})
        return Message("topped_up", {**vouchering.wallet_values(self.shop, unit, self.inbound.sender), **values})

    def _last_token(self, unit: Unit, now: datetime, phone: Phone | None, command: LastToken) -> Message:
        """The stored token again, for the phone that bought it or whose customer has the meter."""
        meter = meter_of(unit, phone, command.drn, command.saved)
        last = unit.last_purchases.get(meter.id)
        if last is None:
            raise Refusal(Reason.NO_TOKEN_YET, drn=meter.drn)
        if State(unit.purchases.get(last.id, last).state) not in SOLD:
            raise Refusal(Reason.BUSY)  # undone in this very batch: the one before it was not read
        point = unit.points.get(last.service_point_id)
        owns = phone is not None and point is not None and phone.customer_id == point.customer_id
        if last.sender != self.inbound.sender:
            if not owns:
                raise Refusal(Reason.NOT_YOUR_METER, drn=meter.drn)
            if last.id in unit.former:  # bought for whoever was there before: theirs to enter, and nobody else's to see
                raise Refusal(Reason.NO_TOKEN_YET, drn=meter.drn)
        return self._copy_of(unit, now, last, meter)

    def _copy_of(self, unit: Unit, now: datetime, last: PurchaseRow, meter: Meter) -> Message:
        self._count_copy(unit, now, last.id)
        made = unit.tokens.get(last.id, ())
        # From here on the token counts as seen, whatever becomes of this reply.
        unit.insert(disclosure, (last.id, self.shop.world.new_id(), "COPY", self.inbound.sender, now))
        unit.put("disclosed", last.id, True)
        return Message(
            "last_token",
            self.shop.money(
                drn=meter.drn,
                tokens=tokens.shown(made),
                units_tenths=last.units_tenths,
                amount_minor=last.amount_minor,
                bought_at=f"{self.shop.local(last.accepted_at):%Y-%m-%d %H:%M}",
                receipt=receipt_of(last.id),
            ),
        )

    def _count_copy(self, unit: Unit, now: datetime, purchase_id: UUID) -> None:
        """One more copy of this token, and one more for this phone. Raises Refusal where it is one too many."""
        most, sender = self.shop.settings.customers.copies_per_hour_max, self.inbound.sender
        since = now - timedelta(seconds=_COPIES_WINDOW_S)
        for key in (purchase_id, sender):
            given = tuple(at for at in unit.copies.get(key, ()) if at > since)
            if most and len(given) >= most:
                wait_s = (given[-most] - since).total_seconds()
                raise Refusal(Reason.TOO_OFTEN, minutes=max(1, -int(-wait_s // 60)))
            unit.put("copies", key, (*given, now))

    def _price(self, unit: Unit, now: datetime, language: str, phone: Phone | None, asked: Price) -> Message:
        """The quote of a purchase; neither money that lacks nor the same just bought is a reason against it."""
        meter = meter_of(unit, phone, asked.drn, asked.saved)
        buy = Buy(meter.drn, asked.amount_minor, _ANY_TIME)
        row = new_purchase(self.shop, self.inbound, self.shop.world.new_id(), meter, language, buy, now)
        if not isinstance(asked, CounterPrice):
            return Message("price", price_of(self.shop, unit, row, meter, _ANY_TIME))
        before = unit.mark()
        try:  # by the rules of the seller, so as the sale that it will be
            selling.enter(unit, row.id, asked.login, asked.station, 0, self._day, (asked.amount_minor, 0, 0))
            return Message("counter_price", quoted(self.shop, unit, row, meter, _ANY_TIME))
        finally:
            unit.rollback(before)


def need_day(need: Need, shop: Shop, sender: str, at: datetime) -> None:
    """Ask for what the limits per day of a purchase by this phone are held to."""
    need.phone_days.append((sender, shop.day(at)))
    need.day_of, need.wallets_have_days = shop.day, bool(shop.settings.wallet.per_day_max_minor)


def statement_of(shop: Shop, unit: Unit, phone: Phone | None, msisdn: str) -> dict[str, Any]:
    """The values of a statement: balance of wallet, float or the phone's prepaid money, and debts.

    Raises Refusal for a phone without any of them.
    """
    account = (phone.wallet_id or phone.station_account_id) if phone is not None else None
    if account is None and prepaid_id(msisdn) in unit.balances:
        account = prepaid_id(msisdn)
    if account is None:
        raise Refusal(Reason.PAYER_UNKNOWN)
    owed = sum(
        debt.outstanding_minor
        for point in unit.points.values()
        if phone is not None and point.customer_id == phone.customer_id
        for debt in unit.debts.get(point.id, ())
    )
    return shop.money(balance_minor=unit.balances[account].available_minor, debt_minor=owed)


def set_phone(unit: Unit, msisdn: str, **changes: Any) -> None:
    """Change what a phone's owner may change: language, notices."""
    phone = unit.phones.get(msisdn)
    if phone is None:
        phone = Phone(msisdn)
        phone = replace(phone, **changes)
        unit.insert(tables.phone, (msisdn, None, None, phone.language, phone.notices_stopped_at, *_NO_PIN))
    else:
        phone = replace(phone, **changes)
        if "language" in changes:
            unit.update(SET_LANGUAGE, (msisdn, phone.language))
        else:
            unit.update(SET_NOTICES, (msisdn, phone.notices_stopped_at))
    unit.put("phones", msisdn, phone)


def new_purchase(
    shop: Shop, inbound: Inbound, request_id: UUID, meter: Meter, language: str, buy: Buy, now: datetime
) -> PurchaseRow:
    """A purchase at its beginning. Raises Refusal for a meter that hangs nowhere."""
    if meter.service_point_id is None:  # else the table decides, once the purchase is stored
        require_in_service(meter)
    assert meter.service_point_id is not None, "a meter in service hangs at a service point"
    return PurchaseRow(
        id=request_id,
        meter_id=meter.id,
        service_point_id=meter.service_point_id,
        channel=inbound.channel,
        peer=inbound.peer,
        sender=inbound.sender,
        destination=inbound.destination,
        language=language,
        amount_minor=buy.amount_minor,
        state=START.state.value,
        owed=START.effect.value,
        reason=None,
        payer_id=None,
        station_id=None,
        tariff_code=None,
        tariff_version=None,
        units_tenths=None,
        sale=None,
        receipt=None,
        accepted_at=inbound.received_at,
        expires_at=min(
            now + timedelta(seconds=shop.settings.purchase.reservation_timeout_s), inbound.answer_by or _NEVER
        ),
    )


def saved_of(unit: Unit, phone: Phone | None) -> list[str]:
    """The meters of the sender's customer, in the order in which they are numbered: that of their numbers."""
    return sorted(unit.saved_meters.get(phone.customer_id, [])) if phone and phone.customer_id else []


def meter_of(unit: Unit, phone: Phone | None, drn: str | None, saved: int = 0) -> Meter:
    """The meter that was named, the one in place `saved` among the sender's, or else the only one."""
    if drn is None:
        drns = saved_of(unit, phone)
        if saved > len(drns) or (not saved and len(drns) != 1):
            shown = [f"{place} = {number}" for place, number in enumerate(drns[:_SAVED_SHOWN], 1)]
            raise Refusal(Reason.METER_NEEDED, saved=", ".join(shown) if len(drns) > 1 else "")
        drn = drns[saved - 1 if saved else 0]
    meter = unit.meters.get(drn)
    if meter is None:
        raise Refusal(Reason.METER_UNKNOWN, drn=drn)
    return meter


@dataclass(frozen=True, slots=True)
class Continue:
    """A waiting purchase goes on: with what a module or the clock has said, or from where a crash left it.

    `digits` are the tokens of TOKEN_MADE, in the order they were asked for, and `makers` the modules that made them.
    """

    shop: Shop
    purchase_id: UUID
    event: Event | None = None
    digits: Sequence[str] = ()
    makers: Sequence[str] = ()
    reason: Reason | None = None

    def need(self, need: Need) -> None:
        need.purchases.append(self.purchase_id)
        need.day_of, need.wallets_have_days = self.shop.day, bool(self.shop.settings.wallet.per_day_max_minor)
        # One that waited for its service point is priced only now; what was bought meanwhile may be the same wish.
        purchase = self.shop.settings.purchase
        back = timedelta(seconds=purchase.just_bought_window_s + purchase.reservation_timeout_s)
        since = uuid7(int((self.shop.world.now() - back).timestamp() * 1000), 0, 0)
        need.since = since if need.since is None else min(need.since, since)

    def decide(self, unit: Unit) -> Done:
        done, row = Done(), unit.purchases.get(self.purchase_id)
        if row is None:
            log.error("a purchase that is not stored was to go on", extra={"purchase": str(self.purchase_id)})
            return done
        if self.event is None and State(row.state) not in WAITING:
            done.freed = row.service_point_id  # somebody else has seen to it meanwhile; others may wait behind it
            return done
        if self.event is not None and self.event not in TABLE[State(row.state)]:
            # An answer that comes after the purchase has gone another way; the table allows it nowhere on.
            log.warning("a late answer is dropped", extra={"purchase": str(row.id), "event": self.event.value})
            return done
        life = Life.of(unit, row)
        if self.reason is not None and row.reason is None:  # one that was reversed meanwhile ends for that reason
            life.refusal = Refusal(self.reason)
        now, event = self.shop.world.now(), self.event or AFTER_RESTART.get(State(row.state))
        if event is Event.TOKEN_MADE:
            if keyuse.settle(unit, self.shop.module, life.meter, life.tokens, self.makers):
                life.tokens = tokens.filled(life.tokens, self.digits)
            else:
                # Its key was ended, or reached its limit, while the module was asked: nobody has seen the token.
                log.warning(
                    "a token is dropped, its vending key is not in use any more", extra={"purchase": str(row.id)}
                )
                event, life.refusal = Event.TOKEN_REFUSED, Refusal(Reason.KEY_MISSING, drn=life.meter.drn)
        if event is Event.MODULE_SILENT and life.is_paid and not life.split[PAYMENT].get("told"):
            if now - row.accepted_at >= timedelta(seconds=_TOLD_AFTER_S):
                Vending(self.shop, unit, done, now).tell_waiting(life)
        if event is None and State(row.state) is State.VENDING and now >= row.expires_at:
            event = Event.GAVE_UP  # held long enough; the token was never shown
        Vending(self.shop, unit, done, now).walk(life, event)
        if not done.ask and not done.wait_for:
            done.freed = row.service_point_id
        return done
