"""`prepaid meters`: an engineer asks for a key change and confirms it; nobody else does, nothing without a change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.__main__ import main
from ledger import audit
from ledger.store import open_store
from tests.gateway.commands.staff import hire
from tests.simulation.shop import METER, open_counter

PASSWORDS = {"adm.lee": "lee's long password", "eng.raj": "raj's long password", "fin.zoe": "zoe's long password"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of the sample utility with three operators."""
    url = f"sqlite:///{tmp_path}/t.db"

    async def load() -> None:
        async with open_counter(url):
            pass

    asyncio.run(load())
    path = tmp_path / "prepaid.toml"
    path.write_text(f'[database]\nurl = "{url}"\n')
    for login, password in PASSWORDS.items():
        (tmp_path / login).write_text(password + "\n")
    hire(path, {"adm.lee": "ADMIN", "eng.raj": "ENGINEER", "fin.zoe": "FINANCE"})
    return path


def _meters(config: Path, deed: str, login: str, *more: str) -> int:
    signed = ["--as", login, "--password-file", str(config.parent / login)] if login else []
    return main(["meters", deed, "--config", str(config), *signed, METER, *more])


def test_an_engineer_asks_for_a_key_change_and_confirms_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _meters(config, "change-key", "fin.zoe", "--to-revision", "3") == 1
    assert _meters(config, "key-changed", "eng.raj") == 2
    assert _meters(config, "change-key", "eng.raj") == 2
    assert _meters(config, "change-key", "eng.raj", "--to-revision", "3") == 0
    assert _meters(config, "change-key", "eng.raj", "--to-revision", "3") == 2
    capsys.readouterr()
    assert _meters(config, "show", "") == 0
    assert "to be changed to 600801.2.01.3.255.2014.7.2, not given out yet" in capsys.readouterr().out
    assert _meters(config, "key-changed", "eng.raj") == 0
    assert "key 600801.2.01.3.255.2014.7.2" in capsys.readouterr().out

    async def deeds() -> list[tuple[str, str]]:
        store = await open_store(f"sqlite:///{config.parent}/t.db")
        rows = await store.read(lambda connection: audit.latest(connection, 20))
        await store.close()
        return [(row.who, row.deed) for row in rows if row.deed.startswith("meter.")]

    assert asyncio.run(deeds()) == [("eng.raj", "meter.ask_key_change"), ("eng.raj", "meter.confirm_key_change")]


def test_a_meter_that_nobody_has_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["meters", "show", "--config", str(config), "04012345601"]) == 2
    assert "no meter 04012345601" in capsys.readouterr().err
