"""Message types: version, class, function, origin. Pure.

1987, 1993 and 2003 differ in the first digit only; 2003 adds functions 5 to 7. Source: ISO 8583:1987, 4.1; ISO
8583-1:2003, 4.2.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from channels.iso8583.errors import Fault, IsoError


class MessageClass(StrEnum):
    """The second digit."""

    AUTHORISATION = "1"
    FINANCIAL = "2"
    FILE_ACTION = "3"
    REVERSAL = "4"
    RECONCILIATION = "5"
    ADMINISTRATIVE = "6"
    FEE_COLLECTION = "7"
    NETWORK_MANAGEMENT = "8"


VERSIONS: Final = {"0": "1987", "1": "1993", "2": "2003"}

# Function asked, function of its answer. Notifications (4) have an answer in 2003 only.
_ANSWERED: Final = {"0": "1", "2": "3"}
_ANSWERED_2003: Final = {**_ANSWERED, "4": "5", "6": "7"}


def is_mti(text: str) -> bool:
    """Four digits with a class?"""
    return len(text) == 4 and text.isascii() and text.isdecimal() and text[1] in "12345678"


def is_answer(mti: str) -> bool:
    """Does it answer something? Such a message is never answered."""
    return mti[2] in ("1", "3", "5", "7")


def is_advice(mti: str) -> bool:
    """An advice: the sender informs, the answer acknowledges."""
    return mti[2] == "2"


def is_repeat(mti: str) -> bool:
    """Does the sender say that it repeats?"""
    return mti[3] in ("1", "3", "5")


def answer_of(mti: str) -> str:
    """The type that answers another: 0200 and 0201 by 0210, 0421 by 0430. Raises IsoError for what has no answer.

    The origin is the requester's without its repeat bit: switches match on it.
    """
    functions = _ANSWERED_2003 if mti[:1] == "2" else _ANSWERED
    if not is_mti(mti) or mti[2] not in functions:
        raise IsoError(Fault.MTI, "MTI", "the type of a request or an advice expected")
    return f"{mti[:2]}{functions[mti[2]]}{int(mti[3]) // 2 * 2}"


def repeat_of(mti: str) -> str:
    """The type under which a request or an advice is sent again."""
    answer_of(mti)
    return f"{mti[:3]}{int(mti[3]) // 2 * 2 + 1}"
