"""Bad files: what is said of which line, that reading goes on behind it, and that memory stays bounded.

Covers: encodings and their marks, delimiters, headers, quotes, lengths, NUL, line ends, empty lines; JSON lines with
what is no object, fields that are there twice or are unknown, numbers as they are written; noise.
"""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.bulk.described import described
from gateway.bulk.lines import CSV, JSONL, LINE_MAX, BadFile, Expected, Line, format_of, read_lines

EXPECTED = Expected(["account", "amount", "note"], ["account", "amount"])


def lines(tmp_path: Path, content: bytes, form: str = CSV, encoding: str | None = None) -> list[Line]:
    path = tmp_path / "file"
    path.write_bytes(content)
    return list(read_lines(path, form, EXPECTED, encoding=encoding))


def said(found: list[Line]) -> list[tuple[int, str]]:
    """Number, and the first values or the fault."""
    return [(line.number, line.fault or "|".join(line.values.values())) for line in found]


HEADER = b"account,amount\n"
QUOTE = "a quotation mark that is not closed"
# fmt: off
GOOD = [
    (b"account,amount\r\nw:1,1\r\n\r\n\r\nw:2,2\r\n", [(2, "w:1|1"), (5, "w:2|2")]),
    (b"account,amount\rw:1,1\rw:2,2", [(2, "w:1|1"), (3, "w:2|2")]),
    (b"\xef\xbb\xbfaccount,amount\nw:1,1\n", [(2, "w:1|1")]),
    ("account,amount\nw:é,1\n".encode("utf-16"), [(2, "w:é|1")]),
    ("\ufeffaccount,amount\nw:1,1\n".encode("utf-16-be"), [(2, "w:1|1")]),
    (HEADER + b'"w:""1""","1,5"\n', [(2, 'w:"1"|1,5')]),
    (HEADER + b'"two\nlines",1\nw:2,2\n', [(2, "two\nlines|1"), (4, "w:2|2")]),
    (HEADER + b" w:1 , 1 \n,\n", [(2, "w:1|1")]),
    (HEADER, []),
]
BAD_LINES = [
    (b"w:1\nw:2,2\n", [(2, "as many values as columns, 2, expected, got 1"), (3, "w:2|2")]),
    (b"w:1,1,1\n", [(2, "as many values as columns, 2, expected, got 3")]),
    (b"w:1,1\xe9\nw:2,2\n", [(2, "octet E9"), (3, "w:2|2")]),
    (b"w:\x00,1\nw:2,2\n", [(2, "a NUL character"), (3, "w:2|2")]),
    (b'"w:1,1\nw:2,2\n', [(2, QUOTE), (3, "w:2|2")]),
    (b'w:1,1\n"w:2,2\nw:3,3\nw:4,4', [(2, "w:1|1"), (3, QUOTE), (4, "w:3|3"), (5, "w:4|4")]),
    (b'"w:1"x,1\nw:2,2\n', [(2, "no CSV"), (3, "w:2|2")]),
    (b"w:" + b"x" * (LINE_MAX + 10) + b",1\nw:2,2\n", [(2, "at most 1000000 characters"), (3, "w:2|2")]),
]
BAD_FILES = [
    (b"", "a header expected, the file is empty"),
    (b"account;amount\nw:1;1\n", "these are separated by semicolons"),
    (b"account\tamount\nw:1\t1\n", "these are separated by tabs"),
    (b"account\nw:1\n", "columns missing: amount"),
    (b"account,amount,account\n", "columns that stand there twice: account"),
    (b"account,amount,acount\n", "columns that such a file does not have: 'acount'"),
    (b'"account,amount\n', f"a header expected: {QUOTE}"),
    ("account,amount\n".encode("utf-16-le"), "text in UTF-8 expected; this looks like UTF-16"),
    ("account,amount\nw:1,1\n".encode("utf-16")[:-1], "text in utf-16 expected"),
]
# fmt: on


@pytest.mark.parametrize(("content", "expected"), GOOD)
def test_files_as_programs_write_them_are_read(tmp_path: Path, content: bytes, expected: list[tuple[int, str]]) -> None:
    assert said(lines(tmp_path, content)) == expected


@pytest.mark.parametrize(("content", "expected"), BAD_LINES)
def test_a_bad_line_is_named_and_the_ones_behind_it_are_read(
    tmp_path: Path, content: bytes, expected: list[tuple[int, str]]
) -> None:
    found = said(lines(tmp_path, HEADER + content))
    assert [number for number, _ in found] == [number for number, _ in expected]
    assert all(words in whole for (_, whole), (_, words) in zip(found, expected, strict=True))


@pytest.mark.parametrize(("content", "words"), BAD_FILES)
def test_a_file_that_cannot_be_read_as_a_whole_says_why(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(BadFile) as caught:
        lines(tmp_path, content)
    assert words in caught.value.words


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    content = HEADER + "w:Zoé,1\n".encode("latin-1")
    assert said(lines(tmp_path, content, encoding="latin-1")) == [(2, "w:Zoé|1")]
    with pytest.raises(BadFile, match="an encoding such as"):
        lines(tmp_path, content, encoding="klingon")


def test_the_format_follows_from_the_name_unless_given() -> None:
    assert format_of(Path("a.CSV")) == CSV and format_of(Path("a.ndjson")) == JSONL
    assert format_of(Path("a.txt"), CSV) == CSV
    with pytest.raises(BadFile, match=".csv or .jsonl"):
        format_of(Path("a.xlsx"))


def test_a_line_without_end_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    part = b"x" * 1_000_000
    with path.open("wb") as file:
        file.write(HEADER + b'"')
        for _ in range(60):
            file.write(part)
        file.write(b"\nw:2,2\n")
    tracemalloc.start()
    try:
        found = said(list(read_lines(path, CSV, EXPECTED)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[0][0] == 2 and "a line without end" in found[0][1] and found[1] == (3, "w:2|2")
    assert peak < 20_000_000


def test_a_quote_that_is_never_closed_holds_no_more_than_some_lines(tmp_path: Path) -> None:
    content = HEADER + b'"w:1,1\n' + b"w:2,2\n" * 500
    found = said(lines(tmp_path, content))
    assert found[0] == (2, QUOTE) and len(found) == 501 and found[-1] == (502, "w:2|2")


# fmt: off
JSON_LINES = [
    ('{"account": "w:1", "amount": 1.50}', "w:1|1.50"),
    ('{"account": "w:1", "amount": 4.2e3}', "w:1|4.2e3"),
    ('{"account": "w:1", "amount": null}', "w:1|"),
    ('{"account": "w:1", "amount": true}', "amount: a text or a number expected, got true"),
    ('{"account": "w:1", "amount": ["1"]}', "amount: a text or a number expected"),
    ('{"account": "w:1", "amount": NaN}', "NaN is no number"),
    ('{"account": "w:1", "account": "w:2"}', "the field 'account' stands there twice"),
    ('{"account": "w:1", "acount": "w:2"}', "field 'acount' is not one of account, amount, note"),
    ('{"account": "w:\\u0000"}', "account: a NUL character"),
    ('{"account": "w:\\ud800"}', "account: text in UTF-8 expected, got half a character"),
    ('["w:1"]', "a JSON object expected, got list"),
    ('{"account": "w:1"', "a JSON object on one line expected"),
    ("[" * 100_000, "nested too deeply"),
    ('{"repair_line": 3, "repair_text": "x"}', "a line to be mended"),
    ('{"repair_line": 3, "repair_reason": "x", "account": "w:1", "amount": "1"}', "w:1|1"),
]
# fmt: on


@pytest.mark.parametrize(("line", "words"), JSON_LINES)
def test_json_lines_say_what_they_hold_or_what_is_wrong(tmp_path: Path, line: str, words: str) -> None:
    found = said(lines(tmp_path, f'\n{line}\n{{"account": "w:9", "amount": "9"}}\n'.encode(), JSONL))
    assert found[0][0] == 2 and words in found[0][1]
    assert found[1] == (3, "w:9|9")


@given(st.binary(max_size=300), st.sampled_from([CSV, JSONL]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, form: str, headed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes((HEADER if headed else b"") + noise)
    try:
        for line in read_lines(path, form, EXPECTED):
            assert line.number >= 1 and (line.fault or line.values)
            json.dumps(line.values).encode()
    except BadFile as bad:
        assert bad.words


def test_the_document_is_what_the_tables_of_columns_say() -> None:
    path = Path(__file__).parents[3] / "docs" / "bulk.md"
    assert path.read_text(encoding="utf-8") == described(), "run `python -m gateway.bulk.described > docs/bulk.md`"
