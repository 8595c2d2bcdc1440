"""The command line: `prepaid serve | migrate | check | load | keys | demo`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import getpass
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from config.load import SettingsFaults, load
from config.settings import Settings
from gateway import app, check, logs, meterdesk, tokentools
from gateway.intake import IntakeFaults, read_folder, store_intake
from gateway.keyfile import write_keystore
from gateway.metrics import Metrics
from gateway.world import RealWorld
from ledger.schema import DatabaseVersion
from ledger.store import migrate, open_store
from sts.derivation import VendingKey
from sts.errors import StsError
from sts.modules.keystore import MASTER_KEY_BYTES, NONCE_BYTES, master_key_from, read_keystore, seal
from sts.modules.records import VendingKeyRecord

FAULTY = 2  # exit code for settings or input that cannot be used; nothing was started


class Unusable(Exception):
    """What was given cannot be used; the message says what and why."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (SettingsFaults, IntakeFaults, DatabaseVersion, StsError, Unusable, OSError) as error:
        print(f"prepaid {options.command}: {error}", file=sys.stderr)
        return FAULTY
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
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
    loading.add_argument("folder", type=Path, help="the folder; gateway/sample/README.md describes its files")

    keys = command("keys", lambda options: int(options.keys_run(options)), "look after the sealed vending keys")
    what = keys.add_subparsers(dest="keys_command", required=True, metavar="WHAT")
    master = what.add_parser("new-master", help="write a new master key to a file that does not exist yet")
    master.add_argument("file", type=Path)
    master.set_defaults(keys_run=_new_master)
    adding = what.add_parser("add", help="seal one more vending key; its hex digits are asked for or read from stdin")
    adding.add_argument("--config", type=Path, required=True, metavar="FILE")
    adding.add_argument("--supply-group", required=True, metavar="SGC")
    adding.add_argument("--revision", required=True, type=int, metavar="KRN")
    adding.add_argument("--type", type=int, default=2, metavar="KT")
    adding.add_argument("--generation", type=int, choices=(2, 4), required=True, help="DKGA: 2 (8 bytes) or 4 (20)")
    adding.add_argument("--base-date", type=int, choices=(1993, 2014, 2035), default=2014)
    adding.add_argument("--expiry", type=int, default=255, metavar="KEN")
    adding.set_defaults(keys_run=_add_key)
    listing = what.add_parser("list", help="show the sealed keys by their check values")
    listing.add_argument("--config", type=Path, required=True, metavar="FILE")
    listing.set_defaults(keys_run=_list_keys)

    tokentools.add_commands(
        commands,
        find_meter=meterdesk.find_meter,
        find_sale=meterdesk.find_sale,
        make_in_books=meterdesk.make_management,
    )
    demo = command("demo", _demo, "see it work: a sample utility, a message centre and meters, all on this machine")
    demo.add_argument("--once", action="store_true", help="end after the conversation; 0 only if every step was right")
    demo.add_argument("--folder", type=Path, default=None, help="keep the demonstration's files here")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, os.environ)


def _until_told(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run until the work ends or SIGINT or SIGTERM sets its event."""

    async def run() -> None:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told.set)
        await work(told)

    asyncio.run(run())


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    metrics = Metrics()
    logs.set_up(settings.log, on_masked=metrics.log_line_masked)

    async def work(told: asyncio.Event) -> None:
        async with app.opened(settings, RealWorld(), metrics) as gateway:
            # What is loaded now stays: the collector need not walk it again and again (a fifth of a purchase's time).
            gc.collect()
            gc.freeze()
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
    settings = _settings(options)
    logs.set_up(settings.log)
    findings = asyncio.run(check.check(settings))
    for finding in findings:
        print(f"{'ok   ' if finding.is_well else 'FAULT'} {finding.part}: {finding.said}")
    return 0 if all(finding.is_well for finding in findings) else FAULTY


def _load(options: argparse.Namespace) -> int:
    settings = _settings(options)
    logs.set_up(settings.log)

    async def work() -> dict[str, int]:
        world = RealWorld()
        local = world.now().astimezone(app.zone(settings))
        intake = read_folder(options.folder, settings.utility, local, world.new_id)
        store = await open_store(settings.database.url_with_password())
        try:
            await store_intake(store, intake, settings.utility, world, local)
        finally:
            await store.close()
        return intake.counts

    for name, count in asyncio.run(work()).items():
        print(f"{count:7d} {name}")
    return 0


def _new_master(options: argparse.Namespace) -> int:
    text = RealWorld().nonce(MASTER_KEY_BYTES).hex() + "\n"
    handle = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    print(f"a new master key is in {options.file}; whoever has it can open the key store, whoever loses it cannot")
    return 0


def _keystore(settings: Settings) -> Path:
    if not settings.sts.keystore:
        raise Unusable("[sts] keystore: the settings name no key store")
    return Path(settings.sts.keystore)


def _add_key(options: argparse.Namespace) -> int:
    settings = _settings(options)
    path, master_key = _keystore(settings), master_key_from(settings.sts.master_key.reveal())
    records = list(read_keystore(path, master_key)) if path.exists() else []
    digits = getpass.getpass("vending key, hex digits: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        raw = bytes.fromhex(digits.strip())
    except ValueError:
        raise Unusable("vending key: hex digits expected") from None
    record = VendingKeyRecord(
        supply_group=options.supply_group,
        key_revision=options.revision,
        key_type=options.type,
        base_date=options.base_date,
        key_expiry=options.expiry,
        key=VendingKey(options.generation, raw),
    )
    records.append(record)
    write_keystore(path, seal(records, master_key, [RealWorld().nonce(NONCE_BYTES) for _ in records]))
    print(f"sealed: supply group {record.supply_group}, revision {record.key_revision}, KCV {record.status.kcv}")
    return 0


def _list_keys(options: argparse.Namespace) -> int:
    settings = _settings(options)
    records = read_keystore(_keystore(settings), master_key_from(settings.sts.master_key.reveal()))
    for record in records:
        status = record.status
        print(
            f"supply group {status.supply_group} revision {status.key_revision} type {status.key_type} "
            f"DKGA{status.dkga:02d} base date {status.base_date} KEN {status.key_expiry} KCV {status.kcv}"
        )
    return 0


def _demo(options: argparse.Namespace) -> int:
    from gateway import demo

    return demo.main(options.folder, once=options.once)


if __name__ == "__main__":
    sys.exit(main())
