"""pyiso8583 reads and writes the vectors as we do.

It cannot describe signed BCD amounts, structures, third bitmaps and bitmaps of 128 bits: those have no second opinion.
"""

from __future__ import annotations

import iso8583
import pytest

from channels.iso8583.notation import Kind
from channels.iso8583.packager import Packager
from tests.channels.iso8583.records import SPECS, Row, packager, rows_of


def _field(chosen: Packager, number: int) -> Row | None:
    """A field as pyiso8583 wants it; None if it cannot."""
    codec = chosen.fields.codecs[number]
    form, encoding = codec.form, codec.encoding
    if form.kind is Kind.B:
        data = "b" if encoding.bin == "raw" else "ascii" if encoding.bin == "hex" else "cp037"
        # It counts characters of what it is told is text.
        size, counts = (form.length, "bytes") if data == "b" else (form.length * 2, "chars")
    elif encoding.num == "bcd" and form.kind is Kind.XN:
        return None
    elif (form.kind is Kind.N and encoding.num == "bcd") or (form.kind is Kind.Z and encoding.z == "bcd"):
        data, size, counts = "b", form.length, "nibbles"
    else:
        data, size, counts = encoding.codec, form.characters, "chars"
    spec: Row = {"data_enc": data, "len_enc": "ascii", "len_type": 0, "max_len": size, "desc": str(number)}
    spec["len_count"] = "nibbles" if counts == "nibbles" else "bytes"
    if codec.prefix is not None:
        spec["len_enc"] = {"ascii": "ascii", "ebcdic": "cp037", "bcd": "bcd", "bin": "b"}[encoding.len]
        spec["len_type"] = codec.prefix.size
    if counts == "nibbles":
        which = "z" if form.kind is Kind.Z else "n" if form.is_fixed else "nvar"
        padding = encoding.odd[which]
        spec["left_pad" if padding.startswith("left") else "right_pad"] = padding[-1]
    return spec


def _spec(name: str) -> Row | None:
    chosen = packager(name)
    bitmap = chosen.fields.bitmap
    if bitmap.is_fixed or bitmap.third:
        return None
    spec: Row = {
        "h": {"data_enc": "b", "len_enc": "b", "len_type": 0, "max_len": chosen.header},
        "t": {"data_enc": {"ascii": "ascii", "bcd": "b", "ebcdic": "cp037"}[chosen.mti], "max_len": 4},
        "p": {"data_enc": bitmap.codec or "b", "max_len": 8 if bitmap.codec is None else 16},
        "1": {"data_enc": bitmap.codec or "b", "max_len": 8 if bitmap.codec is None else 16},
    }
    for each in ("t", "p", "1"):
        spec[each] |= {"len_enc": "ascii", "len_type": 0, "desc": each}
    spec["h"]["desc"] = "h"
    for number in chosen.fields.codecs:
        if (made := _field(chosen, number)) is not None:
            spec[str(number)] = made
    return spec


# Fields that pyiso8583 cannot describe, by packager: then no opinion.
SPECIFIED = {name: spec for name in SPECS if (spec := _spec(name)) is not None}
COMPARABLE = [
    row
    for row in rows_of("vector")
    if row["spec"] in SPECIFIED and all(name in SPECIFIED[row["spec"]] for name in row["fields"])
]


def test_most_vectors_can_be_compared() -> None:
    assert len(COMPARABLE) > 95


@pytest.mark.parametrize("row", COMPARABLE, ids=lambda row: row["id"])
def test_second_program_agrees(row: Row) -> None:
    spec, data, chosen = SPECIFIED[row["spec"]], bytes.fromhex(row["hex"]), packager(row["spec"])
    theirs, _ = iso8583.decode(data, spec)
    ours = chosen.decode(data)
    assert theirs["t"] == ours.mti
    # A separator in packed track data is D to it; in a bitmap of its own it keeps field 1.
    read = {name: value for name, value in theirs.items() if name.isdecimal() and name != "1"}
    assert read == {
        str(number): str(value).replace("=", "D") if _is_packed_track(chosen, number) else value
        for number, value in ours.items()
    }
    written, _ = iso8583.encode(dict(theirs), spec)
    assert bytes(written) == data == chosen.encode(ours)


def _is_packed_track(chosen: Packager, number: int) -> bool:
    codec = chosen.fields.codecs[number]
    return codec.form.kind is Kind.Z and codec.encoding.z == "bcd"
