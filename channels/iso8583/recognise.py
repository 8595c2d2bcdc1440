"""Which framing and dialect bytes of unknown origin are in: every pair that reads them whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from channels.iso8583.errors import IsoError
from channels.iso8583.framing import KINDS, TPDU_BYTES, Framer, Framing
from channels.iso8583.message import Message
from channels.iso8583.mti import VERSIONS
from channels.iso8583.profile import Profile

BYTES_MAX: Final = 65_536

NONE: Final = "none"
"""No frame around the message."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the bytes: how they are framed, in which dialect, and the messages they hold."""

    framing: str
    profile: Profile
    messages: tuple[Message, ...]

    @property
    def is_likely(self) -> bool:
        """Are all message types of the profile's style?"""
        return all(VERSIONS.get(message.mti[0]) == self.profile.style for message in self.messages)


def framings() -> dict[str, Framing]:
    """Framings by the name a command takes: "bin2", "bin2-inclusive", "bin2-tpdu", "ascii4-etx" and so on."""
    found: dict[str, Framing] = {}
    for kind in KINDS:
        found[kind] = Framing(kind, max_frame=BYTES_MAX)
        found[f"{kind}-inclusive"] = Framing(kind, inclusive=True, max_frame=BYTES_MAX)
        found[f"{kind}-tpdu"] = Framing(kind, tpdu=TPDU_BYTES, max_frame=BYTES_MAX)
        found[f"{kind}-etx"] = Framing(kind, trailer=b"\x03", max_frame=BYTES_MAX)
    return found


def readings(data: bytes, profiles: Iterable[Profile], framing: str = "") -> Iterator[Reading]:
    """Every way to read all of the bytes, the unframed ones first; by one framing if it is named."""
    bodies: dict[str, list[bytes]] = {NONE: [data]} if framing in ("", NONE) else {}
    known = framings()
    for name in [framing] if framing in known else known if not framing else ():
        framer = Framer(known[name])
        frames = [frame.body for frame in framer.feed(data) if not frame.is_keep_alive]
        if framer.broken is None and not framer.rest and frames:
            bodies[name] = frames
    everyone = list(profiles)
    for name, cut in bodies.items():
        for profile in everyone:
            try:
                yield Reading(name, profile, tuple(profile.packager.decode(body) for body in cut))
            except IsoError:
                continue


def faults(data: bytes, profiles: Iterable[Profile]) -> Mapping[str, str]:
    """Why no profile reads the bytes as one message, by profile: for people, without a value of the message."""
    found: dict[str, str] = {}
    for profile in profiles:
        try:
            profile.packager.decode(data)
        except IsoError as error:
            found[profile.name] = str(error)
    return found
