"""A provider of mobile money in memory, that keeps its own books and does as it is told with its words.

It satisfies `gateway.payments.contract.PaymentSource` honestly: of one reference it takes money at most once, its
status tells the truth or nothing, and whatever it took stands in its statement. What gets lost, late or repeated on the
way is up to the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from uuid import UUID

from channels.http.callback import Answer, Callback, NotReadable
from gateway.payments.contract import (
    Asked,
    Can,
    Collect,
    Declined,
    Event,
    Forged,
    PaymentState,
    StatementLine,
    Unclear,
    Unknown,
    Validation,
    Why,
)

SIGNED = "signed"


@dataclass
class Account:
    """One request as the provider has it."""

    order: Collect
    provider_ref: str
    state: PaymentState = PaymentState.PENDING
    receipt: str = ""
    why: Why | None = None
    prompts: int = 1


@dataclass
class MobileMoney:
    """The provider. `asks` says how the next requests go, `polls` the next questions; then all go well.

    An item of `asks` is "lost" (never arrives), "silent" (arrives, its answer is lost) or "declined"; of `polls`
    "silent".
    """

    name: str = "mpesa"
    now: Callable[[], datetime] = lambda: datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
    can: frozenset[Can] = frozenset({Can.COLLECT, Can.NOTIFY, Can.STATUS, Can.REFUND, Can.STATEMENT})
    asks: list[str] = field(default_factory=list)
    polls: list[str] = field(default_factory=list)
    refunds: list[str] = field(default_factory=list)
    accounts: dict[UUID, Account] = field(default_factory=dict)
    lines: list[StatementLine] = field(default_factory=list)
    refunded: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    polled: int = 0
    _receipts: int = 0

    # --- what the payer and the provider do ---

    def take(self, our_ref: UUID, amount_minor: int | None = None) -> Event:
        """The payer agrees: money moves, once. The word of it."""
        account = self.accounts[our_ref]
        if account.state is PaymentState.PENDING:
            account.state = PaymentState.SUCCESS
            account.receipt = self._book(amount_minor or account.order.amount_minor, account.order.payer, str(our_ref))
        return self.word(our_ref)

    def charge_again(self, our_ref: UUID) -> Event:
        """The provider's fault: the payer is charged a second time for the same request."""
        account = self.accounts[our_ref]
        receipt = self._book(account.order.amount_minor, account.order.payer, str(our_ref))
        return Event(
            PaymentState.SUCCESS,
            self.now(),
            receipt=receipt,
            our_ref=our_ref,
            provider_ref=account.provider_ref,
            payer=account.order.payer,
            amount_minor=account.order.amount_minor,
            currency=account.order.currency,
        )

    def fail(self, our_ref: UUID, why: Why = Why.CANCELLED) -> Event:
        """The payer does not agree."""
        account = self.accounts[our_ref]
        if account.state is PaymentState.PENDING:
            account.state, account.why = PaymentState.FAILED, why
        return self.word(our_ref)

    def paybill(self, payer: str, account_ref: str, amount_minor: int, currency: str = "KES") -> Event:
        """Somebody pays of her own accord, and writes something beside it."""
        receipt = self._book(amount_minor, payer, "")
        return Event(
            PaymentState.SUCCESS,
            self.now(),
            receipt=receipt,
            payer=payer,
            account_ref=account_ref,
            amount_minor=amount_minor,
            currency=currency,
        )

    def take_back(self, event: Event) -> Event:
        """The provider reverses what it took."""
        assert event.amount_minor is not None
        self.lines.append(StatementLine(f"{event.receipt}-R", self.now(), -event.amount_minor, 0, "KES"))
        return Event(
            PaymentState.REVERSED,
            self.now(),
            receipt=event.receipt,
            our_ref=event.our_ref,
            payer=event.payer,
            amount_minor=event.amount_minor,
            currency=event.currency,
        )

    def word(self, our_ref: UUID) -> Event:
        """What it says of a request now, by callback or when asked."""
        account = self.accounts[our_ref]
        done = account.state is PaymentState.SUCCESS
        paid = sum(line.amount_minor for line in self.lines if line.receipt == account.receipt) if done else None
        return Event(
            account.state,
            self.now(),
            receipt=account.receipt,
            provider_ref=account.provider_ref,
            our_ref=our_ref,
            payer=account.order.payer,
            amount_minor=paid,
            currency=account.order.currency if done else "",
            why=account.why,
        )

    @property
    def taken_minor(self) -> int:
        """Everything it holds for us, by its own statement."""
        return sum(line.amount_minor for line in self.lines)

    def _book(self, amount_minor: int, payer: str, our_ref: str) -> str:
        self._receipts += 1
        receipt = f"RCPT{self._receipts:06d}"
        self.lines.append(StatementLine(receipt, self.now(), amount_minor, 0, "KES", our_ref, payer))
        return receipt

    # --- the contract ---

    async def collect(self, order: Collect) -> Asked | Declined | Unclear:
        how = self.asks.pop(0) if self.asks else "well"
        if how == "lost":
            return Unclear("no answer")
        if how == "declined":
            return Declined(Why.UNREACHABLE, "no such phone")
        known = self.accounts.get(order.our_ref)
        if known is None:
            known = self.accounts[order.our_ref] = Account(order, f"ws_{len(self.accounts) + 1}")
        else:
            assert known.order == order, "the same reference with other content"
            known.prompts += 1
        return Unclear("no answer") if how == "silent" else Asked(known.provider_ref)

    async def status(self, our_ref: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        self.polled += 1
        if (self.polls.pop(0) if self.polls else "well") == "silent":
            return Unclear("no answer")
        return self.word(our_ref) if our_ref in self.accounts else Unknown()

    def read(self, callback: Callback) -> Sequence[Event] | Validation:
        """A callback of this provider: JSON with a mark that stands for a signature."""
        said = callback.json()
        if callback.headers.get("x-signature") != SIGNED:
            raise Forged("signature")
        if "validate" in said:
            return Validation(said["payer"], said["validate"], said["amount"], "KES")
        if "our_ref" in said:
            return [self.word(UUID(said["our_ref"]))]
        if not isinstance(said.get("amount"), int):
            raise NotReadable("not_an_amount", "amount")
        currency = said.get("currency", "KES")
        return [
            Event(
                PaymentState.SUCCESS,
                self.now(),
                receipt=said["receipt"],
                payer=said["payer"],
                account_ref=said["account"],
                amount_minor=said["amount"],
                currency=currency,
            )
        ]

    def answer(self, callback: Callback, accepted: bool, why: str = "") -> Answer:
        return Answer(json.dumps({"ResultCode": 0 if accepted else 1, "ResultDesc": why}), "application/json")

    async def refund(self, key: UUID, receipt: str, payer: str, amount_minor: int) -> Asked | Declined | Unclear:
        how = self.refunds.pop(0) if self.refunds else "well"
        if how == "declined":
            return Declined(Why.REFUSED, "too old")
        if how == "lost":
            return Unclear("no answer")
        if key not in self.refunded:
            self.refunded[key] = (receipt, amount_minor)
            self.lines.append(StatementLine(f"{receipt}-F", self.now(), -amount_minor, 0, "KES", str(key), payer))
        return Unclear("no answer") if how == "silent" else Asked(f"rf_{len(self.refunded)}")

    async def refund_status(self, key: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        found = self.refunded.get(key)
        if found is None:
            return Unknown()
        return Event(PaymentState.SUCCESS, self.now(), receipt=found[0], our_ref=key, amount_minor=found[1])

    async def statement(self, day: date) -> Sequence[StatementLine]:
        return [line for line in self.lines if line.occurred_at.date() == day]

    async def close(self) -> None:
        pass
