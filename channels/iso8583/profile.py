"""One bank's dialect, whole: how messages are written and framed, what they mean, and what is decided about them. Pure.

`profilefile.py` reads one; `shipped.py` finds those that come with the product. Times are whole seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from channels.iso8583.codes import Outcome
from channels.iso8583.framing import Framing
from channels.iso8583.mac import MacRules
from channels.iso8583.matching import LAYOUT_90, Layout, value_at
from channels.iso8583.message import Message
from channels.iso8583.packager import Packager
from ledger.reasons import Reason


class Asked(StrEnum):
    """What a message asks for."""

    INQUIRY = "inquiry"
    PURCHASE = "purchase"
    ADVICE = "advice"
    REVERSAL = "reversal"
    NETWORK = "network"
    RECONCILIATION = "reconciliation"


class Network(StrEnum):
    """What a network management message asks for."""

    SIGN_ON = "sign_on"
    SIGN_OFF = "sign_off"
    ECHO = "echo"
    KEY_CHANGE = "key_change"
    CUT_OVER = "cut_over"


@dataclass(frozen=True, slots=True)
class MessageRule:
    """Which messages ask for something: types, types of repeats, patterns of fields, and fields they must have.

    A repeat may also come under the type of the first, and most do.
    """

    asked: Asked
    mtis: tuple[str, ...]
    repeats: tuple[str, ...]
    match: tuple[tuple[str, re.Pattern[str]], ...]
    require: tuple[str, ...]

    def fits(self, message: Message) -> bool:
        """Is the message one of these?"""
        if message.mti not in self.mtis and message.mti not in self.repeats:
            return False
        return all(pattern.fullmatch(value_at(message, path) or "") for path, pattern in self.match)


@dataclass(frozen=True, slots=True)
class LinkRules:
    """How a link behaves; addresses, ports and certificates are settings of the gateway, not of the dialect."""

    role: str = "listen"
    sign_on: str = "link"
    """`link`: every link signs on; `institution`: once for all; `none`."""
    signs_on: str = "peer"
    """`peer`, `us` or `both`: who sends sign-on and echo."""
    partial_frame_timeout_s: int = 30
    echo_every_s: int = 60
    echo_misses: int = 2
    redial_min_s: int = 1
    redial_max_s: int = 60
    bad_messages_max: int = 5
    """So many messages in a row that cannot be read end a link."""
    answer_keep_alive: bool = False


@dataclass(frozen=True, slots=True)
class ReversalRules:
    """What a reversal of a vended purchase comes to; docs/iso8583.md has the table."""

    policy: str = "accept_and_seal"
    advice_refusal: str = "ack_only"
    original: Layout = LAYOUT_90
    timeout_reasons: tuple[str, ...] = ("68", "22")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the switch waits, and when we must have decided. `clock_skew_max_s` 0: any clock is taken."""

    bank_timeout_s: int = 30
    decide_by_percent: int = 60
    clock_skew_max_s: int = 0
    old_key_grace_s: int = 120


@dataclass(frozen=True, slots=True)
class Settlement:
    """Business days and their reconciliation. Fields that count and sum purchases and their reversals."""

    purchase_number: int = 76
    purchase_amount: int = 88
    reversal_number: int = 77
    reversal_amount: int = 89
    net_amount: int = 97


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """Network management: where its code stands, and what the codes mean."""

    code: str
    codes: Mapping[str, Network]
    key: str
    """The path of a new key; empty if keys are not changed by messages."""
    key_handle: str
    zmk_handle: str

    def code_of(self, network: Network) -> str:
        """The code for something; raises KeyError if the bank has none."""
        return next(code for code, meant in self.codes.items() if meant is network)


@dataclass(frozen=True, slots=True)
class Profile:
    """One bank's dialect."""

    name: str
    about: str
    style: str
    """1987, 1993 or 2003: which response codes."""
    packager: Packager
    framing: Framing
    link: LinkRules
    mac: MacRules | None
    on_wrong_mac: str
    """`answer` with MAC_WRONG, or `silence`."""
    messages: tuple[MessageRule, ...]
    network: NetworkRules
    on_unknown_advice: str
    """An advice of a purchase never seen: `refuse` or `vend`."""
    several_tokens: str
    """Where there is one place for a token, a sale that has more: `refuse` it, or tell them all in the `text`."""
    key: tuple[str, ...]
    fingerprint: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]
    """What answers to our own requests are matched by, by class digit; "" for all others."""
    places: Mapping[str, str]
    """Where meter, amount and so on stand, by their name."""
    echo: tuple[int, ...]
    drop: frozenset[int]
    reversal: ReversalRules
    codes: Mapping[str, str]
    timing: Timing
    settlement: Settlement
    constants: Mapping[str, str]
    """What answers say at paths that nothing else fills, such as a number of decimals."""
    names: Mapping[str, str]
    show: Mapping[str, str]

    def rule_of(self, message: Message) -> MessageRule | None:
        """What a message asks for; None if the profile does not know it."""
        return next((rule for rule in self.messages if rule.fits(message)), None)

    def code(self, why: Reason | Outcome) -> str:
        """Field 39 for a reason or an outcome."""
        return self.codes[why.value if isinstance(why, Outcome) else str(why)]

    def at(self, message: Message, place: str) -> str | None:
        """What stands at a place ("meter"); None if the profile has none or the message lacks it."""
        path = self.places.get(place)
        return None if path is None else value_at(message, path)

    @property
    def response_field(self) -> int:
        """Where the response code stands."""
        return int(self.places.get("response", "39"))


PLACES = (
    "meter", "product", "msisdn", "language", "inquiry", "amount", "amount_digits", "currency", "terminal", "acceptor",
    "acquirer", "stan", "rrn", "sent", "local_time", "local_date", "business_date", "original", "reason", "response",
    "receipt", "text", "tokens", "units", "kind", "energy", "tax", "fixed", "debt", "receipt_text", "customer_name",
    "tariff", "supply_group", "arrears", "amount_min", "amount_max", "inquiry_answer", "replacement",
)  # fmt: skip
"""Every place that a profile's `[map]` may name."""
