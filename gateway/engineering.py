"""Engineering tokens that stand in the books: the TID comes from the meter's own row, so no sale takes the same one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway import keptkeys, keyuse
from gateway.tokens import key_of, key_text
from gateway.vend import Shop, token_values
from ledger import tables
from ledger.batch import FILL_TOKEN
from ledger.unit import Need, TokenRow, Unit
from sts.errors import Fault
from sts.modules.contract import KeyMissing, ManagementRequest, ModuleRefused
from sts.modules.pool import Made as Answer
from sts.tid import next_tid


class MeterUnknown(Exception):
    """The books have no meter of this number."""


@dataclass(frozen=True, slots=True)
class Made:
    """An engineering token as made and stored."""

    digits: str
    tid: int


@dataclass(frozen=True, slots=True)
class Unmade:
    """An engineering token whose inputs are stored, for a module that must be waited for."""

    row: TokenRow
    request: ManagementRequest
    first: str


@dataclass(frozen=True, slots=True)
class MakeManagement:
    """Make one token of class 2 with a TID, and store it with its inputs. Refuses with StsError or MeterUnknown.

    `subclass` and `value` are those of `sts.modules.contract.ManagementRequest`.
    """

    shop: Shop
    drn: str
    subclass: int
    value: int

    def need(self, need: Need) -> None:
        need.meters.append(self.drn)

    def decide(self, unit: Unit) -> Made | Unmade:
        meter = unit.meters.get(self.drn)
        if meter is None:
            raise MeterUnknown(f"no meter {self.drn}")
        world, settings = self.shop.world, self.shop.settings.sts
        now, key = world.now(), key_of(meter)
        tid = next_tid(
            now,
            key.base_date,
            meter.last_tid,
            max_ahead_minutes=settings.tid_ahead_max_minutes,
            zone_offset_minutes=settings.base_date_offset_minutes,
        )
        request = ManagementRequest(key, self.subclass, tid, world.nibble(), self.value)
        row = TokenRow(
            purchase_id=world.new_id(),
            seq=0,
            meter_id=meter.id,
            kind="management",
            base_date=key.base_date,
            tid=tid,
            subclass=request.subclass,
            rnd=request.rnd,
            amount_field=request.value,
            units_tenths=0,
            supply_group=key.supply_group,
            key_revision=key.key_revision,
            key=key_text(key),
            new_key=None,
            digits=None,
        )
        if not self.shop.module.holds(key):
            raise KeyMissing(key)
        if not keyuse.count(unit, self.shop.module, meter, [row]):
            raise ModuleRefused(Fault.OUT_OF_RANGE, "the vending key has reached a limit: it makes no more tokens")
        unit.put("meters", meter.drn, replace(meter, last_tid=tid))
        if not self.shop.module.answers_at_once:
            unit.insert(tables.token, token_values(row))
            return Unmade(row, request, row.module or "")
        made = keptkeys.made(self.shop.module, request, now=now, first=row.module or "")
        (row.digits,), row.module = made.digits, made.by
        unit.insert(tables.token, token_values(row))
        return Made(row.digits, tid)


@dataclass(frozen=True, slots=True)
class FillManagement:
    """Put a module's answer to the inputs that were stored. Refuses KEY_MISSING if the key was ended meanwhile."""

    shop: Shop
    unmade: Unmade
    answer: Answer

    def need(self, need: Need) -> None:
        need.meters.append(self.unmade.request.key.drn)

    def decide(self, unit: Unit) -> Made:
        row, request, maker = self.unmade.row, self.unmade.request, self.answer.by
        if not keptkeys.may_still(self.shop.module, request, maker):
            raise KeyMissing(request.key)
        (digits,) = self.answer.digits
        unit.update(FILL_TOKEN, (row.purchase_id, row.seq, digits, maker))
        return Made(digits, request.tid)
