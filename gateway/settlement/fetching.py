"""A day's statement from a provider that lists it, as a file that is taken in like any other. Shell: writes the file.

The file is written by the shipped mapping `fetched`; what it says is checked where every statement is.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.payments.contract import StatementLine
from ledger.money import plain

MAPPING: Final = "fetched"
_COLUMNS: Final = ("receipt", "occurred_at", "amount", "fee", "currency", "our_ref", "payer", "account_ref")


def write(path: Path, lines: Sequence[StatementLine], minor_digits: int) -> None:
    """Write what a source says it took into a new file."""
    with path.open("x", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_rows(lines, minor_digits))


def _rows(lines: Sequence[StatementLine], minor_digits: int) -> list[tuple[str, ...]]:
    """By time and receipt, so that the same day gives the same file in whichever order the provider lists it."""
    return [
        (
            line.receipt,
            line.occurred_at.isoformat(timespec="seconds"),
            plain(line.amount_minor, minor_digits),
            plain(line.fee_minor, minor_digits),
            line.currency,
            line.our_ref,
            line.payer,
            line.account_ref,
        )
        for line in sorted(lines, key=lambda line: (line.occurred_at, line.receipt))
    ]
