"""How often each phone has asked of late. Pure but for what it remembers: bounded memory, no clock of its own."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

_SENDERS_MAX: Final = 100_000


class Pace:
    """Counts what each sender asks within a window that begins with its first request; `most` 0 counts nothing.

    At most `senders_max` senders are remembered; whose window began longest ago is forgotten first, so a flood of
    new numbers can free a sender early and can never use up the memory.
    """

    def __init__(self, most: int, window_s: float, senders_max: int = _SENDERS_MAX) -> None:
        self._most = most
        self._window = timedelta(seconds=window_s)
        self._senders_max = senders_max
        self._counts: OrderedDict[str, tuple[datetime, int]] = OrderedDict()

    def is_too_often(self, sender: str, now: datetime) -> bool:
        """Count one request; whether it is more than the sender may make just now."""
        if not self._most:
            return False
        began, count = self._counts.get(sender, (now, 0))
        if not began <= now < began + self._window:
            began, count = now, 0
        if not count:
            self._counts.pop(sender, None)  # to the end: the newest window
            if len(self._counts) >= self._senders_max:
                self._counts.popitem(last=False)
        self._counts[sender] = (began, count + 1)
        return count >= self._most
