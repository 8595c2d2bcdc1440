"""Africa's Talking, simulated: mobile checkout, its notification, finding one transaction and fetching a day's. Shell.

Their addresses for notifications are set in a dashboard; here it is `callback_url`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from channels.http.callback import NotReadable
from gateway.payments.amounts import amount_of
from gateway.payments.simulated.front import Ask, Said, text
from gateway.payments.simulated.mobile_operator import Call, MobileOperator, Prompt
from gateway.payments.simulated.wallets import End

_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_WORDS: Final[Mapping[End, str]] = {
    End.PAID: "Received Mobile Checkout funds",
    End.NO_FUNDS: "Insufficient funds on the customer's account",
    End.DECLINED: "Request cancelled by user",
    End.WRONG_PIN: "Wrong PIN entered",
    End.EXPIRED: "The request expired",
    End.UNREACHABLE: "The phone cannot be reached",
}


@dataclass(slots=True)
class _Checkout:
    number: str
    metadata: Mapping[str, Any]
    prompt: Prompt


@dataclass(slots=True)
class SimulatedAfricasTalking:
    """One payment product. `is_withdrawn`: the API is no longer there."""

    operator: MobileOperator
    username: str = "sandbox"
    api_key: str = "sandbox-at-key"
    product: str = "Electricity"
    currency: str = "KES"
    callback_url: str = ""
    is_withdrawn: bool = False
    _checkouts: dict[str, _Checkout] = field(default_factory=dict)

    def moves_money(self, ask: Ask) -> bool:
        return ask.path == "/mobile/checkout/request"

    def answer(self, ask: Ask) -> Said | None:
        handler = {
            ("POST", "/mobile/checkout/request"): self._begin,
            ("GET", "/query/transaction/find"): self._find,
            ("GET", "/query/transaction/fetch"): self._fetch,
        }.get((ask.method, ask.path))
        if handler is None or self.is_withdrawn:
            return None
        said = ask.body if ask.method == "POST" else ask.query
        if ask.headers.get("apikey") != self.api_key or text(said, "username") != self.username:
            return Said(401, {"errorMessage": "The supplied authentication is invalid"})
        return handler(said)

    def _begin(self, body: Mapping[str, Any]) -> Said:
        phone, metadata = text(body, "phoneNumber"), body.get("metadata")
        try:
            amount = amount_of(body.get("amount"), "amount", self.operator.wallets.minor_digits)
        except NotReadable:
            amount = 0
        if not amount or not _PHONE.fullmatch(phone) or text(body, "currencyCode") != self.currency:
            return Said(200, {"status": "InvalidRequest", "description": "Invalid amount, phone or currency"})
        if text(body, "productName") != self.product:
            return Said(200, {"status": "InvalidRequest", "description": "No such product"})
        number = f"ATPid_{len(self._checkouts) + 1:032x}"

        async def tell(_: Prompt) -> None:
            self._tell(number)

        prompt = self.operator.prompt(
            phone.removeprefix("+"),
            amount,
            merchant=self.product,
            account_ref=text(metadata, "account") if isinstance(metadata, Mapping) else "",
            reference=number,
            then=tell,
        )
        self._checkouts[number] = _Checkout(number, metadata if isinstance(metadata, Mapping) else {}, prompt)
        return Said(
            201,
            {
                "status": "PendingConfirmation",
                "description": "Waiting for user input",
                "transactionId": number,
                "providerChannel": "525900",
            },
        )

    def _tell(self, number: str) -> None:
        if self.callback_url:
            said = self._described(self._checkouts[number])
            self.operator.call_back(
                Call(self.callback_url, said), Call(self.callback_url, {**said, "status": "Success"})
            )

    def _described(self, checkout: _Checkout) -> dict[str, Any]:
        prompt, digits = checkout.prompt, self.operator.wallets.minor_digits
        end = prompt.ended.result() if prompt.ended.done() else None
        taken = prompt.transaction

        def value(amount_minor: int) -> str:
            whole, fraction = divmod(amount_minor, 10**digits)
            return f"{self.currency} {whole}.{fraction:0{digits}d}00"

        said: dict[str, Any] = {
            "transactionId": checkout.number,
            "category": "MobileCheckout",
            "provider": "Mpesa",
            "providerChannel": "525900",
            "productName": self.product,
            "sourceType": "PhoneNumber",
            "source": f"+{prompt.msisdn}",
            "destinationType": "Wallet",
            "destination": "PaymentWallet",
            "value": value(prompt.amount_minor),
            "status": "PendingConfirmation" if end is None else "Success" if end is End.PAID else "Failed",
            "description": "Waiting for user input" if end is None else _WORDS[end],
            "requestMetadata": dict(checkout.metadata),
        }
        if taken is not None:
            said["providerRefId"] = taken.receipt
            said["transactionFee"] = value(0)
            said["providerFee"] = value(taken.fee_minor)
            said["creationTime"] = taken.at.isoformat(sep=" ", timespec="seconds")
        return said

    def _find(self, query: Mapping[str, Any]) -> Said:
        checkout = self._checkouts.get(text(query, "transactionId"))
        if checkout is None:
            return Said(200, {"status": "Failed", "errorMessage": "No transaction found"})
        return Said(200, {"status": "Success", "data": self._described(checkout)})

    def _fetch(self, query: Mapping[str, Any]) -> Said:
        page, count = text(query, "pageNumber"), text(query, "count")
        if text(query, "productName") != self.product or not page.isdigit() or not count.isdigit():
            return Said(200, {"status": "Failed", "errorMessage": "productName, pageNumber and count expected"})
        found = [
            self._described(checkout)
            for checkout in self._checkouts.values()
            if checkout.prompt.transaction is not None
            and text(query, "startDate") <= checkout.prompt.transaction.at.date().isoformat() <= text(query, "endDate")
        ]
        begin = (int(page) - 1) * int(count)
        return Said(200, {"status": "Success", "responses": found[begin : begin + int(count)]})
