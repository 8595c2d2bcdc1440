"""The `[packager]` table of a profile becomes a `Packager`, or faults with their paths. Pure.

The same table, in JSON, declares the packagers of vector files; those are read `lenient`: a, an, ns hold any printable
character and a limit may be more than its length prefix can say, as in the published examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from channels.iso8583 import bitmap, fields
from channels.iso8583.bitmap import Bitmap
from channels.iso8583.errors import IsoError
from channels.iso8583.fields import Encoding, FieldCodec
from channels.iso8583.fieldset import MTIS, FieldSet, NestedBitmap
from channels.iso8583.message import Message
from channels.iso8583.notation import Format, Kind, format_of
from channels.iso8583.packager import Packager
from channels.iso8583.reading import Table, field_number
from channels.iso8583.structures import REST, Layout, Pairs, PartFormat, Positions, Structure, Tlv, is_text
from config.values import describe

NO_FIELD: Final = "none"
"""Instead of a format: a field of the table extended that this profile does not have."""

_NEST_MAX: Final = 3


def packager_of(table: Table, *, lenient: bool = False) -> Packager | None:
    """The packager; None, and faults noted in the table, if it cannot be made."""
    before = len(table.faults)
    mti = table.text("mti", "ascii", MTIS)
    header = table.number("header", 0, 0, 64)
    strict = table.text("an", "printable" if lenient else "strict", ("strict", "printable")) == "strict"
    encoding = replace(_encoding(table, Encoding(strict=strict)), strict=strict)
    inside = _field_set(table, encoding, "", lenient, 0)
    table.nothing_else()
    if inside is None or len(table.faults) > before:
        return None
    packager = Packager(mti, header, inside, encoding)
    for number, codec in inside.codecs.items():
        _try(table, packager, number, codec)
    return packager if len(table.faults) == before else None


def _encoding(table: Table, outer: Encoding) -> Encoding:
    """How a table writes fields, where it says so differently from the one outside."""
    odd = dict(outer.odd)
    given = table.table("odd")
    for name in fields.PADDED:
        odd[name] = given.text(name, odd[name], fields.PADDINGS)
    given.nothing_else()
    return Encoding(
        len=table.text("len", outer.len, fields.LENGTHS),
        text=table.text("text", outer.text, fields.TEXTS),
        num=table.text("num", outer.num, fields.NUMBERS),
        z=table.text("z", outer.z, fields.NUMBERS),
        bin=table.text("bin", outer.bin, fields.BINARIES),
        odd=odd,
        strict=outer.strict,
    )


def _field_set(table: Table, encoding: Encoding, path: str, lenient: bool, depth: int) -> FieldSet | None:
    """The fields of a message, or of a nested bitmap."""
    kind = table.text("bitmap", "hex", bitmap.KINDS)
    formats = _formats(table)
    given = table.text("third", "", ("none", "behind", "in-65")) if not path else ""
    third = given or ("behind" if max(formats, default=0) > 128 else "none")
    highest = 128 if third == "none" else 192
    for number in formats:
        if number > highest or (third == "behind" and number == 65) or number == 129:
            table.fault(f"fields.{number}", "a number that a bit of the bitmaps stands for", f"field {number}")
    if third == "in-65" and str(formats.get(65)) != "b8":
        table.fault("fields.65", 'the format "b8", for the third bitmap', str(formats.get(65, "no such field")))

    encodings = _encodings(table, encoding, formats)
    codecs = {
        number: FieldCodec(f"{path}.{number}" if path else f"field {number}", form, encodings[number])
        for number, form in formats.items()
    }
    if not lenient:
        for number, codec in codecs.items():
            if codec.longest < codec.form.length:
                expected = f"at most {codec.longest}, which is what its length prefix can say"
                table.fault(f"fields.{number}", expected, str(codec.form.length))
    structures = _structures(table, codecs, encoding, lenient, depth)
    return FieldSet(Bitmap(kind, third=third == "behind", path=path), codecs, structures, path, third == "in-65")


def _formats(table: Table) -> dict[int, Format]:
    """The fields by number, rising."""
    given = table.table("fields")
    found: dict[int, Format] = {}
    for name in given.names():
        value = given.value(name)
        number = field_number(name)
        if not number:
            given.fault(name, "a field number from 2 to 192", describe(name))
        elif not isinstance(value, str):
            given.fault(name, "text in quotes", describe(value))
        elif value != NO_FIELD:
            try:
                found[number] = format_of(value)
            except ValueError as error:
                given.fault(name, str(error), describe(value))
    if not found and not table.faults:
        table.fault("fields", "at least one field", "none")
    return dict(sorted(found.items()))


def _encodings(table: Table, encoding: Encoding, formats: Mapping[int, Format]) -> dict[int, Encoding]:
    """How each field is written."""
    encodings = dict.fromkeys(formats, encoding)
    over = table.table("over")
    for name in over.names():
        inner = over.table(name)
        if field_number(name) not in formats:
            over.fault(name, "a field of this profile", describe(name))
            continue
        encodings[field_number(name)] = _encoding(inner, encoding)
        inner.nothing_else()
    return encodings


# --- structures -------------------------------------------------------------------------------------------------------


def _structures(
    table: Table, codecs: Mapping[int, FieldCodec], encoding: Encoding, lenient: bool, depth: int
) -> dict[int, Structure]:
    found: dict[int, Structure] = {}

    def codec_of(given: Table, name: str) -> FieldCodec | None:
        """The field that a structure is for, which must be there, and have one structure only."""
        codec = codecs.get(field_number(name))
        if codec is None:
            given.fault(name, "a field of this profile", describe(name))
        elif field_number(name) in found:
            given.fault(name, "one structure for a field", "another one")
            return None
        return codec

    for what in ("tlv", "positions"):
        given = table.table(what)
        for name in given.names():
            codec = codec_of(given, name)
            if codec is None:
                continue
            if not is_text(codec.form):
                given.fault(name, "a field of text", f"the format {codec.form}")
                continue
            made = _tlv(given, name, codec) if what == "tlv" else _positions(given, name, codec)
            if made is not None:
                found[field_number(name)] = made
    for name in table.texts("pairs"):
        codec = codec_of(table, name)
        if codec is not None and is_text(codec.form):
            found[field_number(name)] = Pairs(codec.path)
        elif codec is not None:
            table.fault("pairs", "fields of text", f"field {name} of format {codec.form}")
    nested = table.table("nested")
    for name in nested.names():
        codec = codec_of(nested, name)
        if codec is None:
            continue
        if depth >= _NEST_MAX or codec.form.kind in (Kind.N, Kind.XN, Kind.Z):
            nested.fault(name, f"a field of bytes or text, nested at most {_NEST_MAX} deep", f"format {codec.form}")
            continue
        inner = nested.table(name)
        inside = _field_set(inner, _encoding(inner, encoding), codec.path, lenient, depth + 1)
        inner.nothing_else()
        if inside is not None:
            found[field_number(name)] = NestedBitmap(codec, inside)
    return found


def _part(table: Table, name: str, text: str, strict: bool) -> PartFormat | None:
    """The format of a part, several with | between; None, and a fault, for something else."""
    try:
        return PartFormat.of([format_of(choice) for choice in text.split("|")], strict)
    except ValueError as error:
        table.fault(name, str(error), describe(text))
        return None


def _tlv(table: Table, name: str, codec: FieldCodec) -> Structure:
    given = table.table(name)
    tag, length = given.number("tag", 2, 1, 8), given.number("len", 3, 1, 6)
    tags: dict[str, PartFormat | None] = {}
    named = given.table("tags")
    for key in named.names():
        text = named.text(key)
        if len(key) != tag or not (key.isascii() and key.isalnum()):
            named.fault(key, f"a tag of {tag} letters and digits", describe(key))
        tags[key] = _part(named, key, text, codec.encoding.strict) if text else None
    others = given.truth("others", True)
    given.nothing_else()
    return Tlv(codec.path, tag, length, tags, others)


def _positions(table: Table, name: str, codec: FieldCodec) -> Structure | None:
    before = len(table.faults)
    layouts: list[Layout] = []
    for given in table.tables(name):
        pattern = _pattern(given, "mti", "....")
        rows = given.value("parts")
        parts: list[tuple[str, PartFormat | None]] = []
        if not isinstance(rows, list):
            given.fault("parts", "a list of [name, format]", describe(rows))
            rows = []
        for index, row in enumerate(rows, start=1):
            where = f"parts[{index}]"
            if not isinstance(row, list) or len(row) != 2 or not all(isinstance(item, str) for item in row):
                given.fault(where, "[name, format]", describe(row))
                continue
            if row[1] == REST:
                if index != len(rows):
                    given.fault(where, '"rest" at the end only', "more behind it")
                parts.append((row[0], None))
            elif (part := _part(given, where, row[1], codec.encoding.strict)) is not None:
                if len(part.choices) > 1:
                    given.fault(where, "one format", "several")
                parts.append((row[0], part))
        if len({part for part, _ in parts}) != len(parts):
            given.fault("parts", "each name once", "a name twice")
        given.nothing_else()
        layouts.append(Layout(pattern, tuple(parts)))
    return Positions(codec.path, layouts) if len(table.faults) == before and layouts else None


def _pattern(table: Table, name: str, default: str) -> re.Pattern[str]:
    """A pattern of a whole text, such as "21.0"."""
    text = table.text(name, default)
    try:
        return re.compile(text, re.ASCII)
    except re.error:
        table.fault(name, 'a pattern such as "21.0"', describe(text))
        return re.compile(default)


# --- a look at what was made ------------------------------------------------------------------------------------------


def _try(table: Table, packager: Packager, number: int, codec: FieldCodec) -> None:
    """Write and read a field of full length by itself: what contradicts itself in a profile shows here."""
    if number in packager.fields.structures or number > 128 or (packager.fields.third_in_65 and number == 65):
        return
    sample = {Kind.B: "A5", Kind.XN: "C"}.get(codec.form.kind, "")
    filler = "0" if codec.form.kind in (Kind.N, Kind.XN, Kind.Z) else "A" if codec.form.kind is not Kind.NS else "-"
    if codec.form.kind is Kind.S:
        filler = "-"
    value = sample * codec.longest if codec.form.kind is Kind.B else sample + filler * codec.longest
    message = Message("0800", {number: value}, bytes(packager.header))
    try:
        if packager.decode(packager.encode(message)) == message:
            return
    except IsoError as error:
        table.fault(f"fields.{number}", "a field that can be written and read again", str(error))
        return
    table.fault(f"fields.{number}", "a field that is read as it was written", "another value")


def packager_from(members: Mapping[str, Any], *, lenient: bool) -> Packager:
    """The packager of a table by itself; raises ValueError with every fault."""
    table = Table(members, "packager", [])
    packager = packager_of(table, lenient=lenient)
    if packager is None:
        raise ValueError("; ".join(map(str, table.faults)))
    return packager
