"""Engineering tokens that stand in the books: the TID comes from the meter's own row, so no sale takes the same one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.tokens import key_of, key_text
from gateway.vend import Shop
from ledger import tables
from ledger.unit import Need, Unit
from sts.modules.contract import ManagementRequest
from sts.tid import next_tid


class MeterUnknown(Exception):
    """The books have no meter of this number."""


@dataclass(frozen=True, slots=True)
class Made:
    """An engineering token as made and stored."""

    digits: str
    tid: int


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

    def decide(self, unit: Unit) -> Made:
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
        digits = self.shop.module.make(request, now=now)
        unit.put("meters", meter.drn, replace(meter, last_tid=tid))
        unit.insert(
            tables.token,
            (
                world.new_id(),
                0,
                meter.id,
                "management",
                key.base_date,
                tid,
                request.subclass,
                request.rnd,
                request.value,
                0,
                key.supply_group,
                key.key_revision,
                key_text(key),
                None,
                digits,
            ),
        )
        return Made(digits, tid)
