"""The sandbox's phones: the web page in a real browser, the provider's forms over real HTTP against a whole gateway."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from channels.ussd.registry import PROVIDERS
from channels.ussd.simulated import NETWORK_SORRY, Fault, Phone, Provider
from config.settings import UssdKind
from gateway.demo import USSD_CODE, Sandbox, sandbox
from gateway.ussd.webphones import WebPhones
from gateway.world import RealWorld
from tests import browser

AMINA = "254711013579"


async def _buy(phone: Phone, *keys: str) -> str:
    await phone.dial()
    for typed in keys:
        await phone.type(typed)
    return phone.shown.text


async def _sms(box: Sandbox, msisdn: str) -> str:
    reply = await box.phones.reply(msisdn)
    assert reply is not None
    return reply.text


async def test_faults_of_the_network_cost_nobody_anything(tmp_path: Path) -> None:
    async with sandbox(tmp_path, RealWorld()) as box:
        phone = Phone(box.provider, AMINA)
        await _buy(phone, "1", "1", "500")
        phone.fault = Fault.LOST
        assert (await phone.type("1")).text == NETWORK_SORRY  # the token is made, and she does not see it
        sms = await _sms(box, AMINA)
        assert "Token" in sms
        shown = (await phone.dial()).text
        assert "You have just bought" in shown and shown.split("Token ")[1][:24] in sms
        await phone.type("1")
        for typed in ("1", "1", "200"):
            phone.fault = Fault.REPEAT
            await phone.type(typed)
        phone.fault = Fault.REPEAT
        assert "Token" in (await phone.type("1")).text
        await _sms(box, AMINA)
        assert await box.phones.reply(AMINA, within_s=0.3) is None  # once
        assert "Balance KES 800" in await _buy(phone, "1", "3")


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
async def test_each_form_is_understood_by_its_provider(kind: UssdKind, tmp_path: Path) -> None:
    async with sandbox(tmp_path, RealWorld(), ussd_kind=kind) as box:
        assert box.provider.kind == kind
        phone = Phone(box.provider, AMINA)
        assert "1 Pay" in await _buy(phone, "1", "1", "500")
        assert "Token" in (await phone.type("1")).text and phone.shown.is_over
        phone = Phone(box.provider, "254711027158")
        assert "1 Pay" in (await phone.dial(f"{USSD_CODE[:-1]}*1*1*300#")).text
        other = Provider(box.provider.url + "x", kind, USSD_CODE, lambda: "s", box.world.now)
        await other.open()
        assert (await Phone(other, AMINA).dial()).text == NETWORK_SORRY  # the secret is wrong
        await other.close()


@pytest.mark.skipif(browser.find() is None, reason=browser.NONE_FOUND)
async def test_a_phone_on_the_page_buys_and_texts(tmp_path: Path) -> None:
    async with sandbox(tmp_path, RealWorld()) as box:
        web = WebPhones(box.provider, 0, box.phones.send)
        await web.start()
        try:
            async with browser.page() as page:
                await page.goto(f"http://127.0.0.1:{web.port}/")
                phone = page.locator(f"#p{AMINA}")
                await phone.get_by_text(f"Dial {USSD_CODE}").wait_for()
                await phone.get_by_role("button", name="Call / Send").click()
                screen = phone.locator(".screen")
                for key, wanted in (("1", "Buy for which meter"), ("1", "Enter the amount")):
                    await phone.locator(".keys").get_by_text(key, exact=True).click()
                    await phone.get_by_role("button", name="Call / Send").click()
                    await screen.get_by_text(wanted).wait_for()
                await phone.get_by_label("what is typed").fill("500")
                await phone.get_by_label("what is typed").press("Enter")
                await screen.get_by_text("1 Pay").wait_for()
                await phone.get_by_label("what is typed").fill("1")
                await phone.get_by_label("what is typed").press("Enter")
                await screen.get_by_text("Also sent by SMS").wait_for()
                reply = await box.phones.any_reply()
                web.received(reply.destination, reply.text)
                await phone.locator(".inbox").get_by_text("Receipt").wait_for()
                await page.get_by_label("phone number").fill("254711203685")
                await page.get_by_role("button", name="Add a phone").click()
                omar = page.locator("#p254711203685")
                await omar.get_by_label("text message").fill("07003012254 200")
                await omar.get_by_role("button", name="SMS").click()
                reply = await box.phones.any_reply()
                assert reply.destination == "254711203685"
                web.received(reply.destination, reply.text)
                await omar.get_by_role("button", name="Call / Send").click()
                await omar.locator(".inbox div").wait_for()
                await omar.locator(".screen").get_by_text("98").wait_for()
                await page.screenshot(path=tmp_path / "phones.png")
        finally:
            await web.stop()


async def test_the_page_takes_no_orders_from_other_pages(tmp_path: Path) -> None:
    provider = Provider("http://127.0.0.1:9/", "africastalking", USSD_CODE, lambda: "s", RealWorld().now)
    web = WebPhones(provider, 0)
    await web.start()
    try:
        async with aiohttp.ClientSession() as client:
            base = f"http://127.0.0.1:{web.port}"
            for path, body, kind, status in (
                (f"/phones/{AMINA}/dial", "{}", "text/plain", 415),
                (f"/phones/{AMINA}/dial", "{", "application/json", 400),
                (f"/phones/{AMINA}/sms", "{}", "application/json", 404),  # nothing to text through
                (f"/phones/{AMINA}/nonsense", "{}", "application/json", 404),
                ("/phones/12/dial", "{}", "application/json", 400),
                (f"/phones/{AMINA}/hangup", "{}", "application/json", 200),
            ):
                async with client.post(base + path, data=body, headers={"Content-Type": kind}) as response:
                    assert response.status == status, path
    finally:
        await web.stop()


@pytest.mark.skipif(browser.find() is None, reason=browser.NONE_FOUND)
async def test_a_phone_on_the_page_is_asked_for_its_pin_and_pays(tmp_path: Path) -> None:
    grace = "254733900001"
    async with sandbox(tmp_path, RealWorld()) as box:
        web = WebPhones(box.provider, 0, box.phones.send, box.market.operator)
        await web.start()
        try:
            async with browser.page() as page:
                await page.goto(f"http://127.0.0.1:{web.port}/")
                await page.get_by_label("phone number").fill(grace)
                await page.get_by_role("button", name="Add a phone").click()
                phone = page.locator(f"#p{grace}")
                for amount, button in ((500, "OK"), (300, "Cancel")):
                    await phone.get_by_label("text message").fill(f"04012345676 {amount}")
                    await phone.get_by_role("button", name="SMS").click()
                    await phone.get_by_text(f"Pay {amount} to 600987, account 04012345676").wait_for()
                    await phone.get_by_label("PIN", exact=True).fill("1234")
                    await phone.get_by_role("button", name=button).click()
                    reply = await box.phones.any_reply()
                    assert ("Token" if button == "OK" else "not agreed to") in reply.text
                    await phone.get_by_text("Enter your PIN").wait_for(state="hidden")
        finally:
            await web.stop()
    assert box.market.operator.wallets.balance_minor == 50_000
