"""What each source reads from a callback, by table: paid, failed, repeated, forged, oversized, other money, no sense.

The forms are those of the project's working notes on Daraja, MTN MoMo and Africa's Talking. Every record of
tests/vectors/payment_callbacks.json is read with the source or channel that it is for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.http.callback import Callback, NotReadable
from channels.ussd.providers import africastalking as ussd
from config.kinds import Secret
from gateway.payments.africastalking import AfricasTalking
from gateway.payments.amounts import Unfit, amount_of, fit, written
from gateway.payments.contract import Event, Forged, PaymentState, Validation, Why
from gateway.payments.momo import Momo, on_wire
from gateway.payments.mpesa_c2b import MpesaC2b
from gateway.payments.mpesa_stk import MpesaStk
from tests.gateway.payments.sources import AMINA, CHECKOUT, DARAJA, MOMO, NOW, OUR_REF, callback, now

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "payment_callbacks.json").read_text())

STK = MpesaStk(DARAJA, now, passkey=Secret("p"), confirm_above_minor=50_000)
C2B = MpesaC2b(DARAJA, now, account_mark="P")
MTN = Momo(MOMO, now)
AT = AfricasTalking(CHECKOUT, now)
REF = f"ref={OUR_REF}"
REFUND = f"refund={OUR_REF}"


def stk(code: object = 0, **changes: Any) -> dict[str, Any]:
    values = {
        "Amount": 500,
        "MpesaReceiptNumber": "UFA7AB90ZZ",
        "TransactionDate": 20260603121530,
        "PhoneNumber": 254711013579,
        **changes,
    }
    items = [{"Name": name, "Value": value} for name, value in values.items() if value is not None]
    said = {"MerchantRequestID": "29115-1", "CheckoutRequestID": "ws_CO_1", "ResultCode": code, "ResultDesc": "ok"}
    return {"Body": {"stkCallback": {**said, "CallbackMetadata": {"Item": items}}}}


def failed(code: object) -> dict[str, Any]:
    said = {"MerchantRequestID": "29115-1", "CheckoutRequestID": "ws_CO_1", "ResultCode": code, "ResultDesc": "no"}
    return {"Body": {"stkCallback": said}}


def c2b(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**VECTORS[0]["body"], **changes}.items() if value is not None}


def momo(**changes: Any) -> dict[str, Any]:
    body = {**VECTORS[5]["body"], "externalId": str(OUR_REF), **changes}
    return {name: value for name, value in body.items() if value is not None}


def at(**changes: Any) -> dict[str, Any]:
    body = {
        "transactionId": "ATPid_1",
        "category": "MobileCheckout",
        "provider": "Mpesa",
        "providerRefId": "UFA7AB90ZZ",
        "providerChannel": "525900",
        "productName": "Electricity",
        "sourceType": "PhoneNumber",
        "source": "+254711013579",
        "destinationType": "Wallet",
        "destination": "PaymentWallet",
        "value": "KES 500.0000",
        "transactionFee": "KES 1.5000",
        "status": "Success",
        "description": "Received funds",
        "requestMetadata": {"our_ref": str(OUR_REF)},
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def reversal(code: object = 0, **changes: Any) -> dict[str, Any]:
    result = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "words",
        "OriginatorConversationID": "71840-1",
        "ConversationID": "AG_1",
        "TransactionID": "UFB1",
        **changes,
    }
    return {"Result": result}


def events(found: Sequence[Event] | Validation) -> Sequence[Event]:
    assert not isinstance(found, Validation)
    return found


SUCCESS, FAILED, PENDING = PaymentState.SUCCESS, PaymentState.FAILED, PaymentState.PENDING


@pytest.mark.parametrize(
    ("source", "body", "query", "wanted"),
    [
        # Up to the limit a callback counts; above it, it is a reason to ask, and only the receipt is taken from it.
        (STK, stk(), REF, {"state": SUCCESS, "our_ref": OUR_REF, "provider_ref": "ws_CO_1", "receipt": "UFA7AB90ZZ",
                           "payer": AMINA, "amount_minor": 50_000, "currency": "KES",
                           "occurred_at": datetime(2026, 6, 3, 9, 15, 30, tzinfo=UTC)}),
        (STK, stk(), "", {"state": SUCCESS, "our_ref": None, "provider_ref": "ws_CO_1"}),
        (STK, stk(Amount=501), REF, {"state": PENDING, "receipt": "UFA7AB90ZZ", "amount_minor": None}),
        (STK, stk("0"), REF, {"state": SUCCESS}),
        (STK, stk(PhoneNumber=None), REF, {"state": SUCCESS, "payer": ""}),
        (STK, stk(Balance=""), REF, {"state": SUCCESS}),
        (STK, stk(Amount="500.00"), REF, {"amount_minor": 50_000}),
        (STK, failed(1), REF, {"state": FAILED, "why": Why.NO_FUNDS, "amount_minor": None}),
        (STK, failed(1001), REF, {"state": FAILED, "why": Why.BUSY}),
        (STK, failed(1019), REF, {"state": FAILED, "why": Why.EXPIRED}),
        (STK, failed(1025), REF, {"state": FAILED, "why": Why.UNREACHABLE}),
        (STK, failed(1032), REF, {"state": FAILED, "why": Why.CANCELLED}),
        (STK, failed("1037"), REF, {"state": FAILED, "why": Why.UNREACHABLE}),
        (STK, failed(2001), REF, {"state": FAILED, "why": Why.WRONG_PIN}),
        (STK, failed(77), REF, {"state": FAILED, "why": Why.REFUSED}),
        (STK, failed(4999), REF, {"state": PENDING}),
        (STK, reversal(), REFUND, {"state": SUCCESS, "our_ref": OUR_REF, "provider_ref": "71840-1", "receipt": "UFB1"}),
        (STK, reversal("R000001"), REFUND, {"state": SUCCESS}),  # reversed before: by an earlier try of ours
        (STK, reversal("R000002"), REFUND, {"state": FAILED, "why": Why.REFUSED, "receipt": ""}),
        (C2B, reversal(), REFUND + "&late=1", {"state": PENDING, "our_ref": OUR_REF}),
        (C2B, reversal(0, ResultParameters={"ResultParameter": [{"Key": "TransactionStatus", "Value": "Completed"}]}),
         REFUND + "&asked=1", {"state": SUCCESS}),
        (C2B, reversal(0, ResultParameters={"ResultParameter": [{"Key": "TransactionStatus", "Value": "Declined"}]}),
         REFUND + "&asked=1", {"state": PENDING, "detail": "over: Declined"}),  # perhaps for it was done before
        (C2B, reversal(2001), REFUND + "&asked=1", {"state": PENDING}),  # the question failed, not the reversal
        (C2B, c2b(), "step=confirmation", {"state": SUCCESS, "receipt": "UFA5XK2Q1M", "payer": AMINA,
                                           "payer_name": "AMINA HASSAN", "account_ref": "04012345676",
                                           "amount_minor": 50_000, "currency": "KES",
                                           "occurred_at": datetime(2026, 6, 3, 9, 5, 1, tzinfo=UTC)}),
        (C2B, c2b(MSISDN="2547 ***** 579"), "", {"state": SUCCESS, "payer": ""}),
        (C2B, c2b(MSISDN="5f2d" * 16), "", {"payer": ""}),
        (C2B, c2b(MSISDN="0711013579"), "", {"payer": ""}),
        (C2B, c2b(MSISDN=None, FirstName=None, MiddleName=None, LastName=None), "", {"payer": "", "payer_name": ""}),
        (C2B, c2b(BillRefNumber=" 0401 2345676 "), "", {"account_ref": "0401 2345676"}),
        (C2B, c2b(BillRefNumber=None), "", {"account_ref": ""}),
        (C2B, c2b(TransAmount="0.50"), "", {"amount_minor": 50}),
        (MTN, momo(), "", {"state": PENDING, "our_ref": OUR_REF, "provider_ref": on_wire(OUR_REF), "receipt": "",
                           "amount_minor": None}),
        (MTN, momo(status="FAILED", reason="EXPIRED", financialTransactionId=None), "", {"state": PENDING}),
        (MTN, momo(externalId="VEND-000123"), "", {"state": PENDING, "our_ref": None, "receipt": "23503452"}),
        (AT, at(), "", {"state": PENDING, "our_ref": OUR_REF, "provider_ref": "ATPid_1", "receipt": "",
                        "amount_minor": None}),
        (AT, at(requestMetadata=None), "", {"state": PENDING, "our_ref": None, "provider_ref": "ATPid_1"}),
        (AT, at(status="Failed", description="Insufficient funds"), "", {"state": FAILED, "why": Why.NO_FUNDS}),
        (AT, at(status="Failed", description="Request cancelled by user"), "", {"why": Why.CANCELLED}),
        (AT, at(status="Failed", description=None), "", {"state": FAILED, "why": Why.REFUSED}),
        (AT, at(category="MobileC2B", clientAccount="04012345676", requestMetadata=None), "",
         {"state": SUCCESS, "receipt": "ATPid_1", "account_ref": "04012345676", "amount_minor": 50_000}),
    ],
)  # fmt: skip
def test_a_callback_becomes_an_event(source: Any, body: Any, query: str, wanted: dict[str, Any]) -> None:
    if query.startswith("refund"):
        event = source._daraja.read_result(callback(body, query))
        assert source.read(callback(body, query)) == []
    else:
        [event] = events(source.read(callback(body, query)))
    assert {name: getattr(event, name) for name in wanted} == wanted
    assert event.receipt or event.provider_ref or event.our_ref


@pytest.mark.parametrize(
    ("source", "body", "query", "why"),
    [
        (STK, b"", REF, "json"),
        (STK, b"[1]", REF, "json"),
        (STK, b'{"Body":{},"Body":{}}', REF, "repeated"),
        (STK, b'{"Body":' * 5_000, REF, "json"),
        (STK, {}, REF, "missing"),
        (STK, {"Body": 5}, REF, "not_an_object"),
        (STK, {"Body": {"stkCallback": {"ResultCode": 0}}}, REF, "missing"),
        (STK, stk(None), REF, "missing"),
        (STK, stk("0; drop"), REF, "result_code"),
        (STK, stk(Amount=None), REF, "missing"),
        (STK, stk(MpesaReceiptNumber=None), REF, "missing"),
        (STK, stk(MpesaReceiptNumber="X" * 41), REF, "too_long"),
        (STK, stk(MpesaReceiptNumber="UF\n"), REF, "control_character"),
        (STK, stk(TransactionDate="2026-06-03"), REF, "time"),
        (STK, stk(TransactionDate=20261303121530), REF, "time"),
        (STK, stk(PhoneNumber="somebody"), REF, "phone_number"),
        (STK, stk(Amount=-500), REF, "negative"),
        (STK, stk(Amount="-500"), REF, "negative"),
        (STK, stk(Amount=0), REF, "not_positive"),
        (STK, stk(Amount="500.005"), REF, "fraction"),
        (STK, stk(Amount=500.005), REF, "fraction"),
        (STK, stk(Amount=True), REF, "amount"),
        (STK, stk(Amount="KES 500"), REF, "amount"),
        (STK, stk(Amount="5e2"), REF, "amount"),
        (STK, json.dumps(stk()).replace('"Value": 500}', '"Value": 1e999999999}').encode(), REF, "amount"),
        (STK, json.dumps(stk()).replace('"Value": 500}', '"Value": 1e90}').encode(), REF, "amount"),
        (STK, json.dumps(stk()).replace('"Value": 500}', '"Value": NaN}').encode(), REF, "json"),
        (STK, {"Body": {"stkCallback": {**stk()["Body"]["stkCallback"], "CallbackMetadata": {"Item": [
            {"Name": "Amount", "Value": 500}, {"Name": "Amount", "Value": 50_000}]}}}}, REF, "repeated"),
        (STK, {"Body": {"stkCallback": {**stk()["Body"]["stkCallback"], "CallbackMetadata": {"Item": "x"}}}}, REF,
         "not_a_list"),
        (C2B, c2b(TransID=None), "", "missing"),
        (C2B, c2b(TransTime="now"), "", "time"),
        (C2B, c2b(TransAmount="500,00"), "", "amount"),
        (C2B, c2b(TransAmount="-500.00"), "", "negative"),
        (C2B, c2b(TransAmount="0.001"), "", "fraction"),
        (C2B, c2b(BillRefNumber="4" * 101), "", "too_long"),
        (C2B, c2b(BillRefNumber={"a": 1}), "", "not_text"),
        (MTN, momo(status="GREAT"), "", "unknown_status"),
        (MTN, momo(amount="-500"), "", "negative"),
        (MTN, momo(amount="500.001"), "", "fraction"),
        (MTN, momo(currency="UGX"), "", "currency"),
        (MTN, momo(externalId=None), "", "missing"),
        (MTN, momo(externalId="{" + str(OUR_REF) + "}", financialTransactionId=""), "", "empty"),
        (MTN, momo(financialTransactionId=None), "", "missing"),
        (AT, at(value="UGX 500.00"), "", "currency"),
        (AT, at(value="KES -500.00"), "", "negative"),
        (AT, at(value="KES 500.005"), "", "fraction"),
        (AT, at(value="500.00"), "", "amount"),
        (AT, at(value=None), "", "missing"),
        (AT, at(transactionId=None), "", "missing"),
        (AT, at(source="+1"), "", "phone_number"),
        (AT, at(requestMetadata={"our_ref": "first"}), "", "unknown_reference"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_has_a_name(source: Any, body: Any, query: str, why: str) -> None:
    with pytest.raises(NotReadable) as caught:
        source.read(callback(body, query))
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("source", "body", "query", "why"),
    [
        (STK, stk(), "ref=1", "reference"),
        (STK, stk(), "ref={" + str(OUR_REF) + "}", "reference"),
        (STK, stk(), f"{REF}&{REF}", "query"),
        (STK, stk(), "ref", "query"),
        (STK, reversal(), "refund=all", "reference"),
        (C2B, c2b(), "step=payout", "query"),
        (C2B, c2b(BusinessShortCode="174379"), "", "shortcode"),
    ],
)
def test_who_does_not_know_our_addresses_is_a_forger(source: Any, body: Any, query: str, why: str) -> None:
    with pytest.raises(Forged) as caught:
        source.read(callback(body, query))
    assert caught.value.why == why


def test_another_content_type_is_not_read() -> None:
    with pytest.raises(NotReadable, match="content_type"):
        C2B.read(Callback("POST", "/", "", "text/plain", json.dumps(c2b()).encode()))


def test_validation_is_told_by_its_address() -> None:
    asked = C2B.read(callback(c2b(BillRefNumber="04012345677"), "step=validation"))
    assert asked == Validation(AMINA, "04012345677", 50_000, "KES", "UFA5XK2Q1M")
    yes, no = C2B.answer(callback({}), True), C2B.answer(callback({}), False, "METER_UNKNOWN")
    assert json.loads(yes.body) == {"ResultCode": 0, "ResultDesc": "Accepted"}
    assert json.loads(no.body)["ResultCode"] == "C2B00012"
    assert json.loads(C2B.answer(callback({}), False, "whatever").body)["ResultCode"] == "C2B00016"
    assert (yes.status, no.status) == (200, 200)


def test_a_confirmation_of_a_prompt_is_left_to_the_source_of_prompts() -> None:
    assert C2B.read(callback(c2b(BillRefNumber="04012345676P"), "step=confirmation")) == []
    # Without a mark there is no such source on this shortcode, and the money is somebody's.
    [event] = events(MpesaC2b(DARAJA, now).read(callback(c2b(BillRefNumber="04012345676P"), "step=confirmation")))
    assert isinstance(event, Event)


def test_what_else_an_account_does_is_no_event() -> None:
    assert AT.read(callback(at(category="MobileB2C"))) == []
    assert AT.read(callback(at(category="MobileC2B", status="Failed"))) == []


@pytest.mark.parametrize("record", VECTORS, ids=lambda record: record["kind"])
def test_every_record_of_the_notes_is_read(record: dict[str, Any]) -> None:
    body = record["body"]
    if record["kind"] == "mpesa_c2b_confirmation":
        [event] = events(C2B.read(callback(body, "step=confirmation")))
        assert (event.state, event.receipt, event.account_ref) == (SUCCESS, body["TransID"], body["BillRefNumber"])
        assert event.amount_minor == {"500.00": 50_000, "300.00": 30_000}[body["TransAmount"]]
    elif record["kind"] == "mpesa_stk_callback":
        [event] = events(STK.read(callback(body)))
        said = body["Body"]["stkCallback"]
        assert event.provider_ref == said["CheckoutRequestID"]
        assert (event.state, event.why) == ((SUCCESS, None) if said["ResultCode"] == 0 else (FAILED, Why.CANCELLED))
    elif record["kind"] == "momo_callback":
        [event] = events(MTN.read(callback(body)))
        assert event.state is PENDING  # "verify with a status request before vending"
    elif record["kind"] == "at_ussd":
        form = Callback("POST", "/", "", "application/x-www-form-urlencoded", urlencode(body).encode())
        step = ussd.read(form, "menu", "", NOW)
        assert (step.session, step.msisdn, step.text) == ("ATUid_77", AMINA, "1*04012345676*500*1")
    else:
        # An SMS is a channel's, and no payment: of the sources none takes it for one.
        assert record["kind"] == "at_sms_incoming"
        for source in (STK, C2B, MTN, AT):
            with pytest.raises((NotReadable, Forged)):
                source.read(callback(body))


@given(
    st.binary(max_size=300), st.sampled_from([STK, C2B, MTN, AT]), st.sampled_from(["", REF, REFUND, "step=validation"])
)
def test_noise_is_refused_by_name(body: bytes, source: Any, query: str) -> None:
    with pytest.raises((NotReadable, Forged)):
        source.read(callback(body, query))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data(), st.sampled_from([(STK, stk(), REF), (C2B, c2b(), ""), (MTN, momo(), ""), (AT, at(), ""),
                                   (C2B, reversal(), REFUND)]))  # fmt: skip
def test_one_field_of_any_kind_is_read_or_refused(data: st.DataObject, case: tuple[Any, dict[str, Any], str]) -> None:
    source, body, query = case
    body = json.loads(json.dumps(body))
    inner = body
    while (name := data.draw(st.sampled_from(sorted(inner)))) and isinstance(inner[name], dict):
        inner = inner[name]
    inner[name] = data.draw(JSON)
    try:
        found = source.read(callback(body, query))
    except (NotReadable, Forged):
        return
    for event in found:
        assert event.amount_minor is None or event.amount_minor > 0
        assert event.state is not SUCCESS or event.receipt or query == REFUND


@given(st.integers(1, 10**12), st.integers(0, 4))
def test_amounts_are_written_and_read_without_loss(amount_minor: int, digits: int) -> None:
    assert amount_of(written(amount_minor, digits), "x", digits) == amount_minor


@pytest.mark.parametrize(
    ("amount", "currency", "why"),
    [
        (50_050, "KES", "fraction"),
        (0, "KES", "not_positive"),
        (-100, "KES", "not_positive"),
        (50_000, "UGX", "currency"),
    ],
)
def test_an_amount_that_a_source_cannot_take_has_a_name(amount: int, currency: str, why: str) -> None:
    with pytest.raises(Unfit) as caught:
        fit(amount, currency, only="KES", step_minor=100)
    assert caught.value.why == why
