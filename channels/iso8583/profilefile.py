"""A profile file's tables become a `Profile`, or one exception with every fault and its path. Pure.

`extends` names another table that is taken first; what the file says replaces it member by member, lists whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from channels.iso8583 import codes, framing, mac
from channels.iso8583.describe import CARD_FIELDS, HOW
from channels.iso8583.errors import IsoError
from channels.iso8583.mac import Algorithm, MacRules
from channels.iso8583.matching import LAYOUT_90
from channels.iso8583.mti import answer_of, is_answer, is_mti
from channels.iso8583.notation import Kind
from channels.iso8583.packager import Packager
from channels.iso8583.packagerfile import packager_of
from channels.iso8583.profile import (
    PLACES,
    Asked,
    LinkRules,
    MessageRule,
    Network,
    NetworkRules,
    Profile,
    ReversalRules,
    Settlement,
    Timing,
)
from channels.iso8583.reading import Fault, ProfileFaults, Table, field_number
from channels.iso8583.structures import Positions, Tlv
from config.values import describe

Find = Callable[[str], Mapping[str, Any] | None]
"""The tables of the profile or field table with this name; None if there is none."""

_EXTENDS_MAX: Final = 8
# Places without which a sale cannot be read, and one that must be the standard's.
_NEEDED: Final = ("meter", "amount", "currency", "stan", "response")
_PATH: Final = re.compile(r"([0-9]{1,3})((?:\.[0-9A-Za-z_]+)*)(\[[0-9]{0,3}:[0-9]{0,3}\])?", re.ASCII)
_SECONDS_MAX: Final = 86_400


def merged(tables: Mapping[str, Any], find: Find, faults: list[Fault]) -> dict[str, Any]:
    """A profile's tables with all that they extend."""
    seen: list[Mapping[str, Any]] = []
    layer: Mapping[str, Any] | None = tables
    while layer is not None:
        seen.append(layer)
        base = layer.get("extends")
        if base is None:
            break
        layer = find(base) if isinstance(base, str) else None
        if layer is None or len(seen) > _EXTENDS_MAX:
            faults.append(Fault("extends", "the name of a shipped profile or field table", describe(base)))
            break
    whole: dict[str, Any] = {}
    for layer in reversed(seen):
        whole = _over(whole, layer)
    whole.pop("extends", None)
    return whole


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for name, value in above.items():
        known = result.get(name)
        result[name] = _over(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def profile_of(tables: Mapping[str, Any], find: Find, name: str = "") -> Profile:
    """The profile; raises ProfileFaults with every fault. `name` for one that does not say its own."""
    faults: list[Fault] = []
    table = Table(merged(tables, find, faults), "", faults)
    called = table.text("name", name)
    profile = _profile(table, called)
    table.nothing_else()
    if faults or profile is None:
        raise ProfileFaults(called or "without a name", faults)
    return profile


def _profile(table: Table, name: str) -> Profile | None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
        table.fault("name", "small letters, digits and dashes, 1 to 40", describe(name))
    style = table.text("style", "1987", codes.STYLES)
    packager = packager_of(table.table("packager"))
    paths = _Paths(packager)
    rules = _messages(table.table("messages"), paths)
    network, network_rule = _network(table.table("network"), paths)
    mac_rules, on_wrong_mac = _mac(table.table("mac"), paths) if table.has("mac") else (None, "answer")
    matching, drop = table.table("matching"), frozenset(table.numbers("drop", sorted(CARD_FIELDS)))
    if not drop >= CARD_FIELDS:
        missing = ", ".join(map(str, sorted(CARD_FIELDS - drop)))
        table.fault("drop", "every field that may hold card data", f"a list without {missing}")
    key = paths.all(matching, "key", ("32", "41", "42", "11", "12", "13", "37"), drop)
    fingerprint = paths.all(matching, "fingerprint", ("3", "4", "49"), drop)
    answers = {"": paths.all(matching, "answer", ("11", "41"), drop)}
    answers["8"] = paths.all(matching, "network_answer", ("11",), drop)
    matching.nothing_else()
    places = _places(table.table("map"), paths)
    frames, link = framing.framing_of(table.table("framing")), _link(table.table("link"))
    reversal = _reversal(table.table("reversal"))
    reconciles = any(rule.asked is Asked.RECONCILIATION for rule in rules)
    timing, settlement = (
        _timing(table.table("timing")),
        _settlement(table.table("settlement"), packager if reconciles else None),
    )
    response_codes = _codes(table.table("codes"), style, packager, places)
    fixed = table.table("constants")
    constants = _named(fixed, None)
    for path in constants:
        paths.one(fixed, path, path)
    names, show = _named(table.table("names"), None), _named(table.table("show"), HOW)
    unknown = table.text("on_unknown_advice", "refuse", ("refuse", "vend"))
    several = table.text("several_tokens", "refuse", ("refuse", "text"))
    if several == "text" and "text" not in places:
        table.fault("several_tokens", "refuse, since [map] has no text", several)
    about, echo = table.text("about"), table.numbers("echo")
    if packager is None or table.faults:
        return None
    for number in echo:
        if number not in packager.fields.codecs:
            table.fault("echo", "fields of this profile", f"field {number}")
    return Profile(
        name=name,
        about=about,
        style=style,
        packager=packager,
        mac=mac_rules,
        on_wrong_mac=on_wrong_mac,
        messages=(*rules, network_rule),
        network=network,
        on_unknown_advice=unknown,
        several_tokens=several,
        key=key,
        fingerprint=fingerprint,
        answers=answers,
        places=places,
        echo=echo,
        drop=drop,
        framing=frames,
        link=link,
        reversal=reversal,
        codes=response_codes,
        timing=timing,
        settlement=settlement,
        constants=constants,
        names=names,
        show=show,
    )


# --- paths ------------------------------------------------------------------------------------------------------------


class _Paths:
    """Checks paths such as "48.01" against the packager: the field must be there, and what is inside it described."""

    def __init__(self, packager: Packager | None) -> None:
        self._packager: Final = packager

    def one(self, table: Table, name: str, path: str, drop: frozenset[int] = frozenset()) -> bool:
        """Is this a path into a message of the profile? Notes a fault if not."""
        found = _PATH.fullmatch(path)
        if found is None or not field_number(found[1]):
            table.fault(name, 'a path such as "4", "48.01" or "4[4:16]"', describe(path))
            return False
        number = int(found[1])
        if number in drop:
            table.fault(name, "no card data", f"field {number}")
            return False
        if self._packager is None:
            return True  # its own faults are told
        if number not in self._packager.fields.codecs:
            table.fault(name, "a field of this profile", f"field {number}")
            return False
        structure = self._packager.fields.structures.get(number)
        if found[2] and structure is None:
            table.fault(name, f"a field with a tlv, positions or nested table, to look into at {path}", "a plain one")
            return False
        first = found[2][1:].split(".")[0]
        if first and isinstance(structure, (Tlv, Positions)) and not structure.knows(first):
            table.fault(name, f"a part that field {number} has", describe(first))
            return False
        return True

    def all(
        self, table: Table, name: str, default: tuple[str, ...], drop: frozenset[int] = frozenset()
    ) -> tuple[str, ...]:
        """A list of paths."""
        paths = table.texts(name, default)
        for path in paths:
            self.one(table, name, path, drop)
        if not paths:
            table.fault(name, "at least one path", "none")
        return paths


def _places(table: Table, paths: _Paths) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in table.names():
        path = table.text(name)
        if name not in PLACES:
            table.fault(name, f"one of {', '.join(PLACES)}", describe(name))
        elif path and paths.one(table, name, path):
            found[name] = path
    for name in _NEEDED:
        if name not in found and not table.faults:
            table.fault(name, "a path", "none")
    if not found.get("response", "39").isdecimal():
        table.fault("response", "a whole field", describe(found["response"]))
    return found


def _named(table: Table, choices: tuple[str, ...] | None) -> dict[str, str]:
    """A table of paths with a text each."""
    return {name: table.text(name, choices=choices or ()) for name in table.names()}


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages(table: Table, paths: _Paths) -> list[MessageRule]:
    rules: list[MessageRule] = []
    for name in table.names():
        if name not in set(Asked) - {Asked.NETWORK}:
            choices = ", ".join(sorted(set(Asked) - {Asked.NETWORK}))
            table.fault(name, f"one of {choices}", describe(name))
            continue
        rules.append(_rule(table.table(name), Asked(name), paths))
    if not any(rule.asked is Asked.PURCHASE for rule in rules) and not table.faults:
        table.fault(Asked.PURCHASE, "a table", "none")
    seen: dict[str, MessageRule] = {}
    for rule in rules:
        for mti in (*rule.mtis, *rule.repeats):
            other = seen.setdefault(mti, rule)
            # Two rules for one type must be told apart by a pattern in the first.
            if other is not rule and not other.match:
                table.fault(rule.asked, f"patterns that tell {mti} of {other.asked} apart", "none")
    return rules


def _rule(table: Table, asked: Asked, paths: _Paths) -> MessageRule:
    mtis, repeats = table.texts("mti"), table.texts("repeat")
    if not mtis:
        table.fault("mti", "at least one message type", "none")
    for name, listed in (("mti", mtis), ("repeat", repeats)):
        for mti in listed:
            if not _is_asking(mti):
                table.fault(name, "the type of a request or an advice, such as 0200", describe(mti))
    if set(mtis) & set(repeats):
        table.fault("repeat", "other types than those of mti", "the same")
    patterns: list[tuple[str, re.Pattern[str]]] = []
    match = table.table("match")
    for path in match.names():
        text = match.text(path)
        paths.one(match, path, path)
        try:
            patterns.append((path, re.compile(text, re.ASCII)))
        except re.error:
            match.fault(path, 'a pattern such as "38...."', describe(text))
    require = table.texts("require")
    for path in require:
        paths.one(table, "require", path)
    table.nothing_else()
    return MessageRule(asked, mtis, repeats, tuple(patterns), require)


def _is_asking(mti: str) -> bool:
    if not is_mti(mti) or is_answer(mti):
        return False
    try:
        answer_of(mti)
    except IsoError:
        return False
    return True


def _network(table: Table, paths: _Paths) -> tuple[NetworkRules, MessageRule]:
    mtis = table.texts("mti", ("0800",))
    for mti in mtis:
        if not _is_asking(mti) or mti[1] != "8":
            table.fault("mti", "the type of a network management request, such as 0800", describe(mti))
    repeats = table.texts("repeat")
    code = table.text("code", "70")
    paths.one(table, "code", code)
    require = table.texts("require", ("11", code))
    for path in require:
        paths.one(table, "require", path)
    given = table.table("codes")
    meant = {name: given.text(name, "echo", tuple(Network)) for name in given.names()}
    if "sign_on" not in meant.values() or "echo" not in meant.values():
        given.fault("", "codes for sign_on and echo", "others only")
    key = table.text("key")
    if key:
        paths.one(table, "key", key)
    handles = table.text("key_handle"), table.text("zmk_handle")
    if key and not all(handles):
        table.fault("key_handle", "names for key_handle and zmk_handle", "none")
    table.nothing_else()
    rules = NetworkRules(code, {name: Network(what) for name, what in meant.items()}, key, *handles)
    return rules, MessageRule(Asked.NETWORK, mtis, repeats, (), require)


# --- the rest ---------------------------------------------------------------------------------------------------------


def _link(table: Table) -> LinkRules:
    made = LinkRules(
        role=table.text("role", "listen", ("listen", "dial")),
        sign_on=table.text("sign_on", "link", ("link", "institution", "none")),
        signs_on=table.text("signs_on", "peer", ("peer", "us", "both")),
        partial_frame_timeout_s=table.number("partial_frame_timeout_s", 30, 1, 3_600),
        echo_every_s=table.number("echo_every_s", 60, 0, 3_600),
        echo_misses=table.number("echo_misses", 2, 1, 20),
        redial_min_s=table.number("redial_min_s", 1, 1, 3_600),
        redial_max_s=table.number("redial_max_s", 60, 1, 3_600),
        bad_messages_max=table.number("bad_messages_max", 5, 1, 1_000),
        answer_keep_alive=table.truth("answer_keep_alive", False),
    )
    if made.redial_min_s > made.redial_max_s:
        table.fault("redial_min_s", f"at most redial_max_s, {made.redial_max_s}", str(made.redial_min_s))
    table.nothing_else()
    return made


def _mac(table: Table, paths: _Paths) -> tuple[MacRules, str]:
    algorithm = table.text("alg", "x919", tuple(Algorithm))
    number = table.text("field", "auto", ("auto", "64", "128"))
    length = table.number("length", 8, 4, 8)
    covers = _covers(table, paths)
    skip = table.texts("skip_mti")
    for mti in skip:
        if not is_mti(mti):
            table.fault("skip_mti", "message types", describe(mti))
    for each in ("64", "128") if number == "auto" else (number,):
        paths.one(table, "field", each)
    made = MacRules(
        algorithm=Algorithm(algorithm),
        key=table.text("key_handle"),
        padding=table.number("pad", 1, 1, 2),
        field=mac.AUTO if number == "auto" else int(number),
        covers=covers,
        hex_text=table.truth("hex_text", False),
        length=length,
        fill=table.text("fill", "00", ("00", "20", "FF")),
        skip=frozenset(skip),
    )
    if not made.key:
        table.fault("key_handle", "the name of a key in the key module", "none")
    on_wrong = table.text("on_wrong", "answer", ("answer", "silence"))
    table.nothing_else()
    return made, on_wrong


def _covers(table: Table, paths: _Paths) -> tuple[int, ...]:
    value = table.value("covers")
    if value is None or value == "all":
        return ()
    if not isinstance(value, list) or not value or not all(type(item) is int and item >= 0 for item in value):
        table.fault("covers", '"all" or a list of field numbers, 0 for the message type', describe(value))
        return ()
    for number in value:
        if number:
            paths.one(table, "covers", str(number))
    return tuple(value)


def _reversal(table: Table) -> ReversalRules:
    rows = table.value("original")
    layout: list[tuple[str, int]] = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and type(row[1]) is int and row[1] > 0:
            layout.append((row[0], row[1]))
        else:
            table.fault("original", "[name, digits]", describe(row))
    if rows is not None and not layout:
        table.fault("original", "a list of [name, digits]", describe(rows))
    made = ReversalRules(
        policy=table.text("policy", "accept_and_seal", ("accept_and_seal", "refuse")),
        advice_refusal=table.text("advice_refusal", "ack_only", ("ack_only", "refuse")),
        original=tuple(layout) or LAYOUT_90,
        timeout_reasons=table.texts("timeout_reasons", ("68", "22")),
    )
    table.nothing_else()
    return made


def _timing(table: Table) -> Timing:
    made = Timing(
        bank_timeout_s=table.number("bank_timeout_s", 30, 2, 600),
        decide_by_percent=table.number("decide_by_percent", 60, 10, 95),
        clock_skew_max_s=table.number("clock_skew_max_s", 0, 0, _SECONDS_MAX),
        old_key_grace_s=table.number("old_key_grace_s", 120, 0, _SECONDS_MAX),
    )
    table.nothing_else()
    return made


def _settlement(table: Table, packager: Packager | None) -> Settlement:
    """`packager` if the bank reconciles: then the fields must be there and hold numbers."""
    defaults = Settlement()
    numbers = {
        name: table.number(name, getattr(defaults, name), 2, 192)
        for name in ("purchase_number", "purchase_amount", "reversal_number", "reversal_amount", "net_amount")
    }
    for name, number in numbers.items() if packager is not None else ():
        codec = packager.fields.codecs.get(number) if packager is not None else None
        wanted = Kind.XN if name == "net_amount" else Kind.N
        if codec is None or codec.form.kind is not wanted:
            table.fault(name, f"a field of kind {wanted}", f"field {number}")
    if len(set(numbers.values())) != len(numbers):
        table.fault("purchase_number", "another field for each count and sum", "one twice")
    made = Settlement(**numbers)
    table.nothing_else()
    return made


def _codes(table: Table, style: str, packager: Packager | None, places: Mapping[str, str]) -> dict[str, str]:
    found = codes.table(style)
    for name in table.names():
        if name not in found:
            table.fault(name, "the name of a reason or an outcome", describe(name))
            continue
        found[name] = table.text(name, found[name])
    codec = packager.fields.codecs.get(field_number(places.get("response", "39"))) if packager is not None else None
    if codec is not None:
        for name, code in found.items():
            if len(code) != codec.form.length or not codec.body.content.fits(code):
                table.fault(name, f"a code of the format {codec.form}", describe(code))
    return found
