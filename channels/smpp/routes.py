"""Which links a reply may take, the best first. Pure.

The link that brought the question comes first if it is in good health: it reaches that customer, and the answer comes
from the number the customer wrote to. Where it only takes messages (a receiver), the links to its message centre stand
in for it. Then those whose prefixes fit the customer's number, the longest prefix first; links in trouble come after
healthy ones, but they come. A link with prefixes that do not fit is never asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What a link must say of itself to be chosen."""

    @property
    def name(self) -> str: ...
    @property
    def centre(self) -> str: ...
    @property
    def sends(self) -> bool: ...
    @property
    def prefixes(self) -> tuple[str, ...]: ...
    @property
    def is_ailing(self) -> bool: ...
    @property
    def is_slowed(self) -> bool: ...
    def is_up(self) -> bool: ...


CandidateT = TypeVar("CandidateT", bound=Candidate)


def fit(prefixes: Iterable[str], number: str) -> int | None:
    """Give how many digits of a number the best prefix fits; 0 where there are no prefixes, None where none fits."""
    lengths = [len(prefix) if number.startswith(prefix) else -1 for prefix in prefixes]
    if not lengths:
        return 0
    best = max(lengths)
    return best if best >= 0 else None


def routes(links: Iterable[CandidateT], peer: str, number: str) -> list[CandidateT]:
    """Give the links that are up and serve this number, in the order in which to try them."""
    found: list[tuple[tuple[bool, bool, bool, bool, int, int], CandidateT]] = []
    every = list(links)
    home = next((link.centre for link in every if link.name == peer and not link.sends), None)
    for place, link in enumerate(every):
        if not link.is_up():
            continue
        is_asker, is_home = link.name == peer, link.centre == home
        length = fit(link.prefixes, number)
        if length is None and not is_asker and not is_home:
            continue
        key = (link.is_ailing, link.is_slowed, not is_asker, not is_home, -(length or 0), place)
        found.append((key, link))
    found.sort(key=lambda each: each[0])
    return [link for _, link in found]
