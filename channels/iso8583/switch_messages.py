"""What a bank's switch sends, by any profile: inquiry, purchase, advice, reversal, totals, network management. Pure.

The other side of `requests.py`: that one reads what these write. Fields that a profile demands beside its places are
given as a cash machine gives them; a field that the profile does not have is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from channels.iso8583 import mti
from channels.iso8583.answers import fill, placed
from channels.iso8583.errors import Fault, IsoError
from channels.iso8583.keymodule import WrappedKey
from channels.iso8583.matching import Original, original_text
from channels.iso8583.message import Message, Value
from channels.iso8583.notation import Kind
from channels.iso8583.profile import Asked, MessageRule, Network, Profile

# What a cash machine says of itself, where the profile's field has this form: merchant type, entry mode.
_USUAL: Final[Mapping[int, tuple[str, str]]] = {18: ("n4", "4900"), 22: ("n3", "021")}


@dataclass(frozen=True, slots=True)
class Card:
    """The card in the machine. Only ever sent; the other side must drop all of it."""

    pan: str = "5021990000000017"
    expiry: str = "2812"
    pin_block: str = "0123456789ABCDEF"

    def __repr__(self) -> str:
        return "<Card>"

    @property
    def shown(self) -> str:
        """As a slip shows it."""
        return f"{self.pan[:6]}{'*' * (len(self.pan) - 10)}{self.pan[-4:]}"


@dataclass(frozen=True, slots=True)
class Terminal:
    """A cash machine: its number, where it stands, its bank, the currency as the bank writes it, decimals."""

    number: str = "ATM00042"
    acceptor: str = "BANKBRANCH00042"
    acquirer: str = "627001"
    currency: str = "840"
    digits: int = 2
    card: Card | None = Card()


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked a machine for, and what a repeat of it carries again. Amount in minor units."""

    stan: int
    rrn: str
    sent: datetime
    local: datetime
    terminal: Terminal
    meter: str
    amount_minor: int = 0
    business_date: date | None = None
    inquiry: str = ""
    msisdn: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """A business day as the switch counts it: sales that stand or stood, those of them taken back, net."""

    purchases: int = 0
    purchases_minor: int = 0
    reversals: int = 0
    reversals_minor: int = 0

    @property
    def net_minor(self) -> int:
        """What the bank owes for the day."""
        return self.purchases_minor - self.reversals_minor


class Writer:
    """Writes messages by one profile; without MAC, which is the link's."""

    def __init__(self, profile: Profile) -> None:
        self._profile: Final = profile
        self._codecs: Final = profile.packager.fields.codecs

    # --- business -----------------------------------------------------------------------------------------------------

    def inquiry(self, order: Order) -> Message:
        """Whose meter is it?"""
        return self._sale(Asked.INQUIRY, order, is_repeat=False)

    def purchase(self, order: Order, *, is_repeat: bool = False) -> Message:
        """The purchase, or its repeat: the same but for its type, where the profile has a type for repeats."""
        return self._sale(Asked.PURCHASE, order, is_repeat=is_repeat)

    def advice(self, order: Order, *, is_repeat: bool = False) -> Message:
        """A purchase that was made as far as the bank knows: its token is asked for."""
        return self._sale(Asked.ADVICE, order, is_repeat=is_repeat)

    def reversal(self, order: Order, stan: int, sent: datetime, *, is_advice: bool, is_repeat: bool = False) -> Message:
        """Take a purchase back: as a request, which may be refused, or as an advice. `stan` and `sent` are its own."""
        profile, rule = self._profile, self._rule(Asked.REVERSAL)
        message_type = self._type(rule, is_repeat=is_repeat, is_advice=is_advice)
        original = Original(
            mti=self._rule(Asked.PURCHASE).mtis[0],
            stan=self._stan(order.stan),
            sent=f"{order.sent:%m%d%H%M%S}",
            local=self._local(order.local),
            acquirer=order.terminal.acquirer,
        )
        reasons = profile.reversal.timeout_reasons
        texts = dict(self._common(order)) | {
            "stan": self._stan(stan),
            "sent": self._time("sent", sent),
            "amount": str(order.amount_minor),
            "amount_digits": str(order.terminal.digits),
            "original": original_text(original, profile.reversal.original),
            "reason": reasons[0] if reasons else "",
        }
        fields = self._plain(self._rule(Asked.PURCHASE), order, ())
        if not reasons:
            del texts["reason"]
        return placed(profile, Message(message_type, fields, self._header), texts.items())

    def reconciliation(
        self,
        totals: Totals,
        day: date,
        stan: int,
        at: datetime,
        local: datetime,
        terminal: Terminal,
        *,
        is_repeat: bool,
    ) -> Message:
        """The day's totals of the switch. Purchases are debits of cardholders: the bank owes them."""
        profile, rules, rule = self._profile, self._profile.settlement, self._rule(Asked.RECONCILIATION)
        sums = {number: 0 for number in (74, 75, 76, 77, 86, 87, 88, 89)} | {
            rules.purchase_number: totals.purchases,
            rules.purchase_amount: totals.purchases_minor,
            rules.reversal_number: totals.reversals,
            rules.reversal_amount: totals.reversals_minor,
        }
        fields: dict[int, Value] = {
            number: fill(self._codecs[number].form, str(value))
            for number, value in sums.items()
            if number in self._codecs
        }
        net = self._codecs[rules.net_amount].form
        sign = "D" if totals.net_minor >= 0 else "C"
        fields[rules.net_amount] = f"{sign}{abs(totals.net_minor):0{net.length}d}"
        if 99 in self._codecs:
            fields[99] = terminal.acquirer
        texts = self._own(rule, stan, at, local, terminal) | {"business_date": self._date(day)}
        texts["currency"] = terminal.currency
        message_type = self._type(rule, is_repeat=is_repeat, is_advice=False)
        return placed(profile, Message(message_type, fields, self._header), texts.items())

    # --- network management -------------------------------------------------------------------------------------------

    def network(
        self,
        network: Network,
        stan: int,
        at: datetime,
        local: datetime,
        terminal: Terminal,
        *,
        day: date | None = None,
        key: WrappedKey | None = None,
    ) -> Message:
        """Sign-on, echo and the like; `day` with a cut-over, `key` with a key change. IsoError for what it has not."""
        rules, rule = self._profile.network, self._rule(Asked.NETWORK)
        if network not in rules.codes.values():
            raise IsoError(Fault.CONTENT, f"field {rules.code}", f"a code for {network} expected in the profile")
        fields: dict[int, Value] = {int(rules.code): rules.code_of(network)}
        if key is not None:
            fields[int(rules.key)] = f"{key.scheme}{key.cryptogram}{key.kcv}"
        texts = self._own(rule, stan, at, local, terminal)
        if day is not None:
            texts["business_date"] = self._date(day)
        return placed(self._profile, Message(rule.mtis[0], fields, self._header), texts.items())

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def _header(self) -> bytes:
        return b" " * self._profile.packager.header

    def _rule(self, asked: Asked) -> MessageRule:
        for rule in self._profile.messages:
            if rule.asked is asked:
                return rule
        raise IsoError(Fault.MTI, "MTI", f"a message for {asked} expected in the profile")

    @staticmethod
    def _type(rule: MessageRule, *, is_repeat: bool, is_advice: bool) -> str:
        """The type: where a bank has no advice, or no type for repeats, the one that it has."""
        wanted = [each for each in rule.mtis if mti.is_advice(each) is is_advice] or list(rule.mtis)
        repeats = [each for each in rule.repeats if each[:3] == wanted[0][:3]]
        return repeats[0] if is_repeat and repeats else wanted[0]

    def _sale(self, asked: Asked, order: Order, *, is_repeat: bool) -> Message:
        rule = self._rule(asked)
        # What is asked for, in field 3, is the purchase's also in its advice.
        fields = self._plain(rule if rule.match else self._rule(Asked.PURCHASE), order, _USUAL)
        texts = dict(self._common(order)) | {"meter": order.meter, "sent": self._time("sent", order.sent)}
        if asked is not Asked.INQUIRY:
            texts |= {"amount": str(order.amount_minor), "amount_digits": str(order.terminal.digits)}
        for place, text in (("inquiry", order.inquiry), ("msisdn", order.msisdn)):
            if text:
                texts[place] = text
        is_advice = asked is Asked.ADVICE
        message_type = self._type(rule, is_repeat=is_repeat, is_advice=is_advice)
        return placed(self._profile, Message(message_type, fields, self._header), texts.items())

    def _plain(
        self, rule: MessageRule, order: Order, usual: Mapping[int, tuple[str, str]] | tuple[()]
    ) -> dict[int, Value]:
        """Fields that no place names: what the profile knows the message by, what machines usually say, the card."""
        fields: dict[int, Value] = {}
        for path, pattern in rule.match:
            sample = pattern.pattern.replace(".", "0")
            if path.isdecimal() and pattern.fullmatch(sample):
                fields[int(path)] = sample
        for number, (form, text) in dict(usual).items():
            if number in self._codecs and str(self._codecs[number].form) == form:
                fields[number] = text
        card = order.terminal.card
        if card is not None:
            fields |= {number: text for number, text in self._card(card) if number in self._codecs}
        return fields

    def _card(self, card: Card) -> Iterator[tuple[int, Value]]:
        yield 2, card.pan
        yield 14, card.expiry
        yield 35, f"{card.pan}={card.expiry}1010000000000"
        if 52 in self._codecs and self._codecs[52].form.kind is Kind.B:
            yield 52, card.pin_block

    def _common(self, order: Order) -> Iterator[tuple[str, str]]:
        terminal = order.terminal
        yield "stan", self._stan(order.stan)
        yield "rrn", order.rrn
        yield "local_date", self._time("local_date", order.local)
        yield "local_time", f"{order.local:%H%M%S}"
        yield "acquirer", terminal.acquirer
        yield "terminal", terminal.number
        yield "acceptor", terminal.acceptor
        yield "currency", terminal.currency
        if order.business_date is not None:
            yield "business_date", self._date(order.business_date)

    def _own(self, rule: MessageRule, stan: int, at: datetime, local: datetime, terminal: Terminal) -> dict[str, str]:
        """Trace number, acquirer, and those times that messages of this kind must have."""
        texts = {"stan": self._stan(stan), "acquirer": terminal.acquirer}
        times = {
            "sent": self._time("sent", at),
            "local_date": self._time("local_date", local),
            "local_time": f"{local:%H%M%S}",
        }
        for place, text in times.items():
            number = self._profile.places.get(place, "").partition("[")[0]
            if number in rule.require:
                texts[place] = text
        return texts

    def _stan(self, stan: int) -> str:
        length = self._codecs[int(self._profile.places["stan"])].form.length
        return f"{stan % 10**length:0{length}d}"

    def _local(self, local: datetime) -> str:
        """Local date and time as field 56 has them, by the room in the profile's layout."""
        width = dict(self._profile.reversal.original).get("local", 14)
        return f"{local:%Y%m%d%H%M%S}"[-width:]

    def _date(self, day: date) -> str:
        return f"{day:%Y%m%d}"[-self._width("business_date") :]

    def _time(self, place: str, moment: datetime) -> str:
        """A date, or date and time, by the room that its place has."""
        whole = f"{moment:%Y%m%d}" if place == "local_date" else f"{moment:%Y%m%d%H%M%S}"
        return whole[-self._width(place) :]

    def _width(self, place: str) -> int:
        path = self._profile.places.get(place)
        if path is None:
            return 14
        name, _, span = path.partition("[")
        begin, _, end = span.rstrip("]").partition(":")
        length = self._codecs[int(name)].form.length
        return (int(end or length) - int(begin or 0)) if span else length
