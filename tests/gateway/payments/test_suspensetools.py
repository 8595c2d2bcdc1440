"""`prepaid suspense` as it is typed by two people, and what goes back to its source."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from channels.commands import Unreadable
from config.settings import Settings
from gateway.commands import suspense
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.payments.contract import Can, Event, PaymentState, Unknown
from gateway.payments.desk import PaymentDesk
from gateway.vend import Shop
from ledger import audit, payment_tables
from ledger import suspense as refunds
from ledger.reasons import Reason
from ledger.records import ensure_accounts
from ledger.store import open_store
from sts.modules.software import SoftwareModule
from tests.gateway.payments.till import MPESA, STRANGER, Sent, Till
from tests.gateway.terminal import Terminal
from tests.simulation.mobile_money import MobileMoney
from tests.simulation.shop import METER, UTILITY, Counter, sample_keys


@pytest.fixture
def office(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    # The settings of the command name the source that `_at_the_source` plays.
    monkeypatch.setattr(suspense, "made", lambda *_: [(MPESA, MobileMoney())])
    return Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()


def _at_the_source(
    office: Terminal, money: MobileMoney, work: Callable[[Till], Awaitable[None]], *, agrees: bool = True
) -> None:
    """Let payments happen in the office's books; `agrees`: they are at one with the source's statement after that."""

    async def run() -> None:
        store = await open_store(office.url)
        shop = Shop.of(Settings(utility=UTILITY, payment=(MPESA,)), office.world, SoftwareModule(sample_keys()))
        accounts = ["clearing:mpesa", "suspense:mpesa"]
        await store.transact(lambda connection: ensure_accounts(connection, accounts, "KES"))
        sent = Sent()
        desk = VendingDesk(shop, store, sent, Metrics())
        payments = PaymentDesk(shop, store, desk, [(MPESA, money)], Metrics())
        till = Till(Counter(shop, store, office.world, office.url), desk, payments, money, sent, MPESA)
        try:
            await work(till)
            await till.settle()
            await (till.check() if agrees else till.counter.check_books())
        finally:
            await payments.close()
            await desk.close()
            await store.close()

    asyncio.run(run())


def _code(office: Terminal) -> str:
    return office.well("suspense list --as cc.pam").split()[1]


def test_money_is_put_into_a_wallet_by_two_people(office: Terminal) -> None:
    money = MobileMoney(now=office.world.now)
    _at_the_source(office, money, lambda till: till.hears(money.paybill(STRANGER, "rent", 30_000)))
    listed = office.well("suspense list --as cc.pam")
    assert "mpesa  300.00  METER_UNKNOWN  OPEN  0 days" in listed
    code = _code(office)
    office.no(f"suspense resolve {code} --wallet A100002 --as cc.pam --reason x", "has not the role")
    office.no(f"suspense resolve {code} --wallet A9 --as fin.zoe --reason x", "no customer")
    office.no(f"suspense resolve {code} --write-off --as fin.zoe --reason x", "only what its source took back")
    office.no(f"suspense approve {code} --as fin.zoe --reason agreed", "is OPEN, not ASKED")
    office.no("suspense show NOPE --as fin.zoe", "nothing in suspense")
    assert "another person" in office.well(
        f"suspense resolve {code} --wallet A100002 --as fin.zoe --reason 'his brother paid'"
    )
    office.no(f"suspense approve {code} --as fin.zoe --reason agreed", "two people are needed")
    for deed in ("approve", "refuse"):
        office.no(f"suspense {deed} {code} --as fin.max --reason ' '", "a --reason is expected")
    before = office.balance("wallet:A100002")
    assert "RESOLVED" in office.well(f"suspense approve {code} --as fin.max --reason agreed")
    assert office.balance("wallet:A100002") == before + 30_000 and office.balance("suspense:mpesa") == 0
    shown = office.well(f"suspense show {code} --as aud.kay")
    assert "ASKED WALLET A100002  fin.zoe: his brother paid" in shown and "WALLET by fin.max" in shown
    assert office.well("suspense list --as cc.pam") == ""
    office.check()


@pytest.mark.parametrize("how", [[], ["lost"], ["silent"]])
def test_a_refund_goes_back_once_whatever_gets_lost(office: Terminal, how: list[str]) -> None:
    money = MobileMoney(now=office.world.now)
    word = money.paybill(STRANGER, "rent", 30_000)
    _at_the_source(office, money, lambda till: till.hears(word))
    code = _code(office)
    office.well(f"suspense refund {code} --as fin.zoe --reason 'asked for it'")
    office.well(f"suspense refuse {code} --as fin.max --reason 'ask again'")
    office.well(f"suspense refund {code} --as fin.zoe --reason 'asked again'")
    assert "REFUNDING" in office.well(f"suspense approve {code} --as fin.max --reason agreed")
    money.refunds = list(how)

    async def give_back(till: Till) -> None:
        for _ in range(4):
            await till.payments.look_for_refunds()
            await till.settle()
            till.counter.world.advance(seconds=61)
        await till.hears(money_reversed)  # the source's own word of what we had it do

    money_reversed = replace(word, state=PaymentState.REVERSED)
    _at_the_source(office, money, give_back)
    assert len(money.refunded) == 1 and money.taken_minor == 0
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    assert "REFUNDED by fin.max" in office.well(f"suspense show {code} --as aud.kay")
    office.check()


def test_a_refund_that_its_source_declines_leaves_the_item_open(office: Terminal) -> None:
    money = MobileMoney(now=office.world.now, refunds=["declined"])
    _at_the_source(office, money, lambda till: till.hears(money.paybill(STRANGER, "rent", 30_000)))
    code = _code(office)
    office.well(f"suspense refund {code} --as fin.zoe --reason 'asked for it'")
    office.well(f"suspense approve {code} --as fin.max --reason agreed")

    async def look(till: Till) -> None:
        await till.payments.look_for_refunds()

    _at_the_source(office, money, look)
    assert "OPEN" in office.well("suspense list --as cc.pam")
    assert "FAILED REFUND" in office.well(f"suspense show {code} --as fin.zoe")
    assert office.balance("suspense:mpesa") == 30_000
    rows = office.read(lambda connection: connection.execute(payment_tables.source_refund.select()).all())
    assert [row.state for row in rows] == ["FAILED"]


def test_what_a_source_took_back_after_the_sale_is_written_off_by_two(office: Terminal) -> None:
    money = MobileMoney(now=office.world.now)
    word = money.paybill(STRANGER, METER, 30_000)

    async def sold_and_taken_back(till: Till) -> None:
        await till.hears(word, money.take_back(word))

    _at_the_source(office, money, sold_and_taken_back)
    code = _code(office)
    office.no(f"suspense refund {code} --as fin.zoe --reason x", "only what its source took back")
    office.well(f"suspense resolve {code} --write-off --as fin.zoe --reason 'the payer is gone'")
    office.well(f"suspense approve {code} --as fin.max --reason agreed")
    assert (office.balance("loss:payments"), office.balance("suspense:mpesa")) == (-30_000, 0)
    office.check()


@pytest.mark.parametrize("how", ["resolve {} --wallet A100002", "refund {}"])
def test_what_its_source_takes_back_while_people_decide_on_it_is_decided(office: Terminal, how: str) -> None:
    """The money is gone: nobody may put it into a wallet, give it back a second time, or buy with it."""
    money = MobileMoney(now=office.world.now)
    word = money.paybill(STRANGER, "rent", 30_000)
    _at_the_source(office, money, lambda till: till.hears(word))
    code = _code(office)
    office.well(f"suspense {how.format(code)} --as fin.zoe --reason 'his brother paid'")
    _at_the_source(office, money, lambda till: till.hears(money.take_back(word)))
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    office.no(f"suspense approve {code} --as fin.max --reason agreed", "is RESOLVED, not ASKED")
    assert "REVERSED by mpesa" in office.well(f"suspense show {code} --as aud.kay")
    office.check()


def test_a_refund_that_is_declined_because_its_source_took_the_money_back_itself_is_done(office: Terminal) -> None:
    money = MobileMoney(now=office.world.now, refunds=["declined"])
    word = money.paybill(STRANGER, "rent", 30_000)
    _at_the_source(office, money, lambda till: till.hears(word))
    code = _code(office)
    office.well(f"suspense refund {code} --as fin.zoe --reason 'asked for it'")
    office.well(f"suspense approve {code} --as fin.max --reason agreed")

    async def taken_back(till: Till) -> None:
        await till.hears(money.take_back(word))
        await till.payments.look_for_refunds()
        await till.settle()
        await till.text(Unreadable(Reason.AMOUNT_NEEDED, METER))
        assert await till.tokens() == 0

    _at_the_source(office, money, taken_back)
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    assert "REVERSED by mpesa" in office.well(f"suspense show {code} --as aud.kay")
    office.check()


@pytest.mark.parametrize(("by_what", "account"), [("cash", "cash:office"), ("bank", "clearing:bank")])
def test_money_given_back_by_hand_is_booked_by_two_people(office: Terminal, by_what: str, account: str) -> None:
    money = MobileMoney(now=office.world.now)
    _at_the_source(office, money, lambda till: till.hears(money.paybill(STRANGER, "rent", 40_000)))
    code, before = _code(office), office.balance(account)
    told = office.well(f"suspense resolve {code} --paid-out {by_what} --as fin.zoe --reason 'voucher 12, signed'")
    assert "another person approves it" in told
    office.no(f"suspense approve {code} --as fin.zoe --reason x", "two people")
    assert "RESOLVED" in office.well(f"suspense approve {code} --as fin.max --reason 'seen the voucher'")
    assert office.balance(account) == before + 40_000 and office.balance("suspense:mpesa") == 0
    assert "PAID_OUT by fin.max" in office.well(f"suspense show {code} --as fin.zoe")
    office.check()


def test_money_given_back_in_the_portal_of_its_source_leaves_its_clearing(office: Terminal) -> None:
    money = MobileMoney(now=office.world.now)
    _at_the_source(office, money, lambda till: till.hears(money.paybill(STRANGER, "rent", 40_000)))
    code = _code(office)
    office.well(f"suspense resolve {code} --paid-out source --as fin.zoe --reason 'reversed in the portal'")
    office.well(f"suspense approve {code} --as fin.max --reason 'seen it there'")
    assert office.balance("clearing:mpesa") == 0 and office.balance("suspense:mpesa") == 0
    office.check()


def test_a_source_that_gives_nothing_back_is_not_asked_for_it(
    office: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    money = MobileMoney(now=office.world.now)
    _at_the_source(office, money, lambda till: till.hears(money.paybill(STRANGER, "rent", 40_000)))
    code = _code(office)
    monkeypatch.setattr(suspense, "made", lambda *_: [(MPESA, MobileMoney(can=frozenset({Can.NOTIFY})))])
    office.no(f"suspense refund {code} --as fin.zoe --reason x", "mpesa as set up gives nothing back by itself")
    monkeypatch.setattr(suspense, "made", lambda *_: [])
    office.no(f"suspense refund {code} --as fin.zoe --reason x", "mpesa as set up gives nothing back by itself")


def test_a_refund_that_was_never_sent_is_taken_back(office: Terminal) -> None:
    money = MobileMoney(now=office.world.now, refunds=["lost"])
    _at_the_source(office, money, lambda till: till.hears(money.paybill(STRANGER, "rent", 40_000)))
    code = _code(office)
    for _ in range(2):
        office.well(f"suspense refund {code} --as fin.zoe --reason 'asked for it'")
        office.well(f"suspense approve {code} --as fin.max --reason agreed")
        assert "OPEN" in office.well(f"suspense refuse {code} --as fin.max --reason 'no key yet'")
    office.well(f"suspense refund {code} --as fin.zoe --reason 'asked again'")
    office.well(f"suspense approve {code} --as fin.max --reason agreed")

    async def ask(till: Till) -> None:
        await till.payments.look_for_refunds()
        await till.settle()

    _at_the_source(office, money, ask)  # of three refunds one is sent; whether it was heard is not known
    assert money.refunds == []
    office.no(f"suspense refuse {code} --as fin.max --reason x", "its source may have it")


# --- refunds that stay in doubt ---


@dataclass
class Mute(MobileMoney):
    """A source as M-Pesa is: it refuses what it has done already, and never says that it has."""

    async def refund_status(self, key: UUID, provider_ref: str) -> Unknown:
        return Unknown(is_certain=False)


def _in_doubt(office: Terminal, first: str) -> tuple[Mute, str]:
    """A source, and the code of an item whose refund it refuses since a first call that went so."""
    money = Mute(now=office.world.now, refunds=[first, *["declined"] * 50])
    _at_the_source(office, money, lambda till: till.hears(money.paybill(STRANGER, "rent", 30_000)))
    code = _code(office)
    office.well(f"suspense refund {code} --as fin.zoe --reason 'asked for it'")
    office.well(f"suspense approve {code} --as fin.max --reason agreed")
    _looks(office, money, 5)
    assert "REFUNDING" in office.well(f"suspense show {code} --as fin.zoe")
    return money, code


def _looks(office: Terminal, money: MobileMoney, times: int) -> None:
    async def look(till: Till) -> None:
        for _ in range(times):
            await till.payments.look_for_refunds()
            await till.settle()
            till.counter.world.advance(hours=2)

    _at_the_source(office, money, look, agrees=False)


def _deeds(office: Terminal) -> list[str]:
    return [row.deed for row in office.read(lambda connection: audit.latest(connection, 100))]


def test_a_refund_in_doubt_is_ended_as_done_by_two_people_of_finance(office: Terminal) -> None:
    money, code = _in_doubt(office, "silent")
    assert "UNCLEAR" in office.well(f"suspense show {code} --as aud.kay")
    office.no(f"suspense end-refund {code} --done RF1 --as op.ben --reason 'seen it'", "FINANCE")
    office.no(f"suspense end-refund {code} --done RF1 --as fin.zoe", "a --reason is expected")
    office.no(f"suspense end-refund {code} --done ' ' --as fin.zoe --reason x", "what its source calls the refund")
    told = office.well(f"suspense end-refund {code} --done RF1 --as fin.zoe --reason 'in the portal, line 7'")
    assert "REFUNDING" in told and "another person of FINANCE" in told
    office.no(f"suspense end-refund {code} --not-done --as fin.max --reason x", "asked for already")
    office.no(f"suspense approve {code} --as fin.zoe --reason seen", "two people are needed")
    office.no(f"suspense approve {code} --as op.ben --reason seen", "FINANCE")
    left = len(money.refunds)
    _looks(office, money, 2)
    assert len(money.refunds) == left  # nobody asks while people decide
    assert "RESOLVED" in office.well(f"suspense approve {code} --as fin.max --reason 'seen it too'")
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == money.taken_minor == 0
    shown = office.well(f"suspense show {code} --as aud.kay")
    assert "there RF1: DONE" in shown and "REFUNDED by fin.max" in shown and "in the portal, line 7" in shown
    (row,) = office.read(lambda connection: connection.execute(payment_tables.source_refund.select()).all())
    assert (row.state, row.provider_ref, row.next_ask_at) == ("DONE", "RF1", None)

    word = money.paybill(STRANGER, "rent", 30_000)
    _at_the_source(office, money, lambda till: till.hears(word))
    second = _code(office)
    office.well(f"suspense refund {second} --as fin.zoe --reason 'asked for it'")
    office.well(f"suspense approve {second} --as fin.max --reason agreed")
    office.no(f"suspense end-refund {second} --done RF2 --as fin.zoe --reason x", "never sent")
    money.refunds.insert(0, "lost")
    _looks(office, money, 2)
    office.no(f"suspense end-refund {second} --done RF1 --as fin.zoe --reason x", "another refund")
    office.check()


def test_a_late_word_of_what_people_ended_as_done_is_noted_and_not_booked_again(office: Terminal) -> None:
    money, code = _in_doubt(office, "silent")
    office.well(f"suspense end-refund {code} --done RF1 --as fin.zoe --reason 'in the portal'")
    office.well(f"suspense approve {code} --as fin.max --reason 'seen it too'")
    word = replace(_first_payment(office), state=PaymentState.REVERSED)
    _at_the_source(office, money, lambda till: till.hears(word))
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    events = office.read(lambda connection: connection.execute(payment_tables.payment_event.select()).all())
    assert ("REVERSED", "NOTED") in [(row.said, row.outcome) for row in events]
    assert _ends(office, "REFUSED") is refunds.Word.CONTRADICTS  # an answer that was on its way
    assert _ends(office, None) is refunds.Word.KNOWN
    assert "suspense.refund_late" in _deeds(office)
    assert "LATE REFUND" in office.well(f"suspense show {code} --as aud.kay")
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    office.check()


def _not_done(office: Terminal, code: str) -> None:
    office.well(f"suspense end-refund {code} --not-done --as fin.zoe --reason 'not in the portal'")
    office.no(f"suspense approve {code} --as fin.max --reason agreed", "may still be at it")
    office.world.advance(seconds=121)
    assert "OPEN" in office.well(f"suspense approve {code} --as fin.max --reason agreed")


def test_a_refund_in_doubt_is_ended_as_not_done_and_the_item_is_open_again(office: Terminal) -> None:
    money, code = _in_doubt(office, "lost")
    office.well(f"suspense end-refund {code} --not-done --as fin.zoe --reason 'not in the portal'")
    assert "REFUNDING" in office.well(f"suspense refuse {code} --as fin.max --reason 'look again'")
    left = len(money.refunds)
    _looks(office, money, 1)
    assert len(money.refunds) == left - 1  # it is asked again
    office.no(f"suspense refuse {code} --as fin.max --reason x", "its source may have it")
    _not_done(office, code)
    left = len(money.refunds)
    _looks(office, money, 2)
    assert len(money.refunds) == left and office.balance("suspense:mpesa") == 30_000
    office.well(f"suspense resolve {code} --wallet A100002 --as fin.zoe --reason 'his brother paid'")
    office.well(f"suspense approve {code} --as fin.max --reason agreed")
    # It was given back all the same: what was given to the wallet is a case for people, and nothing is booked twice.
    assert _ends(office, None) is refunds.Word.CONTRADICTS
    assert office.balance("suspense:mpesa") == 0 and "suspense.refund_late" in _deeds(office)
    word = money.take_back(_first_payment(office))
    _at_the_source(office, money, lambda till: till.hears(word))
    assert "-300.00  TAKEN_BACK  OPEN" in office.well("suspense list --as cc.pam")
    office.check()


def test_what_was_given_back_after_all_is_booked_once_while_its_item_is_open(office: Terminal) -> None:
    money, code = _in_doubt(office, "silent")
    _not_done(office, code)
    assert _ends(office, None) is refunds.Word.CONTRADICTS
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    assert "REFUNDED by mpesa" in office.well(f"suspense show {code} --as aud.kay")
    assert _ends(office, None) is refunds.Word.KNOWN
    word = replace(_first_payment(office), state=PaymentState.REVERSED)
    _at_the_source(office, money, lambda till: till.hears(word))
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    office.check()


def test_a_payment_that_its_source_has_taken_back_is_not_ended_as_not_done(office: Terminal) -> None:
    money, code = _in_doubt(office, "silent")
    office.well(f"suspense end-refund {code} --not-done --as fin.zoe --reason 'not in the portal'")
    office.world.advance(minutes=5)
    word = replace(_first_payment(office), state=PaymentState.REVERSED)
    _at_the_source(office, money, lambda till: till.hears(word), agrees=False)
    office.no(f"suspense approve {code} --as fin.max --reason agreed", "was taken back")
    office.well(f"suspense refuse {code} --as fin.max --reason 'it is done'")
    _looks(office, money, 1)
    assert "REVERSED by mpesa" in office.well(f"suspense show {code} --as aud.kay")
    assert office.balance("clearing:mpesa") == office.balance("suspense:mpesa") == 0
    office.check()


def _first_payment(office: Terminal) -> Event:
    """The word of the first payment that came in."""
    p = payment_tables.payment
    row = office.read(lambda connection: connection.execute(p.select().order_by(p.c.id)).first())
    return Event(
        PaymentState.SUCCESS,
        office.world.now(),
        receipt=row.receipt,
        payer=row.payer,
        account_ref=row.account_ref,
        amount_minor=row.amount_minor,
        currency=row.currency,
    )


def _ends(office: Terminal, why: str | None) -> refunds.Word:
    """The source's last word on the first refund comes in: that it is done, or why it will not be."""
    r, now, new_id = payment_tables.source_refund, office.world.now(), office.world.new_id()

    def write(connection: sa.Connection) -> refunds.Word:
        first = connection.execute(sa.select(r.c.id).order_by(r.c.id).limit(1)).scalar_one()
        return refunds.refund_ended(connection, first, why, new_id, now.date(), now, "node")

    word: refunds.Word = office.read(write)
    return word
