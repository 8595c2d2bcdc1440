"""A world whose time stands still until it is moved, and whose ids and chance come from a seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from gateway.world import uuid7


class SeededWorld:
    """Satisfies `gateway.world.World`; the same seed and calls give the same answers."""

    def __init__(self, seed: int = 1, now: datetime | None = None) -> None:
        self._random = random.Random(seed)
        self._now = now or datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
        self._last = 0

    def now(self) -> datetime:
        return self._now

    def advance(self, **delta: float) -> None:
        """Move time on."""
        self._now += timedelta(**delta)

    def new_id(self) -> UUID:
        self._last = max(int(self._now.timestamp() * 1000) << 12, self._last + 1)
        return uuid7(self._last >> 12, self._last & 0xFFF, self._random.getrandbits(62))

    def nibble(self) -> int:
        return self._random.getrandbits(4)

    def chance(self) -> float:
        return self._random.random()

    def nonce(self, octets: int) -> bytes:
        return self._random.randbytes(octets)
