"""What a module that keeps a bank's keys can do, said in handles: nobody above it ever sees a key. Pure.

Keys are zone keys shared with one bank: a ZMK, which others travel under, brought by hand in components; a ZAK for
MACs; a ZPK for PIN blocks, which a token sale has no use for and which is kept only because banks change it too.

A key change has three steps: `install` puts the new key beside the one in use, messages are authenticated under it by
asking for PENDING, `activate` puts it in use. The key before stays good for what is under way, until its grace ends.

A key that came under a ZMK may be stored as it came: that is how it lives through a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from channels.iso8583.mac import Algorithm


class Use(StrEnum):
    """What a key is for."""

    ZMK = "zmk"
    ZAK = "zak"
    ZPK = "zpk"


class Generation(StrEnum):
    """Which of a handle's keys."""

    ACTIVE = "active"
    PENDING = "pending"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key under a ZMK, as it travels: `scheme` X (ECB) or U (variants), cryptogram in hexadecimal, check value.

    The check value is as many digits as came, empty for none.
    """

    scheme: str
    cryptogram: str
    kcv: str

    def __repr__(self) -> str:
        return f"<WrappedKey scheme {self.scheme}, {len(self.cryptogram) // 2} bytes>"


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One key as a health page may show it. The check value tells keys apart and gives none away."""

    handle: str
    use: Use
    generation: Generation
    kcv: str
    good_until: datetime | None


@runtime_checkable
class KeyModule(Protocol):
    """What any module that keeps a bank's keys can do. Every method raises KeyRefused, by name."""

    def mac(
        self, handle: str, algorithm: Algorithm, padding: int, data: bytes, generation: Generation = Generation.ACTIVE
    ) -> bytes:
        """The whole MAC of these bytes under a key."""
        ...

    def generations(self, handle: str, now: datetime) -> tuple[Generation, ...]:
        """The keys a message may be authenticated under now: the one in use first, then a pending one, then the one
        before while its grace lasts."""
        ...

    def install(self, handle: str, use: Use, wrapped: WrappedKey, zmk: str) -> str:
        """Put a key that came under a ZMK beside the one in use; its check value, six digits (AES: ten).

        Refuses a key whose check value is not the one that came, of even parity, or with equal halves.
        """
        ...

    def activate(self, handle: str, now: datetime, grace_s: int) -> None:
        """Put the pending key in use; the one before stays good for so many seconds."""
        ...

    def discard(self, handle: str) -> None:
        """Forget a pending key, if there is one."""
        ...

    def status(self) -> tuple[KeyStatus, ...]:
        """Every key for a health page; never key bytes."""
        ...
