"""An account payment without energy: money for debts, fixed charges and the wallet. A deed of the ledger's writer.

Debts by priority and code, disputed ones left out, none beyond what is owed; then fixed charges that were asked for and
not paid; what is left goes to the customer's wallet. No token. The same reference again is the same payment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

from channels.contract import Message, Reply
from gateway.sale import receipt_of
from gateway.vend import Done, Shop, owe
from ledger import books, entries, selling, tables
from ledger.accounts import id_of
from ledger.correction_tables import account_payment
from ledger.corrections import Addressee, PaymentRefused
from ledger.money import half_up
from ledger.reasons import Reason, Refusal
from ledger.statements import Customer
from ledger.unit import DebtRow, Need, Point, StoredRequest, Unit

OFFICE_CASH = "cash:office"


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment as it was divided. `again`: the reference was there already; nothing was done now."""

    receipt: str
    split: Mapping[str, Any]
    balance_minor: int
    again: bool = False
    shift_id: UUID | None = None  # of the drawer that it lies in
    done: Done = field(default_factory=Done, compare=False)


@dataclass(frozen=True, slots=True)
class AtCounter:
    """The station whose people took the money, and the minor units that came in cash, by card and by cheque.

    `needs_shift`: the money is the utility's, so it lies in a drawer that somebody counts.
    """

    station: str
    station_id: UUID
    needs_shift: bool
    tenders: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PayAccount:
    """Take this much for a customer's account.

    `source`: the code of the account the money comes in by: a station's float or what it owes, or the office's cash.
    `counter`: the station's, and how it was given. `only_wallet`: nothing goes to debts and charges. Raises
    PaymentRefused, or Refusal STATION_CREDIT_SPENT and SHIFT_NEEDED.
    """

    shop: Shop
    customer: Customer
    to: Addressee | None
    amount_minor: int
    source: str
    reference: str
    who: str
    only_wallet: bool = False
    counter: AtCounter | None = None

    @property
    def _key(self) -> str:
        return f"payment|{self.source}|{self.reference}"

    @property
    def _fingerprint(self) -> bytes:
        content = f"{self.customer.id} {self.amount_minor} {self.only_wallet}"
        if self.counter is not None and self.counter.tenders[0] != self.amount_minor:
            content += f" {self.counter.tenders}"
        return hashlib.blake2b(content.encode(), digest_size=16).digest()

    def need(self, need: Need) -> None:
        need.requests.append(self._key)
        need.points.extend(self.customer.service_points)
        need.accounts.extend((self.customer.wallet_id, id_of(self.source)))
        if self.counter is not None:
            need.sellers.append((self.who, f"{self.shop.local(self.shop.world.now()).date()}"))

    def decide(self, unit: Unit) -> Paid:
        shop, customer = self.shop, self.customer
        known = unit.requests.get(self._key)
        if known is not None:
            if known.fingerprint != self._fingerprint:
                raise PaymentRefused(f"reference {self.reference} stands for another payment already")
            return Paid(receipt_of(known.id), {}, unit.balances[customer.wallet_id].available_minor, again=True)
        if self.amount_minor <= 0:
            raise PaymentRefused(f"an amount above zero expected, got {self.amount_minor} minor units")
        now, new_id, source = shop.world.now(), shop.world.new_id(), id_of(self.source)
        points = sorted(
            (unit.points[point] for point in customer.service_points if point in unit.points), key=lambda p: p.id
        )
        if not self.only_wallet and any(point.vending is not None for point in points):
            raise PaymentRefused("a purchase of this customer is being made: take the payment in a minute")
        left, debts, fixed, vat = self.amount_minor, dict[str, int](), 0, 0
        if not self.only_wallet:
            left, debts = self._pay_debts(unit, now, new_id, points, left)
            left, fixed, vat = self._pay_fixed(unit, now, new_id, points, left)
        if unit.balances[customer.wallet_id].closed_at is not None:
            raise PaymentRefused(f"account {customer.account_no} is closed")
        at, shift_id = self.counter, None
        if at is not None:
            shift_id = selling.take_payment(
                unit, new_id, self.who, at.station, at.station_id, at.needs_shift, at.tenders
            )
        limited = [customer.wallet_id, *([source] if source in unit.balances else [])]
        try:
            books.post(
                unit,
                new_id,
                "account_payment",
                entries.account_payment(
                    source=source,
                    wallet=customer.wallet_id,
                    amount_minor=self.amount_minor,
                    debts_minor=sum(debts.values()),
                    fixed_net_minor=fixed - vat,
                    vat_minor=vat,
                ),
                limited=limited,
                business_date=shop.local(now).date(),
                recorded_at=now,
            )
        except books.Overdrawn as short:
            raise Refusal(Reason.STATION_CREDIT_SPENT, available_minor=max(0, short.available_minor)) from None
        split = {"debts_minor": debts, "fixed_minor": fixed, "fixed_vat_minor": vat, "wallet_minor": left}
        return replace(self._store(unit, now, new_id, source, split), shift_id=shift_id)

    def _store(self, unit: Unit, now: datetime, new_id: UUID, source: UUID, split: dict[str, Any]) -> Paid:
        shop, customer, done, receipt = self.shop, self.customer, Done(), receipt_of(new_id)
        unit.insert(
            tables.request,
            (new_id, self._key, self._fingerprint, "payment", self.source, self.who, "", "AccountPayment", now),
        )
        unit.put("requests", self._key, StoredRequest(self._key, new_id, self._fingerprint))
        unit.insert(
            account_payment,
            (new_id, receipt, customer.id, source, self.amount_minor, json.dumps(split), self.who, now),
        )
        balance = unit.balances[customer.wallet_id].available_minor
        if self.to is not None:
            values = shop.money(
                account=customer.account_no,
                amount_minor=self.amount_minor,
                debt_minor=sum(split["debts_minor"].values()),
                fixed_minor=split["fixed_minor"],
                rest_minor=split["wallet_minor"],
                balance_minor=balance,
                receipt=receipt,
            )
            language = self.to.language or shop.settings.utility.default_language
            reply = Reply(
                shop.world.new_id(), new_id, "sms", "", self.to.msisdn, "", language, Message("account_paid", values)
            )
            owe(shop, unit, done, now, new_id, reply)
        return Paid(receipt, split, balance, done=done)

    def _pay_debts(
        self, unit: Unit, now: datetime, payment_id: UUID, points: list[Point], left: int
    ) -> tuple[int, dict[str, int]]:
        month, taken = f"{self.shop.local(now):%Y-%m}", dict[str, int]()
        everywhere = [debt for point in points for debt in unit.debts.get(point.id, ())]
        for debt in sorted(everywhere, key=lambda debt: (debt.priority, debt.code)):
            if debt.status == "ACTIVE" and (amount := min(left, debt.outstanding_minor)) > 0:
                taken[debt.code] = amount
                left -= amount
        for point in points:
            debts = unit.debts.get(point.id, ())
            if not any(debt.code in taken for debt in debts):
                continue
            # What is paid here counts as this month's instalment; a new month begins as with a purchase (R3).
            new_month = point.counter_month != month
            unit.put("debts", point.id, tuple(_paid(debt, taken.get(debt.code, 0), new_month) for debt in debts))
            unit.put(
                "points",
                point.id,
                replace(
                    point,
                    counter_month=month,
                    month_units_tenths=0 if new_month else point.month_units_tenths,
                    last_sale=payment_id,  # a sale before it is no longer the last to change this account
                ),
            )
        return left, taken

    def _pay_fixed(
        self, unit: Unit, now: datetime, payment_id: UUID, points: list[Point], left: int
    ) -> tuple[int, int, int]:
        """Charges that were asked for and not paid; their tax is that of the version in force."""
        local, paid, vat = self.shop.local(now).replace(tzinfo=None), 0, 0
        for before in points:
            point = unit.points[before.id]
            amount = min(left, point.fixed_shortfall_minor)
            if amount <= 0:
                continue
            tariff = unit.tariffs.get(point.tariff_code)
            version = tariff.version_at(local) if tariff else None
            if version is None:
                raise PaymentRefused(f"tariff {point.tariff_code} has no version for today, so its tax is not known")
            left, paid = left - amount, paid + amount
            vat += half_up(Fraction(amount) * version.vat_percent / (100 + version.vat_percent))
            shortfall = point.fixed_shortfall_minor - amount
            unit.put("points", point.id, replace(point, fixed_shortfall_minor=shortfall, last_sale=payment_id))
        return left, paid, vat


def _paid(debt: DebtRow, amount_minor: int, new_month: bool) -> DebtRow:
    recovered = 0 if new_month else debt.recovered_this_month_minor
    return replace(
        debt,
        outstanding_minor=debt.outstanding_minor - amount_minor,
        recovered_this_month_minor=recovered + amount_minor,
    )
