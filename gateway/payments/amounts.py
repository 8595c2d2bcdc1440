"""Amounts as providers write them, read without guessing and written without loss. Pure.

No float on the way: JSON is read with Decimal, texts are read as digits. A fraction below the minor unit, a sign, a
nought, another currency are refused by name, never rounded.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from channels.http.callback import NotReadable

_PLAIN: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
_DIGITS_MAX: Final = 15


class Unfit(Exception):
    """An amount that a source cannot take. `why` is a stable name: currency, not_positive, fraction."""

    def __init__(self, why: str, expected: str) -> None:
        super().__init__(f"amount: {why}: {expected} expected")
        self.why: Final = why


def fit(amount_minor: int, currency: str, *, only: str, step_minor: int) -> int:
    """The amount, if it is in the source's one currency, above nought and a multiple of `step_minor`. Raises Unfit."""
    if currency != only:
        raise Unfit("currency", only)
    if amount_minor <= 0:
        raise Unfit("not_positive", "more than nought")
    if amount_minor % step_minor:
        raise Unfit("fraction", f"a multiple of {step_minor} minor units")
    return amount_minor


def written(amount_minor: int, minor_digits: int) -> str:
    """As a decimal number in currency units, the fraction only where there is one: 50000 of two digits is "500"."""
    whole, fraction = divmod(amount_minor, 10**minor_digits)
    return f"{whole}.{fraction:0{minor_digits}d}" if fraction else str(whole)


def amount_of(value: object, where: str, minor_digits: int) -> int:
    """A provider's amount in minor units: JSON's number, or a text such as "500.00". Raises NotReadable.

    Its names: missing, amount (no number at all), negative, fraction (below the minor unit), not_positive.
    """
    if value is None:
        raise NotReadable("missing", where)
    if isinstance(value, bool):
        raise NotReadable("amount", where)
    if isinstance(value, int):
        found = Decimal(value)
    elif isinstance(value, Decimal):
        found = value
    elif isinstance(value, str):
        if value.startswith("-") and _PLAIN.fullmatch(value[1:]):
            raise NotReadable("negative", where)
        if not _PLAIN.fullmatch(value):
            raise NotReadable("amount", where)
        found = Decimal(value)
    else:
        raise NotReadable("amount", where)
    # Before any arithmetic: a number such as 1E+999999 would take all memory.
    if not found.is_finite() or abs(found.adjusted()) > _DIGITS_MAX or len(found.as_tuple().digits) > 2 * _DIGITS_MAX:
        raise NotReadable("amount", where)
    if found < 0:
        raise NotReadable("negative", where)
    minor = found.scaleb(minor_digits)
    if minor != minor.to_integral_value():
        raise NotReadable("fraction", where)
    if not minor:
        raise NotReadable("not_positive", where)
    return int(minor)
