"""Africa's Talking, mobile checkout: the payer's phone asks for her PIN, by way of an aggregator. Shell.

A checkout is named by the aggregator (transactionId); our reference goes along as metadata and comes back with the
notification, in questions and in the list of a day. A request without answer is not sent again: the notification, or
the list, tells what became of it. Notifications are not signed: above a limit they are a reason to ask.

Facts are from Africa's Talking's public documentation; known, not re-checked against a live account. The aggregator
has withdrawn payments from accounts and countries: a request that finds no such API is refused with that word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from channels.http.callback import Answer, Callback, NotReadable, msisdn_of, text_of
from config.kinds import Secret
from gateway.payments.amounts import Unfit, amount_of, fit, written
from gateway.payments.client import Client, NoAccess, NoAnswer, NotSent, Reply
from gateway.payments.contract import (
    Asked,
    Can,
    Collect,
    Declined,
    Event,
    NotListed,
    PaymentState,
    StatementLine,
    Unclear,
    Unknown,
    Validation,
    Why,
)

METHODS: Final = frozenset({"POST"})
WITHDRAWN: Final = "mobile checkout is not offered to this account (any more)"
_CHECKOUT, _PAID_IN = "MobileCheckout", "MobileC2B"
_VALUE: Final = re.compile(r"([A-Z]{3}) ([0-9]{1,15}(?:\.[0-9]{1,6})?)")
_REF: Final = "our_ref"  # the name of our reference in the metadata
_PAGE: Final = 1_000
_PAGES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AfricasTalkingAccount:
    """One payment product of an account at Africa's Talking."""

    name: str
    base_url: str
    username: str
    api_key: Secret
    product: str
    currency: str
    minor_digits: int
    step_minor: int
    provider_channel: str = ""
    confirm_above_minor: int = 0
    timeout_s: float = 30.0
    connections_max: int = 20


class AfricasTalking:
    """Mobile checkouts of one product."""

    can = frozenset({Can.COLLECT, Can.NOTIFY, Can.STATUS, Can.STATEMENT})

    def __init__(self, account: AfricasTalkingAccount, now: Callable[[], datetime]) -> None:
        self.name = account.name
        self.step_minor = account.step_minor
        self._account = account
        self._now = now
        self._client = Client(account.base_url, timeout_s=account.timeout_s, connections_max=account.connections_max)

    def _headers(self) -> dict[str, str]:
        return {"apiKey": self._account.api_key.reveal(), "Accept": "application/json"}

    async def collect(self, order: Collect) -> Asked | Declined | Unclear:
        """Ask the payer, once."""
        try:
            amount = fit(order.amount_minor, order.currency, only=self._account.currency, step_minor=self.step_minor)
        except Unfit as error:
            return Declined(Why.REFUSED, str(error))
        number = Decimal(written(amount, self._account.minor_digits))
        body: dict[str, object] = {
            "username": self._account.username,
            "productName": self._account.product,
            "phoneNumber": f"+{order.payer}",
            "currencyCode": order.currency,
            # JSON has numbers without fractions too; one with a fraction is written as text, for no float holds it.
            "amount": int(number) if number == number.to_integral_value() else str(number),
            "metadata": {_REF: str(order.our_ref), "account": order.account_ref[:40]},
        }
        if self._account.provider_channel:
            body["providerChannel"] = self._account.provider_channel
        headers = {**self._headers(), "Idempotency-Key": str(order.our_ref)}
        reply = await self._client.ask("POST", "/mobile/checkout/request", headers=headers, body=body)
        if isinstance(reply, NotSent):
            return Declined(Why.REFUSED, f"not sent: {reply.detail}")
        if isinstance(reply, NoAnswer):
            return Unclear(reply.detail)
        if reply.status in (404, 410):
            return Declined(Why.REFUSED, WITHDRAWN)
        if 400 <= reply.status < 500 and reply.status != 408:
            return Declined(Why.REFUSED, f"HTTP {reply.status}")
        if reply.status not in (200, 201):
            return Unclear(f"HTTP {reply.status}")
        return _begun(reply)

    async def status(self, our_ref: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """Ask how a checkout stands."""
        if not provider_ref:
            return Unclear("the checkout was never named: its notification or the list of the day tells")
        query = {"username": self._account.username, "transactionId": provider_ref}
        reply = await self._client.ask("GET", "/query/transaction/find", headers=self._headers(), query=query)
        if isinstance(reply, NotSent | NoAnswer):
            return Unclear(reply.detail)
        if reply.status in (404, 410):
            return Unclear(WITHDRAWN)
        if reply.status != 200:
            return Unclear(f"HTTP {reply.status}")
        try:
            said = reply.json()
            if text_of(said, "status", 40) != "Success":
                # It finds a transaction only once it is over, and says "Failed" of the question before.
                return Unclear("not found (yet)")
            data = said.get("data")
            if not isinstance(data, dict):
                raise NotReadable("missing", "data")
            if text_of(data, "transactionId", 80) != provider_ref:
                return Unclear("an answer about another checkout")
            event = self._event(data)
            if event.our_ref not in (None, our_ref):
                return Unclear("an answer about another checkout")
            return replace(event, our_ref=our_ref)
        except NotReadable as fault:
            return Unclear(f"an answer that cannot be read: {fault}")

    def _event(self, said: Mapping[str, Any]) -> Event:
        """A transaction as an event. Raises NotReadable."""
        number = text_of(said, "transactionId", 80)
        status = text_of(said, "status", 40)
        metadata = said.get("requestMetadata")
        our_ref = None
        if isinstance(metadata, dict) and metadata.get(_REF) is not None:
            try:
                our_ref = UUID(text_of(metadata, _REF, 40))
            except ValueError:
                raise NotReadable("unknown_reference", _REF) from None
        words = text_of(said, "description", 200, may_be_empty=True)
        event = Event(PaymentState.PENDING, self._now(), provider_ref=number, our_ref=our_ref, detail=words)
        if status == "Failed":
            return replace(event, state=PaymentState.FAILED, why=_why(words))
        if status != "Success":
            return event
        return replace(
            event,
            state=PaymentState.SUCCESS,
            receipt=number,
            payer=msisdn_of(said, "source") if said.get("sourceType") == "PhoneNumber" else "",
            account_ref=text_of(said, "clientAccount", 100, may_be_empty=True),
            amount_minor=self._value(said, "value"),
            currency=self._account.currency,
        )

    def _value(self, said: Mapping[str, Any], name: str) -> int:
        """An amount such as "KES 500.00", in our currency. Raises NotReadable."""
        text = text_of(said, name, 40)
        found = _VALUE.fullmatch(text)
        if found is None:
            raise NotReadable("negative" if " -" in text else "amount", name)
        if found[1] != self._account.currency:
            raise NotReadable("currency", name)
        return amount_of(found[2], name, self._account.minor_digits)

    def read(self, callback: Callback) -> Sequence[Event] | Validation:
        """What a notification says: checkouts, and what payers paid in of themselves. Raises NotReadable."""
        said = callback.json()
        category = text_of(said, "category", 40)
        if category not in (_CHECKOUT, _PAID_IN):
            return []  # our own transfers, and what else the account does
        event = self._event(said)
        if category == _PAID_IN:
            return [event] if event.state is PaymentState.SUCCESS else []
        amount = event.amount_minor
        if amount is not None and amount > self._account.confirm_above_minor:
            # Only what the question needs: the rest is what the answer says.
            waiting = replace(event, state=PaymentState.PENDING, receipt="", amount_minor=None, currency="", payer="")
            return [replace(waiting, detail="says SUCCESS, to be asked")]
        return [event]

    def answer(self, callback: Callback, accepted: bool, why: str = "") -> Answer:
        """From 400 up it sends again, every minute for six hours."""
        return Answer("", status=200 if accepted else 400)

    async def refund(self, key: UUID, receipt: str, payer: str, amount_minor: int) -> Asked | Declined | Unclear:
        """Never called: payouts leave from another product of the account and have no key of ours."""
        raise AssertionError("no Can.REFUND")

    async def refund_status(self, key: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """Never called."""
        raise AssertionError("no Can.REFUND")

    async def statement(self, day: date) -> Sequence[StatementLine]:
        """The successful payments of a day. Raises NotListed where the list cannot be had as a whole."""
        lines: list[StatementLine] = []
        seen: set[str] = set()
        for page in range(1, _PAGES_MAX + 1):
            entries = await self._page(day, page)
            for entry in entries:
                try:
                    if text_of(entry, "category", 40) not in (_CHECKOUT, _PAID_IN):
                        continue
                    line = self._line(entry)
                except NotReadable as fault:
                    raise NotListed(f"page {page}: {fault}") from None
                if line.receipt not in seen:  # pages shift while they are read
                    seen.add(line.receipt)
                    lines.append(line)
            if len(entries) < _PAGE:
                return lines
        raise NotListed(f"more than {_PAGES_MAX} pages")

    async def _page(self, day: date, page: int) -> list[dict[str, Any]]:
        query = {
            "username": self._account.username,
            "productName": self._account.product,
            "pageNumber": str(page),
            "count": str(_PAGE),
            "startDate": day.isoformat(),
            "endDate": day.isoformat(),
            "status": "Success",
        }
        reply = await self._client.ask("GET", "/query/transaction/fetch", headers=self._headers(), query=query)
        if not isinstance(reply, Reply):
            raise NotListed(reply.detail)
        if reply.status != 200:
            raise NotListed(f"HTTP {reply.status}")
        said = reply.fields()
        entries = said.get("responses")
        if said.get("status") != "Success" or not isinstance(entries, list):
            raise NotListed("an answer without transactions")
        if not all(isinstance(entry, dict) for entry in entries):
            raise NotListed("an entry that is no object")
        return entries

    def _line(self, entry: Mapping[str, Any]) -> StatementLine:
        event = self._event(entry)
        assert event.amount_minor is not None or event.state is not PaymentState.SUCCESS
        if event.amount_minor is None:
            raise NotReadable("unknown_status", "status")
        fees = [self._value(entry, name) for name in ("transactionFee", "providerFee") if _is_some(entry.get(name))]
        return StatementLine(
            receipt=event.receipt,
            occurred_at=_time(entry),
            amount_minor=event.amount_minor,
            fee_minor=sum(fees),
            currency=self._account.currency,
            our_ref=str(event.our_ref or ""),
            payer=event.payer,
            account_ref=event.account_ref,
        )

    async def try_out(self) -> str:
        """Whether Africa's Talking lets us in, for `prepaid check`: it is asked about no checkout. Raises NoAccess."""
        query = {"username": self._account.username, "transactionId": "ATPid_none"}
        reply = await self._client.ask("GET", "/query/transaction/find", headers=self._headers(), query=query)
        if not isinstance(reply, Reply):
            raise NoAccess(reply.detail)
        if reply.status in (404, 410):
            raise NoAccess(WITHDRAWN)
        if reply.status != 200:
            raise NoAccess(f"HTTP {reply.status}")
        return "answers questions about payments"

    async def close(self) -> None:
        """Leave the connections."""
        await self._client.close()


def _begun(reply: Reply) -> Asked | Declined | Unclear:
    try:
        said = reply.json()
        status = text_of(said, "status", 40)
        words = text_of(said, "description", 200, may_be_empty=True)
        if status == "PendingConfirmation":
            return Asked(text_of(said, "transactionId", 80))
    except NotReadable as fault:
        return Unclear(f"an answer that cannot be read: {fault}")
    if status == "NotSupported":
        return Declined(Why.REFUSED, WITHDRAWN)
    if status in ("InvalidRequest", "Failed"):
        return Declined(_why(words), f"{status}: {words}")
    return Unclear(f"status {status}")


def _why(words: str) -> Why:
    """Failures have words only; these are the ones known."""
    said = words.lower()
    for piece, why in (
        ("insufficient", Why.NO_FUNDS),
        ("wrong pin", Why.WRONG_PIN),
        ("invalid pin", Why.WRONG_PIN),
        ("cancel", Why.CANCELLED),
        ("reject", Why.CANCELLED),
        ("expire", Why.EXPIRED),
        ("timeout", Why.EXPIRED),
        ("timed out", Why.EXPIRED),
        ("unreachable", Why.UNREACHABLE),
        ("cannot be reached", Why.UNREACHABLE),
        ("limit", Why.LIMIT),
    ):
        if piece in said:
            return why
    return Why.REFUSED


def _is_some(value: object) -> bool:
    """Whether a fee is there and not nought: a free payment has none, or one such as "KES 0.00"."""
    return isinstance(value, str) and any(digit in value for digit in "123456789")


def _time(entry: Mapping[str, Any]) -> datetime:
    """When a transaction was made: ISO 8601 or the two other forms seen; UTC where it does not say."""
    text = text_of(entry, "creationTime", 40)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = datetime.strptime(text, "%d.%m.%Y %H:%M:%S").replace(tzinfo=UTC)
        except ValueError:
            raise NotReadable("time", "creationTime") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
