"""Sends the replies owed: at once from memory after the commit, again from the outbox if that failed or was lost.

A reply's row is leased to the node that sends it. Rows whose lease has run out belong to whoever claims them; a node
that restarts claims its own at once. The same reply may so go out twice after a crash: with the same token in the same
words.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from channels.contract import Channel, Message, Outcome, Reply, Sent, SentPart
from config.settings import DeliverySettings
from gateway.metrics import Metrics
from gateway.purchase import TABLE, Event, State
from gateway.world import World
from ledger.outbox import End, Postpone, claim, oldest_by_peer, owed, release
from ledger.sms import SentRow
from ledger.store import Store
from ledger.unit import OutboxRow

log = logging.getLogger(__name__)

_CONFIRMED = TABLE[State.VENDED][Event.REPLY_CONFIRMED].state.value
_SOLD = frozenset({"sold", "sold_no_token", "corrected"})  # the replies that bring a purchase's token
_BACKLOG_ROUNDS = 20  # what waits in memory, in multiples of what may be in flight; the rest waits in the outbox


@dataclass(frozen=True, slots=True)
class Owed:
    """A reply in memory, and until when it is this node's to send."""

    reply: Reply
    attempts: int
    lease_until: datetime
    is_first: bool = False  # enqueued by the deed that owed it: nobody had it before


class Delivery:
    """Owns every reply from its commit to its end."""

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Channel],
        settings: DeliverySettings,
        node: str,
        world: World,
        metrics: Metrics,
        *,
        is_watched: bool = False,
    ) -> None:
        self._is_watched = is_watched  # whether a second route is tried where no good receipt comes
        self._store = store
        self._channels = channels
        self._settings = settings
        self._node = node
        self._world = world
        self._metrics = metrics
        self._backlog: deque[Owed] = deque()
        self._held: set[UUID] = set()  # outbox rows that wait in the backlog or are being sent
        self._tasks: set[asyncio.Task[None]] = set()

    def enqueue(self, replies: list[Reply]) -> None:
        """Send these as soon as there is room. What finds no room stays in the outbox and is claimed from there.

        So does what is for a channel of another process: a cashier's terminal asks for its answers itself.
        """
        lease_until = self._world.now() + timedelta(seconds=self._settings.lease_s)
        for reply in replies:
            if reply.channel not in self._channels:
                continue
            if len(self._backlog) < self._settings.in_flight_max * _BACKLOG_ROUNDS:
                self._hold(Owed(reply, 0, lease_until, is_first=True))
        self._fill()

    def withhold(self, request_id: UUID) -> list[Owed]:
        """Keep back the replies to this request that were owed here first and that nobody has begun to send.

        No channel was ever handed one of these. `send_after_all` puts them back; if nobody does, their lease runs out.
        """
        kept = [one for one in self._backlog if one.is_first and one.reply.request_id == request_id]
        for one in kept:
            self._backlog.remove(one)
            self._held.discard(one.reply.id)
        return kept

    def send_after_all(self, withheld: list[Owed]) -> None:
        """Let what was withheld go its way."""
        for one in withheld:
            self._hold(one)
        self._fill()

    async def run(self) -> None:
        """Claim what was left over, for ever."""
        await self._take_back()
        while True:
            try:
                await self._claim()
            except Exception:  # the database is away: the next round tries again
                log.exception("owed replies could not be claimed")
            await asyncio.sleep(self._settings.poll_every_s)

    async def owed(self) -> tuple[int, float]:
        """How many replies are owed by all nodes, and for how many seconds the oldest."""
        count, oldest = await self._store.read(owed)
        age_s = self._world.now().timestamp() - (oldest.int >> 80) / 1000 if oldest is not None else 0.0
        return count, age_s

    async def oldest_by_peer(self) -> dict[str, float]:
        """For how many seconds the oldest reply is owed, by the peer that its request came from."""
        now = self._world.now().timestamp()
        found = await self._store.read(oldest_by_peer)
        return {peer: now - (oldest.int >> 80) / 1000 for peer, oldest in found.items()}

    async def close(self) -> None:
        """Let what is in flight end, for a short while."""
        self._backlog.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        for task in self._tasks:
            task.cancel()

    async def _take_back(self) -> None:
        """Before anything is sent: what this node was about to send when it stopped is free to be claimed."""
        now = self._world.now()
        taken = await self._store.transact(lambda connection: release(connection, owner=self._node, now=now))
        if taken:
            log.info("replies owed from before the start", extra={"replies": taken})

    async def _claim(self) -> None:
        while True:
            up = [name for name, channel in self._channels.items() if channel.is_up()]
            room = self._settings.in_flight_max - len(self._backlog)
            if not up or room <= 0:
                return
            now = self._world.now()
            take = partial(
                claim,
                owner=self._node,
                channels=up,
                now=now,
                lease_until=now + timedelta(seconds=self._settings.lease_s),
                at_most=room,
            )
            rows = await self._store.transact(take)
            for row in rows:
                if row.id not in self._held:  # one that is being sent had its lease renewed, and that is all
                    self._hold(Owed(_reply(row), row.attempts, row.lease_until))
            self._fill()
            if len(rows) < room:
                return

    def _hold(self, owed: Owed) -> None:
        self._held.add(owed.reply.id)
        self._backlog.append(owed)

    def _fill(self) -> None:
        now = self._world.now()
        while self._backlog and len(self._tasks) < self._settings.in_flight_max:
            owed = self._backlog.popleft()
            if now >= owed.lease_until:
                self._held.discard(owed.reply.id)  # it waited too long here: whoever claims it next sends it
                continue
            task = asyncio.create_task(self._send(owed.reply, owed.attempts))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, owed.reply.id))

    def _ended(self, outbox_id: UUID, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._held.discard(outbox_id)
        if not task.cancelled() and task.exception() is not None:
            log.error("a reply could not be marked; its lease will run out", exc_info=task.exception())
        self._fill()

    async def _send(self, reply: Reply, attempts: int) -> None:
        channel = self._channels.get(reply.channel)
        try:
            sent = await channel.send(reply) if channel else Sent(Outcome.LATER, "no such channel here")
        except Exception:  # a bug of the channel's; the reply is tried again like any other that was not taken
            log.exception("a reply met a bug", extra={"outbox": str(reply.id), "channel": reply.channel})
            self._metrics.fault("delivery")
            sent = Sent(Outcome.LATER, "a bug")
        now = self._world.now()
        outcome = sent.outcome
        if outcome is Outcome.LATER and sent.is_tried and attempts + 1 >= self._settings.attempts_max:
            outcome = Outcome.NEVER
        self._metrics.reply(reply.channel, outcome)
        if outcome is Outcome.LATER:
            wait_s = min(self._settings.retry_max_s, self._settings.retry_min_s * 2 ** min(attempts, 20))
            wait_s *= 0.5 + self._world.chance()  # or all of them would come back in one moment
            await self._store.submit(Postpone(reply.id, now + timedelta(seconds=wait_s), sent.detail, sent.is_tried))
            return
        if outcome is Outcome.NEVER:
            log.error("a reply was given up", extra={"outbox": str(reply.id), "detail": sent.detail})
        state = "SENT" if outcome is Outcome.TAKEN else "DEAD"
        confirms = (reply.request_id, _CONFIRMED) if reply.message.key in _SOLD else None
        rows = tuple(self._sent_row(reply, part) for part in sent.parts)
        await self._store.submit(End(reply.id, self._node, state, confirms, sent.detail, now, rows))

    def _sent_row(self, reply: Reply, part: SentPart) -> SentRow:
        """What is kept of a part until its receipt comes."""
        return SentRow(
            id=self._world.new_id(),
            centre=part.centre,
            normal=part.normal,
            message_id=part.message_id,
            outbox_id=reply.id,
            part=part.part,
            parts=part.parts,
            link=part.link,
            recipient=reply.recipient,
            state=None,
            error=None,
            state_at=None,
            is_watched=self._is_watched,
        )


def _reply(row: OutboxRow) -> Reply:
    return Reply(
        id=row.id,
        request_id=row.request_id,
        channel=row.channel,
        peer=row.peer,
        recipient=row.recipient,
        sender=row.sender,
        language=row.language,
        message=Message(row.message, json.loads(row.fields)),
    )
