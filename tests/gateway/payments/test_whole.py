"""Orders paid by each kind of source, from the text to the token: real sources, real sockets, a provider that errs.

Callbacks are lost, late, repeated, out of order and forged; requests are carried out without an answer. In the end
there is one token for each payment on the provider's statement, and the books hold the statement's sum, to the cent.
The clock is the test's: the timetable's questions are asked when it says so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from channels.commands import Buy, TopUp
from channels.contract import NotStored
from channels.http.server import CallbackServer
from config.kinds import Secret
from config.money import CheckoutSettings, MomoSettings, MpesaSettings, PaymentSettings
from config.settings import CallbackSettings, LogSettings, Settings
from gateway import logs
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.payments.contract import Event, PaymentState
from gateway.payments.desk import PaymentDesk
from gateway.payments.registry import made
from gateway.payments.simulated.africastalking import SimulatedAfricasTalking
from gateway.payments.simulated.daraja import SimulatedDaraja
from gateway.payments.simulated.faults import Fault, Faults
from gateway.payments.simulated.mobile_operator import MobileOperator
from gateway.payments.simulated.momo import SimulatedMomo
from gateway.payments.simulated.server import SimulatedProviders
from gateway.payments.simulated.wallets import Habit, Wallets
from ledger import payment_tables, suspense, tables
from ledger.audit import Origin
from ledger.operators import Operator, Role
from tests.gateway.payments.till import Sent, Till
from tests.simulation.shop import METER, UTILITY, open_counter
from tests.simulation.world import SeededWorld

PUBLIC = "https://pay.umoja.example"
ORDERS = 18
# Of a day: what the timetable needs, and what it does at the end.
WAITS_S = (6, 10, 16, 31, 61, 121, 241, 481, 3_600, 3_600, 3_600)
HABITS = (Habit.ACCEPT, Habit.ACCEPT, Habit.ACCEPT, Habit.DECLINE, Habit.WRONG_PIN, Habit.SILENT)


@dataclass
class Whole:
    """A till before simulated providers."""

    till: Till
    operator: MobileOperator
    daraja: SimulatedDaraja

    async def settle(self) -> None:
        """Everything that is under way comes to its end."""
        for _ in range(6):
            await self.operator.idle()
            await self.till.payments.idle()

    async def order(self, number: int, habit: Habit) -> None:
        msisdn = f"2547000{number:05d}"
        self.operator.wallets.phone(msisdn).habit = habit
        await self.till.desk.receive(self.till.counter.inbound(Buy(METER, 10_000 + 100 * number), msisdn))

    async def wait(self, seconds: float) -> None:
        self.till.counter.world.advance(seconds=seconds)
        for _ in range(3):  # no more at a time than the pace allows
            await self.till.payments.look(self.till.settings.name)
            await self.settle()

    async def in_books(self) -> int:
        return -await self.till.balance(f"clearing:{self.till.settings.name}")

    def on_statement(self) -> int:
        """The statement's sum, read as a bank would: Paid In less Withdrawn, and the last Balance."""
        lines = list(csv.DictReader(io.StringIO(self.operator.wallets.statement())))
        moved = [Decimal(line["Paid In"] or 0) - Decimal(line["Withdrawn"] or 0) for line in lines]
        assert not lines or sum(moved) == Decimal(lines[-1]["Balance"])
        return int(sum(moved) * 100)


@asynccontextmanager
async def whole(url: str, kind: str, rates: Mapping[Fault, float], *, seed: str = "1") -> AsyncIterator[Whole]:
    world = SeededWorld()
    faults = Faults(rates, seed)
    operator = MobileOperator(Wallets(), faults, world.now, expire_after_s=0.0, delay_s=0.0)
    daraja, momo, checkout = SimulatedDaraja(operator), SimulatedMomo(operator), SimulatedAfricasTalking(operator)
    providers = SimulatedProviders((daraja, momo, checkout), faults, operator.wallets.statement)
    await operator.open()
    await providers.start()
    table = PaymentSettings(
        name="money", kind=kind, path_secret=Secret("0123456789abcdef"), step_minor=100, polls_per_s=1_000,
        at_once_max=100, collect=kind != "mpesa_c2b",
    )  # fmt: skip
    settings = Settings(
        utility=UTILITY,
        callbacks=CallbackSettings(public_url=PUBLIC),
        payment=(table,),
        mpesa=(MpesaSettings(name="money", base_url=providers.url, consumer_key=Secret(daraja.consumer_key),
                             consumer_secret=Secret(daraja.consumer_secret), passkey=Secret(daraja.passkey),
                             shortcode=daraja.shortcode, initiator=daraja.initiator,
                             security_credential=Secret("sealed")),),
        momo=(MomoSettings(name="money", base_url=providers.url, target=momo.target, api_user=momo.user,
                           subscription_key=Secret(momo.subscription_keys["collection"]), api_key=Secret(momo.key)),),
        checkout=(CheckoutSettings(name="money", base_url=providers.url, username=checkout.username,
                                   api_key=Secret(checkout.api_key), product=checkout.product),),
    )  # fmt: skip
    async with open_counter(url, world=world, payment=(table,)) as counter:
        sent = Sent()
        desk = VendingDesk(counter.shop, counter.store, sent, Metrics())
        payments = PaymentDesk(counter.shop, counter.store, desk, made(settings, world.now), Metrics())
        server = CallbackServer("127.0.0.1", 0, payments.routes())
        await server.start()
        operator.hosts[PUBLIC] = f"http://127.0.0.1:{server.port}"
        checkout.callback_url = f"{PUBLIC}/payments/money/0123456789abcdef"
        till = Till(counter, desk, payments, None, sent, table)  # type: ignore[arg-type]  # a provider of its own
        try:
            yield Whole(till, operator, daraja)
        finally:
            await server.stop()
            await payments.close()
            await desk.close()
            await providers.stop()
            await operator.close()


CALLBACKS = {Fault.LOSE: 0.3, Fault.REPEAT: 0.2, Fault.REORDER: 0.2, Fault.FORGE: 0.3, Fault.DELAY: 0.2}
REQUESTS = {Fault.NO_ANSWER: 0.2, Fault.ERROR_AFTER: 0.1, Fault.ERROR: 0.1}


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("mpesa_stk", CALLBACKS),
        # Of prompts and checkouts without an answer the callback is the only word: it is not lost here.
        ("mpesa_stk", {**CALLBACKS, **REQUESTS, Fault.LOSE: 0.0, Fault.ERROR: 0.0}),
        ("momo", {**CALLBACKS, **REQUESTS}),
        ("africastalking", CALLBACKS),
        ("africastalking", {**CALLBACKS, **REQUESTS, Fault.LOSE: 0.0, Fault.ERROR: 0.0}),
    ],
)
async def test_every_payment_on_the_statement_has_bought_one_token(
    kind: str, rates: Mapping[Fault, float], database_url: str
) -> None:
    async with whole(database_url, kind, rates) as place:
        for fault in (fault for fault, rate in rates.items() if rate > 0):
            place.operator.faults.arm(fault)  # each of them once for certain
        for number in range(ORDERS):
            await place.order(number, HABITS[number % len(HABITS)])
        await place.settle()
        for seconds in WAITS_S:
            await place.wait(seconds)
        struck = place.operator.faults.struck
        assert all(struck[fault] for fault, rate in rates.items() if rate > 0)
        taken = place.operator.wallets.transactions
        assert len({transaction.msisdn for transaction in taken}) == len(taken) >= ORDERS / 3
        assert await place.in_books() == place.on_statement() == sum(each.amount_minor for each in taken)
        states = await place.till.states()
        assert (len(states), sum(state in ("VENDED", "DELIVERED") for state in states)) == (ORDERS, len(taken))
        told = {reply.recipient for reply in place.till.sent.replies if reply.message.key == "sold"}
        assert told == {transaction.msisdn for transaction in taken}
        await place.till.counter.check_books()


@pytest.mark.parametrize("kind", ["mpesa_stk", "momo", "africastalking"])
async def test_every_top_up_on_the_statement_is_credited_once(kind: str, database_url: str) -> None:
    async with whole(database_url, kind, CALLBACKS) as place:
        phones = [f"2547000{number:05d}" for number in range(6)]
        for msisdn, habit in zip(phones, HABITS, strict=True):
            place.operator.wallets.phone(msisdn).habit = habit
            await place.till.desk.receive(place.till.counter.inbound(TopUp(20_000), msisdn))
        await place.settle()
        for seconds in WAITS_S:
            await place.wait(seconds)
        taken = {each.msisdn: each.amount_minor for each in place.operator.wallets.transactions}
        assert len(taken) >= 3 and await place.in_books() == place.on_statement() == sum(taken.values())
        for msisdn in phones:
            assert await place.till.balance(f"prepaid:{msisdn}") == taken.get(msisdn, 0)
            told = place.till.sent.keys(msisdn)
            assert told.count("top_up_paid") == (msisdn in taken) and len(told) <= 2
        await place.till.counter.check_books()


async def test_what_only_the_statement_knows_is_nowhere_else(database_url: str) -> None:
    """A prompt without an answer, whose callback was lost: no token, no booking, and no second prompt."""
    async with whole(database_url, "mpesa_stk", {}) as place:
        place.operator.faults.arm(Fault.NO_ANSWER)
        place.operator.faults.arm(Fault.LOSE)
        await place.order(1, Habit.ACCEPT)
        await place.settle()
        for seconds in (*WAITS_S, 86_400):
            await place.wait(seconds)
        [taken] = place.operator.wallets.transactions
        assert (await place.in_books(), place.on_statement()) == (0, taken.amount_minor)
        assert await place.till.states() == ["UNPAID"]
        await place.till.counter.check_books()


async def test_money_that_nobody_asked_for_buys_for_its_meter_or_is_held(database_url: str) -> None:
    """C2B: right meter, wrong meter without validation, repeats, forgeries; and validation, where it is on."""
    async with whole(database_url, "mpesa_c2b", {Fault.REPEAT: 0.5, Fault.FORGE: 0.5}) as place:
        secret = "0123456789abcdef"
        place.daraja.registered = {
            "ConfirmationURL": f"{PUBLIC}/payments/money/{secret}?step=confirmation",
            "ValidationURL": f"{PUBLIC}/payments/money/{secret}?step=validation",
            "ResponseType": "Cancelled",
        }
        assert await place.daraja.paid("254700000001", 50_000, "04012345677") is None  # a wrong digit, refused
        place.daraja.validates = False
        for number, account in enumerate((METER, "04012345677", "0401 2345 676", "light")):
            assert await place.daraja.paid(f"25470000000{number}", 50_000, account)
            await place.settle()
        assert place.operator.faults.struck[Fault.FORGE] and place.operator.faults.struck[Fault.REPEAT]
        assert await place.in_books() == place.on_statement() == 200_000
        assert sum(state in ("VENDED", "DELIVERED") for state in await place.till.states()) == 2
        assert sorted(held[0] for held in await place.till.held()) == ["METER_UNKNOWN", "METER_UNKNOWN"]
        await place.till.counter.check_books()


def someone(login: str, now: datetime) -> dict[str, Any]:
    by = Operator(login, login, frozenset({Role.FINANCE}), "en", None)
    return {"by": by, "origin": Origin(login, now, "here", "wrong meter")}


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (Fault.LOSE,),
        (Fault.NO_ANSWER,),
        (Fault.NO_ANSWER, Fault.LOSE),
        (Fault.NO_ANSWER, Fault.LOSE, Fault.LOSE),  # the second is declined, for the first was done; nobody hears why
        (Fault.ERROR,),
        (Fault.ERROR_AFTER,),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_locked_out", [False, True])
async def test_held_money_goes_back_once_whatever_becomes_of_the_refund(
    faults: tuple[Fault, ...], is_locked_out: bool, tmp_path: Path
) -> None:
    async with whole(f"sqlite:///{tmp_path}/t.db", "mpesa_c2b", {}) as place:
        place.daraja.validates, counter = False, place.till.counter
        place.daraja.registered = {"ConfirmationURL": f"{PUBLIC}/payments/money/0123456789abcdef?step=confirmation"}
        assert await place.daraja.paid("254700000001", 50_000, "light")
        await place.settle()
        [item] = await counter.store.read(lambda connection: suspense.listed(connection))
        asking, approving = someone("fin.zoe", counter.world.now()), someone("fin.max", counter.world.now())
        today, key = counter.world.now().date(), counter.world.new_id()
        await counter.store.transact(lambda c: suspense.ask(c, item.code, suspense.REFUND, "", **asking))
        await counter.store.transact(lambda c: suspense.approve(c, item.code, key, today, **approving))
        for fault in faults:
            place.operator.faults.arm(fault)
        initiator = place.daraja.initiator
        for number, seconds in enumerate((0, *WAITS_S[:9])):
            # For a while after the first request every one is refused, which says nothing of the first.
            place.daraja.initiator = "somebody else" if is_locked_out and number in (1, 2) else initiator
            counter.world.advance(seconds=seconds)
            await place.till.payments.look_for_refunds()
            await place.settle()
            assert [held[1] for held in await place.till.held()] != ["OPEN"], "who knows whether it was given back?"
        assert [held[1] for held in await place.till.held()] == ["RESOLVED"]
        assert await place.in_books() == place.on_statement() == 0
        assert [each.amount_minor for each in place.operator.wallets.transactions] == [50_000, -50_000]
        assert await place.till.balance("suspense:money") == 0
        await counter.check_books()


async def test_a_refund_of_which_nothing_was_heard_is_ended_by_the_statement(tmp_path: Path) -> None:
    """Answer and result are lost, and then we are locked out: that it was done only the statement says."""
    async with whole(f"sqlite:///{tmp_path}/t.db", "mpesa_c2b", {}) as place:
        place.daraja.validates, counter = False, place.till.counter
        place.daraja.registered = {"ConfirmationURL": f"{PUBLIC}/payments/money/0123456789abcdef?step=confirmation"}
        assert await place.daraja.paid("254700000001", 50_000, "light")
        await place.settle()
        [item] = await counter.store.read(lambda connection: suspense.listed(connection))
        asking, approving = someone("fin.zoe", counter.world.now()), someone("fin.max", counter.world.now())
        today, key = counter.world.now().date(), counter.world.new_id()
        await counter.store.transact(lambda c: suspense.ask(c, item.code, suspense.REFUND, "", **asking))
        await counter.store.transact(lambda c: suspense.approve(c, item.code, key, today, **approving))
        place.operator.faults.arm(Fault.NO_ANSWER)
        place.operator.faults.arm(Fault.LOSE)
        for seconds in (0, *WAITS_S[:5]):
            counter.world.advance(seconds=seconds)
            await place.till.payments.look_for_refunds()
            await place.settle()
            place.daraja.initiator = "somebody else"
        assert [held[1] for held in await place.till.held()] == ["REFUNDING"] and place.on_statement() == 0
        receipt = str((await place.till.newest())["receipt"])
        back = Event(PaymentState.REVERSED, counter.world.now(), receipt=receipt, amount_minor=50_000, currency="KES")
        await place.till.payments.received("money", [back])
        counter.world.advance(seconds=3_600)
        await place.till.payments.look_for_refunds()
        await place.settle()
        assert [held[1] for held in await place.till.held()] == ["RESOLVED"] and await place.in_books() == 0
        assert await place.till.balance("suspense:money") == 0
        await counter.check_books()


def test_the_waits_are_those_of_a_day() -> None:
    assert sum(WAITS_S) < 86_400 and replace(PaymentSettings(name="x", kind="y")).order_s < sum(WAITS_S)


@pytest.mark.parametrize("kind", ["mpesa_stk", "mpesa_c2b", "momo", "africastalking"])
async def test_no_secret_of_a_source_and_no_token_is_in_log_metrics_or_audit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the most talkative level, with everything going wrong that can, and the database away in the end."""
    stream = io.StringIO()
    logs.set_up(LogSettings(level="DEBUG"), stream)
    rates = {**CALLBACKS, **REQUESTS, Fault.NO_ANSWER: 0.3, Fault.ERROR: 0.3, Fault.FORGE: 0.6}
    async with whole(f"sqlite:///{tmp_path}/t.db", kind, rates) as place:
        counter, till = place.till.counter, place.till
        if kind == "mpesa_c2b":
            place.daraja.validates = False
            place.daraja.registered = {"ConfirmationURL": f"{PUBLIC}/payments/money/0123456789abcdef?step=confirmation"}
        for number in range(6):
            if kind == "mpesa_c2b":
                await place.daraja.paid(f"2547000{number:05d}", 50_000, METER)
            else:
                await place.order(number, HABITS[number])
        for seconds in WAITS_S[:6]:
            await place.wait(seconds)
        made = sa.select(tables.token.c.digits).where(tables.token.c.digits.is_not(None))
        digits = list(await counter.store.read(lambda connection: connection.execute(made).scalars().all()))
        audited = await counter.store.read(lambda c: repr(c.execute(sa.select(tables.audit)).all()))
        kept = audited + repr(await till.rows(payment_tables.payment_event))
        word = Event(PaymentState.SUCCESS, counter.world.now(), receipt="X1", payer="254700099999", amount_minor=1)

        async def away(deed: object, **how: object) -> object:
            raise ConnectionResetError(repr(deed))

        monkeypatch.setattr(counter.store, "submit", away)
        with pytest.raises(NotStored):
            await till.payments.received("money", [word])
        with pytest.raises(NotStored):
            await till.desk.receive(counter.inbound(Buy(METER, 10_000, pin="7306"), "254700099999"))
        monkeypatch.undo()
        exposition = till.payments._metrics.exposition().decode()
        own = (place.daraja.consumer_secret, place.daraja.passkey, "sandbox-api-key", "sandbox-at-key")
    log = stream.getvalue()
    assert digits and "could not be stored" in log
    for secret in ("0123456789abcdef", "sealed", "7306", *own, *digits):
        assert secret not in log and secret not in exposition and secret not in kept, secret
    assert "254700099999" not in log
