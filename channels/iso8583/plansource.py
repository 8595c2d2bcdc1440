"""The source of plans: what `plans.py` compiles for one bitmap. Pure.

A plan looks at the whole message in up to three ways: `t`, its characters; `h`, its half bytes as hexadecimal digits;
and `data` itself. Neighbours of fixed length and equal content are looked at together. What has no short form here goes
through the field's own codec. In doubt a plan gives None.

The source holds numbers and the names below, never a text of a profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from channels.iso8583.errors import IsoError
from channels.iso8583.fields import FieldCodec
from channels.iso8583.fieldset import Shape
from channels.iso8583.message import Message, Parts
from channels.iso8583.notation import Kind, is_hex

Source = tuple[str, dict[str, Any]]

_EBCDIC: Final = ("cp037", "cp500", "cp1140")


class _View:
    """How a packager's characters are seen: one decoding of the whole message."""

    def __init__(self, shape: Shape) -> None:
        self.codec: Final = shape.encoding.codec
        bitmap = shape.fields.bitmap
        inner = shape.fields.codecs.values()
        # All is text: then decoding itself refuses what is not ASCII.
        self.is_plain: Final = (
            self.codec == "ascii"
            and shape.mti == "ascii"
            and shape.header == 0
            and bitmap.codec == "ascii"
            and all(_is_plain(codec) for codec in inner)
        )
        self.decoding: Final = "latin-1" if self.codec == "ascii" and not self.is_plain else self.codec
        self.is_ebcdic: Final = self.codec in _EBCDIC

    def shows(self, codec: str) -> bool:
        """Are the characters of this codec among those of the view? Digits and letters are equal in all EBCDIC."""
        return codec == self.codec

    def shows_digits(self, encoding: str) -> bool:
        """Can digits written in "ascii" or "ebcdic" be read in the view?"""
        return self.is_ebcdic if encoding == "ebcdic" else encoding == "ascii" and not self.is_ebcdic


def _is_plain(codec: FieldCodec) -> bool:
    """Is a field ASCII text from end to end?"""
    encoding, kind = codec.encoding, codec.form.kind
    if codec.prefix is not None and encoding.len != "ascii":
        return False
    if kind is Kind.B:
        return encoding.bin == "hex"
    return _way(codec) == "text" and encoding.codec == "ascii"


def _way(codec: FieldCodec) -> str:
    """Text, bcd, raw or hex: how the body is written."""
    kind, encoding = codec.form.kind, codec.encoding
    if kind is Kind.B:
        return "raw" if encoding.bin == "raw" else "hex"
    if kind is Kind.Z:
        return encoding.z
    return encoding.num if kind in (Kind.N, Kind.XN) else "text"


class _Writer:
    """Lines of source, and the objects they name."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.lines: Final[list[str]] = []
        self.names: Final = names

    def line(self, text: str) -> None:
        self.lines.append(f"        {text}")

    def name(self, prefix: str, value: Any) -> str:
        """A name for an object; the same object again has the same name."""
        for name, known in self.names.items():
            if known is value or (isinstance(known, dict | list) and known == value):
                return name
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def source(self, head: str, caught: str) -> Source:
        body = "\n".join(self.lines)
        return f"def plan({head}):\n    try:\n{body}\n    except ({caught}):\n        return None\n", self.names


class _Place:
    """A place in the bytes: a variable, where something of variable length came before, and a distance."""

    def __init__(self, base: str, distance: int) -> None:
        self.base: Final = base
        self.distance: Final = distance

    def plus(self, distance: int) -> _Place:
        return _Place(self.base, self.distance + distance)

    def __str__(self) -> str:
        return f"{self.base}+{self.distance}" if self.base and self.distance else self.base or str(self.distance)

    def half(self, more: int = 0) -> str:
        """The same place counted in half bytes."""
        distance = 2 * self.distance + more
        return f"2*{self.base}+{distance}" if self.base else str(distance)


def decoder_source(shape: Shape, numbers: Iterable[int]) -> Source:
    """A function of the bytes that gives a Message or None."""
    view = _View(shape)
    writer = _Writer({"Message": Message, "IsoError": IsoError})
    return _Decoder(shape, view, writer).source(sorted(numbers))


class _Decoder:
    def __init__(self, shape: Shape, view: _View, writer: _Writer) -> None:
        self._shape: Final = shape
        self._view: Final = view
        self._writer: Final = writer
        self._line: Final = writer.line
        # Neighbours whose content is looked at together: (what, from, to).
        self._run: tuple[str, _Place, _Place] | None = None

    def source(self, numbers: Sequence[int]) -> Source:
        shape, bitmap = self._shape, self._shape.fields.bitmap
        at = shape.header
        self._line(f't = data.decode("{self._view.decoding}")')
        self._line("h = data.hex()")
        if shape.mti == "bcd":
            self._line(f"m = h[{2 * at}:{2 * at + 4}]")
        elif self._view.shows_digits(shape.mti):
            self._line(f"m = t[{at}:{at + 4}]")
        else:
            self._line(f'm = data[{at}:{at + 4}].decode("{"cp037" if shape.mti == "ebcdic" else "latin-1"}")')
        self._line("if not m.isdecimal(): return None")
        blocks = 2 if bitmap.is_fixed or (numbers and numbers[-1] > 64) else 1
        place = _Place("", at + shape.mti_bytes + bitmap.block_bytes * blocks)
        for number in numbers:
            place = self._field(number, shape.fields.codecs[number], place)
            structure = shape.fields.structures.get(number)
            if structure is not None:
                self._end_run()
                self._line(f"v{number} = {self._writer.name('s', structure.parse)}(v{number}, m)")
        self._end_run()
        self._line(f"if {place} != len(data): return None")
        values = ", ".join(f"{number}: v{number}" for number in numbers)
        head = f", data[:{shape.header}]" if shape.header else ""
        self._line(f"return Message(m, {{{values}}}{head})")
        lines = self._writer.lines
        for view, letter in ((0, "t"), (1, "h")):
            # What nobody looks at need not be made.
            if not any(f"{letter}[" in line for line in lines):
                lines[view] = "        pass"
        return self._writer.source("data", "IsoError, UnicodeError, ValueError")

    # --- content, of neighbours together ------------------------------------------------------------------------------

    def _look(self, what: str, begin: _Place, end: _Place) -> None:
        run = self._run
        if run is not None and run[0] == what and str(run[2]) == str(begin):
            self._run = (what, run[1], end)
            return
        self._end_run()
        self._run = (what, begin, end)

    def _end_run(self) -> None:
        if self._run is not None:
            what, begin, end = self._run
            self._run = None
            self._check(what, f"t[{begin}:{end}]")

    def _check(self, what: str, text: str) -> None:
        ascii_too = "" if self._view.is_plain else f" or not {text}.isascii()"
        match what:
            case "digits":
                self._line(f"if not {text}.isdecimal(): return None")
            case "printable":
                must = ascii_too if self._view.codec == "ascii" else ""
                self._line(f"if not {text}.isprintable(){must}: return None")
            case "alnum":
                # Blanks fill fields; only where there are any are they taken out first.
                self._line(f'if not ({text}.isalnum() or {text}.replace(" ", "").isalnum()){ascii_too}: return None')

    # --- one field ----------------------------------------------------------------------------------------------------

    def _field(self, number: int, codec: FieldCodec, place: _Place) -> _Place:
        way, form, kind = _way(codec), codec.form, codec.form.kind
        shown = self._view.shows(codec.encoding.codec)
        if way == "hex":
            shown = self._view.shows_digits("ascii" if codec.encoding.bin == "hex" else "ebcdic")
        if (way in ("text", "hex") or kind is Kind.XN) and not shown:
            return self._whole(number, codec, place)
        length: int | str = form.length
        if codec.prefix is not None:
            if (place_after := self._prefix(number, codec, place)) is None:
                return self._whole(number, codec, place)
            place, length = place_after, f"n{number}"
        match way:
            case "text":
                return self._text(number, codec, place, length)
            case "raw" | "hex":
                return self._bytes(number, codec, place, length, way)
        return self._bcd(number, codec, place, length)

    def _whole(self, number: int, codec: FieldCodec, place: _Place) -> _Place:
        """A field by its own codec."""
        self._end_run()
        self._line(f"v{number}, p{number} = {self._writer.name('r', codec.read)}(data, {place})")
        return _Place(f"p{number}", 0)

    def _prefix(self, number: int, codec: FieldCodec, place: _Place) -> _Place | None:
        """The length as `n<number>`; None if the view does not show it."""
        prefix = codec.prefix
        assert prefix is not None, "asked for a field of variable length"
        size, longest = prefix.size, prefix.longest
        end = place.plus(size)
        table: dict[Any, int]
        match prefix.encoding:
            case "bin" if size == 1:
                table = {bytes([length]): length for length in range(longest + 1)}
                key = f"data[{place}:{end}]"
            case "bcd" if size <= 2:
                table = {f"{length:0{2 * size}d}": length for length in range(longest + 1)}
                key = f"h[{place.half()}:{end.half()}]"
            case "ascii" | "ebcdic" if size <= 3 and self._view.shows_digits(prefix.encoding):
                table = {f"{length:0{size}d}": length for length in range(longest + 1)}
                key = f"t[{place}:{end}]"
            case _:
                return None
        self._end_run()
        self._line(f"n{number} = {self._writer.name('lengths', table)}.get({key})")
        self._line(f"if n{number} is None: return None")
        return end

    def _after(self, number: int, place: _Place, size: int | str) -> _Place:
        if isinstance(size, int):
            return place.plus(size)
        self._line(f"p{number} = {place}+{size}")
        return _Place(f"p{number}", 0)

    def _text(self, number: int, codec: FieldCodec, place: _Place, length: int | str) -> _Place:
        kind = codec.form.kind
        if isinstance(length, int) and kind is Kind.XN:
            self._end_run()
            self._line(f'if t[{place}:{place.plus(1)}] not in ("C", "D"): return None')
            self._look("digits", place.plus(1), place.plus(1 + length))
            self._line(f"v{number} = t[{place}:{place.plus(1 + length)}]")
            return place.plus(1 + length)
        what = _look_of(kind, codec.encoding.strict)
        end = self._after(number, place, length)
        self._line(f"v{number} = t[{place}:{end}]")
        if not what:
            self._line(f"if not {self._writer.name('fits', codec.body.content.fits)}(v{number}): return None")
            if self._view.codec == "ascii" and not self._view.is_plain:
                self._line(f"if not v{number}.isascii(): return None")
        elif isinstance(length, int):
            self._look(what, place, end)
        else:
            self._check(what, f"v{number}")
        return end

    def _bytes(self, number: int, codec: FieldCodec, place: _Place, length: int | str, way: str) -> _Place:
        self._end_run()
        if way == "raw":
            end = self._after(number, place, length)
            self._line(f"v{number} = data[{place}:{end}].hex().upper()")
            return end
        end = self._after(number, place, length * 2 if isinstance(length, int) else f"2*{length}")
        self._line(f"v{number} = t[{place}:{end}]")
        self._line(f"if not {self._writer.name('fits', is_hex)}(v{number}): return None")
        return end

    def _bcd(self, number: int, codec: FieldCodec, place: _Place, length: int | str) -> _Place:
        self._end_run()
        kind, form = codec.form.kind, codec.form
        sign = ""
        if kind is Kind.XN:
            self._line(f"c{number} = t[{place}:{place.plus(1)}]")
            self._line(f'if c{number} not in ("C", "D"): return None')
            place, sign = place.plus(1), f"c{number} + "
        which = "z" if kind is Kind.Z else "n" if form.is_fixed else "nvar"
        padding = codec.encoding.odd[which]
        left, filler = padding.startswith("left"), padding[-1].lower()
        if isinstance(length, int):
            odd, end = length % 2, place.plus((length + 1) // 2)
            begin = place.half(1 if odd and left else 0)
            self._line(f"d = h[{begin}:{begin}+{length}]")
            if odd:
                place_of = place.half() if left else end.half(-1)
                self._line(f'if h[{place_of}:{place_of}+1] != "{filler}": return None')
        else:
            end = _Place(f"p{number}", 0)
            self._line(f"p{number} = {place}+({length}+1>>1)")
            self._line(f"if {length} & 1:")
            if left:
                self._line(f'    if h[{place.half()}:{place.half(1)}] != "{filler}": return None')
                self._line(f"    d = h[{place.half(1)}:{place.half(1)}+{length}]")
            else:
                self._line(f'    if h[{end.half(-1)}:{end.half()}] != "{filler}": return None')
                self._line(f"    d = h[{place.half()}:{place.half()}+{length}]")
            self._line("else:")
            self._line(f"    d = h[{place.half()}:{end.half()}]")
        if kind is Kind.Z:
            self._line('if not d.replace("d", "").isdecimal(): return None')
            self._line(f'v{number} = d.replace("d", "=")')
        else:
            self._line("if not d.isdecimal(): return None")
            self._line(f"v{number} = {sign}d")
        return end


def _look_of(kind: Kind, strict: bool) -> str:
    """How the content of text is looked at; empty for a kind that needs its own test."""
    if kind is Kind.N:
        return "digits"
    if kind in (Kind.ANS, Kind.Z) or (not strict and kind is not Kind.XN):
        return "printable"
    return "alnum" if kind is Kind.AN else ""


# --- writing ----------------------------------------------------------------------------------------------------------


def encoder_source(shape: Shape, order: Sequence[int]) -> Source:
    """A function of message type, header and fields (in this order) that gives bytes or None."""
    view = _View(shape)
    writer = _Writer({"Parts": Parts, "IsoError": IsoError, "is_hex": is_hex})
    return _Encoder(shape, view, writer).source(order)


class _Encoder:
    def __init__(self, shape: Shape, view: _View, writer: _Writer) -> None:
        self._shape: Final = shape
        self._view: Final = view
        self._writer: Final = writer
        self._line: Final = writer.line
        # (kind, expression): t characters of the view, x hexadecimal digits, b bytes.
        self._pieces: Final[list[tuple[str, str]]] = []
        # Values of equal content that are looked at together: what, and which.
        self._looks: Final[dict[str, list[str]]] = {}

    def source(self, order: Sequence[int]) -> Source:
        shape = self._shape
        if order:
            self._line(f"{', '.join(f'v{number}' for number in order)}, = f.values()")
        self._line(f"if len(m) != 4 or not m.isdecimal() or len(head) != {shape.header}: return None")
        if shape.mti == "bcd":
            self._add("x", "{m}")
        elif self._view.shows_digits(shape.mti):
            self._add("t", "{m}")
        else:
            self._add("b", f'm.encode("{"cp037" if shape.mti == "ebcdic" else "ascii"}")')
        numbers = sorted(order)
        bitmap = shape.fields.bitmap.write(numbers)
        codec = shape.fields.bitmap.codec
        if codec is not None and self._view.shows_digits("ebcdic" if codec == "cp037" else "ascii"):
            self._add("t", bitmap.decode(codec))
        else:
            self._add("x", bitmap.hex())
        for number in numbers:
            structure = shape.fields.structures.get(number)
            if structure is not None:
                self._line(f"if type(v{number}) is not Parts: return None")
                self._line(f"v{number} = {self._writer.name('s', structure.build)}(v{number}, m)")
            self._field(number, shape.fields.codecs[number])
        for what, values in self._looks.items():
            self._check(what, values)
        self._return()
        return self._writer.source("m, head, f", "IsoError, ValueError, TypeError, AttributeError, IndexError")

    def _add(self, kind: str, expression: str) -> None:
        if self._pieces and self._pieces[-1][0] == kind and kind != "b":
            self._pieces[-1] = (kind, self._pieces[-1][1] + expression)
        else:
            self._pieces.append((kind, expression))

    def _return(self) -> None:
        codec = self._view.codec
        made = []
        for kind, expression in self._pieces:
            match kind:
                case "t":
                    made.append(f'f"{expression}".encode("{codec}")')
                case "x":
                    made.append(f'fromhex(f"{expression}")')
                case _:
                    made.append(expression)
        self._writer.names["fromhex"] = bytes.fromhex
        if self._shape.header:
            made.insert(0, "head")
        self._line(f"return {made[0]}" if len(made) == 1 else f'return b"".join(({", ".join(made)}))')

    def _check(self, what: str, values: Sequence[str]) -> None:
        text = f'f"{"".join(f"{{{value}}}" for value in values)}"' if len(values) > 1 else values[0]
        match what:
            case "digits":
                self._line(f"if not {text}.isdecimal(): return None")
            case "printable":
                self._line(f"if not {text}.isprintable(): return None")
            case "alnum":
                self._line(f"c = {text}")
                self._line('if not (c.isalnum() or c.replace(" ", "").isalnum()) or not c.isascii(): return None')

    def _field(self, number: int, codec: FieldCodec) -> None:
        way, form, kind, value = _way(codec), codec.form, codec.form.kind, f"v{number}"
        shown = self._view.shows(codec.encoding.codec)
        if way == "hex":
            shown = self._view.shows_digits("ascii" if codec.encoding.bin == "hex" else "ebcdic")
        prefix_ok = codec.prefix is None or self._prefix_kind(codec) is not None
        if not prefix_ok or ((way in ("text", "hex") or kind is Kind.XN) and not shown):
            self._add("b", f"{self._writer.name('w', codec.write)}({value})")
            return
        size = f"len({value})>>1" if kind is Kind.B else f"len({value})"
        if codec.prefix is None:
            self._line(f"if len({value}) != {form.characters}: return None")
        else:
            self._prefix(codec, size)
        match way:
            case "text":
                self._text(value, codec)
            case "raw" | "hex":
                self._line(f"if not is_hex({value}): return None")
                self._add("x" if way == "raw" else "t", f"{{{value}}}")
            case _:
                self._bcd(value, codec)

    def _prefix_kind(self, codec: FieldCodec) -> str | None:
        """How the prefix is written inside a plan; None if it is not."""
        prefix = codec.prefix
        assert prefix is not None, "asked for a field of variable length"
        if prefix.longest > 9999:
            return None
        if prefix.encoding in ("bcd", "bin"):
            return "x"
        return "t" if self._view.shows_digits(prefix.encoding) else None

    def _prefix(self, codec: FieldCodec, size: str) -> None:
        prefix = codec.prefix
        kind = self._prefix_kind(codec)
        assert prefix is not None and kind is not None, "looked at before"
        # A length beyond the longest is an IndexError: none of this list.
        texts = [prefix.write(length) for length in range(prefix.longest + 1)]
        table = [raw.hex() for raw in texts] if kind == "x" else [raw.decode(self._view.codec) for raw in texts]
        self._add(kind, f"{{{self._writer.name('lengths', table)}[{size}]}}")

    def _text(self, value: str, codec: FieldCodec) -> None:
        kind = codec.form.kind
        self._add("t", f"{{{value}}}")
        if kind is Kind.XN:
            self._line(f'if {value}[0] not in "CD" or not {value}[1:].isdecimal(): return None')
        elif what := _look_of(kind, codec.encoding.strict):
            self._looks.setdefault(what, []).append(value)
        else:
            self._line(f"if not {self._writer.name('fits', codec.body.content.fits)}({value}): return None")

    def _bcd(self, value: str, codec: FieldCodec) -> None:
        form, kind = codec.form, codec.form.kind
        if kind is Kind.XN:
            self._line(f'if {value}[0] not in "CD": return None')
            self._line(f"s{value}, d{value} = {value}[:1], {value}[1:]")
            self._add("t", f"{{s{value}}}")
            value = f"d{value}"
        elif kind is Kind.Z:
            self._line(f'd{value} = {value}.replace("=", "D")')
            value = f"d{value}"
        which = "z" if kind is Kind.Z else "n" if form.is_fixed else "nvar"
        padding = codec.encoding.odd[which]
        left, filler = padding.startswith("left"), padding[-1]
        if kind is Kind.Z:
            self._line(f'if not {value}.replace("D", "").isdecimal(): return None')
        else:
            self._looks.setdefault("digits", []).append(value)
        if form.is_fixed:
            fill = filler if form.length % 2 else ""
            self._add("x", f"{fill}{{{value}}}" if left else f"{{{value}}}{fill}")
            return
        filled = f'f"{filler}{{{value}}}"' if left else f'f"{{{value}}}{filler}"'
        self._line(f"x{value} = {filled} if len({value}) & 1 else {value}")
        self._add("x", f"{{x{value}}}")
