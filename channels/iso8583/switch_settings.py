"""How a bank's switch behaves, and misbehaves on purpose; what it counts. Data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from channels.iso8583.switch_books import Patience
from channels.iso8583.switch_messages import Terminal


class Fault(StrEnum):
    """What the switch can do wrong on purpose. The last three need a switch that dials."""

    LOSE_ANSWER = "lose_answer"  # overhear an answer
    LATE_ANSWER = "late_answer"  # hear it when nobody waits for it any more
    REPEAT = "repeat"  # send a request twice at once, on two links if there are two
    GIVE_UP = "give_up"  # after silence take the purchase back without asking again
    NO_PAPER = "no_paper"  # take an approved purchase back: the slip was not printed
    REVERSAL_FIRST = "reversal_first"  # send the reversal, and then the purchase
    CROSSING = "crossing"  # send both at once, on two links if there are two
    CUT = "cut"  # cut the link at some octet of a request
    WRONG_MAC = "wrong_mac"  # send a forged request before the right one
    GARBAGE = "garbage"  # send a frame that holds no message before a request
    HALF_FRAME = "half_frame"  # half a frame on another connection, and silence
    SLOW_LORIS = "slow_loris"  # an octet now and then on another connection
    STORM = "storm"  # many connections at once, dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchSettings:
    """`role`: `dial` or `listen`; empty: the other one of what the profile says of the gateway. Port 0 with `listen`:
    any. `answer_timeout_s` None: the profile's."""

    host: str = "127.0.0.1"
    port: int = 0
    role: str = ""
    links: int = 2
    answer_timeout_s: float | None = None
    redial_s: float = 0.2
    echo_every_s: float = 60.0
    terminals: tuple[Terminal, ...] = (Terminal(),)
    first_stan: int = 1
    patience: Patience = Patience()
    fault_rates: Mapping[Fault, float] = field(default_factory=dict)
    storm_links: int = 20
    loris_s: float = 1.0


@dataclass(slots=True)
class SwitchCounts:
    """What happened so far."""

    connections: int = 0
    requests: int = 0
    answers: int = 0
    late: int = 0
    faults: int = 0
    echoes: int = 0
    by_fault: dict[str, int] = field(default_factory=dict)
