"""Messages and refusals in words. Pure: no I/O, no clock; the words themselves are in config/languages/.

The keys and their values (JSON types only; `*_minor` minor units, `*_tenths` tenths of a kWh). Messages with money
carry `currency` (ISO 4217) and `minor_digits`. Values in brackets may be absent; what is zero is left out.

sold            drn amount_minor units_tenths tokens receipt [energy_minor vat_minor charges_minor debt_minor
                fixed_minor fee_minor carry_minor balance_minor]
sold_no_token   as sold, without tokens and units_tenths
last_token      drn tokens units_tenths amount_minor bought_at receipt
corrected       as sold, and original (the receipt that is corrected); the split is not shown
account_paid    account amount_minor receipt balance_minor [debt_minor fixed_minor rest_minor]
in_progress     drn amount_minor
statement       balance_minor [debt_minor] [debts: [{"kind", "outstanding_minor"}]]
price           drn amount_minor by [units_tenths free_units_tenths owner area, and the split and balance_minor as sold]
help            [utility short_code]
counter_head    utility station operator sold_at
counter_paid    [cash_minor card_minor cheque_minor]
counter_in_progress  reference [drn amount_minor]
counter_copy
counter_price   as price
counter_debt    debt taken_minor left_minor
counter_just_bought  as just_bought
opted_out       [utility]
opted_in        [utility]
language_set  pin_set
topped_up       amount_minor balance_minor
payment_held    amount_minor days code [receipt]
payment_kept    amount_minor balance_minor
payment_waits   drn amount_minor

and every Reason in lower case, of which these have values: meter_invalid [drn], meter_unknown drn, meter_blocked [drn],
meter_replaced drn new_drn, amount_needed [drn], amount_min min_minor, amount_max max_minor,
funds_short balance_minor amount_minor,
station_credit_spent [available_minor], station_blocked [station], shift_needed [operator],
seller_limit [available_minor], not_permitted [drn], just_bought drn amount_minor seconds again [receipt],
no_token_yet [drn], meter_needed [saved: "1 = 04012345676, 2 = 07003012213"], too_often [minutes],
not_your_meter drn, meter_key_ended [drn], key_change_needed drn,
key_change_first drn [tokens], key_limit_reached [drn], tokens_too_fast [drn], key_missing [drn],
pin_wrong [left], wallet_limit [available_minor], voucher_unknown [left],
voucher_expired day, voucher_too_small value_minor amount_minor,
module_refused [drn], pay_first drn amount_minor how [units_tenths], paid_less paid_minor amount_minor balance_minor,
payment_no_funds, payment_cancelled, payment_wrong_pin and payment_failed amount_minor,
payment_expired drn amount_minor, price_changed drn, reversed [amount_minor drn receipt],
refunded amount_minor drn receipt.

tokens: [{"digits", "kind": "credit" | "free" | "key_change", "units_tenths", ["place", "of"]}], in the order in which
they are entered.
The parts of a split sum to amount_minor: energy, fixed and fee are net of tax, vat is all of it, carry is what is kept
for the next time less what was kept before. bought_at is local, "2026-06-05 11:15".
"""

from __future__ import annotations

from typing import Any

from channels.contract import Message
from config.languages import NO_BREAK_SPACE, Catalogue, groups_of_four
from ledger.reasons import Refusal


def render(message: Message, language: str, catalogue: Catalogue) -> str:
    """The text of a message in a language, or in the nearest that has it. Never raises."""
    return catalogue.text(message.key, message.values, language)


def keep_whole(message: Message) -> list[str]:
    """The tokens of a message as they stand in its text: no short message may end within one.

    Each is given in both forms in which a language may write it, with blanks and with no-break spaces.
    """
    tokens = message.values.get("tokens")
    if not isinstance(tokens, (list, tuple)):
        return []
    digits = [token["digits"] for token in tokens if isinstance(token, dict) and isinstance(token.get("digits"), str)]
    return [groups_of_four(token, between) for token in digits if token for between in (" ", NO_BREAK_SPACE)]


def refused(refusal: Refusal, **values: Any) -> Message:
    """The message that tells a refusal; `values` are added to the refusal's own (currency, minor_digits)."""
    return Message(refusal.reason.value.lower(), {**values, **refusal.values})
