"""Writes the sealed key file. Shell."""

from __future__ import annotations

import os
from pathlib import Path


def write_keystore(path: Path, text: str) -> None:
    """Replace the key file as a whole: a crash leaves the old one or the new one."""
    new = path.with_name(path.name + ".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    # The new name is on the disk only with its folder: without this a power cut may bring the old file back.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
