"""The end-of-day file between a bank and us, the same form both ways: "fixed-v1". Pure.

Text in ASCII, a record a line, fields at fixed columns, blanks behind texts, zeros before numbers; docs/iso8583.md has
the table. One header, a detail for each purchase (with a mark whether it was taken back), one trailer with counts,
sums and the SHA-256 of every octet before it. No card number and no token has a column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

FORM: Final = "fixed-v1"
LINES_MAX: Final = 1_000_000
BYTES_MAX: Final = 256 * 1024 * 1024


class FileFaulty(Exception):
    """A file that is not as agreed; the sentence says where and what was expected, and shows no value of a detail."""


# Name, columns, kind: t text, n number.
_HEADER: Final = (
    ("record", 1, "t"), ("form", 10, "t"), ("bank", 20, "t"), ("business_date", 8, "n"), ("sequence", 6, "n"),
    ("created", 14, "n"), ("currency", 3, "t"),
)  # fmt: skip
_DETAIL: Final = (
    ("record", 1, "t"), ("line", 8, "n"), ("business_date", 8, "n"), ("sent", 14, "t"), ("stan", 12, "t"),
    ("local_time", 14, "t"), ("local_date", 8, "t"), ("rrn", 12, "t"), ("terminal", 16, "t"), ("acquirer", 11, "t"),
    ("drn", 13, "t"), ("amount_minor", 16, "n"), ("currency", 3, "t"), ("code", 4, "t"), ("receipt", 20, "t"),
    ("reversed", 1, "t"),
)  # fmt: skip
_TRAILER: Final = (
    ("record", 1, "t"), ("lines", 8, "n"), ("purchases", 8, "n"), ("purchases_minor", 18, "n"), ("reversals", 8, "n"),
    ("reversals_minor", 18, "n"), ("hash", 64, "t"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """Whose file it is, of which day; a higher sequence replaces a lower one of the same day. `created` in UTC."""

    bank: str
    business_date: date
    sequence: int
    created: datetime
    currency: str


@dataclass(frozen=True, slots=True)
class Line:
    """One purchase. `code` is the response code that was given, `is_reversed` whether it was taken back since.

    A purchase is known by terminal, trace number and reference; times are as they were sent.
    """

    business_date: date
    sent: str
    stan: str
    local_time: str
    local_date: str
    rrn: str
    terminal: str
    acquirer: str
    drn: str
    amount_minor: int
    currency: str
    code: str
    receipt: str
    is_reversed: bool

    @property
    def key(self) -> str:
        """By which both sides know the purchase."""
        return key_of(self.terminal, self.stan, self.rrn)

    @property
    def is_approved(self) -> bool:
        """A code of zeros: the cardholder was debited, unless it was taken back."""
        return bool(self.code) and not self.code.strip("0")


@dataclass(frozen=True, slots=True)
class Sums:
    """What the trailer says: purchases that were approved, and those of them that were taken back."""

    purchases: int
    purchases_minor: int
    reversals: int
    reversals_minor: int


@dataclass(frozen=True, slots=True)
class File:
    """A file whole."""

    header: Header
    lines: tuple[Line, ...]
    sums: Sums
    hash: str


def key_of(terminal: str, stan: str, rrn: str) -> str:
    """A purchase as both sides know it; zeros before a trace number say nothing."""
    return f"{terminal.strip()}/{stan.strip().lstrip('0') or '0'}/{rrn.strip()}"


def sums_of(lines: Iterable[Line]) -> Sums:
    """What the details come to."""
    approved = [line for line in lines if line.is_approved]
    back = [line for line in approved if line.is_reversed]
    return Sums(
        len(approved),
        sum(line.amount_minor for line in approved),
        len(back),
        sum(line.amount_minor for line in back),
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def written(header: Header, lines: Sequence[Line]) -> bytes:
    """The file. ValueError for a value that has no room in its columns."""
    rows = [
        _row(
            _HEADER,
            {
                "record": "H",
                "form": FORM,
                "bank": header.bank,
                "business_date": f"{header.business_date:%Y%m%d}",
                "sequence": header.sequence,
                "created": f"{header.created.astimezone(UTC):%Y%m%d%H%M%S}",
                "currency": header.currency,
            },
        )
    ]
    for number, line in enumerate(lines, 1):
        values: dict[str, str | int] = {
            name: getattr(line, name) for name, _, _ in _DETAIL if name not in ("record", "line", "reversed")
        }
        values |= {"business_date": f"{line.business_date:%Y%m%d}", "reversed": "Y" if line.is_reversed else "N"}
        rows.append(_row(_DETAIL, {"record": "D", "line": number, **values}))
    before = "".join(rows).encode("ascii")
    sums = sums_of(lines)
    trailer = {name: getattr(sums, name) for name in Sums.__slots__}
    digest = hashlib.sha256(before).hexdigest()
    return before + _row(_TRAILER, {"record": "T", "lines": len(lines), **trailer, "hash": digest}).encode("ascii")


def _row(columns: Sequence[tuple[str, int, str]], values: dict[str, str | int]) -> str:
    made = []
    for name, width, kind in columns:
        text = str(values[name])
        shown = text.zfill(width) if kind == "n" else text.ljust(width)
        if len(shown) != width or not shown.isascii() or not shown.isprintable():
            raise ValueError(f"{name}: at most {width} printable ASCII characters expected, got {len(text)}")
        made.append(shown)
    return f"{''.join(made)}\n"


# --- reading ----------------------------------------------------------------------------------------------------------

_DATE: Final = re.compile(r"\d{8}", re.ASCII)


def read(data: bytes) -> File:
    """The file in these octets. Raises FileFaulty: form, order, counts, sums and hash must all be as said."""
    if len(data) > BYTES_MAX:
        raise FileFaulty(f"file: at most {BYTES_MAX} bytes expected, got {len(data)}")
    try:
        # Some systems end lines with CR and LF; the hash is over what came.
        rows = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise FileFaulty(f"byte {error.start}: ASCII expected") from None
    if rows and rows[-1] == "":
        rows.pop()
    if len(rows) < 2:
        raise FileFaulty("file: a header and a trailer expected")
    if len(rows) - 2 > LINES_MAX:
        raise FileFaulty(f"file: at most {LINES_MAX} details expected, got {len(rows) - 2}")
    head = _values(1, rows[0].rstrip("\r"), "H", _HEADER)
    if head["form"] != FORM:
        raise FileFaulty(f"line 1, form: {FORM} expected")
    header = Header(
        head["bank"],
        _day(1, head["business_date"]),
        int(head["sequence"]),
        _created(head["created"]),
        head["currency"],
    )
    lines = tuple(_line(number, row.rstrip("\r"), header) for number, row in enumerate(rows[1:-1], 2))
    foot = _values(len(rows), rows[-1].rstrip("\r"), "T", _TRAILER)
    sums = Sums(*(int(foot[name]) for name in Sums.__slots__))
    _check_trailer(len(rows), data, rows, foot, lines, sums)
    return File(header, lines, sums, hashlib.sha256(data).hexdigest())


def _check_trailer(
    number: int, data: bytes, rows: list[str], foot: dict[str, str], lines: tuple[Line, ...], sums: Sums
) -> None:
    if int(foot["lines"]) != len(lines):
        raise FileFaulty(f"line {number}, lines: {len(lines)} expected, which are there, got {int(foot['lines'])}")
    found = sums_of(lines)
    for name in Sums.__slots__:
        if getattr(sums, name) != getattr(found, name):
            raise FileFaulty(
                f"line {number}, {name}: {getattr(found, name)} expected, the sum of the details, "
                f"got {getattr(sums, name)}"
            )
    before = sum(len(row) + 1 for row in rows[:-1])
    if hashlib.sha256(data[:before]).hexdigest() != foot["hash"].lower():
        raise FileFaulty(f"line {number}, hash: the SHA-256 of what stands before it expected, got another")


def _values(number: int, row: str, record: str, columns: Sequence[tuple[str, int, str]]) -> dict[str, str]:
    width = sum(each for _, each, _ in columns)
    if row[:1] != record:
        raise FileFaulty(f"line {number}: a record {record} expected")
    if len(row) != width:
        raise FileFaulty(f"line {number}: {width} characters expected, got {len(row)}")
    values: dict[str, str] = {}
    at = 0
    for name, size, kind in columns:
        text = row[at : at + size]
        at += size
        if kind == "n" and not (text.isascii() and text.isdecimal()):
            raise FileFaulty(f"line {number}, {name}: {size} digits expected")
        if not text.isprintable():
            raise FileFaulty(f"line {number}, {name}: printable characters expected")
        values[name] = text.rstrip(" ") if kind == "t" else text
    return values


def _line(number: int, row: str, header: Header) -> Line:
    values = _values(number, row, "D", _DETAIL)
    if int(values["line"]) != number - 1:
        raise FileFaulty(f"line {number}, line: {number - 1} expected, got {int(values['line'])}")
    if values["reversed"] not in ("Y", "N"):
        raise FileFaulty(f"line {number}, reversed: Y or N expected")
    if values["currency"] != header.currency:
        raise FileFaulty(f"line {number}, currency: that of the header expected")
    if not values["code"].isalnum() or not values["stan"].isdecimal() or not values["terminal"]:
        raise FileFaulty(f"line {number}: terminal, trace number and response code expected")
    return Line(
        _day(number, values["business_date"]),
        **{
            name: values[name]
            for name in "sent stan local_time local_date rrn terminal acquirer drn currency code receipt".split()
        },
        amount_minor=int(values["amount_minor"]),
        is_reversed=values["reversed"] == "Y",
    )


def _day(number: int, text: str) -> date:
    if _DATE.fullmatch(text):
        try:
            return date(int(text[:4]), int(text[4:6]), int(text[6:]))
        except ValueError:
            pass
    raise FileFaulty(f"line {number}, business_date: a date as 20261122 expected")


def _created(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise FileFaulty("line 1, created: a time as 20261122235900 expected") from None
