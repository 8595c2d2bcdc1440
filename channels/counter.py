"""A sale at a station's terminal, as the gateway knows it. Pure: no I/O, no clock.

There is no wire: the cashier's command makes the request itself (`gateway/till.py`), with a reference that it makes
again for a repeat, and prints the answer that was stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from channels.commands import Buy, Price


@dataclass(frozen=True, slots=True)
class CounterSale(Buy):
    """Buy for a customer who stands at the counter. The tenders sum to `amount_minor`."""

    login: str = ""
    station: str = ""
    sequence: int = 0
    cash_minor: int = 0
    card_minor: int = 0
    cheque_minor: int = 0

    @property
    def tenders(self) -> tuple[int, int, int]:
        """What was given in cash, by card and by cheque."""
        return self.cash_minor, self.card_minor, self.cheque_minor


@dataclass(frozen=True, slots=True)
class CounterPrice(Price):
    """What such a sale would come to just now; held to the same rules, and nothing is sold."""

    login: str = ""
    station: str = ""
