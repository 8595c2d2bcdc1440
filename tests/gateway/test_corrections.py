"""Corrections by two people, on both databases and with modules of both kinds: money, tokens, repeats, races."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from gateway.account_payment import PayAccount
from gateway.commands.corrections import approve
from gateway.corrections import Approved, GatewaysModule, PriceOfUnits
from gateway.deeds import Continue
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import Event, State
from gateway.reversal import Evidence, Reversal, Reverse
from gateway.sale import receipt_of
from gateway.vend import Done
from ledger import audit, correction_tables, corrections, statements, tables
from ledger.audit import Origin
from ledger.corrections import Case, CorrectionRefused, Kind, PaymentRefused, Wish
from ledger.operators import OperatorRefused
from ledger.reasons import Reason, Refusal
from ledger.statements import Entry
from ledger.store import open_store
from ledger.trial_balance import trial_balance
from sts.modules.software import SoftwareModule
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, Counter, open_counter, sample_keys

MAKERS = ("waiting",)  # who made the token: the name of `WaitingModule`


def _made(counter: Counter, purchase_id: UUID, digits: list[str]) -> Continue:
    return Continue(counter.shop, purchase_id, Event.TOKEN_MADE, digits, MAKERS * len(digits))


AGENT = "254722000002"
JOAO = "254711135790"
FINED = "14252321824"
RIGHT = "37180000434"  # no debts


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


def _origin(counter: Counter, who: str) -> Origin:
    return Origin(who, counter.world.now(), "office", "the customer brought the receipt")


async def _ask(counter: Counter, wish: Wish, who: str = "sup.ann") -> Case:
    new_id = counter.shop.world.new_id()
    return await counter.store.transact(
        lambda c: corrections.ask(c, wish, new_id, receipt_of(new_id), "KES", _origin(counter, who))
    )


async def _approve(counter: Counter, case: Case, who: str = "fin.zoe") -> Approved:
    while (approved := await approve(counter.store, counter.shop, case.code, _origin(counter, who))) is None:
        pass
    return approved


def _receipt(sold: Done) -> str:
    return str(sold.replies[0].message.values["receipt"])


async def _balances(counter: Counter) -> dict[str, int]:
    lines = await counter.store.read(trial_balance)
    return {line.code: line.credit_minor - line.debit_minor for line in lines}


async def _one(counter: Counter, query: Any) -> Any:
    return await counter.store.read(lambda connection: connection.execute(query).one())


def _wrong(sold: Done, amount_minor: int = 50_000, wrong: str = "debit", drn: str = RIGHT) -> Wish:
    return Wish(Kind.WRONG_METER, _receipt(sold), amount_minor, 0, drn, {"wrong": wrong})


# --- the four kinds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["debit", "block"])
async def test_what_was_bought_for_the_wrong_meter_comes_to_the_right_one(counter: Counter, wrong: str) -> None:
    sold = await counter.buy(50_000)
    before = await _balances(counter)
    case = await _ask(counter, _wrong(sold, wrong=wrong))
    assert await _balances(counter) == before  # asking moves nothing
    approved = await _approve(counter, case)
    (reply,) = approved.done.replies
    assert (approved.state, reply.message.key, reply.message.values["drn"]) == ("VENDED", "corrected", RIGHT)
    assert (reply.message.values["original"], reply.channel) == (_receipt(sold), "sms")
    moved = {code: minor - before.get(code, 0) for code, minor in (await _balances(counter)).items()}
    bearer = "receivable:arrears" if wrong == "debit" else "loss:wrong_meter"
    assert (moved[bearer], sum(moved.values()), moved[f"case:{case.code}"]) == (-50_000, 0, 0)
    debts = await counter.count(tables.debt, tables.debt.c.code == f"C-{case.code}")
    status = (await _one(counter, sa.select(tables.meter.c.status).where(tables.meter.c.drn == METER)))[0]
    assert (debts, status) == ((1, "INSTALLED") if wrong == "debit" else (0, "BLOCKED"))
    life = await counter.store.read(lambda connection: statements.purchase(connection, _receipt(sold)))
    assert life is not None and [one.code for one in life.corrections] == [case.code]
    rows = await counter.store.read(lambda connection: audit.latest(connection, 5))
    assert [(row.who, row.deed) for row in rows] == [
        ("sup.ann", "correction.asked"),
        ("fin.zoe", "correction.approved"),
    ]


async def test_the_wrong_accounts_next_purchase_pays_first_what_it_owes(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    case = await _ask(counter, _wrong(sold))
    await _approve(counter, case)
    again = await counter.buy(20_000)
    assert again.replies[0].message.values["debt_minor"] == 16_000  # four fifths: the cap
    left = await _one(counter, sa.select(tables.debt.c.outstanding_minor).where(tables.debt.c.code == f"C-{case.code}"))
    assert left[0] == 34_000


@pytest.mark.parametrize("to", ["source", "cash"])
async def test_an_unused_tokens_money_goes_back_to_its_source(counter: Counter, to: str) -> None:
    before = await _balances(counter)
    sold = await counter.buy(50_000)
    case = await _ask(counter, Wish(Kind.REFUND_MONEY, _receipt(sold), 50_000, 0, "", {"to": to}))
    approved = await _approve(counter, case)
    (reply,) = approved.done.replies
    assert (approved.state, reply.message.key, reply.recipient) == (None, "refunded", AMINA)
    moved = {code: minor - before.get(code, 0) for code, minor in (await _balances(counter)).items()}
    expected = {} if to == "source" else {"wallet:A100001": -50_000, "cash:office": 50_000}
    assert {code: minor for code, minor in moved.items() if minor} == expected
    assert await counter.count(tables.purchase, tables.purchase.c.state == "REFUNDED") == 1
    # One register for all: what was refunded is not reversed as well, and not refunded again.
    asked = Reversal("sms|r1", "sms|x", b"\0" * 16, "sms", "smsc", "bank", counter.world.now(), Evidence.NOT_SHOWN)
    reversed_ = await counter.store.submit(Reverse(counter.shop, asked))
    assert reversed_ is not None and reversed_.reason is Reason.REFUNDED
    with pytest.raises(CorrectionRefused, match="REFUNDED"):
        await _ask(counter, _wrong(sold))


async def test_units_worth_an_amount_are_given_and_nothing_is_taken_of_them(counter: Counter) -> None:
    sold = await counter.buy(60_000, drn=FINED, sender=AGENT)
    point = await _one(counter, _counters(FINED))
    case = await _ask(counter, Wish(Kind.REFUND_TOKEN, _receipt(sold), 10_000, 0, FINED, {}))
    before = await _balances(counter)
    approved = await _approve(counter, case)
    values = approved.done.replies[0].message.values
    assert values["units_tenths"] > 0 and approved.done.replies[0].recipient == JOAO
    assert await _one(counter, _counters(FINED)) == point  # neither blocks nor debts nor charges are touched
    moved = {code: minor - before.get(code, 0) for code, minor in (await _balances(counter)).items()}
    assert {code: minor for code, minor in moved.items() if minor} == {"loss:refunds": -10_000, "given:energy": 10_000}


def _counters(drn: str) -> Any:
    s, m, d = tables.service_point.c, tables.meter.c, tables.debt.c
    owed = sa.select(sa.func.sum(d.outstanding_minor)).where(d.service_point_id == s.id).scalar_subquery()
    names = ("counter_month", "month_units_tenths", "fixed_shortfall_minor", "carry_minor", "free_last_month")
    return (
        sa.select(*(s[name] for name in names), owed)
        .join_from(tables.service_point, tables.meter, m.service_point_id == s.id)
        .where(m.drn == drn)
    )


async def _replace_meter(counter: Counter) -> str:
    """Amina's meter is faulty, and another one hangs in its place."""
    new, m = "07770000011", tables.meter

    def change(connection: sa.Connection) -> None:
        row = connection.execute(sa.select(m).where(m.c.drn == METER)).mappings().one()
        connection.execute(m.update().where(m.c.drn == METER).values(status="REMOVED"))
        kept = ("service_point_id", "supply_group", "key_revision", "tariff_index", "base_date", "key_generation")
        values = {name: row[name] for name in (*kept, "encryption_algorithm", "key_type", "key_expiry")}
        connection.execute(m.update().where(m.c.drn == new).values(status="INSTALLED", **values))

    await counter.store.transact(change)
    return new


async def test_units_lost_in_a_faulty_meter_are_given_to_the_one_in_its_place(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    new = await _replace_meter(counter)
    price = await counter.store.submit(PriceOfUnits(counter.shop, new, 123))
    assert price == 27_223  # 12.3 kWh at 19.08, tax included
    case = await _ask(counter, Wish(Kind.FAULTY_METER, _receipt(sold), price, 123, new, {"faulty": METER}))
    approved = await _approve(counter, case)
    values = approved.done.replies[0].message.values
    assert (values["units_tenths"], values["drn"], values["balance_minor"]) == (123, new, 0)
    moved = await _balances(counter)
    assert (moved["loss:replacements"], moved["given:energy"]) == (-price, price)


# --- who, once, and what fits -----------------------------------------------------------------------------------------


async def test_whoever_asks_does_not_approve_and_nothing_happens_twice(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    case = await _ask(counter, _wrong(sold))
    again = await _ask(counter, _wrong(sold))
    assert again.code == case.code
    with pytest.raises(OperatorRefused, match="two people"):
        await _approve(counter, case, "sup.ann")
    with pytest.raises(OperatorRefused, match="two people"):
        await counter.store.transact(lambda c: corrections.refuse(c, case.code, _origin(counter, "sup.ann")))
    assert await counter.count(tables.purchase) == 1
    first = await _approve(counter, case)
    second = await _approve(counter, case)
    assert (first.again, second.again, second.issue_id) == (False, True, first.issue_id)
    assert await counter.count(tables.purchase) == 2
    with pytest.raises(CorrectionRefused, match="approved already"):
        await counter.store.transact(lambda c: corrections.refuse(c, case.code, _origin(counter, "fin.zoe")))
    with pytest.raises(CorrectionRefused, match="stands already"):
        await _ask(counter, Wish(Kind.REFUND_MONEY, _receipt(sold), 50_000, 0, "", {"to": "source"}))


async def test_approvals_that_race_give_one_token(database_url: str) -> None:
    async with open_counter(database_url) as counter:
        case = await _ask(counter, _wrong(await counter.buy(50_000)))
        other = await open_store(database_url)
        results = await asyncio.gather(
            *(
                approve(store, counter.shop, case.code, _origin(counter, "fin.zoe"))
                for store in (counter.store, other, counter.store, other)
            )
        )
        await other.close()
        assert sum(result is not None and not result.again for result in results) == 1
        assert await counter.count(tables.purchase) == 2
        await counter.check_books()


async def test_what_was_refused_may_be_asked_for_again(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    case = await _ask(counter, _wrong(sold))
    for _ in range(2):
        refused = await counter.store.transact(lambda c: corrections.refuse(c, case.code, _origin(counter, "fin.zoe")))
    assert refused.state == "REFUSED"
    with pytest.raises(CorrectionRefused, match="was refused"):
        await _approve(counter, case)
    other = await _ask(counter, _wrong(sold, wrong="block"))
    assert other.code != case.code
    assert (await _approve(counter, other)).state == "VENDED"
    states = await counter.store.read(lambda connection: corrections.steps(connection, case.id))
    assert [(step.state, step.who) for step in states] == [("ASKED", "sup.ann"), ("REFUSED", "fin.zoe")]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(Kind.WRONG_METER, "?", 50_000, 0, METER, {"wrong": "debit"}), "on the service point that the sale"),
        (Wish(Kind.WRONG_METER, "?", 50_000, 0, "01405512029", {"wrong": "debit"}), "FAULTY"),
        (Wish(Kind.WRONG_METER, "?", 50_000, 0, "04012345601", {"wrong": "debit"}), "no meter"),
        (Wish(Kind.WRONG_METER, "NOSUCH", 50_000, 0, RIGHT, {"wrong": "debit"}), "no sale has the receipt"),
        (Wish(Kind.REFUND_TOKEN, "?", 50_001, 0, METER, {}), "at most the 50000 minor units"),
        (Wish(Kind.REFUND_TOKEN, "?", 0, 0, METER, {}), "above zero"),
        (Wish(Kind.REFUND_TOKEN, "?", 10_000, 0, RIGHT, {}), "to the meter of the sale"),
        (Wish(Kind.FAULTY_METER, "?", 10_000, 50, RIGHT, {"faulty": METER}), "a replaced one expected"),
    ],
)
async def test_a_wish_that_does_not_fit_its_sale_is_refused(tmp_path: Any, wish: Wish, said: str) -> None:
    from dataclasses import replace

    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        receipt = _receipt(await counter.buy(50_000))
        with pytest.raises(CorrectionRefused, match=said):
            await _ask(counter, replace(wish, receipt=receipt) if wish.receipt == "?" else wish)
        assert await counter.count(correction_tables.correction) == 0
        await counter.check_books()


async def test_only_the_last_sale_is_refunded_and_not_for_ever(counter: Counter) -> None:
    first = await counter.buy(50_000)
    await counter.buy(20_000)
    case = await _ask(counter, Wish(Kind.REFUND_MONEY, _receipt(first), 50_000, 0, "", {"to": "source"}))
    with pytest.raises(CorrectionRefused, match="only the last sale"):
        await _approve(counter, case)
    last = await counter.buy(10_000)
    late = await _ask(counter, Wish(Kind.REFUND_MONEY, _receipt(last), 10_000, 0, "", {"to": "source"}))
    counter.world.advance(days=31)
    with pytest.raises(CorrectionRefused, match="older than 30 days"):
        await _approve(counter, late)


async def test_a_pending_correction_keeps_the_sale_from_being_reversed(counter: Counter) -> None:
    await _ask(counter, _wrong(await counter.buy(50_000)))
    asked = Reversal("sms|r1", "sms|x", b"\0" * 16, "sms", "smsc", "bank", counter.world.now(), Evidence.NOT_SHOWN)
    result = await counter.store.submit(Reverse(counter.shop, asked))
    assert result is not None and result.reason is Reason.REFUNDED


async def test_a_refusal_of_pricing_leaves_nothing_behind(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    case = await _ask(counter, Wish(Kind.REFUND_TOKEN, _receipt(sold), 100, 0, METER, {}))
    with pytest.raises(Refusal):
        await _approve(counter, case)
    assert await counter.count(tables.txn, tables.txn.c.kind == "correction") == 0


# --- a module that must be waited for ---------------------------------------------------------------------------------


async def test_the_token_of_a_correction_is_made_by_the_running_gateway(database_url: str) -> None:
    from dataclasses import replace

    class Taken(Outgoing):
        def __init__(self) -> None:
            self.replies: list[Any] = []
            self.news = asyncio.Event()

        def enqueue(self, replies: list[Any]) -> None:
            self.replies.extend(replies)
            self.news.set()

    async with open_counter(database_url) as counter:
        sold = await counter.buy(50_000)
        case = await _ask(counter, _wrong(sold))
        office = Counter(replace(counter.shop, module=GatewaysModule()), counter.store, counter.world, counter.url)
        approved = await _approve(office, case)
        assert (approved.state, approved.done.replies) == ("VENDING", [])
        assert (await _approve(office, case)).again
        await counter.check_books()
        counter.world.advance(minutes=2)
        outgoing = Taken()
        desk = VendingDesk(counter.shop, counter.store, outgoing, Metrics())
        assert await desk.resume(at_start=False) == 1
        await asyncio.wait_for(outgoing.news.wait(), 60)
        assert [reply.message.key for reply in outgoing.replies] == ["corrected"]
        await desk.close()
        await counter.check_books()


@pytest.mark.parametrize("event", [Event.TOKEN_REFUSED, Event.GAVE_UP])
async def test_a_token_that_failed_is_tried_again_with_the_same_money(database_url: str, event: Event) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()))
    async with open_counter(database_url, module) as counter:
        (ask,) = (await counter.buy(50_000)).ask
        digits = [await module.make_later(asked.request) for asked in ask.requests]  # type: ignore[arg-type]
        sold = await counter.store.submit(
            Continue(counter.shop, ask.purchase_id, Event.TOKEN_MADE, digits, MAKERS * len(digits))
        )
        case = await _ask(counter, _wrong(sold))
        first = await _approve(counter, case)
        assert (await counter.available(case.account_code), first.state) == (0, "VENDING")
        failed = await counter.store.submit(
            Continue(counter.shop, first.done.ask[0].purchase_id, event, reason=Reason.MODULE_REFUSED)
        )
        assert (failed.state, failed.replies) == (State.RETURNED, [])  # operators see it; the customer hears nothing
        assert await counter.available(case.account_code) == 50_000
        await counter.check_books()
        second = await _approve(counter, case)
        assert not second.again and second.issue_id != first.issue_id
        (ask,) = second.done.ask
        digits = [await module.make_later(asked.request) for asked in ask.requests]  # type: ignore[arg-type]
        done = await counter.store.submit(
            Continue(counter.shop, ask.purchase_id, Event.TOKEN_MADE, digits, MAKERS * len(digits))
        )
        assert (done.state, await counter.available(case.account_code)) == (State.VENDED, 0)
        assert await counter.count(tables.debt, tables.debt.c.code == f"C-{case.code}") == 1
        await counter.check_books()


# --- account payments -------------------------------------------------------------------------------------------------


async def _pay(counter: Counter, who: str, amount_minor: int, reference: str = "slip 1", **values: Any) -> Any:
    of = await counter.store.read(lambda connection: statements.customer(connection, who))
    assert of is not None
    to = await counter.store.read(lambda connection: corrections.phone_of(connection, of.id))
    source = values.pop("source", "cash:office")
    deed = PayAccount(counter.shop, of, to, amount_minor, source, reference, "op.ann", **values)
    return await counter.store.submit(deed)


async def test_a_payment_without_energy_goes_to_debts_by_priority_and_then_to_the_wallet(counter: Counter) -> None:
    before = await _balances(counter)
    paid = await _pay(counter, FINED, 700_000)
    assert (paid.split["debts_minor"], paid.split["wallet_minor"]) == ({"DB-0004": 605_260}, 94_740)
    moved = {code: minor - before.get(code, 0) for code, minor in (await _balances(counter)).items()}
    assert {code: minor for code, minor in moved.items() if minor} == {
        "cash:office": -700_000,
        "receivable:arrears": 605_260,
        "wallet:A100010": 94_740,
    }
    (reply,) = paid.done.replies
    assert (reply.message.key, reply.recipient, reply.message.values["debt_minor"]) == ("account_paid", JOAO, 605_260)
    again = await _pay(counter, FINED, 700_000)
    assert (again.again, again.receipt) == (True, paid.receipt)
    with pytest.raises(PaymentRefused, match="another payment"):
        await _pay(counter, FINED, 700_001)
    assert await counter.count(tables.txn, tables.txn.c.kind == "account_payment") == 1
    # It is the last thing that changed the account: the sale before it is no longer the last.
    sold = await counter.buy(20_000, drn=FINED, sender=AGENT)
    assert sold.replies[0].message.values["debt_minor"] == 0


async def test_a_payment_after_a_sale_keeps_the_sale_from_being_reversed(counter: Counter) -> None:
    await counter.buy(60_000, drn=FINED, sender=AGENT, reference="m1")
    await _pay(counter, FINED, 10_000)
    asked = Reversal("sms|m1", "sms|x", b"\0" * 16, "sms", "smsc", "bank", counter.world.now(), Evidence.NOT_SHOWN)
    result = await counter.store.submit(Reverse(counter.shop, asked))
    assert result is not None and result.reason is Reason.REVERSAL_NOT_LAST


async def test_cash_taken_at_a_station_comes_out_of_its_float(counter: Counter) -> None:
    paid = await _pay(counter, "A100001", 50_000, source="float:ST002", only_wallet=True)
    assert paid.balance_minor == 200_000
    assert await counter.available("float:ST002") == 2_450_000
    with pytest.raises(Refusal) as refused:
        await _pay(counter, "A100001", 2_450_001, "slip 2", source="float:ST002")
    assert refused.value.reason is Reason.STATION_CREDIT_SPENT


async def test_a_fixed_charge_left_open_is_paid_with_its_tax(counter: Counter) -> None:
    point = sa.select(tables.meter.c.service_point_id).where(tables.meter.c.drn == METER).scalar_subquery()
    s = tables.service_point
    await counter.store.transact(
        lambda connection: connection.execute(s.update().where(s.c.id == point).values(fixed_shortfall_minor=11_600))
    )
    paid = await _pay(counter, METER, 20_000)
    assert (paid.split["fixed_minor"], paid.split["fixed_vat_minor"], paid.split["wallet_minor"]) == (
        11_600,
        1_600,
        8_400,
    )


async def test_a_statement_shows_every_entry_with_its_balance(counter: Counter) -> None:
    await counter.buy(50_000)
    counter.world.advance(days=1)
    since = counter.world.now()
    await _pay(counter, "A100001", 30_000)
    counter.world.advance(minutes=1)
    sold = await counter.buy(20_000)
    case = await _ask(counter, Wish(Kind.REFUND_MONEY, _receipt(sold), 20_000, 0, "", {"to": "source"}))
    counter.world.advance(minutes=1)
    await _approve(counter, case)
    of = await counter.store.read(lambda connection: statements.customer(connection, AMINA))
    assert of is not None and of.account_no == "A100001"

    def told(connection: sa.Connection, since: Any, until: Any) -> list[Entry]:
        return list(statements.entries(connection, of.wallet_id, since, until))

    whole = await counter.store.read(lambda connection: told(connection, None, None))
    assert [(entry.kind, entry.amount_minor, entry.balance_minor) for entry in whole] == [
        ("opening", 150_000, 150_000),
        ("sale", -50_000, 100_000),
        ("account_payment", 30_000, 130_000),
        ("sale", -20_000, 110_000),
        ("refund", 20_000, 130_000),
    ]
    part = await counter.store.read(lambda connection: told(connection, since, since + timedelta(seconds=61)))
    assert part == whole[2:4]
