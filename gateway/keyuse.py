"""Tokens and the limits of the vending keys they are made under, per module, in the transaction that stores them. Pure.

Where one of a key's holders has a limit, the module that shall make a token is chosen before it is asked, and the token
counted there (`count`). If another one made it in the end, because the first was away, the count moves with it
(`settle`). Where no holder has a limit nothing is counted, and the pool asks whom it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway import keptkeys, tokens
from gateway.tokens import ModuleRequest
from ledger.unit import KeyLimit, KeyPlace, Meter, TokenRow, Unit
from sts.meterkey import MeterKey
from sts.modules.contract import SecurityModule


@dataclass(frozen=True, slots=True)
class Asked:
    """What a module is asked, which one first, and which others may be; `token_count` tokens come of it."""

    request: ModuleRequest
    token_count: int
    first: str
    among: tuple[str, ...]


def count(unit: Unit, module: SecurityModule, meter: Meter, made: Sequence[TokenRow]) -> bool:
    """Count tokens that are about to be stored, and name in each the module it counts for; False at a limit.

    A token that is given up later stays counted: the module may have made it.
    """
    if not unit.key_limits:
        return True
    counted = _Counted(unit)
    for token in made:
        name = tokens.key_name(token)
        places: list[KeyPlace] = [(*name, one) for one in keptkeys.holders(module, _key(meter, token))]
        if not any(counted.limit(place) for place in places):
            continue
        chosen = next((place for place in places if counted.has_room(place, token)), None)
        if chosen is None:
            return False
        counted.add(chosen, token)
        token.module = chosen[-1]
    counted.keep()
    return True


def asked(unit: Unit, module: SecurityModule, meter: Meter, made: Sequence[TokenRow]) -> tuple[Asked, ...]:
    """What is asked of the module for tokens that are stored; those at a limit are not asked."""
    counted, found, place = _Counted(unit), list[Asked](), 0
    for request, token_count in tokens.requests(meter, made):
        token = made[place]
        name = tokens.key_name(token)
        among = [
            one
            for one in keptkeys.holders(module, request.key)
            if one == token.module or counted.has_room((*name, one), token)
        ]
        found.append(Asked(request, token_count, token.module or "", tuple(among)))
        place += token_count
    return tuple(found)


def settle(unit: Unit, module: SecurityModule, meter: Meter, made: Sequence[TokenRow], makers: Sequence[str]) -> bool:
    """Take down who made each token; False if one of them may not any more, or has passed its limit by it."""
    counted, place = _Counted(unit), 0
    for request, token_count in tokens.requests(meter, made):
        maker = makers[place]
        if not keptkeys.may_still(module, request, maker):
            return False
        for token in made[place : place + token_count]:
            if token.module != maker:
                name = tokens.key_name(token)
                if not counted.has_room((*name, maker), token):
                    return False
                counted.add((*name, maker), token)
                if token.module is not None:
                    counted.take((*name, token.module), token)
                token.module = maker
        place += token_count
    counted.keep()
    return True


class _Counted:
    """Totals while they are worked out; `keep` puts them into the unit."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._changed: dict[KeyPlace, KeyLimit] = {}

    def limit(self, place: KeyPlace) -> KeyLimit | None:
        return self._changed.get(place) or self._unit.key_limits.get(place)

    def has_room(self, place: KeyPlace, token: TokenRow) -> bool:
        limit = self.limit(place)
        return limit is None or limit.with_more(1, token.units_tenths) is not None

    def add(self, place: KeyPlace, token: TokenRow) -> None:
        limit = self.limit(place)
        more = limit.with_more(1, token.units_tenths) if limit is not None else None
        if more is not None:
            self._changed[place] = more

    def take(self, place: KeyPlace, token: TokenRow) -> None:
        limit = self.limit(place)
        if limit is not None and limit.tokens_made >= 1 and limit.units_made_tenths >= token.units_tenths:
            self._changed[place] = limit.with_less(1, token.units_tenths)

    def keep(self) -> None:
        for place, limit in self._changed.items():
            self._unit.put("key_limits", place, limit)


def _key(meter: Meter, token: TokenRow) -> MeterKey:
    return tokens.key_from(token.key, meter.drn, meter.iin)
