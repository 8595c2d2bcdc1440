"""`prepaid import` and `export` as processes: seconds, lines a second and memory, and how long others have to wait.

The files are those of a made-up utility of any size (`tests/simulation/utility.py`). While records are stored in SQLite
another connection asks for the writer's lock again and again, as a gateway does: what it waits is in the figures.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final

from tests.bench.load import RunFailed
from tests.simulation import utility

KINDS: Final = (
    ("tariffs", "tariffs.json"), ("customers", "customers.csv"), ("meters", "meters.csv"), ("balances", "balances.csv"),
)  # fmt: skip
_ROOT: Final = Path(__file__).parents[2]
_ASK_EVERY_S: Final = 0.02


@dataclass
class Waits:
    """How long another writer had to wait for the lock, in milliseconds."""

    ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """The middle, the slowest of a hundred and the slowest."""
        ordered = sorted(self.ms) or [0.0]
        return {
            "other_writer_p50_ms": ordered[len(ordered) // 2],
            "other_writer_p99_ms": ordered[len(ordered) * 99 // 100],
            "other_writer_max_ms": ordered[-1],
        }


def write_files(folder: Path, url: str, size: int) -> Path:
    """The files of a utility of this size, and the settings to import them with."""
    # By a process of its own: a child's most memory begins with what its parent had at most.
    made = "import sys; from pathlib import Path; from tests.simulation import utility;"
    made += " utility.write(Path(sys.argv[1]), int(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", made, str(folder), str(size)], cwd=_ROOT, check=True)
    given = utility.SETTINGS
    config = folder / "prepaid.toml"
    config.write_text(
        f'[utility]\ncurrency = "{given.currency}"\ntimezone = "{given.timezone}"\n[database]\nurl = "{url}"\n',
        encoding="utf-8",
    )
    return config


def figures(folder: Path, url: str, size: int) -> Iterator[dict[str, Any]]:
    """Import every kind, import the meters again, export them: a dictionary of figures for each."""
    config = write_files(folder, url, size)
    _timed("migrate", "--config", str(config))
    is_sqlite = url.startswith("sqlite:///")
    for kind, file in KINDS:
        with _other_writer(url.removeprefix("sqlite:///") if is_sqlite else None) as waits:
            seconds, rss_mb = _timed("import", kind, str(folder / file), "--config", str(config))
        if kind != "tariffs":
            yield _line(f"import {kind}", size, seconds, rss_mb) | (waits.figures() if is_sqlite else {})
    seconds, rss_mb = _timed("import", "meters", str(folder / "meters.csv"), "--config", str(config))
    yield _line("import meters again", size, seconds, rss_mb)
    out = folder / "exported.csv"
    who = _auditor(folder, config)
    seconds, rss_mb = _timed("export", "meters", "--config", str(config), "--out", str(out), *who)
    with out.open(encoding="utf-8") as lines:
        if sum(1 for _ in lines) != size + 1:
            raise RunFailed(f"{size} meters expected in {out}")
    out.unlink()
    yield _line("export meters", size, seconds, rss_mb)


def _auditor(folder: Path, config: Path) -> list[str]:
    """Have somebody who may export; the options to sign in with."""
    password = folder / "password"
    password.write_text("a long enough password", encoding="utf-8")
    adding = ("operators", "add", "--config", str(config), "--new-password-file", str(password))
    _timed(*adding, "adm", "--name", "Administrator", "--role", "ADMIN")
    signed = ("--password-file", str(password))
    _timed(*adding, "aud", "--name", "Auditor", "--role", "AUDITOR", "--as", "adm", *signed)
    return ["--as", "aud", *signed]


def _line(name: str, size: int, seconds: float, rss_mb: float) -> dict[str, Any]:
    return {"name": name, "lines": size, "seconds": seconds, "lines_per_s": size / seconds, "rss_max_mb": rss_mb}


def _timed(*command: str) -> tuple[float, float]:
    """Run one command of the program; its seconds and the most memory it had, in millions of octets."""
    began = perf_counter()
    arguments: Sequence[str] = [sys.executable, "-m", "gateway", *command]
    process = subprocess.Popen(arguments, cwd=_ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RunFailed(f"prepaid {command[0]} ended with {process.returncode}")
    return perf_counter() - began, usage.ru_maxrss * 1024 / 1e6


@contextmanager
def _other_writer(path: str | None) -> Iterator[Waits]:
    """Ask for the lock of a SQLite file until the block ends; nothing for another database."""
    waits, ended = Waits(), threading.Event()

    def ask() -> None:
        connection = sqlite3.connect(path or "", isolation_level=None, timeout=60)
        while not ended.is_set():
            began = perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            waits.ms.append((perf_counter() - began) * 1000)
            connection.execute("COMMIT")
            sleep(_ASK_EVERY_S)
        connection.close()

    if path is None:
        yield waits
        return
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        ended.set()
        thread.join()
