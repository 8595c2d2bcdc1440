"""Vouchers on both databases: made by two people, redeemed once with the sale, repeated, guessed, refused, cut off.

The sheet is read back with a reader of this file, so that what is printed is what is redeemed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from channels.commands import RedeemVoucher
from config.kinds import Secret
from config.settings import PinSettings, VoucherSettings
from gateway.deeds import Arrival
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from gateway.purchase import State as Purchase
from gateway.vend import Done
from gateway.vouchersheet import sheet
from ledger import batch, tables, vouchers
from ledger.accounts import id_of
from ledger.all_tables import metadata
from ledger.audit import Origin
from ledger.changes import Act, ChangeRefused
from ledger.operators import Operator, OperatorRefused, Role
from ledger.reasons import Reason
from ledger.store import open_store
from ledger.voucher_tables import voucher, voucher_try
from ledger.vouchernumbers import completed, drawn, look_up
from sts.modules.software import SoftwareModule
from tests.gateway.test_pins import Said
from tests.simulation.module import WaitingModule
from tests.simulation.shop import AMINA, METER, Counter, open_counter, sample_keys

KEY = "a key of the tests, 32 octets and more"
NEW = "254733000001"  # a phone that nobody knows
VALUE = 50_000


def act(counter: Counter, who: str, beside: str | None = None, role: Role = Role.FINANCE) -> Act:
    """Somebody of the back office, perhaps with somebody beside."""
    now = counter.world.now()
    one, other = (Operator(login, login, frozenset({role}), "en", None) for login in (who, beside or who))
    origin = Origin(who, now, "here", "for the kiosks")
    local = counter.shop.local(now).replace(tzinfo=None)
    return Act(one, origin, counter.world.new_id, local, "KES", other if beside else None)


async def make(
    counter: Counter, count: int = 3, value: int = VALUE, code: str = "B1", *, sell: bool = True
) -> list[str]:
    """A batch by two people; its numbers."""
    transact = counter.store.transact
    expires = date(2027, 12, 31) if counter.world.now().year < 2027 else date(2031, 12, 31)
    size = {"vouchers": count, "value_minor": value, "vouchers_max": 100, "value_max_minor": 10_000_000}
    await transact(lambda c: vouchers.ask(c, act(counter, "ann"), code, expires_on=expires, **size))
    await transact(lambda c: vouchers.approve(c, act(counter, "ben"), code))
    numbers = [drawn(counter.world.nonce, KEY) for _ in range(count)]
    digests = [look_up(number, KEY) or "" for number in numbers]
    await transact(lambda c: vouchers.print_out(c, act(counter, "ann"), code, digests, "0" * 64))
    await transact(lambda c: vouchers.activate(c, act(counter, "ben"), code))
    if sell:
        await transact(lambda c: vouchers.sell(c, act(counter, "ann"), code, 1, count, to="cash"))
    return numbers


@asynccontextmanager
async def shop_with(url: str, module: Any = None, **kwargs: Any) -> AsyncIterator[Counter]:
    """A counter that takes vouchers."""
    async with open_counter(url, module) as counter:
        pins, taken = PinSettings(key=Secret(KEY)), VoucherSettings(taken=True, wrong_per_day_max=3)
        settings = replace(counter.shop.settings, pins=pins, vouchers=taken, **kwargs)
        counter.shop = replace(counter.shop, settings=settings)
        yield counter
        await counter.check_books()


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with shop_with(database_url) as opened:
        yield opened


def told(done: Done) -> tuple[str, dict[str, Any]]:
    """The reply of a request."""
    reply = done.replies[-1]
    return reply.message.key, dict(reply.message.values)


def digits(values: dict[str, Any]) -> list[str]:
    """The tokens of a reply."""
    return [token["digits"] for token in values["tokens"]]


async def states(counter: Counter) -> list[str]:
    """Of the vouchers, by serial."""
    v = voucher.c
    return await counter.store.read(lambda c: list(c.execute(sa.select(v.state).order_by(v.serial)).scalars()))


async def wallet_of(counter: Counter, msisdn: str) -> int:
    """What the wallet of a phone holds."""

    def read(connection: sa.Connection) -> str:
        f, c, a = tables.phone, tables.customer, tables.account
        joined = f.join(c, c.c.id == f.c.customer_id).join(a, a.c.id == c.c.wallet_id)
        return str(connection.execute(sa.select(a.c.code).select_from(joined).where(f.c.msisdn == msisdn)).scalar_one())

    return await counter.available(await counter.store.read(read))


async def test_a_voucher_buys_for_a_phone_that_nobody_knows_and_its_repeat_gives_the_same_token(
    counter: Counter,
) -> None:
    number, *_ = await make(counter)
    asked = RedeemVoucher(number, METER)
    done = await counter.ask(asked, NEW, "m1")
    key, first = told(done)
    assert (key, first["amount_minor"], done.state) == ("sold", VALUE, Purchase.VENDED)
    assert (await counter.ask(asked, NEW, "m1")).replayed
    key, again = told(await counter.ask(RedeemVoucher(number, METER), NEW, "m2"))
    assert (key, digits(again)) == ("last_token", digits(first))
    key, _ = told(await counter.ask(RedeemVoucher(number, METER), AMINA))
    assert key == "voucher_used"
    assert (await states(counter), await wallet_of(counter, NEW)) == (["USED", "SOLD", "SOLD"], 0)


async def test_what_is_left_of_a_voucher_goes_to_the_wallet(counter: Counter) -> None:
    one, two, three = await make(counter)
    key, sold = told(await counter.ask(RedeemVoucher(one, METER, 20_000), NEW))
    assert (key, sold["balance_minor"]) == ("sold", 30_000)
    key, topped = told(await counter.ask(RedeemVoucher(two, None), NEW))
    assert (key, topped["balance_minor"], topped["amount_minor"]) == ("topped_up", 80_000, VALUE)
    assert told(await counter.ask(RedeemVoucher(two, None), NEW))[0] == "topped_up"
    key, _ = told(await counter.ask(RedeemVoucher(three, METER, VALUE + 1), NEW))
    assert key == "voucher_too_small"
    assert (await states(counter), await wallet_of(counter, NEW)) == (["USED", "USED", "SOLD"], 80_000)


async def test_a_voucher_for_a_closed_wallet_is_refused_and_stays_worth_what_it_was(counter: Counter) -> None:
    first, second = await make(counter, 2)
    await counter.ask(RedeemVoucher(first, METER), NEW)  # makes the wallet, and empties it
    c, b = tables.customer, tables.limited_balance
    wallet = sa.select(c.c.wallet_id).join(tables.phone, tables.phone.c.customer_id == c.c.id)
    closed = sa.update(b).where(b.c.account_id == wallet.where(tables.phone.c.msisdn == NEW).scalar_subquery())
    at = counter.world.now()
    await counter.store.transact(lambda connection: connection.execute(closed.values(closed_at=at)))
    for command in (RedeemVoucher(second, None), RedeemVoucher(second, METER)):
        done = await counter.ask(command, NEW)
        assert (done.reason, done.is_fault) == (Reason.PAYER_UNKNOWN, False)
    assert await states(counter) == ["USED", "SOLD"]


async def test_more_than_may_be_bought_at_once_is_bought_as_far_as_it_may_be(counter: Counter) -> None:
    (number,) = await make(counter, 1, 5_100_000)
    key, sold = told(await counter.ask(RedeemVoucher(number, METER), NEW))
    assert key == "sold" and sold["amount_minor"] + sold["balance_minor"] == 5_100_000
    assert 0 < sold["balance_minor"]


@pytest.mark.parametrize("drn", ["04012345677", "14252321816"])  # unknown; blocked
async def test_a_voucher_of_which_nothing_can_be_sold_stays_as_it_was(counter: Counter, drn: str) -> None:
    number, *_ = await make(counter, 1)
    done = await counter.ask(RedeemVoucher(number, drn), NEW)
    assert done.reason in (Reason.METER_UNKNOWN, Reason.METER_BLOCKED)
    assert await states(counter) == ["SOLD"]
    assert told(await counter.ask(RedeemVoucher(number, METER), NEW))[0] == "sold"


async def test_wrong_numbers_are_counted_by_phone_and_day_and_repeats_are_not(counter: Counter) -> None:
    (number,) = await make(counter, 1)
    wrong = f"{number[:-1]}{(int(number[-1]) + 1) % 10}"
    other = completed("000000000000", KEY)  # right check digits, and no voucher
    asked = [RedeemVoucher(bad, METER) for bad in (wrong, other)]
    assert [told(await counter.ask(one, NEW, f"m{n}"))[1]["left"] for n, one in enumerate(asked)] == [2, 1]
    assert (await counter.ask(asked[0], NEW, "m0")).replayed
    assert (await counter.ask(RedeemVoucher("1" * 16, METER), NEW)).reason is Reason.VOUCHER_TRIES_SPENT
    assert (await counter.ask(RedeemVoucher(number, METER), NEW)).reason is Reason.VOUCHER_TRIES_SPENT
    assert await counter.count(voucher_try) == 1
    assert told(await counter.ask(RedeemVoucher(number, None), AMINA))[0] == "topped_up"
    counter.world.advance(seconds=86_400)
    assert (await counter.ask(RedeemVoucher(number, METER), NEW)).reason is Reason.VOUCHER_USED


async def test_only_what_was_sold_and_has_not_expired_is_worth_something(counter: Counter) -> None:
    one, two, three = await make(counter, sell=False)
    assert (await counter.ask(RedeemVoucher(one, METER), NEW)).reason is Reason.VOUCHER_NOT_VALID
    before = await counter.available("wallet:A100001")
    sold = await counter.store.transact(lambda c: vouchers.sell(c, act(counter, "ann"), "B1", 1, 2, to="ST001"))
    assert sold == 2 * VALUE
    assert (await counter.ask(RedeemVoucher(three, METER), NEW)).reason is Reason.VOUCHER_NOT_VALID
    back = await counter.store.transact(lambda c: vouchers.void(c, act(counter, "ann", "ben"), "B1", 2, 3))
    assert back == VALUE
    assert (await counter.ask(RedeemVoucher(two, METER), NEW)).reason is Reason.VOUCHER_NOT_VALID
    counter.world.advance(seconds=86_400 * 366 * 3)
    assert (await counter.ask(RedeemVoucher(one, METER), NEW)).reason is Reason.VOUCHER_EXPIRED
    assert await counter.available("wallet:A100001") == before
    assert await states(counter) == ["SOLD", "VOID", "VOID"]


async def test_no_one_person_makes_a_voucher(counter: Counter) -> None:
    transact = counter.store.transact
    expires = counter.shop.local(counter.world.now()).date() + timedelta(days=30)
    size: dict[str, Any] = {
        "vouchers": 2,
        "value_minor": VALUE,
        "vouchers_max": 2,
        "value_max_minor": VALUE,
        "expires_on": expires,
    }
    with pytest.raises(ChangeRefused):
        await transact(lambda c: vouchers.ask(c, act(counter, "ann"), "B1", **{**size, "vouchers": 3}))
    with pytest.raises(OperatorRefused):
        await transact(lambda c: vouchers.ask(c, act(counter, "ann", role=Role.SUPPORT), "B1", **size))
    await transact(lambda c: vouchers.ask(c, act(counter, "ann"), "B1", **size))
    for deed in (
        lambda c: vouchers.approve(c, act(counter, "ann"), "B1"),  # who asked
        lambda c: vouchers.require_printable(c, act(counter, "ann"), "B1"),  # not approved
        lambda c: vouchers.void(c, act(counter, "ann"), "B1", 1, 2),  # alone
        lambda c: vouchers.sell(c, act(counter, "ann"), "B1", 1, 2, to="cash"),
    ):
        with pytest.raises((ChangeRefused, OperatorRefused)):
            await transact(deed)
    await transact(lambda c: vouchers.approve(c, act(counter, "ben"), "B1"))
    digests = [look_up(drawn(counter.world.nonce, KEY), KEY) or "" for _ in range(2)]
    await transact(lambda c: vouchers.print_out(c, act(counter, "ann"), "B1", digests, "0" * 64))
    with pytest.raises(ChangeRefused):
        await transact(lambda c: vouchers.print_out(c, act(counter, "ben"), "B1", digests, "0" * 64))
    with pytest.raises(OperatorRefused):
        await transact(lambda c: vouchers.activate(c, act(counter, "ann"), "B1"))
    await transact(lambda c: vouchers.activate(c, act(counter, "ben"), "B1"))
    with pytest.raises(ChangeRefused):
        await transact(lambda c: vouchers.sell(c, act(counter, "ann"), "B1", 1, 2, to="nobody"))
    await transact(lambda c: vouchers.sell(c, act(counter, "ann"), "B1", 1, 1, to="bank"))
    with pytest.raises(ChangeRefused):
        await transact(lambda c: vouchers.sell(c, act(counter, "ann"), "B1", 1, 2, to="bank"))
    (standing,) = await counter.store.read(vouchers.standings)
    assert (standing.counts, standing.owed_minor) == ({"SOLD": 1, "ACTIVE": 1}, VALUE)


async def test_one_voucher_sent_by_many_phones_over_two_nodes_is_used_once(counter: Counter) -> None:
    (number,) = await make(counter, 1)
    other = await open_store(counter.url)
    phones = [f"25473300000{n}" for n in range(6)]
    asked = [Arrival(counter.shop, counter.inbound(RedeemVoucher(number, METER), phone)) for phone in phones]
    done = await asyncio.gather(
        *(store.submit(one) for store, one in zip([counter.store, other] * 3, asked, strict=True))
    )
    await other.close()
    assert sorted(told(one)[0] for one in done) == ["sold", *["voucher_used"] * 5]
    assert await counter.count(tables.purchase, tables.purchase.c.state == "VENDED") == 1


@pytest.mark.parametrize("twice", [False, True])
async def test_a_phone_with_two_vouchers_at_once_gets_one_wallet(counter: Counter, twice: bool) -> None:
    one, two, _ = await make(counter)
    store = await open_store(counter.url) if twice else counter.store
    asked = [Arrival(counter.shop, counter.inbound(RedeemVoucher(number, None), NEW)) for number in (one, two)]
    await asyncio.gather(counter.store.submit(asked[0]), store.submit(asked[1]))
    if twice:
        await store.close()
    assert await wallet_of(counter, NEW) == 2 * VALUE
    assert await counter.count(tables.customer, tables.customer.c.category == "PHONE") == 1


async def test_a_phone_of_a_station_redeems_nothing_and_nobody_where_vouchers_are_not_taken(counter: Counter) -> None:
    (number,) = await make(counter, 1)
    assert (await counter.ask(RedeemVoucher(number, METER), "254722000002")).reason is Reason.VOUCHERS_NOT_TAKEN
    counter.shop = replace(counter.shop, settings=replace(counter.shop.settings, vouchers=VoucherSettings()))
    assert (await counter.ask(RedeemVoucher(number, METER), NEW)).reason is Reason.VOUCHERS_NOT_TAKEN


async def test_no_number_of_a_voucher_is_in_the_database(counter: Counter) -> None:
    numbers = await make(counter)
    await counter.ask(RedeemVoucher(numbers[0], METER), NEW)
    await counter.ask(RedeemVoucher(numbers[1], "04012345677"), NEW)
    await counter.ask(RedeemVoucher("7" * 16, METER), NEW)

    def everything(connection: sa.Connection) -> str:
        rows = (row for table in metadata.sorted_tables for row in connection.execute(sa.select(table)))
        return "\n".join(repr(tuple(row)) for row in rows)

    rows = await counter.store.read(everything)
    for number in (*numbers, "7" * 16):
        assert number not in rows and number[:12] not in rows


@given(st.binary(min_size=64, max_size=64))
def test_a_number_has_twelve_digits_and_four_to_check_and_its_digest_says_nothing(seed: bytes) -> None:
    stream = iter(range(0, 64, 8))
    number = drawn(lambda size: seed[(at := next(stream)) : at + size], KEY)
    assert re.fullmatch(r"[0-9]{16}", number)
    digest = look_up(number, KEY)
    assert digest is not None and number not in digest
    assert look_up(number, KEY + "x") != digest
    for place in range(16):
        wrong = f"{number[:place]}{(int(number[place]) + 1) % 10}{number[place + 1 :]}"
        assert look_up(wrong, KEY) != digest
    assert look_up(number[:-1], KEY) is None


def test_the_sheet_holds_every_number_once() -> None:
    now = datetime(2026, 6, 5, tzinfo=UTC)
    values: dict[str, Any] = dict.fromkeys(vouchers.Batch.__dataclass_fields__)
    values |= {"code": "B1", "vouchers": 30, "value_minor": VALUE, "currency": "KES", "asked_by": "ann"}
    made = vouchers.Batch(**values | {"expires_on": date(2027, 1, 1), "asked_at": now})
    numbers = [completed(f"{n:012d}", KEY) for n in range(30)]
    pdf = sheet("Umoja Power", made, numbers, 2)
    assert pdf == sheet("Umoja Power", made, numbers, 2) and pdf.startswith(b"%PDF-")
    text = "".join(_streams(pdf))
    for number in numbers:
        assert text.count(" ".join(number[at : at + 4] for at in range(0, 16, 4))) == 1
    assert text.count("KES 500.00") == 30


def _streams(pdf: bytes) -> list[str]:
    """The contents of the pages: ASCII base 85 of zlib, as reportlab writes them."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\n?endstream", pdf, re.DOTALL)
    return [zlib.decompress(base64.a85decode(one.strip().removesuffix(b"~>"))).decode("latin1") for one in found]


@pytest.mark.parametrize(("plan", "state", "left"), [((), "VENDED", 0), (("refuse",), "REFUSED", VALUE)])
async def test_a_slow_module_leaves_the_value_in_the_wallet_until_the_token_is_there(
    database_url: str, plan: tuple[str, ...], state: str, left: int
) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()), ("wait", *plan))
    async with shop_with(database_url, module) as counter:
        said = Said([])
        desk = VendingDesk(counter.shop, counter.store, said, Metrics())
        (number,) = await make(counter, 1)
        asked = counter.inbound(RedeemVoucher(number, METER), NEW)
        await desk.receive(asked)
        assert said.replies[0].message.key == "topped_up"
        (purchase,) = await counter.store.read(lambda c: c.execute(sa.select(tables.purchase.c.id)).scalars().all())
        # As after a crash: nobody waits for the module any more, and another desk takes the purchase up.
        await desk.close()
        desk = VendingDesk(counter.shop, counter.store, said, Metrics())
        ended = desk.end_of(purchase)
        await desk.resume(at_start=True)
        await asyncio.wait_for(ended, 60)
        await desk.receive(asked)  # the message centre sends it again
        keys = [reply.message.key for reply in said.replies]
        assert keys == ["topped_up", "sold" if state == "VENDED" else "meter_key_ended"], keys
        assert (await states(counter), await wallet_of(counter, NEW)) == (["USED"], left)
        await desk.close()


@pytest.mark.parametrize("broken", ["posting", "voucher", "purchase"])
async def test_a_batch_that_is_cut_off_leaves_voucher_and_books_as_they_were(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (number,) = await make(counter, 1)
    asked, whole = RedeemVoucher(number, METER), batch.writes

    def torn(unit: Any) -> Any:
        for statement, rows in whole(unit):
            yield statement, rows
            if broken in statement.sqlite:
                raise RuntimeError("the machine stops here")

    monkeypatch.setattr(batch, "writes", torn)
    with pytest.raises(RuntimeError):
        await counter.ask(asked, NEW, "m1")
    monkeypatch.setattr(batch, "writes", whole)
    assert await states(counter) == ["SOLD"] and await counter.count(tables.request) == 0
    done = await counter.ask(asked, NEW, "m1")
    assert told(done)[0] == "sold" and (await counter.ask(asked, NEW, "m1")).replayed


async def test_what_was_done_to_vouchers_is_on_record_with_what_they_were_before(counter: Counter) -> None:
    numbers = await make(counter, 3)
    await counter.ask(RedeemVoucher(numbers[0], None), NEW)
    by = act(counter, "ann", "ben")
    with pytest.raises(ChangeRefused, match="1 of these vouchers are used"):
        await counter.store.transact(lambda c: vouchers.void(c, by, "B1", 1, 3))
    assert await counter.store.transact(lambda c: vouchers.void(c, by, "B1", 2, 3)) == 2 * VALUE
    a = tables.audit.c
    wanted = sa.select(a.deed, a.before, a.after, a.reason).where(a.deed.in_(("vouchers.sold", "vouchers.void")))
    rows = await counter.store.read(lambda c: c.execute(wanted.order_by(a.seq)).all())
    assert [json.loads(row.before) for row in rows] == [{"state": "ACTIVE"}, {"states": {"SOLD": 2}}]
    sold, void = (json.loads(row.after) for row in rows)
    assert (sold["state"], void["states"], void["amount_minor"]) == ("SOLD", {"VOID": 2}, 2 * VALUE)
    assert all(row.reason for row in rows)


async def test_a_voucher_made_void_while_it_is_redeemed_is_one_or_the_other(counter: Counter) -> None:
    count = 8
    numbers, other = await make(counter, count), await open_store(counter.url)

    async def void(serial: int) -> int:
        by = act(counter, "ann", "ben")
        try:
            return await other.transact(lambda c: vouchers.void(c, by, "B1", serial, serial))
        except ChangeRefused:
            return 0

    redeemed, back = 0, 0
    for serial, number in enumerate(numbers, 1):
        asked = Arrival(counter.shop, counter.inbound(RedeemVoucher(number, None), f"2547330000{serial:02d}"))
        done, gone = await asyncio.gather(counter.store.submit(asked), void(serial))
        assert (told(done)[0] == "topped_up") == (gone == 0), "used and void, or neither"
        redeemed, back = redeemed + (gone == 0), back + gone
    await other.close()
    found = await states(counter)
    assert (found.count("USED"), found.count("VOID") * VALUE) == (redeemed, back)
    p = tables.posting.c
    owed = sa.select(sa.func.sum(p.amount_minor)).where(p.account_id == id_of("voucher:issued"))
    assert await counter.store.read(lambda c: c.execute(owed).scalar_one()) == 0
