"""What this package refuses, by name. Pure: no I/O, no clock.

Every refusal is an `StsError` with one `Fault`. Its sentence says what was expected and what came, in lengths and
public numbers only: no token, no key byte and nothing a person typed ever stands in it, because a token typed where
a meter number belongs is still a token.
"""

from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """Every reason for which this package refuses; the value is stable and may be stored."""

    # fmt: off
    FORMAT             = "format"               # not the digits, characters or JSON shape expected
    CHECK_DIGIT        = "check_digit"          # a Luhn digit does not agree
    OUT_OF_RANGE       = "out_of_range"         # a number is outside its field
    UNSUPPORTED        = "unsupported"          # an algorithm or token that is withdrawn or not published
    UNSETTLED          = "unsettled"            # no open source settles how this is coded: refused, not guessed
    TOKEN_CLASS        = "token_class"          # class 3, or a subclass that is reserved or proprietary
    CRC                = "crc"                  # the checksum fails: mistyped, or made for another meter or key
    KEY_TYPE           = "key_type"             # this key type must not do this, or cannot follow that one
    DEFAULT_KEY_CREDIT = "default_key_credit"   # credit under a default key (KT 1, "DDTK error")
    KEY_EXPIRED        = "key_expired"          # TID beyond the key expiry number
    KEY_NOT_ACTIVE     = "key_not_active"       # before the vending key's activation date
    KEY_NO_LONGER_USED = "key_no_longer_used"   # after the vending key's issued-until date
    KEY_LENGTH         = "key_length"           # 8 bytes for DKGA02, 20 for DKGA04
    KEY_PARITY         = "key_parity"           # a DES key byte with even parity
    KEY_CHECK_VALUE    = "key_check_value"      # the stored check value is not this key's
    KEY_MISMATCH       = "key_mismatch"         # vending key and meter, or old key and new, do not go together
    KEY_MISSING        = "key_missing"          # no vending key for this supply group and revision
    BEFORE_BASE_DATE   = "before_base_date"     # the clock is before the base date
    BASE_DATE_ENDED    = "base_date_ended"      # past the last TID of the base date: a key change is due
    TID_TOO_FAR_AHEAD  = "tid_too_far_ahead"    # too many tokens for one meter in too short a time
    TABLE_SET          = "table_set"            # an operator's EA07 tables are malformed
    KEYSTORE           = "keystore"             # the key file is cut, altered, or sealed under another master key
    DUPLICATE          = "duplicate"            # the same vending key twice
    SILENT             = "silent"               # a security module did not answer: outcome unknown
    MODULE_MISMATCH    = "module_mismatch"      # a security module's answer is not what was asked: it is not used
    # fmt: on


class StsError(Exception):
    """A refusal of this package; `fault` is its name, `sentence` is for people and holds no secret."""

    def __init__(self, fault: Fault, sentence: str) -> None:
        super().__init__(fault, sentence)
        self.fault: Final = fault
        self.sentence: Final = sentence

    def __str__(self) -> str:
        return f"{self.fault}: {self.sentence}"


class NumberError(StsError):
    """An identifier, amount or time that cannot be: meter number, supply group, TID, amount field."""


class TokenError(StsError):
    """Twenty digits, or a block, that is no token under this key."""


class KeyRefused(StsError):
    """A vending or decoder key that must not be used like this."""
