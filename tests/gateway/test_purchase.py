"""The purchase table as data, and every interleaving of one purchase with an outside that may answer anything.

The walk keeps what the program cannot see: whether the money is really taken, whether the channel's peer really has the
token, and whether somebody has seen it. At every end money was taken exactly when a token was given out; and a sale
that was undone for good was seen by nobody, then or later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway import purchase
from gateway.purchase import (
    AFTER_RESTART,
    ENDS,
    SOLD,
    START,
    TABLE,
    UNDONE,
    WAITING,
    Effect,
    Event,
    ImpossibleStep,
    State,
    Step,
    step,
)
from ledger.batch import CONFIRM_PURCHASE

E, F, S = Event, Effect, State
Table = dict[State, dict[Event, Step]]


@dataclass(frozen=True)
class Situation:
    """One purchase and the truth about its outside."""

    state: State
    owed: Effect
    pending: frozenset[Effect]  # effects whose answer is still out
    taken: bool = False
    handed: bool = False  # the channel's peer has the token
    shown: bool = False  # somebody has seen it
    vouched: bool = False  # the peer has said that it does not show it, and drops a late one
    certain: bool = False  # the program knows of itself that no channel was handed it
    reversals_left: int = 2
    refunds_left: int = 1
    crashes_left: int = 1
    late_left: int = 1  # money of an outside source that comes after the order was closed


# Every answer an effect may get, with the truth after it: (event, money taken), None where it stays as it is.
_ANSWERS: dict[Effect, list[tuple[Event, bool | None]]] = {
    F.QUOTE: [(E.QUOTED, None), (E.DECLINED, None), (E.PAYMENT_NEEDED, None)],
    F.COLLECT: [(E.MONEY_IN, None), (E.DECLINED, None)],  # into the payer's own account: not taken by the sale yet
    F.TAKE_PAYMENT: [(E.PAID, True), (E.DECLINED, False), (E.PAYMENT_UNCLEAR, True), (E.PAYMENT_UNCLEAR, False)],
    F.MAKE_TOKEN: [(E.TOKEN_MADE, None), (E.TOKEN_REFUSED, None), (E.MODULE_SILENT, None), (E.GAVE_UP, None)],
    F.RECORD_AND_REPLY: [(E.REPLY_CONFIRMED, None), (E.REPLY_LOST, None)],
    F.REPLY_AGAIN: [(E.REPLY_CONFIRMED, None), (E.REPLY_LOST, None)],
    F.GIVE_BACK: [(E.GIVEN_BACK, False), (E.PAYMENT_UNCLEAR, True), (E.PAYMENT_UNCLEAR, False)],
}


def _answers(effect: Effect, now: Situation) -> list[tuple[Event, bool]]:
    if effect is F.ASK_PAYMENT_STATUS:  # the source tells the truth, or nothing
        return [(E.PAID if now.taken else E.DECLINED, now.taken), (E.PAYMENT_UNCLEAR, now.taken)]
    found = []
    for event, taken in _ANSWERS[effect]:
        if effect is F.GIVE_BACK and taken and not now.taken:
            continue  # giving back what was never taken is harmless, and cannot take it
        if effect is F.TAKE_PAYMENT and now.taken and taken is False:
            continue  # asked again after a crash with the same key: what was taken stays taken
        found.append((event, now.taken if taken is None else taken))
    return found


_REPLIES = frozenset({F.RECORD_AND_REPLY, F.REPLY_AGAIN})
Unseen = Callable[[Situation], bool]


def _enter(table: Table, now: Situation, event: Event) -> Situation:
    following = table[now.state][event]
    silent = (F.NOTHING, F.REPLY_REFUSAL, F.REFUSE_REVERSAL, F.UNDO_SALE)
    pending = now.pending if following.effect in silent else now.pending | {following.effect}
    entered = replace(now, state=following.state, owed=following.effect, pending=pending)
    if following.effect is F.RECORD_AND_REPLY:
        return replace(entered, certain=True)
    return replace(entered, taken=False) if following.effect is F.UNDO_SALE else entered


def _reversals(table: Table, now: Situation, is_unseen: Unseen) -> Iterator[tuple[str, Situation]]:
    # Pricing is inside one transaction: a reversal comes before it, and then it never happens, or after it.
    asked = replace(now, reversals_left=now.reversals_left - 1, pending=now.pending - {F.QUOTE})
    if now.state in SOLD and is_unseen(now):
        kept_back = replace(asked, pending=now.pending - _REPLIES, certain=False)
        yield E.UNSEEN_REVERSED, _enter(table, kept_back, E.UNSEEN_REVERSED)
        return
    if now.state in SOLD and not now.shown:
        # The peer vouches, while another node may still be handing it the reply.
        yield "vouched", _enter(table, replace(asked, vouched=True, certain=False), E.UNSEEN_REVERSED)
    yield E.REVERSAL_ASKED, _enter(table, asked, E.REVERSAL_ASKED)


def _next(table: Table, now: Situation, is_unseen: Unseen) -> Iterator[tuple[str, Situation]]:
    for effect in now.pending:
        if effect in _REPLIES and not now.handed:
            yield "handed", replace(now, handed=True, certain=False)
            continue
        for event, taken in _answers(effect, now):
            if effect is F.COLLECT and now.state is S.REFUSED:  # taken back meanwhile: the money stays with its payer
                yield "kept", replace(now, pending=now.pending - {effect})
                continue
            answered = replace(now, pending=now.pending - {effect}, taken=taken)
            yield event, _enter(table, answered, event)
    if now.state is S.UNPAID and now.late_left:
        yield E.MONEY_IN, _enter(table, replace(now, late_left=0), E.MONEY_IN)
    if now.handed and not now.shown and not now.vouched:
        yield "shown", replace(now, shown=True)
    if now.reversals_left:
        yield from _reversals(table, now, is_unseen)
    if now.refunds_left and now.state in SOLD:
        yield E.REFUND_APPROVED, _enter(table, replace(now, refunds_left=0, certain=False), E.REFUND_APPROVED)
    if now.crashes_left:
        # A crash loses every answer that is out; the restart carries the owed effect out again. Nobody knows any more
        # what was about to be handed out.
        crashed = replace(now, crashes_left=now.crashes_left - 1, pending=frozenset(), certain=False)
        if now.state in AFTER_RESTART:
            yield "crash", _enter(table, crashed, AFTER_RESTART[now.state])
        elif now.owed in _ANSWERS or now.owed is F.ASK_PAYMENT_STATUS:
            yield "crash", replace(crashed, pending=frozenset({now.owed}))
        elif now.state is S.VENDED:  # REFUSE_REVERSAL was owed; the reply itself is owed by the outbox
            yield "crash", replace(crashed, pending=frozenset({F.REPLY_AGAIN}))
        else:
            yield "crash", crashed


def _is_kept(now: Situation) -> bool:
    """Whether an end keeps the promise."""
    if now.state is S.DELIVERED:
        return now.taken and now.handed and not now.vouched
    if now.state is S.SEALED:
        return not now.taken and not now.shown and (not now.handed or now.vouched)
    return not now.taken and (now.state is S.REFUNDED or not now.handed)


def walk(table: Table, is_unseen: Unseen = lambda now: now.certain) -> tuple[int, list[str], list[str]]:
    """Situations reached, missing rows, broken promises. `is_unseen`: how the program judges before it seals."""
    first = Situation(START.state, START.effect, frozenset({START.effect}))
    seen, todo = {first}, [first]
    missing: set[str] = set()
    broken: set[str] = set()
    while todo:
        now = todo.pop()
        if now.state in ENDS and not now.pending:
            if not _is_kept(now):
                broken.add(f"ended {now.state} with taken={now.taken}, handed={now.handed}, shown={now.shown}")
        elif not now.pending:
            broken.add(f"stuck in {now.state}")
        try:
            for _, following in _next(table, now, is_unseen):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        except KeyError as error:
            missing.add(f"{now.state}: {error}")
    return len(seen), sorted(missing), sorted(broken)


def _with(state: State, event: Event, following: Step) -> Table:
    return {**TABLE, state: {**TABLE[state], event: following}}


def test_every_interleaving_ends_with_a_token_for_money_or_neither() -> None:
    situations, missing, broken = walk(TABLE)
    assert (missing, broken) == ([], [])
    assert situations >= 200


@pytest.mark.parametrize(
    ("state", "event", "wrong"),
    [
        (S.PAYING, E.REVERSAL_ASKED, Step(S.REFUSED, F.NOTHING)),  # refusing at once while the money is on its way
        (S.PAYING, E.PAYMENT_UNCLEAR, Step(S.REFUSED, F.REPLY_REFUSAL)),  # "refused" while the outcome is unknown
        (S.VENDING, E.GAVE_UP, Step(S.REFUSED, F.REPLY_REFUSAL)),  # keeping the money without a token
        (S.VENDED, E.REVERSAL_ASKED, Step(S.RETURNING, F.GIVE_BACK)),  # giving back what was shown
        (S.VENDED, E.REVERSAL_ASKED, Step(S.SEALED, F.UNDO_SALE)),  # sealing what may be on its way
        (S.DELIVERED, E.REVERSAL_ASKED, Step(S.SEALED, F.UNDO_SALE)),  # sealing what was shown
        (S.VENDED, E.UNSEEN_REVERSED, Step(S.SEALED, F.NOTHING)),  # sealing and keeping the money
        (S.SEALED, E.REPLY_LOST, Step(S.VENDED, F.REPLY_AGAIN)),  # showing what was sealed
        (S.SEALED, E.REPLY_CONFIRMED, Step(S.DELIVERED, F.NOTHING)),  # forgetting that it was sealed
        (S.RETURNING, E.REVERSAL_ASKED, Step(S.RETURNING, F.NOTHING)),  # forgetting what is owed
        (S.CANCELLING, E.PAYMENT_UNCLEAR, Step(S.REFUSED, F.NOTHING)),  # not giving back what may be taken
        (S.AWAITING, E.MONEY_IN, Step(S.VENDING, F.MAKE_TOKEN)),  # a token without taking the money from the payer
        (S.UNPAID, E.MONEY_IN, Step(S.VENDED, F.RECORD_AND_REPLY)),
    ],
)
def test_the_walk_catches_a_wrong_row(state: State, event: Event, wrong: Step) -> None:
    _, missing, broken = walk(_with(state, event, wrong))
    assert missing or broken


@pytest.mark.parametrize(
    "is_unseen",
    [
        lambda now: True,  # whoever asks gets the money
        lambda now: now.state is S.VENDED,  # not marked as delivered, so taken for unseen
        lambda now: not now.handed or now.crashes_left == 0,  # a crash forgets who was sending
    ],
)
def test_the_walk_catches_a_judge_who_seals_what_may_have_been_seen(is_unseen: Unseen) -> None:
    _, missing, broken = walk(TABLE, is_unseen)
    assert not missing and broken


def test_the_walk_catches_a_missing_row() -> None:
    for state, row in TABLE.items():
        for event in row:
            if (state, event) == (S.DELIVERED, E.REPLY_CONFIRMED) or (state, event) == (S.DELIVERED, E.REPLY_LOST):
                continue  # only reached when a reply that was sent twice is answered twice
            shorter = {**TABLE, state: {other: to for other, to in row.items() if other is not event}}
            _, missing, _ = walk(shorter)
            assert missing, f"{event} in {state} is never needed"


def test_every_state_event_and_effect_is_used() -> None:
    assert set(TABLE) == set(State)
    assert {event for row in TABLE.values() for event in row} == set(Event)
    assert {to.effect for row in TABLE.values() for to in row.values()} | {START.effect} == set(Effect)


def test_ends_stay_ended_and_what_was_vended_is_never_refused() -> None:
    for end in ENDS - {S.DELIVERED, S.UNPAID}:
        assert {to.state for to in TABLE[end].values()} == {end}
    assert {to.state for to in TABLE[S.UNPAID].values()} == {S.RECEIVED, S.REFUSED}
    assert {to.state for to in TABLE[S.DELIVERED].values()} == {S.DELIVERED} | UNDONE
    reached, todo = {S.VENDED}, [S.VENDED]
    while todo:
        for to in TABLE[todo.pop()].values():
            if to.state not in reached:
                reached.add(to.state)
                todo.append(to.state)
    assert reached == SOLD | UNDONE


def test_an_event_without_a_row_is_a_bug_by_name() -> None:
    with pytest.raises(ImpossibleStep, match="PAID in state DELIVERED"):
        step(S.DELIVERED, E.PAID)


def test_the_states_that_wait_are_those_the_database_indexes() -> None:
    from ledger.tables import purchase as table

    index = next(index for index in table.indexes if index.name == "ix_purchase_waiting")
    condition = str(index.dialect_options["sqlite"]["where"])
    assert {state for state in State if f"'{state.value}'" in condition} == WAITING


def test_the_outbox_confirms_a_purchase_as_the_table_says() -> None:
    assert TABLE[S.VENDED][E.REPLY_CONFIRMED].effect is F.NOTHING
    assert "purchase.state = 'VENDED'" in CONFIRM_PURCHASE.sqlite
    others = {state for state, row in TABLE.items() if E.REPLY_CONFIRMED in row} - {S.VENDED}
    assert all(TABLE[state][E.REPLY_CONFIRMED].state is state for state in others)


def test_the_diagram_in_the_documentation_is_this_table() -> None:
    text = (Path(purchase.__file__).parent.parent / "docs" / "purchase.md").read_text(encoding="utf-8")
    assert purchase.diagram() in text
