"""What an approved correction does: money between accounts, and a token by the path of every sale.

A deed of the ledger's writer. Each case has an account of its own, filled once from whoever bears the cost; its token
is a purchase that this account pays for, with its inputs stored before any module is asked. If the module fails, the
money is back on the case's account, and approving again makes another attempt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from gateway import tokens
from gateway.purchase import SOLD, START, Event
from gateway.purchase import State as PurchaseState
from gateway.reversal import stands
from gateway.sale import account_of, after_json, priced_from_json, receipt_of, split_json
from gateway.undo import undo_json
from gateway.vend import Done, Life, Shop, Vending
from ledger import books, entries, pricing, selling, tables
from ledger.accounts import id_of
from ledger.audit import Origin
from ledger.batch import BLOCK_METER
from ledger.correction_tables import correction_state
from ledger.corrections import (
    Addressee,
    Case,
    CorrectionRefused,
    Kind,
    Owner,
    State,
    require_reason,
    require_source,
    require_there,
)
from ledger.operators import require_other
from ledger.pricing import Tariff
from ledger.unit import Meter, Need, Point, PurchaseRow, Unit
from sts.meterkey import MeterKey
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    ModuleRefused,
    ModuleSilent,
    ModuleStatus,
    TokenRequest,
)
from sts.tokens import Token

_FAILED: Final = (PurchaseState.RETURNED, PurchaseState.REFUSED)
_TOKEN_WITHIN: Final = timedelta(days=1)  # nobody waits at a counter for it


@dataclass(frozen=True, slots=True)
class Approved:
    """What an approval came to. `again`: it had been approved before, and nothing was done now."""

    state: str | None  # of the purchase that brings the token; None where money was given back
    issue_id: UUID | None
    again: bool = False
    done: Done = field(default_factory=Done, compare=False)


@dataclass(frozen=True, slots=True)
class Approve:
    """Carry out a correction, on the word of a second person. None: it changed since it was read; read it again.

    Raises CorrectionRefused, Refusal or OperatorRefused, and then nothing is written.
    """

    shop: Shop
    case: Case
    to: Addressee | None
    origin: Origin
    owner: Owner
    """Whose the service point was when the sale was made."""

    def need(self, need: Need) -> None:
        need.undone.append(self.case.purchase_id)
        need.accounts.append(self.owner.wallet_id)
        need.day_of, need.wallets_have_days = self.shop.day, bool(self.shop.settings.wallet.per_day_max_minor)
        need.accounts.append(id_of(self.case.account_code))
        if self.case.drn:
            need.meters.append(self.case.drn)
        if self.case.issue_id is not None:
            need.purchases.append(self.case.issue_id)

    def decide(self, unit: Unit) -> Approved | None:
        case = self.case
        require_reason(self.origin)
        require_other(case.asked_by, self.origin.who, f"correction {case.code}")
        (mine,) = [one for one in unit.corrections[case.purchase_id] if one.id == case.id]
        if (mine.seq, mine.issue_id) != (case.seq, case.issue_id):
            return None
        if not stands(mine):
            raise CorrectionRefused(f"correction {case.code} was refused")
        issue = unit.purchases[mine.issue_id] if mine.issue_id is not None else None
        if mine.state == State.APPROVED and (issue is None or PurchaseState(issue.state) not in _FAILED):
            return Approved(issue.state if issue else None, mine.issue_id, again=True)
        original = unit.purchases[case.purchase_id]
        if PurchaseState(original.state) not in SOLD:
            raise CorrectionRefused(f"the purchase of receipt {case.receipt} is {original.state}")
        done, now = Done(), self.shop.world.now()
        if case.kind is Kind.REFUND_MONEY:
            self._refund(unit, done, now, Life.of(unit, original))
            issued = None
        else:
            issued = self._issue(unit, done, now, original)
        origin = self.origin
        unit.insert(
            correction_state,
            (
                case.id,
                mine.seq + 1,
                State.APPROVED.value,
                origin.who,
                now,
                origin.place,
                origin.reason,
                issued.id if issued else None,
            ),
        )
        return Approved(issued.state if issued else None, issued.id if issued else None, done=done)

    def _refund(self, unit: Unit, done: Done, now: datetime, life: Life) -> None:
        row, point = life.row, unit.points[life.row.service_point_id]
        if point.vending is not None or point.last_sale != row.id:
            raise CorrectionRefused("only the last sale of its service point is undone: later ones were priced on it")
        days = self.shop.settings.corrections.refund_days
        if now > row.accepted_at + timedelta(days=days):
            raise CorrectionRefused(f"the sale is older than {days} days")
        is_cash = self.case.details.get("to") == "cash"
        assert row.payer_id is not None
        if not is_cash:
            require_source(row.channel)
        payer = unit.balances.get(row.payer_id)
        if not is_cash and payer is not None and payer.closed_at is not None:
            raise CorrectionRefused("the account that paid is closed since: refuse this one and ask with --to cash")
        if not is_cash and not selling.is_undoable(unit, row.id, row.channel):
            raise CorrectionRefused("the shift that sold it is closed: refuse this one and ask with --to cash")
        if payer is not None and payer.closed_at is not None:
            # The money passes through the closed account on its way to the office, which pays it out: nothing stays.
            unit.put("balances", row.payer_id, replace(payer, closed_at=None))
        Vending(self.shop, unit, done, now).walk(life, Event.REFUND_APPROVED)
        if not is_cash:
            selling.count(unit, row, -1)  # the drawer gives the money back
        else:
            self._post(
                unit, "payout", entries.moved(row.payer_id, id_of("cash:office"), row.amount_minor), row.payer_id, now
            )
            if payer is not None and payer.closed_at is not None:
                unit.put("balances", row.payer_id, replace(unit.balances[row.payer_id], closed_at=payer.closed_at))

    # --- a token ---

    def _issue(self, unit: Unit, done: Done, now: datetime, original: PurchaseRow) -> PurchaseRow:
        case = self.case
        meter = unit.meters.get(case.drn)
        point = unit.points.get(meter.service_point_id) if meter and meter.service_point_id else None
        if meter is None or point is None or meter.status != "INSTALLED":
            raise CorrectionRefused(f"meter {case.drn} is not installed: it can take no token")
        if point.vending is not None:
            raise CorrectionRefused(f"a purchase for meter {case.drn} is being made: approve again in a minute")
        tariff = unit.tariffs.get(point.tariff_code)
        if tariff is None:
            raise CorrectionRefused(f"tariff {point.tariff_code} is missing")
        payer = id_of(case.account_code)
        if not unit.balances[payer].posted_minor:
            self._fund(unit, now, original, payer)
        life = self._life(now, meter, point, payer)
        self._price(unit, now, life, point, tariff)
        Vending(self.shop, unit, done, now).walk(life, Event.QUOTED)
        return life.row

    def _life(self, now: datetime, meter: Meter, point: Point, payer: UUID) -> Life:
        case, shop, to = self.case, self.shop, self.to
        new_id = shop.world.new_id()
        return Life(
            PurchaseRow(
                id=new_id,
                meter_id=meter.id,
                service_point_id=point.id,
                channel="sms",
                peer="",  # by any link
                sender=to.msisdn if to else "",
                destination="",
                language=(to.language if to else None) or shop.settings.utility.default_language,
                amount_minor=case.amount_minor,
                state=START.state.value,
                owed=START.effect.value,
                reason=None,
                payer_id=payer,
                station_id=None,
                tariff_code=point.tariff_code,
                tariff_version=None,
                units_tenths=None,
                sale=None,
                receipt=receipt_of(new_id),
                accepted_at=now,
                expires_at=now + _TOKEN_WITHIN,
            ),
            meter,
        )

    def _price(self, unit: Unit, now: datetime, life: Life, point: Point, tariff: Tariff) -> None:
        """The case's money as a sale to the right meter; or units that are given, of which no debt takes its part."""
        case, shop, row = self.case, self.shop, life.row
        local = shop.local(now).replace(tzinfo=None)
        account = account_of(point, unit.debts.get(point.id, ()))
        given = self._given(tariff, account, local)
        sold: pricing.Sale | tokens.Given
        if given is None:
            sale = sold = pricing.price(
                tariff, account, case.amount_minor, local, fee_minor=0, debt_cap_percent=shop.debt_cap_percent
            )
            life.split, life.after = split_json(sale, None), after_json(sale.after)
        else:
            sold = given
            life.split = {**_nothing(account), "units_tenths": given.units_tenths, "given_minor": case.amount_minor}
            life.after = after_json(account)
        version = tariff.version_at(local)
        life.split |= {
            "tariff_version": version.name if version else "",
            "account": priced_from_json(account, shop.debt_cap_percent),
            "undo": undo_json(point, life.meter),
            "case": case.receipt,
        }
        row.tariff_version, row.units_tenths = life.split["tariff_version"], sold.units_tenths
        minting = tokens.Minting(shop.settings.sts, shop.module, shop.world.nibble, now)
        life.tokens, life.meter = tokens.inputs(minting, row.id, life.meter, sold)
        key = f"correction|{case.code}/{case.seq}"
        fingerprint = hashlib.blake2b(key.encode(), digest_size=16).digest()
        unit.insert(
            tables.request, (row.id, key, fingerprint, "correction", "", self.origin.who, "", "Correction", now)
        )

    def _given(self, tariff: Tariff, account: pricing.Account, local: datetime) -> tokens.Given | None:
        case = self.case
        if case.kind is Kind.WRONG_METER:
            return None
        if case.kind is Kind.FAULTY_METER:
            return tokens.Given(*pricing.encodable(case.units_tenths, up=True))
        # What the money buys where the account stands in its blocks, and nothing is taken from it.
        bare = replace(
            account,
            fixed_through_month=f"{local:%Y-%m}",
            fixed_through_date=local.date(),
            fixed_shortfall_minor=0,
            carry_minor=0,
            free_kwh_per_month=None,
            debts=(),
        )
        sale = pricing.price(
            tariff, bare, case.amount_minor, local, fee_minor=0, debt_cap_percent=self.shop.debt_cap_percent
        )
        if not sale.units_tenths:
            raise CorrectionRefused(f"{case.amount_minor} minor units are worth less than a tenth of a kWh")
        return tokens.Given(sale.units_tenths, sale.amount_field)

    # --- money ---

    def _fund(self, unit: Unit, now: datetime, original: PurchaseRow, account: UUID) -> None:
        """Once a case: fill its account from whoever bears it."""
        case, source = self.case, {Kind.REFUND_TOKEN: "loss:refunds", Kind.FAULTY_METER: "loss:replacements"}
        bearer = source.get(case.kind, "loss:wrong_meter")
        if case.kind is Kind.WRONG_METER:
            wrong = case.details["wrong"]
            if wrong != "loss":
                self._require_bearer(unit, original, wrong)
            if wrong == "debit":
                bearer = "receivable:arrears"
                self._debit(unit, original)
            elif wrong == "block":
                unit.update(BLOCK_METER, (original.meter_id, "BLOCKED"))
        self._post(unit, "correction", entries.moved(id_of(bearer), account, case.amount_minor), account, now)

    def _require_bearer(self, unit: Unit, original: PurchaseRow, wrong: str) -> None:
        """Refuse to charge, or to block, somebody else than the customer whose meter took the energy."""
        place = original.service_point_id
        require_there(self.owner, unit.points[place].customer_id == self.owner.customer_id)
        if wrong == "block" and Life.of(unit, original).meter.service_point_id != place:
            raise CorrectionRefused("the meter has left the service point of this sale: ask with --wrong debit or loss")
        if wrong == "debit" and unit.balances[self.owner.wallet_id].closed_at is not None:
            raise CorrectionRefused(f"account {self.owner.account_no} is closed since: ask with --wrong loss")

    def _debit(self, unit: Unit, original: PurchaseRow) -> None:
        """Whoever has the energy now owes it, first of all debts."""
        values = {
            "id": self.shop.world.new_id(),
            "code": f"C-{self.case.code}",
            "service_point_id": original.service_point_id,
            "kind": "WRONG_METER",
            "priority": 1,
            "mode": "FIRST",
            "outstanding_minor": self.case.amount_minor,
            "instalment_minor": 0,
            "percent": "0",
            "status": "ACTIVE",
            "recovered_this_month_minor": 0,
        }
        unit.insert(tables.debt, tuple(values.get(column.name) for column in tables.debt.columns))

    def _post(self, unit: Unit, kind: str, postings: Sequence[entries.Posting], limited: UUID, now: datetime) -> None:
        books.post(
            unit,
            self.shop.world.new_id(),
            kind,
            postings,
            limited=(limited,) if limited in unit.balances else (),  # what a bank owes us has no floor
            business_date=self.shop.local(now).date(),
            recorded_at=now,
            purchase_id=self.case.purchase_id,
        )


def _nothing(account: pricing.Account) -> dict[str, Any]:
    """The split of what is not sold: all zero, and the carry as it is."""
    return {
        "energy_net_minor": 0,
        "energy_vat_minor": 0,
        "charges_minor": {},
        "fee_minor": 0,
        "fee_vat_minor": 0,
        "fixed_minor": 0,
        "fixed_vat_minor": 0,
        "debts_minor": {},
        "carry_in_minor": account.carry_minor,
        "carry_out_minor": account.carry_minor,
        "units_exact": "0/1",
        "free_units_tenths": 0,
        "commission_minor": 0,
        "station_code": "",
    }


@dataclass(frozen=True, slots=True)
class PriceOfUnits:
    """What these units cost now on this meter's service point, in minor units. Writes nothing.

    Raises CorrectionRefused, or Refusal TARIFF_MISSING.
    """

    shop: Shop
    drn: str
    units_tenths: int

    def need(self, need: Need) -> None:
        need.meters.append(self.drn)

    def decide(self, unit: Unit) -> int:
        meter = unit.meters.get(self.drn)
        point = unit.points.get(meter.service_point_id) if meter and meter.service_point_id else None
        tariff = unit.tariffs.get(point.tariff_code) if point else None
        if point is None or tariff is None:
            raise CorrectionRefused(f"meter {self.drn} is on no service point with a tariff")
        local = self.shop.local(self.shop.world.now())
        bought = point.month_units_tenths if point.counter_month == f"{local:%Y-%m}" else 0
        return pricing.worth(tariff, bought, self.units_tenths, local.replace(tzinfo=None))


class GatewaysModule:
    """Satisfies `SecurityModule` where there are no keys: inputs are stored, and the running gateway asks its module.

    A back-office command needs no vending keys. Whether the gateway has the key is seen when it asks.
    """

    name = "gateway"
    answers_at_once = False

    def holds(self, key: MeterKey) -> bool:
        return True

    def status(self) -> ModuleStatus:
        return ModuleStatus(self.name, "none", True, ())

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        raise ModuleSilent("the gateway makes it")

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        raise ModuleSilent("the gateway makes them")

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        raise ModuleSilent("the gateway makes it")

    def verify(self, digits: str, key: MeterKey) -> Token:
        raise ModuleSilent("the gateway verifies it")

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        raise ModuleSilent("the gateway makes it")

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        raise ModuleSilent("the gateway makes it")

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        raise ModuleSilent("the gateway verifies it")
