"""What this package refuses, by name and with the path to the place. Pure.

A sentence says what was expected and what came in lengths and kinds only: no value of a message ever stands in it,
because a value in the wrong place may be a card number, and a token is money.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """Every reason for which bytes, a message or a key are refused; the value is stable and may be counted."""

    # fmt: off
    SHORT         = "short"          # the bytes end before the field does
    LENGTH        = "length"         # a length prefix that is no number, or beyond the field's limit; a wrong length
    CONTENT       = "content"        # a character, digit or filler that must not stand there
    LEFT_OVER     = "left_over"      # bytes after the last field
    MTI           = "mti"            # not four digits, or a type that has no answer
    BITMAP        = "bitmap"         # not hexadecimal, or a bit that cannot be set
    UNKNOWN_FIELD = "unknown_field"  # a bit is set for a field that the profile does not have
    STRUCTURE     = "structure"      # sub-fields that do not fill their field: tags, lengths, positions
    MISSING       = "missing"        # a field that the message must have
    FRAME_LENGTH  = "frame_length"   # a frame's length is no number or outside the limits: the stream is lost
    FRAME_SHORT   = "frame_short"    # a frame shorter than what it must hold
    FRAME_TRAILER = "frame_trailer"  # a frame does not end as agreed
    FRAME_TPDU    = "frame_tpdu"     # a TPDU that does not begin with its identifier
    MAC_MISSING   = "mac_missing"    # a message that must be authenticated is not
    MAC_WRONG     = "mac_wrong"      # the MAC is not the one of these bytes
    KEY_FORMAT    = "key_format"     # a key, or a key under a ZMK, of no known form
    KEY_PARITY    = "key_parity"     # a DES key with a byte of even parity
    KEY_WEAK      = "key_weak"       # halves of a double-length key that are equal, or a weak DES key
    KEY_CHECK     = "key_check"      # the check value is not this key's
    KEY_MISSING   = "key_missing"    # the key module holds no such key
    KEY_USE       = "key_use"        # the key is not for this use or algorithm
    # fmt: on


class IsoError(Exception):
    """A refusal of this package: `fault` is its name, `path` the place ("field 48.2"), `sentence` is for people."""

    def __init__(self, fault: Fault, path: str, sentence: str) -> None:
        super().__init__(fault, path, sentence)
        self.fault: Final = fault
        self.path: Final = path
        self.sentence: Final = sentence

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}"


class DecodeError(IsoError):
    """Bytes that are no message of this profile."""


class EncodeError(IsoError):
    """A message that this profile cannot write."""


class FrameError(IsoError):
    """A stream that cannot be cut further: close the link."""


class MacError(IsoError):
    """A message whose authentication code is missing or wrong: no business with it."""


class KeyRefused(IsoError):
    """A key that the key module does not take, does not hold, or does not use like this."""
