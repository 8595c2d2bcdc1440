"""The command line: `prepaid COMMAND`. Most commands are added by the module of their topic."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from config.load import SettingsFaults, load
from config.settings import LogSettings, Settings
from gateway import logs
from gateway.bulk.run import Report
from gateway.commands import topics
from gateway.intake import IntakeFaults, load_folder
from gateway.keysession import OutputClosed, place
from gateway.metrics import Metrics
from gateway.settlement.operatortexts import BadPatterns
from gateway.world import RealWorld
from ledger import trouble
from ledger.audit import Origin
from ledger.schema import DatabaseAway, DatabaseUnusable, DatabaseVersion, RecordRefused
from ledger.store import migrate, open_store
from sts.errors import StsError

# Exit codes (docs/operations.md).
FAILED = 1  # a fault of the program itself
FAULTY = 2  # settings or input that cannot be used; nothing was started
AWAY = 3  # the database does not answer; the same again later may work
UNREAD = 141  # standard output was closed: what a shell says of a program that SIGPIPE ended


class Unusable(Exception):
    """What was given cannot be used; the message says what and why."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(given[0] if given else None).parse_args(given)
    logs.set_up(LogSettings(level="WARNING", format="text"))  # until the command has read its own
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except OutputClosed:
        return _unread()
    except Exception as error:  # whatever ends a command becomes an exit code, and words that show no secret
        return _unread() if _is_unread(error) else _ended(options, error)


def _is_unread(error: Exception) -> bool:
    """Whether it was standard output that broke, and no connection: then what is left of it cannot go out either."""
    if not isinstance(error, BrokenPipeError):
        return False
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


def _unread() -> int:
    """End without a word; the interpreter must not try to write what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def _ended(options: argparse.Namespace, error: Exception) -> int:
    """The exit code of a command that ended with an exception, told as a sentence or, where it is a bug, logged."""
    said: Exception = trouble.of(error) or error
    if isinstance(said, (DatabaseAway, DatabaseUnusable, RecordRefused)):
        place = f" ([database] url: {options.settings.database.url})" if "settings" in options else ""
        words = f"{said}{place}"
    elif isinstance(said, (SettingsFaults, IntakeFaults, BadPatterns, DatabaseVersion, StsError, Unusable)):
        words = str(said)
    elif isinstance(said, OSError):
        words = _about_file(said, options.settings if "settings" in options else None)
    else:
        logging.getLogger("gateway").critical("prepaid %s ended by a fault of its own", options.command, exc_info=error)
        return FAILED
    print(f"prepaid {options.command}: {words}", file=sys.stderr)
    return AWAY if isinstance(said, DatabaseAway) else FAULTY


def _about_file(error: OSError, settings: Settings | None) -> str:
    """What the system says, with the file's path and what the settings want it for."""
    files = settings.files() if settings is not None else []
    if error.filename is None:
        # TLS says of a missing file only that it is missing.
        missing = [f"{where} {path}" for where, path in files if not Path(path).exists()]
        is_missing = missing and isinstance(error, FileNotFoundError)
        return f"{', '.join(missing)}: {error.strerror}" if is_missing else str(error)
    path = str(error.filename)
    named = " ".join([*(where for where, used in files if used == path), path])
    return f"{named}: {error.strerror or error}"


def _parser(asked: str | None) -> argparse.ArgumentParser:
    """Of the command that is asked for; of all, if it is none of ours."""
    parser = argparse.ArgumentParser(
        prog="prepaid", description="Prepaid electricity, bought from any phone, exactly once."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        return added

    def configured(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = command(name, run, about)
        added.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings, a TOML file")
        return added

    configured("serve", _serve, "run the gateway until it is told to stop")
    configured("migrate", _migrate, "create the database's tables, or bring them to this version")
    configured("check", _check, "try settings, database, keys and links, and name every fault")
    loading = configured("load", _load, "load a utility's records from a folder of CSV files; twice changes nothing")
    loading.add_argument("folder", type=Path, help="the folder; docs/bulk.md describes its files")

    topics.add_commands(commands, asked)
    demo = command("demo", _demo, "see it work: a sample utility, a message centre and meters, all on this machine")
    demo.add_argument("--once", action="store_true", help="end after the conversation; 0 only if every step was right")
    demo.add_argument("--folder", type=Path, default=None, help="keep the demonstration's files here")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    options.settings = settings = load(options.config, os.environ)
    return settings


def _until_told(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run until the work ends or SIGINT or SIGTERM sets its event."""

    async def run() -> None:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.on_loop_fault)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told.set)
        await work(told)

    asyncio.run(run())


def _serve(options: argparse.Namespace) -> int:
    from gateway import app

    settings = _settings(options)
    metrics = Metrics()
    logs.set_up(settings.log, on_masked=metrics.log_line_masked)

    async def work(told: asyncio.Event) -> None:
        async with app.opened(settings, RealWorld(), metrics) as gateway:
            # What is loaded now stays: the collector need not walk it again and again (a fifth of a purchase's time).
            gc.collect()
            gc.freeze()
            # Purchases leave hardly any cycles: seldom is enough. Measured, this halves the slowest answers.
            gc.set_threshold(20_000, 20, 50)
            serving = asyncio.create_task(gateway.run())
            stopping = asyncio.create_task(told.wait())
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not serving.done():
                logging.getLogger("gateway").info("stopping")
                serving.cancel()
            try:
                await serving
            except asyncio.CancelledError:
                pass  # we asked for it

    _until_told(work)
    return 0


def _migrate(options: argparse.Namespace) -> int:
    settings = _settings(options)
    before, after = asyncio.run(migrate(settings.database.url_with_password()))
    print(f"database: version {before or 'none'} before, {after} now")
    return 0


def _check(options: argparse.Namespace) -> int:
    from gateway import check

    settings = _settings(options)
    logs.set_up(settings.log)
    findings = asyncio.run(check.check(settings))
    for finding in findings:
        print(f"{'ok   ' if finding.is_well else 'FAULT'} {finding.part}: {finding.said}")
    return 0 if all(finding.is_well for finding in findings) else FAULTY


def _load(options: argparse.Namespace) -> int:
    settings = _settings(options)
    logs.set_up(settings.log)

    async def work() -> Report:
        world = RealWorld()
        local = world.now().astimezone(settings.utility.zone)
        store = await open_store(settings.database.url_with_password())
        try:
            origin = Origin(who=place(), at=world.now(), place=place())
            return await load_folder(store, options.folder, settings.utility, world, local, origin)
        finally:
            await store.close()

    report = asyncio.run(work())
    for name, count in report.counts.items():
        print(f"{count:7d} {name}")
    for sentence in report.told():
        print(sentence)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from gateway import demo

    return demo.main(options.folder, once=options.once)


if __name__ == "__main__":
    sys.exit(main())
