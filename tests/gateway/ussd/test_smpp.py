"""USSD over SMPP against a whole gateway: phones of the message centre dial over a real socket."""

from __future__ import annotations

from pathlib import Path

from channels.smpp.message_centre import Fault
from channels.smpp.ussd_phones import Screen
from gateway.demo import USSD_CODE, Sandbox, sandbox, tokens_in
from gateway.world import RealWorld
from tests.channels.smpp.rig import until

AMINA = "254711013579"


async def _shown(box: Sandbox, count: int = 1) -> Screen:
    """The next screens, of which the last is given."""
    screens = box.centre.ussd.screens
    await until(lambda: len(screens) >= count)
    assert len({screen.text for screen in screens}) == 1
    screen = screens[-1]
    screens.clear()
    return screen


async def test_a_purchase_of_which_every_message_comes_twice(tmp_path: Path) -> None:
    async with sandbox(tmp_path, RealWorld()) as box:
        await until(box.gateway.sms.is_up)
        ussd = box.centre.ussd
        box.centre.arm(Fault.DUPLICATE)
        ussd.dial(AMINA, f"{USSD_CODE[:-1]}*1#")
        assert "04012345676" in (await _shown(box)).text
        for typed in ("1", "500"):
            ussd.screens.clear()
            ussd.type(AMINA, typed)
            quote = await _shown(box)
        assert "1 Pay" in quote.text and not quote.is_end
        box.centre.arm(Fault.DUPLICATE)
        ussd.type(AMINA, "1")
        last = await _shown(box)
        assert last.is_end and last.operation == 17 and last.session_info[1] & 1
        sms = await box.phones.reply(AMINA)
        assert sms is not None and tokens_in(sms.text) == tokens_in(last.text) != []
        assert await box.phones.reply(AMINA, within_s=0.3) is None  # once
        ussd.screens.clear()
        ussd.dial(AMINA, USSD_CODE)
        assert "just bought" in (await _shown(box)).text


async def test_a_lost_screen_and_a_hang_up_buy_nothing_and_the_redial_goes_on(tmp_path: Path) -> None:
    async with sandbox(tmp_path, RealWorld()) as box:
        await until(box.gateway.sms.is_up)
        ussd = box.centre.ussd
        ussd.dial(AMINA, f"{USSD_CODE[:-1]}*1*1#")
        await _shown(box)
        box.centre.arm(Fault.REFUSE_SUBMIT)
        ussd.type(AMINA, "500")  # the quote is not taken by the network
        await box.centre.drained()
        ussd.hang_up(AMINA)
        await box.centre.drained()
        ussd.dial(AMINA, USSD_CODE)
        assert "cut off" in (await _shown(box)).text
        ussd.hang_up(AMINA)
        box.phones.send(AMINA, "bal")
        reply = await box.phones.reply(AMINA)
        assert reply is not None and "1,500" in reply.text  # nothing was taken
