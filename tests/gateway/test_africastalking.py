"""The whole gateway over Africa's Talking: a text by callback, the token by its API, reports, and ways that fail.

The provider is the simulator on real HTTP; the account speaks to it by the provider's package.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from channels.africastalking.simulator import Fault, Simulator
from config.kinds import Secret
from config.settings import (
    AfricasTalkingSettings,
    CallbackSettings,
    DatabaseSettings,
    DeliverySettings,
    HttpSettings,
    LinksSettings,
    Settings,
    SmppSettings,
)
from gateway import links as keeping
from gateway.app import Gateway, second_routes
from gateway.check import check
from gateway.metrics import Metrics
from ledger import links as leases
from ledger import tables
from ledger.audit import Origin
from ledger.links import Wish
from ledger.sms_tables import sms_receipt, sms_sent
from tests.channels.africastalking.test_link import account_settings, simulator
from tests.channels.smpp.rig import message_centre, until
from tests.simulation.shop import AMINA, METER, Counter, open_counter
from tests.simulation.world import SeededWorld

SECRET = "s3cret-path-0123456789"
SHORT_CODE = "22345"


class MovingWorld(SeededWorld):
    """Its time runs with the loop's, from where the sample utility's records begin."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = asyncio.get_running_loop().time  # asked from the database's thread too
        self._began = self._clock()
        self._start = super().now()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._clock() - self._began)


@asynccontextmanager
async def serving(
    url: str, provider: Simulator, smpp: tuple[SmppSettings, ...] = (), **changes: Any
) -> AsyncIterator[tuple[Gateway, Counter]]:
    async with open_counter(url, world=MovingWorld()) as counter:
        account: AfricasTalkingSettings = account_settings(
            provider.port, path_secret=Secret(SECRET), short_codes=SHORT_CODE, **changes
        )
        settings = replace(
            counter.shop.settings,
            africastalking=(account,),
            smpp=smpp,
            callbacks=CallbackSettings(port=0),
            http=HttpSettings(port=0),
            delivery=DeliverySettings(poll_every_s=0.05, retry_min_s=0.05, retry_max_s=0.1),
            links=LinksSettings(lease_s=1.5, second_route_after_s=0.0),
        )
        gateway = Gateway(settings, counter.world, counter.store, counter.shop.module, Metrics())
        running = asyncio.create_task(gateway.run())
        try:
            provider.callback = f"http://127.0.0.1:{await gateway.callback_port()}/sms/at/{SECRET}"
            yield gateway, counter
            await provider.quiet()
            await counter.check_books()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def states(counter: Counter) -> list[str | None]:
    """What reports say of the parts that were sent, in their order."""
    return await counter.store.read(
        lambda connection: [row.state for row in connection.execute(sms_sent.select().order_by(sms_sent.c.id))]
    )


async def settled(counter: Counter, wanted: list[str | None]) -> None:
    async with asyncio.timeout(60):
        while await states(counter) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_text_buys_once_however_often_it_comes_and_its_report_is_kept(database_url: str) -> None:
    async with simulator(again_after_s=0.02) as provider, serving(database_url, provider) as (_, counter):
        provider.arm(Fault.REPEAT)
        provider.text(AMINA, SHORT_CODE, f"{METER} 500")
        await until(lambda: provider.received)
        (received,) = provider.received
        assert (received.phone, received.sender) == (AMINA, SHORT_CODE)
        assert METER in received.text and "500" in received.text
        await settled(counter, ["DELIVRD"])
        assert await counter.count(tables.purchase) == 1
        async with asyncio.timeout(60):
            while not await counter.count(tables.purchase, tables.purchase.c.state == "DELIVERED"):
                await asyncio.sleep(0.01)
        await provider.quiet()
        assert len(provider.received) == 1


async def test_a_report_before_the_answer_and_one_of_a_failure_find_their_message(database_url: str) -> None:
    async with simulator(again_after_s=0.02) as provider, serving(database_url, provider) as (gateway, counter):
        provider.arm(Fault.REPORT_FIRST)
        provider.text(AMINA, SHORT_CODE, "BAL")
        await until(lambda: provider.received)
        await settled(counter, [None])
        assert await counter.count(sms_receipt) == 1, "kept until its message is known"
        await gateway.receipts.look()
        assert await states(counter) == ["DELIVRD"]
        provider.arm(Fault.FAIL)
        provider.text(AMINA, SHORT_CODE, "HELP")
        await settled(counter, ["DELIVRD", "UNDELIV"])


async def test_without_balance_and_answer_the_token_still_comes_and_is_the_same(database_url: str) -> None:
    async with simulator() as provider, serving(database_url, provider) as (_, counter):
        for fault in (Fault.NO_BALANCE, Fault.THROTTLE, Fault.LOSE_ANSWER):
            provider.arm(fault)
        provider.text(AMINA, SHORT_CODE, f"{METER} 500")
        await until(lambda: len(provider.received) >= 2)
        assert len({received.text for received in provider.received}) == 1, "the same words, with the same token"
        await settled(counter, ["DELIVRD"])
        assert await counter.count(tables.purchase) == 1


async def test_stop_by_word_and_by_the_providers_notice(database_url: str) -> None:
    async with simulator() as provider, serving(database_url, provider) as (_, counter):

        async def is_opted_out() -> bool:
            p = tables.phone.c
            return await counter.count(tables.phone, p.msisdn == AMINA, p.notices_stopped_at.is_not(None)) == 1

        async def until_it(is_so: bool) -> None:
            async with asyncio.timeout(60):
                while await is_opted_out() is not is_so:
                    await asyncio.sleep(0.01)

        provider.text(AMINA, SHORT_CODE, "STOP")
        await until_it(True)
        provider.text(AMINA, SHORT_CODE, "START")
        await until_it(False)
        provider.opt_out(AMINA)
        await until_it(True)


async def test_smpp_brings_the_token_where_the_account_may_not_write_to_the_customer(database_url: str) -> None:
    async with simulator() as provider, message_centre() as centre:
        smpp = SmppSettings(
            name="smsc", host="127.0.0.1", port=centre.port, system_id="gateway", password=Secret("secret"),
            source_addr="1234",
        )  # fmt: skip
        async with serving(database_url, provider, (smpp,)) as (gateway, counter):
            await until(lambda: gateway.sms.links[0].is_up())
            provider.arm(Fault.BLACKLIST)
            provider.text(AMINA, SHORT_CODE, f"{METER} 500")
            sms = await asyncio.wait_for(centre.next_reply(AMINA), 60)
            assert METER in sms.text and sms.source == "1234"
            assert not provider.received
            # And back: the link is drained, so what it is asked goes out by the account.
            origin = Origin(who="odhiambo", at=counter.world.now(), place="test")
            await counter.store.transact(lambda connection: leases.set_wish(connection, "smsc", Wish.PAUSED, origin))
            await until(lambda: not gateway.sms.links[0].is_up())
            centre.deliver(AMINA, "1234", "BAL")
            await until(lambda: provider.received)
            assert provider.received[-1].phone == AMINA


async def test_operators_pause_an_account_and_its_replies_wait_uncounted(database_url: str) -> None:
    async with simulator() as provider, serving(database_url, provider) as (gateway, counter):
        origin = Origin(who="odhiambo", at=counter.world.now(), place="test")
        await counter.store.transact(lambda connection: leases.set_wish(connection, "at", Wish.PAUSED, origin))
        await until(lambda: not gateway.accounts[0].is_up())
        provider.text(AMINA, SHORT_CODE, f"{METER} 500")
        async with asyncio.timeout(60):
            while not await counter.count(tables.outbox, tables.outbox.c.state == "OWED"):
                await asyncio.sleep(0.01)
        await counter.store.transact(lambda connection: leases.set_wish(connection, "at", Wish.RUN, origin))
        await until(lambda: provider.received)
        assert keeping.link_grace_s(gateway.settings.links) > 0


def test_accounts_are_among_the_second_routes_and_receivers_are_not() -> None:
    def link(name: str, **changes: Any) -> SmppSettings:
        return SmppSettings(name=name, host="h", system_id="x", **changes)

    account = account_settings(1)
    assert second_routes([link("a"), link("r", mode="receiver")], [account]) == {"a": "at", "at": "a"}
    assert second_routes([link("r", mode="receiver")], [account]) == {}


async def test_check_asks_the_account_and_says_where_replies_have_no_way_out(tmp_path: Path) -> None:
    async with simulator() as provider:
        base = Settings(database=DatabaseSettings(url=f"sqlite:///{tmp_path}/none.db"))

        async def found(part: str, **changes: Any) -> tuple[bool, str]:
            (finding,) = [each for each in await check(replace(base, **changes)) if each.part == part]
            return finding.is_well, finding.said

        account = account_settings(provider.port)
        said = "the key is taken, balance KES 1000.0000; without path_secret it takes no messages"
        assert await found("account at", africastalking=(account,)) == (True, said)
        wrong = replace(account, api_key=Secret("wrong"))
        assert await found("account at", africastalking=(wrong,)) == (
            False, "HTTP 401, the user or the key is refused",
        )  # fmt: skip
        assert await found("ways for SMS", africastalking=(account,)) == (True, "replies go out by at")
        only_in = SmppSettings(name="r", host="127.0.0.1", port=1, system_id="x", mode="receiver")
        assert await found("ways for SMS", smpp=(only_in,)) == (
            False, "no [[smpp]] link that sends and no [[africastalking]] account: no reply reaches anybody",
        )  # fmt: skip
