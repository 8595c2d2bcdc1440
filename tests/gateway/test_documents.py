"""Commands that the documents name are there, with their options; and every command is named in some document."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from gateway.__main__ import _parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "config" / "sample.toml")
_NAMED = re.compile(r"`prepaid ([^`]*)`|^ *prepaid (.*)$", re.MULTILINE)
_WORD = re.compile(r"[a-z][a-z0-9-]*")


@cache
def _everything() -> argparse.ArgumentParser:
    return _parser(None)


def _below(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser] | None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return None


def _faults(text: str) -> Iterator[str]:
    for found in _NAMED.finditer(text):
        line = (found[1] or found[2]).split("#")[0]
        here, words = _everything(), line.split()
        for word in words:
            choices = _below(here)
            if choices is None or not _WORD.fullmatch(word):
                break
            if word not in choices:
                yield f"{line}: no {word}"
                break
            here = choices[word]
        known = {option for action in here._actions for option in action.option_strings}
        given = {word.partition("=")[0] for word in words if word.startswith("--") and _below(here) is None}
        yield from (f"{line}: no option {option}" for option in sorted(given - known))


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    choices = _below(parser)
    if choices is None:
        yield path
    for name, below in (choices or {}).items():
        yield from _commands(below, (*path, name))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_names_is_there(path: Path) -> None:
    assert list(_faults(path.read_text(encoding="utf-8"))) == []


def test_every_command_is_named_in_a_document() -> None:
    told = " ".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    words = set(re.findall(r"[a-z0-9-]+", told))
    assert [path for path in _commands(_everything()) if not set(path) <= words] == []


def test_a_wrong_name_would_be_seen() -> None:
    assert list(_faults("`prepaid meters replaces X --bye`")) == ["meters replaces X --bye: no replaces"]
    assert list(_faults("`prepaid meters replace X --bye`")) == ["meters replace X --bye: no option --bye"]
