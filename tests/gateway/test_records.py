"""Customers, service points, meters and debts changed by staff while customers buy; on both databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa

from channels.commands import Statement
from gateway.commands.records import next_key
from gateway.purchase import State
from gateway.reversal import Evidence, Reversal, Reverse, Reversed
from gateway.vend import Done
from ledger import audit, customers, debts, metermoves, overview, service_points, tables
from ledger.changes import ChangeRefused, Fault
from ledger.debts import Agreement
from ledger.meterlife import Deed
from ledger.metermoves import TakenDown
from ledger.operators import OperatorFault, OperatorRefused
from ledger.pricing import DebtMode
from ledger.reasons import Reason
from ledger.store import open_store
from ledger.trial_balance import trial_balance
from tests.simulation.shop import AMINA, METER, Counter, open_counter
from tests.simulation.staff import AUDITOR, ENGINEER, FINANCE, SUPERVISOR, SUPPORT, Staff

POINT = "SP-20001"
BRIAN = "254711027158"  # A100002, debt DB-0001 of 4,200.00 at 30 %
NEW_PHONE = "254733000001"


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened


@pytest.fixture
async def staff(counter: Counter) -> AsyncIterator[Staff]:
    people = Staff(counter)
    yield people
    await people.check()


def _units(done: Done) -> int:
    assert done.state is State.VENDED, done.reason
    return int(done.replies[0].message.values["units_tenths"])


# --- customers --------------------------------------------------------------------------------------------------------


async def test_a_new_customer_gets_point_meter_and_phone_and_buys(staff: Staff, counter: Counter) -> None:
    await staff.do(
        customers.add, "A900001", name="Neema Said", category="DOMESTIC", language="sw", phones=[NEW_PHONE], by=SUPPORT
    )
    await staff.do(service_points.add, "SP-90001", account_no="A900001", area="Lamu", tariff_code="D2-IBT", by=SUPPORT)
    drn = await staff.new_meter()
    done = await counter.buy(drn=drn, sender=NEW_PHONE)
    assert done.reason is Reason.METER_BLOCKED  # with the fitter
    meter = await staff.do(metermoves.install, drn, "SP-90001", next_key, by=ENGINEER)
    assert meter.next_key is not None and ".02." in meter.next_key  # blocks are tariff index 02
    assert (await counter.buy(drn=drn, sender=NEW_PHONE)).reason is Reason.FUNDS_SHORT
    assert (await counter.buy(drn=drn)).state is State.VENDED  # Amina pays for it
    seen = await staff.read(overview.of_customer, "A900001")
    assert (seen.customer.language, seen.phones, seen.wallet_minor) == ("sw", (NEW_PHONE,), 0)
    assert [(place.code, [m.drn for m in place.meters]) for place in seen.points] == [("SP-90001", [drn])]
    assert [(one.drn, one.amount_minor) for one in seen.last] == [(drn, 50_000)]


async def test_every_change_says_who_when_from_where_what_and_why(staff: Staff, counter: Counter) -> None:
    await staff.do(customers.change, "A100001", name="Amina H. Hassan", by=SUPPORT, reason="married")
    (row,) = await staff.read(audit.latest, 1)
    assert (row.who, row.at, row.place, row.deed, row.subject, row.reason) == (
        "sup.ana",
        counter.world.now(),
        "terminal test",
        "customers.changed",
        "customer A100001",
        "married",
    )
    assert (json.loads(row.before), json.loads(row.after)) == (
        {"name": "Amina Hassan"},
        {"name": "Amina H. Hassan"},
    )


async def test_a_phone_is_let_in_and_out_and_belongs_to_one_account(staff: Staff, counter: Counter) -> None:
    assert (await counter.buy(sender=NEW_PHONE)).reason is Reason.PAYER_UNKNOWN
    await staff.do(customers.add_phone, "A100001", NEW_PHONE, by=SUPPORT)
    assert (await counter.buy(10_000, sender=NEW_PHONE)).state is State.VENDED
    for account, phone, fault in (
        ("A100001", NEW_PHONE, Fault.SAME),
        ("A100002", NEW_PHONE, Fault.OTHER_OWNER),
        ("A100002", "254722000002", Fault.OTHER_OWNER),  # a station's
        ("A100002", "0722", Fault.FORM),
        ("A1", NEW_PHONE, Fault.UNKNOWN),
    ):
        with pytest.raises(ChangeRefused) as refused:
            await staff.do(customers.add_phone, account, phone, by=SUPPORT)
        assert refused.value.fault is fault
    await staff.do(customers.remove_phone, "A100001", NEW_PHONE, by=SUPPORT)
    assert (await counter.buy(20_000, sender=NEW_PHONE)).reason is Reason.PAYER_UNKNOWN


async def test_customers_are_found_by_account_phone_meter_and_part_of_the_name(staff: Staff) -> None:
    async def found(**wanted: Any) -> list[str]:
        return [customer.account_no for customer in (await staff.read(customers.find, **wanted)).customers]

    assert await found(account_no="A100003") == ["A100003"]
    assert await found(phone=BRIAN) == ["A100002"]
    assert await found(drn=METER) == ["A100001"]
    assert await found(name="amina") == ["A100001"]
    assert await found(name="%") == await found(drn="04012345677") == []
    pages, after = [], ""
    while True:
        page = await staff.read(customers.find, name="a", after=after, at_most=7)
        pages.append([customer.account_no for customer in page.customers])
        if page.next_after is None:
            break
        after = page.next_after
    together = [account for one in pages for account in one]
    assert together == sorted(set(together)) == await found(name="a", at_most=500) and len(pages) > 1


async def test_an_account_is_closed_only_when_nothing_is_left_on_it(staff: Staff, counter: Counter) -> None:
    with pytest.raises(ChangeRefused, match="DB-0001 of 4200.00 KES; 1200.00 KES in the wallet") as refused:
        await staff.do(customers.close, "A100002", minor_digits=2)
    assert refused.value.fault is Fault.NOT_SETTLED and "meter 07003012213 hangs at SP-20002" in str(refused.value)
    await staff.do(customers.add, "A900001", name="N", category="DOMESTIC", language="en", phones=[NEW_PHONE])
    with pytest.raises(OperatorRefused):
        await staff.do(customers.close, "A900001", minor_digits=2, by=SUPPORT)
    await staff.do(customers.close, "A900001", minor_digits=2)
    assert (await counter.buy(sender=NEW_PHONE)).reason is Reason.PAYER_UNKNOWN
    for deed, *arguments in (
        (customers.close, "A900001"),
        (customers.add_phone, "A900001", NEW_PHONE),
        (service_points.transfer, POINT, "A900001"),
    ):
        named: dict[str, Any] = {"minor_digits": 2} if deed is customers.close else {}
        with pytest.raises(ChangeRefused) as refused:
            await staff.do(deed, *arguments, **named)
        assert refused.value.fault is Fault.CLOSED


# --- roles and reasons ------------------------------------------------------------------------------------------------


async def test_who_has_not_the_role_or_gives_no_reason_changes_nothing(staff: Staff) -> None:
    terms = Agreement(1, DebtMode.FIRST)
    deeds: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Any]]] = [
        (customers.change, ("A100001",), {"name": "x"}, [ENGINEER, FINANCE, AUDITOR]),
        (customers.close, ("A100001",), {"minor_digits": 2}, [SUPPORT, AUDITOR]),
        (service_points.set_tariff, (POINT, "D2-IBT", next_key), {}, [SUPPORT, ENGINEER, AUDITOR]),
        (service_points.set_free_units, (POINT, 50), {}, [SUPPORT, AUDITOR]),
        (service_points.transfer, (POINT, "A100002"), {}, [ENGINEER, AUDITOR]),
        (service_points.transfer, (POINT, "A100002"), {"debts_stay": True}, [SUPPORT]),
        (metermoves.block, (METER,), {}, [SUPPORT, FINANCE, AUDITOR]),
        (metermoves.remove, (METER, TakenDown()), {}, [SUPPORT, SUPERVISOR, AUDITOR]),
        (debts.add, ("D1",), dict(point=POINT, kind="OTHER", amount_minor=1, agreement=terms), [SUPPORT, AUDITOR]),
        (debts.suspend, ("DB-0001",), {}, [SUPPORT, ENGINEER, AUDITOR]),
    ]
    for deed, arguments, named, people in deeds:
        for by in people:
            with pytest.raises(OperatorRefused) as refused:
                await staff.do(deed, *arguments, by=by, **named)
            assert refused.value.fault is OperatorFault.ROLE_MISSING
        able = ENGINEER if deed is metermoves.remove else SUPERVISOR
        with pytest.raises(ChangeRefused) as without:
            await staff.do(deed, *arguments, by=able, reason="  ", **named)
        assert without.value.fault is Fault.REASON
    assert await staff.read(audit.latest, 10) == []


# --- service points ---------------------------------------------------------------------------------------------------


async def test_another_tariff_holds_for_the_next_purchase_and_no_month_is_charged_twice(
    staff: Staff, counter: Counter
) -> None:
    assert _units(await counter.buy(20_000)) == 91  # single rate: 200 / 22.1328, up
    counter.world.advance(days=62)  # two months later; single rate has no fixed charge, D3-LEVY has a monthly one
    meter = await staff.do(service_points.set_tariff, POINT, "D3-LEVY", next_key, by=FINANCE)
    assert meter is not None and meter.next_key == "600801.2.03.2.255.2014.7.2"
    point = await staff.point(POINT)
    local = counter.shop.local(counter.world.now())
    assert (point.fixed_shortfall_minor, point.fixed_through_month) == (0, f"{local:%Y-%m}")
    done = await counter.buy(20_000)
    assert done.state is State.VENDED and "fixed_minor" in done.replies[0].message.values
    assert done.replies[0].message.values["fixed_minor"] == 0
    counter.world.advance(days=31)
    levied = await counter.buy(30_000)
    assert levied.replies[0].message.values["fixed_minor"] > 0
    counter.world.advance(days=92)  # three more months fall due; the old tariff asks for them, the new one does not
    await staff.do(service_points.set_tariff, POINT, "D1-FLAT", next_key)
    point = await staff.point(POINT)
    assert point.fixed_shortfall_minor == 3 * 17_400  # 150.00 with VAT of 16 %, rules 2.1 (522.00)
    with pytest.raises(ChangeRefused) as refused:
        await staff.do(service_points.set_tariff, POINT, "D1-FLAT", next_key)
    assert refused.value.fault is Fault.SAME
    with pytest.raises(ChangeRefused) as refused:
        await staff.do(service_points.set_tariff, POINT, "D9", next_key)
    assert refused.value.fault is Fault.UNKNOWN


async def test_free_units_come_with_the_next_purchase_of_the_month_once_they_are_granted(
    staff: Staff, counter: Counter
) -> None:
    await staff.do(service_points.set_free_units, POINT, 25, by=FINANCE)
    kinds = [token["kind"] for token in (await counter.buy()).replies[0].message.values["tokens"]]
    assert kinds == ["credit", "free"]
    await staff.do(service_points.set_free_units, POINT, None, by=FINANCE)
    for wrong in (0, -1, 1_001):
        with pytest.raises(ChangeRefused) as refused:
            await staff.do(service_points.set_free_units, POINT, wrong, by=FINANCE)
        assert refused.value.fault is Fault.FORM


async def test_who_moves_in_finds_the_counter_and_no_debt_of_who_moved_out(staff: Staff, counter: Counter) -> None:
    await counter.buy(20_000)
    await staff.do(service_points.set_free_units, POINT, 25)
    await staff.do(service_points.transfer, POINT, "A100002", by=SUPPORT)
    point = await staff.point(POINT)
    assert (point.month_units_tenths, point.free_kwh_per_month) == (91, None)
    before = await staff.read(overview.of_customer, "A100001")
    after = await staff.read(overview.of_customer, "A100002")
    assert before.points == () and before.last == ()
    assert [place.code for place in after.points] == [POINT, "SP-20002"] and after.last == ()  # not the other's sales
    # Brian has two meters now, so a wish without a number is asked about, and Amina's phone has none.
    assert (await counter.buy(drn=None, sender=BRIAN)).reason is Reason.METER_NEEDED
    assert (await counter.buy(drn=None)).reason is Reason.METER_NEEDED
    history = await staff.read(service_points.history, point=point.id)
    assert [(one.deed, one.before, one.after) for one in history] == [("TRANSFER", "A100001", "A100002")]


async def test_debts_are_settled_taken_along_or_taken_over_when_somebody_moves_out(staff: Staff) -> None:
    with pytest.raises(ChangeRefused, match="account A100002 has not paid debt DB-0001: settle") as refused:
        await staff.do(service_points.transfer, "SP-20002", "A100001")
    assert refused.value.fault is Fault.NOT_SETTLED
    with pytest.raises(ChangeRefused) as refused:
        await staff.do(service_points.transfer, "SP-20002", "A100001", debts_to=POINT)  # somebody else's
    assert refused.value.fault is Fault.OTHER_OWNER
    with pytest.raises(ChangeRefused) as refused:
        await staff.do(service_points.transfer, "SP-20002", "A100001", debts_to="SP-20002")
    assert refused.value.fault is Fault.OTHER_OWNER
    await staff.do(service_points.add, "SP-90002", account_no="A100002", area="Lamu", tariff_code="D1-FLAT")
    await staff.do(service_points.transfer, "SP-20002", "A100001", debts_to="SP-90002")
    assert [place for place, _ in await staff.read(debts.of_customer, "A100002")] == ["SP-90002"]
    await staff.do(service_points.transfer, "SP-90002", "A100003", debts_stay=True)
    assert [debt.code for _, debt in await staff.read(debts.of_customer, "A100003")] == ["DB-0001"]


async def test_what_rounding_kept_goes_to_the_wallet_of_who_moves_out(staff: Staff, counter: Counter) -> None:
    payer, drn, point = AMINA, "14900000028", "SP-20019"  # rounds down and keeps the rest
    await staff.do(debts.write_off, "DB-0006", by=FINANCE, beside=SUPERVISOR)
    await counter.buy(100_000, drn=drn, sender=payer)
    kept = (await staff.point(point)).carry_minor
    assert kept > 0
    wallet = await counter.available("wallet:A100019")
    # Daily charges have been asked for up to today by the purchase.
    await staff.do(service_points.transfer, point, "A100001")
    assert await counter.available("wallet:A100019") == wallet + kept
    assert (await staff.point(point)).carry_minor == 0
    with pytest.raises(ChangeRefused) as refused:
        await staff.do(customers.pay_out_carry, "A100001")
    assert refused.value.fault is Fault.SAME


async def _undo(counter: Counter, reference: str) -> Reversed | None:
    asked = Reversal(
        original=f"sms|{reference}",
        key=f"sms|reversal of {reference}",
        fingerprint=bytes(16),
        channel="sms",
        peer="smsc",
        who="bank",
        asked_at=counter.world.now(),
        evidence=Evidence.NOT_SHOWN,
    )
    return await counter.store.submit(Reverse(counter.shop, asked))


@pytest.mark.parametrize("deed", ["carry", "write-off"])
async def test_a_sale_is_not_undone_once_what_it_left_was_settled(staff: Staff, counter: Counter, deed: str) -> None:
    drn, point = "14900000028", "SP-20019"  # rounds down and keeps the rest; its debt takes part of every purchase
    await counter.buy(100_000, drn=drn, sender=AMINA, reference="m1")
    if deed == "carry":
        await staff.do(customers.pay_out_carry, "A100019")
    else:
        await staff.do(debts.write_off, "DB-0006", by=FINANCE, beside=SUPERVISOR)
    before = await staff.point(point)
    result = await _undo(counter, "m1")
    assert result is not None and result.reason is Reason.REVERSAL_NOT_LAST
    assert await staff.point(point) == before


async def test_a_sale_is_not_undone_on_an_account_that_was_closed(staff: Staff, counter: Counter) -> None:
    await staff.do(customers.add, "A900001", name="N", category="DOMESTIC", language="en", phones=[], by=SUPPORT)
    await staff.do(service_points.add, "SP-90001", account_no="A900001", area="Lamu", tariff_code="D2-IBT", by=SUPPORT)
    drn = await staff.new_meter()
    await staff.do(metermoves.install, drn, "SP-90001", next_key, by=ENGINEER)
    await counter.buy(drn=drn, reference="m1")
    await staff.do(metermoves.remove, drn, TakenDown(), by=ENGINEER)
    await staff.do(customers.close, "A900001", minor_digits=2)
    result = await _undo(counter, "m1")
    assert result is not None and result.reason is Reason.REVERSAL_NOT_LAST


# --- meters -----------------------------------------------------------------------------------------------------------


async def test_a_replacement_keeps_counter_debts_and_history_and_tells_the_new_number(
    staff: Staff, counter: Counter
) -> None:
    point, drn, sender = "SP-20002", "07003012213", BRIAN
    first = await counter.buy(20_000, drn=drn, sender=sender)
    receipt = first.replies[0].message.values["receipt"]
    before = await staff.point(point)
    debt = await staff.debt("DB-0001")
    new = await staff.new_meter()
    done = await staff.do(
        metermoves.replace,
        drn,
        new,
        next_key,
        TakenDown(123_456, 42, (receipt,)),
        by=ENGINEER,
        reason="display dark",
    )
    assert (done.old.status, done.old.service_point_id, done.old.replaced_by) == ("REMOVED", None, new)
    assert (done.new.status, done.new.next_key) == ("INSTALLED", None)
    assert [one.receipt for one in done.last] == [receipt]
    assert await staff.point(point) == before and await staff.debt("DB-0001") == debt
    refused = await counter.buy(20_000, drn=drn, sender=sender)
    assert refused.reason is Reason.METER_REPLACED
    assert refused.replies[0].message.values["new_drn"] == new
    again = await counter.buy(20_000, drn=None, sender=sender)  # the only meter of the phone's customer
    assert again.state is State.VENDED and again.replies[0].message.values["drn"] == new
    assert (await staff.point(point)).month_units_tenths == before.month_units_tenths + _units(again)
    assert (await staff.debt("DB-0001")).outstanding_minor == debt.outstanding_minor - 6_000
    of_point = await staff.read(service_points.history, point=before.id)
    assert [(one.deed, one.drn, one.other_drn) for one in of_point] == [("REMOVE", drn, new), ("INSTALL", new, drn)]
    assert (of_point[0].reading_tenths, of_point[0].credit_tenths) == (123_456, 42)
    assert [one["receipt"] for one in json.loads(of_point[0].claim or "[]")] == [receipt]
    sales = await staff.read(overview.sales_at, before.id)
    assert [one.drn for one in sales] == [new, drn]


async def test_a_meter_that_comes_back_from_repair_buys_at_its_new_place(staff: Staff, counter: Counter) -> None:
    new = await staff.new_meter()
    await staff.do(metermoves.replace, METER, new, next_key, TakenDown(), by=ENGINEER)
    for deed in ("REPAIR", "RESTOCK", "ISSUE"):
        await staff.do(metermoves.move, METER, Deed(deed), by=ENGINEER)
    await staff.do(service_points.add, "SP-90003", account_no="A100002", area="Lamu", tariff_code="D1-FLAT")
    await staff.do(metermoves.install, METER, "SP-90003", next_key, by=ENGINEER, reading_tenths=5)
    assert (await counter.buy(drn=METER)).state is State.VENDED
    assert (await counter.buy(20_000, drn=new)).state is State.VENDED
    assert (await staff.point("SP-90003")).month_units_tenths == 226


async def test_a_deed_that_the_life_of_a_meter_does_not_have_changes_nothing(staff: Staff, counter: Counter) -> None:
    fresh, stock = await staff.new_meter(), await staff.new_meter(issued=False)
    deeds: list[tuple[Any, tuple[Any, ...], Fault]] = [
        (metermoves.unblock, (METER,), Fault.STATUS),
        (metermoves.move, (METER, Deed.SCRAP), Fault.STATUS),
        (metermoves.move, (METER, Deed.ISSUE), Fault.STATUS),
        (metermoves.block, (stock,), Fault.STATUS),
        (metermoves.install, (stock, POINT, next_key), Fault.POINT_TAKEN),
        (metermoves.install, (fresh, POINT, next_key), Fault.POINT_TAKEN),
        (metermoves.install, (fresh, "SP-0", next_key), Fault.UNKNOWN),
        (metermoves.replace, (METER, stock, next_key, TakenDown()), Fault.STATUS),
        (metermoves.replace, (METER, METER, next_key, TakenDown()), Fault.SAME),
        (metermoves.replace, (METER, "07003012221", next_key, TakenDown()), Fault.STATUS),
        (metermoves.replace, (METER, fresh, next_key, TakenDown(reading_tenths=-1)), Fault.FORM),
        (metermoves.remove, (METER, TakenDown(not_entered=("0000000000000",))), Fault.UNKNOWN),
        (metermoves.remove, (stock, TakenDown()), Fault.STATUS),
        (metermoves.block, ("04012345677",), Fault.UNKNOWN),
    ]
    written = len(await staff.read(audit.latest, 100))
    for deed, arguments, fault in deeds:
        with pytest.raises(ChangeRefused) as refused:
            await staff.do(deed, *arguments, by=ENGINEER)
        assert refused.value.fault is fault, (deed.__name__, arguments)
    assert len(await staff.read(audit.latest, 100)) == written
    assert (await counter.buy()).state is State.VENDED


async def test_the_database_itself_holds_one_meter_a_service_point(staff: Staff, counter: Counter) -> None:
    at = (await staff.point(POINT)).id
    m = tables.meter
    with pytest.raises(sa.exc.IntegrityError):
        await counter.store.transact(
            lambda connection: connection.execute(
                m.update().where(m.c.drn == "07003012213").values(service_point_id=at)
            )
        )


async def test_a_block_and_its_end_are_seen_at_once_by_a_gateway_that_runs_elsewhere(
    staff: Staff, counter: Counter
) -> None:
    # The gateway has tariffs in memory and its writer's connection open; the staff comes by a store of its own.
    assert (await counter.buy(10_000)).state is State.VENDED
    other = await open_store(counter.url)
    try:
        office = Staff(counter, store=other)
        await office.do(metermoves.block, METER)
        assert (await counter.buy(20_000)).reason is Reason.METER_BLOCKED
        await office.do(metermoves.unblock, METER)
        await office.do(service_points.set_tariff, POINT, "D2-IBT", next_key)
        done = await counter.buy(30_000)
        assert done.state is State.VENDED
        rows = await staff.read(lambda connection: connection.execute(sa.select(tables.purchase.c.tariff_code)).all())
        assert [row.tariff_code for row in rows if row.tariff_code is not None] == ["D1-FLAT", "D2-IBT"]
        await office.do(customers.remove_phone, "A100001", AMINA)
        assert (await counter.buy(40_000)).reason is Reason.PAYER_UNKNOWN
    finally:
        await other.close()


# --- debts ------------------------------------------------------------------------------------------------------------


async def test_a_debt_is_added_to_the_books_recovered_and_written_off(staff: Staff, counter: Counter) -> None:
    before = {line.code: line for line in await counter.store.read(trial_balance)}
    added = await staff.do(
        debts.add,
        "D-1",
        point=POINT,
        kind="CONNECTION_FEE",
        amount_minor=30_000,
        agreement=Agreement(
            1, DebtMode.FIXED, 10_000, number="AG-90", signed_on=date(2026, 6, 1), default_rule="FIRST"
        ),
        by=FINANCE,
        beside=SUPERVISOR,
    )
    assert (added.state, added.approved_by, added.agreement_no) == ("ACTIVE", "sup.kim", "AG-90")
    await counter.check_books()
    done = await counter.buy(20_000)
    assert done.replies[0].message.values["debt_minor"] == 10_000
    statement = await counter.ask(Statement())
    assert statement.replies[0].message.values["debt_minor"] == 20_000
    counter.world.advance(seconds=200)
    assert (await counter.buy(20_000)).replies[0].message.values["debt_minor"] == 0  # one instalment a month
    await staff.do(debts.change, "D-1", mode=DebtMode.PERCENT, percent="25", by=FINANCE)
    counter.world.advance(seconds=200)
    assert (await counter.buy(20_000)).replies[0].message.values["debt_minor"] == 5_000
    await staff.do(debts.suspend, "D-1", by=FINANCE, reason="disputed")
    counter.world.advance(seconds=200)
    assert (await counter.buy(20_000)).replies[0].message.values["debt_minor"] == 0
    part = await staff.do(debts.write_off, "D-1", 4_000, by=FINANCE, beside=SUPERVISOR)
    assert (part.outstanding_minor, part.state) == (11_000, "SUSPENDED")
    await staff.do(debts.resume, "D-1", by=FINANCE)
    gone = await staff.do(debts.write_off, "D-1", by=SUPERVISOR, beside=FINANCE)
    assert (gone.outstanding_minor, gone.state) == (0, "WRITTEN_OFF")
    after = {line.code: line for line in await counter.store.read(trial_balance)}
    assert after["receivable:arrears"] == before["receivable:arrears"]
    assert after["charged:connection_fee"].credit_minor == 30_000
    assert after["expense:written_off"].debit_minor == 15_000


async def test_a_write_off_takes_two_people_and_no_more_than_is_owed(staff: Staff) -> None:
    for by, beside, expected in (
        (FINANCE, None, OperatorFault.SECOND),
        (FINANCE, FINANCE, OperatorFault.SAME_PERSON),
        (FINANCE, ENGINEER, OperatorFault.ROLE_MISSING),
        (ENGINEER, FINANCE, OperatorFault.ROLE_MISSING),
    ):
        with pytest.raises(OperatorRefused) as refused:
            await staff.do(debts.write_off, "DB-0001", by=by, beside=beside)
        assert refused.value.fault is expected
    for amount, fault in ((420_001, Fault.FORM), (0, Fault.FORM), (-5, Fault.FORM)):
        with pytest.raises(ChangeRefused) as wrong:
            await staff.do(debts.write_off, "DB-0001", amount, by=FINANCE, beside=SUPERVISOR)
        assert wrong.value.fault is fault
    await staff.do(debts.write_off, "DB-0001", by=FINANCE, beside=SUPERVISOR)
    for deed in (debts.write_off, debts.suspend, debts.resume):
        with pytest.raises(ChangeRefused) as wrong:
            await staff.do(deed, "DB-0001", by=FINANCE, beside=SUPERVISOR)
        assert wrong.value.fault is Fault.STATUS


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (Agreement(1, DebtMode.PERCENT, percent="0.3"), "30 means 30 %"),
        (Agreement(1, DebtMode.PERCENT, percent="101"), "at most 100"),
        (Agreement(1, DebtMode.PERCENT), "more than 0"),
        (Agreement(1, DebtMode.PERCENT, percent="1e9"), "a decimal"),
        (Agreement(1, DebtMode.PERCENT, percent="NaN"), "a decimal"),
        (Agreement(1, DebtMode.FIXED), "more than zero a month"),
        (Agreement(-1, DebtMode.FIRST), "priority"),
        (Agreement(1, DebtMode.FIRST, number="A\nB"), "agreement"),
    ],
)
async def test_terms_that_cannot_be_kept_are_refused(tmp_path: Any, terms: Agreement, said: str) -> None:
    async with open_counter(f"sqlite:///{tmp_path}/t.db") as counter:
        with pytest.raises(ChangeRefused, match=said) as refused:
            await Staff(counter).do(
                debts.add, "D-1", point=POINT, kind="OTHER", amount_minor=100, agreement=terms, by=FINANCE
            )
        assert refused.value.fault is Fault.FORM


async def test_debts_are_listed_by_age(staff: Staff, counter: Counter) -> None:
    today = counter.shop.local(counter.world.now()).date()
    for days, group in ((0, "0 to 30 days"), (31, "31 to 60 days"), (90, "61 to 90 days"), (91, "over 90 days")):
        await staff.do(
            debts.add,
            f"D-{days}",
            point=POINT,
            kind="TAMPER_FINE",
            amount_minor=100,
            agreement=Agreement(days, DebtMode.FIRST),
            opened_on=date.fromordinal(today.toordinal() - days),
            by=FINANCE,
        )
        (debt,) = [one for _, one in await staff.read(debts.of_customer, "A100001") if one.code == f"D-{days}"]
        assert debt.age(today) == group
    debt = await staff.read(debts.known, "DB-0001")
    assert debt.opened_on == date(2025, 11, 1) and debt.age(today) == "over 90 days"
    assert replace(debt, opened_on=None).age(today) == "unknown"
