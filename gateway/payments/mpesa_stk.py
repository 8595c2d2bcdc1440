"""M-Pesa by prompt (Daraja, "M-PESA Express", STK push): the payer's phone asks for her PIN. Shell.

A prompt has no key of ours that Safaricom knows: the same request sent again prompts again. So nothing is sent twice,
and a request without answer can be closed only by its callback, whose address carries our reference, or by the
statement. Callbacks are not signed: what they say counts above a limit only once the query says the same.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from channels.http.callback import Answer, Callback, NotReadable, msisdn_of, text_of
from config.kinds import Secret
from gateway.payments.amounts import Unfit, amount_of, fit
from gateway.payments.client import NoAnswer, NotSent
from gateway.payments.contract import (
    Asked,
    Can,
    Collect,
    Declined,
    Event,
    PaymentState,
    Unclear,
    Unknown,
    Validation,
    Why,
)
from gateway.payments.daraja import (
    ACCEPTED,
    CURRENCY,
    GOING_ON,
    KENYA,
    MINOR_DIGITS,
    RESULTS,
    STEP_MINOR,
    DarajaAccount,
    DarajaSource,
    member,
    query_of,
    result_code,
    taken,
    time_of,
    uuid_of,
)

METHODS: Final = frozenset({"POST"})
_CAN: Final = frozenset({Can.COLLECT, Can.NOTIFY, Can.STATUS})
ACCOUNT_MAX: Final = 12
DESCRIPTION_MAX: Final = 13
AMOUNT_MAX_MINOR: Final = 25_000_000  # shillings 250,000 a transaction; known, not re-checked
_ITEMS_MAX: Final = 20


class MpesaStk(DarajaSource):
    """Prompts for one shortcode. A success of more than `confirm_above_minor` counts once the query says so, too.

    `till` is the number that is paid where it is not the shortcode itself (Buy Goods); `account_mark` is put behind
    what the payer is shown, so that the C2B source of the same shortcode knows payments that are not its own.
    """

    step_minor = STEP_MINOR

    def __init__(
        self,
        account: DarajaAccount,
        now: Callable[[], datetime],
        *,
        passkey: Secret,
        confirm_above_minor: int = 0,
        till: str = "",
        account_mark: str = "",
    ) -> None:
        super().__init__(account, now, _CAN)
        self._now = now
        self._passkey = passkey
        self._confirm_above = confirm_above_minor
        self._till = till
        self._mark = account_mark

    def _password(self) -> dict[str, str]:
        moment = f"{self._now().astimezone(KENYA):%Y%m%d%H%M%S}"
        shortcode = self._daraja.account.shortcode
        password = base64.b64encode(f"{shortcode}{self._passkey.reveal()}{moment}".encode()).decode()
        return {"BusinessShortCode": shortcode, "Password": password, "Timestamp": moment}

    async def collect(self, order: Collect) -> Asked | Declined | Unclear:
        """Prompt the payer. Asked again, it would prompt again."""
        try:
            amount = fit(order.amount_minor, order.currency, only=CURRENCY, step_minor=STEP_MINOR)
        except Unfit as error:
            return Declined(Why.REFUSED, str(error))
        if amount > AMOUNT_MAX_MINOR:
            return Declined(Why.LIMIT, f"amount: at most {AMOUNT_MAX_MINOR // STEP_MINOR} shillings expected")
        reply = await self._daraja.post(
            "/mpesa/stkpush/v1/processrequest",
            {
                **self._password(),
                "TransactionType": "CustomerBuyGoodsOnline" if self._till else "CustomerPayBillOnline",
                "Amount": str(amount // STEP_MINOR),
                "PartyA": order.payer,
                "PartyB": self._till or self._daraja.account.shortcode,
                "PhoneNumber": order.payer,
                "CallBackURL": self._daraja.url(ref=str(order.our_ref)),
                # The end of a longer number tells meters apart better than its beginning, the manufacturer's.
                "AccountReference": order.account_ref[-(ACCOUNT_MAX - len(self._mark)) :] + self._mark,
                "TransactionDesc": order.description[:DESCRIPTION_MAX] or "payment",
            },
        )
        return taken(reply, "CheckoutRequestID")

    async def status(self, our_ref: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """Ask how a prompt stands. The query tells neither receipt nor amount."""
        if not provider_ref:
            return Unclear("the prompt was never named: its callback or the statement tells")
        reply = await self._daraja.post(
            "/mpesa/stkpushquery/v1/query", {**self._password(), "CheckoutRequestID": provider_ref}
        )
        if isinstance(reply, NotSent | NoAnswer):
            return Unclear(reply.detail)
        said = reply.fields()
        pending = Event(PaymentState.PENDING, self._now(), provider_ref=provider_ref, our_ref=our_ref)
        if said.get("errorCode") in GOING_ON:
            return pending
        if reply.status != 200:
            return Unclear(f"HTTP {reply.status}")
        try:
            code = result_code(said)
            if text_of(said, "CheckoutRequestID", 80, may_be_empty=True) not in ("", provider_ref):
                return Unclear("an answer about another prompt")
        except NotReadable as fault:
            return Unclear(f"an answer that cannot be read: {fault}")
        if code in GOING_ON:
            return pending
        if code == "0":
            return replace(pending, state=PaymentState.SUCCESS)
        return replace(pending, state=PaymentState.FAILED, why=RESULTS.get(code, Why.REFUSED), detail=code)

    def read(self, callback: Callback) -> Sequence[Event] | Validation:
        """What a callback says of a prompt; of a refund's result nothing. Raises Forged, NotReadable."""
        asked = query_of(callback)
        if "refund" in asked:
            self._daraja.take_result(callback)
            return []
        our_ref = uuid_of(asked["ref"]) if "ref" in asked else None
        said = member(member(callback.json(), "Body"), "stkCallback")
        code = result_code(said)
        event = Event(
            PaymentState.FAILED,
            self._now(),
            provider_ref=text_of(said, "CheckoutRequestID", 80),
            our_ref=our_ref,
            detail=f"{code} {text_of(said, 'ResultDesc', 200, may_be_empty=True)}".strip(),
        )
        if code in GOING_ON:
            return [replace(event, state=PaymentState.PENDING)]
        if code != "0":
            return [replace(event, why=RESULTS.get(code, Why.REFUSED))]
        items = _items(said)
        amount = amount_of(items.get("Amount"), "Amount", MINOR_DIGITS)
        paid = replace(
            event,
            state=PaymentState.SUCCESS,
            occurred_at=time_of(items, "TransactionDate"),
            receipt=text_of(items, "MpesaReceiptNumber", 40),
            payer=msisdn_of(items, "PhoneNumber") if "PhoneNumber" in items else "",
            amount_minor=amount,
            currency=CURRENCY,
        )
        if amount <= self._confirm_above:
            return [paid]
        # What nobody has signed is a reason to ask, not to vend. The receipt is told here alone; the amount is the one
        # asked for, whatever is said: a payer cannot agree to another.
        return [replace(paid, state=PaymentState.PENDING, amount_minor=None, currency="", detail="to be confirmed")]

    def answer(self, callback: Callback, accepted: bool, why: str = "") -> Answer:
        """What Safaricom wants to hear; anything else makes it call again, or not."""
        return ACCEPTED if accepted else Answer('{"ResultCode":1,"ResultDesc":"Rejected"}', "application/json")


def _items(said: dict[str, Any]) -> dict[str, Any]:
    """The named items of a callback's CallbackMetadata. Raises NotReadable."""
    found = member(said, "CallbackMetadata").get("Item")
    if not isinstance(found, list) or len(found) > _ITEMS_MAX:
        raise NotReadable("not_a_list", "CallbackMetadata.Item")
    items: dict[str, Any] = {}
    for entry in found:
        if not isinstance(entry, dict):
            raise NotReadable("not_an_object", "CallbackMetadata.Item")
        name = text_of(entry, "Name", 40)
        if name in items:
            raise NotReadable("repeated", name)
        items[name] = entry.get("Value")
    return items
