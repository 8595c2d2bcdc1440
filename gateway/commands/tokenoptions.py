"""What the `prepaid token` commands share: options that name a meter's key, the module that has it, answers. Shell.

Vending keys come from the key store or standard input, never from the command line, and are never shown.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from config.load import SettingsFaults, load
from config.settings import Settings
from gateway import keysession
from gateway.engineering import Made, MeterUnknown
from gateway.modules import load_module
from gateway.waited import WaitedModule
from gateway.world import World
from ledger.audit import Origin
from ledger.meters import SaleOfToken
from ledger.operators import OperatorRefused
from ledger.schema import DatabaseVersion
from sts import tid as tids
from sts.derivation import VendingKey
from sts.errors import Fault, StsError
from sts.explain import Calendar, Candidate, Facts, lines_of, offset
from sts.meterkey import MeterKey
from sts.modules.contract import SecurityModule
from sts.modules.records import VendingKeyRecord
from sts.modules.software import SoftwareModule
from sts.numbers import IIN_11, IIN_13
from sts.tables import SAMPLE, TableSet, TableSetError, table_set_from

WELL: Final = 0
NO: Final = 1
UNUSABLE: Final = 2

TABLES_BYTES_MAX: Final = 64 * 1024
_KEY_LINE_MAX: Final = 200

FindMeter = Callable[[Settings, str], Sequence[Candidate]]
"""The keys that the books know for a meter number, the present one first; none for an unknown meter."""
FindSale = Callable[[Settings, str, str], SaleOfToken | None]
"""The sale in which a token of 20 digits was made for a meter number."""
MakeInBooks = Callable[[Settings, SecurityModule, World, str, int, int, Origin], Made]
"""An engineering token for a meter number, of this subclass and value, stored in the books."""


OpenModule = Callable[[Settings], SecurityModule]
"""The security module of the settings, with the keys that the books allow."""
Approve = Callable[[argparse.Namespace, World], Origin]
"""Sign in whoever makes a token by hand, and whoever approves it, and put both on record."""


class Unusable(Exception):
    """What was given cannot be used; the message says what and why."""


def answering(work: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command with every refusal turned into a sentence and an exit code."""

    def run(options: argparse.Namespace) -> int:
        try:
            return work(options)
        except OperatorRefused as error:
            sys.stderr.write(f"prepaid token {options.token_command}: {error}\n")
            return NO
        except (Unusable, keysession.Unusable, StsError, SettingsFaults, MeterUnknown, DatabaseVersion) as error:
            sys.stderr.write(f"prepaid token {options.token_command}: {error}\n")
            return UNUSABLE
        except OSError as error:
            if error.filename is None:
                raise  # not about a file: the database is away, which `main` has words and a code for
            sys.stderr.write(f"prepaid token {options.token_command}: {error}\n")
            return UNUSABLE

    return run


def say(text: str) -> None:
    """A line of the answer."""
    sys.stdout.write(text + "\n")


def say_facts(facts: Facts, as_json: bool) -> None:
    """Facts as lines for people, or as one JSON object."""
    for line in [json.dumps(facts)] if as_json else lines_of(facts):
        say(line)


# --- options ----------------------------------------------------------------------------------------------------------


# The members of a MeterKey by their options; what is not given comes from the books, or from these defaults.
_IDENTITY: Final[tuple[tuple[str, str, type, str], ...]] = (
    ("supply-group", "supply_group", str, "SGC"),
    ("key-type", "key_type", int, "KT"),
    ("tariff-index", "tariff_index", str, "TI"),
    ("revision", "key_revision", int, "KRN"),
    ("expiry", "key_expiry", int, "KEN"),
    ("base-date", "base_date", int, "YEAR"),
)
_IDENTITY_DEFAULTS: Final = {"key_type": 2, "key_expiry": 255}


def add_identity(parser: argparse.ArgumentParser, prefix: str) -> None:
    """Options that name a meter's key; with a prefix (`previous-`, `to-`), another key of the same meter."""
    if not prefix:
        parser.add_argument("--meter", metavar="DRN", help="meter number, 11 or 13 digits")
        parser.add_argument("--iin", help="issuer number; by default the one that goes with the meter number")
        parser.add_argument("--ea", type=int, metavar="EA", help="7 (STA) or 11 (MISTY1)")
        parser.add_argument("--generation", dest="dkga", type=int, metavar="DKGA", help="2 (DES) or 4 (HMAC)")
    for name, member, kind, metavar in _IDENTITY:
        default = _IDENTITY_DEFAULTS.get(member)
        about = f"by default {default}" if default is not None and not prefix else None
        dest = prefix.replace("-", "_") + member
        parser.add_argument(f"--{prefix}{name}", dest=dest, type=kind, metavar=metavar, help=about)


def add_keys(parser: argparse.ArgumentParser, more: str) -> None:
    """Options that say where vending keys come from; `more`: what else is read from standard input."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", type=Path, metavar="FILE", help="settings; keys and EA07 tables as they say")
    group.add_argument(
        "--test-key",
        action="store_true",
        help=f"read the vending key's hex digits from standard input, or ask for them; {more}",
    )
    parser.add_argument("--tables", type=Path, metavar="FILE", help="operational EA07 tables, with --test-key")


def add_offsets(parser: argparse.ArgumentParser) -> None:
    """Options for zones: of the TIDs, and of the times shown."""
    parser.add_argument(
        "--base-offset",
        type=int,
        metavar="MINUTES",
        help="zone that TIDs count in, east of Greenwich; by default as in the settings, or 0",
    )
    parser.add_argument(
        "--offset", type=int, metavar="MINUTES", help="show times in this zone too; by default the utility's, if set"
    )


def settings_of(options: argparse.Namespace) -> Settings | None:
    """The settings that `--config` names, if it was given."""
    return load(options.config, os.environ) if options.config is not None else None


def calendar_of(options: argparse.Namespace, settings: Settings | None) -> Calendar:
    """The zones of TIDs and of times shown; refuses OUT_OF_RANGE beyond 14 hours."""
    base = options.base_offset
    if base is None:
        base = settings.sts.base_date_offset_minutes if settings else 0
    tids.base_start(2014, base)  # refuses an offset beyond 14 hours
    if options.offset is not None:
        tids.base_start(2014, options.offset)
        return Calendar(base, offset(options.offset))
    return Calendar(base, settings.utility.zone if settings else None)


def candidates_of(options: argparse.Namespace, settings: Settings | None) -> list[Candidate]:
    """The meter's keys: as the books know them, or as options name them; a given option wins."""
    if options.meter is None:
        raise Unusable("--meter: a meter number expected")
    find: FindMeter | None = options.find_meter
    found = list(find(settings, options.meter)) if find is not None and settings is not None else []
    members = ("iin", "ea", "dkga", *(member for _, member, _, _ in _IDENTITY))
    given = {member: value for member in members if (value := getattr(options, member)) is not None}
    if found:
        return [replace(found[0], key=replace(found[0].key, **given)), *found[1:]]
    facts: dict[str, Any] = {"iin": IIN_11 if len(options.meter) == 11 else IIN_13, **_IDENTITY_DEFAULTS, **given}
    missing = [f"--{name}" for name, member, _, _ in _IDENTITY if member not in facts]
    missing += [f"--{name}" for name, member in (("ea", "ea"), ("generation", "dkga")) if member not in facts]
    if missing:
        raise Unusable(f"the meter's key is not known in full; missing: {', '.join(missing)}")
    return [Candidate("present", MeterKey(drn=options.meter, **facts))]


def changed(key: MeterKey, options: argparse.Namespace, prefix: str) -> MeterKey:
    """This key with what the options of a prefix (`previous_`, `to_`) say otherwise."""
    given = {member: value for _, member, _, _ in _IDENTITY if (value := getattr(options, prefix + member)) is not None}
    return replace(key, **given)


# --- keys -------------------------------------------------------------------------------------------------------------


def _read_vending_key(dkga: int, which: str) -> VendingKey:
    """A vending key from standard input; nothing of it is repeated, whatever it is."""
    asked = f"{which} vending key, hex digits: "
    try:
        digits = getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline(_KEY_LINE_MAX)
        raw = bytes.fromhex(digits.strip())
    except ValueError:  # also what is no UTF-8, whose error would carry the line along
        raise Unusable(f"{which} vending key: hex digits expected") from None
    if not raw:
        raise Unusable(f"{which} vending key: hex digits on standard input expected")
    return VendingKey(dkga, raw)


def module_under_test_keys(options: argparse.Namespace, keys: Sequence[tuple[str, MeterKey]]) -> SoftwareModule:
    """A module with the vending keys of these handles, asked for in order, once for each name."""
    records: dict[tuple[object, ...], VendingKeyRecord] = {}
    for which, key in keys:
        name = (key.supply_group, key.key_revision, key.key_type, key.dkga, key.base_date)
        if name not in records:
            records[name] = VendingKeyRecord(
                key.supply_group,
                key.key_revision,
                key.key_type,
                key.base_date,
                255,
                _read_vending_key(key.dkga, which),
            )
    return SoftwareModule(records.values(), tables=tables_from(options.tables) or SAMPLE)


def configured_module(options: argparse.Namespace, settings: Settings) -> SecurityModule:
    """The security module of the settings, with the keys of their key store."""
    if options.tables is not None:
        raise Unusable("--tables: with --config the settings name the tables")
    opening: OpenModule = options.open_module or load_module
    module = opening(settings)
    if not module.status().keys:
        raise Unusable(
            "no vending key is in use: the settings name no key store and no module that has one, or nobody has "
            "activated it (`prepaid keys list`)"
        )
    return module if module.answers_at_once else WaitedModule(module)


def let_go(module: SecurityModule | None) -> None:
    """Close a module that was opened for one command."""
    if isinstance(module, WaitedModule):
        module.close()


def tables_from(path: Path | None) -> TableSet | None:
    """The EA07 tables in a file; refuses TABLE_SET for what is none. Not a character of the file is repeated."""
    if path is None:
        return None
    with path.open("rb") as file:
        raw = file.read(TABLES_BYTES_MAX + 1)
    try:
        text = raw[:TABLES_BYTES_MAX].decode("utf-8") if len(raw) <= TABLES_BYTES_MAX else ""
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise TableSetError(Fault.TABLE_SET, f"table file: JSON text of at most {TABLES_BYTES_MAX} bytes expected")
    return table_set_from(text, path.stem)
