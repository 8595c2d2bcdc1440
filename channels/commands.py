"""What customers ask for, and how it is read from the words of a text message. Pure: no I/O, no clock.

`parse` never guesses. Where a text can be meant in two ways, or a digit is not plainly a digit, the customer is asked
to send it again: an answer costs one message, a token on a neighbour's meter cannot be called back.

What is understood, in any order and case, with the keywords of all languages at once:

    04012345676 500      0401 2345 676  KES 1,000.50      04012345676*500      buy 500 04012345676
    500                  for the sender's saved meter
    1 500                for the first of several saved meters, in the order of their numbers
    price 04012345676 500   what that would bring, without buying
    04012345676 500 2    the same purchase a second time: the customer insists
    bal    last    token 04012345676    help    stop    start    kiswahili    voucher 7719 0043 2286 1150 04012345676
    04012345676 7719004322861150    a voucher for this meter; voucher 7719 0043 2286 1150 alone tops the wallet up
    topup 500    topup 500 2    money for the wallet from where the sender's phone keeps hers; the same a second time

and where PINs are used, of 4 to 6 digits, last or behind their keyword:

    04012345676 500 1234    04012345676 500 2 1234    1 500 1234    pin 1234 04012345676 500    500 pin 1234
    pin 1234 8361           another PIN: the old one first

A PIN that was written in the place of the amount, and the amount in that of the PIN, never fits, unless they are equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from channels.currencies import CURRENCY_WORDS
from ledger.reasons import Reason
from sts.errors import NumberError
from sts.numbers import check_drn


@dataclass(frozen=True, slots=True)
class Buy:
    """Buy energy for `amount_minor`. `drn` is None when the text named none: the sender's only saved meter is meant.

    `nth` is 2 or more when the customer insists on buying the same again ("04012345676 500 2"). `saved` is 1 or more
    when the text names one of the sender's saved meters by its place in the order of their numbers ("1 500"). `by` is
    the way of paying where one was chosen, "wallet" or "float".
    """

    drn: str | None
    amount_minor: int
    nth: int = 1
    saved: int = field(default=0, kw_only=True)
    pin: str | None = field(default=None, kw_only=True, repr=False)
    by: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Price:
    """What a purchase would bring just now, and nothing is bought; meter and amount as in `Buy`."""

    drn: str | None
    amount_minor: int
    saved: int = 0


@dataclass(frozen=True, slots=True)
class LastToken:
    """Send the last token of a meter again; None: the sender's only saved meter, or the one in place `saved`."""

    drn: str | None
    saved: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """Wallet and debts of the sender."""


@dataclass(frozen=True, slots=True)
class Help:
    """How to buy."""


@dataclass(frozen=True, slots=True)
class OptOut:
    """No more notices; tokens are still sent."""


@dataclass(frozen=True, slots=True)
class OptIn:
    """Notices again."""


@dataclass(frozen=True, slots=True)
class SetLanguage:
    """Answer in this language from now on (ISO 639-1 code)."""

    language: str


@dataclass(frozen=True, slots=True, repr=False)
class RedeemVoucher:
    """Redeem a voucher: for a meter, or None to top up the wallet. The PIN is a secret: it is in no repr.

    `amount_minor`: buy for so much of it, 0 for all.
    """

    pin: str
    drn: str | None
    amount_minor: int = 0
    nth: int = 1


@dataclass(frozen=True, slots=True)
class TopUp:
    """Money for the sender's wallet, asked for at a source outside that her phone can pay by.

    `nth` is 2 or more when the customer insists on paying in the same again.
    """

    amount_minor: int
    nth: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class ChangePin:
    """Have another PIN from now on. `old` is "" where the phone has shown elsewhere that it may."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A text that asks for nothing we know, with the reason that the customer is told."""

    reason: Reason
    drn: str | None = None


Command = (
    Buy
    | Price
    | LastToken
    | Statement
    | Help
    | OptOut
    | OptIn
    | SetLanguage
    | RedeemVoucher
    | TopUp
    | ChangePin
    | Unreadable
)

# --- the words that are known -----------------------------------------------------------------------------------------


class Meaning(Enum):
    """What a keyword asks for. The values are the entries of a language file's table `[keywords]`."""

    BUY = "buy"
    BALANCE = "balance"
    LAST = "last"
    PRICE = "price"
    HELP = "help"
    STOP = "stop"
    START = "start"
    VOUCHER = "voucher"
    TOP_UP = "top_up"
    PIN = "pin"  # stands before a PIN
    LANGUAGE = "language"  # stands before the name of a language
    FILLER = "filler"  # words that say nothing: "please", "meter"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The keywords of all languages: folded word to meaning, folded name or code of a language to its code."""

    meanings: Mapping[str, Meaning]
    languages: Mapping[str, str]

    @classmethod
    def of(cls, keywords: Mapping[str, Iterable[str]], languages: Mapping[str, str]) -> Vocabulary:
        """From words by the name of their meaning, and language codes by the words for the language.

        ValueError when one word means two things, or the name of a meaning is not known.
        """
        meanings: dict[str, Meaning] = {}
        for name, words in keywords.items():
            meaning = Meaning(name)
            for word in words:
                if meanings.setdefault(fold(word), meaning) is not meaning:
                    raise ValueError(f"{word!r} means both {meanings[fold(word)].value} and {name}")
        names: dict[str, str] = {}
        for word, code in languages.items():
            if names.setdefault(fold(word), code) != code:
                raise ValueError(f"{word!r} names both {names[fold(word)]} and {code}")
            if meanings.get(fold(word), Meaning.FILLER) is not Meaning.FILLER:
                raise ValueError(f"{word!r} means {meanings[fold(word)].value} and names a language")
        return cls(meanings, names)


VOUCHER_DIGITS: Final = 16
_METER_DIGITS: Final = (11, 13)
_AMOUNT_DIGITS_MAX: Final = 8  # without separators; anything longer is a mistyped meter number
_GROUPED_DIGITS_MAX: Final = 12
_TOKENS_MAX: Final = 40
PIN_DIGITS: Final = range(4, 7)
_WORD_MAX: Final = 32

_MINUS: Final = "-"
_PLAIN: Final[Mapping[str, str]] = {
    "\u2212": _MINUS,  # minus sign
    "\u066b": ".",  # Arabic decimal separator
    "\u066c": ",",  # Arabic thousands separator
    "\u060c": ",",  # Arabic comma
    "\u061b": ";",
    "\u061f": "?",
    "\u06d4": ".",
    "\u0640": "",  # the stroke that only stretches an Arabic word
}
_SEPARATORS: Final = str.maketrans(dict.fromkeys('*#;|()"', " "))
_AFTER_AMOUNT: Final = re.compile(r"(?<=[0-9])/[=-](?![0-9])")  # "500/=" and "500/-"
_LABEL_END: Final = re.compile(r"(?<=[^\W\d_])[:=]|[:=](?![0-9])")  # "meter:0401...", "amount= 500"
_ENDS: Final = ".,!?"
_WORD_EDGES: Final = ".,!?'\u2019\u2018\u00ab\u00bb\u201c\u201d\u00bf\u00a1"

_DIGITS: Final = re.compile(r"[0-9]+")
_DASHED: Final = re.compile(r"[0-9]+(?:-[0-9]+)+")
_METER_AND_REST: Final = re.compile(r"([0-9]{13}|[0-9]{11})[.,]([0-9].*)")
_CURRENCY_FIRST: Final = re.compile(r"([^\W\d_]+|[$\u20ac\u20a6\u20b5])\.?([0-9].*)")
_CURRENCY_LAST: Final = re.compile(r"([0-9][0-9.,]*)([^\W\d_]+|[$\u20ac\u20a6\u20b5])")
_NUMBER: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


def fold(word: str) -> str:
    """A word without case, accents and the Arabic spellings that people mix; long ones, which no keyword is, as is."""
    if len(word) > _WORD_MAX:
        return word
    plain = unicodedata.normalize("NFKD", word.casefold())
    kept = "".join(character for character in plain if unicodedata.category(character) not in ("Mn", "Cf"))
    return kept.replace("\u0649", "\u064a").replace("\u0629", "\u0647").replace("\u0640", "")


# --- a text in pieces -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Number:
    """Something with digits in it, perhaps a secret.

    `digits` is set when it is nothing but digits, `minor` when it reads as an amount. `place` is its position among
    all the pieces of the text.
    """

    place: int
    digits: str | None
    minor: int | None


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The words of a text by what they say, and its numbers."""

    starts_with: Meaning | None  # the first word of the text, where it is a keyword
    meanings: frozenset[Meaning]  # without FILLER
    languages: frozenset[str]
    has_unknown: bool
    numbers: tuple[_Number, ...]
    is_empty: bool  # nothing but punctuation
    pin_places: tuple[int, ...] = ()  # where the keyword of a PIN stands

    @property
    def has_other(self) -> bool:
        """Whether there are words that no purchase has."""
        return self.has_unknown or bool(self.languages)


def _plain_character(character: str) -> str:
    """A character as ASCII where it is only another form of it: digits, blanks, dashes; invisible ones vanish."""
    if character.isascii():
        return character if character.isprintable() else " "
    if character in _PLAIN:
        return _PLAIN[character]
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    category = unicodedata.category(character)
    if category == "Pd":
        return _MINUS
    if category == "Cf":
        return ""
    return " " if category[0] == "Z" or category == "Cc" else character


def amount_minor(written: str, minor_digits: int) -> int | None:
    """An amount as people write it, in minor units: "500", "1,000.50", "1.000,50", "150,5"; "1,000" is a thousand.

    None for what is no amount above zero, has more decimals than the currency, or can be read in two ways.
    """
    if not _NUMBER.fullmatch(written) or len(written) > 24:
        return None
    points, commas = written.count("."), written.count(",")
    if points and commas:
        mark = max(".,", key=written.rfind)
        if written.count(mark) != 1:
            return None
        head, _, decimals = written.partition(mark)
        groups = head.split("," if mark == "." else ".")
    elif points + commas == 1:
        head, _, decimals = written.partition("." if points else ",")
        groups = [head]
        if len(decimals) == 3:
            if minor_digits >= 3:
                return None  # 1.500 is one and a half here, and fifteen hundred there
            groups, decimals = [head, decimals], ""
    else:
        groups, decimals = written.replace(",", ".").split("."), ""
    if len(groups) > 1:
        if not 1 <= len(groups[0]) <= 3 or any(len(group) != 3 for group in groups[1:]):
            return None
        digits_max = _GROUPED_DIGITS_MAX
    else:
        digits_max = _AMOUNT_DIGITS_MAX
    whole = "".join(groups)
    if len(whole) > digits_max or (len(whole) > 1 and whole[0] == "0"):
        return None
    if len(decimals) > max(minor_digits, 2) or decimals[minor_digits:].strip("0"):
        return None
    minor = int(whole + decimals[:minor_digits].ljust(minor_digits, "0"))
    return minor if minor > 0 else None


def _number(place: int, token: str, minor_digits: int, currency_words: frozenset[str]) -> list[_Number]:
    """A token with digits in it, as one number, or as a meter number and what stands behind its comma."""
    if _DIGITS.fullmatch(token):
        return [_Number(place, token, amount_minor(token, minor_digits))]
    if len(token) > _WORD_MAX:
        return [_Number(place, None, None)]
    if _DASHED.fullmatch(token):
        joined = token.replace("-", "")
        is_number = len(joined) in _METER_DIGITS or len(joined) == VOUCHER_DIGITS
        return [_Number(place, joined if is_number else None, None)]
    if parted := _METER_AND_REST.fullmatch(token):
        return [_Number(place, parted[1], None), *_number(place + 1, parted[2], minor_digits, currency_words)]
    if (led := _CURRENCY_FIRST.fullmatch(token)) and fold(led[1]) in currency_words:
        return [_Number(place, None, amount_minor(led[2], minor_digits))]
    if (trailed := _CURRENCY_LAST.fullmatch(token)) and fold(trailed[2]) in currency_words:
        return [_Number(place, None, amount_minor(trailed[1].rstrip(_ENDS), minor_digits))]
    return [_Number(place, None, amount_minor(token, minor_digits))]


def _pieces(text: str, minor_digits: int, currency: str, vocabulary: Vocabulary) -> _Pieces | None:
    """A text in pieces; None when it has more of them than any request."""
    plain = "".join(map(_plain_character, text)).translate(_SEPARATORS)
    plain = _LABEL_END.sub(" ", _AFTER_AMOUNT.sub(" ", plain))
    tokens = plain.split(maxsplit=_TOKENS_MAX)
    if len(tokens) > _TOKENS_MAX:
        return None
    currency_words = frozenset({currency.casefold(), *CURRENCY_WORDS.get(currency, ())})
    meanings: list[Meaning] = []
    languages: set[str] = set()
    has_unknown, is_empty = False, True
    numbers: list[_Number] = []
    pin_places: list[int] = []
    for index, token in enumerate(tokens):
        if any("0" <= character <= "9" for character in token):
            numbers.extend(_number(2 * index, token.rstrip(_ENDS), minor_digits, currency_words))
            is_empty = False
            continue
        word = fold(token.strip(_WORD_EDGES))
        is_empty = is_empty and not word
        if not word or word in currency_words:
            continue
        if not word.strip(_MINUS):
            numbers.append(_Number(2 * index, None, None))  # a dash of its own: a minus, or nothing?
        elif word in vocabulary.languages:
            languages.add(vocabulary.languages[word])
        elif word not in vocabulary.meanings:
            has_unknown = True
        elif vocabulary.meanings[word] is not Meaning.FILLER:
            meanings.append(vocabulary.meanings[word])
            if vocabulary.meanings[word] is Meaning.PIN:
                pin_places.append(2 * index)
    starts_with = vocabulary.meanings.get(fold(tokens[0].strip(_WORD_EDGES))) if tokens else None
    return _Pieces(
        starts_with,
        frozenset(meanings),
        frozenset(languages),
        has_unknown,
        tuple(numbers),
        is_empty,
        tuple(pin_places),
    )


# --- from pieces to a command -----------------------------------------------------------------------------------------

_UNREADABLE: Final = Unreadable(Reason.UNREADABLE)


def parse(text: str, *, minor_digits: int, currency: str, vocabulary: Vocabulary, takes_pins: bool = False) -> Command:
    """The command in a text message; `Unreadable` with the reason where there is none. Never raises.

    `minor_digits` and `currency` (ISO 4217) are the utility's. An empty text asks for help. `takes_pins`: a purchase
    may end with a PIN; where it may not, whoever sends one is told that the amount cannot be read.
    The time it takes grows with the length of the text, not faster.
    """
    pieces = _pieces(text, minor_digits, currency, vocabulary)
    if pieces is None:
        return _UNREADABLE
    meanings, numbers = pieces.meanings, pieces.numbers
    if pieces.is_empty or Meaning.HELP in meanings:
        return Help()
    if Meaning.PIN in meanings:
        return _labelled(pieces) if takes_pins else _UNREADABLE
    if takes_pins and meanings <= {Meaning.BUY} and (with_pin := _ended_by_pin(pieces)) is not None:
        return with_pin
    if meanings <= {Meaning.BUY} or meanings == {Meaning.BUY, Meaning.LAST}:  # "buy token ..."
        if not pieces.has_other and (voucher := _beside_meter(numbers)) is not None:
            return voucher
        if not numbers and not meanings:
            is_language = len(pieces.languages) == 1 and not pieces.has_unknown
            return SetLanguage(next(iter(pieces.languages))) if is_language else _UNREADABLE
        return _bought(pieces)
    if meanings in ({Meaning.PRICE}, {Meaning.PRICE, Meaning.BUY}):
        wish = _bought(pieces)
        return Price(wish.drn, wish.amount_minor, wish.saved) if isinstance(wish, Buy) else wish
    if Meaning.TOP_UP in meanings:
        return _top_up(pieces)
    if len(meanings) > 1 and meanings != {Meaning.VOUCHER, Meaning.BUY}:
        return _UNREADABLE
    if Meaning.VOUCHER in meanings:
        return _UNREADABLE if pieces.has_other else _voucher(numbers)
    if meanings == {Meaning.LANGUAGE}:
        if len(pieces.languages) == 1 and not pieces.has_unknown and not numbers:
            return SetLanguage(next(iter(pieces.languages)))
        return Unreadable(Reason.LANGUAGE_UNKNOWN)
    # Whatever else the text says: someone who wants no notices should not have to ask twice.
    if meanings == {Meaning.STOP} and not numbers and (pieces.starts_with is Meaning.STOP or not pieces.has_other):
        return OptOut()
    if pieces.has_other:
        return _UNREADABLE
    if meanings == {Meaning.START} and not numbers:
        return OptIn()
    if meanings == {Meaning.LAST}:
        return _meter_only(numbers)
    if meanings == {Meaning.BALANCE}:
        asked = _meter_only(numbers)
        return Statement() if isinstance(asked, LastToken) else asked
    return _UNREADABLE


def _is_meter(digits: str) -> bool:
    """Whether this is a meter number with its check digit."""
    try:
        check_drn(digits)
    except NumberError:
        return False
    return True


def _meter_only(numbers: Sequence[_Number]) -> LastToken | Unreadable:
    """Numbers that should be one meter number, or none at all."""
    if not numbers:
        return LastToken(None)
    groups = [number.digits for number in numbers]
    if len(numbers) == 1 and (saved := _saved(numbers[0])):
        return LastToken(None, saved)
    whole = {digits for digits in groups if digits is not None and len(digits) in _METER_DIGITS}
    if len(whole) > 1:
        return Unreadable(Reason.TWO_METERS)
    if None in groups:
        return _UNREADABLE
    joined = "".join(digits for digits in groups if digits is not None)
    if _is_meter(joined):
        return LastToken(joined)
    return Unreadable(Reason.METER_INVALID) if 9 <= len(joined) <= max(_METER_DIGITS) else _UNREADABLE


def _voucher(numbers: Sequence[_Number]) -> RedeemVoucher | Unreadable:
    """A PIN of 16 digits in any groups, and a meter number before or behind it, or none."""
    groups = [number.digits for number in numbers if number.digits is not None]
    if len(groups) != len(numbers):
        return _UNREADABLE
    reading: RedeemVoucher | Unreadable = _UNREADABLE
    for cut in range(len(groups), -1, -1):
        before, after = "".join(groups[:cut]), "".join(groups[cut:])
        for pin, drn in ((before, after), (after, before)):
            if len(pin) != VOUCHER_DIGITS or (drn and len(drn) not in _METER_DIGITS):
                continue
            if not drn:
                return RedeemVoucher(pin, None)
            if _is_meter(drn):
                return RedeemVoucher(pin, drn)
            reading = Unreadable(Reason.METER_INVALID)
    return reading


def _top_up(pieces: _Pieces) -> TopUp | RedeemVoucher | Unreadable:
    """An amount for the wallet, perhaps which time it is; or the number of a voucher."""
    numbers, nth = pieces.numbers, "1"
    if pieces.has_other or not pieces.meanings <= {Meaning.TOP_UP, Meaning.BALANCE, Meaning.VOUCHER}:
        return _UNREADABLE
    voucher = _voucher(numbers)
    if isinstance(voucher, RedeemVoucher) and voucher.drn is None:
        return voucher
    if len(numbers) == 2:
        nth = numbers[1].digits or ""
    minor = numbers[0].minor if numbers else None
    if len(numbers) > 2 or minor is None or len(nth) != 1 or nth == "0" or Meaning.VOUCHER in pieces.meanings:
        return Unreadable(Reason.TOP_UP_UNREADABLE)
    return TopUp(minor, int(nth))


def _beside_meter(numbers: Sequence[_Number]) -> RedeemVoucher | None:
    """A meter number and the number of a voucher, whole or in groups, without its keyword; None for anything else."""
    drns = [number.digits for number in numbers if number.digits is not None and len(number.digits) in _METER_DIGITS]
    if len(drns) != 1 or sum(len(number.digits or "") for number in numbers) != VOUCHER_DIGITS + len(drns[0]):
        return None
    reading = _voucher(numbers)
    return reading if isinstance(reading, RedeemVoucher) and reading.drn == drns[0] else None


def _pin(number: _Number) -> str:
    """The PIN that a number may be; empty if it has not the form of one."""
    return number.digits if number.digits is not None and len(number.digits) in PIN_DIGITS else ""


def _labelled(pieces: _Pieces) -> Command:
    """A text with the keyword of a PIN: a purchase with the PIN behind that word, or an old PIN and a new one.

    Without a meter, and begun by the keyword, two numbers are two PINs and never an amount.
    """
    unreadable, numbers = Unreadable(Reason.PIN_UNREADABLE), pieces.numbers
    if len(pieces.pin_places) != 1 or not pieces.meanings <= {Meaning.PIN, Meaning.BUY} or pieces.has_other:
        return unreadable
    (place,) = pieces.pin_places
    behind = [number for number in numbers if number.place == place + 2]
    if not behind or not (pin := _pin(behind[0])):
        return unreadable
    rest = tuple(number for number in numbers if number is not behind[0])
    if pieces.starts_with is Meaning.PIN and len(rest) < 3 and not _has_meter(rest):
        return ChangePin(pin, new) if len(rest) == 1 and (new := _pin(rest[0])) else unreadable
    command = _purchase(rest)
    return replace(command, pin=pin) if isinstance(command, Buy) else command


def _has_meter(numbers: Sequence[_Number]) -> bool:
    return any(number.digits is not None and len(number.digits) in _METER_DIGITS for number in numbers)


def _ended_by_pin(pieces: _Pieces) -> Buy | None:
    """A purchase with a PIN as its very last number; None where the text reads without one, or not with one either."""
    *rest, last = pieces.numbers or (_Number(0, None, None),)
    if not rest or pieces.has_other or not (pin := _pin(last)) or isinstance(_purchase(pieces.numbers), Buy):
        return None
    command = _purchase(rest)
    if not isinstance(command, Buy):
        return None
    if command.drn is None and not command.saved and len(rest[0].digits or "") + len(pin) > _AMOUNT_DIGITS_MAX:
        return None  # the two halves of a mistyped meter number look like this
    return replace(command, pin=pin)


def _bought(pieces: _Pieces) -> Buy | Unreadable:
    """A purchase, or what is missing for one. Words that no purchase has make it unreadable, whatever else is there."""
    command = _purchase(pieces.numbers)
    if not pieces.has_other:
        return command
    if isinstance(command, Unreadable) and command.reason is not Reason.AMOUNT_NEEDED:
        return command
    return _UNREADABLE if command.drn is None else Unreadable(Reason.AMOUNT_UNREADABLE, command.drn)


def _purchase(numbers: Sequence[_Number]) -> Buy | Unreadable:
    whole = {number.digits for number in numbers if number.digits and len(number.digits) in _METER_DIGITS}
    if len(whole) > 1:
        return Unreadable(Reason.TWO_METERS)
    for drn in whole:
        assert drn is not None
        if not _is_meter(drn):
            return Unreadable(Reason.METER_INVALID)
        return _amount(drn, [number for number in numbers if number.digits != drn], numbers)

    # No number is a meter number by itself: groups of digits side by side may be one together.
    good: list[Buy | Unreadable] = []
    is_nearly_one = False
    for drn, rest in _grouped_meters(numbers):
        reading = _amount(drn, rest, numbers)
        if _is_meter(drn):
            good.append(reading)
        elif isinstance(reading, Buy) or reading.reason is Reason.AMOUNT_NEEDED:
            is_nearly_one = True
    # A reading with a faulty amount does not make another one doubtful; two that could both be meant do.
    meant = [one for one in good if isinstance(one, Buy) or one.reason is Reason.AMOUNT_NEEDED] or good
    if meant:
        return meant[0] if len(meant) == 1 else _UNREADABLE
    if is_nearly_one:
        return Unreadable(Reason.METER_INVALID)
    lengths = [len(number.digits) for number in numbers if number.digits]
    lengths.append(sum(lengths))
    if any(_AMOUNT_DIGITS_MAX < length <= max(_METER_DIGITS) for length in lengths):
        return Unreadable(Reason.METER_INVALID)
    if any(length > _AMOUNT_DIGITS_MAX for length in lengths):
        return _UNREADABLE  # a voucher's PIN without its keyword, or a token
    return _amount(None, numbers, numbers)


def _grouped_meters(numbers: Sequence[_Number]) -> Iterable[tuple[str, list[_Number]]]:
    """Every run of neighbouring groups with as many digits as a meter number, and the numbers outside it."""
    for start in range(len(numbers)):
        joined = ""
        for end in range(start, len(numbers)):
            digits = numbers[end].digits
            if digits is None or (end > start and numbers[end].place != numbers[end - 1].place + 2):
                break
            joined += digits
            if len(joined) > max(_METER_DIGITS):
                break
            if end > start and len(joined) in _METER_DIGITS:
                yield joined, [*numbers[:start], *numbers[end + 1 :]]


def _saved(number: _Number) -> int:
    """The place of a saved meter that a number names, 1 to 9; 0 if it names none."""
    return int(number.digits) if number.digits is not None and len(number.digits) == 1 else 0


def _amount(drn: str | None, rest: Sequence[_Number], numbers: Sequence[_Number]) -> Buy | Unreadable:
    """The purchase for this meter, when what is left of the numbers is an amount, and perhaps which time it is."""
    if not rest:
        return Unreadable(Reason.AMOUNT_NEEDED, drn)
    if drn is None and len(rest) > 1 and (saved := _saved(rest[0])):
        if _saved(rest[1]):
            return Unreadable(Reason.AMOUNT_UNREADABLE)  # 5 2: five a second time, or two for the fifth meter?
        command = _amount(None, rest[1:], numbers)
        return replace(command, saved=saved) if isinstance(command, Buy) else command
    minor = rest[0].minor
    if minor is None or len(rest) > 2:
        return Unreadable(Reason.AMOUNT_UNREADABLE, drn)
    if len(rest) == 1:
        return Buy(drn, minor)
    # "04012345676 500 2": only as the very last number, so that no group of digits is taken for it.
    nth = rest[1].digits
    if nth is None or len(nth) > 1 or nth in "01" or rest[1] is not numbers[-1]:
        return Unreadable(Reason.AMOUNT_UNREADABLE, drn)
    return Buy(drn, minor, int(nth))
