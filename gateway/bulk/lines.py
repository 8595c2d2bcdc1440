"""A file of records as lines of named values, in bounded memory, whatever is wrong with it. Shell: reads files.

CSV (a header, commas, quotation marks doubled inside quotes; a value may hold line breaks) and JSON lines (an object a
line). A bad line is given with what is wrong with it, and reading goes on behind it; a file that cannot be read as a
whole raises BadFile. A line break inside quotes counts: a line's number is that of the first line it stands on.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, Final

CSV: Final = "csv"
JSONL: Final = "jsonl"
JSON: Final = "json"
"""One document with a list of tariffs: `tariffs.json`."""

LINE_MAX: Final = 1_000_000
"""Characters of one record; what is longer is no record, and is passed over without being held."""
_RECORD_LINES_MAX: Final = 100
_DOCUMENT_MAX: Final = 20_000_000
_SHOWN_MAX: Final = 200
_CELLS_MAX: Final = 1_000
_MARKS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

REPAIR_LINE: Final = "repair_line"
REPAIR_REASON: Final = "repair_reason"
REPAIR_TEXT: Final = "repair_text"
"""Columns of a repair file (`gateway/bulk/repair.py`): passed over when it is imported."""
REPAIR: Final = (REPAIR_LINE, REPAIR_REASON, REPAIR_TEXT)


class BadFile(Exception):
    """The file as a whole cannot be read; `line` is where."""

    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.line = line
        self.words = words


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its values by name, or why there are none. `raw` is the line as it came, for a repair file."""

    number: int
    values: dict[str, Any]
    fault: str
    raw: Any  # CSV: list of values, or the text where it has none; JSON lines: the text


@dataclass(frozen=True, slots=True)
class Expected:
    """The columns of a kind of file. `is_document`: values may be lists and objects, as JSON has them.

    `delimiter` separates the values of CSV. So many lines at most may stand before the header, as in a bank's file; the
    header is the first line that has all needed columns.
    """

    known: Collection[str]
    needed: Collection[str]
    is_document: bool = False
    delimiter: str = ","
    lines_before_max: int = 0


def format_of(path: Path, given: str | None = None) -> str:
    """The format of a file by its name, unless given. Raises BadFile if its name does not tell."""
    if given is not None:
        return given
    found = {".csv": CSV, ".jsonl": JSONL, ".ndjson": JSONL, ".json": JSON}.get(path.suffix.lower())
    if found is None:
        raise BadFile(0, "a name that ends in .csv or .jsonl expected, or --format csv or jsonl")
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(
    path: Path,
    form: str,
    expected: Expected,
    *,
    encoding: str | None = None,
    on_header: Callable[[Sequence[str]], None] = lambda names: None,
    on_octets: Callable[[int], None] = lambda octets: None,
) -> Iterator[Line]:
    """The lines of a file of this format, without its header and without empty lines. Raises BadFile."""
    with path.open("rb") as file:
        if form == JSON:
            yield from _tariff_document(file)
            return
        text = _Text(file, encoding)
        made = _csv_lines(text, expected, on_header) if form == CSV else _json_lines(text, expected)
        for count, line in enumerate(made):
            if count % 1000 == 0:
                on_octets(file.tell())
            yield line


# --- text -------------------------------------------------------------------------------------------------------------


class _Text:
    """Physical lines, each with its number, cut at LINE_MAX."""

    def __init__(self, file: BufferedReader, encoding: str | None) -> None:
        start = file.peek(4)[:4]
        found = next((name for bom, name in _BOMS if start.startswith(bom)), None)
        self._encoding = encoding or found or "utf-8"
        if encoding is None and found is None and b"\0" in start[:2]:
            raise BadFile(
                1, "text in UTF-8 expected; this looks like UTF-16 without its mark: give --encoding utf-16-le"
            )
        # Octets that are no UTF-8 are marked, so that the line they stand in can be named; UTF-16 has no such marks.
        is_utf_8 = self._encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")
        try:
            self._file = TextIOWrapper(
                file, encoding=self._encoding, errors="surrogateescape" if is_utf_8 else "strict", newline=""
            )
        except LookupError:
            raise BadFile(
                0, f"an encoding such as utf-8, latin-1, cp1252 or utf-16 expected, got {encoding!r}"
            ) from None
        self._number = 0
        self._again: deque[tuple[int, str]] = deque()

    def next(self) -> tuple[int, str] | None:
        """The next line with its end; None at the end of the file."""
        if self._again:
            return self._again.popleft()
        try:
            line = self._file.readline(LINE_MAX + 2)
            if not line:
                return None
            self._number += 1
            if len(line) > LINE_MAX:
                part = line
                while part and not part.endswith(("\n", "\r")):
                    part = self._file.readline(LINE_MAX)
        except UnicodeDecodeError as error:
            raise BadFile(self._number + 1, f"text in {self._encoding} expected: {error.reason}") from None
        return self._number, line

    def put_back(self, lines: Sequence[tuple[int, str]]) -> None:
        self._again.extendleft(reversed(lines))


def _unreadable(line: str) -> str:
    """Why this is no text; empty if it is."""
    if len(line) > LINE_MAX:
        return f"at most {LINE_MAX} characters expected: a line without end?"
    if "\0" in line:
        return "a NUL character, which is no text"
    if not line.isascii() and (bad := next((c for c in line if "\ud800" <= c <= "\udfff"), None)):
        octet = f"octet {ord(bad) - 0xDC00:02X}" if "\udc80" <= bad <= "\udcff" else "half a character"
        advice = "if the whole file is in another encoding, `prepaid import` takes --encoding latin-1"
        return f"text in UTF-8 expected, got {octet}: {advice}"
    return ""


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv_lines(text: _Text, expected: Expected, on_header: Callable[[Sequence[str]], None]) -> Iterator[Line]:
    names: list[str] | None = None
    before = 0
    while (first := text.next()) is not None:
        number, line = first
        fault = _unreadable(line)
        if not fault and line.count('"') % 2:
            line, fault = _joined(text, number, line)
        if not fault and not line.strip("\r\n"):
            continue
        cells: list[str] = []
        if not fault:
            try:
                cells = next(csv.reader([line], strict=True, delimiter=expected.delimiter))
            except csv.Error as error:
                fault = f"no CSV: {error}"
        if names is None:
            before += 1
            is_header = set(expected.needed) <= {cell.strip() for cell in cells}
            if before <= expected.lines_before_max and not is_header:
                continue
            if fault:
                raise BadFile(number, f"a header expected: {fault}")
            names = [cell.strip() for cell in cells]
            _check_header(names, number, expected)
            on_header(names)
        elif fault:
            yield Line(number, {}, fault, cells or line[:_SHOWN_MAX].rstrip("\r\n"))
        elif len(cells) != len(names):
            yield Line(number, {}, f"as many values as columns, {len(names)}, expected, got {len(cells)}", cells)
        elif any(cells):
            yield Line(number, {name: cell.strip() for name, cell in zip(names, cells, strict=True)}, "", cells)
    if names is None and before:
        raise BadFile(before, f"a header expected with the columns {', '.join(expected.needed)}; no line has them")
    if names is None:
        raise BadFile(1, f"a header expected, the file is empty: {','.join(expected.known)}")


def _joined(text: _Text, number: int, line: str) -> tuple[str, str]:
    """A record whose quotes are closed on a later line; or the first line by itself, with what is wrong with it."""
    more: list[tuple[int, str]] = []
    parts, length = [line], len(line)
    while len(more) < _RECORD_LINES_MAX and length <= LINE_MAX and (following := text.next()) is not None:
        more.append(following)
        parts.append(following[1])
        length += len(following[1])
        if _unreadable(following[1]):
            break
        if following[1].count('"') % 2:
            return "".join(parts), ""
    text.put_back(more)
    return line, "a quotation mark that is not closed"


def _check_header(names: Sequence[str], number: int, expected: Expected) -> None:
    """Raise BadFile unless these are columns of such a file, each once."""
    if len(names) == 1:
        for mark, what in _MARKS.items():
            if mark != expected.delimiter and mark in names[0]:
                wanted = _MARKS[expected.delimiter]
                raise BadFile(number, f"columns separated by {wanted} expected, these are separated by {what}")
    if len(names) > _CELLS_MAX:
        raise BadFile(number, f"at most {_CELLS_MAX} columns expected, got {len(names)}")
    faults = []
    if missing := [name for name in expected.needed if name not in names]:
        faults.append(f"columns missing: {', '.join(missing)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        faults.append(f"columns that stand there twice: {', '.join(twice)}")
    if unknown := [name for name in names if name not in expected.known and name not in REPAIR]:
        # A misspelt column that may be left out would otherwise be left out silently.
        shown = ", ".join(repr(name[:40]) for name in unknown[:10])
        faults.append(f"columns that such a file does not have: {shown} (there are: {', '.join(expected.known)})")
    if faults:
        raise BadFile(number, "; ".join(faults))


# --- JSON -------------------------------------------------------------------------------------------------------------


class _Twice(ValueError):
    """A name stands twice in an object."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"the field {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _loaded(text: str, is_document: bool) -> Any:
    """JSON text; numbers as they are written, unless in a document. Raises ValueError."""
    try:
        if is_document:
            return json.loads(text, object_pairs_hook=_pairs, parse_constant=_refuse_constant)
        return json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_refuse_constant, parse_int=str, parse_float=str
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _json_lines(text: _Text, expected: Expected) -> Iterator[Line]:
    while (read := text.next()) is not None:
        number, line = read
        if not line.strip():
            continue
        raw = line.rstrip("\r\n") if len(line) <= LINE_MAX else line[:_SHOWN_MAX]
        fault = _unreadable(line)
        values: dict[str, Any] = {}
        if not fault:
            try:
                found = _loaded(line, expected.is_document)
            except ValueError as error:
                fault = f"a JSON object on one line expected: {error}"
            else:
                fault = _json_fault(found, expected)
                values = {} if fault else _json_values(found, expected)
        yield Line(number, values, fault, raw)


def _json_fault(found: Any, expected: Expected) -> str:
    if not isinstance(found, dict):
        return f"a JSON object expected, got {type(found).__name__}"
    if REPAIR_TEXT in found:
        return "a line to be mended: write its fields in place of repair_text"
    for name, value in found.items():
        if name not in expected.known and name not in REPAIR:
            return f"field {name[:40]!r} is not one of {', '.join(expected.known)}"
        if not expected.is_document and not (value is None or isinstance(value, str)):
            return f"{name}: a text or a number expected, got {json.dumps(value)[:60]}"
        if isinstance(value, str) and (words := _unreadable(value)):
            return f"{name}: {words}"
    return ""


def _json_values(found: dict[str, Any], expected: Expected) -> dict[str, Any]:
    kept = {name: value for name, value in found.items() if name not in REPAIR}
    if expected.is_document:
        return kept
    return {name: "" if value is None else value.strip() for name, value in kept.items()}


def _tariff_document(file: BufferedReader) -> Iterator[Line]:
    """The entries of the list "tariffs" of a document; a line's number is that of the entry."""
    raw = file.read(_DOCUMENT_MAX + 1)
    try:
        if len(raw) > _DOCUMENT_MAX:
            raise ValueError(f"more than {_DOCUMENT_MAX} octets")
        entries = _loaded(raw.decode("utf-8-sig"), is_document=True)["tariffs"]
        if not isinstance(entries, list):
            raise ValueError(f"got {type(entries).__name__}")
    except (ValueError, KeyError, TypeError) as error:
        raise BadFile(1, f'an object with a list "tariffs" expected: {error}') from None
    for number, entry in enumerate(entries, start=1):
        is_object = isinstance(entry, dict)
        fault = "" if is_object else f"an object expected, got {json.dumps(entry)[:60]}"
        yield Line(number, entry if is_object else {}, fault, json.dumps(entry))
