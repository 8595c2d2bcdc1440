"""An order by USSD from a phone without money here: confirmed, asked for by a prompt, its token by SMS."""

from __future__ import annotations

from channels.ussd.steps import Kind, Step
from config.languages import load
from config.settings import UssdSettings
from gateway.metrics import Metrics
from gateway.ussd.desk import UssdDesk
from tests.gateway.payments.till import STRANGER, open_till
from tests.simulation.shop import METER

MENU = UssdSettings(name="menu", kind="africastalking")


async def test_a_confirmed_order_ends_with_the_prompt_and_its_token_comes_by_sms(database_url: str) -> None:
    async with open_till(database_url) as till:
        shop, store = till.counter.shop, till.counter.store
        desk = UssdDesk(shop, store, till.desk, load("en"), {"menu": MENU}, Metrics())
        typed, pages = list[str](), list[str]()
        for key in ("", "1", METER, "500", "1"):
            typed += [key] if key else []
            step = Step(
                session="s1",
                service="menu",
                kind=Kind.CONTINUE if key else Kind.BEGIN,
                msisdn=STRANGER,
                service_code="*384#",
                text="*".join(typed),
                is_whole=True,
                mark="",
                received_at=till.counter.world.now(),
            )
            page = await desk.answer(step)
            pages.append(page.text)
        assert "You will be asked for your PIN" in pages[-2]
        assert page.is_end and page.text.startswith("Enter your PIN when your phone asks")
        assert (await desk.answer(step)).text == page.text  # the same step again orders nothing more
        await till.settle()
        (ref,) = till.money.accounts
        await till.hears(till.money.take(ref))
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["sold"]
        assert till.sent.replies[-1].channel == "sms"
        await till.check()
