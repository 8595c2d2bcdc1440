"""What `prepaid keys`, `operators` and `audit` share: the people who sign in, secrets, the open books, answers. Shell.

Secrets are asked for at the terminal, or read from standard input, a line each, in the order: password of --as, of
--with, then what the command itself asks for. None is ever taken from the command line. The key store opens as the
gateway opens it (`gateway/unlock.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import platform
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from config.load import SettingsFaults, load
from config.settings import Settings
from gateway import custody
from gateway.custody import KeyPlace, KeyStore
from gateway.keyplaces import place_of
from gateway.unlock import master_key_of
from gateway.world import World
from ledger import operators, vendingkeys
from ledger.audit import ChainBroken, Origin
from ledger.bankdays import BankDayRefused
from ledger.changes import ChangeRefused
from ledger.corrections import CorrectionRefused
from ledger.operators import Operator, OperatorRefused
from ledger.schema import DatabaseVersion
from ledger.settlement import SettlementRefused
from ledger.stations import StationRefused
from ledger.store import Store, is_sqlite, open_store, sqlite_path
from ledger.tariffs import TariffRefused
from ledger.vendingkeys import CustodyRefused, KeyId
from sts.errors import StsError
from sts.modules.keyfile import KeyFileRefused, sealing_key_from, sealing_key_of
from sts.modules.keystore import MasterKey

WELL: Final = 0
NO: Final = 1
UNUSABLE: Final = 2

_T = TypeVar("_T")
_SECRET_MAX: Final = 2_000


class Unusable(Exception):
    """What was given cannot be used; the message says what and why."""


Command = Callable[["Session"], int]


class Group:
    """One command with its sub-commands."""

    def __init__(self, subparsers: Any, name: str, about: str, world: World) -> None:
        self._name = name
        self._world = world
        parser = subparsers.add_parser(name, help=about, description=about)
        self._what = parser.add_subparsers(dest=f"{name}_command", required=True, metavar="WHAT")

    def command(
        self, name: str, work: Command, about: str, *, configured: bool = True, people: int = 0, needed: bool = True
    ) -> argparse.ArgumentParser:
        """A sub-command; `people` sign in, `needed` says whether the first has to."""
        parser: argparse.ArgumentParser = self._what.add_parser(name, help=about, description=about)
        _complete(parser, f"{self._name} {name}", work, self._world, configured, people, needed)
        return parser


def command(
    subparsers: Any, name: str, work: Command, about: str, world: World, *, people: int
) -> argparse.ArgumentParser:
    """A command without sub-commands, at which people sign in as at those of a group."""
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=about, description=about)
    _complete(parser, name, work, world, True, people, True)
    return parser


def _complete(
    parser: argparse.ArgumentParser,
    name: str,
    work: Command,
    world: World,
    configured: bool,
    people: int,
    needed: bool,
) -> None:
    if configured:
        parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings, a TOML file")
    for option, which in (("as", "who does it"), ("with", "the second person"))[:people]:
        parser.add_argument(
            f"--{option}",
            dest=f"{option}_login",
            metavar="LOGIN",
            required=needed and option == "as",
            help=f"{which}: an operator, whose password is asked for",
        )
        password = "--password-file" if option == "as" else "--with-password-file"
        parser.add_argument(
            password, dest=f"{option}_password", type=Path, metavar="FILE", help=f"the password of --{option}"
        )
    if people:
        parser.add_argument("--reason", default="", metavar="TEXT", help="why; it goes into the audit log")
    parser.set_defaults(run=_answering(name, work, world))


# The rules say no: a sentence, exit code 1, and a row in the audit log where somebody had signed in.
_REFUSED: Final = (
    OperatorRefused,
    CustodyRefused,
    ChangeRefused,
    CorrectionRefused,
    SettlementRefused,
    StationRefused,
    TariffRefused,
    BankDayRefused,
)


def _answering(name: str, work: Command, world: World) -> Callable[[argparse.Namespace], int]:
    """The command with every refusal turned into a sentence and an exit code."""

    def run(options: argparse.Namespace) -> int:
        try:
            return work(Session(options, name, world))
        except (*_REFUSED, ChainBroken) as error:
            sys.stderr.write(f"prepaid {name}: {error}\n")
            return NO
        except (Unusable, StsError, SettingsFaults, DatabaseVersion) as error:
            sys.stderr.write(f"prepaid {name}: {error}\n")
            return UNUSABLE
        except OSError as error:
            if error.filename is None:
                raise  # not about a file: the database is away, which `main` has words and a code for
            sys.stderr.write(f"prepaid {name}: {error}\n")
            return UNUSABLE

    return run


class OutputClosed(Exception):
    """Whoever read standard output reads no more, as `head` does. No OSError: it is nothing of the database's."""


def say(text: str) -> None:
    """Answer on standard output. Raises OutputClosed."""
    try:
        sys.stdout.write(f"{text}\n")
    except BrokenPipeError:
        raise OutputClosed from None


# --- a session: settings, secrets, people, books ----------------------------------------------------------------------


class Books:
    """The open database, with the people who signed in."""

    def __init__(self, store: Store, first: Operator | None, second: Operator | None, origin: Origin) -> None:
        self.store = store
        self.second = second
        self.origin = origin
        self._first = first

    @property
    def someone(self) -> Operator | None:
        """Who signed in first, if anybody."""
        return self._first

    @property
    def first(self) -> Operator:
        """Who signed in first."""
        assert self._first is not None, "a command that asks for --as"
        return self._first

    async def read(self, function: Callable[[Any], _T]) -> _T:
        """What a function of a reading connection gives."""
        return await self.store.read(function)

    async def write(self, function: Callable[[Any], _T]) -> _T:
        """What a function of a transaction gives, after its commit."""
        return await self.store.transact(function)

    async def key(self, text: str) -> KeyId:
        """The key written like this, in full or as far as it is the only one."""
        rows = await self.read(vendingkeys.report)
        name, at, module = text.partition("@")
        found = [
            row.id
            for row in rows
            if f"{row.id.own_name}/".startswith(f"{name.rstrip('/')}/") and (not at or row.id.module == module)
        ]
        if len(found) > 1:
            raise Unusable(f"key {text}: there are {', '.join(str(key) for key in found)}")
        if found:
            return found[0]
        try:
            return KeyId.read(text)
        except ValueError as error:
            raise Unusable(f"{error}") from None


class Session:
    """What a command works with. Settings and the passwords of people are read when it is made."""

    def __init__(self, options: argparse.Namespace, name: str, world: World) -> None:
        self.options = options
        self.world = world
        self._deed = name.replace(" ", ".")
        self.file_hash: str | None = None
        """Of the file that a refusal would be about."""
        self.subject = ""
        """What a refusal would be about, in the audit log; empty: a key that was named, or the command."""
        self.settings = load(options.config, os.environ) if "config" in options else Settings()
        self._zone = self.settings.utility.zone
        options.settings = self.settings  # so that `main` can tell which database does not answer
        self._people = [
            (login, self.secret(f"password of {login}: ", getattr(options, f"{which}_password")))
            for which in ("as", "with")
            if (login := getattr(options, f"{which}_login", None))
        ]

    def secret(self, asked: str, path: Path | None = None, *, twice: bool = False) -> str:
        """A secret from a file, the terminal or a line of standard input; without its line end."""
        if path is not None:
            return bytes_of(path, _SECRET_MAX).decode("utf-8", errors="replace").rstrip("\r\n")
        if not sys.stdin.isatty():
            return sys.stdin.readline(_SECRET_MAX).rstrip("\r\n")
        typed = getpass.getpass(asked)
        if twice and getpass.getpass(f"{asked.rstrip(': ')}, again: ") != typed:
            raise Unusable("typed differently the second time")
        return typed

    def minute(self, moment: datetime) -> str:
        """An instant as people are shown it: in the utility's time, with the zone's name."""
        return f"{moment.astimezone(self._zone):%Y-%m-%d %H:%M %Z}"

    def second(self, moment: datetime) -> str:
        """The same to the second."""
        return f"{moment.astimezone(self._zone):%Y-%m-%d %H:%M:%S %Z}"

    def key_store(self) -> KeyStore:
        """The key store of the settings, with whatever opens it."""
        if not self.settings.sts.keystore:
            raise Unusable("[sts] keystore: the settings name no key store")
        sts = self.settings.sts
        return KeyStore(Path(sts.keystore), master_key_of(sts), self.world.nonce, sts.module)

    def place(self, module: str | None = None) -> KeyPlace:
        """Where a module's keys lie: the key store's, unless another one is named."""
        name = module or self.settings.sts.module
        return self.key_store() if name == self.settings.sts.module else place_of(self.settings, name)

    def sealing_key(self, salt: bytes | None, *, new: bool = False) -> MasterKey:
        """The key of a transfer file: from --transfer-key-file, or a passphrase with this salt."""
        if self.options.transfer_key_file is not None:
            return sealing_key_from(self.secret("", self.options.transfer_key_file))
        if salt is None:
            raise Unusable("the file was sealed under a key, not a passphrase: --transfer-key-file expected")
        return sealing_key_of(self.secret("passphrase of the transfer file: ", twice=new), salt)

    def no_books(self) -> str:
        """Why there is no database to look into; empty if there is one. A first set-up may seal keys before."""
        url = self.settings.database.url_with_password()
        if is_sqlite(url) and not Path(sqlite_path(url)).exists():
            return "there is no database yet"
        try:
            asyncio.run(_try(url))
        except DatabaseVersion as error:
            return str(error)
        return ""

    def in_books(self, work: Callable[[Books], Awaitable[_T]]) -> _T:
        """Open the database, sign people in, work. A refusal of somebody signed in is noted in the audit log."""
        return asyncio.run(self._in_books(work))

    async def _in_books(self, work: Callable[[Books], Awaitable[_T]]) -> _T:
        store = await open_store(self.settings.database.url_with_password())
        try:
            signed_in = [await self._signed_in(store, login, password) for login, password in self._people]
            first, second = [*signed_in, None, None][:2]
            origin = Origin(
                who=first.login if first else place(),
                at=self.world.now(),
                place=place(),
                reason=getattr(self.options, "reason", ""),
            )
            try:
                return await work(Books(store, first, second, origin))
            except (*_REFUSED, KeyFileRefused) as refusal:
                if first is not None:
                    fault = _fault_of(refusal)
                    about = self.subject or " ".join(listed(getattr(self.options, "key", None)) or [self._deed])
                    await store.transact(
                        lambda connection: custody.refused(connection, self._deed, about, origin, fault, self.file_hash)
                    )
                raise
        finally:
            await store.close()

    async def _signed_in(self, store: Store, login: str, password: str) -> Operator:
        tried = await store.read(lambda connection: operators.attempt(connection, login))
        fits = tried.fits(password)  # slow by intention, so outside of any transaction
        now = self.world.now()
        answer = await store.transact(lambda connection: operators.settle(connection, tried, fits, now, place()))
        if isinstance(answer, OperatorRefused):
            raise answer
        return answer


def _fault_of(refusal: Exception) -> str:
    """The stable name of why, where a refusal has one; else its sentence."""
    fault = refusal.kind if isinstance(refusal, KeyFileRefused) else getattr(refusal, "fault", None)
    return str(fault.value) if isinstance(fault, Enum) else str(refusal)


async def _try(url: str) -> None:
    await (await open_store(url)).close()


def place() -> str:
    """Where this command is given: the account and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"terminal {user}@{platform.node()}"


def bytes_of(path: Path, longest: int) -> bytes:
    """What a file holds; refused if it is longer."""
    with path.open("rb") as file:
        raw = file.read(longest + 1)
    if len(raw) > longest:
        raise Unusable(f"{path}: at most {longest} bytes expected")
    return raw


def write_new(path: Path, raw: bytes) -> None:
    """Write a file that nobody else may read, and that is not there yet."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def listed(value: Any) -> list[str]:
    """An option that was given never, once or again."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def minute(moment: datetime) -> str:
    """An instant of keys, modules and their files, which live by UTC."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
