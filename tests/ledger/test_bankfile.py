"""The end-of-day file: what is written is read, and whatever is changed in it is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.bankfile import FileFaulty, Header, Line, key_of, read, sums_of, written

DAY = date(2026, 11, 22)
HEADER = Header("umoja", DAY, 1, datetime(2026, 11, 22, 21, 0, tzinfo=UTC), "404")
LINE = Line(
    DAY, "1122093015", "000124", "113015", "1122", "232611000124", "ATM00042", "627001", "04012345676", 50_000, "404",
    "00", "A0000000000A9", False,
)  # fmt: skip

digits = st.text("0123456789", min_size=1, max_size=12)
lines = st.builds(
    Line,
    business_date=st.dates(date(2020, 1, 1), date(2099, 12, 31)),
    sent=digits,
    stan=digits,
    local_time=digits,
    local_date=st.text("0123456789", max_size=8),
    rrn=st.text("0123456789ABC", max_size=12),
    terminal=st.text("ATM0123456789", min_size=1, max_size=16),
    acquirer=st.text("0123456789", max_size=11),
    drn=st.text("0123456789", max_size=13),
    amount_minor=st.integers(0, 10**16 - 1),
    currency=st.just("404"),
    code=st.sampled_from(["00", "000", "0000", "51", "91"]),
    receipt=st.text("ABC0123456789", max_size=20),
    is_reversed=st.booleans(),
)


@given(st.lists(lines, max_size=4), st.integers(1, 999_999))
def test_what_is_written_is_read(made: list[Line], sequence: int) -> None:
    header = replace(HEADER, sequence=sequence)
    data = written(header, made)
    file = read(data)
    assert (file.header, list(file.lines), file.sums) == (header, made, sums_of(made))
    assert written(file.header, file.lines) == data


@settings(max_examples=200)
@given(st.integers(0, len(written(HEADER, [LINE, LINE])) - 1), st.integers(1, 255))
def test_any_changed_octet_is_found(position: int, change: int) -> None:
    data = bytearray(written(HEADER, [LINE, replace(LINE, is_reversed=True)]))
    data[position] ^= change
    try:
        read(bytes(data))
    except FileFaulty:
        return
    # The end of a line may be written as CR LF, the hash in capitals: nothing that is said has changed.
    assert read(bytes(data)).lines == (LINE, replace(LINE, is_reversed=True))


@given(st.integers(0, len(written(HEADER, [LINE])) - 1))
def test_a_file_cut_short_is_refused(length: int) -> None:
    data = written(HEADER, [LINE])[:length]
    if length == len(written(HEADER, [LINE])) - 1:
        assert read(data).lines == (LINE,)  # the end of the last line is missing, and nothing else
    else:
        with pytest.raises(FileFaulty):
            read(data)


def _with(row: int, at: int, text: str) -> bytes:
    rows = written(HEADER, [LINE]).decode().split("\n")
    rows[row] = rows[row][:at] + text + rows[row][at + len(text) :]
    return "\n".join(rows).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a header and a trailer expected"),
        (b"\xff\xfe", "byte 0: ASCII expected"),
        (_with(0, 0, "X"), "line 1: a record H expected"),
        (_with(0, 1, "fixed-v2"), "line 1, form: fixed-v1 expected"),
        (_with(0, 31, "20261332"), "line 1, business_date: a date as 20261122 expected"),
        (_with(0, 45, "20261122259999"), "line 1, created: a time"),
        (_with(1, 0, "T"), "line 2: a record D expected"),
        (_with(1, 1, "00000009"), "line 2, line: 1 expected, got 9"),
        (_with(1, 125, "x"), "line 2, amount_minor: 16 digits expected"),
        (_with(1, 125, "9"), "line 3, purchases_minor"),
        (_with(2, 1, "00000002"), "line 3, lines: 1 expected, which are there, got 2"),
        (_with(2, 61, "zz"), "line 3, hash: the SHA-256"),
        (written(HEADER, [LINE]).replace(b"ATM00042", b"ATM00043"), "line 3, hash"),
        (written(HEADER, [LINE])[:-1] + b"  \n", "line 3: 125 characters expected, got 127"),
        (written(HEADER, [replace(LINE, currency="840")]), "line 2, currency: that of the header expected"),
        (written(HEADER, [replace(LINE, code="")]), "line 2: terminal, trace number and response code expected"),
    ],
)
def test_each_fault_has_its_words(data: bytes, words: str) -> None:
    with pytest.raises(FileFaulty, match=words):
        read(data)


def test_line_ends_of_two_characters_are_taken() -> None:
    rows = written(HEADER, [LINE]).split(b"\n")
    body = b"\r\n".join(rows[:2]) + b"\r\n"
    import hashlib

    foot = rows[2][:-64] + hashlib.sha256(body).hexdigest().encode()
    assert read(body + foot + b"\r\n").lines == (LINE,)


def test_a_value_without_room_is_not_written() -> None:
    with pytest.raises(ValueError, match="^terminal: at most 16"):
        written(HEADER, [replace(LINE, terminal="T" * 17)])
    with pytest.raises(ValueError, match="^amount_minor: at most 16"):
        written(HEADER, [replace(LINE, amount_minor=10**16)])


def test_zeros_before_a_trace_number_say_nothing() -> None:
    assert key_of("ATM1 ", "000124", "R1") == key_of("ATM1", "124", "R1 ") == "ATM1/124/R1"
