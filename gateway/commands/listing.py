"""Lists of records that a command writes to a file or to standard output, as CSV or JSON lines. Shell."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from gateway.bulk.lines import CSV, JSONL
from gateway.keysession import Books, OutputClosed


def listed_to(parser: argparse.ArgumentParser) -> None:
    """The options of a command that writes a list."""
    parser.add_argument("--format", choices=(CSV, JSONL), default=None, help="else by the file's name, or CSV")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a new file; else standard output")


def format_wanted(options: argparse.Namespace) -> str:
    """The format of the list."""
    if options.format is not None:
        return str(options.format)
    return JSONL if options.out is not None and options.out.suffix in (".jsonl", ".ndjson") else CSV


async def write_list(books: Books, out: Path | None, write: Callable[[Any, TextIO], int]) -> int:
    """Have a function of a reading connection and a file write its list; what it gives. Raises OutputClosed."""
    if out is not None:
        with new_file(out) as file:
            return int(await books.read(lambda connection: write(connection, file)))
    stream = TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", write_through=True)
    try:
        return int(await books.read(lambda connection: write(connection, stream)))
    except BrokenPipeError:
        raise OutputClosed from None
    finally:
        try:
            stream.detach()
        except BrokenPipeError:
            pass  # said already


def new_file(path: Path) -> TextIO:
    """A text file for this account only, which must not be there yet: people's names and numbers stand in it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(handle, "w", encoding="utf-8", newline="")
