"""A gateway as a process of its own: `prepaid serve` with a settings file, started, watched, killed.

Everything is as an operator has it, but that the utility is made up (`tests/simulation/utility.py`) and the message
centre is the caller's. Used by the benchmark and by the tests that kill.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from gateway.custody import approve_sample_keys
from gateway.intake import load_folder
from gateway.world import RealWorld
from ledger.store import migrate, open_store
from tests.simulation import utility

SYSTEM_ID: Final = "umoja"
PASSWORD: Final = "sandbox"
LINK: Final = "smsc"
REFERENCE_TLV: Final = 0x001E
STOP_TIMEOUT_S: Final = 20.0

_ROOT: Final = Path(__file__).parents[2]
_MASTER_KEY_VARIABLE: Final = "PREPAID_TEST_MASTER_KEY"
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_OCTETS: Final = os.sysconf("SC_PAGESIZE")

Values = Mapping[str, str | int | float | bool]


async def set_up(
    url: str, folder: Path, size: int, wallets_minor: dict[int, int] | None = None
) -> list[utility.Customer]:
    """Make the database at this URL and load a made-up utility of this size into it."""
    everyone = utility.write(folder, size, wallets_minor)
    world = RealWorld()
    await migrate(url)
    store = await open_store(url)
    try:
        now = world.now()
        await load_folder(store, folder, utility.SETTINGS, world, now)
        await store.transact(lambda connection: approve_sample_keys(connection, utility.vending_keys(), now))
    finally:
        await store.close()
    return everyone


def write_settings(path: Path, url: str, centre_port: int, http_port: int, sections: Mapping[str, Values]) -> None:
    """Write a settings file for one link to a message centre on this machine; `sections` add to it or change it."""
    keystore = path.with_name("keys.json")
    utility.seal_keystore(keystore)
    given = utility.SETTINGS
    every: dict[str, dict[str, Any]] = {
        "utility": {
            "code": given.code,
            "name": given.name,
            "currency": given.currency,
            "minor_digits": given.minor_digits,
            "timezone": given.timezone,
            "default_language": given.default_language,
            "debt_cap_percent": str(given.debt_cap_percent),
        },
        "database": {"url": url},
        "sts": {"keystore": str(keystore), "master_key_env": _MASTER_KEY_VARIABLE},
        "http": {"port": http_port},
        # A few customers buy here as often as a whole country.
        "customers": {"requests_per_sender_max": 0, "purchases_per_meter_max": 0},
        "log": {"level": "WARNING", "format": "text"},
        "smpp": {
            "name": LINK,
            "host": "127.0.0.1",
            "port": centre_port,
            "system_id": SYSTEM_ID,
            "password": PASSWORD,
            "source_addr": utility.SHORT_CODE,
            "window": 50,
            "reference_tlv": REFERENCE_TLV,
            "reconnect_min_s": 0.05,
        },
    }
    for name, values in sections.items():
        every.setdefault(name, {}).update(values)
    lines = []
    for name, values in every.items():
        lines.append(f"[[{name}]]" if name in ("smpp", "ussd", "bank") else f"[{name}]")
        lines.extend(f"{key} = {_toml(value)}" for key, value in values.items())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: str | int | float | bool) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """The process. Use it as a context manager: on leaving it is gone, in whatever state it was."""

    def __init__(
        self,
        config: Path,
        http_port: int,
        command: tuple[str, ...] = ("-m", "gateway"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = config.with_suffix(".log")
        self._config = config
        self._http_port = http_port
        self._command = command
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def start(self) -> None:
        """Start it, again after `kill` or `stop`; returns at once."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._command, "serve", "--config", str(self._config)],
                cwd=_ROOT,
                env={**os.environ, **self._environment, _MASTER_KEY_VARIABLE: utility.MASTER_KEY.hex()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent(),
            )

    def kill(self) -> None:
        """kill -9, at whatever instruction it is."""
        process = self._taken()
        process.kill()
        process.wait()

    async def stop(self) -> int:
        """Ask it to end (SIGTERM) and wait until it has; its exit code. The message centre goes on meanwhile."""
        process = self._taken()
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def is_running(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_s(self) -> float:
        """Processor time spent so far, in user and system mode, all threads."""
        return cpu_s(self.pid)

    def resident_mb(self) -> float:
        """Memory in use, in millions of octets."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * _PAGE_OCTETS / 1e6

    async def metrics(self) -> dict[str, float]:
        """What /metrics says now, by name with labels."""

        def fetch() -> str:
            with urlopen(f"http://127.0.0.1:{self._http_port}/metrics", timeout=30) as answer:
                body: bytes = answer.read()
                return body.decode()

        lines = (await asyncio.to_thread(fetch)).splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def last_words(self) -> str:
        """The end of its log, for the message of a failed test."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _taken(self) -> subprocess.Popen[bytes]:
        process, self._process = self._process, None
        assert process is not None, "it was not started"
        return process


def cpu_s(pid: int) -> float:
    """Processor time that a process has spent, children not counted."""
    # The second field is a name in brackets that may hold blanks; utime and stime are the 14th and 15th.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def _die_with_parent() -> Callable[[], object] | None:
    """On Linux: ask the kernel to end the gateway if the test run is killed before it can."""
    if sys.platform != "linux":
        return None
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_death_signal, int(signal.SIGKILL))
