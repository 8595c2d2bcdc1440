"""What we say no for, and its response code in field 39. Data.

Tests compare the keys of each table with `ledger.reasons.Reason` and with `Outcome`. A profile may override a line
under the name of the reason or outcome. Source: ISO 8583:1987 table 12 and 1993 annex A; the four-digit list is that of
public clients of one utility's network.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from ledger.reasons import Reason


class Outcome(StrEnum):
    """What an answer may say beside a reason of the ledger."""

    APPROVED = "APPROVED"
    REVERSAL_ACCEPTED = "REVERSAL_ACCEPTED"
    NETWORK_ACCEPTED = "NETWORK_ACCEPTED"
    IN_BALANCE = "IN_BALANCE"
    OUT_OF_BALANCE = "OUT_OF_BALANCE"
    FORMAT_ERROR = "FORMAT_ERROR"
    UNKNOWN_FUNCTION = "UNKNOWN_FUNCTION"
    MAC_WRONG = "MAC_WRONG"
    IN_PROGRESS = "IN_PROGRESS"
    DUPLICATE_DIFFERS = "DUPLICATE_DIFFERS"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    ORIGINAL_UNKNOWN = "ORIGINAL_UNKNOWN"
    ORIGINAL_DIFFERS = "ORIGINAL_DIFFERS"
    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"
    TOKEN_DISCLOSED = "TOKEN_DISCLOSED"
    CUT_OVER = "CUT_OVER"
    NOT_SIGNED_ON = "NOT_SIGNED_ON"
    TOO_LATE = "TOO_LATE"
    MALFUNCTION = "MALFUNCTION"


# fmt: off
# Reason or outcome:             1987   1993   2003 with four digits
_LINES: Final[Mapping[StrEnum, tuple[str, str, str]]] = {
    Reason.UNREADABLE:           ("30", "904", "0030"),
    Reason.METER_INVALID:        ("14", "111", "0014"),
    Reason.METER_UNKNOWN:        ("14", "111", "0014"),
    Reason.METER_BLOCKED:        ("62", "104", "0006"),
    Reason.METER_REPLACED:       ("14", "111", "0014"),
    Reason.PART_MISSING:         ("30", "904", "0030"),
    Reason.STATION_BLOCKED:      ("57", "119", "0007"),
    Reason.SHIFT_NEEDED:         ("57", "119", "0007"),
    Reason.SELLER_LIMIT:         ("57", "119", "0007"),
    Reason.REVERSED:             ("12", "902", "0005"),
    Reason.REVERSED_FIRST:       ("94", "913", "0092"),  # the original came after its reversal
    Reason.REFUNDED:             ("12", "902", "0005"),
    Reason.REVERSAL_DIFFERS:     ("77", "914", "0092"),
    Reason.REVERSAL_NOT_LAST:    ("21", "100", "0005"),
    Reason.REVERSAL_LATE:        ("21", "100", "0005"),
    Reason.REVERSALS_NOT_TAKEN:  ("21", "100", "0005"),
    Reason.TOKEN_DISCLOSED:      ("21", "100", "0005"),
    Reason.METER_NEEDED:         ("30", "904", "0030"),
    Reason.TWO_METERS:           ("30", "904", "0030"),
    Reason.AMOUNT_NEEDED:        ("13", "110", "0013"),
    Reason.AMOUNT_UNREADABLE:    ("13", "110", "0013"),
    Reason.AMOUNT_MIN:           ("13", "110", "0013"),
    Reason.AMOUNT_MAX:           ("13", "110", "0013"),
    Reason.PAYER_UNKNOWN:        ("03", "109", "0031"),
    Reason.FUNDS_SHORT:          ("51", "116", "0045"),
    Reason.PAY_FIRST:            ("51", "116", "0045"),  # of payments by other sources: never a bank's own
    Reason.PAID_LESS:            ("51", "116", "0045"),
    Reason.PAYMENT_NO_FUNDS:     ("51", "116", "0045"),
    Reason.PAYMENT_CANCELLED:    ("05", "100", "0005"),
    Reason.PAYMENT_WRONG_PIN:    ("05", "100", "0005"),
    Reason.PAYMENT_EXPIRED:      ("05", "100", "0005"),
    Reason.PAYMENT_FAILED:       ("05", "100", "0005"),
    Reason.PRICE_CHANGED:        ("05", "100", "0005"),
    Reason.STATION_CREDIT_SPENT: ("51", "116", "0045"),
    Reason.NOT_PERMITTED:        ("57", "119", "0007"),
    Reason.JUST_BOUGHT:          ("65", "123", "0088"),
    Reason.TOO_OFTEN:            ("65", "123", "0005"),
    Reason.DUPLICATE_DIFFERS:    ("94", "913", "0092"),
    Reason.NO_TOKEN_YET:         ("25", "914", "0005"),
    Reason.NOT_YOUR_METER:       ("57", "119", "0007"),
    # PINs of phones, vouchers and top-ups come by SMS and USSD only; were one refused here, it would say this.
    Reason.PIN_NEEDED:           ("57", "119", "0007"),
    Reason.PIN_WRONG:            ("55", "117", "0005"),
    Reason.PIN_LOCKED:           ("75", "106", "0005"),
    Reason.PIN_NOT_SET:          ("57", "119", "0007"),
    Reason.PIN_WEAK:             ("57", "119", "0007"),
    Reason.PIN_UNREADABLE:       ("30", "904", "0030"),
    Reason.WALLET_LIMIT:         ("61", "121", "0005"),
    Reason.VOUCHER_UNKNOWN:      ("40", "115", "0005"),
    Reason.VOUCHER_TRIES_SPENT:  ("40", "115", "0005"),
    Reason.VOUCHER_USED:         ("40", "115", "0005"),
    Reason.VOUCHER_NOT_VALID:    ("40", "115", "0005"),
    Reason.VOUCHER_EXPIRED:      ("40", "115", "0005"),
    Reason.VOUCHER_TOO_SMALL:    ("40", "115", "0005"),
    Reason.VOUCHERS_NOT_TAKEN:   ("40", "115", "0005"),
    Reason.TOP_UP_UNREADABLE:    ("30", "904", "0030"),
    Reason.TOP_UP_AGAIN:         ("94", "913", "0092"),
    Reason.TOP_UP_NOT_TAKEN:     ("57", "119", "0007"),
    Reason.LANGUAGE_UNKNOWN:     ("30", "904", "0030"),
    Reason.TARIFF_MISSING:       ("91", "907", "0005"),
    Reason.METER_KEY_ENDED:      ("05", "100", "0005"),
    Reason.KEY_CHANGE_NEEDED:    ("05", "100", "0005"),
    Reason.KEY_CHANGE_FIRST:     ("05", "100", "0005"),
    Reason.KEY_LIMIT_REACHED:    ("91", "907", "0005"),
    Reason.TOKENS_TOO_FAST:      ("65", "123", "0005"),
    Reason.KEY_MISSING:          ("15", "908", "0005"),
    Reason.MODULE_REFUSED:       ("05", "100", "0005"),
    # 91, not 96: switches repeat or reverse after 91, and raise an alarm after 96.
    Reason.MODULE_SILENT:        ("91", "907", "0068"),
    Reason.BUSY:                 ("91", "907", "0068"),
    Reason.INTERNAL:             ("96", "909", "0005"),
    Outcome.APPROVED:            ("00", "000", "0000"),
    Outcome.REVERSAL_ACCEPTED:   ("00", "400", "0000"),
    Outcome.NETWORK_ACCEPTED:    ("00", "800", "0000"),
    Outcome.IN_BALANCE:          ("00", "500", "0000"),
    Outcome.OUT_OF_BALANCE:      ("00", "501", "0000"),  # field 66 says it; 95 where a bank wants that
    Outcome.FORMAT_ERROR:        ("30", "904", "0030"),
    Outcome.UNKNOWN_FUNCTION:    ("12", "902", "0005"),
    Outcome.MAC_WRONG:           ("88", "916", "0005"),
    Outcome.IN_PROGRESS:         ("09", "923", "0068"),
    Outcome.DUPLICATE_DIFFERS:   ("94", "913", "0092"),
    Outcome.ALREADY_REVERSED:    ("12", "902", "0005"),
    Outcome.ORIGINAL_UNKNOWN:    ("00", "400", "0000"),  # sealed before it came; 25 or 914 where a bank wants that
    Outcome.ORIGINAL_DIFFERS:    ("77", "914", "0092"),
    Outcome.AMOUNT_DIFFERS:      ("13", "110", "0013"),
    Outcome.TOKEN_DISCLOSED:     ("21", "100", "0005"),
    Outcome.CUT_OVER:            ("90", "906", "0090"),
    Outcome.NOT_SIGNED_ON:       ("91", "907", "0011"),
    Outcome.TOO_LATE:            ("91", "907", "0068"),
    Outcome.MALFUNCTION:         ("96", "909", "0005"),
}
# fmt: on

STYLES: Final = ("1987", "1993", "2003")


def table(style: str) -> dict[str, str]:
    """The codes of one style, by the name of the reason or outcome."""
    column = STYLES.index(style)
    return {str(key): codes[column] for key, codes in _LINES.items()}


def keys() -> set[StrEnum]:
    """Every reason and outcome that has a line."""
    return set(_LINES)
