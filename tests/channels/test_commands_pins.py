"""PINs and vouchers in the words of a text message: what is read, and that nothing else is read for their sake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.commands import Buy, ChangePin, Command, RedeemVoucher, Unreadable, Vocabulary, parse
from config import languages
from ledger.reasons import Reason

CATALOGUE = languages.load("en")
WORDS = Vocabulary.of(CATALOGUE.keywords(), CATALOGUE.language_words())
METER, VOUCHER = "04012345676", "7719004322861150"
GROUPED = "7719 0043 2286 1150"
PIN_UNREADABLE, UNREADABLE = Unreadable(Reason.PIN_UNREADABLE), Unreadable(Reason.UNREADABLE)


def read(text: str, takes_pins: bool = True) -> Command:
    """The command of a text where PINs are used."""
    return parse(text, minor_digits=2, currency="KES", vocabulary=WORDS, takes_pins=takes_pins)


def buy(amount: int, pin: str | None = "4831", drn: str | None = METER, nth: int = 1, saved: int = 0) -> Buy:
    """A purchase in whole units of the currency."""
    return Buy(drn, amount * 100, nth, saved=saved, pin=pin)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{METER} 500 4831", buy(500)),
        (f"{METER} 500 720951", buy(500, "720951")),
        (f"{METER}*500*4831", buy(500)),
        (f"500 {METER} 4831", buy(500)),
        (f"buy {METER} 500 4831", buy(500)),
        (f"{METER} 500 2 4831", buy(500, nth=2)),
        ("0401 2345 676 500 4831", buy(500)),
        ("500 4831", buy(500, drn=None)),
        ("1 500 4831", buy(500, drn=None, saved=1)),
        ("1 5000 4831", buy(5000, drn=None, saved=1)),
        (f"{METER} 500 pin 4831", buy(500)),
        (f"pin 4831 {METER} 500", buy(500)),
        (f"{METER} pin: 4831 amount 500", buy(500)),
        ("500 pin 4831", buy(500, drn=None)),
        ("50000 pin 4831", buy(50_000, drn=None)),
        (f"{METER} 500 siri 4831", buy(500)),
        (f"{METER} 500 senha 4831", buy(500)),
        ("pin 4831 8361", ChangePin("4831", "8361")),
        ("NIP 4831 720951", ChangePin("4831", "720951")),
        # As without PINs.
        (f"{METER} 500", buy(500, None)),
        (f"{METER} 500 2", buy(500, None, nth=2)),
        ("1 500", buy(500, None, None, saved=1)),
        (f"{METER} 4831", buy(4831, None)),
        # Doubtful: nothing is bought, nothing is tried.
        ("pin 4831", PIN_UNREADABLE),
        ("pin", PIN_UNREADABLE),
        ("pin 4831 500", PIN_UNREADABLE),
        ("pin 483 8361", PIN_UNREADABLE),
        ("pin 4831 8361 9274", PIN_UNREADABLE),
        ("pin 4831 pin 8361", PIN_UNREADABLE),
        (f"{METER} 500 4831 pin", PIN_UNREADABLE),
        (f"bal {METER} pin 4831", PIN_UNREADABLE),
        (f"{METER} 500 4831 2", Unreadable(Reason.AMOUNT_UNREADABLE, METER)),
        (f"{METER} 500 48315", buy(500, "48315")),
        (f"{METER} 500 483", Unreadable(Reason.AMOUNT_UNREADABLE, METER)),
        (f"{METER} 500 4831000", Unreadable(Reason.AMOUNT_UNREADABLE, METER)),
        (f"{METER} 500 4831 hello", Unreadable(Reason.AMOUNT_UNREADABLE, METER)),
        ("50000 4831", Unreadable(Reason.METER_INVALID)),  # as the halves of a mistyped meter number
        ("0401 2345 677 500 4831", UNREADABLE),
        # Vouchers, with and without their keyword.
        (f"{METER} {VOUCHER}", RedeemVoucher(VOUCHER, METER)),
        (f"{GROUPED} {METER}", RedeemVoucher(VOUCHER, METER)),
        (f"voucher {GROUPED}", RedeemVoucher(VOUCHER, None)),
        (f"voucher {GROUPED} {METER}", RedeemVoucher(VOUCHER, METER)),
        (VOUCHER, UNREADABLE),
        (f"{METER} {VOUCHER}1", Unreadable(Reason.AMOUNT_UNREADABLE, METER)),
        (f"{METER} {VOUCHER} 500", Unreadable(Reason.AMOUNT_UNREADABLE, METER)),
    ],
)
def test_text_with_a_pin_or_a_voucher(text: str, expected: Command) -> None:
    assert read(text) == expected


def test_no_pin_is_in_a_repr() -> None:
    assert "4831" not in repr(read(f"{METER} 500 4831")) + repr(read("pin 4831 8361"))


PIECES = st.sampled_from(
    [METER, "0401", "2345", "676", "500", "2", "1", "4831", "720951", "pin", "buy", "bal", "1,000", "12.50", VOUCHER]
)


@given(st.lists(PIECES, max_size=7).map(" ".join))
def test_where_pins_are_used_what_was_a_purchase_stays_that_purchase(text: str) -> None:
    before, after = read(text, takes_pins=False), read(text)
    if not isinstance(before, Unreadable):
        assert after == before
    elif isinstance(after, Buy):
        assert after.pin is not None, "only a PIN makes a purchase of what was none"
        assert after.pin in text.split()


@given(st.integers(4, 999_999).map(lambda n: f"{n:04d}"), st.integers(1, 99_999), st.booleans())
def test_a_pin_in_the_place_of_the_amount_never_fits(pin: str, amount: int, is_first: bool) -> None:
    """The PIN first and the amount last reads as amount and PIN: it can fit only where both are the same digits."""
    command = read(f"{pin} {METER} {amount}" if is_first else f"{METER} {pin} {amount}")
    if isinstance(command, Buy) and command.pin is not None:
        assert command.pin == str(amount) and (command.pin != pin or command.amount_minor == int(pin) * 100)
