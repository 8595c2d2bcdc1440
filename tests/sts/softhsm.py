"""SoftHSM2 for the tests: its library and tool found on the machine, tokens in a folder of the test's own.

`python -m tests.sts.softhsm` says which library would be used and fails if there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from pkcs11.exceptions import PKCS11Error

from sts.modules import pkcs11_token
from sts.modules.pkcs11_token import library_at

NONE_FOUND: Final = "no SoftHSM2: softhsm2-util on PATH and libsofthsm2.so expected (Debian: apt-get install softhsm2)"
PIN: Final = "user-pin-7391"
SO_PIN: Final = "officer-pin-2048"

# Debian has a plain folder and one for each architecture; Fedora and Arch /usr/lib64 and /usr/lib; then what is built
# by hand, and Homebrew.
_FOLDERS: Final = (
    "/usr/lib/softhsm",
    "/usr/lib64/softhsm",
    "/usr/lib64/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/local/lib/softhsm",
    "/opt/homebrew/lib/softhsm",
)


@dataclass(frozen=True, slots=True)
class Installed:
    """Where SoftHSM2 is on this machine."""

    library: Path
    tool: Path


def find_softhsm() -> Installed | None:
    """The library and the tool that makes tokens, or None if either is missing."""
    tool = shutil.which("softhsm2-util")
    folders = [*map(Path, _FOLDERS), *sorted(Path("/usr/lib").glob("*/softhsm"))]
    library = next((path for folder in folders if (path := folder / "libsofthsm2.so").is_file()), None)
    return Installed(library, Path(tool)) if tool and library else None


class SoftHsm:
    """SoftHSM2 with its tokens in one folder. The library belongs to the process: only one of these at a time."""

    def __init__(self, installed: Installed, folder: Path) -> None:
        self.library: Final = str(installed.library)
        self._tool: Final = installed.tool
        self._numbers: Final = count(1)
        self._tokens: Final = folder / "tokens"
        self._tokens.mkdir()
        self.settings: Final = folder / "softhsm2.conf"
        self.settings.write_text(
            f"directories.tokendir = {self._tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    def new_token(self, label: str = "", *, pin: str = PIN) -> str:
        """An empty token; gives its label, which is a new one unless it is asked for."""
        label = label or f"token {next(self._numbers)}"
        self._run("--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", SO_PIN)
        # SoftHSM2 looks for tokens only when it is initialized.
        library = library_at(self.library)
        with library.entered(10.0):
            library.start_anew()
        return label

    @contextmanager
    def removed(self) -> Iterator[None]:
        """As if every token were pulled out, until the end of the `with`."""
        away = self._tokens.with_name("away")
        self._tokens.rename(away)
        self._tokens.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(self._tokens)
            away.rename(self._tokens)

    def _run(self, *arguments: str) -> None:
        environment = {**os.environ, "SOFTHSM2_CONF": str(self.settings)}
        done = subprocess.run([self._tool, *arguments], env=environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"softhsm2-util {arguments[0]}: {done.stderr.strip()}"


@contextmanager
def softhsm(folder: Path) -> Iterator[SoftHsm]:
    """SoftHSM2 with an empty folder of tokens. It must be installed: ask `find_softhsm` first."""
    installed = find_softhsm()
    assert installed is not None, NONE_FOUND
    hsm = SoftHsm(installed, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(hsm.settings))
        try:
            yield hsm
        finally:
            # The library reads its settings when it is initialized, so whoever comes next must find it finalized.
            left = pkcs11_token._libraries.pop(hsm.library, None)
            if left is not None:
                try:
                    left.cryptoki.finalize()
                except PKCS11Error:
                    pass


if __name__ == "__main__":
    here = find_softhsm()
    print(f"SoftHSM2 for the tests: {here.library}" if here else NONE_FOUND)
    sys.exit(0 if here else 1)
