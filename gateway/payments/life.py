"""The life of one payment at an outside source: its states, what may be said of it, the table that joins them. Pure.

Whatever the order in which answers, callbacks and questions come in, and however often: a success is booked once, and
nothing that is said afterwards undoes it, but for the source taking the money back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """How a payment stands here, as stored."""

    OWED = "OWED"  # stored; whether its source was asked is not known
    ASKED = "ASKED"  # its source has the request
    UNCLEAR = "UNCLEAR"  # asked, and no word of whether it was heard
    PAID = "PAID"  # the money is in our books
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"  # nothing was heard for a day; nobody asks any more
    REVERSED = "REVERSED"  # its source took it back


class Said(StrEnum):
    """What may be said of a payment, by its source or by the clock."""

    ASKED = "ASKED"  # answer to the request: taken on
    DECLINED = "DECLINED"  # answer to the request: certainly no money moves
    UNCLEAR = "UNCLEAR"
    UNKNOWN = "UNKNOWN"  # answer to a question: never heard of it
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    REVERSED = "REVERSED"
    TIME_UP = "TIME_UP"


class Effect(StrEnum):
    """What follows for the money and for the order."""

    NOTHING = "NOTHING"
    ASK = "ASK"  # ask again, by the timetable
    COLLECT = "COLLECT"  # send the same request again, under the same reference
    BOOK = "BOOK"  # the money comes into the books, and buys
    CLOSE = "CLOSE"  # the order is closed, its customer told
    TAKE_BACK = "TAKE_BACK"  # the money leaves the books


@dataclass(frozen=True, slots=True)
class Step:
    """The state a payment enters, and what follows."""

    state: State
    effect: Effect


S, W, F = State, Said, Effect

# fmt: off
TABLE: Final[dict[State, dict[Said, Step]]] = {
    S.OWED: {
        W.ASKED:    Step(S.ASKED,    F.ASK),
        W.DECLINED: Step(S.FAILED,   F.CLOSE),
        W.UNCLEAR:  Step(S.UNCLEAR,  F.ASK),
        W.UNKNOWN:  Step(S.OWED,     F.COLLECT),
        W.PENDING:  Step(S.ASKED,    F.ASK),
        W.SUCCESS:  Step(S.PAID,     F.BOOK),       # the callback came before the answer
        W.FAILED:   Step(S.FAILED,   F.CLOSE),
        W.REVERSED: Step(S.REVERSED, F.CLOSE),      # taken and given back: no money
        W.TIME_UP:  Step(S.EXPIRED,  F.CLOSE),
    },
    S.ASKED: {
        W.ASKED:    Step(S.ASKED,    F.ASK),
        W.DECLINED: Step(S.ASKED,    F.ASK),        # of a repeat; the source has the first
        W.UNCLEAR:  Step(S.ASKED,    F.ASK),
        W.UNKNOWN:  Step(S.ASKED,    F.ASK),        # it said that it has it: not yet everywhere, perhaps
        W.PENDING:  Step(S.ASKED,    F.ASK),
        W.SUCCESS:  Step(S.PAID,     F.BOOK),
        W.FAILED:   Step(S.FAILED,   F.CLOSE),
        W.REVERSED: Step(S.REVERSED, F.CLOSE),
        W.TIME_UP:  Step(S.EXPIRED,  F.CLOSE),
    },
    S.UNCLEAR: {
        W.ASKED:    Step(S.ASKED,    F.ASK),
        W.DECLINED: Step(S.FAILED,   F.CLOSE),
        W.UNCLEAR:  Step(S.UNCLEAR,  F.ASK),
        W.UNKNOWN:  Step(S.OWED,     F.COLLECT),
        W.PENDING:  Step(S.ASKED,    F.ASK),
        W.SUCCESS:  Step(S.PAID,     F.BOOK),
        W.FAILED:   Step(S.FAILED,   F.CLOSE),
        W.REVERSED: Step(S.REVERSED, F.CLOSE),
        W.TIME_UP:  Step(S.EXPIRED,  F.CLOSE),
    },
    S.PAID: {
        **{said: Step(S.PAID, F.NOTHING) for said in Said},
        W.REVERSED: Step(S.REVERSED, F.TAKE_BACK),
    },
    S.FAILED: {
        **{said: Step(S.FAILED, F.NOTHING) for said in Said},
        W.SUCCESS:  Step(S.PAID,     F.BOOK),       # success is final, in whichever order it comes
        W.REVERSED: Step(S.REVERSED, F.NOTHING),
    },
    S.EXPIRED: {
        **{said: Step(S.EXPIRED, F.NOTHING) for said in Said},
        W.SUCCESS:  Step(S.PAID,     F.BOOK),
        W.FAILED:   Step(S.FAILED,   F.NOTHING),
        W.REVERSED: Step(S.REVERSED, F.NOTHING),
    },
    S.REVERSED: {said: Step(S.REVERSED, F.NOTHING) for said in Said},  # a success that comes behind it is gone already
}
# fmt: on

OPEN: Final = frozenset({State.OWED, State.ASKED, State.UNCLEAR})
"""Of which something is still expected."""


def step(state: State, said: Said) -> Step:
    """What follows when this is said of a payment in this state; every state has a row for everything."""
    return TABLE[state][said]


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/payments.md; what changes nothing is left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.OWED}"]
    for state, row in TABLE.items():
        for said, to in row.items():
            if to != Step(state, Effect.NOTHING):
                lines.append(f"    {state} --> {to.state}: {said} / {to.effect}")
    return "\n".join(lines) + "\n"


# --- when to ask ------------------------------------------------------------------------------------------------------

FIRST_S: Final = (5.0, 15.0, 30.0, 60.0)
LONGEST_S: Final = 3_600.0
DAY_S: Final = 86_400.0
_JITTER: Final = 0.1


def next_ask(created_at: datetime, now: datetime, chance: float) -> tuple[int, datetime]:
    """When to ask about a payment again, and its lane (0 young, 1 backing off).

    5, 15, 30 and 60 s after it was made, then at twice that age each time, at most an hour apart; up to a tenth later
    by `chance`, in [0, 1), so that what began together does not come together.
    """
    age = (now - created_at).total_seconds()
    for at in FIRST_S:
        if age < at:
            return 0, created_at + timedelta(seconds=at + _JITTER * chance * at)
    at = FIRST_S[-1]
    while at <= age:
        at += min(at, LONGEST_S)
    return 1, created_at + timedelta(seconds=at + _JITTER * chance * min(at, LONGEST_S))


def is_over(created_at: datetime, now: datetime) -> bool:
    """Whether a payment is so old that nobody asks about it any more; the statement is the last word."""
    return (now - created_at).total_seconds() >= DAY_S
