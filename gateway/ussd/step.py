"""One USSD step as a deed: a repeat gets its screen again, a confirmed quote becomes a purchase.

The session's row and the purchase that it led to are written together, so that a step which comes twice, over whichever
node, finds either both or neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from channels.commands import Buy, Help, RedeemVoucher
from channels.commands import TopUp as TopUpAsked
from channels.contract import Inbound
from channels.ussd import dialogue
from channels.ussd.dialogue import AskTopUp, NewLanguage, NewPin, Order, Place, TopUp, TryPin, Turn, Words
from channels.ussd.menu import PINS, PROMPTS, VOUCHERS
from channels.ussd.pages import Limits, fits
from channels.ussd.steps import Kind, Page, Step
from config.languages import Catalogue
from config.settings import UssdSettings
from gateway import tokens, topping_up, vouchering
from gateway.deeds import Arrival, need_day, set_phone
from gateway.payer import need_payer
from gateway.pins import Proof, Stale, require_good, set_new, spend_try
from gateway.purchase import ENDS, SOLD, State
from gateway.ussd.knowledge import Hints, NotLookedUp, UnitKnowledge
from gateway.vend import Done, Shop
from gateway.world import uuid7
from ledger.pins import fingerprint_key
from ledger.reasons import Reason, Refusal
from ledger.unit import Need, Phone, SessionRow, Unit

CHANNEL: Final = "ussd"
OPEN: Final = "OPEN"
ENDED: Final = "ENDED"
_NOTHING_TYPED: Final = b"\0" * 16
_UNDONE: Final = ENDS - SOLD  # nothing was bought, or it was taken back
_RESUMED_FROM: Final = frozenset({"confirm", "again", "pin"})


# A provider's mark holds no control character.
_BETWEEN_MARKS: Final = "\n"
_MARKS_KEPT: Final = 20


def _marks(session: SessionRow) -> list[str]:
    """The marks of a session's last steps, the last one first."""
    return session.mark.split(_BETWEEN_MARKS)


@dataclass(slots=True)
class Outcome:
    """What came of a step: its screen; or what must be looked up first."""

    page: Page | None = None
    done: Done = field(default_factory=Done)
    more: Hints | None = None
    hints: Hints = Hints()  # what the next step of this session will want to see
    waits_for: UUID | None = None  # a purchase that is under way
    was_repeat: bool = False
    to_prove: tuple[str, str] | None = field(default=None, repr=False)  # the PIN that was typed, and a new one


@dataclass(frozen=True, slots=True)
class StepDeed:
    """A step of a session. `hints` come from the step before or from the attempt before."""

    shop: Shop
    settings: UssdSettings
    catalogue: Catalogue
    step: Step
    hints: Hints
    proof: Proof | None = None  # what came of the PIN that was typed

    def need(self, need: Need) -> None:
        step, hints = self.step, self.hints
        need.sessions_of.append(step.msisdn)
        need.phones.append(step.msisdn)
        need.saved_meters_of.append(step.msisdn)
        need_payer(need, self.shop.settings.payment, step.msisdn)
        need.meters.extend(hints.drns)
        need.purchases.extend(hints.purchases)
        need.owners = True
        # Only where an amount is asked for: it is read for every meter of the batch.
        need.last_tokens = need.last_tokens or bool(hints.drns)
        if hints.last_sales:
            need.last_sales_of.append(step.msisdn)
        need_day(need, self.shop, step.msisdn, step.received_at)
        if hints.vouchers:
            vouchering.need_digests(need, self.shop, step.msisdn, step.received_at, hints.vouchers)
        if hints.top_ups:
            topping_up.need_earlier(need, self.shop.settings, step.msisdn, step.received_at)
        window = timedelta(seconds=self.shop.settings.purchase.just_bought_window_s)
        since = uuid7(int((step.received_at - window).timestamp() * 1000), 0, 0)
        need.since = since if need.since is None else min(need.since, since)

    def decide(self, unit: Unit) -> Outcome:
        mark, attempt = unit.mark(), _Step(self, unit)
        try:
            return attempt.outcome()
        except NotLookedUp as wanted:
            unit.rollback(mark)
            return Outcome(more=wanted.hints)
        except Stale:
            unit.rollback(mark)
            return Outcome(to_prove=attempt.typed_pins)


class _Step:
    """One attempt at a step on one unit."""

    def __init__(self, deed: StepDeed, unit: Unit) -> None:
        self.deed = deed
        self.unit = unit
        self.shop, self.step, self.settings = deed.shop, deed.step, deed.settings
        self.now: datetime = deed.shop.world.now()
        self.done = Done()
        phone = unit.phones.get(self.step.msisdn)
        default = self.shop.settings.utility.default_language
        self.language = (phone.language or phone.customer_language or default) if phone else default
        self.bought: UUID | None = None
        self.waits_for: UUID | None = None
        self.typed_pins = ("", "")

    # --- where it begins ---

    def outcome(self) -> Outcome:
        step = self.step
        session = self.unit.sessions.get(step.key)
        if step.kind is Kind.OVER:
            return self._over(session)
        if session is None or self.now - session.seen_at > timedelta(seconds=self.settings.session_s):
            return self._begin(session)
        if step.ids_come_again and step.kind is Kind.BEGIN and step.mark != _marks(session)[0]:
            return self._begin(session)
        if self._is_repeat(session):
            return Outcome(self._page_again(session), hints=self._hints(session), was_repeat=True)
        typed = self._typed(session)
        if typed is None or session.state == ENDED:
            return Outcome(self._end("ussd_over"))
        place = dialogue.of_json(json.loads(session.place))
        self.bought = session.purchase_id
        if place.screen == "bought":  # of a session that goes on: the purchase was another session's
            self.bought = UUID(place.sale) if place.sale else None
            place = place if place.sale else Place()
        try:
            turn = dialogue.walk(place, typed, self._know(), self._words())
        except Refusal as refusal:
            turn = dialogue.refused(place, refusal)
        return self._show(session, session.step + 1, turn)

    def _begin(self, session: SessionRow | None) -> Outcome:
        """A new session; what was dialled behind the code is walked at once."""
        path = self.step.text.split("*") if self.step.text else []
        if self.step.kind is Kind.CONTINUE and not self.step.is_whole:
            path = []  # an answer to a screen that nobody remembers
        place = Place() if path else self._first_place()
        turn = dialogue.run_ahead(place, path, self._know(), self._words())
        return self._show(None, self._first_number(session), turn)

    def _first_number(self, session: SessionRow | None) -> int:
        """One; where ids come again a number that rises for ever, for an order is stored under its session and step."""
        if not self.step.ids_come_again:
            return 1
        now_ms = int(self.now.timestamp() * 1000)
        return max(now_ms, session.step + 1) if session is not None else now_ms

    def _first_place(self) -> Place:
        """The main menu; or a purchase of a moment ago, or one that was cut off."""
        step = self.step
        earlier = [session for key, session in self.unit.sessions.items() if key != step.key or step.ids_come_again]
        if not earlier:
            return Place()
        last = max(earlier, key=lambda session: session.seen_at)
        age_s = (self.now - last.seen_at).total_seconds()
        if last.purchase_id is not None:
            if age_s <= self.settings.bought_shown_s and self._was_sold(last.purchase_id):
                self.bought = last.purchase_id
                return Place("bought", sale=str(last.purchase_id))
            return Place()
        place = dialogue.of_json(json.loads(last.place))
        if place.screen in _RESUMED_FROM and age_s <= self.settings.resume_s:
            return Place("resume", drn=place.drn, amount_minor=place.amount_minor, by=place.by)
        return Place()

    def _was_sold(self, purchase_id: UUID) -> bool:
        """Whether a purchase has come to something, or still may."""
        return State(self._know().purchase(purchase_id).state) not in _UNDONE

    def _over(self, session: SessionRow | None) -> Outcome:
        """The network says that the session is over. Where the customer stood is kept: she may dial again."""
        if session is not None and session.state == OPEN:
            self.unit.put("sessions", session.key, replace(session, state=ENDED))
        return Outcome(Page("", is_end=True))

    # --- repeats ---

    def _is_repeat(self, session: SessionRow) -> bool:
        step = self.step
        if step.mark:
            return step.mark in _marks(session)  # an older one is a step that was overtaken
        if step.is_whole:
            # A shorter text is a step that was overtaken: its customer has long seen a later screen.
            return len(step.text) < session.typed_length or self._digest(step.text) == session.typed_hash
        return step.kind is Kind.BEGIN

    def _typed(self, session: SessionRow) -> str | None:
        """What was typed since the last step; None if the texts do not belong together."""
        step = self.step
        if not step.is_whole:
            return step.text if step.kind is not Kind.BEGIN else None
        known = session.typed_length
        if self._digest(step.text[:known]) != session.typed_hash:
            return None
        if known == 0:
            return step.text
        return step.text[known + 1 :] if step.text[known : known + 1] == "*" else None

    def _digest(self, text: str) -> bytes:
        # With a key, so that nobody finds out by trying what was typed: it may be a PIN.
        key = fingerprint_key(self.shop.settings.pins.key.reveal())
        return hashlib.blake2b(text.encode(), digest_size=16, key=key).digest() if text else _NOTHING_TYPED

    def _page_again(self, session: SessionRow) -> Page:
        if session.purchase_id is not None and session.state == ENDED:
            return self._purchase_page(session.purchase_id)
        return Page(session.page, session.state == ENDED)

    # --- where it leads ---

    def _show(self, session: SessionRow | None, number: int, turn: Turn) -> Outcome:
        page: Page | None = None
        place = turn.place
        if isinstance(turn.deed, NewLanguage):
            self._set_language(turn.deed.code)
            turn = Turn(Place())
        elif isinstance(turn.deed, AskTopUp):
            try:
                page = self._top_up_asked(turn.deed, number)
            except Refusal as refused:
                turn = dialogue.refused(place, refused)
        elif isinstance(turn.deed, TryPin | NewPin | TopUp):
            try:
                told = self._told(place, turn.deed, number)
                turn = Turn(told, "ussd_pin_set" if told.screen == "pin" else "")
            except Refusal as refused:
                turn = dialogue.refused(place, refused)
        elif isinstance(turn.deed, Order):
            refusal = self._buy(turn.deed, number)
            if refusal is not None and refusal.reason is Reason.KEY_CHANGE_FIRST:
                page = self._end("ussd_keys_sent")  # in order, by SMS, where they can be kept
            elif refusal is None and self.bought is None:
                page = self._used_page()
            elif refusal is None:
                assert self.bought is not None
                if self.done.collects:
                    page = self._end("ussd_enter_pin")
                else:
                    page = self._end("ussd_under_way") if self.waits_for else self._purchase_page(self.bought)
            else:
                turn = dialogue.refused(place, refusal)
        if page is None:
            place, page = dialogue.show(turn, self._know(), self._words())
        row = self._store(session, number, place, page)
        return Outcome(page, self.done, hints=self._hints(row), waits_for=self.waits_for)

    def _buy(self, order: Order, number: int) -> Refusal | None:
        """The confirmed order, as a request under (service, session, step); the refusal if there is one."""
        try:
            self._know().meter(order.drn)  # read for this batch, or NotLookedUp
        except Refusal as refusal:
            return refusal
        self.typed_pins = (order.pin, "")
        command: Buy | RedeemVoucher = Buy(order.drn, order.amount_minor, order.nth, by=order.by, pin=order.pin or None)
        if order.voucher:
            self._need_voucher(order.voucher)
            command = RedeemVoucher(order.voucher, order.drn, order.amount_minor, order.nth)
        self.done = done = self._arrived(number, f"{order}", command)
        if done.replayed:  # its session was forgotten meanwhile; the request is not
            self.bought = self.unit.requests[f"{CHANNEL}|{self.step.key}|{number}"].id
            self._know().purchase(self.bought)
            return None
        if done.refusal is not None:
            return Refusal(done.reason or Reason.INTERNAL, **dict(done.refusal.values))
        self.bought = done.purchase_id
        if done.ask or done.wait_for:
            self.waits_for = done.purchase_id
        return None

    def _top_up_asked(self, deed: AskTopUp, number: int) -> Page:
        """The last screen of a session in which the phone is asked for money. Raises Refusal."""
        if not self.deed.hints.top_ups:
            raise NotLookedUp(Hints(top_ups=True))
        self.done = done = self._arrived(number, f"{deed}", TopUpAsked(deed.amount_minor))
        if done.refusal is not None:
            raise Refusal(done.reason or Reason.INTERNAL, **dict(done.refusal.values))
        return self._end("ussd_top_up_asked")

    def _arrived(self, number: int, content: str, command: Buy | RedeemVoucher | TopUpAsked) -> Done:
        """What came of a request under (service, session, step). `content` holds no secret. Raises Stale."""
        fingerprint = hashlib.blake2b(content.encode(), digest_size=16).digest()
        inbound = self._inbound(f"{self.step.key}|{number}", fingerprint, command)
        done = Arrival(self.shop, inbound, is_told_here=True, proof=self.deed.proof).decide(self.unit)
        if done.wants_proof:
            raise Stale
        return done

    def _need_voucher(self, pin: str) -> None:
        digest = vouchering.digest_of(self.shop, pin)
        if digest is not None and digest not in self.deed.hints.vouchers:
            raise NotLookedUp(Hints(vouchers=frozenset({digest})))

    def _told(self, place: Place, deed: TryPin | NewPin | TopUp, number: int) -> Place:
        """Where a PIN or a voucher that was typed leads. Raises Refusal and Stale."""
        phone, settings = self.unit.phones.get(self.step.msisdn), self.shop.settings.pins
        if isinstance(deed, TopUp):
            self._need_voucher(deed.voucher)
            self.done = done = self._arrived(number, "top up", RedeemVoucher(deed.voucher, None))
            if done.refusal is not None:
                raise Refusal(done.reason or Reason.INTERNAL, **dict(done.refusal.values))
            told = vouchering.wallet_values(self.shop, self.unit, self.step.msisdn)
            return Place("topped_up", values=tuple(sorted(told.items())))
        if phone is None or (phone.wallet_id is None and phone.station_id is None) or not settings.key:
            raise Refusal(Reason.PAYER_UNKNOWN)
        if isinstance(deed, TryPin):
            self.typed_pins = (deed.pin, "")
            phone = spend_try(settings, self.unit, phone, self.deed.proof, self.now)
            return replace(place, screen="new_pin", page=0, proven=self._mark_of(phone))
        if phone.pin is not None and place.proven != self._mark_of(phone):
            raise Refusal(Reason.PIN_NEEDED)  # it was set meanwhile, or the old one was never typed
        require_good(deed.pin, phone.msisdn)
        self.typed_pins = ("", deed.pin)
        set_new(self.unit, phone, self.deed.proof)
        if place.trail[-1:] in (("confirm",), ("again",)):  # on the way to pay, which now takes the PIN
            return replace(place, screen="pin", page=0, proven="")
        return Place("pin_set")

    @staticmethod
    def _mark_of(phone: Phone) -> str:
        """By which a PIN is known to be the same still; says nothing of it."""
        return hashlib.sha256((phone.pin or "").encode()).hexdigest()[:16]

    def _purchase_page(self, purchase_id: UUID) -> Page:
        """The last screen of a session that bought, from what has become of the purchase by now."""
        known = self.unit.purchases.get(purchase_id) or self._know().purchase(purchase_id)
        state = State(known.state)
        if state in SOLD:
            return self._sold_page(purchase_id)
        if state in _UNDONE:
            return self._end("ussd_not_bought")
        if state is State.AWAITING:
            return self._end("ussd_enter_pin")
        return self._end("ussd_under_way")

    def _used_page(self) -> Page:
        """A voucher that this phone has used before bought nothing now: where what it brought is to be found."""
        (reply,) = self.done.replies  # by SMS: the token again, or what became of it
        values = reply.message.values
        if reply.message.key == "last_token":
            return self._end("ussd_sold_by_sms", {name: values[name] for name in ("drn", "units_tenths")})
        if reply.message.key == "in_progress":
            return self._end("ussd_under_way")
        return self._end("ussd_topped_up", vouchering.wallet_values(self.shop, self.unit, self.step.msisdn))

    def _sold_page(self, purchase_id: UUID) -> Page:
        row = self.unit.purchases[purchase_id]
        made = self.unit.tokens.get(purchase_id, ())
        drn = next(meter.drn for meter in self.unit.meters.values() if meter.id == row.meter_id)
        values = {"tokens": tokens.shown(made), "units_tenths": row.units_tenths or 0, "drn": drn}
        if made:
            page = self._end("ussd_sold", values)
            if fits(page.text, self._limits()):
                self._know().disclose(purchase_id)
                return page
        return self._end("ussd_sold_by_sms", values)

    def _set_language(self, code: str) -> None:
        set_phone(self.unit, self.step.msisdn, language=code)
        self.language = code

    # --- storing ---

    def _store(self, session: SessionRow | None, number: int, place: Place, page: Page) -> SessionRow:
        step, keep = self.step, timedelta(seconds=max(self.settings.resume_s, self.settings.session_s) * 2)
        ended_with = self.bought if page.is_end else None
        row = SessionRow(
            key=step.key,
            msisdn=step.msisdn,
            service=step.service,
            step=number,
            typed_length=len(step.text) if step.is_whole else 0,
            typed_hash=self._digest(step.text) if step.is_whole else _NOTHING_TYPED,
            mark=self._marks_with(session),
            place=json.dumps(dialogue.to_json(place), separators=(",", ":")),
            # The screen of a purchase is made anew from the purchase: it says what is true when it is asked for.
            page="" if ended_with is not None else page.text,
            state=ENDED if page.is_end else OPEN,
            purchase_id=ended_with,
            seen_at=self.now,
            expires_at=self.now + keep,
        )
        self.unit.put("sessions", row.key, row)
        return row

    def _hints(self, row: SessionRow) -> Hints:
        place = dialogue.of_json(json.loads(row.place))
        purchases = frozenset({row.purchase_id}) if row.purchase_id is not None else frozenset()
        drns = frozenset({place.drn}) if place.drn else frozenset()
        return Hints(drns, place.screen in ("sales", "sale"), purchases)

    def _marks_with(self, session: SessionRow | None) -> str:
        """The marks to keep: this step's first, then those of the session's last steps."""
        if not self.step.mark:
            return ""
        earlier = _marks(session) if session is not None else []
        return _BETWEEN_MARKS.join([self.step.mark, *earlier][:_MARKS_KEPT])

    # --- helpers ---

    def _inbound(self, reference: str, fingerprint: bytes, command: Buy | Help | RedeemVoucher | TopUpAsked) -> Inbound:
        step = self.step
        return Inbound(
            channel=CHANNEL,
            peer=step.service,
            reference=reference,
            fingerprint=fingerprint,
            sender=step.msisdn,
            destination=step.service_code,
            command=command,
            received_at=step.received_at,
        )

    def _know(self) -> UnitKnowledge:
        inbound = self._inbound("", b"", Help())
        return UnitKnowledge(self.shop, self.unit, inbound, self.language, self.deed.hints, self.bought)

    def _limits(self) -> Limits:
        return Limits(self.settings.gsm_septets_max, self.settings.ucs2_characters_max)

    def _words(self) -> Words:
        catalogue, money = self.deed.catalogue, self.shop.money(utility=self.shop.settings.utility.name)

        def text(key: str, values: Mapping[str, Any]) -> str:
            return catalogue.text(key, {**money, **values}, self.language)

        languages = [(code, language.choose.capitalize()) for code, language in catalogue.languages.items()]
        settings = self.shop.settings
        msisdn = self.step.msisdn
        may_prompt = topping_up.is_offered(settings, self.unit.phones.get(msisdn), msisdn)
        there = ((PINS, settings.pins.key), (VOUCHERS, settings.vouchers.taken), (PROMPTS, may_prompt))
        offers = {name for name, is_there in there if is_there}
        return Words(text, languages, settings.utility.minor_digits, self._limits(), frozenset(offers))

    def _end(self, key: str, values: Mapping[str, Any] | None = None) -> Page:
        return Page(self._words().text(key, values or {}), is_end=True)
