"""What the USSD screens ask about meters, money and sales, answered from a batch's unit.

What was not read for this batch raises `NotLookedUp`; the deed then asks to be made again with more hints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from channels.commands import Buy
from channels.contract import Inbound
from channels.ussd.dialogue import MeterInfo, SaleInfo
from gateway import tokens
from gateway.deeds import meter_of, new_purchase, saved_of, statement_of
from gateway.payer import ways_of
from gateway.purchase import ENDS, SOLD, State
from gateway.quoting import owner_of, quoted
from gateway.sale import receipt_of
from gateway.vend import Shop, require_in_service
from ledger.correction_tables import disclosure
from ledger.reasons import Refusal
from ledger.unit import Meter, Phone, PurchaseRow, Unit

_ANY_TIME: Final = 1_000_000_000  # insists however often the same was bought


@dataclass(frozen=True, slots=True)
class Hints:
    """What a step wants to see beside its session, its phone and the phone's meters."""

    drns: frozenset[str] = frozenset()
    last_sales: bool = False
    purchases: frozenset[UUID] = frozenset()
    vouchers: frozenset[str] = frozenset()  # their look-up digests
    top_ups: bool = False  # what the phone asked to pay in a moment ago

    def with_more(self, other: Hints) -> Hints:
        """Both together."""
        return Hints(
            self.drns | other.drns,
            self.last_sales or other.last_sales,
            self.purchases | other.purchases,
            self.vouchers | other.vouchers,
            self.top_ups or other.top_ups,
        )


class NotLookedUp(Exception):
    """The unit does not hold this yet."""

    def __init__(self, hints: Hints) -> None:
        super().__init__()
        self.hints = hints


class UnitKnowledge:
    """Satisfies `channels.ussd.dialogue.Knowledge` for one phone."""

    def __init__(self, shop: Shop, unit: Unit, inbound: Inbound, language: str, hints: Hints, bought: UUID | None):
        self._shop = shop
        self._unit = unit
        self._inbound = inbound
        self._language = language
        self._hints = hints
        self._bought = bought
        self._phone: Phone | None = unit.phones.get(inbound.sender)
        self._quotes: dict[tuple[str, int, int, str], Mapping[str, Any] | Refusal] = {}

    def saved_meters(self) -> Sequence[MeterInfo]:
        return [self._info(drn) for drn in saved_of(self._unit, self._phone)]

    def meter(self, drn: str) -> MeterInfo:
        if drn not in self._unit.meters and drn not in self._hints.drns:
            raise NotLookedUp(Hints(drns=frozenset({drn})))
        meter = meter_of(self._unit, self._phone, drn)
        require_in_service(meter)
        return self._info(drn)

    def _info(self, drn: str) -> MeterInfo:
        return MeterInfo(drn, *owner_of(self._unit, drn))

    def last_amount_minor(self, drn: str) -> int | None:
        if drn not in self._hints.drns:
            raise NotLookedUp(Hints(drns=frozenset({drn})))
        meter = self._unit.meters.get(drn)
        last = self._unit.last_purchases.get(meter.id) if meter is not None else None
        return last.amount_minor if last is not None and last.sender == self._inbound.sender else None

    def payers(self, drn: str, amount: int) -> Sequence[str]:
        if drn not in self._unit.meters:
            return ()  # nothing is known of it yet: the quote asks for it
        meter = meter_of(self._unit, self._phone, drn)
        row = self._purchase(drn, amount, _ANY_TIME, "", meter)
        ways = ways_of(self._unit, self._shop.settings.payment, row, meter)
        # Without a choice there is no need of a quote to find out.
        return [name for name in ways if self._could_pay(drn, amount, name)] if len(ways) > 1 else ()

    def _could_pay(self, drn: str, amount: int, by: str) -> bool:
        try:
            self.quote(drn, amount, _ANY_TIME, by)
        except Refusal:
            return False
        return True

    def quote(self, drn: str, amount: int, nth: int, by: str = "") -> Mapping[str, Any]:
        found = self._quotes.get((drn, amount, nth, by))
        if found is None:
            self.meter(drn)  # read, known and able to buy; else this raises
            try:
                found = self._quote(drn, amount, nth, by)
            except Refusal as refusal:
                found = refusal
            self._quotes[(drn, amount, nth, by)] = found
        if isinstance(found, Refusal):
            raise found
        return found

    def _quote(self, drn: str, amount: int, nth: int, by: str) -> Mapping[str, Any]:
        meter = meter_of(self._unit, self._phone, drn)
        return quoted(self._shop, self._unit, self._purchase(drn, amount, nth, by, meter), meter, nth, by)

    def _purchase(self, drn: str, amount: int, nth: int, by: str, meter: Meter) -> PurchaseRow:
        shop, now = self._shop, self._shop.world.now()
        buy = Buy(drn, amount, nth, by=by)
        return new_purchase(shop, self._inbound, shop.world.new_id(), meter, self._language, buy, now)

    def has_pin(self) -> bool:
        return self._phone is not None and self._phone.pin is not None

    def balance(self) -> Mapping[str, Any]:
        return statement_of(self._shop, self._unit, self._phone, self._inbound.sender)

    def last_sales(self) -> Sequence[SaleInfo]:
        if not self._hints.last_sales:
            raise NotLookedUp(Hints(last_sales=True))
        return [SaleInfo(receipt_of(sale.id), self._sale_values(sale)) for sale in self._last_sales()]

    def bought(self) -> Mapping[str, Any]:
        assert self._bought is not None
        row = self.purchase(self._bought)
        values = self._sale_values(row)
        if values["tokens"]:
            self.disclose(row.id)
        return values

    def shows(self, receipt: str) -> None:
        for sale in self._last_sales():
            if receipt_of(sale.id) == receipt:
                self.disclose(sale.id)

    def _last_sales(self) -> Sequence[PurchaseRow]:
        return self._unit.last_sales.get(self._inbound.sender, ())

    def purchase(self, purchase_id: UUID) -> PurchaseRow:
        """A purchase with its tokens."""
        if purchase_id not in self._hints.purchases:
            raise NotLookedUp(Hints(purchases=frozenset({purchase_id})))
        return self._unit.purchases[purchase_id]

    def disclose(self, purchase_id: UUID) -> None:
        """From here on the token counts as seen, whatever becomes of this screen: it cannot be sealed any more."""
        if purchase_id in self._unit.disclosed:
            return
        shop = self._shop
        self._unit.insert(
            disclosure, (purchase_id, shop.world.new_id(), "SCREEN", self._inbound.sender, shop.world.now())
        )
        self._unit.put("disclosed", purchase_id, True)

    def _sale_values(self, row: PurchaseRow) -> Mapping[str, Any]:
        drn = next((meter.drn for meter in self._unit.meters.values() if meter.id == row.meter_id), "")
        made = self._unit.tokens.get(row.id, ())
        # One that was taken back in this very batch is shown as that, not as it was read.
        has_tokens = State(self._unit.purchases.get(row.id, row).state) in SOLD
        return self._shop.money(
            drn=drn,
            tokens=tokens.shown(made) if has_tokens else [],
            units_tenths=row.units_tenths or 0,
            amount_minor=row.amount_minor,
            bought_at=f"{self._shop.local(row.accepted_at):%d/%m %H:%M}",
            receipt=receipt_of(row.id),
            reason=row.reason or "",
            is_under_way=State(row.state) not in ENDS and not has_tokens,
        )
