"""Who collects the faults of settings: what a check is given besides the values. Pure."""

from __future__ import annotations

from typing import Protocol


class Reader(Protocol):
    """Who collects faults."""

    def fault(self, where: str, value: object, expected: str, came: str) -> None:
        """Note one: the path of the key, what was given, what was expected, what came."""
