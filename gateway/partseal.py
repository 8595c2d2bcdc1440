"""Seals parts of long messages while they wait in the database for the whole: one may hold a PIN or a voucher. Pure.

AES-256 in GCM, under a key of its own that is derived from the one in the settings ([pins] key). That is the same on
all nodes, so that any of them can put together what came to several, also after a restart. Without it there are
neither PINs nor vouchers, and parts wait as they came.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from Crypto.Cipher import AES

from ledger.pins import keyed_digest
from ledger.sms_parts import PartRow

NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_NAME_CHARACTERS: Final = 8


class PartSeal:
    """The seal under one key; "" for none."""

    def __init__(self, key: str) -> None:
        self._key = bytes.fromhex(keyed_digest(key, "sms part", b"")) if key else b""
        self._name = keyed_digest(key, "sms part name", b"")[:_NAME_CHARACTERS] if key else ""

    def sealed(self, part: PartRow, nonce: bytes) -> PartRow:
        """The part as it is stored. `nonce`: 12 fresh random octets."""
        if not self._key:
            return part
        cipher = AES.new(self._key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
        cipher.update(_beside(part))
        octets, tag = cipher.encrypt_and_digest(part.octets)
        return replace(part, octets=nonce + octets + tag, sealed_by=self._name)

    def opened(self, part: PartRow) -> PartRow:
        """The part as it came; one that this key does not open stays as it is stored, and names its key."""
        if not part.sealed_by or part.sealed_by != self._name:
            return part
        try:
            cipher = AES.new(self._key, AES.MODE_GCM, nonce=part.octets[:NONCE_BYTES], mac_len=_TAG_BYTES)
            cipher.update(_beside(part))
            octets = cipher.decrypt_and_verify(part.octets[NONCE_BYTES:-_TAG_BYTES], part.octets[-_TAG_BYTES:])
        except ValueError:
            return part
        return replace(part, octets=octets, sealed_by="")


def _beside(part: PartRow) -> bytes:
    """What is stored legibly and must not be changed either."""
    fields = (part.number, part.sender, part.destination, part.data_coding, part.shifts, part.reference)
    return "\0".join(map(str, fields)).encode()
