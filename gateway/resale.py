"""A sealed token that certainly nobody has seen, sold again to its meter instead of a new one (decision 0044).

Functions of the batch they are handed; they never commit. The token's row goes over from the sealed sale to the new
one, so that a token belongs to one purchase at any time. Certain is what stands in `Meter.unseen_sale`: set by the
reversal that has proof, gone with the next token that is made for the meter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from gateway import tokens
from gateway.purchase import State
from ledger import correction_tables
from ledger.batch import MOVE_TOKEN
from ledger.unit import Meter, PurchaseRow, TokenRow, Unit


def keep(unit: Unit, row: PurchaseRow) -> None:
    """Remember that nobody has seen the tokens of this sale, which is being sealed."""
    for meter in [meter for meter in unit.meters.values() if meter.id == row.meter_id]:
        unit.put("meters", meter.drn, replace(meter, unseen_sale=row.id))


def instead(
    unit: Unit, row: PurchaseRow, meter: Meter, wanted: Sequence[TokenRow]
) -> tuple[UUID, list[TokenRow], Meter] | None:
    """The sealed sale whose tokens are just those that this priced purchase wants, the tokens, and the meter with them.

    None unless all is equal but the token identifier: meter, amount, tariff and its version, key, units and kinds. The
    identifier must be the meter's last: one with later ones before it might be too old for the meter.
    """
    sealed = unit.unseen.get(meter.unseen_sale) if meter.unseen_sale is not None else None
    if sealed is None or unit.disclosed.get(sealed.id) or meter.next_key is not None:
        return None
    made = unit.tokens.get(sealed.id, ())
    now = sealed.state, sealed.amount_minor, sealed.tariff_code, sealed.tariff_version
    if now != (State.SEALED, row.amount_minor, row.tariff_code, row.tariff_version):
        return None
    if not made or [_content(one) for one in made] != [_content(one) for one in wanted]:
        return None
    if any(one.kind == tokens.KEY_CHANGE or one.digits is None for one in made) or made[-1].tid != meter.last_tid:
        return None
    return sealed.id, [replace(one, purchase_id=row.id) for one in made], replace(meter, unseen_sale=None)


def move(unit: Unit, sealed: UUID, row: PurchaseRow, made: Sequence[TokenRow], new_id: UUID, now: datetime) -> None:
    """The tokens are this purchase's from now on; that they were another's stays on record."""
    for token in made:
        unit.update(MOVE_TOKEN, (sealed, token.seq, row.id))
    unit.insert(correction_tables.resale, (new_id, sealed, row.id, len(made), now))
    unit.put("tokens", sealed, ())


def _content(token: TokenRow) -> tuple[object, ...]:
    """Everything of a token but which identifier and nibble it has, and its digits."""
    return (
        token.seq, token.kind, token.meter_id, token.base_date, token.subclass, token.amount_field,
        token.units_tenths, token.key, token.new_key,
    )  # fmt: skip
