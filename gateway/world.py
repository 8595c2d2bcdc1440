"""Time, ids and chance: the only reader of the clock and the only source of randomness of the whole program."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID


class World(Protocol):
    """What the program may ask of the world; tests hand in one of their own."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    def new_id(self) -> UUID:
        """A new UUID of version 7 (RFC 9562), later than every one before it from this process."""

    def nibble(self) -> int:
        """Four random bits for a token's RND field."""

    def chance(self) -> float:
        """A number in [0, 1) for jitter; never for keys."""

    def nonce(self, octets: int) -> bytes:
        """Octets fit for cryptography, from the operating system."""


def uuid7(milliseconds: int, counter: int, tail: int) -> UUID:
    """A UUIDv7 from 48 bits of Unix milliseconds, a 12-bit counter and 62 random bits."""
    return UUID(int=milliseconds << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | tail)


@dataclass(slots=True)
class RealWorld:
    """The machine's clock and chance."""

    _last: int = 0  # milliseconds << 12 | counter of the id made last

    def now(self) -> datetime:
        return datetime.now(UTC)

    def new_id(self) -> UUID:
        # A clock that stands still or steps back must not make ids that sort before older ones.
        self._last = max(time.time_ns() // 1_000_000 << 12, self._last + 1)
        return uuid7(self._last >> 12, self._last & 0xFFF, random.getrandbits(62))

    def nibble(self) -> int:
        return random.getrandbits(4)

    def chance(self) -> float:
        return random.random()

    def nonce(self, octets: int) -> bytes:
        return secrets.token_bytes(octets)


def seeded(seed: int) -> Callable[[], float]:
    """Chance that comes again with its seed, for simulators; never for keys."""
    return random.Random(seed).random
