"""Takes in a utility's records from a folder of files: the short way of importing them one by one. Shell.

Every file is read and checked before anything is stored; all faults are told at once, by file and line. Loading the
same folder twice changes nothing; where a record that is there already differs from the file, that is told.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from config import languages
from config.settings import UtilitySettings
from gateway.bulk.forms import FORMS
from gateway.bulk.lines import format_of, sha256_of
from gateway.bulk.progress import Progress
from gateway.bulk.row import Terms
from gateway.bulk.run import Import, Report, Source
from gateway.world import World
from ledger import audit, records
from ledger.audit import Origin
from ledger.bulk.kind import Occasion
from ledger.bulk.scratch import Scratch
from ledger.store import SqliteStore, Store

_NEEDED: Final = ("tariffs", "customers", "meters", "stations", "debts")
FAULTS_TOLD: Final = 1000
"""More are not told, but counted."""


class IntakeFaults(Exception):
    """The folder cannot be loaded; nothing was. `faults` are sentences with file and line."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def terms_of(utility: UtilitySettings, world: World) -> Terms:
    """What lines are read by at this utility."""
    known = sorted(languages.load(utility.default_language).languages)
    now = world.now()
    return Terms(utility.minor_digits, utility.iin, known, now, now.astimezone(utility.zone).date())


def occasion_of(utility: UtilitySettings, world: World, local: datetime, origin: Origin | None) -> Occasion:
    """What storing needs; `local` is now at the utility."""
    return Occasion(world.now(), local, world.new_id, utility.currency, origin)


async def load_folder(
    store: Store,
    folder: Path,
    utility: UtilitySettings,
    world: World,
    local: datetime,
    origin: Origin | None = None,
) -> Report:
    """Load the files of a folder. Counters start at the local month and day of `local`. Raises IntakeFaults.

    With an `origin` the audit log says that records are being stored, and from which files.
    """
    forms = {name: folder / form.file for name, form in FORMS.items()}
    if missing := [path.name for name, path in forms.items() if name in _NEEDED and not path.is_file()]:
        raise IntakeFaults([f"{name}: not found in {folder}" for name in missing])
    sources = [Source(FORMS[name], path, format_of(path)) for name, path in forms.items() if path.is_file()]
    with Scratch() as scratch:
        work = Import(
            scratch,
            sources,
            read=store.read,
            write=store.transact,
            terms=terms_of(utility, world),
            occasion=occasion_of(utility, world, local, origin),
            progress=Progress(sys.stderr),
            is_shared=isinstance(store, SqliteStore),
        )
        work.lay_out()
        report = await work.check()
        faults, _ = work.faults()
        if faults:
            raise IntakeFaults(faults_told(work, scratch, FAULTS_TOLD))
        hashes = {source.path.name: sha256_of(source.path) for source in sources}
        await store.transact(lambda connection: _begin(connection, utility, origin, folder, report, hashes))
        return await work.store()


def _begin(
    connection: Any,
    utility: UtilitySettings,
    origin: Origin | None,
    folder: Path,
    report: Report,
    hashes: dict[str, str],
) -> None:
    """Have the accounts in the chart that every utility has; note what is about to be stored."""
    records.ensure_accounts(connection, records.SYSTEM_ACCOUNTS, utility.currency)
    if origin is not None and report.writes:
        found = {"files": hashes, "lines": report.lines, "records": report.writes}
        audit.note(connection, origin, "records.load", folder.name, None, found)


def faults_told(work: Import, scratch: Scratch, most: int) -> list[str]:
    """The first faults as sentences, and how many more there are."""
    told = [work.sentence(fault) for fault, _ in zip(scratch.faults(), range(most), strict=False)]
    more = work.faults()[0] - len(told)
    return [*told, f"and {more} more"] if more else told
