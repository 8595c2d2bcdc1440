"""MTN MoMo, simulated: tokens, request-to-pay and its status, transfers and theirs. Shell."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from channels.http.callback import NotReadable
from gateway.payments.amounts import amount_of, written
from gateway.payments.simulated.front import Ask, Said, text
from gateway.payments.simulated.mobile_operator import Call, MobileOperator, Prompt
from gateway.payments.simulated.wallets import End

_MSISDN: Final = re.compile(r"[1-9][0-9]{6,14}")
_REASONS: Final[Mapping[End, str]] = {
    End.NO_FUNDS: "NOT_ENOUGH_FUNDS",
    End.DECLINED: "APPROVAL_REJECTED",
    End.WRONG_PIN: "INTERNAL_PROCESSING_ERROR",
    End.EXPIRED: "EXPIRED",
    End.UNREACHABLE: "PAYER_NOT_FOUND",
}


@dataclass(slots=True)
class _Request:
    body: Mapping[str, Any]
    callback_url: str
    prompt: Prompt | None = None
    receipt: str = ""


@dataclass(slots=True)
class SimulatedMomo:
    """One merchant, with Collection and Disbursement; each product has its key."""

    operator: MobileOperator
    target: str = "sandbox"
    currency: str = "KES"
    user: str = "c72025f5-5cd1-4630-99e4-8ba4722fad56"
    key: str = "sandbox-api-key"
    subscription_keys: Mapping[str, str] = field(
        default_factory=lambda: {"collection": "sandbox-collection", "disbursement": "sandbox-disbursement"}
    )
    tokens: int = 0
    callback_method: str = "PUT"
    _requests: dict[tuple[str, str], _Request] = field(default_factory=dict)

    def moves_money(self, ask: Ask) -> bool:
        return ask.method == "POST" and ask.path in (
            "/collection/v1_0/requesttopay",
            "/disbursement/v1_0/transfer",
        )

    def answer(self, ask: Ask) -> Said | None:
        product, _, rest = ask.path.lstrip("/").partition("/")
        wanted = self.subscription_keys.get(product)
        if wanted is None:
            return None
        if ask.headers.get("ocp-apim-subscription-key") != wanted:
            return Said(401, {"statusCode": 401, "message": "Access denied due to invalid subscription key"})
        if rest == "token/" and ask.method == "POST":
            return self._token(ask, product)
        if ask.headers.get("authorization") != f"Bearer {self._bearer(product)}":
            return Said(401, {"error": "login_failed"})
        if ask.headers.get("x-target-environment") != self.target:
            return Said(500, {"code": "NOT_ALLOWED_TARGET_ENVIRONMENT", "message": "not allowed"})
        deed = {"collection": "v1_0/requesttopay", "disbursement": "v1_0/transfer"}[product]
        if rest == deed and ask.method == "POST":
            return self._begin(ask, product)
        if rest.startswith(deed + "/") and ask.method == "GET":
            return self._status(product, rest.removeprefix(deed + "/"))
        return None

    def _bearer(self, product: str) -> str:
        return f"{product}-token-{self.tokens}"

    def expire_token(self) -> None:
        """Tokens that were given hold no longer."""
        self.tokens += 1

    def _token(self, ask: Ask, product: str) -> Said:
        pair = base64.b64encode(f"{self.user}:{self.key}".encode()).decode()
        if ask.headers.get("authorization") != f"Basic {pair}":
            return Said(401, {"error": "login_failed"})
        return Said(200, {"access_token": self._bearer(product), "token_type": "access_token", "expires_in": 3600})

    def _begin(self, ask: Ask, product: str) -> Said:
        ref = ask.headers.get("x-reference-id", "")
        try:
            if UUID(ref).version != 4 or str(UUID(ref)) != ref:
                raise ValueError
        except ValueError:
            return Said(400, {"code": "BAD_REQUEST", "message": "X-Reference-Id"})
        if (product, ref) in self._requests:
            return Said(409, {"code": "RESOURCE_ALREADY_EXIST", "message": "Duplicated reference id."})
        body = ask.body
        party = body.get("payer" if product == "collection" else "payee")
        msisdn = text(party, "partyId") if isinstance(party, Mapping) else ""
        try:
            amount = amount_of(body.get("amount"), "amount", self.operator.wallets.minor_digits)
        except NotReadable:
            amount = 0
        if not amount or not isinstance(body.get("amount"), str) or not _MSISDN.fullmatch(msisdn):
            return Said(400, {"code": "BAD_REQUEST", "message": "amount or party"})
        if text(body, "currency") != self.currency:
            return Said(500, {"code": "INVALID_CURRENCY", "message": "Currency not supported."})
        request = self._requests[product, ref] = _Request(body, ask.headers.get("x-callback-url", ""))
        if product == "disbursement":
            request.receipt = self.operator.wallets.pay_out(
                msisdn, amount, self.operator.now(), reference=text(body, "externalId")
            ).receipt
            return Said(202)

        async def tell(_: Prompt) -> None:
            self._tell(request)

        request.prompt = self.operator.prompt(
            msisdn,
            amount,
            merchant=self.target,
            account_ref=text(body, "payerMessage"),
            reference=text(body, "externalId"),
            then=tell,
        )
        return Said(202)

    def _tell(self, request: _Request) -> None:
        prompt = request.prompt
        assert prompt is not None, "a request to pay has a prompt"
        request.receipt = prompt.transaction.receipt if prompt.transaction is not None else ""
        if request.callback_url:
            forged = {**self._described(request), "status": "SUCCESSFUL", "financialTransactionId": "666666"}
            forged.pop("reason", None)
            self.operator.call_back(
                Call(request.callback_url, self._described(request), self.callback_method),
                Call(request.callback_url, forged, self.callback_method),
            )

    def _described(self, request: _Request) -> dict[str, Any]:
        body, prompt = request.body, request.prompt
        said = {
            name: body[name]
            for name in ("amount", "currency", "externalId", "payer", "payee", "payerMessage", "payeeNote")
            if name in body
        }
        if prompt is not None and not prompt.ended.done():
            return {**said, "status": "PENDING"}
        if request.receipt:
            amount = amount_of(body["amount"], "amount", self.operator.wallets.minor_digits)
            return {
                **said,
                "amount": written(amount, self.operator.wallets.minor_digits),
                "financialTransactionId": request.receipt,
                "status": "SUCCESSFUL",
            }
        assert prompt is not None, "a transfer has a receipt"
        return {**said, "status": "FAILED", "reason": _REASONS[prompt.ended.result()]}

    def _status(self, product: str, ref: str) -> Said:
        request = self._requests.get((product, ref))
        if request is None:
            return Said(404, {"code": "RESOURCE_NOT_FOUND", "message": "Requested resource was not found."})
        return Said(200, self._described(request))
