"""How people write their currency beside its code. Data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CURRENCY_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "AOA": ("kz", "kwanza", "kwanzas"),
    "CDF": ("fc", "franc", "francs"),
    "DZD": ("da", "dinar", "dinars", "دج", "دينار"),
    "EGP": ("le", "pound", "pounds", "جنيه"),
    "ETB": ("birr",),
    "EUR": ("€", "euro", "euros"),
    "GHS": ("cedi", "cedis", "₵"),
    "KES": ("ksh", "kshs", "sh", "shs", "shilling", "shillings", "shilingi", "bob"),
    "LYD": ("dinar", "dinars", "دينار"),
    "MAD": ("dh", "dhs", "dirham", "dirhams", "درهم"),
    "MZN": ("mt", "mtn", "metical", "meticais"),
    "NGN": ("₦", "naira"),
    "RWF": ("frw", "rwf", "franc", "francs"),
    "SDG": ("pound", "pounds", "جنيه"),
    "TZS": ("tsh", "tshs", "sh", "shs", "shilling", "shillings", "shilingi"),
    "UGX": ("ush", "ushs", "sh", "shs", "shilling", "shillings", "shilingi"),
    "USD": ("$", "dollar", "dollars"),
    "XAF": ("cfa", "fcfa", "f", "franc", "francs"),
    "XOF": ("cfa", "fcfa", "f", "franc", "francs"),
    "ZAR": ("r", "rand"),
    "ZMW": ("k", "zk", "kwacha"),
}
