"""`prepaid check`: every part is tried, every fault is named, and nothing is changed.

Covers: a set-up that is well, each part at fault, all faults at once, and what must not happen: a bind, a new database.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.kinds import Secret
from config.settings import (
    DatabaseSettings,
    HttpSettings,
    Pkcs11Settings,
    PrismSettings,
    Settings,
    SmppSettings,
    StsSettings,
    UssdSettings,
)
from gateway.check import Finding, check
from gateway.custody import approve_sample_keys
from gateway.demo import make_keys
from gateway.keyfile import write_keystore
from gateway.unlock import records_of
from gateway.world import RealWorld
from ledger.store import migrate, open_store
from sts.modules.keystore import MASTER_KEY_BYTES, NONCE_BYTES, MasterKey, seal
from tests.channels.smpp.rig import message_centre

WORLD = RealWorld()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port(taken_port: int) -> Iterator[int]:
    """A port of loopback that nobody listens on: bound, not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def link(port: int, name: str = "one", **changes: object) -> SmppSettings:
    return replace(SmppSettings(name=name, host="127.0.0.1", port=port, system_id="us"), **changes)  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A set-up without links; its database is not made yet."""
    master = WORLD.nonce(MASTER_KEY_BYTES)
    held = make_keys(WORLD, ["600801"])
    write_keystore(tmp_path / "keys", seal(held, MasterKey(master), [WORLD.nonce(NONCE_BYTES) for _ in held]))
    return Settings(
        database=DatabaseSettings(url=f"sqlite:///{tmp_path}/var/prepaid.db"),
        sts=StsSettings(keystore=str(tmp_path / "keys"), master_key=Secret(master.hex())),
        http=HttpSettings(port=0),
    )


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def found(settings: Settings) -> dict[str, Finding]:
    return {finding.part: finding for finding in await check(settings)}


def faults(findings: dict[str, Finding]) -> dict[str, str]:
    return {part: finding.said for part, finding in findings.items() if not finding.is_well}


@pytest.mark.asyncio
async def test_a_set_up_that_is_well_has_no_fault_and_nobody_is_bound(settings: Settings, tmp_path: Path) -> None:
    await migrate(settings.database.url)
    store = await open_store(settings.database.url)
    held = list(records_of(settings.sts))
    await store.transact(lambda connection: approve_sample_keys(connection, held, WORLD.now()))
    await store.close()
    before = files(tmp_path)
    async with message_centre() as centre:
        findings = await found(replace(settings, smpp=(link(centre.port),)))
        assert faults(findings) == {}
        assert findings["link one"].said == f"127.0.0.1:{centre.port} takes connections (not bound)"
        assert "600801" in findings["vending keys"].said
        await asyncio.sleep(0.01)
        assert centre.bound == []
    assert files(tmp_path) == before


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [None, b""])
async def test_a_database_that_is_not_there_is_named_and_not_made(
    settings: Settings, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "var" / "prepaid.db"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    what = "does not exist" if content is None else "is empty"
    assert faults(await found(settings))["database"] == f"{path} {what}: run `prepaid migrate` first"
    assert path.parent.exists() == (content is not None) and (content is None or path.read_bytes() == content)


@pytest.mark.asyncio
async def test_files_that_are_not_ours_are_named_and_left_alone(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "var" / "prepaid.db"
    path.parent.mkdir()
    path.write_bytes(b"no database at all, but long enough to be one" * 100)
    assert faults(await found(settings))["database"] == f"{path} is not a database of this program"
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE somebody_elses (x)")
    other.close()
    before = path.read_bytes()
    assert faults(await found(settings))["database"] == f"{path} is not a database of this program"
    assert path.read_bytes() == before


@pytest.mark.asyncio
async def test_a_database_that_is_away_is_a_sentence(settings: Settings, closed_port: int) -> None:
    away = replace(settings, database=DatabaseSettings(url=f"postgresql://u@127.0.0.1:{closed_port}/d"))
    assert faults(await found(away))["database"].startswith("the database is away: ")


@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_named(settings: Settings, taken_port: int) -> None:
    said = faults(await found(replace(settings, http=HttpSettings(port=taken_port))))["health and metrics"]
    assert said == f"127.0.0.1:{taken_port} cannot be had: a gateway that is running has it, or another program"


@pytest.mark.asyncio
async def test_a_port_that_is_free_is_given_back(settings: Settings, closed_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    free = replace(settings, http=HttpSettings(port=port))
    assert (await found(free))["health and metrics"].is_well
    assert (await found(free))["health and metrics"].is_well


# fmt: off
@pytest.mark.parametrize(("content", "said"), [
    (None,                    "No such file or directory"),
    (b"no certificate",       "a PEM file of certificates expected: NO_CERTIFICATE_OR_CRL_FOUND"),
])
# fmt: on
@pytest.mark.asyncio
async def test_a_file_of_authorities_must_be_there_and_hold_some(
    settings: Settings, tmp_path: Path, taken_port: int, content: bytes | None, said: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    findings = await found(replace(settings, smpp=(link(taken_port, tls=True, tls_ca_file=str(path)),)))
    assert faults(findings)["authorities of link one"] == f"{path}: {said}"
    assert findings["link one"].is_well, "somebody listens, which is another matter"


@pytest.mark.asyncio
async def test_every_fault_is_named_at_once(
    settings: Settings, tmp_path: Path, taken_port: int, closed_port: int
) -> None:
    pytest.importorskip("pkcs11")
    findings = await found(
        replace(
            settings,
            sts=replace(settings.sts, keystore=str(tmp_path / "gone"), ea07_tables=str(tmp_path / "none")),
            http=HttpSettings(port=taken_port),
            smpp=(
                link(closed_port),
                link(closed_port, "two", tls=True, tls_ca_file=str(tmp_path / "gone.pem")),
            ),
            pkcs11=(Pkcs11Settings(name="hsm", library=str(tmp_path / "gone.so"), token_label="x"),),
            prism=(PrismSettings(name="tsm", host="127.0.0.1", port=closed_port, username="u", keys="nonsense"),),
        )
    )
    assert faults(findings).keys() == {
        "database",
        "vending keys",
        "module hsm",
        "module tsm",
        "token making",
        "link one",
        "link two",
        "authorities of link two",
        "health and metrics",
    }
    assert findings["vending keys"].said == f"{tmp_path / 'gone'}: No such file or directory"
    assert findings["token making"].said == f"{tmp_path / 'none'}: No such file or directory"


@pytest.mark.asyncio
async def test_a_set_up_that_cannot_sell_is_at_fault(settings: Settings) -> None:
    said = faults(await found(replace(settings, sts=StsSettings())))
    assert said["vending keys"] == "no key store and no module, so every sale will be refused: see [sts] keystore"
    assert "ways for SMS" not in said  # counters sell without any


@pytest.mark.asyncio
async def test_without_ways_for_sms_it_says_what_sells_all_the_same(settings: Settings) -> None:
    no_way = "no [[smpp]] link that sends and no [[africastalking]] account"
    without = replace(settings, smpp=())
    ways = (await found(without))["ways for SMS"]
    assert ways.is_well and ways.said == f"{no_way}; what sells: counters (`prepaid sell`)"
    menu = UssdSettings(name="menu", kind="africastalking")
    said = faults(await found(replace(without, ussd=(menu,))))
    assert said["ways for SMS"] == f"{no_way}: customers of USSD see a token once, on the last screen, and never by SMS"
