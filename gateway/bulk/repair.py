"""The lines that were refused, as they came, with their numbers and reasons: to be mended and imported again. Shell.

CSV: the header of the file with `repair_line` and `repair_reason` before it. JSON lines: the object with these two
fields; a line that is no object stands whole in `repair_text`. An import passes the three over.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TextIO

from gateway.bulk.lines import CSV, REPAIR, REPAIR_LINE, REPAIR_REASON, REPAIR_TEXT, Expected, Line, read_lines
from ledger.bulk.scratch import Told


def write_repair(
    out: TextIO, path: Path, expected: Expected, format_: str, encoding: str | None, faults: Iterator[Told]
) -> int:
    """Read the file again and write the lines that have faults, which come in the order of lines; how many."""
    names: list[str] = []
    rows = csv.writer(out, lineterminator="\n", delimiter=expected.delimiter)

    def on_header(found: Sequence[str]) -> None:
        names.extend(found)
        rows.writerow([REPAIR_LINE, REPAIR_REASON, *(name for name in names if name not in REPAIR)])

    groups = groupby(faults, key=lambda one: one.line)
    number, reason = _next(groups)
    count = 0
    for line in read_lines(path, format_, expected, encoding=encoding, on_header=on_header):
        while number is not None and number < line.number:
            number, reason = _next(groups)
        if number is None:
            break
        if number != line.number:
            continue
        if format_ == CSV:
            rows.writerow([str(number), reason, *_cells(line, names)])
        else:
            out.write(f"{json.dumps(_object(line, reason), ensure_ascii=False)}\n")
        count += 1
    return count


def _next(groups: groupby[int, Told]) -> tuple[int | None, str]:
    for number, faults in groups:
        return number, "; ".join(f"{one.field}: {one.words}" if one.field else one.words for one in faults)
    return None, ""


def _cells(line: Line, names: Sequence[str]) -> list[str]:
    if isinstance(line.raw, str):
        return [_writable(line.raw)]
    if len(line.raw) != len(names):
        return [_writable(cell) for cell in line.raw]
    # A file that was mended once has the columns of a repair file itself.
    return [_writable(cell) for name, cell in zip(names, line.raw, strict=True) if name not in REPAIR]


def _object(line: Line, reason: str) -> dict[str, object]:
    said: dict[str, object] = {REPAIR_LINE: line.number, REPAIR_REASON: reason}
    if line.values:
        return {**said, **line.values}
    return {**said, REPAIR_TEXT: _writable(line.raw)}


def _writable(text: str) -> str:
    """Octets that are no text, as the escapes they are shown by."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
