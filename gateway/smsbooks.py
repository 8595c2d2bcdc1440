"""What the SMS channel keeps in the database: parts of long messages, delivery receipts, and the looking after both.

Shell: it passes to `ledger/sms_parts.py` and `ledger/sms.py`, many receipts in one transaction. A receipt is
acknowledged to its message centre when it is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from channels.contract import DeliveryReport, NotStored
from channels.smpp import codes
from channels.smpp.link import IncomingReceipt
from channels.smpp.messageid import IdForms, forms
from channels.sms import plain_number
from config.settings import LinksSettings
from gateway.metrics import Metrics
from gateway.partseal import NONCE_BYTES, PartSeal
from gateway.world import World
from ledger import sms, sms_parts
from ledger.sms import News, Told
from ledger.sms_parts import Assembly, AssemblyState, PartRow
from ledger.store import Store

log = logging.getLogger(__name__)

_AT_ONCE: Final = 500
_LOOK_EVERY_S: Final = 5.0
_FORGET_EVERY: Final = 12  # looks
_PARKED_FOR: Final = timedelta(hours=1)
# Message centres repeat what they think we have not taken for hours; a part that is done with is known so long.
_PARTS_KEPT: Final = timedelta(hours=24)
_STATE_CHARACTERS: Final = 20


class StoredParts:
    """Satisfies `channels.sms.PartBooks`. `key` is the settings' ([pins] key), under which parts are sealed."""

    def __init__(self, store: Store, world: World, part_timeout_s: float, key: str) -> None:
        self._store = store
        self._world = world
        self._seal = PartSeal(key)
        self._timeout = timedelta(seconds=part_timeout_s)

    async def keep(self, key: str, link: str, total: int, part: PartRow) -> Assembly:
        """Store a part; its message with all parts that are there."""
        now = self._world.now()
        store = partial(
            sms_parts.keep_part,
            key=key,
            fresh=self._world.new_id(),
            link=link,
            total=total,
            part=self._seal.sealed(part, self._world.nonce(NONCE_BYTES)),
            now=now,
            forgotten_before=now - max(_PARTS_KEPT, 2 * self._timeout),
        )
        try:
            return self._opened(await self._store.transact(store))
        except Exception as error:  # whatever it was, nothing was stored: the peer must not be told otherwise
            log.exception("a part of a long message could not be stored")
            raise NotStored(type(error).__name__) from error

    def _opened(self, assembly: Assembly) -> Assembly:
        """The message with its parts as they came, where there is still something to do with them."""
        if assembly.state is not AssemblyState.OPEN:
            return assembly
        parts = [self._seal.opened(part) for part in assembly.parts]
        if any(part.sealed_by for part in parts):
            # Its sender is told, when its time is up, that a part is missing.
            log.error("a long message by link %s is sealed under another [pins] key", assembly.link)
        return replace(assembly, parts=parts)

    async def settle(self, assembly_id: UUID, state: AssemblyState) -> None:
        """Note what became of a message."""
        try:
            await self._store.transact(partial(sms_parts.settle, assembly_id=assembly_id, state=state))
        except Exception:  # it is handed on once more, which its reference makes harmless
            log.exception("what became of a long message could not be stored")

    async def left(self, quiet: timedelta) -> list[Assembly]:
        """Messages to which nothing was added for so long, and of which nothing has become yet."""
        since = self._world.now() - quiet
        try:
            found = await self._store.read(partial(sms_parts.left, quiet_since=since, at_most=_AT_ONCE))
            return [self._opened(assembly) for assembly in found]
        except Exception as error:  # the database is away: the channel looks again later
            raise NotStored(type(error).__name__) from error


class Receipts:
    """Takes delivery receipts, finds the parts they are about, and looks after those that say nothing good."""

    def __init__(
        self,
        store: Store,
        settings: LinksSettings,
        second_routes: Mapping[str, str],
        world: World,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._settings = settings
        self._second_routes = second_routes
        self._world = world
        self._metrics = metrics
        self._waiting: deque[tuple[Callable[[bool], None], News]] = deque()  # each is told whether it was stored
        self._some = asyncio.Event()
        self._is_over = False

    def take(self, incoming: IncomingReceipt) -> None:
        """Take one receipt, as the channel hands it over; it is answered when it is stored."""
        receipt, link = incoming.receipt, incoming.link
        if not receipt.message_id or not receipt.state:
            # An acknowledgement by the phone's owner, or words that nobody can use.
            log.info("link %s: %s without id or state", link.name, receipt.kind)
            self._metrics.receipt(link.name, "unusable")
            incoming.answer(codes.ROK)
            return
        if self._is_over:
            incoming.answer(codes.RX_T_APPN)
            return
        news = News(
            id=self._world.new_id(),
            centre=link.centre,
            forms=forms(receipt.message_id, link.settings.message_ids),
            recipient=plain_number(receipt.about),
            state=receipt.state[:_STATE_CHARACTERS].upper(),
            error=receipt.error[:_STATE_CHARACTERS] if receipt.error else None,
            at=self._world.now(),
        )
        self._waiting.append((lambda is_stored: incoming.answer(codes.ROK if is_stored else codes.RX_T_APPN), news))
        self._some.set()

    async def keep(self, report: DeliveryReport) -> None:
        """Return once a report that came by HTTP is stored; raise NotStored if it could not be."""
        if self._is_over:
            raise NotStored("a delivery report")
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def tell(is_stored: bool) -> None:
            if not stored.done():  # whoever asked may have gone
                stored.set_result(is_stored)

        news = News(
            id=self._world.new_id(),
            centre=report.centre,
            forms=forms(report.message_id, IdForms.SAME),
            recipient=report.recipient,
            state=report.state,
            error=report.error[:_STATE_CHARACTERS] or None,
            at=self._world.now(),
        )
        self._waiting.append((tell, news))
        self._some.set()
        if not await stored:
            raise NotStored("a delivery report")

    async def run(self) -> None:
        """Write what comes, and look after what does not come, until cancelled; then put off what is not written."""
        self._is_over = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_writing(), name="receipts")
                tasks.create_task(self._keep_looking(), name="receipts-look")
        finally:
            # A link that leaves waits for its answers. The message centre sends the receipt again, to whoever is there.
            self._is_over = True
            while self._waiting:
                self._waiting.popleft()[0](False)

    async def _keep_writing(self) -> None:
        """Write what waits, at once: what comes meanwhile is written together next.

        Not a moment later: a message centre with a small window sends no text before its receipts are answered.
        """
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                await self._write(some)

    async def _write(self, some: Sequence[tuple[Callable[[bool], None], News]]) -> None:
        news = [one for _, one in some]
        is_stored = False
        try:
            told = await self._store.transact(lambda connection: sms.take_receipts(connection, news))
            is_stored = True
            self._count(told)
        except Exception:  # the message centre sends them again
            log.exception("receipts could not be stored")
        finally:
            for tell, _ in some:
                tell(is_stored)

    def _count(self, told: Sequence[Told]) -> None:
        for one in told:
            self._metrics.receipt(one.link, one.state)
            if one.is_first and one.state == sms.DELIVERED:
                self._metrics.delivered(one.link, max(0.0, one.at.timestamp() - one.sent_at_ms / 1000))

    async def _keep_looking(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            looks += 1
            try:
                await self.look(forget=looks % _FORGET_EVERY == 0)
            except Exception:  # the database is away: the next look tries again
                log.exception("receipts could not be looked after")

    async def look(self, *, forget: bool = False) -> None:
        """Match receipts that came too early, try second routes, and forget what is old."""
        now = self._world.now()
        told, dropped = await self._store.transact(
            lambda connection: sms.match_parked(connection, drop_before=now - _PARKED_FOR)
        )
        self._count(told)
        if dropped:
            log.warning("%d receipts of messages that nobody here has sent dropped", dropped)
        after_s = self._settings.second_route_after_s
        if after_s:
            before = sms.first_id_at(now - timedelta(seconds=after_s))
            again = await self._store.transact(
                lambda connection: sms.second_route(
                    connection, other=self._second_routes, sent_before=before, now=now, at_most=_AT_ONCE
                )
            )
            if again:
                log.warning("%d replies without a good receipt go out by another link", again)
        if forget:
            old = sms.kept_since(now, self._settings.sent_kept_days)
            while await self._store.transact(partial(sms.forget_sent, before=old, at_most=_AT_ONCE)) == _AT_ONCE:
                pass
            ended = now - _PARTS_KEPT
            while await self._store.transact(partial(sms_parts.forget, before=ended, at_most=_AT_ONCE)) == _AT_ONCE:
                pass
