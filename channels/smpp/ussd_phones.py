"""USSD phones of the message centre, for sandboxes and tests: they dial, answer and hang up. Pure: no I/O, no clock.

Sessions are told in its_session_info (SMPP 3.4, 5.3.2.43): a number and a sequence; or, with `has_sequence` False, an
id of fifteen bits, as some message centres do. The operations are those of 5.3.2.44, and 129 for one who hangs up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from channels.smpp.codes import TLV_ITS_SESSION_INFO, TLV_USSD_SERVICE_OP
from channels.smpp.pdu import DataSm, SubmitSm, Tlv, find_tlv
from channels.smpp.text import Alphabet, decode, undivided

_BEGIN: Final = 1
_ANSWER: Final = 18
_ABORT: Final = 129
_END: Final = 17


@dataclass(frozen=True, slots=True)
class Screen:
    """What a USSD phone was shown."""

    phone: str
    text: str
    is_end: bool
    operation: int
    session_info: bytes


@dataclass(slots=True)
class _Session:
    number: int
    code: str
    sequence: int = 0


@dataclass(slots=True)
class UssdPhones:
    """All phones. `deliver` hands a message to the gateway: sender, destination, octets, data_coding, parameters."""

    deliver: Callable[[str, str, bytes, int, tuple[Tlv, ...]], object]
    alphabet: Alphabet = Alphabet.GSM
    has_sequence: bool = True
    on_screen: Callable[[Screen], None] = lambda screen: None
    screens: list[Screen] = field(default_factory=list)  # what came, oldest first
    screens_max: int = 1_000
    _open: dict[str, _Session] = field(default_factory=dict)
    _last_number: int = 0

    def dial(self, phone: str, dialled: str) -> None:
        """Dial "*384#", or with a path behind it: a new session."""
        self._last_number = (self._last_number + 1) % (256 if self.has_sequence else 0x8000)
        self._open[phone] = _Session(self._last_number, dialled.strip("*#").partition("*")[0])
        self._say(phone, _BEGIN, dialled)

    def type(self, phone: str, typed: str) -> None:
        """Answer the screen. KeyError where no session is open."""
        self._say(phone, _ANSWER, typed)

    def hang_up(self, phone: str) -> None:
        """End the session, and have the gateway told. KeyError where none is open."""
        self._say(phone, _ABORT, "")
        del self._open[phone]

    def record(self, message: SubmitSm | DataSm) -> None:
        """Show what was submitted with ussd_service_op, if it belongs to the phone's session."""
        operation = find_tlv(message.tlvs, TLV_USSD_SERVICE_OP) or b"\0"
        info = find_tlv(message.tlvs, TLV_ITS_SESSION_INFO) or b""
        session = self._open.get(message.destination_addr)
        if session is None or len(info) != 2 or not self._is_of(session, info):
            return
        text = decode(message.octets, message.data_coding, self.alphabet)
        is_end = operation[0] == _END or bool(info[1] & 1)
        screen = Screen(message.destination_addr, text, is_end, operation[0], info)
        if is_end:
            del self._open[message.destination_addr]
        self.screens.append(screen)
        del self.screens[: -self.screens_max]
        self.on_screen(screen)

    def _say(self, phone: str, operation: int, text: str) -> None:
        session = self._open[phone]
        session.sequence = (session.sequence + 1) % 128
        part = undivided(text, self.alphabet)
        info = self._info(session)
        tlvs: tuple[Tlv, ...] = ((TLV_USSD_SERVICE_OP, bytes((operation,))), (TLV_ITS_SESSION_INFO, info))
        self.deliver(phone, session.code, part.short_message, part.data_coding, tlvs)

    def _info(self, session: _Session) -> bytes:
        if self.has_sequence:
            return bytes((session.number, session.sequence << 1))
        return (session.number << 1).to_bytes(2, "big")

    def _is_of(self, session: _Session, info: bytes) -> bool:
        if self.has_sequence:
            return info[0] == session.number
        return int.from_bytes(info, "big") >> 1 == session.number
