"""How far a long command is: one line on a terminal, nothing anywhere else. Shell."""

from __future__ import annotations

from typing import Final, TextIO

_WIDTH: Final = 30
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """A bar on this stream, if that is a terminal. It is drawn anew when its percentage has changed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_shown = stream.isatty()
        self._drawn = ""

    def at(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done of this."""
        if not self._is_shown:
            return
        percent = 100 if total <= 0 else min(100, done * 100 // total)
        full = percent * _WIDTH // 100
        line = f"{what:10} [{'#' * full}{'.' * (_WIDTH - full)}] {percent:3d}%"
        if line != self._drawn:
            self._drawn = line
            self._stream.write(f"\r{line}")
            self._stream.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._drawn:
            self._drawn = ""
            self._stream.write(_CLEAR)
            self._stream.flush()
