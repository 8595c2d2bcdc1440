"""A shop with a provider of mobile money, for the tests of payments."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

import sqlalchemy as sa

from channels.commands import Buy, Command
from channels.contract import Reply
from config.kinds import Secret
from config.money import PaymentSettings
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.payments.contract import Event
from gateway.payments.desk import PaymentDesk
from ledger import payment_tables, tables
from ledger.accounts import id_of
from sts.modules.contract import SecurityModule
from tests.simulation.mobile_money import MobileMoney
from tests.simulation.shop import METER, Counter, open_counter

STRANGER = "254700000001"  # a phone of nobody's: no wallet, no float
MPESA = PaymentSettings(name="mpesa", kind="scripted", path_secret=Secret("0123456789abcdef"), order_s=600)


class Sent(Outgoing):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    def enqueue(self, replies: list[Reply]) -> None:
        self.replies.extend(replies)

    def keys(self, recipient: str = STRANGER) -> list[str]:
        return [reply.message.key for reply in self.replies if reply.recipient == recipient]


@dataclass
class Till:
    """The shop, its desks and the provider."""

    counter: Counter
    desk: VendingDesk
    payments: PaymentDesk
    money: MobileMoney
    sent: Sent
    settings: PaymentSettings
    _refs: list[UUID] = field(default_factory=list)

    async def text(self, command: Command, sender: str = STRANGER, reference: str | None = None) -> None:
        """A message comes in, and everything it sets going is done."""
        await self.desk.receive(self.counter.inbound(command, sender, reference))
        await self.settle()

    async def order(self, amount_minor: int = 50_000, drn: str = METER, sender: str = STRANGER) -> UUID:
        """An order by text; the reference of its payment."""
        await self.text(Buy(drn, amount_minor), sender)
        return UUID(str((await self.newest())["id"]))

    async def hears(self, *events: Event) -> None:
        """Callbacks come in."""
        await self.payments.received(self.settings.name, events)
        await self.settle()

    async def settle(self) -> None:
        await self.payments.idle()

    async def waits(self, **delta: float) -> None:
        """Time goes by; then the timetable is looked at once."""
        self.counter.world.advance(**delta)
        await self.payments.look(self.settings.name)
        await self.settle()

    def crash(self) -> None:
        """The process stops and starts: what was only in memory is gone."""
        self.desk = VendingDesk(self.counter.shop, self.counter.store, self.sent, Metrics())
        pairs = [(self.settings, self.money)]
        self.payments = PaymentDesk(self.counter.shop, self.counter.store, self.desk, pairs, Metrics())

    async def rows(self, table: sa.Table) -> list[sa.RowMapping]:
        return await self.counter.store.read(
            lambda connection: list(connection.execute(sa.select(table).order_by(table.c.id)).mappings())
        )

    async def newest(self) -> sa.RowMapping:
        return sa_row(await self.rows(payment_tables.payment))

    async def states(self) -> list[str]:
        """The states of all purchases, in their order."""
        return [row["state"] for row in await self.rows(tables.purchase)]

    async def held(self) -> list[tuple[str, str, int]]:
        """What is in suspense: reason, state, amount."""
        rows = await self.rows(payment_tables.suspense)
        return [(row["reason"], row["state"], row["amount_minor"]) for row in rows]

    async def balance(self, code: str) -> int:
        """The sum of an account's postings, credits positive."""
        p = tables.posting.c
        total = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(p.account_id == id_of(code))
        return int(await self.counter.store.read(lambda connection: connection.execute(total).scalar_one()))

    async def tokens(self) -> int:
        return await self.counter.count(tables.token, tables.token.c.digits.is_not(None))

    async def check(self) -> None:
        """The books hold together, and are at one with the provider's statement."""
        await self.counter.check_books()
        assert -await self.balance(f"clearing:{self.settings.name}") == self.money.taken_minor
        held = sum(amount for _, state, amount in await self.held() if state != "RESOLVED")
        assert await self.balance(f"suspense:{self.settings.name}") == held
        prompts = [account.prompts for account in self.money.accounts.values()]
        assert all(prompt == 1 or self.money.asks == [] for prompt in prompts)


def sa_row(rows: list[sa.RowMapping]) -> sa.RowMapping:
    """The last of the rows."""
    assert rows
    return rows[-1]


def values_of(reply: Reply) -> dict[str, object]:
    """A reply's values as they come back from the outbox."""
    found = json.loads(json.dumps(reply.message.values))
    assert isinstance(found, dict)
    return found


@asynccontextmanager
async def open_till(
    url: str, module: SecurityModule | None = None, give_up_s: float = 60, **changes: object
) -> AsyncIterator[Till]:
    """A till on a new database at this URL; `changes` to the settings of its source."""
    settings = replace(MPESA, **changes)  # type: ignore[arg-type]
    async with open_counter(url, module, give_up_s=give_up_s, payment=(settings,)) as counter:
        sent = Sent()
        money = MobileMoney(now=counter.world.now)
        desk = VendingDesk(counter.shop, counter.store, sent, Metrics())
        payments = PaymentDesk(counter.shop, counter.store, desk, [(settings, money)], Metrics())
        till = Till(counter, desk, payments, money, sent, settings)
        try:
            yield till
        finally:
            await till.payments.close()
            await till.desk.close()
