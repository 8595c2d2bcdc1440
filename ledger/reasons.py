"""Every reason for which the product says no, once. Pure.

A member's value is stored, is the key of its text in the language files (in lower case), and is what a
partner sees. Wire codes are not here: each channel has a table of its own, and a test compares it with this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any


class DoneBy(Enum):
    """Whose doing a refusal is: it decides who is told and who is alarmed."""

    CUSTOMER = "customer"
    PARTNER = "partner"
    US = "us"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a reason: whose doing it is, and whether the same request may succeed later."""

    done_by: DoneBy
    later: bool


class Reason(StrEnum):
    """Why a request was refused."""

    UNREADABLE = "UNREADABLE"
    PART_MISSING = "PART_MISSING"
    METER_INVALID = "METER_INVALID"
    METER_UNKNOWN = "METER_UNKNOWN"
    METER_BLOCKED = "METER_BLOCKED"
    METER_REPLACED = "METER_REPLACED"
    METER_NEEDED = "METER_NEEDED"
    TWO_METERS = "TWO_METERS"
    AMOUNT_NEEDED = "AMOUNT_NEEDED"
    AMOUNT_UNREADABLE = "AMOUNT_UNREADABLE"
    AMOUNT_MIN = "AMOUNT_MIN"
    AMOUNT_MAX = "AMOUNT_MAX"
    PAYER_UNKNOWN = "PAYER_UNKNOWN"
    FUNDS_SHORT = "FUNDS_SHORT"
    PAY_FIRST = "PAY_FIRST"
    PAID_LESS = "PAID_LESS"
    PAYMENT_NO_FUNDS = "PAYMENT_NO_FUNDS"
    PAYMENT_CANCELLED = "PAYMENT_CANCELLED"
    PAYMENT_WRONG_PIN = "PAYMENT_WRONG_PIN"
    PAYMENT_EXPIRED = "PAYMENT_EXPIRED"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    PRICE_CHANGED = "PRICE_CHANGED"
    STATION_CREDIT_SPENT = "STATION_CREDIT_SPENT"
    STATION_BLOCKED = "STATION_BLOCKED"
    SHIFT_NEEDED = "SHIFT_NEEDED"
    SELLER_LIMIT = "SELLER_LIMIT"
    NOT_PERMITTED = "NOT_PERMITTED"
    JUST_BOUGHT = "JUST_BOUGHT"
    TOO_OFTEN = "TOO_OFTEN"
    DUPLICATE_DIFFERS = "DUPLICATE_DIFFERS"
    NO_TOKEN_YET = "NO_TOKEN_YET"
    NOT_YOUR_METER = "NOT_YOUR_METER"
    PIN_NEEDED = "PIN_NEEDED"
    PIN_WRONG = "PIN_WRONG"
    PIN_LOCKED = "PIN_LOCKED"
    PIN_NOT_SET = "PIN_NOT_SET"
    PIN_WEAK = "PIN_WEAK"
    PIN_UNREADABLE = "PIN_UNREADABLE"
    WALLET_LIMIT = "WALLET_LIMIT"
    VOUCHERS_NOT_TAKEN = "VOUCHERS_NOT_TAKEN"
    VOUCHER_UNKNOWN = "VOUCHER_UNKNOWN"
    VOUCHER_TRIES_SPENT = "VOUCHER_TRIES_SPENT"
    VOUCHER_USED = "VOUCHER_USED"
    VOUCHER_NOT_VALID = "VOUCHER_NOT_VALID"
    VOUCHER_EXPIRED = "VOUCHER_EXPIRED"
    VOUCHER_TOO_SMALL = "VOUCHER_TOO_SMALL"
    TOP_UP_UNREADABLE = "TOP_UP_UNREADABLE"
    TOP_UP_AGAIN = "TOP_UP_AGAIN"
    TOP_UP_NOT_TAKEN = "TOP_UP_NOT_TAKEN"
    REVERSED = "REVERSED"
    REVERSED_FIRST = "REVERSED_FIRST"
    REFUNDED = "REFUNDED"
    REVERSAL_DIFFERS = "REVERSAL_DIFFERS"
    REVERSAL_NOT_LAST = "REVERSAL_NOT_LAST"
    REVERSAL_LATE = "REVERSAL_LATE"
    REVERSALS_NOT_TAKEN = "REVERSALS_NOT_TAKEN"
    TOKEN_DISCLOSED = "TOKEN_DISCLOSED"
    LANGUAGE_UNKNOWN = "LANGUAGE_UNKNOWN"
    TARIFF_MISSING = "TARIFF_MISSING"
    METER_KEY_ENDED = "METER_KEY_ENDED"
    KEY_CHANGE_NEEDED = "KEY_CHANGE_NEEDED"
    KEY_CHANGE_FIRST = "KEY_CHANGE_FIRST"
    KEY_LIMIT_REACHED = "KEY_LIMIT_REACHED"
    TOKENS_TOO_FAST = "TOKENS_TOO_FAST"
    KEY_MISSING = "KEY_MISSING"
    MODULE_REFUSED = "MODULE_REFUSED"
    MODULE_SILENT = "MODULE_SILENT"
    BUSY = "BUSY"
    INTERNAL = "INTERNAL"


_CUSTOMER, _PARTNER, _US = DoneBy.CUSTOMER, DoneBy.PARTNER, DoneBy.US

# fmt: off
ABOUT: dict[Reason, About] = {
    Reason.UNREADABLE:           About(_CUSTOMER, later=False),
    Reason.PART_MISSING:         About(_CUSTOMER, later=True),   # a long message never became whole
    Reason.METER_INVALID:        About(_CUSTOMER, later=False),  # wrong length or check digit
    Reason.METER_UNKNOWN:        About(_CUSTOMER, later=False),
    Reason.METER_BLOCKED:        About(_US,       later=False),  # any status but INSTALLED
    Reason.METER_REPLACED:       About(_US,       later=False),  # another meter hangs in its place
    Reason.METER_NEEDED:         About(_CUSTOMER, later=False),  # no saved meter, or several
    Reason.TWO_METERS:           About(_CUSTOMER, later=False),
    Reason.AMOUNT_NEEDED:        About(_CUSTOMER, later=False),
    Reason.AMOUNT_UNREADABLE:    About(_CUSTOMER, later=False),
    Reason.AMOUNT_MIN:           About(_CUSTOMER, later=False),
    Reason.AMOUNT_MAX:           About(_CUSTOMER, later=False),
    Reason.PAYER_UNKNOWN:        About(_CUSTOMER, later=True),   # a phone without wallet or float
    Reason.FUNDS_SHORT:          About(_CUSTOMER, later=True),
    Reason.PAY_FIRST:            About(_CUSTOMER, later=True),   # the phone cannot be asked for the money
    Reason.PAID_LESS:            About(_CUSTOMER, later=False),  # less than was asked for came; it stays with the payer
    Reason.PAYMENT_NO_FUNDS:     About(_CUSTOMER, later=True),   # as the payment's source says, like the four below
    Reason.PAYMENT_CANCELLED:    About(_CUSTOMER, later=False),
    Reason.PAYMENT_WRONG_PIN:    About(_CUSTOMER, later=True),
    Reason.PAYMENT_EXPIRED:      About(_CUSTOMER, later=True),   # no word of the money in the time for an order
    Reason.PAYMENT_FAILED:       About(_PARTNER,  later=True),
    Reason.PRICE_CHANGED:        About(_US,       later=False),  # money that came late, when another price was in force
    Reason.STATION_CREDIT_SPENT: About(_PARTNER,  later=True),
    Reason.STATION_BLOCKED:      About(_PARTNER,  later=True),   # blocked, or not open on this channel
    Reason.SHIFT_NEEDED:         About(_PARTNER,  later=True),   # the operator has no open shift, and needs one
    Reason.SELLER_LIMIT:         About(_PARTNER,  later=True),   # per sale, shift or day, of the operator
    Reason.NOT_PERMITTED:        About(_PARTNER,  later=False),  # the station may not sell for this supply group
    Reason.JUST_BOUGHT:          About(_CUSTOMER, later=True),   # same sender, meter and amount a moment ago
    Reason.TOO_OFTEN:            About(_CUSTOMER, later=True),   # of one phone, or for one meter
    Reason.DUPLICATE_DIFFERS:    About(_PARTNER,  later=False),  # same reference, other content
    Reason.NO_TOKEN_YET:         About(_CUSTOMER, later=True),
    Reason.NOT_YOUR_METER:       About(_CUSTOMER, later=False),  # a token is repeated to its buyer and its owner only
    Reason.PIN_NEEDED:           About(_CUSTOMER, later=True),   # the same again with the PIN
    Reason.PIN_WRONG:            About(_CUSTOMER, later=True),
    Reason.PIN_LOCKED:           About(_CUSTOMER, later=True),   # too many wrong ones: the back office unlocks it
    Reason.PIN_NOT_SET:          About(_CUSTOMER, later=True),
    Reason.PIN_WEAK:             About(_CUSTOMER, later=False),  # a new PIN that anybody guesses first
    Reason.PIN_UNREADABLE:       About(_CUSTOMER, later=False),
    Reason.WALLET_LIMIT:         About(_CUSTOMER, later=True),   # per payment, or per day
    Reason.VOUCHERS_NOT_TAKEN:   About(_CUSTOMER, later=False),
    Reason.VOUCHER_UNKNOWN:      About(_CUSTOMER, later=False),  # no voucher's number
    Reason.VOUCHER_TRIES_SPENT:  About(_CUSTOMER, later=True),   # too many of those in a day
    Reason.VOUCHER_USED:         About(_CUSTOMER, later=False),
    Reason.VOUCHER_NOT_VALID:    About(_CUSTOMER, later=False),  # not sold yet, or void
    Reason.VOUCHER_EXPIRED:      About(_CUSTOMER, later=False),
    Reason.VOUCHER_TOO_SMALL:    About(_CUSTOMER, later=False),  # less than what shall be bought
    Reason.TOP_UP_UNREADABLE:    About(_CUSTOMER, later=False),
    Reason.TOP_UP_AGAIN:         About(_CUSTOMER, later=True),   # the same top-up was asked for a moment ago
    Reason.TOP_UP_NOT_TAKEN:     About(_CUSTOMER, later=True),   # no source asks this phone for this amount
    Reason.REVERSED:             About(_PARTNER,  later=False),  # the purchase was taken back by whoever made it
    Reason.REVERSED_FIRST:       About(_PARTNER,  later=False),  # its reversal came before it
    Reason.REFUNDED:             About(_US,       later=False),  # two people gave the money back
    Reason.REVERSAL_DIFFERS:     About(_PARTNER,  later=False),  # another amount or meter than the purchase
    Reason.REVERSAL_NOT_LAST:    About(_PARTNER,  later=True),   # R16: a later one of the account stands
    Reason.REVERSAL_LATE:        About(_PARTNER,  later=False),  # R16: past the channel's window
    Reason.REVERSALS_NOT_TAKEN:  About(_PARTNER,  later=False),  # the channel's setting: what is sold stays sold
    Reason.TOKEN_DISCLOSED:      About(_PARTNER,  later=False),  # somebody may have seen the token
    Reason.LANGUAGE_UNKNOWN:     About(_CUSTOMER, later=False),
    Reason.TARIFF_MISSING:       About(_US,       later=True),   # no tariff version covers this moment
    Reason.METER_KEY_ENDED:      About(_US,       later=False),  # base date or key of the meter has run out
    Reason.KEY_CHANGE_NEEDED:    About(_US,       later=True),   # the utility changes keys apart from sales
    Reason.KEY_CHANGE_FIRST:     About(_US,       later=True),   # the key-change tokens come with this refusal
    Reason.KEY_LIMIT_REACHED:    About(_US,       later=True),   # the vending key may make no more tokens
    Reason.TOKENS_TOO_FAST:      About(_CUSTOMER, later=True),   # token identifiers would run too far ahead
    Reason.KEY_MISSING:          About(_US,       later=True),   # no vending key loaded for the supply group
    Reason.MODULE_REFUSED:       About(_US,       later=False),
    Reason.MODULE_SILENT:        About(_US,       later=True),
    Reason.BUSY:                 About(_US,       later=True),
    Reason.INTERNAL:             About(_US,       later=True),
}
# fmt: on


class Refusal(Exception):
    """The rules say no. Carries the reason and the values its text may show; never a secret."""

    def __init__(self, reason: Reason, **values: Any) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.values = values
