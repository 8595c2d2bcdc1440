"""The life of a purchase: its states, what can happen, and the one table that joins them. Pure.

A purchase is stored as its state and the effect it owes. Whoever carries the effect out (`gateway/vend.py`,
after a crash `gateway/desk.py`) reports how it went as the next event, and `step` says what follows. Every effect
bears being carried out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a purchase stands, as stored."""

    RECEIVED = "RECEIVED"  # stored, not yet priced
    AWAITING = "AWAITING"  # priced; the payer is asked for the money, and nothing is held meanwhile
    UNPAID = "UNPAID"  # ended without the money of an outside source; if it comes all the same, it may still buy
    PAYING = "PAYING"  # priced; the money is being taken
    VENDING = "VENDING"  # the money is held; the token is being made
    VENDED = "VENDED"  # money and token are posted, the reply is owed
    DELIVERED = "DELIVERED"  # the reply has been taken by the channel's peer
    CANCELLING = "CANCELLING"  # reversed while an answer is still out
    RETURNING = "RETURNING"  # the money is being given back
    REFUSED = "REFUSED"  # ended, nothing was taken
    RETURNED = "RETURNED"  # ended, everything was given back
    SEALED = "SEALED"  # ended, sold and undone: nobody has seen the token, and nobody ever will
    REFUNDED = "REFUNDED"  # ended, sold and undone by two people: the token was seen, and is not given out again


class Event(StrEnum):
    """What can happen to a purchase."""

    QUOTED = "QUOTED"
    PAYMENT_NEEDED = "PAYMENT_NEEDED"  # priced, and an outside source must bring the money first
    MONEY_IN = "MONEY_IN"  # what was asked for is in our books, with the payer
    DECLINED = "DECLINED"
    PAID = "PAID"
    PAYMENT_UNCLEAR = "PAYMENT_UNCLEAR"
    TOKEN_MADE = "TOKEN_MADE"
    TOKEN_REFUSED = "TOKEN_REFUSED"
    MODULE_SILENT = "MODULE_SILENT"
    GAVE_UP = "GAVE_UP"
    GIVEN_BACK = "GIVEN_BACK"
    REPLY_CONFIRMED = "REPLY_CONFIRMED"
    REPLY_LOST = "REPLY_LOST"
    REVERSAL_ASKED = "REVERSAL_ASKED"
    UNSEEN_REVERSED = "UNSEEN_REVERSED"
    REFUND_APPROVED = "REFUND_APPROVED"


class Effect(StrEnum):
    """What a purchase owes in its state, as stored beside it."""

    NOTHING = "NOTHING"
    QUOTE = "QUOTE"
    COLLECT = "COLLECT"  # looked after by the payment's own table, gateway/payments/life.py
    TAKE_PAYMENT = "TAKE_PAYMENT"
    ASK_PAYMENT_STATUS = "ASK_PAYMENT_STATUS"
    MAKE_TOKEN = "MAKE_TOKEN"
    RECORD_AND_REPLY = "RECORD_AND_REPLY"
    REPLY_AGAIN = "REPLY_AGAIN"
    GIVE_BACK = "GIVE_BACK"
    REPLY_REFUSAL = "REPLY_REFUSAL"
    REFUSE_REVERSAL = "REFUSE_REVERSAL"
    UNDO_SALE = "UNDO_SALE"


@dataclass(frozen=True, slots=True)
class Step:
    """The state a purchase enters and the effect it then owes."""

    state: State
    effect: Effect


class ImpossibleStep(AssertionError):
    """An event that its state has no row for: a bug of ours, never a customer's."""


START: Final = Step(State.RECEIVED, Effect.QUOTE)

S, E, F = State, Event, Effect

# fmt: off
TABLE: Final[dict[State, dict[Event, Step]]] = {
    S.RECEIVED: {
        E.QUOTED:          Step(S.PAYING,     F.TAKE_PAYMENT),
        E.PAYMENT_NEEDED:  Step(S.AWAITING,   F.COLLECT),
        E.DECLINED:        Step(S.REFUSED,    F.REPLY_REFUSAL),
        E.REVERSAL_ASKED:  Step(S.REFUSED,    F.REPLY_REFUSAL),
    },
    S.AWAITING: {          # the money comes into our books first; then it is as if the customer had had it all along
        E.MONEY_IN:        Step(S.RECEIVED,   F.QUOTE),               # priced again: hours may have passed
        E.DECLINED:        Step(S.UNPAID,     F.REPLY_REFUSAL),
        E.REVERSAL_ASKED:  Step(S.REFUSED,    F.REPLY_REFUSAL),       # money that comes now stays with the payer
    },
    S.UNPAID: {
        E.MONEY_IN:        Step(S.RECEIVED,   F.QUOTE),               # success is final, however late
        E.REVERSAL_ASKED:  Step(S.REFUSED,    F.NOTHING),
    },
    S.PAYING: {
        E.PAID:            Step(S.VENDING,    F.MAKE_TOKEN),
        E.DECLINED:        Step(S.REFUSED,    F.REPLY_REFUSAL),
        E.PAYMENT_UNCLEAR: Step(S.PAYING,     F.ASK_PAYMENT_STATUS),  # never charge twice: ask first
        E.REVERSAL_ASKED:  Step(S.CANCELLING, F.NOTHING),
    },
    S.VENDING: {
        E.TOKEN_MADE:      Step(S.VENDED,     F.RECORD_AND_REPLY),
        E.TOKEN_REFUSED:   Step(S.RETURNING,  F.GIVE_BACK),
        E.MODULE_SILENT:   Step(S.VENDING,    F.MAKE_TOKEN),          # same token id, so the same token
        E.GAVE_UP:         Step(S.RETURNING,  F.GIVE_BACK),           # never shown, so worth nothing
        E.REVERSAL_ASKED:  Step(S.CANCELLING, F.NOTHING),
    },
    S.VENDED: {
        E.REPLY_CONFIRMED: Step(S.DELIVERED,  F.NOTHING),
        E.REPLY_LOST:      Step(S.VENDED,     F.REPLY_AGAIN),
        E.REVERSAL_ASKED:  Step(S.VENDED,     F.REFUSE_REVERSAL),     # the reply may be on its way: too late
        E.UNSEEN_REVERSED: Step(S.SEALED,     F.UNDO_SALE),           # certain that nobody has seen the token
        E.REFUND_APPROVED: Step(S.REFUNDED,   F.UNDO_SALE),
    },
    S.CANCELLING: {        # whatever the answer that is still out, the customer ends without a token
        E.DECLINED:        Step(S.REFUSED,    F.REPLY_REFUSAL),
        E.PAID:            Step(S.RETURNING,  F.GIVE_BACK),
        E.PAYMENT_UNCLEAR: Step(S.RETURNING,  F.GIVE_BACK),           # harmless if never taken
        E.TOKEN_MADE:      Step(S.RETURNING,  F.GIVE_BACK),           # never shown
        E.TOKEN_REFUSED:   Step(S.RETURNING,  F.GIVE_BACK),
        E.MODULE_SILENT:   Step(S.RETURNING,  F.GIVE_BACK),
        E.GAVE_UP:         Step(S.RETURNING,  F.GIVE_BACK),
        E.REVERSAL_ASKED:  Step(S.CANCELLING, F.NOTHING),
    },
    S.RETURNING: {
        E.GIVEN_BACK:      Step(S.RETURNED,   F.REPLY_REFUSAL),
        E.PAYMENT_UNCLEAR: Step(S.RETURNING,  F.GIVE_BACK),
        E.REVERSAL_ASKED:  Step(S.RETURNING,  F.GIVE_BACK),           # still owed: a crash must not forget it
    },
    S.DELIVERED: {
        E.REPLY_CONFIRMED: Step(S.DELIVERED,  F.NOTHING),
        E.REPLY_LOST:      Step(S.DELIVERED,  F.NOTHING),
        E.REVERSAL_ASKED:  Step(S.DELIVERED,  F.REFUSE_REVERSAL),
        E.UNSEEN_REVERSED: Step(S.SEALED,     F.UNDO_SALE),           # its peer took it and vouches: not passed on
        E.REFUND_APPROVED: Step(S.REFUNDED,   F.UNDO_SALE),
    },
    S.SEALED: {
        E.REPLY_CONFIRMED: Step(S.SEALED,     F.NOTHING),             # of the peer that vouched, come late
        E.REPLY_LOST:      Step(S.SEALED,     F.NOTHING),
        E.REVERSAL_ASKED:  Step(S.SEALED,     F.NOTHING),
    },
    S.REFUNDED: {
        E.REPLY_CONFIRMED: Step(S.REFUNDED,   F.NOTHING),
        E.REPLY_LOST:      Step(S.REFUNDED,   F.NOTHING),
        E.REVERSAL_ASKED:  Step(S.REFUNDED,   F.REFUSE_REVERSAL),
    },
    S.REFUSED:  {E.REVERSAL_ASKED: Step(S.REFUSED,  F.NOTHING)},
    S.RETURNED: {E.REVERSAL_ASKED: Step(S.RETURNED, F.NOTHING)},
}
# fmt: on

# Sold, and undone again: the money is back.
UNDONE: Final = frozenset({State.SEALED, State.REFUNDED})
# A purchase that has ended owes nothing more; a delivered one may still be undone, which is another end, and one that
# was not paid may still be paid.
ENDS: Final = frozenset({State.DELIVERED, State.UNPAID, State.REFUSED, State.RETURNED}) | UNDONE
SOLD: Final = frozenset({State.VENDED, State.DELIVERED})
# What still owes an effect to itself; VENDED owes only its reply, which the outbox looks after, and AWAITING a payment,
# which the timetable of payments looks after.
WAITING: Final = frozenset(State) - ENDS - {State.VENDED, State.AWAITING}


# Where an answer is awaited that no effect is owed for, a restart has lost it: what is then taken to have happened.
AFTER_RESTART: Final[dict[State, Event]] = {State.CANCELLING: Event.GAVE_UP}


def step(state: State, event: Event) -> Step:
    """What follows when `event` happens in `state`; ImpossibleStep if the table has no such row."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise ImpossibleStep(f"{event} in state {state}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/purchase.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {START.state}"]
    for state, row in TABLE.items():
        for event, to in row.items():
            owed = "" if to.effect is Effect.NOTHING else f" / {to.effect}"
            lines.append(f"    {state} --> {to.state}: {event}{owed}")
    lines.extend(f"    {state} --> [*]" for state in TABLE if state in ENDS)
    return "\n".join(lines) + "\n"
