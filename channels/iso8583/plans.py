"""Plans: reading and writing compiled for one bitmap. Pure.

A plan is a Python function made for the fields of one bitmap, with their places and lengths written in; it is four to
six times as fast as going field by field. It only ever says "this message" or "I do not know": then the slow way reads
or writes the same bytes, and names the fault.

The source of a plan is put together from field numbers and lengths of the profile alone. Nothing of a message and no
text of a profile goes into it.

A bitmap gets its plan when it comes the third time, and there are at most 256: a peer that sends every bitmap there is
makes us compile little and keep little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from channels.iso8583.fieldset import Shape
from channels.iso8583.message import Message
from channels.iso8583.plansource import decoder_source, encoder_source

PLANS_MAX: Final = 256
_SEEN_BEFORE: Final = 2
_SEEN_MAX: Final = 1_024

_Decode = Callable[[bytes], Message | None]
_Encode = Callable[[str, bytes, Any], bytes | None]


class Plans:
    """The plans of one shape."""

    __slots__ = ("_at", "_decoders", "_encoders", "_long", "_shape", "_seen", "_short", "_written")

    def __init__(self, shape: Shape) -> None:
        bitmap = shape.fields.bitmap
        self._shape: Final = shape
        self._decoders: Final[dict[bytes, _Decode]] = {}
        self._encoders: Final[dict[tuple[int, ...], _Encode]] = {}
        self._seen: Final[dict[bytes, int]] = {}
        self._written: Final[dict[tuple[int, ...], int]] = {}
        self._at: Final = shape.header + shape.mti_bytes
        self._short: Final = self._at + bitmap.block_bytes * (2 if bitmap.is_fixed else 1)
        self._long: Final = self._at + bitmap.block_bytes * 2

    def _key(self, data: bytes) -> bytes:
        """The bitmap's bytes. Two lengths are enough: a third bitmap goes the slow way."""
        key = data[self._at : self._short]
        # The first bit says whether a second bitmap follows: 8 to F, in whichever code.
        if key[:1] > b"\x7f" if self._shape.fields.bitmap.codec is None else key[:1] in _HIGH:
            return data[self._at : self._long]
        return key

    def decoded(self, data: bytes) -> Message | None:
        """The message, if there is a plan for its bitmap and all is well."""
        at, key = self._at, data[self._at : self._short]
        plan = self._decoders.get(key)
        if plan is None:
            plan = self._decoders.get(data[at : self._long])
            if plan is None:
                return None
        return plan(data)

    def seen(self, data: bytes, numbers: list[int]) -> None:
        """A message with these fields has been read the slow way."""
        key = self._key(data)
        if key in self._decoders or not _is_due(self._seen, key):
            return
        source, names = decoder_source(self._shape, numbers)
        if len(self._decoders) >= PLANS_MAX:
            self._decoders.clear()
        self._decoders[key] = _compiled(source, names)

    def encoded(self, message: Message) -> bytes | None:
        """The bytes, if there is a plan for these fields and all is well."""
        fields = message._fields
        plan = self._encoders.get(tuple(fields))
        if plan is None or message.form:
            return None
        return plan(message.mti, message.header, fields)

    def written(self, message: Message) -> None:
        """A message with these fields has been written the slow way."""
        key = tuple(message._fields)
        if key in self._encoders or not _is_due(self._written, key):
            return
        source, names = encoder_source(self._shape, key)
        if len(self._encoders) >= PLANS_MAX:
            self._encoders.clear()
        self._encoders[key] = _compiled(source, names)


# 8 to F: in ASCII either case, in EBCDIC either case.
_HIGH: Final = frozenset(bytes([octet]) for octet in b"89ABCDEFabcdef" + "89ABCDEFabcdef".encode("cp037"))


def _is_due(counts: dict[Any, int], key: Any) -> bool:
    """Has this come often enough?"""
    count = counts.get(key, 0)
    if count >= _SEEN_BEFORE:
        counts.pop(key)
        return True
    if len(counts) >= _SEEN_MAX:
        counts.clear()
    counts[key] = count + 1
    return False


def _compiled(source: str, names: dict[str, Any]) -> Any:
    exec(compile(source, "<plan>", "exec"), names)
    return names["plan"]
