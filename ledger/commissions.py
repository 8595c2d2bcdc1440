"""Commission schemes: what a station earns by a sale, by date and by the size of the sale. Pure.

A scheme is JSON: a list of versions, each with the local date it holds from and its steps; a step holds from an amount
tendered. A step's parts are exact and rounded once, half up, so that a scheme of one percentage is R13 to the minor
unit:

    percent of the money tendered + fixed for the sale + an amount for each kWh + percent of debts collected

It is earned with the sale, posted in the sale's transaction beside its split, owed to the station and undone by the
sale's reversal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from ledger.money import half_up

_PERCENT: Final = re.compile(r"(0|[1-9]\d{0,2})(\.\d{1,6})?")
STEPS_MAX: Final = 20


class SchemeFault(ValueError):
    """A scheme that cannot be used; says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a sale of at least `from_minor` earns. `per_kwh_minor` is exact and may be a part of a minor unit."""

    from_minor: int = 0
    percent: str = "0"
    fixed_minor: int = 0
    per_kwh_minor: str = "0"
    debt_percent: str = "0"

    def earned_minor(self, amount_minor: int, units_tenths: int, debts_minor: int) -> int:
        """The commission of one sale, half up, once."""
        return half_up(
            Fraction(self.percent) * amount_minor / 100
            + self.fixed_minor
            + Fraction(self.per_kwh_minor) * units_tenths / 10
            + Fraction(self.debt_percent) * debts_minor / 100
        )


@dataclass(frozen=True, slots=True)
class Version:
    """The steps that hold from a local date, by rising `from_minor`, the first from 0."""

    effective_from: date
    steps: tuple[Step, ...]


def version(effective_from: date, steps: Sequence[Step]) -> Version:
    """A version that can be used. SchemeFault for steps that are not in order or figures that cannot be meant."""
    if not 1 <= len(steps) <= STEPS_MAX:
        raise SchemeFault(f"1 to {STEPS_MAX} steps expected, got {len(steps)}")
    before = -1
    for number, step in enumerate(steps, start=1):
        where = f"step {number}"
        if step.from_minor <= before or (number == 1 and step.from_minor != 0):
            raise SchemeFault(f"{where}: steps start at 0 and rise, got {step.from_minor}")
        before = step.from_minor
        _percent(f"{where}: percent", step.percent)
        _percent(f"{where}: debt percent", step.debt_percent)
        if not _PERCENT.fullmatch(step.per_kwh_minor) or step.fixed_minor < 0:
            raise SchemeFault(f"{where}: an amount that is not negative expected")
    return Version(effective_from, tuple(steps))


def _percent(where: str, text: str) -> None:
    if not _PERCENT.fullmatch(text) or Decimal(text) > 100:
        raise SchemeFault(f"{where}: 0 to 100 with at most six decimals expected, got {text!r}")
    # 2.5 percent is entered as 2.5. 0.025 is taken for the slip it is in nearly every case.
    if 0 < Decimal(text) < Decimal("0.1"):
        raise SchemeFault(f"{where}: percent expected, as in 2.5; {text} looks like a fraction of one")


@lru_cache(maxsize=1024)
def read(rules: str) -> tuple[Version, ...]:
    """The versions of a stored scheme, oldest first. SchemeFault for what cannot be used."""
    try:
        found = [
            version(date.fromisoformat(each["from"]), [_step(step) for step in each["steps"]])
            for each in json.loads(rules)
        ]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise SchemeFault(f"a list of versions with from and steps expected: {error}") from None
    dates = [each.effective_from for each in found]
    if dates != sorted(set(dates)):
        raise SchemeFault("versions: dates that rise expected")
    return tuple(found)


def _step(values: Mapping[str, Any]) -> Step:
    return Step(
        int(values["from_minor"]),
        str(values["percent"]),
        int(values["fixed_minor"]),
        str(values["per_kwh_minor"]),
        str(values["debt_percent"]),
    )


def write(versions: Sequence[Version]) -> str:
    """The versions as they are stored."""
    return json.dumps(
        [
            {
                "from": each.effective_from.isoformat(),
                "steps": [{name: getattr(step, name) for name in Step.__slots__} for step in each.steps],
            }
            for each in versions
        ],
        separators=(",", ":"),
    )


def with_version(versions: Sequence[Version], new: Version, today: date) -> tuple[Version, ...]:
    """The versions with a new one, or with one that has not begun replaced. Refuses to touch what sales used.

    The first version of a scheme may begin today; a later one tomorrow at the earliest.
    """
    if new.effective_from < today or (versions and new.effective_from == today):
        raise SchemeFault(f"from: a date after {today} expected, got {new.effective_from}: sales may have used it")
    kept = [each for each in versions if each.effective_from != new.effective_from]
    return tuple(sorted([*kept, new], key=lambda each: each.effective_from))


def earned_minor(
    rules: str | None,
    percent: str | None,
    day: date,
    *,
    amount_minor: int,
    units_tenths: int,
    debts_minor: int,
) -> int:
    """What a station earns by a sale on this local day: by its scheme, or else by its percentage (R13).

    Nothing, while no version of its scheme holds yet.
    """
    if rules is None:
        return Step(percent=percent or "0").earned_minor(amount_minor, units_tenths, debts_minor)
    holding = [each for each in read(rules) if each.effective_from <= day]
    if not holding:
        return 0
    step = [step for step in holding[-1].steps if step.from_minor <= amount_minor][-1]
    return step.earned_minor(amount_minor, units_tenths, debts_minor)
