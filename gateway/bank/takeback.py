"""A bank's reversal as a deed: `gateway/reversal.py` decides, and what a bank needs besides is stored with it.

What the bank vouches for counts as evidence that nobody has seen the token only under the policy `accept_and_seal`;
that this process has not written the answer always does, unless the token was asked for again meanwhile. A reversal
that informs (an advice) and comes too late is acknowledged where the profile says so: the sale stands, the reversal is
an exception for the settlement, and the bank is never given this token again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from channels.iso8583.codes import Outcome
from channels.iso8583.flows import ReversalOrder, Told
from channels.iso8583.profile import Profile
from gateway.bank.deeds import REVERSAL, TOMB, common, key_of
from gateway.deeds import TOMBSTONE
from gateway.reversal import Answer, Evidence, Reversal, Reverse, Reversed
from gateway.vend import Shop
from ledger import bank_batch
from ledger.bank_batch import CHANNEL
from ledger.reasons import Reason
from ledger.unit import BankRequestRow, Need, Unit

ACCEPT_AND_SEAL: Final = "accept_and_seal"
EXCEPTION: Final = "EXCEPTION"
_NO_AMOUNT: Final = -1  # unlike every purchase's

# Why a sale stands although its reversal is right: an advice of it may be acknowledged all the same.
_STANDS: Final = frozenset(
    {
        Reason.TOKEN_DISCLOSED,
        Reason.REVERSAL_LATE,
        Reason.REVERSAL_NOT_LAST,
        Reason.REVERSALS_NOT_TAKEN,
        Reason.REFUNDED,
    }
)
_ACCEPTED: Final = frozenset({Answer.REVERSED, Answer.CANCELLED, Answer.NOTHING_TAKEN})


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What came of a reversal."""

    told: Told
    result: Reversed


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Decide on a reversal. `original` is the key of the request that it means, found before.

    None: the original has come meanwhile under another key, or was made in this very batch; look again.
    """

    shop: Shop
    profile: Profile
    order: ReversalOrder
    original: str
    is_unwritten: bool

    def need(self, need: Need) -> None:
        need.originals.append(self.original)
        need.reversals.append(key_of(self.order.key))
        need.banks.append(self.order.bank)
        if self.order.trace is not None:
            need.bank_traces.append(self.order.trace)

    def decide(self, unit: Unit) -> TakenBack | None:
        order = self.order
        original = unit.requests.get(self.original)
        row = unit.bank_requests.get(original.id) if original is not None else None
        if original is None and order.trace is not None and (order.bank, order.trace) in unit.bank_traces:
            return None
        result = Reverse(self.shop, self._asked(unit, row)).decide(unit)
        if result is None:
            return None
        is_acknowledged = self._is_acknowledged(result)
        if not result.repeated or not self._is_stored(unit):
            self._store(unit, result, row, is_acknowledged)
        return TakenBack(self._told(result, is_acknowledged), result)

    def _asked(self, unit: Unit, row: BankRequestRow | None) -> Reversal:
        order = self.order
        vouches = order.is_timeout and self.profile.reversal.policy == ACCEPT_AND_SEAL
        evidence = Evidence.NOT_SHOWN if vouches else Evidence.NONE
        if self.is_unwritten and row is not None and not row.answers:
            evidence = Evidence.NOT_WRITTEN  # more than anybody's word
        # A bank may send back the original's date: its last cut-over counts all the same.
        dates = [day for day in (order.business_date, unit.bank_days.get(order.bank)) if day is not None]
        return Reversal(
            original=self.original,
            key=key_of(order.key),
            fingerprint=order.fingerprint,
            channel=CHANNEL,
            peer=order.bank,
            who=f"bank {order.bank}",
            asked_at=order.received_at,
            evidence=evidence,
            amount_minor=_NO_AMOUNT if order.is_partial else order.amount_minor,
            policy=ACCEPT_AND_SEAL,  # `evidence` has it already
            # A bank that never says which day it is has the window of time that every channel has.
            is_settled=row.business_date < max(dates) if row is not None and dates else None,
        )

    def _is_acknowledged(self, result: Reversed) -> bool:
        """Whether the sale stands and the bank is told yes all the same."""
        is_advice = self.order.is_advice and self.profile.reversal.advice_refusal == "ack_only"
        return result.answer is Answer.REFUSED and is_advice and result.reason in _STANDS

    def _is_stored(self, unit: Unit) -> bool:
        """Whether this reversal itself had come before: not only another one of the same purchase."""
        own = unit.requests.get(key_of(self.order.key))
        return own is not None and own.id in unit.answers and not unit.is_changed("answers", own.id)

    def _store(self, unit: Unit, result: Reversed, original: BankRequestRow | None, is_acknowledged: bool) -> None:
        order = self.order
        own = unit.requests.get(key_of(order.key))
        if own is None or own.fingerprint != order.fingerprint:
            return  # the key of another reversal: nothing was decided
        values = common(unit, self.shop, order)
        # One that was taken back before counts once.
        is_second = result.repeated and result.answer is Answer.REVERSED
        outcome = EXCEPTION if is_acknowledged else Answer.NOTHING_TAKEN.value if is_second else result.answer.value
        bank_batch.insert(
            unit,
            BankRequestRow(
                **values,
                id=own.id,
                function=REVERSAL,
                trace=None,
                # What was taken back is what was sold, whatever the reversal says or leaves out.
                amount_minor=original.amount_minor if original is not None else order.amount_minor or 0,
                drn=original.drn if original is not None else "",
                original=original.id if original is not None else None,
                outcome=outcome,
                reason=str(result.reason) if result.reason is not None else None,
                code=self.profile.code(self._told(result, is_acknowledged).why),
            ),
        )
        if is_acknowledged and original is not None:
            unit.update(bank_batch.CLOSE, (original.id, True))
        if result.answer is Answer.NEVER_SEEN and not result.repeated:
            self._store_tombstone(unit, values)

    def _store_tombstone(self, unit: Unit, values: dict[str, Any]) -> None:
        """The mark by which the original is refused when it comes, under its trace as well as under its key."""
        request = unit.requests[self.original]
        assert request.fingerprint == TOMBSTONE, "kept by the reversal"
        bank_batch.insert(
            unit,
            BankRequestRow(
                **values,
                id=request.id,
                function=TOMB,
                trace=self.order.trace,
                amount_minor=self.order.amount_minor or 0,
                drn="",
                original=None,
                outcome=Answer.NEVER_SEEN.value,
                reason=None,
                code=None,
            ),
        )

    def _told(self, result: Reversed, is_acknowledged: bool) -> Told:
        if result.answer in _ACCEPTED or is_acknowledged:
            return Told(Outcome.REVERSAL_ACCEPTED)
        if result.answer is Answer.NEVER_SEEN:
            return Told(Outcome.ORIGINAL_UNKNOWN)
        if result.reason is Reason.REVERSAL_DIFFERS:
            return Told(Outcome.AMOUNT_DIFFERS)  # the key says all else: terminal, bank, trace number
        return Told(result.reason or Reason.INTERNAL)
