"""All that the gateway knows of a channel, and all that a channel knows of the gateway. Pure.

A channel turns what came over its wire into `Inbound`, hands it to the `Desk`, and acknowledges to its peer only
when the desk's call has returned: then the request is stored. Replies come back later through `Channel.send`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from channels.commands import Command


@dataclass(frozen=True, slots=True)
class Inbound:
    """One request as it came in.

    `reference` is what a repeat of the same request would carry again, by whichever peer it comes; it is unique per
    channel.
    `fingerprint` is 16 octets of digest over the content, by which a repeat is told from a reused reference.
    `sender` and `destination` are as the wire gives them, digits without plus for phone numbers.
    `answer_by` is set by channels that must answer in the same exchange; None where the reply goes out later.
    """

    channel: str
    peer: str
    reference: str
    fingerprint: bytes
    sender: str
    destination: str
    command: Command
    received_at: datetime
    answer_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What to say, not yet in words: a key of the language files and the values for its fields.

    Values are JSON types only: str, int (money in minor units, units in tenths of a kWh), bool, None, lists, objects.
    """

    key: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A message owed to somebody. `id` is the outbox row; the same id may be sent again after a crash."""

    id: UUID
    request_id: UUID
    channel: str
    peer: str
    recipient: str
    sender: str
    language: str
    message: Message


class Outcome(Enum):
    """How an attempt to send a reply ended."""

    TAKEN = "taken"  # the peer has accepted it
    LATER = "later"  # not taken, the same again later may work (throttled, link down, no answer in time)
    NEVER = "never"  # refused for good (bad destination)


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part of a reply that a peer has taken and will say more about, in a delivery receipt.

    `centre` is where `message_id` is unlike others; `normal` is the form of it by which its receipt is looked up.
    """

    link: str
    centre: str
    message_id: str
    normal: str
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome of one attempt, with the peer's own words for the log (no secrets)."""

    outcome: Outcome
    detail: str = ""
    parts: tuple[SentPart, ...] = ()
    is_tried: bool = True  # False: there was no way to try, which does not count as an attempt


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What a peer says of a message that it has taken. `state` in the words of SMPP receipts: "DELIVRD", "UNDELIV"."""

    link: str
    centre: str
    message_id: str
    recipient: str
    state: str
    error: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class TextIn:
    """A text from a phone that came whole, under an id of the peer's own. In no repr: it may hold a PIN."""

    link: str
    centre: str
    message_id: str
    sender: str
    destination: str
    text: str


class TextWay(Protocol):
    """A way out that takes a text whole, as an aggregator does, and cuts it into short messages itself."""

    @property
    def name(self) -> str:
        """The peer's name, as stored with requests."""

    @property
    def centre(self) -> str:
        """Where its ids of messages are unlike others."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The beginnings of the phone numbers it serves; none for all."""

    @property
    def sends(self) -> bool:
        """Whether it ever sends: a way that only takes messages does not."""

    @property
    def short_codes(self) -> frozenset[str]:
        """The numbers that customers write to by this way and by no other."""

    @property
    def is_ailing(self) -> bool:
        """Whether the last messages got no usable answer."""

    @property
    def is_slowed(self) -> bool:
        """Whether the peer has complained of the speed."""

    def is_up(self) -> bool:
        """Whether a text could be sent now."""

    async def send(self, reply: Reply, text: str, keep_whole: Sequence[str]) -> tuple[Sent, bool]:
        """Try once. True with it: no other way may be tried now, for this one took it, or perhaps did."""

    async def close(self) -> None:
        """Let go of connections."""


class NotStored(Exception):
    """The desk could not store the request: the channel must not acknowledge it, so that the peer sends again."""


class Desk(Protocol):
    """Where every channel comes."""

    async def receive(self, inbound: Inbound) -> None:
        """Return once the request is stored; raise NotStored if it could not be."""


class Channel(Protocol):
    """One way in and out."""

    @property
    def name(self) -> str:
        """The channel's name as stored with requests, "sms"."""

    async def run(self, desk: Desk) -> None:
        """Serve until cancelled."""

    async def send(self, reply: Reply) -> Sent:
        """Try to deliver one reply, once."""

    def is_up(self) -> bool:
        """Whether a reply could be sent now."""
