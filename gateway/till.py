"""A terminal at a station's counter: a sale through the same desk as any other, and its answer printed. Shell.

The request is stored with what came of it before anything is shown; the answer is read from the books, so a repeat,
another terminal or another process shows the same. A gateway may run beside it on the same database.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Final

from channels import wording
from channels.contract import Inbound, Message, Reply
from channels.counter import CounterPrice, CounterSale
from config import languages
from config.languages import Catalogue
from config.settings import Settings
from gateway import keywatch
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.vend import Shop, sold_message
from gateway.world import World
from ledger import counter_sales
from ledger.audit import Origin
from ledger.counter import CHANNEL, sender_of
from ledger.counter_sales import Receipt, Stored, Undone
from ledger.store import Store
from sts.modules.contract import SecurityModule
from sts.modules.pool import ModulePool

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0  # how often an answer is looked for that another process may give
_AT_COUNTERS: Final = {"just_bought": "counter_just_bought"}  # what would tell a cashier to send a text
_SOLD: Final = ("sold", "sold_no_token")


class Outcome(Enum):
    """How asking for a sale ended."""

    SOLD = "sold"
    REFUSED = "refused"
    DIFFERS = "differs"  # its reference was used for another sale
    IN_PROGRESS = "in progress"
    PRICED = "priced"


@dataclass(frozen=True, slots=True)
class Printed:
    """What the terminal prints."""

    outcome: Outcome
    text: str


@dataclass(slots=True)
class _Heard(Outgoing):
    """Where the desk's replies go: they are read from the books, so hearing of one is enough."""

    event: asyncio.Event = field(default_factory=asyncio.Event)

    def enqueue(self, replies: list[Reply]) -> None:
        self.event.set()


@dataclass(frozen=True, slots=True)
class Till:
    """One terminal. Made by `opened`."""

    shop: Shop
    store: Store
    desk: VendingDesk
    catalogue: Catalogue
    heard: _Heard

    async def sell(self, sale: CounterSale, reference: str) -> Printed:
        """Ask for a sale, and print what came of it; the same reference again asks for the same sale.

        Raises NotStored if the request could not be stored; then nothing was sold.
        """
        asked = (sale.drn, sale.amount_minor, sale.nth, sale.login, sale.station, *sale.tenders)
        inbound = Inbound(
            channel=CHANNEL,
            peer=sale.station,
            reference=reference,
            fingerprint=hashlib.blake2b(repr(asked).encode(), digest_size=16).digest(),
            sender=sender_of(sale.login, sale.station),
            destination=sale.station,
            command=sale,
            received_at=self.shop.world.now(),
        )
        await self.desk.receive(inbound)
        found = await self._answered(reference)
        assert found is not None, "the desk has stored it"
        if found.fingerprint != inbound.fingerprint:
            text = self._text(Message("duplicate_differs", {}), self.shop.settings.utility.default_language)
            return Printed(Outcome.DIFFERS, text)
        return await self._print(found, reference, {"amount_minor": sale.amount_minor, "drn": sale.drn})

    async def price(self, sale: CounterSale) -> Printed:
        """What a sale would come to just now, with whose meter it is; nothing is sold. Raises NotStored."""
        reference = f"{sale.station}/price/{self.shop.world.new_id()}"
        inbound = Inbound(
            channel=CHANNEL,
            peer=sale.station,
            reference=reference,
            fingerprint=hashlib.blake2b(reference.encode(), digest_size=16).digest(),
            sender=sender_of(sale.login, sale.station),
            destination=sale.station,
            command=CounterPrice(sale.drn, sale.amount_minor, login=sale.login, station=sale.station),
            received_at=self.shop.world.now(),
        )
        await self.desk.receive(inbound)
        found = await self._answered(reference)
        assert found is not None and found.answer is not None, "a price is answered in the transaction that stores it"
        return await self._print(found, reference, {})

    async def again(self, reference: str) -> Printed | None:
        """What became of the sale of this reference; None if there is none."""
        found = await self._answered(reference)
        if found is None:
            return None
        return await self._print(found, reference, {})

    async def copy(self, found: Receipt, origin: Origin) -> Printed:
        """A receipt once more, marked as a copy, and on record."""
        await self.store.transact(lambda connection: counter_sales.note_copy(connection, found, origin))
        still = await self.store.read(partial(counter_sales.receipt, purchase_id=found.purchase.id))
        if still is None:
            gone = await self.store.read(partial(counter_sales.undone, purchase_id=found.purchase.id))
            assert gone is not None, "a sale stands, with a receipt, or was undone"
            return self.undone(gone)
        return Printed(Outcome.SOLD, self._receipt(still, is_copy=True))

    async def _answered(self, reference: str) -> Stored | None:
        """The request as far as it has come once it is answered, or the time to wait is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.shop.settings.counter.wait_s
        while True:
            self.heard.event.clear()
            found = await self.store.read(partial(counter_sales.stored, reference=reference))
            left_s = deadline - loop.time()
            if found is None or found.answer is not None or left_s <= 0:
                return found
            self.desk.go_on(found.request_id)  # a crash, or a busy service point, may have left it where it is
            try:
                async with asyncio.timeout(min(_LOOK_S, left_s)):
                    await self.heard.event.wait()
            except TimeoutError:
                pass  # look again: another process may have answered

    async def _print(self, found: Stored, reference: str, values: Mapping[str, Any]) -> Printed:
        answer = found.answer
        default = self.shop.settings.utility.default_language
        if answer is None:
            message = Message("counter_in_progress", self.shop.money(**values, reference=reference))
            return Printed(Outcome.IN_PROGRESS, self._text(message, default))
        now = self.shop.world.now()
        await self.store.transact(lambda connection: counter_sales.shown(connection, found.request_id, answer, now))
        if answer.message == "counter_price":
            return Printed(Outcome.PRICED, self._text(Message(answer.message, answer.values), answer.language))
        if answer.message not in _SOLD:
            key = _AT_COUNTERS.get(answer.message, answer.message)
            return Printed(Outcome.REFUSED, self._text(Message(key, answer.values), answer.language))
        receipt = await self.store.read(partial(counter_sales.receipt, purchase_id=found.request_id))
        if receipt is None:
            return await self._undone(found)
        return Printed(Outcome.SOLD, self._receipt(receipt, is_copy=answer.was_shown))

    async def _undone(self, found: Stored) -> Printed:
        """The sale was taken back since: its token is printed no more."""
        gone = await self.store.read(partial(counter_sales.undone, purchase_id=found.request_id))
        assert gone is not None, "a sale stands, with a receipt, or was undone"
        return self.undone(gone)

    def undone(self, gone: Undone) -> Printed:
        """What became of a sale that was taken back, or whose money was given back."""
        values = self.shop.money(drn=gone.drn, amount_minor=gone.amount_minor, receipt=gone.receipt)
        return Printed(Outcome.REFUSED, self._text(Message(gone.reason.lower(), values), gone.language))

    def _receipt(self, found: Receipt, *, is_copy: bool) -> str:
        """The receipt in the station's language: where and by whom, tokens and split, what was paid with."""
        row, shop = found.purchase, self.shop
        split = json.loads(row.sale or "{}")
        sold = sold_message(shop, row, found.drn, split, list(found.tokens), 0)
        head = {
            "utility": shop.settings.utility.name,
            "station": f"{found.station} {found.station_name}",
            "operator": found.login,
            "sold_at": f"{shop.local(row.accepted_at):%Y-%m-%d %H:%M}",
        }
        paid = shop.money(cash_minor=found.cash_minor, card_minor=found.card_minor, cheque_minor=found.cheque_minor)
        parts = [
            Message("counter_head", head),
            *([Message("counter_copy", {})] if is_copy else []),
            # The station's own balance is not for the customer.
            Message(sold.key, {name: value for name, value in sold.values.items() if name != "balance_minor"}),
            *(Message("counter_debt", shop.money(**values)) for values in _debts_of(split)),
            Message("counter_paid", paid),
        ]
        return "\n".join(self._text(part, row.language).strip("\n") for part in parts)

    def _text(self, message: Message, language: str) -> str:
        return wording.render(message, language, self.catalogue)


def _debts_of(split: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a sale took for each debt, and what it left of it; of the account before it, as it is kept with the sale."""
    owed = {debt["id"]: debt["outstanding_minor"] for debt in split.get("account", {}).get("debts", ())}
    return [
        {"debt": code, "taken_minor": taken, "left_minor": owed[code] - taken}
        for code, taken in split.get("debts_minor", {}).items()
        if code in owed
    ]


@asynccontextmanager
async def opened(
    settings: Settings, world: World, store: Store, module: SecurityModule | None = None
) -> AsyncIterator[Till]:
    """A terminal on this store, with its security modules open."""
    keys = module or await keywatch.kept_module(settings, store)
    shop, heard = Shop.of(settings, world, keys), _Heard()
    desk = VendingDesk(shop, store, heard, Metrics())
    try:
        yield Till(shop, store, desk, languages.load(settings.utility.default_language), heard)
    finally:
        await desk.close()
        if module is None and isinstance(keys, ModulePool):
            await keys.close()


def is_typed() -> bool:
    """Whether somebody types at a terminal, and no file or program."""
    return sys.stdin.isatty()


async def typed_line(prompt: str = "") -> str:
    """A line from standard input; empty at its end. Whoever types at a terminal sees the prompt, on standard error."""
    if prompt and is_typed():
        sys.stderr.write(prompt)
        sys.stderr.flush()
    return await asyncio.to_thread(sys.stdin.readline)
