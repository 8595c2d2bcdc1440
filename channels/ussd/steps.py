"""The normal form of one USSD step, whatever provider it came by, and of the screen that answers it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol


class Kind(Enum):
    """What the provider says of a step. Where it says nothing, the session store decides between the first two."""

    BEGIN = "begin"
    CONTINUE = "continue"
    UNSAID = "unsaid"
    OVER = "over"  # the session has ended on the network's side: a hang-up, a time-out, or the notice of a normal end


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One step of a session. Its text may hold a PIN: it is in no repr.

    `service` is the name of the settings' table, `session` the provider's own id. `text` is what was typed: everything
    since the beginning, joined by asterisks, where `is_whole`, else the last input only. `mark` tells one step of a
    session from the next (a sequence number, the id of a request); empty where the provider has none. `ids_come_again`:
    the provider's ids are so short that a phone gets the same one again for another session.
    """

    service: str
    session: str
    msisdn: str
    service_code: str
    kind: Kind
    text: str
    is_whole: bool
    mark: str
    received_at: datetime
    ids_come_again: bool = False

    @property
    def key(self) -> str:
        """The session's key: a provider's id alone may be used again for another phone."""
        return f"{self.service}|{self.session}|{self.msisdn}"

    def __repr__(self) -> str:
        return f"<Step of {self.service}>"


@dataclass(frozen=True, slots=True, repr=False)
class Page:
    """A screen: its text, and whether the session ends with it. May show a token: it is in no repr."""

    text: str
    is_end: bool

    def __repr__(self) -> str:
        return f"<Page of {len(self.text)} characters{', the last' if self.is_end else ''}>"


class Steps(Protocol):
    """Who answers steps: `gateway.ussd.desk.UssdDesk`."""

    async def answer(self, step: Step, on_stored: Callable[[], None] = lambda: None) -> Page:
        """The screen for a step; never raises for what the step holds. `on_stored` is called once it is stored."""
