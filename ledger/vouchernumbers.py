"""The number of a voucher, and what is stored in its place. Pure.

16 digits: 12 drawn at random and 4 check digits. These are made with the key of the settings, so nobody outside makes
a number that even gets as far as the look-up, and a mistyped one passes once in 10,000. What is stored is a digest
with another key: who has the database alone can neither read a number nor try all of them.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from ledger.pins import keyed_digest

DIGITS: Final = 16
_RANDOM: Final = 12
_CHECK: Final = DIGITS - _RANDOM
_OCTETS: Final = 8


def drawn(nonce: Callable[[int], bytes], key: str) -> str:
    """A new number. `nonce` gives octets fit for cryptography."""
    span, most = 10**_RANDOM, 256**_OCTETS
    while (number := int.from_bytes(nonce(_OCTETS))) >= most - most % span:
        pass  # so that every number is as likely as any other
    return completed(f"{number % span:0{_RANDOM}d}", key)


def completed(digits: str, key: str) -> str:
    """Twelve digits with their check digits."""
    made = int(keyed_digest(key, "voucher check", digits.encode()), 16) % 10**_CHECK
    return f"{digits}{made:0{_CHECK}d}"


def look_up(number: str, key: str) -> str | None:
    """The digest by which a number is found; None if its check digits are wrong."""
    if not (len(number) == DIGITS and number.isascii() and number.isdigit()):
        return None
    if not hmac.compare_digest(completed(number[:_RANDOM], key), number):
        return None
    return keyed_digest(key, "voucher", number.encode())
