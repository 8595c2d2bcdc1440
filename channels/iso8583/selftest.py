"""The known-answer test: each record of a vector file tried, and compared with what it says. Pure.

For whoever certifies a link, and for our own tests: there is one implementation of "try this record", this one, over
the code that serves banks. A record is one JSON object a line. `spec` records declare packagers in the notation of
profile files, wherever in the file they stand; the shipped profiles are known too. The others, by their `kind`:

| kind | members |
|---|---|
| vector | `spec`, `hex`, `mti`, `fields`, perhaps `header`; `roundtrip` true: the fields give the same bytes again |
| reject | `spec`, `hex`: any refusal by name counts; `class` and `field` are hints |
| reject_prefixes | `spec`, `hex`: every proper prefix is refused |
| frame | `framing`, `stream`, `messages`, `rest`: whole and byte by byte |
| frame_reject | `framing`, `stream` |
| mac | `alg`, `key`, `data`, `mac`, perhaps `pad` |
| mac_message | `spec`, `alg`, `key`, `hex`, `mac_field`, perhaps `valid` false, `pad` |
| kcv | `alg`, `key`, `kcv` |
| key_under_zmk | `zmk`, `cryptogram` (or `encrypted`, `wrapped`), `key`, perhaps `scheme`, `kcv` |

A finding shows values as `describe.py` does: test data may hold real card numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from channels.iso8583 import framing, mac
from channels.iso8583.describe import masked, shown
from channels.iso8583.errors import IsoError, MacError
from channels.iso8583.framing import Framer, Framing
from channels.iso8583.keymodule import Use, WrappedKey
from channels.iso8583.mac import Algorithm, MacRules
from channels.iso8583.message import Message, Parts, Value
from channels.iso8583.notation import Kind
from channels.iso8583.packager import Packager
from channels.iso8583.packagerfile import packager_of
from channels.iso8583.reading import Fault, Table, field_number
from channels.iso8583.softwarekeys import KeyRecord, Secret, SoftwareKeys, kcv_of, unwrapped, wrapped_key_of
from sts.selftest import Finding, Result
from sts.vectorrows import Differs, Inputs, Unreadable, named, parsed

Packagers = Mapping[str, Packager]


def check_lines(lines: Iterable[bytes], known: Packagers) -> Iterator[Finding]:
    """A finding for each record, in order; `known` are packagers by name beside those that the file declares."""
    rows: list[tuple[int, object]] = []
    packagers = dict(known)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parsed(line)
        except Unreadable as fault:
            yield Finding(Result.UNREADABLE, line=number, why=fault.why)
            continue
        if isinstance(row, Mapping) and row.get("kind") == "spec":
            fault_in = _declare(row, packagers)
            if fault_in is not None:
                yield Finding(Result.UNREADABLE, line=number, why=fault_in)
        elif not (isinstance(row, Mapping) and row.get("kind") == "about"):
            rows.append((number, row))
    for number, row in rows:
        yield check_row(row, packagers, number)


def _declare(row: Mapping[str, Any], packagers: dict[str, Packager]) -> str | None:
    """Add the packager of a record; what is wrong with it, if anything is."""
    name = row.get("name")
    if not isinstance(name, str):
        return "name: a text expected"
    faults: list[Fault] = []
    members = {key: value for key, value in row.items() if key not in ("kind", "name", "source", "note")}
    packager = packager_of(Table(members, f"spec {named(name)}", faults), lenient=True)
    if packager is None:
        return "; ".join(map(str, faults[:5]))
    packagers[name] = packager
    return None


def check_row(row: object, packagers: Packagers, line: int | None = None) -> Finding:
    """The finding for one record as JSON gives it."""
    identity = row.get("id") if isinstance(row, Mapping) else None
    identity = identity if isinstance(identity, str) else None
    try:
        if not isinstance(row, dict):
            raise Unreadable("a JSON object expected")
        if identity is None:
            raise Unreadable("id: a text expected")
        kind = row.get("kind")
        if not isinstance(kind, str) or kind not in _KINDS:
            raise Unreadable(f"kind: {named(kind)} is not known" if isinstance(kind, str) else "kind: a text expected")
        _KINDS[kind](_Row(row, packagers))
    except Unreadable as fault:
        return Finding(Result.UNREADABLE, identity, line, why=fault.why)
    except Differs as difference:
        return Finding(
            Result.DIFFERS, identity, line, difference.field, difference.expected, difference.got, why=difference.why
        )
    except IsoError as refusal:
        return Finding(Result.DIFFERS, identity, line, "refused", None, refusal.fault.value, why=str(refusal))
    return Finding(Result.PASSED, identity, line)


class _Row:
    """A record by the names and types of its members."""

    def __init__(self, row: dict[str, Any], packagers: Packagers) -> None:
        self.row: Final = row
        self.inputs: Final = Inputs(row, "record")
        self._packagers: Final = packagers

    @property
    def packager(self) -> Packager:
        """The packager that the record names."""
        name = self.inputs.text("spec")
        found = self._packagers.get(name)
        if found is None:
            raise Unreadable(f"spec: {named(name)} is not declared")
        return found

    def algorithm(self) -> tuple[Algorithm, int | None]:
        """The algorithm, and to how many bytes it is cut ("aes-cmac8")."""
        text = self.inputs.text("alg").lower().replace("_", "-").replace("3des", "tdes")
        name = text.rstrip("0123456789") if text not in set(Algorithm) else text
        cut = text[len(name) :]
        if name not in set(Algorithm):
            raise Unreadable(f"alg: {named(text)} is not known")
        return Algorithm(name), int(cut) if cut else None

    def padding(self) -> int:
        """ISO 9797-1 padding method 1 or 2."""
        padding = self.inputs.number("pad", 1)
        if padding not in (1, 2):
            raise Unreadable("pad: 1 or 2 expected")
        return padding


# --- messages ---------------------------------------------------------------------------------------------------------


def _vector(row: _Row) -> None:
    packager, data, mti = row.packager, row.inputs.octets("hex"), row.inputs.text("mti")
    fields = row.row.get("fields")
    if not isinstance(fields, dict):
        raise Unreadable("fields: an object expected")
    roundtrip = row.inputs.truth("roundtrip") if row.inputs.has("roundtrip") else True
    message = packager.decode(data)
    if message.mti != mti:
        raise Differs("mti", mti, message.mti)
    if row.inputs.has("header") and message.header.hex().upper() != row.inputs.text("header").upper():
        raise Differs("header", row.inputs.text("header"), message.header.hex().upper())
    expected = {_number(name): value for name, value in fields.items() if "." not in name}
    for name, value in fields.items():
        if "." in name:  # "127.2": a part of its own
            got = message.get(name) if field_number(name.split(".")[0]) else None
            if got != value:
                raise Differs(f"fields.{named(name)}", masked(str(value)), None if got is None else masked(got))
            expected.setdefault(_number(name.split(".")[0]), None)
    for number in sorted(expected.keys() | set(message.numbers)):
        _compare_field(packager, message, number, expected)
    if not roundtrip:
        return
    again = packager.encode(message)
    if again != data:
        raise Differs("hex", f"{len(data)} bytes", f"{len(again)} bytes", "what was read is written differently")
    made = packager.encode(_made(message, expected))
    if made != data:
        raise Differs("hex", f"{len(data)} bytes", f"{len(made)} bytes", "the fields give other bytes")


def _number(name: str) -> int:
    number = field_number(name)
    if not number:
        raise Unreadable(f"fields.{named(name)}: a field number expected")
    return number


def _compare_field(packager: Packager, message: Message, number: int, expected: Mapping[int, object]) -> None:
    if number not in expected:
        raise Differs(f"fields.{number}", None, "(a value)", "a field that the record does not have")
    wanted = expected[number]
    if number not in message:
        raise Differs(f"fields.{number}", "(a value)", None, "a field that the message does not have")
    value = message[number]
    if wanted is None or _same(wanted, value):
        return
    text = packager.text_of(message, number)
    is_binary = packager.fields.codecs[number].form.kind is Kind.B
    if isinstance(wanted, str):
        if text == wanted or (is_binary and text.upper() == wanted.upper()):
            return
        raise Differs(f"fields.{number}", shown(number, wanted), shown(number, text))
    raise Differs(f"fields.{number}", "(other parts)", "(these parts)")


def _same(wanted: object, value: Value) -> bool:
    if isinstance(wanted, dict) and isinstance(value, Parts):
        tags = {tag for tag, _ in value}
        return tags == set(wanted) and all(_same(part, value.get(tag) or "") for tag, part in wanted.items())
    return isinstance(value, str) and wanted == value


def _made(message: Message, expected: Mapping[int, object]) -> Message:
    """The message that the record's own fields make; parts are as they were read."""
    values = {
        number: wanted if isinstance(wanted, str) and isinstance(message[number], str) else message[number]
        for number, wanted in expected.items()
    }
    return Message(message.mti, values, message.header, message.form)


def _reject(row: _Row) -> None:
    packager, data = row.packager, row.inputs.octets("hex")
    try:
        packager.decode(data)
    except IsoError:
        return
    raise Differs("refused", True, False, "accepted")


def _reject_prefixes(row: _Row) -> None:
    packager, data = row.packager, row.inputs.octets("hex")
    packager.decode(data)
    for length in range(len(data)):
        try:
            packager.decode(data[:length])
        except IsoError:
            continue
        raise Differs("refused", True, False, f"the first {length} bytes are accepted")


# --- frames -----------------------------------------------------------------------------------------------------------


def _framing(row: _Row) -> Framing:
    table = Table(row.row.get("framing"), "framing", [])
    made = framing.framing_of(table)
    if table.faults:
        raise Unreadable("; ".join(map(str, table.faults)))
    return made


def _pieces(data: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A stream whole, and byte by byte."""
    yield "whole", [data]
    yield "byte by byte", [data[at : at + 1] for at in range(len(data))]


def _frame(row: _Row) -> None:
    rules, stream = _framing(row), row.inputs.octets("stream")
    messages = row.row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(item, str) for item in messages):
        raise Unreadable("messages: an array of hex digits expected")
    for how, pieces in _pieces(stream):
        framer = Framer(rules)
        frames = [frame for piece in pieces for frame in framer.feed(piece)]
        if framer.broken is not None:
            raise framer.broken
        bodies = [frame.body.hex().upper() for frame in frames if not frame.is_keep_alive]
        if bodies != [item.upper() for item in messages]:
            raise Differs("messages", f"{len(messages)} messages", f"{len(bodies)} messages", how)
        rest = framer.rest.hex().upper()
        if row.inputs.has("rest") and rest != row.inputs.text("rest").upper():
            raise Differs("rest", f"{len(row.inputs.text('rest')) // 2} bytes", f"{len(framer.rest)} bytes", how)
        written = b"".join(framing.framed(rules, frame.body, frame.tpdu) for frame in frames) + framer.rest
        if not rules.inclusive and written != stream:
            raise Differs("stream", f"{len(stream)} bytes", f"{len(written)} bytes", "the frames are written otherwise")


def _frame_reject(row: _Row) -> None:
    rules, stream = _framing(row), row.inputs.octets("stream")
    for how, pieces in _pieces(stream):
        framer = Framer(rules)
        for piece in pieces:
            framer.feed(piece)
        if framer.broken is None:
            raise Differs("refused", True, False, how)


# --- keys -------------------------------------------------------------------------------------------------------------


def _mac(row: _Row) -> None:
    algorithm, cut = row.algorithm()
    wanted = row.inputs.octets("mac")
    made = mac.mac_of(algorithm, row.inputs.octets("key"), row.inputs.octets("data"), row.padding())
    # A published MAC is often the first half.
    if made[: cut or len(wanted)] != wanted or len(wanted) < 4:
        raise Differs("mac", wanted.hex().upper(), made.hex().upper())


def _mac_message(row: _Row) -> None:
    packager, data, key = row.packager, row.inputs.octets("hex"), row.inputs.octets("key")
    algorithm, _ = row.algorithm()
    number = row.inputs.text("mac_field") if row.inputs.has("mac_field") else "auto"
    if number not in ("auto", "64", "128"):
        raise Unreadable('mac_field: "64" or "128" expected')
    valid = row.inputs.truth("valid") if row.inputs.has("valid") else True
    covers = row.row.get("covers")
    listed = tuple(covers) if isinstance(covers, list) and all(type(item) is int for item in covers) else ()
    rules = MacRules(algorithm, "key", row.padding(), covers=listed)
    # The field as the rule finds it must be the one of the record.
    message = packager.decode(data)
    if number != "auto" and rules.field_of(message) != int(number):
        raise Differs("mac_field", number, str(rules.field_of(message)))
    keys = SoftwareKeys([KeyRecord("key", Use.ZAK, Secret("aes" if algorithm is Algorithm.AES_CMAC else "des", key))])

    def compute(covered: bytes) -> bytes:
        return keys.mac("key", algorithm, rules.padding, covered)

    try:
        mac.check(packager, rules, message, compute)
    except MacError as error:
        if valid:
            raise Differs("mac", True, False, str(error)) from None
        return
    if not valid:
        raise Differs("valid", False, True, "the MAC is right")
    if packager.encode(mac.authenticated(packager, rules, message, compute)) != data:
        raise Differs("hex", f"{len(data)} bytes", "other bytes", "authenticated anew, the message is another")


def _kcv(row: _Row) -> None:
    cipher = "aes" if row.inputs.text("alg").lower().startswith("aes") else "des"
    wanted, key = row.inputs.text("kcv").upper(), row.inputs.octets("key")
    if len(key) not in ((16, 24, 32) if cipher == "aes" else (8, 16, 24)):
        raise Unreadable("key: a key of the algorithm's length expected")
    made = kcv_of(cipher, key)
    if len(wanted) < 4 or not made.startswith(wanted[: len(made)]):
        raise Differs("kcv", wanted, made)


_CRYPTOGRAM: Final = ("cryptogram", "encrypted", "encrypted_key", "wrapped", "under_zmk", "key_under_zmk", "ciphertext")


def _key_under_zmk(row: _Row) -> None:
    inputs = row.inputs
    zmk, key = inputs.octets("zmk"), inputs.octets("clear" if inputs.has("clear") else "key")
    name = next((name for name in _CRYPTOGRAM if inputs.has(name)), None)
    if name is None:
        raise Unreadable(f"one of {', '.join(_CRYPTOGRAM)} expected")
    kcv = inputs.text("kcv") if inputs.has("kcv") else ""
    text = inputs.text(name)
    wrapped = wrapped_key_of(text, 0 if len(text.lstrip("XUTYZ")) == len(key) * 2 else max(len(kcv), 6))
    if inputs.has("scheme"):
        wrapped = WrappedKey(inputs.text("scheme").upper(), wrapped.cryptogram, wrapped.kcv)
    if len(zmk) not in (8, 16, 24):
        raise Unreadable("zmk: a DES key of 8, 16 or 24 bytes expected")
    made = unwrapped(Secret("des", zmk), wrapped)
    if made != key:
        raise Differs("key", kcv_of("des", key), kcv_of("des", made), "another key; its check value is shown")
    if (kcv or wrapped.kcv) and not kcv_of("des", made).startswith((kcv or wrapped.kcv).upper()[:6]):
        raise Differs("kcv", kcv or wrapped.kcv, kcv_of("des", made))


_KINDS: Final[Mapping[str, Callable[[_Row], None]]] = {
    "vector": _vector,
    "reject": _reject,
    "reject_prefixes": _reject_prefixes,
    "frame": _frame,
    "frame_reject": _frame_reject,
    "mac": _mac,
    "mac_message": _mac_message,
    "kcv": _kcv,
    "key_under_zmk": _key_under_zmk,
}
KINDS: Final = tuple(_KINDS)
"""Every kind of record that is tried."""
