"""People of a utility, hired and signed in from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.__main__ import main


def hire(config: Path, staff: Mapping[str, str]) -> None:
    """Add these operators, login to role, the ADMIN first; their passwords lie beside the settings, a file a login."""
    folder = config.parent
    for login, role in staff.items():
        if not (folder / login).exists():
            (folder / login).write_text(f"the password of {login}\n")
        signed = [] if role == "ADMIN" else ["--as", "adm.lee", "--password-file", str(folder / "adm.lee")]
        made = ["operators", "add", "--config", str(config), *signed, login, "--name", login, "--role", role]
        assert main([*made, "--new-password-file", str(folder / login)]) == 0


def run(config: Path, login: str, *words: str, beside: str = "", reason: str = "as asked") -> int:
    """The exit code of a command of one or two of them, who say why."""
    topic, deed, *rest = words
    signed = ["--as", login, "--password-file", str(config.parent / login), "--reason", reason]
    if beside:
        signed += ["--with", beside, "--with-password-file", str(config.parent / beside)]
    return main([topic, deed, "--config", str(config), *signed, *rest])
