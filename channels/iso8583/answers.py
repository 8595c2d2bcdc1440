"""Answers, and the few messages we begin ourselves. Pure.

An answer carries back what came, unchanged, and never drops or adds a field that a switch matches on; that holds for a
decline too. What it says besides comes from `Said`, by the places of the profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from channels.iso8583 import mti
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import EncodeError, Fault
from channels.iso8583.message import Message, Parts, Value
from channels.iso8583.notation import Format, Kind
from channels.iso8583.profile import Network, Profile
from channels.iso8583.structures import Positions, Structure, Tlv
from ledger.reasons import Reason

# What stands once for each token, in this order.
_PER_TOKEN: Final = ("tokens", "units", "kind")

CREDIT: Final = "00"
"""Kind of an ordinary token; 01 and 02 are a key change, 10 free units."""


@dataclass(frozen=True, slots=True, repr=False)
class TokenSaid:
    """One token, 20 digits, with its units in hundredths and its kind. Key-change tokens come first."""

    digits: str
    units_hundredths: int
    kind: str = CREDIT


@dataclass(frozen=True, slots=True, repr=False)
class Said:
    """What an answer says besides its code: tokens, texts or numbers by the names of the profile's places, and fields
    by their numbers."""

    tokens: Sequence[TokenSaid] = ()
    places: Mapping[str, str | int] = field(default_factory=dict)
    fields: Mapping[int, str] = field(default_factory=dict)


NOTHING: Final = Said()


def answer_to(profile: Profile, message: Message, why: Reason | Outcome, said: Said = NOTHING) -> Message:
    """The answer to a request, without its MAC. Raises EncodeError for what does not fit its field."""
    fields: dict[int, Value] = {number: message[number] for number in profile.echo if number in message}
    fields[profile.response_field] = profile.code(why)
    made = Message(mti.answer_of(message.mti), fields, message.header)
    plain: dict[int, Value] = {number: _filled(profile, number, text) for number, text in said.fields.items()}
    require_whole(profile, said)
    return placed(profile, made.having(plain), _texts(profile, said))


def has_one_token(profile: Profile) -> bool:
    """Whether an answer has a place for one token at most: a field, or a fixed position in one."""
    number, _, tag = profile.places.get("tokens", "").partition(".")
    is_repeated = bool(tag) and isinstance(profile.packager.fields.structures.get(int(number)), Tlv)
    return not is_repeated


def require_whole(profile: Profile, said: Said) -> None:
    """Raise EncodeError if some token cannot be told: whoever has the credit without its key change has nothing."""
    if len(said.tokens) < 2 or not has_one_token(profile):
        return
    text = "".join(sign for sign in str(said.places.get("text", "")) if sign.isdecimal())
    if profile.several_tokens == "text" and all(token.digits in text for token in said.tokens):
        return
    where = profile.places.get("tokens", "-")
    raise EncodeError(Fault.STRUCTURE, f"field {where}", f"one token expected, got {len(said.tokens)}")


def begun(profile: Profile, network: Network, values: Mapping[int, str]) -> Message:
    """A network management request of ours: `values` are transmission time, trace number and the like, by field."""
    rules = profile.network
    rule = next(rule for rule in profile.messages if rule.asked == "network")
    return Message(rule.mtis[0], {**values, int(rules.code): rules.code_of(network)})


def placed(profile: Profile, message: Message, texts: Iterable[tuple[str, str]]) -> Message:
    """The message with texts put where the profile has their places; a place it has not is left out.

    A place may come again where its field may. Raises EncodeError for what fits no layout.
    """
    values: dict[int, list[tuple[str, str]]] = {}
    plain: dict[int, Value] = {}
    for place, text in texts:
        path = profile.places.get(place)
        if path is None:
            continue  # this bank has no place for it
        name, bracket, span = path.partition("[")
        number, _, tag = name.partition(".")
        if tag:
            values.setdefault(int(number), []).append((tag, text))
        elif bracket:
            known = plain.get(int(number), message.get(number))
            plain[int(number)] = _spliced(profile, int(number), known if isinstance(known, str) else "", span, text)
        else:
            plain[int(name)] = _filled(profile, int(name), text)
    for at, pairs in values.items():
        before = message[at] if at in message else None
        plain[at] = _parts(profile, message.mti, at, before, pairs)
    return message.having(plain)


def room(profile: Profile, place: str) -> int | None:
    """The most characters that a place has; None if the profile does not have it, or sets no limit."""
    path = profile.places.get(place, "").partition("[")[0]
    number, _, tag = path.partition(".")
    if not number:
        return None
    structure = profile.packager.fields.structures.get(int(number))
    if not tag:
        return profile.packager.fields.codecs[int(number)].form.length
    parts = []
    if isinstance(structure, Positions):
        parts = [part for layout in structure.all_layouts for name, part in layout.parts if name == tag]
    elif isinstance(structure, Tlv):
        parts = [structure.part(tag)]
    return max((form.length for part in parts if part is not None for form in part.choices), default=None)


def _spliced(profile: Profile, number: int, known: str, span: str, text: str) -> str:
    """A field of which one place is a slice, "4:16" of an amount with its currency before it."""
    form = profile.packager.fields.codecs[number].form
    begin, _, end = span.rstrip("]").partition(":")
    first, last = int(begin or 0), int(end or form.length)
    is_number = form.kind is Kind.N
    whole = known or ("0" if is_number else " ") * form.length
    width = last - first
    return whole[:first] + (text.zfill(width) if is_number else text.ljust(width)) + whole[last:]


def _texts(profile: Profile, said: Said) -> Iterable[tuple[str, str]]:
    told = said.tokens
    if len(told) > 1 and has_one_token(profile):
        told = [token for token in told if token.kind == CREDIT][-1:] or told[-1:]  # the text has them all
    for token in told:
        yield from zip(_PER_TOKEN, (token.digits, str(token.units_hundredths), token.kind), strict=True)
    for place, value in said.places.items():
        yield place, str(value)


def _filled(profile: Profile, number: int, text: str) -> str:
    """A text as long as its field: digits after zeros, other characters before blanks."""
    codec = profile.packager.fields.codecs[number]
    return fill(codec.form, text)


def fill(form: Format, text: str) -> str:
    """A text of a format's length, if that is fixed; too long a text stays so, and is refused when it is written."""
    if not form.is_fixed:
        return text
    return text.zfill(form.length) if form.kind is Kind.N else text.ljust(form.length)


def _parts(
    profile: Profile, message_type: str, number: int, before: Value | None, pairs: Sequence[tuple[str, str]]
) -> Parts:
    structure = profile.packager.fields.structures.get(number)
    known = list(before) if isinstance(before, Parts) else []
    if not isinstance(structure, Positions):
        fresh = {tag for tag, _ in pairs}
        kept = [(tag, value) for tag, value in known if tag not in fresh]
        return Parts([*kept, *((tag, _sized(structure, tag, text)) for tag, text in pairs)])
    given = dict(known) | dict(pairs)
    for layout in structure.layouts(message_type):
        names = [name for name, _ in layout.parts]
        # The layout that has a position for everything said.
        if all(tag in names for tag, _ in pairs):
            made: list[tuple[str, Value]] = []
            for name, part in layout.parts:
                value = given.get(name) or profile.constants.get(f"{number}.{name}", "")
                made.append((name, fill(part.choices[0], value) if part and isinstance(value, str) else value))
            return Parts(made)
    raise EncodeError(Fault.STRUCTURE, f"field {number}", "a layout with every position that is said expected")


def _sized(structure: Structure | None, tag: str, text: str) -> str:
    part = structure.part(tag) if isinstance(structure, Tlv) else None
    return fill(part.choices[0], text) if part is not None else text
