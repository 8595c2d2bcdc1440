"""The cutting of a stream into packets. Pure: no I/O, no clock.

A stream has three outcomes: more is needed (no frame yet), a message (a frame), or broken (`Framer.broken`): a
command_length that cannot be true, after which the borders of packets are lost for good.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from channels.smpp.codes import HEADER_OCTETS

# 64 K of message_payload, the header and the longest addresses. One peer's limit of 16,384 refuses legal packets.
MAX_PDU_OCTETS: Final = 70_000

_HEADER = struct.Struct(">IIII")


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a stream cannot be read further. `sequence` is 0 where it could not be read."""

    command_length: int
    sequence: int


class Framer:
    """Cuts a stream into packets, whatever pieces it comes in. Holds less than one packet back."""

    __slots__ = ("_held", "_wanted", "broken")

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = 4
        self.broken: Broken | None = None

    def feed(self, octets: bytes) -> list[bytes]:
        """Give the packets that are now whole, each with its header; none where more is needed.

        A command_length below 16 or above 70,000 sets `broken`, as soon as its four octets are there and before
        anything is waited for or allocated; what came before is still given, what follows is dropped.
        Source: SMPP 3.4, 3.2; a port scan or an HTTP request must not end more than its own socket.
        """
        if self.broken is not None:
            return []
        held = self._held
        if held:
            held += octets
            if len(held) < self._wanted:
                return []
            octets = bytes(held)
            held.clear()
        frames: list[bytes] = []
        start = 0
        end = len(octets)
        while end - start >= 4:
            length = int.from_bytes(octets[start : start + 4], "big")
            if length < HEADER_OCTETS or length > MAX_PDU_OCTETS:
                # A packet shorter than its header has no sequence number to repeat.
                readable = length >= HEADER_OCTETS and end - start >= HEADER_OCTETS
                sequence = int.from_bytes(octets[start + 12 : start + 16], "big") if readable else 0
                self.broken = Broken(length, sequence)
                return frames
            if end - start < length:
                self._wanted = length
                held += octets[start:]
                return frames
            frames.append(octets[start : start + length])
            start += length
        self._wanted = 4
        if start < end:
            held += octets[start:]
        return frames


def read_header(frame: bytes) -> tuple[int, int, int]:
    """Give command_id, command_status and sequence_number of a frame."""
    _, command_id, command_status, sequence = _HEADER.unpack_from(frame)
    return command_id, command_status, sequence
