"""A purchase, or a meter, as what a bank is answered. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Final

from channels import wording
from channels.contract import Message
from channels.iso8583.answers import Said, TokenSaid, room
from channels.iso8583.codes import Outcome
from channels.iso8583.flows import Told
from channels.iso8583.profile import Profile
from config.languages import Catalogue
from gateway.purchase import SOLD, State
from gateway.tokens import KEY_CHANGE
from gateway.vend import Shop, sold_message
from ledger.reasons import Reason
from ledger.unit import PurchaseRow, TokenRow

_FREE: Final = "10"
_CREDIT: Final = "00"
_LINE: Final = "|"  # a new line in printable text; source: the default profile's field 63


def sold(
    shop: Shop,
    catalogue: Catalogue,
    profile: Profile,
    row: PurchaseRow,
    drn: str,
    made: Sequence[TokenRow],
    language: str,
) -> Told:
    """The answer to a purchase that was sold; the same for each repeat, since all of it is in the books.

    Units in hundredths. Energy, tax (VAT and levies), fixed charges (fees with them) and debt are what the money went
    to; what is kept for the next time is in none of them.
    """
    split = json.loads(row.sale or "{}")
    receipt = row.receipt or ""
    vat = split["energy_vat_minor"] + split["fee_vat_minor"] + split["fixed_vat_minor"]
    fixed = split["fixed_minor"] - split["fixed_vat_minor"] + split["fee_minor"] - split["fee_vat_minor"]
    places: dict[str, str | int] = {
        # Its last characters hold all of the receipt's chance, and are as many as the field has.
        "receipt": receipt[-(room(profile, "receipt") or len(receipt)) :],
        "receipt_text": receipt[-(room(profile, "receipt_text") or len(receipt)) :],
        "energy": split["energy_net_minor"],
        "tax": vat + sum(split["charges_minor"].values()),
        "fixed": fixed,
        "debt": sum(split["debts_minor"].values()),
    }
    if "text" in profile.places:
        message = sold_message(shop, row, drn, split, list(made), 0)
        places["text"] = _text(catalogue, profile, message, language)
    return Told(Outcome.APPROVED, Said(_tokens(made), places))


def _tokens(made: Sequence[TokenRow]) -> list[TokenSaid]:
    said: list[TokenSaid] = []
    for token in made:
        assert token.digits is not None, "sold without its token"
        if token.kind == KEY_CHANGE:
            kind = f"{sum(one.kind not in (_CREDIT, _FREE) for one in said) + 1:02d}"
        else:
            kind = _FREE if token.kind == "free" else _CREDIT
        said.append(TokenSaid(token.digits, token.units_tenths * 10, kind))
    return said


def _text(catalogue: Catalogue, profile: Profile, message: Message, language: str) -> str:
    """The receipt as printable text, within its field: in English where its characters cannot say it otherwise."""
    values = {name: value for name, value in message.values.items() if name != "balance_minor"}
    number = profile.places["text"]
    if not number.isdecimal():
        return ""
    form = profile.packager.fields.codecs[int(number)].form
    for tried in (language, "en"):
        text = wording.render(Message(message.key, values), tried, catalogue).strip()
        plain = unicodedata.normalize("NFKD", text.replace("\n", _LINE))
        plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
        if plain.isascii() and plain.isprintable():
            return plain[: form.length]
    return ""


def ended(state: State, row: PurchaseRow) -> Told:
    """The answer to a purchase that came to nothing, or was taken back."""
    assert state not in SOLD, "sold"
    return Told(Reason(row.reason) if row.reason else Reason.MODULE_SILENT)
