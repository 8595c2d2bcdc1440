"""Two people at two desks, or at a desk and a counter, at the same moment; each desk has a connection of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from channels.contract import Inbound
from channels.counter import CounterSale
from config.settings import Settings
from gateway.account_payment import Paid, PayAccount
from gateway.commands.corrections import approve
from gateway.commands.records import next_key
from gateway.deeds import Arrival
from gateway.reversal import Answer, Evidence, Reversal, Reverse, Reversed
from gateway.sale import receipt_of
from gateway.vend import Shop
from ledger import audit, corrections, service_points, shifts, statements, tables
from ledger.audit import Origin
from ledger.corrections import CorrectionRefused, Kind, Wish
from ledger.counter import sender_of
from ledger.operators import Operator, Role
from ledger.reasons import Reason
from ledger.shifts import Count
from ledger.stations_tables import counter_sale, shift
from ledger.store import Store, open_store
from sts.modules.software import SoftwareModule
from tests.gateway.terminal import METER, OTHER, Terminal
from tests.simulation.shop import UTILITY, Counter, open_counter, sample_keys
from tests.simulation.staff import FINANCE, Staff

FINED = "14252321824"


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


def _origin(counter: Counter, who: str) -> Origin:
    return Origin(who, counter.world.now(), "here", "the customer brought the receipt")


@pytest.mark.parametrize("has_points", [True, False])
async def test_one_payment_typed_at_two_desks_at_once_is_taken_once(counter: Counter, has_points: bool) -> None:
    """Also where nothing but the payment's own reference tells one from the other: a customer without a meter."""
    of = await counter.store.read(lambda connection: statements.customer(connection, FINED))
    assert of is not None
    of = of if has_points else replace(of, service_points=())
    other = await open_store(counter.url)

    async def pay(store: Store) -> Paid:
        deed = PayAccount(counter.shop, of, None, 700_000, "cash:office", "slip 1", "op.ann")
        origin = _origin(counter, "op.ann")
        return await store.submit_noted(deed, lambda c, paid: audit.note(c, origin, "account.paid", "it", None, {}))

    try:
        paid = await asyncio.gather(*(pay(store) for store in (counter.store, other) * 4))
    finally:
        await other.close()
    assert len({one.receipt for one in paid}) == 1 and [one.again for one in paid].count(False) == 1
    assert await counter.count(tables.txn, tables.txn.c.kind == "account_payment") == 1


async def test_a_sale_taken_back_and_refunded_at_once_is_undone_once(counter: Counter) -> None:
    sold = await counter.buy(50_000, reference="one")
    receipt = str(sold.replies[0].message.values["receipt"])
    other, wallet = await open_store(counter.url), await counter.available("wallet:A100001")
    new_id = counter.shop.world.new_id()
    wish = Wish(Kind.REFUND_MONEY, receipt, 50_000, 0, "", {"to": "source"})

    async def take_back(store: Store, who: str) -> Reversed | None:
        asked = Reversal("sms|one", f"office|{who}", bytes(16), "office", "", who, counter.world.now())
        unsent = frozenset(reply.id for reply in sold.replies)
        origin = _origin(counter, who)
        deed = Reverse(counter.shop, asked, unsent)
        return await store.submit_noted(deed, lambda c, _: audit.note(c, origin, "purchase.reversal", "it"))

    async def give_back() -> bool:
        try:
            code, origin = receipt_of(new_id), _origin(counter, "sup.ann")
            case = await other.transact(lambda c: corrections.ask(c, wish, new_id, code, "KES", origin))
            while (done := await approve(other, counter.shop, case.code, _origin(counter, "fin.zoe"))) is None:
                pass
            return not done.again
        except CorrectionRefused:
            return False

    try:
        *answers, was_refunded = await asyncio.gather(
            take_back(counter.store, "sup.bob"), take_back(other, "sup.eve"), give_back()
        )
    finally:
        await other.close()
    undone = [one for one in answers if isinstance(one, Reversed) and one.answer is Answer.REVERSED]
    assert (sum(not one.repeated for one in undone), was_refunded) in ((1, False), (0, True))
    assert await counter.available("wallet:A100001") == wallet + 50_000


@pytest.mark.parametrize("must_have_shift", [False, True])
def test_sales_that_cross_the_end_of_a_shift_are_in_the_count_or_not_in_the_shift(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    must_have_shift: bool,
) -> None:
    """Two terminals sell in one shift, a third takes a sale back, and the cashier closes: in every round at once."""
    desk = Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()
    asyncio.run(_rounds(desk, must_have_shift))
    desk.check()


async def _rounds(desk: Terminal, must_have_shift: bool) -> None:
    ann = Operator("op.ann", "Ann", frozenset({Role.VENDOR}), "en", "ST001")
    shop = Shop.of(Settings(utility=UTILITY), desk.world, SoftwareModule(sample_keys()))
    stores = [await open_store(desk.url) for _ in range(3)]
    h, c, p = shift.c, counter_sale.c, tables.purchase.c
    wanted = tables.station.update().where(tables.station.c.code == "ST001").values(shift_required=must_have_shift)
    await stores[0].transact(lambda connection: connection.execute(wanted))

    def origin() -> Origin:
        return Origin("op.ann", desk.world.now(), "here", "in a hurry")

    async def sell(store: Store, number: int, drn: str) -> None:
        command = CounterSale(
            drn, 10_000 + number, 9, login="op.ann", station="ST001", sequence=number, cash_minor=10_000 + number
        )
        sender, now = sender_of("op.ann", "ST001"), desk.world.now()
        content = hashlib.blake2b(repr(command).encode(), digest_size=16).digest()
        inbound = Inbound("counter", "ST001", f"n{number}", content, sender, "ST001", command, now)
        await store.submit(Arrival(shop, inbound))

    async def take_back(store: Store, number: int) -> None:
        asked = Reversal(f"counter|n{number}", f"office|{number}", bytes(16), "office", "", "op.ben", desk.world.now())
        while await store.submit(Reverse(shop, asked)) is None:
            pass

    async def close(store: Store) -> None:
        count = Count({50: 1}, 0, 0)
        await asyncio.sleep(0)
        await store.transact(
            lambda x: shifts.close_shift(x, None, count, "in a hurry", minor_digits=2, by=ann, origin=origin())
        )

    for number in range(0, 60, 6):
        shift_id = desk.world.new_id()
        await stores[0].transact(lambda x, new=shift_id: shifts.open_shift(x, new, 0, by=ann, origin=origin()))  # type: ignore[misc]
        await sell(stores[0], number, METER)
        await asyncio.gather(
            sell(stores[0], number + 1, OTHER),
            sell(stores[1], number + 2, OTHER),
            take_back(stores[1], number),
            close(stores[2]),
            sell(stores[0], number + 3, OTHER),
        )
        await sell(stores[1], number + 4, OTHER)

        def sums(connection: sa.Connection, of: UUID = shift_id) -> tuple[int, int, int]:
            stands = sa.select(sa.func.coalesce(sa.func.sum(c.cash_minor), 0)).select_from(
                counter_sale.join(tables.purchase, p.id == c.purchase_id)
            )
            in_shift = stands.where(c.shift_id == of, p.state.in_(("VENDED", "DELIVERED")))
            without = stands.where(c.shift_id.is_(None), p.state.in_(("VENDED", "DELIVERED")))
            counted = sa.select(h.sold_minor).where(h.id == of, h.state == "CLOSED")
            first, second, third = (connection.execute(one).scalar_one() for one in (in_shift, counted, without))
            return int(first), int(second), int(third)

        sold, counted, without = await stores[0].read(sums)
        assert sold == counted and (without > 0) is not must_have_shift
    for store in stores:
        await store.close()


async def test_corrections_are_on_record_with_what_they_were_before(counter: Counter) -> None:
    sold = await counter.buy(50_000)
    wish = Wish(Kind.REFUND_MONEY, str(sold.replies[0].message.values["receipt"]), 50_000, 0, "", {"to": "source"})
    for decided in ("REFUSED", "APPROVED"):
        new_id, origin = counter.shop.world.new_id(), _origin(counter, "fin.zoe")
        asked = _origin(counter, "sup.ann")
        case = await counter.store.transact(
            lambda c, new=new_id, by=asked: corrections.ask(c, wish, new, receipt_of(new), "KES", by)  # type: ignore[misc]
        )
        if decided == "REFUSED":
            await counter.store.transact(lambda c, code=case.code, by=origin: corrections.refuse(c, code, by))  # type: ignore[misc]
        else:
            assert await approve(counter.store, counter.shop, case.code, origin) is not None
    a = tables.audit.c
    wanted = sa.select(a.deed, a.before, a.after, a.reason).where(a.deed.like("correction.%")).order_by(a.seq)
    rows = await counter.store.read(lambda c: c.execute(wanted).all())
    changed = [row for row in rows if row.deed != "correction.asked"]
    states = [(json.loads(row.before)["state"], json.loads(row.after)["state"]) for row in changed]
    assert states == [("ASKED", "REFUSED"), ("ASKED", "APPROVED")]
    assert len(rows) == 4 and all(row.reason for row in rows)


@pytest.mark.parametrize("what", ["taken along", "tariff"])
async def test_charges_that_a_change_of_records_left_unpaid_outlive_the_reversal_of_a_sale(
    counter: Counter, what: str
) -> None:
    """A sale is undone as it was before it, and not what the office has changed of its service point since."""
    staff, drn = Staff(counter), "07003012213"  # at SP-20002, of A100002
    old, here = "SP-90002", "SP-20002"
    await staff.do(service_points.add, old, account_no="A100002", area="Lamu", tariff_code="D3-LEVY")
    await staff.do(service_points.set_tariff, here, "D3-LEVY", by=FINANCE, next_key=next_key)
    counter.world.advance(days=62)  # months of charges at the old place
    await counter.buy(80_000, drn=drn, sender="254722000002", reference="one")
    counter.world.advance(days=31)
    if what == "taken along":
        await staff.do(service_points.transfer, old, "A100001", debts_to=here)
    else:
        await staff.do(service_points.set_tariff, here, "D1-FLAT", by=FINANCE, next_key=next_key)
    unpaid = (await staff.point(here)).fixed_shortfall_minor
    assert unpaid > 0
    asked = Reversal("sms|one", "office|1", bytes(16), "sms", "smsc", "x", counter.world.now(), Evidence.NOT_SHOWN)
    result = await counter.store.submit(Reverse(counter.shop, replace(asked, is_settled=False)))
    assert result is not None and result.reason is Reason.REVERSAL_NOT_LAST
    assert (await staff.point(here)).fixed_shortfall_minor == unpaid
