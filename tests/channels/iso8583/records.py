"""Records of `tests/vectors/iso8583.jsonl`, and the packagers they declare."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from channels.iso8583 import shipped
from channels.iso8583.message import Message
from channels.iso8583.packager import Packager
from channels.iso8583.packagerfile import packager_from

Row = dict[str, Any]

FILE: Final = Path(__file__).parents[2] / "vectors" / "iso8583.jsonl"
ALL: Final[list[Row]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
ROWS: Final = [row for row in ALL if row["kind"] not in ("about", "spec")]
SPECS: Final[dict[str, Row]] = {row["name"]: row for row in ALL if row["kind"] == "spec"}


def rows_of(*kinds: str) -> list[Row]:
    """The records of these kinds, in file order."""
    return [row for row in ROWS if row["kind"] in kinds]


def row_of(identity: str) -> Row:
    """The record with this id, a copy that may be changed."""
    found: Row = json.loads(json.dumps(next(row for row in ROWS if row["id"] == identity)))
    return found


def members(name: str) -> Row:
    """What a packager of the file is declared by."""
    return {key: value for key, value in SPECS[name].items() if key not in ("kind", "name")}


@cache
def packager(name: str) -> Packager:
    """A packager of the file."""
    return packager_from(members(name), lenient=True)


def slow(fast: Packager) -> Packager:
    """The same packager without plans."""
    return replace(fast, is_compiled=False)


def message(identity: str, profile: str = "atm87") -> Message:
    """The message of a record, read by a shipped profile."""
    return shipped.shipped(profile).packager.decode(bytes.fromhex(row_of(identity)["hex"]))


def warm(packager: Packager, data: bytes) -> Message:
    """The message, its bitmap come often enough to have plans."""
    for _ in range(4):
        read = packager.decode(data)
        packager.encode(read)
    return read
