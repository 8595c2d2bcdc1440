"""A day of orders paid by a provider that loses, repeats, delays and reorders: books, tokens and statement must match.

python -m tests.simulation.payments_day --orders 10000 [--seed 1] [--database sqlite:///day.db]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from channels.commands import Buy, TopUp, Unreadable
from gateway.intake import load_folder
from gateway.payments.contract import Event, PaymentState, Why
from gateway.purchase import SOLD
from ledger import payment_tables, tables
from ledger.accounts import id_of
from ledger.reasons import Reason
from tests.gateway.payments.till import Till, open_till
from tests.simulation import utility
from tests.simulation.shop import UTILITY

AMOUNTS = (2_000, 5_000, 10_000, 20_000, 50_000)
SETTLED_AFTER_H = 26
# A meter has one token a minute at most, and few of its customers buy twenty times a day.
ORDERS_OF_A_METER = 20
METERS_MIN = 2


class Day:
    """The day of some phones, and everything that was ever said of their payments."""

    def __init__(self, till: Till, seed: int, meters: Sequence[str]) -> None:
        self.till = till
        self.meters = meters
        self.random = random.Random(seed)
        self.said: list[Event] = []
        self.phones: list[str] = []

    async def order(self) -> None:
        """One customer's luck."""
        till, chance = self.till, self.random
        phone = f"2547{10_000_000 + len(self.phones)}"
        self.phones.append(phone)
        amount = chance.choice(AMOUNTS)
        if chance.random() < 0.25:
            await self._by_meter(phone, amount)
            return
        till.money.asks = [chance.choices(["well", "lost", "silent", "declined"], [80, 8, 8, 4])[0]]
        before = set(till.money.accounts)
        wish = TopUp(amount) if chance.random() < 0.1 else Buy(chance.choice(self.meters), amount)
        await till.text(wish, phone)
        for ref in set(till.money.accounts) - before:
            luck = chance.random()
            if luck < 0.15:
                self.said.append(till.money.fail(ref, chance.choice(list(Why))))
            elif luck < 0.95:
                paid = chance.choices([amount, amount - 1_000, amount + 3_000], [90, 5, 5])[0]
                self.said.append(till.money.take(ref, paid))
                if chance.random() < 0.03:
                    self.said.append(till.money.charge_again(ref))
        await self.deliver(chance.choices([0, 1, 2, 3], [30, 40, 20, 10])[0])

    async def _by_meter(self, phone: str, amount: int) -> None:
        chance, drn, nobody = self.random, self.random.choice(self.meters), utility.unknown_drn(3)
        spaced = f"{drn[:4]} {drn[4:8]} {drn[8:]}"
        written = chance.choices([drn, spaced, nobody, "rent", "wallet", ""], [55, 15, 10, 10, 5, 5])[0]
        self.said.append(self.till.money.paybill(phone, written, amount))
        await self.deliver(1)
        if self.random.random() < 0.5:
            await self.till.text(Unreadable(Reason.AMOUNT_NEEDED, drn), phone)

    async def deliver(self, count: int) -> None:
        """Some words arrive: new ones, old ones again, and failures that are not true any more."""
        for _ in range(count if self.said else 0):
            word = self.random.choice(self.said[-20:])
            if self.random.random() < 0.03:
                self.said.append(self.till.money.take_back(word)) if self._is_taken(word) else None
            await self.till.hears(word)

    def _is_taken(self, word: Event) -> bool:
        """Whether this was a success that the provider has not taken back yet."""
        receipts = {line.receipt for line in self.till.money.lines}
        return word.state is PaymentState.SUCCESS and f"{word.receipt}-R" not in receipts

    async def run(self, orders: int) -> None:
        """So many orders over a day, then what is still to be said, in any order."""
        for _ in range(orders):
            await self.order()
            self.till.money.polls = ["silent"] if self.random.random() < 0.2 else []
            await self.till.waits(seconds=86_400 / orders * self.random.random() * 2)
            if self.random.random() < 0.02:
                self.till.crash()
        await self.settle()

    async def settle(self) -> None:
        """Whatever was lost comes in the end, by callback or as the answer to a question."""
        self.till.money.polls = []
        later = [*self.said, *self.said]
        self.random.shuffle(later)
        for word in later:
            await self.till.hears(word)
        for _ in range(SETTLED_AFTER_H):
            self.till.counter.world.advance(hours=1)
            while await self.till.payments.look(self.till.settings.name):
                await self.till.settle()
                self.till.counter.world.advance(seconds=1)

    async def complaints(self) -> list[str]:
        """What does not match, payer by payer and as a whole."""
        till = self.till
        found = []
        sold, tokens = await self._sold()
        held: Counter[str] = Counter()
        for row in await till.rows(payment_tables.suspense):
            if row["state"] != "RESOLVED":
                held[row["payer"]] += row["amount_minor"]
        taken: Counter[str] = Counter()
        payers = {line.receipt: line.payer for line in till.money.lines}
        for line in till.money.lines:
            taken[line.payer or payers[line.receipt.removesuffix("-R")]] += line.amount_minor
        balances = await self._balances()
        for phone in self.phones:
            mine = (sold[phone], held[phone], balances.get(id_of(f"prepaid:{phone}"), 0))
            if sum(mine) != taken[phone]:
                found.append(f"{phone}: taken {taken[phone]}; sold, held, kept: {mine}")
        if sum(sold_count for sold_count in tokens.values()) != await till.tokens():
            found.append("tokens are not those of the sales")
        open_orders = [row for row in await till.rows(payment_tables.payment) if row["next_ask_at"] is not None]
        found.extend(f"still waited for: {row['id']}" for row in open_orders)
        return found

    async def _sold(self) -> tuple[Counter[str], Counter[str]]:
        money: Counter[str] = Counter()
        tokens: Counter[str] = Counter()
        for row in await self.till.rows(tables.purchase):
            if row["state"] in SOLD:
                money[row["sender"]] += row["amount_minor"]
                tokens[row["sender"]] += 1 if row["units_tenths"] else 0
        return money, tokens

    async def _balances(self) -> dict[object, int]:
        b = tables.limited_balance.c
        rows = await self.till.counter.store.read(
            lambda connection: connection.execute(sa.select(b.account_id, b.posted_minor)).all()
        )
        return {row[0]: int(row[1]) for row in rows}


async def day(url: str, orders: int, seed: int) -> list[str]:
    """Everything that does not match after a day."""
    async with open_till(url, order_s=600) as till:
        with tempfile.TemporaryDirectory() as folder:
            served = utility.write(Path(folder), max(METERS_MIN, orders // ORDERS_OF_A_METER))
            world = till.counter.world
            await load_folder(till.counter.store, Path(folder), UTILITY, world, till.counter.shop.local(world.now()))
        ours = Day(till, seed, [one.drn for one in served])
        await ours.run(orders)
        await till.check()
        purposes = Counter(row["purpose"] for row in await till.rows(payment_tables.payment) if row["paid_at"])
        reasons = Counter(reason for reason, _, _ in await till.held())
        print(
            f"{orders} orders of {len(served)} meters, seed {seed}: statement {till.money.taken_minor} minor units in "
            f"{len(till.money.lines)} lines, {await till.tokens()} tokens, {till.money.polled} questions; "
            f"paid {_told(purposes)}; suspense {_told(reasons)}"
        )
        return await ours.complaints()


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a day and tell what does not match."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(day(options.database or f"sqlite:///{folder}/day.db", options.orders, options.seed))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
