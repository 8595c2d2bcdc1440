"""Safaricom's Daraja, simulated: OAuth, prompt and query, C2B with validation, reversals. Shell.

It refuses what the real one is known to refuse: fractions, long references, a wrong password, callback addresses with
its name in them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from config.provider_checks import FILTERED
from gateway.payments.amounts import written
from gateway.payments.daraja import KENYA
from gateway.payments.simulated.front import Ask, Said, text
from gateway.payments.simulated.mobile_operator import Call, MobileOperator, Prompt
from gateway.payments.simulated.wallets import End, Transaction

_MSISDN: Final = re.compile(r"254[17][0-9]{8}")
_AMOUNT: Final = re.compile(r"[1-9][0-9]{0,5}")
RESULTS: Final[Mapping[End, tuple[int, str]]] = {
    End.PAID: (0, "The service request is processed successfully."),
    End.NO_FUNDS: (1, "The balance is insufficient for the transaction."),
    End.DECLINED: (1032, "Request cancelled by user."),
    End.WRONG_PIN: (2001, "The initiator information is invalid."),
    End.EXPIRED: (1019, "Transaction has expired."),
    End.UNREACHABLE: (1037, "DS timeout user cannot be reached."),
}


@dataclass(slots=True)
class _Checkout:
    number: str
    merchant_request: str
    callback_url: str
    prompt: Prompt


@dataclass(slots=True)
class SimulatedDaraja:
    """One shortcode. `validates`: C2B validation is switched on; `masks`: payers' numbers come masked.

    `confirms_prompts`: payments by prompt bring a C2B confirmation as well, where addresses are registered.
    """

    operator: MobileOperator
    shortcode: str = "600987"
    consumer_key: str = "sandbox-key"
    consumer_secret: str = "sandbox-secret"
    passkey: str = "sandbox-passkey"
    initiator: str = "sandbox-initiator"
    validates: bool = True
    masks: bool = False
    confirms_prompts: bool = True
    token_lasts_s: int = 3599
    tokens: int = 0  # that were given
    registered: dict[str, str] = field(default_factory=dict)
    _checkouts: dict[str, _Checkout] = field(default_factory=dict)
    _reversals: dict[str, str] = field(default_factory=dict)  # by conversation, the TransactionStatus

    def moves_money(self, ask: Ask) -> bool:
        return ask.path in ("/mpesa/stkpush/v1/processrequest", "/mpesa/reversal/v1/request")

    def answer(self, ask: Ask) -> Said | None:
        if ask.path == "/oauth/v1/generate":
            return self._token(ask)
        handler = {
            "/mpesa/stkpush/v1/processrequest": self._push,
            "/mpesa/stkpushquery/v1/query": self._query,
            "/mpesa/c2b/v1/registerurl": self._register,
            "/mpesa/c2b/v2/registerurl": self._register,
            "/mpesa/c2b/v1/simulate": self._simulate,
            "/mpesa/reversal/v1/request": self._reverse,
            "/mpesa/transactionstatus/v1/query": self._transaction_status,
        }.get(ask.path)
        if handler is None:
            return None
        if ask.method != "POST":
            return _refused(405, "405.001", "Method not allowed")
        if ask.headers.get("authorization") != f"Bearer {self._bearer}":
            return _refused(401, "404.001.03", "Invalid Access Token")
        return handler(ask.body)

    @property
    def _bearer(self) -> str:
        return f"sandbox-token-{self.tokens}"

    def expire_token(self) -> None:
        """The token that was given holds no longer."""
        self.tokens += 1

    def _token(self, ask: Ask) -> Said:
        pair = base64.b64encode(f"{self.consumer_key}:{self.consumer_secret}".encode()).decode()
        if ask.headers.get("authorization") != f"Basic {pair}":
            return _refused(400, "400.008.01", "Invalid Authentication passed")
        self.tokens += 1
        return Said(200, {"access_token": self._bearer, "expires_in": str(self.token_lasts_s)})

    # --- prompts ------------------------------------------------------------------------------------------------

    def _is_signed(self, body: Mapping[str, Any]) -> bool:
        moment = text(body, "Timestamp")
        wanted = base64.b64encode(f"{self.shortcode}{self.passkey}{moment}".encode()).decode()
        return bool(re.fullmatch(r"[0-9]{14}", moment)) and text(body, "Password") == wanted

    def _push(self, body: Mapping[str, Any]) -> Said:
        if text(body, "BusinessShortCode") != self.shortcode or not self._is_signed(body):
            return _refused(500, "500.001.1001", "Wrong credentials")
        amount, phone, url = text(body, "Amount"), text(body, "PhoneNumber"), text(body, "CallBackURL")
        for name, is_right in (
            ("Amount", _AMOUNT.fullmatch(amount)),
            ("PhoneNumber", _MSISDN.fullmatch(phone)),
            ("CallBackURL", url.startswith(("http://", "https://")) and not FILTERED.search(url)),
            ("AccountReference", 1 <= len(text(body, "AccountReference")) <= 12),
            ("TransactionDesc", 1 <= len(text(body, "TransactionDesc")) <= 13),
            ("PartyA", text(body, "PartyA") == phone),
            ("PartyB", text(body, "PartyB") != ""),
        ):
            if not is_right:
                return _refused(400, "400.002.02", f"Bad Request - Invalid {name}")
        if any(each.prompt.msisdn == phone and not each.prompt.ended.done() for each in self._checkouts.values()):
            return _refused(500, "500.001.1001", "Unable to lock subscriber, a transaction is already in process")
        number = f"ws_CO_{self.operator.now().astimezone(KENYA):%d%m%Y%H%M%S}{len(self._checkouts) + 1:06d}{phone[3:]}"
        prompt = self.operator.prompt(
            phone,
            int(amount) * 100,
            merchant=self.shortcode,
            account_ref=text(body, "AccountReference"),
            reference=number,
            then=lambda _: self._tell(number),
        )
        self._checkouts[number] = _Checkout(number, f"29115-34620561-{len(self._checkouts) + 1}", url, prompt)
        return Said(
            200,
            {
                "MerchantRequestID": self._checkouts[number].merchant_request,
                "CheckoutRequestID": number,
                "ResponseCode": "0",
                "ResponseDescription": "Success. Request accepted for processing",
                "CustomerMessage": "Success. Request accepted for processing",
            },
        )

    async def _tell(self, number: str) -> None:
        checkout = self._checkouts[number]
        code, words = RESULTS[checkout.prompt.ended.result()]
        said: dict[str, Any] = {
            "MerchantRequestID": checkout.merchant_request,
            "CheckoutRequestID": number,
            "ResultCode": code,
            "ResultDesc": words,
        }
        taken = checkout.prompt.transaction
        if taken is not None:
            said["CallbackMetadata"] = self._metadata(taken, taken.receipt)
        forged = {
            **said,
            "ResultCode": 0,
            "CallbackMetadata": self._metadata(
                Transaction("", self.operator.now(), "", checkout.prompt.msisdn, checkout.prompt.amount_minor, 0),
                f"FORGED{len(number)}{number[-3:]}",
            ),
        }
        url = checkout.callback_url
        self.operator.call_back(
            Call(url, {"Body": {"stkCallback": said}}), Call(url, {"Body": {"stkCallback": forged}})
        )
        if taken is not None and self.confirms_prompts and self.registered:
            self.operator.call_back(Call(self.registered["ConfirmationURL"], self._c2b(taken)))

    def _metadata(self, taken: Transaction, receipt: str) -> dict[str, Any]:
        return {
            "Item": [
                # A number without fraction: the real one writes 500.00 or 500, and both are read.
                {"Name": "Amount", "Value": taken.amount_minor // 100},
                {"Name": "MpesaReceiptNumber", "Value": receipt},
                {"Name": "Balance"},
                {"Name": "TransactionDate", "Value": int(f"{taken.at.astimezone(KENYA):%Y%m%d%H%M%S}")},
                {"Name": "PhoneNumber", "Value": int(taken.msisdn)},
            ]
        }

    def _query(self, body: Mapping[str, Any]) -> Said:
        if text(body, "BusinessShortCode") != self.shortcode or not self._is_signed(body):
            return _refused(500, "500.001.1001", "Wrong credentials")
        checkout = self._checkouts.get(text(body, "CheckoutRequestID"))
        if checkout is None:
            return _refused(400, "400.002.02", "Bad Request - Invalid CheckoutRequestID")
        if not checkout.prompt.ended.done():
            return _refused(500, "500.001.1001", "The transaction is being processed")
        code, words = RESULTS[checkout.prompt.ended.result()]
        return Said(
            200,
            {
                "ResponseCode": "0",
                "ResponseDescription": "The service request has been accepted successsfully",
                "MerchantRequestID": checkout.merchant_request,
                "CheckoutRequestID": checkout.number,
                "ResultCode": str(code),
                "ResultDesc": words,
            },
        )

    # --- C2B ----------------------------------------------------------------------------------------------------

    def _register(self, body: Mapping[str, Any]) -> Said:
        urls = {name: text(body, name) for name in ("ConfirmationURL", "ValidationURL")}
        if text(body, "ShortCode") != self.shortcode:
            return _refused(400, "400.003.02", "Bad Request - Invalid ShortCode")
        if text(body, "ResponseType") not in ("Completed", "Cancelled"):
            return _refused(400, "400.003.02", "Bad Request - Invalid ResponseType")
        if any(not url.startswith("http") or FILTERED.search(url) for url in urls.values()):
            return _refused(400, "400.003.02", "Bad Request - Invalid URL")
        self.registered = {**urls, "ResponseType": text(body, "ResponseType")}
        return Said(
            200,
            {
                "OriginatorCoversationID": "6e86-45dd-91ac-fd5d4178ab52",
                "ResponseCode": "0",
                "ResponseDescription": "Success",
            },
        )

    def _simulate(self, body: Mapping[str, Any]) -> Said:
        phone, amount = text(body, "Msisdn"), text(body, "Amount")
        if not _MSISDN.fullmatch(phone) or not _AMOUNT.fullmatch(amount):
            return _refused(400, "400.002.02", "Bad Request - Invalid Msisdn or Amount")
        self.pay(phone, int(amount) * 100, text(body, "BillRefNumber"))
        return Said(200, {"ResponseCode": "0", "ResponseDescription": "Accept the service request successfully."})

    def pay(self, msisdn: str, amount_minor: int, account_ref: str) -> None:
        """A payer types our number, an account and an amount into her phone's menu, and her PIN."""

        async def run() -> None:
            await self.paid(msisdn, amount_minor, account_ref)

        self.operator.spawn(run())

    async def paid(self, msisdn: str, amount_minor: int, account_ref: str) -> Transaction | None:
        """The same, to its end; None where the gateway refused, or she has too little."""
        # What she sees is not masked to the gateway before the payment is made: the receipt is the one it will have.
        if self.validates and self.registered and not await self._validated(msisdn, amount_minor, account_ref):
            return None
        taken = self.operator.wallets.take(
            msisdn, amount_minor, self.operator.now(), details="Pay Bill", account_ref=account_ref
        )
        if taken is not None and self.registered:
            url = self.registered["ConfirmationURL"]
            forged = Transaction("FORGED" + taken.receipt[-4:], taken.at, "", msisdn, amount_minor * 10, 0, account_ref)
            # One who knew address and shortcode could not be told from Safaricom: this one takes the sandbox's.
            self.operator.call_back(
                Call(url, self._c2b(taken)), Call(url, {**self._c2b(forged), "BusinessShortCode": "174379"})
            )
        return taken

    async def _validated(self, msisdn: str, amount_minor: int, account_ref: str) -> bool:
        asked = Transaction("VALIDATION", self.operator.now(), "", msisdn, amount_minor, 0, account_ref)
        answer = await self.operator.send(Call(self.registered["ValidationURL"], self._c2b(asked)))
        if answer is None or answer[0] != 200:
            return self.registered["ResponseType"] == "Completed"
        # ResultCode 0, as a number or as a text; with or without blanks.
        return re.search(r'"ResultCode"\s*:\s*"?0"?\s*[,}]', answer[1]) is not None

    def _c2b(self, taken: Transaction) -> dict[str, Any]:
        number = taken.msisdn
        return {
            "TransactionType": "Pay Bill",
            "TransID": taken.receipt,
            "TransTime": f"{taken.at.astimezone(KENYA):%Y%m%d%H%M%S}",
            "TransAmount": f"{taken.amount_minor // 100}.{taken.amount_minor % 100:02d}",
            "BusinessShortCode": self.shortcode,
            "BillRefNumber": taken.account_ref,
            "InvoiceNumber": "",
            "OrgAccountBalance": written(max(self.operator.wallets.balance_minor, 0), 2),
            "ThirdPartyTransID": "",
            "MSISDN": f"{number[:4]} ***** {number[-3:]}" if self.masks else number,
            "FirstName": "AMINA",
            "MiddleName": "",
            "LastName": "",
        }

    # --- reversals ----------------------------------------------------------------------------------------------

    def _is_initiated(self, body: Mapping[str, Any]) -> bool:
        return text(body, "Initiator") == self.initiator and text(body, "SecurityCredential") != ""

    def _reverse(self, body: Mapping[str, Any]) -> Said:
        url = text(body, "ResultURL")
        if not self._is_initiated(body) or text(body, "CommandID") != "TransactionReversal":
            return _refused(400, "400.002.02", "Bad Request - Invalid Initiator")
        if text(body, "RecieverIdentifierType") != "11" or text(body, "ReceiverParty") != self.shortcode:
            return _refused(400, "400.002.02", "Bad Request - Invalid RecieverIdentifierType")
        if not url.startswith("http") or not text(body, "QueueTimeOutURL").startswith("http"):
            return _refused(400, "400.002.02", "Bad Request - Invalid ResultURL")
        conversation = f"71840-27539181-{len(self._reversals) + 1}"
        receipt, amount = text(body, "TransactionID"), text(body, "Amount")
        done = self.operator.wallets.reverse(
            receipt, int(amount) * 100 if _AMOUNT.fullmatch(amount) else 0, self.operator.now(), reference=conversation
        )
        codes = {"unknown": ("R000002", "The OriginalTransactionID is invalid."),
                 "already": ("R000001", "The transaction has already been reversed."),
                 "amount": ("2006", "Declined due to account rule.")}  # fmt: skip
        code, words = codes[done] if isinstance(done, str) else ("0", "The service request is processed successfully.")
        self._reversals[conversation] = "Declined" if isinstance(done, str) else "Completed"
        result = {
            "ResultType": 0,
            "ResultCode": code if code.startswith("R") else int(code),
            "ResultDesc": words,
            "OriginatorConversationID": conversation,
            "ConversationID": f"AG_{len(self._reversals):010d}",
            "TransactionID": "" if isinstance(done, str) else done.receipt,
        }
        self.operator.call_back(Call(url, {"Result": result}))
        return Said(
            200,
            {
                "OriginatorConversationID": conversation,
                "ConversationID": f"AG_{len(self._reversals):010d}",
                "ResponseCode": "0",
                "ResponseDescription": "Accept the service request successfully.",
            },
        )

    def _transaction_status(self, body: Mapping[str, Any]) -> Said:
        if not self._is_initiated(body) or text(body, "CommandID") != "TransactionStatusQuery":
            return _refused(400, "400.002.02", "Bad Request - Invalid Initiator")
        conversation = text(body, "OriginatorConversationID")
        status = self._reversals.get(conversation)
        result: dict[str, Any] = {
            "ResultType": 0,
            "ResultCode": 2001 if status is None else 0,
            "ResultDesc": "" if status is None else "The service request is processed successfully.",
            "OriginatorConversationID": conversation,
            "ConversationID": "AG_status",
            "TransactionID": "",
        }
        if status is not None:
            result["ResultParameters"] = {"ResultParameter": [{"Key": "TransactionStatus", "Value": status}]}
        self.operator.call_back(Call(text(body, "ResultURL"), {"Result": result}))
        return Said(
            200,
            {
                "OriginatorConversationID": conversation,
                "ConversationID": "AG_status",
                "ResponseCode": "0",
                "ResponseDescription": "Accept the service request successfully.",
            },
        )


def _refused(status: int, code: str, words: str) -> Said:
    return Said(status, {"requestId": "11728-2929992-1", "errorCode": code, "errorMessage": words})
