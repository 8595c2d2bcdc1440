"""What a simulated provider's API is asked and what it answers, as plain values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request; names of headers in small letters, a body that is no JSON object is empty."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """One HTTP answer; no body where it is None."""

    status: int
    body: Mapping[str, Any] | None = None


class Front(Protocol):
    """One provider's API."""

    def answer(self, ask: Ask) -> Said | None:
        """What is answered; None: no address of this API."""

    def moves_money(self, ask: Ask) -> bool:
        """Whether this request asks for money to be moved: those meet the faults of requests."""


def text(fields: Mapping[str, Any], name: str) -> str:
    """A field as text, empty where there is none; numbers as their digits."""
    found = fields.get(name)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) else ""
