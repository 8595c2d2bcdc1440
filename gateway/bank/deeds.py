"""A bank's purchase as a deed: stored with what came of it, or found stored; and an inquiry, which stores nothing.

The key of a purchase is the profile's, whatever the message and the link. What is known under it is never sold again:
a repeat gets what the books say by now, a key used again for something else is refused, one whose reversal came first
stays refused. The row in `bank_request` is written in the transaction of the sale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final
from uuid import UUID

from channels.commands import Buy, Command, Unreadable
from channels.contract import Inbound
from channels.iso8583.answers import Said, has_one_token
from channels.iso8583.codes import Outcome
from channels.iso8583.flows import InquiryOrder, Order, SaleOrder, Told
from channels.iso8583.profile import Profile
from config.languages import Catalogue
from gateway.bank import told
from gateway.deeds import TOMBSTONE, Arrival
from gateway.purchase import SOLD, WAITING, State
from gateway.quoting import owner_of
from gateway.tokens import KEY_CHANGE
from gateway.vend import Done, Shop, require_in_service
from ledger import bank_batch, tables
from ledger.bank_batch import CHANNEL
from ledger.reasons import Reason, Refusal
from ledger.unit import BankRequestRow, Need, StoredRequest, TokenRow, Unit

PURCHASE: Final = "PURCHASE"
ADVICE: Final = "ADVICE"
REVERSAL: Final = "REVERSAL"
TOMB: Final = "TOMBSTONE"
ACCEPTED: Final = "ACCEPTED"
REFUSED: Final = "REFUSED"
_AS_OFTEN_AS_ASKED: Final = 1_000_000_000  # the key says what is the same purchase; nothing is guessed

Code = Callable[[Reason | Outcome], str]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What deeds know of a bank beside its order: the profile, and the words of the receipt."""

    profile: Profile
    catalogue: Catalogue


@dataclass(slots=True)
class Sale:
    """What came of a purchase: the answer; or whom to wait for; or what must be read first."""

    told: Told | None = None
    waits_for: UUID | None = None
    look_at: UUID | None = None
    was_repeat: bool = False
    done: Done = field(default_factory=Done)


def key_of(reference: str) -> str:
    """The natural key of a bank's request, for ever."""
    return f"{CHANNEL}|{reference}"


def business_date(unit: Unit, shop: Shop, order: Order) -> date:
    """The message's, the one that the bank announced last, or that of the utility's calendar."""
    if order.business_date is not None:
        return order.business_date
    return unit.bank_days.get(order.bank) or shop.local(order.received_at).date()


@dataclass(frozen=True, slots=True)
class SaleDeed:
    """A purchase, its repeat, or its advice. `seen` is the request under its key, once that is known to be there.

    `is_first`: whoever stored it asks what has become of it, and has not answered yet.
    """

    shop: Shop
    dialect: Dialect
    order: SaleOrder
    seen: UUID | None = None
    is_first: bool = False

    def need(self, need: Need) -> None:
        need.banks.append(self.order.bank)
        if self.seen is not None:
            need.requests.append(key_of(self.order.reference))
            need.purchases.append(self.seen)
            need.bank_requests.append(self.seen)
            return
        self._arrival().need(need)
        if self.order.trace is not None:
            need.bank_traces.append(self.order.trace)

    def decide(self, unit: Unit) -> Sale:
        order = self.order
        request = unit.requests.get(key_of(order.reference))
        if request is not None:
            return self._known(unit, request)
        by_trace = unit.bank_traces.get((order.bank, order.trace)) if order.trace is not None else None
        if by_trace is not None:
            if unit.bank_requests[by_trace].function != TOMB:
                return Sale(Told(Outcome.DUPLICATE_DIFFERS))
            # Its reversal came first, and knew it by its trace: from now on it is known by its key too.
            self._store_tombstone(unit)
            return Sale(Told(Reason.REVERSED_FIRST))
        return self._new(unit)

    # --- new ---

    def _arrival(self) -> Arrival:
        order = self.order
        command: Command
        if order.refused is not None or not order.may_sell:
            command = Unreadable(order.refused or Reason.NO_TOKEN_YET)
        else:
            command = Buy(order.drn, order.amount_minor, _AS_OFTEN_AS_ASKED)
        return Arrival(
            self.shop,
            Inbound(
                channel=CHANNEL,
                peer=order.bank,
                reference=order.reference,
                fingerprint=order.fingerprint,
                sender="",
                destination=order.terminal,
                command=command,
                received_at=order.received_at,
                answer_by=order.decide_by,
            ),
            is_told_here=True,
        )

    def _new(self, unit: Unit) -> Sale:
        start = unit.mark()
        done = self._arrival().decide(unit)
        made = unit.tokens.get(unit.requests[key_of(self.order.reference)].id, ())
        if not self._can_tell(made):
            # Before any money is taken: with one of several tokens its customer could do nothing.
            unit.rollback(start)
            has_change = any(token.kind == KEY_CHANGE for token in made)
            why = Reason.KEY_CHANGE_NEEDED if has_change else Reason.NOT_PERMITTED
            return replace(self, order=replace(self.order, refused=why))._new(unit)
        request_id = unit.requests[key_of(self.order.reference)].id
        purchase = unit.purchases.get(request_id)
        result = Sale(done=done)
        if purchase is None:
            result.told = Told(done.reason or Reason.INTERNAL)
        elif State(purchase.state) in WAITING:
            result.waits_for = request_id
        else:
            result.told = self._became(unit, request_id)
        self._store(unit, request_id, purchase is not None, done.reason if purchase is None else None, result.told)
        return result

    def _can_tell(self, made: Sequence[TokenRow]) -> bool:
        """Whether an answer of this bank has a place for all these tokens."""
        profile = self.dialect.profile
        return len(made) < 2 or profile.several_tokens == "text" or not has_one_token(profile)

    def _store(self, unit: Unit, request_id: UUID, is_sale: bool, reason: Reason | None, said: Told | None) -> None:
        order = self.order
        bank_batch.insert(
            unit,
            BankRequestRow(
                **common(unit, self.shop, order),
                id=request_id,
                function=order.function,
                trace=order.trace,
                amount_minor=order.amount_minor,
                drn=order.drn if order.refused is not Reason.METER_INVALID else "",
                original=None,
                outcome=ACCEPTED if is_sale else REFUSED,
                reason=None if is_sale else str(reason or Reason.INTERNAL),
                code=self.dialect.profile.code(said.why) if said is not None else None,
            ),
        )

    def _store_tombstone(self, unit: Unit) -> None:
        order, new_id = self.order, self.shop.world.new_id()
        key = key_of(order.reference)
        unit.insert(
            tables.request, (new_id, key, TOMBSTONE, CHANNEL, order.bank, "", "", "Reversed", order.received_at)
        )
        unit.put("requests", key, StoredRequest(key, new_id, TOMBSTONE))

    # --- known ---

    def _known(self, unit: Unit, request: StoredRequest) -> Sale:
        if request.fingerprint == TOMBSTONE:
            return Sale(Told(Reason.REVERSED_FIRST), was_repeat=True)
        if request.fingerprint != self.order.fingerprint:
            return Sale(Told(Outcome.DUPLICATE_DIFFERS), was_repeat=True)
        if self.seen != request.id:
            return Sale(look_at=request.id)  # what hangs on it was not read
        row = unit.bank_requests[request.id]
        purchase = unit.purchases.get(request.id)
        if row.is_closed:
            said = Told(Outcome.ALREADY_REVERSED)
        elif purchase is None:
            said = Told(Reason(row.reason) if row.reason else Reason.INTERNAL)
        elif State(purchase.state) in WAITING:
            return Sale(waits_for=request.id, was_repeat=not self.is_first)
        else:
            said = self._became(unit, request.id)
        code = self.dialect.profile.code(said.why)
        answers = row.answers if self.is_first else row.answers + 1
        unit.put("bank_requests", row.id, replace(row, code=code, answers=answers))
        unit.update(bank_batch.SET_CODE if self.is_first else bank_batch.ANSWER_AGAIN, (row.id, code))
        return Sale(said, was_repeat=not self.is_first)

    def _became(self, unit: Unit, request_id: UUID) -> Told:
        """The answer of a purchase that has come to an end, from the books."""
        purchase = unit.purchases[request_id]
        state = State(purchase.state)
        if state not in SOLD:
            return told.ended(state, purchase)
        made = unit.tokens.get(request_id, ())
        dialect, language = self.dialect, self.order.language or purchase.language
        return told.sold(self.shop, dialect.catalogue, dialect.profile, purchase, self.order.drn, made, language)


def common(unit: Unit, shop: Shop, order: Order) -> dict[str, Any]:
    """What is kept of every request."""
    return {
        "bank": order.bank,
        "mti": order.mti,
        "stan": order.stan,
        "rrn": order.rrn,
        "terminal": order.terminal,
        "acceptor": order.acceptor,
        "acquirer": order.acquirer,
        "sent": order.sent,
        "local_time": order.local_time,
        "local_date": order.local_date,
        "business_date": business_date(unit, shop, order),
        "currency": order.currency,
        "answers": 0,
        "is_closed": False,
        "link": order.link,
        "received_at": order.received_at,
    }


@dataclass(frozen=True, slots=True)
class InquiryDeed:
    """Whose meter is this, what is owed on it, and how much may be bought? Changes nothing."""

    shop: Shop
    order: InquiryOrder

    def need(self, need: Need) -> None:
        if self.order.refused is None:
            need.meters.append(self.order.drn)
            need.owners = True

    def decide(self, unit: Unit) -> Told:
        order = self.order
        if order.refused is not None:
            return Told(order.refused)
        meter = unit.meters.get(order.drn)
        if meter is None:
            return Told(Reason.METER_UNKNOWN)
        try:
            require_in_service(meter)
        except Refusal as refusal:
            return Told(refusal.reason)
        assert meter.service_point_id is not None, "a meter in service hangs at a service point"
        point = unit.points[meter.service_point_id]
        tariff = unit.tariffs.get(point.tariff_code)
        if tariff is None:
            return Told(Reason.TARIFF_MISSING)
        owner, area = owner_of(unit, order.drn)
        debts = unit.debts.get(point.id, ())
        places: dict[str, str | int] = {
            "customer_name": f"{owner} {area}".strip(),
            "tariff": point.tariff_code,
            "supply_group": meter.supply_group,
            "arrears": sum(debt.outstanding_minor for debt in debts if debt.status == "ACTIVE"),
            "amount_min": tariff.min_vend_minor,
            "amount_max": tariff.max_vend_minor,
            "inquiry_answer": f"Q{order.stan:0>10}",
        }
        return Told(Outcome.APPROVED, Said(places=places))
