"""Ids of messages as message centres write them: one way in a response, another in a receipt. Pure.

Seen in the field: hexadecimal in the response and decimal in the receipt, or the reverse; leading zeros added or cut
off; another case; UUIDs. A part that was sent is stored under the normal form of the id in its response; a receipt is
looked up under every form in which its id may have stood there.
"""

from __future__ import annotations

from enum import StrEnum

_NUMBER_DIGITS_MAX = 40


class IdForms(StrEnum):
    """How ids in receipts are to those in responses, at one message centre."""

    AUTO = "auto"  # whichever fits; the customer's number must be the same anyway. Short running numbers may mislead it
    SAME = "same"
    HEX_DECIMAL = "hex_decimal"  # hexadecimal in the response, decimal in the receipt
    DECIMAL_HEX = "decimal_hex"


def normal(message_id: str) -> str:
    """Give the id in lower case, without white space around it and zeros before it."""
    return message_id.strip().lower().lstrip("0") or "0"


def forms(message_id: str, how: IdForms = IdForms.AUTO) -> tuple[str, ...]:
    """Give the normal forms of the response's id that a receipt's id may mean, the likeliest first."""
    same = normal(message_id)
    as_hex = _converted(same, 10)
    as_decimal = _converted(same, 16)
    wanted = {
        IdForms.AUTO: (same, as_hex, as_decimal),
        IdForms.SAME: (same,),
        # Where the way is known nothing is guessed: another message to the same customer may bear the other form.
        IdForms.HEX_DECIMAL: (as_hex or same,),
        IdForms.DECIMAL_HEX: (as_decimal or same,),
    }[how]
    return tuple(dict.fromkeys(form for form in wanted if form))


def _converted(text: str, base: int) -> str:
    digits = "0123456789" if base == 10 else "0123456789abcdef"
    if len(text) > _NUMBER_DIGITS_MAX or any(character not in digits for character in text):
        return ""
    return f"{int(text, 10):x}" if base == 10 else str(int(text, 16))
