"""All that the gateway knows of a channel, and all that a channel knows of the gateway. Pure.

A channel turns what came over its wire into `Inbound`, hands it to the `Desk`, and acknowledges to its peer only
when the desk's call has returned: then the request is stored. Replies come back later through `Channel.send`.
"""

from __future__ import annotations

from collections.abc import Mapping
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
