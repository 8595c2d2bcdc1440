"""Each error code of TokenApi, and what it means to us. Pure: a table.

    REFUSED  the module says no, finally                              -> ModuleRefused with the fault
    MISSING  it has no such vending key                               -> KeyMissing
    AWAY     it cannot be asked now, and made nothing                 -> ModuleAway
    UNKNOWN  it failed in the middle: made or not, nobody knows       -> a look for the result, then ModuleSilent
    SIGN_IN  the session is over: sign in again, once                 -> then AWAY
    NOT_MADE no result under this message id                          -> the token is asked for
    VALID    not an error

A code that is not listed is read as its parent (`ESts.DrnOrPan.New` as `ESts.DrnOrPan`); without one it is UNKNOWN: a
newer module may have codes that this table lacks, and "refused" is never said while the outcome is unknown.
Source: TokenApi 1.1, list of error codes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from sts.errors import Fault


class Meaning(Enum):
    """What a code means to us; see the module's text."""

    REFUSED = "refused"
    MISSING = "missing"
    AWAY = "away"
    UNKNOWN = "unknown"
    SIGN_IN = "sign_in"
    NOT_MADE = "not_made"
    VALID = "valid"


@dataclass(frozen=True, slots=True)
class Code:
    """A line of the table: meaning, our fault (for SILENT families it is Fault.SILENT), a sentence for people."""

    meaning: Meaning
    fault: Fault
    sentence: str


# fmt: off
CODES: Final[Mapping[str, Code]] = MappingProxyType({
    "EAuthentication.Token":      Code(Meaning.SIGN_IN,  Fault.SILENT,             "the session is over"),
    "EAuthentication.Permission": Code(Meaning.AWAY,     Fault.SILENT,             "our account may not do this"),
    "ESignin.Authentication":     Code(Meaning.AWAY,     Fault.SILENT,             "sign-in: wrong password"),
    "ESignin.Permission":         Code(Meaning.AWAY,     Fault.SILENT,             "sign-in: not allowed"),
    "ESignin.Realm":              Code(Meaning.AWAY,     Fault.SILENT,             "sign-in: unknown realm"),
    "ESignin.Subject":            Code(Meaning.AWAY,     Fault.SILENT,             "sign-in: unknown user name"),
    "ESignin.Version":            Code(Meaning.AWAY,     Fault.SILENT,             "sign-in: version 1.1 not spoken"),
    "EService.Disabled":          Code(Meaning.AWAY,     Fault.SILENT,             "the feature is disabled"),
    "EService":                   Code(Meaning.UNKNOWN,  Fault.SILENT,             "the service failed"),
    "ESm":                        Code(Meaning.UNKNOWN,  Fault.SILENT,             "the hardware module failed"),
    "ECacheMiss":                 Code(Meaning.NOT_MADE, Fault.SILENT,             "no earlier result"),
    "EKeystore.NotFound":         Code(Meaning.MISSING,  Fault.KEY_MISSING,        "no such vending key"),
    "EParamRange":                Code(Meaning.REFUSED,  Fault.OUT_OF_RANGE,       "a value is out of range"),
    "EPrefRange":                 Code(Meaning.REFUSED,  Fault.OUT_OF_RANGE,       "a preference is out of range"),
    "ESts.DrnOrPan":              Code(Meaning.REFUSED,  Fault.FORMAT,             "no meter number"),
    "ESts.DrnOrPan.CheckDigit":   Code(Meaning.REFUSED,  Fault.CHECK_DIGIT,        "meter number: wrong check digit"),
    "ESts.IdRecord":              Code(Meaning.REFUSED,  Fault.FORMAT,             "no identification record"),
    "ESts.IdRecord.Expired":      Code(Meaning.REFUSED,  Fault.OUT_OF_RANGE,       "the meter's record has expired"),
    "ESts.VkBeforeBdt":           Code(Meaning.REFUSED,  Fault.BEFORE_BASE_DATE,   "before the key's base date"),
    "ESts.VkExpired":             Code(Meaning.REFUSED,  Fault.KEY_EXPIRED,        "TID beyond the key expiry number"),
    "EVerify.Ok":                 Code(Meaning.VALID,    Fault.FORMAT,             "the token is valid"),
    "EVerify.Crc":                Code(Meaning.REFUSED,  Fault.CRC,                "the checksum does not agree"),
    "EVerify.DdtkCredit":         Code(Meaning.REFUSED,  Fault.DEFAULT_KEY_CREDIT, "credit under a default key"),
    "EVerify.KeyExpired":         Code(Meaning.REFUSED,  Fault.KEY_EXPIRED,        "the key has expired"),
})
# fmt: on

UNLISTED: Final = Code(Meaning.UNKNOWN, Fault.SILENT, "an error that this program does not know")

_match: Final = re.compile(r"E[A-Za-z]{1,20}(\.[A-Za-z]{1,20}){0,3}").fullmatch


def meaning_of(code: str) -> Code:
    """The line for a code, or for its nearest parent, or UNLISTED."""
    while code:
        if code in CODES:
            return CODES[code]
        code = code.rpartition(".")[0]
    return UNLISTED


def shown(code: str) -> str:
    """A code as a log may show it. One that does not look like a code is not shown: it may be anything."""
    return code if _match(code) else "unreadable"
