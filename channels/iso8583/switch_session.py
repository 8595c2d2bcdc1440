"""One link as a bank's switch sees it: the other side of `session.py`. Pure: octets and time in, events and octets out.

Network management that the gateway begins is answered here; answers come out as they came, whoever waits for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from channels.iso8583 import framing, mac, mti
from channels.iso8583.answers import answer_to
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import Fault, IsoError, KeyRefused
from channels.iso8583.framing import Framer
from channels.iso8583.keymodule import Generation, KeyModule
from channels.iso8583.matching import answer_key_of
from channels.iso8583.message import Message
from channels.iso8583.profile import Network, Profile
from channels.iso8583.requests import NetworkManagement, request_of
from channels.iso8583.session import Moment


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. `key` is what its request has too."""

    key: tuple[str, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class Asked:
    """The gateway began something, and was answered."""

    network: Network


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that a gateway must not send; the sentence holds no value."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Over:
    """The link cannot go on."""

    why: str


Event: TypeAlias = Answer | Asked | Wrong | Over


class SwitchSession:
    """One link. The owner writes what `take_output` gives, and what `packed` makes of its own messages."""

    def __init__(self, profile: Profile, keys: KeyModule | None = None) -> None:
        if profile.mac is not None and keys is None:
            raise KeyRefused(Fault.KEY_MISSING, "keys", "a key module expected for a profile with MACs")
        self.is_signed_on = profile.link.sign_on == "none"
        self._profile: Final = profile
        self._keys: Final = keys
        self._framer: Final = Framer(profile.framing)
        self._output = bytearray()

    def take_output(self) -> bytes:
        """The octets to be written now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def packed(self, message: Message, *, wrong_mac: bool = False) -> bytes:
        """A message in its frame, with its MAC, on purpose a wrong one if so asked. Raises EncodeError."""
        profile = self._profile
        if profile.mac is not None:
            message = mac.authenticated(profile.packager, profile.mac, message, self._compute(Generation.ACTIVE))
            if wrong_mac and profile.mac.is_due(message.mti):
                number = profile.mac.field_of(message.without([64, 128]))
                turned = f"{int(message.get(number) or '0', 16) ^ 1:0{len(message.get(number) or '')}X}"
                message = message.having({number: turned})
        length = profile.framing.tpdu
        tpdu = bytes([profile.framing.tpdu_id]).ljust(length, b"\0") if length else b""
        return framing.framed(profile.framing, profile.packager.encode(message), tpdu)

    def key_of(self, message: Message) -> tuple[str, ...]:
        """What the answer to a request of ours will share with it."""
        answers = self._profile.answers
        return answer_key_of(message, answers.get(message.mti[1], answers[""]))

    def receive(self, data: bytes, at: Moment) -> list[Event]:
        """What came of these octets."""
        events: list[Event] = []
        for frame in self._framer.feed(data):
            if frame.is_keep_alive:
                continue
            try:
                events.append(self._came(self._profile.packager.decode(frame.body), frame.tpdu, at))
            except IsoError as error:
                events.append(Wrong(f"{error}"))
        if self._framer.broken is not None:
            events.append(Over(str(self._framer.broken)))
        return events

    def _came(self, message: Message, tpdu: bytes, at: Moment) -> Event:
        profile = self._profile
        if profile.mac is not None and self._keys is not None:
            generations = self._keys.generations(profile.mac.key, at.utc)
            mac.check(profile.packager, profile.mac, message, *map(self._compute, generations))
        if mti.is_answer(message.mti):
            return Answer(self.key_of(message), message)
        request = request_of(profile, message)
        if not isinstance(request, NetworkManagement):
            raise IsoError(Fault.MTI, "MTI", "an answer, or network management, expected from a gateway")
        answer = answer_to(profile, message, Outcome.NETWORK_ACCEPTED)
        if profile.mac is not None:
            answer = mac.authenticated(profile.packager, profile.mac, answer, self._compute(Generation.ACTIVE))
        self._output += framing.framed(profile.framing, profile.packager.encode(answer), framing.answering(tpdu))
        if request.network in (Network.SIGN_ON, Network.SIGN_OFF):
            self.is_signed_on = request.network is Network.SIGN_ON
        return Asked(request.network)

    def _compute(self, generation: Generation) -> mac.Compute:
        rules, keys = self._profile.mac, self._keys
        assert rules is not None and keys is not None, "looked at before"
        return lambda data: keys.mac(rules.key, rules.algorithm, rules.padding, data, generation)
