"""Safaricom's Daraja: what all its APIs share. OAuth, times, result codes, the asynchronous result, refunds. Shell.

Facts are from Safaricom's public documentation and what its users report; known, not re-checked against a live account:
callbacks carry no signature; a shortcode's C2B confirmations come for payments by prompt as well; a second reversal of
a transaction is refused with R000001. Times are those of Kenya, amounts whole shillings, numbers 2547... or 2541....
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from channels.http.callback import Answer, Callback, NotReadable, text_of
from config.kinds import NO_SECRET, Secret
from gateway.payments.amounts import Unfit, fit
from gateway.payments.client import Access, Client, Granted, NoAnswer, NotSent, Reply, ask_with_token, granted_of
from gateway.payments.contract import (
    Asked,
    Can,
    Declined,
    Event,
    Forged,
    PaymentState,
    StatementLine,
    Unclear,
    Unknown,
    Why,
)

CURRENCY: Final = "KES"
MINOR_DIGITS: Final = 2
STEP_MINOR: Final = 100
KENYA: Final = timezone(timedelta(hours=3), "EAT")
_RESULTS_MAX: Final = 10_000
_REVERSED_ALREADY: Final = "R000001"
_OVER: Final = "over: "  # how the detail begins where a question's answer says that a reversal is over, and not why
_TOO_MANY: Final = frozenset({"500.003.02", "500.003.03"})  # a second, or a day
_TIME: Final = re.compile(r"[0-9]{14}")
_CODE: Final = re.compile(r"[A-Za-z0-9.]{1,20}")

RESULTS: Final[Mapping[str, Why]] = {
    "1": Why.NO_FUNDS,
    "8": Why.LIMIT,  # would exceed the most an account may hold
    "17": Why.LIMIT,
    "1001": Why.BUSY,
    "1019": Why.EXPIRED,
    "1025": Why.UNREACHABLE,
    "1032": Why.CANCELLED,
    "1037": Why.UNREACHABLE,
    "2001": Why.WRONG_PIN,
    "9999": Why.UNREACHABLE,
}
GOING_ON: Final = frozenset({"4999", "500.001.1001"})
"""Codes of the query that say: the payer has not answered yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DarajaAccount:
    """One shortcode at Daraja. `callback_url` is the whole public address of this source, without a query."""

    name: str
    base_url: str
    consumer_key: Secret
    consumer_secret: Secret
    shortcode: str
    callback_url: str
    initiator: str = ""
    security_credential: Secret = (
        NO_SECRET  # the initiator's password under Safaricom's public key, as their portal gives it
    )
    timeout_s: float = 30.0
    connections_max: int = 20
    retry_pause_s: float = 0.5


class Daraja:
    """The connection to Daraja for one shortcode."""

    def __init__(self, account: DarajaAccount, now: Callable[[], datetime]) -> None:
        self.account = account
        self.now = now
        self._client = Client(account.base_url, timeout_s=account.timeout_s, connections_max=account.connections_max)
        self._access = Access(self._grant, account.retry_pause_s)
        # Results of reversals that have come by callback and not been asked for yet. Only to spare a question: what is
        # forgotten, in a restart or because another node was called, is asked for again.
        self._results: dict[UUID, Event] = {}

    async def _grant(self) -> Granted:
        pair = f"{self.account.consumer_key.reveal()}:{self.account.consumer_secret.reveal()}"
        return granted_of(
            await self._client.ask(
                "GET",
                "/oauth/v1/generate",
                query={"grant_type": "client_credentials"},
                headers={"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()},
            )
        )

    async def post(self, path: str, body: Mapping[str, object]) -> Reply | NotSent | NoAnswer:
        """One question."""

        async def send(token: str) -> Reply | NotSent | NoAnswer:
            return await self._client.ask("POST", path, headers={"Authorization": f"Bearer {token}"}, body=body)

        return await ask_with_token(self._access, send, _token_refused)

    async def try_out(self) -> str:
        """Whether it lets us in. Raises NoAccess."""
        return await self._access.try_out()

    async def close(self) -> None:
        """Leave the connections."""
        await self._client.close()

    def url(self, **said: str) -> str:
        """The callback address, with what the answer shall bring back."""
        return f"{self.account.callback_url}?{urlencode(said)}" if said else self.account.callback_url

    # --- refunds ------------------------------------------------------------------------------------------------

    @property
    def can_reverse(self) -> bool:
        """Whether the settings name an initiator, with whose right transactions are reversed."""
        return bool(self.account.initiator and self.account.security_credential)

    async def reverse(self, key: UUID, receipt: str, amount_minor: int) -> Asked | Declined | Unclear:
        """Reverse a transaction as a whole; its result comes by callback.

        The same transaction cannot be reversed twice (R000001), so a repeat does not give the money back twice.
        """
        if not receipt:
            return Declined(Why.REFUSED, "no receipt: a transaction that was never named cannot be reversed")
        try:
            amount = fit(amount_minor, CURRENCY, only=CURRENCY, step_minor=STEP_MINOR) // STEP_MINOR
        except Unfit as error:
            return Declined(Why.REFUSED, str(error))
        reply = await self.post(
            "/mpesa/reversal/v1/request",
            {
                "Initiator": self.account.initiator,
                "SecurityCredential": self.account.security_credential.reveal(),
                "CommandID": "TransactionReversal",
                "TransactionID": receipt,
                "Amount": str(amount),
                "ReceiverParty": self.account.shortcode,
                "RecieverIdentifierType": "11",  # spelled so on the wire
                "ResultURL": self.url(refund=str(key)),
                "QueueTimeOutURL": self.url(refund=str(key), late="1"),
                "Remarks": f"refund {key}",
                "Occasion": "",
            },
        )
        return taken(reply, "OriginatorConversationID")

    async def ask_reversal(self, key: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """How a reversal stands, if its result has come; else ask, and the answer comes by callback.

        Unknown where the request was never answered, or the one that was is over without a word of why: the same may
        be sent again, for no transaction is reversed twice, and its result says whether that was the second.
        """
        known = self._results.get(key)
        if known is not None and known.state is not PaymentState.PENDING:
            return known
        if known is not None:
            del self._results[key]
        if known is not None or not provider_ref:
            return Unknown(is_certain=False)
        reply = await self.post(
            "/mpesa/transactionstatus/v1/query",
            {
                "Initiator": self.account.initiator,
                "SecurityCredential": self.account.security_credential.reveal(),
                "CommandID": "TransactionStatusQuery",
                "OriginatorConversationID": provider_ref,
                "PartyA": self.account.shortcode,
                "IdentifierType": "4",
                "ResultURL": self.url(refund=str(key), asked="1"),
                "QueueTimeOutURL": self.url(refund=str(key), late="1"),
                "Remarks": f"refund {key}",
                "Occasion": "",
            },
        )
        return Unclear("asked; the answer comes by callback" if isinstance(reply, Reply) else reply.detail)

    def take_result(self, callback: Callback) -> None:
        """Take up the result of a reversal, for the next question about it. Raises NotReadable, Forged."""
        event = self.read_result(callback)
        assert event.our_ref is not None
        if event.state is not PaymentState.PENDING or event.detail.startswith(_OVER):
            while len(self._results) >= _RESULTS_MAX:
                del self._results[next(iter(self._results))]
            self._results[event.our_ref] = event

    def read_result(self, callback: Callback) -> Event:
        """The result of a reversal, or of the question after one: an event of the refund. Raises NotReadable, Forged.

        `our_ref` is the refund's key, from the address that was given for the result.
        """
        asked = query_of(callback)
        key = uuid_of(asked["refund"])
        if "late" in asked:  # it waited too long in their queue; whether it was done is not known
            return Event(PaymentState.PENDING, self.now(), our_ref=key, detail="queue time-out")
        result = member(callback.json(), "Result")
        code = result_code(result)
        conversation = text_of(result, "OriginatorConversationID", 80, may_be_empty=True)
        detail = text_of(result, "ResultDesc", 200, may_be_empty=True)
        if "asked" in asked:
            code, detail = _status_of_reversal(result, code, detail)
            if code not in ("", "0"):  # perhaps for the one before it was done: that is not told here
                code, detail = "", f"{_OVER}{code}"
        if code in ("0", _REVERSED_ALREADY):
            state, why = PaymentState.SUCCESS, None
        elif code == "":
            state, why = PaymentState.PENDING, None
        else:
            state, why = PaymentState.FAILED, RESULTS.get(code, Why.REFUSED)
        return Event(
            state,
            self.now(),
            receipt=text_of(result, "TransactionID", 40, may_be_empty=True) if state is PaymentState.SUCCESS else "",
            provider_ref=conversation,
            our_ref=key,
            why=why,
            detail=f"{code} {detail}".strip(),
        )


class DarajaSource:
    """What every source on a shortcode does alike: refunds by reversal, and leaving the connections.

    `can` is what the kind itself is able to do; refunds are added where the settings name an initiator.
    """

    def __init__(self, account: DarajaAccount, now: Callable[[], datetime], can: frozenset[Can]) -> None:
        self.name = account.name
        self.can = can
        self._daraja = Daraja(account, now)
        if self._daraja.can_reverse:
            self.can = can | {Can.REFUND}

    async def refund(self, key: UUID, receipt: str, payer: str, amount_minor: int) -> Asked | Declined | Unclear:
        """Reverse the payment; the whole of it, by its receipt."""
        return await self._daraja.reverse(key, receipt, amount_minor)

    async def refund_status(self, key: UUID, provider_ref: str) -> Event | Unknown | Unclear:
        """How a reversal stands, once its result has come."""
        return await self._daraja.ask_reversal(key, provider_ref)

    async def statement(self, day: date) -> Sequence[StatementLine]:
        """Never called: Daraja lists nothing; statements come as files."""
        raise AssertionError("no Can.STATEMENT")

    async def try_out(self) -> str:
        """Whether Safaricom lets us in, for `prepaid check`. Raises NoAccess."""
        return await self._daraja.try_out()

    async def close(self) -> None:
        """Leave the connections."""
        await self._daraja.close()


def _status_of_reversal(result: Mapping[str, Any], code: str, detail: str) -> tuple[str, str]:
    """What a status query's result says of the reversal it asks about: "0", a code, or "" for not known yet."""
    if code != "0":
        return "", detail  # the question failed, not the reversal
    parameters = member(result, "ResultParameters").get("ResultParameter")
    for entry in parameters if isinstance(parameters, list) else []:
        if isinstance(entry, dict) and entry.get("Key") == "TransactionStatus":
            status = str(entry.get("Value"))[:40]
            return {"Completed": "0", "Declined": "Declined", "Cancelled": "Cancelled", "Expired": "Expired"}.get(
                status, ""
            ), status
    return "", detail


def taken(reply: Reply | NotSent | NoAnswer, ref_name: str) -> Asked | Declined | Unclear:
    """What came of asking for money to be moved: taken only with ResponseCode 0 and a name for it."""
    if isinstance(reply, NotSent):
        return Declined(Why.REFUSED, f"not sent: {reply.detail}")
    if isinstance(reply, NoAnswer):
        return Unclear(reply.detail)
    said = reply.fields()
    if reply.status == 200:
        try:
            if text_of(said, "ResponseCode", 20) != "0":
                words = text_of(said, "ResponseDescription", 200, may_be_empty=True)
                return Declined(Why.REFUSED, f"ResponseCode {said['ResponseCode']} {words}".strip())
            return Asked(text_of(said, ref_name, 80))
        except NotReadable as fault:
            return Unclear(f"an answer that cannot be read: {fault}")
    code, words = said.get("errorCode"), str(said.get("errorMessage", ""))[:200]
    if isinstance(code, str) and _CODE.fullmatch(code):
        # 500.001.1001 of a request that is refused: "Unable to lock subscriber ..."; 500.003.02: too many a second.
        if "lock subscriber" in words.lower():
            return Declined(Why.BUSY, code)
        if reply.status < 500 or code in _TOO_MANY:
            return Declined(Why.REFUSED, f"{code} {_plain(words)}".strip())
        return Unclear(f"HTTP {reply.status} {code}")
    if 400 <= reply.status < 500 and reply.status != 408:
        return Declined(Why.REFUSED, f"HTTP {reply.status}")
    return Unclear(f"HTTP {reply.status}")


def _plain(words: str) -> str:
    """A provider's words without what could be a credential: tokens are long, words are not."""
    return " ".join(word for word in re.sub(r"[^ -~]", " ", words).split() if len(word) <= 24)


def _token_refused(reply: Reply) -> bool:
    """404.001.03 is "Invalid Access Token", by whichever HTTP status; plain 401 is the proxy's word for the same."""
    return reply.status == 401 or reply.fields().get("errorCode") in ("404.001.03", "404.001.04", "401.002.01")


def member(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside an object. Raises NotReadable."""
    found = fields.get(name)
    if not isinstance(found, dict):
        raise NotReadable("missing" if found is None else "not_an_object", name)
    return found


def result_code(fields: Mapping[str, Any]) -> str:
    """A ResultCode, number or text. Raises NotReadable."""
    code = text_of(fields, "ResultCode", 20)
    if not _CODE.fullmatch(code):
        raise NotReadable("result_code", "ResultCode")
    return code


def query_of(callback: Callback) -> dict[str, str]:
    """What we put behind the address ourselves. Raises Forged where somebody else has."""
    try:
        pairs = parse_qsl(callback.query, keep_blank_values=True, strict_parsing=bool(callback.query), max_num_fields=8)
    except ValueError:
        raise Forged("query") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Forged("query")
    return found


def uuid_of(text: str) -> UUID:
    """A reference of ours that a callback brings back. Raises Forged for what none of ours looks like."""
    try:
        found = UUID(text)
    except ValueError:
        raise Forged("reference") from None
    if str(found) != text:
        raise Forged("reference")
    return found


def time_of(fields: Mapping[str, Any], name: str) -> datetime:
    """A time such as 20260603121530, Kenya's. Raises NotReadable."""
    text = text_of(fields, name, 20)
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=KENYA)
    except ValueError:
        raise NotReadable("time", name) from None


ACCEPTED: Final = Answer('{"ResultCode":0,"ResultDesc":"Accepted"}', "application/json")
