"""Lines that somebody types, or a pipe brings, while a simulator serves. Shell."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

_READ_OCTETS = 65_536


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
