"""Reversals: a peer, a cashier or the back office takes a purchase back, and what that does (R16).

One deed for every channel. What decides is whether anybody may have seen the token (docs/decisions/0022): not yet
sold, the purchase is cancelled; sold and certain not to have been seen, the sale is undone and its token sealed for
ever; else it is refused. A reversal that overtakes its purchase keeps the purchase's key, so that it never vends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from gateway import resale
from gateway.deeds import TOMBSTONE
from gateway.purchase import SOLD, Event, State
from gateway.undo import WITHDRAWN, brings_token
from gateway.vend import Done, Life, Shop, Vending
from ledger import bank_batch, correction_tables, selling, tables
from ledger.batch import WITHDRAW_UNSEEN
from ledger.counter import CHANNEL
from ledger.reasons import Reason
from ledger.unit import CorrectionState, Need, OutboxRow, PurchaseRow, ReversalRow, StoredRequest, Unit


class Answer(StrEnum):
    """What a reversal is answered. All but REFUSED promise that this purchase's token will never be given out."""

    REVERSED = "REVERSED"  # it was sold; the money is back and the token sealed
    CANCELLED = "CANCELLED"  # it was not sold yet, and ends without token and without money taken
    NOTHING_TAKEN = "NOTHING_TAKEN"  # it had been refused, or its money given back
    NEVER_SEEN = "NEVER_SEEN"  # it has not come; when it does, it is refused
    REFUSED = "REFUSED"


class Evidence(StrEnum):
    """What the asking channel says about the reply that it was handed."""

    NONE = "NONE"  # nothing: only what no channel was ever handed counts as unseen
    NOT_WRITTEN = "NOT_WRITTEN"  # its link had gone before the reply was written
    NOT_SHOWN = "NOT_SHOWN"  # its peer vouches: timed out, not printed, not dispensed, and a late answer is dropped


@dataclass(frozen=True, slots=True)
class Reversal:
    """A reversal as it is asked for.

    `original` and `key` are natural keys, "channel|reference": of the request that is to be reversed, and of this
    reversal itself, by which a repeat of it is known. `fingerprint` is 16 octets over its content. Amount and meter
    are compared where the asker names them. `policy` is that of the asking peer where its channel has several;
    `is_settled`: the day of the original is closed between the peer and us.
    """

    original: str
    key: str
    fingerprint: bytes
    channel: str
    peer: str
    who: str
    asked_at: datetime
    evidence: Evidence = Evidence.NONE
    amount_minor: int | None = None
    drn: str | None = None
    policy: str | None = None
    is_settled: bool | None = None


@dataclass(frozen=True, slots=True)
class Reversed:
    """What came of it. `repeated`: the purchase had been reversed before (R16's E_ALREADY_REVERSED), or this asked."""

    answer: Answer
    reason: Reason | None = None
    purchase_id: UUID | None = None
    repeated: bool = False
    done: Done = field(default_factory=Done, compare=False)


class Seen(StrEnum):
    """Who may have seen the tokens of a sale, or may yet."""

    NO_TOKEN = "NO_TOKEN"
    BY_NOBODY = "BY_NOBODY"  # none has left the books in anything that goes out: proved by this program itself
    BY_ITS_WORD = "BY_ITS_WORD"  # nobody, if the peer's word is good: enough to seal, not to sell again
    PERHAPS = "PERHAPS"


_CANCELLED: Final = frozenset(
    {
        State.RECEIVED,
        State.AWAITING,
        State.UNPAID,
        State.PAYING,
        State.VENDING,
        State.CANCELLING,
        State.RETURNING,
    }
)


@dataclass(frozen=True, slots=True)
class Reverse:
    """Decide on a reversal and carry it out. None: the purchase was made in this very batch; submit it again.

    `unsent` are replies that this process has kept back before any channel was handed them.
    """

    shop: Shop
    asked: Reversal
    unsent: frozenset[UUID] = frozenset()

    def need(self, need: Need) -> None:
        need.originals.append(self.asked.original)
        need.reversals.append(self.asked.key)
        need.day_of, need.wallets_have_days = self.shop.day, bool(self.shop.settings.wallet.per_day_max_minor)

    def decide(self, unit: Unit) -> Reversed | None:
        asked = self.asked
        assert asked.key != asked.original, "a reversal has a key of its own"
        own, original = unit.requests.get(asked.key), unit.requests.get(asked.original)
        if own is not None:
            return self._repeat(unit, own)
        if original is not None and original.fingerprint != TOMBSTONE:
            if original.id not in unit.undoable or unit.is_changed("purchases", original.id):
                return None
        result = self._decide(unit, original)
        self._store(unit, result)
        return result

    def _repeat(self, unit: Unit, own: StoredRequest) -> Reversed | None:
        if own.fingerprint != self.asked.fingerprint:
            return Reversed(Answer.REFUSED, Reason.DUPLICATE_DIFFERS)
        stored = unit.answers.get(own.id)
        if stored is None:
            return None  # it came twice in this batch; the answer of the first is there in the next
        reason = Reason(stored.reason) if stored.reason else None
        return Reversed(Answer(stored.answer), reason, stored.purchase_id, repeated=True)

    def _decide(self, unit: Unit, original: StoredRequest | None) -> Reversed:
        if original is None:
            self._keep_key(unit)
            return Reversed(Answer.NEVER_SEEN)
        if original.fingerprint == TOMBSTONE:
            return Reversed(Answer.NEVER_SEEN, repeated=True)
        row = unit.purchases.get(original.id)
        if row is None:
            return Reversed(Answer.NOTHING_TAKEN)  # no purchase came of it
        life = Life.of(unit, row)
        if (self.asked.amount_minor or row.amount_minor) != row.amount_minor or (
            self.asked.drn or life.meter.drn
        ) != life.meter.drn:
            return Reversed(Answer.REFUSED, Reason.REVERSAL_DIFFERS, row.id)
        state, done = State(row.state), Done()
        vending = Vending(self.shop, unit, done, self.shop.world.now())
        if state in _CANCELLED:
            life.row.reason = Reason.REVERSED.value
            vending.walk(life, Event.REVERSAL_ASKED)
            return Reversed(Answer.CANCELLED, None, row.id, state in (State.CANCELLING, State.RETURNING), done)
        if state not in SOLD:
            if state is State.SEALED:
                return Reversed(Answer.REVERSED, None, row.id, repeated=True)
            if state is State.REFUNDED:
                return Reversed(Answer.REFUSED, Reason.REFUNDED, row.id)
            return Reversed(Answer.NOTHING_TAKEN, None, row.id)
        reason = self._why_not(unit, life)
        if reason is not None:
            vending.walk(life, Event.REVERSAL_ASKED)
            return Reversed(Answer.REFUSED, reason, row.id, done=done)
        is_proved = self._seen(unit, row) is Seen.BY_NOBODY
        for reply in unit.outbox.get(row.id, ()):
            if brings_token(reply) and (reply.id in self.unsent or _waits_at_a_counter(reply)):
                unit.update(WITHDRAW_UNSEEN, (reply.id, reply.owner, "reversal", vending.now))
        vending.walk(life, Event.UNSEEN_REVERSED)
        if is_proved:
            resale.keep(unit, row)
        selling.count(unit, row, -1)  # the drawer gives the money back
        return Reversed(Answer.REVERSED, None, row.id, done=done)

    def _why_not(self, unit: Unit, life: Life) -> Reason | None:
        """Why a sale stands: R16's checks in its order, then the channel's policy and what may have been seen."""
        row, settings = life.row, self.shop.settings.channel(life.row.channel)
        if any(stands(correction) for correction in unit.corrections.get(row.id, ())):
            return Reason.REFUNDED
        point = unit.points[row.service_point_id]
        if point.last_sale != row.id or point.vending is not None or "case" in life.split:
            return Reason.REVERSAL_NOT_LAST
        is_late = self.asked.is_settled
        if is_late is None:
            is_late = self.asked.asked_at > row.accepted_at + timedelta(minutes=settings.reversal_window_minutes)
        if is_late:
            return Reason.REVERSAL_LATE
        if not selling.is_undoable(unit, row.id, row.channel):
            return Reason.REVERSAL_LATE
        payer = unit.balances.get(row.payer_id) if row.payer_id is not None else None
        if payer is not None and payer.closed_at is not None:
            return Reason.REVERSAL_LATE  # the account that the money would go back to was closed since
        if (self.asked.policy or settings.reversals) == "refuse":
            return Reason.REVERSALS_NOT_TAKEN
        return Reason.TOKEN_DISCLOSED if self._seen(unit, row) is Seen.PERHAPS else None

    def _seen(self, unit: Unit, row: PurchaseRow) -> Seen:
        """Whether anybody has seen a token of this sale, or will after this."""
        if not unit.tokens.get(row.id):
            return Seen.NO_TOKEN  # all of its money went to charges and debts
        if unit.disclosed.get(row.id):
            return Seen.PERHAPS
        if row.channel == bank_batch.CHANNEL:
            # It was answered by its link, and nothing of that is in the outbox.
            if self.asked.channel != row.channel or self.asked.evidence is Evidence.NONE:
                return Seen.PERHAPS
            return Seen.BY_NOBODY if self.asked.evidence is Evidence.NOT_WRITTEN else Seen.BY_ITS_WORD
        node = self.shop.settings.gateway.node
        # A sale that owed its token to nobody proves nothing.
        replies = [reply for reply in unit.outbox.get(row.id, ()) if brings_token(reply)]
        found = Seen.BY_NOBODY if replies else Seen.BY_ITS_WORD
        for reply in replies:
            # OWED alone says nothing: whoever holds its lease may have handed it over and not written that down yet.
            is_unsent = reply.id in self.unsent and reply.state == "OWED" and not reply.attempts and reply.owner == node
            if is_unsent or _waits_at_a_counter(reply):
                continue
            is_vouched_for = self.asked.evidence is not Evidence.NONE and reply.channel == self.asked.channel
            if reply.state != WITHDRAWN and not is_vouched_for:
                return Seen.PERHAPS
            found = Seen.BY_ITS_WORD
        return found

    # --- storing ---

    def _keep_key(self, unit: Unit) -> None:
        asked, new_id = self.asked, self.shop.world.new_id()
        channel = asked.original.partition("|")[0]
        unit.insert(
            tables.request,
            (new_id, asked.original, TOMBSTONE, channel, asked.peer, asked.who, "", "Reversed", asked.asked_at),
        )
        unit.put("requests", asked.original, StoredRequest(asked.original, new_id, TOMBSTONE))

    def _store(self, unit: Unit, result: Reversed) -> None:
        asked, new_id = self.asked, self.shop.world.new_id()
        unit.insert(
            tables.request,
            (
                new_id,
                asked.key,
                asked.fingerprint,
                asked.channel,
                asked.peer,
                asked.who,
                "",
                "Reversal",
                asked.asked_at,
            ),
        )
        unit.put("requests", asked.key, StoredRequest(asked.key, new_id, asked.fingerprint))
        row = ReversalRow(
            new_id,
            asked.original,
            result.purchase_id,
            result.answer.value,
            result.reason.value if result.reason else None,
            asked.evidence.value,
            asked.who,
            self.shop.world.now(),
        )
        unit.insert(correction_tables.reversal, tuple(getattr(row, name) for name in ReversalRow.__slots__))
        unit.put("answers", new_id, row)


def _waits_at_a_counter(reply: OutboxRow) -> bool:
    """Whether this answer was never printed: a terminal marks it in a transaction of its own before it prints."""
    return reply.channel == CHANNEL and reply.state == "OWED" and not reply.attempts


def stands(correction: CorrectionState) -> bool:
    """Whether a correction was neither refused nor taken back."""
    return correction.state != "REFUSED"
