"""Reversals on both databases: what may be taken back, exactly what is put back (R16), and every order of arrival.

The money side is compared whole: every row of accounts, counters and debts before the purchase and after its reversal.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from channels.commands import Buy, LastToken
from channels.contract import Message, Outcome, Reply, Sent
from config.settings import ChannelSettings, DeliverySettings
from gateway.deeds import Continue
from gateway.delivery import Delivery
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import Event, State
from gateway.reversal import Answer, Evidence, Reversal, Reverse, Reversed
from gateway.vend import Done
from ledger import correction_tables, tables
from ledger.outbox import End
from ledger.reasons import Reason
from ledger.trial_balance import trial_balance
from sts.modules.software import SoftwareModule
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, Counter, handle_of, open_counter, sample_keys, wants
from tests.simulation.world import SeededWorld

MAKERS = ("waiting",)  # who made the token: the name of `WaitingModule`


def _made(counter: Counter, purchase_id: UUID, digits: list[str]) -> Continue:
    return Continue(counter.shop, purchase_id, Event.TOKEN_MADE, digits, MAKERS * len(digits))


AGENT = "254722000002"
FINED = "14252321824"  # D2-IBT, a tamper fine that takes first
FATUMA, FREE = "254711081474", "01405512003"  # ten free kWh a month
BLOCKS = "07003012213"


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


_numbers = itertools.count()


def _asked(counter: Counter, original: str, *, key: str = "", **values: Any) -> Reversal:
    return Reversal(
        original=f"sms|{original}",
        key=f"sms|{key or f'reversal-{next(_numbers)}'}",
        fingerprint=values.pop("fingerprint", b"\1" * 16),
        channel="sms",
        peer="smsc",
        who="bank",
        asked_at=counter.world.now(),
        **values,
    )


async def _reverse(counter: Counter, original: str, unsent: frozenset[UUID] = frozenset(), **values: Any) -> Reversed:
    result = await counter.store.submit(Reverse(counter.shop, _asked(counter, original, **values), unsent))
    assert result is not None
    return result


VOUCHED: dict[str, Any] = {"evidence": Evidence.NOT_SHOWN}


def money_and_counters(connection: sa.Connection) -> dict[str, list[Any]]:
    """All that money and counters are, except the transactions themselves."""
    meter, key = tables.meter, ("next_key", "change_given_at")
    found: dict[str, list[Any]] = {
        table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
        for table in (tables.service_point, tables.debt, tables.limited_balance)
    }
    found["meter"] = [tuple(row) for row in connection.execute(sa.select(*(meter.c[n] for n in key), meter.c.id))]
    found["meter"].sort(key=str)
    found["balances"] = [
        (line.code, line.debit_minor, line.credit_minor)
        for line in trial_balance(connection)
        if line.debit_minor or line.credit_minor
    ]
    return found


async def _everything(counter: Counter) -> dict[str, list[Any]]:
    return await counter.store.read(money_and_counters)


async def _state(counter: Counter, done: Done) -> str:
    p = tables.purchase.c
    request_id = done.replies[0].request_id
    return await counter.store.read(
        lambda connection: str(connection.execute(sa.select(p.state).where(p.id == request_id)).scalar_one())
    )


# --- what is put back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "drn", "amount_minor"),
    [
        (AMINA, METER, 50_000),
        (AGENT, FINED, 60_000),  # debts, blocks, a station's float and commission
        (FATUMA, FREE, 20_000),  # a free-unit claim, and a second token
        (AGENT, BLOCKS, 120_000),
        (AGENT, "07003012254", 20_000),  # fixed charges
    ],
)
async def test_a_reversal_leaves_everything_as_it_was(
    counter: Counter, sender: str, drn: str, amount_minor: int
) -> None:
    before = await _everything(counter)
    sold = await counter.buy(amount_minor, drn=drn, sender=sender, reference="m1")
    assert sold.state is State.VENDED
    assert await _everything(counter) != before
    result = await _reverse(counter, "m1", **VOUCHED)
    assert (result.answer, result.repeated) == (Answer.REVERSED, False)
    assert await _everything(counter) == before
    assert await _state(counter, sold) == "SEALED"
    (reply,) = result.done.replies
    assert (reply.message.key, reply.recipient, reply.message.values["amount_minor"]) == (
        "reversed",
        sender,
        amount_minor,
    )


async def test_the_sale_that_follows_a_reversal_is_as_if_it_were_the_first(counter: Counter) -> None:
    first = await counter.buy(20_000, drn=FREE, sender=FATUMA, reference="m1")
    await _reverse(counter, "m1", **VOUCHED)
    again = await counter.buy(20_000, drn=FREE, sender=FATUMA)  # not "just bought", and the free token comes again
    told, new = first.replies[0].message.values, again.replies[0].message.values
    assert [token["kind"] for token in new["tokens"]] == ["credit", "free"]
    assert {token["digits"] for token in new["tokens"]}.isdisjoint(token["digits"] for token in told["tokens"])
    assert {**told, "tokens": 0, "receipt": 0} == {**new, "tokens": 0, "receipt": 0}


async def test_a_reversal_over_the_turn_of_the_month_restores_the_old_month(tmp_path: Path) -> None:
    world = SeededWorld(now=datetime(2026, 6, 30, 20, 45, tzinfo=UTC))  # a quarter to midnight in Nairobi
    async with open_counter(f"sqlite:///{tmp_path}/t.db", world=world) as counter:
        assert (await counter.buy(30_000, drn=FINED, sender=AGENT)).state is State.VENDED
        before = await _everything(counter)
        world.advance(minutes=20)
        await counter.buy(60_000, drn=FINED, sender=AGENT, reference="m1")  # in July: counters begin anew
        world.advance(minutes=5)
        assert (await _reverse(counter, "m1", **VOUCHED)).answer is Answer.REVERSED
        assert await _everything(counter) == before
        await counter.buy(10_000, drn=FINED, sender=AGENT, reference="m2")
        await counter.check_books()


async def test_a_debt_changed_meanwhile_gets_back_just_what_was_taken(counter: Counter) -> None:
    await counter.buy(60_000, drn=FINED, sender=AGENT, reference="m1")  # 480.00 of a fine of 6,052.60
    fine = tables.debt.c.code == "DB-0004"
    await counter.store.transact(
        lambda connection: connection.execute(
            tables.debt.update().where(fine).values(outstanding_minor=tables.debt.c.outstanding_minor - 100_000)
        )
    )
    await _reverse(counter, "m1", **VOUCHED)
    left = await counter.store.read(
        lambda connection: connection.execute(sa.select(tables.debt.c.outstanding_minor).where(fine)).scalar_one()
    )
    assert left == 605_260 - 100_000
    await counter.store.transact(  # as it was, so that debts and arrears agree again
        lambda connection: connection.execute(tables.debt.update().where(fine).values(outstanding_minor=605_260))
    )


@pytest.mark.parametrize("confirmed_by", ["operator", "next_sale"])
async def test_a_key_change_that_nobody_saw_was_not_given(tmp_path: Path, confirmed_by: Any) -> None:
    from config.settings import StsSettings

    keys = SoftwareModule([*sample_keys(), *sample_keys(revision=3)])
    settings = StsSettings(key_change_confirmed_by=confirmed_by)
    async with open_counter(f"sqlite:///{tmp_path}/t.db", keys, sts=settings) as counter:
        await wants(counter, METER, handle_of(METER, 3))
        before = await _everything(counter)
        first = await counter.buy(50_000, reference="m1")
        assert first.replies[0].message.values["tokens"][0]["kind"] == "key_change"
        await _reverse(counter, "m1", **VOUCHED)
        assert await _everything(counter) == before
        second = await counter.buy(50_000)
        assert [token["kind"] for token in second.replies[0].message.values["tokens"]][0] == "key_change"
        await counter.check_books()


# --- R16's checks, the policy, the disclosure -------------------------------------------------------------------------


async def test_r16_refuses_in_its_order(counter: Counter) -> None:
    assert (await _reverse(counter, "unknown")).answer is Answer.NEVER_SEEN
    await counter.buy(50_000, reference="m1")
    await counter.buy(20_000, reference="m2")
    not_last = await _reverse(counter, "m1", **VOUCHED)
    assert (not_last.answer, not_last.reason) == (Answer.REFUSED, Reason.REVERSAL_NOT_LAST)
    # The latest unreversed one: when the second is reversed, the first is the latest.
    assert (await _reverse(counter, "m2", **VOUCHED)).answer is Answer.REVERSED
    again = await _reverse(counter, "m2", **VOUCHED)
    assert (again.answer, again.repeated) == (Answer.REVERSED, True)
    assert (await _reverse(counter, "m1", **VOUCHED)).answer is Answer.REVERSED
    assert await counter.available("wallet:A100001") == 150_000


@pytest.mark.parametrize(("seconds", "answer"), [(1800, Answer.REVERSED), (1801, Answer.REFUSED)])
async def test_exactly_the_window_is_allowed(tmp_path: Path, seconds: int, answer: Answer) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        await counter.buy(reference="m1")
        counter.world.advance(seconds=seconds)
        result = await _reverse(counter, "m1", **VOUCHED)
        assert (result.answer, result.reason) == (answer, None if seconds == 1800 else Reason.REVERSAL_LATE)
        await counter.check_books()


async def test_a_channel_that_takes_no_reversals_keeps_what_it_sold(tmp_path: Path) -> None:
    from dataclasses import replace

    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        counter.shop = replace(
            counter.shop,
            settings=replace(counter.shop.settings, channels={"SMS": ChannelSettings(reversals="refuse")}),
        )
        await counter.buy(reference="m1")
        assert (await _reverse(counter, "m1", **VOUCHED)).reason is Reason.REVERSALS_NOT_TAKEN
        await counter.check_books()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"amount_minor": 50_001}, Reason.REVERSAL_DIFFERS),
        ({"drn": FINED}, Reason.REVERSAL_DIFFERS),
        ({"amount_minor": 50_000, "drn": METER}, None),
    ],
)
async def test_another_amount_or_meter_is_refused(tmp_path: Path, values: Any, reason: Reason | None) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        await counter.buy(reference="m1")
        assert (await _reverse(counter, "m1", **VOUCHED, **values)).reason is reason


async def test_money_that_bought_no_token_can_be_taken_back_by_anybody(tmp_path: Path) -> None:
    world = SeededWorld(now=datetime(2026, 3, 5, 8, 0, tzinfo=UTC))
    async with open_counter(f"sqlite:///{tmp_path}/t.db", world=world) as counter:
        world.advance(days=92)
        before = await _everything(counter)
        assert (await counter.buy(20_000, drn="07003012254", sender=AGENT, reference="m1")).state is State.VENDED
        assert (await _reverse(counter, "m1")).answer is Answer.REVERSED
        assert await _everything(counter) == before
        await counter.check_books()


async def test_a_token_whose_reply_may_be_on_its_way_is_not_taken_back(counter: Counter) -> None:
    sold = await counter.buy(reference="m1")
    (reply,) = sold.replies
    # OWED, leased, never marked: the node may have sent it a moment ago. Without its word that is "seen".
    for lease_over in (False, True):
        result = await _reverse(counter, "m1")
        assert (result.answer, result.reason) == (Answer.REFUSED, Reason.TOKEN_DISCLOSED)
        if not lease_over:
            counter.world.advance(seconds=200)
    assert await _state(counter, sold) == "VENDED"
    await counter.store.submit(
        End(reply.id, "node-1", "SENT", (reply.request_id, "DELIVERED"), "", counter.world.now())
    )
    assert (await _reverse(counter, "m1")).reason is Reason.TOKEN_DISCLOSED
    assert await _state(counter, sold) == "DELIVERED"
    assert (await _reverse(counter, "m1", **VOUCHED)).answer is Answer.REVERSED  # its peer took it and vouches


async def test_a_copy_that_was_given_out_ends_every_doubt(counter: Counter) -> None:
    await counter.buy(reference="m1")
    copy = await counter.ask(LastToken(METER))
    assert copy.replies[0].message.key == "last_token"
    result = await _reverse(counter, "m1", **VOUCHED)
    assert (result.answer, result.reason) == (Answer.REFUSED, Reason.TOKEN_DISCLOSED)


async def test_a_sealed_token_is_shown_to_nobody(counter: Counter) -> None:
    first = await counter.buy(50_000, reference="m1")
    counter.world.advance(minutes=1)
    await counter.buy(20_000, reference="m2")
    await _reverse(counter, "m2", **VOUCHED)
    last = await counter.ask(LastToken(METER))
    assert last.replies[0].message.values["tokens"] == first.replies[0].message.values["tokens"]
    assert await counter.count(tables.outbox, tables.outbox.c.state == "WITHDRAWN") == 1
    again = await counter.buy(20_000, reference="m2")  # the same request again: its outcome stays what it is
    assert (again.replayed, again.replies) == (True, [])


# --- the channel's own knowledge --------------------------------------------------------------------------------------


class _Slow:
    """A channel that takes its time, so that replies wait in memory behind the first."""

    name = "sms"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.sent: list[Reply] = []

    async def run(self, desk: object) -> None:
        raise AssertionError("not served here")

    async def send(self, reply: Reply) -> Sent:
        self.sent.append(reply)
        await self.gate.wait()
        return Sent(Outcome.TAKEN)

    def is_up(self) -> bool:
        return True


async def test_a_reply_that_no_channel_was_handed_is_withdrawn(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        channel, settings = _Slow(), DeliverySettings(in_flight_max=1)
        delivery = Delivery(counter.store, {"sms": channel}, settings, "node-1", counter.world, Metrics())
        desk = VendingDesk(counter.shop, counter.store, delivery, Metrics())
        await desk.receive(counter.inbound(Buy(METER, 50_000), AMINA, "m1"))
        await desk.receive(counter.inbound(Buy(FINED, 60_000), AGENT, "m2"))
        await desk.receive(counter.inbound(Buy(BLOCKS, 60_000), AGENT, "m3"))
        await asyncio.sleep(0)
        assert [reply.recipient for reply in channel.sent] == [AMINA]
        assert (await desk.reverse(_asked(counter, "m1"))).reason is Reason.TOKEN_DISCLOSED  # being sent
        assert (await desk.reverse(_asked(counter, "m2"))).answer is Answer.REVERSED  # waits in memory
        wrong = await desk.reverse(_asked(counter, "m3", amount_minor=1))
        assert wrong.reason is Reason.REVERSAL_DIFFERS  # refused, and its reply goes out after all
        channel.gate.set()
        async with asyncio.timeout(60):
            while len(channel.sent) < 3:
                await asyncio.sleep(0.005)
        await delivery.close()
        assert sorted(reply.message.key for reply in channel.sent) == ["reversed", "sold", "sold"]
        assert {reply.request_id for reply in channel.sent if reply.message.key == "sold"} == {
            reply.request_id for reply in channel.sent if reply.message.values.get("drn") in (METER, BLOCKS)
        }
        await counter.check_books()


async def test_what_another_node_has_claimed_is_not_withdrawn(counter: Counter) -> None:
    sold = await counter.buy(reference="m1")
    (reply,) = sold.replies
    await counter.store.transact(
        lambda connection: connection.execute(
            tables.outbox.update().where(tables.outbox.c.id == reply.id).values(owner="node-2")
        )
    )
    result = await _reverse(counter, "m1", frozenset({reply.id}))
    assert result.reason is Reason.TOKEN_DISCLOSED
    assert await _state(counter, sold) == "VENDED"


# --- orders of arrival ------------------------------------------------------------------------------------------------


async def test_a_reversal_that_overtakes_its_purchase_keeps_it_from_vending(counter: Counter) -> None:
    result = await _reverse(counter, "m1", key="rev1")
    assert (result.answer, result.purchase_id) == (Answer.NEVER_SEEN, None)
    for _ in range(2):
        late = await counter.buy(reference="m1")
        assert (late.state, late.reason, late.replies[0].message.key) == (None, Reason.REVERSED_FIRST, "reversed_first")
    assert await counter.count(tables.purchase) == 0
    assert (await _reverse(counter, "m1", key="rev1")).answer is Answer.NEVER_SEEN
    assert (await _reverse(counter, "m1", key="rev2")).answer is Answer.NEVER_SEEN
    assert await counter.count(correction_tables.reversal) == 2


async def test_a_repeat_of_a_reversal_hears_the_same_whatever_happened_since(counter: Counter) -> None:
    await counter.buy(50_000, reference="m1")
    await counter.buy(20_000, reference="m2")
    refused = await _reverse(counter, "m1", key="rev1", **VOUCHED)
    await _reverse(counter, "m2", key="rev2", **VOUCHED)
    again = await _reverse(counter, "m1", key="rev1", **VOUCHED)
    assert (again.answer, again.reason, again.repeated) == (Answer.REFUSED, refused.reason, True)
    other = await _reverse(counter, "m1", key="rev1", fingerprint=b"\2" * 16)
    assert other.reason is Reason.DUPLICATE_DIFFERS
    counter.world.advance(days=1)
    late = await _reverse(counter, "m2", key="rev2", **VOUCHED)
    assert (late.answer, late.reason) == (Answer.REVERSED, None)


async def test_a_purchase_that_was_refused_has_nothing_to_take_back(counter: Counter) -> None:
    await counter.buy(1, reference="m1")  # priced and declined
    await counter.buy(drn="04012345601", reference="m2")  # no purchase came of it
    for original in ("m1", "m2"):
        assert (await _reverse(counter, original)).answer is Answer.NOTHING_TAKEN


@pytest.mark.parametrize("order", list(itertools.permutations(("buy", "reverse", "last"))))
async def test_purchase_reversal_and_copy_at_one_instant(database_url: str, order: tuple[str, ...]) -> None:
    """In one batch, in any order, and from two nodes: a token is shown, or sealed, never both."""
    async with open_counter(database_url) as counter:
        delivery = Delivery(counter.store, {}, DeliverySettings(), "node-1", counter.world, Metrics())
        desk = VendingDesk(counter.shop, counter.store, delivery, Metrics())
        deeds: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "buy": lambda: counter.buy(reference="m1"),
            "reverse": lambda: desk.reverse(_asked(counter, "m1", evidence=Evidence.NOT_WRITTEN)),
            "last": lambda: counter.ask(LastToken(METER)),
        }
        results = dict(zip(order, await asyncio.gather(*(deeds[name]() for name in order)), strict=True))
        bought, reversed_, copy = results["buy"], results["reverse"], results["last"]
        if bought.reason is Reason.REVERSED_FIRST:
            assert reversed_.answer is Answer.NEVER_SEEN
        else:
            assert (reversed_.answer is Answer.REVERSED) != (copy.replies[0].message.key == "last_token")
        assert await counter.available("wallet:A100001") == (100_000 if reversed_.answer is Answer.REFUSED else 150_000)
        await counter.check_books()


# --- a module that must be waited for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "digits"),
    [
        (Event.TOKEN_MADE, ["0" * 20]),
        (Event.TOKEN_REFUSED, []),
        (Event.GAVE_UP, []),
        (None, []),  # a crash: the answer is lost
    ],
)
async def test_a_reversal_while_the_module_works_ends_without_token_and_money(
    database_url: str, event: Event | None, digits: list[str]
) -> None:
    async with open_counter(database_url, WaitingModule(SoftwareModule(sample_keys()))) as counter:
        before = await _everything(counter)
        waiting = await counter.buy(reference="m1")
        purchase_id = waiting.ask[0].purchase_id
        result = await _reverse(counter, "m1")
        assert (result.answer, result.done.state) == (Answer.CANCELLED, State.CANCELLING)
        assert (await _reverse(counter, "m1")).answer is Answer.CANCELLED
        reason = Reason.MODULE_SILENT if event is not Event.TOKEN_MADE else None
        done = await counter.store.submit(
            Continue(counter.shop, purchase_id, event, digits, MAKERS * len(digits), reason)
        )
        assert (done.state, [reply.message for reply in done.replies]) == (
            State.RETURNED,
            [Message("reversed", {"currency": "KES", "minor_digits": 2, "drn": METER, "amount_minor": 50_000})],
        )
        assert (await _reverse(counter, "m1")).answer is Answer.NOTHING_TAKEN
        assert await counter.count(tables.token, tables.token.c.digits.is_not(None)) == 0
        assert await _everything(counter) == before
        await counter.check_books()


async def test_a_purchase_behind_a_busy_point_is_cancelled_and_the_next_goes_on(database_url: str) -> None:
    async with open_counter(database_url, WaitingModule(SoftwareModule(sample_keys()))) as counter:
        first = await counter.buy(50_000, reference="m1")
        await counter.buy(20_000, reference="m2")
        assert (await _reverse(counter, "m2")).answer is Answer.CANCELLED
        not_last = await _reverse(counter, "m1")
        assert not_last.answer is Answer.CANCELLED
        done = await counter.store.submit(Continue(counter.shop, first.ask[0].purchase_id, Event.GAVE_UP))
        assert done.freed is not None
        assert await counter.available("wallet:A100001") == 150_000
        await counter.check_books()


async def test_a_sale_that_another_is_being_priced_on_is_not_the_last(database_url: str) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()))
    async with open_counter(database_url, module) as counter:
        first = await counter.buy(50_000, reference="m1")
        module.answers_at_once = False
        (ask,) = first.ask
        digits = [await module.make_later(asked.request) for asked in ask.requests]  # type: ignore[arg-type]
        await counter.store.submit(
            Continue(counter.shop, ask.purchase_id, Event.TOKEN_MADE, digits, MAKERS * len(digits))
        )
        second = await counter.buy(20_000, reference="m2")
        assert (await _reverse(counter, "m1", **VOUCHED)).reason is Reason.REVERSAL_NOT_LAST
        await counter.store.submit(Continue(counter.shop, second.ask[0].purchase_id, Event.GAVE_UP))
        assert (await _reverse(counter, "m1", **VOUCHED)).answer is Answer.REVERSED
        assert await counter.available("wallet:A100001") == 150_000
        await counter.check_books()


async def test_two_hundred_reversals_at_once_give_the_money_back_once(counter: Counter) -> None:
    await counter.buy(reference="m1")
    delivery = Delivery(counter.store, {}, DeliverySettings(), "node-1", counter.world, Metrics())
    desk = VendingDesk(counter.shop, counter.store, delivery, Metrics())
    results = await asyncio.gather(*(desk.reverse(_asked(counter, "m1", **VOUCHED)) for _ in range(200)))
    assert {result.answer for result in results} == {Answer.REVERSED}
    assert sum(not result.repeated for result in results) == 1
    assert await counter.available("wallet:A100001") == 150_000
