"""One customer's walk through the USSD menu: where she stands and what she typed, to where she stands next. Pure.

The walker knows nothing of money and meters: it asks `Knowledge`, which may answer that something has to be looked up
first (`NotLookedUp` passes through here unseen). An order is never made on the way: only `Deed.PAY` on a screen that
shows the quote asks for one, and what a shortcut types ahead never reaches that key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Protocol

from channels.commands import PIN_DIGITS, VOUCHER_DIGITS, amount_minor
from channels.ussd.menu import BACK, HOME, MAIN, MORE, SCREENS, VOUCHERS, Deed, Listing, Option, Screen, Takes
from channels.ussd.pages import Limits, fits, paged
from channels.ussd.steps import Page
from ledger.reasons import Reason, Refusal
from sts.errors import NumberError
from sts.numbers import check_drn

_TRAIL_MAX: Final = 8
_INPUT_MAX: Final = 182  # no phone sends more
_NOTE_PAGE: Final = -1  # a line of why that leaves no room for its screen


@dataclass(frozen=True, slots=True)
class Place:
    """Where a customer stands: the screen, its page, the way back, and what she has chosen so far."""

    screen: str = MAIN
    page: int = 0
    trail: tuple[str, ...] = ()
    drn: str = ""
    amount_minor: int = 0
    nth: int = 1
    by: str = ""  # the way of paying; empty: there was no choice
    sale: str = ""  # the receipt of the sale that is looked at; of the screen "bought" its id
    reason: str = ""  # of the screen "refused"
    values: tuple[tuple[str, Any], ...] = ()  # of that reason's text
    proven: str = ""  # the mark of the PIN that was typed rightly in this session


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """A meter as its screens show it: the owner by initials only, so that a stranger learns no name."""

    drn: str
    owner: str
    area: str


@dataclass(frozen=True, slots=True)
class PayerInfo:
    """A way of paying, by its name; its words are the text `ussd_by_<name>`."""

    name: str


@dataclass(frozen=True, slots=True)
class SaleInfo:
    """One of the last sales that gave tokens: the values of the text `ussd_sale`, by receipt."""

    receipt: str
    values: Mapping[str, Any]


class Knowledge(Protocol):
    """What the walker may ask. Each raises Refusal where the answer is no."""

    def saved_meters(self) -> Sequence[MeterInfo]:
        """The meters of the phone's customer that can buy."""

    def meter(self, drn: str) -> MeterInfo:
        """Any meter by its number."""

    def last_amount_minor(self, drn: str) -> int | None:
        """What was last bought for this meter by this phone, or None."""

    def payers(self, drn: str, amount: int) -> Sequence[str]:
        """The ways in which this could be paid just now, "wallet", "float"; fewer than two where there is no choice."""

    def quote(self, drn: str, amount: int, nth: int, by: str = "") -> Mapping[str, Any]:
        """The values of the text `ussd_confirm`: what the money buys just now, who pays in this way, `needs_pin`."""

    def has_pin(self) -> bool:
        """Whether the phone has a PIN."""

    def balance(self) -> Mapping[str, Any]:
        """The values of the text `ussd_balance`."""

    def last_sales(self) -> Sequence[SaleInfo]:
        """The last sales, newest first."""

    def shows(self, receipt: str) -> None:
        """The tokens of this sale are put on a screen."""

    def bought(self) -> Mapping[str, Any]:
        """The values of the text `ussd_bought`: the purchase that this phone made a moment ago."""


@dataclass(frozen=True, slots=True)
class Words:
    """How screens are put in words: `text` of a key and its values in the session's language."""

    text: Callable[[str, Mapping[str, Any]], str]
    languages: Sequence[tuple[str, str]]  # code and own name
    minor_digits: int
    limits: Limits
    offers: frozenset[str] = frozenset()  # PINS, VOUCHERS, PROMPTS


@dataclass(frozen=True, slots=True)
class Order:
    """The customer has confirmed: buy this, paid in this way (empty: whichever there is)."""

    drn: str
    amount_minor: int
    nth: int
    by: str = ""
    pin: str = field(default="", repr=False)
    voucher: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class TopUp:
    """Put the value of this voucher into the wallet."""

    voucher: str


@dataclass(frozen=True, slots=True)
class AskTopUp:
    """Ask the phone for this much, for the wallet."""

    amount_minor: int


@dataclass(frozen=True, slots=True, repr=False)
class TryPin:
    """The customer wants another PIN, and has typed the old one."""

    pin: str


@dataclass(frozen=True, slots=True, repr=False)
class NewPin:
    """The PIN from now on."""

    pin: str


@dataclass(frozen=True, slots=True)
class NewLanguage:
    """The customer wants this language (its code) from now on."""

    code: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What one input comes to: the next place, perhaps with one line of why it is the old one, or a deed."""

    place: Place
    note: str = ""  # key of the line of why, "ussd_w_..."
    values: Mapping[str, Any] | None = None
    deed: Order | NewLanguage | TopUp | AskTopUp | TryPin | NewPin | None = None


def to_json(place: Place) -> dict[str, Any]:
    """A place as JSON types; what is at its default is left out."""
    kept = {entry.name: getattr(place, entry.name) for entry in fields(Place)}
    return {name: value for name, value in kept.items() if value != getattr(Place(), name)}


def of_json(kept: Mapping[str, Any]) -> Place:
    """The inverse of `to_json`; a screen that this version does not know becomes the main menu."""
    if kept.get("screen", MAIN) not in SCREENS:
        return Place()
    values = tuple((name, value) for name, value in kept.get("values", ()))
    return Place(**{**kept, "trail": tuple(kept.get("trail", ())), "values": values})


# --- walking ----------------------------------------------------------------------------------------------------------


def walk(place: Place, typed: str, know: Knowledge, words: Words) -> Turn:
    """What follows when this is typed at this place."""
    text = _plain(typed)
    if text == HOME:
        return Turn(Place())
    if text == BACK:
        return Turn(_back(place))
    if text == MORE and place.page + 1 < _page_count(place, know, words):
        return Turn(replace(place, page=place.page + 1))
    screen = SCREENS[place.screen]
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else 0
    listed = _listed(place, know, words)
    if 1 <= number <= len(listed):
        return _chosen(place, screen, listed[number - 1], know, words)
    number -= len(listed)
    if place.screen == "amount" and number == 1 and (last := _offered_amount(place, know, words)) is not None:
        return _amount(place, last, know, words)
    options = _options(screen, words)
    if 1 <= number <= len(options):
        option = options[number - 1]
        if isinstance(option.to, str):
            return _to(place, option.to, know, words)
        if not _is_shown(place, f"{number + len(listed)} {words.text(f'ussd_o_{option.name}', {})}", know, words):
            return Turn(replace(place, page=place.page + 1))  # what it costs is on a page that she has not seen
        return _deed(place, option.to, know)
    if screen.takes is Takes.METER:
        return _meter(place, text, know)
    if screen.takes is Takes.AMOUNT:
        amount = amount_minor(text.replace(" ", ""), words.minor_digits)
        if amount is None:
            return Turn(place, "ussd_w_amount")
        if place.screen == "top_up_amount":
            return Turn(place, deed=AskTopUp(amount))
        return _amount(place, amount, know, words)
    if screen.takes is not Takes.NOTHING:
        return _secret(place, screen.takes, text.replace(" ", "").replace("-", ""))
    return Turn(place, "ussd_w_choice")


def run_ahead(place: Place, path: Sequence[str], know: Knowledge, words: Words) -> Turn:
    """Walk several inputs at once, as when `*384*5*6#` is dialled; stops before any deed and at the first wrong one."""
    turn = Turn(place)
    for typed in path:
        after = walk(turn.place, typed, know, words)
        if after.deed is not None or after.place.screen in _BEHIND_A_QUOTE:
            return turn
        turn = after
        if turn.note:
            break
    return turn


# Screens whose input completes an order: reached from the quote by a key of their own, never ahead of it.
_BEHIND_A_QUOTE: Final = frozenset({"pin", "voucher"})


def _secret(place: Place, takes: Takes, text: str) -> Turn:
    """A PIN, or the number of a voucher, that was typed; anything else costs no try."""
    is_voucher = takes is Takes.VOUCHER
    if not (text.isascii() and text.isdigit() and (len(text) == VOUCHER_DIGITS if is_voucher else is_pin(text))):
        return Turn(place, "ussd_w_voucher_form" if is_voucher else "ussd_w_pin_form")
    if takes is Takes.OLD_PIN:
        return Turn(place, deed=TryPin(text))
    if takes is Takes.NEW_PIN:
        return Turn(place, deed=NewPin(text))
    if place.screen == "top_up":
        return Turn(place, deed=TopUp(text))
    order = Order(place.drn, place.amount_minor, place.nth, place.by)
    return Turn(place, deed=replace(order, voucher=text) if is_voucher else replace(order, pin=text))


def is_pin(text: str) -> bool:
    """Whether so many digits may be a PIN."""
    return len(text) in PIN_DIGITS


def settled(place: Place, know: Knowledge) -> Place:
    """The place to show for this one: a screen that would be empty gives way to another."""
    screen = SCREENS[place.screen]
    if screen.if_empty and screen.listing is Listing.METERS and not know.saved_meters():
        return replace(place, screen=screen.if_empty, page=0)
    if screen.if_empty and screen.listing is Listing.SALES and not know.last_sales():
        return replace(place, screen=screen.if_empty, page=0)
    return place


def refused(place: Place, refusal: Refusal) -> Turn:
    """Where a refusal leads: back to what can be mended with a line of why, else to a screen that tells it."""
    note = _MENDABLE.get(refusal.reason)
    if note is not None and place.screen in _MENDED_AT.get(refusal.reason, _TYPED):
        return Turn(place, note, refusal.values)
    if note is not None and place.screen in ("pay_by", "confirm"):
        return Turn(replace(place, screen="amount", page=0, trail=_without_last(place.trail)), note, refusal.values)
    if refusal.reason is Reason.JUST_BOUGHT:
        again = replace(_forward(place, "again"), nth=int(refusal.values.get("again", 2)))
        return Turn(replace(again, values=tuple(sorted(refusal.values.items()))))
    if refusal.reason is Reason.KEY_CHANGE_FIRST:
        return Turn(_forward(place, "key_first"))
    return Turn(_telling(place, refusal))


_TYPED: Final = ("type_meter", "amount", "top_up_amount")
# Refusals that another input mends, with the line that says so.
_MENDABLE: Final = {
    Reason.METER_INVALID: "ussd_w_meter",
    Reason.METER_UNKNOWN: "ussd_w_unknown",
    Reason.AMOUNT_MIN: "ussd_w_min",
    Reason.AMOUNT_MAX: "ussd_w_max",
    Reason.FUNDS_SHORT: "ussd_w_funds",
    Reason.PIN_WRONG: "ussd_w_pin",
    Reason.PIN_WEAK: "ussd_w_pin_weak",
    Reason.VOUCHER_UNKNOWN: "ussd_w_voucher",
}
_MENDED_AT: Final = {
    Reason.PIN_WRONG: ("pin", "old_pin"),
    Reason.PIN_WEAK: ("new_pin",),
    Reason.VOUCHER_UNKNOWN: ("voucher", "top_up"),
}


def _plain(typed: str) -> str:
    """What was typed in ASCII digits, without the blanks around it and the # that some phones add."""
    plain = "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character for character in typed[:_INPUT_MAX]
    )
    return plain.strip().rstrip("#").strip()


def _forward(place: Place, screen: str) -> Place:
    return replace(place, screen=screen, page=0, trail=(*place.trail, place.screen)[-_TRAIL_MAX:])


def _telling(place: Place, refusal: Refusal) -> Place:
    told = tuple(sorted((name, value) for name, value in refusal.values.items() if isinstance(value, (str, int))))
    return replace(_forward(place, "refused"), reason=refusal.reason.value, values=told)


def _without_last(trail: tuple[str, ...]) -> tuple[str, ...]:
    """The way back to before the amount, which is typed anew."""
    for screen in ("pay_by", "amount"):
        trail = trail[:-1] if trail and trail[-1] == screen else trail
    return trail


def _back(place: Place) -> Place:
    if place.page > 0:
        return replace(place, page=place.page - 1)
    if not place.trail:
        return Place()
    return replace(place, screen=place.trail[-1], page=0, trail=place.trail[:-1])


def _to(place: Place, screen: str, know: Knowledge, words: Words) -> Turn:
    if screen == MAIN:
        return Turn(Place())
    if place.screen == "resume":  # as if she had come by the amount
        return Turn(replace(place, screen=screen, page=0, trail=("amount",)))
    if screen == "amount" and place.screen in ("pay_by", "confirm"):
        return Turn(replace(place, screen="amount", page=0, trail=_without_last(place.trail)))
    if screen == "top_up" and VOUCHERS not in words.offers:
        screen = "top_up_amount"
    if screen == "old_pin" and not know.has_pin():
        screen = "new_pin"
    return Turn(settled(_forward(place, screen), know))


def _deed(place: Place, deed: Deed, know: Knowledge) -> Turn:
    nth = place.nth if deed is Deed.PAY_AGAIN else 1
    try:
        needs_pin = know.quote(place.drn, place.amount_minor, nth, place.by).get("needs_pin", False)
    except Refusal:
        needs_pin = False  # the order is refused likewise
    if needs_pin and not know.has_pin():
        return Turn(replace(_forward(place, "new_pin"), nth=nth), "ussd_w_no_pin")
    if needs_pin:
        return Turn(replace(_forward(place, "pin"), nth=nth))
    return Turn(place, deed=Order(place.drn, place.amount_minor, nth, place.by))


def _options(screen: Screen, words: Words) -> Sequence[Option]:
    return [option for option in screen.options if not option.needs or words.offers.intersection(option.needs)]


def _listed(place: Place, know: Knowledge, words: Words) -> Sequence[Any]:
    screen = SCREENS[place.screen]
    if screen.listing is Listing.PAYERS:
        return [PayerInfo(name) for name in know.payers(place.drn, place.amount_minor)]
    if screen.listing is Listing.METERS:
        return know.saved_meters()
    if screen.listing is Listing.SALES:
        return know.last_sales()
    return words.languages if screen.listing is Listing.LANGUAGES else ()


def _chosen(place: Place, screen: Screen, entry: Any, know: Knowledge, words: Words) -> Turn:
    if isinstance(entry, MeterInfo):
        assert isinstance(screen.each, str)
        return Turn(replace(_forward(place, screen.each), drn=entry.drn, amount_minor=0))
    if isinstance(entry, SaleInfo):
        return Turn(replace(_forward(place, "sale"), sale=entry.receipt))
    if isinstance(entry, PayerInfo):
        return _confirm(place, entry.name, know, words)
    return Turn(Place(), deed=NewLanguage(entry[0]))


def _meter(place: Place, text: str, know: Knowledge) -> Turn:
    drn = text.replace(" ", "").replace("-", "")
    try:
        check_drn(drn)
        know.meter(drn)
    except NumberError:
        return Turn(place, "ussd_w_meter")
    except Refusal as refusal:
        return refused(place, refusal)
    return Turn(replace(_forward(place, "amount"), drn=drn, amount_minor=0))


def _amount(place: Place, amount: int, know: Knowledge, words: Words) -> Turn:
    place = replace(place, amount_minor=amount, by="")
    if len(know.payers(place.drn, amount)) > 1:
        return Turn(_forward(place, "pay_by"))
    return _confirm(place, "", know, words)


def _confirm(place: Place, by: str, know: Knowledge, words: Words) -> Turn:
    place = replace(place, by=by)
    try:
        know.quote(place.drn, place.amount_minor, 1, by)
    except Refusal as refusal:
        if refusal.reason in (Reason.PAYER_UNKNOWN, Reason.FUNDS_SHORT) and VOUCHERS in words.offers:
            return Turn(replace(_forward(place, "no_wallet"), nth=1))
        return refused(place, refusal)
    return Turn(replace(_forward(place, "confirm"), nth=1))


def _offered_amount(place: Place, know: Knowledge, words: Words) -> int | None:
    """The last amount, as choice 1 of the amount screen; not where 1 might itself be an amount that is meant."""
    last = know.last_amount_minor(place.drn) if place.drn else None
    return last if last is not None and last > 9 * 10**words.minor_digits else None


# --- showing ----------------------------------------------------------------------------------------------------------


def show(turn: Turn, know: Knowledge, words: Words) -> tuple[Place, Page]:
    """The screen for where a turn has led, and where that is: a quote that is refused meanwhile leads elsewhere."""
    note = words.text(turn.note, turn.values or {}) if turn.note else ""
    place = turn.place
    try:
        pages = _pages(place, know, words)
    except Refusal as refusal:
        place, note = _telling(place, refusal), ""
        pages = _pages(place, know, words)
    place = replace(place, page=min(max(place.page, 0), len(pages) - 1))
    text = pages[place.page]
    if note and fits(f"{note}\n{text}", words.limits):
        text = f"{note}\n{text}"
    elif note:  # a page of its own, before the first, so that no line of the screen is passed over
        place = replace(place, page=_NOTE_PAGE)
        ending = f"{_footer(place, words)} {words.text('ussd_more', {})}".strip()
        text = f"{note}\n{ending}"
        if SCREENS[place.screen].takes is not Takes.NOTHING:  # what is asked for, if no more, stands beside it
            asked = f"{note}\n{_head(place, know, words).rpartition(chr(10))[2]}\n{ending}"
            text = asked if fits(asked, words.limits) else text
    return place, Page(text, is_end=False)


def _footer(place: Place, words: Words) -> str:
    return words.text("ussd_back", {}) if place.screen not in (MAIN, "resume", "bought") else ""


def _pages(place: Place, know: Knowledge, words: Words) -> list[str]:
    screen = SCREENS[place.screen]
    lines = _head(place, know, words).split("\n")
    number = 0
    for entry in _listed(place, know, words):
        number += 1
        lines.append(f"{number} {_entry(entry, words)}")
    if place.screen == "amount" and (last := _offered_amount(place, know, words)) is not None:
        number += 1
        lines.append(f"{number} {words.text('ussd_o_last_amount', {'amount_minor': last})}")
    for option in _options(screen, words):
        number += 1
        lines.append(f"{number} {words.text(f'ussd_o_{option.name}', {})}")
    shown = [line.strip() for line in lines if line.strip()]
    return paged(shown, _footer(place, words), words.text("ussd_more", {}), words.limits)


def _is_shown(place: Place, line: str, know: Knowledge, words: Words) -> bool:
    """Whether a line is on the page where the customer stands, or was on one before it."""
    try:
        shown = _pages(place, know, words)[: place.page + 1]
    except Refusal:
        return True  # `show` tells the refusal, and the order would be refused likewise
    return any(line in page.split("\n") for page in shown)


def _page_count(place: Place, know: Knowledge, words: Words) -> int:
    try:
        return len(_pages(place, know, words))
    except Refusal:
        return 1  # `show` tells it


def _head(place: Place, know: Knowledge, words: Words) -> str:
    """The words of a screen before its choices."""
    values: Mapping[str, Any] = {}
    key = f"ussd_{place.screen}"
    if place.screen in ("amount", "meter", "key_first"):
        meter = know.meter(place.drn)
        values = {"drn": meter.drn, "owner": meter.owner, "area": meter.area}
    elif place.screen == "confirm":
        values = know.quote(place.drn, place.amount_minor, place.nth, place.by)
        paid_from = words.text(f"ussd_by_{values['by']}", {})
        return f"{words.text(key, values)}\n{paid_from}"
    elif place.screen in ("resume", "pay_by", "pin", "voucher", "no_wallet"):
        values = {"drn": place.drn, "amount_minor": place.amount_minor}
    elif place.screen == "balance":
        values = know.balance()
    elif place.screen == "bought":
        values = know.bought()
    elif place.screen in ("again", "topped_up"):
        values = dict(place.values)
    elif place.screen == "refused":
        key, values = place.reason.lower(), dict(place.values)
    elif place.screen == "sale":
        values = next((sale.values for sale in know.last_sales() if sale.receipt == place.sale), {})
        key = "ussd_sale" if values else "ussd_no_sales"
        know.shows(place.sale)
    return words.text(key, values)


def _entry(entry: Any, words: Words) -> str:
    if isinstance(entry, MeterInfo):
        return words.text("ussd_e_meter", {"drn": entry.drn, "area": entry.area})
    if isinstance(entry, SaleInfo):
        return words.text("ussd_e_sale", entry.values)
    if isinstance(entry, PayerInfo):
        return words.text(f"ussd_by_{entry.name}", {})
    return str(entry[1])
