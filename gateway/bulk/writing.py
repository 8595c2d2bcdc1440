"""Records as lines of CSV or JSON lines, in the form that an import reads. Pure: writes to what it is handed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from gateway.bulk.lines import CSV

Write = Callable[[Mapping[str, Any]], None]


def writer(file: TextIO, form: str, columns: Sequence[str]) -> Write:
    """What writes records to a file of this format; of CSV it writes the header at once. None is an empty value."""
    if form != CSV:

        def write_object(record: Mapping[str, Any]) -> None:
            values = {name: "" if (value := record.get(name)) is None else value for name in columns}
            file.write(f"{json.dumps(values, ensure_ascii=False)}\n")

        return write_object
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(columns)

    def write_row(record: Mapping[str, Any]) -> None:
        rows.writerow([_cell(record.get(name)) for name in columns])

    return write_row


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
