"""One link to a bank: what may be said when, what is answered at once, and what silence means.

Pure: octets and time in, events and octets out.

The owner feeds `receive` with what the socket gives, asks `next_deadline` and calls `tick`, and writes what
`take_output` returns. Sign-on, sign-off, echo, keep-alives and all that is no business are answered here; business
comes out as `Came`, and the owner calls `answer` once the request is stored and decided: on this link, or, when it is
gone, on another of the same bank. A new key comes out as `KeyOffered` and is in use after `take_key`.

Order of checks of what came, each with its own answer: frame (link ends), bytes (FORMAT_ERROR if type and trace number
can be read), answer or request, MAC (MAC_WRONG or silence), meaning (UNKNOWN_FUNCTION, FORMAT_ERROR), signed on
(NOT_SIGNED_ON), room (BUSY). An answer nobody waits for is never answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from channels.iso8583 import framing, mac, mti
from channels.iso8583.answers import NOTHING, Said, answer_to, begun
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import DecodeError, EncodeError, Fault, FrameError, IsoError, KeyRefused, MacError
from channels.iso8583.framing import Frame, Framer
from channels.iso8583.keymodule import Generation, KeyModule, Use
from channels.iso8583.matching import answer_key_of
from channels.iso8583.message import Message
from channels.iso8583.profile import Asked, Network, Profile
from channels.iso8583.requests import NetworkManagement, Request, UnknownFunction, request_of
from ledger.reasons import Reason

UNANSWERED_MAX: Final = 1_000
"""Requests given out and not answered yet; further ones are told BUSY."""
_OWN_MAX: Final = 16
# What is needed to answer a message that cannot be read to its end.
_SALVAGED: Final = (3, 4, 7, 11, 12, 13, 32, 33, 37, 41, 42, 70)


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: seconds of a steady clock, UTC, and local time for the fields that have it."""

    steady_s: float
    utc: datetime
    local: datetime


@dataclass(frozen=True, slots=True)
class Came:
    """A request of the bank: store it, decide it, `answer` it. `tpdu` as it came."""

    request: Request
    tpdu: bytes


@dataclass(frozen=True, slots=True)
class KeyOffered:
    """A new key under the ZMK: store it as it came, then `take_key`."""

    request: NetworkManagement
    tpdu: bytes


@dataclass(frozen=True, slots=True)
class SignedOn:
    """The link may carry business."""


@dataclass(frozen=True, slots=True)
class SignedOff:
    """It may not any more."""


@dataclass(frozen=True, slots=True)
class Echoed:
    """The bank answered an echo of ours."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The bank answered a request of ours with another code than "accepted"."""

    network: Network
    code: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that was answered with a refusal here, or not at all; count it. The error holds nothing of it."""

    error: IsoError
    is_answered: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """Close the link, after writing what there is to write."""

    why: str


Event: TypeAlias = Came | KeyOffered | SignedOn | SignedOff | Echoed | Declined | Refused | Broken


class Session:
    """One link. `keys` holds what the profile's handles name; `next_stan` gives trace numbers for messages of ours.

    `own` are fields that messages of ours carry besides, such as the acquirer's number. Where a bank signs on once for
    all its links, the owner sets `is_signed_on` of the others.
    """

    def __init__(
        self,
        profile: Profile,
        at: Moment,
        next_stan: Callable[[], int],
        keys: KeyModule | None = None,
        own: Mapping[int, str] | None = None,
        unanswered_max: int = UNANSWERED_MAX,
    ) -> None:
        if profile.mac is not None and keys is None:
            raise KeyRefused(Fault.KEY_MISSING, "keys", "a key module expected for a profile with MACs")
        self.is_signed_on = profile.link.sign_on == "none"
        self.unanswered = 0
        self._profile: Final = profile
        self._keys: Final = keys
        self._next_stan: Final = next_stan
        self._own: Final = dict(own or {})
        self._unanswered_max: Final = unanswered_max
        self._framer: Final = Framer(profile.framing)
        self._output = bytearray()
        self._waiting: dict[tuple[str, ...], tuple[Network, float]] = {}
        self._heard_s = at.steady_s
        self._half_since_s: float | None = None
        self._bad_in_a_row = 0
        self._missed = 0
        self._is_broken = False

    # --- what the owner calls -----------------------------------------------------------------------------------------

    def start(self, at: Moment) -> None:
        """The link is open: sign on, if that is ours to do."""
        if self._profile.link.signs_on != "peer" and not self.is_signed_on:
            self._begin(Network.SIGN_ON, at)

    def stop(self, at: Moment) -> None:
        """The link shall end: sign off, if we signed on."""
        if self._profile.link.signs_on != "peer" and self.is_signed_on and self._has(Network.SIGN_OFF):
            self._begin(Network.SIGN_OFF, at)
        self.is_signed_on = False

    def ask(self, network: Network, at: Moment) -> bool:
        """Send a sign-on, sign-off or echo besides those that are due; False: the bank has no such message."""
        if not self._has(network) or self._is_broken:
            return False
        self._begin(network, at)
        return True

    def take_output(self) -> bytes:
        """The octets to be written now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes, at: Moment) -> list[Event]:
        """What came of these octets."""
        if self._is_broken:
            return []
        events: list[Event] = []
        frames = self._framer.feed(data)
        for frame in frames:
            self._heard_s, self._missed = at.steady_s, 0
            events += self._framed(frame, at)
            if self._is_broken:
                return events
        if not self._framer.rest:
            self._half_since_s = None
        elif self._half_since_s is None or frames:
            self._half_since_s = at.steady_s
        if self._framer.broken is not None:
            events.append(self._break(str(self._framer.broken)))
        return events

    def next_deadline(self) -> float | None:
        """When `tick` is due at the latest, in seconds of the steady clock."""
        link, due = (
            self._profile.link,
            [sent + self._profile.timing.bank_timeout_s for _, sent in self._waiting.values()],
        )
        if self._half_since_s is not None:
            due.append(self._half_since_s + link.partial_frame_timeout_s)
        if link.echo_every_s and self.is_signed_on and not self._is_waiting_for(Network.ECHO):
            due.append(self._heard_s + link.echo_every_s)
        return min(due, default=None) if not self._is_broken else None

    def tick(self, at: Moment) -> list[Event]:
        """What silence means by now."""
        link, now = self._profile.link, at.steady_s
        if self._is_broken:
            return []
        if self._half_since_s is not None and now >= self._half_since_s + link.partial_frame_timeout_s:
            return [self._break(f"half a frame for {link.partial_frame_timeout_s} s")]
        patience = self._profile.timing.bank_timeout_s
        for key, (network, sent) in list(self._waiting.items()):
            if now >= sent + patience:
                del self._waiting[key]
                self._missed += 1
                if network is not Network.ECHO or self._missed >= link.echo_misses:
                    return [self._break(f"no answer to {network} for {patience} s")]
                self._begin(Network.ECHO, at)
        idle = link.echo_every_s and self.is_signed_on and now >= self._heard_s + link.echo_every_s
        if idle and not self._is_waiting_for(Network.ECHO):
            self._begin(Network.ECHO, at)
        return []

    def answer(self, came: Came, why: Reason | Outcome, said: Said = NOTHING) -> None:
        """Answer a request, also one that came on another link of the bank.

        Raises EncodeError, and writes nothing, if what is said does not fit the profile.
        """
        self._send(answer_to(self._profile, came.request.message, why, said), framing.answering(came.tpdu))
        self.unanswered = max(0, self.unanswered - 1)

    def take_key(self, offered: KeyOffered, at: Moment) -> IsoError | None:
        """Put the offered key in use and say so under it; or say no under the old one, and give the error."""
        rules, keys, wrapped = self._profile.network, self._keys, offered.request.wrapped
        refused: IsoError | None = None
        try:
            if keys is None or wrapped is None:
                raise KeyRefused(Fault.KEY_MISSING, f"field {rules.key}", "a key, and a key module for it, expected")
            keys.install(rules.key_handle, Use.ZAK, wrapped, rules.zmk_handle)
            keys.activate(rules.key_handle, at.utc, self._profile.timing.old_key_grace_s)
        except KeyRefused as error:
            refused = error
        why = Outcome.NETWORK_ACCEPTED if refused is None else Outcome.MAC_WRONG
        self._send(answer_to(self._profile, offered.request.message, why), framing.answering(offered.tpdu))
        return refused

    # --- what came ----------------------------------------------------------------------------------------------------

    def _framed(self, frame: Frame, at: Moment) -> list[Event]:
        if frame.is_keep_alive:
            if self._profile.link.answer_keep_alive:
                self._output += framing.framed(self._profile.framing, b"")
            return []
        try:
            message = self._profile.packager.decode(frame.body)
        except DecodeError as error:
            return self._unreadable(frame, error)
        self._bad_in_a_row = 0
        if not mti.is_mti(message.mti):
            return [Refused(IsoError(Fault.MTI, "MTI", "a class from 1 to 8 expected"), False)]
        generations = self._generations(at)
        if mti.is_answer(message.mti):
            return self._answered(message, generations, at)
        try:
            self._check_mac(message, generations, at)
            request = request_of(self._profile, message)
        except MacError as error:
            return [self._refuse(message, frame, error, Outcome.MAC_WRONG)]
        except UnknownFunction as error:
            return [self._refuse(message, frame, error, Outcome.UNKNOWN_FUNCTION)]
        except IsoError as error:
            return [self._refuse(message, frame, error, Outcome.FORMAT_ERROR)]
        return self._asked(request, frame)

    def _asked(self, request: Request, frame: Frame) -> list[Event]:
        message, tpdu = request.message, framing.answering(frame.tpdu)
        if isinstance(request, NetworkManagement) and request.network is not Network.CUT_OVER:
            if request.network is Network.KEY_CHANGE:
                return [KeyOffered(request, frame.tpdu)]
            self._send(answer_to(self._profile, message, Outcome.NETWORK_ACCEPTED), tpdu)
            if request.network is Network.ECHO:
                return []
            self.is_signed_on = request.network is Network.SIGN_ON
            return [SignedOn() if self.is_signed_on else SignedOff()]
        if not self.is_signed_on and request.asked is not Asked.NETWORK:
            error = IsoError(Fault.MTI, "MTI", "a sign-on before business expected")
            return [self._refuse(message, frame, error, Outcome.NOT_SIGNED_ON)]
        if self.unanswered >= self._unanswered_max:
            error = IsoError(Fault.MTI, "MTI", f"at most {self._unanswered_max} requests without answer expected")
            return [self._refuse(message, frame, error, Reason.BUSY)]
        self.unanswered += 1
        return [Came(request, frame.tpdu)]

    def _unreadable(self, frame: Frame, error: DecodeError) -> list[Event]:
        """Bytes that are no message: answered if that can be done, and only so often in a row."""
        self._bad_in_a_row += 1
        message = self._profile.packager.salvage(frame.body, _SALVAGED)
        stan = self._profile.places["stan"]
        is_answered = False
        if message is not None and message.get(stan) and mti.is_mti(message.mti) and not mti.is_answer(message.mti):
            is_answered = self._try_answer(message, frame, Outcome.FORMAT_ERROR)
        events: list[Event] = [Refused(error, is_answered)]
        if self._bad_in_a_row >= self._profile.link.bad_messages_max:
            events.append(self._break(f"{self._bad_in_a_row} messages in a row that cannot be read"))
        return events

    def _refuse(self, message: Message, frame: Frame, error: IsoError, why: Reason | Outcome) -> Refused:
        silent = why is Outcome.MAC_WRONG and self._profile.on_wrong_mac == "silence"
        return Refused(error, not silent and self._try_answer(message, frame, why))

    def _try_answer(self, message: Message, frame: Frame, why: Reason | Outcome) -> bool:
        """Answer what may have no answer, or fields that cannot be sent back; true if it was."""
        try:
            self._send(answer_to(self._profile, message, why), framing.answering(frame.tpdu))
        except (IsoError, EncodeError):
            return False
        return True

    def _answered(self, message: Message, generations: tuple[Generation, ...], at: Moment) -> list[Event]:
        """An answer: to a request of ours, or to nothing we know; then it is only counted."""
        key = answer_key_of(message, self._profile.answers["8"])
        if key not in self._waiting:
            return [Refused(IsoError(Fault.MTI, "MTI", "no answer expected"), False)]
        try:
            self._check_mac(message, generations, at)
        except MacError as error:
            return [Refused(error, False)]
        network, _ = self._waiting.pop(key)
        code = message.get(self._profile.response_field) or ""
        if code != self._profile.code(Outcome.NETWORK_ACCEPTED):
            return [Declined(network, code)]
        if network is Network.SIGN_ON:
            self.is_signed_on = True
            return [SignedOn()]
        if network is Network.SIGN_OFF:
            self.is_signed_on = False
            return [SignedOff()]
        return [Echoed()] if network is Network.ECHO else []

    # --- what goes ----------------------------------------------------------------------------------------------------

    def _generations(self, at: Moment) -> tuple[Generation, ...]:
        rules = self._profile.mac
        return self._keys.generations(rules.key, at.utc) if rules is not None and self._keys is not None else ()

    def _compute(self, generation: Generation) -> mac.Compute:
        rules, keys = self._profile.mac, self._keys
        assert rules is not None and keys is not None, "looked at before"
        return lambda data: keys.mac(rules.key, rules.algorithm, rules.padding, data, generation)

    def _check_mac(self, message: Message, generations: tuple[Generation, ...], at: Moment) -> None:
        rules = self._profile.mac
        if rules is None:
            return
        used = mac.check(self._profile.packager, rules, message, *map(self._compute, generations))
        if self._keys is not None and generations and generations[used] is Generation.PENDING:
            # The bank uses a key that we could not say yes to: our answer was lost, or we stopped before it.
            self._keys.activate(rules.key, at.utc, self._profile.timing.old_key_grace_s)

    def _send(self, message: Message, tpdu: bytes) -> None:
        packager, rules = self._profile.packager, self._profile.mac
        if rules is not None:
            message = mac.authenticated(packager, rules, message, self._compute(Generation.ACTIVE))
        try:
            self._output += framing.framed(self._profile.framing, packager.encode(message), tpdu)
        except FrameError as error:
            raise EncodeError(error.fault, error.path, error.sentence) from None

    def _begin(self, network: Network, at: Moment) -> None:
        """Send a network management request of ours."""
        if len(self._waiting) >= _OWN_MAX:
            return
        message = begun(self._profile, network, self._own_fields(at))
        key = answer_key_of(Message(mti.answer_of(message.mti), dict(message.items())), self._profile.answers["8"])
        self._waiting[key] = network, at.steady_s
        length = self._profile.framing.tpdu
        self._send(message, bytes([self._profile.framing.tpdu_id]).ljust(length, b"\0") if length else b"")

    def _own_fields(self, at: Moment) -> dict[int, str]:
        """Trace number and times, where the profile wants them in network management, by the length of their fields."""
        rule = next(rule for rule in self._profile.messages if rule.asked is Asked.NETWORK)
        codecs, stan = self._profile.packager.fields.codecs, int(self._profile.places["stan"])
        length = codecs[stan].form.length
        fields = {**self._own, stan: f"{self._next_stan() % 10**length:0{length}d}"}
        for path in rule.require:
            number = int(path) if path.isdecimal() else 0
            if number in codecs and number not in fields and path != self._profile.network.code:
                moment = at.utc if path == self._profile.places.get("sent") else at.local
                fields[number] = moment.strftime("%Y%m%d%H%M%S")[-codecs[number].form.length :]
        return fields

    def _has(self, network: Network) -> bool:
        return network in self._profile.network.codes.values()

    def _is_waiting_for(self, network: Network) -> bool:
        return any(each is network for each, _ in self._waiting.values())

    def _break(self, why: str) -> Broken:
        self._is_broken = True
        self.is_signed_on = False
        return Broken(why)
