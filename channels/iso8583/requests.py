"""What a message asks for, typed: the one place where field numbers become meaning. Pure.

A request keeps the message it came in, which may hold card data: keep a request in memory only while its answer is due,
and store what `kept` gives.

Order of checks, each with its own answer: does the profile know such a message (UNKNOWN_FUNCTION); has it every field
it must have; is each readable (both FORMAT_ERROR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from channels.iso8583 import mti
from channels.iso8583.errors import Fault, IsoError
from channels.iso8583.keymodule import WrappedKey
from channels.iso8583.matching import Original, fingerprint_of, key_of, original_of, value_at
from channels.iso8583.message import Message, Value
from channels.iso8583.profile import Asked, MessageRule, Network, Profile
from channels.iso8583.softwarekeys import wrapped_key_of

_AMOUNT_DIGITS_MAX: Final = 18


class UnknownFunction(IsoError):
    """A message of a good type that the profile gives no meaning: answered with UNKNOWN_FUNCTION."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What every request has. `reference` is what a repeat would carry again; `stan` its trace number."""

    message: Message
    asked: Asked
    stan: str
    is_repeat: bool
    is_advice: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleRequest(Request):
    """What inquiry, purchase and advice share. Codes as the wire gives them; currency in digits or letters.

    `reference` is what a repeat would carry again, under whichever type; `fingerprint` tells a key used again for
    something else.
    """

    reference: str
    fingerprint: bytes
    meter: str
    currency: str
    terminal: str
    acceptor: str
    acquirer: str
    rrn: str
    product: str
    msisdn: str
    language: str
    business_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry(SaleRequest):
    """Whose meter is this, and what may be bought?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase(SaleRequest):
    """Sell for an amount, in minor units of `amount_digits` decimals (None: the currency's own)."""

    amount_minor: int
    amount_digits: int | None
    inquiry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice(Purchase):
    """A purchase that was made, or should have been: its result and token are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal(Request):
    """Undo a purchase. `is_advice`: the bank informs; a refusal needs a bilateral code.

    `reference` is the original's: that of the fields this message repeats, with trace number and time of `original`.
    `replacement_minor` is the amount really paid out where the bank says so: not zero is a partial reversal.
    """

    reference: str
    original: Original | None
    amount_minor: int
    amount_digits: int | None
    currency: str
    terminal: str
    acceptor: str
    acquirer: str
    rrn: str
    reason: str
    is_timeout: bool
    replacement_minor: int | None
    business_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkManagement(Request):
    """Sign-on, echo and the like. `wrapped` with a key change, if the bank sends the key."""

    network: Network
    wrapped: WrappedKey | None
    business_date: str

    def __repr__(self) -> str:
        return f"<NetworkManagement {self.network}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(Request):
    """The bank's totals for a business day: purchases and their reversals; `net_minor` negative if the bank owes."""

    business_date: str
    purchases: int
    purchases_minor: int
    reversals: int
    reversals_minor: int
    net_minor: int
    currency: str


def request_of(profile: Profile, message: Message) -> Request:
    """What a message asks for. Raises UnknownFunction, or IsoError with the path of a field that is missing or wrong.

    An answer is none: ask `mti.is_answer` before.
    """
    rule = profile.rule_of(message)
    if rule is None:
        raise UnknownFunction(Fault.MTI, "MTI", "a message that the profile knows expected")
    for path in rule.require:
        if not value_at(message, path):
            raise IsoError(Fault.MISSING, f"field {path}", "expected, got none")
    reader = _Reader(profile, message, rule)
    match rule.asked:
        case Asked.INQUIRY:
            return reader.inquiry()
        case Asked.PURCHASE:
            return reader.purchase(Purchase)
        case Asked.ADVICE:
            return reader.purchase(Advice)
        case Asked.REVERSAL:
            return reader.reversal()
        case Asked.NETWORK:
            return reader.network()
    return reader.reconciliation()


def kept(profile: Profile, message: Message) -> Message:
    """The message as it may be stored: without card data and whatever else the profile drops."""
    return message.without(profile.drop)


class _Reader:
    """One message, by the places of the profile."""

    def __init__(self, profile: Profile, message: Message, rule: MessageRule) -> None:
        self._profile: Final = profile
        self._message: Final = message
        self._rule: Final = rule

    def _text(self, place: str) -> str:
        return (self._profile.at(self._message, place) or "").strip()

    def _number(self, place: str) -> int:
        """Digits at a place; zero if there is none."""
        text = self._text(place)
        if text and not (text.isascii() and text.isdecimal() and len(text) <= _AMOUNT_DIGITS_MAX):
            path = self._profile.places[place]
            raise IsoError(Fault.CONTENT, f"field {path}", "digits expected, got another character")
        return int(text or "0")

    def _digits(self) -> int | None:
        return self._number("amount_digits") if "amount_digits" in self._profile.places else None

    def _common(self) -> dict[str, Any]:
        message = self._message
        return {
            "message": message,
            "asked": self._rule.asked,
            "stan": self._text("stan"),
            "is_repeat": message.mti in self._rule.repeats or mti.is_repeat(message.mti),
            "is_advice": mti.is_advice(message.mti),
        }

    def _whence(self) -> dict[str, Any]:
        names = ("currency", "terminal", "acceptor", "acquirer", "rrn", "business_date")
        return {
            **self._common(),
            "reference": key_of(self._message, self._profile.key),
            **{name: self._text(name) for name in names},
        }

    def _sale(self) -> dict[str, Any]:
        names = ("meter", "product", "msisdn", "language")
        return {
            **self._whence(),
            "fingerprint": fingerprint_of(self._message, self._profile.fingerprint),
            **{name: self._text(name) for name in names},
        }

    def inquiry(self) -> Inquiry:
        return Inquiry(**self._sale())

    def purchase(self, kind: type[Purchase]) -> Purchase:
        return kind(
            amount_minor=self._number("amount"),
            amount_digits=self._digits(),
            inquiry=self._text("inquiry"),
            **self._sale(),
        )

    def reversal(self) -> Reversal:
        text, reason = self._text("original"), self._text("reason")
        rules, path = self._profile.reversal, self._profile.places.get("original", "90")
        original = original_of(text, rules.original, path) if text else None
        replacement = self._text("replacement")[:12]
        return Reversal(
            original=original,
            amount_minor=self._number("amount"),
            amount_digits=self._digits(),
            reason=reason,
            is_timeout=reason in rules.timeout_reasons,
            replacement_minor=int(replacement) if replacement.isdecimal() else None,
            **(self._whence() | {"reference": self._original_reference(original)}),
        )

    def _original_reference(self, original: Original | None) -> str:
        """The key that the original had: a reversal has a trace number of its own."""
        said = {"stan": original.stan, "local_time": original.local} if original is not None else {}
        fields: dict[int, Value] = {}
        for place, text in said.items():
            number = self._profile.places.get(place, "").partition("[")[0]
            if text and number.isdecimal():
                fields[int(number)] = text
        return key_of(self._message.having(fields), self._profile.key)

    def network(self) -> NetworkManagement:
        rules = self._profile.network
        network = rules.codes.get(value_at(self._message, rules.code) or "")
        if network is None:
            raise UnknownFunction(Fault.CONTENT, f"field {rules.code}", "a code that the profile knows expected")
        text = value_at(self._message, rules.key) if rules.key and network is Network.KEY_CHANGE else None
        return NetworkManagement(
            network=network,
            wrapped=wrapped_key_of(text) if text else None,
            business_date=self._text("business_date"),
            **self._common(),
        )

    def reconciliation(self) -> Reconciliation:
        rules = self._profile.settlement
        net = self._message.get(rules.net_amount) or "C0"
        return Reconciliation(
            business_date=self._text("business_date"),
            purchases=self._total(rules.purchase_number),
            purchases_minor=self._total(rules.purchase_amount),
            reversals=self._total(rules.reversal_number),
            reversals_minor=self._total(rules.reversal_amount),
            net_minor=int(net[1:]) * (-1 if net[0] == "D" else 1),
            currency=self._text("currency"),
            **self._common(),
        )

    def _total(self, number: int) -> int:
        return int(self._message.get(number) or "0")
