"""A statement is the last word: what no callback told comes in by it, and is vended or in suspense."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.bulk.progress import Progress
from gateway.settlement import taking
from gateway.settlement.desk import StatementDesk, phone_in
from gateway.settlement.mapping import load
from gateway.settlement.matching import Run
from gateway.settlement.reading import Terms
from gateway.settlement.taking import Statement
from ledger import payment_tables, settlement
from ledger.audit import Origin
from ledger.bulk.scratch import Scratch
from tests.gateway.payments.till import STRANGER, Till, open_till
from tests.simulation.shop import METER, UTILITY
from tests.simulation.utility import unknown_drn

ZONE = ZoneInfo(UTILITY.timezone)
HEADER = (
    "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Reason Type,Other Party Info,"
    "Linked Transaction ID,A/C No.\n"
)


NEUTRAL_HEADER = "value_date,provider,provider_ref,amount,fee,our_ref\n"


class _Dumb:
    """A stream that is no terminal."""

    def isatty(self) -> bool:
        return False


async def run(
    till: Till, tmp_path: Path, name: str, rows: list[str], mapping: str = "mpesa-organisation"
) -> dict[str, int]:
    """Take a statement in and match it; the classes."""
    counter, path = till.counter, tmp_path / name
    header = HEADER if mapping == "mpesa-organisation" else NEUTRAL_HEADER
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    now = counter.world.now()
    origin = Origin("fin.zoe", now, "test")
    statement = Statement("mpesa", path, load(mapping), Terms(ZONE, UTILITY.currency, 2, now, "mpesa"))
    progress = Progress(_Dumb())  # type: ignore[arg-type]
    with Scratch() as scratch:
        taking.check(statement, scratch, progress)
        assert scratch.fault_counts() == (0, 0), list(scratch.faults())
        await taking.store(
            statement, scratch, progress, counter.store.transact, new_id=counter.world.new_id, origin=origin
        )
    desk = StatementDesk(counter.shop, counter.store, till.desk, till.settings)
    work = Run("mpesa", counter.store.transact, fees=None, zone=ZONE, world=counter.world, take=desk.take)
    classes = await work.all(now - timedelta(days=3), origin)
    await till.settle()
    return {name: count for name, count in classes.items() if count}


def row(till: Till, receipt: str, amount: str, payer: str, account: str) -> str:
    at = (till.counter.world.now() - timedelta(minutes=5)).astimezone(ZoneInfo("Africa/Nairobi"))
    return f"{receipt},{at:%Y-%m-%d %H:%M:%S},x,Completed,{amount},,Pay Bill Online,{payer},,{account}"


async def test_what_no_callback_told_is_vended_or_in_suspense_by_the_statement(
    database_url: str, tmp_path: Path
) -> None:
    async with open_till(database_url) as till:
        lines = [
            row(till, "UFA1", "500.00", f"{STRANGER} - A B", METER),
            row(till, "UFA2", "300.00", f"{STRANGER} - A B", unknown_drn(1)),
            row(till, "UFA3", "200.00", "2547****001 - A B", METER),  # nobody to send a token to
        ]
        assert await run(till, tmp_path, "one.csv", lines) == {"MATCHED": 3}
        assert await till.states() == ["VENDED"] and await till.tokens() == 1
        assert sorted(reason for reason, _, _ in await till.held()) == ["METER_UNKNOWN", "REFUSED"]
        assert await till.balance("clearing:mpesa") == -100_000  # as the statement says
        # The same file, and another one with the same lines and one more: nothing comes in twice.
        assert await run(till, tmp_path, "one.csv", lines) == {}
        more = [*lines, row(till, "UFA4", "100.00", f"{STRANGER} - A B", METER)]
        assert await run(till, tmp_path, "two.csv", more) == {"MATCHED": 1}
        assert await till.tokens() == 2 and await till.balance("clearing:mpesa") == -110_000
        assert (await till.rows(payment_tables.payment))[-1]["receipt"] == "UFA4"
        await till.counter.check_books()


async def test_money_of_an_order_whose_callback_was_lost_is_not_lost(database_url: str, tmp_path: Path) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        # This provider's statement has not our reference, so the order is not known from it: the money is held for its
        # payer. When the timetable asks, that is the same receipt, and buys nothing a second time.
        line = row(till, word.receipt, "500.00", STRANGER, "")
        assert await run(till, tmp_path, "one.csv", [line]) == {"MATCHED": 1}
        assert [reason for reason, _, _ in await till.held()] == ["NO_ORDER"]
        await till.hears(word)
        await till.check()


async def test_an_order_whose_callback_was_lost_is_vended_by_our_reference(database_url: str, tmp_path: Path) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        day = till.counter.world.now().astimezone(ZONE).date()
        line = f"{day},MPESA,{word.receipt},500.00,2.50,{ref}"
        assert await run(till, tmp_path, "one.csv", [line], "neutral") == {"MATCHED": 1}
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["sold"]
        await till.hears(word)  # the callback after all
        assert await till.tokens() == 1
        # The payer was charged twice for it: the second is held, and told.
        again = f"{day},MPESA,SECOND,500.00,2.50,{ref}"
        assert await run(till, tmp_path, "two.csv", [line, again], "neutral") == {"MATCHED": 1}
        assert [reason for reason, _, _ in await till.held()] == ["SECOND_PAYMENT"]
        assert await till.tokens() == 1 and await till.balance("clearing:mpesa") == -100_000
        await till.counter.check_books()


async def test_a_payment_that_no_statement_names_is_missing_there_until_one_does(
    database_url: str, tmp_path: Path
) -> None:
    async with open_till(database_url) as till:
        ref = await till.order()
        word = till.money.take(ref)
        await till.hears(word)
        line = row(till, word.receipt, "500.00", STRANGER, METER)
        assert await run(till, tmp_path, "none.csv", []) == {}
        till.counter.world.advance(days=4)
        assert await run(till, tmp_path, "none again.csv", []) == {"MISSING_THERE": 1}
        assert await run(till, tmp_path, "late.csv", [line]) == {"MATCHED": 1}
        assert await till.counter.store.read(lambda connection: settlement.listed(connection)) == []
        assert await till.tokens() == 1
        await till.check()


def test_a_phone_number_is_taken_only_where_it_stands_in_full() -> None:
    for text, number in (
        ("254711013579 - AMINA HASSAN", "254711013579"),
        ("MSISDN:+254711013579", "254711013579"),
        ("2547****579 - AMINA", ""),
        ("254711***579", ""),
        ("AMINA", ""),
        ("", ""),
        ("12345", ""),
    ):
        assert phone_in(text) == number, text
