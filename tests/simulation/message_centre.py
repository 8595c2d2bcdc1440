"""The far side of the SMS channel, without a wire: customers' texts, a message centre, and the lines to it.

The message centre keeps every text until a node has acknowledged it, delivers it again when no acknowledgement came
back, and now and then delivers one twice anyway. Replies it takes, puts off, refuses for good, or takes without our
hearing of it. Everything it does is drawn from one seeded generator. What nodes and phones have seen is kept for
the checks.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from channels.commands import Command
from channels.contract import Desk, Inbound, NotStored, Outcome, Reply, Sent
from channels.sms import fingerprint

SHORT_CODE: Final = "20777"
PEER: Final = "smsc"  # one message centre for all nodes, so a repeat at another node has the same reference
_DELIVERIES_MAX: Final = 80  # of one text; one that is still not acknowledged never will be


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong, each in [0, 1]; what is left goes well."""

    acknowledgement_lost: float = 0.0
    delivered_twice: float = 0.0
    reply_put_off: float = 0.0  # throttled
    reply_unheard: float = 0.0  # taken, but its answer does not come
    reply_lost: float = 0.0  # not taken, and no answer comes
    reply_slow: float = 0.0  # taken after a minute or more


@dataclass(slots=True)
class Text:
    """One text from a phone. `reference` is the message centre's own id; None on a link that carries none."""

    number: int
    sender: str
    words: str
    reference: str | None
    at_s: float
    is_done: bool = False  # the message centre has its acknowledgement and forgets it


class MessageCentre:
    """Keeps texts, knows lines, hands replies to phones."""

    def __init__(
        self, chance: random.Random, faults: Faults, dead_numbers: frozenset[str], note: Callable[..., None]
    ) -> None:
        self.chance = chance
        self.faults = faults
        self.note = note
        self.texts: list[Text] = []
        self.offered: defaultdict[str, list[Inbound]] = defaultdict(list)  # by reference
        self.acknowledged: defaultdict[str, list[Inbound]] = defaultdict(list)  # by reference
        self.copies: defaultdict[UUID, list[tuple[str, str]]] = defaultdict(list)  # reply -> (phone, text)
        self.replies: dict[UUID, Reply] = {}
        self.refused_for_good: Counter[UUID] = Counter()
        self.doubtful: Counter[UUID] = Counter()  # times a reply was taken and we could not know, or not soon
        self.bugs: list[str] = []
        self.dead_numbers: Final = dead_numbers
        self._lines: dict[str, Line] = {}
        self._down_until_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- the network ---

    def bind(self, line: Line) -> None:
        self._lines[line.node] = line

    def unbind(self, line: Line) -> None:
        if self._lines.get(line.node) is line:
            del self._lines[line.node]

    def cut(self, node: str, seconds: float) -> None:
        """The lines to this node are down for so long."""
        self._down_until_s[node] = asyncio.get_running_loop().time() + seconds
        self.note("cut", node, round(seconds))

    def is_cut(self, node: str) -> bool:
        return asyncio.get_running_loop().time() < self._down_until_s.get(node, 0.0)

    def calm_down(self) -> None:
        """From here on nothing goes wrong any more, except for numbers that do not exist."""
        self.faults = Faults()
        self._down_until_s.clear()

    # --- texts ---

    def post(self, text: Text) -> None:
        """A phone will send this."""
        self.texts.append(text)
        task = asyncio.get_running_loop().create_task(self._carry(text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def undone(self) -> list[Text]:
        """Texts that no node has acknowledged yet, as far as the message centre heard."""
        return [text for text in self.texts if not text.is_done]

    async def _carry(self, text: Text) -> None:
        await asyncio.sleep(max(0.0, text.at_s - asyncio.get_running_loop().time()))
        again = self.chance.random() < self.faults.delivered_twice
        for _ in range(_DELIVERIES_MAX):
            if await self._deliver(text):
                break
            await asyncio.sleep(self.chance.choice((0.0, 1.0, 5.0, 20.0)) + self.chance.random())
        else:
            self.bugs.append(f"text {text.number} was delivered {_DELIVERIES_MAX} times and never acknowledged")
        if again:
            await asyncio.sleep(self.chance.choice((0.0, 0.0, 0.5, 30.0, 400.0)))
            await self._deliver(text)
        text.is_done = True

    async def _deliver(self, text: Text) -> bool:
        """Deliver once, by any line that is up; whether an acknowledgement came back."""
        while not (up := [line for _, line in sorted(self._lines.items()) if line.is_up()]):
            await asyncio.sleep(2.0)
        line = self.chance.choice(up)
        is_stored = await line.take(text, patience_s=self.chance.choice((2.0, 10.0, 30.0)))
        is_heard = is_stored and not self.chance.random() < self.faults.acknowledgement_lost
        self.note("delivered", text.number, line.node, {True: "stored", False: "put off", None: "silence"}[is_stored])
        return bool(is_heard)

    # --- replies ---

    def accept(self, reply: Reply, text: str) -> None:
        self.note("to phone", reply.recipient, repr(text))
        self.copies[reply.id].append((reply.recipient, text))


class Line:
    """Satisfies `channels.contract.Channel`: the SMS channel of one life of a node.

    `spawn` starts a task that dies with the node; `read` and `render` are the channel's own words.
    """

    def __init__(
        self,
        centre: MessageCentre,
        node: str,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        read: Callable[[str], Command],
        render: Callable[[Reply], str],
        now: Callable[[], datetime],
        new_reference: Callable[[], str],
    ) -> None:
        self.node = node
        self._centre = centre
        self._spawn = spawn
        self._read = read
        self._render = render
        self._now = now
        self._new_reference = new_reference
        self._desk: Desk | None = None
        self._is_dead = False

    @property
    def name(self) -> str:
        return "sms"

    def is_up(self) -> bool:
        return self._desk is not None and not self._is_dead and not self._centre.is_cut(self.node)

    def die(self) -> None:
        """As kill -9: nothing leaves any more, acknowledgements neither."""
        self._is_dead = True
        self._centre.unbind(self)

    async def run(self, desk: Desk) -> None:
        self._desk = desk
        self._centre.bind(self)
        await asyncio.get_running_loop().create_future()

    # --- in ---

    async def take(self, text: Text, patience_s: float) -> bool | None:
        """Hand one delivery to the desk: True if it was acknowledged in time, False if put off, None if silent."""
        assert self._desk is not None
        sender = text.sender
        inbound = Inbound(
            channel=self.name,
            peer=PEER,
            reference=f"m:{text.reference}" if text.reference is not None else f"n:{self._new_reference()}",
            fingerprint=fingerprint(sender, SHORT_CODE, 0, text.words.encode()),
            sender=sender,
            destination=SHORT_CODE,
            command=self._read(text.words),
            received_at=self._now(),
        )
        self._centre.offered[inbound.reference].append(inbound)
        task = self._spawn(self._desk.receive(inbound))
        task.add_done_callback(partial(self._stored, inbound))
        await asyncio.wait({task}, timeout=patience_s)
        if self._is_dead or self._centre.is_cut(self.node) or not task.done() or task.cancelled():
            return None
        return task.exception() is None

    def _stored(self, inbound: Inbound, task: asyncio.Task[None]) -> None:
        if self._is_dead or task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._centre.acknowledged[inbound.reference].append(inbound)
        elif not isinstance(error, NotStored):
            self._centre.bugs.append(f"the desk raised {error!r}")

    # --- out ---

    async def send(self, reply: Reply) -> Sent:
        if self._is_dead:
            raise asyncio.CancelledError
        centre, chance = self._centre, self._centre.chance
        centre.replies[reply.id] = reply
        if not self.is_up():
            return Sent(Outcome.LATER, "no link is up")
        text = self._render(reply)
        await asyncio.sleep(chance.uniform(0.02, 0.8))
        if not self.is_up():
            return Sent(Outcome.LATER, "the link went down")
        if reply.recipient in centre.dead_numbers:
            centre.refused_for_good[reply.id] += 1
            return Sent(Outcome.NEVER, "no such number")
        how = self._draw()
        if how == "put off":
            return Sent(Outcome.LATER, "throttled")
        if how != "lost":
            centre.accept(reply, text)
            centre.doubtful[reply.id] += how != "well"
        if how in ("lost", "unheard"):
            await asyncio.sleep(30.0)
            return Sent(Outcome.LATER, "no answer")
        if how == "slow":
            await asyncio.sleep(chance.uniform(5.0, 150.0))
        return Sent(Outcome.TAKEN, "taken")

    def _draw(self) -> str:
        faults = self._centre.faults
        shares = (faults.reply_put_off, faults.reply_lost, faults.reply_unheard, faults.reply_slow)
        return self._centre.chance.choices(
            ("put off", "lost", "unheard", "slow", "well"), (*shares, 1.0 - sum(shares))
        )[0]
