"""Peers who take purchases back: at any moment, before the purchase comes too, again and again until they are answered.

They are drawn from a generator of their own, so that seeds keep what they were before there were reversals.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from channels.contract import NotStored
from gateway.reversal import Answer, Reversal, Reversed

if TYPE_CHECKING:
    from tests.simulation.service import Plan, Run

ACCEPTED: Final = frozenset({Answer.REVERSED, Answer.CANCELLED, Answer.NOTHING_TAKEN, Answer.NEVER_SEEN})
_PATIENCE_S: Final = 40.0
_TRIES_MAX: Final = 60


def reversals_of(seed: int) -> int:
    """How many reversals a seed brings; half of them none."""
    chance = random.Random(f"reversals {seed}")
    return chance.choice((0, 0, 3, 15))


class Peers:
    """Whoever asks for reversals, and what they were answered: by the key of the reversal, and by the original."""

    def __init__(self, plan: Plan) -> None:
        self._chance = random.Random(f"peers {plan.seed}")
        self._count = plan.reversals
        self.answers: defaultdict[str, list[Reversed]] = defaultdict(list)
        self.by_original: defaultdict[str, list[Reversed]] = defaultdict(list)

    def begin(self, run: Run) -> None:
        """Decide who will ask for what, and when."""
        texts = [text for text in run.centre.texts if text.reference is not None]
        if not texts:
            return
        loop, chance = asyncio.get_running_loop(), self._chance
        for number in range(self._count):
            text = chance.choice(texts)
            # Mostly while the purchase is under way; sometimes before it, sometimes long after.
            at_s = max(0.0, text.at_s + chance.choice((-1.0, 0.0, 0.01, 0.03, 0.1, 0.3, 2.0, 15.0, 200.0, 2500.0)))
            for again in range(chance.choice((1, 1, 2))):
                key = f"sms|reversal {number}"
                loop.call_later(
                    at_s + again * chance.uniform(0.0, 20.0), self._start, run, key, f"sms|m:{text.reference}"
                )

    def _start(self, run: Run, key: str, original: str) -> None:
        self._tasks = [*getattr(self, "_tasks", []), asyncio.ensure_future(self._ask(run, key, original))]

    async def _ask(self, run: Run, key: str, original: str) -> None:
        for _ in range(_TRIES_MAX):
            up = [node for node in run.nodes if node.is_up]
            if up:
                node = self._chance.choice(up)
                asked = Reversal(original, key, key.encode().ljust(16)[-16:], "sms", "smsc", "bank", node.clock.now())
                try:
                    result = await asyncio.wait_for(node.desk.reverse(asked), _PATIENCE_S)
                except (NotStored, TimeoutError, asyncio.CancelledError):
                    pass  # the node fell, or could not store it: another time
                else:
                    run.note("reversal", key, original, result.answer.value)
                    self.answers[key].append(result)
                    self.by_original[original].append(result)
                    return
            await asyncio.sleep(self._chance.uniform(1.0, 20.0))
