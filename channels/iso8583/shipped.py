"""The profiles that come with the product, and profile files. Shell: reads files.

A profile is named ("atm87") or a file (anything with a dot or a slash); one file may extend a shipped profile.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from channels.iso8583.profile import Profile
from channels.iso8583.profilefile import profile_of
from channels.iso8583.reading import Fault, ProfileFaults

FOLDER: Final = Path(__file__).parent / "profiles"
TABLES: Final = FOLDER / "fields"
DEFAULT: Final = "atm87"
FILE_BYTES_MAX: Final = 256 * 1024


def names() -> list[str]:
    """The shipped profiles, the default first."""
    found = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return [DEFAULT, *(name for name in found if name != DEFAULT)]


def _find(name: str) -> Mapping[str, Any] | None:
    if not name.replace("-", "").isalnum():
        return None
    for folder in (FOLDER, TABLES):
        path = folder / f"{name}.toml"
        if path.is_file():
            return _read(path)
    return None


@cache
def shipped(name: str) -> Profile:
    """A shipped profile by its name; raises ProfileFaults if there is none."""
    path = FOLDER / f"{name}.toml"
    if name not in names():
        raise ProfileFaults(name, [Fault("name", f"one of {', '.join(names())}", name)])
    return profile_of(_read(path), _find, name)


def profile(name_or_path: str) -> Profile:
    """A shipped profile, or the one in a file; raises ProfileFaults, or OSError for a file that cannot be read."""
    if "." not in name_or_path and "/" not in name_or_path:
        return shipped(name_or_path)
    path = Path(name_or_path)
    return profile_of(_read(path), _find, path.stem)


def _read(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ProfileFaults(path.stem, [Fault("file", f"at most {FILE_BYTES_MAX} bytes", "more")])
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise ProfileFaults(path.stem, [Fault("file", "text in UTF-8", "other bytes")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ProfileFaults(path.stem, [Fault("file", "TOML", str(error))]) from None
