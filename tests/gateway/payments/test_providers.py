"""Each source before its simulated provider, over real sockets: paid, declined, silent, lost, forged, refunded.

What a source says it took is compared with the provider's own statement. Nothing here waits for a clock: prompts end at
once, and `idle` returns when every callback is out.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from config.kinds import NO_SECRET, Secret
from gateway.payments.africastalking import WITHDRAWN, AfricasTalking
from gateway.payments.client import Client, NotSent
from gateway.payments.contract import (
    Asked,
    Can,
    Declined,
    Event,
    NotListed,
    PaymentSource,
    PaymentState,
    Unclear,
    Unknown,
    Why,
)
from gateway.payments.momo import Momo, on_wire
from gateway.payments.mpesa_c2b import MpesaC2b
from gateway.payments.mpesa_stk import MpesaStk
from gateway.payments.simulated.faults import Fault
from gateway.payments.simulated.mobile_operator import Call
from gateway.payments.simulated.wallets import Habit
from tests.gateway.payments.sources import (
    AMINA,
    CHECKOUT,
    DARAJA,
    MOMO,
    OUR_REF,
    SECRETS,
    Market,
    listening,
    market,
    now,
    order,
)

SUCCESS, FAILED, PENDING = PaymentState.SUCCESS, PaymentState.FAILED, PaymentState.PENDING
COLLECTING = ["till", "mtn", "at"]


def source_of(place: Market, name: str) -> PaymentSource:
    found: PaymentSource = getattr(place, name)
    return found


def asked(answer: object) -> Asked:
    assert isinstance(answer, Asked), answer
    return answer


def event(answer: object) -> Event:
    assert isinstance(answer, Event), answer
    return answer


def statement(place: Market) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(place.operator.wallets.statement())))


@pytest.mark.parametrize("name", COLLECTING)
async def test_a_payment_is_asked_for_paid_confirmed_and_on_the_statement(name: str) -> None:
    async with market() as place:
        source = source_of(place, name)
        ref = asked(await source.collect(order())).provider_ref
        await place.operator.idle()
        [said] = place.heard.events
        # Nobody has signed it: it is about our order, and a reason to ask.
        assert (said.state, said.our_ref, said.provider_ref) == (PENDING, OUR_REF, ref)
        found = event(await source.status(OUR_REF, ref))
        assert (found.state, found.our_ref) == (SUCCESS, OUR_REF)
        [line] = statement(place)
        assert (line["Paid In"], line["Other Party"], line["Fee"]) == ("500", AMINA, "2.75")
        if name != "till":  # the query of prompts tells neither; the callback told the receipt
            assert (found.amount_minor, found.currency, found.payer) == (50_000, "KES", AMINA)
        if name == "till":
            assert said.receipt == line["Receipt No."]
        if name == "mtn":
            assert found.receipt == line["Receipt No."]
        assert place.operator.answered == [200]


@pytest.mark.parametrize("name", COLLECTING)
@pytest.mark.parametrize(
    ("habit", "why"),
    [
        (Habit.DECLINE, {Why.CANCELLED}),
        (Habit.WRONG_PIN, {Why.WRONG_PIN, Why.REFUSED}),  # MTN does not tell it from others
        (Habit.SILENT, {Why.EXPIRED}),
        (Habit.OFF, {Why.UNREACHABLE}),
    ],
)
async def test_a_payer_who_does_not_pay_has_not_paid(name: str, habit: Habit, why: set[Why]) -> None:
    async with market() as place:
        place.operator.wallets.phone(AMINA).habit = habit
        source = source_of(place, name)
        ref = asked(await source.collect(order())).provider_ref
        await place.operator.idle()
        found = event(await source.status(OUR_REF, ref))
        assert found.state is FAILED and found.why in why
        assert statement(place) == []


@pytest.mark.parametrize("name", COLLECTING)
async def test_too_little_money_is_told_as_such(name: str) -> None:
    async with market() as place:
        place.operator.wallets.phone(AMINA).balance_minor = 49_999
        ref = asked(await source_of(place, name).collect(order())).provider_ref
        await place.operator.idle()
        found = event(await source_of(place, name).status(OUR_REF, ref))
        assert (found.state, found.why) == (FAILED, Why.NO_FUNDS)


@pytest.mark.parametrize("name", COLLECTING)
async def test_as_long_as_the_payer_thinks_nothing_is_known(name: str) -> None:
    async with market() as place:
        place.operator.wallets.phone(AMINA).habit = Habit.BY_HAND
        place.operator.expire_after_s = 60.0
        source = source_of(place, name)
        ref = asked(await source.collect(order())).provider_ref
        while place.operator.waiting(AMINA) is None:
            await place.operator.send(Call(place.server.url, {}))  # gives the prompt its turn
        assert event(await source.status(OUR_REF, ref)).state is PENDING
        assert place.operator.type(AMINA, "1234")
        await place.operator.idle()
        assert event(await source.status(OUR_REF, ref)).state is SUCCESS


@pytest.mark.parametrize("name", COLLECTING)
async def test_a_forged_success_is_not_believed(name: str) -> None:
    async with market() as place:
        place.operator.wallets.phone(AMINA).habit = Habit.DECLINE
        place.faults.arm(Fault.FORGE)
        source = source_of(place, name)
        ref = asked(await source.collect(order())).provider_ref
        await place.operator.idle()
        assert place.faults.struck[Fault.FORGE] == 1
        assert SUCCESS not in {said.state for said in place.heard.events}
        assert event(await source.status(OUR_REF, ref)).state is FAILED


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.ERROR_AFTER])
@pytest.mark.parametrize("name", COLLECTING)
async def test_taken_without_an_answer_is_unclear_and_is_never_taken_twice(name: str, fault: Fault) -> None:
    async with market() as place:
        place.faults.arm(fault)
        source = source_of(place, name)
        assert isinstance(await source.collect(order()), Unclear)
        await place.operator.idle()
        if name == "mtn":  # a reference of ours: the question finds it, and the same again is no second payment
            assert event(await source.status(OUR_REF, "")).state is SUCCESS
            assert asked(await source.collect(order())).provider_ref == on_wire(OUR_REF)
        else:  # it has no name here but in its callback
            assert isinstance(await source.status(OUR_REF, ""), Unclear)
        await place.operator.idle()
        said = place.heard.events[0]
        assert said.our_ref == OUR_REF and said.provider_ref
        assert event(await source.status(OUR_REF, said.provider_ref)).state is SUCCESS
        assert len(statement(place)) == 1


async def test_a_request_to_pay_that_never_arrived_is_unknown_and_may_be_sent_again() -> None:
    async with market() as place:
        place.faults.arm(Fault.ERROR)
        assert isinstance(await place.mtn.collect(order()), Unclear)
        assert await place.mtn.status(OUR_REF, "") == Unknown()
        asked(await place.mtn.collect(order()))
        await place.operator.idle()
        assert event(await place.mtn.status(OUR_REF, "")).state is SUCCESS
        assert len(statement(place)) == 1


@pytest.mark.parametrize("name", COLLECTING)
@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"amount_minor": 50_050}, "fraction"),
        ({"amount_minor": 0}, "not_positive"),
        ({"amount_minor": -50_000}, "not_positive"),
        ({"currency": "UGX"}, "currency"),
    ],
)
async def test_an_amount_it_cannot_take_is_declined_and_nothing_is_sent(
    name: str, changes: dict[str, Any], detail: str
) -> None:
    sources: dict[str, PaymentSource] = {
        "till": MpesaStk(DARAJA, now, passkey=Secret("p")),
        "mtn": Momo(MOMO, now),
        "at": AfricasTalking(CHECKOUT, now),
    }
    source = sources[name]
    answer = await source.collect(order(**changes))
    assert isinstance(answer, Declined) and detail in answer.detail
    await source.close()


async def test_a_provider_that_cannot_be_reached_has_taken_nothing() -> None:
    for source in (MpesaStk(DARAJA, now, passkey=Secret("p")), Momo(MOMO, now), AfricasTalking(CHECKOUT, now)):
        answer = await source.collect(order())
        assert isinstance(answer, Declined) and "not sent" in answer.detail
        assert isinstance(await source.status(OUR_REF, "ref"), Unclear)
        await source.close()


@pytest.mark.parametrize("name", ["till", "mtn"])
async def test_one_token_serves_many_and_is_had_anew_when_it_is_refused(name: str) -> None:
    async with market() as place:
        source = source_of(place, name)
        front = place.daraja if name == "till" else place.momo
        for _ in range(3):
            asked(await source.collect(order(our_ref=uuid4())))
            await place.operator.idle()
        given = 1 if name == "till" else 0  # the simulated MTN counts only those it takes back
        assert front.tokens == given
        front.expire_token()
        asked(await source.collect(order(our_ref=uuid4())))
        await place.operator.idle()
        assert len(statement(place)) == 4


async def test_wrong_credentials_decline_without_a_word_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with market() as place:
        url = place.server.url
        wrong: Sequence[PaymentSource] = (
            MpesaStk(
                replace(DARAJA, consumer_secret=Secret("sandbox-secret-2"), base_url=url), now, passkey=Secret("x")
            ),
            MpesaStk(replace(DARAJA, base_url=url), now, passkey=Secret("sandbox-passkey-2")),
            Momo(replace(MOMO, api_key=Secret("sandbox-api-key-2"), base_url=url), now),
            Momo(replace(MOMO, subscription_key=Secret("sandbox-collection-2"), base_url=url), now),
            AfricasTalking(replace(CHECKOUT, api_key=Secret("sandbox-at-key-2"), base_url=url), now),
        )
        told = []
        for source in wrong:
            answer = await source.collect(order())
            assert isinstance(answer, Declined | Unclear)
            told += [repr(answer), repr(source), repr(vars(source))]
            await source.close()
        assert statement(place) == []
    everything = caplog.text + "".join(told)
    assert not any(secret in everything for secret in SECRETS)
    assert "Bearer" not in everything and "Basic" not in everything


async def test_what_is_sent_to_safaricom_fits_its_fields() -> None:
    async with market() as place:
        long = order(account_ref="0401234567689", description="Umoja Power and Water", our_ref=uuid4())
        asked(await place.till.collect(long))
        await place.operator.idle()
        assert statement(place)[0]["A/C No."] == "01234567689P"
        assert isinstance(await place.till.collect(order(amount_minor=25_000_100)), Declined)


async def test_a_second_prompt_on_a_busy_phone_is_declined_as_busy() -> None:
    async with market() as place:
        place.operator.wallets.phone(AMINA).habit = Habit.BY_HAND
        place.operator.expire_after_s = 60.0
        asked(await place.till.collect(order()))
        answer = await place.till.collect(order(our_ref=uuid4()))
        assert answer == Declined(Why.BUSY, "500.001.1001")


async def test_a_small_success_counts_by_its_callback_alone() -> None:
    async with market() as place:
        till = MpesaStk(
            replace(DARAJA, callback_url=f"{place.heard.url}/till", base_url=place.server.url),
            now,
            passkey=Secret("sandbox-passkey"),
            confirm_above_minor=50_000,
        )
        place.heard.sources["till"] = till
        asked(await till.collect(order()))
        await place.operator.idle()
        [said] = place.heard.events
        assert (said.state, said.amount_minor, said.currency) == (SUCCESS, 50_000, "KES")
        assert said.receipt == statement(place)[0]["Receipt No."]
        await till.close()


# --- paid at the payer's own wish -----------------------------------------------------------------------------------


async def test_c2b_addresses_are_registered_and_payments_validated_and_told() -> None:
    async with market() as place:
        assert await place.paybill.register() == Asked()
        assert place.daraja.registered["ResponseType"] == "Cancelled"
        taken = await place.daraja.paid(AMINA, 50_000, "04012345676")
        await place.operator.idle()
        assert taken is not None
        [validation], [said] = place.heard.validations, place.heard.events
        assert (validation.account_ref, validation.amount_minor) == ("04012345676", 50_000)
        assert (said.state, said.receipt, said.account_ref) == (SUCCESS, taken.receipt, "04012345676")
        assert (said.amount_minor, said.payer) == (50_000, AMINA)
        place.heard.may = False
        assert await place.daraja.paid(AMINA, 50_000, "04012345677") is None
        assert len(statement(place)) == 1


async def test_c2b_without_validation_takes_what_comes_from_masked_payers_too() -> None:
    async with market() as place:
        await place.paybill.register()
        place.daraja.validates, place.daraja.masks, place.heard.may = False, True, False
        await place.daraja.paid(AMINA, 30_050, "whatever I like")
        await place.operator.idle()
        [said] = place.heard.events
        assert (said.account_ref, said.payer, said.amount_minor) == ("whatever I like", "", 30_050)


async def test_a_confirmation_for_another_shortcode_is_a_forgery() -> None:
    async with market() as place:
        await place.paybill.register()
        place.faults.arm(Fault.FORGE)
        await place.daraja.paid(AMINA, 50_000, "04012345676")
        await place.operator.idle()
        assert place.heard.refused == ["shortcode"]
        assert [said.amount_minor for said in place.heard.events] == [50_000]


async def test_a_prompt_on_a_paybill_number_is_told_once() -> None:
    async with market() as place:
        await place.paybill.register()
        asked(await place.till.collect(order()))
        await place.operator.idle()
        assert place.operator.sent == 2  # the prompt's callback, and the confirmation
        [said] = place.heard.events
        assert said.our_ref == OUR_REF


@pytest.mark.parametrize(
    "url", ["https://pay.example/mpesa/x", "https://safaricom.example/x", "https://a.example/M-Pesa"]
)
async def test_an_address_that_safaricom_filters_is_not_registered(url: str) -> None:
    with pytest.raises(ValueError, match="Safaricom"):
        await MpesaC2b(replace(DARAJA, callback_url=url), now).register()


# --- refunds --------------------------------------------------------------------------------------------------------


async def test_a_reversal_gives_the_money_back_once_however_often_it_is_asked_for() -> None:
    async with market() as place:
        asked(await place.till.collect(order()))
        await place.operator.idle()
        before, key = place.operator.wallets.phone(AMINA).balance_minor, uuid4()
        receipt = place.heard.events[0].receipt
        for _ in range(2):
            ref = asked(await place.till.refund(key, receipt, AMINA, 50_000)).provider_ref
            await place.operator.idle()
            said = event(await place.till.refund_status(key, ref))
            assert (said.state, said.our_ref, said.provider_ref) == (SUCCESS, key, ref)
        assert place.operator.wallets.phone(AMINA).balance_minor == before + 50_000
        assert place.operator.wallets.balance_minor == 0
        assert [line["Withdrawn"] for line in statement(place)] == ["", "500"]


async def test_a_reversal_of_part_or_of_nothing_fails() -> None:
    async with market() as place:
        asked(await place.till.collect(order()))
        await place.operator.idle()
        receipt = place.heard.events[0].receipt
        for what, amount in ((receipt, 40_000), ("UFNOSUCH", 50_000)):
            key = uuid4()
            asked(await place.till.refund(key, what, AMINA, amount))
            await place.operator.idle()
            assert event(await place.till.refund_status(key, "")).state is FAILED
        assert isinstance(await place.till.refund(key, "", AMINA, 50_000), Declined)
        assert isinstance(await place.till.refund(key, receipt, AMINA, 50_050), Declined)
        assert place.operator.wallets.balance_minor == 50_000


async def test_a_reversal_without_an_answer_is_found_out_by_asking() -> None:
    async with market() as place:
        asked(await place.till.collect(order()))
        await place.operator.idle()
        key = uuid4()
        assert await place.till.refund_status(key, "") == Unknown(
            is_certain=False
        )  # never named: no transaction is reversed twice
        place.faults.arm(Fault.LOSE)
        ref = asked(await place.till.refund(key, place.heard.events[0].receipt, AMINA, 50_000)).provider_ref
        await place.operator.idle()
        assert len(place.heard.events) == 1
        assert isinstance(await place.till.refund_status(key, ref), Unclear)  # asked; the answer comes by callback
        await place.operator.idle()
        said = event(await place.till.refund_status(key, ref))
        assert (said.state, said.our_ref) == (SUCCESS, key)


@pytest.mark.parametrize("fault", [None, Fault.NO_ANSWER, Fault.ERROR])
async def test_a_transfer_back_happens_once_whatever_is_lost(fault: Fault | None) -> None:
    async with market() as place:
        asked(await place.mtn.collect(order()))
        await place.operator.idle()
        receipt, key = event(await place.mtn.status(OUR_REF, "")).receipt, uuid4()
        if fault is not None:
            place.faults.arm(fault)
        answer = await place.mtn.refund(key, receipt, AMINA, 50_000)
        assert isinstance(answer, Asked if fault is None else Unclear)
        if fault is Fault.ERROR:
            assert await place.mtn.refund_status(key, "") == Unknown()
        asked(await place.mtn.refund(key, receipt, AMINA, 50_000))
        assert event(await place.mtn.refund_status(key, "")).state is SUCCESS
        assert place.operator.wallets.balance_minor == 0
        assert len(statement(place)) == 2


def test_what_a_source_can_do_depends_on_its_settings() -> None:
    plain = replace(DARAJA, initiator="", security_credential=NO_SECRET)
    assert MpesaStk(plain, now, passkey=Secret("p")).can == {Can.COLLECT, Can.NOTIFY, Can.STATUS}
    assert MpesaC2b(plain, now).can == {Can.NOTIFY}
    assert MpesaC2b(DARAJA, now).can == {Can.NOTIFY, Can.REFUND}
    assert Momo(replace(MOMO, disbursement_key=NO_SECRET, callback_url=""), now).can == {Can.COLLECT, Can.STATUS}
    assert Can.REFUND in Momo(MOMO, now).can
    assert AfricasTalking(CHECKOUT, now).can == {Can.COLLECT, Can.NOTIFY, Can.STATUS, Can.STATEMENT}


# --- Africa's Talking -----------------------------------------------------------------------------------------------


async def test_the_list_of_a_day_has_every_payment_with_its_fees_and_our_reference() -> None:
    async with market() as place:
        refs = [uuid4() for _ in range(3)]
        for number, ref in enumerate(refs):
            asked(await place.at.collect(order(our_ref=ref, amount_minor=(number + 1) * 10_000)))
            await place.operator.idle()
        lines = await place.at.statement(date(2026, 6, 3))
        assert [(UUID(line.our_ref), line.amount_minor, line.fee_minor, line.payer) for line in lines] == [
            (ref, (number + 1) * 10_000, (number + 1) * 55, AMINA) for number, ref in enumerate(refs)
        ]
        assert lines[0].occurred_at == datetime(2026, 6, 3, 9, 15, 30, tzinfo=UTC)
        assert await place.at.statement(date(2026, 6, 4)) == []


async def test_a_withdrawn_checkout_is_declined_with_that_word() -> None:
    async with market() as place:
        place.checkout.is_withdrawn = True
        assert await place.at.collect(order()) == Declined(Why.REFUSED, WITHDRAWN)
        assert await place.at.status(OUR_REF, "ATPid_1") == Unclear(WITHDRAWN)
        with pytest.raises(NotListed, match="HTTP 404"):
            await place.at.statement(date(2026, 6, 3))


# --- the wire -------------------------------------------------------------------------------------------------------


async def test_an_answer_that_is_too_large_or_no_json_is_no_answer() -> None:
    from aiohttp import web

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 2_000_000)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>maintenance</html>", content_type="text/html")

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("https://elsewhere.example/")

    app = web.Application()
    app.router.add_post("/large/mobile/checkout/request", large)
    app.router.add_post("/page/mobile/checkout/request", page)
    app.router.add_post("/elsewhere/mobile/checkout/request", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    for path in ("/large", "/page", "/elsewhere"):
        source = AfricasTalking(replace(CHECKOUT, base_url=base + path), now)
        assert isinstance(await source.collect(order()), Unclear)
        await source.close()
    await runner.cleanup()


async def test_a_host_that_does_not_exist_was_not_sent_anything() -> None:
    client = Client("http://no.such.host.invalid", timeout_s=2.0, connections_max=1)
    assert isinstance(await client.ask("POST", "/x", body={}), NotSent)
    await client.close()


async def test_faults_strike_as_the_seed_says_and_the_statement_adds_up() -> None:
    async with market(lose=0.3, repeat=0.3, reorder=0.3, forge=0.3) as place:
        for number in range(40):
            asked(
                await place.mtn.collect(order(our_ref=UUID(int=number + 1, version=4), payer=f"2547110135{number:02d}"))
            )
        await place.operator.idle()
        struck = dict(place.faults.struck)
        assert all(struck.get(fault, 0) > 3 for fault in (Fault.LOSE, Fault.REPEAT, Fault.REORDER, Fault.FORGE))
        lines = statement(place)
        assert len({line["Receipt No."] for line in lines}) == len(lines) == 40
        assert lines[-1]["Balance"] == "20000"
    async with market(lose=0.3, repeat=0.3, reorder=0.3, forge=0.3) as again:
        for number in range(40):
            asked(
                await again.mtn.collect(order(our_ref=UUID(int=number + 1, version=4), payer=f"2547110135{number:02d}"))
            )
        await again.operator.idle()
        assert again.faults.struck == struck


async def test_nobody_listens_and_the_simulated_operator_goes_on() -> None:
    async with market() as place, listening() as other:
        other.sources.clear()
        place.checkout.callback_url = "http://127.0.0.1:1/at"
        asked(await place.at.collect(order()))
        await place.operator.idle()
        assert place.operator.answered == []
