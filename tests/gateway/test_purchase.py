"""The purchase table as data, and every interleaving of one purchase with an outside that may answer anything.

The walk keeps what the program cannot see: whether the money is really taken, and whether a token was really shown. At
every end money was taken exactly when a token was shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway import purchase
from gateway.purchase import (
    AFTER_RESTART,
    ENDS,
    START,
    TABLE,
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
    shown: bool = False
    reversals_left: int = 2
    crashes_left: int = 1


# Every answer an effect may get, with the truth after it: (event, money taken), None where it stays as it is.
_ANSWERS: dict[Effect, list[tuple[Event, bool | None]]] = {
    F.QUOTE: [(E.QUOTED, None), (E.DECLINED, None)],
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


def _enter(table: Table, now: Situation, event: Event) -> Situation:
    following = table[now.state][event]
    silent = (F.NOTHING, F.REPLY_REFUSAL, F.REFUSE_REVERSAL)
    pending = now.pending if following.effect in silent else now.pending | {following.effect}
    shown = now.shown or following.effect in (F.RECORD_AND_REPLY, F.REPLY_AGAIN)
    return replace(now, state=following.state, owed=following.effect, pending=pending, shown=shown)


def _next(table: Table, now: Situation) -> Iterator[tuple[str, Situation]]:
    for effect in now.pending:
        for event, taken in _answers(effect, now):
            answered = replace(now, pending=now.pending - {effect}, taken=taken)
            yield event, _enter(table, answered, event)
    if now.reversals_left:
        # Pricing is inside one transaction: a reversal comes before it, and then it never happens, or after it.
        asked = replace(now, reversals_left=now.reversals_left - 1, pending=now.pending - {F.QUOTE})
        yield E.REVERSAL_ASKED, _enter(table, asked, E.REVERSAL_ASKED)
    if now.crashes_left:
        # A crash loses every answer that is out; the restart carries the owed effect out again.
        crashed = replace(now, crashes_left=now.crashes_left - 1, pending=frozenset())
        if now.state in AFTER_RESTART:
            yield "crash", _enter(table, crashed, AFTER_RESTART[now.state])
        elif now.owed in _ANSWERS or now.owed is F.ASK_PAYMENT_STATUS:
            yield "crash", replace(crashed, pending=frozenset({now.owed}))
        elif now.state is S.VENDED:  # REFUSE_REVERSAL was owed; the reply itself is owed by the outbox
            yield "crash", replace(crashed, pending=frozenset({F.REPLY_AGAIN}))
        else:
            yield "crash", crashed


def walk(table: Table) -> tuple[int, list[str], list[str]]:
    """Situations reached, missing rows, broken promises."""
    first = Situation(START.state, START.effect, frozenset({START.effect}))
    seen, todo = {first}, [first]
    missing: set[str] = set()
    broken: set[str] = set()
    while todo:
        now = todo.pop()
        if now.state in ENDS and not now.pending:
            if now.taken != now.shown:
                broken.add(f"ended {now.state} with taken={now.taken}, shown={now.shown}")
        elif not now.pending:
            broken.add(f"stuck in {now.state}")
        try:
            for _, following in _next(table, now):
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
    assert situations >= 80


@pytest.mark.parametrize(
    ("state", "event", "wrong"),
    [
        (S.PAYING, E.REVERSAL_ASKED, Step(S.REFUSED, F.NOTHING)),  # refusing at once while the money is on its way
        (S.PAYING, E.PAYMENT_UNCLEAR, Step(S.REFUSED, F.REPLY_REFUSAL)),  # "refused" while the outcome is unknown
        (S.VENDING, E.GAVE_UP, Step(S.REFUSED, F.REPLY_REFUSAL)),  # keeping the money without a token
        (S.VENDED, E.REVERSAL_ASKED, Step(S.RETURNING, F.GIVE_BACK)),  # giving back what was shown
        (S.RETURNING, E.REVERSAL_ASKED, Step(S.RETURNING, F.NOTHING)),  # forgetting what is owed
        (S.CANCELLING, E.PAYMENT_UNCLEAR, Step(S.REFUSED, F.NOTHING)),  # not giving back what may be taken
    ],
)
def test_the_walk_catches_a_wrong_row(state: State, event: Event, wrong: Step) -> None:
    _, missing, broken = walk(_with(state, event, wrong))
    assert missing or broken


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
    for end in ENDS:
        assert {to.state for to in TABLE[end].values()} == {end}
    reached, todo = {S.VENDED}, [S.VENDED]
    while todo:
        for to in TABLE[todo.pop()].values():
            if to.state not in reached:
                reached.add(to.state)
                todo.append(to.state)
    assert reached == {S.VENDED, S.DELIVERED}


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
