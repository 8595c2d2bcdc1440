"""A sealed token that certainly nobody has seen is sold again to its meter; every other sealed token never is.

The walk at the end takes a purchase by a bank, its reversal, the module's answer, a crash, a cut link, a second node,
LAST and an operator's look at the digits in every order, and then buys the same again: no token is ever told as that of
two purchases, whoever is told.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from channels.commands import LastToken
from config.settings import StsSettings
from gateway.purchase import State
from gateway.reversal import Answer, Evidence, Reversal, Reverse, Reversed
from gateway.vend import Done
from ledger import correction_tables, statements, tables
from ledger.unit import TokenRow
from sts.modules.software import SoftwareModule
from tests.gateway.bank.switch import purchase
from tests.gateway.bank.test_walk import AMOUNT, _Walk
from tests.simulation.module import WaitingModule
from tests.simulation.shop import METER, Counter, handle_of, open_counter, sample_keys, wants


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with open_counter(database_url) as opened:
        yield opened
        await opened.check_books()


_numbers = itertools.count()


async def taken_back(counter: Counter, sold: Done, reference: str, *, is_certain: bool = True) -> Reversed:
    """Reverse a sale by text message: its reply kept back in this process, or by the word of its peer."""
    asked = Reversal(
        original=f"sms|{reference}",
        key=f"sms|reversal-{next(_numbers)}",
        fingerprint=b"\1" * 16,
        channel="sms",
        peer="smsc",
        who="test",
        asked_at=counter.world.now(),
        evidence=Evidence.NONE if is_certain else Evidence.NOT_SHOWN,
    )
    unsent = frozenset(reply.id for reply in sold.replies) if is_certain else frozenset[UUID]()
    result = await counter.store.submit(Reverse(counter.shop, asked, unsent))
    assert result is not None and result.answer is Answer.REVERSED
    return result


async def tokens_of(counter: Counter, done: Done) -> list[TokenRow]:
    t = tables.token
    wanted = sa.select(t).where(t.c.purchase_id == done.purchase_id).order_by(t.c.seq)
    return await counter.store.read(lambda connection: [TokenRow(*row) for row in connection.execute(wanted)])


async def sealed(counter: Counter, *, is_certain: bool = True, amount_minor: int = 50_000) -> list[str | None]:
    """Sell and take back; the digits of the token."""
    reference = f"sealed-{next(_numbers)}"
    sold = await counter.buy(amount_minor, reference=reference)
    made = await tokens_of(counter, sold)
    await taken_back(counter, sold, reference, is_certain=is_certain)
    return [token.digits for token in made]


async def again(counter: Counter, amount_minor: int = 50_000) -> list[str | None]:
    bought = await counter.buy(amount_minor, nth=await counter.count(tables.purchase) + 1)  # means it, however often
    assert bought.state is State.VENDED
    return [token.digits for token in await tokens_of(counter, bought)]


async def test_what_nobody_saw_is_sold_again_and_belongs_to_the_later_sale_alone(counter: Counter) -> None:
    first = await counter.buy(reference="m1")
    made = await tokens_of(counter, first)
    await taken_back(counter, first, "m1")
    second = await counter.buy(reference="m2")
    assert second.state is State.VENDED and [each.digits for each in await tokens_of(counter, second)] == [
        each.digits for each in made
    ]
    assert second.replies[0].message.values["tokens"][0]["digits"] == made[0].digits
    assert await tokens_of(counter, first) == [] and await counter.count(tables.token) == 1
    lives = []
    for done in (first, second):
        receipt = done.replies[0].message.values["receipt"]
        lives.append(await counter.store.read(partial(statements.purchase, receipt=receipt)))
    assert lives[0] and lives[1]
    assert lives[0].sold_on == lives[1].purchase["receipt"] and lives[1].first_made_for == lives[0].purchase["receipt"]
    # Once more, and then it is the next token's turn.
    await taken_back(counter, second, "m2")
    assert await again(counter) == [made[0].digits]
    assert await again(counter) != [made[0].digits]
    assert await counter.count(correction_tables.resale) == 2


async def _other_amount(counter: Counter) -> None:
    await again(counter, 20_000)


async def _new_key(counter: Counter) -> None:
    await wants(counter, METER, handle_of(METER, 3))


async def _new_price(counter: Counter) -> None:
    later = "UPDATE purchase SET tariff_version = 'older' WHERE state = 'SEALED'"
    await counter.store.transact(lambda connection: connection.execute(sa.text(later)))


async def _later_identifier(counter: Counter) -> None:
    m = tables.meter
    later = m.update().where(m.c.drn == METER).values(last_tid=m.c.last_tid + 1)
    await counter.store.transact(lambda connection: connection.execute(later))


Between = Callable[[Counter], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("between", [_other_amount, _new_key, _new_price, _later_identifier])
async def test_what_is_not_just_the_same_is_made_anew(database_url: str, between: Between) -> None:
    keys = SoftwareModule([*sample_keys(), *sample_keys(revision=3)])
    async with open_counter(database_url, keys) as counter:
        made = await sealed(counter)
        await between(counter)
        assert made[0] not in await again(counter)
        assert await counter.count(correction_tables.resale) == 0
        await counter.check_books()


async def test_what_a_peer_vouches_for_is_sealed_and_never_sold_again(counter: Counter) -> None:
    made = await sealed(counter, is_certain=False)
    assert made != await again(counter)


async def test_another_amount_or_a_setting_keeps_it_sealed(database_url: str) -> None:
    async with open_counter(database_url, sts=StsSettings(sell_unseen_again=False)) as counter:
        made = await sealed(counter)
        assert made != await again(counter)
        await counter.check_books()


async def test_a_key_with_a_limit_counts_it_once_and_a_slow_module_is_not_asked_again(database_url: str) -> None:
    module = WaitingModule(SoftwareModule(sample_keys()))
    async with open_counter(database_url, module) as counter:
        walk = _Walk(counter, module)
        await walk.start()
        walk.is_up = False
        walk.send(purchase(1, AMOUNT))
        await walk.done()
        walk.is_up = True
        await walk.step_as(1, "unvouched")
        await walk.done()
        walk.send(purchase(2, AMOUNT))
        await walk.done()
        assert [code for _, code, _ in walk.heard] == ["00", "00"] and walk.heard[1][2]
        assert len(module.asked) == 1 and await counter.count(tables.token) == 1
        await counter.check_books()


# --- nobody is shown it while it is sealed ----------------------------------------------------------------------------


async def test_a_sealed_token_is_shown_by_no_way_there_is(counter: Counter) -> None:
    sold = await counter.buy(reference="m1")
    receipt = sold.replies[0].message.values["receipt"]
    await taken_back(counter, sold, "m1")
    last = await counter.ask(LastToken(METER))
    assert last.replies[0].message.key == "no_token_yet"
    repeat = await counter.buy(reference="m1")
    assert not any(reply.message.values.get("tokens") for reply in repeat.replies)

    def looks(connection: sa.Connection) -> bool:
        return statements.disclose(connection, receipt, counter.world.new_id(), "cc.pam", counter.world.now())

    assert await counter.store.transact(looks) is False
    o = tables.outbox.c
    owed = await counter.count(tables.outbox, o.state == "OWED", o.message == "sold")
    assert owed == 0


# --- every order ------------------------------------------------------------------------------------------------------


class _Told:
    """Which purchase each token was told for."""

    def __init__(self) -> None:
        self.purchases: dict[str, set[str]] = {}

    def add(self, purchase_key: str, made: Any) -> None:
        for digits in made:
            self.purchases.setdefault(digits, set()).add(purchase_key)


async def _by_receipt(counter: Counter, receipt: str) -> str:
    p, r = tables.purchase.c, tables.request.c
    wanted = sa.select(r.idem_key).join(tables.purchase, p.id == r.id).where(p.receipt == receipt)
    return await counter.store.read(lambda connection: str(connection.execute(wanted).scalar_one()))


async def _last(counter: Counter, told: _Told) -> None:
    message = (await counter.ask(LastToken(METER))).replies[0].message
    if message.key == "last_token":
        key = await _by_receipt(counter, message.values["receipt"])
        told.add(key, [token["digits"] for token in message.values["tokens"]])


async def _digits(counter: Counter, key: str, told: _Told) -> None:
    """An operator looks at the digits of this purchase."""
    p, r = tables.purchase.c, tables.request.c
    wanted = sa.select(p.receipt).join(tables.request, p.id == r.id).where(r.idem_key.like(key))
    receipt = await counter.store.read(lambda connection: connection.execute(wanted).scalar())
    if receipt is None:
        return

    def look(connection: sa.Connection) -> list[str]:
        if not statements.disclose(connection, receipt, counter.world.new_id(), "cc.pam", counter.world.now()):
            return []
        life = statements.purchase(connection, receipt)
        assert life is not None
        return [token["digits"] for token in life.tokens if token["digits"]]

    told.add(await _by_receipt(counter, receipt), await counter.store.transact(look))


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        *(("unvouched", trouble) for trouble in ("repeat", "elsewhere", "crash", "last", "digits", "cut")),
        ("vouched", "repeat"),
        ("vouched", "digits"),
    ],
)
async def test_in_no_order_is_a_token_told_for_two_purchases(
    migrated_file: Path, tmp_path: Path, kind: str, trouble: str
) -> None:
    shutil.copyfile(migrated_file, tmp_path / "test.db")
    module, resold = WaitingModule(SoftwareModule(sample_keys())), 0
    async with open_counter(f"sqlite:///{tmp_path}/test.db", module) as counter:
        here, there = _Walk(counter, module), _Walk(counter, module)
        await here.start()
        await there.start()
        for rest in itertools.permutations(("module", kind, trouble, "again")):
            if trouble == "elsewhere" and rest.index(trouble) < rest.index("module"):
                continue  # it would wait for the module, and look once a second
            order = ("purchase", *rest)
            for is_up in (False, True):
                told, before = _Told(), await counter.count(correction_tables.resale)
                module.plan, module.go = ["wait", "wait"], asyncio.Event()
                first, second = here.stan + 1, here.stan + 2
                here.heard, there.heard, here.told, there.told = [], [], [], []
                here.is_up = is_up
                like = {stan: f"bank|kcb/%/{stan:06d}/%" for stan in (first, second)}
                for what in order:
                    if what == "again":
                        here.is_up = True
                        here.send(purchase(second, AMOUNT))
                        await here.settle()
                    elif what == "repeat":
                        here.send(purchase(first, AMOUNT, mti="0201"))
                        await here.settle()
                    elif what == "elsewhere":
                        there.send(purchase(first, AMOUNT, mti="0201"))
                        await there.settle()
                    elif what == "last":
                        await _last(counter, told)
                    elif what == "digits":
                        await _digits(counter, like[first], told)
                    else:
                        await here.step_as(first, what)
                module.go.set()
                await here.done()
                await there.done()
                here.is_up = True
                for stan in (first, second):
                    here.send(purchase(stan, AMOUNT, mti="0201"))
                    await here.done()
                await _last(counter, told)
                for trace, made in [*here.told, *there.told]:
                    told.add(f"bank|kcb/2026/627001/ATM00042/BANKBRANCH00042/{trace}/111530/0605/615611{trace}", made)
                assert all(len(several) == 1 for several in told.purchases.values()), (order, is_up)
                resold += await counter.count(correction_tables.resale) - before
                here.stan = second
                counter.world.advance(minutes=3)
        await counter.check_books()
    # It does happen: where the answer could not be written, and nobody asked again.
    assert resold > 0, "no order sold a token again"
