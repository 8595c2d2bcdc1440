"""What a token says, in plain facts: for engineers, support and receipts. Pure.

Three questions. `explained`: what do twenty digits say to somebody without a key? `verdict_of`: did one of these keys
make them, and what do they say then? `facts_of`: the content of a token that was read. Each answers with facts, a
mapping of names to JSON values; wrong digits are answered too, by the name of the fault, a sentence and a hint. No
fact holds a part of a key.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final

from sts import amounts, bits
from sts import tid as tids
from sts.errors import Fault, StsError, TokenError
from sts.meterkey import MeterKey
from sts.modules.contract import SecurityModule
from sts.tokens import (
    REGISTER_ALL,
    ClearCredit,
    ClearTamper,
    Credit,
    CurrencyCredit,
    KeySection1,
    KeySection2,
    KeySection3,
    KeySection4,
    Management,
    MeterTest,
    MeterTestNumber,
    Resource,
    SetFlag,
    SetMaximumPower,
    SetPhaseUnbalance,
    SetTariffRate,
    SetWaterFactor,
    Token,
    block_of,
    token_of,
)

Fact = str | int | bool | None | list[str]
Facts = dict[str, Fact]

CLASS_NAMES: Final = ("credit", "meter test or display", "engineering or key change", "reserved")
"""What the two class bits of a token say."""

_UNITS: Final[Mapping[Resource, str]] = {
    Resource.ELECTRICITY: "kWh",
    Resource.WATER: "m3",
    Resource.GAS: "m3",
    Resource.TIME: "minutes",
}

HINTS: Final[Mapping[Fault, str]] = {
    Fault.FORMAT: "a token has 20 digits, in groups of four with one space or dash between them or none: count them",
    Fault.TOKEN_CLASS: "no meter of this standard's public part takes such a token: a digit may be wrong",
    Fault.CRC: "one digit may be wrong, or the token is for another meter, or was made under another key",
    Fault.OUT_OF_RANGE: "the checksum fits and the content does not: a fault of whoever made the token",
    Fault.UNSETTLED: "no open source settles what such a token says, so it is not guessed here",
    Fault.DEFAULT_KEY_CREDIT: "the key made it, and no meter takes credit under a default key: change the key first",
    Fault.KEY_EXPIRED: "the key made it, and the meter refuses it: a key change is due, then a new token",
}
"""What to look at after each fault of a token."""

_HINT_OTHERWISE: Final = "the token cannot be read"


@dataclass(frozen=True, slots=True)
class Calendar:
    """How the times of a token are shown. `base_offset_minutes`: east of Greenwich, the zone that TIDs count in.

    `local` is the zone in which times are shown beside UTC.
    """

    base_offset_minutes: int = 0
    local: tzinfo | None = None


UTC_CALENDAR: Final = Calendar()


def facts_of(token: Token, base_date: int | None = None, calendar: Calendar = UTC_CALENDAR) -> Facts:
    """What a token says; with the base date of its key also when it was made.

    Always there: `class`, `subclass`, `kind` (a stable name), `says` (a sentence). Values are exact decimal texts.
    """
    token_class, block = block_of(token)
    facts: Facts = {"class": token_class, "subclass": block >> 60}
    match token:
        case Credit():
            facts |= _credit_facts(token)
        case CurrencyCredit():
            facts |= _currency_facts(token)
        case MeterTest():
            facts |= _test_facts(token)
        case KeySection1() | KeySection2() | KeySection3() | KeySection4():
            facts |= _section_facts(token)
        case _:
            facts |= _management_facts(token)
    tid, rnd = getattr(token, "tid", None), getattr(token, "rnd", None)
    if isinstance(tid, int):
        facts |= _time_facts(tid, base_date, calendar)
    if isinstance(rnd, int):
        facts["rnd"] = rnd
    return facts


def _credit_facts(token: Credit) -> Facts:
    name, unit = token.resource.name.lower(), _UNITS[token.resource]
    value = _decimal(token.units, 1)
    return {
        "kind": "credit",
        "says": f"{name} credit of {value} {unit}",
        "resource": name,
        "value": value,
        "unit": unit,
        "field": token.amount_field,
    }


def _currency_facts(token: CurrencyCredit) -> Facts:
    name = token.resource.name.lower().removesuffix("_currency")
    value = _decimal(token.amount.units, 5)
    facts: Facts = {
        "kind": "currency_credit",
        "says": f"{name} credit of {value} in the base currency",
        "resource": name,
        "value": value,
        "unit": "base currency",
        "field": token.amount.field,
        "sign_exponent": token.amount.sign_exponent,
    }
    if not token.amount.is_settled:
        facts["caution"] = "negative amounts and exponents above 3 rest on one public source"
    return facts


def _test_facts(token: MeterTest) -> Facts:
    named = [test.name.lower() for test in MeterTestNumber if token.control >> (test - 1) & 1]
    unnamed = token.control >> len(MeterTestNumber)
    every = token.control == (1 << token.control_bits) - 1
    if every:
        says = "asks the meter for every test and display"
    elif token.control:
        says = "asks the meter for: " + ", ".join(
            [name.replace("_", " ") for name in named] + (["tests without a public name"] if unnamed else [])
        )
    else:
        says = "asks the meter for no test at all"
    maker = "of every maker" if not int(token.manufacturer) else f"of manufacturer {token.manufacturer}"
    return {
        "kind": "meter_test",
        "says": f"{says}; for meters {maker}",
        "manufacturer": token.manufacturer,
        "control_hex": f"{token.control:0{token.control_bits // 4}x}",
        "tests": named,
        "tests_without_a_name": bin(unnamed).count("1"),
    }


def _management_facts(token: Management) -> Facts:
    match token:
        case SetMaximumPower():
            return _watts("set_maximum_power", "sets the power limit to", token.limit_w, token.limit_field)
        case SetPhaseUnbalance():
            return _watts("set_phase_unbalance", "sets the phase unbalance limit to", token.limit_w, token.limit_field)
        case ClearCredit(_, _, register):
            name = "all" if register == REGISTER_ALL else Resource(register).name.lower()
            what = "every credit register" if name == "all" else f"the credit register {name.replace('_', ' ')}"
            return {"kind": "clear_credit", "says": f"sets {what} to zero", "register": name, "field": register}
        case SetTariffRate(_, _, rate):
            says = f"sets the tariff rate to {rate}, whose meaning the utility settles"
            return {"kind": "set_tariff_rate", "says": says, "value": str(rate), "field": rate}
        case SetWaterFactor(_, _, factor):
            says = f"sets the water meter factor to {factor}"
            return {"kind": "set_water_factor", "says": says, "value": str(factor), "field": factor}
        case ClearTamper():
            return {"kind": "clear_tamper", "says": "ends the tamper condition", "field": 0}
        case SetFlag(_, _, flag, value):
            says = f"{'sets' if value else 'clears'} the flag {flag.name.lower().replace('_', ' ')}"
            return {
                "kind": "set_flag",
                "says": says,
                "flag": flag.name.lower(),
                "flag_number": int(flag),
                "flag_value": value,
                "field": token.field,
            }


def _watts(kind: str, says: str, limit_w: int, field: int) -> Facts:
    return {"kind": kind, "says": f"{says} {limit_w} W", "value": str(limit_w), "unit": "W", "field": field}


def _section_facts(token: KeySection1 | KeySection2 | KeySection3 | KeySection4) -> Facts:
    """A section without its part of the key."""
    match token:
        case KeySection1(expiry, revision, rollover, three, key_type, _):
            clears = "; the meter then forgets its TIDs" if rollover else ""
            return {
                "kind": "key_change_1",
                "says": f"first section of a change to key revision {revision}, key type {key_type}{clears}",
                "new_key_revision": revision,
                "new_key_type": key_type,
                "new_key_expiry_high": expiry,
                "rollover": rollover,
                "three_token_set": three,
            }
        case KeySection2(expiry, tariff_index, _):
            return {
                "kind": "key_change_2",
                "says": f"second section of a key change, to tariff index {tariff_index:02d}",
                "new_tariff_index": f"{tariff_index:02d}",
                "new_key_expiry_low": expiry,
            }
        case KeySection3(low, _):
            says = "third section of a key change, with the lower half of the supply group"
            return {"kind": "key_change_3", "says": says, "new_supply_group_low": low}
        case KeySection4(high, _):
            says = "fourth section of a key change, with the upper half of the supply group"
            return {"kind": "key_change_4", "says": says, "new_supply_group_high": high}


def _time_facts(tid: int, base_date: int | None, calendar: Calendar) -> Facts:
    facts: Facts = {"tid": tid}
    if base_date is None:
        return facts
    at = tids.issued_at(tid, base_date, zone_offset_minutes=calendar.base_offset_minutes)
    facts["base_date"] = base_date
    facts["issued_at"] = _minute(at)
    if calendar.local is not None:
        facts["issued_at_local"] = _minute(at.astimezone(calendar.local))
    if tids.is_reserved(tid):
        facts["caution"] = "00:01 is kept for special tokens"
    return facts


def _minute(at: datetime) -> str:
    return at.isoformat(timespec="minutes").replace("+00:00", "Z")


def _decimal(units: int, places: int) -> str:
    """Units of 10^-places as a decimal text, without floats."""
    whole, rest = divmod(abs(units), 10**places)
    return f"{'-' if units < 0 else ''}{whole}.{rest:0{places}d}"


def offset(minutes: int) -> tzinfo:
    """The zone at this fixed offset east of Greenwich."""
    return timezone(timedelta(minutes=minutes))


# --- without a key ----------------------------------------------------------------------------------------------------


def explained(text: str) -> Facts:
    """What twenty digits say to somebody without a key. Never raises: what is wrong is among the facts.

    Class 1 is not enciphered and is explained in full; of the others, the outer form.
    """
    try:
        token_class, block = bits.split(text)
    except TokenError as refusal:
        return fault_facts(refusal, text)
    digits = bits.plain(text)
    facts: Facts = {
        "token": bits.grouped(digits),
        "class": token_class,
        "class_name": CLASS_NAMES[token_class],
        "token66_hex": f"{int(digits):017x}",
        "block_hex": f"{block:016x}",
        "enciphered": token_class in (0, 2),
        "needs_key": token_class in (0, 2),
    }
    if facts["enciphered"]:
        facts["says"] = f"{CLASS_NAMES[token_class]}, encrypted: the meter's key is needed to read it"
        return facts
    try:
        return facts | facts_of(token_of(token_class, block)) | {"crc_fits": True}
    except TokenError as refusal:
        wrong = fault_facts(refusal, text)
        if refusal.fault is Fault.CRC:
            wrong |= _near(digits, _is_class_1)
        return {"token": facts["token"], "class": token_class, "class_name": facts["class_name"]} | wrong


def _is_class_1(digits: str) -> bool:
    try:
        token_class, block = bits.split(digits)
        return token_class == 1 and isinstance(token_of(1, block), MeterTest)
    except TokenError:
        return False


def fault_facts(refusal: StsError, text: str = "") -> Facts:
    """A fault of a token as facts: its name, a sentence, a hint. `text` is what was typed; none of it is repeated."""
    hint = HINTS.get(refusal.fault, _HINT_OTHERWISE)
    if refusal.fault is Fault.FORMAT and text:
        hint = _format_hint(text)
    return {"fault": refusal.fault.value, "sentence": refusal.sentence, "hint": hint}


def _format_hint(text: str) -> str:
    count = sum(character in "0123456789" for character in text)
    if count == bits.DIGITS and len(text) == bits.DIGITS:
        return "a token does not begin with a number above 73: one of the first digits is wrong"
    if any(character.isdecimal() and not character.isascii() for character in text):
        return "digits of another script: type them as 0 to 9"
    if count == bits.DIGITS:
        return "20 digits, and something else among them: one space or dash between groups of four, or none"
    return f"{count} digit{'' if count == 1 else 's'} found, and a token has 20"


# --- under keys -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that may have made a token; `name` says which to people: present, previous."""

    name: str
    key: MeterKey


def verdict_of(
    text: str, candidates: Sequence[Candidate], module: SecurityModule, calendar: Calendar = UTC_CALENDAR
) -> Facts:
    """Did one of these keys make the token, and what does it say? The first key whose checksum fits answers.

    At least one key is needed. `ours` is true if the token may be used: read in full under one of the keys, or of
    class 1, which every meter takes. Otherwise `fault`, `sentence` and `hint` say why; `crc_fits` is true, and `key`
    named, where a key did make the token and the meter refuses it for another reason.
    Wrong tokens are answered, not raised. Raises KeyMissing and ModuleRefused: then nothing is known of the token.
    """
    try:
        token_class, block = bits.split(text)
    except TokenError as refusal:
        return {"ours": False, "crc_fits": False, **fault_facts(refusal, text)}
    digits = bits.plain(text)
    if token_class in (1, 3):
        wrong = explained(text)
        if "fault" not in wrong:
            return {"ours": True} | wrong
        wrong |= {"ours": False, "crc_fits": token_class == 1 and wrong["fault"] != Fault.CRC}
    else:
        wrong = {"token": bits.grouped(digits), "class": token_class}
        for candidate in candidates:
            try:
                token = module.verify(text, candidate.key)
            except TokenError as refusal:
                wrong |= {"ours": False, "crc_fits": False} | fault_facts(refusal, text)
                if refusal.fault is Fault.CRC:
                    continue
                return wrong | {"crc_fits": True, "key": candidate.name}
            good: Facts = {"token": bits.grouped(digits), "ours": True, "crc_fits": True, "key": candidate.name}
            return good | facts_of(token, candidate.key.base_date, calendar)
    if wrong["crc_fits"] or not module.answers_at_once:
        return wrong  # some hundred questions more are too many for a module that waits
    # One wrong digit may also change the class, so every class is looked for.
    return wrong | _near(digits, lambda other: any(_reads(other, it, module) for it in candidates))


def _reads(digits: str, candidate: Candidate, module: SecurityModule) -> bool:
    try:
        token_class, block = bits.split(digits)
        token = token_of(1, block) if token_class == 1 else module.verify(digits, candidate.key)
    except TokenError:
        return False
    return token is not None


def _near(digits: str, fits: Callable[[str], bool]) -> Facts:
    """Where one digit changed, or two neighbours swapped, would make a token of this text."""
    places = [place for place, other in _one_slip_away(digits) if fits(other)]
    if not places:
        return {}
    # 199 numbers are tried against 16 bits of checksum: of strangers' tokens about one in 300 is near one of ours.
    return {"near": places, "hint": f"it would fit if {places[0]}; compare with the slip"}


def _one_slip_away(digits: str) -> Iterator[tuple[str, str]]:
    for place, digit in enumerate(digits):
        for other in "0123456789":
            if other != digit:
                yield f"digit {place + 1} were {other}", digits[:place] + other + digits[place + 1 :]
    for place in range(len(digits) - 1):
        first, second = digits[place], digits[place + 1]
        if first != second:
            swapped = digits[:place] + second + first + digits[place + 2 :]
            yield f"digits {place + 1} and {place + 2} changed places", swapped


# --- for people -------------------------------------------------------------------------------------------------------

_LABELS: Final[Mapping[str, str]] = {
    "token": "token",
    "says": "says",
    "issued_at": "made at (UTC)",
    "issued_at_local": "made at (local)",
    "tid": "TID",
    "base_date": "base date",
    "rnd": "RND",
    "crc_fits": "checksum fits",
    "key": "key",
    "fault": "fault",
    "sentence": "that is",
    "hint": "hint",
}


def lines_of(facts: Facts) -> list[str]:
    """Facts as lines for people, the sentence first and names spelled out."""
    order: list[str] = [name for name in ("token", "says") if name in facts]
    order += [name for name in facts if name not in order]
    return [f"{_LABELS.get(name, name.replace('_', ' '))}: {_words(facts[name])}" for name in order]


def _words(value: Fact) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "-" if value is None else str(value)


def rounding_of(asked_units: int) -> str | None:
    """A sentence if a token cannot carry exactly this amount (in its unit), else None."""
    carried = amounts.round_up(asked_units)
    if carried == asked_units:
        return None
    return f"rounded up from {_decimal(asked_units, 1)}: the next amount that a token can carry"
