"""How commands end: a sentence and an exit code, never a traceback, and no secret in either.

Covers: settings, files and databases that cannot be used, a database that is away, records that it refuses, bugs and
groups of them, each command's quiet where all is well.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from gateway import __main__ as program
from gateway.__main__ import main
from gateway.demo import FOLDER
from ledger import trouble
from ledger.schema import DatabaseAway, DatabaseUnusable, RecordRefused

TOKEN = "12345678901234567890"
UTILITY = '[utility]\ncurrency = "KES"\n'


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def settings(tmp_path: Path, text: str = "", database: str | None = None) -> str:
    path = tmp_path / "prepaid.toml"
    url = database or f"sqlite:///{tmp_path}/var/prepaid.db"
    path.write_text(f'{UTILITY}[database]\nurl = "{url}"\n{text}')
    return str(path)


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what stands on standard error."""
    code = main([*arguments])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return code, said.strip()


COMMANDS = ["serve", "migrate", "load"]


def command(name: str, config: str) -> list[str]:
    return [name, "--config", config, *([str(FOLDER)] if name == "load" else [])]


# --- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_no_database_is_a_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"no database at all, but long enough to be one" * 100)
    code, said = ended(capsys, *command(name, settings(tmp_path, database=f"sqlite:///{path}")))
    assert code == 2
    assert said.splitlines()[-1] == (
        f"prepaid {name}: the database cannot be used: the file is not a database ([database] url: sqlite:///{path})"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_database_that_refuses_connections_is_away(
    name: str, tmp_path: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"postgresql://shop:hunter2@127.0.0.1:{closed_port}/prepaid"
    code, said = ended(capsys, *command(name, settings(tmp_path, database=url)))
    assert code == 3
    assert said.splitlines()[-1].startswith(f"prepaid {name}: the database is away: ")
    assert f"postgresql://shop@127.0.0.1:{closed_port}/prepaid" in said and "hunter2" not in said


@pytest.mark.parametrize("name", COMMANDS)
def test_a_database_that_the_server_does_not_know_is_a_sentence(
    name: str, tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres_url.rpartition("/")[0] + "/nonesuch"
    code, said = ended(capsys, *command(name, settings(tmp_path, database=url)))
    assert code == 2
    assert said.splitlines()[-1].startswith(
        f'prepaid {name}: the database cannot be used: database "nonesuch" does not exist'
    )


def test_a_database_in_memory_is_refused_with_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(capsys, "migrate", "--config", settings(tmp_path, database="sqlite://"))
    assert code == 2 and 'database.url: expected "sqlite:///FILE"' in said


def _integrity_error(table: str) -> Exception:
    engine = sa.create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE TABLE {table} (account_no TEXT UNIQUE, name TEXT)")
            for _ in range(2):
                connection.execute(sa.text(f"INSERT INTO {table} VALUES (:a, :b)"), {"a": "A1", "b": "Amina Hassan"})
    except sa.exc.IntegrityError as error:
        return error
    finally:
        engine.dispose()
    raise AssertionError("the second row must be refused")


def test_a_record_that_the_database_refuses_shows_neither_statement_nor_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path)
    assert main(["migrate", "--config", config]) == 0

    async def refuse(*_: Any) -> None:
        raise _integrity_error("customer")

    monkeypatch.setattr(program, "load_folder", refuse)
    code, said = ended(capsys, "load", "--config", config, str(FOLDER))
    assert code == 2
    assert said.splitlines()[-1].startswith(
        "prepaid load: the database refuses a record: UNIQUE constraint failed: customer.account_no"
    )
    assert "Amina" not in said and "INSERT" not in said


def _postgres(kind: type[Exception], message: str, **fields: str) -> Exception:
    error = kind(message)
    for name, value in fields.items():
        setattr(error, name, value)
    return error


# fmt: off
@pytest.mark.parametrize(("error", "kind", "words"), [
    (ConnectionRefusedError(111, "Connect call failed"),           DatabaseAway,     "Connect call failed"),
    (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1)"), DatabaseAway, "Connect call failed"),
    (socket.gaierror(-2, "Name or service not known"),             DatabaseAway,     "Name or service not known"),
    (TimeoutError(),                                               DatabaseAway,     "TimeoutError"),
    (asyncpg.CannotConnectNowError("the database system is starting up"), DatabaseAway, "starting up"),
    (asyncpg.TooManyConnectionsError("sorry, too many clients"),   DatabaseAway,     "too many clients"),
    (asyncpg.AdminShutdownError("terminating connection"),         DatabaseAway,     "terminating"),
    (asyncpg.ConnectionDoesNotExistError("closed in the middle"),  DatabaseAway,     "closed in the middle"),
    (asyncpg.InterfaceError("connection is closed"),               DatabaseAway,     "connection is closed"),
    (asyncpg.InvalidPasswordError('password authentication failed for user "x"'), DatabaseUnusable, "authentication"),
    (asyncpg.InsufficientPrivilegeError("permission denied for schema public"), DatabaseUnusable, "permission denied"),
    (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
     DatabaseUnusable, "read-only"),
    (_postgres(asyncpg.UniqueViolationError, "Key (name)=(Amina)", constraint_name="uq_name", table_name="customer"),
     RecordRefused, "uq_name of customer"),
    (asyncpg.DataError("invalid input for query argument $1: 'Amina'"), RecordRefused, "DataError"),
])
# fmt: on
def test_what_a_driver_says_is_away_unusable_or_a_record_refused(
    error: Exception, kind: type[Exception], words: str
) -> None:
    found = trouble.of(error)
    assert type(found) is kind and words in str(found) and "Amina" not in str(found)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), FileNotFoundError(2, "No such file", "keys"), PermissionError(13, "denied"), OSError("odd")]
    + [asyncpg.UndefinedTableError("x"), sa.exc.InvalidRequestError("x"), ExceptionGroup("x", [ConnectionError()])],
)
def test_what_is_not_about_the_database_is_left_to_others(error: Exception) -> None:
    assert trouble.of(error) is None


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_missing_is_named_with_what_it_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MK", "00" * 32)
    gone = tmp_path / "gone"
    missing = "No such file or directory"
    config = settings(tmp_path, f'[sts]\nkeystore = "{gone}"\nmaster_key_env = "MK"')
    assert main(["migrate", "--config", config]) == 0
    assert ended(capsys, "serve", "--config", config) == (2, f"prepaid serve: [sts] keystore {gone}: {missing}")
    config = settings(tmp_path, f'[sts]\nea07_tables = "{gone}"')
    assert ended(capsys, "serve", "--config", config) == (2, f"prepaid serve: [sts] ea07_tables {gone}: {missing}")
    config = settings(
        tmp_path, f'[[smpp]]\nname = "one"\nhost = "h"\nsystem_id = "s"\ntls = true\ntls_ca_file = "{gone}"'
    )
    code, said = ended(capsys, "serve", "--config", config)
    assert (code, said.splitlines()[-1]) == (2, f"prepaid serve: [[smpp]] one tls_ca_file {gone}: {missing}")


def test_tables_that_are_no_text_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = tmp_path / "tables"
    tables.write_bytes(b"\xff\xfe")
    code, said = ended(capsys, "serve", "--config", settings(tmp_path, f'[sts]\nea07_tables = "{tables}"'))
    assert code == 2 and "UTF-8 text expected" in said


def test_a_bad_folder_is_refused_with_every_fault_and_nothing_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path)
    assert main(["migrate", "--config", config]) == 0
    folder = tmp_path / "utility"
    shutil.copytree(FOLDER, folder)
    for name, old, new in (("stations.csv", ",,,2,N", ",,,2%,N"), ("arrears.csv", "PERCENT,30,", "PERCENT,thirty,")):
        (folder / name).write_text((folder / name).read_text().replace(old, new))
    code, said = ended(capsys, "load", "--config", config, str(folder))
    assert code == 2
    assert "arrears.csv line 2: percent: " in said and "stations.csv line 3: commission_percent: " in said
    assert main(["load", "--config", config, str(FOLDER)]) == 0
    assert "already" not in capsys.readouterr().out


def test_loading_again_says_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(tmp_path)
    assert main(["migrate", "--config", config]) == main(["load", "--config", config, str(FOLDER)]) == 0
    capsys.readouterr()
    assert main(["load", "--config", config, str(FOLDER)]) == 0
    out, err = capsys.readouterr()
    assert "20 customers were there already\n" in out
    assert err == "", "no chatter of libraries before the answer"


# --- the program's own faults -----------------------------------------------------------------------------------------


def _failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setattr(program, "_migrate", fail)


@pytest.mark.parametrize(
    "error",
    [ValueError(f"bad {TOKEN}"), ExceptionGroup("tasks", [KeyError(f"bad {TOKEN}"), ConnectionError(f"pin={TOKEN}")])],
)
def test_a_bug_is_a_masked_line_of_the_log_and_exit_code_1(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, error)
    assert main(["migrate", "--config", settings(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "CRITICAL gateway: prepaid migrate ended by a fault of its own" in said
    assert type(error).__name__ in said and TOKEN not in said


def test_control_c_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "_migrate", stop)
    assert main(["migrate", "--config", settings(tmp_path)]) == 130


def test_a_task_of_the_gateway_that_fails_ends_it_with_a_masked_line_of_the_log(tmp_path: Path) -> None:
    """As a process, since the fault must not end by the interpreter's own traceback."""
    config = settings(tmp_path, "[http]\nport = 0\n")
    script = tmp_path / "failing.py"
    script.write_text(
        "import sys\n"
        "from gateway import delivery\n"
        "from gateway.__main__ import main\n"
        "async def run(self):\n"
        f"    raise ValueError('bad {TOKEN}')\n"
        "delivery.Delivery.run = run\n"
        f"assert main(['migrate', '--config', {config!r}]) == 0\n"
        f"sys.exit(main(['serve', '--config', {config!r}]))\n"
    )
    root = Path(program.__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert ran.returncode == 1
    last = json.loads(ran.stderr.splitlines()[-1])
    assert (last["level"], last["event"]) == ("CRITICAL", "prepaid serve ended by a fault of its own")
    assert "ValueError: bad ***" in last["error"] and TOKEN not in ran.stderr
    assert all(line.startswith("{") for line in ran.stderr.splitlines())


# --- the demonstration ------------------------------------------------------------------------------------------------


def test_a_demonstration_is_not_given_in_a_folder_with_something_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prepaid.db").write_bytes(b"")
    assert ended(capsys, "demo", "--once", "--folder", str(tmp_path)) == (
        2,
        f"prepaid demo: {tmp_path}: an empty folder expected, or one that does not exist yet",
    )


# --- nobody reads on --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [1, 400])
def test_a_command_whose_output_is_not_read_on_ends_without_a_word(tmp_path: Path, lines: int) -> None:
    """As in `prepaid iso check ... | head -1`: the exit code that shells know, and no talk of a database."""
    tariffs = Path(__file__).parents[1] / "vectors" / "tariffs.json"
    cases = (Path(__file__).parents[1] / "vectors" / "pricing_cases.jsonl").read_text(encoding="utf-8").splitlines()
    asked = "\n".join((cases * lines)[:lines]) + "\n"
    for words, said in ((f"price --tariffs {tariffs}", asked), ("iso check atm87", "")):
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "gateway", *words.split()]
        done = subprocess.run(command, input=said, text=True, stdout=write, stderr=subprocess.PIPE, cwd=Path.cwd())
        os.close(write)
        assert (done.returncode, done.stderr) == (program.UNREAD, "")
