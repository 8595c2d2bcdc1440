"""How fast a link sends: its own limit, and less for a while when the message centre complains. Pure: time comes in.

A bucket of tokens, one a submit_sm. Throttling cuts the rate to a share of what was just sent; then it rises again by a
tenth a second until it is what the settings allow. Without a limit in the settings the cut is forgotten once the rate
is far above where it happened.
"""

from __future__ import annotations

import math
from typing import Final

_CUT: Final = 0.7
_RISE: Final = 1.1
_RISE_EVERY_S: Final = 1.0
_SLOWEST_PER_S: Final = 0.5
_FORGOTTEN_AT: Final = 4.0  # times the rate at which throttling came
# What may go out at once: as much as the limit gives in this time. A message centre counts by the second.
_BURST_S: Final = 0.05


class Pace:
    """The pace of one link. `limit_per_s` 0: no limit of its own."""

    __slots__ = (
        "_allowance",
        "_at",
        "_counted",
        "_counted_since",
        "_cut_at",
        "_cut_to",
        "_full",
        "_last",
        "rate_per_s",
    )

    def __init__(self, limit_per_s: float, now: float) -> None:
        self._full = limit_per_s or math.inf
        self.rate_per_s = self._full
        self._allowance = 1.0
        self._at = now
        self._cut_at = -math.inf
        self._cut_to = 0.0
        self._counted = 0
        self._counted_since = now
        self._last = 0.0

    def wait_s(self, now: float) -> float:
        """Give the seconds until one more may be sent; 0 for now."""
        rate = self.rate_per_s
        if rate == math.inf:
            return 0.0
        if now > self._at:
            self._allowance = min(max(1.0, rate * _BURST_S), self._allowance + (now - self._at) * rate)
            self._at = now
        # A rounding error must not become a wait of no length, again and again.
        return 0.0 if self._allowance >= 0.999_999 else (1.0 - self._allowance) / rate

    def spend(self, now: float) -> None:
        """One is sent."""
        self._count(now)
        self._counted += 1
        if self.rate_per_s != math.inf:
            self._allowance -= 1.0

    def throttled(self, now: float) -> None:
        """The message centre says that this was too fast. What one window brings within a second counts once."""
        if now - self._cut_at < _RISE_EVERY_S:
            return
        self._count(now)
        recent = max(self._last, self._counted / max(now - self._counted_since, 0.1))
        self._cut_at = now
        self._cut_to = self.rate_per_s = max(_SLOWEST_PER_S, _CUT * min(self.rate_per_s, recent))
        self._allowance = min(self._allowance, 1.0)
        self._at = now

    def went_well(self, now: float) -> None:
        """One was taken."""
        if self.rate_per_s == self._full or now - self._cut_at < _RISE_EVERY_S:
            return
        self._cut_at = now
        self.rate_per_s = min(self._full, self.rate_per_s * _RISE)
        if self._full == math.inf and self.rate_per_s > _FORGOTTEN_AT * self._cut_to:
            self.rate_per_s = math.inf

    @property
    def is_slowed(self) -> bool:
        """Whether the message centre has complained, and the old rate is not reached again."""
        return self.rate_per_s != self._full

    def sent_per_s(self, now: float) -> float:
        """Give how many were sent a second, lately."""
        self._count(now)
        return max(self._last, self._counted / max(now - self._counted_since, 1.0))

    def _count(self, now: float) -> None:
        past = now - self._counted_since
        if past >= 1.0:
            self._last = self._counted / past if past < 2.0 else 0.0
            self._counted = 0
            self._counted_since = now
