"""M-Pesa paid at the payer's own wish (Daraja, C2B): she types our paybill number, the meter and the amount. Shell.

Safaricom asks beforehand whether the account is right, where it has switched validation on; and tells of every payment.
The two calls are of one form and differ by their address alone, so both addresses are ours: `?step=validation` and
`?step=confirmation`. Confirmations are not signed, and nothing can be asked by our reference: the address is secret,
callers' networks are restricted, and the statement is the last word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from channels.http.callback import Answer, Callback, text_of
from config.provider_checks import FILTERED
from gateway.payments.amounts import amount_of
from gateway.payments.client import NoAnswer, NotSent
from gateway.payments.contract import (
    Asked,
    Can,
    Collect,
    Declined,
    Event,
    Forged,
    PaymentState,
    Unclear,
    Unknown,
    Validation,
    Why,
)
from gateway.payments.daraja import (
    ACCEPTED,
    CURRENCY,
    MINOR_DIGITS,
    DarajaAccount,
    DarajaSource,
    query_of,
    time_of,
)

METHODS: Final = frozenset({"POST"})
_CAN: Final = frozenset({Can.NOTIFY})
VALIDATION, CONFIRMATION = "validation", "confirmation"
# What Safaricom understands as reasons of a refused validation (known, not re-checked), by how ours begin.
REFUSALS: Final = {"METER": "C2B00012", "AMOUNT": "C2B00013", "PAYER": "C2B00011"}
_OTHER: Final = "C2B00016"


class MpesaC2b(DarajaSource):
    """Payments to one shortcode, as Safaricom tells of them.

    Those whose account reference ends with `account_mark` are prompts of the source `mpesa_stk` on the same shortcode,
    which hears of them itself: they are acknowledged here, and are no event.
    """

    def __init__(self, account: DarajaAccount, now: Callable[[], datetime], *, account_mark: str = "") -> None:
        super().__init__(account, now, _CAN)
        self._mark = account_mark

    async def register(self, *, when_unreachable: str = "Cancelled", version: str = "v2") -> Asked | Declined | Unclear:
        """Tell Safaricom our two addresses. When they cannot be reached, payments are `Cancelled` or `Completed`."""
        if when_unreachable not in ("Cancelled", "Completed"):
            raise ValueError("Cancelled or Completed expected")
        url = self._daraja.account.callback_url
        if FILTERED.search(url):
            raise ValueError("an address without the names of M-Pesa and Safaricom expected: theirs filters it")
        reply = await self._daraja.post(
            f"/mpesa/c2b/{version}/registerurl",
            {
                "ShortCode": self._daraja.account.shortcode,
                "ResponseType": when_unreachable,
                "ConfirmationURL": self._daraja.url(step=CONFIRMATION),
                "ValidationURL": self._daraja.url(step=VALIDATION),
            },
        )
        if isinstance(reply, NotSent):
            return Declined(Why.REFUSED, f"not sent: {reply.detail}")
        if isinstance(reply, NoAnswer):
            return Unclear(reply.detail)
        said = reply.fields()
        words = str(said.get("ResponseDescription", said.get("errorMessage", "")))[:200]
        code = str(said.get("ResponseCode", said.get("errorCode", f"HTTP {reply.status}")))[:40]
        # "0", or "00000000" in the second version.
        if reply.status == 200 and code and not code.strip("0"):
            return Asked()
        return Declined(Why.REFUSED, f"{code} {words}".strip())

    async def collect(self, order: Collect) -> Asked | Declined | Unclear:
        """Never called: here the payer begins."""
        raise AssertionError("no Can.COLLECT")

    async def status(self, our_ref: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """Never called: Daraja answers such questions by callback only, and only about receipts."""
        raise AssertionError("no Can.STATUS")

    def read(self, callback: Callback) -> Sequence[Event] | Validation:
        """A payment, or the question before one; of a refund's result nothing. Raises Forged, NotReadable."""
        asked = query_of(callback)
        if "refund" in asked:
            self._daraja.take_result(callback)
            return []
        step = asked.get("step", CONFIRMATION)
        if step not in (VALIDATION, CONFIRMATION):
            raise Forged("query")
        said = callback.json()
        if text_of(said, "BusinessShortCode", 20) != self._daraja.account.shortcode:
            raise Forged("shortcode")
        amount = amount_of(said.get("TransAmount"), "TransAmount", MINOR_DIGITS)
        # At most 20 characters where Safaricom takes it; more would be no meter of ours, and money all the same.
        account = text_of(said, "BillRefNumber", 100, may_be_empty=True).strip()
        payer = _payer(said)
        receipt = text_of(said, "TransID", 40)
        if step == VALIDATION:
            return Validation(payer, account, amount, CURRENCY, receipt)
        if self._mark and account.endswith(self._mark):
            return []
        return [
            Event(
                PaymentState.SUCCESS,
                time_of(said, "TransTime"),
                receipt=receipt,
                payer=payer,
                payer_name=_name(said),
                account_ref=account,
                amount_minor=amount,
                currency=CURRENCY,
                detail=text_of(said, "TransactionType", 60, may_be_empty=True),
            )
        ]

    def answer(self, callback: Callback, accepted: bool, why: str = "") -> Answer:
        """Accepted; or, of a validation, refused, `why` as METER_UNKNOWN or AMOUNT_MIN."""
        if accepted:
            return ACCEPTED
        said = {"ResultCode": REFUSALS.get(why.partition("_")[0], _OTHER), "ResultDesc": "Rejected"}
        return Answer(json.dumps(said), "application/json")


def _payer(said: dict[str, Any]) -> str:
    """The payer's number, empty where it comes masked ("2547 ***** 126") or as a digest: then there is nobody to text.

    Only digits with a country code count as a number: half a number could be somebody else's.
    """
    text = text_of(said, "MSISDN", 128, may_be_empty=True).removeprefix("+")
    is_number = text.isascii() and text.isdigit() and 7 <= len(text) <= 15 and not text.startswith("0")
    return text if is_number else ""


def _name(said: dict[str, Any]) -> str:
    """What names there are, one after another."""
    names = [text_of(said, part, 100, may_be_empty=True) for part in ("FirstName", "MiddleName", "LastName")]
    return " ".join(" ".join(names).split())
