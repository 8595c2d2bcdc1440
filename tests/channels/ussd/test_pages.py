"""What fits on a screen: limits of both alphabets, pages that lose nothing, tokens in one piece."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.ussd.pages import GSM_HARD, UCS2_HARD, Limits, fits, paged

LIMITS = Limits()


@pytest.mark.parametrize(
    ("text", "limits", "wanted"),
    [
        ("a" * 160, LIMITS, True),
        ("a" * 161, LIMITS, False),
        ("a" * 182, Limits(GSM_HARD, UCS2_HARD), True),
        ("a" * 158 + "€", LIMITS, True),  # the euro costs two septets
        ("a" * 159 + "€", LIMITS, False),
        ("ش" * 70, LIMITS, True),
        ("a" * 70 + "ش", LIMITS, False),
        ("ش" * 80, Limits(GSM_HARD, UCS2_HARD), True),
        ("\U0001f600" * 35, LIMITS, True),  # two units each
        ("\U0001f600" * 36, LIMITS, False),
    ],
)
def test_limits_are_those_of_the_alphabet(text: str, limits: Limits, wanted: bool) -> None:
    assert fits(text, limits) is wanted


def test_a_short_screen_is_one_page_with_its_footer() -> None:
    assert paged(["Menu", "1 Buy"], "0 Back", "98 More", LIMITS) == ["Menu\n1 Buy\n0 Back"]


def test_whole_lines_go_to_the_next_page_and_only_the_last_has_no_more() -> None:
    pages = paged([f"{n} {'x' * 40}" for n in range(1, 8)], "0 Back", "98 More", LIMITS)
    assert len(pages) == 3
    assert [page.endswith("0 Back 98 More") for page in pages] == [True, True, False]


def test_a_token_is_not_cut() -> None:
    token = "1234 5678 9012 3456 7890"
    for before in range(0, 80):
        pages = paged(["x " * (before // 2) + token], "0 Back 00 Menu", "98 More", Limits(60, 60))
        assert sum(token in page for page in pages) == 1


_lines = st.lists(st.text(alphabet="ab 1ش", min_size=1, max_size=200), max_size=12)


@given(_lines, st.integers(60, 182), st.integers(60, 80))
def test_pages_fit_and_lose_nothing(lines: list[str], gsm: int, ucs2: int) -> None:
    limits = Limits(gsm, ucs2)
    pages = paged(lines, "0 B", "98 M", limits)
    assert all(fits(page, limits) for page in pages)
    shown = "".join(page.rsplit("\n", 1)[0] if "\n" in page else "" for page in pages)
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", "".join(lines))
