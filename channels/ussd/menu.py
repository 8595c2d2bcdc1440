"""The USSD screens: what each shows, what it takes, and where that leads. Data; `dialogue.py` walks them.

A screen's words are the text `ussd_<screen>` of the language files, an option's `ussd_o_<option>`. Everywhere 0 leads
back, 00 to the main menu and 98 to the next page of a long screen; those keys are in the texts `ussd_back` and
`ussd_more`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

BACK: Final = "0"
HOME: Final = "00"
MORE: Final = "98"

MAIN: Final = "main"

PINS: Final = "pins"
VOUCHERS: Final = "vouchers"
PROMPTS: Final = "prompts"  # some source asks this phone for money
"""What a utility may offer a phone or not."""


class Takes(Enum):
    """What may be typed on a screen besides the numbers of its choices."""

    NOTHING = "nothing"
    METER = "meter"
    AMOUNT = "amount"
    PIN = "pin"  # to pay with
    OLD_PIN = "old pin"
    NEW_PIN = "new pin"
    VOUCHER = "voucher"


class Listing(Enum):
    """What a screen lists, numbered before its options."""

    METERS = "meters"  # the saved meters
    SALES = "sales"  # the last tokens
    LANGUAGES = "languages"
    PAYERS = "payers"  # the ways in which the purchase could be paid


class Deed(Enum):
    """Where a choice leads that is no screen."""

    PAY = "pay"
    PAY_AGAIN = "pay again"  # the customer has read that the same was bought a moment ago
    SET_LANGUAGE = "set language"


@dataclass(frozen=True, slots=True)
class Option:
    """One numbered choice: its name, and the screen or deed it leads to. `needs`: shown where any of it is offered."""

    name: str
    to: str | Deed
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Screen:
    """One screen. A listed entry leads to `each`, a typed value to `then`."""

    options: tuple[Option, ...] = ()
    listing: Listing | None = None
    each: str | Deed = MAIN
    takes: Takes = Takes.NOTHING
    then: str = MAIN
    if_empty: str = ""  # the screen shown instead where nothing is listed


SCREENS: Final[dict[str, Screen]] = {
    MAIN: Screen(
        options=(
            Option("buy", "buy"),
            Option("last", "sales"),
            Option("balance", "balance"),
            Option("meters", "meters"),
            Option("language", "language"),
            Option("help", "help"),
            Option("top_up", "top_up", needs=(VOUCHERS, PROMPTS)),
            Option("pin", "old_pin", needs=(PINS,)),
        )
    ),
    "buy": Screen(
        listing=Listing.METERS,
        each="amount",
        options=(Option("other_meter", "type_meter"),),
        if_empty="type_meter",
    ),
    "type_meter": Screen(takes=Takes.METER, then="amount"),
    "amount": Screen(takes=Takes.AMOUNT, then="confirm"),
    # Only where there is a choice.
    "pay_by": Screen(listing=Listing.PAYERS, each="confirm", options=(Option("other_amount", "amount"),)),
    "confirm": Screen(
        options=(
            Option("pay", Deed.PAY),
            Option("other_amount", "amount"),
            Option("voucher", "voucher", needs=(VOUCHERS,)),
        )
    ),
    "no_wallet": Screen(options=(Option("voucher", "voucher"), Option("other_amount", "amount"))),
    "pin": Screen(takes=Takes.PIN),  # after Pay, where the purchase takes the PIN
    "voucher": Screen(takes=Takes.VOUCHER),  # the quoted purchase, paid by a voucher
    # Without vouchers its option's screen is shown instead.
    "top_up": Screen(takes=Takes.VOUCHER, options=(Option("by_prompt", "top_up_amount", needs=(PROMPTS,)),)),
    "top_up_amount": Screen(takes=Takes.AMOUNT),
    "topped_up": Screen(options=(Option("main", MAIN),)),
    "old_pin": Screen(takes=Takes.OLD_PIN),
    "new_pin": Screen(takes=Takes.NEW_PIN),
    "pin_set": Screen(options=(Option("main", MAIN),)),
    "again": Screen(options=(Option("pay_again", Deed.PAY_AGAIN),)),  # the same was bought a moment ago
    "key_first": Screen(options=(Option("send_keys", Deed.PAY),)),  # the meter needs its key change before it can buy
    "refused": Screen(),
    "sales": Screen(listing=Listing.SALES, each="sale", if_empty="no_sales"),
    "no_sales": Screen(),
    "sale": Screen(),
    "balance": Screen(),
    "meters": Screen(listing=Listing.METERS, each="meter", if_empty="no_meters"),
    "no_meters": Screen(options=(Option("buy", "type_meter"),)),
    "meter": Screen(options=(Option("buy", "amount"),)),
    "language": Screen(listing=Listing.LANGUAGES, each=Deed.SET_LANGUAGE),
    "help": Screen(),
    "resume": Screen(options=(Option("continue", "confirm"), Option("main", MAIN))),
    "bought": Screen(options=(Option("main", MAIN),)),  # the first screen after a purchase just made
}
"""Every screen by name. Sessions begin at MAIN, "resume" or "bought"."""
