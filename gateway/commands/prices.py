"""`prepaid price`: reckon worked cases under a tariff file, without settings or database. Shell.

Cases come from standard input, one JSON object a line, and answers go to standard output, a line each and in their
order (`gateway/cases.py` has the form). A line that cannot be used is told on standard error by its number, has no
answer, and ends the command with exit code 2; the other lines are answered all the same. One line is held at a time, so
any number of cases takes the same memory.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

from gateway import cases
from gateway.keysession import UNUSABLE, WELL, OutputClosed, Unusable, bytes_of
from ledger.tariffs_format import TariffBook, TariffFaults, parse, read_book

LINE_MAX: Final = 1_000_000
"""Octets; a case of a thousand steps takes a fifth of that."""
FILE_MAX: Final = 50_000_000


def add_commands(subparsers: Any) -> None:
    """Add `price` to an argparse sub-parsers object; it sets `run`, options to exit code."""
    about = "reckon cases from standard input under a tariff file: what each step gives, to the cent"
    parser = subparsers.add_parser("price", help=about, description=f"{about}. Needs neither settings nor database.")
    parser.add_argument(
        "--tariffs", type=Path, required=True, metavar="FILE", help="utility, channels and tariffs, as JSON"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        book = read_book(document_in(options.tariffs))
    except Unusable as error:
        sys.stderr.write(f"prepaid price: {error}\n")
        return UNUSABLE
    except TariffFaults as faults:
        sys.stderr.write("".join(f"prepaid price: {options.tariffs}: {fault}\n" for fault in faults.faults))
        return UNUSABLE
    try:
        return answer_all(book, sys.stdin.buffer, sys.stdout, sys.stderr)
    except BrokenPipeError:
        raise OutputClosed from None


def document_in(path: Path) -> Any:
    """The JSON document in a file. Raises TariffFaults, Unusable, OSError."""
    raw = bytes_of(path, FILE_MAX)
    try:
        return parse(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Unusable(f"{path}: UTF-8 expected, octet {error.start + 1} is not") from None


def answer_all(book: TariffBook, asked: BinaryIO, answers: TextIO, complaints: TextIO) -> int:
    """Answer every case that can be; the exit code."""
    code = WELL
    for number, raw in _lines(asked):
        try:
            if raw is None:
                raise cases.CaseFault(f"at most {LINE_MAX} octets expected")
            if not raw.strip():
                continue
            answer = cases.answer(parse(raw.decode("utf-8")), book)
        except TariffFaults as faults:
            # Our place in the line is told, and not the line that the parser counts within it.
            complaints.write(f"prepaid price: line {number}: {faults.faults[0].removeprefix('line 1 ')}\n")
            code = UNUSABLE
        except (cases.CaseFault, UnicodeDecodeError) as error:
            complaints.write(f"prepaid price: line {number}: {error}\n")
            code = UNUSABLE
        else:
            answers.write(json.dumps(answer, ensure_ascii=False, separators=(",", ":")) + "\n")
    answers.flush()
    return code


def _lines(asked: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers; None for one that is too long, which is passed over without being held."""
    number = 0
    while raw := asked.readline(LINE_MAX + 1):
        number += 1
        if len(raw) <= LINE_MAX or raw.endswith(b"\n"):
            yield number, raw
            continue
        while (rest := asked.readline(LINE_MAX)) and not rest.endswith(b"\n"):
            pass
        yield number, None
