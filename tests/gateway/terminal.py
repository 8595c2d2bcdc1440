"""A utility with its people and a terminal to type at, for tests of commands at a counter."""

from __future__ import annotations

import argparse
import asyncio
import io
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.commands import corrections as corrections_commands
from gateway.commands import customers as customers_commands
from gateway.commands import deposits as deposits_commands
from gateway.commands import readings as readings_commands
from gateway.commands import sell as sell_commands
from gateway.commands import settlement as settlement_commands
from gateway.commands import shifts as shifts_commands
from gateway.commands import stations as stations_commands
from gateway.commands import suspense as suspense_commands
from gateway.custody import approve_sample_keys
from gateway.intake import load_folder
from gateway.keyfile import write_keystore
from ledger import audit, operators, stations, tables
from ledger.accounts import id_of
from ledger.audit import Origin, Verified
from ledger.operators import Cost, Operator, Role
from ledger.store import migrate, open_store
from ledger.trial_balance import broken_invariants
from sts.modules.keystore import NONCE_BYTES, MasterKey, seal
from tests.simulation.shop import SAMPLE, UTILITY, sample_keys
from tests.simulation.world import SeededWorld

MASTER = bytes(range(32))
PEOPLE: dict[str, tuple[Role, str | None]] = {
    "adm.lee": (Role.ADMIN, None),
    "op.ann": (Role.VENDOR, "ST001"),
    "op.ben": (Role.SUPERVISOR, "ST001"),
    "op.cat": (Role.VENDOR, "ST001"),
    "ag.njeri": (Role.VENDOR, "ST002"),
    "fin.zoe": (Role.FINANCE, None),
    "fin.max": (Role.FINANCE, None),
    "cc.pam": (Role.SUPPORT, None),
    "aud.kay": (Role.AUDITOR, None),
}
METER, OTHER = "04012345676", "07003012213"
CHEAP = Cost(log2_n=4)


@dataclass
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass
class Terminal:
    """A utility with its people, and a terminal to type at."""

    folder: Path
    url: str
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    world: SeededWorld = field(default_factory=SeededWorld)
    tools: tuple[Any, ...] = (
        corrections_commands,
        customers_commands,
        readings_commands,
        sell_commands,
        stations_commands,
        deposits_commands,
        shifts_commands,
        settlement_commands,
        suspense_commands,
    )
    _parser: tuple[tuple[Any, ...], argparse.ArgumentParser] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "prepaid.toml"

    def set_up(self) -> Terminal:
        (self.folder / "master.key").write_text(MASTER.hex())
        keys = sample_keys()
        nonces = [bytes([n] * NONCE_BYTES) for n in range(len(keys))]
        write_keystore(self.folder / "keys.json", seal(keys, MasterKey(MASTER), nonces))
        self.config.write_text(
            f'[utility]\ncode = "{UTILITY.code}"\nname = "{UTILITY.name}"\ncurrency = "KES"\n'
            f'timezone = "{UTILITY.timezone}"\ndebt_cap_percent = "80"\n[database]\nurl = "{self.url}"\n'
            f'[counter]\nwait_s = 0.2\ndenominations = "1000 500 200 100 50 40 20 10 5 1"\n'
            f'[sts]\nkeystore = "{self.folder / "keys.json"}"\nmaster_key_file = "{self.folder / "master.key"}"\n'
        )

        async def load() -> None:
            await migrate(self.url)
            store = await open_store(self.url)
            try:
                now = self.world.now()
                await load_folder(store, SAMPLE, UTILITY, self.world, now)
                await store.transact(lambda connection: approve_sample_keys(connection, keys, now))
                await store.transact(lambda connection: _hire(connection, now))
            finally:
                await store.close()

        asyncio.run(load())
        return self

    def type(self, line: str, *lines: str) -> Answer:
        """Type a command; the passwords of its people come first on standard input, then these lines."""
        words = shlex.split(line)
        logins = [words[words.index(option) + 1] for option in ("--as", "--with") if option in words]
        typed = [*(f"password of {login}" for login in logins), *lines]
        self.monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{x}\n" for x in typed)))
        options = self.parser().parse_args([*words, "--config", str(self.config)])
        code = options.run(options)
        said = self.capsys.readouterr()
        return Answer(code, said.out, said.err)

    def parser(self) -> argparse.ArgumentParser:
        """Of all its commands; made once, because that takes longer than most of them."""
        if self._parser is None or self._parser[0] is not self.tools:
            parser = argparse.ArgumentParser()
            commands = parser.add_subparsers(required=True)
            for tools in self.tools:
                tools.add_commands(commands, world=self.world)
            self._parser = self.tools, parser
        return self._parser[1]

    def well(self, line: str, *lines: str) -> str:
        answer = self.type(line, *lines)
        assert (answer.code, answer.err) == (0, ""), answer
        return answer.out

    def no(self, line: str, words: str, code: int = 1) -> None:
        """The command is refused with these words, and the books are as before."""
        before = self.read(_picture)
        answer = self.type(line)
        assert answer.code == code and words in answer.err + answer.out, answer
        assert self.read(_picture) == before

    def read(self, function: Callable[[Any], Any]) -> Any:
        async def work() -> Any:
            store = await open_store(self.url)
            try:
                return await store.transact(function)
            finally:
                await store.close()

        return asyncio.run(work())

    def balance(self, account: str) -> int:
        p = tables.posting.c
        wanted = sa.select(sa.func.coalesce(sa.func.sum(p.amount_minor), 0)).where(p.account_id == id_of(account))
        return int(self.read(lambda connection: connection.execute(wanted).scalar_one()))

    def check(self) -> None:
        broken = self.read(broken_invariants)
        assert not broken, broken
        assert isinstance(self.read(audit.verify), Verified)


def _picture(connection: sa.Connection) -> Any:
    money = connection.execute(sa.select(tables.limited_balance).order_by(tables.limited_balance.c.account_id)).all()
    return money, stations.everyone(connection)


def _hire(connection: sa.Connection, now: Any) -> None:
    by = None
    for login, (role, station) in PEOPLE.items():
        new = Operator(login, login, frozenset({role}), "en", station)
        origin = Origin(by.login if by else "test", now, "test")
        operators.add(connection, new, f"password of {login}", bytes(16), by=by, origin=origin, cost=CHEAP)
        by = by or new
