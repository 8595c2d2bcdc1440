"""The walk through the menus: every screen in every language fits, no keys lead to a dead end or past the quote."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.smpp.text import encode_gsm
from channels.ussd.dialogue import (
    Knowledge,
    MeterInfo,
    NewLanguage,
    Order,
    Place,
    SaleInfo,
    Turn,
    Words,
    of_json,
    refused,
    run_ahead,
    show,
    to_json,
    walk,
)
from channels.ussd.menu import SCREENS, Deed, Option
from channels.ussd.pages import Limits, fits
from config import languages
from ledger.reasons import Reason, Refusal

CATALOGUE = languages.load("en")
FOLDER = Path(languages.__file__).parent / "languages"
MONEY = {"currency": "KES", "minor_digits": 2, "utility": "Umoja Power and Lighting Company"}
TOKENS = [
    {"digits": "1234567890" * 2, "kind": "key_change", "units_tenths": 0, "place": 1, "of": 3},
    {"digits": "2345678901" * 2, "kind": "key_change", "units_tenths": 0, "place": 2, "of": 3},
    {"digits": "3456789012" * 2, "kind": "credit", "units_tenths": 99_999_9, "place": 3, "of": 3},
]
METERS = [MeterInfo(f"040123456{n:02d}", "A.W.M.O.", "Mombasa Nyali Estate") for n in (76, 84, 92)] + [
    MeterInfo(f"07003012{n}", "O.", "Eldoret") for n in (213, 221, 239, 247, 254)
]


class Known(Knowledge):
    """Long answers to everything; `no` refuses every quote with that reason, `ways` are those of paying."""

    ways: Sequence[str] = ("wallet", "float")

    def __init__(self, meters: Sequence[MeterInfo] = tuple(METERS), no: Reason | None = None) -> None:
        self._meters = meters
        self._no = no

    def saved_meters(self) -> Sequence[MeterInfo]:
        return self._meters

    def meter(self, drn: str) -> MeterInfo:
        found = [meter for meter in METERS if meter.drn == drn]
        if not found:
            raise Refusal(Reason.METER_UNKNOWN, drn=drn)
        return found[0]

    def last_amount_minor(self, drn: str) -> int | None:
        return 5_000_000

    def payers(self, drn: str, amount: int) -> Sequence[str]:
        return self.ways

    def quote(self, drn: str, amount: int, nth: int, by: str = "") -> Mapping[str, Any]:
        if self._no is not None:
            values: dict[str, Any] = {
                "drn": drn,
                "amount_minor": amount,
                "seconds": 119,
                "again": 2,
                "receipt": "0" * 13,
            }
            raise Refusal(self._no, **values, min_minor=2_000, max_minor=5_000_000, balance_minor=150_000)
        parts = ("energy", "vat", "charges", "debt", "fixed", "fee", "carry")
        return {
            **{f"{part}_minor": 1_234_567 for part in parts},
            **{"amount_minor": amount, "units_tenths": 123_456, "free_units_tenths": 500, "drn": drn},
            **{"owner": "A.W.M.O.", "area": "Mombasa Nyali Estate", "by": by or "wallet"},
        }

    def balance(self) -> Mapping[str, Any]:
        return {"balance_minor": 123_456_789, "debt_minor": 98_765_432}

    def has_pin(self) -> bool:
        return True

    def last_sales(self) -> Sequence[SaleInfo]:
        values = {"drn": "04012345676", "tokens": TOKENS, "units_tenths": 123_456, "amount_minor": 5_000_000}
        return [SaleInfo(f"R{n}", {**values, "bought_at": f"06-0{n} 11:15"}) for n in (1, 2, 3)]

    def shows(self, receipt: str) -> None:
        assert receipt in ("R1", "R2", "R3")

    def bought(self) -> Mapping[str, Any]:
        return {"drn": "04012345676", "tokens": TOKENS, "amount_minor": 5_000_000}


def words(language: str, limits: Limits | None = None) -> Words:
    """Everything in one language."""

    def text(key: str, values: Mapping[str, Any]) -> str:
        return CATALOGUE.text(key, {**MONEY, **values}, language)

    names = [(code, found.choose.capitalize()) for code, found in CATALOGUE.languages.items()]
    return Words(text, names, 2, limits or Limits())


def _everywhere() -> list[Place]:
    chosen = {"drn": "04012345676", "amount_minor": 5_000_000, "sale": "R1"}
    told = (("amount_minor", 5_000_000), ("drn", "04012345676"), ("seconds", 119))
    places = [Place(screen, **chosen, values=told) for screen in SCREENS if screen != "refused"]  # type: ignore[arg-type]
    return places + [Place("refused", drn="04012345676", reason=reason.value, values=told) for reason in Reason]


@pytest.mark.parametrize("language", sorted(CATALOGUE.languages))
@pytest.mark.parametrize("limits", [Limits(), Limits(182, 80), Limits(140, 60)])
def test_every_screen_fits_in_every_language(language: str, limits: Limits) -> None:
    know, said = Known(), words(language, limits)
    for place in _everywhere():
        seen: list[str] = []
        here = place
        while True:
            note = "" if seen else "ussd_w_funds"
            here, page = show(Turn(here, note, {"balance_minor": 123_456_789}), know, said)
            assert fits(page.text, limits), (here, page.text)
            seen.append(page.text)
            turn = walk(here, "98", know, said)
            if turn.place.page == here.page:
                break
            here = turn.place
        assert not any("{" in text or "[" in text for text in seen)


@pytest.mark.parametrize("language", sorted(CATALOGUE.languages))
def test_screens_keep_to_the_gsm_alphabet_where_their_script_can(language: str) -> None:
    """One letter outside it, and a screen holds 70 characters instead of 160: the menu takes two."""
    raw = tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))["texts"]
    outside = [name for name, text in raw.items() if name.startswith("ussd_") and encode_gsm(text) is None]
    assert outside == [] or language == "ar", outside


@pytest.mark.parametrize("language", sorted(CATALOGUE.languages))
def test_the_last_screens_fit_in_every_language(language: str) -> None:
    said = words(language)
    for key in ("ussd_over", "ussd_under_way", "ussd_not_bought", "ussd_later", "ussd_keys_sent", "ussd_sold_by_sms"):
        assert fits(said.text(key, {"units_tenths": 123_456, "drn": "0401234567612"}), said.limits), key
    one = [{"digits": "1234567890" * 2, "kind": "credit", "units_tenths": 123_456}]
    assert fits(said.text("ussd_sold", {"tokens": one, "units_tenths": 123_456, "drn": "0401234567612"}), said.limits)


def test_every_choice_leads_somewhere_and_has_a_name_in_every_language() -> None:
    texts = CATALOGUE.languages["en"].templates
    for name, screen in SCREENS.items():
        for to in (screen.each, screen.then, *(option.to for option in screen.options)):
            assert isinstance(to, Deed) or to in SCREENS
        assert not screen.if_empty or screen.if_empty in SCREENS
        assert name == "refused" or f"ussd_{name}" in texts
        assert all(f"ussd_o_{option.name}" in texts for option in screen.options)


_keys = st.lists(
    st.sampled_from("0 00 98 1 2 3 4 5 6 7 9 500 04012345676 0401 x 1*1 ٥٠٠ 50,000 #".split()) | st.text(max_size=8),
    max_size=30,
)


@settings(max_examples=300)
@given(
    _keys,
    st.sampled_from(sorted(CATALOGUE.languages)),
    st.sampled_from([None, Reason.JUST_BOUGHT, Reason.FUNDS_SHORT, Reason.KEY_CHANGE_FIRST, Reason.TARIFF_MISSING]),
    st.booleans(),
)
def test_no_keys_lead_to_a_dead_end_or_past_the_quote(
    keys: list[str], language: str, no: Reason | None, has_meters: bool
) -> None:
    know, said = Known(METERS if has_meters else (), no), words(language)
    place, page = show(Turn(Place()), know, said)
    for typed in keys:
        turn = walk(place, typed, know, said)
        if isinstance(turn.deed, Order):
            pay = {"confirm": "pay", "again": "pay_again", "key_first": "send_keys"}[place.screen]
            shown = [line for line in page.text.split("\n") if line.endswith(said.text(f"ussd_o_{pay}", {}))]
            assert shown and (turn.deed.drn, turn.deed.amount_minor) == (place.drn, place.amount_minor)
            assert (turn.deed.nth > 1) is (place.screen == "again")
            return
        if isinstance(turn.deed, NewLanguage):
            said = words(turn.deed.code)
        place, page = show(turn, know, said)
        assert page.text and fits(page.text, said.limits) and not page.is_end
        assert of_json(json.loads(json.dumps(to_json(place)))) == place
        assert show(walk(place, "00", know, said), know, said)[0] == Place()


@given(st.lists(st.sampled_from(["1", "2", "500", "04012345676", "98"]), max_size=20))
def test_what_is_dialled_ahead_never_buys(path: list[str]) -> None:
    assert run_ahead(Place(), path, Known(), words("en")).deed is None


def test_back_leads_back_through_everything() -> None:
    know, said = Known(), words("en")
    know.ways = ()
    place, seen = Place(), [Place()]
    for typed in ("1", "9", "04012345676", "500"):
        place = walk(place, typed, know, said).place
        seen.append(place)
    assert [one.screen for one in seen] == ["main", "buy", "type_meter", "amount", "confirm"]
    for earlier in reversed(seen[:-1]):
        place = walk(place, "0", know, said).place
        assert place.screen == earlier.screen
    assert walk(place, "0", know, said).place.screen == "main"


def test_whoever_has_two_ways_of_paying_chooses_one_and_its_quote_is_shown() -> None:
    know, said = Known(), words("en")
    place = Place("amount", trail=("main", "buy"), drn="04012345676")
    place = walk(place, "500", know, said).place
    assert (place.screen, place.by) == ("pay_by", "")
    assert show(Turn(place), know, said)[1].text.split("\n")[:4] == [
        "KES 500: pay how?", "1 From your balance", "2 From your selling credit", "3 Another amount",
    ]  # fmt: skip
    confirm = walk(place, "2", know, said).place
    assert (confirm.screen, confirm.by, confirm.trail[-1]) == ("confirm", "float", "pay_by")
    shown = show(Turn(confirm), know, said)[1].text
    while shown.endswith("98 More"):
        confirm = walk(confirm, "98", know, said).place
        shown += show(Turn(confirm), know, said)[1].text
    assert "From your selling credit" in shown
    assert walk(confirm, "1", know, said).deed == Order("04012345676", 50_000, 1, "float")
    assert of_json(json.loads(json.dumps(to_json(confirm)))) == confirm
    # Back to the choice, and to another amount from either; a new amount forgets what was chosen.
    assert walk(replace(confirm, page=0), "0", know, said).place.screen == "pay_by"
    for here in (place, confirm):
        again = walk(here, "3" if here is place else "2", know, said).place
        assert (again.screen, again.trail) == ("amount", ("main", "buy"))
        assert walk(again, "700", know, said).place.by == ""
    # What the other way was refused leads to the amount, with why; a purchase of a moment ago is asked about as chosen.
    assert refused(
        place, Refusal(Reason.FUNDS_SHORT, balance_minor=1, amount_minor=2, currency="KES")
    ).place.screen == ("amount")
    twice = walk(place, "2", Known(no=Reason.JUST_BOUGHT), said).place
    assert (twice.screen, twice.by) == ("again", "float")
    assert walk(twice, "1", know, said).deed == Order("04012345676", 50_000, 2, "float")


@pytest.mark.parametrize("ways", [(), ("wallet",)])
def test_where_there_is_no_choice_nothing_is_asked(ways: Sequence[str]) -> None:
    know = Known()
    know.ways = ways
    assert walk(Place("amount", drn="04012345676"), "500", know, words("en")).place.screen == "confirm"


def test_a_quote_that_is_refused_meanwhile_is_told() -> None:
    place = Place("confirm", drn="04012345676", amount_minor=50_000)
    now, page = show(Turn(place), Known(no=Reason.TARIFF_MISSING), words("en"))
    assert (now.screen, now.reason) == ("refused", "TARIFF_MISSING") and "no price" in page.text
    assert refused(place, Refusal(Reason.FUNDS_SHORT, balance_minor=1)).place.screen == "amount"


def test_a_place_of_a_later_version_becomes_the_menu() -> None:
    assert of_json({"screen": "hologram", "drn": "04012345676"}) == Place()
    assert isinstance(SCREENS["confirm"].options[0], Option)
