"""What somebody types to a simulator: rates of faults at its start, and lines while it serves. Shell."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

_READ_OCTETS = 65_536

F = TypeVar("F", bound=StrEnum)


def rate_of(faults: type[F]) -> Callable[[str], tuple[F, float]]:
    """Reads an option NAME=RATE: a fault, and at which share of occasions it is committed."""

    def read(text: str) -> tuple[F, float]:
        name, _, share = text.partition("=")
        try:
            fault, rate = faults(name), float(share)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"NAME=RATE expected, NAME one of {', '.join(faults)}, got {text!r}"
            ) from None
        if not 0 <= rate <= 1:
            raise argparse.ArgumentTypeError(f"{name}: a rate from 0 to 1 expected, got {share}")
        return fault, rate

    return read


def on_lines(take: Callable[[str], None]) -> None:
    """Call `take` with each line of standard input, from the running loop; nothing where there is no input.

    Several lines that come at once are several calls: the loop tells of octets, not of what a buffer still holds.
    """
    loop = asyncio.get_running_loop()
    held = b""

    def some() -> None:
        nonlocal held
        octets = os.read(descriptor, _READ_OCTETS)
        held += octets
        *lines, held = held.split(b"\n")
        if not octets:
            loop.remove_reader(descriptor)
            lines, held = ([held] if held else []), b""
        for line in lines:
            take(line.decode("utf-8", "replace").strip())

    try:
        descriptor = sys.stdin.fileno()
        loop.add_reader(descriptor, some)
    except (OSError, ValueError, AttributeError):  # no terminal and no pipe: it serves all the same
        return
