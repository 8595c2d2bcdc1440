"""MTN MoMo: request-to-pay (Collection), and transfers back to payers (Disbursement). Shell.

Every request has a reference of ours, made and stored before it is sent: the same again is refused with 409, which is
as good as taken, and one that never arrived is 404 to the question after it, so that it may be sent again. Callbacks
are not signed and may never come: whatever they say is a reason to ask, and the answer is what counts.

References are UUIDs of version 4 on the wire, as MTN wants them; ours are of another version, which is put back on
reading. Facts are from MTN's public documentation; known, not re-checked against a live account.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from channels.http.callback import Answer, Callback, NotReadable, text_of
from config.kinds import NO_SECRET, Secret
from gateway.payments.amounts import Unfit, amount_of, fit, written
from gateway.payments.client import Access, Client, Granted, NoAnswer, NotSent, Reply, ask_with_token, granted_of
from gateway.payments.contract import (
    Asked,
    Can,
    Collect,
    Declined,
    Event,
    PaymentState,
    StatementLine,
    Unclear,
    Unknown,
    Validation,
    Why,
)

# MTN calls back with PUT in some markets and with POST in others.
METHODS: Final = frozenset({"POST", "PUT"})
_NOTE_MAX: Final = 160
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 .,:-]")

REASONS: Final[Mapping[str, Why]] = {
    "APPROVAL_REJECTED": Why.CANCELLED,
    "EXPIRED": Why.EXPIRED,
    "COULD_NOT_PERFORM_TRANSACTION": Why.EXPIRED,  # nobody agreed within five minutes, mostly
    "PAYER_DELAYED": Why.EXPIRED,
    "PAYER_NOT_FOUND": Why.UNREACHABLE,
    "PAYEE_NOT_FOUND": Why.UNREACHABLE,
    "NOT_ENOUGH_FUNDS": Why.NO_FUNDS,
    "LOW_BALANCE_OR_PAYEE_LIMIT_REACHED_OR_NOT_ALLOWED": Why.NO_FUNDS,
    "PAYER_LIMIT_REACHED": Why.LIMIT,
    "ONGOING": Why.BUSY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MomoAccount:
    """One merchant at MTN MoMo. `target` is their X-Target-Environment: sandbox, mtnuganda, mtnghana, ...

    Without the three of Disbursement there are no refunds. `callback_url` empty: no callbacks, only questions.
    """

    name: str
    base_url: str
    target: str
    currency: str
    minor_digits: int
    step_minor: int
    subscription_key: Secret
    api_user: str
    api_key: Secret
    callback_url: str = ""
    disbursement_key: Secret = NO_SECRET
    disbursement_user: str = ""
    disbursement_api_key: Secret = NO_SECRET
    timeout_s: float = 30.0
    connections_max: int = 20
    retry_pause_s: float = 0.5


class _Product:
    """Collection or Disbursement: each has its own keys and its own tokens."""

    def __init__(self, account: MomoAccount, product: str, subscription_key: Secret, user: str, key: Secret) -> None:
        self._client = Client(account.base_url, timeout_s=account.timeout_s, connections_max=account.connections_max)
        self._path = f"/{product}"
        self._subscription_key, self._user, self._key = subscription_key, user, key
        self._target = account.target
        self._access = Access(self._grant, account.retry_pause_s)

    def _headers(self) -> dict[str, str]:
        return {"Ocp-Apim-Subscription-Key": self._subscription_key.reveal(), "X-Target-Environment": self._target}

    async def _grant(self) -> Granted:
        pair = f"{self._user}:{self._key.reveal()}"
        headers = {**self._headers(), "Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        return granted_of(await self._client.ask("POST", f"{self._path}/token/", headers=headers))

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Mapping[str, object] | None = None
    ) -> Reply | NotSent | NoAnswer:
        """One question."""

        async def send(token: str) -> Reply | NotSent | NoAnswer:
            said = {**self._headers(), **(headers or {}), "Authorization": f"Bearer {token}"}
            return await self._client.ask(method, f"{self._path}{path}", headers=said, body=body)

        return await ask_with_token(self._access, send, lambda reply: reply.status == 401)

    async def try_out(self) -> str:
        return await self._access.try_out()

    async def close(self) -> None:
        await self._client.close()


class Momo:
    """Requests to pay, one merchant's."""

    can = frozenset({Can.COLLECT, Can.NOTIFY, Can.STATUS})

    def __init__(self, account: MomoAccount, now: Callable[[], datetime]) -> None:
        self.name = account.name
        self.step_minor = account.step_minor
        self._account = account
        self._now = now
        self._collection = _Product(account, "collection", account.subscription_key, account.api_user, account.api_key)
        self._disbursement: _Product | None = None
        if account.disbursement_key:
            self._disbursement = _Product(
                account,
                "disbursement",
                account.disbursement_key,
                account.disbursement_user,
                account.disbursement_api_key,
            )
            self.can = self.can | {Can.REFUND}
        if not account.callback_url:
            self.can = self.can - {Can.NOTIFY}

    async def collect(self, order: Collect) -> Asked | Declined | Unclear:
        """Ask the payer. The same again is the same payment."""
        try:
            amount = fit(order.amount_minor, order.currency, only=self._account.currency, step_minor=self.step_minor)
        except Unfit as error:
            return Declined(Why.REFUSED, str(error))
        reply = await self._collection.ask(
            "POST",
            "/v1_0/requesttopay",
            self._naming(order.our_ref),
            {
                "amount": written(amount, self._account.minor_digits),
                "currency": order.currency,
                "externalId": str(order.our_ref),
                "payer": {"partyIdType": "MSISDN", "partyId": order.payer},
                "payerMessage": _note(order.account_ref),
                "payeeNote": _note(order.description),
            },
        )
        return _taken(reply, order.our_ref)

    def _naming(self, ref: UUID) -> dict[str, str]:
        headers = {"X-Reference-Id": on_wire(ref)}
        if self._account.callback_url:
            headers["X-Callback-Url"] = self._account.callback_url
        return headers

    async def status(self, our_ref: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """Ask how a request stands; Unknown if it never arrived."""
        reply = await self._collection.ask("GET", f"/v1_0/requesttopay/{on_wire(our_ref)}")
        return self._stands(reply, our_ref)

    def _stands(self, reply: Reply | NotSent | NoAnswer, our_ref: UUID) -> Event | Unknown | Unclear:
        if isinstance(reply, NotSent | NoAnswer):
            return Unclear(reply.detail)
        said = reply.fields()
        if reply.status == 404 and said.get("code") in (None, "RESOURCE_NOT_FOUND", "NOT_FOUND"):
            return Unknown()
        if reply.status != 200:
            return Unclear(f"HTTP {reply.status}")
        try:
            if text_of(said, "externalId", 80, may_be_empty=True) not in ("", str(our_ref)):
                return Unclear("an answer about another request")
            state, why, detail = _state(said)
            if state is not PaymentState.SUCCESS:
                return Event(state, self._now(), provider_ref=on_wire(our_ref), our_ref=our_ref, why=why, detail=detail)
            currency = text_of(said, "currency", 3)
            if currency != self._account.currency:
                return Unclear(f"another currency than {self._account.currency}")
            return Event(
                state,
                self._now(),
                receipt=text_of(said, "financialTransactionId", 60),
                provider_ref=on_wire(our_ref),
                our_ref=our_ref,
                payer=_party(said),
                amount_minor=amount_of(said.get("amount"), "amount", self._account.minor_digits),
                currency=currency,
            )
        except NotReadable as fault:
            return Unclear(f"an answer that cannot be read: {fault}")

    def read(self, callback: Callback) -> Sequence[Event] | Validation:
        """What a callback is about: always PENDING, for its word is not proven. Raises NotReadable."""
        said = callback.json()
        state, _, _ = _state(said)
        if said.get("amount") is not None:  # read to refuse nonsense by name; what counts is the answer to the question
            amount_of(said["amount"], "amount", self._account.minor_digits)
            if text_of(said, "currency", 3) != self._account.currency:
                raise NotReadable("currency", "currency")
        external = text_of(said, "externalId", 80)
        receipt = text_of(said, "financialTransactionId", 60, may_be_empty=state is not PaymentState.SUCCESS)
        try:
            our_ref = UUID(external)
            if str(our_ref) != external:
                raise ValueError
        except ValueError:  # not asked for by this gateway: the same account may serve others
            if not receipt:
                raise NotReadable("unknown_reference", "externalId") from None
            return [Event(PaymentState.PENDING, self._now(), receipt=receipt, detail="of no request of ours")]
        said_by_it = f"says {state.value}, to be asked"
        return [
            Event(PaymentState.PENDING, self._now(), provider_ref=on_wire(our_ref), our_ref=our_ref, detail=said_by_it)
        ]

    def answer(self, callback: Callback, accepted: bool, why: str = "") -> Answer:
        """Nothing but the status counts to MTN."""
        return Answer("", status=200 if accepted else 400)

    async def refund(self, key: UUID, receipt: str, payer: str, amount_minor: int) -> Asked | Declined | Unclear:
        """Transfer money to the payer; the same key again is the same transfer."""
        assert self._disbursement is not None, "no Can.REFUND"
        try:
            amount = fit(amount_minor, self._account.currency, only=self._account.currency, step_minor=self.step_minor)
        except Unfit as error:
            return Declined(Why.REFUSED, str(error))
        reply = await self._disbursement.ask(
            "POST",
            "/v1_0/transfer",
            self._naming(key),
            {
                "amount": written(amount, self._account.minor_digits),
                "currency": self._account.currency,
                "externalId": str(key),
                "payee": {"partyIdType": "MSISDN", "partyId": payer},
                "payerMessage": _note(f"refund of {receipt}"),
                "payeeNote": _note(f"refund of {receipt}"),
            },
        )
        return _taken(reply, key)

    async def refund_status(self, key: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """Ask how a transfer stands; Unknown if it never arrived."""
        assert self._disbursement is not None, "no Can.REFUND"
        return self._stands(await self._disbursement.ask("GET", f"/v1_0/transfer/{on_wire(key)}"), key)

    async def statement(self, day: date) -> Sequence[StatementLine]:
        """Never called: the API lists nothing; statements come as files."""
        raise AssertionError("no Can.STATEMENT")

    async def try_out(self) -> str:
        """Whether MTN lets us in to each product, for `prepaid check`. Raises NoAccess."""
        said = await self._collection.try_out()
        if self._disbursement is not None:
            await self._disbursement.try_out()
        return said

    async def close(self) -> None:
        """Leave the connections."""
        await self._collection.close()
        if self._disbursement is not None:
            await self._disbursement.close()


def on_wire(ref: UUID) -> str:
    """A reference of ours as a UUID of version 4: only the version and variant bits differ, which say nothing."""
    return str(UUID(int=ref.int, version=4))


def _taken(reply: Reply | NotSent | NoAnswer, ref: UUID) -> Asked | Declined | Unclear:
    if isinstance(reply, NotSent):
        return Declined(Why.REFUSED, f"not sent: {reply.detail}")
    if isinstance(reply, NoAnswer):
        return Unclear(reply.detail)
    # 409: this very request has arrived before. Asked, for how it stands is for `status` to find out.
    if reply.status in (202, 409):
        return Asked(on_wire(ref))
    if 400 <= reply.status < 500 and reply.status != 408:
        code = reply.fields().get("code")
        named = code if isinstance(code, str) and re.fullmatch(r"[A-Z_]{1,60}", code) else ""
        return Declined(REASONS.get(named, Why.REFUSED), f"HTTP {reply.status} {named}".strip())
    return Unclear(f"HTTP {reply.status}")


def _state(said: Mapping[str, Any]) -> tuple[PaymentState, Why | None, str]:
    """The state, why it failed, and the provider's own name for that. Raises NotReadable."""
    status = text_of(said, "status", 20)
    if status == "SUCCESSFUL":
        return PaymentState.SUCCESS, None, ""
    if status in ("PENDING", "CREATED", "ONGOING"):
        return PaymentState.PENDING, None, ""
    if status not in ("FAILED", "REJECTED", "TIMEOUT"):
        raise NotReadable("unknown_status", "status")
    # A text, or an object with a code and words.
    reason = said.get("reason")
    if isinstance(reason, dict):
        reason = reason.get("code")
    named = reason if isinstance(reason, str) and re.fullmatch(r"[A-Z_]{1,60}", reason) else status
    assumed = {"REJECTED": Why.CANCELLED, "TIMEOUT": Why.EXPIRED}.get(named, Why.REFUSED)
    return PaymentState.FAILED, REASONS.get(named, assumed), named


def _party(said: Mapping[str, Any]) -> str:
    for name in ("payer", "payee"):
        party = said.get(name)
        if isinstance(party, dict) and party.get("partyIdType") == "MSISDN":
            return text_of(party, "partyId", 20, may_be_empty=True).removeprefix("+")
    return ""


def _note(text: str) -> str:
    """MTN refuses notes with other signs than these."""
    return _NOT_PLAIN.sub(" ", text)[:_NOTE_MAX].strip() or "payment"
