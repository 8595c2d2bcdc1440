"""What fits on a phone's USSD screen, and longer things cut into pages. Pure.

Source: 3GPP TS 23.038 (160 octets: 182 GSM septets, 80 UCS-2 characters). Many gateways cut earlier, so the limits are
settings of each service code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from channels.smpp.text import encode_gsm

GSM_HARD: Final = 182
UCS2_HARD: Final = 80

# A line may be cut at a blank, but not at one between digits: a token, an amount or a number stays in one piece.
_CUT: Final = re.compile(r"(?<![0-9]) +| +(?![0-9])")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a screen takes: septets if every character is in the GSM alphabet, else UCS-2 units."""

    gsm: int = 160
    ucs2: int = 70


def fits(text: str, limits: Limits) -> bool:
    """Whether a text is one screen."""
    septets = encode_gsm(text)
    if septets is not None:
        return len(septets) <= limits.gsm
    return len(text.encode("utf-16-be")) // 2 <= limits.ucs2


def paged(lines: Sequence[str], footer: str, more: str, limits: Limits) -> list[str]:
    """The lines as screens, each ending with the footer, and all but the last with `more` as well.

    Lines stay whole where one can be a screen of its own; what is longer is cut at blanks, and a word that is longer
    still anywhere. Always at least one screen.
    """
    pages: list[str] = []
    waiting = list(lines)
    here: list[str] = []

    def screen(shown: Sequence[str], *, is_last: bool) -> str:
        ending = footer if is_last else " ".join(part for part in (footer, more) if part)
        return "\n".join([*shown, *([ending] if ending else [])])

    while waiting:
        if fits(screen([*here, *waiting], is_last=True), limits):
            here += waiting
            break
        if fits(screen([*here, waiting[0]], is_last=False), limits):
            here.append(waiting.pop(0))
            continue
        if not here:
            head, rest = _cut(waiting[0], lambda part: fits(screen([part], is_last=False), limits))
            here.append(head)
            waiting[:1] = [rest] if rest else []
        pages.append(screen(here, is_last=False))
        here = []
    pages.append(screen(here, is_last=True))
    return pages


def _cut(line: str, is_short: Callable[[str], bool]) -> tuple[str, str]:
    """The longest beginning of a line that is short enough, and the rest."""
    places = [found.span() for found in _CUT.finditer(line)]
    for start, end in reversed(places):
        if start and is_short(line[:start]):
            return line[:start], line[end:]
    length = len(line)
    while length > 1 and not is_short(line[:length]):
        length -= 1
    return line[:length], line[length:]
