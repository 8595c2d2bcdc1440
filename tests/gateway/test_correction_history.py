"""Any history of purchases, reversals, corrections and payments: the books hold after every step of it.

A reversal that follows its purchase at once restores every row of money and counters exactly.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.purchase import State
from gateway.reversal import Answer, Evidence, Reversal, Reverse
from gateway.vend import Done
from ledger.corrections import CorrectionRefused, Kind, PaymentRefused, Wish
from ledger.reasons import Refusal
from tests.gateway.test_corrections import _approve, _ask, _pay, _receipt
from tests.gateway.test_reversal import _everything
from tests.simulation.shop import AMINA, METER, Counter, open_counter

AGENT = "254722000002"
METERS = [METER, "14252321824", "01405512003", "07003012213", "37180000434", "07003012247"]

_meter = st.sampled_from(METERS)
_amount = st.integers(2_000, 90_000)
_step = st.one_of(
    st.tuples(st.just("buy"), _meter, _amount),
    st.tuples(st.just("buy and reverse"), _meter, _amount),
    st.tuples(st.just("reverse"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("pay"), _meter, _amount),
    st.tuples(st.sampled_from(["WRONG_METER", "REFUND_MONEY", "REFUND_TOKEN"]), st.integers(0, 5), _meter),
    st.tuples(st.just("wait"), st.integers(1, 45), st.just(0)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_step, min_size=3, max_size=12))
def test_the_books_hold_after_any_history(steps: Sequence[tuple[Any, Any, Any]]) -> None:
    asyncio.run(_live(steps))


async def _live(steps: Sequence[tuple[Any, Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_counter(f"sqlite:///{Path(folder)}/t.db") as counter:
            sold: list[tuple[str, Done]] = []
            for number, (what, which, more) in enumerate(steps):
                await _one(counter, sold, number, what, which, more)
                await counter.check_books()


async def _one(counter: Counter, sold: list[tuple[str, Done]], number: int, what: str, which: Any, more: Any) -> None:
    if what.startswith("buy"):
        before = await _everything(counter)
        sender = AMINA if which == METER and more % 2 else AGENT
        done = await counter.buy(more, drn=which, sender=sender, reference=f"b{number}", nth=9)
        if done.state is State.VENDED:
            sold.append((f"b{number}", done))
            if what == "buy and reverse":
                assert await _reverse(counter, number, f"b{number}") is Answer.REVERSED
                assert await _everything(counter) == before
    elif what == "wait":
        counter.world.advance(minutes=which * 40)
    elif what == "pay":
        try:
            await _pay(counter, which, more, f"slip {number}")
        except PaymentRefused:
            pass
    elif sold:
        reference, done = sold[which % len(sold)]
        if what == "reverse":
            await _reverse(counter, number, reference)
            return
        paid = int(done.replies[0].message.values["amount_minor"])
        own = str(done.replies[0].message.values["drn"])
        wish = {
            "WRONG_METER": Wish(Kind.WRONG_METER, _receipt(done), paid, 0, more, {"wrong": "debit"}),
            "REFUND_MONEY": Wish(Kind.REFUND_MONEY, _receipt(done), paid, 0, "", {"to": "source"}),
            "REFUND_TOKEN": Wish(Kind.REFUND_TOKEN, _receipt(done), paid, 0, own, {}),
        }[what]
        try:
            await _approve(counter, await _ask(counter, wish))
        except (CorrectionRefused, Refusal):
            pass  # it does not fit: then nothing may have moved, which the books are asked after every step


async def _reverse(counter: Counter, number: int, reference: str) -> Answer:
    asked = Reversal(
        f"sms|{reference}",
        f"sms|v{number}",
        b"\0" * 16,
        "sms",
        "smsc",
        "bank",
        counter.world.now(),
        Evidence.NOT_SHOWN,
    )
    result = await counter.store.submit(Reverse(counter.shop, asked))
    assert result is not None
    return result.answer
