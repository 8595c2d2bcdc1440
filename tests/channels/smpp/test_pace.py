"""How fast a link sends: its limit kept to the second, less after throttling, and back again. Time is passed in."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.smpp.pace import Pace


def send_as_allowed(pace: Pace, start: float, seconds: float) -> list[float]:
    """Send as fast as the pace allows; when each one went."""
    now, sent = start, list[float]()
    while now < start + seconds and len(sent) < 100_000:
        wait_s = pace.wait_s(now)
        if wait_s:
            now += wait_s
            continue
        pace.spend(now)
        sent.append(now)
        if pace.rate_per_s == math.inf:
            now += 0.001
    return sent


@settings(deadline=None, max_examples=50)
@given(rate=st.floats(0.5, 500), start=st.floats(0, 1e6))
def test_no_second_has_more_than_the_limit_and_its_burst(rate: float, start: float) -> None:
    sent = send_as_allowed(Pace(rate, start), start, 3.0)
    burst = max(1.0, rate * 0.05)
    for index, at in enumerate(sent):
        assert bisect_left(sent, at + 1.0) - index <= rate + burst + 1
    assert len(sent) >= int(2.9 * rate) - 1


def test_without_a_limit_nothing_waits() -> None:
    pace = Pace(0.0, 0.0)
    for _ in range(10_000):
        assert pace.wait_s(0.0) == 0.0
        pace.spend(0.0)


@pytest.mark.parametrize("limit", [0.0, 100.0])
def test_throttling_cuts_the_rate_once_a_second_and_it_comes_back(limit: float) -> None:
    pace = Pace(limit, 0.0)
    for tick in range(100):
        pace.spend(tick / 50)  # 50 a second
    pace.throttled(2.0)
    cut = pace.rate_per_s
    assert 0.5 * 50 <= cut <= 0.8 * 50 and pace.is_slowed
    pace.throttled(2.5)
    assert pace.rate_per_s == cut, "the rest of the same window"
    now = 2.0
    while pace.is_slowed and now < 100:
        now += 0.5
        pace.went_well(now)
    assert 5 < now < 40 and pace.rate_per_s == (limit or math.inf)


def test_throttling_again_and_again_never_stops_a_link_for_good() -> None:
    pace = Pace(10.0, 0.0)
    for second in range(1, 100):
        pace.spend(second)
        pace.throttled(float(second))
    assert pace.rate_per_s >= 0.5
