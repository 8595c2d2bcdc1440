"""Each topic of the command line is found where `gateway/commands/topics.py` says, and none is forgotten."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import pytest

from gateway import __main__ as program
from gateway import commands
from gateway.commands.topics import TOPICS

BEHIND_OTHERS = {"bank", "tokens", "topics"}  # bankday and tokendesk add them; the last is no topic


@pytest.mark.parametrize("module", TOPICS)
def test_a_module_adds_its_topics(module: str) -> None:
    subparsers = argparse.ArgumentParser().add_subparsers()
    importlib.import_module(f"gateway.commands.{module}").add_commands(subparsers)
    assert tuple(subparsers.choices) == TOPICS[module]


def test_no_module_is_forgotten() -> None:
    names = {found.name for found in pkgutil.iter_modules(commands.__path__)}
    adding = {name for name in names if hasattr(importlib.import_module(f"gateway.commands.{name}"), "add_commands")}
    assert adding == set(TOPICS) | BEHIND_OTHERS


def test_help_and_a_word_that_is_no_topic_name_all(capsys: pytest.CaptureFixture[str]) -> None:
    everything = [topic for topics in TOPICS.values() for topic in topics]
    with pytest.raises(SystemExit):
        program.main(["--help"])
    said = capsys.readouterr().out
    assert [topic for topic in everything if f"    {topic} " not in said.replace("\n", " \n")] == []
    with pytest.raises(SystemExit):
        program.main(["elektricity"])
    refused = capsys.readouterr().err
    assert "elektricity" in refused and [topic for topic in everything if topic not in refused] == []
