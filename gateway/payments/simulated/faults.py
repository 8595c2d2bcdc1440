"""What goes wrong on purpose at a simulated provider, drawn from a seed. Pure.

Whether a fault strikes depends on the seed, the fault and the number of the occasion, and on nothing else: however
requests overtake each other, the third callback is lost or is not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One thing that goes wrong."""

    LOSE = "lose"  # a callback is never sent
    REPEAT = "repeat"  # a callback is sent three times
    DELAY = "delay"  # a callback is late
    REORDER = "reorder"  # a callback waits until another has been sent
    FORGE = "forge"  # before it a stranger sends one that says paid, under another receipt
    NO_ANSWER = "no_answer"  # a request is carried out, and its connection cut before the answer
    ERROR = "error"  # a request is answered with 500 and not carried out
    ERROR_AFTER = "error_after"  # a request is carried out and answered with 500


@dataclass(slots=True)
class Faults:
    """Draws faults: each at its rate, from 0 to 1; and those that were armed, at their next occasions."""

    rates: Mapping[Fault, float] = field(default_factory=dict)
    seed: str = ""
    struck: Counter[Fault] = field(default_factory=Counter)
    _occasions: Counter[Fault] = field(default_factory=Counter)
    _armed: Counter[Fault] = field(default_factory=Counter)

    def arm(self, fault: Fault, times: int = 1) -> None:
        """This fault strikes at its next occasions."""
        self._armed[fault] += times

    def strikes(self, fault: Fault) -> bool:
        """Whether it strikes here."""
        self._occasions[fault] += 1
        if self._armed[fault] > 0:
            self._armed[fault] -= 1
            strikes = True
        else:
            strikes = self._drawn(f"{fault}:{self._occasions[fault]}") < self.rates.get(fault, 0.0)
        if strikes:
            self.struck[fault] += 1
        return strikes

    def _drawn(self, occasion: str) -> float:
        digest = hashlib.sha256(f"{self.seed}:{occasion}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48
