"""What phones have received from the message centre, for tests and demonstrations. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import OrderedDict, deque

from channels.smpp.centre_settings import ReceivedReply
from channels.smpp.parts import Assembler, body_of
from channels.smpp.pdu import DataSm, SubmitSm
from channels.smpp.text import Alphabet, decode


class _Phone:
    __slots__ = ("replies", "unread")

    def __init__(self, keep: int) -> None:
        self.replies: deque[ReceivedReply] = deque(maxlen=keep)
        self.unread: deque[ReceivedReply] = deque(maxlen=keep)


class Phones:
    """The last `keep_replies` texts of each of the last `keep_phones` phones, joined from their parts."""

    def __init__(self, alphabet: Alphabet, keep_replies: int, keep_phones: int) -> None:
        self._alphabet = alphabet
        self._keep_replies = keep_replies
        self._keep_phones = keep_phones
        self._phones: OrderedDict[str, _Phone] = OrderedDict()
        self._assembler: Assembler[tuple[bytes, int]] = Assembler()

    def replies(self, phone: str) -> list[ReceivedReply]:
        """Give what this phone has received, oldest first."""
        entry = self._phones.get(phone)
        return list(entry.replies) if entry is not None else []

    def next_unread(self, phone: str) -> ReceivedReply | None:
        """Give, once, the oldest that was not given here yet."""
        entry = self._phones.get(phone)
        return entry.unread.popleft() if entry is not None and entry.unread else None

    def expire(self, now: float) -> None:
        """Forget parts whose others never came."""
        self._assembler.expire(now)

    def record(self, system_id: str, message: SubmitSm | DataSm, now: float) -> ReceivedReply | None:
        """Take a message, and give the text once it is whole."""
        place, octets, _ = body_of(message, self._alphabet)
        coding = message.data_coding
        parts = 1
        if place is None:
            text = decode(octets, coding, self._alphabet)
        else:
            key = (system_id, message.source_addr, message.destination_addr, place.kind, place.reference, place.total)
            pieces = self._assembler.add(key, place, (octets, coding), now)
            if pieces is None:
                return None
            parts = len(pieces)
            if all(its_coding == coding for _, its_coding in pieces):
                text = decode(b"".join(piece for piece, _ in pieces), coding, self._alphabet)
            else:
                text = "".join(decode(piece, its_coding, self._alphabet) for piece, its_coding in pieces)
        reply = ReceivedReply(system_id, message.source_addr, message.destination_addr, text, coding, parts, now)
        entry = self._phones.get(message.destination_addr)
        if entry is None:
            if len(self._phones) >= self._keep_phones:
                self._phones.popitem(last=False)
            entry = self._phones[message.destination_addr] = _Phone(self._keep_replies)
        entry.replies.append(reply)
        entry.unread.append(reply)
        return reply
