"""Every order of a purchase, its copy, its reversal, the module's answer, and a crash or a lost link between them.

The channel, the desk and the books are the real ones; the links are a list of what the bank has heard. After each
order the same is asked: was a token told after a reversal was told yes, or another token than before; does the sale
stand exactly when no reversal was told yes; and are the books right.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from channels.iso8583.answers import NOTHING, Said
from channels.iso8583.bank import BankPeer
from channels.iso8583.link import BankLinks, Connection
from channels.iso8583.message import Message
from channels.iso8583.requests import request_of
from channels.iso8583.session import Came
from config import languages
from gateway.bank import peers
from gateway.bank.desk import StoredBanks
from gateway.desk import VendingDesk
from gateway.metrics import Metrics
from ledger import tables
from sts.modules.software import SoftwareModule
from tests.gateway.bank.switch import BANK, _Heard, purchase, reversal
from tests.gateway.bank.test_bank import owed
from tests.simulation.module import WaitingModule
from tests.simulation.shop import Counter, open_counter, sample_keys

AMOUNT = 50_000
_SETTLE = 4


class _Links:
    """What the bank hears, while its links are there."""

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk

    def answer(self, origin: object, came: Came, why: Any, said: Said = NOTHING) -> bool:
        if not self._walk.is_up:
            return False
        mti, code = came.request.message.mti, self._walk.profile.code(why)
        made = tuple(token.digits for token in said.tokens)
        self._walk.heard.append((mti, code, made))
        if made:
            self._walk.told.append((str(came.request.message[11]), made))
        return True


class _Origin:
    name = "1"


class _Walk:
    """One process after another on the same books."""

    def __init__(self, counter: Counter, module: WaitingModule) -> None:
        self.counter, self.module = counter, module
        self.shop = replace(counter.shop, settings=replace(counter.shop.settings, bank=(BANK,)))
        self.profile = peers.profiles_of(self.shop.settings)["kcb"]
        self.catalogue = languages.load("en")
        self.heard: list[tuple[str, str, tuple[str, ...]]] = []
        self.told: list[tuple[str, tuple[str, ...]]] = []  # trace numbers, with the tokens told for them
        self.is_up = True
        self.stan = 0

    async def start(self) -> None:
        self.desk = VendingDesk(self.shop, self.counter.store, _Heard(), Metrics())
        stored = StoredBanks(self.shop, self.counter.store, self.desk, self.catalogue, {"kcb": self.profile}, Metrics())
        await stored.have_accounts()
        self.peer = BankPeer(
            peers.bank_of(BANK, self.profile, self.shop.settings),
            stored,
            lambda peer: cast(BankLinks, _Links(self)),
            now=self.counter.world.now,
            local=self.shop.local,
        )
        await self.desk.resume(at_start=True)

    async def crash(self) -> None:
        for task in list(self.peer._tasks):
            task.cancel()
        await self.desk.close()
        await self.start()

    def send(self, message: Message) -> None:
        self.peer.came(cast(Connection, _Origin()), Came(request_of(self.profile, message), b""))

    async def settle(self) -> None:
        for _ in range(_SETTLE):
            await self.counter.store.transact(lambda connection: None)
            await asyncio.sleep(0)

    async def done(self) -> None:
        async with asyncio.timeout(60):
            while self.peer.waiting:
                await self.settle()

    async def step(self, what: str) -> None:
        await self.step_as(self.stan, what)

    async def step_as(self, stan: int, what: str) -> None:
        asked = purchase(stan, AMOUNT)
        match what:
            case "purchase":
                self.send(asked)
            case "vouched":
                self.send(reversal(asked, 400_000 + stan))
            case "unvouched":
                self.send(reversal(asked, 400_000 + stan, mti="0400", reason="17"))
            case "module":
                self.module.go.set()
            case "crash":
                await self.crash()
            case "cut":
                self.is_up = False
        await self.settle()


def _orders(kind: str, trouble: str) -> Iterator[tuple[str, ...]]:
    yield from sorted(set(itertools.permutations(("purchase", "purchase", kind, "module", trouble))))


@pytest.mark.parametrize(("kind", "trouble"), [("vouched", "crash"), ("unvouched", "cut"), ("unvouched", "crash")])
async def test_whatever_the_order_the_bank_hears_the_truth(
    migrated_file: Path, tmp_path: Path, kind: str, trouble: str
) -> None:
    shutil.copyfile(migrated_file, tmp_path / "test.db")
    module = WaitingModule(SoftwareModule(sample_keys()))
    standing = 0
    outcomes: set[tuple[str, str]] = set()
    async with open_counter(f"sqlite:///{tmp_path}/test.db", module) as counter:
        walk = _Walk(counter, module)
        await walk.start()
        for order in _orders(kind, trouble):
            module.plan, module.go = ["wait", "wait"], asyncio.Event()
            walk.stan, walk.heard, walk.is_up = walk.stan + 1, [], True
            for what in order:
                await walk.step(what)
            module.go.set()
            await walk.done()
            walk.is_up = True
            walk.send(purchase(walk.stan, AMOUNT, mti="0201"))
            await walk.done()
            standing += _judge(walk.heard, order, kind)
            state = await _state(counter, f"bank|kcb/2026/627001/ATM00042/BANKBRANCH00042/{walk.stan:06d}/%")
            assert (state in ("VENDED", "DELIVERED")) == (walk.heard[-1][1] == "00"), order
            outcomes.add((state, walk.heard[-1][1]))
            counter.world.advance(minutes=3)
        assert await owed(counter) == standing * AMOUNT
        await counter.check_books()
    # All ends are reached: sold, reversed before it came, while it was made, and (where that can be) afterwards.
    assert {("VENDED", "00"), ("", "94"), ("RETURNED", "12")} <= outcomes
    if trouble == "cut" or kind == "vouched":
        assert ("SEALED", "12") in outcomes


def _judge(heard: list[tuple[str, str, tuple[str, ...]]], order: tuple[str, ...], kind: str) -> int:
    """1 if the sale stands by what the bank was told; fails where it was told two truths."""
    told_yes = [at for at, (mti, code, _) in enumerate(heard) if mti[1] == "4" and code == "00"]
    tokens = {made for _, code, made in heard if code == "00" and made}
    assert len(tokens) <= 1, f"two tokens: {order}"
    if told_yes:
        # What nobody vouches for is taken back only if no token was told at all.
        later = [made for _, _, made in heard[told_yes[0] if kind == "vouched" else 0 :] if made]
        assert not later, f"a token after the yes to a reversal: {order}"
    assert heard[-1][0] == "0201" and bool(heard[-1][2]) == (heard[-1][1] == "00")
    return int(heard[-1][1] == "00")


async def _state(counter: Counter, like: str) -> str:
    """The state of the purchase of this key; empty if there is none."""

    def read(connection: sa.Connection) -> str:
        p, r = tables.purchase.c, tables.request.c
        wanted = sa.select(p.state).join(tables.request, r.id == p.id).where(r.idem_key.like(like))
        return str(connection.execute(wanted).scalar() or "")

    return await counter.store.read(read)
